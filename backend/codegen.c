/* From a loop-level module to a product. Code is emitted in jobs, each a batch
 * of kernels for one ISA or the schedule, in LLVM modules of their own, by as
 * many threads as there are processors; their order does not depend on the
 * threads. */
#include "backend/codegen.h"

#include <llvm-c/BitWriter.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/debug.h"
#include "backend/kernel.h"
#include "backend/link.h"
#include "backend/output.h"
#include "backend/runtime_blob.h"
#include "backend/schedule.h"

enum { BATCH = 24, MAX_THREADS = 16 };

typedef struct job {
  unsigned isa;        /* row of targets.def */
  ir_func_t **kernels; /* of the batch; NULL: the schedule */
  unsigned n_kernels;
  LLVMMemoryBufferRef object;
  double emit, optimise, generate; /* seconds of the thread */
  moec_status_t status;
  char message[512]; /* of a failure */
} job_t;

typedef struct codegen {
  ir_module_t *module;
  const codegen_options_t *options;
  weights_t *weights;         /* used by the schedule's job only */
  const debug_lines_t *lines; /* NULL: no debug information */
  job_t *jobs;
  unsigned n_jobs;
  atomic_uint next;
} codegen_t;

static ir_func_t *next_kernel(ir_func_t *func) {
  while (func != NULL && func->kind != IR_FUNC_KERNEL) func = func->next;
  return func;
}

/* ---- One job ------------------------------------------------------------- */

static void fill_module(codegen_t *cg, job_t *job, emitter_t *em) {
  debug_begin(em, cg->lines);
  if (job->kernels == NULL) {
    const schedule_options_t options = {.variants = cg->options->variants,
                                        .n_variants = cg->options->n_variants,
                                        .entry = cg->options->entry,
                                        .instrument = cg->options->instrument};
    emit_schedule(em, cg->module, cg->weights, &options);
    return;
  }
  for (unsigned i = 0; i < job->n_kernels; i++) {
    ir_func_t *func = job->kernels[i];
    emit_kernel(em, func, schedule_kernel_symbol(em->arena, func, em->isa));
  }
}

static moec_status_t make_object(codegen_t *cg, job_t *job, emitter_t *em) {
  const double start = timing_thread();
  fill_module(cg, job, em);
  debug_end(em);
  const double filled = timing_thread();
  MOEC_TRY(emitter_optimise(em));
  const double optimised = timing_thread();
  moec_status_t status = emitter_generate(em, &job->object);
  job->emit = filled - start;
  job->optimise = optimised - filled;
  job->generate = timing_thread() - optimised;
  return status;
}

static void run_job(codegen_t *cg, job_t *job) {
  emitter_t em = {0};
  recovery_t point;
  diag_sink_t diag;
  arena_t *arena = arena_create(0);
  if (arena == NULL) {
    job->status = MOEC_E_NO_MEMORY;
    return;
  }
  diag_init(&diag, arena, NULL);
  recovery_enter(&point);
  if (setjmp(point.jump) == 0) {
    job->status = emitter_init_level(
        &em, isa_at(job->isa),
        job->kernels == NULL ? LLVMCodeGenLevelNone : LLVMCodeGenLevelDefault,
        arena, "moec", &diag);
    if (job->status == MOEC_OK) job->status = make_object(cg, job, &em);
    if (job->status != MOEC_OK && diag.last != NULL)
      snprintf(job->message, sizeof job->message, "%s", diag.last->text);
  } else {
    job->status = point.status;
    snprintf(job->message, sizeof job->message, "%s", point.message);
  }
  recovery_leave(&point);
  emitter_dispose(&em);
  arena_destroy(arena);
}

static void *work(void *user) {
  codegen_t *cg = user;
  for (;;) {
    unsigned i = atomic_fetch_add(&cg->next, 1);
    if (i >= cg->n_jobs) return NULL;
    run_job(cg, &cg->jobs[i]);
  }
}

/* ---- All jobs ------------------------------------------------------------ */

/* The kernels that a variant does not share with a lower one, in order. */
static ir_func_t **own_kernels(codegen_t *cg, unsigned row, unsigned n_kernels,
                               arena_t *arena, unsigned *out_n) {
  const codegen_options_t *o = cg->options;
  ir_func_t **kernels = ARENA_ARRAY(arena, ir_func_t *, n_kernels);
  *out_n = 0;
  for (ir_func_t *f = next_kernel(cg->module->first); f != NULL;
       f = next_kernel(f->next))
    if (kernel_row(f, row, o->variants, o->n_variants) == row)
      kernels[(*out_n)++] = f;
  return kernels;
}

static void plan_jobs(codegen_t *cg, arena_t *arena) {
  const codegen_options_t *o = cg->options;
  unsigned n_kernels = 0;
  for (ir_func_t *f = next_kernel(cg->module->first); f != NULL;
       f = next_kernel(f->next))
    n_kernels++;
  unsigned per_isa = (n_kernels + BATCH - 1) / BATCH;
  cg->jobs = ARENA_ARRAY(arena, job_t, 1 + per_isa * o->n_variants);
  cg->jobs[cg->n_jobs++] = (job_t){.isa = o->variants[0]};
  for (unsigned v = 0; v < o->n_variants; v++) {
    unsigned n;
    ir_func_t **kernels = own_kernels(cg, o->variants[v], n_kernels, arena, &n);
    for (unsigned i = 0; i < n; i += BATCH)
      cg->jobs[cg->n_jobs++] =
          (job_t){.isa = o->variants[v],
                  .kernels = kernels + i,
                  .n_kernels = n - i < BATCH ? n - i : BATCH};
  }
}

