/* Coordinates of the elements that are not zero, in row-major order.
 *
 * The input is cut into at most PIECES pieces of whole bytes of elements; each
 * is counted, then each writes behind the counts of those before it. */
#include "runtime/libc.h"
#include "runtime/runtime.h"

enum { PIECES = 256, ELEMENTS_PER_PIECE = 16384 };

typedef struct nonzero {
  int64_t *out; /* [rank, count] */
  const char *in;
  const moert_arg_t *dims;
  int64_t rank, count, total; /* total: elements of the input */
  unsigned bits;              /* of an element */
  uint64_t mask;              /* bits of an element that a zero has clear */
  int64_t piece;              /* elements of a piece */
  int64_t counts[PIECES];     /* per piece, then offsets into `out` */
} nonzero_t;

/* All bits but the signs of zeros. */
static uint64_t value_mask(int32_t dtype) {
  switch (dtype) {
    case MOEC_F64:
    case MOEC_C128: /* each half */
      return ~(1ull << 63);
    case MOEC_C64:
      return ~(1ull << 63 | 1ull << 31);
    case MOEC_F32:
      return ~(1ull << 31);
    case MOEC_F16:
    case MOEC_BF16:
      return ~(1ull << 15);
    case MOEC_F8E4M3FN:
    case MOEC_F8E5M2:
      return ~(1ull << 7);
    case MOEC_F4E2M1:
      return ~(1ull << 3);
    default: /* 8-bit floats without -0 as well */
      return ~0ull;
  }
}

/* Calls TEST(expression), true where element i is not zero. The switch is
 * outside the loops. f8e8m0 has no zero. */
#define ELEMENT_CASES(TEST)                                                  \
  case 2:                                                                    \
    TEST((((const uint8_t *)z->in)[i >> 2] >> (i & 3) * 2 & 3) != 0)         \
  case 4:                                                                    \
    TEST((((const uint8_t *)z->in)[i >> 1] >> (i & 1) * 4 & 15 & z->mask) != \
         0)                                                                  \
  case 8:                                                                    \
    TEST((((const uint8_t *)z->in)[i] & z->mask) != 0)                       \
  case 16:                                                                   \
    TEST((((const uint16_t *)(const void *)z->in)[i] & z->mask) != 0)        \
  case 32:                                                                   \
    TEST((((const uint32_t *)(const void *)z->in)[i] & z->mask) != 0)        \
  case 64:                                                                   \
    TEST((((const uint64_t *)(const void *)z->in)[i] & z->mask) != 0)        \
  case 128:                                                                  \
    TEST(((((const uint64_t *)(const void *)z->in)[2 * i] |                  \
           ((const uint64_t *)(const void *)z->in)[2 * i + 1]) &             \
          z->mask) != 0)

static int64_t count_range(const nonzero_t *z, int64_t begin, int64_t end) {
  int64_t count = 0;
#define TEST(is_set)                                               \
  for (int64_t i = begin; i < end; i++) count += (is_set) ? 1 : 0; \
  break;
  switch (z->bits) {
    ELEMENT_CASES(TEST)
    default: /* f8e8m0 */
      count = end - begin;
  }
#undef TEST
  return count;
}

static bool is_set(const nonzero_t *z, int64_t i) {
#define TEST(expression) return (expression);
  switch (z->bits) {
    ELEMENT_CASES(TEST)
    default:
      return true;
  }
#undef TEST
}

/* Writes the coordinates of a range from place `at` on. */
static void write_range(const nonzero_t *z, int64_t begin, int64_t end,
                        int64_t at) {
  int64_t position[MOEC_MAX_RANK] = {0};
  int64_t rest = begin;
  for (int64_t axis = z->rank; axis-- > 0;) {
    position[axis] = rest % z->dims[axis].i;
    rest /= z->dims[axis].i;
  }
  for (int64_t i = begin; i < end; i++) {
    if (is_set(z, i)) {
      for (int64_t axis = 0; axis < z->rank; axis++)
        z->out[axis * z->count + at] = position[axis];
      at++;
    }
    for (int64_t axis = z->rank; axis-- > 0;) {
      if (++position[axis] < z->dims[axis].i) break;
      position[axis] = 0;
    }
  }
}

static int64_t piece_end(const nonzero_t *z, int64_t piece) {
  int64_t left = z->total - piece * z->piece;
  return left < z->piece ? z->total : (piece + 1) * z->piece;
}

static void count_pieces(void *context, int64_t begin, int64_t end) {
  nonzero_t *z = context;
  for (int64_t p = begin; p < end; p++)
    z->counts[p] = count_range(z, p * z->piece, piece_end(z, p));
}

static void write_pieces(void *context, int64_t begin, int64_t end) {
  const nonzero_t *z = context;
  for (int64_t p = begin; p < end; p++)
    write_range(z, p * z->piece, piece_end(z, p), z->counts[p]);
}

int32_t moert_op_nonzero(moert_frame_t *frame, const moert_arg_t *args) {
  moec_instance_t *it = frame->instance;
  const int32_t dtype = (int32_t)args[2].i;
  nonzero_t z = {.out = args[0].pointer,
                 .in = args[1].pointer,
                 .rank = args[3].i,
                 .dims = args + 4,
                 .count = args[4 + args[3].i].i,
                 .total = 1,
                 .bits = dtype == MOEC_F8E8M0 ? 0 : dtype_bits(dtype),
                 .mask = value_mask(dtype)};
  if (dtype == MOEC_STRING || dtype_bits(dtype) == 0)
    return (int32_t)report_at(it, frame->node, MOEC_E_UNSUPPORTED,
                              "%s has no zero", dtype_name(dtype));
  for (int64_t axis = 0; axis < z.rank; axis++) z.total *= z.dims[axis].i;
  z.piece = z.total / PIECES + 1;
  if (z.piece < ELEMENTS_PER_PIECE) z.piece = ELEMENTS_PER_PIECE;
  int64_t n_pieces = z.total / z.piece + (z.total % z.piece != 0);
  instance_parallel(it, n_pieces, 1, count_pieces, &z);
  int64_t found = 0;
  for (int64_t p = 0; p < n_pieces; p++) {
    int64_t count = z.counts[p];
    z.counts[p] = found;
    found += count;
  }
  if (found != z.count)
    return (int32_t)report_at(it, frame->node, MOEC_E_INTERNAL,
                              "%d elements are not zero but %d were counted",
                              found, z.count);
  instance_parallel(it, n_pieces, 1, write_pieces, &z);
  return MOEC_OK;
}
