/* Rows of one expert among the sorted ones: what numbers them, and what has the
 * tokens or routes of them. */
#include "passes/moe_build.h"
#include "passes/moe_rules.h"

enum { MAX_VIEWS = 8 };

/* What an index is a view of, or copies along features of; as of all expansions
 * of rows, those of a single row are taken for none. NULL: of nothing. */
static const ir_value_t *behind_view(const ir_value_t *index) {
  const ir_op_t *op = index->def;
  if (op == NULL || (op->code != OP_RESHAPE && op->code != OP_EXPAND))
    return NULL;
  const ir_value_t *from = ir_in(op, 0);
  if (index->type.rank == 0 || from->type.rank == 0) return NULL;
  bool same = from->type.dim[0] == index->type.dim[0];
  bool copies = op->code == OP_EXPAND && from->type.rank == index->type.rank &&
                !rule_is_one(from->type.dim[0]);
  return copies || (op->code == OP_RESHAPE && same) ? from : NULL;
}

/* ---- Masks of all experts ------------------------------------------------ */

bool moe_sorts_experts(moe_facts_t *facts, const ir_op_t *space) {
  if (space == NULL || space->code != OP_NONZERO) return false;
  const ir_value_t *mask = ir_in(space, 0);
  const moe_fact_t *gate = moe_fact(facts, ir_in(space, 0));
  unsigned seen = 0;
  if (gate->kind != FACT_GATE || gate->expert >= 0 || gate->space != NULL ||
      gate->places != NULL || gate->source->chooses || !gate->off.known ||
      gate->off.x != 0 || !gate->on.known || gate->on.x == 0)
    return false;
  for (unsigned d = 0; d < mask->type.rank; d++) {
    const unsigned tag = gate->tag[d];
    if (rule_is_one(mask->type.dim[d]) && tag == TAG_INNER) continue;
    if (seen == 0 ? (tag & TAG_EXPERT) == 0 : (tag & TAG_EXPERT) != 0)
      return false;
    if ((tag & ~(unsigned)(TAG_EXPERT | TAG_TOKEN | TAG_SLOT)) != 0)
      return false;
    seen |= tag;
  }
  bool once = (seen & TAG_SLOT) != 0 || gate->source->distinct;
  return once && (seen & TAG_TOKEN) != 0 &&
         ir_type_count(facts->pool, &mask->type) ==
             expr_mul(facts->pool,
                      (seen & TAG_SLOT) != 0 ? gate->source->routes
                                             : gate->source->tokens,
                      expr_const(facts->pool, gate->source->experts));
}

bool moe_is_pair(moe_facts_t *facts, const moe_fact_t *fact) {
  if (fact->kind != FACT_ROUTE || fact->linear == NULL ||
      fact->linear->by != NULL || !moe_sorts_experts(facts, fact->space))
    return false;
  const ir_type_t *mask = &ir_in(fact->space, 0)->type;
  const moe_fact_t *gate = moe_fact(facts, ir_in(fact->space, 0));
  for (unsigned d = 0; d < mask->rank; d++)
    if (rule_is_one(mask->dim[d])
            ? gate->tag[d] != TAG_INNER
            : gate->tag[d] != (TAG_EXPERT | TAG_TOKEN) ||
                  !rule_is_one(fact->linear->coefficient[d]))
      return false;
  return true;
}

const moe_fact_t *moe_coordinate(moe_facts_t *facts, moe_fact_t *fact) {
  if (!moe_sorts_experts(facts, fact->space)) return fact;
  const ir_type_t *mask = &ir_in(fact->space, 0)->type;
  const moe_fact_t *gate = moe_fact(facts, ir_in(fact->space, 0));
  for (unsigned d = 0; d < mask->rank; d++)
    if (!rule_is_one(mask->dim[d]) &&
        !expr_equals_const(fact->linear->coefficient[d],
                           gate->tag[d] == TAG_EXPERT ? 1 : 0))
      return fact;
  fact->kind = FACT_EXPERT;
  fact->coordinate = fact->linear;
  fact->linear = NULL;
  return fact;
}

/* Whether a flat value [n * tokens] has the token at each: 0, 1, .. n times. */
static bool repeats_tokens(const ir_value_t *value, const moe_source_t *source,
                           const expr_t *n) {
  const ir_op_t *op = value->def;
  if (value->type.rank != 1 || op == NULL || op->code != OP_RESHAPE)
    return false;
  op = ir_in(op, 0)->def;
  while (op != NULL && op->code == OP_CAST) op = ir_in(op, 0)->def;
  if (op == NULL || op->code != OP_EXPAND) return false;
  const ir_type_t *to = &op->out[0].type;
  const ir_value_t *from = ir_in(op, 0);
  const unsigned rank = from->type.rank;
  if (to->rank != 2 || to->dim[0] != n || to->dim[1] != source->tokens ||
      rank == 0 || from->type.dim[rank - 1] != source->tokens ||
      (rank == 2 && !rule_is_one(from->type.dim[0])))
    return false;
  op = from->def;
  while (op != NULL && (op->code == OP_CAST || op->code == OP_RESHAPE))
    op = ir_in(op, 0)->def;
  return op != NULL && op->code == OP_IOTA;
}

