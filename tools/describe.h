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

#endif