static void number_values(ir_module_t *module) {
  for (ir_func_t *f = module->first; f != NULL; f = f->next) ir_renumber(f);
}

static void run_jobs(codegen_t *cg) {
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  unsigned n_threads = n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (unsigned)n;
  if (n_threads > cg->n_jobs) n_threads = cg->n_jobs;
  pthread_t threads[MAX_THREADS];
  unsigned started = 0;
  while (started + 1 < n_threads &&
         pthread_create(&threads[started], NULL, work, cg) == 0)
    started++;
  work(cg);
  for (unsigned i = 0; i < started; i++) pthread_join(threads[i], NULL);
}

static moec_status_t first_failure(const codegen_t *cg, diag_sink_t *diag) {
  for (unsigned i = 0; i < cg->n_jobs; i++)
    if (cg->jobs[i].status != MOEC_OK)
      return diag_error(diag, (ir_loc_t){0}, cg->jobs[i].status, "%s",
                        cg->jobs[i].message[0] != '\0' ? cg->jobs[i].message
                                                       : "out of memory");
  return MOEC_OK;
}

static void add_time(timing_t *row, const job_t *job) {
  row->emit += job->emit;
  row->optimise += job->optimise;
  row->generate += job->generate;
  row->seconds += job->emit + job->optimise + job->generate;
  row->n_kernels += job->n_kernels;
}

/* A row for the schedule, then one for each variant. */
static void add_timings(const codegen_t *cg) {
  timing_t schedule = {.kind = TIMING_CODE, .name = "schedule"};
  for (unsigned i = 0; i < cg->n_jobs; i++)
    if (cg->jobs[i].kernels == NULL) add_time(&schedule, &cg->jobs[i]);
  timings_add(cg->options->timings, &schedule);
  for (unsigned v = 0; v < cg->options->n_variants; v++) {
    const unsigned isa = cg->options->variants[v];
    timing_t row = {.kind = TIMING_CODE, .name = isa_at(isa)->name};
    for (unsigned i = 0; i < cg->n_jobs; i++)
      if (cg->jobs[i].isa == isa && cg->jobs[i].kernels != NULL)
        add_time(&row, &cg->jobs[i]);
    timings_add(cg->options->timings, &row);
  }
}

/* ---- Products ------------------------------------------------------------ */

static const char *listing_path(arena_t *arena, const char *path) {
  return arena_printf(arena, "%s.nodes", path);
}

/* The nodes that debug information refers to, or NULL. */
static const debug_lines_t *make_lines(ir_module_t *module,
                                       const codegen_options_t *options,
                                       const char *path, arena_t *arena) {
  if (!options->debug) return NULL;
  const char *listing = listing_path(arena, path);
  const char *slash = strrchr(listing, '/');
  return debug_lines_create(arena, module, slash != NULL ? slash + 1 : listing);
}

/* Writes the listing beside what was written to `path`. */
static moec_status_t write_listing(const debug_lines_t *lines, const char *path,
                                   arena_t *arena, diag_sink_t *diag) {
  text_t text;
  if (lines == NULL) return MOEC_OK;
  text_init(&text, arena);
  debug_lines_print(lines, &text);
  return output_write_file(listing_path(arena, path), text.data, text.length,
                           false, diag);
}

static void add_stage(const codegen_options_t *options, const char *name,
                      double seconds) {
  timings_add(
      options->timings,
      &(timing_t){.kind = TIMING_STAGE, .name = name, .seconds = seconds});
}

static moec_status_t link_jobs(codegen_t *cg, const char *path, arena_t *arena,
                               diag_sink_t *diag) {
  const codegen_options_t *options = cg->options;
  const runtime_blob_t *runtime = runtime_blob_find(options->arch);
  if (runtime == NULL)
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_CODEGEN,
                      "this moec has no runtime for %s", options->arch);
  link_file_t *objects = ARENA_ARRAY(arena, link_file_t, cg->n_jobs + 1);
  for (unsigned i = 0; i < cg->n_jobs; i++)
    objects[i] = (link_file_t){"code.o", LLVMGetBufferStart(cg->jobs[i].object),
                               LLVMGetBufferSize(cg->jobs[i].object)};
  objects[cg->n_jobs] =
      (link_file_t){"runtime.o", runtime->data, runtime->size};
  link_file_t library = {"libc.so.6", runtime->libc_stub,
                         runtime->libc_stub_size};
  link_input_t input = {.soname = options->soname,
                        .entry = options->entry,
                        .objects = objects,
                        .n_objects = cg->n_jobs + 1,
                        .libraries = &library,
                        .n_libraries = 1,
                        .notes = options->notes,
                        .n_notes = options->n_notes,
                        .debug = options->debug};
  return link_library(&input, cg->weights, path, arena, diag);
}

