#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "tests/runtime/program.h"

typedef struct fixture {
  moec_instance_t *it;
  program_io_t io;
} fixture_t;

static int set_up(void **state) {
  fixture_t *f = calloc(1, sizeof *f);
  program_hooks = (program_hooks_t){0};
  const moec_options_t options = {.struct_size = sizeof options,
                                  .n_threads = 2};
  if (moert_create(&options, &f->it) != MOEC_OK) return -1;
  program_io_fill(&f->io, 4, 5, 3);
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  fixture_t *f = *state;
  moert_destroy(f->it);
  free(f);
  return 0;
}

static moec_status_t run(fixture_t *f) {
  return moert_run(f->it, f->io.in, N_IN, f->io.out, N_OUT);
}

/* The run succeeds, with the right results and no message. */
static void check_run(fixture_t *f) {
  moec_status_t status = run(f);
  assert_string_equal(moert_message(f->it), "");
  assert_int_equal(status, MOEC_OK);
  program_io_check(&f->io);
}

/* The run fails like this, and afterwards the instance works. */
static void check_failure(fixture_t *f, moec_status_t status,
                          const char *message) {
  moec_status_t found = run(f);
  assert_string_equal(moert_message(f->it), message);
  assert_int_equal(found, status);
  program_hooks = (program_hooks_t){0};
  program_io_fill(&f->io, 4, 5, 3);
  check_run(f);
}

static void results_are_those_of_the_inputs(void **state) {
  fixture_t *f = *state;
  check_run(f);
  f->io.in[IN_C].data = NULL; /* default */
  check_run(f);
  for (int64_t n = 0; n < 6; n++)
    for (int64_t s = 1; s < 9; s++) {
      program_io_fill(&f->io, n, s, n * s);
      check_run(f);
    }
}

static void counts_and_struct_sizes_are_checked(void **state) {
  fixture_t *f = *state;
  assert_int_equal(moert_run(f->it, f->io.in, 3, f->io.out, N_OUT),
                   MOEC_E_USAGE);
  assert_string_equal(moert_message(f->it),
                      "3 inputs given but the model has 4");
  assert_int_equal(moert_run(f->it, f->io.in, N_IN, f->io.out, 4),
                   MOEC_E_USAGE);
  assert_string_equal(moert_message(f->it),
                      "4 outputs given but the model has 3");
  assert_int_equal(moert_run(f->it, NULL, N_IN, f->io.out, N_OUT),
                   MOEC_E_USAGE);
  assert_int_equal(moert_run(NULL, f->io.in, N_IN, f->io.out, N_OUT),
                   MOEC_E_USAGE);
  f->io.in[0].struct_size = 8;
  check_failure(f, MOEC_E_USAGE, "struct_size of the inputs is 8");
  f->io.in[2].struct_size = 0;
  check_failure(f, MOEC_E_USAGE,
                "struct_size of input 2 is 0 but of the first 88");
}

static void values_of_a_newer_caller_are_understood(void **state) {
  fixture_t *f = *state;
  struct {
    moec_value_t value;
    uint64_t added;
  } in[N_IN], out[N_OUT];
  memset(in, 0xff, sizeof in);
  memset(out, 0xff, sizeof out);
  for (int i = 0; i < N_IN; i++) {
    in[i].value = f->io.in[i];
    in[i].value.struct_size = sizeof in[0];
  }
  for (int i = 0; i < N_OUT; i++) {
    out[i].value = f->io.out[i];
    out[i].value.struct_size = sizeof out[0];
  }
  assert_int_equal(moert_run(f->it, &in[0].value, N_IN, &out[0].value, N_OUT),
                   MOEC_OK);
  for (int i = 0; i < N_OUT; i++) f->io.out[i] = out[i].value;
  program_io_check(&f->io);
}

static void types_ranks_and_dims_are_checked(void **state) {
  fixture_t *f = *state;
  f->io.in[IN_B].dtype = MOEC_I32;
  check_failure(f, MOEC_E_DTYPE, "input \"b\" is i32 but the model takes i64");
  f->io.in[IN_B].kind = MOEC_SEQUENCE;
  check_failure(f, MOEC_E_DTYPE, "input \"b\" is not a tensor");
  f->io.in[IN_A].rank = 3;
  check_failure(f, MOEC_E_RANK, "input \"a\" has rank 3 but the model takes 2");
  f->io.in[IN_C].rank = 1;
  check_failure(f, MOEC_E_RANK, "input \"c\" has rank 1 but the model takes 0");
  f->io.d_dims[1] = 4;
  check_failure(f, MOEC_E_SHAPE,
                "input \"d\" axis 1 is 4 but the model takes 3");
  f->io.a_dims[0] = -2;
  check_failure(f, MOEC_E_SHAPE, "input \"a\" axis 0 is -2, negative");
  f->io.in[IN_A].dims = NULL;
  check_failure(f, MOEC_E_USAGE, "input \"a\" has no dims");
  f->io.in[IN_A].data = NULL;
  check_failure(f, MOEC_E_USAGE, "input \"a\" has no data");
}

