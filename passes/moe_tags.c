/* Tags of dimensions through changes of shape. */
#include "passes/moe_facts.h"
#include "passes/rules.h"

enum { ROWS = TAG_TOKEN | TAG_SLOT | TAG_ROW };

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

/* ---- Reshape ------------------------------------------------------------- */

typedef struct span {
  unsigned from, from_end, to, to_end; /* dimensions */
} span_t;

/* The next dimensions of both shapes that have the same product. Those of size
 * 1 that may belong to either of two spans go to the earlier one. */
static bool next_span(expr_pool_t *pool, const ir_type_t *from,
                      const ir_type_t *to, span_t *span) {
  span->from = span->from_end;
  span->to = span->to_end;
  const expr_t *one = expr_const(pool, 1), *a = one, *b = one;
  unsigned i = span->from, j = span->to;
  if (i < from->rank) a = from->dim[i++];
  if (j < to->rank) b = to->dim[j++];
  while (a != b) {
    bool more_a = i < from->rank, more_b = j < to->rank;
    if (!more_a && !more_b) return false;
    /* the side whose product divides the other one grows */
    const expr_t *ratio = more_a ? expr_divide_exactly(pool, b, a) : NULL;
    if (ratio != NULL || !more_b)
      a = expr_mul(pool, a, from->dim[i++]);
    else
      b = expr_mul(pool, b, to->dim[j++]);
  }
  span->from_end = i;
  span->to_end = j;
  return true;
}

/* Dimensions [first, end) without those of size 1; one of them at least. */
static void trim(const ir_type_t *type, unsigned *first, unsigned *end) {
  while (*end - *first > 1 && rule_is_one(type->dim[*end - 1])) --*end;
  while (*end - *first > 1 && rule_is_one(type->dim[*first])) ++*first;
}

/* Rows that run over tokens and slots, told apart by their sizes. */
static bool spread_rows(const moe_source_t *source, unsigned tags,
                        const ir_type_t *to, unsigned first, unsigned end,
                        uint8_t *to_tag) {
  if (tags != (TAG_TOKEN | TAG_SLOT)) {
    for (unsigned d = first; d < end; d++) to_tag[d] = (uint8_t)tags;
    return true;
  }
  if (end - first == 1) {
    to_tag[first] = (uint8_t)tags;
    return true;
  }
  if (to->dim[end - 1] != source->k) return false;
  for (unsigned d = first; d + 1 < end; d++) to_tag[d] = TAG_TOKEN;
  to_tag[end - 1] = TAG_SLOT;
  return true;
}

/* Experts in front of tokens or features, as one dimension or as several. */
static bool spread_experts(const moe_source_t *source, unsigned tags,
                           const ir_type_t *from, const uint8_t *from_tag,
                           const ir_type_t *to, uint8_t *to_tag, span_t span) {
  unsigned n = span.to_end - span.to, behind = tags & ~(unsigned)TAG_EXPERT;
  bool merged = (from_tag[span.from] & tags) == tags;
  if (behind == 0) {
    if (n != 1) return false;
    to_tag[span.to] = TAG_EXPERT;
    return true;
  }
  if (behind != TAG_TOKEN && behind != TAG_INNER) return false;
  while (rule_is_one(from->dim[span.from]) && !merged &&
         span.from + 1 < span.from_end)
    span.from++;
  if (!merged && from_tag[span.from] != TAG_EXPERT) return false;
  if (n == 1) {
    to_tag[span.to] = (uint8_t)tags;
    return true;
  }
  if (!expr_equals_const(to->dim[span.to], source->experts)) return false;
  to_tag[span.to] = TAG_EXPERT;
  for (unsigned d = span.to + 1; d < span.to_end; d++)
    to_tag[d] = (uint8_t)behind;
  return true;
}

static bool reshape_span(const moe_source_t *source, const ir_type_t *from,
                         const uint8_t *from_tag, const ir_type_t *to,
                         uint8_t *to_tag, span_t span) {
  unsigned tags = 0;
  for (unsigned d = span.to; d < span.to_end; d++) to_tag[d] = TAG_INNER;
  for (unsigned d = span.from; d < span.from_end; d++) {
    unsigned tag = from_tag[d];
    if (rule_is_one(from->dim[d]) && (tag & (TAG_INNER | TAG_GONE)) != 0)
      continue;
    tags |= tag;
  }
  if (tags == 0 || tags == TAG_INNER) return true;
  trim(to, &span.to, &span.to_end);
  if ((tags & ~(unsigned)ROWS) == 0)
    return spread_rows(source, tags, to, span.to, span.to_end, to_tag);
  return spread_experts(source, tags, from, from_tag, to, to_tag, span);
}

bool moe_tags_reshape(const moe_source_t *source, const ir_type_t *from,
                      const uint8_t *from_tag, const ir_type_t *to,
                      uint8_t *to_tag) {
  expr_pool_t *pool = source->index->def->module->exprs;
  span_t span = {0};
  while (span.from_end < from->rank || span.to_end < to->rank) {
    if (!next_span(pool, from, to, &span)) return false;
    if (!reshape_span(source, from, from_tag, to, to_tag, span)) return false;
  }
  return true;
}
