/* Facts of values: who makes them, and where the rules of each operation are.
 */
#include "passes/moe_rules.h"

enum { MAX_NESTED = 400 }; /* values that a fact may rest on, one on another */

moe_facts_t *moe_facts_create(arena_t *arena, ir_func_t *func) {
  moe_facts_t *facts = ARENA_NEW(arena, moe_facts_t);
  *facts = (moe_facts_t){.arena = arena, .func = func};
  facts->pool = func->module->exprs;
  facts->n_values = ir_count_values(func);
  facts->of = ARENA_ARRAY(arena, const moe_fact_t *, facts->n_values);
  facts->n_symbols = expr_n_symbols(facts->pool);
  facts->bound_by = ARENA_ARRAY(arena, const ir_op_t *, facts->n_symbols);
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    if (op->code != OP_BIND) continue;
    const expr_symbol_t *symbol =
        expr_as_symbol(ir_get_expr(op, ATTR_BIND_symbol));
    if (symbol != NULL && symbol->index < facts->n_symbols)
      facts->bound_by[symbol->index] = op;
  }
  return facts;
}

const moe_fact_t moe_no_fact = {.kind = FACT_NONE, .expert = -1, .slot = -1};

moe_fact_t *moe_fact_new(moe_facts_t *facts, moe_fact_kind_t kind,
                         const moe_source_t *source) {
  moe_fact_t *fact = ARENA_NEW(facts->arena, moe_fact_t);
  *fact =
      (moe_fact_t){.kind = kind, .source = source, .expert = -1, .slot = -1};
  return fact;
}

moe_fact_t *moe_fact_copy(moe_facts_t *facts, const moe_fact_t *fact) {
  moe_fact_t *copy = ARENA_NEW(facts->arena, moe_fact_t);
  *copy = *fact;
  return copy;
}

void moe_forget_on(moe_fact_t *gate) {
  gate->on = (moe_constant_t){false, 0};
  gate->at_route = NULL;
  gate->at_slot = NULL;
}

typedef const moe_fact_t *(*rule_fn)(moe_facts_t *facts, ir_value_t *value);

static rule_fn rule_of(const ir_op_t *op) {
  switch (op->code) {
    case OP_TOPK:
      return moe_rule_topk;
    case OP_ARG_MAX:
      return moe_rule_arg_max;
    case OP_EXPAND:
      return moe_rule_expand;
    case OP_RESHAPE:
      return moe_rule_reshape;
    case OP_TRANSPOSE:
      return moe_rule_transpose;
    case OP_SLICE:
      return moe_rule_slice;
    case OP_CONCAT:
      return moe_rule_concat;
    case OP_GATHER:
      return moe_rule_gather;
    case OP_GATHER_ELEMENTS:
      return moe_rule_gather_elements;
    case OP_SCATTER_ELEMENTS:
    case OP_SCATTER_ND:
      return moe_rule_scatter;
    case OP_NONZERO:
      return moe_rule_nonzero;
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
      return moe_rule_reduce;
    case OP_CUM_SUM:
      return moe_rule_cum_sum;
    case OP_PAD:
      return moe_rule_pad;
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
      return moe_rule_softmax;
    case OP_MATMUL:
      return moe_rule_matmul;
    case OP_IF:
      return moe_rule_if;
    default:
      return ir_has_trait(op, ELEMENTWISE) ? moe_rule_elementwise : NULL;
  }
}

const moe_fact_t *moe_fact(moe_facts_t *facts, ir_value_t *value) {
  if (value == NULL || value->type.kind != IR_TENSOR ||
      value->number >= facts->n_values)
    return &moe_no_fact;
  const moe_fact_t **slot = &facts->of[value->number];
  if (*slot != NULL) return *slot;
  if (value->def == NULL) return &moe_no_fact;
  rule_fn rule = rule_of(value->def);
  if (rule == NULL || facts->depth >= MAX_NESTED) return &moe_no_fact;
  *slot = &moe_no_fact;
  facts->depth++;
  const moe_fact_t *fact = rule(facts, value);
  facts->depth--;
  if (fact != NULL) *slot = fact;
  return *slot;
}

/* ---- Sizes --------------------------------------------------------------- */

/* A number that is bound as a size: behind a choice whose other side would end
 * the run, and without a lower limit that numbers of rows never reach. */
static ir_value_t *bound_number(ir_value_t *value) {
  for (;;) {
    const ir_op_t *op = value->def;
    int64_t number;
    if (op == NULL) return value;
    if (op->code == OP_SELECT && rule_splat_int(ir_in(op, 1), &number) &&
        number < 0)
      value = ir_in(op, 2);
    else if (op->code == OP_MAX && rule_splat_int(ir_in(op, 1), &number) &&
             number <= 0)
      value = ir_in(op, 0);
    else if (op->code == OP_MAX && rule_splat_int(ir_in(op, 0), &number) &&
             number <= 0)
      value = ir_in(op, 1);
    else
      return value;
  }
}

ir_value_t *moe_bound_value(moe_facts_t *facts, const expr_symbol_t *symbol,
                            int64_t *out_index) {
  if (symbol->index >= facts->n_symbols) return NULL;
  const ir_op_t *bind = facts->bound_by[symbol->index];
  if (bind == NULL) return NULL;
  *out_index = ir_get_int(bind, ATTR_BIND_index);
  return bound_number(ir_in(bind, 0));
}

const moe_fact_t *moe_fact_of_symbol(moe_facts_t *facts,
                                     const expr_symbol_t *symbol) {
  int64_t index;
  ir_value_t *value = moe_bound_value(facts, symbol, &index);
  if (value == NULL) return &moe_no_fact;
  const moe_fact_t *fact = moe_fact(facts, value);
  if (fact->kind != FACT_COUNT && fact->kind != FACT_BOUND) return &moe_no_fact;
  moe_fact_t *one = moe_fact_copy(facts, fact);
  one->first += index;
  return one;
}
