/* Lines of fstab(5), taken apart as getmntent(3) does.
 * Never drops a line. */
#include "guest/fstab.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/guest-protocol.h"
#include "guest/disks.h"
#include "guest/file.h"
#include "guest/report.h"

#define FSTAB "/etc/fstab"
#define COVER BANGER_GUEST_RUN_DIR "/fstab"
#define MAX_TEXT_BYTES (1 << 20)
#define N_FIELDS 6
enum { SPEC, TARGET, TYPE, OPTIONS, FREQUENCY, PASS };

static int
begins (const char *text, const char *start)
{
  return strncmp (text, start, strlen (start)) == 0;
}

static int
is_one_of (const char *word, const char *const *list)
{
  for (; *list; list++)
    if (strcmp (word, *list) == 0)
      return 1;
  return 0;
}

static int
begins_with_one_of (const char *word, const char *const *list)
{
  for (; *list; list++)
    if (begins (word, *list))
      return 1;
  return 0;
}

static int
has_option (const char *options, const char *wanted)
{
  size_t length = strlen (wanted);
  for (const char *word = options; *word != '\0'; word += strcspn (word, ","), word += *word == ',')
    if (strncmp (word, wanted, length) == 0 && strchr (",=", word[length]))
      return 1;
  return 0;
}

/* udev's links, which are not made yet when the image is configured. */
static const struct {
  const char *folder, *tag;
} links[] = {
  { "/dev/disk/by-label/", "LABEL=" },
  { "/dev/disk/by-uuid/", "UUID=" },
};

static GuestDiskState
tag_state (const char *tag, const char *value, GuestDiskLook look, void *user_data)
{
  char name[128];
  size_t length = strlen (value);
  if (length >= 2 && (value[0] == '"' || value[0] == '\'') && value[length - 1] == value[0]) {
    value++;
    length -= 2;
  }
  if (snprintf (name, sizeof name, "%s%.*s", tag, (int)length, value) >= (int)sizeof name)
    return GUEST_DISK_ABSENT;
  return look (name, user_data) ? GUEST_DISK_PRESENT : GUEST_DISK_ABSENT;
}

static GuestDiskState
device_state (const char *path, GuestDiskLook look, void *user_data)
{
  static const char *const made[] = { "/dev/mapper/", "/dev/md",   "/dev/dm-", "/dev/loop", "/dev/zram",
                                      "/dev/ram",     "/dev/zvol", "/dev/nbd", "/dev/rbd",  NULL };
  for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
    if (begins (path, links[i].folder))
      return tag_state (links[i].tag, path + strlen (links[i].folder), look, user_data);
  if (look (path, user_data))
    return GUEST_DISK_PRESENT;
  return begins_with_one_of (path, made) ? GUEST_DISK_LATER : GUEST_DISK_ABSENT;
}

GuestDiskState
guest_disk_state (const char *spec, const char *type, const char *options, GuestDiskLook look, void *user_data)
{
  static const char *const other_hosts[] = { "9p", "virtiofs", "vboxsf", "vmhgfs", "fuse.vmhgfs-fuse", "prl_fs", NULL };
  static const char *const parts[] = { "PARTUUID=", "PARTLABEL=", "ID=", NULL };
  if (is_one_of (type, other_hosts) || begins_with_one_of (spec, parts))
    return GUEST_DISK_ABSENT;
  for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
    if (begins (spec, links[i].tag))
      return tag_state (links[i].tag, spec + strlen (links[i].tag), look, user_data);
  if (begins (spec, "/dev/"))
    return device_state (spec, look, user_data);
  int is_file = strcmp (type, "swap") == 0 || has_option (options, "bind") || has_option (options, "rbind")
                || has_option (options, "loop");
  return spec[0] == '/' && is_file && !look (spec, user_data) ? GUEST_DISK_LATER : GUEST_DISK_PRESENT;
}

