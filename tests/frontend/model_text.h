/* Models as text, for tests of the import:
 *
 *   ir 8                          (8 unless given)
 *   opset 20                      opset com.microsoft 1
 *   input x f32[B,4]              init w i64[2] 1 2
 *   value y f32[?]                output z f32[B,4]      output z
 *   node Add(x, w) -> z {axis = 1, perm = [1, 0], alpha = 1.5, mode = "max",
 *                        names = ["a", "b"],
 *                        to = &of}          a reference to attribute `of`
 *   function D::F(a, b) -> (c) attrs(k)     nodes follow, up to `end`
 *   body G                        a graph up to `end`, for {then_branch = body
 * G}
 *
 * One statement a line. `?` is a dimension without name; a type without
 * brackets has no shape. Operators may be D::Op; a name may be left out as `_`.
 */
#ifndef TESTS_FRONTEND_MODEL_TEXT_H
#define TESTS_FRONTEND_MODEL_TEXT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants to come after them. */
/* clang-format off */
#include <cmocka.h>
/* clang-format on */

#include "frontend/import.h"

typedef struct model_text {
  arena_t *arena;
  const char *cursor; /* in the line being read */
  Onnx__ModelProto model;
  Onnx__GraphProto graph;
  Onnx__FunctionProto *function; /* being filled, or NULL */
  Onnx__GraphProto *current;     /* being filled */
  Onnx__GraphProto **bodies;
  size_t n_bodies;
} model_text_t;

/* Appends to a list whose capacity is the next power of two. */
#define MT_PUSH(mt, list, n, item)                                      \
  do {                                                                  \
    if (((n) & ((n) - 1)) == 0)                                         \
      (list) = arena_grow_array((mt)->arena, (list), (n),               \
                                (n) > 0 ? 2 * (n) : 1, sizeof *(list)); \
    (list)[(n)++] = (item);                                             \
  } while (0)

static inline void mt_space(model_text_t *mt) {
  while (*mt->cursor == ' ' || *mt->cursor == ',') mt->cursor++;
}

static inline bool mt_take(model_text_t *mt, const char *token) {
  mt_space(mt);
  size_t n = strlen(token);
  if (strncmp(mt->cursor, token, n) != 0) return false;
  mt->cursor += n;
  return true;
}

/* Up to a delimiter. */
static inline char *mt_word(model_text_t *mt) {
  mt_space(mt);
  size_t n = strcspn(mt->cursor, " ,()[]{}=\n");
  char *word = arena_strndup(mt->arena, mt->cursor, n);
  mt->cursor += n;
  return word;
}

static inline char *mt_name(model_text_t *mt) {
  char *name = mt_word(mt);
  return strcmp(name, "_") == 0 ? arena_strdup(mt->arena, "") : name;
}

static inline Onnx__TypeProto *mt_type(model_text_t *mt) {
  Onnx__TypeProto *type = ARENA_NEW(mt->arena, Onnx__TypeProto);
  Onnx__TypeProto__Tensor *tensor =
      ARENA_NEW(mt->arena, Onnx__TypeProto__Tensor);
  onnx__type_proto__init(type);
  onnx__type_proto__tensor__init(tensor);
  type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
  type->tensor_type = tensor;
  char *dtype = mt_word(mt);
  tensor->has_elem_type = 1;
  tensor->elem_type = (int32_t)dtype_by_name(dtype, strlen(dtype));
  if (*mt->cursor != '[') return type;
  mt->cursor++;
  tensor->shape = ARENA_NEW(mt->arena, Onnx__TensorShapeProto);
  onnx__tensor_shape_proto__init(tensor->shape);
  while (!mt_take(mt, "]")) {
    Onnx__TensorShapeProto__Dimension *dim =
        ARENA_NEW(mt->arena, Onnx__TensorShapeProto__Dimension);
    onnx__tensor_shape_proto__dimension__init(dim);
    char *word = mt_word(mt), *end;
    long long size = strtoll(word, &end, 10);
    if (*end == '\0') {
      dim->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
      dim->dim_value = size;
    } else if (strcmp(word, "?") != 0) {
      dim->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
      dim->dim_param = word[0] == '\'' ? word + 1 : word;
    }
    MT_PUSH(mt, tensor->shape->dim, tensor->shape->n_dim, dim);
  }
  return type;
}

static inline Onnx__ValueInfoProto *mt_value(model_text_t *mt) {
  Onnx__ValueInfoProto *value = ARENA_NEW(mt->arena, Onnx__ValueInfoProto);
  onnx__value_info_proto__init(value);
  value->name = mt_name(mt);
  mt_space(mt);
  if (*mt->cursor != '\0') value->type = mt_type(mt);
  return value;
}