static void a_symbol_has_one_value(void **state) {
  fixture_t *f = *state;
  f->io.a_dims[1] = 3;
  f->io.b_dims[0] = 4;
  check_failure(f, MOEC_E_SHAPE,
                "dimension S is 3 for input \"a\" axis 1 but 4 for input \"b\" "
                "axis 0");
}

static void dims_that_overflow_are_rejected(void **state) {
  fixture_t *f = *state;
  f->io.a_dims[0] = (int64_t)1 << 40;
  f->io.a_dims[1] = (int64_t)1 << 40;
  check_failure(f, MOEC_E_SHAPE, "input \"a\" has more than 2^63 - 1 bytes");
  /* An empty tensor must not hide it: sizes of other values use these dims. */
  f->io.d_dims[0] = f->io.a_dims[0] = 0;
  f->io.a_dims[1] = f->io.b_dims[0] = INT64_MAX;
  check_failure(f, MOEC_E_SHAPE, "input \"a\" has more than 2^63 - 1 bytes");
}

static void strided_and_misaligned_inputs_are_copied(void **state) {
  fixture_t *f = *state;
  float wide[4 * 5 * 6];
  const int64_t transposed[] = {1, 4}, gaps[] = {30, 6}, back[] = {-5, -1};
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 5; j++) {
      wide[i + 4 * j] = f->io.a[5 * i + j];
    }
  f->io.in[IN_A].data = wide;
  f->io.in[IN_A].strides = transposed;
  check_run(f);
  for (int i = 0; i < 20; i++) wide[i * 6] = f->io.a[i];
  f->io.in[IN_A].strides = gaps;
  check_run(f);
  for (int i = 0; i < 20; i++) wide[19 - i] = f->io.a[i];
  f->io.in[IN_A].data = wide + 19;
  f->io.in[IN_A].strides = back;
  check_run(f);
  char *odd = (char *)wide + 1;
  memcpy(odd, f->io.a, 20 * sizeof(float));
  f->io.in[IN_A].data = odd;
  f->io.in[IN_A].strides = NULL;
  check_run(f);
}

static void strides_of_wider_elements_are_followed(void **state) {
  fixture_t *f = *state;
  int64_t wide[15] = {0};
  const int64_t strides[] = {3};
  for (int i = 0; i < 5; i++) wide[3 * i] = f->io.b[i];
  f->io.in[IN_B].data = wide;
  f->io.in[IN_B].strides = strides;
  check_run(f);
}

/* Copies a tensor of random dims and strides through the instance. */
static void random_strides_agree_with_their_definition(void **state) {
  fixture_t *f = *state;
  uint8_t bytes[4096], want[64];
  for (int i = 0; i < 4096; i++) bytes[i] = (uint8_t)(i * 7 + i / 256);
  unsigned seed = 12345;
  for (int trial = 0; trial < 500; trial++) {
    seed = seed * 1103515245u + 12345u;
    int64_t n = seed >> 16 & 15;
    int64_t strides[2] = {(int64_t)(seed >> 20 & 63) - 32,
                          (int64_t)(seed >> 26 & 15) - 8};
    for (int64_t i = 0; i < n * 3; i++)
      want[i] = bytes[2048 + i / 3 * strides[0] + i % 3 * strides[1]];
    program_io_fill(&f->io, n, 1, 1);
    memcpy(f->io.d, want, sizeof want);
    f->io.in[IN_D].data = bytes + 2048;
    f->io.in[IN_D].strides = strides;
    check_run(f);
  }
}

static void own_outputs_may_be_used_again(void **state) {
  fixture_t *f = *state;
  check_run(f);
  const void *first = f->io.out[OUT_Y].data;
  check_run(f); /* descriptors as the first run left them */
  assert_ptr_equal(f->io.out[OUT_Y].data, first);
}

static void buffers_of_the_caller_are_filled(void **state) {
  fixture_t *f = *state;
  float y[21];
  int64_t w[3], dims[MOEC_MAX_RANK];
  y[20] = -1;
  f->io.out[OUT_Y].data = y;
  f->io.out[OUT_Y].capacity = 20 * sizeof *y;
  f->io.out[OUT_Y].dims = dims;
  f->io.out[OUT_W].data = w;
  f->io.out[OUT_W].capacity = sizeof w;
  check_run(f);
  assert_ptr_equal(f->io.out[OUT_Y].data, y);
  assert_ptr_equal(f->io.out[OUT_Y].dims, dims);
  assert_ptr_equal(f->io.out[OUT_W].data, w);
  assert_true(y[20] == -1);
  char odd[20 * sizeof *y + 1];
  f->io.out[OUT_Y].data = odd + 1; /* no place for floats, but a legal one */
  check_run(f);
}

