/* Kernels of the loop level as LLVM functions.
 *
 * Each IR value becomes a register: uniform (one scalar for all lanes), a
 * vector, or, for indices, affine in the lane number (base + lane * stride),
 * which makes contiguous accesses plain vector loads. */
#include "backend/kernel.h"

#include <string.h>

#include "backend/debug.h"
#include "backend/scalar.h"

enum { UNROLL = 4, UNROLL_MAX_OPS = 24, MAX_LANES = 128 };

typedef struct reg {
  LLVMValueRef
      value; /* scalar or vector; NULL for an affine one not expanded */
  LLVMValueRef base, stride; /* affine: i64 scalars; NULL else */
} reg_t;

enum { MAX_TURNED = 4, TURN_MAX_OPS = 24, TURN_MIN_LANES = 4 };

/* Iterations of a loop that read in squares; see `turn` of OP_FOR. */
typedef struct turned {
  const ir_region_t *region; /* of the loop */
  unsigned step;             /* which of the iterations is being emitted */
  unsigned n_loads;
  struct {
    const ir_op_t *load;
    LLVMValueRef at[16]; /* [step] what it reads */
  } loads[MAX_TURNED];
} turned_t;

typedef struct kernel_emitter {
  emitter_t *em;
  reg_t *regs;        /* by value number */
  unsigned lanes;     /* of the vector loop being emitted, 1 outside */
  LLVMValueRef mask;  /* <lanes x i1> of iterations that exist; NULL: all */
  LLVMValueRef error; /* ptr to the run's error word */
  turned_t *turned;   /* where iterations are read together, or NULL */
} kernel_emitter_t;

static void emit_region(kernel_emitter_t *ke, const ir_region_t *region);
static void emit_op(kernel_emitter_t *ke, const ir_op_t *op);

static LLVMValueRef i64_const(kernel_emitter_t *ke, int64_t value) {
  return LLVMConstInt(ke->em->i64, (uint64_t)value, true);
}

static reg_t *reg_of(kernel_emitter_t *ke, const ir_value_t *value) {
  return &ke->regs[value->number];
}

static void set(kernel_emitter_t *ke, const ir_value_t *value, LLVMValueRef v) {
  *reg_of(ke, value) = (reg_t){.value = v};
}

static void set_affine(kernel_emitter_t *ke, const ir_value_t *value,
                       LLVMValueRef base, LLVMValueRef stride) {
  *reg_of(ke, value) = (reg_t){.base = base, .stride = stride};
}

static bool is_uniform(kernel_emitter_t *ke, const ir_value_t *value) {
  reg_t *r = reg_of(ke, value);
  return r->base == NULL && emit_lanes_of(r->value) == 1;
}

static bool is_affine(kernel_emitter_t *ke, const ir_value_t *value) {
  return reg_of(ke, value)->base != NULL;
}

static LLVMValueRef uniform(kernel_emitter_t *ke, const ir_value_t *value) {
  MOEC_ASSERT(is_uniform(ke, value));
  return reg_of(ke, value)->value;
}

/* The value with one lane per iteration. */
static LLVMValueRef lanes_of(kernel_emitter_t *ke, const ir_value_t *value) {
  reg_t *r = reg_of(ke, value);
  emitter_t *em = ke->em;
  if (r->base != NULL) {
    LLVMValueRef ids = emit_lane_ids(em, em->i64, ke->lanes);
    LLVMValueRef steps = LLVMBuildMul(em->builder, ids,
                                      emit_splat(em, r->stride, ke->lanes), "");
    LLVMValueRef base = emit_splat(em, r->base, ke->lanes);
    return LLVMBuildAdd(em->builder, base, steps, "index");
  }
  return emit_lanes_of(r->value) == 1 ? emit_splat(em, r->value, ke->lanes)
                                      : r->value;
}

/* ---- Indices ------------------------------------------------------------- */

static LLVMValueRef base_of(kernel_emitter_t *ke, const ir_value_t *value) {
  reg_t *r = reg_of(ke, value);
  return r->base != NULL ? r->base : r->value;
}

static LLVMValueRef stride_of(kernel_emitter_t *ke, const ir_value_t *value) {
  reg_t *r = reg_of(ke, value);
  return r->base != NULL ? r->stride : i64_const(ke, 0);
}

/* Sums, differences and multiples of affine indices stay affine. */
static bool emit_affine(kernel_emitter_t *ke, const ir_op_t *op) {
  if (op->n_in != 2 || op->out[0].type.dtype != DT_I64) return false;
  const ir_value_t *x = op->in[0].value, *y = op->in[1].value;
  if (!is_affine(ke, x) && !is_affine(ke, y)) return false;
  bool known = (is_affine(ke, x) || is_uniform(ke, x)) &&
               (is_affine(ke, y) || is_uniform(ke, y));
  if (!known) return false;
  LLVMBuilderRef at = ke->em->builder;
  LLVMValueRef xb = base_of(ke, x), yb = base_of(ke, y);
  LLVMValueRef xs = stride_of(ke, x), ys = stride_of(ke, y);
  LLVMValueRef base, step;
  if (op->code == OP_ADD) {
    base = LLVMBuildAdd(at, xb, yb, "");
    step = LLVMBuildAdd(at, xs, ys, "");
  } else if (op->code == OP_SUB) {
    base = LLVMBuildSub(at, xb, yb, "");
    step = LLVMBuildSub(at, xs, ys, "");
  } else if (op->code == OP_MUL && (is_uniform(ke, x) || is_uniform(ke, y))) {
    LLVMValueRef factor = is_uniform(ke, x) ? xb : yb;
    LLVMValueRef stride = is_uniform(ke, x) ? ys : xs;
    base = LLVMBuildMul(at, xb, yb, "");
    step = LLVMBuildMul(at, stride, factor, "");
  } else {
    return false;
  }
  set_affine(ke, &op->out[0], base, step);
  return true;
}

