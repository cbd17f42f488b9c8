/* Routers in words. */
#include <string.h>

#include "passes/moe_router.h"

static bool is_step(const route_steps_t *s, unsigned i, const char *name) {
  return i < s->n && strcmp(s->step[i].name, name) == 0;
}

static bool is_number_step(const route_steps_t *s, unsigned i, const char *name,
                           double number) {
  return is_step(s, i, name) && s->value[i] == number;
}

/* Functions of several steps that have a name; how many steps. */
static unsigned named(const route_steps_t *s, unsigned i, const char **out) {
  if (is_step(s, i, "neg") && is_step(s, i + 1, "exp") &&
      is_number_step(s, i + 2, "add", 1) &&
      is_number_step(s, i + 3, "div_into", 1)) {
    *out = "sigmoid";
    return 4;
  }
  unsigned n = 0;
  if (is_step(s, i, "exp") && is_step(s, i + 1, "log1p"))
    n = 2;
  else if (is_step(s, i, "exp") && is_number_step(s, i + 1, "add", 1) &&
           is_step(s, i + 2, "log"))
    n = 3;
  if (n == 0) return 0;
  *out = is_step(s, i + n, "sqrt") ? "square root of softplus" : "softplus";
  return is_step(s, i + n, "sqrt") ? n + 1 : n;
}

static const char *verb(const step_info_t *step) {
  static const char *const verbs[][2] = {
      {"add", "plus"},      {"sub", "minus"},     {"mul", "times"},
      {"div", "over"},      {"min", "at most"},   {"max", "at least"},
      {"pow", "to the"},    {"sub_from", "from"}, {"div_into", "divided into"},
      {"square", "squared"}};
  for (unsigned i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
    if (strcmp(verbs[i][0], step->name) == 0) return verbs[i][1];
  return step->name;
}

static void say(text_t *out, const char *words) {
  if (out->length > 0) text_printf(out, ", ");
  text_printf(out, "%s", words);
}

static void say_step(text_t *out, const route_steps_t *s, unsigned i) {
  const step_info_t *step = &s->step[i];
  say(out, step->form == STEP_CAST ? "in " : "");
  text_printf(out, "%s", verb(step));
  if (step->form == STEP_RIGHT || step->form == STEP_LEFT)
    text_printf(out, " %.7g", s->value[i]);
}

static void say_scores(text_t *out, const moe_router_t *r) {
  const route_steps_t *s = &r->route.score;
  const char *name;
  if (s->n == 0) say(out, "logits");
  for (unsigned i = 0; i < s->n;) {
    unsigned n = named(s, i, &name);
    if (n > 0)
      say(out, name);
    else if (s->step[i].form == STEP_SOFTMAX)
      say(out, "softmax");
    else
      say_step(out, s, i);
    i += n > 0 ? n : 1;
  }
  text_printf(out, " over %lld", (long long)r->E);
}

static void say_selection(text_t *out, const moe_router_t *r) {
  const route_t *p = &r->route;
  if (p->by_logits) say(out, "selection by logits");
  if (p->in[ROUTE_SELECT_BIAS] != NULL) say(out, "selection bias");
  if (p->groups > 0) {
    say(out, "");
    text_printf(out, "%lld of %lld groups by ", (long long)p->groups_kept,
                (long long)p->groups);
    if (p->group_best == 1)
      text_printf(out, "their best");
    else
      text_printf(out, "the sum of their best %lld", (long long)p->group_best);
    text_printf(out, p->group_multiply ? " (others times 0)" : " (others %.7g)",
                p->group_fill);
  }
  say(out, p->source == ROUTE_FROM_MIXER ? "sparse mixer, " : "");
  text_printf(out, "top %lld", (long long)p->k);
  if (p->rounds && p->k > 1) text_printf(out, " by rounds");
  if (p->last_index) text_printf(out, ", ties to the last");
}

static void say_norm(text_t *out, const route_steps_t *norm) {
  unsigned sum = 0;
  while (sum < norm->n && norm->step[sum].form != STEP_SUM) sum++;
  bool squares = sum == 1 && norm->step[0].form == STEP_SQUARE &&
                 is_step(norm, sum + 1, "sqrt");
  text_printf(out, "%s", squares ? "their Euclidean norm" : "their sum");
  for (unsigned i = sum + (squares ? 2 : 1); i < norm->n; i++) {
    const step_info_t *step = &norm->step[i];
    text_printf(out, " %s", verb(step));
    if (step->form == STEP_RIGHT || step->form == STEP_LEFT)
      text_printf(out, " %.7g", norm->value[i]);
  }
}

static void say_weights(text_t *out, const moe_router_t *r) {
  const route_t *p = &r->route;
  if (p->source == ROUTE_FROM_CHOICE) say(out, "weights with selection bias");
  if (p->source == ROUTE_FROM_LOGITS) say(out, "weights from logits");
  if (p->source == ROUTE_FROM_MIXING) say(out, "weights from other scores");
  for (unsigned i = 0; i < p->weight.n; i++) {
    const char *name;
    unsigned n = named(&p->weight, i, &name);
    switch (p->weight.step[i].form) {
      case STEP_SOFTMAX:
        say(out, "softmax over the selected");
        break;
      case STEP_DIVIDE:
      case STEP_TIMES:
        say(out, p->weight.step[i].form == STEP_DIVIDE ? "weights divided by "
                                                       : "weights times ");
        say_norm(out, &p->norm);
        break;
      case STEP_SCALE:
        say(out, "scaled by expert");
        break;
      default:
        if (n > 0)
          say(out, name);
        else
          say_step(out, &p->weight, i);
        if (n > 1) i += n - 1;
        break;
    }
  }
}

const char *moe_router_words(arena_t *arena, const moe_router_t *r) {
  text_t out;
  text_init(&out, arena);
  if (r->place != NULL) {
    say_scores(&out, r);
    say_selection(&out, r);
    say_weights(&out, r);
  } else if (r->selects) {
    text_printf(&out, "top %lld of %lld given scores", (long long)r->route.k,
                (long long)r->E);
  } else {
    text_printf(&out, "given experts and weights");
  }
  return out.data;
}
