/* Recognises Mixture-of-Experts layers, in whatever form they were written, and
 * rewrites each as moe.experts and moe.combine.
 *
 * Facts (moe_facts.h) say what values have to do with the choice of experts.
 * Where a sum over experts or slots is found (moe_sum.h, moe_match.h), what is
 * summed up is read backwards as a term of one row (moe_build.h). All layers
 * are found first; then each is written (moe_emit.h). A layer is EX1: sums run
 * over a token's slots in ascending order, and what is multiplied by zero is
 * left out, which assumes that experts' results are finite. */
#include <string.h>

#include "passes/moe_apart.h"
#include "passes/moe_beside.h"
#include "passes/moe_buffer.h"
#include "passes/moe_choice.h"
#include "passes/moe_counts.h"
#include "passes/moe_describe.h"
#include "passes/moe_fewer.h"
#include "passes/moe_integers.h"
#include "passes/moe_joint.h"
#include "passes/moe_levels.h"
#include "passes/moe_limit.h"
#include "passes/moe_mask.h"
#include "passes/moe_match.h"
#include "passes/moe_normal.h"
#include "passes/moe_read.h"
#include "passes/moe_refuse.h"
#include "passes/moe_release.h"
#include "passes/moe_rules.h"
#include "passes/moe_saving.h"
#include "passes/moe_sets.h"
#include "passes/moe_table.h"
#include "passes/moe_tell.h"
#include "passes/moe_tiles.h"
#include "passes/moe_tree.h"

enum {
  NEAREST = 16,      /* routers that a sum may be about, and as many masks */
  MAX_SKIPPED = 4096 /* masks between these routers */
};

typedef struct search {
  pass_ctx_t *ctx;
  ir_func_t *func;
  moe_builder_t *b;
  moe_terms_t *terms;
  bool *settled; /* by number: results of layers found */
  bool *plain;   /* by number: sums without a part of any router */
  bool *matched; /* by number: routers of layers found */
  const moe_source_t *
      *layer;        /* by number: the router of a layer with this sum */
  bool *apart;       /* by number: routers whose slots are layers */
  unsigned n_looked; /* parts of sums over slots */
  bool split, again; /* some are now; only sums of these are looked at */
  const moe_source_t **leads; /* by number: the router of a sum's first part */
  moe_sum_t sum, wider; /* of the candidate at hand, of one that uses it */
  const moe_source_t **source;
  unsigned n_sources;
  moe_found_t *first, **last;
  ir_value_t **stands; /* by number: what took a root's place */
  moe_refusals_t refusals;
} search_t;

/* ---- Finding ------------------------------------------------------------- */

/* A fresh builder for each candidate: what it learns is about one root. */
static void aim(search_t *s, const ir_op_t *root, const moe_source_t *source) {
  moe_builder_t *b = s->b;
  struct routed_memo *routed = b->routed;
  moe_layout_list_t **layouts = b->layouts;
  moe_facts_t *facts = b->facts;
  moe_memo_t **memo = b->memo;
  if (b->steps > 0) memset(memo, 0, MOE_MEMO_SLOTS * sizeof(*memo));
  *b = (moe_builder_t){.arena = s->ctx->scratch,
                       .pool = s->ctx->module->exprs,
                       .facts = facts,
                       .terms = s->terms,
                       .root = root,
                       .settled = s->settled,
                       .plain = s->plain,
                       .matched = s->matched,
                       .memo = memo,
                       .layouts = layouts,
                       .routed = routed};
  s->terms->source = source;
}

static void refuse(search_t *s, const ir_op_t *root, const char *candidate) {
  moe_refuse(&s->refusals, s->b, root, s->terms->source, candidate);
}

/* Conditions of experts that lie apart may be behind a sum of some of these. */
static bool comes_after(const ir_value_t *root, const moe_source_t *source) {
  return !source->joined ||
         (root->number > source->index->number &&
          ir_region_holds(ir_home(source->index), ir_home(root)));
}

