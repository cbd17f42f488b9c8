/* Loops whose loads are done in squares, on every ISA that the host runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the standard headers first. */
#include <cmocka.h>

#include "backend/kernel.h"
#include "tests/backend/math_jit.h"

/* c[k, n] = a[n, k] - b[k, n], first all n of a k; one unit. */
static const char text[] =
    "module \"turn\" loop {\n"
    "kernel @k(%%0: buf %s, %%1: buf %s, %%2: buf %s, %%3: i64[], %%4: i64[]) {"
    "\n"
    "  %%5 = constant {dtype = i64, shape = [], data = [0]} : i64[]\n"
    "  parallel (%%6: i64[]) {\n"
    "    for(%%5, %%3) {vector = 1} (%%7: i64[]) {\n"
    "      %%8 = mul(%%7, %%4) : i64[]\n"
    "      for(%%5, %%4) {turn = 1} (%%9: i64[]) {\n"
    "        %%10 = add(%%8, %%9) : i64[]\n"
    "        %%11 = load(%%1, %%10) : %s[]\n"
    "        %%12 = mul(%%9, %%3) : i64[]\n"
    "        %%13 = add(%%12, %%7) : i64[]\n"
    "        %%14 = load(%%2, %%13) : %s[]\n"
    "        %%15 = sub(%%11, %%14) : %s[]\n"
    "        store(%%0, %%13, %%15)\n"
    "        yield()\n"
    "      }\n"
    "      yield()\n"
    "    }\n"
    "    yield()\n"
    "  }\n"
    "  return()\n"
    "}\n"
    "}\n";

enum { MOST = 37 }; /* more than two squares and a rest on any ISA */

typedef void (*kernel_fn)(const void *args, int64_t begin, int64_t end);

static kernel_fn compile(math_jit_t *jit, dtype_t dtype) {
  const char *t = dtype_name(dtype);
  const char *source = arena_printf(jit->arena, text, t, t, t, t, t, t);
  ir_module_t *module;
  assert_int_equal(
      ir_parse(jit->arena, source, strlen(source), NULL, &jit->diag, &module),
      MOEC_OK);
  ir_func_t *func = module->first;
  ir_renumber(func);
  LLVMSetVisibility(emit_kernel(&jit->em, func, "turned"),
                    LLVMDefaultVisibility);
  math_jit_load(jit);
  math_fn found = math_jit_find(jit, "turned");
  kernel_fn fn;
  memcpy(&fn, &found, sizeof fn);
  return fn;
}

static void check(kernel_fn fn, const isa_t *isa, dtype_t dtype, int64_t n,
                  int64_t k) {
  size_t bytes = dtype_bits(dtype) / 8, count = (size_t)(n * k);
  /* Exactly as long as they must be: sanitizers see what is read beyond. */
  uint8_t *a = malloc(count * bytes), *b = malloc(count * bytes);
  uint8_t *c = calloc(count, bytes);
  if (a == NULL || b == NULL || c == NULL) abort();
  for (size_t i = 0; i < count * bytes; i++) {
    a[i] = (uint8_t)(i * 37 + i / 251);
    b[i] = (uint8_t)(i * 11 + i / 13);
  }
  int32_t error = 0;
  const void *args[] = {
      &error, c, a, b, (void *)(uintptr_t)n, (void *)(uintptr_t)k};
  fn(args, 0, 1);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < k; j++) {
      uint64_t x = 0, y = 0, z = 0;
      uint64_t mask = bytes == 8 ? ~0ull : (1ull << 8 * bytes) - 1;
      memcpy(&x, a + (size_t)(i * k + j) * bytes, bytes);
      memcpy(&y, b + (size_t)(j * n + i) * bytes, bytes);
      memcpy(&z, c + (size_t)(j * n + i) * bytes, bytes);
      if (z != ((x - y) & mask))
        fail_msg("%s on %s, %d columns, depth %d: c[%d, %d] is %llx, not %llx",
                 dtype_name(dtype), isa->name, (int)n, (int)k, (int)j, (int)i,
                 (unsigned long long)z, (unsigned long long)((x - y) & mask));
    }
  free(a);
  free(b);
  free(c);
}

static void squares_are_turned_whatever_is_left_over(void **state) {
  (void)state;
  static const dtype_t dtypes[] = {DT_I32, DT_U16, DT_I8, DT_I64};
  static const int64_t sizes[] = {0, 1, 3, 4, 8, 15, 16, 17, 33, MOST};
  const size_t n_sizes = sizeof sizes / sizeof sizes[0];
  for (unsigned i = 0; i < isa_count(); i++) {
    const isa_t *isa = isa_at(i);
    if (!cpu_runs(isa)) continue;
    for (size_t t = 0; t < sizeof dtypes / sizeof dtypes[0]; t++) {
      math_jit_t jit;
      math_jit_init(&jit, isa);
      kernel_fn fn = compile(&jit, dtypes[t]);
      for (size_t n = 0; n < n_sizes; n++)
        for (size_t k = 0; k < n_sizes; k++)
          check(fn, isa, dtypes[t], sizes[n], sizes[k]);
      math_jit_dispose(&jit);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(squares_are_turned_whatever_is_left_over),
  };
  return cmocka_run_group_tests_name("backend/turn", tests, NULL, NULL);
}
