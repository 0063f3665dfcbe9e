/* What stands in front of every call on the session bus: op id, caller, known object, member and signature.
 * Never lets a call reach a handler that did not pass. */
#pragma once

#include "manager/bus/objects.h"

typedef struct BangerGate BangerGate;

/** banger_gate_new: from here on each message on the bus of @objects passes the gate before anything else sees it. */
BangerGate *banger_gate_new (BangerObjects *objects, GError **error);
void banger_gate_free (BangerGate *gate);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerGate, banger_gate_free)

/* In words of the D-Bus specification, for which our own table of errors has no row. */
typedef struct {
  const char *name;
  char *message; /* (transfer full) */
} BangerRefusal;

/** banger_gate_check: whether @message of the uid @caller ((uid_t) -1: unknown) may pass; a sealed method call. */
gboolean banger_gate_check (BangerObjects *objects, sd_bus_message *message, uid_t caller, BangerRefusal *ret_refusal);
