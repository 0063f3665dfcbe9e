/* The bodies of PUT /snapshot/create and /snapshot/load, and what a state file has configured.
 * Never lets a state file name a log or a socket of its own. */
#include "engine/api-snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fd.h"

#define FIELD(T, member, type, needed, words)                                                                          \
  {                                                                                                                    \
#member, type, needed, offsetof(T, member), 0, words                                                               \
  }
#define END                                                                                                            \
  {                                                                                                                    \
    NULL, BANGER_FIELD_STRING, FALSE, 0, 0, NULL                                                                       \
  }

typedef struct {
  char *backend_type, *backend_path;
} Backend;

typedef struct {
  char *iface_id, *host_dev_name;
} NetworkOverride;

typedef struct {
  char *uds_path;
} VsockOverride;

static const char *const snapshot_types[] = { "Full", "Diff", NULL };
static const char *const backend_types[] = { "File", "Uffd", NULL };

/* clang-format off */
static const BangerBodyField create_fields[] = {
  FIELD (BangerSnapshotCreate, snapshot_path, BANGER_FIELD_STRING, TRUE, NULL),
  FIELD (BangerSnapshotCreate, mem_file_path, BANGER_FIELD_STRING, TRUE, NULL),
  FIELD (BangerSnapshotCreate, snapshot_type, BANGER_FIELD_STRING, FALSE, snapshot_types),
  END,
};
static const BangerBodyField load_fields[] = {
  FIELD (BangerSnapshotLoad, snapshot_path, BANGER_FIELD_STRING, TRUE, NULL),
  FIELD (BangerSnapshotLoad, mem_file_path, BANGER_FIELD_STRING, FALSE, NULL),
  FIELD (BangerSnapshotLoad, mem_backend, BANGER_FIELD_NODE, FALSE, NULL),
  FIELD (BangerSnapshotLoad, resume_vm, BANGER_FIELD_BOOL, FALSE, NULL),
  FIELD (BangerSnapshotLoad, track_dirty_pages, BANGER_FIELD_BOOL, FALSE, NULL),
  FIELD (BangerSnapshotLoad, enable_diff_snapshots, BANGER_FIELD_BOOL, FALSE, NULL),
  FIELD (BangerSnapshotLoad, clock_realtime, BANGER_FIELD_BOOL, FALSE, NULL),
  FIELD (BangerSnapshotLoad, network_overrides, BANGER_FIELD_NODE, FALSE, NULL),
  FIELD (BangerSnapshotLoad, vsock_override, BANGER_FIELD_NODE, FALSE, NULL),
  END,
};
static const BangerBodyField backend_fields[] = {
  FIELD (Backend, backend_type, BANGER_FIELD_STRING, TRUE, backend_types),
  FIELD (Backend, backend_path, BANGER_FIELD_STRING, TRUE, NULL),
  END,
};
static const BangerBodyField network_fields[] = {
  FIELD (NetworkOverride, iface_id, BANGER_FIELD_STRING, TRUE, NULL),
  FIELD (NetworkOverride, host_dev_name, BANGER_FIELD_STRING, TRUE, NULL),
  END,
};
static const BangerBodyField vsock_fields[] = {
  FIELD (VsockOverride, uds_path, BANGER_FIELD_STRING, TRUE, NULL),
  END,
};
/* clang-format on */

/* In the order in which they are configured. */
static const char *const sections[] = { "machine-config",     "boot-source", "drives",
                                        "network-interfaces", "vsock",       "entropy" };

void
banger_snapshot_create_clear (BangerSnapshotCreate *create)
{
  banger_body_clear (create_fields, create);
}

void
banger_snapshot_load_clear (BangerSnapshotLoad *load)
{
  banger_body_clear (load_fields, load);
  g_clear_pointer (&load->memory_path, g_free);
}

gboolean
banger_snapshot_create_read (JsonNode *body, BangerSnapshotCreate *ret_create, GError **error)
{
  if (!banger_body_read (body, create_fields, ret_create, error))
    return FALSE;
  if (g_strcmp0 (ret_create->snapshot_type, "Diff") == 0)
    return banger_vmm_fault (error, "The requested operation is not supported: snapshot_type Diff");
  return TRUE;
}

