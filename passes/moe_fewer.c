/* Routers of which a condition keeps some routes.
 *
 * A mask of zeros and ones that is 0 wherever an expert is not one of the
 * token's may be 0 for some of these, too: those whose weight is too small, or
 * that others came before. It is the mask of a router that names fewer experts,
 * and counting along it tells the routes of that one apart. */
#include "passes/moe_fewer.h"

#include "ir/build.h"
#include "passes/moe_limit.h"

/* 1 for some of a token's experts, 0 for all others. */
static bool is_some_mask(moe_facts_t *facts, ir_value_t *value) {
  const moe_fact_t *fact = moe_fact(facts, value);
  const ir_type_t *type = &value->type;
  if (fact->kind != FACT_GATE || !fact->off.known || fact->off.x != 0 ||
      fact->on.known || fact->space != NULL || fact->places != NULL ||
      fact->rank != NULL || fact->expert >= 0 || !moe_is_indicator(value))
    return false;
  const moe_source_t *source = fact->source;
  bool slots = (moe_tag_union(type->rank, fact->tag) & TAG_SLOT) != 0;
  return !source->by_mask && !source->chooses && !source->given &&
         (slots || rule_is_one(source->k) || source->distinct) &&
         moe_tag_find(type->rank, fact->tag, TAG_EXPERT) >= 0 &&
         moe_is_by_route(facts, source, type, fact->tag);
}

/* The mask behind views and casts of it. */
static ir_value_t *mask_behind(moe_facts_t *facts, ir_value_t *value) {
  enum { MAX_VIEWS = 8 };
  ir_value_t *found = NULL;
  for (unsigned i = 0; i < MAX_VIEWS && is_some_mask(facts, value); i++) {
    const ir_op_t *op = value->def;
    found = value;
    if (op->code != OP_CAST && op->code != OP_RESHAPE &&
        op->code != OP_TRANSPOSE)
      break;
    value = ir_in(op, 0);
  }
  return found;
}

/* ---- Layouts ------------------------------------------------------------- */

/* Runs over tokens, slots and experts, outermost first. */
typedef struct runs {
  unsigned n;
  unsigned kind[2 * IR_MAX_RANK];
  const expr_t *size[2 * IR_MAX_RANK];
} runs_t;

static bool add_run(runs_t *runs, unsigned kind, const expr_t *size) {
  if (size == NULL || runs->n >= IR_MAX_RANK) return false;
  runs->kind[runs->n] = kind;
  runs->size[runs->n++] = size;
  return true;
}

static bool find_runs(expr_pool_t *pool, const moe_source_t *source,
                      const ir_type_t *type, const uint8_t *tag, runs_t *out) {
  out->n = 0;
  for (unsigned d = 0; d < type->rank; d++) {
    const expr_t *size = type->dim[d];
    unsigned kinds = tag[d] & ~(unsigned)TAG_TURNED;
    bool turned = (tag[d] & TAG_TURNED) != 0;
    if (kinds == TAG_TOKEN || kinds == TAG_SLOT || kinds == TAG_EXPERT) {
      if (!add_run(out, kinds, size)) return false;
    } else if (kinds == (TAG_TOKEN | TAG_SLOT)) {
      const expr_t *rest = expr_divide_exactly(pool, size, source->k);
      if (!add_run(out, turned ? TAG_SLOT : TAG_TOKEN,
                   turned ? source->k : rest) ||
          !add_run(out, turned ? TAG_TOKEN : TAG_SLOT,
                   turned ? rest : source->k))
        return false;
    } else if (!rule_is_one(size)) {
      return false;
    }
  }
  return true;
}

/* Sizes in a new order: tokens, slots, experts; *out_slots: there are some. */
static void sort_runs(const runs_t *runs, int64_t *perm, bool *out_slots) {
  static const unsigned order[] = {TAG_TOKEN, TAG_SLOT, TAG_EXPERT};
  unsigned to = 0;
  *out_slots = false;
  for (unsigned i = 0; i < sizeof order / sizeof *order; i++)
    for (unsigned j = 0; j < runs->n; j++) {
      if (runs->kind[j] != order[i]) continue;
      perm[to++] = j;
      *out_slots = *out_slots || order[i] == TAG_SLOT;
    }
}

