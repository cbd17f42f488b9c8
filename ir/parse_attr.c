/* Attributes and tensor data of the text form. */
#include <math.h>
#include <string.h>

#include "ir/element.h"
#include "ir/literal.h"
#include "ir/parse.h"

/* ---- Data --------------------------------------------------------------- */

/* A growing array of elements of one type. */
typedef struct elements {
  dtype_t dtype;
  unsigned char *bytes;
  const char **strings;
  uint64_t count, capacity;
} elements_t;

static void reserve_element(arena_t *arena, elements_t *e) {
  if (e->count < e->capacity) return;
  uint64_t capacity = e->capacity == 0 ? 16 : e->capacity * 2;
  if (e->dtype == DT_STR)
    e->strings = arena_grow_array(arena, e->strings, e->count, capacity,
                                  sizeof e->strings[0]);
  else
    e->bytes =
        arena_grow_array(arena, e->bytes, dtype_bytes(e->dtype, e->count),
                         dtype_bytes(e->dtype, capacity), 1);
  e->capacity = capacity;
}

static moec_status_t parse_integer_element(parser_t *p, elements_t *e) {
  bool is_signed = dtype_class(e->dtype) == DT_CLASS_SIGNED;
  int64_t value;
  if (is_signed) {
    MOEC_TRY(parse_int(p, &value));
  } else {
    uint64_t magnitude;
    MOEC_TRY(parse_unsigned(p, &magnitude));
    value = (int64_t)magnitude;
  }
  ir_element_set_int(e->dtype, e->bytes, e->count, value);
  if (ir_element_int(e->dtype, e->bytes, e->count) == value) return MOEC_OK;
  return parse_error(p, "the number is out of range for %s",
                     dtype_name(e->dtype));
}

static moec_status_t parse_complex_element(parser_t *p, elements_t *e) {
  dtype_t part = e->dtype == DT_C64 ? DT_F32 : DT_F64;
  double real, imaginary;
  MOEC_TRY(parse_expect(p, '('));
  MOEC_TRY(parse_double(p, &real));
  MOEC_TRY(parse_expect(p, ','));
  MOEC_TRY(parse_double(p, &imaginary));
  ir_element_set_float(part, e->bytes, 2 * e->count, real);
  ir_element_set_float(part, e->bytes, 2 * e->count + 1, imaginary);
  return parse_expect(p, ')');
}

static moec_status_t parse_element(parser_t *p, elements_t *e) {
  double x;
  reserve_element(p->arena, e);
  switch (dtype_class(e->dtype)) {
    case DT_CLASS_STRING:
      return parse_string(p, &e->strings[e->count]);
    case DT_CLASS_COMPLEX:
      return parse_complex_element(p, e);
    case DT_CLASS_FLOAT:
      MOEC_TRY(parse_double(p, &x));
      ir_element_set_float(e->dtype, e->bytes, e->count, x);
      return MOEC_OK;
    case DT_CLASS_BOOL:
      e->bytes[e->count] = parse_accept_word(p, "true");
      if (e->bytes[e->count] || parse_accept_word(p, "false")) return MOEC_OK;
      return parse_expected(p, "true or false");
    default:
      return parse_integer_element(p, e);
  }
}

static moec_status_t parse_inline_data(parser_t *p, dtype_t dtype,
                                       ir_data_t *data) {
  elements_t e = {.dtype = dtype};
  reserve_element(p->arena, &e); /* strings and bytes are never NULL */
  MOEC_TRY(parse_expect(p, '['));
  while (!parse_accept(p, ']')) {
    if (e.count > 0) MOEC_TRY(parse_expect(p, ','));
    MOEC_TRY(parse_element(p, &e));
    e.count++;
  }
  data->bytes = e.bytes;
  data->strings = e.strings;
  data->size = dtype_bytes(dtype, e.count);
  return MOEC_OK;
}

static int hex_digit(char c) {
  const char *digits = "0123456789abcdef", *found = strchr(digits, c);
  return c == '\0' || found == NULL ? -1 : (int)(found - digits);
}

