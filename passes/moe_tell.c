/* What is told about a layer that was found: how it was written, which experts
 * it has and for whom, and what that costs. */
#include "passes/moe_tell.h"

#include "passes/moe_choice.h"
#include "passes/moe_describe.h"
#include "passes/moe_match.h"
#include "passes/moe_sizes.h"

typedef struct teller {
  moe_report_t *report;
  expr_pool_t *pool;
  const moe_found_t *found;
  moe_layer_t *layer;
} teller_t;

static void tell_missing(const teller_t *t) {
  const moe_found_t *found = t->found;
  int64_t n = found->source->experts, n_missing = 0;
  if (found->present == NULL) return;
  int64_t *missing = ARENA_ARRAY(t->report->arena, int64_t, (size_t)n);
  for (int64_t e = 0; e < n; e++)
    if (!found->present[e]) missing[n_missing++] = e;
  t->layer->missing = missing;
  t->layer->n_missing = (unsigned)n_missing;
}

/* What a condition leaves of the places for all experts. */
static void tell_chosen(const teller_t *t) {
  moe_layer_t *layer = t->layer;
  const expr_t **work[] = {&layer->after.multiply_adds,
                           &layer->after.elementwise,
                           &layer->after.weight_bytes};
  const expr_t *all = expr_const(t->pool, t->found->source->experts);
  layer->k = t->found->source->chosen;
  for (size_t i = 0; layer->k > 0 && i < sizeof work / sizeof work[0]; i++) {
    if (*work[i] == NULL) continue;
    const expr_t *one = expr_divide_exactly(t->pool, *work[i], all);
    if (one != NULL)
      *work[i] = expr_mul(t->pool, one, expr_const(t->pool, layer->k));
  }
}

/* ---- Routers ------------------------------------------------------------- */

/* What a view shows, also of single elements; NULL: it is none. */
static const ir_value_t *viewed(const ir_op_t *op) {
  switch (op->code) {
    case OP_CAST:
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_EXPAND:
      return ir_in(op, 0);
    default:
      return NULL;
  }
}

enum { MAX_VIEWS = 12 };

static const ir_op_t *behind_views(const ir_value_t *value) {
  for (unsigned i = 0; i < MAX_VIEWS && value->def != NULL; i++) {
    const ir_value_t *next = viewed(value->def);
    if (next == NULL) return value->def;
    value = next;
  }
  return NULL;
}

/* What chooses: the operation behind views of its result; NULL: it is none. */
static const ir_op_t *choice_of(const ir_value_t *index) {
  const ir_op_t *op = behind_views(index);
  if (op != NULL && op->code == OP_SELECT) op = behind_views(ir_in(op, 1));
  if (op != NULL && (op->code == OP_TOPK || op->code == OP_ARG_MAX ||
                     op->code == OP_TOPK_SUMS))
    return op;
  return NULL;
}

static const char *scores_of(const ir_op_t *choice) {
  const ir_op_t *op = ir_in(choice, 0)->def;
  for (unsigned i = 0; i < MAX_VIEWS && op != NULL; i++) {
    switch (op->code) {
      case OP_SOFTMAX:
        return "softmax";
      case OP_SIGMOID:
        return "sigmoid";
      case OP_CAST:
      case OP_RESHAPE:
      case OP_TRANSPOSE:
        op = ir_in(op, 0)->def;
        break;
      default:
        return "scores";
    }
  }
  return "scores";
}

/* "12 of 64" for a TopK. */
static void say_best(text_t *out, const ir_op_t *topk) {
  int64_t axis = ir_get_int(topk, ATTR_TOPK_axis);
  expr_print(topk->out[0].type.dim[axis], out);
  text_printf(out, " of ");
  expr_print(ir_in(topk, 0)->type.dim[axis], out);
}

/* The best of two lists of scores, then the best of their sums, as product keys
 * have it: the numbers are looked up where the last choice says. */
static const char *words_of_sums(const teller_t *t) {
  const ir_op_t *picked = behind_views(t->found->source->index);
  if (picked == NULL || picked->code != OP_GATHER_ELEMENTS) return NULL;
  const ir_op_t *last = choice_of(ir_in(picked, 1)), *half[2];
  if (last == NULL || last->code != OP_TOPK) return NULL;
  const ir_op_t *sums = behind_views(ir_in(last, 0));
  if (sums == NULL || sums->code != OP_ADD) return NULL;
  text_t out;
  text_init(&out, t->report->arena);
  text_printf(&out, "sums of two scores: the best ");
  for (unsigned i = 0; i < 2; i++) {
    half[i] = behind_views(ir_in(sums, i));
    if (half[i] == NULL || half[i]->code != OP_TOPK) return NULL;
    if (i == 1) text_printf(&out, ", and ");
    say_best(&out, half[i]);
  }
  text_printf(&out, ", then the top ");
  say_best(&out, last);
  text_printf(&out, " sums");
  return out.data;
}

