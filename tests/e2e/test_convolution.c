/* Convolutions and windows of odd shapes equal their definition, on every
 * instruction set that the host runs, and give the same bits for any number of
 * threads. Elements are small whole numbers, so that every order of summation
 * is exact; those for the comparison of threads are not. The image ends where
 * memory ends.
 *
 * MOEC_TEST_SEED=n starts with case n, MOEC_TEST_COUNT=n runs n cases. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
/* clang-format off: cmocka.h needs what stands above it */
#include <cmocka.h>
/* clang-format on */

#include "backend/cpu.h"
#include "backend/emit.h"
#include "ir/element.h"
#include "moec/model.h"
#include "tools/compile.h"

enum { MAX_SPATIAL = 3, MAX_RANK = 2 + 2 * MAX_SPATIAL, COUNT = 60 };

typedef struct shape {
  unsigned n; /* spatial dimensions */
  bool pool;  /* maxima of windows, not sums of products */
  bool fixed; /* sizes are known when compiling */
  bool epilogue;
  dtype_t dtype;
  int64_t batch, groups, channels, filters; /* the latter two of a group */
  int64_t image[MAX_SPATIAL], kernel[MAX_SPATIAL], out[MAX_SPATIAL];
  int64_t strides[MAX_SPATIAL], dilations[MAX_SPATIAL], before[MAX_SPATIAL];
  int64_t spread[MAX_SPATIAL];
} shape_t;

typedef struct tensor {
  dtype_t dtype;
  unsigned rank;
  int64_t dims[MAX_RANK], count;
  void *map;
  size_t map_bytes;
  uint8_t *data; /* ends with the mapping */
} tensor_t;

