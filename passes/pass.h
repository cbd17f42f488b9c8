/* Passes and the manager that runs them. */
#ifndef PASSES_PASS_H
#define PASSES_PASS_H

#include "ir/ir.h"
#include "ir/timing.h"

typedef struct pass_options {
  const char *passes;   /* "a,b,c"; NULL: the pipeline of `level` */
  const char *disabled; /* "a,b": not run; NULL: none */
  int level;            /* -O: 0..3 */
  bool verify_each;
  bool no_f16;             /* no variant of the target widens f16 in one step */
  long rewrite_limit;      /* rewrites allowed in all, -1: any number */
  FILE *trace;             /* where rewrites are told, or NULL */
  const char *print_after; /* pass name or "all"; NULL: never */
  FILE *print_to;
  const char *dump_dir;   /* numbered files of every stage, or NULL */
  timings_t *timings;     /* gets a row for each pass, or NULL */
  struct moe_report *moe; /* told of MoE layers, or NULL: passes/moe_report.h */
} pass_options_t;

/* What a running pass may use. */
typedef struct pass_ctx {
  ir_module_t *module;
  arena_t *scratch; /* reset after each pass */
  diag_sink_t *diag;
  const pass_options_t *options;
  long rewrites; /* counted so far, by all passes */
  bool changed;
  unsigned stage;         /* number of the next dump */
  unsigned n_evaluations; /* of constants so far, see passes/fold.c */
} pass_ctx_t;

/* Asks to make one rewrite; every rewrite goes through here, so that all of
 * them can be counted, traced and bisected. */
bool pass_allow_rewrite(pass_ctx_t *ctx, const char *rule, const ir_op_t *at);

/* Whether this run leaves out a pass on demand. */
bool pass_is_disabled(const pass_ctx_t *ctx, const char *name);

typedef struct pass_info {
  const char *name, *needs, *keeps, *doc;
  moec_status_t (*run)(pass_ctx_t *ctx, ir_func_t *func);
} pass_info_t;

unsigned pass_count(void);
const pass_info_t *pass_at(unsigned index); /* order of passes.def */

/* The passes of an -O level, "a,b,c". */
const char *pass_pipeline(int level);
/* Those of them that come before anything is chosen for a machine. */
const char *pass_portable_pipeline(int level);
/* MOEC_E_USAGE where a list names a pass that does not exist; NULL is fine. */
moec_status_t pass_check_list(const char *list, diag_sink_t *diag);
/* Runs a pipeline over the module's main function; `scratch` is reset. */
moec_status_t pass_run_all(ir_module_t *module, arena_t *scratch,
                           const pass_options_t *options, diag_sink_t *diag);
/* Writes the module's text as the next numbered dump, if dumps are wanted. */
void pass_dump(pass_ctx_t *ctx, const char *name);

/* Each pass of passes.def has its run_<id> in passes/<id>.c. */
#define PASS(id, name, needs, keeps, doc) \
  moec_status_t run_##id(pass_ctx_t *ctx, ir_func_t *func);
#include "passes/passes.def"

#endif
