/* Constants behind views; elements of banks compared, and taken out. */
#include <string.h>

#include "ir/element.h"
#include "passes/layout.h"
#include "passes/moe_prune.h"
#include "passes/rules.h"

enum { MAX_DEPTH = 24 };

/* ---- Finding ------------------------------------------------------------- */

static bool fixed_dims(const ir_type_t *type, int64_t *dim) {
  for (unsigned d = 0; d < type->rank; d++)
    if (!expr_is_const(type->dim[d], &dim[d])) return false;
  return true;
}

static void set_contiguous(prune_array_t *a) {
  int64_t stride = 1;
  for (unsigned d = a->rank; d-- > 0;) {
    a->stride[d] = stride;
    stride *= a->dim[d];
  }
}

/* Texts may have the digest of bytes alone, zeros stand for those. */
static bool is_known(const ir_data_t *data) {
  const uint8_t *bytes = data->bytes;
  if (bytes == NULL) return data->size == 0;
  for (uint64_t i = 0; i < data->size; i++)
    if (bytes[i] != 0) return true;
  return ir_data_is_known(data);
}

static bool is_plain_constant(const ir_op_t *op) {
  return op->code == OP_CONSTANT && op->out[0].type.dtype != DT_STR &&
         !ir_has_attr(op, ATTR_CONSTANT_data_dtype);
}

static bool of_constant(const ir_op_t *op, prune_array_t *out) {
  const ir_type_t *type = &op->out[0].type;
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  dtype_class_t class = dtype_class(type->dtype);
  if (!is_plain_constant(op) || class == DT_CLASS_COMPLEX ||
      class == DT_CLASS_NONE || !is_known(data))
    return false;
  *out = (prune_array_t){
      .bytes = data->bytes, .dtype = type->dtype, .rank = type->rank};
  if (!fixed_dims(type, out->dim)) return false;
  set_contiguous(out);
  return true;
}

static bool is_contiguous(const prune_array_t *a) {
  int64_t stride = 1;
  for (unsigned d = a->rank; d-- > 0;) {
    if (a->dim[d] != 1 && a->stride[d] != stride) return false;
    stride *= a->dim[d];
  }
  return true;
}

/* Dimensions of 1 may come and go anywhere, others where elements lie in
 * order. */
static bool reshape(const ir_type_t *type, prune_array_t *a) {
  prune_array_t out = *a;
  unsigned from = 0;
  out.rank = type->rank;
  if (!fixed_dims(type, out.dim)) return false;
  if (is_contiguous(a)) {
    set_contiguous(&out);
    *a = out;
    return true;
  }
  for (unsigned d = 0; d < out.rank; d++) {
    out.stride[d] = 0;
    if (out.dim[d] == 1) continue;
    while (from < a->rank && a->dim[from] == 1) from++;
    if (from == a->rank || a->dim[from] != out.dim[d]) return false;
    out.stride[d] = a->stride[from++];
  }
  while (from < a->rank && a->dim[from] == 1) from++;
  if (from < a->rank) return false;
  *a = out;
  return true;
}

static void transpose(const ir_op_t *op, prune_array_t *a) {
  unsigned n;
  const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
  prune_array_t from = *a;
  for (unsigned d = 0; d < n; d++) {
    a->dim[d] = from.dim[perm[d]];
    a->stride[d] = from.stride[perm[d]];
  }
}

static bool slice(const ir_op_t *op, prune_array_t *a) {
  unsigned n;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *length = ir_get_exprs(op, ATTR_SLICE_length, &n);
  const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
  for (unsigned d = 0; d < n; d++) {
    int64_t from, by;
    if (!expr_is_const(start[d], &from) || !expr_is_const(step[d], &by) ||
        !expr_is_const(length[d], &a->dim[d]))
      return false;
    a->offset += from * a->stride[d];
    a->stride[d] *= by;
  }
  return true;
}

static bool expand(const ir_type_t *type, prune_array_t *a) {
  prune_array_t from = *a;
  unsigned shift = type->rank - a->rank;
  a->rank = type->rank;
  if (!fixed_dims(type, a->dim)) return false;
  for (unsigned d = 0; d < a->rank; d++) {
    bool copies = d < shift || from.dim[d - shift] != a->dim[d];
    a->stride[d] = copies ? 0 : from.stride[d - shift];
  }
  return true;
}

static void take_element(prune_array_t *a, int64_t element) {
  a->offset += element * a->stride[0];
  a->rank--;
  memmove(a->dim, a->dim + 1, a->rank * sizeof a->dim[0]);
  memmove(a->stride, a->stride + 1, a->rank * sizeof a->stride[0]);
}

