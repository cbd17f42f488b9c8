/* Windows and convolutions. */
#include <string.h>

#include "export/put.h"

static const expr_t *number(export_t *e, int64_t value) {
  return expr_const(e->module->exprs, value);
}

/* ---- Windows ----------------------------------------------------------------
 *
 * One spatial dimension after the other is gathered by a table of positions
 * [K, O]. What lies outside is one more element behind the last one. */

typedef struct table {
  const expr_t *kernel, *out, *before, *size; /* size: of the dimension */
  int64_t stride, dilation, input_dilation;
} table_t;

/* The table as a constant; false where a size is not known. */
static bool constant_table(export_t *e, const table_t *t, og_value_t **out) {
  enum { MOST = 1 << 24 };
  int64_t kernel, n, before, size;
  if (!expr_is_const(t->kernel, &kernel) || !expr_is_const(t->out, &n) ||
      !expr_is_const(t->before, &before) || !expr_is_const(t->size, &size) ||
      kernel > MOST || n > MOST || kernel * n > MOST)
    return false;
  int64_t *index = ARENA_ARRAY(e->arena, int64_t, (size_t)(kernel * n));
  for (int64_t k = 0; k < kernel; k++)
    for (int64_t o = 0; o < n; o++) {
      int64_t at = o * t->stride + k * t->dilation - before;
      bool inside = at >= 0 && at % t->input_dilation == 0 &&
                    at / t->input_dilation < size;
      index[k * n + o] = inside ? at / t->input_dilation : size;
    }
  *out = put_tensor(e, DT_I64, 2, (int64_t[]){kernel, n}, index,
                    (uint64_t)(kernel * n) * sizeof index[0]);
  return true;
}

static og_value_t *scaled_range(export_t *e, const expr_t *n, int64_t by) {
  og_value_t *range = put_range(e, n);
  og_value_t *factor = put_scalar_int(e, DT_I64, by);
  return by == 1 ? range : put2(e, "Mul", range, factor);
}

static og_value_t *computed_table(export_t *e, const table_t *t) {
  static const int64_t column[] = {-1, 1};
  og_value_t *k = scaled_range(e, t->kernel, t->dilation);
  og_value_t *o = scaled_range(e, t->out, t->stride);
  k = put_reshape_ints(e, k, 2, column);
  og_value_t *sum = put2(e, "Add", k, o);
  og_value_t *before = put_size_scalar(e, t->before);
  og_value_t *at = put2(e, "Sub", sum, before);
  og_value_t *zero = put_scalar_int(e, DT_I64, 0);
  og_value_t *size = put_size_scalar(e, t->size);
  og_value_t *place = at;
  og_value_t *inside = put_test(e, "LessOrEqual", zero, at);
  if (t->input_dilation != 1) {
    og_value_t *by = put_scalar_int(e, DT_I64, t->input_dilation);
    og_value_t *rest = put2(e, "Mod", at, by);
    og_value_t *whole = put_test(e, "Equal", rest, zero);
    inside = put2(e, "And", inside, whole);
    place = put2(e, "Div", at, by);
  }
  og_value_t *below = put_test(e, "Less", place, size);
  inside = put2(e, "And", inside, below);
  return put_where(e, inside, place, size);
}

og_value_t *put_unfold(export_t *e, og_value_t *x, const ir_type_t *from,
                       og_value_t *fill, const windows_t *w) {
  int64_t pads[2 * IR_MAX_RANK] = {0}, perm[2 * IR_MAX_RANK] = {0, 1};
  unsigned rank = 2 + w->n;
  for (unsigned i = 0; i < w->n; i++) {
    pads[rank + 2 + i] = 1;
    perm[2 + i] = 2 + 2 * (int64_t)i;
    perm[2 + w->n + i] = 3 + 2 * (int64_t)i;
  }
  og_value_t *sizes = put_ints(e, 2 * rank, pads);
  x = put3(e, "Pad", x, sizes, fill);
  for (unsigned i = 0; i < w->n; i++) {
    og_value_t *index;
    table_t t = {w->kernel[i],        w->out[i],     w->before[i],
                 from->dim[2 + i],    w->strides[i], w->dilations[i],
                 w->input_dilation[i]};
    if (!constant_table(e, &t, &index)) index = computed_table(e, &t);
    x = put_gather(e, x, index, 2 + 2 * (int64_t)i);
  }
  return put_transpose(e, x, 2 + 2 * w->n, perm);
}

void write_unfold(export_t *e, const writer_row_t *row) {
  windows_t w;
  unsigned n;
  w.kernel = ir_get_exprs(e->op, ATTR_UNFOLD_kernel, &w.n);
  w.out = ir_get_exprs(e->op, ATTR_UNFOLD_out, &n);
  w.before = ir_get_exprs(e->op, ATTR_UNFOLD_pad_before, &n);
  w.strides = ir_get_ints(e->op, ATTR_UNFOLD_strides, &n);
  w.dilations = ir_get_ints(e->op, ATTR_UNFOLD_dilations, &n);
  w.input_dilation = ir_get_ints(e->op, ATTR_UNFOLD_input_dilation, &n);
  og_value_t *x = in_carried(e, 0, row->types);
  og_value_t *fill = in_carried(e, 1, row->types);
  give(e, 0, put_unfold(e, x, in_type(e, 0), fill, &w));
}

