/* Runs a model on ones and prints the beginning of each f32 output. With
 * MODEL_PATH defined the model is loaded from there, else it is linked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moec/model.h"

#ifdef MODEL_PATH
#include <dlfcn.h>

static const moec_model_t *get_model(void) {
  void *library = dlopen(MODEL_PATH, RTLD_NOW | RTLD_LOCAL);
  void *symbol = library != NULL ? dlsym(library, "moec_model") : NULL;
  moec_model_fn function;
  if (symbol == NULL) return NULL;
  memcpy(&function, &symbol, sizeof function);
  return function();
}
#else
static const moec_model_t *get_model(void) { return moec_model(); }
#endif

/* A tensor of ones, with 1 for every dimension that is not fixed; false for
 * other types than f32 and i64. */
static int fill(const moec_io_t *io, moec_value_t *value) {
  int64_t count = 1;
  int64_t *dims = calloc((size_t)io->rank + 1, sizeof *dims);
  if (dims == NULL || (io->dtype != MOEC_F32 && io->dtype != MOEC_I64))
    return 0;
  for (int32_t i = 0; i < io->rank; i++) {
    dims[i] = io->dims[i] >= 0 ? io->dims[i] : 1;
    count *= dims[i];
  }
  void *data = calloc((size_t)count + 1, 8);
  if (data == NULL) return 0;
  for (int64_t i = 0; i < count; i++) {
    if (io->dtype == MOEC_F32)
      ((float *)data)[i] = 1;
    else
      ((int64_t *)data)[i] = 1;
  }
  *value = (moec_value_t){.struct_size = sizeof *value,
                          .dtype = io->dtype,
                          .rank = io->rank,
                          .data = data,
                          .dims = dims};
  return 1;
}

static void print(const moec_io_t *io, const moec_value_t *value) {
  printf("%s:", io->name);
  if (value->dtype == MOEC_F32)
    for (uint64_t i = 0; i < value->size / sizeof(float) && i < 8; i++)
      printf(" %g", (double)((const float *)value->data)[i]);
  printf("\n");
}

int main(void) {
  const moec_model_t *model = get_model();
  moec_instance_t *instance;
  if (model == NULL || model->create(NULL, &instance) != MOEC_OK) {
    fprintf(stderr, "the model cannot be loaded\n");
    return 1;
  }
  moec_value_t *inputs = calloc(model->n_inputs + 1, sizeof *inputs);
  moec_value_t *outputs = calloc(model->n_outputs + 1, sizeof *outputs);
  if (inputs == NULL || outputs == NULL) return 1;
  for (uint32_t i = 0; i < model->n_inputs; i++)
    if (!fill(&model->inputs[i], &inputs[i])) return 1;
  for (uint32_t i = 0; i < model->n_outputs; i++)
    outputs[i].struct_size = sizeof *outputs;
  if (model->run(instance, inputs, model->n_inputs, outputs,
                 model->n_outputs) != MOEC_OK) {
    fprintf(stderr, "%s\n", model->message(instance));
    return 1;
  }
  for (uint32_t i = 0; i < model->n_outputs; i++)
    print(&model->outputs[i], &outputs[i]);
  model->destroy(instance);
  return 0;
}
