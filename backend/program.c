/* The constants that a compiled model hands out; see program.h. */
#include "backend/program.h"

#include <string.h>

#include "moec/rtabi.h"

struct program_text {
  const char *text;
  LLVMValueRef value;
  program_text_t *next;
};

void program_begin(program_t *p, emitter_t *em, ir_module_t *module) {
  *p = (program_t){.em = em, .module = module};
  const ir_func_t *func = module->first;
  p->is_input_symbol =
      ARENA_ARRAY(em->arena, bool, expr_n_symbols(module->exprs) + 1);
  for (unsigned i = 0; i < func->body.n_args; i++) {
    const ir_type_t *type = &func->body.args[i].type;
    for (unsigned d = 0; d < type->rank; d++)
      if (!expr_is_const(type->dim[d], NULL))
        p->is_input_symbol[type->dim[d]->terms[0].atoms[0]->symbol->index] =
            true;
  }
}

bool program_is_input_symbol(const program_t *p, const expr_symbol_t *symbol) {
  return p->is_input_symbol[symbol->index];
}

/* ---- Declarations -------------------------------------------------------- */

LLVMValueRef program_call(program_t *p, const char *name, LLVMTypeRef result,
                          unsigned n, LLVMValueRef *args) {
  LLVMTypeRef params[8];
  MOEC_ASSERT(n <= 8);
  for (unsigned i = 0; i < n; i++) params[i] = LLVMTypeOf(args[i]);
  LLVMTypeRef type = LLVMFunctionType(result, params, n, false);
  LLVMValueRef func = LLVMGetNamedFunction(p->em->module, name);
  if (func == NULL) {
    func = LLVMAddFunction(p->em->module, name, type);
    LLVMSetVisibility(func, LLVMHiddenVisibility);
  }
  return LLVMBuildCall2(p->em->builder, type, func, args, n, "");
}

LLVMValueRef program_external(program_t *p, const char *name) {
  LLVMValueRef global = LLVMGetNamedGlobal(p->em->module, name); /* any */
  if (global != NULL) return global;
  global = LLVMAddGlobal(p->em->module, p->em->i8, name);
  LLVMSetVisibility(global, LLVMHiddenVisibility);
  return global;
}

/* A hidden function of the runtime, for its address only. */
static LLVMValueRef runtime_function(program_t *p, const char *name) {
  LLVMValueRef func = LLVMGetNamedFunction(p->em->module, name);
  if (func != NULL) return func;
  func = LLVMAddFunction(p->em->module, name,
                         LLVMFunctionType(p->em->void_type, NULL, 0, false));
  LLVMSetVisibility(func, LLVMHiddenVisibility);
  return func;
}

static LLVMValueRef constant(program_t *p, LLVMValueRef init,
                             const char *name) {
  LLVMValueRef global = LLVMAddGlobal(p->em->module, LLVMTypeOf(init), name);
  LLVMSetInitializer(global, init);
  LLVMSetGlobalConstant(global, true);
  LLVMSetLinkage(global, LLVMInternalLinkage);
  return global;
}

LLVMValueRef program_string(program_t *p, const char *text) {
  unsigned hash = 0;
  for (const char *c = text; *c; c++) hash = hash * 31 + (unsigned char)*c;
  program_text_t **bucket = &p->strings[hash % 256];
  for (program_text_t *t = *bucket; t != NULL; t = t->next)
    if (strcmp(t->text, text) == 0) return t->value;
  LLVMValueRef bytes = LLVMConstStringInContext(p->em->context, text,
                                                (unsigned)strlen(text), false);
  program_text_t *t = ARENA_NEW(p->em->arena, program_text_t);
  *t = (program_text_t){text, constant(p, bytes, "text"), *bucket};
  LLVMSetAlignment(t->value, 1);
  *bucket = t;
  return t->value;
}

int program_node(program_t *p, ir_loc_t loc) {
  if (loc.index == 0 && loc.node == NULL) return -1;
  const char *text =
      arena_printf(p->em->arena, "node #%d \"%s\" (%s)", loc.index - 1,
                   loc.node ? loc.node : "", loc.type ? loc.type : "");
  if (p->n_nodes > 0 && strcmp(p->nodes[p->n_nodes - 1], text) == 0)
    return (int)p->n_nodes - 1;
  if (p->n_nodes == p->node_capacity) {
    unsigned capacity = p->node_capacity * 2 + 64;
    p->nodes = arena_grow_array(p->em->arena, p->nodes, p->node_capacity,
                                capacity, sizeof *p->nodes);
    p->node_capacity = capacity;
  }
  p->nodes[p->n_nodes] = text;
  return (int)p->n_nodes++;
}

