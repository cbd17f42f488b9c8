/* Sizes that only a run knows: Shape and arithmetic on i64[1]. */
#include <string.h>

#include "export/put.h"

static bool same_key(const void *key, const og_memo_t *memo) {
  return memo->key == key;
}

/* What has been made of the expression or atom here or around. */
static og_value_t *known_size(export_t *e, uint64_t hash, const void *key) {
  for (og_graph_t *g = e->graph; g != NULL; g = g->parent) {
    og_value_t *value = og_memo(g, hash, key, same_key)->value;
    if (value != NULL) return value;
  }
  return NULL;
}

static og_value_t *remember(export_t *e, uint64_t hash, const void *key,
                            og_value_t *value) {
  og_memo(e->graph, hash, key, same_key)->value = value;
  return value;
}

static og_value_t *shape_part(export_t *e, og_value_t *x, int64_t start,
                              int64_t end) {
  og_value_t *shape = put1(e, "Shape", x);
  shape->dtype = DT_I64;
  set_int(e, shape, "start", start);
  set_int(e, shape, "end", end);
  return shape;
}

static og_value_t *put_symbol(export_t *e, const expr_symbol_t *symbol) {
  const og_symbol_t *s = og_find_symbol(e->graph, symbol);
  if (s == NULL) {
    refuse(e, "nothing tells the size %s", symbol->name);
    return put_int1(e, 0);
  }
  if (s->axis < 0) return s->value;
  return shape_part(e, s->value, s->axis, s->axis + 1);
}

/* a where it is not 0, else 1; *out_zero tells where it was, or is NULL. */
static og_value_t *nonzero_divisor(export_t *e, const expr_t *b,
                                   og_value_t **out_zero) {
  int64_t lower, upper;
  og_value_t *value = put_size(e, b);
  *out_zero = NULL;
  if ((expr_lower_bound(b, &lower) && lower > 0) ||
      (expr_upper_bound(b, &upper) && upper < 0))
    return value;
  og_value_t *zero = put_int1(e, 0), *one = put_int1(e, 1);
  *out_zero = put_test(e, "Equal", value, zero);
  return put_where(e, *out_zero, one, value);
}

/* floor(a / b) or a - b * floor(a / b), 0 where b is 0. */
static og_value_t *put_quotient(export_t *e, const expr_atom_t *atom) {
  int64_t lower;
  og_value_t *is_zero;
  og_value_t *a = put_size(e, atom->a);
  og_value_t *b = nonzero_divisor(e, atom->b, &is_zero);
  og_value_t *result;
  bool quotient = atom->kind == EXPR_ATOM_FLOORDIV;
  bool plain = expr_lower_bound(atom->a, &lower) && lower >= 0 &&
               expr_lower_bound(atom->b, &lower) && lower >= 0;
  if (quotient && plain) {
    result = put2(e, "Div", a, b);
  } else {
    og_value_t *rest = put2(e, "Mod", a, b); /* has the sign of b */
    result = rest;
    if (quotient) {
      og_value_t *multiple = put2(e, "Sub", a, rest);
      result = put2(e, "Div", multiple, b);
    }
  }
  if (is_zero == NULL) return result;
  og_value_t *zero = put_int1(e, 0);
  return put_where(e, is_zero, zero, result);
}

static og_value_t *compute_atom(export_t *e, const expr_atom_t *atom) {
  og_value_t *a, *b, *one, *test;
  switch (atom->kind) {
    case EXPR_ATOM_SYMBOL:
      return put_symbol(e, atom->symbol);
    case EXPR_ATOM_FLOORDIV:
    case EXPR_ATOM_MOD:
      return put_quotient(e, atom);
    case EXPR_ATOM_MIN:
    case EXPR_ATOM_MAX:
      a = put_size(e, atom->a);
      b = put_size(e, atom->b);
      return put2(e, atom->kind == EXPR_ATOM_MIN ? "Min" : "Max", a, b);
    case EXPR_ATOM_BROADCAST:
      a = put_size(e, atom->a);
      b = put_size(e, atom->b);
      one = put_int1(e, 1);
      test = put_test(e, "Equal", a, one);
      return put_where(e, test, b, a);
    case EXPR_ATOM_IS_ONE:
      a = put_size(e, atom->a);
      one = put_int1(e, 1);
      test = put_test(e, "Equal", a, one);
      return put_cast(e, test, DT_I64);
  }
  MOEC_BUG("an atom of an unknown kind");
}

static og_value_t *put_atom(export_t *e, const expr_atom_t *atom) {
  og_value_t *value = known_size(e, atom->hash, atom);
  if (value != NULL) return value;
  value = compute_atom(e, atom);
  return remember(e, atom->hash, atom, value);
}

