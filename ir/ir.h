/* The intermediate representation: one node type for both levels.
 *
 * module ─ functions ─ regions ─ operations ─ results/operands (values).
 * At tensor level values are tensors; at loop level a module holds kernels,
 * whose values are buffers and scalars (tensors of rank 0), and one schedule.
 */
#ifndef IR_IR_H
#define IR_IR_H

#include "ir/arena.h"
#include "ir/diag.h"
#include "ir/expr.h"

#define IR_MAX_RANK 32

typedef enum {
  DT_NONE = 0,
#define DTYPE(id, name, onnx, bits, class) DT_##id = onnx,
#include "ir/dtypes.def"
  DT_COUNT
} dtype_t;

typedef enum {
  DT_CLASS_NONE,
  DT_CLASS_FLOAT,
  DT_CLASS_SIGNED,
  DT_CLASS_UNSIGNED,
  DT_CLASS_BOOL,
  DT_CLASS_COMPLEX,
  DT_CLASS_STRING,
} dtype_class_t;

const char *dtype_name(dtype_t dtype);
unsigned dtype_bits(dtype_t dtype);
/* Bytes of `count` elements; packed types round up. */
uint64_t dtype_bytes(dtype_t dtype, uint64_t count);
dtype_class_t dtype_class(dtype_t dtype);
bool dtype_is_float(dtype_t dtype);
/* Below 8 bits, several elements in a byte; and the type of 8 bits that holds
 * the same values one by one. */
bool dtype_is_packed(dtype_t dtype);
dtype_t dtype_unpacked(dtype_t dtype);
bool dtype_is_integer(dtype_t dtype); /* signed or unsigned, not bool */
dtype_t dtype_by_name(const char *name, size_t length); /* DT_NONE if unknown */

typedef struct ir_module ir_module_t;
typedef struct ir_func ir_func_t;
typedef struct ir_region ir_region_t;
typedef struct ir_op ir_op_t;
typedef struct ir_value ir_value_t;
typedef struct ir_use ir_use_t;

typedef enum {
  IR_TENSOR,   /* rank 0 tensors are the scalars of kernels */
  IR_BUFFER,   /* loop level: flat memory of elements of dtype */
  IR_SEQUENCE, /* of elem */
  IR_OPTIONAL, /* of elem */
} ir_kind_t;

typedef struct ir_type {
  ir_kind_t kind;
  dtype_t dtype;
  unsigned rank;
  const expr_t *const *dim;   /* expr_t*[rank] */
  const struct ir_type *elem; /* of sequences and optionals */
} ir_type_t;

struct ir_use {      /* one operand slot */
  ir_value_t *value; /* NULL: absent optional operand */
  ir_op_t *user;
  unsigned index;        /* of this operand in user */
  ir_use_t *next, *prev; /* list of the value's uses */
};

struct ir_value {
  ir_type_t type;
  ir_op_t *def;        /* NULL for arguments of regions */
  ir_region_t *region; /* of an argument, else NULL */
  unsigned index;      /* among results or arguments */
  unsigned number;     /* printed name, dense after ir_renumber */
  const char *name;    /* ONNX name or NULL */
  ir_use_t *uses;
  /* Elements of a small integer or bool tensor where they are known as
   * expressions, expr_t*[number of elements]; NULL where they are not. */
  const expr_t *const *content;
};

typedef enum {
#define OP(id, ...) OP_##id,
#include "ir/ops.def"
  OP_COUNT
} ir_opcode_t;

/* ATTR_<op>_<name> for every ATTR row; see docs in style of the table. */
typedef enum {
#define OP(id, ...) ATTR_FIRST_##id, ATTR_BACK_##id = ATTR_FIRST_##id - 1,
#define ATTR(op, name, kind, value) ATTR_##op##_##name,
#include "ir/ops.def"
  ATTR_COUNT
} ir_attr_id_t;

typedef enum {
  IR_ATTR_INT,
  IR_ATTR_FLOAT,
  IR_ATTR_STR,
  IR_ATTR_DTYPE,
  IR_ATTR_INTS,
  IR_ATTR_FLOATS,
  IR_ATTR_STRS,
  IR_ATTR_EXPR,
  IR_ATTR_EXPRS,
  IR_ATTR_DATA,
} ir_attr_kind_t;

