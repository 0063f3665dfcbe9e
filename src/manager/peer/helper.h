/* Calls to the root helper, org.banger.Privileged on the system bus.
 * Never blocks, never retries a call by itself: a call fails, the connection comes back. */
#pragma once

#include <gio/gio.h>

#include "manager/core/job.h"

typedef struct BangerHelper BangerHelper;

/** BangerHelperNotify: the helper's availability changed, or it has just come back. */
typedef void (*BangerHelperNotify) (gboolean available, gpointer user_data);

/** banger_helper_new: connects in the background, again with backoff (0.1 s to 10 s) whenever the bus is lost.
 * @pending: how many calls the helper lets one user have waiting; no more than that, and than 16, are sent at a time.
 */
BangerHelper *banger_helper_new (guint64 pending);
void banger_helper_free (BangerHelper *helper);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerHelper, banger_helper_free)

/** banger_helper_available: the system bus is connected and the helper's name has an owner or can be activated. */
gboolean banger_helper_available (BangerHelper *helper);
/** banger_helper_add_notify: @func for every change, in the main loop. Returns: an id for
 * banger_helper_remove_notify(). */
guint banger_helper_add_notify (BangerHelper *helper, BangerHelperNotify func, gpointer user_data);
void banger_helper_remove_notify (BangerHelper *helper, guint id);

/** BangerHelperLate: a call that nobody waits for any more has ended: it may have made something. */
typedef void (*BangerHelperLate) (const char *method, gpointer user_data);
/** banger_helper_set_late: @late: %NULL: nobody wants to know. A call whose cancellable is cancelled goes if it was not
 * sent yet; else its answer is waited for a few seconds more, and then no longer. */
void banger_helper_set_late (BangerHelper *helper, BangerHelperLate late, gpointer user_data);

/** banger_helper_set_resolver: @resolver (nullable) is called, with %NULL and @user_data, whenever systemd-resolved has
 * come to the system bus: it knows nothing then of what SyncResolver told it before. */
void banger_helper_set_resolver (BangerHelper *helper, GFunc resolver, gpointer user_data);

/**
 * banger_helper_call:
 * @caller: (nullable): see BangerJob.
 * @method: "CreateTap"; what it takes follows: strings, #guint64, #guint32, as its row in helper.c says.
 *   Options come last: LaunchVmm's memory in MiB, template (%NULL: none) and whether
 *   the memory is a file; PrepareVm's NAT, image (%NULL: no disk), #guint64 size of a new disk,
 *   whether it is new, whose disk it begins with (%NULL: the
 *   image). What is 0, %FALSE or %NULL is not sent.
 * Calls wait for a place in the window, those that give something back before the others; one that is cancelled while
 * it waits is never sent. One that was sent is waited for a while even if @cancellable ends the step: what it made is
 * known then and can be undone. A helper that stands still is not waited for.
 * Every call is bounded from when it is sent (30 s, LaunchVmm 60 s, SyncDisk 600 s; two minutes more if a prompt is
 * allowed). Errors keep the code that the helper sent, and at most 1,000 bytes of its words; no bus, no helper, no
 * answer, an answer of other types or by somebody else: %BANGER_ERROR_HELPER_UNAVAILABLE.
 */
void banger_helper_call (BangerHelper *, const BangerCaller *caller, const char *method, GCancellable *,
                         GAsyncReadyCallback, gpointer, ...);
