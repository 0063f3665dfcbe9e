/* A file for ssh(1) with every VM by its name, which the owner's own configuration may include.
 * Never touches ~/.ssh: who includes it is asked by `banger ssh-config`. */
#pragma once

#include "manager/vm/vm.h"

typedef struct BangerSshConfig BangerSshConfig;

/** banger_ssh_config_new: keeps <config>/banger/ssh/config as @vms are. @vms: borrowed. */
BangerSshConfig *banger_ssh_config_new (BangerVms *vms);
void banger_ssh_config_free (BangerSshConfig *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerSshConfig, banger_ssh_config_free)

/** banger_ssh_config_look: a VM came, went or has changed: the file is written soon, in a worker, if it differs. */
void banger_ssh_config_look (BangerSshConfig *self);
