/* Checking the inputs of a run, binding the symbols of their dimensions, and
 * copying what generated code cannot read in place. */
#include "runtime/libc.h"
#include "runtime/runtime.h"

/* The first version's size of a value: callers may know more, never less. */
static const size_t value_size_v1 =
    offsetof(moec_value_t, reserved) + sizeof(int32_t);

moec_status_t values_check(moec_instance_t *it, const moec_value_t *values,
                           uint32_t n, uint32_t want, const char *what) {
  if (n != want)
    return report(it, MOEC_E_USAGE, "%d %ss given but the model has %d",
                  (int64_t)n, what, (int64_t)want);
  if (n == 0) return MOEC_OK;
  if (values == NULL) return report(it, MOEC_E_USAGE, "the %ss are NULL", what);
  uint32_t bytes = values[0].struct_size;
  if (bytes < value_size_v1 || bytes % _Alignof(moec_value_t) != 0)
    return report(it, MOEC_E_USAGE, "struct_size of the %ss is %d", what,
                  (int64_t)bytes);
  for (uint32_t i = 1; i < n; i++)
    if (value_at(values, i)->struct_size != bytes)
      return report(it, MOEC_E_USAGE,
                    "struct_size of %s %d is %d but of the "
                    "first %d",
                    what, (int64_t)i, (int64_t)value_at(values, i)->struct_size,
                    (int64_t)bytes);
  return MOEC_OK;
}

static moec_status_t bind_symbol(moec_instance_t *it, int32_t symbol,
                                 int32_t input, int32_t axis, int64_t dim) {
  rt_binding_t *binding = &it->bindings[symbol];
  if (binding->input < 0) {
    *binding = (rt_binding_t){.input = input, .axis = axis};
    it->frame.symbols[symbol] = dim;
    return MOEC_OK;
  }
  if (it->frame.symbols[symbol] == dim) return MOEC_OK;
  return report(it, MOEC_E_SHAPE,
                "dimension %s is %d for input \"%s\" axis %d but %d for input "
                "\"%s\" axis %d",
                moert_program.symbol_names[symbol], it->frame.symbols[symbol],
                moert_program.inputs[binding->input].name,
                (int64_t)binding->axis, dim, moert_program.inputs[input].name,
                (int64_t)axis);
}

static moec_status_t check_dims(moec_instance_t *it, uint32_t index,
                                const moec_value_t *value) {
  const moec_io_t *io = &moert_program.inputs[index];
  if (value->rank > 0 && value->dims == NULL)
    return report(it, MOEC_E_USAGE, "input \"%s\" has no dims", io->name);
  for (int32_t axis = 0; axis < io->rank; axis++) {
    int64_t dim = value->dims[axis];
    if (dim < 0)
      return report(it, MOEC_E_SHAPE, "input \"%s\" axis %d is %d, negative",
                    io->name, (int64_t)axis, dim);
    if (io->dims[axis] >= 0 && dim != io->dims[axis])
      return report(it, MOEC_E_SHAPE,
                    "input \"%s\" axis %d is %d but the model takes %d",
                    io->name, (int64_t)axis, dim, io->dims[axis]);
    if (io->dim_symbols != NULL && io->dim_symbols[axis] >= 0)
      RT_TRY(bind_symbol(it, io->dim_symbols[axis], (int32_t)index, axis, dim));
  }
  if (!dtype_tensor_bytes(io->dtype, io->rank, value->dims,
                          &it->inputs[index].bytes))
    return report(it, MOEC_E_SHAPE, "input \"%s\" has more than 2^63 - 1 bytes",
                  io->name);
  return MOEC_OK;
}

static moec_status_t check_input(moec_instance_t *it, uint32_t index,
                                 const moec_value_t *value, bool with_data) {
  const moec_io_t *io = &moert_program.inputs[index];
  if (io->optional && value->data == NULL && (with_data || value->dims == NULL))
    return MOEC_OK; /* absent */
  if (value->kind != io->kind)
    return report(it, MOEC_E_DTYPE, "input \"%s\" is not a tensor", io->name);
  if (value->dtype != io->dtype)
    return report(it, MOEC_E_DTYPE, "input \"%s\" is %s but the model takes %s",
                  io->name, dtype_name(value->dtype), dtype_name(io->dtype));
  if (value->rank != io->rank)
    return report(it, MOEC_E_RANK,
                  "input \"%s\" has rank %d but the model takes %d", io->name,
                  (int64_t)value->rank, (int64_t)io->rank);
  RT_TRY(check_dims(it, index, value));
  if (with_data && value->data == NULL && it->inputs[index].bytes > 0)
    return report(it, MOEC_E_USAGE, "input \"%s\" has no data", io->name);
  it->inputs[index].value = value;
  return MOEC_OK;
}

