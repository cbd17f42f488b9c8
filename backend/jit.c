/* Loading generated code into this process through ORC.
 *
 * Everything lies in one block of addresses, code, data and weights, because
 * the code reaches what is hidden by 32-bit distances. */
#include "backend/jit.h"

#include <llvm-c/LLJIT.h>
#include <llvm-c/OrcEE.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/cpu.h"
#include "backend/kernel.h"
#include "backend/runtime_blob.h"
#include "backend/schedule.h"
#include "backend/weights.h"

#ifdef MOEC_GUARDED
#include <sanitizer/asan_interface.h>
enum { GUARDED = true };
#else
#define ASAN_POISON_MEMORY_REGION(memory, bytes) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(memory, bytes) ((void)0)
enum { GUARDED = false };
#endif

#define ENTRY "moec_model"

enum {
  N_OBJECTS = 3,  /* kernels, schedule, runtime */
  MAX_LOADED = 8, /* with those that ORC may want for itself */
};

typedef struct area { /* part of the block */
  uint8_t *next, *end;
} area_t;

typedef struct loaded_object {
  jit_t *jit;
  uint8_t *code_begin, *code_end; /* in pages of its own; NULL: no code yet */
} loaded_object_t;

struct jit {
  emitter_t em; /* what is being emitted, zeroed in between */
  LLVMMemoryBufferRef objects[N_OBJECTS];
  LLVMOrcLLJITRef lljit;
  loaded_object_t loaded[MAX_LOADED];
  unsigned n_loaded;
  uint8_t *block;
  size_t block_bytes, page;
  area_t code, data;
  uint8_t *weights;
  const moec_model_t *model;
};

int jit_host_isa(void) {
  for (unsigned i = 0; i < isa_count(); i++)
    if (strcmp(isa_at(i)->arch, cpu_arch()) == 0) return (int)i;
  return -1;
}

/* ---- Objects ------------------------------------------------------------- */

static moec_status_t finish_object(jit_t *jit,
                                   LLVMMemoryBufferRef *out_object) {
  moec_status_t status = emitter_finish(&jit->em, out_object);
  emitter_dispose(&jit->em);
  return status;
}

static moec_status_t emit_kernels(jit_t *jit, ir_module_t *module, unsigned isa,
                                  arena_t *arena, diag_sink_t *diag) {
  emitter_t *em = &jit->em;
  MOEC_TRY(emitter_init(em, isa_at(isa), arena, "kernels", diag));
  em->guarded = GUARDED;
  for (ir_func_t *f = module->first; f != NULL; f = f->next)
    if (f->kind == IR_FUNC_KERNEL)
      emit_kernel(em, f, schedule_kernel_symbol(arena, f, em->isa));
  return finish_object(jit, &jit->objects[0]);
}

static moec_status_t emit_rest(jit_t *jit, ir_module_t *module, unsigned isa,
                               weights_t *weights, arena_t *arena,
                               diag_sink_t *diag) {
  MOEC_TRY(emitter_init_level(&jit->em, isa_at(isa), LLVMCodeGenLevelNone,
                              arena, "schedule", diag));
  jit->em.guarded = GUARDED;
  emit_schedule(
      &jit->em, module, weights,
      &(schedule_options_t){.variants = &isa, .n_variants = 1, .entry = ENTRY});
  return finish_object(jit, &jit->objects[1]);
}

static moec_status_t find_runtime(jit_t *jit, unsigned isa, diag_sink_t *diag) {
  const runtime_blob_t *runtime = runtime_blob_find(isa_at(isa)->arch);
  if (runtime == NULL)
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_CODEGEN,
                      "this moec has no runtime for %s", isa_at(isa)->arch);
  jit->objects[2] = LLVMCreateMemoryBufferWithMemoryRange(
      (const char *)runtime->loaded, runtime->loaded_size, "runtime", false);
  return MOEC_OK;
}

/* ---- Memory -------------------------------------------------------------- */

static size_t round_up(size_t bytes, size_t align) {
  return (bytes + align - 1) / align * align;
}

static void guard_entry(void *user, uint64_t offset, uint64_t bytes) {
  const jit_t *jit = user;
  (void)jit, (void)offset, (void)bytes;
  ASAN_UNPOISON_MEMORY_REGION(jit->weights + offset, bytes);
}

