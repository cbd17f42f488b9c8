/* Reads the text form of modules. Types are inferred while reading; declared
 * ones are compared. Nothing is assumed about the text: depth, numbers and
 * lengths are bounded, and the module that results has been verified. */
#include "ir/parse.h"

#include <string.h>

#include "ir/verify.h"

/* ---- Names of operations ------------------------------------------------ */

_Static_assert(OP_COUNT < 255, "opcodes are kept in bytes");

static size_t hash_name(const char *name, size_t length) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < length; i++)
    hash = (hash ^ (unsigned char)name[i]) * 16777619u;
  return hash;
}

#define N_SLOTS (sizeof((parser_t *)NULL)->opcodes)
_Static_assert((N_SLOTS & (N_SLOTS - 1)) == 0 && N_SLOTS >= 2 * OP_COUNT,
               "open addressing needs room");

static void fill_opcodes(parser_t *p) {
  for (unsigned code = 0; code < OP_COUNT; code++) {
    const char *name = ir_op_info((ir_opcode_t)code)->mnemonic;
    size_t slot = hash_name(name, strlen(name)) % N_SLOTS;
    while (p->opcodes[slot] != 0) slot = (slot + 1) % N_SLOTS;
    p->opcodes[slot] = (uint8_t)(code + 1);
  }
}

static bool find_opcode(const parser_t *p, token_t name, ir_opcode_t *out) {
  size_t slot = hash_name(name.text, name.length) % N_SLOTS;
  for (; p->opcodes[slot] != 0; slot = (slot + 1) % N_SLOTS) {
    *out = (ir_opcode_t)(p->opcodes[slot] - 1);
    if (token_is(name, ir_op_info(*out)->mnemonic)) return true;
  }
  return false;
}

/* ---- Values ------------------------------------------------------------- */

static moec_status_t parse_number(parser_t *p, unsigned *out_number) {
  uint64_t number = 0;
  MOEC_TRY(parse_expect(p, '%'));
  MOEC_TRY(parse_unsigned(p, &number));
  /* A dense numbering is shorter than its text. */
  if (number > (uint64_t)(p->end - p->text) + 65536 || number > INT32_MAX)
    return parse_error(p, "the number of %%%llu is too large",
                       (unsigned long long)number);
  *out_number = (unsigned)number;
  return MOEC_OK;
}

static moec_status_t define(parser_t *p, unsigned number, ir_value_t *value) {
  if (number >= p->values_capacity) {
    size_t capacity = p->values_capacity * 2 + 64;
    if (capacity <= number) capacity = (size_t)number + 1;
    p->values = arena_grow_array(p->arena, p->values, p->values_capacity,
                                 capacity, sizeof p->values[0]);
    p->values_capacity = capacity;
  }
  if (p->values[number] != NULL)
    return parse_error(p, "%%%u is defined twice", number);
  p->values[number] = value;
  if (p->n_defined == p->defined_capacity) {
    size_t capacity = p->defined_capacity * 2 + 64;
    p->defined = arena_grow_array(p->arena, p->defined, p->n_defined, capacity,
                                  sizeof p->defined[0]);
    p->defined_capacity = capacity;
  }
  p->defined[p->n_defined++] = number;
  return MOEC_OK;
}

static void leave_scope(parser_t *p, size_t n_defined) {
  while (p->n_defined > n_defined) p->values[p->defined[--p->n_defined]] = NULL;
}

static moec_status_t parse_operand(parser_t *p, ir_value_t **out_value) {
  unsigned number = 0;
  *out_value = NULL;
  if (parse_accept_word(p, "_")) return MOEC_OK;
  MOEC_TRY(parse_number(p, &number));
  if (number < p->values_capacity) *out_value = p->values[number];
  if (*out_value == NULL)
    return parse_error(p, "%%%u is used before its definition", number);
  return MOEC_OK;
}

/* ---- Operations --------------------------------------------------------- */

/* What is read of an operation before it can be created. */
typedef struct head {
  ir_opcode_t code;
  bool fused;
  unsigned n_in, n_out;
  size_t in_capacity, out_capacity;
  ir_value_t **in;
  unsigned *out; /* numbers */
} head_t;

