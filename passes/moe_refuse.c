/* What looked like a layer and was left as it stands.
 *
 * A sum that has to do with a router is a candidate if it has experts: products
 * with matrices that the router itself is not computed from. Sums of scores,
 * counts and losses are none. */
#include "passes/moe_refuse.h"

#include "passes/moe_read.h"

struct moe_refused {
  const ir_op_t *root, *blocker;
  const moe_source_t *source;
  const char *candidate, *obligation;
  moe_refused_t *next;
};

void moe_refusals_init(moe_refusals_t *list, moe_report_t *report,
                       arena_t *arena) {
  *list = (moe_refusals_t){.report = report, .arena = arena};
  if (report != NULL) report->n_refusals = 0; /* all are looked at again */
  list->last = &list->first;
}

void moe_refuse(moe_refusals_t *list, const moe_builder_t *b,
                const ir_op_t *root, const moe_source_t *source,
                const char *candidate) {
  if (b->obligation == NULL || list->report == NULL) return;
  moe_refused_t *entry = ARENA_NEW(list->arena, moe_refused_t);
  *entry = (moe_refused_t){.root = root,
                           .blocker = b->blocker,
                           .source = source,
                           .candidate = candidate,
                           .obligation = b->obligation};
  if (b->aside != NULL) { /* what came first */
    entry->blocker = b->aside_blocker;
    entry->obligation = b->aside;
  }
  *list->last = entry;
  list->last = &entry->next;
}

static void tell(moe_report_t *report, const moe_refused_t *entry) {
  moe_refusal_t *refusal = moe_report_add_refusal(report);
  refusal->loc = entry->root->loc;
  refusal->candidate = entry->candidate;
  if (entry->blocker != NULL) refusal->blocker = entry->blocker->loc;
  refusal->obligation = entry->obligation;
}

/* ---- Experts ------------------------------------------------------------- */

enum { MAX_SEEN = 512 };

/* A search backwards from a value, breadth first. */
typedef struct search {
  uint32_t *mark; /* by number of the value: the search that saw it */
  uint32_t router, sum;
  const ir_value_t *seen[MAX_SEEN];
  unsigned n;
} search_t;

static void see(search_t *s, const ir_value_t *value, uint32_t mark) {
  if (value == NULL || s->mark[value->number] == s->router ||
      s->mark[value->number] == mark || s->n == MAX_SEEN)
    return;
  s->mark[value->number] = mark;
  s->seen[s->n++] = value;
}

/* A product with the matrix of an expert, or a look-up of one. */
static bool has_matrix(const ir_op_t *op) {
  switch (op->code) {
    case OP_MATMUL:
    case OP_CONVOLVE:
    case OP_UNFOLD:
    case OP_MOE_EXPERTS:
      return true;
    case OP_GATHER:
      return rule_is_constant(ir_in(op, 0)) && ir_in(op, 0)->type.rank > 1;
    default:
      return op->n_regions > 0;
  }
}

/* Numbers of routing: nothing behind them is an expert. Rows that a gate was
 * multiplied with are none. */
static bool is_routing(moe_facts_t *facts, const ir_value_t *value) {
  const ir_op_t *op = value->def;
  if (op == NULL || op->code == OP_TOPK || op->code == OP_ARG_MAX) return true;
  const moe_fact_t *fact = moe_fact(facts, (ir_value_t *)value);
  if (fact->kind != FACT_GATE) return fact->kind != FACT_NONE;
  for (unsigned d = 0; d < value->type.rank; d++)
    if (fact->tag[d] == TAG_INNER && !rule_is_one(value->type.dim[d]))
      return false;
  return true;
}

/* Whether the sum is of something that is computed with matrices, apart from
 * what the router is computed from. */
static bool has_experts(search_t *s, moe_facts_t *facts, const ir_op_t *root,
                        const moe_source_t *source) {
  s->router = s->sum + 1;
  s->sum = s->router + 1;
  s->n = 0;
  if (source != NULL) see(s, source->index, s->router);
  for (unsigned i = 0; i < s->n; i++) {
    const ir_op_t *op = s->seen[i]->def;
    for (unsigned j = 0; op != NULL && j < op->n_in; j++)
      see(s, op->in[j].value, s->router);
  }
  s->n = 0;
  if (has_matrix(root)) { /* a product with gates: what is beside these */
    for (unsigned j = 0; j < root->n_in; j++)
      if (!is_routing(facts, ir_in(root, j))) see(s, ir_in(root, j), s->sum);
  } else {
    for (unsigned j = 0; j < root->n_in; j++) see(s, root->in[j].value, s->sum);
  }
  for (unsigned i = 0; i < s->n; i++) {
    const ir_op_t *op = s->seen[i]->def;
    if (is_routing(facts, s->seen[i])) continue;
    if (has_matrix(op)) return true;
    for (unsigned j = 0; j < op->n_in; j++) see(s, op->in[j].value, s->sum);
  }
  return s->n == MAX_SEEN;
}

