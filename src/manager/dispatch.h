/* What stands in front of every call on the session bus: op id, caller gate, known object, member and signature; and
 * what every call ends with: a reply or an error with the op id, one log record. Used by manager-dbus.c, vm-dbus.c,
 * image-dbus.c, kernel-dbus.c and job-dbus.c. Never lets a call reach a handler that did not pass the gate. */
#pragma once

#include "common/bus-source.h"
#include "manager/manager.h"

typedef struct BangerDispatch BangerDispatch;

/* One call under way. */
typedef struct {
  BangerDispatch *dispatch;
  sd_bus_message *message; /* at the first argument when the handler gets it */
  char *op_id;
  const char *method; /* "StopVM" */
  uid_t caller;
  gint64 started; /* monotonic µs */
  gboolean told;  /* a failure is in the log already */
} BangerCall;

/**
 * BangerHandler: reads the arguments and either answers (banger_call_reply*()), or keeps @call to answer later, or
 * returns %FALSE with an error, which becomes the answer.
 * @data: of the member's row.
 */
typedef gboolean (*BangerHandler) (BangerCall *call, gconstpointer data, GError **error);

/* A table ends with a row whose member is NULL; every method of the vtable has a row. */
typedef struct {
  const char *member;
  BangerHandler handler;
  gconstpointer data;
} BangerMember;

/* An interface and where it lives: at the manager's path, or at <prefix>/<id> for each object of a kind. */
typedef struct {
  const char *name;
  const sd_bus_vtable *vtable;
  const BangerMember *members;
  const char *prefix;    /* NULL: the manager's own */
  BangerObjectKind kind; /* with a prefix */
} BangerInterface;

/** banger_dispatch_call: the handler of every method in every vtable; finds the member's row. */
int banger_dispatch_call (sd_bus_message *message, void *userdata, sd_bus_error *ret_error);

/**
 * banger_dispatch_new:
 * Registers all @interfaces, the object manager and the gate on @bus.
 * @interfaces: ends with a row without a name; static.
 */
BangerDispatch *banger_dispatch_new (BangerManager *manager, sd_bus *bus, const BangerInterface *interfaces,
                                     GError **error);
void banger_dispatch_free (BangerDispatch *dispatch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerDispatch, banger_dispatch_free)

BangerManager *banger_dispatch_manager (BangerDispatch *dispatch);
sd_bus *banger_dispatch_bus (BangerDispatch *dispatch);
const BangerInterface *banger_dispatch_interface (BangerDispatch *dispatch, BangerObjectKind kind);

/** banger_dispatch_path: Returns: (transfer full): the object path of @id. */
char *banger_dispatch_path (BangerDispatch *dispatch, BangerObjectKind kind, const char *id);

/** banger_dispatch_object: Returns: the object at @path, %NULL if there is none of @kind. userdata of every vtable is
 * the dispatch, so property getters look their object up by path. */
gpointer banger_dispatch_object (BangerDispatch *dispatch, BangerObjectKind kind, const char *path);

/* Each of these answers @call, logs it and frees it. */
void banger_call_reply (BangerCall *call, const char *types, ...);
void banger_call_reply_path (BangerCall *call, BangerObjectKind kind, const char *id);
void banger_call_reply_message (BangerCall *call, sd_bus_message *reply);
void banger_call_fail (BangerCall *call, const GError *error);

/** banger_call_read: sd_bus_message_read() with a GError. */
gboolean banger_call_read (BangerCall *call, GError **error, const char *types, ...);
/** banger_call_interactive: the client's allow-interactive-authorization flag. */
gboolean banger_call_interactive (BangerCall *call);
