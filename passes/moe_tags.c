/* Tags of dimensions through changes of shape. */
#include <string.h>

#include "passes/moe_facts.h"
#include "passes/rules.h"

int moe_tag_find(unsigned rank, const uint8_t *tag, unsigned wanted) {
  for (unsigned d = 0; d < rank; d++)
    if ((tag[d] & wanted) == wanted) return (int)d;
  return -1;
}

unsigned moe_tag_union(unsigned rank, const uint8_t *tag) {
  unsigned all = 0;
  for (unsigned d = 0; d < rank; d++) all |= tag[d];
  return all;
}

/* ---- Broadcast ----------------------------------------------------------- */

bool moe_tags_broadcast(const ir_type_t *result, const uint8_t *result_tag,
                        const ir_type_t *operand, uint8_t *operand_tag) {
  if (operand->rank > result->rank) return false;
  unsigned shift = result->rank - operand->rank;
  for (unsigned d = 0; d < operand->rank; d++) {
    unsigned tag = result_tag[shift + d];
    bool same = operand->dim[d] == result->dim[shift + d];
    if (!same && rule_is_one(operand->dim[d]))
      tag = (tag & TAG_INNER) != 0 ? TAG_INNER : TAG_GONE;
    operand_tag[d] = (uint8_t)tag;
  }
  return true;
}

/* ---- Reshape -------------------------------------------------------------
 *
 * A shape is a sequence of atoms, each running over one thing; a dimension is
 * one of them, a part of one, or several. Reshaping cuts the same sequence in
 * other places. Tokens, experts and features may be cut anywhere, all
 * else is kept. */

typedef struct atom {
  unsigned tag;
  const expr_t *size;
} atom_t;

/* What a tag of one kind has in a dimension that runs over several. */
static const expr_t *size_of(const moe_source_t *source, expr_pool_t *pool,
                             unsigned tag) {
  switch (tag) {
    case TAG_EXPERT:
      return expr_const(pool, source->experts);
    case TAG_TOKEN:
      return source->tokens;
    case TAG_SLOT:
      return source->k;
    case TAG_PLACE:
      return *source->capacity;
    default:
      return NULL;
  }
}

/* In the order in which a dimension has them. */
enum { N_KINDS = 6 };
static const unsigned kinds[N_KINDS] = {TAG_EXPERT, TAG_TOKEN, TAG_SLOT,
                                        TAG_PLACE,  TAG_ROW,   TAG_INNER};
static const unsigned turned_kinds[N_KINDS] = {TAG_EXPERT, TAG_SLOT, TAG_TOKEN,
                                               TAG_PLACE,  TAG_ROW,  TAG_INNER};

const unsigned *moe_tag_order(unsigned tag, unsigned *out_n) {
  *out_n = N_KINDS;
  return (tag & TAG_TURNED) != 0 ? turned_kinds : kinds;
}

static bool can_be_cut(unsigned tag) {
  return tag == TAG_TOKEN || tag == TAG_INNER || tag == TAG_EXPERT;
}

static void add_atom(expr_pool_t *pool, atom_t *atom, unsigned *n, unsigned tag,
                     const expr_t *size) {
  if (rule_is_one(size) && tag != TAG_TOKEN) return;
  if (*n > 0 && atom[*n - 1].tag == tag && can_be_cut(tag))
    atom[*n - 1].size = expr_mul(pool, atom[*n - 1].size, size);
  else
    atom[(*n)++] = (atom_t){tag, size};
}

/* How many elements the kinds of a tag have together; NULL: not known. */
static const expr_t *size_of_all(const moe_source_t *source, expr_pool_t *pool,
                                 unsigned tag) {
  const expr_t *all = expr_const(pool, 1);
  for (unsigned i = 0; i < N_KINDS; i++) {
    if ((tag & kinds[i]) == 0) continue;
    const expr_t *size = size_of(source, pool, kinds[i]);
    if (size == NULL) return NULL;
    all = expr_mul(pool, all, size);
  }
  return all;
}

/* The part of a dimension of size `left` that runs over `kind`, in front of
 * `rest`. */
static const expr_t *part_of(const moe_source_t *source, expr_pool_t *pool,
                             unsigned kind, unsigned rest, const expr_t *left) {
  if (rest == 0) return left;
  if (kind == TAG_TOKEN) { /* tokens may be one of many dimensions */
    const expr_t *behind = size_of_all(source, pool, rest);
    if (behind != NULL) return expr_divide_exactly(pool, left, behind);
  }
  const expr_t *size = size_of(source, pool, kind);
  return size != NULL ? size : left;
}

/* At most N_KINDS atoms for each dimension. False if a size does not fit. */
static bool find_atoms(const moe_source_t *source, expr_pool_t *pool,
                       const ir_type_t *type, const uint8_t *tag, atom_t *atom,
                       unsigned *n) {
  for (unsigned d = 0; d < type->rank; d++) {
    const expr_t *left = type->dim[d];
    unsigned n_kinds, rest = tag[d] & ~(unsigned)TAG_TURNED;
    const unsigned *kind = moe_tag_order(tag[d], &n_kinds);
    if (rest == TAG_GONE) continue;
    for (unsigned i = 0; i < n_kinds; i++) {
      if ((rest & kind[i]) == 0) continue;
      rest &= ~kind[i];
      const expr_t *size = part_of(source, pool, kind[i], rest, left);
      left = size != NULL ? expr_divide_exactly(pool, left, size) : NULL;
      if (left == NULL) return false;
      add_atom(pool, atom, n, kind[i], size);
    }
  }
  return true;
}

/* The tag of a dimension that has runs over `tags` and then over `next`; 0
 * where no order of kinds allows it. */
