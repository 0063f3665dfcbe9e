/* What a session shall run, as the host wrote it.
 * Never touches the system. */
#pragma once

#include <stddef.h>

#define GUEST_MAX_REQUEST (8 << 20) /* execve(2) takes 6 MiB at most */
#define GUEST_MAX_WINDOW 65535

typedef struct {
  char **arguments, **environment; /* NULL-ended, in the text; the second NAME=VALUE */
  const char *cwd, *user;          /* NULL: the user's home; root */
  int terminal;
  unsigned rows, columns; /* of it; 0: unknown */
} GuestRun;

/**
 * guest_run_parse:
 * @text: @length bytes, "KEY=VALUE" each ended by a NUL: arg (once for each word), env (likewise), cwd, user, terminal
 * ("ROWSxCOLUMNS"). It is changed, and must outlive @ret. @ret_problem: (transfer none): on failure, which.
 * Returns: 0; -1.
 */
int guest_run_parse (char *text, size_t length, GuestRun *ret, const char **ret_problem);
void guest_run_clear (GuestRun *run);

/** guest_window_parse: "ROWSxCOLUMNS". Returns: 0; -1. */
int guest_window_parse (const char *text, unsigned *ret_rows, unsigned *ret_columns);

typedef enum { GUEST_ORDER_NONE, GUEST_ORDER_SIGNAL, GUEST_ORDER_RESIZE } GuestOrderKind;

typedef struct {
  GuestOrderKind kind;
  int number; /* of the signal, 1 to 64 */
  unsigned rows, columns;
} GuestOrder;

/** guest_order_parse: a line of the host's to a running session. What is not understood is %GUEST_ORDER_NONE. */
GuestOrder guest_order_parse (const char *line);
