/* Neurons that add nothing: columns of what stands before an expert's last
 * product that are 0 for every row, or that this multiplies by rows of zeros.
 *
 * All experts of a structure have as many neurons, so each loses as many as the
 * one that needs most can do without; the order of those that stay is kept, and
 * so is, but for zeros, the sum. Banks are written anew, without them. */
#include "passes/moe_prune_neurons.h"

#include <math.h>
#include <string.h>

#include "ir/element.h"
#include "passes/layout.h"

enum { MULTIPLE = 16 };

/* ---- Where neurons are --------------------------------------------------- */

static bool last_is(const ir_value_t *v, int64_t n) {
  return v->type.rank > 0 &&
         expr_equals_const(v->type.dim[v->type.rank - 1], n);
}

static bool has_op(const neurons_t *s, const ir_op_t *op) {
  for (unsigned i = 0; i < s->n_ops; i++)
    if (s->op[i] == op) return true;
  return false;
}

/* The argument that v is, perhaps with its axes turned. */
static bool add_bank(neurons_t *s, const ir_value_t *v, unsigned axis,
                     bool wide) {
  unsigned n, n_values = prune_value_count(s->p->experts);
  if (ir_n_uses(v) != 1) return false;
  if (v->def != NULL && v->def->parent == s->body &&
      v->def->code == OP_TRANSPOSE) {
    axis = (unsigned)ir_get_ints(v->def, ATTR_TRANSPOSE_perm, &n)[axis];
    v = v->def->in[0].value;
    if (ir_n_uses(v) != 1) return false;
  }
  if (v->def != NULL || v->region != s->body || v->index < n_values ||
      s->n_leaves == NEURONS_LEAVES || !dtype_is_float(v->type.dtype) ||
      dtype_bits(v->type.dtype) < 16)
    return false;
  s->leaf[s->n_leaves++] = (leaf_t){v->index, axis, wide};
  return true;
}

static bool add_value(neurons_t *s, const ir_value_t *v, int64_t width);

static bool add_operands(neurons_t *s, const ir_op_t *op, int64_t width) {
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *x = op->in[i].value;
    if (last_is(x, width)) {
      if (!add_value(s, x, width)) return false;
    } else if (x->type.rank > 0 && !last_is(x, 1)) {
      return false;
    }
  }
  return true;
}

static bool add_slice(neurons_t *s, ir_op_t *op) {
  unsigned n, d;
  const ir_type_t *in = &op->in[0].value->type;
  const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
  unsigned at = s->n_slices;
  int64_t wide;
  for (d = 0; d + 1 < n; d++)
    if (in->dim[d] != op->out->type.dim[d]) return false;
  if (at == NEURONS_SLICES || !expr_is_const(start[d], &s->first[at]) ||
      !expr_is_const(step[d], &s->step[at]) || s->step[at] < 1 ||
      !expr_is_const(in->dim[d], &wide) || (s->wide != 0 && s->wide != wide) ||
      wide == s->F)
    return false;
  s->wide = wide;
  s->slice[s->n_slices++] = op;
  return add_value(s, op->in[0].value, wide);
}

/* v has neurons, or what slices take those from, along its last axis. */
static bool add_value(neurons_t *s, const ir_value_t *v, int64_t width) {
  ir_op_t *op = v->def;
  bool wide = width != s->F;
  if (op == NULL) return add_bank(s, v, v->type.rank - 1, wide);
  if (op->parent != s->body || !last_is(v, width)) return false;
  if (has_op(s, op)) return true;
  if (s->n_ops == NEURONS_OPS) return false;
  s->is_wide[s->n_ops] = wide;
  s->op[s->n_ops++] = op;
  if (ir_has_trait(op, ELEMENTWISE)) return add_operands(s, op, width);
  switch (op->code) {
    case OP_RESHAPE:
      return last_is(op->in[0].value, width) &&
             add_value(s, op->in[0].value, width);
    case OP_SLICE:
      return !wide && add_slice(s, op);
    case OP_MATMUL:
      return op->in[1].value->type.rank == 2 &&
             add_bank(s, op->in[1].value, 1, wide);
    default:
      return false;
  }
}

/* Nobody else sees them. */
static bool is_closed(const neurons_t *s) {
  for (unsigned i = 0; i < s->n_ops; i++)
    for (const ir_use_t *u = s->op[i]->out->uses; u != NULL; u = u->next) {
      bool inside = u->user == s->product ? u->index == 0 : has_op(s, u->user);
      bool sliced = u->user->code == OP_SLICE;
      if (!inside || (s->is_wide[i] && !sliced && !has_op(s, u->user)))
        return false;
    }
  return true;
}

