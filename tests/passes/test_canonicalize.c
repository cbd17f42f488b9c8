/* What golden files cannot show: that the rules come to an end, in time, for
 * every golden file and for long functions. */
#include <dirent.h>
#include <time.h>

#include "passes/rules.h"
#include "tests/passes/pass_support.h"

/* ---- The table ----------------------------------------------------------- */

static void names_of_rules_are_distinct(void **state) {
  (void)state;
  for (unsigned i = 0; i < rule_count(); i++)
    for (unsigned j = 0; j < i; j++)
      assert_string_not_equal(rule_at(i)->name, rule_at(j)->name);
}

static void every_rule_has_its_arrow(void **state) {
  (void)state;
  for (unsigned i = 0; i < rule_count(); i++)
    assert_non_null(strstr(rule_at(i)->pattern, " -> "));
}

/* ---- Golden files -------------------------------------------------------- */

static char *read_text(fixture_t *f, const char *path) {
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  char *text = arena_alloc(f->arena, 1 << 16);
  size_t n = fread(text, 1, (1 << 16) - 1, file);
  fclose(file);
  text[n] = '\0';
  char *end = strstr(text, "// expect:");
  assert_non_null(end);
  *end = '\0';
  return text;
}

/* Rewrites that a pass makes, told on the stream. */
static const char *rewrites_of(fixture_t *f, ir_module_t *module,
                               const char *pass) {
  captured_t c;
  capture_begin(&c);
  f->options.trace = c.stream;
  assert_int_equal(run_passes(f, module, pass), MOEC_OK);
  return capture_end(f, &c);
}

static void second_run_has_nothing_to_do(void **state) {
  fixture_t *f = *state;
  const char *models = getenv("MOEC_TEST_MODELS");
  if (models == NULL) {
    print_message("SKIPPED: MOEC_TEST_MODELS names no folder of models\n");
    return;
  }
  char *folder =
      arena_printf(f->arena, "%s/../golden/passes/canonicalize", models);
  DIR *dir = opendir(folder);
  assert_non_null(dir);
  unsigned n = 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    if (strstr(entry->d_name, ".moeir") == NULL) continue;
    char *path = arena_printf(f->arena, "%s/%s", folder, entry->d_name);
    ir_module_t *module = assert_parses(f, read_text(f, path));
    rewrites_of(f, module, "dce,canonicalize,dce");
    const char *again = rewrites_of(f, module, "canonicalize");
    if (*again != '\0') fail_msg("%s: %s", entry->d_name, again);
    n++;
  }
  closedir(dir);
  assert_true(n > 50);
}

/* Stopping anywhere leaves a valid function: bisecting needs that. */
static void every_prefix_of_the_rewrites_is_valid(void **state) {
  fixture_t *f = *state;
  static const char text[] =
      "func @f(%0: f32[B,S], %1: f32[S]) {\n"
      "  %2 = constant {dtype = f32, shape = [1, 1, 1], data = [2.0]}\n"
      "  %3 = reshape(%1) {shape = [1, 1, S]}\n"
      "  %4 = expand(%3) {shape = [1, B, S]}\n"
      "  %5 = neg(%4)\n"
      "  %6 = neg(%5)\n"
      "  %7 = div(%6, %2)\n"
      "  %8 = reshape(%0) {shape = [1, B, S]}\n"
      "  %9 = pow(%8, %2)\n"
      "  %10 = add(%9, %7)\n"
      "  return(%10)\n"
      "}\n";
  const char *all = rewrites_of(f, assert_parses(f, text), "canonicalize");
  for (const char *p = all; *p != '\0'; p++) {
    if (*p != '\n') continue;
    f->options.rewrite_limit++; /* from -1: 0, 1, .. */
    rewrites_of(f, assert_parses(f, text), "canonicalize");
  }
  assert_true(f->options.rewrite_limit > 5);
}

/* ---- Size ---------------------------------------------------------------- */

enum { MANY = 200000 };

static ir_op_t *append(ir_module_t *module, ir_opcode_t code, ir_value_t *x) {
  ir_op_t *op = ir_op_create(module, code, (ir_loc_t){0}, 1, &x, 1);
  ir_append(&module->first->body, op);
  op->out[0].type = x->type;
  return op;
}

