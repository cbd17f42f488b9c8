/* Runs pipelines of passes: counting rewrites, verifying, dumping, timing. */
#include <string.h>
#include <sys/stat.h>

#include "passes/pass.h"

static const pass_info_t passes[] = {
#define PASS(id, name, needs, keeps, doc) {name, needs, keeps, doc, run_##id},
#include "passes/passes.def"
};

/* What each -O level runs, in order. */
static const char *const pipelines[] = {
#define PIPELINE(level, portable, code) [level] = portable "," code,
#include "passes/pipelines.def"
};

static const char *const portable_pipelines[] = {
#define PIPELINE(level, portable, code) [level] = portable ",moe_route",
#include "passes/pipelines.def"
};

unsigned pass_count(void) { return sizeof passes / sizeof passes[0]; }

const pass_info_t *pass_at(unsigned index) {
  MOEC_ASSERT(index < pass_count());
  return &passes[index];
}

static int level_within(int level) {
  int most = (int)(sizeof pipelines / sizeof pipelines[0]) - 1;
  return level < 0 ? 0 : level > most ? most : level;
}

const char *pass_pipeline(int level) { return pipelines[level_within(level)]; }

const char *pass_portable_pipeline(int level) {
  return portable_pipelines[level_within(level)];
}

bool pass_allow_rewrite(pass_ctx_t *ctx, const char *rule, const ir_op_t *at) {
  long number = ctx->rewrites++;
  long limit = ctx->options->rewrite_limit;
  if (limit >= 0 && number >= limit) return false;
  if (ctx->options->trace != NULL)
    fprintf(
        ctx->options->trace, "rewrite %ld: %s at %s\n", number, rule,
        at->loc.node != NULL ? at->loc.node : ir_op_info(at->code)->mnemonic);
  ctx->changed = true;
  return true;
}

/* ---- Lists of names ------------------------------------------------------ */

/* Takes the next name off a comma-separated list. */
static bool next_name(const char **list, const char **out_name,
                      size_t *out_length) {
  while (**list == ',' || **list == ' ') (*list)++;
  *out_name = *list;
  *out_length = strcspn(*list, ", ");
  *list += *out_length;
  return *out_length > 0;
}

static bool in_list(const char *list, const char *name) {
  const char *item;
  size_t length;
  while (list != NULL && next_name(&list, &item, &length))
    if (strlen(name) == length && memcmp(item, name, length) == 0) return true;
  return false;
}

bool pass_is_disabled(const pass_ctx_t *ctx, const char *name) {
  return in_list(ctx->options->disabled, name);
}

static const pass_info_t *find_pass(const char *name, size_t length) {
  for (unsigned i = 0; i < pass_count(); i++)
    if (strlen(passes[i].name) == length &&
        memcmp(passes[i].name, name, length) == 0)
      return &passes[i];
  return NULL;
}

moec_status_t pass_check_list(const char *list, diag_sink_t *diag) {
  const char *name;
  size_t length;
  while (list != NULL && next_name(&list, &name, &length))
    if (find_pass(name, length) == NULL)
      return diag_error(diag, (ir_loc_t){0}, MOEC_E_USAGE,
                        "there is no pass named '%.*s'", (int)length, name);
  return MOEC_OK;
}

/* ---- Output -------------------------------------------------------------- */

void pass_dump(pass_ctx_t *ctx, const char *name) {
  if (ctx->options->dump_dir == NULL) return;
  mkdir(ctx->options->dump_dir, 0777); /* may exist */
  text_t text;
  text_init(&text, ctx->scratch);
  text_printf(&text, "// after %s%s\n", name,
              ctx->changed ? "" : " (unchanged)");
  ir_print_options_t options = {.locations = true,
                                .data_dir = ctx->options->dump_dir};
  ir_print(ctx->module, &options, &text);
  const char *path = arena_printf(ctx->scratch, "%s/%02u-%s.moeir",
                                  ctx->options->dump_dir, ctx->stage++, name);
  FILE *file = fopen(path, "w");
  bool written =
      file != NULL && fwrite(text.data, 1, text.length, file) == text.length;
  if (file != NULL) written &= fclose(file) == 0;
  if (!written)
    diag_warning(ctx->diag, (ir_loc_t){0}, "cannot write dump '%s'", path);
}

static void print_after(pass_ctx_t *ctx, const char *name) {
  const char *wanted = ctx->options->print_after;
  if (wanted == NULL || (strcmp(wanted, "all") != 0 && !in_list(wanted, name)))
    return;
  text_t text;
  text_init(&text, ctx->scratch);
  ir_print(ctx->module, &(ir_print_options_t){.locations = false}, &text);
  FILE *to = ctx->options->print_to ? ctx->options->print_to : stderr;
  fprintf(to, "// after %s%s\n%s", name, ctx->changed ? "" : " (unchanged)",
          text.data);
}

static void check(pass_ctx_t *ctx, const pass_info_t *pass) {
  if (!ctx->options->verify_each ||
      ir_verify(ctx->module, ctx->diag) == MOEC_OK)
    return;
  MOEC_BUG("pass '%s' left invalid IR: %s", pass->name,
           ctx->diag->last != NULL ? ctx->diag->last->text : "?");
}

/* ---- Running ------------------------------------------------------------- */

/* Those that were asked for but not allowed are counted too. */
static long rewrites_made(const pass_ctx_t *ctx) {
  const long limit = ctx->options->rewrite_limit;
  return limit >= 0 && ctx->rewrites > limit ? limit : ctx->rewrites;
}

static moec_status_t run_one(pass_ctx_t *ctx, const pass_info_t *pass) {
  const double start = timing_wall();
  const long rewrites = rewrites_made(ctx);
  ctx->changed = false;
  moec_status_t status = pass->run(ctx, ctx->module->first);
  timings_add(ctx->options->timings,
              &(timing_t){.kind = TIMING_PASS,
                          .name = pass->name,
                          .seconds = timing_wall() - start,
                          .rewrites = rewrites_made(ctx) - rewrites});
  MOEC_TRY(status);
  check(ctx, pass);
  print_after(ctx, pass->name);
  pass_dump(ctx, pass->name);
  arena_reset(ctx->scratch);
  return MOEC_OK;
}

static moec_status_t run_list(pass_ctx_t *ctx, const char *list) {
  const char *name;
  size_t length;
  while (next_name(&list, &name, &length)) {
    const pass_info_t *pass = find_pass(name, length);
    if (in_list(ctx->options->disabled, pass->name)) continue;
    MOEC_TRY(run_one(ctx, pass));
  }
  return MOEC_OK;
}

moec_status_t pass_run_all(ir_module_t *module, arena_t *scratch,
                           const pass_options_t *options, diag_sink_t *diag) {
  const char *list =
      options->passes ? options->passes : pass_pipeline(options->level);
  MOEC_TRY(pass_check_list(list, diag));
  MOEC_TRY(pass_check_list(options->disabled, diag));
  pass_ctx_t ctx = {.module = module,
                    .scratch = scratch,
                    .diag = diag,
                    .options = options,
                    .changed = true};
  pass_dump(&ctx, "import");
  return run_list(&ctx, list);
}
