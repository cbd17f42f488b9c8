/* Sums over experts, taken apart. */
#include "passes/moe_sum.h"

#include <string.h>

#include "passes/moe_buffer.h"
#include "passes/moe_read.h"
#include "passes/moe_rules.h"

enum { MAX_PARTS = 1 << 14, MAX_NESTED = 4096 };

static moe_part_t *add_part(moe_builder_t *b, moe_sum_t *sum, ir_value_t *value,
                            const ir_op_t *at, const moe_layout_t *layout) {
  if (sum->n == sum->room) {
    unsigned room = sum->room == 0 ? 16 : 2 * sum->room;
    sum->part =
        arena_grow_array(b->arena, sum->part, sum->n, room, sizeof *sum->part);
    sum->room = room;
  }
  moe_part_t *part = &sum->part[sum->n++];
  *part = (moe_part_t){.value = value, .layout = layout, .at = at};
  return part;
}

/* Whether an index has the tokens that one expert chose. */
static bool is_choice_of_one(const moe_fact_t *fact) {
  return fact->kind == FACT_CHOICE && fact->expert >= 0;
}

/* Rows added to, or written over, where their tokens are. */
static bool scattered_rows(moe_builder_t *b, const ir_op_t *op,
                           moe_sum_t *sum) {
  ir_value_t *rows = ir_in(op, 2);
  const ir_type_t *to = &op->out[0].type;
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
  int64_t group = -1;
  if (fact->kind == FACT_NONE)
    fact = moe_group_of(b->facts, ir_in(op, 1), &group);
  bool tuple = fact->kind == FACT_TUPLE, chosen = is_choice_of_one(fact);
  if ((fact->space == NULL && !chosen) || rows->type.rank == 0 || tuple)
    return false;
  const uint8_t row = chosen ? TAG_PLACE : TAG_ROW;
  if (chosen && fact->tag[0] != row) return false;
  if (op->code == OP_SCATTER_ELEMENTS &&
      (ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis) != 0 ||
       rows->type.rank != to->rank || fact->tag[0] != row))
    return false;
  if (op->code == OP_SCATTER_ND &&
      (ir_in(op, 1)->type.rank != 2 ||
       !rule_is_one(ir_in(op, 1)->type.dim[1]) || rows->type.rank != to->rank))
    return false;
  if ((!chosen && !moe_is_token_number(b->facts, fact)) ||
      to->dim[0] != fact->source->tokens)
    return false;
  for (unsigned d = 1; d < to->rank; d++)
    if (rows->type.dim[d] != to->dim[d]) return false;
  bool of_mask = group < 0 && fact->linear != NULL && fact->expert >= 0;
  if (!of_mask && fact->linear != NULL &&
      !moe_sorts_experts(b->facts, fact->space))
    return false;
  const moe_layout_t *layout = moe_layout(
      b,
      chosen       ? LAYOUT_BUFFER
      : of_mask    ? LAYOUT_ROWS
      : group >= 0 ? LAYOUT_GROUP
                   : LAYOUT_SORTED,
      fact->source, fact->space, chosen || of_mask ? fact->expert : group);
  moe_part_t *part = add_part(b, sum, rows, op, layout);
  memset(part->tag, TAG_INNER, sizeof part->tag);
  part->tag[0] = row;
  return true;
}

/* The rows of each of the pieces. */
static void add_pieces(moe_builder_t *b, const ir_op_t *pieces,
                       ir_value_t *rows, const ir_op_t *at, moe_sum_t *sum) {
  for (unsigned i = 0; i < pieces->n_in; i++) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(pieces, i));
    moe_part_t *part = add_part(
        b, sum, rows, at,
        moe_layout(b, LAYOUT_PIECE, fact->source, pieces, fact->expert));
    memset(part->tag, TAG_INNER, sizeof part->tag);
    part->tag[0] = TAG_ROW;
  }
}

