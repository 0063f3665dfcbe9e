/* From the configured VM to QEMU's command line.
 * Never touches the host. */
#include "engine/qemu-args.h"

#include <string.h>

#include "common/guest-protocol.h"

#define DEFAULT_BOOT_ARGS                                                                                              \
  "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"
/* A microvm has virtio-mmio-bus.0 to .7. Guests find them from .7 down, and hang on the interrupt of .0. */
#define SLOTS 7

typedef struct {
  GPtrArray *argv;
  guint slot;
} Args;

static void add (Args *args, const char *option, const char *format, ...) G_GNUC_PRINTF (3, 4);

static void
add (Args *args, const char *option, const char *format, ...)
{
  va_list list;
  g_ptr_array_add (args->argv, g_strdup (option));
  va_start (list, format);
  g_ptr_array_add (args->argv, g_strdup_vprintf (format, list));
  va_end (list);
}

/* Ends with NULL: "key", "type" ('s' string, 'b' boolean word, 'u' number word), "value". */
static char *
json_object (const char *first, ...)
{
  g_autoptr (JsonBuilder) builder = json_builder_new ();
  json_builder_begin_object (builder);
  va_list list;
  va_start (list, first);
  for (const char *key = first; key; key = va_arg (list, const char *)) {
    const char *type = va_arg (list, const char *);
    const char *value = va_arg (list, const char *);
    if (!value)
      continue;
    json_builder_set_member_name (builder, key);
    if (*type == 's')
      json_builder_add_string_value (builder, value);
    else if (*type == 'b')
      json_builder_add_boolean_value (builder, g_str_equal (value, "true"));
    else
      json_builder_add_int_value (builder, g_ascii_strtoll (value, NULL, 10));
  }
  va_end (list);
  json_builder_end_object (builder);
  g_autoptr (JsonNode) root = json_builder_get_root (builder);
  return json_to_string (root, FALSE);
}

static char *
next_bus (Args *args)
{
  return g_strdup_printf ("virtio-mmio-bus.%u", SLOTS - args->slot++);
}

char *
banger_qemu_kernel_command_line (const BangerVmConfig *config, const BangerQemuPlan *plan)
{
  const char *given = config->boot_source.boot_args ? config->boot_source.boot_args : DEFAULT_BOOT_ARGS;
  g_auto (GStrv) words = g_strsplit (given, " ", -1);
  g_autoptr (GString) line = g_string_new (NULL);
  for (char **word = words; *word; word++)
    g_string_append_printf (line, "%s%s", word == words ? "" : " ",
                            g_str_equal (*word, "reboot=k") ? "reboot=t" : *word);
  const BangerDrive *root = config->drives->len > 0 ? config->drives->pdata[0] : NULL;
  if (root && root->is_root_device == 1) {
    if (root->partuuid)
      g_string_append_printf (line, " root=PARTUUID=%s", root->partuuid);
    else
      g_string_append (line, " root=/dev/vda");
    g_string_append (line, root->is_read_only == 1 ? " ro" : " rw");
  }
  if (!plan->kvm && plan->tsc_khz > 0)
    /* Emulated, it is the host's own counter, the same for all processors. Linux would not trust it for want of a
     * second clock to watch it by, and count jiffies: ticks that a busy host loses. */
    g_string_append_printf (line, " tsc_early_khz=%u tsc=reliable", plan->tsc_khz);
  return g_string_free (g_steal_pointer (&line), FALSE);
}

/* By the same name whatever it is made of: so a state finds its memory. */
static void
add_memory (Args *args, gint64 mib, const BangerQemuPlan *plan)
{
  g_autofree char *bytes = g_strdup_printf ("%" G_GINT64_FORMAT, mib << 20);
  g_autofree char *object = json_object ("qom-type", "s",
                                         plan->memory_path ? "memory-backend-file" : "memory-backend-ram", "id", "s",
                                         "ram", "size", "u", bytes, "mem-path", "s", plan->memory_path, "share", "b",
                                         plan->memory_path && !plan->memory_private ? "true" : "false", NULL);
  add (args, "-object", "%s", object);
}

