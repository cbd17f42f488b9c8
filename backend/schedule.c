/* The schedule as LLVM code: plan() and run().
 *
 * run() is cut into functions of CHUNK operations, so that the time of code
 * generation stays linear. All state is in the frame and in a table of the
 * pointers that are known only in a run (outputs and growing regions). */
#include "backend/schedule.h"

#include <string.h>

#include "backend/kernel.h"
#include "backend/schedule_internal.h"

enum { CHUNK = 64 };

static unsigned kernel_number(const scheduler_t *s, const char *name);

/* ---- Helpers ------------------------------------------------------------- */

static LLVMValueRef call(scheduler_t *s, const char *name, LLVMTypeRef result,
                         unsigned n, LLVMValueRef *args) {
  return program_call(s->program, name, result, n, args);
}

static LLVMValueRef frame_field(scheduler_t *s, size_t offset,
                                LLVMTypeRef type) {
  LLVMValueRef index = schedule_i64(s, (int64_t)offset);
  LLVMValueRef at =
      LLVMBuildInBoundsGEP2(s->em->builder, s->em->i8, s->frame, &index, 1, "");
  return LLVMBuildLoad2(s->em->builder, type, at, "");
}
#define FRAME(s, field, type) \
  frame_field((s), offsetof(moert_frame_t, field), (type))

LLVMValueRef schedule_element(scheduler_t *s, LLVMTypeRef type,
                              LLVMValueRef base, int64_t index) {
  LLVMValueRef i = schedule_i64(s, index);
  return LLVMBuildInBoundsGEP2(s->em->builder, type, base, &i, 1, "");
}

/* base[index] = e */
static void store_size(scheduler_t *s, const expr_t *e, LLVMValueRef base,
                       int64_t index) {
  LLVMValueRef size = emit_size(&s->sizes, e);
  LLVMBuildStore(s->em->builder, size,
                 schedule_element(s, s->em->i64, base, index));
}

/* Leaves the function with `status` where cond (i1) holds. */
void schedule_fail_if(scheduler_t *s, LLVMValueRef cond, LLVMValueRef status) {
  LLVMBuilderRef at = s->em->builder;
  LLVMBasicBlockRef here = LLVMGetInsertBlock(at);
  LLVMBasicBlockRef go_on = LLVMAppendBasicBlockInContext(
      s->em->context, LLVMGetBasicBlockParent(here), "go_on");
  LLVMBuildCondBr(at, cond, s->fail, go_on);
  LLVMAddIncoming(s->status, &status, &here, 1);
  LLVMPositionBuilderAtEnd(at, go_on);
}

/* Where cond holds: calls a moert_fail_* function and leaves with what it
 * gives. */
void schedule_fail_by_call(scheduler_t *s, LLVMValueRef cond, const char *name,
                           unsigned n, LLVMValueRef *args) {
  LLVMBuilderRef at = s->em->builder;
  LLVMValueRef func = LLVMGetBasicBlockParent(LLVMGetInsertBlock(at));
  LLVMBasicBlockRef bad =
      LLVMAppendBasicBlockInContext(s->em->context, func, "bad");
  LLVMBasicBlockRef go_on =
      LLVMAppendBasicBlockInContext(s->em->context, func, "go_on");
  LLVMBuildCondBr(at, cond, bad, go_on);
  LLVMPositionBuilderAtEnd(at, bad);
  LLVMValueRef status = call(s, name, s->em->i32, n, args);
  LLVMBuildBr(at, s->fail);
  LLVMAddIncoming(s->status, &status, &bad, 1);
  LLVMPositionBuilderAtEnd(at, go_on);
}

LLVMValueRef schedule_node(scheduler_t *s, const ir_op_t *op) {
  return schedule_i32(s, program_node(s->program, op->loc));
}

/* ---- Functions ----------------------------------------------------------- */

