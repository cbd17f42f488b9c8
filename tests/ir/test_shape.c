/* Shape laws: result types and every check. */
#include "tests/ir/shape_fixture.h"

/* ---- Elementwise --------------------------------------------------------- */

static void broadcast_follows_numpy(void **state) {
  CHECK_TYPE(OP_OF(ADD, 1, "f32[B,1,4]", "f32[5,4]"), 0, "f32[B,5,4]");
  CHECK_TYPE(OP_OF(MUL, 1, "f32[]", "f32[B,S]"), 0, "f32[B,S]");
  CHECK_TYPE(OP_OF(SUB, 1, "i64[B]", "i64[4]"), 0, "i64[4]");
  CHECK_TYPE(OP_OF(SUB, 1, "i64[B]", "i64[S]"), 0, "i64[broadcast(B, S)]");
  CHECK_TYPE(OP_OF(DIV, 1, "f32[0,3]", "f32[1,3]"), 0, "f32[0,3]");
  CHECK_ERROR(OP_OF(ADD, 1, "f32[2,3]", "f32[2,4]"),
              "cannot broadcast shapes [2,3] and [2,4]");
  CHECK_ERROR(OP_OF(ADD, 1, "f32[B + 2]", "f32[B + 3]"),
              "cannot broadcast shapes [B + 2] and [B + 3]");
}

static void elementwise_dtypes_are_checked(void **state) {
  CHECK_ERROR(OP_OF(ADD, 1, "f32[2]", "f64[2]"),
              "operands 0 and 1 of add are f32[2] and f64[2], expected one "
              "dtype");
  CHECK_ERROR(OP_OF(EXP, 1, "i32[2]"),
              "operand 0 of exp is i32[2], expected a float type");
  CHECK_ERROR(OP_OF(MOD, 1, "f32[2]", "f32[2]"),
              "operand 0 of mod is f32[2], expected an integer type");
  CHECK_ERROR(OP_OF(NEG, 1, "bool[2]"),
              "operand 0 of neg is bool[2], expected a float or integer type");
  CHECK_ERROR(OP_OF(NOT, 1, "u8[2]"),
              "operand 0 of not is u8[2], expected bool");
  CHECK_ERROR(OP_OF(BIT_NOT, 1, "f16[2]"),
              "operand 0 of bit_not is f16[2], expected an integer type");
  CHECK_ERROR(OP_OF(AND, 1, "bool[2]", "i8[2]"),
              "operand 1 of and is i8[2], expected bool");
  CHECK_ERROR(OP_OF(ADD, 1, "buf f32", "f32[]"),
              "operand 0 of add is buf f32, expected a tensor");
  fixture_t *f = *state;
  assert_int_equal(
      ir_infer_types(f->module, OP_OF(ADD, 1, "str[2]", "str[2]"), NULL),
      MOEC_E_UNSUPPORTED);
  CHECK_TYPE(OP_OF(POW, 1, "f32[2,1]", "i64[3]"), 0, "f32[2,3]");
  CHECK_TYPE(OP_OF(LT, 1, "f16[B]", "f16[]"), 0, "bool[B]");
  CHECK_TYPE(OP_OF(IS_NAN, 1, "f64[B]"), 0, "bool[B]");
  CHECK_TYPE(OP_OF(MAX, 1, "bool[2]", "bool[2]"), 0, "bool[2]");
  CHECK_ERROR(OP_OF(LE, 1, "bool[2]", "bool[2]"),
              "operand 0 of le is bool[2], expected a float or integer type");
}

static void select_broadcasts_all_three(void **state) {
  CHECK_TYPE(OP_OF(SELECT, 1, "bool[B,1]", "f32[]", "f32[4]"), 0, "f32[B,4]");
  CHECK_TYPE(OP_OF(SELECT, 1, "bool[]", "f32[3]", "f32[1]"), 0, "f32[3]");
  CHECK_ERROR(OP_OF(SELECT, 1, "bool[2]", "f32[3]", "f32[]"),
              "cannot broadcast shapes [2] and [3]");
  CHECK_ERROR(OP_OF(SELECT, 1, "f32[2]", "f32[2]", "f32[2]"),
              "operand 0 of select is f32[2], expected bool");
}

