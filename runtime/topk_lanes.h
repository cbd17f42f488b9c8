/* Selection of few from rows of f32, for topk.c: no branch on what is in the
 * row.
 *
 * Elements are dealt to lanes in turn; at least k of them are no less than the
 * k-th largest of the lanes' maxima. Those that are, few more than k, become
 * candidates, and each candidate's place is the number of candidates before it.
 * Loops over lanes have constant bounds, so that they are vectors. */
enum {
  LANES = 16,
  MOST_LANES = 64,
  MOST_CANDIDATES = 64,
  TINY_ROW = 8,     /* done before lanes are filled */
  SHORT_ROW = LANES /* all of it are candidates */
};

/* Part of its caller, so that it is compiled for the caller's processor. */
#define LANES_INLINE static inline __attribute__((always_inline))

/* `turn` = 1: the smallest first. */
LANES_INLINE float turned(float x, bool turn) { return turn ? -x : x; }

/* Maxima of LANES lanes, x[l], x[l + stride] and so on; false where a NaN is.
 */
LANES_INLINE bool find_maxima(const float *x, int64_t n, int64_t stride,
                              bool turn, float *maxima) {
  float most[LANES];
  int nan[LANES] = {0}, any = 0;
  for (int l = 0; l < LANES; l++) most[l] = turned(x[l], turn);
  for (int64_t i = 0; i + LANES <= n; i += stride) {
    for (int l = 0; l < LANES; l++) {
      const float element = turned(x[i + l], turn);
      nan[l] |= element != element;
      most[l] = element > most[l] ? element : most[l];
    }
  }
  for (int l = 0; l < LANES; l++) any |= nan[l];
  for (int l = 0; l < LANES; l++) maxima[l] = most[l];
  return any == 0;
}

/* The k-th largest of maxima[lanes]: the smallest with fewer than k above it.
 */
LANES_INLINE float find_threshold(const float *maxima, int64_t lanes,
                                  int64_t k) {
  float low = __builtin_inff();
  for (int64_t block = 0; block < lanes; block += LANES) {
    float most[LANES];
    int above[LANES] = {0};
    for (int l = 0; l < LANES; l++) most[l] = maxima[block + l];
    for (int64_t j = 0; j < lanes; j++)
      for (int l = 0; l < LANES; l++) above[l] += maxima[j] > most[l];
    for (int l = 0; l < LANES; l++) {
      const float kept = above[l] < k ? most[l] : __builtin_inff();
      low = kept < low ? kept : low;
    }
  }
  return low;
}

typedef struct candidates {
  float value[MOST_CANDIDATES + LANES];
  int32_t index[MOST_CANDIDATES + LANES];
  int32_t n;
} candidates_t;

/* Bit l: whether x[l] is not below `low`. */
LANES_INLINE uint32_t find_hits(const float *x, float low, bool turn) {
#if defined(__clang__)
  typedef float real_t __attribute__((ext_vector_type(LANES)));
  typedef bool hits_t __attribute__((ext_vector_type(LANES)));
  real_t elements;
  uint16_t bits;
  memcpy(&elements, x, sizeof elements);
  const hits_t hits = __builtin_convertvector(
      turn ? -elements >= low : elements >= low, hits_t);
  memcpy(&bits, &hits, sizeof bits);
  return bits;
#else
  uint32_t bits = 0;
  for (int l = 0; l < LANES; l++)
    bits |= (uint32_t)(turned(x[l], turn) >= low) << l;
  return bits;
#endif
}

/* Those not below `low`, in their order; false where there are too many. Bits
 * of many elements are walked at once: each walk's end is hard to predict. */
LANES_INLINE bool find_candidates(const float *x, int64_t n, float low,
                                  bool turn, candidates_t *out) {
  int32_t used = 0;
  int64_t i = 0;
  while (i + LANES <= n) {
    const int64_t begin = i;
    uint64_t hits = 0;
    for (; i + LANES <= n && i < begin + 64; i += LANES)
      hits |= (uint64_t)find_hits(x + i, low, turn) << (i - begin);
    if (used + __builtin_popcountll(hits) > MOST_CANDIDATES) return false;
    for (; hits != 0; hits &= hits - 1) {
      const int32_t at = (int32_t)begin + __builtin_ctzll(hits);
      out->value[used] = turned(x[at], turn);
      out->index[used++] = at;
    }
  }
  for (; i < n; i++) {
    const float element = turned(x[i], turn);
    if (used == MOST_CANDIDATES) return false;
    out->value[used] = element;
    out->index[used] = (int32_t)i;
    used += element >= low;
  }
  out->n = used;
  return true;
}

/* order[j]: the index of result j. Of equal ones, which all count to the same
 * place, the later goes behind the earlier. */
