/* The contract between generated code and the runtime inside one `.so`. Not for
 * applications, and not stable: both sides are always of one moec version. */
#ifndef MOEC_RTABI_H
#define MOEC_RTABI_H

#include "moec/model.h"

/* One argument of a kernel or routine: a pointer, an i64, or a pointer to i32.
 */
typedef union moert_arg {
  void *pointer;
  int64_t i;
} moert_arg_t;

/* A kernel: units [begin, end) of a launch. args[0].pointer is the int32 error
 * word of the run (0, or the moec_status_t of a failed assertion; written
 * without order, any one wins); then results, operands, sizes. */
typedef void (*moert_kernel_fn)(const moert_arg_t *args, int64_t begin,
                                int64_t end);

typedef struct moec_instance moert_instance_t;

/* State of one run; the schedule's only argument. Offsets of the fields are
 * known to backend/schedule.c (checked by a test). */
typedef struct moert_frame {
  int64_t *symbols;      /* [n_symbols], values of sizes; 0 at the start of a
                            run where no input binds them */
  void **inputs;         /* [n_inputs], contiguous C order, aligned to the
                            element; NULL: optional and absent. Never NULL
                            for a tensor of no elements */
  char *workspace;       /* 64-byte aligned */
  int64_t *slot_bytes;   /* [n_slots], 0 until plan() writes it */
  int64_t *slot_offsets; /* [n_slots], multiples of 64, made from slot_bytes */
  const moert_kernel_fn *kernels; /* of the instance's variant */
  const uint8_t *weights;
  moert_instance_t *instance;
  int32_t error;        /* see moert_kernel_fn */
  int32_t node;         /* for messages of routines: the node being run, may
                           be set by run() before a call; -1 at its start */
  int64_t *output_dims; /* [sum of output ranks], -1 until plan() writes it:
                           not known before the run */
} moert_frame_t;

typedef struct moert_variant {
  const char *name;
  uint64_t features; /* MOERT_CPU_* bits that the machine must have */
  const moert_kernel_fn *kernels;
} moert_variant_t;

/* Processor features that variants ask for, bits of moert_variant_t.features.
 */
enum {
#define FEATURE(id, bit, arch, name, doc) MOERT_CPU_##id = 1 << bit,
#include "moec/cpu.def"
};

/* An input or output that is made up of several of the program's: all elements
 * of a sequence, or a tensor; the dims of the elements, i64[n, rank]; whether
 * an optional has an element, bool[]. */
typedef struct moert_port {
  uint32_t first; /* of the program's inputs or outputs */
  uint32_t n;
} moert_port_t;

/* What the generated code hands to the runtime: the hidden constant
 * `moert_program`, defined by backend/schedule.c. */
typedef struct moert_program {
  const char *name;
  const char *compiler;
  const moec_io_t *inputs, *outputs;
  uint32_t n_inputs, n_outputs;
  uint32_t n_symbols, n_slots, n_growable, n_nodes;
  const char *const *symbol_names; /* [n_symbols] */
  const char *const
      *nodes; /* [n_nodes], "node #3 \"name\" (Op)", for messages */
  const moert_variant_t *variants;  /* worst first */
  const char *const *variant_names; /* the same, names only */
  uint32_t n_variants;
  uint32_t memory_kind; /* moec_memory_kind_t */
  const uint8_t *weights;
  /* Both return a moec_status_t. plan() reads symbols of the inputs and writes
   * slot_bytes and output_dims; run() does the work. */
  int32_t (*plan)(moert_frame_t *frame);
  int32_t (*run)(moert_frame_t *frame);
  /* The model's own inputs and outputs where some are no tensors; else 0, and
   * they are the program's. */
  const moec_io_t *in_ios, *out_ios;
  const moert_port_t *in_ports, *out_ports;
  uint32_t n_in_ports, n_out_ports;
} moert_program_t;

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

extern const moert_program_t moert_program;

