/* Sliding windows: the planes that they lie in, their elements, and products
 * with filters whose second operand is read from the planes in place. */
#include "ir/tile.h"
#include "passes/lower.h"

/* ---- planes -------------------------------------------------------------- */

enum { BLOCK = 16 }; /* rows of a plane in one unit */

typedef struct planes {
  const ir_op_t *op;
  ir_value_t *x;
  const ir_type_t *type; /* of the result */
  unsigned n;            /* spatial dimensions */
  const int64_t *phases, *spread;
  const expr_t *const *before;
} planes_t;

static planes_t planes_of(const ir_op_t *op) {
  planes_t p = {.op = op, .x = op->in[0].value, .type = &op->out[0].type};
  p.phases = ir_get_ints(op, ATTR_PLANES_phases, &p.n);
  p.spread = ir_get_ints(op, ATTR_PLANES_input_dilation, &p.n);
  p.before = ir_get_exprs(op, ATTR_PLANES_pad_before, &p.n);
  return p;
}

/* Position in the padding-free (spread) input of element l of phase p. */
static ir_value_t *position(kernel_t *k, const planes_t *s, unsigned d,
                            ir_value_t *phase, ir_value_t *l) {
  ir_value_t *at = kernel_binary(k, OP_MUL, l, kernel_int(k, s->phases[d]));
  at = kernel_binary(k, OP_ADD, at, phase);
  return kernel_binary(k, OP_SUB, at, kernel_size(k, s->before[d]));
}

static ir_value_t *both(kernel_t *k, ir_value_t *a, ir_value_t *b) {
  return a == NULL ? b : kernel_binary(k, OP_AND, a, b);
}

/* Turns a position of the spread input into one of the input; whether there is
 * an element is added to *inside. */
static ir_value_t *unspread(kernel_t *k, const planes_t *s, unsigned d,
                            ir_value_t *at, ir_value_t **inside) {
  if (s->spread[d] == 1) return at;
  ir_value_t *step = kernel_int(k, s->spread[d]);
  ir_value_t *rest = kernel_binary(k, OP_FMOD, at, step);
  ir_value_t *hits = kernel_binary(k, OP_EQ, rest, kernel_int(k, 0));
  *inside = both(k, *inside, hits);
  return kernel_binary(k, OP_DIV, at, step);
}

/* Size of dimension d of the spread input. */
static const expr_t *spread_size(expr_pool_t *pool, const planes_t *s,
                                 unsigned d) {
  const expr_t *size = s->x->type.dim[2 + d], *one = expr_const(pool, 1);
  if (s->spread[d] == 1) return size;
  size =
      expr_mul(pool, expr_sub(pool, size, one), expr_const(pool, s->spread[d]));
  return expr_max(pool, expr_const(pool, 0), expr_add(pool, size, one));
}

/* min(max(ceil((end + before - phase) / phases), 0), length) for the last
 * dimension: elements of a line with positions below `end`. */
static ir_value_t *below(kernel_t *k, const planes_t *s, const expr_t *end,
                         ir_value_t *phase, ir_value_t *length) {
  unsigned d = s->n - 1;
  const expr_t *reach = expr_add(k->module->exprs, end, s->before[d]);
  ir_value_t *at = kernel_binary(k, OP_SUB, kernel_size(k, reach), phase);
  at = kernel_binary(k, OP_MAX, at, kernel_int(k, 0));
  at = kernel_binary(k, OP_ADD, at, kernel_int(k, s->phases[d] - 1));
  at = kernel_binary(k, OP_DIV, at, kernel_int(k, s->phases[d]));
  return kernel_binary(k, OP_MIN, at, length);
}

static void fill_line(kernel_t *k, const planes_t *s, ir_value_t *begin,
                      ir_value_t *end, ir_value_t **idx) {
  unsigned last = s->type->rank - 1;
  idx[last] = kernel_for(k, begin, end, true);
  ir_value_t *fill = lower_elem(k, s->op->in[1].value, NULL);
  kernel_store(k, kernel_result(k, 0), lower_linear(k, s->type, idx), fill,
               NULL);
  kernel_close(k);
}

