/* From tensors to loops: each operation's meaning, written once.
 *
 * A lowering says how one element of a result is computed from elements of the
 * operands (`elem`), how a stored result is produced by kernels or routines
 * (`root`), or both. Results of operations marked `fused` are never stored:
 * they are computed by `elem` inside the kernels of their users. */
#ifndef PASSES_LOWER_H
#define PASSES_LOWER_H

#include "ir/build.h"
#include "passes/kernel.h"

typedef struct lower {
  ir_module_t *module;
  diag_sink_t *diag;
  ir_builder_t schedule;     /* appends to the new main function, or a region */
  const ir_region_t *region; /* of tensor operations, being lowered */
  kernel_table_t *table;
  ir_value_t **stored;  /* [number of tensor value] its schedule value */
  ir_value_t **product; /* [number of fused tensor value] below it, or NULL */
  unsigned *studied;    /* [number of tensor value] study that met it last */
  unsigned n_studies;
  moec_status_t status; /* first failure */
} lower_t;

typedef struct lowering {
  /* The scalar op->out[result][idx..]; idx has the result's rank, i64 scalars.
   */
  ir_value_t *(*elem)(kernel_t *k, const ir_op_t *op, unsigned result,
                      ir_value_t *const *idx);
  /* Emits the launches that store op's results. NULL: one loop nest over elem.
   */
  void (*root)(lower_t *lo, ir_op_t *op);
  /* Whether dimensions d and d + 1 of the result may be walked as one (index d
   * always 0, index d + 1 running through both). NULL: never. */
  bool (*merges)(const ir_op_t *op, unsigned d);
} lowering_t;

extern const lowering_t lowering_reduce, lowering_arg_reduce;

/* Operations whose kernels compute tiles and take an epilogue. */
static inline bool lower_is_product(const ir_op_t *op) {
  return op->code == OP_PRODUCT || op->code == OP_WINDOW_PRODUCT ||
         op->code == OP_GROUPED_PRODUCT;
}

/* NULL functions for operations that have none. */
const lowering_t *lowering_of(ir_opcode_t code);

/* ---- Elements ------------------------------------------------------------ */

/* The scalar tensor[idx..]: computed when its operation is fused, else loaded.
 */
ir_value_t *lower_elem(kernel_t *k, ir_value_t *tensor, ir_value_t *const *idx);
/* The same, or 0 where mask (bool scalar) is false; then nothing is accessed.
 */
ir_value_t *lower_elem_masked(kernel_t *k, ir_value_t *tensor,
                              ir_value_t *const *idx, ir_value_t *mask);
/* Index of element idx.. of a stored tensor in C order. */
ir_value_t *lower_linear(kernel_t *k, const ir_type_t *type,
                         ir_value_t *const *idx);
/* A run-time index into an axis of that size: negative ones wrap; *out_ok says
 * whether it is in range. Notes MOEC_E_INDEX where it is not. */
ir_value_t *lower_wrap_index(kernel_t *k, ir_value_t *index, const expr_t *size,
                             ir_value_t **out_ok);
/* Index into an operand dimension broadcast to a result dimension. */
ir_value_t *lower_broadcast_index(kernel_t *k, const expr_t *from,
                                  const expr_t *to, ir_value_t *idx);
bool lower_merges(const ir_value_t *tensor, unsigned d);

/* ---- Loop nests ---------------------------------------------------------- */

/* How the dimensions of a result are walked: a parallel unit covers one index
 * of the outer loops and a chunk of the innermost one. */
typedef struct nest {
  unsigned rank;
  const expr_t *const *dim;
  unsigned n_loops;                  /* after merging and dropping ones */
  unsigned loop_dim[IR_MAX_RANK];    /* index position of each loop */
  const expr_t *extent[IR_MAX_RANK]; /* of each loop */
  const expr_t *units, *grain;
  int64_t chunk; /* of the innermost loop in a unit; 0: all of it */
  int64_t block; /* of the loop around that, in a unit; 0: 1 */
} nest_t;

typedef enum {
  NEST_CHUNKS, /* a unit is a chunk of the innermost loop */
  NEST_WHOLE,  /* a unit is the whole innermost loop */
  NEST_ROWS,   /* small chunks: the caller walks a row for each element */
  NEST_BLOCKS, /* a unit is a block of some whole innermost loops */
} nest_kind_t;

/* mergeable[d]: dimensions d, d + 1 may be walked as one. work: scalar steps
 * per element, for the grain. */
void nest_plan(ir_module_t *module, nest_t *nest, unsigned rank,
               const expr_t *const *dim, const bool *mergeable,
               nest_kind_t kind, const expr_t *work);