static inline Onnx__TensorProto *mt_tensor(model_text_t *mt) {
  Onnx__TensorProto *tensor = ARENA_NEW(mt->arena, Onnx__TensorProto);
  onnx__tensor_proto__init(tensor);
  tensor->name = mt_name(mt);
  Onnx__TypeProto *type = mt_type(mt);
  tensor->has_data_type = 1;
  tensor->data_type = type->tensor_type->elem_type;
  const Onnx__TensorShapeProto *shape = type->tensor_type->shape;
  for (size_t i = 0; shape != NULL && i < shape->n_dim; i++)
    MT_PUSH(mt, tensor->dims, tensor->n_dims, shape->dim[i]->dim_value);
  for (mt_space(mt); *mt->cursor != '\0'; mt_space(mt)) {
    char *word = mt_word(mt);
    switch (tensor->data_type) {
      case DT_F32:
        MT_PUSH(mt, tensor->float_data, tensor->n_float_data,
                strtof(word, NULL));
        break;
      case DT_I64:
        MT_PUSH(mt, tensor->int64_data, tensor->n_int64_data,
                strtoll(word, NULL, 10));
        break;
      default:
        MT_PUSH(mt, tensor->int32_data, tensor->n_int32_data, atoi(word));
    }
  }
  return tensor;
}

static inline void mt_bytes(model_text_t *mt, ProtobufCBinaryData *out) {
  size_t n = strcspn(mt->cursor, "\"");
  out->data = (uint8_t *)arena_strndup(mt->arena, mt->cursor, n);
  out->len = n;
  mt->cursor += n + 1;
}

#define MT_ATTR(name) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##name

static inline void mt_number(model_text_t *mt, Onnx__AttributeProto *attr) {
  char *word = mt_word(mt);
  if (strpbrk(word, ".ein") != NULL) {
    attr->type = MT_ATTR(FLOAT);
    attr->has_f = 1;
    attr->f = strtof(word, NULL);
  } else {
    attr->type = MT_ATTR(INT);
    attr->has_i = 1;
    attr->i = strtoll(word, NULL, 10);
  }
}

static inline Onnx__AttributeProto *mt_attr(model_text_t *mt) {
  Onnx__AttributeProto *attr = ARENA_NEW(mt->arena, Onnx__AttributeProto);
  onnx__attribute_proto__init(attr);
  attr->name = mt_word(mt);
  mt_take(mt, "=");
  attr->has_type = 1;
  if (mt_take(mt, "\"")) {
    attr->type = MT_ATTR(STRING);
    attr->has_s = 1;
    mt_bytes(mt, &attr->s);
  } else if (mt_take(mt, "body ")) {
    char *name = mt_word(mt);
    attr->type = MT_ATTR(GRAPH);
    for (size_t i = 0; i < mt->n_bodies; i++)
      if (strcmp(mt->bodies[i]->name, name) == 0) attr->g = mt->bodies[i];
  } else if (mt_take(mt, "&")) {
    attr->has_type = 0;
    attr->ref_attr_name = mt_word(mt);
  } else if (mt_take(mt, "tensor")) {
    attr->type = MT_ATTR(TENSOR);
    const char *end = strchr(mt->cursor, ';');
    model_text_t inner = *mt;
    inner.cursor =
        arena_printf(mt->arena, "t %.*s", (int)(end - mt->cursor), mt->cursor);
    attr->t = mt_tensor(&inner);
    mt->cursor = end + 1;
  } else if (mt_take(mt, "[\"")) {
    attr->type = MT_ATTR(STRINGS);
    do {
      ProtobufCBinaryData text = {0, NULL};
      mt_bytes(mt, &text);
      MT_PUSH(mt, attr->strings, attr->n_strings, text);
    } while (mt_take(mt, "\""));
    mt_take(mt, "]");
  } else if (mt_take(mt, "[")) {
    attr->type = MT_ATTR(INTS);
    while (!mt_take(mt, "]"))
      MT_PUSH(mt, attr->ints, attr->n_ints, strtoll(mt_word(mt), NULL, 10));
  } else {
    mt_number(mt, attr);
  }
  return attr;
}

/* "D::Op" in two parts. */
static inline void mt_operator(model_text_t *mt, char **domain, char **name) {
  *name = mt_word(mt);
  char *colon = strstr(*name, "::");
  if (colon == NULL) return;
  *colon = '\0';
  *domain = *name;
  *name = colon + 2;
}

static inline void mt_list(model_text_t *mt, char ***list, size_t *n) {
  if (!mt_take(mt, "(")) {
    MT_PUSH(mt, *list, *n, mt_name(mt));
    return;
  }
  while (!mt_take(mt, ")")) MT_PUSH(mt, *list, *n, mt_name(mt));
}

