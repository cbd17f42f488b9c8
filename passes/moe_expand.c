/* Turns moe.experts and moe.combine into operations that do work for the routes
 * that there are.
 *
 * Experts without products of matrices are computed where routes are. All other
 * routes are sorted by what they need: the structure of their expert, then its
 * element of the banks; those without an expert come last. A structure whose
 * banks are used in simple ways is computed for all of its rows at once
 * (expand_grouped.c). Of any other its body is copied for each element, with
 * the slice of sorted rows that are its own, which may be none. Results go back
 * to the order of routes, or straight into moe.combine. Regions inside are
 * expanded first. */
#include "passes/expand.h"
#include "passes/pass.h"

/* Results that still lie in the order in which they were computed. */
typedef struct sorted {
  const ir_value_t *y; /* in the order of routes */
  ir_value_t *rows;    /* y's row r is row place[r] of this .. */
  ir_value_t *place;
  ir_value_t *end; /* .. if place[r] is below this (i64[1]), else 0 */
  struct sorted *next;
} sorted_t;

typedef struct expander {
  pass_ctx_t *ctx;
  ir_builder_t b;
  sorted_t *sorted;
} expander_t;

/* One moe.experts. */
typedef struct experts {
  expander_t *x;
  ir_builder_t *b;
  ir_op_t *op;
  const expr_t *n_routes;
  unsigned n_values;
  int64_t *base;   /* of each region: the group of its banks' first element */
  int64_t *length; /* of its banks; 1 where it has none; 0: nothing uses it */
  int64_t n_groups;
  unsigned n_used;       /* regions */
  ir_op_t *groups;       /* group_rows of all routes */
  ir_value_t *counts;    /* rows of each group, i64[n_groups] */
  ir_value_t **by_group; /* values of all routes as sorted */
} experts_t;

static expr_pool_t *pool_of(const ir_builder_t *b) { return b->module->exprs; }

static const expr_t *number(const ir_builder_t *b, int64_t value) {
  return expr_const(pool_of(b), value);
}

/* Elements [start, start + n) of axis 0. */
static ir_value_t *part(ir_builder_t *b, ir_value_t *x, const expr_t *start,
                        const expr_t *n) {
  return ir_slice(b, x, 0, start, n, number(b, 1));
}

static ir_value_t *i64_scalar(ir_builder_t *b, int64_t value) {
  return ir_scalar_int(b, DT_I64, value);
}

/* ---- Where routes go ----------------------------------------------------- */

static bool has_banks(const ir_op_t *op, unsigned region) {
  return ir_moe_first_bank(op, region) < ir_moe_first_bank(op, region + 1);
}

/* Numbers the groups: elements of banks that some expert is. */
static void number_groups(experts_t *e) {
  unsigned n;
  const int64_t *structure = ir_get_ints(e->op, ATTR_MOE_EXPERTS_structure, &n);
  unsigned n_regions = e->op->n_regions;
  e->base = ARENA_ARRAY(e->x->ctx->scratch, int64_t, n_regions);
  e->length = ARENA_ARRAY(e->x->ctx->scratch, int64_t, n_regions);
  for (unsigned i = 0; i < n; i++) {
    int64_t s = structure[i];
    if (s < 0) continue;
    unsigned bank = ir_moe_first_bank(e->op, (unsigned)s);
    e->length[s] = 1;
    if (!has_banks(e->op, (unsigned)s)) continue;
    bool is_known =
        expr_is_const(e->op->in[bank].value->type.dim[0], &e->length[s]);
    MOEC_ASSERT(is_known);
  }
  for (unsigned s = 0; s < n_regions; s++) {
    e->base[s] = e->n_groups;
    e->n_groups += e->length[s];
    e->n_used += e->length[s] > 0;
  }
}

/* The group of each expert; true when that is its own number. */
static bool groups_of_experts(const experts_t *e, int64_t *out_group) {
  unsigned n;
  const int64_t *structure = ir_get_ints(e->op, ATTR_MOE_EXPERTS_structure, &n);
  const int64_t *position = ir_get_ints(e->op, ATTR_MOE_EXPERTS_position, &n);
  bool same = e->n_groups == n;
  for (unsigned i = 0; i < n; i++) {
    int64_t s = structure[i];
    out_group[i] =
        s < 0 ? e->n_groups : e->base[s] + (e->length[s] > 1 ? position[i] : 0);
    same = same && out_group[i] == i;
  }
  return same;
}

