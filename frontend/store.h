/* What a store consists of; for the files that read ONNX only. */
#ifndef FRONTEND_STORE_H
#define FRONTEND_STORE_H

#include <sys/stat.h>

#include "frontend/load.h"
#include "frontend/wire.h"

typedef enum { MAPPING_MAPPED, MAPPING_READ, MAPPING_BORROWED } mapping_how_t;

/* The bytes of one file. */
typedef struct onnx_mapping {
  char *name; /* malloc; key of the cache and for messages */
  const uint8_t *bytes;
  size_t length;
  mapping_how_t how; /* mapped; read into malloc; the caller's memory */
  struct stat was;   /* when opened, of files */
  bool verified;     /* its SHA-1 was compared */
  uint8_t sha1[20];  /* with this, if verified */
} onnx_mapping_t;

struct onnx_store {
  onnx_load_options_t options; /* limits without zeros but unpacked_bytes */
  char *external_root;         /* malloc, or NULL */
  onnx_mapping_t **mappings;   /* malloc */
  size_t n_mappings, mapping_capacity;
  uint32_t *cache;   /* open addressing: 1 + index of the mapping; 0: free */
  size_t cache_size; /* a power of two, or 0 */
  onnx_payloads_t payloads;
  onnx_skeleton_t skeleton; /* while a file is being read */
  uint64_t expanded_bytes;  /* so far, see onnx_limits_t */
};

/* Maps the regular file `fd` (st is its state), reads a pipe to its end, and
 * keeps the mapping in the store. Returns NULL with errno set. */
onnx_mapping_t *onnx_map(onnx_store_t *store, int fd, const struct stat *st,
                         const char *name);

/* Counts bytes of a tensor that are more than its size in the file. */
moec_status_t onnx_expand(onnx_store_t *store, uint64_t bytes, ir_loc_t loc,
                          diag_sink_t *diag);

/* Scans and unpacks one message of the given type. */
moec_status_t onnx_unpack(onnx_store_t *store, arena_t *arena,
                          const ProtobufCMessageDescriptor *type,
                          const uint8_t *bytes, size_t length,
                          diag_sink_t *diag, ProtobufCMessage **out_message);

/* Opens and maps a file that the user named. */
moec_status_t onnx_open(onnx_store_t *store, const char *path,
                        diag_sink_t *diag, const onnx_mapping_t **out_mapping);

/* "dir" of "dir/file", "." of "file", "/" of "/file". */
const char *onnx_directory_of(arena_t *arena, const char *path);

#endif
