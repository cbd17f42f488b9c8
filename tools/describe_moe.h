/* What was found about Mixture-of-Experts layers, for programs and for people.
 * docs/explain-moe.md says how to read it. */
#ifndef TOOLS_DESCRIBE_MOE_H
#define TOOLS_DESCRIBE_MOE_H

#include "passes/moe_report.h"

/* Appends the members "layers", "refusals" and "losses" of the report of a
 * compilation, each behind a comma; docs/reference/report.schema.json is their
 * schema. */
void describe_moe(const moe_report_t *report, text_t *out);

/* Appends the same as lines of text. */
void explain_moe(const moe_report_t *report, text_t *out);

/* Warns of layers that lack experts. */
void warn_of_missing_experts(const moe_report_t *report, diag_sink_t *diag);

#endif
