/* Modules of the tensor level as ONNX models: one operation after the other by
 * its row of writers.def. */
#include "export/export.h"

#include "export/put.h"
#include "export/serialize.h"

enum {
  BASE_OPSET = 18,     /* of Reduce*, BitwiseAnd and ScatterND as they are */
  LARGEST = INT32_MAX, /* message that protobuf reads */
};

/* A missing row is an undeclared name below. */
#define WRITE(op, writer, onnx, types, opset) \
  static const writer_row_t row_##op = {write_##writer, onnx, types, opset};
#define REFUSE(op, why) static const writer_row_t row_##op = {NULL, why, 0, 0};
#define INNER(op) static const writer_row_t row_##op = {NULL, NULL, 0, 0};
#include "export/writers.def"

static const writer_row_t *const rows[OP_COUNT] = {
#define OP(id, ...) [OP_##id] = &row_##id,
#include "ir/ops.def"
};

const writer_row_t *writer_row(ir_opcode_t code) { return rows[code]; }

/* Results of what cannot be written, so that the rest is looked at. */
static void give_nothing(export_t *e) {
  for (unsigned i = 0; i < e->op->n_out; i++) {
    og_node_t *node = put_node(e, "Constant", 0, NULL, 1);
    node->out[0].dtype = e->op->out[i].type.dtype;
    e->values[e->op->out[i].number] = &node->out[0];
    define_symbols(e, &node->out[0], &e->op->out[i].type);
  }
}

static void write_op(export_t *e, const ir_op_t *op) {
  const writer_row_t *row = writer_row(op->code);
  e->op = op;
  if (row->write == NULL) {
    refuse(e, "%s", row->onnx != NULL ? row->onnx : "it belongs to code");
    give_nothing(e);
    return;
  }
  if (e->opset < row->opset) e->opset = row->opset;
  row->write(e, row);
}

void write_region(export_t *e, const ir_region_t *region) {
  for (const ir_op_t *op = region->first; op != region->last; op = op->next)
    write_op(e, op);
}

/* Element types that operators take since later versions only. */
static int opset_of(dtype_t dtype) {
  switch (dtype) {
    case DT_I2:
    case DT_U2:
      return 25;
    case DT_F8E8M0:
      return 24;
    case DT_F4E2M1:
      return 23;
    default:
      return dtype_is_packed(dtype) || (TYPES_F8 >> dtype & 1) != 0 ? 21 : 0;
  }
}

static int opset_of_types(const ir_func_t *func) {
  int opset = BASE_OPSET;
  for (unsigned i = 0; i < func->body.n_args; i++) {
    int needed = opset_of(func->body.args[i].type.dtype);
    if (opset < needed) opset = needed;
  }
  for (const ir_op_t *op = ir_walk_first(func); op != NULL;
       op = ir_walk_next(op))
    for (unsigned i = 0; i < op->n_out; i++) {
      int needed = opset_of(op->out[i].type.dtype);
      if (opset < needed) opset = needed;
    }
  return opset;
}

moec_status_t export_onnx(ir_module_t *module, const export_options_t *options,
                          export_files_t *out, diag_sink_t *diag) {
  ir_func_t *func = module->first;
  if (module->level != IR_LEVEL_TENSOR)
    return diag_error(diag, (ir_loc_t){0}, MOEC_E_USAGE,
                      "after the pass lower there are no operators to write as "
                      "ONNX: leave it out");
  ir_renumber(func);
  export_t e = {.arena = module->arena,
                .module = module,
                .diag = diag,
                .main = og_graph(module->arena, NULL),
                .opset = opset_of_types(func)};
  e.graph = e.main;
  e.values = ARENA_ARRAY(e.arena, og_value_t *, ir_count_values(func));
  write_inputs(&e, func);
  write_region(&e, &func->body);
  e.op = NULL;
  if (e.status != MOEC_OK) return e.status;
  write_outputs(&e, func);
  og_prune(e.main);
  og_name_all(e.main);
  og_model_t model = {
      e.main,
      module->name != NULL && module->name[0] != '\0' ? module->name : "main",
      e.opset, NULL};
  pb_init(&out->data, e.arena);
  og_serialize(&model, e.arena, &out->model);
  if (out->model.size <= options->inline_limit && out->model.size <= LARGEST)
    return MOEC_OK;
  og_place_external(e.main, &out->data);
  model.data_name = options->data_name;
  og_serialize(&model, e.arena, &out->model);
  if (out->model.size <= LARGEST) return MOEC_OK;
  return diag_error(diag, (ir_loc_t){0}, MOEC_E_LIMIT,
                    "the model has %llu bytes without its weights, more than "
                    "readers of ONNX take",
                    (unsigned long long)out->model.size);
}
