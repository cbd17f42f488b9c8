/* Running a model: checks, plan, workspace, schedule, results. */
#include "runtime/guard.h"
#include "runtime/runtime.h"

static void begin_call(moec_instance_t *it) {
  it->status = MOEC_OK;
  it->message[0] = '\0';
  it->frame.error = 0;
  it->frame.node = -1;
}

/* The status of generated code, with a message even if it left none. */
static moec_status_t finish_generated(moec_instance_t *it, int32_t status) {
  if (it->status != MOEC_OK) return it->status;
  if (it->frame.error != 0) status = it->frame.error;
  return status == 0 ? MOEC_OK : report_status(it, -1, status);
}

/* Computes the slots' sizes and places; *out_bytes is the workspace. */
static moec_status_t plan(moec_instance_t *it, uint64_t *out_bytes) {
  int64_t *dims = it->frame.output_dims;
  for (uint32_t i = 0; i < moert_program.n_outputs; i++)
    for (int32_t axis = 0; axis < moert_program.outputs[i].rank; axis++)
      *dims++ = -1;
  for (uint32_t i = 0; i < moert_program.n_slots; i++)
    it->frame.slot_bytes[i] = 0;
  RT_TRY(finish_generated(it, moert_program.plan(&it->frame)));
  int64_t total = 0;
  for (uint32_t i = 0; i < moert_program.n_slots; i++) {
    int64_t bytes = it->frame.slot_bytes[i];
    it->frame.slot_offsets[i] = total;
    if (bytes < 0 || bytes > INT64_MAX - RT_ALIGN - RT_GUARD_BYTES)
      return report(it, MOEC_E_LIMIT, "slot %d of the workspace needs %d bytes",
                    (int64_t)i, bytes);
    bytes = (bytes + RT_GUARD_BYTES + RT_ALIGN - 1) / RT_ALIGN * RT_ALIGN;
    if (__builtin_add_overflow(total, bytes, &total))
      return report(it, MOEC_E_LIMIT, "the workspace exceeds 2^63 - 1 bytes");
  }
  *out_bytes = (uint64_t)total;
  return MOEC_OK;
}

static void guard_slots(const moec_instance_t *it, uint64_t bytes) {
  const moert_frame_t *frame = &it->frame;
  const uint32_t n = moert_program.n_slots;
  guard_fill(it->workspace.data, bytes);
  for (uint32_t i = 0; i < n; i++) {
    uint64_t begin = (uint64_t)frame->slot_offsets[i];
    uint64_t end = i + 1 < n ? (uint64_t)frame->slot_offsets[i + 1] : bytes;
    guard_tail(it->workspace.data + begin, (uint64_t)frame->slot_bytes[i],
               end - begin);
  }
}

static moec_status_t reserve_workspace(moec_instance_t *it, uint64_t bytes) {
  RT_TRY(region_reserve(it, &it->workspace, bytes, false, "the workspace"));
  it->frame.workspace = it->workspace.data;
  if (RT_GUARD_BYTES > 0 && bytes > 0) guard_slots(it, bytes);
  return MOEC_OK;
}

static moec_status_t run(moec_instance_t *it, const moec_value_t *inputs,
                         uint32_t n_inputs, moec_value_t *outputs,
                         uint32_t n_outputs) {
  uint64_t bytes;
  RT_TRY(
      values_check(it, outputs, n_outputs, moert_program.n_outputs, "output"));
  RT_TRY(inputs_bind(it, inputs, n_inputs, true));
  RT_TRY(plan(it, &bytes));
  RT_TRY(outputs_bind(it, outputs));
  RT_TRY(reserve_workspace(it, bytes));
  RT_TRY(inputs_load(it));
  RT_TRY(finish_generated(it, moert_program.run(&it->frame)));
  return outputs_finish(it);
}

moec_status_t moert_run(moec_instance_t *it, const moec_value_t *inputs,
                        uint32_t n_inputs, moec_value_t *outputs,
                        uint32_t n_outputs) {
  if (it == NULL) return MOEC_E_USAGE;
  begin_call(it);
  it->in_run = true;
  moec_status_t status = run(it, inputs, n_inputs, outputs, n_outputs);
  it->in_run = false;
  return status;
}

moec_status_t moert_query(moec_instance_t *it, const moec_value_t *inputs,
                          uint32_t n_inputs, moec_value_t *outputs,
                          uint32_t n_outputs, moec_memory_t *out_memory) {
  if (it == NULL) return MOEC_E_USAGE;
  begin_call(it);
  uint64_t bytes;
  if (out_memory != NULL && out_memory->struct_size < sizeof *out_memory)
    return report(it, MOEC_E_USAGE, "struct_size of the memory is %d",
                  (int64_t)out_memory->struct_size);
  if (outputs != NULL)
    RT_TRY(values_check(it, outputs, n_outputs, moert_program.n_outputs,
                        "output"));
  RT_TRY(inputs_bind(it, inputs, n_inputs, false));
  RT_TRY(plan(it, &bytes));
  if (outputs != NULL) RT_TRY(outputs_describe(it, outputs));
  if (it->fixed_memory) {
    RT_TRY(reserve_workspace(it, bytes));
    RT_TRY(inputs_reserve(it));
    RT_TRY(outputs_reserve(it, outputs));
  }
  if (out_memory != NULL) {
    out_memory->kind = moert_program.memory_kind;
    out_memory->bytes = bytes;
  }
  return MOEC_OK;
}
