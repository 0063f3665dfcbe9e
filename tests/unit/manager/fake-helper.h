/* A root helper inside of the test: it remembers what it was asked, "launches" a sleeping process as VMM and plays
 * the guest behind its sockets. Stands in for helper-client.c.
 * Never used by a program. */
#pragma once

#include "manager/helper-client.h"

typedef struct {
  char *run_root;        /* <runtime>/<uid> */
  GString *story;        /* method names in order */
  const char *fail;      /* method that fails, NULL none */
  gboolean away;         /* every call: HelperUnavailable */
  gboolean no_snapshots; /* CreateSnapshot: NotSupported */
  gboolean deaf_guest;   /* the agent accepts and says nothing */
  gboolean stubborn;     /* "shutdown" and "poweroff" are answered, and nothing happens */
  GHashTable *leases;    /* vm -> pid as pointer, 0 none */
  guint launches;
  guint32 memory_mib; /* of the last launch */
} FakeHelper;

extern FakeHelper fake;

void fake_helper_up (const char *run_root);
void fake_helper_down (void);
/** fake_guest_forget: closes the guests' sockets, as a dead VMM does. */
void fake_guest_forget (void);
/** fake_helper_set_available: tells those who want to know. */
void fake_helper_set_available (BangerHelper *helper, gboolean available);
/** fake_count: how often @method was called. */
guint fake_count (const char *method);
