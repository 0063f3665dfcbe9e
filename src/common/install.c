/* The install metadata (install.toml).
 * Never trusted by the helper unless root-owned and writable by root alone. */
#include "common/install.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "common/state-file.h"
#include "common/toml.h"
#include "common/validate.h"

#define MAX_VMS 1000 /* a bridge has 1023 ports */
#define MAX_PENDING 240
#define DEFAULT_VMS 64
#define MAX_BRIDGES 64
#define DEFAULT_BRIDGES 8
#define MIN_MEMORY_MIB 16
#define MAX_MEMORY_MIB (1024 * 1024)
#define MAX_WORKERS 8
#define MAX_DISK_MIB (G_GUINT64_CONSTANT (1) << 30)
#define LOOPS 2 /* each snapshot has two */

static const struct {
  const char *table, *key;
  size_t offset;
  const char *value; /* default, NULL none */
} strings[] = {
  { "owner", "user", offsetof (BangerInstall, owner_user), NULL },
  { "owner", "home", offsetof (BangerInstall, owner_home), NULL },
  { "", "version", offsetof (BangerInstall, version), BANGER_VERSION },
  { "paths", "state", offsetof (BangerInstall, state_dir), BANGER_DEFAULT_STATE_DIR },
  { "paths", "runtime", offsetof (BangerInstall, runtime_dir), BANGER_DEFAULT_RUNTIME_DIR },
  { "paths", "cache", offsetof (BangerInstall, cache_dir), BANGER_DEFAULT_CACHE_DIR },
  { "network", "bridge", offsetof (BangerInstall, bridge), BANGER_DEFAULT_BRIDGE },
  { "network", "address", offsetof (BangerInstall, bridge_address), BANGER_DEFAULT_BRIDGE_ADDRESS },
  { "network", "pool", offsetof (BangerInstall, network_pool), NULL },
  { "engine", "use", offsetof (BangerInstall, engine), "auto" },
  { "engine.firecracker", "vmm", offsetof (BangerInstall, firecracker_vmm), NULL },
  { "engine.firecracker", "jailer", offsetof (BangerInstall, firecracker_jailer), NULL },
  { "engine.qemu", "vmm", offsetof (BangerInstall, qemu_vmm), BANGER_LIBEXECDIR "/banger-vmm-qemu" },
  { "engine.qemu", "jailer", offsetof (BangerInstall, qemu_jailer), BANGER_LIBEXECDIR "/banger-jailer" },
  { "tools", "disk", offsetof (BangerInstall, tool_disk), BANGER_LIBEXECDIR "/banger-disk" },
  { "tools", "e2fsck", offsetof (BangerInstall, tool_e2fsck), "/usr/sbin/e2fsck" },
};

/* MiB. */
static guint64
memory_of_host (void)
{
  guint64 mib = (guint64)sysconf (_SC_PHYS_PAGES) * (guint64)sysconf (_SC_PAGESIZE) >> 20;
  return CLAMP (mib, MIN_MEMORY_MIB, MAX_MEMORY_MIB);
}

static guint64
quarter_of_memory (void)
{
  return MAX (memory_of_host () / 4, MIN_MEMORY_MIB);
}

/* Each may take 1 GiB: a quarter of the host's memory together. */
static guint64
workers_of_host (void)
{
  return CLAMP (memory_of_host () / 4096, 1, MAX_WORKERS);
}