/* Bytes of a constant: a view of mapped or arena memory, C order, little
 * endian, possibly unaligned. Never written through. */
typedef struct ir_data {
  const void *bytes;
  uint64_t size;   /* in bytes; of strings 16 per element, as dtype_bytes */
  uint64_t digest; /* of the bytes; 0: not computed yet, see ir_data_digest */
  const char *const *strings; /* elements of a string tensor (NUL-terminated) */
} ir_data_t;

typedef struct ir_attr {
  ir_attr_id_t id;
  unsigned n; /* elements of the list kinds */
  union {
    int64_t i;
    double f;
    const char *s;
    dtype_t dtype;
    const int64_t *ints;
    const double *floats;
    const char *const *strs;
    const expr_t *expr;
    const expr_t *const *exprs;
    ir_data_t *data;
  } v;
} ir_attr_t;

struct ir_op {
  ir_module_t *module; /* whose arena and expressions it uses */
  ir_opcode_t code;
  unsigned n_in, n_out, n_attrs, n_regions;
  bool fused; /* computed inside its users, never stored (set by `fuse`) */
  uint32_t
      merges; /* `lower`: bit d: dimensions d and d + 1 are walked as one */
  ir_use_t *in;
  ir_value_t *out;
  ir_attr_t *attrs; /* present ones only, sorted by id */
  ir_region_t *regions;
  ir_region_t *parent;
  ir_op_t *prev, *next;
  ir_loc_t loc;
};

struct ir_region {
  ir_func_t *func;
  ir_op_t *owner; /* NULL: body of a function */
  unsigned n_args;
  ir_value_t *args;
  ir_op_t *first, *last; /* last is the terminator `return` or `yield` */
};

typedef enum { IR_FUNC_MAIN, IR_FUNC_KERNEL } ir_func_kind_t;

/* An input or output of the model where it is not one tensor: consecutive
 * arguments (results) of main. Of a sequence all elements T[total], then their
 * dimensions i64[n, rank]; of an optional that, or a tensor, then bool[]. */
typedef struct ir_port {
  ir_kind_t kind;   /* IR_TENSOR, IR_SEQUENCE or IR_OPTIONAL */
  bool of_sequence; /* of an optional: what it holds */
  const char *name;
  unsigned first, n; /* arguments or results */
} ir_port_t;

typedef struct ir_ports {
  unsigned n; /* 0: every argument (result) is a tensor of its own */
  ir_port_t *port;
} ir_ports_t;

/* "tensor", "sequence", "optional", "optional_sequence" */
const char *ir_port_kind_name(const ir_port_t *port);
bool ir_port_kind_by_name(const char *name, size_t length, ir_port_t *out);
/* How many tensors make it up. */
unsigned ir_port_width(const ir_port_t *port);

struct ir_func {
  ir_module_t *module;
  const char *name;
  ir_func_kind_t kind;
  ir_region_t body;
  const char **arg_names, **result_names; /* main: ONNX names */
  ir_ports_t inputs, outputs;             /* main */
  uint64_t key;      /* kernels: hash of the canonical text */
  const char *label; /* kernels: what their symbols say of nodes, or NULL */
  ir_func_t *next;
};

typedef enum { IR_LEVEL_TENSOR, IR_LEVEL_LOOP } ir_level_t;

struct ir_module {
  arena_t *arena;
  expr_pool_t *exprs;
  const char *name;
  ir_level_t level;
  ir_func_t *first, *last; /* the main function comes first */
  unsigned n_funcs;
  /* Meaning of one foldable function, filled in by tools/ (runs generated code
   * in process); see passes/fold.c. NULL: nothing is folded. */
  struct ir_evaluator *evaluator;
};

/* Runs a function without arguments and hands back the bytes of its results,
 * allocated in the module's arena. */
