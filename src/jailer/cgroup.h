/* The jail's cgroup (version 2): <mount>/<parent>/<id> with the given files.
 * Never changes a cgroup outside the parent, but for enabling controllers on the way to it. */
#pragma once

#include "jailer/args.h"

/**
 * banger_jailer_join_cgroup:
 * With --cgroup files: makes the group, writes them, moves this process in. Without: moves it into the parent if that
 * exists (cgroup version 2 only). @default_parent: the VMM's file name.
 */
void banger_jailer_join_cgroup (const BangerJailerArgs *args, const char *default_parent);
