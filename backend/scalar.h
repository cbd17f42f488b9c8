/* Elementwise operations on registers. f16, bf16 and the smaller floats are
 * held as f32 values that their type can represent; bool as i1. */
#ifndef BACKEND_SCALAR_H
#define BACKEND_SCALAR_H

#include "backend/emit.h"

/* LLVM type of one element in a register / in memory. */
LLVMTypeRef emit_register_type(emitter_t *em, dtype_t dtype);
LLVMTypeRef emit_memory_type(emitter_t *em, dtype_t dtype);
/* Between the two, for any number of lanes. */
LLVMValueRef emit_from_memory(emitter_t *em, dtype_t dtype, LLVMValueRef bits);
LLVMValueRef emit_to_memory(emitter_t *em, dtype_t dtype, LLVMValueRef value);

/* The elementwise operation `op` on registers of equal lanes. */
LLVMValueRef emit_elementwise(emitter_t *em, const ir_op_t *op,
                              LLVMValueRef const *in);

/* Kinds of OP_REDUCE: neutral element and combination of two registers. */
LLVMValueRef emit_neutral(emitter_t *em, const char *kind, dtype_t dtype,
                          unsigned lanes);
LLVMValueRef emit_combine(emitter_t *em, const char *kind, dtype_t dtype,
                          LLVMValueRef a, LLVMValueRef b);

/* A one-element constant operation as a register. */
LLVMValueRef emit_scalar_constant(emitter_t *em, const ir_op_t *op);

#endif
