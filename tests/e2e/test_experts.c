/* moe.experts and moe.combine equal their definition for random experts, routes
 * and types, at -O0 and -O2; the bits are the same for any number of threads
 * and any split of the tokens. Elements are small whole numbers, so that every
 * order of summation is exact (16-bit floats aside).
 *
 * MOEC_TEST_SEED=n starts with case n, MOEC_TEST_COUNT=n runs n cases. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* clang-format off: cmocka.h needs what stands above it */
#include <cmocka.h>
/* clang-format on */

#include "ir/element.h"
#include "moec/model.h"
#include "tools/compile.h"

enum { COUNT = 80, MAX_BANKS = 3, MAX_STRUCTURES = 3, MAX_EXPERTS = 8 };

/* What a structure computes of a row x[D] and its route's number s. */
typedef enum {
  MLP,      /* max(x A + b, 0) C, A[D, H], b[H], C[H, D] */
  COLUMN,   /* C max(A x + b, 0) with x[D, 1], A[H, D], b[H, 1], C[D, H] */
  GATED,    /* (max(G x, 0) * (U x)) C^T, [G; U][2 H, D], C[D, H] */
  SCALED,   /* x * s * a + b, a[D], b[] */
  IDENTITY, /* x */
  WINDOWS,  /* windows of 3 elements of x times a[1, 1, 3] */
  FILTERS,  /* h = max(windows of 3 times a[H, 1, 3] + b[H, 1], 0), windows of h
               times c[1, H, 3] */
  WHOLE,    /* the only window of D elements times a[D, 1, D] */
  TRIPS,    /* three times x = x + a, a[D] */
  N_BODIES
} body_t;

typedef struct bank {
  unsigned rank;
  int64_t dims[4]; /* of an element */
  int64_t size;    /* elements of an element */
  uint8_t *data;
} bank_t;

typedef struct trial {
  uint64_t seed, random;
  arena_t *arena;
  diag_sink_t diag;
  text_t text;
  dtype_t dtype;
  bool by_k, weighted, combined;
  bool constant, stacked; /* banks: one constant, or one for each element */
  int64_t D, H, E, k, T, R, length; /* of all banks */
  unsigned n_structures, n_banks[MAX_STRUCTURES];
  body_t body[MAX_STRUCTURES];
  bank_t bank[MAX_STRUCTURES][MAX_BANKS];
  int64_t structure[MAX_EXPERTS], position[MAX_EXPERTS];
  int64_t *expert, *token;
  uint8_t *x, *s, *w;
  void *library;
  const moec_model_t *model;
} trial_t;

static uint64_t next_random(trial_t *t) {
  t->random = t->random * 6364136223846793005u + 1442695040888963407u;
  return t->random >> 33;
}

static int64_t one_of(trial_t *t, unsigned n, const int64_t *from) {
  return from[next_random(t) % n];
}
#define ONE_OF(t, ...)                                          \
  one_of(t, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), \
         (int64_t[]){__VA_ARGS__})

static void fail_trial(trial_t *t, const char *what) {
  diag_print(&t->diag, stderr);
  fail_msg("%s\nreproduce: MOEC_TEST_SEED=%llu MOEC_TEST_COUNT=1\n%s", what,
           (unsigned long long)t->seed, t->text.data);
}

/* ---- Shapes -------------------------------------------------------------- */

static void add_bank(trial_t *t, unsigned structure, unsigned rank,
                     const int64_t *dims) {
  bank_t *bank = &t->bank[structure][t->n_banks[structure]++];
  bank->rank = rank;
  bank->size = 1;
  for (unsigned d = 0; d < rank; d++) {
    bank->dims[d] = dims[d];
    bank->size *= dims[d];
  }
}
#define ADD_BANK(t, s, ...)                                          \
  add_bank(t, s, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), \
           (int64_t[]){__VA_ARGS__})

