/* The text form of modules, functions and operations. */
#include <string.h>

#include "ir/ir.h"
#include "ir/literal.h"

static const ir_print_options_t defaults;

static bool is_plain(const char *name, const char *also) {
  static const char letters[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
  if (name[0] == '\0' || strchr(letters, name[0]) == NULL) return false;
  for (const char *p = name; *p != '\0'; p++)
    if (strchr(letters, *p) == NULL && strchr(also, *p) == NULL) return false;
  return true;
}

/* ---- Attributes --------------------------------------------------------- */

/* Elements that the shape of a constant asks for; UINT64_MAX if too many. */
static uint64_t count_of(const ir_op_t *op) {
  const ir_attr_t *shape = ir_find_attr(op, ATTR_CONSTANT_shape);
  uint64_t count = 1;
  for (unsigned i = 0; shape != NULL && i < shape->n; i++) {
    int64_t dim = shape->v.ints[i];
    if (dim < 0 || __builtin_mul_overflow(count, (uint64_t)dim, &count))
      return UINT64_MAX;
  }
  return count;
}

static void print_list_item(text_t *out, const ir_attr_t *attr,
                            ir_attr_kind_t kind, unsigned i) {
  switch (kind) {
    case IR_ATTR_INTS:
      text_printf(out, "%lld", (long long)attr->v.ints[i]);
      break;
    case IR_ATTR_FLOATS:
      literal_print_double(out, attr->v.floats[i]);
      break;
    case IR_ATTR_STRS:
      literal_print_string(out, attr->v.strs[i]);
      break;
    case IR_ATTR_EXPRS:
      expr_print(attr->v.exprs[i], out);
      break;
    default:
      MOEC_BUG("attribute kind %d is not a list", kind);
  }
}

/* Data of operations that do not say what it is are bytes. */
static void print_data(text_t *out, const ir_op_t *op, ir_data_t *data,
                       const char *data_dir) {
  const ir_attr_t *dtype = ir_find_attr(op, ATTR_CONSTANT_data_dtype);
  if (dtype == NULL) dtype = ir_find_attr(op, ATTR_CONSTANT_dtype);
  if (op->code == OP_CONSTANT && dtype != NULL)
    literal_print_data(out, dtype->v.dtype, count_of(op), data, data_dir);
  else
    literal_print_data(out, DT_U8, data->size, data, data_dir);
}

static void print_attr_value(text_t *out, const ir_op_t *op,
                             const ir_attr_t *attr,
                             const ir_print_options_t *options) {
  ir_attr_kind_t kind = ir_attr_info(attr->id)->kind;
  switch (kind) {
    case IR_ATTR_INT:
      text_printf(out, "%lld", (long long)attr->v.i);
      return;
    case IR_ATTR_FLOAT:
      literal_print_double(out, attr->v.f);
      return;
    case IR_ATTR_STR:
      literal_print_string(out, attr->v.s);
      return;
    case IR_ATTR_DTYPE:
      text_printf(out, "%s", dtype_name(attr->v.dtype));
      return;
    case IR_ATTR_EXPR:
      expr_print(attr->v.expr, out);
      return;
    case IR_ATTR_DATA:
      print_data(out, op, attr->v.data, options->data_dir);
      return;
    default:
      break;
  }
  text_append(out, "[", 1);
  for (unsigned i = 0; i < attr->n; i++) {
    if (i > 0) text_append(out, ", ", 2);
    print_list_item(out, attr, kind, i);
  }
  text_append(out, "]", 1);
}

static void print_attrs(text_t *out, const ir_op_t *op,
                        const ir_print_options_t *options) {
  if (op->n_attrs == 0) return;
  text_append(out, " {", 2);
  for (unsigned i = 0; i < op->n_attrs; i++) {
    const ir_attr_t *attr = &op->attrs[i];
    text_printf(out, "%s%s = ", i > 0 ? ", " : "",
                ir_attr_info(attr->id)->name);
    print_attr_value(out, op, attr, options);
  }
  text_append(out, "}", 1);
}

/* ---- Operations --------------------------------------------------------- */

static void print_loc(text_t *out, const ir_loc_t *loc) {
  bool is_node = loc->index > 0 || loc->node != NULL || loc->type != NULL;
  if (!is_node && loc->where == NULL) return;
  text_printf(out, "   loc(");
  const char *space = "";
  if (loc->index > 0) {
    text_printf(out, "#%d", loc->index - 1); /* as in diagnostics */
    space = " ";
  }
  if (loc->node != NULL) {
    text_printf(out, "%s", space);
    literal_print_string(out, loc->node);
    space = " ";
  } else if (loc->type != NULL) {
    text_printf(out, "%s_", space);
    space = " ";
  }
  if (loc->type != NULL) {
    text_printf(out, "%s", space);
    if (is_plain(loc->type, "0123456789.:") && strcmp(loc->type, "at") != 0)
      text_printf(out, "%s", loc->type);
    else
      literal_print_string(out, loc->type);
  }
  if (loc->where != NULL) {
    text_printf(out, "%sat ", space);
    literal_print_string(out, loc->where);
  }
  text_append(out, ")", 1);
}

static void print_operands(text_t *out, const ir_op_t *op) {
  text_append(out, "(", 1);
  for (unsigned i = 0; i < op->n_in; i++) {
    if (i > 0) text_append(out, ", ", 2);
    if (op->in[i].value == NULL)
      text_append(out, "_", 1);
    else
      text_printf(out, "%%%u", op->in[i].value->number);
  }
  text_append(out, ")", 1);
}

/* "%1, %2 = fused name(%0) {...}" */
static void print_head(text_t *out, const ir_op_t *op,
                       const ir_print_options_t *options) {
  const ir_op_info_t *info = ir_op_info(op->code);
  for (unsigned i = 0; i < op->n_out; i++)
    text_printf(out, "%s%%%u", i > 0 ? ", " : "", op->out[i].number);
  if (op->n_out > 0) text_append(out, " = ", 3);
  text_printf(out, "%s%s", op->fused ? "fused " : "", info->mnemonic);
  if (info->in_max > 0) print_operands(out, op);
  print_attrs(out, op, options);
}

static void print_result_types(text_t *out, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_out; i++) {
    text_printf(out, "%s", i > 0 ? ", " : " : ");
    ir_type_print(&op->out[i].type, out);
  }
}

