/* Appending nodes and constants. */
#include "export/put.h"

#include <stdarg.h>
#include <string.h>

#include "ir/element.h"

enum { SMALL = 1024 }; /* constants below stay in the graph that uses them */

void refuse(export_t *e, const char *format, ...) {
  char why[256];
  va_list args;
  va_start(args, format);
  vsnprintf(why, sizeof why, format, args);
  va_end(args);
  moec_status_t status = diag_error(e->diag, e->op->loc, MOEC_E_UNSUPPORTED,
                                    "'%s' cannot be written as ONNX: %s",
                                    ir_op_info(e->op->code)->mnemonic, why);
  if (e->status == MOEC_OK) e->status = status;
}

/* ---- Nodes --------------------------------------------------------------- */

og_node_t *put_node(export_t *e, const char *op_type, unsigned n_in,
                    og_value_t *const *in, unsigned n_out) {
  const char *hint = e->op != NULL ? e->op->loc.node : NULL;
  if (hint != NULL && hint[0] == '\0') hint = NULL;
  return og_node(e->graph, op_type, hint, n_in, in, n_out);
}

static og_value_t *put_n(export_t *e, const char *op_type, dtype_t dtype,
                         unsigned n, og_value_t *const *in) {
  og_node_t *node = put_node(e, op_type, n, in, 1);
  node->out[0].dtype = dtype;
  return &node->out[0];
}

og_value_t *put1(export_t *e, const char *op_type, og_value_t *x) {
  return put_n(e, op_type, x->dtype, 1, &x);
}

og_value_t *put2(export_t *e, const char *op_type, og_value_t *x,
                 og_value_t *y) {
  return put_n(e, op_type, x->dtype, 2, (og_value_t *[]){x, y});
}

og_value_t *put3(export_t *e, const char *op_type, og_value_t *x, og_value_t *y,
                 og_value_t *z) {
  return put_n(e, op_type, x->dtype, 3, (og_value_t *[]){x, y, z});
}

og_value_t *put_test(export_t *e, const char *op_type, og_value_t *x,
                     og_value_t *y) {
  return put_n(e, op_type, DT_BOOL, 2, (og_value_t *[]){x, y});
}

og_value_t *put_where(export_t *e, og_value_t *cond, og_value_t *x,
                      og_value_t *y) {
  return put_n(e, "Where", x->dtype, 3, (og_value_t *[]){cond, x, y});
}

og_value_t *put_cast(export_t *e, og_value_t *x, dtype_t to) {
  if (x->dtype == to) return x;
  og_value_t *y = put_n(e, "Cast", to, 1, &x);
  set_int(e, y, "to", to);
  return y;
}

void set_int(export_t *e, og_value_t *x, const char *name, int64_t value) {
  og_attr(e->graph, x->node, name, OG_INT)->i = value;
}

void set_str(export_t *e, og_value_t *x, const char *name, const char *value) {
  og_attr(e->graph, x->node, name, OG_STR)->s = value;
}

void set_ints(export_t *e, og_value_t *x, const char *name, unsigned n,
              const int64_t *values) {
  og_attr_t *attr = og_attr(e->graph, x->node, name, OG_INTS);
  attr->n = n;
  attr->ints = arena_grow_array(e->arena, values, n, n, sizeof values[0]);
}

/* ---- Constants ----------------------------------------------------------- */

og_value_t *put_tensor(export_t *e, dtype_t dtype, unsigned rank,
                       const int64_t *dims, const void *bytes, uint64_t size) {
  og_graph_t *graph = size < SMALL ? e->graph : e->main;
  return og_tensor(graph, dtype, rank, dims, bytes, size);
}

/* A small constant that is looked for before it is made. */
typedef struct small {
  dtype_t dtype;
  unsigned rank;
  int64_t n;
  const void *bytes;
  uint64_t size;
} small_t;

static bool same_small(const void *key, const og_memo_t *memo) {
  const small_t *a = key;
  const og_value_t *v = memo->value;
  if (v == NULL || v->tensor == NULL || v->dtype != a->dtype) return false;
  const og_tensor_t *t = v->tensor;
  return t->rank == a->rank && (t->rank == 0 || t->dims[0] == a->n) &&
         t->size == a->size &&
         (t->size == 0 || memcmp(t->bytes, a->bytes, a->size) == 0);
}

static og_value_t *put_small(export_t *e, const small_t *small) {
  const unsigned char *bytes = small->bytes;
  uint64_t hash = 1469598103934665603U ^ (uint64_t)small->dtype;
  for (uint64_t i = 0; i < small->size; i++)
    hash = (hash ^ bytes[i]) * 1099511628211U;
  og_memo_t *memo = og_memo(e->graph, hash, small, same_small);
  if (memo->value != NULL) return memo->value;
  void *kept = arena_grow_array(e->arena, bytes, (size_t)small->size,
                                (size_t)small->size, 1);
  memo->value = og_tensor(e->graph, small->dtype, small->rank, &small->n, kept,
                          small->size);
  memo->key = memo->value;
  return memo->value;
}

og_value_t *put_ints(export_t *e, unsigned n, const int64_t *values) {
  return put_small(e, &(small_t){DT_I64, 1, n, values, n * sizeof values[0]});
}

og_value_t *put_int1(export_t *e, int64_t value) {
  return put_ints(e, 1, &value);
}

og_value_t *put_scalar(export_t *e, dtype_t dtype, double value) {
  unsigned char bytes[16] = {0};
  ir_element_set_float(dtype, bytes, 0, value);
  return put_small(e, &(small_t){dtype, 0, 1, bytes, dtype_bytes(dtype, 1)});
}