/* Rows of the masks of several experts, added or written at once. */
static bool joined_rows(moe_builder_t *b, const ir_op_t *op, moe_sum_t *sum) {
  ir_value_t *rows = ir_in(op, 2);
  const ir_value_t *index = ir_in(op, 1);
  const ir_type_t *to = &op->out[0].type;
  const ir_op_t *pieces = moe_pieces_of(b, index);
  if (pieces == NULL || rows->type.rank != to->rank || to->rank == 0)
    return false;
  if (op->code == OP_SCATTER_ND
          ? index->type.rank != 2 || !rule_is_one(index->type.dim[1])
          : ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis) != 0)
    return false;
  for (unsigned d = 1; d < to->rank; d++)
    if (rows->type.dim[d] != to->dim[d]) return false;
  for (unsigned i = 0; i < pieces->n_in; i++) {
    const moe_fact_t *fact = moe_fact(b->facts, ir_in(pieces, i));
    if (to->dim[0] != fact->source->tokens) return false;
  }
  if (!rule_scatters_by(op, "add") &&
      (!rule_scatters_by(op, "none") || !moe_pieces_are_apart(b, pieces)))
    return false;
  add_pieces(b, pieces, rows, op, sum);
  return true;
}

/* Rows of all experts in the order of their tokens. */
static bool rows_put_back(moe_builder_t *b, const ir_op_t *op, moe_sum_t *sum) {
  const ir_op_t *pieces = moe_pieces_put_back(b, op);
  if (pieces == NULL) return false;
  add_pieces(b, pieces, ir_in(op, 0), op, sum);
  return true;
}

/* What an index of rows says, and the one expert that all of them have; -1:
 * several. */
static const moe_fact_t *rows_of(moe_builder_t *b, ir_value_t *index,
                                 int64_t *out_expert) {
  const moe_fact_t *fact = moe_fact(b->facts, index);
  *out_expert =
      fact->linear != NULL || is_choice_of_one(fact) ? fact->expert : -1;
  return fact->kind != FACT_NONE ? fact
                                 : moe_group_of(b->facts, index, out_expert);
}

/* The only expert of the rows of a mask, or of a group of sorted rows, if no
 * token is among them twice; -1: else. An expert chooses no token twice. */
static int64_t expert_of_distinct(moe_builder_t *b, const ir_op_t *op,
                                  const moe_source_t *source) {
  int64_t expert;
  const moe_fact_t *fact = rows_of(b, ir_in(op, 1), &expert);
  bool distinct =
      source != NULL && (source->distinct || is_choice_of_one(fact));
  return fact->source == source && distinct ? expert : -1;
}

static void take_apart(moe_builder_t *b, ir_value_t *value, moe_sum_t *sum,
                       unsigned depth);

/* What the expert of one of a token's slots gives. */
static bool slot_part(moe_builder_t *b, ir_value_t *value, const ir_op_t *at,
                      moe_sum_t *sum) {
  enum { MAX_STEPS = 2000 };
  unsigned steps = MAX_STEPS;
  const moe_fact_t *fact = moe_slot_of(b, value, &steps);
  if (fact->kind == FACT_NONE) return false;
  const expr_t *tokens = expr_const(b->pool, 1);
  unsigned n = 0;
  while (n < value->type.rank && tokens != fact->source->tokens)
    tokens = expr_mul(b->pool, tokens, value->type.dim[n++]);
  if (tokens != fact->source->tokens || n == 0) return false;
  moe_part_t *part =
      add_part(b, sum, value, at,
               moe_layout(b, LAYOUT_SLOT, fact->source, NULL, fact->slot));
  memset(part->tag, TAG_INNER, sizeof part->tag);
  memset(part->tag, TAG_TOKEN, n);
  return true;
}

/* What rows are written over: a token has one expert only, and what was written
 * before are other experts' rows. NULL: there may be other rows of the token.
 */
