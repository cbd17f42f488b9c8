/* Memory of instances: the caller's allocator or the C library's. */
#include "runtime/guard.h"
#include "runtime/libc.h"
#include "runtime/runtime.h"

void *memory_allocate(const rt_allocator_t *allocator, uint64_t bytes) {
  if (bytes > (uint64_t)PTRDIFF_MAX) return NULL;
  void *memory = NULL;
  if (allocator->allocate != NULL)
    memory = allocator->allocate(allocator->user, bytes);
  else if (posix_memalign(&memory, RT_ALIGN, (size_t)bytes) != 0)
    return NULL;
  if ((uintptr_t)memory % RT_ALIGN == 0) return memory;
  memory_release(allocator, memory); /* unusable */
  return NULL;
}

void memory_release(const rt_allocator_t *allocator, void *memory) {
  if (memory == NULL) return;
  if (allocator->allocate != NULL)
    allocator->release(allocator->user, memory);
  else
    free(memory);
}

static void region_release(moec_instance_t *it, rt_region_t *region) {
  guard_tail(region->data, region->bytes, region->bytes);
  memory_release(&it->allocator, region->data);
  *region = (rt_region_t){0};
}

moec_status_t region_reserve(moec_instance_t *it, rt_region_t *region,
                             uint64_t bytes, bool keep, const char *what) {
  const uint64_t used = bytes;
  guard_tail(region->data, used, region->bytes);
  if (bytes <= region->bytes) return MOEC_OK;
  if (it->fixed_memory && it->in_run)
    return report(it, MOEC_E_CAPACITY,
                  "%s needs %d bytes but %d are reserved and memory is fixed",
                  what, (int64_t)bytes, (int64_t)region->bytes);
  if (bytes > (uint64_t)INT64_MAX - RT_ALIGN)
    return report(it, MOEC_E_NO_MEMORY, "%s needs more than 2^63 bytes", what);
  bytes = (bytes + RT_ALIGN - 1) / RT_ALIGN * RT_ALIGN;
  /* What need not be kept is given back first, so that the peak is one copy. */
  if (!keep) region_release(it, region);
  char *data = memory_allocate(&it->allocator, bytes);
  if (data == NULL)
    return report(it, MOEC_E_NO_MEMORY, "no memory for %s of %d bytes", what,
                  (int64_t)bytes);
  if (region->data != NULL) {
    memcpy(data, region->data, region->bytes);
    region_release(it, region);
  }
  *region = (rt_region_t){.data = data, .bytes = bytes};
  guard_tail(region->data, used, region->bytes);
  return MOEC_OK;
}
