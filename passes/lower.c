/* The lowering pass: its driver, elements, launches. */
#include "passes/lower.h"

#include <string.h>

#include "passes/pass.h"

#define OP(id, mnemonic, in_min, in_max, out, regions, traits, shape, lower) \
  extern const lowering_t lowering_##lower;
#include "ir/ops.def"

static const lowering_t *const lowerings[OP_COUNT] = {
#define OP(id, mnemonic, in_min, in_max, out, regions, traits, shape, lower) \
  [OP_##id] = &lowering_##lower,
#include "ir/ops.def"
};

const lowering_t lowering_none = {0};

const lowering_t *lowering_of(ir_opcode_t code) { return lowerings[code]; }

/* ---- Elements ------------------------------------------------------------ */

ir_value_t *lower_linear(kernel_t *k, const ir_type_t *type,
                         ir_value_t *const *idx) {
  expr_pool_t *pool = k->module->exprs;
  const expr_t *stride = expr_const(pool, 1);
  ir_value_t *linear = NULL;
  for (unsigned d = type->rank; d-- > 0;) {
    if (!expr_equals_const(type->dim[d], 1)) {
      ir_value_t *step =
          kernel_binary(k, OP_MUL, idx[d], kernel_size(k, stride));
      linear = linear ? kernel_binary(k, OP_ADD, step, linear) : step;
    }
    stride = expr_mul(pool, stride, type->dim[d]);
  }
  return linear ? linear : kernel_int(k, 0);
}

ir_value_t *lower_elem(kernel_t *k, ir_value_t *tensor,
                       ir_value_t *const *idx) {
  if (tensor == k->anchor) return k->anchor_scalar;
  const ir_op_t *op = tensor->def;
  if (op != NULL && op->fused) {
    MOEC_ASSERT(lowering_of(op->code)->elem != NULL);
    /* Without this a chain of values with two uses each takes 2^n steps. */
    bool shared = tensor->uses->next != NULL;
    unsigned rank = tensor->type.rank;
    ir_value_t *scalar = shared ? kernel_recall(k, tensor, rank, idx) : NULL;
    if (scalar != NULL) return scalar;
    const ir_loc_t outer = k->loc; /* what is placed meanwhile is of op */
    k->loc = op->loc;
    scalar = lowering_of(op->code)->elem(k, op, tensor->index, idx);
    k->loc = outer;
    if (shared) kernel_remember(k, tensor, rank, idx, scalar);
    return scalar;
  }
  ir_value_t *buffer = kernel_operand(k, tensor);
  return kernel_load(k, buffer, lower_linear(k, &tensor->type, idx), NULL);
}

ir_value_t *lower_elem_masked(kernel_t *k, ir_value_t *tensor,
                              ir_value_t *const *idx, ir_value_t *mask) {
  ir_value_t *outer = k->mask;
  k->mask = outer == NULL ? mask : kernel_binary(k, OP_AND, outer, mask);
  ir_value_t *scalar = lower_elem(k, tensor, idx);
  k->mask = outer;
  return scalar;
}

ir_value_t *lower_wrap_index(kernel_t *k, ir_value_t *index, const expr_t *size,
                             ir_value_t **out_ok) {
  index = kernel_cast(k, index, DT_I64);
  ir_value_t *zero = kernel_int(k, 0), *n = kernel_size(k, size);
  ir_value_t *negative = kernel_binary(k, OP_LT, index, zero);
  index = kernel_select(k, negative, kernel_binary(k, OP_ADD, index, n), index);
  /* One at a time: compilers differ in which argument they evaluate first. */
  ir_value_t *below = kernel_binary(k, OP_LT, index, n);
  ir_value_t *from_zero = kernel_binary(k, OP_LE, zero, index);
  *out_ok = kernel_binary(k, OP_AND, from_zero, below);
  kernel_assert(k, *out_ok, MOEC_E_INDEX);
  return index;
}

ir_value_t *lower_broadcast_index(kernel_t *k, const expr_t *from,
                                  const expr_t *to, ir_value_t *idx) {
  if (expr_equals_const(from, 1)) return kernel_int(k, 0);
  if (from == to) return idx;
  expr_pool_t *pool = k->module->exprs;
  const expr_t *keep =
      expr_sub(pool, expr_const(pool, 1), expr_is_one(pool, from));
  return kernel_binary(k, OP_MUL, idx, kernel_size(k, keep));
}

bool lower_merges(const ir_value_t *tensor, unsigned d) {
  const ir_op_t *op = tensor->def;
  return op == NULL || !op->fused || (op->merges >> d & 1) != 0;
}

/* What users will ask of a fused operation; operands were noted before it. */
static void note_fused(lower_t *lo, ir_op_t *op) {
  const lowering_t *l = lowering_of(op->code);
  if (op->n_out != 1) return;
  lo->product[op->out[0].number] = lower_find_product(lo, &op->out[0]);
  for (unsigned d = 0; l->merges != NULL && d + 1 < op->out[0].type.rank; d++)
    if (l->merges(op, d)) op->merges |= 1u << d;
}

/* ---- The schedule -------------------------------------------------------- */

static bool in_schedule(const lower_t *lo, const ir_value_t *value) {
  return ir_home(value)->func == lo->schedule.region->func;
}

ir_value_t *lower_stored(lower_t *lo, ir_value_t *tensor) {
  if (in_schedule(lo, tensor)) return tensor;
  ir_value_t *stored = lo->stored[tensor->number];
  if (stored == NULL) {
    MOEC_ASSERT(tensor->def != NULL && tensor->def->fused);
    stored = lower_materialise(lo, tensor, tensor->def->loc, "map");
    /* What is stored within a region is not there outside. */
    if (tensor->def->parent == lo->region) lower_set_stored(lo, tensor, stored);
  }
  return stored;
}

void lower_set_stored(lower_t *lo, ir_value_t *tensor, ir_value_t *stored) {
  lo->stored[tensor->number] = stored;
}

static ir_op_t *launch(lower_t *lo, kernel_t *k, const char *family,
                       ir_value_t *target, unsigned n_results,
                       const ir_type_t *types, const expr_t *units,
                       const expr_t *grain) {
  ir_func_t *func = kernel_end(k, family);
  arena_t *arena = lo->module->arena;
  unsigned extra = target != NULL, n_in = k->n_operands + extra;
  ir_value_t **in = ARENA_ARRAY(arena, ir_value_t *, n_in);
  if (target != NULL) in[0] = target;
  for (unsigned i = 0; i < k->n_operands; i++)
    in[extra + i] = lower_stored(lo, k->operand_tensor[i]);
  ir_op_t *op =
      ir_op_create(lo->module, OP_LAUNCH, k->loc, n_in, in, n_results);
  ir_set_str(op, ATTR_LAUNCH_kernel, func->name);
  ir_set_expr(op, ATTR_LAUNCH_units, units);
  ir_set_expr(op, ATTR_LAUNCH_grain, grain);
  ir_set_exprs(op, ATTR_LAUNCH_args, k->n_args, k->arg_expr);
  if (target != NULL) ir_set_int(op, ATTR_LAUNCH_inplace, 0);
  for (unsigned i = 0; i < n_results; i++) op->out[i].type = types[i];
  ir_place(&lo->schedule, op);
  return op;
}

ir_op_t *lower_launch(lower_t *lo, kernel_t *k, const char *family,
                      unsigned n_results, const ir_type_t *types,
                      const expr_t *units, const expr_t *grain) {
  return launch(lo, k, family, NULL, n_results, types, units, grain);
}

ir_op_t *lower_launch_inplace(lower_t *lo, kernel_t *k, const char *family,
                              ir_value_t *target, const expr_t *units,
                              const expr_t *grain) {
  return launch(lo, k, family, target, 1, &target->type, units, grain);
}

void lower_call(lower_t *lo, const ir_op_t *op, const char *routine,
                unsigned n_in, ir_value_t *const *in, unsigned n_args,
                const expr_t *const *args) {
  ir_op_t *call =
      ir_op_create(lo->module, OP_CALL, op->loc, n_in, in, op->n_out);
  ir_set_str(call, ATTR_CALL_routine, routine);
  ir_set_exprs(call, ATTR_CALL_args, n_args, args);
  for (unsigned i = 0; i < op->n_out; i++) call->out[i].type = op->out[i].type;
  ir_place(&lo->schedule, call);
  for (unsigned i = 0; i < op->n_out; i++)
    lower_set_stored(lo, &op->out[i], &call->out[i]);
}

/* ---- Storing what elem gives --------------------------------------------- */

static bool is_reduction(const ir_op_t *op) {
  return lowering_of(op->code) == &lowering_reduce ||
         lowering_of(op->code) == &lowering_arg_reduce;
}

/* What the fused tree below a tensor asks of the nest around it. */
typedef struct tree {
  bool reduces;    /* the innermost loop must stay whole */
  bool row_reduce; /* lanes belong to a reduction, not to the innermost loop */
  bool windows;    /* rows are too short to be spread one by one */
  const expr_t *work;
} tree_t;

/* Each operation once, however many ways lead to it. */
static void study_operation(lower_t *lo, const ir_op_t *op, bool root,
                            tree_t *tree) {
  if (op == NULL || (!root && !op->fused) || op->n_out == 0) return;
  unsigned *seen = &lo->studied[op->out[0].number];
  if (*seen == lo->n_studies) return;
  *seen = lo->n_studies;
  expr_pool_t *pool = lo->module->exprs;
  if (is_reduction(op)) {
    const ir_type_t *in = &op->in[0].value->type, *out = &op->out[0].type;
    tree->reduces = true;
    bool over_last = lower_reduces_last(op);
    bool hoisted = out->rank > 0 && out->rank == in->rank &&
                   expr_equals_const(out->dim[out->rank - 1], 1) && !root;
    if (over_last && !hoisted) tree->row_reduce = true;
    const expr_t *n = lower_reduced_count(pool, op);
    tree->work = expr_mul(pool, tree->work, n);
  }
  tree->windows |= op->code == OP_WINDOWS;
  for (unsigned i = 0; i < op->n_in; i++)
    if (op->in[i].value != NULL)
      study_operation(lo, op->in[i].value->def, false, tree);
}

static void study_tree(lower_t *lo, const ir_op_t *op, bool root,
                       tree_t *tree) {
  lo->n_studies++;
  study_operation(lo, op, root, tree);
}

static nest_kind_t nest_kind(const tree_t *tree) {
  return tree->row_reduce ? NEST_ROWS
         : tree->windows  ? NEST_BLOCKS
         : tree->reduces  ? NEST_WHOLE
                          : NEST_CHUNKS;
}

ir_value_t *lower_materialise(lower_t *lo, ir_value_t *tensor, ir_loc_t loc,
                              const char *family) {
  ir_op_t *op = tensor->def;
  ir_value_t *product = lower_find_product(lo, tensor);
  if (product != NULL) return lower_product(lo, tensor, product);
  expr_pool_t *pool = lo->module->exprs;
  const ir_type_t *type = &tensor->type;
  tree_t tree = {.work = expr_const(pool, 1)};
  study_tree(lo, op, true, &tree);
  const lowering_t *l = lowering_of(op->code);
  bool mergeable[IR_MAX_RANK] = {false};
  for (unsigned d = 0; d + 1 < type->rank; d++)
    mergeable[d] = l->merges != NULL && l->merges(op, d);
  nest_t nest;
  nest_plan(lo->module, &nest, type->rank, type->dim, mergeable,
            nest_kind(&tree), tree.work);
  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK];
  kernel_begin(&k, lo->module, lo->table, loc, 1, &type->dtype);
  nest_open(&k, &nest, !tree.row_reduce, idx);
  ir_value_t *scalar = l->elem(&k, op, tensor->index, idx);
  kernel_store(&k, kernel_result(&k, 0), lower_linear(&k, type, idx), scalar,
               NULL);
  ir_op_t *launched = lower_launch(lo, &k, tree.reduces ? "reduce" : family, 1,
                                   type, nest.units, nest.grain);
  return &launched->out[0];
}