/* The group of each route; n_groups, or any number outside, for none. */
static ir_value_t *find_groups(experts_t *e) {
  ir_builder_t *b = e->b;
  ir_value_t *expert = e->op->in[0].value;
  unsigned n = (unsigned)ir_get_int(e->op, ATTR_MOE_EXPERTS_experts);
  int64_t *group = ARENA_ARRAY(e->x->ctx->scratch, int64_t, n);
  if (groups_of_experts(e, group)) return expert;
  ir_value_t *zero = i64_scalar(b, 0), *end = i64_scalar(b, n);
  ir_value_t *from_zero = ir_binary(b, OP_LE, zero, expert);
  ir_value_t *below = ir_binary(b, OP_LT, expert, end);
  ir_value_t *named = ir_binary(b, OP_AND, from_zero, below);
  ir_value_t *safe = ir_select(b, named, expert, zero);
  ir_value_t *found = ir_gather(b, ir_ints(b, n, group), safe, 0);
  return ir_select(b, named, found, i64_scalar(b, e->n_groups));
}

ir_op_t *expand_group_rows(ir_builder_t *b, ir_value_t *key, int64_t groups) {
  ir_op_t *op = ir_begin(b, OP_GROUP_ROWS, 1, &key, 6);
  if (op == NULL) return NULL;
  ir_set_int(op, ATTR_GROUP_ROWS_groups, groups);
  return ir_place(b, op) != NULL ? op : NULL;
}

bool expand_describe(ir_builder_t *b, ir_op_t *groups, const expr_t *n,
                     bool has_banks, grouping_t *out) {
  *out = (grouping_t){.n = n};
  if (!has_banks) return b->status == MOEC_OK;
  if (groups == NULL) return false;
  out->group = &groups->out[2];
  out->offsets = &groups->out[3];
  out->tiles = &groups->out[4];
  out->n_tiles =
      ir_bind(b, &groups->out[5], 0, "tiles", 0, out->tiles->type.dim[0]);
  return b->status == MOEC_OK;
}

/* The token of each route, as sorted. */
static ir_value_t *tokens_of(experts_t *e, ir_value_t *order) {
  ir_value_t *token = ir_in(e->op, 1);
  if (token != NULL) return ir_gather(e->b, token, order, 0);
  const expr_t *k = ir_get_expr(e->op, ATTR_MOE_EXPERTS_k);
  if (expr_equals_const(k, 1)) return order;
  ir_value_t *divisor = ir_expr_scalar(e->b, k);
  return ir_binary(e->b, OP_DIV, order, divisor);
}

/* Values of all routes, as sorted. */
static void sort_values(experts_t *e) {
  unsigned n_token = (unsigned)ir_get_int(e->op, ATTR_MOE_EXPERTS_token_values);
  ir_value_t *order = &e->groups->out[0];
  ir_value_t *token = n_token > 0 ? tokens_of(e, order) : NULL;
  e->by_group = ARENA_ARRAY(e->x->ctx->scratch, ir_value_t *, e->n_values);
  for (unsigned i = 0; i < e->n_values; i++)
    e->by_group[i] =
        ir_gather(e->b, e->op->in[2 + i].value, i < n_token ? token : order, 0);
}

/* ---- Results ------------------------------------------------------------- */

static ir_value_t *zeros(ir_builder_t *b, const ir_type_t *type) {
  ir_value_t *zero = ir_scalar(b, type->dtype, 0);
  return ir_fill(b, zero, type->rank, type->dim);
}

/* x[i..] with ones behind, of that rank. */
static ir_value_t *with_ones(ir_builder_t *b, ir_value_t *x, unsigned rank) {
  const expr_t *dim[IR_MAX_RANK];
  if (x == NULL) return NULL;
  for (unsigned d = 0; d < rank; d++)
    dim[d] = d < x->type.rank ? x->type.dim[d] : number(b, 1);
  return ir_reshape(b, x, rank, dim);
}

