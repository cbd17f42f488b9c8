/* Gives every stored result of the schedule its place in memory.
 *
 * Walks the schedule once: a result gets a workspace slot that no living value
 * holds, preferring one whose largest occupant has the same size; the slot's
 * size at run time is the largest of its occupants'. Sizes that cannot be
 * bounded before a run get growing regions. What a loop uses from outside lives
 * to its end. Linear in operations times open slots. */
#include "passes/pass.h"

typedef struct slot {
  const expr_t *bytes; /* of the occupant that made or last matched it */
  unsigned free_after; /* operation index of the last use of its occupant */
} slot_t;

typedef struct memory {
  ir_memory_kind_t kind;
  unsigned index;
} memory_t;

typedef struct planner {
  ir_module_t *module;
  arena_t *scratch;
  unsigned *last_use; /* by value number: index of the last operation */
  unsigned *base;     /* by value number: number of the value with the memory */
  int *output;        /* by value number: model output, or -1 */
  memory_t *given;    /* by value number: memory of the if that yields it */
  bool *is_given;     /* by value number */
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

/* ---- Lives --------------------------------------------------------------- */

/* Index of the last operation within op, whose own index is given. */
static unsigned end_of(const ir_op_t *op, unsigned index) {
  for (unsigned r = 0; r < op->n_regions; r++)
    for (const ir_op_t *in = op->regions[r].first; in != NULL; in = in->next)
      index = end_of(in, index + 1);
  return index;
}

static void stretch(planner_t *p, unsigned value, unsigned until) {
  if (p->last_use[value] < until) p->last_use[value] = until;
}

enum { MAX_LOOPS = 256 }; /* more than the verifier lets regions nest */

/* The end of the outermost loop between a use and the definition: the next trip
 * needs the value again. ends[] are those of the loops around, outermost first.
 */
typedef struct loops {
  const ir_region_t *region[MAX_LOOPS];
  unsigned end[MAX_LOOPS], n;
} loops_t;

static unsigned needed_until(const loops_t *loops, const ir_value_t *value,
                             unsigned index) {
  unsigned first = 0;
  for (unsigned i = 0; i < loops->n; i++)
    if (ir_region_holds(loops->region[i], ir_home(value))) first = i + 1;
  return first < loops->n ? loops->end[first] : index;
}

static void note_results(planner_t *p, const ir_op_t *op, unsigned index,
                         unsigned end) {
  const ir_value_t *shared = shared_operand(op);
  for (unsigned i = 0; i < op->n_out; i++) {
    unsigned number = op->out[i].number;
    p->base[number] = i == 0 && shared != NULL ? base_of(p, shared) : number;
    p->output[number] = -1;
    stretch(p, p->base[number], op->n_regions > 0 ? end : index);
  }
  if (op->code != OP_WHILE) return;
  const ir_region_t *region = &op->regions[0];
  for (unsigned i = 0; i < region->n_args; i++)
    p->base[region->args[i].number] =
        i == 0 ? region->args[0].number : op->out[i - 1].number;
}

static void note_operands(planner_t *p, const ir_op_t *op, unsigned index,
                          const loops_t *loops) {
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *value = op->in[i].value;
    if (value == NULL) continue;
    stretch(p, base_of(p, value), needed_until(loops, value, index));
    if (op->code == OP_RETURN) p->output[base_of(p, value)] = (int)i;
  }
}

/* Numbers operations in program order; returns the next index. */
static unsigned find_lives(planner_t *p, const ir_region_t *region,
                           loops_t *loops, unsigned index) {
  for (const ir_op_t *op = region->first; op != NULL; op = op->next) {
    unsigned end = op->n_regions > 0 ? end_of(op, index) : index;
    note_results(p, op, index, end);
    note_operands(p, op, index, loops);
    index++;
    for (unsigned r = 0; r < op->n_regions; r++) {
      if (op->code == OP_WHILE) {
        MOEC_ASSERT(loops->n < sizeof loops->end / sizeof loops->end[0]);
        loops->region[loops->n] = &op->regions[r];
        loops->end[loops->n++] = end;
      }
      index = find_lives(p, &op->regions[r], loops, index);
      loops->n -= op->code == OP_WHILE;
    }
  }
  return index;
}

