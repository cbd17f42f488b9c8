/* Facts of numbers: what arithmetic makes of experts, routes and coordinates.
 */
#include <float.h>
#include <math.h>

#include "ir/element.h"
#include "passes/moe_rules.h"
#include "passes/moe_sizes.h"

bool moe_constant_element(const ir_value_t *value, int64_t at, double *out) {
  enum { MAX_VIEWS = 6 };
  for (unsigned i = 0; i < MAX_VIEWS && value->def != NULL; i++) {
    const ir_op_t *op = value->def;
    if (op->code == OP_CONSTANT) {
      const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
      dtype_class_t class = dtype_class(value->type.dtype);
      if (data->bytes == NULL || class == DT_CLASS_STRING ||
          class == DT_CLASS_COMPLEX)
        return false;
      *out = ir_element_float(value->type.dtype, data->bytes, (uint64_t)at);
      return true;
    }
    const ir_value_t *from = ir_in(op, 0);
    if (op->code == OP_SLICE) {
      unsigned n;
      const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
      const expr_t *const *step = ir_get_exprs(op, ATTR_SLICE_step, &n);
      int64_t place = 0, scale = 1;
      for (unsigned d = n; d-- > 0;) {
        int64_t size, whole, first, by;
        if (!expr_is_const(value->type.dim[d], &size) || size == 0 ||
            !expr_is_const(from->type.dim[d], &whole) ||
            !expr_is_const(start[d], &first) || !expr_is_const(step[d], &by))
          return false;
        place += (first + at % size * by) * scale;
        at /= size;
        scale *= whole;
      }
      at = place;
    } else if (op->code != OP_RESHAPE) {
      return false;
    }
    value = from;
  }
  return false;
}

bool moe_fill_number(const ir_value_t *value, double *out) {
  int64_t number, count;
  double other;
  enum { MAX_COUNT = 1 << 16 };
  if (value == NULL) return false;
  if (rule_splat_float(value, out)) return true;
  if (rule_splat_int(value, &number)) {
    *out = (double)number;
    return true;
  }
  const ir_op_t *op = value->def;
  if (op != NULL && op->code == OP_SUB && ir_in(op, 0) == ir_in(op, 1)) {
    *out = 0; /* of finite numbers */
    return true;
  }
  if (op != NULL && op->code == OP_EXPAND)
    return moe_fill_number(ir_in(op, 0), out);
  if (!ir_type_static_count(&value->type, &count) || count == 0 ||
      count > MAX_COUNT || !moe_constant_element(value, 0, out))
    return false;
  for (int64_t i = 1; i < count; i++)
    if (!moe_constant_element(value, i, &other) || other != *out) return false;
  return true;
}

int moe_counting_axis(const ir_value_t *value, int64_t n) {
  const ir_op_t *op = value != NULL ? value->def : NULL;
  if (op == NULL) return -1;
  if (op->code == OP_RESHAPE) {
    int inner = moe_counting_axis(ir_in(op, 0), n);
    if (inner < 0) return -1;
  } else if (op->code == OP_CONSTANT) {
    const ir_data_t *data = ir_get_data(op, ATTR_CONSTANT_data);
    dtype_t dtype = value->type.dtype;
    if (data->bytes == NULL || data->strings != NULL) return -1;
    int64_t count;
    if (!ir_type_static_count(&value->type, &count) || count != n) return -1;
    for (int64_t i = 0; i < n; i++)
      if (ir_element_float(dtype, data->bytes, (uint64_t)i) != (double)i)
        return -1;
  } else if (op->code != OP_IOTA) {
    return -1;
  }
  for (unsigned d = 0; d < value->type.rank; d++)
    if (expr_equals_const(value->type.dim[d], n)) return (int)d;
  return -1;
}

/* A number of this type, as double holds it exactly: integers truncated, as
 * division and casts do, where the type would not wrap around. */