static moec_status_t parse_results(parser_t *p, head_t *head) {
  if (!parse_peek(p, '%')) return MOEC_OK;
  do {
    if (head->n_out == head->out_capacity) {
      head->out_capacity = head->out_capacity * 2 + 4;
      head->out = arena_grow_array(p->arena, head->out, head->n_out,
                                   head->out_capacity, sizeof head->out[0]);
    }
    MOEC_TRY(parse_number(p, &head->out[head->n_out++]));
  } while (parse_accept(p, ','));
  return parse_expect(p, '=');
}

static moec_status_t parse_operands(parser_t *p, head_t *head) {
  MOEC_TRY(parse_expect(p, '('));
  while (!parse_accept(p, ')')) {
    if (head->n_in > 0) MOEC_TRY(parse_expect(p, ','));
    if (head->n_in == head->in_capacity) {
      head->in_capacity = head->in_capacity * 2 + 4;
      head->in = arena_grow_array(p->arena, head->in, head->n_in,
                                  head->in_capacity, sizeof head->in[0]);
    }
    MOEC_TRY(parse_operand(p, &head->in[head->n_in++]));
  }
  return MOEC_OK;
}

static moec_status_t parse_head(parser_t *p, head_t *head) {
  MOEC_TRY(parse_results(p, head));
  head->fused = parse_accept_word(p, "fused");
  parse_skip(p);
  const char *start = p->at;
  token_t name = parse_word(p, "");
  if (name.length == 0) return parse_expected(p, "an operation");
  if (!find_opcode(p, name, &head->code)) {
    p->at = start;
    return parse_error(p, "unknown operation '%.*s'",
                       (int)(name.length < 64 ? name.length : 64), name.text);
  }
  const ir_op_info_t *info = ir_op_info(head->code);
  if (info->in_max > 0) return parse_operands(p, head);
  if (info->n_regions > 0 || !parse_accept(p, '(')) return MOEC_OK;
  return parse_expect(p, ')');
}

/* loc(#17 "node" Type at "place"), each part optional, "_" for no node */
static moec_status_t parse_loc(parser_t *p, ir_loc_t *loc) {
  *loc = (ir_loc_t){0};
  MOEC_TRY(parse_expect(p, '('));
  if (parse_accept(p, '#')) {
    uint64_t index;
    MOEC_TRY(parse_unsigned(p, &index));
    if (index >= INT32_MAX) return parse_error(p, "the number is too large");
    loc->index = (int)index + 1; /* printed as in diagnostics, from 0 */
  }
  if (parse_peek(p, '"'))
    MOEC_TRY(parse_string(p, &loc->node));
  else
    (void)parse_accept_word(p, "_");
  if (parse_peek(p, '"')) {
    MOEC_TRY(parse_string(p, &loc->type));
  } else if (!parse_peek(p, ')') && !parse_accept_word(p, "at")) {
    token_t type = parse_word(p, ":");
    if (type.length == 0) return parse_expected(p, "an operator");
    loc->type = arena_strndup(p->arena, type.text, type.length);
  } else if (!parse_peek(p, ')')) { /* after "at" */
    MOEC_TRY(parse_string(p, &loc->where));
    return parse_expect(p, ')');
  }
  if (parse_accept_word(p, "at")) MOEC_TRY(parse_string(p, &loc->where));
  return parse_expect(p, ')');
}

/* The types after ':' become the results' types, copied in *out_declared. */
static moec_status_t parse_result_types(parser_t *p, ir_op_t *op,
                                        ir_type_t **out_declared) {
  *out_declared = NULL;
  if (op->n_out == 0 || !parse_accept(p, ':')) return MOEC_OK;
  *out_declared = ARENA_ARRAY(p->arena, ir_type_t, op->n_out);
  for (unsigned i = 0; i < op->n_out; i++) {
    if (i > 0) MOEC_TRY(parse_expect(p, ','));
    MOEC_TRY(parse_type(p, &op->out[i].type));
    (*out_declared)[i] = op->out[i].type;
  }
  return MOEC_OK;
}

