/* Chooses how windows are read: in place where they all lie within the input
 * and side by side, else from planes of it; and how convolutions are computed.
 */
#include <string.h>

#include "passes/layout.h"

/* Attributes of unfold and convolve. */
typedef struct geometry {
  unsigned n; /* spatial dimensions */
  const expr_t *kernel[IR_MAX_RANK];
  const expr_t *const *out, *const *before;
  const int64_t *strides, *dilations, *spread;
} geometry_t;

/* Where windows are read: x[N, C, P.., L..], element o of a window's row lies
 * stride[d] behind the one before. */
typedef struct source {
  ir_value_t *planes;
  int64_t phases[IR_MAX_RANK], strides[IR_MAX_RANK];
} source_t;

/* How far the last element of a window lies from its first: (k - 1) * dilation,
 * 0 for an empty one. */
static const expr_t *reach(expr_pool_t *pool, const geometry_t *g, unsigned d) {
  const expr_t *one = expr_const(pool, 1), *k = g->kernel[d];
  int64_t least;
  if (!expr_lower_bound(k, &least) || least < 1) k = expr_max(pool, one, k);
  return expr_mul(pool, expr_sub(pool, k, one),
                  expr_const(pool, g->dilations[d]));
}

/* Whether every window lies within x. */
static bool fits(expr_pool_t *pool, const geometry_t *g, const ir_value_t *x) {
  const expr_t *one = expr_const(pool, 1);
  for (unsigned d = 0; d < g->n; d++) {
    if (g->spread[d] != 1 || !expr_equals_const(g->before[d], 0)) return false;
    const expr_t *last = expr_mul(pool, expr_sub(pool, g->out[d], one),
                                  expr_const(pool, g->strides[d]));
    const expr_t *end =
        expr_add(pool, expr_add(pool, last, reach(pool, g, d)), one);
    int64_t room;
    if (!expr_lower_bound(expr_sub(pool, x->type.dim[2 + d], end), &room) ||
        room < 0)
      return false;
  }
  return true;
}

static bool has_strides(const geometry_t *g) {
  for (unsigned d = 0; d < g->n; d++)
    if (g->strides[d] != 1) return true;
  return false;
}

/* Phases [0, n) that windows take elements from. */
static int64_t used_phases(const geometry_t *g, unsigned d) {
  int64_t s = g->strides[d], n = s, used = 1;
  int64_t bound;
  if (expr_upper_bound(g->kernel[d], &bound) && bound < n) n = bound;
  for (int64_t k = 0; k < n && used < s; k++) {
    int64_t phase = k * (g->dilations[d] % s) % s;
    if (phase >= used) used = phase + 1;
  }
  return used;
}

static ir_value_t *make_planes(ir_builder_t *b, ir_value_t *x, ir_value_t *fill,
                               const geometry_t *g) {
  expr_pool_t *pool = b->module->exprs;
  ir_value_t *in[] = {x, fill};
  const expr_t *length[IR_MAX_RANK];
  int64_t used[IR_MAX_RANK];
  for (unsigned d = 0; d < g->n; d++) {
    const expr_t *s = expr_const(pool, g->strides[d]);
    length[d] =
        expr_add(pool, g->out[d], expr_floordiv(pool, reach(pool, g, d), s));
    used[d] = used_phases(g, d);
  }
  ir_op_t *op = ir_begin(b, OP_PLANES, 2, in, 1);
  if (op == NULL) return NULL;
  ir_set_ints(op, ATTR_PLANES_phases, g->n, g->strides);
  ir_set_ints(op, ATTR_PLANES_used, g->n, used);
  ir_set_exprs(op, ATTR_PLANES_length, g->n, length);
  ir_set_exprs(op, ATTR_PLANES_pad_before, g->n, g->before);
  ir_set_ints(op, ATTR_PLANES_input_dilation, g->n, g->spread);
  return ir_place(b, op);
}