/* Elements [begin, end) of a line, where the input has one in every place that
 * is hit. `inside`: that of the whole line, also of those loads that do not
 * depend on the place in it. */
static void copy_line(kernel_t *k, const planes_t *s, ir_value_t *begin,
                      ir_value_t *end, ir_value_t *inside, ir_value_t **at,
                      ir_value_t **idx) {
  unsigned last = s->type->rank - 1, d = s->n - 1;
  bool stored = s->x->def == NULL || !s->x->def->fused;
  if (stored && !expr_equals_const(s->x->type.dim[2 + d], 1)) inside = NULL;
  idx[last] = kernel_for(k, begin, end, true);
  at[2 + d] = position(k, s, d, idx[2 + d], idx[last]);
  at[2 + d] = unspread(k, s, d, at[2 + d], &inside);
  ir_value_t *scalar;
  if (inside == NULL) {
    scalar = lower_elem(k, s->x, at);
  } else {
    scalar = lower_elem_masked(k, s->x, at, inside);
    scalar = kernel_select(k, inside, scalar,
                           lower_elem(k, s->op->in[1].value, NULL));
  }
  kernel_store(k, kernel_result(k, 0), lower_linear(k, s->type, idx), scalar,
               NULL);
  kernel_close(k);
}

/* One line of a plane: what lies in front of the input, in it, behind it. */
static void emit_line(kernel_t *k, const planes_t *s, ir_value_t **idx) {
  expr_pool_t *pool = k->module->exprs;
  unsigned last = s->type->rank - 1, d_last = s->n - 1;
  ir_value_t *at[IR_MAX_RANK] = {idx[0], idx[1]}, *inside = NULL;
  ir_value_t *zero = kernel_int(k, 0);
  for (unsigned d = 0; d < d_last; d++) {
    ir_value_t *q = position(k, s, d, idx[2 + d], idx[2 + s->n + d]);
    ir_value_t *from_zero = kernel_binary(k, OP_LE, zero, q);
    ir_value_t *end = kernel_size(k, spread_size(pool, s, d));
    ir_value_t *before_end = kernel_binary(k, OP_LT, q, end);
    inside = both(k, inside, from_zero);
    inside = both(k, inside, before_end);
    at[2 + d] = unspread(k, s, d, q, &inside);
  }
  if (inside == NULL) inside = kernel_binary(k, OP_LE, zero, zero);
  ir_value_t *length = kernel_size(k, s->type->dim[last]);
  ir_value_t *phase = idx[2 + d_last];
  ir_value_t *first = below(k, s, expr_const(pool, 0), phase, length);
  ir_value_t *end = below(k, s, spread_size(pool, s, d_last), phase, length);
  first = kernel_select(k, inside, first, length);
  end = kernel_select(k, inside, kernel_binary(k, OP_MAX, first, end), length);
  fill_line(k, s, zero, first, idx);
  copy_line(k, s, first, end, inside, at, idx);
  fill_line(k, s, end, length, idx);
}

