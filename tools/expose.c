/* Making values inside a model its outputs; see expose.h. */
#include "tools/expose.h"

typedef struct results { /* of the main function, growing */
  arena_t *arena;
  ir_value_t **values;
  const char **names;
  unsigned n;
} results_t;

static unsigned result_index(results_t *r, ir_value_t *value,
                             const char *name) {
  for (const ir_use_t *use = value->uses; use != NULL; use = use->next)
    if (use->user->code == OP_RETURN) return use->index;
  r->values = arena_grow_array(r->arena, r->values, r->n, (size_t)r->n + 1,
                               sizeof *r->values);
  r->names = arena_grow_array(r->arena, r->names, r->n, (size_t)r->n + 1,
                              sizeof *r->names);
  r->values[r->n] = value;
  r->names[r->n] = name;
  return r->n++;
}

static const char *copy(arena_t *arena, const char *text) {
  return text != NULL ? arena_strdup(arena, text) : NULL;
}

/* The name and the place live longer than the module. */
static exposed_t describe(expose_t *expose, const ir_op_t *op,
                          const char *name) {
  arena_t *arena = expose->arena;
  return (exposed_t){.name = arena_strdup(arena, name),
                     .loc = {.node = copy(arena, op->loc.node),
                             .type = copy(arena, op->loc.type),
                             .index = op->loc.index,
                             .where = copy(arena, op->loc.where)}};
}

static results_t results_of(ir_module_t *module) {
  const ir_func_t *func = module->first;
  const ir_op_t *last = func->body.last;
  results_t r = {.arena = module->arena, .n = last->n_in};
  r.values = ARENA_ARRAY(module->arena, ir_value_t *, last->n_in);
  r.names = ARENA_ARRAY(module->arena, const char *, last->n_in);
  for (unsigned i = 0; i < last->n_in; i++) {
    r.values[i] = last->in[i].value;
    r.names[i] = func->result_names != NULL ? func->result_names[i] : "";
  }
  return r;
}

static void replace_return(ir_module_t *module, const results_t *r) {
  ir_func_t *func = module->first;
  ir_op_t *old = func->body.last;
  ir_op_t *new = ir_op_create(module, OP_RETURN, old->loc, r->n, r->values, 0);
  func->result_names = r->names;
  ir_erase(old);
  ir_append(&func->body, new);
}

void expose_values(ir_module_t *module, expose_t *expose) {
  ir_func_t *func = module->first;
  results_t r = results_of(module);
  ir_renumber(func);
  const unsigned most = ir_count_values(func);
  const unsigned end = expose->end < most ? expose->end : most;
  expose->n_values = 0;
  expose->values = ARENA_ARRAY(expose->arena, exposed_t,
                               end > expose->begin ? end - expose->begin : 0);
  for (ir_op_t *op = func->body.first; op != NULL; op = op->next) {
    for (unsigned i = 0; i < op->n_out; i++) {
      ir_value_t *value = &op->out[i];
      if (op->code == OP_CONSTANT || value->type.kind != IR_TENSOR ||
          (value->name == NULL && !expose->unnamed))
        continue;
      const unsigned index = expose->n_values++;
      if (index < expose->begin || index >= end) continue;
      const char *name =
          value->name != NULL
              ? value->name
              : arena_printf(module->arena, "%%%u", value->number);
      exposed_t *exposed = &expose->values[index - expose->begin];
      *exposed = describe(expose, op, name);
      exposed->output = result_index(&r, value, name);
    }
  }
  replace_return(module, &r);
}
