/* Einsum: a sum of products of elements of tensors, by named dimensions.
 *
 * Operands are joined from left to right. Before each step a dimension that no
 * later operand and not the result needs is summed away; two operands meet in a
 * batched matrix product: [batch, left only, summed] x [batch, summed, right
 * only]. */
#include <string.h>

#include "frontend/convert.h"

enum {
  LETTERS = 52,
  LABELS = LETTERS + IR_MAX_RANK, /* then dimensions of the ellipsis */
};

/* Labels of a tensor's dimensions, all different once diagonals are taken. */
typedef struct term {
  ir_value_t *x;
  unsigned n;
  uint8_t label[IR_MAX_RANK];
} term_t;

typedef struct einsum {
  unsigned n_terms;
  term_t *terms;
  unsigned n_ellipsis; /* dimensions that "..." stands for */
  unsigned n_out;
  uint8_t out[IR_MAX_RANK];
  bool in_out[LABELS];
  unsigned uses[LABELS]; /* terms that have the label */
} einsum_t;

static int letter_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A'; /* ASCII order: capitals first */
  if (c >= 'a' && c <= 'z') return 26 + c - 'a';
  return -1;
}

/* One term of the equation without spaces: letters and perhaps one "...". */
typedef struct pattern {
  unsigned n_before, n_after;
  uint8_t before[IR_MAX_RANK], after[IR_MAX_RANK];
  bool ellipsis;
} pattern_t;

static bool parse_pattern(convert_ctx_t *ctx, const char **cursor,
                          pattern_t *out) {
  *out = (pattern_t){0};
  const char *c = *cursor;
  for (;; c++) {
    int letter = letter_of(*c);
    if (letter >= 0) {
      uint8_t *list = out->ellipsis ? out->after : out->before;
      unsigned *n = out->ellipsis ? &out->n_after : &out->n_before;
      if (out->n_before + out->n_after == IR_MAX_RANK) {
        ctx_error(ctx, MOEC_E_LIMIT, "a term has more than %d letters",
                  IR_MAX_RANK);
        return false;
      }
      list[(*n)++] = (uint8_t)letter;
    } else if (c[0] == '.' && c[1] == '.' && c[2] == '.' && !out->ellipsis) {
      out->ellipsis = true;
      c += 2;
    } else {
      break;
    }
  }
  *cursor = c;
  return true;
}

static const char *without_spaces(convert_ctx_t *ctx, const char *text) {
  char *copy = arena_strdup(ctx->arena, text);
  size_t n = 0;
  for (const char *c = text; *c != '\0'; c++)
    if (*c != ' ') copy[n++] = *c;
  copy[n] = '\0';
  return copy;
}

/* Labels of an operand; the ellipsis takes the dimensions that are left. */
static bool label_term(convert_ctx_t *ctx, einsum_t *e, const pattern_t *p,
                       unsigned index) {
  ir_value_t *x = ctx_in(ctx, index);
  term_t *term = &e->terms[index];
  unsigned rank = x->type.rank, letters = p->n_before + p->n_after;
  if (letters > rank || (!p->ellipsis && letters < rank)) {
    ctx_invalid(ctx, "operand %u is %s, the equation has %u letters for it",
                index, ctx_type_str(ctx, x), letters);
    return false;
  }
  unsigned rest = rank - letters;
  if (rest > e->n_ellipsis) e->n_ellipsis = rest;
  term->x = x;
  term->n = rank;
  for (unsigned i = 0; i < p->n_before; i++) term->label[i] = p->before[i];
  /* Dimensions of the ellipsis count from its end, as broadcasts do. */
  for (unsigned i = 0; i < rest; i++)
    term->label[p->n_before + i] = (uint8_t)(LETTERS + rest - 1 - i);
  for (unsigned i = 0; i < p->n_after; i++)
    term->label[p->n_before + rest + i] = p->after[i];
  return true;
}

