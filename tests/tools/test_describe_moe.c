/* Reports of Mixture-of-Experts layers, as JSON and as text. */
#include <math.h>
#include <string.h>

#include "tools/describe_moe.h"
#include "value_support.h"

/* A layer with everything, one that was left as it is, a refusal, a loss. */
static moe_report_t *example(value_fixture_t *f) {
  static const int64_t missing[] = {1, 5};
  expr_pool_t *pool = expr_pool_create(f->arena);
  moe_report_t *report = moe_report_create(f->arena);
  moe_layer_t *layer = moe_report_add_layer(report);
  *layer = (moe_layer_t){
      .name = "add \"7\"",
      .loc = {.node = "add \"7\"", .type = "Add", .index = 8},
      .form = "loop over experts",
      .experts = 8,
      .k = 2,
      .groups = 4,
      .groups_kept = 2,
      .router = "softmax, top-k",
      .structure = "relu(x W)",
      .n_structures = 1,
      .shared = 1,
      .n_missing = 2,
      .missing = missing,
      .exactness = MOE_EX1,
      .after = {.multiply_adds = expr_const(pool, 96),
                .elementwise = expr_new_symbol(pool, "H", 0, NULL),
                .weight_bytes = expr_const(pool, 384)},
      .sparse = true};
  moe_words_add(report, &layer->assumptions, "outputs are finite");
  static const int64_t witnesses[] = {0, 4};
  moe_pruning_t *pruning = moe_report_add_pruning(report, layer);
  *pruning = (moe_pruning_t){.rule = MOE_PRUNE_BOUNDED,
                             .expert = 2,
                             .same_as = -1,
                             .n_witnesses = 2,
                             .witnesses = witnesses,
                             .leaves_router = true,
                             .slack = 0.5};
  moe_words_add(report, &pruning->assumptions, "scores are finite");
  pruning = moe_report_add_pruning(report, layer);
  *pruning = (moe_pruning_t){
      .rule = MOE_PRUNE_DUPLICATE, .expert = 7, .same_as = 3, .slack = NAN};
  layer = moe_report_add_layer(report);
  *layer = (moe_layer_t){.experts = 3, .reason = "all are used"};
  layer->weight_position = MOE_WEIGHT_NONE;
  moe_refusal_t *refusal = moe_report_add_refusal(report);
  refusal->loc = (ir_loc_t){.node = "top", .type = "TopK", .index = 1};
  refusal->candidate = "loop over experts";
  refusal->blocker = (ir_loc_t){.node = "\033[1m", .type = "Softmax"};
  refusal->obligation = "rows are independent";
  moe_report_add_loss(report)->kind = "load balancing";
  return report;
}

static void layers_are_written_as_json(void **state) {
  value_fixture_t *f = *state;
  text_t out;
  text_init(&out, f->arena);
  describe_moe(example(f), &out);
  assert_string_equal(
      out.data,
      ",\"layers\":[{\"name\":\"add \\\"7\\\"\",\"node\":{\"index\":7,"
      "\"name\":\"add \\\"7\\\"\",\"operator\":\"Add\"},\"form\":\"loop over "
      "experts\",\"experts\":8,\"k\":2,\"groups\":{\"count\":4,\"kept\":2},"
      "\"router\":\"softmax, top-k\",\"structure\":\"relu(x W)\","
      "\"structures\":1,\"shared\":1,\"missing\":[1,5],\"weight_position\":"
      "\"output\",\"exactness\":\"EX1\",\"assumptions\":[\"outputs are "
      "finite\"],\"before\":{\"multiply_adds\":null,\"elementwise\":null,"
      "\"weight_bytes\":null},\"after\":{\"multiply_adds\":96,"
      "\"elementwise\":\"H\",\"weight_bytes\":384},\"sparse\":true,"
      "\"pruned\":[{\"rule\":\"bounded\",\"expert\":2,\"witnesses\":[0,4],"
      "\"leaves_router\":true,\"slack\":0.5,\"exactness\":\"EX0\","
      "\"assumptions\":[\"scores are "
      "finite\"]},{\"rule\":\"duplicate\",\"expert\":7,\"same_as\":3,"
      "\"witnesses\":[],\"leaves_router\":false,\"slack\":null,\"exactness\":"
      "\"EX0\","
      "\"assumptions\":[]}]},{\"name\":"
      "\"\",\"node\":{},\"experts\":3,\"k\":0,\"structures\":0,\"shared\":0,"
      "\"missing\":[],\"weight_position\":\"none\",\"exactness\":\"EX0\","
      "\"assumptions\":[],\"before\":{\"multiply_adds\":null,\"elementwise\":"
      "null,\"weight_bytes\":null},\"after\":{\"multiply_adds\":null,"
      "\"elementwise\":null,\"weight_bytes\":null},\"sparse\":false,"
      "\"reason\":\"all are used\"}],\"refusals\":[{\"node\":{\"index\":0,"
      "\"name\":\"top\",\"operator\":\"TopK\"},\"candidate\":\"loop over "
      "experts\",\"blocker\":{\"name\":\"\\u001b[1m\",\"operator\":"
      "\"Softmax\"},\"obligation\":\"rows are independent\"}],\"losses\":[{"
      "\"node\":{},\"kind\":\"load balancing\",\"kept\":false}]");
}