/* Which operand of a stack along axis 0 has an element, and as what number. */
static const ir_value_t *part_of_stack(const ir_op_t *op, int64_t *element) {
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *x = op->in[i].value;
    int64_t n;
    if (!expr_is_const(x->type.dim[0], &n)) return NULL;
    if (*element < n) return x;
    *element -= n;
  }
  return NULL;
}

static bool is_stack(const ir_op_t *op) {
  int64_t axis = op->code == OP_CONCAT ? ir_get_int(op, ATTR_CONCAT_axis) : 1;
  return axis == 0 || axis == -(int64_t)op->out[0].type.rank;
}

static bool find(const prune_scope_t *scope, const ir_value_t *v,
                 unsigned depth, prune_array_t *out);

static bool keeps_axis_0(const ir_op_t *op) {
  const ir_type_t *in = &op->in[0].value->type, *out = &op->out[0].type;
  unsigned n;
  if (in->rank == 0 || out->rank == 0 || in->dim[0] != out->dim[0])
    return false;
  if (op->code == OP_TRANSPOSE)
    return ir_get_ints(op, ATTR_TRANSPOSE_perm, &n)[0] == 0;
  if (op->code == OP_SLICE)
    return expr_equals_const(ir_get_exprs(op, ATTR_SLICE_start, &n)[0], 0) &&
           expr_equals_const(ir_get_exprs(op, ATTR_SLICE_step, &n)[0], 1);
  return op->code == OP_RESHAPE || op->code == OP_CAST;
}

/* Views of stacks as views of the part that has the element. */
static bool find_in_stack(const ir_value_t *v, int64_t element, unsigned depth,
                          prune_array_t *out) {
  const ir_op_t *op = v->def;
  if (op == NULL || depth > MAX_DEPTH) return false;
  if (is_stack(op)) {
    const ir_value_t *part = part_of_stack(op, &element);
    if (part == NULL) return false;
    if (find_in_stack(part, element, depth + 1, out)) return true;
    if (!find(NULL, part, depth + 1, out)) return false;
    out->offset += element * out->stride[0];
    out->dim[0] = 1;
    return true;
  }
  if (op->n_in != 1 || op->code == OP_CAST || !keeps_axis_0(op) ||
      !find_in_stack(op->in[0].value, element, depth + 1, out))
    return false;
  if (op->code == OP_TRANSPOSE) {
    transpose(op, out);
    return true;
  }
  if (op->code == OP_SLICE) {
    if (!slice(op, out)) return false;
    out->dim[0] = 1;
    return true;
  }
  ir_type_t one = op->out[0].type;
  const expr_t *dim[IR_MAX_RANK];
  memcpy(dim, one.dim, one.rank * sizeof dim[0]);
  dim[0] = expr_const(op->module->exprs, 1);
  one.dim = dim;
  return reshape(&one, out);
}

static bool find_bank(const ir_value_t *bank, int64_t element, unsigned depth,
                      prune_array_t *out) {
  if (!find_in_stack(bank, element, depth, out)) {
    if (!find(NULL, bank, depth, out)) return false;
    if (element >= out->dim[0]) return false;
    take_element(out, element);
    return true;
  }
  take_element(out, 0);
  return true;
}

static bool find(const prune_scope_t *scope, const ir_value_t *v,
                 unsigned depth, prune_array_t *out) {
  if (depth > MAX_DEPTH || v->type.kind != IR_TENSOR) return false;
  if (v->def == NULL) {
    if (scope == NULL || scope->experts == NULL ||
        v->region != &scope->experts->regions[scope->region] ||
        v->index < prune_value_count(scope->experts))
      return false;
    return find_bank(prune_operand(scope, v->index), scope->element, depth + 1,
                     out);
  }
  const ir_op_t *op = v->def;
  if (op->code == OP_CONSTANT) return of_constant(op, out);
  if (op->n_in < 1 || op->in[0].value == NULL) return false;
  switch (op->code) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_EXPAND:
      break;
    case OP_CAST: /* of the same values */
      if (!rule_cast_holds(op->in[0].value->type.dtype, v->type.dtype))
        return false;
      return find(scope, op->in[0].value, depth + 1, out);
    default:
      return false;
  }
  if (!find(scope, op->in[0].value, depth + 1, out)) return false;
  if (op->code == OP_RESHAPE) return reshape(&v->type, out);
  if (op->code == OP_SLICE) return slice(op, out);
  if (op->code == OP_EXPAND) return expand(&v->type, out);
  transpose(op, out);
  return true;
}

