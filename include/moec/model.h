/* Running a compiled model. This header alone is enough for an application:
 * link the `.so` or dlopen() it, get its table from moec_model(), create an
 * instance, run it. Everything in the table is constant; all state is in
 * instances.
 *
 *     const moec_model_t *m = moec_model();
 *     moec_instance_t *it;
 *     if (m->create(NULL, &it) != MOEC_OK) ...
 *     if (m->run(it, inputs, m->n_inputs, outputs, m->n_outputs) != MOEC_OK)
 *       fprintf(stderr, "%s\n", m->message(it));
 *     m->destroy(it);
 *
 * Structures begin with their size and only grow at their end: set struct_size
 * to sizeof of what you compiled against. */
#ifndef MOEC_MODEL_H
#define MOEC_MODEL_H

#include <stdint.h>

#include "moec/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MOEC_ABI_VERSION 1u

/* Element types: the numbers of ONNX TensorProto.DataType. */
typedef enum moec_dtype {
  MOEC_F32 = 1,
  MOEC_U8 = 2,
  MOEC_I8 = 3,
  MOEC_U16 = 4,
  MOEC_I16 = 5,
  MOEC_I32 = 6,
  MOEC_I64 = 7,
  MOEC_STRING = 8,
  MOEC_BOOL = 9,
  MOEC_F16 = 10,
  MOEC_F64 = 11,
  MOEC_U32 = 12,
  MOEC_U64 = 13,
  MOEC_C64 = 14,
  MOEC_C128 = 15,
  MOEC_BF16 = 16,
  MOEC_F8E4M3FN = 17,
  MOEC_F8E4M3FNUZ = 18,
  MOEC_F8E5M2 = 19,
  MOEC_F8E5M2FNUZ = 20,
  MOEC_U4 = 21,
  MOEC_I4 = 22,
  MOEC_F4E2M1 = 23,
  MOEC_F8E8M0 = 24,
  MOEC_U2 = 25,
  MOEC_I2 = 26
} moec_dtype_t;

typedef enum moec_kind {
  MOEC_TENSOR = 0,
  MOEC_SEQUENCE = 1, /* items[n_items] */
  MOEC_OPTIONAL = 2  /* items[n_items], n_items 0 or 1 */
} moec_kind_t;

/* A value at the boundary of a run.
 *
 * Inputs: the caller owns everything; data is not written. Outputs: with
 * data != NULL the caller's buffer of `capacity` bytes is filled, and
 * MOEC_E_CAPACITY reports the bytes needed in `size`; with data == NULL the
 * instance's own memory is handed out, valid until its next run or destroy.
 * dims is filled in by the run: point it to room for MOEC_MAX_RANK numbers, or
 * leave it NULL to be given the instance's own.
 *
 * The leading fields of a tensor map one to one to a DLTensor on the CPU. */
typedef struct moec_value {
  uint32_t struct_size; /* sizeof(moec_value_t) */
  uint32_t kind;        /* moec_kind_t */
  int32_t dtype;        /* moec_dtype_t, of the elements */
  int32_t rank;
  void *data;             /* elements; any alignment for inputs. Strings: their
                             bytes, one after another */
  int64_t *dims;          /* int64[rank], outermost first */
  const int64_t *strides; /* int64[rank] in elements; NULL: C order. Inputs
                             only; outputs are C order */
  uint64_t capacity;      /* outputs: bytes at data */
  uint64_t size;          /* set by the run: bytes used (or needed) at data */
  uint64_t *offsets;      /* strings: uint64[count + 1] into data; else NULL */
  struct moec_value *items; /* sequences and optionals */
  uint64_t n_items;
  int32_t alias_input; /* outputs: index + 1 of the input whose memory this
                          output shares (updated in place), 0: none */
  int32_t reserved;
} moec_value_t;

#define MOEC_MAX_RANK 32

/* What the model takes or gives. dtype and rank are those of the tensors in a
 * sequence or optional, whose dims may differ from each other. A dimension is
 * fixed, or named by a symbol that has one value in a run, or (outputs only)
 * computed or unknown before a run. */
typedef struct moec_io {
  uint32_t struct_size;
  uint32_t kind; /* moec_kind_t */
  int32_t dtype; /* of the elements */
  int32_t rank;
  const char *name;
  const int64_t *dims; /* int64[rank]; -1 where not fixed */
  const char *const
      *dim_names; /* char*[rank]; "" fixed; a symbol or expression */
  const int32_t *dim_symbols; /* inputs: int32[rank], symbol index or -1 */
  uint32_t optional;          /* inputs: has a default, may have data == NULL */
  uint32_t element_kind;      /* of an optional: MOEC_TENSOR or MOEC_SEQUENCE */
} moec_io_t;

/* begin <= u < end of a parallel region's units */
typedef void (*moec_task_fn)(void *context, int64_t begin, int64_t end);
/* Must call task(context, b, e) for ranges that cover [0, n) exactly once, on
 * any threads, and return when all are done. Called from run() only. */
typedef void (*moec_parallel_for_fn)(void *user, int64_t n, moec_task_fn task,
                                     void *context);

