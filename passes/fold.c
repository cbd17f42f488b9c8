/* Computes once, while compiling, what depends on constants only.
 *
 * Values that constants alone determine are found in one sweep forwards; one
 * backwards picks those that something else uses and that are worth their
 * bytes. Together with all that leads to them they become a function without
 * arguments, which the module's evaluator runs as generated code: no operation
 * has a second meaning here. A compilation evaluates at most twice; the second
 * time is for leaving out what failed. Linear in operations and uses.
 *
 * A model must not be able to make its compilation expensive, nor its product
 * large, by a few operations on small constants: hence the limits below. */
#include <string.h>

#include "passes/layout.h"
#include "passes/pass.h"

enum { MAX_EVALUATIONS = 2 };

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)

/* Bytes of one result: up to SMALL always, up to MEDIUM if at most twice those
 * of the constants that it is made of, else no more than those. */
#define SMALL (64 * KIB)
#define MEDIUM MIB
/* Of one evaluation: bytes of its results, of everything that is read or
 * computed for them, and steps of the order of one scalar operation. */
#define MAX_RESULTS (256 * MIB)
#define MAX_BYTES (512 * MIB)
#define MAX_WORK (UINT64_C(1) << 27)
/* Operations looked at to find what results are made of, for each one of the
 * function. */
#define VISITS_PER_OP 64

typedef struct node { /* of an operation, by number of its first result */
  bool foldable;      /* results depend on constants only */
  bool absorbed;      /* chosen, or used by nothing that stays */
  bool chosen;        /* results become constants */
  bool in_batch;      /* is evaluated */
  unsigned visit;     /* the last walk that came here */
} node_t;

typedef struct cost {
  uint64_t results, bytes, work;
} cost_t;

typedef struct walk {
  bool whole;      /* also through what is in the batch */
  cost_t cost;     /* of the batch with what it found */
  uint64_t read;   /* bytes of constants, all if `whole` */
  unsigned n, top; /* of folder_t's path and stack */
} walk_t;

typedef struct folder {
  pass_ctx_t *ctx;
  ir_func_t *func;
  bool careful; /* without operations that can fail in a run */
  node_t *nodes;
  unsigned n_ops, n_chosen, visit;
  uint64_t visits_left;
  cost_t cost;             /* of the batch */
  ir_op_t **stack, **path; /* [n_ops + 1] of a walk: to be seen; seen */
} folder_t;

static node_t *node_of(const folder_t *f, const ir_op_t *op) {
  return &f->nodes[op->out[0].number];
}

/* ---- What depends on constants only -------------------------------------- */

static bool is_size(const expr_t *e) { return expr_is_const(e, NULL); }

static bool has_fixed_attrs(const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_attrs; i++) {
    const ir_attr_t *attr = &op->attrs[i];
    ir_attr_kind_t kind = ir_attr_info(attr->id)->kind;
    if (kind == IR_ATTR_EXPR && !is_size(attr->v.expr)) return false;
    for (unsigned j = 0; kind == IR_ATTR_EXPRS && j < attr->n; j++)
      if (!is_size(attr->v.exprs[j])) return false;
  }
  return true;
}

static bool is_evaluable(const ir_type_t *type) {
  int64_t count;
  dtype_class_t class = dtype_class(type->dtype);
  return type->kind == IR_TENSOR && class != DT_CLASS_STRING &&
         class != DT_CLASS_COMPLEX && dtype_bits(type->dtype) >= 8 &&
         ir_type_static_count(type, &count);
}

static bool is_constant(const ir_value_t *value) {
  return value->def != NULL && value->def->code == OP_CONSTANT &&
         value->type.kind == IR_TENSOR && value->type.dtype != DT_STR;
}

static bool can_fail(ir_opcode_t code) { /* by an index out of range */
  switch (code) {
    case OP_GATHER:
    case OP_GATHER_ELEMENTS:
    case OP_GATHER_ND:
    case OP_SCATTER_ELEMENTS:
    case OP_SCATTER_ND:
      return true;
    default:
      return false;
  }
}

