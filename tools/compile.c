/* The compiler as a library; see compile.h. */
#include "tools/compile.h"

#include <stdlib.h>
#include <string.h>

#include "backend/codegen.h"
#include "backend/cpu.h"
#include "backend/output.h"
#include "frontend/import.h"
#include "tools/describe.h"
#include "tools/describe_moe.h"
#include "tools/evaluate.h"
#include "tools/expose.h"
#include "tools/write_onnx.h"

void compile_options_init(compile_options_t *options) {
  *options =
      (compile_options_t){.entry = "moec_model", .inline_limit = UINT64_MAX};
  options->passes = (pass_options_t){.level = 2, .rewrite_limit = -1};
#ifndef NDEBUG
  options->passes.verify_each = true;
#endif
}

static void tell(const compile_options_t *options, const char *stage) {
  if (options->progress != NULL)
    options->progress(options->progress_user, stage);
}

/* ---- Reading ------------------------------------------------------------- */

enum { MAX_VARIANTS = 32 };

typedef struct session { /* everything to be released, also after a jump */
  const compile_options_t *options;
  diag_sink_t *diag;
  arena_t *arena, *scratch;
  onnx_store_t *store;
  char *text; /* of a .moeir file */
  const target_t *target;
  unsigned variants[MAX_VARIANTS], n_variants; /* rows of targets.def */
  describe_parts_t parts;
  evaluator_t evaluator;
} session_t;

static const char *suffix_of(const char *path) {
  const char *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
  return dot == NULL || (slash != NULL && dot < slash) ? "" : dot;
}

static moec_status_t read_text(session_t *s, const char *path,
                               size_t *out_length) {
  FILE *file = fopen(path, "rb");
  if (file == NULL)
    return diag_error(s->diag, (ir_loc_t){0}, MOEC_E_IO, "cannot open '%s'",
                      path);
  size_t capacity = 1 << 16, length = 0;
  s->text = malloc(capacity);
  while (s->text != NULL) {
    length += fread(s->text + length, 1, capacity - length, file);
    if (length < capacity) break;
    capacity *= 2;
    char *grown = realloc(s->text, capacity);
    if (grown == NULL) free(s->text);
    s->text = grown;
  }
  bool failed = ferror(file) != 0;
  fclose(file);
  *out_length = length;
  if (s->text == NULL) return MOEC_E_NO_MEMORY;
  return failed ? diag_error(s->diag, (ir_loc_t){0}, MOEC_E_IO,
                             "cannot read '%s'", path)
                : MOEC_OK;
}

static moec_status_t import(session_t *s, ir_module_t **out_module) {
  const char *path = s->options->model;
  if (strcmp(suffix_of(path), ".moeir") == 0) {
    size_t length = 0;
    if (s->options->n_dims > 0)
      return diag_error(s->diag, (ir_loc_t){0}, MOEC_E_USAGE,
                        "dimensions can be fixed in ONNX models only");
    MOEC_TRY(read_text(s, path, &length));
    return ir_parse(s->arena, s->text, length, NULL, s->diag, out_module);
  }
  onnx_model_t *model = NULL;
  MOEC_TRY(onnx_load(s->store, s->arena, path, s->diag, &model));
  onnx_import_options_t options = {.n_pins = s->options->n_dims,
                                   .pins = s->options->dims};
  return onnx_import(model, &options, s->diag, out_module);
}

/* ---- Writing ------------------------------------------------------------- */

static moec_status_t choose_target(session_t *s) {
  const char *triple = s->options->target;
  s->target = target_find(triple != NULL ? triple : cpu_arch());
  if (s->target != NULL) return MOEC_OK;
  return diag_error(s->diag, (ir_loc_t){0}, MOEC_E_USAGE,
                    "there is no target '%s'; moec --print-targets lists them",
                    triple != NULL ? triple : cpu_arch());
}

/* Whether a comma-separated list has the name. */
static bool lists(const char *list, const char *name) {
  for (const char *p = list; *p != '\0';) {
    size_t n = strcspn(p, ",");
    if (strlen(name) == n && memcmp(p, name, n) == 0) return true;
    p += n + (p[n] == ',');
  }
  return false;
}

static moec_status_t check_variants(session_t *s, const char *wanted,
                                    const char *arch) {
  for (const char *p = wanted; *p != '\0';) {
    size_t n = strcspn(p, ",");
    const isa_t *isa = isa_find(arena_strndup(s->arena, p, n));
    if (isa == NULL || strcmp(isa->arch, arch) != 0)
      return diag_error(s->diag, (ir_loc_t){0}, MOEC_E_USAGE,
                        "no variant of %s is named '%.*s'", arch, (int)n, p);
    p += n + (p[n] == ',');
  }
  return MOEC_OK;
}

/* Rows of targets.def for the architecture, or those that `isas` names. */
static moec_status_t choose_variants(session_t *s) {
  const char *wanted = s->options->isas, *arch = s->target->arch;
  if (wanted != NULL) MOEC_TRY(check_variants(s, wanted, arch));
  for (unsigned i = 0; i < isa_count(); i++)
    if (strcmp(isa_at(i)->arch, arch) == 0 &&
        (wanted == NULL || lists(wanted, isa_at(i)->name)))
      s->variants[s->n_variants++] = i;
  return s->n_variants > 0 ? MOEC_OK
                           : diag_error(s->diag, (ir_loc_t){0}, MOEC_E_USAGE,
                                        "the list of variants is empty");
}

