/* Layout, sharing and streaming of weights, against the definitions. */
#include <fcntl.h>
#include <sys/mman.h>

#include "backend/elf_patch.h"
#include "ir/half.h"
#include "link_support.h"

static const dtype_t dtypes[] = {DT_I8, DT_F16, DT_F32, DT_F64};
enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

/* Numbers that differ between neighbours in every order. */
static uint8_t *numbers(link_fixture_t *f, size_t size) {
  uint8_t *bytes = arena_alloc(f->arena, size + 1);
  uint32_t random = 1;
  for (size_t i = 0; i <= size; i++) {
    random = random * 1664525 + 1013904223;
    bytes[i] = (uint8_t)(random >> 24);
  }
  return bytes + 1; /* unaligned */
}

static uint8_t *to_memory(link_fixture_t *f, const weights_t *weights) {
  uint8_t *memory = arena_alloc(f->arena, weights_bytes(weights));
  assert_ok(f, weights_write(weights, weights_to_memory, memory, NULL));
  return memory;
}

static void check_panels(const weights_entry_t *e, const uint8_t *to) {
  const size_t size = dtype_bits(e->dtype) / 8;
  const uint8_t *from = e->data->bytes;
  static const uint8_t zeros[8];
  for (uint64_t b = 0; b < e->n_batch; b++)
    for (uint64_t p = 0; p < (e->N + 31) / 32; p++)
      for (uint64_t k = 0; k < e->K; k++)
        for (uint64_t j = 0; j < 32; j++, to += size) {
          const uint64_t n = 32 * p + j;
          const uint8_t *want =
              n >= e->N ? zeros
                        : from + (b * e->stride_batch + k * e->stride_k +
                                  n * e->stride_n) *
                                     size;
          if (memcmp(to, want, size) != 0)
            fail_msg(
                "%s [%llu][%llu][%llu] strides %llu %llu: wrong element "
                "at batch %llu k %llu n %llu",
                dtype_name(e->dtype), (unsigned long long)e->n_batch,
                (unsigned long long)e->K, (unsigned long long)e->N,
                (unsigned long long)e->stride_k,
                (unsigned long long)e->stride_n, (unsigned long long)b,
                (unsigned long long)k, (unsigned long long)n);
        }
}

enum { ROWS, COLUMNS, SPREAD, N_ORDERS };

/* An entry of exactly the data that it needs. */
static weights_entry_t panels(link_fixture_t *f, dtype_t dtype, unsigned order,
                              uint64_t n_batch, uint64_t K, uint64_t N) {
  weights_entry_t e = {.dtype = dtype,
                       .layout = WEIGHTS_PANELS,
                       .n_batch = n_batch,
                       .K = K,
                       .N = N};
  if (order == ROWS) {
    e.stride_k = N + 3;
    e.stride_n = 1;
    e.stride_batch = K * (N + 3);
  } else if (order == COLUMNS) {
    e.stride_k = 1;
    e.stride_n = K + 5;
    e.stride_batch = N * (K + 5);
  } else { /* batch innermost */
    e.stride_batch = 1;
    e.stride_n = n_batch;
    e.stride_k = N * n_batch;
  }
  const uint64_t n = (n_batch - 1) * e.stride_batch + (K - 1) * e.stride_k +
                     (N - 1) * e.stride_n + 1;
  ir_data_t *data = ARENA_NEW(f->arena, ir_data_t);
  data->size = dtype_bytes(dtype, n);
  data->bytes = numbers(f, data->size);
  e.data = data;
  return e;
}

static void check_sizes(link_fixture_t *f, uint64_t n_batch, uint64_t K,
                        uint64_t N) {
  for (unsigned d = 0; d < N_DTYPES; d++)
    for (unsigned order = 0; order < N_ORDERS; order++) {
      const weights_entry_t e = panels(f, dtypes[d], order, n_batch, K, N);
      weights_t *weights = weights_create(f->arena);
      const uint64_t at = weights_add(weights, &e);
      assert_int_equal(weights_bytes(weights) - at, weights_entry_bytes(&e));
      check_panels(&e, to_memory(f, weights) + at);
    }
}

static void panels_match_their_definition(void **state) {
  link_fixture_t *f = *state;
  static const uint64_t sizes[] = {1, 2, 15, 16, 31, 32, 33, 64, 65, 100};
  enum { N = sizeof sizes / sizeof sizes[0] };
  for (unsigned k = 0; k < N; k++)
    for (unsigned n = 0; n < N; n++)
      check_sizes(f, 1 + (k + n) % 3, sizes[k], sizes[n]);
}

