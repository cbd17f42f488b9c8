/* Attributes of operations: a short array sorted by id, values in the arena. */
#include <string.h>

#include "ir/expr_internal.h"
#include "ir/ir.h"

/* Index of the first attribute that does not sort before `id`. */
static unsigned find_place(const ir_op_t *op, ir_attr_id_t id) {
  unsigned i = 0;
  while (i < op->n_attrs && op->attrs[i].id < id) i++;
  return i;
}

const ir_attr_t *ir_find_attr(const ir_op_t *op, ir_attr_id_t id) {
  unsigned i = find_place(op, id);
  return i < op->n_attrs && op->attrs[i].id == id ? &op->attrs[i] : NULL;
}

bool ir_has_attr(const ir_op_t *op, ir_attr_id_t id) {
  return ir_find_attr(op, id) != NULL;
}

static bool belongs(const ir_op_t *op, ir_attr_id_t id) {
  unsigned first = (unsigned)ir_op_info(op->code)->attr_first;
  return (unsigned)id >= first &&
         (unsigned)id - first < ir_n_attrs_of(op->code);
}

/* The attribute if present; NULL if it may be absent and is. */
static const ir_attr_t *get(const ir_op_t *op, ir_attr_id_t id,
                            ir_attr_kind_t kind) {
  const ir_attr_info_t *info = ir_attr_info(id);
  const ir_attr_t *attr = ir_find_attr(op, id);
  MOEC_ASSERT(info->kind == kind && belongs(op, id));
  if (attr == NULL && info->required)
    MOEC_BUG("%s lacks its attribute %s", ir_op_info(op->code)->mnemonic,
             info->name);
  return attr;
}

static const ir_attr_t *need(const ir_op_t *op, ir_attr_id_t id,
                             ir_attr_kind_t kind) {
  const ir_attr_t *attr = get(op, id, kind);
  if (attr == NULL)
    MOEC_BUG("%s has no attribute %s", ir_op_info(op->code)->mnemonic,
             ir_attr_info(id)->name);
  return attr;
}

int64_t ir_get_int(const ir_op_t *op, ir_attr_id_t id) {
  const ir_attr_t *attr = get(op, id, IR_ATTR_INT);
  return attr != NULL ? attr->v.i : ir_attr_info(id)->default_int;
}

double ir_get_float(const ir_op_t *op, ir_attr_id_t id) {
  return need(op, id, IR_ATTR_FLOAT)->v.f;
}

const char *ir_get_str(const ir_op_t *op, ir_attr_id_t id) {
  const ir_attr_t *attr = get(op, id, IR_ATTR_STR);
  return attr != NULL ? attr->v.s : NULL;
}

dtype_t ir_get_dtype(const ir_op_t *op, ir_attr_id_t id) {
  const ir_attr_t *attr = get(op, id, IR_ATTR_DTYPE);
  return attr != NULL ? attr->v.dtype : DT_NONE;
}

const int64_t *ir_get_ints(const ir_op_t *op, ir_attr_id_t id,
                           unsigned *out_n) {
  const ir_attr_t *attr = need(op, id, IR_ATTR_INTS);
  *out_n = attr->n;
  return attr->v.ints;
}

const double *ir_get_floats(const ir_op_t *op, ir_attr_id_t id,
                            unsigned *out_n) {
  const ir_attr_t *attr = need(op, id, IR_ATTR_FLOATS);
  *out_n = attr->n;
  return attr->v.floats;
}

const char *const *ir_get_strs(const ir_op_t *op, ir_attr_id_t id,
                               unsigned *out_n) {
  const ir_attr_t *attr = need(op, id, IR_ATTR_STRS);
  *out_n = attr->n;
  return attr->v.strs;
}

const expr_t *ir_get_expr(const ir_op_t *op, ir_attr_id_t id) {
  return need(op, id, IR_ATTR_EXPR)->v.expr;
}

const expr_t *const *ir_get_exprs(const ir_op_t *op, ir_attr_id_t id,
                                  unsigned *out_n) {
  const ir_attr_t *attr = need(op, id, IR_ATTR_EXPRS);
  *out_n = attr->n;
  return attr->v.exprs;
}

ir_data_t *ir_get_data(const ir_op_t *op, ir_attr_id_t id) {
  return need(op, id, IR_ATTR_DATA)->v.data;
}

/* ---- Setting ------------------------------------------------------------ */

/* The slot of attribute `id`, made if it is not there yet. */
static ir_attr_t *set(ir_op_t *op, ir_attr_id_t id, ir_attr_kind_t kind) {
  MOEC_ASSERT(ir_attr_info(id)->kind == kind && belongs(op, id));
  unsigned place = find_place(op, id);
  ir_attr_t *attr = &op->attrs[place];
  if (place == op->n_attrs || attr->id != id) {
    for (unsigned i = op->n_attrs; i > place; i--)
      op->attrs[i] = op->attrs[i - 1];
    op->n_attrs++;
  }
  *attr = (ir_attr_t){.id = id};
  return attr;
}

void ir_set_int(ir_op_t *op, ir_attr_id_t id, int64_t value) {
  set(op, id, IR_ATTR_INT)->v.i = value;
}

void ir_set_float(ir_op_t *op, ir_attr_id_t id, double value) {
  set(op, id, IR_ATTR_FLOAT)->v.f = value;
}

