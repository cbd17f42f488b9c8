/* Products of 8-bit integers by instructions that sum four products of an
 * unsigned and a signed byte.
 *
 * Packed A stays bytes; four rows of a panel of B become lanes of four bytes in
 * registers, so that panels look the same for all instruction sets. B is taken
 * as what it is, and A has to be of the other signedness. Where it is not, its
 * top bit is flipped, which moves all of A by 128: up if it becomes unsigned,
 * down if it becomes signed. The sums are then off by the product of B and a
 * row of zeros so flipped, which is summed alongside and taken off at the end.
 * Nothing saturates: all is exact modulo 2^32. */
#include "backend/product_internal.h"

enum { TOP_BIT = 0x80 };

static bool is_byte(dtype_t dtype) {
  return dtype_is_integer(dtype) && dtype_bits(dtype) == 8;
}

static bool is_signed(dtype_t dtype) {
  return dtype_class(dtype) == DT_CLASS_SIGNED;
}

unsigned product_traits(dtype_t a_dtype, dtype_t b_dtype, dtype_t acc_dtype) {
  bool dot = is_byte(a_dtype) && is_byte(b_dtype) &&
             dtype_is_integer(acc_dtype) && dtype_bits(acc_dtype) == 32;
  return dot ? ISA_DOT : 0;
}

void product_dot_types(emitter_t *em, product_types_t *types) {
  unsigned wanted =
      product_traits(types->a_dtype, types->b_dtype, types->acc_dtype);
  if (wanted == 0 || !isa_has(em->isa, wanted)) return;
  types->packed = em->i8;
  types->line = PRODUCT_LINE_BYTES;
  types->step = PRODUCT_MAX_STEP;
  types->flips = is_signed(types->a_dtype) == is_signed(types->b_dtype);
}

LLVMValueRef product_dot_quads(emitter_t *em, const product_types_t *types,
                               LLVMValueRef const *rows, unsigned column) {
  LLVMTypeRef wide = emit_lanes(em->i32, types->lanes);
  LLVMValueRef quads = NULL;
  for (unsigned i = 0; i < PRODUCT_MAX_STEP; i++) {
    LLVMValueRef from = product_element(em, types->b, rows[i],
                                        product_const(em, column), "b.ptr");
    LLVMValueRef bytes = product_load(em, types->b, types->lanes, from, "b");
    bytes = LLVMBuildZExt(em->builder, bytes, wide, "");
    bytes = LLVMBuildShl(em->builder, bytes, emit_const_int(wide, 8 * i), "");
    quads = quads == NULL ? bytes : LLVMBuildOr(em->builder, quads, bytes, "");
  }
  return quads;
}

/* The unsigned one of both goes first. */
static LLVMValueRef add(emitter_t *em, const product_types_t *types,
                        LLVMValueRef sums, LLVMValueRef a, LLVMValueRef b) {
  return is_signed(types->b_dtype) ? emit_dot(em, sums, a, b)
                                   : emit_dot(em, sums, b, a);
}

LLVMValueRef product_dot_add(emitter_t *em, const product_types_t *types,
                             LLVMValueRef sums, LLVMValueRef a,
                             LLVMValueRef b) {
  LLVMValueRef four = product_load(em, em->i32, 1, a, "a");
  return add(em, types, sums, emit_splat(em, four, types->lanes), b);
}

LLVMValueRef product_dot_excess(emitter_t *em, const product_types_t *types,
                                LLVMValueRef sums, LLVMValueRef b) {
  const uint64_t zeros = TOP_BIT * UINT64_C(0x01010101);
  return add(em, types, sums,
             emit_const_int(emit_lanes(em->i32, types->lanes), zeros), b);
}
