/* Changes to a linked image that the linker cannot make: the weights segment
 * gets its real size, the build id covers the weights. */
#ifndef BACKEND_ELF_PATCH_H
#define BACKEND_ELF_PATCH_H

#include "ir/diag.h"

#define WEIGHTS_SECTION ".moec.weights"
#define WEIGHTS_SYMBOL "moert_weights"

/* Bytes of weights that one file can hold: what fits into the address space of
 * every supported machine with room to spare. */
#define WEIGHTS_MAX_BYTES (UINT64_C(1) << 46)

/* Makes the image's last loaded segment, which must hold the section
 * WEIGHTS_SECTION alone, weights_bytes (> 0) long in file and memory, and moves
 * it behind the end of the image: the file is image[0, image_bytes), a gap of
 * zeros, then the weights from *out_offset on. Segment, section header and
 * symbol are changed in place; the image does not grow.
 *
 * The image comes from link_shared; another one is a bug of the caller. Fails
 * with MOEC_E_LIMIT above WEIGHTS_MAX_BYTES. */
MOEC_MUST_CHECK moec_status_t elf_extend_weights(uint8_t *image,
                                                 size_t image_bytes,
                                                 uint64_t weights_bytes,
                                                 uint64_t *out_offset,
                                                 diag_sink_t *diag);

/* Replaces the build id by one that depends on it and on the digest, so that
 * files with equal code and different weights differ in it. */
void elf_mix_build_id(uint8_t *image, size_t image_bytes, uint64_t digest);

#endif
