/* Text from a byte-level language model, i64 ids[1, n] to f32 logits[1, n,
 * 256]. generate DIR PROMPT [BYTES [TEMPERATURE]]   with DIR/model.so; 0:
 * greedy */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "moec/model.h"

enum { CONTEXT = 128, WINDOW = 96, BYTE = 256, MAX_TEXT = 65536 };
static const moec_model_t *model;
static moec_instance_t *instance;

/* Logits of n ids, in memory of the instance: valid until the next run. */
static const float *run(int64_t *ids, int64_t n) {
  int64_t dims[] = {1, n};
  moec_value_t out = {.struct_size = sizeof out}, in = out;
  in.dtype = MOEC_I64, in.rank = 2, in.data = ids, in.dims = dims;
  if (model->run(instance, &in, 1, &out, 1) == MOEC_OK) return out.data;
  fprintf(stderr, "generate: %s\n", model->message(instance));
  exit(1);
}

static int choose(const float *logits, double temperature) {
  static uint64_t random = 0x9e3779b97f4a7c15u; /* xorshift64 */
  double weights[BYTE], sum = 0;
  int best = 0, i;
  for (i = 1; i < BYTE; i++) best = logits[i] > logits[best] ? i : best;
  if (temperature <= 0) return best;
  for (i = 0; i < BYTE; i++)
    sum += weights[i] = exp((logits[i] - logits[best]) / temperature);
  random ^= random << 13, random ^= random >> 7, random ^= random << 17;
  double point = (double)(random >> 11) * 0x1p-53 * sum;
  for (i = 0; i < BYTE - 1 && (point -= weights[i]) >= 0;) i++;
  return i;
}

static size_t read_raw(const char *name, void *to, size_t bytes) {
  FILE *file = fopen(name, "rb");
  return file != NULL ? fread(to, 1, bytes, file) : 0;
}

int main(int argc, char **argv) {
  static int64_t ids[MAX_TEXT];
  static float want[CONTEXT * BYTE];
  struct timespec start, end;
  double temperature = argc > 4 ? atof(argv[4]) : 0, worst = 0;
  int bytes = argc > 3 ? atoi(argv[3]) : 200, n = 0;
  if (argc < 3 || argv[2][0] == 0 || bytes > MAX_TEXT / 2) return 2;
  if (chdir(argv[1]) != 0) return perror(argv[1]), 1;
  void *library = dlopen("./model.so", RTLD_NOW | RTLD_LOCAL);
  moec_model_fn entry = NULL;
  if (library != NULL) *(void **)&entry = dlsym(library, "moec_model");
  if (entry == NULL) return fprintf(stderr, "%s\n", dlerror()), 1;
  if ((model = entry())->create(NULL, &instance) != MOEC_OK) return 1;
  size_t n_ids = read_raw("ids.i64", ids, CONTEXT * 8) / 8;
  size_t n_want = read_raw("logits.f32", want, n_ids * BYTE * 4) / 4;
  const float *got = n_ids > 0 ? run(ids, (int64_t)n_ids) : want;
  for (size_t i = 0; i < n_want; i++) /* a NaN stays */
    if (!(fabs((double)got[i] - (double)want[i]) <= worst) && worst == worst)
      worst = fabs((double)got[i] - (double)want[i]);
  printf("largest difference from %zu reference logits: %g\n", n_want, worst);
  for (const char *c = argv[2]; *c != 0 && n < MAX_TEXT / 2; c++)
    putchar((int)(ids[n++] = (unsigned char)*c));
  timespec_get(&start, TIME_UTC);
  for (int i = 0; i < bytes; i++) { /* no cache: the whole window again */
    int window = n < WINDOW ? n : WINDOW;
    const float *logits = run(ids + n - window, window) + (window - 1) * BYTE;
    putchar((int)(ids[n++] = choose(logits, temperature)));
  }
  timespec_get(&end, TIME_UTC);
  double seconds = difftime(end.tv_sec, start.tv_sec);
  seconds += (double)(end.tv_nsec - start.tv_nsec) * 1e-9;
  printf("\n%.0f tokens/s, recomputing a sliding window of %d bytes for each\n",
         bytes / seconds, WINDOW);
  model->destroy(instance);
}
