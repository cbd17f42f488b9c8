/* moec doctor: what this machine can do, and what may be in the way. */
#include <fcntl.h>
#include <llvm-c/Core.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "backend/cpu.h"
#include "tools/cli.h"
#include "tools/json.h"
#include "tools/targets.h"

/* Lines of "name: value", or members of a JSON object. */
typedef struct report {
  cli_t *cli;
  text_t out;
  unsigned n_problems;
} report_t;

static void add(report_t *r, const char *name, const char *value) {
  if (!r->cli->options.json) {
    text_printf(&r->out, "%-20s ", name);
    diag_escape(&r->out, value, strlen(value));
    text_printf(&r->out, "\n");
    return;
  }
  text_printf(&r->out, "%s", r->out.length > 1 ? "," : "");
  json_write_string(name, &r->out);
  text_printf(&r->out, ":");
  json_write_string(value, &r->out);
}

static void problem(report_t *r, const char *name, const char *value) {
  r->n_problems++;
  add(r, name, value);
}

/* The first line of a file of the system, "" if there is none. */
static const char *first_line(arena_t *arena, const char *path) {
  char line[4096] = "";
  FILE *file = fopen(path, "re");
  if (file == NULL) return "";
  if (fgets(line, sizeof line, file) == NULL) line[0] = '\0';
  fclose(file);
  line[strcspn(line, "\n")] = '\0';
  return arena_strdup(arena, line);
}

/* ---- Processor ----------------------------------------------------------- */

static const char *processor_name(arena_t *arena) {
  char line[512];
  const char *name = "unknown";
  FILE *file = fopen("/proc/cpuinfo", "re");
  if (file == NULL) return name;
  while (fgets(line, sizeof line, file) != NULL) {
    const char *colon = strchr(line, ':');
    if (colon == NULL || strncmp(line, "model name", 10) != 0) continue;
    line[strcspn(line, "\n")] = '\0';
    name = arena_strdup(arena, colon[1] == ' ' ? colon + 2 : colon + 1);
    break;
  }
  fclose(file);
  return name;
}

static void add_variants(report_t *r) {
  arena_t *arena = r->cli->arena;
  const isa_t *best = targets_best();
  for (unsigned i = 0; i < isa_count(); i++) {
    bool generated;
    const isa_t *isa = isa_at(i);
    const char *name = arena_printf(arena, "variant %s", isa->name);
    const char *obstacle = targets_obstacle(arena, isa, &generated);
    if (!generated)
      problem(r, name, obstacle);
    else if (obstacle != NULL)
      add(r, name, arena_printf(arena, "code can be generated, %s", obstacle));
    else
      add(r, name, "code can be generated and run");
  }
  add(r, "variant used",
      best != NULL ? best->name : "none: models do not run here");
}

static void add_processor(report_t *r) {
  struct utsname system;
  arena_t *arena = r->cli->arena;
  if (uname(&system) != 0) memset(&system, 0, sizeof system);
  add(r, "system",
      arena_printf(arena, "%s %s %s", system.sysname, system.release,
                   system.machine));
  add(r, "processor", processor_name(arena));
  add(r, "features", targets_features(arena, cpu_features()));
  add_variants(r);
}

/* ---- Threads and memory -------------------------------------------------- */

static void add_threads(report_t *r) {
  arena_t *arena = r->cli->arena;
  add(r, "threads",
      arena_printf(arena, "%d of %ld processors may be used", cpu_count(),
                   sysconf(_SC_NPROCESSORS_ONLN)));
  unsigned long long quota, period;
  const char *text = first_line(arena, "/sys/fs/cgroup/cpu.max");
  if (sscanf(text, "%llu %llu", &quota, &period) == 2 && period > 0)
    add(r, "processor quota",
        arena_printf(arena, "%.2f processors; give --threads to match it",
                     (double)quota / (double)period));
}