static void casts_keep_the_shape(void **state) {
  ir_op_t *op = OP_OF(CAST, 1, "f32[B,4]");
  ir_set_dtype(op, ATTR_CAST_to, DT_F8E5M2);
  CHECK_TYPE(op, 0, "f8e5m2[B,4]");
  ir_set_str(op, ATTR_CAST_round_mode, "away");
  CHECK_ERROR(op, "round_mode \"away\", expected up, down or nearest");
  ir_set_dtype(op, ATTR_CAST_to, DT_STR);
  CHECK_ERROR(op, "cast of f32[B,4] to str is not supported");
  op = OP_OF(BITCAST, 1, "f32[B,4]");
  ir_set_dtype(op, ATTR_BITCAST_to, DT_U32);
  CHECK_TYPE(op, 0, "u32[B,4]");
  ir_set_dtype(op, ATTR_BITCAST_to, DT_U16);
  CHECK_ERROR(op,
              "bitcast of f32[B,4] to u16, expected a type of the same "
              "size");
}

/* ---- Sources ------------------------------------------------------------- */

static ir_op_t *constant(fixture_t *f, dtype_t dtype, unsigned rank,
                         const int64_t *shape, uint64_t size) {
  ir_op_t *op = ir_op_create(f->module, OP_CONSTANT, (ir_loc_t){0}, 0, NULL, 1);
  ir_data_t *data = ARENA_NEW(f->arena, ir_data_t);
  data->size = size;
  data->bytes = arena_alloc(f->arena, size < 4096 ? size : 0);
  ir_set_dtype(op, ATTR_CONSTANT_dtype, dtype);
  ir_set_ints(op, ATTR_CONSTANT_shape, rank, shape);
  ir_set_data(op, ATTR_CONSTANT_data, data);
  return op;
}

static void constants_have_exactly_their_bytes(void **state) {
  fixture_t *f = *state;
  const int64_t shape[] = {3, 5};
  CHECK_TYPE(constant(f, DT_F32, 2, shape, 60), 0, "f32[3,5]");
  CHECK_TYPE(constant(f, DT_I4, 2, shape, 8), 0, "i4[3,5]");
  CHECK_ERROR(constant(f, DT_F32, 2, shape, 61),
              "constant f32[3,5] has 61 bytes of data, expected 60");
  const int64_t negative[] = {3, -5};
  CHECK_ERROR(constant(f, DT_F32, 2, negative, 60),
              "dimension 1 of a constant is -5, expected at least 0");
  const int64_t huge[] = {INT64_C(1) << 40, INT64_C(1) << 40};
  CHECK_ERROR(
      constant(f, DT_F32, 2, huge, 60),
      "constant f32[1099511627776,1099511627776] has too many elements");
  const int64_t empty[] = {INT64_C(1) << 40, INT64_C(1) << 40, 0};
  CHECK_TYPE(constant(f, DT_F32, 3, empty, 0), 0,
             "f32[1099511627776,1099511627776,0]");
}

static void sizes_are_tensors(void **state) {
  ir_op_t *op = OP_OF(EXPRS, 1, NULL);
  SET_EXPRS(op, EXPRS_values, "B,4*S");
  CHECK_TYPE(op, 0, "i64[2]");
  ir_set_int(op, ATTR_EXPRS_scalar, 1);
  CHECK_ERROR(op, "exprs as a scalar has 2 values, expected 1");
  op = OP_OF(IOTA, 1, NULL);
  ir_set_dtype(op, ATTR_IOTA_dtype, DT_F16);
  SET_EXPR(op, IOTA_n, "B + 1");
  CHECK_TYPE(op, 0, "f16[B + 1]");
  SET_EXPR(op, IOTA_n, "-1");
  CHECK_ERROR(op, "length -1 of iota, expected at least 0");
  ir_set_dtype(op, ATTR_IOTA_dtype, DT_BOOL);
  CHECK_ERROR(op, "iota of bool, expected a float or integer type");
}

static void bind_defines_a_symbol(void **state) {
  fixture_t *f = *state;
  ir_op_t *op = OP_OF(BIND, 0, "i64[3]");
  SET_EXPR(op, BIND_symbol, "count");
  ir_set_int(op, ATTR_BIND_index, 2);
  assert_int_equal(ir_infer_types(f->module, op, NULL), MOEC_OK);
  ir_set_int(op, ATTR_BIND_index, 3);
  CHECK_ERROR(op, "bind of element 3 of i64[3]");
  SET_EXPR(op, BIND_symbol, "2*count");
  CHECK_ERROR(op, "bind defines 2*count, expected a symbol");
}

