/* Numbers of experts that are made of a group's and of one inside it. */
#include "passes/moe_levels.h"

#include "ir/build.h"
#include "passes/rules.h"

enum { MOST_STEPS = 32 };

/* ---- Reading ------------------------------------------------------------- */

static bool is_cast(const ir_op_t *op) {
  return op->code == OP_CAST && dtype_is_integer(op->in[0].value->type.dtype) &&
         dtype_is_integer(op->out[0].type.dtype) &&
         dtype_bits(op->out[0].type.dtype) >= 32;
}

ir_value_t *levels_strip(ir_value_t *x) {
  while (x->def != NULL && (x->def->code == OP_RESHAPE || is_cast(x->def)))
    x = x->def->in[0].value;
  return x;
}

/* How many there are to choose from along an axis; 0: nobody knows. */
static int64_t size_along(const ir_op_t *op, ir_attr_id_t id) {
  const ir_type_t *type = &op->in[0].value->type;
  int64_t size, axis = ir_get_int(op, id);
  if (axis < 0) axis += type->rank;
  return axis >= 0 && axis < type->rank && expr_is_const(type->dim[axis], &size)
             ? size
             : 0;
}

/* All elements are in [0, result); 0: that is not known. */
static int64_t bound_of(const ir_value_t *x) {
  for (unsigned i = 0; i < MOST_STEPS && x->def != NULL; i++) {
    const ir_op_t *op = x->def;
    switch (op->code) {
      case OP_TOPK:
        return x->index == 1 ? size_along(op, ATTR_TOPK_axis) : 0;
      case OP_ARG_MAX:
        return size_along(op, ATTR_ARG_MAX_axis);
      case OP_CAST:
        if (!is_cast(op)) return 0;
        break;
      case OP_RESHAPE:
      case OP_EXPAND:
      case OP_SLICE:
      case OP_TRANSPOSE:
      case OP_GATHER_ELEMENTS:
      case OP_GATHER_ND:
        break;
      default:
        return 0;
    }
    x = op->in[0].value;
  }
  return 0;
}

bool levels_are_below(const ir_value_t *x, int64_t n) {
  int64_t bound = bound_of(x);
  return bound > 0 && bound <= n;
}

/* Whether x[.., a, 1..] has one number for all that lies behind a in `like`. */
static bool is_in_front(const ir_type_t *x, const ir_type_t *like) {
  bool ones = false;
  if (x->rank != like->rank) return false;
  for (unsigned d = 0; d < x->rank; d++) {
    if (rule_is_one(like->dim[d])) continue;
    bool one = rule_is_one(x->dim[d]);
    if (ones && !one) return false;
    ones |= one;
  }
  return true;
}

bool levels_find_sum(const ir_value_t *number, ir_value_t **out_chosen,
                     ir_value_t **out_own, int64_t *out_size) {
  const ir_op_t *add = number->def;
  if (add == NULL || add->code != OP_ADD || dtype_bits(number->type.dtype) < 32)
    return false;
  for (unsigned i = 0; i < 2; i++) {
    const ir_value_t *part = add->in[i].value;
    ir_value_t *own = add->in[1 - i].value;
    const ir_op_t *mul = levels_strip(add->in[i].value)->def;
    if (mul == NULL || mul->code != OP_MUL ||
        !rule_same_dims(&own->type, &number->type) ||
        !is_in_front(&part->type, &number->type))
      continue;
    for (unsigned j = 0; j < 2; j++) {
      ir_value_t *group = mul->in[1 - j].value;
      if (!rule_splat_int(mul->in[j].value, out_size) || *out_size < 1 ||
          !rule_same_dims(&group->type, &mul->out[0].type))
        continue;
      *out_chosen = levels_strip(group);
      *out_own = own;
      return true;
    }
  }
  return false;
}

/* ---- Routers ------------------------------------------------------------- */

