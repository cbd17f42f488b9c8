/* Sizes and offsets of what applications share with compiled models. A row that
 * changes breaks models in use: it needs a step of MOEC_ABI_VERSION. A field
 * added at the end of a structure changes its SIZE row and adds an AT row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "moec/model.h"

static const struct row {
  const char *name;
  size_t found, want;
} rows[] = {
#define SIZE(type, size) {#type, sizeof(type), size},
#define AT(type, field, offset) \
  {#type "." #field, offsetof(type, field), offset},
    // clang-format off: rows
    SIZE(moec_value_t, 88)
      AT(moec_value_t, struct_size, 0)
      AT(moec_value_t, kind, 4)
      AT(moec_value_t, dtype, 8)
      AT(moec_value_t, rank, 12)
      AT(moec_value_t, data, 16)
      AT(moec_value_t, dims, 24)
      AT(moec_value_t, strides, 32)
      AT(moec_value_t, capacity, 40)
      AT(moec_value_t, size, 48)
      AT(moec_value_t, offsets, 56)
      AT(moec_value_t, items, 64)
      AT(moec_value_t, n_items, 72)
      AT(moec_value_t, alias_input, 80)
      AT(moec_value_t, reserved, 84)
    SIZE(moec_io_t, 56)
      AT(moec_io_t, struct_size, 0)
      AT(moec_io_t, kind, 4)
      AT(moec_io_t, dtype, 8)
      AT(moec_io_t, rank, 12)
      AT(moec_io_t, name, 16)
      AT(moec_io_t, dims, 24)
      AT(moec_io_t, dim_names, 32)
      AT(moec_io_t, dim_symbols, 40)
      AT(moec_io_t, optional, 48)
      AT(moec_io_t, element_kind, 52)
    SIZE(moec_options_t, 72)
      AT(moec_options_t, struct_size, 0)
      AT(moec_options_t, n_threads, 4)
      AT(moec_options_t, variant, 8)
      AT(moec_options_t, fixed_memory, 16)
      AT(moec_options_t, reserved, 20)
      AT(moec_options_t, parallel_for, 24)
      AT(moec_options_t, parallel_user, 32)
      AT(moec_options_t, allocate, 40)
      AT(moec_options_t, release, 48)
      AT(moec_options_t, memory_user, 56)
      AT(moec_options_t, pool, 64)
    SIZE(moec_memory_t, 16)
      AT(moec_memory_t, struct_size, 0)
      AT(moec_memory_t, kind, 4)
      AT(moec_memory_t, bytes, 8)
    SIZE(moec_model_t, 136)
      AT(moec_model_t, struct_size, 0)
      AT(moec_model_t, abi_version, 4)
      AT(moec_model_t, name, 8)
      AT(moec_model_t, compiler, 16)
      AT(moec_model_t, n_inputs, 24)
      AT(moec_model_t, n_outputs, 28)
      AT(moec_model_t, inputs, 32)
      AT(moec_model_t, outputs, 40)
      AT(moec_model_t, n_variants, 48)
      AT(moec_model_t, reserved, 52)
      AT(moec_model_t, variants, 56)
      AT(moec_model_t, create, 64)
      AT(moec_model_t, destroy, 72)
      AT(moec_model_t, query, 80)
      AT(moec_model_t, run, 88)
      AT(moec_model_t, message, 96)
      AT(moec_model_t, variant, 104)
      AT(moec_model_t, pool_create, 112)
      AT(moec_model_t, pool_destroy, 120)
      AT(moec_model_t, tracing, 128)
    SIZE(moec_step_t, 32)
      AT(moec_step_t, node, 0)
      AT(moec_step_t, op, 8)
      AT(moec_step_t, node_index, 16)
      AT(moec_step_t, work, 24)
    SIZE(moec_event_t, 48)
      AT(moec_event_t, begin, 0)
      AT(moec_event_t, end, 8)
      AT(moec_event_t, kind, 16)
      AT(moec_event_t, step, 20)
      AT(moec_event_t, thread, 24)
      AT(moec_event_t, first, 32)
      AT(moec_event_t, count, 40)
    SIZE(moec_tracing_t, 32)
      AT(moec_tracing_t, struct_size, 0)
      AT(moec_tracing_t, n_steps, 4)
      AT(moec_tracing_t, steps, 8)
      AT(moec_tracing_t, start, 16)
      AT(moec_tracing_t, events, 24)
    // clang-format on
};

static void structures_of_version_1_stay(void **state) {
  (void)state;
  assert_int_equal(MOEC_ABI_VERSION, 1);
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    if (rows[i].found != rows[i].want)
      fail_msg("%s is %zu, was %zu", rows[i].name, rows[i].found, rows[i].want);
}

/* The ONNX numbers, and ours, are in compiled models. */
static void numbers_of_version_1_stay(void **state) {
  (void)state;
#define DTYPE(id, name, onnx, bits, class) assert_true(onnx >= 1 && onnx <= 26);
#include "ir/dtypes.def"
  assert_int_equal(MOEC_F32, 1);
  assert_int_equal(MOEC_I64, 7);
  assert_int_equal(MOEC_BF16, 16);
  assert_int_equal(MOEC_F8E8M0, 24);
  assert_int_equal(MOEC_TENSOR, 0);
  assert_int_equal(MOEC_SEQUENCE, 1);
  assert_int_equal(MOEC_OPTIONAL, 2);
  assert_int_equal(MOEC_EVENT_LAUNCH, 1);
  assert_int_equal(MOEC_EVENT_ROUTINE, 3);
  assert_int_equal(MOEC_OK, 0);
  assert_int_equal(MOEC_E_CAPACITY, 14);
  assert_int_equal(MOEC_E_CPU, 16);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(structures_of_version_1_stay),
      cmocka_unit_test(numbers_of_version_1_stay),
  };
  return cmocka_run_group_tests_name("runtime/abi", tests, NULL, NULL);
}
