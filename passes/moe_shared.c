/* What several experts of a layer compute with. */
#include <string.h>

#include "passes/moe_read.h"
#include "passes/moe_rules.h"

struct moe_shared { /* a set: open addressing, at most half full */
  const ir_value_t **slot;
  uint32_t n, mask;
};

static const ir_value_t **place_of(const moe_shared_t *set,
                                   const ir_value_t *value) {
  uint32_t at = value->number * UINT32_C(2654435769);
  for (at = (at ^ at >> 16) & set->mask;
       set->slot[at] != NULL && set->slot[at] != value;)
    at = (at + 1) & set->mask;
  return &set->slot[at];
}

static void resize(moe_shared_t *set, arena_t *arena, uint32_t size) {
  const moe_shared_t old = *set;
  set->slot = ARENA_ARRAY(arena, const ir_value_t *, size);
  set->mask = size - 1;
  for (uint32_t i = 0; old.slot != NULL && i <= old.mask; i++)
    if (old.slot[i] != NULL) *place_of(set, old.slot[i]) = old.slot[i];
}

static void add(moe_shared_t *set, arena_t *arena, const ir_value_t *value) {
  const ir_value_t **place = place_of(set, value);
  if (*place != NULL) return;
  *place = value;
  if (++set->n > set->mask / 2) resize(set, arena, 2 * (set->mask + 1));
}

bool moe_is_shared(const moe_builder_t *b, const ir_value_t *value) {
  return b->shared != NULL && *place_of(b->shared, value) != NULL;
}

/* ---- Reaching ---------------------------------------------------------------
 *
 * Values are visited from the last one of the program to the first, so that all
 * that use one were visited before it. The walk ends where nothing is left that
 * a single expert reaches: it is linear in what the experts have of their own
 * and what lies between. */

#define OF_SEVERAL (UINT32_MAX / 2)
#define VISITED (UINT32_C(1) << 31) /* beside the owner */

typedef struct reach {
  moe_facts_t *facts;
  moe_shared_t *set;
  ir_value_t **heap, **seen; /* the greatest number is on top */
  unsigned n, n_seen, heap_room, seen_room;
  unsigned n_own; /* in the heap, of single experts, to go on from */
  const moe_source_t *source; /* rows have one expert each; NULL: perhaps not */
  const int64_t *expert;      /* by owner - 1 */
} reach_t;

static bool goes_on(const ir_value_t *value) {
  const ir_op_t *op = value->def;
  return op == NULL || op->n_in > 0 || op->n_regions > 0;
}

static void append(arena_t *arena, ir_value_t ***list, unsigned *n,
                   unsigned *room, ir_value_t *value) {
  if (*n == *room) {
    *room = *room == 0 ? 64 : 2 * *room;
    *list = arena_grow_array(arena, *list, *n, *room, sizeof **list);
  }
  (*list)[(*n)++] = value;
}

static void put_on_heap(reach_t *r, ir_value_t *value) {
  append(r->facts->arena, &r->heap, &r->n, &r->heap_room, value);
  unsigned at = r->n - 1;
  while (at > 0 && r->heap[(at - 1) / 2]->number < value->number) {
    r->heap[at] = r->heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  r->heap[at] = value;
}

static ir_value_t *take_from_heap(reach_t *r) {
  ir_value_t *top = r->heap[0], *last = r->heap[--r->n];
  unsigned at = 0;
  for (unsigned child; (child = 2 * at + 1) < r->n; at = child) {
    if (child + 1 < r->n && r->heap[child + 1]->number > r->heap[child]->number)
      child++;
    if (r->heap[child]->number <= last->number) break;
    r->heap[at] = r->heap[child];
  }
  r->heap[at] = last;
  return top;
}

static void push(reach_t *r, ir_value_t *value, uint32_t owner) {
  arena_t *arena = r->facts->arena;
  if (value == NULL || value->number >= r->facts->n_values) return;
  uint32_t *of = &r->facts->owner[value->number];
  const uint32_t visited = *of & VISITED; /* inside an operation of several */
  if ((*of & ~VISITED) == owner) return;
  if (*of == 0) {
    *of = owner;
    append(arena, &r->seen, &r->n_seen, &r->seen_room, value);
    put_on_heap(r, value);
    r->n_own += owner != OF_SEVERAL && goes_on(value);
    return;
  }
  add(r->set, arena, value);
  r->n_own -= visited == 0 && *of != OF_SEVERAL && goes_on(value);
  *of = OF_SEVERAL | visited;
}

/* Whether an operand does not matter to the owner: a choice or a sum has it for
 * rows of other experts. */
static bool is_of_others(const reach_t *r, const ir_op_t *op, unsigned i,
                         uint32_t owner) {
  if (r->source == NULL || owner == OF_SEVERAL ||
      (op->code != OP_SELECT && op->code != OP_ADD))
    return false;
  bool chooses = op->code == OP_SELECT;
  const moe_fact_t *gate = moe_fact(r->facts, ir_in(op, chooses ? 0 : i));
  return (!chooses || i == 1) && gate->kind == FACT_GATE &&
         gate->source == r->source && gate->expert >= 0 &&
         gate->expert != r->expert[owner - 1] && gate->off.known &&
         gate->off.x == 0;
}

static void walk(reach_t *r) {
  while (r->n_own > 0) {
    const ir_value_t *value = take_from_heap(r);
    const uint32_t owner = r->facts->owner[value->number];
    r->facts->owner[value->number] |= VISITED;
    r->n_own -= owner != OF_SEVERAL && goes_on(value);
    const ir_op_t *op = value->def;
    if (op == NULL) continue;
    for (unsigned i = 0; i < op->n_in; i++)
      if (!is_of_others(r, op, i, owner)) push(r, ir_in(op, i), owner);
    for (unsigned i = 0; i < op->n_regions; i++)
      for (unsigned j = 0; j < op->regions[i].last->n_in; j++)
        push(r, ir_in(op->regions[i].last, j), owner);
  }
}

void moe_find_shared(moe_builder_t *b, unsigned n, ir_value_t *const *value,
                     const unsigned *part) {
  moe_find_shared_rows(b, n, value, part, NULL, NULL);
}

void moe_find_shared_rows(moe_builder_t *b, unsigned n,
                          ir_value_t *const *value, const unsigned *part,
                          const moe_source_t *source, const int64_t *expert) {
  moe_facts_t *facts = b->facts;
  moe_shared_t *set = ARENA_NEW(facts->arena, moe_shared_t);
  reach_t r = {.facts = facts, .set = set, .source = source, .expert = expert};
  if (facts->owner == NULL)
    facts->owner = ARENA_ARRAY(facts->arena, uint32_t, facts->n_values + 1);
  resize(set, facts->arena, 64);
  for (unsigned i = 0; i < n; i++)
    push(&r, value[i], 1 + (part != NULL ? part[i] : i));
  walk(&r);
  for (unsigned i = 0; i < r.n_seen; i++) facts->owner[r.seen[i]->number] = 0;
  b->shared = set;
}
