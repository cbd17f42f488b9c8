/* Reading convolutions and windows: of whole images as rows, of pixels as rows,
 * and those whose groups, or filters, are experts'. */
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { STACKED = TAG_EXPERT | TAG_INNER };

static moe_term_t *new_op(moe_builder_t *b, const moe_term_t *what,
                          moe_term_t *const *in) {
  moe_term_t term = *what;
  term.n = 2;
  term.in = in;
  return moe_term_op(b->terms, &term);
}

/* ---- Images -------------------------------------------------------------- */

/* Rows along the first dimension, all else of an image. */
static bool are_images(const ir_type_t *type, const uint8_t *tag,
                       unsigned channels) {
  for (unsigned d = 0; d < type->rank; d++)
    if (d == 1 ? tag[d] != channels : (tag[d] == TAG_INNER) != (d > 0))
      return false;
  return true;
}

static moe_term_t *read_images(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  moe_term_t *in[2];
  uint8_t operand[IR_MAX_RANK] = {0};
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *x = ir_in(op, i);
    for (unsigned d = 0; d < x->type.rank; d++)
      operand[d] = i == 0 && d == 0 ? tag[0] : TAG_INNER;
    in[i] = moe_build(b, x, operand, layout);
    if (in[i] == NULL) return NULL;
  }
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  return new_op(b,
                &(moe_term_t){.code = op->code,
                              .model = op,
                              .dtype = value->type.dtype,
                              .rank = rank,
                              .dim = dim},
                in);
}

/* ---- Experts as groups --------------------------------------------------- */

/* How many groups of a convolution an expert has; 0: its filters are not those
 * of experts one after the other. */
static int64_t groups_of_one(const ir_op_t *op, const moe_source_t *source) {
  int64_t groups = ir_get_int(op, ATTR_CONVOLVE_groups), filters;
  if (!expr_is_const(ir_in(op, 1)->type.dim[0], &filters) ||
      filters % source->experts != 0)
    return 0;
  if (groups == 1) return 1; /* of what all have */
  return groups % source->experts == 0 ? groups / source->experts : 0;
}

/* The operands of a convolution of all experts' filters. */
static bool read_stacked(moe_builder_t *b, ir_value_t *value,
                         const uint8_t *tag, const moe_layout_t *layout,
                         moe_term_t **in) {
  const ir_op_t *op = value->def;
  ir_value_t *x = ir_in(op, 0), *w = ir_in(op, 1);
  uint8_t of_x[IR_MAX_RANK], of_w[IR_MAX_RANK];
  bool all = tag[1] == STACKED && ir_get_int(op, ATTR_CONVOLVE_groups) == 1;
  for (unsigned d = 0; d < x->type.rank; d++) {
    of_x[d] = d == 1 && all ? TAG_INNER : tag[d];
    of_w[d] = d == 0 ? tag[1] : TAG_INNER;
  }
  in[0] = moe_build(b, x, of_x, layout);
  in[1] = in[0] != NULL ? moe_build(b, w, of_w, layout) : NULL;
  return in[1] != NULL;
}

/* The attributes of a convolution with other groups; in no region. */
static const ir_op_t *with_groups(const ir_op_t *op, int64_t groups) {
  if (ir_get_int(op, ATTR_CONVOLVE_groups) == groups) return op;
  ir_op_t *model = ir_op_create(op->module, op->code, op->loc, 0, NULL, 1);
  for (unsigned i = 0; i < op->n_attrs; i++) ir_copy_attr(model, &op->attrs[i]);
  ir_set_int(model, ATTR_CONVOLVE_groups, groups);
  return model;
}

static moe_term_t *read_groups(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  moe_term_t *in[2];
  const expr_t *dim[IR_MAX_RANK];
  int64_t groups = groups_of_one(op, layout->source);
  if (groups == 0)
    return moe_fail(b, op, "experts are groups of a convolution");
  if (!read_stacked(b, value, tag, layout, in)) return NULL;
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  return new_op(b,
                &(moe_term_t){.code = OP_CONVOLVE,
                              .model = with_groups(op, groups),
                              .dtype = value->type.dtype,
                              .rank = rank,
                              .dim = dim},
                in);
}

/* ---- Pixels -------------------------------------------------------------- */

static bool are_all(const ir_op_t *op, ir_attr_id_t id, int64_t wanted) {
  unsigned n;
  const int64_t *v = ir_get_ints(op, id, &n);
  for (unsigned i = 0; i < n; i++)
    if (v[i] != wanted) return false;
  return true;
}

