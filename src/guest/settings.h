/* What the manager tells this VM: /banger/config of the initramfs.
 * Read once by the start-up code.
 * Never half valid: a known key with a bad value refuses the whole file. */
#pragma once

#include <netinet/in.h>
#include <stddef.h>

#include "common/guest-protocol.h"

#define GUEST_MAX_DNS 4

typedef struct {
  char hostname[64];
  char mac[18]; /* lower case; "" = no network */
  struct in_addr address;
  unsigned prefix;
  struct in_addr gateway; /* 0 = none */
  char dns[GUEST_MAX_DNS][INET6_ADDRSTRLEN];
  unsigned n_dns;
  unsigned mtu; /* 0 = the device's own */
  char root[64];
  char work[64];                                /* "" = none */
  char machine_id[33];                          /* "" = the image's own */
  char boot_token[65];                          /* "" = the kernel's boot id */
  char init[BANGER_GUEST_MAX_INIT + 1];         /* "" = the image's own, see guest_find_init() */
  char names[BANGER_GUEST_MAX_NAMES_BYTES + 1]; /* "" or "-" = nobody */
} GuestSettings;

/**
 * guest_settings_parse:
 * @text: "key=value" lines, changed while they are read; empty lines, lines that begin with '#' and unknown keys (of a
 * newer manager) are passed over.
 * @problem: filled with the reason on failure.
 * Returns: 0, or -1.
 */
int guest_settings_parse (char *text, GuestSettings *ret_settings, char *problem, size_t problem_size);

/** guest_names_ok: whether @names is a table of names, as BANGER_GUEST_MAX_NAMES says it. */
int guest_names_ok (const char *names);
