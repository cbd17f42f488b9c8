/* runner MODEL.so THREADS INPUTS OUTPUTS: runs a compiled model once on another
 * architecture, under an emulator. Both files hold tensors, as check_target.py
 * writes and reads them: i32 type, i32 rank, i64 dims[rank], u64 bytes, data.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moec/model.h"

static void fail(const char *what, const char *detail) {
  fprintf(stderr, "runner: %s: %s\n", what, detail != NULL ? detail : "");
  exit(1);
}

static void get(FILE *file, void *out, size_t bytes) {
  if (bytes > 0 && fread(out, bytes, 1, file) != 1) fail("inputs", "too short");
}

static void put(FILE *file, const void *data, size_t bytes) {
  if (bytes > 0 && fwrite(data, bytes, 1, file) != 1) fail("outputs", "I/O");
}

static void *allocate(size_t bytes) {
  void *memory = calloc(1, bytes + 1);
  if (memory == NULL) fail("memory", "exhausted");
  return memory;
}

static void read_value(FILE *file, moec_value_t *out) {
  uint64_t bytes;
  *out = (moec_value_t){.struct_size = sizeof *out, .kind = MOEC_TENSOR};
  get(file, &out->dtype, sizeof out->dtype);
  get(file, &out->rank, sizeof out->rank);
  if (out->rank < 0 || out->rank > MOEC_MAX_RANK) fail("inputs", "rank");
  out->dims = allocate((size_t)out->rank * sizeof *out->dims);
  get(file, out->dims, (size_t)out->rank * sizeof *out->dims);
  get(file, &bytes, sizeof bytes);
  out->data = allocate(bytes);
  get(file, out->data, bytes);
}

static void write_value(FILE *file, const moec_value_t *value) {
  put(file, &value->dtype, sizeof value->dtype);
  put(file, &value->rank, sizeof value->rank);
  put(file, value->dims, (size_t)value->rank * sizeof *value->dims);
  put(file, &value->size, sizeof value->size);
  put(file, value->data, value->size);
}

static const moec_model_t *load(const char *path) {
  union {
    void *symbol;
    moec_model_fn get;
  } entry;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fail("dlopen", dlerror());
  entry.symbol = dlsym(library, "moec_model");
  if (entry.symbol == NULL) fail("dlsym", dlerror());
  return entry.get();
}

int main(int argc, char **argv) {
  if (argc != 5) fail("usage", "MODEL.so THREADS INPUTS OUTPUTS");
  const moec_model_t *model = load(argv[1]);
  moec_value_t *in = allocate(model->n_inputs * sizeof *in);
  moec_value_t *out = allocate(model->n_outputs * sizeof *out);
  FILE *file = fopen(argv[3], "rb");
  if (file == NULL) fail("cannot open", argv[3]);
  for (uint32_t i = 0; i < model->n_inputs; i++) read_value(file, &in[i]);
  fclose(file);
  for (uint32_t i = 0; i < model->n_outputs; i++)
    out[i] = (moec_value_t){.struct_size = sizeof out[i]};
  moec_options_t options = {.struct_size = sizeof options,
                            .n_threads = atoi(argv[2])};
  moec_instance_t *instance;
  if (model->create(&options, &instance) != MOEC_OK) fail("create", NULL);
  if (model->run(instance, in, model->n_inputs, out, model->n_outputs) !=
      MOEC_OK)
    fail("run", model->message(instance));
  file = fopen(argv[4], "wb");
  if (file == NULL) fail("cannot open", argv[4]);
  for (uint32_t i = 0; i < model->n_outputs; i++) write_value(file, &out[i]);
  if (fclose(file) != 0) fail("outputs", "I/O");
  printf("%s\n", model->variant(instance));
  model->destroy(instance);
  return 0;
}