static void small_buffers_report_the_size_needed(void **state) {
  fixture_t *f = *state;
  float y[20];
  uint8_t z[12];
  f->io.out[OUT_Y].data = y;
  f->io.out[OUT_Y].capacity = 79;
  f->io.out[OUT_Z].data = z;
  f->io.out[OUT_Z].capacity = 1;
  assert_int_equal(run(f), MOEC_E_CAPACITY);
  assert_string_equal(moert_message(f->it),
                      "output \"y\" needs 80 bytes but its buffer has 79");
  assert_int_equal(f->io.out[OUT_Y].size, 80);
  assert_int_equal(f->io.out[OUT_Z].size, 12);
  f->io.out[OUT_Y].capacity = f->io.out[OUT_Y].size;
  f->io.out[OUT_Z].capacity = f->io.out[OUT_Z].size;
  check_run(f);
  int64_t w[3]; /* known during the run only */
  f->io.out[OUT_W].data = w;
  f->io.out[OUT_W].capacity = 16;
  assert_int_equal(run(f), MOEC_E_CAPACITY);
  assert_int_equal(f->io.out[OUT_W].size, 24);
  assert_int_equal(f->io.out[OUT_W].dims[0], 3);
  f->io.out[OUT_W].capacity = 24;
  check_run(f);
}

static void an_output_may_share_memory_with_an_input(void **state) {
  fixture_t *f = *state;
  program_io_t before = f->io;
  f->io.out[OUT_Y].alias_input = IN_A + 1;
  assert_int_equal(run(f), MOEC_OK);
  assert_ptr_equal(f->io.out[OUT_Y].data, f->io.a);
  for (int i = 0; i < 20; i++)
    assert_true(f->io.a[i] == before.a[i] * before.c + (float)before.b[i % 5]);
  f->io.out[OUT_Y].alias_input = 9;
  check_failure(
      f, MOEC_E_USAGE,
      "output \"y\" shares memory with input 8, which does not exist");
  f->io.out[OUT_Y].alias_input = IN_B + 1;
  check_failure(f, MOEC_E_USAGE,
                "output \"y\" cannot share memory with input \"b\" of another "
                "type or with gaps");
  float y[20];
  f->io.out[OUT_Y].alias_input = IN_A + 1;
  f->io.out[OUT_Y].data = y;
  f->io.out[OUT_Y].capacity = sizeof y;
  check_failure(f, MOEC_E_USAGE,
                "output \"y\" shares memory with input \"a\" but has a buffer "
                "of its own");
  f->io.in[IN_C].data = NULL;
  f->io.out[OUT_Y].alias_input = IN_C + 1;
  check_failure(f, MOEC_E_USAGE,
                "output \"y\" shares memory with input \"c\", which is absent");
  f->io.out[OUT_Y].alias_input = IN_C + 1;
  check_failure(f, MOEC_E_CAPACITY,
                "output \"y\" needs 80 bytes but its buffer has 4");
}

