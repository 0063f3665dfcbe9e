/* JSON bodies of the API as tables: one row per field of the OpenAPI definition.
 * Never accepts a field that its table does not know. */
#pragma once

#include <json-glib/json-glib.h>

#define BANGER_VMM_ERROR (banger_vmm_error_quark ())
GQuark banger_vmm_error_quark (void);

/* Every failure becomes a fault message; the code says which HTTP status carries it. */
typedef enum {
  BANGER_VMM_ERROR_REQUEST, /* 400 */
  BANGER_VMM_ERROR_HOST,    /* 400: the request was fine, the host refused */
} BangerVmmError;

typedef enum {
  BANGER_FIELD_STRING,      /* char *, NULL unset */
  BANGER_FIELD_BOOL,        /* int: -1 unset, 0, 1 */
  BANGER_FIELD_UINT,        /* gint64: -1 unset */
  BANGER_FIELD_NODE,        /* JsonNode *, NULL unset: an object or a list that a table of its own reads */
  BANGER_FIELD_UNSUPPORTED, /* known to Firecracker, refused here unless null; no storage */
} BangerFieldType;

/* A table ends with a row whose key is NULL. */
typedef struct {
  const char *key;
  BangerFieldType type;
  gboolean required;
  size_t offset;
  gint64 max;               /* of a UINT: the largest value of its wire type */
  const char *const *words; /* closed choices of a STRING, or NULL */
} BangerBodyField;

/** banger_body_parse: Returns: (transfer full): the object in @data, or %NULL with the fault text in @error. */
JsonNode *banger_body_parse (const char *data, gsize length, GError **error);

/**
 * banger_body_read:
 * Fills @ret_values from @node; nodes hold a reference. Unset fields get their unset value. On error @ret_values is cleared.
 * Fault texts follow serde_json's ("missing field `x`"), without line and column.
 */
gboolean banger_body_read (JsonNode *node, const BangerBodyField *table, gpointer ret_values, GError **error);

/** banger_body_write: Returns: (transfer full): the set fields of @values. */
JsonNode *banger_body_write (const BangerBodyField *table, gconstpointer values);

/** banger_body_clear: frees strings and unsets every field. */
void banger_body_clear (const BangerBodyField *table, gpointer values);
