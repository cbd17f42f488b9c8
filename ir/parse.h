/* The grammar of the text form, and what the files of the parser share.
 * Functions that return a status have reported the failure. */
#ifndef IR_PARSE_H
#define IR_PARSE_H

/* text    = "module" STRING ("tensor" | "loop") "{" [symbols] func* "}" | func*
 * symbols = "symbols" "{" NAME (">=" INT | "in" "[" INT "," SIZE "]"), .. "}"
 * func    = ("func" | "kernel") "@" NAME args ["->" "(" (STRING | "_"), .. ")"]
 *           "{" op* "}"
 * args    = "(" VALUE [STRING] ":" type, .. ")"
 * op      = [VALUE, .. "="] ["fused"] MNEMONIC [operands] [attrs] (args "{" op*
 *           "}")* [":" type, ..] ["loc" loc]
 * operands = "(" (VALUE | "_"), .. ")"      when the operation may have some
 * attrs   = "{" NAME "=" value, .. "}"
 * type    = ("seq" | "opt")* DTYPE "[" SIZE, .. "]" | "buf" DTYPE
 * data    = "[" element, .. "]" | "hex" "(" STRING ")"
 *         | "digest" "(" HEX "," BYTES ")"
 * loc     = "(" ["#" INDEX] [STRING | "_"] [TYPE | STRING] ["at" STRING] ")"
 *
 * Without "module" it is the short form: its level follows from whether there
 * are kernels. Without a symbols line symbols are made on first use, with the
 * lower bound 0. */

#include "ir/ir.h"

#define PARSE_MAX_DEPTH 128 /* of nested regions, sequences and optionals */

typedef struct parser {
  arena_t *arena;
  ir_module_t *module;
  const char *data_dir; /* may be NULL */
  diag_sink_t *diag;
  const char *text, *end; /* NUL-terminated copy */
  const char *at;         /* next character */
  const char *counted;    /* `line` is the line of this place */
  unsigned line;
  bool declared; /* there was a symbols line: no other symbols are made */
  uint8_t opcodes[512]; /* hash table: opcode + 1, 0: free */
  ir_value_t **values;  /* by number: what may be used here */
  size_t values_capacity;
  unsigned *defined; /* numbers in order of definition, for leaving scopes */
  size_t n_defined, defined_capacity;
} parser_t;

/* A stretch of the text. */
typedef struct token {
  const char *text;
  size_t length;
} token_t;

ir_loc_t parse_place(parser_t *p); /* "line N" of the next character */
moec_status_t parse_error(parser_t *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* "expected <what> but found ..." */
moec_status_t parse_expected(parser_t *p, const char *what);

void parse_skip(parser_t *p);         /* white space and comments */
bool parse_peek(parser_t *p, char c); /* all skip first */
bool parse_accept(parser_t *p, char c);
moec_status_t parse_expect(parser_t *p, char c);
/* Letters, digits, '_', '.' and those in `also`; empty if there are none. */
token_t parse_word(parser_t *p, const char *also);
bool parse_accept_word(parser_t *p, const char *word);
bool token_is(token_t token, const char *word);

moec_status_t parse_unsigned(parser_t *p, uint64_t *out_value);
moec_status_t parse_int(parser_t *p, int64_t *out_value);
moec_status_t parse_double(parser_t *p, double *out_value); /* inf, nan too */
moec_status_t parse_string(parser_t *p, const char **out_string);
moec_status_t parse_expr(parser_t *p, const expr_t **out_expr);
moec_status_t parse_dtype(parser_t *p, dtype_t *out_dtype);
moec_status_t parse_type(parser_t *p, ir_type_t *out_type);

/* "{name = value, ...}" of an operation, all of it. */
moec_status_t parse_attrs(parser_t *p, ir_op_t *op);
/* Elements of type `dtype` as literal_print_data writes them. */
moec_status_t parse_data(parser_t *p, dtype_t dtype, ir_data_t **out_data);

#endif