static moec_status_t parse_hex_data(parser_t *p, ir_data_t *data) {
  const char *digits;
  MOEC_TRY(parse_expect(p, '('));
  MOEC_TRY(parse_string(p, &digits));
  data->size = strlen(digits) / 2;
  unsigned char *bytes = arena_alloc(p->arena, data->size);
  bool valid = strlen(digits) % 2 == 0;
  for (size_t i = 0; valid && i < data->size; i++) {
    int high = hex_digit(digits[2 * i]), low = hex_digit(digits[2 * i + 1]);
    valid = high >= 0 && low >= 0;
    if (valid) bytes[i] = (unsigned char)(high * 16 + low);
  }
  if (!valid) return parse_error(p, "hex() needs pairs of digits 0-9, a-f");
  data->bytes = bytes;
  return parse_expect(p, ')');
}

/* Without a directory the data is zero, of the right size and digest. */
static moec_status_t parse_digest_data(parser_t *p, dtype_t dtype,
                                       ir_data_t *data) {
  MOEC_TRY(parse_expect(p, '('));
  MOEC_TRY(parse_unsigned(p, &data->digest));
  MOEC_TRY(parse_expect(p, ','));
  MOEC_TRY(parse_unsigned(p, &data->size));
  MOEC_TRY(parse_expect(p, ')'));
  if (data->digest == 0) return parse_error(p, "a digest is never 0");
  if (p->data_dir != NULL) {
    const char *problem = literal_read_file(p->arena, p->data_dir, dtype, data);
    if (problem == NULL) return MOEC_OK;
    return diag_error(p->diag, parse_place(p), MOEC_E_IO, "%s/%016llx.bin: %s",
                      p->data_dir, (unsigned long long)data->digest, problem);
  }
  if (dtype != DT_STR) {
    data->bytes = arena_alloc(p->arena, data->size);
    return MOEC_OK;
  }
  const char **strings = ARENA_ARRAY(p->arena, const char *, data->size / 16);
  for (uint64_t i = 0; i < data->size / 16; i++) strings[i] = "";
  data->strings = strings;
  return MOEC_OK;
}

moec_status_t parse_data(parser_t *p, dtype_t dtype, ir_data_t **out_data) {
  ir_data_t *data = ARENA_NEW(p->arena, ir_data_t);
  *out_data = data;
  if (parse_peek(p, '[')) return parse_inline_data(p, dtype, data);
  if (dtype != DT_STR && parse_accept_word(p, "hex"))
    return parse_hex_data(p, data);
  if (parse_accept_word(p, "digest")) return parse_digest_data(p, dtype, data);
  return parse_expected(p, "data");
}

/* ---- Attributes --------------------------------------------------------- */

/* A growing list of 8-byte items: integers, doubles or pointers. */
typedef union item {
  int64_t i;
  double f;
  const char *s;
  const expr_t *expr;
} item_t;
_Static_assert(sizeof(item_t) == 8, "lists are copied as arrays of 8 bytes");

static moec_status_t parse_item(parser_t *p, ir_attr_kind_t kind,
                                item_t *item) {
  switch (kind) {
    case IR_ATTR_INTS:
      return parse_int(p, &item->i);
    case IR_ATTR_FLOATS:
      return parse_double(p, &item->f);
    case IR_ATTR_STRS:
      return parse_string(p, &item->s);
    default:
      return parse_expr(p, &item->expr);
  }
}

static moec_status_t parse_list(parser_t *p, ir_attr_kind_t kind,
                                item_t **out_items, unsigned *out_n) {
  size_t n = 0, capacity = 8;
  item_t *items = ARENA_ARRAY(p->arena, item_t, capacity);
  MOEC_TRY(parse_expect(p, '['));
  while (!parse_accept(p, ']')) {
    if (n > 0) MOEC_TRY(parse_expect(p, ','));
    if (n == capacity) {
      items = arena_grow_array(p->arena, items, n, capacity * 2, sizeof *items);
      capacity *= 2;
    }
    MOEC_TRY(parse_item(p, kind, &items[n++]));
  }
  if (n > UINT32_MAX) return parse_error(p, "the list is too long");
  *out_items = items;
  *out_n = (unsigned)n;
  return MOEC_OK;
}

