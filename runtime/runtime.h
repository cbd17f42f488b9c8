/* What the files of the runtime share: the instance, its memory, its failures.
 */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "moec/rtabi.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

enum {
  RT_ALIGN = 64,          /* of all memory that the runtime hands out */
  RT_MESSAGE_BYTES = 512, /* longer messages are cut */
  RT_MAX_THREADS = 1024
};

/* memory.c */

typedef struct rt_allocator {
  void *(*allocate)(void *user, uint64_t bytes); /* NULL: the C library's */
  void (*release)(void *user, void *memory);
  void *user;
} rt_allocator_t;

/* RT_ALIGN-aligned memory, uninitialised; NULL when there is none, or when the
 * caller's allocator gives memory that is not aligned. */
void *memory_allocate(const rt_allocator_t *allocator, uint64_t bytes);
void memory_release(const rt_allocator_t *allocator,
                    void *memory); /* or NULL */

/* Memory of an instance that lives across runs. */
typedef struct rt_region {
  char *data;     /* RT_ALIGN-aligned, NULL while bytes is 0 */
  uint64_t bytes; /* multiple of RT_ALIGN */
} rt_region_t;

/* Makes the region at least that large; what it held is lost unless `keep`.
 * `what` names it in messages. E_NO_MEMORY; E_CAPACITY with fixed memory. */
moec_status_t region_reserve(moec_instance_t *it, rt_region_t *region,
                             uint64_t bytes, bool keep, const char *what);

/* dtype.c */

/* Bits of an element in memory, 0 for a number that is no type. */
unsigned dtype_bits(int32_t dtype);
/* Bytes that an element must be aligned to. */
unsigned dtype_align(int32_t dtype);
const char *dtype_name(int32_t dtype);
/* Bytes of a contiguous tensor. False when they, or those of a tensor with ones
 * for its zeros, exceed INT64_MAX. */
bool dtype_tensor_bytes(int32_t dtype, int32_t rank, const int64_t *dims,
                        int64_t *out_bytes);

/* cpu.c */

/* MOERT_CPU_* bits that the processor has and the system has enabled. */
uint64_t cpu_features(void);
/* Processors that this process may run on, at least 1. */
int32_t cpu_count(void);

/* pool.c */

typedef struct rt_pool rt_pool_t;

int64_t clock_now(void); /* nanoseconds of CLOCK_MONOTONIC */

/* A pool of n_threads threads, the caller's included; fewer if the system
 * refuses some. n_threads 0 means cpu_count(). NULL when out of memory. */
rt_pool_t *pool_create(int32_t n_threads, const rt_allocator_t *allocator);
void pool_destroy(rt_pool_t *pool); /* accepts NULL */
/* Whether `handle` is a pool of this ABI version, of this or another library.
 */
bool pool_is_compatible(const void *handle);
int32_t pool_threads(const rt_pool_t *pool);
/* Calls task(context, begin, end) for ranges covering [0, units) once each, all
 * but the last one of a multiple of at least `grain`, on any of the pool's
 * threads, and returns when all are done. On the caller's alone while another
 * thread uses the pool. */
void pool_run(rt_pool_t *pool, int64_t units, int64_t grain, moec_task_fn task,
              void *context);

/* instance.c */

typedef struct rt_input {
  rt_region_t copy;          /* of strided or misaligned data */
  const moec_value_t *value; /* during a call; NULL: absent */
  int64_t bytes;             /* of the contiguous tensor */
} rt_input_t;

typedef struct rt_output {
  rt_region_t own;
  moec_value_t *value; /* during a run */
  char *target;        /* where finish copies the bytes from `own`; or NULL */
  char *data;          /* what the run was given; NULL: not yet asked for */
  uint64_t bytes;
  int64_t *dims; /* int64[rank] of the instance */
} rt_output_t;

/* First dimension that bound a symbol, for messages. */
typedef struct rt_binding {
  int32_t input; /* -1: none */
  int32_t axis;
} rt_binding_t;

/* trace.c */

typedef struct rt_trace rt_trace_t;

/* ports.c */