/* Panels longer than the buffer, more panels than are packed at a time. */
static void large_panels_match_their_definition(void **state) {
  link_fixture_t *f = *state;
  check_sizes(f, 1, 9000, 70);
  check_sizes(f, 2, 1100, 1100);
  check_sizes(f, 1, 3, 40000);
  check_sizes(f, 1, 40000, 3);
}

/* stride_n == stride_k == 1 and strides of zero are maps like others. */
static void overlapping_strides_match_their_definition(void **state) {
  link_fixture_t *f = *state;
  static const uint64_t strides[][3] = {{0, 1, 1}, {0, 0, 1}, {0, 1, 0},
                                        {1, 0, 0}, {0, 0, 0}, {7, 2, 3}};
  for (unsigned i = 0; i < sizeof strides / sizeof strides[0]; i++) {
    ir_data_t data = {.bytes = numbers(f, 4000), .size = 4000};
    const weights_entry_t e = {.data = &data,
                               .dtype = DT_F32,
                               .layout = WEIGHTS_PANELS,
                               .n_batch = 3,
                               .K = 40,
                               .N = 50,
                               .stride_batch = strides[i][0],
                               .stride_k = strides[i][1],
                               .stride_n = strides[i][2]};
    weights_t *weights = weights_create(f->arena);
    const uint64_t at = weights_add(weights, &e);
    check_panels(&e, to_memory(f, weights) + at);
  }
}

/* Writes an entry of f32 as it is and narrowed; in both the same elements lie
 * at the same places. */
static void stacked_panels_lie_one_after_the_other(void **state) {
  link_fixture_t *f = *state;
  weights_t *weights = weights_create(f->arena);
  weights_entry_t e[] = {panels(f, DT_F32, ROWS, 1, 70, 50),
                         panels(f, DT_F32, COLUMNS, 3, 70, 50),
                         panels(f, DT_F32, ROWS, 1, 70, 50)};
  weights_entry_t other = panels(f, DT_F32, ROWS, 1, 5, 5);
  weights_add(weights, &other);
  uint64_t at = weights_add_stack(weights, 3, e);
  assert_int_equal(weights_add_stack(weights, 3, e), at);
  assert_int_not_equal(weights_add_stack(weights, 2, e), at);
  assert_int_not_equal(weights_add(weights, &e[0]), at);
  const uint8_t *memory = to_memory(f, weights);
  for (unsigned i = 0; i < 3; i++) {
    check_panels(&e[i], memory + at);
    at += weights_entry_bytes(&e[i]);
  }
}

static void check_narrowed(link_fixture_t *f, weights_entry_t e, dtype_t to) {
  weights_t *wide = weights_create(f->arena);
  weights_t *narrow = weights_create(f->arena);
  const uint64_t bytes = weights_entry_bytes(&e);
  assert_int_equal(weights_add(wide, &e), 0);
  e.data_dtype = DT_F32;
  e.dtype = to;
  assert_int_equal(weights_entry_bytes(&e), bytes / 2);
  assert_int_equal(weights_add(narrow, &e), 0);
  uint8_t *want = to_memory(f, wide);
  half_narrow(to, want, want, bytes / 4);
  assert_memory_equal(to_memory(f, narrow), want, bytes / 2);
}

static void narrowed_entries_are_those_of_f32_in_half_the_bytes(void **state) {
  link_fixture_t *f = *state;
  static const uint64_t sizes[][3] = {
      {1, 1, 1}, {3, 33, 70}, {2, 100, 64}, {1, 9000, 300}, {1, 3, 40000}};
  enum { N = sizeof sizes / sizeof sizes[0] };
  for (unsigned i = 0; i < 2 * N; i++) {
    const dtype_t to = i % 2 == 0 ? DT_BF16 : DT_F16;
    const uint64_t *size = sizes[i / 2];
    for (unsigned order = 0; order < N_ORDERS; order++) {
      weights_entry_t e = panels(f, DT_F32, order, size[0], size[1], size[2]);
      check_narrowed(f, e, to);
      e = (weights_entry_t){.data = e.data, .dtype = DT_F32};
      check_narrowed(f, e, to);
    }
  }
}