typedef struct moec_options {
  uint32_t struct_size;
  int32_t n_threads;   /* 0: as many as processors available; 1: none started */
  const char *variant; /* NULL: the best that the machine has; else its name,
                          and MOEC_E_CPU if the machine lacks it */
  uint32_t
      fixed_memory; /* 1: no allocation in run(); growth is MOEC_E_CAPACITY;
                       query() reserves what a run on its shapes needs */
  uint32_t reserved;
  moec_parallel_for_fn parallel_for; /* NULL: the instance's own threads */
  void *parallel_user;
  void *(*allocate)(void *user,
                    uint64_t bytes); /* 64-byte aligned; NULL: malloc */
  void (*release)(void *user, void *memory);
  void *memory_user;
  void *pool; /* moec_model_t.pool_create's; NULL: own threads */
} moec_options_t;

typedef enum moec_memory_kind {
  MOEC_MEMORY_EXACT = 0,
  MOEC_MEMORY_BOUND = 1,    /* never more, perhaps less */
  MOEC_MEMORY_UNBOUNDED = 2 /* depends on data; `bytes` without those */
} moec_memory_kind_t;

typedef struct moec_memory {
  uint32_t struct_size;
  uint32_t kind;  /* moec_memory_kind_t */
  uint64_t bytes; /* workspace of a run */
} moec_memory_t;

typedef struct moec_instance moec_instance_t;

/* ---- Recording ----------------------------------------------------------- */

/* Models compiled with --instrument can record what a run does. A step is a
 * place of the schedule: one kernel launched, or one routine called. */
typedef struct moec_step {
  const char *node;   /* name of the ONNX node, "" if it has none */
  const char *op;     /* its operator */
  int64_t node_index; /* in its graph; -1: of no node */
  const char *work;   /* the kernel or routine */
} moec_step_t;

typedef enum moec_event_kind {
  MOEC_EVENT_RUN = 0,     /* all steps of a run that succeeded */
  MOEC_EVENT_LAUNCH = 1,  /* a kernel, until all threads were done */
  MOEC_EVENT_CHUNK = 2,   /* units [first, first + count) of a launch */
  MOEC_EVENT_ROUTINE = 3, /* a routine */
} moec_event_kind_t;

typedef struct moec_event {
  int64_t begin, end; /* nanoseconds of CLOCK_MONOTONIC */
  uint32_t kind;      /* moec_event_kind_t */
  uint32_t step;      /* index into moec_tracing_t.steps; of a run 0 */
  int64_t thread;     /* the system's number of the thread */
  int64_t first, count;
} moec_event_t;

typedef struct moec_tracing {
  uint32_t struct_size;
  uint32_t n_steps;
  const moec_step_t *steps;

  /* Lets the instance record up to `capacity` events from now on, forgetting
   * those it has; 0: no more. Allocates here and not in a run. E_NO_MEMORY. */
  moec_status_t (*start)(moec_instance_t *instance, uint64_t capacity);
  /* The events so far, in the order in which they ended, valid until the next
   * call on the instance; returns their number. *out_lost, if not NULL, is how
   * many found no place. */
  uint64_t (*events)(const moec_instance_t *instance,
                     const moec_event_t **out_events, uint64_t *out_lost);
} moec_tracing_t;

/* ---- The model ----------------------------------------------------------- */

/* The table of a compiled model. Thread-safe: everything but the calls on one
 * instance, which must not overlap. */
typedef struct moec_model {
  uint32_t struct_size;
  uint32_t abi_version; /* MOEC_ABI_VERSION of the compiler that wrote it */
  const char *name;
  const char *compiler; /* "moec 0.1.0" */
  uint32_t n_inputs, n_outputs;
  const moec_io_t *inputs, *outputs;
  uint32_t n_variants;
  uint32_t reserved;
  const char *const *variants; /* names, best last */

  /* Creates an instance; options may be NULL. E_NO_MEMORY, E_CPU, E_USAGE. */
  moec_status_t (*create)(const moec_options_t *options,
                          moec_instance_t **out_instance);
  void (*destroy)(moec_instance_t *instance); /* accepts NULL */

  /* Memory of a run on inputs of these shapes (data may be NULL), and the
   * outputs' dims as far as known before the run (-1 elsewhere). outputs and
   * out_memory may be NULL. */
  moec_status_t (*query)(moec_instance_t *instance, const moec_value_t *inputs,
                         uint32_t n_inputs, moec_value_t *outputs,
                         uint32_t n_outputs, moec_memory_t *out_memory);

  /* Runs the model. Inputs are checked: E_USAGE (count), E_DTYPE, E_RANK,
   * E_SHAPE; data-dependent failures: E_INDEX, E_SHAPE, E_VALUE; E_CAPACITY,
   * E_NO_MEMORY. After a failure outputs are undefined and the instance stays
   * usable. */
  moec_status_t (*run)(moec_instance_t *instance, const moec_value_t *inputs,
                       uint32_t n_inputs, moec_value_t *outputs,
                       uint32_t n_outputs);

  /* Text about the last failure of a call on this instance, "" after success.
   * Owned by the instance. */
  const char *(*message)(const moec_instance_t *instance);
  /* Name of the variant that the instance uses. */
  const char *(*variant)(const moec_instance_t *instance);

  /* A pool of threads to be shared by instances of any moec model of the same
   * ABI version, through moec_options_t.pool. NULL when out of memory. */
  void *(*pool_create)(int32_t n_threads);
  void (*pool_destroy)(void *pool);

  /* From here on only where struct_size reaches: models that were compiled
   * earlier end before. */

  /* NULL unless compiled with --instrument. */
  const moec_tracing_t *tracing;
} moec_model_t;

/* The one symbol that a compiled model exports (another with --entry=NAME). */
const moec_model_t *moec_model(void);
typedef const moec_model_t *(*moec_model_fn)(void);

#ifdef __cplusplus
}
#endif
#endif
