/* If and while with regions. */
#include "frontend/region.h"

#include "frontend/sequence.h"

/* ---- Slots as values ----------------------------------------------------- */

static unsigned n_values_of(const slot_t *slot) {
  if (slot->kind == SLOT_LIST) return slot->list->n;
  return (slot->value != NULL) + (slot->dims != NULL) + (slot->has != NULL);
}

bool ctx_flatten(convert_ctx_t *ctx, unsigned n, const slot_t *slots,
                 unsigned *out_n, ir_value_t ***out_values) {
  unsigned total = 0, at = 0;
  for (unsigned i = 0; i < n; i++) {
    if (slots[i].kind == SLOT_FAILED) {
      if (ctx->status == MOEC_OK) ctx->status = MOEC_E_INVALID_MODEL;
      return false;
    }
    total += n_values_of(&slots[i]);
  }
  ir_value_t **values = ARENA_ARRAY(ctx->arena, ir_value_t *, total + 1);
  for (unsigned i = 0; i < n; i++) {
    const slot_t *slot = &slots[i];
    if (slot->value != NULL) values[at++] = slot->value;
    if (slot->dims != NULL) values[at++] = slot->dims;
    if (slot->has != NULL) values[at++] = slot->has;
    for (unsigned j = 0; slot->kind == SLOT_LIST && j < slot->list->n; j++)
      values[at++] = slot->list->value[j];
  }
  *out_n = total;
  *out_values = values;
  return true;
}

void ctx_unflatten(convert_ctx_t *ctx, unsigned n, const slot_t *like,
                   ir_value_t *const *values, slot_t *out) {
  unsigned at = 0;
  for (unsigned i = 0; i < n; i++) {
    out[i] = like[i];
    if (like[i].value != NULL) out[i].value = values[at++];
    if (like[i].dims != NULL) out[i].dims = values[at++];
    if (like[i].has != NULL) out[i].has = values[at++];
    if (like[i].kind != SLOT_LIST) continue;
    slot_list_t *list = ARENA_NEW(ctx->arena, slot_list_t);
    *list = *like[i].list;
    list->value = values + at;
    at += list->n;
    out[i].list = list;
  }
}

bool ctx_same_structure(unsigned n, const slot_t *a, const slot_t *b) {
  for (unsigned i = 0; i < n; i++)
    if (a[i].kind != b[i].kind || n_values_of(&a[i]) != n_values_of(&b[i]) ||
        (a[i].dims == NULL) != (b[i].dims == NULL))
      return false;
  return true;
}

/* ---- Symbols ------------------------------------------------------------- */

/* Sizes that an operation defines, and what gives them their values. */
typedef struct sizes {
  arena_t *arena;
  unsigned n, capacity;
  const expr_t **symbol, **value[2];
} sizes_t;

static void add_symbol(sizes_t *s, const expr_t *symbol, const expr_t *first,
                       const expr_t *second) {
  if (s->n == s->capacity) {
    unsigned capacity = s->capacity * 2 + 8;
    const expr_t ***lists[] = {&s->symbol, &s->value[0], &s->value[1]};
    for (unsigned i = 0; i < 3; i++)
      *lists[i] = arena_grow_array(s->arena, *lists[i], s->n, capacity,
                                   sizeof(const expr_t *));
    s->capacity = capacity;
  }
  s->symbol[s->n] = symbol;
  s->value[0][s->n] = first;
  s->value[1][s->n++] = second;
}

/* Whether e mentions a symbol that was made after the first `n_before`. */
static bool is_local(const expr_pool_t *pool, const expr_t *e,
                     unsigned n_before) {
  for (unsigned i = n_before; i < expr_n_symbols(pool); i++)
    if (expr_mentions(e, expr_symbol_at(pool, i))) return true;
  return false;
}

static unsigned total_rank(unsigned n, ir_value_t *const *values) {
  unsigned rank = 0;
  for (unsigned i = 0; i < n; i++) rank += values[i]->type.rank;
  return rank;
}

/* A builder at the end of a region. */
static ir_builder_t inside(const convert_ctx_t *ctx, ir_region_t *region) {
  return (ir_builder_t){.module = ctx->b->module,
                        .region = region,
                        .loc = ctx->b->loc,
                        .diag = ctx->b->diag};
}

