/* The converter tables of ir/ops.def and frontend/composites.def, hashed by
 * operator name. */
#include "frontend/registry.h"

#include <string.h>

#include "frontend/opset.h"

#define LATEST INT32_MAX

static const onnx_row_t table[] = {
#define COMPOSITE(domain, op_type, since, until, min_in, max_in, min_out, \
                  max_out, convert)                                       \
  {domain, op_type, since,   until, OP_COUNT,         min_in,             \
   max_in, min_out, max_out, false, convert_##convert},
#define LISTS(domain, op_type, since, until, min_in, max_in, min_out, max_out, \
              convert)                                                         \
  {domain, op_type, since,   until, OP_COUNT,         min_in,                  \
   max_in, min_out, max_out, true,  convert_##convert},
#include "frontend/composites.def"
#define ONNX(op, domain, op_type, since, until, convert) \
  {domain, op_type, since, until, OP_##op,          0,   \
   0,      0,       0,     false, convert_##convert},
#include "ir/ops.def"
};

enum {
  N_ROWS = sizeof table / sizeof table[0],
  N_BUCKETS = 1024, /* a power of two above N_ROWS */
};
_Static_assert(N_ROWS < N_BUCKETS, "registry.c: more buckets are needed");

struct registry {
  onnx_row_t row[N_ROWS];
  int next[N_ROWS]; /* row of the same bucket, -1 at the end */
  int first[N_BUCKETS];
};

static unsigned bucket_of(const char *op_type) {
  uint32_t hash = 2166136261u;
  for (; *op_type != '\0'; op_type++)
    hash = (hash ^ (unsigned char)*op_type) * 16777619u;
  return (hash ^ hash >> 15) % N_BUCKETS;
}

registry_t *registry_create(arena_t *arena) {
  registry_t *registry = ARENA_NEW(arena, registry_t);
  for (unsigned i = 0; i < N_BUCKETS; i++) registry->first[i] = -1;
  for (int i = N_ROWS - 1; i >= 0; i--) {
    onnx_row_t *row = &registry->row[i];
    *row = table[i];
    if (row->code != OP_COUNT) {
      const ir_op_info_t *info = ir_op_info(row->code);
      row->min_in = info->in_min;
      row->max_in = info->in_max;
      row->min_out = row->max_out = info->out;
    }
    unsigned bucket = bucket_of(row->op_type);
    registry->next[i] = registry->first[bucket];
    registry->first[bucket] = i;
  }
  return registry;
}

const onnx_row_t *registry_find(const registry_t *registry, const char *domain,
                                const char *op_type, int version,
                                const onnx_row_t **out_near) {
  if (out_near != NULL) *out_near = NULL;
  for (int i = registry->first[bucket_of(op_type)]; i >= 0;
       i = registry->next[i]) {
    const onnx_row_t *row = &registry->row[i];
    if (strcmp(row->op_type, op_type) != 0 || strcmp(row->domain, domain) != 0)
      continue;
    if (row->since <= version && version <= row->until) return row;
    if (out_near != NULL) *out_near = row;
  }
  return NULL;
}
