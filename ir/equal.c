/* Comparison of modules, each with its own pool of expressions. */
#include <string.h>

#include "ir/expr_internal.h"
#include "ir/ir.h"

typedef struct comparer {
  text_t *why; /* or NULL */
  const char *func;
} comparer_t;

/* Notes where two modules differ; false, so that it can be returned. */
__attribute__((format(printf, 3, 4))) static bool differ(const comparer_t *c,
                                                         const ir_op_t *op,
                                                         const char *format,
                                                         ...) {
  if (c->why == NULL) return false;
  char message[256];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  if (c->func != NULL) text_printf(c->why, "@%s: ", c->func);
  if (op != NULL) {
    ir_print_op(op, c->why);
    text_append(c->why, ": ", 2);
  }
  text_append(c->why, message, strlen(message));
  return false;
}

static bool same_text(const char *a, const char *b) {
  return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_type(const ir_type_t *a, const ir_type_t *b) {
  while (a->elem != NULL && b->elem != NULL && a->kind == b->kind) {
    a = a->elem;
    b = b->elem;
  }
  return a->kind == b->kind && a->dtype == b->dtype && a->rank == b->rank &&
         (a->elem == NULL) == (b->elem == NULL) &&
         expr_same_all(a->dim, b->dim, a->rank);
}

/* Both functions have been numbered: a number names a value. */
static bool same_operand(const ir_value_t *a, const ir_value_t *b) {
  if (a == NULL || b == NULL) return a == b;
  return a->number == b->number;
}

static bool same_region(const comparer_t *c, const ir_region_t *a,
                        const ir_region_t *b);

static bool same_op(const comparer_t *c, const ir_op_t *a, const ir_op_t *b) {
  if (a->code != b->code)
    return differ(c, a, "the other has %s", ir_op_info(b->code)->mnemonic);
  if (a->n_in != b->n_in || a->n_out != b->n_out)
    return differ(c, a, "the other has %u operands and %u results", b->n_in,
                  b->n_out);
  if (a->fused != b->fused)
    return differ(c, a, "the other is %sfused", b->fused ? "" : "not ");
  for (unsigned i = 0; i < a->n_in; i++)
    if (!same_operand(a->in[i].value, b->in[i].value))
      return differ(c, a, "operand %u is another one", i);
  if (a->n_attrs != b->n_attrs)
    return differ(c, a, "the other has %u attributes", b->n_attrs);
  for (unsigned i = 0; i < a->n_attrs; i++)
    if (!ir_attr_equal(&a->attrs[i], &b->attrs[i]))
      return differ(c, a, "attribute %s differs",
                    ir_attr_info(a->attrs[i].id)->name);
  for (unsigned i = 0; i < a->n_out; i++)
    if (!same_type(&a->out[i].type, &b->out[i].type))
      return differ(c, a, "the type of result %u differs", i);
  if (a->n_regions != b->n_regions)
    return differ(c, a, "the other has %u regions", b->n_regions);
  for (unsigned i = 0; i < a->n_regions; i++)
    if (!same_region(c, &a->regions[i], &b->regions[i])) return false;
  return true;
}

static bool same_region(const comparer_t *c, const ir_region_t *a,
                        const ir_region_t *b) {
  if (a->n_args != b->n_args)
    return differ(c, a->owner, "%u arguments, the other has %u", a->n_args,
                  b->n_args);
  for (unsigned i = 0; i < a->n_args; i++)
    if (!same_type(&a->args[i].type, &b->args[i].type))
      return differ(c, a->owner, "the type of argument %u differs", i);
  const ir_op_t *x = a->first, *y = b->first;
  for (; x != NULL && y != NULL; x = x->next, y = y->next)
    if (!same_op(c, x, y)) return false;
  if (x != NULL) return differ(c, x, "the other ends before this");
  if (y != NULL) return differ(c, y, "the first ends before this");
  return true;
}

static bool same_ports(const ir_ports_t *a, const ir_ports_t *b) {
  if (a->n != b->n) return false;
  for (unsigned i = 0; i < a->n; i++)
    if (a->port[i].kind != b->port[i].kind ||
        a->port[i].of_sequence != b->port[i].of_sequence ||
        !same_text(a->port[i].name, b->port[i].name))
      return false;
  return true;
}

static bool same_func(comparer_t *c, ir_func_t *a, ir_func_t *b) {
  c->func = a->name;
  ir_renumber(a);
  ir_renumber(b);
  if (!same_text(a->name, b->name))
    return differ(c, NULL, "the other function is @%s", b->name);
  if (a->kind != b->kind)
    return differ(c, NULL, "the other is of another kind");
  if (!same_ports(&a->inputs, &b->inputs) ||
      !same_ports(&a->outputs, &b->outputs))
    return differ(c, NULL, "inputs or outputs are of other kinds");
  if (!same_region(c, &a->body, &b->body)) return false;
  for (unsigned i = 0; i < a->body.n_args; i++)
    if (!same_text(a->arg_names != NULL ? a->arg_names[i] : NULL,
                   b->arg_names != NULL ? b->arg_names[i] : NULL))
      return differ(c, NULL, "argument %u has another name", i);
  unsigned n = a->body.last != NULL ? a->body.last->n_in : 0;
  for (unsigned i = 0; i < n; i++)
    if (!same_text(a->result_names != NULL ? a->result_names[i] : NULL,
                   b->result_names != NULL ? b->result_names[i] : NULL))
      return differ(c, NULL, "result %u has another name", i);
  return true;
}

static bool same_symbols(const comparer_t *c, const ir_module_t *a,
                         const ir_module_t *b) {
  unsigned n = expr_n_symbols(a->exprs);
  if (n != expr_n_symbols(b->exprs))
    return differ(c, NULL, "%u symbols, the other has %u", n,
                  expr_n_symbols(b->exprs));
  for (unsigned i = 0; i < n; i++) {
    const expr_symbol_t *x = expr_symbol_at(a->exprs, i);
    const expr_t *found = expr_find_symbol(b->exprs, x->name);
    if (found == NULL)
      return differ(c, NULL, "the other has no symbol %s", x->name);
    const expr_symbol_t *y = expr_as_atom(found)->symbol;
    if (x->lower != y->lower || !expr_same(x->upper, y->upper))
      return differ(c, NULL, "symbol %s has other bounds", x->name);
  }
  return true;
}

bool ir_module_equal(ir_module_t *a, ir_module_t *b, text_t *out_why) {
  comparer_t c = {.why = out_why};
  if (!same_text(a->name, b->name))
    return differ(&c, NULL, "the modules have different names");
  if (a->level != b->level)
    return differ(&c, NULL, "the modules are of different levels");
  if (!same_symbols(&c, a, b)) return false;
  ir_func_t *x = a->first, *y = b->first;
  for (; x != NULL && y != NULL; x = x->next, y = y->next)
    if (!same_func(&c, x, y)) return false;
  c.func = NULL;
  if (x != NULL) return differ(&c, NULL, "the other has no @%s", x->name);
  if (y != NULL) return differ(&c, NULL, "the first has no @%s", y->name);
  return true;
}
