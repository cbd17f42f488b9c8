/* What converters see: one ONNX node, its operands as IR values, its
 * attributes, and a builder at the place where its meaning goes.
 *
 * A converter reads all attributes that its operator defines (those left over
 * are warned about), checks what ONNX requires and the shape laws of the IR do
 * not, builds, and names its outputs by ctx_set_output. Building functions give
 * NULL after a failure and accept NULL operands, so that a converter may go on
 * to its end: the importer looks at ctx->status and the builder's status. */
#ifndef FRONTEND_CONVERT_H
#define FRONTEND_CONVERT_H

#include "frontend/load.h"
#include "ir/build.h"

typedef struct importer importer_t;

typedef enum {
  SLOT_NONE,   /* optional operand left out, or an empty optional */
  SLOT_FAILED, /* its node had an error: users are skipped silently */
  SLOT_TENSOR,
  SLOT_LIST,     /* sequence whose length is known */
  SLOT_SEQUENCE, /* any sequence of tensors of one rank, see sequence.h */
  SLOT_OPTIONAL, /* tensor or sequence that data say is there or not */
} slot_kind_t;

struct slot_list;

/* What an ONNX value name stands for. */
typedef struct slot {
  slot_kind_t kind;
  ir_value_t *value; /* tensor; of a sequence all elements, one by one */
  ir_value_t *dims;  /* SLOT_SEQUENCE, and SLOT_OPTIONAL of one: i64[n, rank] */
  ir_value_t *has;   /* SLOT_OPTIONAL: bool[] */
  const struct slot_list *list; /* SLOT_LIST */
} slot_t;

typedef struct slot_list {
  unsigned n;
  ir_value_t *const *value;
  dtype_t dtype; /* of the elements, DT_NONE when not known */
} slot_list_t;

/* An attribute after following references into the calling node. */
typedef struct node_attr {
  const char *name;
  const Onnx__AttributeProto *proto;
  bool read;
} node_attr_t;

typedef struct convert_ctx {
  importer_t *importer;
  ir_builder_t *b;
  arena_t *arena;
  expr_pool_t *exprs;
  diag_sink_t *diag;
  ir_loc_t loc;
  const Onnx__NodeProto *node;
  struct scope *scope;       /* names that the node sees */
  const struct frame *frame; /* the function call that the node is in */
  int opset;                 /* of the node's domain */
  ir_opcode_t code; /* of a row of ir/ops.def; OP_COUNT for composites */
  unsigned n_in, n_out;
  const slot_t *in; /* slot_t[n_in] */
  slot_t *out;      /* slot_t[n_out] */
  unsigned n_attrs;
  node_attr_t *attrs;
  moec_status_t status;  /* first failure reported through the ctx */
  const char *differs;   /* how branches of an If differ in rank, or NULL: see
                            import_rest.c */
  struct outlet *outlet; /* what follows the node, ditto */
} convert_ctx_t;

typedef moec_status_t (*convert_fn)(convert_ctx_t *ctx);

/* ---- Operands and results ------------------------------------------------ */

/* Tensor operand, NULL where left out. */
ir_value_t *ctx_in(const convert_ctx_t *ctx, unsigned index);
/* Whether result `index` has a name. */
bool ctx_wants(const convert_ctx_t *ctx, unsigned index);
/* Results that are not wanted, and NULL after a failure, are accepted. */
void ctx_set_output(convert_ctx_t *ctx, unsigned index, ir_value_t *value);
void ctx_set_list(convert_ctx_t *ctx, unsigned index, unsigned n,
                  ir_value_t *const *value, dtype_t dtype);
/* Operand `index` as a sequence; records an error and gives NULL otherwise. */
const slot_list_t *ctx_list(convert_ctx_t *ctx, unsigned index);

/* Puts the nodes of a subgraph in the node's place: its inputs without
 * initialiser are the n_args slots, its outputs go to out[graph->n_output]. */
moec_status_t ctx_inline(convert_ctx_t *ctx, const Onnx__GraphProto *graph,
                         unsigned n_args, const slot_t *args, slot_t *out);

/* The same for a subgraph that takes the node's place in any case: when its
 * outputs differ in rank what follows the node may be built with it, and `out`
 * stays as it was. */
moec_status_t ctx_inline_all(convert_ctx_t *ctx, const Onnx__GraphProto *graph,
                             slot_t *out);

/* The operation after which the next one is built, or NULL. */
ir_op_t *ctx_last_op(const convert_ctx_t *ctx);
/* Begins to build something that may turn out not to be possible: ends with
 * ctx_keep, or with ctx_drop of what ctx_try gave, which takes it back. */
