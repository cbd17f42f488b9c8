/* Modules, operations, use lists, attributes, types, clones, digests. */
#include "tests/ir/ir_support.h"

static ir_op_t *make(fixture_t *f, ir_opcode_t code, ir_value_t *x,
                     ir_value_t *y, unsigned n_out) {
  ir_value_t *in[] = {x, y};
  unsigned n_in = y != NULL ? 2 : x != NULL ? 1 : 0;
  return ir_op_create(f->module, code, (ir_loc_t){0}, n_in, in, n_out);
}

static fixture_t *begin_scalars(void **state, unsigned n) {
  ir_type_t types[8];
  for (unsigned i = 0; i < n; i++) types[i] = ir_scalar_type(DT_F32);
  return begin(state, n, types);
}

/* ---- Tables ------------------------------------------------------------- */

static void every_mnemonic_finds_its_operation(void **state) {
  (void)state;
  ir_opcode_t code;
  for (unsigned i = 0; i < OP_COUNT; i++) {
    const char *name = ir_op_info((ir_opcode_t)i)->mnemonic;
    assert_true(ir_opcode_by_name(name, strlen(name), &code));
    assert_int_equal(code, i);
  }
  assert_false(ir_opcode_by_name("ad", 2, &code));
  assert_false(ir_opcode_by_name("", 0, &code));
  assert_true(ir_opcode_by_name("addition", 3, &code));
  assert_int_equal(code, OP_ADD);
}

static void attributes_belong_to_their_row(void **state) {
  (void)state;
  unsigned total = 0;
  for (unsigned i = 0; i < OP_COUNT; i++)
    total += ir_n_attrs_of((ir_opcode_t)i);
  assert_int_equal(total, ATTR_COUNT);
  assert_int_equal(ir_n_attrs_of(OP_ADD), 0);
  assert_int_equal(ir_n_attrs_of(OP_TOPK), 4);
  assert_int_equal(ir_op_info(OP_TOPK)->attr_first, ATTR_TOPK_axis);
  assert_string_equal(ir_attr_info(ATTR_TOPK_k)->name, "k");
  assert_true(ir_attr_info(ATTR_TOPK_k)->required);
  assert_int_equal(ir_attr_info(ATTR_TOPK_k)->kind, IR_ATTR_EXPR);
  assert_false(ir_attr_info(ATTR_TOPK_axis)->required);
  assert_int_equal(ir_attr_info(ATTR_TOPK_axis)->default_int, -1);
}

/* ---- Attributes --------------------------------------------------------- */

static void attributes_stay_sorted_and_have_defaults(void **state) {
  fixture_t *f = begin_scalars(state, 1);
  ir_op_t *op = make(f, OP_TOPK, &f->func->body.args[0], NULL, 2);
  assert_int_equal(ir_get_int(op, ATTR_TOPK_largest), 1);
  ir_set_int(op, ATTR_TOPK_sorted, 0);
  ir_set_expr(op, ATTR_TOPK_k, expr_const(f->module->exprs, 3));
  ir_set_int(op, ATTR_TOPK_axis, 2);
  ir_set_int(op, ATTR_TOPK_axis, 4);
  assert_int_equal(op->n_attrs, 3);
  assert_int_equal(op->attrs[0].id, ATTR_TOPK_axis);
  assert_int_equal(op->attrs[1].id, ATTR_TOPK_k);
  assert_int_equal(op->attrs[2].id, ATTR_TOPK_sorted);
  assert_int_equal(ir_get_int(op, ATTR_TOPK_axis), 4);
  assert_int_equal(ir_get_int(op, ATTR_TOPK_sorted), 0);
  ir_remove_attr(op, ATTR_TOPK_axis);
  ir_remove_attr(op, ATTR_TOPK_largest); /* absent: nothing */
  assert_int_equal(op->n_attrs, 2);
  assert_int_equal(ir_get_int(op, ATTR_TOPK_axis), -1);
  assert_true(ir_has_attr(op, ATTR_TOPK_k));
}