static ir_value_t *overwritten(moe_builder_t *b, const ir_op_t *op) {
  int64_t expert, other;
  const moe_source_t *source = rows_of(b, ir_in(op, 1), &expert)->source;
  bool adds = false;
  double zero;
  if (!rule_is_one(source->k) || source->chooses) return NULL;
  for (unsigned i = 0; i < MAX_NESTED; i++) {
    ir_value_t *into = ir_in(op, 0);
    op = into->def;
    bool scatters = op != NULL && (op->code == OP_SCATTER_ELEMENTS ||
                                   op->code == OP_SCATTER_ND);
    if (!scatters || rows_of(b, ir_in(op, 1), &other)->source != source)
      return !adds || (moe_fill_number(into, &zero) && zero == 0) ? into : NULL;
    other = expert_of_distinct(b, op, source);
    if (other < 0 || other == expert) return NULL;
    adds = adds || !rule_scatters_by(op, "none");
  }
  return NULL;
}

/* mask of an expert ? its result : what the others give; tokens have one
 * expert.
 */
static bool choice_part(moe_builder_t *b, const ir_op_t *op, moe_sum_t *sum) {
  const ir_type_t *type = &op->out[0].type;
  const moe_fact_t *mask = moe_fact(b->facts, ir_in(op, 0));
  if (mask->kind != FACT_GATE || mask->expert < 0 || !mask->off.known ||
      mask->off.x != 0 || !mask->on.known || mask->on.x == 0 ||
      mask->space != NULL || !rule_is_one(mask->source->k) ||
      !rule_same_dims(&ir_in(op, 1)->type, type))
    return false;
  moe_part_t *part =
      add_part(b, sum, ir_in(op, 1), op,
               moe_layout(b, LAYOUT_DENSE, mask->source, NULL, mask->expert));
  unsigned shift = type->rank - ir_in(op, 0)->type.rank;
  memset(part->tag, TAG_INNER, sizeof part->tag);
  for (unsigned d = shift; d < type->rank; d++)
    if ((mask->tag[d - shift] & TAG_TOKEN) != 0 &&
        ir_in(op, 0)->type.dim[d - shift] == type->dim[d])
      part->tag[d] = TAG_TOKEN;
  return true;
}

/* The other parts are 0 for the expert's tokens. A choice has seen to that for
 * those behind its own; whether an expert comes twice is seen later. */
static bool are_others(const moe_sum_t *sum, unsigned first,
                       const moe_layout_t *own, const ir_op_t *behind) {
  for (unsigned i = first; i < sum->n; i++) {
    const moe_layout_t *layout = sum->part[i].layout;
    if (layout == NULL || layout->source != own->source ||
        layout->kind != LAYOUT_DENSE || layout->expert == own->expert)
      return false;
    if (behind != NULL && behind->code == OP_SELECT &&
        sum->part[i].at == behind)
      return true;
  }
  return true;
}

static bool choice_parts(moe_builder_t *b, ir_value_t *value, moe_sum_t *sum,
                         unsigned depth) {
  const ir_op_t *op = value->def;
  const unsigned first = sum->n;
  if (!choice_part(b, op, sum)) return false;
  const moe_layout_t *own = sum->part[first].layout;
  take_apart(b, ir_in(op, 2), sum, depth + 1);
  if (are_others(sum, first + 1, own, ir_in(op, 2)->def)) return true;
  sum->n = first;
  return false;
}

/* A choice between all experts of the router but one, and something else: that
 * is the last one's. Between all experts, it is nobody's. */
