/* Moves costly work that is the same in every trip in front of its loop:
 * products, reductions and packed weights whose operands come from outside, and
 * what these are computed from. All else stays: within a kernel it costs less
 * than the memory for its result. Only operations that cannot fail move, as
 * there may be no trip. Inner loops first; linear in the operations of loops
 * times how deep they lie. */
#include "ir/build.h"
#include "passes/pass.h"

#define NO_NUMBER UINT32_MAX

enum { MAX_SYMBOLS = 64 };

typedef struct hoister {
  pass_ctx_t *ctx;
  bool *steady, *needed;     /* by number of a result, as is */
  ir_value_t **copy;         /* .. what stands for it in front of the loop */
  ir_op_t *loop;             /* the while at hand */
  const ir_region_t *region; /* its body */
  const expr_t *symbol[MAX_SYMBOLS]; /* sizes that the loop defines */
  unsigned n_symbols;
} hoister_t;

/* ---- What may move ------------------------------------------------------- */

static bool is_work(ir_opcode_t code) {
  switch (code) {
    case OP_MATMUL:
    case OP_PRODUCT:
    case OP_GROUPED_MATMUL:
    case OP_GROUPED_PRODUCT:
    case OP_PACK_PANELS:
    case OP_REDUCE_SUM:
    case OP_REDUCE_PROD:
    case OP_REDUCE_MAX:
    case OP_REDUCE_MIN:
      return true;
    default:
      return false;
  }
}

static bool cannot_fail(const ir_op_t *op) {
  if (!ir_has_trait(op, PURE) || op->n_out != 1 || op->n_regions > 0)
    return false;
  switch (op->code) {
    case OP_CONSTANT:
    case OP_EXPRS:
    case OP_IOTA:
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_CONCAT:
      return true;
    default:
      return is_work(op->code) || ir_has_trait(op, ELEMENTWISE);
  }
}

static bool mentions_loop(const hoister_t *h, const expr_t *e) {
  for (unsigned i = 0; i < h->n_symbols; i++)
    if (expr_mentions(e, expr_as_symbol(h->symbol[i]))) return true;
  return false;
}

static bool sizes_are_steady(const hoister_t *h, const ir_op_t *op) {
  const ir_type_t *type = &op->out[0].type;
  if (h->n_symbols == 0) return true;
  for (unsigned d = 0; d < type->rank; d++)
    if (mentions_loop(h, type->dim[d])) return false;
  for (unsigned i = 0; i < op->n_attrs; i++) {
    const ir_attr_t *attr = &op->attrs[i];
    ir_attr_kind_t kind = ir_attr_info(attr->id)->kind;
    if (kind == IR_ATTR_EXPR && mentions_loop(h, attr->v.expr)) return false;
    for (unsigned j = 0; kind == IR_ATTR_EXPRS && j < attr->n; j++)
      if (mentions_loop(h, attr->v.exprs[j])) return false;
  }
  return true;
}

static bool is_inside(const hoister_t *h, const ir_value_t *x) {
  return ir_home(x) == h->region;
}

static bool is_steady(const hoister_t *h, const ir_op_t *op) {
  if (!cannot_fail(op)) return false;
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *x = op->in[i].value;
    if (x != NULL && is_inside(h, x) &&
        (x->number == NO_NUMBER || !h->steady[x->number]))
      return false;
  }
  return sizes_are_steady(h, op);
}

/* ---- Sizes of the loop --------------------------------------------------- */

static bool add_symbols(hoister_t *h, const expr_t *const *symbols,
                        unsigned n) {
  if (n > MAX_SYMBOLS - h->n_symbols) return false;
  for (unsigned i = 0; i < n; i++) h->symbol[h->n_symbols++] = symbols[i];
  return true;
}

