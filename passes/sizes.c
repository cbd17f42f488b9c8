/* Sizes that are multiples of others: where a bind defines a number that an
 * earlier one defines too, or the number of true elements of a mask that is
 * repeated, or a while counts trips whose number is known before, its symbol
 * becomes that expression everywhere. The earlier bind is
 * in the same region or around it, so that it is there wherever the later one
 * is. One sweep over binds and, if that found something, one over all
 * operations; linear. */
#include "ir/build.h"
#include "passes/pass.h"
#include "passes/resize.h"
#include "passes/rules.h"
#include "passes/trips.h"

enum { MAX_STEPS = 24, RECENT = 1024 };

/* ---- What is bound ------------------------------------------------------- */

/* The number `factor` * element `index` of `value`, or `factor` * the number of
 * true elements of `value` where that is a mask. */
typedef struct number {
  ir_value_t *value;
  int64_t index;
  const expr_t *factor;
} number_t;

typedef struct entry {
  const ir_value_t *value; /* NULL: free */
  int64_t index;
  const expr_t *size;
  const ir_region_t *region; /* where that is known */
} entry_t;

/* What stands for an expression, found lately. */
typedef struct recent {
  const expr_t *e, *by;
} recent_t;

typedef struct sizes {
  pass_ctx_t *ctx;
  expr_pool_t *pool;
  ir_func_t *func;
  entry_t *entry; /* open addressing */
  size_t mask;
  const expr_t **values; /* by index of the symbol: what stands for it */
  bool *gone;            /* by index: the bind goes */
  bool found;
  recent_t recent[RECENT];
} sizes_t;

/* How often an expansion repeats each element, into the factor; false where
 * that is not known. */
static bool through_expand(number_t *number) {
  const ir_op_t *op = number->value->def;
  const ir_type_t *from = &op->in[0].value->type, *to = &op->out[0].type;
  const expr_t *factor = number->factor;
  unsigned shift = to->rank - from->rank;
  for (unsigned d = 0; d < to->rank; d++) {
    if (d >= shift && from->dim[d - shift] == to->dim[d]) continue;
    if (d >= shift && !rule_is_one(from->dim[d - shift])) return false;
    factor = expr_mul(op->module->exprs, factor, to->dim[d]);
  }
  number->factor = factor;
  return true;
}

/* Goes on to what the sum of all elements is a multiple of, down to a mask;
 * false where there is none. */
static bool find_mask(number_t *number) {
  const ir_value_t *mask = NULL;
  for (unsigned i = 0; i < MAX_STEPS; i++) {
    ir_value_t *value = number->value;
    const ir_op_t *op = value->def;
    if (value->type.dtype == DT_BOOL) mask = value;
    if (op == NULL) break;
    if (op->code == OP_EXPAND) {
      if (!through_expand(number)) break;
    } else if (op->code == OP_CAST || op->code == OP_REDUCE_SUM) {
      const ir_value_t *from = op->in[0].value;
      if (!rule_cast_holds(from->type.dtype, value->type.dtype) ||
          dtype_is_float(value->type.dtype) ||
          (op->code == OP_REDUCE_SUM && value->type.dtype != DT_I64))
        break;
    } else if (op->code != OP_RESHAPE && op->code != OP_TRANSPOSE) {
      break;
    }
    number->value = op->in[0].value;
  }
  return mask != NULL && number->value->type.dtype == DT_BOOL;
}

static bool is_one_integer(const ir_value_t *value) {
  int64_t count;
  return ir_type_static_count(&value->type, &count) && count == 1 &&
         dtype_is_integer(value->type.dtype);
}

/* A product with a known number, into the factor. */
static bool through_product(number_t *number) {
  const ir_op_t *op = number->value->def;
  for (unsigned i = 0; i < 2; i++) {
    const expr_t *by = ir_known(op->in[i].value, 0);
    ir_value_t *other = op->in[1 - i].value;
    if (by == NULL || !is_one_integer(other) || other->type.dtype != DT_I64)
      continue;
    number->factor = expr_mul(op->module->exprs, number->factor, by);
    number->value = other;
    return true;
  }
  return false;
}