/* Launches and the like keep declared types, all others are inferred. */
static moec_status_t settle_types(parser_t *p, ir_op_t *op,
                                  const ir_type_t *declared) {
  const char *mnemonic = ir_op_info(op->code)->mnemonic;
  if (declared == NULL && op->n_out > 0 && ir_keeps_types(op->code))
    return diag_error(p->diag, op->loc, MOEC_E_INVALID_MODEL,
                      "%s needs the types of its results", mnemonic);
  MOEC_TRY(ir_infer_types(p->module, op, p->diag));
  if (declared == NULL) return MOEC_OK;
  for (unsigned i = 0; i < op->n_out; i++)
    if (!ir_type_equal(&declared[i], &op->out[i].type))
      return diag_error(p->diag, op->loc, MOEC_E_INVALID_MODEL,
                        "result %u of %s is declared as %s but has type %s", i,
                        mnemonic, ir_type_str(p->arena, &declared[i]),
                        ir_type_str(p->arena, &op->out[i].type));
  return MOEC_OK;
}

static moec_status_t parse_region(parser_t *p, ir_op_t *op, unsigned index,
                                  unsigned depth);

static moec_status_t parse_op(parser_t *p, ir_region_t *region,
                              unsigned depth) {
  head_t head = {0};
  ir_type_t *declared;
  parse_skip(p);
  ir_loc_t loc = parse_place(p);
  MOEC_TRY(parse_head(p, &head));
  ir_op_t *op =
      ir_op_create(p->module, head.code, loc, head.n_in, head.in, head.n_out);
  op->fused = head.fused;
  ir_append(region, op);
  if (parse_peek(p, '{')) MOEC_TRY(parse_attrs(p, op));
  bool variadic = ir_op_info(op->code)->n_regions == IR_VARIADIC;
  for (unsigned i = 0; variadic ? parse_peek(p, '(') : i < op->n_regions; i++) {
    if (variadic) ir_add_region(op);
    MOEC_TRY(parse_region(p, op, i, depth + 1));
  }
  MOEC_TRY(ir_check_form(op, MOEC_E_INVALID_MODEL, p->diag));
  MOEC_TRY(parse_result_types(p, op, &declared));
  if (parse_accept_word(p, "loc")) MOEC_TRY(parse_loc(p, &op->loc));
  MOEC_TRY(settle_types(p, op, declared));
  for (unsigned i = 0; i < op->n_out; i++)
    MOEC_TRY(define(p, head.out[i], &op->out[i]));
  return MOEC_OK;
}

/* ---- Regions and functions ---------------------------------------------- */

typedef struct arg {
  unsigned number;
  const char *name;
} arg_t;

/* "(%0 "name": f32[B], ...)" */
static moec_status_t parse_args(parser_t *p, unsigned *out_n, arg_t **out_args,
                                ir_type_t **out_types) {
  size_t n = 0, capacity = 0;
  arg_t *args = NULL;
  ir_type_t *types = NULL;
  *out_n = 0;
  *out_args = NULL;
  *out_types = NULL;
  MOEC_TRY(parse_expect(p, '('));
  while (!parse_accept(p, ')')) {
    if (n > 0) MOEC_TRY(parse_expect(p, ','));
    if (n == capacity) {
      capacity = capacity * 2 + 4;
      args = arena_grow_array(p->arena, args, n, capacity, sizeof *args);
      types = arena_grow_array(p->arena, types, n, capacity, sizeof *types);
    }
    MOEC_TRY(parse_number(p, &args[n].number));
    if (parse_peek(p, '"')) MOEC_TRY(parse_string(p, &args[n].name));
    MOEC_TRY(parse_expect(p, ':'));
    MOEC_TRY(parse_type(p, &types[n]));
    n++;
  }
  *out_n = (unsigned)n;
  *out_args = args;
  *out_types = types;
  return MOEC_OK;
}

static moec_status_t parse_body(parser_t *p, ir_region_t *region,
                                const arg_t *args, unsigned depth) {
  size_t n_defined = p->n_defined;
  if (depth > PARSE_MAX_DEPTH)
    return parse_error(p, "regions are nested more than %d deep",
                       PARSE_MAX_DEPTH);
  for (unsigned i = 0; i < region->n_args; i++)
    MOEC_TRY(define(p, args[i].number, &region->args[i]));
  MOEC_TRY(parse_expect(p, '{'));
  while (!parse_accept(p, '}')) MOEC_TRY(parse_op(p, region, depth));
  leave_scope(p, n_defined);
  return MOEC_OK;
}