ir_value_t *lower_write_slice(lower_t *lo, ir_value_t *source,
                              ir_value_t *target, const expr_t *const *start,
                              ir_loc_t loc) {
  expr_pool_t *pool = lo->module->exprs;
  const ir_type_t *type = &source->type;
  bool mergeable[IR_MAX_RANK] = {false};
  for (unsigned d = 0; d + 1 < type->rank; d++)
    mergeable[d] =
        type->dim[d + 1] == target->type.dim[d + 1] && lower_merges(source, d);
  tree_t tree = {.work = expr_const(pool, 1)};
  study_tree(lo, source->def, false, &tree);
  nest_t nest;
  nest_plan(lo->module, &nest, type->rank, type->dim, mergeable,
            nest_kind(&tree), tree.work);
  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK], *to[IR_MAX_RANK];
  kernel_begin(&k, lo->module, lo->table, loc, 1, &type->dtype);
  nest_open(&k, &nest, !tree.row_reduce, idx);
  ir_value_t *scalar = lower_elem(&k, source, idx);
  for (unsigned d = 0; d < type->rank; d++)
    to[d] = kernel_binary(&k, OP_ADD, idx[d], kernel_size(&k, start[d]));
  kernel_store(&k, kernel_result(&k, 0), lower_linear(&k, &target->type, to),
               scalar, NULL);
  ir_op_t *launched = lower_launch_inplace(lo, &k, "write_slice", target,
                                           nest.units, nest.grain);
  return &launched->out[0];
}