static void lists_are_copied(void **state) {
  fixture_t *f = begin_scalars(state, 1);
  ir_op_t *op = make(f, OP_TRANSPOSE, &f->func->body.args[0], NULL, 1);
  int64_t perm[] = {2, 0, 1};
  unsigned n;
  ir_set_ints(op, ATTR_TRANSPOSE_perm, 3, perm);
  perm[0] = 7;
  assert_int_equal(ir_get_ints(op, ATTR_TRANSPOSE_perm, &n)[0], 2);
  assert_int_equal(n, 3);
  ir_set_ints(op, ATTR_TRANSPOSE_perm, 2,
              ir_get_ints(op, ATTR_TRANSPOSE_perm, &n) + 1); /* of itself */
  assert_int_equal(ir_get_ints(op, ATTR_TRANSPOSE_perm, &n)[1], 1);
  assert_int_equal(n, 2);
}

static void a_missing_required_attribute_is_a_bug(void **state) {
#ifndef MOEC_DEV
  fixture_t *f = begin_scalars(state, 1);
  ir_op_t *op = make(f, OP_TOPK, &f->func->body.args[0], NULL, 2);
  recovery_t point;
  recovery_enter(&point);
  if (setjmp(point.jump) == 0) {
    ir_get_expr(op, ATTR_TOPK_k);
    fail();
  }
  assert_int_equal(point.status, MOEC_E_INTERNAL);
  assert_non_null(strstr(point.message, "topk lacks its attribute k"));
#else
  (void)state; /* aborts */
#endif
}

/* ---- Uses and order ----------------------------------------------------- */

static void replacing_moves_every_use(void **state) {
  fixture_t *f = begin_scalars(state, 2);
  ir_value_t *x = &f->func->body.args[0], *y = &f->func->body.args[1];
  ir_op_t *a = make(f, OP_ADD, x, x, 1);
  ir_op_t *b = make(f, OP_ADD, x, y, 1);
  assert_int_equal(ir_n_uses(x), 3);
  assert_int_equal(ir_n_uses(y), 1);
  ir_replace_uses(x, y);
  assert_null(x->uses);
  assert_int_equal(ir_n_uses(y), 4);
  assert_ptr_equal(ir_in(a, 0), y);
  assert_ptr_equal(ir_in(a, 1), y);
  assert_ptr_equal(ir_in(b, 0), y);
  ir_replace_uses(y, y);
  assert_int_equal(ir_n_uses(y), 4);
  for (unsigned i = 0; i < 2; i++) { /* back links are whole */
    ir_set_operand(a, i, x);
    ir_set_operand(b, 1 - i, NULL);
  }
  assert_null(y->uses);
  assert_int_equal(ir_n_uses(x), 2);
  assert_null(ir_in(b, 0));
  assert_null(ir_in(a, 2)); /* beyond the operands */
}

static void operations_keep_their_order(void **state) {
  fixture_t *f = begin_scalars(state, 1);
  ir_value_t *x = &f->func->body.args[0];
  ir_op_t *op[4];
  for (unsigned i = 0; i < 4; i++) op[i] = make(f, OP_NEG, x, NULL, 1);
  ir_append(&f->func->body, op[1]);
  ir_append(&f->func->body, op[3]);
  ir_insert_before(op[0], op[1]);
  ir_insert_before(op[2], op[3]);
  const ir_op_t *at = f->func->body.first;
  for (unsigned i = 0; i < 4; i++, at = at->next) assert_ptr_equal(at, op[i]);
  ir_move_before(op[3], op[0]);
  ir_move_before(op[3], op[3]);
  assert_ptr_equal(f->func->body.first, op[3]);
  assert_ptr_equal(f->func->body.last, op[2]);
  assert_null(op[2]->next);
  assert_ptr_equal(op[0]->prev, op[3]);
  for (unsigned i = 0; i < 4; i++) ir_erase(op[i]);
  assert_null(f->func->body.first);
  assert_null(f->func->body.last);
  assert_null(x->uses);
}

