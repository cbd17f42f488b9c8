/* Tensors made by hand. */
#ifndef TESTS_TOOLS_VALUE_SUPPORT_H
#define TESTS_TOOLS_VALUE_SUPPORT_H

#include "cli_support.h"
#include "frontend/load.h"

typedef struct value_fixture {
  arena_t *arena;
  diag_sink_t diag;
} value_fixture_t;

static inline int value_setup(void **state) {
  value_fixture_t *f = calloc(1, sizeof *f);
  assert_non_null(f);
  f->arena = arena_create(0);
  diag_init(&f->diag, f->arena, NULL);
  *state = f;
  return 0;
}

static inline int value_teardown(void **state) {
  value_fixture_t *f = *state;
  arena_destroy(f->arena);
  free(f);
  return 0;
}

/* A tensor of `rank` dimensions whose elements are copied from `bytes`. */
static inline onnx_value_t *make_tensor(arena_t *arena, dtype_t dtype,
                                        unsigned rank, const int64_t *dims,
                                        const void *bytes) {
  onnx_value_t *value = ARENA_NEW(arena, onnx_value_t);
  int64_t *own = ARENA_ARRAY(arena, int64_t, rank);
  uint64_t count = 1;
  for (unsigned i = 0; i < rank; i++) {
    own[i] = dims[i];
    count *= (uint64_t)dims[i];
  }
  *value = (onnx_value_t){
      .kind = IR_TENSOR, .dtype = dtype, .rank = rank, .dims = own};
  value->data = ARENA_NEW(arena, ir_data_t);
  value->data->size = dtype_bytes(dtype, count);
  if (dtype == DT_STR) {
    value->data->strings = bytes;
  } else {
    char *copy = arena_alloc(arena, (size_t)value->data->size);
    if (value->data->size > 0) memcpy(copy, bytes, (size_t)value->data->size);
    value->data->bytes = copy;
  }
  return value;
}

static inline onnx_value_t *make_vector(arena_t *arena, dtype_t dtype,
                                        int64_t n, const void *bytes) {
  return make_tensor(arena, dtype, 1, &n, bytes);
}

static inline onnx_value_t *make_list(arena_t *arena, ir_kind_t kind, size_t n,
                                      onnx_value_t *const *elems) {
  onnx_value_t *value = ARENA_NEW(arena, onnx_value_t);
  onnx_value_t **own = ARENA_ARRAY(arena, onnx_value_t *, n);
  for (size_t i = 0; i < n; i++) own[i] = elems[i];
  *value = (onnx_value_t){.kind = kind, .n_elems = n, .elems = own};
  return value;
}

#define VALUE_TEST(name) \
  cmocka_unit_test_setup_teardown(name, value_setup, value_teardown)

#endif