static void choose_banks(trial_t *t, unsigned s) {
  switch (t->body[s]) {
    case MLP:
      ADD_BANK(t, s, t->D, t->H);
      ADD_BANK(t, s, t->H);
      ADD_BANK(t, s, t->H, t->D);
      break;
    case COLUMN:
      ADD_BANK(t, s, t->H, t->D);
      ADD_BANK(t, s, t->H, 1);
      ADD_BANK(t, s, t->D, t->H);
      break;
    case GATED:
      ADD_BANK(t, s, 2 * t->H, t->D);
      ADD_BANK(t, s, t->D, t->H);
      break;
    case SCALED:
      ADD_BANK(t, s, t->D);
      add_bank(t, s, 0, NULL);
      break;
    case WINDOWS:
      ADD_BANK(t, s, 1, 1, 3);
      break;
    case FILTERS:
      ADD_BANK(t, s, t->H, 1, 3);
      ADD_BANK(t, s, t->H, 1);
      ADD_BANK(t, s, 1, t->H, 3);
      break;
    case WHOLE:
      ADD_BANK(t, s, t->D, 1, t->D);
      break;
    case TRIPS:
      ADD_BANK(t, s, t->D);
      break;
    default:
      break;
  }
}

static void choose_shape(trial_t *t) {
  t->dtype =
      (dtype_t)ONE_OF(t, DT_F32, DT_F32, DT_F32, DT_F64, DT_F16, DT_BF16);
  t->D = ONE_OF(t, 1, 5, 16, 37);
  t->H = ONE_OF(t, 1, 7, 33, 40);
  t->E = ONE_OF(t, 0, 1, 3, 5, 8, 8);
  t->T = ONE_OF(t, 0, 1, 1, 2, 7, 60, 150);
  t->k = ONE_OF(t, 1, 2, 2, t->E, 0);
  t->length = t->E + ONE_OF(t, 0, 0, 2);
  t->by_k = ONE_OF(t, 1, 1, 0) != 0;
  t->weighted = ONE_OF(t, 1, 1, 0) != 0;
  t->combined = ONE_OF(t, 1, 1, 0) != 0;
  t->constant = ONE_OF(t, 1, 1, 0) != 0;
  t->stacked = t->length > 0 && ONE_OF(t, 0, 1) != 0;
  t->R = t->by_k ? t->T * t->k : t->T > 0 ? ONE_OF(t, 0, 1, 5, 100) : 0;
  t->n_structures = (unsigned)ONE_OF(t, 1, 1, 1, 2, 3);
  for (unsigned s = 0; s < t->n_structures; s++) {
    t->body[s] =
        (body_t)ONE_OF(t, MLP, MLP, COLUMN, GATED, GATED, SCALED, IDENTITY,
                       WINDOWS, FILTERS, FILTERS, WHOLE, TRIPS);
    choose_banks(t, s);
  }
  bool plain = ONE_OF(t, 1, 0) != 0;
  for (int64_t e = 0; e < t->E; e++) {
    t->structure[e] = plain ? 0 : ONE_OF(t, -1, 0, 0, 0, 1, 2);
    if (t->structure[e] >= t->n_structures) t->structure[e] = 0;
    t->position[e] =
        plain ? e : (int64_t)(next_random(t) % (uint64_t)t->length);
  }
}

/* ---- The module ---------------------------------------------------------- */

static void put_ints(trial_t *t, const char *name, int64_t n,
                     const int64_t *v) {
  text_printf(&t->text, "%s = [", name);
  for (int64_t i = 0; i < n; i++)
    text_printf(&t->text, "%s%lld", i > 0 ? ", " : "", (long long)v[i]);
  text_printf(&t->text, "]");
}

static void put_bank_type(trial_t *t, const bank_t *bank, bool whole) {
  text_printf(&t->text, "%s[", dtype_name(t->dtype));
  if (whole) text_printf(&t->text, "%lld", (long long)t->length);
  for (unsigned d = 0; d < bank->rank; d++)
    text_printf(&t->text, "%s%lld", whole || d > 0 ? "," : "",
                (long long)bank->dims[d]);
  text_printf(&t->text, "]");
}

static unsigned bank_number(unsigned s, unsigned b) {
  return 10 + s * MAX_BANKS + b;
}

