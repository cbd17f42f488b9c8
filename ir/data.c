/* Digests of constants. */
#include <string.h>

#include "ir/ir.h"

/* A 64-bit hash in the manner of xxHash64: four independent lanes of 8 bytes
 * each keep the multipliers busy, so that large weights hash at memory speed.
 */
#define PRIME_1 UINT64_C(0x9e3779b185ebca87)
#define PRIME_2 UINT64_C(0xc2b2ae3d27d4eb4f)
#define PRIME_3 UINT64_C(0x165667b19e3779f9)

static uint64_t rotate(uint64_t x, unsigned by) {
  return x << by | x >> (64 - by);
}

static uint64_t load_word(const unsigned char *p, size_t n) {
  uint64_t word = 0;
  if (n == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) {
    memcpy(&word, p, 8);
    return word;
  }
  for (size_t i = 0; i < n; i++) word |= (uint64_t)p[i] << 8 * i;
  return word;
}

static uint64_t mix_lane(uint64_t lane, uint64_t word) {
  return rotate(lane + word * PRIME_2, 31) * PRIME_1;
}

static uint64_t mix_tail(uint64_t hash, uint64_t word) {
  return rotate(hash ^ mix_lane(0, word), 27) * PRIME_1 + PRIME_3;
}

static uint64_t hash_bytes(uint64_t seed, const void *bytes, uint64_t size) {
  const unsigned char *p = bytes;
  uint64_t left = size;
  uint64_t hash = seed + PRIME_3;
  if (left >= 32) {
    uint64_t lane0 = seed + PRIME_1, lane1 = seed + PRIME_2;
    uint64_t lane2 = seed, lane3 = seed - PRIME_1;
    for (; left >= 32; left -= 32, p += 32) {
      lane0 = mix_lane(lane0, load_word(p, 8));
      lane1 = mix_lane(lane1, load_word(p + 8, 8));
      lane2 = mix_lane(lane2, load_word(p + 16, 8));
      lane3 = mix_lane(lane3, load_word(p + 24, 8));
    }
    hash = rotate(lane0, 1) + rotate(lane1, 7) + rotate(lane2, 12) +
           rotate(lane3, 18);
    hash = mix_tail(mix_tail(hash, lane0), lane1);
    hash = mix_tail(mix_tail(hash, lane2), lane3);
  }
  hash += size;
  for (; left >= 8; left -= 8, p += 8) hash = mix_tail(hash, load_word(p, 8));
  if (left > 0) hash = mix_tail(hash, load_word(p, left));
  hash = (hash ^ hash >> 33) * PRIME_2;
  hash = (hash ^ hash >> 29) * PRIME_3;
  return hash ^ hash >> 32;
}

uint64_t ir_data_digest(ir_data_t *data) {
  if (data->digest != 0) return data->digest;
  uint64_t hash = 0;
  if (data->strings != NULL)
    for (uint64_t i = 0; i < data->size / 16; i++)
      hash = hash_bytes(hash, data->strings[i], strlen(data->strings[i]));
  else
    hash = hash_bytes(0, data->bytes, data->size);
  data->digest = hash != 0 ? hash : 1;
  return data->digest;
}

bool ir_data_is_known(const ir_data_t *data) {
  if (data->digest == 0) return true;
  ir_data_t copy = *data;
  copy.digest = 0;
  return ir_data_digest(&copy) == data->digest;
}
