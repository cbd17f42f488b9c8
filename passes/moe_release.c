/* Sizes that are not needed any more.
 *
 * Experts' numbers of rows were sizes; where nothing has them now, what
 * computed them can go. They never break a limit, and what was compared with
 * them holds. */
#include "passes/moe_release.h"

#include "passes/moe_build.h"
#include "passes/moe_rules.h"
#include "passes/rules.h"

/* An expression of other sizes under a name of its own. */
static bool is_alias(moe_facts_t *facts, const ir_op_t *bind) {
  const expr_symbol_t *symbol =
      expr_as_symbol(ir_get_expr(bind, ATTR_BIND_symbol));
  const ir_value_t *value = ir_in(bind, 0);
  int64_t lower;
  if (value->content == NULL) return false;
  const expr_t *e = value->content[ir_get_int(bind, ATTR_BIND_index)];
  if (!expr_lower_bound(e, &lower) || lower < symbol->lower) return false;
  if (symbol->upper == NULL) return true;
  const moe_source_t *source = moe_source_of_size(facts, e);
  const expr_t *most = expr_max(facts->pool, e, symbol->upper);
  return source != NULL &&
         moe_are_equal(facts, source, -1, most, symbol->upper);
}

/* How many elements of a mask are true: never more than it has. */
static bool counts_mask(const ir_op_t *bind) {
  const expr_symbol_t *symbol =
      expr_as_symbol(ir_get_expr(bind, ATTR_BIND_symbol));
  const ir_op_t *sum = ir_in(bind, 0)->def;
  if (sum == NULL || sum->code != OP_REDUCE_SUM ||
      !rule_has_one_element(&sum->out[0].type))
    return false;
  const ir_op_t *cast = ir_in(sum, 0)->def;
  if (cast == NULL || cast->code != OP_CAST ||
      ir_in(cast, 0)->type.dtype != DT_BOOL)
    return false;
  const expr_t *most =
      ir_type_count(bind->module->exprs, &ir_in(cast, 0)->type);
  return symbol->lower <= 0 && (symbol->upper == NULL || symbol->upper == most);
}

/* Counts added up: never negative. */
static bool sums_counts(moe_facts_t *facts, const ir_op_t *bind) {
  enum { MAX_STEPS = 1 << 12 };
  const expr_symbol_t *symbol =
      expr_as_symbol(ir_get_expr(bind, ATTR_BIND_symbol));
  ir_value_t *value = ir_in(bind, 0);
  for (unsigned i = 0; i < MAX_STEPS; i++) {
    const moe_fact_t *fact = moe_fact(facts, value);
    if (fact->kind == FACT_COUNT || fact->kind == FACT_BOUND)
      return symbol->lower <= 0 && symbol->upper == NULL;
    const ir_op_t *op = value->def;
    if (op == NULL || !rule_has_one_element(&value->type)) return false;
    if (op->code == OP_ADD && moe_fact(facts, ir_in(op, 1))->kind != FACT_COUNT)
      return false;
    if (op->code != OP_ADD && op->code != OP_RESHAPE) return false;
    value = ir_in(op, 0);
  }
  return false;
}

void moe_release_sizes(moe_facts_t *facts, ir_func_t *func) {
  ir_op_t *next;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = next) {
    next = ir_walk_next(op);
    if (op->code == OP_BIND) {
      const expr_symbol_t *symbol =
          expr_as_symbol(ir_get_expr(op, ATTR_BIND_symbol));
      if (moe_fact_of_symbol(facts, symbol)->kind != FACT_NONE ||
          is_alias(facts, op) || counts_mask(op) || sums_counts(facts, op))
        ir_set_int(op, ATTR_BIND_sure, 1);
    } else if (op->code == OP_CHECK_EQUAL) {
      const expr_t *a = ir_get_expr(op, ATTR_CHECK_EQUAL_a);
      const expr_t *b = ir_get_expr(op, ATTR_CHECK_EQUAL_b);
      const moe_source_t *source = moe_source_of_size(facts, a);
      if (source == NULL) source = moe_source_of_size(facts, b);
      if (source != NULL && moe_are_equal(facts, source, -1, a, b))
        ir_erase(op);
    }
  }
}