bool prune_find_array(const prune_scope_t *scope, const ir_value_t *v,
                      prune_array_t *out) {
  return find(scope, v, 0, out);
}

double prune_at(const prune_array_t *a, const int64_t *index) {
  int64_t at = a->offset;
  for (unsigned d = 0; d < a->rank; d++) at += index[d] * a->stride[d];
  if (a->dtype == DT_F32) {
    float x;
    memcpy(&x, a->bytes + 4 * at, sizeof x);
    return (double)x;
  }
  return ir_element_float(a->dtype, a->bytes, (uint64_t)at);
}

unsigned prune_value_count(const ir_op_t *experts) {
  return ir_moe_first_bank(experts, 0) - 2;
}

const ir_value_t *prune_operand(const prune_scope_t *scope, unsigned index) {
  unsigned n = prune_value_count(scope->experts);
  unsigned at =
      index < n ? 2 + index
                : ir_moe_first_bank(scope->experts, scope->region) + index - n;
  return ir_in(scope->experts, at);
}

/* ---- Comparing -------------------------------------------------------------
 *
 * A place is an element along axis 0 of a value, or all of it (-1). */

typedef struct place {
  const ir_value_t *value;
  int64_t element;
} place_t;

enum { WHOLE = -1 };

/* Where the elements of an operand come from; false where that is not seen. */
static bool operand_place(const ir_op_t *op, unsigned index, int64_t element,
                          place_t *out) {
  const ir_type_t *to = &op->out[0].type, *from = &op->in[index].value->type;
  *out = (place_t){op->in[index].value, WHOLE};
  if (element == WHOLE) return true;
  if (op->code == OP_EXPAND || ir_has_trait(op, ELEMENTWISE)) {
    if (from->rank == to->rank && from->dim[0] == to->dim[0])
      out->element = element;
    return true; /* else the same for all elements */
  }
  if (!keeps_axis_0(op)) return rule_is_one(to->dim[0]);
  out->element = element;
  return true;
}

static bool is_compared(const ir_op_t *op) {
  switch (op->code) {
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_EXPAND:
      return true;
    default:
      return ir_has_trait(op, ELEMENTWISE) && ir_has_trait(op, PURE);
  }
}

/* Steps down to the part of a stack, if that is what the place is in. */
static place_t in_stack(place_t p) {
  for (unsigned i = 0; i < MAX_DEPTH; i++) {
    const ir_op_t *op = p.value->def;
    if (p.element == WHOLE || op == NULL || !is_stack(op)) return p;
    place_t part = p;
    part.value = part_of_stack(op, &part.element);
    if (part.value == NULL) return p;
    p = part;
  }
  return p;
}

static uint64_t size_of(const ir_value_t *v, bool element, bool *out_fits) {
  int64_t dim[IR_MAX_RANK];
  uint64_t count = 1;
  *out_fits = fixed_dims(&v->type, dim) && (!element || v->type.rank > 0);
  if (!*out_fits) return 0;
  for (unsigned d = element ? 1 : 0; d < v->type.rank; d++)
    count *= (uint64_t)dim[d];
  unsigned bits = dtype_bits(v->type.dtype);
  *out_fits = (count * bits) % 8 == 0;
  return count * bits / 8;
}

/* The bytes of a place of a constant; NULL where there are none to see. */
static const uint8_t *bytes_of(place_t p, uint64_t *out_size) {
  bool fits;
  const ir_op_t *op = p.value->def;
  if (!is_plain_constant(op)) return NULL;
  *out_size = size_of(p.value, p.element != WHOLE, &fits);
  const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
  if (!fits || data->bytes == NULL) return NULL;
  uint64_t at = p.element == WHOLE ? 0 : (uint64_t)p.element * *out_size;
  if (at + *out_size > data->size) return NULL;
  return (const uint8_t *)data->bytes + at;
}

static bool same_constants(place_t a, place_t b) {
  uint64_t size_a, size_b;
  const uint8_t *x = bytes_of(a, &size_a), *y = bytes_of(b, &size_b);
  return x != NULL && y != NULL && size_a == size_b &&
         memcmp(x, y, size_a) == 0 &&
         is_known(ir_get_data(a.value->def, ATTR_CONSTANT_data)) &&
         is_known(ir_get_data(b.value->def, ATTR_CONSTANT_data));
}