ir_op_t *ctx_try(convert_ctx_t *ctx);
void ctx_keep(convert_ctx_t *ctx);
void ctx_drop(convert_ctx_t *ctx, const ir_op_t *last);

/* Records an error at the node and returns its status. */
moec_status_t ctx_error(convert_ctx_t *ctx, moec_status_t status,
                        const char *format, ...)
    __attribute__((format(printf, 3, 4)));
moec_status_t ctx_invalid(convert_ctx_t *ctx, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
moec_status_t ctx_unsupported(convert_ctx_t *ctx, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Type as text, for messages. */
const char *ctx_type_str(const convert_ctx_t *ctx, const ir_value_t *value);
/* First failure recorded so far by ctx or builder. */
moec_status_t ctx_status(const convert_ctx_t *ctx);

/* ---- Attributes ---------------------------------------------------------- */

/* Absent attributes give the default. A wrong type tag is an error, recorded;
 * then too the default is given. */
bool attr_has(convert_ctx_t *ctx,
              const char *name); /* does not count as read */
int64_t attr_int(convert_ctx_t *ctx, const char *name, int64_t otherwise);
int64_t attr_int_required(convert_ctx_t *ctx, const char *name);
bool attr_bool(convert_ctx_t *ctx, const char *name,
               bool otherwise); /* 0 or 1 */
double attr_float(convert_ctx_t *ctx, const char *name, double otherwise);
/* As attr_float, which refuses NaN and infinities. */
double attr_float_any(convert_ctx_t *ctx, const char *name, double otherwise);
/* NUL-terminated copy; embedded NULs are an error. */
const char *attr_str(convert_ctx_t *ctx, const char *name,
                     const char *otherwise);
/* Lists: NULL and *out_n = 0 when absent. */
const int64_t *attr_ints(convert_ctx_t *ctx, const char *name, unsigned *out_n);
const double *attr_floats(convert_ctx_t *ctx, const char *name,
                          unsigned *out_n);
const char *const *attr_strs(convert_ctx_t *ctx, const char *name,
                             unsigned *out_n);
/* NULL when absent or, after recording an error, not a tensor. */
const Onnx__TensorProto *attr_tensor(convert_ctx_t *ctx, const char *name);
const Onnx__SparseTensorProto *attr_sparse(convert_ctx_t *ctx,
                                           const char *name);
const Onnx__GraphProto *attr_graph(convert_ctx_t *ctx, const char *name);
/* An element type that is one of TensorProto.DataType; DT_NONE if absent. */
dtype_t attr_dtype(convert_ctx_t *ctx, const char *name, dtype_t otherwise);
/* Marks an attribute as known where its value does not matter. */
void attr_ignore(convert_ctx_t *ctx, const char *name);
/* Index of a string attribute among the allowed ones (NULL-terminated list); an
 * error otherwise, then 0. The first one is the default. */
unsigned attr_choice(convert_ctx_t *ctx, const char *name,
                     const char *const *allowed);

/* ---- Shapes and known values --------------------------------------------- */

/* The tensor of an attribute or initialiser as a constant. */
ir_value_t *ctx_constant(convert_ctx_t *ctx, const Onnx__TensorProto *tensor);
/* A constant of bytes in the arena. */
ir_value_t *ctx_tensor(convert_ctx_t *ctx, dtype_t dtype, unsigned rank,
                       const int64_t *dim, const void *bytes, uint64_t size);

/* Brings an axis from [-rank, rank) to [0, rank). */
bool ctx_axis(convert_ctx_t *ctx, int64_t axis, unsigned rank,
              unsigned *out_axis);
/* Same for a list; they must be distinct. Sorted ascending in *out_axes. */
bool ctx_axes(convert_ctx_t *ctx, unsigned n, const int64_t *axes,
              unsigned rank, int64_t **out_axes);

/* Whether x has at least `min` and at most `max` dimensions, else an error
 * about the operand called `what`. False for NULL. */
bool ctx_check_rank(convert_ctx_t *ctx, const ir_value_t *x, unsigned min,
                    unsigned max, const char *what);
/* Number of elements if static, or an error about `what`. */
bool ctx_static_count(convert_ctx_t *ctx, const ir_value_t *x, const char *what,
                      int64_t *out_count);

const expr_t *ctx_dim(const ir_value_t *x, unsigned axis);
const expr_t *ctx_int(convert_ctx_t *ctx, int64_t value);
/* dims of x in a new array with room for `extra` more. */
const expr_t **ctx_dims(convert_ctx_t *ctx, const ir_value_t *x,
                        unsigned extra);

/* Elements of a constant integer or bool tensor; false, without an error, when
 * they are not all constant. */
bool ctx_const_ints(convert_ctx_t *ctx, const ir_value_t *x, unsigned *out_n,
                    const int64_t **out_values);
/* As before with an error about `what`. */
bool ctx_need_ints(convert_ctx_t *ctx, const ir_value_t *x, const char *what,
                   unsigned *out_n, const int64_t **out_values);
/* Elements of a constant floating-point (or integer) tensor as doubles. */
bool ctx_const_floats(convert_ctx_t *ctx, const ir_value_t *x, unsigned *out_n,
                      const double **out_values);
/* Elements of an integer tensor as sizes: known ones as they are, others bound
 * to new symbols named after `hint` with the lower bound given. NULL after an
 * error; the number of elements must be static. */
const expr_t **ctx_sizes(convert_ctx_t *ctx, ir_value_t *x, const char *hint,
                         int64_t lower, unsigned *out_n);
/* One element as a size. */
const expr_t *ctx_size(convert_ctx_t *ctx, ir_value_t *x, int64_t index,
                       const char *hint, int64_t lower, const expr_t *upper);

/* A long expression under a new name: a symbol bound to its value, at least 0
 * and at most `upper`. Short ones are given back as they are. */
const expr_t *ctx_named(convert_ctx_t *ctx, const expr_t *e, const char *hint,
                        const expr_t *upper);
/* Makes the run check that the shapes of these operands broadcast, as far as
 * that is not proved; NULL operands are skipped. Sizes that can only be equal,
 * if the check holds, become one: operands may be replaced by views. */
void ctx_check_broadcast(convert_ctx_t *ctx, unsigned n, ir_value_t **x);
/* The same for two sizes. */
void ctx_check_dims(convert_ctx_t *ctx, const expr_t *x, const expr_t *y);

/* ---- Small building blocks ----------------------------------------------- */

/* A scalar of the type of `like`. */
ir_value_t *ctx_scalar(convert_ctx_t *ctx, const ir_value_t *like,
                       double value);
/* x in f32 when it is f16 or bf16, else x: composites compute there. */
ir_value_t *ctx_widen(convert_ctx_t *ctx, ir_value_t *x);
/* Back to the type of `like`. */
ir_value_t *ctx_like(convert_ctx_t *ctx, ir_value_t *x, const ir_value_t *like);
/* x of shape [n] as [1, n, 1, ..] with `rank` dimensions, n at `axis`. */
ir_value_t *ctx_along(convert_ctx_t *ctx, ir_value_t *x, unsigned axis,
                      unsigned rank);
/* `code` over all operands from left to right, broadcasts checked. */
ir_value_t *ctx_fold(convert_ctx_t *ctx, ir_opcode_t code, unsigned n,
                     ir_value_t *const *x);
/* ir_binary with the check of ctx_check_broadcast. */
ir_value_t *ctx_binary(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y);
/* Elements from `start` to `start + length` of an axis. */
ir_value_t *ctx_part(convert_ctx_t *ctx, ir_value_t *x, unsigned axis,
                     const expr_t *start, const expr_t *length);
/* Mean over axes, dimensions kept; in the type of x. */
ir_value_t *ctx_mean(convert_ctx_t *ctx, ir_value_t *x, unsigned n_axes,
                     const int64_t *axes, bool keepdims);
/* Number of elements along axes as a scalar of dtype. */
ir_value_t *ctx_count(convert_ctx_t *ctx, const ir_value_t *x, unsigned n_axes,
                      const int64_t *axes, dtype_t dtype);
/* The first dimension of x moved to `axis`. */
ir_value_t *ctx_move_first(convert_ctx_t *ctx, ir_value_t *x, unsigned axis);
/* Operand `index`, which has one element, as an f64 scalar. */
ir_value_t *ctx_scalar_f64(convert_ctx_t *ctx, unsigned index);
/* x, of any shape, as one dimension. */
ir_value_t *ctx_flat(convert_ctx_t *ctx, ir_value_t *x);
ir_value_t *ctx_is_true(convert_ctx_t *ctx, ir_value_t *x); /* x != 0 as bool */

/* ---- Converters: one per distinct name in the tables --------------------- */

#define ONNX(op, domain, op_type, since, until, convert) \
  moec_status_t convert_##convert(convert_ctx_t *ctx);
#include "ir/ops.def"
#define COMPOSITE(domain, op_type, since, until, min_in, max_in, min_out, \
                  max_out, convert)                                       \
  moec_status_t convert_##convert(convert_ctx_t *ctx);
#include "frontend/composites.def"

#endif
