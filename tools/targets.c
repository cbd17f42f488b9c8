/* The targets and their variants as tables; see targets.h. */
#include "tools/targets.h"

#include <string.h>

#include "backend/cpu.h"

static const struct feature {
  uint64_t bit;
  const char *arch, *name, *doc;
} features[] = {
#define FEATURE(id, bit, arch, name, doc) {MOERT_CPU_##id, arch, name, doc},
#include "moec/cpu.def"
};
enum { N_FEATURES = sizeof features / sizeof features[0] };

const char *targets_features(arena_t *arena, uint64_t bits) {
  text_t text;
  text_init(&text, arena);
  for (unsigned i = 0; i < N_FEATURES; i++)
    if ((bits & features[i].bit) != 0)
      text_printf(&text, "%s%s", text.length > 0 ? " " : "", features[i].name);
  return text.length > 0 ? text.data : "none";
}

/* Whether LLVM makes code for a variant, by asking it to. */
static bool can_generate(arena_t *arena, const isa_t *isa) {
  diag_sink_t diag;
  emitter_t em = {0};
  diag_init(&diag, arena, NULL);
  const moec_status_t status = emitter_init(&em, isa, arena, "targets", &diag);
  emitter_dispose(&em);
  return status == MOEC_OK;
}

const char *targets_obstacle(arena_t *arena, const isa_t *isa,
                             bool *out_generated) {
  const uint64_t missing = isa->cpu_bits & ~cpu_features();
  *out_generated = can_generate(arena, isa);
  if (!*out_generated) return "LLVM cannot generate code for it";
  if (strcmp(isa->arch, cpu_arch()) != 0) return "another architecture";
  if (missing == 0) return NULL;
  return arena_printf(arena, "this machine lacks: %s",
                      targets_features(arena, missing));
}

const isa_t *targets_best(void) {
  const isa_t *best = NULL;
  for (unsigned i = 0; i < isa_count(); i++)
    if (cpu_runs(isa_at(i))) best = isa_at(i);
  return best;
}

void targets_print(text_t *out) {
  const isa_t *best = targets_best();
  text_printf(out, "%-22s %-14s %-30s %6s  %s\n", "target", "variant", "needs",
              "vector", "this machine");
  for (unsigned i = 0; i < isa_count(); i++) {
    const isa_t *isa = isa_at(i);
    bool generated;
    const char *obstacle = targets_obstacle(out->arena, isa, &generated);
    text_printf(out, "%-22s %-14s %-30s %6u  %s\n",
                target_triple(out->arena, isa->arch), isa->name,
                targets_features(out->arena, isa->cpu_bits), isa->vector_bytes,
                obstacle != NULL ? obstacle
                : isa == best    ? "runs, chosen"
                                 : "runs");
  }
}

static void document_features(text_t *out) {
  text_printf(out, "\n| feature | of | is |\n|---|---|---|\n");
  for (unsigned i = 0; i < N_FEATURES; i++)
    text_printf(out, "| %s | %s | %s |\n", features[i].name, features[i].arch,
                features[i].doc);
}

void targets_document(text_t *out) {
  text_printf(
      out,
      "# Targets\n\nA compiled model holds code for all variants of its "
      "target, or for those that `--isa` names, and uses the last one of this "
      "table that the machine can run. `moec --print-targets` tells which ones "
      "that are.\n\n| target | variant | needs | vectors | shares kernels with "
      "|\n|---|---|---|---|---|\n");
  for (unsigned i = 0; i < isa_count(); i++) {
    const isa_t *isa = isa_at(i);
    text_printf(out, "| `%s` | `%s` | %s | %u x %u bytes | %s |\n",
                target_triple(out->arena, isa->arch), isa->name,
                targets_features(out->arena, isa->cpu_bits), isa->n_vectors,
                isa->vector_bytes,
                isa->base < 0 ? "" : isa_at((unsigned)isa->base)->name);
  }
  document_features(out);
}