static inline Onnx__NodeProto *mt_node(model_text_t *mt) {
  Onnx__NodeProto *node = ARENA_NEW(mt->arena, Onnx__NodeProto);
  onnx__node_proto__init(node);
  mt_operator(mt, &node->domain, &node->op_type);
  mt_list(mt, &node->input, &node->n_input);
  mt_take(mt, "->");
  mt_list(mt, &node->output, &node->n_output);
  if (mt_take(mt, "{"))
    while (!mt_take(mt, "}"))
      MT_PUSH(mt, node->attribute, node->n_attribute, mt_attr(mt));
  return node;
}

static inline Onnx__OperatorSetIdProto *mt_opset(model_text_t *mt) {
  Onnx__OperatorSetIdProto *opset =
      ARENA_NEW(mt->arena, Onnx__OperatorSetIdProto);
  onnx__operator_set_id_proto__init(opset);
  char *word = mt_word(mt), *end;
  opset->version = strtoll(word, &end, 10);
  if (*end != '\0') {
    opset->domain = word;
    opset->version = strtoll(mt_word(mt), NULL, 10);
  }
  opset->has_version = 1;
  return opset;
}

static inline void mt_function(model_text_t *mt) {
  Onnx__FunctionProto *f = ARENA_NEW(mt->arena, Onnx__FunctionProto);
  onnx__function_proto__init(f);
  mt_operator(mt, &f->domain, &f->name);
  mt_list(mt, &f->input, &f->n_input);
  mt_take(mt, "->");
  mt_list(mt, &f->output, &f->n_output);
  if (mt_take(mt, "attrs")) mt_list(mt, &f->attribute, &f->n_attribute);
  if (mt_take(mt, "{"))
    while (!mt_take(mt, "}"))
      MT_PUSH(mt, f->attribute_proto, f->n_attribute_proto, mt_attr(mt));
  MT_PUSH(mt, mt->model.functions, mt->model.n_functions, f);
  mt->function = f;
}

static inline void mt_line(model_text_t *mt) {
  Onnx__GraphProto *g = mt->current;
  Onnx__FunctionProto *f = mt->function;
  char *word = mt_word(mt);
  if (strcmp(word, "ir") == 0) {
    mt->model.ir_version = strtoll(mt_word(mt), NULL, 10);
  } else if (strcmp(word, "opset") == 0 && f != NULL) {
    MT_PUSH(mt, f->opset_import, f->n_opset_import, mt_opset(mt));
  } else if (strcmp(word, "opset") == 0) {
    MT_PUSH(mt, mt->model.opset_import, mt->model.n_opset_import, mt_opset(mt));
  } else if (strcmp(word, "input") == 0) {
    MT_PUSH(mt, g->input, g->n_input, mt_value(mt));
  } else if (strcmp(word, "output") == 0) {
    MT_PUSH(mt, g->output, g->n_output, mt_value(mt));
  } else if (strcmp(word, "value") == 0) {
    MT_PUSH(mt, g->value_info, g->n_value_info, mt_value(mt));
  } else if (strcmp(word, "init") == 0) {
    MT_PUSH(mt, g->initializer, g->n_initializer, mt_tensor(mt));
  } else if (strcmp(word, "node") == 0 && f != NULL) {
    MT_PUSH(mt, f->node, f->n_node, mt_node(mt));
  } else if (strcmp(word, "node") == 0) {
    MT_PUSH(mt, g->node, g->n_node, mt_node(mt));
  } else if (strcmp(word, "function") == 0) {
    mt_function(mt);
  } else if (strcmp(word, "body") == 0) {
    mt->current = ARENA_NEW(mt->arena, Onnx__GraphProto);
    onnx__graph_proto__init(mt->current);
    mt->current->name = mt_word(mt);
    MT_PUSH(mt, mt->bodies, mt->n_bodies, mt->current);
  } else if (strcmp(word, "end") == 0) {
    mt->function = NULL;
    mt->current = &mt->graph;
  } else if (word[0] != '\0') {
    fail_msg("no statement \"%s\"", word);
  }
}

/* The bytes of the model that the text describes. */
static inline const uint8_t *model_bytes(arena_t *arena, const char *text,
                                         size_t *out_length) {
  model_text_t mt = {.arena = arena};
  onnx__model_proto__init(&mt.model);
  onnx__graph_proto__init(&mt.graph);
  mt.model.graph = mt.current = &mt.graph;
  mt.model.has_ir_version = 1;
  mt.model.ir_version = 8;
  while (*text != '\0') {
    size_t n = strcspn(text, "\n");
    mt.cursor = arena_strndup(arena, text, n);
    mt_line(&mt);
    text += n + (text[n] == '\n');
  }
  *out_length = onnx__model_proto__get_packed_size(&mt.model);
  uint8_t *bytes = arena_alloc(arena, *out_length + 1);
  onnx__model_proto__pack(&mt.model, bytes);
  return bytes;
}