/* ---- What the generated moec_model_t points to --------------------------- */

/* As the members of moec_model_t of the same names say. */
moec_status_t moert_create(const moec_options_t *options,
                           moec_instance_t **out_instance);
void moert_destroy(moec_instance_t *instance);
moec_status_t moert_query(moec_instance_t *instance, const moec_value_t *inputs,
                          uint32_t n_inputs, moec_value_t *outputs,
                          uint32_t n_outputs, moec_memory_t *out_memory);
moec_status_t moert_run(moec_instance_t *instance, const moec_value_t *inputs,
                        uint32_t n_inputs, moec_value_t *outputs,
                        uint32_t n_outputs);
/* The same for models with inputs or outputs that are no tensors. */
moec_status_t moert_query_ports(moec_instance_t *instance,
                                const moec_value_t *inputs, uint32_t n_inputs,
                                moec_value_t *outputs, uint32_t n_outputs,
                                moec_memory_t *out_memory);
moec_status_t moert_run_ports(moec_instance_t *instance,
                              const moec_value_t *inputs, uint32_t n_inputs,
                              moec_value_t *outputs, uint32_t n_outputs);
const char *moert_message(const moec_instance_t *instance);
const char *moert_variant(const moec_instance_t *instance);
void *moert_pool_create(int32_t n_threads);
void moert_pool_destroy(void *pool);

/* As the members of moec_tracing_t say. */
moec_status_t moert_trace_start(moec_instance_t *instance, uint64_t capacity);
uint64_t moert_trace_events(const moec_instance_t *instance,
                            const moec_event_t **out_events,
                            uint64_t *out_lost);

/* ---- What the runtime offers to generated code --------------------------- */

/* Runs frame->kernels[kernel] over [0, units), split among the instance's
 * threads into ranges of at least `grain` units. */
void moert_parallel(moert_frame_t *frame, uint32_t kernel,
                    const moert_arg_t *args, int64_t units, int64_t grain);

/* Memory for output `index` of these dims and size in bytes: the caller's
 * buffer or the instance's, aligned to the element. Every output must be asked
 * for in a run, also an empty one. NULL: the run must end with
 * moert_status(frame). */
void *moert_output(moert_frame_t *frame, uint32_t index, const int64_t *dims,
                   int64_t bytes);
/* Growable region `index` with at least that many bytes, 64-byte aligned; what
 * it held in this run is kept, at another address perhaps. NULL as above. */
void *moert_grow(moert_frame_t *frame, uint32_t index, int64_t bytes);

/* Each records a message that names nodes[node] and returns the status with
 * which the run must end. node is -1 when there is none. */
int32_t moert_status(moert_frame_t *frame);
int32_t moert_fail_assert(moert_frame_t *frame,
                          int32_t node); /* frame->error */
int32_t moert_fail_bind(moert_frame_t *frame, int32_t node, const char *symbol,
                        int64_t value, int64_t lower, int64_t upper);
int32_t moert_fail_equal(moert_frame_t *frame, int32_t node, const char *what,
                         int64_t a, int64_t b);
int32_t moert_fail_overflow(moert_frame_t *frame, int32_t node);

/* Routines over data, one row each in runtime/routines.def: results, operands
 * and sizes in args as the row says; return a moec_status_t. */
typedef int32_t (*moert_routine_fn)(moert_frame_t *frame,
                                    const moert_arg_t *args);

/* The same with a record of `step`, in models compiled with --instrument. */
void moert_parallel_traced(moert_frame_t *frame, uint32_t kernel,
                           const moert_arg_t *args, int64_t units,
                           int64_t grain, uint32_t step);
int32_t moert_routine_traced(moert_frame_t *frame, const moert_arg_t *args,
                             moert_routine_fn routine, uint32_t step);
/* Around the steps of a run: the time at which it begins, and its record. */
int64_t moert_trace_begin(moert_frame_t *frame);
void moert_trace_run(moert_frame_t *frame, int64_t begin);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