typedef struct ir_evaluator {
  moec_status_t (*evaluate)(struct ir_evaluator *self, ir_module_t *module,
                            ir_data_t **out_data, diag_sink_t *diag);
} ir_evaluator_t;

/* Where the result of an operation of a schedule lies. */
typedef enum {
  IR_MEMORY_SLOT,    /* workspace slot `index`, shared with others over time */
  IR_MEMORY_OUTPUT,  /* the model's output `index` */
  IR_MEMORY_GROWING, /* region `index`, sized when it is reached */
  IR_MEMORY_OPERAND, /* the memory of operand `index` */
} ir_memory_kind_t;

/* ---- Operation table -------------------------------------------------- */

enum {                /* traits */
       PURE = 1 << 0, /* no effect but its results */
       COMMUTATIVE = 1 << 1,
       TENSOR = 1 << 2, /* allowed at tensor level */
       LOOP = 1 << 3,   /* allowed in kernels or schedules at loop level */
       TERMINATOR = 1 << 4,
       ELEMENTWISE =
           1 << 5,       /* out[i] = f(in0[i], in1[i], ...), inputs broadcast */
       VIEW = 1 << 6,    /* result is operand 0's memory under another shape */
       RUNTIME = 1 << 7, /* lowered to a call of a runtime routine */
       OPTIONAL = 1 << 8, /* operands from in_min on may be absent, though
                             there may be any number */
       ALONG = 1 << 9, /* each line of operand 0 along its axis, or block along
                          its axes, by itself */
       COSTLY = 1 << 10, /* an element takes more than a few instructions */
       SCALARS = TENSOR | LOOP | ELEMENTWISE,
};

#define IR_VARIADIC 0xffffu /* in_max, out or regions: any number */
#define REQUIRED INT64_MIN  /* default of an attribute that must be present */

typedef struct ir_op_info {
  const char *mnemonic;
  unsigned in_min, in_max, out, n_regions;
  unsigned traits;
  ir_attr_id_t attr_first;
} ir_op_info_t;

typedef struct ir_attr_info {
  const char *name;
  ir_attr_kind_t kind;
  bool required;
  int64_t default_int; /* INT kind; other kinds are absent by default */
} ir_attr_info_t;

const ir_op_info_t *ir_op_info(ir_opcode_t code);
const ir_attr_info_t *ir_attr_info(ir_attr_id_t id);
bool ir_opcode_by_name(const char *name, size_t length, ir_opcode_t *out_code);
unsigned ir_n_attrs_of(ir_opcode_t code); /* rows of the op, from attr_first */
static inline bool ir_has_trait(const ir_op_t *op, unsigned trait) {
  return (ir_op_info(op->code)->traits & trait) != 0;
}

/* ---- Types ------------------------------------------------------------- */

ir_type_t ir_tensor_type(dtype_t dtype, unsigned rank,
                         const expr_t *const *dim);
ir_type_t ir_scalar_type(dtype_t dtype);
ir_type_t ir_buffer_type(dtype_t dtype);
bool ir_type_equal(const ir_type_t *a, const ir_type_t *b);
void ir_type_print(const ir_type_t *type, text_t *out); /* "f32[B,2*S]" */
const char *ir_type_str(arena_t *arena, const ir_type_t *type);
/* Number of elements as an expression. */
const expr_t *ir_type_count(expr_pool_t *pool, const ir_type_t *type);
/* Whether all dimensions are constants; their product in *out_count. */
bool ir_type_static_count(const ir_type_t *type, int64_t *out_count);

/* ---- Modules, functions, operations ------------------------------------ */

ir_module_t *ir_module_create(arena_t *arena, const char *name);
/* Appends a function; argument types are copied. */
ir_func_t *ir_func_create(ir_module_t *module, const char *name,
                          ir_func_kind_t kind, unsigned n_args,
                          const ir_type_t *arg_types);
ir_func_t *ir_func_find(ir_module_t *module, const char *name);
/* Links a function made elsewhere: main functions first, in order of adding. */
void ir_module_add(ir_module_t *module, ir_func_t *func);
/* Unlinks a function; its memory stays with the arena. */
void ir_module_remove(ir_module_t *module, ir_func_t *func);

