/* Layers as operations: operands in front of the layer, the term as the region
 * of moe.experts. */
#include "passes/moe_emit.h"

#include "passes/moe_choice.h"
#include "passes/moe_emit_internal.h"
#include "passes/moe_limit.h"
#include "passes/rules.h"

typedef moe_emitter_t emitter_t;

/* Leaves of a kind, each once, behind those that are in the list. */
static void collect(emitter_t *e, const moe_term_t *term,
                    moe_term_kind_t kind) {
  if (moe_recall(e, term) != NULL) return;
  bool wanted =
      term->kind == kind || (kind == TERM_ROUTE && term->kind == TERM_GATE);
  if (wanted) {
    for (unsigned i = 0; i < e->n_leaves; i++)
      if (e->leaf[i] == term) return;
    e->leaf = arena_grow_array(e->ctx->scratch, e->leaf, e->n_leaves,
                               e->n_leaves + 1, sizeof *e->leaf);
    e->leaf[e->n_leaves++] = term;
  }
  moe_remember(e, term, NULL);
  for (unsigned i = 0; term->kind == TERM_OP && i < term->n; i++)
    collect(e, term->in[i], kind);
}

static void forget(emitter_t *e) {
  for (size_t i = 0; i < MOE_WRITTEN; i++) e->in_region[i] = NULL;
  e->loops = NULL;
}

/* Experts that choose: the expert of each row, and its token. */
static ir_value_t *choosing_experts(emitter_t *e) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  const expr_t *dim[2] = {expr_const(e->pool, source->experts),
                          expr_const(e->pool, 1)};
  uint8_t tag[2] = {TAG_EXPERT, TAG_PLACE};
  if (source->slot == 0) {
    tag[0] = TAG_PLACE;
    tag[1] = TAG_EXPERT;
  }
  ir_value_t *token = moe_bring_forward(b, e->now(e->user, source->index), tag,
                                        TAG_EXPERT, TAG_PLACE);
  token = ir_cast(b, token, DT_I64);
  e->token = moe_with_dims(b, token, source->routes, 0, NULL);
  ir_value_t *number = ir_iota(b, DT_I64, dim[0]);
  number = moe_with_dims(b, number, NULL, 2, dim);
  dim[1] = source->k;
  number = ir_expand(b, number, 2, dim);
  return moe_with_dims(b, number, source->routes, 0, NULL);
}

/* Whether an earlier slot of the token has the same expert: bool[routes]. */
static ir_value_t *repeated_experts(emitter_t *e) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  const int64_t axis = 2;
  ir_value_t *own = ir_unsqueeze(b, e->route_index, 2);
  ir_value_t *other = ir_unsqueeze(b, e->route_index, 1);
  ir_value_t *slot = ir_iota(b, DT_I64, source->k);
  ir_value_t *own_slot = ir_unsqueeze(b, slot, 1);
  ir_value_t *same = ir_binary(b, OP_EQ, own, other);
  ir_value_t *earlier = ir_binary(b, OP_LT, slot, own_slot);
  ir_value_t *both = ir_binary(b, OP_AND, same, earlier);
  ir_value_t *any = ir_cast(b, both, DT_I64);
  any = ir_cast(b, ir_reduce(b, OP_REDUCE_MAX, any, 1, &axis, false), DT_BOOL);
  return moe_with_dims(b, any, source->routes, 0, NULL);
}

/* One more condition on the routes that count. */
static bool write_condition(emitter_t *e, const moe_term_t *term) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  if (term == NULL) return true;
  ir_value_t *x = moe_write_for_routes(e, term, source->routes);
  if (x == NULL) return false;
  x = moe_with_dims(b, x, source->routes, 0, NULL);
  e->active = e->active != NULL ? ir_binary(b, OP_AND, x, e->active) : x;
  return e->active != NULL;
}

/* Experts of the routes, in order; those of tokens that are dropped name none.
 */