static bool explicit_output(convert_ctx_t *ctx, einsum_t *e,
                            const char *cursor) {
  pattern_t p;
  if (!parse_pattern(ctx, &cursor, &p)) return false;
  if (*cursor != '\0') {
    ctx_invalid(ctx, "the equation has \"%s\" where it should end", cursor);
    return false;
  }
  if (p.n_before + p.n_after + e->n_ellipsis > IR_MAX_RANK) {
    ctx_error(ctx, MOEC_E_LIMIT, "the result has too many dimensions");
    return false;
  }
  for (unsigned i = 0; i < p.n_before; i++) e->out[e->n_out++] = p.before[i];
  if (p.ellipsis)
    for (unsigned i = e->n_ellipsis; i > 0; i--)
      e->out[e->n_out++] = (uint8_t)(LETTERS + i - 1);
  for (unsigned i = 0; i < p.n_after; i++) e->out[e->n_out++] = p.after[i];
  return true;
}

/* Without "->": the ellipsis, then letters that occur once, in order. */
static bool implicit_output(convert_ctx_t *ctx, einsum_t *e) {
  unsigned count[LETTERS] = {0};
  for (unsigned i = 0; i < e->n_terms; i++)
    for (unsigned j = 0; j < e->terms[i].n; j++)
      if (e->terms[i].label[j] < LETTERS) count[e->terms[i].label[j]]++;
  for (unsigned i = e->n_ellipsis; i > 0; i--)
    e->out[e->n_out++] = (uint8_t)(LETTERS + i - 1);
  for (unsigned i = 0; i < LETTERS; i++) {
    if (count[i] != 1) continue;
    if (e->n_out == IR_MAX_RANK) {
      ctx_error(ctx, MOEC_E_LIMIT, "the result has too many dimensions");
      return false;
    }
    e->out[e->n_out++] = (uint8_t)i;
  }
  return true;
}

static bool parse_equation(convert_ctx_t *ctx, einsum_t *e) {
  if (!attr_has(ctx, "equation")) {
    ctx_invalid(ctx, "required attribute \"equation\" is missing");
    return false;
  }
  const char *text = without_spaces(ctx, attr_str(ctx, "equation", ""));
  if (ctx->status != MOEC_OK) return false;
  const char *cursor = text;
  for (unsigned i = 0; i < e->n_terms; i++) {
    pattern_t p;
    if (!parse_pattern(ctx, &cursor, &p)) return false;
    if (!label_term(ctx, e, &p, i)) return false;
    bool last = i + 1 == e->n_terms;
    bool ends = *cursor == '\0' || (cursor[0] == '-' && cursor[1] == '>');
    if (last ? !ends : *cursor != ',') {
      ctx_invalid(ctx, "equation \"%s\" does not have %u terms", text,
                  e->n_terms);
      return false;
    }
    if (!last) cursor++;
  }
  if (*cursor == '-' ? !explicit_output(ctx, e, cursor + 2)
                     : !implicit_output(ctx, e))
    return false;
  for (unsigned i = 0; i < e->n_out; i++) {
    if (e->in_out[e->out[i]]) {
      ctx_invalid(ctx, "a letter occurs twice in the result of \"%s\"", text);
      return false;
    }
    e->in_out[e->out[i]] = true;
  }
  return true;
}

static int find_label(const term_t *term, unsigned label) {
  for (unsigned i = 0; i < term->n; i++)
    if (term->label[i] == label) return (int)i;
  return -1;
}

static void remove_label(term_t *term, unsigned index) {
  term->n--;
  for (unsigned i = index; i < term->n; i++)
    term->label[i] = term->label[i + 1];
}

/* x[.., i, .., i, ..] as x[.., i, ..]: the elements where two indices agree, by
 * zeroing the others and summing one index away. */