/* The operand of a list of numbers that has this one. */
static bool through_concat(number_t *number) {
  const ir_op_t *op = number->value->def;
  if (number->value->type.rank != 1) return false;
  int64_t at = number->index, n;
  for (unsigned i = 0; i < op->n_in; i++) {
    ir_value_t *part = op->in[i].value;
    if (!ir_type_static_count(&part->type, &n)) return false;
    if (at < n) {
      number->value = part;
      number->index = at;
      return true;
    }
    at -= n;
  }
  return false;
}

/* ---- Elements that are chosen ----------------------------------------------
 */

static bool least_element(const ir_value_t *value, int64_t index,
                          unsigned depth, int64_t *out);

/* Whether an element of a comparison with a number is true: 1, 0, -1: not
 * known.
 */
static int is_true(const ir_value_t *value, int64_t index, unsigned depth) {
  const ir_op_t *op = value->def;
  int64_t number, least;
  if (op == NULL || op->code != OP_EQ) return -1;
  for (unsigned i = 0; i < 2; i++)
    if (rule_splat_int(ir_in(op, i), &number) &&
        rule_same_dims(&ir_in(op, 1 - i)->type, &value->type) &&
        least_element(ir_in(op, 1 - i), index, depth + 1, &least) &&
        least > number)
      return 0;
  return -1;
}

/* The operand of a choice that this element is of; NULL: not known. */
static ir_value_t *chosen_operand(const ir_op_t *op, int64_t index,
                                  unsigned depth) {
  int holds = is_true(ir_in(op, 0), index, depth);
  if (holds < 0 || !rule_same_dims(&ir_in(op, 0)->type, &op->out[0].type))
    return NULL;
  ir_value_t *chosen = ir_in(op, holds ? 1 : 2);
  return rule_same_dims(&chosen->type, &op->out[0].type) ? chosen : NULL;
}

/* A number that an element of an integer list is not below. */
static bool least_element(const ir_value_t *value, int64_t index,
                          unsigned depth, int64_t *out) {
  const expr_t *known = ir_known(value, index);
  const ir_op_t *op = value->def;
  if (known != NULL) return expr_lower_bound(known, out);
  if (op == NULL || depth > MAX_STEPS || value->type.dtype != DT_I64)
    return false;
  if (op->code == OP_MAX)
    return rule_splat_int(ir_in(op, 0), out) ||
           rule_splat_int(ir_in(op, 1), out);
  if (op->code == OP_RESHAPE)
    return least_element(ir_in(op, 0), index, depth + 1, out);
  number_t number = {(ir_value_t *)value, index, NULL};
  if (op->code == OP_CONCAT)
    return through_concat(&number) &&
           least_element(number.value, number.index, depth + 1, out);
  const ir_value_t *chosen =
      op->code == OP_SELECT ? chosen_operand(op, index, depth + 1) : NULL;
  return chosen != NULL && least_element(chosen, index, depth + 1, out);
}

/* The operand of a maximum that is never below the other one, a number. */
static ir_value_t *larger_operand(const ir_op_t *op, int64_t index) {
  int64_t number, least;
  for (unsigned i = 0; i < 2; i++)
    if (rule_splat_int(ir_in(op, i), &number) &&
        rule_same_dims(&ir_in(op, 1 - i)->type, &op->out[0].type) &&
        least_element(ir_in(op, 1 - i), index, 0, &least) && least >= number)
      return ir_in(op, 1 - i);
  return NULL;
}

/* The number that a bind binds, by what makes it; without a value where it is
 * the factor. */