static void root_planes(lower_t *lo, ir_op_t *op) {
  expr_pool_t *pool = lo->module->exprs;
  planes_t s = planes_of(op);
  const ir_type_t *type = s.type;
  unsigned last = type->rank - 1, row = last - 1;
  const expr_t *dim[IR_MAX_RANK], *block = expr_const(pool, BLOCK);
  for (unsigned d = 0; d < last; d++) dim[d] = type->dim[d];
  bool blocks = s.n > 1;
  if (blocks) dim[row] = expr_ceildiv(pool, dim[row], block);
  const expr_t *units = expr_product(pool, dim, last);
  const expr_t *steps = type->dim[last];
  if (blocks) steps = expr_mul(pool, steps, block);
  steps = expr_add(pool, steps, expr_const(pool, 1));

  kernel_t k;
  ir_value_t *idx[IR_MAX_RANK];
  kernel_begin(&k, lo->module, lo->table, op->loc, 1, &type->dtype);
  lower_split(&k, last, dim, kernel_parallel(&k), idx);
  for (unsigned d = 0; d < last; d++)
    if (expr_equals_const(dim[d], 1)) idx[d] = kernel_int(&k, 0);
  if (blocks) {
    ir_value_t *size = kernel_int(&k, BLOCK);
    ir_value_t *first = kernel_binary(&k, OP_MUL, idx[row], size);
    ir_value_t *end = kernel_binary(&k, OP_ADD, first, size);
    end = kernel_binary(&k, OP_MIN, end, kernel_size(&k, type->dim[row]));
    idx[row] = kernel_for(&k, first, end, false);
  }
  emit_line(&k, &s, idx);
  const expr_t *grain = expr_ceildiv(pool, expr_const(pool, 32768), steps);
  ir_op_t *launched = lower_launch(lo, &k, "planes", 1, type, units, grain);
  lower_set_stored(lo, &op->out[0], &launched->out[0]);
}

const lowering_t lowering_planes = {.root = root_planes};

/* ---- windows ------------------------------------------------------------- */

/* x[at..], with what depends on the place within a line, begin + ahead, added
 * last and `ahead`, often known, in the end. */
static ir_value_t *load_in_line(kernel_t *k, ir_value_t *x, ir_value_t **at,
                                ir_value_t *begin, ir_value_t *ahead) {
  unsigned last = x->type.rank - 1;
  at[last] = kernel_int(k, 0);
  ir_value_t *linear = lower_linear(k, &x->type, at);
  linear = kernel_binary(k, OP_ADD, linear, begin);
  linear = kernel_binary(k, OP_ADD, linear, ahead);
  return kernel_load(k, kernel_operand(k, x), linear, NULL);
}

static ir_value_t *elem_windows(kernel_t *k, const ir_op_t *op, unsigned result,
                                ir_value_t *const *idx) {
  (void)result;
  unsigned n;
  const int64_t *strides = ir_get_ints(op, ATTR_WINDOWS_strides, &n);
  const int64_t *dilations = ir_get_ints(op, ATTR_WINDOWS_dilations, &n);
  const int64_t *phases = ir_get_ints(op, ATTR_WINDOWS_phases, &n);
  ir_value_t *x = op->in[0].value;
  ir_value_t *at[IR_MAX_RANK] = {idx[0], idx[1]}, *start = NULL, *ahead = NULL;
  for (unsigned d = 0; d < n; d++) {
    ir_value_t *step = kernel_int(k, phases[d]);
    ahead = kernel_binary(k, OP_MUL, idx[2 + d], kernel_int(k, dilations[d]));
    at[2 + d] = kernel_int(k, 0);
    if (phases[d] > 1) at[2 + d] = kernel_binary(k, OP_FMOD, ahead, step);
    ahead = kernel_binary(k, OP_DIV, ahead, step);
    start = kernel_binary(k, OP_MUL, idx[2 + n + d], kernel_int(k, strides[d]));
    at[2 + n + d] = kernel_binary(k, OP_ADD, start, ahead);
  }
  bool stored = x->def == NULL || !x->def->fused;
  if (stored && !expr_equals_const(x->type.dim[x->type.rank - 1], 1))
    return load_in_line(k, x, at, start, ahead);
  return lower_elem(k, x, at);
}

/* Images and channels are where they were. */
static bool merges_windows(const ir_op_t *op, unsigned d) {
  return d == 0 && lower_merges(op->in[0].value, d);
}

const lowering_t lowering_windows = {.elem = elem_windows,
                                     .merges = merges_windows};

/* ---- window_product ------------------------------------------------------ */

