/* Models whose weights are elements of bf16 or f16 give the same bits with and
 * without the pass `narrow`, on every instruction set that the host runs, and
 * their libraries are smaller by half of the weights. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* clang-format off: cmocka.h needs what stands above it */
#include <cmocka.h>
/* clang-format on */

#include "backend/cpu.h"
#include "moec/model.h"
#include "tools/compile.h"

typedef enum { BF16, F16, F32 } precision_t;

/* ---- The model ----------------------------------------------------------- */

/* Constants by number: %10, %11 and so on. */
static const struct {
  const char *shape;
  unsigned count;
} weights[] = {
    {"300, 256", 300 * 256},        /* gathered, and a product's panels */
    {"256, 333", 256 * 333},        /* panels */
    {"4096, 5", 4096 * 5},          /* few columns: a reduction */
    {"4, 256, 64", 4 * 256 * 64},   /* batched panels; gathered matrices */
    {"64, 256", 64 * 256},          /* elementwise */
    {"64, 8, 3, 3", 64 * 8 * 3 * 3} /* filters */
};

enum { N_WEIGHTS = sizeof weights / sizeof weights[0] };

static const char body[] =
    "  %20 = gather(%10, %0) {axis = 0}\n"
    "  %21 = transpose(%10) {perm = [1, 0]}\n"
    "  %22 = matmul(%2, %21)\n"
    "  %23 = matmul(%2, %11)\n"
    "  %24 = matmul(%4, %12)\n"
    "  %25 = matmul(%2, %13)\n"
    "  %26 = gather(%13, %1) {axis = 0}\n"
    "  %27 = matmul(%2, %26)\n"
    "  %28 = add(%14, %5)\n"
    "  %29 = mul(%14, %5)\n"
    "  %30 = reduce_sum(%29) {axes = [0], keepdims = 0}\n"
    "  %31 = convolve(%3, %15) {groups = 1, out = [14, 14], strides = [1, 1], "
    "dilations = [1, 1], pad_before = [1, 1], input_dilation = [1, 1]}\n"
    "  %32 = if(%6) {symbols = [], dims = [64, 256]} () {\n"
    "    %33 = neg(%14)\n"
    "    yield(%33) {sizes = []}\n"
    "  } () {\n"
    "    %34 = slice(%10) {start = [0, 0], length = [64, 256], step = [4, 1]}\n"
    "    yield(%34) {sizes = []}\n"
    "  } : f32[64,256]\n"
    "  return(%20, %22, %23, %24, %25, %27, %28, %30, %31, %32)\n"
    "}\n}\n";

enum { N_INPUTS = 7, N_OUTPUTS = 10 };

static uint32_t next_random(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
  return (uint32_t)(*state >> 32);
}

/* Numbers of moderate size, zeros of both signs, the smallest of the type. */
static uint32_t random_weight(uint64_t *state, precision_t precision) {
  const uint32_t random = next_random(state), sign = random & 0x80000000u;
  const uint32_t exponent = (118 + (random >> 8) % 10) << 23;
  const uint32_t mantissa = random >> 12 & 0x7fffff;
  const uint32_t keep = precision == BF16  ? 0xffff0000u
                        : precision == F16 ? 0xffffe000u
                                           : 0xffffffffu;
  const uint32_t smallest = precision == BF16 ? 0x00010000u : 0x33800000u;
  switch (random % 50) {
    case 0:
      return sign;
    case 1:
      return sign | smallest;
    default:
      return sign | ((exponent | mantissa) & keep);
  }
}

/* spoil: the last element of each constant is of f32 alone. */
static void append_weights(text_t *text, const precision_t *precision,
                           bool spoil) {
  uint64_t state = 1;
  for (unsigned i = 0; i < N_WEIGHTS; i++) {
    text_printf(text,
                "  %%%u = constant {dtype = f32, shape = [%s], data = hex(\"",
                10 + i, weights[i].shape);
    for (unsigned j = 0; j < weights[i].count; j++) {
      uint32_t bits = random_weight(&state, precision[i]);
      if (spoil && j + 1 == weights[i].count) bits |= 1;
      for (unsigned byte = 0; byte < 4; byte++)
        text_printf(text, "%02x", bits >> 8 * byte & 0xff);
    }
    text_printf(text, "\")}\n");
  }
}

static void append_model(text_t *text, const precision_t *precision,
                         bool spoil) {
  text_printf(
      text,
      "module \"narrow\" tensor {\nsymbols { n >= 0, m >= 0 }\n"
      "func @main(%%0 \"ids\": i64[n], %%1 \"expert\": i64[], %%2 \"x\": "
      "f32[m,256], %%3 \"image\": f32[1,8,14,14], %%4 \"wide\": "
      "f32[m,4096], %%5 \"row\": f32[256], %%6 \"which\": bool[]) -> (");
  for (unsigned i = 0; i < N_OUTPUTS; i++)
    text_printf(text, "%s\"y%u\"", i > 0 ? ", " : "", i);
  text_printf(text, ") {\n");
  append_weights(text, precision, spoil);
  text_append(text, body, strlen(body));
}

