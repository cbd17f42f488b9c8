/* Elementwise operations against their definitions in C, for every pair of
 * values at the edges of each type: division by zero and of the smallest number
 * by -1, shifts by the width and more, powers that wrap, NaN in comparisons and
 * extremes, conversions out of range. On every ISA that the host runs, one lane
 * at a time and many at once. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
/* clang-format off: cmocka.h needs what stands above it */
#include <cmocka.h>
/* clang-format on */

#include "backend/scalar.h"
#include "ir/build.h"
#include "ir/element.h"
#include "tests/backend/math_jit.h"

enum { N_VALUES = 24, N_PAIRS = N_VALUES * N_VALUES, LANES = 16 };
enum { MAX_PROBES = 512, MAX_ISAS = 8 };

typedef struct probe { /* one operation on one type */
  const ir_op_t *op;
  dtype_t in, out;
} probe_t;

static arena_t *arena;
static ir_builder_t builder;
static probe_t probe[MAX_PROBES];
static unsigned n_probes;
static math_jit_t jits[MAX_ISAS]; /* jit NULL: not on this host */

static const dtype_t integers[] = {DT_I8,  DT_U8,  DT_I16, DT_U16,
                                   DT_I32, DT_U32, DT_I64, DT_U64};
static const dtype_t floats[] = {DT_F32, DT_F64, DT_F16, DT_BF16};

/* ---- Operations ---------------------------------------------------------- */

static void add_probe(const ir_value_t *result) {
  assert_non_null(result);
  assert_true(n_probes < MAX_PROBES);
  const ir_op_t *op = result->def;
  probe[n_probes++] =
      (probe_t){op, op->in[0].value->type.dtype, result->type.dtype};
}

static void add_operations(dtype_t dtype, const ir_opcode_t *codes,
                           unsigned n) {
  ir_type_t types[] = {ir_scalar_type(dtype), ir_scalar_type(dtype)};
  ir_func_t *func =
      ir_func_create(builder.module, dtype_name(dtype), IR_FUNC_MAIN, 2, types);
  builder.region = &func->body;
  ir_value_t *x = &func->body.args[0], *y = &func->body.args[1];
  for (unsigned i = 0; i < n; i++)
    add_probe(ir_op_info(codes[i])->in_max == 1
                  ? ir_unary(&builder, codes[i], x)
                  : ir_binary(&builder, codes[i], x, y));
  for (unsigned i = 0; i < 8; i++)
    if (integers[i] != dtype) add_probe(ir_cast(&builder, x, integers[i]));
  for (unsigned i = 0; i < 4; i++)
    if (floats[i] != dtype) add_probe(ir_cast(&builder, x, floats[i]));
  if (dtype != DT_BOOL) add_probe(ir_cast(&builder, x, DT_BOOL));
}

static void add_all_operations(void) {
  static const ir_opcode_t on_integers[] = {
      OP_ADD,     OP_SUB,    OP_MUL,     OP_DIV, OP_MOD, OP_FMOD, OP_POW,
      OP_MIN,     OP_MAX,    OP_SHL,     OP_SHR, OP_EQ,  OP_LT,   OP_LE,
      OP_BIT_AND, OP_BIT_OR, OP_BIT_XOR, OP_NEG, OP_ABS, OP_SIGN, OP_BIT_NOT};
  static const ir_opcode_t on_floats[] = {
      OP_ADD, OP_SUB, OP_MUL, OP_DIV,  OP_MIN,    OP_MAX,    OP_EQ,  OP_LT,
      OP_LE,  OP_NEG, OP_ABS, OP_SIGN, OP_IS_NAN, OP_IS_INF, OP_SQRT};
  static const ir_opcode_t on_bools[] = {OP_AND, OP_OR, OP_XOR, OP_NOT, OP_EQ};
  for (unsigned i = 0; i < 8; i++) add_operations(integers[i], on_integers, 21);
  for (unsigned i = 0; i < 4; i++) add_operations(floats[i], on_floats, 15);
  add_operations(DT_BOOL, on_bools, 5);
}

