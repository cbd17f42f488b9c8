/* Rows sorted by groups, and products of groups. */
#include "export/put.h"

/* What only code needs of group_rows: tiles, and how many there are. */
enum { ORDER, PLACE, GROUP, OFFSETS, TILES, N_TILES };

/* Of products; each has nodes of its own up to MANY_GROUPS. */
enum { MANY_GROUPS = 256, MOST_GROUPS = 1 << 20 };

/* Stable: TopK gives equal values in ascending order of their places. */
static og_value_t *sort_keys(export_t *e, og_value_t *keys, const expr_t *rows,
                             og_value_t **out_sorted) {
  og_value_t *k = put_size(e, rows);
  og_node_t *node = put_node(e, "TopK", 2, (og_value_t *[]){keys, k}, 2);
  node->out[0].dtype = keys->dtype;
  node->out[1].dtype = DT_I64;
  set_int(e, &node->out[0], "axis", 0);
  set_int(e, &node->out[0], "largest", 0);
  set_int(e, &node->out[0], "sorted", 1);
  *out_sorted = &node->out[0];
  return &node->out[1];
}

/* offsets[j]: how many keys are below j, for j = 0 .. groups + 1 */
static og_value_t *put_offsets(export_t *e, og_value_t *keys, int64_t groups) {
  int64_t *ends = ARENA_ARRAY(e->arena, int64_t, (size_t)groups + 2);
  for (int64_t j = 0; j < groups + 2; j++) ends[j] = j;
  og_value_t *column =
      put_tensor(e, DT_I64, 2, (int64_t[]){groups + 2, 1}, ends,
                 (uint64_t)(groups + 2) * sizeof ends[0]);
  og_value_t *below = put_test(e, "Less", keys, column);
  og_value_t *counted = put_cast(e, below, DT_I64);
  og_value_t *axis = put_int1(e, 1);
  og_value_t *offsets = put2(e, "ReduceSum", counted, axis);
  set_int(e, offsets, "keepdims", 0);
  return offsets;
}

/* Code alone asks for tiles. */
static void check_tiles(export_t *e, unsigned result) {
  for (const ir_use_t *use = e->op->out[result].uses; use; use = use->next) {
    ir_opcode_t user = use->user->code;
    if (user == OP_BIND || user == OP_GROUPED_MATMUL) continue;
    refuse(e, "its tiles are used by '%s'", ir_op_info(user)->mnemonic);
    give(e, result, put_int1(e, 0));
    return;
  }
}

void write_group_rows(export_t *e, const writer_row_t *row) {
  const expr_t *rows = in_type(e, 0)->dim[0];
  int64_t groups = ir_get_int(e->op, ATTR_GROUP_ROWS_groups);
  if (groups > MOST_GROUPS) {
    refuse(e, "there are more than %d groups", MOST_GROUPS);
    groups = 0;
  }
  og_value_t *group = in_value(e, 0), *sorted;
  og_value_t *zero = put_scalar_int(e, DT_I64, 0);
  og_value_t *none = put_scalar_int(e, DT_I64, groups);
  og_value_t *from_zero = put_test(e, "LessOrEqual", zero, group);
  og_value_t *below = put_test(e, "Less", group, none);
  og_value_t *named = put2(e, "And", from_zero, below);
  og_value_t *keys = put_where(e, named, group, none);
  og_value_t *order = sort_keys(e, keys, rows, &sorted);
  og_value_t *places = put_range(e, rows);
  (void)row;
  give(e, ORDER, order);
  give(e, PLACE, put3(e, "ScatterElements", places, order, places));
  og_value_t *some = put_test(e, "Less", sorted, none);
  give(e, GROUP, put_where(e, some, sorted, zero));
  give(e, OFFSETS, put_offsets(e, keys, groups));
  check_tiles(e, TILES);
  check_tiles(e, N_TILES);
}

/* The same by a matrix for each row: few nodes, however many groups. The group
 * of row r is the number of groups that end at or before it. */
