/* Steps and attributes of moe.route. */
#include "ir/route.h"

#include <string.h>

/* ---- Steps --------------------------------------------------------------- */

#define SCORE STEP_IN_SCORE
#define NORM STEP_IN_NORM
#define WEIGHT STEP_IN_WEIGHT
static const step_info_t steps[] = {
#define STEP(name, form, code, places) \
  {name, STEP_##form, OP_##code, places, DT_NONE},
#include "ir/route.def"
};
#undef SCORE
#undef NORM
#undef WEIGHT

enum { N_STEPS = sizeof steps / sizeof steps[0] };

step_info_t route_step_cast(dtype_t dtype) {
  return (step_info_t){
      .name = dtype_name(dtype),
      .form = STEP_CAST,
      .code = OP_CAST,
      .places = STEP_IN_SCORE | STEP_IN_NORM | STEP_IN_WEIGHT,
      .dtype = dtype,
  };
}

static bool is_routed(dtype_t dtype) {
  return dtype == DT_F16 || dtype == DT_BF16 || dtype == DT_F32 ||
         dtype == DT_F64;
}

bool route_step_by_name(const char *name, step_info_t *out) {
  for (unsigned i = 0; i < N_STEPS; i++) {
    if (strcmp(steps[i].name, name) != 0) continue;
    *out = steps[i];
    return true;
  }
  dtype_t dtype = dtype_by_name(name, strlen(name));
  if (!is_routed(dtype)) return false;
  *out = route_step_cast(dtype);
  return true;
}

bool route_step_by_code(step_form_t form, ir_opcode_t code, step_info_t *out) {
  for (unsigned i = 0; i < N_STEPS; i++) {
    if (steps[i].form != form || steps[i].code != code) continue;
    *out = steps[i];
    return true;
  }
  return false;
}

bool route_add_step(route_steps_t *list, step_info_t step, double value) {
  if (list->n == ROUTE_MAX_STEPS) return false;
  list->step[list->n] = step;
  list->value[list->n++] = value;
  return true;
}

bool route_has_step(const route_steps_t *list, step_form_t form) {
  for (unsigned i = 0; i < list->n; i++)
    if (list->step[i].form == form) return true;
  return false;
}

static const char *const source_names[] = {"score",  "choice",  "logits",
                                           "mixing", "largest", "mixer"};
enum { N_SOURCES = sizeof source_names / sizeof source_names[0] };

const char *route_source_name(route_source_t source) {
  return source_names[source];
}

/* ---- Attributes ---------------------------------------------------------- */

static bool has_value(const step_info_t *step) {
  return step->form == STEP_RIGHT || step->form == STEP_LEFT;
}

static bool read_steps(const ir_op_t *op, ir_attr_id_t names,
                       ir_attr_id_t values, unsigned place, route_steps_t *out,
                       const char **out_what) {
  out->n = 0;
  unsigned n = 0, n_values = 0;
  const char *const *name = NULL;
  const double *value = NULL;
  if (ir_has_attr(op, names)) name = ir_get_strs(op, names, &n);
  if (ir_has_attr(op, values)) value = ir_get_floats(op, values, &n_values);
  *out_what = ir_attr_info(values)->name;
  if (n_values != n) return false;
  for (unsigned i = 0; i < n; i++) {
    step_info_t step;
    *out_what = name[i];
    if (!route_step_by_name(name[i], &step) || (step.places & place) == 0)
      return false;
    *out_what = ir_attr_info(values)->name;
    if (!has_value(&step) && value[i] != 0) return false;
    *out_what = ir_attr_info(names)->name;
    if (!route_add_step(out, step, value[i])) return false;
  }
  return true;
}

static double float_or_zero(const ir_op_t *op, ir_attr_id_t id) {
  return ir_has_attr(op, id) ? ir_get_float(op, id) : 0;
}

static bool read_source(const ir_op_t *op, route_t *out) {
  const char *source = ir_get_str(op, ATTR_MOE_ROUTE_source);
  out->source = ROUTE_FROM_SCORE;
  for (unsigned i = 0; source != NULL && i < N_SOURCES; i++) {
    if (strcmp(source, source_names[i]) != 0) continue;
    out->source = (route_source_t)i;
    return true;
  }
  return source == NULL;
}

bool route_read(const ir_op_t *op, route_t *out, const char **out_what) {
  *out = (route_t){
      .k = ir_get_int(op, ATTR_MOE_ROUTE_k),
      .by_logits = ir_get_int(op, ATTR_MOE_ROUTE_by_logits) != 0,
      .groups = ir_get_int(op, ATTR_MOE_ROUTE_groups),
      .group_best = ir_get_int(op, ATTR_MOE_ROUTE_group_best),
      .groups_kept = ir_get_int(op, ATTR_MOE_ROUTE_groups_kept),
      .group_fill = float_or_zero(op, ATTR_MOE_ROUTE_group_fill),
      .group_multiply = ir_get_int(op, ATTR_MOE_ROUTE_group_multiply) != 0,
      .rounds = ir_get_int(op, ATTR_MOE_ROUTE_rounds) != 0,
      .removed = float_or_zero(op, ATTR_MOE_ROUTE_removed),
      .remove_multiply = ir_get_int(op, ATTR_MOE_ROUTE_remove_multiply) != 0,
      .last_index = ir_get_int(op, ATTR_MOE_ROUTE_last_index) != 0,
      .mixer = float_or_zero(op, ATTR_MOE_ROUTE_mixer),
  };
  for (unsigned i = 0; i < ROUTE_MAX_IN; i++) out->in[i] = ir_in(op, i);
  *out_what = "source";
  return read_source(op, out) &&
         read_steps(op, ATTR_MOE_ROUTE_score, ATTR_MOE_ROUTE_score_values,
                    STEP_IN_SCORE, &out->score, out_what) &&
         read_steps(op, ATTR_MOE_ROUTE_norm, ATTR_MOE_ROUTE_norm_values,
                    STEP_IN_NORM, &out->norm, out_what) &&
         read_steps(op, ATTR_MOE_ROUTE_weight, ATTR_MOE_ROUTE_weight_values,
                    STEP_IN_WEIGHT, &out->weight, out_what);
}

static void write_steps(ir_op_t *op, ir_attr_id_t names, ir_attr_id_t values,
                        const route_steps_t *list) {
  const char *name[ROUTE_MAX_STEPS];
  if (list->n == 0) return;
  for (unsigned i = 0; i < list->n; i++) name[i] = list->step[i].name;
  ir_set_strs(op, names, list->n, name);
  ir_set_floats(op, values, list->n, list->value);
}

static void write_flag(ir_op_t *op, ir_attr_id_t id, bool flag) {
  if (flag) ir_set_int(op, id, 1);
}

static void write_groups(ir_op_t *op, const route_t *r) {
  if (r->groups == 0) return;
  ir_set_int(op, ATTR_MOE_ROUTE_groups, r->groups);
  ir_set_int(op, ATTR_MOE_ROUTE_group_best, r->group_best);
  ir_set_int(op, ATTR_MOE_ROUTE_groups_kept, r->groups_kept);
  write_flag(op, ATTR_MOE_ROUTE_group_multiply, r->group_multiply);
  if (!r->group_multiply)
    ir_set_float(op, ATTR_MOE_ROUTE_group_fill, r->group_fill);
}

ir_op_t *route_write(ir_module_t *module, ir_loc_t loc, const route_t *r) {
  unsigned n = ROUTE_MAX_IN;
  while (n > 1 && r->in[n - 1] == NULL) n--;
  ir_op_t *op = ir_op_create(module, OP_MOE_ROUTE, loc, n, r->in, 2);
  ir_set_int(op, ATTR_MOE_ROUTE_k, r->k);
  write_steps(op, ATTR_MOE_ROUTE_score, ATTR_MOE_ROUTE_score_values, &r->score);
  write_flag(op, ATTR_MOE_ROUTE_by_logits, r->by_logits);
  write_groups(op, r);
  write_flag(op, ATTR_MOE_ROUTE_rounds, r->rounds);
  write_flag(op, ATTR_MOE_ROUTE_remove_multiply, r->remove_multiply);
  if (r->rounds && r->k > 1 && !r->remove_multiply)
    ir_set_float(op, ATTR_MOE_ROUTE_removed, r->removed);
  write_flag(op, ATTR_MOE_ROUTE_last_index, r->last_index);
  if (r->source != ROUTE_FROM_SCORE)
    ir_set_str(op, ATTR_MOE_ROUTE_source, route_source_name(r->source));
  if (r->source == ROUTE_FROM_MIXER)
    ir_set_float(op, ATTR_MOE_ROUTE_mixer, r->mixer);
  write_steps(op, ATTR_MOE_ROUTE_norm, ATTR_MOE_ROUTE_norm_values, &r->norm);
  write_steps(op, ATTR_MOE_ROUTE_weight, ATTR_MOE_ROUTE_weight_values,
              &r->weight);
  return op;
}

/* ---- Types --------------------------------------------------------------- */

static dtype_t type_after(const route_steps_t *list, dtype_t dtype) {
  for (unsigned i = 0; i < list->n; i++)
    if (list->step[i].form == STEP_CAST) dtype = list->step[i].dtype;
  return dtype;
}

route_types_t route_types(const route_t *r) {
  route_types_t types = {.logits = r->in[ROUTE_X]->type.dtype};
  types.score = type_after(&r->score, types.logits);
  types.weight = types.score;
  if (r->source == ROUTE_FROM_LOGITS || r->source == ROUTE_FROM_MIXER ||
      (r->by_logits && r->source != ROUTE_FROM_SCORE))
    types.weight = types.logits;
  if (r->source == ROUTE_FROM_MIXING)
    types.weight = r->in[ROUTE_MIXING]->type.dtype;
  types.weight = type_after(&r->weight, types.weight);
  return types;
}
