/* Experts of one structure computed for all rows at once: operations on rows
 * stay as they are, operations on elements of banks are done on whole banks,
 * where constants fold, and where rows meet elements of banks, a product or a
 * convolution becomes one of groups, and elementwise operations gather the
 * element for each row. So do products with few columns: panels would be mostly
 * padding. */
#include "passes/expand.h"
#include "passes/layout.h"

/* What a value of the region is. */
typedef enum {
  KIND_OTHER, /* the same for all rows and experts */
  KIND_ROWS,
  KIND_BANK, /* made of elements of banks alone */
} value_kind_t;

typedef struct grouper {
  inliner_t in; /* map: values for all rows; of KIND_BANK for whole banks */
  value_kind_t *kind; /* by number, as in the inliner's map */
  const expr_t *rows; /* in the region */
  const ir_op_t *experts;
  const grouping_t *grouping; /* NULL while looking only */
} grouper_t;

static value_kind_t kind_of(const grouper_t *g, const ir_value_t *x) {
  if (x == NULL || !inline_owns(&g->in, x)) return KIND_OTHER;
  return g->kind[x->number - g->in.first];
}

static void set_kind(grouper_t *g, const ir_value_t *x, value_kind_t kind) {
  g->kind[x->number - g->in.first] = kind;
}

/* ---- What fits ----------------------------------------------------------- */

static bool mentions_rows(const grouper_t *g, const ir_op_t *op) {
  const expr_symbol_t *rows = expr_as_symbol(g->rows);
  for (unsigned i = 0; i < op->n_out; i++)
    for (unsigned d = 0; d < op->out[i].type.rank; d++)
      if (expr_mentions(op->out[i].type.dim[d], rows)) return true;
  return false;
}

/* The kinds of all operands of op and of what is in it. */
static void find_operands(const grouper_t *g, const ir_op_t *op, bool *out_rows,
                          bool *out_bank) {
  for (unsigned i = 0; i < op->n_in; i++) {
    value_kind_t kind = kind_of(g, op->in[i].value);
    *out_rows |= kind == KIND_ROWS;
    *out_bank |= kind == KIND_BANK;
  }
  for (unsigned r = 0; r < op->n_regions; r++)
    for (const ir_op_t *in = op->regions[r].first; in != NULL; in = in->next)
      find_operands(g, in, out_rows, out_bank);
}

/* Operations that can be done on whole banks, axes moved on by one. */
static bool can_lift(const grouper_t *g, const ir_op_t *op) {
  if (op->n_out != 1 || op->n_regions > 0 || mentions_rows(g, op) ||
      op->out[0].type.rank >= IR_MAX_RANK)
    return false;
  switch (op->code) {
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_UNPACK:
      return true;
    case OP_GATHER:
      return kind_of(g, op->in[0].value) == KIND_BANK &&
             kind_of(g, op->in[1].value) == KIND_OTHER;
    case OP_CONCAT:
      for (unsigned i = 0; i < op->n_in; i++)
        if (kind_of(g, op->in[i].value) != KIND_BANK) return false;
      return true;
    default:
      return ir_has_trait(op, ELEMENTWISE);
  }
}

static bool has_row_axis(const grouper_t *g, const ir_type_t *type) {
  return type->rank > 0 && type->dim[0] == g->rows;
}

static bool are_ones(const ir_type_t *type, unsigned begin, unsigned end) {
  for (unsigned d = begin; d < end; d++)
    if (!expr_equals_const(type->dim[d], 1)) return false;
  return true;
}

/* x[rows, 1.., K] * w[1.., K, N], or w[1.., N, K] * x[rows, 1.., K, 1] */
static bool is_grouped_product(const grouper_t *g, const ir_op_t *op) {
  bool turned = kind_of(g, op->in[0].value) == KIND_BANK;
  const ir_value_t *x = op->in[turned].value, *w = op->in[!turned].value;
  unsigned rank = x->type.rank;
  dtype_t dtype = x->type.dtype;
  bool multiplies = dtype == w->type.dtype &&
                    (dtype_is_float(dtype) || dtype_bits(dtype) >= 32);
  if (!multiplies || kind_of(g, x) != KIND_ROWS || kind_of(g, w) != KIND_BANK ||
      !has_row_axis(g, &x->type) || !are_ones(&w->type, 0, w->type.rank - 2))
    return false;
  if (!turned) return are_ones(&x->type, 1, rank - 1);
  return rank >= 3 && are_ones(&x->type, 1, rank - 2) &&
         are_ones(&x->type, rank - 1, rank);
}