/* Memory of the instance for an input or output that is no tensor. */
typedef struct rt_port {
  rt_region_t memory; /* inputs: packed elements; outputs: descriptors */
  int64_t dims[2];    /* of the packed dims, or of an absent tensor */
  uint8_t has;
} rt_port_t;

struct moec_instance {
  moert_frame_t frame;
  rt_allocator_t allocator;
  const moert_variant_t *variant;
  rt_pool_t *pool; /* NULL: one thread, or parallel_for */
  bool owns_pool;
  bool fixed_memory;
  bool in_run; /* allocation is forbidden when memory is fixed */
  moec_parallel_for_fn parallel_for;
  void *parallel_user;
  rt_region_t workspace;
  rt_input_t *inputs;
  rt_output_t *outputs;
  rt_region_t *growable;
  rt_binding_t *bindings; /* [n_symbols] */
  rt_port_t *in_ports, *out_ports;
  moec_value_t *raw_inputs, *raw_outputs; /* of models with ports */
  rt_trace_t *trace;                      /* NULL: nothing is recorded */
  moec_status_t status;                   /* of the call under way */
  char message[RT_MESSAGE_BYTES];
};

/* Runs task over [0, units) on the instance's threads. */
void instance_parallel(moec_instance_t *it, int64_t units, int64_t grain,
                       moec_task_fn task, void *context);

/* message.c */

/* Records a failure and returns its status. In `format`, %s stands for a const
 * char *, %d for an int64_t; nothing else is known. */
moec_status_t report(moec_instance_t *it, moec_status_t status,
                     const char *format, ...);
/* The same with the node's name in front, if `node` is one. */
moec_status_t report_at(moec_instance_t *it, int32_t node, moec_status_t status,
                        const char *format, ...);
/* The text of a status that came without one; E_INTERNAL if it is none. */
moec_status_t report_status(moec_instance_t *it, int32_t node, int32_t status);

/* inputs.c, outputs.c */

/* Element `index` of an array whose elements are of the caller's struct_size.
 */
static inline const moec_value_t *value_at(const moec_value_t *values,
                                           uint32_t index) {
  return (const void *)((const char *)values +
                        (size_t)index * values[0].struct_size);
}

/* The count of an array of values and the struct_size of each. */
moec_status_t values_check(moec_instance_t *it, const moec_value_t *values,
                           uint32_t n, uint32_t want, const char *what);
/* Copies the elements of a tensor to C order without gaps; types of whole
 * bytes.
 */
void value_copy(char *to, const moec_value_t *value, int64_t bytes);
/* Whether the elements lie in C order without gaps. */
bool value_is_contiguous(const moec_value_t *value);
/* Checks the inputs and binds the symbols of their dimensions. Without data,
 * only shapes are looked at. */
moec_status_t inputs_bind(moec_instance_t *it, const moec_value_t *inputs,
                          uint32_t n_inputs, bool with_data);
/* Reserves the copies that inputs_load will need. */
moec_status_t inputs_reserve(moec_instance_t *it);
/* Sets frame.inputs, copying what kernels cannot read in place. */
moec_status_t inputs_load(moec_instance_t *it);

/* Takes the caller's descriptors, fills in what frame.output_dims knows, and
 * checks the capacity of all outputs known: E_CAPACITY. */
moec_status_t outputs_bind(moec_instance_t *it, moec_value_t *outputs);
/* Fills in dims, and size where known, without looking at buffers. */
moec_status_t outputs_describe(moec_instance_t *it, moec_value_t *outputs);
/* Reserves the instance's memory for outputs of known size that have no buffer.
 */
moec_status_t outputs_reserve(moec_instance_t *it, moec_value_t *outputs);
/* Hands over the results of a successful run. */
moec_status_t outputs_finish(moec_instance_t *it);

#define RT_TRY(expression)                  \
  do {                                      \
    moec_status_t status_ = (expression);   \
    if (status_ != MOEC_OK) return status_; \
  } while (0)

/* Routines */

#define ROUTINE(name, operators, function, doc) \
  int32_t function(moert_frame_t *frame, const moert_arg_t *args);
#include "runtime/routines.def"

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