/* ---- Movement ------------------------------------------------------------ */

static void reshape_keeps_the_number_of_elements(void **state) {
  ir_op_t *op = OP_OF(RESHAPE, 1, "f32[B,S,12]");
  SET_EXPRS(op, RESHAPE_shape, "B*S,3,4");
  CHECK_TYPE(op, 0, "f32[B*S,3,4]");
  SET_EXPRS(op, RESHAPE_shape, "T,12"); /* perhaps */
  CHECK_TYPE(op, 0, "f32[T,12]");
  SET_EXPRS(op, RESHAPE_shape, "B*S*12 + 1");
  CHECK_ERROR(op,
              "reshape of f32[B,S,12] to f32[12*B*S + 1], expected as many "
              "elements");
  SET_EXPRS(op, RESHAPE_shape, "-B - 1,S");
  CHECK_ERROR(op, "size -B - 1 of reshape, expected at least 0");
}

static void expand_takes_exactly_its_shape(void **state) {
  ir_op_t *op = OP_OF(EXPAND, 1, "f32[1,4]");
  SET_EXPRS(op, EXPAND_shape, "B,S,4");
  CHECK_TYPE(op, 0, "f32[B,S,4]");
  SET_EXPRS(op, EXPAND_shape, "B,1");
  CHECK_ERROR(op, "cannot broadcast f32[1,4] to f32[B,1]");
  SET_EXPRS(op, EXPAND_shape, "4");
  CHECK_ERROR(op, "cannot broadcast f32[1,4] to f32[4]");
}

static void transpose_needs_a_permutation(void **state) {
  ir_op_t *op = OP_OF(TRANSPOSE, 1, "f32[B,2,3]");
  SET_INTS(op, TRANSPOSE_perm, 2, 0, 1);
  CHECK_TYPE(op, 0, "f32[3,B,2]");
  SET_INTS(op, TRANSPOSE_perm, 2, 0, 2);
  CHECK_ERROR(op, "perm[2] = 2 does not belong to a permutation of 3 axes");
  SET_INTS(op, TRANSPOSE_perm, 0, 1, -1);
  CHECK_ERROR(op, "perm[2] = -1 does not belong to a permutation of 3 axes");
  SET_INTS(op, TRANSPOSE_perm, 0, 1);
  CHECK_ERROR(op, "perm of transpose has 2 entries, expected 3");
}

static ir_op_t *slice(fixture_t *f, const char *type, const char *start,
                      const char *length, const char *step) {
  ir_op_t *op = op_of(f, OP_SLICE, 1, (const char *const[]){type, NULL});
  set_exprs(f, op, ATTR_SLICE_start, start);
  set_exprs(f, op, ATTR_SLICE_length, length);
  set_exprs(f, op, ATTR_SLICE_step, step);
  return op;
}

static void slice_stays_within_its_operand(void **state) {
  fixture_t *f = *state;
  CHECK_TYPE(slice(f, "f32[B,9]", "0,8", "B,5", "1,-2"), 0, "f32[B,5]");
  CHECK_TYPE(slice(f, "f32[B,9]", "0,0", "B,0", "1,1"), 0, "f32[B,0]");
  CHECK_TYPE(slice(f, "f32[S + 4]", "S", "4", "1"), 0, "f32[4]");
  CHECK_ERROR(slice(f, "f32[9]", "8", "6", "-2"),
              "slice 8..-2 leaves axis 0 of f32[9]");
  CHECK_ERROR(slice(f, "f32[9]", "5", "5", "1"),
              "slice 5..9 leaves axis 0 of f32[9]");
  CHECK_ERROR(slice(f, "f32[S + 4]", "S", "5", "1"),
              "slice S..S + 4 leaves axis 0 of f32[S + 4]");
  CHECK_ERROR(slice(f, "f32[9]", "0", "-1", "1"),
              "size -1 of slice, expected at least 0");
  CHECK_ERROR(slice(f, "f32[9]", "0,0", "1", "1"),
              "start of slice has 2 entries, expected 1");
}

