/* Ranks of routes as results of moe.limit.
 *
 * The facts of a rank say all that it depends on: the router, the order, the
 * groups of tokens, the routers behind whose routes it starts. So one operation
 * that counts routes gives the numbers of all values with such a fact. */
#include "passes/moe_limit.h"

#include <math.h>

#include "passes/moe_sizes.h"

/* ---- Routers ------------------------------------------------------------- */

/* Whether choices are experts of [0, n) whatever the scores are. */
static bool always_names_one(const ir_value_t *index, unsigned depth) {
  enum { MAX_NESTED = 12 };
  const ir_op_t *op = index->def;
  if (op == NULL || depth > MAX_NESTED) return false;
  switch (op->code) {
    case OP_ARG_MAX:
      return true;
    case OP_TOPK:
      return index->index == 1;
    case OP_CAST:
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
      return always_names_one(ir_in(op, 0), depth + 1);
    case OP_CONCAT:
      for (unsigned i = 0; i < op->n_in; i++)
        if (!always_names_one(ir_in(op, i), depth + 1)) return false;
      return true;
    default:
      return false;
  }
}

static bool is_of_layer(const moe_limits_t *limits,
                        const moe_source_t *source) {
  for (const moe_found_t *f = limits->layers; f != NULL; f = f->next)
    if (f->source == source || moe_part_index(f->source, source) >= 0)
      return true;
  return false;
}

/* Whether a router's slots are those that the rank is behind, then its own, and
 * perhaps others. */
static bool has_in_order(const moe_source_t *whole, const moe_rank_t *rank) {
  int own = moe_part_index(whole, rank->source);
  if (own < 0 || (unsigned)own != rank->n_base) return false;
  for (unsigned i = 0; i <= rank->n_base; i++)
    if (whole->part[i] == NULL || !rule_is_one(whole->part[i]->k)) return false;
  for (unsigned i = 0; i < rank->n_base; i++) {
    int at = moe_part_index(whole, rank->base[i]);
    if (at < 0 || at >= own) return false;
  }
  return true;
}

/* The operation after which all choices of a router are known: that of its
 * slots, or of all of them together. */
static ir_op_t *known_after(const moe_source_t *source) {
  ir_op_t *last = NULL;
  for (unsigned i = 0; i < source->n_parts; i++) {
    const moe_source_t *part = source->part[i];
    ir_op_t *op = part != NULL ? part->index->def : NULL;
    if (op == NULL || (last != NULL && op->parent != last->parent))
      return source->index->def;
    if (last == NULL || op->out[0].number > last->out[0].number) last = op;
  }
  ir_op_t *whole = source->index->def;
  bool sooner = last != NULL && whole != NULL &&
                last->parent == whole->parent &&
                last->out[0].number < whole->out[0].number;
  return sooner ? last : whole;
}

static bool is_before(const moe_source_t *source, const ir_op_t *at) {
  const ir_op_t *known = known_after(source);
  return known != NULL && ir_region_holds(known->parent, at->parent) &&
         known->out[0].number < at->out[0].number;
}

/* A router of several slots in which this rank's routes are counted, too. */
static const moe_source_t *whole_of(const moe_limits_t *limits,
                                    const moe_rank_t *rank, const ir_op_t *at) {
  for (const moe_found_t *f = limits->layers; f != NULL; f = f->next)
    if (has_in_order(f->source, rank) && is_before(f->source, at))
      return f->source;
  for (unsigned i = 0; rank->n_base > 0 && i < limits->facts->n_joints; i++) {
    const moe_source_t *joint = limits->facts->joint[i];
    if (has_in_order(joint, rank) && is_before(joint, at)) return joint;
  }
  return NULL;
}

/* ---- Counting ------------------------------------------------------------ */

ir_value_t *moe_choices(ir_builder_t *b, const moe_source_t *source,
                        dtype_t dtype) {
  ir_value_t *x = source->index;
  const expr_t *dim[2] = {source->tokens, source->k};
  int64_t perm[IR_MAX_RANK];
  unsigned rank = x->type.rank, to = 0;
  for (unsigned d = 0; d < rank; d++)
    if ((int)d != source->slot) perm[to++] = d;
  if (source->slot >= 0) perm[to] = source->slot;
  if (source->slot >= 0 && source->slot + 1 != (int)rank)
    x = ir_transpose(b, x, perm);
  return ir_reshape(b, ir_cast(b, x, dtype), 2, dim);
}

