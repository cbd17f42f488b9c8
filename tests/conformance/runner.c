/* conformance_runner: judges the compiler by a folder of cases. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/conformance/expected.h"
#include "tests/conformance/report.h"
#include "tests/conformance/shards.h"

static const char usage[] =
    "usage: conformance_runner --cases DIR [options]\n"
    "  --filter GLOB    only cases of matching names\n"
    "  --tenth N        only the N-th tenth (0..9) of the names, by hash\n"
    "  --expected FILE  the refusals that are known; others are failures, and "
    "so\n"
    "                   is a known one that does not happen\n"
    "  --update         write FILE anew instead of checking it\n"
    "  --report FILE    write all outcomes as JSON\n"
    "  --shards N       processes at once [1]\n"
    "  --threads N      threads of an instance [2]\n"
    "  --isa LIST       compile these variants only\n"
    "  --variant NAME   run this variant only [each that the machine has]\n"
    "  --level N        -O level [2]\n"
    "  --no-passes      --level 0\n"
    "  --seconds N      processor time for a case [20]; wall-clock time is "
    "six\n"
    "                   times that\n"
    "  --memory MIB     address space for a case [4096]\n"
    "  --verbose        name each case, not only those that fail\n"
    "  --ulp            show the worst distance of each float type\n"
    "Exit status 0 when nothing failed, 1 when something did, 2 for wrong "
    "usage.\n";

typedef struct settings {
  const char *cases, *expected, *report;
  bool update, verbose, ulp;
  selection_t selection;
  attempt_options_t attempt;
  limits_t limits;
} settings_t;

typedef struct tally {
  size_t n[RESULT_COUNT];
  size_t n_failed; /* not as expected */
} tally_t;

/* ---- Options ------------------------------------------------------------- */

enum {
  OPT_CASES = 1,
  OPT_FILTER,
  OPT_TENTH,
  OPT_EXPECTED,
  OPT_UPDATE,
  OPT_REPORT,
  OPT_SHARDS,
  OPT_THREADS,
  OPT_ISA,
  OPT_VARIANT,
  OPT_LEVEL,
  OPT_NO_PASSES,
  OPT_SECONDS,
  OPT_MEMORY,
  OPT_VERBOSE,
  OPT_ULP
};

static const struct option long_options[] = {
    {"cases", required_argument, NULL, OPT_CASES},
    {"filter", required_argument, NULL, OPT_FILTER},
    {"tenth", required_argument, NULL, OPT_TENTH},
    {"expected", required_argument, NULL, OPT_EXPECTED},
    {"update", no_argument, NULL, OPT_UPDATE},
    {"report", required_argument, NULL, OPT_REPORT},
    {"shards", required_argument, NULL, OPT_SHARDS},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"isa", required_argument, NULL, OPT_ISA},
    {"variant", required_argument, NULL, OPT_VARIANT},
    {"level", required_argument, NULL, OPT_LEVEL},
    {"no-passes", no_argument, NULL, OPT_NO_PASSES},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"ulp", no_argument, NULL, OPT_ULP},
    {NULL, 0, NULL, 0}};

static bool number_within(const char *text, long low, long high, long *out) {
  char *end = NULL;
  *out = strtol(text, &end, 10);
  return end != text && *end == '\0' && *out >= low && *out <= high;
}

static bool set_number(settings_t *s, int option, const char *text) {
  long n;
  const bool good =
      number_within(text, option == OPT_TENTH || option == OPT_LEVEL ? 0 : 1,
                    option == OPT_TENTH    ? 9
                    : option == OPT_LEVEL  ? 3
                    : option == OPT_MEMORY ? 1 << 20
                                           : 10000,
                    &n);
  if (!good) return false;
  switch (option) {
    case OPT_TENTH:
      s->selection.tenth = (int)n;
      break;
    case OPT_SHARDS:
      s->limits.n_shards = (unsigned)n;
      break;
    case OPT_THREADS:
      s->attempt.n_threads = (int)n;
      break;
    case OPT_LEVEL:
      s->attempt.level = (int)n;
      break;
    case OPT_MEMORY:
      s->limits.memory_bytes = (size_t)n << 20;
      break;
    default:
      s->limits.cpu_seconds = (unsigned)n;
      s->limits.wall_seconds = 6 * (unsigned)n;
  }
  return true;
}

static bool set_option(settings_t *s, int option, const char *text) {
  switch (option) {
    case OPT_CASES:
      s->cases = text;
      return true;
    case OPT_FILTER:
      s->selection.filter = text;
      return true;
    case OPT_EXPECTED:
      s->expected = text;
      return true;
    case OPT_UPDATE:
      s->update = true;
      return true;
    case OPT_REPORT:
      s->report = text;
      return true;
    case OPT_ISA:
      s->attempt.isas = text;
      return true;
    case OPT_VARIANT:
      s->attempt.variant = text;
      return true;
    case OPT_NO_PASSES:
      s->attempt.level = 0;
      return true;
    case OPT_VERBOSE:
      s->verbose = true;
      return true;
    case OPT_ULP:
      s->ulp = true;
      return true;
    case '?':
      return false;
    default:
      return set_number(s, option, text);
  }
}

