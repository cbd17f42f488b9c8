/* A model that is changed as a model (mutate.h): compiled as the program would,
 * loaded into this process with checked accesses to memory, and run on numbers
 * of all kinds; or written as ONNX and read again, or only changed by the
 * passes. The bytes themselves choose which, the -O level, the variant and the
 * inputs. */
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "backend/cpu.h"
#include "backend/emit.h"
#include "backend/jit.h"
#include "export/export.h"
#include "frontend/import.h"
#include "ir/ir.h"
#include "passes/pass.h"
#include "tests/fuzz/fuzz.h"
#include "tools/describe_moe.h"
#include "tools/evaluate.h"

enum {
  MOST_NODES = 400,
  MOST_INPUTS = 32,
  RUN_BYTES = 32 << 20,   /* that an instance may take */
  RUN_SECONDS = 2,        /* of processor time; loops may be without an end */
  MOST_ELEMENTS = 1 << 20 /* of a value: more would only take time */
};

/* Released also when the body is left through the recovery point. */
static struct {
  onnx_store_t *store, *again;
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
  onnx_store_destroy(held.again);
  held.again = NULL;
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

/* A run that takes too long is left by a jump, which the allocator would not
 * survive. */
static sigjmp_buf too_long;
static volatile sig_atomic_t is_allocating;

static void on_time(int signal) {
  (void)signal;
  if (is_allocating == 0) siglongjmp(too_long, 1);
}

static void set_timer(unsigned seconds) {
  const struct itimerval timer = {.it_interval.tv_usec = 100000,
                                  .it_value.tv_sec = seconds};
  const struct itimerval none = {.it_interval.tv_sec = 0};
  signal(SIGVTALRM, on_time);
  setitimer(ITIMER_VIRTUAL, seconds > 0 ? &timer : &none, NULL);
}

static void *allocate(void *user, uint64_t bytes) {
  (void)user;
  enum { HEAD = 64 };
  if (bytes > RUN_BYTES || held.taken + bytes > RUN_BYTES) return NULL;
  uint8_t *block = NULL;
  is_allocating = 1;
  if (posix_memalign((void **)&block, 64, bytes + HEAD) == 0) {
    memcpy(block, &bytes, sizeof bytes);
    held.taken += bytes;
    block += HEAD;
  }
  is_allocating = 0;
  return block;
}

static void release(void *user, void *memory) {
  enum { HEAD = 64 };
  (void)user;
  uint8_t *block = (uint8_t *)memory - HEAD;
  uint64_t bytes;
  memcpy(&bytes, block, sizeof bytes);
  is_allocating = 1;
  held.taken -= bytes;
  free(block);
  is_allocating = 0;
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
  if (sigsetjmp(too_long, 1) != 0) {
    set_timer(0);
    return;
  }
  set_timer(RUN_SECONDS);
  const moec_status_t status = model->run(
      held.instance, inputs, model->n_inputs, outputs, model->n_outputs);
  set_timer(0);
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

/* Runs the passes and tells what they found. */
static moec_status_t run_passes(arena_t *arena, diag_sink_t *diag,
                                ir_module_t *module, bool portable) {
  pass_options_t options = {
      .level = (int)draw(4), .rewrite_limit = -1, .verify_each = true};
  if (portable) options.passes = pass_portable_pipeline(options.level);
  evaluator_t evaluator;
  module->evaluator = evaluator_init(&evaluator, (size_t)64 << 20);
  options.moe = moe_report_create(arena);
  MOEC_TRY(pass_run_all(module, held.scratch, &options, diag));
  moe_report_settle(options.moe);
  warn_of_missing_experts(options.moe, diag);
  text_t text;
  text_init(&text, arena);
  describe_moe(options.moe, &text);
  explain_moe(options.moe, &text);
  return MOEC_OK;
}

/* The bytes of a message in one piece. */
static const uint8_t *bytes_of(arena_t *arena, const pb_t *pb) {
  uint8_t *bytes = arena_alloc(arena, pb->size + 1);
  size_t from = 0, to = 0;
  for (unsigned i = 0; i < pb->n_views; i++) {
    const pb_view_t *view = &pb->views[i];
    memcpy(bytes + to, pb->data + from, view->at - from);
    to += view->at - from;
    from = view->at;
    memcpy(bytes + to, view->bytes, view->size);
    to += view->size;
  }
  memcpy(bytes + to, pb->data + from, pb->length - from);
  return bytes;
}

/* What is written as ONNX can be read again. */
static moec_status_t write_and_read(arena_t *arena, diag_sink_t *diag,
                                    ir_module_t *module) {
  MOEC_TRY(run_passes(arena, diag, module, true));
  const export_options_t how = {.inline_limit = UINT64_MAX};
  export_files_t files;
  MOEC_TRY(export_onnx(module, &how, &files, diag));
  held.again = onnx_store_create(NULL);
  if (held.again == NULL) return MOEC_E_NO_MEMORY;
  const uint8_t *bytes = bytes_of(arena, &files.model);
  onnx_model_t *model;
  ir_module_t *again;
  const onnx_import_options_t options = {.max_nodes = 0};
  moec_status_t status = onnx_load_memory(held.again, arena, bytes,
                                          files.model.size, NULL, diag, &model);
  if (status == MOEC_OK) status = onnx_import(model, &options, diag, &again);
  if (status != MOEC_OK) diag_print(diag, stderr);
  FUZZ_CHECK(status == MOEC_OK);
  FUZZ_CHECK(ir_verify(again, diag) == MOEC_OK);
  return MOEC_OK;
}

static moec_status_t compile(arena_t *arena, diag_sink_t *diag,
                             ir_module_t *module) {
  MOEC_TRY(run_passes(arena, diag, module, false));
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
  const uint64_t what = draw(8); /* code takes a hundred times longer */
  moec_status_t status = what == 0  ? write_and_read(arena, diag, module)
                         : what < 6 ? run_passes(arena, diag, module, false)
                                    : compile(arena, diag, module);
  FUZZ_CHECK(status != MOEC_E_INTERNAL);
  if (status == MOEC_OK && held.instance != NULL)
    run(arena, jit_model(held.jit));
  release_all();
}
