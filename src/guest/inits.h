/* The image's init: which one it is, and how it is asked to restart the machine.
 * Used by the start-up code and the agent.
 * Never believes a name alone that a signal was heard: what process 1 does not hear is told to the caller. */
#pragma once

typedef struct {
  const char *word;    /* for the agent's arguments and the log: "systemd" */
  const char *pattern; /* of the path that it resolves to, fnmatch(3); NULL: what no other row has */
  int signal;          /* that has it restart; SIGRTMIN + n as -n; 0: the first of a few that it hears */
  void (*prepare) (void);
} GuestInitKind;

/** guest_init_kind: of an init at the resolved path @real. Returns: (transfer none): never NULL. */
const GuestInitKind *guest_init_kind (const char *real);
/** guest_init_kind_of_word: Returns: (transfer none): that of an unknown init for an unknown word. */
const GuestInitKind *guest_init_kind_of_word (const char *word);
int guest_init_is_systemd (const GuestInitKind *kind);
/** guest_init_is_own: banger-guest itself, of an image without an init. */
int guest_init_is_own (const GuestInitKind *kind);

/**
 * guest_find_init:
 * @wanted: a path that is to be it, "": the first of a list that can be run. For the current root.
 * Returns: (transfer none) (nullable): its path; NULL if @wanted cannot be run (errno). BANGER_GUEST_BINARY of an
 * image that has none.
 */
const char *guest_find_init (const char *wanted, const GuestInitKind **ret_kind);

/** guest_has_sshd: whether the image has an ssh server that its init may start. */
int guest_has_sshd (const GuestInitKind *kind);

/** guest_hears: by a process's status of proc(5), whether it catches or waits for @signal. */
int guest_hears (const char *status, int signal);

/** guest_ask_init_to_restart: tells process 1 to stop all services and restart. Returns: 0; -1 if it hears nothing. */
int guest_ask_init_to_restart (const GuestInitKind *kind);