static void layers_are_explained(void **state) {
  value_fixture_t *f = *state;
  text_t out;
  text_init(&out, f->arena);
  explain_moe(example(f), &out);
  assert_string_equal(
      out.data,
      "layer 1: add \"7\", node #7 \"add \"7\"\" (Add)\n"
      "  form        loop over experts\n"
      "  experts     8, 2 of them for each token, from 2 of 4 groups, and 1 "
      "for all tokens\n"
      "  missing     {1, 5}\n"
      "  router      softmax, top-k\n"
      "  expert      relu(x W)\n"
      "  weight      multiplies the output\n"
      "  exactness   EX1, provided that outputs are finite\n"
      "  work        96 multiply-adds, 384 bytes of weights for a token\n"
      "  left out    expert 2, bounded: behind 0, 4 by at least 0.5, out of "
      "the gate; EX0, "
      "provided that scores are finite\n"
      "              expert 7, duplicate of 3; EX0\n"
      "layer 2: a node without a place\n"
      "  experts     3, how many for a token varies\n"
      "  weight      none\n"
      "  left as is  all are used\n"
      "no layer: node #0 \"top\" (TopK) looks like loop over experts\n"
      "  stopped at  node \"\\x1b[1m\" (Softmax)\n"
      "  not shown   rows are independent\n"
      "loss: a node without a place, load balancing, left out\n");
  text_init(&out, f->arena);
  explain_moe(moe_report_create(f->arena), &out);
  assert_string_equal(out.data, "no Mixture-of-Experts layer was found\n");
}

static void proofs_by_sets_and_by_rows_are_told(void **state) {
  value_fixture_t *f = *state;
  static const int64_t witnesses[] = {0, 4, 7, 1};
  moe_report_t *report = moe_report_create(f->arena);
  moe_layer_t *layer = moe_report_add_layer(report);
  layer->sparse = true;
  *moe_report_add_pruning(report, layer) =
      (moe_pruning_t){.rule = MOE_PRUNE_HULL,
                      .expert = 5,
                      .same_as = -1,
                      .n_witnesses = 4,
                      .witnesses = witnesses,
                      .sets = 2,
                      .slack = 0.25};
  *moe_report_add_pruning(report, layer) =
      (moe_pruning_t){.rule = MOE_PRUNE_ENUMERATED,
                      .expert = 6,
                      .same_as = -1,
                      .rows = 3,
                      .slack = 1};
  *moe_report_add_pruning(report, layer) =
      (moe_pruning_t){.rule = MOE_PRUNE_PERMUTED,
                      .expert = 8,
                      .same_as = 2,
                      .slack = NAN,
                      .exactness = MOE_EX1};
  text_t out;
  text_init(&out, f->arena);
  describe_moe(report, &out);
  assert_non_null(strstr(out.data,
                         "\"witnesses\":[0,4,7,1],\"sets\":2,\"leaves_router\""
                         ":false,\"slack\":0.25"));
  assert_non_null(strstr(out.data, "\"witnesses\":[],\"rows\":3,"));
  text_init(&out, f->arena);
  explain_moe(report, &out);
  assert_non_null(strstr(out.data,
                         "expert 5, hull: behind one of 0, 4, one of 7, 1 by "
                         "at least 0.25; EX0\n"));
  assert_non_null(strstr(out.data,
                         "expert 6, enumerated: below others in each of 3 rows "
                         "by at least 1; EX0\n"));
  assert_non_null(strstr(out.data,
                         "expert 8, permuted of 2; EX1, sums in another "
                         "order\n"));
}

static void missing_experts_are_warned_of(void **state) {
  value_fixture_t *f = *state;
  warn_of_missing_experts(example(f), &f->diag);
  assert_int_equal(f->diag.n_warnings, 1);
  assert_string_equal(f->diag.first->text,
                      "layer add \"7\": experts {1, 5} of 8 are absent from "
                      "the file; tokens routed there get nothing from them");
  assert_int_equal(f->diag.first->loc.index, 8);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      VALUE_TEST(layers_are_written_as_json),
      VALUE_TEST(layers_are_explained),
      VALUE_TEST(proofs_by_sets_and_by_rows_are_told),
      VALUE_TEST(missing_experts_are_warned_of),
  };
  return cmocka_run_group_tests_name("tools/describe_moe", tests, NULL, NULL);
}