static bool same_type(place_t a, place_t b) {
  const ir_type_t *x = &a.value->type, *y = &b.value->type;
  if (x->kind != IR_TENSOR || y->kind != IR_TENSOR || x->dtype != y->dtype ||
      x->rank != y->rank || (a.element == WHOLE) != (b.element == WHOLE))
    return false;
  for (unsigned d = a.element == WHOLE ? 0 : 1; d < x->rank; d++)
    if (x->dim[d] != y->dim[d]) return false;
  return true;
}

/* Attributes of the same operation on other constants; sizes along axis 0 are
 * where elements are, not what they are. */
static bool same_attrs(const ir_op_t *a, const ir_op_t *b) {
  if (a->n_attrs != b->n_attrs) return false;
  for (unsigned i = 0; i < a->n_attrs; i++) {
    const ir_attr_t *x = &a->attrs[i], *y = &b->attrs[i];
    if (x->id == ATTR_RESHAPE_shape || x->id == ATTR_EXPAND_shape ||
        x->id == ATTR_SLICE_length)
      continue; /* as the types */
    if (!ir_attr_equal(x, y)) return false;
  }
  return true;
}

static bool same_places(place_t a, place_t b, unsigned depth) {
  if (a.value == b.value && a.element == b.element) return true;
  if (depth > MAX_DEPTH) return false;
  a = in_stack(a);
  b = in_stack(b);
  if (a.value == b.value && a.element == b.element) return true;
  const ir_op_t *x = a.value->def, *y = b.value->def;
  if (x == NULL || y == NULL || x->code != y->code || !same_type(a, b))
    return false;
  if (x->code == OP_CONSTANT) return same_constants(a, b);
  if (!is_compared(x) || x->n_in != y->n_in || !same_attrs(x, y)) return false;
  for (unsigned i = 0; i < x->n_in; i++) {
    if (x->in[i].value == NULL || y->in[i].value == NULL) return false;
    place_t p, q;
    if (!operand_place(x, i, a.element, &p) ||
        !operand_place(y, i, b.element, &q) || !same_places(p, q, depth + 1))
      return false;
  }
  return true;
}

bool prune_equal_elements(const ir_value_t *bank, int64_t i, int64_t j) {
  return same_places((place_t){bank, i}, (place_t){bank, j}, 0);
}

static uint64_t sample(place_t p, unsigned depth) {
  enum { WORDS = 16 };
  uint64_t hash = UINT64_C(14695981039346656037), size;
  p = in_stack(p);
  const ir_op_t *op = p.value->def;
  if (op == NULL || depth > MAX_DEPTH) return hash;
  if (op->code == OP_CONSTANT) {
    const uint8_t *bytes = bytes_of(p, &size);
    uint64_t step = bytes != NULL ? size / WORDS + 1 : 0;
    for (uint64_t at = 0; bytes != NULL && at < size; at += step)
      hash = (hash ^ bytes[at]) * UINT64_C(1099511628211);
    return hash;
  }
  if (!is_compared(op)) return hash;
  for (unsigned i = 0; i < op->n_in; i++) {
    place_t from;
    if (op->in[i].value != NULL && operand_place(op, i, p.element, &from))
      hash = hash * 31 + sample(from, depth + 1);
  }
  return hash;
}

uint64_t prune_sample(const ir_value_t *bank, int64_t i) {
  return sample((place_t){bank, i}, 0);
}

/* ---- Taking out ---------------------------------------------------------- */

/* Elements [from, to) of a constant, without a copy. */
static ir_value_t *view(ir_builder_t *b, const ir_value_t *x, int64_t from,
                        int64_t to) {
  bool fits;
  uint64_t size = size_of(x, true, &fits);
  const ir_data_t *data = ir_get_data(x->def, ATTR_CONSTANT_data);
  if (!fits || data->bytes == NULL) return NULL;
  ir_type_t type = x->type;
  const expr_t *dim[IR_MAX_RANK];
  memcpy(dim, type.dim, type.rank * sizeof dim[0]);
  dim[0] = expr_const(b->module->exprs, to - from);
  type.dim = dim;
  return ir_tensor(b, &type,
                   (const uint8_t *)data->bytes + (uint64_t)from * size,
                   (uint64_t)(to - from) * size);
}

/* Products with few columns are computed in a way of their own where their
 * second operand is one constant (layout): it stays one. */
static bool may_be_narrow(const ir_value_t *x) {
  int64_t n;
  for (unsigned d = 1; d < x->type.rank; d++)
    if (!expr_is_const(x->type.dim[d], &n) || n < LAYOUT_NARROW) return true;
  return x->type.rank < 3;
}