static void erasing_takes_regions_along(void **state) {
  fixture_t *f = begin_scalars(state, 2);
  ir_value_t *x = &f->func->body.args[0], *y = &f->func->body.args[1];
  ir_type_t index = ir_scalar_type(DT_I64);
  ir_op_t *outer = make(f, OP_FOR, x, y, 0);
  ir_op_t *inner = make(f, OP_FOR, x, y, 0);
  ir_region_set_args(outer, 0, 1, &index);
  ir_append(&outer->regions[0], inner);
  ir_append(&inner->regions[0], make(f, OP_NEG, x, NULL, 1));
  assert_null(inner->regions[0].func);
  ir_append(&f->func->body, outer);
  assert_ptr_equal(outer->regions[0].func, f->func);
  assert_ptr_equal(inner->regions[0].func, f->func);
  assert_int_equal(ir_n_uses(x), 3);
  ir_erase(outer);
  assert_null(x->uses);
  assert_null(y->uses);
}

static void values_are_numbered_in_program_order(void **state) {
  fixture_t *f = begin_scalars(state, 2);
  ir_value_t *x = &f->func->body.args[0];
  ir_type_t index = ir_scalar_type(DT_I64);
  ir_op_t *a = make(f, OP_NEG, x, NULL, 1);
  ir_op_t *loop = make(f, OP_REDUCE, x, x, 1);
  ir_op_t *inner = make(f, OP_NEG, x, NULL, 1);
  ir_op_t *b = make(f, OP_NEG, x, NULL, 1);
  ir_region_set_args(loop, 0, 1, &index);
  ir_append(&loop->regions[0], inner);
  ir_append(&f->func->body, a);
  ir_append(&f->func->body, loop);
  ir_append(&f->func->body, b);
  ir_renumber(f->func);
  assert_int_equal(f->func->body.args[1].number, 1);
  assert_int_equal(a->out[0].number, 2);
  assert_int_equal(loop->out[0].number, 3);
  assert_int_equal(loop->regions[0].args[0].number, 4);
  assert_int_equal(inner->out[0].number, 5);
  assert_int_equal(b->out[0].number, 6);
  assert_int_equal(ir_count_values(f->func), 7);
}

static void main_functions_come_before_kernels(void **state) {
  fixture_t *f = *state;
  f->module = ir_module_create(f->arena, "m");
  ir_func_t *k0 = ir_func_create(f->module, "k0", IR_FUNC_KERNEL, 0, NULL);
  ir_func_t *main_func = ir_func_create(f->module, "m", IR_FUNC_MAIN, 0, NULL);
  ir_func_t *k1 = ir_func_create(f->module, "k1", IR_FUNC_KERNEL, 0, NULL);
  assert_ptr_equal(f->module->first, main_func);
  assert_ptr_equal(main_func->next, k0);
  assert_ptr_equal(k0->next, k1);
  assert_ptr_equal(f->module->last, k1);
  assert_int_equal(f->module->n_funcs, 3);
  assert_ptr_equal(ir_func_find(f->module, "k1"), k1);
  assert_null(ir_func_find(f->module, "k2"));
  ir_module_remove(f->module, k1);
  assert_ptr_equal(f->module->last, k0);
  assert_int_equal(f->module->n_funcs, 2);
}

static void long_functions_take_linear_time(void **state) {
  fixture_t *f = begin_scalars(state, 1);
  ir_value_t *x = &f->func->body.args[0];
  for (unsigned i = 0; i < 200000; i++) {
    ir_op_t *op = make(f, OP_ADD, x, &f->func->body.args[0], 1);
    op->out[0].type = ir_scalar_type(DT_F32);
    ir_append(&f->func->body, op);
    x = &op->out[0];
  }
  finish(f, 1, &x);
  assert_verified(f, f->module);
  arena_t *arena = arena_create(0);
  ir_module_t *copy = ir_module_clone(f->module, arena);
  assert_true(ir_module_equal(f->module, copy, NULL));
  arena_destroy(arena);
  const char *text = print_with(f, f->module, (ir_print_options_t){0});
  ir_module_t *again = assert_parses(f, text);
  assert_true(ir_module_equal(f->module, again, NULL));
}