/* The last product: what follows it works on its columns. */
static bool find_product(neurons_t *s) {
  for (const ir_op_t *op = s->body->last; op != NULL; op = op->prev)
    if (op->code == OP_MATMUL) {
      s->product = op;
      break;
    }
  if (s->product == NULL || s->product->in[1].value->type.rank != 2 ||
      !expr_is_const(s->product->in[1].value->type.dim[0], &s->F))
    return false;
  return add_bank(s, s->product->in[1].value, 0, false) &&
         add_value(s, s->product->in[0].value, s->F) && is_closed(s);
}

neurons_t *prune_find_neurons(prune_t *p, unsigned region) {
  neurons_t *s = ARENA_NEW(p->ctx->scratch, neurons_t);
  s->p = p;
  s->region = region;
  s->body = &p->experts->regions[region];
  return find_product(s) ? s : NULL;
}

/* ---- Which of them are dead ---------------------------------------------- */

static bool is_row_of_zeros(const prune_array_t *w, int64_t row) {
  for (int64_t i = 0; i < w->dim[1]; i++)
    if (prune_at(w, (const int64_t[]){row, i}) != 0) return false;
  return true;
}

static int64_t find_dead(neurons_t *s, prune_bounds_t *outside, int64_t element,
                         bool *is_dead) {
  prune_scope_t scope = {s->p->experts, s->region, element};
  prune_bounds_t *bounds =
      prune_bounds_within(s->p->ctx->scratch, scope, outside);
  prune_ranges_t h = prune_ranges_of(bounds, s->product->in[0].value);
  prune_array_t w;
  int64_t n = 0;
  if (!prune_find_array(&scope, s->product->in[1].value, &w)) return 0;
  for (int64_t f = 0; f < s->F; f++) {
    is_dead[f] = prune_is_zero(prune_range_at(&h, f)) || is_row_of_zeros(&w, f);
    n += is_dead[f];
  }
  return n;
}

static void list_elements(neurons_t *s) {
  prune_t *p = s->p;
  arena_t *arena = p->ctx->scratch;
  unsigned first = ir_moe_first_bank(p->experts, s->region);
  int64_t length = 0;
  expr_is_const(p->experts->in[first].value->type.dim[0], &length);
  bool *is_used = ARENA_ARRAY(arena, bool, (size_t)length + 1);
  s->element = ARENA_ARRAY(arena, int64_t, (size_t)length + 1);
  for (int64_t e = 0; e < p->E; e++)
    if (p->structure[e] == (int64_t)s->region) is_used[p->position[e]] = true;
  for (int64_t i = 0; i < length; i++)
    if (is_used[i]) s->element[s->n_elements++] = i;
}

static int64_t as_kernels_like(int64_t n) {
  return n < 1 ? MULTIPLE : (n + MULTIPLE - 1) / MULTIPLE * MULTIPLE;
}

/* How many neurons the expert needs that needs most of them. */
static bool count_kept(neurons_t *s) {
  arena_t *arena = s->p->ctx->scratch;
  bool has_maximum = prune_has_maximum(s->body);
  prune_bounds_t *outside = prune_bounds_create(arena, has_maximum ? 1 : 0);
  s->is_dead = ARENA_ARRAY(arena, bool *, (size_t)s->n_elements + 1);
  for (int64_t i = 0; i < s->n_elements; i++) {
    s->is_dead[i] = ARENA_ARRAY(arena, bool, (size_t)s->F);
    int64_t dead = find_dead(s, outside, s->element[i], s->is_dead[i]);
    if (s->F - dead > s->kept) s->kept = s->F - dead;
    if (as_kernels_like(s->kept) >= s->F) return false;
  }
  s->kept = as_kernels_like(s->kept);
  return s->n_elements > 0;
}

/* Neurons of an element that stay, ascending: the live ones, and as many dead
 * ones as it takes. */
static void list_kept(const neurons_t *s, int64_t i, int64_t *out) {
  int64_t spare = s->kept, at = 0;
  for (int64_t f = 0; f < s->F; f++) spare -= !s->is_dead[i][f];
  for (int64_t f = 0; f < s->F; f++) {
    if (s->is_dead[i][f] && spare == 0) continue;
    spare -= s->is_dead[i][f];
    out[at++] = f;
  }
}