/* Rows of the last dimension have no number twice. */
static bool are_distinct(const ir_value_t *x) {
  for (unsigned i = 0; i < MOST_STEPS && x->def != NULL; i++) {
    const ir_op_t *op = x->def;
    unsigned rank = x->type.rank;
    if (rank == 0) return true;
    const expr_t *last = x->type.dim[rank - 1];
    if (rule_is_one(last)) return true;
    const ir_value_t *from = op->in[0].value, *index;
    if (from->type.rank == 0 || from->type.dim[from->type.rank - 1] != last)
      return op->code == OP_TOPK && x->index == 1 &&
             ir_get_expr(op, ATTR_TOPK_k) == last &&
             (ir_get_int(op, ATTR_TOPK_axis) == rank - 1 ||
              ir_get_int(op, ATTR_TOPK_axis) == -1);
    switch (op->code) {
      case OP_CAST:
        if (!is_cast(op)) return false;
        break;
      case OP_RESHAPE:
        break;
      case OP_GATHER_ELEMENTS: /* of whole rows */
        index = op->in[1].value;
        if (ir_get_int(op, ATTR_GATHER_ELEMENTS_axis) == rank - 1 ||
            ir_get_int(op, ATTR_GATHER_ELEMENTS_axis) == -1 ||
            index->def == NULL || index->def->code != OP_EXPAND ||
            !rule_is_one(
                index->def->in[0]
                    .value->type.dim[index->def->in[0].value->type.rank - 1]))
          return false;
        break;
      case OP_GATHER_ND:
        index = op->in[1].value;
        if (!expr_equals_const(index->type.dim[index->type.rank - 1],
                               from->type.rank - 1 -
                                   ir_get_int(op, ATTR_GATHER_ND_batch_dims)))
          return false;
        break;
      default:
        return false;
    }
    x = from;
  }
  return false;
}

/* The dimensions of tokens of chosen[tokens.., a]. */
static bool find_tokens(const ir_value_t *chosen, unsigned *out_rank) {
  const ir_op_t *op = chosen->def;
  unsigned rank = chosen->type.rank;
  if (op == NULL || rank == 0) return false;
  bool topk = op->code == OP_TOPK && chosen->index == 1;
  if (!topk && op->code != OP_ARG_MAX) return false;
  unsigned from = op->in[0].value->type.rank;
  int64_t axis = ir_get_int(op, topk ? ATTR_TOPK_axis : ATTR_ARG_MAX_axis);
  if (axis < 0) axis += from;
  *out_rank = from - 1;
  return axis == from - 1;
}

/* The operation that chose the numbers, which were gathered since. */
static const ir_op_t *choice_behind(const ir_value_t *x) {
  for (unsigned i = 0; i < MOST_STEPS && x->def != NULL; i++) {
    const ir_op_t *op = x->def;
    if (op->code == OP_TOPK || op->code == OP_ARG_MAX) return op;
    if (op->n_in == 0) return NULL;
    x = op->in[0].value;
  }
  return NULL;
}

static moe_levels_t *write_levels(pass_ctx_t *ctx, ir_op_t *add) {
  expr_pool_t *pool = ctx->module->exprs;
  ir_value_t *number = &add->out[0], *chosen, *own;
  int64_t size, slots;
  unsigned rank;
  if (!levels_find_sum(number, &chosen, &own, &size) ||
      !levels_are_below(own, size) || !find_tokens(chosen, &rank) ||
      rank + 1 > IR_MAX_RANK)
    return NULL;
  int64_t groups = bound_of(chosen);
  if (groups < 1 || groups > INT32_MAX / size) return NULL;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < rank; d++) dim[d] = chosen->type.dim[d];
  dim[rank] = expr_divide_exactly(pool, ir_type_count(pool, &number->type),
                                  expr_product(pool, dim, rank));
  if (dim[rank] == NULL || !expr_is_const(dim[rank], &slots) || slots < 1)
    return NULL;
  ir_builder_t b = {.module = ctx->module,
                    .region = add->parent,
                    .before = add->next,
                    .loc = add->loc,
                    .diag = ctx->diag};
  ir_value_t *whole = ir_reshape(&b, number, rank + 1, dim);
  if (whole == NULL) return NULL;
  for (const ir_use_t *use = number->uses, *next;
       use != NULL && whole != number; use = next) {
    next = use->next;
    if (use->user->code == OP_RESHAPE && use->user != whole->def)
      ir_set_operand(use->user, use->index, whole);
  }
  moe_levels_t *levels = ARENA_NEW(ctx->scratch, moe_levels_t);
  *levels = (moe_levels_t){.number = whole, .experts = groups * size};
  levels->chosen = chosen;
  levels->choice = choice_behind(own);
  levels->distinct = are_distinct(chosen) && are_distinct(own);
  return levels;
}