/* i64[tokens, k] of a router, at a place after known_after(). */
static ir_value_t *all_choices(ir_builder_t *b, const moe_source_t *source) {
  ir_value_t *slot[MOE_MAX_PARTS];
  if (known_after(source) == source->index->def)
    return moe_choices(b, source, DT_I64);
  for (unsigned i = 0; i < source->n_parts; i++)
    slot[i] = moe_choices(b, source->part[i], DT_I64);
  return ir_concat(b, source->n_parts, slot, 1);
}

/* The capacity below which routes of earlier slots are counted in a layer's
 * buffers; NULL: all are. */
static const expr_t *kept_in(const moe_found_t *found) {
  unsigned n = found->places != NULL ? found->places->n : 0;
  for (unsigned i = 0; i < n; i++) {
    const moe_rank_t *rank = found->places->of[i].rank;
    if (rank != NULL && rank->n_parts > 0) rank = rank->part[rank->n_parts - 1];
    if (rank != NULL && rank->n_base > 0) return rank->kept[0];
  }
  return NULL;
}

/* The same of a router, where the rank agrees; false: it does not. */
static bool find_kept(const moe_limits_t *limits, const moe_source_t *source,
                      const moe_rank_t *rank, const expr_t **out_kept) {
  *out_kept = NULL;
  for (const moe_found_t *f = limits->layers; f != NULL; f = f->next)
    if (f->source == source && *out_kept == NULL) *out_kept = kept_in(f);
  for (unsigned i = 0; i < rank->n_base; i++)
    if (rank->kept[i] != *out_kept) return false;
  return true;
}

static moe_counted_t *count(moe_limits_t *limits, const moe_source_t *source,
                            bool by_slot, const expr_t *group,
                            const expr_t *kept) {
  expr_pool_t *pool = limits->facts->pool;
  moe_counted_t *c = limits->counted;
  while (c != NULL && (c->source != source || c->by_slot != by_slot ||
                       c->group != group || c->kept != kept))
    c = c->next;
  if (c != NULL) return c;
  const expr_t *groups = expr_divide_exactly(pool, source->tokens, group);
  ir_op_t *after = known_after(source);
  if (groups == NULL || !always_names_one(source->index, 0)) return NULL;
  ir_builder_t b = {.module = limits->ctx->module,
                    .region = after->parent,
                    .before = after->next,
                    .loc = after->loc,
                    .diag = limits->ctx->diag};
  ir_value_t *in[2] = {all_choices(&b, source), NULL};
  if (kept != NULL && !moe_limits_known(limits, kept, &b)) return NULL;
  if (kept != NULL) in[1] = ir_expr_scalar(&b, kept);
  ir_op_t *op = ir_begin(&b, OP_MOE_LIMIT, kept != NULL ? 2 : 1, in, 3);
  if (op == NULL) return NULL;
  if (kept != NULL) ir_set_int(op, ATTR_MOE_LIMIT_behind_kept, 1);
  ir_set_int(op, ATTR_MOE_LIMIT_experts, source->experts);
  ir_set_expr(op, ATTR_MOE_LIMIT_groups, groups);
  ir_set_str(op, ATTR_MOE_LIMIT_order, by_slot ? "slots" : "tokens");
  if (ir_place(&b, op) == NULL) return NULL;
  c = ARENA_NEW(limits->ctx->scratch, moe_counted_t);
  *c = (moe_counted_t){source, by_slot, group, kept, op, limits->counted};
  limits->counted = c;
  return c;
}

ir_value_t *moe_limits_count(moe_limits_t *limits, const moe_rank_t *rank,
                             const ir_op_t *at,
                             const moe_source_t **out_source) {
  expr_pool_t *pool = limits->facts->pool;
  const moe_source_t *own = rank->source;
  if (rank->n_parts > 0 || rank->reverse || rank->gaps || rank->most != NULL ||
      rank->by != NULL || isfinite(rank->exact))
    return NULL;
  if (!is_of_layer(limits, own) || !is_before(own, at)) return NULL;
  const moe_source_t *whole = whole_of(limits, rank, at);
  if (whole == NULL && rank->n_base > 0) return NULL;
  *out_source = own;
  if (whole == NULL) {
    bool by_slot = rank->order == ORDER_SLOTS && !rule_is_one(own->k);
    const moe_counted_t *c = count(limits, own, by_slot, rank->counted, NULL);
    return c != NULL ? &c->op->out[1] : NULL;
  }
  const expr_t *kept;
  if (!find_kept(limits, whole, rank, &kept)) return NULL;
  const moe_counted_t *c = count(limits, whole, true, rank->counted, kept);
  if (c == NULL) return NULL;
  ir_builder_t b = {.module = limits->ctx->module,
                    .region = c->op->parent,
                    .before = c->op->next,
                    .loc = c->op->loc,
                    .diag = limits->ctx->diag};
  const expr_t *one = expr_const(pool, 1);
  return ir_slice(&b, &c->op->out[1], 1, expr_const(pool, rank->n_base), one,
                  one);
}

