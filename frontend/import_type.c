/* Declared types: of inputs, and as a check of what was inferred. */
#include <string.h>

#include "frontend/import_state.h"

static dtype_t dtype_of(int32_t code) {
  return code > DT_NONE && code < DT_COUNT ? (dtype_t)code : DT_NONE;
}

static bool all_digits(const char *text) {
  if (text[0] == '\0') return false;
  return text[strspn(text, "0123456789")] == '\0';
}

/* A name for a symbol made of any text. */
static const char *symbol_name(arena_t *arena, const char *text) {
  char *name = arena_strdup(arena, text);
  size_t n = 0;
  for (const char *c = text; *c != '\0'; c++) {
    bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
    bool digit = (*c >= '0' && *c <= '9') || *c == '.';
    if (letter || *c == '_' || (digit && n > 0)) {
      name[n++] = *c;
    } else if (n > 0 && name[n - 1] != '_') {
      name[n++] = '_';
    }
    if (n == 48) break;
  }
  while (n > 0 && name[n - 1] == '_') n--;
  name[n] = '\0';
  return n > 0 ? name : "dim";
}

/* What makes each name: nodes, and the graph itself for its inputs. */
static void note_producers(const Onnx__GraphProto *graph, name_map_t *map) {
  for (size_t i = 0; i < graph->n_input; i++)
    name_map_add(map, onnx_str(graph->input[i]->name), (void *)graph);
  for (size_t i = 0; i < graph->n_node; i++)
    for (size_t j = 0; j < graph->node[i]->n_output; j++)
      name_map_add(map, onnx_str(graph->node[i]->output[j]), graph->node[i]);
}

static bool is_if(const Onnx__NodeProto *node) {
  return strcmp(onnx_str(node->op_type), "If") == 0 && node->n_input > 0;
}

bool import_is_chosen_by_input(arena_t *arena, const Onnx__GraphProto *graph) {
  enum { MAX_STEPS = 8 }; /* Squeeze, Cast, Not and the like */
  name_map_t producers;
  name_map_init(&producers, arena);
  for (size_t i = 0; i < graph->n_node; i++) {
    const Onnx__NodeProto *node = graph->node[i];
    if (!is_if(node)) continue;
    if (producers.n == 0) note_producers(graph, &producers);
    for (int step = 0; step < MAX_STEPS && node != NULL; step++) {
      const void *from = NULL;
      if (node->n_input > 0)
        from = name_map_get(&producers, onnx_str(node->input[0]));
      if (from == graph) return true;
      node = from;
    }
  }
  return false;
}

static const expr_t *named_dim(importer_t *im, const char *name,
                               unsigned axis) {
  if (im->chosen_by_input && axis > 0 && import_pinned(im, name) == NULL)
    return expr_new_symbol(im->module->exprs, symbol_name(im->arena, name), 0,
                           NULL);
  const expr_t *dim = name_map_get(&im->dims, name);
  if (dim != NULL) return dim;
  dim = import_pinned(im, name);
  if (dim == NULL)
    dim = expr_new_symbol(im->module->exprs, symbol_name(im->arena, name), 0,
                          NULL);
  return name_map_add(&im->dims, name, (void *)dim);
}

const char *import_dim_name(arena_t *arena, const char *input, unsigned axis) {
  return arena_printf(arena, "%s_%u", symbol_name(arena, input), axis);
}

static const expr_t *unnamed_dim(importer_t *im, const char *input,
                                 unsigned axis) {
  const expr_t *dim =
      import_pinned(im, arena_printf(im->arena, "%s:%u", input, axis));
  if (dim != NULL) return dim;
  return expr_new_symbol(im->module->exprs,
                         import_dim_name(im->arena, input, axis), 0, NULL);
}

static moec_status_t read_dim(importer_t *im, const char *input, unsigned axis,
                              const Onnx__TensorShapeProto__Dimension *dim,
                              ir_loc_t loc, const expr_t **out_dim) {
  expr_pool_t *pool = im->module->exprs;
  if (dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
    if (dim->dim_value < 0)
      return diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                        "dimension %u is %lld, expected at least 0", axis,
                        (long long)dim->dim_value);
    *out_dim = expr_const(pool, dim->dim_value);
    return MOEC_OK;
  }
  const char *name = "";
  if (dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM)
    name = onnx_str(dim->dim_param);
  if (name[0] == '\0') {
    *out_dim = unnamed_dim(im, input, axis);
  } else if (all_digits(name)) {
    int64_t size = 0;
    for (const char *c = name; *c != '\0'; c++)
      if (__builtin_mul_overflow(size, 10, &size) ||
          __builtin_add_overflow(size, *c - '0', &size))
        return diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                          "dimension %u is too large: %s", axis, name);
    *out_dim = expr_const(pool, size);
  } else {
    *out_dim = named_dim(im, name, axis);
  }
  return MOEC_OK;
}

