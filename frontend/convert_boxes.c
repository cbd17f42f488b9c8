/* NonMaxSuppression: boxes of each class in the order of their scores, of which
 * those stay that no better one overlaps too much. */
#include "frontend/convert.h"

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

/* One element as a scalar, NULL where the operand is left out or empty. */
static ir_value_t *scalar_operand(convert_ctx_t *ctx, unsigned index,
                                  const char *what) {
  ir_value_t *v = ctx_in(ctx, index);
  int64_t count;
  if (v == NULL) return NULL;
  bool known = ir_type_static_count(&v->type, &count);
  if (known && count == 0) return NULL;
  if (known && count != 1) {
    ctx_invalid(ctx, "%s is %s, expected a scalar", what, ctx_type_str(ctx, v));
    return NULL;
  }
  return ir_reshape(ctx->b, v, 0, NULL);
}

/* Boxes in the order of a class, each bound as [B, C, n]. */
typedef struct boxes {
  ir_value_t *low[2], *high[2]; /* of y and x */
} boxes_t;

/* Column `index` of boxes[B, n, 4], reordered. */
static ir_value_t *bound(convert_ctx_t *ctx, ir_value_t *boxes,
                         ir_value_t *order, unsigned index) {
  ir_builder_t *b = ctx->b;
  ir_value_t *v = ctx_part(ctx, boxes, 2, ctx_int(ctx, index), ctx_int(ctx, 1));
  if (v == NULL || order == NULL) return NULL;
  v = ir_unsqueeze(b, ir_squeeze(b, v, 2), 1);
  ir_value_t *in[] = {ir_expand(b, v, 3, order->type.dim), order};
  ir_op_t *op = ir_begin(b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 2);
  return ir_place(b, op);
}

static boxes_t ordered_boxes(convert_ctx_t *ctx, ir_value_t *boxes,
                             ir_value_t *order, bool by_centre) {
  boxes_t r;
  ir_value_t *v[4];
  for (unsigned i = 0; i < 4; i++) v[i] = bound(ctx, boxes, order, i);
  for (unsigned i = 0; i < 2; i++) {
    if (by_centre) { /* x, y, width, height */
      ir_value_t *centre = v[1 - i], *size = v[3 - i];
      ir_value_t *half = two(ctx, OP_DIV, size, ctx_scalar(ctx, boxes, 2));
      r.low[i] = two(ctx, OP_SUB, centre, half);
      r.high[i] = two(ctx, OP_ADD, centre, half);
    } else { /* corners y, x, y, x, any two that are opposite */
      r.low[i] = two(ctx, OP_MIN, v[i], v[2 + i]);
      r.high[i] = two(ctx, OP_MAX, v[i], v[2 + i]);
    }
  }
  return r;
}

/* Whether boxes i and j overlap by more than the limit: bool[B, C, n, n]. */
static ir_value_t *overlap(convert_ctx_t *ctx, const boxes_t *r,
                           ir_value_t *limit) {
  ir_builder_t *b = ctx->b;
  ir_value_t *common = NULL, *area = NULL, *positive = NULL;
  ir_value_t *zero = ctx_scalar(ctx, r->low[0], 0);
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *low = r->low[i], *high = r->high[i];
    if (low == NULL || high == NULL) return NULL;
    ir_value_t *start = ir_unsqueeze(b, low, 3),
               *end = ir_unsqueeze(b, high, 3);
    start = two(ctx, OP_MAX, start, ir_unsqueeze(b, low, 2));
    end = two(ctx, OP_MIN, end, ir_unsqueeze(b, high, 2));
    ir_value_t *touch = two(ctx, OP_LT, start, end);
    ir_value_t *length = two(ctx, OP_SUB, end, start);
    ir_value_t *side = two(ctx, OP_SUB, high, low);
    common = common == NULL ? length : two(ctx, OP_MUL, common, length);
    area = area == NULL ? side : two(ctx, OP_MUL, area, side);
    positive = positive == NULL ? touch : two(ctx, OP_AND, positive, touch);
  }
  ir_value_t *first = ir_unsqueeze(b, area, 3);
  ir_value_t *second = ir_unsqueeze(b, area, 2);
  ir_value_t *all = two(ctx, OP_SUB, two(ctx, OP_ADD, first, second), common);
  ir_value_t *least = two(ctx, OP_MIN, first, second);
  least = two(ctx, OP_MIN, least, two(ctx, OP_MIN, all, common));
  positive = two(ctx, OP_AND, positive, two(ctx, OP_LT, zero, least));
  ir_value_t *share = two(ctx, OP_DIV, common, all);
  return two(ctx, OP_AND, positive, two(ctx, OP_LT, limit, share));
}

