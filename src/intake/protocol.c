/* Frames: type, length, that many bytes; in the host's byte order, as both ends are the same build.
 * Never keeps more than one frame, never believes a length. */
#include "intake/protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/log.h"

typedef enum { FRAME_PROGRESS = 1, FRAME_WARNING, FRAME_FAILED, FRAME_DONE, FRAME_SETTING, FRAME_ASK } FrameType;

typedef struct {
  guint32 type, length;
} Header;

#define MAX_PAYLOAD (sizeof (guint32) + BANGER_INTAKE_MAX_SETTING)
G_STATIC_ASSERT (BANGER_INTAKE_MAX_TEXT <= BANGER_INTAKE_MAX_SETTING);
G_STATIC_ASSERT (sizeof (BangerIntakeResult) <= MAX_PAYLOAD);

/* The program's side */

static gboolean
say (int fd, FrameType type, const void *payload, gsize length)
{
  guint8 frame[sizeof (Header) + MAX_PAYLOAD];
  const Header header = { type, (guint32)length };
  memcpy (frame, &header, sizeof header);
  memcpy (frame + sizeof header, payload, length);
  return banger_write_all (fd, frame, sizeof header + length) == 0;
}

gboolean
banger_intake_say_progress (int fd, double fraction)
{
  static guint32 said;
  guint32 permille = (guint32)(CLAMP (fraction, 0, 1) * 1000);
  if (permille <= said)
    return TRUE;
  said = permille;
  return say (fd, FRAME_PROGRESS, &permille, sizeof permille);
}

gboolean
banger_intake_say_warning (int fd, const char *text)
{
  return say (fd, FRAME_WARNING, text, MIN (strlen (text), BANGER_INTAKE_MAX_TEXT));
}

gboolean
banger_intake_say_failed (int fd, const GError *error)
{
  guint8 payload[MAX_PAYLOAD];
  const guint32 code = error->domain == BANGER_ERROR ? (guint32)error->code : (guint32)BANGER_ERROR_FAILED;
  gsize length = MIN (strlen (error->message), BANGER_INTAKE_MAX_TEXT);
  memcpy (payload, &code, sizeof code);
  memcpy (payload + sizeof code, error->message, length);
  return say (fd, FRAME_FAILED, payload, sizeof code + length);
}

gboolean
banger_intake_say_setting (int fd, BangerIntakeSetting kind, const char *text)
{
  guint8 payload[MAX_PAYLOAD];
  const guint32 number = kind;
  gsize length = MIN (strlen (text), BANGER_INTAKE_MAX_SETTING);
  memcpy (payload, &number, sizeof number);
  memcpy (payload + sizeof number, text, length);
  return say (fd, FRAME_SETTING, payload, sizeof number + length);
}

/* A file comes beside a byte, unix(7); the byte alone says that there is none. */
typedef union {
  char bytes[CMSG_SPACE (sizeof (int))];
  struct cmsghdr aligned;
} Control;