static void end_region(convert_ctx_t *ctx, ir_region_t *region, unsigned n,
                       ir_value_t *const *values, unsigned n_sizes,
                       const expr_t *const *sizes) {
  ir_op_t *yield =
      ir_op_create(ctx->b->module, OP_YIELD, ctx->loc, n, values, 0);
  ir_set_exprs(yield, ATTR_YIELD_sizes, n_sizes, sizes);
  ir_append(region, yield);
}

static bool all_tensors(convert_ctx_t *ctx, unsigned n,
                        ir_value_t *const *values) {
  for (unsigned i = 0; i < n; i++)
    if (values[i] == NULL) {
      if (ctx_status(ctx) == MOEC_OK) ctx->status = MOEC_E_INVALID_MODEL;
      return false;
    }
  return true;
}

/* ---- If ------------------------------------------------------------------ */

enum { SMALL_BRANCHES = 16, SMALL_TENSOR = 1024 };

/* Whether an operation can neither fail nor define sizes, and costs little. */
static bool is_harmless(const ir_op_t *op) {
  int64_t count;
  if (op->code == OP_CONSTANT) return true;
  if (!ir_has_trait(op, PURE) || op->n_regions > 0) return false;
  bool elementwise = ir_has_trait(op, ELEMENTWISE);
  switch (op->code) {
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_TRANSPOSE:
    case OP_SLICE:
    case OP_CONCAT:
    case OP_EXPRS:
      break;
    default:
      if (!elementwise) return false;
  }
  for (unsigned i = 0; i < op->n_out; i++)
    if (!ir_type_static_count(&op->out[i].type, &count) || count > SMALL_TENSOR)
      return false;
  return true;
}

static bool is_small(const ir_op_t *op) {
  unsigned n = 0;
  for (unsigned r = 0; r < op->n_regions; r++)
    for (const ir_op_t *in = op->regions[r].first; in != NULL; in = in->next) {
      if (!is_harmless(in)) return false;
      n += in->code != OP_CONSTANT;
    }
  return n <= SMALL_BRANCHES;
}

static bool same_types(unsigned n, ir_value_t *const *x, ir_value_t *const *y) {
  int64_t count;
  for (unsigned i = 0; i < n; i++)
    if (!ir_type_equal(&x[i]->type, &y[i]->type) ||
        !ir_type_static_count(&x[i]->type, &count) || count > SMALL_TENSOR)
      return false;
  return true;
}

/* Both branches in the place of the if. */
static void select_values(convert_ctx_t *ctx, ir_op_t *op, unsigned n,
                          ir_value_t *const *then, ir_value_t *const *other,
                          ir_value_t **out) {
  ir_value_t *condition = op->in[0].value;
  if (ctx->b->before != NULL)
    ir_insert_before(op, ctx->b->before);
  else
    ir_append(ctx->b->region, op);
  for (unsigned r = 0; r < 2; r++)
    while (op->regions[r].first != NULL)
      ir_move_before(op->regions[r].first, op);
  for (unsigned i = 0; i < n; i++)
    out[i] = then[i] == other[i]
                 ? then[i]
                 : ir_select(ctx->b, condition, then[i], other[i]);
  ir_erase(op);
}

static const char *one_and_other(convert_ctx_t *ctx, unsigned i,
                                 const ir_value_t *x, const ir_value_t *y) {
  return arena_printf(ctx->arena,
                      "output %u is %s in one branch and %s in the other", i,
                      ctx_type_str(ctx, x), ctx_type_str(ctx, y));
}

/* Dimensions of the results: what both branches say, or a symbol. */
static bool merge_dims(convert_ctx_t *ctx, unsigned n, ir_value_t *const *then,
                       ir_value_t *const *other, unsigned n_before,
                       sizes_t *sizes, const expr_t **dims) {
  unsigned at = 0;
  for (unsigned i = 0; i < n; i++) {
    const ir_type_t *x = &then[i]->type, *y = &other[i]->type;
    if (x->dtype != y->dtype || x->rank != y->rank) {
      ctx_unsupported(ctx, "%s", one_and_other(ctx, i, then[i], other[i]));
      return false;
    }
    for (unsigned d = 0; d < x->rank; d++) {
      bool same = expr_compare_equal(ctx->exprs, x->dim[d], y->dim[d]) == 1;
      unsigned known = 0;
      while (known < sizes->n && (sizes->value[0][known] != x->dim[d] ||
                                  sizes->value[1][known] != y->dim[d]))
        known++;
      if (same && !is_local(ctx->exprs, x->dim[d], n_before)) {
        dims[at++] = x->dim[d];
        continue;
      }
      if (known == sizes->n)
        add_symbol(sizes, expr_new_symbol(ctx->exprs, "if", 0, NULL), x->dim[d],
                   y->dim[d]);
      dims[at++] = sizes->symbol[known];
    }
  }
  return true;
}

