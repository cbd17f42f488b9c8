/* The verifier: structure, use lists, dominance, levels, and types by running
 * inference again. Linear in operations and uses. */
#include "ir/verify.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#define MAX_REGION_DEPTH 128

/* Lives in its own scratch arena, which outlives no call. */
typedef struct verifier {
  arena_t *scratch;
  ir_module_t *module;
  ir_module_t shadow; /* the module with `scratch` as its arena */
  diag_sink_t *diag;
  moec_status_t status; /* of failures */
  bool types;
  ir_func_t **kernels; /* sorted by name */
  unsigned n_kernels;
  ir_func_t *func;      /* being verified */
  ir_value_t **visible; /* by number: values that may be used here */
  unsigned *n_slots;    /* by number: operand slots seen */
  unsigned n_values;
  bool *bound;       /* by symbol index */
  ir_op_t *inferred; /* its results are saved in the following */
  ir_value_t *saved;
} verifier_t;

#define FAIL(v, loc, ...) \
  return diag_error((v)->diag, (loc), (v)->status, __VA_ARGS__)

static const char *mnemonic(const ir_op_t *op) {
  return ir_op_info(op->code)->mnemonic;
}

/* ---- Form of one operation ---------------------------------------------- */

static moec_status_t check_attrs(const ir_op_t *op, moec_status_t status,
                                 diag_sink_t *diag) {
  unsigned first = (unsigned)ir_op_info(op->code)->attr_first;
  unsigned n = ir_n_attrs_of(op->code);
  for (unsigned i = 0; i < n; i++) {
    const ir_attr_info_t *info = ir_attr_info((ir_attr_id_t)(first + i));
    if (info->required && !ir_has_attr(op, (ir_attr_id_t)(first + i)))
      return diag_error(diag, op->loc, status, "%s needs the attribute %s",
                        mnemonic(op), info->name);
  }
  for (unsigned i = 0; i < op->n_attrs; i++) {
    unsigned id = (unsigned)op->attrs[i].id;
    bool sorted = i == 0 || (unsigned)op->attrs[i - 1].id < id;
    if (id < first || id - first >= n || !sorted)
      return diag_error(diag, op->loc, status,
                        "attribute %u of %s is not one of its own", i,
                        mnemonic(op));
  }
  return MOEC_OK;
}

moec_status_t ir_check_form(const ir_op_t *op, moec_status_t status,
                            diag_sink_t *diag) {
  const ir_op_info_t *info = ir_op_info(op->code);
  bool variadic = info->in_max == IR_VARIADIC;
  bool all = variadic && !ir_has_trait(op, OPTIONAL);
  if (op->n_in < info->in_min || (!variadic && op->n_in > info->in_max))
    return diag_error(diag, op->loc, status,
                      "%s has %u operands, expected %s%u", info->mnemonic,
                      op->n_in,
                      info->in_min == info->in_max ? ""
                      : op->n_in < info->in_min    ? "at least "
                                                   : "at most ",
                      op->n_in < info->in_min ? info->in_min : info->in_max);
  for (unsigned i = 0; i < op->n_in; i++)
    if (op->in[i].value == NULL && (all || i < info->in_min))
      return diag_error(diag, op->loc, status, "operand %u of %s is missing", i,
                        info->mnemonic);
  if (info->out != IR_VARIADIC && op->n_out != info->out)
    return diag_error(diag, op->loc, status, "%s has %u results, expected %u",
                      info->mnemonic, op->n_out, info->out);
  if (info->n_regions == IR_VARIADIC) {
    if (op->n_regions == 0)
      return diag_error(diag, op->loc, status, "%s has no region",
                        info->mnemonic);
  } else if (op->n_regions != info->n_regions) {
    return diag_error(diag, op->loc, status, "%s has %u regions, expected %u",
                      info->mnemonic, op->n_regions, info->n_regions);
  }
  return check_attrs(op, status, diag);
}

/* ---- Uses and dominance ------------------------------------------------- */

static bool is_visible(const verifier_t *v, const ir_value_t *value) {
  return value->number < v->n_values && v->visible[value->number] == value;
}

static moec_status_t verify_operands(verifier_t *v, ir_op_t *op) {
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_use_t *use = &op->in[i];
    if (use->user != op || use->index != i)
      FAIL(v, op->loc, "operand slot %u of %s does not know its place", i,
           mnemonic(op));
    if (use->value == NULL) continue;
    if (!is_visible(v, use->value))
      FAIL(v, op->loc, "operand %u of %s is used before its definition", i,
           mnemonic(op));
    v->n_slots[use->value->number]++;
  }
  return MOEC_OK;
}