static bool choices_and_other(moe_builder_t *b, ir_value_t *value,
                              moe_sum_t *sum) {
  const unsigned first = sum->n;
  int64_t missing = -1, n = 0;
  const moe_source_t *source = NULL;
  for (unsigned i = 0;
       i < MAX_NESTED && value->def != NULL && value->def->code == OP_SELECT;
       i++) {
    const unsigned at = sum->n;
    if (!choice_part(b, value->def, sum)) break;
    const moe_layout_t *own = sum->part[at].layout;
    if (source == NULL) source = own->source;
    bool twice = own->source != source || source->some || source->by_mask;
    for (unsigned j = first; j < at && !twice; j++)
      twice = sum->part[j].layout == own;
    if (twice) {
      sum->n = at;
      break;
    }
    value = ir_in(value->def, 2);
    n++;
  }
  if (source != NULL && n == source->experts)
    return true; /* there is no other */
  double zero;
  bool nothing = moe_fill_number(value, &zero) && zero == 0;
  if (source != NULL && n > 0 && n == source->experts - 1 && !nothing) {
    bool *seen = ARENA_ARRAY(b->arena, bool, (size_t)source->experts);
    for (unsigned i = first; i < sum->n; i++)
      seen[sum->part[i].layout->expert] = true;
    for (int64_t e = 0; e < source->experts; e++)
      if (!seen[e]) missing = e;
    const moe_part_t like = sum->part[first];
    moe_part_t *part =
        add_part(b, sum, value, like.at,
                 moe_layout(b, LAYOUT_DENSE, source, NULL, missing));
    memcpy(part->tag, like.tag, sizeof part->tag);
    return true;
  }
  sum->n = first;
  return false;
}

/* What is added to a mask's rows of a value before they are written to it;
 * NULL: something else is written. */
static ir_value_t *added_rows(moe_builder_t *b, const ir_op_t *op) {
  const moe_fact_t *fact = moe_fact(b->facts, ir_in(op, 1));
  const ir_op_t *add = ir_in(op, 2)->def;
  if (add == NULL || add->code != OP_ADD ||
      expert_of_distinct(b, op, fact->source) < 0 ||
      !moe_is_token_number(b->facts, fact))
    return NULL;
  for (unsigned i = 0; i < 2; i++) {
    const ir_op_t *rows = ir_in(add, i)->def;
    ir_value_t *other = ir_in(add, 1 - i);
    if (rows == NULL || rows->code != OP_GATHER ||
        ir_get_int(rows, ATTR_GATHER_axis) != 0 ||
        moe_unwritten(b, ir_in(rows, 0), fact->source, fact->expert) !=
            moe_unwritten(b, ir_in(op, 0), fact->source, fact->expert) ||
        !rule_same_dims(&other->type, &add->out[0].type))
      continue;
    const moe_fact_t *from = moe_fact(b->facts, ir_in(rows, 1));
    if (from->source == fact->source && from->linear != NULL &&
        moe_same_rows(from->space, fact->space) &&
        moe_is_token_number(b->facts, from))
      return other;
  }
  return NULL;
}

static bool scatter_part(moe_builder_t *b, const ir_op_t *op, bool from_zero,
                         moe_sum_t *sum) {
  double zero;
  ir_value_t *over = NULL;
  bool writes = rule_scatters_by(op, "none");
  ir_value_t *added = writes ? added_rows(b, op) : NULL;
  if (added != NULL) {
    if (!scattered_rows(b, op, sum)) return false;
    sum->part[sum->n - 1].value = added;
    return true;
  }
  if (!rule_scatters_by(op, "add")) {
    int64_t expert;
    const moe_fact_t *fact = rows_of(b, ir_in(op, 1), &expert);
    if (!rule_scatters_by(op, "none") ||
        expert_of_distinct(b, op, fact->source) < 0)
      return false;
    if (!from_zero && (over = overwritten(b, op)) == NULL) return false;
    if (over != NULL && moe_fill_number(over, &zero) && zero == 0) over = NULL;
  }
  if (!scattered_rows(b, op, sum)) return false;
  sum->part[sum->n - 1].over = over;
  return true;
}

static bool scatter_parts(moe_builder_t *b, const ir_op_t *op, moe_sum_t *sum,
                          unsigned depth) {
  double zero;
  ir_value_t *into = ir_in(op, 0);
  bool from_zero = rule_splat_float(into, &zero) && zero == 0;
  const unsigned first = sum->n;
  if (joined_rows(b, op, sum)) {
    bool adds = rule_scatters_by(op, "add");
    if (adds && !from_zero) take_apart(b, into, sum, depth + 1);
    for (unsigned i = first; !adds && !from_zero && i < sum->n; i++)
      sum->part[i].over = into;
    return true;
  }
  if (!scatter_part(b, op, from_zero, sum)) return false;
  if (!from_zero && into != sum->part[sum->n - 1].over)
    take_apart(b, into, sum, depth + 1);
  return true;
}

