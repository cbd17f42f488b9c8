/* Emitting LLVM IR through LLVM-C: shared state and small helpers. */
#ifndef BACKEND_EMIT_H
#define BACKEND_EMIT_H

#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

#include "ir/ir.h"

enum { ISA_FMA = 1, ISA_F16 = 2, ISA_MASK = 4, ISA_DOT = 8 };

typedef struct target { /* a TARGET row of backend/targets.def */
  const char *arch;
  uint16_t machine; /* e_machine of ELF */
} target_t;

/* The target of a triple "<arch>[-<vendor>]-linux-gnu", or of "<arch>" alone;
 * NULL: there is none. */
const target_t *target_find(const char *triple);
const char *target_triple(arena_t *arena, const char *arch);
/* The architecture of an ELF file, "unknown" if it is none of the targets'. */
const char *target_of_machine(uint16_t machine);

typedef struct isa { /* a row of backend/targets.def */
  const char *name, *arch, *cpu, *features;
  unsigned vector_bytes, n_vectors, traits;
  int base; /* row, or -1 */
  uint64_t cpu_bits;
} isa_t;

/* The row whose kernels serve for `row` where only the traits `used` can make a
 * difference: itself, or a base of it that is among `rows` too. */
unsigned isa_serving(unsigned row, unsigned used, const unsigned *rows,
                     unsigned n_rows);
unsigned isa_count(void);
const isa_t *isa_at(unsigned index);     /* row order */
const isa_t *isa_find(const char *name); /* or NULL */
static inline bool isa_has(const isa_t *isa, unsigned trait) {
  return (isa->traits & trait) != 0;
}

/* One LLVM module being filled for one ISA. */
typedef struct emitter {
  const isa_t *isa;
  bool guarded; /* accesses to memory call AddressSanitizer: of builds with it,
                   for code that is loaded into this process */
  arena_t *arena;
  diag_sink_t *diag;
  LLVMContextRef context;
  LLVMModuleRef module;
  LLVMBuilderRef builder;
  LLVMTargetMachineRef machine;
  struct debug *debug; /* see debug.h; NULL: none */
  LLVMTypeRef void_type, ptr, i1, i8, i16, i32, i64, f32, f64;
} emitter_t;

/* MOEC_E_CODEGEN with a diagnostic when LLVM lacks the target. */
moec_status_t emitter_init(emitter_t *em, const isa_t *isa, arena_t *arena,
                           const char *module_name, diag_sink_t *diag);
/* The same with another effort of code generation: LLVMCodeGenLevelNone for
 * code that runs once per operation, such as the schedule. */
moec_status_t emitter_init_level(emitter_t *em, const isa_t *isa,
                                 LLVMCodeGenOptLevel level, arena_t *arena,
                                 const char *module_name, diag_sink_t *diag);
void emitter_dispose(emitter_t *em); /* accepts a zeroed or half-built one */
void debug_dispose(emitter_t *em);   /* of it: debug.c */

/* Verifies and runs the short pass list. */
moec_status_t emitter_optimise(emitter_t *em);
/* Generates code; the object file's bytes. */
moec_status_t emitter_generate(emitter_t *em, LLVMMemoryBufferRef *out_object);
/* Both. */
moec_status_t emitter_finish(emitter_t *em, LLVMMemoryBufferRef *out_object);

/* Types and constants. n = 1 gives the scalar, more a vector of n lanes. */
LLVMTypeRef emit_lanes(LLVMTypeRef scalar, unsigned n);
unsigned emit_lanes_of(LLVMValueRef value); /* 1 for a scalar */
LLVMTypeRef emit_element_type(LLVMValueRef value);
LLVMValueRef emit_const_int(LLVMTypeRef type, uint64_t value); /* splat */
LLVMValueRef emit_const_real(LLVMTypeRef type, double value);  /* splat */
LLVMValueRef emit_splat(emitter_t *em, LLVMValueRef scalar, unsigned n);
LLVMValueRef emit_lane_ids(emitter_t *em, LLVMTypeRef int_scalar, unsigned n);

/* Calls the intrinsic overloaded on these types; asserts that it exists. */
LLVMValueRef emit_intrinsic(emitter_t *em, const char *name, unsigned n_types,
                            LLVMTypeRef *types, unsigned n_args,
                            LLVMValueRef *args);
/* a * b + c: fused where the ISA has it, else rounded twice. */
LLVMValueRef emit_fma(emitter_t *em, LLVMValueRef a, LLVMValueRef b,
                      LLVMValueRef c);

/* sums[i] + u[i][0] * s[i][0] + .. + u[i][3] * s[i][3] modulo 2^32, where each
 * i32 of u is four unsigned and each of s four signed bytes. ISA_DOT only. */
LLVMValueRef emit_dot(emitter_t *em, LLVMValueRef sums, LLVMValueRef u,
                      LLVMValueRef s);

/* for (i = begin; i < end; i += step) with a phi for i and for each of n_carry
 * values. Between begin and end the builder stands in the body; emit_loop_end
 * takes the next values of the carries and leaves `loop->carry` holding their
 * final ones, the builder standing behind the loop. */
enum { EMIT_MAX_CARRY = 64 };
typedef struct emit_loop {
  LLVMBasicBlockRef head, body, exit;
  LLVMValueRef index, step;
  LLVMValueRef carry[EMIT_MAX_CARRY];
  unsigned n_carry;
} emit_loop_t;
emit_loop_t emit_loop_begin(emitter_t *em, LLVMValueRef begin, LLVMValueRef end,
                            LLVMValueRef step, unsigned n_carry,
                            LLVMValueRef const *init, const char *name);
