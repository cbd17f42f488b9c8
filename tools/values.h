/* Values between files and the boundary of a run. */
#ifndef TOOLS_VALUES_H
#define TOOLS_VALUES_H

#include "frontend/load.h"
#include "moec/model.h"
#include "tools/cli.h"

/* Reads the value of a .pb, .npy or .npz file (by its suffix) for a place of
 * kind and element type `io`; of a .npz file the array of that name, or its
 * only one. Lives as long as `cli`. */
moec_status_t value_load(cli_t *cli, const char *path, const moec_io_t *io,
                         onnx_value_t **out_value);
/* Writes `value` to `path`, in the form that its suffix says. */
moec_status_t value_save(cli_t *cli, const char *path,
                         const onnx_value_t *value);

/* The same value as the run API describes it; elements stay where they are. */
void value_to_run(arena_t *arena, const onnx_value_t *value,
                  moec_value_t *out_value);
/* The same value as files have it, named `name`; elements stay where they are:
 * in the memory of the instance for an output. */
onnx_value_t *value_from_run(arena_t *arena, const moec_value_t *value,
                             const char *name);

/* DIR/<stem>_<index>.pb or .npy, whichever is there; NULL if none is. */
const char *value_find_file(arena_t *arena, const char *directory,
                            const char *stem, uint32_t index);

/* All inputs of a model: those of `named` ("NAME=FILE"), the others from files
 * input_<i> in the directory `data`, or from arrays of the .npz file `data`
 * that are named as the inputs, input_<i> or arr_<i> (NULL: none). Optional
 * inputs may be missing. */
moec_status_t values_load_inputs(cli_t *cli, const moec_model_t *model,
                                 const char *data, const option_list_t *named,
                                 moec_value_t **out_inputs);
/* Outputs that a run fills with memory of the instance. */
moec_value_t *values_make_outputs(arena_t *arena, const moec_model_t *model);

uint64_t value_count(const onnx_value_t *value); /* elements of a tensor */
/* "f32[2,3]", "sequence of 4", for messages and summaries. */
const char *value_type_text(arena_t *arena, const onnx_value_t *value);
/* "f32[batch,3]" of an input or output. */
const char *io_type_text(arena_t *arena, const moec_io_t *io);
/* "[0,2,13]" of the element that is `index` in C order. */
const char *value_index_text(arena_t *arena, const onnx_value_t *value,
                             uint64_t index);
/* Appends element `index` as a literal. */
void value_append_element(text_t *out, const onnx_value_t *value,
                          uint64_t index);
/* Prints name, type and the first elements. */
void value_print_summary(FILE *out, arena_t *arena, const char *name,
                         const onnx_value_t *value, unsigned max_elements);

#endif