/* in_place: strides may stay in the walk over x itself. */
static source_t choose_source(ir_builder_t *b, ir_value_t *x, ir_value_t *fill,
                              const geometry_t *g, bool in_place) {
  source_t s = {0};
  bool direct = (in_place || !has_strides(g)) && fits(b->module->exprs, g, x);
  for (unsigned d = 0; d < g->n; d++) {
    s.phases[d] = direct ? 1 : g->strides[d];
    s.strides[d] = direct ? g->strides[d] : 1;
  }
  if (!direct) {
    s.planes = make_planes(b, x, fill, g);
    return s;
  }
  const expr_t *dim[IR_MAX_RANK] = {x->type.dim[0], x->type.dim[1]};
  for (unsigned d = 0; d < g->n; d++) {
    dim[2 + d] = expr_const(b->module->exprs, 1);
    dim[2 + g->n + d] = x->type.dim[2 + d];
  }
  s.planes = ir_reshape(b, x, 2 + 2 * g->n, dim);
  return s;
}

/* Windows of x as unfold has them. */
static ir_value_t *windows(ir_builder_t *b, ir_value_t *x, ir_value_t *fill,
                           const geometry_t *g) {
  source_t s = choose_source(b, x, fill, g, true);
  ir_op_t *op = ir_begin(b, OP_WINDOWS, 1, &s.planes, 1);
  if (op == NULL) return NULL;
  ir_set_exprs(op, ATTR_WINDOWS_kernel, g->n, g->kernel);
  ir_set_exprs(op, ATTR_WINDOWS_out, g->n, g->out);
  ir_set_ints(op, ATTR_WINDOWS_strides, g->n, s.strides);
  ir_set_ints(op, ATTR_WINDOWS_dilations, g->n, g->dilations);
  ir_set_ints(op, ATTR_WINDOWS_phases, g->n, s.phases);
  return ir_place(b, op);
}

ir_value_t *layout_unfold(ir_builder_t *b, const ir_op_t *op) {
  geometry_t g = {0};
  const expr_t *const *kernel = ir_get_exprs(op, ATTR_UNFOLD_kernel, &g.n);
  memcpy(g.kernel, kernel, g.n * sizeof *kernel);
  g.out = ir_get_exprs(op, ATTR_UNFOLD_out, &g.n);
  g.before = ir_get_exprs(op, ATTR_UNFOLD_pad_before, &g.n);
  g.strides = ir_get_ints(op, ATTR_UNFOLD_strides, &g.n);
  g.dilations = ir_get_ints(op, ATTR_UNFOLD_dilations, &g.n);
  g.spread = ir_get_ints(op, ATTR_UNFOLD_input_dilation, &g.n);
  return windows(b, op->in[0].value, op->in[1].value, &g);
}

/* Dimensions of the filters of one image. */
static const expr_t *const *filter_dims(const ir_op_t *op) {
  return op->in[1].value->type.dim + (op->code == OP_GROUPED_CONVOLVE);
}

static geometry_t geometry_of(const ir_op_t *op) {
  geometry_t g = {0};
  g.out = ir_get_exprs(op, ir_convolve_attr(op, ATTR_CONVOLVE_out), &g.n);
  memcpy(g.kernel, filter_dims(op) + 2, g.n * sizeof g.kernel[0]);
  g.before =
      ir_get_exprs(op, ir_convolve_attr(op, ATTR_CONVOLVE_pad_before), &g.n);
  g.strides =
      ir_get_ints(op, ir_convolve_attr(op, ATTR_CONVOLVE_strides), &g.n);
  g.dilations =
      ir_get_ints(op, ir_convolve_attr(op, ATTR_CONVOLVE_dilations), &g.n);
  g.spread =
      ir_get_ints(op, ir_convolve_attr(op, ATTR_CONVOLVE_input_dilation), &g.n);
  return g;
}

static int64_t groups_of(const ir_op_t *op) {
  return ir_get_int(op, ir_convolve_attr(op, ATTR_CONVOLVE_groups));
}

/* ---- One window for the whole input -------------------------------------- */

static bool is_whole(const geometry_t *g, const ir_value_t *x) {
  for (unsigned d = 0; d < g->n; d++) {
    bool dense = g->dilations[d] == 1 || expr_equals_const(g->kernel[d], 1);
    if (!dense || g->spread[d] != 1 || !expr_equals_const(g->before[d], 0) ||
        !expr_equals_const(g->out[d], 1) || g->kernel[d] != x->type.dim[2 + d])
      return false;
  }
  return true;
}