/* False when there are too many to look at. */
static bool find_symbols(hoister_t *h) {
  unsigned n;
  const expr_t *const *symbols = ir_get_exprs(h->loop, ATTR_WHILE_symbols, &n);
  h->n_symbols = 0;
  if (!add_symbols(h, symbols, n)) return false;
  /* All in between lies in the body, however deep. */
  const ir_op_t *end = h->region->last;
  for (const ir_op_t *op = h->region->first; op != end; op = ir_walk_next(op)) {
    const expr_t *one;
    switch (op->code) {
      case OP_BIND:
        one = ir_get_expr(op, ATTR_BIND_symbol);
        if (!add_symbols(h, &one, 1)) return false;
        break;
      case OP_NONZERO:
        one = ir_get_expr(op, ATTR_NONZERO_count);
        if (!add_symbols(h, &one, 1)) return false;
        break;
      case OP_IF:
        symbols = ir_get_exprs(op, ATTR_IF_symbols, &n);
        if (!add_symbols(h, symbols, n)) return false;
        break;
      case OP_WHILE:
        symbols = ir_get_exprs(op, ATTR_WHILE_symbols, &n);
        one = ir_get_expr(op, ATTR_WHILE_trips);
        if (!add_symbols(h, symbols, n)) return false;
        if (ir_get_int(op, ATTR_WHILE_counted) != 0 && !add_symbols(h, &one, 1))
          return false;
        break;
      default:
        break;
    }
  }
  return true;
}

/* ---- Moving -------------------------------------------------------------- */

static ir_value_t *in_front(void *user, ir_value_t *x) {
  const hoister_t *h = user;
  if (x == NULL || x->number == NO_NUMBER || h->copy[x->number] == NULL)
    return x;
  return h->copy[x->number];
}

/* Marks the work that is the same in all trips; false if there is none. */
static bool find_work(hoister_t *h) {
  bool any = false;
  for (ir_op_t *op = h->region->first; op != NULL; op = op->next) {
    if (op->n_out != 1 || op->out[0].number == NO_NUMBER) continue;
    unsigned number = op->out[0].number;
    h->steady[number] = is_steady(h, op);
    if (!h->steady[number] || !is_work(op->code) ||
        !pass_allow_rewrite(h->ctx, "hoist", op))
      continue;
    h->needed[number] = true;
    any = true;
  }
  return any;
}

static void find_operands(hoister_t *h) {
  for (const ir_op_t *op = h->region->last; op != NULL; op = op->prev) {
    if (op->n_out != 1 || op->out[0].number == NO_NUMBER ||
        !h->needed[op->out[0].number])
      continue;
    for (unsigned i = 0; i < op->n_in; i++) {
      const ir_value_t *x = op->in[i].value;
      if (x != NULL && is_inside(h, x)) h->needed[x->number] = true;
    }
  }
}

/* Work itself is used from where it is now; the copies of what it needs are for
 * it alone, and the rest of the body keeps its own. */
static moec_status_t hoist(hoister_t *h) {
  ir_builder_t b = {.module = h->ctx->module,
                    .region = h->loop->parent,
                    .before = h->loop,
                    .diag = h->ctx->diag};
  for (ir_op_t *op = h->region->first, *next; op != NULL; op = next) {
    next = op->next;
    if (op->n_out != 1 || op->out[0].number == NO_NUMBER) continue;
    unsigned number = op->out[0].number;
    if (!h->needed[number]) continue;
    h->needed[number] = false; /* of the loops around */
    b.loc = op->loc;
    ir_value_t *copy = ir_place(&b, ir_clone(h->ctx->module, op, in_front, h));
    MOEC_TRY(b.status);
    copy->number = number;
    copy->name = op->out[0].name;
    h->copy[number] = copy;
    if (!is_work(op->code)) continue;
    ir_replace_uses(&op->out[0], copy);
    ir_erase(op);
  }
  return MOEC_OK;
}

moec_status_t run_hoist(pass_ctx_t *ctx, ir_func_t *func) {
  ir_renumber(func);
  unsigned n = ir_count_values(func) + 1;
  hoister_t h = {.ctx = ctx};
  h.steady = ARENA_ARRAY(ctx->scratch, bool, n);
  h.needed = ARENA_ARRAY(ctx->scratch, bool, n);
  h.copy = ARENA_ARRAY(ctx->scratch, ir_value_t *, n);
  for (ir_op_t *op = ir_walk_last(func), *prev; op != NULL; op = prev) {
    prev = ir_walk_prev(op);
    if (op->code != OP_WHILE) continue;
    h.loop = op;
    h.region = &op->regions[0];
    if (find_symbols(&h) && find_work(&h)) {
      find_operands(&h);
      MOEC_TRY(hoist(&h));
    }
  }
  return MOEC_OK;
}