/* Whether it is a part of the sum of a layer that was found: all that uses it
 * is on the way there. */
static bool is_part(const ir_op_t *root, const bool *settled) {
  enum { MAX_STEPS = 4096 };
  const ir_value_t *value = &root->out[0];
  for (unsigned i = 0; i < MAX_STEPS; i++) {
    const ir_use_t *use = value->uses;
    if (settled[value->number]) return true;
    if (use == NULL || use->next != NULL || use->user->n_out != 1) return false;
    value = &use->user->out[0];
  }
  return false;
}

/* ---- Experts that all count ---------------------------------------------- */

/* A value that a product with a matrix gives, within some steps. */
static bool is_computed(const ir_value_t *value, unsigned depth) {
  enum { MAX_DEPTH = 8 };
  const ir_op_t *op = value->def;
  if (op == NULL || depth == MAX_DEPTH) return false;
  if (op->code == OP_MATMUL)
    return rule_is_constant(ir_in(op, 0)) || rule_is_constant(ir_in(op, 1)) ||
           (ir_in(op, 1)->def != NULL && ir_in(op, 1)->def->n_in == 1 &&
            rule_is_constant(ir_in(ir_in(op, 1)->def, 0)));
  if (op->code == OP_CONVOLVE) return true;
  if (!ir_has_trait(op, ELEMENTWISE) && op->code != OP_RESHAPE &&
      op->code != OP_EXPAND && op->code != OP_TRANSPOSE)
    return false;
  for (unsigned i = 0; i < op->n_in; i++)
    if (is_computed(ir_in(op, i), depth + 1)) return true;
  return false;
}

/* The product of a weight with an expert's result that uses it, through views.
 */
static const ir_op_t *weighs(const ir_value_t *weight, unsigned depth) {
  enum { MAX_DEPTH = 4 };
  for (const ir_use_t *use = weight->uses; use != NULL; use = use->next) {
    const ir_op_t *op = use->user;
    if (op->code == OP_MUL && is_computed(ir_in(op, 1 - use->index), 0))
      return op;
    if (depth == MAX_DEPTH ||
        (op->code != OP_RESHAPE && op->code != OP_EXPAND &&
         op->code != OP_CAST && op->code != OP_TRANSPOSE))
      continue;
    const ir_op_t *found = weighs(&op->out[0], depth + 1);
    if (found != NULL) return found;
  }
  return NULL;
}

/* The last one of a chain of additions. */
static const ir_op_t *sum_behind(const ir_op_t *op) {
  enum { MAX_TERMS = 4096 };
  const ir_op_t *sum = NULL;
  for (unsigned i = 0; i < MAX_TERMS; i++) {
    const ir_op_t *next = NULL;
    for (const ir_use_t *use = op->out[0].uses; use != NULL; use = use->next)
      if (use->user->code == OP_ADD || use->user->code == OP_REDUCE_SUM)
        next = use->user;
    if (next == NULL) return sum;
    sum = op = next;
  }
  return sum;
}

/* Whether something is computed for each of n experts, or n slots of fewer
 * experts: results side by side, or a product with a bank. */
static bool is_of_all(const ir_value_t *value, int64_t n, unsigned depth) {
  enum { MAX_DEPTH = 10 };
  const ir_op_t *op = value->def;
  if (op == NULL || depth == MAX_DEPTH) return false;
  if (op->code == OP_CONCAT) {
    bool all = op->n_in > 1 && n % op->n_in == 0;
    for (unsigned i = 0; all && i < op->n_in; i++)
      all = is_computed(ir_in(op, i), 0);
    return all;
  }
  if (op->code == OP_MATMUL)
    for (unsigned i = 0; i < 2; i++) {
      const ir_type_t *type = &ir_in(op, i)->type;
      int64_t size;
      if (rule_is_constant(ir_in(op, i)) && type->rank > 2 &&
          expr_is_const(type->dim[type->rank - 3], &size) && size > 1 &&
          n % size == 0)
        return true;
    }
  if (!ir_has_trait(op, ELEMENTWISE) && op->code != OP_RESHAPE &&
      op->code != OP_EXPAND && op->code != OP_TRANSPOSE)
    return false;
  for (unsigned i = 0; i < op->n_in; i++)
    if (is_of_all(ir_in(op, i), n, depth + 1)) return true;
  return false;
}