static og_value_t *put_term(export_t *e, const expr_term_t *term) {
  og_value_t *product = NULL;
  for (unsigned i = 0; i < term->n_atoms; i++) {
    og_value_t *atom = put_atom(e, term->atoms[i]);
    product = product == NULL ? atom : put2(e, "Mul", product, atom);
  }
  if (product == NULL) return put_int1(e, term->coefficient);
  if (term->coefficient == 1) return product;
  og_value_t *factor = put_int1(e, term->coefficient);
  return put2(e, "Mul", product, factor);
}

og_value_t *put_size(export_t *e, const expr_t *size) {
  int64_t value;
  if (expr_is_const(size, &value)) return put_int1(e, value);
  og_value_t *sum = known_size(e, size->hash, size);
  if (sum != NULL) return sum;
  for (unsigned i = 0; i < size->n_terms; i++) {
    og_value_t *term = put_term(e, &size->terms[i]);
    sum = sum == NULL ? term : put2(e, "Add", sum, term);
  }
  return remember(e, size->hash, size, sum);
}

og_value_t *put_size_scalar(export_t *e, const expr_t *size) {
  int64_t value;
  if (expr_is_const(size, &value)) return put_scalar_int(e, DT_I64, value);
  og_value_t *x = put_size(e, size);
  return put_reshape_ints(e, x, 0, NULL);
}

bool sizes_are_const(export_t *e, unsigned n, const expr_t *const *sizes,
                     const int64_t **out) {
  int64_t *values = ARENA_ARRAY(e->arena, int64_t, n);
  for (unsigned i = 0; i < n; i++)
    if (!expr_is_const(sizes[i], &values[i])) return false;
  *out = values;
  return true;
}

/* How many sizes from the first one on are dimensions of one tensor, side by
 * side. */
static unsigned dims_run(export_t *e, unsigned n, const expr_t *const *sizes,
                         og_value_t **out_value, int *out_axis) {
  unsigned count = 0;
  for (; count < n; count++) {
    const expr_symbol_t *symbol = expr_as_symbol(sizes[count]);
    const og_symbol_t *s =
        symbol == NULL ? NULL : og_find_symbol(e->graph, symbol);
    if (s == NULL || s->axis < 0) break;
    if (count == 0) {
      *out_value = s->value;
      *out_axis = s->axis;
    } else if (s->value != *out_value || s->axis != *out_axis + (int)count) {
      break;
    }
  }
  return count;
}

og_value_t *put_sizes(export_t *e, unsigned n, const expr_t *const *sizes) {
  const int64_t *values = NULL;
  og_value_t *parts[2 * IR_MAX_RANK], *x = NULL;
  unsigned n_parts = 0;
  if (n == 0 || sizes_are_const(e, n, sizes, &values))
    return put_ints(e, n, n == 0 ? NULL : values);
  if (n > 2 * IR_MAX_RANK) {
    og_value_t *halves[2] = {put_sizes(e, n / 2, sizes), NULL};
    halves[1] = put_sizes(e, n - n / 2, sizes + n / 2);
    og_value_t *joined = put2(e, "Concat", halves[0], halves[1]);
    set_int(e, joined, "axis", 0);
    return joined;
  }
  for (unsigned i = 0; i < n;) {
    int axis = 0;
    unsigned count = 0;
    while (i + count < n && expr_is_const(sizes[i + count], NULL)) count++;
    if (count > 0) {
      (void)sizes_are_const(e, count, sizes + i, &values);
      parts[n_parts++] = put_ints(e, count, values);
    } else if ((count = dims_run(e, n - i, sizes + i, &x, &axis)) > 1) {
      parts[n_parts++] = shape_part(e, x, axis, axis + (int)count);
    } else {
      count = 1;
      parts[n_parts++] = put_size(e, sizes[i]);
    }
    i += count;
  }
  if (n_parts == 1) return parts[0];
  og_node_t *node = put_node(e, "Concat", n_parts, parts, 1);
  node->out[0].dtype = DT_I64;
  set_int(e, &node->out[0], "axis", 0);
  return &node->out[0];
}

void define_symbols(export_t *e, og_value_t *value, const ir_type_t *type) {
  for (unsigned i = 0; i < type->rank; i++) {
    const expr_symbol_t *symbol = expr_as_symbol(type->dim[i]);
    if (symbol != NULL && og_find_symbol(e->graph, symbol) == NULL)
      og_define(e->graph, symbol, value, (int)i);
  }
}
