/* Firecracker's HTTP API on a unix socket: routes, status codes, fault bodies.
 * Never runs two requests at once: Firecracker answers in order, so does this. */
#pragma once

#include "engine/instance.h"

/* The release whose API this is. */
#define BANGER_FIRECRACKER_API_VERSION "1.16.1"

typedef struct BangerApi BangerApi;

/** banger_api_new: listens on @socket_path (mode 0600 from birth), which must not exist. @max_body: bytes. */
BangerApi *banger_api_new (BangerInstance *instance, const char *socket_path, gsize max_body, GError **error);
/** banger_api_drain: calls @done once no answer is on its way any more, after a second at the latest. */
void banger_api_drain (BangerApi *api, GSourceFunc done, gpointer user_data);
/** banger_api_free: stops and removes the socket. */
void banger_api_free (BangerApi *api);

/** banger_api_apply_config: the --config-file: a FullVmConfiguration object. */
gboolean banger_api_apply_config (BangerInstance *instance, JsonNode *config, GError **error);
