/* Runs generated code in process; see evaluate.h. */
#include "tools/evaluate.h"

#include <stdlib.h>
#include <time.h>

#include "backend/emit.h"
#include "backend/jit.h"
#include "passes/pass.h"

typedef struct session { /* everything to be released, also after a jump */
  const evaluator_t *evaluator;
  ir_module_t *module; /* as it came, at tensor level */
  diag_sink_t *diag;
  arena_t *arena, *scratch;
  jit_t *jit;
  moec_instance_t *instance;
} session_t;

/* ---- Running ------------------------------------------------------------- */

static moec_status_t create_instance(session_t *s, unsigned isa) {
  moec_options_t options = {.struct_size = sizeof options,
                            .n_threads = 1,
                            .variant = isa_at(isa)->name};
  moec_status_t status = jit_model(s->jit)->create(&options, &s->instance);
  if (status == MOEC_OK) return MOEC_OK;
  return diag_error(s->diag, (ir_loc_t){0}, status,
                    "generated code cannot be run (status %d)", (int)status);
}

static bool is_of_the_data(moec_status_t status) {
  return status == MOEC_E_INDEX || status == MOEC_E_SHAPE ||
         status == MOEC_E_VALUE;
}

/* Memory in the module's arena for each result, where the run will write it. */
static moec_value_t *make_outputs(session_t *s, ir_data_t *data) {
  const ir_op_t *last = s->module->first->body.last;
  moec_value_t *outputs = ARENA_ARRAY(s->arena, moec_value_t, last->n_in);
  for (unsigned i = 0; i < last->n_in; i++) {
    const ir_type_t *type = &last->in[i].value->type;
    int64_t count;
    bool is_static = ir_type_static_count(type, &count);
    MOEC_ASSERT(is_static);
    data[i].size = dtype_bytes(type->dtype, (uint64_t)count);
    void *bytes = arena_alloc(s->module->arena, (size_t)data[i].size + 1);
    data[i].bytes = bytes;
    outputs[i] = (moec_value_t){.struct_size = sizeof(moec_value_t),
                                .data = bytes,
                                .capacity = data[i].size};
  }
  return outputs;
}

static moec_status_t run(session_t *s, ir_data_t *data) {
  const moec_model_t *model = jit_model(s->jit);
  moec_value_t *outputs = make_outputs(s, data);
  moec_status_t status =
      model->run(s->instance, NULL, 0, outputs, model->n_outputs);
  if (status == MOEC_OK || is_of_the_data(status)) return status;
  return diag_error(s->diag, (ir_loc_t){0}, status, "constants: %s",
                    model->message(s->instance));
}

/* ---- One evaluation ------------------------------------------------------ */

/* Works on a copy, so that what it takes to make code is gone afterwards. */
static moec_status_t evaluate(session_t *s, ir_data_t *data) {
  static const char pipeline[] =
      "dce,moe_route,unpack,layout,fuse,lower,dce,plan";
  pass_options_t options = {
      .passes = pipeline, .level = 2, .rewrite_limit = -1};
#ifndef NDEBUG
  options.verify_each = true;
#endif
  int isa = jit_host_isa();
  ir_module_t *copy = ir_module_clone(s->module, s->arena);
  MOEC_TRY(pass_run_all(copy, s->scratch, &options, s->diag));
  MOEC_TRY(jit_load(copy, (unsigned)isa, s->arena, s->diag, &s->jit));
  MOEC_TRY(create_instance(s, (unsigned)isa));
  return run(s, data);
}

static void session_destroy(session_t *s) {
  if (s->instance != NULL) jit_model(s->jit)->destroy(s->instance);
  jit_destroy(s->jit);
  arena_destroy(s->scratch);
  arena_destroy(s->arena);
  free(s);
}

static moec_status_t evaluate_in_session(session_t *s, ir_data_t *data) {
  moec_status_t status = MOEC_E_NO_MEMORY;
  recovery_t point;
  recovery_enter(&point);
  if (s->arena != NULL && s->scratch != NULL) {
    if (setjmp(point.jump) == 0) {
      status = evaluate(s, data);
    } else {
      status = diag_left(s->diag, &point);
    }
  }
  recovery_leave(&point);
  return status;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static moec_status_t evaluate_module(ir_evaluator_t *self, ir_module_t *module,
                                     ir_data_t **out_data, diag_sink_t *diag) {
  evaluator_t *evaluator = (evaluator_t *)self; /* base comes first */
  const double start = now();
  unsigned n = module->first->body.last->n_in;
  *out_data = ARENA_ARRAY(module->arena, ir_data_t, n);
  session_t *s = calloc(1, sizeof *s);
  if (s == NULL) return MOEC_E_NO_MEMORY;
  s->evaluator = evaluator;
  s->module = module;
  s->diag = diag;
  s->arena = arena_create(evaluator->memory_limit);
  s->scratch = arena_create(evaluator->memory_limit);
  moec_status_t status = evaluate_in_session(s, *out_data);
  session_destroy(s);
  evaluator->n_evaluations++;
  evaluator->seconds += now() - start;
  return status;
}

ir_evaluator_t *evaluator_init(evaluator_t *evaluator, size_t memory_limit) {
  *evaluator = (evaluator_t){.base = {.evaluate = evaluate_module},
                             .memory_limit = memory_limit};
  return jit_host_isa() < 0 ? NULL : &evaluator->base;
}