/* Row place[..] of the rows, or 0 where that is not below the end. */
static ir_value_t *rows_at(ir_builder_t *b, const sorted_t *s,
                           ir_value_t *place) {
  ir_value_t *y = ir_gather(b, s->rows, place, 0);
  ir_value_t *valid = ir_binary(b, OP_LT, place, s->end);
  if (y == NULL) return NULL;
  valid = with_ones(b, valid, y->type.rank);
  ir_value_t *zero = ir_scalar(b, y->type.dtype, 0);
  return ir_select(b, valid, y, zero);
}

/* y with these rows (of routes ids) in their places. */
static ir_value_t *write_rows(ir_builder_t *b, ir_value_t *y, ir_value_t *ids,
                              ir_value_t *rows) {
  ids = with_ones(b, ids, 2);
  ir_value_t *in[] = {y, ids, rows};
  return ir_place(b, ir_begin(b, OP_SCATTER_ND, 3, in, 1));
}

/* ---- Copies for each element of banks ------------------------------------ */

static bool loops(const ir_region_t *region) {
  for (const ir_op_t *op = region->first; op != NULL; op = op->next)
    if (op->code == OP_WHILE || op->code == OP_IF) return true;
  return false;
}

/* The region's body for `n` sorted rows from `start` on, by element `at` of the
 * banks. */
static ir_value_t *copy_body(experts_t *e, unsigned region, int64_t at,
                             const expr_t *start, const expr_t *n) {
  ir_builder_t *b = e->b;
  inliner_t in;
  const ir_region_t *body = &e->op->regions[region];
  inline_begin(&in, b, e->x->ctx->scratch, body,
               ir_get_expr(e->op, ATTR_MOE_EXPERTS_rows), n);
  unsigned bank = ir_moe_first_bank(e->op, region);
  for (unsigned i = 0; i < body->n_args; i++) {
    ir_value_t *value;
    if (i < e->n_values) {
      value = part(b, e->by_group[i], start, n);
    } else {
      value = e->op->in[bank + i - e->n_values].value;
      value = part(b, value, number(b, at), number(b, 1));
      value = value != NULL ? ir_squeeze(b, value, 0) : NULL;
    }
    inline_set(&in, &body->args[i], value);
  }
  return b->status == MOEC_OK ? inline_all(&in) : NULL;
}

static void yield(ir_builder_t *b, ir_value_t *value) {
  if (b->status != MOEC_OK) return;
  ir_append(b->region, ir_op_create(b->module, OP_YIELD, b->loc, 1, &value, 0));
}

/* The same within an if: trips of loops take time also without rows. */
static ir_value_t *copy_if_rows(experts_t *e, unsigned region, int64_t at,
                                const expr_t *start, const expr_t *n) {
  ir_builder_t *b = e->b;
  const ir_builder_t outer = *b;
  ir_value_t *zero = i64_scalar(b, 0);
  ir_value_t *any = ir_binary(b, OP_LT, zero, ir_expr_scalar(b, n));
  ir_op_t *op = ir_begin(b, OP_IF, 1, &any, 1);
  if (op == NULL) return NULL;
  ir_type_t type = e->op->out[0].type;
  const expr_t **dim = ARENA_ARRAY(b->module->arena, const expr_t *, type.rank);
  for (unsigned d = 1; d < type.rank; d++) dim[d] = type.dim[d];
  dim[0] = n;
  type.dim = dim;
  ir_set_exprs(op, ATTR_IF_symbols, 0, NULL);
  ir_set_exprs(op, ATTR_IF_dims, type.rank, dim);
  ir_region_set_args(op, 0, 0, NULL);
  ir_region_set_args(op, 1, 0, NULL);
  if (outer.before != NULL)
    ir_insert_before(op, outer.before);
  else
    ir_append(outer.region, op);
  b->before = NULL;
  b->region = &op->regions[0];
  yield(b, copy_body(e, region, at, start, n));
  b->region = &op->regions[1];
  yield(b, zeros(b, &type));
  b->region = outer.region;
  b->before = outer.before;
  if (b->status == MOEC_OK) b->status = ir_infer_types(b->module, op, b->diag);
  return b->status == MOEC_OK ? &op->out[0] : NULL;
}

