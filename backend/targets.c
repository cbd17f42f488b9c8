/* The table of instruction-set variants. */
#include <string.h>

#include "backend/emit.h"
#include "moec/rtabi.h"

static const isa_t isas[] = {
#define ISA(id, name, arch, cpu, features, bytes, vectors, traits, bits) \
  {name, arch, cpu, features, bytes, vectors, traits, bits},
#include "backend/targets.def"
};

unsigned isa_count(void) { return sizeof isas / sizeof isas[0]; }

const isa_t *isa_at(unsigned index) {
  MOEC_ASSERT(index < isa_count());
  return &isas[index];
}

const isa_t *isa_find(const char *name) {
  for (unsigned i = 0; i < isa_count(); i++)
    if (strcmp(isas[i].name, name) == 0) return &isas[i];
  return NULL;
}
