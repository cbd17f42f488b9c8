/* SHA-1 (RFC 3174), because ONNX names it for checksums of external data. It
 * guards against mistakes, not against attackers. */
#ifndef FRONTEND_SHA1_H
#define FRONTEND_SHA1_H

#include <stddef.h>
#include <stdint.h>

void onnx_sha1(const uint8_t *bytes, size_t length, uint8_t out_digest[20]);

#endif
