/* Places in the buffers of experts. */
#include <string.h>

#include "export/put.h"

enum { KEPT, PLACE, SCRATCH };

/* Each has a column of its own. */
enum { MOST_EXPERTS = 1 << 20 };

typedef struct counts {
  export_t *e;
  og_value_t *numbers; /* i64[experts]: 0, 1, .. */
  og_value_t *first, *second;
} counts_t;

/* Of keys[G, n]: how many of the same expert and group come before, behind
 * those in base[G, 1, experts], which gets all of these too; NULL: none. */
static og_value_t *put_places(counts_t *c, og_value_t *keys,
                              og_value_t **base) {
  export_t *e = c->e;
  og_value_t *column = put2(e, "Unsqueeze", keys, c->second);
  og_value_t *same = put_test(e, "Equal", column, c->numbers);
  og_value_t *hot = put_cast(e, same, DT_I64);
  og_value_t *axis = put_scalar_int(e, DT_I64, 1);
  og_value_t *before = put2(e, "CumSum", hot, axis);
  set_int(e, before, "exclusive", 1);
  if (base != NULL) {
    og_value_t *all = put2(e, "ReduceSum", hot, c->first);
    set_int(e, all, "keepdims", 1);
    if (*base != NULL) {
      before = put2(e, "Add", before, *base);
      all = put2(e, "Add", all, *base);
    }
    *base = all;
  }
  og_value_t *own = put2(e, "Mul", before, hot);
  og_value_t *place = put2(e, "ReduceSum", own, c->second);
  set_int(e, place, "keepdims", 0);
  return place;
}

/* A slot of x[G, n, k] after the other, behind what was kept before. */
static og_value_t *put_slots(counts_t *c, og_value_t *x, int64_t k,
                             og_value_t *capacity) {
  export_t *e = c->e;
  og_value_t **place = ARENA_ARRAY(e->arena, og_value_t *, (size_t)k);
  og_value_t *base = NULL, *zero = put_scalar_int(e, DT_I64, 0);
  og_value_t *most = put2(e, "Max", capacity, zero);
  for (int64_t j = 0; j < k; j++) {
    og_value_t *slot = put_scalar_int(e, DT_I64, j);
    og_value_t *keys = put_gather(e, x, slot, 2);
    og_value_t *of_slot = put_places(c, keys, &base);
    base = put2(e, "Min", base, most);
    place[j] = put2(e, "Unsqueeze", of_slot, c->second);
  }
  og_node_t *all = put_node(e, "Concat", (unsigned)k, place, 1);
  all->out[0].dtype = DT_I64;
  set_int(e, &all->out[0], "axis", 2);
  return &all->out[0];
}

void write_moe_limit(export_t *e, const writer_row_t *row) {
  enum { MOST_SLOTS = 1024 };
  const ir_type_t *type = in_type(e, 0);
  expr_pool_t *pool = e->module->exprs;
  const expr_t *groups = ir_get_expr(e->op, ATTR_MOE_LIMIT_groups);
  const expr_t *tokens = expr_divide_exactly(pool, type->dim[0], groups);
  const expr_t *k = type->dim[1];
  int64_t experts = ir_get_int(e->op, ATTR_MOE_LIMIT_experts), n_slots;
  bool by_slot = strcmp(ir_get_str(e->op, ATTR_MOE_LIMIT_order), "slots") == 0;
  bool behind_kept = ir_get_int(e->op, ATTR_MOE_LIMIT_behind_kept) != 0;
  (void)row;
  if (experts > MOST_EXPERTS) {
    refuse(e, "there are more than %d experts", MOST_EXPERTS);
    experts = 1;
  }
  if (behind_kept && (!expr_is_const(k, &n_slots) || n_slots > MOST_SLOTS)) {
    refuse(e, "the number of slots is not known or more than %d", MOST_SLOTS);
    behind_kept = false;
  }
  if (e->op->out[SCRATCH].uses != NULL)
    refuse(e, "its memory for counting is used");
  counts_t c = {.e = e,
                .numbers = put_range(e, expr_const(pool, experts)),
                .first = put_int1(e, 1),
                .second = put_int1(e, 2)};
  og_value_t *x = in_value(e, 0), *place;
  og_value_t *capacity = ir_in(e->op, 1) != NULL ? in_value(e, 1) : NULL;
  const expr_t *cube[] = {groups, tokens, k};
  const expr_t *matrix[] = {groups, expr_mul(pool, tokens, k)};
  const int64_t turned[] = {0, 2, 1};
  og_value_t *keys = put_reshape(e, x, type, 3, cube);
  if (behind_kept) {
    place = put_slots(&c, keys, n_slots, capacity);
  } else {
    if (by_slot) keys = put_transpose(e, keys, 3, turned);
    place = put_places(&c, put_reshape(e, keys, NULL, 2, matrix), NULL);
    if (by_slot) {
      const expr_t *slots[] = {groups, k, tokens};
      place = put_reshape(e, place, NULL, 3, slots);
      place = put_transpose(e, place, 3, turned);
    }
  }
  place = put_reshape(e, place, NULL, 2, type->dim);
  og_value_t *kept = x;
  if (capacity != NULL) {
    og_value_t *fits = put_test(e, "Less", place, capacity);
    kept = put_where(e, fits, x, put_scalar_int(e, DT_I64, -1));
  }
  give(e, KEPT, kept);
  give(e, PLACE, place);
  give(e, SCRATCH, put_int1(e, 0));
}