bool moe_is_set(const moe_source_t *source) {
  enum { MAX_COMPARED = 32 };
  int64_t k;
  return source->distinct ||
         (expr_is_const(source->k, &k) && k <= MAX_COMPARED);
}

/* A value that is 0 where tokens did not choose the expert. */
static bool gated_part(moe_builder_t *b, ir_value_t *value, const ir_op_t *at,
                       moe_sum_t *sum) {
  const moe_fact_t *fact = moe_fact(b->facts, value);
  if (fact->kind != FACT_GATE || fact->expert < 0 || !fact->off.known ||
      fact->off.x != 0 || fact->space != NULL || fact->places != NULL ||
      !moe_is_set(fact->source))
    return false;
  unsigned tags = moe_tag_union(value->type.rank, fact->tag);
  if ((tags & TAG_TOKEN) == 0 || (tags & TAG_SLOT) != 0) return false;
  moe_part_t *part =
      add_part(b, sum, value, at,
               moe_layout(b, LAYOUT_DENSE, fact->source, NULL, fact->expert));
  memcpy(part->tag, fact->tag, sizeof part->tag);
  return true;
}

/* The sum of a stack of experts. */
static bool stacked_part(moe_builder_t *b, const ir_op_t *op, moe_sum_t *sum) {
  ir_value_t *value = ir_in(op, 0);
  const moe_fact_t *fact = moe_fact(b->facts, value);
  unsigned n;
  const int64_t *axes = ir_get_ints(op, ATTR_REDUCE_SUM_axes, &n);
  if (fact->kind != FACT_GATE || n != 1 || fact->tag[axes[0]] != TAG_EXPERT ||
      !fact->off.known || fact->off.x != 0 || fact->places != NULL ||
      !moe_is_set(fact->source))
    return false;
  unsigned tags = moe_tag_union(value->type.rank, fact->tag);
  if ((tags & TAG_TOKEN) == 0 || (tags & TAG_SLOT) != 0) return false;
  moe_part_t *part = add_part(
      b, sum, value, op, moe_layout(b, LAYOUT_STACK, fact->source, NULL, -1));
  memcpy(part->tag, fact->tag, sizeof part->tag);
  return true;
}

/* Parts of `value` in front of `base`, which it must come to. */
static bool parts_until(moe_builder_t *b, ir_value_t *value,
                        const ir_value_t *base, moe_sum_t *sum,
                        unsigned depth) {
  const ir_value_t *outer = sum->base;
  bool outer_reached = sum->reached;
  double zero;
  sum->base = base;
  sum->reached = rule_splat_float(base, &zero) && zero == 0;
  take_apart(b, value, sum, depth);
  bool reached = sum->reached;
  sum->base = outer;
  sum->reached = outer_reached;
  return reached;
}

/* A branch adds what experts give to what the other one passes on; it is taken
 * when any token chose them. */
static bool branch_parts(moe_builder_t *b, ir_value_t *value, moe_sum_t *sum,
                         unsigned depth) {
  const ir_op_t *op = value->def;
  const unsigned first = sum->n;
  ir_value_t *result[] = {ir_in(op->regions[0].last, value->index),
                          ir_in(op->regions[1].last, value->index)};
  for (unsigned adds = 0; adds < 2; adds++) {
    ir_value_t *other = result[1 - adds];
    bool fits = result[adds] != other &&
                parts_until(b, result[adds], other, sum, depth + 1) &&
                sum->n > first;
    for (unsigned i = first; fits && i < sum->n; i++) {
      const moe_layout_t *layout = sum->part[i].layout;
      const moe_branch_t branch = {sum->part[i].value, sum->part[i].tag};
      fits = layout != NULL && layout->expert >= 0 &&
             (layout->kind == LAYOUT_DENSE || layout->kind == LAYOUT_ROWS) &&
             moe_is_any(b, ir_in(op, 0), layout, &branch, adds == 1);
    }
    if (fits) {
      take_apart(b, other, sum, depth + 1);
      return true;
    }
    sum->n = first;
  }
  return false;
}