moe_fact_t *moe_token_by_table(moe_facts_t *facts, const ir_value_t *table,
                               const moe_fact_t *route) {
  if (route->kind != FACT_ROUTE || route->space == NULL) return NULL;
  if (moe_is_token_of_route(table, route->source))
    return moe_token_of(facts, route);
  bool turned = (moe_route_tag(facts, route) & TAG_TURNED) != 0;
  return turned && repeats_tokens(table, route->source, route->source->k)
             ? moe_token_left(facts, route)
             : NULL;
}

moe_fact_t *moe_token_of_pair(moe_facts_t *facts, const ir_value_t *of,
                              const moe_fact_t *pair) {
  if (!moe_is_pair(facts, pair) ||
      (of != NULL &&
       !repeats_tokens(of, pair->source,
                       expr_const(facts->pool, pair->source->experts))))
    return NULL;
  moe_fact_t *out = moe_fact_copy(facts, pair);
  out->kind = FACT_TOKEN;
  out->linear = NULL;
  return out;
}

/* ---- Numbers of rows ----------------------------------------------------- */

/* Where a mask of all sorted rows names one expert: these lie side by side. */
static bool masked_rows(moe_facts_t *facts, const ir_value_t *index,
                        moe_own_rows_t *out) {
  const moe_fact_t *fact = moe_fact(facts, (ir_value_t *)index);
  if (fact->kind != FACT_ROUTE || fact->linear == NULL ||
      fact->linear->by != NULL || fact->space->code != OP_NONZERO)
    return false;
  const ir_value_t *mask = ir_in(fact->space, 0);
  const moe_fact_t *gate = moe_fact(facts, ir_in(fact->space, 0));
  if (gate->kind != FACT_GATE || gate->space == NULL || gate->expert < 0 ||
      !gate->off.known || gate->off.x != 0 || !gate->on.known ||
      gate->on.x == 0 || gate->places != NULL)
    return false;
  for (unsigned d = 0; d < mask->type.rank; d++) {
    bool rows = gate->tag[d] == TAG_ROW;
    if (rows ? !rule_is_one(fact->linear->coefficient[d])
             : !rule_is_one(mask->type.dim[d]))
      return false;
  }
  if (moe_tag_find(mask->type.rank, gate->tag, TAG_ROW) < 0) return false;
  *out = (moe_own_rows_t){gate->source, gate->space, gate->expert};
  return true;
}

/* start, start + 1, ..: numbers of the rows of whatever is sorted. */
static bool counted_rows(moe_facts_t *facts, const ir_value_t *index,
                         moe_own_rows_t *out) {
  const ir_op_t *op = index->def;
  const moe_fact_t *start = NULL;
  if (op == NULL || index->type.rank != 1) return false;
  for (unsigned i = 0; op->code == OP_ADD && i < 2; i++) {
    start = moe_fact(facts, ir_in(op, i));
    if (start->kind != FACT_BOUND || !rule_has_one_element(&ir_in(op, i)->type))
      continue;
    op = ir_in(op, 1 - i)->def;
    if (op == NULL || op->code != OP_IOTA ||
        !moe_is_count(facts, start->source, start->first, index->type.dim[0]))
      return false;
    *out = (moe_own_rows_t){start->source, NULL, start->first};
    return true;
  }
  const expr_t *first = expr_const(facts->pool, 0);
  const expr_t *length = index->type.dim[0];
  if (op->code == OP_SLICE) {
    unsigned n;
    first = ir_get_exprs(op, ATTR_SLICE_start, &n)[0];
    if (!rule_is_one(ir_get_exprs(op, ATTR_SLICE_step, &n)[0])) return false;
    op = ir_in(op, 0)->def;
  }
  if (op == NULL || op->code != OP_IOTA) return false;
  const moe_source_t *source = moe_source_of_size(facts, length);
  if (source == NULL) source = moe_source_of_size(facts, first);
  int64_t expert =
      source != NULL ? moe_expert_of_range(facts, source, first, length) : -1;
  *out = (moe_own_rows_t){source, NULL, expert};
  return expert >= 0;
}

