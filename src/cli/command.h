/* What a command is, and what a command line became.
 * Never holds a rule of one command: those are rows of command-table.c. */
#pragma once

#include <glib.h>

typedef enum {
  BANGER_CLI_FLAG,
  BANGER_CLI_STRING,
  BANGER_CLI_STRV, /* may be given several times */
  BANGER_CLI_SIZE, /* bytes, see banger_size_parse() */
  BANGER_CLI_UINT, /* at most 4294967295 */
} BangerCliType;

/* Where the candidates for a value come from. */
typedef enum {
  BANGER_COMPLETE_NOTHING,
  BANGER_COMPLETE_FILES,
  BANGER_COMPLETE_DIRECTORIES,
  BANGER_COMPLETE_GUEST_FILES, /* nothing: the guest is not asked */
  BANGER_COMPLETE_COPIES,      /* files, and running VMs with a colon */
  BANGER_COMPLETE_VMS,
  BANGER_COMPLETE_RUNNING_VMS,
  BANGER_COMPLETE_PAUSED_VMS,
  BANGER_COMPLETE_STOPPED_VMS,
  BANGER_COMPLETE_SNAPSHOTS, /* of the VM before */
  BANGER_COMPLETE_IMAGES,
  BANGER_COMPLETE_KERNELS,
  BANGER_COMPLETE_AVAILABLE_IMAGES, /* in catalogs; where they cannot be read those that are here */
  BANGER_COMPLETE_AVAILABLE_KERNELS,
  BANGER_COMPLETE_SHELLS,
  BANGER_COMPLETE_SIGNALS,
  BANGER_COMPLETE_FORMATS, /* of an image's export */
  BANGER_COMPLETE_COMMANDS,
} BangerComplete;

typedef enum {
  BANGER_ARGUMENT_REQUIRED = 0,
  BANGER_ARGUMENT_OPTIONAL = 1 << 0,
  BANGER_ARGUMENT_REPEATED = 1 << 1, /* the last one only */
} BangerArgumentFlags;

/* What stands behind `--`. */
typedef enum {
  BANGER_TAIL_NONE,
  BANGER_TAIL_OPTIONAL,
  BANGER_TAIL_REQUIRED,
} BangerTail;

/* Tables of these four end with a row whose first member is NULL. Texts are marked N_(). */
typedef struct {
  const char *name; /* without "--" */
  char letter;      /* 0: none */
  BangerCliType type;
  const char *value; /* "SIZE"; NULL for a flag */
  BangerComplete complete;
  const char *summary;
  guint64 min, max; /* of a number; 0: at least 1, and no bound of this table's above */
} BangerCliOption;

typedef struct {
  const char *name; /* "PATH" */
  BangerArgumentFlags flags;
  BangerComplete complete;
  const char *summary;
} BangerCliArgument;

typedef struct {
  const char *line; /* as typed */
  const char *what;
} BangerCliExample;

typedef struct BangerInvocation BangerInvocation;

typedef struct {
  const char *words; /* "vm run" */
  const char *summary;
  const char *description; /* paragraphs, split by an empty line */
  const BangerCliArgument *arguments;
  const BangerCliOption *options; /* all of them but --help, which every command has */
  BangerTail tail;
  const BangerCliExample *examples;
  /* Returns: an exit status, or -1 with @error. */
  int (*run) (const BangerInvocation *invocation, GError **error);
} BangerCommand;

typedef struct {
  const char *word; /* "vm"; "" for commands of one word */
  const char *summary;
} BangerGroup;

/* Each ends with a row whose first member is NULL. */
typedef struct {
  const BangerCommand *commands;
  const BangerGroup *groups;
  const BangerGroup *subgroups; /* "vm workspace": of commands of three words */
} BangerCommandTable;

/* A mistake on the command line: exit status 2 and a hint to --help. */
#define BANGER_USAGE_ERROR (banger_usage_error_quark ())
GQuark banger_usage_error_quark (void);
/** banger_usage_error: Returns: -1, so that a handler can return it. */
int banger_usage_error (GError **error, const char *format, ...) G_GNUC_PRINTF (2, 3);

struct BangerInvocation {
  const BangerCommandTable *table;
  const BangerCommand *command; /* NULL: help of @group or of everything */
  const BangerGroup *group;
  gboolean help;
  gboolean version;     /* `banger --version` */
  GPtrArray *arguments; /* of char *, the last one NULL */
  char **tail;          /* behind `--`; NULL without it */
  GHashTable *values;   /* option name -> Value, see parse.c */
};

/**
 * banger_invocation_parse:
 * @argv: without the program's name. @ret_command: (nullable): the command as far as it was understood, also on error.
 * Returns: (transfer full): %NULL with %BANGER_USAGE_ERROR that names the value.
 */
BangerInvocation *banger_invocation_parse (const BangerCommandTable *table, const char *const *argv,
                                           const BangerCommand **ret_command, GError **error);
void banger_invocation_free (BangerInvocation *invocation);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerInvocation, banger_invocation_free)

/* Reading options: the name must be one of the command's table and of that type. */
gboolean banger_invocation_flag (const BangerInvocation *invocation, const char *name);
const char *banger_invocation_string (const BangerInvocation *invocation, const char *name);      /* NULL: not given */
const char *const *banger_invocation_strv (const BangerInvocation *invocation, const char *name); /* never NULL */
guint64 banger_invocation_number (const BangerInvocation *invocation, const char *name);          /* 0: not given */
/** banger_invocation_argument: Returns: (transfer none): positional argument @index or %NULL. */
const char *banger_invocation_argument (const BangerInvocation *invocation, guint index);

/** banger_command_find: the row whose words are exactly @words, or %NULL. */
const BangerCommand *banger_command_find (const BangerCommandTable *table, const char *words);
const BangerGroup *banger_group_find (const BangerCommandTable *table, const char *word);
/** banger_subgroup_find: @words: "vm workspace". Returns: %NULL: there is none. */
const BangerGroup *banger_subgroup_find (const BangerCommandTable *table, const char *words);
/** banger_command_in_group: whether @command is one of @group (of one word for the group ""). */
gboolean banger_command_in_group (const BangerCommand *command, const BangerGroup *group);
/** banger_command_find_option: by name; NULL if the command has none such. */
const BangerCliOption *banger_command_find_option (const BangerCommand *command, const char *name, gsize length);
const BangerCliOption *banger_command_find_letter (const BangerCommand *command, char letter);

/**
 * banger_suggest:
 * Returns: (transfer none): the one of the %NULL-terminated @choices that @word was probably meant to be, or %NULL.
 */
const char *banger_suggest (const char *word, const char *const *choices);
