/* Compiles, loads, runs and compares one case. */
#include "tests/conformance/attempt.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/compile.h"

enum { MAX_VALUES = 256 };

const char *result_word(result_t result) {
  static const char *const words[] = {
#define RESULT(id, word, doc) word,
      RESULTS(RESULT)
#undef RESULT
  };
  return words[result];
}

typedef struct session {
  const suite_case_t *c;
  const attempt_options_t *options;
  outcome_t *out;
  arena_t *arena;
  diag_sink_t diag;
  onnx_store_t *store; /* of the data files */
  void *library;
  const moec_model_t *model;
  const char *variant; /* being run */
} session_t;

static void stage(session_t *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void stage(session_t *s, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(s->out->stage, sizeof s->out->stage, format, args);
  va_end(args);
}

/* Decides the result; returns false so that a check is one line. */
static bool decide(session_t *s, result_t result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool decide(session_t *s, result_t result, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(s->out->words, sizeof s->out->words, format, args);
  va_end(args);
  s->out->result = result;
  return false;
}

static bool decide_status(session_t *s, moec_status_t status,
                          const char *words) {
  result_t result = RESULT_ERROR;
  if (status == MOEC_E_NO_MEMORY || status == MOEC_E_LIMIT)
    result = RESULT_MEMORY;
  return decide(s, result, "%s: %s", s->out->stage, words);
}

/* ---- Compiling ----------------------------------------------------------- */

static bool said_before(const diag_sink_t *diag, const diag_t *d) {
  for (const diag_t *e = diag->first; e != d; e = e->next)
    if (e->severity == DIAG_ERROR && strcmp(e->text, d->text) == 0 &&
        strcmp(onnx_str(e->loc.type), onnx_str(d->loc.type)) == 0)
      return true;
  return false;
}

/* "Operator: what is wrong; Operator: ...", each once. */
static const char *words_of(session_t *s) {
  text_t text;
  text_init(&text, s->arena);
  for (const diag_t *d = s->diag.first; d != NULL; d = d->next) {
    if (d->severity != DIAG_ERROR || said_before(&s->diag, d)) continue;
    if (text.length > 0) text_printf(&text, "; ");
    if (d->loc.type != NULL) {
      diag_escape(&text, d->loc.type, strlen(d->loc.type));
      text_printf(&text, ": ");
    }
    diag_escape(&text, d->text, strlen(d->text));
  }
  return text.data;
}

static bool compile(session_t *s, const char *library) {
  compile_options_t options;
  compile_options_init(&options);
  options.model = arena_printf(s->arena, "%s/model.onnx", s->c->directory);
  options.output = library;
  options.isas = s->options->isas;
  options.passes.level = s->options->level;
  options.passes.verify_each = true;
  stage(s, "compile");
  moec_status_t status = compile_model(&options, &s->diag);
  if (status == MOEC_OK) return true;
  const char *words = words_of(s);
  if (access(library, F_OK) == 0)
    return decide(s, RESULT_ERROR, "failed, but left a file behind: %s", words);
  if (status == MOEC_E_UNSUPPORTED && words[0] != '\0')
    return decide(s, RESULT_REFUSED, "%s", words);
  return decide_status(s, status, words);
}

static bool load(session_t *s, const char *path) {
  stage(s, "load");
  s->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  unlink(path);
  if (s->library == NULL) return decide(s, RESULT_ERROR, "%s", dlerror());
  moec_model_fn get_model = NULL;
  void *symbol = dlsym(s->library, "moec_model");
  if (symbol == NULL) return decide(s, RESULT_ERROR, "no function moec_model");
  memcpy(&get_model, &symbol, sizeof get_model);
  s->model = get_model();
  if (s->model->abi_version != MOEC_ABI_VERSION)
    return decide(s, RESULT_ERROR, "ABI version %u", s->model->abi_version);
  if (s->model->n_inputs > MAX_VALUES || s->model->n_outputs > MAX_VALUES)
    return decide(s, RESULT_ERROR, "too many inputs or outputs");
  return true;
}

/* ---- Data ---------------------------------------------------------------- */

/* `bytes` bytes that end `gap` bytes before a page that cannot be touched.
 * Never released: the process runs one case. */
static void *guarded(session_t *s, uint64_t bytes, unsigned gap) {
  const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  const uint64_t room = (bytes + gap + page - 1) / page * page;
  char *memory = mmap(NULL, room + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory + room, page, PROT_NONE) != 0) {
    decide(s, RESULT_MEMORY, "%s: cannot map %llu bytes", s->out->stage,
           (unsigned long long)bytes);
    moec_leave(MOEC_E_NO_MEMORY, "guarded pages");
  }
  return memory + room - bytes - gap;
}

static void fill_strings(session_t *s, const onnx_value_t *from, uint64_t count,
                         moec_value_t *to) {
  to->offsets = ARENA_ARRAY(s->arena, uint64_t, count + 1);
  uint64_t size = 0;
  for (uint64_t i = 0; i < count; i++) {
    to->offsets[i] = size;
    size += strlen(from->data->strings[i]);
  }
  to->offsets[count] = size;
  char *bytes = guarded(s, size, 0);
  for (uint64_t i = 0; i < count; i++)
    memcpy(bytes + to->offsets[i], from->data->strings[i],
           to->offsets[i + 1] - to->offsets[i]);
  to->data = bytes;
}

static void fill_value(session_t *s, const onnx_value_t *from, unsigned gap,
                       moec_value_t *to) {
  static const uint32_t kinds[] = {[IR_TENSOR] = MOEC_TENSOR,
                                   [IR_SEQUENCE] = MOEC_SEQUENCE,
                                   [IR_OPTIONAL] = MOEC_OPTIONAL};
  *to = (moec_value_t){.struct_size = sizeof *to, .kind = kinds[from->kind]};
  if (from->kind != IR_TENSOR) {
    to->n_items = from->n_elems;
    to->items = ARENA_ARRAY(s->arena, moec_value_t, from->n_elems);
    for (size_t i = 0; i < from->n_elems; i++)
      fill_value(s, from->elems[i], gap, &to->items[i]);
    return;
  }
  uint64_t count = 1;
  to->dtype = (int32_t)from->dtype;
  to->rank = (int32_t)from->rank;
  to->dims = ARENA_ARRAY(s->arena, int64_t, from->rank);
  for (unsigned i = 0; i < from->rank; i++) {
    to->dims[i] = from->dims[i];
    count *= (uint64_t)from->dims[i];
  }
  if (from->dtype == DT_STR) {
    fill_strings(s, from, count, to);
    return;
  }
  const uint64_t bytes = dtype_bytes(from->dtype, count);
  to->data = guarded(s, bytes, gap);
  if (bytes > 0) memcpy(to->data, from->data->bytes, bytes);
}

/* Memory of an instance; see moec_options_t. */
static void *allocate_guarded(void *user, uint64_t bytes) {
  const uint64_t alignment = 64;
  return guarded(user, (bytes + alignment - 1) / alignment * alignment, 0);
}

/* Kept: what points into it after its release must not find other things. */
static void release_guarded(void *user, void *memory) {
  (void)user;
  (void)memory;
}

typedef struct values {
  unsigned n;
  onnx_value_t *v[MAX_VALUES];
} values_t;

static ir_kind_t kind_of(const moec_io_t *io) {
  return io->kind == MOEC_TENSOR     ? IR_TENSOR
         : io->kind == MOEC_SEQUENCE ? IR_SEQUENCE
                                     : IR_OPTIONAL;
}

/* Reads "<prefix>_0.pb", "<prefix>_1.pb", ... Files beyond `ios` are tensors.
 */
static bool read_values(session_t *s, const char *directory, const char *prefix,
                        unsigned n_ios, const moec_io_t *ios,
                        values_t *out_values) {
  out_values->n = 0;
  for (unsigned i = 0; i < MAX_VALUES; i++) {
    const char *path =
        arena_printf(s->arena, "%s/%s_%u.pb", directory, prefix, i);
    if (access(path, R_OK) != 0) return true;
    moec_status_t status = onnx_load_value(
        s->store, s->arena, path, i < n_ios ? kind_of(&ios[i]) : IR_TENSOR,
        &s->diag, &out_values->v[i]);
    if (status != MOEC_OK) return decide_status(s, status, words_of(s));
    out_values->n++;
  }
  return decide(s, RESULT_ERROR, "too many data files in %s", directory);
}

/* Orders files like the model's inputs. Data folders may hold values of graph
 * inputs that are initialisers too: then names tell. */
static bool order_inputs(session_t *s, values_t *values) {
  const unsigned n = s->model->n_inputs;
  if (values->n == n) return true;
  values_t ordered = {.n = n};
  for (unsigned i = 0; i < n; i++) {
    for (unsigned j = 0; j < values->n && ordered.v[i] == NULL; j++)
      if (strcmp(onnx_str(values->v[j]->name), s->model->inputs[i].name) == 0)
        ordered.v[i] = values->v[j];
    if (ordered.v[i] == NULL)
      return decide(s, RESULT_ERROR, "%u data files for %u inputs, none for %s",
                    values->n, n, s->model->inputs[i].name);
  }
  *values = ordered;
  return true;
}

/* ---- Running ------------------------------------------------------------- */

static bool run_failed(session_t *s, moec_instance_t *instance,
                       moec_status_t status) {
  char words[512];
  const char *message = s->model->message(instance);
  snprintf(words, sizeof words, "status %d: %s", (int)status,
           message != NULL ? message : "");
  return decide_status(s, status, words);
}

static bool compare_outputs(session_t *s, const moec_value_t *got,
                            const values_t *want) {
  comparison_t comparison;
  comparison_init(&comparison, s->c->rtol, s->c->atol, s->c->types_only);
  for (unsigned i = 0; i < want->n; i++) {
    const bool same = compare_value(&comparison, &got[i], want->v[i]);
    for (unsigned t = 0; t < COMPARE_DTYPES; t++)
      if (comparison.ulp[t] > s->out->ulp[t])
        s->out->ulp[t] = comparison.ulp[t];
    if (!same)
      return decide(s, RESULT_WRONG, "%s: output %u: %s", s->out->stage, i,
                    comparison.words);
  }
  return true;
}

/* Memory of the caller for an output that came out as `like`. */
static bool prepare_output(session_t *s, const moec_value_t *like,
                           moec_value_t *out) {
  *out = (moec_value_t){.struct_size = sizeof *out};
  if (like->kind != MOEC_TENSOR || like->dtype == MOEC_STRING) return false;
  out->dims = ARENA_ARRAY(s->arena, int64_t, MOEC_MAX_RANK);
  out->data = guarded(s, like->size, 0);
  out->capacity = like->size;
  if (like->size > 0) memset(out->data, 0xa5, like->size);
  return true;
}

static bool same_bytes(session_t *s, const moec_value_t *a,
                       const moec_value_t *b, unsigned index) {
  bool same = a->dtype == b->dtype && a->rank == b->rank && a->size == b->size;
  for (int i = 0; same && i < a->rank; i++) same = a->dims[i] == b->dims[i];
  if (!same)
    return decide(s, RESULT_WRONG, "%s: output %u: other type, shape or size",
                  s->out->stage, index);
  if (a->size == 0 || memcmp(a->data, b->data, a->size) == 0) return true;
  uint64_t at = 0;
  while (((char *)a->data)[at] == ((char *)b->data)[at]) at++;
  return decide(s, RESULT_WRONG,
                "%s: output %u: byte %llu is not that of the first run",
                s->out->stage, index, (unsigned long long)at);
}

/* The second run; see attempt.h. */
static bool run_again(session_t *s, const values_t *inputs,
                      const moec_value_t *first) {
  const moec_model_t *m = s->model;
  const moec_options_t options = {
      .struct_size = sizeof options, .n_threads = 1, .variant = s->variant};
  moec_value_t in[MAX_VALUES], out[MAX_VALUES];
  bool own[MAX_VALUES];
  for (unsigned i = 0; i < inputs->n; i++)
    fill_value(s, inputs->v[i], 1, &in[i]);
  for (unsigned i = 0; i < m->n_outputs; i++)
    own[i] = prepare_output(s, &first[i], &out[i]);
  moec_instance_t *instance = NULL;
  moec_status_t status = m->create(&options, &instance);
  if (status != MOEC_OK) return decide_status(s, status, "second instance");
  status = m->run(instance, in, m->n_inputs, out, m->n_outputs);
  bool good = status == MOEC_OK || run_failed(s, instance, status);
  for (unsigned i = 0; good && i < m->n_outputs; i++)
    if (own[i] && !s->c->types_only)
      good = same_bytes(s, &out[i], &first[i], i);
  m->destroy(instance);
  return good;
}

static bool run_set(session_t *s, moec_instance_t *instance,
                    const char *directory) {
  const moec_model_t *m = s->model;
  values_t inputs = {0}, want = {0};
  if (!read_values(s, directory, "input", m->n_inputs, m->inputs, &inputs) ||
      !read_values(s, directory, "output", m->n_outputs, m->outputs, &want) ||
      !order_inputs(s, &inputs))
    return false;
  if (want.n != m->n_outputs)
    return decide(s, RESULT_ERROR, "%u data files for %u outputs", want.n,
                  m->n_outputs);
  moec_value_t in[MAX_VALUES], out[MAX_VALUES];
  for (unsigned i = 0; i < m->n_inputs; i++)
    fill_value(s, inputs.v[i], 0, &in[i]);
  for (unsigned i = 0; i < m->n_outputs; i++)
    out[i] = (moec_value_t){.struct_size = sizeof out[i]};
  moec_status_t status = m->run(instance, in, m->n_inputs, out, m->n_outputs);
  if (status != MOEC_OK) return run_failed(s, instance, status);
  s->out->n_runs++;
  if (!compare_outputs(s, out, &want)) return false;
  stage(s, "%.16s again, %.30s", strrchr(directory, '/') + 1, s->variant);
  return run_again(s, &inputs, out);
}

static bool run_variant(session_t *s, const char *variant) {
  const moec_options_t options = {.struct_size = sizeof options,
                                  .n_threads = s->options->n_threads,
                                  .variant = variant,
                                  .allocate = allocate_guarded,
                                  .release = release_guarded,
                                  .memory_user = s};
  moec_instance_t *instance = NULL;
  stage(s, "create %s", variant);
  s->variant = variant;
  moec_status_t status = s->model->create(&options, &instance);
  if (status == MOEC_E_CPU && s->options->variant == NULL) return true;
  if (status != MOEC_OK) return decide_status(s, status, "first instance");
  bool good = true;
  for (unsigned i = 0; good; i++) {
    const char *directory =
        arena_printf(s->arena, "%s/test_data_set_%u", s->c->directory, i);
    if (access(directory, R_OK) != 0) break;
    stage(s, "test_data_set_%u, %.30s", i, variant);
    good = run_set(s, instance, directory);
  }
  s->model->destroy(instance);
  return good;
}

static void run_all(session_t *s) {
  if (s->options->variant != NULL) {
    if (!run_variant(s, s->options->variant)) return;
  } else {
    for (uint32_t i = 0; i < s->model->n_variants; i++)
      if (!run_variant(s, s->model->variants[i])) return;
  }
  if (s->out->n_runs == 0)
    decide(s, RESULT_ERROR, "nothing could be run");
  else
    s->out->result = RESULT_PASS;
}

void attempt(const suite_case_t *c, const attempt_options_t *options,
             const char *library, outcome_t *outcome) {
  session_t *s = calloc(1, sizeof *s);
  if (s == NULL) return;
  s->c = c, s->options = options, s->out = outcome;
  for (unsigned i = 0; i < COMPARE_DTYPES; i++) outcome->ulp[i] = -1;
  s->arena = arena_create(0);
  s->store = onnx_store_create(NULL);
  recovery_t point;
  recovery_enter(&point);
  if (s->arena == NULL || s->store == NULL) {
    decide(s, RESULT_MEMORY, "no memory to begin with");
  } else if (setjmp(point.jump) == 0) {
    diag_init(&s->diag, s->arena, NULL);
    if (compile(s, library) && load(s, library)) run_all(s);
  } else if (outcome->result == RESULT_RUNNING) {
    decide_status(s, point.status, point.message);
  }
  recovery_leave(&point);
  onnx_store_destroy(s->store);
  arena_destroy(s->arena);
  if (s->library != NULL) dlclose(s->library);
  free(s);
}
