/* What the writers of operations share: the graph that is being built, and
 * functions that append nodes to it. Every function returns a value, also where
 * something cannot be expressed; then `status` is set and nothing is written at
 * the end. */
#ifndef EXPORT_PUT_H
#define EXPORT_PUT_H

#include "export/graph.h"

typedef struct export {
  arena_t *arena;
  ir_module_t *module;
  diag_sink_t *diag;
  og_graph_t *main, *graph; /* the whole; where nodes go just now */
  og_value_t **values;      /* of IR values, by number */
  const ir_op_t *op;        /* being written */
  int opset;                /* the least that is enough */
  moec_status_t status;     /* first refusal */
}
export_t;

/* Sets of element types. */
#define TYPE(id) (1U << DT_##id)
#define TYPES_F (TYPE(F32) | TYPE(F64) | TYPE(F16))
#define TYPES_FLOAT (TYPES_F | TYPE(BF16))
#define TYPES_SIGNED (TYPE(I8) | TYPE(I16) | TYPE(I32) | TYPE(I64))
#define TYPES_UNSIGNED (TYPE(U8) | TYPE(U16) | TYPE(U32) | TYPE(U64))
#define TYPES_INT (TYPES_SIGNED | TYPES_UNSIGNED)
#define TYPES_NUMBER (TYPES_FLOAT | TYPES_INT)
#define TYPES_F8 \
  (TYPE(F8E4M3FN) | TYPE(F8E4M3FNUZ) | TYPE(F8E5M2) | TYPE(F8E5M2FNUZ))
#define TYPES_OTHER (TYPE(BOOL) | TYPE(C64) | TYPE(C128) | TYPE(STR))
#define TYPES_ANY (TYPES_NUMBER | TYPES_OTHER)

typedef struct writer_row {
  void (*write)(export_t *e, const struct writer_row *row);
  const char *onnx; /* operator, or why there is none */
  uint32_t types;   /* that it takes as they are */
  int opset;        /* that it needs */
} writer_row_t;

const writer_row_t *writer_row(ir_opcode_t code);
/* Every writer that writers.def names. */
#define WRITE(op, writer, onnx, types, opset) \
  void write_##writer(export_t *e, const writer_row_t *row);
#define REFUSE(op, why)
#define INNER(op)
#include "export/writers.def"

