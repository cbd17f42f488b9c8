/* Experts that all tokens run through: parts of the sum that a layer is added
 * to which are products of its tokens with weights, and of nothing else. */
#include "passes/moe_beside.h"

#include "passes/moe_rules.h"

enum { MAX_TOKENS = 8, MAX_SEEN = 256, MAX_TERMS = 256, MAX_SUMS = 8 };

typedef struct tokens {
  unsigned n, n_seen, n_products, n_terms;
  const moe_term_t *terms[MAX_TERMS]; /* that were looked at */
  const ir_value_t *of[MAX_TOKENS];   /* what experts compute with */
  const ir_value_t *seen[MAX_SEEN];   /* while one part is looked at */
  bool meets; /* a token was among what it was made of */
} tokens_t;

static const ir_value_t *without_views(const ir_value_t *x) {
  while (x->def != NULL &&
         (x->def->code == OP_RESHAPE || x->def->code == OP_CAST))
    x = ir_in(x->def, 0);
  return x;
}

static void find_tokens(tokens_t *t, const moe_term_t *term, unsigned depth) {
  enum { MAX_NESTED = 64 };
  if (depth > MAX_NESTED || !term->tokens || t->n_terms == MAX_TERMS) return;
  for (unsigned i = 0; i < t->n_terms; i++)
    if (t->terms[i] == term) return;
  t->terms[t->n_terms++] = term;
  for (unsigned i = 0; i < term->n; i++) find_tokens(t, term->in[i], depth + 1);
  if (term->kind != TERM_TOKEN || t->n == MAX_TOKENS) return;
  const ir_value_t *value = without_views(term->value);
  for (unsigned i = 0; i < t->n; i++)
    if (t->of[i] == value) return;
  t->of[t->n++] = value;
}

static bool is_computed(const ir_op_t *op) {
  switch (op->code) {
    case OP_MATMUL:
    case OP_CONVOLVE:
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_EXPAND:
    case OP_SLICE:
    case OP_CONCAT:
      return true;
    default:
      return ir_has_trait(op, ELEMENTWISE);
  }
}

static bool is_made_of_tokens(tokens_t *t, const ir_value_t *x,
                              unsigned depth) {
  enum { MAX_NESTED = 64 };
  const ir_value_t *seen = without_views(x);
  for (unsigned i = 0; i < t->n; i++)
    if (t->of[i] == seen) return t->meets = true;
  if (x->def != NULL && x->def->code == OP_CONSTANT) return true;
  for (unsigned i = 0; i < t->n_seen; i++)
    if (t->seen[i] == x) return true;
  if (x->def == NULL || depth > MAX_NESTED || t->n_seen == MAX_SEEN ||
      !is_computed(x->def))
    return false;
  t->seen[t->n_seen++] = x;
  const ir_op_t *op = x->def;
  t->n_products += op->code == OP_MATMUL || op->code == OP_CONVOLVE;
  for (unsigned i = 0; i < op->n_in; i++)
    if (ir_in(op, i) != NULL && !is_made_of_tokens(t, ir_in(op, i), depth + 1))
      return false;
  return true;
}

/* How many of the parts of a sum are experts. */
static int64_t count_parts(tokens_t *t, const ir_value_t *x, unsigned depth) {
  const ir_op_t *op = without_views(x)->def;
  t->n_seen = t->n_products = 0;
  t->meets = false;
  if (is_made_of_tokens(t, x, 0) && t->meets && t->n_products > 0) {
    int64_t parts = 0;
    if (op != NULL && op->code == OP_ADD && depth < MAX_SUMS)
      for (unsigned i = 0; i < 2; i++)
        parts += count_parts(t, ir_in(op, i), depth + 1);
    return parts > 0 ? parts : 1;
  }
  if (op == NULL || op->code != OP_ADD || depth >= MAX_SUMS) return 0;
  int64_t first = count_parts(t, ir_in(op, 0), depth + 1);
  return first + count_parts(t, ir_in(op, 1), depth + 1);
}

/* What the only use of a value adds to it, through views; NULL: nothing. */
static const ir_value_t *added_to(const ir_value_t **sum) {
  const ir_value_t *x = *sum;
  for (unsigned i = 0; i < MAX_SUMS; i++) {
    const ir_use_t *use = x->uses;
    if (use == NULL || use->next != NULL || use->user->n_out != 1) return NULL;
    const ir_op_t *op = use->user;
    *sum = x = &op->out[0];
    if (op->code == OP_ADD) return ir_in(op, 1 - use->index);
    if (op->code != OP_RESHAPE && op->code != OP_CAST &&
        op->code != OP_TRANSPOSE)
      return NULL;
  }
  return NULL;
}

int64_t moe_count_shared(const moe_found_t *found) {
  tokens_t t = {.n = 0};
  int64_t n = 0;
  for (unsigned i = 0; i < found->n_terms; i++)
    find_tokens(&t, found->term[i], 0);
  for (unsigned i = 0; i < found->n_rest; i++)
    n += count_parts(&t, found->rest[i], 0);
  const ir_value_t *sum = found->root, *other;
  for (unsigned i = 0; i < MAX_SUMS && (other = added_to(&sum)) != NULL; i++)
    n += count_parts(&t, other, 0);
  return n;
}