/* Whether some expert is element `at` of the region's banks. */
static bool is_used(const experts_t *e, unsigned region, int64_t at) {
  unsigned n;
  const int64_t *structure = ir_get_ints(e->op, ATTR_MOE_EXPERTS_structure, &n);
  const int64_t *position = ir_get_ints(e->op, ATTR_MOE_EXPERTS_position, &n);
  for (unsigned i = 0; i < n; i++)
    if (structure[i] == region && (e->length[region] == 1 || position[i] == at))
      return true;
  return false;
}

static ir_value_t *expand_copies(experts_t *e, unsigned region, ir_value_t *y) {
  ir_builder_t *b = e->b;
  ir_op_t *groups = e->groups;
  bool costs = loops(&e->op->regions[region]);
  for (int64_t at = 0; at < e->length[region]; at++) {
    int64_t group = e->base[region] + at;
    if (!is_used(e, region, at)) continue;
    b->loc = e->op->loc;
    const expr_t *start =
        ir_bind(b, &groups->out[3], group, "start", 0, e->n_routes);
    const expr_t *n = ir_bind(b, e->counts, group, "rows", 0, e->n_routes);
    if (start == NULL || n == NULL) return NULL;
    ir_value_t *rows = costs ? copy_if_rows(e, region, at, start, n)
                             : copy_body(e, region, at, start, n);
    b->loc = e->op->loc;
    ir_value_t *ids = part(b, &groups->out[0], start, n);
    y = write_rows(b, y, ids, rows);
  }
  return y;
}

/* ---- All elements of banks at once --------------------------------------- */

/* All rows of `groups`, which are routes `order`, block by block; NULL where
 * that is not worth it. */
static ir_value_t *expand_blocks(experts_t *e, unsigned region, ir_op_t *groups,
                                 ir_value_t *order, int64_t n_groups) {
  ir_builder_t *b = e->b;
  arena_t *scratch = e->x->ctx->scratch;
  if (!grouped_convolves(e->op, region, scratch)) return NULL;
  unsigned n_token = (unsigned)ir_get_int(e->op, ATTR_MOE_EXPERTS_token_values);
  ir_value_t *token = n_token > 0 ? tokens_of(e, order) : NULL;
  ir_value_t **value = ARENA_ARRAY(scratch, ir_value_t *, e->n_values);
  ir_value_t **row = ARENA_ARRAY(scratch, ir_value_t *, e->n_values);
  for (unsigned i = 0; i < e->n_values; i++) {
    value[i] = e->op->in[2 + i].value;
    row[i] = i < n_token ? token : order;
  }
  ir_value_t *end = part(b, &groups->out[3], number(b, n_groups), number(b, 1));
  if (b->status != MOEC_OK) return NULL;
  const blocked_t of = {.scratch = scratch,
                        .experts = e->op,
                        .region = region,
                        .n = order->type.dim[0],
                        .group = &groups->out[2],
                        .end = end,
                        .n_groups = n_groups,
                        .n_values = e->n_values,
                        .value = value,
                        .row = row};
  return blocks_fit(&of) ? blocks_build(b, &of) : NULL;
}

/* The only structure: all routes, those without an expert among them. */
static ir_value_t *expand_only(experts_t *e, unsigned region) {
  ir_builder_t *b = e->b;
  ir_op_t *groups = e->groups;
  grouping_t g;
  if (!expand_describe(b, groups, e->n_routes, has_banks(e->op, region), &g))
    return NULL;
  sorted_t *s = ARENA_NEW(e->x->ctx->scratch, sorted_t);
  s->rows = expand_blocks(e, region, groups, &groups->out[0], e->n_groups);
  if (s->rows == NULL && b->status == MOEC_OK)
    s->rows =
        grouped_build(b, e->x->ctx->scratch, e->op, region, e->by_group, &g);
  b->loc = e->op->loc;
  s->place = &groups->out[1];
  s->end = part(b, &groups->out[3], number(b, e->n_groups), number(b, 1));
  ir_value_t *y = rows_at(b, s, s->place);
  s->y = y;
  s->next = e->x->sorted;
  e->x->sorted = s;
  return y;
}

