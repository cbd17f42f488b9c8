/* ONNX as a product: files, limits, refusals. What the models compute is looked
 * at by tests/e2e/check_onnx.py and check_onnx_ops.py. */
#include "cli_support.h"
#include "frontend/load.h"

/* A constant of 400 rows, 8000 bytes, and sizes in every form. */
static const char model_text[] =
    "module \"m\" tensor {\n"
    "symbols { n >= 0, m >= 0 }\n"
    "func @main(%0 \"x\": f32[n,5], %1 \"y y\": i64[m]) -> (\"z\", \"x2\", "
    "\"y2\") {\n"
    "  %2 = constant() {dtype = f32, shape = [400, 5], data = zeros} : "
    "f32[400,5]\n"
    "  %3 = concat(%0, %2) {axis = 0}\n"
    "  return(%3, %0, %1)\n"
    "}\n"
    "}\n";

/* The file as a message; of the arena. */
static Onnx__ModelProto *read_model(arena_t *arena, const char *path) {
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  uint8_t *bytes = arena_alloc(arena, 1 << 20);
  size_t size = fread(bytes, 1, 1 << 20, file);
  fclose(file);
  return onnx__model_proto__unpack(NULL, size, bytes);
}

static bool exists(const char *path) { return access(path, F_OK) == 0; }