/* ---- Convolutions -------------------------------------------------------- */

typedef struct conv {
  windows_t w;
  og_value_t *x, *filters;
  const expr_t *size[IR_MAX_RANK]; /* spatial ones of x */
  const expr_t *const *filter_dim; /* of one image */
  const expr_t *depth;             /* of integers: of a window as a column */
  unsigned rank;                   /* of what an image becomes */
  const expr_t *image[IR_MAX_RANK];
  int64_t groups, pads[2 * IR_MAX_RANK];
  multiply_fn *multiply;
} conv_t;

/* Zeros between the elements, and behind the last one. */
static void dilate_input(export_t *e, conv_t *c) {
  const ir_type_t *type = in_type(e, 0);
  expr_pool_t *pool = e->module->exprs;
  const expr_t *parts[2 * IR_MAX_RANK], *whole[IR_MAX_RANK];
  int64_t pads[4 * IR_MAX_RANK] = {0};
  unsigned n = c->w.n, rank = 2 + 2 * n;
  bool dilates = false;
  memcpy(parts, type->dim, 2 * sizeof parts[0]);
  memcpy(whole, type->dim, 2 * sizeof whole[0]);
  for (unsigned i = 0; i < n; i++) {
    const int64_t by = c->w.input_dilation[i];
    parts[2 + 2 * i] = type->dim[2 + i];
    parts[3 + 2 * i] = number(e, 1);
    pads[rank + 3 + 2 * i] = by - 1;
    c->size[i] = expr_mul(pool, type->dim[2 + i], number(e, by));
    whole[2 + i] = c->size[i];
    dilates |= by != 1;
  }
  if (!dilates) return;
  og_value_t *x = put_reshape(e, c->x, type, rank, parts);
  og_value_t *sizes = put_ints(e, 2 * rank, pads);
  x = put2(e, "Pad", x, sizes);
  c->x = put_reshape(e, x, NULL, 2 + n, whole);
}

/* Positions from the first to the last one that a window covers, and 1. */
static const expr_t *extent(export_t *e, const conv_t *c, unsigned i) {
  expr_pool_t *pool = e->module->exprs;
  const expr_t *more = expr_sub(pool, c->w.kernel[i], number(e, 1));
  return expr_add(pool, expr_mul(pool, more, number(e, c->w.dilations[i])),
                  number(e, 1));
}

/* A constant padding behind that gives as many windows as there are. */
static bool find_padding(export_t *e, const conv_t *c, unsigned i,
                         int64_t *out_before, int64_t *out_after) {
  enum { MOST = 256 };
  expr_pool_t *pool = e->module->exprs;
  const expr_t *covered = extent(e, c, i);
  int64_t least, before;
  if (!expr_is_const(covered, &least) ||
      !expr_is_const(c->w.before[i], &before) || before < 0)
    return false;
  *out_before = before;
  const expr_t *stride = number(e, c->w.strides[i]);
  for (int64_t j = -1; j < least + c->w.strides[i] && j < MOST; j++) {
    *out_after = j < 0 ? before : j; /* both alike is usual */
    const expr_t *room = expr_sub(
        pool, expr_add(pool, c->size[i], number(e, before + *out_after)),
        covered);
    const expr_t *n =
        expr_add(pool, expr_floordiv(pool, room, stride), number(e, 1));
    if (n == c->w.out[i]) return true;
  }
  return false;
}

/* Pads, or cuts, so that windows need no padding. */
static void pad_input(export_t *e, conv_t *c) {
  expr_pool_t *pool = e->module->exprs;
  const expr_t *pads[2 * IR_MAX_RANK];
  unsigned rank = 2 + c->w.n;
  for (unsigned i = 0; i < 2 * rank; i++) pads[i] = number(e, 0);
  for (unsigned i = 0; i < c->w.n; i++) {
    const expr_t *last =
        expr_mul(pool, expr_sub(pool, c->w.out[i], number(e, 1)),
                 number(e, c->w.strides[i]));
    const expr_t *end = expr_add(pool, last, extent(e, c, i));
    pads[2 + i] = c->w.before[i];
    pads[rank + 2 + i] =
        expr_sub(pool, end, expr_add(pool, c->size[i], c->w.before[i]));
  }
  og_value_t *sizes = put_sizes(e, 2 * rank, pads);
  c->x = put2(e, "Pad", c->x, sizes);
}