static og_value_t *put_by_row(export_t *e, og_value_t *x, og_value_t *w,
                              og_value_t *offsets, int64_t groups) {
  og_value_t *first = put_int1(e, 0), *second = put_int1(e, 1);
  og_value_t *last = put_int1(e, groups + 1);
  og_node_t *ends = put_node(e, "Slice", 4,
                             (og_value_t *[]){offsets, second, last, first}, 1);
  ends->out[0].dtype = DT_I64;
  og_value_t *number = put_range(e, in_type(e, 0)->dim[0]);
  og_value_t *column = put2(e, "Unsqueeze", number, second);
  og_value_t *before = put_test(e, "LessOrEqual", &ends->out[0], column);
  og_value_t *counted = put_cast(e, before, DT_I64);
  og_value_t *group = put2(e, "ReduceSum", counted, second);
  set_int(e, group, "keepdims", 1);
  og_value_t *most = put_int1(e, groups - 1);
  og_value_t *some = put_test(e, "LessOrEqual", group, most);
  og_value_t *limited = put2(e, "Min", group, most);
  og_value_t *index = put2(e, "Squeeze", limited, second);
  og_value_t *matrices = put_gather(e, w, index, 0);
  og_value_t *rows = put2(e, "Unsqueeze", x, second);
  og_value_t *products = put2(e, "MatMul", rows, matrices);
  og_value_t *y = put2(e, "Squeeze", products, second);
  og_value_t *zero = put_scalar_int(e, x->dtype, 0);
  return put_where(e, some, y, zero);
}

og_value_t *put_by_group(export_t *e, const by_group_t *g) {
  og_value_t **parts = ARENA_ARRAY(e->arena, og_value_t *, g->n + 1);
  og_value_t *start = put_int1(e, 0), *axis = put_int1(e, 0);
  const dtype_t dtype = g->x->dtype;
  for (unsigned i = 0; i < g->n; i++) {
    og_value_t *next = put_int1(e, (int64_t)i + 1);
    og_value_t *end = put_gather(e, g->offsets, next, 0);
    og_node_t *slice =
        put_node(e, "Slice", 4, (og_value_t *[]){g->x, start, end, axis}, 1);
    slice->out[0].dtype = dtype;
    og_value_t *index = put_scalar_int(e, DT_I64, i);
    og_value_t *element = put_gather(e, g->w, index, 0);
    parts[i] = g->multiply(e, g->user, &slice->out[0], element);
    start = end;
  }
  og_value_t *rows = put_size(e, in_type(e, 0)->dim[0]);
  og_value_t *rest = put2(e, "Sub", rows, start);
  og_value_t *row = put_sizes(e, g->rank, g->row);
  og_value_t *shape = put2(e, "Concat", rest, row);
  set_int(e, shape, "axis", 0);
  og_value_t *zero = put_scalar_int(e, dtype, 0);
  parts[g->n] = put2(e, "Expand", zero, shape);
  og_node_t *all = put_node(e, "Concat", g->n + 1, parts, 1);
  all->out[0].dtype = dtype;
  set_int(e, &all->out[0], "axis", 0);
  return &all->out[0];
}

unsigned count_groups(export_t *e, unsigned most) {
  int64_t groups = 0;
  if (expr_is_const(in_type(e, 1)->dim[0], &groups) && groups <= most)
    return (unsigned)groups;
  refuse(e, "the number of groups is not known or more than %u", most);
  return 0;
}

static og_value_t *matmul(export_t *e, void *user, og_value_t *x,
                          og_value_t *w) {
  (void)user;
  return put2(e, "MatMul", x, w);
}

/* Rows [offsets[g], offsets[g + 1]) of x times w[g], one group after the other;
 * zeros behind the last one. */
void write_grouped_matmul(export_t *e, const writer_row_t *row) {
  unsigned groups = count_groups(e, MOST_GROUPS);
  dtype_t out = e->op->out[0].type.dtype;
  dtype_t carrier = carrier_of(e, out, row->types);
  og_value_t *x = put_cast(e, in_value(e, 0), carrier);
  og_value_t *w = put_cast(e, in_value(e, 1), carrier);
  og_value_t *offsets = in_value(e, 2);
  if (groups > MANY_GROUPS) {
    give(e, 0, put_by_row(e, x, w, offsets, groups));
    return;
  }
  const by_group_t each = {.x = x,
                           .w = w,
                           .offsets = offsets,
                           .n = groups,
                           .rank = 1,
                           .row = in_type(e, 1)->dim + 2,
                           .multiply = matmul};
  give(e, 0, put_by_group(e, &each));
}