static moec_status_t build_branches(convert_ctx_t *ctx, const if_spec_t *spec,
                                    ir_op_t *op, slot_t *slots[2]) {
  ir_builder_t *outer = ctx->b;
  for (unsigned r = 0; r < 2; r++) {
    ir_builder_t inner = inside(ctx, &op->regions[r]);
    ctx->b = &inner;
    moec_status_t status = spec->branch(ctx, spec->user, r, slots[r]);
    if (status == MOEC_OK) status = ctx_status(ctx);
    ctx->b = outer;
    if (status != MOEC_OK) return status;
  }
  return MOEC_OK;
}

/* Results of one structure in both. */
static bool branches_agree(convert_ctx_t *ctx, unsigned n, ir_op_t *op,
                           slot_t *slots[2]) {
  ir_builder_t inner[2];
  for (unsigned r = 0; r < 2; r++) inner[r] = inside(ctx, &op->regions[r]);
  for (unsigned i = 0; i < n; i++)
    if (slots[0][i].kind == SLOT_FAILED || slots[1][i].kind == SLOT_FAILED ||
        !slots_agree(ctx, &slots[0][i], &inner[0], &slots[1][i], &inner[1])) {
      if (ctx->status == MOEC_OK) ctx->status = MOEC_E_INVALID_MODEL;
      return false;
    }
  return true;
}

/* Puts the finished if where the converter builds. */
static moec_status_t place_if(convert_ctx_t *ctx, ir_op_t *op, unsigned n,
                              ir_value_t **values[2], unsigned n_before) {
  sizes_t sizes = {.arena = ctx->arena};
  unsigned rank = total_rank(n, values[0]);
  const expr_t **dims = ARENA_ARRAY(ctx->arena, const expr_t *, rank + 1);
  if (!merge_dims(ctx, n, values[0], values[1], n_before, &sizes, dims))
    return ctx->status;
  for (unsigned r = 0; r < 2; r++)
    end_region(ctx, &op->regions[r], n, values[r], sizes.n, sizes.value[r]);
  ir_set_exprs(op, ATTR_IF_symbols, sizes.n, sizes.symbol);
  ir_set_exprs(op, ATTR_IF_dims, rank, dims);
  ir_op_set_results(op, n);
  ir_place(ctx->b, op);
  return ctx_status(ctx);
}

/* The first two that differ in rank, in words, or NULL. */
static const char *ranks_differ(convert_ctx_t *ctx, unsigned n,
                                ir_value_t *const *x, ir_value_t *const *y) {
  for (unsigned i = 0; i < n; i++)
    if (x[i]->type.dtype == y[i]->type.dtype &&
        x[i]->type.rank != y[i]->type.rank)
      return one_and_other(ctx, i, x[i], y[i]);
  return NULL;
}

