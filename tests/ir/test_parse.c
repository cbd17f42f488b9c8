/* The text form: what is printed is read back as the same; what is rejected. */
#include "tests/ir/ir_support.h"

/* A complete text is a fixed point of reading and printing. */
static void check_fixed(fixture_t *f, const char *text, const char *file,
                        int line) {
  ir_module_t *module = check_parses(f, text, NULL, file, line);
  ir_print_options_t options = {.locations = strstr(text, "loc(") != NULL};
  check_text(print_with(f, module, options), text, file, line);
  check_verified(f, module, file, line);
}
#define assert_fixed(f, text) check_fixed((f), (text), __FILE__, __LINE__)

static void tensor_modules_are_read_as_printed(void **state) {
  assert_fixed(
      *state,
      "module \"a \\\"name\\\"\\n\\xc3\\xa9\" tensor {\n"
      "symbols { B >= 0, S >= 1, n1 in [0, B*S] }\n"
      "func @main(%0 \"input_ids\": i64[B,S], %1: f32[B,n1]) -> (\"logits\", "
      "_) {\n"
      "  %2 = constant {dtype = f32, shape = [2], data = [1.0, 2.5]} : f32[2]\n"
      "  %3 = cast(%0) {to = f32, saturate = 0, round_mode = \"up\"} : "
      "f32[B,S]\n"
      "  %4, %5 = topk(%3) {axis = -1, k = min(4, S)} : f32[B,min(4, S)], "
      "i64[B,min(4, S)]\n"
      "  %6 = fused neg(%4) : f32[B,min(4, S)]\n"
      "  return(%6, %2)\n"
      "}\n"
      "}\n");
}

static void loop_modules_are_read_as_printed(void **state) {
  assert_fixed(
      *state,
      "module \"m\" loop {\n"
      "symbols { B >= 0 }\n"
      "func @main(%0 \"x\": f32[B,4]) -> (\"y\") {\n"
      "  %1 = launch(%0) {kernel = \"k_sum\", units = B, grain = 16, args = "
      "[B, 4]} : f32[B]\n"
      "  %2 = call(%1) {routine = \"sort\", args = []} : f32[B]\n"
      "  %3 = panels {data = [0, 0, 128, 63], n_batch = 1, K = 1, N = 1, "
      "strides = [1, 1, 1]} : f32[1,1,1,32]\n"
      "  %4 = empty : f32[B]\n"
      "  %5 = launch(%4) {kernel = \"k_step\", units = B, grain = 1, args = "
      "[], inplace = 0} : f32[B]\n"
      "  return(%2)\n"
      "}\n"
      "kernel @k_sum(%0: buf f32, %1: buf f32, %2: i64[], %3: i64[]) {\n"
      "  parallel (%4: i64[]) {\n"
      "    %5 = constant {dtype = i64, shape = [], data = [0]} : i64[]\n"
      "    %6 = reduce(%5, %3) {kind = \"sum\", vector = 1} (%7: i64[]) {\n"
      "      %8 = mul(%4, %3) : i64[]\n"
      "      %9 = add(%8, %7) : i64[]\n"
      "      %10 = load(%1, %9) : f32[]\n"
      "      yield(%10)\n"
      "    } : f32[]\n"
      "    %11 = fold(%5, %3, %6) (%12: i64[], %13: f32[]) {\n"
      "      %14 = add(%13, %6) : f32[]\n"
      "      yield(%14)\n"
      "    } : f32[]\n"
      "    store(%0, %4, %11)\n"
      "    yield()\n"
      "  }\n"
      "  return()\n"
      "}\n"
      "kernel @k_step(%0: buf f32) {\n"
      "  return()\n"
      "}\n"
      "}\n");
}