static const struct {
  const char *key;
  size_t offset;
  guint64 min, max, value;   /* default */
  guint64 (*of_host) (void); /* the default instead, nullable */
} limits[] = {
  { "vms", offsetof (BangerInstall, max_vms), 1, MAX_VMS, DEFAULT_VMS },
  { "bridges", offsetof (BangerInstall, max_bridges), 1, MAX_BRIDGES, DEFAULT_BRIDGES },
  { "taps", offsetof (BangerInstall, max_taps), 1, MAX_VMS, DEFAULT_VMS },
  { "snapshots", offsetof (BangerInstall, max_snapshots), 1, MAX_VMS, DEFAULT_VMS },
  { "loops", offsetof (BangerInstall, max_loops), 1, MAX_VMS *LOOPS, DEFAULT_VMS *LOOPS },
  { "connections", offsetof (BangerInstall, max_connections), 16, 1000000, 4096 },
  { "pending", offsetof (BangerInstall, max_pending), 1, MAX_PENDING, DEFAULT_VMS },
  { "disk-mib", offsetof (BangerInstall, max_disk_mib), MIN_MEMORY_MIB, MAX_DISK_MIB, 0 },
  { "snapshot-memory-mib", offsetof (BangerInstall, max_snapshot_memory_mib), MIN_MEMORY_MIB, MAX_MEMORY_MIB, 0,
    quarter_of_memory },
  { "memory-mib", offsetof (BangerInstall, max_memory_mib), MIN_MEMORY_MIB, MAX_MEMORY_MIB, MAX_MEMORY_MIB },
  { "calls", offsetof (BangerInstall, max_calls), 1, 100000, 250 },
  { "workers", offsetof (BangerInstall, max_workers), 1, MAX_WORKERS, 0, workers_of_host },
  { "total-memory-mib", offsetof (BangerInstall, max_total_memory_mib), MIN_MEMORY_MIB, MAX_VMS *MAX_MEMORY_MIB, 0,
    memory_of_host },
  { "guest-seconds", offsetof (BangerInstall, guest_seconds), 10, 3600, 120 },
};

static const char *const known_keys[] = {
  "version",
  "owner.user",
  "owner.uid",
  "owner.gid",
  "owner.home",
  "paths.state",
  "paths.runtime",
  "paths.cache",
  "network.bridge",
  "network.address",
  "network.pool",
  "engine.use",
  "limits.vms",
  "limits.bridges",
  "limits.taps",
  "limits.snapshots",
  "limits.loops",
  "limits.pending",
  "limits.connections",
  "limits.disk-mib",
  "limits.snapshot-memory-mib",
  "limits.memory-mib",
  "limits.total-memory-mib",
  "limits.calls",
  "limits.workers",
  "limits.guest-seconds",
  "engine.firecracker.vmm",
  "engine.firecracker.jailer",
  "engine.qemu.vmm",
  "engine.qemu.jailer",
  "tools.disk",
  "tools.e2fsck",
  NULL,
};

void
banger_install_free (BangerInstall *install)
{
  if (!install)
    return;
  for (size_t i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (G_STRUCT_MEMBER (char *, install, strings[i].offset));
  g_free (install);
}

/* The VMM's sockets are reached as <runtime>/<uid>/<vm>/<name>, and unix(7) has room for 108 bytes with the final zero.
 */
static gboolean
check_runtime (const BangerInstall *install, const char *name, GError **error)
{
  static const char longest[] = "/4294967295/0123456789abcdef0123456789abcdef/" BANGER_SOCKET_VSOCK;
  const size_t most = sizeof ((struct sockaddr_un *)NULL)->sun_path - sizeof longest;
  size_t length = strlen (install->runtime_dir);
  return length <= most
         || banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                              "%s: paths.runtime has %zu bytes; at most %zu leave room for the names of sockets", name,
                              length, most);
}

static gboolean
check_paths (const BangerInstall *install, const char *name, GError **error)
{
  const char *paths[] = { install->owner_home,      install->state_dir,          install->runtime_dir,
                          install->cache_dir,       install->qemu_vmm,           install->qemu_jailer,
                          install->firecracker_vmm, install->firecracker_jailer, install->tool_disk,
                          install->tool_e2fsck };
  for (size_t i = 0; i < G_N_ELEMENTS (paths); i++)
    if (paths[i] && (paths[i][0] != '/' || strstr (paths[i], "/../") || g_str_has_suffix (paths[i], "/..")))
      return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s: path '%s' must be absolute and without '..'",
                               name, paths[i]);
  return TRUE;
}