/* Rows lie along axis 0 of the result and of all operands that have any. */
static bool meets_rows(const grouper_t *g, const ir_op_t *op) {
  const ir_type_t *out = &op->out[0].type;
  if (!has_row_axis(g, out)) return false;
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *x = op->in[i].value;
    value_kind_t kind = kind_of(g, x);
    if (kind == KIND_ROWS &&
        (x->type.rank != out->rank || !has_row_axis(g, &x->type)))
      return false;
    if (kind == KIND_BANK && x->type.rank == out->rank &&
        !expr_equals_const(x->type.dim[0], 1))
      return false;
  }
  return true;
}

/* What a bank that the region takes is. */
static ir_value_t *bank_of_arg(const grouper_t *g, const ir_value_t *arg) {
  unsigned n_values = ir_moe_first_bank(g->experts, 0) - 2, region = 0;
  while (&g->experts->regions[region] != g->in.region) region++;
  unsigned bank = ir_moe_first_bank(g->experts, region);
  return g->experts->in[bank + arg->index - n_values].value;
}

/* Whether filters are elements of a bank as they lie in memory, perhaps as 16
 * bits: those of experts without rows are not touched. */
static bool lies_as_filters(const grouper_t *g, const ir_value_t *w) {
  w = layout_without_widening((ir_value_t *)w);
  while (w->def != NULL && w->def->code == OP_RESHAPE) w = w->def->in[0].value;
  if (w->def != NULL || !inline_owns(&g->in, w)) return false;
  const ir_op_t *op = bank_of_arg(g, w)->def;
  while (op != NULL && op->code == OP_RESHAPE) op = op->in[0].value->def;
  return op == NULL || op->code == OP_CONSTANT ||
         (op->code == OP_CONCAT && layout_find_stack(&op->out[0]) == op &&
          layout_stacks_plainly(op));
}

/* Images of rows by filters of a bank. */
static bool is_grouped_convolution(const grouper_t *g, const ir_op_t *op) {
  const ir_value_t *x = op->in[0].value, *w = op->in[1].value;
  dtype_t dtype = x->type.dtype;
  bool multiplies = dtype == w->type.dtype &&
                    (dtype_is_float(dtype) || dtype_bits(dtype) >= 32);
  return multiplies && kind_of(g, x) == KIND_ROWS &&
         kind_of(g, w) == KIND_BANK && has_row_axis(g, &x->type) &&
         w->type.rank < IR_MAX_RANK &&
         (layout_is_matmul(op) || lies_as_filters(g, w));
}

static bool can_meet(const grouper_t *g, const ir_op_t *op) {
  if (op->n_out != 1 || op->n_regions > 0) return false;
  if (op->code == OP_MATMUL) return is_grouped_product(g, op);
  if (op->code == OP_CONVOLVE) return is_grouped_convolution(g, op);
  return ir_has_trait(op, ELEMENTWISE) && meets_rows(g, op);
}

/* Finds the kinds of all results; false if an operation does not fit. */
static bool classify(grouper_t *g) {
  const ir_region_t *region = g->in.region;
  unsigned n_values = ir_moe_first_bank(g->experts, 0) - 2;
  for (unsigned i = 0; i < region->n_args; i++)
    set_kind(g, &region->args[i], i < n_values ? KIND_ROWS : KIND_BANK);
  for (const ir_op_t *op = region->first; op != region->last; op = op->next) {
    bool rows = false, bank = false;
    find_operands(g, op, &rows, &bank);
    if (bank && !(rows ? can_meet(g, op) : can_lift(g, op))) return false;
    value_kind_t kind = bank && !rows                  ? KIND_BANK
                        : rows || mentions_rows(g, op) ? KIND_ROWS
                                                       : KIND_OTHER;
    for (unsigned i = 0; i < op->n_out; i++) set_kind(g, &op->out[i], kind);
  }
  return kind_of(g, region->last->in[0].value) != KIND_BANK;
}

