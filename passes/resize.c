/* Other sizes in types, contents and attributes of all operations. */
#include "passes/resize.h"

/* An attribute or a value before its sizes changed. */
typedef struct change {
  ir_attr_t *attr, old_attr;
  ir_value_t *value;
  ir_type_t type;
  const expr_t *const *content;
  struct change *before;
} change_t;

typedef struct resizer {
  pass_ctx_t *ctx;
  const resize_t *how;
  bool *changed; /* by number: values whose type or content did */
  change_t *last;
} resizer_t;

static change_t *new_change(resizer_t *s) {
  change_t *change = ARENA_NEW(s->ctx->scratch, change_t);
  change->before = s->last;
  s->last = change;
  return change;
}

static void keep_value(resizer_t *s, ir_value_t *value) {
  change_t *change = new_change(s);
  change->value = value;
  change->type = value->type;
  change->content = value->content;
}

/* Where inference refuses the new sizes the model cannot run, or not this part
 * of it; all stays as it was. */
static void undo(const resizer_t *s) {
  for (const change_t *old = s->last; old != NULL; old = old->before) {
    if (old->attr != NULL) *old->attr = old->old_attr;
    if (old->value == NULL) continue;
    old->value->type = old->type;
    old->value->content = old->content;
  }
}

/* The same list where nothing changes. */
static const expr_t *const *resize_list(resizer_t *s, const expr_t *const *e,
                                        size_t n) {
  const expr_t **copy = NULL;
  for (size_t i = 0; i < n; i++) {
    const expr_t *by = e[i] != NULL ? s->how->by(s->how->user, e[i]) : NULL;
    if (by == e[i]) continue;
    if (copy == NULL)
      copy = arena_grow_array(s->ctx->module->arena, e, n, n, sizeof *e);
    copy[i] = by;
  }
  return copy != NULL ? copy : e;
}

/* Type and content of a result or an argument. */
static bool resize_value(resizer_t *s, ir_value_t *value) {
  int64_t count;
  const expr_t *const *dim = value->type.dim, *const *content = value->content;
  dim = resize_list(s, dim, value->type.rank);
  if (content != NULL && ir_type_static_count(&value->type, &count))
    content = resize_list(s, content, (size_t)count);
  if (dim == value->type.dim && content == value->content) return false;
  keep_value(s, value);
  value->type.dim = dim;
  value->content = content;
  s->changed[value->number] = true;
  return true;
}

static void change_attr(resizer_t *s, ir_attr_t *attr, const ir_attr_t *by) {
  change_t *change = new_change(s);
  change->attr = attr;
  change->old_attr = *attr;
  *attr = *by;
}

static bool is_gone(const resizer_t *s, const ir_op_t *op, ir_attr_id_t id) {
  return s->how->is_gone != NULL &&
         s->how->is_gone(s->how->user, expr_as_symbol(ir_get_expr(op, id)));
}

/* A while whose trips are known does not count them. */
static bool stop_counting(resizer_t *s, ir_op_t *op) {
  if (op->code != OP_WHILE || ir_get_int(op, ATTR_WHILE_counted) == 0 ||
      !is_gone(s, op, ATTR_WHILE_trips))
    return false;
  for (unsigned i = 0; i < op->n_attrs; i++) {
    ir_attr_t *attr = &op->attrs[i], now = *attr;
    now.v.i = 0;
    if (attr->id == ATTR_WHILE_counted) change_attr(s, attr, &now);
  }
  return true;
}

static bool resize_attrs(resizer_t *s, ir_op_t *op) {
  bool changed = stop_counting(s, op);
  for (unsigned i = 0; i < op->n_attrs; i++) {
    ir_attr_t *attr = &op->attrs[i], now = *attr;
    ir_attr_kind_t kind = ir_attr_info(attr->id)->kind;
    if (kind == IR_ATTR_EXPR) now.v.expr = s->how->by(s->how->user, now.v.expr);
    if (kind == IR_ATTR_EXPRS) now.v.exprs = resize_list(s, now.v.exprs, now.n);
    bool same = kind == IR_ATTR_EXPR
                    ? now.v.expr == attr->v.expr
                    : kind != IR_ATTR_EXPRS || now.v.exprs == attr->v.exprs;
    if (same) continue;
    change_attr(s, attr, &now);
    changed = true;
  }
  return changed;
}

static bool has_changed_operand(const resizer_t *s, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_in; i++)
    if (op->in[i].value != NULL && s->changed[op->in[i].value->number])
      return true;
  return false;
}

static moec_status_t resize_region(resizer_t *s, ir_region_t *region,
                                   bool *out_changed);

/* The regions first, as the results' types come from what they yield. */
static moec_status_t resize_op(resizer_t *s, ir_op_t *op, bool *out_changed) {
  if (op->code == OP_BIND && is_gone(s, op, ATTR_BIND_symbol)) return MOEC_OK;
  if (s->how->keeps != NULL && s->how->keeps(s->how->user, op)) return MOEC_OK;
  bool changed = resize_attrs(s, op);
  for (unsigned i = 0; i < op->n_regions; i++)
    MOEC_TRY(resize_region(s, &op->regions[i], &changed));
  for (unsigned i = 0; i < op->n_out; i++)
    changed |= resize_value(s, &op->out[i]);
  changed |= has_changed_operand(s, op);
  *out_changed |= changed;
  if (!changed) return MOEC_OK;
  for (unsigned i = 0; i < op->n_out; i++) {
    keep_value(s, &op->out[i]);
    s->changed[op->out[i].number] = true;
  }
  return ir_infer_types(s->ctx->module, op, NULL);
}

static moec_status_t resize_region(resizer_t *s, ir_region_t *region,
                                   bool *out_changed) {
  for (unsigned i = 0; i < region->n_args; i++)
    *out_changed |= resize_value(s, &region->args[i]);
  for (ir_op_t *op = region->first; op != NULL; op = op->next)
    MOEC_TRY(resize_op(s, op, out_changed));
  return MOEC_OK;
}

bool pass_resize(pass_ctx_t *ctx, ir_func_t *func, const resize_t *how) {
  resizer_t s = {.ctx = ctx, .how = how};
  bool changed = false;
  ir_renumber(func);
  s.changed = ARENA_ARRAY(ctx->scratch, bool, ir_count_values(func));
  if (resize_region(&s, &func->body, &changed) == MOEC_OK) return true;
  undo(&s);
  return false;
}
