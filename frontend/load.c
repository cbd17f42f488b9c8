/* Turns the bytes of a file into a message in the arena. */
#include "frontend/load.h"

#include <stdlib.h>
#include <string.h>

#include "frontend/looks_like.h"
#include "frontend/store.h"

/* ---- protobuf-c into the arena ------------------------------------------ */

static void *alloc_in_arena(void *arena, size_t bytes) {
  return arena_alloc(arena, bytes);
}

static void free_in_arena(void *arena, void *data) {
  (void)arena; /* the arena frees all at once */
  (void)data;
}

static ProtobufCMessage *unpack_skeleton(const onnx_skeleton_t *skeleton,
                                         const ProtobufCMessageDescriptor *type,
                                         arena_t *arena) {
  ProtobufCAllocator allocator = {alloc_in_arena, free_in_arena, arena};
  ProtobufCMessage *message = protobuf_c_message_unpack(
      type, &allocator, skeleton->length, skeleton->bytes);
  if (message == NULL) MOEC_BUG("protobuf-c refuses what the scan accepts");
  return message;
}

/* ---- Scan and its messages ---------------------------------------------- */

static ir_loc_t at_byte(arena_t *arena, size_t offset, const char *path) {
  const char *where = path[0] == '\0'
                          ? arena_printf(arena, "byte %zu", offset)
                          : arena_printf(arena, "byte %zu (%s)", offset, path);
  return (ir_loc_t){.where = where};
}

static moec_status_t report_foreign(onnx_guess_t guess, diag_sink_t *diag) {
  moec_status_t status =
      diag_error(diag, (ir_loc_t){0}, MOEC_E_INVALID_MODEL,
                 "not an ONNX file; it looks like %s", guess.what);
  if (guess.remedy != NULL) diag_note(diag, (ir_loc_t){0}, "%s", guess.remedy);
  return status;
}

static moec_status_t report_scan(const onnx_wire_error_t *error, arena_t *arena,
                                 const uint8_t *bytes, size_t length,
                                 diag_sink_t *diag) {
  onnx_guess_t guess = onnx_looks_like(bytes, length);
  if (guess.what != NULL && error->status == MOEC_E_INVALID_MODEL)
    return report_foreign(guess, diag);
  return diag_error(diag, at_byte(arena, error->offset, error->path),
                    error->status, "%s", error->text);
}

static void warn_of_unknown(const onnx_skeleton_t *skeleton, arena_t *arena,
                            diag_sink_t *diag) {
  if (skeleton->n_unknown == 0) return;
  diag_warning(diag, at_byte(arena, skeleton->unknown_offset, ""),
               "field %u of %s is not known and ignored%s",
               skeleton->unknown_number, skeleton->unknown_message,
               skeleton->n_unknown > 1 ? ", and so are more" : "");
}

/* No bytes at all are a message too, but a model or tensor has fields. */
static moec_status_t check_size(const onnx_store_t *store,
                                const ProtobufCMessageDescriptor *type,
                                size_t length, diag_sink_t *diag) {
  const ir_loc_t nowhere = {0};
  uint64_t limit = store->options.limits.file_bytes;
  if (length == 0 && (type == &onnx__model_proto__descriptor ||
                      type == &onnx__tensor_proto__descriptor))
    return diag_error(diag, nowhere, MOEC_E_INVALID_MODEL, "file is empty");
  if (length <= limit) return MOEC_OK;
  moec_status_t status =
      diag_error(diag, nowhere, MOEC_E_LIMIT,
                 "file of %zu bytes exceeds the limit of %llu", length,
                 (unsigned long long)limit);
  diag_note(diag, nowhere,
            "models beyond 2 GiB keep their tensors in external data "
            "(onnx.save with save_as_external_data=True)");
  return status;
}

moec_status_t onnx_unpack(onnx_store_t *store, arena_t *arena,
                          const ProtobufCMessageDescriptor *type,
                          const uint8_t *bytes, size_t length,
                          diag_sink_t *diag, ProtobufCMessage **out_message) {
  *out_message = NULL;
  MOEC_TRY(check_size(store, type, length, diag));
  onnx_limits_t limits = store->options.limits;
  if (limits.unpacked_bytes == 0)
    limits.unpacked_bytes = ((uint64_t)128 << 20) + 16 * (uint64_t)length;
  onnx_skeleton_t *skeleton = &store->skeleton;
  free(skeleton->bytes);
  *skeleton = (onnx_skeleton_t){0};

  onnx_wire_error_t error;
  if (onnx_wire_scan(type, bytes, length, &limits, arena, &store->payloads,
                     skeleton, &error) != MOEC_OK)
    return report_scan(&error, arena, bytes, length, diag);
  warn_of_unknown(skeleton, arena, diag);
  *out_message = unpack_skeleton(skeleton, type, arena);
  free(skeleton->bytes);
  skeleton->bytes = NULL;
  return MOEC_OK;
}

/* ---- Models ------------------------------------------------------------- */

moec_status_t onnx_load_memory(onnx_store_t *store, arena_t *arena,
                               const void *bytes, size_t length,
                               const char *directory, diag_sink_t *diag,
                               onnx_model_t **out_model) {
  *out_model = NULL;
  ProtobufCMessage *message;
  MOEC_TRY(onnx_unpack(store, arena, &onnx__model_proto__descriptor, bytes,
                       length, diag, &message));
  MOEC_ASSERT(message != NULL);
  const Onnx__ModelProto *proto = (const Onnx__ModelProto *)message;
  if (proto->graph == NULL) {
    onnx_guess_t guess = onnx_looks_like(bytes, length);
    if (guess.what != NULL) return report_foreign(guess, diag);
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_INVALID_MODEL,
                      "model has no graph");
  }
  onnx_model_t *model = ARENA_NEW(arena, onnx_model_t);
  model->arena = arena;
  model->store = store;
  model->proto = proto;
  if (directory != NULL) model->directory = arena_strdup(arena, directory);
  *out_model = model;
  return MOEC_OK;
}

moec_status_t onnx_load(onnx_store_t *store, arena_t *arena, const char *path,
                        diag_sink_t *diag, onnx_model_t **out_model) {
  *out_model = NULL;
  const onnx_mapping_t *mapping;
  MOEC_TRY(onnx_open(store, path, diag, &mapping));
  return onnx_load_memory(store, arena, mapping->bytes, mapping->length,
                          onnx_directory_of(arena, path), diag, out_model);
}