static LLVMValueRef emit_probe(emitter_t *em, const void *user, LLVMValueRef x,
                               LLVMValueRef y) {
  const probe_t *p = user;
  LLVMValueRef in[] = {emit_from_memory(em, p->in, x),
                       emit_from_memory(em, p->in, y)};
  return emit_to_memory(em, p->out, emit_elementwise(em, p->op, in));
}

static int compile_all(void **state) {
  (void)state;
  arena = arena_create(0);
  if (arena == NULL || isa_count() > MAX_ISAS) return 1;
  builder.module = ir_module_create(arena, "scalar");
  add_all_operations();
  for (unsigned k = 0; k < isa_count(); k++) {
    if (!cpu_runs(isa_at(k))) continue;
    math_jit_t *jit = &jits[k];
    math_jit_init(jit, isa_at(k));
    for (unsigned i = 0; i < 2 * n_probes; i++) {
      const probe_t *p = &probe[i / 2];
      math_jit_add(jit, arena_printf(arena, "probe%u", i),
                   emit_memory_type(&jit->em, p->in),
                   emit_memory_type(&jit->em, p->out), i % 2 ? LANES : 1,
                   emit_probe, p);
    }
    math_jit_load(jit);
  }
  return 0;
}

static int dispose_all(void **state) {
  (void)state;
  for (unsigned k = 0; k < isa_count(); k++)
    if (jits[k].jit != NULL) math_jit_dispose(&jits[k]);
  arena_destroy(arena);
  return 0;
}

/* ---- Values -------------------------------------------------------------- */

static bool is_signed(dtype_t dtype) {
  return dtype_class(dtype) == DT_CLASS_SIGNED;
}

/* The low bits of x as a number of the type. */
static int64_t wrap(dtype_t dtype, uint64_t x) {
  unsigned drop = 64 - dtype_bits(dtype);
  if (is_signed(dtype)) return (int64_t)(x << drop) >> drop;
  return (int64_t)(x << drop >> drop);
}

static int64_t smallest(dtype_t dtype) {
  return is_signed(dtype) ? INT64_MIN >> (64 - dtype_bits(dtype)) : 0;
}

static int64_t largest(dtype_t dtype) {
  return wrap(dtype, UINT64_MAX >> (64 - dtype_bits(dtype) + is_signed(dtype)));
}

static void set_value(dtype_t dtype, void *bytes, unsigned at, unsigned which) {
  static const double numbers[N_VALUES] = {
      0.0,   -0.0,   1,       -1,     0.5,  -1.5,  2.5, 3,
      127.5, -128.5, 255,     300,    -300, 65504, 7e4, -2147483648.0,
      4.3e9, 9.3e18, -9.3e18, 1.9e19, 1e-7, 1,     -1,  2};
  static const uint64_t whole[N_VALUES] = {
      0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32,
      /* Above halves of bf16 by 1. */
      0x1010000000000001, 0x8080000000000001, 0 - UINT64_C(0x1010000000000001),
      65, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 2, 0, 0, 0, 100};
  if (dtype == DT_BOOL) {
    ir_element_set_int(dtype, bytes, at, which % 2);
  } else if (dtype_is_float(dtype)) {
    double x = numbers[which];
    if (which == 21) x = (double)NAN;
    if (which == 22) x = -(double)INFINITY;
    if (which == 23) x = (double)INFINITY;
    ir_element_set_float(dtype, bytes, at, x);
  } else {
    int64_t v = (int64_t)whole[which];
    if (which == 20) v = smallest(dtype);
    if (which == 21) v = largest(dtype);
    if (which == 22) v = smallest(dtype) + 1;
    ir_element_set_int(dtype, bytes, at, v);
  }
}

/* ---- Definitions --------------------------------------------------------- */