/* Rows added to zeros, whose tokens become several dimensions. */
static bool reshaped_parts(moe_builder_t *b, const ir_op_t *op, moe_sum_t *sum,
                           unsigned depth) {
  ir_value_t *from = ir_in(op, 0);
  const ir_type_t *to = &op->out[0].type;
  const unsigned first = sum->n, n = from->type.rank;
  const ir_op_t *scatter = from->def;
  if (scatter == NULL || n == 0 || to->rank < n ||
      (scatter->code != OP_SCATTER_ND && scatter->code != OP_SCATTER_ELEMENTS))
    return false;
  for (unsigned d = 1; d < n; d++)
    if (from->type.dim[d] != to->dim[to->rank - n + d]) return false;
  take_apart(b, from, sum, depth + 1);
  for (unsigned i = first; i < sum->n; i++) {
    const moe_layout_t *layout = sum->part[i].layout;
    bool rows = layout != NULL &&
                (layout->kind == LAYOUT_ROWS || layout->kind == LAYOUT_PIECE ||
                 layout->kind == LAYOUT_SORTED);
    if (rows && sum->part[i].over == NULL) continue;
    sum->n = first;
    return false;
  }
  return true;
}

bool moe_is_sum(const ir_op_t *op) {
  switch (op->code) {
    case OP_ADD:
    case OP_SCATTER_ELEMENTS:
    case OP_SCATTER_ND:
    case OP_REDUCE_SUM:
    case OP_IF:
    case OP_SELECT:
      return true;
    case OP_GATHER:
      return moe_may_put_back(op);
    default:
      return false;
  }
}

/* Of the sum's size, or repeated to it: one number, or an expert that gives 0.
 */
static bool is_summand(moe_builder_t *b, ir_value_t *value,
                       const ir_type_t *type) {
  double number;
  if (rule_same_dims(&value->type, type) || rule_splat_float(value, &number))
    return true;
  const moe_fact_t *fact = moe_fact(b->facts, value);
  return fact->kind == FACT_GATE && fact->expert >= 0 &&
         value->type.rank == type->rank && fact->off.known &&
         fact->off.x == 0 && fact->on.known && fact->on.x == 0;
}

/* Of layers that were found, and of sums that are known to have no part of a
 * router, nothing more is asked. */
static bool is_closed(const moe_builder_t *b, const ir_value_t *value) {
  return (b->settled != NULL && b->settled[value->number]) ||
         (b->plain != NULL && b->plain[value->number]);
}

/* An addition whose operands are parts, or sums of parts. */
static bool adds_summands(moe_builder_t *b, const ir_op_t *op) {
  const ir_type_t *type = &op->out[0].type;
  return op->code == OP_ADD && dtype_is_float(type->dtype) &&
         is_summand(b, ir_in(op, 0), type) && is_summand(b, ir_in(op, 1), type);
}

/* What one slot takes from the buffers of all experts. */
static bool buffer_part(moe_builder_t *b, ir_value_t *value, const ir_op_t *at,
                        moe_sum_t *sum) {
  enum { MAX_STEPS = 32 };
  unsigned steps = MAX_STEPS, n = 0;
  const moe_source_t *source = moe_slot_of_buffer(b, value, &steps);
  if (source == NULL) return false;
  const expr_t *tokens = expr_const(b->pool, 1);
  while (n < value->type.rank && tokens != source->tokens)
    tokens = expr_mul(b->pool, tokens, value->type.dim[n++]);
  bool slot = false;
  for (unsigned i = 0; i < b->facts->n_joints; i++)
    slot = slot || moe_part_index(b->facts->joint[i], source) >= 0;
  if (!slot || tokens != source->tokens || n == 0) return false;
  moe_part_t *part = add_part(b, sum, value, at,
                              moe_layout(b, LAYOUT_ROUTES, source, NULL, -1));
  memset(part->tag, TAG_INNER, sizeof part->tag);
  memset(part->tag, TAG_TOKEN, n);
  return true;
}

