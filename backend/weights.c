/* Collecting weights, sharing equal ones, streaming them. Data stays where it
 * is, in the mapped model, until weights_write passes it on through one buffer.
 */
#include "backend/weights.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/elf_patch.h"
#include "ir/half.h"

enum {
  BUFFER_BYTES = 4 << 20,
  CHUNK_BYTES =
      256 << 10,         /* unit of writing: stays in the second-level cache */
  GROUP_PANELS = 32,     /* packed together when a panel is long */
  HELD_BYTES = 64 << 20, /* of source rows in use before they are dropped */
  MAX_CANDIDATES = 8,    /* equal samples that are compared in full */
};

typedef struct record {
  weights_entry_t entry;
  const weights_entry_t *stack; /* n_stack > 0: these instead */
  unsigned n_stack;
  uint64_t offset, bytes; /* in the weights */
  uint64_t sample;        /* hash of layout and parts of the data */
  uint64_t full;          /* hash of all data, where has_full */
  bool has_full;
} record_t;

struct weights {
  arena_t *arena;
  record_t *records;
  size_t n_records, room;
  uint32_t *table;   /* open addressing by sample: index + 1, 0 is free */
  size_t table_size; /* power of two, more than twice n_records */
  const weights_mapping_t *mappings;
  size_t n_mappings;
  uint64_t bytes;
  weights_stats_t stats;
};

/* ---- Hashing ------------------------------------------------------------- */

#define HASH_A UINT64_C(0x9e3779b185ebca87)
#define HASH_B UINT64_C(0xc2b2ae3d27d4eb4f)

static uint64_t rotate(uint64_t x, unsigned by) {
  return x << by | x >> (64 - by);
}

static uint64_t hash_step(uint64_t hash, uint64_t word) {
  return rotate(hash + word * HASH_B, 31) * HASH_A;
}

static uint64_t load64(const uint8_t *at) {
  uint64_t word;
  memcpy(&word, at, sizeof word);
  return word;
}

/* Four independent lanes, so that it runs at the speed of memory. */
static uint64_t hash_bytes(const void *data, size_t size, uint64_t seed) {
  const uint8_t *at = data;
  uint64_t lane[4] = {seed + HASH_A, seed ^ HASH_B, seed, seed - HASH_A};
  size_t left = size;
  for (; left >= 32; left -= 32, at += 32)
    for (unsigned i = 0; i < 4; i++)
      lane[i] = hash_step(lane[i], load64(at + 8 * i));
  uint64_t hash = size;
  for (unsigned i = 0; i < 4; i++) hash = hash_step(hash, lane[i]);
  for (; left >= 8; left -= 8, at += 8) hash = hash_step(hash, load64(at));
  for (; left > 0; left--, at++) hash = hash_step(hash, *at);
  hash ^= hash >> 29;
  hash *= HASH_B;
  return hash ^ hash >> 32;
}

/* ---- Collecting ---------------------------------------------------------- */

weights_t *weights_create(arena_t *arena) {
  weights_t *weights = ARENA_NEW(arena, weights_t);
  weights->arena = arena;
  return weights;
}

void weights_may_drop(weights_t *weights, size_t n,
                      const weights_mapping_t *mappings) {
  weights->mappings = mappings;
  weights->n_mappings = n;
}

weights_stats_t weights_stats(const weights_t *weights) {
  return weights->stats;
}

uint64_t weights_bytes(const weights_t *weights) {
  return weights->bytes != 0 ? weights->bytes : 1;
}

void weights_visit(const weights_t *weights,
                   void (*visit)(void *user, uint64_t offset, uint64_t bytes),
                   void *user) {
  for (size_t i = 0; i < weights->n_records; i++)
    visit(user, weights->records[i].offset, weights->records[i].bytes);
}

static uint64_t panel_count(const weights_entry_t *entry) {
  return entry->N / WEIGHTS_PANEL_COLUMNS +
         (entry->N % WEIGHTS_PANEL_COLUMNS != 0);
}

/* As it is written. */
static uint64_t element_bytes(const weights_entry_t *entry) {
  return dtype_bits(entry->dtype) / 8;
}

static uint64_t source_bytes(const weights_entry_t *entry) {
  return dtype_bits(weights_data_dtype(entry)) / 8;
}

static bool narrows(const weights_entry_t *entry) {
  return weights_data_dtype(entry) != entry->dtype;
}