static const char *kind_name(const Onnx__TypeProto *type) {
  switch (type->value_case) {
    case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE:
      return "a tensor";
    case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE:
      return "a sequence";
    case ONNX__TYPE_PROTO__VALUE_MAP_TYPE:
      return "a map";
    case ONNX__TYPE_PROTO__VALUE_OPAQUE_TYPE:
      return "an opaque value";
    case ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE:
      return "a sparse tensor";
    case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
      return "an optional";
    default:
      return "a value without type";
  }
}

/* What an optional holds, and the tensors of a sequence. */
static const Onnx__TypeProto *look_inside(const Onnx__TypeProto *type,
                                          ir_port_t *port) {
  port->kind = IR_TENSOR;
  if (type->value_case == ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE) {
    port->kind = IR_OPTIONAL;
    type = type->optional_type->elem_type;
  }
  if (type == NULL || type->value_case != ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE)
    return type;
  if (port->kind == IR_OPTIONAL)
    port->of_sequence = true;
  else
    port->kind = IR_SEQUENCE;
  return type->sequence_type->elem_type;
}

static moec_status_t read_tensor_type(importer_t *im, const char *name,
                                      const Onnx__TypeProto__Tensor *tensor,
                                      ir_loc_t loc, ir_type_t *out_type) {
  dtype_t dtype = dtype_of(tensor->elem_type);
  if (dtype == DT_NONE)
    return diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                      "element type %d is not known", (int)tensor->elem_type);
  if (tensor->shape == NULL)
    return diag_error(im->diag, loc, MOEC_E_UNSUPPORTED,
                      "the number of dimensions of the input is not given");
  if (tensor->shape->n_dim > IR_MAX_RANK)
    return diag_error(im->diag, loc, MOEC_E_LIMIT,
                      "rank %zu exceeds the limit of %d", tensor->shape->n_dim,
                      IR_MAX_RANK);
  unsigned rank = (unsigned)tensor->shape->n_dim;
  const expr_t **dim = ARENA_ARRAY(im->arena, const expr_t *, rank);
  for (unsigned i = 0; i < rank && name != NULL; i++)
    MOEC_TRY(read_dim(im, name, i, tensor->shape->dim[i], loc, &dim[i]));
  *out_type = ir_tensor_type(dtype, rank, dim);
  return MOEC_OK;
}

/* The type of a sequence's elements: no names of dimensions. */
static moec_status_t read_element_type(importer_t *im, const char *sequence,
                                       const Onnx__TypeProto__Tensor *tensor,
                                       ir_loc_t loc, ir_type_t *out_type) {
  int rank = tensor->shape != NULL ? -1 : import_rank_of_elements(im, sequence);
  if (rank < 0 || rank > IR_MAX_RANK || dtype_of(tensor->elem_type) == DT_NONE)
    return read_tensor_type(im, NULL, tensor, loc, out_type);
  const expr_t **dim = ARENA_ARRAY(im->arena, const expr_t *, (unsigned)rank);
  *out_type = ir_tensor_type(dtype_of(tensor->elem_type), (unsigned)rank, dim);
  return MOEC_OK;
}

/* The dimensions of what may be absent bind no symbol of other inputs. */
static void loosen_dims(importer_t *im, const char *name, ir_type_t *type) {
  const expr_t **dim = ARENA_ARRAY(im->arena, const expr_t *, type->rank);
  for (unsigned i = 0; i < type->rank; i++)
    dim[i] = expr_is_const(type->dim[i], NULL) ? type->dim[i]
                                               : unnamed_dim(im, name, i);
  type->dim = dim;
}

/* Elements of a sequence may differ in size: its type names none. */
static void sequence_types(importer_t *im, const char *name,
                           const ir_type_t *element, ir_type_t types[2]) {
  const expr_t **dim = ARENA_ARRAY(im->arena, const expr_t *, 3);
  const char *base = symbol_name(im->arena, name);
  expr_pool_t *pool = im->module->exprs;
  dim[0] =
      expr_new_symbol(pool, arena_printf(im->arena, "%s_total", base), 0, NULL);
  dim[1] = expr_new_symbol(pool, arena_printf(im->arena, "%s_length", base), 0,
                           NULL);
  dim[2] = expr_const(pool, element->rank);
  types[0] = ir_tensor_type(element->dtype, 1, dim);
  types[1] = ir_tensor_type(DT_I64, 2, dim + 1);
}