moec_status_t ctx_if(convert_ctx_t *ctx, const if_spec_t *spec, slot_t *out) {
  slot_t *slots[2];
  ir_value_t **values[2], *condition = spec->condition;
  unsigned n[2], n_before = expr_n_symbols(ctx->exprs);
  ir_op_t *op = ir_op_create(ctx->b->module, OP_IF, ctx->loc, 1, &condition, 0);
  for (unsigned r = 0; r < 2; r++)
    slots[r] = ARENA_ARRAY(ctx->arena, slot_t, spec->n_out);
  moec_status_t status = build_branches(ctx, spec, op, slots);
  if (status != MOEC_OK) {
    ir_erase(op);
    return status;
  }
  if (!branches_agree(ctx, spec->n_out, op, slots)) return ctx_status(ctx);
  for (unsigned r = 0; r < 2; r++)
    if (!ctx_flatten(ctx, spec->n_out, slots[r], &n[r], &values[r]) ||
        !all_tensors(ctx, n[r], values[r]))
      return ctx_status(ctx);
  if (spec->differs != NULL) {
    *spec->differs = ranks_differ(ctx, n[0], values[0], values[1]);
    if (*spec->differs != NULL) {
      ir_erase(op);
      return MOEC_OK;
    }
  }
  ir_value_t **results = ARENA_ARRAY(ctx->arena, ir_value_t *, n[0] + 1);
  if (is_small(op) && same_types(n[0], values[0], values[1])) {
    select_values(ctx, op, n[0], values[0], values[1], results);
  } else {
    MOEC_TRY(place_if(ctx, op, n[0], values, n_before));
    for (unsigned i = 0; i < n[0]; i++) results[i] = &op->out[i];
  }
  ctx_unflatten(ctx, spec->n_out, slots[0], results, out);
  return ctx_status(ctx);
}

/* ---- While --------------------------------------------------------------- */

typedef struct trial {
  const while_spec_t *spec;
  bool **varies; /* [state][dimension] */
  ir_op_t *op;
  ir_value_t **out; /* what the body gave: more, state, rows */
  unsigned n_before;
} trial_t;

static void set_args(convert_ctx_t *ctx, trial_t *t) {
  unsigned n = t->spec->n_state;
  ir_type_t *types = ARENA_ARRAY(ctx->arena, ir_type_t, n + 1);
  types[0] = ir_scalar_type(DT_I64);
  for (unsigned i = 0; i < n; i++) {
    const ir_type_t *init = &t->spec->init[i]->type;
    const expr_t **dim = ARENA_ARRAY(ctx->arena, const expr_t *, init->rank);
    for (unsigned d = 0; d < init->rank; d++)
      dim[d] = t->varies[i][d] ? expr_new_symbol(ctx->exprs, "state", 0, NULL)
                               : init->dim[d];
    types[1 + i] = ir_tensor_type(init->dtype, init->rank, dim);
  }
  ir_region_set_args(t->op, 0, n + 1, types);
}

static bool is_true(convert_ctx_t *ctx, const ir_value_t *x) {
  bool value;
  return ctx_known_bool(ctx, x, &value) && value;
}

static moec_status_t build_trip(convert_ctx_t *ctx, trial_t *t) {
  const while_spec_t *spec = t->spec;
  arena_t *arena = ctx->arena;
  ir_value_t **in = ARENA_ARRAY(arena, ir_value_t *, spec->n_state + 2);
  in[0] = spec->limit;
  in[1] = spec->first;
  for (unsigned i = 0; i < spec->n_state; i++) in[2 + i] = spec->init[i];
  t->n_before = expr_n_symbols(ctx->exprs);
  t->op = ir_op_create(ctx->b->module, OP_WHILE, ctx->loc, spec->n_state + 2,
                       in, spec->n_state + spec->n_rows);
  set_args(ctx, t);
  ir_region_t *region = &t->op->regions[0];
  ir_value_t **state = ARENA_ARRAY(arena, ir_value_t *, spec->n_state + 1);
  for (unsigned i = 0; i < spec->n_state; i++) state[i] = &region->args[1 + i];
  unsigned n_out = 1 + spec->n_state + spec->n_rows;
  t->out = ARENA_ARRAY(arena, ir_value_t *, n_out);
  ir_builder_t *outer = ctx->b;
  ir_builder_t inner = inside(ctx, region);
  ctx->b = &inner;
  moec_status_t status =
      spec->body(ctx, spec->user, &region->args[0], state, t->out);
  if (status == MOEC_OK && t->out[0] == NULL)
    t->out[0] = is_true(ctx, spec->first) ? spec->first
                                          : ir_scalar_int(&inner, DT_BOOL, 1);
  if (status == MOEC_OK) status = ctx_status(ctx);
  if (status == MOEC_OK && !all_tensors(ctx, n_out, t->out))
    status = ctx_status(ctx);
  ctx->b = outer;
  return status;
}