/* ---- Banks and bodies without them --------------------------------------- */

/* Indices along a leaf's axis that stay. */
static int64_t list_columns(const neurons_t *s, const leaf_t *leaf,
                            const int64_t *kept, int64_t *out) {
  int64_t at = 0;
  if (!leaf->sliced) {
    memcpy(out, kept, (size_t)s->kept * sizeof kept[0]);
    return s->kept;
  }
  for (unsigned j = 0; j < s->n_slices; j++)
    for (int64_t i = 0; i < s->kept; i++)
      out[at++] = s->first[j] + kept[i] * s->step[j];
  return at;
}

static void copy_element(const prune_array_t *from, unsigned axis,
                         const int64_t *column, int64_t n, void *bytes,
                         uint64_t at) {
  int64_t index[IR_MAX_RANK] = {0}, source[IR_MAX_RANK];
  for (;;) {
    memcpy(source, index, sizeof source);
    source[axis] = column[index[axis]];
    ir_element_set_float(from->dtype, bytes, at++, prune_at(from, source));
    unsigned d = from->rank;
    while (d-- > 0) {
      if (++index[d] < (d == axis ? n : from->dim[d])) break;
      index[d] = 0;
    }
    if (d == UINT32_MAX) return;
  }
}

static ir_value_t *build_bank(const neurons_t *s, ir_builder_t *b,
                              const leaf_t *leaf, const int64_t *kept) {
  const ir_value_t *arg = &s->body->args[leaf->arg];
  arena_t *arena = b->module->arena;
  unsigned rank = arg->type.rank;
  int64_t n = 0, count = 1;
  int64_t *column = ARENA_ARRAY(s->p->ctx->scratch, int64_t,
                                (size_t)(s->kept * (NEURONS_SLICES + 1)));
  const expr_t *dim[IR_MAX_RANK];
  uint8_t *bytes = NULL;
  for (int64_t i = 0; i < s->n_elements; i++) {
    prune_scope_t scope = {s->p->experts, s->region, s->element[i]};
    prune_array_t from;
    if (!prune_find_array(&scope, arg, &from) || from.dtype != arg->type.dtype)
      return NULL;
    n = list_columns(s, leaf, kept + i * s->kept, column);
    if (bytes == NULL) {
      for (unsigned d = 0; d < rank; d++) {
        count *= d == leaf->axis ? n : from.dim[d];
        dim[d + 1] =
            expr_const(b->module->exprs, d == leaf->axis ? n : from.dim[d]);
      }
      bytes = arena_alloc(
          arena, dtype_bytes(from.dtype, (uint64_t)(count * s->n_elements)));
    }
    if (count > 0)
      copy_element(&from, leaf->axis, column, n, bytes, (uint64_t)(i * count));
  }
  dim[0] = expr_const(b->module->exprs, s->n_elements);
  ir_type_t type = arg->type;
  type.rank = rank + 1;
  type.dim = dim;
  return ir_tensor(b, &type, bytes,
                   dtype_bytes(type.dtype, (uint64_t)(count * s->n_elements)));
}

/* Changes the last number of a list of sizes. */
static void set_last(ir_op_t *op, ir_attr_id_t id, int64_t number) {
  unsigned n;
  const expr_t *size[IR_MAX_RANK];
  const expr_t *const *old = ir_get_exprs(op, id, &n);
  memcpy(size, old, n * sizeof size[0]);
  size[n - 1] = expr_const(op->module->exprs, number);
  ir_set_exprs(op, id, n, size);
}

/* Sizes that operations have as attributes. */
static void shrink_op(const neurons_t *s, ir_op_t *op, bool wide) {
  int64_t width = s->kept * (wide ? (int64_t)s->n_slices : 1);
  if (op->code == OP_RESHAPE) set_last(op, ATTR_RESHAPE_shape, width);
  for (unsigned j = 0; j < s->n_slices; j++) {
    if (s->slice[j] != op) continue;
    set_last(op, ATTR_SLICE_start, s->kept * (int64_t)j);
    set_last(op, ATTR_SLICE_length, s->kept);
    set_last(op, ATTR_SLICE_step, 1);
  }
}

static void set_arg_type(ir_value_t *arg, const ir_value_t *bank) {
  arena_t *arena = bank->def->module->arena;
  const expr_t **dim = ARENA_ARRAY(arena, const expr_t *, arg->type.rank + 1);
  memcpy(dim, bank->type.dim + 1, arg->type.rank * sizeof dim[0]);
  arg->type.dim = dim;
}