uint64_t weights_entry_bytes(const weights_entry_t *entry) {
  if (entry->layout == WEIGHTS_PLAIN)
    return narrows(entry)
               ? entry->data->size / source_bytes(entry) * element_bytes(entry)
               : entry->data->size;
  uint64_t bytes = element_bytes(entry) * WEIGHTS_PANEL_COLUMNS;
  if (entry->n_batch == 0 || entry->K == 0 || entry->N == 0) return 0;
  if (__builtin_mul_overflow(bytes, panel_count(entry), &bytes) ||
      __builtin_mul_overflow(bytes, entry->K, &bytes) ||
      __builtin_mul_overflow(bytes, entry->n_batch, &bytes))
    return UINT64_MAX;
  return bytes;
}

/* Every element that packing reads lies inside the data. */
static void check_bounds(const weights_entry_t *entry) {
  const uint64_t bits = 8 * source_bytes(entry);
  MOEC_ASSERT(bits == 8 || bits == 16 || bits == 32 || bits == 64);
  const uint64_t counts[] = {entry->n_batch, entry->K, entry->N};
  const uint64_t strides[] = {entry->stride_batch, entry->stride_k,
                              entry->stride_n};
  uint64_t last = 0, step;
  for (unsigned i = 0; i < 3; i++) {
    MOEC_ASSERT(!__builtin_mul_overflow(counts[i] - 1, strides[i], &step));
    MOEC_ASSERT(!__builtin_add_overflow(last, step, &last));
  }
  MOEC_ASSERT(last < entry->data->size / (bits / 8));
}

/* Whether the layouts are the same map from source bytes to bytes. */
static bool same_layout(const weights_entry_t *a, const weights_entry_t *b) {
  if (a->layout != b->layout || a->data->size != b->data->size) return false;
  if (narrows(a) != narrows(b) || (narrows(a) && a->dtype != b->dtype))
    return false;
  if (a->layout == WEIGHTS_PLAIN) return true;
  return element_bytes(a) == element_bytes(b) && a->n_batch == b->n_batch &&
         a->K == b->K && a->N == b->N && a->stride_batch == b->stride_batch &&
         a->stride_k == b->stride_k && a->stride_n == b->stride_n;
}

/* Stacks are the same when they are made of the same views. */
static bool same_stack(const record_t *a, const record_t *b) {
  if (a->n_stack != b->n_stack) return false;
  for (unsigned i = 0; i < a->n_stack; i++)
    if (a->stack[i].data->bytes != b->stack[i].data->bytes ||
        !same_layout(&a->stack[i], &b->stack[i]))
      return false;
  return true;
}

/* A few parts of the data tell most tensors apart without reading them. */
static uint64_t sample_hash(const weights_entry_t *entry) {
  enum { N_PARTS = 16, PART = 64 };
  const uint8_t *bytes = entry->data->bytes;
  const uint64_t size = entry->data->size;
  uint64_t hash = hash_step((uint64_t)entry->layout, size);
  if (size <= (uint64_t)N_PARTS * PART) return hash_bytes(bytes, size, hash);
  for (uint64_t i = 0; i < N_PARTS; i++)
    hash = hash_bytes(bytes + (size - PART) / (N_PARTS - 1) * i, PART, hash);
  return hash;
}

static uint64_t full_hash(record_t *record) {
  if (!record->has_full)
    record->full =
        hash_bytes(record->entry.data->bytes, record->entry.data->size, 0);
  record->has_full = true;
  return record->full;
}

/* Hashing each at most once keeps this linear even for tensors made to agree in
 * what is sampled. */
static bool same_data(record_t *a, record_t *b) {
  const ir_data_t *x = a->entry.data, *y = b->entry.data;
  if (x->bytes == y->bytes) return true;
  return full_hash(a) == full_hash(b) &&
         memcmp(x->bytes, y->bytes, x->size) == 0;
}

/* The earlier record that equals this one, or NULL. */
static const record_t *find_equal(weights_t *weights, record_t *record) {
  unsigned n_candidates = 0;
  const size_t mask = weights->table_size - 1;
  if (weights->table_size == 0) return NULL;
  for (size_t at = record->sample & mask; weights->table[at] != 0;
       at = (at + 1) & mask) {
    record_t *other = &weights->records[weights->table[at] - 1];
    if (other->sample != record->sample ||
        !same_layout(&other->entry, &record->entry) ||
        !same_stack(other, record))
      continue;
    if (same_data(other, record)) return other;
    if (++n_candidates == MAX_CANDIDATES) return NULL;
  }
  return NULL;
}