static void failures_of_generated_code_are_told(void **state) {
  fixture_t *f = *state;
  static const struct {
    program_fault_t fault;
    moec_status_t status;
    const char *message;
  } cases[] = {
      {FAULT_SLOT_NEGATIVE, MOEC_E_LIMIT,
       "slot 1 of the workspace needs -1 bytes"},
      {FAULT_SLOTS_OVERFLOW, MOEC_E_LIMIT,
       "the workspace exceeds 2^63 - 1 bytes"},
      {FAULT_PLAN_OVERFLOW, MOEC_E_LIMIT,
       "node #1 \"range\" (Range): a size exceeds 2^63 - 1"},
      {FAULT_ASSERT, MOEC_E_INDEX, "node #0 \"add\" (Add): index out of range"},
      {FAULT_BIND, MOEC_E_VALUE,
       "node #1 \"range\" (Range): W is 3, outside its range of 10 to 20"},
      {FAULT_EQUAL, MOEC_E_SHAPE,
       "node #1 \"range\" (Range): rows of a and b must be equal but are 3 and "
       "-4"},
      {FAULT_NO_OUTPUT, MOEC_E_INTERNAL, "output \"w\" was not computed"},
      {FAULT_WRONG_BYTES, MOEC_E_INTERNAL,
       "output \"w\" has 1 bytes but its dims say 24"},
      {FAULT_SILENT_STATUS, MOEC_E_VALUE, "value is outside its allowed range"},
      {FAULT_UNKNOWN_STATUS, MOEC_E_INTERNAL, "unknown status 99"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    program_hooks.fault = cases[i].fault;
    check_failure(f, cases[i].status, cases[i].message);
  }
}

static void a_status_comes_with_a_text(void **state) {
  fixture_t *f = *state;
  assert_int_equal(moert_status(&f->it->frame), MOEC_E_INTERNAL);
  assert_string_equal(moert_message(f->it), "a failure left no status");
  f->it->status = MOEC_OK;
  f->it->frame.error = MOEC_E_INDEX;
  assert_int_equal(moert_status(&f->it->frame), MOEC_E_INDEX);
  assert_string_equal(moert_message(f->it), "index out of range");
}

static void long_messages_are_cut(void **state) {
  fixture_t *f = *state;
  char name[2 * RT_MESSAGE_BYTES];
  memset(name, 'x', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  report(f->it, MOEC_E_VALUE, "%s", name);
  assert_int_equal(strlen(moert_message(f->it)), RT_MESSAGE_BYTES - 1);
  report(f->it, MOEC_E_VALUE, "%d %d %", INT64_MIN, (int64_t)0);
  assert_string_equal(moert_message(f->it), "-9223372036854775808 0 %");
}

static void growable_regions_keep_their_bytes(void **state) {
  fixture_t *f = *state;
  for (int64_t bytes = 2; bytes < 1 << 20; bytes *= 3) {
    program_hooks.grow_bytes = bytes;
    check_run(f);
  }
}

static void query_tells_memory_and_dims(void **state) {
  fixture_t *f = *state;
  moec_memory_t memory = {.struct_size = sizeof memory};
  for (int i = 0; i < N_IN; i++) f->io.in[i].data = NULL;
  assert_int_equal(
      moert_query(f->it, f->io.in, N_IN, f->io.out, N_OUT, &memory), MOEC_OK);
  assert_int_equal(memory.kind, MOEC_MEMORY_UNBOUNDED);
  assert_int_equal(memory.bytes, 128 + 64 + 64); /* 80, 1, 0, 64 in lines */
  assert_int_equal(f->io.out[OUT_Y].size, 80);
  assert_int_equal(f->io.out[OUT_Y].dims[1], 5);
  assert_int_equal(f->io.out[OUT_W].dims[0], -1);
  assert_int_equal(moert_query(f->it, f->io.in, N_IN, NULL, 0, NULL), MOEC_OK);
  f->io.b_dims[0] = 4;
  assert_int_equal(moert_query(f->it, f->io.in, N_IN, NULL, 0, &memory),
                   MOEC_E_SHAPE);
  memory.struct_size = 4;
  assert_int_equal(moert_query(f->it, f->io.in, N_IN, NULL, 0, &memory),
                   MOEC_E_USAGE);
}

static void fixed_memory_is_reserved_by_query_only(void **state) {
  (void)state;
  const moec_options_t options = {
      .struct_size = sizeof options, .n_threads = 1, .fixed_memory = 1};
  fixture_t f = {0};
  int64_t w[3];
  assert_int_equal(moert_create(&options, &f.it), MOEC_OK);
  program_io_fill(&f.io, 4, 5, 3);
  assert_int_equal(run(&f), MOEC_E_CAPACITY);
  assert_string_equal(moert_message(f.it),
                      "the workspace needs 256 bytes but 0 are reserved and "
                      "memory is fixed");
  f.io.out[OUT_W].data = w;
  f.io.out[OUT_W].capacity = sizeof w;
  assert_int_equal(moert_query(f.it, f.io.in, N_IN, f.io.out, N_OUT, NULL),
                   MOEC_OK);
  check_run(&f);
  program_hooks.grow_bytes = 100;
  assert_int_equal(run(&f), MOEC_E_CAPACITY);
  program_hooks.grow_bytes = 0;
  program_io_fill(&f.io, 4, 6, 3);
  assert_int_equal(run(&f), MOEC_E_CAPACITY);
  moert_destroy(f.it);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(results_are_those_of_the_inputs),
      TEST(counts_and_struct_sizes_are_checked),
      TEST(values_of_a_newer_caller_are_understood),
      TEST(types_ranks_and_dims_are_checked),
      TEST(a_symbol_has_one_value),
      TEST(dims_that_overflow_are_rejected),
      TEST(strided_and_misaligned_inputs_are_copied),
      TEST(strides_of_wider_elements_are_followed),
      TEST(random_strides_agree_with_their_definition),
      TEST(own_outputs_may_be_used_again),
      TEST(buffers_of_the_caller_are_filled),
      TEST(small_buffers_report_the_size_needed),
      TEST(an_output_may_share_memory_with_an_input),
      TEST(failures_of_generated_code_are_told),
      TEST(a_status_comes_with_a_text),
      TEST(long_messages_are_cut),
      TEST(growable_regions_keep_their_bytes),
      TEST(query_tells_memory_and_dims),
      TEST(fixed_memory_is_reserved_by_query_only),
  };
  return cmocka_run_group_tests_name("runtime/run", tests, NULL, NULL);
}
