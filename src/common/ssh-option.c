/* What every ssh into a guest is told, whoever starts it; see ssh_config(5).
 * Never takes anything from the user's configuration, agent or known hosts. */
#include "common/ssh-option.h"

/* Of which the first are true for whoever starts it. */
static const char *const fixed[] = {
  "StrictHostKeyChecking=yes",
  "GlobalKnownHostsFile=none",
  "UpdateHostKeys=no",
  "CheckHostIP=no",
  "VerifyHostKeyDNS=no",
  "IdentitiesOnly=yes",
  "PreferredAuthentications=publickey",
  "ForwardAgent=no",
  "ForwardX11=no",
  "LogLevel=ERROR", /* OWN */
  "BatchMode=yes",
  "IdentityAgent=none",
  "ClearAllForwardings=yes",
  "ControlPath=none",
  "Compression=no",
};
#define OWN 9

void
banger_ssh_add_option (GPtrArray *argv, const char *option)
{
  g_ptr_array_add (argv, g_strdup ("-o"));
  g_ptr_array_add (argv, g_strdup (option));
}

char *
banger_ssh_quote (const char *path, gboolean expands)
{
  GString *out = g_string_new ("\"");
  for (const char *c = path; *c != '\0'; c++) {
    if (*c == '"' || *c == '\\' || (*c == '%' && expands))
      g_string_append_c (out, *c == '%' ? '%' : '\\');
    g_string_append_c (out, *c);
  }
  g_string_append_c (out, '"');
  return g_string_free (out, FALSE);
}

static void
add_path (GPtrArray *argv, const char *key, const char *path)
{
  g_autofree char *word = banger_ssh_quote (path, TRUE), *option = g_strconcat (key, "=", word, NULL);
  banger_ssh_add_option (argv, option);
}

void
banger_ssh_add_options (GPtrArray *argv, const char *identity_file, const char *known_hosts_file, const char *alias)
{
  g_autofree char *name = g_strconcat ("HostKeyAlias=", alias, NULL);
  g_ptr_array_add (argv, g_strdup ("-F"));
  g_ptr_array_add (argv, g_strdup ("none"));
  add_path (argv, "IdentityFile", identity_file);
  add_path (argv, "UserKnownHostsFile", known_hosts_file);
  banger_ssh_add_option (argv, name);
  for (gsize i = 0; i < G_N_ELEMENTS (fixed); i++)
    banger_ssh_add_option (argv, fixed[i]);
}

void
banger_ssh_append_host (GString *out, const char *name, const char *address, const char *identity_file,
                        const char *known_hosts_file, const char *alias)
{
  g_autofree char *identity = banger_ssh_quote (identity_file, TRUE),
                  *known = banger_ssh_quote (known_hosts_file, TRUE);
  g_string_append_printf (out,
                          "\nHost %s.vm\n  HostName=%s\n  User=root\n  HostKeyAlias=%s\n  IdentityFile=%s\n"
                          "  UserKnownHostsFile=%s\n",
                          name, address, alias, identity, known);
  for (gsize i = 0; i < OWN; i++)
    g_string_append_printf (out, "  %s\n", fixed[i]);
}
