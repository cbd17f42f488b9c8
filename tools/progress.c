/* Stages of a compilation on a terminal; times and sizes as text. */
#include <sys/resource.h>
#include <time.h>

#include "tools/cli.h"

double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t peak_memory(void) {
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return (uint64_t)usage.ru_maxrss * 1024; /* Linux counts KiB */
}

const char *bytes_text(uint64_t bytes, char *out) {
  static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) {
    snprintf(out, 24, "%u B", (unsigned)bytes);
    return out;
  }
  double value = (double)bytes / 1024;
  unsigned unit = 0;
  while (value >= 1023.95 && unit < 3) {
    value /= 1024;
    unit++;
  }
  snprintf(out, 24, "%.1f %s", value, units[unit]);
  return out;
}

void progress_begin(progress_t *progress, const cli_t *cli) {
  const options_t *o = &cli->options;
  const bool wanted = o->verbose || (cli->terminal && !o->quiet);
  *progress = (progress_t){.to = wanted ? cli->err : NULL,
                           .terminal = cli->terminal,
                           .color = cli->color};
  progress->start = now_seconds();
}

static void print_line(const progress_t *p, const char *name, double seconds) {
  char memory[24];
  fprintf(p->to, "%s%s%-12s%s %8.3f s  peak %s\n",
          p->terminal ? "\r\033[K" : "", p->color ? "\033[1m" : "", name,
          p->color ? "\033[0m" : "", seconds,
          bytes_text(peak_memory(), memory));
}

static void end_stage(progress_t *p, double now) {
  if (p->stage != NULL) print_line(p, p->stage, now - p->stage_start);
  p->stage = NULL;
}

void progress_stage(void *progress, const char *stage) {
  progress_t *p = progress;
  if (p->to == NULL) return;
  const double now = now_seconds();
  end_stage(p, now);
  p->stage = stage;
  p->stage_start = now;
  if (p->terminal) fprintf(p->to, "%s ...", stage);
  fflush(p->to);
}

void progress_end(progress_t *progress) {
  if (progress->to == NULL) return;
  const double now = now_seconds();
  end_stage(progress, now);
  print_line(progress, "total", now - progress->start);
  fflush(progress->to);
  progress->to = NULL;
}