/* Opens the parallel region and, where there is one, the innermost loop; fills
 * idx[rank]. */
void nest_open(kernel_t *k, const nest_t *nest, bool vector, ir_value_t **idx);

/* Spreads a number over n dimensions, the last one fastest. */
void lower_split(kernel_t *k, unsigned n, const expr_t *const *dim,
                 ir_value_t *number, ir_value_t **out_idx);

/* ---- The schedule -------------------------------------------------------- */

/* Lowers the operations of a region, in sequence, to where the schedule is
 * being built; not their terminator, which is returned. */
ir_op_t *lower_region(lower_t *lo, ir_region_t *region);
/* `stored` itself where it is memory that a launch or call of the region being
 * built has made and that is not among taken[0..n), else a copy. */
ir_value_t *lower_owned(lower_t *lo, ir_value_t *stored, ir_loc_t loc,
                        unsigned n, ir_value_t *const *taken);
/* The value whose memory `value` is. */
ir_value_t *lower_storage_of(ir_value_t *value);

/* The schedule's value for a stored tensor. */
ir_value_t *lower_stored(lower_t *lo, ir_value_t *tensor);
void lower_set_stored(lower_t *lo, ir_value_t *tensor, ir_value_t *stored);
/* Ends kernel k and launches it; in place on operand `inplace` if >= 0 (then
 * the kernel's result 0 is that operand and it is not passed again). */
ir_op_t *lower_launch(lower_t *lo, kernel_t *k, const char *family,
                      unsigned n_results, const ir_type_t *types,
                      const expr_t *units, const expr_t *grain);
ir_op_t *lower_launch_inplace(lower_t *lo, kernel_t *k, const char *family,
                              ir_value_t *target, const expr_t *units,
                              const expr_t *grain);
/* Stores what elem gives for `tensor`; a new schedule value. */
ir_value_t *lower_materialise(lower_t *lo, ir_value_t *tensor, ir_loc_t loc,
                              const char *family);
/* Stores elem of source at result positions start.. (same rank) of `target`. */
ir_value_t *lower_write_slice(lower_t *lo, ir_value_t *source,
                              ir_value_t *target, const expr_t *const *start,
                              ir_loc_t loc);
/* Memory of that type, to be written in place. */
ir_value_t *lower_empty(lower_t *lo, const ir_type_t *type, ir_loc_t loc);
/* `source` stored in memory that nothing else reads, to be changed in place. */
ir_value_t *lower_private_copy(lower_t *lo, ir_value_t *source, ir_loc_t loc);
/* A call of a routine of the runtime, whose results become those of op. */
void lower_call(lower_t *lo, const ir_op_t *op, const char *routine,
                unsigned n_in, ir_value_t *const *in, unsigned n_args,
                const expr_t *const *args);

/* Whether a reduction covers the innermost dimension, and how many elements it
 * takes for one of its result. */
bool lower_reduces_last(const ir_op_t *op);
const expr_t *lower_reduced_count(expr_pool_t *pool, const ir_op_t *op);

/* The fused product whose epilogue computes `tensor`, or NULL; and the launch
 * that stores tensor as the epilogue of that product. */
ir_value_t *lower_find_product(const lower_t *lo, ir_value_t *tensor);
ir_value_t *lower_product(lower_t *lo, ir_value_t *tensor, ir_value_t *product);
ir_value_t *lower_window_product(lower_t *lo, ir_value_t *tensor,
                                 ir_value_t *product);
ir_value_t *lower_grouped_product(lower_t *lo, ir_value_t *tensor,
                                  ir_value_t *product);
/* Stores what tensor's operation makes of the product's elements, the anchor,
 * at idx; ends the kernel and launches it. */
ir_value_t *lower_finish_product(lower_t *lo, kernel_t *k, ir_value_t *tensor,
                                 ir_value_t *product, ir_value_t *sum,
                                 ir_value_t *const *idx, const expr_t *units);
dtype_t lower_sum_dtype(dtype_t dtype); /* of a product of such results */
const expr_t *lower_count_tiles(expr_pool_t *pool, dtype_t sum,
                                const expr_t *rows, const expr_t *columns);

/* ---- Affine views -------------------------------------------------------- */

/* tensor[idx..] = base[offset + sum idx[d] * stride[d]] */
typedef struct view {
  ir_value_t *base; /* stored */
  const expr_t *offset;
  const expr_t *stride[IR_MAX_RANK];
} view_t;
/* Sees through fused slices, transposes, reshapes and broadcasts. */
bool view_of(ir_module_t *module, ir_value_t *tensor, view_t *out_view);

#endif
