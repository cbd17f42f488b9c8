/* Values at the boundary that are no tensors. */
#include <string.h>

#include "ir/ir.h"

static const struct {
  const char *name;
  ir_kind_t kind;
  bool of_sequence;
} kinds[] = {{"tensor", IR_TENSOR, false},
             {"sequence", IR_SEQUENCE, false},
             {"optional", IR_OPTIONAL, false},
             {"optional_sequence", IR_OPTIONAL, true}};

enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

const char *ir_port_kind_name(const ir_port_t *port) {
  for (unsigned i = 0; i < N_KINDS; i++)
    if (kinds[i].kind == port->kind &&
        kinds[i].of_sequence == port->of_sequence)
      return kinds[i].name;
  MOEC_BUG("a port of an unknown kind");
}

bool ir_port_kind_by_name(const char *name, size_t length, ir_port_t *out) {
  for (unsigned i = 0; i < N_KINDS; i++) {
    if (strlen(kinds[i].name) != length ||
        memcmp(kinds[i].name, name, length) != 0)
      continue;
    out->kind = kinds[i].kind;
    out->of_sequence = kinds[i].of_sequence;
    return true;
  }
  return false;
}

unsigned ir_port_width(const ir_port_t *port) {
  return 1 + (port->kind == IR_SEQUENCE || port->of_sequence) +
         (port->kind == IR_OPTIONAL);
}
