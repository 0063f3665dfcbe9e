/* What is on the session bus: interfaces as tables of rows, and the objects that have them.
 * Never lets a call through by itself: gate.c stands in front, request.c behind. */
#pragma once

#include "common/bus-source.h"
#include "manager/core/record.h"
#include "manager/manager.h"

typedef struct BangerObjects BangerObjects;
typedef struct BangerRequest BangerRequest; /* request.h */

/**
 * BangerRequestHandler: reads the arguments and either answers (banger_request_reply*()), or keeps @request to answer
 * later, or returns %FALSE with an error, which becomes the answer.
 * @data: of the member's row.
 */
typedef gboolean (*BangerRequestHandler) (BangerRequest *request, gconstpointer data, GError **error);

/* A method, or a signal if nothing handles it. A table ends with a row whose member is NULL. */
typedef struct {
  const char *member;
  const char *arguments, *results; /* signatures */
  const char *names;               /* of both in that order, each ended by NUL */
  BangerRequestHandler handler;
  gconstpointer data;
} BangerMember;

/* A property that no field of a record is. A table ends with a row whose name is NULL. */
typedef struct {
  const char *name, *type;
  gboolean changes;
  int (*append) (sd_bus_message *reply, BangerObjects *objects, gpointer object);
} BangerProperty;

/* Such a function: appends what is said of @object, which is of @Type. */
#define BANGER_APPEND(function, Type, object, append)                                                                  \
  static int function (sd_bus_message *reply, BangerObjects *objects, gpointer data)                                   \
  {                                                                                                                    \
    Type *object = data;                                                                                               \
    return append;                                                                                                     \
  }
#define BANGER_APPEND_TEXT(function, Type, object, text)                                                               \
  BANGER_APPEND (function, Type, object, banger_property_append_text (reply, text))

/* An interface and where it lives: at the manager's path, or at <prefix>/<id> for each object of a kind. */
typedef struct {
  const char *name;
  const BangerMember *members;
  const BangerRecordField *fields; /* those with a name on the bus are properties; may be NULL */
  /* Likewise, and instead of fields of the same name. */
  const BangerProperty *properties;

  const char *prefix; /* NULL: the manager's own; then nothing follows */
  BangerObjectKind kind;
  gpointer (*find) (BangerManager *manager, const char *id);
  GPtrArray *(*list) (BangerManager *manager); /* of ids, which are the objects' */
  gconstpointer (*values) (gpointer object);   /* what the fields are in; NULL: the object itself */
} BangerInterface;

/**
 * banger_objects_new:
 * Registers all @interfaces and the object manager on @bus.
 * @interfaces: ends with a row without a name; static. @call: the handler of every method in every vtable; its userdata
 * is what is returned here.
 */
BangerObjects *banger_objects_new (BangerManager *manager, sd_bus *bus, const BangerInterface *interfaces,
                                   sd_bus_message_handler_t call, GError **error);
void banger_objects_free (BangerObjects *objects);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerObjects, banger_objects_free)

BangerManager *banger_objects_manager (BangerObjects *objects);
sd_bus *banger_objects_bus (BangerObjects *objects);

/* Of the message that is being looked at; the gate writes it. */
typedef struct {
  char *op_id;
  uid_t caller;
} BangerNow;
BangerNow *banger_objects_now (BangerObjects *objects);
/** banger_objects_open: of #BangerRequest: calls that are not answered yet; request.c writes it. */
GQueue *banger_objects_open (BangerObjects *objects);

/** banger_objects_interface: that of objects of @kind. */
const BangerInterface *banger_objects_interface (BangerObjects *objects, BangerObjectKind kind);
/** banger_objects_interface_named: Returns: %NULL if there is none called @name (nullable). */
const BangerInterface *banger_objects_interface_named (BangerObjects *objects, const char *name);

/** banger_objects_path: Returns: (transfer full): the object path of @id. */
char *banger_objects_path (BangerObjects *objects, BangerObjectKind kind, const char *id);
/** banger_objects_find: Returns: (transfer none): the object at @path, %NULL if there is none of @kind. */
gpointer banger_objects_find (BangerObjects *objects, BangerObjectKind kind, const char *path);
/** banger_objects_has: whether @path has an object with @interface; %NULL: with any. */
gboolean banger_objects_has (BangerObjects *objects, const BangerInterface *interface, const char *path);
/** banger_objects_is_node: objects and the nodes above them, which can be introspected. */
gboolean banger_objects_is_node (BangerObjects *objects, const char *path);

/** banger_interface_method: Returns: %NULL if there is none called @member. */
const BangerMember *banger_interface_method (const BangerInterface *interface, const char *member);
gboolean banger_interface_has_property (const BangerInterface *interface, const char *name);