/* The first `most` that are marked in each row of kept[B, C, n]. */
static ir_value_t *at_most(convert_ctx_t *ctx, ir_value_t *kept,
                           ir_value_t *most) {
  ir_value_t *one = ir_cast(ctx->b, kept, DT_I64);
  ir_op_t *op = ir_begin(ctx->b, OP_CUM_SUM, 1, &one, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_CUM_SUM_axis, 2);
  ir_value_t *count = ir_place(ctx->b, op);
  return two(ctx, OP_AND, kept, two(ctx, OP_LE, count, most));
}

/* Rows (batch, class, box) of what is marked in kept[B, C, n]. */
static ir_value_t *selected(convert_ctx_t *ctx, ir_value_t *kept,
                            ir_value_t *order) {
  static const int64_t axes[] = {0, 1, 2}, swap[] = {1, 0};
  ir_builder_t *b = ctx->b;
  if (kept == NULL) return NULL;
  ir_value_t *count =
      ir_reduce(b, OP_REDUCE_SUM, ir_cast(b, kept, DT_I64), 3, axes, false);
  const expr_t *n = ir_bind(b, count, 0, "selected", 0,
                            ir_type_count(ctx->exprs, &kept->type));
  ir_op_t *op = n != NULL ? ir_begin(b, OP_NONZERO, 1, &kept, 1) : NULL;
  if (op == NULL) return NULL;
  ir_set_expr(op, ATTR_NONZERO_count, n);
  ir_value_t *place = ir_place(b, op);
  place = place != NULL ? ir_transpose(b, place, swap) : NULL;
  ir_value_t *in[] = {order, place};
  op = ir_begin(b, OP_GATHER_ND, 2, in, 1);
  if (op == NULL) return NULL;
  ir_value_t *box = ir_place(b, op);
  if (box == NULL) return NULL;
  ir_value_t *columns[] = {
      ctx_part(ctx, place, 1, ctx_int(ctx, 0), ctx_int(ctx, 2)),
      ir_unsqueeze(b, box, 1)};
  return ir_concat(b, 2, columns, 1);
}

moec_status_t convert_non_max_suppression(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *boxes = ctx_in(ctx, 0), *scores = ctx_in(ctx, 1);
  bool by_centre = attr_bool(ctx, "center_point_box", false);
  if (!ctx_check_rank(ctx, boxes, 3, 3, "boxes") ||
      !ctx_check_rank(ctx, scores, 3, 3, "scores"))
    return ctx->status;
  ir_check_equal(b, ctx_dim(boxes, 0), ctx_dim(scores, 0), "batches");
  ir_check_equal(b, ctx_dim(boxes, 1), ctx_dim(scores, 2), "numbers of boxes");
  ir_check_equal(b, ctx_dim(boxes, 2), ctx_int(ctx, 4), "numbers of a box");
  MOEC_TRY(ctx_status(ctx));
  ir_value_t *most = scalar_operand(ctx, 2, "max_output_boxes_per_class");
  ir_value_t *limit = scalar_operand(ctx, 3, "iou_threshold");
  ir_value_t *least = scalar_operand(ctx, 4, "score_threshold");
  MOEC_TRY(ctx_status(ctx));
  most = most != NULL ? ir_cast(b, most, DT_I64) : ir_scalar_int(b, DT_I64, 0);
  limit =
      limit != NULL ? ctx_like(ctx, limit, boxes) : ctx_scalar(ctx, boxes, 0);
  ir_op_t *op = ir_begin(b, OP_TOPK, 1, &scores, 2);
  if (op == NULL) return ctx_status(ctx);
  ir_set_int(op, ATTR_TOPK_axis, 2);
  ir_set_expr(op, ATTR_TOPK_k, ctx_dim(scores, 2));
  if (ir_place(b, op) == NULL) return ctx_status(ctx);
  ir_value_t *order = &op->out[1], *candidate;
  if (least != NULL)
    candidate = two(ctx, OP_LT, ctx_like(ctx, least, scores), &op->out[0]);
  else
    candidate = ir_fill(b, ir_scalar_int(b, DT_BOOL, 1), 3, scores->type.dim);
  boxes_t in_order = ordered_boxes(ctx, boxes, order, by_centre);
  ir_value_t *in[] = {candidate, overlap(ctx, &in_order, limit)};
  op = ir_begin(b, OP_GREEDY, 2, in, 1);
  if (op == NULL) return ctx_status(ctx);
  ir_value_t *kept = at_most(ctx, ir_place(b, op), most);
  ctx_set_output(ctx, 0, selected(ctx, kept, order));
  return ctx_status(ctx);
}