static void locations_are_read_as_printed(void **state) {
  assert_fixed(*state,
               "module \"\" tensor {\n"
               "func @\"odd name\"(%0: f32[]) {\n"
               "  %1 = neg(%0) : f32[]   loc(#17 \"layers.0/add\" Add)\n"
               "  %2 = neg(%1) : f32[]   loc(#0 _ com.microsoft::Gelu)\n"
               "  %3 = neg(%2) : f32[]   loc(#3 \"n\")\n"
               "  %4 = neg(%3) : f32[]   loc(\"n\" \"odd type\")\n"
               "  %5 = neg(%4) : f32[]   loc(at \"tensor \\\"w\\\"\")\n"
               "  %6 = neg(%5) : f32[]   loc(#1 _ T at \"line 3\")\n"
               "  %7 = neg(%6) : f32[]   loc(#2 at \"x\")\n"
               "  return(%7)   loc(_ \"at\")\n"
               "}\n"
               "}\n");
}

static void constants_of_every_type_keep_their_bits(void **state) {
#define CONSTANT(n, type, shape, data)                                       \
  "  %" n " = constant {dtype = " type ", shape = [" shape "], data = " data \
  "} : " type "[" shape "]\n"
  assert_fixed(
      *state,
      "module \"\" tensor {\n"
      "func @f() {\n" CONSTANT("0", "f32", "5",
                               "[0.1, 1.4013e-45, -0.0, inf, nan]")
          CONSTANT("1", "f64", "3", "[0.1, 0.30000000000000004, -inf]")
              CONSTANT("2", "f16", "2", "[65504.0, 5.96046e-08]")
                  CONSTANT("3", "bf16", "1", "[3.38953e+38]")
                      CONSTANT("4", "u64", "1", "[18446744073709551615]")
                          CONSTANT("5", "i64", "1", "[-9223372036854775808]")
                              CONSTANT("6", "i4", "3", "[-8, 7, -1]")
                                  CONSTANT("7", "u2", "5", "[0, 1, 2, 3, 0]")
                                      CONSTANT("8", "bool", "2",
                                               "[true, false]")
                                          CONSTANT("9", "c64", "2",
                                                   "[(1.0, -2.5), (nan, 0.0)]")
                                              CONSTANT("10", "str", "2",
                                                       "[\"a\\\"b\", \"\"]")
                                                  CONSTANT("11", "f4e2m1", "3",
                                                           "[0.5, -6.0, 1.5]")
                                                      CONSTANT("12", "f8e8m0",
                                                               "1",
                                                               "[5.87747e-39]")
          /* bits that decimals lose: NaN payloads, padding, odd booleans */
          CONSTANT("13", "f32", "1", "hex(\"0100c07f\")")
              CONSTANT("14", "i4", "1", "hex(\"f1\")")
                  CONSTANT("15", "bool", "1", "hex(\"02\")")
                      CONSTANT("16", "f32", "0", "[]") "  return()\n"
                                                       "}\n"
                                                       "}\n");
#undef CONSTANT
}

/* ---- The short form ----------------------------------------------------- */

static void short_form_infers_types_and_makes_symbols(void **state) {
  fixture_t *f = *state;
  ir_module_t *module = assert_parses(f,
                                      "// moec opt: --passes=none\n"
                                      "func @f(%7: f32[2,N]) { // x\n"
                                      "  %3 = transpose(%7) {perm = [1, 0]}\n"
                                      "  // the end\n"
                                      "  return(%3, %7)\n"
                                      "}\n"
                                      "// expect:\n");
  assert_text(print_brief(f, module),
              "func @f(%0: f32[2,N]) {\n"
              "  %1 = transpose(%0) {perm = [1, 0]} : f32[N,2]\n"
              "  return(%1, %0)\n"
              "}\n");
  assert_int_equal(module->level, IR_LEVEL_TENSOR);
  assert_non_null(expr_find_symbol(module->exprs, "N"));
}

static void kernels_may_stand_alone(void **state) {
  fixture_t *f = *state;
  ir_module_t *module = assert_parses(f,
                                      "kernel @k(%0: buf f32) {\n"
                                      "  return()\n"
                                      "}\n");
  assert_int_equal(module->level, IR_LEVEL_LOOP);
  assert_verified(f, module);
}

static void operations_without_location_know_their_line(void **state) {
  fixture_t *f = *state;
  ir_module_t *module =
      assert_parses(f, "\nfunc @f(%0: f32[]) {\n\n  return(%0)\n}\n");
  assert_string_equal(module->first->body.first->loc.where, "line 4");
}