static void take_apart(moe_builder_t *b, ir_value_t *value, moe_sum_t *sum,
                       unsigned depth) {
  const ir_op_t *op = value->def;
  double zero;
  if (value == sum->base) {
    sum->reached = true;
    return;
  }
  if (rule_splat_float(value, &zero) && zero == 0) return;
  if (op != NULL && op->code == OP_ADD) { /* nothing is added */
    for (unsigned i = 0; i < 2; i++) {
      bool same = rule_same_dims(&ir_in(op, i)->type, &value->type);
      if (!same || !rule_splat_float(ir_in(op, 1 - i), &zero) || zero != 0)
        continue;
      take_apart(b, ir_in(op, i), sum, depth + 1);
      return;
    }
  }
  if (gated_part(b, value, op, sum)) return;
  bool deeper = op != NULL && depth < MAX_NESTED && sum->n < MAX_PARTS &&
                !is_closed(b, value);
  if (deeper && adds_summands(b, op)) {
    take_apart(b, ir_in(op, 0), sum, depth + 1);
    take_apart(b, ir_in(op, 1), sum, depth + 1);
    return;
  }
  if (deeper &&
      (op->code == OP_SCATTER_ELEMENTS || op->code == OP_SCATTER_ND) &&
      scatter_parts(b, op, sum, depth))
    return;
  if (deeper && op->code == OP_SELECT &&
      (choices_and_other(b, value, sum) || choice_parts(b, value, sum, depth)))
    return;
  if (deeper && op->code == OP_REDUCE_SUM && stacked_part(b, op, sum)) return;
  if (deeper && op->code == OP_GATHER && rows_put_back(b, op, sum)) return;
  if (deeper && op->code == OP_RESHAPE && reshaped_parts(b, op, sum, depth))
    return;
  if (deeper && op->code == OP_IF && branch_parts(b, value, sum, depth)) return;
  if (b->facts->n_joints > 0 && buffer_part(b, value, op, sum)) return;
  if (b->facts->has_slots && slot_part(b, value, op, sum)) return;
  add_part(b, sum, value, op, NULL);
}

void moe_sum_parts(moe_builder_t *b, ir_value_t *value, moe_sum_t *out) {
  out->n = 0;
  take_apart(b, value, out, 0);
}

const moe_source_t *moe_sum_adds(moe_builder_t *b, const ir_op_t *op,
                                 unsigned to) {
  moe_part_t part;
  moe_sum_t sum = {.room = 1, .part = &part};
  if (op->n_out != 1) return NULL;
  ir_value_t *value = (ir_value_t *)&op->out[0];
  if (is_closed(b, value) || gated_part(b, value, op, &sum)) return NULL;
  bool scatters = op->code == OP_SCATTER_ELEMENTS || op->code == OP_SCATTER_ND;
  bool found = (to < 2 && adds_summands(b, op) &&
                gated_part(b, ir_in(op, 1 - to), op, &sum)) ||
               (to == 0 && scatters && scatter_part(b, op, false, &sum)) ||
               (to == 2 && op->code == OP_SELECT && choice_part(b, op, &sum));
  return found ? part.layout->source : NULL;
}

bool moe_sum_belongs(const moe_part_t *part, const moe_source_t *source) {
  return part->layout != NULL &&
         (part->layout->source == source ||
          moe_part_index(source, part->layout->source) >= 0);
}

unsigned moe_sum_count(const moe_sum_t *sum, const moe_source_t *source) {
  unsigned n = 0;
  for (unsigned i = 0; i < sum->n; i++)
    n += moe_sum_belongs(&sum->part[i], source);
  return n;
}
