/* Modules, functions, regions and operations: creation, order, use lists. */
#include <string.h>

#include "ir/ir.h"

ir_module_t *ir_module_create(arena_t *arena, const char *name) {
  ir_module_t *module = ARENA_NEW(arena, ir_module_t);
  module->arena = arena;
  module->exprs = expr_pool_create(arena);
  module->name = arena_strdup(arena, name != NULL ? name : "");
  module->level = IR_LEVEL_TENSOR;
  return module;
}

static void set_args(arena_t *arena, ir_region_t *region, unsigned n_args,
                     const ir_type_t *types) {
  region->n_args = n_args;
  region->args = ARENA_ARRAY(arena, ir_value_t, n_args);
  for (unsigned i = 0; i < n_args; i++) {
    ir_value_t *arg = &region->args[i];
    arg->type = types[i];
    arg->region = region;
    arg->index = i;
    const ir_type_t *type = &types[i];
    if (type->kind != IR_TENSOR || type->rank == 0) continue;
    arg->type.dim = arena_grow_array(arena, type->dim, type->rank, type->rank,
                                     sizeof type->dim[0]);
  }
}

/* Main functions come before kernels, each kind in order of creation. */
void ir_module_add(ir_module_t *module, ir_func_t *func) {
  ir_func_t **place = &module->first;
  if (func->kind == IR_FUNC_MAIN) {
    while (*place != NULL && (*place)->kind == IR_FUNC_MAIN)
      place = &(*place)->next;
  } else if (module->last != NULL) {
    place = &module->last->next;
  }
  func->next = *place;
  *place = func;
  if (func->next == NULL) module->last = func;
  module->n_funcs++;
}

void ir_module_remove(ir_module_t *module, ir_func_t *func) {
  ir_func_t **place = &module->first;
  while (*place != func) place = &(*place)->next;
  *place = func->next;
  module->n_funcs--;
  module->last = NULL;
  for (ir_func_t *f = module->first; f != NULL; f = f->next) module->last = f;
}

ir_func_t *ir_func_create(ir_module_t *module, const char *name,
                          ir_func_kind_t kind, unsigned n_args,
                          const ir_type_t *arg_types) {
  ir_func_t *func = ARENA_NEW(module->arena, ir_func_t);
  func->module = module;
  func->name = arena_strdup(module->arena, name);
  func->kind = kind;
  func->body.func = func;
  func->arg_names = ARENA_ARRAY(module->arena, const char *, n_args);
  set_args(module->arena, &func->body, n_args, arg_types);
  ir_module_add(module, func);
  return func;
}

ir_func_t *ir_func_find(ir_module_t *module, const char *name) {
  for (ir_func_t *func = module->first; func != NULL; func = func->next)
    if (strcmp(func->name, name) == 0) return func;
  return NULL;
}

/* ---- Uses --------------------------------------------------------------- */

static void link_use(ir_use_t *use, ir_value_t *value) {
  use->value = value;
  use->prev = NULL;
  use->next = NULL;
  if (value == NULL) return;
  use->next = value->uses;
  if (use->next != NULL) use->next->prev = use;
  value->uses = use;
}

static void unlink_use(ir_use_t *use) {
  if (use->value == NULL) return;
  if (use->prev != NULL)
    use->prev->next = use->next;
  else
    use->value->uses = use->next;
  if (use->next != NULL) use->next->prev = use->prev;
  use->value = NULL;
  use->next = use->prev = NULL;
}

void ir_set_operand(ir_op_t *op, unsigned index, ir_value_t *value) {
  MOEC_ASSERT(index < op->n_in);
  ir_use_t *use = &op->in[index];
  if (use->value == value) return;
  unlink_use(use);
  link_use(use, value);
}

void ir_replace_uses(ir_value_t *old, ir_value_t *by) {
  MOEC_ASSERT(by != NULL);
  if (old == by || old->uses == NULL) return;
  ir_use_t *last = NULL;
  for (ir_use_t *use = old->uses; use != NULL; use = use->next) {
    use->value = by;
    last = use;
  }
  last->next = by->uses;
  if (by->uses != NULL) by->uses->prev = last;
  by->uses = old->uses;
  old->uses = NULL;
}

unsigned ir_n_uses(const ir_value_t *value) {
  unsigned n = 0;
  for (const ir_use_t *use = value->uses; use != NULL; use = use->next) n++;
  return n;
}