/* No kernel reads between two constants or behind the last. */
static void guard_weights(jit_t *jit, const weights_t *weights) {
  ASAN_POISON_MEMORY_REGION(
      jit->weights, (size_t)(jit->block + jit->block_bytes - jit->weights));
  weights_visit(weights, guard_entry, jit);
}

/* Addresses for more than the objects can ask for: stubs and tables of far
 * symbols take less than the relocations that want them, which are in the
 * files. Pages that stay untouched cost nothing. */
static moec_status_t reserve(jit_t *jit, const weights_t *weights,
                             diag_sink_t *diag) {
  static const size_t slack = 1 << 20, reach = (size_t)1 << 30;
  size_t bytes = 0;
  jit->page = (size_t)sysconf(_SC_PAGESIZE);
  if (jit->page < WEIGHTS_PAGE) jit->page = WEIGHTS_PAGE;
  for (unsigned i = 0; i < N_OBJECTS; i++)
    bytes += LLVMGetBufferSize(jit->objects[i]);
  size_t area = round_up(4 * bytes + slack, jit->page);
  uint64_t weights_size = weights_bytes(weights);
  if (area > reach / 2 || weights_size > reach)
    return diag_error(
        diag, (ir_loc_t){0}, MOEC_E_LIMIT,
        "%llu bytes of code and weights are too many to be loaded",
        (unsigned long long)bytes + weights_size);
  jit->block_bytes =
      2 * area + round_up((size_t)weights_size + GUARDED, jit->page);
  void *block = mmap(NULL, jit->block_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED)
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_NO_MEMORY,
                      "no %zu bytes of memory to load code into",
                      jit->block_bytes);
  jit->block = block;
  jit->code = (area_t){jit->block, jit->block + area};
  jit->data = (area_t){jit->code.end, jit->code.end + area};
  jit->weights = jit->data.end;
  MOEC_TRY(weights_write(weights, weights_to_memory, jit->weights, NULL));
  if (GUARDED) guard_weights(jit, weights);
  return MOEC_OK;
}

static uint8_t *take(area_t *area, uintptr_t bytes, unsigned align) {
  size_t left = (size_t)(area->end - area->next);
  size_t skip = align == 0 ? 0 : -(uintptr_t)area->next % align;
  if (skip > left || bytes > left - skip) return NULL;
  uint8_t *memory = area->next + skip;
  area->next = memory + bytes;
  return memory;
}

/* What ORC asks of the block. Each object is given a context, then all its
 * sections in one go; NULL would make LLVM abort, so that there is room for
 * more than it can ask for. */

static void *begin_object(void *user) {
  jit_t *jit = user;
  if (jit->n_loaded == MAX_LOADED) return NULL;
  loaded_object_t *object = &jit->loaded[jit->n_loaded++];
  object->jit = jit;
  return object;
}

static uint8_t *allocate_code(void *user, uintptr_t size, unsigned align,
                              unsigned id, const char *name) {
  loaded_object_t *object = user;
  (void)id, (void)name;
  if (object == NULL) return NULL;
  area_t *code = &object->jit->code;
  if (object->code_begin == NULL)
    object->code_begin = take(code, 0, (unsigned)object->jit->page);
  uint8_t *memory = take(code, size, align);
  object->code_end = code->next;
  return memory;
}

static uint8_t *allocate_data(void *user, uintptr_t size, unsigned align,
                              unsigned id, const char *name,
                              LLVMBool read_only) {
  loaded_object_t *object = user;
  (void)id, (void)name, (void)read_only;
  return object == NULL ? NULL : take(&object->jit->data, size, align);
}

static LLVMBool finalise(void *user, char **message) {
  const loaded_object_t *object = user;
  if (object->code_begin == NULL) return 0;
  size_t bytes = (size_t)(object->code_end - object->code_begin);
  if (mprotect(object->code_begin, round_up(bytes, object->jit->page),
               PROT_READ | PROT_EXEC) == 0)
    return 0;
  *message = strdup("memory cannot be made executable"); /* freed by LLVM */
  return 1;
}

static void ignore(void *user) { (void)user; }

static LLVMOrcObjectLayerRef create_layer(void *user,
                                          LLVMOrcExecutionSessionRef session,
                                          const char *triple) {
  (void)triple;
  return LLVMOrcCreateRTDyldObjectLinkingLayerWithMCJITMemoryManagerLikeCallbacks(
      session, user, begin_object, ignore, allocate_code, allocate_data,
      finalise, ignore);
}