/* ---- Types -------------------------------------------------------------- */

static void types_print_and_compare(void **state) {
  fixture_t *f = *state;
  expr_pool_t *pool = expr_pool_create(f->arena);
  const expr_t *b = expr_new_symbol(pool, "B", 0, NULL);
  const expr_t *dim[] = {b, expr_mul(pool, b, expr_const(pool, 2)),
                         expr_const(pool, 3)};
  ir_type_t t = ir_tensor_type(DT_F32, 3, dim);
  assert_text(ir_type_str(f->arena, &t), "f32[B,2*B,3]");
  ir_type_t buffer = ir_buffer_type(DT_BF16), scalar = ir_scalar_type(DT_I64);
  assert_text(ir_type_str(f->arena, &buffer), "buf bf16");
  assert_text(ir_type_str(f->arena, &scalar), "i64[]");
  ir_type_t list = {.kind = IR_SEQUENCE, .elem = &t};
  ir_type_t maybe = {.kind = IR_OPTIONAL, .elem = &list};
  assert_text(ir_type_str(f->arena, &maybe), "opt seq f32[B,2*B,3]");
  ir_type_t other = t, maybe_other = maybe;
  ir_type_t other_list = {.kind = IR_SEQUENCE, .elem = &other};
  maybe_other.elem = &other_list;
  assert_true(ir_type_equal(&maybe, &maybe_other));
  other.rank = 2;
  assert_false(ir_type_equal(&maybe, &maybe_other));
  assert_false(ir_type_equal(&t, &other));
  assert_false(ir_type_equal(&list, &t));
  assert_false(ir_type_equal(&buffer, &scalar));
}

static void static_counts_do_not_overflow(void **state) {
  fixture_t *f = *state;
  expr_pool_t *pool = expr_pool_create(f->arena);
  const expr_t *dim[] = {expr_const(pool, INT64_MAX / 2), expr_const(pool, 3),
                         expr_const(pool, 0)};
  ir_type_t huge = ir_tensor_type(DT_F32, 2, dim);
  ir_type_t empty = ir_tensor_type(DT_F32, 3, dim);
  int64_t count = -1;
  assert_false(ir_type_static_count(&huge, &count));
  assert_true(ir_type_static_count(&empty, &count));
  assert_int_equal(count, 0);
  ir_type_t scalar = ir_scalar_type(DT_F32);
  assert_true(ir_type_static_count(&scalar, &count));
  assert_int_equal(count, 1);
  dim[1] = expr_new_symbol(pool, "n", 0, NULL);
  assert_false(ir_type_static_count(&huge, &count));
  ir_type_t row = ir_tensor_type(DT_F32, 1, &dim[1]);
  assert_ptr_equal(ir_type_count(pool, &row), dim[1]);
}

/* ---- Clones ------------------------------------------------------------- */

static ir_value_t *map_to_user(void *user, ir_value_t *value) {
  (void)value;
  return user;
}

static void clones_map_outer_values_only(void **state) {
  fixture_t *f = begin_scalars(state, 2);
  ir_value_t *x = &f->func->body.args[0], *y = &f->func->body.args[1];
  ir_type_t index = ir_scalar_type(DT_I64);
  ir_op_t *loop = make(f, OP_FOR, x, x, 0);
  ir_region_set_args(loop, 0, 1, &index);
  ir_op_t *inner = make(f, OP_ADD, &loop->regions[0].args[0], x, 1);
  ir_append(&loop->regions[0], inner);
  ir_append(&loop->regions[0], make(f, OP_NEG, &inner->out[0], NULL, 1));
  ir_set_int(loop, ATTR_FOR_vector, 1);
  ir_op_t *copy = ir_clone(f->module, loop, map_to_user, y);
  assert_null(copy->parent);
  assert_ptr_equal(ir_in(copy, 0), y);
  assert_int_equal(ir_get_int(copy, ATTR_FOR_vector), 1);
  const ir_op_t *add = copy->regions[0].first;
  assert_ptr_equal(ir_in(add, 0), &copy->regions[0].args[0]);
  assert_ptr_equal(ir_in(add, 1), y);
  assert_ptr_equal(ir_in(add->next, 0), &add->out[0]);
  ir_op_t *same = ir_clone(f->module, inner, NULL, NULL);
  assert_ptr_equal(ir_in(same, 1), x);
}