typedef struct window_shape {
  const ir_op_t *op;
  view_t w;
  ir_value_t *x;  /* planes */
  unsigned n;     /* spatial dimensions */
  unsigned line;  /* the first dimension of the result that a line covers */
  unsigned outer; /* dimensions of the result that are walked as batches */
  const expr_t *groups, *M, *K, *C;
  bool grouped; /* each image has filters of its group */
  const expr_t *length, *pitch, *columns; /* of lines; of a whole product */
} window_shape_t;

static bool can_merge(const ir_op_t *op, ir_value_t *tensor, unsigned d) {
  const lowering_t *l = lowering_of(tensor->def->code);
  if (tensor == &op->out[0]) return true;
  return l->merges != NULL && l->merges(tensor->def, d);
}

/* Lines grow over the dimensions that have no elements between them. */
static void find_lines(expr_pool_t *pool, window_shape_t *s,
                       ir_value_t *tensor) {
  const ir_type_t *x = &s->x->type, *y = &s->op->out[0].type;
  s->line = y->rank - 1;
  s->length = y->dim[y->rank - 1];
  s->pitch = x->dim[x->rank - 1];
  while (s->line > 2 && s->length == s->pitch) {
    const expr_t *around = y->dim[s->line - 1];
    bool one =
        expr_equals_const(around, 1) || expr_equals_const(y->dim[s->line], 1);
    if (one || !can_merge(s->op, tensor, s->line - 1)) break;
    s->line--;
    s->length = expr_mul(pool, s->length, around);
    s->pitch = expr_mul(pool, s->pitch, x->dim[s->line + s->n]);
  }
  s->outer = s->line > 2 ? s->line - 1 : 2;
  s->columns = s->length;
  if (s->outer == s->line) return;
  const expr_t *gaps = expr_sub(pool, y->dim[s->outer], expr_const(pool, 1));
  s->columns = expr_add(pool, expr_mul(pool, gaps, s->pitch), s->length);
  int64_t least;
  if (!expr_lower_bound(s->columns, &least) || least < 0)
    s->columns = expr_max(pool, expr_const(pool, 0), s->columns);
}

static window_shape_t study(lower_t *lo, ir_value_t *tensor,
                            ir_value_t *product) {
  expr_pool_t *pool = lo->module->exprs;
  const ir_op_t *op = product->def;
  ir_value_t *w = op->in[0].value;
  window_shape_t s = {
      .op = op, .x = op->in[1].value, .n = product->type.rank - 2};
  if (!view_of(lo->module, w, &s.w))
    view_of(lo->module, lower_stored(lo, w), &s.w);
  s.grouped = op->n_in > 3;
  s.groups = w->type.dim[s.grouped];
  s.M = w->type.dim[s.grouped + 1];
  s.K = w->type.dim[s.grouped + 2];
  s.C = expr_floordiv(pool, s.x->type.dim[1], s.groups);
  find_lines(pool, &s, tensor);
  return s;
}

static ir_value_t *add_step(kernel_t *k, ir_value_t *offset, ir_value_t *idx,
                            const expr_t *stride) {
  ir_value_t *step = kernel_binary(k, OP_MUL, idx, kernel_size(k, stride));
  return kernel_binary(k, OP_ADD, offset, step);
}

/* Offset of the first window of image at[0], group at[1] and those spatial
 * indices that are walked as batches. */
static ir_value_t *windows_offset(kernel_t *k, const window_shape_t *s,
                                  ir_value_t *const *at) {
  expr_pool_t *pool = k->module->exprs;
  const ir_type_t *x = &s->x->type;
  const expr_t *stride = expr_const(pool, 1), *channel;
  ir_value_t *offset = kernel_int(k, 0);
  for (unsigned d = x->rank - 1; d >= 2; d--) {
    bool walked = d >= 2 + s->n && d - s->n < s->outer;
    if (walked) offset = add_step(k, offset, at[d - s->n], stride);
    stride = expr_mul(pool, stride, x->dim[d]);
  }
  channel = expr_mul(pool, stride, s->C);
  offset = add_step(k, offset, at[1], channel);
  return add_step(k, offset, at[0], expr_mul(pool, stride, x->dim[1]));
}

