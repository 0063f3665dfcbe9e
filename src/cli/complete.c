/* Candidates for the word under the cursor, from the command table and the manager's names.
 * Never fails: what cannot be known is left out. */
#include "cli/complete.h"

#include <glib/gi18n.h>
#include <string.h>

#include "cli/available.h"
#include "cli/objects.h"

#define ANSWER_USEC (1 * G_USEC_PER_SEC)

typedef struct {
  const BangerCommandTable *table;
  GString *out;
  const char *prefix; /* what is typed of the word */
  const char *before; /* "--image=" for a value behind =, else "" */
  const char *after;  /* ":" of a VM before a path, else "" */
} Candidates;

static void
add (Candidates *candidates, const char *word, const char *summary)
{
  if (g_str_has_prefix (word, candidates->prefix))
    g_string_append_printf (candidates->out, "%s%s%s\t%s\n", candidates->before, word, candidates->after, summary);
}

static gboolean
state_fits (JsonObject *object, BangerComplete source)
{
  const char *state = banger_property_string (object, "State");
  gboolean stopped = strcmp (state, "stopped") == 0 || strcmp (state, "suspended") == 0;
  if (source == BANGER_COMPLETE_PAUSED_VMS)
    return strcmp (state, "paused") == 0;
  if (source == BANGER_COMPLETE_RUNNING_VMS)
    return !stopped;
  return source != BANGER_COMPLETE_STOPPED_VMS || stopped;
}

static void
add_objects (Candidates *candidates, const BangerKind *kind, BangerComplete source)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, NULL);
  if (!client)
    return;
  banger_client_set_brief (client, ANSWER_USEC);
  g_autoptr (GPtrArray) objects = banger_objects_list (client, kind, NULL);
  for (guint i = 0; objects && i < objects->len; i++) {
    JsonObject *object = g_ptr_array_index (objects, i);
    if (!state_fits (object, source))
      continue;
    add (candidates, banger_property_string (object, "Name"), banger_property_string (object, "State"));
    JsonArray *tags = json_object_has_member (object, "Tags") ? json_object_get_array_member (object, "Tags") : NULL;
    for (guint j = 0; tags && j < json_array_get_length (tags); j++)
      add (candidates, json_array_get_string_element (tags, j), banger_property_string (object, "State"));
  }
}

/* Those of @vm, which stands before. */
static void
add_snapshots (Candidates *candidates, const char *vm)
{
  g_autofree char *path = NULL;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, NULL);
  if (!client)
    return;
  banger_client_set_brief (client, ANSWER_USEC);
  g_autoptr (JsonObject) found = banger_objects_get (client, &banger_kind_vm, vm, &path, NULL);
  g_autoptr (GPtrArray) objects = found ? banger_objects_list (client, &banger_kind_snapshot, NULL) : NULL;
  for (guint i = 0; objects && i < objects->len; i++)
    if (strcmp (banger_property_string (objects->pdata[i], "VM"), path) == 0)
      add (candidates, banger_property_string (objects->pdata[i], "Name"), "");
}

static void
add_available (const BangerAvailable *entry, gpointer data)
{
  add (data, entry->name, entry->summary);
}

static void
add_catalogs (Candidates *candidates, const char *member, const BangerKind *kind, BangerComplete local)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, NULL);
  if (!client)
    return;
  banger_client_set_brief (client, ANSWER_USEC);
  g_autoptr (sd_bus_message) reply = banger_available_each (client, member, ANSWER_USEC, add_available, candidates,
                                                            NULL);
  if (!reply)
    add_objects (candidates, kind, local);
}

/* One side of a copy: what is behind the colon the guest knows, which is not asked. */
static void
add_copies (Candidates *candidates)
{
  if (strchr (candidates->prefix, ':'))
    return;
  candidates->after = ":";
  add_objects (candidates, &banger_kind_vm, BANGER_COMPLETE_RUNNING_VMS);
  candidates->after = "";
  g_string_append (candidates->out, ":files\n");
}

static void
add_shells (Candidates *candidates)
{
  for (const char *const *shell = banger_completion_shells (); *shell; shell++)
    add (candidates, *shell, "");
}

static void
add_words (Candidates *candidates, const char *const *words)
{
  for (; *words; words++)
    add (candidates, *words, "");
}

/* Those that the root helper lets through. */
static const char *const signals[] = { "ABRT", "HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2", NULL };
/* As the manager writes images. */
static const char *const formats[] = { "tar", "ext4", "oci", NULL };

/* Words that may follow @done ("vm workspace"), each once. */
static gboolean
add_last_words (Candidates *candidates, const char *done)
{
  g_autofree char *start = g_strconcat (done, " ", NULL);
  gboolean found = FALSE;
  for (const BangerCommand *command = candidates->table->commands; command->words; command++)
    if (g_str_has_prefix (command->words, start)) {
      add (candidates, command->words + strlen (start), _ (command->summary));
      found = TRUE;
    }
  return found;
}

/* Words that may follow @done ("" or "vm"). */
static void
add_commands (Candidates *candidates, const char *done)
{
  const BangerCommandTable *table = candidates->table;
  const BangerGroup *group = banger_group_find (table, done);
  for (const BangerGroup *row = table->groups; done[0] == '\0' && row->word; row++)
    if (row->word[0] != '\0')
      add (candidates, row->word, _ (row->summary));
  const char *last = "";
  for (const BangerCommand *command = table->commands; group && command->words; command++) {
    if (!banger_command_in_group (command, group))
      continue;
    const char *word = done[0] == '\0' ? command->words : strchr (command->words, ' ') + 1;
    g_autofree char *first = g_strndup (word, strcspn (word, " "));
    gboolean again = word[strlen (first)] == ' ' && g_str_has_prefix (last, first) && last[strlen (first)] == ' ';
    if (!again)
      add (candidates, first, _ (command->summary));
    last = word;
  }
}