static unsigned add_kind(unsigned tags, unsigned next) {
  unsigned n, last = 0, at = 0;
  if (tags == 0) return next;
  if ((tags & next) != 0 && tags != next) return 0;
  if (tags == TAG_SLOT && next == TAG_TOKEN)
    return TAG_SLOT | TAG_TOKEN | TAG_TURNED;
  const unsigned *kind = moe_tag_order(tags, &n);
  for (unsigned i = 0; i < n; i++) {
    if ((tags & kind[i]) != 0) last = i;
    if (next == kind[i]) at = i;
  }
  return at >= last ? tags | next : 0;
}

/* What a dimension has of the kinds whose whole a tag with features means. */
typedef struct parts {
  const expr_t *tokens, *experts;
} parts_t;

static void add_part(expr_pool_t *pool, parts_t *parts, unsigned tag,
                     const expr_t *size) {
  if (tag == TAG_TOKEN) parts->tokens = expr_mul(pool, parts->tokens, size);
  if (tag == TAG_EXPERT) parts->experts = expr_mul(pool, parts->experts, size);
}

/* Beside features there are all tokens, and all experts, or none of them. */
static bool are_whole(const moe_source_t *source, unsigned tags,
                      const parts_t *parts) {
  if ((tags & TAG_INNER) == 0) return true;
  return ((tags & TAG_TOKEN) == 0 || parts->tokens == source->tokens) &&
         ((tags & TAG_EXPERT) == 0 ||
          expr_equals_const(parts->experts, source->experts));
}

/* A single token that is not in front of what may follow it in one dimension
 * comes later. */
static void put_off_token(const moe_source_t *source, unsigned tags, atom_t *at,
                          const atom_t *end) {
  if (at->tag != TAG_TOKEN || !rule_is_one(source->tokens) || at + 1 == end)
    return;
  unsigned with = add_kind(tags, TAG_TOKEN);
  if (with != 0 && add_kind(with, at[1].tag) != 0) return;
  const atom_t token = at[0];
  at[0] = at[1];
  at[1] = token;
}

/* Takes atoms for one dimension off the sequence; 0 where they do not fit. */
static unsigned take_atoms(const moe_source_t *source, expr_pool_t *pool,
                           const expr_t *size, atom_t **at, const atom_t *end) {
  unsigned tags = 0;
  parts_t parts = {expr_const(pool, 1), expr_const(pool, 1)};
  while (!rule_is_one(size)) {
    if (*at == end) return 0;
    put_off_token(source, tags, *at, end);
    atom_t *atom = *at;
    tags = add_kind(tags, atom->tag);
    if (tags == 0) return 0;
    const expr_t *left = expr_divide_exactly(pool, size, atom->size);
    if (atom->size == size || left != NULL) {
      add_part(pool, &parts, atom->tag, atom->size);
      size = atom->size == size ? expr_const(pool, 1) : left;
      ++*at;
      continue;
    }
    left = expr_divide_exactly(pool, atom->size, size);
    if (left == NULL || !can_be_cut(atom->tag)) return 0;
    add_part(pool, &parts, atom->tag, size);
    atom->size = left;
    break;
  }
  return are_whole(source, tags, &parts) ? tags : 0;
}

/* The single token that is left joins the first dimension that can have it. */
static bool joins_token(unsigned rank, uint8_t *tag) {
  for (unsigned d = 0; d < rank; d++) {
    unsigned n, rest = tag[d] & ~(unsigned)TAG_TURNED, tags = 0;
    const unsigned *kind = moe_tag_order(tag[d], &n);
    if ((rest & (TAG_TOKEN | TAG_ROW | TAG_GONE)) != 0) continue;
    rest |= TAG_TOKEN;
    bool fits = true;
    for (unsigned i = 0; i < n && fits; i++) {
      if ((rest & kind[i]) == 0) continue;
      tags = add_kind(tags, kind[i]);
      fits = tags != 0;
    }
    if (!fits) continue;
    tag[d] = (uint8_t)tags;
    return true;
  }
  return false;
}

/* A single token can be anywhere: it goes to the first dimension of size 1. */
static void bring_token(const moe_source_t *source, atom_t *at,
                        const atom_t *end) {
  if (at == end || rule_is_one(at->size) || !rule_is_one(source->tokens))
    return;
  for (atom_t *token = at + 1; token < end; token++) {
    if (token->tag != TAG_TOKEN) continue;
    const atom_t first = *token;
    memmove(at + 1, at, (size_t)(token - at) * sizeof *at);
    *at = first;
    return;
  }
}

bool moe_tags_reshape(const moe_source_t *source, const ir_type_t *from,
                      const uint8_t *from_tag, const ir_type_t *to,
                      uint8_t *to_tag) {
  expr_pool_t *pool = source->index->def->module->exprs;
  atom_t atom[IR_MAX_RANK * N_KINDS];
  unsigned n = 0;
  if (!find_atoms(source, pool, from, from_tag, atom, &n)) return false;
  atom_t *at = atom;
  const atom_t *end = atom + n;
  for (unsigned d = 0; d < to->rank; d++) {
    bool one = rule_is_one(to->dim[d]);
    to_tag[d] = TAG_INNER;
    if (one) bring_token(source, at, end);
    if (one && (at == end || !rule_is_one(at->size))) continue;
    unsigned tags =
        one ? (at++)->tag : take_atoms(source, pool, to->dim[d], &at, end);
    if (tags == 0) return false;
    to_tag[d] = (uint8_t)tags;
  }
  if (at + 1 == end && at->tag == TAG_TOKEN && rule_is_one(source->tokens))
    return joins_token(to->rank, to_tag);
  return at == end;
}
