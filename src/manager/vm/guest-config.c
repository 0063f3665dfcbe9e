/* The record, the network's own numbers, the files of keys.
 * Never holds a reference to the VM: a worker has it. */
#include "manager/vm/guest-config.h"

struct VmGuestConfig {
  BangerGuestConfig config; /* of the strings below */
  char *vm_id, *hostname, *mac, *init, *address, *gateway, *names;
  char *dir_path, *client_file;
  char *host_key, *host_key_public, *authorized_keys;
  GStrv dns;
};

VmGuestConfig *
vm_guest_config_new (BangerVm *vm, gboolean work_disk)
{
  VmGuestConfig *guest = g_new0 (VmGuestConfig, 1);
  guest->vm_id = g_strdup (vm->record.id);
  guest->hostname = g_strdup (vm->record.name);
  guest->mac = g_strdup (vm->record.mac);
  guest->init = g_strdup (vm->record.init);
  guest->names = vm_names_text (vm);
  guest->address = g_strdup_printf ("%s/%u", vm->record.address, vm->vms->subnet.prefix);
  guest->gateway = banger_address_format (vm->vms->subnet.gateway);
  guest->dir_path = g_strdup (vm->dir_path);
  guest->client_file = g_strconcat (vm->vms->ssh->identity_file, ".pub", NULL);
  guest->config = (BangerGuestConfig){
    .vm_id = guest->vm_id,
    .hostname = guest->hostname,
    .address = guest->address,
    .gateway = guest->gateway,
    .mac = guest->mac,
    .root = "/dev/vda",
    .work = work_disk ? "/dev/vdb" : NULL,
    .init = guest->init,
    .names = guest->names,
  };
  return guest;
}

void
vm_guest_config_free (VmGuestConfig *guest)
{
  char *strings[] = {
    guest->vm_id,           guest->hostname, guest->mac,         guest->init,     guest->address,
    guest->gateway,         guest->dir_path, guest->client_file, guest->host_key, guest->host_key_public,
    guest->authorized_keys, guest->names
  };
  for (gsize i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  g_strfreev (guest->dns);
  g_free (guest);
}

static gboolean
read_key (const VmGuestConfig *guest, const char *name, char **ret, GError **error)
{
  g_autofree char *path = g_build_filename (guest->dir_path, name, NULL);
  return g_file_get_contents (path, ret, NULL, error);
}

const BangerGuestConfig *
vm_guest_config_read (VmGuestConfig *guest, GError **error)
{
  static const char *const resolv[] = { "/run/systemd/resolve/resolv.conf", "/etc/resolv.conf", NULL };
  if (!read_key (guest, BANGER_FILE_VM_HOST_KEY, &guest->host_key, error)
      || !read_key (guest, BANGER_FILE_VM_HOST_KEY ".pub", &guest->host_key_public, error)
      || !g_file_get_contents (guest->client_file, &guest->authorized_keys, NULL, error))
    return NULL;
  guest->dns = banger_resolvers (resolv);
  guest->config.dns = (const char *const *)guest->dns;
  guest->config.host_key = guest->host_key;
  guest->config.host_key_public = guest->host_key_public;
  guest->config.authorized_keys = guest->authorized_keys;
  return &guest->config;
}

gboolean
vm_guest_config_has_dns (const VmGuestConfig *guest)
{
  return guest->dns && guest->dns[0];
}
