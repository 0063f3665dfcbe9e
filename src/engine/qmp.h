/* QEMU's monitor protocol over a connected socket.
 * Never blocks the main loop. See docs/interop/qmp-spec of QEMU. */
#pragma once

#include <json-glib/json-glib.h>

typedef struct BangerQmp BangerQmp;

/** BangerQmpReply: @result is the "return" member, or %NULL and @error says why not. */
typedef void (*BangerQmpReply) (JsonNode *result, const GError *error, gpointer user_data);
/** BangerQmpEvent: @data is %NULL for an event without data. */
typedef void (*BangerQmpEvent) (const char *name, JsonObject *data, gpointer user_data);

/**
 * banger_qmp_new:
 * Takes @fd (stream socket) and negotiates at once: @ready is called after qmp_capabilities, or with an error.
 */
BangerQmp *banger_qmp_new (int fd, BangerQmpReply ready, BangerQmpEvent event, gpointer user_data);

/**
 * banger_qmp_execute:
 * @arguments: JSON text of the arguments object, or %NULL.
 * @fd: goes with the command (getfd), or -1. @reply: may be %NULL. Pending replies are called with an error when the connection ends or @qmp is freed.
 */
void banger_qmp_execute (BangerQmp *qmp, const char *command, const char *arguments, int fd, BangerQmpReply reply,
                         gpointer user_data);

void banger_qmp_free (BangerQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerQmp, banger_qmp_free)