static bool fit_number(dtype_t dtype, double *x) {
  enum { EXACT_BITS = 53 };
  if (!isfinite(*x)) return false;
  if (dtype == DT_F32) {
    if (fabs(*x) > FLT_MAX) return false;
    *x = (float)*x;
  } else if (dtype_is_integer(dtype)) {
    unsigned bits = dtype_bits(dtype);
    bool is_signed = dtype_class(dtype) == DT_CLASS_SIGNED;
    if (is_signed) bits--;
    double most = ldexp(1, (int)(bits < EXACT_BITS ? bits : EXACT_BITS));
    *x = trunc(*x);
    return *x < most && *x >= (is_signed ? -most : 0);
  }
  return dtype == DT_F32 || dtype == DT_F64 || dtype == DT_BOOL;
}

/* f(expert) for all experts: what elementwise arithmetic with constants makes
 * of the number, in the arithmetic of its type. */
static bool apply_to_number(const ir_op_t *op, double x, double y, bool swap,
                            double *out) {
  *out = op->code == OP_NEG ? -x : x;
  if (op->code == OP_CAST && op->out[0].type.dtype == DT_BOOL) *out = x != 0;
  if (op->code != OP_CAST && op->code != OP_NEG &&
      !rule_compute(op->code, swap ? y : x, swap ? x : y, out))
    return false;
  return fit_number(op->out[0].type.dtype, out);
}

/* Room for a number of each expert; NULL where all maps would be too large. */
static double *new_map(moe_facts_t *facts, const moe_source_t *source) {
  enum { MAX_NUMBERS = 1 << 22 }; /* of all maps */
  if (source->experts > MAX_NUMBERS - facts->n_numbers) return NULL;
  facts->n_numbers += source->experts;
  return ARENA_ARRAY(facts->arena, double, (size_t)source->experts);
}

/* The fact with this map; none where each expert has its own number. */
static const moe_fact_t *with_map(moe_facts_t *facts, const moe_fact_t *fact,
                                  const double *map) {
  moe_fact_t *out = moe_fact_copy(facts, fact);
  int64_t e = 0;
  while (e < fact->source->experts && map[e] == (double)e) e++;
  out->map = e < fact->source->experts ? map : NULL;
  return out;
}

static const moe_fact_t *map_experts(moe_facts_t *facts, ir_value_t *value,
                                     const moe_fact_t *fact, double other,
                                     bool swap) {
  int64_t n = fact->source->experts;
  double *map = new_map(facts, fact->source);
  for (int64_t e = 0; map != NULL && e < n; e++) {
    double x = fact->map != NULL ? fact->map[e] : (double)e;
    if (!apply_to_number(value->def, x, other, swap, &map[e])) return NULL;
  }
  return map != NULL ? with_map(facts, fact, map) : NULL;
}

const expr_t *moe_known_number(const ir_value_t *value) {
  if (value->content != NULL) {
    int64_t count;
    if (ir_type_static_count(&value->type, &count) && count == 1)
      return value->content[0];
  }
  int64_t number;
  return rule_splat_int(value, &number)
             ? expr_const(value->def->module->exprs, number)
             : NULL;
}

static moe_linear_t *new_linear(moe_facts_t *facts, unsigned n) {
  moe_linear_t *out = ARENA_NEW(facts->arena, moe_linear_t);
  out->n = n;
  out->coefficient = ARENA_ARRAY(facts->arena, const expr_t *, n);
  return out;
}

moe_fact_t *moe_linear_sum(moe_facts_t *facts, const moe_fact_t *a,
                           const moe_fact_t *b) {
  if (a->linear == NULL || b->linear == NULL || a->space != b->space ||
      a->linear->by != NULL || b->linear->by != NULL)
    return NULL;
  moe_linear_t *sum = new_linear(facts, a->linear->n);
  for (unsigned d = 0; d < sum->n; d++) {
    sum->coefficient[d] = moe_plus(facts->pool, a->linear->coefficient[d],
                                   b->linear->coefficient[d]);
    if (sum->coefficient[d] == NULL) return NULL;
  }
  moe_fact_t *out = moe_fact_copy(facts, a);
  out->linear = sum;
  return out;
}

