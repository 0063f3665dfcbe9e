/* VMs, images and kernels as text and JSON, by one table of properties for each kind.
 * Never knows a verb. */
#pragma once

#include <json-glib/json-glib.h>

#include "cli/client.h"

typedef enum {
  BANGER_FIELD_TEXT,
  BANGER_FIELD_COUNT,
  BANGER_FIELD_BYTES,
  BANGER_FIELD_MIB,
  BANGER_FIELD_TIME, /* µs since the epoch, 0: never */
  BANGER_FIELD_BOOL,
  BANGER_FIELD_LIST, /* of texts, as a shell would write them */
  BANGER_FIELD_TEMPLATES,
} BangerFieldFormat;

/* Ends with a row whose property is NULL. */
typedef struct {
  const char *property; /* of the D-Bus interface */
  const char *key;      /* in JSON */
  const char *label;    /* N_() */
  BangerFieldFormat format;
  gboolean in_list;
} BangerField;

typedef struct {
  const char *interface;
  const char *get; /* method of the manager: name to path */
  const BangerField *fields;
} BangerKind;

extern const BangerKind banger_kind_vm, banger_kind_image, banger_kind_kernel, banger_kind_snapshot;

/** banger_objects_list: Returns: (transfer full): JsonObject * of raw properties ("Name", ...), sorted by name. */
GPtrArray *banger_objects_list (BangerClient *client, const BangerKind *kind, GError **error);
/** banger_objects_list_short: likewise, with what a list as text shows and nothing else: half of the time, with a thousand. */
GPtrArray *banger_objects_list_short (BangerClient *client, const BangerKind *kind, GError **error);
/** banger_objects_get: @ret_path: (nullable). Returns: (transfer full): raw properties of the object of that name or
 * id. */
JsonObject *banger_objects_get (BangerClient *client, const BangerKind *kind, const char *name, char **ret_path,
                                GError **error);
/** banger_properties_read: reads a{sv} of plain values at the cursor. Returns: (transfer full): %NULL if malformed. */
JsonObject *banger_properties_read (sd_bus_message *message);
const char *banger_property_string (JsonObject *properties, const char *name); /* "" if it is not there */
/** banger_objects_name_links: puts the names of @vms in the place of the ids in the links of @vm, which may be one of them. */
void banger_objects_name_links (GPtrArray *vms, JsonObject *vm);
gboolean banger_object_has_links (JsonObject *vm);

/* Pure: from raw properties to what is printed; all (transfer full). */
char *banger_field_format (const BangerField *field, JsonObject *properties); /* "" is empty */
char *banger_objects_format_list (const BangerKind *kind, GPtrArray *objects);
char *banger_objects_format_show (const BangerKind *kind, JsonObject *properties);
JsonNode *banger_objects_to_json (const BangerKind *kind, JsonObject *properties);
/** banger_json_print: @node: (transfer full): to stdout, indented. */
void banger_json_print (JsonNode *node);