/* The use list of a value holds exactly the operand slots seen. */
static moec_status_t verify_uses(verifier_t *v, ir_value_t *value,
                                 ir_loc_t loc) {
  unsigned expected = v->n_slots[value->number], n = 0;
  const ir_use_t *prev = NULL;
  for (const ir_use_t *use = value->uses; use != NULL; use = use->next) {
    if (use->value != value || use->prev != prev || ++n > expected) break;
    prev = use;
  }
  if (n == expected &&
      (prev == NULL ? value->uses == NULL : prev->next == NULL))
    return MOEC_OK;
  FAIL(v, loc,
       "the uses of %%%u are not the operands that refer to it (%u in place)",
       value->number, expected);
}

static void hide(verifier_t *v, const ir_region_t *region) {
  for (unsigned i = 0; i < region->n_args; i++)
    v->visible[region->args[i].number] = NULL;
  for (const ir_op_t *op = region->first; op != NULL; op = op->next)
    for (unsigned i = 0; i < op->n_out; i++)
      v->visible[op->out[i].number] = NULL;
}

static moec_status_t verify_region_uses(verifier_t *v, ir_region_t *region,
                                        ir_loc_t loc) {
  for (unsigned i = 0; i < region->n_args; i++)
    MOEC_TRY(verify_uses(v, &region->args[i], loc));
  for (ir_op_t *op = region->first; op != NULL; op = op->next) {
    for (unsigned i = 0; i < op->n_out; i++)
      MOEC_TRY(verify_uses(v, &op->out[i], op->loc));
    for (unsigned i = 0; i < op->n_regions; i++)
      MOEC_TRY(verify_region_uses(v, &op->regions[i], op->loc));
  }
  return MOEC_OK;
}

/* ---- Types -------------------------------------------------------------- */

static bool same_content(const ir_value_t *a, const ir_value_t *b) {
  int64_t count;
  if (a->content == b->content) return true;
  if (a->content == NULL || b->content == NULL) return false;
  if (!ir_type_static_count(&a->type, &count)) return false;
  for (int64_t i = 0; i < count; i++)
    if (a->content[i] != b->content[i]) return false;
  return true;
}

/* Puts the results' types and contents back, which inference has replaced by
 * equal ones in scratch memory; contents that are known better are kept. */
static void restore_results(verifier_t *v) {
  ir_op_t *op = v->inferred;
  v->inferred = NULL;
  for (unsigned i = 0; i < op->n_out; i++) {
    ir_value_t *out = &op->out[i];
    const ir_value_t *old = &v->saved[i];
    const expr_t *const *content = old->content;
    int64_t count;
    if (!same_content(out, old)) {
      content = NULL;
      if (out->content != NULL && ir_type_static_count(&out->type, &count))
        content =
            arena_grow_array(v->module->arena, out->content, (size_t)count,
                             (size_t)count, sizeof content[0]);
    }
    out->content = content;
    out->type = old->type;
  }
}

static moec_status_t verify_types(verifier_t *v, ir_op_t *op) {
  if (!v->types) return MOEC_OK;
  v->saved = arena_grow_array(v->scratch, op->out, op->n_out, op->n_out,
                              sizeof op->out[0]);
  v->inferred = op;
  moec_status_t status = ir_infer_types(&v->shadow, op, v->diag);
  for (unsigned i = 0; i < op->n_out && status == MOEC_OK; i++) {
    const ir_type_t *old = &v->saved[i].type, *now = &op->out[i].type;
    if (ir_type_equal(old, now)) continue;
    status = diag_error(v->diag, op->loc, v->status,
                        "result %u of %s has type %s but inference gives %s", i,
                        mnemonic(op), ir_type_str(v->scratch, old),
                        ir_type_str(v->scratch, now));
  }
  restore_results(v);
  return status == MOEC_OK ? MOEC_OK : v->status;
}

/* ---- Levels ------------------------------------------------------------- */

static int compare_kernels(const void *a, const void *b) {
  const ir_func_t *const *x = a, *const *y = b;
  return strcmp((*x)->name, (*y)->name);
}

static const ir_func_t *find_kernel(const verifier_t *v, const char *name) {
  const ir_func_t key = {.name = name}, *p = &key;
  if (v->n_kernels == 0) return NULL;
  ir_func_t **found = bsearch(&p, v->kernels, v->n_kernels,
                              sizeof v->kernels[0], compare_kernels);
  return found != NULL ? *found : NULL;
}

