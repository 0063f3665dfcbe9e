/* A bound that json-glib 1.6 does not have: its parser calls itself for each level.
 * Never judges more than brackets. */
#pragma once

#include <glib.h>

#define BANGER_JSON_MAX_DEPTH 64u

/** banger_json_depth_ok: whether no bracket of @text, outside of strings, stands deeper than %BANGER_JSON_MAX_DEPTH. */
gboolean banger_json_depth_ok (const char *text, gsize length);