static void concat_adds_up_one_axis(void **state) {
  ir_op_t *op = OP_OF(CONCAT, 1, "f32[B,2]", "f32[B,S]", "f32[3,4]");
  ir_set_int(op, ATTR_CONCAT_axis, -1);
  CHECK_TYPE(op, 0, "f32[3,S + 6]");
  ir_set_int(op, ATTR_CONCAT_axis, 2);
  CHECK_ERROR(op, "axis 2 of concat is out of range for rank 2");
  op = OP_OF(CONCAT, 1, "f32[2,2]", "f32[3,3]");
  ir_set_int(op, ATTR_CONCAT_axis, 0);
  CHECK_ERROR(op, "cannot concatenate f32[2,2] and f32[3,3] along axis 0");
  op = OP_OF(CONCAT, 1, "f32[2,2]", "f32[4]");
  ir_set_int(op, ATTR_CONCAT_axis, 0);
  CHECK_ERROR(op, "cannot concatenate f32[2,2] and f32[4] along axis 0");
  op = OP_OF(CONCAT, 1, "f32[]");
  ir_set_int(op, ATTR_CONCAT_axis, 0);
  CHECK_ERROR(op, "axis 0 of concat is out of range for rank 0");
}

static void pad_adds_both_sides(void **state) {
  ir_op_t *op = OP_OF(PAD, 1, "f32[B,4]", "f32[]");
  SET_EXPRS(op, PAD_before, "0,1");
  SET_EXPRS(op, PAD_after, "P,-2");
  ir_set_str(op, ATTR_PAD_mode, "constant");
  CHECK_TYPE(op, 0, "f32[B + P,3]");
  SET_EXPRS(op, PAD_after, "P,-6");
  CHECK_ERROR(op, "size -1 of pad, expected at least 0");
  ir_set_str(op, ATTR_PAD_mode, "mirror");
  CHECK_ERROR(op,
              "mode \"mirror\" of pad, expected constant, reflect, edge or "
              "wrap");
  op = OP_OF(PAD, 1, "f32[0]");
  SET_EXPRS(op, PAD_before, "1");
  SET_EXPRS(op, PAD_after, "0");
  ir_set_str(op, ATTR_PAD_mode, "edge");
  CHECK_ERROR(op,
              "mode edge of pad has nothing to repeat along axis 0 of "
              "f32[0]");
  op = OP_OF(PAD, 1, "f32[4]", "f64[]");
  SET_EXPRS(op, PAD_before, "1");
  SET_EXPRS(op, PAD_after, "0");
  ir_set_str(op, ATTR_PAD_mode, "constant");
  CHECK_ERROR(op, "operand 1 of pad is f64[], expected a scalar of f32");
}

static void unfold_puts_windows_behind_channels(void **state) {
  ir_op_t *op = OP_OF(UNFOLD, 1, "f32[N,3,H,W]", "f32[]");
  SET_EXPRS(op, UNFOLD_kernel, "5,7");
  SET_EXPRS(op, UNFOLD_out, "H - 4,floordiv(W, 2)");
  SET_INTS(op, UNFOLD_strides, 1, 2);
  SET_INTS(op, UNFOLD_dilations, 1, 1);
  SET_EXPRS(op, UNFOLD_pad_before, "0,3");
  SET_INTS(op, UNFOLD_input_dilation, 1, 1);
  CHECK_TYPE(op, 0, "f32[N,3,5,7,H - 4,floordiv(W, 2)]");
  SET_INTS(op, UNFOLD_strides, 1, 0);
  CHECK_ERROR(op, "strides[1] of unfold is 0, expected at least 1");
  SET_INTS(op, UNFOLD_strides, 1);
  CHECK_ERROR(op, "strides of unfold has 1 entries, expected 2");
}

/* ---- Indices ------------------------------------------------------------- */

static void gather_replaces_one_axis(void **state) {
  ir_op_t *op = OP_OF(GATHER, 1, "f32[V,H]", "i64[B,S]");
  CHECK_TYPE(op, 0, "f32[B,S,H]");
  ir_set_int(op, ATTR_GATHER_axis, -1);
  CHECK_TYPE(op, 0, "f32[V,B,S]");
  ir_set_int(op, ATTR_GATHER_axis, -3);
  CHECK_ERROR(op, "axis -3 of gather is out of range for rank 2");
  CHECK_ERROR(OP_OF(GATHER, 1, "f32[V,H]", "f32[B]"),
              "operand 1 of gather is f32[B], expected an integer type");
  CHECK_TYPE(OP_OF(GATHER, 1, "f32[V]", "i32[]"), 0, "f32[]");
}