/* The sum that weighs results of n experts with `weight`, through views. */
static const ir_op_t *sum_of_all(const ir_value_t *weight, int64_t n,
                                 unsigned depth) {
  enum { MAX_DEPTH = 4 };
  for (const ir_use_t *use = weight->uses; use != NULL; use = use->next) {
    const ir_op_t *op = use->user, *found = NULL;
    if (op->code == OP_MUL || op->code == OP_MATMUL) {
      if (!is_of_all(ir_in(op, 1 - use->index), n, 0)) continue;
      if (op->code == OP_MATMUL) return op;
      const ir_use_t *sum = op->out[0].uses;
      if (sum != NULL && sum->user->code == OP_REDUCE_SUM) return sum->user;
    } else if (depth < MAX_DEPTH &&
               (op->code == OP_RESHAPE || op->code == OP_EXPAND ||
                op->code == OP_CAST || op->code == OP_TRANSPOSE)) {
      found = sum_of_all(&op->out[0], n, depth + 1);
    }
    if (found != NULL) return found;
  }
  return NULL;
}

/* The sum of all experts' results by the columns of a softmax, or by all of it;
 * NULL: it is used for something else. */
static const ir_op_t *soft_sum(const ir_op_t *softmax) {
  const ir_value_t *value = &softmax->out[0];
  int64_t axis = ir_get_int(softmax, ATTR_SOFTMAX_axis), experts;
  int64_t n_weighed = 0;
  const ir_op_t *last = NULL;
  if (!expr_is_const(value->type.dim[axis], &experts) || experts < 2)
    return NULL;
  for (const ir_use_t *use = value->uses; use != NULL; use = use->next) {
    const ir_op_t *op = use->user;
    if ((op->code != OP_SLICE && op->code != OP_GATHER) || use->index != 0)
      continue;
    const ir_value_t *column = &op->out[0];
    bool is_column = op->code == OP_SLICE
                         ? rule_is_one(column->type.dim[axis])
                         : ir_get_int(op, ATTR_GATHER_axis) == axis &&
                               rule_has_one_element(&ir_in(op, 1)->type);
    const ir_op_t *product = is_column ? weighs(column, 0) : NULL;
    if (product == NULL) continue;
    n_weighed++;
    if (last == NULL || product->out[0].number > last->out[0].number)
      last = product;
  }
  return n_weighed == experts ? sum_behind(last)
                              : sum_of_all(value, experts, 0);
}

static void tell_soft_sums(moe_refusals_t *list, moe_facts_t *facts) {
  for (const ir_op_t *op = ir_walk_first(facts->func); op != NULL;
       op = ir_walk_next((ir_op_t *)op)) {
    if (op->code != OP_SOFTMAX) continue;
    const moe_fact_t *gate = moe_fact(facts, (ir_value_t *)&op->out[0]);
    if (gate->kind == FACT_GATE && gate->off.known && gate->off.x == 0)
      continue;
    const ir_op_t *sum = soft_sum(op);
    if (sum == NULL) continue;
    const moe_refused_t entry = {
        .root = sum,
        .blocker = op,
        .candidate = "a weighted sum of all experts",
        .obligation = "the weight of an unselected expert is exactly zero"};
    tell(list->report, &entry);
  }
}

void moe_refusals_tell(moe_refusals_t *list, moe_facts_t *facts,
                       const bool *settled) {
  if (list->report == NULL) return;
  search_t s = {.mark = ARENA_ARRAY(list->arena, uint32_t, facts->n_values)};
  const ir_op_t *told = NULL;
  for (const moe_refused_t *r = list->first; r != NULL; r = r->next) {
    if (r->root == told || is_part(r->root, settled) ||
        !has_experts(&s, facts, r->root, r->source))
      continue;
    told = r->root;
    tell(list->report, r);
  }
  tell_soft_sums(list, facts);
}