static int64_t divide(dtype_t dtype, bool remainder, int64_t a, int64_t b) {
  if (b == 0) return 0;
  if (!is_signed(dtype)) {
    uint64_t x = (uint64_t)a, y = (uint64_t)b;
    return (int64_t)(remainder ? x % y : x / y);
  }
  if (b == -1) return remainder ? 0 : (int64_t)(0 - (uint64_t)a);
  return remainder ? a % b : a / b;
}

static int64_t floor_mod(dtype_t dtype, int64_t a, int64_t b) {
  int64_t r = divide(dtype, true, a, b);
  bool other_sign = is_signed(dtype) && r != 0 && (r < 0) != (b < 0);
  return other_sign ? r + b : r;
}

/* Multiplies out, but for what repeats. */
static int64_t power(dtype_t dtype, int64_t x, int64_t e) {
  uint64_t result = 1;
  if (is_signed(dtype) && e < 0)
    return x == 1 ? 1 : x == -1 ? (e % 2 == 0 ? 1 : -1) : 0;
  uint64_t square = (uint64_t)x;
  for (uint64_t n = (uint64_t)e; n > 0; n >>= 1, square *= square)
    if (n & 1) result *= square;
  return (int64_t)result;
}

static int64_t shift(dtype_t dtype, bool left, int64_t a, int64_t n) {
  unsigned bits = dtype_bits(dtype);
  uint64_t distance = (uint64_t)n & (UINT64_MAX >> (64 - bits));
  if (left) return distance >= bits ? 0 : (int64_t)((uint64_t)a << distance);
  if (is_signed(dtype)) return a >> (distance >= bits ? bits - 1 : distance);
  return distance >= bits ? 0 : (int64_t)((uint64_t)a >> distance);
}

static bool less(dtype_t dtype, int64_t a, int64_t b) {
  return is_signed(dtype) ? a < b : (uint64_t)a < (uint64_t)b;
}

static int64_t on_integers(ir_opcode_t code, dtype_t t, int64_t a, int64_t b) {
  uint64_t x = (uint64_t)a, y = (uint64_t)b;
  switch (code) {
    case OP_ADD:
      return (int64_t)(x + y);
    case OP_SUB:
      return (int64_t)(x - y);
    case OP_MUL:
      return (int64_t)(x * y);
    case OP_DIV:
      return divide(t, false, a, b);
    case OP_FMOD:
      return divide(t, true, a, b);
    case OP_MOD:
      return floor_mod(t, a, b);
    case OP_POW:
      return power(t, a, b);
    case OP_MIN:
      return less(t, b, a) ? b : a;
    case OP_MAX:
      return less(t, a, b) ? b : a;
    case OP_SHL:
      return shift(t, true, a, b);
    case OP_SHR:
      return shift(t, false, a, b);
    case OP_EQ:
      return a == b;
    case OP_LT:
      return less(t, a, b);
    case OP_LE:
      return !less(t, b, a);
    case OP_AND:
    case OP_BIT_AND:
      return a & b;
    case OP_OR:
    case OP_BIT_OR:
      return a | b;
    case OP_XOR:
    case OP_BIT_XOR:
      return a ^ b;
    case OP_NEG:
      return (int64_t)(0 - x);
    case OP_ABS:
      return is_signed(t) && a < 0 ? (int64_t)(0 - x) : a;
    case OP_SIGN:
      return a == 0 ? 0 : is_signed(t) && a < 0 ? -1 : 1;
    case OP_BIT_NOT:
      return ~a;
    case OP_NOT:
      return !a;
    default:
      fail_msg("no definition");
      return 0;
  }
}

static bool is_test(ir_opcode_t code) {
  return code == OP_EQ || code == OP_LT || code == OP_LE || code == OP_IS_NAN ||
         code == OP_IS_INF;
}