static void insert(weights_t *weights, uint32_t index) {
  const size_t mask = weights->table_size - 1;
  size_t at = weights->records[index].sample & mask;
  while (weights->table[at] != 0) at = (at + 1) & mask;
  weights->table[at] = index + 1;
}

static void append(weights_t *weights, const record_t *record) {
  MOEC_ASSERT(weights->n_records < UINT32_MAX - 1);
  if (weights->n_records == weights->room) {
    const size_t room = weights->room == 0 ? 64 : 2 * weights->room;
    weights->records =
        arena_grow_array(weights->arena, weights->records, weights->n_records,
                         room, sizeof *weights->records);
    weights->room = room;
    weights->table_size = 4 * room;
    weights->table = ARENA_ARRAY(weights->arena, uint32_t, weights->table_size);
    for (size_t i = 0; i < weights->n_records; i++)
      insert(weights, (uint32_t)i);
  }
  weights->records[weights->n_records] = *record;
  insert(weights, (uint32_t)weights->n_records++);
}

static void check_entry(const weights_entry_t *entry) {
  MOEC_ASSERT(entry->data->bytes != NULL && entry->data->strings == NULL);
  if (entry->layout == WEIGHTS_PANELS) check_bounds(entry);
}

static uint64_t add_record(weights_t *weights, record_t record) {
  weights->stats.n_entries++;
  if (record.bytes == 0) return 0;
  if (record.n_stack == 0) check_entry(&record.entry);
  for (unsigned i = 0; i < record.n_stack; i++) check_entry(&record.stack[i]);
  record.sample = hash_step(sample_hash(&record.entry), record.n_stack);
  const record_t *equal = find_equal(weights, &record);
  if (equal != NULL) {
    weights->stats.n_shared++;
    weights->stats.shared_bytes += record.bytes;
    return equal->offset;
  }
  const uint64_t align =
      record.bytes >= WEIGHTS_PAGE ? WEIGHTS_PAGE : WEIGHTS_ALIGN;
  record.offset = (weights->bytes + align - 1) & ~(align - 1);
  if (record.bytes > WEIGHTS_MAX_BYTES ||
      record.offset > WEIGHTS_MAX_BYTES - record.bytes)
    moec_leave(MOEC_E_LIMIT, "the weights exceed the limit of %llu bytes",
               (unsigned long long)WEIGHTS_MAX_BYTES);
  weights->bytes = record.offset + record.bytes;
  append(weights, &record);
  return record.offset;
}

uint64_t weights_add(weights_t *weights, const weights_entry_t *entry) {
  return add_record(weights, (record_t){.entry = *entry,
                                        .bytes = weights_entry_bytes(entry)});
}

uint64_t weights_add_stack(weights_t *weights, unsigned n,
                           const weights_entry_t *entries) {
  record_t record = {.entry = entries[0], .stack = entries, .n_stack = n};
  for (unsigned i = 0; i < n; i++) {
    uint64_t bytes = weights_entry_bytes(&entries[i]);
    MOEC_ASSERT(entries[i].layout == entries[0].layout);
    if (__builtin_add_overflow(record.bytes, bytes, &record.bytes))
      record.bytes = UINT64_MAX;
  }
  return add_record(weights, record);
}

/* ---- Streaming ----------------------------------------------------------- */

typedef struct writer {
  const weights_t *weights;
  weights_sink_fn sink;
  void *user;
  uint8_t *buffer; /* BUFFER_BYTES */
  uint64_t digest;
} writer_t;

static bool all_zero(const uint8_t *data, size_t size) {
  for (; size >= 8; size -= 8, data += 8)
    if (load64(data) != 0) return false;
  for (; size > 0; size--, data++)
    if (*data != 0) return false;
  return true;
}

static moec_status_t emit(writer_t *writer, uint64_t offset,
                          const uint8_t *data, uint64_t size) {
  while (size > 0) {
    const size_t n = size < CHUNK_BYTES ? (size_t)size : CHUNK_BYTES;
    if (!all_zero(data, n)) {
      writer->digest = hash_step(writer->digest, hash_bytes(data, n, offset));
      MOEC_TRY(writer->sink(writer->user, offset, data, n));
    }
    offset += n;
    data += n;
    size -= n;
  }
  return MOEC_OK;
}