/* Elements [begin, end) of a bank. */
static void put_constant(trial_t *t, unsigned number, const bank_t *bank,
                         int64_t begin, int64_t end) {
  int64_t shape[5] = {end - begin};
  for (unsigned d = 0; d < bank->rank; d++) shape[d + 1] = bank->dims[d];
  text_printf(&t->text, "  %%%u = constant {dtype = %s, ", number,
              dtype_name(t->dtype));
  put_ints(t, "shape", bank->rank + 1, shape);
  text_printf(&t->text, ", data = [");
  for (int64_t i = begin * bank->size; i < end * bank->size; i++)
    text_printf(&t->text, "%s%.1f", i > begin * bank->size ? ", " : "",
                ir_element_float(t->dtype, bank->data, (uint64_t)i));
  text_printf(&t->text, "]}\n");
}

static void put_stack(trial_t *t, unsigned number, const bank_t *bank) {
  unsigned first = 1000 + number * 20;
  for (int64_t i = 0; i < t->length; i++)
    put_constant(t, first + (unsigned)i, bank, i, i + 1);
  text_printf(&t->text, "  %%%u = concat(", number);
  for (int64_t i = 0; i < t->length; i++)
    text_printf(&t->text, "%s%%%u", i > 0 ? ", " : "", first + (unsigned)i);
  text_printf(&t->text, ") {axis = 0}\n");
}

/* Banks are arguments, constants, or stacks of constants. */
static void put_constants(trial_t *t) {
  for (unsigned s = 0; s < t->n_structures; s++)
    for (unsigned b = 0; b < t->n_banks[s]; b++)
      if (t->stacked)
        put_stack(t, bank_number(s, b), &t->bank[s][b]);
      else
        put_constant(t, bank_number(s, b), &t->bank[s][b], 0, t->length);
}

static void put_head(trial_t *t) {
  const char *type = dtype_name(t->dtype);
  char routes[32] = "R";
  if (t->by_k) snprintf(routes, sizeof routes, "%lld*T", (long long)t->k);
  text_printf(&t->text,
              "func @main(%%0: i64[%s], %%1: i64[%s], %%2: %s[T,%lld], "
              "%%3: %s[%s], %%4: %s[%s]",
              routes, routes, type, (long long)t->D, type, routes, type,
              routes);
  for (unsigned s = 0; s < t->n_structures && !t->constant; s++)
    for (unsigned b = 0; b < t->n_banks[s]; b++) {
      text_printf(&t->text, ", %%%u: ", bank_number(s, b));
      put_bank_type(t, &t->bank[s][b], true);
    }
  text_printf(&t->text, ") {\n");
}

/* Values of region s begin with this number. */
static unsigned region_number(unsigned s) { return 100 + 50 * s; }

/* Bodies that take rows as images of one channel. */
static void put_images(trial_t *t, unsigned s) {
  unsigned v = region_number(s), a = v + 2;
  long long D = (long long)t->D;
  text_t *o = &t->text;
#define PUT(...) text_printf(o, __VA_ARGS__)
  PUT("    %%%u = reshape(%%%u) {shape = [n, 1, %lld]}\n", v + 11, v, D);
  switch (t->body[s]) {
    case WINDOWS:
      PUT("    %%%u = convolve(%%%u, %%%u) {out = [%lld], strides = [1], "
          "dilations = [1], pad_before = [1], input_dilation = [1]}\n",
          v + 12, v + 11, a, D);
      PUT("    %%%u = reshape(%%%u) {shape = [n, %lld]}\n", v + 30, v + 12, D);
      break;
    case FILTERS:
      PUT("    %%%u = convolve(%%%u, %%%u) {out = [%lld], strides = [1], "
          "dilations = [1], pad_before = [1], input_dilation = [1]}\n",
          v + 12, v + 11, a, D);
      PUT("    %%%u = add(%%%u, %%%u)\n", v + 13, v + 12, a + 1);
      PUT("    %%%u = max(%%%u, %%%u)\n", v + 14, v + 13, v + 10);
      PUT("    %%%u = convolve(%%%u, %%%u) {out = [%lld], strides = [1], "
          "dilations = [1], pad_before = [1], input_dilation = [1]}\n",
          v + 15, v + 14, a + 2, D);
      PUT("    %%%u = reshape(%%%u) {shape = [n, %lld]}\n", v + 30, v + 15, D);
      break;
    case WHOLE:
      PUT("    %%%u = convolve(%%%u, %%%u) {out = [1], strides = [1], "
          "dilations = [1], pad_before = [0], input_dilation = [1]}\n",
          v + 12, v + 11, a);
      PUT("    %%%u = reshape(%%%u) {shape = [n, %lld]}\n", v + 30, v + 12, D);
      break;
    default:
      break;
  }
#undef PUT
}

