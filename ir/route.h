/* What a moe.route does, read from its attributes or to be written to them. */
#ifndef IR_ROUTE_H
#define IR_ROUTE_H

#include "ir/ir.h"

enum { ROUTE_MAX_STEPS = 16 };

typedef enum {
  STEP_UNARY,
  STEP_RIGHT,
  STEP_LEFT,
  STEP_SQUARE,
  STEP_SOFTMAX,
  STEP_SUM,
  STEP_DIVIDE,
  STEP_TIMES,
  STEP_SCALE,
  STEP_CAST,
} step_form_t;

enum { STEP_IN_SCORE = 1, STEP_IN_NORM = 2, STEP_IN_WEIGHT = 4 };

/* One row of route.def, or the conversion to a float type. */
typedef struct step_info {
  const char *name;
  step_form_t form;
  ir_opcode_t code;
  unsigned places;
  dtype_t dtype; /* of a conversion */
} step_info_t;

typedef struct route_steps {
  unsigned n;
  step_info_t step[ROUTE_MAX_STEPS];
  double value[ROUTE_MAX_STEPS]; /* 0 where the step has none */
} route_steps_t;

/* Operands. */
enum {
  ROUTE_X,            /* logits[T, E]; or x[T, H] where there is a gate */
  ROUTE_GATE,         /* [H, E] */
  ROUTE_GATE_BIAS,    /* [E] */
  ROUTE_SELECT_BIAS,  /* [E] */
  ROUTE_EXPERT_SCALE, /* [E] */
  ROUTE_MIXING,       /* [T, E] */
  ROUTE_MAX_IN
};

typedef enum {
  ROUTE_FROM_SCORE,
  ROUTE_FROM_CHOICE, /* what selects: biased, limited to groups */
  ROUTE_FROM_LOGITS,
  ROUTE_FROM_MIXING,
  ROUTE_FROM_LARGEST, /* of the choice in each round */
  ROUTE_FROM_MIXER,   /* SparseMixer */
} route_source_t;

typedef struct route {
  ir_value_t *in[ROUTE_MAX_IN]; /* NULL where absent */
  int64_t k;
  route_steps_t score, norm, weight;
  bool by_logits; /* the logits select, not the scores */
  int64_t groups; /* 0: no limit to groups */
  int64_t group_best, groups_kept;
  double group_fill;
  bool group_multiply;  /* experts of other groups: times 0, not group_fill */
  bool rounds;          /* k times arg_max, taken ones removed */
  double removed;       /* what stands in their place */
  bool remove_multiply; /* times 0 */
  bool last_index;      /* of equal choices the higher number */
  route_source_t source;
  double mixer; /* threshold of ROUTE_FROM_MIXER */
} route_t;

bool route_step_by_name(const char *name, step_info_t *out);
/* The step that computes code, in that form; false if there is none. */
bool route_step_by_code(step_form_t form, ir_opcode_t code, step_info_t *out);
step_info_t route_step_cast(dtype_t dtype);
/* False when there is no room. */
bool route_add_step(route_steps_t *steps, step_info_t step, double value);
bool route_has_step(const route_steps_t *steps, step_form_t form);

const char *route_source_name(route_source_t source);

/* Reads a moe.route; false and *out_what where a name is unknown or a list has
 * the wrong length. */
bool route_read(const ir_op_t *op, route_t *out, const char **out_what);
/* A detached moe.route. */
ir_op_t *route_write(ir_module_t *module, ir_loc_t loc, const route_t *route);

/* The element types of logits, scores and weights. */
typedef struct route_types {
  dtype_t logits, score, weight;
} route_types_t;
route_types_t route_types(const route_t *route);

#endif