bool layout_is_matmul(const ir_op_t *convolve) {
  geometry_t g = geometry_of(convolve);
  return groups_of(convolve) == 1 && is_whole(&g, convolve->in[0].value);
}

/* A matmul of images as rows, for one group. */
static ir_value_t *by_matmul(ir_builder_t *b, const ir_op_t *op) {
  static const int64_t to_columns[] = {1, 0};
  expr_pool_t *pool = b->module->exprs;
  ir_value_t *x = op->in[0].value, *w = op->in[1].value;
  const ir_type_t *type = &op->out[0].type;
  const expr_t *k = expr_product(pool, w->type.dim + 1, w->type.rank - 1);
  const expr_t *rows[] = {x->type.dim[0], k};
  const expr_t *filters[] = {w->type.dim[0], k};
  x = ir_reshape(b, x, 2, rows);
  w = ir_transpose(b, ir_reshape(b, w, 2, filters), to_columns);
  ir_value_t *in[] = {x, w};
  ir_op_t *product = ir_begin(b, OP_MATMUL, 2, in, 1);
  if (product == NULL) return NULL;
  if (type->dtype != x->type.dtype)
    ir_set_dtype(product, ATTR_MATMUL_out_dtype, type->dtype);
  return ir_reshape(b, ir_place(b, product), type->rank, type->dim);
}

/* ---- One filter for each channel ----------------------------------------- */

/* Filters of constants of their own are stacked in the weights. */
static ir_value_t *stacked(ir_builder_t *b, ir_value_t *w) {
  const ir_op_t *stack = w->def;
  while (stack != NULL && stack->code == OP_RESHAPE)
    stack = stack->in[0].value->def;
  if (stack == NULL || stack != layout_find_stack(w) ||
      !layout_stacks_plainly(stack))
    return w;
  ir_value_t **in = ARENA_ARRAY(b->module->arena, ir_value_t *, stack->n_in);
  for (unsigned i = 0; i < stack->n_in; i++)
    in[i] = layout_part_of_stack(b, w, i);
  return ir_place(b, ir_begin(b, OP_CONSTANT_STACK, stack->n_in, in, 1));
}

static ir_value_t *by_reduction(ir_builder_t *b, const ir_op_t *op,
                                const geometry_t *g) {
  ir_value_t *x = op->in[0].value, *w = op->in[1].value;
  dtype_t out = op->out[0].type.dtype;
  dtype_t sum = dtype_is_float(out) && dtype_bits(out) < 32 ? DT_F32 : out;
  const expr_t *one = expr_const(b->module->exprs, 1), *dim[IR_MAX_RANK];
  int64_t axes[IR_MAX_RANK];
  bool grouped = op->code == OP_GROUPED_CONVOLVE;
  if (grouped)
    w = ir_gather(b, stacked(b, layout_without_widening(w)), op->in[3].value,
                  0);
  if (w == NULL) return NULL;
  dim[0] = grouped ? w->type.dim[0] : one;
  dim[1] = filter_dims(op)[0];
  for (unsigned d = 0; d < g->n; d++) {
    dim[2 + d] = g->kernel[d];
    dim[2 + g->n + d] = one;
    axes[d] = 2 + d;
  }
  x = ir_cast(b, x, sum);
  x = windows(b, x, ir_scalar(b, sum, 0), g);
  w = ir_reshape(b, ir_cast(b, w, sum), 2 + 2 * g->n, dim);
  ir_value_t *product = ir_binary(b, OP_MUL, x, w);
  ir_value_t *y = ir_reduce(b, OP_REDUCE_SUM, product, g->n, axes, false);
  return ir_cast(b, y, out);
}

/* ---- Products of filters and windows ------------------------------------- */

/* i * step for i in [0, n), along dimension d of rank. */
static ir_value_t *steps(ir_builder_t *b, ir_value_t *i, unsigned d,
                         unsigned rank, const expr_t *step) {
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned j = 0; j < rank; j++)
    dim[j] = j == d ? i->type.dim[0] : expr_const(b->module->exprs, 1);
  ir_value_t *scaled = ir_binary(b, OP_MUL, i, ir_expr_scalar(b, step));
  return ir_reshape(b, scaled, rank, dim);
}

