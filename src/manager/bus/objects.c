/* What is on the session bus: interfaces as tables of rows, and the objects that have them.
 * Never lets a call through by itself: gate.c stands in front, request.c behind. */
#include "manager/bus/objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "common/ids.h"
#include "common/names.h"
#include "manager/bus/property.h"

struct BangerObjects {
  BangerManager *manager;
  sd_bus *bus;
  const BangerInterface *interfaces;
  sd_bus_message_handler_t call;
  GPtrArray *slots;
  GPtrArray *vtables;     /* GArray of sd_bus_vtable; sd-bus keeps the address */
  GPtrArray *enumerators; /* what the slots point to */
  GPtrArray *rows;        /* what the vtables point to */
  BangerNow now;
  GQueue open;
};

BangerManager *
banger_objects_manager (BangerObjects *objects)
{
  return objects->manager;
}

sd_bus *
banger_objects_bus (BangerObjects *objects)
{
  return objects->bus;
}

BangerNow *
banger_objects_now (BangerObjects *objects)
{
  return &objects->now;
}

GQueue *
banger_objects_open (BangerObjects *objects)
{
  return &objects->open;
}

/* Rows */

const BangerInterface *
banger_objects_interface (BangerObjects *objects, BangerObjectKind kind)
{
  for (const BangerInterface *row = objects->interfaces; row->name; row++)
    if (row->prefix && row->kind == kind)
      return row;
  g_assert_not_reached ();
}

const BangerInterface *
banger_objects_interface_named (BangerObjects *objects, const char *name)
{
  for (const BangerInterface *row = objects->interfaces; row->name; row++)
    if (g_strcmp0 (row->name, name) == 0)
      return row;
  return NULL;
}

const BangerMember *
banger_interface_method (const BangerInterface *interface, const char *member)
{
  for (const BangerMember *row = interface->members; row->member; row++)
    if (row->handler && g_str_equal (row->member, member))
      return row;
  return NULL;
}

static const BangerProperty *
find_property (const BangerInterface *interface, const char *name)
{
  for (const BangerProperty *row = interface->properties; row && row->name; row++)
    if (g_str_equal (row->name, name))
      return row;
  return NULL;
}

static const BangerRecordField *
find_field (const BangerInterface *interface, const char *name)
{
  for (const BangerRecordField *row = interface->fields; row && row->key; row++)
    if (g_strcmp0 (row->property, name) == 0)
      return row;
  return NULL;
}

gboolean
banger_interface_has_property (const BangerInterface *interface, const char *name)
{
  return find_property (interface, name) || find_field (interface, name);
}

/* Objects */

char *
banger_objects_path (BangerObjects *objects, BangerObjectKind kind, const char *id)
{
  return banger_object_path (banger_objects_interface (objects, kind)->prefix, id);
}

/* The object at @path that has @interface; the manager for its own. */
static gpointer
find (BangerObjects *objects, const BangerInterface *interface, const char *path)
{
  if (!interface->prefix)
    return g_str_equal (path, BANGER_MANAGER_PATH) ? objects->manager : NULL;
  size_t length = strlen (interface->prefix);
  if (strncmp (path, interface->prefix, length) != 0 || path[length] != '/')
    return NULL;
  return interface->find (objects->manager, path + length + 1);
}

gpointer
banger_objects_find (BangerObjects *objects, BangerObjectKind kind, const char *path)
{
  return find (objects, banger_objects_interface (objects, kind), path);
}

gboolean
banger_objects_has (BangerObjects *objects, const BangerInterface *interface, const char *path)
{
  if (interface)
    return find (objects, interface, path) != NULL;
  for (const BangerInterface *row = objects->interfaces; row->name; row++)
    if (find (objects, row, path))
      return TRUE;
  return g_str_equal (path, BANGER_LOG_CONTROL_PATH);
}

/* Whether @leaf is @path or below it. */
static gboolean
is_above (const char *path, const char *leaf)
{
  size_t length = strlen (path);
  return length == 1 || (strncmp (leaf, path, length) == 0 && (leaf[length] == '/' || leaf[length] == '\0'));
}