/* Brings x to a form that a Conv takes, and says what an image becomes. */
static void prepare_floats(export_t *e, conv_t *c) {
  const ir_type_t *out = &e->op->out[0].type;
  bool fits = true;
  c->rank = out->rank - 1;
  memcpy(c->image, out->dim + 1, c->rank * sizeof c->image[0]);
  dilate_input(e, c);
  for (unsigned i = 0; i < c->w.n && fits; i++)
    fits = find_padding(e, c, i, &c->pads[i], &c->pads[c->w.n + i]);
  if (fits) return;
  memset(c->pads, 0, sizeof c->pads);
  pad_input(e, c);
}

static og_value_t *convolve_floats(export_t *e, void *user, og_value_t *x,
                                   og_value_t *filters) {
  const conv_t *c = user;
  og_value_t *y = put2(e, "Conv", x, filters);
  set_ints(e, y, "strides", c->w.n, c->w.strides);
  set_ints(e, y, "dilations", c->w.n, c->w.dilations);
  set_ints(e, y, "pads", 2 * c->w.n, c->pads);
  set_int(e, y, "group", c->groups);
  return y;
}

/* Windows as columns of a matrix, for each group; sums run as in a Conv. */
static void prepare_integers(export_t *e, conv_t *c) {
  expr_pool_t *pool = e->module->exprs;
  const ir_type_t *x = in_type(e, 0);
  const expr_t *groups = number(e, c->groups), *places = number(e, 1);
  c->depth = c->filter_dim[1];
  for (unsigned i = 0; i < c->w.n; i++) {
    c->depth = expr_mul(pool, c->depth, c->w.kernel[i]);
    places = expr_mul(pool, places, c->w.out[i]);
  }
  og_value_t *zero = put_scalar_int(e, c->x->dtype, 0);
  og_value_t *windows = put_unfold(e, c->x, x, zero, &c->w);
  const expr_t *columns[] = {x->dim[0], groups, c->depth, places};
  c->x = put_reshape(e, windows, NULL, 4, columns);
  c->image[0] = groups;
  c->image[1] = expr_floordiv(pool, c->filter_dim[0], groups);
  c->image[2] = places;
  c->rank = 3;
}

static og_value_t *convolve_integers(export_t *e, void *user, og_value_t *x,
                                     og_value_t *filters) {
  const conv_t *c = user;
  expr_pool_t *pool = e->module->exprs;
  const expr_t *groups = number(e, c->groups);
  const expr_t *rows[] = {groups, expr_floordiv(pool, c->filter_dim[0], groups),
                          c->depth};
  filters = put_reshape(e, filters, NULL, 3, rows);
  return put2(e, "MatMul", filters, x);
}

static void describe(export_t *e, const writer_row_t *row, conv_t *c) {
  const ir_op_t *op = e->op;
  unsigned n;
  dtype_t out = op->out[0].type.dtype;
#define ATTR_OF(name) ir_convolve_attr(op, ATTR_CONVOLVE_##name)
  c->groups = ir_get_int(op, ATTR_OF(groups));
  c->w.out = ir_get_exprs(op, ATTR_OF(out), &c->w.n);
  c->w.before = ir_get_exprs(op, ATTR_OF(pad_before), &n);
  c->w.strides = ir_get_ints(op, ATTR_OF(strides), &n);
  c->w.dilations = ir_get_ints(op, ATTR_OF(dilations), &n);
  c->w.input_dilation = ir_get_ints(op, ATTR_OF(input_dilation), &n);
#undef ATTR_OF
  c->filter_dim = in_type(e, 1)->dim + (op->code == OP_GROUPED_CONVOLVE);
  c->w.kernel = c->filter_dim + 2;
  bool floats = dtype_is_float(out);
  dtype_t carrier =
      carrier_of(e, out, floats ? row->types : writer_row(OP_MATMUL)->types);
  c->x = put_cast(e, in_value(e, 0), carrier);
  c->filters = put_cast(e, in_value(e, 1), carrier);
  c->multiply = floats ? convolve_floats : convolve_integers;
  if (floats)
    prepare_floats(e, c);
  else
    prepare_integers(e, c);
}

static void give_images(export_t *e, og_value_t *y) {
  const ir_type_t *out = &e->op->out[0].type;
  if (!dtype_is_float(out->dtype))
    y = put_reshape(e, y, NULL, out->rank, out->dim);
  give(e, 0, y);
}

void write_convolve(export_t *e, const writer_row_t *row) {
  conv_t c = {0};
  describe(e, row, &c);
  give_images(e, c.multiply(e, &c, c.x, c.filters));
}

/* Images [offsets[g], offsets[g + 1]) of x by the filters w[g], one group after
 * the other; zeros behind the last one. */
void write_grouped_convolve(export_t *e, const writer_row_t *row) {
  enum { MOST_GROUPS = 1 << 14 }; /* each has nodes of its own */
  conv_t c = {0};
  describe(e, row, &c);
  const by_group_t each = {.x = c.x,
                           .w = c.filters,
                           .offsets = in_value(e, 2),
                           .n = count_groups(e, MOST_GROUPS),
                           .rank = c.rank,
                           .row = c.image,
                           .multiply = c.multiply,
                           .user = &c};
  give_images(e, put_by_group(e, &each));
}
