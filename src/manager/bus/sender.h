/* Whose a call is: the uid behind each connection to the session bus, which the bus is asked for once.
 * Never waits for the bus, and never lets a later call of a connection overtake an earlier one. */
#pragma once

#include <systemd/sd-bus.h>

#include "common/bus-source.h"

#define BANGER_NO_UID ((uid_t)-1)

typedef struct BangerSenders BangerSenders;

BangerSenders *banger_senders_new (sd_bus *bus);
/** banger_senders_free: calls that are still kept are refused. */
void banger_senders_free (BangerSenders *senders);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerSenders, banger_senders_free)

/**
 * banger_senders_uid:
 * @message: just read from the bus. @ret_uid: %BANGER_NO_UID if the bus does not say it, or too much waits for that.
 * Returns: %FALSE if the bus is being asked: @message is kept, and is read once more when it has answered.
 */
gboolean banger_senders_uid (BangerSenders *senders, sd_bus_message *message, uid_t *ret_uid);
