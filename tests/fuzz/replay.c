/* Runs a fuzz target on files and on simple damage to them: every prefix of
 * small files, some of large ones, and bytes changed at random; or on what the
 * target's own mutator makes of them, if it has one.
 *
 *     replay FILE...    MOEC_TEST_SEED changes the random places */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t length);
size_t LLVMFuzzerCustomMutator(unsigned char *bytes, size_t length, size_t room,
                               unsigned seed) __attribute__((weak));
size_t LLVMFuzzerMutate(unsigned char *bytes, size_t length, size_t room);

enum { PREFIXES = 200, CHANGES = 200, MUTANTS = 60 };

static unsigned long long random_state = 1;

static size_t draw(size_t below) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (size_t)(random_state >> 33) % below;
}

/* From a heap block of exactly that size, so that over-reads are noticed. */
static void run(const unsigned char *bytes, size_t length) {
  unsigned char *copy = malloc(length);
  if (length > 0 && copy == NULL) exit(1);
  if (length > 0) memcpy(copy, bytes, length);
  LLVMFuzzerTestOneInput(copy, length);
  free(copy);
}

static void damage(unsigned char *bytes, size_t length) {
  size_t step = length / PREFIXES + 1;
  for (size_t n = 0; n < length; n += step) run(bytes, n);
  for (unsigned i = 0; length > 0 && i < CHANGES; i++) {
    size_t place = draw(length);
    unsigned char old = bytes[place];
    bytes[place] = (unsigned char)draw(256);
    run(bytes, length);
    bytes[place] = old;
  }
}

/* What libFuzzer gives to mutators. */
size_t LLVMFuzzerMutate(unsigned char *bytes, size_t length, size_t room) {
  (void)room;
  if (length > 0) bytes[draw(length)] = (unsigned char)draw(256);
  return length;
}

/* A chain of mutants, begun anew now and then. */
static void mutate(const unsigned char *bytes, size_t length) {
  size_t room = 2 * length + 4096, n = 0;
  unsigned char *mutant = malloc(room);
  if (mutant == NULL) exit(1);
  for (unsigned i = 0; i < MUTANTS; i++) {
    if (i % 4 == 0) {
      memcpy(mutant, bytes, length);
      n = length;
    }
    n = LLVMFuzzerCustomMutator(mutant, n, room, (unsigned)draw(1u << 31));
    run(mutant, n);
  }
  free(mutant);
}

static int replay(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return perror(path), 1;
  fseek(file, 0, SEEK_END);
  size_t length = (size_t)ftell(file);
  rewind(file);
  unsigned char *bytes = malloc(length + 1);
  if (bytes == NULL || fread(bytes, 1, length, file) != length) exit(1);
  fclose(file);
  run(bytes, length);
  if (LLVMFuzzerCustomMutator != NULL)
    mutate(bytes, length);
  else
    damage(bytes, length);
  free(bytes);
  return 0;
}

int main(int argc, char **argv) {
  const char *seed = getenv("MOEC_TEST_SEED");
  if (seed != NULL) random_state = strtoull(seed, NULL, 0);
  printf("MOEC_TEST_SEED=%llu\n", random_state);
  int bad = argc < 2;
  for (int i = 1; i < argc; i++) {
    printf("%s\n", argv[i]); /* the last one, should the process end */
    fflush(stdout);
    bad |= replay(argv[i]);
  }
  return bad;
}
