/* Formulas of experts, read off their operations from the result backwards.
 * Views, copies and conversions are looked through; products are flattened, so
 * that an activation is found in whatever order its factors stand. */
#include "passes/moe_describe.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "passes/moe_formula.h"
#include "passes/rules.h"

enum {
  MAX_TEXT = 200,  /* characters of a formula */
  MAX_STEPS = 500, /* visits of values for one */
  MAX_DEPTH = 40,
  MAX_PRODUCTS = 32,
};

/* How tightly a text binds: what needs no parentheses as an operand of what. */
typedef enum { IN_SUM, IN_PRODUCT, IN_FACTOR } binding_t;

typedef struct describer {
  const moe_region_t *region;
  arena_t *arena;
  text_t *out;
  unsigned steps, depth;
  bool failed;      /* too long, or nothing that a formula has a sign for */
  const char *role; /* of the next matrix: "gate", "up"; NULL: a number */
  unsigned n_products, n_numbered; /* in the region; that have a number */
  const ir_op_t *numbered[MAX_PRODUCTS];
} describer_t;

/* ---- Looking
 */

static bool is_product(const ir_op_t *op) {
  return op->code == OP_MATMUL || op->code == OP_PRODUCT ||
         op->code == OP_CONVOLVE;
}

/* Which argument of the region it is; -1: none. */
static int argument(const describer_t *d, const ir_value_t *v) {
  return v->region == d->region->region ? (int)v->index : -1;
}

/* ---- Telling ------------------------------------------------------------- */

static void say(describer_t *d, const ir_value_t *v, binding_t binding);

static void put(describer_t *d, const char *text) {
  text_append(d->out, text, strlen(text));
  if (d->out->length > MAX_TEXT) d->failed = true;
}

static void put_number(describer_t *d, double number) {
  char text[32];
  snprintf(text, sizeof text, "%.6g", number);
  put(d, text);
}

static void say_with_role(describer_t *d, const ir_value_t *v,
                          binding_t binding, const char *role) {
  const char *outer = d->role;
  d->role = role;
  say(d, v, binding);
  d->role = outer;
}

/* Whether a product of matrices is behind the elementwise operations of v. */
static bool has_product(describer_t *d, const ir_value_t *v, unsigned depth) {
  v = formula_look(v);
  if (v == NULL || v->def == NULL || depth > MAX_DEPTH) return false;
  if (++d->steps > MAX_STEPS) {
    d->failed = true;
    return false;
  }
  const ir_op_t *op = v->def;
  if (is_product(op)) return true;
  if (!ir_has_trait(op, ELEMENTWISE) && op->code != OP_SLICE) return false;
  for (unsigned i = 0; i < op->n_in; i++)
    if (op->in[i].value != NULL && has_product(d, op->in[i].value, depth + 1))
      return true;
  return false;
}

/* Whether v is what stands between the first and the last matrix of a gated
 * expert: a product of two with matrices behind them. */
static bool is_gated(describer_t *d, const ir_value_t *v) {
  unsigned n = 0;
  if (formula_def(v, OP_MUL) == NULL) return false;
  formula_factors_t f = formula_factors(v);
  formula_activation_t a;
  if (f.n > FORMULA_MAX_FACTORS) return false;
  if (formula_take_activation(&f, &a)) n += has_product(d, a.of, 0);
  for (unsigned i = 0; i < f.n; i++) n += has_product(d, f.factor[i], 0);
  return n >= 2;
}

static unsigned number_of(describer_t *d, const ir_op_t *product) {
  unsigned i = 0;
  while (i < d->n_numbered && d->numbered[i] != product) i++;
  if (i == d->n_numbered && i < MAX_PRODUCTS)
    d->numbered[d->n_numbered++] = product;
  return i + 1;
}