gboolean
banger_objects_is_node (BangerObjects *objects, const char *path)
{
  for (const BangerInterface *row = objects->interfaces; row->name; row++)
    if (row->prefix && is_above (path, row->prefix))
      return TRUE;
  return is_above (path, BANGER_LOG_CONTROL_PATH) || banger_objects_has (objects, NULL, path);
}

/* What sd-bus asks */

/* What a row of the vtable points to: sd-bus asks for each property of each object by itself. */
typedef struct {
  BangerObjects *objects;
  const BangerInterface *interface;
  const BangerProperty *own; /* NULL: the field */
  const BangerRecordField *field;
} Row;

static int
get_property (sd_bus *bus, const char *path, const char *name, const char *property, sd_bus_message *reply,
              void *userdata, sd_bus_error *ret_error)
{
  const Row *row = userdata;
  gpointer object = find (row->objects, row->interface, path);
  if (!object)
    return sd_bus_error_setf (ret_error, SD_BUS_ERROR_UNKNOWN_OBJECT, "no object %s", path);
  if (row->own)
    return row->own->append (reply, row->objects, object);
  gconstpointer values = row->interface->values ? row->interface->values (object) : object;
  return banger_property_append (reply, row->field, values);
}

static int
find_object (sd_bus *bus, const char *path, const char *name, void *userdata, void **ret_found, sd_bus_error *ret_error)
{
  const BangerInterface *interface = banger_objects_interface_named (userdata, name);
  if (!interface || !find (userdata, interface, path))
    return 0;
  *ret_found = userdata;
  return 1;
}

/* sd-bus gives the prefix it was asked about, not the one that was registered: the interface comes along by itself. */
typedef struct {
  BangerObjects *objects;
  const BangerInterface *interface;
} Enumerator;

/* sd-bus frees what it gets with free(3). */
static int
enumerate (sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *ret_error)
{
  const Enumerator *self = userdata;
  g_autoptr (GPtrArray) ids = self->interface->list (self->objects->manager);
  char **nodes = calloc (ids->len + 1, sizeof (char *));
  if (!nodes)
    return -ENOMEM;
  for (guint i = 0; i < ids->len; i++) {
    g_autofree char *path = banger_object_path (self->interface->prefix, ids->pdata[i]);
    nodes[i] = strdup (path);
  }
  *ret_nodes = nodes;
  return 0;
}

/* Registration */

static void
add_property (GArray *vtable, BangerObjects *objects, const BangerInterface *interface, const BangerProperty *own,
              const BangerRecordField *field)
{
  Row *found = g_new (Row, 1);
  *found = (Row){ objects, interface, own, field };
  g_ptr_array_add (objects->rows, found);
  gboolean changes = own ? own->changes : field->changes;
  const sd_bus_vtable row = SD_BUS_PROPERTY (
      own ? own->name : field->property, own ? own->type : banger_property_type (field), get_property, (size_t)found,
      SD_BUS_VTABLE_ABSOLUTE_OFFSET | (changes ? SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE : SD_BUS_VTABLE_PROPERTY_CONST));
  g_array_append_val (vtable, row);
}

static void
add_member (GArray *vtable, const BangerMember *member, sd_bus_message_handler_t call)
{
  if (member->handler) {
    const sd_bus_vtable row = {
      .type = _SD_BUS_VTABLE_METHOD,
      .flags = SD_BUS_VTABLE_UNPRIVILEGED, /* for sd-bus's own check: the gate stands before every handler */
      .x.method = { .member = member->member,
                    .signature = member->arguments,
                    .result = member->results,
                    .handler = call,
                    .names = member->names }
    };
    g_array_append_val (vtable, row);
    return;
  }
  const sd_bus_vtable row = { .type = _SD_BUS_VTABLE_SIGNAL,
                              .x.signal = {
                                  .member = member->member, .signature = member->arguments, .names = member->names } };
  g_array_append_val (vtable, row);
}

