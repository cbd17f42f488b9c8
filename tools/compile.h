/* The compiler as a library: the one place that sees every folder. */
#ifndef TOOLS_COMPILE_H
#define TOOLS_COMPILE_H

#include "frontend/import.h"
#include "ir/diag.h"
#include "ir/ir.h"
#include "passes/pass.h"

typedef struct compile_options {
  const char *model;  /* path of the ONNX file */
  const char *output; /* its suffix chooses the product: .so .o .ll .bc .s
                         .moeir .onnx; NULL: nothing is written */
  const char *entry;  /* exported function, "moec_model" by default */
  const char *external_root; /* --external-data-root, or NULL */
  bool verify_checksums;     /* of external data, where the model has them */
  bool never_map;            /* see onnx_load_options_t */
  const char *target;        /* a triple; NULL: the host's architecture */
  const char *isas;          /* "a,b" of targets.def; NULL: all of the target */
  const char *report;        /* JSON report, or NULL */
  FILE *explain_moe;         /* told of MoE layers in words, or NULL */
  const char *depfile;       /* rule of make, or NULL */
  const char *soname;        /* of a .so, or NULL */
  bool instrument;           /* the model can record its steps */
  bool debug_info;           /* lines of OUTPUT.nodes, one for each ONNX node */
  uint64_t inline_limit;     /* see export_options_t */
  unsigned n_dims;
  const onnx_pin_t *dims; /* fixed before the import of an ONNX model */
  struct expose *expose;  /* values that become outputs, or NULL: expose.h */
  pass_options_t passes;
  size_t memory_limit; /* bytes of the arena; 0: no limit */
  /* Told at the start of each stage ("import", "passes", ...); may be NULL. */
  void (*progress)(void *user, const char *stage);
  void *progress_user;
} compile_options_t;

void compile_options_init(compile_options_t *options);

/* Compiles; diagnostics are collected in `diag` (whose arena must outlive the
 * call). Nothing is left behind at `output` on failure. Any number of threads
 * may compile at once. Never exits or aborts on input. */
moec_status_t compile_model(const compile_options_t *options,
                            diag_sink_t *diag);

/* Imports a model into a fresh module of `arena`, or parses a .moeir file. */
moec_status_t compile_import(const compile_options_t *options, arena_t *arena,
                             diag_sink_t *diag, ir_module_t **out_module);

#endif