static void put_body(trial_t *t, unsigned s) {
  unsigned v = region_number(s), x = v, r = v + 1, a = v + 2;
  const char *type = dtype_name(t->dtype);
  long long D = (long long)t->D, H = (long long)t->H;
  text_t *o = &t->text;
#define PUT(...) text_printf(o, __VA_ARGS__)
  PUT("    %%%u = constant {dtype = %s, shape = [], data = [0.0]}\n", v + 10,
      type);
  switch (t->body[s]) {
    case MLP:
      PUT("    %%%u = matmul(%%%u, %%%u)\n", v + 11, x, a);
      PUT("    %%%u = add(%%%u, %%%u)\n", v + 12, v + 11, a + 1);
      PUT("    %%%u = max(%%%u, %%%u)\n", v + 13, v + 12, v + 10);
      PUT("    %%%u = matmul(%%%u, %%%u)\n", v + 30, v + 13, a + 2);
      break;
    case COLUMN:
      PUT("    %%%u = reshape(%%%u) {shape = [n, %lld, 1]}\n", v + 11, x, D);
      PUT("    %%%u = matmul(%%%u, %%%u)\n", v + 12, a, v + 11);
      PUT("    %%%u = add(%%%u, %%%u)\n", v + 13, v + 12, a + 1);
      PUT("    %%%u = max(%%%u, %%%u)\n", v + 14, v + 13, v + 10);
      PUT("    %%%u = matmul(%%%u, %%%u)\n", v + 15, a + 2, v + 14);
      PUT("    %%%u = reshape(%%%u) {shape = [n, %lld]}\n", v + 30, v + 15, D);
      break;
    case GATED:
      PUT("    %%%u = transpose(%%%u) {perm = [1, 0]}\n", v + 11, a);
      PUT("    %%%u = matmul(%%%u, %%%u)\n", v + 12, x, v + 11);
      PUT("    %%%u = slice(%%%u) {start = [0, 0], length = [n, %lld], step = "
          "[1, 1]}\n",
          v + 13, v + 12, H);
      PUT("    %%%u = slice(%%%u) {start = [0, %lld], length = [n, %lld], step "
          "= [1, 1]}\n",
          v + 14, v + 12, H, H);
      PUT("    %%%u = max(%%%u, %%%u)\n", v + 15, v + 13, v + 10);
      PUT("    %%%u = mul(%%%u, %%%u)\n", v + 16, v + 15, v + 14);
      PUT("    %%%u = transpose(%%%u) {perm = [1, 0]}\n", v + 17, a + 1);
      PUT("    %%%u = matmul(%%%u, %%%u)\n", v + 30, v + 16, v + 17);
      break;
    case SCALED:
      PUT("    %%%u = reshape(%%%u) {shape = [n, 1]}\n", v + 11, r);
      PUT("    %%%u = mul(%%%u, %%%u)\n", v + 12, x, v + 11);
      PUT("    %%%u = mul(%%%u, %%%u)\n", v + 13, v + 12, a);
      PUT("    %%%u = add(%%%u, %%%u)\n", v + 30, v + 13, a + 1);
      break;
    case WINDOWS:
    case FILTERS:
    case WHOLE:
      put_images(t, s);
      break;
    case TRIPS:
      PUT("    %%%u = constant {dtype = i64, shape = [], data = [3]}\n",
          v + 11);
      PUT("    %%%u = constant {dtype = bool, shape = [], data = [true]}\n",
          v + 12);
      PUT("    %%%u = while(%%%u, %%%u, %%%u) {symbols = [], inits = [], dims "
          "= "
          "[n, %lld], trips = 3} (%%%u: i64[], %%%u: %s[n,%lld]) {\n",
          v + 30, v + 11, v + 12, x, D, v + 13, v + 14, type, D);
      PUT("      %%%u = add(%%%u, %%%u)\n", v + 15, v + 14, a);
      PUT("      yield(%%%u, %%%u)\n    }\n", v + 12, v + 15);
      break;
    default:
      break;
  }
#undef PUT
  text_printf(o, "    yield(%%%u)\n  }", t->body[s] == IDENTITY ? x : v + 30);
}

