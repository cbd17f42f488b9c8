/* Rows by the group that each belongs to: a stable counting sort, and the tiles
 * that products of each group with a matrix of its own consist of. */
#include "runtime/libc.h"
#include "runtime/runtime.h"

enum { FEW_ROWS = 64 }; /* of as many groups as that and more */

typedef struct groups {
  int64_t *order, *place, *group, *offsets, *tiles, *n_tiles;
  const int64_t *key;
  int64_t n, n_groups, tile_rows;
} groups_t;

/* Keys that name no group are of the group behind the last one. */
static int64_t group_of(const groups_t *g, int64_t row) {
  int64_t key = g->key[row];
  return key >= 0 && key < g->n_groups ? key : g->n_groups;
}

/* offsets[i]: where group i begins. */
static void count_rows(const groups_t *g) {
  int64_t last = g->n_groups + 1, begin = 0;
  for (int64_t i = 0; i <= last; i++) g->offsets[i] = 0;
  for (int64_t r = 0; r < g->n; r++) g->offsets[group_of(g, r)]++;
  for (int64_t i = 0; i <= last; i++) {
    int64_t count = g->offsets[i];
    g->offsets[i] = begin;
    begin += count;
  }
}

/* Each group's offset runs from its begin to its end, which is where the next
 * one began: afterwards they are moved back. */
static void place_rows(const groups_t *g) {
  for (int64_t r = 0; r < g->n; r++) {
    int64_t i = group_of(g, r), at = g->offsets[i]++;
    g->order[at] = r;
    g->place[r] = at;
    g->group[at] = i < g->n_groups ? i : 0;
  }
  for (int64_t i = g->n_groups + 1; i > 0; i--)
    g->offsets[i] = g->offsets[i - 1];
  g->offsets[0] = 0;
}

/* A row for each tile of a group behind `first` tiles of others: the group, the
 * number of its first tile, and how many tiles it has. How many there are then.
 */
static int64_t list_tiles_of(const groups_t *g, int64_t group, int64_t rows,
                             int64_t first) {
  int64_t count = rows / g->tile_rows + (rows % g->tile_rows != 0);
  for (int64_t n = first; n < first + count; n++) {
    int64_t *tile = g->tiles + 3 * n;
    tile[0] = group;
    tile[1] = first;
    tile[2] = count;
  }
  return first + count;
}

static void list_tiles(const groups_t *g) {
  int64_t n = 0;
  for (int64_t i = 0; i <= g->n_groups; i++)
    n = list_tiles_of(g, i, g->offsets[i + 1] - g->offsets[i], n);
  *g->n_tiles = n;
}

/* ---- Few rows --------------------------------------------------------------
 * Sorted one by one. Groups are passed over once, to write where they begin. */

static void insert_rows(const groups_t *g) {
  for (int64_t r = 0; r < g->n; r++) {
    int64_t i = group_of(g, r), at = r;
    for (; at > 0 && group_of(g, g->order[at - 1]) > i; at--)
      g->order[at] = g->order[at - 1];
    g->order[at] = r;
  }
  for (int64_t at = 0; at < g->n; at++) {
    int64_t r = g->order[at], i = group_of(g, r);
    g->place[r] = at;
    g->group[at] = i < g->n_groups ? i : 0;
  }
}

static void find_groups(const groups_t *g) {
  int64_t next = 0, n_tiles = 0;
  for (int64_t at = 0; at < g->n;) {
    const int64_t begin = at, i = group_of(g, g->order[at]);
    while (at < g->n && group_of(g, g->order[at]) == i) at++;
    for (; next <= i; next++) g->offsets[next] = begin;
    n_tiles = list_tiles_of(g, i, at - begin, n_tiles);
  }
  for (; next <= g->n_groups + 1; next++) g->offsets[next] = g->n;
  *g->n_tiles = n_tiles;
}

int32_t moert_op_group_rows(moert_frame_t *frame, const moert_arg_t *args) {
  (void)frame;
  groups_t g = {.order = args[0].pointer,
                .place = args[1].pointer,
                .group = args[2].pointer,
                .offsets = args[3].pointer,
                .tiles = args[4].pointer,
                .n_tiles = args[5].pointer,
                .key = args[6].pointer,
                .n = args[7].i,
                .n_groups = args[8].i,
                .tile_rows = args[9].i};
  if (g.n <= FEW_ROWS && g.n <= g.n_groups) {
    insert_rows(&g);
    find_groups(&g);
    return MOEC_OK;
  }
  count_rows(&g);
  place_rows(&g);
  list_tiles(&g);
  return MOEC_OK;
}