static void start(grouper_t *g, ir_builder_t *b, arena_t *scratch,
                  const ir_op_t *experts, unsigned region, const expr_t *n) {
  *g = (grouper_t){.experts = experts};
  g->rows = ir_get_expr(experts, ATTR_MOE_EXPERTS_rows);
  inline_begin(&g->in, b, scratch, &experts->regions[region], g->rows, n);
  g->kind = ARENA_ARRAY(scratch, value_kind_t, g->in.n);
}

/* A constant, or constants that fold into one. */
static bool is_constant_bank(const ir_value_t *bank) {
  enum { MOST = 1 << 28 };
  int64_t count;
  return layout_is_constant(bank) ||
         (layout_find_stack(bank) != NULL &&
          ir_type_static_count(&bank->type, &count) &&
          count <= MOST / dtype_bits(bank->type.dtype));
}

/* layout_is_constant() of what is made of banks. */
static bool is_constant(const grouper_t *g, const ir_value_t *x) {
  if (!inline_owns(&g->in, x)) return layout_is_constant(x);
  if (x->def == NULL) return is_constant_bank(bank_of_arg(g, x));
  for (unsigned i = 0; i < x->def->n_in; i++)
    if (x->def->in[i].value != NULL && !is_constant(g, x->def->in[i].value))
      return false;
  return ir_has_trait(x->def, PURE);
}

/* layout_runs_along() of the same. */
static bool runs_along(const grouper_t *g, const ir_value_t *x, unsigned d) {
  const ir_op_t *op = x->def;
  if (op == NULL) return layout_runs_along(bank_of_arg(g, x), d + 1);
  if (op->code == OP_TRANSPOSE) {
    unsigned n;
    const int64_t *perm = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
    return runs_along(g, op->in[0].value, (unsigned)perm[d]);
  }
  return op->code == OP_CAST ? runs_along(g, op->in[0].value, d)
                             : layout_runs_along(x, d);
}

/* Whether a product of rows and a bank has few columns, as products have
 * otherwise (layout). */
static bool is_narrow(const grouper_t *g, const ir_op_t *op) {
  bool turned = kind_of(g, op->in[0].value) == KIND_BANK;
  const ir_value_t *w = op->in[!turned].value;
  unsigned n_axis = w->type.rank - (turned ? 2 : 1);
  unsigned k_axis = w->type.rank - (turned ? 1 : 2);
  int64_t columns;
  return dtype_is_float(w->type.dtype) &&
         expr_is_const(w->type.dim[n_axis], &columns) &&
         columns < LAYOUT_NARROW &&
         (runs_along(g, w, k_axis) || is_constant(g, w));
}

bool grouped_fits(const ir_op_t *experts, unsigned region, arena_t *scratch) {
  grouper_t g;
  ir_builder_t b = {.module = experts->module};
  start(&g, &b, scratch, experts, region,
        ir_get_expr(experts, ATTR_MOE_EXPERTS_rows));
  return classify(&g);
}

bool grouped_convolves(const ir_op_t *experts, unsigned region,
                       arena_t *scratch) {
  grouper_t g;
  ir_builder_t b = {.module = experts->module};
  start(&g, &b, scratch, experts, region,
        ir_get_expr(experts, ATTR_MOE_EXPERTS_rows));
  bool fits = classify(&g);
  MOEC_ASSERT(fits);
  for (const ir_op_t *op = g.in.region->first; op != NULL; op = op->next)
    if (op->code == OP_CONVOLVE && !layout_is_matmul(op) &&
        kind_of(&g, op->in[1].value) == KIND_BANK)
      return true;
  return false;
}