/* Token values for each route, in their order. */
static ir_value_t *by_route(experts_t *e, ir_value_t *x) {
  ir_builder_t *b = e->b;
  if (ir_in(e->op, 1) != NULL) return ir_gather(b, x, ir_in(e->op, 1), 0);
  const expr_t *k = ir_get_expr(e->op, ATTR_MOE_EXPERTS_k);
  if (expr_equals_const(k, 1)) return x;
  const expr_t *dim[IR_MAX_RANK + 1] = {x->type.dim[0], k};
  unsigned rank = x->type.rank;
  for (unsigned d = 1; d < rank; d++) dim[d + 1] = x->type.dim[d];
  if (rank == IR_MAX_RANK || expr_mul(pool_of(b), dim[0], k) != e->n_routes)
    return ir_gather(b, x, tokens_of(e, ir_iota(b, DT_I64, e->n_routes)), 0);
  x = ir_expand(b, ir_unsqueeze(b, x, 1), rank + 1, dim);
  dim[1] = e->n_routes;
  return ir_reshape(b, x, rank, dim + 1);
}

/* The only structure, which has no use for neighbours of the same group. */
static ir_value_t *expand_in_place(experts_t *e, unsigned region) {
  ir_builder_t *b = e->b;
  unsigned n_token = (unsigned)ir_get_int(e->op, ATTR_MOE_EXPERTS_token_values);
  ir_value_t *group = find_groups(e);
  ir_value_t *zero = i64_scalar(b, 0), *end = i64_scalar(b, e->n_groups);
  ir_value_t *from_zero = ir_binary(b, OP_LE, zero, group);
  ir_value_t *below = ir_binary(b, OP_LT, group, end);
  ir_value_t *named = ir_binary(b, OP_AND, from_zero, below);
  const grouping_t g = {.n = e->n_routes,
                        .group = ir_select(b, named, group, zero)};
  e->by_group = ARENA_ARRAY(e->x->ctx->scratch, ir_value_t *, e->n_values);
  for (unsigned i = 0; i < e->n_values; i++) {
    ir_value_t *x = e->op->in[2 + i].value;
    e->by_group[i] = i < n_token ? by_route(e, x) : x;
  }
  if (b->status != MOEC_OK) return NULL;
  ir_value_t *y =
      grouped_build(b, e->x->ctx->scratch, e->op, region, e->by_group, &g);
  b->loc = e->op->loc;
  if (y == NULL) return NULL;
  named = with_ones(b, named, y->type.rank);
  return ir_select(b, named, y, ir_scalar(b, y->type.dtype, 0));
}

/* One of several: a run of sorted rows, grouped anew by its own elements. */
static ir_value_t *expand_one_of(experts_t *e, unsigned region, ir_value_t *y) {
  ir_builder_t *b = e->b;
  int64_t first = e->base[region], length = e->length[region];
  ir_value_t *offsets = &e->groups->out[3];
  const expr_t *one = number(b, 1);
  ir_value_t *from = part(b, offsets, number(b, first), one);
  ir_value_t *to = part(b, offsets, number(b, first + length), one);
  ir_value_t *count = ir_binary(b, OP_SUB, to, from);
  const expr_t *start = ir_bind(b, offsets, first, "start", 0, e->n_routes);
  const expr_t *n = ir_bind(b, count, 0, "rows", 0, e->n_routes);
  if (start == NULL || n == NULL) return NULL;
  bool banks = has_banks(e->op, region);
  ir_op_t *groups = NULL;
  if (banks) {
    ir_value_t *key = part(b, &e->groups->out[2], start, n);
    key = ir_binary(b, OP_SUB, key, i64_scalar(b, first));
    groups = expand_group_rows(b, key, length);
  }
  grouping_t g;
  if (!expand_describe(b, groups, n, banks, &g)) return NULL;
  ir_value_t **rows =
      ARENA_ARRAY(e->x->ctx->scratch, ir_value_t *, e->n_values);
  for (unsigned i = 0; i < e->n_values; i++)
    rows[i] = part(b, e->by_group[i], start, n);
  ir_value_t *ids = part(b, &e->groups->out[0], start, n);
  ir_value_t *part_of_y =
      banks ? expand_blocks(e, region, groups, ids, length) : NULL;
  if (part_of_y != NULL)
    part_of_y = part(b, part_of_y, number(b, 0), n);
  else if (b->status == MOEC_OK)
    part_of_y = grouped_build(b, e->x->ctx->scratch, e->op, region, rows, &g);
  b->loc = e->op->loc;
  return write_rows(b, y, ids, part_of_y);
}