static void emit_elementwise_op(kernel_emitter_t *ke, const ir_op_t *op) {
  if (emit_affine(ke, op)) return;
  LLVMValueRef in[3];
  bool all_uniform = true;
  for (unsigned i = 0; i < op->n_in; i++)
    all_uniform &= is_uniform(ke, op->in[i].value);
  for (unsigned i = 0; i < op->n_in; i++)
    in[i] = all_uniform ? uniform(ke, op->in[i].value)
                        : lanes_of(ke, op->in[i].value);
  set(ke, &op->out[0], emit_elementwise(ke->em, op, in));
}

/* ---- Memory -------------------------------------------------------------- */

static LLVMValueRef address(kernel_emitter_t *ke, const ir_value_t *buffer,
                            LLVMValueRef index) {
  LLVMTypeRef type = emit_memory_type(ke->em, buffer->type.dtype);
  return LLVMBuildGEP2(ke->em->builder, type, reg_of(ke, buffer)->value, &index,
                       1, "");
}

/* i1 that is true where any lane is. */
static LLVMValueRef any_lane(kernel_emitter_t *ke, LLVMValueRef mask) {
  if (emit_lanes_of(mask) == 1) return mask;
  LLVMTypeRef type = LLVMTypeOf(mask);
  return emit_intrinsic(ke->em, "llvm.vector.reduce.or", 1, &type, 1, &mask);
}

/* The operation's own mask and that of the loop, or NULL. */
static LLVMValueRef access_mask(kernel_emitter_t *ke, const ir_value_t *own) {
  if (own == NULL) return ke->mask;
  if (ke->mask == NULL)
    return is_uniform(ke, own) ? uniform(ke, own) : lanes_of(ke, own);
  return LLVMBuildAnd(ke->em->builder, ke->mask, lanes_of(ke, own), "");
}

static LLVMValueRef align_const(kernel_emitter_t *ke, dtype_t dtype) {
  return LLVMConstInt(ke->em->i32, dtype_bits(dtype) / 8, false);
}

/* One element, read only if the condition holds (NULL: always). */
static LLVMValueRef load_one(kernel_emitter_t *ke, const ir_value_t *buffer,
                             LLVMValueRef index, LLVMValueRef cond) {
  emitter_t *em = ke->em;
  LLVMTypeRef type = emit_memory_type(em, buffer->type.dtype);
  LLVMBasicBlockRef before = LLVMGetInsertBlock(em->builder), read = NULL;
  LLVMBasicBlockRef after = NULL;
  if (cond != NULL) {
    LLVMValueRef func = LLVMGetBasicBlockParent(before);
    read = LLVMAppendBasicBlockInContext(em->context, func, "read");
    after = LLVMAppendBasicBlockInContext(em->context, func, "after");
    LLVMBuildCondBr(em->builder, cond, read, after);
    LLVMPositionBuilderAtEnd(em->builder, read);
  }
  LLVMValueRef bits =
      LLVMBuildLoad2(em->builder, type, address(ke, buffer, index), "");
  LLVMSetAlignment(bits, dtype_bits(buffer->type.dtype) / 8);
  if (cond == NULL) return bits;
  LLVMBuildBr(em->builder, after);
  LLVMPositionBuilderAtEnd(em->builder, after);
  LLVMValueRef phi = LLVMBuildPhi(em->builder, type, "");
  LLVMValueRef values[] = {bits, LLVMConstNull(type)};
  LLVMBasicBlockRef blocks[] = {read, before};
  LLVMAddIncoming(phi, values, blocks, 2);
  return phi;
}

static bool is_const(LLVMValueRef v, int64_t value) {
  return LLVMIsAConstantInt(v) && LLVMConstIntGetSExtValue(v) == value;
}

static bool is_const_one(LLVMValueRef v) { return is_const(v, 1); }

/* Lanes [from, from + n) of the elements that lanes of `mask`, two apart, are:
 * those between are false. */
static LLVMValueRef spread_mask(kernel_emitter_t *ke, LLVMValueRef mask,
                                unsigned from) {
  LLVMValueRef pick[MAX_LANES], wanted[MAX_LANES];
  emitter_t *em = ke->em;
  unsigned n = ke->lanes;
  for (unsigned i = 0; i < n; i++) {
    pick[i] = LLVMConstInt(em->i32, (from + i) / 2, false);
    wanted[i] = LLVMConstInt(em->i1, (from + i) % 2 == 0, false);
  }
  LLVMValueRef spread =
      LLVMBuildShuffleVector(em->builder, mask, LLVMGetPoison(LLVMTypeOf(mask)),
                             LLVMConstVector(pick, n), "");
  return LLVMBuildAnd(em->builder, spread, LLVMConstVector(wanted, n), "");
}

/* buffer[index + 2 * lane], as two vectors that reach from the first of these
 * elements to the last. */
static LLVMValueRef load_every_second(kernel_emitter_t *ke,
                                      const ir_value_t *buffer,
                                      LLVMValueRef index, LLVMValueRef mask) {
  emitter_t *em = ke->em;
  dtype_t dtype = buffer->type.dtype;
  unsigned n = ke->lanes;
  LLVMTypeRef type = emit_lanes(emit_memory_type(em, dtype), n);
  LLVMValueRef part[2], pick[MAX_LANES];
  MOEC_ASSERT(n <= MAX_LANES);
  for (unsigned i = 0; i < 2; i++) {
    unsigned from = i * (n - 1);
    LLVMValueRef at = LLVMBuildAdd(em->builder, index, i64_const(ke, from), "");
    LLVMValueRef ptr = address(ke, buffer, at);
    if (mask == NULL) {
      part[i] = LLVMBuildLoad2(em->builder, type, ptr, "half");
      LLVMSetAlignment(part[i], dtype_bits(dtype) / 8);
      continue;
    }
    LLVMValueRef args[] = {ptr, align_const(ke, dtype),
                           spread_mask(ke, mask, from), LLVMConstNull(type)};
    LLVMTypeRef types[] = {type, em->ptr};
    part[i] = emit_intrinsic(em, "llvm.masked.load", 2, types, 4, args);
  }
  for (unsigned i = 0; i < n; i++) /* the second one begins at n - 1 */
    pick[i] = LLVMConstInt(em->i32, 2 * i < n ? 2 * i : 2 * i + 1, false);
  return LLVMBuildShuffleVector(em->builder, part[0], part[1],
                                LLVMConstVector(pick, n), "second");
}

