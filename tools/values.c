/* Values as files have them and as runs take them. */
#include "tools/values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend/output.h"
#include "tools/npz.h"

/* ---- Files --------------------------------------------------------------- */

static moec_status_t load_npy(cli_t *cli, const char *path, dtype_t expected,
                              onnx_value_t **out_value) {
  const char *bytes;
  size_t length;
  MOEC_TRY(file_read(cli, path, UINT64_MAX, &bytes, &length));
  return npy_decode(cli->arena, bytes, length, expected, &cli->diag, out_value);
}

static void note_arrays(cli_t *cli, const npz_t *npz) {
  text_t names;
  text_init(&names, cli->arena);
  for (size_t i = 0; i < npz->n_arrays; i++)
    text_printf(&names, "%s'%s'", i > 0 ? ", " : "", npz->arrays[i].name);
  diag_note(&cli->diag, (ir_loc_t){0}, "the file has: %s",
            npz->n_arrays > 0 ? names.data : "no arrays");
}

static moec_status_t open_npz(cli_t *cli, const char *path, npz_t *out) {
  const char *bytes;
  size_t length;
  MOEC_TRY(file_read(cli, path, UINT64_MAX, &bytes, &length));
  return npz_open(cli->arena, bytes, length, &cli->diag, out);
}

/* The array that is named as the input, or the only one. */
static moec_status_t load_npz(cli_t *cli, const char *path, const char *name,
                              dtype_t expected, onnx_value_t **out_value) {
  npz_t npz;
  MOEC_TRY(open_npz(cli, path, &npz));
  const npz_array_t *array = npz_find(&npz, name);
  if (array == NULL && npz.n_arrays == 1) array = &npz.arrays[0];
  if (array != NULL)
    return npz_read(cli->arena, &npz, array, expected, &cli->diag, out_value);
  moec_status_t status = CLI_FAIL(
      cli, MOEC_E_USAGE, "there is no array '%s', nor one array alone", name);
  note_arrays(cli, &npz);
  return status;
}

static ir_kind_t kind_of(uint32_t kind) {
  return kind == MOEC_SEQUENCE   ? IR_SEQUENCE
         : kind == MOEC_OPTIONAL ? IR_OPTIONAL
                                 : IR_TENSOR;
}

static dtype_t dtype_of(int32_t dtype) {
  return dtype > 0 && dtype < DT_COUNT ? (dtype_t)dtype : DT_NONE;
}

moec_status_t value_load(cli_t *cli, const char *path, const moec_io_t *io,
                         onnx_value_t **out_value) {
  const char *file = cli->diag.file;
  moec_status_t status = MOEC_OK;
  *out_value = NULL;
  if (cli->store == NULL) cli->store = onnx_store_create(NULL);
  if (cli->store == NULL) return MOEC_E_NO_MEMORY;
  cli->diag.file = path;
  if (path_has_suffix(path, ".npy"))
    status = load_npy(cli, path, dtype_of(io->dtype), out_value);
  else if (path_has_suffix(path, ".npz"))
    status = load_npz(cli, path, io->name, dtype_of(io->dtype), out_value);
  else if (path_has_suffix(path, ".pb"))
    status = onnx_load_value(cli->store, cli->arena, path, kind_of(io->kind),
                             &cli->diag, out_value);
  else
    status = CLI_FAIL(cli, MOEC_E_USAGE,
                      "the suffix tells no form of data; expected .npy, .npz "
                      "or .pb");
  if (status == MOEC_OK) cli->diag.file = file;
  return status;
}

moec_status_t value_save(cli_t *cli, const char *path,
                         const onnx_value_t *value) {
  if (path_has_suffix(path, ".npy")) {
    text_t text;
    text_init(&text, cli->arena);
    MOEC_TRY(npy_encode(value, &cli->diag, &text));
    return output_write_file(path, text.data, text.length, false, &cli->diag);
  }
  const uint8_t *bytes;
  size_t length;
  MOEC_TRY(onnx_pack_value(cli->arena, value, &cli->diag, &bytes, &length));
  return output_write_file(path, bytes, length, false, &cli->diag);
}

const char *value_find_file(arena_t *arena, const char *directory,
                            const char *stem, uint32_t index) {
  static const char *const suffixes[] = {"pb", "npy"};
  for (unsigned i = 0; i < 2; i++) {
    const char *path =
        path_join(arena, directory,
                  arena_printf(arena, "%s_%u.%s", stem, index, suffixes[i]));
    if (path_exists(path)) return path;
  }
  return NULL;
}

/* ---- Conversion ---------------------------------------------------------- */

uint64_t value_count(const onnx_value_t *value) {
  uint64_t count = 1;
  for (unsigned i = 0; i < value->rank; i++) count *= (uint64_t)value->dims[i];
  return count;
}

/* The run API does not write through inputs; its types do not say so. */
static void *unconst(const void *pointer) { return (void *)(uintptr_t)pointer; }

