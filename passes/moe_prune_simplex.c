/* Points around the origin: found by a linear program, and proved to be.
 *
 * The program: weights of points, none negative, whose sum is 1 and whose mean
 * is the origin, at the least cost. It begins with points of its own around the
 * origin, which cost most, so that no weight is 0 on the way unless points lie
 * in special places. Nothing that it computes is believed. */
#include <math.h>
#include <string.h>

#include "passes/moe_prune_hull.h"

/* ---- Inverse of a matrix ------------------------------------------------- */

static void swap_rows(double *a, int64_t n, int64_t i, int64_t j) {
  for (int64_t c = 0; i != j && c < n; c++) {
    double x = a[i * n + c];
    a[i * n + c] = a[j * n + c];
    a[j * n + c] = x;
  }
}

/* out = 1 / a, roughly; destroys a. */
static bool invert(double *a, int64_t n, double *out) {
  memset(out, 0, (size_t)(n * n) * sizeof out[0]);
  for (int64_t i = 0; i < n; i++) out[i * n + i] = 1;
  for (int64_t i = 0; i < n; i++) {
    int64_t best = i;
    for (int64_t r = i + 1; r < n; r++)
      if (fabs(a[r * n + i]) > fabs(a[best * n + i])) best = r;
    swap_rows(a, n, i, best);
    swap_rows(out, n, i, best);
    double pivot = a[i * n + i];
    if (!(fabs(pivot) > 1e-30)) return false;
    for (int64_t c = 0; c < n; c++) {
      a[i * n + c] /= pivot;
      out[i * n + c] /= pivot;
    }
    for (int64_t r = 0; r < n; r++) {
      double factor = a[r * n + i];
      if (r == i || factor == 0) continue;
      for (int64_t c = 0; c < n; c++) {
        a[r * n + c] -= factor * a[i * n + c];
        out[r * n + c] -= factor * out[i * n + c];
      }
    }
  }
  return true;
}

/* ---- Proof ----------------------------------------------------------------
 *
 * A has the points as columns, with a 1 below each. With any B, and E = 1 - A B
 * of a norm e < 1, weights B (1 - E)^-1 y have the mean and the sum that y
 * says. For y = (p, 1), |p| <= 1, they differ from B y by |row of B| e / (1 -
 * e) at most; so none is negative while |p| is less than `radius`. */

simplex_t *simplex_begin(arena_t *arena, int64_t d) {
  simplex_t *s = ARENA_NEW(arena, simplex_t);
  size_t n = (size_t)d + 1;
  s->d = d;
  s->weight = ARENA_ARRAY(arena, double, n);
  s->error = ARENA_ARRAY(arena, double, n);
  s->matrix = ARENA_ARRAY(arena, double, n *n);
  s->work = ARENA_ARRAY(arena, double, n *n);
  return s;
}

static double entry(const simplex_t *s, const double *point, int64_t row,
                    int64_t column) {
  return row == s->d ? 1 : point[column * s->d + row];
}

/* An upper bound of the largest sum along a row of |E|. */
static double residual(const simplex_t *s, const double *point) {
  int64_t n = s->d + 1;
  double most = 0;
  for (int64_t r = 0; r < n; r++) {
    double sum = 0;
    for (int64_t c = 0; c < n; c++) {
      double e = r == c ? 1 : 0, size = 1;
      for (int64_t k = 0; k < n; k++) {
        double product = entry(s, point, r, k) * s->matrix[k * n + c];
        e -= product;
        size += fabs(product);
      }
      sum += fabs(e) + size * (double)(n + 4) * 0x1p-52;
    }
    most = fmax(most, sum);
  }
  return most * (1 + (double)(n + 4) * 0x1p-52);
}

bool simplex_check(simplex_t *s, const double *point) {
  int64_t n = s->d + 1;
  double up = 1 + (double)(n + 8) * 0x1p-52; /* more than sums are rounded by */
  s->point = point;
  s->radius = 1;
  for (int64_t r = 0; r < n; r++)
    for (int64_t c = 0; c < n; c++) s->work[r * n + c] = entry(s, point, r, c);
  if (!invert(s->work, n, s->matrix)) return false;
  double e = residual(s, point);
  if (!(e < 0.5)) return false;
  for (int64_t i = 0; i < n; i++) {
    const double *row = s->matrix + i * n;
    double square = 0, size = 0;
    for (int64_t c = 0; c < n; c++) size += fabs(row[c]);
    for (int64_t c = 0; c < s->d; c++) square += row[c] * row[c];
    s->weight[i] = row[s->d];
    s->error[i] = size * up * e / (1 - e) * up;
    double room = s->weight[i] - s->error[i], slope = sqrt(square) * up;
    if (!(room > 0)) return false;
    if (room < s->radius * slope) s->radius = room / slope / up;
  }
  return s->radius > 0;
}