/* Random numbers and effects are not pure. */
static bool is_foldable(const folder_t *f, const ir_op_t *op) {
  if (!ir_has_trait(op, PURE) || !ir_has_trait(op, TENSOR) ||
      ir_has_trait(op, TERMINATOR) || op->code == OP_CONSTANT)
    return false;
  if (op->n_out == 0 || op->n_regions > 0 || !has_fixed_attrs(op)) return false;
  if (f->careful && can_fail(op->code)) return false;
  for (unsigned i = 0; i < op->n_out; i++)
    if (!is_evaluable(&op->out[i].type)) return false;
  for (unsigned i = 0; i < op->n_in; i++) {
    const ir_value_t *x = op->in[i].value;
    if (x == NULL || is_constant(x)) continue;
    if (x->def == NULL || !node_of(f, x->def)->foldable) return false;
  }
  return true;
}

static void find_foldable(folder_t *f) {
  for (ir_op_t *op = ir_walk_first(f->func); op != NULL; op = ir_walk_next(op))
    if (op->n_out > 0) node_of(f, op)->foldable = is_foldable(f, op);
}

/* ---- What it costs ------------------------------------------------------- */

static uint64_t saturating_mul(uint64_t a, uint64_t b) {
  uint64_t product;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t saturating_add(uint64_t a, uint64_t b) {
  uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t count_of(const ir_type_t *type) {
  int64_t count = 0;
  bool is_static = ir_type_static_count(type, &count);
  MOEC_ASSERT(is_static);
  return (uint64_t)count;
}

static uint64_t bytes_of(const ir_type_t *type) {
  uint64_t count = count_of(type);
  return count > UINT64_MAX / 16 ? UINT64_MAX : dtype_bytes(type->dtype, count);
}

static uint64_t result_bytes(const ir_op_t *op) {
  uint64_t bytes = 0;
  for (unsigned i = 0; i < op->n_out; i++)
    bytes = saturating_add(bytes, bytes_of(&op->out[i].type));
  return bytes;
}

/* Elements that are read or written, whichever are more; products multiply
 * lanes at a time. */
static uint64_t work_of(const ir_op_t *op) {
  enum { LANES = 8 };
  uint64_t most = 0;
  for (unsigned i = 0; i < op->n_out; i++) {
    uint64_t count = count_of(&op->out[i].type);
    if (count > most) most = count;
  }
  if (op->code == OP_MATMUL) {
    const ir_type_t *x = &op->in[0].value->type;
    int64_t k = 0;
    expr_is_const(x->dim[x->rank - 1], &k);
    most = saturating_mul(most, (uint64_t)k / LANES + 1);
  }
  if (op->code == OP_CONVOLVE) {
    const ir_type_t *w = &op->in[1].value->type;
    int64_t filters = 1;
    expr_is_const(w->dim[0], &filters);
    uint64_t k = count_of(w) / (uint64_t)(filters > 0 ? filters : 1);
    most = saturating_mul(most, k / LANES + 1);
  }
  for (unsigned i = 0; i < op->n_in; i++) {
    if (op->in[i].value == NULL) continue;
    uint64_t count = count_of(&op->in[i].value->type);
    bool whole = op->code != OP_GATHER && op->code != OP_SLICE;
    if (whole && count > most) most = count;
  }
  return most;
}

/* ---- What is worth it ---------------------------------------------------- */

/* Views cost next to nothing where users can read through them. */
static bool is_view(ir_opcode_t code) {
  return code == OP_SLICE || code == OP_TRANSPOSE || code == OP_EXPAND ||
         code == OP_RESHAPE;
}

/* The shapes differ in dimensions of 1 only. */
static bool adds_ones(const ir_op_t *op) {
  const ir_type_t *in = &op->in[0].value->type, *out = &op->out[0].type;
  unsigned i = 0, o = 0;
  for (;;) {
    while (i < in->rank && expr_equals_const(in->dim[i], 1)) i++;
    while (o < out->rank && expr_equals_const(out->dim[o], 1)) o++;
    if (i == in->rank || o == out->rank) return i == in->rank && o == out->rank;
    if (in->dim[i++] != out->dim[o++]) return false;
  }
}

static bool stays(const folder_t *f, const ir_op_t *op) {
  return op->n_out == 0 || !node_of(f, op)->absorbed;
}

/* Whether something that stays reads each element of the view once a run from
 * where the layout of memory matters. */
static bool is_view_stored(const folder_t *f, const ir_op_t *op) {
  for (const ir_use_t *use = op->out[0].uses; use != NULL; use = use->next) {
    const ir_op_t *user = use->user;
    bool reads_through = user->code == OP_MATMUL ||
                         user->code == OP_GROUPED_MATMUL || is_view(user->code);
    if (!stays(f, user) || reads_through) continue;
    if (op->code != OP_EXPAND || !ir_has_trait(user, ELEMENTWISE)) return true;
  }
  return false;
}

/* Takes one step of a walk: op itself, what defines its operands is next. */
static void visit(folder_t *f, ir_op_t *op, walk_t *w) {
  uint64_t bytes = result_bytes(op);
  bool is_source = op->code == OP_CONSTANT;
  if (is_source) w->read = saturating_add(w->read, bytes);
  if (!node_of(f, op)->in_batch) {
    f->path[w->n++] = op;
    w->cost.bytes = saturating_add(w->cost.bytes, bytes);
    if (!is_source) w->cost.work = saturating_add(w->cost.work, work_of(op));
  }
  for (unsigned i = 0; i < op->n_in; i++) {
    if (op->in[i].value == NULL) continue;
    ir_op_t *def = op->in[i].value->def;
    node_t *node = node_of(f, def);
    if (node->visit == f->visit || (!w->whole && node->in_batch)) continue;
    node->visit = f->visit;
    f->stack[w->top++] = def;
  }
}

static bool is_affordable(const cost_t *cost) {
  return cost->results <= MAX_RESULTS && cost->bytes <= MAX_BYTES &&
         cost->work <= MAX_WORK;
}

/* Walks from op to the constants that it is made of; false when that takes or
 * costs too much. Operations that the batch lacks are left in f->path. */
static bool walk(folder_t *f, ir_op_t *op, walk_t *w) {
  node_of(f, op)->visit = ++f->visit;
  f->stack[w->top++] = op;
  while (w->top > 0) {
    if (f->visits_left == 0) return false;
    f->visits_left--;
    visit(f, f->stack[--w->top], w);
    if (!is_affordable(&w->cost)) return false;
  }
  return true;
}

/* Takes op into the batch with all that leads to it. */
static bool take(folder_t *f, ir_op_t *op) {
  uint64_t bytes = result_bytes(op);
  walk_t w = {.cost = f->cost, .whole = bytes > SMALL};
  w.cost.results = saturating_add(w.cost.results, bytes);
  if (!walk(f, op, &w)) return false;
  uint64_t most = bytes <= MEDIUM ? saturating_mul(w.read, 2) : w.read;
  if (bytes > SMALL && bytes > most) return false;
  for (unsigned i = 0; i < w.n; i++) node_of(f, f->path[i])->in_batch = true;
  f->cost = w.cost;
  f->n_chosen++;
  return true;
}

/* Whether products of groups read all of x, through views perhaps: constants
 * that are stacked for them are written into the weights one by one. So are
 * `plain` ones for convolutions of groups. */
static bool is_for_groups(const ir_value_t *x, bool plain, unsigned depth) {
  enum { MAX_VIEWS = 16 };
  if (x->uses == NULL || depth > MAX_VIEWS) return false;
  for (const ir_use_t *use = x->uses; use != NULL; use = use->next) {
    const ir_op_t *user = use->user;
    bool stays_plain = plain && user->code == OP_RESHAPE;
    if (user->code == OP_GROUPED_MATMUL && use->index == 1) continue;
    if (user->code == OP_GROUPED_CONVOLVE && use->index == 1 && plain) continue;
    if (!is_view(user->code) ||
        !is_for_groups(&user->out[0], stays_plain, depth + 1))
      return false;
  }
  return true;
}

/* Sizes and counting are free; so are other shapes of what is contiguous. */
static bool is_worth_it(const folder_t *f, const ir_op_t *op) {
  if (op->code == OP_EXPRS || op->code == OP_IOTA) return false;
  if (op->code == OP_CONCAT &&
      is_for_groups(&op->out[0], layout_stacks_plainly(op), 0))
    return false;
  if (op->code == OP_RESHAPE)
    return is_view(op->in[0].value->def->code) && !adds_ones(op);
  return !is_view(op->code) ||
         (result_bytes(op) <= MEDIUM && is_view_stored(f, op));
}

static bool has_staying_use(const folder_t *f, const ir_op_t *op) {
  for (unsigned i = 0; i < op->n_out; i++)
    for (const ir_use_t *use = op->out[i].uses; use != NULL; use = use->next)
      if (stays(f, use->user)) return true;
  return false;
}

/* Users are decided before what they use. */
static void choose(folder_t *f) {
  f->visits_left = (uint64_t)f->n_ops * VISITS_PER_OP;
  for (ir_op_t *op = ir_walk_last(f->func); op != NULL; op = ir_walk_prev(op)) {
    if (op->n_out == 0 || !node_of(f, op)->foldable) continue;
    node_t *node = node_of(f, op);
    bool is_needed = has_staying_use(f, op);
    node->chosen = is_needed && is_worth_it(f, op) && take(f, op);
    node->absorbed = node->chosen || !is_needed;
  }
}

static void study(folder_t *f, bool careful) {
  arena_t *scratch = f->ctx->scratch;
  f->careful = careful;
  f->n_ops = f->n_chosen = f->visit = 0;
  f->cost = (cost_t){0};
  ir_renumber(f->func);
  f->nodes = ARENA_ARRAY(scratch, node_t, ir_count_values(f->func) + 1);
  for (ir_op_t *op = ir_walk_first(f->func); op != NULL; op = ir_walk_next(op))
    f->n_ops++;
  f->stack = ARENA_ARRAY(scratch, ir_op_t *, f->n_ops + 1);
  f->path = ARENA_ARRAY(scratch, ir_op_t *, f->n_ops + 1);
  find_foldable(f);
  choose(f);
}

/* ---- The batch ----------------------------------------------------------- */

static bool is_wanted(const folder_t *f, const ir_op_t *op, unsigned result) {
  for (const ir_use_t *use = op->out[result].uses; use != NULL; use = use->next)
    if (stays(f, use->user)) return true;
  return false;
}

static ir_value_t *copied(void *user, ir_value_t *value) {
  ir_value_t **copies = user;
  MOEC_ASSERT(copies[value->number] != NULL);
  return copies[value->number];
}

/* A module of one function that returns the results to be folded, in program
 * order. Constants are shared views. */
static ir_module_t *make_batch(const folder_t *f, unsigned *out_n) {
  arena_t *arena = f->ctx->module->arena, *scratch = f->ctx->scratch;
  unsigned n_values = ir_count_values(f->func), n = 0;
  ir_module_t *module = ir_module_create(arena, "constants");
  ir_func_t *func = ir_func_create(module, "main", IR_FUNC_MAIN, 0, NULL);
  ir_value_t **copies = ARENA_ARRAY(scratch, ir_value_t *, n_values + 1);
  ir_value_t **results = ARENA_ARRAY(scratch, ir_value_t *, n_values + 1);
  for (ir_op_t *op = ir_walk_first(f->func); op != NULL;
       op = ir_walk_next(op)) {
    if (op->n_out == 0 || !node_of(f, op)->in_batch) continue;
    ir_op_t *copy = ir_clone(module, op, copied, copies);
    ir_append(&func->body, copy);
    for (unsigned i = 0; i < op->n_out; i++) {
      copies[op->out[i].number] = &copy->out[i];
      if (node_of(f, op)->chosen && is_wanted(f, op, i))
        results[n++] = &copy->out[i];
    }
  }
  ir_append(&func->body,
            ir_op_create(module, OP_RETURN, (ir_loc_t){0}, n, results, 0));
  *out_n = n;
  return module;
}

/* ---- Replacing ----------------------------------------------------------- */

static ir_value_t *make_constant(const folder_t *f, ir_op_t *op,
                                 unsigned result, ir_data_t *data) {
  const ir_type_t *type = &op->out[result].type;
  int64_t shape[IR_MAX_RANK];
  for (unsigned d = 0; d < type->rank; d++)
    expr_is_const(type->dim[d], &shape[d]);
  ir_op_t *constant =
      ir_op_create(f->ctx->module, OP_CONSTANT, op->loc, 0, NULL, 1);
  ir_set_dtype(constant, ATTR_CONSTANT_dtype, type->dtype);
  ir_set_ints(constant, ATTR_CONSTANT_shape, type->rank, shape);
  ir_set_data(constant, ATTR_CONSTANT_data, data);
  ir_insert_before(constant, op);
  constant->out[0].name = op->out[result].name;
  if (ir_infer_types(f->ctx->module, constant, f->ctx->diag) != MOEC_OK)
    MOEC_BUG("a folded constant has no type");
  return &constant->out[0];
}

/* Operations that lead to what was folded stay for `dce`. */
static void replace(const folder_t *f, ir_data_t *data) {
  for (ir_op_t *op = ir_walk_first(f->func); op != NULL;
       op = ir_walk_next(op)) {
    if (op->n_out == 0 || op->code == OP_CONSTANT || !node_of(f, op)->chosen)
      continue;
    unsigned n = 0;
    for (unsigned i = 0; i < op->n_out; i++) n += is_wanted(f, op, i);
    ir_data_t *first = data;
    data += n;
    if (!pass_allow_rewrite(f->ctx, "fold", op)) continue;
    for (unsigned i = 0; i < op->n_out; i++)
      if (is_wanted(f, op, i))
        ir_replace_uses(&op->out[i], make_constant(f, op, i, first++));
  }
}

static moec_status_t evaluate(folder_t *f) {
  unsigned n;
  ir_data_t *data;
  ir_evaluator_t *evaluator = f->ctx->module->evaluator;
  ir_module_t *batch = make_batch(f, &n);
  f->ctx->n_evaluations++;
  MOEC_TRY(evaluator->evaluate(evaluator, batch, &data, f->ctx->diag));
  replace(f, data);
  return MOEC_OK;
}

static bool fails_in_a_run(moec_status_t status) {
  return status == MOEC_E_INDEX || status == MOEC_E_SHAPE ||
         status == MOEC_E_VALUE;
}

moec_status_t run_fold(pass_ctx_t *ctx, ir_func_t *func) {
  folder_t f = {.ctx = ctx, .func = func};
  if (ctx->module->evaluator == NULL) return MOEC_OK;
  for (int careful = 0; careful < 2; careful++) {
    if (ctx->n_evaluations == MAX_EVALUATIONS) return MOEC_OK;
    study(&f, careful != 0);
    if (f.n_chosen == 0) return MOEC_OK;
    moec_status_t status = evaluate(&f);
    /* The model's own runs will say what is wrong. */
    if (!fails_in_a_run(status)) return status;
  }
  return MOEC_OK;
}