/* x W */
static void say_matmul(describer_t *d, const ir_op_t *op, binding_t binding) {
  const ir_value_t *left = op->in[0].value, *right = op->in[1].value;
  const char *role = d->role;
  if (role == NULL && is_gated(d, left)) role = "down";
  if (binding >= IN_PRODUCT) put(d, "(");
  say_with_role(d, left, IN_FACTOR, NULL);
  put(d, " ");
  right = formula_look(right);
  bool matrix = rule_is_constant(right) ||
                argument(d, right) >=
                    (int)(d->region->token_values + d->region->route_values) ||
                (right->def != NULL && right->def->parent != d->region->region);
  if (!matrix) {
    say_with_role(d, right, IN_FACTOR, NULL);
  } else if (role != NULL) {
    put(d, "W_");
    put(d, role);
  } else if (d->n_products == 1) {
    put(d, "W");
  } else {
    char name[16];
    snprintf(name, sizeof name, "W%u", number_of(d, op));
    put(d, name);
  }
  if (binding >= IN_PRODUCT) put(d, ")");
}

/* conv3x3(x) */
static void say_convolve(describer_t *d, const ir_op_t *op) {
  const ir_type_t *filter = &op->in[1].value->type;
  const int64_t groups = ir_get_int(op, ATTR_CONVOLVE_groups);
  if (groups > 1) {
    put(d,
        expr_equals_const(filter->dim[0], groups) ? "depthwise " : "grouped ");
  }
  put(d, "conv");
  for (unsigned i = 2; i < filter->rank; i++) {
    int64_t size;
    char text[24];
    if (!expr_is_const(filter->dim[i], &size)) break;
    snprintf(text, sizeof text, "%s%lld", i > 2 ? "x" : "", (long long)size);
    put(d, text);
  }
  put(d, "(");
  say_with_role(d, op->in[0].value, IN_SUM, NULL);
  put(d, ")");
}

/* Constant bounds along the last axis: W[0:48], W[1::2]. */
static void say_slice(describer_t *d, const ir_op_t *op, binding_t binding) {
  unsigned n;
  int64_t start, length, step;
  if (d->role != NULL && has_product(d, op->in[0].value, 0)) {
    /* The halves have names of their own. */
    say(d, op->in[0].value, binding);
    return;
  }
  say_with_role(d, op->in[0].value, IN_FACTOR, NULL);
  const expr_t *const *starts = ir_get_exprs(op, ATTR_SLICE_start, &n);
  const expr_t *const *lengths = ir_get_exprs(op, ATTR_SLICE_length, &n);
  const expr_t *const *steps = ir_get_exprs(op, ATTR_SLICE_step, &n);
  if (n == 0 || !expr_is_const(starts[n - 1], &start) ||
      !expr_is_const(lengths[n - 1], &length) ||
      !expr_is_const(steps[n - 1], &step)) {
    put(d, "[..]");
    return;
  }
  char text[80];
  if (step == 1)
    snprintf(text, sizeof text, "[%lld:%lld]", (long long)start,
             (long long)start + (long long)length);
  else
    snprintf(text, sizeof text, "[%lld::%lld]", (long long)start,
             (long long)step);
  put(d, text);
}

static void say_activation(describer_t *d, const formula_activation_t *a,
                           const char *role) {
  put(d, a->name);
  put(d, "(");
  say_with_role(d, a->of, IN_SUM, role);
  if (!formula_is_near(a->alpha, 1)) {
    put(d, ", alpha ");
    put_number(d, a->alpha);
  }
  put(d, ")");
}

/* number * activation * factor * .. */
static void say_product(describer_t *d, const ir_value_t *v,
                        binding_t binding) {
  formula_factors_t f = formula_factors(v);
  formula_activation_t a = {0};
  if (f.n > FORMULA_MAX_FACTORS) {
    d->failed = true;
    return;
  }
  const bool gated = is_gated(d, v);
  const bool active = formula_take_activation(&f, &a);
  const bool has_number =
      !formula_is_near(f.number, 1) || (f.n == 0 && !active);
  const bool alone = (unsigned)active + f.n + (unsigned)has_number == 1;
  const char *roles[] = {gated ? "gate" : NULL, gated ? "up" : NULL};
  unsigned said = 0; /* factors with matrices behind them */
  if (!alone && binding >= IN_FACTOR) put(d, "(");
  if (has_number) put_number(d, f.number);
  if (active) {
    if (has_number) put(d, " * ");
    say_activation(d, &a, roles[0]);
    said = 1;
  }
  for (unsigned i = 0; i < f.n; i++) {
    if (i > 0 || active || has_number) put(d, " * ");
    const bool matrix = has_product(d, f.factor[i], 0);
    say_with_role(d, f.factor[i], alone ? binding : IN_FACTOR,
                  matrix ? roles[said > 0] : d->role);
    said += matrix;
  }
  if (!alone && binding >= IN_FACTOR) put(d, ")");
}

