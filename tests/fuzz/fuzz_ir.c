/* IR in text form: what is accepted is verified, and prints to a text that
 * reads back as the same module. */
#include <string.h>

#include "ir/ir.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  ir_module_t *module, *again;
  if (ir_parse(arena, (const char *)bytes, length, NULL, diag, &module) !=
      MOEC_OK)
    return;
  FUZZ_CHECK(ir_verify(module, diag) == MOEC_OK);
  ir_print_options_t options = {.locations = true};
  text_t first, second;
  text_init(&first, arena);
  ir_print(module, &options, &first);
  FUZZ_CHECK(ir_parse(arena, first.data, first.length, NULL, diag, &again) ==
             MOEC_OK);
  FUZZ_CHECK(ir_module_equal(module, again, NULL));
  text_init(&second, arena);
  ir_print(again, &options, &second);
  FUZZ_CHECK(strcmp(first.data, second.data) == 0);
}
