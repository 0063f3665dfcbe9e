/* From argv to an invocation, by the command table alone.
 * Never guesses: what the table does not say is a usage error that names the value. */
#include <glib/gi18n.h>
#include <string.h>

#include "cli/command.h"
#include "common/log.h"
#include "common/size.h"
#include "common/validate.h"

typedef struct {
  GPtrArray *strings; /* NULL-terminated once parsing is over */
  guint64 number;
} Value;

G_DEFINE_QUARK (banger - usage - error - quark, banger_usage_error)

int
banger_usage_error (GError **error, const char *format, ...)
{
  va_list arguments;
  va_start (arguments, format);
  g_autofree char *message = g_strdup_vprintf (format, arguments);
  va_end (arguments);
  g_set_error_literal (error, BANGER_USAGE_ERROR, 0, message);
  return -1;
}

/* For functions that return whether it went well. */
#define usage_fail(...) (banger_usage_error (__VA_ARGS__), FALSE)

static void
value_free (gpointer data)
{
  Value *value = data;
  g_ptr_array_unref (value->strings);
  g_free (value);
}

void
banger_invocation_free (BangerInvocation *invocation)
{
  if (!invocation)
    return;
  g_ptr_array_unref (invocation->arguments);
  g_strfreev (invocation->tail);
  g_hash_table_unref (invocation->values);
  g_free (invocation);
}

const BangerCommand *
banger_command_find (const BangerCommandTable *table, const char *words)
{
  for (const BangerCommand *command = table->commands; command->words; command++)
    if (strcmp (command->words, words) == 0)
      return command;
  return NULL;
}

const BangerGroup *
banger_group_find (const BangerCommandTable *table, const char *word)
{
  for (const BangerGroup *group = table->groups; group->word; group++)
    if (strcmp (group->word, word) == 0)
      return group;
  return NULL;
}

const BangerGroup *
banger_subgroup_find (const BangerCommandTable *table, const char *words)
{
  for (const BangerGroup *group = table->subgroups; group->word; group++)
    if (strcmp (group->word, words) == 0)
      return group;
  return NULL;
}

gboolean
banger_command_in_group (const BangerCommand *command, const BangerGroup *group)
{
  if (strchr (group->word, ' '))
    return g_str_has_prefix (command->words, group->word) && command->words[strlen (group->word)] == ' ';
  const char *space = strchr (command->words, ' ');
  if (!space)
    return group->word[0] == '\0';
  gsize length = (gsize)(space - command->words);
  return strlen (group->word) == length && strncmp (command->words, group->word, length) == 0;
}

const BangerCliOption *
banger_command_find_option (const BangerCommand *command, const char *name, gsize length)
{
  for (const BangerCliOption *option = command->options; option && option->name; option++)
    if (strlen (option->name) == length && strncmp (option->name, name, length) == 0)
      return option;
  return NULL;
}

const BangerCliOption *
banger_command_find_letter (const BangerCommand *command, char letter)
{
  for (const BangerCliOption *option = command->options; option && option->name; option++)
    if (option->letter != 0 && option->letter == letter)
      return option;
  return NULL;
}

/* Words: what may follow @group (NULL: what may come first). */
static GPtrArray *
next_words (const BangerCommandTable *table, const BangerGroup *group)
{
  g_autoptr (GPtrArray) words = g_ptr_array_new ();
  const BangerGroup *plain = banger_group_find (table, "");
  for (const BangerCommand *command = table->commands; command->words; command++)
    if (banger_command_in_group (command, group ? group : plain))
      g_ptr_array_add (words, (gpointer)(group ? command->words + strlen (group->word) + 1 : command->words));
  for (const BangerGroup *row = table->groups; !group && row->word; row++)
    if (row->word[0] != '\0')
      g_ptr_array_add (words, (gpointer)row->word);
  g_ptr_array_add (words, NULL);
  return g_steal_pointer (&words);
}

static gboolean
unknown_command (const BangerCommandTable *table, const BangerGroup *group, const char *word, GError **error)
{
  g_autoptr (GPtrArray) words = next_words (table, group);
  const char *near = banger_suggest (word, (const char *const *)words->pdata);
  g_autofree char *typed = group ? g_strdup_printf ("%s %s", group->word, word) : g_strdup (word);
  if (!near)
    banger_usage_error (error, _ ("there is no command '%s'"), typed);
  else if (!group)
    banger_usage_error (error, _ ("there is no command '%s'; did you mean '%s'?"), typed, near);
  else
    banger_usage_error (error, _ ("there is no command '%s'; did you mean '%s %s'?"), typed, group->word, near);
  return FALSE;
}

static gboolean
is_help (const char *word)
{
  return strcmp (word, "--help") == 0 || strcmp (word, "-h") == 0;
}

