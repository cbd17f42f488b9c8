/* Copies of operations and modules, also into another module, where sizes are
 * rebuilt over symbols of the same names. */
#include "ir/ir.h"

typedef struct pair {
  const ir_value_t *from; /* NULL: free slot */
  ir_value_t *to;
} pair_t;

typedef struct cloner {
  ir_module_t *module; /* of the copy */
  const ir_module_t *source;
  ir_map_fn map; /* of values from outside; may be NULL */
  void *user;
  pair_t *pairs; /* values copied so far: hash table, open addressing */
  size_t n_pairs, capacity;
} cloner_t;

/* ---- Values ------------------------------------------------------------- */

static size_t slot_of(const pair_t *pairs, size_t capacity,
                      const ir_value_t *value) {
  uint64_t hash = (uint64_t)(uintptr_t)value * UINT64_C(0x9e3779b97f4a7c15);
  size_t slot = (size_t)(hash >> 32) & (capacity - 1);
  while (pairs[slot].from != NULL && pairs[slot].from != value)
    slot = (slot + 1) & (capacity - 1);
  return slot;
}

static void add_pair(cloner_t *c, const ir_value_t *from, ir_value_t *to) {
  if (2 * c->n_pairs >= c->capacity) {
    size_t capacity = c->capacity == 0 ? 64 : 4 * c->capacity;
    pair_t *pairs = ARENA_ARRAY(c->module->arena, pair_t, capacity);
    for (size_t i = 0; i < c->capacity; i++)
      if (c->pairs[i].from != NULL)
        pairs[slot_of(pairs, capacity, c->pairs[i].from)] = c->pairs[i];
    c->pairs = pairs;
    c->capacity = capacity;
  }
  c->pairs[slot_of(c->pairs, c->capacity, from)] = (pair_t){from, to};
  c->n_pairs++;
}

static ir_value_t *map_value(cloner_t *c, ir_value_t *value) {
  if (value == NULL) return NULL;
  if (c->capacity > 0) {
    const pair_t *pair = &c->pairs[slot_of(c->pairs, c->capacity, value)];
    if (pair->from != NULL) return pair->to;
  }
  return c->map != NULL ? c->map(c->user, value) : value;
}

/* ---- Sizes, types, texts ------------------------------------------------ */

static const expr_t *copy_expr(cloner_t *c, const expr_t *e);

static const expr_t *copy_symbol(cloner_t *c, const expr_symbol_t *symbol) {
  const expr_t *found = expr_find_symbol(c->module->exprs, symbol->name);
  if (found != NULL) return found;
  return expr_new_symbol(c->module->exprs, symbol->name, symbol->lower,
                         copy_expr(c, symbol->upper));
}

static const expr_t *copy_atom(cloner_t *c, const expr_atom_t *atom) {
  expr_pool_t *pool = c->module->exprs;
  if (atom->kind == EXPR_ATOM_SYMBOL) return copy_symbol(c, atom->symbol);
  const expr_t *a = copy_expr(c, atom->a), *b = copy_expr(c, atom->b);
  return expr_apply(pool, atom->kind, a, b);
}

static const expr_t *copy_expr(cloner_t *c, const expr_t *e) {
  expr_pool_t *pool = c->module->exprs;
  if (e == NULL || pool == c->source->exprs) return e;
  const expr_t *sum = expr_const(pool, 0);
  for (unsigned i = 0; i < e->n_terms; i++) {
    const expr_term_t *term = &e->terms[i];
    const expr_t *product = expr_const(pool, term->coefficient);
    for (unsigned j = 0; j < term->n_atoms; j++)
      product = expr_mul(pool, product, copy_atom(c, term->atoms[j]));
    sum = expr_add(pool, sum, product);
  }
  return sum;
}

static const expr_t *const *copy_exprs(cloner_t *c, const expr_t *const *e,
                                       size_t n) {
  const expr_t **copy = ARENA_ARRAY(c->module->arena, const expr_t *, n);
  for (size_t i = 0; i < n; i++) copy[i] = copy_expr(c, e[i]);
  return copy;
}

static ir_type_t copy_type(cloner_t *c, const ir_type_t *type) {
  ir_type_t copy = *type;
  if (c->module == c->source) return copy;
  if (type->kind == IR_TENSOR && type->rank > 0)
    copy.dim = copy_exprs(c, type->dim, type->rank);
  if (type->elem != NULL) {
    ir_type_t *elem = ARENA_NEW(c->module->arena, ir_type_t);
    *elem = copy_type(c, type->elem);
    copy.elem = elem;
  }
  return copy;
}

static const char *copy_text(cloner_t *c, const char *text) {
  bool shared = text == NULL || c->module->arena == c->source->arena;
  return shared ? text : arena_strdup(c->module->arena, text);
}

static ir_loc_t copy_loc(cloner_t *c, const ir_loc_t *loc) {
  return (ir_loc_t){.node = copy_text(c, loc->node),
                    .type = copy_text(c, loc->type),
                    .index = loc->index,
                    .where = copy_text(c, loc->where)};
}

static void copy_value(cloner_t *c, const ir_value_t *from, ir_value_t *to) {
  int64_t count;
  to->type = copy_type(c, &from->type);
  to->number = from->number;
  to->name = copy_text(c, from->name);
  if (from->content != NULL && ir_type_static_count(&from->type, &count))
    to->content = c->module == c->source
                      ? from->content
                      : copy_exprs(c, from->content, (size_t)count);
}

/* ---- Operations --------------------------------------------------------- */

