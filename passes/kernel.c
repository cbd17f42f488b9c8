/* Building one kernel; see kernel.h. */
#include "passes/kernel.h"

#include <string.h>

#include "ir/build.h"

struct kernel_memo {
  ir_op_t *op;
  unsigned depth; /* of the region that holds it */
  uint64_t hash;
  kernel_memo_t *next;
};

struct kernel_entry {
  ir_func_t *func;
  const char *text;
  kernel_entry_t *next;
};

static ir_value_t *param_at(kernel_t *k, unsigned i) {
  ir_value_t **block = &k->params[i / KERNEL_PARAM_BLOCK];
  if (*block == NULL)
    *block = ARENA_ARRAY(k->module->arena, ir_value_t, KERNEL_PARAM_BLOCK);
  return &(*block)[i % KERNEL_PARAM_BLOCK];
}

void kernel_begin(kernel_t *k, ir_module_t *module, kernel_table_t *table,
                  ir_loc_t loc, unsigned n_results,
                  const dtype_t *result_dtypes) {
  arena_t *arena = module->arena;
  *k = (kernel_t){
      .module = module, .table = table, .loc = loc, .n_results = n_results};
  k->func = ARENA_NEW(arena, ir_func_t);
  k->func->module = module;
  k->func->kind = IR_FUNC_KERNEL;
  k->func->name = "kernel";
  k->func->body.func = k->func;
  k->loop[0] = (kernel_loop_t){NULL, &k->func->body, NULL};
  k->depth = 1;
  k->memo_mask = 31;
  k->memo = ARENA_ARRAY(arena, kernel_memo_t *, k->memo_mask + 1);
  for (unsigned i = 0; i < n_results; i++)
    *param_at(k, i) = (ir_value_t){.type = ir_buffer_type(result_dtypes[i]),
                                   .region = &k->func->body};
}

/* Placeholders are told apart by their place: results first, operands growing
 * from there, args growing from the end. */
static ir_value_t *operand_param(kernel_t *k, unsigned i) {
  return param_at(k, k->n_results + i);
}

static ir_value_t *arg_param(kernel_t *k, unsigned i) {
  return param_at(k, KERNEL_MAX_PARAMS - 1 - i);
}

ir_value_t *kernel_result(kernel_t *k, unsigned index) {
  MOEC_ASSERT(index < k->n_results);
  return param_at(k, index);
}

static void check_room(const kernel_t *k) {
  if (k->n_results + k->n_operands + k->n_args >= KERNEL_MAX_PARAMS)
    moec_leave(MOEC_E_LIMIT, "a kernel has more than %d parameters",
               KERNEL_MAX_PARAMS);
}

/* Room for one more element of an array with n of them. */
static void *with_room(kernel_t *k, const void *array, unsigned n,
                       unsigned *capacity, size_t size) {
  if (n < *capacity) return (void *)(uintptr_t)array;
  unsigned old = *capacity;
  *capacity = old == 0 ? 8 : 2 * old;
  return arena_grow_array(k->module->arena, array, old, *capacity, size);
}

ir_value_t *kernel_operand(kernel_t *k, ir_value_t *tensor) {
  for (unsigned i = 0; i < k->n_operands; i++)
    if (k->operand_tensor[i] == tensor) return operand_param(k, i);
  check_room(k);
  k->operand_tensor = with_room(k, k->operand_tensor, k->n_operands,
                                &k->operand_capacity, sizeof(ir_value_t *));
  k->operand_tensor[k->n_operands] = tensor;
  ir_value_t *param = operand_param(k, k->n_operands++);
  /* Elements below 8 bits are taken from their bytes by `unpack`. */
  dtype_t dtype = tensor->type.dtype;
  if (dtype_is_packed(dtype)) dtype = DT_U8;
  *param =
      (ir_value_t){.type = ir_buffer_type(dtype), .region = &k->func->body};
  return param;
}

/* ---- Placing operations -------------------------------------------------- */

static unsigned depth_of(const kernel_t *k, const ir_value_t *value) {
  const ir_region_t *region = ir_home(value);
  for (unsigned d = k->depth; d-- > 0;)
    if (k->loop[d].region == region) return d;
  MOEC_BUG("kernel value used outside its region");
}

static uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

static uint64_t hash_attr(const ir_attr_t *attr) {
  uint64_t hash = mix(attr->id, attr->n);
  switch (ir_attr_info(attr->id)->kind) {
    case IR_ATTR_STR:
      for (const char *c = attr->v.s; *c; c++) hash = mix(hash, (uint8_t)*c);
      return hash;
    case IR_ATTR_DATA:
      return mix(hash, ir_data_digest(attr->v.data));
    case IR_ATTR_DTYPE:
      return mix(hash, attr->v.dtype);
    case IR_ATTR_INTS:
      for (unsigned i = 0; i < attr->n; i++)
        hash = mix(hash, (uint64_t)attr->v.ints[i]);
      return hash;
    default:
      return mix(hash, (uint64_t)attr->v.i);
  }
}

static uint64_t hash_op(const ir_op_t *op) {
  uint64_t hash = mix(op->code, op->n_in);
  for (unsigned i = 0; i < op->n_in; i++)
    hash = mix(hash, (uint64_t)(uintptr_t)op->in[i].value);
  for (unsigned i = 0; i < op->n_attrs; i++)
    hash = mix(hash, hash_attr(&op->attrs[i]));
  return hash;
}

static bool same_op(const ir_op_t *a, const ir_op_t *b) {
  if (a->code != b->code || a->n_in != b->n_in || a->n_attrs != b->n_attrs)
    return false;
  for (unsigned i = 0; i < a->n_in; i++)
    if (a->in[i].value != b->in[i].value) return false;
  for (unsigned i = 0; i < a->n_attrs; i++)
    if (!ir_attr_equal(&a->attrs[i], &b->attrs[i])) return false;
  return true;
}

/* Inserts at the end of an open region: before the loop that is open inside it,
 * if any. */
static void insert_at(kernel_t *k, ir_op_t *op, unsigned depth) {
  ir_op_t *before =
      depth + 1 < k->depth ? k->loop[depth + 1].op : k->loop[depth].before;
  if (before != NULL)
    ir_insert_before(op, before);
  else
    ir_append(k->loop[depth].region, op);
}

static ir_op_t *detached(kernel_t *k, ir_opcode_t code, unsigned n_in,
                         ir_value_t *const *in, unsigned n_out) {
  return ir_op_create(k->module, code, k->loc, n_in, in, n_out);
}

static void infer(kernel_t *k, ir_op_t *op) {
  if (ir_infer_types(k->module, op, NULL) != MOEC_OK)
    MOEC_BUG("lowering built an invalid '%s'", ir_op_info(op->code)->mnemonic);
}

static void grow_memo(kernel_t *k) {
  unsigned mask = k->memo_mask * 2 + 1;
  kernel_memo_t **table =
      ARENA_ARRAY(k->module->arena, kernel_memo_t *, mask + 1);
  for (unsigned i = 0; i <= k->memo_mask; i++)
    for (kernel_memo_t *m = k->memo[i], *next; m != NULL; m = next) {
      next = m->next;
      m->next = table[m->hash & mask];
      table[m->hash & mask] = m;
    }
  k->memo = table;
  k->memo_mask = mask;
}

/* Places a pure operation as far out as its operands allow, or finds the one
 * that computes the same. */
static ir_value_t *place(kernel_t *k, ir_op_t *op) {
  uint64_t hash = hash_op(op);
  for (kernel_memo_t *m = k->memo[hash & k->memo_mask]; m != NULL; m = m->next)
    if (m->hash == hash && same_op(m->op, op)) {
      for (unsigned i = 0; i < op->n_in; i++) ir_set_operand(op, i, NULL);
      return m->op->out;
    }
  /* Scalars live inside the parallel region, which runs per unit; only its own
   * depth-0 body holds constants and arithmetic of parameters. */
  unsigned depth = 0;
  for (unsigned i = 0; i < op->n_in; i++) {
    unsigned d = op->in[i].value != NULL ? depth_of(k, op->in[i].value) : 0;
    if (d > depth) depth = d;
  }
  bool stays = op->code == OP_LOAD || op->code == OP_ASSERT;
  if (stays && depth == 0 && k->depth > 1) depth = 1;
  infer(k, op);
  insert_at(k, op, depth);
  kernel_memo_t *m = ARENA_NEW(k->module->arena, kernel_memo_t);
  *m = (kernel_memo_t){op, depth, hash, k->memo[hash & k->memo_mask]};
  k->memo[hash & k->memo_mask] = m;
  if (++k->memo_count > k->memo_mask) grow_memo(k);
  return op->out;
}

