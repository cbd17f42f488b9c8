/* JSON about a module. The order of everything is that of the module, so that
 * equal modules give equal texts. */
#include "tools/describe.h"

#include <string.h>

#include "backend/emit.h"
#include "tools/describe_moe.h"
#include "tools/json.h"

/* ---- Signature ----------------------------------------------------------- */

static void append_dims(const ir_type_t *type, text_t *out) {
  text_printf(out, "[");
  for (unsigned i = 0; i < type->rank; i++) {
    int64_t number;
    if (i > 0) text_printf(out, ",");
    if (expr_is_const(type->dim[i], &number)) {
      text_printf(out, "%lld", (long long)number);
      continue;
    }
    text_t dim;
    text_init(&dim, out->arena);
    expr_print(type->dim[i], &dim);
    json_write_string(dim.data, out);
  }
  text_printf(out, "]");
}

static void append_value(const char *name, const ir_type_t *type, text_t *out) {
  const char *kind = type->kind == IR_SEQUENCE   ? "sequence"
                     : type->kind == IR_OPTIONAL ? "optional"
                                                 : NULL;
  text_printf(out, "{\"name\":");
  json_write_string(name != NULL ? name : "", out);
  if (kind != NULL) text_printf(out, ",\"kind\":\"%s\"", kind);
  while (type->elem != NULL) type = type->elem;
  text_printf(out, ",\"type\":\"%s\",\"dims\":", dtype_name(type->dtype));
  append_dims(type, out);
  text_printf(out, "}");
}

/* One that is no tensor: kind, element type, and the rank as unknown dims. */
static void append_port(const ir_port_t *port, const ir_type_t *types,
                        text_t *out) {
  bool sequence = port->kind == IR_SEQUENCE || port->of_sequence;
  if (port->kind == IR_TENSOR) {
    append_value(port->name, types, out);
    return;
  }
  text_printf(out, "{\"name\":");
  json_write_string(port->name, out);
  text_printf(out, ",\"kind\":\"%s\",\"type\":\"%s\",\"dims\":",
              ir_port_kind_name(port), dtype_name(types[0].dtype));
  if (!sequence) {
    append_dims(types, out);
  } else {
    int64_t rank = 0;
    expr_is_const(types[1].dim[1], &rank);
    text_printf(out, "[");
    for (int64_t i = 0; i < rank; i++)
      text_printf(out, "%s\"?\"", i > 0 ? "," : "");
    text_printf(out, "]");
  }
  text_printf(out, "}");
}

static void append_ports(const ir_ports_t *ports, const char *const *names,
                         const ir_type_t *types, unsigned n, text_t *out) {
  unsigned n_ports = ports->n > 0 ? ports->n : n;
  for (unsigned i = 0; i < n_ports; i++) {
    if (i > 0) text_printf(out, ",");
    if (ports->n > 0)
      append_port(&ports->port[i], types + ports->port[i].first, out);
    else
      append_value(names != NULL ? names[i] : NULL, &types[i], out);
  }
}

static void append_inputs(arena_t *arena, const ir_func_t *func, text_t *out) {
  unsigned n = func->body.n_args;
  ir_type_t *types = ARENA_ARRAY(arena, ir_type_t, n + 1);
  for (unsigned i = 0; i < n; i++) types[i] = func->body.args[i].type;
  text_printf(out, ",\"inputs\":[");
  append_ports(&func->inputs, func->arg_names, types, n, out);
  text_printf(out, "]");
}

static void append_outputs(arena_t *arena, const ir_func_t *func, text_t *out) {
  const ir_op_t *end = func->body.last;
  unsigned n = end != NULL ? end->n_in : 0;
  ir_type_t *types = ARENA_ARRAY(arena, ir_type_t, n + 1);
  for (unsigned i = 0; i < n; i++) types[i] = end->in[i].value->type;
  text_printf(out, ",\"outputs\":[");
  append_ports(&func->outputs, func->result_names, types, n, out);
  text_printf(out, "]");
}

static bool inputs_mention(const ir_func_t *func, const expr_symbol_t *symbol) {
  for (unsigned i = 0; i < func->body.n_args; i++) {
    const ir_type_t *type = &func->body.args[i].type;
    for (unsigned j = 0; j < type->rank; j++)
      if (expr_mentions(type->dim[j], symbol)) return true;
  }
  return false;
}