moec_status_t import_input_type(importer_t *im,
                                const Onnx__ValueInfoProto *info,
                                ir_port_t *out_port, ir_type_t out_types[3]) {
  const char *name = onnx_str(info->name);
  ir_loc_t loc = {.where = arena_printf(im->arena, "input \"%s\"", name)};
  if (info->type == NULL ||
      info->type->value_case == ONNX__TYPE_PROTO__VALUE__NOT_SET)
    return diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                      "the input has no type");
  *out_port = (ir_port_t){.name = name};
  const Onnx__TypeProto *type = look_inside(info->type, out_port);
  bool is_sequence = out_port->kind == IR_SEQUENCE || out_port->of_sequence;
  if (type == NULL || type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
    return diag_error(im->diag, loc, MOEC_E_UNSUPPORTED,
                      "the input %s %s, expected tensors",
                      type == info->type ? "is" : "holds",
                      type != NULL ? kind_name(type) : "nothing");
  const Onnx__TypeProto__Tensor *tensor = type->tensor_type;
  MOEC_TRY(is_sequence
               ? read_element_type(im, name, tensor, loc, &out_types[0])
               : read_tensor_type(im, name, tensor, loc, &out_types[0]));
  if (out_port->kind == IR_OPTIONAL && !is_sequence)
    loosen_dims(im, name, &out_types[0]);
  if (out_port->kind != IR_TENSOR && dtype_is_packed(out_types[0].dtype))
    return diag_error(im->diag, loc, MOEC_E_UNSUPPORTED,
                      "the input holds elements below 8 bits");
  if (is_sequence) {
    ir_type_t element = out_types[0];
    sequence_types(im, name, &element, out_types);
  }
  out_port->n = ir_port_width(out_port);
  if (out_port->kind == IR_OPTIONAL)
    out_types[out_port->n - 1] = ir_scalar_type(DT_BOOL);
  return MOEC_OK;
}

void import_declare(scope_t *scope, size_t n,
                    Onnx__ValueInfoProto *const *info) {
  for (size_t i = 0; i < n; i++)
    if (info[i]->type != NULL && info[i]->name != NULL)
      name_map_add(&scope->declared, info[i]->name, info[i]->type);
}

/* What contradicts the declaration for certain, as text; NULL if nothing.
 * *out_shape tells whether it is only the shape. */
static const char *contradiction(importer_t *im,
                                 const Onnx__TypeProto__Tensor *tensor,
                                 const ir_type_t *type, bool *out_shape) {
  dtype_t dtype = dtype_of(tensor->elem_type);
  if (dtype != DT_NONE && dtype != type->dtype)
    return arena_printf(im->arena, "declared with elements of type %s",
                        dtype_name(dtype));
  *out_shape = true;
  if (tensor->shape == NULL) return NULL;
  if (tensor->shape->n_dim != type->rank)
    return arena_printf(im->arena, "declared with %zu dimensions",
                        tensor->shape->n_dim);
  for (unsigned i = 0; i < type->rank; i++) {
    const Onnx__TensorShapeProto__Dimension *dim = tensor->shape->dim[i];
    int64_t size;
    if (dim->value_case ==
            ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE &&
        expr_is_const(type->dim[i], &size) && size != dim->dim_value)
      return arena_printf(im->arena, "declared with %lld as dimension %u",
                          (long long)dim->dim_value, i);
  }
  return NULL;
}

moec_status_t import_check_type(importer_t *im, const Onnx__TypeProto *declared,
                                const char *name, const ir_value_t *value,
                                ir_loc_t loc, bool is_output) {
  const char *found = NULL;
  bool only_shape = false;
  if (declared->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
    found = contradiction(im, declared->tensor_type, &value->type, &only_shape);
  else if (declared->value_case != ONNX__TYPE_PROTO__VALUE__NOT_SET &&
           declared->value_case != ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE)
    found = arena_printf(im->arena, "declared as %s", kind_name(declared));
  if (found == NULL) return MOEC_OK;
  const char *type = ir_type_str(im->arena, &value->type);
  if (only_shape && !is_output && !im->options->strict_types) {
    diag_warning(im->diag, loc, "value \"%s\" is %s, but %s", name, type,
                 found);
    return MOEC_OK;
  }
  return diag_error(im->diag, loc, MOEC_E_INVALID_MODEL,
                    "value \"%s\" is %s, but %s", name, type, found);
}