static void put_regions(trial_t *t) {
  const char *type = dtype_name(t->dtype);
  for (unsigned s = 0; s < t->n_structures; s++) {
    unsigned v = region_number(s);
    text_printf(&t->text, " (%%%u: %s[n,%lld], %%%u: %s[n]", v, type,
                (long long)t->D, v + 1, type);
    for (unsigned b = 0; b < t->n_banks[s]; b++) {
      text_printf(&t->text, ", %%%u: ", v + 2 + b);
      put_bank_type(t, &t->bank[s][b], false);
    }
    text_printf(&t->text, ") {\n");
    put_body(t, s);
  }
}

static void write_module(trial_t *t) {
  put_head(t);
  if (t->constant) put_constants(t);
  text_printf(&t->text, "  %%50 = moe.experts(%%0, %s, %%2, %%3",
              t->by_k ? "_" : "%1");
  int64_t banks[MAX_STRUCTURES];
  for (unsigned s = 0; s < t->n_structures; s++) {
    banks[s] = t->n_banks[s];
    for (unsigned b = 0; b < t->n_banks[s]; b++)
      text_printf(&t->text, ", %%%u", bank_number(s, b));
  }
  text_printf(&t->text, ") {experts = %lld, ", (long long)t->E);
  if (t->by_k) text_printf(&t->text, "k = %lld, ", (long long)t->k);
  text_printf(&t->text, "tokens = T, token_values = 1, route_values = 1, ");
  put_ints(t, "banks", t->n_structures, banks);
  put_ints(t, ", structure", t->E, t->structure);
  put_ints(t, ", position", t->E, t->position);
  text_printf(&t->text, ", rows = n}");
  put_regions(t);
  text_printf(&t->text, "\n");
  if (t->combined) {
    text_printf(&t->text, "  %%51 = moe.combine(%%50, %s%s) {",
                t->weighted ? "%4" : "_", t->by_k ? "" : ", %1");
    if (t->by_k) text_printf(&t->text, "k = %lld, ", (long long)t->k);
    text_printf(&t->text, "tokens = T%s}\n",
                dtype_bits(t->dtype) == 16 ? ", out_dtype = f32" : "");
  }
  text_printf(&t->text, "  return(%%5%d)\n}\n", t->combined);
}

/* ---- Data ---------------------------------------------------------------- */

static uint8_t *make_numbers(trial_t *t, int64_t n) {
  uint8_t *data = arena_alloc(t->arena, dtype_bytes(t->dtype, (uint64_t)n) + 8);
  for (int64_t i = 0; i < n; i++)
    ir_element_set_float(t->dtype, data, (uint64_t)i,
                         (double)(next_random(t) % 3) - 1);
  return data;
}

/* Sums of these depend on their order. */
static void make_inexact(trial_t *t, uint8_t *data, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    ir_element_set_float(t->dtype, data, (uint64_t)i,
                         (double)next_random(t) / (double)(1u << 30) - 1);
}

static void make_routes(trial_t *t) {
  t->expert = ARENA_ARRAY(t->arena, int64_t, (size_t)t->R + 1);
  t->token = ARENA_ARRAY(t->arena, int64_t, (size_t)t->R + 1);
  bool some_dropped = ONE_OF(t, 0, 0, 1) != 0;
  bool few = ONE_OF(t, 0, 0, 1) != 0; /* most experts have no rows */
  for (int64_t r = 0; r < t->R; r++) {
    int64_t any = t->E > 0 ? (int64_t)(next_random(t) % (uint64_t)t->E) : 0;
    t->expert[r] = few ? (any < 2 ? any : 0) : any;
    if (some_dropped && ONE_OF(t, 0, 0, 1) != 0)
      t->expert[r] = ONE_OF(t, -1, t->E, INT64_MIN, INT64_MAX, -t->E);
    t->token[r] =
        t->by_k ? r / t->k : (int64_t)(next_random(t) % (uint64_t)t->T);
  }
}