bool program_memory(const ir_op_t *op, unsigned i, int64_t *out_kind,
                    int64_t *out_index) {
  ir_attr_id_t id;
  switch (op->code) {
    case OP_LAUNCH:
      id = ATTR_LAUNCH_memory;
      break;
    case OP_CALL:
      id = ATTR_CALL_memory;
      break;
    case OP_EMPTY:
      id = ATTR_EMPTY_memory;
      break;
    case OP_EXPRS:
      id = ATTR_EXPRS_memory;
      break;
    case OP_IF:
      id = ATTR_IF_memory;
      break;
    case OP_WHILE:
      id = ATTR_WHILE_memory;
      break;
    default:
      return false;
  }
  unsigned n;
  const int64_t *memory = ir_get_ints(op, id, &n);
  *out_kind = memory[2 * i];
  *out_index = memory[2 * i + 1];
  return true;
}

/* ---- Tables -------------------------------------------------------------- */

static LLVMValueRef u32(program_t *p, uint64_t value) {
  return LLVMConstInt(p->em->i32, value, false);
}

static LLVMValueRef array(program_t *p, LLVMTypeRef type, LLVMValueRef *values,
                          unsigned n, const char *name) {
  if (n == 0) return LLVMConstNull(p->em->ptr);
  return constant(p, LLVMConstArray(type, values, n), name);
}

static LLVMValueRef strings(program_t *p, const char *const *texts, unsigned n,
                            const char *name) {
  LLVMValueRef *values = ARENA_ARRAY(p->em->arena, LLVMValueRef, n);
  for (unsigned i = 0; i < n; i++) values[i] = program_string(p, texts[i]);
  return array(p, p->em->ptr, values, n, name);
}

static const char *dim_text(program_t *p, const expr_t *dim) {
  if (dim == NULL || expr_is_const(dim, NULL)) return "";
  text_t text;
  text_init(&text, p->em->arena);
  expr_print(dim, &text);
  return text.data;
}

typedef struct io_kind {
  uint32_t kind, element; /* moec_kind_t; of an optional, what it holds */
} io_kind_t;

static const io_kind_t tensor_kind = {MOEC_TENSOR, MOEC_TENSOR};

/* A moec_io_t. Dimensions may be NULL: nothing is known of them. */
static LLVMValueRef emit_io(program_t *p, const ir_type_t *type,
                            const char *name, io_kind_t kind) {
  emitter_t *em = p->em;
  LLVMValueRef dims[IR_MAX_RANK], names[IR_MAX_RANK], symbols[IR_MAX_RANK];
  for (unsigned d = 0; d < type->rank; d++) {
    int64_t fixed = -1;
    const expr_t *dim = type->dim[d];
    if (dim != NULL) expr_is_const(dim, &fixed);
    const expr_symbol_t *symbol = dim != NULL ? expr_as_symbol(dim) : NULL;
    dims[d] = LLVMConstInt(em->i64, (uint64_t)fixed, true);
    names[d] = program_string(p, dim_text(p, dim));
    symbols[d] = u32(p, symbol != NULL ? symbol->index : UINT64_MAX);
  }
  LLVMValueRef fields[] = {
      u32(p, sizeof(moec_io_t)),
      u32(p, kind.kind),
      u32(p, type->dtype),
      u32(p, type->rank),
      program_string(p, name ? name : ""),
      array(p, em->i64, dims, type->rank, "dims"),
      array(p, em->ptr, names, type->rank, "dim_names"),
      array(p, em->i32, symbols, type->rank, "dim_symbols"),
      u32(p, 0),
      u32(p, kind.element),
  };
  return LLVMConstStructInContext(em->context, fields,
                                  sizeof fields / sizeof fields[0], false);
}

static LLVMValueRef emit_inputs(program_t *p, const ir_func_t *func) {
  unsigned n = func->body.n_args;
  LLVMValueRef *ios = ARENA_ARRAY(p->em->arena, LLVMValueRef, n);
  for (unsigned i = 0; i < n; i++)
    ios[i] =
        emit_io(p, &func->body.args[i].type, func->arg_names[i], tensor_kind);
  return n == 0 ? LLVMConstNull(p->em->ptr)
                : array(p, LLVMTypeOf(ios[0]), ios, n, "inputs");
}