/* ---- Experts ------------------------------------------------------------- */

static ir_value_t *expand_regions(experts_t *e) {
  ir_builder_t *b = e->b;
  arena_t *scratch = e->x->ctx->scratch;
  ir_value_t *y = NULL;
  for (unsigned s = 0; s < e->op->n_regions; s++) {
    if (e->length[s] == 0) continue;
    bool grouped = grouped_fits(e->op, s, scratch);
    if (grouped && e->n_used == 1) return expand_only(e, s);
    if (y == NULL) y = zeros(b, &e->op->out[0].type);
    y = grouped ? expand_one_of(e, s, y) : expand_copies(e, s, y);
    if (y == NULL) return NULL;
  }
  return y != NULL ? y : zeros(b, &e->op->out[0].type);
}

static void check_routes(ir_builder_t *b, const ir_op_t *op, ir_attr_id_t k,
                         ir_attr_id_t tokens, const expr_t *n_routes) {
  if (!ir_has_attr(op, k)) return;
  const expr_t *expected =
      expr_mul(pool_of(b), ir_get_expr(op, tokens), ir_get_expr(op, k));
  ir_check_equal(b, n_routes, expected, "routes of tokens");
}

/* The only region that any expert is; -1 if there are more. */
static int only_region(const experts_t *e) {
  int only = -1;
  for (unsigned s = 0; s < e->op->n_regions; s++)
    if (e->length[s] > 0) only = (int)s;
  return e->n_used == 1 ? only : -1;
}

static bool is_in_place(const experts_t *e, int region) {
  arena_t *scratch = e->x->ctx->scratch;
  return region >= 0 && grouped_fits(e->op, (unsigned)region, scratch) &&
         !grouped_wants_order(e->op, (unsigned)region, scratch);
}

static ir_value_t *expand_experts(expander_t *x, ir_op_t *op) {
  ir_builder_t *b = &x->b;
  experts_t e = {.x = x, .b = b, .op = op};
  e.n_routes = op->in[0].value->type.dim[0];
  e.n_values = ir_moe_first_bank(op, 0) - 2;
  check_routes(b, op, ATTR_MOE_EXPERTS_k, ATTR_MOE_EXPERTS_tokens, e.n_routes);
  number_groups(&e);
  if (e.n_groups == 0) return zeros(b, &op->out[0].type);
  for (unsigned i = 0; i < op->n_regions; i++)
    ir_renumber_region(&op->regions[i]);
  int only = only_region(&e);
  if (is_in_place(&e, only)) return expand_in_place(&e, (unsigned)only);
  e.groups = expand_group_rows(b, find_groups(&e), e.n_groups);
  if (e.groups == NULL) return NULL;
  ir_value_t *offsets = &e.groups->out[3];
  const expr_t *n = number(b, e.n_groups);
  ir_value_t *from = part(b, offsets, number(b, 0), n);
  ir_value_t *to = part(b, offsets, number(b, 1), n);
  e.counts = ir_binary(b, OP_SUB, to, from);
  sort_values(&e);
  return b->status == MOEC_OK ? expand_regions(&e) : NULL;
}

/* ---- Combine ------------------------------------------------------------- */

static dtype_t sum_dtype(const ir_op_t *op) {
  dtype_t y = op->in[0].value->type.dtype;
  dtype_t w = ir_in(op, 1) != NULL ? ir_in(op, 1)->type.dtype : y;
  if (!dtype_is_float(y)) return y;
  return dtype_bits(y) > 32 || dtype_bits(w) > 32 ? DT_F64 : DT_F32;
}

static const sorted_t *find_sorted(const expander_t *x, const ir_value_t *y) {
  const sorted_t *s = x->sorted;
  while (s != NULL && s->y != y) s = s->next;
  return s;
}

/* y as [tokens, k, ..], straight from where experts left it if that is known.
 */
static ir_value_t *rows_by_token(expander_t *x, const ir_op_t *op,
                                 const expr_t *tokens, const expr_t *k) {
  ir_builder_t *b = &x->b;
  ir_value_t *y = op->in[0].value;
  const sorted_t *s = find_sorted(x, y);
  const expr_t *dim[IR_MAX_RANK + 1] = {tokens, k};
  if (s != NULL) return rows_at(b, s, ir_reshape(b, s->place, 2, dim));
  for (unsigned d = 1; d < y->type.rank; d++) dim[d + 1] = y->type.dim[d];
  return ir_reshape(b, y, y->type.rank + 1, dim);
}