/* ---- Compiling ----------------------------------------------------------- */

typedef struct build {
  void *library;
  const moec_model_t *model;
  uint64_t bytes;
} build_t;

static build_t compile(const char *path, const char *disabled,
                       const char *isas) {
  char output[] = "/tmp/moec-narrow-XXXXXX.so";
  const int fd = mkstemps(output, 3);
  assert_true(fd >= 0);
  close(fd);
  arena_t *arena = arena_create(0);
  diag_sink_t diag;
  diag_init(&diag, arena, path);
  compile_options_t options;
  compile_options_init(&options);
  options.model = path;
  options.output = output;
  options.isas = isas;
  options.passes.disabled = disabled;
  options.passes.verify_each = true;
  const moec_status_t status = compile_model(&options, &diag);
  if (status != MOEC_OK) diag_print(&diag, stderr);
  assert_int_equal(status, MOEC_OK);
  arena_destroy(arena);
  struct stat st;
  assert_int_equal(stat(output, &st), 0);
  build_t b = {.library = dlopen(output, RTLD_NOW | RTLD_LOCAL),
               .bytes = (uint64_t)st.st_size};
  unlink(output);
  assert_non_null(b.library);
  union {
    void *symbol;
    moec_model_fn get_model;
  } entry = {dlsym(b.library, "moec_model")};
  assert_non_null(entry.symbol);
  b.model = entry.get_model();
  return b;
}

/* ---- Running ------------------------------------------------------------- */

typedef struct data { /* inputs of a run */
  int64_t ids[64], expert;
  float x[64 * 256], image[8 * 14 * 14], wide[64 * 4096], row[256];
  bool which;
} data_t;

static void fill(float *x, size_t count, uint64_t *state) {
  for (size_t i = 0; i < count; i++)
    x[i] = (float)(int32_t)next_random(state) * 0x1p-31f;
}

static void fill_data(data_t *d, int64_t rows) {
  uint64_t state = (uint64_t)rows + 77;
  for (unsigned i = 0; i < 64; i++)
    d->ids[i] = (int64_t)(next_random(&state) % 300);
  d->expert = rows % 4;
  d->which = rows % 2 == 0;
  fill(d->x, sizeof d->x / sizeof *d->x, &state);
  fill(d->image, sizeof d->image / sizeof *d->image, &state);
  fill(d->wide, sizeof d->wide / sizeof *d->wide, &state);
  fill(d->row, sizeof d->row / sizeof *d->row, &state);
}

static uint64_t bytes_of(const moec_value_t *value) {
  uint64_t count = 4; /* all results are f32 */
  for (int32_t d = 0; d < value->rank; d++) count *= (uint64_t)value->dims[d];
  return count;
}

static void run(const build_t *b, moec_instance_t *instance, data_t *d,
                int64_t rows, moec_value_t *outputs) {
  int64_t n[] = {rows}, x[] = {rows, 256}, image[] = {1, 8, 14, 14};
  int64_t wide[] = {rows, 4096}, row[] = {256};
  const moec_value_t inputs[N_INPUTS] = {
      {.dtype = DT_I64, .rank = 1, .data = d->ids, .dims = n},
      {.dtype = DT_I64, .rank = 0, .data = &d->expert},
      {.dtype = DT_F32, .rank = 2, .data = d->x, .dims = x},
      {.dtype = DT_F32, .rank = 4, .data = d->image, .dims = image},
      {.dtype = DT_F32, .rank = 2, .data = d->wide, .dims = wide},
      {.dtype = DT_F32, .rank = 1, .data = d->row, .dims = row},
      {.dtype = DT_BOOL, .rank = 0, .data = &d->which}};
  moec_value_t sized[N_INPUTS];
  for (unsigned i = 0; i < N_INPUTS; i++) {
    sized[i] = inputs[i];
    sized[i].struct_size = sizeof sized[i];
  }
  for (unsigned i = 0; i < N_OUTPUTS; i++)
    outputs[i] = (moec_value_t){.struct_size = sizeof outputs[i]};
  if (b->model->run(instance, sized, N_INPUTS, outputs, N_OUTPUTS) != MOEC_OK)
    fail_msg("%s", b->model->message(instance));
}

static moec_instance_t *instance_of(const build_t *b, const char *isa) {
  moec_instance_t *instance;
  const moec_options_t options = {
      .struct_size = sizeof options, .n_threads = 1, .variant = isa};
  assert_int_equal(b->model->create(&options, &instance), MOEC_OK);
  return instance;
}