static moec_status_t write_ir(session_t *s, ir_module_t *module) {
  text_t text;
  text_init(&text, s->arena);
  ir_print(module, &(ir_print_options_t){.locations = true}, &text);
  return output_write_file(s->options->output, text.data, text.length, false,
                           s->diag);
}

static note_t make_note(uint32_t type, const char *text) {
  return (note_t){type, text, strlen(text)};
}

/* Whether the passes that were asked for went all the way to code. */
static moec_status_t check_finished(session_t *s, const ir_module_t *module) {
  bool finished = module->level == IR_LEVEL_LOOP;
  for (const ir_op_t *op = ir_walk_first(module->first); op != NULL;
       op = ir_walk_next(op))
    finished &= op->code != OP_LAUNCH || ir_has_attr(op, ATTR_LAUNCH_memory);
  if (finished) return MOEC_OK;
  return diag_error(s->diag, (ir_loc_t){0}, MOEC_E_USAGE,
                    "without the passes lower and plan there is no code to "
                    "write, only IR: choose the suffix .moeir");
}

typedef struct mapping_list {
  arena_t *arena;
  weights_mapping_t *mapping;
  size_t n, room;
} mapping_list_t;

static void add_mapping(void *user, const void *bytes, size_t size) {
  mapping_list_t *list = user;
  if (list->n == list->room) {
    list->room = 2 * list->room + 4;
    list->mapping = arena_grow_array(list->arena, list->mapping, list->n,
                                     list->room, sizeof *list->mapping);
  }
  list->mapping[list->n++] = (weights_mapping_t){bytes, size};
}

static moec_status_t write_product(session_t *s, ir_module_t *module) {
  const unsigned *variants = s->variants, n = s->n_variants;
  const char *kind = suffix_of(s->options->output);
  if (strcmp(kind, ".moeir") == 0) return write_ir(s, module);
  if (strcmp(kind, ".onnx") == 0)
    return write_onnx(module, s->options->output, s->options->inline_limit,
                      s->diag);
  MOEC_TRY(check_finished(s, module));
  s->parts.code = describe_code(s->arena, module, variants, n);
  describe_parts_t brief = s->parts; /* the rest has notes of its own */
  brief.signature = brief.code = NULL;
  const note_t notes[] = {
      make_note(NOTE_SIGNATURE, s->parts.signature),
      make_note(NOTE_KERNELS, s->parts.code),
      make_note(NOTE_REPORT, describe_report(s->arena, &brief))};
  mapping_list_t mappings = {.arena = s->arena};
  onnx_store_each_mapping(s->store, add_mapping, &mappings);
  codegen_options_t options = {.arch = s->target->arch,
                               .variants = variants,
                               .n_variants = n,
                               .entry = s->options->entry,
                               .soname = s->options->soname,
                               .debug = s->options->debug_info,
                               .instrument = s->options->instrument,
                               .notes = notes,
                               .n_notes = sizeof notes / sizeof notes[0],
                               .mappings = mappings.mapping,
                               .n_mappings = mappings.n,
                               .timings = s->options->passes.timings};
  if (strcmp(kind, ".so") == 0)
    return codegen_library(module, &options, s->options->output, s->arena,
                           s->diag);
  return codegen_text(module, &options, kind, s->options->output, s->arena,
                      s->diag);
}

static moec_status_t write_report(session_t *s) {
  if (s->options->report == NULL) return MOEC_OK;
  const char *report = describe_report(s->arena, &s->parts);
  return output_write_file(s->options->report, report, strlen(report), false,
                           s->diag);
}

/* Runs the passes and tells what they found. */
static moec_status_t run_passes(session_t *s, ir_module_t *module,
                                pass_options_t *passes) {
  moe_report_t *moe = passes->moe = moe_report_create(s->arena);
  const isa_t *best = isa_at(s->variants[s->n_variants - 1]);
  passes->no_f16 = !isa_has(best, ISA_F16);
  MOEC_TRY(pass_run_all(module, s->scratch, passes, s->diag));
  moe_report_settle(moe);
  s->parts.moe = moe;
  warn_of_missing_experts(moe, s->diag);
  if (s->options->explain_moe == NULL) return MOEC_OK;
  text_t text;
  text_init(&text, s->arena);
  explain_moe(moe, &text);
  fputs(text.data, s->options->explain_moe);
  return MOEC_OK;
}

/* A file name in a rule of make. */
static void append_prerequisite(void *user, const char *name) {
  text_t *rule = user;
  text_printf(rule, " \\\n ");
  for (; *name != '\0'; name++) {
    if (*name == ' ' || *name == '#' || *name == '\\')
      text_append(rule, "\\", 1);
    if (*name == '$') text_append(rule, "$", 1);
    text_append(rule, name, 1);
  }
}