static LLVMValueRef begin_function(scheduler_t *s, const char *name,
                                   unsigned n_params, bool checked) {
  emitter_t *em = s->em;
  LLVMTypeRef params[] = {em->ptr, em->ptr};
  LLVMTypeRef type = LLVMFunctionType(em->i32, params, n_params, false);
  LLVMValueRef func = LLVMAddFunction(em->module, name, type);
  LLVMSetLinkage(func, LLVMInternalLinkage);
  s->outer = debug_open(em, func, (ir_loc_t){0});
  LLVMBasicBlockRef entry =
      LLVMAppendBasicBlockInContext(em->context, func, "entry");
  s->fail = LLVMAppendBasicBlockInContext(em->context, func, "fail");
  LLVMPositionBuilderAtEnd(em->builder, s->fail);
  s->status = LLVMBuildPhi(em->builder, em->i32, "status");
  LLVMBuildRet(em->builder, s->status);
  LLVMPositionBuilderAtEnd(em->builder, entry);
  s->frame = LLVMGetParam(func, 0);
  s->table = n_params > 1 ? LLVMGetParam(func, 1) : NULL;
  size_begin(&s->sizes, em, FRAME(s, symbols, em->ptr), checked);
  return func;
}

/* A fail block that nothing branches to must not stay. */
static void end_function(scheduler_t *s) {
  LLVMBuildRet(s->em->builder, schedule_i32(s, 0));
  if (LLVMCountIncoming(s->status) == 0) LLVMDeleteBasicBlock(s->fail);
  debug_close(s->em, s->outer);
}

/* ---- Places -------------------------------------------------------------- */

LLVMValueRef schedule_pointer(scheduler_t *s, const ir_value_t *value) {
  emitter_t *em = s->em;
  place_t p = s->places[value->number];
  switch (p.kind) {
    case AT_INPUT:
      return LLVMBuildLoad2(
          em->builder, em->ptr,
          schedule_element(s, em->ptr, FRAME(s, inputs, em->ptr),
                           (int64_t)p.index),
          "");
    case AT_WEIGHTS:
      return schedule_element(s, em->i8, s->weights_base, (int64_t)p.index);
    case AT_SLOT: {
      LLVMValueRef offset = LLVMBuildLoad2(
          em->builder, em->i64,
          schedule_element(s, em->i64, FRAME(s, slot_offsets, em->ptr),
                           (int64_t)p.index),
          "");
      return LLVMBuildInBoundsGEP2(
          em->builder, em->i8, FRAME(s, workspace, em->ptr), &offset, 1, "");
    }
    case AT_TABLE:
      return LLVMBuildLoad2(
          em->builder, em->ptr,
          schedule_element(s, em->ptr, s->table, (int64_t)p.index), "");
    default:
      MOEC_BUG("value %%%u has no memory", value->number);
  }
}

const expr_t *schedule_bytes(scheduler_t *s, const ir_type_t *type) {
  expr_pool_t *pool = s->module->exprs;
  const expr_t *bits = expr_const(pool, dtype_bits(type->dtype));
  return expr_ceildiv(pool, expr_mul(pool, ir_type_count(pool, type), bits),
                      expr_const(pool, 8));
}

LLVMValueRef schedule_checked_bytes(scheduler_t *s, const ir_op_t *op,
                                    const ir_type_t *type) {
  s->sizes.checked = true;
  LLVMValueRef bytes = emit_size(&s->sizes, schedule_bytes(s, type));
  s->sizes.checked = false;
  if (s->sizes.overflow != NULL)
    schedule_fail_by_call(s, s->sizes.overflow, "moert_fail_overflow", 2,
                          (LLVMValueRef[]){s->frame, schedule_node(s, op)});
  s->sizes.overflow = NULL;
  return bytes;
}

/* What the runtime gave goes to entry `index` of the table. */
static void set_table(scheduler_t *s, LLVMValueRef pointer, int64_t index) {
  LLVMValueRef none = LLVMBuildIsNull(s->em->builder, pointer, "");
  schedule_fail_by_call(s, none, "moert_status", 1, &s->frame);
  LLVMBuildStore(s->em->builder, pointer,
                 schedule_element(s, s->em->ptr, s->table, index));
}

void schedule_grow(scheduler_t *s, int64_t index, LLVMValueRef bytes) {
  LLVMValueRef args[] = {s->frame, schedule_i32(s, index), bytes};
  LLVMValueRef pointer = call(s, "moert_grow", s->em->ptr, 3, args);
  set_table(s, pointer, index + s->n_outputs);
}

static void check_equal(scheduler_t *s, const ir_op_t *op, const char *what,
                        const expr_t *x, const expr_t *y) {
  LLVMValueRef a = emit_size(&s->sizes, x), b = emit_size(&s->sizes, y);
  LLVMValueRef bad = LLVMBuildICmp(s->em->builder, LLVMIntNE, a, b, "");
  LLVMValueRef args[] = {s->frame, schedule_node(s, op),
                         program_string(s->program, what), a, b};
  schedule_fail_by_call(s, bad, "moert_fail_equal", 5, args);
}