bool moe_own_rows(moe_facts_t *facts, const ir_value_t *index,
                  moe_own_rows_t *out) {
  for (unsigned i = 0; i < MAX_VIEWS && index != NULL; i++) {
    if (masked_rows(facts, index, out) || counted_rows(facts, index, out))
      return true;
    index = behind_view(index);
  }
  return false;
}

bool moe_are_own_rows(moe_facts_t *facts, const ir_value_t *index,
                      const moe_layout_t *group) {
  moe_own_rows_t rows;
  return moe_own_rows(facts, index, &rows) && rows.source == group->source &&
         rows.expert == group->expert &&
         (rows.space == NULL || rows.space == group->space);
}

/* ---- Rows of masks, one behind the other ----------------------------------
 */

const moe_fact_t *moe_joined_masks(moe_facts_t *facts, const ir_op_t *op) {
  const moe_fact_t *first = moe_fact(facts, ir_in(op, 0));
  unsigned tag = 0;
  if (op->out[0].type.rank != 1 || first->source == NULL ||
      (int64_t)op->n_in != first->source->experts)
    return NULL;
  for (unsigned e = 0; e < op->n_in; e++) {
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, e));
    unsigned own = fact->kind == FACT_ROUTE && fact->linear != NULL
                       ? moe_route_tag(facts, fact)
                       : 0;
    if (own == 0 || fact->source != first->source || fact->expert != e ||
        (e > 0 && own != tag))
      return NULL;
    const moe_fact_t *mask = moe_fact(facts, ir_in(fact->space, 0));
    if (!mask->on.known || mask->on.x == 0 || mask->space != NULL) return NULL;
    tag = own;
  }
  moe_fact_t *out = moe_fact_new(facts, FACT_ROUTE, first->source);
  out->space = op;
  out->tag[0] = TAG_ROW;
  out->turned = (tag & TAG_TURNED) != 0;
  return out;
}

const moe_layout_t *moe_group_layout(moe_builder_t *b,
                                     const moe_layout_t *sorted,
                                     int64_t expert) {
  const ir_op_t *space = sorted->space;
  if (space->code != OP_CONCAT)
    return moe_layout(b, LAYOUT_GROUP, sorted->source, space, expert);
  const moe_fact_t *own = moe_fact(b->facts, ir_in(space, (unsigned)expert));
  return moe_layout(b, LAYOUT_ROWS, sorted->source, own->space, expert);
}

/* ---- Tokens and routes of rows ------------------------------------------- */

/* Numbers of all sorted tokens or routes. */
static bool is_sorted(moe_facts_t *facts, const moe_fact_t *fact,
                      const ir_type_t *type) {
  if ((fact->kind != FACT_TOKEN && fact->kind != FACT_ROUTE) ||
      fact->space == NULL || fact->tag[0] != TAG_ROW ||
      (fact->linear != NULL && !moe_sorts_experts(facts, fact->space)))
    return false;
  for (unsigned d = 1; d < type->rank; d++)
    if (!rule_is_one(type->dim[d])) return false;
  return true;
}

static const moe_fact_t *sliced_group(moe_facts_t *facts, const ir_op_t *op,
                                      int64_t *out_expert) {
  ir_value_t *all = ir_in(op, 0);
  const moe_fact_t *fact = moe_fact(facts, all);
  unsigned n;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *length = ir_get_exprs(op, ATTR_SLICE_length, &n);
  const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
  if (!is_sorted(facts, fact, &all->type) || !rule_is_one(step[0]))
    return &moe_no_fact;
  *out_expert = moe_expert_of_range(facts, fact->source, start[0], length[0]);
  return *out_expert >= 0 ? fact : &moe_no_fact;
}

/* Of all sorted numbers those of one expert's rows, or of what all routes have
 * that of a group of them. */
static const moe_fact_t *gathered_group(moe_facts_t *facts, const ir_op_t *op,
                                        int64_t *out_expert) {
  ir_value_t *all = ir_in(op, 0);
  const moe_fact_t *fact = moe_fact(facts, all);
  int64_t axis = ir_get_int(op, ATTR_GATHER_axis);
  moe_own_rows_t rows;
  if ((axis != 0 && axis != -(int64_t)all->type.rank) || all->type.rank == 0)
    return &moe_no_fact;
  if (is_sorted(facts, fact, &all->type)) {
    if (!moe_own_rows(facts, ir_in(op, 1), &rows) ||
        rows.source != fact->source ||
        (rows.space != NULL && rows.space != fact->space))
      return &moe_no_fact;
    *out_expert = rows.expert;
    return fact;
  }
  if (all->type.rank != 1) return &moe_no_fact;
  const moe_fact_t *of = moe_group_of(facts, ir_in(op, 1), out_expert);
  const moe_fact_t *token = moe_token_by_table(facts, all, of);
  return token != NULL ? token : &moe_no_fact;
}