static void copy_attr(cloner_t *c, ir_op_t *op, const ir_attr_t *attr) {
  ir_data_t *data;
  switch (ir_attr_info(attr->id)->kind) {
    case IR_ATTR_INT:
      ir_set_int(op, attr->id, attr->v.i);
      break;
    case IR_ATTR_FLOAT:
      ir_set_float(op, attr->id, attr->v.f);
      break;
    case IR_ATTR_STR:
      ir_set_str(op, attr->id, attr->v.s);
      break;
    case IR_ATTR_DTYPE:
      ir_set_dtype(op, attr->id, attr->v.dtype);
      break;
    case IR_ATTR_INTS:
      ir_set_ints(op, attr->id, attr->n, attr->v.ints);
      break;
    case IR_ATTR_FLOATS:
      ir_set_floats(op, attr->id, attr->n, attr->v.floats);
      break;
    case IR_ATTR_STRS:
      ir_set_strs(op, attr->id, attr->n, attr->v.strs);
      break;
    case IR_ATTR_EXPR:
      ir_set_expr(op, attr->id, copy_expr(c, attr->v.expr));
      break;
    case IR_ATTR_EXPRS:
      ir_set_exprs(op, attr->id, attr->n,
                   copy_exprs(c, attr->v.exprs, attr->n));
      break;
    case IR_ATTR_DATA:
      data = attr->v.data;
      if (c->module->arena != c->source->arena) {
        data = ARENA_NEW(c->module->arena, ir_data_t);
        *data = *attr->v.data;
      }
      ir_set_data(op, attr->id, data);
      break;
  }
}

static ir_op_t *clone_op(cloner_t *c, const ir_op_t *op);

static void clone_region(cloner_t *c, const ir_region_t *from,
                         ir_region_t *to) {
  for (unsigned i = 0; i < from->n_args; i++) {
    copy_value(c, &from->args[i], &to->args[i]);
    add_pair(c, &from->args[i], &to->args[i]);
  }
  for (const ir_op_t *op = from->first; op != NULL; op = op->next) {
    ir_op_t *copy = clone_op(c, op);
    ir_append(to, copy);
    for (unsigned i = 0; i < op->n_out; i++)
      add_pair(c, &op->out[i], &copy->out[i]);
  }
}

static const ir_type_t *arg_types(cloner_t *c, const ir_region_t *region) {
  ir_type_t *types = ARENA_ARRAY(c->module->arena, ir_type_t, region->n_args);
  for (unsigned i = 0; i < region->n_args; i++)
    types[i] = copy_type(c, &region->args[i].type);
  return types;
}

static ir_op_t *clone_op(cloner_t *c, const ir_op_t *op) {
  ir_value_t **in = ARENA_ARRAY(c->module->arena, ir_value_t *, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) in[i] = map_value(c, op->in[i].value);
  ir_op_t *copy = ir_op_create(c->module, op->code, copy_loc(c, &op->loc),
                               op->n_in, in, op->n_out);
  copy->fused = op->fused;
  for (unsigned i = 0; i < op->n_attrs; i++) copy_attr(c, copy, &op->attrs[i]);
  for (unsigned i = 0; i < op->n_out; i++)
    copy_value(c, &op->out[i], &copy->out[i]);
  for (unsigned i = 0; i < op->n_regions; i++) {
    const ir_region_t *region = &op->regions[i];
    if (i >= copy->n_regions) ir_add_region(copy);
    ir_region_set_args(copy, i, region->n_args, arg_types(c, region));
    clone_region(c, region, &copy->regions[i]);
  }
  return copy;
}

ir_op_t *ir_clone(ir_module_t *module, const ir_op_t *op, ir_map_fn map,
                  void *user) {
  cloner_t c = {
      .module = module, .source = op->module, .map = map, .user = user};
  return clone_op(&c, op);
}

/* ---- Modules ------------------------------------------------------------ */

static const char **copy_names(cloner_t *c, const char **names, unsigned n) {
  if (names == NULL) return NULL;
  const char **copy = ARENA_ARRAY(c->module->arena, const char *, n);
  for (unsigned i = 0; i < n; i++) copy[i] = copy_text(c, names[i]);
  return copy;
}

static ir_ports_t copy_ports(cloner_t *c, const ir_ports_t *ports) {
  ir_ports_t copy = {.n = ports->n};
  copy.port = ARENA_ARRAY(c->module->arena, ir_port_t, ports->n);
  for (unsigned i = 0; i < ports->n; i++) {
    copy.port[i] = ports->port[i];
    copy.port[i].name = copy_text(c, ports->port[i].name);
  }
  return copy;
}

static void clone_func(cloner_t *c, const ir_func_t *func) {
  const ir_region_t *body = &func->body;
  ir_func_t *copy = ir_func_create(c->module, func->name, func->kind,
                                   body->n_args, arg_types(c, body));
  copy->key = func->key;
  copy->arg_names = copy_names(c, func->arg_names, body->n_args);
  copy->result_names = copy_names(c, func->result_names,
                                  body->last != NULL ? body->last->n_in : 0);
  copy->inputs = copy_ports(c, &func->inputs);
  copy->outputs = copy_ports(c, &func->outputs);
  clone_region(c, body, &copy->body);
}

ir_module_t *ir_module_clone(const ir_module_t *module, arena_t *arena) {
  ir_module_t *copy = ir_module_create(arena, module->name);
  cloner_t c = {.module = copy, .source = module};
  copy->level = module->level;
  copy->evaluator = module->evaluator;
  for (unsigned i = 0; i < expr_n_symbols(module->exprs); i++)
    copy_symbol(&c, expr_symbol_at(module->exprs, i));
  for (const ir_func_t *func = module->first; func != NULL; func = func->next)
    clone_func(&c, func);
  return copy;
}
