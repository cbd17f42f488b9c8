/* Routes that a limit on their numbers drops: the limit becomes the capacity of
 * the moe.limit that counts them. */
#include <math.h>

#include "passes/moe_limit.h"

/* ---- Limits -------------------------------------------------------------- */

/* A number of routes as the place that a moe.limit gives, plus an offset. */
typedef struct number {
  const ir_op_t *limit;
  int64_t column; /* of its places; -1: all of them */
  int64_t offset;
} number_t;

static bool read_number(const ir_value_t *value, number_t *out);

/* The columns of all slots, side by side. */
static bool read_columns(const ir_op_t *op, number_t *out) {
  if (ir_get_int(op, ATTR_CONCAT_axis) != (int64_t)op->out[0].type.rank - 1)
    return false;
  for (unsigned i = 0; i < op->n_in; i++) {
    number_t one;
    if (!read_number(ir_in(op, i), &one) || one.column != (int64_t)i ||
        (i > 0 && (one.limit != out->limit || one.offset != out->offset)))
      return false;
    *out = one;
  }
  out->column = -1;
  return expr_equals_const(out->limit->out[1].type.dim[1], op->n_in);
}

static bool read_number(const ir_value_t *value, number_t *out) {
  enum { MAX_STEPS = 16, MAX_OFFSET = 1 << 20 };
  int64_t offset = 0;
  double by;
  for (unsigned i = 0; i < MAX_STEPS && value->def != NULL; i++) {
    const ir_op_t *op = value->def;
    switch (op->code) {
      case OP_RESHAPE:
        value = ir_in(op, 0);
        break;
      case OP_CAST:
        if (!isinf(moe_exact_below(value->type.dtype))) return false;
        value = ir_in(op, 0);
        break;
      case OP_ADD:
      case OP_SUB:
        if (!moe_fill_number(ir_in(op, 1), &by) ||
            fabs(by) > (double)MAX_OFFSET || by != floor(by))
          return false;
        offset += (int64_t)(op->code == OP_ADD ? by : -by);
        value = ir_in(op, 0);
        break;
      case OP_CONCAT:
        if (!read_columns(op, out)) return false;
        out->offset += offset;
        return true;
      case OP_SLICE: {
        unsigned n;
        const expr_t *const *start = ir_get_exprs(op, ATTR_SLICE_start, &n);
        int64_t column;
        const ir_value_t *x = ir_in(op, 0);
        if (x->def == NULL || x->def->code != OP_MOE_LIMIT || x->index != 1 ||
            !expr_is_const(start[1], &column) || !rule_slices_all(op, 0) ||
            !rule_is_one(value->type.dim[1]))
          return false;
        *out = (number_t){x->def, column, offset};
        return true;
      }
      case OP_MOE_LIMIT: {
        bool single = rule_is_one(value->type.dim[1]);
        *out = (number_t){op, single ? 0 : -1, offset};
        return value->index == 1;
      }
      default:
        return false;
    }
  }
  return false;
}

/* A condition number < limit, or <= limit. */
typedef struct below {
  number_t number;
  ir_value_t *limit;
  bool or_equal;
} below_t;

static bool read_below(const ir_op_t *op, below_t *out) {
  if (op->code != OP_LT && op->code != OP_LE) return false;
  out->or_equal = op->code == OP_LE;
  out->limit = ir_in(op, 1);
  const ir_type_t *type = &out->limit->type;
  return rule_has_one_element(type) && type->dtype != DT_F16 &&
         type->dtype != DT_BF16 && read_number(ir_in(op, 0), &out->number);
}

static bool precedes(const ir_op_t *op, const ir_builder_t *b) {
  if (op->parent != b->region) return ir_region_holds(op->parent, b->region);
  for (const ir_op_t *at = b->before; at != NULL; at = at->prev)
    if (at == op) return true;
  return false;
}