static void append_symbols(const ir_module_t *module, text_t *out) {
  const char *comma = "";
  text_printf(out, ",\"symbols\":[");
  for (unsigned i = 0; i < expr_n_symbols(module->exprs); i++) {
    const expr_symbol_t *symbol = expr_symbol_at(module->exprs, i);
    if (!inputs_mention(module->first, symbol)) continue;
    text_printf(out, "%s{\"name\":", comma);
    json_write_string(symbol->name, out);
    text_printf(out, ",\"min\":%lld", (long long)symbol->lower);
    if (symbol->bound != INT64_MAX)
      text_printf(out, ",\"max\":%lld", (long long)symbol->bound);
    text_printf(out, "}");
    comma = ",";
  }
  text_printf(out, "]");
}

const char *describe_signature(arena_t *arena, const ir_module_t *module) {
  text_t out;
  text_init(&out, arena);
  text_printf(&out, "{\"name\":");
  json_write_string(module->name != NULL ? module->name : "", &out);
  text_printf(&out, ",\"compiler\":\"moec " MOEC_VERSION "\"");
  append_inputs(arena, module->first, &out);
  append_outputs(arena, module->first, &out);
  append_symbols(module, &out);
  text_printf(&out, "}");
  return out.data;
}

/* ---- Code ---------------------------------------------------------------- */

/* A set of operators; they are few for one kernel. */
typedef struct name_set {
  const char **names;
  size_t n, capacity;
} name_set_t;

static void add_name(name_set_t *set, arena_t *arena, const char *name) {
  if (name == NULL || name[0] == '\0') return;
  for (size_t i = 0; i < set->n; i++)
    if (strcmp(set->names[i], name) == 0) return;
  if (set->n == set->capacity) {
    set->capacity = set->capacity == 0 ? 4 : 2 * set->capacity;
    set->names = arena_grow_array(arena, set->names, set->n, set->capacity,
                                  sizeof *set->names);
  }
  set->names[set->n++] = name;
}

/* A kernel or routine, and who calls it. */
typedef struct callee {
  const char *name;
  uint64_t uses;
  name_set_t operators;
} callee_t;

/* Callees by name: open addressing over an array in order of appearance. */
typedef struct callees {
  arena_t *arena;
  callee_t *items;
  uint32_t *table; /* 1 + index, 0: free */
  size_t n, capacity, table_size;
} callees_t;

static uint64_t hash_name(const char *name) {
  uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
  for (; *name != '\0'; name++)
    hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
  return hash;
}

static uint32_t *find_slot(const callees_t *c, const char *name) {
  size_t at = hash_name(name) & (c->table_size - 1);
  while (c->table[at] != 0 &&
         strcmp(c->items[c->table[at] - 1].name, name) != 0)
    at = (at + 1) & (c->table_size - 1);
  return &c->table[at];
}

static void grow(callees_t *c) {
  c->capacity = c->capacity == 0 ? 32 : 2 * c->capacity;
  c->items =
      arena_grow_array(c->arena, c->items, c->n, c->capacity, sizeof *c->items);
  c->table_size = 2 * c->capacity;
  c->table = ARENA_ARRAY(c->arena, uint32_t, c->table_size);
  for (size_t i = 0; i < c->n; i++)
    *find_slot(c, c->items[i].name) = (uint32_t)i + 1;
}

static callee_t *find_callee(callees_t *c, const char *name) {
  if (c->n == c->capacity) grow(c);
  uint32_t *slot = find_slot(c, name);
  if (*slot == 0) {
    c->items[c->n].name = name;
    *slot = (uint32_t)++c->n;
  }
  return &c->items[*slot - 1];
}

typedef struct code {
  callees_t kernels, routines;
  uint64_t launches, calls;
} code_t;

static void take_op(code_t *code, const ir_op_t *op) {
  callee_t *callee;
  switch (op->code) {
    case OP_LAUNCH:
      callee = find_callee(&code->kernels, ir_get_str(op, ATTR_LAUNCH_kernel));
      code->launches++;
      break;
    case OP_CALL:
      callee = find_callee(&code->routines, ir_get_str(op, ATTR_CALL_routine));
      code->calls++;
      break;
    default:
      return;
  }
  callee->uses++;
  add_name(&callee->operators, code->kernels.arena, op->loc.type);
}

/* Kernels say by their bodies what was fused into them. */
static void take_kernel(code_t *code, const ir_func_t *func) {
  callee_t *callee = find_callee(&code->kernels, func->name);
  for (const ir_op_t *op = ir_walk_first(func); op != NULL;
       op = ir_walk_next(op))
    add_name(&callee->operators, code->kernels.arena, op->loc.type);
}