static void equal_data_of_other_types_is_stored_apart(void **state) {
  link_fixture_t *f = *state;
  static const dtype_t types[] = {DT_F32, DT_BF16, DT_F16};
  weights_entry_t e = panels(f, DT_F32, ROWS, 1, 64, 64);
  weights_t *weights = weights_create(f->arena);
  for (unsigned layout = 0; layout < 2; layout++)
    for (unsigned i = 0; i < 6; i++) {
      e.layout = layout == 0 ? WEIGHTS_PANELS : WEIGHTS_PLAIN;
      e.dtype = types[i % 3];
      e.data_dtype = DT_F32;
      (void)weights_add(weights, &e);
    }
  assert_int_equal(weights_stats(weights).n_entries, 12);
  assert_int_equal(weights_stats(weights).n_shared, 6);
}

static weights_entry_t plain(link_fixture_t *f, const void *bytes,
                             size_t size) {
  ir_data_t *data = ARENA_NEW(f->arena, ir_data_t);
  *data = (ir_data_t){.bytes = bytes, .size = size};
  return (weights_entry_t){
      .data = data, .dtype = DT_U8, .layout = WEIGHTS_PLAIN};
}

static uint64_t add_plain(link_fixture_t *f, weights_t *weights,
                          const void *bytes, size_t size) {
  const weights_entry_t entry = plain(f, bytes, size);
  return weights_add(weights, &entry);
}

static void stacked_constants_lie_one_after_the_other(void **state) {
  link_fixture_t *f = *state;
  weights_t *weights = weights_create(f->arena);
  const weights_entry_t e[] = {plain(f, "abcde", 5), plain(f, "fgh", 3)};
  add_plain(f, weights, "abcde", 5);
  const uint64_t at = weights_add_stack(weights, 2, e);
  assert_int_not_equal(at, 0);
  assert_int_equal(weights_add_stack(weights, 2, e), at);
  assert_memory_equal(to_memory(f, weights) + at, "abcdefgh", 8);
}

static void offsets_are_aligned_and_apart(void **state) {
  link_fixture_t *f = *state;
  static const size_t sizes[] = {1,    63,    64, 65,     4095, 4096, 4097, 10,
                                 8192, 10000, 1,  300000, 2,    4096, 100};
  enum { N = sizeof sizes / sizeof sizes[0] };
  weights_t *weights = weights_create(f->arena);
  assert_int_equal(weights_bytes(weights), 1); /* never empty */
  uint8_t *bytes[N];
  uint64_t offsets[N], end = 0;
  for (unsigned i = 0; i < N; i++) {
    bytes[i] = numbers(f, sizes[i]);
    bytes[i][0] = (uint8_t)(i + 1); /* all different */
    offsets[i] = add_plain(f, weights, bytes[i], sizes[i]);
    assert_true(offsets[i] >= end);
    assert_int_equal(offsets[i] % (sizes[i] >= 4096 ? 4096 : 64), 0);
    end = offsets[i] + sizes[i];
  }
  assert_int_equal(weights_bytes(weights), end);
  const uint8_t *memory = to_memory(f, weights);
  for (unsigned i = 0; i < N; i++)
    assert_memory_equal(memory + offsets[i], bytes[i], sizes[i]);
}

static void equal_data_is_stored_once(void **state) {
  link_fixture_t *f = *state;
  weights_t *weights = weights_create(f->arena);
  const size_t size = 100000;
  uint8_t *a = numbers(f, size), *b = numbers(f, size);
  assert_ptr_not_equal(a, b);
  const uint64_t first = add_plain(f, weights, a, size);
  assert_int_equal(add_plain(f, weights, b, size), first);
  assert_int_equal(add_plain(f, weights, a, size), first);
  /* Equal bytes under another size or layout are other weights. */
  assert_int_not_equal(add_plain(f, weights, a, size - 1), first);
  weights_entry_t e = {.data = plain(f, a, size).data,
                       .dtype = DT_F32,
                       .layout = WEIGHTS_PANELS,
                       .n_batch = 1,
                       .K = 100,
                       .N = 250,
                       .stride_k = 250,
                       .stride_n = 1};
  const uint64_t packed = weights_add(weights, &e);
  assert_int_not_equal(packed, first);
  e.data = plain(f, b, size).data;
  e.dtype = DT_I32; /* the same bits */
  assert_int_equal(weights_add(weights, &e), packed);
  e.stride_k = 1;
  e.stride_n = 100;
  assert_int_not_equal(weights_add(weights, &e), packed);
  const weights_stats_t stats = weights_stats(weights);
  assert_int_equal(stats.n_entries, 7);
  assert_int_equal(stats.n_shared, 3);
  assert_int_equal(stats.shared_bytes, 2 * size + 256 * 100 * 4);
}

