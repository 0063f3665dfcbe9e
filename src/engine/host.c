/* What this host can do: KVM, the TSC's frequency, taps.
 * Never needs /proc or /sys: the jail has neither. */
#include "engine/host.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <x86intrin.h>

#include "common/fd.h"
#include "engine/body.h"

#define TSC_MIN_NSEC (20 * G_GINT64_CONSTANT (1000000))

gboolean
banger_host_has_kvm (void)
{
  guint a, b, c, d;
  gboolean vmx = __get_cpuid (1, &a, &b, &c, &d) && (c & (1U << 5)) != 0;
  gboolean svm = __get_cpuid (0x80000001, &a, &b, &c, &d) && (c & (1U << 2)) != 0;
  if (!vmx && !svm)
    return FALSE;
  banger_autofd int fd = open ("/dev/kvm", O_RDWR | O_CLOEXEC);
  return fd >= 0 && ioctl (fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION;
}

typedef struct {
  guint64 ticks;
  gint64 nsec;
} TscReading;

static TscReading mark;

static TscReading
read_tsc (void)
{
  struct timespec now;
  clock_gettime (CLOCK_MONOTONIC_RAW, &now);
  return (TscReading){ .ticks = __rdtsc (), .nsec = now.tv_sec * G_GINT64_CONSTANT (1000000000) + now.tv_nsec };
}

void
banger_host_tsc_mark (void)
{
  mark = read_tsc ();
}

guint
banger_host_tsc_khz (void)
{
  if (mark.nsec == 0)
    banger_host_tsc_mark ();
  TscReading now = read_tsc ();
  if (now.nsec - mark.nsec < TSC_MIN_NSEC) {
    g_usleep ((gulong)((TSC_MIN_NSEC - (now.nsec - mark.nsec)) / 1000 + 1));
    now = read_tsc ();
  }
  return (guint)((double)(now.ticks - mark.ticks) * 1e6 / (double)(now.nsec - mark.nsec));
}

static struct {
  char *name;
  int fd;
} given_tap = { NULL, -1 };

gboolean
banger_host_set_tap (const char *text, GError **error)
{
  guint64 fd = 0;
  const char *colon = strrchr (text, ':');
  if (!colon || !g_ascii_string_to_unsigned (colon + 1, 10, 3, G_MAXINT, &fd, NULL)
      || fcntl ((int)fd, F_SETFD, FD_CLOEXEC) < 0)
  {
    g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST, "--tap %s is not NAME:DESCRIPTOR", text);
    return FALSE;
  }
  g_free (given_tap.name);
  given_tap.name = g_strndup (text, (gsize)(colon - text));
  given_tap.fd = (int)fd;
  return TRUE;
}

int
banger_host_open_tap (const char *name, GError **error)
{
  if (g_strcmp0 (name, given_tap.name) == 0) {
    int copy = fcntl (given_tap.fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
      g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "Open tap device failed: %s", g_strerror (errno));
    return copy;
  }
  struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
  g_strlcpy (request.ifr_name, name, sizeof request.ifr_name);
  banger_autofd int fd = open ("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || ioctl (fd, TUNSETIFF, &request) < 0) {
    g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST,
                 "Network config error: Open tap device failed: %s of %s: %s. Invalid TUN/TAP Backend provided by %s.",
                 fd < 0 ? "opening /dev/net/tun" : "TUNSETIFF", name, g_strerror (errno), name);
    return -1;
  }
  return banger_steal_fd (&fd);
}
