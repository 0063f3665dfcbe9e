/* What every ssh into a guest is told, whoever starts it; see ssh_config(5).
 * Never takes anything from the user's configuration, agent or known hosts. */
#pragma once

#include <glib.h>

/** banger_ssh_add_option: @option: "KEY=VALUE". */
void banger_ssh_add_option (GPtrArray *argv, const char *option);

/** banger_ssh_add_options: the ones that all have in common. @alias: what the guest is called in @known_hosts_file. */
void banger_ssh_add_options (GPtrArray *argv, const char *identity_file, const char *known_hosts_file,
                             const char *alias);

/** banger_ssh_quote: Returns: (transfer full): @path as one word of ssh_config(5). @expands: where it is said that % means
 * something. */
char *banger_ssh_quote (const char *path, gboolean expands);

/** banger_ssh_append_host: the VM @name as a Host of ssh_config(5), for an ssh that the user starts: what is safe is said,
 * what is a matter of taste is not. */
void banger_ssh_append_host (GString *out, const char *name, const char *address, const char *identity_file,
                             const char *known_hosts_file, const char *alias);
