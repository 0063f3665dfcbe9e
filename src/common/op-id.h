/* Operation ids: one per call, in every log record and error of it.
 * Never parsed for meaning. */
#pragma once

#include <glib.h>

/** banger_op_id_new: Returns: (transfer full): "op-" and eight lower-case hex digits from getrandom(2). */
char *banger_op_id_new (void);

/** banger_op_id_valid: "op-" and 6 to 32 lower-case hex digits; %NULL is not valid. */
gboolean banger_op_id_valid (const char *op_id);
