/* Reading ONNX files: models and the data files of test suites.
 *
 * A file is read or mapped, its wire format checked without recursion (wire.h),
 * and unpacked by protobuf-c into an arena as a skeleton: without the elements
 * of tensors, metadata_props (except the model's), doc_strings and unknown
 * fields. Elements are fetched tensor by tensor with onnx_tensor_data, as views
 * of the file's bytes where they can be used as they are.
 *
 * Files of more than 64 MiB are mapped, unless onnx_load_options_t.never_map
 * forbids it. Mapped files must not be shortened while a store is open: that
 * ends the process with SIGBUS. onnx_store_check tells all other changes. */
#ifndef FRONTEND_LOAD_H
#define FRONTEND_LOAD_H

#include "ir/arena.h"
#include "ir/diag.h"
#include "ir/ir.h"
#include "onnx.pb-c.h"

/* What a file may cost. Zero means the default in brackets. */
typedef struct onnx_limits {
  uint64_t file_bytes;     /* of one protobuf file [2 GiB - 1] */
  uint64_t messages;       /* nested messages in a file [33554432] */
  uint64_t unpacked_bytes; /* skeleton in memory [128 MiB + 16 * file size] */
  uint64_t name_bytes;     /* one name [65536] */
  uint64_t expanded_bytes; /* tensors beyond their size in files: sparse ones
                              made dense, short varints; all files together
                              [256 MiB] */
  unsigned depth;          /* messages inside each other [448] */
  unsigned graph_depth;    /* graphs inside each other [128] */
} onnx_limits_t;

typedef struct onnx_load_options {
  onnx_limits_t limits;
  /* External data must be regular files with one name in or below the model's
   * directory, reached without symbolic links. With a directory here, files
   * behind links count too as long as they really lie in or below it (caches
   * of model hubs are made of links). */
  const char *external_root;
  /* Compare external files with the SHA-1 that the model gives for them. The
   * form of checksums is checked always. */
  bool verify_checksums;
  /* Read large files too, instead of mapping them: for files that somebody may
   * shorten meanwhile, see onnx_store_t. Takes memory for all their bytes. */
  bool never_map;
} onnx_load_options_t;

/* Open files and where tensors' elements lie in them. Heap object, because it
 * holds mappings that must be released even after leaving through a recovery
 * point: create it before entering one. Not for several threads at once. */
typedef struct onnx_store onnx_store_t;

/* `options` may be NULL; copied. NULL without memory. */
onnx_store_t *onnx_store_create(const onnx_load_options_t *options);
/* Unmaps files: views handed out by onnx_tensor_data end here; messages live
 * on in their arena. Accepts NULL. */
void onnx_store_destroy(onnx_store_t *store);

/* Whether all files still are what they were when opened (size, time of last
 * change); else MOEC_E_IO with the file's name. To be called at the end. */
moec_status_t onnx_store_check(onnx_store_t *store, diag_sink_t *diag);

/* Calls tell with the name of every file that was opened, the model's first. */
void onnx_store_each_file(const onnx_store_t *store,
                          void (*tell)(void *user, const char *name),
                          void *user);

/* Calls tell with every mapping of a file: pages that were read can be dropped
 * from memory and are read again when needed. */
void onnx_store_each_mapping(const onnx_store_t *store,
                             void (*tell)(void *user, const void *bytes,
                                          size_t size),
                             void *user);

/* A model that was read. Allocated in `arena`; valid while the store is. */
typedef struct onnx_model {
  arena_t *arena;
  onnx_store_t *store;
  const Onnx__ModelProto *proto; /* with a graph */
  const char *directory;         /* of the file as given; NULL: none */
} onnx_model_t;

/* Reads a model. That it has a graph is all that is checked of its meaning. In
 * the message each TensorProto.raw_data, where present, is
 * an internal reference and all other data fields are absent: use
 * onnx_tensor_data. Strings are valid UTF-8 without NUL inside; absent ones
 * are NULL in protobuf-c, see onnx_str.
 *
 * Errors: MOEC_E_IO, MOEC_E_INVALID_MODEL (with the byte offset), MOEC_E_LIMIT.
 */