static number_t bound_number(const ir_op_t *bind) {
  number_t number = {bind->in[0].value, ir_get_int(bind, ATTR_BIND_index),
                     expr_const(bind->module->exprs, 1)};
  for (unsigned i = 0; i < MAX_STEPS; i++) {
    const ir_op_t *op = number.value->def;
    const expr_t *known = ir_known(number.value, number.index);
    if (known != NULL && i > 0) {
      number.value = NULL;
      number.factor = expr_mul(bind->module->exprs, number.factor, known);
      return number;
    }
    if (op == NULL) break;
    if (op->code == OP_CONCAT) {
      if (!through_concat(&number)) break;
      continue;
    }
    if (op->code == OP_MAX) {
      ir_value_t *larger = larger_operand(op, number.index);
      if (larger == NULL) break;
      number.value = larger;
      continue;
    }
    if (op->code == OP_SELECT) {
      ir_value_t *chosen = chosen_operand(op, number.index, 0);
      if (chosen == NULL) break;
      number.value = chosen;
      continue;
    }
    if (op->code == OP_REDUCE_SUM && is_one_integer(number.value)) {
      number_t mask = number;
      if (!find_mask(&mask)) break;
      mask.index = -1;
      return mask;
    }
    if (op->code == OP_MUL && is_one_integer(number.value)) {
      if (number.value->type.dtype != DT_I64 || !through_product(&number))
        break;
      continue;
    }
    const ir_value_t *from = op->n_in > 0 ? op->in[0].value : NULL;
    if (op->code != OP_RESHAPE &&
        (op->code != OP_CAST || !dtype_is_integer(from->type.dtype) ||
         !rule_cast_holds(from->type.dtype, number.value->type.dtype)))
      break;
    number.value = op->in[0].value;
  }
  return number;
}

/* ---- What is known ------------------------------------------------------- */

static void make_table(sizes_t *s, size_t n) {
  size_t capacity = 16;
  while (capacity < 2 * n) capacity *= 2;
  s->entry = ARENA_ARRAY(s->ctx->scratch, entry_t, capacity);
  s->mask = capacity - 1;
}

static entry_t *find_entry(const sizes_t *s, const number_t *number) {
  uint64_t hash = (uint64_t)(uintptr_t)number->value ^ (uint64_t)number->index;
  hash *= UINT64_C(0x9e3779b97f4a7c15);
  size_t i = (size_t)(hash >> 32) & s->mask;
  while (s->entry[i].value != NULL && (s->entry[i].value != number->value ||
                                       s->entry[i].index != number->index))
    i = (i + 1) & s->mask;
  return &s->entry[i];
}

/* The size that a number is known as at an operation, or NULL. An entry of a
 * region that has been left is of no use to anyone. */
static const expr_t *known_size(const sizes_t *s, const number_t *number,
                                const ir_op_t *at) {
  const entry_t *entry = find_entry(s, number);
  bool seen =
      entry->value != NULL && ir_region_holds(entry->region, at->parent);
  return seen ? entry->size : NULL;
}

static void know_size(const sizes_t *s, const number_t *number,
                      const ir_op_t *at, const expr_t *size) {
  entry_t *entry = find_entry(s, number);
  *entry = (entry_t){number->value, number->index, size, at->parent};
}

/* ---- Other sizes for symbols --------------------------------------------- */

static const expr_t *resize(sizes_t *s, const expr_t *e) {
  recent_t *recent = &s->recent[e->hash % RECENT];
  if (recent->e != e)
    *recent = (recent_t){e, expr_substitute(s->pool, e, s->values)};
  return recent->by;
}

/* A symbol whose upper bound changes gives way to one that has the new bound;
 * what stands for the symbol from here on. */
static const expr_t *resize_symbol(sizes_t *s, const expr_t *e) {
  const expr_symbol_t *symbol = expr_as_symbol(e);
  if (!s->found || symbol->upper == NULL) return e;
  const expr_t *upper = resize(s, symbol->upper);
  if (upper == symbol->upper) return e;
  e = expr_new_symbol(s->pool, symbol->name, symbol->lower, upper);
  s->values[symbol->index] = e;
  return e;
}

static void resize_symbols(sizes_t *s, const ir_op_t *op, ir_attr_id_t id) {
  unsigned n;
  const expr_t *const *symbols = ir_get_exprs(op, id, &n);
  for (unsigned i = 0; i < n; i++) resize_symbol(s, symbols[i]);
}

/* ---- Binds --------------------------------------------------------------- */