/* Lets go of the pages of consumed data that are in a droppable mapping. Pages
 * at the ends may hold unread bytes too: those are read from the file again. */
static void drop(const writer_t *writer, const uint8_t *data, uint64_t size) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  const uintptr_t begin = (uintptr_t)data & ~(page - 1);
  const uintptr_t end = ((uintptr_t)data + size + page - 1) & ~(page - 1);
  for (size_t i = 0; i < writer->weights->n_mappings; i++) {
    const weights_mapping_t *mapping = &writer->weights->mappings[i];
    const uintptr_t base = (uintptr_t)mapping->base;
    const uintptr_t first = (base + page - 1) & ~(page - 1);
    const uintptr_t last = (base + mapping->size) & ~(page - 1);
    const uintptr_t from = begin > first ? begin : first;
    const uintptr_t to = end < last ? end : last;
    if (from < to) madvise((void *)from, to - from, MADV_DONTNEED);
  }
}

static moec_status_t write_narrowed(writer_t *writer,
                                    const weights_entry_t *entry,
                                    uint64_t offset) {
  const uint8_t *data = entry->data->bytes;
  const uint64_t from_size = source_bytes(entry), size = element_bytes(entry);
  const uint64_t count = weights_entry_bytes(entry) / size;
  const uint64_t most = BUFFER_BYTES / size;
  for (uint64_t at = 0; at < count; at += most) {
    const uint64_t n = count - at < most ? count - at : most;
    half_narrow(entry->dtype, writer->buffer, data + at * from_size, n);
    MOEC_TRY(emit(writer, offset + at * size, writer->buffer, n * size));
    drop(writer, data + at * from_size, n * from_size);
  }
  return MOEC_OK;
}

static moec_status_t write_plain(writer_t *writer, const weights_entry_t *entry,
                                 uint64_t offset) {
  const uint8_t *data = entry->data->bytes;
  const uint64_t bytes = weights_entry_bytes(entry);
  if (narrows(entry)) return write_narrowed(writer, entry, offset);
  for (uint64_t at = 0; at < bytes; at += BUFFER_BYTES) {
    uint64_t n = bytes - at;
    if (n > BUFFER_BYTES) n = BUFFER_BYTES;
    MOEC_TRY(emit(writer, offset + at, data + at, n));
    drop(writer, data + at, n);
  }
  return MOEC_OK;
}

/* Packs one block, which fits into the buffer, and writes it. */
static moec_status_t write_block(writer_t *writer, const weights_entry_t *entry,
                                 uint64_t offset, const uint8_t *from,
                                 weights_block_t block) {
  const uint64_t row = element_bytes(entry) * WEIGHTS_PANEL_COLUMNS;
  const uint64_t rows = block.k_end - block.k_begin;
  const uint64_t panels = block.p_end - block.p_begin;
  const uint64_t count = panels * rows * WEIGHTS_PANEL_COLUMNS;
  MOEC_ASSERT(count * source_bytes(entry) <= BUFFER_BYTES);
  weights_pack(writer->buffer, from, entry, block);
  if (narrows(entry))
    half_narrow(entry->dtype, writer->buffer, writer->buffer, count);
  if (rows == entry->K) /* whole panels follow one another in the output */
    return emit(writer, offset + block.p_begin * entry->K * row, writer->buffer,
                panels * rows * row);
  for (uint64_t p = 0; p < panels; p++)
    MOEC_TRY(emit(
        writer, offset + ((block.p_begin + p) * entry->K + block.k_begin) * row,
        writer->buffer + p * rows * row, rows * row));
  return MOEC_OK;
}

/* How many rows and panels to pack at a time. */
static void choose_block(const weights_entry_t *entry, uint64_t *out_rows,
                         uint64_t *out_panels) {
  const uint64_t row = source_bytes(entry) * WEIGHTS_PANEL_COLUMNS;
  const uint64_t panels = panel_count(entry);
  const uint64_t group = panels < GROUP_PANELS ? panels : GROUP_PANELS;
  *out_rows = BUFFER_BYTES / (row * group);
  *out_panels = group;
  if (entry->stride_n == 1) { /* rows of all panels are held until dropped */
    const uint64_t most = HELD_BYTES / (panels * row) + 16;
    if (*out_rows > most) *out_rows = most;
  } else if (entry->stride_k == 1) { /* columns of a group, likewise */
    const uint64_t most = HELD_BYTES / (row * entry->K) + 1;
    if (*out_panels > most) *out_panels = most;
  }
  if (*out_rows < entry->K) return;
  *out_rows = entry->K;
  *out_panels = BUFFER_BYTES / (row * entry->K);
}