bool moe_limits_known(const moe_limits_t *limits, const expr_t *e,
                      const ir_builder_t *b) {
  for (unsigned i = 0; i < limits->facts->n_symbols; i++) {
    const ir_op_t *bind = limits->facts->bound_by[i];
    if (bind == NULL) continue;
    const expr_t *symbol = ir_get_expr(bind, ATTR_BIND_symbol);
    if (expr_mentions(e, expr_as_symbol(symbol)) && !precedes(bind, b))
      return false;
  }
  return true;
}

/* A number that is known in front of a place; NULL: it is not. */
static ir_value_t *known_before(const moe_limits_t *limits, ir_builder_t *b,
                                ir_value_t *value) {
  const expr_t *e = moe_known_number(value);
  ir_op_t *op = value->def;
  if (op == NULL || precedes(op, b)) return value;
  if (op->code == OP_CONSTANT)
    return ir_place(b, ir_clone(b->module, op, NULL, NULL));
  return e != NULL && moe_limits_known(limits, e, b) ? ir_expr_scalar(b, e)
                                                     : NULL;
}

/* The capacity of a moe.limit: an expression, or what makes numbers below a
 * limit have a place. */
typedef struct capacity {
  const expr_t *size; /* or NULL */
  below_t below;
} capacity_t;

/* It in front of `b`; NULL: it is not known there. */
static ir_value_t *put_capacity(const moe_limits_t *limits, ir_builder_t *b,
                                const capacity_t *capacity) {
  const below_t *below = &capacity->below;
  if (capacity->size != NULL)
    return moe_limits_known(limits, capacity->size, b)
               ? ir_expr_scalar(b, capacity->size)
               : NULL;
  ir_value_t *x = below->limit;
  int64_t by = below->or_equal - below->number.offset;
  while (x->def != NULL &&
         (x->def->code == OP_CAST || x->def->code == OP_RESHAPE) &&
         dtype_is_integer(ir_in(x->def, 0)->type.dtype))
    x = ir_in(x->def, 0);
  x = known_before(limits, b, x);
  if (x == NULL) return NULL;
  if (dtype_is_float(x->type.dtype)) { /* NaN is a capacity of 0 */
    x = ir_unary(b, below->or_equal ? OP_FLOOR : OP_CEIL, x);
    if (by != 0)
      x = ir_binary(b, OP_ADD, x, ir_scalar(b, x->type.dtype, (double)by));
    by = 0;
  }
  x = ir_reshape(b, ir_cast(b, x, DT_I64), 0, NULL);
  return by != 0 ? ir_binary(b, OP_ADD, x, ir_scalar_int(b, DT_I64, by)) : x;
}

/* A moe.limit like one that is there, with a capacity, instead of it; or in
 * front of `at`, where the capacity is known only there: then routes are
 * counted once more. NULL: it is not known there either. */
static ir_op_t *limit_by(moe_limits_t *limits, moe_counted_t *counted,
                         const capacity_t *capacity, ir_op_t *at) {
  ir_op_t *op = counted->op;
  if (counted->kept != NULL) /* another capacity would count otherwise */
    return counted->kept == capacity->size ? op : NULL;
  ir_builder_t b = {.module = limits->ctx->module,
                    .region = op->parent,
                    .before = op,
                    .loc = op->loc,
                    .diag = limits->ctx->diag};
  ir_value_t *in[2] = {ir_in(op, 0), put_capacity(limits, &b, capacity)};
  bool instead = in[1] != NULL && ir_in(op, 1) == NULL;
  if (!instead) {
    b.region = at->parent;
    b.before = at;
    in[1] = put_capacity(limits, &b, capacity);
  }
  if (in[1] == NULL) return NULL;
  ir_op_t *limit = ir_begin(&b, OP_MOE_LIMIT, 2, in, 3);
  if (limit == NULL) return NULL;
  for (unsigned i = 0; i < op->n_attrs; i++) ir_copy_attr(limit, &op->attrs[i]);
  if (ir_place(&b, limit) == NULL) return NULL;
  if (!instead) return limit;
  for (unsigned i = 0; i < op->n_out; i++)
    ir_replace_uses(&op->out[i], &limit->out[i]);
  counted->op = limit;
  return limit;
}