/* In the order of the rows: fields, properties, members. */
static const sd_bus_vtable *
build_vtable (BangerObjects *objects, const BangerInterface *interface)
{
  const sd_bus_vtable start = SD_BUS_VTABLE_START (0), end = SD_BUS_VTABLE_END;
  GArray *vtable = g_array_new (FALSE, TRUE, sizeof (sd_bus_vtable));
  g_ptr_array_add (objects->vtables, vtable);
  g_array_append_val (vtable, start);
  for (const BangerRecordField *row = interface->fields; row && row->key; row++)
    if (row->property && !find_property (interface, row->property))
      add_property (vtable, objects, interface, NULL, row);
  for (const BangerProperty *row = interface->properties; row && row->name; row++)
    add_property (vtable, objects, interface, row, NULL);
  for (const BangerMember *row = interface->members; row->member; row++)
    add_member (vtable, row, objects->call);
  g_array_append_val (vtable, end);
  return (const sd_bus_vtable *)(void *)vtable->data;
}

static int
add_interface (BangerObjects *objects, const BangerInterface *row)
{
  const sd_bus_vtable *vtable = build_vtable (objects, row);
  sd_bus_slot *slot = NULL;
  int r;
  if (!row->prefix)
    r = sd_bus_add_object_vtable (objects->bus, &slot, BANGER_MANAGER_PATH, row->name, vtable, objects);
  else
    r = sd_bus_add_fallback_vtable (objects->bus, &slot, row->prefix, row->name, vtable, find_object, objects);
  if (r < 0)
    return r;
  g_ptr_array_add (objects->slots, slot);
  if (!row->prefix)
    return 0;
  Enumerator *self = g_new0 (Enumerator, 1);
  self->objects = objects;
  self->interface = row;
  g_ptr_array_add (objects->enumerators, self);
  r = sd_bus_add_node_enumerator (objects->bus, &slot, row->prefix, enumerate, self);
  if (r >= 0)
    g_ptr_array_add (objects->slots, slot);
  return r;
}

static int
register_all (BangerObjects *objects)
{
  sd_bus_slot *slot = NULL;
  int r = sd_bus_add_object_manager (objects->bus, &slot, BANGER_MANAGER_PATH);
  if (r < 0)
    return r;
  g_ptr_array_add (objects->slots, slot);
  for (const BangerInterface *row = objects->interfaces; row->name && r >= 0; row++)
    r = add_interface (objects, row);
  return r;
}

static void
slot_free (gpointer slot)
{
  sd_bus_slot_unref (slot);
}

static void
vtable_free (gpointer vtable)
{
  g_array_unref (vtable);
}

BangerObjects *
banger_objects_new (BangerManager *manager, sd_bus *bus, const BangerInterface *interfaces,
                    sd_bus_message_handler_t call, GError **error)
{
  g_autoptr (BangerObjects) objects = g_new0 (BangerObjects, 1);
  objects->manager = manager;
  objects->bus = sd_bus_ref (bus);
  objects->interfaces = interfaces;
  objects->call = call;
  objects->now.caller = (uid_t)-1;
  objects->vtables = g_ptr_array_new_with_free_func (vtable_free);
  objects->enumerators = g_ptr_array_new_with_free_func (g_free);
  objects->rows = g_ptr_array_new_with_free_func (g_free);
  objects->slots = g_ptr_array_new_with_free_func (slot_free);
  int r = register_all (objects);
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, "cannot register the objects on the session bus");
    return NULL;
  }
  return g_steal_pointer (&objects);
}

void
banger_objects_free (BangerObjects *objects)
{
  if (!objects)
    return;
  g_ptr_array_unref (objects->slots);
  g_ptr_array_unref (objects->enumerators);
  g_ptr_array_unref (objects->rows);
  g_ptr_array_unref (objects->vtables);
  sd_bus_unref (objects->bus);
  g_free (objects->now.op_id);
  g_free (objects);
}
