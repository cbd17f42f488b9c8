/* Where the results of a run go: the caller's buffers or the instance's memory.
 */
#include "runtime/guard.h"
#include "runtime/libc.h"
#include "runtime/runtime.h"

static moec_value_t *output_at(moec_value_t *outputs, uint32_t index) {
  return (moec_value_t *)value_at(outputs, index);
}

/* Dimensions of output `index` as plan() left them. */
static const int64_t *planned_dims(const moec_instance_t *it, uint32_t index) {
  const int64_t *dims = it->frame.output_dims;
  for (uint32_t i = 0; i < index; i++) dims += moert_program.outputs[i].rank;
  return dims;
}

/* Writes everything of a descriptor but its buffer. *out_bytes is -1 while a
 * dimension is not known. */
static moec_status_t describe(moec_instance_t *it, uint32_t index,
                              moec_value_t *value, const int64_t *dims,
                              int64_t *out_bytes) {
  const moec_io_t *io = &moert_program.outputs[index];
  value->kind = io->kind;
  value->dtype = io->dtype;
  value->rank = io->rank;
  value->strides = NULL;
  if (value->dims == NULL) value->dims = it->outputs[index].dims;
  bool known = true;
  for (int32_t i = 0; i < io->rank; i++) {
    value->dims[i] = dims[i];
    known &= dims[i] >= 0;
  }
  *out_bytes = -1;
  if (!known) return MOEC_OK;
  if (!dtype_tensor_bytes(io->dtype, io->rank, dims, out_bytes))
    return report(it, MOEC_E_LIMIT,
                  "output \"%s\" has more than 2^63 - 1 bytes", io->name);
  value->size = (uint64_t)*out_bytes;
  return MOEC_OK;
}

/* What the last run handed out is no buffer of the caller's, although it is
 * still in the descriptor when that is used again. */
static bool is_handed_out(const rt_output_t *output,
                          const moec_value_t *value) {
  return value->data == NULL ||
         (value->data == output->own.data && value->capacity == 0);
}

static bool fits(const rt_output_t *output, const moec_value_t *value,
                 uint64_t bytes) {
  return (is_handed_out(output, value) && value->alias_input == 0) ||
         bytes <= value->capacity;
}

static moec_status_t fail_capacity(moec_instance_t *it, uint32_t index,
                                   uint64_t bytes, uint64_t capacity) {
  return report(
      it, MOEC_E_CAPACITY, "output \"%s\" needs %d bytes but its buffer has %d",
      moert_program.outputs[index].name, (int64_t)bytes, (int64_t)capacity);
}

/* An output updated in place of an input: computed apart, since kernels may
 * read the input until the end, and copied there by outputs_finish. */
static moec_status_t bind_alias(moec_instance_t *it, uint32_t index,
                                moec_value_t *value) {
  const char *name = moert_program.outputs[index].name;
  int32_t input = value->alias_input - 1;
  if (input < 0 || (uint32_t)input >= moert_program.n_inputs)
    return report(it, MOEC_E_USAGE,
                  "output \"%s\" shares memory with input %d, "
                  "which does not exist",
                  name, (int64_t)input);
  const rt_input_t *shared = &it->inputs[input];
  if (shared->value == NULL || shared->value->data == NULL)
    return report(it, MOEC_E_USAGE,
                  "output \"%s\" shares memory with input "
                  "\"%s\", which is absent",
                  name, moert_program.inputs[input].name);
  if (shared->value->dtype != moert_program.outputs[index].dtype ||
      !value_is_contiguous(shared->value))
    return report(it, MOEC_E_USAGE,
                  "output \"%s\" cannot share memory with input "
                  "\"%s\" of another type or with gaps",
                  name, moert_program.inputs[input].name);
  if (!is_handed_out(&it->outputs[index], value) &&
      value->data != shared->value->data)
    return report(it, MOEC_E_USAGE,
                  "output \"%s\" shares memory with input "
                  "\"%s\" but has a buffer of its own",
                  name, moert_program.inputs[input].name);
  value->data = shared->value->data;
  if (value->capacity == 0) value->capacity = (uint64_t)shared->bytes;
  it->outputs[index].target = value->data;
  return MOEC_OK;
}

moec_status_t outputs_bind(moec_instance_t *it, moec_value_t *outputs) {
  uint32_t too_small = UINT32_MAX;
  for (uint32_t i = 0; i < moert_program.n_outputs; i++) {
    rt_output_t *output = &it->outputs[i];
    moec_value_t *value = output_at(outputs, i);
    output->value = value;
    output->target = NULL;
    output->data = NULL;
    output->bytes = 0;
    if (value->alias_input != 0) RT_TRY(bind_alias(it, i, value));
    int64_t bytes;
    RT_TRY(describe(it, i, value, planned_dims(it, i), &bytes));
    if (bytes >= 0 && too_small == UINT32_MAX &&
        !fits(output, value, (uint64_t)bytes))
      too_small = i;
  }
  /* Only now, so that the sizes of all outputs known are there. */
  if (too_small == UINT32_MAX) return MOEC_OK;
  const moec_value_t *value = it->outputs[too_small].value;
  return fail_capacity(it, too_small, value->size, value->capacity);
}