static LLVMValueRef emit_outputs(program_t *p, const ir_func_t *func) {
  const ir_op_t *last = func->body.last;
  LLVMValueRef *ios = ARENA_ARRAY(p->em->arena, LLVMValueRef, last->n_in);
  for (unsigned i = 0; i < last->n_in; i++)
    ios[i] =
        emit_io(p, &last->in[i].value->type,
                func->result_names ? func->result_names[i] : "", tensor_kind);
  return last->n_in == 0
             ? LLVMConstNull(p->em->ptr)
             : array(p, LLVMTypeOf(ios[0]), ios, last->n_in, "outputs");
}

/* ---- Inputs and outputs that are no tensors ------------------------------ */

/* A port as the outside sees it: kind, and the dims of what it holds. */
static LLVMValueRef emit_port_io(program_t *p, const ir_port_t *port,
                                 const ir_type_t *types) {
  bool sequence = port->kind == IR_SEQUENCE || port->of_sequence;
  ir_type_t type = types[0];
  int64_t rank = type.rank;
  if (sequence) {
    expr_is_const(types[1].dim[1], &rank);
    const expr_t **dim = ARENA_ARRAY(p->em->arena, const expr_t *, rank + 1);
    /* Unnamed and not fixed: each element has dims of its own. */
    for (int64_t d = 0; d < rank; d++) dim[d] = NULL;
    type = ir_tensor_type(type.dtype, (unsigned)rank, dim);
  }
  io_kind_t kind = {.kind = port->kind == IR_SEQUENCE   ? MOEC_SEQUENCE
                            : port->kind == IR_OPTIONAL ? MOEC_OPTIONAL
                                                        : MOEC_TENSOR,
                    .element = port->of_sequence ? MOEC_SEQUENCE : MOEC_TENSOR};
  return emit_io(p, &type, port->name, kind);
}

static void emit_ports(program_t *p, const ir_ports_t *ports,
                       const ir_type_t *types, LLVMValueRef *out_ios,
                       LLVMValueRef *out_ports) {
  LLVMValueRef *ios = ARENA_ARRAY(p->em->arena, LLVMValueRef, ports->n + 1);
  LLVMValueRef *rows = ARENA_ARRAY(p->em->arena, LLVMValueRef, ports->n + 1);
  for (unsigned i = 0; i < ports->n; i++) {
    const ir_port_t *port = &ports->port[i];
    LLVMValueRef fields[] = {u32(p, port->first), u32(p, port->n)};
    ios[i] = emit_port_io(p, port, types + port->first);
    rows[i] = LLVMConstStructInContext(p->em->context, fields, 2, false);
  }
  *out_ios = *out_ports = LLVMConstNull(p->em->ptr);
  if (ports->n == 0) return;
  *out_ios = array(p, LLVMTypeOf(ios[0]), ios, ports->n, "ios");
  *out_ports = array(p, LLVMTypeOf(rows[0]), rows, ports->n, "ports");
}

/* One port for each value where the other side has ports and this one has not.
 */
static ir_ports_t all_ports(program_t *p, const ir_ports_t *ports, unsigned n,
                            const char *const *names) {
  if (ports->n > 0) return *ports;
  ir_ports_t all = {.n = n};
  all.port = ARENA_ARRAY(p->em->arena, ir_port_t, n);
  for (unsigned i = 0; i < n; i++)
    all.port[i] = (ir_port_t){.kind = IR_TENSOR,
                              .name = names != NULL && names[i] ? names[i] : "",
                              .first = i,
                              .n = 1};
  return all;
}

static LLVMValueRef emit_variants(program_t *p, const unsigned *variants,
                                  unsigned n) {
  emitter_t *em = p->em;
  LLVMValueRef *rows = ARENA_ARRAY(em->arena, LLVMValueRef, n);
  for (unsigned i = 0; i < n; i++) {
    const isa_t *isa = isa_at(variants[i]);
    LLVMValueRef fields[] = {
        program_string(p, isa->name),
        LLVMConstInt(em->i64, isa->cpu_bits, false),
        program_external(
            p, arena_printf(em->arena, "moert_kernels_%u", variants[i])),
    };
    rows[i] = LLVMConstStructInContext(em->context, fields, 3, false);
  }
  return array(p, LLVMTypeOf(rows[0]), rows, n, "variants");
}