/* ---- Layouts ------------------------------------------------------------- */

/* What a dimension of routes consists of, outermost first. */
typedef struct parts {
  unsigned n, slot; /* slot: which one runs over slots, n: none */
  const expr_t *size[2 * IR_MAX_RANK];
} parts_t;

static void add_part(parts_t *p, const expr_t *size, bool slots) {
  if (slots) p->slot = p->n;
  p->size[p->n++] = size;
}

/* False where a dimension runs over something else. */
static bool split(expr_pool_t *pool, const moe_source_t *source,
                  const ir_type_t *type, const uint8_t *tag, parts_t *p) {
  *p = (parts_t){.slot = 2 * IR_MAX_RANK};
  for (unsigned d = 0; d < type->rank; d++) {
    const expr_t *size = type->dim[d];
    bool tokens = (tag[d] & TAG_TOKEN) != 0, slots = (tag[d] & TAG_SLOT) != 0;
    if (tag[d] == TAG_EXPERT || (!tokens && !slots && rule_is_one(size)))
      continue;
    bool turned = (tag[d] & TAG_TURNED) != 0;
    unsigned other = tag[d] & ~(unsigned)(TAG_TOKEN | TAG_SLOT | TAG_TURNED);
    if (other != 0 || (!tokens && !slots) ||
        (slots && p->slot < 2 * IR_MAX_RANK))
      return false;
    if (tokens && slots) size = expr_divide_exactly(pool, size, source->k);
    if (size == NULL || (slots && !tokens && size != source->k)) return false;
    if (slots && turned) add_part(p, source->k, true);
    if (tokens) add_part(p, size, false);
    if (slots && !turned) add_part(p, source->k, true);
  }
  const expr_t *tokens = expr_const(pool, 1);
  for (unsigned i = 0; i < p->n; i++)
    if (i != p->slot) tokens = expr_mul(pool, tokens, p->size[i]);
  bool has_slots = p->slot < 2 * IR_MAX_RANK;
  return tokens == source->tokens && p->n <= IR_MAX_RANK &&
         (has_slots || rule_is_one(source->k));
}

/* Numbers of routes x[tokens, k] as a value with these tags lies. */
static ir_value_t *lay_out(ir_builder_t *b, ir_value_t *x,
                           const moe_source_t *source, const ir_type_t *type,
                           const uint8_t *tag) {
  parts_t p;
  const expr_t *dim[IR_MAX_RANK];
  int64_t perm[IR_MAX_RANK];
  unsigned n = 0;
  if (!split(b->module->exprs, source, type, tag, &p)) return NULL;
  for (unsigned i = 0; i < p.n; i++)
    if (i != p.slot) dim[n++] = p.size[i];
  if (p.slot < p.n) dim[n++] = source->k;
  x = ir_reshape(b, x, n, dim);
  for (unsigned i = 0, to = 0; i < n; i++) perm[i] = i == p.slot ? n - 1 : to++;
  if (p.slot < n && p.slot + 1 != n) x = ir_transpose(b, x, perm);
  for (unsigned d = 0; d < type->rank; d++)
    dim[d] =
        tag[d] == TAG_EXPERT ? expr_const(b->module->exprs, 1) : type->dim[d];
  return ir_reshape(b, x, type->rank, dim);
}

ir_value_t *moe_limits_number(moe_limits_t *limits, ir_builder_t *b,
                              const moe_rank_t *rank, const ir_type_t *type,
                              const uint8_t *tag) {
  const moe_source_t *source;
  int64_t offset;
  parts_t p;
  if (b->before == NULL || !moe_whole_number(rank->offset, &offset) ||
      !split(limits->facts->pool, rank->source, type, tag, &p))
    return NULL;
  ir_value_t *x = moe_limits_count(limits, rank, b->before, &source);
  if (x == NULL) return NULL;
  x = lay_out(b, x, source, type, tag);
  if (x != NULL && offset != 0)
    x = ir_binary(b, OP_ADD, x, ir_scalar_int(b, DT_I64, offset));
  return x != NULL ? ir_cast(b, x, type->dtype) : NULL;
}

/* ---- Values that count --------------------------------------------------- */

/* The rewrite of a value that is done when layers are written. */
static void replace(moe_limits_t *limits, ir_value_t *old, ir_value_t *by) {
  if (by == NULL || !ir_type_equal(&old->type, &by->type)) return;
  moe_replaced_t *entry = ARENA_NEW(limits->ctx->scratch, moe_replaced_t);
  *entry = (moe_replaced_t){old, by, NULL};
  *limits->last = entry;
  limits->last = &entry->next;
}

