/* Walks backwards, so that erasing a user exposes its operands in one sweep,
 * and what has a size is seen before what defines that. */
#include "passes/pass.h"

static bool is_unused(const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_out; i++)
    if (op->out[i].uses != NULL) return false;
  return true;
}

/* Control flow has no effect when nothing in it has. */
static bool has_effect(const ir_op_t *op) {
  if (ir_has_trait(op, TERMINATOR)) return false;
  if (op->n_regions == 0) return !ir_has_trait(op, PURE);
  for (unsigned i = 0; i < op->n_regions; i++)
    for (ir_op_t *in = op->regions[i].first; in != NULL; in = in->next)
      if (has_effect(in)) return true;
  return false;
}

/* ---- Sizes --------------------------------------------------------------- */

enum { RECENT = 1024 }; /* expressions that need no second look */

typedef struct sizes {
  bool *used; /* by index of the symbol */
  const expr_t *recent[RECENT];
} sizes_t;

static void use_size(sizes_t *s, const expr_t *e) {
  const expr_t **slot = &s->recent[e->hash % RECENT];
  if (*slot == e) return;
  *slot = e;
  for (unsigned t = 0; t < e->n_terms; t++)
    for (unsigned i = 0; i < e->terms[t].n_atoms; i++) {
      const expr_atom_t *atom = e->terms[t].atoms[i];
      if (atom->kind != EXPR_ATOM_SYMBOL) {
        use_size(s, atom->a);
        if (atom->b != NULL) use_size(s, atom->b);
      } else if (!s->used[atom->symbol->index]) {
        s->used[atom->symbol->index] = true;
        if (atom->symbol->upper != NULL) use_size(s, atom->symbol->upper);
      }
    }
}

static void use_type(sizes_t *s, const ir_value_t *value) {
  for (unsigned d = 0; d < value->type.rank; d++)
    use_size(s, value->type.dim[d]);
  int64_t count;
  if (value->content == NULL || !ir_type_static_count(&value->type, &count))
    return;
  for (int64_t i = 0; i < count; i++)
    if (value->content[i] != NULL) use_size(s, value->content[i]);
}

static void use_sizes(sizes_t *s, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_out; i++) use_type(s, &op->out[i]);
  for (unsigned i = 0; i < op->n_regions; i++)
    for (unsigned j = 0; j < op->regions[i].n_args; j++)
      use_type(s, &op->regions[i].args[j]);
  for (unsigned i = 0; i < op->n_attrs; i++) {
    const ir_attr_t *attr = &op->attrs[i];
    ir_attr_kind_t kind = ir_attr_info(attr->id)->kind;
    if (attr->id == ATTR_BIND_symbol) continue;
    if (kind == IR_ATTR_EXPR) use_size(s, attr->v.expr);
    for (unsigned j = 0; kind == IR_ATTR_EXPRS && j < attr->n; j++)
      use_size(s, attr->v.exprs[j]);
  }
}

/* Defines a size that nothing has, and cannot fail. */
static bool is_idle_bind(const sizes_t *s, const ir_op_t *op) {
  if (op->code != OP_BIND || ir_get_int(op, ATTR_BIND_sure) == 0) return false;
  const expr_symbol_t *symbol =
      expr_as_symbol(ir_get_expr(op, ATTR_BIND_symbol));
  return symbol != NULL && !s->used[symbol->index];
}

moec_status_t run_dce(pass_ctx_t *ctx, ir_func_t *func) {
  sizes_t sizes = {0};
  sizes.used =
      ARENA_ARRAY(ctx->scratch, bool, expr_n_symbols(ctx->module->exprs));
  for (ir_op_t *op = ir_walk_last(func), *prev; op != NULL; op = prev) {
    prev = ir_walk_prev(op);
    bool idle = is_idle_bind(&sizes, op);
    if (!idle &&
        (ir_has_trait(op, TERMINATOR) || !is_unused(op) || has_effect(op)))
      use_sizes(&sizes, op);
    else if (pass_allow_rewrite(ctx, "erase-unused", op))
      ir_erase(op);
  }
  return MOEC_OK;
}