/* One byte that no sample looks at. */
static void nearly_equal_data_is_stored_apart(void **state) {
  link_fixture_t *f = *state;
  const size_t size = 200000;
  weights_t *weights = weights_create(f->arena);
  enum { N = 40 };
  uint64_t offsets[N];
  for (unsigned i = 0; i < N; i++) {
    uint8_t *bytes = arena_alloc(f->arena, size);
    bytes[777] = (uint8_t)(i % 20); /* each twice */
    offsets[i] = add_plain(f, weights, bytes, size);
    for (unsigned j = 0; j < i; j++)
      if (j % 20 != i % 20) assert_int_not_equal(offsets[j], offsets[i]);
  }
  assert_int_equal(offsets[20], offsets[0]);
  const uint8_t *memory = to_memory(f, weights);
  for (unsigned i = 0; i < N; i++)
    assert_int_equal(memory[offsets[i] + 777], i % 20);
}

static void thousands_of_entries_keep_their_places(void **state) {
  link_fixture_t *f = *state;
  weights_t *weights = weights_create(f->arena);
  enum { N = 5000 };
  uint32_t *values = arena_alloc(f->arena, N * sizeof *values);
  for (uint32_t i = 0; i < N; i++) {
    values[i] = i % 4000;
    assert_int_equal(add_plain(f, weights, &values[i], sizeof values[i]),
                     64 * (i % 4000));
  }
  assert_int_equal(weights_stats(weights).n_shared, 1000);
}

static void empty_entries_take_no_room(void **state) {
  link_fixture_t *f = *state;
  weights_t *weights = weights_create(f->arena);
  add_plain(f, weights, NULL, 0);
  weights_entry_t e = plain(f, NULL, 0);
  e.layout = WEIGHTS_PANELS;
  e.dtype = DT_F32;
  e.n_batch = 4;
  e.N = 5; /* K is 0 */
  assert_int_equal(weights_entry_bytes(&e), 0);
  weights_add(weights, &e);
  assert_int_equal(weights_bytes(weights), 1);
  uint64_t digest;
  assert_ok(f, weights_write(weights, NULL, NULL, &digest)); /* no calls */
}

typedef struct counter {
  uint64_t calls, bytes, fail_at;
} counter_t;

static moec_status_t count(void *user, uint64_t offset, const void *data,
                           size_t size) {
  counter_t *counter = user;
  (void)offset;
  (void)data;
  counter->bytes += size;
  return ++counter->calls == counter->fail_at ? MOEC_E_IO : MOEC_OK;
}

static void large_runs_of_zeros_are_left_out(void **state) {
  link_fixture_t *f = *state;
  const size_t size = (size_t)64 << 20;
  uint8_t *bytes = arena_alloc(f->arena, size);
  bytes[size / 2] = 1;
  weights_t *weights = weights_create(f->arena);
  add_plain(f, weights, bytes, size);
  counter_t counter = {0};
  assert_ok(f, weights_write(weights, count, &counter, NULL));
  assert_int_equal(counter.calls, 1);
  assert_true(counter.bytes <= 1 << 20);
}

static void status_of_the_sink_ends_writing(void **state) {
  link_fixture_t *f = *state;
  const weights_entry_t e = panels(f, DT_F32, ROWS, 3, 3000, 600);
  for (unsigned layout = 0; layout < 2; layout++) {
    weights_t *weights = weights_create(f->arena);
    if (layout == 0)
      weights_add(weights, &e);
    else
      add_plain(f, weights, e.data->bytes, e.data->size);
    for (uint64_t n = 1; n < 20; n += 3) {
      counter_t counter = {.fail_at = n};
      assert_int_equal(weights_write(weights, count, &counter, NULL),
                       MOEC_E_IO);
      assert_int_equal(counter.calls, n);
    }
  }
}

static uint64_t digest_of(link_fixture_t *f, const void *bytes, size_t size) {
  weights_t *weights = weights_create(f->arena);
  add_plain(f, weights, bytes, size);
  counter_t counter = {0};
  uint64_t digest;
  assert_ok(f, weights_write(weights, count, &counter, &digest));
  return digest;
}