og_value_t *put_scalar_int(export_t *e, dtype_t dtype, int64_t value) {
  unsigned char bytes[16] = {0};
  ir_element_set_int(dtype, bytes, 0, value);
  return put_small(e, &(small_t){dtype, 0, 1, bytes, dtype_bytes(dtype, 1)});
}

/* ---- Movement ------------------------------------------------------------ */

og_value_t *put_reshape_ints(export_t *e, og_value_t *x, unsigned n,
                             const int64_t *dims) {
  og_value_t *shape = put_ints(e, n, dims);
  return put2(e, "Reshape", x, shape);
}

/* A shape as constants, 0 for "as it is" and -1 for the one that is left. */
static bool constant_shape(const ir_type_t *from, unsigned rank,
                           const expr_t *const *dim, int64_t *out) {
  int rest = -1;
  bool zero = false; /* some dimension may be 0 */
  for (unsigned i = 0; i < rank; i++) {
    int64_t value = 0, lower;
    bool known = expr_is_const(dim[i], &value);
    out[i] = value;
    if (from != NULL && i < from->rank && from->dim[i] == dim[i]) {
      if (!known) out[i] = 0;
      zero |= !expr_lower_bound(dim[i], &lower) || lower < 1;
    } else if (known) {
      if (value == 0) return false;
    } else {
      if (rest >= 0) return false;
      rest = (int)i;
      out[i] = -1;
    }
  }
  return rest < 0 || !zero;
}

og_value_t *put_reshape(export_t *e, og_value_t *x, const ir_type_t *from,
                        unsigned rank, const expr_t *const *dim) {
  int64_t dims[IR_MAX_RANK];
  if (constant_shape(from, rank, dim, dims))
    return put_reshape_ints(e, x, rank, dims);
  og_value_t *shape = put_sizes(e, rank, dim);
  og_value_t *y = put2(e, "Reshape", x, shape);
  set_int(e, y, "allowzero", 1);
  return y;
}

og_value_t *put_gather(export_t *e, og_value_t *x, og_value_t *index,
                       int64_t axis) {
  og_value_t *y = put2(e, "Gather", x, index);
  set_int(e, y, "axis", axis);
  return y;
}

og_value_t *put_transpose(export_t *e, og_value_t *x, unsigned n,
                          const int64_t *perm) {
  og_value_t *y = put1(e, "Transpose", x);
  set_ints(e, y, "perm", n, perm);
  return y;
}

og_value_t *put_range(export_t *e, const expr_t *n) {
  og_value_t *zero = put_scalar_int(e, DT_I64, 0);
  og_value_t *one = put_scalar_int(e, DT_I64, 1);
  og_value_t *limit = put_size_scalar(e, n);
  return put3(e, "Range", zero, limit, one);
}

/* ---- Operands and results ------------------------------------------------ */

og_value_t *in_value(export_t *e, unsigned index) {
  ir_value_t *value = ir_in(e->op, index);
  return value == NULL ? NULL : e->values[value->number];
}

const ir_type_t *in_type(const export_t *e, unsigned index) {
  return &ir_in(e->op, index)->type;
}

dtype_t carrier_of(export_t *e, dtype_t dtype, uint32_t types) {
  static const struct {
    uint32_t from;
    dtype_t to[4];
  } wider[] = {
      {TYPE(I2) | TYPE(I4) | TYPE(I8), {DT_I8, DT_I32, DT_I64, DT_F32}},
      {TYPE(U2) | TYPE(U4) | TYPE(U8), {DT_U8, DT_I32, DT_I64, DT_F32}},
      {TYPE(I16) | TYPE(U16), {DT_I32, DT_I64, DT_F32}},
      {TYPE(I32), {DT_I64, DT_F64}},
      {TYPE(U32), {DT_I64, DT_F64}},
      {TYPE(U64), {DT_I64}}, /* the same 64 bits */
      {TYPE(BOOL), {DT_U8, DT_I32}},
      {TYPES_F8 | TYPE(F4E2M1) | TYPE(F8E8M0) | TYPE(F16) | TYPE(BF16),
       {DT_F32}},
  };
  if ((types >> dtype & 1) != 0) return dtype;
  for (unsigned i = 0; i < sizeof wider / sizeof wider[0]; i++) {
    if ((wider[i].from >> dtype & 1) == 0) continue;
    for (unsigned j = 0; j < 4 && wider[i].to[j] != DT_NONE; j++)
      if ((types >> wider[i].to[j] & 1) != 0) return wider[i].to[j];
  }
  refuse(e, "no operator takes elements of %s", dtype_name(dtype));
  return dtype;
}

og_value_t *in_carried(export_t *e, unsigned index, uint32_t types) {
  og_value_t *x = in_value(e, index);
  dtype_t carrier = carrier_of(e, x->dtype, types);
  return put_cast(e, x, carrier);
}

og_value_t *in_index(export_t *e, unsigned index, bool narrow) {
  og_value_t *x = in_value(e, index);
  return narrow && x->dtype == DT_I32 ? x : put_cast(e, x, DT_I64);
}

void give(export_t *e, unsigned index, og_value_t *value) {
  const ir_value_t *out = &e->op->out[index];
  value = put_cast(e, value, out->type.dtype);
  if (value->hint == NULL && value->node != NULL) value->hint = out->name;
  e->values[out->number] = value;
}
