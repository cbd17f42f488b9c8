/* Finds the cases of a folder and reads how each is judged. */
#include "tests/conformance/case.h"

#include <dirent.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the suite uses where a case says nothing. */
#define USUAL_RTOL 1e-3
#define USUAL_ATOL 1e-7

/* FNV-1a: the tenths must be the same on every machine. */
static unsigned tenth_of(const char *name) {
  uint64_t hash = 14695981039346656037u;
  for (const char *p = name; *p != '\0'; p++)
    hash = (hash ^ (unsigned char)*p) * 1099511628211u;
  return (unsigned)((hash >> 32) % 10);
}

bool suite_selects(const selection_t *selection, const char *name) {
  if (selection->tenth >= 0 && tenth_of(name) != (unsigned)selection->tenth)
    return false;
  return selection->filter == NULL || fnmatch(selection->filter, name, 0) == 0;
}

static const char *read_file(arena_t *arena, const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return NULL;
  text_t text;
  text_init(&text, arena);
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;)
    text_append(&text, buffer, n);
  bool failed = ferror(file) != 0;
  fclose(file);
  return failed ? NULL : text.data;
}

/* The text after "key": at any depth; good enough for files of ours. */
static const char *find_value(const char *json, const char *key) {
  const size_t length = strlen(key);
  for (const char *p = json; (p = strchr(p, '"')) != NULL; p++) {
    if (strncmp(p + 1, key, length) != 0 || p[1 + length] != '"') continue;
    p += length + 2;
    p += strspn(p, " \t\r\n");
    if (*p == ':') return p + 1 + strspn(p + 1, " \t\r\n");
  }
  return NULL;
}

static double number_of(const char *json, const char *key, double usual) {
  const char *value = find_value(json, key);
  if (value == NULL) return usual;
  char *end = NULL;
  double number = strtod(value, &end);
  return end != value ? number : usual;
}

static const char *string_of(arena_t *arena, const char *json, const char *key,
                             const char *usual) {
  const char *value = find_value(json, key);
  if (value == NULL || *value != '"') return usual;
  return arena_strndup(arena, value + 1, strcspn(value + 1, "\""));
}

static void describe(arena_t *arena, suite_case_t *c) {
  const char *json =
      read_file(arena, arena_printf(arena, "%s/case.json", c->directory));
  if (json == NULL) json = "";
  c->rtol = number_of(json, "rtol", USUAL_RTOL);
  c->atol = number_of(json, "atol", USUAL_ATOL);
  c->operator_name = string_of(arena, json, "operator", "?");
  c->types_only = strcmp(string_of(arena, json, "compare", ""), "type") == 0;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const suite_case_t *)a)->name,
                ((const suite_case_t *)b)->name);
}

moec_status_t suite_read(arena_t *arena, const char *directory,
                         const selection_t *selection, suite_t *out_suite) {
  *out_suite = (suite_t){0};
  DIR *folder = opendir(directory);
  if (folder == NULL) return MOEC_E_IO;
  size_t room = 0;
  for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    const char *path = arena_printf(arena, "%s/%s", directory, entry->d_name);
    if (entry->d_name[0] == '.' ||
        access(arena_printf(arena, "%s/model.onnx", path), R_OK) != 0)
      continue;
    out_suite->n_found++;
    if (!suite_selects(selection, entry->d_name)) continue;
    if (out_suite->n_cases == room) {
      room = room == 0 ? 256 : 2 * room;
      out_suite->cases =
          arena_grow_array(arena, out_suite->cases, out_suite->n_cases, room,
                           sizeof *out_suite->cases);
    }
    suite_case_t *c = &out_suite->cases[out_suite->n_cases++];
    *c = (suite_case_t){.name = arena_strdup(arena, entry->d_name),
                        .directory = path};
    describe(arena, c);
  }
  closedir(folder);
  if (out_suite->n_cases > 0)
    qsort(out_suite->cases, out_suite->n_cases, sizeof *out_suite->cases,
          by_name);
  return MOEC_OK;
}