/* As far as the choice says; the pass that finds routers knows more of most. */
static const char *words_of_choice(const teller_t *t) {
  const moe_source_t *source = t->found->source;
  text_t out;
  if (source->given) return "given numbers";
  if (source->by_mask) return "a condition on scores";
  const ir_op_t *choice = choice_of(source->index);
  bool rounds =
      choice == NULL && source->n_parts > 1 && source->part[0] != NULL;
  if (rounds) choice = choice_of(source->part[0]->index);
  if (choice == NULL) return words_of_sums(t);
  text_init(&out, t->report->arena);
  text_printf(&out, "%s over %lld, ", scores_of(choice),
              (long long)source->experts);
  if (source->chooses) {
    text_printf(&out, "each expert takes its top ");
    expr_print(source->k, &out);
    text_printf(&out, " tokens");
  } else {
    text_printf(&out, "top ");
    expr_print(source->k, &out);
    if (rounds) text_printf(&out, ", one after the other");
  }
  return out.data;
}

/* ---- Capacities ---------------------------------------------------------- */

/* The rank that routes, or those of the last slot, are counted by. */
static const moe_rank_t *rank_of(const moe_found_t *found) {
  const moe_places_t *places = found->places;
  if (places == NULL || places->n == 0) return NULL;
  const moe_rank_t *rank = places->of[places->n - 1].rank;
  if (rank != NULL && rank->n_parts > 0) rank = rank->part[rank->n_parts - 1];
  return rank;
}

static void tell_capacity(const teller_t *t) {
  moe_layer_t *layer = t->layer;
  const moe_found_t *found = t->found;
  const moe_rank_t *rank = rank_of(found);
  layer->capacity.places = found->capacity;
  if (found->limit != NULL) {
    layer->capacity.order = ir_get_str(found->limit, ATTR_MOE_LIMIT_order);
    layer->capacity.groups = ir_get_expr(found->limit, ATTR_MOE_LIMIT_groups);
    if (layer->capacity.places == NULL)
      layer->capacity.places = moe_known_number(ir_in(found->limit, 1));
  } else if (rank != NULL) {
    bool by_slot = rank->order == ORDER_SLOTS || rank->n_base > 0;
    layer->capacity.order = by_slot ? "slots" : "tokens";
    layer->capacity.groups =
        expr_divide_exactly(t->pool, found->source->tokens, rank->counted);
  }
  layer->capacity.limits = found->limit != NULL || rank != NULL;
}

/* Features of a value whose dimensions have these tags. */
static const expr_t *width_of(expr_pool_t *pool, const ir_type_t *type,
                              const uint8_t *tag) {
  const expr_t *width = expr_const(pool, 1);
  for (unsigned d = 0; d < type->rank; d++)
    if ((tag[d] & TAG_TOKEN) == 0) width = moe_times(pool, width, type->dim[d]);
  return width;
}

/* Buffers have a row for each place whether it is taken or not; products with
 * gates bring tokens there and back. For one token. */
static void tell_buffers(const teller_t *t) {
  moe_layer_t *layer = t->layer;
  const moe_found_t *found = t->found;
  expr_pool_t *pool = t->pool;
  const moe_capacity_t *capacity = &layer->capacity;
  const expr_t *tokens = found->source->tokens;
  moe_work_t *before = &layer->before;
  const expr_t **each[2] = {&before->multiply_adds, &before->elementwise};
  for (unsigned i = 0; i < 2; i++) {
    const expr_t *rows = moe_times(pool, capacity->places, capacity->groups);
    const expr_t *all = moe_times(pool, *each[i], rows);
    bool fits = all != NULL && !expr_equals_const(tokens, 0);
    *each[i] = fits ? expr_ceildiv(pool, all, tokens) : NULL;
  }
  const expr_t *places = moe_times(pool, capacity->places,
                                   expr_const(pool, found->source->experts));
  const ir_type_t *x = found->experts->n_in > 2 && found->dispatched
                           ? &ir_in(found->experts, 2)->type
                           : NULL;
  const expr_t *width = expr_const(pool, 0);
  for (unsigned d = 1; x != NULL && d < x->rank; d++)
    width = d == 1 ? x->dim[1] : moe_times(pool, width, x->dim[d]);
  if (found->root->def->code == OP_MATMUL)
    width =
        moe_plus(pool, width, width_of(pool, &found->root->type, found->tag));
  before->multiply_adds =
      moe_plus(pool, before->multiply_adds, moe_times(pool, places, width));
}