static void gather_elements_takes_the_shape_of_indices(void **state) {
  ir_op_t *op = OP_OF(GATHER_ELEMENTS, 1, "f32[4,S]", "i64[3,9]");
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 1);
  CHECK_TYPE(op, 0, "f32[3,9]");
  op = OP_OF(GATHER_ELEMENTS, 1, "f32[4,5]", "i64[5,9]");
  ir_set_int(op, ATTR_GATHER_ELEMENTS_axis, 1);
  CHECK_ERROR(op, "indices i64[5,9] of gather_elements reach beyond f32[4,5]");
}

static void gather_nd_needs_a_known_depth(void **state) {
  CHECK_TYPE(OP_OF(GATHER_ND, 1, "f32[A,B,C]", "i64[N,2]"), 0, "f32[N,C]");
  ir_op_t *op = OP_OF(GATHER_ND, 1, "f32[A,B,C]", "i64[A,N,1]");
  ir_set_int(op, ATTR_GATHER_ND_batch_dims, 1);
  CHECK_TYPE(op, 0, "f32[A,N,C]");
  CHECK_ERROR(OP_OF(GATHER_ND, 1, "f32[A,B,C]", "i64[N,4]"),
              "last dimension of the indices i64[N,4] of gather_nd, expected "
              "1..3");
  CHECK_ERROR(OP_OF(GATHER_ND, 1, "f32[A,B,C]", "i64[N,K]"),
              "last dimension of the indices i64[N,K] of gather_nd is not "
              "constant");
  op = OP_OF(GATHER_ND, 1, "f32[4,B,C]", "i64[5,N,1]");
  ir_set_int(op, ATTR_GATHER_ND_batch_dims, 1);
  CHECK_ERROR(op,
              "indices i64[5,N,1] and data f32[4,B,C] of gather_nd differ "
              "in batch axis 0");
  ir_set_int(op, ATTR_GATHER_ND_batch_dims, 3);
  CHECK_ERROR(op,
              "operand 0 of gather_nd is f32[4,B,C], expected rank 4 or "
              "more");
}

static void scatters_have_the_shape_of_data(void **state) {
  ir_op_t *op = OP_OF(SCATTER_ELEMENTS, 1, "f32[4,S]", "i64[2,T]", "f32[2,T]");
  ir_set_int(op, ATTR_SCATTER_ELEMENTS_axis, 1);
  CHECK_TYPE(op, 0, "f32[4,S]");
  ir_set_str(op, ATTR_SCATTER_ELEMENTS_reduction, "sum");
  CHECK_ERROR(op,
              "reduction \"sum\" of scatter_elements, expected none, add, "
              "mul, max or min");
  CHECK_ERROR(
      OP_OF(SCATTER_ELEMENTS, 1, "f32[4,S]", "i64[2,3]", "f32[2,4]"),
      "updates f32[2,4] of scatter_elements, expected the shape of indices "
      "i64[2,3]");
  CHECK_TYPE(OP_OF(SCATTER_ND, 1, "f32[T,H]", "i64[N,1]", "f32[N,H]"), 0,
             "f32[T,H]");
  CHECK_ERROR(OP_OF(SCATTER_ND, 1, "f32[T,5]", "i64[N,1]", "f32[N,6]"),
              "updates f32[N,6] of scatter_nd do not fit data f32[T,5] and "
              "indices i64[N,1]");
  op = OP_OF(SCATTER_ND, 1, "bool[T,H]", "i64[N,1]", "bool[N,H]");
  ir_set_str(op, ATTR_SCATTER_ND_reduction, "add");
  CHECK_ERROR(op,
              "operand 0 of scatter_nd is bool[T,H], expected a float or "
              "integer type");
}

/* ---- Reductions ---------------------------------------------------------- */

static void reductions_drop_or_keep_axes(void **state) {
  ir_op_t *op = OP_OF(REDUCE_SUM, 1, "f32[B,S,H]");
  SET_INTS(op, REDUCE_SUM_axes, 0, 2);
  CHECK_TYPE(op, 0, "f32[1,S,1]");
  ir_set_int(op, ATTR_REDUCE_SUM_keepdims, 0);
  CHECK_TYPE(op, 0, "f32[S]");
  SET_INTS(op, REDUCE_SUM_axes, 2, 0);
  CHECK_ERROR(op, "axes of reduce_sum are not distinct and ascending");
  SET_INTS(op, REDUCE_SUM_axes, 3);
  CHECK_ERROR(op, "axis 3 of reduce_sum is out of range for f32[B,S,H]");
  op = OP_OF(REDUCE_PROD, 1, "bool[B]");
  SET_INTS(op, REDUCE_PROD_axes, 0);
  CHECK_ERROR(op,
              "operand 0 of reduce_prod is bool[B], expected a float or "
              "integer type");
  op = OP_OF(REDUCE_MAX, 1, "bool[B]");
  SET_INTS(op, REDUCE_MAX_axes, 0);
  CHECK_TYPE(op, 0, "bool[1]");
}