/* "output: \ model \ data": the files that were read. */
static moec_status_t write_depfile(session_t *s) {
  text_t rule, name;
  if (s->options->depfile == NULL) return MOEC_OK;
  text_init(&rule, s->arena);
  text_init(&name, s->arena);
  append_prerequisite(&name, s->options->output);
  text_printf(&rule, "%s:", name.data + strlen(" \\\n "));
  if (s->text != NULL) append_prerequisite(&rule, s->options->model);
  onnx_store_each_file(s->store, append_prerequisite, &rule);
  text_printf(&rule, "\n");
  return output_write_file(s->options->depfile, rule.data, rule.length, false,
                           s->diag);
}

static moec_status_t check_output(session_t *s) {
  static const char *const kinds[] = {".so", ".o",     ".ll",  ".bc",
                                      ".s",  ".moeir", ".onnx"};
  if (s->options->output == NULL && s->options->depfile != NULL)
    return diag_error(s->diag, (ir_loc_t){0}, MOEC_E_USAGE,
                      "there is no rule for '%s' to write without an output",
                      s->options->depfile);
  if (s->options->output == NULL) return MOEC_OK;
  for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (strcmp(suffix_of(s->options->output), kinds[i]) == 0) return MOEC_OK;
  return diag_error(
      s->diag, (ir_loc_t){0}, MOEC_E_USAGE,
      "the suffix of '%s' names no product; expected .so, .o, .ll, "
      ".bc, .s, .moeir or .onnx",
      s->options->output);
}

/* The passes that were asked for, or those of the level: a product that is for
 * any machine ends before one is thought of. */
static pass_options_t choose_passes(const session_t *s) {
  pass_options_t passes = s->options->passes;
  const char *output = s->options->output;
  if (passes.passes == NULL)
    passes.passes = output != NULL && strcmp(suffix_of(output), ".onnx") == 0
                        ? pass_portable_pipeline(passes.level)
                        : pass_pipeline(passes.level);
  return passes;
}

/* ---- The whole ----------------------------------------------------------- */

/* Adds the time since `start`; returns the time now. */
static double end_stage(session_t *s, const char *name, double start) {
  const double now = timing_wall();
  timings_add(
      s->options->passes.timings,
      &(timing_t){.kind = TIMING_STAGE, .name = name, .seconds = now - start});
  return now;
}

static void remove_product(session_t *s) {
  remove(s->options->output);
  if (strcmp(suffix_of(s->options->output), ".onnx") == 0)
    remove(write_onnx_data_path(s->arena, s->options->output));
}

static moec_status_t compile(session_t *s) {
  ir_module_t *module = NULL;
  pass_options_t passes = choose_passes(s);
  MOEC_TRY(check_output(s));
  MOEC_TRY(choose_target(s));
  MOEC_TRY(choose_variants(s));
  double start = timing_wall();
  tell(s->options, "import");
  MOEC_TRY(import(s, &module));
  MOEC_TRY(ir_verify(module, s->diag));
  if (s->options->expose != NULL) {
    s->options->expose->unnamed =
        strcmp(suffix_of(s->options->model), ".moeir") == 0;
    expose_values(module, s->options->expose);
  }
  start = end_stage(s, "import", start);
  s->parts = (describe_parts_t){.level = passes.level,
                                .passes = passes.passes,
                                .imported = describe_import(s->arena, module)};
  module->evaluator = evaluator_init(&s->evaluator, s->options->memory_limit);
  tell(s->options, "passes");
  MOEC_TRY(run_passes(s, module, &passes));
  (void)end_stage(s, "passes", start);
  s->parts.signature = describe_signature(s->arena, module);
  if (s->options->output == NULL) return write_report(s);
  tell(s->options, "code");
  MOEC_TRY(write_product(s, module));
  MOEC_TRY(write_report(s));
  MOEC_TRY(write_depfile(s));
  moec_status_t status = onnx_store_check(s->store, s->diag);
  if (status != MOEC_OK) /* of a changed model */
    remove_product(s);
  return status;
}

moec_status_t compile_model(const compile_options_t *options,
                            diag_sink_t *diag) {
  session_t *s = calloc(1, sizeof *s);
  if (s == NULL) return MOEC_E_NO_MEMORY;
  s->options = options;
  s->diag = diag;
  s->arena = arena_create(options->memory_limit);
  s->scratch = arena_create(options->memory_limit);
  onnx_load_options_t load = {.external_root = options->external_root,
                              .verify_checksums = options->verify_checksums,
                              .never_map = options->never_map};
  s->store = onnx_store_create(&load);
  moec_status_t status = MOEC_E_NO_MEMORY;
  recovery_t point;
  recovery_enter(&point);
  if (s->arena != NULL && s->scratch != NULL && s->store != NULL) {
    if (setjmp(point.jump) == 0) {
      status = compile(s);
    } else {
      status = diag_left(diag, &point);
    }
  }
  recovery_leave(&point);
  onnx_store_destroy(s->store);
  arena_destroy(s->scratch);
  arena_destroy(s->arena);
  free(s->text);
  free(s);
  return status;
}
