/* Selection of many entries, for keys of KEY_BITS bits; topk.c includes this
 * once for each width and explains it. Entry j is result j of the row: its key
 * stands where the value will. */
#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define NAME(name) PASTE(name##_, KEY_BITS)
#define KEY PASTE(PASTE(uint, KEY_BITS), _t)
#define HEAP NAME(heap_t)

typedef struct NAME(heap) {
  KEY *keys;
  int64_t *indices;
  int64_t stride; /* in elements */
  int64_t used;
} HEAP;

static inline entry_t NAME(get)(const HEAP *heap, int64_t j) {
  return (entry_t){.key = heap->keys[j * heap->stride],
                   .index = heap->indices[j * heap->stride]};
}

static inline void NAME(set)(HEAP *heap, int64_t j, entry_t entry) {
  heap->keys[j * heap->stride] = (KEY)entry.key;
  heap->indices[j * heap->stride] = entry.index;
}

/* Places the entry at `top` or below, in a heap of `used` entries whose root is
 * the last of the order. Goes down to a leaf first and up from there: entries
 * that were leaves belong near them, and on the way down nothing has to be
 * predicted. */
static void NAME(sift_down)(HEAP *heap, int64_t top, entry_t entry) {
  int64_t j = top;
  while (2 * j + 2 < heap->used) {
    int64_t child = 2 * j + 1;
    child +=
        is_before(NAME(get)(heap, child), NAME(get)(heap, child + 1)) ? 1 : 0;
    NAME(set)(heap, j, NAME(get)(heap, child));
    j = child;
  }
  if (2 * j + 1 < heap->used) {
    NAME(set)(heap, j, NAME(get)(heap, 2 * j + 1));
    j = 2 * j + 1;
  }
  while (j > top) {
    entry_t parent = NAME(get)(heap, (j - 1) / 2);
    if (!is_before(parent, entry)) break;
    NAME(set)(heap, j, parent);
    j = (j - 1) / 2;
  }
  NAME(set)(heap, j, entry);
}

static void NAME(make_heap)(HEAP *heap) {
  for (int64_t j = heap->used / 2; j-- > 0;)
    NAME(sift_down)(heap, j, NAME(get)(heap, j));
}

static void NAME(sort_heap)(HEAP *heap) {
  while (heap->used > 1) { /* the last of the order to the end */
    entry_t root = NAME(get)(heap, 0);
    entry_t moved = NAME(get)(heap, --heap->used);
    NAME(sift_down)(heap, 0, moved);
    NAME(set)(heap, heap->used, root);
  }
}

static void NAME(sort_by_insertion)(HEAP *heap, int64_t begin, int64_t end) {
  for (int64_t i = begin + 1; i < end; i++) {
    entry_t entry = NAME(get)(heap, i);
    int64_t j = i;
    for (; j > begin; j--) {
      entry_t before = NAME(get)(heap, j - 1);
      if (is_before(before, entry)) break;
      NAME(set)(heap, j, before);
    }
    NAME(set)(heap, j, entry);
  }
}

/* Entries before the pivot to the left of the place returned, which it takes;
 * the others to its right. No branch on the order, which is unpredictable. */
static int64_t NAME(partition)(HEAP *heap, int64_t begin, int64_t end) {
  const int64_t last = end - 1, middle = begin + (end - begin) / 2;
  const entry_t a = NAME(get)(heap, begin), b = NAME(get)(heap, middle),
                c = NAME(get)(heap, last);
  const bool ab = is_before(a, b), bc = is_before(b, c), ac = is_before(a, c);
  const int64_t median = ab == bc ? middle : ab == ac ? last : begin;
  const entry_t pivot = NAME(get)(heap, median);
  NAME(set)(heap, median, c);
  int64_t place = begin;
  for (int64_t i = begin; i < last; i++) {
    entry_t entry = NAME(get)(heap, i);
    NAME(set)(heap, i, NAME(get)(heap, place));
    NAME(set)(heap, place, entry);
    place += is_before(entry, pivot) ? 1 : 0;
  }
  NAME(set)(heap, last, NAME(get)(heap, place));
  NAME(set)(heap, place, pivot);
  return place;
}

/* Sorts entries [begin, end): quicksort until `depth` partitions have not done
 * it, then by a heap. */
static void NAME(sort_range)(HEAP *heap, int64_t begin, int64_t end,
                             int depth) {
  while (end - begin > SHORT_RANGE) {
    if (depth-- == 0) {
      HEAP part = {.keys = heap->keys + begin * heap->stride,
                   .indices = heap->indices + begin * heap->stride,
                   .stride = heap->stride,
                   .used = end - begin};
      NAME(make_heap)(&part);
      NAME(sort_heap)(&part);
      return;
    }
    int64_t place = NAME(partition)(heap, begin, end);
    if (place - begin < end - place) {
      NAME(sort_range)(heap, begin, place, depth);
      begin = place + 1;
    } else {
      NAME(sort_range)(heap, place + 1, end, depth);
      end = place;
    }
  }
  NAME(sort_by_insertion)(heap, begin, end);
}

static void NAME(select_many)(const topk_t *t, const char *in, int64_t out_at) {
  HEAP heap = {.keys = (KEY *)(void *)t->values + out_at,
               .indices = t->indices + out_at,
               .stride = t->inner};
  uint64_t keys[BLOCK];
  uint64_t root = 0; /* key of entry 0 once the heap is full */
  for (int64_t begin = 0; begin < t->n; begin += BLOCK) {
    int64_t count = t->n - begin < BLOCK ? t->n - begin : BLOCK;
    load_keys(t, in + begin * t->inner * t->element, t->inner, count, keys);
    for (int64_t i = 0; i < count; i++) {
      const entry_t entry = {.key = keys[i], .index = begin + i};
      if (heap.used < t->k) {
        NAME(set)(&heap, heap.used++, entry);
        if (heap.used < t->k || t->k == t->n) continue;
        NAME(make_heap)(&heap);
        root = NAME(get)(&heap, 0).key;
      } else if (entry.key > root) {
        NAME(sift_down)(&heap, 0, entry);
        root = NAME(get)(&heap, 0).key;
      }
    }
  }
  int bits_of_k = 64 - __builtin_clzll((uint64_t)t->k);
  NAME(sort_range)(&heap, 0, t->k, 2 * bits_of_k);
  for (int64_t j = 0; j < t->k; j++) {
    int64_t at = out_at + j * t->inner;
    write_result(t, in, at, t->indices[at]);
  }
}

#undef PASTE_
#undef PASTE
#undef NAME
#undef KEY
#undef HEAP
#undef KEY_BITS