/* ---- Search -------------------------------------------------------------- */

struct pivots {
  int64_t n; /* rows: d + 1 */
  double *inverse, *start, *weight, *price, *column;
  int64_t *basic; /* the point of each row, -1: one of the beginning */
};

/* The points of the beginning: unit vectors, and minus their sum. */
pivots_t *cloud_begin(arena_t *arena, int64_t d) {
  pivots_t *s = ARENA_NEW(arena, pivots_t);
  size_t n = (size_t)d + 1;
  s->n = d + 1;
  s->inverse = ARENA_ARRAY(arena, double, n *n);
  s->start = ARENA_ARRAY(arena, double, n *n);
  s->weight = ARENA_ARRAY(arena, double, n);
  s->price = ARENA_ARRAY(arena, double, n);
  s->column = ARENA_ARRAY(arena, double, n);
  s->basic = ARENA_ARRAY(arena, int64_t, n);
  double *a = ARENA_ARRAY(arena, double, n *n);
  for (size_t i = 0; i < n; i++) {
    a[(size_t)d * n + i] = 1;
    if (i < (size_t)d) {
      a[i * n + i] = 1;
      a[i * n + (size_t)d] = -1;
    }
  }
  invert(a, d + 1, s->start);
  return s;
}

/* What a unit of each row costs. */
static void find_prices(const cloud_t *c, pivots_t *s, bool begins) {
  for (int64_t k = 0; k < s->n; k++) s->price[k] = 0;
  for (int64_t i = 0; i < s->n; i++) {
    bool own = s->basic[i] < 0;
    double cost = begins ? own : own ? 0 : c->cost[s->basic[i]];
    for (int64_t k = 0; cost != 0 && k < s->n; k++)
      s->price[k] += cost * s->inverse[i * s->n + k];
  }
}

/* The point that saves most, -1 if none does. */
static int64_t find_entering(const cloud_t *c, const pivots_t *s, bool begins) {
  int64_t best = -1;
  double least = -1e-9;
  for (int64_t j = 0; j < c->n; j++) {
    if (c->is_used[j]) continue;
    const double *p = c->point + j * c->d;
    double saved = (begins ? 0 : c->cost[j]) - s->price[c->d];
    for (int64_t k = 0; k < c->d; k++) saved -= s->price[k] * p[k];
    if (saved < least) {
      least = saved;
      best = j;
    }
  }
  return best;
}

/* The row whose weight is the first to become 0, -1 if none does; those of the
 * beginning go first. */
static int64_t find_leaving(const cloud_t *c, pivots_t *s, int64_t j) {
  const double *p = c->point + j * c->d;
  int64_t best = -1;
  double least = INFINITY;
  for (int64_t i = 0; i < s->n; i++) {
    double u = s->inverse[i * s->n + c->d];
    for (int64_t k = 0; k < c->d; k++) u += s->inverse[i * s->n + k] * p[k];
    s->column[i] = u;
    if (!(u > 1e-9)) continue;
    double ratio = s->weight[i] / u;
    if (ratio < least || (ratio == least && s->basic[i] < 0)) {
      least = ratio;
      best = i;
    }
  }
  return best;
}

static void pivot(pivots_t *s, int64_t row, int64_t j) {
  double *to = s->inverse + row * s->n, by = s->column[row];
  for (int64_t k = 0; k < s->n; k++) to[k] /= by;
  s->weight[row] /= by;
  for (int64_t i = 0; i < s->n; i++) {
    double factor = s->column[i];
    if (i == row || factor == 0) continue;
    for (int64_t k = 0; k < s->n; k++)
      s->inverse[i * s->n + k] -= factor * to[k];
    s->weight[i] = fmax(0, s->weight[i] - factor * s->weight[row]);
  }
  s->basic[row] = j;
}

static bool has_own(const pivots_t *s) {
  for (int64_t i = 0; i < s->n; i++)
    if (s->basic[i] < 0) return true;
  return false;
}

bool cloud_find(const cloud_t *c, pivots_t *s, int64_t *work, int64_t *out) {
  int64_t most = 8 * s->n + 32;
  memcpy(s->inverse, s->start, (size_t)(s->n * s->n) * sizeof s->start[0]);
  for (int64_t i = 0; i < s->n; i++) {
    s->weight[i] = 1.0 / (double)s->n;
    s->basic[i] = -1;
  }
  for (int64_t step = 0; step < most && *work > 0; step++) {
    bool begins = has_own(s);
    *work -= s->n * (c->n + 3 * s->n);
    find_prices(c, s, begins);
    int64_t j = find_entering(c, s, begins);
    int64_t row = j < 0 ? -1 : find_leaving(c, s, j);
    if (row < 0) break;
    pivot(s, row, j);
  }
  if (has_own(s)) return false;
  memcpy(out, s->basic, (size_t)s->n * sizeof out[0]);
  return true;
}