static void make_data(trial_t *t) {
  for (unsigned s = 0; s < t->n_structures; s++)
    for (unsigned b = 0; b < t->n_banks[s]; b++)
      t->bank[s][b].data = make_numbers(t, t->length * t->bank[s][b].size);
  t->x = make_numbers(t, t->T * t->D);
  t->s = make_numbers(t, t->R);
  t->w = make_numbers(t, t->R);
  make_routes(t);
}

/* ---- The definition ------------------------------------------------------ */

/* Element i of element `at` of a bank. */
static double bank_at(const trial_t *t, unsigned s, unsigned b, int64_t at,
                      int64_t i) {
  const bank_t *bank = &t->bank[s][b];
  return ir_element_float(t->dtype, bank->data,
                          (uint64_t)(at * bank->size + i));
}

static double positive(double x) { return x > 0 ? x : 0; }

static void define_mlp(const trial_t *t, unsigned s, int64_t at,
                       const double *x, double *y) {
  bool gated = t->body[s] == GATED, turned = t->body[s] != MLP;
  double h[64];
  for (int64_t j = 0; j < t->H; j++) {
    double up = 0, gate = 0;
    for (int64_t i = 0; i < t->D; i++) {
      gate += x[i] * bank_at(t, s, 0, at, turned ? j * t->D + i : i * t->H + j);
      if (gated) up += x[i] * bank_at(t, s, 0, at, (t->H + j) * t->D + i);
    }
    h[j] =
        gated ? positive(gate) * up : positive(gate + bank_at(t, s, 1, at, j));
  }
  for (int64_t i = 0; i < t->D; i++) {
    y[i] = 0;
    for (int64_t j = 0; j < t->H; j++)
      y[i] += h[j] * bank_at(t, s, gated ? 1 : 2, at,
                             turned ? i * t->H + j : j * t->D + i);
  }
}

/* Element i of the windows of 3 elements of x[D] times a filter. */
static double windows_at(const trial_t *t, unsigned s, unsigned bank,
                         int64_t at, int64_t filter, const double *x,
                         int64_t i) {
  double y = 0;
  for (int64_t d = 0; d < 3; d++)
    if (i + d >= 1 && i + d - 1 < t->D)
      y += x[i + d - 1] * bank_at(t, s, bank, at, filter * 3 + d);
  return y;
}

static void define_filters(const trial_t *t, unsigned s, int64_t at,
                           const double *x, double *y) {
  double h[64];
  for (int64_t i = 0; i < t->D; i++) y[i] = 0;
  for (int64_t j = 0; j < t->H; j++) {
    for (int64_t i = 0; i < t->D; i++)
      h[i] =
          positive(windows_at(t, s, 0, at, j, x, i) + bank_at(t, s, 1, at, j));
    for (int64_t i = 0; i < t->D; i++) y[i] += windows_at(t, s, 2, at, j, h, i);
  }
}

static void define_whole(const trial_t *t, unsigned s, int64_t at,
                         const double *x, double *y) {
  for (int64_t i = 0; i < t->D; i++) {
    y[i] = 0;
    for (int64_t j = 0; j < t->D; j++)
      y[i] += x[j] * bank_at(t, s, 0, at, i * t->D + j);
  }
}

/* y[D] of route r. */
static void define_row(const trial_t *t, int64_t r, double *y) {
  double x[64];
  int64_t e = t->expert[r], D = t->D;
  for (int64_t i = 0; i < D; i++) y[i] = 0;
  if (e < 0 || e >= t->E || t->structure[e] < 0) return;
  unsigned s = (unsigned)t->structure[e];
  int64_t at = t->position[e];
  for (int64_t i = 0; i < D; i++)
    x[i] = ir_element_float(t->dtype, t->x, (uint64_t)(t->token[r] * D + i));
  if (t->body[s] <= GATED) {
    define_mlp(t, s, at, x, y);
    return;
  }
  if (t->body[s] == FILTERS) define_filters(t, s, at, x, y);
  if (t->body[s] == WHOLE) define_whole(t, s, at, x, y);
  if (t->body[s] == FILTERS || t->body[s] == WHOLE) return;
  double scale = ir_element_float(t->dtype, t->s, (uint64_t)r);
  for (int64_t i = 0; i < D; i++) {
    y[i] = x[i];
    if (t->body[s] == SCALED)
      y[i] = x[i] * scale * bank_at(t, s, 0, at, i) + bank_at(t, s, 1, at, 0);
    if (t->body[s] == TRIPS) y[i] = x[i] + 3 * bank_at(t, s, 0, at, i);
    if (t->body[s] == WINDOWS) y[i] = windows_at(t, s, 0, at, 0, x, i);
  }
}

