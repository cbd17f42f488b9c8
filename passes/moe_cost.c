/* What experts cost. Sizes may be symbolic; what does not fit an expression is
 * not known, so that a report never makes a compilation fail. */
#include "passes/layout.h"
#include "passes/moe_describe.h"
#include "passes/moe_sizes.h"

static const expr_t *count_of(expr_pool_t *pool, const ir_type_t *type) {
  const expr_t *count = expr_const(pool, 1);
  if (type->kind != IR_TENSOR) return NULL;
  for (unsigned i = 0; i < type->rank; i++)
    count = moe_times(pool, count, type->dim[i]);
  return count;
}

/* ---- Regions ------------------------------------------------------------- */

static bool has_rows(const ir_type_t *type, const expr_symbol_t *rows) {
  for (unsigned i = 0; rows != NULL && i < type->rank; i++)
    if (expr_mentions(type->dim[i], rows)) return true;
  return false;
}

/* How many products of numbers make one element of the result. */
static const expr_t *chain_of(expr_pool_t *pool, const ir_op_t *op) {
  const ir_type_t *type = &op->in[0].value->type;
  if (op->code != OP_CONVOLVE) return type->dim[type->rank - 1];
  const expr_t *chain = expr_const(pool, 1);
  type = &op->in[1].value->type; /* w[M, C, K..] */
  for (unsigned i = 1; i < type->rank; i++)
    chain = moe_times(pool, chain, type->dim[i]);
  return chain;
}

static bool is_product(const ir_op_t *op) {
  return op->code == OP_MATMUL || op->code == OP_PRODUCT ||
         op->code == OP_CONVOLVE;
}

/* A sum of products, as experts of rank one have it: the multiplication that
 * only such a sum uses, and the sum of one. */
static bool is_summed(const ir_op_t *op) {
  const ir_use_t *use = op->out[0].uses;
  return op->code == OP_MUL && use != NULL && use->next == NULL &&
         use->user->code == OP_REDUCE_SUM && use->index == 0;
}

static bool is_sum_of_products(const ir_op_t *op) {
  return op->code == OP_REDUCE_SUM && ir_in(op, 0)->def != NULL &&
         is_summed(ir_in(op, 0)->def);
}

static bool computes(const ir_op_t *op) {
  return ir_has_trait(op, ALONG) ||
         (ir_has_trait(op, ELEMENTWISE) && op->code != OP_CAST);
}

static moe_cost_t sum_of(expr_pool_t *pool, moe_cost_t a, moe_cost_t b) {
  return (moe_cost_t){moe_plus(pool, a.multiply_adds, b.multiply_adds),
                      moe_plus(pool, a.elementwise, b.elementwise),
                      moe_plus(pool, a.weight_bytes, b.weight_bytes)};
}

static moe_cost_t multiple_of(expr_pool_t *pool, moe_cost_t a,
                              const expr_t *n) {
  return (moe_cost_t){moe_times(pool, a.multiply_adds, n),
                      moe_times(pool, a.elementwise, n),
                      moe_times(pool, a.weight_bytes, n)};
}

static moe_cost_t layer_cost(ir_module_t *module, const ir_op_t *experts);