static void arg_reductions_give_indices(void **state) {
  ir_op_t *op = OP_OF(ARG_MAX, 1, "f32[B,S]");
  ir_set_int(op, ATTR_ARG_MAX_axis, -1);
  CHECK_TYPE(op, 0, "i64[B,1]");
  ir_set_int(op, ATTR_ARG_MAX_keepdims, 0);
  CHECK_TYPE(op, 0, "i64[B]");
  CHECK_ERROR(OP_OF(ARG_MIN, 1, "f32[0,S]"),
              "arg_min over axis 0 of f32[0,S] has nothing to choose from");
}

static void scans_and_softmax_keep_the_type(void **state) {
  ir_op_t *op = OP_OF(CUM_SUM, 1, "i32[B,S]");
  ir_set_int(op, ATTR_CUM_SUM_axis, -2);
  CHECK_TYPE(op, 0, "i32[B,S]");
  ir_set_int(op, ATTR_CUM_SUM_axis, INT64_MIN);
  CHECK_ERROR(op,
              "axis -9223372036854775808 of cum_sum is out of range for "
              "rank 2");
  CHECK_TYPE(OP_OF(SOFTMAX, 1, "bf16[B,S]"), 0, "bf16[B,S]");
  CHECK_ERROR(OP_OF(SOFTMAX, 1, "i32[B]"),
              "operand 0 of softmax is i32[B], expected a float type");
}

static void topk_k_larger_than_axis_is_rejected(void **state) {
  ir_op_t *op = OP_OF(TOPK, 2, "f32[4,8]");
  SET_EXPR(op, TOPK_k, "8");
  CHECK_TYPE(op, 0, "f32[4,8]");
  CHECK_TYPE(op, 1, "i64[4,8]");
  SET_EXPR(op, TOPK_k, "9");
  CHECK_ERROR(op, "k = 9 exceeds dimension 1 of f32[4,8]");
  SET_EXPR(op, TOPK_k, "-1");
  CHECK_ERROR(op, "k = -1 of topk, expected at least 0");
  op = OP_OF(TOPK, 2, "f32[4,E]");
  SET_EXPR(op, TOPK_k, "min(E, 2)");
  CHECK_TYPE(op, 1, "i64[4,min(2, E)]");
  SET_EXPR(op, TOPK_k, "E + 1");
  CHECK_ERROR(op, "k = E + 1 exceeds dimension 1 of f32[4,E]");
}

static void nonzero_lists_coordinates(void **state) {
  ir_op_t *op = OP_OF(NONZERO, 1, "bool[B,S]");
  SET_EXPR(op, NONZERO_count, "count");
  CHECK_TYPE(op, 0, "i64[2,count]");
}

/* ---- Products ------------------------------------------------------------ */

static void matmul_broadcasts_batches(void **state) {
  CHECK_TYPE(OP_OF(MATMUL, 1, "f32[B,1,S,K]", "f32[8,K,N]"), 0, "f32[B,8,S,N]");
  CHECK_TYPE(OP_OF(MATMUL, 1, "f32[2,3]", "f32[K,4]"), 0, "f32[2,4]");
  CHECK_ERROR(OP_OF(MATMUL, 1, "f32[2,3]", "f32[4,5]"),
              "matmul of f32[2,3] and f32[4,5], which differ in what is summed "
              "over");
  CHECK_ERROR(OP_OF(MATMUL, 1, "f32[3]", "f32[3,5]"),
              "operand 0 of matmul is f32[3], expected rank 2 or more");
  CHECK_ERROR(OP_OF(MATMUL, 1, "f32[2,2,3]", "f32[3,3,5]"),
              "cannot broadcast shapes [2] and [3]");
}

