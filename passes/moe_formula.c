/* Activations, found among the factors of a product in whatever order these
 * stand. */
#include "passes/moe_formula.h"

#include <math.h>
#include <string.h>

#include "passes/rules.h"

/* ---- Looking ------------------------------------------------------------- */

/* The value behind views, copies and conversions. */
const ir_value_t *formula_look(const ir_value_t *v) {
  while (v != NULL && v->def != NULL) {
    switch (v->def->code) {
      case OP_RESHAPE:
      case OP_EXPAND:
      case OP_CAST:
      case OP_TRANSPOSE:
        v = ir_in(v->def, 0);
        break;
      case OP_CONCAT:
        if (v->def->n_in != 1) return v;
        v = ir_in(v->def, 0);
        break;
      default:
        return v;
    }
  }
  return v;
}

const ir_op_t *formula_def(const ir_value_t *v, ir_opcode_t code) {
  v = formula_look(v);
  return v != NULL && v->def != NULL && v->def->code == code ? v->def : NULL;
}

static bool same(const ir_value_t *a, const ir_value_t *b) {
  a = formula_look(a);
  b = formula_look(b);
  if (a == b) return true;
  const ir_op_t *p = formula_def(a, OP_SLICE), *q = formula_def(b, OP_SLICE);
  if (p == NULL || q == NULL) return false;
  static const ir_attr_id_t attrs[] = {ATTR_SLICE_start, ATTR_SLICE_length,
                                       ATTR_SLICE_step};
  for (unsigned i = 0; i < sizeof attrs / sizeof attrs[0]; i++) {
    unsigned n, m;
    const expr_t *const *x = ir_get_exprs(p, attrs[i], &n);
    const expr_t *const *y = ir_get_exprs(q, attrs[i], &m);
    if (n != m || memcmp(x, y, n * sizeof(*x)) != 0) return false;
  }
  return formula_look(p->in[0].value) == formula_look(q->in[0].value);
}

bool formula_number(const ir_value_t *v, double *out) {
  int64_t number;
  v = formula_look(v);
  if (rule_splat_float(v, out)) return true;
  if (!rule_splat_int(v, &number)) return false;
  *out = (double)number;
  return true;
}

bool formula_is_near(double x, double y) { return fabs(x - y) <= 1e-3 * y; }

/* ---- Products ------------------------------------------------------------ */

static void collect(formula_factors_t *f, const ir_value_t *v, unsigned depth) {
  double number;
  if (f->n > FORMULA_MAX_FACTORS) return; /* given up */
  v = formula_look(v);
  if (formula_number(v, &number)) {
    f->number *= number;
    return;
  }
  const ir_op_t *op = v->def;
  if (op != NULL && depth < FORMULA_MAX_FACTORS) {
    if (op->code == OP_MUL) {
      collect(f, op->in[0].value, depth + 1);
      collect(f, op->in[1].value, depth + 1);
      return;
    }
    if (op->code == OP_DIV && formula_number(op->in[1].value, &number)) {
      f->number /= number;
      collect(f, op->in[0].value, depth + 1);
      return;
    }
    if (op->code == OP_NEG) {
      f->number = -f->number;
      collect(f, op->in[0].value, depth + 1);
      return;
    }
    if (op->code == OP_POW && formula_number(op->in[1].value, &number) &&
        (formula_is_near(number, 2) || formula_is_near(number, 3))) {
      for (int i = 0; i < (int)lround(number); i++)
        collect(f, op->in[0].value, depth + 1);
      return;
    }
  }
  if (f->n < FORMULA_MAX_FACTORS) f->factor[f->n] = v;
  f->n++;
}

/* More factors than there is room for leave n above FORMULA_MAX_FACTORS. */
formula_factors_t formula_factors(const ir_value_t *v) {
  formula_factors_t f = {.number = 1};
  collect(&f, v, 0);
  return f;
}

/* Takes factor i out of the list. */
static void take(formula_factors_t *f, unsigned i) {
  f->factor[i] = f->factor[--f->n];
}

/* The index of the factor that is v, or n. */
static unsigned find(const formula_factors_t *f, const ir_value_t *v) {
  unsigned i = 0;
  while (i < f->n && !same(f->factor[i], v)) i++;
  return i;
}

/* The other operand of a sum where one is this number. */
static const ir_value_t *sum_with(const ir_value_t *v, double wanted) {
  const ir_op_t *op = formula_def(v, OP_ADD);
  double number;
  for (unsigned i = 0; op != NULL && i < 2; i++)
    if (formula_number(op->in[i].value, &number) &&
        formula_is_near(number, wanted))
      return formula_look(op->in[1 - i].value);
  return NULL;
}

/* ---- Activations --------------------------------------------------------- */

/* z of 1 / (1 + exp(-z)), however it is spelled, with alpha in front. */
const ir_value_t *formula_inside_sigmoid(const ir_value_t *v, double *alpha) {
  const ir_op_t *op = formula_def(v, OP_SIGMOID);
  double one;
  formula_factors_t f;
  if (op != NULL) {
    f = formula_factors(op->in[0].value);
    *alpha = f.number;
    return f.n == 1 ? f.factor[0] : NULL;
  }
  op = formula_def(v, OP_DIV);
  if (op == NULL || !formula_number(op->in[0].value, &one) ||
      !formula_is_near(one, 1))
    return NULL;
  const ir_value_t *exp = sum_with(op->in[1].value, 1);
  if (exp == NULL || formula_def(exp, OP_EXP) == NULL) return NULL;
  f = formula_factors(exp->def->in[0].value);
  *alpha = -f.number;
  return f.n == 1 ? f.factor[0] : NULL;
}