/* ---- Dropping ------------------------------------------------------------ */

enum { MAX_CONDITIONS = 8 };

typedef struct conditions {
  const moe_source_t *source;
  const moe_limits_t *limits;
  bool limited;
  below_t below;
  unsigned n;
  ir_value_t *other[MAX_CONDITIONS]; /* one for each route */
} conditions_t;

static moe_counted_t *counted_by(const moe_limits_t *limits,
                                 const ir_op_t *op) {
  moe_counted_t *c = limits->counted;
  while (c != NULL && c->op != op) c = c->next;
  return c;
}

/* Whether it is a limit on the numbers of all routes of the router. */
static bool take_limit(conditions_t *c, const ir_op_t *op) {
  below_t below;
  if (c->limited || !read_below(op, &below)) return false;
  const moe_counted_t *counted = counted_by(c->limits, below.number.limit);
  bool all = below.number.column < 0 || rule_is_one(c->source->k);
  if (counted == NULL || counted->source != c->source || !all) return false;
  c->below = below;
  c->limited = true;
  return true;
}

/* The operands of `and`, or of a product of indicators, each of them for all
 * routes; *out_n: how many of them are not always true. False: it is neither.
 */
static bool read_and(const ir_op_t *op, ir_value_t **out, unsigned *out_n) {
  *out_n = 0;
  if (op->code != OP_AND && op->code != OP_MUL) return false;
  for (unsigned i = 0; i < 2; i++) {
    ir_value_t *x = ir_in(op, i);
    double number;
    if (moe_fill_number(x, &number) && number == 1) continue;
    if (!moe_is_indicator(x) || !rule_same_dims(&x->type, &op->out[0].type))
      return false;
    out[(*out_n)++] = x;
  }
  return true;
}

/* 0 <= number where a condition holds, else a negative one: the condition, as
 * no place is negative. NULL: it is something else. */
static ir_value_t *read_guard(const ir_op_t *op) {
  enum { MAX_VIEWS = 4 };
  double zero, none;
  number_t number;
  if (op->code != OP_LE || !moe_fill_number(ir_in(op, 0), &zero) || zero != 0)
    return NULL;
  const ir_op_t *choice = ir_in(op, 1)->def;
  for (unsigned i = 0; i < MAX_VIEWS && choice != NULL; i++) {
    if (choice->code != OP_RESHAPE &&
        (choice->code != OP_CAST ||
         !isinf(moe_exact_below(choice->out[0].type.dtype))))
      break;
    choice = ir_in(choice, 0)->def;
  }
  if (choice == NULL || choice->code != OP_SELECT ||
      !rule_same_dims(&ir_in(choice, 0)->type, &choice->out[0].type) ||
      !moe_fill_number(ir_in(choice, 2), &none) || none > -1 ||
      !read_number(ir_in(choice, 1), &number) || number.offset < 0)
    return NULL;
  return ir_in(choice, 0);
}

/* The parts of a condition, which holds where a value is not 0; views keep the
 * order of routes. */
static bool take_conditions(conditions_t *c, ir_value_t *value,
                            unsigned depth) {
  enum { MAX_NESTED = 16 };
  const ir_op_t *op = value->def;
  ir_value_t *part[2];
  unsigned n;
  if (op != NULL && depth < MAX_NESTED) {
    if (read_and(op, part, &n)) {
      for (unsigned i = 0; i < n; i++)
        if (!take_conditions(c, part[i], depth + 1)) return false;
      return true;
    }
    bool same = op->code == OP_RESHAPE;
    if (op->code == OP_CAST)
      same = value->type.dtype == DT_BOOL ||
             !dtype_is_float(ir_in(op, 0)->type.dtype);
    if (same) return take_conditions(c, ir_in(op, 0), depth + 1);
    ir_value_t *guard = read_guard(op);
    if (guard != NULL) return take_conditions(c, guard, depth + 1);
    if (take_limit(c, op)) return true;
  }
  if (c->n == MAX_CONDITIONS) return false;
  c->other[c->n++] = value;
  return true;
}