static void
add_machine (Args *args, const BangerVmConfig *config, const BangerQemuPlan *plan)
{
  const BangerMachineConfig *machine = &config->machine;
  gint64 threads = machine->smt == 1 && machine->vcpu_count > 1 ? 2 : 1;
  add (args, "-name", "%s", plan->id);
  /* Without a clock chip Linux looks for one until its own time-out: a second in a busy loop, each turn an exit. */
  add (args, "-machine", "microvm,accel=%s,rtc=on,memory-backend=ram", plan->kvm ? "kvm" : "tcg");
  add_memory (args, machine->mem_size_mib, plan);
  /* Told that string instructions on bytes are fast, Linux copies and clears with nothing else: TCG does one byte at a
   * time, which is ten times slower than what it does instead. */
  add (args, "-cpu", "%s", plan->kvm ? "host" : "max,-erms,-fsrm");
  add (args, "-m", "%" G_GINT64_FORMAT "M", machine->mem_size_mib);
  add (args, "-smp", "cpus=%" G_GINT64_FORMAT ",sockets=1,cores=%" G_GINT64_FORMAT ",threads=%" G_GINT64_FORMAT,
       machine->vcpu_count, machine->vcpu_count / threads, threads);
  g_ptr_array_add (args->argv, g_strdup ("-nodefaults"));
  g_ptr_array_add (args->argv, g_strdup ("-no-user-config"));
  g_ptr_array_add (args->argv, g_strdup ("-no-reboot"));
  add (args, "-display", "none");
  add (args, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  add (args, "-global", "virtio-mmio.force-legacy=false");
  /* The keyboard controller that SendCtrlAltDel needs; Firecracker has one too. */
  add (args, "-device", "i8042");
}

static void
add_serial (Args *args, const BangerVmConfig *config)
{
  const char *path = config->serial.serial_out_path;
  if (!path) {
    add (args, "-chardev", "stdio,id=console,signal=off");
  } else {
    g_auto (GStrv) parts = g_strsplit (path, ",", -1);
    g_autofree char *escaped = g_strjoinv (",,", parts);
    add (args, "-chardev", "file,id=console,append=on,path=%s", escaped);
  }
  add (args, "-serial", "chardev:console");
}

static void
add_kernel (Args *args, const BangerVmConfig *config, const BangerQemuPlan *plan)
{
  g_autofree char *command_line = banger_qemu_kernel_command_line (config, plan);
  add (args, "-kernel", "%s", config->boot_source.kernel_image_path);
  if (config->boot_source.initrd_path)
    add (args, "-initrd", "%s", config->boot_source.initrd_path);
  add (args, "-append", "%s", command_line);
}

/* Firecracker's Unsafe offers the guest no flush; here flushes are answered and go nowhere. A node that is not told so
 * flushes although the one above does not. What the page cache has of a disk is true, as no other host writes to it: a
 * restored guest is not to read all of it anew (drop-cache). */
static void
add_node (Args *args, const char *object, gboolean flush)
{
  int length = (int)strlen (object) - 1; /* without its brace */
  add (args, "-blockdev", "%.*s%s}", length, object, flush ? "" : ",\"cache\":{\"no-flush\":true}");
}

static void
add_drive (Args *args, const BangerDrive *drive, guint index)
{
  g_autofree char *file = g_strdup_printf ("file%u", index);
  g_autofree char *node = g_strdup_printf ("drive%u", index);
  g_autofree char *bus = next_bus (args);
  const char *read_only = drive->is_read_only == 1 ? "true" : "false";
  gboolean flush = g_str_equal (drive->cache_type, "Writeback");
  g_autofree char *protocol = json_object ("driver", "s", drive->is_block_device ? "host_device" : "file", "node-name",
                                           "s", file, "filename", "s", drive->path_on_host, "aio", "s", "threads",
                                           "read-only", "b", read_only, "auto-read-only", "b", "false", "discard", "s",
                                           "unmap", "drop-cache", "b", "false", NULL);
  g_autofree char *format = json_object ("driver", "s", "raw", "node-name", "s", node, "file", "s", file, "read-only",
                                         "b", read_only, "discard", "s", "unmap", NULL);
  g_autofree char *device = json_object ("driver", "s", "virtio-blk-device", "id", "s", drive->drive_id, "drive", "s",
                                         node, "bus", "s", bus, NULL);
  add_node (args, protocol, flush);
  add_node (args, format, flush);
  add (args, "-device", "%s", device);
}

static void
add_network (Args *args, const BangerNetwork *network, guint index)
{
  g_autofree char *netdev = g_strdup_printf ("net%u", index);
  g_autofree char *bus = next_bus (args);
  g_autofree char *mtu = network->mtu >= 0 ? g_strdup_printf ("%" G_GINT64_FORMAT, network->mtu) : NULL;
  g_autofree char *device = json_object ("driver", "s", "virtio-net-device", "netdev", "s", netdev, "mac", "s",
                                         network->guest_mac, "host_mtu", "u", mtu, "bus", "s", bus, NULL);
  add (args, "-netdev", "tap,id=%s,fd=%d", netdev, network->tap_fd);
  add (args, "-device", "%s", device);
}

static void
add_agent (Args *args, const BangerQemuPlan *plan)
{
  g_autofree char *bus = next_bus (args);
  add (args, "-device", "virtio-serial-device,id=ports,max_ports=2,bus=%s", bus);
  add (args, "-chardev", "socket,id=agentdev,fd=%d", plan->agent_fd);
  add (args, "-device", "virtserialport,id=" BANGER_QEMU_AGENT_ID ",bus=ports.0,nr=1,chardev=agentdev,name=%s",
       BANGER_GUEST_SERIAL_PORT);
}

static guint
count_devices (const BangerVmConfig *config, const BangerQemuPlan *plan)
{
  return config->drives->len + config->networks->len + (plan->agent_fd >= 0 ? 1 : 0) + (config->entropy ? 1 : 0);
}

GStrv
banger_qemu_args (const BangerVmConfig *config, const BangerQemuPlan *plan, GError **error)
{
  guint devices = count_devices (config, plan);
  if (devices > SLOTS) {
    g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST,
                 "%u devices are configured, this machine has room for %d", devices, SLOTS);
    return NULL;
  }
  Args args = { .argv = g_ptr_array_new () };
  g_ptr_array_add (args.argv, g_strdup (plan->qemu_path));
  add_machine (&args, config, plan);
  add (&args, "-chardev", "socket,id=qmp,fd=%d", plan->qmp_fd);
  add (&args, "-mon", "chardev=qmp,mode=control");
  add_serial (&args, config);
  if (plan->incoming) { /* its kernel is in its memory: QEMU would read all of it, and put it nowhere */
    add (&args, "-incoming", "defer");
    g_ptr_array_add (args.argv, g_strdup ("-S"));
  } else {
    add_kernel (&args, config, plan);
  }
  for (guint i = 0; i < config->drives->len; i++)
    add_drive (&args, config->drives->pdata[i], i);
  for (guint i = 0; i < config->networks->len; i++)
    add_network (&args, config->networks->pdata[i], i);
  if (plan->agent_fd >= 0)
    add_agent (&args, plan);
  if (config->entropy) {
    g_autofree char *bus = next_bus (&args);
    add (&args, "-object", "rng-builtin,id=entropy");
    add (&args, "-device", "virtio-rng-device,rng=entropy,bus=%s", bus);
  }
  g_ptr_array_add (args.argv, NULL);
  return (GStrv)g_ptr_array_free (args.argv, FALSE);
}