static LLVMValueRef symbol_names(program_t *p) {
  unsigned n = expr_n_symbols(p->module->exprs);
  const char **names = ARENA_ARRAY(p->em->arena, const char *, n);
  for (unsigned i = 0; i < n; i++)
    names[i] = expr_symbol_at(p->module->exprs, i)->name;
  return strings(p, names, n, "symbol_names");
}

static uint32_t memory_kind(const program_t *p, const program_parts_t *parts) {
  if (parts->n_growable > 0) return MOEC_MEMORY_UNBOUNDED;
  for (const ir_op_t *op = ir_walk_first(p->module->first); op != NULL;
       op = ir_walk_next(op))
    if (op->code == OP_BIND) return MOEC_MEMORY_BOUND;
  return MOEC_MEMORY_EXACT;
}

typedef struct tables {
  LLVMValueRef name, compiler, inputs, outputs, variant_names;
  unsigned n_inputs, n_outputs, n_variants;
  LLVMValueRef in_ios, out_ios, in_ports, out_ports; /* or null pointers */
  unsigned n_in_ports, n_out_ports;
} tables_t;

static void define(program_t *p, const char *name, LLVMValueRef *fields,
                   unsigned n) {
  LLVMValueRef init =
      LLVMConstStructInContext(p->em->context, fields, n, false);
  LLVMValueRef global = LLVMGetNamedGlobal(p->em->module, name);
  MOEC_ASSERT(global == NULL);
  global = LLVMAddGlobal(p->em->module, LLVMTypeOf(init), name);
  LLVMSetInitializer(global, init);
  LLVMSetGlobalConstant(global, true);
  LLVMSetVisibility(global, LLVMHiddenVisibility);
}

static void emit_program(program_t *p, const program_parts_t *parts,
                         const tables_t *t, LLVMValueRef variants) {
  LLVMValueRef fields[] = {
      t->name,
      t->compiler,
      t->inputs,
      t->outputs,
      u32(p, t->n_inputs),
      u32(p, t->n_outputs),
      u32(p, expr_n_symbols(p->module->exprs)),
      u32(p, parts->n_slots),
      u32(p, parts->n_growable),
      u32(p, p->n_nodes),
      symbol_names(p),
      strings(p, p->nodes, p->n_nodes, "nodes"),
      variants,
      t->variant_names,
      u32(p, t->n_variants),
      u32(p, memory_kind(p, parts)),
      program_external(p, "moert_weights"),
      parts->plan,
      parts->run,
      t->in_ios,
      t->out_ios,
      t->in_ports,
      t->out_ports,
      u32(p, t->n_in_ports),
      u32(p, t->n_out_ports),
  };
  define(p, "moert_program", fields, sizeof fields / sizeof fields[0]);
}

static void emit_model(program_t *p, const tables_t *t, LLVMValueRef tracing) {
  bool ports = t->n_in_ports + t->n_out_ports > 0;
  LLVMValueRef fields[] = {
      u32(p, sizeof(moec_model_t)),
      u32(p, MOEC_ABI_VERSION),
      t->name,
      t->compiler,
      u32(p, ports ? t->n_in_ports : t->n_inputs),
      u32(p, ports ? t->n_out_ports : t->n_outputs),
      ports ? t->in_ios : t->inputs,
      ports ? t->out_ios : t->outputs,
      u32(p, t->n_variants),
      u32(p, 0),
      t->variant_names,
      runtime_function(p, "moert_create"),
      runtime_function(p, "moert_destroy"),
      runtime_function(p, ports ? "moert_query_ports" : "moert_query"),
      runtime_function(p, ports ? "moert_run_ports" : "moert_run"),
      runtime_function(p, "moert_message"),
      runtime_function(p, "moert_variant"),
      runtime_function(p, "moert_pool_create"),
      runtime_function(p, "moert_pool_destroy"),
      tracing,
  };
  define(p, "moec_model_table", fields, sizeof fields / sizeof fields[0]);
}

/* ---- Recording ----------------------------------------------------------- */