static LLVMValueRef load_lanes(kernel_emitter_t *ke, const ir_value_t *buffer,
                               const ir_value_t *index, LLVMValueRef mask) {
  emitter_t *em = ke->em;
  dtype_t dtype = buffer->type.dtype;
  LLVMTypeRef type = emit_lanes(emit_memory_type(em, dtype), ke->lanes);
  bool contiguous = is_affine(ke, index) && is_const_one(stride_of(ke, index));
  if (contiguous && mask == NULL) {
    LLVMValueRef v = LLVMBuildLoad2(
        em->builder, type, address(ke, buffer, base_of(ke, index)), "");
    LLVMSetAlignment(v, dtype_bits(dtype) / 8);
    return v;
  }
  if (mask != NULL && emit_lanes_of(mask) == 1)
    mask = emit_splat(em, mask, ke->lanes);
  if (is_affine(ke, index) && is_const(stride_of(ke, index), 2))
    return load_every_second(ke, buffer, base_of(ke, index), mask);
  LLVMValueRef all = LLVMConstAllOnes(emit_lanes(em->i1, ke->lanes));
  LLVMValueRef args[] = {NULL, align_const(ke, dtype), mask ? mask : all,
                         LLVMConstNull(type)};
  if (contiguous) {
    args[0] = address(ke, buffer, base_of(ke, index));
    LLVMTypeRef types[] = {type, em->ptr};
    return emit_intrinsic(em, "llvm.masked.load", 2, types, 4, args);
  }
  args[0] = address(ke, buffer, lanes_of(ke, index));
  LLVMTypeRef types[] = {type, LLVMTypeOf(args[0])};
  return emit_intrinsic(em, "llvm.masked.gather", 2, types, 4, args);
}

/* How many times i is part of the sum `index`; -1 where it is also elsewhere.
 */
static int times_in(const ir_value_t *index, const ir_value_t *i) {
  if (index == i) return 1;
  const ir_op_t *op = index->def;
  if (op == NULL) return 0;
  int sum = 0;
  bool adds = op->code == OP_ADD, elsewhere = op->n_regions > 0;
  for (unsigned n = 0; n < op->n_in; n++) {
    if (op->in[n].value == NULL) continue;
    int times = times_in(op->in[n].value, i);
    sum += times;
    elsewhere |= times < 0 || (times > 0 && !adds);
  }
  return elsewhere && sum != 0 ? -1 : sum;
}

/* Whether a load directly in a loop inside a vector loop reads side by side
 * along the former but not along the lanes. */
static bool can_turn(const ir_op_t *op, const ir_region_t *region) {
  if (op->code != OP_LOAD || op->parent != region || ir_in(op, 2) != NULL)
    return false;
  if (dtype_bits(op->in[0].value->type.dtype) > 32) return false;
  const ir_value_t *lane = &region->owner->parent->args[0];
  const ir_value_t *index = op->in[1].value;
  return times_in(index, &region->args[0]) == 1 && times_in(index, lane) < 0;
}

/* Reads a square when the first of the iterations needs it. */
static LLVMValueRef load_turned(kernel_emitter_t *ke, const ir_op_t *op) {
  emitter_t *em = ke->em;
  turned_t *t = ke->turned;
  for (unsigned i = 0; i < t->n_loads; i++)
    if (t->loads[i].load == op) return t->loads[i].at[t->step];
  const ir_value_t *buffer = op->in[0].value, *index = op->in[1].value;
  if (!can_turn(op, t->region) || !is_affine(ke, index) || t->step > 0 ||
      t->n_loads == MAX_TURNED)
    return NULL;
  LLVMTypeRef scalar = emit_memory_type(em, buffer->type.dtype);
  LLVMTypeRef row = emit_lanes(scalar, ke->lanes);
  LLVMTypeRef wide = emit_lanes(em->i32, ke->lanes);
  LLVMValueRef *at = t->loads[t->n_loads].at;
  bool whole = dtype_bits(buffer->type.dtype) == 32;
  for (unsigned l = 0; l < ke->lanes; l++) {
    LLVMValueRef offset =
        LLVMBuildMul(em->builder, stride_of(ke, index), i64_const(ke, l), "");
    offset = LLVMBuildAdd(em->builder, base_of(ke, index), offset, "");
    at[l] = LLVMBuildLoad2(em->builder, row, address(ke, buffer, offset), "");
    LLVMSetAlignment(at[l], dtype_bits(buffer->type.dtype) / 8);
    if (!whole) at[l] = LLVMBuildZExt(em->builder, at[l], wide, "");
  }
  emit_turn(em, at, ke->lanes);
  for (unsigned l = 0; l < ke->lanes && !whole; l++)
    at[l] = LLVMBuildTrunc(em->builder, at[l], row, "");
  t->loads[t->n_loads++].load = op;
  return at[0];
}

static void emit_load(kernel_emitter_t *ke, const ir_op_t *op) {
  const ir_value_t *buffer = op->in[0].value, *index = op->in[1].value;
  const ir_value_t *own = ir_in(op, 2);
  dtype_t dtype = buffer->type.dtype;
  LLVMValueRef bits = ke->turned != NULL ? load_turned(ke, op) : NULL;
  if (bits != NULL) {
    /* read with others */
  } else if (is_uniform(ke, index)) {
    LLVMValueRef cond = own == NULL ? NULL : access_mask(ke, own);
    if (cond != NULL) cond = any_lane(ke, cond);
    bits = load_one(ke, buffer, uniform(ke, index), cond);
  } else {
    bits = load_lanes(ke, buffer, index, access_mask(ke, own));
  }
  set(ke, &op->out[0], emit_from_memory(ke->em, dtype, bits));
}