/* The memory of an output is as large as what is returned, a view perhaps: what
 * is written must be, too. The view's own check comes after that. */
static void check_view(scheduler_t *s, const ir_value_t *returned,
                       const ir_value_t *written) {
  expr_pool_t *pool = s->module->exprs;
  const expr_t *x = ir_type_count(pool, &returned->type);
  const expr_t *y = ir_type_count(pool, &written->type);
  if (expr_compare_equal(pool, x, y) != 1)
    check_equal(s, returned->def,
                "number of elements of a tensor and of its view", x, y);
}

void schedule_obtain_output(scheduler_t *s, const ir_op_t *op,
                            const ir_value_t *value, int64_t index) {
  emitter_t *em = s->em;
  const ir_type_t *type = &value->type;
  if (op->parent->owner == NULL) {
    const ir_value_t *returned = s->func->body.last->in[index].value;
    check_view(s, returned, value);
    type = &returned->type;
  }
  LLVMValueRef bytes = schedule_checked_bytes(s, op, type), dims = s->args;
  for (unsigned d = 0; d < type->rank; d++)
    store_size(s, type->dim[d], dims, d);
  LLVMValueRef args[] = {s->frame, schedule_i32(s, index), dims, bytes};
  set_table(s, call(s, "moert_output", em->ptr, 4, args), index);
}

void schedule_place_results(scheduler_t *s, const ir_op_t *op,
                            ir_attr_id_t id) {
  unsigned n;
  const int64_t *memory = ir_get_ints(op, id, &n);
  MOEC_ASSERT(n >= 2 * op->n_out);
  for (unsigned i = 0; i < op->n_out; i++) {
    const ir_value_t *value = &op->out[i];
    int64_t kind = memory[2 * i], index = memory[2 * i + 1];
    place_t *p = &s->places[value->number];
    switch (kind) {
      case IR_MEMORY_SLOT:
        *p = (place_t){AT_SLOT, (uint64_t)index};
        break;
      case IR_MEMORY_OPERAND:
        *p = s->places[op->in[index].value->number];
        break;
      case IR_MEMORY_OUTPUT:
        *p = (place_t){AT_TABLE, (uint64_t)index};
        break;
      default:
        *p = (place_t){AT_TABLE, (uint64_t)index + s->n_outputs};
    }
    if (op->n_regions > 0) continue; /* by what its regions do */
    if (kind == IR_MEMORY_OUTPUT) schedule_obtain_output(s, op, value, index);
    if (kind == IR_MEMORY_GROWING)
      schedule_grow(s, index, schedule_checked_bytes(s, op, &value->type));
  }
}

/* ---- Operations ---------------------------------------------------------- */

static void set_arg(scheduler_t *s, unsigned index, LLVMValueRef value) {
  LLVMBuildStore(s->em->builder, value,
                 schedule_element(s, s->em->i64, s->args, index));
}

/* Results, operands (but the one updated in place), sizes. */
static void set_args(scheduler_t *s, const ir_op_t *op, unsigned at,
                     int64_t skip, ir_attr_id_t args_id) {
  for (unsigned i = 0; i < op->n_out; i++)
    set_arg(s, at++, schedule_pointer(s, &op->out[i]));
  for (unsigned i = 0; i < op->n_in; i++)
    if ((int64_t)i != skip)
      set_arg(s, at++, schedule_pointer(s, op->in[i].value));
  unsigned n;
  const expr_t *const *args = ir_get_exprs(op, args_id, &n);
  for (unsigned i = 0; i < n; i++)
    set_arg(s, at++, emit_size(&s->sizes, args[i]));
}