static void say_sum(describer_t *d, const ir_op_t *op, binding_t binding) {
  const unsigned first = has_product(d, op->in[1].value, 0) &&
                         !has_product(d, op->in[0].value, 0) &&
                         op->code == OP_ADD;
  if (binding >= IN_PRODUCT) put(d, "(");
  say(d, op->in[first].value, IN_SUM);
  put(d, op->code == OP_SUB ? " - " : " + ");
  const ir_value_t *other = formula_look(op->in[1 - first].value);
  const int arg = argument(d, other);
  double number;
  if (arg >= (int)(d->region->token_values + d->region->route_values) ||
      (rule_is_constant(other) && !formula_number(other, &number)))
    put(d, "b");
  else
    say(d, other, op->code == OP_SUB ? IN_PRODUCT : IN_SUM);
  if (binding >= IN_PRODUCT) put(d, ")");
}

/* name(a, b, ..) */
static void say_call(describer_t *d, const char *name, const ir_op_t *op) {
  put(d, name);
  put(d, "(");
  for (unsigned i = 0; i < op->n_in && !d->failed; i++) {
    if (op->in[i].value == NULL) continue;
    if (i > 0) put(d, ", ");
    say(d, op->in[i].value, IN_SUM);
  }
  put(d, ")");
}

/* max(z, 0), min(z, 7), clip(z, -7, 7) */
static void say_bounds(describer_t *d, const ir_op_t *op) {
  const ir_value_t *z = formula_inside_relu(op->out);
  double low, high;
  if (z != NULL) {
    put(d, "relu(");
    say(d, z, IN_SUM);
    put(d, ")");
    return;
  }
  const ir_opcode_t other = op->code == OP_MAX ? OP_MIN : OP_MAX;
  for (unsigned i = 0; i < 2; i++) {
    const ir_op_t *inner = formula_def(op->in[i].value, other);
    if (inner == NULL || !formula_number(op->in[1 - i].value, &high)) continue;
    for (unsigned j = 0; j < 2; j++) {
      if (!formula_number(inner->in[j].value, &low)) continue;
      put(d, "clip(");
      say(d, inner->in[1 - j].value, IN_SUM);
      put(d, ", ");
      put_number(d, fmin(low, high));
      put(d, ", ");
      put_number(d, fmax(low, high));
      put(d, ")");
      return;
    }
  }
  say_call(d, ir_op_info(op->code)->mnemonic, op);
}

/* The one value that operations of the same node as `op` compute op from, all
 * of them elementwise: LeakyRelu, Elu and the like. */
static bool common_leaf(describer_t *d, const ir_op_t *op,
                        const ir_value_t **leaf, unsigned depth) {
  if (++d->steps > MAX_STEPS || depth > MAX_DEPTH) return false;
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *v = formula_look(op->in[i].value);
    double number;
    if (v == NULL || formula_number(v, &number)) continue;
    if (v->def != NULL && ir_has_trait(v->def, ELEMENTWISE) &&
        v->def->loc.index == op->loc.index &&
        v->def->loc.node == op->loc.node) {
      if (!common_leaf(d, v->def, leaf, depth + 1)) return false;
      continue;
    }
    if (*leaf != NULL && *leaf != v) return false;
    *leaf = v;
  }
  return true;
}

static bool is_basic(ir_opcode_t code) {
  return code == OP_ADD || code == OP_SUB || code == OP_MUL || code == OP_DIV ||
         code == OP_MAX || code == OP_MIN || code == OP_POW;
}

/* Says an elementwise function of one ONNX node by the name of its operator. */
static bool say_node(describer_t *d, const ir_op_t *op) {
  const ir_value_t *leaf = NULL;
  char name[24];
  size_t n = 0;
  if (op->loc.type == NULL || op->loc.index == 0 ||
      !ir_has_trait(op, ELEMENTWISE) || is_basic(op->code) ||
      !common_leaf(d, op, &leaf, 0) || leaf == NULL)
    return false;
  for (const char *c = op->loc.type; *c != '\0' && n + 1 < sizeof name; c++)
    if (isalnum((unsigned char)*c))
      name[n++] = (char)tolower((unsigned char)*c);
  name[n] = '\0';
  put(d, name);
  put(d, "(");
  say(d, leaf, IN_SUM);
  put(d, ")");
  return true;
}