static gboolean
check (const BangerInstall *install, const char *name, GError **error)
{
  static const char *const engines[] = { "auto", "firecracker", "qemu", NULL };
  if (!install->owner_user || !install->owner_home || install->owner_uid == (uid_t)-1
      || install->owner_gid == (gid_t)-1)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s: [owner] needs user, uid, gid and home", name);
  if (install->owner_uid == 0 || install->owner_gid == 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s: the owner cannot be root", name);
  if (!g_strv_contains (engines, install->engine))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "%s: engine.use is '%s'; choose auto, firecracker or qemu", name, install->engine);
  return check_paths (install, name, error) && check_runtime (install, name, error)
         && banger_bridge_name_check (install->bridge, error)
         && banger_ipv4_cidr_parse (install->bridge_address, NULL, NULL, error)
         && (!install->network_pool || banger_ipv4_cidr_parse (install->network_pool, NULL, NULL, error));
}

static gboolean
read_numbers (BangerToml *toml, BangerInstall *install, GError **error)
{
  guint64 uid = (uid_t)-1, gid = (gid_t)-1;
  if (!banger_toml_get_uint (toml, "owner", "uid", 1, G_MAXINT32, &uid, error)
      || !banger_toml_get_uint (toml, "owner", "gid", 1, G_MAXINT32, &gid, error))
    return FALSE;
  install->owner_uid = (uid_t)uid;
  install->owner_gid = (gid_t)gid;
  for (size_t i = 0; i < G_N_ELEMENTS (limits); i++) {
    guint64 *where = &G_STRUCT_MEMBER (guint64, install, limits[i].offset);
    *where = limits[i].of_host ? limits[i].of_host () : limits[i].value;
    if (!banger_toml_get_uint (toml, "limits", limits[i].key, limits[i].min, limits[i].max, where, error))
      return FALSE;
  }
  return TRUE;
}

BangerInstall *
banger_install_parse (const char *text, size_t length, const char *name, GError **error)
{
  g_autoptr (BangerToml) toml = banger_toml_parse (text, length, name, error);
  if (!toml || !banger_toml_check_keys (toml, known_keys, error))
    return NULL;
  g_autoptr (BangerInstall) install = g_new0 (BangerInstall, 1);
  install->owner_uid = (uid_t)-1;
  install->owner_gid = (gid_t)-1;
  for (size_t i = 0; i < G_N_ELEMENTS (strings); i++) {
    char **where = &G_STRUCT_MEMBER (char *, install, strings[i].offset);
    *where = g_strdup (strings[i].value);
    if (!banger_toml_get_string (toml, strings[i].table, strings[i].key, where, error))
      return NULL;
  }
  if (!read_numbers (toml, install, error) || !check (install, name, error))
    return NULL;
  return g_steal_pointer (&install);
}

static BangerInstall *
load (const char *path, gboolean trusted, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (path), *name = g_path_get_basename (path);
  banger_autofd int dir = open (folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  banger_autofd int fd = dir < 0 ? -1 : openat (dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  struct stat st;
  if (fd < 0 || fstat (fd, &st) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the install metadata '%s'", path);
    return NULL;
  }
  if (trusted && (!S_ISREG (st.st_mode) || st.st_uid != 0 || (st.st_mode & 022))) {
    banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "'%s' must be a regular file that only root can write", path);
    return NULL;
  }
  g_autofree char *link = g_strdup_printf ("/proc/self/fd/%d", fd);
  g_autofree char *text = NULL;
  size_t length = 0;
  g_autoptr (GError) why = NULL;
  if (!g_file_get_contents (link, &text, &length, &why)) {
    banger_set_error (error, BANGER_ERROR_FAILED, "cannot read '%s': %s", path, why->message);
    return NULL;
  }
  return banger_install_parse (text, length, path, error);
}

BangerInstall *
banger_install_load (const char *path, GError **error)
{
  const char *from_environment = g_getenv (BANGER_ENV_CONFIG);
  return load (path                                    ? path
               : from_environment && *from_environment ? from_environment
                                                       : BANGER_INSTALL_FILE,
               FALSE, error);
}

BangerInstall *
banger_install_load_trusted (const char *path, GError **error)
{
  return load (path ? path : BANGER_INSTALL_FILE, TRUE, error);
}
