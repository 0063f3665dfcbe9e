/* Firecracker's jailer's command line, checked strictly.
 * Never touches the file system. */
#include "jailer/args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID_MAX 64
#define NO_FILE_DEFAULT 2048

typedef bool (*Take) (BangerJailerArgs *args, const char *value, char *message);

static bool refuse (char *message, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

static bool
refuse (char *message, const char *format, ...)
{
  va_list list;
  va_start (list, format);
  vsnprintf (message, BANGER_JAILER_MAX_MESSAGE, format, list);
  va_end (list);
  return false;
}

/* Decimal digits only: no sign, no space, no leading zero but "0" itself. */
static bool
parse_number (const char *text, uint64_t most, uint64_t *ret)
{
  if (*text == '\0' || text[strspn (text, "0123456789")] != '\0' || (text[0] == '0' && text[1] != '\0'))
    return false;
  errno = 0;
  unsigned long long value = strtoull (text, NULL, 10);
  if (errno != 0 || value > most)
    return false;
  *ret = value;
  return true;
}

static bool
take_id (BangerJailerArgs *args, const char *value, char *message)
{
  static const char allowed[] = "-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  size_t length = strlen (value);
  if (length < 1 || length > ID_MAX)
    return refuse (message, "Invalid instance ID: Invalid len (%zu);  the length must be between 1 and %d", length,
                   ID_MAX);
  size_t good = strspn (value, allowed);
  if (good != length)
    return refuse (message, "Invalid instance ID: Invalid char (%c) at position %zu", value[good], good);
  args->id = value;
  return true;
}

static bool
take_exec_file (BangerJailerArgs *args, const char *value, char *message)
{
  args->exec_file = value;
  return *value != '\0' || refuse (message, "--exec-file is empty");
}

static bool
take_uid (BangerJailerArgs *args, const char *value, char *message)
{
  uint64_t number;
  if (!parse_number (value, UINT32_MAX - 1, &number))
    return refuse (message, "Invalid uid: %s", value);
  if (number == 0)
    return refuse (message, "Invalid uid: 0: a VMM never runs as root, give the uid of its owner");
  args->uid = (uid_t)number;
  return true;
}

static bool
take_gid (BangerJailerArgs *args, const char *value, char *message)
{
  uint64_t number;
  if (!parse_number (value, UINT32_MAX - 1, &number))
    return refuse (message, "Invalid gid: %s", value);
  if (number == 0)
    return refuse (message, "Invalid gid: 0: a VMM never runs in root's group, give the gid of its owner");
  args->gid = (gid_t)number;
  return true;
}

static bool
take_base (BangerJailerArgs *args, const char *value, char *message)
{
  args->chroot_base = value;
  return *value != '\0' || refuse (message, "--chroot-base-dir is empty");
}

static bool
take_netns (BangerJailerArgs *args, const char *value, char *message)
{
  args->netns = value;
  return *value != '\0' || refuse (message, "--netns is empty");
}

/* Relative, without "." and ".." components. */
static bool
clean_path (const char *path, size_t length)
{
  if (length == 0 || path[0] == '/')
    return false;
  for (size_t start = 0; start <= length;) {
    size_t end = start;
    while (end < length && path[end] != '/')
      end++;
    size_t n = end - start;
    if (n == 0 || (n == 1 && path[start] == '.') || (n == 2 && path[start] == '.' && path[start + 1] == '.'))
      return false;
    start = end + 1;
  }
  return true;
}

static bool
take_parent (BangerJailerArgs *args, const char *value, char *message)
{
  args->parent_cgroup = value;
  return clean_path (value, strlen (value))
         || refuse (message, "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.': %s",
                    value);
}

static bool
take_cgroup (BangerJailerArgs *args, const char *value, char *message)
{
  const char *equals = strchr (value, '=');
  if (!equals || equals[1] == '\0' || strchr (equals + 1, '='))
    return refuse (message, "Invalid format for cgroups: %s", value);
  size_t length = (size_t)(equals - value);
  const char *dot = memchr (value, '.', length);
  if (!dot || dot == value || memchr (value, '/', length) || length > 255)
    return refuse (message, "Cgroup invalid file: %s", value);
  if (args->n_cgroup == BANGER_JAILER_MAX_CGROUP_FILES)
    return refuse (message, "More than %d --cgroup options", BANGER_JAILER_MAX_CGROUP_FILES);
  args->cgroup[args->n_cgroup++] = (BangerJailerCgroupFile){ .file = value,
                                                             .value = equals + 1,
                                                             .file_length = length };
  return true;
}

static bool
take_cgroup_version (BangerJailerArgs *args, const char *value, char *message)
{
  if (strcmp (value, "1") != 0 && strcmp (value, "2") != 0)
    return refuse (message, "%s is an invalid cgroup version specifier", value);
  args->cgroup_version = value[0] - '0';
  return true;
}

static bool
take_limit (BangerJailerArgs *args, const char *value, char *message)
{
  const char *equals = strchr (value, '=');
  if (!equals)
    return refuse (message, "Invalid format for resources limits: %s", value);
  uint64_t number;
  if (!parse_number (equals + 1, UINT64_MAX - 1, &number))
    return refuse (message, "Invalid limit value for resource: %s", value);
  size_t length = (size_t)(equals - value);
  if (length == strlen ("fsize") && strncmp (value, "fsize", length) == 0) {
    args->fsize = number;
    args->has_fsize = true;
  } else if (length == strlen ("no-file") && strncmp (value, "no-file", length) == 0) {
    args->no_file = number;
    args->has_no_file = true;
  } else {
    return refuse (message, "Invalid resource argument: %s", value);
  }
  return true;
}

static bool
take_keep_fd (BangerJailerArgs *args, const char *value, char *message)
{
  uint64_t number;
  if (!parse_number (value, INT32_MAX, &number) || number < 3)
    return refuse (message, "Invalid descriptor to keep: %s", value);
  args->keep_fd = (int)number;
  return true;
}

static bool
take_daemonize (BangerJailerArgs *args, const char *value, char *message)
{
  args->daemonize = true;
  return true;
}

static bool
take_new_pid_ns (BangerJailerArgs *args, const char *value, char *message)
{
  args->new_pid_ns = true;
  return true;
}

static bool
take_help (BangerJailerArgs *args, const char *value, char *message)
{
  args->help = true;
  return true;
}

static bool
take_version (BangerJailerArgs *args, const char *value, char *message)
{
  args->version = true;
  return true;
}

static const struct {
  const char *name;
  bool value, many, required;
  Take take;
} options[] = {
  { "--id", true, false, true, take_id },
  { "--exec-file", true, false, true, take_exec_file },
  { "--uid", true, false, true, take_uid },
  { "--gid", true, false, true, take_gid },
  { "--chroot-base-dir", true, false, false, take_base },
  { "--netns", true, false, false, take_netns },
  { "--parent-cgroup", true, false, false, take_parent },
  { "--cgroup", true, true, false, take_cgroup },
  { "--cgroup-version", true, false, false, take_cgroup_version },
  { "--resource-limit", true, true, false, take_limit },
  { "--keep-fd", true, false, false, take_keep_fd },
  { "--daemonize", false, false, false, take_daemonize },
  { "--new-pid-ns", false, false, false, take_new_pid_ns },
  { "--help", false, false, false, take_help },
  { "--version", false, false, false, take_version },
};
#define N_OPTIONS (sizeof options / sizeof options[0])

/* Both "--id x" and "--id=x". Returns: the row, with the value in @ret_value, or -1. */
static int
match (const char *arg, const char **ret_value)
{
  size_t length = strcspn (arg, "=");
  for (size_t i = 0; i < N_OPTIONS; i++)
    if (strlen (options[i].name) == length && strncmp (arg, options[i].name, length) == 0) {
      *ret_value = arg[length] == '=' ? arg + length + 1 : NULL;
      return (int)i;
    }
  return -1;
}

static bool
check_required (const BangerJailerArgs *args, const bool *seen, char *message)
{
  if (args->help || args->version)
    return true;
  for (size_t i = 0; i < N_OPTIONS; i++)
    if (options[i].required && !seen[i])
      return refuse (message, "Argument '%s' required, but not found.", options[i].name + 2);
  return true;
}

bool
banger_jailer_parse (int argc, char **argv, BangerJailerArgs *ret_args, char ret_message[BANGER_JAILER_MAX_MESSAGE])
{
  bool seen[N_OPTIONS] = { false };
  *ret_args = (BangerJailerArgs){ .chroot_base = "/srv/jailer", .cgroup_version = 1, .no_file = NO_FILE_DEFAULT };
  ret_args->vmm_args = argv + argc;
  for (int i = 1; i < argc; i++) {
    if (strcmp (argv[i], "--") == 0) {
      ret_args->vmm_args = argv + i + 1;
      break;
    }
    const char *value = NULL;
    int row = match (argv[i], &value);
    if (row < 0 || (value && !options[row].value))
      return refuse (ret_message, "Found argument '%s' which wasn't expected, or isn't valid in this context.",
                     argv[i]);
    if (seen[row] && !options[row].many)
      return refuse (ret_message, "The argument '%s' was provided more than once.", options[row].name + 2);
    seen[row] = true;
    if (options[row].value && !value) {
      if (i + 1 >= argc || strncmp (argv[i + 1], "--", 2) == 0)
        return refuse (ret_message, "The argument '%s' requires a value, but none was supplied.",
                       options[row].name + 2);
      value = argv[++i];
    }
    if (!options[row].take (ret_args, value, ret_message))
      return false;
  }
  return check_required (ret_args, seen, ret_message);
}