/* ---- Large constants ---------------------------------------------------- */

static const char *temporary_dir(fixture_t *f) {
  char *dir = arena_strdup(f->arena, "/tmp/moec-test-XXXXXX");
  assert_non_null(mkdtemp(dir));
  return dir;
}

static ir_module_t *module_with_large_constants(void **state) {
  fixture_t *f = begin(state, 0, NULL);
  float *bytes = arena_alloc(f->arena, 40 * sizeof *bytes);
  for (unsigned i = 0; i < 40; i++) bytes[i] = (float)i;
  const expr_t *dim = expr_const(f->module->exprs, 40);
  ir_type_t type = ir_tensor_type(DT_F32, 1, &dim);
  ir_value_t *out[2] = {ir_tensor(&f->b, &type, bytes, 160)};
  ir_data_t *data = ARENA_NEW(f->arena, ir_data_t);
  const char **strings = ARENA_ARRAY(f->arena, const char *, 40);
  for (unsigned i = 0; i < 40; i++)
    strings[i] = arena_printf(f->arena, "%*s", i, "x");
  *data = (ir_data_t){.strings = strings, .size = 40 * 16};
  int64_t shape = 40;
  ir_op_t *op = ir_begin(&f->b, OP_CONSTANT, 0, NULL, 1);
  ir_set_dtype(op, ATTR_CONSTANT_dtype, DT_STR);
  ir_set_ints(op, ATTR_CONSTANT_shape, 1, &shape);
  ir_set_data(op, ATTR_CONSTANT_data, data);
  out[1] = ir_place(&f->b, op);
  assert_int_equal(f->b.status, MOEC_OK);
  finish(f, 2, out);
  return f->module;
}

static void large_constants_are_read_from_files(void **state) {
  ir_module_t *module = module_with_large_constants(state);
  fixture_t *f = *state;
  const char *dir = temporary_dir(f);
  ir_print_options_t options = {.data_dir = dir};
  const char *text = print_with(f, module, options);
  assert_text(print_with(f, module, options), text); /* files are there */
  assert_null(strstr(text, "not written"));
  ir_module_t *copy = check_parses(f, text, dir, __FILE__, __LINE__);
  text_t why;
  text_init(&why, f->arena);
  if (!ir_module_equal(module, copy, &why)) fail_msg("%s", why.data);
  const ir_op_t *op = copy->first->body.first;
  const ir_data_t *floats = ir_get_data(op, ATTR_CONSTANT_data);
  const ir_data_t *strings = ir_get_data(op->next, ATTR_CONSTANT_data);
  assert_true(((const float *)floats->bytes)[39] == 39);
  assert_string_equal(strings->strings[3], "  x");

  /* another content under the same name is noticed */
  const char *path =
      arena_printf(f->arena, "%s/%016llx.bin", dir,
                   (unsigned long long)ir_data_digest((ir_data_t *)floats));
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  fputc(1, file);
  fclose(file);
  ir_module_t *none;
  assert_int_equal(ir_parse(f->arena, text, strlen(text), dir, &f->diag, &none),
                   MOEC_E_IO);
  assert_null(none);
  assert_non_null(strstr(reported(f), "has another content"));
  remove(path);
  path = arena_printf(f->arena, "%s/%016llx.bin", dir,
                      (unsigned long long)ir_data_digest((ir_data_t *)strings));
  assert_int_equal(remove(path), 0);
  assert_int_equal(remove(dir), 0);
}

static void large_constants_without_files_keep_size_and_digest(void **state) {
  ir_module_t *module = module_with_large_constants(state);
  fixture_t *f = *state;
  const char *text = print_with(f, module, (ir_print_options_t){0});
  ir_module_t *copy = assert_parses(f, text);
  assert_true(ir_module_equal(module, copy, NULL));
  const ir_op_t *op = copy->first->body.first;
  assert_int_equal(ir_get_data(op, ATTR_CONSTANT_data)->size, 160);
  assert_text(print_with(f, copy, (ir_print_options_t){0}), text);
}