static void store_one(kernel_emitter_t *ke, const ir_value_t *buffer,
                      LLVMValueRef index, LLVMValueRef bits,
                      LLVMValueRef cond) {
  emitter_t *em = ke->em;
  LLVMBasicBlockRef after = NULL;
  if (cond != NULL) {
    LLVMValueRef func =
        LLVMGetBasicBlockParent(LLVMGetInsertBlock(em->builder));
    LLVMBasicBlockRef write =
        LLVMAppendBasicBlockInContext(em->context, func, "write");
    after = LLVMAppendBasicBlockInContext(em->context, func, "after");
    LLVMBuildCondBr(em->builder, cond, write, after);
    LLVMPositionBuilderAtEnd(em->builder, write);
  }
  LLVMValueRef s =
      LLVMBuildStore(em->builder, bits, address(ke, buffer, index));
  LLVMSetAlignment(s, dtype_bits(buffer->type.dtype) / 8);
  if (cond == NULL) return;
  LLVMBuildBr(em->builder, after);
  LLVMPositionBuilderAtEnd(em->builder, after);
}

static void store_lanes(kernel_emitter_t *ke, const ir_value_t *buffer,
                        const ir_value_t *index, LLVMValueRef bits,
                        LLVMValueRef mask) {
  emitter_t *em = ke->em;
  dtype_t dtype = buffer->type.dtype;
  bool contiguous = is_affine(ke, index) && is_const_one(stride_of(ke, index));
  if (contiguous && mask == NULL) {
    LLVMValueRef s = LLVMBuildStore(em->builder, bits,
                                    address(ke, buffer, base_of(ke, index)));
    LLVMSetAlignment(s, dtype_bits(dtype) / 8);
    return;
  }
  if (mask == NULL) mask = LLVMConstAllOnes(emit_lanes(em->i1, ke->lanes));
  if (emit_lanes_of(mask) == 1) mask = emit_splat(em, mask, ke->lanes);
  LLVMValueRef to = contiguous ? address(ke, buffer, base_of(ke, index))
                               : address(ke, buffer, lanes_of(ke, index));
  LLVMValueRef args[] = {bits, to, align_const(ke, dtype), mask};
  LLVMTypeRef types[] = {LLVMTypeOf(bits), LLVMTypeOf(to)};
  emit_intrinsic(em, contiguous ? "llvm.masked.store" : "llvm.masked.scatter",
                 2, types, 4, args);
}

static void emit_store(kernel_emitter_t *ke, const ir_op_t *op) {
  const ir_value_t *buffer = op->in[0].value, *index = op->in[1].value;
  const ir_value_t *value = op->in[2].value;
  dtype_t dtype = buffer->type.dtype;
  LLVMValueRef mask = access_mask(ke, ir_in(op, 3));
  if (ke->lanes == 1) {
    LLVMValueRef bits = emit_to_memory(ke->em, dtype, uniform(ke, value));
    store_one(ke, buffer, uniform(ke, index), bits, mask);
    return;
  }
  LLVMValueRef bits = emit_to_memory(ke->em, dtype, lanes_of(ke, value));
  store_lanes(ke, buffer, index, bits, mask);
}

static void emit_assert(kernel_emitter_t *ke, const ir_op_t *op) {
  emitter_t *em = ke->em;
  const ir_value_t *cond = op->in[0].value;
  LLVMValueRef ok =
      is_uniform(ke, cond) ? uniform(ke, cond) : lanes_of(ke, cond);
  LLVMValueRef bad = LLVMBuildNot(em->builder, ok, "");
  if (ke->mask != NULL && emit_lanes_of(bad) > 1)
    bad = LLVMBuildAnd(em->builder, bad, ke->mask, "");
  bad = any_lane(ke, bad);
  LLVMValueRef func = LLVMGetBasicBlockParent(LLVMGetInsertBlock(em->builder));
  LLVMBasicBlockRef note =
      LLVMAppendBasicBlockInContext(em->context, func, "note");
  LLVMBasicBlockRef go_on =
      LLVMAppendBasicBlockInContext(em->context, func, "go_on");
  LLVMBuildCondBr(em->builder, bad, note, go_on);
  LLVMPositionBuilderAtEnd(em->builder, note);
  int64_t status = ir_get_int(op, ATTR_ASSERT_status);
  LLVMValueRef s = LLVMBuildStore(
      em->builder, LLVMConstInt(em->i32, (uint64_t)status, true), ke->error);
  LLVMSetOrdering(s, LLVMAtomicOrderingMonotonic);
  LLVMSetAlignment(s, 4);
  LLVMBuildBr(em->builder, go_on);
  LLVMPositionBuilderAtEnd(em->builder, go_on);
}

/* ---- Loops --------------------------------------------------------------- */

static unsigned full_lanes(const kernel_emitter_t *ke) {
  return ke->em->isa->vector_bytes / 4;
}

static LLVMValueRef lane_mask(kernel_emitter_t *ke, LLVMValueRef count) {
  emitter_t *em = ke->em;
  LLVMValueRef ids = emit_lane_ids(em, em->i64, ke->lanes);
  return LLVMBuildICmp(em->builder, LLVMIntSLT, ids,
                       emit_splat(em, count, ke->lanes), "exists");
}

/* begin + ((end - begin) rounded down to a multiple of step), for begin <= end.
 */
static LLVMValueRef whole_end(kernel_emitter_t *ke, LLVMValueRef begin,
                              LLVMValueRef end, unsigned step) {
  LLVMBuilderRef at = ke->em->builder;
  LLVMValueRef n = LLVMBuildSub(at, end, begin, "n");
  n = LLVMBuildAnd(at, n, i64_const(ke, -(int64_t)step), "whole");
  return LLVMBuildAdd(at, begin, n, "");
}

static void body_at(kernel_emitter_t *ke, const ir_region_t *region,
                    LLVMValueRef index) {
  if (ke->lanes == 1)
    set(ke, &region->args[0], index);
  else
    set_affine(ke, &region->args[0], index, i64_const(ke, 1));
  emit_region(ke, region);
}