moe_fact_t *moe_linear_times(moe_facts_t *facts, const moe_fact_t *x,
                             const expr_t *factor) {
  if (x->linear == NULL || x->linear->by != NULL || factor == NULL) return NULL;
  moe_linear_t *product = new_linear(facts, x->linear->n);
  for (unsigned d = 0; d < product->n; d++) {
    product->coefficient[d] =
        moe_times(facts->pool, x->linear->coefficient[d], factor);
    if (product->coefficient[d] == NULL) return NULL;
  }
  moe_fact_t *out = moe_fact_copy(facts, x);
  out->linear = product;
  return out;
}

/* Sums of coordinates and their multiples. */
static const moe_fact_t *combine_coordinates(moe_facts_t *facts,
                                             ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *a = moe_fact(facts, ir_in(op, 0));
  const moe_fact_t *b = moe_fact(facts, ir_in(op, 1));
  unsigned base = a->linear != NULL ? 0 : 1;
  if (ir_in(op, base)->type.rank != value->type.rank) return NULL;
  if (op->code == OP_ADD) return moe_linear_sum(facts, a, b);
  return moe_linear_times(facts, base == 0 ? a : b,
                          moe_known_number(ir_in(op, 1 - base)));
}

moe_fact_t *moe_token_of(moe_facts_t *facts, const moe_fact_t *route) {
  unsigned tag = route->kind == FACT_ROUTE ? moe_route_tag(facts, route) : 0;
  if (tag != (TAG_TOKEN | TAG_SLOT)) return NULL;
  moe_fact_t *out = moe_fact_copy(facts, route);
  out->kind = FACT_TOKEN;
  if (route->linear == NULL) return out;
  moe_linear_t *linear = ARENA_NEW(facts->arena, moe_linear_t);
  *linear = *route->linear;
  linear->by = route->source->k;
  out->linear = linear;
  return out;
}

moe_fact_t *moe_token_left(moe_facts_t *facts, const moe_fact_t *number) {
  moe_fact_t *token = moe_token_of_pair(facts, NULL, number);
  if (token != NULL || number->kind != FACT_ROUTE ||
      (moe_route_tag(facts, number) & TAG_TURNED) == 0)
    return token;
  token = moe_fact_copy(facts, number);
  token->kind = FACT_TOKEN;
  token->turned = false;
  token->linear = NULL;
  return token;
}

/* Routes divided by k are tokens, and what tokens leave of slot * tokens +
 * token, or of expert * tokens + token. */
static const moe_fact_t *token_of_route(moe_facts_t *facts, ir_value_t *value,
                                        const moe_fact_t *route) {
  const expr_t *k = moe_known_number(ir_in(value->def, 1));
  if (value->def->code == OP_MOD && k != NULL && route->kind == FACT_ROUTE &&
      k == route->source->tokens)
    return moe_token_left(facts, route);
  if (value->def->code != OP_DIV || k == NULL || route->kind != FACT_ROUTE ||
      k != route->source->k)
    return NULL;
  return moe_token_of(facts, route);
}

/* The value of a chain of operations on a route's number, in the arithmetic of
 * their types; *out_route is the number's fact. */
