#include "tests/runtime/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
/* cmocka wants the above first. */
#include <cmocka.h>

program_hooks_t program_hooks;
moec_instance_t *program_instance;

int program_create(void **state) {
  (void)state;
  const moec_options_t options = {.struct_size = sizeof options,
                                  .n_threads = 3};
  return moert_create(&options, &program_instance) == MOEC_OK ? 0 : -1;
}

int program_destroy(void **state) {
  (void)state;
  moert_destroy(program_instance);
  return 0;
}

/* Kernel: y[i] = a[i] * c + b[i % s]; units are elements. */
static void kernel_y(const moert_arg_t *args, int64_t begin, int64_t end) {
  float *y = args[1].pointer;
  const float *a = args[2].pointer, *c = args[3].pointer;
  const int64_t *b = args[4].pointer;
  int64_t s = args[5].i;
  if (program_hooks.fault == FAULT_ASSERT)
    atomic_store((_Atomic int32_t *)args[0].pointer, MOEC_E_INDEX);
  for (int64_t i = begin; i < end; i++) y[i] = a[i] * *c + (float)b[i % s];
}

static int32_t plan(moert_frame_t *frame) {
  int64_t n = frame->symbols[SYMBOL_N], s = frame->symbols[SYMBOL_S];
  frame->slot_bytes[0] = 4 * n * s;
  frame->slot_bytes[1] = 1;
  frame->slot_bytes[3] = 64;
  const int64_t dims[] = {n, s, n, 3}; /* of w, none */
  memcpy(frame->output_dims, dims, sizeof dims);
  if (program_hooks.fault == FAULT_SLOT_NEGATIVE) frame->slot_bytes[1] = -1;
  if (program_hooks.fault == FAULT_SLOTS_OVERFLOW)
    frame->slot_bytes[1] = frame->slot_bytes[2] = frame->slot_bytes[3] =
        (int64_t)1 << 62;
  if (program_hooks.fault == FAULT_PLAN_OVERFLOW)
    return moert_fail_overflow(frame, 1);
  return MOEC_OK;
}

static const float default_c = 2;

static int32_t compute_y(moert_frame_t *frame) {
  const int64_t n = frame->symbols[SYMBOL_N], s = frame->symbols[SYMBOL_S];
  char *slot = frame->workspace + frame->slot_offsets[0];
  void *c = frame->inputs[IN_C];
  const moert_arg_t args[] = {
      {.pointer = &frame->error},
      {.pointer = slot},
      {.pointer = frame->inputs[IN_A]},
      {.pointer = c != NULL ? c : (void *)(uintptr_t)&default_c},
      {.pointer = frame->inputs[IN_B]},
      {.i = s}};
  if (program_hooks.traced)
    moert_parallel_traced(frame, 0, args, n * s, 2, 0);
  else
    moert_parallel(frame, 0, args, n * s, 2);
  if (frame->error != 0) return moert_fail_assert(frame, 0);
  float *y = moert_output(frame, OUT_Y, (const int64_t[]){n, s}, 4 * n * s);
  if (y == NULL) return moert_status(frame);
  memcpy(y, slot, (size_t)(4 * n * s));
  return MOEC_OK;
}

static int32_t grow(moert_frame_t *frame) {
  const int64_t bytes = program_hooks.grow_bytes;
  if (bytes == 0) return MOEC_OK;
  char *region = moert_grow(frame, 0, bytes / 2);
  if (region == NULL) return moert_status(frame);
  memset(region, 7, (size_t)(bytes / 2));
  region = moert_grow(frame, 0, bytes);
  if (region == NULL) return moert_status(frame);
  for (int64_t i = 0; i < bytes / 2; i++) assert_int_equal(region[i], 7);
  memset(region, 8, (size_t)bytes);
  return MOEC_OK;
}

/* Routine: args are w and its length. */
static int32_t count_up(moert_frame_t *frame, const moert_arg_t *args) {
  int64_t *w = args[0].pointer;
  (void)frame;
  for (int64_t i = 0; i < args[1].i; i++) w[i] = i;
  return MOEC_OK;
}

static int32_t run(moert_frame_t *frame) {
  const int64_t n = frame->symbols[SYMBOL_N];
  int32_t status = compute_y(frame);
  if (status == MOEC_OK) status = grow(frame);
  if (status != MOEC_OK) return status;
  uint8_t *z = moert_output(frame, OUT_Z, (const int64_t[]){n, 3}, 3 * n);
  if (z == NULL) return moert_status(frame);
  memcpy(z, frame->inputs[IN_D], (size_t)(3 * n));

  const int64_t w = *(const int64_t *)frame->inputs[IN_B];
  switch (program_hooks.fault) {
    case FAULT_BIND:
      return moert_fail_bind(frame, 1, "W", w, 10, 20);
    case FAULT_EQUAL:
      return moert_fail_equal(frame, 1, "rows of a and b", 3, -4);
    case FAULT_NO_OUTPUT:
      return MOEC_OK;
    case FAULT_SILENT_STATUS:
      return MOEC_E_VALUE;
    case FAULT_UNKNOWN_STATUS:
      return 99;
    default:
      break;
  }
  int64_t bytes = program_hooks.fault == FAULT_WRONG_BYTES ? 1 : 8 * w;
  int64_t *out = moert_output(frame, OUT_W, &w, bytes);
  if (out == NULL) return moert_status(frame);
  const moert_arg_t args[] = {{.pointer = out}, {.i = w}};
  return program_hooks.traced ? moert_routine_traced(frame, args, count_up, 1)
                              : count_up(frame, args);
}