/* Cuts @line at white space. Returns: how many fields it has, 0 for a comment. */
static int
split (char *line, const char *fields[N_FIELDS])
{
  int n = 0;
  char *rest = NULL;
  for (char *word = strtok_r (line, " \t\r", &rest); word && n < N_FIELDS; word = strtok_r (NULL, " \t\r", &rest))
    fields[n++] = word;
  return n > 0 && fields[0][0] != '#' ? n : 0;
}

typedef struct {
  const char *root;
  int init;
  GuestDiskLook look;
  void *data;
  FILE *out;
  char *told;
  size_t told_size;
  int changes;
} Rewrite;

static void
tell (Rewrite *rewrite, const char *const *fields)
{
  size_t used = strlen (rewrite->told);
  snprintf (rewrite->told + used, rewrite->told_size - used, "%s%s (%s)", used > 0 ? ", " : "", fields[SPEC],
            fields[TARGET]);
  rewrite->changes++;
}

/* The root is mounted already: what is said of it here counts for the remount alone. */
static void
put_root (Rewrite *rewrite, const char *const *fields)
{
  static const char *const ours[] = { "auto", "ext2", "ext3", "ext4", NULL };
  int same = is_one_of (fields[TYPE], ours);
  fprintf (rewrite->out, "%s\t/\text4\t%s\t0\t0\n", rewrite->root, same ? fields[OPTIONS] : "defaults");
}

static void
put_later (Rewrite *rewrite, const char *const *fields)
{
  /* A few seconds: what a service makes is there soon, or never. */
  int timeout = (rewrite->init & GUEST_FSTAB_SYSTEMD) != 0 && !has_option (fields[OPTIONS], "x-systemd.device-timeout");
  fprintf (rewrite->out, "%s\t%s\t%s\t%s,nofail%s\t%s\t%s\n", fields[SPEC], fields[TARGET], fields[TYPE],
           fields[OPTIONS], timeout ? ",x-systemd.device-timeout=10s" : "", fields[FREQUENCY],
           (rewrite->init & GUEST_FSTAB_SYSTEMD) != 0 ? fields[PASS] : "0");
}

/* As a comment: with an option it would be there for a mount below it, which then waits for it and fails. */
static void
put_absent (Rewrite *rewrite, const char *line, size_t length)
{
  fprintf (rewrite->out, "# not there: %.*s\n", (int)length, line);
}

static void
rewrite_line (Rewrite *rewrite, const char *line, size_t length)
{
  static const char *const disks[] = { "/dev/", "LABEL=", "UUID=", NULL };
  const char *fields[N_FIELDS] = { "", "none", "auto", "defaults", "0", "0" };
  char *copy = strndup (line, length);
  GuestDiskState state = GUEST_DISK_PRESENT;
  if (copy && split (copy, fields) >= 2)
    state = guest_disk_state (fields[SPEC], fields[TYPE], fields[OPTIONS], rewrite->look, rewrite->data);
  int is_root = strcmp (fields[TARGET], "/") == 0;
  if (state == GUEST_DISK_PRESENT && !is_root && (rewrite->init & GUEST_FSTAB_NO_UDEV) != 0
      && begins_with_one_of (fields[SPEC], disks))
    state = GUEST_DISK_LATER;
  int harmless = !is_root
                 && (has_option (fields[OPTIONS], "noauto")
                     || (state == GUEST_DISK_LATER && has_option (fields[OPTIONS], "nofail")));
  if (state == GUEST_DISK_PRESENT || harmless) {
    fprintf (rewrite->out, "%.*s\n", (int)length, line);
  } else {
    tell (rewrite, fields);
    if (is_root)
      put_root (rewrite, fields);
    else if (state == GUEST_DISK_LATER)
      put_later (rewrite, fields);
    else
      put_absent (rewrite, line, length);
  }
  free (copy);
}