static bool number_of_route(moe_facts_t *facts, ir_value_t *value, double route,
                            unsigned depth, const moe_fact_t **out_route,
                            double *out) {
  enum { MAX_NESTED = 12 };
  const moe_fact_t *fact = moe_fact(facts, value);
  const ir_op_t *op = value->def;
  double x[2] = {0};
  if (fact->kind == FACT_ROUTE && fact->space != NULL &&
      moe_route_tag(facts, fact) == (TAG_TOKEN | TAG_SLOT)) {
    if (*out_route != NULL && (*out_route)->space != fact->space) return false;
    *out_route = fact;
    *out = route;
    return true;
  }
  if (moe_fill_number(value, out)) return true;
  if (op == NULL || depth > MAX_NESTED || op->n_in < 1 || op->n_in > 2 ||
      (op->code != OP_RESHAPE && !ir_has_trait(op, ELEMENTWISE)))
    return false;
  for (unsigned i = 0; i < op->n_in; i++)
    if (!number_of_route(facts, ir_in(op, i), route, depth + 1, out_route,
                         &x[i]))
      return false;
  switch (op->code) {
    case OP_RESHAPE:
      *out = x[0];
      return true;
    case OP_ABS:
      *out = fabs(x[0]);
      return true;
    case OP_FLOOR:
      *out = floor(x[0]);
      return true;
    case OP_TRUNC:
      *out = trunc(x[0]);
      return true;
    case OP_SIGN:
      *out = (x[0] > 0) - (x[0] < 0);
      return true;
    case OP_MOD: /* of such numbers, whatever the sign of a rest is */
      *out = x[1] > 0 ? fmod(x[0], x[1]) : 0;
      return x[0] >= 0 && x[1] > 0;
    default:
      return apply_to_number(op, x[0], x[1], false, out);
  }
}

/* Whether a size is that of all rows: of all routes, or those of masks. */
static bool has_all_rows(const moe_fact_t *route, const expr_t *size) {
  if (route->linear != NULL) return size == route->space->out[0].type.dim[1];
  return size == route->source->routes ||
         (route->space->code == OP_CONCAT &&
          size == route->space->out[0].type.dim[0]);
}

/* A quotient of the route's number that was taken in floats. Such a chain is
 * piecewise linear; it is compared with the token on many numbers. */
static const moe_fact_t *token_by_steps(moe_facts_t *facts, ir_value_t *value) {
  enum { FIRST = 512, MOST = 1 << 23 };
  const moe_fact_t *route = NULL;
  int64_t k;
  double got;
  if (!dtype_is_integer(value->type.dtype) || value->type.rank == 0 ||
      !number_of_route(facts, value, 0, 0, &route, &got) || route == NULL ||
      !expr_is_const(route->source->k, &k) ||
      !has_all_rows(route, ir_type_count(facts->pool, &value->type)))
    return NULL;
  for (int64_t r = 0; r < MOST; r = r < FIRST ? r + 1 : r + r / 3) {
    int64_t token = r / k;
    if (!number_of_route(facts, value, (double)r, 0, &route, &got) ||
        got != (double)token)
      return NULL;
  }
  moe_fact_t *out = moe_token_of(facts, route);
  for (unsigned d = 0; d < value->type.rank; d++)
    out->tag[d] = rule_is_one(value->type.dim[d]) ? TAG_INNER : TAG_ROW;
  return out;
}

static const moe_fact_t *bound_difference(moe_facts_t *facts,
                                          ir_value_t *value) {
  const moe_fact_t *a = moe_fact(facts, ir_in(value->def, 0));
  const moe_fact_t *b = moe_fact(facts, ir_in(value->def, 1));
  if (value->def->code != OP_SUB || a->kind != FACT_BOUND ||
      a->source != b->source)
    return NULL;
  bool is_count = b->kind == FACT_BOUND && b->first == a->first - 1;
  bool is_bound = b->kind == FACT_COUNT && b->first == a->first - 1;
  if (!is_count && !is_bound) return NULL;
  moe_fact_t *out = moe_fact_copy(facts, b);
  out->kind = is_count ? FACT_COUNT : FACT_BOUND;
  out->first = a->first - 1;
  return out;
}

/* An operand's number for each expert: a constant, or a function of it. */
typedef struct number {
  bool known, fixed;
  double x;
  const double *map;      /* NULL: the expert */
  const moe_fact_t *gate; /* or its element for the gate's own expert */
} number_t;

