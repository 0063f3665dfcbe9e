/* How far long work is, told to whom it concerns. */
#pragma once

#include <glib.h>

/** BangerProgress: @fraction 0..1, or -1 when it is not known. May be called from a worker thread. */
typedef void (*BangerProgress) (double fraction, gpointer user_data);