static bool parse_options(settings_t *s, int argc, char **argv) {
  *s = (settings_t){.selection = {.tenth = -1},
                    .attempt = {.level = 2, .n_threads = 2},
                    .limits = {1, 20, 120, (size_t)4096 << 20}};
  for (int option;
       (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;)
    if (!set_option(s, option, optarg)) return false;
  return optind == argc && s->cases != NULL &&
         (!s->update || s->expected != NULL);
}

/* ---- Judging ------------------------------------------------------------- */

static void fail(tally_t *tally, const char *name, const char *what,
                 const char *words) {
  printf("FAIL %s: %s: %s\n", name, what, words);
  tally->n_failed++;
}

static void judge(const settings_t *s, const expected_t *expected,
                  const suite_case_t *c, const outcome_t *out, tally_t *tally) {
  expectation_t *known = expected_find(expected, c->name);
  if (known != NULL) known->met = true;
  tally->n[out->result]++;
  const bool checked = s->expected != NULL && !s->update;
  if (out->result == RESULT_PASS) {
    if (checked && known != NULL)
      fail(tally, c->name, "passes, but is listed as refused", known->words);
    else if (s->verbose)
      printf("pass %s (%.2f s, %ld MiB)\n", c->name, out->seconds,
             out->peak_kib >> 10);
  } else if (out->result != RESULT_REFUSED) {
    fail(tally, c->name, result_word(out->result), out->words);
  } else if (!checked) {
    if (s->verbose || !s->update)
      printf("refused %s: %s\n", c->name, out->words);
  } else if (known == NULL) {
    fail(tally, c->name, "refused, but not listed", out->words);
  } else if (strcmp(known->words, out->words) != 0) {
    fail(tally, c->name, "refused in other words than listed", out->words);
  } else if (s->verbose) {
    printf("refused %s: %s\n", c->name, out->words);
  }
}

/* Rows of cases that there are no more. */
static void judge_leftovers(const settings_t *s, const expected_t *expected,
                            tally_t *tally) {
  if (s->update) return;
  for (size_t i = 0; i < expected->n_rows; i++)
    if (!expected->rows[i].met &&
        suite_selects(&s->selection, expected->rows[i].name))
      fail(tally, expected->rows[i].name, "is listed as refused",
           "no case has this name");
}

static void print_tally(const settings_t *s, const suite_t *suite,
                        const outcome_t *outcomes, const tally_t *tally) {
  if (s->ulp) report_ulp(suite, outcomes, stdout);
  for (unsigned i = 0; i < RESULT_COUNT; i++)
    if (i != RESULT_RUNNING)
      printf("%s%s %zu", i > RESULT_PASS ? ", " : "", result_word((result_t)i),
             tally->n[i]);
  printf(" of %zu cases\n", suite->n_cases);
  printf("%zu passed, %zu failed\n", tally->n[RESULT_PASS], tally->n_failed);
}

static moec_status_t judge_all(const settings_t *s, arena_t *arena,
                               const suite_t *suite, const outcome_t *outcomes,
                               tally_t *tally) {
  expected_t expected = {0};
  unsigned line = 0;
  if (s->expected != NULL) {
    moec_status_t status = expected_read(arena, s->expected, &expected, &line);
    if (status != MOEC_OK && !(s->update && status == MOEC_E_IO)) {
      fprintf(stderr, "conformance_runner: cannot read %s, line %u\n",
              s->expected, line);
      return status;
    }
  }
  for (size_t i = 0; i < suite->n_cases; i++)
    judge(s, &expected, &suite->cases[i], &outcomes[i], tally);
  judge_leftovers(s, &expected, tally);
  if (s->update)
    MOEC_TRY(
        expected_write(s->expected, suite, outcomes, &s->selection, &expected));
  if (s->report != NULL) MOEC_TRY(report_write(s->report, suite, outcomes));
  print_tally(s, suite, outcomes, tally);
  return MOEC_OK;
}

/* ---- The whole ----------------------------------------------------------- */

static moec_status_t run(const settings_t *s, arena_t *arena, tally_t *tally) {
  suite_t suite;
  if (suite_read(arena, s->cases, &s->selection, &suite) != MOEC_OK ||
      suite.n_cases == 0) {
    fprintf(stderr, "conformance_runner: no case is selected in %s\n",
            s->cases);
    return MOEC_E_IO;
  }
  const char *base = getenv("TMPDIR");
  char *scratch = arena_printf(arena, "%s/conformance-XXXXXX",
                               base != NULL && base[0] != '\0' ? base : "/tmp");
  if (mkdtemp(scratch) == NULL) {
    fprintf(stderr, "conformance_runner: cannot make %s\n", scratch);
    return MOEC_E_IO;
  }
  outcome_t *outcomes = NULL;
  moec_status_t status =
      attempt_all(&suite, &s->attempt, &s->limits, scratch, &outcomes);
  for (size_t i = 0; i < suite.n_cases; i++) /* what crashes leave behind */
    unlink(arena_printf(arena, "%s/%zu.so", scratch, i));
  rmdir(scratch);
  if (status != MOEC_OK) {
    fprintf(stderr, "conformance_runner: cannot start processes\n");
    return status;
  }
  return judge_all(s, arena, &suite, outcomes, tally);
}

int main(int argc, char **argv) {
  settings_t settings;
  if (!parse_options(&settings, argc, argv)) {
    fputs(usage, stderr);
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  arena_t *arena = arena_create(0);
  if (arena == NULL) return 1;
  tally_t tally = {0};
  moec_status_t status = run(&settings, arena, &tally);
  arena_destroy(arena);
  if (status != MOEC_OK) return status == MOEC_E_IO ? 2 : 1;
  return tally.n_failed == 0 ? 0 : 1;
}