/* ---- Places -------------------------------------------------------------- */

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

static memory_t place_result(planner_t *p, const ir_value_t *value,
                             unsigned index) {
  if (p->is_given[value->number]) return p->given[value->number];
  if (p->output[value->number] >= 0)
    return (memory_t){IR_MEMORY_OUTPUT, (unsigned)p->output[value->number]};
  const expr_t *bound = bound_before_run(p, bytes_of(p, &value->type));
  if (bound == NULL) return (memory_t){IR_MEMORY_GROWING, p->n_growing++};
  unsigned s = choose_slot(p, bound, index);
  p->slots[s] = (slot_t){bound, p->last_use[value->number]};
  return (memory_t){IR_MEMORY_SLOT, s};
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
    case OP_IF:
      *out_id = ATTR_IF_memory;
      return true;
    case OP_WHILE:
      *out_id = ATTR_WHILE_memory;
      return true;
    default:
      return false;
  }
}

/* What a region of an if yields is made where the if's result lies. */
static void give_to_yielded(planner_t *p, const ir_op_t *op, unsigned result,
                            memory_t memory) {
  for (unsigned r = 0; r < op->n_regions; r++) {
    const ir_value_t *yielded = op->regions[r].last->in[result].value;
    p->given[base_of(p, yielded)] = memory;
    p->is_given[base_of(p, yielded)] = true;
  }
}

static memory_t place_counter(planner_t *p, const ir_value_t *counter,
                              unsigned index, unsigned end) {
  stretch(p, counter->number, end);
  return place_result(p, counter, index);
}

static void place_op(planner_t *p, ir_op_t *op, unsigned index) {
  ir_attr_id_t id;
  if (!memory_attr(op->code, &id)) return;
  bool loops = op->code == OP_WHILE;
  unsigned n = op->n_out + loops;
  if (n == 0 && op->code != OP_IF) return; /* an If may only check things */
  int64_t *memory = ARENA_ARRAY(p->scratch, int64_t, n * 2);
  for (unsigned i = 0; i < n; i++) {
    memory_t m;
    if (i == op->n_out)
      m = place_counter(p, &op->regions[0].args[0], index, end_of(op, index));
    else if (i == 0 && shared_operand(op) != NULL)
      m = (memory_t){IR_MEMORY_OPERAND,
                     (unsigned)ir_get_int(op, ATTR_LAUNCH_inplace)};
    else
      m = place_result(p, &op->out[i], index);
    if (op->code == OP_IF) give_to_yielded(p, op, i, m);
    memory[2 * i] = m.kind;
    memory[2 * i + 1] = m.index;
  }
  ir_set_ints(op, id, n * 2, memory);
}

moec_status_t run_plan(pass_ctx_t *ctx, ir_func_t *func) {
  ir_renumber(func);
  unsigned n = ir_count_values(func) + 1;
  planner_t p = {.module = ctx->module, .scratch = ctx->scratch};
  p.last_use = ARENA_ARRAY(ctx->scratch, unsigned, n);
  p.base = ARENA_ARRAY(ctx->scratch, unsigned, n);
  p.output = ARENA_ARRAY(ctx->scratch, int, n);
  p.given = ARENA_ARRAY(ctx->scratch, memory_t, n);
  p.is_given = ARENA_ARRAY(ctx->scratch, bool, n);
  for (unsigned i = 0; i < n; i++) p.output[i] = -1;
  for (unsigned i = 0; i < func->body.n_args; i++) p.base[i] = i;
  find_lives(&p, &func->body, &(loops_t){0}, 0);
  find_input_symbols(&p, func);
  unsigned index = 0;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
    place_op(&p, op, index++);
  return MOEC_OK;
}
