/* moec verify --check-every-value: arithmetic of 16 bits differs between builds
 * in known places, as optimised ones round less often. */
#include "cli_support.h"
#include "tools/json.h"

#define HALF_ARGUMENTS         \
  "module \"half\" tensor {\n" \
  "func @main(%0 \"x\": f16[2,3], %1 \"y\": f16[2,3]) -> (\"z\") {\n"

static const char half_text[] = HALF_ARGUMENTS
    "  %2 = add(%0, %1) : f16[2,3]\n"
    "  %3 = mul(%2, %0) : f16[2,3] loc(#7 \"scale\" \"Mul\")\n"
    "  %4 = mul(%3, %1) : f16[2,3]\n"
    "  return(%4)\n"
    "}\n"
    "}\n";

/* Functions of constants that nothing uses are erased, five rewrites; as
 * outputs they are computed first, which makes nine. So a limit of seven
 * reaches `add` and `mul` only while nothing else is visible. */
static const char hidden_text[] = HALF_ARGUMENTS
    "  %2 = constant {dtype = f32, shape = [], data = [2.0]} : f32[]\n"
    "  %3 = exp(%2) : f32[]\n"
    "  %4 = log(%2) : f32[]\n"
    "  %5 = sin(%2) : f32[]\n"
    "  %6 = cos(%2) : f32[]\n"
    "  %7 = add(%0, %1) : f16[2,3]\n"
    "  %8 = mul(%7, %0) : f16[2,3]\n"
    "  %9 = mul(%8, %1) : f16[2,3]\n"
    "  return(%9)\n"
    "}\n"
    "}\n";

/* In x * (x + y), element [1,0] alone is rounded differently. */
static void write_half_case(cli_fixture_t *f) {
  static const uint16_t x[] = {0x3c00, 0x3c00, 0x3c00, 0x3c01, 0x4000, 0x0000};
  static const uint16_t y[] = {0x3c00, 0x4000, 0x3800, 0x15fe, 0x3c00, 0x3c00};
  make_folder(f, "case");
  make_folder(f, "case/test_data_set_0");
  write_npy(f, "case/test_data_set_0/input_0.npy", "<f2", "(2, 3)", x,
            sizeof x);
  write_npy(f, "case/test_data_set_0/input_1.npy", "<f2", "(2, 3)", y,
            sizeof y);
  write_npy(f, "case/test_data_set_0/output_0.npy", "<f2", "(2, 3)", y,
            sizeof y); /* not looked at */
}

static void values_within_tolerance_agree(void **state) {
  cli_fixture_t *f = *state;
  write_half_case(f);
  write_text(f, "half.moeir", half_text);
  assert_exit(f, 0, "verify", "--check-every-value", in_folder(f, "half.moeir"),
              in_folder(f, "case"));
  assert_contains(f->out, "3 values and the outputs agree with -O0");
}

static void first_value_that_differs_is_named(void **state) {
  cli_fixture_t *f = *state;
  write_half_case(f);
  write_text(f, "half.moeir", half_text);
  assert_exit(f, 8, "verify", "--check-every-value", in_folder(f, "half.moeir"),
              in_folder(f, "case"), "--rtol=0", "--atol=0");
  assert_contains(f->out,
                  "test_data_set_0: node #7 \"scale\" (Mul): value \"%3\" "
                  "f16[2,3] is the first that differs from -O0\n");
  assert_contains(f->out, "  1 of 6 elements; first at [1,0]: got ");
  assert_null(strstr(f->out, "only when"));
  assert_exit(f, 8, "verify", "--check-every-value", in_folder(f, "half.moeir"),
              in_folder(f, "case"), "--rtol=0", "--atol=0", "--json");
  assert_contains(f->out, "\"node_index\":7,\"node\":\"scale\"");
  assert_contains(f->out, "\"index\":\"[1,0]\"");
}

static void difference_that_hides_from_outputs_is_found(void **state) {
  cli_fixture_t *f = *state;
  write_half_case(f);
  write_text(f, "hidden.moeir", hidden_text);
  assert_exit(f, 8, "verify", "--check-every-value",
              in_folder(f, "hidden.moeir"), in_folder(f, "case"), "--rtol=0",
              "--atol=0", "--rewrite-limit=7");
  assert_contains(f->out, "value \"%8\" f16[2,3] is the first");
  assert_contains(f->out, "only when no other value");
}

static void model_with_branches_agrees(void **state) {
  cli_fixture_t *f = *state;
  const char *path = model_case("classic_conv_top1_ts");
  assert_exit(f, 0, "verify", "--check-every-value", path, "--isa=x86-64");
  assert_contains(f->out, " values and the outputs agree with -O0");
}

static void compiled_model_cannot_be_checked(void **state) {
  cli_fixture_t *f = *state;
  write_half_case(f);
  write_text(f, "model.so", "");
  assert_exit(f, 2, "verify", "--check-every-value", in_folder(f, "model.so"),
              in_folder(f, "case"));
  assert_contains(f->err, "--check-every-value needs a model to compile");
}

#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, cli_setup, cli_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(values_within_tolerance_agree),
      TEST(first_value_that_differs_is_named),
      TEST(difference_that_hides_from_outputs_is_found),
      TEST(model_with_branches_agrees),
      TEST(compiled_model_cannot_be_checked),
  };
  return cmocka_run_group_tests_name("tools/verify_values", tests, NULL, NULL);
}