/* neg, transposes of two, reshapes, each the operand of the next one. */
static ir_value_t *append_chain(ir_module_t *module, ir_value_t *x) {
  const expr_t *const *dim = x->type.dim;
  const int64_t perm[] = {1, 0};
  for (unsigned i = 0; i < MANY; i++) {
    ir_opcode_t code = i % 6 < 2   ? OP_NEG
                       : i % 6 < 4 ? OP_TRANSPOSE
                                   : OP_RESHAPE;
    ir_op_t *op = append(module, code, x);
    if (code == OP_TRANSPOSE) {
      ir_set_ints(op, ATTR_TRANSPOSE_perm, 2, perm);
      const expr_t *swapped[] = {x->type.dim[1], x->type.dim[0]};
      op->out[0].type.dim =
          arena_grow_array(module->arena, swapped, 2, 2, sizeof swapped[0]);
    }
    if (code == OP_RESHAPE) ir_set_exprs(op, ATTR_RESHAPE_shape, 2, dim);
    x = &op->out[0];
  }
  return x;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static ir_module_t *long_module(fixture_t *f) {
  ir_module_t *module = ir_module_create(f->arena, "long");
  const expr_t *dim[] = {expr_const(module->exprs, 2),
                         expr_new_symbol(module->exprs, "B", 0, NULL)};
  ir_type_t type = ir_tensor_type(DT_F32, 2, dim);
  ir_func_t *func = ir_func_create(module, "main", IR_FUNC_MAIN, 1, &type);
  ir_value_t *end = append_chain(module, &func->body.args[0]);
  ir_op_t *last = ir_op_create(module, OP_RETURN, (ir_loc_t){0}, 1, &end, 0);
  ir_append(&func->body, last);
  return module;
}

/* Rewriting takes well below a second; the bound has room for sanitizers and
 * for machines that are busy, but none for anything quadratic. */
static void long_chains_are_rewritten_in_linear_time(void **state) {
  fixture_t *f = *state;
  f->options.verify_each = false;
  ir_module_t *module = long_module(f);
  double start = now();
  assert_int_equal(run_passes(f, module, "canonicalize,cse,dce"), MOEC_OK);
  double seconds = now() - start;
  print_message("%d operations in %.3f s\n", MANY, seconds);
  assert_true(seconds < 20);
  assert_int_equal(ir_verify(module, &f->diag), MOEC_OK);
  assert_ptr_equal(module->first->body.first, module->first->body.last);
}

/* The same operation on the same value over and over: one bucket of the hash
 * table, one long list of uses. */
static void many_equal_operations_merge_in_linear_time(void **state) {
  fixture_t *f = *state;
  f->options.verify_each = false;
  ir_module_t *module = ir_module_create(f->arena, "wide");
  const expr_t *dim[] = {expr_const(module->exprs, 2)};
  ir_type_t type = ir_tensor_type(DT_F32, 1, dim);
  ir_func_t *func = ir_func_create(module, "main", IR_FUNC_MAIN, 1, &type);
  ir_value_t **results = ARENA_ARRAY(f->arena, ir_value_t *, MANY);
  for (unsigned i = 0; i < MANY; i++)
    results[i] = &append(module, OP_NEG, &func->body.args[0])->out[0];
  ir_append(&func->body,
            ir_op_create(module, OP_RETURN, (ir_loc_t){0}, MANY, results, 0));
  double start = now();
  assert_int_equal(run_passes(f, module, "cse"), MOEC_OK);
  assert_true(now() - start < 20);
  assert_ptr_equal(func->body.first->next, func->body.last);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(names_of_rules_are_distinct),
      TEST(every_rule_has_its_arrow),
      TEST(second_run_has_nothing_to_do),
      TEST(every_prefix_of_the_rewrites_is_valid),
      TEST(long_chains_are_rewritten_in_linear_time),
      TEST(many_equal_operations_merge_in_linear_time),
  };
  return cmocka_run_group_tests_name("passes/canonicalize", tests, NULL, NULL);
}
