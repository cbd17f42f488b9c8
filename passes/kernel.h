/* Building one kernel: parameters on demand, loops, and scalar operations that
 * are placed as far out as their operands allow and never computed twice. */
#ifndef PASSES_KERNEL_H
#define PASSES_KERNEL_H

#include "ir/ir.h"

#define KERNEL_MAX_DEPTH 40
#define KERNEL_MAX_PARAMS 512
#define KERNEL_PARAM_BLOCK 16

typedef struct kernel_loop { /* an open region */
  ir_op_t *op;               /* NULL: the kernel's own body */
  ir_region_t *region;
  ir_op_t *before; /* where it is filled: before this one; NULL: at its end */
} kernel_loop_t;

typedef struct kernel_result_memo kernel_result_memo_t;

/* The inner loops that kernel_hoist put aside. */
typedef struct kernel_hoisted {
  unsigned depth, vector_depth;
  kernel_loop_t loop[KERNEL_MAX_DEPTH];
} kernel_hoisted_t;

typedef struct kernel_memo kernel_memo_t;
typedef struct kernel_entry kernel_entry_t;

/* The kernels of a module by content, so that equal ones are shared. */
typedef struct kernel_table {
  kernel_entry_t *bucket[4096];
  text_t text; /* of the kernel that is being looked up */
} kernel_table_t;

typedef struct kernel {
  ir_module_t *module;
  kernel_table_t *table;
  ir_func_t *func;
  ir_loc_t loc;
  kernel_loop_t loop[KERNEL_MAX_DEPTH]; /* [0] is the body */
  unsigned depth;                       /* open loops, >= 1 */
  unsigned vector_depth;                /* of the open vector loop, 0: none */
  unsigned n_results, n_operands, n_args;
  /* Placeholders: results, operands, args; in blocks, made when first used. */
  ir_value_t *params[KERNEL_MAX_PARAMS / KERNEL_PARAM_BLOCK];
  ir_value_t **operand_tensor; /* tensors behind operand parameters */
  const expr_t **arg_expr;     /* sizes behind arg parameters */
  unsigned operand_capacity, arg_capacity;
  kernel_memo_t **memo; /* hash table of placed operations */
  unsigned memo_mask, memo_count;
  kernel_result_memo_t *results; /* of loops, see kernel_remember */
  /* Value that stands for the anchor of this kernel (the product whose
   * epilogue is being built), and the scalar it has. */
  ir_value_t *anchor, *anchor_scalar;
  ir_value_t *mask; /* of the accesses being built (bool scalar), NULL: all */
} kernel_t;

/* Starts a kernel with that many result buffers of the given element types. */
void kernel_begin(kernel_t *k, ir_module_t *module, kernel_table_t *table,
                  ir_loc_t loc, unsigned n_results,
                  const dtype_t *result_dtypes);

/* The buffer parameter for a stored tensor, made on first use. */
ir_value_t *kernel_operand(kernel_t *k, ir_value_t *tensor);
ir_value_t *kernel_result(kernel_t *k, unsigned index);

/* Scalars: i64 sizes (0 and 1 are immediate, other sizes parameters),
 * constants. */
ir_value_t *kernel_size(kernel_t *k, const expr_t *e);
ir_value_t *kernel_int(kernel_t *k, int64_t value);
ir_value_t *kernel_const(kernel_t *k, dtype_t dtype, double value);
/* A copy of a one-element constant operation as a scalar. */
ir_value_t *kernel_copy_const(kernel_t *k, const ir_op_t *constant);

/* Scalar operations; simple identities (x + 0, x * 1, x * 0) are folded. */
ir_value_t *kernel_unary(kernel_t *k, ir_opcode_t code, ir_value_t *x);
ir_value_t *kernel_binary(kernel_t *k, ir_opcode_t code, ir_value_t *x,
                          ir_value_t *y);
/* a * b + sum as OP_MUL_ADD has it. */
ir_value_t *kernel_mul_add(kernel_t *k, ir_value_t *a, ir_value_t *b,
                           ir_value_t *sum);