struct kernel_result_memo {
  const ir_value_t *tensor;
  unsigned depth, n;
  ir_value_t **idx, *scalar, *mask;
  kernel_result_memo_t *next;
};

/* Forgets what was placed in regions at `depth` or deeper. */
static void forget(kernel_t *k, unsigned depth) {
  for (kernel_result_memo_t **link = &k->results; *link != NULL;)
    if ((*link)->depth >= depth)
      *link = (*link)->next;
    else
      link = &(*link)->next;
  for (unsigned i = 0; i <= k->memo_mask; i++)
    for (kernel_memo_t **link = &k->memo[i]; *link != NULL;)
      if ((*link)->depth >= depth) {
        *link = (*link)->next;
        k->memo_count--;
      } else {
        link = &(*link)->next;
      }
}

/* ---- Scalars ------------------------------------------------------------- */

ir_value_t *kernel_const(kernel_t *k, dtype_t dtype, double value) {
  ir_builder_t b = {.module = k->module, .region = NULL, .loc = k->loc};
  ir_region_t scratch = {.func = k->func};
  b.region = &scratch;
  ir_value_t *made = ir_scalar(&b, dtype, value);
  return kernel_copy_const(k, made->def);
}

ir_value_t *kernel_int(kernel_t *k, int64_t value) {
  ir_builder_t b = {.module = k->module, .region = NULL, .loc = k->loc};
  ir_region_t scratch = {.func = k->func};
  b.region = &scratch;
  ir_value_t *made = ir_scalar_int(&b, DT_I64, value);
  return kernel_copy_const(k, made->def);
}

ir_value_t *kernel_copy_const(kernel_t *k, const ir_op_t *constant) {
  ir_op_t *op = detached(k, OP_CONSTANT, 0, NULL, 1);
  ir_set_dtype(op, ATTR_CONSTANT_dtype,
               ir_get_dtype(constant, ATTR_CONSTANT_dtype));
  ir_set_ints(op, ATTR_CONSTANT_shape, 0, NULL);
  ir_set_data(op, ATTR_CONSTANT_data,
              ir_get_data(constant, ATTR_CONSTANT_data));
  return place(k, op);
}

ir_value_t *kernel_size(kernel_t *k, const expr_t *e) {
  int64_t value;
  if (expr_is_const(e, &value) && (value == 0 || value == 1))
    return kernel_int(k, value);
  for (unsigned i = 0; i < k->n_args; i++)
    if (k->arg_expr[i] == e) return arg_param(k, i);
  check_room(k);
  k->arg_expr =
      with_room(k, k->arg_expr, k->n_args, &k->arg_capacity, sizeof(expr_t *));
  k->arg_expr[k->n_args] = e;
  ir_value_t *param = arg_param(k, k->n_args++);
  *param =
      (ir_value_t){.type = ir_scalar_type(DT_I64), .region = &k->func->body};
  return param;
}

static bool is_int(const ir_value_t *x, int64_t value) {
  return x->content != NULL && expr_equals_const(x->content[0], value);
}

ir_value_t *kernel_unary(kernel_t *k, ir_opcode_t code, ir_value_t *x) {
  return place(k, detached(k, code, 1, &x, 1));
}

ir_value_t *kernel_binary(kernel_t *k, ir_opcode_t code, ir_value_t *x,
                          ir_value_t *y) {
  if (x->type.dtype == DT_I64) {
    if (code == OP_ADD && is_int(x, 0)) return y;
    if ((code == OP_ADD || code == OP_SUB) && is_int(y, 0)) return x;
    if (code == OP_MUL && (is_int(x, 0) || is_int(y, 1))) return x;
    if (code == OP_MUL && (is_int(y, 0) || is_int(x, 1))) return y;
    if (code == OP_DIV && is_int(y, 1)) return x;
    if (code == OP_MOD && is_int(y, 1)) return kernel_int(k, 0);
  }
  return place(k, detached(k, code, 2, (ir_value_t *[]){x, y}, 1));
}

