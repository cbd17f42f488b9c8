/* What gates have at the expert of each row, without those of other experts. */
#include <math.h>

#include "passes/moe_limit.h"

typedef struct own {
  moe_limits_t *limits;
  ir_builder_t *b;
  const moe_source_t *source;
  bool anywhere;
  bool counts; /* numbers of routes were met */
  unsigned steps;
} own_t;

bool moe_limits_has_one(const moe_fact_t *fact, const ir_type_t *type) {
  return (moe_tag_union(type->rank, fact->tag) & TAG_SLOT) != 0 ||
         rule_is_one(fact->source->k);
}

/* Dimensions as in the type, but one expert. */
static ir_value_t *fill_out(own_t *o, ir_value_t *x, const ir_type_t *type,
                            unsigned axis) {
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < type->rank; d++)
    dim[d] = d == axis ? expr_const(o->b->module->exprs, 1) : type->dim[d];
  return ir_expand(o->b, x, type->rank, dim);
}

/* What a factor of 0 leaves 0: no infinity, no NaN. */
static bool is_finite(const own_t *o, const ir_value_t *value) {
  double number;
  return dtype_is_integer(value->type.dtype) || moe_is_indicator(value) ||
         moe_limit_number(o->limits->facts, value) != NULL ||
         (moe_fill_number(value, &number) && isfinite(number));
}

/* The numbers of all routes are finite, and so is what these make of them. */
static bool stays_finite(ir_opcode_t code) {
  switch (code) {
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_MIN:
    case OP_MAX:
    case OP_LT:
    case OP_LE:
    case OP_EQ:
    case OP_NOT:
    case OP_AND:
    case OP_OR:
    case OP_CAST:
    case OP_SELECT:
      return true;
    default:
      return false;
  }
}

static ir_value_t *own_of(own_t *o, ir_value_t *value, unsigned from_end);

static ir_value_t *own_of_op(own_t *o, const ir_op_t *op, unsigned from_end) {
  enum { MAX_IN = 3 };
  ir_value_t *in[MAX_IN];
  if (!stays_finite(op->code) || op->n_in > MAX_IN) return NULL;
  bool anywhere = o->anywhere;
  bool compares = op->code == OP_LT || op->code == OP_LE || op->code == OP_EQ;
  o->anywhere = anywhere && !compares; /* true or false, whatever it compares */
  for (unsigned i = 0; i < op->n_in; i++) {
    in[i] = own_of(o, ir_in(op, i), from_end);
    if (in[i] == NULL) return NULL;
  }
  o->anywhere = anywhere;
  ir_op_t *copy = ir_begin(o->b, op->code, op->n_in, in, 1);
  if (copy == NULL) return NULL;
  for (unsigned i = 0; i < op->n_attrs; i++) ir_copy_attr(copy, &op->attrs[i]);
  return ir_place(o->b, copy);
}

/* A view of a gate, which may have its experts elsewhere. */
static ir_value_t *own_of_view(own_t *o, const ir_op_t *op, unsigned axis) {
  ir_value_t *x = ir_in(op, 0);
  const moe_fact_t *fact = moe_fact(o->limits->facts, x);
  if (fact->kind != FACT_GATE || fact->source != o->source) return NULL;
  int at = moe_tag_find(x->type.rank, fact->tag, TAG_EXPERT);
  if (at < 0 || fact->tag[at] != TAG_EXPERT) return NULL;
  ir_value_t *own = own_of(o, x, x->type.rank - 1 - (unsigned)at);
  if (own == NULL || own->type.rank == 0) return own;
  if (op->code == OP_EXPAND) return fill_out(o, own, &op->out[0].type, axis);
  const ir_type_t *type = &op->out[0].type;
  const expr_t *dim[IR_MAX_RANK];
  for (unsigned d = 0; d < type->rank; d++)
    dim[d] = d == axis ? expr_const(o->b->module->exprs, 1) : type->dim[d];
  own = fill_out(o, own, &x->type, (unsigned)at);
  return ir_reshape(o->b, own, type->rank, dim);
}

/* A value whose experts lie so many dimensions in front of the last one. */
static ir_value_t *own_of(own_t *o, ir_value_t *value, unsigned from_end) {
  const ir_type_t *type = &value->type;
  if (o->steps == 0) return NULL;
  o->steps--;
  unsigned axis = type->rank - 1 - from_end;
  if (type->rank <= from_end || rule_is_one(type->dim[axis]))
    return !o->anywhere || is_finite(o, value) ? value : NULL;
  const moe_fact_t *fact = moe_fact(o->limits->facts, value);
  const ir_op_t *op = value->def;
  if (fact->kind == FACT_GATE && fact->source == o->source &&
      fact->tag[axis] == TAG_EXPERT && fact->space == NULL &&
      fact->expert < 0 && fact->places == NULL &&
      moe_limits_has_one(fact, type)) {
    if (fact->on.known && isfinite(fact->on.x))
      return ir_scalar(o->b, type->dtype, fact->on.x);
    if (fact->rank != NULL && fact->given == NULL) {
      ir_value_t *x =
          moe_limits_number(o->limits, o->b, fact->rank, type, fact->tag);
      if (x != NULL) o->counts = true;
      if (x != NULL) return x;
    }
  }
  if (op == NULL) return NULL;
  if (op->code == OP_RESHAPE || op->code == OP_EXPAND)
    return own_of_view(o, op, axis);
  return ir_has_trait(op, ELEMENTWISE) ? own_of_op(o, op, from_end) : NULL;
}

/* Whether some number of routes is met on the way. */
static bool meets_rank(moe_facts_t *facts, ir_value_t *value, unsigned *steps) {
  if (*steps == 0 || value->def == NULL) return false;
  --*steps;
  const moe_fact_t *fact = moe_fact(facts, value);
  if (fact->kind == FACT_GATE && fact->rank != NULL) return true;
  const ir_op_t *op = value->def;
  if (!ir_has_trait(op, ELEMENTWISE) && op->code != OP_RESHAPE &&
      op->code != OP_EXPAND)
    return false;
  for (unsigned i = 0; i < op->n_in; i++)
    if (meets_rank(facts, ir_in(op, i), steps)) return true;
  return false;
}

ir_value_t *moe_limits_own(moe_limits_t *limits, ir_builder_t *b,
                           const moe_source_t *source, ir_value_t *value,
                           unsigned axis, bool anywhere) {
  enum { MAX_STEPS = 64 };
  unsigned steps = MAX_STEPS;
  if (!meets_rank(limits->facts, value, &steps)) return NULL;
  own_t o = {.limits = limits,
             .b = b,
             .source = source,
             .anywhere = anywhere,
             .steps = MAX_STEPS};
  ir_value_t *own = own_of(&o, value, value->type.rank - 1 - axis);
  if (own == NULL || !o.counts || own->type.rank == 0) return NULL;
  return fill_out(&o, own, &value->type, axis);
}