static bool take_diagonals(convert_ctx_t *ctx, term_t *term) {
  for (unsigned i = 0; i < term->n; i++) {
    for (unsigned j = i + 1; j < term->n;) {
      if (term->label[j] != term->label[i]) {
        j++;
        continue;
      }
      ir_builder_t *b = ctx->b;
      unsigned rank = term->n;
      const expr_t *d = ctx_dim(term->x, i);
      ir_check_equal(b, d, ctx_dim(term->x, j), "dimensions of one letter");
      ir_value_t *place = ir_iota(b, DT_I64, d);
      ir_value_t *same = ctx_along(ctx, place, i, rank);
      same = ir_binary(b, OP_EQ, same, ctx_along(ctx, place, j, rank));
      ir_value_t *kept =
          ir_select(b, same, term->x, ctx_scalar(ctx, term->x, 0));
      int64_t axis = j;
      term->x = ir_reduce(b, OP_REDUCE_SUM, kept, 1, &axis, false);
      if (term->x == NULL) return false;
      remove_label(term, j);
    }
  }
  return true;
}

/* Sums away dimensions that nothing needs any more. */
static void sum_unneeded(convert_ctx_t *ctx, einsum_t *e, term_t *term) {
  int64_t axes[IR_MAX_RANK];
  unsigned n = 0;
  for (unsigned i = 0; i < term->n; i++)
    if (!e->in_out[term->label[i]] && e->uses[term->label[i]] == 1)
      axes[n++] = i;
  if (n == 0) return;
  term->x = ir_reduce(ctx->b, OP_REDUCE_SUM, term->x, n, axes, false);
  for (unsigned i = n; i > 0; i--) {
    e->uses[term->label[axes[i - 1]]]--;
    remove_label(term, (unsigned)axes[i - 1]);
  }
}

typedef struct group {
  unsigned n;
  uint8_t label[IR_MAX_RANK];
  const expr_t *dim[IR_MAX_RANK];
  const expr_t *size; /* product of dim */
} group_t;

static void add_label(convert_ctx_t *ctx, group_t *group, unsigned label,
                      const expr_t *dim) {
  group->label[group->n] = (uint8_t)label;
  group->dim[group->n++] = dim;
  group->size = expr_mul(ctx->exprs, group->size, dim);
}

/* x with its dimensions in the order of three groups, each as one dimension;
 * the first one, of the batch, is left out when it has none. Dimensions of 1
 * are stretched where the other operand has more. */
static ir_value_t *arrange(convert_ctx_t *ctx, const term_t *term,
                           const group_t *const *groups) {
  int64_t perm[IR_MAX_RANK];
  const expr_t *full[IR_MAX_RANK], *joined[3];
  unsigned n = 0, n_joined = 0;
  for (unsigned g = 0; g < 3; g++) {
    if (g > 0 || groups[g]->n > 0) joined[n_joined++] = groups[g]->size;
    for (unsigned i = 0; i < groups[g]->n; i++) {
      perm[n] = find_label(term, groups[g]->label[i]);
      full[n++] = groups[g]->dim[i];
    }
  }
  MOEC_ASSERT(n == term->n);
  ir_value_t *x = ir_transpose(ctx->b, term->x, perm);
  x = ir_expand(ctx->b, x, n, full);
  return ir_reshape(ctx->b, x, n_joined, joined);
}

/* x with dimensions [batch.., left.., right..], of 1 where it has none. */
static ir_value_t *spread(convert_ctx_t *ctx, const term_t *term,
                          const group_t *const *groups) {
  int64_t perm[IR_MAX_RANK];
  const expr_t *dim[IR_MAX_RANK];
  unsigned n = 0, rank = 0;
  for (unsigned g = 0; g < 3; g++)
    for (unsigned i = 0; i < groups[g]->n; i++) {
      int index = find_label(term, groups[g]->label[i]);
      dim[rank++] =
          index < 0 ? ctx_int(ctx, 1) : ctx_dim(term->x, (unsigned)index);
      if (index >= 0) perm[n++] = index;
    }
  return ir_reshape(ctx->b, ir_transpose(ctx->b, term->x, perm), rank, dim);
}