moec_status_t outputs_describe(moec_instance_t *it, moec_value_t *outputs) {
  for (uint32_t i = 0; i < moert_program.n_outputs; i++) {
    int64_t bytes;
    moec_value_t *value = output_at(outputs, i);
    RT_TRY(describe(it, i, value, planned_dims(it, i), &bytes));
    if (bytes < 0) value->size = 0;
  }
  return MOEC_OK;
}

/* At least a byte, so that an empty output has an address as well. */
static moec_status_t reserve_own(moec_instance_t *it, rt_output_t *output,
                                 uint64_t bytes) {
  return region_reserve(it, &output->own, bytes > 0 ? bytes : 1, false,
                        "an output");
}

moec_status_t outputs_reserve(moec_instance_t *it, moec_value_t *outputs) {
  for (uint32_t i = 0; i < moert_program.n_outputs; i++) {
    const moec_io_t *io = &moert_program.outputs[i];
    rt_output_t *output = &it->outputs[i];
    if (outputs != NULL && !is_handed_out(output, output_at(outputs, i)))
      continue;
    const int64_t *dims = planned_dims(it, i);
    bool known = true;
    for (int32_t axis = 0; axis < io->rank; axis++) known &= dims[axis] >= 0;
    int64_t bytes;
    if (!known) continue;
    if (!dtype_tensor_bytes(io->dtype, io->rank, dims, &bytes))
      return report(it, MOEC_E_LIMIT,
                    "output \"%s\" has more than 2^63 - 1 bytes", io->name);
    RT_TRY(reserve_own(it, output, (uint64_t)bytes));
  }
  return MOEC_OK;
}

void *moert_output(moert_frame_t *frame, uint32_t index, const int64_t *dims,
                   int64_t bytes) {
  moec_instance_t *it = frame->instance;
  rt_output_t *output = &it->outputs[index];
  moec_value_t *value = output->value;
  int64_t want;
  if (describe(it, index, value, dims, &want) != MOEC_OK) return NULL;
  if (want != bytes) {
    report(it, MOEC_E_INTERNAL,
           "output \"%s\" has %d bytes but its dims say %d",
           moert_program.outputs[index].name, bytes, want);
    return NULL;
  }
  if (!fits(output, value, value->size)) {
    fail_capacity(it, index, value->size, value->capacity);
    return NULL;
  }
  output->bytes = value->size;
  bool own = is_handed_out(output, value) || output->target != NULL;
  if (!own && bytes > 0 &&
      (uintptr_t)value->data % dtype_align(value->dtype) != 0) {
    output->target = value->data;
    own = true;
  }
  if (!own) {
    output->data = value->data;
    return output->data;
  }
  if (reserve_own(it, output, output->bytes) != MOEC_OK) return NULL;
  output->data = output->own.data;
  return output->data;
}

void *moert_grow(moert_frame_t *frame, uint32_t index, int64_t bytes) {
  moec_instance_t *it = frame->instance;
  rt_region_t *region = &it->growable[index];
  if (bytes < 0) {
    report(it, MOEC_E_LIMIT, "a growable region needs %d bytes", bytes);
    return NULL;
  }
  uint64_t want = bytes > 0 ? (uint64_t)bytes : 1;
  /* By half at least, so that growing step by step stays linear. */
  uint64_t half_more = region->bytes + region->bytes / 2;
  if (want > region->bytes && want < half_more && !it->fixed_memory)
    want = half_more;
  if (region_reserve(it, region, want, true, "a growable region") != MOEC_OK)
    return NULL;
  guard_tail(region->data, (uint64_t)bytes, region->bytes);
  return region->data;
}

moec_status_t outputs_finish(moec_instance_t *it) {
  for (uint32_t i = 0; i < moert_program.n_outputs; i++)
    if (it->outputs[i].data == NULL)
      return report(it, MOEC_E_INTERNAL, "output \"%s\" was not computed",
                    moert_program.outputs[i].name);
  for (uint32_t i = 0; i < moert_program.n_outputs; i++) {
    rt_output_t *output = &it->outputs[i];
    if (output->target != NULL) {
      memcpy(output->target, output->data, output->bytes);
    } else if (output->data == output->own.data) {
      output->value->data = output->data;
      output->value->capacity = 0;
    }
  }
  return MOEC_OK;
}
