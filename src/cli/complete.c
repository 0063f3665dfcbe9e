/* Candidates for the word under the cursor, from the command table and the manager's names.
 * Called by main for `banger __complete`.
 * Never fails: what cannot be known is left out. */
#include "cli/complete.h"

#include <glib/gi18n.h>
#include <string.h>

#include "cli/command.h"
#include "cli/objects.h"

#define ANSWER_USEC (1 * G_USEC_PER_SEC)

typedef struct {
  GString *out;
  const char *prefix; /* what is typed of the word */
  const char *before; /* "--image=" for a value behind =, else "" */
} Candidates;

static void
add (Candidates *candidates, const char *word, const char *summary)
{
  if (g_str_has_prefix (word, candidates->prefix))
    g_string_append_printf (candidates->out, "%s%s\t%s\n", candidates->before, word, summary);
}

static gboolean
state_fits (JsonObject *object, BangerComplete source)
{
  gboolean stopped = strcmp (banger_property_string (object, "State"), "stopped") == 0;
  if (source == BANGER_COMPLETE_RUNNING_VMS)
    return !stopped;
  return source != BANGER_COMPLETE_STOPPED_VMS || stopped;
}

static void
add_objects (Candidates *candidates, const BangerKind *kind, BangerComplete source)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, NULL);
  if (client == NULL)
    return;
  banger_client_set_brief (client, ANSWER_USEC);
  g_autoptr (GPtrArray) objects = banger_objects_list (client, kind, NULL);
  for (guint i = 0; objects != NULL && i < objects->len; i++) {
    JsonObject *object = g_ptr_array_index (objects, i);
    if (state_fits (object, source))
      add (candidates, banger_property_string (object, "Name"), banger_property_string (object, "State"));
  }
}

static void
add_shells (Candidates *candidates)
{
  for (const char *const *shell = banger_completion_shells (); *shell != NULL; shell++)
    add (candidates, *shell, "");
}

/* Words that may follow @done ("" or "vm"). */
static void
add_commands (Candidates *candidates, const char *done)
{
  const BangerGroup *group = banger_group_find (done);
  for (const BangerGroup *row = banger_groups; done[0] == '\0' && row->word != NULL; row++)
    if (row->word[0] != '\0')
      add (candidates, row->word, _ (row->summary));
  for (const BangerCommand *command = banger_commands; group != NULL && command->words != NULL; command++)
    if (banger_command_in_group (command, group))
      add (candidates, done[0] == '\0' ? command->words : strchr (command->words, ' ') + 1, _ (command->summary));
}

static void
add_values (Candidates *candidates, BangerComplete source)
{
  switch (source) {
    case BANGER_COMPLETE_NOTHING:
      break;
    case BANGER_COMPLETE_FILES:
      g_string_append (candidates->out, ":files\n");
      break;
    case BANGER_COMPLETE_DIRECTORIES:
      g_string_append (candidates->out, ":directories\n");
      break;
    case BANGER_COMPLETE_VMS:
    case BANGER_COMPLETE_RUNNING_VMS:
    case BANGER_COMPLETE_STOPPED_VMS:
      add_objects (candidates, &banger_kind_vm, source);
      break;
    case BANGER_COMPLETE_IMAGES:
      add_objects (candidates, &banger_kind_image, source);
      break;
    case BANGER_COMPLETE_KERNELS:
      add_objects (candidates, &banger_kind_kernel, source);
      break;
    case BANGER_COMPLETE_SHELLS:
      add_shells (candidates);
      break;
    case BANGER_COMPLETE_COMMANDS:
      add_commands (candidates, "");
      break;
  }
}

static void
add_options (Candidates *candidates, const BangerCommand *command)
{
  for (const BangerCliOption *option = command->options; option != NULL && option->name != NULL; option++) {
    g_autofree char *word = g_strconcat ("--", option->name, NULL);
    add (candidates, word, _ (option->summary));
  }
  add (candidates, "--help", _ ("print this help"));
}

static const BangerCliArgument *
argument_at (const BangerCommand *command, guint index)
{
  const BangerCliArgument *row = command->arguments;
  for (; row != NULL && row->name != NULL; row++, index--)
    if (index == 0 || (row->flags & BANGER_ARGUMENT_REPEATED) != 0)
      return row;
  return NULL;
}

/* Where the cursor stands behind a command's words. */
typedef struct {
  const BangerCliOption *option; /* whose value is being typed */
  guint arguments;               /* positional ones before the cursor */
  gboolean tail;                 /* behind -- */
} Position;

static Position
find_position (const BangerCommand *command, const char *const *words)
{
  Position at = { 0 };
  for (; words[1] != NULL && !at.tail; words++) {
    const char *word = *words;
    if (at.option != NULL)
      at.option = NULL;
    else if (strcmp (word, "--") == 0)
      at.tail = TRUE;
    else if (g_str_has_prefix (word, "--")) {
      at.option = banger_command_find_option (command, word + 2, strlen (word + 2));
      if (at.option != NULL && at.option->type == BANGER_CLI_FLAG)
        at.option = NULL;
    } else if (word[0] != '-' || word[1] == '\0')
      at.arguments++;
  }
  return at;
}

static void
complete_command (Candidates *candidates, const BangerCommand *command, const char *const *words)
{
  Position at = find_position (command, words);
  const char *last = words[g_strv_length ((char **)words) - 1], *equals = strchr (last, '=');
  if (at.tail) {
    if (command->tail != BANGER_TAIL_NONE)
      g_string_append (candidates->out, ":files\n");
  } else if (at.option != NULL) {
    add_values (candidates, at.option->complete);
  } else if (g_str_has_prefix (last, "--") && equals != NULL) {
    const BangerCliOption *option = banger_command_find_option (command, last + 2, (gsize)(equals - last) - 2);
    g_autofree char *before = g_strndup (last, (gsize)(equals - last) + 1);
    candidates->before = before;
    candidates->prefix = equals + 1;
    if (option != NULL)
      add_values (candidates, option->complete);
    candidates->before = "";
  } else if (last[0] == '-') {
    add_options (candidates, command);
  } else {
    const BangerCliArgument *argument = argument_at (command, at.arguments);
    if (argument != NULL)
      add_values (candidates, argument->complete);
  }
}

char *
banger_complete (const char *const *words)
{
  guint count = g_strv_length ((char **)words);
  GString *out = g_string_new (NULL);
  Candidates candidates = { out, count > 0 ? words[count - 1] : "", "" };
  if (count <= 1) {
    add_commands (&candidates, "");
    return g_string_free (out, FALSE);
  }
  const BangerGroup *group = words[0][0] != '\0' ? banger_group_find (words[0]) : NULL;
  if (group != NULL && count == 2) {
    add_commands (&candidates, words[0]);
    return g_string_free (out, FALSE);
  }
  g_autofree char *name = group != NULL ? g_strdup_printf ("%s %s", words[0], words[1]) : g_strdup (words[0]);
  const BangerCommand *command = banger_command_find (name);
  if (command != NULL)
    complete_command (&candidates, command, words + (group != NULL ? 2 : 1));
  return g_string_free (out, FALSE);
}