/* *x becomes the product of *x and *y. */
static bool join(convert_ctx_t *ctx, einsum_t *e, term_t *x, const term_t *y) {
  const expr_t *one = ctx_int(ctx, 1);
  group_t batch = {.size = one}, left = {.size = one}, sum = {.size = one};
  group_t right = {.size = one};
  for (unsigned i = 0; i < x->n; i++) {
    unsigned label = x->label[i];
    const expr_t *dim = ctx_dim(x->x, i);
    int other = find_label(y, label);
    if (other < 0) {
      add_label(ctx, &left, label, dim);
      continue;
    }
    const expr_t *theirs = ctx_dim(y->x, (unsigned)other);
    ctx_check_dims(ctx, dim, theirs);
    dim = expr_broadcast(ctx->exprs, dim, theirs);
    bool needed = e->in_out[label] || e->uses[label] > 2;
    add_label(ctx, needed ? &batch : &sum, label, dim);
    e->uses[label]--;
  }
  for (unsigned i = 0; i < y->n; i++)
    if (find_label(x, y->label[i]) < 0)
      add_label(ctx, &right, y->label[i], ctx_dim(y->x, i));
  if (batch.n + left.n + right.n > IR_MAX_RANK) {
    ctx_error(ctx, MOEC_E_LIMIT, "a product has too many dimensions");
    return false;
  }
  const group_t *as_left[] = {&batch, &left, &sum};
  const group_t *as_right[] = {&batch, &sum, &right};
  const group_t *result[] = {&batch, &left, &right};
  const expr_t *dim[IR_MAX_RANK];
  bool sums = sum.n > 0;
  ir_value_t *p = sums ? arrange(ctx, x, as_left) : spread(ctx, x, result);
  ir_value_t *q = sums ? arrange(ctx, y, as_right) : spread(ctx, y, result);
  p = sums ? ir_binary(ctx->b, OP_MATMUL, p, q) : ctx_binary(ctx, OP_MUL, p, q);
  x->n = 0;
  for (unsigned g = 0; g < 3; g++)
    for (unsigned i = 0; i < result[g]->n; i++) {
      dim[x->n] = result[g]->dim[i];
      x->label[x->n++] = result[g]->label[i];
    }
  for (unsigned i = 0; i < sum.n; i++) e->uses[sum.label[i]] = 0;
  x->x = p != NULL ? ir_reshape(ctx->b, p, x->n, dim) : NULL;
  return x->x != NULL;
}

/* The result's dimensions in order; labels of the result that no operand has
 * can only be of an ellipsis without dimensions. */
static moec_status_t finish(convert_ctx_t *ctx, const einsum_t *e,
                            const term_t *term) {
  int64_t perm[IR_MAX_RANK];
  for (unsigned i = 0; i < e->n_out; i++) {
    int index = find_label(term, e->out[i]);
    if (index < 0)
      return ctx_invalid(ctx, "a letter of the result is in no operand");
    perm[i] = index;
  }
  MOEC_ASSERT(term->n == e->n_out);
  ctx_set_output(
      ctx, 0,
      ctx_like(ctx, ir_transpose(ctx->b, term->x, perm), ctx_in(ctx, 0)));
  return MOEC_OK;
}

moec_status_t convert_einsum(convert_ctx_t *ctx) {
  einsum_t e = {.n_terms = ctx->n_in,
                .terms = ARENA_ARRAY(ctx->arena, term_t, ctx->n_in)};
  if (!parse_equation(ctx, &e)) return ctx->status;
  for (unsigned i = 0; i < e.n_terms; i++) {
    term_t *term = &e.terms[i];
    if (term->x->type.dtype != e.terms[0].x->type.dtype)
      return ctx_invalid(ctx, "operand %u is %s, operand 0 is %s", i,
                         ctx_type_str(ctx, term->x),
                         ctx_type_str(ctx, e.terms[0].x));
    if (!take_diagonals(ctx, term)) return ctx_status(ctx);
    for (unsigned j = 0; j < term->n; j++) e.uses[term->label[j]]++;
  }
  term_t acc = e.terms[0];
  sum_unneeded(ctx, &e, &acc);
  for (unsigned i = 1; i < e.n_terms; i++) {
    sum_unneeded(ctx, &e, &e.terms[i]);
    if (acc.x == NULL || e.terms[i].x == NULL) return ctx_status(ctx);
    if (!join(ctx, &e, &acc, &e.terms[i])) return ctx_status(ctx);
  }
  if (acc.x == NULL) return ctx_status(ctx);
  return finish(ctx, &e, &acc);
}
