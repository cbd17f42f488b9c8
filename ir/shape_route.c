/* Shape law of moe.route. */
#include "ir/route.h"
#include "ir/shape.h"

typedef struct law {
  ir_module_t *module;
  const ir_op_t *op;
  route_t route;
  const expr_t *T, *E;
  diag_sink_t *diag;
} law_t;

static moec_status_t check_operand(const law_t *l, unsigned index,
                                   const expr_t *rows, const expr_t *columns,
                                   dtype_t dtype) {
  const ir_op_t *op = l->op;
  if (ir_in(op, index) == NULL) return MOEC_OK;
  const ir_type_t *type = shape_in(op, index);
  unsigned rank = rows != NULL ? 2 : 1;
  if (type->rank != rank || type->dtype != dtype ||
      (rows != NULL && shape_differ(l->module, type->dim[0], rows)) ||
      shape_differ(l->module, type->dim[rank - 1], columns))
    return diag_error(l->diag, op->loc, MOEC_E_INVALID_MODEL,
                      "operand %u of moe.route is %s, expected %s[%s%s%s]",
                      index, shape_str(l->module, type), dtype_name(dtype),
                      rows != NULL ? shape_expr_str(l->module, rows) : "",
                      rows != NULL ? ", " : "",
                      shape_expr_str(l->module, columns));
  return MOEC_OK;
}

static bool is_routed(dtype_t dtype) {
  step_info_t step;
  return route_step_by_name(dtype_name(dtype), &step);
}

static moec_status_t check_operands(law_t *l, diag_sink_t *diag) {
  const ir_op_t *op = l->op;
  const ir_type_t *x = shape_in(op, ROUTE_X);
  if (x->rank != 2 || !is_routed(x->dtype))
    SHAPE_FAIL("operand 0 of moe.route is %s, expected rank 2 of a float type",
               shape_str(l->module, x));
  l->T = x->dim[0];
  l->E = x->dim[1];
  const ir_value_t *gate = ir_in(op, ROUTE_GATE);
  if (gate != NULL) {
    if (gate->type.rank != 2)
      SHAPE_FAIL("the gate of moe.route is %s, expected rank 2",
                 shape_str(l->module, &gate->type));
    l->E = gate->type.dim[1];
    MOEC_TRY(check_operand(l, ROUTE_GATE, x->dim[1], l->E, x->dtype));
  } else if (ir_in(op, ROUTE_GATE_BIAS) != NULL) {
    SHAPE_FAIL("moe.route has a gate's bias but no gate");
  }
  return check_operand(l, ROUTE_GATE_BIAS, NULL, l->E, x->dtype);
}

static moec_status_t check_biases(law_t *l, diag_sink_t *diag) {
  const ir_op_t *op = l->op;
  const route_t *r = &l->route;
  bool mixes = r->source == ROUTE_FROM_MIXING;
  const ir_value_t *mixing = ir_in(op, ROUTE_MIXING);
  if (mixes != (mixing != NULL))
    SHAPE_FAIL("moe.route needs mixing as its source and as operand 5");
  route_types_t types = route_types(r);
  dtype_t choice = r->by_logits ? types.logits : types.score;
  MOEC_TRY(check_operand(l, ROUTE_SELECT_BIAS, NULL, l->E, choice));
  bool scales = route_has_step(&r->weight, STEP_SCALE);
  if (scales != (ir_in(op, ROUTE_EXPERT_SCALE) != NULL))
    SHAPE_FAIL("moe.route needs expert_scale as a step and as operand 4");
  if (mixes && !is_routed(mixing->type.dtype))
    SHAPE_FAIL("operand 5 of moe.route is %s, expected a float type",
               shape_str(l->module, &mixing->type));
  if (mixes)
    MOEC_TRY(check_operand(l, ROUTE_MIXING, l->T, l->E, mixing->type.dtype));
  /* The scale has the type of the weights where it enters. */
  if (!scales) return MOEC_OK;
  route_t before = *r;
  before.weight.n = 0;
  while (r->weight.step[before.weight.n].form != STEP_SCALE) before.weight.n++;
  dtype_t dtype = route_types(&before).weight;
  return check_operand(l, ROUTE_EXPERT_SCALE, NULL, l->E, dtype);
}