bool grouped_wants_order(const ir_op_t *experts, unsigned region,
                         arena_t *scratch) {
  grouper_t g;
  ir_builder_t b = {.module = experts->module};
  start(&g, &b, scratch, experts, region,
        ir_get_expr(experts, ATTR_MOE_EXPERTS_rows));
  bool fits = classify(&g);
  MOEC_ASSERT(fits);
  for (const ir_op_t *op = g.in.region->first; op != NULL; op = op->next) {
    bool rows = false, bank = false;
    find_operands(&g, op, &rows, &bank);
    if (!rows || !bank) continue;
    if (op->code == OP_CONVOLVE) return true;
    if (op->code == OP_MATMUL && !is_narrow(&g, op)) return true;
  }
  return false;
}

/* ---- Whole banks --------------------------------------------------------- */

/* A value of KIND_BANK, of all elements, with ones behind axis 0 so that its
 * elements have `rank`; or with its leading ones dropped. */
static ir_value_t *bank_of_rank(grouper_t *g, ir_value_t *x, unsigned rank) {
  const ir_type_t *type = &x->type;
  ir_value_t *whole = inline_value(&g->in, x);
  const expr_t *dim[IR_MAX_RANK];
  unsigned n = 0;
  if (whole == NULL) return NULL;
  dim[n++] = whole->type.dim[0];
  for (unsigned i = type->rank; i < rank; i++)
    dim[n++] = expr_const(g->in.b->module->exprs, 1);
  for (unsigned i = type->rank > rank ? type->rank - rank : 0; i < type->rank;
       i++)
    dim[n++] = inline_expr(&g->in, type->dim[i]);
  return ir_reshape(g->in.b, whole, n, dim);
}

/* op's attribute of sizes with one more in front. */
static void shift_exprs(const grouper_t *g, const ir_op_t *op, ir_op_t *to,
                        ir_attr_id_t id, const expr_t *front) {
  unsigned n;
  const expr_t *shifted[IR_MAX_RANK];
  const expr_t *const *e = ir_get_exprs(op, id, &n);
  shifted[0] = front;
  for (unsigned i = 0; i < n; i++) shifted[i + 1] = inline_expr(&g->in, e[i]);
  ir_set_exprs(to, id, n + 1, shifted);
}

static ir_op_t *begin_lifted(grouper_t *g, const ir_op_t *op, unsigned rank) {
  ir_value_t **in = ARENA_ARRAY(g->in.scratch, ir_value_t *, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *x = op->in[i].value;
    bool bank = kind_of(g, x) == KIND_BANK;
    unsigned own = x->type.rank;
    in[i] = bank ? bank_of_rank(g, x, own > rank ? own : rank)
                 : inline_value(&g->in, x);
  }
  return ir_begin(g->in.b, op->code, op->n_in, in, 1);
}

static void shift_axis(ir_op_t *to, const ir_op_t *op, ir_attr_id_t id,
                       unsigned rank) {
  int64_t axis = ir_get_int(op, id);
  ir_set_int(to, id, (axis < 0 ? axis + rank : axis) + 1);
}

static void shift_perm(ir_op_t *to, const ir_op_t *op) {
  unsigned n;
  int64_t perm[IR_MAX_RANK] = {0};
  const int64_t *old = ir_get_ints(op, ATTR_TRANSPOSE_perm, &n);
  for (unsigned i = 0; i < n; i++) perm[i + 1] = old[i] + 1;
  ir_set_ints(to, ATTR_TRANSPOSE_perm, n + 1, perm);
}

static void copy_attrs(ir_op_t *to, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_attrs; i++)
    to->attrs[to->n_attrs++] = op->attrs[i];
}

/* The operation on whole banks. */
static ir_value_t *lift(grouper_t *g, const ir_op_t *op) {
  expr_pool_t *pool = g->in.b->module->exprs;
  unsigned own = op->in[0].value->type.rank, rank = op->out[0].type.rank;
  bool aligned = ir_has_trait(op, ELEMENTWISE) || op->code == OP_EXPAND;
  ir_op_t *to = begin_lifted(g, op, aligned ? rank : 0);
  if (to == NULL) return NULL;
  const expr_t *n = to->in[0].value->type.dim[0], *one = expr_const(pool, 1);
  switch (op->code) {
    case OP_RESHAPE:
      shift_exprs(g, op, to, ATTR_RESHAPE_shape, n);
      break;
    case OP_EXPAND:
      shift_exprs(g, op, to, ATTR_EXPAND_shape, n);
      break;
    case OP_TRANSPOSE:
      shift_perm(to, op);
      break;
    case OP_SLICE:
      shift_exprs(g, op, to, ATTR_SLICE_start, expr_const(pool, 0));
      shift_exprs(g, op, to, ATTR_SLICE_length, n);
      shift_exprs(g, op, to, ATTR_SLICE_step, one);
      break;
    case OP_GATHER:
      shift_axis(to, op, ATTR_GATHER_axis, own);
      break;
    case OP_CONCAT:
      shift_axis(to, op, ATTR_CONCAT_axis, rank);
      break;
    default:
      copy_attrs(to, op);
  }
  return ir_place(g->in.b, to);
}

