/* If and while stay as they are in the schedule; their regions are lowered.
 *
 * An if's results are memory that both regions write: what a region yields was
 * made in it. A while's state is memory of its own that the yielded values are
 * copied to after each trip; they must not lie in it. */
#include "passes/lower.h"

/* The operation in the schedule, with empty regions that take `args`. */
static ir_op_t *place_shell(lower_t *lo, const ir_op_t *op) {
  arena_t *arena = lo->module->arena;
  ir_value_t **in = ARENA_ARRAY(arena, ir_value_t *, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++)
    in[i] = lower_stored(lo, op->in[i].value);
  ir_op_t *shell =
      ir_op_create(lo->module, op->code, op->loc, op->n_in, in, op->n_out);
  for (unsigned i = 0; i < op->n_attrs; i++)
    shell->attrs[shell->n_attrs++] = op->attrs[i];
  for (unsigned i = 0; i < op->n_out; i++) {
    shell->out[i].type = op->out[i].type;
    lower_set_stored(lo, &op->out[i], &shell->out[i]);
  }
  for (unsigned r = 0; r < op->n_regions; r++) {
    const ir_region_t *region = &op->regions[r];
    ir_type_t *types = ARENA_ARRAY(arena, ir_type_t, region->n_args);
    for (unsigned i = 0; i < region->n_args; i++)
      types[i] = region->args[i].type;
    ir_region_set_args(shell, r, region->n_args, types);
  }
  ir_append(lo->schedule.region, shell);
  return shell;
}

static void append_yield(lower_t *lo, const ir_op_t *yield,
                         ir_value_t *const *in) {
  ir_op_t *copy =
      ir_op_create(lo->module, OP_YIELD, yield->loc, yield->n_in, in, 0);
  if (ir_has_attr(yield, ATTR_YIELD_sizes)) {
    unsigned n;
    const expr_t *const *sizes = ir_get_exprs(yield, ATTR_YIELD_sizes, &n);
    ir_set_exprs(copy, ATTR_YIELD_sizes, n, sizes);
  }
  ir_append(lo->schedule.region, copy);
}

/* The operations of a region; what it yields belongs to it, too: the caller
 * leaves it. */
static ir_op_t *enter_region(lower_t *lo, ir_region_t *region,
                             ir_region_t *schedule) {
  lo->schedule.region = schedule;
  ir_op_t *yield = lower_region(lo, region);
  lo->region = region;
  return yield;
}

static void if_root(lower_t *lo, ir_op_t *op) {
  ir_op_t *shell = place_shell(lo, op);
  ir_region_t *outer = lo->schedule.region;
  const ir_region_t *around = lo->region;
  for (unsigned r = 0; r < 2; r++) {
    ir_op_t *yield = enter_region(lo, &op->regions[r], &shell->regions[r]);
    ir_value_t **in = ARENA_ARRAY(lo->module->arena, ir_value_t *, op->n_out);
    for (unsigned i = 0; i < op->n_out; i++) {
      in[i] = lower_stored(lo, yield->in[i].value);
      in[i] = lower_owned(lo, in[i], yield->loc, i, in);
    }
    append_yield(lo, yield, in);
  }
  lo->schedule.region = outer;
  lo->region = around;
}

static void while_root(lower_t *lo, ir_op_t *op) {
  ir_op_t *shell = place_shell(lo, op);
  ir_region_t *outer = lo->schedule.region, *region = &shell->regions[0];
  for (unsigned i = 0; i < region->n_args; i++)
    lower_set_stored(lo, &op->regions[0].args[i], &region->args[i]);
  const ir_region_t *around = lo->region;
  ir_op_t *yield = enter_region(lo, &op->regions[0], region);
  unsigned n_state = op->n_in - 2;
  ir_value_t **in = ARENA_ARRAY(lo->module->arena, ir_value_t *, yield->n_in);
  for (unsigned i = 0; i < yield->n_in; i++) {
    in[i] = lower_stored(lo, yield->in[i].value);
    const ir_value_t *base = lower_storage_of(in[i]);
    bool is_state = i >= 1 && i <= n_state;
    bool stays = is_state && in[i] == &region->args[i];
    if (base->region == region && !stays)
      in[i] = lower_owned(lo, in[i], yield->loc, 0, NULL);
  }
  append_yield(lo, yield, in);
  lo->schedule.region = outer;
  lo->region = around;
}

const lowering_t lowering_if = {.root = if_root};
const lowering_t lowering_while = {.root = while_root};