/* Whether a size is never below what the symbol may be, or above. */
static bool is_within(const sizes_t *s, const expr_t *least, const expr_t *most,
                      const expr_symbol_t *symbol) {
  const expr_t *lower = expr_const(s->pool, symbol->lower);
  if (expr_compare_less(s->pool, least, lower) != 0) return false;
  return symbol->upper == NULL ||
         expr_compare_less(s->pool, symbol->upper, most) == 0;
}

/* Binds the number of true elements of a mask before a bind of a multiple. */
static const expr_t *bind_count(const sizes_t *s, ir_op_t *bind,
                                const number_t *number, const char *name) {
  ir_builder_t b = {.module = s->ctx->module,
                    .region = bind->parent,
                    .before = bind,
                    .loc = bind->loc};
  int64_t axes[IR_MAX_RANK];
  const ir_type_t *type = &number->value->type;
  for (unsigned d = 0; d < type->rank; d++) axes[d] = d;
  ir_value_t *ones = ir_cast(&b, number->value, DT_I64);
  ir_value_t *count =
      ir_reduce(&b, OP_REDUCE_SUM, ones, type->rank, axes, false);
  const expr_t *most = ir_type_count(s->pool, type);
  const expr_t *size = ir_bind(&b, count, 0, name, 0, most);
  ir_op_t *made = bind->prev;
  if (made->code == OP_BIND && ir_get_expr(made, ATTR_BIND_symbol) == size)
    ir_set_int(made, ATTR_BIND_sure, 1);
  return size;
}

/* Sums would make expressions grow where they stand for a symbol. */
static bool is_product(const expr_t *e) { return e->n_terms == 1; }

/* What a number that is `size` times a factor, or a count, lies between. */
static bool is_sure(sizes_t *s, const number_t *number, const expr_t *size,
                    const expr_symbol_t *symbol) {
  bool is_count = number->index < 0;
  if (!is_count && size == NULL) return false;
  const expr_t *most =
      is_count ? ir_type_count(s->pool, &number->value->type) : size;
  most = expr_mul(s->pool, resize(s, most), resize(s, number->factor));
  return is_within(s, is_count ? expr_const(s->pool, 0) : most, most, symbol);
}

/* A symbol for what is known without it. */
static void visit_known(sizes_t *s, const ir_op_t *bind, const expr_t *known,
                        const expr_symbol_t *symbol) {
  known = resize(s, known);
  if (known->n_terms > 1 || !is_within(s, known, known, symbol) ||
      !pass_allow_rewrite(s->ctx, "size-known", bind))
    return;
  s->found = true;
  symbol = expr_as_symbol(ir_get_expr(bind, ATTR_BIND_symbol));
  s->values[symbol->index] = known;
  s->gone[symbol->index] = true;
}

static void visit_bind(sizes_t *s, ir_op_t *bind) {
  const expr_t *e = resize_symbol(s, ir_get_expr(bind, ATTR_BIND_symbol));
  const expr_symbol_t *symbol = expr_as_symbol(e);
  number_t number = bound_number(bind);
  const expr_t *known =
      ir_known(bind->in[0].value, ir_get_int(bind, ATTR_BIND_index));
  bool is_number = known != NULL && expr_is_const(resize(s, known), NULL);
  if (is_number || number.value == NULL) {
    visit_known(s, bind, is_number ? known : number.factor, symbol);
    return;
  }
  bool is_same = expr_equals_const(number.factor, 1);
  const expr_t *size = known_size(s, &number, bind);
  const expr_t *factor = resize(s, number.factor);
  if (size == NULL && is_same) know_size(s, &number, bind, e);
  if (!is_sure(s, &number, size, symbol)) return;
  if (number.index < 0) ir_set_int(bind, ATTR_BIND_sure, 1);
  if ((size == NULL && is_same) || !is_product(factor) ||
      (size != NULL && !is_product(size)) ||
      !pass_allow_rewrite(s->ctx, "multiple-of-size", bind))
    return;
  if (size == NULL) {
    size = bind_count(s, bind, &number, symbol->name);
    if (size == NULL) return;
    know_size(s, &number, bind, size);
  }
  s->found = true;
  symbol = expr_as_symbol(ir_get_expr(bind, ATTR_BIND_symbol));
  s->values[symbol->index] = expr_mul(s->pool, size, factor);
  s->gone[symbol->index] = true;
}