/* ---- Rows and banks ------------------------------------------------------ */

/* y[r, n] = sum over k of x[r, k] * w[group[r], k, n] */
static ir_value_t *narrow_product(grouper_t *g, ir_value_t *x, ir_value_t *w,
                                  dtype_t out) {
  ir_builder_t *b = g->in.b;
  dtype_t sum = dtype_bits(out) < 32 ? DT_F32 : out;
  w = layout_turn(b, w);
  w = ir_gather(b, w, g->grouping->group, 0);
  w = ir_cast(b, w, sum);
  x = ir_unsqueeze(b, ir_cast(b, x, sum), 1);
  ir_value_t *all = ir_binary(b, OP_MUL, x, w);
  ir_value_t *y =
      ir_reduce(b, OP_REDUCE_SUM, all, 1, (const int64_t[]){2}, false);
  return ir_cast(b, y, out);
}

static ir_value_t *wide_product(grouper_t *g, ir_value_t *x, ir_value_t *w,
                                dtype_t out) {
  ir_value_t *in[] = {x, w, g->grouping->offsets, g->grouping->tiles};
  ir_op_t *product = ir_begin(g->in.b, OP_GROUPED_MATMUL, 4, in, 1);
  if (product == NULL) return NULL;
  ir_set_expr(product, ATTR_GROUPED_MATMUL_tiles, g->grouping->n_tiles);
  if (out != x->type.dtype)
    ir_set_dtype(product, ATTR_GROUPED_MATMUL_out_dtype, out);
  return ir_place(g->in.b, product);
}

static ir_value_t *group_product(grouper_t *g, const ir_op_t *op) {
  ir_builder_t *b = g->in.b;
  const ir_type_t *out = &op->out[0].type;
  bool turned = kind_of(g, op->in[0].value) == KIND_BANK;
  ir_value_t *x = inline_value(&g->in, op->in[turned].value);
  ir_value_t *w = bank_of_rank(g, op->in[!turned].value, 2);
  if (x == NULL || w == NULL) return NULL;
  if (turned) w = ir_transpose(b, w, (const int64_t[]){0, 2, 1});
  const expr_t *dim[IR_MAX_RANK] = {x->type.dim[0],
                                    x->type.dim[x->type.rank - 1 - turned]};
  x = ir_reshape(b, x, 2, dim);
  ir_value_t *y = is_narrow(g, op) ? narrow_product(g, x, w, out->dtype)
                                   : wide_product(g, x, w, out->dtype);
  for (unsigned d = 0; d < out->rank; d++)
    dim[d] = inline_expr(&g->in, out->dim[d]);
  return ir_reshape(b, y, out->rank, dim);
}

/* One window for the whole of each image: a product of images as rows. */
static ir_value_t *whole_convolution(grouper_t *g, const ir_op_t *op) {
  ir_builder_t *b = g->in.b;
  expr_pool_t *pool = b->module->exprs;
  const ir_type_t *out = &op->out[0].type;
  ir_value_t *x = inline_value(&g->in, op->in[0].value);
  ir_value_t *w = inline_value(&g->in, op->in[1].value);
  if (x == NULL || w == NULL) return NULL;
  const expr_t *k = expr_product(pool, w->type.dim + 2, w->type.rank - 2);
  const expr_t *rows[] = {x->type.dim[0], k}, *dim[IR_MAX_RANK];
  const expr_t *filters[] = {w->type.dim[0], w->type.dim[1], k};
  x = ir_reshape(b, x, 2, rows);
  w = ir_reshape(b, w, 3, filters);
  w = ir_transpose(b, w, (const int64_t[]){0, 2, 1});
  if (x == NULL || w == NULL) return NULL;
  ir_value_t *y = wide_product(g, x, w, out->dtype);
  for (unsigned d = 0; d < out->rank; d++)
    dim[d] = inline_expr(&g->in, out->dim[d]);
  return ir_reshape(b, y, out->rank, dim);
}

