/* What a program that was taken over says to the manager: frames, cut anyhow, and fstab(5) of strangers.
 * Run as replay.c says.
 * Never starts the program. */
#include <glib.h>
#include <string.h>

#include "fuzz.h"
#include "intake/image.h"

static void
check_text (const char *text)
{
  g_assert_true (g_utf8_validate (text, -1, NULL));
  g_assert_cmpuint (strlen (text), <=, 4 * BANGER_INTAKE_MAX_TEXT);
  for (const char *at = text; *at != '\0'; at++)
    g_assert_false (g_ascii_iscntrl (*at));
}

static void
check_end (BangerIntakeReader *reader, gboolean good)
{
  BangerIntakeResult result;
  g_autoptr (GError) error = NULL;
  GPtrArray *warnings = banger_intake_reader_warnings (reader);
  g_assert_cmpuint (warnings->len, <=, BANGER_INTAKE_MAX_WARNINGS);
  for (guint i = 0; i < warnings->len; i++)
    check_text (warnings->pdata[i]);
  guint count = 0;
  for (guint kind = 0; kind < BANGER_N_INTAKE_SETTINGS; kind++) {
    GPtrArray *texts = banger_intake_reader_settings (reader, kind);
    count += texts->len;
    for (guint i = 0; i < texts->len; i++)
      g_assert_true (g_utf8_validate (texts->pdata[i], -1, NULL)
                     && strlen (texts->pdata[i]) <= BANGER_INTAKE_MAX_SETTING);
  }
  g_assert_cmpuint (count, <=, BANGER_INTAKE_MAX_SETTINGS);
  g_autofree char *asked = banger_intake_reader_take_asked (reader);
  g_assert_true (!asked || (*asked != '\0' && strlen (asked) <= BANGER_INTAKE_MAX_NAME));
  g_assert_true (banger_intake_reader_fraction (reader) >= 0 && banger_intake_reader_fraction (reader) <= 1);
  if (banger_intake_reader_finish (reader, &result, &error)) {
    g_assert_true (good && error == NULL);
    g_assert_nonnull (memchr (result.version, '\0', sizeof result.version));
    check_text (result.version);
    return;
  }
  g_assert_nonnull (error);
  check_text (error->message);
}

/* However the bytes are cut, the end is the same. */
static void
talk (const uint8_t *data, size_t size, size_t piece)
{
  g_autoptr (BangerIntakeReader) reader = banger_intake_reader_new ();
  gboolean good = TRUE;
  for (size_t at = 0; at < size; at += piece) {
    gboolean now = banger_intake_reader_feed (reader, data + at, MIN (piece, size - at));
    g_assert_true (good || !now); /* never good again */
    good = now;
  }
  check_end (reader, good);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const size_t pieces[] = { 1, 3, 4096 };
  for (size_t i = 0; i < G_N_ELEMENTS (pieces); i++)
    talk (data, size, pieces[i]);
  g_autofree char *strangers = banger_fstab_strangers ((const char *)data, size);
  g_assert_true (strangers == NULL || *strangers != '\0');
  return 0;
}
