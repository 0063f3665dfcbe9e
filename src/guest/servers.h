/* Programs that run on in a copied machine and keep what was the other's: told to look again.
 * Never waits without an end. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define GUEST_MAX_SSHDS 4
#define GUEST_MAX_AUXV 1024
#define GUEST_MAX_OTHERS 8

typedef struct {
  int listened; /* for ssh, before */
  size_t n_sshds;
  struct {
    pid_t pid;
    size_t length;
    char auxv[GUEST_MAX_AUXV]; /* has addresses that no second execve(2) has again */
  } sshds[GUEST_MAX_SSHDS];
  size_t n_others; /* who have their signal to come */
  struct {
    pid_t pid;
    int signal;
  } others[GUEST_MAX_OTHERS];
} GuestServers;

/** guest_servers_begin: finds all, and tells those who listen for ssh, whose keys are new: that takes longest. Returns: 0, or
 * -1 with errno. */
int guest_servers_begin (GuestServers *servers);

/** guest_servers_reload: tells the others, too; those who listen for ssh have read their keys anew then. Returns: 0, or -1
 * with errno. */
int guest_servers_reload (const GuestServers *servers);

/** guest_servers_wait: until somebody listens for ssh again, if somebody did. Returns: 0, or -1 with errno. */
int guest_servers_wait (const GuestServers *servers);
