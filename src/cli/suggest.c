/* "Did you mean": the nearest of some words.
 * Never suggests a word that differs in more than a third of its letters. */
#include "cli/command.h"

#include <string.h>

/* Edit distance with swaps of neighbours (Damerau-Levenshtein, optimal string alignment). */
static guint
edit_distance (const char *a, const char *b)
{
  gsize rows = strlen (a) + 1, columns = strlen (b) + 1;
  g_autofree guint *d = g_new0 (guint, rows * columns);
  for (gsize i = 0; i < rows; i++)
    d[i * columns] = (guint)i;
  for (gsize j = 0; j < columns; j++)
    d[j] = (guint)j;

  for (gsize i = 1; i < rows; i++)
    for (gsize j = 1; j < columns; j++) {
      guint cost = a[i - 1] == b[j - 1] ? 0 : 1;
      guint best = MIN (d[(i - 1) * columns + j], d[i * columns + j - 1]) + 1;
      best = MIN (best, d[(i - 1) * columns + j - 1] + cost);
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        best = MIN (best, d[(i - 2) * columns + j - 2] + 1);
      d[i * columns + j] = best;
    }
  return d[rows * columns - 1];
}

const char *
banger_suggest (const char *word, const char *const *choices)
{
  const char *best = NULL;
  guint best_distance = G_MAXUINT;
  if (strlen (word) > 64)
    return NULL;
  for (; *choices; choices++) {
    guint distance = edit_distance (word, *choices);
    if (distance < best_distance && distance * 3 <= MAX (strlen (word), 3)) {
      best = *choices;
      best_distance = distance;
    }
  }
  return best;
}
