/* moec opt [FILE]: passes on IR in text form; references made from tables. */
#include <string.h>

#include "ir/ir.h"
#include "ir/verify.h"
#include "passes/rules.h"
#include "tools/cli.h"
#include "tools/describe_moe.h"
#include "tools/evaluate.h"
#include "tools/targets.h"

/* ---- References ---------------------------------------------------------- */

static const char *const kind_names[] = {
    [IR_ATTR_INT] = "int",      [IR_ATTR_FLOAT] = "float",
    [IR_ATTR_STR] = "string",   [IR_ATTR_DTYPE] = "dtype",
    [IR_ATTR_INTS] = "ints",    [IR_ATTR_FLOATS] = "floats",
    [IR_ATTR_STRS] = "strings", [IR_ATTR_EXPR] = "size",
    [IR_ATTR_EXPRS] = "sizes",  [IR_ATTR_DATA] = "data"};

static void append_count(text_t *out, unsigned min, unsigned max) {
  if (max == IR_VARIADIC)
    text_printf(out, "%u or more", min);
  else if (min == max)
    text_printf(out, "%u", min);
  else
    text_printf(out, "%u to %u", min, max);
}

static void append_traits(text_t *out, unsigned traits) {
  static const struct trait {
    unsigned bit;
    const char *name;
  } names[] = {{PURE, "pure"},
               {COMMUTATIVE, "commutative"},
               {TENSOR, "tensor level"},
               {LOOP, "loop level"},
               {TERMINATOR, "terminator"},
               {ELEMENTWISE, "elementwise"},
               {VIEW, "view"},
               {RUNTIME, "runtime call"},
               {OPTIONAL, "optional operands"}};
  bool first = true;
  for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
    if ((traits & names[i].bit) == 0) continue;
    text_printf(out, "%s%s", first ? "" : ", ", names[i].name);
    first = false;
  }
}

static void append_attrs(text_t *out, ir_opcode_t code) {
  const ir_op_info_t *info = ir_op_info(code);
  for (unsigned i = 0; i < ir_n_attrs_of(code); i++) {
    const ir_attr_info_t *attr =
        ir_attr_info((ir_attr_id_t)(info->attr_first + i));
    text_printf(out, "%s%s: %s", i > 0 ? ", " : "", attr->name,
                kind_names[attr->kind]);
    if (attr->required)
      text_printf(out, " (required)");
    else if (attr->kind == IR_ATTR_INT)
      text_printf(out, " = %lld", (long long)attr->default_int);
  }
}

static void append_ops(text_t *out) {
  text_printf(
      out,
      "# Operations of the IR\n\n"
      "| operation | operands | results | regions | traits | attributes "
      "|\n|---|---|---|---|---|---|\n");
  for (unsigned i = 0; i < OP_COUNT; i++) {
    const ir_op_info_t *info = ir_op_info((ir_opcode_t)i);
    text_printf(out, "| `%s` | ", info->mnemonic);
    append_count(out, info->in_min, info->in_max);
    text_printf(out, " | ");
    append_count(out, info->out == IR_VARIADIC ? 0 : info->out, info->out);
    text_printf(out, " | ");
    append_count(out, info->n_regions == IR_VARIADIC ? 1 : info->n_regions,
                 info->n_regions);
    text_printf(out, " | ");
    append_traits(out, info->traits);
    text_printf(out, " | ");
    append_attrs(out, (ir_opcode_t)i);
    text_printf(out, " |\n");
  }
}

static void append_passes(text_t *out) {
  text_printf(out,
              "# Passes\n\n| pass | does | needs | keeps |\n"
              "|---|---|---|---|\n");
  for (unsigned i = 0; i < pass_count(); i++) {
    const pass_info_t *info = pass_at(i);
    text_printf(out, "| `%s` | %s | %s | %s |\n", info->name, info->doc,
                info->needs, info->keeps);
  }
}

