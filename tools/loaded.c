/* Loading of compiled models, and of models compiled for the occasion. */
#include "tools/loaded.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cpu.h"

static const char *describe_error(void) {
  const char *text = dlerror();
  return text != NULL ? text : "unknown reason";
}

static moec_status_t check_table(cli_t *cli, const char *path,
                                 const moec_model_t *model) {
  if (model == NULL || model->struct_size < offsetof(moec_model_t, tracing) ||
      (model->inputs == NULL && model->n_inputs > 0) ||
      (model->outputs == NULL && model->n_outputs > 0) ||
      model->create == NULL || model->destroy == NULL || model->run == NULL ||
      model->query == NULL || model->message == NULL)
    return CLI_FAIL(cli, MOEC_E_INVALID_MODEL,
                    "the table of '%s' is not complete", path);
  if (model->abi_version != MOEC_ABI_VERSION)
    return CLI_FAIL(cli, MOEC_E_UNSUPPORTED,
                    "'%s' has ABI version %u, expected %u", path,
                    model->abi_version, MOEC_ABI_VERSION);
  return MOEC_OK;
}

/* What dlopen says of libraries for other machines helps nobody. */
static moec_status_t check_machine(cli_t *cli, const char *path,
                                   const char *shown) {
  Elf64_Ehdr header = {0};
  FILE *file = fopen(path, "rbe");
  if (file == NULL) return MOEC_OK;
  const bool is_elf = fread(&header, sizeof header, 1, file) == 1 &&
                      memcmp(header.e_ident, ELFMAG, SELFMAG) == 0;
  fclose(file);
  const char *arch = target_of_machine(header.e_machine);
  if (!is_elf || strcmp(arch, cpu_arch()) == 0) return MOEC_OK;
  return CLI_FAIL(cli, MOEC_E_CPU, "'%s' is for %s machines, this one is %s",
                  shown, arch, cpu_arch());
}

static moec_status_t load_library(cli_t *cli, const char *path,
                                  const char *shown, loaded_t *loaded) {
  const char *entry =
      cli->options.given[OPTION_entry] ? cli->options.entry : "moec_model";
  if (access(path, R_OK) != 0)
    return CLI_FAIL(cli, MOEC_E_IO, "cannot open '%s': %s", shown,
                    strerror(errno));
  MOEC_TRY(check_machine(cli, path, shown));
  const double start = now_seconds();
  /* dlopen searches for names without a slash. */
  loaded->handle = dlopen(
      strchr(path, '/') != NULL ? path : path_join(cli->arena, ".", path),
      RTLD_NOW | RTLD_LOCAL);
  if (loaded->handle == NULL)
    return CLI_FAIL(cli, MOEC_E_INVALID_MODEL, "cannot load '%s': %s", shown,
                    describe_error());
  moec_model_fn get_model = NULL;
  void *symbol = dlsym(loaded->handle, entry);
  if (symbol == NULL)
    return CLI_FAIL(cli, MOEC_E_INVALID_MODEL,
                    "'%s' is no compiled model: it has no function '%s'", shown,
                    entry);
  memcpy(&get_model, &symbol, sizeof get_model);
  loaded->model = get_model();
  loaded->load_seconds = now_seconds() - start;
  return check_table(cli, shown, loaded->model);
}

/* ---- Compiling for the occasion ------------------------------------------ */

/* The library is unlinked as soon as it is loaded. */
static moec_status_t compile_and_load(cli_t *cli,
                                      const compile_options_t *options,
                                      loaded_t *loaded) {
  compile_options_t to_library = *options;
  const char *base = getenv("TMPDIR");
  if (base == NULL || base[0] == '\0') base = "/tmp";
  char *directory =
      arena_strdup(cli->arena, path_join(cli->arena, base, "moec-XXXXXX"));
  if (mkdtemp(directory) == NULL)
    return CLI_FAIL(cli, MOEC_E_IO, "cannot make a directory in '%s': %s", base,
                    strerror(errno));
  const char *library = path_join(cli->arena, directory, "model.so");
  to_library.output = library;
  moec_status_t status = cli_compile(cli, &to_library);
  if (status == MOEC_OK)
    status = load_library(cli, library, options->model, loaded);
  unlink(library);
  rmdir(directory);
  return status;
}