static void unwritable_directories_leave_a_comment(void **state) {
  ir_module_t *module = module_with_large_constants(state);
  fixture_t *f = *state;
  ir_print_options_t options = {.data_dir = "/nowhere/at/all"};
  const char *text = print_with(f, module, options);
  assert_non_null(strstr(text, "// not written: No such file or directory\n"));
  assert_true(ir_module_equal(module, assert_parses(f, text), NULL));
}

/* ---- Rejected texts ----------------------------------------------------- */

static void check_rejected(void **state, const char *text, const char *message,
                           const char *file, int line) {
  fixture_t *f = *state;
  ir_module_t *module;
  diag_init(&f->diag, f->arena, NULL);
  moec_status_t status =
      ir_parse(f->arena, text, strlen(text), NULL, &f->diag, &module);
  if (status == MOEC_OK) {
    print_error("accepted:\n%s\n", text);
    _fail(file, line);
  }
  assert_null(module);
  assert_int_equal(f->diag.n_errors, 1);
  check_text(reported(f), message, file, line);
}
#define assert_rejected(text, message) \
  check_rejected(state, (text), (message), __FILE__, __LINE__)
#define FUNC(body) "func @f(%0: f32[4,8], %1: i64[]) {\n" body "\n}\n"

static void wrong_syntax_is_rejected_with_its_line(void **state) {
  assert_rejected("\n\nfoo", "line 3: expected func or kernel but found 'foo'");
  assert_rejected("func @f(%0 f32[])", "line 1: expected ':' but found 'f32'");
  assert_rejected("func @f(%0: f33[])",
                  "line 1: expected an element type but found 'f33'");
  assert_rejected("func @f(%0: f32[4,])",
                  "line 1: expected a size but found ']'");
  assert_rejected("func @f(%0: f32[-4])", "line 1: dimension 0 is negative");
  assert_rejected(
      "func @f() {\n return()\n",
      "line 3: expected an operation but found the end of the text");
  assert_rejected(FUNC("%2 = frobnicate(%0)"),
                  "line 2: unknown operation 'frobnicate'");
  assert_rejected(FUNC("%2 = neg %0"), "line 2: expected '(' but found '%0'");
  assert_rejected("module \"m\" vector {}",
                  "line 1: expected tensor or loop but found 'vector'");
  assert_rejected("module \"m\" tensor {\nfunc @f() { return() }\n}\nx",
                  "line 4: expected the end of the text but found 'x'");
  assert_rejected("module \"m\" tensor { symbols { a >= 0, a >= 1 } }",
                  "line 1: symbol 'a' is declared twice");
  assert_rejected(
      "module \"m\" tensor { symbols { a >= 0 }\n"
      "func @f(%0: f32[b]) { return() } }",
      "line 2: expected a size over declared symbols but found "
      "'b'");
  assert_rejected("func @f(%0 \"x: f32[]) {}",
                  "line 1: the string does not end on its line");
  assert_rejected("func @f(%0 \"\\q\": f32[]) {}",
                  "line 1: the string has an unknown escape");
  assert_rejected("func @f(%0 \"\\x00\": f32[]) {}",
                  "line 1: the string has a zero byte");
}