static void digest_sees_every_byte_and_its_place(void **state) {
  link_fixture_t *f = *state;
  const size_t size = (size_t)1 << 20;
  uint8_t *bytes = arena_alloc(f->arena, size);
  const uint64_t zeros = digest_of(f, bytes, size);
  assert_true(digest_of(f, bytes, size - 1) != zeros);
  bytes[100] = 1;
  const uint64_t early = digest_of(f, bytes, size);
  assert_true(early != zeros);
  bytes[100] = 0;
  bytes[100 + size / 2] = 1; /* the same chunk, elsewhere */
  assert_true(digest_of(f, bytes, size) != early);
  bytes[100 + size / 2] = 0;
  bytes[100] = 1;
  assert_true(digest_of(f, bytes, size) == early);
  bytes[size - 1] = 1;
  assert_true(digest_of(f, bytes, size) != early);
}

/* Pages of a mapped file are dropped, other memory keeps its contents. */
static void only_mapped_pages_are_dropped(void **state) {
  link_fixture_t *f = *state;
  const size_t size = (size_t)8 << 20;
  const char *path = link_path(f, "data");
  int fd = open(path, O_RDWR | O_CREAT, 0600);
  assert_true(fd >= 0);
  uint8_t *bytes = numbers(f, size);
  assert_int_equal(pwrite(fd, bytes, size, 0), size);
  uint8_t *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  assert_true(map != MAP_FAILED);
  close(fd);

  weights_t *weights = weights_create(f->arena);
  const weights_mapping_t mapping = {map, size};
  weights_may_drop(weights, 1, &mapping);
  const size_t half = size / 2;
  const uint64_t a = add_plain(f, weights, map, half);
  weights_entry_t e = plain(f, map + half, half);
  e.layout = WEIGHTS_PANELS;
  e.dtype = DT_F32;
  e.n_batch = 1;
  e.K = 1024;
  e.N = 1024;
  e.stride_k = 1;
  e.stride_n = 1024;
  const uint64_t b = weights_add(weights, &e);
  e.data = plain(f, bytes, half).data; /* not mapped */
  const uint64_t c = weights_add(weights, &e);
  const uint8_t *memory = to_memory(f, weights);
  assert_memory_equal(memory + a, bytes, half);
  check_panels(&e, memory + c);
  e.data = plain(f, bytes + half, half).data;
  check_panels(&e, memory + b);
  assert_memory_equal(bytes, map, size);
  munmap(map, size);
}

static void total_beyond_the_limit_leaves(void **state) {
  link_fixture_t *f = *state;
  weights_t *weights = weights_create(f->arena);
  static const uint8_t byte = 1;
  const ir_data_t data = {.bytes = &byte, .size = 1};
  const weights_entry_t e = {.data = &data,
                             .dtype = DT_U8,
                             .layout = WEIGHTS_PANELS,
                             .n_batch = (uint64_t)1 << 40,
                             .K = 1,
                             .N = 1};
  add_plain(f, weights, "x", 1);
  add_plain(f, weights, "y", 1);
  weights_add(weights, &e); /* half of the limit */
  recovery_t point;
  recovery_enter(&point);
  if (setjmp(point.jump) == 0) {
    weights_entry_t more = e;
    more.K = 2;
    weights_add(weights, &more);
    fail_msg("%s", "accepted");
  }
  recovery_leave(&point);
  assert_int_equal(point.status, MOEC_E_LIMIT);
  weights_entry_t absurd = e;
  absurd.K = UINT64_MAX / 8;
  assert_true(weights_entry_bytes(&absurd) == UINT64_MAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      LINK_TEST(panels_match_their_definition),
      LINK_TEST(large_panels_match_their_definition),
      LINK_TEST(overlapping_strides_match_their_definition),
      LINK_TEST(stacked_panels_lie_one_after_the_other),
      LINK_TEST(stacked_constants_lie_one_after_the_other),
      LINK_TEST(narrowed_entries_are_those_of_f32_in_half_the_bytes),
      LINK_TEST(equal_data_of_other_types_is_stored_apart),
      LINK_TEST(offsets_are_aligned_and_apart),
      LINK_TEST(equal_data_is_stored_once),
      LINK_TEST(nearly_equal_data_is_stored_apart),
      LINK_TEST(thousands_of_entries_keep_their_places),
      LINK_TEST(empty_entries_take_no_room),
      LINK_TEST(large_runs_of_zeros_are_left_out),
      LINK_TEST(status_of_the_sink_ends_writing),
      LINK_TEST(digest_sees_every_byte_and_its_place),
      LINK_TEST(only_mapped_pages_are_dropped),
      LINK_TEST(total_beyond_the_limit_leaves),
  };
  return cmocka_run_group_tests_name("backend/weights", tests, NULL, NULL);
}