/* Creates a detached operation; operands may be NULL where optional; result
 * types are empty until ir_infer_types or the caller sets them. */
ir_op_t *ir_op_create(ir_module_t *module, ir_opcode_t code, ir_loc_t loc,
                      unsigned n_in, ir_value_t *const *in, unsigned n_out);
/* Results for an operation that was created without. */
void ir_op_set_results(ir_op_t *op, unsigned n_out);
/* One more region for an operation with any number of them; the others move. */
ir_region_t *ir_add_region(ir_op_t *op);
/* Gives a region n_args arguments; call once per region, before filling it. */
void ir_region_set_args(ir_op_t *op, unsigned region, unsigned n_args,
                        const ir_type_t *types);
void ir_insert_before(ir_op_t *op, ir_op_t *before);
void ir_append(ir_region_t *region, ir_op_t *op);
void ir_move_before(ir_op_t *op, ir_op_t *before);
void ir_set_operand(ir_op_t *op, unsigned index, ir_value_t *value);
/* The region that a value is defined in, or an argument of. */
static inline const ir_region_t *ir_home(const ir_value_t *value) {
  return value->def != NULL ? value->def->parent : value->region;
}
/* Whether inner is outer or nested in it. */
bool ir_region_holds(const ir_region_t *outer, const ir_region_t *inner);
/* Replaces all uses; names and locations stay with the old value's operation.
 */
void ir_replace_uses(ir_value_t *old, ir_value_t *by);
/* Unlinks and forgets; results must be unused. Regions go with it. */
void ir_erase(ir_op_t *op);
unsigned ir_n_uses(const ir_value_t *value); /* linear */
static inline ir_value_t *ir_in(const ir_op_t *op, unsigned index) {
  return index < op->n_in ? op->in[index].value : NULL;
}

/* Attributes. Getters of absent INT attributes give the table's default; other
 * getters need the attribute to be present unless their comment says so. */
bool ir_has_attr(const ir_op_t *op, ir_attr_id_t id);
const ir_attr_t *ir_find_attr(const ir_op_t *op, ir_attr_id_t id); /* or NULL */
int64_t ir_get_int(const ir_op_t *op, ir_attr_id_t id);
double ir_get_float(const ir_op_t *op, ir_attr_id_t id);
const char *ir_get_str(const ir_op_t *op, ir_attr_id_t id); /* NULL if absent */
dtype_t ir_get_dtype(const ir_op_t *op,
                     ir_attr_id_t id); /* DT_NONE if absent */
const int64_t *ir_get_ints(const ir_op_t *op, ir_attr_id_t id, unsigned *out_n);
const double *ir_get_floats(const ir_op_t *op, ir_attr_id_t id,
                            unsigned *out_n);
const char *const *ir_get_strs(const ir_op_t *op, ir_attr_id_t id,
                               unsigned *out_n);
const expr_t *ir_get_expr(const ir_op_t *op, ir_attr_id_t id);
const expr_t *const *ir_get_exprs(const ir_op_t *op, ir_attr_id_t id,
                                  unsigned *out_n);
ir_data_t *ir_get_data(const ir_op_t *op, ir_attr_id_t id);
void ir_set_int(ir_op_t *op, ir_attr_id_t id, int64_t value);
void ir_set_float(ir_op_t *op, ir_attr_id_t id, double value);
void ir_set_str(ir_op_t *op, ir_attr_id_t id, const char *value);
void ir_set_dtype(ir_op_t *op, ir_attr_id_t id, dtype_t value);
void ir_set_ints(ir_op_t *op, ir_attr_id_t id, unsigned n, const int64_t *v);
void ir_set_floats(ir_op_t *op, ir_attr_id_t id, unsigned n, const double *v);
void ir_set_strs(ir_op_t *op, ir_attr_id_t id, unsigned n,
                 const char *const *v);
void ir_set_expr(ir_op_t *op, ir_attr_id_t id, const expr_t *value);
void ir_set_exprs(ir_op_t *op, ir_attr_id_t id, unsigned n,
                  const expr_t *const *v);