static void matmul_widens_small_types_on_request(void **state) {
  ir_op_t *op = OP_OF(MATMUL, 1, "u8[2,3]", "i8[3,4]");
  CHECK_ERROR(op, "matmul of u8 and i8 needs out_dtype");
  ir_set_dtype(op, ATTR_MATMUL_out_dtype, DT_I32);
  CHECK_TYPE(op, 0, "i32[2,4]");
  op = OP_OF(MATMUL, 1, "bf16[2,3]", "bf16[3,4]");
  CHECK_TYPE(op, 0, "bf16[2,4]");
  ir_set_dtype(op, ATTR_MATMUL_out_dtype, DT_F32);
  CHECK_TYPE(op, 0, "f32[2,4]");
  ir_set_dtype(op, ATTR_MATMUL_out_dtype, DT_F64);
  CHECK_ERROR(op, "out_dtype f64 of matmul of bf16 and bf16");
}

static void products_read_panels(void **state) {
  CHECK_TYPE(OP_OF(PACK_PANELS, 1, "f32[E,K,100]"), 0, "f32[E,4,K,32]");
  CHECK_TYPE(OP_OF(PACK_PANELS, 1, "f32[K,N]"), 0,
             "f32[floordiv(N + 31, 32),K,32]");
  ir_op_t *op = OP_OF(PRODUCT, 1, "f32[E,M,K]", "f32[E,4,K,32]");
  SET_EXPR(op, PRODUCT_columns, "100");
  CHECK_TYPE(op, 0, "f32[E,M,100]");
  SET_EXPR(op, PRODUCT_columns, "96");
  CHECK_ERROR(op,
              "operand 1 of product is f32[E,4,K,32], expected panels of "
              "96 columns");
}

/* ---- Loop level ---------------------------------------------------------- */

static void loads_and_stores_follow_the_buffer(void **state) {
  fixture_t *f = *state;
  CHECK_TYPE(OP_OF(LOAD, 1, "buf f32", "i64[]"), 0, "f32[]");
  CHECK_TYPE(OP_OF(LOAD, 1, "buf u8", "i64[]", "bool[]"), 0, "u8[]");
  CHECK_ERROR(OP_OF(LOAD, 1, "f32[4]", "i64[]"),
              "operand 0 of load is f32[4], expected a buffer");
  CHECK_ERROR(OP_OF(LOAD, 1, "buf f32", "i32[]"),
              "operand 1 of load is i32[], expected a scalar of i64");
  CHECK_ERROR(OP_OF(STORE, 0, "buf f32", "i64[]", "f64[]"),
              "operand 2 of store is f64[], expected a scalar of f32");
  assert_int_equal(
      ir_infer_types(f->module,
                     OP_OF(STORE, 0, "buf f32", "i64[]", "f32[]", "bool[]"),
                     NULL),
      MOEC_OK);
}

static void yield_value(fixture_t *f, ir_op_t *op, const char *type) {
  ir_value_t *v = type != NULL ? value(f, type) : NULL;
  ir_op_t *yield =
      ir_op_create(f->module, OP_YIELD, (ir_loc_t){0}, v != NULL, &v, 0);
  ir_append(&op->regions[0], yield);
}

static void folds_carry_their_initial_types(void **state) {
  fixture_t *f = *state;
  ir_type_t types[] = {ir_scalar_type(DT_I64), ir_scalar_type(DT_F32)};
  ir_op_t *op = OP_OF(FOLD, 1, "i64[]", "i64[]", "f32[]");
  CHECK_TYPE(op, 0, "f32[]");
  ir_region_set_args(op, 0, 2, types);
  yield_value(f, op, "f32[]");
  CHECK_TYPE(op, 0, "f32[]");
  op = OP_OF(FOLD, 1, "i64[]", "i64[]", "f32[]");
  ir_region_set_args(op, 0, 2, types);
  yield_value(f, op, "f64[]");
  CHECK_ERROR(op, "region of fold yields f64[], expected f32[]");
  op = OP_OF(FOLD, 1, "i64[]", "i64[]", "f32[]");
  ir_region_set_args(op, 0, 1, types);
  CHECK_ERROR(op, "region of fold has 1 arguments, expected 2");
  op = OP_OF(FOLD, 2, "i64[]", "i64[]", "f32[]");
  CHECK_ERROR(op,
              "fold has 2 results, expected one for each of 1 initial "
              "values");
}