static ir_value_t *group_convolution(grouper_t *g, const ir_op_t *op) {
  if (layout_is_matmul(op)) return whole_convolution(g, op);
  ir_value_t *in[] = {inline_value(&g->in, op->in[0].value),
                      inline_value(&g->in, op->in[1].value),
                      g->grouping->offsets, g->grouping->group};
  ir_op_t *to = ir_begin(g->in.b, OP_GROUPED_CONVOLVE, 4, in, 1);
  if (to == NULL) return NULL;
  for (unsigned i = 0; i < op->n_attrs; i++) {
    ir_attr_t attr = op->attrs[i];
    attr.id = ir_convolve_attr(to, attr.id);
    to->attrs[to->n_attrs++] = attr;
  }
  const ir_attr_id_t sizes[] = {ATTR_CONVOLVE_out, ATTR_CONVOLVE_pad_before};
  for (unsigned i = 0; i < 2; i++) {
    unsigned n;
    const expr_t *dim[IR_MAX_RANK];
    const expr_t *const *e = ir_get_exprs(op, sizes[i], &n);
    for (unsigned d = 0; d < n; d++) dim[d] = inline_expr(&g->in, e[d]);
    ir_set_exprs(to, ir_convolve_attr(to, sizes[i]), n, dim);
  }
  return ir_place(g->in.b, to);
}

static ir_value_t *gather_elementwise(grouper_t *g, const ir_op_t *op) {
  ir_builder_t *b = g->in.b;
  unsigned rank = op->out[0].type.rank;
  ir_value_t **in = ARENA_ARRAY(g->in.scratch, ir_value_t *, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *x = op->in[i].value;
    in[i] = inline_value(&g->in, x);
    if (kind_of(g, x) != KIND_BANK) continue;
    in[i] = bank_of_rank(g, x, rank - 1);
    in[i] = ir_gather(b, in[i], g->grouping->group, 0);
  }
  ir_op_t *to = ir_begin(b, op->code, op->n_in, in, 1);
  if (to == NULL) return NULL;
  copy_attrs(to, op);
  return ir_place(b, to);
}

static void build_op(grouper_t *g, const ir_op_t *op) {
  bool rows = false, bank = false;
  find_operands(g, op, &rows, &bank);
  if (!bank) {
    inline_op(&g->in, op);
    return;
  }
  g->in.b->loc = op->loc;
  ir_value_t *y = !rows                     ? lift(g, op)
                  : op->code == OP_MATMUL   ? group_product(g, op)
                  : op->code == OP_CONVOLVE ? group_convolution(g, op)
                                            : gather_elementwise(g, op);
  inline_set(&g->in, &op->out[0], y);
}

ir_value_t *grouped_build(ir_builder_t *b, arena_t *scratch,
                          const ir_op_t *experts, unsigned region,
                          ir_value_t *const *rows, const grouping_t *grouping) {
  grouper_t g;
  start(&g, b, scratch, experts, region, grouping->n);
  g.grouping = grouping;
  bool fits = classify(&g);
  MOEC_ASSERT(fits);
  const ir_region_t *body = g.in.region;
  unsigned n_values = ir_moe_first_bank(experts, 0) - 2;
  unsigned bank = ir_moe_first_bank(experts, region) - n_values;
  for (unsigned i = 0; i < body->n_args; i++)
    inline_set(&g.in, &body->args[i],
               i < n_values ? rows[i] : experts->in[bank + i].value);
  for (const ir_op_t *op = body->first; op != body->last; op = op->next) {
    if (b->status != MOEC_OK) return NULL;
    build_op(&g, op);
  }
  if (b->status != MOEC_OK) return NULL;
  return inline_value(&g.in, body->last->in[0].value);
}