/* A stored copy, for outputs that are inputs, constants or views of others. */
static ir_value_t *copy_stored(lower_t *lo, ir_value_t *stored, ir_loc_t loc) {
  expr_pool_t *pool = lo->module->exprs;
  const ir_type_t type = stored->type;
  bool mergeable[IR_MAX_RANK];
  for (unsigned d = 0; d < IR_MAX_RANK; d++) mergeable[d] = true;
  nest_t nest;
  nest_plan(lo->module, &nest, type.rank, type.dim, mergeable, NEST_CHUNKS,
            expr_const(pool, 1));
  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK];
  kernel_begin(&k, lo->module, lo->table, loc, 1, &type.dtype);
  nest_open(&k, &nest, true, idx);
  ir_value_t *linear = lower_linear(&k, &type, idx);
  kernel_store(&k, kernel_result(&k, 0), linear,
               kernel_load(&k, kernel_operand(&k, stored), linear, NULL), NULL);
  return &lower_launch(lo, &k, "copy", 1, &type, nest.units, nest.grain)
              ->out[0];
}

ir_value_t *lower_empty(lower_t *lo, const ir_type_t *type, ir_loc_t loc) {
  ir_op_t *op = ir_op_create(lo->module, OP_EMPTY, loc, 0, NULL, 1);
  op->out[0].type = *type;
  return ir_place(&lo->schedule, op);
}