static void wrong_values_are_rejected(void **state) {
  assert_rejected(FUNC("%2 = neg(%5)"),
                  "line 2: %5 is used before its definition");
  assert_rejected(FUNC("%1 = neg(%0)"), "line 3: %1 is defined twice");
  assert_rejected(FUNC("%99999999 = neg(%0)"),
                  "line 2: the number of %99999999 is too large");
  assert_rejected(FUNC("%99999999999999999999 = neg(%0)"),
                  "line 2: the number is too large");
  assert_rejected(FUNC("%2, %3 = neg(%0)\nreturn()"),
                  "line 2: neg has 2 results, expected 1");
  assert_rejected(FUNC("neg(%0)\nreturn()"),
                  "line 2: neg has 0 results, expected 1");
  assert_rejected(FUNC("%2 = add(%0)"),
                  "line 2: add has 1 operands, expected 2");
  assert_rejected(FUNC("%2 = pad(%0, %1, %1)"),
                  "line 2: pad has 3 operands, expected at most 2");
  assert_rejected(FUNC("%2 = concat() {axis = 0}"),
                  "line 2: concat has 0 operands, expected at least 1");
  assert_rejected(FUNC("%2 = add(%0, _)"),
                  "line 2: operand 1 of add is missing");
  assert_rejected(
      "kernel @k(%0: i64[]) {\n"
      "  for(%0, %0) (%1: i64[]) {\n"
      "    %2 = neg(%1)\n"
      "    yield()\n"
      "  }\n"
      "  %3 = neg(%2)\n"
      "  return()\n"
      "}\n",
      "line 6: %2 is used before its definition");
}

static void wrong_attributes_are_rejected(void **state) {
  assert_rejected(FUNC("%2 = transpose(%0)"),
                  "line 2: transpose needs the attribute perm");
  assert_rejected(FUNC("%2 = transpose(%0) {prem = [1, 0]}"),
                  "line 2: transpose has no attribute 'prem'");
  assert_rejected(FUNC("%2 = transpose(%0) {perm = [1, 0], perm = [0, 1]}"),
                  "line 2: attribute 'perm' is given twice");
  assert_rejected(FUNC("%2 = transpose(%0) {perm = [1, 99999999999999999999]}"),
                  "line 2: the number is too large");
  assert_rejected(FUNC("%2 = transpose(%0) {perm = [1, -9223372036854775809]}"),
                  "line 2: the number is too large");
  assert_rejected(FUNC("%2 = softmax(%0) {axis = x}"),
                  "line 2: expected a number but found 'x'");
  assert_rejected(FUNC("%2 = cast(%0) {to = float}"),
                  "line 2: expected an element type but found 'float'");
}

static void wrong_data_is_rejected(void **state) {
#define DATA(type, shape, data)                                  \
  "func @f() {\n%0 = constant {dtype = " type ", shape = " shape \
  ", data = " data "}\nreturn() }"
  assert_rejected("func @f() {\n%0 = constant {data = [1]}\n}",
                  "line 2: data needs the attribute dtype before it");
  assert_rejected(DATA("i8", "[1]", "[128]"),
                  "line 2: the number is out of range for i8");
  assert_rejected(DATA("u8", "[1]", "[-1]"),
                  "line 2: expected a number but found '-1'");
  assert_rejected(DATA("u4", "[1]", "[16]"),
                  "line 2: the number is out of range for u4");
  assert_rejected(DATA("f32", "[1]", "[1e999]"),
                  "line 2: expected a finite number, inf or nan but found "
                  "'1e999'");
  assert_rejected(DATA("f32", "[1]", "[0x10]"),
                  "line 2: expected ',' but found 'x10'");
  assert_rejected(DATA("f32", "[1]", "hex(\"0\")"),
                  "line 2: hex() needs pairs of digits 0-9, a-f");
  assert_rejected(DATA("bool", "[1]", "[1]"),
                  "line 2: expected true or false but found '1'");
  assert_rejected(DATA("f32", "[1]", "digest(0, 4)"),
                  "line 2: a digest is never 0");
#undef DATA
}

static void wrong_types_are_rejected(void **state) {
  assert_rejected(FUNC("%2 = neg(%0) : f32[4,9]\nreturn()"),
                  "line 2: result 0 of neg is declared as f32[4,9] but has "
                  "type f32[4,8]");
  assert_rejected("func @f(%0: f32[B]) {\n%1 = neg(%0) : f32[C]\nreturn() }",
                  "line 2: result 0 of neg is declared as f32[C] but has type "
                  "f32[B]");
  assert_rejected(
      "kernel @k() { return() }\nfunc @f() {\n"
      "%0 = launch() {kernel = \"k\", units = 1, grain = 1, args = "
      "[]}\nreturn() }",
      "line 3: launch needs the types of its results");
}