static unsigned count_steps(const route_steps_t *steps, step_form_t form) {
  unsigned n = 0;
  for (unsigned i = 0; i < steps->n; i++) n += steps->step[i].form == form;
  return n;
}

/* Divisors have the type of what they divide. */
static bool norm_fits(const route_t *r) {
  route_t part = *r;
  for (part.weight.n = 0; part.weight.n < r->weight.n; part.weight.n++) {
    step_form_t form = r->weight.step[part.weight.n].form;
    if (form != STEP_DIVIDE && form != STEP_TIMES) continue;
    dtype_t dtype = route_types(&part).weight, norm = dtype;
    for (unsigned i = 0; i < r->norm.n; i++)
      if (r->norm.step[i].form == STEP_CAST) norm = r->norm.step[i].dtype;
    if (norm != dtype) return false;
  }
  return true;
}

static moec_status_t check_steps(const law_t *l, diag_sink_t *diag) {
  const ir_op_t *op = l->op;
  const route_t *r = &l->route;
  unsigned norms = count_steps(&r->weight, STEP_DIVIDE) +
                   count_steps(&r->weight, STEP_TIMES);
  if (norms > 1 || count_steps(&r->weight, STEP_SCALE) > 1)
    SHAPE_FAIL("the weights of moe.route are divided or scaled twice");
  if (count_steps(&r->norm, STEP_SUM) != norms || (norms == 0 && r->norm.n > 0))
    SHAPE_FAIL("norm of moe.route needs one sum and a step that uses it");
  if (!norm_fits(r))
    SHAPE_FAIL("norm of moe.route has another type than the weights");
  return MOEC_OK;
}

static moec_status_t check_groups(const law_t *l, int64_t E,
                                  diag_sink_t *diag) {
  const ir_op_t *op = l->op;
  const route_t *r = &l->route;
  if (r->groups == 0) return MOEC_OK;
  if (r->groups < 1 || E % r->groups != 0)
    SHAPE_FAIL("%lld experts are not %lld groups of equal size", (long long)E,
               (long long)r->groups);
  if (r->groups_kept < 1 || r->groups_kept > r->groups)
    SHAPE_FAIL("groups_kept = %lld, expected 1..%lld",
               (long long)r->groups_kept, (long long)r->groups);
  if (r->group_best < 1 || r->group_best > E / r->groups)
    SHAPE_FAIL("group_best = %lld, expected 1..%lld", (long long)r->group_best,
               (long long)(E / r->groups));
  return MOEC_OK;
}

static moec_status_t check_selection(const law_t *l, diag_sink_t *diag) {
  const ir_op_t *op = l->op;
  const route_t *r = &l->route;
  int64_t E;
  if (!expr_is_const(l->E, &E))
    SHAPE_FAIL("the number of experts, %s, is not constant",
               shape_expr_str(l->module, l->E));
  if (r->k < 1 || r->k > E)
    SHAPE_FAIL("k = %lld, expected 1..%lld", (long long)r->k, (long long)E);
  if (!r->rounds &&
      (r->source == ROUTE_FROM_LARGEST || r->source == ROUTE_FROM_MIXER))
    SHAPE_FAIL("the source %s of moe.route needs rounds",
               route_source_name(r->source));
  if (r->source == ROUTE_FROM_MIXER &&
      (r->score.n > 0 || r->groups > 0 || r->in[ROUTE_SELECT_BIAS] != NULL ||
       r->remove_multiply))
    SHAPE_FAIL("the source mixer of moe.route takes the logits as they are");
  return check_groups(l, E, diag);
}

moec_status_t infer_moe_route(ir_module_t *module, ir_op_t *op,
                              diag_sink_t *diag) {
  law_t l = {.module = module, .op = op, .diag = diag};
  const char *what;
  if (!route_read(op, &l.route, &what))
    SHAPE_FAIL("'%s' of moe.route is not one of its steps, values or sources",
               what);
  MOEC_TRY(check_operands(&l, diag));
  MOEC_TRY(check_biases(&l, diag));
  MOEC_TRY(check_steps(&l, diag));
  MOEC_TRY(check_selection(&l, diag));
  const expr_t *dim[] = {l.T, expr_const(module->exprs, l.route.k)};
  MOEC_TRY(shape_set(module, op, 0, DT_I64, 2, dim, diag));
  return shape_set(module, op, 1, route_types(&l.route).weight, 2, dim, diag);
}