/* Says that the operation has no equivalent in ONNX, and why. */
void refuse(export_t *e, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- Nodes --------------------------------------------------------------- */

og_node_t *put_node(export_t *e, const char *op_type, unsigned n_in,
                    og_value_t *const *in, unsigned n_out);
og_value_t *put1(export_t *e, const char *op_type, og_value_t *x);
og_value_t *put2(export_t *e, const char *op_type, og_value_t *x,
                 og_value_t *y);
og_value_t *put3(export_t *e, const char *op_type, og_value_t *x, og_value_t *y,
                 og_value_t *z);
/* A comparison: the result is bool. */
og_value_t *put_test(export_t *e, const char *op_type, og_value_t *x,
                     og_value_t *y);
og_value_t *put_where(export_t *e, og_value_t *cond, og_value_t *x,
                      og_value_t *y);
/* To another element type, unless it has it. */
og_value_t *put_cast(export_t *e, og_value_t *x, dtype_t to);
/* Attributes of the node that made x. */
void set_int(export_t *e, og_value_t *x, const char *name, int64_t value);
void set_str(export_t *e, og_value_t *x, const char *name, const char *value);
void set_ints(export_t *e, og_value_t *x, const char *name, unsigned n,
              const int64_t *values);

/* ---- Constants ----------------------------------------------------------- */

og_value_t *put_ints(export_t *e, unsigned n,
                     const int64_t *values);      /* i64[n] */
og_value_t *put_int1(export_t *e, int64_t value); /* i64[1] */
og_value_t *put_scalar(export_t *e, dtype_t dtype, double value);
og_value_t *put_scalar_int(export_t *e, dtype_t dtype, int64_t value);
/* A tensor whose bytes are kept as they are. */
og_value_t *put_tensor(export_t *e, dtype_t dtype, unsigned rank,
                       const int64_t *dims, const void *bytes, uint64_t size);

/* ---- Movement ------------------------------------------------------------ */

/* Exactly the sizes `dim`; `from` is x's shape where it is known, or NULL. */
og_value_t *put_reshape(export_t *e, og_value_t *x, const ir_type_t *from,
                        unsigned rank, const expr_t *const *dim);
og_value_t *put_reshape_ints(export_t *e, og_value_t *x, unsigned n,
                             const int64_t *dims);
og_value_t *put_gather(export_t *e, og_value_t *x, og_value_t *index,
                       int64_t axis);
og_value_t *put_transpose(export_t *e, og_value_t *x, unsigned n,
                          const int64_t *perm);
og_value_t *put_range(export_t *e, const expr_t *n); /* i64: 0, 1, .., n - 1 */

/* ---- Sizes (sizes.c) ----------------------------------------------------- */

og_value_t *put_size(export_t *e, const expr_t *size); /* i64[1] */
og_value_t *put_sizes(export_t *e, unsigned n, const expr_t *const *sizes);
og_value_t *put_size_scalar(export_t *e, const expr_t *size); /* i64[] */
bool sizes_are_const(export_t *e, unsigned n, const expr_t *const *sizes,
                     const int64_t **out);
/* The dimensions of a tensor tell the symbols that nothing has told yet. */
void define_symbols(export_t *e, og_value_t *value, const ir_type_t *type);

/* ---- Operands and results of the operation ------------------------------- */

og_value_t *in_value(export_t *e, unsigned index); /* NULL: absent */
const ir_type_t *in_type(const export_t *e, unsigned index);
/* The type in which elements of `dtype` are computed where an operator takes
 * `types` only: itself, or one that holds all its values. */
dtype_t carrier_of(export_t *e, dtype_t dtype, uint32_t types);
/* The operand in its carrier. */
og_value_t *in_carried(export_t *e, unsigned index, uint32_t types);
/* An index operand: i64, or i32 where `narrow`. */
og_value_t *in_index(export_t *e, unsigned index, bool narrow);
/* Sets the result, cast to its type. */
void give(export_t *e, unsigned index, og_value_t *value);

/* ---- Regions and the boundary -------------------------------------------- */

/* All but the terminator, into e->graph. */
void write_region(export_t *e, const ir_region_t *region);
void write_inputs(export_t *e, const ir_func_t *func); /* ports.c */
void write_outputs(export_t *e, const ir_func_t *func);
/* Windows of x (operand 0 of the operation, of type `from`): unfold.c. */
typedef struct windows {
  unsigned n; /* spatial dimensions */
  const expr_t *const *kernel, *const *out, *const *before;
  const int64_t *strides, *dilations, *input_dilation;
} windows_t;
og_value_t *put_unfold(export_t *e, og_value_t *x, const ir_type_t *from,
                       og_value_t *fill, const windows_t *w);

/* ---- Products of groups (write_experts.c) -------------------------------- */

typedef og_value_t *multiply_fn(export_t *e, void *user, og_value_t *x,
                                og_value_t *w);

/* Rows [offsets[g], offsets[g + 1]) of x by w[g], for n groups. */
typedef struct by_group {
  og_value_t *x, *w, *offsets;
  unsigned n, rank;
  const expr_t *const *row; /* dimensions of a row of the result, `rank` */
  multiply_fn *multiply;
  void *user;
} by_group_t;

/* One group after the other; zeros behind the last one. */
og_value_t *put_by_group(export_t *e, const by_group_t *g);
/* Of operand 1; refuses where it is not known or more than `most`. */
unsigned count_groups(export_t *e, unsigned most);

#endif