static bool keep(search_t *s, moe_found_t *found) {
  if (found == NULL || !moe_settle_places(s->b, found)) return false;
  if (found->unique && !moe_is_set(found->source)) {
    moe_fail(s->b, found->root->def, "slots do not name an expert twice");
    return false;
  }
  if (!comes_after(found->root, found->source)) {
    moe_fail(s->b, found->root->def, "the choice is made in front of the sum");
    return false;
  }
  if (found->source->joined && found->n_terms > 1) {
    moe_fail(s->b, found->root->def, "experts with conditions are alike");
    return false;
  }
  if (moe_is_half_router(s->b->facts, found->source, found->n_terms,
                         found->term)) {
    moe_fail(s->b, found->root->def, "experts do not choose among themselves");
    return false;
  }
  if (!moe_is_worth(found)) {
    moe_fail(s->b, found->root->def, "experts have more than a vector each");
    return false;
  }
  for (unsigned i = 0; i < found->n_terms; i++)
    found->term[i] =
        moe_term_normal(s->terms, found->root->def->parent, found->term[i]);
  found->shared = found->apart ? 0 : moe_count_shared(found);
  found->dispatched = s->b->dispatched;
  s->settled[found->root->number] = true;
  s->layer[found->root->number] = found->source;
  s->matched[found->source->index->number] = true;
  moe_forget_routed(s->b, found->source);
  for (unsigned i = 0; i < s->b->n_inner; i++) {
    s->settled[s->b->inner[i]->number] = true;
    s->layer[s->b->inner[i]->number] = found->source;
  }
  *s->last = found;
  s->last = &found->next;
  return true;
}

/* Whether a value is picked by the greatest of some scores. */
static bool is_chosen(const ir_value_t *value, unsigned depth) {
  const ir_op_t *op = value != NULL ? value->def : NULL;
  if (op == NULL || depth > 12) return false;
  if (op->code == OP_ARG_MAX || (op->code == OP_TOPK && value->index == 1))
    return true;
  if (op->code == OP_GATHER_ELEMENTS || op->code == OP_GATHER_ND ||
      op->code == OP_GATHER)
    return is_chosen(ir_in(op, 1), depth + 1);
  bool passes_on = ir_has_trait(op, ELEMENTWISE) || op->code == OP_RESHAPE ||
                   op->code == OP_EXPAND || op->code == OP_SLICE;
  for (unsigned i = 0; passes_on && i < op->n_in; i++)
    if (is_chosen(op->in[i].value, depth + 1)) return true;
  return false;
}

/* Rows of a constant that computed numbers pick: these name experts, too, as
 * those of product keys do. Below 0 they would count from the end. */
static void find_picked(moe_facts_t *facts, const ir_op_t *op) {
  ir_value_t *from = ir_in(op, 0), *index = ir_in(op, 1);
  int64_t n;
  if (op->code != OP_GATHER || ir_get_int(op, ATTR_GATHER_axis) != 0 ||
      !rule_is_constant(from) || from->type.rank < 2 ||
      !expr_is_const(from->type.dim[0], &n) || n < 2)
    return;
  while (index->def != NULL && index->def->code == OP_RESHAPE)
    index = ir_in(index->def, 0);
  if (moe_fact(facts, index)->kind != FACT_NONE || index->def == NULL ||
      index->type.rank < 1 || !is_chosen(index, 0) ||
      !moe_integers_below(index, n))
    return;
  int last = (int)index->type.rank - 1;
  bool slots = last > 0 && expr_is_const(index->type.dim[last], NULL);
  facts->of[index->number] =
      moe_new_router(facts, index, slots ? last : -1, n, false);
}

/* Whether the numbers of a mask's experts are written right behind it. */
static bool is_mask(const ir_op_t *op, const moe_source_t *source) {
  const ir_op_t *chosen = source->index->def->in[0].value->def;
  return chosen == op ||
         (chosen->code == OP_CAST && ir_in(chosen, 0)->def == op);
}

static void find_sources(search_t *s) {
  for (ir_op_t *op = ir_walk_first(s->func); op != NULL;
       op = ir_walk_next(op)) {
    if (op->n_out == 0) continue;
    ir_value_t *value = &op->out[op->n_out - 1];
    const moe_fact_t *fact = moe_fact(s->b->facts, value);
    bool mask = fact->kind == FACT_GATE && fact->source->by_mask &&
                is_mask(op, fact->source);
    bool router = dtype_is_integer(value->type.dtype) &&
                  (fact->kind == FACT_EXPERT || fact->kind == FACT_LABEL) &&
                  fact->source->index == value;
    if (!mask && !router) continue;
    s->source = arena_grow_array(s->ctx->scratch, s->source, s->n_sources,
                                 s->n_sources + 1, sizeof *s->source);
    s->source[s->n_sources++] = fact->source;
  }
}

