/* org.banger.Manager: the vtable, and the ear that turns what the domain announces into signals.
 * Never holds state of its own but the registration. */
#pragma once

#include "manager/bus/request.h"

typedef struct BangerManagerBus BangerManagerBus;

/** banger_manager_bus_new: registers everything on @bus; ask for the name after it. */
BangerManagerBus *banger_manager_bus_new (BangerManager *manager, sd_bus *bus, GError **error);
/** banger_manager_bus_free: answers every call that is still open. */
void banger_manager_bus_free (BangerManagerBus *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerManagerBus, banger_manager_bus_free)

/** banger_manager_interfaces: every interface with its members, for tests; ends with a row without a name. */
const BangerInterface *banger_manager_interfaces (void);