static void emit_launch(scheduler_t *s, const ir_op_t *op) {
  emitter_t *em = s->em;
  schedule_place_results(s, op, ATTR_LAUNCH_memory);
  unsigned kernel = kernel_number(s, ir_get_str(op, ATTR_LAUNCH_kernel));
  LLVMValueRef index = schedule_i64(s, offsetof(moert_frame_t, error));
  LLVMValueRef error =
      LLVMBuildInBoundsGEP2(em->builder, em->i8, s->frame, &index, 1, "error");
  set_arg(s, 0, error);
  set_args(s, op, 1, ir_get_int(op, ATTR_LAUNCH_inplace), ATTR_LAUNCH_args);
  LLVMValueRef args[] = {
      s->frame,
      schedule_i32(s, kernel),
      s->args,
      emit_size(&s->sizes, ir_get_expr(op, ATTR_LAUNCH_units)),
      emit_size(&s->sizes, ir_get_expr(op, ATTR_LAUNCH_grain)),
      NULL};
  if (s->instrument) {
    args[5] = schedule_i32(s, program_step(s->program, op->loc,
                                           ir_get_str(op, ATTR_LAUNCH_kernel)));
    call(s, "moert_parallel_traced", em->void_type, 6, args);
  } else {
    call(s, "moert_parallel", em->void_type, 5, args);
  }
  if (!s->asserts[kernel]) return;
  LLVMValueRef noted = LLVMBuildLoad2(em->builder, em->i32, error, "");
  LLVMValueRef bad =
      LLVMBuildICmp(em->builder, LLVMIntNE, noted, schedule_i32(s, 0), "");
  schedule_fail_by_call(s, bad, "moert_fail_assert", 2,
                        (LLVMValueRef[]){s->frame, schedule_node(s, op)});
}

static LLVMValueRef call_routine(scheduler_t *s, const ir_op_t *op) {
  const char *routine = ir_get_str(op, ATTR_CALL_routine);
  const char *name = arena_printf(s->em->arena, "moert_op_%s", routine);
  LLVMTypeRef i32_type = s->em->i32;
  if (!s->instrument)
    return call(s, name, i32_type, 2, (LLVMValueRef[]){s->frame, s->args});
  LLVMValueRef step =
      schedule_i32(s, program_step(s->program, op->loc, routine));
  LLVMValueRef args[] = {s->frame, s->args, program_external(s->program, name),
                         step};
  return call(s, "moert_routine_traced", i32_type, 4, args);
}

static void emit_routine(scheduler_t *s, const ir_op_t *op) {
  emitter_t *em = s->em;
  schedule_place_results(s, op, ATTR_CALL_memory);
  set_args(s, op, 0, -1, ATTR_CALL_args);
  LLVMValueRef index = schedule_i64(s, offsetof(moert_frame_t, node));
  LLVMBuildStore(
      em->builder, schedule_node(s, op),
      LLVMBuildInBoundsGEP2(em->builder, em->i8, s->frame, &index, 1, ""));
  LLVMValueRef status = call_routine(s, op);
  schedule_fail_if(
      s, LLVMBuildICmp(em->builder, LLVMIntNE, status, schedule_i32(s, 0), ""),
      status);
}

static void emit_exprs(scheduler_t *s, const ir_op_t *op) {
  schedule_place_results(s, op, ATTR_EXPRS_memory);
  unsigned n;
  const expr_t *const *values = ir_get_exprs(op, ATTR_EXPRS_values, &n);
  LLVMValueRef to = schedule_pointer(s, &op->out[0]);
  for (unsigned i = 0; i < n; i++) store_size(s, values[i], to, i);
}

/* An integer element as i64. */
static LLVMValueRef load_integer(scheduler_t *s, const ir_value_t *value,
                                 int64_t index) {
  emitter_t *em = s->em;
  dtype_t dtype = value->type.dtype;
  LLVMTypeRef type = LLVMIntTypeInContext(em->context, dtype_bits(dtype));
  LLVMValueRef v = LLVMBuildLoad2(
      em->builder, type,
      schedule_element(s, type, schedule_pointer(s, value), index), "");
  if (dtype_bits(dtype) == 64) return v;
  return dtype_class(dtype) == DT_CLASS_SIGNED
             ? LLVMBuildSExt(em->builder, v, em->i64, "")
             : LLVMBuildZExt(em->builder, v, em->i64, "");
}

static void emit_bind(scheduler_t *s, const ir_op_t *op) {
  emitter_t *em = s->em;
  LLVMBuilderRef at = em->builder;
  const expr_t *e = ir_get_expr(op, ATTR_BIND_symbol);
  const expr_symbol_t *symbol = e->terms[0].atoms[0]->symbol;
  LLVMValueRef v =
      load_integer(s, op->in[0].value, ir_get_int(op, ATTR_BIND_index));
  LLVMBuildStore(at, v, emit_symbol_address(&s->sizes, symbol));
  LLVMValueRef lower = schedule_i64(s, symbol->lower);
  LLVMValueRef upper = symbol->upper != NULL
                           ? emit_size(&s->sizes, symbol->upper)
                           : schedule_i64(s, INT64_MAX);
  LLVMValueRef bad = LLVMBuildICmp(at, LLVMIntSLT, v, lower, "");
  if (symbol->upper != NULL)
    bad = LLVMBuildOr(at, bad, LLVMBuildICmp(at, LLVMIntSGT, v, upper, ""), "");
  schedule_fail_by_call(
      s, bad, "moert_fail_bind", 6,
      (LLVMValueRef[]){s->frame, schedule_node(s, op),
                       program_string(s->program, symbol->name), v, lower,
                       upper});
}

