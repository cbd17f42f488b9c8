/* The table of --time-passes. */
#include "tools/cli.h"

static double total(const timings_t *timings, timing_kind_t kind) {
  double sum = 0;
  for (const timing_t *row = timings->first; row != NULL; row = row->next)
    if (row->kind == kind) sum += row->seconds;
  return sum;
}

static void print_row(FILE *out, double seconds, double all, const char *indent,
                      const char *name) {
  fprintf(out, "%12.3f  %5.1f  %s%s", seconds * 1e3,
          all > 0 ? 100 * seconds / all : 0, indent, name);
}

/* The rows in [first, stage), which are its parts. */
static void print_parts(FILE *out, const timing_t *first, const timing_t *stage,
                        double all) {
  for (const timing_t *row = first; row != stage; row = row->next) {
    if (row->kind == TIMING_PASS) {
      print_row(out, row->seconds, all, "  ", row->name);
      if (row->rewrites > 0) fprintf(out, ", %ld rewrites", row->rewrites);
      fprintf(out, "\n");
    } else {
      fprintf(out,
              "%12s  %5s    %s: %.3f ms of processor time (build %.3f, "
              "optimise %.3f, generate %.3f)",
              "", "", row->name, row->seconds * 1e3, row->emit * 1e3,
              row->optimise * 1e3, row->generate * 1e3);
      if (row->n_kernels > 0) fprintf(out, ", %u kernels", row->n_kernels);
      fprintf(out, "\n");
    }
  }
}

void cli_print_timings(const cli_t *cli, const timings_t *timings) {
  if (timings == NULL || timings->first == NULL) return;
  double all = total(timings, TIMING_STAGE);
  if (all == 0) all = total(timings, TIMING_PASS); /* passes alone */
  const timing_t *first = timings->first;
  fprintf(cli->err, "%12s  %5s\n", "time in ms", "%");
  for (const timing_t *row = first; row != NULL; row = row->next) {
    if (row->kind != TIMING_STAGE) continue;
    print_row(cli->err, row->seconds, all, "", row->name);
    fprintf(cli->err, "\n");
    print_parts(cli->err, first, row, all);
    first = row->next;
  }
  print_parts(cli->err, first, NULL, all);
  print_row(cli->err, all, all, "", "total\n");
}