static const char *const form_name[] = {
    [MOE_FORM_DENSE] = "dense, masked",
    [MOE_FORM_LOOP] = "loop over experts",
    [MOE_FORM_GATHERED] = "gathered weights",
    [MOE_FORM_GROUPED] = "sorted and grouped",
    [MOE_FORM_CAPACITY] = "buffers with a capacity",
    [MOE_FORM_CHOICE] = "experts choose tokens",
};

/* Where the routes' numbers enter: the sum, or an expert, or nowhere. */
static moe_weight_position_t weight_position(const ir_op_t *experts) {
  for (const ir_use_t *use = experts->out->uses; use != NULL; use = use->next)
    if (use->user->code == OP_MOE_COMBINE && ir_in(use->user, 1) != NULL)
      return MOE_WEIGHT_OUTPUT;
  int64_t first = ir_get_int(experts, ATTR_MOE_EXPERTS_token_values);
  if (ir_get_int(experts, ATTR_MOE_EXPERTS_route_values) == 0 ||
      experts->n_regions == 0)
    return MOE_WEIGHT_NONE;
  const ir_value_t *number = &experts->regions[0].args[first];
  for (unsigned d = 1; d < number->type.rank; d++)
    if (!rule_is_one(number->type.dim[d])) return MOE_WEIGHT_NONE;
  while (number->uses != NULL && number->uses->user->code == OP_RESHAPE)
    number = &number->uses->user->out[0];
  const ir_use_t *use = number->uses;
  if (use == NULL || use->user->code != OP_MUL) return MOE_WEIGHT_HIDDEN;
  const ir_value_t *other = ir_in(use->user, 1 - use->index);
  while (other->def != NULL && other->def->code == OP_RESHAPE)
    other = ir_in(other->def, 0);
  return other->def == NULL ? MOE_WEIGHT_INPUT : MOE_WEIGHT_HIDDEN;
}

/* The layer of another bank under the same routing, with whose results this
 * one's are not summed up: both are one layer. NULL: there is none. */
static moe_layer_t *told_before(const moe_found_t *first,
                                const moe_found_t *found) {
  for (const moe_found_t *f = first; f != found; f = f->next)
    if (f->source == found->source && f->entry != NULL &&
        (f->open || found->open))
      return f->entry;
  return NULL;
}

static void add_work(expr_pool_t *pool, moe_work_t *to, const moe_work_t *of) {
  const expr_t **sum[] = {&to->multiply_adds, &to->elementwise,
                          &to->weight_bytes};
  const expr_t *more[] = {of->multiply_adds, of->elementwise, of->weight_bytes};
  for (size_t i = 0; i < sizeof sum / sizeof sum[0]; i++)
    *sum[i] = *sum[i] != NULL && more[i] != NULL
                  ? moe_plus(pool, *sum[i], more[i])
                  : NULL;
}

void moe_tell(pass_ctx_t *ctx, moe_facts_t *facts, const moe_found_t *first,
              moe_found_t *found) {
  const ir_op_t *op = found->experts;
  moe_report_t *report = ctx->options->moe;
  moe_layer_t *layer = told_before(first, found);
  bool buffers = found->form == MOE_FORM_CAPACITY;
  if (report != NULL && layer != NULL) {
    moe_layer_t own = {.k = layer->k};
    moe_describe_experts(report, &own, op, false);
    add_work(facts->pool, &layer->before, &own.before);
    add_work(facts->pool, &layer->after, &own.after);
    return;
  }
  layer = moe_report_add_layer(report);
  if (layer == NULL) return;
  const teller_t t = {report, facts->pool, found, layer};
  found->entry = layer;
  layer->loc = found->root->def->loc;
  layer->name = layer->loc.node != NULL ? layer->loc.node : found->root->name;
  layer->form = form_name[found->form];
  layer->experts = found->source->experts;
  layer->k = moe_experts_per_token(found->source);
  layer->router = words_of_choice(&t);
  layer->n_structures = op->n_regions;
  layer->shared = found->shared;
  layer->weight_position = weight_position(op);
  layer->exactness = MOE_EX1;
  layer->sparse = true;
  moe_words_add(t.report, &layer->assumptions, "results of experts are finite");
  tell_missing(&t);
  moe_describe_experts(t.report, layer, op,
                       buffers || found->form == MOE_FORM_DENSE);
  if (moe_chooses_by_weight(found) ||
      (found->source->some && layer->k == layer->experts))
    layer->k = 0; /* that varies */
  if (found->source->by_mask) tell_chosen(&t);
  tell_capacity(&t);
  if (buffers) tell_buffers(&t);
}