static void plain_loop(kernel_emitter_t *ke, const ir_region_t *region,
                       LLVMValueRef begin, LLVMValueRef end, unsigned step,
                       const char *name) {
  emit_loop_t loop =
      emit_loop_begin(ke->em, begin, end, i64_const(ke, step), 0, NULL, name);
  body_at(ke, region, loop.index);
  emit_loop_end(ke->em, &loop, NULL);
}

static unsigned region_size(const ir_region_t *region) {
  unsigned n = 0;
  for (const ir_op_t *op = region->first; op != NULL; op = op->next)
    n += op->n_regions > 0 ? UNROLL_MAX_OPS : 1;
  return n;
}

static bool turns(kernel_emitter_t *ke, const ir_op_t *op) {
  const ir_region_t *region = &op->regions[0];
  if (!ir_get_int(op, ATTR_FOR_turn) || ke->lanes < TURN_MIN_LANES ||
      ke->mask != NULL || region_size(region) > TURN_MAX_OPS)
    return false;
  for (const ir_op_t *load = region->first; load != NULL; load = load->next)
    if (can_turn(load, region)) return true;
  return false;
}

/* As many iterations as there are lanes at a time; returns where they end. */
static LLVMValueRef emit_turned(kernel_emitter_t *ke, const ir_region_t *region,
                                LLVMValueRef begin, LLVMValueRef end) {
  LLVMValueRef middle = whole_end(ke, begin, end, ke->lanes);
  emit_loop_t loop = emit_loop_begin(
      ke->em, begin, middle, i64_const(ke, ke->lanes), 0, NULL, "square");
  turned_t turned = {.region = region};
  ke->turned = &turned;
  for (; turned.step < ke->lanes; turned.step++) {
    LLVMValueRef index = LLVMBuildAdd(ke->em->builder, loop.index,
                                      i64_const(ke, turned.step), "");
    set(ke, &region->args[0], index);
    emit_region(ke, region);
  }
  ke->turned = NULL;
  emit_loop_end(ke->em, &loop, NULL);
  return middle;
}

static void emit_for(kernel_emitter_t *ke, const ir_op_t *op) {
  emitter_t *em = ke->em;
  const ir_region_t *region = &op->regions[0];
  LLVMValueRef begin = uniform(ke, op->in[0].value);
  LLVMValueRef end = uniform(ke, op->in[1].value);
  if (!ir_get_int(op, ATTR_FOR_vector) || ke->lanes > 1) {
    if (turns(ke, op)) begin = emit_turned(ke, region, begin, end);
    emit_loop_t loop =
        emit_loop_begin(em, begin, end, i64_const(ke, 1), 0, NULL, "each");
    set(ke, &region->args[0], loop.index);
    emit_region(ke, region);
    emit_loop_end(em, &loop, NULL);
    return;
  }
  unsigned lanes = full_lanes(ke);
  LLVMValueRef middle = whole_end(ke, begin, end, lanes);
  ke->lanes = lanes;
  plain_loop(ke, region, begin, middle, lanes, "lanes");
  if (isa_has(em->isa, ISA_MASK)) { /* at most one round */
    emit_loop_t rest =
        emit_loop_begin(em, middle, end, i64_const(ke, lanes), 0, NULL, "rest");
    LLVMValueRef left = LLVMBuildSub(em->builder, end, rest.index, "left");
    ke->mask = lane_mask(ke, left);
    body_at(ke, region, rest.index);
    ke->mask = NULL;
    emit_loop_end(em, &rest, NULL);
    ke->lanes = 1;
  } else {
    ke->lanes = 1;
    plain_loop(ke, region, middle, end, 1, "rest");
  }
}

/* ---- Reductions ---------------------------------------------------------- */

static const ir_value_t *yielded(const ir_region_t *region) {
  return region->last->in[0].value;
}

/* A sum of products is accumulated with fused multiply-add: the yielded product
 * and whether it has no other use. */
static const ir_op_t *fused_product(const ir_op_t *reduce) {
  const ir_value_t *value = yielded(&reduce->regions[0]);
  const ir_op_t *mul = value->def;
  bool wide = value->type.dtype == DT_F32 || value->type.dtype == DT_F64;
  if (strcmp(ir_get_str(reduce, ATTR_REDUCE_kind), "sum") != 0 || !wide ||
      mul == NULL || mul->code != OP_MUL ||
      mul->parent != &reduce->regions[0] || value->uses->next != NULL)
    return NULL;
  return mul;
}

/* Emits the region and adds what it yields to acc. */
static LLVMValueRef accumulate(kernel_emitter_t *ke, const ir_op_t *op,
                               LLVMValueRef index, LLVMValueRef acc) {
  const ir_region_t *region = &op->regions[0];
  const char *kind = ir_get_str(op, ATTR_REDUCE_kind);
  dtype_t dtype = op->out[0].type.dtype;
  const ir_op_t *mul = fused_product(op);
  if (index != NULL)
    body_at(ke, region, index);
  else
    emit_region(ke, region);
  bool wide = emit_lanes_of(acc) > 1;
  LLVMValueRef next;
  if (mul != NULL) {
    const ir_value_t *x = mul->in[0].value, *y = mul->in[1].value;
    LLVMValueRef a = wide ? lanes_of(ke, x) : uniform(ke, x);
    LLVMValueRef b = wide ? lanes_of(ke, y) : uniform(ke, y);
    next = emit_fma(ke->em, a, b, acc);
  } else {
    const ir_value_t *v = yielded(region);
    next = emit_combine(ke->em, kind, dtype, acc,
                        wide ? lanes_of(ke, v) : uniform(ke, v));
  }
  if (ke->mask == NULL || !wide) return next;
  return LLVMBuildSelect(ke->em->builder, ke->mask, next, acc, "");
}