static void emit_check_equal(scheduler_t *s, const ir_op_t *op) {
  check_equal(s, op, ir_get_str(op, ATTR_CHECK_EQUAL_what),
              ir_get_expr(op, ATTR_CHECK_EQUAL_a),
              ir_get_expr(op, ATTR_CHECK_EQUAL_b));
}

static weights_entry_t constant_entry(const ir_op_t *op) {
  return (weights_entry_t){
      .data = ir_get_data(op, ATTR_CONSTANT_data),
      .dtype = ir_get_dtype(op, ATTR_CONSTANT_dtype),
      .data_dtype = ir_get_dtype(op, ATTR_CONSTANT_data_dtype),
      .layout = WEIGHTS_PLAIN};
}

/* What is only ever stacked has its place there. */
static bool is_stacked(const ir_value_t *x) {
  for (const ir_use_t *use = x->uses; use != NULL; use = use->next) {
    const ir_op_t *user = use->user;
    bool view = user->code == OP_RESHAPE && is_stacked(&user->out[0]);
    if (!view && user->code != OP_PANEL_STACK &&
        user->code != OP_CONSTANT_STACK)
      return false;
  }
  return x->uses != NULL;
}

static void place_constant(scheduler_t *s, const ir_op_t *op) {
  weights_entry_t entry = constant_entry(op);
  if (is_stacked(&op->out[0])) return;
  s->places[op->out[0].number] =
      (place_t){AT_WEIGHTS, weights_add(s->weights, &entry)};
}

/* What an operation `panels` stands for; its data outlives the emitter. */
static weights_entry_t panels_entry(scheduler_t *s, const ir_op_t *op) {
  unsigned n;
  const int64_t *strides = ir_get_ints(op, ATTR_PANELS_strides, &n);
  const ir_data_t *whole = ir_get_data(op, ATTR_PANELS_data);
  dtype_t dtype = op->out[0].type.dtype;
  dtype_t source = ir_get_dtype(op, ATTR_PANELS_data_dtype);
  if (source == DT_NONE) source = dtype;
  uint64_t skip =
      (uint64_t)ir_get_int(op, ATTR_PANELS_offset) * (dtype_bits(source) / 8);
  ir_data_t *data = ARENA_NEW(s->module->arena, ir_data_t); /* outlives em */
  MOEC_ASSERT(skip <= whole->size);
  *data = (ir_data_t){.bytes = (const char *)whole->bytes + skip,
                      .size = whole->size - skip};
  return (weights_entry_t){
      .data = data,
      .dtype = dtype,
      .data_dtype = source,
      .layout = WEIGHTS_PANELS,
      .n_batch = (uint64_t)ir_get_int(op, ATTR_PANELS_n_batch),
      .K = (uint64_t)ir_get_int(op, ATTR_PANELS_K),
      .N = (uint64_t)ir_get_int(op, ATTR_PANELS_N),
      .stride_batch = (uint64_t)strides[0],
      .stride_k = (uint64_t)strides[1],
      .stride_n = (uint64_t)strides[2]};
}

static void place_panels(scheduler_t *s, const ir_op_t *op) {
  if (is_stacked(&op->out[0])) return;
  weights_entry_t entry = panels_entry(s, op);
  s->places[op->out[0].number] =
      (place_t){AT_WEIGHTS, weights_add(s->weights, &entry)};
}

static void place_stack(scheduler_t *s, const ir_op_t *op) {
  weights_entry_t *parts =
      ARENA_ARRAY(s->module->arena, weights_entry_t, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_op_t *part = op->in[i].value->def;
    while (part->code == OP_RESHAPE) part = part->in[0].value->def;
    parts[i] = part->code == OP_CONSTANT ? constant_entry(part)
                                         : panels_entry(s, part);
  }
  s->places[op->out[0].number] =
      (place_t){AT_WEIGHTS, weights_add_stack(s->weights, op->n_in, parts)};
}

