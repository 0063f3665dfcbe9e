/* A small file of somebody's server.
 * Runs in worker threads.
 * Never believes a server about sizes, never goes from https to http, is never led to what is nearer than where it began. */
#pragma once

#include <gio/gio.h>

#ifndef BANGER_HTTP_SECONDS
#define BANGER_HTTP_SECONDS 20 /* for all of it, however slowly it comes */
#endif
#define BANGER_HTTP_MAX_REDIRECTS 5u

/* Where an address leads: the nearer, the more there is that answers nobody else. */
typedef enum { BANGER_HTTP_FAR, BANGER_HTTP_PRIVATE, BANGER_HTTP_THIS_HOST } BangerHttpNearness;

/** banger_http_nearness: private are also link-local addresses and those behind a carrier's NAT. */
BangerHttpNearness banger_http_nearness (GInetAddress *address);
/** banger_http_nearness_of: of what a connection to @to leads to; behind a proxy that is not the proxy, and a name there is far. @to: nullable. */
BangerHttpNearness banger_http_nearness_of (GSocketAddress *to);

/**
 * banger_http_get:
 * Fetches @url (http or https; certificates are looked at) without a login, a cookie or a compression.
 * Returns: (transfer full): at most @most bytes; %NULL with %BANGER_ERROR_LIMITS_EXCEEDED (more, or too many redirects),
 * %BANGER_ERROR_TIMEOUT, or %BANGER_ERROR_FAILED and what it answered.
 */
GBytes *banger_http_get (const char *url, gsize most, GError **error);