char *
guest_fstab_optional (const char *text, const char *root, int init, GuestDiskLook look, void *user_data, char *told,
                      size_t told_size)
{
  char *result = NULL;
  size_t size = 0;
  Rewrite rewrite = { root, init, look, user_data, open_memstream (&result, &size), told, told_size, 0 };
  told[0] = '\0';
  if (!rewrite.out)
    return NULL;
  for (const char *line = text; *line != '\0';) {
    size_t length = strcspn (line, "\n");
    rewrite_line (&rewrite, line, length);
    line += length + (line[length] == '\n');
  }
  if (fclose (rewrite.out) == 0 && rewrite.changes > 0)
    return result;
  free (result);
  return NULL;
}

int
guest_crypttab_idle (const char *text, GuestDiskLook look, void *user_data)
{
  int idle = 1;
  for (const char *line = text; *line != '\0' && idle;) {
    const char *fields[N_FIELDS] = { "", "", "", "" };
    size_t length = strcspn (line, "\n");
    char *copy = strndup (line, length);
    if (!copy)
      return 0;
    if (split (copy, fields) >= 2)
      idle = guest_disk_state (fields[1], "", "", look, user_data) == GUEST_DISK_ABSENT;
    free (copy);
    line += length + (line[length] == '\n');
  }
  return idle;
}

int
guest_disk_look (const char *name, void *data)
{
  struct stat st;
  if (begins (name, "/dev/"))
    return stat (name, &st) == 0 && S_ISBLK (st.st_mode);
  if (name[0] == '/')
    return stat (name, &st) == 0;
  char device[] = "/dev/vda", label[GUEST_EXT4_LABEL + 6], uuid[GUEST_EXT4_UUID + 5];
  for (; device[7] <= 'z'; device[7]++) {
    memcpy (label, "LABEL=", 6);
    memcpy (uuid, "UUID=", 5);
    if (guest_ext4_read_names (device, label + 6, uuid + 5) == 0
        && (strcmp (name, label) == 0 || strcasecmp (name, uuid) == 0))
      return 1;
  }
  return 0;
}

static int
same_file (const char *a, const char *b)
{
  struct stat x, y;
  return stat (a, &x) == 0 && stat (b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* With the time of the image's file: systemd tells people to reload it when that has changed. */
static int
lay_over (const char *text)
{
  struct stat st;
  if (stat (FSTAB, &st) < 0 || guest_write_file (COVER, text, 0644) < 0)
    return -1;
  struct timespec times[] = { st.st_atim, st.st_mtim };
  if (utimensat (AT_FDCWD, COVER, times, 0) < 0)
    return -1;
  return mount (COVER, FSTAB, NULL, MS_BIND, NULL);
}

static int
has_udev (void)
{
  static const char *const paths[] = { "/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd",
                                       "/usr/bin/udevadm", "/sbin/udevd" };
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
    if (access (paths[i], X_OK) == 0)
      return 1;
  return 0;
}

int
guest_fstab_cover (const char *root, int is_systemd)
{
  char told[400];
  char *old = guest_read_file (FSTAB, MAX_TEXT_BYTES);
  if (!old)
    return 0;
  int init = !is_systemd ? 0 : has_udev () ? GUEST_FSTAB_SYSTEMD : GUEST_FSTAB_SYSTEMD | GUEST_FSTAB_NO_UDEV;
  char *text = guest_fstab_optional (old, root, init, guest_disk_look, NULL, told, sizeof told);
  free (old);
  if (!text)
    return 0;
  int r = lay_over (text);
  int saved = errno;
  free (text);
  if (r < 0) {
    guest_warn ("/etc/fstab names disks that this machine has not, %s, and cannot be covered: %s", told,
                strerror (saved));
    return -1;
  }
  guest_warn (
      "/etc/fstab names disks that this machine has not or cannot wait for; for this start they are optional: %s",
      told);
  return 1;
}

void
guest_fstab_uncover (void)
{
  if (same_file (FSTAB, COVER) && umount2 (FSTAB, MNT_DETACH) < 0)
    guest_warn ("cannot show the image's /etc/fstab again: %s", strerror (errno));
}

int
guest_fstab_main (char **arguments)
{
  guest_fstab_uncover ();
  return 0;
}