static void
add_values (Candidates *candidates, BangerComplete source, const char *before)
{
  switch (source) {
    case BANGER_COMPLETE_NOTHING:
    case BANGER_COMPLETE_GUEST_FILES:
      break;
    case BANGER_COMPLETE_FILES:
      g_string_append (candidates->out, ":files\n");
      break;
    case BANGER_COMPLETE_DIRECTORIES:
      g_string_append (candidates->out, ":directories\n");
      break;
    case BANGER_COMPLETE_COPIES:
      add_copies (candidates);
      break;
    case BANGER_COMPLETE_VMS:
    case BANGER_COMPLETE_RUNNING_VMS:
    case BANGER_COMPLETE_PAUSED_VMS:
    case BANGER_COMPLETE_STOPPED_VMS:
      add_objects (candidates, &banger_kind_vm, source);
      break;
    case BANGER_COMPLETE_SNAPSHOTS:
      add_snapshots (candidates, before);
      break;
    case BANGER_COMPLETE_IMAGES:
      add_objects (candidates, &banger_kind_image, source);
      break;
    case BANGER_COMPLETE_KERNELS:
      add_objects (candidates, &banger_kind_kernel, source);
      break;
    case BANGER_COMPLETE_AVAILABLE_IMAGES:
      add_catalogs (candidates, "ListAvailableImages", &banger_kind_image, BANGER_COMPLETE_IMAGES);
      break;
    case BANGER_COMPLETE_AVAILABLE_KERNELS:
      add_catalogs (candidates, "ListAvailableKernels", &banger_kind_kernel, BANGER_COMPLETE_KERNELS);
      break;
    case BANGER_COMPLETE_SHELLS:
      add_shells (candidates);
      break;
    case BANGER_COMPLETE_SIGNALS:
      add_words (candidates, signals);
      break;
    case BANGER_COMPLETE_FORMATS:
      add_words (candidates, formats);
      break;
    case BANGER_COMPLETE_COMMANDS:
      add_commands (candidates, before);
      break;
  }
}

static void
add_options (Candidates *candidates, const BangerCommand *command)
{
  for (const BangerCliOption *option = command->options; option && option->name; option++) {
    g_autofree char *word = g_strconcat ("--", option->name, NULL);
    add (candidates, word, _ (option->summary));
  }
  add (candidates, "--help", _ ("print this help"));
}

static const BangerCliArgument *
argument_at (const BangerCommand *command, guint index)
{
  const BangerCliArgument *row = command->arguments;
  for (; row && row->name; row++, index--)
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
  for (; words[1] && !at.tail; words++) {
    const char *word = *words;
    if (at.option)
      at.option = NULL;
    else if (strcmp (word, "--") == 0)
      at.tail = TRUE;
    else if (g_str_has_prefix (word, "--")) {
      at.option = banger_command_find_option (command, word + 2, strlen (word + 2));
      if (at.option && at.option->type == BANGER_CLI_FLAG)
        at.option = NULL;
    } else if (word[0] != '-' || word[1] == '\0')
      at.arguments++;
    else if (word[2] == '\0') {
      at.option = banger_command_find_letter (command, word[1]);
      if (at.option && at.option->type == BANGER_CLI_FLAG)
        at.option = NULL;
    }
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
  } else if (at.option) {
    add_values (candidates, at.option->complete, "");
  } else if (g_str_has_prefix (last, "--") && equals) {
    const BangerCliOption *option = banger_command_find_option (command, last + 2, (gsize)(equals - last) - 2);
    g_autofree char *before = g_strndup (last, (gsize)(equals - last) + 1);
    candidates->before = before;
    candidates->prefix = equals + 1;
    if (option)
      add_values (candidates, option->complete, "");
    candidates->before = "";
  } else if (last[0] == '-') {
    add_options (candidates, command);
  } else {
    const BangerCliArgument *argument = argument_at (command, at.arguments);
    if (argument) /* behind a group's word its commands, behind a command's nothing */
      add_values (candidates, argument->complete, at.arguments > 0 ? words[at.arguments - 1] : "");
  }
}

char *
banger_complete (const BangerCommandTable *table, const char *const *words)
{
  guint count = g_strv_length ((char **)words);
  GString *out = g_string_new (NULL);
  Candidates candidates = { table, out, count > 0 ? words[count - 1] : "", "", "" };
  if (count <= 1) {
    add_commands (&candidates, "");
    return g_string_free (out, FALSE);
  }
  const BangerGroup *group = words[0][0] != '\0' ? banger_group_find (table, words[0]) : NULL;
  if (group && count == 2) {
    add_commands (&candidates, words[0]);
    return g_string_free (out, FALSE);
  }
  g_autofree char *name = group ? g_strdup_printf ("%s %s", words[0], words[1]) : g_strdup (words[0]);
  const BangerCommand *command = banger_command_find (table, name);
  guint used = group ? 2 : 1;
  if (!command && group && count == 3 && add_last_words (&candidates, name))
    return g_string_free (out, FALSE);
  if (!command && group && count > 3) {
    g_autofree char *longer = g_strdup_printf ("%s %s", name, words[2]);
    command = banger_command_find (table, longer);
    used = 3;
  }
  if (command)
    complete_command (&candidates, command, words + used);
  return g_string_free (out, FALSE);
}