static void wrong_structure_is_rejected(void **state) {
  assert_rejected("func @f() {\n}", "a region of f is empty");
  assert_rejected(FUNC("%2 = neg(%0)"),
                  "line 2: a region of a function ends with neg, expected "
                  "return");
  assert_rejected(FUNC("return()\nreturn()"),
                  "line 2: return is not the last operation of its region");
  assert_rejected(FUNC("%2 = load(%0, %1)\nreturn()"),
                  "line 2: operand 0 of load is f32[4,8], expected a buffer");
  assert_rejected("func @f() { return() } func @g() { return() }",
                  "@g is a second main function");
  assert_rejected("",
                  "0 functions at the tensor level, expected one main "
                  "function");
  assert_rejected("func @f() -> (\"a\") { return() }",
                  "line 1: @f names 1 results but returns another number");
  assert_rejected("kernel @k() { return() } kernel @k() { return() }",
                  "there are two kernels 'k'");
}

static void nesting_is_bounded(void **state) {
  fixture_t *f = *state;
  for (int depth = 128; depth <= 129; depth++) {
    text_t text;
    text_init(&text, f->arena);
    text_printf(&text, "kernel @k(%%0: bool[]) {\n");
    for (int i = 0; i < depth; i++) text_printf(&text, "when(%%0) () {\n");
    for (int i = 0; i < depth; i++) text_printf(&text, "yield() }\n");
    text_printf(&text, "return() }\n");
    if (depth == 128)
      assert_parses(f, text.data);
    else
      assert_rejected(text.data,
                      "line 130: regions are nested more than 128 deep");
  }
  text_t text;
  text_init(&text, f->arena);
  text_printf(&text, "func @f(%%0: ");
  for (int i = 0; i < 100000; i++) text_printf(&text, "seq ");
  text_printf(&text, "f32[]) { return() }");
  assert_rejected(text.data, "line 1: the type is nested more than 128 deep");
}

/* ---- Mutations ---------------------------------------------------------- */

static const char seed_text[] =
    "module \"m\" tensor {\n"
    "symbols { B >= 0, n in [0, 4*B] }\n"
    "func @main(%0 \"x\": f32[B,floordiv(n, 2)], %1: opt seq i64[3]) -> "
    "(\"y\") {\n"
    "  %2 = constant {dtype = i4, shape = [3], data = [1, -2, 3]} : i4[3]\n"
    "  %3 = constant {dtype = c64, shape = [], data = [(1.5, nan)]} : c64[]\n"
    "  %4, %5 = topk(%0) {axis = -1, k = 2} : f32[B,2], i64[B,2]\n"
    "  %6 = transpose(%4) {perm = [1, 0]} : f32[2,B]   loc(#3 \"t\" T at "
    "\"p\")\n"
    "  %7 = constant {dtype = f32, shape = [32], data = digest(0x12, 128)} : "
    "f32[32]\n"
    "  return(%6)\n"
    "}\n"
    "}\n"
    "kernel @k(%0: buf f32, %1: i64[]) {\n"
    "  parallel (%2: i64[]) {\n"
    "    %3 = fold(%1, %1, %2) (%4: i64[], %5: i64[]) {\n"
    "      %6 = add(%4, %5) : i64[]\n"
    "      yield(%6)\n"
    "    } : i64[]\n"
    "    %7 = load(%0, %3)\n"
    "    store(%0, %2, %7)\n"
    "    yield()\n"
    "  }\n"
    "  return()\n"
    "}\n";

static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* Deletes, doubles or replaces a few stretches of the seed. */
static size_t mutate(char *text, size_t length, size_t room, uint64_t *random) {
  static const char alphabet[] = "%@(){}[],:=\"_#0123456789-+*abfkin \n\\.";
  for (unsigned n = 1 + next_random(random) % 2; n > 0; n--) {
    size_t at = next_random(random) % length;
    size_t span = 1 + next_random(random) % 6;
    if (span > length - at) span = length - at;
    switch (next_random(random) % 4) {
      case 0:
        if (length <= span + 1) break;
        memmove(text + at, text + at + span, length - at - span);
        length -= span;
        break;
      case 1:
        if (length + span > room) break;
        memmove(text + at + span, text + at, length - at);
        length += span;
        break;
      case 2: /* another number */
        if (text[at] >= '0' && text[at] <= '9')
          text[at] = (char)('0' + next_random(random) % 10);
        break;
      default:
        text[at] = alphabet[next_random(random) % (sizeof alphabet - 1)];
    }
  }
  return length;
}

