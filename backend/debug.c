/* DWARF of generated code; see debug.h. */
#include "backend/debug.h"

#include <llvm-c/DebugInfo.h>
#include <string.h>

enum { HEADER_LINE = 1, MAX_LABEL = 64 };

/* ---- The listing --------------------------------------------------------- */

typedef struct line_entry {
  ir_loc_t loc;
  unsigned line; /* 0: free */
} line_entry_t;

struct debug_lines {
  arena_t *arena;
  const char *name, *model;
  line_entry_t *table; /* open addressing, by place */
  unsigned mask;
  const ir_loc_t **order; /* [n]; line HEADER_LINE + 1 + i */
  unsigned n, capacity;
};

static bool is_nowhere(const ir_loc_t *loc) {
  return loc->index == 0 && loc->node == NULL && loc->type == NULL &&
         loc->where == NULL;
}

static uint64_t hash_text(uint64_t hash, const char *text) {
  for (; text != NULL && *text != '\0'; text++)
    hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
  return hash * 31 + 7;
}

static uint64_t hash_loc(const ir_loc_t *loc) {
  uint64_t hash = (uint64_t)loc->index * UINT64_C(0x9e3779b97f4a7c15);
  hash = hash_text(hash, loc->node);
  hash = hash_text(hash, loc->type);
  return hash_text(hash, loc->where);
}

static bool same_text(const char *a, const char *b) {
  return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_loc(const ir_loc_t *a, const ir_loc_t *b) {
  return a->index == b->index && same_text(a->node, b->node) &&
         same_text(a->type, b->type) && same_text(a->where, b->where);
}

/* Where the place is in the table, or belongs. */
static line_entry_t *find(const debug_lines_t *lines, const ir_loc_t *loc) {
  uint64_t i = hash_loc(loc);
  i ^= i >> 29;
  for (;; i++) {
    line_entry_t *entry = &lines->table[i & lines->mask];
    if (entry->line == 0 || same_loc(&entry->loc, loc)) return entry;
  }
}

static void grow(debug_lines_t *lines) {
  const unsigned size = 2 * (lines->mask + 1), old_size = size / 2;
  const line_entry_t *old = lines->table;
  lines->table = ARENA_ARRAY(lines->arena, line_entry_t, size);
  lines->mask = size - 1;
  for (unsigned i = 0; i < old_size; i++)
    if (old[i].line != 0) *find(lines, &old[i].loc) = old[i];
}

static void add(debug_lines_t *lines, const ir_loc_t *loc) {
  if (is_nowhere(loc)) return;
  line_entry_t *entry = find(lines, loc);
  if (entry->line != 0) return;
  if (lines->n == lines->capacity) {
    lines->order =
        arena_grow_array(lines->arena, lines->order, lines->n,
                         2 * (size_t)lines->n + 64, sizeof *lines->order);
    lines->capacity = 2 * lines->n + 64;
  }
  lines->order[lines->n++] = loc;
  *entry = (line_entry_t){*loc, HEADER_LINE + lines->n};
  if (2 * lines->n > lines->mask) grow(lines);
}

static unsigned line_of(const debug_lines_t *lines, const ir_loc_t *loc) {
  if (is_nowhere(loc)) return HEADER_LINE;
  const line_entry_t *entry = find(lines, loc);
  return entry->line != 0 ? entry->line : HEADER_LINE;
}

/* A name as a part of a symbol: short, without what means something to those
 * who read symbols. */
static const char *label_of(arena_t *arena, const ir_loc_t *loc,
                            unsigned n_launches) {
  const char *name = loc->node != NULL && loc->node[0] != '\0' ? loc->node
                     : loc->type != NULL                       ? loc->type
                                                               : "";
  const size_t length = strlen(name);
  /* The end of a long name tells more than its beginning. */
  char *label = arena_strdup(
      arena, length > MAX_LABEL ? name + length - MAX_LABEL : name);
  for (char *c = label; *c != '\0'; c++)
    if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
          (*c >= '0' && *c <= '9') || *c == '_' || *c == '.' || *c == '/'))
      *c = '_';
  return n_launches > 1 ? arena_printf(arena, "%s.x%u", label, n_launches)
                        : label;
}

typedef struct kernel_use { /* open hash table by name */
  ir_func_t *func;
  const ir_loc_t *first;
  unsigned n;
} kernel_use_t;

static kernel_use_t *find_kernel(kernel_use_t *table, unsigned mask,
                                 const char *name) {
  for (uint64_t i = hash_text(0, name);; i++) {
    kernel_use_t *use = &table[i & mask];
    if (use->func == NULL || strcmp(use->func->name, name) == 0) return use;
  }
}

static void label_kernels(debug_lines_t *lines, ir_module_t *module) {
  unsigned size = 16;
  while (size < 2 * module->n_funcs) size *= 2;
  kernel_use_t *uses = ARENA_ARRAY(lines->arena, kernel_use_t, size);
  for (ir_func_t *f = module->first; f != NULL; f = f->next)
    if (f->kind == IR_FUNC_KERNEL)
      find_kernel(uses, size - 1, f->name)->func = f;
  for (const ir_op_t *op = ir_walk_first(module->first); op != NULL;
       op = ir_walk_next(op)) {
    if (op->code != OP_LAUNCH) continue;
    kernel_use_t *use =
        find_kernel(uses, size - 1, ir_get_str(op, ATTR_LAUNCH_kernel));
    MOEC_ASSERT(use->func != NULL);
    if (use->n++ == 0) use->first = &op->loc;
  }
  for (unsigned i = 0; i < size; i++)
    if (uses[i].n > 0)
      uses[i].func->label = label_of(module->arena, uses[i].first, uses[i].n);
}