/* A product of each pixel's channels with the same matrix. */
static bool is_pixelwise(const ir_op_t *op) {
  const ir_type_t *x = &ir_in(op, 0)->type, *w = &ir_in(op, 1)->type;
  unsigned n;
  if (op->code != OP_CONVOLVE || !are_all(op, ATTR_CONVOLVE_strides, 1) ||
      !are_all(op, ATTR_CONVOLVE_input_dilation, 1))
    return false;
  const expr_t *const *before = ir_get_exprs(op, ATTR_CONVOLVE_pad_before, &n);
  for (unsigned i = 0; i < n; i++)
    if (!expr_equals_const(before[i], 0) || !rule_is_one(w->dim[2 + i]) ||
        x->dim[2 + i] != op->out[0].type.dim[2 + i])
      return false;
  return true;
}

/* Rows are single pixels: features are channels only. */
static bool are_pixels(const ir_type_t *type, const uint8_t *tag) {
  for (unsigned d = 0; d < type->rank; d++)
    if (d != 1 && (tag[d] & TAG_INNER) != 0 && !rule_is_one(type->dim[d]))
      return false;
  return tag[1] == TAG_INNER || tag[1] == STACKED;
}

/* x[groups * c] times w[groups * m, c], group by group: [groups * m]. */
static moe_term_t *multiply(moe_builder_t *b, moe_term_t *const *in,
                            const expr_t *groups, dtype_t dtype,
                            const expr_t *m, const expr_t *c) {
  bool one = rule_is_one(groups);
  const unsigned front = one ? 0 : 1;
  const expr_t *of_x[3] = {groups, expr_const(b->pool, 1), c};
  const expr_t *of_w[3] = {groups, m, c}, *turned[3] = {groups, c, m};
  const expr_t *of_y[3] = {groups, of_x[1], m}, *perm[3];
  for (unsigned d = 0; d < 3; d++) perm[d] = expr_const(b->pool, d);
  moe_term_t *x = one ? moe_term_reshape(b->terms, in[0], 1, &c)
                      : moe_term_reshape(b->terms, in[0], 3, of_x);
  moe_term_t *w =
      moe_term_reshape(b->terms, in[1], 2 + front, of_w + 1 - front);
  const expr_t *swap[3] = {perm[0], perm[2], perm[1]};
  const expr_t *swap_two[2] = {perm[1], perm[0]};
  moe_term_t *matrix =
      moe_term_op(b->terms, &(moe_term_t){.code = OP_TRANSPOSE,
                                          .dtype = w->dtype,
                                          .rank = w->rank,
                                          .dim = turned + 1 - front,
                                          .n = 1,
                                          .in = &w,
                                          .n_exprs = w->rank,
                                          .exprs = one ? swap_two : swap});
  moe_term_t *sides[2] = {x, matrix};
  return new_op(b,
                &(moe_term_t){.code = OP_MATMUL,
                              .dtype = dtype,
                              .rank = one ? 1 : 3,
                              .dim = one ? &m : of_y},
                sides);
}

static moe_term_t *read_pixels(moe_builder_t *b, ir_value_t *value,
                               const uint8_t *tag, const moe_layout_t *layout) {
  const ir_op_t *op = value->def;
  int64_t groups = ir_get_int(op, ATTR_CONVOLVE_groups), filters;
  moe_term_t *in[2];
  if (!expr_is_const(ir_in(op, 1)->type.dim[0], &filters))
    return moe_fail(b, op, "rows are whole images");
  if (tag[1] == STACKED) {
    groups = groups_of_one(op, layout->source);
    filters /= layout->source->experts;
    if (groups == 0)
      return moe_fail(b, op, "experts are groups of a convolution");
  }
  if (!read_stacked(b, value, tag, layout, in)) return NULL;
  moe_term_t *y = multiply(
      b, in, expr_const(b->pool, groups), value->type.dtype,
      expr_const(b->pool, filters / groups), ir_in(op, 1)->type.dim[1]);
  const expr_t *dim[IR_MAX_RANK];
  unsigned rank = moe_features(b->terms, &value->type, tag, dim);
  return moe_term_reshape(b->terms, y, rank, dim);
}

moe_term_t *moe_read_planes(moe_builder_t *b, ir_value_t *value,
                            const uint8_t *tag, const moe_layout_t *layout) {
  const ir_type_t *type = &value->type;
  const ir_op_t *op = value->def;
  if (are_images(type, tag, TAG_INNER))
    return read_images(b, value, tag, layout);
  if (op->code == OP_CONVOLVE && are_images(type, tag, STACKED))
    return read_groups(b, value, tag, layout);
  if (is_pixelwise(op) && are_pixels(type, tag))
    return read_pixels(b, value, tag, layout);
  return moe_fail(b, op, "rows are whole images");
}
