/* The login shell of the account BANGER_GUEST_LOGIN: through it no start-up file of the guest's own shells is read.
 * Never lets a shell see a coded command. */
#pragma once

/** guest_is_shell: whether @name, argv[0], is that of the login shell. */
int guest_is_shell (const char *name);

/**
 * guest_shell_main:
 * As sshd calls a shell: `shell -c COMMAND`, or without arguments for a session. "/run/banger/guest WORDS" goes to
 * @run; any other command to /bin/sh, which reads no file either; a session to root's own shell. Returns: as @run.
 */
int guest_shell_main (int argc, char **argv, int (*run) (int argc, char **argv));

/** guest_passwd_shell: copies the shell of user @name in a passwd(5) @text to @ret. Returns: 0, or -1 if it has none.
 */
int guest_passwd_shell (const char *text, const char *name, char *ret, unsigned long size);

/** guest_shell_refuses: whether @shell is a program that lets nobody in. */
int guest_shell_refuses (const char *shell);

/** guest_term: the terminal type to use for @term: itself if one of @folders (NULL-ended) describes it, see
 * terminfo(5). Returns: @term, or one that terminals are compatible with. */
const char *guest_term (const char *term, const char *const *folders);

/** guest_set_term: TERM becomes guest_term() of it, by the guest's own folders. */
void guest_set_term (void);