/* Lane halves are combined until one is left. */
static LLVMValueRef combine_lanes(kernel_emitter_t *ke, const char *kind,
                                  dtype_t dtype, LLVMValueRef v) {
  emitter_t *em = ke->em;
  for (unsigned n = emit_lanes_of(v); n > 1; n /= 2) {
    LLVMValueRef low[128], high[128];
    for (unsigned i = 0; i < n / 2; i++) {
      low[i] = LLVMConstInt(em->i32, i, false);
      high[i] = LLVMConstInt(em->i32, i + n / 2, false);
    }
    if (n == 2) {
      LLVMValueRef a = LLVMBuildExtractElement(em->builder, v, low[0], "");
      LLVMValueRef b = LLVMBuildExtractElement(em->builder, v, high[0], "");
      return emit_combine(em, kind, dtype, a, b);
    }
    LLVMValueRef none = LLVMGetPoison(LLVMTypeOf(v));
    LLVMValueRef a = LLVMBuildShuffleVector(em->builder, v, none,
                                            LLVMConstVector(low, n / 2), "");
    LLVMValueRef b = LLVMBuildShuffleVector(em->builder, v, none,
                                            LLVMConstVector(high, n / 2), "");
    v = emit_combine(em, kind, dtype, a, b);
  }
  return v;
}

/* One accumulator, one step at a time; in lanes when around it is a vector
 * loop. */
static LLVMValueRef reduce_plain(kernel_emitter_t *ke, const ir_op_t *op,
                                 LLVMValueRef begin, LLVMValueRef end,
                                 LLVMValueRef init) {
  const ir_region_t *region = &op->regions[0];
  emit_loop_t loop =
      emit_loop_begin(ke->em, begin, end, i64_const(ke, 1), 1, &init, "reduce");
  set(ke, &region->args[0], loop.index);
  LLVMValueRef next = accumulate(ke, op, NULL, loop.carry[0]);
  emit_loop_end(ke->em, &loop, &next);
  return loop.carry[0];
}

/* UNROLL vectors of partial results side by side, then whole vectors, then the
 * rest; partial results are combined as a tree. */
static LLVMValueRef reduce_lanes(kernel_emitter_t *ke, const ir_op_t *op,
                                 LLVMValueRef begin, LLVMValueRef end) {
  emitter_t *em = ke->em;
  const char *kind = ir_get_str(op, ATTR_REDUCE_kind);
  dtype_t dtype = op->out[0].type.dtype;
  unsigned lanes = full_lanes(ke);
  unsigned n = region_size(&op->regions[0]) < UNROLL_MAX_OPS ? UNROLL : 1;
  LLVMValueRef acc[UNROLL];
  for (unsigned u = 0; u < n; u++)
    acc[u] = emit_neutral(em, kind, dtype, lanes);
  ke->lanes = lanes;
  if (n > 1) {
    LLVMValueRef blocks = whole_end(ke, begin, end, lanes * n);
    emit_loop_t loop = emit_loop_begin(
        em, begin, blocks, i64_const(ke, lanes * n), n, acc, "blocks");
    LLVMValueRef next[UNROLL];
    for (unsigned u = 0; u < n; u++) {
      LLVMValueRef at =
          LLVMBuildAdd(em->builder, loop.index, i64_const(ke, u * lanes), "");
      next[u] = accumulate(ke, op, at, loop.carry[u]);
    }
    emit_loop_end(em, &loop, next);
    for (unsigned u = 0; u < n; u++) acc[u] = loop.carry[u];
    begin = blocks;
  }
  LLVMValueRef middle = whole_end(ke, begin, end, lanes);
  emit_loop_t loop =
      emit_loop_begin(em, begin, middle, i64_const(ke, lanes), 1, acc, "lanes");
  LLVMValueRef next = accumulate(ke, op, loop.index, loop.carry[0]);
  emit_loop_end(em, &loop, &next);
  acc[0] = loop.carry[0];
  bool masks = isa_has(em->isa, ISA_MASK);
  if (masks) {
    emit_loop_t rest =
        emit_loop_begin(em, middle, end, i64_const(ke, lanes), 1, acc, "rest");
    LLVMValueRef left = LLVMBuildSub(em->builder, end, rest.index, "left");
    ke->mask = lane_mask(ke, left);
    next = accumulate(ke, op, rest.index, rest.carry[0]);
    ke->mask = NULL;
    emit_loop_end(em, &rest, &next);
    acc[0] = rest.carry[0];
  }
  ke->lanes = 1;
  for (unsigned width = n; width > 1; width /= 2)
    for (unsigned u = 0; u < width / 2; u++)
      acc[u] = emit_combine(em, kind, dtype, acc[u], acc[u + width / 2]);
  LLVMValueRef result = combine_lanes(ke, kind, dtype, acc[0]);
  return masks ? result : reduce_plain(ke, op, middle, end, result);
}

static void emit_reduce(kernel_emitter_t *ke, const ir_op_t *op) {
  LLVMValueRef begin = uniform(ke, op->in[0].value);
  LLVMValueRef end = uniform(ke, op->in[1].value);
  if (ir_get_int(op, ATTR_REDUCE_vector) && ke->lanes == 1) {
    set(ke, &op->out[0], reduce_lanes(ke, op, begin, end));
    return;
  }
  const char *kind = ir_get_str(op, ATTR_REDUCE_kind);
  LLVMValueRef init =
      emit_neutral(ke->em, kind, op->out[0].type.dtype, ke->lanes);
  set(ke, &op->out[0], reduce_plain(ke, op, begin, end, init));
}

static void emit_fold(kernel_emitter_t *ke, const ir_op_t *op) {
  const ir_region_t *region = &op->regions[0];
  LLVMValueRef begin = uniform(ke, op->in[0].value);
  LLVMValueRef end = uniform(ke, op->in[1].value);
  LLVMValueRef init[EMIT_MAX_CARRY], next[EMIT_MAX_CARRY];
  unsigned n = op->n_out;
  MOEC_ASSERT(n <= EMIT_MAX_CARRY);
  for (unsigned i = 0; i < n; i++)
    init[i] = ke->lanes > 1 ? lanes_of(ke, op->in[2 + i].value)
                            : uniform(ke, op->in[2 + i].value);
  emit_loop_t loop =
      emit_loop_begin(ke->em, begin, end, i64_const(ke, 1), n, init, "fold");
  set(ke, &region->args[0], loop.index);
  for (unsigned i = 0; i < n; i++) set(ke, &region->args[1 + i], loop.carry[i]);
  emit_region(ke, region);
  for (unsigned i = 0; i < n; i++) {
    const ir_value_t *v = region->last->in[i].value;
    next[i] = ke->lanes > 1 ? lanes_of(ke, v) : uniform(ke, v);
  }
  emit_loop_end(ke->em, &loop, next);
  for (unsigned i = 0; i < n; i++) set(ke, &op->out[i], loop.carry[i]);
}

