/* The requests that configure a VMM, and what its answers become.
 * Run by meson test.
 * Never starts a VMM: the server is in this process. */
#include "manager/vmm-client.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <libsoup/soup.h>
#include <string.h>

#include "common/error.h"

typedef struct {
  char *folder, *path;
  SoupServer *server;
  GString *story;
  const char *refuse; /* path that is refused */
  gboolean done;
  GError *error;
} World;

static void
on_request (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer user_data)
{
  World *world = user_data;
  SoupMessageBody *body = soup_server_message_get_request_body (message);
  g_string_append_printf (world->story, "%s %s %.*s\n", soup_server_message_get_method (message), path,
                          (int)body->length, body->data);
  if (g_strcmp0 (path, world->refuse) == 0) {
    static const char fault[] = "{\"fault_message\":\"no such\\ntap\"}";
    soup_server_message_set_response (message, "application/json", SOUP_MEMORY_STATIC, fault, strlen (fault));
    soup_server_message_set_status (message, 400, NULL);
  } else {
    soup_server_message_set_status (message, 204, NULL);
  }
}

static void
world_up (World *world, gconstpointer data)
{
  world->folder = g_dir_make_tmp ("vmm-XXXXXX", NULL);
  world->path = g_build_filename (world->folder, "api.sock", NULL);
  world->story = g_string_new (NULL);
  world->server = soup_server_new (NULL, NULL);
  soup_server_add_handler (world->server, NULL, on_request, world, NULL);
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (world->path);
  g_autoptr (GSocket) socket = g_socket_new (G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, 0, NULL);
  g_autoptr (GError) error = NULL;
  g_assert_true (g_socket_bind (socket, address, FALSE, &error) && g_socket_listen (socket, &error));
  soup_server_listen_socket (world->server, socket, 0, &error);
  g_assert_no_error (error);
}

static void
world_down (World *world, gconstpointer data)
{
  soup_server_disconnect (world->server);
  g_object_unref (world->server);
  g_unlink (world->path);
  g_rmdir (world->folder);
  g_string_free (world->story, TRUE);
  g_clear_error (&world->error);
  g_free (world->folder);
  g_free (world->path);
}

static void
on_done (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  banger_vmm_finish (result, &world->error);
  world->done = TRUE;
}

static const BangerVmmConfig kept = {
  .vcpus = 2,
  .memory_mib = 512,
  .boot_args = "console=ttyS0 quiet",
  .work_disk = TRUE,
  .durable = TRUE,
  .tap = "tap-fc-01234567",
  .mac = "06:00:00:00:00:01",
  .vsock_cid = 3584360450, /* over 2^31: 10.213.0.2 is smaller, other networks are not */
};

/* @cache: of both disks. */
static char *
expected (const char *cache)
{
  return g_strdup_printf (
      "PUT /machine-config {\"vcpu_count\":2,\"mem_size_mib\":512}\n"
      "PUT /boot-source {\"kernel_image_path\":\"/vmlinux\",\"initrd_path\":\"/initrd\",\"boot_args\":"
      "\"console=ttyS0 quiet\"}\n"
      "PUT /drives/rootfs {\"drive_id\":\"rootfs\",\"path_on_host\":\"/rootfs\",\"is_root_device\":true,"
      "\"is_read_only\":false,\"cache_type\":\"%s\"}\n"
      "PUT /drives/work {\"drive_id\":\"work\",\"path_on_host\":\"/work\",\"is_root_device\":false,"
      "\"is_read_only\":false,\"cache_type\":\"%s\"}\n"
      "PUT /network-interfaces/eth0 {\"iface_id\":\"eth0\",\"host_dev_name\":\"tap-fc-01234567\",\"guest_mac\":"
      "\"06:00:00:00:00:01\"}\n"
      "PUT /vsock {\"guest_cid\":3584360450,\"uds_path\":\"/run/vsock.sock\"}\n",
      cache, cache);
}

static void
run (World *world)
{
  while (!world->done)
    g_main_context_iteration (NULL, TRUE);
}

static void
test_configure (World *world, gconstpointer data)
{
  BangerVmmConfig config = kept;
  config.durable = data != NULL;
  banger_vmm_configure_async (world->path, &config, NULL, on_done, world);
  run (world);
  g_assert_no_error (world->error);
  g_autofree char *story = expected (config.durable ? "Writeback" : "Unsafe");
  g_assert_cmpstr (world->story->str, ==, story);
}

static void
test_refusal (World *world, gconstpointer data)
{
  world->refuse = "/network-interfaces/eth0";
  banger_vmm_configure_async (world->path, &kept, NULL, on_done, world);
  run (world);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
  g_assert_cmpstr (world->error->message, ==, "the VMM refused PUT /network-interfaces/eth0 (400): no such\\x0atap");
  g_assert_null (strstr (world->story->str, "/vsock"));
}

static void
test_action (World *world, gconstpointer data)
{
  banger_vmm_action_async (world->path, "InstanceStart", NULL, on_done, world);
  run (world);
  g_assert_no_error (world->error);
  g_assert_cmpstr (world->story->str, ==, "PUT /actions {\"action_type\":\"InstanceStart\"}\n");
}

static void
test_nobody (World *world, gconstpointer data)
{
  banger_vmm_action_async ("/nonexistent/api.sock", "InstanceStart", NULL, on_done, world);
  run (world);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, func) g_test_add ("/vmm-client/" name, World, NULL, world_up, func, world_down)
  ADD ("configure-throwaway", test_configure);
  g_test_add ("/vmm-client/configure-durable", World, "durable", world_up, test_configure, world_down);
  ADD ("refusal", test_refusal);
  ADD ("action", test_action);
  ADD ("nobody", test_nobody);
  return g_test_run ();
}
