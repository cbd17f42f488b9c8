/* A compiled model written by hand, for tests of the runtime:
 *
 *   a f32[N, S], b i64[S], c f32[] optional (2 when absent), d u8[N, 3]
 *   y f32[N, S] = a * c + b          (a parallel kernel, through the workspace)
 *   z u8[N, 3] = d
 *   w i64[W] = 0, 1, .. W - 1        (W = b[0], known during the run only) */
#ifndef TESTS_RUNTIME_PROGRAM_H
#define TESTS_RUNTIME_PROGRAM_H

#include "runtime/runtime.h"

enum { IN_A, IN_B, IN_C, IN_D, N_IN };
enum { OUT_Y, OUT_Z, OUT_W, N_OUT };
enum { SYMBOL_N, SYMBOL_S, N_SYMBOLS };

/* What the schedule does beside its work. Tests of one thread set it. */
typedef enum program_fault {
  FAULT_NONE,
  FAULT_SLOT_NEGATIVE,  /* plan() gives a negative slot */
  FAULT_SLOTS_OVERFLOW, /* plan() gives slots of 2^62 bytes */
  FAULT_PLAN_OVERFLOW,  /* plan() reports an overflow */
  FAULT_ASSERT,         /* a kernel writes E_INDEX */
  FAULT_BIND,
  FAULT_EQUAL,
  FAULT_NO_OUTPUT,     /* run() never asks for w */
  FAULT_WRONG_BYTES,   /* run() asks for w with a wrong size */
  FAULT_SILENT_STATUS, /* run() fails without a report */
  FAULT_UNKNOWN_STATUS /* and with what is no status */
} program_fault_t;

typedef struct program_hooks {
  program_fault_t fault;
  int64_t grow_bytes; /* run() grows region 0 to this, 0: not */
  bool traced;        /* y is step 0, computing w step 1 */
} program_hooks_t;
extern program_hooks_t program_hooks;

/* An instance of three threads for tests of single routines, made and destroyed
 * around a group of them. */
extern moec_instance_t *program_instance;
int program_create(void **state);
int program_destroy(void **state);

/* Inputs and outputs of one run, with n and s as N and S. */
typedef struct program_io {
  float a[64], c;
  int64_t b[16];
  uint8_t d[64];
  int64_t a_dims[2], b_dims[1], d_dims[2];
  moec_value_t in[N_IN], out[N_OUT];
} program_io_t;
void program_io_fill(program_io_t *io, int64_t n, int64_t s, int64_t w);
/* Fails the test unless the outputs are those of the inputs. */
void program_io_check(const program_io_t *io);

#endif