/* Whether a user of a sum adds more parts of the router, or is the If of a
 * branch and a layer already: an If is walked before its branches. */
static bool grows_on(search_t *s, const ir_value_t *value,
                     const moe_source_t *source, unsigned n, unsigned depth) {
  enum { MAX_NESTED = 16 };
  for (const ir_use_t *use = value->uses; use != NULL; use = use->next) {
    ir_op_t *user = use->user;
    if (user->code == OP_YIELD && user->parent->owner != NULL &&
        user->parent->owner->code == OP_IF)
      user = user->parent->owner;
    if (user->code == OP_RESHAPE && depth < MAX_NESTED &&
        grows_on(s, &user->out[0], source, n, depth + 1))
      return true; /* rows of tokens in several dimensions */
    if (!moe_is_sum(user) || user->n_out != 1) continue;
    if (user->code == OP_IF && s->settled[user->out[0].number]) return true;
    moe_sum_parts(s->b, &user->out[0], &s->wider);
    unsigned more = moe_sum_count(&s->wider, source);
    if (more > n || (more == n && user->code == OP_IF && depth < MAX_NESTED &&
                     grows_on(s, &user->out[0], source, n, depth + 1)))
      return true;
  }
  return false;
}

/* The router of several slots of which this is one; else itself. */
static const moe_source_t *whole_of(const search_t *s,
                                    const moe_source_t *source) {
  const moe_facts_t *facts = s->b->facts;
  for (unsigned i = 0; source != NULL && i < facts->n_joints; i++)
    if (moe_part_index(facts->joint[i], source) >= 0 &&
        !s->apart[facts->joint[i]->index->number])
      return facts->joint[i];
  return source;
}

static bool is_apart(const search_t *s, const moe_source_t *source) {
  const moe_facts_t *facts = s->b->facts;
  for (unsigned i = 0; i < facts->n_joints; i++)
    if (moe_part_index(facts->joint[i], source) >= 0 &&
        s->apart[facts->joint[i]->index->number])
      return true;
  return false;
}

/* Whether a sum over a router's experts goes on in one that is a layer of
 * these, or of all slots, already. */
static bool is_inside(const search_t *s, const ir_value_t *value,
                      const moe_source_t *source) {
  for (const ir_use_t *use = value->uses; use != NULL; use = use->next) {
    if (!moe_is_sum(use->user) || use->user->n_out != 1) continue;
    const moe_source_t *of = s->layer[use->user->out[0].number];
    if (of != NULL && (of == source || moe_part_index(of, source) >= 0))
      return true;
  }
  return false;
}

/* The slots of a router are layers of their own. */
static bool take_slots_apart(search_t *s, const moe_source_t *whole) {
  s->apart[whole->index->number] = s->split = true;
  return false;
}

/* Whether a sum and its only use add one more part each of the router that the
 * sum has a part of already: then its parts need not be found, and a chain of n
 * experts is not n chains. */
static bool is_continued(search_t *s, const ir_op_t *op) {
  const ir_value_t *root = &op->out[0];
  const ir_use_t *use = root->uses;
  if (use == NULL || use->next != NULL) return false;
  for (unsigned to = 0; to < op->n_in && to < 3; to++) {
    const ir_value_t *before = ir_in(op, to);
    if (before == NULL) return false;
    const moe_source_t *lead = s->leads[before->number];
    if (lead == NULL || whole_of(s, moe_sum_adds(s->b, op, to)) != lead ||
        whole_of(s, moe_sum_adds(s->b, use->user, use->index)) != lead)
      continue;
    s->leads[root->number] = lead;
    return true;
  }
  return false;
}

/* A weight or a place of each token, but no result of experts. */
static bool is_number(const search_t *s, const ir_value_t *value,
                      const moe_source_t *source) {
  return !dtype_is_float(value->type.dtype) ||
         ir_type_count(s->b->pool, &value->type) == source->tokens;
}

