/* Applies the rules of canonicalize.def to a fixed point.
 *
 * A rule looks at an operation and at what defines its operands. One sweep
 * forwards therefore sees operands in their final form and leaves little to the
 * next one, which is made as long as the last one changed something. What a
 * rule builds is visited at once. Linear in operations; no recursion but into
 * nested regions. Operations that lose their last user stay for dce. */
#include "passes/pass.h"
#include "passes/rules.h"

enum { MAX_SWEEPS = 16 };

typedef struct canonicalizer {
  pass_ctx_t *ctx;
  const rule_t *const *rules[OP_COUNT]; /* by root, each list ends with NULL */
  long left; /* rewrites until we must have run into a circle */
  bool again;
} canonicalizer_t;

/* ---- The table by root --------------------------------------------------- */

static bool is_reduction(ir_opcode_t code) {
  return code == OP_REDUCE_SUM || code == OP_REDUCE_PROD ||
         code == OP_REDUCE_MAX || code == OP_REDUCE_MIN;
}

static bool covers(rule_root_t set, ir_opcode_t code) {
  switch (set) {
    case RULE_ANY:
      return true;
    case RULE_ELEMENTWISE:
      return (ir_op_info(code)->traits & ELEMENTWISE) != 0;
    case RULE_REDUCTION:
      return is_reduction(code);
    default:
      return (unsigned)set == (unsigned)code;
  }
}

static void sort_rules(canonicalizer_t *c) {
  for (unsigned code = 0; code < OP_COUNT; code++) {
    const rule_t **list =
        ARENA_ARRAY(c->ctx->scratch, const rule_t *, rule_count() + 1);
    unsigned n = 0;
    for (unsigned i = 0; i < rule_count(); i++)
      if (covers(rule_at(i)->root, (ir_opcode_t)code)) list[n++] = rule_at(i);
    c->rules[code] = list;
  }
}

/* ---- One operation ------------------------------------------------------- */

static bool is_dead(const ir_op_t *op) {
  if (!ir_has_trait(op, PURE)) return false;
  for (unsigned i = 0; i < op->n_out; i++)
    if (op->out[i].uses != NULL) return false;
  return true;
}

static const rule_t *find_rule(const canonicalizer_t *c, const ir_op_t *op) {
  const ir_value_t *first = ir_in(op, 0);
  for (const rule_t *const *rule = c->rules[op->code]; *rule != NULL; rule++) {
    rule_root_t set = (*rule)->operand0;
    if (set != RULE_ANY &&
        (first == NULL || first->def == NULL || !covers(set, first->def->code)))
      continue;
    if ((*rule)->match(op)) return *rule;
  }
  return NULL;
}

static ir_op_t *first_after(const ir_region_t *region, const ir_op_t *prev) {
  return prev != NULL ? prev->next : region->first;
}

/* Takes back what an apply function built between prev and op. */
static void undo(const ir_op_t *prev, const ir_op_t *op) {
  while (op->prev != prev) ir_erase(op->prev);
}

/* Replaces op; false where inference refuses the replacement, which means that
 * the model cannot run and may stay as it is. */
static bool rewrite(const canonicalizer_t *c, const rule_t *rule, ir_op_t *op) {
  const ir_op_t *prev = op->prev;
  ir_builder_t b = {.module = c->ctx->module,
                    .region = op->parent,
                    .before = op,
                    .loc = op->loc};
  ir_value_t *by = rule->apply(op, &b);
  ir_value_t *old = op->n_out > 0 ? &op->out[0] : NULL;
  if (old != NULL && by == old) return true; /* changed in place */
  if (b.status != MOEC_OK || (old != NULL && by == NULL) ||
      (old != NULL && !ir_type_equal(&by->type, &old->type))) {
    undo(prev, op);
    return false;
  }
  if (old != NULL) {
    if (by->name == NULL) by->name = old->name;
    ir_replace_uses(old, by);
  }
  ir_erase(op);
  return true;
}

/* Far more rewrites than there can be without a bug; what there is so far is
 * valid all the same. */
static bool is_circling(canonicalizer_t *c, const rule_t *rule,
                        const ir_op_t *op) {
  if (c->left-- > 0) return false;
  if (c->left == -1)
    diag_warning(c->ctx->diag, op->loc,
                 "the rules of canonicalize go in circles at '%s'", rule->name);
  c->left = -1;
  return true;
}

/* Applies the first rule that matches; returns where the sweep goes on: at the
 * first operation that was built, or after op. */
static ir_op_t *visit(canonicalizer_t *c, ir_op_t *op) {
  const ir_op_t *prev = op->prev;
  ir_op_t *next = op->next;
  const ir_region_t *region = op->parent;
  if (is_dead(op)) return next;
  const rule_t *rule = find_rule(c, op);
  if (rule == NULL || is_circling(c, rule, op)) return next;
  if (!pass_allow_rewrite(c->ctx, rule->name, op)) return next;
  if (!rewrite(c, rule, op)) return next;
  c->again = true;
  return first_after(region, prev);
}

static void sweep(canonicalizer_t *c, ir_region_t *region) {
  for (ir_op_t *op = region->first, *next; op != NULL; op = next) {
    for (unsigned i = 0; i < op->n_regions; i++) sweep(c, &op->regions[i]);
    next = visit(c, op);
  }
}

moec_status_t run_canonicalize(pass_ctx_t *ctx, ir_func_t *func) {
  canonicalizer_t c = {.ctx = ctx, .again = true};
  c.left = 1000 + 100L * ir_count_values(func);
  sort_rules(&c);
  for (int i = 0; i < MAX_SWEEPS && c.again; i++) {
    c.again = false;
    sweep(&c, &func->body);
  }
  return MOEC_OK;
}