static void emit_op(scheduler_t *s, const ir_op_t *op) {
  debug_at(s->em, op->loc);
  switch (op->code) {
    case OP_LAUNCH:
      emit_launch(s, op);
      break;
    case OP_CALL:
      emit_routine(s, op);
      break;
    case OP_EMPTY:
      schedule_place_results(s, op, ATTR_EMPTY_memory);
      break;
    case OP_EXPRS:
      emit_exprs(s, op);
      break;
    case OP_BIND:
      emit_bind(s, op);
      break;
    case OP_CHECK_EQUAL:
      emit_check_equal(s, op);
      break;
    case OP_CONSTANT:
      place_constant(s, op);
      break;
    case OP_PANELS:
      place_panels(s, op);
      break;
    case OP_PANEL_STACK:
    case OP_CONSTANT_STACK:
      place_stack(s, op);
      break;
    case OP_RESHAPE:
      s->places[op->out[0].number] = s->places[op->in[0].value->number];
      break;
    case OP_IF:
      emit_if(s, op);
      break;
    case OP_WHILE:
      emit_while(s, op);
      break;
    case OP_YIELD:
      emit_yield(s, op);
      break;
    case OP_RETURN:
      break;
    default:
      MOEC_BUG("'%s' in a schedule", ir_op_info(op->code)->mnemonic);
  }
}

/* ---- run() --------------------------------------------------------------- */

static unsigned args_needed(const ir_func_t *func) {
  unsigned most = IR_MAX_RANK;
  for (const ir_op_t *op = ir_walk_first(func); op != NULL;
       op = ir_walk_next(op)) {
    unsigned n = 0;
    if (op->code == OP_LAUNCH) ir_get_exprs(op, ATTR_LAUNCH_args, &n);
    if (op->code == OP_CALL) ir_get_exprs(op, ATTR_CALL_args, &n);
    n += 1 + op->n_out + op->n_in;
    if (n > most) most = n;
  }
  return most;
}

static LLVMValueRef stack_array(scheduler_t *s, LLVMTypeRef type, unsigned n) {
  LLVMValueRef a = LLVMBuildArrayAlloca(
      s->em->builder, type, LLVMConstInt(s->em->i32, n ? n : 1, false), "");
  LLVMSetAlignment(a, 8);
  return a;
}

static LLVMValueRef emit_chunk(scheduler_t *s, const ir_op_t **op) {
  const char *name = arena_printf(s->em->arena, "run_%u", s->n_functions++);
  LLVMValueRef func = begin_function(s, name, 2, false);
  s->args = stack_array(s, s->em->i64, s->n_args);
  for (unsigned i = 0; i < CHUNK && *op != NULL; *op = (*op)->next) {
    emit_op(s, *op);
    i += (*op)->code != OP_CONSTANT && (*op)->code != OP_PANELS &&
         (*op)->code != OP_PANEL_STACK && (*op)->code != OP_CONSTANT_STACK;
  }
  end_function(s);
  return func;
}

void schedule_region(scheduler_t *s, const ir_region_t *region) {
  emitter_t *em = s->em;
  LLVMTypeRef params[] = {em->ptr, em->ptr};
  LLVMTypeRef type = LLVMFunctionType(em->i32, params, 2, false);
  for (const ir_op_t *op = region->first; op != NULL;) {
    scheduler_t outer = *s; /* of the function that calls */
    LLVMBasicBlockRef here = LLVMGetInsertBlock(em->builder);
    LLVMValueRef chunk = emit_chunk(s, &op);
    outer.n_functions = s->n_functions;
    *s = outer;
    LLVMPositionBuilderAtEnd(em->builder, here);
    LLVMValueRef args[] = {s->frame, s->table};
    LLVMValueRef status = LLVMBuildCall2(em->builder, type, chunk, args, 2, "");
    schedule_fail_if(
        s,
        LLVMBuildICmp(em->builder, LLVMIntNE, status, schedule_i32(s, 0), ""),
        status);
  }
}

static unsigned count_growing(const ir_func_t *func) {
  unsigned most = 0;
  for (const ir_op_t *op = ir_walk_first(func); op != NULL;
       op = ir_walk_next(op)) {
    int64_t kind, index;
    for (unsigned i = 0; i < op->n_out; i++)
      if (program_memory(op, i, &kind, &index) && kind == IR_MEMORY_GROWING &&
          index >= (int64_t)most)
        most = (unsigned)index + 1;
  }
  return most;
}