static ir_value_t *expert_numbers(emitter_t *e) {
  ir_builder_t *b = e->outer;
  const moe_found_t *found = e->found;
  const moe_source_t *source = found->source;
  if (source->chooses) return choosing_experts(e);
  ir_value_t *x = e->now(e->user, source->index);
  uint8_t tag[IR_MAX_RANK] = {0};
  for (unsigned d = 0; d < x->type.rank; d++)
    tag[d] = (int)d == source->slot ? TAG_SLOT : TAG_TOKEN;
  x = ir_cast(b, moe_bring_forward(b, x, tag, TAG_TOKEN, TAG_SLOT), DT_I64);
  const expr_t *dim[2] = {source->tokens, source->k};
  e->route_index = moe_with_dims(b, x, NULL, 2, dim);
  x = moe_with_dims(b, x, source->routes, 0, NULL);
  ir_value_t *kept = NULL;
  if (found->below != NULL && found->over == NULL)
    kept = moe_limits_keep(e->limits, found, b->before, &e->limit);
  if (kept != NULL) x = moe_with_dims(b, kept, source->routes, 0, NULL);
  if (found->unique) {
    ir_value_t *again = repeated_experts(e);
    x = ir_select(b, again, ir_scalar_int(b, DT_I64, source->experts), x);
  }
  if (!write_condition(e, found->active) ||
      (kept == NULL && !write_condition(e, found->below)))
    return NULL;
  if (e->active == NULL) return x;
  ir_value_t *none = ir_scalar_int(b, DT_I64, source->experts);
  return ir_select(b, e->active, x, none);
}

/* Which region each expert has, and its place in the banks of that. */
static void set_structure(emitter_t *e, ir_op_t *op, const int64_t *n_banks) {
  const moe_found_t *found = e->found;
  arena_t *arena = e->ctx->scratch;
  int64_t n = found->source->experts;
  int64_t *structure = ARENA_ARRAY(arena, int64_t, (size_t)n);
  int64_t *position = ARENA_ARRAY(arena, int64_t, (size_t)n);
  int64_t *next = ARENA_ARRAY(arena, int64_t, found->n_terms);
  for (int64_t i = 0; i < n; i++) {
    structure[i] = found->structure != NULL ? found->structure[i] : 0;
    if (structure[i] >= 0) position[i] = next[structure[i]]++;
  }
  ir_set_ints(op, ATTR_MOE_EXPERTS_structure, (unsigned)n, structure);
  ir_set_ints(op, ATTR_MOE_EXPERTS_position, (unsigned)n, position);
  ir_set_ints(op, ATTR_MOE_EXPERTS_banks, found->n_terms, n_banks);
}

/* The term of a structure, with the operands as arguments. */
static bool fill_region(emitter_t *e, ir_op_t *op, unsigned index,
                        const moe_term_t *term, unsigned n_values,
                        unsigned first_bank) {
  const ir_region_t *region = ir_moe_add_region(op);
  forget(e);
  for (unsigned i = 0; i < region->n_args; i++) {
    unsigned leaf = i < n_values ? i : first_bank + i - n_values;
    moe_remember(e, e->leaf[leaf], &region->args[i]);
  }
  ir_builder_t inner = *e->outer;
  inner.region = &op->regions[index];
  inner.before = NULL;
  e->inner = &inner;
  ir_value_t *y = moe_write_term(e, term);
  if (y == NULL || inner.status != MOEC_OK) return false;
  if (!term->rows) { /* the same for all rows */
    const expr_t *dim[IR_MAX_RANK + 1] = {e->rows};
    for (unsigned d = 0; d < term->rank; d++) dim[1 + d] = term->dim[d];
    y = ir_expand(&inner, y, term->rank + 1, dim);
  }
  ir_op_t *yield = y != NULL ? ir_begin(&inner, OP_YIELD, 1, &y, 0) : NULL;
  if (yield == NULL) return false;
  ir_place(&inner, yield);
  return inner.status == MOEC_OK;
}

/* Leaves of all structures in the order of operands: values of tokens, of
 * routes, then the banks of each structure. Where each of these begin, and the
 * end, are in first[2 + n_terms + 1]. */
static void collect_all(emitter_t *e, moe_term_t *const *term,
                        unsigned *first) {
  unsigned n = e->found->n_terms;
  e->n_leaves = 0;
  for (unsigned i = 0; i < n; i++) collect(e, term[i], TERM_TOKEN);
  first[0] = 0;
  first[1] = e->n_leaves;
  forget(e);
  for (unsigned i = 0; i < n; i++) collect(e, term[i], TERM_ROUTE);
  for (unsigned i = 0; i < n; i++) {
    first[2 + i] = e->n_leaves;
    forget(e);
    collect(e, term[i], TERM_BANK);
  }
  first[2 + n] = e->n_leaves;
  forget(e);
}