static int64_t test_floats(ir_opcode_t code, double a, double b) {
  switch (code) {
    case OP_EQ:
      return a == b;
    case OP_LT:
      return a < b;
    case OP_LE:
      return a <= b;
    case OP_IS_NAN:
      return isnan(a) != 0;
    default:
      return isinf(a) != 0;
  }
}

/* f32 and narrower types: 53 bits are enough to round twice as once. */
static double on_floats(ir_opcode_t code, double a, double b) {
  switch (code) {
    case OP_ADD:
      return a + b;
    case OP_SUB:
      return a - b;
    case OP_MUL:
      return a * b;
    case OP_DIV:
      return a / b;
    case OP_MIN:
      return isnan(a) || isnan(b) ? (double)NAN : a < b ? a : b;
    case OP_MAX:
      return isnan(a) || isnan(b) ? (double)NAN : a > b ? a : b;
    case OP_NEG:
      return -a;
    case OP_ABS:
      return fabs(a);
    case OP_SIGN:
      return a > 0 ? 1 : a < 0 ? -1 : a;
    case OP_SQRT:
      return sqrt(a);
    default:
      fail_msg("no definition");
      return 0;
  }
}

/* Truncated; the nearest number of the type where it is out of range. */
static int64_t to_integer(dtype_t to, double x) {
  if (isnan(x)) return 0;
  x = trunc(x);
  if (is_signed(to)) {
    if (x >= ldexp(1, (int)dtype_bits(to) - 1)) return largest(to);
    return x < -ldexp(1, (int)dtype_bits(to) - 1) ? smallest(to) : (int64_t)x;
  }
  if (x >= ldexp(1, (int)dtype_bits(to))) return largest(to);
  return x < 0 ? 0 : (int64_t)(uint64_t)x;
}

static void define_cast(const probe_t *p, const void *x, unsigned i,
                        void *out) {
  bool from_float = dtype_is_float(p->in), to_float = dtype_is_float(p->out);
  double f = ir_element_float(p->in, x, i);
  if (p->out == DT_BOOL) {
    ir_element_set_int(p->out, out, 0, f != 0);
  } else if (from_float && to_float) {
    ir_element_set_float(p->out, out, 0, f);
  } else if (from_float) {
    ir_element_set_int(p->out, out, 0, to_integer(p->out, f));
  } else if (p->in == DT_U64 && to_float && ir_element_int(p->in, x, i) < 0) {
    /* Twice what half of it becomes, with a low bit that breaks ties. */
    uint64_t v = (uint64_t)ir_element_int(p->in, x, i);
    ir_element_set_int(p->out, out, 0, (int64_t)(v >> 1 | (v & 1)));
    f = 2 * ir_element_float(p->out, out, 0);
    ir_element_set_float(p->out, out, 0, f);
  } else {
    ir_element_set_int(p->out, out, 0, ir_element_int(p->in, x, i));
  }
}

static void define(const probe_t *p, const void *x, const void *y, unsigned i,
                   void *out) {
  ir_opcode_t code = p->op->code;
  if (code == OP_CAST) {
    define_cast(p, x, i, out);
  } else if (!dtype_is_float(p->in)) {
    int64_t v = on_integers(code, p->in, ir_element_int(p->in, x, i),
                            ir_element_int(p->in, y, i));
    ir_element_set_int(p->out, out, 0, v);
  } else {
    double a = ir_element_float(p->in, x, i), b = ir_element_float(p->in, y, i);
    if (is_test(code))
      ir_element_set_int(p->out, out, 0, test_floats(code, a, b));
    else
      ir_element_set_float(p->out, out, 0, on_floats(code, a, b));
  }
}

/* ---- Comparing ----------------------------------------------------------- */