static ir_value_t *combine_slots(expander_t *x, const ir_op_t *op,
                                 const expr_t *tokens) {
  ir_builder_t *b = &x->b;
  dtype_t sum = sum_dtype(op);
  const expr_t *k = ir_get_expr(op, ATTR_MOE_COMBINE_k);
  unsigned rank = op->in[0].value->type.rank + 1;
  ir_value_t *y = ir_cast(b, rows_by_token(x, op, tokens, k), sum);
  ir_value_t *w = ir_in(op, 1);
  if (w != NULL) {
    const expr_t *dim[] = {tokens, k};
    w = ir_cast(b, with_ones(b, ir_reshape(b, w, 2, dim), rank), sum);
    y = ir_binary(b, OP_MUL, y, w);
  }
  return ir_reduce(b, OP_REDUCE_SUM, y, 1, (const int64_t[]){1}, false);
}

static ir_value_t *combine_tokens(expander_t *x, const ir_op_t *op) {
  ir_builder_t *b = &x->b;
  dtype_t sum = sum_dtype(op);
  ir_value_t *y = ir_cast(b, op->in[0].value, sum);
  ir_value_t *w = ir_in(op, 1);
  if (w != NULL) {
    w = ir_cast(b, with_ones(b, w, y != NULL ? y->type.rank : 1), sum);
    y = ir_binary(b, OP_MUL, y, w);
  }
  ir_type_t type = op->out[0].type;
  type.dtype = sum;
  ir_value_t *zero = zeros(b, &type);
  ir_value_t *in[] = {zero, with_ones(b, ir_in(op, 2), 2), y};
  ir_op_t *add = ir_begin(b, OP_SCATTER_ND, 3, in, 1);
  if (add != NULL) ir_set_str(add, ATTR_SCATTER_ND_reduction, "add");
  return ir_place(b, add);
}

static ir_value_t *expand_combine(expander_t *x, const ir_op_t *op) {
  ir_builder_t *b = &x->b;
  const expr_t *tokens = ir_get_expr(op, ATTR_MOE_COMBINE_tokens);
  check_routes(b, op, ATTR_MOE_COMBINE_k, ATTR_MOE_COMBINE_tokens,
               op->in[0].value->type.dim[0]);
  ir_value_t *y = ir_has_attr(op, ATTR_MOE_COMBINE_k)
                      ? combine_slots(x, op, tokens)
                      : combine_tokens(x, op);
  return ir_cast(b, y, op->out[0].type.dtype);
}

/* ---- The pass ------------------------------------------------------------ */

static moec_status_t expand_op(expander_t *x, ir_op_t *op) {
  if (!pass_allow_rewrite(x->ctx, "expand-experts", op)) return MOEC_OK;
  x->b.region = op->parent;
  x->b.before = op;
  x->b.loc = op->loc;
  ir_value_t *y = op->code == OP_MOE_EXPERTS ? expand_experts(x, op)
                                             : expand_combine(x, op);
  MOEC_TRY(x->b.status);
  if (y->name == NULL) y->name = op->out[0].name;
  ir_replace_uses(&op->out[0], y);
  ir_erase(op);
  return MOEC_OK;
}

static moec_status_t expand_region(expander_t *x, ir_region_t *region) {
  for (ir_op_t *op = region->first, *next; op != NULL; op = next) {
    next = op->next;
    for (unsigned i = 0; i < op->n_regions; i++)
      MOEC_TRY(expand_region(x, &op->regions[i]));
    if (op->code == OP_MOE_EXPERTS || op->code == OP_MOE_COMBINE)
      MOEC_TRY(expand_op(x, op));
  }
  return MOEC_OK;
}

moec_status_t run_moe_expand(pass_ctx_t *ctx, ir_func_t *func) {
  expander_t x = {.ctx = ctx};
  x.b = (ir_builder_t){.module = ctx->module, .diag = ctx->diag};
  return expand_region(&x, &func->body);
}