static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Rows outermost where the source has them in order, else panels, so that
 * source pages are done with one after another and can be dropped. */
static moec_status_t write_matrix(writer_t *writer,
                                  const weights_entry_t *entry, uint64_t offset,
                                  const uint8_t *from) {
  const uint64_t size = source_bytes(entry);
  const uint64_t n_panels = panel_count(entry);
  const bool rows_first = entry->stride_n == 1;
  uint64_t rows, panels;
  choose_block(entry, &rows, &panels);
  const uint64_t outer_end = rows_first ? entry->K : n_panels;
  const uint64_t inner_end = rows_first ? n_panels : entry->K;
  const uint64_t outer_step = rows_first ? rows : panels;
  const uint64_t inner_step = rows_first ? panels : rows;
  for (uint64_t o = 0; o < outer_end; o += outer_step) {
    const uint64_t o_end = min_u64(o + outer_step, outer_end);
    for (uint64_t i = 0; i < inner_end; i += inner_step) {
      const uint64_t i_end = min_u64(i + inner_step, inner_end);
      const weights_block_t block = rows_first
                                        ? (weights_block_t){o, o_end, i, i_end}
                                        : (weights_block_t){i, i_end, o, o_end};
      MOEC_TRY(write_block(writer, entry, offset, from, block));
    }
    if (rows_first)
      drop(writer, from + o * entry->stride_k * size,
           (o_end - o - 1) * entry->stride_k * size + entry->N * size);
    else if (entry->stride_k == 1) {
      const uint64_t n = o * WEIGHTS_PANEL_COLUMNS;
      const uint64_t n_end = min_u64(o_end * WEIGHTS_PANEL_COLUMNS, entry->N);
      drop(writer, from + n * entry->stride_n * size,
           (n_end - n - 1) * entry->stride_n * size + entry->K * size);
    }
  }
  return MOEC_OK;
}

static moec_status_t write_panels(writer_t *writer,
                                  const weights_entry_t *entry,
                                  uint64_t offset) {
  const uint64_t bytes = weights_entry_bytes(entry);
  for (uint64_t b = 0; b < entry->n_batch && bytes > 0; b++)
    MOEC_TRY(write_matrix(writer, entry, offset + b * (bytes / entry->n_batch),
                          (const uint8_t *)entry->data->bytes +
                              b * entry->stride_batch * source_bytes(entry)));
  drop(writer, entry->data->bytes, entry->data->size);
  return MOEC_OK;
}

static moec_status_t write_entry(writer_t *writer, const weights_entry_t *entry,
                                 uint64_t offset) {
  return entry->layout == WEIGHTS_PLAIN ? write_plain(writer, entry, offset)
                                        : write_panels(writer, entry, offset);
}

static moec_status_t write_record(writer_t *writer, const record_t *record) {
  uint64_t offset = record->offset;
  if (record->n_stack == 0) return write_entry(writer, &record->entry, offset);
  for (unsigned i = 0; i < record->n_stack; i++) {
    MOEC_TRY(write_entry(writer, &record->stack[i], offset));
    offset += weights_entry_bytes(&record->stack[i]);
  }
  return MOEC_OK;
}

moec_status_t weights_write(const weights_t *weights, weights_sink_fn sink,
                            void *user, uint64_t *out_digest) {
  writer_t writer = {.weights = weights, .sink = sink, .user = user};
  if (out_digest != NULL) *out_digest = 0;
  for (size_t i = 0; i < weights->n_records; i++) {
    const record_t *record = &weights->records[i];
    const bool packs = record->entry.layout == WEIGHTS_PANELS;
    if ((packs || narrows(&record->entry)) && writer.buffer == NULL)
      writer.buffer = arena_alloc(weights->arena, BUFFER_BYTES);
    MOEC_TRY(write_record(&writer, record));
  }
  if (out_digest != NULL)
    *out_digest = hash_step(writer.digest, weights->bytes);
  return MOEC_OK;
}

moec_status_t weights_to_memory(void *user, uint64_t offset, const void *data,
                                size_t size) {
  memcpy((uint8_t *)user + offset, data, size);
  return MOEC_OK;
}
