/* What a moe.route computes, as plain operations. */
#ifndef PASSES_MOE_ROUTE_PLAIN_H
#define PASSES_MOE_ROUTE_PLAIN_H

#include "ir/build.h"
#include "ir/route.h"

/* Builds the operations of a moe.route in place of op; the same bits. */
moec_status_t moe_route_build_plain(ir_builder_t *b, const ir_op_t *op,
                                    ir_value_t **out_expert,
                                    ir_value_t **out_weight);

#endif