static int32_t run_traced(moert_frame_t *frame) {
  if (!program_hooks.traced) return run(frame);
  const int64_t begin = moert_trace_begin(frame);
  const int32_t status = run(frame);
  if (status == MOEC_OK) moert_trace_run(frame, begin);
  return status;
}

static const int64_t unknown_dims[] = {-1, -1}, d_dims[] = {-1, 3};
static const char *const ns_names[] = {"N", "S"}, *const s_names[] = {"S"},
                         *const d_names[] = {"N", ""}, *const w_names[] = {""};
static const int32_t ns_symbols[] = {SYMBOL_N, SYMBOL_S},
                     s_symbols[] = {SYMBOL_S}, d_symbols[] = {SYMBOL_N, -1};

static const moec_io_t inputs[] = {
    {sizeof(moec_io_t), MOEC_TENSOR, MOEC_F32, 2, "a", unknown_dims, ns_names,
     ns_symbols, 0, 0},
    {sizeof(moec_io_t), MOEC_TENSOR, MOEC_I64, 1, "b", unknown_dims, s_names,
     s_symbols, 0, 0},
    {sizeof(moec_io_t), MOEC_TENSOR, MOEC_F32, 0, "c", NULL, NULL, NULL, 1, 0},
    {sizeof(moec_io_t), MOEC_TENSOR, MOEC_U8, 2, "d", d_dims, d_names,
     d_symbols, 0, 0},
};
static const moec_io_t outputs[] = {
    {sizeof(moec_io_t), MOEC_TENSOR, MOEC_F32, 2, "y", unknown_dims, ns_names,
     NULL, 0, 0},
    {sizeof(moec_io_t), MOEC_TENSOR, MOEC_U8, 2, "z", d_dims, d_names, NULL, 0,
     0},
    {sizeof(moec_io_t), MOEC_TENSOR, MOEC_I64, 1, "w", unknown_dims, w_names,
     NULL, 0, 0},
};
static const moert_kernel_fn kernels[] = {kernel_y};
static const moert_variant_t variants[] = {{"base", 0, kernels},
                                           {"future", 1ull << 63, kernels}};
static const char *const variant_names[] = {"base", "future"};
static const char *const nodes[] = {"node #0 \"add\" (Add)",
                                    "node #1 \"range\" (Range)"};
static const char *const symbol_names[] = {"N", "S"};

const moert_program_t moert_program = {
    .name = "program",
    .compiler = "by hand",
    .inputs = inputs,
    .outputs = outputs,
    .n_inputs = N_IN,
    .n_outputs = N_OUT,
    .n_symbols = N_SYMBOLS,
    .n_slots = 4,
    .n_growable = 1,
    .n_nodes = 2,
    .symbol_names = symbol_names,
    .nodes = nodes,
    .variants = variants,
    .variant_names = variant_names,
    .n_variants = 2,
    .memory_kind = MOEC_MEMORY_UNBOUNDED,
    .plan = plan,
    .run = run_traced,
};

void program_io_fill(program_io_t *io, int64_t n, int64_t s, int64_t w) {
  memset(io, 0, sizeof *io);
  io->c = 0.5f;
  io->a_dims[0] = io->d_dims[0] = n;
  io->a_dims[1] = io->b_dims[0] = s;
  io->d_dims[1] = 3;
  for (int i = 0; i < 64; i++) io->a[i] = (float)i, io->d[i] = (uint8_t)(3 * i);
  for (int i = 0; i < 16; i++) io->b[i] = w + i;
  const moec_value_t value = {.struct_size = sizeof value};
  for (int i = 0; i < N_IN; i++) io->in[i] = value;
  for (int i = 0; i < N_OUT; i++) io->out[i] = value;
#define SET(index, type, n_dims, bytes, dimensions) \
  io->in[index].dtype = type;                       \
  io->in[index].rank = n_dims;                      \
  io->in[index].data = bytes;                       \
  io->in[index].dims = dimensions
  SET(IN_A, MOEC_F32, 2, io->a, io->a_dims);
  SET(IN_B, MOEC_I64, 1, io->b, io->b_dims);
  SET(IN_C, MOEC_F32, 0, &io->c, NULL);
  SET(IN_D, MOEC_U8, 2, io->d, io->d_dims);
#undef SET
}

void program_io_check(const program_io_t *io) {
  const moec_value_t *y = &io->out[OUT_Y], *z = &io->out[OUT_Z],
                     *w = &io->out[OUT_W];
  const int64_t n = io->a_dims[0], s = io->a_dims[1];
  const float c = io->in[IN_C].data != NULL ? io->c : 2;
  assert_int_equal(y->dtype, MOEC_F32);
  assert_int_equal(y->rank, 2);
  assert_int_equal(y->dims[0], n);
  assert_int_equal(y->dims[1], s);
  assert_int_equal(y->size, 4 * n * s);
  for (int64_t i = 0; i < n * s; i++) {
    float found, want = io->a[i] * c + (float)io->b[i % s];
    memcpy(&found, (const char *)y->data + 4 * i,
           sizeof found); /* misaligned */
    assert_true(found == want);
  }
  assert_int_equal(z->dims[0], n);
  assert_int_equal(z->dims[1], 3);
  assert_memory_equal(z->data, io->d, (size_t)(3 * n));
  assert_int_equal(w->dims[0], io->b[0]);
  for (int64_t i = 0; i < io->b[0]; i++)
    assert_int_equal(((const int64_t *)w->data)[i], i);
}