static void append_rewrites(text_t *out) {
  text_printf(
      out,
      "# Rewrites\n\n"
      "The pass `canonicalize` applies these rules to a fixed point; of "
      "several "
      "that match, the first one. Results are bit for bit the same, except "
      "where a row says that they are closer to the exact ones. `c` is a "
      "constant, `x..s` is `expand(x, s)`.\n\n| rule | rewrite |\n|---|---|\n");
  for (unsigned i = 0; i < rule_count(); i++)
    text_printf(out, "| `%s` | %s |\n", rule_at(i)->name, rule_at(i)->pattern);
}

static void append_dtypes(text_t *out) {
  text_printf(out,
              "# Element types\n\n| type | ONNX number | bits |\n"
              "|---|---|---|\n");
  for (unsigned i = 1; i < DT_COUNT; i++)
    text_printf(out, "| `%s` | %u | %u |\n", dtype_name((dtype_t)i), i,
                dtype_bits((dtype_t)i));
}

static void append_pass_list(text_t *out) {
  for (unsigned i = 0; i < pass_count(); i++)
    text_printf(out, "%-16s %s\n", pass_at(i)->name, pass_at(i)->doc);
  text_printf(out, "\n");
  for (int level = 0; level <= 3; level++)
    text_printf(out, "-O%d  %s\n", level, pass_pipeline(level));
}

/* ---- Passes -------------------------------------------------------------- */

static moec_status_t optimise(cli_t *cli, ir_module_t *module) {
  const options_t *o = &cli->options;
  compile_options_t options;
  MOEC_TRY(cli_compile_options(cli, NULL, NULL, &options));
  options.passes.verify_each = !o->given[OPTION_verify_each] || o->verify_each;
  /* Without a word about passes the text is read and printed only. */
  if (!o->given[OPTION_passes] && !o->given[OPTION_level]) return MOEC_OK;
  arena_t *scratch = cli->scratch = arena_create(0);
  if (scratch == NULL) return MOEC_E_NO_MEMORY;
  evaluator_t evaluator;
  module->evaluator = evaluator_init(&evaluator, options.memory_limit);
  options.passes.moe = moe_report_create(cli->arena);
  moec_status_t status =
      pass_run_all(module, scratch, &options.passes, &cli->diag);
  module->evaluator = NULL;
  if (status != MOEC_OK) return status;
  cli_print_timings(cli, options.passes.timings);
  moe_report_settle(options.passes.moe);
  warn_of_missing_experts(options.passes.moe, &cli->diag);
  if (o->explain_moe) {
    text_t text;
    text_init(&text, cli->arena);
    explain_moe(options.passes.moe, &text);
    fputs(text.data, cli->err);
  }
  return MOEC_OK;
}

static moec_status_t read_and_optimise(cli_t *cli, text_t *out) {
  enum { MAX_BYTES = 1 << 30 };
  const options_t *o = &cli->options;
  const char *path = o->n_operands > 0 ? o->operands[0] : "-";
  const char *text;
  size_t length;
  ir_module_t *module;
  cli->diag.file = strcmp(path, "-") == 0 ? "<stdin>" : path;
  MOEC_TRY(file_read(cli, path, MAX_BYTES, &text, &length));
  MOEC_TRY(
      ir_parse(cli->arena, text, length, o->data_dir, &cli->diag, &module));
  MOEC_TRY(ir_verify_as(module, MOEC_E_INVALID_MODEL, true, &cli->diag));
  MOEC_TRY(optimise(cli, module));
  ir_print(
      module,
      &(ir_print_options_t){.locations = o->verbose, .data_dir = o->data_dir},
      out);
  return MOEC_OK;
}

moec_status_t cmd_opt(cli_t *cli) {
  const options_t *o = &cli->options;
  moec_status_t status = MOEC_OK;
  text_t out;
  text_init(&out, cli->arena);
  if (o->list_passes)
    append_pass_list(&out);
  else if (!o->given[OPTION_doc])
    status = read_and_optimise(cli, &out);
  else if (o->doc == DOC_OPS)
    append_ops(&out);
  else if (o->doc == DOC_PASSES)
    append_passes(&out);
  else if (o->doc == DOC_REWRITES)
    append_rewrites(&out);
  else if (o->doc == DOC_DTYPES)
    append_dtypes(&out);
  else
    targets_document(&out);
  if (status == MOEC_OK) fwrite(out.data, 1, out.length, cli->out);
  return status;
}