static ir_op_t *write_experts(emitter_t *e, moe_term_t *const *term,
                              ir_value_t *expert) {
  const moe_source_t *source = e->found->source;
  arena_t *arena = e->ctx->scratch;
  unsigned n = e->found->n_terms;
  unsigned *first = ARENA_ARRAY(arena, unsigned, n + 3);
  int64_t *n_banks = ARENA_ARRAY(arena, int64_t, n);
  collect_all(e, term, first);
  for (unsigned i = 0; i < n; i++) n_banks[i] = first[3 + i] - first[2 + i];
  ir_value_t **in = ARENA_ARRAY(arena, ir_value_t *, e->n_leaves + 2);
  in[0] = expert;
  in[1] = e->token; /* NULL: tokens follow from k */
  for (unsigned i = 0; i < e->n_leaves; i++) {
    in[2 + i] = moe_operand(e, e->leaf[i]);
    if (in[2 + i] == NULL) return NULL;
  }
  ir_op_t *op = ir_begin(e->outer, OP_MOE_EXPERTS, e->n_leaves + 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_MOE_EXPERTS_experts, source->experts);
  if (e->token == NULL) ir_set_expr(op, ATTR_MOE_EXPERTS_k, source->k);
  ir_set_expr(op, ATTR_MOE_EXPERTS_tokens, source->tokens);
  ir_set_int(op, ATTR_MOE_EXPERTS_token_values, first[1]);
  ir_set_int(op, ATTR_MOE_EXPERTS_route_values, first[2] - first[1]);
  set_structure(e, op, n_banks);
  e->rows = expr_new_symbol(e->pool, "rows", 0, NULL);
  ir_set_expr(op, ATTR_MOE_EXPERTS_rows, e->rows);
  for (unsigned i = 0; i < n; i++)
    if (!fill_region(e, op, i, term[i], first[2], first[2 + i])) return NULL;
  return ir_place(e->outer, op) != NULL ? op : NULL;
}

/* A last factor that each route has one of: the weight of the sum. */
static moe_term_t *split_weight(moe_term_t *term,
                                const moe_term_t **out_weight) {
  *out_weight = NULL;
  if (term->kind != TERM_OP || term->code != OP_MUL) return term;
  for (unsigned i = 0; i < 2; i++) {
    const moe_term_t *w = term->in[i];
    moe_term_t *y = term->in[1 - i];
    bool scalar = w->rows && !w->banks && !w->tokens && y->rows;
    for (unsigned d = 0; scalar && d < w->rank; d++)
      scalar = rule_is_one(w->dim[d]);
    const moe_term_t *leaf = w;
    while (leaf->kind == TERM_OP && leaf->code == OP_RESHAPE)
      leaf = leaf->in[0];
    scalar = scalar && (leaf->kind == TERM_ROUTE || leaf->kind == TERM_GATE) &&
             y->rank == term->rank;
    for (unsigned d = 0; scalar && d < y->rank; d++)
      scalar = y->dim[d] == term->dim[d];
    if (!scalar) continue;
    *out_weight = leaf;
    return y;
  }
  return term;
}

/* The terms without a last factor that is the same route's value in all of
 * them; NULL: there is none. */
static const moe_term_t *split_weights(emitter_t *e, moe_term_t **term) {
  const moe_found_t *found = e->found;
  const moe_term_t *weight = NULL, *other;
  for (unsigned i = 0; i < found->n_terms; i++) {
    term[i] = split_weight(found->term[i], &other);
    if (other == NULL || found->apart || (i > 0 && other != weight)) {
      for (unsigned j = 0; j < found->n_terms; j++) term[j] = found->term[j];
      return NULL;
    }
    weight = other;
  }
  return weight;
}