/* ---- Trips
 * -------------------------------------------------------------------- */

/* The trips that a while counts, where their number follows from sizes. */
static void visit_trips(sizes_t *s, ir_op_t *loop) {
  const expr_t *e = ir_get_expr(loop, ATTR_WHILE_trips);
  int64_t most, bound;
  const expr_t *n = trips_count(loop, &most);
  if (n == NULL) return;
  n = resize(s, n);
  if (!is_product(n) || expr_mentions(n, expr_as_symbol(e)) ||
      !pass_allow_rewrite(s->ctx, "trips-known", loop))
    return;
  if (!expr_upper_bound(n, &bound) || bound > most) {
    ir_builder_t b = {.module = s->ctx->module,
                      .region = loop->parent,
                      .before = loop,
                      .loc = loop->loc};
    const expr_t *few = expr_min(s->pool, n, expr_const(s->pool, most));
    ir_check_equal(&b, few, n, "a number of trips that its type can count");
  }
  s->found = true;
  s->values[expr_as_symbol(e)->index] = n;
  s->gone[expr_as_symbol(e)->index] = true;
}

/* Finds what stands for the symbols that operations define. */
static void visit(sizes_t *s, ir_op_t *op) {
  switch (op->code) {
    case OP_BIND:
      visit_bind(s, op);
      break;
    case OP_MOE_EXPERTS:
      resize_symbol(s, ir_get_expr(op, ATTR_MOE_EXPERTS_rows));
      break;
    case OP_IF:
      resize_symbols(s, op, ATTR_IF_symbols);
      break;
    case OP_WHILE:
      resize_symbols(s, op, ATTR_WHILE_symbols);
      if (ir_get_int(op, ATTR_WHILE_counted) != 0) visit_trips(s, op);
      break;
    default:
      break;
  }
}

/* ---- The pass ------------------------------------------------------------ */

static const expr_t *resize_expr(void *user, const expr_t *e) {
  return resize(user, e);
}

/* Whether something else stands for the symbol. */
static bool is_gone(void *user, const expr_symbol_t *symbol) {
  const sizes_t *s = user;
  return s->gone[symbol->index];
}

static void erase_gone(sizes_t *s) {
  for (ir_op_t *op = ir_walk_first(s->func), *next; op != NULL; op = next) {
    next = ir_walk_next(op);
    if (op->code == OP_BIND &&
        is_gone(s, expr_as_symbol(ir_get_expr(op, ATTR_BIND_symbol))))
      ir_erase(op);
  }
}

moec_status_t run_sizes(pass_ctx_t *ctx, ir_func_t *func) {
  sizes_t *s = ARENA_NEW(ctx->scratch, sizes_t);
  *s = (sizes_t){.ctx = ctx, .pool = ctx->module->exprs, .func = func};
  size_t n_binds = 0;
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
    n_binds += op->code == OP_BIND || (op->code == OP_WHILE &&
                                       ir_get_int(op, ATTR_WHILE_counted) != 0);
  if (n_binds == 0) return MOEC_OK;
  make_table(s, n_binds);
  /* Each symbol is renamed, or becomes a multiple of a new one, at most. */
  unsigned n_symbols = 2 * expr_n_symbols(s->pool);
  s->values = ARENA_ARRAY(ctx->scratch, const expr_t *, n_symbols);
  s->gone = ARENA_ARRAY(ctx->scratch, bool, n_symbols);
  for (ir_op_t *op = ir_walk_first(func); op != NULL; op = ir_walk_next(op))
    visit(s, op);
  if (!s->found) return MOEC_OK;
  const resize_t how = {.by = resize_expr, .is_gone = is_gone, .user = s};
  if (pass_resize(ctx, func, &how)) erase_gone(s);
  return MOEC_OK;
}