static void compare_runs(const build_t *narrow, const build_t *wide,
                         const char *isa) {
  static const int64_t rows[] = {0, 1, 2, 7, 13, 64};
  static data_t data;
  moec_instance_t *a = instance_of(narrow, isa), *b = instance_of(wide, isa);
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    moec_value_t y[N_OUTPUTS], want[N_OUTPUTS];
    fill_data(&data, rows[i]);
    run(narrow, a, &data, rows[i], y);
    run(wide, b, &data, rows[i], want);
    for (unsigned k = 0; k < N_OUTPUTS; k++) {
      assert_int_equal(bytes_of(&y[k]), bytes_of(&want[k]));
      if (bytes_of(&y[k]) > 0 &&
          memcmp(y[k].data, want[k].data, bytes_of(&y[k])) != 0)
        fail_msg("%s, %d rows: output %u has other bits", isa, (int)rows[i], k);
    }
  }
  narrow->model->destroy(a);
  wide->model->destroy(b);
}

static void compare_on(const char *path, const char *const *isa, unsigned n,
                       const char *list, double least, double most) {
  const build_t narrow = compile(path, NULL, list);
  const build_t wide = compile(path, "narrow", list);
  const double ratio = (double)narrow.bytes / (double)wide.bytes;
  if (ratio < least || ratio > most)
    fail_msg("the library on %s has %llu bytes, %llu without narrowing", list,
             (unsigned long long)narrow.bytes, (unsigned long long)wide.bytes);
  for (unsigned i = 0; i < n; i++) compare_runs(&narrow, &wide, isa[i]);
  dlclose(narrow.library);
  dlclose(wide.library);
}

/* All variants in one library, or only one; its size is to be within these
 * limits. */
static void compare(const precision_t *precision, bool spoil, const isa_t *only,
                    double least, double most) {
  enum { MAX_ISAS = 16 };
  const char *isa[MAX_ISAS];
  char path[] = "/tmp/moec-narrow-XXXXXX.moeir", list[256] = "";
  unsigned n = 0;
  for (unsigned i = 0; i < isa_count() && n < MAX_ISAS; i++) {
    if (!cpu_runs(isa_at(i)) || (only != NULL && isa_at(i) != only)) continue;
    isa[n] = isa_at(i)->name;
    snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s",
             n > 0 ? "," : "", isa[n]);
    n++;
  }
  assert_true(n > 0);
  arena_t *arena = arena_create(0);
  text_t text;
  text_init(&text, arena);
  append_model(&text, precision, spoil);
  const int fd = mkstemps(path, 6);
  assert_true(fd >= 0);
  FILE *file = fdopen(fd, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(text.data, 1, text.length, file), text.length);
  assert_int_equal(fclose(file), 0);
  arena_destroy(arena);
  compare_on(path, isa, n, list, least, most);
  unlink(path);
}

static void weights_of_bf16_take_half_the_bytes(void **state) {
  (void)state;
  static const precision_t all[] = {BF16, BF16, BF16, BF16, BF16, BF16};
  compare(all, false, NULL, 0.5, 0.6);
}

static const precision_t all_f16[] = {F16, F16, F16, F16, F16, F16};

/* Where the best variant of the library converts f16. */
static void weights_of_f16_take_half_the_bytes(void **state) {
  (void)state;
  const isa_t *best = NULL;
  for (unsigned i = 0; i < isa_count(); i++)
    if (cpu_runs(isa_at(i))) best = isa_at(i);
  const bool converts = isa_has(best, ISA_F16);
  compare(all_f16, false, NULL, converts ? 0.5 : 1, converts ? 0.6 : 1);
}

static void weights_of_f16_stay_where_no_variant_converts_them(void **state) {
  (void)state;
  for (unsigned i = 0; i < isa_count(); i++) {
    const bool converts = isa_has(isa_at(i), ISA_F16);
    if (cpu_runs(isa_at(i)))
      compare(all_f16, false, isa_at(i), converts ? 0.4 : 1,
              converts ? 0.6 : 1);
  }
}

static void each_constant_is_judged_by_itself(void **state) {
  (void)state;
  static const precision_t some[] = {F32, BF16, F16, BF16, F32, F16};
  static const precision_t others[] = {BF16, F32, F32, F16, BF16, F32};
  compare(some, false, NULL, 0.5, 0.95);
  compare(others, false, NULL, 0.5, 0.95);
}

static void one_other_element_keeps_a_constant_as_it_is(void **state) {
  (void)state;
  static const precision_t all[] = {BF16, BF16, BF16, F16, F16, F16};
  compare(all, true, NULL, 1, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(weights_of_bf16_take_half_the_bytes),
      cmocka_unit_test(weights_of_f16_take_half_the_bytes),
      cmocka_unit_test(weights_of_f16_stay_where_no_variant_converts_them),
      cmocka_unit_test(each_constant_is_judged_by_itself),
      cmocka_unit_test(one_other_element_keeps_a_constant_as_it_is),
  };
  return cmocka_run_group_tests_name("e2e/narrow", tests, NULL, NULL);
}