static moec_status_t shrink_body(neurons_t *s) {
  pass_ctx_t *ctx = s->p->ctx;
  for (unsigned i = 0; i < s->n_ops; i++) shrink_op(s, s->op[i], s->is_wide[i]);
  for (ir_op_t *op = s->body->first; op != s->body->last; op = op->next)
    MOEC_TRY(ir_infer_types(ctx->module, op, ctx->diag));
  return MOEC_OK;
}

static void tell(neurons_t *s) {
  prune_t *p = s->p;
  int64_t columns = 0;
  const expr_t *const *dim = s->product->in[1].value->type.dim;
  /* Sums for fewer columns are no chains. */
  bool chain = expr_is_const(dim[1], &columns) && columns >= LAYOUT_NARROW;
  for (int64_t e = 0; e < p->E; e++) {
    if (p->structure[e] != (int64_t)s->region) continue;
    moe_pruning_t *record = prune_tell(p, MOE_PRUNE_NEURONS, e);
    if (record == NULL) return;
    record->neurons = s->F - s->kept;
    record->exactness = chain ? MOE_EX0 : MOE_EX1;
    moe_words_add(p->ctx->options->moe, &record->assumptions,
                  "values within experts are finite");
  }
}

/* Banks of the region's other operands lose elements that no expert has, too.
 */
static bool build_banks(neurons_t *s, ir_value_t **bank) {
  ir_op_t *op = s->p->experts;
  unsigned n_values = prune_value_count(op);
  unsigned first = ir_moe_first_bank(op, s->region);
  unsigned end = ir_moe_first_bank(op, s->region + 1);
  ir_builder_t b = {.module = s->p->ctx->module,
                    .region = op->parent,
                    .before = op,
                    .loc = op->loc,
                    .diag = s->p->ctx->diag};
  int64_t *kept = ARENA_ARRAY(s->p->ctx->scratch, int64_t,
                              (size_t)(s->n_elements * s->kept));
  for (int64_t i = 0; i < s->n_elements; i++)
    list_kept(s, i, kept + i * s->kept);
  for (unsigned i = 0; i < s->n_leaves; i++) {
    unsigned at = s->leaf[i].arg - n_values;
    if (ir_n_uses(op->in[first + at].value) > 1) return false;
    bank[at] = build_bank(s, &b, &s->leaf[i], kept);
    if (bank[at] == NULL) return false;
  }
  for (unsigned i = first; i < end; i++) {
    int64_t length;
    if (bank[i - first] != NULL) continue;
    bank[i - first] = op->in[i].value;
    if (expr_is_const(op->in[i].value->type.dim[0], &length) &&
        length != s->n_elements)
      bank[i - first] =
          prune_select(&b, op->in[i].value, s->n_elements, s->element);
    if (bank[i - first] == NULL) return false;
  }
  return true;
}

static moec_status_t shrink_region(prune_t *p, unsigned region) {
  ir_op_t *op = p->experts;
  unsigned first = ir_moe_first_bank(op, region), n_values;
  unsigned end = ir_moe_first_bank(op, region + 1);
  neurons_t *s = first == end ? NULL : prune_find_neurons(p, region);
  ir_value_t **bank =
      ARENA_ARRAY(p->ctx->scratch, ir_value_t *, end - first + 1);
  if (s == NULL || s->F <= MULTIPLE) return MOEC_OK;
  list_elements(s);
  if (!count_kept(s) || !pass_allow_rewrite(p->ctx, "prune", op) ||
      !build_banks(s, bank))
    return MOEC_OK;
  tell(s);
  n_values = prune_value_count(op);
  for (unsigned i = first; i < end; i++) {
    ir_set_operand(op, i, bank[i - first]);
    set_arg_type(&s->body->args[n_values + i - first], bank[i - first]);
  }
  for (int64_t e = 0; e < p->E; e++) {
    int64_t at = 0;
    if (p->structure[e] != (int64_t)region) continue;
    while (s->element[at] != p->position[e]) at++;
    p->position[e] = at;
  }
  p->changed = true;
  return shrink_body(s);
}

moec_status_t prune_neurons(prune_t *p) {
  for (unsigned s = 0; s < p->experts->n_regions && prune_may_bound(p); s++)
    MOEC_TRY(shrink_region(p, s));
  return MOEC_OK;
}
