/* Guesses what a file is that is not ONNX. */
#ifndef FRONTEND_LOOKS_LIKE_H
#define FRONTEND_LOOKS_LIKE_H

#include <stddef.h>
#include <stdint.h>

typedef struct onnx_guess {
  const char *what;   /* "a gzip archive"; NULL: no idea */
  const char *remedy; /* or NULL */
} onnx_guess_t;

/* To be asked after a file turned out not to be ONNX: some of the marks may
 * begin an ONNX file too. */
onnx_guess_t onnx_looks_like(const uint8_t *bytes, size_t length);

#endif
