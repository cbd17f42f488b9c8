/* The table of variants, and which kernels they share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
/* clang-format off: cmocka.h needs what stands above it */
#include <cmocka.h>
/* clang-format on */

#include "backend/cpu.h"

static unsigned row_of(const char *name) {
  unsigned row = 0;
  while (strcmp(isa_at(row)->name, name) != 0) row++;
  return row;
}

static void rows_of_an_architecture_ascend(void **state) {
  (void)state;
  for (unsigned i = 1; i < isa_count(); i++) {
    const isa_t *below = isa_at(i - 1), *isa = isa_at(i);
    if (strcmp(below->arch, isa->arch) != 0) {
      assert_int_equal(isa->cpu_bits, 0); /* any machine runs the first row */
      continue;
    }
    assert_int_equal(below->cpu_bits & ~isa->cpu_bits, 0);
    assert_true(isa->cpu_bits != below->cpu_bits);
  }
}

static void bases_differ_in_optional_traits_only(void **state) {
  (void)state;
  for (unsigned i = 0; i < isa_count(); i++) {
    const isa_t *isa = isa_at(i);
    if (isa->base < 0) continue;
    assert_true((unsigned)isa->base < i);
    const isa_t *base = isa_at((unsigned)isa->base);
    assert_string_equal(isa->arch, base->arch);
    assert_string_equal(isa->cpu, base->cpu);
    assert_int_equal(isa->vector_bytes, base->vector_bytes);
    assert_int_equal(isa->n_vectors, base->n_vectors);
    assert_int_equal(base->cpu_bits & ~isa->cpu_bits, 0);
    assert_int_equal(isa->traits & ~base->traits, ISA_DOT);
  }
}

static void kernels_are_shared_unless_a_trait_matters(void **state) {
  (void)state;
  const unsigned vnni = row_of("avx512-vnni"), avx512 = row_of("avx512");
  const unsigned both[] = {avx512, vnni};
  const unsigned others = ~(unsigned)ISA_DOT;
  assert_int_equal(isa_serving(vnni, others, both, 2), avx512);
  assert_int_equal(isa_serving(vnni, others | ISA_DOT, both, 2), vnni);
  assert_int_equal(isa_serving(vnni, others, &vnni, 1), vnni);
  assert_int_equal(isa_serving(avx512, others, both, 2), avx512);
}

static void dot_products_are_of_bytes_in_32_bits(void **state) {
  (void)state;
  assert_int_equal(product_traits(DT_U8, DT_I8, DT_I32), ISA_DOT);
  assert_int_equal(product_traits(DT_I8, DT_I8, DT_I32), ISA_DOT);
  assert_int_equal(product_traits(DT_I8, DT_I8, DT_I8), 0);
  assert_int_equal(product_traits(DT_I8, DT_I16, DT_I32), 0);
  assert_int_equal(product_traits(DT_F32, DT_F32, DT_F32), 0);
}

static void triples_name_targets(void **state) {
  (void)state;
  const target_t *target = target_find("x86_64");
  assert_non_null(target);
  assert_ptr_equal(target_find("x86_64-linux-gnu"), target);
  assert_ptr_equal(target_find("x86_64-pc-linux-gnu"), target);
  assert_ptr_equal(target_find("x86_64-unknown-linux-gnu"), target);
  static const char *const bad[] = {"",
                                    "x86_64-",
                                    "x86_6",
                                    "x86_64-linux",
                                    "x86_64-linux-musl",
                                    "x86_64-pc-linux-gnux32",
                                    "x86_64-pc-windows-msvc",
                                    "x86_64-unknown-"};
  for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_null(target_find(bad[i]));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_of_an_architecture_ascend),
      cmocka_unit_test(bases_differ_in_optional_traits_only),
      cmocka_unit_test(kernels_are_shared_unless_a_trait_matters),
      cmocka_unit_test(dot_products_are_of_bytes_in_32_bits),
      cmocka_unit_test(triples_name_targets),
  };
  return cmocka_run_group_tests_name("backend/targets", tests, NULL, NULL);
}