static void module_clones_survive_their_source(void **state) {
  static const char text[] =
      "module \"m\" tensor {\n"
      "symbols { B >= 0, n in [2, 4*B] }\n"
      "func @main(%0 \"x\": f32[B,2*n + 1], %1: seq f32[floordiv(B, 3)]) -> "
      "(\"y\") {\n"
      "  %2 = constant {dtype = i64, shape = [2], data = [7, 9]} : i64[2]\n"
      "  %3 = neg(%0) : f32[B,2*n + 1]   loc(#17 \"layer/add\" Add)\n"
      "  return(%3)\n"
      "}\n"
      "}\n";
  fixture_t *f = *state;
  arena_t *arena = arena_create(0);
  diag_sink_t diag;
  ir_module_t *source;
  diag_init(&diag, arena, NULL);
  assert_int_equal(ir_parse(arena, text, strlen(text), NULL, &diag, &source),
                   MOEC_OK);
  ir_print_options_t options = {.locations = true};
  const char *before = arena_strdup(f->arena, print_with(f, source, options));
  ir_module_t *copy = ir_module_clone(source, f->arena);
  assert_true(ir_module_equal(source, copy, NULL));
  ir_op_t *constant = copy->first->body.first; /* bytes are shared views */
  ir_get_data(constant, ATTR_CONSTANT_data)->bytes =
      "\7\0\0\0\0\0\0\0\11\0\0\0"
      "\0\0\0";
  arena_destroy(arena);
  assert_text(print_with(f, copy, options), before);
  assert_verified(f, copy);
}

static void sizes_follow_an_operation_into_another_module(void **state) {
  fixture_t *f = *state;
  ir_module_t *a = assert_parses(f,
                                 "func @f(%0: f32[A,max(B, 2)]) {\n"
                                 "  %1 = neg(%0)\n"
                                 "  return(%1)\n"
                                 "}\n");
  ir_module_t *b = ir_module_create(f->arena, "b");
  expr_new_symbol(b->exprs, "B", 0, NULL); /* another order of symbols */
  ir_op_t *op = ir_clone(b, a->first->body.first, map_to_user, NULL);
  assert_ptr_equal(op->module, b);
  assert_text(ir_type_str(f->arena, &op->out[0].type), "f32[A,max(2, B)]");
  assert_ptr_equal(op->out[0].type.dim[0], expr_find_symbol(b->exprs, "A"));
}

/* ---- Comparison --------------------------------------------------------- */

static const char *difference(fixture_t *f, const char *x, const char *y) {
  text_t why;
  text_init(&why, f->arena);
  ir_module_t *a = assert_parses(f, x), *b = assert_parses(f, y);
  assert_true(ir_module_equal(a, a, NULL));
  assert_false(ir_module_equal(a, b, NULL));
  assert_false(ir_module_equal(a, b, &why));
  return why.data;
}

