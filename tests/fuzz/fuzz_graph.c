/* A model that is changed as a model (mutate.h): compiled as the program would,
 * loaded into this process with checked accesses to memory, and run on numbers
 * of all kinds. The bytes themselves choose the -O level, the variant and the
 * inputs. */
#include <string.h>

#include "backend/cpu.h"
#include "backend/emit.h"
#include "backend/jit.h"
#include "frontend/import.h"
#include "ir/ir.h"
#include "passes/pass.h"
#include "tests/fuzz/fuzz.h"
#include "tools/evaluate.h"

enum {
  MOST_NODES = 400,
  MOST_INPUTS = 32,
  RUN_BYTES = 32 << 20,   /* that an instance may take */
  MOST_ELEMENTS = 1 << 20 /* of a value: more would only take time */
};

/* Released also when the body is left through the recovery point. */
static struct {
  onnx_store_t *store;
  arena_t *scratch;
  jit_t *jit;
  moec_instance_t *instance;
  void *data[MOST_INPUTS];
  size_t taken; /* by the instance */
} held;

static void release_all(void) {
  if (held.instance != NULL) jit_model(held.jit)->destroy(held.instance);
  held.instance = NULL;
  FUZZ_CHECK(held.taken == 0);
  jit_destroy(held.jit);
  held.jit = NULL;
  onnx_store_destroy(held.store);
  held.store = NULL;
  arena_destroy(held.scratch);
  held.scratch = NULL;
  for (unsigned i = 0; i < MOST_INPUTS; i++) {
    free(held.data[i]);
    held.data[i] = NULL;
  }
}

/* ---- Numbers ------------------------------------------------------------- */

static uint64_t state; /* seeded by the bytes */

static uint64_t draw(uint64_t below) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (state >> 33) % below;
}

static uint64_t hash_of(const uint8_t *bytes, size_t length) {
  uint64_t hash = 1469598103934665603u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
  return hash;
}

/* Small numbers that could be indices, and one in eight of any bits; a number
 * by itself may be that of a loop's trips and stays small. */
static void fill(uint8_t *bytes, size_t size, dtype_t dtype) {
  size_t width = dtype_bits(dtype) / 8;
  if (width == 0) width = 1;
  if (size == width && dtype == DT_I64) {
    int64_t number = (int64_t)draw(256) - 64;
    memcpy(bytes, &number, sizeof number);
    return;
  }
  for (size_t i = 0; i < size; i++) {
    bool any = draw(8) == 0;
    if (dtype == DT_BOOL)
      bytes[i] = (uint8_t)draw(2);
    else if (any || dtype_is_float(dtype))
      bytes[i] = (uint8_t)draw(256);
    else
      bytes[i] = i % width == 0 ? (uint8_t)draw(6) : 0;
  }
}

/* ---- Running ------------------------------------------------------------- */

static void *allocate(void *user, uint64_t bytes) {
  (void)user;
  enum { HEAD = 64 };
  if (bytes > RUN_BYTES || held.taken + bytes > RUN_BYTES) return NULL;
  uint8_t *block = NULL;
  if (posix_memalign((void **)&block, 64, bytes + HEAD) != 0) return NULL;
  memcpy(block, &bytes, sizeof bytes);
  held.taken += bytes;
  return block + HEAD;
}

static void release(void *user, void *memory) {
  enum { HEAD = 64 };
  (void)user;
  uint8_t *block = (uint8_t *)memory - HEAD;
  uint64_t bytes;
  memcpy(&bytes, block, sizeof bytes);
  held.taken -= bytes;
  free(block);
}

/* Sizes of dimensions that have names: the same for the same name. */
static int64_t size_of_symbol(int32_t symbol) {
  static const int64_t sizes[] = {1, 2, 3, 5, 8, 17, 33, 0};
  return sizes[(state >> 8 ^ (uint64_t)(symbol * 2654435761u)) % 8];
}

