/* If and while of the schedule. Regions are functions of their own; all that
 * they share with what is around them lies in the frame, the workspace and the
 * table of pointers. */
#include "backend/schedule_internal.h"

static LLVMBasicBlockRef new_block(scheduler_t *s, const char *name) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(s->em->builder);
  return LLVMAppendBasicBlockInContext(s->em->context,
                                       LLVMGetBasicBlockParent(here), name);
}

/* A bool[] as i1. */
static LLVMValueRef load_bool(scheduler_t *s, const ir_value_t *value) {
  LLVMValueRef byte =
      LLVMBuildLoad2(s->em->builder, s->em->i8, schedule_pointer(s, value), "");
  LLVMValueRef zero = LLVMConstInt(s->em->i8, 0, false);
  return LLVMBuildICmp(s->em->builder, LLVMIntNE, byte, zero, "");
}

/* symbols = sizes, all at once. */
static void store_symbols(scheduler_t *s, const expr_t *const *symbols,
                          const expr_t *const *sizes, unsigned n) {
  LLVMValueRef *value = ARENA_ARRAY(s->em->arena, LLVMValueRef, n + 1);
  for (unsigned i = 0; i < n; i++) value[i] = emit_size(&s->sizes, sizes[i]);
  for (unsigned i = 0; i < n; i++)
    LLVMBuildStore(s->em->builder, value[i],
                   emit_symbol_address(&s->sizes, expr_as_symbol(symbols[i])));
  size_forget(&s->sizes);
}

/* ---- If ------------------------------------------------------------------ */

void emit_if(scheduler_t *s, const ir_op_t *op) {
  LLVMBuilderRef at = s->em->builder;
  schedule_place_results(s, op, ATTR_IF_memory);
  LLVMValueRef cond = load_bool(s, op->in[0].value);
  LLVMBasicBlockRef branch[] = {new_block(s, "then"), new_block(s, "else")};
  LLVMBasicBlockRef end = new_block(s, "end");
  LLVMBuildCondBr(at, cond, branch[0], branch[1]);
  for (unsigned r = 0; r < 2; r++) {
    LLVMPositionBuilderAtEnd(at, branch[r]);
    schedule_region(s, &op->regions[r]);
    LLVMBuildBr(at, end);
  }
  LLVMPositionBuilderAtEnd(at, end);
}

/* ---- While --------------------------------------------------------------- */

/* Copies a tensor to the memory of result i, which grows as needed. */
static void copy_to_state(scheduler_t *s, const ir_op_t *op, unsigned i,
                          const ir_value_t *from) {
  int64_t kind, index;
  bool planned = program_memory(op, i, &kind, &index);
  MOEC_ASSERT(planned);
  LLVMValueRef bytes = schedule_checked_bytes(s, op, &from->type);
  if (kind == IR_MEMORY_GROWING) schedule_grow(s, index, bytes);
  LLVMValueRef to = schedule_pointer(s, &op->out[i]);
  LLVMBuildMemCpy(s->em->builder, to, 1, schedule_pointer(s, from), 1, bytes);
}

/* The memory of what the trips stack, where its size is known. */
static void obtain_rows(scheduler_t *s, const ir_op_t *op, unsigned i) {
  int64_t kind, index;
  program_memory(op, i, &kind, &index);
  if (kind != IR_MEMORY_GROWING) return;
  schedule_grow(s, index,
                ir_while_knows_size(op, i)
                    ? schedule_checked_bytes(s, op, &op->out[i].type)
                    : schedule_i64(s, 0));
}

static void begin_while(scheduler_t *s, const ir_op_t *op) {
  const ir_region_t *region = &op->regions[0];
  unsigned n_state = op->n_in - 2, n;
  int64_t kind, index;
  schedule_place_results(s, op, ATTR_WHILE_memory);
  program_memory(op, op->n_out, &kind, &index);
  MOEC_ASSERT(kind == IR_MEMORY_SLOT);
  s->places[region->args[0].number] = (place_t){AT_SLOT, (uint64_t)index};
  for (unsigned i = 0; i < op->n_out; i++) {
    bool planned = program_memory(op, i, &kind, &index);
    MOEC_ASSERT(planned);
    if (kind == IR_MEMORY_OUTPUT)
      schedule_obtain_output(s, op, &op->out[i], index);
  }
  for (unsigned i = 0; i < n_state; i++) {
    s->places[region->args[1 + i].number] = s->places[op->out[i].number];
    copy_to_state(s, op, i, op->in[2 + i].value);
  }
  const expr_t *const *symbols = ir_get_exprs(op, ATTR_WHILE_symbols, &n);
  store_symbols(s, symbols, ir_get_exprs(op, ATTR_WHILE_inits, &n), n);
  for (unsigned i = n_state; i < op->n_out; i++) obtain_rows(s, op, i);
}

