/* The host answers on a bridge for those guests of it that another may ask for. */
#pragma once

#include <glib.h>

/** banger_answers_set: for whom, the filter says: it takes no other question. */
gboolean banger_answers_set (const char *bridge, gboolean on, GError **error);