ir_value_t *kernel_mul_add(kernel_t *k, ir_value_t *a, ir_value_t *b,
                           ir_value_t *sum) {
  return place(k, detached(k, OP_MUL_ADD, 3, (ir_value_t *[]){a, b, sum}, 1));
}

ir_value_t *kernel_select(kernel_t *k, ir_value_t *c, ir_value_t *x,
                          ir_value_t *y) {
  return place(k, detached(k, OP_SELECT, 3, (ir_value_t *[]){c, x, y}, 1));
}

ir_value_t *kernel_cast(kernel_t *k, ir_value_t *x, dtype_t to) {
  if (x->type.dtype == to) return x;
  ir_op_t *op = detached(k, OP_CAST, 1, &x, 1);
  ir_set_dtype(op, ATTR_CAST_to, to);
  return place(k, op);
}

ir_value_t *kernel_like(kernel_t *k, const ir_op_t *like, unsigned n_in,
                        ir_value_t *const *in) {
  ir_op_t *op = detached(k, like->code, n_in, in, 1);
  for (unsigned i = 0; i < like->n_attrs; i++)
    ir_copy_attr(op, &like->attrs[i]);
  return place(k, op);
}

/* ---- Memory -------------------------------------------------------------- */

ir_value_t *kernel_load(kernel_t *k, ir_value_t *buffer, ir_value_t *index,
                        ir_value_t *mask) {
  if (k->mask != NULL && mask != NULL)
    mask = kernel_binary(k, OP_AND, mask, k->mask);
  else if (mask == NULL)
    mask = k->mask;
  ir_value_t *in[] = {buffer, index, mask};
  return place(k, detached(k, OP_LOAD, mask ? 3 : 2, in, 1));
}

ir_value_t *kernel_load_fresh(kernel_t *k, ir_value_t *buffer,
                              ir_value_t *index) {
  ir_op_t *op = detached(k, OP_LOAD, 2, (ir_value_t *[]){buffer, index}, 1);
  infer(k, op);
  insert_at(k, op, k->depth - 1);
  return &op->out[0];
}

void kernel_store(kernel_t *k, ir_value_t *buffer, ir_value_t *index,
                  ir_value_t *value, ir_value_t *mask) {
  ir_value_t *in[] = {buffer, index, value, mask};
  insert_at(k, detached(k, OP_STORE, mask ? 4 : 3, in, 0), k->depth - 1);
}

void kernel_assert(kernel_t *k, ir_value_t *cond, moec_status_t status) {
  if (k->mask != NULL)
    cond = kernel_binary(k, OP_OR, cond, kernel_unary(k, OP_NOT, k->mask));
  ir_op_t *op = detached(k, OP_ASSERT, 1, &cond, 0);
  ir_set_int(op, ATTR_ASSERT_status, status);
  place(k, op);
}

/* ---- Loops --------------------------------------------------------------- */

static void open_region(kernel_t *k, ir_op_t *op, unsigned n_args,
                        const ir_type_t *types) {
  ir_region_set_args(op, 0, n_args, types);
  insert_at(k, op, k->depth - 1);
  if (k->depth == KERNEL_MAX_DEPTH)
    moec_leave(MOEC_E_LIMIT, "a kernel has more than %d nested loops",
               KERNEL_MAX_DEPTH);
  k->loop[k->depth++] = (kernel_loop_t){op, &op->regions[0], NULL};
}

static ir_value_t *open_loop(kernel_t *k, ir_op_t *op) {
  ir_type_t index = ir_scalar_type(DT_I64);
  open_region(k, op, 1, &index);
  return &op->regions[0].args[0];
}

ir_value_t *kernel_parallel(kernel_t *k) {
  MOEC_ASSERT(k->depth == 1);
  return open_loop(k, detached(k, OP_PARALLEL, 0, NULL, 0));
}