void emit_while(scheduler_t *s, const ir_op_t *op) {
  LLVMBuilderRef at = s->em->builder;
  LLVMTypeRef type = s->em->i64;
  const ir_region_t *region = &op->regions[0];
  begin_while(s, op);
  LLVMValueRef limit =
      LLVMBuildLoad2(at, type, schedule_pointer(s, op->in[0].value), "limit");
  LLVMValueRef first = load_bool(s, op->in[1].value);
  LLVMValueRef counter = schedule_pointer(s, &region->args[0]);
  LLVMBasicBlockRef before = LLVMGetInsertBlock(at);
  LLVMBasicBlockRef head = new_block(s, "head"), trip = new_block(s, "trip");
  LLVMBasicBlockRef end = new_block(s, "end");
  LLVMBuildBr(at, head);

  LLVMPositionBuilderAtEnd(at, head);
  LLVMValueRef i = LLVMBuildPhi(at, type, "i");
  LLVMValueRef more = LLVMBuildPhi(at, LLVMTypeOf(first), "more");
  LLVMValueRef within = LLVMBuildICmp(at, LLVMIntSLT, i, limit, "");
  LLVMBuildCondBr(at, LLVMBuildAnd(at, within, more, ""), trip, end);

  LLVMPositionBuilderAtEnd(at, trip);
  LLVMBuildStore(at, i, counter);
  schedule_region(s, region);
  LLVMValueRef next = LLVMBuildAdd(at, i, schedule_i64(s, 1), "");
  LLVMValueRef again = load_bool(s, region->last->in[0].value);
  LLVMBasicBlockRef after = LLVMGetInsertBlock(at);
  LLVMBuildBr(at, head);
  LLVMBasicBlockRef blocks[] = {before, after};
  LLVMAddIncoming(i, (LLVMValueRef[]){schedule_i64(s, 0), next}, blocks, 2);
  LLVMAddIncoming(more, (LLVMValueRef[]){first, again}, blocks, 2);

  LLVMPositionBuilderAtEnd(at, end);
  if (ir_get_int(op, ATTR_WHILE_counted) != 0)
    LLVMBuildStore(at, i,
                   emit_symbol_address(&s->sizes, expr_as_symbol(ir_get_expr(
                                                      op, ATTR_WHILE_trips))));
  size_forget(&s->sizes);
}

/* ---- Yield --------------------------------------------------------------- */

/* Ends the run unless the trip's sizes of rows are those of the first trip. */
static void check_steady(scheduler_t *s, const ir_op_t *yield,
                         const ir_op_t *op, LLVMValueRef trip) {
  unsigned n;
  LLVMBuilderRef at = s->em->builder;
  const expr_t *const *symbols = ir_get_exprs(op, ATTR_WHILE_symbols, &n);
  unsigned first = n - (unsigned)ir_get_int(op, ATTR_WHILE_steady);
  if (first == n) return;
  const expr_t *const *sizes = ir_get_exprs(yield, ATTR_YIELD_sizes, &n);
  LLVMValueRef later =
      LLVMBuildICmp(at, LLVMIntNE, trip, schedule_i64(s, 0), "");
  for (unsigned i = first; i < n; i++) {
    LLVMValueRef old = LLVMBuildLoad2(
        at, s->em->i64,
        emit_symbol_address(&s->sizes, expr_as_symbol(symbols[i])), "");
    LLVMValueRef now = emit_size(&s->sizes, sizes[i]);
    LLVMValueRef differs = LLVMBuildICmp(at, LLVMIntNE, old, now, "");
    LLVMValueRef what =
        program_string(s->program, "dimensions of a scan output in two trips");
    schedule_fail_by_call(
        s, LLVMBuildAnd(at, later, differs, ""), "moert_fail_equal", 5,
        (LLVMValueRef[]){s->frame, schedule_node(s, op), what, old, now});
  }
}

/* Row `trip` of result i. */
static void copy_row(scheduler_t *s, const ir_op_t *op, unsigned i,
                     const ir_value_t *row, LLVMValueRef trip) {
  LLVMBuilderRef at = s->em->builder;
  int64_t kind, index;
  program_memory(op, i, &kind, &index);
  LLVMValueRef bytes = schedule_checked_bytes(s, op, &row->type);
  LLVMValueRef offset = LLVMBuildMul(at, bytes, trip, "");
  if (kind == IR_MEMORY_GROWING && !ir_while_knows_size(op, i))
    schedule_grow(s, index, LLVMBuildAdd(at, offset, bytes, ""));
  LLVMValueRef to = LLVMBuildInBoundsGEP2(
      at, s->em->i8, schedule_pointer(s, &op->out[i]), &offset, 1, "");
  LLVMBuildMemCpy(at, to, 1, schedule_pointer(s, row), 1, bytes);
}

static void end_trip(scheduler_t *s, const ir_op_t *yield, const ir_op_t *op) {
  const ir_region_t *region = yield->parent;
  unsigned n_state = op->n_in - 2;
  LLVMValueRef trip = LLVMBuildLoad2(s->em->builder, s->em->i64,
                                     schedule_pointer(s, &region->args[0]), "");
  check_steady(s, yield, op, trip);
  for (unsigned i = n_state; i < op->n_out; i++)
    copy_row(s, op, i, yield->in[1 + i].value, trip);
  for (unsigned i = 0; i < n_state; i++)
    if (yield->in[1 + i].value != &region->args[1 + i])
      copy_to_state(s, op, i, yield->in[1 + i].value);
}

void emit_yield(scheduler_t *s, const ir_op_t *yield) {
  const ir_op_t *op = yield->parent->owner;
  unsigned n = 0;
  if (op->code == OP_WHILE) end_trip(s, yield, op);
  if (!ir_has_attr(yield, ATTR_YIELD_sizes)) return;
  const expr_t *const *sizes = ir_get_exprs(yield, ATTR_YIELD_sizes, &n);
  ir_attr_id_t id = op->code == OP_IF ? ATTR_IF_symbols : ATTR_WHILE_symbols;
  store_symbols(s, ir_get_exprs(op, id, &n), sizes, n);
}
