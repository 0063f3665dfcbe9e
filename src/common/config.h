/* The owner's own settings (~/.config/banger/config.toml): one table of keys.
 * Never fails as a whole: what is wrong is told with its line, and the default holds in its place. */
#pragma once

#include <glib.h>

/* templates.warm */
#define BANGER_WARM_AUTO "auto"
#define BANGER_WARM_OFF "off"

/* One [[file_sync]]. */
typedef struct {
  guint number;
  char *source; /* below the home folder */
  char *target; /* absolute, in the guest */
  int mode;     /* -1: as it is */
} BangerFileSync;

/* One [[catalog]]. */
typedef struct {
  char *file; /* absolute; NULL: it has a URL */
  char *url;
  char *key;     /* minisign's, in base64 */
  char *sha256;  /* 64 hex digits; neither: nothing says whose it is */
  char *problem; /* it cannot be used, and why; NULL */
} BangerConfigCatalog;

/* One [[setup]]: a script of the owner's that runs once in each new guest. */
typedef struct {
  guint number;
  char *script;  /* below the home folder; NULL: */
  char *run;     /* its text */
  char **images; /* patterns of names, NULL: of any */
} BangerSetup;

/* One [[publish]]: a port of the host that leads into each new VM. */
typedef struct {
  guint number;
  char *forward; /* "127.0.0.1:8080:80" */
  char **images; /* patterns of names, NULL: of any */
  char **names;  /* likewise, of VMs */
} BangerPublish;

#define BANGER_SETUP_MAX_BYTES (64 * 1024) /* of a script */

/* As it is shown. */
typedef struct {
  char *key, *value, *from;
} BangerConfigRow;

typedef struct {
  guint64 dns_port; /* 0: no names */
  guint64 vcpus;
  guint64 memory_bytes; /* whole MiB */
  guint64 disk_bytes;
  char *image;
  gboolean nat;
  guint64 template_bytes; /* that all templates may take */
  char *warm;             /* BANGER_WARM_* */

  GPtrArray *file_sync; /* BangerFileSync */
  GPtrArray *catalogs;  /* BangerConfigCatalog; nobody changes it: a thread may keep it */
  GPtrArray *setup;     /* BangerSetup */
  GPtrArray *publish;   /* BangerPublish */

  char *path;
  GPtrArray *rows;     /* BangerConfigRow, of the lists */
  guint *lines;        /* of each key, 0: not in the file */
  GPtrArray *problems; /* char *, in the order of the file */
  gboolean broken;     /* not TOML as far as it is known here: nothing of it is used */
} BangerConfig;

typedef enum {
  BANGER_CONFIG_NUMBER,
  BANGER_CONFIG_SIZE, /* a string such as "2G" */
  BANGER_CONFIG_NAME, /* of an object */
  BANGER_CONFIG_BOOL,
  BANGER_CONFIG_WORD, /* one of two */
} BangerConfigType;

typedef struct {
  const char *table, *key;
  BangerConfigType type;
  size_t offset;
  guint64 min, max, number; /* the default of numbers, sizes (bytes) and truths */
  const char *text;         /* the default of names and words */
  guint64 step;             /* of a size */
  const char *other;        /* word than the default */
} BangerConfigKey;

extern const BangerConfigKey banger_config_keys[]; /* ends with a row whose table is NULL */

/** banger_config_parse: @name is for messages. Returns: (transfer full): never %NULL. */
BangerConfig *banger_config_parse (const char *text, size_t length, const char *name);
/** banger_config_load: @path (nullable): %NULL is the owner's own. One that is not there is an empty one. May wait for
 * a disk. */
BangerConfig *banger_config_load (const char *path);
/** banger_config_unread: of a file that cannot be read, and why. Returns: (transfer full): as an empty one. */
BangerConfig *banger_config_unread (const char *path, const char *why);
void banger_config_free (BangerConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerConfig, banger_config_free)

/** banger_config_value: Returns: (transfer full): as it would be written in the file. */
char *banger_config_value (const BangerConfig *config, const BangerConfigKey *key);
/** banger_config_origin: Returns: (transfer full): "default" or "line 4". */
char *banger_config_origin (const BangerConfig *config, const BangerConfigKey *key);
/** banger_config_fits: whether @name is what one of the @patterns (nullable: any) says: '*' is any text, '?' one character. */
gboolean banger_config_fits (char **patterns, const char *name);
/** banger_config_rows: Returns: (transfer full): BangerConfigRow, of each key that there is. */
GPtrArray *banger_config_rows (const BangerConfig *config);