static void emit_when(kernel_emitter_t *ke, const ir_op_t *op) {
  emitter_t *em = ke->em;
  LLVMValueRef func = LLVMGetBasicBlockParent(LLVMGetInsertBlock(em->builder));
  LLVMBasicBlockRef then =
      LLVMAppendBasicBlockInContext(em->context, func, "then");
  LLVMBasicBlockRef end =
      LLVMAppendBasicBlockInContext(em->context, func, "end");
  LLVMBuildCondBr(em->builder, uniform(ke, op->in[0].value), then, end);
  LLVMPositionBuilderAtEnd(em->builder, then);
  emit_region(ke, &op->regions[0]);
  LLVMBuildBr(em->builder, end);
  LLVMPositionBuilderAtEnd(em->builder, end);
}

/* ---- Products ------------------------------------------------------------ */

typedef struct tile_sink {
  kernel_emitter_t *ke;
  const ir_region_t *region;
} tile_sink_t;

/* Lanes are columns, of which `valid` (NULL: all) exist. */
static void sink_elements(tile_sink_t *sink, LLVMValueRef acc, unsigned lanes,
                          LLVMValueRef m, const ir_value_t *column,
                          LLVMValueRef n, LLVMValueRef valid) {
  kernel_emitter_t *ke = sink->ke;
  ke->lanes = lanes;
  if (valid != NULL) ke->mask = lane_mask(ke, valid);
  set(ke, &sink->region->args[0], acc);
  set(ke, &sink->region->args[1], m);
  if (lanes == 1)
    set(ke, column, n);
  else
    set_affine(ke, column, n, i64_const(ke, 1));
  emit_region(ke, sink->region);
  ke->lanes = 1;
  ke->mask = NULL;
}

static void sink_tile(void *user, LLVMValueRef acc, unsigned lanes,
                      LLVMValueRef m, LLVMValueRef n, LLVMValueRef valid) {
  tile_sink_t *sink = user;
  sink_elements(sink, acc, lanes, m, &sink->region->args[2], n, valid);
}

/* The same for windows, with the line as one more argument. */
static void sink_line(void *user, LLVMValueRef acc, unsigned lanes,
                      LLVMValueRef m, LLVMValueRef line, LLVMValueRef n,
                      LLVMValueRef valid) {
  tile_sink_t *sink = user;
  set(sink->ke, &sink->region->args[2], line);
  sink_elements(sink, acc, lanes, m, &sink->region->args[3], n, valid);
}

static bool is_known(kernel_emitter_t *ke, const ir_value_t *value) {
  reg_t *r = reg_of(ke, value);
  return r->base != NULL || r->value != NULL;
}

/* An i64 of values that are known, else nothing is known of the result. */
static void index_op(kernel_emitter_t *ke, const ir_op_t *op) {
  bool known = op->n_out == 1 && op->out[0].type.dtype == DT_I64 &&
               ir_has_trait(op, ELEMENTWISE);
  for (unsigned i = 0; i < op->n_in && known; i++)
    known =
        op->in[i].value->type.dtype == DT_I64 && is_known(ke, op->in[i].value);
  if (known)
    emit_elementwise_op(ke, op);
  else
    for (unsigned i = 0; i < op->n_out; i++)
      *reg_of(ke, &op->out[i]) = (reg_t){0};
}

/* Whether a load of the epilogue reads other elements in other rows. */
static bool reads_by_row(const ir_op_t *op, const ir_region_t *region) {
  return op->code == OP_LOAD && op->in[1].value != &region->args[2];
}

/* Asks for elements side by side; a number for the whole row is read. */
static void fetch_load(kernel_emitter_t *ke, const ir_op_t *op,
                       const ir_region_t *region) {
  const ir_value_t *buffer = op->in[0].value, *index = op->in[1].value;
  bool known = is_known(ke, index), single = known && is_uniform(ke, index);
  *reg_of(ke, &op->out[0]) = (reg_t){0};
  if (single && ir_in(op, 2) == NULL && buffer->type.dtype == DT_I64)
    emit_load(ke, op);
  bool in_row =
      known && is_affine(ke, index) && is_const_one(stride_of(ke, index));
  if (in_row && reads_by_row(op, region))
    product_fetch(ke->em, address(ke, buffer, base_of(ke, index)),
                  i64_const(ke, 0));
}

/* Of the epilogue what tells where it reads. */
static void fetch_tile(void *user, LLVMValueRef m, LLVMValueRef n) {
  tile_sink_t *sink = user;
  kernel_emitter_t *ke = sink->ke;
  ke->lanes = full_lanes(ke);
  *reg_of(ke, &sink->region->args[0]) = (reg_t){0};
  set(ke, &sink->region->args[1], m);
  set_affine(ke, &sink->region->args[2], n, i64_const(ke, 1));
  for (const ir_op_t *op = sink->region->first; op != NULL; op = op->next)
    if (op->code == OP_CONSTANT)
      emit_op(ke, op);
    else if (op->code == OP_LOAD)
      fetch_load(ke, op, sink->region);
    else
      index_op(ke, op);
  ke->lanes = 1;
}

static bool reads_rows(const ir_region_t *region) {
  for (const ir_op_t *op = region->first; op != NULL; op = op->next)
    if (reads_by_row(op, region)) return true;
  return false;
}