ir_value_t *kernel_for(kernel_t *k, ir_value_t *begin, ir_value_t *end,
                       bool vector) {
  ir_op_t *op = detached(k, OP_FOR, 2, (ir_value_t *[]){begin, end}, 0);
  if (vector && k->vector_depth == 0) {
    ir_set_int(op, ATTR_FOR_vector, 1);
    k->vector_depth = k->depth;
  }
  return open_loop(k, op);
}

ir_value_t *kernel_for_turned(kernel_t *k, ir_value_t *begin, ir_value_t *end) {
  ir_op_t *op = detached(k, OP_FOR, 2, (ir_value_t *[]){begin, end}, 0);
  ir_set_int(op, ATTR_FOR_turn, 1);
  return open_loop(k, op);
}

static void close_with(kernel_t *k, ir_value_t *value) {
  MOEC_ASSERT(k->depth > 1);
  ir_op_t *yield = detached(k, OP_YIELD, value != NULL, &value, 0);
  insert_at(k, yield, k->depth - 1);
  forget(k, k->depth - 1);
  k->depth--;
  if (k->vector_depth == k->depth) k->vector_depth = 0;
}

void kernel_close(kernel_t *k) { close_with(k, NULL); }

ir_value_t *kernel_reduce(kernel_t *k, const char *kind, ir_value_t *begin,
                          ir_value_t *end, bool vector) {
  ir_op_t *op = detached(k, OP_REDUCE, 2, (ir_value_t *[]){begin, end}, 1);
  ir_set_str(op, ATTR_REDUCE_kind, kind);
  if (vector && k->vector_depth == 0) {
    ir_set_int(op, ATTR_REDUCE_vector, 1);
    k->vector_depth = k->depth;
  }
  return open_loop(k, op);
}

/* The result of a loop; types follow from the closed region. */
static ir_value_t *close_loop(kernel_t *k, ir_value_t *value) {
  ir_op_t *op = k->loop[k->depth - 1].op;
  close_with(k, value);
  op->out[0].type = value->type;
  infer(k, op);
  return &op->out[0];
}

ir_value_t *kernel_close_reduce(kernel_t *k, ir_value_t *value) {
  return close_loop(k, value);
}

ir_value_t *kernel_fold(kernel_t *k, ir_value_t *begin, ir_value_t *end,
                        ir_value_t *init, ir_value_t **out_acc) {
  ir_op_t *op = detached(k, OP_FOLD, 3, (ir_value_t *[]){begin, end, init}, 1);
  ir_type_t types[] = {ir_scalar_type(DT_I64), init->type};
  open_region(k, op, 2, types);
  *out_acc = &op->regions[0].args[1];
  return &op->regions[0].args[0];
}

ir_value_t *kernel_close_fold(kernel_t *k, ir_value_t *value) {
  return close_loop(k, value);
}

void kernel_when(kernel_t *k, ir_value_t *cond) {
  open_region(k, detached(k, OP_WHEN, 1, &cond, 0), 0, NULL);
}

void kernel_product_tile(kernel_t *k, unsigned n, ir_value_t *const *in,
                         dtype_t acc, ir_value_t **out_args) {
  ir_op_t *op = detached(k, OP_PRODUCT_TILE, n, in, 0);
  unsigned n_args = n == 10 ? 3 : 4;
  ir_set_dtype(op, ATTR_PRODUCT_TILE_acc, acc);
  ir_type_t types[] = {ir_scalar_type(acc), ir_scalar_type(DT_I64),
                       ir_scalar_type(DT_I64), ir_scalar_type(DT_I64)};
  k->vector_depth = k->depth;
  open_region(k, op, n_args, types);
  for (unsigned i = 0; i < n_args; i++) out_args[i] = &op->regions[0].args[i];
}

void kernel_hoist(kernel_t *k, unsigned n, ir_value_t *const *idx,
                  kernel_hoisted_t *out_saved) {
  unsigned depth = k->depth > 1 ? 1 : 0; /* never out of the parallel region */
  for (unsigned i = 0; i < n; i++) {
    unsigned d = depth_of(k, idx[i]);
    if (d > depth) depth = d;
  }
  if (k->mask != NULL && depth_of(k, k->mask) > depth)
    depth = depth_of(k, k->mask);
  if (k->anchor_scalar != NULL && depth_of(k, k->anchor_scalar) > depth)
    depth = depth_of(k, k->anchor_scalar);
  *out_saved = (kernel_hoisted_t){k->depth, k->vector_depth, {{0}}};
  memcpy(out_saved->loop, k->loop, sizeof k->loop);
  if (depth + 1 == k->depth) return;
  k->loop[depth].before = k->loop[depth + 1].op;
  k->depth = depth + 1;
  if (k->vector_depth >= k->depth) k->vector_depth = 0;
}