static int64_t count_results(const trial_t *t) {
  return (t->combined ? t->T : t->R) * t->D;
}

static double *define(const trial_t *t) {
  double *out = ARENA_ARRAY(t->arena, double, (size_t)count_results(t) + 1);
  for (int64_t r = 0; r < t->R; r++) {
    double y[64];
    define_row(t, r, y);
    double w = 1;
    if (t->weighted) w = ir_element_float(t->dtype, t->w, (uint64_t)r);
    for (int64_t i = 0; i < t->D; i++)
      if (t->combined)
        out[t->token[r] * t->D + i] += w * y[i];
      else
        out[r * t->D + i] = y[i];
  }
  return out;
}

/* ---- Running ------------------------------------------------------------- */

static void compile(trial_t *t) {
  char dir[] = "/tmp/moec-experts-XXXXXX", source[64], library[64];
  assert_non_null(mkdtemp(dir));
  snprintf(source, sizeof source, "%s/experts.moeir", dir);
  snprintf(library, sizeof library, "%s/experts.so", dir);
  FILE *file = fopen(source, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(t->text.data, 1, t->text.length, file),
                   t->text.length);
  assert_int_equal(fclose(file), 0);
  compile_options_t options;
  compile_options_init(&options);
  options.model = source;
  options.output = library;
  options.passes.level = (int)ONE_OF(t, 0, 2, 2, 2);
  options.passes.verify_each = true;
  moec_status_t status = compile_model(&options, &t->diag);
  unlink(source);
  if (status != MOEC_OK) fail_trial(t, "compilation fails");
  t->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  unlink(library);
  rmdir(dir);
  if (t->library == NULL) fail_trial(t, dlerror());
  union {
    void *symbol;
    moec_model_fn get_model;
  } entry = {dlsym(t->library, "moec_model")};
  assert_non_null(entry.symbol);
  t->model = entry.get_model();
}

static dtype_t result_dtype(const trial_t *t) {
  return t->combined && dtype_bits(t->dtype) == 16 ? DT_F32 : t->dtype;
}

static size_t result_bytes(const trial_t *t, int64_t n) {
  return (size_t)dtype_bytes(result_dtype(t), (uint64_t)n);
}

/* Tokens [begin, end), with all routes or, by k, their own. */
static void *run(trial_t *t, uint32_t n_threads, int64_t begin, int64_t end) {
  enum { FIXED = 5 };
  int64_t first = t->by_k ? begin * t->k : 0;
  int64_t routes = t->by_k ? (end - begin) * t->k : t->R;
  const size_t size = dtype_bits(t->dtype) / 8;
  int64_t rows[] = {end - begin, t->D};
  moec_value_t in[FIXED + MAX_STRUCTURES * MAX_BANKS];
  int64_t dims[FIXED + MAX_STRUCTURES * MAX_BANKS][5];
  void *data[FIXED] = {
      t->expert + first, t->token + first, t->x + (size_t)(begin * t->D) * size,
      t->s + (size_t)first * size, t->w + (size_t)first * size};
  unsigned n = FIXED;
  for (unsigned i = 0; i < FIXED; i++)
    in[i] = (moec_value_t){.struct_size = sizeof in[i],
                           .dtype = i < 2 ? DT_I64 : (int32_t)t->dtype,
                           .rank = i == 2 ? 2 : 1,
                           .data = data[i],
                           .dims = i == 2 ? rows : &routes};
  for (unsigned s = 0; s < t->n_structures && !t->constant; s++)
    for (unsigned b = 0; b < t->n_banks[s]; b++, n++) {
      const bank_t *bank = &t->bank[s][b];
      dims[n][0] = t->length;
      for (unsigned d = 0; d < bank->rank; d++) dims[n][d + 1] = bank->dims[d];
      in[n] = (moec_value_t){.struct_size = sizeof in[n],
                             .dtype = (int32_t)t->dtype,
                             .rank = (int32_t)bank->rank + 1,
                             .data = bank->data,
                             .dims = dims[n]};
    }
  moec_instance_t *instance;
  moec_options_t options = {.struct_size = sizeof options,
                            .n_threads = (int32_t)n_threads};
  if (t->model->create(&options, &instance) != MOEC_OK)
    fail_trial(t, "no instance");
  moec_value_t out = {.struct_size = sizeof out};
  if (t->model->run(instance, in, n, &out, 1) != MOEC_OK)
    fail_trial(t, t->model->message(instance));
  int64_t expected = t->combined ? end - begin : routes;
  if (out.rank != 2 || out.dims[0] != expected || out.dims[1] != t->D)
    fail_trial(t, "the result has another shape");
  size_t bytes = result_bytes(t, expected * t->D);
  void *copy = malloc(bytes + 1);
  assert_non_null(copy);
  if (bytes > 0) memcpy(copy, out.data, bytes);
  t->model->destroy(instance);
  return copy;
}