typedef struct import_fixture {
  arena_t *arena;
  onnx_store_t *store;
  diag_sink_t diag;
  ir_module_t *module;
} import_fixture_t;

static inline int import_setup(void **state) {
  import_fixture_t *f = calloc(1, sizeof *f);
  f->arena = arena_create(0);
  f->store = onnx_store_create(NULL);
  diag_init(&f->diag, f->arena, NULL);
  *state = f;
  return 0;
}

static inline int import_teardown(void **state) {
  import_fixture_t *f = *state;
  onnx_store_destroy(f->store);
  arena_destroy(f->arena);
  free(f);
  return 0;
}

static inline moec_status_t import_bytes_of(
    import_fixture_t *f, const char *text,
    const onnx_import_options_t *options) {
  size_t length;
  const uint8_t *bytes = model_bytes(f->arena, text, &length);
  onnx_model_t *model;
  diag_init(&f->diag, f->arena, NULL);
  f->module = NULL;
  moec_status_t status = onnx_load_memory(f->store, f->arena, bytes, length,
                                          NULL, &f->diag, &model);
  assert_int_equal(status, MOEC_OK);
  return onnx_import(model, options, &f->diag, &f->module);
}

/* All diagnostics of the fixture as text. */
static inline const char *diag_texts(import_fixture_t *f) {
  text_t text;
  text_init(&text, f->arena);
  for (const diag_t *d = f->diag.first; d != NULL; d = d->next) {
    text_printf(&text, "%s %d: %s %s #%d: %s\n",
                d->severity == DIAG_ERROR ? "error" : "warning", (int)d->status,
                d->loc.where != NULL ? d->loc.where : "",
                d->loc.type != NULL ? d->loc.type : "", d->loc.index, d->text);
    for (const diag_t *n = d->notes; n != NULL; n = n->next)
      text_printf(&text, "  note: %s\n", n->text);
  }
  return text.data;
}

static inline void check_accepted(void **state, const char *text,
                                  const char *words, const char *file,
                                  int line) {
  import_fixture_t *f = *state;
  moec_status_t status = import_bytes_of(f, text, NULL);
  if (status == MOEC_OK) status = ir_verify(f->module, &f->diag);
  if (status != MOEC_OK ||
      (words != NULL && strstr(diag_texts(f), words) == NULL)) {
    print_error("line %d: status %d, diagnostics:\n%s", line, (int)status,
                diag_texts(f));
    _fail(file, line);
  }
}

static inline void check_rejected(void **state, moec_status_t status,
                                  const char *text, const char *words,
                                  const char *file, int line) {
  import_fixture_t *f = *state;
  moec_status_t found = import_bytes_of(f, text, NULL);
  if (found == status && f->module == NULL &&
      strstr(diag_texts(f), words) != NULL)
    return;
  print_error("line %d: status %d, expected %d and \"%s\"; diagnostics:\n%s",
              line, (int)found, (int)status, words, diag_texts(f));
  _fail(file, line);
}

/* Operations of main without constants, in the textual IR, as printed. */
static inline void check_main(void **state, const char *text,
                              const char *expected, const char *file,
                              int line) {
  import_fixture_t *f = *state;
  check_accepted(state, text, NULL, file, line);
  text_t found;
  text_init(&found, f->arena);
  ir_renumber(f->module->first);
  for (ir_op_t *op = f->module->first->body.first; op != NULL; op = op->next) {
    if (op->code == OP_CONSTANT) continue;
    ir_print_op(op, &found);
    if (found.length == 0 || found.data[found.length - 1] != '\n')
      text_append(&found, "\n", 1);
  }
  if (strcmp(found.data, expected) == 0) return;
  print_error("line %d: operations differ; found:\n%s\nexpected:\n%s\n", line,
              found.data, expected);
  _fail(file, line);
}

#define TEST(name) \
  cmocka_unit_test_setup_teardown(name, import_setup, import_teardown)
#define ACCEPT(text) check_accepted(state, (text), NULL, __FILE__, __LINE__)
#define ACCEPT_WITH(text, words) \
  check_accepted(state, (text), (words), __FILE__, __LINE__)
#define INVALID(text, words)                                             \
  check_rejected(state, MOEC_E_INVALID_MODEL, (text), (words), __FILE__, \
                 __LINE__)
#define UNSUPPORTED(text, words) \
  check_rejected(state, MOEC_E_UNSUPPORTED, (text), (words), __FILE__, __LINE__)
#define LIMIT(text, words) \
  check_rejected(state, MOEC_E_LIMIT, (text), (words), __FILE__, __LINE__)
#define MAIN_IS(text, expected) \
  check_main(state, (text), (expected), __FILE__, __LINE__)

#endif