/* ---- Operations --------------------------------------------------------- */

ir_op_t *ir_op_create(ir_module_t *module, ir_opcode_t code, ir_loc_t loc,
                      unsigned n_in, ir_value_t *const *in, unsigned n_out) {
  arena_t *arena = module->arena;
  ir_op_t *op = ARENA_NEW(arena, ir_op_t);
  op->module = module;
  op->code = code;
  op->loc = loc;
  op->n_in = n_in;
  op->n_out = n_out;
  op->n_regions = ir_op_info(code)->n_regions;
  if (op->n_regions == IR_VARIADIC) op->n_regions = 0; /* see ir_add_region */
  if (n_in > 0) op->in = ARENA_ARRAY(arena, ir_use_t, n_in);
  if (n_out > 0) op->out = ARENA_ARRAY(arena, ir_value_t, n_out);
  unsigned n_attrs = ir_n_attrs_of(code); /* room for all that it may have */
  if (n_attrs > 0) op->attrs = ARENA_ARRAY(arena, ir_attr_t, n_attrs);
  if (op->n_regions > 0)
    op->regions = ARENA_ARRAY(arena, ir_region_t, op->n_regions);
  for (unsigned i = 0; i < n_in; i++) {
    op->in[i].user = op;
    op->in[i].index = i;
    link_use(&op->in[i], in[i]);
  }
  for (unsigned i = 0; i < n_out; i++) {
    op->out[i].def = op;
    op->out[i].index = i;
  }
  for (unsigned i = 0; i < op->n_regions; i++) op->regions[i].owner = op;
  return op;
}

void ir_op_set_results(ir_op_t *op, unsigned n_out) {
  MOEC_ASSERT(op->n_out == 0);
  op->n_out = n_out;
  op->out = ARENA_ARRAY(op->module->arena, ir_value_t, n_out);
  for (unsigned i = 0; i < n_out; i++) {
    op->out[i].def = op;
    op->out[i].index = i;
  }
}

bool ir_region_holds(const ir_region_t *outer, const ir_region_t *inner) {
  while (inner != NULL && inner != outer)
    inner = inner->owner != NULL ? inner->owner->parent : NULL;
  return inner != NULL;
}

ir_region_t *ir_add_region(ir_op_t *op) {
  MOEC_ASSERT(ir_op_info(op->code)->n_regions == IR_VARIADIC);
  unsigned n = op->n_regions++;
  if ((n & (n - 1)) == 0) { /* room for a power of two */
    op->regions =
        arena_grow_array(op->module->arena, op->regions, n,
                         n > 0 ? 2 * (size_t)n : 1, sizeof op->regions[0]);
    for (unsigned i = 0; i < n; i++) {
      ir_region_t *region = &op->regions[i];
      for (unsigned j = 0; j < region->n_args; j++)
        region->args[j].region = region;
      for (ir_op_t *inner = region->first; inner != NULL; inner = inner->next)
        inner->parent = region;
    }
  }
  op->regions[n] = (ir_region_t){.owner = op};
  if (op->parent != NULL) op->regions[n].func = op->parent->func;
  return &op->regions[n];
}

void ir_region_set_args(ir_op_t *op, unsigned region, unsigned n_args,
                        const ir_type_t *types) {
  MOEC_ASSERT(region < op->n_regions);
  MOEC_ASSERT(op->regions[region].args == NULL);
  set_args(op->module->arena, &op->regions[region], n_args, types);
}

/* Regions learn their function when their operation is inserted. */
static void set_func(ir_op_t *op, ir_func_t *func) {
  for (unsigned i = 0; i < op->n_regions; i++) {
    ir_region_t *region = &op->regions[i];
    if (region->func == func) continue;
    region->func = func;
    for (ir_op_t *inner = region->first; inner != NULL; inner = inner->next)
      if (inner->n_regions > 0) set_func(inner, func);
  }
}

/* Puts a detached operation between two neighbours (either may be NULL). */
static void link_op(ir_region_t *region, ir_op_t *op, ir_op_t *prev,
                    ir_op_t *next) {
  MOEC_ASSERT(op->parent == NULL);
  op->parent = region;
  op->prev = prev;
  op->next = next;
  *(prev != NULL ? &prev->next : &region->first) = op;
  *(next != NULL ? &next->prev : &region->last) = op;
  if (op->n_regions > 0) set_func(op, region->func);
}