static void append_callees(const callees_t *c, const char *name,
                           const char *uses, text_t *out) {
  for (size_t i = 0; i < c->n; i++) {
    const callee_t *callee = &c->items[i];
    text_printf(out, "%s{\"%s\":", i > 0 ? "," : "", name);
    json_write_string(callee->name, out);
    text_printf(out, ",\"%s\":%llu,\"operators\":[", uses,
                (unsigned long long)callee->uses);
    for (size_t j = 0; j < callee->operators.n; j++) {
      if (j > 0) text_printf(out, ",");
      json_write_string(callee->operators.names[j], out);
    }
    text_printf(out, "]}");
  }
}

static void append_code(const code_t *code, text_t *out) {
  text_printf(out, "\"launches\":%llu,\"calls\":%llu",
              (unsigned long long)code->launches,
              (unsigned long long)code->calls);
  text_printf(out, ",\"kernels\":[");
  append_callees(&code->kernels, "kernel", "launches", out);
  text_printf(out, "],\"runtime\":[");
  append_callees(&code->routines, "routine", "calls", out);
  text_printf(out, "]");
}

const char *describe_code(arena_t *arena, ir_module_t *module,
                          const unsigned *variants, unsigned n_variants) {
  code_t code = {.kernels = {.arena = arena}, .routines = {.arena = arena}};
  for (const ir_op_t *op = ir_walk_first(module->first); op != NULL;
       op = ir_walk_next(op))
    take_op(&code, op);
  for (const ir_func_t *func = module->first; func != NULL; func = func->next)
    if (func->kind == IR_FUNC_KERNEL) take_kernel(&code, func);
  text_t out;
  text_init(&out, arena);
  text_printf(&out, "{\"variants\":[");
  for (unsigned i = 0; i < n_variants; i++)
    text_printf(&out, "%s\"%s\"", i > 0 ? "," : "", isa_at(variants[i])->name);
  text_printf(&out, "],");
  append_code(&code, &out);
  text_printf(&out, "}");
  return out.data;
}

/* ---- Report -------------------------------------------------------------- */

static void append_counts(const callees_t *c, const char *list,
                          const char *name, const char *count, text_t *out) {
  text_printf(out, "\"%s\":[", list);
  for (size_t i = 0; i < c->n; i++) {
    text_printf(out, "%s{\"%s\":", i > 0 ? "," : "", name);
    json_write_string(c->items[i].name, out);
    text_printf(out, ",\"%s\":%llu}", count,
                (unsigned long long)c->items[i].uses);
  }
  text_printf(out, "]");
}

/* Operations made for one node follow each other. */
static bool same_node(const ir_loc_t *a, const ir_loc_t *b) {
  return a->index == b->index && a->node == b->node && a->type == b->type;
}

const char *describe_import(arena_t *arena, const ir_module_t *module) {
  callees_t operators = {.arena = arena}, operations = {.arena = arena};
  const ir_op_t *before = NULL;
  for (const ir_op_t *op = ir_walk_first(module->first); op != NULL;
       op = ir_walk_next(op)) {
    find_callee(&operations, ir_op_info(op->code)->mnemonic)->uses++;
    if (op->loc.type == NULL) continue;
    if (before == NULL || !same_node(&before->loc, &op->loc))
      find_callee(&operators, op->loc.type)->uses++;
    before = op;
  }
  text_t out;
  text_init(&out, arena);
  text_printf(&out, "{");
  append_counts(&operators, "operators", "operator", "nodes", &out);
  text_printf(&out, ",");
  append_counts(&operations, "operations", "operation", "count", &out);
  text_printf(&out, "}");
  return out.data;
}

static void append_part(const char *name, const char *json, text_t *out) {
  if (json == NULL) return;
  text_printf(out, ",\"%s\":", name);
  text_append(out, json, strlen(json));
}

const char *describe_report(arena_t *arena, const describe_parts_t *parts) {
  text_t out;
  text_init(&out, arena);
  text_printf(
      &out, "{\"compiler\":\"moec " MOEC_VERSION "\",\"level\":%d,\"passes\":",
      parts->level);
  json_write_string(parts->passes, &out);
  append_part("imported", parts->imported, &out);
  if (parts->moe != NULL) describe_moe(parts->moe, &out);
  append_part("signature", parts->signature, &out);
  append_part("code", parts->code, &out);
  text_printf(&out, "}\n");
  return out.data;
}