static LLVMValueRef emit_run(scheduler_t *s) {
  emitter_t *em = s->em;
  s->n_args = args_needed(s->func);
  LLVMValueRef func = begin_function(s, "moert_program_run", 1, false);
  s->table = stack_array(s, em->ptr, s->n_outputs + count_growing(s->func));
  LLVMValueRef begin = s->instrument
                           ? call(s, "moert_trace_begin", em->i64, 1, &s->frame)
                           : NULL;
  schedule_region(s, &s->func->body);
  if (s->instrument)
    call(s, "moert_trace_run", em->void_type, 2,
         (LLVMValueRef[]){s->frame, begin});
  end_function(s);
  return func;
}

/* ---- plan() -------------------------------------------------------------- */

/* The largest bound of what shares each slot. */
static const expr_t **slot_bounds(scheduler_t *s, unsigned *out_n) {
  arena_t *arena = s->em->arena;
  unsigned n = 0, capacity = 64;
  const expr_t **bound = ARENA_ARRAY(arena, const expr_t *, capacity);
  for (const ir_op_t *op = ir_walk_first(s->func); op != NULL;
       op = ir_walk_next(op)) {
    bool loops = op->code == OP_WHILE; /* one more, for the number of trips */
    for (unsigned i = 0; i < op->n_out + loops; i++) {
      int64_t kind, slot;
      if (!program_memory(op, i, &kind, &slot) || kind != IR_MEMORY_SLOT)
        continue;
      const ir_value_t *value =
          i < op->n_out ? &op->out[i] : &op->regions[0].args[0];
      while ((unsigned)slot >= capacity) {
        bound = arena_grow_array(arena, bound, capacity, capacity * 2,
                                 sizeof *bound);
        capacity *= 2;
      }
      if ((unsigned)slot >= n) n = (unsigned)slot + 1;
      const expr_t *e =
          expr_upper_expr(s->module->exprs, schedule_bytes(s, &value->type));
      bound[slot] = bound[slot] == NULL || bound[slot] == e
                        ? e
                        : expr_max(s->module->exprs, bound[slot], e);
    }
  }
  *out_n = n;
  return bound;
}

static bool known_before_run(scheduler_t *s, const expr_t *e) {
  for (unsigned i = 0; i < expr_n_symbols(s->module->exprs); i++) {
    const expr_symbol_t *symbol = expr_symbol_at(s->module->exprs, i);
    if (!program_is_input_symbol(s->program, symbol) &&
        expr_mentions(e, symbol))
      return false;
  }
  return true;
}

static LLVMValueRef emit_plan(scheduler_t *s, unsigned *out_n_slots) {
  emitter_t *em = s->em;
  LLVMValueRef func = begin_function(s, "moert_program_plan", 1, true);
  const expr_t **bound = slot_bounds(s, out_n_slots);
  LLVMValueRef bytes = FRAME(s, slot_bytes, em->ptr);
  for (unsigned i = 0; i < *out_n_slots; i++) store_size(s, bound[i], bytes, i);
  LLVMValueRef dims = FRAME(s, output_dims, em->ptr);
  const ir_op_t *last = s->func->body.last;
  const expr_t *unknown = expr_const(s->module->exprs, -1);
  int64_t at = 0;
  for (unsigned i = 0; i < last->n_in; i++) {
    const ir_type_t *type = &last->in[i].value->type;
    for (unsigned d = 0; d < type->rank; d++) {
      bool known = known_before_run(s, type->dim[d]);
      store_size(s, known ? type->dim[d] : unknown, dims, at++);
    }
  }
  if (s->sizes.overflow != NULL)
    schedule_fail_by_call(s, s->sizes.overflow, "moert_fail_overflow", 2,
                          (LLVMValueRef[]){s->frame, schedule_i32(s, -1)});
  end_function(s);
  return func;
}

/* ---- Kernels ------------------------------------------------------------- */

static bool region_asserts(const ir_region_t *region) {
  for (const ir_op_t *op = region->first; op != NULL; op = op->next) {
    if (op->code == OP_ASSERT) return true;
    for (unsigned r = 0; r < op->n_regions; r++)
      if (region_asserts(&op->regions[r])) return true;
  }
  return false;
}