static moec_status_t parse_region(parser_t *p, ir_op_t *op, unsigned index,
                                  unsigned depth) {
  unsigned n;
  arg_t *args;
  ir_type_t *types;
  MOEC_TRY(parse_args(p, &n, &args, &types));
  ir_region_set_args(op, index, n, types);
  return parse_body(p, &op->regions[index], args, depth);
}

static moec_status_t parse_func_name(parser_t *p, const char **out_name) {
  *out_name = NULL;
  MOEC_TRY(parse_expect(p, '@'));
  if (parse_peek(p, '"')) return parse_string(p, out_name);
  token_t name = parse_word(p, "$-");
  if (name.length == 0) return parse_expected(p, "the name of a function");
  *out_name = arena_strndup(p->arena, name.text, name.length);
  return MOEC_OK;
}

/* -> ("name", _) */
static moec_status_t parse_result_names(parser_t *p, ir_func_t *func,
                                        unsigned *out_n) {
  size_t n = 0, capacity = 4;
  parse_skip(p);
  if (p->at[0] != '-' || p->at[1] != '>') return MOEC_OK;
  p->at += 2;
  func->result_names = ARENA_ARRAY(p->arena, const char *, capacity);
  MOEC_TRY(parse_expect(p, '('));
  while (!parse_accept(p, ')')) {
    if (n > 0) MOEC_TRY(parse_expect(p, ','));
    if (n == capacity) {
      func->result_names =
          arena_grow_array(p->arena, func->result_names, n, capacity * 2,
                           sizeof func->result_names[0]);
      capacity *= 2;
    }
    if (!parse_accept_word(p, "_"))
      MOEC_TRY(parse_string(p, &func->result_names[n]));
    n++;
  }
  *out_n = (unsigned)n;
  return MOEC_OK;
}

/* inputs(sequence "s", tensor "x") */
static moec_status_t parse_ports(parser_t *p, const char *what,
                                 ir_ports_t *ports) {
  unsigned capacity = 0, first = 0;
  if (!parse_accept_word(p, what)) return MOEC_OK;
  MOEC_TRY(parse_expect(p, '('));
  while (!parse_accept(p, ')')) {
    if (ports->n > 0) MOEC_TRY(parse_expect(p, ','));
    if (ports->n == capacity) {
      ports->port = arena_grow_array(p->arena, ports->port, capacity,
                                     capacity * 2 + 4, sizeof *ports->port);
      capacity = capacity * 2 + 4;
    }
    ir_port_t *port = &ports->port[ports->n++];
    token_t kind = parse_word(p, "");
    if (!ir_port_kind_by_name(kind.text, kind.length, port))
      return parse_expected(p, "tensor, sequence or optional");
    MOEC_TRY(parse_string(p, &port->name));
    port->first = first;
    port->n = ir_port_width(port);
    first += port->n;
  }
  return MOEC_OK;
}

static moec_status_t parse_func(parser_t *p, ir_func_kind_t kind) {
  const char *name;
  unsigned n, n_names = 0;
  arg_t *args;
  ir_type_t *types;
  MOEC_TRY(parse_func_name(p, &name));
  ir_loc_t place = parse_place(p);
  MOEC_TRY(parse_args(p, &n, &args, &types));
  ir_func_t *func = ir_func_create(p->module, name, kind, n, types);
  for (unsigned i = 0; i < n; i++) {
    func->arg_names[i] = args[i].name;
    func->body.args[i].name = args[i].name;
  }
  MOEC_TRY(parse_result_names(p, func, &n_names));
  MOEC_TRY(parse_ports(p, "inputs", &func->inputs));
  MOEC_TRY(parse_ports(p, "outputs", &func->outputs));
  MOEC_TRY(parse_body(p, &func->body, args, 0));
  const ir_op_t *last = func->body.last;
  if (func->result_names == NULL) return MOEC_OK;
  if (last == NULL || last->code != OP_RETURN || last->n_in != n_names)
    return diag_error(p->diag, place, MOEC_E_INVALID_MODEL,
                      "@%s names %u results but returns another number", name,
                      n_names);
  for (unsigned i = 0; i < n_names; i++)
    if (last->in[i].value->name == NULL)
      last->in[i].value->name = func->result_names[i];
  return MOEC_OK;
}

