/* The tables that describe operations and attributes, derived from ops.def. */
#include <string.h>

#include "ir/ir.h"
#include "ir/verify.h"

static const ir_op_info_t op_infos[OP_COUNT + 1] = {
#define OP(id, mnemonic, in_min, in_max, out, regions, traits, ...) \
  [OP_##id] = {mnemonic, in_min, in_max, out, regions, traits, ATTR_FIRST_##id},
#include "ir/ops.def"
    [OP_COUNT] = {.attr_first = ATTR_COUNT},
};

static const ir_attr_info_t attr_infos[ATTR_COUNT] = {
#define ATTR(op, name, kind, value) \
  [ATTR_##op##_##name] = {#name, IR_ATTR_##kind, (value) == REQUIRED, (value)},
#include "ir/ops.def"
};

static const char *const shape_laws[OP_COUNT] = {
#define OP(id, mnemonic, in_min, in_max, out, regions, traits, shape, lower) \
  [OP_##id] = #shape,
#include "ir/ops.def"
};

#define OP(id, mnemonic, in_min, in_max, out, regions, ...)                \
  _Static_assert((in_min) <= (in_max), "ops.def: bad arity of " mnemonic); \
  _Static_assert((in_min) < IR_VARIADIC && (out) <= IR_VARIADIC &&         \
                     ((regions) < 16 || (regions) == IR_VARIADIC),         \
                 "ops.def: bad counts of " mnemonic);                      \
  _Static_assert(sizeof(mnemonic) > 1, "ops.def: " #id " has no mnemonic");
#define ATTR(op, name, kind, value)                     \
  _Static_assert(ATTR_##op##_##name >= ATTR_FIRST_##op, \
                 "ops.def: ATTR rows must follow their OP row");
#include "ir/ops.def"

const ir_op_info_t *ir_op_info(ir_opcode_t code) {
  MOEC_ASSERT((unsigned)code < OP_COUNT);
  return &op_infos[code];
}

const ir_attr_info_t *ir_attr_info(ir_attr_id_t id) {
  MOEC_ASSERT((unsigned)id < ATTR_COUNT);
  return &attr_infos[id];
}

bool ir_keeps_types(ir_opcode_t code) {
  MOEC_ASSERT((unsigned)code < OP_COUNT);
  return strcmp(shape_laws[code], "launch") == 0;
}

unsigned ir_n_attrs_of(ir_opcode_t code) {
  MOEC_ASSERT((unsigned)code < OP_COUNT);
  return (unsigned)op_infos[code + 1].attr_first -
         (unsigned)op_infos[code].attr_first;
}

bool ir_opcode_by_name(const char *name, size_t length, ir_opcode_t *out_code) {
  *out_code = (ir_opcode_t)0;
  for (unsigned code = 0; code < OP_COUNT; code++) {
    const char *mnemonic = op_infos[code].mnemonic;
    if (strncmp(mnemonic, name, length) != 0 || mnemonic[length] != '\0')
      continue;
    *out_code = (ir_opcode_t)code;
    return true;
  }
  return false;
}
