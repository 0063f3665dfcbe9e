/* Structured log: journal fields where stderr is the journal, else JSON lines on stderr.
 * Never writes a caller's string unescaped. */
#pragma once

#include <glib.h>
#include <syslog.h>
#include <systemd/sd-bus.h>

/** banger_log_init: @ident is SYSLOG_IDENTIFIER. Reads BANGER_LOG_LEVEL. */
void banger_log_init (const char *ident);
int banger_log_get_level (void);
void banger_log_set_level (int priority);
const char *banger_log_level_to_string (int priority);
int banger_log_level_from_string (const char *word); /* -1 if unknown */

/* Pairs "KEY", "value"; a NULL value leaves the pair out; ended by a NULL key. */
#define BANGER_FIELDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/** banger_log: one record at syslog @priority; @fields may be %NULL. */
void banger_log (int priority, const char *const *fields, const char *format, ...) G_GNUC_PRINTF (3, 4);

/** banger_log_audit: a record at NOTICE with MESSAGE_ID @message_id (32 hex digits, see the catalog), whatever the
 * level. */
void banger_log_audit (const char *message_id, const char *const *fields, const char *format, ...) G_GNUC_PRINTF (3, 4);

/** banger_log_escape: Returns: (transfer full): valid UTF-8 of at most @max bytes: @text with what is not printable
 * (control and format characters, DEL, line separators) and bytes that are not UTF-8 as \xNN. */
char *banger_log_escape (const char *text, size_t max);

/** banger_log_is_plain: what g_utf8_get_char_validated() found is shown as it is. */
gboolean banger_log_is_plain (gunichar c);

/** banger_log_add_control: org.freedesktop.LogControl1 on @bus, see org.freedesktop.LogControl1(5). Negative errno on
 * failure. */
int banger_log_add_control (sd_bus *bus);