static void add_caches(report_t *r) {
  arena_t *arena = r->cli->arena;
  for (unsigned i = 0; i < 16; i++) {
    const char *directory =
        arena_printf(arena, "/sys/devices/system/cpu/cpu0/cache/index%u", i);
    if (!path_is_directory(directory)) break;
    const char *level = first_line(arena, path_join(arena, directory, "level"));
    const char *type = first_line(arena, path_join(arena, directory, "type"));
    const char *size = first_line(arena, path_join(arena, directory, "size"));
    const char *shared =
        first_line(arena, path_join(arena, directory, "shared_cpu_list"));
    add(r,
        arena_printf(arena, "cache L%s %s", level,
                     strcmp(type, "Unified") == 0 ? "" : type),
        arena_printf(arena, "%s, shared by processors %s", size, shared));
  }
}

static void add_memory(report_t *r) {
  arena_t *arena = r->cli->arena;
  char total[24], free_now[24];
  const long page = sysconf(_SC_PAGESIZE);
  add(r, "memory",
      arena_printf(
          arena, "%s, %s free",
          bytes_text((uint64_t)page * (uint64_t)sysconf(_SC_PHYS_PAGES), total),
          bytes_text((uint64_t)page * (uint64_t)sysconf(_SC_AVPHYS_PAGES),
                     free_now)));
  add(r, "page", arena_printf(arena, "%ld bytes", page));
  const char *huge =
      first_line(arena, "/sys/kernel/mm/transparent_hugepage/enabled");
  if (huge[0] != '\0') add(r, "huge pages", huge);
}

/* ---- Limits -------------------------------------------------------------- */

static void add_limit(report_t *r, const char *name, int resource) {
  struct rlimit limit;
  char text[24];
  if (getrlimit((__rlimit_resource_t)resource, &limit) != 0) return;
  add(r, name,
      limit.rlim_cur == RLIM_INFINITY ? "unlimited"
                                      : bytes_text(limit.rlim_cur, text));
}

/* 'moec verify model.onnx' loads a library from there. */
static void add_temporary(report_t *r) {
  arena_t *arena = r->cli->arena;
  struct statvfs info;
  char available[24];
  const char *path = getenv("TMPDIR");
  if (path == NULL || path[0] == '\0') path = "/tmp";
  if (statvfs(path, &info) != 0 || access(path, W_OK | X_OK) != 0) {
    problem(r, "temporary files",
            arena_printf(arena, "'%s' cannot be written: set TMPDIR", path));
    return;
  }
  if ((info.f_flag & ST_NOEXEC) != 0)
    problem(r, "temporary files",
            arena_printf(arena,
                         "'%s' is mounted noexec, libraries in it cannot be "
                         "loaded: set TMPDIR",
                         path));
  else
    add(r, "temporary files",
        arena_printf(
            arena, "%s, %s available", path,
            bytes_text((uint64_t)info.f_bavail * info.f_frsize, available)));
}

static void add_limits(report_t *r) {
  arena_t *arena = r->cli->arena;
  add_limit(r, "limit of addresses", RLIMIT_AS);
  add_limit(r, "limit of stack", RLIMIT_STACK);
  add_temporary(r);
  add(r, "limits of moec",
      arena_printf(arena,
                   "%d dimensions; model files of 2 GiB with external data of "
                   "any size",
                   IR_MAX_RANK));
}

moec_status_t cmd_doctor(cli_t *cli) {
  report_t r = {.cli = cli};
  unsigned major, minor, patch;
  text_init(&r.out, cli->arena);
  LLVMGetVersion(&major, &minor, &patch);
  if (cli->options.json) text_printf(&r.out, "{");
  add(&r, "moec", MOEC_VERSION);
  add(&r, "LLVM", arena_printf(cli->arena, "%u.%u.%u", major, minor, patch));
  add_processor(&r);
  add_threads(&r);
  add_caches(&r);
  add_memory(&r);
  add_limits(&r);
  if (cli->options.json)
    text_printf(&r.out, ",\"problems\":%u}\n", r.n_problems);
  fputs(r.out.data, cli->out);
  return r.n_problems == 0 ? MOEC_OK
                           : CLI_FAIL(cli, MOEC_E_UNSUPPORTED,
                                      "problems were found: %u", r.n_problems);
}