ir_value_t *lower_private_copy(lower_t *lo, ir_value_t *source, ir_loc_t loc) {
  if (source->def != NULL && source->def->fused)
    return lower_materialise(lo, source, loc, "map");
  ir_value_t *stored = lower_stored(lo, source);
  bool ours = stored->def != NULL &&
              stored->def->parent == lo->schedule.region &&
              (stored->def->code == OP_LAUNCH || stored->def->code == OP_CALL);
  bool last_use = source->uses != NULL && source->uses->next == NULL;
  return ours && last_use ? stored : copy_stored(lo, stored, loc);
}

/* ---- The pass ------------------------------------------------------------ */

static ir_value_t *map_to_stored(void *user, ir_value_t *value) {
  return value == NULL ? NULL : lower_stored(user, value);
}

/* Operations that stand in the schedule as they are. */
static void keep(lower_t *lo, const ir_op_t *op) {
  ir_op_t *copy = ir_clone(lo->module, op, map_to_stored, lo);
  ir_append(lo->schedule.region, copy);
  for (unsigned i = 0; i < op->n_out; i++)
    lower_set_stored(lo, &op->out[i], &copy->out[i]);
}

ir_value_t *lower_storage_of(ir_value_t *value) {
  while (value->def != NULL && ir_has_trait(value->def, VIEW))
    value = value->def->in[0].value;
  return value;
}

