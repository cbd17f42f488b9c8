/* TfIdfVectorizer over integers: how often each n-gram of a pool occurs. */
#include <string.h>

#include "frontend/convert.h"

enum { MAX_GRAMS = 1 << 16 };

typedef struct ngrams {
  int64_t min, max, skip; /* lengths, elements left out at most */
  unsigned n_pool, n_counts, n_indexes, n_weights;
  const int64_t *pool, *counts, *indexes;
  const double *weights;
  int64_t n_out;
  bool binary, weighted;
} ngrams_t;

static ir_value_t *two(convert_ctx_t *ctx, ir_opcode_t code, ir_value_t *x,
                       ir_value_t *y) {
  return ir_binary(ctx->b, code, x, y);
}

static bool check_indexes(convert_ctx_t *ctx, ngrams_t *g) {
  for (unsigned i = 0; i < g->n_indexes; i++) {
    int64_t index = g->indexes[i];
    if (index < 0 || index >= MAX_GRAMS) {
      ctx_invalid(ctx, "entry %u of ngram_indexes is %lld", i,
                  (long long)index);
      return false;
    }
    if (index >= g->n_out) g->n_out = index + 1;
  }
  for (unsigned i = 0; i < g->n_counts; i++) {
    int64_t start = g->counts[i];
    int64_t end = i + 1 < g->n_counts ? g->counts[i + 1] : g->n_pool;
    if (start < 0 || end < start || end > g->n_pool ||
        (end - start) % (i + 1) != 0) {
      ctx_invalid(ctx, "entry %u of ngram_counts is %lld", i, (long long)start);
      return false;
    }
  }
  if (g->weighted && g->weights != NULL && g->n_weights < g->n_out)
    ctx_invalid(ctx, "there are %u weights for %lld results", g->n_weights,
                (long long)g->n_out);
  return ctx->status == MOEC_OK;
}

static bool read_ngrams(convert_ctx_t *ctx, ngrams_t *g) {
  static const char *const modes[] = {"TF", "IDF", "TFIDF", NULL};
  if (!attr_has(ctx, "mode")) {
    ctx_invalid(ctx, "required attribute \"mode\" is missing");
    return false;
  }
  unsigned mode = attr_choice(ctx, "mode", modes);
  *g = (ngrams_t){.min = attr_int_required(ctx, "min_gram_length"),
                  .max = attr_int_required(ctx, "max_gram_length"),
                  .skip = attr_int_required(ctx, "max_skip_count"),
                  .binary = mode == 1,
                  .weighted = mode > 0};
  g->counts = attr_ints(ctx, "ngram_counts", &g->n_counts);
  g->indexes = attr_ints(ctx, "ngram_indexes", &g->n_indexes);
  g->weights = attr_floats(ctx, "weights", &g->n_weights);
  if (attr_has(ctx, "pool_strings")) {
    ctx_unsupported(ctx, "n-grams of strings are not supported");
    return false;
  }
  g->pool = attr_ints(ctx, "pool_int64s", &g->n_pool);
  if (ctx->status != MOEC_OK) return false;
  if (g->min < 1 || g->max < g->min || g->max > 64 || g->skip < 0 ||
      g->skip > 1024 || g->n_pool > MAX_GRAMS || g->indexes == NULL) {
    ctx_invalid(ctx,
                "n-grams of %lld to %lld elements of a pool of %u, %lld left "
                "out",
                (long long)g->min, (long long)g->max, g->n_pool,
                (long long)g->skip);
    return false;
  }
  return check_indexes(ctx, g);
}

/* Whether a later n-gram of the same length is the same: that one counts. */
static bool is_repeated(const int64_t *gram, unsigned n, unsigned left) {
  for (unsigned i = 1; i <= left; i++)
    if (memcmp(gram, gram + i * n, n * sizeof *gram) == 0) return true;
  return false;
}

/* How often the n-grams occur in x[R, C] with `step` between elements: added to
 * the columns of result[R, n_out] that they have. `first` is the number of the
 * first of these n-grams. */