unsigned program_step(program_t *p, ir_loc_t loc, const char *work) {
  if (p->n_steps == p->step_capacity) {
    const unsigned capacity = p->step_capacity * 2 + 64;
    p->steps = arena_grow_array(p->em->arena, p->steps, p->step_capacity,
                                capacity, sizeof *p->steps);
    p->step_capacity = capacity;
  }
  LLVMValueRef node = program_string(p, loc.node != NULL ? loc.node : "");
  LLVMValueRef op = program_string(p, loc.type != NULL ? loc.type : "");
  LLVMValueRef fields[] = {
      node, op, LLVMConstInt(p->em->i64, (uint64_t)((int64_t)loc.index - 1), 0),
      program_string(p, work)};
  p->steps[p->n_steps] =
      LLVMConstStructInContext(p->em->context, fields, 4, false);
  return p->n_steps++;
}

/* The moec_tracing_t, or a null pointer for a model that cannot record. */
static LLVMValueRef emit_tracing(program_t *p, bool instrument) {
  if (!instrument) return LLVMConstNull(p->em->ptr);
  LLVMValueRef none = LLVMConstNull(p->em->ptr);
  LLVMValueRef steps = p->n_steps == 0 ? none
                                       : array(p, LLVMTypeOf(p->steps[0]),
                                               p->steps, p->n_steps, "steps");
  LLVMValueRef fields[] = {u32(p, sizeof(moec_tracing_t)), u32(p, p->n_steps),
                           steps, runtime_function(p, "moert_trace_start"),
                           runtime_function(p, "moert_trace_events")};
  return constant(
      p,
      LLVMConstStructInContext(p->em->context, fields,
                               sizeof fields / sizeof fields[0], false),
      "tracing");
}

/* The exported function: returns the address of the model's table. */
static void emit_entry(program_t *p, const char *entry) {
  emitter_t *em = p->em;
  LLVMValueRef func = LLVMAddFunction(
      em->module, entry, LLVMFunctionType(em->ptr, NULL, 0, false));
  LLVMPositionBuilderAtEnd(
      em->builder, LLVMAppendBasicBlockInContext(em->context, func, "entry"));
  LLVMBuildRet(em->builder, LLVMGetNamedGlobal(em->module, "moec_model_table"));
}

static void describe_ports(program_t *p, const ir_func_t *func, tables_t *t) {
  const ir_op_t *last = func->body.last;
  arena_t *arena = p->em->arena;
  bool any = func->inputs.n + func->outputs.n > 0;
  ir_ports_t in = {0}, out = {0};
  ir_type_t *args = ARENA_ARRAY(arena, ir_type_t, func->body.n_args);
  ir_type_t *results = ARENA_ARRAY(arena, ir_type_t, last->n_in);
  for (unsigned i = 0; i < func->body.n_args; i++)
    args[i] = func->body.args[i].type;
  for (unsigned i = 0; i < last->n_in; i++)
    results[i] = last->in[i].value->type;
  if (any) {
    in = all_ports(p, &func->inputs, func->body.n_args, func->arg_names);
    out = all_ports(p, &func->outputs, last->n_in, func->result_names);
  }
  emit_ports(p, &in, args, &t->in_ios, &t->in_ports);
  emit_ports(p, &out, results, &t->out_ios, &t->out_ports);
  t->n_in_ports = in.n;
  t->n_out_ports = out.n;
}

void program_finish(program_t *p, const program_parts_t *parts,
                    const unsigned *variants, unsigned n_variants,
                    const char *entry) {
  const ir_func_t *func = p->module->first;
  const char **names = ARENA_ARRAY(p->em->arena, const char *, n_variants);
  for (unsigned i = 0; i < n_variants; i++)
    names[i] = isa_at(variants[i])->name;
  tables_t t = {
      .name = program_string(p, p->module->name),
      .compiler = program_string(p, "moec " MOEC_VERSION),
      .inputs = emit_inputs(p, func),
      .outputs = emit_outputs(p, func),
      .variant_names = strings(p, names, n_variants, "variant_names"),
      .n_inputs = func->body.n_args,
      .n_outputs = func->body.last->n_in,
      .n_variants = n_variants,
  };
  describe_ports(p, func, &t);
  emit_program(p, parts, &t, emit_variants(p, variants, n_variants));
  emit_model(p, &t, emit_tracing(p, parts->instrument));
  emit_entry(p, entry);
}