static void print_args(text_t *out, const ir_region_t *region,
                       const char *const *names) {
  text_append(out, "(", 1);
  for (unsigned i = 0; i < region->n_args; i++) {
    const ir_value_t *arg = &region->args[i];
    text_printf(out, "%s%%%u", i > 0 ? ", " : "", arg->number);
    if (names != NULL && names[i] != NULL) {
      text_append(out, " ", 1);
      literal_print_string(out, names[i]);
    }
    text_append(out, ": ", 2);
    ir_type_print(&arg->type, out);
  }
  text_append(out, ")", 1);
}

static void print_body(text_t *out, const ir_region_t *region, unsigned indent,
                       const ir_print_options_t *options);

static void print_op(text_t *out, const ir_op_t *op, unsigned indent,
                     const ir_print_options_t *options) {
  text_printf(out, "%*s", indent, "");
  print_head(out, op, options);
  for (unsigned i = 0; i < op->n_regions; i++) {
    text_append(out, " ", 1);
    print_args(out, &op->regions[i], NULL);
    text_append(out, " {\n", 3);
    print_body(out, &op->regions[i], indent + 2, options);
    text_printf(out, "%*s}", indent, "");
  }
  print_result_types(out, op);
  if (options->locations) print_loc(out, &op->loc);
  text_append(out, "\n", 1);
}

