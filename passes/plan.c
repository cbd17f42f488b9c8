/* Gives every stored result of the schedule its place in memory.
 *
 * Walks the schedule once: a result gets a workspace slot that no living value
 * holds, preferring one whose largest occupant has the same size; the slot's
 * size at run time is the largest of its occupants'. Sizes that cannot be
 * bounded before a run get growing regions. Linear in operations times open
 * slots. */
#include "passes/pass.h"

typedef struct slot {
  const expr_t *bytes; /* of the occupant that made or last matched it */
  unsigned free_after; /* operation index of the last use of its occupant */
} slot_t;

typedef struct planner {
  ir_module_t *module;
  arena_t *scratch;
  unsigned *last_use; /* by value number: index of the last operation */
  unsigned *base;     /* by value number: number of the value with the memory */
  int *output;        /* by value number: model output, or -1 */
  bool *is_input;     /* by symbol index: known before a run */
  slot_t *slots;
  unsigned n_slots, capacity, n_growing;
} planner_t;

static unsigned base_of(const planner_t *p, const ir_value_t *value) {
  return p->base[value->number];
}

/* Results that are their operand's memory. */
static const ir_value_t *shared_operand(const ir_op_t *op) {
  if (ir_has_trait(op, VIEW)) return op->in[0].value;
  if (op->code == OP_LAUNCH && ir_get_int(op, ATTR_LAUNCH_inplace) >= 0)
    return op->in[ir_get_int(op, ATTR_LAUNCH_inplace)].value;
  return NULL;
}

static void find_lives(planner_t *p, ir_func_t *func) {
  unsigned index = 0;
  for (unsigned i = 0; i < func->body.n_args; i++) p->base[i] = i;
  for (ir_op_t *op = func->body.first; op != NULL; op = op->next, index++) {
    const ir_value_t *shared = shared_operand(op);
    for (unsigned i = 0; i < op->n_out; i++) {
      unsigned number = op->out[i].number;
      p->base[number] = i == 0 && shared != NULL ? base_of(p, shared) : number;
      p->output[number] = -1;
      if (p->last_use[p->base[number]] < index)
        p->last_use[p->base[number]] = index;
    }
    for (unsigned i = 0; i < op->n_in; i++) {
      if (op->in[i].value == NULL) continue;
      unsigned base = base_of(p, op->in[i].value);
      p->last_use[base] = index;
      if (op->code == OP_RETURN) p->output[base] = (int)i;
    }
  }
}

static const expr_t *bytes_of(const planner_t *p, const ir_type_t *type) {
  expr_pool_t *pool = p->module->exprs;
  const expr_t *count = ir_type_count(pool, type);
  const expr_t *bits = expr_const(pool, dtype_bits(type->dtype));
  return expr_ceildiv(pool, expr_mul(pool, count, bits), expr_const(pool, 8));
}

static void find_input_symbols(planner_t *p, const ir_func_t *func) {
  p->is_input =
      ARENA_ARRAY(p->scratch, bool, expr_n_symbols(p->module->exprs) + 1);
  for (unsigned i = 0; i < func->body.n_args; i++) {
    const ir_type_t *type = &func->body.args[i].type;
    for (unsigned d = 0; d < type->rank; d++)
      if (!expr_is_const(type->dim[d], NULL))
        p->is_input[type->dim[d]->terms[0].atoms[0]->symbol->index] = true;
  }
}

/* A bound of e that is known before a run, or NULL. */
static const expr_t *bound_before_run(const planner_t *p, const expr_t *e) {
  const expr_t *bound = expr_upper_expr(p->module->exprs, e);
  if (bound == NULL || expr_is_const(bound, NULL)) return bound;
  for (unsigned i = 0; i < expr_n_symbols(p->module->exprs); i++)
    if (!p->is_input[i] &&
        expr_mentions(bound, expr_symbol_at(p->module->exprs, i)))
      return NULL;
  return bound;
}

/* The free slot to take: one of equal size, else the one freed last. */
static unsigned choose_slot(planner_t *p, const expr_t *bytes, unsigned index) {
  enum { LOOK_BACK = 256 };
  unsigned best = p->n_slots;
  unsigned first = p->n_slots > LOOK_BACK ? p->n_slots - LOOK_BACK : 0;
  for (unsigned s = p->n_slots; s-- > first;) {
    if (p->slots[s].free_after >= index) continue;
    if (p->slots[s].bytes == bytes) return s;
    if (best == p->n_slots) best = s;
  }
  if (best < p->n_slots) return best;
  if (p->n_slots == p->capacity) {
    unsigned capacity = p->capacity * 2 + 64;
    p->slots = arena_grow_array(p->scratch, p->slots, p->capacity, capacity,
                                sizeof *p->slots);
    p->capacity = capacity;
  }
  return p->n_slots++;
}

static void place_result(planner_t *p, const ir_value_t *value, unsigned index,
                         int64_t *out) {
  const expr_t *bytes = bytes_of(p, &value->type);
  const expr_t *bound = bound_before_run(p, bytes);
  if (p->output[value->number] >= 0) {
    out[0] = IR_MEMORY_OUTPUT;
    out[1] = p->output[value->number];
  } else if (bound == NULL) {
    out[0] = IR_MEMORY_GROWING;
    out[1] = p->n_growing++;
  } else {
    unsigned s = choose_slot(p, bound, index);
    p->slots[s] = (slot_t){bound, p->last_use[value->number]};
    out[0] = IR_MEMORY_SLOT;
    out[1] = s;
  }
}

static bool memory_attr(ir_opcode_t code, ir_attr_id_t *out_id) {
  switch (code) {
    case OP_LAUNCH:
      *out_id = ATTR_LAUNCH_memory;
      return true;
    case OP_CALL:
      *out_id = ATTR_CALL_memory;
      return true;
    case OP_EMPTY:
      *out_id = ATTR_EMPTY_memory;
      return true;
    case OP_EXPRS:
      *out_id = ATTR_EXPRS_memory;
      return true;
    default:
      return false;
  }
}

static void place_op(planner_t *p, ir_op_t *op, unsigned index) {
  ir_attr_id_t id;
  if (op->n_out == 0 || !memory_attr(op->code, &id)) return;
  int64_t *memory = ARENA_ARRAY(p->scratch, int64_t, op->n_out * 2);
  for (unsigned i = 0; i < op->n_out; i++) {
    if (i == 0 && shared_operand(op) != NULL) {
      memory[0] = IR_MEMORY_OPERAND;
      memory[1] = ir_get_int(op, ATTR_LAUNCH_inplace);
    } else {
      place_result(p, &op->out[i], index, memory + 2 * i);
    }
  }
  ir_set_ints(op, id, op->n_out * 2, memory);
}

moec_status_t run_plan(pass_ctx_t *ctx, ir_func_t *func) {
  ir_renumber(func);
  unsigned n = ir_count_values(func) + 1;
  planner_t p = {.module = ctx->module, .scratch = ctx->scratch};
  p.last_use = ARENA_ARRAY(ctx->scratch, unsigned, n);
  p.base = ARENA_ARRAY(ctx->scratch, unsigned, n);
  p.output = ARENA_ARRAY(ctx->scratch, int, n);
  find_lives(&p, func);
  find_input_symbols(&p, func);
  unsigned index = 0;
  for (ir_op_t *op = func->body.first; op != NULL; op = op->next)
    place_op(&p, op, index++);
  return MOEC_OK;
}
