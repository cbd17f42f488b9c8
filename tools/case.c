/* Folders with reference data. */
#include "tools/case.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/json.h"
#include "tools/values.h"

moec_status_t case_read_tolerance(cli_t *cli, const char *directory,
                                  test_case_t *out) {
  enum { MAX_BYTES = 16 << 20 };
  const options_t *o = &cli->options;
  const char *path = path_join(cli->arena, directory, "case.json");
  out->tolerance = (tolerance_t){1e-3, 1e-5};
  if (path_exists(path)) {
    const char *text;
    size_t length;
    const json_t *root;
    cli->diag.file = path;
    MOEC_TRY(file_read(cli, path, MAX_BYTES, &text, &length));
    MOEC_TRY(json_parse(cli->arena, text, length, &cli->diag, &root));
    cli->diag.file = NULL;
    const json_t *rtol = json_get(root, "rtol"), *atol = json_get(root, "atol");
    if (rtol != NULL && rtol->kind == JSON_NUMBER)
      out->tolerance.rtol = rtol->number;
    if (atol != NULL && atol->kind == JSON_NUMBER)
      out->tolerance.atol = atol->number;
  }
  if (o->given[OPTION_rtol]) out->tolerance.rtol = o->rtol;
  if (o->given[OPTION_atol]) out->tolerance.atol = o->atol;
  return MOEC_OK;
}

static int compare_sets(const void *a, const void *b) {
  const data_set_t *x = a, *y = b;
  if (x->invalid != y->invalid) return x->invalid ? 1 : -1;
  return x->number < y->number ? -1 : x->number > y->number;
}

static void add_set(arena_t *arena, test_case_t *out, const char *directory,
                    const char *name, const char *digits, bool invalid) {
  char *end;
  errno = 0;
  const unsigned long number = strtoul(digits, &end, 10);
  if (digits[0] < '0' || digits[0] > '9' || *end != '\0' || errno != 0) return;
  out->sets = arena_grow_array(arena, out->sets, out->n_sets, out->n_sets + 1,
                               sizeof *out->sets);
  out->sets[out->n_sets++] =
      (data_set_t){path_join(arena, directory, name), arena_strdup(arena, name),
                   number, invalid};
}

moec_status_t case_find_sets(cli_t *cli, const char *directory,
                             test_case_t *out) {
  static const char valid[] = "test_data_set_", invalid[] = "invalid_data_set_";
  DIR *dir = opendir(directory);
  if (dir == NULL)
    return CLI_FAIL(cli, MOEC_E_IO, "cannot open the directory '%s': %s",
                    directory, strerror(errno));
  for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    const char *name = entry->d_name;
    if (strncmp(name, valid, sizeof valid - 1) == 0)
      add_set(cli->arena, out, directory, name, name + sizeof valid - 1, false);
    else if (strncmp(name, invalid, sizeof invalid - 1) == 0)
      add_set(cli->arena, out, directory, name, name + sizeof invalid - 1,
              true);
  }
  closedir(dir);
  if (out->n_sets == 0 &&
      value_find_file(cli->arena, directory, "output", 0) != NULL) {
    out->sets = ARENA_NEW(cli->arena, data_set_t);
    out->sets[out->n_sets++] = (data_set_t){directory, directory, 0, false};
  }
  if (out->n_sets == 0)
    return CLI_FAIL(cli, MOEC_E_IO,
                    "'%s' has neither a test_data_set_0 nor an output_0.pb",
                    directory);
  qsort(out->sets, out->n_sets, sizeof *out->sets, compare_sets);
  return MOEC_OK;
}