static void print_body(text_t *out, const ir_region_t *region, unsigned indent,
                       const ir_print_options_t *options) {
  for (const ir_op_t *op = region->first; op != NULL; op = op->next)
    print_op(out, op, indent, options);
}

void ir_print_op(const ir_op_t *op, text_t *out) {
  print_head(out, op, &defaults);
  for (unsigned i = 0; i < op->n_regions; i++) {
    text_append(out, " ", 1);
    print_args(out, &op->regions[i], NULL);
    text_printf(out, " {...}");
  }
  print_result_types(out, op);
}

/* ---- Functions and modules ---------------------------------------------- */

static void print_name(text_t *out, const char *name) {
  text_append(out, "@", 1);
  if (is_plain(name, "0123456789.$-"))
    text_printf(out, "%s", name);
  else
    literal_print_string(out, name);
}

/* The names belong to the operands of `return`. */
static void print_result_names(text_t *out, const ir_func_t *func) {
  const ir_op_t *last = func->body.last;
  if (func->result_names == NULL || last == NULL) return;
  if (last->code != OP_RETURN || last->n_in == 0) return;
  text_append(out, " -> (", 5);
  for (unsigned i = 0; i < last->n_in; i++) {
    const char *name = func->result_names[i];
    if (i > 0) text_append(out, ", ", 2);
    if (name != NULL)
      literal_print_string(out, name);
    else
      text_append(out, "_", 1);
  }
  text_append(out, ")", 1);
}

static void print_ports(text_t *out, const char *what,
                        const ir_ports_t *ports) {
  if (ports->n == 0) return;
  text_printf(out, " %s(", what);
  for (unsigned i = 0; i < ports->n; i++) {
    text_printf(out, "%s%s ", i > 0 ? ", " : "",
                ir_port_kind_name(&ports->port[i]));
    literal_print_string(out, ports->port[i].name);
  }
  text_append(out, ")", 1);
}

static void print_func(const ir_func_t *func, const ir_print_options_t *options,
                       text_t *out) {
  text_printf(out, "%s ", func->kind == IR_FUNC_MAIN ? "func" : "kernel");
  print_name(out, func->name != NULL ? func->name : "");
  print_args(out, &func->body, (const char *const *)func->arg_names);
  print_result_names(out, func);
  print_ports(out, "inputs", &func->inputs);
  print_ports(out, "outputs", &func->outputs);
  text_append(out, " {\n", 3);
  print_body(out, &func->body, 2, options);
  text_append(out, "}\n", 2);
}

void ir_print_func(ir_func_t *func, text_t *out) {
  print_func(func, &defaults, out);
}

static void print_symbols(const expr_pool_t *pool, text_t *out) {
  unsigned n = expr_n_symbols(pool);
  if (n == 0) return;
  text_printf(out, "symbols {");
  for (unsigned i = 0; i < n; i++) {
    const expr_symbol_t *symbol = expr_symbol_at(pool, i);
    text_printf(out, "%s %s ", i > 0 ? "," : "", symbol->name);
    if (symbol->upper == NULL) {
      text_printf(out, ">= %lld", (long long)symbol->lower);
      continue;
    }
    text_printf(out, "in [%lld, ", (long long)symbol->lower);
    expr_print(symbol->upper, out);
    text_append(out, "]", 1);
  }
  text_printf(out, " }\n");
}

void ir_print(ir_module_t *module, const ir_print_options_t *options,
              text_t *out) {
  if (options == NULL) options = &defaults;
  if (!options->brief) {
    text_printf(out, "module ");
    literal_print_string(out, module->name);
    text_printf(out, " %s {\n",
                module->level == IR_LEVEL_TENSOR ? "tensor" : "loop");
    print_symbols(module->exprs, out);
  }
  for (ir_func_t *func = module->first; func != NULL; func = func->next) {
    ir_renumber(func);
    print_func(func, options, out);
  }
  if (!options->brief) text_append(out, "}\n", 2);
}