/* Whether every expert has a slot, and conditions on the weights choose. */
bool moe_chooses_by_weight(const moe_found_t *found) {
  const moe_source_t *source = found->source;
  const moe_term_t *weight;
  if (found->apart) return false;
  (void)split_weight(found->term[0], &weight);
  return weight != NULL && weight->value != NULL && !source->by_mask &&
         !source->chooses && expr_equals_const(source->k, source->experts) &&
         moe_may_vanish(weight->value);
}

/* Routes of weight 0 name no expert. */
static ir_value_t *weighty_experts(emitter_t *e, ir_value_t *expert,
                                   const moe_term_t *weight) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  ir_value_t *w =
      moe_with_dims(b, moe_operand(e, weight), source->routes, 0, NULL);
  if (w == NULL) return NULL;
  ir_value_t *zero = ir_scalar(b, w->type.dtype, 0);
  ir_value_t *none = ir_scalar_int(b, DT_I64, source->experts);
  ir_value_t *nothing = ir_binary(b, OP_EQ, w, zero);
  return ir_select(b, nothing, none, expert);
}

/* out[tokens, features..] as the root lies. */
static ir_value_t *as_root(emitter_t *e, ir_value_t *sum) {
  const moe_found_t *found = e->found;
  const ir_type_t *type = &found->root->type;
  const expr_t *dim[IR_MAX_RANK];
  int64_t perm[IR_MAX_RANK], place[IR_MAX_RANK];
  unsigned n = 0;
  for (unsigned pass = 0; pass < 2; pass++)
    for (unsigned d = 0; d < type->rank; d++)
      if ((found->tag[d] == TAG_TOKEN) == (pass == 0)) {
        place[d] = n;
        dim[n++] = type->dim[d];
      }
  bool moves = false;
  for (unsigned d = 0; d < n; d++) {
    perm[d] = place[d];
    moves = moves || perm[d] != (int64_t)d;
  }
  sum = moe_with_dims(e->outer, sum, NULL, n, dim);
  return moves ? ir_transpose(e->outer, sum, perm) : sum;
}

/* y[routes, features..] as the root lies. */
static ir_value_t *as_routes(emitter_t *e, ir_value_t *y) {
  static const unsigned order[] = {TAG_TOKEN, TAG_SLOT, TAG_INNER};
  const ir_type_t *type = &e->found->root->type;
  const expr_t *dim[2 * IR_MAX_RANK], *first[2 * IR_MAX_RANK];
  uint8_t tag[2 * IR_MAX_RANK] = {0};
  int64_t perm[2 * IR_MAX_RANK];
  unsigned n = moe_split_type(e, type, e->found->tag, dim, tag), to = 0;
  bool moves = false;
  for (unsigned pass = 0; pass < 3; pass++)
    for (unsigned d = 0; d < n; d++) {
      if (tag[d] != order[pass]) continue;
      moves = moves || d != to;
      perm[d] = to;
      first[to++] = dim[d];
    }
  MOEC_ASSERT(to == n && n <= IR_MAX_RANK);
  y = moe_with_dims(e->outer, y, NULL, n, first);
  if (moves) y = ir_transpose(e->outer, y, perm);
  return moe_with_dims(e->outer, y, NULL, type->rank, type->dim);
}

/* The weights of routes whose expert the file lacks are nowhere read: where
 * conditions make weights 0, a token with such experts only may have 0 / 0. */
static ir_value_t *weights_of_present(emitter_t *e, ir_value_t *w,
                                      const moe_term_t *weight) {
  ir_builder_t *b = e->outer;
  const moe_found_t *found = e->found;
  const int64_t n = found->source->experts;
  bool all = true;
  for (int64_t i = 0; found->present != NULL && i < n; i++)
    all = all && found->present[i];
  if (all || found->form != MOE_FORM_LOOP || found->source->some ||
      weight->value == NULL || !moe_may_vanish(weight->value))
    return w;
  int64_t *present = ARENA_ARRAY(e->ctx->scratch, int64_t, (size_t)n);
  for (int64_t i = 0; i < n; i++) present[i] = found->present[i];
  ir_value_t *is_present =
      ir_cast(b, ir_ints(b, (unsigned)n, present), DT_BOOL);
  ir_value_t *expert =
      moe_with_dims(b, e->route_index, found->source->routes, 0, NULL);
  ir_value_t *own = ir_gather(b, is_present, expert, 0);
  return ir_select(b, own, w, ir_scalar(b, w->type.dtype, 0));
}