static number_t number_of(moe_facts_t *facts, const moe_fact_t *lead,
                          ir_value_t *operand) {
  const moe_fact_t *fact = moe_fact(facts, operand);
  number_t number = {.map = fact->map};
  number.fixed = moe_fill_number(operand, &number.x);
  bool compares = fact->kind == FACT_GATE && fact->expert >= 0 &&
                  fact->off.known && fact->on.known;
  if (!number.fixed && compares && fact->source == lead->source &&
      fact->space == lead->space && rule_is_one(lead->source->k)) {
    number.gate = fact;
    number.known = true;
    return number;
  }
  number.known = number.fixed ||
                 (fact->kind == FACT_EXPERT && fact->source == lead->source &&
                  fact->space == lead->space && fact->slot == lead->slot);
  return number;
}

static double number_at(const number_t *number, int64_t expert) {
  if (number->fixed) return number->x;
  if (number->gate != NULL)
    return number->gate->expert == expert ? number->gate->on.x
                                          : number->gate->off.x;
  return number->map != NULL ? number->map[expert] : (double)expert;
}

/* Choices that were renamed, some to the same expert: a router of fewer
 * experts, where values are still one for each slot. NULL: they were not. */
static const moe_fact_t *renamed_router(moe_facts_t *facts, ir_value_t *value,
                                        const moe_fact_t *fact,
                                        const double *map) {
  int64_t n = fact->source->experts, fewer = 0;
  int slot = -1;
  if (fact->space != NULL || fact->slot >= 0) return NULL;
  for (int64_t e = 0; e < n; e++) {
    if (!(map[e] >= 0 && map[e] < (double)n) || map[e] != floor(map[e]))
      return NULL;
    if ((int64_t)map[e] >= fewer) fewer = (int64_t)map[e] + 1;
  }
  for (unsigned d = 0; d < value->type.rank; d++) {
    if (fact->tag[d] == TAG_SLOT && slot < 0)
      slot = (int)d;
    else if (fact->tag[d] != TAG_TOKEN)
      return NULL;
  }
  return fewer < n && fewer >= 2 ? moe_new_router(facts, value, slot, fewer,
                                                  rule_is_one(fact->source->k))
                                 : NULL;
}

/* A choice between functions of the expert: one of those from below 0, say. */
static const moe_fact_t *choose_number(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *lead = &moe_no_fact;
  number_t in[3];
  if (op->code != OP_SELECT ||
      !rule_same_dims(&ir_in(op, 0)->type, &value->type))
    return NULL;
  for (unsigned i = 0; i < 3 && lead->kind != FACT_EXPERT; i++)
    if (rule_same_dims(&ir_in(op, i)->type, &value->type))
      lead = moe_fact(facts, ir_in(op, i));
  if (lead->kind != FACT_EXPERT) return NULL;
  for (unsigned i = 0; i < 3; i++) in[i] = number_of(facts, lead, ir_in(op, i));
  double *map = in[0].known ? new_map(facts, lead->source) : NULL;
  for (int64_t e = 0; map != NULL && e < lead->source->experts; e++) {
    const number_t *chosen = &in[number_at(&in[0], e) != 0 ? 1 : 2];
    if (!chosen->known) return NULL;
    map[e] = number_at(chosen, e);
  }
  if (map == NULL) return NULL;
  const moe_fact_t *renamed = renamed_router(facts, value, lead, map);
  return renamed != NULL ? renamed : with_map(facts, lead, map);
}

/* Choices of which a condition leaves some: the others get a number that is no
 * expert's. That is a router of its own, which names none for them. */
