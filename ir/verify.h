/* Checks shared by the verifier and the parser. */
#ifndef IR_VERIFY_H
#define IR_VERIFY_H

#include "ir/ir.h"

/* Number of operands, results and regions, and required attributes, as the
 * table says; everything that shape laws may rely on. Fails with `status`. */
moec_status_t ir_check_form(const ir_op_t *op, moec_status_t status,
                            diag_sink_t *diag);

/* Whether inference leaves the result types as they are (shape law `launch`).
 */
bool ir_keeps_types(ir_opcode_t code);

/* ir_verify that fails with `status`; `types`: also infers all types again. */
moec_status_t ir_verify_as(ir_module_t *module, moec_status_t status,
                           bool types, diag_sink_t *diag);

#endif
