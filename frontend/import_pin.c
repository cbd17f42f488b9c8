/* Dimensions that the caller fixes. All pins are checked against the graph's
 * inputs before anything is imported; afterwards a dimension is looked up by
 * its dim_param, or by "input:axis" when it has none. */
#include <stdlib.h>
#include <string.h>

#include "frontend/import_state.h"

typedef Onnx__TensorShapeProto__Dimension dim_t;

static const ir_loc_t nowhere = {0};

static const char *axis_name(arena_t *arena, const char *input, size_t axis) {
  return arena_printf(arena, "%s:%zu", input, axis);
}

/* The declared shape of a tensor input, or NULL. */
static const Onnx__TensorShapeProto *shape_of(
    const Onnx__ValueInfoProto *input) {
  const Onnx__TypeProto *type = input->type;
  if (type == NULL || input->name == NULL ||
      type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
    return NULL;
  return type->tensor_type->shape;
}

/* The name under which a dimension is pinned; NULL if it is a number. */
static const char *key_of(importer_t *im, const char *input, size_t axis,
                          const dim_t *dim) {
  if (dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE)
    return NULL;
  const char *name = "";
  if (dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM)
    name = onnx_str(dim->dim_param);
  if (name[0] == '\0') return axis_name(im->arena, input, axis);
  return name[strspn(name, "0123456789")] == '\0' ? NULL : name;
}

/* ---- Finding what a pin names -------------------------------------------- */

typedef struct target { /* of a pin */
  const char *key;      /* NULL: nothing is named so */
  bool fixed;           /* the model says its size: */
  int64_t size;
} target_t;

/* Whether the pin names this dimension: by its dim_param, as "input:axis", or
 * without dim_param also as "input_axis", which is how it is printed. */
static bool names_dim(importer_t *im, const char *pin, const char *input,
                      size_t rank, size_t axis, const char *key) {
  const char *position = axis_name(im->arena, input, axis);
  if (strcmp(pin, position) == 0) return true;
  if (strcmp(pin, arena_printf(im->arena, "%s:-%zu", input, rank - axis)) == 0)
    return true;
  if (key == NULL) return false;
  if (strcmp(pin, key) == 0) return true;
  return strcmp(key, position) == 0 &&
         strcmp(pin, import_dim_name(im->arena, input, (unsigned)axis)) == 0;
}

static bool find_in_input(importer_t *im, const Onnx__ValueInfoProto *input,
                          const char *pin, target_t *out) {
  const Onnx__TensorShapeProto *shape = shape_of(input);
  for (size_t i = 0; shape != NULL && i < shape->n_dim; i++) {
    const char *key = key_of(im, input->name, i, shape->dim[i]);
    if (!names_dim(im, pin, input->name, shape->n_dim, i, key)) continue;
    *out = (target_t){.key = key != NULL ? key : pin, .fixed = key == NULL};
    if (!out->fixed) return true;
    out->size = shape->dim[i]->dim_value;
    if (shape->dim[i]->value_case ==
        ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM)
      out->size = strtoll(onnx_str(shape->dim[i]->dim_param), NULL, 10);
    return true;
  }
  return false;
}

/* A dim_param wins over a position that reads the same. */
static target_t find_target(importer_t *im, const scope_t *scope,
                            const char *pin) {
  const Onnx__GraphProto *graph = im->proto->graph;
  target_t target = {0}, other;
  for (size_t i = 0; i < graph->n_input; i++) {
    const Onnx__ValueInfoProto *input = graph->input[i];
    if (name_map_get(&scope->names, onnx_str(input->name)) != NULL) continue;
    if (!find_in_input(im, input, pin, &other)) continue;
    if (target.key == NULL || strcmp(other.key, pin) == 0) target = other;
  }
  return target;
}

/* ---- Telling what there is ----------------------------------------------- */

static void append_known(importer_t *im, const scope_t *scope, text_t *out) {
  const Onnx__GraphProto *graph = im->proto->graph;
  name_map_t seen;
  name_map_init(&seen, im->arena);
  for (size_t i = 0; i < graph->n_input; i++) {
    const Onnx__ValueInfoProto *input = graph->input[i];
    const Onnx__TensorShapeProto *shape = shape_of(input);
    if (shape == NULL || name_map_get(&scope->names, input->name) != NULL)
      continue;
    for (size_t d = 0; d < shape->n_dim; d++) {
      const char *key = key_of(im, input->name, d, shape->dim[d]);
      if (key == NULL || name_map_get(&seen, key) != NULL) continue;
      name_map_add(&seen, key, im);
      text_printf(out, "%s%s", out->length > 0 ? ", " : "", key);
    }
  }
}

static moec_status_t unknown(importer_t *im, const scope_t *scope,
                             const char *pin) {
  text_t known;
  text_init(&known, im->arena);
  moec_status_t status =
      diag_error(im->diag, nowhere, MOEC_E_USAGE,
                 "no input has a dimension named \"%s\"", pin);
  append_known(im, scope, &known);
  if (known.length > 0)
    diag_note(im->diag, nowhere, "there are: %s", known.data);
  else
    diag_note(im->diag, nowhere, "all dimensions of the inputs are fixed");
  return status;
}

/* ---- All pins ------------------------------------------------------------ */

static moec_status_t resolve(importer_t *im, const scope_t *scope,
                             const onnx_pin_t *pin) {
  target_t target = find_target(im, scope, pin->name);
  if (target.key == NULL) return unknown(im, scope, pin->name);
  if (target.fixed && target.size == pin->value) return MOEC_OK;
  if (target.fixed)
    return diag_error(im->diag, nowhere, MOEC_E_USAGE,
                      "dimension \"%s\" is %lld in the model and cannot be "
                      "fixed to %lld",
                      pin->name, (long long)target.size, (long long)pin->value);
  const onnx_pin_t *first = name_map_add(&im->pins, target.key, (void *)pin);
  if (first->value == pin->value) return MOEC_OK;
  return diag_error(im->diag, nowhere, MOEC_E_USAGE,
                    "dimension \"%s\" is fixed to %lld and to %lld", target.key,
                    (long long)first->value, (long long)pin->value);
}

moec_status_t import_pins(importer_t *im, const scope_t *scope) {
  moec_status_t status = MOEC_OK;
  for (unsigned i = 0; i < im->options->n_pins; i++) {
    moec_status_t one = resolve(im, scope, &im->options->pins[i]);
    if (one != MOEC_OK) status = one;
  }
  return status;
}

const expr_t *import_pinned(importer_t *im, const char *key) {
  const onnx_pin_t *pin = name_map_get(&im->pins, key);
  return pin == NULL ? NULL : expr_const(im->module->exprs, pin->value);
}