static gboolean
read_memory (BangerSnapshotLoad *load, GError **error)
{
  static const char *const deserialize = "An error occurred when deserializing the json body of a request: ";
  if (load->mem_backend && load->mem_file_path)
    return banger_vmm_fault (
        error, "%stoo many fields: either `mem_backend` or `mem_file_path` exclusively is required.", deserialize);
  if (!load->mem_backend && !load->mem_file_path)
    return banger_vmm_fault (error, "%smissing field: either `mem_backend` or `mem_file_path` is required.",
                             deserialize);
  if (load->mem_file_path) {
    load->memory_path = g_strdup (load->mem_file_path);
    return TRUE;
  }
  Backend backend;
  if (!banger_body_read (load->mem_backend, backend_fields, &backend, error))
    return FALSE;
  gboolean file = g_str_equal (backend.backend_type, "File");
  load->memory_path = g_strdup (backend.backend_path);
  banger_body_clear (backend_fields, &backend);
  return file || banger_vmm_fault (error, "The requested operation is not supported: backend_type Uffd");
}

/* Every override is looked at before anything is done, as serde would. */
static gboolean
check_overrides (const BangerSnapshotLoad *load, GError **error)
{
  NetworkOverride network;
  VsockOverride vsock;
  if (load->network_overrides && !JSON_NODE_HOLDS_ARRAY (load->network_overrides))
    return banger_vmm_fault (error, "An error occurred when deserializing the json body of a request: invalid type for "
                                    "`network_overrides`, expected a list.");
  JsonArray *list = load->network_overrides ? json_node_get_array (load->network_overrides) : NULL;
  for (guint i = 0; list && i < json_array_get_length (list); i++) {
    if (!banger_body_read (json_array_get_element (list, i), network_fields, &network, error))
      return FALSE;
    banger_body_clear (network_fields, &network);
  }
  if (load->vsock_override) {
    if (!banger_body_read (load->vsock_override, vsock_fields, &vsock, error))
      return FALSE;
    banger_body_clear (vsock_fields, &vsock);
  }
  return TRUE;
}

gboolean
banger_snapshot_load_read (JsonNode *body, BangerSnapshotLoad *ret_load, GError **error)
{
  if (!banger_body_read (body, load_fields, ret_load, error) || !read_memory (ret_load, error)
      || !check_overrides (ret_load, error))
    return FALSE;
  /* QEMU's clocks go on from where they were. */
  if (ret_load->clock_realtime == 1)
    return banger_vmm_fault (error, "The requested operation is not supported: clock_realtime");
  if (ret_load->track_dirty_pages == 1 || ret_load->enable_diff_snapshots == 1)
    return banger_vmm_fault (error, "The requested operation is not supported: track_dirty_pages");
  return TRUE;
}

static JsonObject *
find_network (JsonObject *config, const char *id)
{
  JsonNode *node = json_object_get_member (config, "network-interfaces");
  JsonArray *list = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
  for (guint i = 0; list && i < json_array_get_length (list); i++) {
    JsonNode *element = json_array_get_element (list, i);
    JsonObject *network = JSON_NODE_HOLDS_OBJECT (element) ? json_node_get_object (element) : NULL;
    if (network && g_strcmp0 (json_object_get_string_member_with_default (network, "iface_id", NULL), id) == 0)
      return network;
  }
  return NULL;
}

static gboolean
override (JsonObject *config, const BangerSnapshotLoad *load, GError **error)
{
  JsonArray *list = load->network_overrides ? json_node_get_array (load->network_overrides) : NULL;
  for (guint i = 0; list && i < json_array_get_length (list); i++) {
    JsonObject *wanted = json_array_get_object_element (list, i);
    JsonObject *network = find_network (config, json_object_get_string_member (wanted, "iface_id"));
    if (!network)
      return banger_vmm_fault (error, "Unknown Network Device.");
    json_object_set_string_member (network, "host_dev_name", json_object_get_string_member (wanted, "host_dev_name"));
  }
  if (load->vsock_override) {
    JsonNode *node = json_object_get_member (config, "vsock");
    if (!node || !JSON_NODE_HOLDS_OBJECT (node))
      return banger_vmm_fault (error, "Unknown Vsock Device.");
    const char *path = json_object_get_string_member (json_node_get_object (load->vsock_override), "uds_path");
    json_object_set_string_member (json_node_get_object (node), "uds_path", path);
  }
  return TRUE;
}

