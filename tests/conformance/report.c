/* Writes outcomes as JSON and as lines. */
#include "tests/conformance/report.h"

#include <math.h>

static void write_string(FILE *file, const char *text) {
  fputc('"', file);
  for (const char *p = text; *p != '\0'; p++) {
    if (*p == '"' || *p == '\\')
      fprintf(file, "\\%c", *p);
    else if ((unsigned char)*p < 0x20)
      fprintf(file, "\\u%04x", (unsigned)*p);
    else
      fputc(*p, file);
  }
  fputc('"', file);
}

static void write_outcome(FILE *file, const suite_case_t *c,
                          const outcome_t *out) {
  fprintf(file, "{\"case\": ");
  write_string(file, c->name);
  fprintf(file, ", \"operator\": ");
  write_string(file, c->operator_name);
  fprintf(file, ", \"result\": \"%s\", \"words\": ", result_word(out->result));
  write_string(file, out->words);
  fprintf(file, ", \"seconds\": %.3f, \"peak_kib\": %ld, \"ulp\": {",
          out->seconds, out->peak_kib);
  const char *comma = "";
  for (unsigned t = 0; t < COMPARE_DTYPES; t++) {
    if (!(out->ulp[t] >= 0)) continue;
    fprintf(file, "%s\"%s\": %.4g", comma, dtype_name((dtype_t)t),
            isfinite(out->ulp[t]) ? out->ulp[t] : -1.0);
    comma = ", ";
  }
  fprintf(file, "}}");
}

moec_status_t report_write(const char *path, const suite_t *suite,
                           const outcome_t *outcomes) {
  FILE *file = fopen(path, "w");
  if (file == NULL) return MOEC_E_IO;
  for (size_t i = 0; i < suite->n_cases; i++) {
    fputs(i == 0 ? "[\n" : ",\n", file);
    write_outcome(file, &suite->cases[i], &outcomes[i]);
  }
  fputs("\n]\n", file);
  const bool failed = ferror(file) != 0;
  return fclose(file) != 0 || failed ? MOEC_E_IO : MOEC_OK;
}

void report_ulp(const suite_t *suite, const outcome_t *outcomes, FILE *out) {
  for (unsigned t = 0; t < COMPARE_DTYPES; t++) {
    double worst = -1;
    const char *name = "";
    for (size_t i = 0; i < suite->n_cases; i++)
      if (outcomes[i].result == RESULT_PASS && outcomes[i].ulp[t] > worst)
        worst = outcomes[i].ulp[t], name = suite->cases[i].name;
    if (worst >= 0)
      fprintf(out, "worst distance in %s: %.4g ULP (%s)\n",
              dtype_name((dtype_t)t), worst, name);
  }
}