/* A rank that no operand is already. */
static bool is_first(moe_limits_t *limits, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_in; i++)
    if (op->in[i].value != NULL &&
        moe_fact(limits->facts, op->in[i].value)->kind == FACT_RANK)
      return false;
  return true;
}

/* The dimension of experts of a gate that is 0 for all but the one that a row
 * has; -1: it is none. */
static int axis_of_own(const moe_fact_t *fact, const ir_type_t *type) {
  if (fact->kind != FACT_GATE || !fact->off.known || fact->off.x != 0 ||
      fact->space != NULL || fact->expert >= 0 ||
      !moe_limits_has_one(fact, type))
    return -1;
  int axis = moe_tag_find(type->rank, fact->tag, TAG_EXPERT);
  return axis >= 0 && fact->tag[axis] == TAG_EXPERT ? axis : -1;
}

/* A sum over experts of what is 0 for others than a row's own one. */
static ir_value_t *sum_of_own(moe_limits_t *limits, ir_builder_t *b,
                              const ir_op_t *op) {
  ir_value_t *x = ir_in(op, 0);
  const moe_fact_t *gate = moe_fact(limits->facts, x);
  const ir_type_t *type = &op->out[0].type;
  unsigned n;
  const int64_t *axes = ir_get_ints(op, ATTR_REDUCE_SUM_axes, &n);
  int axis = axis_of_own(gate, &x->type);
  if (n != 1 || axis < 0 || axes[0] != axis) return NULL;
  ir_value_t *own =
      moe_limits_own(limits, b, gate->source, x, (unsigned)axis, false);
  return own != NULL ? ir_reshape(b, own, type->rank, type->dim) : NULL;
}

/* What is 0 for experts that a row does not have, times a number that is
 * counted for all of them: the number of the row's own one will do. */
static ir_value_t *product_of_own(moe_limits_t *limits, ir_builder_t *b,
                                  const ir_op_t *op) {
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *gate = ir_in(op, i), *x = ir_in(op, 1 - i);
    const moe_fact_t *fact = moe_fact(limits->facts, gate);
    int axis = axis_of_own(fact, &gate->type);
    if (axis < 0) continue;
    int at = axis + (int)x->type.rank - (int)gate->type.rank;
    if (at < 0 || x->type.dim[at] != gate->type.dim[axis]) continue;
    ir_value_t *own =
        moe_limits_own(limits, b, fact->source, x, (unsigned)at, true);
    if (own != NULL) return ir_binary(b, op->code, gate, own);
  }
  return NULL;
}

static void find(moe_limits_t *limits, ir_op_t *op) {
  ir_value_t *value = &op->out[0];
  const moe_fact_t *fact = moe_fact(limits->facts, value);
  if (fact->kind == FACT_NONE || !is_of_layer(limits, fact->source)) return;
  ir_builder_t b = {.module = limits->ctx->module,
                    .region = op->parent,
                    .before = op,
                    .loc = op->loc,
                    .diag = limits->ctx->diag};
  if (fact->kind == FACT_RANK && fact->given == NULL && is_first(limits, op))
    replace(limits, value,
            moe_limits_number(limits, &b, fact->rank, &value->type, fact->tag));
  else if (op->code == OP_REDUCE_SUM)
    replace(limits, value, sum_of_own(limits, &b, op));
  else if (op->code == OP_MUL || op->code == OP_AND)
    replace(limits, value, product_of_own(limits, &b, op));
}

moe_limits_t *moe_limits_find(pass_ctx_t *ctx, moe_facts_t *facts,
                              const moe_found_t *layers) {
  moe_limits_t *limits = ARENA_NEW(ctx->scratch, moe_limits_t);
  *limits = (moe_limits_t){.ctx = ctx, .facts = facts, .layers = layers};
  limits->last = &limits->first;
  ir_op_t *next;
  for (ir_op_t *op = layers != NULL ? ir_walk_first(facts->func) : NULL;
       op != NULL; op = next) {
    next = ir_walk_next(op);
    if (op->n_out == 1 && op->out[0].uses != NULL) find(limits, op);
  }
  return limits;
}

void moe_limits_apply(moe_limits_t *limits) {
  for (moe_replaced_t *r = limits->first; r != NULL; r = r->next) {
    if (!pass_allow_rewrite(limits->ctx, "moe", r->old->def)) continue;
    ir_replace_uses(r->old, r->by);
    limits->ctx->changed = true;
  }
}