ir_value_t *kernel_select(kernel_t *k, ir_value_t *c, ir_value_t *x,
                          ir_value_t *y);
ir_value_t *kernel_cast(kernel_t *k, ir_value_t *x, dtype_t to);
/* The elementwise operation `like` (code and attributes) on these scalars. */
ir_value_t *kernel_like(kernel_t *k, const ir_op_t *like, unsigned n_in,
                        ir_value_t *const *in);

/* Memory. mask may be NULL; loads obey k->mask too. A load of a buffer that the
 * kernel also writes is `fresh`: it is placed here and now. */
ir_value_t *kernel_load(kernel_t *k, ir_value_t *buffer, ir_value_t *index,
                        ir_value_t *mask);
ir_value_t *kernel_load_fresh(kernel_t *k, ir_value_t *buffer,
                              ir_value_t *index);
void kernel_store(kernel_t *k, ir_value_t *buffer, ir_value_t *index,
                  ir_value_t *value, ir_value_t *mask);
/* Placed as far out as cond allows, once. Not checked where k->mask is false.
 */
void kernel_assert(kernel_t *k, ir_value_t *cond, moec_status_t status);

/* Opens the parallel region; returns the unit's number. Closed by kernel_close.
 */
ir_value_t *kernel_parallel(kernel_t *k);
/* Opens a loop; returns its variable. A loop inside a vector loop is never
 * itself a vector loop. */
ir_value_t *kernel_for(kernel_t *k, ir_value_t *begin, ir_value_t *end,
                       bool vector);
/* Opens a loop directly inside a vector loop whose loads may be done in
 * squares: see `turn` of OP_FOR. */
ir_value_t *kernel_for_turned(kernel_t *k, ir_value_t *begin, ir_value_t *end);
void kernel_close(kernel_t *k);
/* Opens a reduction; kernel_close_reduce yields `value` and returns the result.
 */
ir_value_t *kernel_reduce(kernel_t *k, const char *kind, ir_value_t *begin,
                          ir_value_t *end, bool vector);
ir_value_t *kernel_close_reduce(kernel_t *k, ir_value_t *value);
/* Opens acc = init; for i: acc = body; *out_acc is the running value. */
ir_value_t *kernel_fold(kernel_t *k, ir_value_t *begin, ir_value_t *end,
                        ir_value_t *init, ir_value_t **out_acc);
ir_value_t *kernel_close_fold(kernel_t *k, ir_value_t *value);
/* Opens region() if cond; kernel_close closes it. */
void kernel_when(kernel_t *k, ir_value_t *cond);
/* Opens a product tile with the 10 or 15 operands of OP_PRODUCT_TILE; its 3 or
 * 4 region arguments out. */
void kernel_product_tile(kernel_t *k, unsigned n, ir_value_t *const *in,
                         dtype_t acc, ir_value_t **out_args);

/* Steps out of the loops that idx does not depend on, so that a loop opened now
 * runs once for all their iterations; kernel_unhoist steps back in. */
void kernel_hoist(kernel_t *k, unsigned n, ir_value_t *const *idx,
                  kernel_hoisted_t *out_saved);
void kernel_unhoist(kernel_t *k, const kernel_hoisted_t *saved);
/* The scalar already computed for tensor[idx..] and still in scope, or NULL;
 * and its counterpart. For results of loops, which are not found by content. */
ir_value_t *kernel_recall(kernel_t *k, const ir_value_t *tensor, unsigned n,
                          ir_value_t *const *idx);
void kernel_remember(kernel_t *k, const ir_value_t *tensor, unsigned n,
                     ir_value_t *const *idx, ir_value_t *scalar);

/* Closes everything, drops unused parameters, names the kernel by family, type
 * and hash; returns an equal kernel that the module already has, or this one
 * added. */
ir_func_t *kernel_end(kernel_t *k, const char *family);

#endif