/* ---- Linking ------------------------------------------------------------- */

static moec_status_t fail(LLVMErrorRef error, diag_sink_t *diag) {
  char *message = LLVMGetErrorMessage(error);
  moec_status_t status =
      diag_error(diag, (ir_loc_t){0}, MOEC_E_CODEGEN,
                 "generated code cannot be loaded: %s", message);
  LLVMDisposeErrorMessage(message);
  return status;
}

static LLVMErrorRef define_weights(jit_t *jit, LLVMOrcJITDylibRef library) {
  LLVMOrcCSymbolMapPair symbol = {
      .Name = LLVMOrcLLJITMangleAndIntern(jit->lljit, "moert_weights"),
      .Sym = {.Address = (LLVMOrcExecutorAddress)(uintptr_t)jit->weights,
              .Flags = {.GenericFlags = LLVMJITSymbolGenericFlagsExported}}};
  return LLVMOrcJITDylibDefine(library, LLVMOrcAbsoluteSymbols(&symbol, 1));
}

static LLVMErrorRef find_model(jit_t *jit) {
  LLVMOrcExecutorAddress address;
  LLVMErrorRef error = LLVMOrcLLJITLookup(jit->lljit, &address, ENTRY);
  if (error != NULL) return error;
  moec_model_fn entry;
  uintptr_t bits = (uintptr_t)address;
  memcpy(&entry, &bits, sizeof entry);
  jit->model = entry();
  return NULL;
}

/* The C library's functions are those of this process: ORC looks there last. */
static moec_status_t link_objects(jit_t *jit, diag_sink_t *diag) {
  LLVMOrcLLJITBuilderRef builder = LLVMOrcCreateLLJITBuilder();
  LLVMOrcLLJITBuilderSetObjectLinkingLayerCreator(builder, create_layer, jit);
  LLVMErrorRef error = LLVMOrcCreateLLJIT(&jit->lljit, builder);
  if (error != NULL) return fail(error, diag);
  LLVMOrcJITDylibRef library = LLVMOrcLLJITGetMainJITDylib(jit->lljit);
  error = define_weights(jit, library);
  for (unsigned i = 0; i < N_OBJECTS && error == NULL; i++) {
    error = LLVMOrcLLJITAddObjectFile(jit->lljit, library, jit->objects[i]);
    jit->objects[i] = NULL; /* taken, also on failure */
  }
  if (error == NULL) error = find_model(jit);
  return error == NULL ? MOEC_OK : fail(error, diag);
}

/* ---- The whole ----------------------------------------------------------- */

moec_status_t jit_load(ir_module_t *module, unsigned isa, arena_t *arena,
                       diag_sink_t *diag, jit_t **out_jit) {
  jit_t *jit = *out_jit = calloc(1, sizeof *jit);
  if (jit == NULL)
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_NO_MEMORY, "out of memory");
  weights_t *weights = weights_create(arena);
  for (ir_func_t *f = module->first; f != NULL; f = f->next) ir_renumber(f);
  MOEC_TRY(emit_kernels(jit, module, isa, arena, diag));
  MOEC_TRY(emit_rest(jit, module, isa, weights, arena, diag));
  MOEC_TRY(find_runtime(jit, isa, diag));
  MOEC_TRY(reserve(jit, weights, diag));
  return link_objects(jit, diag);
}

const moec_model_t *jit_model(const jit_t *jit) { return jit->model; }

void jit_destroy(jit_t *jit) {
  if (jit == NULL) return;
  emitter_dispose(&jit->em);
  LLVMErrorRef error = NULL;
  if (jit->lljit != NULL) error = LLVMOrcDisposeLLJIT(jit->lljit);
  if (error != NULL) LLVMConsumeError(error);
  for (unsigned i = 0; i < N_OBJECTS; i++)
    if (jit->objects[i] != NULL) LLVMDisposeMemoryBuffer(jit->objects[i]);
  if (jit->block != NULL) {
    ASAN_UNPOISON_MEMORY_REGION(jit->block, jit->block_bytes);
    munmap(jit->block, jit->block_bytes);
  }
  free(jit);
}
