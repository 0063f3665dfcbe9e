/* Memory and load from /proc.
 * Never waits. */
#include "guest/usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/file.h"

#define MAX_TEXT (64 << 10)

static int
find (const char *meminfo, const char *name, unsigned long long *ret)
{
  const char *at = strstr (meminfo, name);
  return at && (at == meminfo || at[-1] == '\n') && sscanf (at + strlen (name), " %llu kB", ret) == 1 ? 0 : -1;
}

int
guest_usage_format (const char *meminfo, const char *loadavg, char *text, size_t size)
{
  unsigned long long total, available;
  unsigned whole[3], part[3];
  if (find (meminfo, "MemTotal:", &total) < 0 || find (meminfo, "MemAvailable:", &available) < 0
      || sscanf (loadavg, "%u.%2u %u.%2u %u.%2u", &whole[0], &part[0], &whole[1], &part[1], &whole[2], &part[2]) != 6)
    return -1;
  for (int i = 0; i < 3; i++)
    whole[i] = whole[i] * 100 + part[i];
  int n = snprintf (text, size, "%llu %llu %u %u %u", total, available, whole[0], whole[1], whole[2]);
  return n > 0 && (size_t)n < size ? 0 : -1;
}

int
guest_usage (char *text, size_t size)
{
  char *meminfo = guest_read_file ("/proc/meminfo", MAX_TEXT), *loadavg = guest_read_file ("/proc/loadavg", MAX_TEXT);
  int r = meminfo && loadavg ? guest_usage_format (meminfo, loadavg, text, size) : -1;
  free (meminfo);
  free (loadavg);
  return r;
}
