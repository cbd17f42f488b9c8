/* A compiled model as the backend makes them: tables and a schedule here, the
 * runtime from the embedded object. y f32[N] = 2 * x f32[N]. */
#include "moec/rtabi.h"

static void kernel_double(const moert_arg_t *args, int64_t begin, int64_t end) {
  float *y = args[1].pointer;
  const float *x = args[2].pointer;
  for (int64_t i = begin; i < end; i++) y[i] = 2 * x[i];
}

static int32_t plan(moert_frame_t *frame) {
  frame->output_dims[0] = frame->symbols[0];
  return MOEC_OK;
}

static int32_t run(moert_frame_t *frame) {
  const int64_t n = frame->symbols[0];
  float *y = moert_output(frame, 0, &n, 4 * n);
  if (y == (void *)0) return moert_status(frame);
  const moert_arg_t args[] = {{.pointer = &frame->error},
                              {.pointer = y},
                              {.pointer = frame->inputs[0]}};
  moert_parallel(frame, 0, args, n, 16);
  return frame->error != 0 ? moert_fail_assert(frame, 0) : MOEC_OK;
}

static const int64_t dims[] = {-1};
static const char *const dim_names[] = {"N"};
static const int32_t dim_symbols[] = {0};
static const moec_io_t inputs[] = {{sizeof(moec_io_t), MOEC_TENSOR, MOEC_F32, 1,
                                    "x", dims, dim_names, dim_symbols, 0, 0}};
static const moec_io_t outputs[] = {{sizeof(moec_io_t), MOEC_TENSOR, MOEC_F32,
                                     1, "y", dims, dim_names, 0, 0, 0}};
static const moert_kernel_fn kernels[] = {kernel_double};
static const moert_variant_t variants[] = {{"x86-64", 0, kernels}};
static const char *const variant_names[] = {"x86-64"};
static const char *const nodes[] = {"node #0 \"double\" (Mul)"};

const moert_program_t moert_program = {
    .name = "linked",
    .compiler = "by hand",
    .inputs = inputs,
    .outputs = outputs,
    .n_inputs = 1,
    .n_outputs = 1,
    .n_symbols = 1,
    .n_nodes = 1,
    .symbol_names = dim_names,
    .nodes = nodes,
    .variants = variants,
    .variant_names = variant_names,
    .n_variants = 1,
    .plan = plan,
    .run = run,
};

static const moec_model_t model = {
    .struct_size = sizeof model,
    .abi_version = MOEC_ABI_VERSION,
    .name = "linked",
    .compiler = "by hand",
    .n_inputs = 1,
    .n_outputs = 1,
    .inputs = inputs,
    .outputs = outputs,
    .n_variants = 1,
    .variants = variant_names,
    .create = moert_create,
    .destroy = moert_destroy,
    .query = moert_query,
    .run = moert_run,
    .message = moert_message,
    .variant = moert_variant,
    .pool_create = moert_pool_create,
    .pool_destroy = moert_pool_destroy,
};

__attribute__((visibility("default"))) const moec_model_t *moec_model(void) {
  return &model;
}