/* Of zeros the sign counts, but for the extremes; of NaN nothing does. */
static bool same(const probe_t *p, const void *a, const void *b, unsigned i) {
  if (!dtype_is_float(p->out))
    return ir_element_int(p->out, a, 0) == ir_element_int(p->out, b, i);
  double x = ir_element_float(p->out, a, 0), y = ir_element_float(p->out, b, i);
  if (isnan(x) || isnan(y)) return isnan(x) && isnan(y);
  bool extreme = p->op->code == OP_MIN || p->op->code == OP_MAX;
  return x == y && (extreme || !signbit(x) == !signbit(y));
}

static void check_probe(math_jit_t *jit, unsigned at, unsigned lanes,
                        const void *x, const void *y) {
  const probe_t *p = &probe[at];
  static uint64_t out[N_PAIRS];
  char name[32];
  snprintf(name, sizeof name, "probe%u", 2 * at + (lanes > 1));
  memset(out, 0xa5, sizeof out);
  math_jit_find(jit, name)(x, y, out, N_PAIRS);
  for (unsigned i = 0; i < N_PAIRS; i++) {
    uint64_t want = 0;
    define(p, x, y, i, &want);
    if (same(p, &want, out, i)) continue;
    fail_msg(
        "%s of %s to %s, %u lanes, %s: f(%.17g, %.17g) is %.17g, not %.17g",
        ir_op_info(p->op->code)->mnemonic, dtype_name(p->in),
        dtype_name(p->out), lanes, jit->em.isa->name,
        ir_element_float(p->in, x, i), ir_element_float(p->in, y, i),
        ir_element_float(p->out, out, i), ir_element_float(p->out, &want, 0));
  }
}

typedef bool (*choose_fn)(const probe_t *p);

static void check_all(choose_fn choose) {
  static uint64_t x[N_PAIRS], y[N_PAIRS];
  unsigned n = 0;
  for (unsigned at = 0; at < n_probes; at++) {
    if (!choose(&probe[at])) continue;
    for (unsigned i = 0; i < N_PAIRS; i++) {
      set_value(probe[at].in, x, i, i / N_VALUES);
      set_value(probe[at].in, y, i, i % N_VALUES);
    }
    for (unsigned k = 0; k < isa_count(); k++) {
      if (jits[k].jit == NULL) continue;
      check_probe(&jits[k], at, 1, x, y);
      check_probe(&jits[k], at, LANES, x, y);
      n++;
    }
  }
  assert_true(n > 0);
}

static bool is_integer_arithmetic(const probe_t *p) {
  return dtype_is_integer(p->in) && p->op->code != OP_CAST;
}

static bool is_float_arithmetic(const probe_t *p) {
  return dtype_is_float(p->in) && p->op->code != OP_CAST;
}

static bool is_logic(const probe_t *p) {
  return p->in == DT_BOOL && p->op->code != OP_CAST;
}

static bool is_saturating(const probe_t *p) {
  return p->op->code == OP_CAST && dtype_is_float(p->in) &&
         !dtype_is_float(p->out);
}

static bool is_other_cast(const probe_t *p) {
  return p->op->code == OP_CAST && !is_saturating(p);
}

static void integers_are_defined_for_all_operands(void **state) {
  (void)state;
  check_all(is_integer_arithmetic);
}

static void floats_pass_on_nan_and_round_once(void **state) {
  (void)state;
  check_all(is_float_arithmetic);
}

static void bools_are_0_and_1(void **state) {
  (void)state;
  check_all(is_logic);
}

static void floats_become_the_nearest_integer_in_range(void **state) {
  (void)state;
  check_all(is_saturating);
}

static void other_casts_wrap_or_round(void **state) {
  (void)state;
  check_all(is_other_cast);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(integers_are_defined_for_all_operands),
      cmocka_unit_test(floats_pass_on_nan_and_round_once),
      cmocka_unit_test(bools_are_0_and_1),
      cmocka_unit_test(floats_become_the_nearest_integer_in_range),
      cmocka_unit_test(other_casts_wrap_or_round),
  };
  return cmocka_run_group_tests_name("backend/scalar", tests, compile_all,
                                     dispose_all);
}