/* ---- Writing ------------------------------------------------------------- */

/* The experts that the mask leaves, or -1: tokens.., then slots. */
static ir_value_t *write_index(pass_ctx_t *ctx, moe_facts_t *facts,
                               ir_value_t *mask) {
  const moe_fact_t *fact = moe_fact(facts, mask);
  const moe_source_t *source = fact->source;
  ir_op_t *at = mask->def;
  runs_t runs;
  int64_t perm[IR_MAX_RANK];
  bool slots;
  if (!ir_region_holds(source->index->def->parent, at->parent) ||
      !find_runs(facts->pool, source, &mask->type, fact->tag, &runs))
    return NULL;
  ir_builder_t b = {.module = ctx->module,
                    .region = at->parent,
                    .before = at->next,
                    .loc = at->loc,
                    .diag = ctx->diag};
  sort_runs(&runs, perm, &slots);
  ir_value_t *x = ir_reshape(&b, mask, runs.n, runs.size);
  x = ir_transpose(&b, x, perm);
  const expr_t *rows[2] = {slots ? source->routes : source->tokens,
                           expr_const(facts->pool, source->experts)};
  x = ir_reshape(&b, x, 2, rows);
  const expr_t *all[2] = {source->tokens, source->k};
  const expr_t *each[2] = {rows[0],
                           slots ? expr_const(facts->pool, 1) : source->k};
  ir_value_t *number = moe_choices(&b, source, source->index->type.dtype);
  ir_value_t *in[2] = {x, ir_reshape(&b, number, 2, each)};
  ir_op_t *op = ir_begin(&b, OP_GATHER_ELEMENTS, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 1);
  x = ir_reshape(&b, ir_place(&b, op), 2, all);
  ir_value_t *none = ir_scalar_int(&b, number->type.dtype, -1);
  none = ir_expand(&b, none, 2, all);
  ir_value_t *stays = ir_cast(&b, x, DT_BOOL);
  ir_value_t *index = ir_select(&b, stays, number, none);
  unsigned n = 0;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < source->index->type.rank; d++)
    if ((int)d != source->slot) dim[n++] = source->index->type.dim[d];
  if (source->slot >= 0) dim[n++] = source->k;
  index = ir_reshape(&b, index, n, dim);
  return b.status == MOEC_OK ? index : NULL;
}

bool moe_write_fewer(pass_ctx_t *ctx, ir_func_t *func, moe_facts_t *facts,
                     moe_fewer_t **list) {
  bool wrote = false;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    if (op->code != OP_CUM_SUM && op->code != OP_NONZERO) continue;
    ir_value_t *mask = mask_behind(facts, ir_in(op, 0));
    const moe_fewer_t *known = *list;
    while (known != NULL && known->mask != mask) known = known->next;
    if (mask == NULL || known != NULL) continue;
    ir_value_t *index = write_index(ctx, facts, mask);
    if (index == NULL) continue;
    moe_fewer_t *fewer = ARENA_NEW(ctx->scratch, moe_fewer_t);
    *fewer =
        (moe_fewer_t){mask, index, moe_fact(facts, mask)->source->index, *list};
    *list = fewer;
    wrote = true;
  }
  return wrote;
}

void moe_know_fewer(moe_facts_t *facts, const moe_fewer_t *fewer) {
  if (facts->of[fewer->index->number] != NULL) return;
  const moe_fact_t *mask = moe_fact(facts, fewer->mask);
  if (mask->kind != FACT_GATE || mask->source->index != fewer->whole) return;
  int last = (int)fewer->index->type.rank - 1;
  const moe_fact_t *fact =
      moe_new_router(facts, fewer->index, mask->source->slot >= 0 ? last : -1,
                     mask->source->experts, mask->source->distinct);
  moe_source_t *source = (moe_source_t *)fact->source; /* it is being made */
  source->some = true;
  source->within = mask->source;
  source->kept = fewer->mask;
  facts->of[fewer->index->number] = fact;
  moe_fact_t *out = moe_fact_copy(facts, mask);
  moe_forget_on(out);
  out->source = source;
  source->kept_tag = out->tag;
  out->on = (moe_constant_t){true, 1};
  facts->of[fewer->mask->number] = out;
}