static void emit_product(kernel_emitter_t *ke, const ir_op_t *op) {
  const ir_value_t *a = op->in[0].value, *b = op->in[4].value;
  tile_sink_t sink = {ke, &op->regions[0]};
  product_spec_t spec = {
      .a_dtype = a->type.dtype,
      .b_dtype = b->type.dtype,
      .acc_dtype = ir_get_dtype(op, ATTR_PRODUCT_TILE_acc),
      .a = address(ke, a, uniform(ke, op->in[1].value)),
      .a_row = uniform(ke, op->in[2].value),
      .a_k = uniform(ke, op->in[3].value),
      .b = address(ke, b, uniform(ke, op->in[5].value)),
      .K = uniform(ke, op->in[6].value),
      .tile = uniform(ke, op->in[7].value),
      .M = uniform(ke, op->in[8].value),
      .N = uniform(ke, op->in[9].value),
      .sink = sink_tile,
      .line_sink = sink_line,
      .fetch = op->n_in == 10 && reads_rows(sink.region) ? fetch_tile : NULL,
      .sink_user = &sink,
  };
  if (op->n_in > 10) {
    spec.offsets = reg_of(ke, op->in[10].value)->value;
    spec.length = uniform(ke, op->in[11].value);
    spec.pitch = uniform(ke, op->in[12].value);
    spec.channel = uniform(ke, op->in[13].value);
    spec.room = uniform(ke, op->in[14].value);
  }
  emit_product_tile(ke->em, &spec);
}

/* ---- The kernel ---------------------------------------------------------- */

static void emit_op(kernel_emitter_t *ke, const ir_op_t *op) {
  debug_at(ke->em, op->loc);
  switch (op->code) {
    case OP_CONSTANT:
      set(ke, &op->out[0], emit_scalar_constant(ke->em, op));
      break;
    case OP_LOAD:
      emit_load(ke, op);
      break;
    case OP_STORE:
      emit_store(ke, op);
      break;
    case OP_ASSERT:
      emit_assert(ke, op);
      break;
    case OP_FOR:
      emit_for(ke, op);
      break;
    case OP_REDUCE:
      emit_reduce(ke, op);
      break;
    case OP_FOLD:
      emit_fold(ke, op);
      break;
    case OP_WHEN:
      emit_when(ke, op);
      break;
    case OP_PRODUCT_TILE:
      emit_product(ke, op);
      break;
    case OP_YIELD:
    case OP_RETURN:
      break;
    default:
      MOEC_ASSERT(ir_has_trait(op, ELEMENTWISE));
      emit_elementwise_op(ke, op);
  }
}

static void emit_region(kernel_emitter_t *ke, const ir_region_t *region) {
  for (const ir_op_t *op = region->first; op != NULL; op = op->next)
    emit_op(ke, op);
}

/* Loads the parameters from the argument array behind the error word. */
static void load_params(kernel_emitter_t *ke, const ir_func_t *func,
                        LLVMValueRef args) {
  emitter_t *em = ke->em;
  for (unsigned i = 0; i <= func->body.n_args; i++) {
    LLVMValueRef index = i64_const(ke, i);
    LLVMValueRef slot =
        LLVMBuildInBoundsGEP2(em->builder, em->i64, args, &index, 1, "");
    const ir_value_t *param = i == 0 ? NULL : &func->body.args[i - 1];
    bool is_size = param != NULL && param->type.kind == IR_TENSOR;
    LLVMValueRef v = LLVMBuildLoad2(em->builder, is_size ? em->i64 : em->ptr,
                                    slot, param ? "" : "error");
    if (param == NULL)
      ke->error = v;
    else
      set(ke, param, v);
  }
}

static void emit_body(kernel_emitter_t *ke, const ir_func_t *func,
                      LLVMValueRef begin, LLVMValueRef end) {
  for (const ir_op_t *op = func->body.first; op != NULL; op = op->next) {
    if (op->code != OP_PARALLEL) {
      emit_op(ke, op);
      continue;
    }
    emit_loop_t loop =
        emit_loop_begin(ke->em, begin, end, i64_const(ke, 1), 0, NULL, "unit");
    set(ke, &op->regions[0].args[0], loop.index);
    emit_region(ke, &op->regions[0]);
    emit_loop_end(ke->em, &loop, NULL);
  }
}

static unsigned traits_of(const ir_region_t *region) {
  unsigned traits = 0;
  for (const ir_op_t *op = region->first; op != NULL; op = op->next) {
    if (op->code == OP_PRODUCT_TILE)
      traits |= product_traits(op->in[0].value->type.dtype,
                               op->in[4].value->type.dtype,
                               ir_get_dtype(op, ATTR_PRODUCT_TILE_acc));
    for (unsigned r = 0; r < op->n_regions; r++)
      traits |= traits_of(&op->regions[r]);
  }
  return traits;
}

unsigned kernel_row(const ir_func_t *func, unsigned row, const unsigned *rows,
                    unsigned n_rows) {
  const unsigned some_code = ISA_DOT; /* others change that of all kernels */
  return isa_serving(row, ~some_code | traits_of(&func->body), rows, n_rows);
}

LLVMValueRef emit_kernel(emitter_t *em, ir_func_t *func, const char *name) {
  LLVMTypeRef params[] = {em->ptr, em->i64, em->i64};
  LLVMTypeRef type = LLVMFunctionType(em->void_type, params, 3, false);
  LLVMValueRef function = LLVMAddFunction(em->module, name, type);
  LLVMSetVisibility(function, LLVMHiddenVisibility);
  LLVMPositionBuilderAtEnd(em->builder, LLVMAppendBasicBlockInContext(
                                            em->context, function, "entry"));
  const debug_scope_t outer = debug_open(em, function, func->body.last->loc);
  kernel_emitter_t ke = {.em = em, .lanes = 1};
  ke.regs = ARENA_ARRAY(em->arena, reg_t, ir_count_values(func));
  load_params(&ke, func, LLVMGetParam(function, 0));
  emit_body(&ke, func, LLVMGetParam(function, 1), LLVMGetParam(function, 2));
  LLVMBuildRetVoid(em->builder);
  debug_close(em, outer);
  return function;
}