/* Operations of loop level that run in the schedule only. */
static bool is_scheduled(ir_opcode_t code) {
  return code == OP_LAUNCH || code == OP_CALL || code == OP_BIND ||
         code == OP_CHECK_EQUAL || code == OP_IF || code == OP_WHILE;
}

static bool is_scalar(const ir_type_t *type) {
  return type->kind == IR_TENSOR && type->rank == 0;
}

static moec_status_t verify_level(verifier_t *v, const ir_op_t *op) {
  bool tensor = v->module->level == IR_LEVEL_TENSOR;
  bool kernel = v->func->kind == IR_FUNC_KERNEL;
  if (!ir_has_trait(op, tensor ? TENSOR : LOOP))
    FAIL(v, op->loc, "%s is not an operation of the %s level", mnemonic(op),
         tensor ? "tensor" : "loop");
  bool in_kernel = op->code >= OP_PARALLEL && op->code <= OP_PRODUCT_TILE;
  if (kernel ? is_scheduled(op->code) : in_kernel)
    FAIL(v, op->loc, "%s is not allowed in a %s", mnemonic(op),
         kernel ? "kernel" : "schedule");
  for (unsigned i = 0; i < op->n_out; i++) {
    const ir_type_t *type = &op->out[i].type;
    if (kernel ? !is_scalar(type) : type->kind == IR_BUFFER)
      FAIL(v, op->loc,
           "result %u of %s has type %s, which is not allowed in %s", i,
           mnemonic(op), ir_type_str(v->scratch, type),
           kernel ? "a kernel" : "a main function");
  }
  return MOEC_OK;
}

/* Kernel parameters: results, operands, sizes; what is updated in place is a
 * result only. */
static moec_status_t verify_launch(verifier_t *v, const ir_op_t *op) {
  const char *name = ir_get_str(op, ATTR_LAUNCH_kernel);
  const ir_func_t *kernel = find_kernel(v, name);
  if (kernel == NULL) FAIL(v, op->loc, "launch of unknown kernel '%s'", name);
  unsigned n_args;
  ir_get_exprs(op, ATTR_LAUNCH_args, &n_args);
  bool in_place = ir_get_int(op, ATTR_LAUNCH_inplace) >= 0;
  unsigned n = op->n_out + op->n_in - in_place + n_args;
  if (kernel->body.n_args != n)
    FAIL(v, op->loc, "launch hands %u arguments to kernel '%s', which takes %u",
         n, name, kernel->body.n_args);
  return MOEC_OK;
}

/* A size that depends on data is defined once. */
static moec_status_t verify_symbol(verifier_t *v, const ir_op_t *op,
                                   const expr_t *e) {
  const expr_symbol_t *symbol = expr_as_symbol(e);
  if (symbol == NULL)
    FAIL(v, op->loc, "%s defines something that is not a symbol", mnemonic(op));
  if (v->bound[symbol->index])
    FAIL(v, op->loc, "symbol %s is bound twice", symbol->name);
  v->bound[symbol->index] = true;
  return MOEC_OK;
}

static moec_status_t verify_symbols(verifier_t *v, const ir_op_t *op,
                                    ir_attr_id_t id) {
  unsigned n;
  const expr_t *const *symbols = ir_get_exprs(op, id, &n);
  for (unsigned i = 0; i < n; i++) MOEC_TRY(verify_symbol(v, op, symbols[i]));
  return MOEC_OK;
}

/* What experts compute has no effect. That their rows do not depend on each
 * other follows from no single operation (think of a reshape and back), so it
 * is proved where the operation is made and not again here. */
static moec_status_t verify_expert_region(verifier_t *v, const ir_op_t *op,
                                          const ir_region_t *region) {
  for (const ir_op_t *in = region->first; in != NULL; in = in->next) {
    bool control = in->code == OP_IF || in->code == OP_WHILE;
    if (!control && !ir_has_trait(in, PURE | TERMINATOR))
      FAIL(v, in->loc, "%s in a region of %s, whose operations must be pure",
           mnemonic(in), mnemonic(op));
    for (unsigned i = 0; control && i < in->n_regions; i++)
      MOEC_TRY(verify_expert_region(v, op, &in->regions[i]));
  }
  return MOEC_OK;
}

static moec_status_t verify_expert_regions(verifier_t *v, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_regions; i++)
    MOEC_TRY(verify_expert_region(v, op, &op->regions[i]));
  return MOEC_OK;
}