static void differences_are_described(void **state) {
  fixture_t *f = *state;
#define MODULE(body) "func @f(%0: f32[4,B], %1: f32[4,B]) {\n" body "}\n"
  assert_text(difference(f, MODULE("%2 = add(%0, %1) return(%2)"),
                         MODULE("%2 = add(%1, %0) return(%2)")),
              "@f: %2 = add(%0, %1) : f32[4,B]: operand 0 is another one");
  assert_text(difference(f, MODULE("%2 = add(%0, %1) return(%2)"),
                         MODULE("%2 = sub(%0, %1) return(%2)")),
              "@f: %2 = add(%0, %1) : f32[4,B]: the other has sub");
  assert_text(
      difference(f, MODULE("%2 = softmax(%0) {axis = 1} return(%2)"),
                 MODULE("%2 = softmax(%0) {axis = 0} return(%2)")),
      "@f: %2 = softmax(%0) {axis = 1} : f32[4,B]: attribute axis differs");
  assert_text(difference(f, MODULE("return(%0)"), MODULE("return()")),
              "@f: return(%0): the other has 0 operands and 0 results");
  assert_text(difference(f, MODULE("%2 = fused neg(%0) return(%2)"),
                         MODULE("%2 = neg(%0) return(%2)")),
              "@f: %2 = fused neg(%0) : f32[4,B]: the other is not fused");
  assert_text(difference(f, "func @f(%0: f32[B]) { return(%0) }",
                         "func @f(%0: f32[C]) { return(%0) }"),
              "the other has no symbol B");
  assert_text(
      difference(f,
                 "func @f() { %0 = constant {dtype = f32, shape = [2], data = "
                 "[1.0, 2.0]} return(%0) }",
                 "func @f() { %0 = constant {dtype = f32, shape = [2], data = "
                 "[1.0, 2.5]} return(%0) }"),
      "@f: %0 = constant {dtype = f32, shape = [2], data = [1.0, 2.0]} : "
      "f32[2]: attribute data differs");
#undef MODULE
}

/* ---- Digests ------------------------------------------------------------ */

static uint64_t digest_of(const void *bytes, size_t size) {
  ir_data_t data = {.bytes = bytes, .size = size};
  return ir_data_digest(&data);
}

static void digests_see_every_bit_and_length(void **state) {
  fixture_t *f = *state;
  unsigned char *bytes = arena_alloc(f->arena, 101);
  uint64_t seen[102];
  for (size_t size = 0; size <= 101; size++) {
    seen[size] = digest_of(bytes, size);
    assert_true(seen[size] != 0);
    for (size_t i = 0; i < size; i++) assert_true(seen[i] != seen[size]);
  }
  for (size_t size = 1; size <= 101; size += 25)
    for (size_t bit = 0; bit < 8 * size; bit++) {
      bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
      assert_true(digest_of(bytes, size) != seen[size]);
      bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
}

static void digests_do_not_depend_on_alignment(void **state) {
  fixture_t *f = *state;
  for (size_t shift = 0; shift < 9; shift++) {
    char *bytes = arena_alloc(f->arena, 77 + shift);
    for (size_t i = 0; i < 77; i++) bytes[shift + i] = (char)(i * i);
    /* files are named by digests: the function may not change */
    assert_int_equal(digest_of(bytes + shift, 77),
                     UINT64_C(0x3944b2325c66cd78));
  }
}

static void digests_of_strings_see_their_ends(void **state) {
  (void)state;
  const char *a[] = {"ab", "c"}, *b[] = {"a", "bc"};
  ir_data_t x = {.strings = a, .size = 32}, y = {.strings = b, .size = 32};
  assert_true(ir_data_digest(&x) != ir_data_digest(&y));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(every_mnemonic_finds_its_operation),
      TEST(attributes_belong_to_their_row),
      TEST(attributes_stay_sorted_and_have_defaults),
      TEST(lists_are_copied),
      TEST(a_missing_required_attribute_is_a_bug),
      TEST(replacing_moves_every_use),
      TEST(operations_keep_their_order),
      TEST(erasing_takes_regions_along),
      TEST(values_are_numbered_in_program_order),
      TEST(main_functions_come_before_kernels),
      TEST(long_functions_take_linear_time),
      TEST(types_print_and_compare),
      TEST(static_counts_do_not_overflow),
      TEST(clones_map_outer_values_only),
      TEST(module_clones_survive_their_source),
      TEST(sizes_follow_an_operation_into_another_module),
      TEST(differences_are_described),
      TEST(digests_see_every_bit_and_length),
      TEST(digests_do_not_depend_on_alignment),
      TEST(digests_of_strings_see_their_ends),
  };
  return cmocka_run_group_tests_name("ir/ir", tests, NULL, NULL);
}
