/* The lists of a report of Mixture-of-Experts layers. */
#include "passes/moe_report.h"
#include "tests/passes/pass_support.h"

static void entries_stay_where_they_are_when_lists_grow(void **state) {
  (void)state;
  enum { MANY = 100 };
  arena_t *arena = arena_create(0);
  moe_report_t *report = moe_report_create(arena);
  moe_layer_t *layers[MANY];
  for (int i = 0; i < MANY; i++) {
    layers[i] = moe_report_add_layer(report);
    layers[i]->experts = i;
    moe_report_add_refusal(report)->candidate = "x";
    moe_report_add_loss(report)->kept = true;
  }
  assert_int_equal(report->n_layers, MANY);
  assert_int_equal(report->n_refusals, MANY);
  assert_int_equal(report->n_losses, MANY);
  for (int i = 0; i < MANY; i++) {
    assert_ptr_equal(report->layers[i], layers[i]);
    assert_int_equal(report->layers[i]->experts, i);
    assert_string_equal(report->refusals[i]->candidate, "x");
    assert_true(report->losses[i]->kept);
  }
  arena_destroy(arena);
}

static void nobody_who_asks_gets_nothing(void **state) {
  (void)state;
  assert_null(moe_report_add_layer(NULL));
  assert_null(moe_report_add_refusal(NULL));
  assert_null(moe_report_add_loss(NULL));
  assert_null(moe_report_add_pruning(NULL, NULL));
}

static void a_word_is_listed_once(void **state) {
  (void)state;
  arena_t *arena = arena_create(0);
  moe_report_t *report = moe_report_create(arena);
  moe_words_t words = {0};
  char word[2] = "a";
  for (int i = 0; i < 20; i++) {
    word[0] = (char)('a' + i % 7);
    moe_words_add(report, &words, word);
  }
  assert_int_equal(words.n, 7);
  assert_string_equal(words.word[0], "a");
  assert_string_equal(words.word[6], "g");
  arena_destroy(arena);
}

static void a_layer_settles_refusals_of_its_node(void **state) {
  fixture_t *f = *state;
  moe_report_t *report = moe_report_create(f->arena);
  static const struct {
    const char *node;
    int index;
    const char *obligation;
  } refusals[] = {{"a", 1, "first"},   {"b", 2, "second"}, {"a", 1, "third"},
                  {NULL, 0, "fourth"}, {NULL, 0, "fifth"}, {"c", 2, "sixth"}};
  for (unsigned i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
    moe_refusal_t *refusal = moe_report_add_refusal(report);
    refusal->loc =
        (ir_loc_t){.node = refusals[i].node, .index = refusals[i].index};
    refusal->obligation = refusals[i].obligation;
  }
  moe_report_add_layer(report)->loc = (ir_loc_t){.node = "b", .index = 2};
  moe_report_settle(report);
  text_t left;
  text_init(&left, f->arena);
  for (unsigned i = 0; i < report->n_refusals; i++)
    text_printf(&left, "%s ", report->refusals[i]->obligation);
  assert_string_equal(left.data, "first fourth fifth sixth ");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(entries_stay_where_they_are_when_lists_grow),
      cmocka_unit_test(nobody_who_asks_gets_nothing),
      cmocka_unit_test(a_word_is_listed_once),
      TEST(a_layer_settles_refusals_of_its_node),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