static gboolean
needs_command (const BangerCommandTable *table, const BangerGroup *group, GError **error)
{
  g_autoptr (GPtrArray) words = next_words (table, group);
  g_autofree char *list = g_strjoinv (", ", (char **)words->pdata);
  return usage_fail (error, _ ("'%s' needs a command: %s"), group->word, list);
}

/* Two words, or three: "vm workspace export". */
static gboolean
parse_longer (BangerInvocation *invocation, const char *const *argv, guint *ret_used, GError **error)
{
  const BangerCommandTable *table = invocation->table;
  g_autofree char *words = g_strdup_printf ("%s %s", argv[0], argv[1]);
  invocation->command = banger_command_find (table, words);
  const BangerGroup *subgroup = banger_subgroup_find (table, words);
  if (invocation->command || !subgroup)
    return invocation->command || unknown_command (table, invocation->group, argv[1], error);
  if (!argv[2])
    return needs_command (table, subgroup, error);
  if (is_help (argv[2])) {
    invocation->group = subgroup;
    invocation->help = TRUE;
    return TRUE;
  }
  *ret_used = 3;
  g_autofree char *rest = g_strdup_printf ("%s %s", argv[1], argv[2]);
  g_autofree char *all = g_strdup_printf ("%s %s", argv[0], rest);
  invocation->command = banger_command_find (table, all);
  return invocation->command || unknown_command (table, invocation->group, rest, error);
}

/* Reads the command's words; *ret_used: how many. No command and no error: help was asked for. */
static gboolean
parse_command (BangerInvocation *invocation, const char *const *argv, guint *ret_used, GError **error)
{
  const BangerCommandTable *table = invocation->table;
  *ret_used = 1;
  if (!argv[0] || is_help (argv[0])) {
    invocation->help = TRUE;
    return TRUE;
  }
  if (strcmp (argv[0], "--version") == 0) {
    invocation->version = TRUE;
    return TRUE;
  }
  if (argv[0][0] == '-')
    return usage_fail (error, _ ("'%s' is no option of banger itself; options follow the command"), argv[0]);

  const BangerGroup *group = argv[0][0] != '\0' ? banger_group_find (table, argv[0]) : NULL;
  if (!group) {
    invocation->command = banger_command_find (table, argv[0]);
    return (invocation->command && !strchr (argv[0], ' ')) || unknown_command (table, NULL, argv[0], error);
  }
  *ret_used = 2;
  invocation->group = group;
  if (!argv[1])
    return needs_command (table, group, error);
  if (is_help (argv[1])) {
    invocation->help = TRUE;
    return TRUE;
  }
  return parse_longer (invocation, argv, ret_used, error);
}

/* How much of @text ends in a D-Bus string: names of files have any bytes, and so has what stands behind NAME: */
static gsize
text_length (BangerComplete complete, const char *text)
{
  gsize name = strcspn (text, ":/");
  switch (complete) {
    case BANGER_COMPLETE_FILES:
    case BANGER_COMPLETE_DIRECTORIES:
    case BANGER_COMPLETE_GUEST_FILES:
      return 0;
    case BANGER_COMPLETE_COPIES:
      return text[name] == ':' ? name : 0;
    default:
      return strlen (text);
  }
}

static gboolean
check_text (BangerComplete complete, const char *text, GError **error)
{
  if (g_utf8_validate (text, (gssize)text_length (complete, text), NULL))
    return TRUE;
  g_autofree char *shown = banger_log_escape (text, 80);
  return usage_fail (error, _ ("'%s' is not UTF-8 text; only the names of files may have other bytes"), shown);
}

static gboolean
check_size (const BangerCliOption *option, guint64 bytes, const char *text, GError **error)
{
  if (option->type != BANGER_CLI_SIZE || option->max == 0 || (bytes >= option->min && bytes <= option->max))
    return TRUE;
  g_autofree char *min = banger_size_format (option->min), *max = banger_size_format (option->max);
  return usage_fail (error, _ ("--%s: '%s' is not from %s to %s"), option->name, text, min, max);
}