static void add_op(expr_pool_t *pool, const ir_op_t *op,
                   const expr_symbol_t *rows, moe_cost_t *cost) {
  if (op->code == OP_MOE_EXPERTS) { /* a layer for the rows */
    const expr_t *tokens = ir_get_expr(op, ATTR_MOE_EXPERTS_tokens);
    moe_cost_t layer = layer_cost(op->module, op);
    layer.multiply_adds = moe_times(pool, layer.multiply_adds, tokens);
    layer.elementwise = moe_times(pool, layer.elementwise, tokens);
    *cost = sum_of(pool, *cost, layer);
    return;
  }
  if (op->n_regions > 0) { /* how often they run is not known here */
    cost->multiply_adds = cost->elementwise = NULL;
    return;
  }
  if (op->n_out == 0) return;
  if (is_product(op)) {
    if (!has_rows(&op->out[0].type, rows)) return;
    const expr_t *count = count_of(pool, &op->out[0].type);
    const expr_t *all = moe_times(pool, count, chain_of(pool, op));
    cost->multiply_adds = moe_plus(pool, cost->multiply_adds, all);
  } else if (is_sum_of_products(op)) {
    if (!has_rows(&op->in[0].value->type, rows)) return;
    const expr_t *all = count_of(pool, &op->in[0].value->type);
    cost->multiply_adds = moe_plus(pool, cost->multiply_adds, all);
  } else if (computes(op) && !is_summed(op)) {
    /* Of a reduction the elements that go in. */
    const ir_type_t *type = ir_has_trait(op, ELEMENTWISE)
                                ? &op->out[0].type
                                : &op->in[0].value->type;
    if (!has_rows(type, rows)) return;
    const expr_t *count = count_of(pool, type);
    cost->elementwise = moe_plus(pool, cost->elementwise, count);
  }
}

/* The cost where there is one row. */
static const expr_t *of_one_row(ir_module_t *module, const expr_t *e,
                                const expr_symbol_t *rows) {
  expr_pool_t *pool = module->exprs;
  if (e == NULL || rows == NULL || !expr_mentions(e, rows)) return e;
  const expr_t **values =
      ARENA_ARRAY(module->arena, const expr_t *, expr_n_symbols(pool));
  values[rows->index] = expr_const(pool, 1);
  return expr_substitute(pool, e, values);
}

static void add_weight(expr_pool_t *pool, const ir_type_t *type,
                       moe_cost_t *cost) {
  const expr_t *bits = expr_const(pool, dtype_bits(type->dtype));
  const expr_t *all = moe_times(pool, count_of(pool, type), bits);
  int64_t n;
  if (all != NULL && expr_is_const(all, &n)) /* of packed types rounded up */
    all = expr_const(pool, n / 8 + (n % 8 != 0));
  else if (all != NULL)
    all = expr_ceildiv(pool, all, expr_const(pool, 8));
  cost->weight_bytes = moe_plus(pool, cost->weight_bytes, all);
}

/* Weights that are no banks: all experts of the region share them, or there is
 * only one. */
enum { MAX_WEIGHTS = 64 };
typedef struct weights {
  unsigned n;
  bool too_many;
  const ir_value_t *of[MAX_WEIGHTS];
} weights_t;

static void note_weight(weights_t *weights, const ir_region_t *region,
                        const ir_value_t *x) {
  if (x == NULL || x->def == NULL || x->type.kind != IR_TENSOR ||
      x->type.rank == 0 || !layout_is_constant(x) ||
      (x->def->parent == region && x->def->code != OP_CONSTANT))
    return;
  for (unsigned i = 0; i < weights->n; i++)
    if (weights->of[i] == x) return;
  weights->too_many = weights->too_many || weights->n == MAX_WEIGHTS;
  if (!weights->too_many) weights->of[weights->n++] = x;
}

/* Whether only the experts of a layer in the region have elements of it: that
 * layer counts those which are read. */
static bool is_bank_of_layer(const ir_value_t *arg) {
  for (const ir_use_t *use = arg->uses; use != NULL; use = use->next)
    if (use->user->code != OP_MOE_EXPERTS ||
        use->index < ir_moe_first_bank(use->user, 0))
      return false;
  return arg->uses != NULL;
}

moe_cost_t moe_region_cost(ir_module_t *module, const moe_region_t *region) {
  expr_pool_t *pool = module->exprs;
  const expr_t *zero = expr_const(pool, 0);
  moe_cost_t cost = {zero, zero, zero};
  const ir_region_t *r = region->region;
  weights_t weights = {.n = 0};
  for (const ir_op_t *op = r->first; op != NULL && op != r->last;
       op = op->next) {
    add_op(pool, op, region->rows, &cost);
    for (unsigned i = 0; i < op->n_in; i++)
      note_weight(&weights, r, op->in[i].value);
  }
  for (unsigned i = 0; i < weights.n; i++)
    add_weight(pool, &weights.of[i]->type, &cost);
  for (unsigned i = region->token_values + region->route_values; i < r->n_args;
       i++)
    if (!is_bank_of_layer(&r->args[i]))
      add_weight(pool, &r->args[i].type, &cost);
  if (weights.too_many) cost.weight_bytes = NULL;
  cost.multiply_adds = of_one_row(module, cost.multiply_adds, region->rows);
  cost.elementwise = of_one_row(module, cost.elementwise, region->rows);
  return cost;
}