/* Where the filters of image `image` begin, and how deep they are. An image of
 * no group meets a product over nothing: zeros. */
static ir_value_t *filters_of(kernel_t *k, const window_shape_t *s,
                              ir_value_t *image, ir_value_t **out_depth) {
  ir_value_t *offset = kernel_size(k, s->w.offset);
  *out_depth = kernel_size(k, s->K);
  if (!s->grouped) return offset;
  const expr_t *groups = s->op->in[0].value->type.dim[0];
  ir_value_t *offsets = kernel_operand(k, s->op->in[3].value);
  ir_value_t *group = kernel_operand(k, s->op->in[4].value);
  ir_value_t *end = kernel_load(k, offsets, kernel_size(k, groups), NULL);
  ir_value_t *named = kernel_binary(k, OP_LT, image, end);
  *out_depth = kernel_select(k, named, *out_depth, kernel_int(k, 0));
  group = kernel_load(k, group, image, NULL);
  return add_step(k, offset, group, s->w.stride[0]);
}

ir_value_t *lower_window_product(lower_t *lo, ir_value_t *tensor,
                                 ir_value_t *product) {
  expr_pool_t *pool = lo->module->exprs;
  window_shape_t s = study(lo, tensor, product);
  dtype_t acc = lower_sum_dtype(product->type.dtype);
  const expr_t *tiles = lower_count_tiles(pool, acc, s.M, s.columns);
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < s.outer; d++) dim[d] = product->type.dim[d];
  dim[1] = s.groups;
  dim[s.outer] = tiles;
  const expr_t *units = expr_product(pool, dim, s.outer + 1);

  kernel_t k;
  ir_value_t *at[IR_MAX_RANK + 1], *idx[IR_MAX_RANK], *region[4];
  kernel_begin(&k, lo->module, lo->table, tensor->def->loc, 1,
               &tensor->type.dtype);
  lower_split(&k, s.outer + 1, dim, kernel_parallel(&k), at);
  ir_value_t *depth, *w_offset = filters_of(&k, &s, at[0], &depth);
  w_offset = add_step(&k, w_offset, at[1], s.w.stride[s.grouped]);
  const expr_t *count = ir_type_count(pool, &s.x->type);
  const expr_t *channel = expr_product(pool, s.x->type.dim + 2, 2 * s.n);
  ir_value_t *x_offset = windows_offset(&k, &s, at);
  ir_value_t *room = kernel_size(&k, count);
  room = kernel_binary(&k, OP_SUB, room, x_offset);
  ir_value_t *in[15] = {
      kernel_operand(&k, s.w.base),
      w_offset,
      kernel_size(&k, s.w.stride[s.grouped + 1]),
      kernel_size(&k, s.w.stride[s.grouped + 2]),
      kernel_operand(&k, s.x),
      x_offset,
      depth,
      at[s.outer],
      kernel_size(&k, s.M),
      kernel_size(&k, s.columns),
      kernel_operand(&k, s.op->in[2].value),
      kernel_size(&k, s.length),
      kernel_size(&k, s.pitch),
      kernel_size(&k, channel),
      room,
  };
  ir_value_t *filter = kernel_binary(&k, OP_MUL, at[1], kernel_size(&k, s.M));
  kernel_product_tile(&k, 15, in, acc, region);
  for (unsigned d = 0; d < tensor->type.rank; d++)
    idx[d] = d < s.outer ? at[d] : kernel_int(&k, 0);
  idx[1] = kernel_binary(&k, OP_ADD, filter, region[1]);
  if (s.outer < s.line) idx[s.outer] = region[2];
  idx[tensor->type.rank - 1] = region[3];
  return lower_finish_product(lo, &k, tensor, product, region[0], idx, units);
}

static void root_window_product(lower_t *lo, ir_op_t *op) {
  lower_set_stored(lo, &op->out[0],
                   lower_window_product(lo, &op->out[0], &op->out[0]));
}

const lowering_t lowering_window_product = {.root = root_window_product};
