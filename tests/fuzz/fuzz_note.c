/* Files that claim to be compiled models. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/note.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_body(arena_t *arena, diag_sink_t *diag, const uint8_t *bytes,
                      size_t length) {
  static int fd = -1; /* one file in memory for all */
  if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
  FUZZ_CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
  FUZZ_CHECK(pwrite(fd, bytes, length, 0) == (ssize_t)length);
  note_file_t file;
  const char *path = arena_printf(arena, "/proc/self/fd/%d", fd);
  if (note_read(path, arena, &file, diag) != MOEC_OK) return;
  FUZZ_CHECK(file.n_notes > 0);
  for (unsigned i = 0; i < file.n_notes; i++)
    FUZZ_CHECK(note_find(&file, file.notes[i].type) != NULL);
}
