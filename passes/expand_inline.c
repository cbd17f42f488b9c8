/* Copies of a region's operations, with other values for its arguments, another
 * size for its rows, and new symbols for sizes that are defined in it. */
#include "passes/expand.h"

/* Numbers of what a region defines itself are ascending. */
static void find_numbers(inliner_t *in) {
  unsigned least = UINT32_MAX, end = 0;
  const ir_region_t *region = in->region;
  for (unsigned i = 0; i < region->n_args; i++) {
    if (region->args[i].number < least) least = region->args[i].number;
    end = region->args[i].number + 1;
  }
  for (const ir_op_t *op = region->first; op != NULL; op = op->next)
    for (unsigned i = 0; i < op->n_out; i++) {
      if (op->out[i].number < least) least = op->out[i].number;
      end = op->out[i].number + 1;
    }
  in->first = least;
  in->n = end > least ? end - least : 0;
}

void inline_begin(inliner_t *in, ir_builder_t *b, arena_t *scratch,
                  const ir_region_t *region, const expr_t *rows,
                  const expr_t *n) {
  *in = (inliner_t){.b = b, .scratch = scratch, .region = region};
  find_numbers(in);
  in->map = ARENA_ARRAY(scratch, ir_value_t *, in->n);
  in->n_symbols = expr_n_symbols(b->module->exprs);
  in->symbols = ARENA_ARRAY(scratch, const expr_t *, in->n_symbols);
  in->symbols[expr_as_symbol(rows)->index] = n;
}

bool inline_owns(const inliner_t *in, const ir_value_t *value) {
  return ir_home(value) == in->region;
}

ir_value_t *inline_value(const inliner_t *in, ir_value_t *value) {
  if (value == NULL || !inline_owns(in, value)) return value;
  return in->map[value->number - in->first];
}

void inline_set(inliner_t *in, const ir_value_t *value, ir_value_t *by) {
  in->map[value->number - in->first] = by;
}

const expr_t *inline_expr(const inliner_t *in, const expr_t *e) {
  return expr_substitute(in->b->module->exprs, e, in->symbols);
}

/* ---- Sizes --------------------------------------------------------------- */

static const expr_t *const *inline_exprs(const inliner_t *in,
                                         const expr_t *const *e, unsigned n) {
  const expr_t **copy = ARENA_ARRAY(in->b->module->arena, const expr_t *, n);
  for (unsigned i = 0; i < n; i++) copy[i] = inline_expr(in, e[i]);
  return copy;
}

static void rename_symbol(inliner_t *in, const expr_t *e) {
  const expr_symbol_t *symbol = expr_as_symbol(e);
  const expr_t *upper = symbol->upper;
  if (upper != NULL) upper = inline_expr(in, upper);
  in->symbols[symbol->index] =
      expr_new_symbol(in->b->module->exprs, symbol->name, symbol->lower, upper);
}

static void rename_list(inliner_t *in, const ir_op_t *op, ir_attr_id_t id) {
  unsigned n;
  const expr_t *const *symbols = ir_get_exprs(op, id, &n);
  for (unsigned i = 0; i < n; i++) rename_symbol(in, symbols[i]);
}

/* A size is defined once, so that a copy defines another one. */
static void rename_symbols(inliner_t *in, const ir_op_t *op) {
  switch (op->code) {
    case OP_BIND:
      rename_symbol(in, ir_get_expr(op, ATTR_BIND_symbol));
      break;
    case OP_MOE_EXPERTS:
      rename_symbol(in, ir_get_expr(op, ATTR_MOE_EXPERTS_rows));
      break;
    case OP_IF:
      rename_list(in, op, ATTR_IF_symbols);
      break;
    case OP_WHILE:
      rename_list(in, op, ATTR_WHILE_symbols);
      if (ir_get_int(op, ATTR_WHILE_counted) != 0)
        rename_symbol(in, ir_get_expr(op, ATTR_WHILE_trips));
      break;
    default:
      break;
  }
}

static void change_attrs(const inliner_t *in, ir_op_t *op) {
  for (unsigned i = 0; i < op->n_attrs; i++) {
    ir_attr_t *attr = &op->attrs[i];
    ir_attr_kind_t kind = ir_attr_info(attr->id)->kind;
    if (kind == IR_ATTR_EXPR) attr->v.expr = inline_expr(in, attr->v.expr);
    if (kind == IR_ATTR_EXPRS)
      attr->v.exprs = inline_exprs(in, attr->v.exprs, attr->n);
  }
}

/* Sizes of a copy and of all that is in it; types within are inferred again,
 * from the inside out. */
static moec_status_t change_sizes(inliner_t *in, ir_op_t *op) {
  rename_symbols(in, op);
  change_attrs(in, op);
  for (unsigned r = 0; r < op->n_regions; r++) {
    ir_region_t *region = &op->regions[r];
    for (unsigned i = 0; i < region->n_args; i++) {
      ir_type_t *type = &region->args[i].type;
      if (type->rank > 0) type->dim = inline_exprs(in, type->dim, type->rank);
    }
    for (ir_op_t *inner = region->first; inner != NULL; inner = inner->next) {
      MOEC_TRY(change_sizes(in, inner));
      MOEC_TRY(ir_infer_types(in->b->module, inner, in->b->diag));
    }
  }
  return MOEC_OK;
}

moec_status_t inline_sizes(inliner_t *in, ir_op_t *copy, const expr_t *rows,
                           const expr_t *n) {
  in->n_symbols = expr_n_symbols(in->b->module->exprs);
  in->symbols = ARENA_ARRAY(in->scratch, const expr_t *, in->n_symbols);
  in->symbols[expr_as_symbol(rows)->index] = n;
  return change_sizes(in, copy);
}

/* ---- Operations ---------------------------------------------------------- */

static ir_value_t *map_value(void *user, ir_value_t *value) {
  return inline_value(user, value);
}

void inline_op(inliner_t *in, const ir_op_t *op) {
  ir_builder_t *b = in->b;
  if (b->status != MOEC_OK) return;
  b->loc = op->loc;
  ir_op_t *copy = ir_clone(b->module, op, map_value, in);
  b->status = change_sizes(in, copy);
  if (b->status != MOEC_OK) return;
  ir_place(b, copy);
  for (unsigned i = 0; i < op->n_out; i++)
    inline_set(in, &op->out[i], &copy->out[i]);
}

ir_value_t *inline_all(inliner_t *in) {
  const ir_op_t *yield = in->region->last;
  for (const ir_op_t *op = in->region->first; op != yield; op = op->next)
    inline_op(in, op);
  if (in->b->status != MOEC_OK) return NULL;
  return inline_value(in, yield->in[0].value);
}