static void say_op(describer_t *d, const ir_op_t *op, binding_t binding) {
  formula_activation_t a;
  const ir_value_t *z;
  double alpha;
  switch (op->code) {
    case OP_MATMUL:
    case OP_PRODUCT:
      say_matmul(d, op, binding);
      return;
    case OP_CONVOLVE:
      say_convolve(d, op);
      return;
    case OP_SLICE:
      say_slice(d, op, binding);
      return;
    case OP_MAX:
    case OP_MIN:
      say_bounds(d, op);
      return;
    case OP_ADD:
    case OP_SUB:
      say_sum(d, op, binding);
      return;
    case OP_DIV:
      z = formula_inside_sigmoid(op->out, &alpha);
      if (z != NULL && formula_is_near(alpha, 1)) {
        put(d, "sigmoid(");
        say(d, z, IN_SUM);
        put(d, ")");
        return;
      }
      if (formula_divided_silu(op->out, &a)) {
        say_activation(d, &a, d->role);
        return;
      }
      if (formula_number(op->in[1].value, &alpha)) {
        say_product(d, op->out, binding);
        return;
      }
      if (binding >= IN_FACTOR) put(d, "(");
      say(d, op->in[0].value, IN_PRODUCT);
      put(d, " / ");
      say(d, op->in[1].value, IN_FACTOR);
      if (binding >= IN_FACTOR) put(d, ")");
      return;
    case OP_MUL:
    case OP_NEG:
      say_product(d, op->out, binding);
      return;
    case OP_POW:
      if (formula_factors(op->out).n > 1) {
        say_product(d, op->out, binding);
        return;
      }
      say_call(d, "pow", op);
      return;
    default:
      if (op->n_regions > 0 || op->code == OP_CONCAT || op->code == OP_GATHER) {
        d->failed = true;
        return;
      }
      if (!say_node(d, op)) say_call(d, ir_op_info(op->code)->mnemonic, op);
  }
}

static void say(describer_t *d, const ir_value_t *v, binding_t binding) {
  double number;
  v = formula_look(v);
  if (d->failed || v == NULL || ++d->steps > MAX_STEPS ||
      d->depth > MAX_DEPTH) {
    d->failed = true;
    return;
  }
  const int arg = argument(d, v);
  const int n_tokens = (int)d->region->token_values;
  const int n_values = n_tokens + (int)d->region->route_values;
  if (formula_number(v, &number)) {
    put_number(d, number);
  } else if (arg >= n_values || v->def == NULL || rule_is_constant(v)) {
    if (arg < 0 || arg >= n_values)
      put(d, "c");
    else if (arg == 0 && n_tokens > 0)
      put(d, "x");
    else if (arg == n_tokens)
      put(d, "s");
    else
      put(d, arg < n_tokens ? "x'" : "s'");
  } else if (v->def->parent != d->region->region) {
    put(d, "c"); /* captured */
  } else {
    d->depth++;
    say_op(d, v->def, binding);
    d->depth--;
  }
}

/* ---- Sizes --------------------------------------------------------------- */

/* The number of features of a row: channels of images, else the last axis. */
static const expr_t *width_of(const ir_value_t *v, bool image) {
  const ir_type_t *type = &v->type;
  if (type->rank < 2) return NULL;
  return type->dim[image ? 1 : type->rank - 1];
}

/* "32 -> 48 -> 32": widths before the products on the way to v, which is not
 * said itself. *image: of the latest product. */
static void say_widths(describer_t *d, const ir_value_t *v, bool *image,
                       unsigned depth) {
  if (v == NULL || v->def == NULL || depth > MAX_DEPTH) return;
  if (v->def->parent != d->region->region) return;
  const ir_op_t *op = v->def;
  unsigned next = 0;
  if (ir_has_trait(op, ELEMENTWISE))
    while (next + 1 < op->n_in && !has_product(d, op->in[next].value, 0))
      next++;
  if (next < op->n_in) say_widths(d, op->in[next].value, image, depth + 1);
  if (!is_product(op)) return;
  *image = op->code == OP_CONVOLVE;
  const expr_t *width = width_of(op->in[0].value, *image);
  if (width != NULL) expr_print(width, d->out);
  put(d, " -> ");
}

