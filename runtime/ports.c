/* Sequences and optionals at the boundary. Inside, they are tensors: inputs are
 * packed before a run, outputs are described after it. */
#include "runtime/libc.h"
#include "runtime/runtime.h"

static bool has_sequence(const moec_io_t *io) {
  return io->kind == MOEC_SEQUENCE || io->element_kind == MOEC_SEQUENCE;
}

/* ---- Inputs -------------------------------------------------------------- */

/* The tensors of a sequence, while they are checked and packed. */
typedef struct packing {
  const moec_io_t *io;
  const moec_value_t *items;
  uint64_t n;
  int64_t total; /* elements */
} packing_t;

static moec_status_t check_tensor(moec_instance_t *it, const moec_io_t *io,
                                  const moec_value_t *value,
                                  int64_t *out_count) {
  int64_t bytes;
  if (value->kind != MOEC_TENSOR)
    return report(it, MOEC_E_DTYPE, "an element of input \"%s\" is no tensor",
                  io->name);
  if (value->dtype != io->dtype)
    return report(it, MOEC_E_DTYPE,
                  "an element of input \"%s\" is %s but the model takes %s",
                  io->name, dtype_name(value->dtype), dtype_name(io->dtype));
  if (value->rank != io->rank)
    return report(
        it, MOEC_E_RANK,
        "an element of input \"%s\" has rank %d but the model takes %d",
        io->name, (int64_t)value->rank, (int64_t)io->rank);
  if (value->rank > 0 && value->dims == NULL)
    return report(it, MOEC_E_USAGE, "an element of input \"%s\" has no dims",
                  io->name);
  *out_count = 1;
  for (int32_t i = 0; i < value->rank; i++) {
    if (value->dims[i] < 0)
      return report(it, MOEC_E_SHAPE,
                    "a dimension of an element of input \"%s\" is %d", io->name,
                    value->dims[i]);
    if (__builtin_mul_overflow(*out_count, value->dims[i], out_count))
      *out_count = INT64_MAX;
  }
  if (!dtype_tensor_bytes(io->dtype, io->rank, value->dims, &bytes))
    return report(it, MOEC_E_SHAPE,
                  "an element of input \"%s\" has more than 2^63 - 1 bytes",
                  io->name);
  return MOEC_OK;
}

static moec_status_t check_items(moec_instance_t *it, packing_t *p,
                                 bool with_data) {
  RT_TRY(values_check(it, p->items, (uint32_t)p->n, (uint32_t)p->n, "element"));
  p->total = 0;
  for (uint32_t i = 0; i < p->n; i++) {
    const moec_value_t *item = value_at(p->items, i);
    int64_t count;
    RT_TRY(check_tensor(it, p->io, item, &count));
    if (with_data && item->data == NULL && count > 0)
      return report(it, MOEC_E_USAGE, "an element of input \"%s\" has no data",
                    p->io->name);
    if (__builtin_add_overflow(p->total, count, &p->total) ||
        p->total > INT64_MAX / 16)
      return report(it, MOEC_E_SHAPE, "input \"%s\" has too many elements",
                    p->io->name);
  }
  return MOEC_OK;
}

static void set_tensor(moec_value_t *out, int32_t dtype, int32_t rank,
                       int64_t *dims, void *data) {
  *out = (moec_value_t){.struct_size = sizeof *out,
                        .kind = MOEC_TENSOR,
                        .dtype = dtype,
                        .rank = rank,
                        .dims = dims,
                        .data = data};
}

/* raw[0] the elements, raw[1] their dims; memory: the dims, then the elements.
 */
