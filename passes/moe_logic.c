/* Conditions of a row are formulas of comparisons with constants and of truths
 * that nothing is known of. Of a number only matters where it lies among the
 * constants that it is compared with, so that there are few ways to look at. */
#include "passes/moe_logic.h"

#include <math.h>

#include "passes/rules.h"

enum { MAX_ATOMS = 12, MAX_POINTS = 64, MAX_WAYS = 1 << 12, MAX_STEPS = 256 };

typedef struct atom {
  const ir_value_t *value; /* a truth, or what is compared */
  unsigned n, at;          /* points, the one that is looked at */
  double point[MAX_POINTS];
} atom_t;

typedef struct logic {
  const ir_type_t *rows;
  unsigned n, steps;
  atom_t atom[MAX_ATOMS];
} logic_t;

/* Behind shapes: the elements in the same order. */
static const ir_value_t *behind_shapes(const ir_value_t *value) {
  while (value->def != NULL && value->def->code == OP_RESHAPE)
    value = value->def->in[0].value;
  return value;
}

/* The same dimensions but for those of size 1. */
static bool same_rows(const ir_type_t *a, const ir_type_t *b) {
  unsigned i = 0, j = 0;
  for (;; i++, j++) {
    while (i < a->rank && rule_is_one(a->dim[i])) i++;
    while (j < b->rank && rule_is_one(b->dim[j])) j++;
    if (i == a->rank || j == b->rank) return i == a->rank && j == b->rank;
    if (a->dim[i] != b->dim[j]) return false;
  }
}

static bool constant_of(const ir_value_t *value, double *out) {
  const int64_t exact = INT64_C(1) << 53;
  int64_t number;
  if (rule_splat_float(value, out)) return isfinite(*out);
  *out = 0;
  if (!rule_splat_int(value, &number) || number > exact || number < -exact)
    return false;
  *out = (double)number;
  return true;
}

/* A comparison of a value with a constant: which operand is the value. */
static bool is_comparison(const ir_op_t *op, unsigned *out_side, double *out) {
  if ((op->code != OP_LT && op->code != OP_LE && op->code != OP_EQ) ||
      op->in[0].value->type.dtype == DT_BOOL)
    return false;
  for (*out_side = 0; *out_side < 2; ++*out_side)
    if (constant_of(op->in[1 - *out_side].value, out)) return true;
  return false;
}

static atom_t *atom_of(logic_t *l, const ir_value_t *value) {
  value = behind_shapes(value);
  for (unsigned i = 0; i < l->n; i++)
    if (l->atom[i].value == value) return &l->atom[i];
  if (l->n == MAX_ATOMS || !same_rows(l->rows, &value->type)) return NULL;
  atom_t *atom = &l->atom[l->n++];
  *atom = (atom_t){.value = value};
  return atom;
}

static bool is_formula(const ir_op_t *op) {
  return op != NULL && (op->code == OP_AND || op->code == OP_OR ||
                        op->code == OP_NOT || op->code == OP_XOR);
}

/* Collects what a condition depends on: constants of each number. */
static bool see(logic_t *l, const ir_value_t *value) {
  unsigned side;
  double x;
  value = behind_shapes(value);
  const ir_op_t *op = value->def;
  if (++l->steps > MAX_STEPS || !same_rows(l->rows, &value->type)) return false;
  if (is_formula(op)) {
    for (unsigned i = 0; i < op->n_in; i++)
      if (!see(l, op->in[i].value)) return false;
    return true;
  }
  bool compares = op != NULL && is_comparison(op, &side, &x);
  atom_t *atom = atom_of(l, compares ? op->in[side].value : value);
  if (atom == NULL) return false;
  if (!compares) {
    atom->n = 2;
    return true;
  }
  unsigned i = 0;
  while (i < atom->n && atom->point[i] < x) i++;
  if (i < atom->n && atom->point[i] == x) return true;
  if (2 * atom->n + 4 > MAX_POINTS) return false;
  for (unsigned j = atom->n++; j > i; j--) atom->point[j] = atom->point[j - 1];
  atom->point[i] = x;
  return true;
}

/* Points between the constants, beyond them, and no number at all. */
static void spread(atom_t *atom) {
  if (atom->value->type.dtype == DT_BOOL) return;
  double constant[MAX_POINTS];
  unsigned n = atom->n;
  bool floats = dtype_is_float(atom->value->type.dtype);
  for (unsigned i = 0; i < n; i++) constant[i] = atom->point[i];
  atom->n = 0;
  for (unsigned i = 0; i <= n; i++) {
    double below = i == 0   ? -INFINITY
                   : i == n ? INFINITY
                            : constant[i - 1] / 2 + constant[i] / 2;
    bool between = i > 0 && i < n;
    if (floats || !between || constant[i] - constant[i - 1] > 1)
      atom->point[atom->n++] = below;
    if (i < n) atom->point[atom->n++] = constant[i];
  }
  if (floats) atom->point[atom->n++] = NAN;
}

static bool holds(logic_t *l, const ir_value_t *value) {
  unsigned side;
  double c;
  value = behind_shapes(value);
  const ir_op_t *op = value->def;
  if (is_formula(op)) {
    bool x = holds(l, op->in[0].value);
    if (op->code == OP_NOT) return !x;
    bool y = holds(l, op->in[1].value);
    return op->code == OP_AND ? x && y : op->code == OP_OR ? x || y : x != y;
  }
  if (op == NULL || !is_comparison(op, &side, &c))
    return atom_of(l, value)->at != 0;
  const atom_t *atom = atom_of(l, op->in[side].value);
  double v = atom->point[atom->at];
  double x = side == 0 ? v : c, y = side == 0 ? c : v;
  return op->code == OP_LT ? x < y : op->code == OP_LE ? x <= y : x == y;
}

bool moe_count_holds(ir_value_t *const *condition, unsigned n,
                     moe_hold_t *out) {
  logic_t l = {.rows = &condition[0]->type};
  uint64_t ways = 1;
  for (unsigned i = 0; i < n; i++)
    if (!see(&l, condition[i])) return false;
  for (unsigned i = 0; i < l.n; i++) {
    spread(&l.atom[i]);
    ways *= l.atom[i].n;
    if (ways > MAX_WAYS) return false;
  }
  *out = (moe_hold_t){n, 0};
  for (uint64_t way = 0; way < ways; way++) {
    unsigned hold = 0;
    uint64_t rest = way;
    for (unsigned i = 0; i < l.n; i++) {
      l.atom[i].at = (unsigned)(rest % l.atom[i].n);
      rest /= l.atom[i].n;
    }
    for (unsigned i = 0; i < n; i++) hold += holds(&l, condition[i]);
    if (hold < out->least) out->least = hold;
    if (hold > out->most) out->most = hold;
  }
  return true;
}
