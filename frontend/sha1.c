/* SHA-1 of a whole buffer. */
#include "frontend/sha1.h"

#include <string.h>

static uint32_t rotate(uint32_t x, unsigned n) {
  return x << n | x >> (32 - n);
}

static void hash_block(uint32_t h[5], const uint8_t *block) {
  uint32_t w[80];
  for (unsigned i = 0; i < 16; i++, block += 4)
    w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 |
           (uint32_t)block[2] << 8 | block[3];
  for (unsigned i = 16; i < 80; i++)
    w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
  for (unsigned i = 0; i < 80; i++) {
    uint32_t f, k;
    if (i < 20)
      f = (b & c) | (~b & d), k = 0x5a827999;
    else if (i < 40)
      f = b ^ c ^ d, k = 0x6ed9eba1;
    else if (i < 60)
      f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
    else
      f = b ^ c ^ d, k = 0xca62c1d6;
    uint32_t t = rotate(a, 5) + f + e + k + w[i];
    e = d;
    d = c;
    c = rotate(b, 30);
    b = a;
    a = t;
  }
  h[0] += a;
  h[1] += b;
  h[2] += c;
  h[3] += d;
  h[4] += e;
}

void onnx_sha1(const uint8_t *bytes, size_t length, uint8_t out_digest[20]) {
  uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  size_t whole = length / 64 * 64, rest = length - whole;
  for (size_t i = 0; i < whole; i += 64) hash_block(h, bytes + i);

  /* The rest, a one bit, zeros, and the length in bits: one or two blocks. */
  uint8_t tail[128] = {0};
  size_t tail_length = rest < 56 ? 64 : 128;
  if (rest > 0) memcpy(tail, bytes + whole, rest);
  tail[rest] = 0x80;
  for (unsigned i = 0; i < 8; i++)
    tail[tail_length - 1 - i] = (uint8_t)((uint64_t)length * 8 >> (8 * i));
  for (size_t i = 0; i < tail_length; i += 64) hash_block(h, tail + i);

  for (unsigned i = 0; i < 20; i++)
    out_digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}