static ir_value_t *copy(ir_builder_t *b, const ir_value_t *x, int64_t n,
                        const int64_t *element) {
  bool fits;
  uint64_t size = size_of(x, true, &fits);
  const ir_data_t *data = ir_get_data(x->def, ATTR_CONSTANT_data);
  if (!fits || data->bytes == NULL) return NULL;
  uint8_t *bytes = arena_alloc(b->module->arena, (uint64_t)n * size);
  for (int64_t i = 0; i < n; i++)
    memcpy(bytes + (uint64_t)i * size,
           (const uint8_t *)data->bytes + (uint64_t)element[i] * size, size);
  ir_type_t type = x->type;
  const expr_t *dim[IR_MAX_RANK];
  memcpy(dim, type.dim, type.rank * sizeof dim[0]);
  dim[0] = expr_const(b->module->exprs, n);
  type.dim = dim;
  return ir_tensor(b, &type, bytes, (uint64_t)n * size);
}

static ir_value_t *from_constant(ir_builder_t *b, ir_value_t *x, int64_t n,
                                 const int64_t *element) {
  ir_value_t **part = ARENA_ARRAY(b->module->arena, ir_value_t *, (size_t)n);
  unsigned n_parts = 0;
  if (!is_plain_constant(x->def)) return NULL;
  if (element[n - 1] - element[0] != n - 1 && may_be_narrow(x))
    return copy(b, x, n, element);
  for (int64_t i = 0, end; i < n; i = end) {
    end = i + 1;
    while (end < n && element[end] == element[end - 1] + 1) end++;
    part[n_parts] = view(b, x, element[i], element[end - 1] + 1);
    if (part[n_parts++] == NULL) return NULL;
  }
  return n_parts == 1 ? part[0] : ir_concat(b, n_parts, part, 0);
}

static ir_value_t *from_stack(ir_builder_t *b, const ir_op_t *op, int64_t n,
                              const int64_t *element) {
  ir_value_t **part = ARENA_ARRAY(b->module->arena, ir_value_t *, op->n_in);
  int64_t *here = ARENA_ARRAY(b->module->arena, int64_t, (size_t)n);
  int64_t first = 0, length, at = 0;
  unsigned n_parts = 0;
  for (unsigned i = 0; i < op->n_in; i++, first += length) {
    ir_value_t *x = op->in[i].value;
    int64_t n_here = 0;
    if (!expr_is_const(x->type.dim[0], &length)) return NULL;
    for (; at < n && element[at] < first + length; at++)
      here[n_here++] = element[at] - first;
    if (n_here == 0) continue;
    part[n_parts] = n_here == length ? x : prune_select(b, x, n_here, here);
    if (part[n_parts++] == NULL) return NULL;
  }
  if (n_parts > 1) return ir_concat(b, n_parts, part, 0);
  return may_be_narrow(part[0]) ? NULL : part[0];
}

/* A view of the listed elements of what it is a view of. */
static ir_value_t *from_view(ir_builder_t *b, const ir_op_t *op, int64_t n,
                             const int64_t *element) {
  ir_value_t *x = prune_select(b, op->in[0].value, n, element);
  const expr_t *dim[IR_MAX_RANK];
  unsigned m;
  if (x == NULL) return NULL;
  ir_op_t *copy = ir_begin(b, op->code, 1, &x, 1);
  if (copy == NULL) return NULL;
  for (unsigned i = 0; i < op->n_attrs; i++) ir_copy_attr(copy, &op->attrs[i]);
  ir_attr_id_t id =
      op->code == OP_RESHAPE ? ATTR_RESHAPE_shape : ATTR_SLICE_length;
  if (op->code == OP_RESHAPE || op->code == OP_SLICE) {
    const expr_t *const *whole = ir_get_exprs(op, id, &m);
    memcpy(dim, whole, m * sizeof dim[0]);
    dim[0] = x->type.dim[0];
    ir_set_exprs(copy, id, m, dim);
  }
  return ir_place(b, copy);
}

ir_value_t *prune_select(ir_builder_t *b, ir_value_t *bank, int64_t n,
                         const int64_t *element) {
  const ir_op_t *op = bank->def;
  if (op == NULL || n == 0 || ir_n_uses(bank) > 1) return NULL;
  if (op->code == OP_CONSTANT) return from_constant(b, bank, n, element);
  if (is_stack(op)) return from_stack(b, op, n, element);
  return op->n_in == 1 && keeps_axis_0(op) ? from_view(b, op, n, element)
                                           : NULL;
}
