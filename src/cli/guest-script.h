/* A script of ours in a running guest, whose words nobody believes.
 * Never shows what it says unescaped, never takes more of it than was asked for. */
#pragma once

#include "cli/command.h"
#include "cli/exec.h"
#include "cli/objects.h"

typedef struct {
  BangerClient *client;
  JsonObject *vm;
  char *path;                     /* of its object */
  const char *name;               /* of @vm, likewise the next two */
  const char *workspace, *folder; /* on the host, in the guest; "": none */
} BangerGuest;

/** banger_guest_find: a running VM. Clear it in any case. */
gboolean banger_guest_find (BangerGuest *guest, const char *name, GError **error);
/** banger_guest_find_workspace: one that a work tree was sent to. */
gboolean banger_guest_find_workspace (BangerGuest *guest, const char *name, GError **error);
void banger_guest_clear (BangerGuest *guest);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerGuest, banger_guest_clear)

/**
 * banger_guest_script:
 * Runs @script with the guest's sh, with the %NULL-ended @words as $1 and so on. @ends: its err is taken here.
 * Returns: %FALSE also if it failed, with the guest's words on one line. What it said when it succeeded is told on
 * stderr unless @quiet.
 */
gboolean banger_guest_script (BangerGuest *guest, const char *script, const char *const *words, BangerExecEnds *ends,
                              gboolean quiet, GError **error);
