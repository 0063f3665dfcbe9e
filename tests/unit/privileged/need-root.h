/* What some of these tests cannot do without. */
#pragma once

#include <glib.h>
#include <unistd.h>

/** need_root: whether the test runs as root; if not it is skipped. */
static inline gboolean
need_root (void)
{
  if (geteuid () == 0)
    return TRUE;
  g_test_skip ("needs root, whose rights are given up");
  return FALSE;
}
