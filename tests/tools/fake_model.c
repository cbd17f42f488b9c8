/* Models that no compiler would write, one for each exported function: tables
 * that lie, runs that fail, outputs of every kind. */
#include <stddef.h>
#include <string.h>

#include "moec/model.h"

#define EXPORT __attribute__((visibility("default")))

struct moec_instance {
  const char *message;
};
static moec_instance_t instance;

static moec_status_t create(const moec_options_t *options,
                            moec_instance_t **out_instance) {
  instance.message = "";
  *out_instance = &instance;
  return options->variant != NULL && strcmp(options->variant, "best") == 0
             ? MOEC_E_CPU
             : MOEC_OK;
}

static void destroy(moec_instance_t *it) { (void)it; }

static moec_status_t query(moec_instance_t *it, const moec_value_t *inputs,
                           uint32_t n_inputs, moec_value_t *outputs,
                           uint32_t n_outputs, moec_memory_t *out_memory) {
  (void)it, (void)inputs, (void)n_inputs, (void)outputs, (void)n_outputs;
  out_memory->kind = MOEC_MEMORY_EXACT;
  out_memory->bytes = 12345;
  return MOEC_OK;
}

/* Sums the strings' lengths, or takes an absent input for -1. */
static moec_status_t run(moec_instance_t *it, const moec_value_t *inputs,
                         uint32_t n_inputs, moec_value_t *outputs,
                         uint32_t n_outputs) {
  static int64_t dims[1] = {2}, no_dims[1] = {0};
  static int64_t lengths[2];
  static char text[] = "abc";
  static uint64_t offsets[3] = {0, 1, 3};
  static float numbers[2] = {1.5f, -2};
  static moec_value_t items[2];
  (void)n_inputs, (void)n_outputs;
  if (inputs[0].data == NULL) {
    lengths[0] = lengths[1] = -1;
  } else {
    if (inputs[0].dtype != MOEC_STRING || inputs[0].rank != 1 ||
        inputs[0].dims[0] != 2) {
      it->message = "two strings are wanted";
      return MOEC_E_SHAPE;
    }
    for (int i = 0; i < 2; i++)
      lengths[i] = (int64_t)(inputs[0].offsets[i + 1] - inputs[0].offsets[i]);
  }
  outputs[0] = (moec_value_t){.kind = MOEC_TENSOR,
                              .dtype = MOEC_I64,
                              .rank = 1,
                              .data = lengths,
                              .dims = dims,
                              .size = sizeof lengths};
  outputs[1] = (moec_value_t){.kind = MOEC_TENSOR,
                              .dtype = MOEC_STRING,
                              .rank = 1,
                              .data = text,
                              .dims = dims,
                              .size = 3,
                              .offsets = offsets};
  items[0] = (moec_value_t){.kind = MOEC_TENSOR,
                            .dtype = MOEC_F32,
                            .rank = 1,
                            .data = numbers,
                            .dims = dims,
                            .size = sizeof numbers};
  items[1] = items[0];
  items[1].dims = no_dims;
  outputs[2] = (moec_value_t){
      .kind = MOEC_SEQUENCE, .dtype = MOEC_F32, .items = items, .n_items = 2};
  return MOEC_OK;
}

static const char *message(const moec_instance_t *it) { return it->message; }

static const char *variant(const moec_instance_t *it) {
  (void)it;
  return "plain";
}

static const int64_t two[] = {2};
static const int32_t no_symbol[] = {-1};
static const char *const no_name[] = {""};
static const moec_io_t inputs[] = {{.struct_size = sizeof(moec_io_t),
                                    .dtype = MOEC_STRING,
                                    .rank = 1,
                                    .name = "words",
                                    .dims = two,
                                    .dim_names = no_name,
                                    .dim_symbols = no_symbol,
                                    .optional = 1}};
static const moec_io_t outputs[] = {{.struct_size = sizeof(moec_io_t),
                                     .dtype = MOEC_I64,
                                     .rank = 1,
                                     .name = "lengths",
                                     .dims = two,
                                     .dim_names = no_name},
                                    {.struct_size = sizeof(moec_io_t),
                                     .dtype = MOEC_STRING,
                                     .rank = 1,
                                     .name = "letters",
                                     .dims = two,
                                     .dim_names = no_name},
                                    {.struct_size = sizeof(moec_io_t),
                                     .kind = MOEC_SEQUENCE,
                                     .dtype = MOEC_F32,
                                     .rank = 1,
                                     .name = "parts",
                                     .dims = two,
                                     .dim_names = no_name}};
static const char *const variants[] = {"plain", "best"};

#define TABLE                                                                  \
  .struct_size = sizeof(moec_model_t), .abi_version = MOEC_ABI_VERSION,        \
  .name = "fake", .compiler = "none", .n_inputs = 1, .n_outputs = 3,           \
  .inputs = inputs, .outputs = outputs, .n_variants = 2, .variants = variants, \
  .create = create, .destroy = destroy, .query = query, .run = run,            \
  .message = message, .variant = variant

EXPORT const moec_model_t *fake_good(void);
const moec_model_t *fake_good(void) {
  static const moec_model_t model = {TABLE};
  return &model;
}

EXPORT const moec_model_t *fake_null(void);
const moec_model_t *fake_null(void) { return NULL; }

EXPORT const moec_model_t *fake_short(void);
const moec_model_t *fake_short(void) {
  static const moec_model_t model = {.struct_size = 8,
                                     .abi_version = MOEC_ABI_VERSION};
  return &model;
}

/* As models were before they could record. */
EXPORT const moec_model_t *fake_old(void);
const moec_model_t *fake_old(void) {
  static moec_model_t model = {TABLE};
  model.struct_size = offsetof(moec_model_t, tracing);
  model.tracing = (const moec_tracing_t *)&model; /* not to be looked at */
  return &model;
}

EXPORT const moec_model_t *fake_version(void);
const moec_model_t *fake_version(void) {
  static moec_model_t model = {TABLE};
  model.abi_version = MOEC_ABI_VERSION + 1;
  return &model;
}
