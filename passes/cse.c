/* Merges operations of one region that compute the same: equal operation,
 * operands and attributes. One sweep forwards over a hash table, so operands
 * are merged before their users are compared. Linear; the bytes of constants
 * are read only where a few of them agree. */
#include <string.h>

#include "passes/pass.h"

typedef struct cse {
  pass_ctx_t *ctx;
  ir_op_t **slot; /* open addressing; NULL: free */
  size_t mask;
} cse_t;

/* ---- Hashes -------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
  return hash ^ hash >> 29;
}

static uint64_t mix_bytes(uint64_t hash, const void *bytes, size_t size) {
  const unsigned char *p = bytes;
  for (size_t i = 0; i < size; i++) hash = mix(hash, p[i]);
  return hash;
}

static uint64_t mix_text(uint64_t hash, const char *text) {
  return text != NULL ? mix_bytes(hash, text, strlen(text)) : hash;
}

/* A few bytes from the beginning, the middle and the end. */
static uint64_t mix_data(uint64_t hash, const ir_data_t *data) {
  enum { SAMPLE = 16 };
  hash = mix(hash, data->size);
  if (data->strings != NULL || data->bytes == NULL) return hash;
  const char *bytes = data->bytes;
  if (data->size <= 3 * SAMPLE) return mix_bytes(hash, bytes, data->size);
  hash = mix_bytes(hash, bytes, SAMPLE);
  hash = mix_bytes(hash, bytes + data->size / 2, SAMPLE);
  return mix_bytes(hash, bytes + data->size - SAMPLE, SAMPLE);
}

static uint64_t mix_attr(uint64_t hash, const ir_attr_t *attr) {
  hash = mix(mix(hash, attr->id), attr->n);
  switch (ir_attr_info(attr->id)->kind) {
    case IR_ATTR_INT:
      return mix(hash, (uint64_t)attr->v.i);
    case IR_ATTR_FLOAT:
      return mix_bytes(hash, &attr->v.f, sizeof attr->v.f);
    case IR_ATTR_STR:
      return mix_text(hash, attr->v.s);
    case IR_ATTR_DTYPE:
      return mix(hash, attr->v.dtype);
    case IR_ATTR_INTS:
      return mix_bytes(hash, attr->v.ints, attr->n * sizeof attr->v.ints[0]);
    case IR_ATTR_FLOATS:
      return mix_bytes(hash, attr->v.floats,
                       attr->n * sizeof attr->v.floats[0]);
    case IR_ATTR_STRS:
      for (unsigned i = 0; i < attr->n; i++)
        hash = mix_text(hash, attr->v.strs[i]);
      return hash;
    case IR_ATTR_EXPR:
      return mix(hash, attr->v.expr->hash);
    case IR_ATTR_EXPRS:
      for (unsigned i = 0; i < attr->n; i++)
        hash = mix(hash, attr->v.exprs[i]->hash);
      return hash;
    case IR_ATTR_DATA:
      return mix_data(hash, attr->v.data);
  }
  return hash;
}

/* What a failed check says does not count. */
static bool is_remark(const ir_attr_t *attr) {
  return attr->id == ATTR_CHECK_EQUAL_what;
}

static uint64_t hash_value(const ir_value_t *value) {
  return mix(1, (uint64_t)(uintptr_t)value);
}

static uint64_t hash_op(const ir_op_t *op) {
  uint64_t hash = mix(op->code, op->n_in), operands = 0;
  bool any_order = ir_has_trait(op, COMMUTATIVE);
  for (unsigned i = 0; i < op->n_in; i++) {
    uint64_t operand = hash_value(op->in[i].value);
    operands = any_order ? operands + operand : mix(operands, operand);
  }
  hash = mix(hash, operands);
  for (unsigned i = 0; i < op->n_attrs; i++)
    if (!is_remark(&op->attrs[i])) hash = mix_attr(hash, &op->attrs[i]);
  return hash;
}

/* ---- Equality ------------------------------------------------------------ */

static bool same_attr(const ir_attr_t *a, const ir_attr_t *b) {
  if (is_remark(a)) return a->id == b->id;
  return ir_attr_equal(a, b);
}

/* Of two zeros with different signs, the larger one is the first or the second:
 * the order of operands counts for floats. */
static bool may_swap(const ir_op_t *op) {
  bool extreme = op->code == OP_MIN || op->code == OP_MAX;
  return ir_has_trait(op, COMMUTATIVE) && op->n_in == 2 &&
         !(extreme && dtype_is_float(op->out[0].type.dtype));
}

static bool same_operands(const ir_op_t *a, const ir_op_t *b) {
  bool same = true;
  for (unsigned i = 0; i < a->n_in; i++)
    same &= a->in[i].value == b->in[i].value;
  if (same || !may_swap(a)) return same;
  return a->in[0].value == b->in[1].value && a->in[1].value == b->in[0].value;
}

/* Equal types are compared, too: one may be known better than the other. */
static bool same_op(const ir_op_t *a, const ir_op_t *b) {
  if (a->code != b->code || a->n_in != b->n_in || a->n_out != b->n_out ||
      a->n_attrs != b->n_attrs || a->fused != b->fused || !same_operands(a, b))
    return false;
  for (unsigned i = 0; i < a->n_out; i++)
    if (!ir_type_equal(&a->out[i].type, &b->out[i].type)) return false;
  for (unsigned i = 0; i < a->n_attrs; i++)
    if (!same_attr(&a->attrs[i], &b->attrs[i])) return false;
  return true;
}

/* ---- The sweep ----------------------------------------------------------- */

static bool may_merge(const ir_op_t *op) {
  return op->n_regions == 0 &&
         (ir_has_trait(op, PURE) || op->code == OP_CHECK_EQUAL);
}

/* Where an operation equal to op is, or a free slot. */
static ir_op_t **find(const cse_t *c, const ir_op_t *op) {
  size_t i = (size_t)hash_op(op) & c->mask;
  while (c->slot[i] != NULL && !same_op(c->slot[i], op)) i = (i + 1) & c->mask;
  return &c->slot[i];
}

static void merge(ir_op_t *op, ir_op_t *into) {
  for (unsigned i = 0; i < op->n_out; i++) {
    if (into->out[i].name == NULL) into->out[i].name = op->out[i].name;
    ir_replace_uses(&op->out[i], &into->out[i]);
  }
  ir_erase(op);
}

static void sweep(pass_ctx_t *ctx, ir_region_t *region) {
  size_t n = 0, capacity = 16;
  for (const ir_op_t *op = region->first; op != NULL; op = op->next) n++;
  while (capacity < 2 * n) capacity *= 2;
  cse_t c = {.ctx = ctx, .mask = capacity - 1};
  c.slot = ARENA_ARRAY(ctx->scratch, ir_op_t *, capacity);
  for (ir_op_t *op = region->first, *next; op != NULL; op = next) {
    next = op->next;
    for (unsigned i = 0; i < op->n_regions; i++) sweep(ctx, &op->regions[i]);
    if (!may_merge(op)) continue;
    ir_op_t **slot = find(&c, op);
    if (*slot == NULL)
      *slot = op;
    else if (pass_allow_rewrite(ctx, "merge-equal", op))
      merge(op, *slot);
  }
}

moec_status_t run_cse(pass_ctx_t *ctx, ir_func_t *func) {
  sweep(ctx, &func->body);
  return MOEC_OK;
}
