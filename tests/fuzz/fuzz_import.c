/* A model file: read, imported, verified; what was imported can be printed and
 * read again. */
#include "frontend/import.h"
#include "ir/ir.h"
#include "tests/fuzz/fuzz.h"

/* Released here also when the body is left through the recovery point. */
static onnx_store_t *store;

static void check_text(arena_t *arena, diag_sink_t *diag, ir_module_t *module) {
  text_t text;
  text_init(&text, arena);
  ir_print(module, &(ir_print_options_t){.locations = true}, &text);
  ir_module_t *again;
  FUZZ_CHECK(ir_parse(arena, text.data, text.length, NULL, diag, &again) ==
             MOEC_OK);
}

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  onnx_store_destroy(store);
  store = onnx_store_create(NULL);
  if (store == NULL) return;
  onnx_model_t *model;
  ir_module_t *module;
  onnx_import_options_t options = {.max_nodes = 10000};
  if (onnx_load_memory(store, arena, bytes, length, NULL, diag, &model) !=
      MOEC_OK)
    return;
  if (onnx_import(model, &options, diag, &module) != MOEC_OK) return;
  FUZZ_CHECK(ir_verify(module, diag) == MOEC_OK);
  check_text(arena, diag, module);
}