static void strings_to_run(arena_t *arena, const onnx_value_t *value,
                           moec_value_t *out) {
  const uint64_t count = value_count(value);
  text_t bytes;
  text_init(&bytes, arena);
  out->offsets = ARENA_ARRAY(arena, uint64_t, (size_t)count + 1);
  for (uint64_t i = 0; i < count; i++) {
    const char *string = value->data->strings[i];
    text_append(&bytes, string, strlen(string));
    out->offsets[i + 1] = bytes.length;
  }
  out->data = bytes.data;
  out->size = bytes.length;
}

void value_to_run(arena_t *arena, const onnx_value_t *value,
                  moec_value_t *out) {
  static char no_elements[16];
  *out = (moec_value_t){.struct_size = sizeof *out};
  if (value->kind != IR_TENSOR) {
    out->kind = value->kind == IR_SEQUENCE ? MOEC_SEQUENCE : MOEC_OPTIONAL;
    out->n_items = value->n_elems;
    out->items = ARENA_ARRAY(arena, moec_value_t, value->n_elems);
    for (size_t i = 0; i < value->n_elems; i++)
      value_to_run(arena, value->elems[i], &out->items[i]);
    if (value->n_elems > 0) out->dtype = out->items[0].dtype;
    return;
  }
  out->kind = MOEC_TENSOR;
  out->dtype = (int32_t)value->dtype;
  out->rank = (int32_t)value->rank;
  out->dims = unconst(value->dims);
  if (value->dtype == DT_STR) {
    strings_to_run(arena, value, out);
    return;
  }
  out->size = value->data->size;
  out->data = out->size > 0 ? unconst(value->data->bytes) : no_elements;
}

static void strings_from_run(arena_t *arena, const moec_value_t *value,
                             uint64_t count, ir_data_t *out) {
  const char **strings = ARENA_ARRAY(arena, const char *, (size_t)count);
  for (uint64_t i = 0; i < count; i++)
    strings[i] =
        arena_strndup(arena, (const char *)value->data + value->offsets[i],
                      (size_t)(value->offsets[i + 1] - value->offsets[i]));
  out->strings = strings;
}

onnx_value_t *value_from_run(arena_t *arena, const moec_value_t *value,
                             const char *name) {
  onnx_value_t *out = ARENA_NEW(arena, onnx_value_t);
  out->kind = kind_of(value->kind);
  out->name = name;
  if (out->kind != IR_TENSOR) {
    onnx_value_t **elems =
        ARENA_ARRAY(arena, onnx_value_t *, (size_t)value->n_items);
    out->n_elems = (size_t)value->n_items;
    for (size_t i = 0; i < out->n_elems; i++)
      elems[i] = value_from_run(arena, &value->items[i], NULL);
    out->elems = elems;
    return out;
  }
  out->dtype = dtype_of(value->dtype);
  out->rank = (unsigned)value->rank;
  out->dims = value->dims;
  const uint64_t count = value_count(out);
  out->data = ARENA_NEW(arena, ir_data_t);
  out->data->size = dtype_bytes(out->dtype, count);
  out->data->bytes = value->data;
  if (out->dtype == DT_STR) {
    out->data->bytes = NULL;
    strings_from_run(arena, value, count, out->data);
  }
  return out;
}

/* ---- Inputs and outputs of a model --------------------------------------- */

/* The input that "NAME=FILE" names, by name or else by number. */
static moec_status_t find_named(cli_t *cli, const moec_model_t *model,
                                const char *named, uint32_t *out_index,
                                const char **out_path) {
  const char *equals = strrchr(named, '=');
  /* Names of values may hold '='; files in a path with one are the rarer. */
  if (equals == NULL || equals == named || equals[1] == '\0')
    return CLI_FAIL(cli, MOEC_E_USAGE, "--input needs NAME=FILE, found '%s'",
                    named);
  const char *name = arena_strndup(cli->arena, named, (size_t)(equals - named));
  *out_path = equals + 1;
  for (uint32_t i = 0; i < model->n_inputs; i++) {
    *out_index = i;
    if (strcmp(model->inputs[i].name, name) == 0) return MOEC_OK;
  }
  char *end;
  errno = 0;
  const unsigned long number = strtoul(name, &end, 10);
  if (name[0] >= '0' && name[0] <= '9' && *end == '\0' && errno == 0 &&
      number < model->n_inputs) {
    *out_index = (uint32_t)number;
    return MOEC_OK;
  }
  moec_status_t status =
      CLI_FAIL(cli, MOEC_E_USAGE, "the model has no input '%s'", name);
  for (uint32_t i = 0; i < model->n_inputs; i++)
    diag_note(&cli->diag, (ir_loc_t){0}, "input %u is '%s', %s", i,
              model->inputs[i].name,
              io_type_text(cli->arena, &model->inputs[i]));
  return status;
}

