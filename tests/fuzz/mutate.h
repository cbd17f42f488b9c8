/* What changes a model as a model: it is unpacked, a few of its operators,
 * edges, attributes, dimensions, types and constants are changed, and it is
 * packed again. */
#ifndef TESTS_FUZZ_MUTATE_H
#define TESTS_FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

/* Changes bytes[0, length), of which there is room for `room`; returns the new
 * length. What is no model is left to LLVMFuzzerMutate. The same arguments give
 * the same bytes. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length, size_t room,
                               unsigned seed);

/* libFuzzer's, or that of replay.c. */
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t length, size_t room);

#endif