static void reduces_have_the_type_they_yield(void **state) {
  fixture_t *f = *state;
  ir_type_t index = ir_scalar_type(DT_I64);
  ir_op_t *op = OP_OF(REDUCE, 1, "i64[]", "i64[]");
  ir_set_str(op, ATTR_REDUCE_kind, "sum");
  ir_region_set_args(op, 0, 1, &index);
  yield_value(f, op, "f32[]");
  CHECK_TYPE(op, 0, "f32[]");
  ir_set_str(op, ATTR_REDUCE_kind, "mean");
  CHECK_ERROR(op, "reduce of kind \"mean\", expected sum, prod, max or min");
  op = OP_OF(REDUCE, 1, "i64[]", "i64[]");
  ir_set_str(op, ATTR_REDUCE_kind, "prod");
  ir_region_set_args(op, 0, 1, &index);
  yield_value(f, op, "f32[4]");
  CHECK_ERROR(op, "region of reduce yields f32[4], expected a scalar number");
}

static void regions_take_the_arguments_of_their_loop(void **state) {
  fixture_t *f = *state;
  ir_type_t wrong = ir_scalar_type(DT_I32);
  ir_op_t *op = OP_OF(FOR, 0, "i64[]", "i64[]");
  ir_region_set_args(op, 0, 1, &wrong);
  CHECK_ERROR(op, "argument 0 of the region of for is i32[], expected i64[]");
  op = OP_OF(PARALLEL, 0, NULL);
  ir_region_set_args(op, 0, 1, &wrong);
  CHECK_ERROR(op,
              "argument 0 of the region of parallel is i32[], expected "
              "i64[]");
  op = OP_OF(WHEN, 0, "bool[]");
  yield_value(f, op, "f32[]");
  CHECK_ERROR(op, "region of when yields 1 values, expected 0");
  op = OP_OF(PRODUCT_TILE, 0, "buf f32", "i64[]", "i64[]", "i64[]", "buf f32",
             "i64[]", "i64[]", "i64[]", "i64[]", "i64[]");
  ir_set_dtype(op, ATTR_PRODUCT_TILE_acc, DT_F32);
  ir_type_t types[] = {ir_scalar_type(DT_F32), ir_scalar_type(DT_I64),
                       ir_scalar_type(DT_I64)};
  ir_region_set_args(op, 0, 3, types);
  assert_int_equal(ir_infer_types(f->module, op, NULL), MOEC_OK);
  op = OP_OF(ASSERT, 0, "bool[]");
  ir_set_int(op, ATTR_ASSERT_status, 0);
  CHECK_ERROR(op, "assert with the status of success");
  ir_set_int(op, ATTR_ASSERT_status, 999);
  CHECK_ERROR(op, "assert with the unknown status 999");
}

static void ranks_beyond_the_limit_are_refused(void **state) {
  const char *wide = "f32[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]";
  const char *index = "i64[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]";
  CHECK_ERROR(OP_OF(GATHER, 1, wide, index),
              "result of rank 35, expected at most 32");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(broadcast_follows_numpy),
      TEST(elementwise_dtypes_are_checked),
      TEST(select_broadcasts_all_three),
      TEST(casts_keep_the_shape),
      TEST(constants_have_exactly_their_bytes),
      TEST(sizes_are_tensors),
      TEST(bind_defines_a_symbol),
      TEST(reshape_keeps_the_number_of_elements),
      TEST(expand_takes_exactly_its_shape),
      TEST(transpose_needs_a_permutation),
      TEST(slice_stays_within_its_operand),
      TEST(concat_adds_up_one_axis),
      TEST(pad_adds_both_sides),
      TEST(unfold_puts_windows_behind_channels),
      TEST(gather_replaces_one_axis),
      TEST(gather_elements_takes_the_shape_of_indices),
      TEST(gather_nd_needs_a_known_depth),
      TEST(scatters_have_the_shape_of_data),
      TEST(reductions_drop_or_keep_axes),
      TEST(arg_reductions_give_indices),
      TEST(scans_and_softmax_keep_the_type),
      TEST(topk_k_larger_than_axis_is_rejected),
      TEST(nonzero_lists_coordinates),
      TEST(matmul_broadcasts_batches),
      TEST(matmul_widens_small_types_on_request),
      TEST(products_read_panels),
      TEST(loads_and_stores_follow_the_buffer),
      TEST(folds_carry_their_initial_types),
      TEST(reduces_have_the_type_they_yield),
      TEST(regions_take_the_arguments_of_their_loop),
      TEST(ranks_beyond_the_limit_are_refused),
  };
  return cmocka_run_group_tests_name("ir/shape", tests, NULL, NULL);
}