debug_lines_t *debug_lines_create(arena_t *arena, ir_module_t *module,
                                  const char *name) {
  enum { FIRST_SIZE = 256 };
  debug_lines_t *lines = ARENA_NEW(arena, debug_lines_t);
  *lines = (debug_lines_t){.arena = arena,
                           .name = name,
                           .model = module->name,
                           .mask = FIRST_SIZE - 1};
  lines->table = ARENA_ARRAY(arena, line_entry_t, FIRST_SIZE);
  for (ir_func_t *f = module->first; f != NULL; f = f->next)
    for (const ir_op_t *op = ir_walk_first(f); op != NULL;
         op = ir_walk_next(op))
      add(lines, &op->loc);
  label_kernels(lines, module);
  return lines;
}

void debug_lines_print(const debug_lines_t *lines, text_t *out) {
  text_printf(out, "(no node of \"");
  if (lines->model != NULL)
    diag_escape(out, lines->model, strlen(lines->model));
  text_printf(out, "\": moec's own)\n");
  for (unsigned i = 0; i < lines->n; i++) {
    const size_t start = out->length;
    diag_append_place(out, lines->order[i]);
    MOEC_ASSERT(out->length >= start + 2);
    out->length -= 2; /* ": " */
    text_printf(out, "\n");
  }
}

/* ---- DWARF --------------------------------------------------------------- */

struct debug {
  const debug_lines_t *lines;
  LLVMDIBuilderRef builder;
  LLVMMetadataRef file, unit, type;
  debug_scope_t scope;
};

static void add_flag(emitter_t *em, const char *name, unsigned value) {
  LLVMValueRef number = LLVMConstInt(em->i32, value, false);
  LLVMAddModuleFlag(em->module, LLVMModuleFlagBehaviorWarning, name,
                    strlen(name), LLVMValueAsMetadata(number));
}

void debug_begin(emitter_t *em, const debug_lines_t *lines) {
  static const char producer[] = "moec " MOEC_VERSION, directory[] = ".";
  enum { DWARF_VERSION = 4 };
  if (lines == NULL) return;
  struct debug *d = em->debug = ARENA_NEW(em->arena, struct debug);
  d->lines = lines;
  d->builder = LLVMCreateDIBuilder(em->module);
  d->file = LLVMDIBuilderCreateFile(d->builder, lines->name,
                                    strlen(lines->name), directory, 1);
  d->unit = LLVMDIBuilderCreateCompileUnit(
      d->builder, LLVMDWARFSourceLanguageC99, d->file, producer,
      sizeof producer - 1, true, "", 0, 0, "", 0, LLVMDWARFEmissionFull, 0,
      false, false, "", 0, "", 0);
  d->type = LLVMDIBuilderCreateSubroutineType(d->builder, d->file, NULL, 0,
                                              LLVMDIFlagZero);
  add_flag(em, "Debug Info Version", LLVMDebugMetadataVersion());
  add_flag(em, "Dwarf Version", DWARF_VERSION);
}

void debug_end(emitter_t *em) {
  if (em->debug == NULL) return;
  LLVMDIBuilderFinalize(em->debug->builder);
}

void debug_dispose(emitter_t *em) {
  if (em->debug == NULL || em->debug->builder == NULL) return;
  LLVMDisposeDIBuilder(em->debug->builder);
  em->debug->builder = NULL;
}

static void set_location(emitter_t *em) {
  const debug_scope_t *scope = &em->debug->scope;
  LLVMMetadataRef location =
      scope->function == NULL
          ? NULL
          : LLVMDIBuilderCreateDebugLocation(em->context, scope->line, 0,
                                             scope->function, NULL);
  LLVMSetCurrentDebugLocation2(em->builder, location);
}

debug_scope_t debug_open(emitter_t *em, LLVMValueRef function, ir_loc_t loc) {
  struct debug *d = em->debug;
  if (d == NULL) return (debug_scope_t){0};
  const debug_scope_t outer = d->scope;
  size_t length;
  const char *name = LLVMGetValueName2(function, &length);
  const unsigned line = line_of(d->lines, &loc);
  const bool local = LLVMGetLinkage(function) == LLVMInternalLinkage;
  d->scope.line = line;
  d->scope.function = LLVMDIBuilderCreateFunction(
      d->builder, d->file, name, length, "", 0, d->file, line, d->type, local,
      true, line, LLVMDIFlagZero, true);
  LLVMSetSubprogram(function, d->scope.function);
  set_location(em);
  return outer;
}

debug_scope_t debug_here(const emitter_t *em) {
  return em->debug != NULL ? em->debug->scope : (debug_scope_t){0};
}

void debug_close(emitter_t *em, debug_scope_t outer) {
  if (em->debug == NULL) return;
  em->debug->scope = outer;
  set_location(em);
}

void debug_at(emitter_t *em, ir_loc_t loc) {
  struct debug *d = em->debug;
  if (d == NULL || d->scope.function == NULL) return;
  d->scope.line = line_of(d->lines, &loc);
  set_location(em);
}