/* Offsets of the elements of the first window of a group's first channel, by
 * (c, k..): i64[K]. */
static ir_value_t *window_offsets(ir_builder_t *b, const geometry_t *g,
                                  const source_t *s, const expr_t *channels) {
  expr_pool_t *pool = b->module->exprs;
  const ir_type_t *x = &s->planes->type;
  const expr_t *stride[IR_MAX_RANK], *step = expr_const(pool, 1);
  for (unsigned d = x->rank; d-- > 0;) {
    stride[d] = step;
    step = expr_mul(pool, step, x->dim[d]);
  }
  ir_value_t *sum =
      steps(b, ir_iota(b, DT_I64, channels), 0, 1 + g->n, stride[1]);
  const expr_t *count = channels;
  for (unsigned d = 0; d < g->n; d++) {
    ir_value_t *k = ir_iota(b, DT_I64, g->kernel[d]);
    k = ir_binary(b, OP_MUL, k, ir_scalar_int(b, DT_I64, g->dilations[d]));
    if (s->phases[d] > 1) {
      ir_value_t *phases = ir_scalar_int(b, DT_I64, s->phases[d]);
      ir_value_t *phase = ir_binary(b, OP_FMOD, k, phases);
      phase = steps(b, phase, 1 + d, 1 + g->n, stride[2 + d]);
      sum = ir_binary(b, OP_ADD, sum, phase);
      k = ir_binary(b, OP_DIV, k, phases);
    }
    k = steps(b, k, 1 + d, 1 + g->n, stride[2 + g->n + d]);
    sum = ir_binary(b, OP_ADD, sum, k);
    count = expr_mul(pool, count, g->kernel[d]);
  }
  return ir_reshape(b, sum, 1, &count);
}

static ir_value_t *by_products(ir_builder_t *b, const ir_op_t *op,
                               const geometry_t *g) {
  expr_pool_t *pool = b->module->exprs;
  ir_value_t *x = op->in[0].value, *w = op->in[1].value;
  const expr_t *const *w_dim = filter_dims(op), *dim[4];
  const expr_t *groups = expr_const(pool, groups_of(op)), *channels = w_dim[1];
  bool grouped = op->code == OP_GROUPED_CONVOLVE;
  dim[0] = w->type.dim[0];
  dim[grouped] = groups;
  dim[grouped + 1] = expr_floordiv(pool, w_dim[0], groups);
  dim[grouped + 2] = expr_product(pool, w_dim + 1, g->n + 1);
  source_t s = choose_source(b, x, ir_scalar(b, x->type.dtype, 0), g, false);
  if (s.planes == NULL) return NULL;
  w = ir_reshape(b, layout_without_widening(w), 3 + grouped, dim);
  ir_value_t *offsets = window_offsets(b, g, &s, channels);
  if (w == NULL) return NULL;
  ir_value_t *in[5] = {stacked(b, w), s.planes, offsets};
  if (grouped) {
    in[3] = op->in[2].value;
    in[4] = op->in[3].value;
  }
  ir_op_t *product = ir_begin(b, OP_WINDOW_PRODUCT, grouped ? 5 : 3, in, 1);
  if (product == NULL) return NULL;
  ir_set_exprs(product, ATTR_WINDOW_PRODUCT_out, g->n, g->out);
  ir_set_dtype(product, ATTR_WINDOW_PRODUCT_out_dtype, op->out[0].type.dtype);
  return ir_place(b, product);
}

ir_value_t *layout_convolve(ir_builder_t *b, const ir_op_t *op) {
  geometry_t g = geometry_of(op);
  const expr_t *const *w_dim = filter_dims(op);
  int64_t groups = groups_of(op);
  if (op->code == OP_CONVOLVE && layout_is_matmul(op)) return by_matmul(b, op);
  bool one_each =
      expr_equals_const(w_dim[0], groups) && expr_equals_const(w_dim[1], 1);
  ir_value_t *y = one_each ? by_reduction(b, op, &g) : by_products(b, op, &g);
  /* Channels in groups may be written otherwise: equal where the run goes on.
   */
  const ir_type_t *type = &op->out[0].type;
  return ir_reshape(b, y, type->rank, type->dim);
}