static void check_definition(trial_t *t) {
  const double *expected = define(t);
  void *y = run(t, 1, 0, t->T);
  double most = 1, slack = dtype_bits(t->dtype) > 16 ? 0
                           : t->dtype == DT_F16      ? 0x1p-9
                                                     : 0x1p-6;
  for (int64_t i = 0; i < count_results(t); i++)
    most = fmax(most, fabs(expected[i]));
  for (int64_t i = 0; i < count_results(t); i++) {
    double found = ir_element_float(result_dtype(t), y, (uint64_t)i);
    if (fabs(found - expected[i]) <= slack * most) continue;
    fail_trial(t, arena_printf(t->arena, "element %lld is %g, not %g",
                               (long long)i, found, expected[i]));
  }
  free(y);
}

static void check_bits(trial_t *t) {
  make_inexact(t, t->x, t->T * t->D);
  make_inexact(t, t->w, t->R);
  uint8_t *one = run(t, 1, 0, t->T), *three = run(t, 3, 0, t->T);
  size_t bytes = result_bytes(t, count_results(t));
  if (memcmp(one, three, bytes) != 0)
    fail_trial(t, "other bits with three threads than with one");
  free(three);
  if (t->by_k && t->T > 1) {
    int64_t split = 1 + (int64_t)(next_random(t) % (uint64_t)(t->T - 1));
    int64_t rows = t->combined ? split : split * t->k;
    size_t front = result_bytes(t, rows * t->D);
    uint8_t *a = run(t, 1, 0, split), *b = run(t, 2, split, t->T);
    if (memcmp(one, a, front) != 0 ||
        memcmp(one + front, b, bytes - front) != 0)
      fail_trial(t, "other bits for parts of the tokens than for all");
    free(a);
    free(b);
  }
  free(one);
}

static void run_trial(uint64_t seed) {
  trial_t t = {.seed = seed, .random = seed * 2 + 1, .arena = arena_create(0)};
  assert_non_null(t.arena);
  diag_init(&t.diag, t.arena, "experts");
  text_init(&t.text, t.arena);
  for (unsigned i = 0; i < 8; i++) next_random(&t);
  choose_shape(&t);
  make_data(&t);
  write_module(&t);
  compile(&t);
  check_definition(&t);
  check_bits(&t);
  dlclose(t.library);
  arena_destroy(t.arena);
}

static unsigned long long number_of(const char *name,
                                    unsigned long long other) {
  const char *text = getenv(name);
  return text == NULL || *text == '\0' ? other : strtoull(text, NULL, 0);
}

static void random_experts_equal_their_definition(void **state) {
  (void)state;
  unsigned long long seed = number_of("MOEC_TEST_SEED", 1);
  unsigned long long count = number_of("MOEC_TEST_COUNT", COUNT);
  print_message("MOEC_TEST_SEED=%llu MOEC_TEST_COUNT=%llu\n", seed, count);
  for (unsigned long long i = 0; i < count; i++) run_trial(seed + i);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_experts_equal_their_definition),
  };
  return cmocka_run_group_tests_name("e2e/experts", tests, NULL, NULL);
}