typedef struct trial {
  uint64_t seed, random;
  arena_t *arena;
  diag_sink_t diag;
  text_t text;
  shape_t s;
  tensor_t x, w;
  double *expected;
  int64_t dims[2 + MAX_SPATIAL], count; /* of the result */
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

static void choose_dimension(trial_t *t, unsigned d) {
  shape_t *s = &t->s;
  if (s->n == 1)
    s->image[d] = ONE_OF(t, 1, 5, 31, 127, 128, 129, 300);
  else if (s->n == 2)
    s->image[d] = ONE_OF(t, 1, 2, 3, 7, 8, 14, 17, 32, 33);
  else
    s->image[d] = ONE_OF(t, 1, 2, 5, 9);
  s->kernel[d] = ONE_OF(t, 1, 1, 2, 3, 3, 5);
  s->strides[d] = ONE_OF(t, 1, 1, 1, 2, 2, 3);
  s->dilations[d] = ONE_OF(t, 1, 1, 2, 3);
  s->before[d] = ONE_OF(t, 0, 0, 1, 1, 2, 4);
  s->spread[d] = ONE_OF(t, 1, 1, 1, 1, 2, 3);
  if (s->spread[d] > 1) s->strides[d] = 1;
  /* Any size will do: what lies outside is 0. */
  int64_t size = (s->image[d] - 1) * s->spread[d] + 1 + s->before[d];
  size += ONE_OF(t, 0, 0, 1, 2, 4);
  int64_t extent = (s->kernel[d] - 1) * s->dilations[d] + 1;
  s->out[d] = size < extent ? 1 : (size - extent) / s->strides[d] + 1;
}

static void choose_shape(trial_t *t) {
  shape_t *s = &t->s;
  *s = (shape_t){.n = (unsigned)ONE_OF(t, 1, 2, 2, 2, 3)};
  s->pool = ONE_OF(t, 0, 0, 0, 0, 1);
  s->fixed = ONE_OF(t, 0, 1);
  s->epilogue = ONE_OF(t, 0, 1);
  s->dtype = (dtype_t)ONE_OF(t, DT_F32, DT_F32, DT_F32, DT_F64, DT_I32, DT_F16);
  s->batch = ONE_OF(t, 0, 1, 1, 2, 3);
  s->groups = ONE_OF(t, 1, 1, 1, 2, 5);
  s->channels = ONE_OF(t, 1, 1, 2, 3, 17);
  s->filters = ONE_OF(t, 1, 1, 2, 13, 40, 50);
  for (unsigned d = 0; d < s->n; d++) choose_dimension(t, d);
}

/* ---- The module ---------------------------------------------------------- */

static void put_list(trial_t *t, const char *name, const int64_t *v) {
  text_printf(&t->text, "%s = [", name);
  for (unsigned d = 0; d < t->s.n; d++)
    text_printf(&t->text, "%s%lld", d > 0 ? ", " : "", (long long)v[d]);
  text_printf(&t->text, "]");
}

/* A size of the image that is not fixed is D<d>; the result's follows from it
 * as if the image were what it is in this case. */
static void put_out(trial_t *t) {
  const shape_t *s = &t->s;
  text_printf(&t->text, "out = [");
  for (unsigned d = 0; d < s->n; d++) {
    int64_t more = s->out[d] - s->image[d];
    if (d > 0) text_printf(&t->text, ", ");
    if (s->fixed)
      text_printf(&t->text, "%lld", (long long)s->out[d]);
    else if (s->strides[d] == 1 && s->spread[d] == 1)
      text_printf(&t->text, "D%u %c %lld", d, more < 0 ? '-' : '+',
                  (long long)(more < 0 ? -more : more));
    else
      text_printf(&t->text, "%lld", (long long)s->out[d]);
  }
  text_printf(&t->text, "]");
}

static void write_module(trial_t *t) {
  const shape_t *s = &t->s;
  const char *type = dtype_name(s->dtype);
  text_printf(&t->text, "func @main(%%0: %s[", type);
  if (s->fixed)
    text_printf(&t->text, "%lld", (long long)s->batch);
  else
    text_printf(&t->text, "N");
  text_printf(&t->text, ",%lld", (long long)(s->groups * s->channels));
  for (unsigned d = 0; d < s->n; d++)
    if (s->fixed)
      text_printf(&t->text, ",%lld", (long long)s->image[d]);
    else
      text_printf(&t->text, ",D%u", d);
  text_printf(&t->text, "], %%1: %s[%lld,%lld", type,
              (long long)(s->groups * s->filters), (long long)s->channels);
  for (unsigned d = 0; d < s->n; d++)
    text_printf(&t->text, ",%lld", (long long)s->kernel[d]);
  text_printf(&t->text, "]) {\n");
  bool is_float = dtype_is_float(s->dtype);
  text_printf(&t->text,
              "  %%2 = constant {dtype = %s, shape = [], data = [%s]}\n", type,
              is_float ? "-3.0" : "-3");
  if (s->pool)
    text_printf(&t->text, "  %%3 = unfold(%%0, %%2) {kernel = ");
  else
    text_printf(&t->text, "  %%3 = convolve(%%0, %%1) {groups = %lld, ",
                (long long)s->groups);
  if (s->pool) {
    text_printf(&t->text, "[");
    for (unsigned d = 0; d < s->n; d++)
      text_printf(&t->text, "%s%lld", d > 0 ? ", " : "",
                  (long long)s->kernel[d]);
    text_printf(&t->text, "], ");
  }
  put_out(t);
  text_printf(&t->text, ", ");
  put_list(t, "strides", s->strides);
  text_printf(&t->text, ", ");
  put_list(t, "dilations", s->dilations);
  text_printf(&t->text, ", ");
  put_list(t, "pad_before", s->before);
  text_printf(&t->text, ", ");
  put_list(t, "input_dilation", s->spread);
  text_printf(&t->text, "}\n");
  const char *result = "%3";
  if (s->pool) {
    text_printf(&t->text, "  %%4 = reduce_max(%%3) {axes = [");
    for (unsigned d = 0; d < s->n; d++)
      text_printf(&t->text, "%s%u", d > 0 ? ", " : "", 2 + d);
    text_printf(&t->text, "], keepdims = 0}\n");
    result = "%4";
  }
  if (s->epilogue) text_printf(&t->text, "  %%5 = max(%s, %%2)\n", result);
  text_printf(&t->text, "  return(%s)\n}\n", s->epilogue ? "%5" : result);
}

/* ---- Tensors ------------------------------------------------------------- */

static void make_tensor(tensor_t *x, dtype_t dtype, unsigned rank,
                        const int64_t *dims) {
  *x = (tensor_t){.dtype = dtype, .rank = rank, .count = 1};
  for (unsigned d = 0; d < rank; d++) {
    x->dims[d] = dims[d];
    x->count *= dims[d];
  }
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t bytes = (size_t)dtype_bytes(dtype, (uint64_t)x->count);
  size_t pages = (bytes + page - 1) / page * page;
  x->map_bytes = pages + page;
  x->map = mmap(NULL, x->map_bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(x->map != MAP_FAILED);
  assert_int_equal(mprotect((uint8_t *)x->map + pages, page, PROT_NONE), 0);
  x->data = (uint8_t *)x->map + pages - bytes;
}

static void set_element(tensor_t *x, int64_t i, int value) {
  static const uint16_t half[] = {0xc000, 0xbc00, 0, 0x3c00, 0x4000};
  switch (x->dtype) {
    case DT_F32:
      ((float *)x->data)[i] = (float)value;
      break;
    case DT_F64:
      ((double *)x->data)[i] = value;
      break;
    case DT_F16:
      ((uint16_t *)x->data)[i] = half[value + 2];
      break;
    default:
      ((int32_t *)x->data)[i] = value;
  }
}

static void fill(trial_t *t, tensor_t *x) {
  for (int64_t i = 0; i < x->count; i++)
    set_element(x, i, (int)(next_random(t) % 5) - 2);
}

/* Sums of these depend on their order. */
static void fill_inexact(trial_t *t, tensor_t *x) {
  for (int64_t i = 0; i < x->count; i++) {
    double value = (double)next_random(t) / (double)(1u << 30) - 1;
    if (x->dtype == DT_F32)
      ((float *)x->data)[i] = (float)value;
    else if (x->dtype == DT_F64)
      ((double *)x->data)[i] = value;
  }
}

static double element(const tensor_t *x, int64_t i) {
  return dtype_is_float(x->dtype)
             ? ir_element_float(x->dtype, x->data, (uint64_t)i)
             : (double)ir_element_int(x->dtype, x->data, (uint64_t)i);
}

/* ---- The definition ------------------------------------------------------ */

/* Spreads i over dims, the last one fastest. */
static void split(int64_t i, unsigned n, const int64_t *dims, int64_t *out) {
  for (unsigned d = n; d-- > 0;) {
    out[d] = i % dims[d];
    i /= dims[d];
  }
}

/* Element of a window at tap k of output o, or `outside`. */
static double windowed(const trial_t *t, int64_t image, int64_t channel,
                       const int64_t *k, const int64_t *o, double outside) {
  const shape_t *s = &t->s;
  int64_t at = image * s->groups * s->channels + channel;
  for (unsigned d = 0; d < s->n; d++) {
    int64_t p = o[d] * s->strides[d] + k[d] * s->dilations[d] - s->before[d];
    if (p < 0 || p % s->spread[d] != 0 || p / s->spread[d] >= s->image[d])
      return outside;
    at = at * s->image[d] + p / s->spread[d];
  }
  return element(&t->x, at);
}

static double define(const trial_t *t, int64_t index) {
  const shape_t *s = &t->s;
  int64_t at[2 + MAX_SPATIAL], k[MAX_SPATIAL], taps = 1;
  split(index, 2 + s->n, t->dims, at);
  for (unsigned d = 0; d < s->n; d++) taps *= s->kernel[d];
  double sum = 0, most = -100;
  for (int64_t tap = 0; tap < taps; tap++) {
    split(tap, s->n, s->kernel, k);
    if (s->pool) {
      double v = windowed(t, at[0], at[1], k, at + 2, -3);
      if (v > most) most = v;
      continue;
    }
    int64_t group = at[1] / s->filters;
    for (int64_t c = 0; c < s->channels; c++)
      sum += windowed(t, at[0], group * s->channels + c, k, at + 2, 0) *
             element(&t->w, (at[1] * s->channels + c) * taps + tap);
  }
  double result = s->pool ? most : sum;
  return s->epilogue && result < -3 ? -3 : result;
}

/* ---- Running ------------------------------------------------------------- */

static void compile(trial_t *t) {
  char dir[] = "/tmp/moec-conv-XXXXXX", source[64], library[64];
  assert_non_null(mkdtemp(dir));
  snprintf(source, sizeof source, "%s/conv.moeir", dir);
  snprintf(library, sizeof library, "%s/conv.so", dir);
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

static moec_value_t value_of(tensor_t *x) {
  return (moec_value_t){.struct_size = sizeof(moec_value_t),
                        .dtype = (int32_t)x->dtype,
                        .rank = (int32_t)x->rank,
                        .data = x->data,
                        .dims = x->dims};
}

/* A copy of the result. */
static void *run(trial_t *t, const char *isa, uint32_t n_threads) {
  moec_instance_t *instance;
  moec_options_t options = {
      .struct_size = sizeof options, .n_threads = n_threads, .variant = isa};
  if (t->model->create(&options, &instance) != MOEC_OK)
    fail_trial(t, "no instance");
  moec_value_t inputs[] = {value_of(&t->x), value_of(&t->w)};
  moec_value_t output = {.struct_size = sizeof output};
  if (t->model->run(instance, inputs, 2, &output, 1) != MOEC_OK)
    fail_trial(t, t->model->message(instance));
  if (output.rank != (int32_t)(2 + t->s.n) ||
      memcmp(output.dims, t->dims, (2 + t->s.n) * sizeof t->dims[0]) != 0)
    fail_trial(t, "the result has another shape");
  size_t bytes = (size_t)dtype_bytes(t->s.dtype, (uint64_t)t->count);
  void *copy = malloc(bytes + 1);
  assert_non_null(copy);
  if (bytes > 0) memcpy(copy, output.data, bytes);
  t->model->destroy(instance);
  return copy;
}

static void check_definition(trial_t *t, const char *isa) {
  tensor_t y = {.dtype = t->s.dtype, .data = run(t, isa, 1)};
  for (int64_t i = 0; i < t->count; i++)
    if (element(&y, i) != t->expected[i])
      fail_trial(
          t, arena_printf(t->arena, "element %lld is %g on %s, not %g",
                          (long long)i, element(&y, i), isa, t->expected[i]));
  free(y.data);
}

static void check_threads(trial_t *t, const char *isa) {
  size_t bytes = (size_t)dtype_bytes(t->s.dtype, (uint64_t)t->count);
  void *one = run(t, isa, 1), *three = run(t, isa, 3);
  if (memcmp(one, three, bytes) != 0)
    fail_trial(t, "other bits with three threads than with one");
  free(one);
  free(three);
}

static void for_each_isa(trial_t *t,
                         void (*check)(trial_t *t, const char *isa)) {
  for (unsigned i = 0; i < isa_count(); i++) {
    const isa_t *isa = isa_at(i);
    if (cpu_runs(isa)) check(t, isa->name);
  }
}

static void make_data(trial_t *t) {
  const shape_t *s = &t->s;
  int64_t x[MAX_RANK] = {s->batch, s->groups * s->channels};
  int64_t w[MAX_RANK] = {s->groups * s->filters, s->channels};
  t->dims[0] = s->batch;
  t->dims[1] = s->pool ? x[1] : w[0];
  t->count = t->dims[0] * t->dims[1];
  for (unsigned d = 0; d < s->n; d++) {
    x[2 + d] = s->image[d];
    w[2 + d] = s->kernel[d];
    t->dims[2 + d] = s->out[d];
    t->count *= s->out[d];
  }
  make_tensor(&t->x, s->dtype, 2 + s->n, x);
  make_tensor(&t->w, s->dtype, 2 + s->n, w);
  fill(t, &t->x);
  fill(t, &t->w);
  t->expected = ARENA_ARRAY(t->arena, double, (size_t)t->count + 1);
  for (int64_t i = 0; i < t->count; i++) t->expected[i] = define(t, i);
}

static void run_trial(uint64_t seed) {
  trial_t t = {.seed = seed, .random = seed * 2 + 1, .arena = arena_create(0)};
  assert_non_null(t.arena);
  diag_init(&t.diag, t.arena, "convolution");
  text_init(&t.text, t.arena);
  for (unsigned i = 0; i < 8; i++) next_random(&t);
  choose_shape(&t);
  write_module(&t);
  make_data(&t);
  compile(&t);
  for_each_isa(&t, check_definition);
  fill_inexact(&t, &t.x);
  fill_inexact(&t, &t.w);
  for_each_isa(&t, check_threads);
  dlclose(t.library);
  munmap(t.x.map, t.x.map_bytes);
  munmap(t.w.map, t.w.map_bytes);
  arena_destroy(t.arena);
}

static unsigned long long number_of(const char *name,
                                    unsigned long long other) {
  const char *text = getenv(name);
  return text == NULL || *text == '\0' ? other : strtoull(text, NULL, 0);
}

static void convolutions_of_odd_shapes_equal_their_definition(void **state) {
  (void)state;
  unsigned long long seed = number_of("MOEC_TEST_SEED", 1);
  unsigned long long count = number_of("MOEC_TEST_COUNT", COUNT);
  print_message("MOEC_TEST_SEED=%llu MOEC_TEST_COUNT=%llu\n", seed, count);
  for (unsigned long long i = 0; i < count; i++) run_trial(seed + i);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(convolutions_of_odd_shapes_equal_their_definition),
  };
  return cmocka_run_group_tests_name("e2e/convolution", tests, NULL, NULL);
}