/* Returns: (transfer full): what of @file may be configured, with what @load has otherwise; %NULL on error. */
static JsonNode *
wanted_config (const BangerSnapshotFile *file, const BangerSnapshotLoad *load, GError **error)
{
  if (!JSON_NODE_HOLDS_OBJECT (file->config)) {
    banger_vmm_fault (error, "the state file has no configuration");
    return NULL;
  }
  g_autofree char *text = json_to_string (file->config, FALSE); /* a copy that may be changed */
  g_autoptr (JsonNode) copy = json_from_string (text, NULL);
  JsonObject *from = json_node_get_object (copy);
  if (!override (from, load, error))
    return NULL;
  g_autoptr (JsonNode) root = json_node_init_object (json_node_alloc (), NULL);
  JsonObject *to = json_object_new ();
  json_node_take_object (root, to);
  for (size_t i = 0; i < G_N_ELEMENTS (sections); i++)
    if (json_object_has_member (from, sections[i]))
      json_object_set_member (to, sections[i], json_object_dup_member (from, sections[i]));
  return g_steal_pointer (&root);
}

static int
open_file (const char *path, struct stat *ret, const char *what, GError **error)
{
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || fstat (fd, ret) < 0) {
    banger_vmm_fault (error, "%s: %s: %s", what, path, g_strerror (errno));
    return -1;
  }
  if (!S_ISREG (ret->st_mode)) {
    banger_vmm_fault (error, "%s: %s is no file", what, path);
    return -1;
  }
  return banger_steal_fd (&fd);
}

/* A memory file that is shorter than the memory would end QEMU later, with no word. */
static gboolean
check_sizes (const BangerSnapshotFile *file, const BangerVmConfig *config, const struct stat *state,
             const struct stat *memory, GError **error)
{
  gboolean mapped = file->mapped == 1;
  gint64 in_state = BANGER_SNAPSHOT_HEADER + (mapped ? file->stream_bytes : 0);
  gint64 in_memory = mapped ? config->machine.mem_size_mib << 20 : file->stream_bytes;
  if (state->st_size != in_state)
    return banger_vmm_fault (error, "the state file has %" G_GINT64_FORMAT " bytes, %" G_GINT64_FORMAT " are expected",
                             (gint64)state->st_size, in_state);
  if (memory->st_size != in_memory)
    return banger_vmm_fault (error,
                             "Failed to load guest memory: the file has %" G_GINT64_FORMAT " bytes, %" G_GINT64_FORMAT
                             " are expected",
                             (gint64)memory->st_size, in_memory);
  return TRUE;
}

static gboolean
prepare (BangerInstance *instance, const BangerSnapshotLoad *load, BangerConfigure configure, BangerSnapshotFile *file,
         int *ret_state, int *ret_memory, GError **error)
{
  struct stat state_st, memory_st;
  banger_autofd int state = open_file (load->snapshot_path, &state_st,
                                       "Failed to get snapshot state from file: Failed to open snapshot file", error);
  if (state < 0)
    return FALSE;
  if (!banger_snapshot_file_read (state, file, error)) {
    g_prefix_error (error, "Failed to get snapshot state from file: ");
    return FALSE;
  }
  if (!g_str_equal (file->vmm, BANGER_VMM_NAME_AND_VERSION))
    return banger_vmm_fault (error, "the state is of %s, this is " BANGER_VMM_NAME_AND_VERSION, file->vmm);
  banger_autofd int memory = open_file (load->memory_path, &memory_st, "Failed to load guest memory", error);
  g_autoptr (JsonNode) config = memory < 0 ? NULL : wanted_config (file, load, error);
  if (!config || !configure (instance, config, error)
      || !check_sizes (file, banger_instance_config (instance), &state_st, &memory_st, error))
    return FALSE;
  if (file->mapped == 1)
    lseek (state, BANGER_SNAPSHOT_HEADER, SEEK_SET);
  *ret_state = banger_steal_fd (&state);
  *ret_memory = banger_steal_fd (&memory);
  return TRUE;
}

void
banger_snapshot_load (BangerInstance *instance, const BangerSnapshotLoad *load, BangerConfigure configure,
                      BangerInstanceDone done, gpointer user_data)
{
  g_auto (BangerSnapshotFile) file = { 0 };
  g_autoptr (GError) error = NULL;
  int state = -1, memory = -1;
  if (!prepare (instance, load, configure, &file, &state, &memory, &error))
    banger_instance_refuse_load (instance, error->message, done, user_data);
  else
    banger_instance_load (instance, &file, state, load->memory_path, memory, load->resume_vm == 1, done, user_data);
}