static moec_status_t parse_list_attr(parser_t *p, ir_op_t *op, ir_attr_id_t id,
                                     ir_attr_kind_t kind) {
  item_t *items = NULL;
  unsigned n = 0;
  MOEC_TRY(parse_list(p, kind, &items, &n));
  switch (kind) {
    case IR_ATTR_INTS:
      ir_set_ints(op, id, n, &items->i);
      return MOEC_OK;
    case IR_ATTR_FLOATS:
      ir_set_floats(op, id, n, &items->f);
      return MOEC_OK;
    case IR_ATTR_STRS:
      ir_set_strs(op, id, n, &items->s);
      return MOEC_OK;
    default:
      ir_set_exprs(op, id, n, &items->expr);
      return MOEC_OK;
  }
}

/* DT_NONE when it is not there yet. */
static dtype_t data_dtype(const ir_op_t *op) {
  const ir_attr_t *attr = ir_find_attr(op, ATTR_CONSTANT_data_dtype);
  if (attr == NULL) attr = ir_find_attr(op, ATTR_CONSTANT_dtype);
  return attr != NULL ? attr->v.dtype : DT_NONE;
}

static moec_status_t parse_attr_value(parser_t *p, ir_op_t *op,
                                      ir_attr_id_t id) {
  ir_attr_kind_t kind = ir_attr_info(id)->kind;
  item_t item;
  dtype_t dtype;
  ir_data_t *data;
  switch (kind) {
    case IR_ATTR_INT:
      MOEC_TRY(parse_int(p, &item.i));
      ir_set_int(op, id, item.i);
      return MOEC_OK;
    case IR_ATTR_FLOAT:
      MOEC_TRY(parse_double(p, &item.f));
      ir_set_float(op, id, item.f);
      return MOEC_OK;
    case IR_ATTR_STR:
      MOEC_TRY(parse_string(p, &item.s));
      ir_set_str(op, id, item.s);
      return MOEC_OK;
    case IR_ATTR_DTYPE:
      MOEC_TRY(parse_dtype(p, &dtype));
      ir_set_dtype(op, id, dtype);
      return MOEC_OK;
    case IR_ATTR_EXPR:
      MOEC_TRY(parse_expr(p, &item.expr));
      ir_set_expr(op, id, item.expr);
      return MOEC_OK;
    case IR_ATTR_DATA:
      dtype = DT_U8; /* of operations that do not say */
      if (op->code == OP_CONSTANT) dtype = data_dtype(op);
      if (dtype == DT_NONE)
        return parse_error(p, "data needs the attribute dtype before it");
      MOEC_TRY(parse_data(p, dtype, &data));
      ir_set_data(op, id, data);
      return MOEC_OK;
    default:
      return parse_list_attr(p, op, id, kind);
  }
}

static bool find_attr_id(const ir_op_t *op, token_t name, ir_attr_id_t *out) {
  unsigned first = (unsigned)ir_op_info(op->code)->attr_first;
  for (unsigned i = 0; i < ir_n_attrs_of(op->code); i++) {
    *out = (ir_attr_id_t)(first + i);
    if (token_is(name, ir_attr_info(*out)->name)) return true;
  }
  return false;
}

moec_status_t parse_attrs(parser_t *p, ir_op_t *op) {
  const char *mnemonic = ir_op_info(op->code)->mnemonic;
  MOEC_TRY(parse_expect(p, '{'));
  for (bool first = true; !parse_accept(p, '}'); first = false) {
    ir_attr_id_t id;
    if (!first) MOEC_TRY(parse_expect(p, ','));
    parse_skip(p);
    token_t name = parse_word(p, "");
    if (name.length == 0) return parse_expected(p, "the name of an attribute");
    if (!find_attr_id(op, name, &id))
      return parse_error(p, "%s has no attribute '%.*s'", mnemonic,
                         (int)(name.length < 64 ? name.length : 64), name.text);
    if (ir_has_attr(op, id))
      return parse_error(p, "attribute '%s' is given twice",
                         ir_attr_info(id)->name);
    MOEC_TRY(parse_expect(p, '='));
    MOEC_TRY(parse_attr_value(p, op, id));
  }
  return MOEC_OK;
}