/* Whether `value` is memory that an operation of the schedule makes anew: also
 * a while does, and an if, when both regions make what they yield just so. */
static bool is_made(const ir_value_t *value) {
  const ir_op_t *def = value->def;
  if (def == NULL) return false;
  if (def->code == OP_WHILE) return ir_while_knows_size(def, value->index);
  if (def->code != OP_IF) return def->code == OP_LAUNCH || def->code == OP_CALL;
  for (unsigned r = 0; r < def->n_regions; r++)
    if (!is_made(def->regions[r].last->in[value->index].value)) return false;
  return true;
}

ir_value_t *lower_owned(lower_t *lo, ir_value_t *stored, ir_loc_t loc,
                        unsigned n, ir_value_t *const *taken) {
  const ir_value_t *base = lower_storage_of(stored);
  bool owned = is_made(base) && base->def->parent == lo->schedule.region &&
               (base->def->code != OP_IF || stored == base);
  for (unsigned i = 0; owned && i < n; i++)
    owned = lower_storage_of(taken[i]) != base;
  return owned ? stored : copy_stored(lo, stored, loc);
}

static bool mentions(const ir_type_t *type, const expr_symbol_t *symbol) {
  for (unsigned d = 0; d < type->rank; d++)
    if (expr_mentions(type->dim[d], symbol)) return true;
  return false;
}

static bool is_input_symbol(const lower_t *lo, const expr_symbol_t *symbol) {
  const ir_region_t *region = lo->schedule.region;
  for (unsigned i = 0; i < region->n_args; i++)
    if (mentions(&region->args[i].type, symbol)) return true;
  return false;
}

/* Whether the shape that is returned is known when its memory is first written:
 * a view may speak of sizes that are bound later. */
static bool known_in_time(const lower_t *lo, const ir_value_t *returned,
                          const ir_value_t *base) {
  const expr_pool_t *pool = lo->module->exprs;
  if (returned == base) return true;
  for (unsigned i = 0; i < expr_n_symbols(pool); i++) {
    const expr_symbol_t *symbol = expr_symbol_at(pool, i);
    if (mentions(&returned->type, symbol) && !mentions(&base->type, symbol) &&
        !is_input_symbol(lo, symbol))
      return false;
  }
  return true;
}

/* Every result of the model needs memory of its own. */
static void lower_return(lower_t *lo, const ir_op_t *op) {
  arena_t *arena = lo->module->arena;
  ir_value_t **in = ARENA_ARRAY(arena, ir_value_t *, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    in[i] = lower_stored(lo, op->in[i].value);
    if (known_in_time(lo, in[i], lower_storage_of(in[i])))
      in[i] = lower_owned(lo, in[i], op->loc, i, in);
    else
      in[i] = copy_stored(lo, in[i], op->loc);
  }
  ir_append(lo->schedule.region,
            ir_op_create(lo->module, OP_RETURN, op->loc, op->n_in, in, 0));
}

static void lower_op(lower_t *lo, ir_op_t *op) {
  const lowering_t *l = lowering_of(op->code);
  if (op->fused) {
    note_fused(lo, op);
    return;
  }
  if (l->root != NULL) {
    l->root(lo, op);
  } else if (ir_has_trait(op, LOOP) && !ir_has_trait(op, ELEMENTWISE)) {
    keep(lo, op);
  } else {
    MOEC_ASSERT(l->elem != NULL);
    for (unsigned i = 0; i < op->n_out; i++)
      lower_set_stored(lo, &op->out[i],
                       lower_materialise(lo, &op->out[i], op->loc, "map"));
  }
}