static gboolean
set_value (BangerInvocation *invocation, const BangerCliOption *option, const char *text, GError **error)
{
  Value *value = g_hash_table_lookup (invocation->values, option->name);
  if (value && option->type != BANGER_CLI_STRV && option->type != BANGER_CLI_FLAG)
    return usage_fail (error, _ ("--%s is given twice"), option->name);
  if (!value) {
    value = g_new0 (Value, 1);
    value->strings = g_ptr_array_new_with_free_func (g_free);
    g_hash_table_insert (invocation->values, (gpointer)option->name, value);
  }

  g_autoptr (GError) reason = NULL;
  if (option->type == BANGER_CLI_SIZE)
    banger_size_parse (text, &value->number, &reason);
  else if (option->type == BANGER_CLI_UINT)
    banger_uint_parse (text, MAX (option->min, 1), option->max > 0 ? option->max : G_MAXUINT32, &value->number,
                       &reason);
  else if (option->type != BANGER_CLI_FLAG && text[0] == '\0')
    return usage_fail (error, _ ("--%s is given an empty %s"), option->name, option->value);
  if (reason)
    return usage_fail (error, "--%s: %s", option->name, reason->message);
  if (!check_size (option, value->number, text, error))
    return FALSE;
  if (text && !check_text (option->complete, text, error))
    return FALSE;
  if (text)
    g_ptr_array_add (value->strings, g_strdup (text));
  return TRUE;
}

static gboolean
unknown_option (const BangerCommand *command, const char *typed, gsize length, GError **error)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  for (const BangerCliOption *option = command->options; option && option->name; option++)
    g_ptr_array_add (names, (gpointer)option->name);
  g_ptr_array_add (names, (gpointer) "help");
  g_ptr_array_add (names, NULL);
  g_autofree char *name = g_strndup (typed, length);
  const char *near = banger_suggest (name + (length > 2 ? 2 : 0), (const char *const *)names->pdata);
  if (near)
    banger_usage_error (error, _ ("there is no option '%s'; did you mean '--%s'?"), name, near);
  else if (command->tail != BANGER_TAIL_NONE)
    banger_usage_error (error, _ ("there is no option '%s'; the command to run stands behind --"), name);
  else
    banger_usage_error (error, _ ("there is no option '%s'"), name);
  return FALSE;
}

/* argv[0] begins with "--". *ret_used: 2 if the value was the next word. */
static gboolean
parse_long (BangerInvocation *invocation, const char *const *argv, guint *ret_used, GError **error)
{
  const char *name = argv[0] + 2, *equals = strchr (name, '=');
  gsize length = equals ? (gsize)(equals - name) : strlen (name);
  const BangerCliOption *option = banger_command_find_option (invocation->command, name, length);
  if (!option)
    return unknown_option (invocation->command, argv[0], length + 2, error);

  *ret_used = 1;
  if (option->type == BANGER_CLI_FLAG) {
    if (equals)
      return usage_fail (error, _ ("--%s takes no value, but '%s' is given"), option->name, equals + 1);
    return set_value (invocation, option, NULL, error);
  }
  if (equals)
    return set_value (invocation, option, equals + 1, error);
  if (!argv[1] || strcmp (argv[1], "--") == 0)
    return usage_fail (error, _ ("--%s needs a value: --%s %s"), option->name, option->name, option->value);
  *ret_used = 2;
  return set_value (invocation, option, argv[1], error);
}

/* The value of one is what follows it in the word, or the next word. */
static gboolean
parse_letters (BangerInvocation *invocation, const char *const *argv, guint *ret_used, GError **error)
{
  const char *word = argv[0];
  for (const char *letter = word + 1; *letter != '\0'; letter++) {
    const BangerCliOption *option = banger_command_find_letter (invocation->command, *letter);
    if (*letter == 'h')
      invocation->help = TRUE;
    else if (!option && invocation->command->tail != BANGER_TAIL_NONE)
      return usage_fail (error, _ ("there is no option '-%c' (in '%s'); the command to run stands behind --"), *letter,
                         word);
    else if (!option)
      return usage_fail (error, _ ("there is no option '-%c' (in '%s')"), *letter, word);
    else if (option->type != BANGER_CLI_FLAG) {
      const char *value = letter[1] != '\0' ? letter + 1 : argv[1];
      *ret_used = letter[1] != '\0' ? 1 : 2;
      return value ? set_value (invocation, option, value, error)
                   : usage_fail (error, _ ("-%c needs a value: %s"), *letter, _ (option->value));
    } else if (!set_value (invocation, option, NULL, error))
      return FALSE;
  }
  return TRUE;
}

static guint
count_arguments (const BangerCommand *command, guint *ret_required, gboolean *ret_repeated)
{
  guint count = 0;
  *ret_required = 0;
  *ret_repeated = FALSE;
  for (const BangerCliArgument *row = command->arguments; row && row->name; row++) {
    count++;
    *ret_required += (row->flags & BANGER_ARGUMENT_OPTIONAL) == 0;
    *ret_repeated = *ret_repeated || (row->flags & BANGER_ARGUMENT_REPEATED) != 0;
  }
  return count;
}

/* The row of argument @index: the last one may be repeated. */
static const BangerCliArgument *
argument_at (const BangerCommand *command, guint index)
{
  const BangerCliArgument *row = command->arguments;
  while (index-- > 0 && row[1].name)
    row++;
  return row;
}