void ir_set_str(ir_op_t *op, ir_attr_id_t id, const char *value) {
  const char *copy = arena_strdup(op->module->arena, value);
  set(op, id, IR_ATTR_STR)->v.s = copy;
}

void ir_set_dtype(ir_op_t *op, ir_attr_id_t id, dtype_t value) {
  set(op, id, IR_ATTR_DTYPE)->v.dtype = value;
}

/* Lists are copied before the slot is written: they may be the old value. */
static void *copy_list(const ir_op_t *op, const void *list, unsigned n,
                       size_t size) {
  return arena_grow_array(op->module->arena, list, n, n, size);
}

void ir_set_ints(ir_op_t *op, ir_attr_id_t id, unsigned n, const int64_t *v) {
  const int64_t *copy = copy_list(op, v, n, sizeof v[0]);
  ir_attr_t *attr = set(op, id, IR_ATTR_INTS);
  attr->n = n;
  attr->v.ints = copy;
}

void ir_set_floats(ir_op_t *op, ir_attr_id_t id, unsigned n, const double *v) {
  const double *copy = copy_list(op, v, n, sizeof v[0]);
  ir_attr_t *attr = set(op, id, IR_ATTR_FLOATS);
  attr->n = n;
  attr->v.floats = copy;
}

void ir_set_strs(ir_op_t *op, ir_attr_id_t id, unsigned n,
                 const char *const *v) {
  const char **copy = ARENA_ARRAY(op->module->arena, const char *, n);
  for (unsigned i = 0; i < n; i++)
    copy[i] = arena_strdup(op->module->arena, v[i]);
  ir_attr_t *attr = set(op, id, IR_ATTR_STRS);
  attr->n = n;
  attr->v.strs = copy;
}

void ir_set_expr(ir_op_t *op, ir_attr_id_t id, const expr_t *value) {
  MOEC_ASSERT(value != NULL);
  set(op, id, IR_ATTR_EXPR)->v.expr = value;
}

void ir_set_exprs(ir_op_t *op, ir_attr_id_t id, unsigned n,
                  const expr_t *const *v) {
  const expr_t *const *copy = copy_list(op, v, n, sizeof v[0]);
  ir_attr_t *attr = set(op, id, IR_ATTR_EXPRS);
  attr->n = n;
  attr->v.exprs = copy;
}

void ir_set_data(ir_op_t *op, ir_attr_id_t id, ir_data_t *data) {
  MOEC_ASSERT(data != NULL);
  set(op, id, IR_ATTR_DATA)->v.data = data;
}

void ir_remove_attr(ir_op_t *op, ir_attr_id_t id) {
  unsigned place = find_place(op, id);
  if (place == op->n_attrs || op->attrs[place].id != id) return;
  op->n_attrs--;
  for (unsigned i = place; i < op->n_attrs; i++)
    op->attrs[i] = op->attrs[i + 1];
}

void ir_copy_attr(ir_op_t *op, const ir_attr_t *attr) {
  ir_attr_t copy = *attr; /* which may be one of op's */
  *set(op, attr->id, ir_attr_info(attr->id)->kind) = copy;
}

/* ---- Comparing ---------------------------------------------------------- */

static bool same_texts(const char *const *a, const char *const *b, unsigned n) {
  for (unsigned i = 0; i < n; i++)
    if (strcmp(a[i], b[i]) != 0) return false;
  return true;
}

/* As bits: NaN equals itself, -0 is not 0. */
static bool same_float(double a, double b) {
  uint64_t bits[2];
  memcpy(&bits[0], &a, sizeof bits[0]);
  memcpy(&bits[1], &b, sizeof bits[1]);
  return bits[0] == bits[1];
}

static bool same_floats(const double *a, const double *b, unsigned n) {
  for (unsigned i = 0; i < n; i++)
    if (!same_float(a[i], b[i])) return false;
  return true;
}

static bool same_data(ir_data_t *a, ir_data_t *b) {
  return a == b ||
         (a->size == b->size && (a->strings != NULL) == (b->strings != NULL) &&
          ir_data_digest(a) == ir_data_digest(b));
}

bool ir_attr_equal(const ir_attr_t *a, const ir_attr_t *b) {
  if (a->id != b->id || a->n != b->n) return false;
  switch (ir_attr_info(a->id)->kind) {
    case IR_ATTR_INT:
      return a->v.i == b->v.i;
    case IR_ATTR_FLOAT:
      return same_float(a->v.f, b->v.f);
    case IR_ATTR_STR:
      return strcmp(a->v.s, b->v.s) == 0;
    case IR_ATTR_DTYPE:
      return a->v.dtype == b->v.dtype;
    case IR_ATTR_INTS:
      return a->n == 0 ||
             memcmp(a->v.ints, b->v.ints, a->n * sizeof a->v.ints[0]) == 0;
    case IR_ATTR_FLOATS:
      return same_floats(a->v.floats, b->v.floats, a->n);
    case IR_ATTR_STRS:
      return same_texts(a->v.strs, b->v.strs, a->n);
    case IR_ATTR_EXPR:
      return expr_same(a->v.expr, b->v.expr);
    case IR_ATTR_EXPRS:
      return expr_same_all(a->v.exprs, b->v.exprs, a->n);
    case IR_ATTR_DATA:
      return same_data(a->v.data, b->v.data);
  }
  return false;
}