/* Marks the sizes that the trip has changed; *out_again: there are new ones. */
static moec_status_t find_changes(convert_ctx_t *ctx, trial_t *t,
                                  bool *out_again) {
  *out_again = false;
  for (unsigned i = 0; i < t->spec->n_state; i++) {
    ir_value_t *arg = &t->op->regions[0].args[1 + i], *next = t->out[1 + i];
    if (arg->type.dtype != next->type.dtype)
      return ctx_invalid(ctx, "carried value %u is %s, after a trip %s", i,
                         ctx_type_str(ctx, arg), ctx_type_str(ctx, next));
    if (arg->type.rank != next->type.rank)
      return ctx_unsupported(ctx, "carried value %u is %s, after a trip %s", i,
                             ctx_type_str(ctx, arg), ctx_type_str(ctx, next));
    for (unsigned d = 0; d < arg->type.rank; d++) {
      if (t->varies[i][d] || expr_compare_equal(ctx->exprs, arg->type.dim[d],
                                                next->type.dim[d]) == 1)
        continue;
      t->varies[i][d] = true;
      *out_again = true;
    }
  }
  return MOEC_OK;
}

static void name_state_sizes(const trial_t *t, sizes_t *sizes,
                             const expr_t **dims, unsigned *at) {
  for (unsigned i = 0; i < t->spec->n_state; i++) {
    const ir_type_t *init = &t->spec->init[i]->type;
    const ir_type_t *arg = &t->op->regions[0].args[1 + i].type;
    for (unsigned d = 0; d < arg->rank; d++) {
      dims[(*at)++] = arg->dim[d];
      if (t->varies[i][d])
        add_symbol(sizes, arg->dim[d], init->dim[d],
                   t->out[1 + i]->type.dim[d]);
    }
  }
}

/* Returns how many symbols were made for sizes that only a trip can tell. */
static unsigned name_row_sizes(convert_ctx_t *ctx, const trial_t *t,
                               const expr_t *trips, sizes_t *sizes,
                               const expr_t **dims, unsigned *at) {
  unsigned n_steady = 0;
  const expr_t *zero = ctx_int(ctx, 0);
  for (unsigned i = 0; i < t->spec->n_rows; i++) {
    const ir_type_t *row = &t->out[1 + t->spec->n_state + i]->type;
    dims[(*at)++] = trips;
    for (unsigned d = 0; d < row->rank; d++) {
      const expr_t *dim = row->dim[d];
      if (is_local(ctx->exprs, dim, t->n_before)) {
        const expr_t *symbol = expr_new_symbol(ctx->exprs, "row", 0, NULL);
        add_symbol(sizes, symbol, zero, dim);
        dim = symbol;
        n_steady++;
      }
      dims[(*at)++] = dim;
    }
  }
  return n_steady;
}

static moec_status_t place_while(convert_ctx_t *ctx, trial_t *t) {
  const while_spec_t *spec = t->spec;
  unsigned n_out = spec->n_state + spec->n_rows, at = 0;
  sizes_t sizes = {.arena = ctx->arena};
  const expr_t **dims = ARENA_ARRAY(ctx->arena, const expr_t *,
                                    total_rank(n_out, t->out + 1) + n_out + 1);
  bool counted = spec->trips == NULL || !is_true(ctx, t->out[0]);
  name_state_sizes(t, &sizes, dims, &at);
  const expr_t *trips =
      counted ? expr_new_symbol(ctx->exprs, "trips", 0, NULL) : spec->trips;
  unsigned steady = name_row_sizes(ctx, t, trips, &sizes, dims, &at);
  end_region(ctx, &t->op->regions[0], 1 + n_out, t->out, sizes.n,
             sizes.value[1]);
  ir_set_exprs(t->op, ATTR_WHILE_symbols, sizes.n, sizes.symbol);
  ir_set_exprs(t->op, ATTR_WHILE_inits, sizes.n, sizes.value[0]);
  ir_set_int(t->op, ATTR_WHILE_steady, steady);
  ir_set_exprs(t->op, ATTR_WHILE_dims, at, dims);
  ir_set_expr(t->op, ATTR_WHILE_trips, trips);
  ir_set_int(t->op, ATTR_WHILE_counted, counted);
  ir_place(ctx->b, t->op);
  return ctx_status(ctx);
}

