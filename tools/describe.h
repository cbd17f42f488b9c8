/* What a compiled model carries about itself: the texts of its notes. */
#ifndef TOOLS_DESCRIBE_H
#define TOOLS_DESCRIBE_H

#include "backend/note.h"
#include "ir/ir.h"

/* Inputs, outputs and symbols of a module of either level, as JSON:
 *
 *   {"name": "m", "compiler": "moec 0.1.0",
 *    "inputs": [{"name": "x", "type": "f32", "dims": ["batch", 3]}],
 *    "outputs": [...], as inputs; "kind" is there for other kinds than tensors
 *    "symbols": [{"name": "batch", "min": 0}]}  those that dims of inputs name
 */
const char *describe_signature(arena_t *arena, const ir_module_t *module);

/* Kernels and calls of the runtime of a module at loop level, with the ONNX
 * operators that they came from:
 *
 *   {"variants": ["x86-64", "avx512"],
 *    "launches": 12, "calls": 1,
 *    "kernels": [{"kernel": "k_...", "launches": 3, "operators": ["MatMul"]}],
 *    "runtime": [{"routine": "topk", "calls": 1, "operators": ["TopK"]}]}
 *
 * `variants` are rows of targets.def. Linear in the size of the module. */
const char *describe_code(arena_t *arena, ir_module_t *module,
                          const unsigned *variants, unsigned n_variants);

/* What a module just imported consists of, as JSON: ONNX operators by their
 * nodes, and operations of the IR.
 *
 *   {"operators": [{"operator": "MatMul", "nodes": 2}],
 *    "operations": [{"operation": "matmul", "count": 2}]}
 *
 * Nodes that become no operation (constants that were folded, identities) are
 * not there. */
const char *describe_import(arena_t *arena, const ir_module_t *module);

/* The report of a compilation, the same for the same input and options:
 *
 *   {"compiler": "moec 0.1.0", "level": 2, "passes": "dce,lower",
 *    "imported": {...}, as describe_import
 *    "layers": [...], "refusals": [...], "losses": [...], as describe_moe
 *    "signature": {...}, "code": {...}}  the latter two of the finished module
 *
 * `passes` are those that ran. docs/reference/report.schema.json is its schema.
 */
typedef struct describe_parts {
  int level;
  const char *passes;
  const char *imported, *signature, *code; /* JSON; NULL: left out */
  const struct moe_report *moe;            /* NULL: left out */
} describe_parts_t;
const char *describe_report(arena_t *arena, const describe_parts_t *parts);

#endif