static moec_status_t verify_definitions(verifier_t *v, const ir_op_t *op) {
  switch (op->code) {
    case OP_BIND:
      return verify_symbol(v, op, ir_get_expr(op, ATTR_BIND_symbol));
    case OP_MOE_EXPERTS:
      MOEC_TRY(verify_expert_regions(v, op));
      return verify_symbol(v, op, ir_get_expr(op, ATTR_MOE_EXPERTS_rows));
    case OP_IF:
      return verify_symbols(v, op, ATTR_IF_symbols);
    case OP_WHILE:
      MOEC_TRY(verify_symbols(v, op, ATTR_WHILE_symbols));
      if (ir_get_int(op, ATTR_WHILE_counted) == 0) return MOEC_OK;
      return verify_symbol(v, op, ir_get_expr(op, ATTR_WHILE_trips));
    default:
      return MOEC_OK;
  }
}

/* ---- Walk --------------------------------------------------------------- */

static moec_status_t verify_region(verifier_t *v, ir_region_t *region,
                                   ir_op_t *owner, unsigned depth);

static moec_status_t verify_links(verifier_t *v, const ir_region_t *region,
                                  const ir_op_t *op) {
  const ir_op_t *before = op->prev != NULL ? op->prev->next : region->first;
  const ir_op_t *after = op->next != NULL ? op->next->prev : region->last;
  if (op->parent != region || before != op || after != op ||
      op->module != v->module)
    FAIL(v, op->loc, "%s is not linked to its neighbours", mnemonic(op));
  for (unsigned i = 0; i < op->n_out; i++)
    if (op->out[i].def != op || op->out[i].index != i)
      FAIL(v, op->loc, "result %u of %s does not know its place", i,
           mnemonic(op));
  bool last = region->last == op;
  if (ir_has_trait(op, TERMINATOR) && !last)
    FAIL(v, op->loc, "%s is not the last operation of its region",
         mnemonic(op));
  if (last && op->code != (region->owner == NULL ? OP_RETURN : OP_YIELD))
    FAIL(v, op->loc, "a region of %s ends with %s, expected %s",
         region->owner == NULL ? "a function" : mnemonic(region->owner),
         mnemonic(op), region->owner == NULL ? "return" : "yield");
  return MOEC_OK;
}

static moec_status_t verify_op(verifier_t *v, ir_region_t *region, ir_op_t *op,
                               unsigned depth) {
  MOEC_TRY(verify_links(v, region, op));
  MOEC_TRY(ir_check_form(op, v->status, v->diag));
  MOEC_TRY(verify_operands(v, op));
  MOEC_TRY(verify_level(v, op));
  for (unsigned i = 0; i < op->n_regions; i++)
    MOEC_TRY(verify_region(v, &op->regions[i], op, depth + 1));
  if (op->code == OP_LAUNCH) MOEC_TRY(verify_launch(v, op));
  MOEC_TRY(verify_definitions(v, op));
  MOEC_TRY(verify_types(v, op));
  for (unsigned i = 0; i < op->n_out; i++)
    v->visible[op->out[i].number] = &op->out[i];
  return MOEC_OK;
}

static moec_status_t verify_region(verifier_t *v, ir_region_t *region,
                                   ir_op_t *owner, unsigned depth) {
  const ir_loc_t loc = owner != NULL ? owner->loc : (ir_loc_t){0};
  if (depth > MAX_REGION_DEPTH)
    FAIL(v, loc, "regions are nested more than %d deep", MAX_REGION_DEPTH);
  if (region->func != v->func || region->owner != owner)
    FAIL(v, loc, "a region does not know its function or operation");
  if (region->last == NULL)
    FAIL(v, loc, "a region of %s is empty",
         owner != NULL ? mnemonic(owner) : v->func->name);
  for (unsigned i = 0; i < region->n_args; i++) {
    ir_value_t *arg = &region->args[i];
    if (arg->def != NULL || arg->region != region || arg->index != i)
      FAIL(v, loc, "argument %u of a region does not know its place", i);
    bool kernel = v->func->kind == IR_FUNC_KERNEL;
    bool buffer = arg->type.kind == IR_BUFFER;
    if (kernel ? !(buffer && owner == NULL) && !is_scalar(&arg->type) : buffer)
      FAIL(v, loc, "argument %u of @%s has type %s, which is not allowed there",
           i, v->func->name, ir_type_str(v->scratch, &arg->type));
    v->visible[arg->number] = arg;
  }
  for (ir_op_t *op = region->first; op != NULL; op = op->next)
    MOEC_TRY(verify_op(v, region, op, depth));
  hide(v, region);
  return MOEC_OK;
}

