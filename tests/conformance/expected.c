/* Reads, searches and writes the list of refusals. */
#include "tests/conformance/expected.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b) {
  return strcmp(((const expectation_t *)a)->name,
                ((const expectation_t *)b)->name);
}

static moec_status_t read_line(arena_t *arena, expected_t *e, size_t *room,
                               char *line) {
  line[strcspn(line, "\n")] = '\0';
  if (line[0] == '\0' || line[0] == '#') return MOEC_OK;
  char *colon = strstr(line, ": ");
  if (colon == NULL || colon == line || colon[2] == '\0')
    return MOEC_E_INVALID_MODEL;
  if (e->n_rows == *room) {
    *room = *room == 0 ? 256 : 2 * *room;
    e->rows =
        arena_grow_array(arena, e->rows, e->n_rows, *room, sizeof *e->rows);
  }
  e->rows[e->n_rows++] = (expectation_t){
      .name = arena_strndup(arena, line, (size_t)(colon - line)),
      .words = arena_strdup(arena, colon + 2)};
  return MOEC_OK;
}

moec_status_t expected_read(arena_t *arena, const char *path,
                            expected_t *out_expected, unsigned *out_line) {
  *out_expected = (expected_t){0};
  *out_line = 0;
  FILE *file = fopen(path, "r");
  if (file == NULL) return MOEC_E_IO;
  moec_status_t status = MOEC_OK;
  char *line = NULL;
  size_t line_room = 0, room = 0;
  while (status == MOEC_OK && getline(&line, &line_room, file) > 0) {
    ++*out_line;
    status = read_line(arena, out_expected, &room, line);
  }
  if (status == MOEC_OK && ferror(file)) status = MOEC_E_IO;
  free(line);
  fclose(file);
  if (out_expected->n_rows > 0)
    qsort(out_expected->rows, out_expected->n_rows, sizeof *out_expected->rows,
          by_name);
  for (size_t i = 1; status == MOEC_OK && i < out_expected->n_rows; i++)
    if (by_name(&out_expected->rows[i - 1], &out_expected->rows[i]) == 0)
      status = MOEC_E_INVALID_MODEL;
  return status;
}

expectation_t *expected_find(const expected_t *expected, const char *name) {
  if (expected->n_rows == 0) return NULL;
  const expectation_t key = {.name = name};
  return bsearch(&key, expected->rows, expected->n_rows, sizeof key, by_name);
}

moec_status_t expected_write(const char *path, const suite_t *suite,
                             const outcome_t *outcomes,
                             const selection_t *selection,
                             const expected_t *old) {
  FILE *file = fopen(path, "w");
  if (file == NULL) return MOEC_E_IO;
  fprintf(
      file,
      "# Cases of the ONNX backend suite that moec refuses, and its words.\n"
      "# Written by conformance_runner --update.\n");
  size_t i = 0, j = 0;
  while (i < suite->n_cases || j < old->n_rows) {
    if (j < old->n_rows && suite_selects(selection, old->rows[j].name)) {
      j++; /* decided anew */
    } else if (i < suite->n_cases && outcomes[i].result != RESULT_REFUSED) {
      i++;
    } else if (j == old->n_rows ||
               (i < suite->n_cases &&
                strcmp(suite->cases[i].name, old->rows[j].name) < 0)) {
      fprintf(file, "%s: %s\n", suite->cases[i].name, outcomes[i].words);
      i++;
    } else {
      fprintf(file, "%s: %s\n", old->rows[j].name, old->rows[j].words);
      j++;
    }
  }
  const bool failed = ferror(file) != 0;
  return fclose(file) != 0 || failed ? MOEC_E_IO : MOEC_OK;
}