void emit_loop_end(emitter_t *em, emit_loop_t *loop, LLVMValueRef const *next);

/* ---- backend/turn.c ------------------------------------------------------ */

/* Transposes n rows of n 32-bit lanes in place; n is 4, 8 or 16. */
void emit_turn(emitter_t *em, LLVMValueRef *rows, unsigned n);

/* ---- backend/math_*.c ---------------------------------------------------- */

/* Transcendental functions on f32 or f64, scalar or vector of any lanes, as
 * straight-line code without calls: at most 2 ULP from the real function over
 * the whole domain, subnormals included; special values as C's Annex F says.
 * The same lane value gives the same bits whatever the number of lanes.
 * SIN COS TAN FMOD open blocks of their own (a branch that only huge arguments
 * take, a loop): afterwards the builder stands at the end of another block.
 * code is one of OP_EXP EXPM1 LOG LOG1P SIN COS TAN ASIN ACOS ATAN SINH COSH
 * TANH ASINH ACOSH ATANH ERF SIGMOID. */
LLVMValueRef emit_math_unary(emitter_t *em, ir_opcode_t code, LLVMValueRef x);
/* OP_POW (C's pow), OP_FMOD (C's fmod, exact). */
LLVMValueRef emit_math_binary(emitter_t *em, ir_opcode_t code, LLVMValueRef x,
                              LLVMValueRef y);
/* OP_FLOOR, OP_CEIL, OP_TRUNC, OP_ROUND (halves to even) of f32 or f64 lanes;
 * signed zeros, infinities and NaN as IEEE 754 has them. */
LLVMValueRef emit_round(emitter_t *em, ir_opcode_t code, LLVMValueRef x);
/* Conversions between f16/bf16/8-bit/4-bit floats held in integers and f32,
 * f64, correctly rounded, without library calls on any ISA. `bits` has the
 * lanes. */
LLVMValueRef emit_float_from_bits(emitter_t *em, dtype_t from,
                                  LLVMValueRef bits);
LLVMValueRef emit_float_to_bits(emitter_t *em, dtype_t to, LLVMValueRef x,
                                bool saturate, const char *round_mode);

/* ---- backend/product.c --------------------------------------------------- */

/* Receives one vector of finished elements of C: acc has `lanes` lanes of the
 * accumulator type, for row m and columns n .. n + lanes - 1 (i64 scalars), of
 * which `valid` (i64 scalar, or NULL: all) are inside the matrix. */
typedef void (*product_sink_fn)(void *user, LLVMValueRef acc, unsigned lanes,
                                LLVMValueRef m, LLVMValueRef n,
                                LLVMValueRef valid);
/* The same for windows: n counts within a line. */
typedef void (*product_line_sink_fn)(void *user, LLVMValueRef acc,
                                     unsigned lanes, LLVMValueRef m,
                                     LLVMValueRef line, LLVMValueRef n,
                                     LLVMValueRef valid);

/* Asks for what the sink will read at row m from column n on. */
typedef void (*product_fetch_fn)(void *user, LLVMValueRef m, LLVMValueRef n);

typedef struct product_spec { /* LLVM values are i64 scalars unless said */
  dtype_t a_dtype, b_dtype, acc_dtype; /* elements; accumulators */
  LLVMValueRef a;                      /* ptr to A[0][0] of this batch */
  LLVMValueRef a_row, a_k; /* strides in elements; a_k may be the constant 1 */
  LLVMValueRef b;          /* ptr to the first panel of this batch */
  LLVMValueRef M, N, K;
  LLVMValueRef tile; /* which tile of the grid */
  /* Not NULL: no panels, B[k, n] = b[offsets[k] + n] (ptr to i64). Of every
   * `pitch` columns the first `length` reach the sink, counted by line. */
  LLVMValueRef offsets, length, pitch;
  /* offsets[k] / channel does not decrease; elements from b on to read. */
  LLVMValueRef channel, room;
  product_sink_fn sink;
  product_line_sink_fn line_sink; /* with offsets, instead of sink */
  product_fetch_fn fetch;         /* or NULL; without offsets */
  void *sink_user;
} product_spec_t;

/* Asks for the line at base + bytes to be brought to the second cache; any
 * address will do. */
void product_fetch(emitter_t *em, LLVMValueRef base, LLVMValueRef bytes);

/* Rows and columns of a tile for a type, the grid's unit of work; the same for
 * all ISAs, because the schedule, compiled once, counts tiles: ceil(M / rows) *
 * ceil(N / columns). columns is a multiple of 32. */
void product_tile_size(dtype_t acc_dtype, unsigned *out_rows,
                       unsigned *out_columns);

/* The traits that can change the code of a product of these types beyond those
 * that change all code. */
unsigned product_traits(dtype_t a_dtype, dtype_t b_dtype, dtype_t acc_dtype);

/* Emits C[m, n] = sum over ascending k of A[m, k] * B[k, n] for one tile at the
 * builder's place: B in panels of 32 columns, [panel][k][32], zero-padded. One
 * chain per element, in ascending k, whatever M: one row and many rows give the
 * same bits. Tiles are numbered along blocks of columns, row by row:
 * consecutive ones share rows of A and panels. B needs no more alignment than
 * its elements. Takes about 56 KiB of stack, 32 more with offsets; M and N must
 * not be 0, K may be. */
void emit_product_tile(emitter_t *em, const product_spec_t *spec);

#endif
