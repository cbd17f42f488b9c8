/* JSON: what is read can be written, and reads back. */
#include "tests/fuzz/fuzz.h"
#include "tools/json.h"

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  const json_t *value;
  if (json_parse(arena, (const char *)bytes, length, diag, &value) != MOEC_OK)
    return;
  text_t text;
  text_init(&text, arena);
  json_write(value, &text);
  FUZZ_CHECK(json_parse(arena, text.data, text.length, diag, &value) ==
             MOEC_OK);
}