static ir_value_t *count_grams(convert_ctx_t *ctx, const ngrams_t *g,
                               ir_value_t *x, unsigned n, int64_t step,
                               unsigned start, unsigned n_grams,
                               unsigned first) {
  ir_builder_t *b = ctx->b;
  expr_pool_t *pool = ctx->exprs;
  const expr_t *reach = ctx_int(ctx, step * (n - 1));
  const expr_t *starts =
      expr_max(pool, ctx_int(ctx, 0), expr_sub(pool, ctx_dim(x, 1), reach));
  ir_value_t *hit = NULL;
  for (unsigned k = 0; k < n; k++) {
    int64_t *column = ARENA_ARRAY(ctx->arena, int64_t, n_grams);
    for (unsigned i = 0; i < n_grams; i++)
      column[i] = g->pool[start + i * n + k];
    ir_value_t *want = ir_ints(b, n_grams, column);
    ir_value_t *at = ir_iota(b, DT_I64, starts);
    at = two(ctx, OP_ADD, at, ir_scalar_int(b, DT_I64, step * k));
    ir_value_t *part = ir_unsqueeze(b, ir_gather(b, x, at, 1), 2);
    ir_value_t *same = two(ctx, OP_EQ, part, want); /* [R, starts, grams] */
    hit = hit == NULL ? same : two(ctx, OP_AND, hit, same);
  }
  int64_t axis = 1;
  ir_value_t *count =
      ir_reduce(b, OP_REDUCE_SUM, ir_cast(b, hit, DT_F32), 1, &axis, false);
  size_t cells = (size_t)n_grams * (size_t)g->n_out;
  float *to = ARENA_ARRAY(ctx->arena, float, cells + 1);
  for (unsigned i = 0; i < n_grams; i++)
    if (!is_repeated(g->pool + start + i * n, n, n_grams - 1 - i))
      to[i * (size_t)g->n_out + (size_t)g->indexes[first + i]] = 1;
  int64_t dim[] = {n_grams, g->n_out};
  ir_value_t *columns = ctx_tensor(ctx, DT_F32, 2, dim, to, cells * sizeof *to);
  return count != NULL ? ir_matmul(b, count, columns) : NULL;
}

/* Counts of all lengths and gaps, x[R, C] as f32[R, n_out]. */
static ir_value_t *all_counts(convert_ctx_t *ctx, const ngrams_t *g,
                              ir_value_t *x) {
  const expr_t *dim[] = {ctx_dim(x, 0), ctx_int(ctx, g->n_out)};
  ir_value_t *sum = ir_fill(ctx->b, ir_scalar(ctx->b, DT_F32, 0), 2, dim);
  unsigned first = 0;
  for (unsigned i = 0; i < g->n_counts; i++) {
    unsigned n = i + 1, start = (unsigned)g->counts[i];
    int64_t end = i + 1 < g->n_counts ? g->counts[i + 1] : g->n_pool;
    unsigned n_grams = (unsigned)(end - start) / n;
    if (first + n_grams > g->n_indexes) {
      ctx_invalid(ctx, "there are %u ngram_indexes for more n-grams",
                  g->n_indexes);
      return NULL;
    }
    int64_t gaps = n == 1 ? 1 : g->skip + 1; /* single ones have no gaps */
    for (int64_t step = 1; step <= gaps && n_grams > 0; step++) {
      if (n < g->min || n > g->max) break;
      ir_value_t *part = count_grams(ctx, g, x, n, step, start, n_grams, first);
      sum = two(ctx, OP_ADD, sum, part);
    }
    first += n_grams;
  }
  return sum;
}

moec_status_t convert_tf_idf_vectorizer(convert_ctx_t *ctx) {
  ir_builder_t *b = ctx->b;
  ir_value_t *x = ctx_in(ctx, 0);
  ngrams_t g;
  if (x->type.dtype == DT_STR)
    return ctx_unsupported(ctx, "n-grams of strings are not supported");
  if (!ctx_check_rank(ctx, x, 0, 2, "the input") || !read_ngrams(ctx, &g))
    return ctx_status(ctx);
  bool single = x->type.rank < 2;
  if (!dtype_is_integer(x->type.dtype))
    return ctx_invalid(ctx, "the input is %s, expected integers",
                       ctx_type_str(ctx, x));
  x = ir_cast(b, x, DT_I64);
  const expr_t *row[] = {ctx_int(ctx, 1), ir_type_count(ctx->exprs, &x->type)};
  if (single) x = ir_reshape(b, x, 2, row);
  if (x == NULL) return ctx_status(ctx);
  ir_value_t *y = all_counts(ctx, &g, x);
  if (y == NULL) return ctx_status(ctx);
  ir_value_t *zero = ir_scalar(b, DT_F32, 0);
  if (g.binary) y = ir_cast(b, two(ctx, OP_LT, zero, y), DT_F32);
  if (g.weighted && g.weights != NULL) {
    float *weights = ARENA_ARRAY(ctx->arena, float, (size_t)g.n_out);
    for (int64_t i = 0; i < g.n_out; i++) weights[i] = (float)g.weights[i];
    ir_value_t *w = ctx_tensor(ctx, DT_F32, 1, &g.n_out, weights,
                               (uint64_t)g.n_out * sizeof *weights);
    y = two(ctx, OP_MUL, y, w);
  }
  if (single && y != NULL) y = ir_squeeze(b, y, 0);
  ctx_set_output(ctx, 0, y);
  return ctx_status(ctx);
}