static moec_status_t verify_ports(verifier_t *v, const ir_ports_t *ports,
                                  unsigned n_values) {
  unsigned n = 0;
  for (unsigned i = 0; i < ports->n; i++) n += ports->port[i].n;
  if (ports->n > 0 && n != n_values)
    FAIL(v, (ir_loc_t){0}, "inputs or outputs of @%s cover %u values of %u",
         v->func->name, n, n_values);
  return MOEC_OK;
}

static moec_status_t verify_func(verifier_t *v, ir_func_t *func) {
  v->func = func;
  if (func->module != v->module)
    FAIL(v, (ir_loc_t){0}, "@%s does not know its module", func->name);
  unsigned n_results = func->body.last != NULL ? func->body.last->n_in : 0;
  MOEC_TRY(verify_ports(v, &func->inputs, func->body.n_args));
  MOEC_TRY(verify_ports(v, &func->outputs, n_results));
  ir_renumber(func);
  v->n_values = ir_count_values(func);
  v->visible = ARENA_ARRAY(v->scratch, ir_value_t *, v->n_values);
  v->n_slots = ARENA_ARRAY(v->scratch, unsigned, v->n_values);
  v->bound = ARENA_ARRAY(v->scratch, bool, expr_n_symbols(v->module->exprs));
  MOEC_TRY(verify_region(v, &func->body, NULL, 0));
  return verify_region_uses(v, &func->body, (ir_loc_t){0});
}

/* Names of kernels are distinct. */
static moec_status_t collect_kernels(verifier_t *v) {
  v->kernels = ARENA_ARRAY(v->scratch, ir_func_t *, v->module->n_funcs);
  for (ir_func_t *func = v->module->first; func != NULL; func = func->next)
    if (func->kind == IR_FUNC_KERNEL) v->kernels[v->n_kernels++] = func;
  if (v->n_kernels > 0)
    qsort(v->kernels, v->n_kernels, sizeof v->kernels[0], compare_kernels);
  for (unsigned i = 1; i < v->n_kernels; i++)
    if (compare_kernels(&v->kernels[i - 1], &v->kernels[i]) == 0)
      FAIL(v, (ir_loc_t){0}, "there are two kernels '%s'", v->kernels[i]->name);
  return MOEC_OK;
}

static moec_status_t verify_module(verifier_t *v) {
  const ir_loc_t nowhere = {0};
  unsigned n = 0;
  for (ir_func_t *func = v->module->first; func != NULL; func = func->next) {
    if (func->kind == IR_FUNC_MAIN && n > 0)
      FAIL(v, nowhere, "@%s is a second main function", func->name);
    if (++n > v->module->n_funcs ||
        (func->next == NULL && v->module->last != func))
      FAIL(v, nowhere, "the list of functions is broken");
  }
  if (n != v->module->n_funcs)
    FAIL(v, nowhere, "the list of functions is broken");
  MOEC_TRY(collect_kernels(v));
  if (v->module->level == IR_LEVEL_TENSOR && (n != 1 || v->n_kernels != 0))
    FAIL(v, nowhere,
         "%u functions at the tensor level, expected one main function", n);
  for (ir_func_t *func = v->module->first; func != NULL; func = func->next)
    MOEC_TRY(verify_func(v, func));
  return MOEC_OK;
}

moec_status_t ir_verify_as(ir_module_t *module, moec_status_t status,
                           bool types, diag_sink_t *diag) {
  arena_t *scratch = arena_create(0);
  if (scratch == NULL) moec_leave(MOEC_E_NO_MEMORY, "no memory to verify");
  recovery_t point;
  moec_status_t result;
  recovery_enter(&point);
  verifier_t *volatile v = NULL;
  if (setjmp(point.jump) == 0) {
    v = ARENA_NEW(scratch, verifier_t);
    *v = (verifier_t){.scratch = scratch,
                      .module = module,
                      .shadow = *module,
                      .diag = diag,
                      .status = status,
                      .types = types};
    v->shadow.arena = scratch;
    result = verify_module(v);
    recovery_leave(&point);
    arena_destroy(scratch);
    return result;
  }
  recovery_leave(&point);
  if (v != NULL && v->inferred != NULL) /* leave nothing in scratch memory */
    memcpy(v->inferred->out, v->saved, v->inferred->n_out * sizeof v->saved[0]);
  arena_destroy(scratch);
  moec_leave(point.status, "%s", point.message);
}

moec_status_t ir_verify(ir_module_t *module, diag_sink_t *diag) {
  return ir_verify_as(module, MOEC_E_INTERNAL, true, diag);
}
