/* polkit: the second check of every method (requirement A4). The default answer is no.
 * Never blocks, never caches, never names a subject by its pid. */
#pragma once

#include "privileged/call.h"

typedef struct BangerAuthority BangerAuthority;

/** BangerAuthorityLost: the bus closed polkit's connection; nothing can be allowed any more. */
typedef void (*BangerAuthorityLost) (gpointer data);

/**
 * banger_authority_new:
 * Begins to connect to the system bus for polkit's library alone: that has a thread and a queue of its own, which
 * sd-bus's connection must not share. Questions may come before there is a connection; they wait for it.
 */
BangerAuthority *banger_authority_new (BangerAuthorityLost lost, gpointer data);
void banger_authority_free (BangerAuthority *authority);

/**
 * banger_authority_check:
 * Asks polkit whether the sender of @call may have @call->method->action; details: vm, bridge, verb, owner. Interaction
 * is allowed only if the message allows it. No polkit, no answer in time, a broken answer: no. @answer is called later,
 * never from here, and not at all if @call ends before.
 * See polkit_authority_check_authorization(), org.freedesktop.PolicyKit1.Authority(8).
 */
void banger_authority_check (BangerAuthority *authority, BangerCall *call, BangerAuthorityAnswer answer);