moec_status_t inputs_bind(moec_instance_t *it, const moec_value_t *inputs,
                          uint32_t n_inputs, bool with_data) {
  RT_TRY(values_check(it, inputs, n_inputs, moert_program.n_inputs, "input"));
  for (uint32_t i = 0; i < moert_program.n_symbols; i++) {
    it->frame.symbols[i] = 0;
    it->bindings[i].input = -1;
  }
  for (uint32_t i = 0; i < n_inputs; i++) it->inputs[i].value = NULL;
  for (uint32_t i = 0; i < n_inputs; i++)
    RT_TRY(check_input(it, i, value_at(inputs, i), with_data));
  return MOEC_OK;
}

bool value_is_contiguous(const moec_value_t *value) {
  if (value->strides == NULL) return true;
  int64_t want = 1;
  for (int32_t i = value->rank; i-- > 0;) {
    if (value->dims[i] != 1 && value->strides[i] != want) return false;
    want *= value->dims[i];
  }
  return true;
}

static bool needs_copy(const rt_input_t *input) {
  const moec_value_t *value = input->value;
  if (value == NULL || input->bytes == 0) return false;
  return !value_is_contiguous(value) ||
         (uintptr_t)value->data % dtype_align(value->dtype) != 0;
}

/* Inner dimensions that lie one after another are one. */
typedef struct strided {
  int32_t rank; /* at least 1 */
  int64_t dims[MOEC_MAX_RANK + 1];
  int64_t strides[MOEC_MAX_RANK + 1]; /* in bytes */
} strided_t;

static strided_t collapse(const moec_value_t *value, int64_t element) {
  strided_t s = {.rank = 1, .dims = {1}, .strides = {element}};
  for (int32_t i = 0; i < value->rank; i++) {
    int64_t dim = value->dims[i], stride = value->strides[i] * element;
    if (dim == 1) continue;
    int32_t last = s.rank - 1;
    if (s.dims[last] == 1) {
      s.dims[last] = dim;
      s.strides[last] = stride;
    } else if (s.strides[last] == dim * stride) {
      s.dims[last] *= dim;
      s.strides[last] = stride;
    } else {
      s.dims[s.rank] = dim;
      s.strides[s.rank++] = stride;
    }
  }
  return s;
}

static void copy_row(char *to, const char *from, int64_t n, int64_t stride,
                     int64_t element) {
  if (stride == element) {
    memcpy(to, from, (size_t)(n * element));
    return;
  }
#define COPY_ELEMENTS(bytes)                            \
  case bytes:                                           \
    for (int64_t i = 0; i < n; i++)                     \
      memcpy(to + i * bytes, from + i * stride, bytes); \
    break;
  switch (element) {
    COPY_ELEMENTS(1)
    COPY_ELEMENTS(2)
    COPY_ELEMENTS(4)
    COPY_ELEMENTS(8)
    COPY_ELEMENTS(16)
    default:
      break;
  }
#undef COPY_ELEMENTS
}

static void copy_strided(char *to, const moec_value_t *value, int64_t element) {
  const strided_t s = collapse(value, element);
  const int32_t inner = s.rank - 1;
  int64_t at[MOEC_MAX_RANK + 1] = {0};
  const char *from = value->data;
  for (;;) {
    copy_row(to, from, s.dims[inner], s.strides[inner], element);
    to += s.dims[inner] * element;
    int32_t axis = inner;
    while (axis-- > 0) {
      from += s.strides[axis];
      if (++at[axis] < s.dims[axis]) break;
      from -= s.dims[axis] * s.strides[axis];
      at[axis] = 0;
    }
    if (axis < 0) return;
  }
}

void value_copy(char *to, const moec_value_t *value, int64_t bytes) {
  if (bytes == 0) return;
  if (value_is_contiguous(value))
    memcpy(to, value->data, (size_t)bytes);
  else
    copy_strided(to, value, dtype_bits(value->dtype) / 8);
}

moec_status_t inputs_reserve(moec_instance_t *it) {
  for (uint32_t i = 0; i < moert_program.n_inputs; i++) {
    rt_input_t *input = &it->inputs[i];
    if (!needs_copy(input)) continue;
    if (!value_is_contiguous(input->value) &&
        dtype_bits(input->value->dtype) < 8)
      return report(
          it, MOEC_E_UNSUPPORTED,
          "input \"%s\" has strides, which packed elements cannot have",
          moert_program.inputs[i].name);
    RT_TRY(region_reserve(it, &input->copy, (uint64_t)input->bytes, false,
                          "the copy of a strided input"));
  }
  return MOEC_OK;
}

moec_status_t inputs_load(moec_instance_t *it) {
  RT_TRY(inputs_reserve(it));
  for (uint32_t i = 0; i < moert_program.n_inputs; i++) {
    rt_input_t *input = &it->inputs[i];
    const moec_value_t *value = input->value;
    if (value == NULL) {
      it->frame.inputs[i] = NULL;
    } else if (!needs_copy(input)) {
      /* An empty tensor's pointer may be anything; it must tell presence. */
      it->frame.inputs[i] = input->bytes > 0 ? value->data : (void *)it;
    } else {
      it->frame.inputs[i] = input->copy.data;
      value_copy(input->copy.data, value, input->bytes);
    }
  }
  return MOEC_OK;
}