static bool make_input(const moec_io_t *io, unsigned index, int64_t *dims,
                       moec_value_t *out) {
  int64_t count = 1;
  for (int32_t d = 0; d < io->rank; d++) {
    dims[d] =
        io->dims[d] >= 0 ? io->dims[d] : size_of_symbol(io->dim_symbols[d]);
    if (dims[d] > MOST_ELEMENTS) return false;
    count *= dims[d];
    if (count > MOST_ELEMENTS) return false;
  }
  size_t size = dtype_bytes((dtype_t)io->dtype, (uint64_t)count);
  held.data[index] = malloc(size);
  if (held.data[index] == NULL) return false;
  fill(held.data[index], size, (dtype_t)io->dtype);
  *out = (moec_value_t){.struct_size = sizeof *out,
                        .kind = io->kind,
                        .dtype = io->dtype,
                        .rank = io->rank,
                        .data = held.data[index],
                        .dims = dims};
  return true;
}

static void run(arena_t *arena, const moec_model_t *model) {
  moec_value_t inputs[MOST_INPUTS];
  if (model->n_inputs > MOST_INPUTS) return;
  for (unsigned i = 0; i < model->n_inputs; i++) {
    int64_t *dims = ARENA_ARRAY(arena, int64_t, MOEC_MAX_RANK);
    if (!make_input(&model->inputs[i], i, dims, &inputs[i])) return;
  }
  moec_value_t *outputs = ARENA_ARRAY(arena, moec_value_t, model->n_outputs);
  for (unsigned i = 0; i < model->n_outputs; i++)
    outputs[i].struct_size = sizeof outputs[i];
  moec_status_t status = model->run(held.instance, inputs, model->n_inputs,
                                    outputs, model->n_outputs);
  FUZZ_CHECK(status != MOEC_E_INTERNAL);
  FUZZ_CHECK((status == MOEC_OK) == (model->message(held.instance)[0] == '\0'));
  if (status != MOEC_OK) return;
  for (unsigned i = 0; i < model->n_outputs; i++) { /* all of it is there */
    volatile uint8_t sum = 0;
    for (uint64_t b = 0; b < outputs[i].size; b++)
      sum = (uint8_t)(sum + ((const uint8_t *)outputs[i].data)[b]);
  }
}

/* ---- Compiling ----------------------------------------------------------- */

/* Whether a run takes little time, as far as sizes that are fixed tell. */
static bool is_small(const ir_module_t *module) {
  for (const ir_op_t *op = module->first->body.first; op != NULL; op = op->next)
    for (unsigned i = 0; i < op->n_out; i++) {
      int64_t count;
      if (ir_type_static_count(&op->out[i].type, &count) &&
          count > MOST_ELEMENTS)
        return false;
    }
  return true;
}

static moec_status_t compile(arena_t *arena, diag_sink_t *diag,
                             ir_module_t *module) {
  pass_options_t options = {
      .level = (int)draw(4), .rewrite_limit = -1, .verify_each = true};
  evaluator_t evaluator;
  module->evaluator = evaluator_init(&evaluator, (size_t)64 << 20);
  MOEC_TRY(pass_run_all(module, held.scratch, &options, diag));
  if (jit_host_isa() < 0) return MOEC_E_UNSUPPORTED;
  unsigned isa = (unsigned)jit_host_isa();
  for (unsigned i = 0; i < isa_count(); i++)
    if (strcmp(isa_at(i)->arch, isa_at(isa)->arch) == 0 &&
        (isa_at(i)->cpu_bits & ~cpu_features()) == 0 && draw(2) == 0)
      isa = i;
  MOEC_TRY(jit_load(module, isa, arena, diag, &held.jit));
  moec_options_t how = {.struct_size = sizeof how,
                        .n_threads = 1,
                        .allocate = allocate,
                        .release = release};
  return jit_model(held.jit)->create(&how, &held.instance);
}

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  release_all();
  state = hash_of(bytes, length);
  held.store = onnx_store_create(NULL);
  held.scratch = arena_create(FUZZ_ARENA_BYTES);
  if (held.store == NULL || held.scratch == NULL) return;
  onnx_model_t *model;
  ir_module_t *module;
  onnx_import_options_t options = {.max_nodes = MOST_NODES};
  if (onnx_load_memory(held.store, arena, bytes, length, NULL, diag, &model) !=
      MOEC_OK)
    return;
  if (onnx_import(model, &options, diag, &module) != MOEC_OK) return;
  FUZZ_CHECK(ir_verify(module, diag) == MOEC_OK);
  if (!is_small(module)) return;
  moec_status_t status = compile(arena, diag, module);
  FUZZ_CHECK(status != MOEC_E_INTERNAL);
  if (status == MOEC_OK) run(arena, jit_model(held.jit));
  release_all();
}