/* ---- Layers -------------------------------------------------------------- */

/* The larger one where that is known, else their maximum. */
static const expr_t *larger(expr_pool_t *pool, const expr_t *a,
                            const expr_t *b) {
  if (a == NULL || b == NULL) return NULL;
  if (a->size + b->size > EXPR_MAX_SIZE / 4 || a->depth > EXPR_MAX_DEPTH / 2 ||
      b->depth > EXPR_MAX_DEPTH / 2)
    return NULL;
  return expr_max(pool, a, b);
}

/* Costs that are multiples of one size. */
typedef struct multiples {
  const expr_t *of;
  int64_t *cost;
} multiples_t;

static bool find_multiples(expr_pool_t *pool, unsigned n,
                           const expr_t *const *each, multiples_t *out) {
  out->of = NULL;
  for (unsigned i = 0; i < n; i++) {
    const expr_t *e = each[i];
    if (e == NULL) return false;
    if (expr_equals_const(e, 0)) continue;
    if (e->n_terms != 1 || e->terms[0].coefficient <= 0) return false;
    out->cost[i] = e->terms[0].coefficient;
    const expr_t *of =
        expr_divide_exactly(pool, e, expr_const(pool, out->cost[i]));
    if (of == NULL || (out->of != NULL && of != out->of)) return false;
    out->of = of;
  }
  return true;
}

/* What k experts cost at most, of which n_users[i] cost each[i]. */
static const expr_t *costliest(expr_pool_t *pool, arena_t *arena, unsigned n,
                               const expr_t *const *each,
                               const int64_t *n_users, const expr_t *k) {
  int64_t left, most = INT64_MAX;
  const expr_t *sum = expr_const(pool, 0), *largest = sum;
  multiples_t m = {.cost = ARENA_ARRAY(arena, int64_t, n + 1)};
  if (k == NULL || !expr_is_const(k, &left) ||
      !find_multiples(pool, n, each, &m)) {
    for (unsigned i = 0; i < n; i++) largest = larger(pool, largest, each[i]);
    return moe_times(pool, largest, k);
  }
  while (left > 0 && most > 0) { /* those that cost the same, in descent */
    int64_t next = 0, users = 0;
    for (unsigned i = 0; i < n; i++) {
      if (m.cost[i] >= most || m.cost[i] < next) continue;
      users = n_users[i] + (m.cost[i] == next ? users : 0);
      next = m.cost[i];
    }
    users = users < left ? users : left;
    if (next > 0)
      sum = moe_plus(pool, sum,
                     moe_times(pool, m.of,
                               moe_times(pool, expr_const(pool, next),
                                         expr_const(pool, users))));
    left -= users;
    most = next;
  }
  return sum;
}

/* What the costliest k experts of a layer cost for one token; *out_sum, if not
 * NULL: what all of them cost. */
static moe_cost_t experts_cost(ir_module_t *module, arena_t *arena,
                               const ir_op_t *experts, const int64_t *users,
                               const expr_t *k, moe_cost_t *out_sum) {
  expr_pool_t *pool = module->exprs;
  const expr_t *zero = expr_const(pool, 0);
  moe_cost_t sum = {zero, zero, zero};
  unsigned n = experts->n_regions;
  const expr_t **each[3];
  for (unsigned i = 0; i < 3; i++) {
    each[i] = ARENA_ARRAY(arena, const expr_t *, n + 1);
    for (unsigned j = 0; j < n; j++) each[i][j] = zero;
  }
  for (unsigned i = 0; i < n; i++) {
    if (users[i] == 0) continue;
    const moe_region_t region = moe_region_of(experts, i);
    const moe_cost_t cost = moe_region_cost(module, &region);
    each[0][i] = cost.multiply_adds;
    each[1][i] = cost.elementwise;
    each[2][i] = cost.weight_bytes;
    sum =
        sum_of(pool, sum, multiple_of(pool, cost, expr_const(pool, users[i])));
  }
  if (out_sum != NULL) *out_sum = sum;
  return (moe_cost_t){costliest(pool, arena, n, each[0], users, k),
                      costliest(pool, arena, n, each[1], users, k),
                      costliest(pool, arena, n, each[2], users, k)};
}