ir_op_t *lower_region(lower_t *lo, ir_region_t *region) {
  const ir_region_t *outer = lo->region;
  lo->region = region;
  for (ir_op_t *op = region->first; op != region->last; op = op->next)
    lower_op(lo, op);
  lo->region = outer;
  return region->last;
}

static void lower_func(ir_module_t *module, ir_func_t *old,
                       kernel_table_t *table, diag_sink_t *diag,
                       moec_status_t *status) {
  arena_t *arena = module->arena;
  ir_renumber(old);
  unsigned n_values = ir_count_values(old);
  ir_type_t *types = ARENA_ARRAY(arena, ir_type_t, old->body.n_args);
  for (unsigned i = 0; i < old->body.n_args; i++)
    types[i] = old->body.args[i].type;
  ir_module_remove(module, old);
  ir_func_t *func =
      ir_func_create(module, old->name, IR_FUNC_MAIN, old->body.n_args, types);
  func->arg_names = old->arg_names;
  func->result_names = old->result_names;
  func->inputs = old->inputs;
  func->outputs = old->outputs;
  lower_t lo = {.module = module, .diag = diag, .table = table};
  lo.schedule =
      (ir_builder_t){.module = module, .region = &func->body, .diag = diag};
  lo.stored = ARENA_ARRAY(arena, ir_value_t *, n_values);
  lo.product = ARENA_ARRAY(arena, ir_value_t *, n_values);
  lo.studied = ARENA_ARRAY(arena, unsigned, n_values);
  for (unsigned i = 0; i < old->body.n_args; i++) {
    func->body.args[i].name = old->body.args[i].name;
    lower_set_stored(&lo, &old->body.args[i], &func->body.args[i]);
  }
  lower_return(&lo, lower_region(&lo, &old->body));
  *status = lo.status;
}

/* No register holds strings and complex numbers of 128 bits. */
static moec_status_t check_types(const ir_func_t *func, diag_sink_t *diag) {
  for (unsigned i = 0; i < func->body.n_args; i++)
    if (func->body.args[i].type.dtype == DT_STR)
      return diag_error(diag, (ir_loc_t){0}, MOEC_E_UNSUPPORTED,
                        "input \"%s\" has strings, which are not supported",
                        func->arg_names[i]);
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
    for (unsigned i = 0; i < op->n_in + op->n_out; i++) {
      const ir_value_t *x =
          i < op->n_in ? op->in[i].value : &op->out[i - op->n_in];
      if (x != NULL && dtype_bits(x->type.dtype) > 64)
        return diag_error(
            diag, op->loc, MOEC_E_UNSUPPORTED, "'%s' of %s is not supported",
            ir_op_info(op->code)->mnemonic, dtype_name(x->type.dtype));
    }
  return MOEC_OK;
}

/* Operations that other passes turn into ones that become loops. */
static moec_status_t check_all_lower(const ir_func_t *func, diag_sink_t *diag) {
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op)) {
    const lowering_t *l = lowering_of(op->code);
    if (l->elem != NULL || l->root != NULL || ir_has_trait(op, LOOP)) continue;
    return diag_error(diag, op->loc, MOEC_E_USAGE,
                      "%s is left: the pass that turns it into operations with "
                      "loops did not run",
                      ir_op_info(op->code)->mnemonic);
  }
  return MOEC_OK;
}

moec_status_t run_lower(pass_ctx_t *ctx, ir_func_t *func) {
  kernel_table_t *table = ARENA_NEW(ctx->module->arena, kernel_table_t);
  moec_status_t status = MOEC_OK;
  MOEC_TRY(check_types(func, ctx->diag));
  MOEC_TRY(check_all_lower(func, ctx->diag));
  ctx->changed = true;
  ctx->module->level = IR_LEVEL_LOOP;
  lower_func(ctx->module, func, table, ctx->diag, &status);
  return status;
}