/* Kernels by name: an open hash table of their numbers. */
struct kernel_index {
  const char *name;
  unsigned number;
};

static unsigned hash_name(const char *name) {
  unsigned hash = 2166136261u;
  for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 16777619u;
  return hash;
}

static void index_kernels(scheduler_t *s) {
  unsigned size = 16, number = 0;
  while (size < 2 * s->module->n_funcs) size *= 2;
  s->index_mask = size - 1;
  s->index = ARENA_ARRAY(s->em->arena, struct kernel_index, size);
  s->asserts = ARENA_ARRAY(s->em->arena, bool, s->module->n_funcs);
  for (ir_func_t *f = s->module->first; f != NULL; f = f->next) {
    if (f->kind != IR_FUNC_KERNEL) continue;
    unsigned i = hash_name(f->name) & s->index_mask;
    while (s->index[i].name != NULL) i = (i + 1) & s->index_mask;
    s->index[i] = (struct kernel_index){f->name, number};
    s->asserts[number++] = region_asserts(&f->body);
  }
}

static unsigned kernel_number(const scheduler_t *s, const char *name) {
  for (unsigned i = hash_name(name) & s->index_mask; s->index[i].name != NULL;
       i = (i + 1) & s->index_mask)
    if (strcmp(s->index[i].name, name) == 0) return s->index[i].number;
  MOEC_BUG("launch of an unknown kernel '%s'", name);
}

const char *schedule_kernel_symbol(arena_t *arena, const ir_func_t *kernel,
                                   const isa_t *isa) {
  return arena_printf(arena, "%s_%s%s%s", kernel->name, isa->name,
                      kernel->label != NULL ? "." : "",
                      kernel->label != NULL ? kernel->label : "");
}

/* Hidden constant table of an ISA's kernels: "moert_kernels_<row>". */
static void emit_kernel_table(emitter_t *em, ir_module_t *module, unsigned row,
                              const schedule_options_t *options) {
  unsigned n = 0;
  LLVMTypeRef type = LLVMFunctionType(em->void_type, NULL, 0, false);
  LLVMValueRef *kernels = ARENA_ARRAY(em->arena, LLVMValueRef, module->n_funcs);
  for (ir_func_t *f = module->first; f != NULL; f = f->next) {
    if (f->kind != IR_FUNC_KERNEL) continue;
    const isa_t *isa =
        isa_at(kernel_row(f, row, options->variants, options->n_variants));
    const char *symbol = schedule_kernel_symbol(em->arena, f, isa);
    kernels[n] = LLVMGetNamedFunction(em->module, symbol);
    if (kernels[n] == NULL)
      kernels[n] = LLVMAddFunction(em->module, symbol, type);
    LLVMSetVisibility(kernels[n++], LLVMHiddenVisibility);
  }
  LLVMValueRef table = LLVMConstArray(em->ptr, kernels, n);
  LLVMValueRef global =
      LLVMAddGlobal(em->module, LLVMTypeOf(table),
                    arena_printf(em->arena, "moert_kernels_%u", row));
  LLVMSetInitializer(global, table);
  LLVMSetGlobalConstant(global, true);
  LLVMSetVisibility(global, LLVMHiddenVisibility);
}

/* ---- The whole ----------------------------------------------------------- */

void emit_schedule(emitter_t *em, ir_module_t *module, weights_t *weights,
                   const schedule_options_t *options) {
  ir_func_t *func = module->first;
  program_t program;
  program_begin(&program, em, module);
  scheduler_t s = {.em = em,
                   .module = module,
                   .func = func,
                   .weights = weights,
                   .program = &program,
                   .instrument = options->instrument,
                   .n_outputs = func->body.last->n_in};
  s.places = ARENA_ARRAY(em->arena, place_t, ir_count_values(func));
  for (unsigned i = 0; i < func->body.n_args; i++)
    s.places[func->body.args[i].number] = (place_t){AT_INPUT, i};
  index_kernels(&s);
  for (unsigned i = 0; i < options->n_variants; i++)
    emit_kernel_table(em, module, options->variants[i], options);
  s.weights_base = program_external(&program, "moert_weights");
  program_parts_t parts = {.n_growable = count_growing(func),
                           .instrument = options->instrument};
  parts.run = emit_run(&s);
  parts.plan = emit_plan(&s, &parts.n_slots);
  program_finish(&program, &parts, options->variants, options->n_variants,
                 options->entry);
}