static moe_work_t work_of(moe_cost_t cost) {
  return (moe_work_t){.multiply_adds = cost.multiply_adds,
                      .elementwise = cost.elementwise,
                      .weight_bytes = cost.weight_bytes};
}

/* How many experts compute each region, and at the end how many give zero. */
static int64_t *count_users(const ir_op_t *experts, arena_t *arena) {
  unsigned n;
  const int64_t *structure =
      ir_get_ints(experts, ATTR_MOE_EXPERTS_structure, &n);
  int64_t *users = ARENA_ARRAY(arena, int64_t, experts->n_regions + 1);
  for (unsigned e = 0; e < n; e++) {
    const bool none = structure[e] < 0 || structure[e] >= experts->n_regions;
    users[none ? experts->n_regions : (uint64_t)structure[e]]++;
  }
  return users;
}

static moe_cost_t layer_cost(ir_module_t *module, const ir_op_t *experts) {
  const expr_t *k = ir_has_attr(experts, ATTR_MOE_EXPERTS_k)
                        ? ir_get_expr(experts, ATTR_MOE_EXPERTS_k)
                        : NULL;
  const int64_t *users = count_users(experts, module->arena);
  return experts_cost(module, module->arena, experts, users, k, NULL);
}

/* "f, 32 -> 32" of all; "f of 6 experts; identity of 2" of several kinds. */
static const char *structures_of(moe_report_t *report, const ir_op_t *experts,
                                 const int64_t *users, unsigned n_structures) {
  enum { MAX_TOLD = 6 };
  text_t out;
  unsigned told = 0;
  text_init(&out, report->arena);
  for (unsigned i = 0; i <= experts->n_regions; i++) {
    if (users[i] == 0) continue;
    if (told == MAX_TOLD) {
      text_printf(&out, "; %u more", n_structures - told);
      break;
    }
    text_printf(&out, "%s", told++ > 0 ? "; " : "");
    if (i == experts->n_regions) {
      text_printf(&out, "zero");
    } else {
      const moe_region_t region = moe_region_of(experts, i);
      text_printf(&out, "%s", moe_describe_region(report->arena, &region));
    }
    if (n_structures > 1)
      text_printf(&out, " of %lld expert%s", (long long)users[i],
                  users[i] == 1 ? "" : "s");
  }
  return out.data;
}

void moe_describe_experts(moe_report_t *report, moe_layer_t *layer,
                          const ir_op_t *experts, bool all) {
  if (layer == NULL) return;
  ir_module_t *module = experts->module;
  expr_pool_t *pool = module->exprs;
  const int64_t *users = count_users(experts, report->arena);
  unsigned n = experts->n_regions;
  layer->n_structures = users[n] > 0;
  for (unsigned i = 0; i < n; i++) layer->n_structures += users[i] > 0;
  layer->experts = ir_get_int(experts, ATTR_MOE_EXPERTS_experts);
  layer->structure = structures_of(report, experts, users, layer->n_structures);
  const expr_t *k = ir_has_attr(experts, ATTR_MOE_EXPERTS_k)
                        ? ir_get_expr(experts, ATTR_MOE_EXPERTS_k)
                        : NULL;
  if (k != NULL && !expr_is_const(k, &layer->k)) layer->k = 0;
  if (k == NULL && layer->k > 0) k = expr_const(pool, layer->k);
  moe_cost_t sum;
  layer->after =
      work_of(experts_cost(module, report->arena, experts, users, k, &sum));
  layer->before = all ? work_of(sum) : layer->after;
}