static void unlink_op(ir_op_t *op) {
  ir_region_t *region = op->parent;
  if (region == NULL) return;
  *(op->prev != NULL ? &op->prev->next : &region->first) = op->next;
  *(op->next != NULL ? &op->next->prev : &region->last) = op->prev;
  op->parent = NULL;
  op->prev = op->next = NULL;
}

void ir_insert_before(ir_op_t *op, ir_op_t *before) {
  MOEC_ASSERT(before->parent != NULL && op != before);
  link_op(before->parent, op, before->prev, before);
}

void ir_append(ir_region_t *region, ir_op_t *op) {
  link_op(region, op, region->last, NULL);
}

void ir_move_before(ir_op_t *op, ir_op_t *before) {
  if (op == before) return;
  unlink_op(op);
  ir_insert_before(op, before);
}

/* Takes all operands from an operation and from what is inside it. */
static void drop_operands(ir_op_t *op) {
  for (unsigned i = 0; i < op->n_in; i++) unlink_use(&op->in[i]);
  for (unsigned i = 0; i < op->n_regions; i++)
    for (ir_op_t *inner = op->regions[i].first; inner != NULL;
         inner = inner->next)
      drop_operands(inner);
}

void ir_erase(ir_op_t *op) {
  for (unsigned i = 0; i < op->n_out; i++) MOEC_ASSERT(op->out[i].uses == NULL);
  drop_operands(op);
  unlink_op(op);
}

/* ---- Walks --------------------------------------------------------------- */

/* The first or last operation of the regions from..n of op in that direction.
 */
static ir_op_t *first_inside(const ir_op_t *op, unsigned from) {
  for (unsigned i = from; i < op->n_regions; i++)
    if (op->regions[i].first != NULL) return op->regions[i].first;
  return NULL;
}

static unsigned index_in_owner(const ir_region_t *region) {
  return (unsigned)(region - region->owner->regions);
}

ir_op_t *ir_walk_first(const ir_func_t *func) { return func->body.first; }

ir_op_t *ir_walk_next(const ir_op_t *op) {
  ir_op_t *inside = first_inside(op, 0);
  if (inside != NULL) return inside;
  for (;;) {
    if (op->next != NULL) return op->next;
    const ir_region_t *region = op->parent;
    if (region->owner == NULL) return NULL;
    op = region->owner;
    inside = first_inside(op, index_in_owner(region) + 1);
    if (inside != NULL) return inside;
  }
}

/* The last operation within op, or op itself. */
static ir_op_t *deepest(ir_op_t *op) {
  for (unsigned i = op->n_regions; i-- > 0;)
    if (op->regions[i].last != NULL) return deepest(op->regions[i].last);
  return op;
}

ir_op_t *ir_walk_last(const ir_func_t *func) {
  return func->body.last != NULL ? deepest(func->body.last) : NULL;
}

ir_op_t *ir_walk_prev(const ir_op_t *op) {
  if (op->prev != NULL) return deepest(op->prev);
  const ir_region_t *region = op->parent;
  ir_op_t *owner = region->owner;
  if (owner == NULL) return NULL;
  for (unsigned i = index_in_owner(region); i-- > 0;)
    if (owner->regions[i].last != NULL) return deepest(owner->regions[i].last);
  return owner;
}

/* ---- Numbers ------------------------------------------------------------ */

static unsigned number_region(ir_region_t *region, unsigned next) {
  for (unsigned i = 0; i < region->n_args; i++) region->args[i].number = next++;
  for (ir_op_t *op = region->first; op != NULL; op = op->next) {
    for (unsigned i = 0; i < op->n_out; i++) op->out[i].number = next++;
    for (unsigned i = 0; i < op->n_regions; i++)
      next = number_region(&op->regions[i], next);
  }
  return next;
}

static unsigned count_region(const ir_region_t *region) {
  unsigned n = region->n_args;
  for (const ir_op_t *op = region->first; op != NULL; op = op->next) {
    n += op->n_out;
    for (unsigned i = 0; i < op->n_regions; i++)
      n += count_region(&op->regions[i]);
  }
  return n;
}

void ir_renumber(ir_func_t *func) { number_region(&func->body, 0); }

void ir_renumber_region(ir_region_t *region) { number_region(region, 0); }

unsigned ir_count_values(const ir_func_t *func) {
  return count_region(&func->body);
}
