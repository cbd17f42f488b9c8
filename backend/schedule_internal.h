/* Shared by backend/schedule*.c. */
#ifndef BACKEND_SCHEDULE_INTERNAL_H
#define BACKEND_SCHEDULE_INTERNAL_H

#include <stddef.h>

#include "backend/debug.h"
#include "backend/program.h"
#include "backend/schedule.h"
#include "backend/size.h"
#include "moec/rtabi.h"

typedef struct place { /* where a value lies */
  enum { AT_NOWHERE, AT_INPUT, AT_WEIGHTS, AT_SLOT, AT_TABLE } kind;
  uint64_t
      index; /* input, offset into the weights, slot, pointer of the table */
} place_t;

typedef struct scheduler {
  emitter_t *em;
  ir_module_t *module;
  ir_func_t *func;
  weights_t *weights;
  program_t *program;
  place_t *places; /* by value number */
  struct kernel_index *index;
  unsigned index_mask;
  bool *asserts;                   /* by kernel number: may note an error */
  LLVMValueRef frame, table, args; /* of the function being emitted */
  size_emitter_t sizes;
  LLVMBasicBlockRef fail; /* returns the status in `status` */
  LLVMValueRef status;    /* its phi */
  LLVMValueRef weights_base;
  unsigned n_outputs, n_args, n_functions;
  bool instrument;     /* steps are recorded */
  debug_scope_t outer; /* of the function being emitted */
} scheduler_t;

static inline LLVMValueRef schedule_i64(scheduler_t *s, int64_t value) {
  return LLVMConstInt(s->em->i64, (uint64_t)value, true);
}

static inline LLVMValueRef schedule_i32(scheduler_t *s, int64_t value) {
  return LLVMConstInt(s->em->i32, (uint64_t)value, true);
}

/* Element `index` of an array at `base`. */
LLVMValueRef schedule_element(scheduler_t *s, LLVMTypeRef type,
                              LLVMValueRef base, int64_t index);
LLVMValueRef schedule_pointer(scheduler_t *s, const ir_value_t *value);
const expr_t *schedule_bytes(scheduler_t *s, const ir_type_t *type);
LLVMValueRef schedule_node(scheduler_t *s, const ir_op_t *op);
/* Leaves the function with `status` where cond (i1) holds. */
void schedule_fail_if(scheduler_t *s, LLVMValueRef cond, LLVMValueRef status);
/* Where cond holds: calls a moert_fail_* function and leaves with what it
 * gives. */
void schedule_fail_by_call(scheduler_t *s, LLVMValueRef cond, const char *name,
                           unsigned n, LLVMValueRef *args);
/* A size in bytes; ends the run where it overflows. */
LLVMValueRef schedule_checked_bytes(scheduler_t *s, const ir_op_t *op,
                                    const ir_type_t *type);
/* Puts at least that many bytes behind growing region `index`. */
void schedule_grow(scheduler_t *s, int64_t index, LLVMValueRef bytes);
/* Memory of the model's output `index`, of which `value` is made. It has the
 * shape that is returned, perhaps through a view; within a region, whose sizes
 * are known outside only later, there is no view. */
void schedule_obtain_output(scheduler_t *s, const ir_op_t *op,
                            const ir_value_t *value, int64_t index);
/* Gives results their places, and obtains those that are not in the
 * workspace. */
void schedule_place_results(scheduler_t *s, const ir_op_t *op, ir_attr_id_t id);

/* The operations of a region as functions, called in turn where the builder
 * stands; a status other than MOEC_OK leaves. */
void schedule_region(scheduler_t *s, const ir_region_t *region);

/* schedule_control.c */
void emit_if(scheduler_t *s, const ir_op_t *op);
void emit_while(scheduler_t *s, const ir_op_t *op);
/* At the end of a region's last function. */
void emit_yield(scheduler_t *s, const ir_op_t *yield);

#endif