static moec_status_t pack_items(moec_instance_t *it, const packing_t *p,
                                rt_port_t *port, moec_value_t *raw,
                                bool with_data) {
  const int64_t element = dtype_bits(p->io->dtype) / 8;
  const uint64_t rank = (uint64_t)p->io->rank;
  const uint64_t dims_bytes =
      (p->n * rank * sizeof(int64_t) + RT_ALIGN - 1) / RT_ALIGN * RT_ALIGN;
  const uint64_t bytes = dims_bytes + (uint64_t)(p->total * element) + 1;
  RT_TRY(region_reserve(it, &port->memory, bytes, false, "an input sequence"));
  int64_t *dims = (void *)port->memory.data;
  char *to = port->memory.data + dims_bytes;
  port->dims[0] = (int64_t)p->n;
  port->dims[1] = p->io->rank;
  set_tensor(&raw[0], p->io->dtype, 1, (int64_t *)&raw[0].size, to);
  raw[0].size = (uint64_t)p->total; /* its only dimension */
  set_tensor(&raw[1], MOEC_I64, 2, port->dims, dims);
  for (uint32_t i = 0; i < p->n; i++) {
    const moec_value_t *item = value_at(p->items, i);
    int64_t count = 1;
    for (uint64_t d = 0; d < rank; d++) {
      *dims++ = item->dims[d];
      count *= item->dims[d];
    }
    if (with_data) value_copy(to, item, count * element);
    to += count * element;
  }
  return MOEC_OK;
}

static moec_status_t pack_sequence(moec_instance_t *it, const moec_io_t *io,
                                   const moec_value_t *value, rt_port_t *port,
                                   moec_value_t *raw, bool with_data) {
  packing_t p = {.io = io};
  if (value != NULL) {
    p.items = value->items;
    p.n = value->n_items;
  }
  if (p.n > UINT32_MAX || (p.n > 0 && p.items == NULL))
    return report(it, MOEC_E_USAGE, "input \"%s\" has no items", io->name);
  RT_TRY(check_items(it, &p, with_data));
  return pack_items(it, &p, port, raw, with_data);
}

/* A tensor of no elements where the optional is empty. */
static moec_status_t pack_optional_tensor(moec_instance_t *it,
                                          const moec_io_t *io,
                                          const moec_value_t *value,
                                          rt_port_t *port, moec_value_t *raw) {
  if (value != NULL) {
    int64_t count;
    RT_TRY(check_tensor(it, io, value, &count));
    *raw = *value;
    raw->struct_size = sizeof *raw;
    return MOEC_OK;
  }
  const uint64_t bytes = MOEC_MAX_RANK * sizeof(int64_t) + 16;
  RT_TRY(region_reserve(it, &port->memory, bytes, false, "an input"));
  memset(port->memory.data, 0, bytes);
  set_tensor(raw, io->dtype, io->rank, (void *)port->memory.data,
             port->memory.data);
  /* A dimension that is fixed must be as it is, also of nothing. */
  const moec_io_t *inner = &moert_program.inputs[raw - it->raw_inputs];
  for (int32_t i = 0; i < io->rank; i++)
    raw->dims[i] = inner->dims[i] >= 0 ? inner->dims[i] : 0;
  int64_t size = 0;
  dtype_tensor_bytes(io->dtype, io->rank, raw->dims, &size);
  if (size == 0) return MOEC_OK;
  const uint64_t all = bytes + (uint64_t)size;
  RT_TRY(region_reserve(it, &port->memory, all, true, "an input"));
  raw->dims = (void *)port->memory.data;
  raw->data = port->memory.data + MOEC_MAX_RANK * sizeof(int64_t);
  memset(raw->data, 0, (size_t)size);
  return MOEC_OK;
}

static moec_status_t pack_optional(moec_instance_t *it, const moec_io_t *io,
                                   const moec_value_t *value, rt_port_t *port,
                                   moec_value_t *raw, uint32_t n,
                                   bool with_data) {
  const moec_value_t *item = value;
  if (value->kind == MOEC_OPTIONAL) {
    if (value->n_items > 1 || (value->n_items == 1 && value->items == NULL))
      return report(it, MOEC_E_USAGE, "input \"%s\" is an optional of %d items",
                    io->name, (int64_t)value->n_items);
    item = value->n_items == 1 ? &value->items[0] : NULL;
  }
  if (item != NULL && has_sequence(io) != (item->kind == MOEC_SEQUENCE))
    return report(it, MOEC_E_DTYPE,
                  "input \"%s\" holds a value of another kind", io->name);
  port->has = item != NULL;
  set_tensor(&raw[n - 1], MOEC_BOOL, 0, NULL, &port->has);
  if (has_sequence(io))
    return pack_sequence(it, io, item, port, raw, with_data);
  return pack_optional_tensor(it, io, item, port, raw);
}