/* ---- Instances ----------------------------------------------------------- */

/* Why the variant that was asked for cannot be used. */
static void explain_variant(cli_t *cli, const moec_model_t *model,
                            moec_status_t status) {
  const char *wanted = cli->options.variant;
  bool has = false;
  text_t names;
  text_init(&names, cli->arena);
  for (uint32_t i = 0; i < model->n_variants; i++) {
    has |= strcmp(model->variants[i], wanted) == 0;
    text_printf(&names, "%s%s", i > 0 ? ", " : "", model->variants[i]);
  }
  if (has)
    CLI_FAIL(cli, status, "this machine cannot run the variant '%s'", wanted);
  else
    CLI_FAIL(cli, status, "the model has no variant '%s'", wanted);
  diag_note(&cli->diag, (ir_loc_t){0}, "it has: %s", names.data);
}

static moec_status_t create_instance(cli_t *cli, loaded_t *loaded) {
  const options_t *o = &cli->options;
  moec_options_t options = {.struct_size = sizeof options};
  if (o->threads > INT32_MAX)
    return CLI_FAIL(cli, MOEC_E_USAGE, "%lld threads are too many",
                    (long long)o->threads);
  options.n_threads = (int32_t)o->threads;
  options.variant = o->variant;
  const double start = now_seconds();
  moec_status_t status = loaded->model->create(&options, &loaded->instance);
  loaded->create_seconds = now_seconds() - start;
  if (status == MOEC_OK) return MOEC_OK;
  if ((status != MOEC_E_CPU && status != MOEC_E_USAGE) || o->variant == NULL)
    return CLI_FAIL(cli, status, "cannot create an instance: %s",
                    status_text(status));
  explain_variant(cli, loaded->model, status);
  return status;
}

static moec_status_t add(cli_t *cli, loaded_t **out_loaded) {
  loaded_t *loaded = calloc(1, sizeof *loaded);
  if (loaded == NULL) return MOEC_E_NO_MEMORY;
  loaded->next = cli->loaded;
  cli->loaded = loaded;
  *out_loaded = loaded;
  return MOEC_OK;
}

moec_status_t loaded_compile(cli_t *cli, const compile_options_t *options,
                             loaded_t **out_loaded) {
  MOEC_TRY(add(cli, out_loaded));
  MOEC_TRY(compile_and_load(cli, options, *out_loaded));
  return create_instance(cli, *out_loaded);
}

moec_status_t loaded_open(cli_t *cli, const char *path, loaded_t **out_loaded) {
  compile_options_t options;
  if (path_has_suffix(path, ".onnx") || path_has_suffix(path, ".moeir")) {
    MOEC_TRY(cli_compile_options(cli, path, NULL, &options));
    cli_only_variant(cli, &options);
    return loaded_compile(cli, &options, out_loaded);
  }
  MOEC_TRY(add(cli, out_loaded));
  MOEC_TRY(load_library(cli, path, path, *out_loaded));
  return create_instance(cli, *out_loaded);
}

void loaded_close(cli_t *cli, loaded_t *loaded) {
  loaded_t **link = &cli->loaded;
  while (*link != loaded) link = &(*link)->next;
  *link = loaded->next;
  if (loaded->instance != NULL) loaded->model->destroy(loaded->instance);
  if (loaded->handle != NULL) dlclose(loaded->handle);
  free(loaded);
}

void loaded_close_all(cli_t *cli) {
  while (cli->loaded != NULL) loaded_close(cli, cli->loaded);
}

moec_status_t loaded_fail(cli_t *cli, const loaded_t *loaded, const char *where,
                          moec_status_t status) {
  const char *message = loaded->model->message(loaded->instance);
  if (message == NULL || message[0] == '\0') message = status_text(status);
  return diag_error(&cli->diag, (ir_loc_t){.where = where}, status, "%s",
                    message);
}
