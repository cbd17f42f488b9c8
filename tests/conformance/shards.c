/* Forks a process per case, so that a crash, a hang or growth is one case's
 * own, and reads its outcome from shared memory. */
#include "tests/conformance/shards.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

enum { MAX_SHARDS = 64 };

typedef struct shard {
  pid_t pid;    /* 0: idle */
  size_t index; /* of its case */
  double started;
  bool overdue; /* was killed for taking too long */
  int output;   /* memory file of its standard output and error */
} shard_t;

typedef struct crew {
  const suite_t *suite;
  const attempt_options_t *options;
  const limits_t *limits;
  const char *scratch;
  outcome_t *outcomes;
  shard_t shards[MAX_SHARDS];
  unsigned n_shards, n_busy;
} crew_t;

/* Finds what was not released; there with the address sanitizer only. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void set_limit(int resource, rlim_t value) {
  const struct rlimit limit = {value, value};
  setrlimit(resource, &limit);
}

static _Noreturn void be_child(const crew_t *crew, const shard_t *shard) {
  dup2(shard->output, STDOUT_FILENO);
  dup2(shard->output, STDERR_FILENO);
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_CPU, crew->limits->cpu_seconds);
  /* The address sanitizer reserves terabytes; it has a limit of its own. */
  if (!UNDER_ASAN) set_limit(RLIMIT_AS, crew->limits->memory_bytes);
  char library[4096];
  snprintf(library, sizeof library, "%s/%zu.so", crew->scratch, shard->index);
  attempt(&crew->suite->cases[shard->index], crew->options, library,
          &crew->outcomes[shard->index]);
  const bool leaks = __lsan_do_recoverable_leak_check != NULL &&
                     __lsan_do_recoverable_leak_check() != 0;
  _exit(leaks ? 23 : 0);
}

static bool begin(crew_t *crew, shard_t *shard, size_t index) {
  shard->index = index;
  shard->overdue = false;
  if (ftruncate(shard->output, 0) != 0) return false;
  lseek(shard->output, 0, SEEK_SET);
  fflush(NULL);
  shard->pid = fork();
  if (shard->pid == 0) be_child(crew, shard);
  if (shard->pid < 0) {
    shard->pid = 0;
    return false;
  }
  shard->started = now();
  crew->n_busy++;
  return true;
}

/* The last line that a dying process wrote. */
static void last_line(const shard_t *shard, char *line, size_t room) {
  char text[2048];
  const off_t end = lseek(shard->output, 0, SEEK_END);
  const off_t from =
      end > (off_t)sizeof text - 1 ? end - (off_t)sizeof text + 1 : 0;
  const ssize_t n = pread(shard->output, text, sizeof text - 1, from);
  line[0] = '\0';
  if (n <= 0) return;
  text[n] = '\0';
  while (strlen(text) > 0 && text[strlen(text) - 1] == '\n')
    text[strlen(text) - 1] = '\0';
  const char *start = strrchr(text, '\n');
  snprintf(line, room, "%s", start != NULL ? start + 1 : text);
}

static bool tells_of_memory(const char *line) {
  return strstr(line, "out of memory") != NULL ||
         strstr(line, "bad_alloc") != NULL ||
         strstr(line, "annot allocate") != NULL ||
         strstr(line, "rss limit exhausted") != NULL;
}

static void judge_death(const shard_t *shard, int status, outcome_t *out) {
  char line[400];
  last_line(shard, line, sizeof line);
  if (shard->overdue || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)) {
    out->result = RESULT_TIMEOUT;
    snprintf(out->words, sizeof out->words, "during %s", out->stage);
    return;
  }
  out->result = tells_of_memory(line) ? RESULT_MEMORY : RESULT_CRASH;
  if (WIFSIGNALED(status))
    snprintf(out->words, sizeof out->words, "%s during %s%s%s",
             strsignal(WTERMSIG(status)), out->stage,
             line[0] != '\0' ? ": " : "", line);
  else
    snprintf(out->words, sizeof out->words, "exit %d during %s%s%s",
             WEXITSTATUS(status), out->stage, line[0] != '\0' ? ": " : "",
             line);
}

static double seconds_of(const struct timeval *t) {
  return (double)t->tv_sec + 1e-6 * (double)t->tv_usec;
}

static void finish(crew_t *crew, shard_t *shard, int status,
                   const struct rusage *usage) {
  outcome_t *out = &crew->outcomes[shard->index];
  out->seconds = seconds_of(&usage->ru_utime) + seconds_of(&usage->ru_stime);
  out->peak_kib = usage->ru_maxrss;
  if (status != 0 || out->result == RESULT_RUNNING)
    judge_death(shard, status, out);
  shard->pid = 0;
  crew->n_busy--;
}

static void look_after(crew_t *crew) {
  for (unsigned i = 0; i < crew->n_shards; i++) {
    shard_t *shard = &crew->shards[i];
    if (shard->pid == 0) continue;
    int status;
    struct rusage usage;
    const pid_t done = wait4(shard->pid, &status, WNOHANG, &usage);
    if (done == shard->pid) {
      finish(crew, shard, status, &usage);
    } else if (!shard->overdue &&
               now() - shard->started > crew->limits->wall_seconds) {
      shard->overdue = true;
      kill(shard->pid, SIGKILL);
    }
  }
}

static shard_t *idle_shard(crew_t *crew) {
  for (unsigned i = 0; i < crew->n_shards; i++)
    if (crew->shards[i].pid == 0) return &crew->shards[i];
  return NULL;
}

static moec_status_t run_crew(crew_t *crew) {
  const struct timespec pause = {0, 1000000};
  size_t next = 0;
  while (next < crew->suite->n_cases || crew->n_busy > 0) {
    shard_t *shard = idle_shard(crew);
    if (shard != NULL && next < crew->suite->n_cases) {
      if (!begin(crew, shard, next++)) return MOEC_E_IO;
      continue;
    }
    look_after(crew);
    if (idle_shard(crew) == NULL || next == crew->suite->n_cases)
      nanosleep(&pause, NULL);
  }
  return MOEC_OK;
}

moec_status_t attempt_all(const suite_t *suite,
                          const attempt_options_t *options,
                          const limits_t *limits, const char *scratch,
                          outcome_t **out_outcomes) {
  crew_t crew = {
      .suite = suite, .options = options, .limits = limits, .scratch = scratch};
  *out_outcomes = NULL;
  const size_t bytes = (suite->n_cases + 1) * sizeof *crew.outcomes;
  void *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return MOEC_E_NO_MEMORY;
  crew.outcomes = shared;
  crew.n_shards = limits->n_shards < MAX_SHARDS ? limits->n_shards : MAX_SHARDS;
  moec_status_t status = MOEC_OK;
  for (unsigned i = 0; i < crew.n_shards; i++) {
    crew.shards[i].output = memfd_create("output", MFD_CLOEXEC);
    if (crew.shards[i].output < 0) status = MOEC_E_IO;
  }
  if (status == MOEC_OK) status = run_crew(&crew);
  for (unsigned i = 0; i < crew.n_shards; i++)
    if (crew.shards[i].output >= 0) close(crew.shards[i].output);
  *out_outcomes = crew.outcomes;
  return status;
}
