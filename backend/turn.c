/* Transposition of squares in registers. */
#include "backend/emit.h"

enum { QUAD = 4, MAX_SIDE = 16 };

static LLVMValueRef deal(emitter_t *em, LLVMValueRef a, LLVMValueRef b,
                         const unsigned *from, unsigned n) {
  LLVMValueRef lane[MAX_SIDE];
  for (unsigned i = 0; i < n; i++)
    lane[i] = LLVMConstInt(em->i32, from[i], false);
  return LLVMBuildShuffleVector(em->builder, a, b, LLVMConstVector(lane, n),
                                "");
}

/* Elements of a and b in turn, from the low or the high half of each quad: one
 * instruction wherever vectors are made of quads. */
static LLVMValueRef unpack(emitter_t *em, LLVMValueRef a, LLVMValueRef b,
                           unsigned n, bool high) {
  unsigned from[MAX_SIDE];
  for (unsigned i = 0; i < n; i++) {
    unsigned in_quad = i % QUAD, half = high ? QUAD / 2 : 0;
    from[i] = i - in_quad + half + in_quad / 2 + in_quad % 2 * n;
  }
  return deal(em, a, b, from, n);
}

/* Quads of a whose number has the bit `step` change places with the quads of b
 * that lack it. */
static void exchange(emitter_t *em, LLVMValueRef *a, LLVMValueRef *b,
                     unsigned n, unsigned step) {
  unsigned low[MAX_SIDE], high[MAX_SIDE];
  for (unsigned i = 0; i < n; i++) {
    bool has = (i / QUAD & step) != 0;
    low[i] = has ? n + i - step * QUAD : i;
    high[i] = has ? n + i : i + step * QUAD;
  }
  LLVMValueRef first = deal(em, *a, *b, low, n);
  *b = deal(em, *a, *b, high, n);
  *a = first;
}

void emit_turn(emitter_t *em, LLVMValueRef *rows, unsigned n) {
  LLVMValueRef column[MAX_SIDE];
  unsigned quads = n / QUAD;
  MOEC_ASSERT(n == 4 || n == 8 || n == MAX_SIDE);
  /* Quads of four rows first: column[c * quads + g] holds elements c, c + 4, ..
   * of rows 4 g to 4 g + 3. */
  for (unsigned g = 0; g < quads; g++) {
    LLVMValueRef *r = rows + (size_t)QUAD * g, pair[QUAD];
    for (unsigned i = 0; i < QUAD; i++)
      pair[i] = unpack(em, r[i % 2], r[2 + i % 2], n, i >= 2);
    for (unsigned c = 0; c < QUAD; c++)
      column[c * quads + g] =
          unpack(em, pair[c / 2 * 2], pair[c / 2 * 2 + 1], n, c % 2 != 0);
  }
  for (unsigned step = 1; step < quads; step *= 2)
    for (unsigned i = 0; i < n; i++)
      if ((i % quads & step) == 0)
        exchange(em, &column[i], &column[i + step], n, step);
  for (unsigned i = 0; i < n; i++)
    rows[i] = column[i % QUAD * quads + i / QUAD];
}