/* ---- The whole ----------------------------------------------------------- */

/* The operations' names in order, each run of equal ones once. */
static const char *list_operations(arena_t *arena, const ir_region_t *region) {
  text_t out;
  unsigned n = 0;
  ir_opcode_t before = OP_COUNT;
  text_init(&out, arena);
  for (const ir_op_t *op = region->first; op != NULL && op != region->last;
       op = op->next)
    n += op->code != OP_CONSTANT;
  text_printf(&out, "%u operations: ", n);
  n = 0;
  for (const ir_op_t *op = region->first; op != NULL && op != region->last;
       op = op->next) {
    if (op->code == OP_CONSTANT || op->code == before) continue;
    if (out.length > MAX_TEXT) {
      text_printf(&out, ", ..");
      break;
    }
    text_printf(&out, "%s%s", n++ > 0 ? ", " : "",
                ir_op_info(op->code)->mnemonic);
    before = op->code;
  }
  return out.data;
}

moe_region_t moe_region_of(const ir_op_t *experts, unsigned index) {
  const expr_t *rows = ir_get_expr(experts, ATTR_MOE_EXPERTS_rows);
  return (moe_region_t){.region = &experts->regions[index],
                        .token_values = (unsigned)ir_get_int(
                            experts, ATTR_MOE_EXPERTS_token_values),
                        .route_values = (unsigned)ir_get_int(
                            experts, ATTR_MOE_EXPERTS_route_values),
                        .rows = expr_as_symbol(rows)};
}

/* "a layer of 4 experts, 2 of them for each row: relu(x W), 32 -> 32"; NULL:
 * there is none in the region, or several. */
static const char *describe_layer(arena_t *arena, const ir_region_t *region) {
  const ir_op_t *inner = NULL;
  for (const ir_op_t *op = region->first; op != NULL; op = op->next) {
    if (op->code != OP_MOE_EXPERTS) continue;
    if (inner != NULL) return NULL;
    inner = op;
  }
  if (inner == NULL || inner->n_regions != 1) return NULL;
  text_t out;
  text_init(&out, arena);
  text_printf(&out, "a layer of %lld experts",
              (long long)ir_get_int(inner, ATTR_MOE_EXPERTS_experts));
  if (ir_has_attr(inner, ATTR_MOE_EXPERTS_k)) {
    text_printf(&out, ", ");
    expr_print(ir_get_expr(inner, ATTR_MOE_EXPERTS_k), &out);
    text_printf(&out, " of them for each row");
  }
  const moe_region_t own = moe_region_of(inner, 0);
  text_printf(&out, ": %s", moe_describe_region(arena, &own));
  return out.data;
}

const char *moe_describe_region(arena_t *arena, const moe_region_t *region) {
  text_t out;
  const ir_op_t *end = region->region->last;
  if (end == NULL || end->n_in != 1) return "nothing";
  text_init(&out, arena);
  describer_t d = {.region = region, .arena = arena, .out = &out};
  const ir_value_t *result = end->in[0].value;
  double number;
  if (formula_number(result, &number))
    return number == 0 ? "zero" : arena_printf(arena, "constant %g", number);
  if (argument(&d, formula_look(result)) == 0 && region->token_values > 0)
    return "identity";
  const char *layer = describe_layer(arena, region->region);
  if (layer != NULL) return layer;
  for (const ir_op_t *op = region->region->first; op != NULL; op = op->next)
    d.n_products += op->code == OP_MATMUL || op->code == OP_PRODUCT;
  say(&d, result, IN_SUM);
  if (d.failed) return list_operations(arena, region->region);
  if (!has_product(&d, result, 0)) return out.data;
  bool image = false;
  put(&d, ", ");
  d.steps = 0;
  say_widths(&d, result, &image, 0);
  const expr_t *width = width_of(result, image);
  if (width != NULL) expr_print(width, &out);
  return d.steps > MAX_STEPS ? list_operations(arena, region->region)
                             : out.data;
}