static moec_status_t load_one(cli_t *cli, const moec_io_t *io, const char *path,
                              moec_value_t *out) {
  onnx_value_t *value;
  MOEC_TRY(value_load(cli, path, io, &value));
  value_to_run(cli->arena, value, out);
  return MOEC_OK;
}

static void make_absent(const moec_io_t *io, moec_value_t *out) {
  *out = (moec_value_t){
      .struct_size = sizeof *out, .kind = io->kind, .dtype = io->dtype};
}

/* An input from the archive `data`, where it may have one of three names. */
static moec_status_t load_array(cli_t *cli, const moec_io_t *io, uint32_t index,
                                const npz_t *npz, moec_value_t *out) {
  const char *const names[] = {io->name,
                               arena_printf(cli->arena, "input_%u", index),
                               arena_printf(cli->arena, "arr_%u", index)};
  const npz_array_t *array = NULL;
  for (unsigned i = 0; i < 3 && array == NULL; i++)
    array = npz_find(npz, names[i]);
  if (array == NULL && io->optional) {
    make_absent(io, out);
    return MOEC_OK;
  }
  if (array == NULL) {
    moec_status_t status = CLI_FAIL(
        cli, MOEC_E_IO, "there is no array '%s', '%s' or '%s' for input %s",
        names[0], names[1], names[2], io_type_text(cli->arena, io));
    note_arrays(cli, npz);
    return status;
  }
  onnx_value_t *value;
  MOEC_TRY(npz_read(cli->arena, npz, array, dtype_of(io->dtype), &cli->diag,
                    &value));
  value_to_run(cli->arena, value, out);
  return MOEC_OK;
}

static moec_status_t load_arrays(cli_t *cli, const moec_model_t *model,
                                 const char *path, moec_value_t *inputs) {
  npz_t npz;
  const char *file = cli->diag.file;
  cli->diag.file = path;
  MOEC_TRY(open_npz(cli, path, &npz));
  for (uint32_t i = 0; i < model->n_inputs; i++)
    if (inputs[i].struct_size == 0)
      MOEC_TRY(load_array(cli, &model->inputs[i], i, &npz, &inputs[i]));
  cli->diag.file = file;
  return MOEC_OK;
}

static moec_status_t load_missing(cli_t *cli, const moec_io_t *io,
                                  uint32_t index, const char *directory,
                                  moec_value_t *out) {
  const char *path = directory == NULL ? NULL
                                       : value_find_file(cli->arena, directory,
                                                         "input", index);
  if (path != NULL) return load_one(cli, io, path, out);
  if (io->optional) {
    make_absent(io, out);
    return MOEC_OK;
  }
  if (directory == NULL)
    return CLI_FAIL(
        cli, MOEC_E_USAGE,
        "nothing is given for input %u '%s', %s; add --input %s=FILE "
        "or --data DIR",
        index, io->name, io_type_text(cli->arena, io), io->name);
  return CLI_FAIL(
      cli, MOEC_E_IO,
      "'%s' has no file input_%u.pb or input_%u.npy for input '%s', "
      "%s",
      directory, index, index, io->name, io_type_text(cli->arena, io));
}

moec_status_t values_load_inputs(cli_t *cli, const moec_model_t *model,
                                 const char *data, const option_list_t *named,
                                 moec_value_t **out_inputs) {
  moec_value_t *inputs = ARENA_ARRAY(cli->arena, moec_value_t, model->n_inputs);
  *out_inputs = inputs;
  const bool archive = data != NULL && path_has_suffix(data, ".npz");
  if (data != NULL && !archive && !path_is_directory(data))
    return CLI_FAIL(cli, MOEC_E_IO, "'%s' is not a directory", data);
  for (unsigned i = 0; i < named->n; i++) {
    uint32_t index = 0;
    const char *path = NULL;
    MOEC_TRY(find_named(cli, model, named->items[i], &index, &path));
    if (inputs[index].struct_size != 0)
      return CLI_FAIL(cli, MOEC_E_USAGE, "input '%s' is given twice",
                      model->inputs[index].name);
    MOEC_TRY(load_one(cli, &model->inputs[index], path, &inputs[index]));
  }
  if (archive) return load_arrays(cli, model, data, inputs);
  for (uint32_t i = 0; i < model->n_inputs; i++)
    if (inputs[i].struct_size == 0)
      MOEC_TRY(load_missing(cli, &model->inputs[i], i, data, &inputs[i]));
  return MOEC_OK;
}

moec_value_t *values_make_outputs(arena_t *arena, const moec_model_t *model) {
  moec_value_t *outputs = ARENA_ARRAY(arena, moec_value_t, model->n_outputs);
  for (uint32_t i = 0; i < model->n_outputs; i++)
    outputs[i] = (moec_value_t){.struct_size = sizeof *outputs};
  return outputs;
}
