/* The parsers of request.h.
 * Never reads behind the length that it was given. */
#include "guest/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SIGNAL 64

typedef struct {
  GuestRun *run;
  size_t n_arguments, n_environment;
} Reading;

static int
take_argument (Reading *reading, char *value)
{
  reading->run->arguments[reading->n_arguments++] = value;
  return 0;
}

static int
take_environment (Reading *reading, char *value)
{
  char *equals = strchr (value, '=');
  if (!equals || equals == value)
    return -1;
  reading->run->environment[reading->n_environment++] = value;
  return 0;
}

static int
take_cwd (Reading *reading, char *value)
{
  reading->run->cwd = value;
  return value[0] != '\0' ? 0 : -1;
}

static int
take_user (Reading *reading, char *value)
{
  reading->run->user = value;
  return value[0] != '\0' ? 0 : -1;
}

static int
take_terminal (Reading *reading, char *value)
{
  reading->run->terminal = 1;
  return guest_window_parse (value, &reading->run->rows, &reading->run->columns);
}

static const struct {
  const char *key;
  int (*take) (Reading *reading, char *value);
} keys[] = {
  { "arg", take_argument }, { "env", take_environment },   { "cwd", take_cwd },
  { "user", take_user },    { "terminal", take_terminal },
};

static int
take_entry (Reading *reading, char *entry)
{
  size_t length = strcspn (entry, "=");
  for (size_t i = 0; entry[length] == '=' && i < sizeof keys / sizeof keys[0]; i++)
    if (strlen (keys[i].key) == length && memcmp (keys[i].key, entry, length) == 0)
      return keys[i].take (reading, entry + length + 1);
  return -1;
}

int
guest_run_parse (char *text, size_t length, GuestRun *ret, const char **ret_problem)
{
  Reading reading = { .run = ret };
  size_t entries = 0;
  *ret = (GuestRun){ 0 };
  *ret_problem = "the request is not of this protocol";
  if (length == 0 || text[length - 1] != '\0')
    return -1;
  for (size_t i = 0; i < length; i++)
    entries += text[i] == '\0';
  ret->arguments = calloc (entries + 1, sizeof *ret->arguments);
  ret->environment = calloc (entries + 1, sizeof *ret->environment);
  int r = ret->arguments && ret->environment ? 0 : -1;
  for (char *entry = text; r == 0 && entry < text + length; entry += strlen (entry) + 1)
    r = take_entry (&reading, entry);
  if (r == 0 && reading.n_arguments > 0 && ret->arguments[0][0] != '\0')
    return 0;
  if (r == 0)
    *ret_problem = "there is no command";
  guest_run_clear (ret);
  return -1;
}

void
guest_run_clear (GuestRun *run)
{
  free (run->arguments);
  free (run->environment);
  *run = (GuestRun){ 0 };
}

int
guest_window_parse (const char *text, unsigned *ret_rows, unsigned *ret_columns)
{
  int end = 0;
  unsigned rows, columns;
  if (sscanf (text, "%5ux%5u%n", &rows, &columns, &end) != 2 || text[end] != '\0' || text[0] < '0' || text[0] > '9'
      || rows > GUEST_MAX_WINDOW || columns > GUEST_MAX_WINDOW)
    return -1;
  *ret_rows = rows;
  *ret_columns = columns;
  return 0;
}

GuestOrder
guest_order_parse (const char *line)
{
  static const char number[] = "signal ", window[] = "resize ";
  GuestOrder order = { 0 };
  int end = 0;
  if (strncmp (line, number, sizeof number - 1) == 0 && line[sizeof number - 1] >= '1' && line[sizeof number - 1] <= '9'
      && sscanf (line + sizeof number - 1, "%3d%n", &order.number, &end) == 1 && line[sizeof number - 1 + end] == '\0'
      && order.number <= MAX_SIGNAL)
    order.kind = GUEST_ORDER_SIGNAL;
  else if (strncmp (line, window, sizeof window - 1) == 0
           && guest_window_parse (line + sizeof window - 1, &order.rows, &order.columns) == 0)
    order.kind = GUEST_ORDER_RESIZE;
  return order;
}