int
banger_intake_ask (int answer_fd, int socket_fd, const char *name, GError **error)
{
  char byte;
  Control control = { 0 };
  struct iovec part = { &byte, 1 };
  struct msghdr message = {
    .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control
  };
  ssize_t n = -1;
  if (strlen (name) <= BANGER_INTAKE_MAX_NAME && say (answer_fd, FRAME_ASK, name, strlen (name)))
    while ((n = recvmsg (socket_fd, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
      ;
  const struct cmsghdr *header = n == 1 ? CMSG_FIRSTHDR (&message) : NULL;
  int fd = -1;
  if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN (sizeof fd))
    memcpy (&fd, CMSG_DATA (header), sizeof fd);
  if (fd < 0)
    banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "there is no %.200s in it", name);
  return fd;
}

gboolean
banger_intake_say_done (int fd, const BangerIntakeResult *result)
{
  return say (fd, FRAME_DONE, result, sizeof *result);
}

/* The manager's side */

struct BangerIntakeReader {
  guint8 frame[sizeof (Header) + MAX_PAYLOAD]; /* the one under way */
  gsize filled;
  guint64 talked;
  gboolean broken;
  double fraction;
  GPtrArray *warnings;
  GPtrArray *settings[BANGER_N_INTAKE_SETTINGS];
  guint n_settings, n_asked;
  char *asked;     /* and not answered yet */
  GError *failure; /* the last frame was one of these two */
  gboolean done;
  BangerIntakeResult result;
};

BangerIntakeReader *
banger_intake_reader_new (void)
{
  BangerIntakeReader *reader = g_new0 (BangerIntakeReader, 1);
  reader->warnings = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    reader->settings[i] = g_ptr_array_new_with_free_func (g_free);
  return reader;
}

void
banger_intake_reader_free (BangerIntakeReader *reader)
{
  if (!reader)
    return;
  g_ptr_array_unref (reader->warnings);
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    g_ptr_array_unref (reader->settings[i]);
  g_free (reader->asked);
  g_clear_error (&reader->failure);
  g_free (reader);
}

/* Bytes of the program as a text for people; nothing of it can move a terminal. */
static char *
take_text (const guint8 *bytes, gsize length)
{
  g_autofree char *copy = g_strndup ((const char *)bytes, length); /* ends at a NUL */
  return banger_log_escape (copy, BANGER_INTAKE_MAX_TEXT);
}

static gboolean
take_progress (BangerIntakeReader *reader, const guint8 *bytes, gsize length)
{
  guint32 permille;
  if (length != sizeof permille)
    return FALSE;
  memcpy (&permille, bytes, sizeof permille);
  if (permille > 1000)
    return FALSE;
  reader->fraction = MAX (reader->fraction, permille / 1000.0);
  return TRUE;
}

static gboolean
take_warning (BangerIntakeReader *reader, const guint8 *bytes, gsize length)
{
  if (length > BANGER_INTAKE_MAX_TEXT)
    return FALSE;
  if (reader->warnings->len < BANGER_INTAKE_MAX_WARNINGS)
    g_ptr_array_add (reader->warnings, take_text (bytes, length));
  return TRUE;
}

/* Codes of what can be wrong with a source; it cannot speak of authorisation, leases or the helper. */
static gboolean
may_say (guint32 code)
{
  static const BangerError codes[] = { BANGER_ERROR_INVALID_IMAGE,   BANGER_ERROR_INVALID_KERNEL,
                                       BANGER_ERROR_INVALID_SIZE,    BANGER_ERROR_NO_SPACE,
                                       BANGER_ERROR_LIMITS_EXCEEDED, BANGER_ERROR_WRONG_STATE };
  for (guint i = 0; i < G_N_ELEMENTS (codes); i++)
    if (codes[i] == code)
      return TRUE;
  return FALSE;
}

static gboolean
take_failed (BangerIntakeReader *reader, const guint8 *bytes, gsize length)
{
  guint32 code;
  if (length < sizeof code)
    return FALSE;
  memcpy (&code, bytes, sizeof code);
  g_autofree char *text = take_text (bytes + sizeof code, length - sizeof code);
  reader->failure = g_error_new_literal (BANGER_ERROR, may_say (code) ? (int)code : (int)BANGER_ERROR_FAILED,
                                         *text != '\0' ? text : "no reason was given");
  return TRUE;
}

/* Nothing but text; what is odd in it is shown with care by whoever shows it. */
static gboolean
take_setting (BangerIntakeReader *reader, const guint8 *bytes, gsize length)
{
  guint32 kind;
  if (length < sizeof kind)
    return FALSE;
  memcpy (&kind, bytes, sizeof kind);
  const char *text = (const char *)bytes + sizeof kind;
  length -= sizeof kind;
  if (kind >= BANGER_N_INTAKE_SETTINGS || ++reader->n_settings > BANGER_INTAKE_MAX_SETTINGS
      || !g_utf8_validate (text, (gssize)length, NULL))
    return FALSE;
  g_ptr_array_add (reader->settings[kind], g_strndup (text, length));
  return TRUE;
}

static gboolean
take_ask (BangerIntakeReader *reader, const guint8 *bytes, gsize length)
{
  if (reader->asked || length == 0 || length > BANGER_INTAKE_MAX_NAME || ++reader->n_asked > BANGER_INTAKE_MAX_ASKED
      || memchr (bytes, '\0', length))
    return FALSE;
  reader->asked = g_strndup ((const char *)bytes, length);
  return TRUE;
}

static gboolean
digest_ok (const char digest[BANGER_INTAKE_DIGEST_BYTES])
{
  static const char prefix[] = "sha256:";
  gsize length = strnlen (digest, BANGER_INTAKE_DIGEST_BYTES);
  return length == 0
         || (length == BANGER_INTAKE_DIGEST_BYTES - 1 && g_str_has_prefix (digest, prefix)
             && strspn (digest + strlen (prefix), "0123456789abcdef") == length - strlen (prefix));
}

static gboolean
version_ok (const char version[BANGER_INTAKE_MAX_VERSION])
{
  gsize length = strnlen (version, BANGER_INTAKE_MAX_VERSION);
  return length < BANGER_INTAKE_MAX_VERSION
         && strspn (version, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "._+~-") == length;
}

static gboolean
take_done (BangerIntakeReader *reader, const guint8 *bytes, gsize length)
{
  if (length != sizeof reader->result)
    return FALSE;
  memcpy (&reader->result, bytes, length);
  reader->done = version_ok (reader->result.version) && digest_ok (reader->result.digest);
  return reader->done;
}

static gboolean
take_frame (BangerIntakeReader *reader, const Header *header)
{
  static gboolean (*const takers[]) (BangerIntakeReader *, const guint8 *, gsize) = {
    [FRAME_PROGRESS] = take_progress, [FRAME_WARNING] = take_warning, [FRAME_FAILED] = take_failed,
    [FRAME_DONE] = take_done,         [FRAME_SETTING] = take_setting, [FRAME_ASK] = take_ask,
  };
  return takers[header->type](reader, reader->frame + sizeof *header, header->length);
}

/* Fills the frame up to @wanted bytes. Returns: whether it has them. */
static gboolean
fill (BangerIntakeReader *reader, gsize wanted, const guint8 **bytes, gsize *length)
{
  gsize part = MIN (wanted - reader->filled, *length);
  memcpy (reader->frame + reader->filled, *bytes, part);
  reader->filled += part;
  *bytes += part;
  *length -= part;
  return reader->filled == wanted;
}

static gboolean
feed (BangerIntakeReader *reader, const guint8 *bytes, gsize length)
{
  Header header;
  reader->talked += length;
  if (reader->talked > BANGER_INTAKE_MAX_TALK)
    return FALSE;
  while (length > 0) {
    if (reader->done || reader->failure)
      return FALSE;
    if (reader->filled < sizeof header && !fill (reader, sizeof header, &bytes, &length))
      return TRUE;
    memcpy (&header, reader->frame, sizeof header);
    if (header.type < FRAME_PROGRESS || header.type > FRAME_ASK || header.length > MAX_PAYLOAD)
      return FALSE;
    if (!fill (reader, sizeof header + header.length, &bytes, &length))
      return TRUE;
    reader->filled = 0;
    if (!take_frame (reader, &header))
      return FALSE;
  }
  return TRUE;
}

gboolean
banger_intake_reader_feed (BangerIntakeReader *reader, const void *bytes, gsize length)
{
  if (!reader->broken && !feed (reader, bytes, length))
    reader->broken = TRUE;
  return !reader->broken;
}

double
banger_intake_reader_fraction (const BangerIntakeReader *reader)
{
  return reader->fraction;
}

GPtrArray *
banger_intake_reader_warnings (BangerIntakeReader *reader)
{
  return reader->warnings;
}

GPtrArray *
banger_intake_reader_settings (BangerIntakeReader *reader, BangerIntakeSetting kind)
{
  return reader->settings[kind];
}

char *
banger_intake_reader_take_asked (BangerIntakeReader *reader)
{
  return g_steal_pointer (&reader->asked);
}

gboolean
banger_intake_reply (int socket_fd, int fd)
{
  char byte = fd >= 0;
  Control control = { 0 };
  struct iovec part = { &byte, 1 };
  struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
  if (fd >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control;
    struct cmsghdr *header = CMSG_FIRSTHDR (&message);
    *header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN (sizeof fd) };
    memcpy (CMSG_DATA (header), &fd, sizeof fd);
  }
  ssize_t n;
  while ((n = sendmsg (socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)) < 0 && errno == EINTR)
    ;
  return n == 1;
}

gboolean
banger_intake_reader_finish (BangerIntakeReader *reader, BangerIntakeResult *ret_result, GError **error)
{
  if (!reader->broken && reader->failure) {
    g_propagate_error (error, g_steal_pointer (&reader->failure));
    return FALSE;
  }
  if (reader->broken || !reader->done)
    return banger_set_error (error, BANGER_ERROR_FAILED,
                             reader->broken ? "what it says is not of our protocol" : "it ended without an answer");
  *ret_result = reader->result;
  return TRUE;
}