static const moe_fact_t *left_number(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  for (unsigned side = 1; side < 3 && op->code == OP_SELECT; side++) {
    const ir_value_t *from = ir_in(op, side);
    const moe_fact_t *fact = moe_fact(facts, ir_in(op, side));
    double none;
    int slot = -1;
    if (!moe_is_expert(fact) || fact->space != NULL || fact->slot >= 0 ||
        !rule_same_dims(&from->type, &value->type) ||
        !moe_fill_number(ir_in(op, 3 - side), &none) ||
        (none >= 0 && none < (double)fact->source->experts))
      continue;
    for (unsigned d = 0; d < value->type.rank; d++) {
      if (fact->tag[d] == TAG_SLOT && slot < 0)
        slot = (int)d;
      else if (fact->tag[d] != TAG_TOKEN)
        return NULL;
    }
    moe_fact_t *left = moe_fact_copy(
        facts, moe_new_router(facts, value, slot, fact->source->experts,
                              fact->source->distinct));
    left->kind = FACT_LABEL;
    ((moe_source_t *)left->source)->some = true; /* it is being made */
    return left;
  }
  return NULL;
}

/* Numbers of which a conversion changes nothing; the others have rules. */
static bool passes_through(const ir_op_t *op, const moe_fact_t *fact) {
  if (fact->kind == FACT_LABEL) /* it may be any number */
    return rule_cast_holds(ir_in(op, 0)->type.dtype, op->out[0].type.dtype);
  return fact->kind != FACT_GATE && fact->kind != FACT_RANK &&
         fact->kind != FACT_BUFFER && fact->kind != FACT_TOTAL;
}

const moe_fact_t *moe_rule_number(moe_facts_t *facts, ir_value_t *value) {
  const ir_op_t *op = value->def;
  const moe_fact_t *a = moe_fact(facts, ir_in(op, 0));
  const moe_fact_t *rank = moe_rule_rank(facts, value);
  if (rank != NULL) return rank;
  if (op->code == OP_NEG && a->kind == FACT_EXPERT)
    return map_experts(facts, value, a, 0, false);
  if (op->n_in == 1)
    return op->code != OP_CAST      ? NULL
           : a->kind == FACT_EXPERT ? map_experts(facts, value, a, 0, false)
           : a->kind == FACT_NONE   ? token_by_steps(facts, value)
           : passes_through(op, a)  ? a
                                    : NULL;
  if (op->n_in == 3) {
    const moe_fact_t *chosen = choose_number(facts, value);
    return chosen != NULL ? chosen : left_number(facts, value);
  }
  if (op->n_in != 2) return NULL;
  const moe_fact_t *b = moe_fact(facts, ir_in(op, 1));
  const moe_fact_t *groups = moe_rule_group(facts, value);
  if (groups != NULL) return groups;
  const moe_fact_t *difference = bound_difference(facts, value);
  if (difference != NULL) return difference;
  const moe_fact_t *token = token_of_route(facts, value, a);
  if (token != NULL) return token;
  if (op->code == OP_SUB && a->kind == FACT_TOKEN && b->kind == FACT_NONE)
    return token_by_steps(facts, value); /* a quotient, rounded down */
  if (a->linear != NULL || b->linear != NULL)
    return op->code == OP_ADD || op->code == OP_MUL
               ? combine_coordinates(facts, value)
               : NULL;
  bool swap = b->kind == FACT_EXPERT;
  const moe_fact_t *fact = swap ? b : a;
  double other;
  if (!moe_fill_number(ir_in(op, swap ? 0 : 1), &other)) return NULL;
  if (fact->kind == FACT_EXPERT &&
      ir_in(op, swap ? 1 : 0)->type.rank == value->type.rank)
    return map_experts(facts, value, fact, other, swap);
  bool limits =
      (op->code == OP_MAX && other <= 0) || (op->code == OP_ADD && other == 0);
  bool counts = fact->kind == FACT_COUNT || fact->kind == FACT_BOUND ||
                fact->kind == FACT_ROUTE || fact->kind == FACT_TOKEN;
  return limits && counts ? fact : NULL;
}