moe_levels_t *moe_write_levels(pass_ctx_t *ctx, ir_func_t *func) {
  moe_levels_t *all = NULL;
  for (ir_op_t *op = ir_walk_first(func), *next; op != NULL; op = next) {
    next = ir_walk_next(op);
    moe_levels_t *levels = op->code == OP_ADD ? write_levels(ctx, op) : NULL;
    if (levels == NULL) continue;
    levels->next = all;
    all = levels;
  }
  return all;
}

void moe_know_levels(moe_facts_t *facts, const moe_levels_t *levels) {
  facts->levels = levels;
  for (; levels != NULL; levels = levels->next) {
    ir_value_t *x = levels->number;
    if (moe_fact(facts, x)->kind == FACT_NONE)
      facts->of[x->number] = moe_new_router(facts, x, (int)x->type.rank - 1,
                                            levels->experts, levels->distinct);
  }
}

/* ---- Gates in groups ------------------------------------------------------
 */

static bool is_inner_choice(const moe_facts_t *facts, const ir_op_t *op) {
  if (op->code != OP_TOPK && op->code != OP_ARG_MAX) return false;
  for (const moe_levels_t *l = facts->levels; l != NULL; l = l->next)
    if (l->choice == op) return true;
  for (const moe_nest_t *n = facts->nests; n != NULL; n = n->next)
    if (choice_behind(n->inner) == op) return true;
  return false;
}

static bool comes_from_choice(const moe_facts_t *facts, const ir_value_t *x) {
  for (unsigned i = 0; i < MOST_STEPS && x->def != NULL; i++) {
    const ir_op_t *op = x->def;
    switch (op->code) {
      case OP_RESHAPE:
      case OP_TRANSPOSE:
      case OP_EXPAND:
      case OP_SLICE:
      case OP_CAST:
      case OP_SOFTMAX:
      case OP_DIV:
      case OP_GATHER_ELEMENTS:
      case OP_GATHER_ND:
        x = op->in[0].value;
        continue;
      default:
        return is_inner_choice(facts, op);
    }
  }
  return false;
}

static bool goes_to_choice(const moe_facts_t *facts, const ir_value_t *x,
                           unsigned *steps) {
  for (const ir_use_t *use = x->uses; *steps > 0 && use != NULL;
       use = use->next, --*steps) {
    const ir_op_t *user = use->user;
    bool passes = user->code == OP_RESHAPE || user->code == OP_TRANSPOSE ||
                  user->code == OP_SLICE || user->code == OP_SOFTMAX ||
                  user->code == OP_GATHER_ELEMENTS ||
                  user->code == OP_GATHER_ND || ir_has_trait(user, ELEMENTWISE);
    if (is_inner_choice(facts, user)) return true;
    if (passes && user->n_out == 1 &&
        goes_to_choice(facts, &user->out[0], steps))
      return true;
  }
  return false;
}

bool moe_is_inner_gate(const moe_facts_t *facts, const ir_value_t *x) {
  unsigned steps = MOST_STEPS;
  if (facts->levels == NULL && facts->nests == NULL) return false;
  return comes_from_choice(facts, x) || goes_to_choice(facts, x, &steps);
}

static bool has_choice(const moe_term_t *term, unsigned *steps) {
  if (*steps == 0) return false;
  --*steps;
  if (term->kind != TERM_OP) return false;
  if (term->code == OP_TOPK || term->code == OP_ARG_MAX) return true;
  for (unsigned i = 0; i < term->n; i++)
    if (has_choice(term->in[i], steps)) return true;
  return false;
}

bool moe_is_half_router(const moe_facts_t *facts, const moe_source_t *source,
                        unsigned n, moe_term_t *const *term) {
  const moe_levels_t *l = facts->levels;
  while (l != NULL && l->chosen != levels_strip(source->index)) l = l->next;
  unsigned steps = 1000;
  for (unsigned i = 0; l != NULL && i < n; i++)
    if (has_choice(term[i], &steps)) return true;
  return false;
}