moec_status_t ctx_while(convert_ctx_t *ctx, const while_spec_t *spec,
                        ir_value_t **results) {
  trial_t t = {.spec = spec};
  if (!all_tensors(ctx, spec->n_state, spec->init)) return ctx_status(ctx);
  t.varies = ARENA_ARRAY(ctx->arena, bool *, spec->n_state);
  for (unsigned i = 0; i < spec->n_state; i++)
    t.varies[i] = ARENA_ARRAY(ctx->arena, bool, spec->init[i]->type.rank);
  for (bool again = true; again;) {
    moec_status_t status = build_trip(ctx, &t);
    if (status == MOEC_OK) status = find_changes(ctx, &t, &again);
    if (status != MOEC_OK || again) ir_erase(t.op);
    MOEC_TRY(status);
  }
  MOEC_TRY(place_while(ctx, &t));
  for (unsigned i = 0; i < spec->n_state + spec->n_rows; i++)
    results[i] = &t.op->out[i];
  return MOEC_OK;
}

/* ---- While over slots ---------------------------------------------------- */

typedef struct slot_trial {
  slot_loop_t *loop;
  ir_builder_t *outer; /* where the loop is built */
  bool again;          /* a state became another kind */
} slot_trial_t;

/* What is carried has one structure before and after a trip. */
static bool state_agrees(convert_ctx_t *ctx, slot_trial_t *t, slot_t *next) {
  for (unsigned i = 0; i < t->loop->n_state; i++) {
    slot_t *init = &t->loop->init[i], before = *init;
    if (next[i].kind == SLOT_FAILED) {
      ctx->status = MOEC_E_INVALID_MODEL;
      return false;
    }
    if (!slots_agree(ctx, init, t->outer, &next[i], ctx->b)) return false;
    t->again |= !ctx_same_structure(1, &before, init);
  }
  return !t->again;
}

static moec_status_t slot_body(convert_ctx_t *ctx, void *user, ir_value_t *trip,
                               ir_value_t *const *state, ir_value_t **out) {
  slot_trial_t *t = user;
  slot_loop_t *loop = t->loop;
  unsigned n = loop->n_state, n_out = n + loop->n_rows, n_values;
  slot_t *args = ARENA_ARRAY(ctx->arena, slot_t, n);
  slot_t *next = ARENA_ARRAY(ctx->arena, slot_t, n_out);
  ir_value_t **values;
  ctx_unflatten(ctx, n, loop->init, state, args);
  out[0] = NULL;
  MOEC_TRY(loop->body(ctx, loop->user, trip, args, &out[0], next));
  if (!state_agrees(ctx, t, next))
    return ctx->status != MOEC_OK ? ctx->status : MOEC_E_UNSUPPORTED;
  for (unsigned i = n; i < n_out; i++)
    if (next[i].kind != SLOT_TENSOR)
      return ctx_invalid(ctx, "scan output %u is not a tensor", i - n);
  if (!ctx_flatten(ctx, n_out, next, &n_values, &values))
    return ctx_status(ctx);
  for (unsigned i = 0; i < n_values; i++) out[1 + i] = values[i];
  return ctx_status(ctx);
}

moec_status_t ctx_while_slots(convert_ctx_t *ctx, slot_loop_t *loop,
                              slot_t *results) {
  slot_trial_t trial = {.loop = loop, .outer = ctx->b};
  while_spec_t spec = {.limit = loop->limit,
                       .first = loop->first,
                       .trips = loop->trips,
                       .n_rows = loop->n_rows,
                       .body = slot_body,
                       .user = &trial};
  ir_value_t **values, **init;
  moec_status_t status;
  do {
    trial.again = false;
    if (!ctx_flatten(ctx, loop->n_state, loop->init, &spec.n_state, &init))
      return ctx_status(ctx);
    spec.init = init;
    values =
        ARENA_ARRAY(ctx->arena, ir_value_t *, spec.n_state + spec.n_rows + 1);
    status = ctx_while(ctx, &spec, values);
  } while (trial.again && ctx_status(ctx) == MOEC_OK);
  MOEC_TRY(status);
  ctx_unflatten(ctx, loop->n_state, loop->init, values, results);
  for (unsigned i = 0; i < loop->n_rows; i++)
    results[loop->n_state + i] =
        (slot_t){.kind = SLOT_TENSOR, .value = values[spec.n_state + i]};
  return MOEC_OK;
}
