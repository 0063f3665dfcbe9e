/* A command in a guest, by its agent: our stdin, stdout, stderr and terminal are its.
 * Never leaves the terminal as the command wants it. */
#pragma once

#include "cli/client.h"

/* Where its streams end instead of ours. */
typedef struct {
  int in, out;     /* -1: an empty input; what it says is thrown away */
  guint64 max_out; /* bytes; more ends the command with %BANGER_ERROR_LIMITS_EXCEEDED. 0: any number */
  GString *err;    /* the first 4 KiB of what it complains of; the rest is thrown away */
  void (*moved) (guint64 bytes, gpointer data); /* either way, in all; may be %NULL */
  gpointer data;
} BangerExecEnds;

typedef struct {
  const char *name, *path;        /* of the VM, and its object */
  const char *const *words;       /* the command; may be %NULL with @image_settings */
  const char *const *environment; /* NAME=VALUE; may be %NULL */
  const char *cwd, *user;         /* NULL: the guest's default */
  gboolean terminal;
  gboolean image_settings;    /* what its image says holds where nothing else is said, of no words the command, too */
  gboolean no_stdin;          /* it reads nothing of ours */
  const BangerExecEnds *ends; /* NULL: our own stdin, stdout and stderr */
} BangerExecCommand;

/**
 * banger_exec_run:
 * SIGINT, SIGTERM and SIGHUP are handed on to the command; another one, or three seconds, end the wait, and with it the
 * command. @ret_status: exit status of the command; 128 and the number of the signal that ended it or us.
 * Returns: %FALSE with %BANGER_ERROR_NOT_SUPPORTED or _UNKNOWN_METHOD if the guest or the manager is of an older banger
 * (nothing was run); with %BANGER_ERROR_GUEST_FAILED if it is not known how the command ended.
 */
gboolean banger_exec_run (BangerClient *client, const BangerExecCommand *command, int *ret_status, GError **error);