static ir_value_t *write_sum(emitter_t *e, ir_value_t *y,
                             const moe_term_t *weight) {
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  ir_value_t *in[3] = {y, NULL, e->token};
  unsigned n = e->token != NULL ? 3 : weight != NULL ? 2 : 1;
  if (weight != NULL) {
    in[1] = moe_operand(e, weight);
    if (in[1] == NULL) return NULL;
    in[1] = moe_with_dims(b, in[1], source->routes, 0, NULL);
    in[1] = weights_of_present(e, in[1], weight);
  } else if (n == 3) {
    ir_value_t *one = ir_scalar(b, y->type.dtype, 1);
    in[1] = ir_fill(b, one, 1, &source->routes);
  }
  ir_op_t *op = ir_begin(b, OP_MOE_COMBINE, n, in, 1);
  if (op == NULL) return NULL;
  if (e->token == NULL) ir_set_expr(op, ATTR_MOE_COMBINE_k, source->k);
  ir_set_expr(op, ATTR_MOE_COMBINE_tokens, source->tokens);
  return ir_place(b, op);
}

/* Of tokens that no expert has, what was there before. */
static ir_value_t *write_over(emitter_t *e, ir_value_t *sum) {
  const ir_type_t *type = &e->found->root->type;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < type->rank; d++)
    dim[d] =
        e->found->tag[d] == TAG_TOKEN ? type->dim[d] : expr_const(e->pool, 1);
  ir_builder_t *b = e->outer;
  const moe_source_t *source = e->found->source;
  ir_value_t *active = e->active;
  if (source->some || source->by_mask) { /* -1: none */
    ir_value_t *none = ir_scalar_int(b, DT_I64, -1);
    ir_value_t *named = ir_binary(b, OP_LT, none, e->route_index);
    named = moe_with_dims(b, named, source->routes, 0, NULL);
    active = active != NULL ? ir_binary(b, OP_AND, active, named) : named;
  }
  active = moe_with_dims(b, active, NULL, type->rank, dim);
  return ir_select(b, active, sum, e->now(e->user, e->found->over));
}

ir_op_t *moe_emit(pass_ctx_t *ctx, const moe_found_t *found,
                  moe_limits_t *limits,
                  ir_value_t *(*now)(void *user, ir_value_t *value), void *user,
                  ir_value_t **out_sum, const ir_op_t **out_limit) {
  ir_op_t *root = found->root->def;
  if (!pass_allow_rewrite(ctx, "moe", root)) return NULL;
  ir_builder_t b = {.module = ctx->module,
                    .region = root->parent,
                    .before = root,
                    .loc = root->loc,
                    .diag = ctx->diag};
  emitter_t e = {.ctx = ctx,
                 .found = found,
                 .limits = limits,
                 .now = now,
                 .user = user,
                 .pool = ctx->module->exprs,
                 .outer = &b};
  e.table = e.in_region;
  ir_value_t *expert = expert_numbers(&e);
  if (expert == NULL) return NULL;
  moe_term_t **term = ARENA_ARRAY(ctx->scratch, moe_term_t *, found->n_terms);
  const moe_term_t *weight = split_weights(&e, term);
  if (weight != NULL && moe_chooses_by_weight(found)) {
    expert = weighty_experts(&e, expert, weight);
    if (expert == NULL) return NULL;
  }
  ir_op_t *experts = write_experts(&e, term, expert);
  if (experts == NULL) return NULL;
  ir_value_t *sum = found->apart ? as_routes(&e, &experts->out[0])
                                 : write_sum(&e, &experts->out[0], weight);
  if (sum == NULL || b.status != MOEC_OK) return NULL;
  if (!found->apart) sum = as_root(&e, sum);
  if (found->over != NULL) sum = write_over(&e, sum);
  for (unsigned i = 0; i < found->n_rest; i++)
    sum = ir_binary(&b, OP_ADD, now(user, found->rest[i]), sum);
  if (b.status != MOEC_OK) return NULL;
  ir_replace_uses(found->root, sum);
  *out_sum = sum;
  *out_limit = e.limit;
  return experts;
}
