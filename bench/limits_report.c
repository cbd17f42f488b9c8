/* Prints the limits of this machine: `limits [--json]`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/limits.h"

enum { REPEATS = 7 };

typedef struct row {
  char name[48];
  const char *unit;
  double one, all; /* threads; 0 where it makes no sense */
} row_t;

/* Takes one and all threads alternately; the medians. */
static row_t measure_kind(const limits_kind_t *kind, unsigned threads) {
  row_t row = {.unit = "Gop/s"};
  double one[REPEATS], all[REPEATS];
  snprintf(row.name, sizeof row.name, "%s %s, %u bit", kind->name,
           kind->fused ? "fused" : "mul + add", kind->bits);
  for (int i = 0; i < REPEATS; i++) {
    one[i] = limits_operations(kind, 1, 0.02) * 1e-9;
    all[i] = limits_operations(kind, threads, 0.02) * 1e-9;
  }
  row.one = limits_median(one, REPEATS);
  row.all = limits_median(all, REPEATS);
  return row;
}

static row_t measure_read(unsigned threads) {
  row_t row = {.name = "memory read, sequential", .unit = "GB/s"};
  double one[REPEATS], all[REPEATS];
  size_t bytes = limits_uncached_bytes();
  void *data = limits_buffer(bytes);
  for (int i = 0; i < REPEATS; i++) {
    one[i] = limits_read(data, bytes, 1, 1) * 1e-9;
    all[i] = limits_read(data, bytes, threads, 1) * 1e-9;
  }
  free(data);
  row.one = limits_median(one, REPEATS);
  row.all = limits_median(all, REPEATS);
  return row;
}

static void print_row(const row_t *row, bool json, bool last) {
  if (json)
    printf(
        "  {\"name\": \"%s\", \"unit\": \"%s\", \"one\": %.4g, \"all\": "
        "%.4g}%s\n",
        row->name, row->unit, row->one, row->all, last ? "" : ",");
  else
    printf("%-28s %9.4g %9.4g %s\n", row->name, row->one, row->all, row->unit);
}

int main(int argc, char **argv) {
  bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
  if (argc > 1 && !json) {
    fprintf(stderr, "usage: limits [--json]\n");
    return 2;
  }
  unsigned threads = limits_processors();
  if (json)
    printf("{\"threads\": %u, \"limits\": [\n", threads);
  else
    printf("%-28s %9s %6u thr\n", "limit", "1 thread", threads);
  for (size_t i = 0; i < limits_kind_count(); i++) {
    if (!limits_kind_at(i)->available()) continue;
    row_t row = measure_kind(limits_kind_at(i), threads);
    print_row(&row, json, false);
  }
  row_t read = measure_read(threads);
  print_row(&read, json, threads < 2);
  if (threads > 1) {
    row_t fork = {.name = "fork and join, spinning", .unit = "us"};
    fork.all = limits_fork_join(20000) * 1e6;
    print_row(&fork, json, true);
  }
  if (json) printf("]}\n");
  return 0;
}