static bool try_sum(search_t *s, ir_op_t *op) {
  moe_sum_t *sum = &s->sum;
  if (op->n_out != 1 || is_continued(s, op)) return false;
  ir_value_t *root = &op->out[0];
  moe_sum_parts(s->b, root, sum);
  for (unsigned i = 0; i < sum->n; i++) {
    if (sum->part[i].layout == NULL) continue;
    const moe_source_t *part = sum->part[i].layout->source;
    const moe_source_t *source = whole_of(s, part);
    if ((s->again && !is_apart(s, part)) || is_inside(s, root, part))
      return false;
    s->leads[root->number] = source;
    unsigned n = moe_sum_count(sum, source);
    bool alone = sum->n == 1 && sum->part[0].value == root;
    if (alone || grows_on(s, root, source, n, 0)) return false;
    if (part != source && !moe_has_all_slots(sum, source))
      return !is_number(s, root, source) && take_slots_apart(s, source);
    aim(s, op, source);
    if (keep(s, moe_match_sum(s->b, root, sum, source))) return true;
    if (part != source)
      return !is_number(s, root, source) && take_slots_apart(s, source);
    refuse(s, op, "a sum over experts");
    return false;
  }
  s->plain[root->number] = true;
  return false;
}

/* Routers in front of an operation; values are numbered in program order. */
static unsigned sources_before(const search_t *s, const ir_op_t *op) {
  unsigned low = 0, high = s->n_sources;
  while (low < high) {
    unsigned middle = (low + high) / 2;
    if (s->source[middle]->index->number < op->out[0].number)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* A product that takes rows back from experts' buffers. */
static bool try_buffers(search_t *s, ir_op_t *op) {
  for (unsigned i = 0; op->code == OP_MATMUL && i < 2; i++) {
    const moe_fact_t *gate = moe_fact(s->b->facts, ir_in(op, i));
    if (gate->kind != FACT_GATE || gate->places == NULL) continue;
    aim(s, op, gate->source);
    if (keep(s, moe_match_buffers(s->b, op, gate->source))) return true;
    refuse(s, op, "a sum over places");
  }
  return false;
}

/* A scatter of rows to the tokens that their experts chose. */
static bool try_choice(search_t *s, ir_op_t *op) {
  if (op->code != OP_SCATTER_ELEMENTS && op->code != OP_SCATTER_ND)
    return false;
  const moe_fact_t *index = moe_fact(s->b->facts, ir_in(op, 1));
  if (index->kind != FACT_CHOICE) return false;
  aim(s, op, index->source);
  if (keep(s, moe_match_choice(s->b, op, index->source))) return true;
  refuse(s, op, "a sum over the experts that chose a token");
  return false;
}

/* Whether it is, or is in a region of, what a layer will stand for. */
static bool is_settled(const search_t *s, const ir_op_t *op) {
  for (; op != NULL; op = op->parent->owner)
    if (op->n_out == 1 && s->settled[op->out[0].number]) return true;
  return false;
}

/* A router by the looks of its uses only, which many values have. */
static bool is_vague(const moe_source_t *source) {
  return source->by_mask || source->given;
}

/* A sum over slots or experts, of one of the nearest routers; `parts`: of those
 * whose slots are routers, where each slot is a sum over experts itself. */
static bool try_routers(search_t *s, ir_op_t *op, bool parts) {
  if (op->code != OP_REDUCE_SUM && op->code != OP_MATMUL) return false;
  unsigned end = sources_before(s, op), begin = end, n[2] = {0};
  while (begin > 0 && n[0] < NEAREST && n[1] < MAX_SKIPPED)
    n[is_vague(s->source[--begin])]++;
  for (unsigned i = begin; i < end; i++) {
    if (is_vague(s->source[i]) && n[1]-- > NEAREST) continue;
    if (parts && s->source[i]->n_parts == 0) continue;
    moe_found_t *found = NULL;
    aim(s, op, s->source[i]);
    if (op->code == OP_REDUCE_SUM)
      found = moe_match_slots(s->b, op, s->source[i]);
    else if (op->code == OP_MATMUL)
      found = moe_match_product(s->b, op, s->source[i]);
    if (parts && s->b->n_inner == 0) continue;
    if (keep(s, found)) return true;
    if (!parts) refuse(s, op, "a sum over a token's experts");
  }
  return false;
}

static bool try_op(search_t *s, ir_op_t *op) {
  if (is_settled(s, op)) return true;
  aim(s, op, NULL);
  if (moe_is_sum(op) && try_sum(s, op)) return true;
  return try_buffers(s, op) || try_choice(s, op) || try_routers(s, op, false);
}

/* A sum over slots each of which is a sum over experts: before these are taken
 * for layers. */
static bool try_slots(search_t *s, ir_op_t *op) {
  moe_sum_t *sum = &s->sum;
  if (is_settled(s, op)) return false;
  aim(s, op, NULL);
  if (op->code != OP_ADD || !dtype_is_float(op->out[0].type.dtype))
    return try_routers(s, op, true);
  moe_sum_parts(s->b, &op->out[0], sum);
  s->n_looked += sum->n;
  for (unsigned i = 0; i < sum->n; i++) {
    if (sum->part[i].layout == NULL) continue;
    const moe_source_t *source = sum->part[i].layout->source;
    if (sum->part[i].layout->kind != LAYOUT_SLOT) return false;
    if (!expr_equals_const(source->k, (int64_t)moe_sum_count(sum, source)))
      return false;
    aim(s, op, source);
    moe_found_t *found = moe_match_sum(s->b, &op->out[0], sum, source);
    return s->b->n_inner > 0 && keep(s, found);
  }
  return false;
}

static void try_all(search_t *s) {
  enum { MOST = 1 << 20 }; /* parts of sums over slots */
  for (ir_op_t *op = ir_walk_first(s->func);
       s->b->facts->n_joints > 0 && op != NULL && s->n_looked < MOST;
       op = ir_walk_next(op))
    try_slots(s, op);
  for (ir_op_t *op = ir_walk_first(s->func); op != NULL; op = ir_walk_next(op))
    try_op(s, op);
  while (s->split) {
    s->split = false;
    s->again = true;
    for (ir_op_t *op = ir_walk_first(s->func); op != NULL;
         op = ir_walk_next(op)) {
      if (!moe_is_sum(op) || is_settled(s, op)) continue;
      aim(s, op, NULL);
      try_sum(s, op);
    }
  }
}

/* Routers with one expert per token need no sum: the rest of them. Operations
 * up to the router after the nearest ones are tried, as in try_op(). */
static void try_singles(search_t *s, unsigned i) {
  const moe_source_t *source = s->source[i];
  for (const moe_found_t *f = s->first; f != NULL; f = f->next)
    if (f->source == source || moe_part_index(f->source, source) >= 0) return;
  unsigned last = i, n = 0;
  while (last + 1 < s->n_sources && n < NEAREST)
    n += !is_vague(s->source[++last]);
  const ir_op_t *end = n == NEAREST ? s->source[last]->index->def : NULL;
  for (ir_op_t *op = source->index->def; op != end; op = ir_walk_next(op)) {
    if (op->n_out != 1 || is_settled(s, op)) continue;
    aim(s, op, source);
    if (keep(s, moe_match_single(s->b, op, source))) return;
    refuse(s, op, "the expert of a token");
  }
}

/* What experts gave for routes that no sum was found for, as far as anything
 * needs it: from the last to the first. */
static void try_apart(search_t *s) {
  unsigned n = 0, n_values = s->b->facts->n_values;
  arena_t *scratch = s->ctx->scratch;
  ir_op_t **end = ARENA_ARRAY(scratch, ir_op_t *, n_values + 1);
  for (ir_op_t *op = ir_walk_first(s->func); op != NULL; op = ir_walk_next(op))
    if (moe_routes_end(s->b, op) != NULL) end[n++] = op;
  if (n == 0) return;
  bool *live = ARENA_ARRAY(scratch, bool, n_values + 1), known = false;
  moe_found_t **by_root = ARENA_ARRAY(scratch, moe_found_t *, n_values + 1);
  for (moe_found_t *f = s->first; f != NULL; f = f->next)
    by_root[f->root->number] = f;
  while (n-- > 0) {
    const ir_op_t *op = end[n];
    if (!known) moe_find_live(s->b->facts, s->terms, by_root, live);
    known = true;
    if (!live[op->out[0].number] || by_root[op->out[0].number] != NULL)
      continue;
    const moe_source_t *source = moe_routes_end(s->b, op);
    aim(s, op, source);
    moe_found_t *found = moe_match_apart(s->b, op, source);
    if (!keep(s, found)) continue;
    by_root[found->root->number] = found;
    known = false;
  }
}

/* Layers whose experts are computed for all tokens anyway stay as they are, and
 * what only larger layers had is gone with these. */
static void drop_useless(search_t *s) {
  const unsigned n = s->b->facts->n_values + 1;
  arena_t *scratch = s->ctx->scratch;
  bool *live = ARENA_ARRAY(scratch, bool, n), dropped = s->first != NULL;
  moe_found_t **by_root = ARENA_ARRAY(scratch, moe_found_t *, n);
  for (moe_found_t *f = s->first; f != NULL; f = f->next)
    by_root[f->root->number] = f;
  while (dropped) { /* what one needs, another does not save */
    dropped = false;
    moe_find_live(s->b->facts, s->terms, by_root, live);
    moe_found_t **link = &s->first;
    while (*link != NULL) {
      moe_found_t *f = *link;
      bool used = live[f->root->number];
      if (used &&
          (!moe_has_products(f) || moe_saves_products(s->b->facts, f, live))) {
        link = &f->next;
        continue;
      }
      aim(s, f->root->def, f->source);
      moe_fail(s->b, f->root->def, "all experts are computed for this only");
      if (used) refuse(s, f->root->def, "a sum over experts");
      by_root[f->root->number] = NULL;
      s->settled[f->root->number] = !used;
      *link = f->next;
      dropped = true;
    }
    s->last = link;
  }
}

/* ---- Writing ------------------------------------------------------------- */

static ir_value_t *now(void *user, ir_value_t *value) {
  const search_t *s = user;
  ir_value_t *other = s->stands[value->number];
  return other != NULL ? other : value;
}

static void write_all(search_t *s) {
  moe_limits_t *limits = moe_limits_find(s->ctx, s->b->facts, s->first);
  for (moe_found_t *found = s->first; found != NULL; found = found->next) {
    ir_value_t *sum;
    found->experts =
        moe_emit(s->ctx, found, limits, now, s, &sum, &found->limit);
    if (found->experts == NULL) continue;
    s->stands[found->root->number] = sum;
    s->ctx->changed = true;
  }
  moe_limits_apply(limits);
  for (moe_found_t *found = s->first; found != NULL; found = found->next) {
    if (found->experts == NULL) continue;
    if (found->limit == NULL)
      found->limit = moe_limits_settle(limits, found, found->experts);
    moe_tell(s->ctx, s->b->facts, s->first, found);
  }
}

/* Tells facts of routers that were written, in program order: each may be made
 * of others in front of it. */
static void know_written(moe_facts_t *facts, const moe_joint_t *joints,
                         const moe_fewer_t *fewer) {
  for (unsigned done = 0;;) {
    unsigned first = facts->n_values;
    const moe_fewer_t *next = NULL;
    for (const moe_joint_t *j = joints; j != NULL; j = j->next)
      if (j->all->number >= done && j->all->number < first)
        first = j->all->number;
    for (const moe_fewer_t *f = fewer; f != NULL; f = f->next)
      if (f->index->number >= done && f->index->number < first) {
        first = f->index->number;
        next = f;
      }
    if (first == facts->n_values) return;
    if (next != NULL) moe_know_fewer(facts, next);
    for (const moe_joint_t *j = joints; j != NULL; j = j->next)
      if (j->all->number == first) moe_fact(facts, j->all);
    done = first + 1;
  }
}

static moe_facts_t *new_facts(pass_ctx_t *ctx, ir_func_t *func,
                              const moe_levels_t *levels,
                              const moe_fewer_t *fewer) {
  ir_renumber(func);
  moe_facts_t *facts = moe_facts_create(ctx->scratch, func);
  moe_know_levels(facts, levels);
  know_written(facts, NULL, fewer);
  return facts;
}

/* Facts of a function in which routers that are made of others have choices. */
static moe_facts_t *find_facts(pass_ctx_t *ctx, ir_func_t *func,
                               moe_count_t **out_counts) {
  enum { MAX_ROUNDS = MOE_MAX_PARTS };
  moe_nest_t *nests = NULL;
  moe_joint_t *joints = NULL;
  moe_fewer_t *fewer = NULL;
  *out_counts = moe_write_counts(ctx, func);
  moe_write_tiles(ctx, func);
  const moe_levels_t *levels = moe_write_levels(ctx, func);
  moe_facts_t *facts = new_facts(ctx, func, levels, NULL);
  if (moe_write_trees(ctx, func, facts))
    facts = new_facts(ctx, func, levels, NULL);
  /* places of routes that are kept are no given numbers */
  for (unsigned i = 0;
       i < MAX_ROUNDS && moe_write_fewer(ctx, func, facts, &fewer); i++)
    facts = new_facts(ctx, func, levels, fewer);
  const moe_table_t *tables = moe_find_tables(ctx, func, facts);
  facts = new_facts(ctx, func, levels, fewer);
  moe_note_tables(facts, tables);
  moe_set_t *sets = NULL;
  moe_write_sets(ctx, func, facts, true, &sets);
  moe_mask_t *masks = moe_write_masks(ctx, func, facts);
  facts = new_facts(ctx, func, levels, fewer);
  moe_note_tables(facts, tables);
  moe_note_sets(facts, sets);
  moe_note_masks(facts, masks);
  moe_write_sets(ctx, func, facts, false, &sets);
  for (unsigned i = 0;; i++) {
    facts = new_facts(ctx, func, levels, fewer);
    moe_note_tables(facts, tables);
    know_written(facts, joints, fewer);
    for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
      find_picked(facts, op);
    moe_note_sets(facts, sets);
    moe_note_masks(facts, masks);
    moe_know_nests(facts, nests);
    if (i == MAX_ROUNDS) return facts;
    bool wrote = moe_write_joints(ctx, func, facts, &joints, &nests);
    if (!moe_write_fewer(ctx, func, facts, &fewer) && !wrote) return facts;
  }
}

moec_status_t run_moe(pass_ctx_t *ctx, ir_func_t *func) {
  moe_count_t *counts;
  moe_builder_t b = {.facts = find_facts(ctx, func, &counts)};
  unsigned n = ir_count_values(func);
  moe_terms_t terms;
  moe_terms_init(&terms, ctx->scratch, ctx->module->exprs);
  b.layouts = ARENA_ARRAY(ctx->scratch, moe_layout_list_t *, MOE_LAYOUT_SLOTS);
  b.memo = ARENA_ARRAY(ctx->scratch, moe_memo_t *, MOE_MEMO_SLOTS);
  search_t s = {.ctx = ctx, .func = func, .b = &b, .terms = &terms};
  s.last = &s.first;
  s.settled = ARENA_ARRAY(ctx->scratch, bool, n);
  s.layer = ARENA_ARRAY(ctx->scratch, const moe_source_t *, n);
  s.plain = ARENA_ARRAY(ctx->scratch, bool, n);
  s.matched = ARENA_ARRAY(ctx->scratch, bool, n);
  s.apart = ARENA_ARRAY(ctx->scratch, bool, n);
  s.leads = ARENA_ARRAY(ctx->scratch, const moe_source_t *, n);
  s.stands = ARENA_ARRAY(ctx->scratch, ir_value_t *, n);
  moe_refusals_init(&s.refusals, ctx->options->moe, ctx->scratch);
  find_sources(&s);
  if (s.n_sources == 0 && !b.facts->has_choices) {
    moe_refusals_tell(&s.refusals, b.facts, s.settled);
    moe_fold_counts(counts);
    return MOEC_OK;
  }
  try_all(&s);
  for (unsigned i = 0; i < s.n_sources; i++)
    if (expr_equals_const(s.source[i]->k, 1)) try_singles(&s, i);
  try_apart(&s);
  drop_useless(&s);
  moe_refusals_tell(&s.refusals, b.facts, s.settled);
  write_all(&s);
  if (ctx->changed && s.first != NULL) moe_release_sizes(b.facts, func);
  moe_fold_counts(counts);
  return MOEC_OK;
}