moec_status_t onnx_load(onnx_store_t *store, arena_t *arena, const char *path,
                        diag_sink_t *diag, onnx_model_t **out_model);

/* The same from memory, which must outlive the store. External data is looked
 * up in `directory`; with NULL it is refused. */
moec_status_t onnx_load_memory(onnx_store_t *store, arena_t *arena,
                               const void *bytes, size_t length,
                               const char *directory, diag_sink_t *diag,
                               onnx_model_t **out_model);

/* ---- Tensors (tensor.c) ------------------------------------------------- */

/* What a TensorProto says it is. */
typedef struct onnx_tensor_info {
  dtype_t dtype;
  unsigned rank;
  const int64_t *dims; /* int64_t[rank], none negative; the message's own */
  uint64_t count;      /* of elements */
  uint64_t bytes;      /* dtype_bytes(dtype, count) */
} onnx_tensor_info_t;

/* Checks data_type and dims. `loc` is the place for messages: when its `where`
 * is NULL, it becomes tensor "name". */
moec_status_t onnx_tensor_info(const Onnx__TensorProto *tensor, ir_loc_t loc,
                               diag_sink_t *diag, onnx_tensor_info_t *out_info);

/* The elements of a tensor of the model: dense, in C order, little endian,
 * types below 8 bits packed with unused bits zero, bool as 0 or 1. Views of the
 * mapped file where possible, else allocated in the model's arena. Strings are
 * in out->strings, with out->bytes NULL. */
moec_status_t onnx_tensor_data(onnx_model_t *model,
                               const Onnx__TensorProto *tensor, ir_loc_t loc,
                               diag_sink_t *diag, ir_data_t **out_data);

/* Whether the elements are in another file. */
bool onnx_tensor_is_external(const Onnx__TensorProto *tensor);

/* A sparse tensor: info of the dense form, and its elements made dense. */
moec_status_t onnx_sparse_tensor_info(const Onnx__SparseTensorProto *sparse,
                                      ir_loc_t loc, diag_sink_t *diag,
                                      onnx_tensor_info_t *out_info);
moec_status_t onnx_sparse_tensor_data(onnx_model_t *model,
                                      const Onnx__SparseTensorProto *sparse,
                                      ir_loc_t loc, diag_sink_t *diag,
                                      ir_data_t **out_data);

/* "" for an absent string. */
static inline const char *onnx_str(const char *text) {
  return text != NULL ? text : "";
}

/* ---- Data files (value.c) ----------------------------------------------- */

typedef struct onnx_value onnx_value_t;
struct onnx_value {
  ir_kind_t kind;   /* IR_TENSOR, IR_SEQUENCE or IR_OPTIONAL */
  const char *name; /* NULL if absent */
  /* Tensors. */
  dtype_t dtype;
  unsigned rank;
  const int64_t *dims;
  ir_data_t *data;
  /* Elements of a sequence; an optional has 0 or 1. */
  size_t n_elems;
  onnx_value_t *const *elems;
};

/* Reads a file with one TensorProto, SequenceProto or OptionalProto: `kind`
 * says which, as the wire format does not. */
moec_status_t onnx_load_value(onnx_store_t *store, arena_t *arena,
                              const char *path, ir_kind_t kind,
                              diag_sink_t *diag, onnx_value_t **out_value);
moec_status_t onnx_load_value_memory(onnx_store_t *store, arena_t *arena,
                                     const void *bytes, size_t length,
                                     ir_kind_t kind, diag_sink_t *diag,
                                     onnx_value_t **out_value);

/* The contents of such a file, allocated in `arena`. MOEC_E_LIMIT when it
 * would exceed what protobuf allows (2 GiB - 1). */
moec_status_t onnx_pack_value(arena_t *arena, const onnx_value_t *value,
                              diag_sink_t *diag, const uint8_t **out_bytes,
                              size_t *out_length);

#endif