static moec_status_t pack_input(moec_instance_t *it, uint32_t index,
                                const moec_value_t *value, bool with_data) {
  const moec_io_t *io = &moert_program.in_ios[index];
  const moert_port_t *map = &moert_program.in_ports[index];
  moec_value_t *raw = &it->raw_inputs[map->first];
  rt_port_t *port = &it->in_ports[index];
  if (io->kind == MOEC_TENSOR) {
    *raw = *value;
    raw->struct_size = sizeof *raw;
    return MOEC_OK;
  }
  if (io->kind == MOEC_OPTIONAL)
    return pack_optional(it, io, value, port, raw, map->n, with_data);
  if (value->kind != MOEC_SEQUENCE)
    return report(it, MOEC_E_DTYPE, "input \"%s\" is not a sequence", io->name);
  return pack_sequence(it, io, value, port, raw, with_data);
}

static moec_status_t pack_inputs(moec_instance_t *it,
                                 const moec_value_t *inputs, uint32_t n,
                                 bool with_data) {
  it->status = MOEC_OK;
  it->message[0] = '\0';
  RT_TRY(values_check(it, inputs, n, moert_program.n_in_ports, "input"));
  for (uint32_t i = 0; i < n; i++)
    RT_TRY(pack_input(it, i, value_at(inputs, i), with_data));
  return MOEC_OK;
}

/* ---- Outputs ------------------------------------------------------------- */

static moec_value_t *output_at(moec_value_t *outputs, uint32_t index) {
  return (moec_value_t *)value_at(outputs, index);
}

/* What the caller has for tensors goes to the program's outputs; the others are
 * memory of the instance. */
static moec_status_t lend_outputs(moec_instance_t *it, moec_value_t *outputs,
                                  uint32_t n) {
  RT_TRY(values_check(it, outputs, n, moert_program.n_out_ports, "output"));
  for (uint32_t i = 0; i < n; i++) {
    const moert_port_t *map = &moert_program.out_ports[i];
    for (uint32_t j = 0; j < map->n; j++)
      it->raw_outputs[map->first + j] =
          (moec_value_t){.struct_size = sizeof(moec_value_t)};
    if (moert_program.out_ios[i].kind != MOEC_TENSOR) continue;
    it->raw_outputs[map->first] = *output_at(outputs, i);
    it->raw_outputs[map->first].struct_size = sizeof(moec_value_t);
  }
  return MOEC_OK;
}

static void give_tensor(moec_value_t *value, const moec_value_t *raw) {
  const uint32_t size = value->struct_size;
  *value = *raw;
  value->struct_size = size;
}

static void set_container(moec_value_t *value, const moec_io_t *io,
                          moec_value_t *items, uint64_t n) {
  value->kind = io->kind;
  value->dtype = io->dtype;
  value->rank = io->rank;
  value->data = NULL;
  value->strides = NULL;
  value->items = items;
  value->n_items = n;
}

/* Descriptors of a sequence's elements, in raw[0] by the dims of raw[1];
 * `extra` more come first. */
static moec_status_t describe_items(moec_instance_t *it, rt_port_t *port,
                                    const moec_io_t *io,
                                    const moec_value_t *raw, uint64_t extra) {
  const uint64_t n = (uint64_t)raw[1].dims[0];
  const uint64_t bytes = (n + extra) * sizeof(moec_value_t);
  RT_TRY(region_reserve(it, &port->memory, bytes > 0 ? bytes : 1, false,
                        "the elements of an output"));
  moec_value_t *items = (moec_value_t *)(void *)port->memory.data + extra;
  int64_t *dims = raw[1].data;
  char *from = raw[0].data;
  for (uint64_t i = 0; i < n; i++) {
    int64_t element;
    set_tensor(&items[i], io->dtype, io->rank, dims, from);
    if (!dtype_tensor_bytes(io->dtype, io->rank, dims, &element))
      return report(it, MOEC_E_INTERNAL, "an element of \"%s\" is too large",
                    io->name);
    items[i].size = (uint64_t)element;
    from += element;
    dims += io->rank;
  }
  return MOEC_OK;
}