/* What a division or its rest leaves of a group's numbers. */
static const moe_fact_t *divided_group(moe_facts_t *facts, const ir_op_t *op,
                                       int64_t *out_expert) {
  const moe_fact_t *of = moe_group_of(facts, ir_in(op, 0), out_expert);
  const expr_t *by = moe_known_number(ir_in(op, 1));
  const moe_fact_t *token = NULL;
  if (of->kind != FACT_ROUTE || by == NULL) return &moe_no_fact;
  if (op->code == OP_DIV && by == of->source->k)
    token = moe_token_of(facts, of);
  else if (op->code == OP_MOD && by == of->source->tokens)
    token = moe_token_left(facts, of);
  return token != NULL ? token : &moe_no_fact;
}

/* Multiples and sums of numbers that one expert's rows have in a mask. */
static const moe_fact_t *linear_group(moe_facts_t *facts, const ir_op_t *op,
                                      int64_t *out_expert) {
  const moe_fact_t *of[2], *out = NULL;
  int64_t expert[2] = {-1, -1};
  for (unsigned i = 0; i < 2; i++)
    of[i] = moe_group_of(facts, ir_in(op, i), &expert[i]);
  unsigned base = of[0]->kind != FACT_NONE ? 0 : 1;
  if (of[base]->kind == FACT_NONE ||
      !rule_same_dims(&ir_in(op, base)->type, &op->out[0].type))
    return &moe_no_fact;
  if (op->code == OP_MUL)
    out = moe_linear_times(facts, of[base],
                           moe_known_number(ir_in(op, 1 - base)));
  else if (expert[0] == expert[1] &&
           rule_same_dims(&ir_in(op, 1 - base)->type, &op->out[0].type))
    out = moe_linear_sum(facts, of[0], of[1]);
  *out_expert = expert[base];
  return out != NULL ? out : &moe_no_fact;
}

/* Columns of such numbers side by side. */
static const moe_fact_t *tuple_of_group(moe_facts_t *facts, const ir_op_t *op,
                                        int64_t *out_expert) {
  moe_linear_t *linear = ARENA_ARRAY(facts->arena, moe_linear_t, op->n_in);
  const moe_fact_t *first = &moe_no_fact;
  int64_t expert;
  if (op->out[0].type.rank != 2 || ir_get_int(op, ATTR_CONCAT_axis) != 1)
    return &moe_no_fact;
  for (unsigned i = 0; i < op->n_in; i++) {
    const moe_fact_t *fact = moe_group_of(facts, ir_in(op, i), &expert);
    if (i == 0) first = fact;
    if (i == 0) *out_expert = expert;
    if (fact->linear == NULL || fact->linear->by != NULL ||
        fact->kind == FACT_TUPLE || fact->space != first->space ||
        expert != *out_expert || !rule_is_one(ir_in(op, i)->type.dim[1]))
      return &moe_no_fact;
    linear[i] = *fact->linear;
  }
  moe_fact_t *out = moe_fact_copy(facts, first);
  out->kind = FACT_TUPLE;
  out->linear = linear;
  return out;
}

static const moe_fact_t *find_group(moe_facts_t *facts, const ir_value_t *index,
                                    int64_t *out_expert) {
  for (unsigned i = 0; i < MAX_VIEWS && index != NULL; i++) {
    const ir_op_t *op = index->def;
    if (op == NULL) break;
    if (op->code == OP_SLICE) return sliced_group(facts, op, out_expert);
    if (op->code == OP_GATHER) return gathered_group(facts, op, out_expert);
    if (op->code == OP_DIV || op->code == OP_MOD)
      return divided_group(facts, op, out_expert);
    if (op->code == OP_CONCAT) return tuple_of_group(facts, op, out_expert);
    if (op->code == OP_MUL || op->code == OP_ADD)
      return linear_group(facts, op, out_expert);
    index = behind_view(index);
  }
  return &moe_no_fact;
}

const moe_fact_t *moe_group_of(moe_facts_t *facts, const ir_value_t *index,
                               int64_t *out_expert) {
  enum { MAX_NESTED = 16 };
  if (index->number >= facts->n_values || facts->n_nested >= MAX_NESTED)
    return &moe_no_fact;
  if (facts->groups == NULL)
    facts->groups = ARENA_ARRAY(facts->arena, moe_group_t, facts->n_values);
  moe_group_t *group = &facts->groups[index->number];
  if (group->fact == NULL) {
    facts->n_nested++;
    group->fact = find_group(facts, index, &group->expert);
    facts->n_nested--;
  }
  *out_expert = group->expert;
  return group->fact;
}