void ir_set_data(ir_op_t *op, ir_attr_id_t id, ir_data_t *data);
void ir_remove_attr(ir_op_t *op, ir_attr_id_t id);
uint64_t ir_data_digest(ir_data_t *data); /* computes it once */
/* Same attribute with the same value; floats as bits, sizes by structure, so
 * that the modules may be different ones. */
bool ir_attr_equal(const ir_attr_t *a, const ir_attr_t *b);
/* Gives op a copy of an attribute of an operation of its module. */
void ir_copy_attr(ir_op_t *op, const ir_attr_t *attr);
/* False where a text gave the digest alone, for which zeros stand. */
bool ir_data_is_known(const ir_data_t *data);

/* Copies an operation with its attributes and regions into `module`; operands
 * are looked up by map(user, value); NULL map keeps them. Detached. */
typedef ir_value_t *(*ir_map_fn)(void *user, ir_value_t *value);
ir_op_t *ir_clone(ir_module_t *module, const ir_op_t *op, ir_map_fn map,
                  void *user);
/* A deep copy of a module in `arena` (constants stay shared views). */
ir_module_t *ir_module_clone(const ir_module_t *module, arena_t *arena);

/* Fills in result types and contents from operands and attributes. */
moec_status_t ir_infer_types(ir_module_t *module, ir_op_t *op,
                             diag_sink_t *diag);

/* The operations of a function in program order, those of regions after the one
 * that has them; NULL after the last one, and before the first one. */
ir_op_t *ir_walk_first(const ir_func_t *func);
ir_op_t *ir_walk_next(const ir_op_t *op);
ir_op_t *ir_walk_last(const ir_func_t *func);
ir_op_t *ir_walk_prev(const ir_op_t *op);

/* Whether the shape of a while's result is known before the first trip. */
bool ir_while_knows_size(const ir_op_t *op, unsigned result);

/* moe.experts: its first operand that is a bank of that region (n_regions: how
 * many operands it should have); values begin at operand 2. */
unsigned ir_moe_first_bank(const ir_op_t *op, unsigned region);
/* The next region, with arguments of the types that follow from the operands
 * and the attributes; earlier regions move. */
ir_region_t *ir_moe_add_region(ir_op_t *op);

/* Of convolve or grouped_convolve: its attribute that is this one of convolve.
 */
ir_attr_id_t ir_convolve_attr(const ir_op_t *op, ir_attr_id_t of_convolve);

/* Numbers values densely in program order. */
void ir_renumber(ir_func_t *func);
/* The same for what a region defines, from 0. */
void ir_renumber_region(ir_region_t *region);
/* Values of a function after ir_renumber: all numbers are below this. */
unsigned ir_count_values(const ir_func_t *func);

/* ---- Text --------------------------------------------------------------- */

typedef struct ir_print_options {
  bool locations;       /* trailing "loc(...)" on operations */
  bool brief;           /* functions only, without module and symbols */
  const char *data_dir; /* where large constants' bytes go, or NULL */
} ir_print_options_t;

void ir_print(ir_module_t *module, const ir_print_options_t *options,
              text_t *out);
void ir_print_op(const ir_op_t *op, text_t *out); /* one line, for messages */
/* One function without locations; needs ir_renumber before. */
void ir_print_func(ir_func_t *func, text_t *out);
/* Parses what ir_print writes. Large constants are read from data_dir by digest
 * (NULL: they become zeros of the right size, with that digest). The result has
 * been verified. Errors name a line; a text never makes moec fail otherwise,
 * but a size beyond the arena's budget leaves with MOEC_E_LIMIT. */
moec_status_t ir_parse(arena_t *arena, const char *text, size_t length,
                       const char *data_dir, diag_sink_t *diag,
                       ir_module_t **out_module);
/* Same structure, types, attributes and digests; where they differ first is
 * described in `out_why` when that is not NULL. */
bool ir_module_equal(ir_module_t *a, ir_module_t *b, text_t *out_why);

/* Structure, levels, types by inference again. Stops at the first failure. */
moec_status_t ir_verify(ir_module_t *module, diag_sink_t *diag);

#endif