/* z / (1 + exp(-z)) */
bool formula_divided_silu(const ir_value_t *v, formula_activation_t *a) {
  const ir_op_t *op = formula_def(v, OP_DIV);
  const ir_value_t *exp = op != NULL ? sum_with(op->in[1].value, 1) : NULL;
  if (exp == NULL || formula_def(exp, OP_EXP) == NULL) return false;
  const formula_factors_t f = formula_factors(exp->def->in[0].value);
  if (f.n != 1 || !same(f.factor[0], op->in[0].value)) return false;
  *a = (formula_activation_t){"silu", f.factor[0], -f.number};
  return true;
}

/* 1 + erf(z / sqrt(2)) */
static const ir_value_t *inside_erf(const ir_value_t *v) {
  const ir_value_t *erf = sum_with(v, 1);
  if (erf == NULL || formula_def(erf, OP_ERF) == NULL) return NULL;
  const formula_factors_t f = formula_factors(erf->def->in[0].value);
  return f.n == 1 && formula_is_near(f.number, M_SQRT1_2) ? f.factor[0] : NULL;
}

/* z of z + 0.044715 * z^3, or of z * (1 + 0.044715 * z^2). */
static const ir_value_t *inside_cubic(const ir_value_t *v) {
  const ir_op_t *op = formula_def(v, OP_ADD);
  for (unsigned i = 0; op != NULL && i < 2; i++) {
    const ir_value_t *z = formula_look(op->in[i].value);
    formula_factors_t f = formula_factors(op->in[1 - i].value);
    if (f.n == 3 && formula_is_near(f.number, 0.044715) &&
        same(f.factor[0], z) && same(f.factor[1], z) && same(f.factor[2], z))
      return z;
  }
  return NULL;
}

/* 1 + tanh(sqrt(2 / pi) * (z + 0.044715 * z^3)) */
static const ir_value_t *inside_tanh(const ir_value_t *v) {
  const ir_value_t *tanh = sum_with(v, 1);
  if (tanh == NULL || formula_def(tanh, OP_TANH) == NULL) return NULL;
  const formula_factors_t f = formula_factors(tanh->def->in[0].value);
  if (!formula_is_near(f.number, 0.7978845608)) return NULL;
  if (f.n == 1) return inside_cubic(f.factor[0]);
  for (unsigned i = 0; f.n == 2 && i < 2; i++) {
    const ir_value_t *square = sum_with(f.factor[i], 1);
    if (square == NULL) continue;
    const formula_factors_t g = formula_factors(square);
    if (g.n == 2 && formula_is_near(g.number, 0.044715) &&
        same(g.factor[0], f.factor[1 - i]) && same(g.factor[1], g.factor[0]))
      return formula_look(f.factor[1 - i]);
  }
  return NULL;
}

/* max(z, 0) */
const ir_value_t *formula_inside_relu(const ir_value_t *v) {
  const ir_op_t *op = formula_def(v, OP_MAX);
  double number;
  for (unsigned i = 0; op != NULL && i < 2; i++)
    if (formula_number(op->in[i].value, &number) && number == 0)
      return formula_look(op->in[1 - i].value);
  return NULL;
}

/* Finds an activation among the factors and takes them out. */
bool formula_take_activation(formula_factors_t *f, formula_activation_t *a) {
  for (unsigned i = 0; i < f->n; i++) {
    double alpha = 1;
    const char *name = "silu";
    double left = 1; /* what the number becomes */
    const ir_value_t *z = formula_inside_sigmoid(f->factor[i], &alpha);
    if (z == NULL) {
      alpha = 1;
      name = "gelu";
      left = 2;
      z = inside_erf(f->factor[i]);
    }
    if (z == NULL) {
      name = "gelu_tanh";
      z = inside_tanh(f->factor[i]);
    }
    if (z == NULL) {
      name = "relu^2";
      left = 1;
      z = formula_inside_relu(f->factor[i]) != NULL ? f->factor[i] : NULL;
    }
    if (z == NULL) continue;
    formula_factors_t rest = *f;
    take(&rest, i);
    /* The argument may be a product itself: all its factors have to be here. */
    formula_factors_t wanted = formula_factors(z);
    if (wanted.n > FORMULA_MAX_FACTORS || wanted.number == 0) continue;
    bool all = true;
    for (unsigned w = 0; all && w < wanted.n; w++) {
      unsigned at = find(&rest, wanted.factor[w]);
      all = at < rest.n;
      if (all) take(&rest, at);
    }
    if (!all) continue;
    rest.number = f->number / wanted.number * left;
    *f = rest;
    *a = (formula_activation_t){
        name, left == 1 && name[0] == 'r' ? formula_inside_relu(z) : z, alpha};
    return true;
  }
  return false;
}
