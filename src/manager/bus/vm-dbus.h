/* VMs on the bus: properties, and verbs by name (Manager) and by object (VM), one function each.
 * Never changes a VM itself: vm.c does. */
#pragma once

#include "common/options.h"
#include "manager/bus/request.h"
#include "manager/vm/vm.h"

extern const BangerProperty banger_vm_properties[];
extern const BangerMember banger_vm_members[];

/** banger_vm_handle_create: CreateVM(s name, a{sv} options) -> o job. */
gboolean banger_vm_handle_create (BangerRequest *request, gconstpointer data, GError **error);
/** banger_vm_handle_get: GetVM(s name) -> o vm. */
gboolean banger_vm_handle_get (BangerRequest *request, gconstpointer data, GError **error);
/** banger_vm_handle_by_name: StartVM and its like; @data: the verb's row. */
gboolean banger_vm_handle_by_name (BangerRequest *request, gconstpointer data, GError **error);
/** banger_vm_handle_forward_by_name: AddForwardVM; @remove: not %NULL: RemoveForwardVM. */
gboolean banger_vm_handle_forward_by_name (BangerRequest *request, gconstpointer remove, GError **error);

/* A verb on the bus: its job, and what it takes. One for each BangerVmVerb but create, which has no VM yet. */
typedef struct {
  const char *kind; /* of the job */
  gboolean cancelable;
  gboolean takes_path;
  const BangerOption *options;
} BangerVmVerbRow;
extern const BangerVmVerbRow banger_vm_verb_rows[];

/* Those that take options alone, as members of org.banger.VM; of org.banger.Manager they have VM behind them. */
/* clang-format off */
#define BANGER_VM_VERBS(MEMBER)\
  MEMBER ("Start", START),     \
  MEMBER ("Stop", STOP),       \
  MEMBER ("Kill", KILL),       \
  MEMBER ("Restart", RESTART), \
  MEMBER ("Pause", PAUSE),     \
  MEMBER ("Resume", RESUME),   \
  MEMBER ("Suspend", SUSPEND), \
  MEMBER ("Delete", DELETE),   \
  MEMBER ("Set", SET)
/* clang-format on */