/* Enough, and not too many? */
static gboolean
check_arguments (BangerInvocation *invocation, GError **error)
{
  const BangerCommand *command = invocation->command;
  guint required, given = invocation->arguments->len;
  gboolean repeated;
  guint most = count_arguments (command, &required, &repeated);

  if (given < required)
    return usage_fail (error, _ ("%s is missing"), command->arguments[given].name);
  if (given > most && !repeated) {
    const char *extra = g_ptr_array_index (invocation->arguments, most);
    if (command->tail != BANGER_TAIL_NONE)
      return usage_fail (error, _ ("'%s' is too much; a command to run stands behind --"), extra);
    return usage_fail (error, _ ("'%s' is too much"), extra);
  }
  for (guint i = 0; i < given; i++)
    if (!check_text (argument_at (command, i)->complete, g_ptr_array_index (invocation->arguments, i), error))
      return FALSE;
  if (command->tail == BANGER_TAIL_REQUIRED && (!invocation->tail || !invocation->tail[0]))
    return usage_fail (error, _ ("the command to run is missing; it stands behind --"));
  if (invocation->tail && !invocation->tail[0])
    return usage_fail (error, _ ("there is no command behind --"));
  return TRUE;
}

static gboolean
parse_rest (BangerInvocation *invocation, const char *const *argv, GError **error)
{
  for (guint used = 1; *argv; argv += used) {
    used = 1;
    if (strcmp (*argv, "--") == 0) {
      if (invocation->command->tail != BANGER_TAIL_NONE)
        invocation->tail = g_strdupv ((char **)argv + 1);
      for (argv++; !invocation->tail && *argv; argv++)
        g_ptr_array_add (invocation->arguments, g_strdup (*argv));
      return TRUE;
    }
    if (is_help (*argv))
      invocation->help = TRUE;
    else if (g_str_has_prefix (*argv, "--")) {
      if (!parse_long (invocation, argv, &used, error))
        return FALSE;
    } else if (argv[0][0] == '-' && argv[0][1] != '\0') {
      if (!parse_letters (invocation, argv, &used, error))
        return FALSE;
    } else {
      g_ptr_array_add (invocation->arguments, g_strdup (*argv));
    }
  }
  return TRUE;
}

static void
terminate_values (BangerInvocation *invocation)
{
  GHashTableIter iter;
  gpointer data;
  g_hash_table_iter_init (&iter, invocation->values);
  while (g_hash_table_iter_next (&iter, NULL, &data))
    g_ptr_array_add (((Value *)data)->strings, NULL);
}

BangerInvocation *
banger_invocation_parse (const BangerCommandTable *table, const char *const *argv, const BangerCommand **ret_command,
                         GError **error)
{
  g_autoptr (BangerInvocation) invocation = g_new0 (BangerInvocation, 1);
  invocation->table = table;
  invocation->arguments = g_ptr_array_new_with_free_func (g_free);
  invocation->values = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, value_free);

  guint used;
  gboolean known = parse_command (invocation, argv, &used, error);
  if (ret_command)
    *ret_command = invocation->command;
  if (!known)
    return NULL;
  if (invocation->command) {
    if (!parse_rest (invocation, argv + used, error))
      return NULL;
    if (!invocation->help && !check_arguments (invocation, error))
      return NULL;
  }
  g_ptr_array_add (invocation->arguments, NULL);
  terminate_values (invocation);
  return g_steal_pointer (&invocation);
}

static const Value *
lookup (const BangerInvocation *invocation, const char *name)
{
  g_assert (banger_command_find_option (invocation->command, name, strlen (name)) != NULL);
  return g_hash_table_lookup (invocation->values, name);
}

gboolean
banger_invocation_flag (const BangerInvocation *invocation, const char *name)
{
  return lookup (invocation, name) != NULL;
}

const char *
banger_invocation_string (const BangerInvocation *invocation, const char *name)
{
  const Value *value = lookup (invocation, name);
  return value ? g_ptr_array_index (value->strings, 0) : NULL;
}

const char *const *
banger_invocation_strv (const BangerInvocation *invocation, const char *name)
{
  static const char *const nothing[] = { NULL };
  const Value *value = lookup (invocation, name);
  return value ? (const char *const *)value->strings->pdata : nothing;
}

guint64
banger_invocation_number (const BangerInvocation *invocation, const char *name)
{
  const Value *value = lookup (invocation, name);
  return value ? value->number : 0;
}

const char *
banger_invocation_argument (const BangerInvocation *invocation, guint index)
{
  return index + 1 < invocation->arguments->len ? g_ptr_array_index (invocation->arguments, index) : NULL;
}
