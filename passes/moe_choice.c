/* Experts that choose their tokens.
 *
 * The greatest scores of each expert over all tokens name its rows: index[e, c]
 * is the token of row c of expert e. These rows are read like the places of
 * buffers, of which each has a token; a scatter adds them to their tokens. */
#include "passes/moe_choice.h"

#include <float.h>

#include "passes/moe_read.h"
#include "passes/moe_rules.h"

/* What is added: rows[index dimensions.., features..]. False where the scatter
 * does not take whole rows. */
static bool updates_tags(const ir_op_t *op, const moe_fact_t *index,
                         uint8_t *tag) {
  const ir_type_t *at = &ir_in(op, 1)->type, *rows = &ir_in(op, 2)->type;
  const ir_type_t *to = &op->out[0].type;
  unsigned lead = 1;
  if (op->code == OP_SCATTER_ELEMENTS) {
    if (ir_get_int(op, ATTR_SCATTER_ELEMENTS_axis) != 0) return false;
  } else {
    if (at->rank < 2 || !rule_is_one(at->dim[at->rank - 1])) return false;
    lead = at->rank - 1;
  }
  if (rows->rank < lead || rows->rank - lead + 1 != to->rank) return false;
  for (unsigned d = 0; d < rows->rank; d++) {
    tag[d] = d < lead ? index->tag[d] : TAG_INNER;
    if (d >= lead && rows->dim[d] != to->dim[d - lead + 1]) return false;
  }
  return moe_tag_union(lead, tag) == (TAG_EXPERT | TAG_PLACE);
}

moe_found_t *moe_match_choice(moe_builder_t *b, const ir_op_t *op,
                              const moe_source_t *source) {
  const moe_fact_t *index = moe_fact(b->facts, ir_in(op, 1));
  ir_value_t *root = (ir_value_t *)&op->out[0], *into = ir_in(op, 0);
  uint8_t tag[IR_MAX_RANK], root_tag[IR_MAX_RANK];
  if (index->kind != FACT_CHOICE || index->source != source ||
      !rule_scatters_by(op, "add") || root->type.rank == 0 ||
      root->type.dim[0] != source->tokens || !updates_tags(op, index, tag)) {
    moe_fail(b, op, "rows are added to the tokens that were chosen");
    return NULL;
  }
  for (unsigned d = 0; d < root->type.rank; d++)
    root_tag[d] = d == 0 ? TAG_TOKEN : TAG_INNER;
  moe_term_t *term = moe_build(b, ir_in(op, 2), tag,
                               moe_layout(b, LAYOUT_BUFFER, source, NULL, -1));
  if (term == NULL) return NULL;
  moe_found_t *found =
      moe_new_found(b, root, root_tag, source, term, MOE_FORM_CHOICE, NULL);
  double zero;
  if (found == NULL || (moe_fill_number(into, &zero) && zero == 0))
    return found;
  found->rest = ARENA_ARRAY(b->arena, ir_value_t *, 1);
  found->rest[found->n_rest++] = into;
  return found;
}

moe_term_t *moe_read_chosen(moe_builder_t *b, const ir_op_t *op,
                            const uint8_t *from, const uint8_t *at,
                            const moe_fact_t *fact) {
  ir_value_t *x = ir_in(op, 0);
  for (unsigned d = 0; d < ir_in(op, 1)->type.rank; d++)
    if (at[d] != fact->tag[d] && !rule_is_one(ir_in(op, 1)->type.dim[d]))
      return NULL;
  int axis = moe_tag_find(x->type.rank, from, TAG_TOKEN);
  return x->type.dim[axis] == fact->source->tokens
             ? moe_term_leaf(b->terms, TERM_TOKEN, x, from)
             : NULL;
}

int64_t moe_experts_per_token(const moe_source_t *source) {
  enum { MANY = 1 << 20 };
  int64_t k, rows;
  if (!source->chooses) return expr_is_const(source->k, &k) ? k : 0;
  if (expr_is_const(source->tokens, &k) && k > 0)
    return expr_is_const(source->routes, &rows) && rows % k == 0 ? rows / k : 0;
  /* of so many tokens, where their number is all that counts */
  const expr_symbol_t *tokens = expr_as_symbol(source->tokens);
  if (tokens == NULL) return 0;
  enum { MAX_SYMBOLS = 256 };
  int64_t value[MAX_SYMBOLS];
  if (tokens->index >= MAX_SYMBOLS) return 0;
  for (unsigned i = 0; i < MAX_SYMBOLS; i++) value[i] = 1;

  value[tokens->index] = MANY;
  if (!expr_evaluate(source->routes, value, &rows)) return 0;
  k = (rows + MANY / 2) / MANY;
  int64_t rest = rows - k * MANY;
  return rest < MANY / 64 && rest > -MANY / 64 ? k : 0;
}

/* Copies of 0, or of -inf or the lowest number: scores that count for nothing.
 */
static bool is_nothing(const ir_value_t *value, bool low) {
  double x;
  return moe_fill_number(value, &x) && (low ? x <= -(double)FLT_MAX : x == 0);
}

static bool may_vanish(const ir_value_t *value, bool low, unsigned *steps);

/* Whether one of two operands may, or both. */
static bool may_operands(const ir_op_t *op, bool low, bool all,
                         unsigned *steps) {
  bool first = may_vanish(op->in[0].value, low, steps);
  return first == all ? may_vanish(op->in[1].value, low, steps) : first;
}

/* Whether conditions make elements 0, or (`low`) lower than all others. */
static bool may_vanish(const ir_value_t *value, bool low, unsigned *steps) {
  const ir_op_t *op = value->def;
  if (op == NULL || op->n_in == 0 || *steps == 0) return false;
  --*steps;
  const ir_value_t *x = op->in[0].value;
  double zero;
  switch (op->code) {
    case OP_SELECT:
      return is_nothing(op->in[1].value, low) ||
             is_nothing(op->in[2].value, low) ||
             may_vanish(op->in[1].value, low, steps) ||
             may_vanish(op->in[2].value, low, steps);
    case OP_CAST:
      return (!low && x->type.dtype == DT_BOOL) || may_vanish(x, low, steps);
    case OP_MAX:
      return !low && rule_splat_float(op->in[1].value, &zero) && zero == 0;
    case OP_MUL:
      return !low && may_operands(op, low, false, steps);
    case OP_ADD:
      return may_operands(op, low, !low, steps);
    case OP_LOG:
      return low && may_vanish(x, false, steps);
    case OP_SOFTMAX:
    case OP_EXP:
      return !low && may_vanish(x, true, steps);
    case OP_DIV:
    case OP_POW:
    case OP_REDUCE_SUM:
    case OP_REDUCE_PROD:
      return !low && may_vanish(x, low, steps);
    case OP_SCATTER_ELEMENTS:
      return may_vanish(op->in[2].value, low, steps);
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_GATHER_ELEMENTS:
      return may_vanish(x, low, steps);
    default:
      return false;
  }
}

bool moe_may_vanish(const ir_value_t *weight) {
  unsigned steps = 64;
  return may_vanish(weight, false, &steps);
}