static moec_status_t give_output(moec_instance_t *it, uint32_t index,
                                 moec_value_t *value) {
  const moec_io_t *io = &moert_program.out_ios[index];
  const moert_port_t *map = &moert_program.out_ports[index];
  const moec_value_t *raw = &it->raw_outputs[map->first];
  rt_port_t *port = &it->out_ports[index];
  if (io->kind == MOEC_TENSOR) {
    give_tensor(value, raw);
    return MOEC_OK;
  }
  const bool optional = io->kind == MOEC_OPTIONAL;
  if (optional && *(const uint8_t *)raw[map->n - 1].data == 0) {
    set_container(value, io, NULL, 0);
    return MOEC_OK;
  }
  if (has_sequence(io)) {
    RT_TRY(describe_items(it, port, io, raw, optional));
    moec_value_t *items = (void *)port->memory.data;
    const uint64_t n = (uint64_t)raw[1].dims[0];
    if (optional) {
      items[0] = (moec_value_t){.struct_size = sizeof items[0]};
      set_container(&items[0], io, items + 1, n);
      items[0].kind = MOEC_SEQUENCE;
    }
    set_container(value, io, items, optional ? 1 : n);
    return MOEC_OK;
  }
  RT_TRY(region_reserve(it, &port->memory, sizeof(moec_value_t), false,
                        "the element of an output"));
  moec_value_t *item = (void *)port->memory.data;
  *item = raw[0];
  set_container(value, io, item, 1);
  return MOEC_OK;
}

/* ---- Calls --------------------------------------------------------------- */

moec_status_t moert_run_ports(moec_instance_t *it, const moec_value_t *inputs,
                              uint32_t n_inputs, moec_value_t *outputs,
                              uint32_t n_outputs) {
  if (it == NULL) return MOEC_E_USAGE;
  RT_TRY(pack_inputs(it, inputs, n_inputs, true));
  RT_TRY(lend_outputs(it, outputs, n_outputs));
  moec_status_t status = moert_run(it, it->raw_inputs, moert_program.n_inputs,
                                   it->raw_outputs, moert_program.n_outputs);
  for (uint32_t i = 0; i < n_outputs; i++) {
    /* Sizes of tensors are told also where their buffers are too small. */
    if (status == MOEC_OK || moert_program.out_ios[i].kind == MOEC_TENSOR)
      RT_TRY(give_output(it, i, output_at(outputs, i)));
  }
  return status;
}

moec_status_t moert_query_ports(moec_instance_t *it, const moec_value_t *inputs,
                                uint32_t n_inputs, moec_value_t *outputs,
                                uint32_t n_outputs, moec_memory_t *out_memory) {
  if (it == NULL) return MOEC_E_USAGE;
  RT_TRY(pack_inputs(it, inputs, n_inputs, false));
  if (outputs != NULL) RT_TRY(lend_outputs(it, outputs, n_outputs));
  RT_TRY(moert_query(it, it->raw_inputs, moert_program.n_inputs,
                     outputs != NULL ? it->raw_outputs : NULL,
                     moert_program.n_outputs, out_memory));
  for (uint32_t i = 0; outputs != NULL && i < n_outputs; i++) {
    const moec_io_t *io = &moert_program.out_ios[i];
    moec_value_t *value = output_at(outputs, i);
    if (io->kind == MOEC_TENSOR)
      give_tensor(value, &it->raw_outputs[moert_program.out_ports[i].first]);
    else
      set_container(value, io, NULL, 0);
  }
  return MOEC_OK;
}