/* ---- Modules ------------------------------------------------------------ */

/* "B >= 0" or "n in [0, 4*B]" */
static moec_status_t parse_symbol(parser_t *p) {
  int64_t lower;
  const expr_t *upper = NULL;
  token_t word = parse_word(p, "");
  bool valid = word.length > 0 && *word.text != '.' &&
               (*word.text < '0' || *word.text > '9');
  if (!valid) return parse_expected(p, "the name of a symbol");
  const char *name = arena_strndup(p->arena, word.text, word.length);
  if (expr_find_symbol(p->module->exprs, name) != NULL)
    return parse_error(p, "symbol '%s' is declared twice", name);
  if (parse_accept_word(p, "in")) {
    MOEC_TRY(parse_expect(p, '['));
    MOEC_TRY(parse_int(p, &lower));
    MOEC_TRY(parse_expect(p, ','));
    MOEC_TRY(parse_expr(p, &upper));
    MOEC_TRY(parse_expect(p, ']'));
  } else {
    MOEC_TRY(parse_expect(p, '>'));
    MOEC_TRY(parse_expect(p, '='));
    MOEC_TRY(parse_int(p, &lower));
  }
  expr_new_symbol(p->module->exprs, name, lower, upper);
  return MOEC_OK;
}

static moec_status_t parse_symbols(parser_t *p) {
  p->declared = true;
  MOEC_TRY(parse_expect(p, '{'));
  for (bool first = true; !parse_accept(p, '}'); first = false) {
    if (!first) MOEC_TRY(parse_expect(p, ','));
    MOEC_TRY(parse_symbol(p));
  }
  return MOEC_OK;
}

static moec_status_t parse_funcs(parser_t *p, bool wrapped) {
  for (;;) {
    parse_skip(p);
    if (wrapped ? parse_accept(p, '}') : p->at >= p->end) return MOEC_OK;
    if (parse_accept_word(p, "func")) {
      MOEC_TRY(parse_func(p, IR_FUNC_MAIN));
    } else if (parse_accept_word(p, "kernel")) {
      if (!wrapped) p->module->level = IR_LEVEL_LOOP;
      MOEC_TRY(parse_func(p, IR_FUNC_KERNEL));
    } else {
      return parse_expected(p, "func or kernel");
    }
  }
}

static moec_status_t parse_module(parser_t *p) {
  bool wrapped = parse_accept_word(p, "module");
  if (!wrapped) return parse_funcs(p, false);
  MOEC_TRY(parse_string(p, &p->module->name));
  if (parse_accept_word(p, "loop"))
    p->module->level = IR_LEVEL_LOOP;
  else if (!parse_accept_word(p, "tensor"))
    return parse_expected(p, "tensor or loop");
  MOEC_TRY(parse_expect(p, '{'));
  if (parse_accept_word(p, "symbols")) MOEC_TRY(parse_symbols(p));
  MOEC_TRY(parse_funcs(p, true));
  parse_skip(p);
  return p->at >= p->end ? MOEC_OK : parse_expected(p, "the end of the text");
}

moec_status_t ir_parse(arena_t *arena, const char *text, size_t length,
                       const char *data_dir, diag_sink_t *diag,
                       ir_module_t **out_module) {
  *out_module = NULL;
  parser_t *p = ARENA_NEW(arena, parser_t);
  p->arena = arena;
  p->module = ir_module_create(arena, "");
  p->data_dir = data_dir;
  p->diag = diag;
  p->text = p->at = p->counted = arena_strndup(arena, text, length);
  p->end = p->text + length;
  p->line = 1;
  fill_opcodes(p);
  MOEC_TRY(parse_module(p));
  MOEC_TRY(ir_verify_as(p->module, MOEC_E_INVALID_MODEL, false, diag));
  *out_module = p->module;
  return MOEC_OK;
}