LANES_INLINE void rank_candidates(candidates_t *c, int32_t *order) {
  for (int l = 0; l < LANES; l++) c->value[c->n + l] = 0;
  for (int32_t j = 0; j < c->n; j++) order[j] = -1;
  for (int32_t block = 0; block < c->n; block += LANES) {
    float value[LANES];
    int32_t before[LANES] = {0};
    for (int l = 0; l < LANES; l++) value[l] = c->value[block + l];
    for (int32_t i = 0; i < c->n; i++)
      for (int l = 0; l < LANES; l++) before[l] += c->value[i] > value[l];
    for (int32_t l = 0; l < LANES && block + l < c->n; l++) {
      int32_t place = before[l];
      while (order[place] >= 0) place++;
      order[place] = c->index[block + l];
    }
  }
}

/* The threshold of a row, which has at least k elements that are not below. */
LANES_INLINE bool find_low(const float *x, int64_t n, int64_t k, bool turn,
                           float *out_low) {
  float maxima[MOST_LANES];
  const int64_t lanes = k <= 10 ? LANES : k <= 20 ? 2 * LANES : MOST_LANES;
  if (n < 2 * lanes || n > INT32_MAX) return false;
  for (int64_t block = 0; block < lanes; block += LANES)
    if (!find_maxima(x + block, n - block, lanes, turn, maxima + block))
      return false;
  for (int64_t i = n - n % LANES; i < n; i++)
    if (x[i] != x[i]) return false;
  *out_low = find_threshold(maxima, lanes, k);
  return true;
}

/* A short row: all of it are candidates. */
LANES_INLINE bool order_short(const float *x, int64_t n, bool turn,
                              int32_t *order) {
  float values[SHORT_ROW];
  int nan = 0;
  for (int l = 0; l < SHORT_ROW; l++) values[l] = 0;
  for (int64_t i = 0; i < n; i++) values[i] = turned(x[i], turn);
  for (int l = 0; l < SHORT_ROW; l++) nan |= values[l] != values[l];
  if (nan != 0) return false;
  for (int64_t j = 0; j < n; j++) order[j] = -1;
  int32_t before[LANES] = {0};
  for (int64_t i = 0; i < n; i++)
    for (int l = 0; l < LANES; l++) before[l] += values[i] > values[l];
  for (int64_t l = 0; l < n; l++) {
    int32_t place = before[l];
    while (order[place] >= 0) place++;
    order[place] = (int32_t)l;
  }
  return true;
}

/* The first k of x[n] in order; false where other ways must be gone: there is a
 * NaN, too many are equal, or lanes do not pay. */
LANES_INLINE bool order_few(const float *x, int64_t n, int64_t k, bool turn,
                            int32_t *order) {
  candidates_t candidates;
  float low;
  if (n <= TINY_ROW) return false;
  if (n <= SHORT_ROW) return k > 1 && order_short(x, n, turn, order);
  if (!find_low(x, n, k, turn, &low) ||
      !find_candidates(x, n, low, turn, &candidates))
    return false;
  rank_candidates(&candidates, order);
  return true;
}

/* ---- Rows side by side ----------------------------------------------------
 */

enum { ROWS = LANES, MOST_IN_ROWS = 4, LONGEST_IN_ROWS = 32 };

/* The first k of each of ROWS rows x[row * n ..], k a constant of the caller:
 * each lane has a row, and a list that elements sink into. False where a NaN
 * is. Of equal elements the earlier one stays in front. */
LANES_INLINE bool order_rows(const float *x, int64_t n, int64_t k, bool turn,
                             int32_t order[MOST_IN_ROWS][ROWS]) {
  float best[MOST_IN_ROWS][ROWS];
  int32_t nan[ROWS] = {0}, any = 0;
  for (int j = 0; j < k; j++)
    for (int l = 0; l < ROWS; l++) {
      best[j][l] = 0;
      order[j][l] = 0;
    }
  for (int64_t i = 0; i < n; i++) {
    float sinking[ROWS];
    int32_t number[ROWS], above[ROWS];
    for (int l = 0; l < ROWS; l++) {
      sinking[l] = turned(x[l * n + i], turn);
      nan[l] |= sinking[l] != sinking[l];
      number[l] = (int32_t)i;
      above[l] = 0;
    }
    for (int j = 0; j < k; j++) {
      const int32_t empty = -(int32_t)(i <= j);
      for (int l = 0; l < ROWS; l++) {
        above[l] |= -(int32_t)(sinking[l] > best[j][l]) | empty;
        const float down = best[j][l];
        const int32_t down_number = order[j][l];
        best[j][l] = above[l] ? sinking[l] : down;
        order[j][l] = above[l] ? number[l] : down_number;
        sinking[l] = above[l] ? down : sinking[l];
        number[l] = above[l] ? down_number : number[l];
      }
    }
  }
  for (int l = 0; l < ROWS; l++) any |= nan[l];
  return any == 0;
}
