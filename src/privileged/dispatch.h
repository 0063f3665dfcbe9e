/* The one way into the helper: who calls, how many wait, what polkit says, then the handler.
 * Never runs a handler whose row has no polkit action; a row without one cannot be registered. */
#pragma once

#include "privileged/authority.h"
#include "privileged/call.h"

/**
 * banger_dispatch_new:
 * Registers the filter, the vtable made from the table of methods, and the properties on @bus. @lost: polkit cannot be
 * asked any more.
 */
BangerDispatch *banger_dispatch_new (sd_bus *bus, const BangerRoot *root, BangerAuthorityLost lost, gpointer data,
                                     GError **error);
/** banger_dispatch_drain: begins no handler any more and runs the main loop until none runs. */
void banger_dispatch_drain (BangerDispatch *dispatch);
void banger_dispatch_free (BangerDispatch *dispatch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerDispatch, banger_dispatch_free)

/** banger_dispatch_features: what this kernel and host can do: "snapshot", "systemd". */
const char *const *banger_dispatch_features (const BangerRoot *root);