const ir_op_t *moe_limits_settle(moe_limits_t *limits, const moe_found_t *found,
                                 ir_op_t *experts) {
  ir_op_t *choice = ir_in(experts, 0)->def;
  conditions_t c = {.source = found->source, .limits = limits};
  if (choice == NULL || choice->code != OP_SELECT ||
      !take_conditions(&c, ir_in(choice, 0), 0) || !c.limited)
    return NULL;
  const capacity_t capacity = {.below = c.below};
  ir_op_t *limit = limit_by(limits, counted_by(limits, c.below.number.limit),
                            &capacity, choice);
  if (limit == NULL) return NULL;
  ir_builder_t b = {.module = limits->ctx->module,
                    .region = choice->parent,
                    .before = choice,
                    .loc = choice->loc,
                    .diag = limits->ctx->diag};
  const ir_type_t *type = &choice->out[0].type;
  ir_value_t *kept = ir_reshape(&b, &limit->out[0], type->rank, type->dim);
  ir_value_t *rest = NULL;
  for (unsigned i = 0; i < c.n; i++) {
    ir_value_t *other = ir_cast(&b, c.other[i], DT_BOOL);
    other = ir_reshape(&b, other, type->rank, type->dim);
    rest = rest == NULL ? other : ir_binary(&b, OP_AND, rest, other);
  }
  if (rest != NULL) kept = ir_select(&b, rest, kept, ir_in(choice, 2));
  if (kept == NULL || b.status != MOEC_OK) return NULL;
  ir_set_operand(experts, 0, kept);
  return limit;
}

/* The moe.limit that counts the routes in the buffers of a layer's experts;
 * NULL: they are not all counted from 0 by one of them. */
static moe_counted_t *counted_places(moe_limits_t *limits,
                                     const moe_found_t *found,
                                     const ir_op_t *at) {
  const moe_places_t *places = found->places;
  const moe_source_t *source = found->source;
  moe_counted_t *all = NULL;
  const moe_rank_t *first = places->n == 1 ? places->of[0].rank : NULL;
  unsigned n = first != NULL && first->n_parts > 0 ? first->n_parts : places->n;
  for (unsigned i = 0; i < n; i++) {
    const moe_rank_t *rank = first == NULL         ? places->of[i].rank
                             : first->n_parts == 0 ? first
                                                   : first->part[i];
    const moe_source_t *counted;
    if (rank == NULL || rank->gaps || rank->offset != 0) return NULL;
    ir_value_t *x = moe_limits_count(limits, rank, at, &counted);
    number_t number;
    if (x == NULL || !read_number(x, &number)) return NULL;
    moe_counted_t *c = counted_by(limits, number.limit);
    bool own = n == 1 ? counted == source : counted == source->part[i];
    bool placed = n == 1 ? number.column < 0 || rule_is_one(source->k)
                         : number.column == (int64_t)i;
    if (!own || !placed || c->source != source || (i > 0 && c != all))
      return NULL;
    all = c;
  }
  return n == 1 || n == source->n_parts ? all : NULL;
}

ir_value_t *moe_limits_keep(moe_limits_t *limits, const moe_found_t *found,
                            ir_op_t *at, const ir_op_t **out_limit) {
  if (found->places == NULL) return NULL;
  moe_counted_t *c = counted_places(limits, found, at);
  if (c == NULL) return NULL;
  const capacity_t capacity = {.size = found->capacity};
  const ir_op_t *limit = limit_by(limits, c, &capacity, at);
  *out_limit = limit;
  return limit != NULL ? &limit->out[0] : NULL;
}