typedef struct library {
  codegen_t cg;
  const char *path;
  arena_t *arena;
  diag_sink_t *diag;
} library_t;

static moec_status_t make_library(void *user) {
  library_t *library = user;
  codegen_t *cg = &library->cg;
  const codegen_options_t *options = cg->options;
  arena_t *arena = library->arena;
  cg->weights = weights_create(arena);
  weights_may_drop(cg->weights, options->n_mappings, options->mappings);
  cg->lines = make_lines(cg->module, options, library->path, arena);
  const double start = timing_wall();
  number_values(cg->module);
  plan_jobs(cg, arena);
  run_jobs(cg);
  moec_status_t status = first_failure(cg, library->diag);
  const double coded = timing_wall();
  add_timings(cg);
  if (status == MOEC_OK)
    status = link_jobs(cg, library->path, arena, library->diag);
  if (status == MOEC_OK)
    status = write_listing(cg->lines, library->path, arena, library->diag);
  add_stage(options, "code", coded - start);
  add_stage(options, "link", timing_wall() - coded);
  return status;
}

static void dispose_objects(void *user) {
  const codegen_t *cg = &((const library_t *)user)->cg;
  for (unsigned i = 0; i < cg->n_jobs; i++)
    if (cg->jobs[i].object != NULL) LLVMDisposeMemoryBuffer(cg->jobs[i].object);
}

moec_status_t codegen_library(ir_module_t *module,
                              const codegen_options_t *options,
                              const char *path, arena_t *arena,
                              diag_sink_t *diag) {
  library_t library = {.cg = {.module = module, .options = options},
                       .path = path,
                       .arena = arena,
                       .diag = diag};
  return recovery_cleanup(make_library, dispose_objects, &library);
}

/* ---- Text ---------------------------------------------------------------- */

static LLVMMemoryBufferRef copy_text(char *text) {
  LLVMMemoryBufferRef buffer =
      LLVMCreateMemoryBufferWithMemoryRangeCopy(text, strlen(text), "text");
  LLVMDisposeMessage(text);
  return buffer;
}

static moec_status_t print_module(emitter_t *em, const char *kind,
                                  LLVMMemoryBufferRef *out) {
  MOEC_TRY(emitter_optimise(em));
  if (strcmp(kind, ".ll") == 0) {
    *out = copy_text(LLVMPrintModuleToString(em->module));
    return MOEC_OK;
  }
  if (strcmp(kind, ".bc") == 0) {
    *out = LLVMWriteBitcodeToMemoryBuffer(em->module);
    return MOEC_OK;
  }
  char *message = NULL;
  if (LLVMTargetMachineEmitToMemoryBuffer(em->machine, em->module,
                                          LLVMAssemblyFile, &message, out)) {
    moec_status_t status =
        diag_error(em->diag, (ir_loc_t){0}, MOEC_E_CODEGEN, "%s", message);
    LLVMDisposeMessage(message);
    return status;
  }
  return MOEC_OK;
}

typedef struct listing {
  ir_module_t *module;
  const codegen_options_t *options;
  const char *kind, *path;
  arena_t *arena;
  diag_sink_t *diag;
  emitter_t em;
  LLVMMemoryBufferRef buffer;
} listing_t;

static moec_status_t make_listing(void *user) {
  listing_t *l = user;
  emitter_t *em = &l->em;
  const debug_lines_t *lines =
      make_lines(l->module, l->options, l->path, l->arena);
  unsigned row = l->options->variants[l->options->n_variants - 1];
  number_values(l->module);
  MOEC_TRY(emitter_init(em, isa_at(row), l->arena, "moec", l->diag));
  debug_begin(em, lines);
  for (ir_func_t *f = next_kernel(l->module->first); f != NULL;
       f = next_kernel(f->next))
    emit_kernel(em, f, schedule_kernel_symbol(l->arena, f, em->isa));
  debug_end(em);
  MOEC_TRY(strcmp(l->kind, ".o") == 0 ? emitter_finish(em, &l->buffer)
                                      : print_module(em, l->kind, &l->buffer));
  MOEC_TRY(output_write_file(l->path, LLVMGetBufferStart(l->buffer),
                             LLVMGetBufferSize(l->buffer), false, l->diag));
  return write_listing(lines, l->path, l->arena, l->diag);
}

static void dispose_listing(void *user) {
  listing_t *l = user;
  if (l->buffer != NULL) LLVMDisposeMemoryBuffer(l->buffer);
  emitter_dispose(&l->em);
}

moec_status_t codegen_text(ir_module_t *module,
                           const codegen_options_t *options, const char *kind,
                           const char *path, arena_t *arena,
                           diag_sink_t *diag) {
  const double start = timing_wall();
  listing_t listing = {.module = module,
                       .options = options,
                       .kind = kind,
                       .path = path,
                       .arena = arena,
                       .diag = diag};
  moec_status_t status =
      recovery_cleanup(make_listing, dispose_listing, &listing);
  add_stage(options, "code", timing_wall() - start);
  return status;
}