void kernel_unhoist(kernel_t *k, const kernel_hoisted_t *saved) {
  memcpy(k->loop, saved->loop, sizeof k->loop);
  k->depth = saved->depth;
  k->vector_depth = saved->vector_depth;
}

ir_value_t *kernel_recall(kernel_t *k, const ir_value_t *tensor, unsigned n,
                          ir_value_t *const *idx) {
  for (const kernel_result_memo_t *m = k->results; m != NULL; m = m->next)
    if (m->tensor == tensor && m->n == n && m->mask == k->mask &&
        (n == 0 || memcmp(m->idx, idx, n * sizeof *idx) == 0))
      return m->scalar;
  return NULL;
}

void kernel_remember(kernel_t *k, const ir_value_t *tensor, unsigned n,
                     ir_value_t *const *idx, ir_value_t *scalar) {
  kernel_result_memo_t *m = ARENA_NEW(k->module->arena, kernel_result_memo_t);
  ir_value_t **copy = ARENA_ARRAY(k->module->arena, ir_value_t *, n);
  for (unsigned i = 0; i < n; i++) copy[i] = idx[i];
  *m = (kernel_result_memo_t){tensor,  depth_of(k, scalar), n, copy, scalar,
                              k->mask, k->results};
  k->results = m;
}

/* ---- The end ------------------------------------------------------------- */

/* Moves the used placeholders into the function's real arguments. */
static void settle_params(kernel_t *k) {
  unsigned n = k->n_results + k->n_operands + k->n_args;
  ir_value_t *args = ARENA_ARRAY(k->module->arena, ir_value_t, n);
  for (unsigned i = 0; i < n; i++) {
    unsigned first_arg = k->n_results + k->n_operands;
    ir_value_t *old =
        i < first_arg ? param_at(k, i) : arg_param(k, i - first_arg);
    args[i] =
        (ir_value_t){.type = old->type, .region = &k->func->body, .index = i};
    ir_replace_uses(old, &args[i]);
  }
  k->func->body.args = args;
  k->func->body.n_args = n;
}

static uint64_t hash_text(const text_t *text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < text->length; i++)
    hash = (hash ^ (uint8_t)text->data[i]) * 0x100000001b3u;
  return mix(hash, text->length);
}

static kernel_entry_t **bucket_of(kernel_table_t *table, uint64_t key) {
  return &table->bucket[key % (sizeof table->bucket / sizeof table->bucket[0])];
}

ir_func_t *kernel_end(kernel_t *k, const char *family) {
  while (k->depth > 1) kernel_close(k);
  ir_append(&k->func->body, detached(k, OP_RETURN, 0, NULL, 0));
  settle_params(k);
  ir_renumber(k->func);
  text_t *text = &k->table->text;
  if (text->data == NULL) text_init(text, k->module->arena);
  text->length = 0;
  ir_print_func(k->func, text); /* still without its name */
  uint64_t key = hash_text(text);
  kernel_entry_t **bucket = bucket_of(k->table, key);
  for (kernel_entry_t *e = *bucket; e != NULL; e = e->next)
    if (e->func->key == key && strcmp(e->text, text->data) == 0) return e->func;

  dtype_t dtype = k->n_results > 0 ? k->func->body.args[0].type.dtype : DT_NONE;
  k->func->key = key;
  k->func->name = arena_printf(k->module->arena, "k_%s_%s_%016llx", family,
                               dtype_name(dtype), (unsigned long long)key);
  ir_module_add(k->module, k->func);
  kernel_entry_t *entry = ARENA_NEW(k->module->arena, kernel_entry_t);
  *entry = (kernel_entry_t){
      k->func, arena_strndup(k->module->arena, text->data, text->length),
      *bucket};
  *bucket = entry;
  return k->func;
}