/* Reads a text, and what is printed of it again; NULL or what went wrong. */
static const char *read_twice(arena_t *arena, const char *text, size_t length,
                              bool *out_accepted) {
  ir_module_t *module, *copy;
  diag_sink_t diag;
  text_t again;
  diag_init(&diag, arena, NULL);
  *out_accepted = false;
  if (ir_parse(arena, text, length, NULL, &diag, &module) != MOEC_OK)
    return diag.n_errors == 1 ? NULL : "not one error";
  *out_accepted = true;
  text_init(&again, arena);
  ir_print(module, &(ir_print_options_t){.locations = true}, &again);
  if (ir_parse(arena, again.data, again.length, NULL, &diag, &copy) != MOEC_OK)
    return arena_printf(arena, "%s in\n%s", diag.first->text, again.data);
  text_t why;
  text_init(&why, arena);
  return ir_module_equal(module, copy, &why) ? NULL : why.data;
}

static void check_mutant(const char *text, size_t length, const char *name,
                         bool *out_accepted) {
  arena_t *arena = arena_create((size_t)64 << 20);
  recovery_t point;
  const char *problem = NULL;
  *out_accepted = false;
  recovery_enter(&point);
  if (setjmp(point.jump) == 0)
    problem = read_twice(arena, text, length, out_accepted);
  else if (point.status != MOEC_E_LIMIT) /* which a huge digest() may give */
    problem = point.message;
  recovery_leave(&point);
  if (problem != NULL)
    print_error("%s: %s for:\n%.*s\n", name, problem, (int)length, text);
  assert_null(problem);
  arena_destroy(arena);
}

static void mutated_texts_are_parsed_or_rejected(void **state) {
  fixture_t *f = *state;
  const char *chosen = getenv("MOEC_TEST_SEED");
  uint64_t random = chosen != NULL ? strtoull(chosen, NULL, 0) : 20240607;
  uint64_t seed = random;
  const char *kernel = strstr(seed_text, "kernel");
  unsigned n_accepted = 0;
  char text[4096];
  for (unsigned round = 0; round < 4000; round++) {
    const char *from = round % 2 == 0 ? seed_text : kernel;
    size_t length =
        round % 2 == 0 ? (size_t)(kernel - seed_text) : strlen(kernel);
    bool accepted;
    memcpy(text, from, length);
    length = mutate(text, length, sizeof text, &random);
    check_mutant(text, length,
                 arena_printf(f->arena, "MOEC_TEST_SEED=%llu, text %u",
                              (unsigned long long)seed, round),
                 &accepted);
    n_accepted += accepted;
  }
  assert_in_range(n_accepted, 100, 3900);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(tensor_modules_are_read_as_printed),
      TEST(loop_modules_are_read_as_printed),
      TEST(locations_are_read_as_printed),
      TEST(constants_of_every_type_keep_their_bits),
      TEST(short_form_infers_types_and_makes_symbols),
      TEST(kernels_may_stand_alone),
      TEST(operations_without_location_know_their_line),
      TEST(large_constants_are_read_from_files),
      TEST(large_constants_without_files_keep_size_and_digest),
      TEST(unwritable_directories_leave_a_comment),
      TEST(wrong_syntax_is_rejected_with_its_line),
      TEST(wrong_values_are_rejected),
      TEST(wrong_attributes_are_rejected),
      TEST(wrong_data_is_rejected),
      TEST(wrong_types_are_rejected),
      TEST(wrong_structure_is_rejected),
      TEST(nesting_is_bounded),
      TEST(mutated_texts_are_parsed_or_rejected),
  };
  return cmocka_run_group_tests_name("ir/parse", tests, NULL, NULL);
}
