/* What a VM and an image may be given. The command line says so in the words of its options, the manager to every client.
 * Never a host's own bounds: those are in install.toml. */
#pragma once

#include <glib.h>

#define BANGER_VM_MAX_VCPUS 32
/* Where neither who asks nor the owner's config.toml says more. */
#define BANGER_VM_DEFAULT_VCPUS 2
#define BANGER_VM_DEFAULT_MEMORY_MIB 1024
#define BANGER_VM_DEFAULT_DISK_BYTES (G_GUINT64_CONSTANT (8) << 30)
#define BANGER_VM_MIN_MEMORY_MIB 128
#define BANGER_VM_MAX_MEMORY_MIB (1 << 20)
/* The root file system that is written for an image. */
#define BANGER_IMAGE_MIN_BYTES (G_GUINT64_CONSTANT (8) << 20)
#define BANGER_IMAGE_MAX_BYTES (G_GUINT64_CONSTANT (1) << 40)
#define BANGER_VM_MIN_DISK_BYTES (G_GUINT64_CONSTANT (16) << 20)
#define BANGER_VM_MAX_DISK_BYTES (G_GUINT64_CONSTANT (16) << 40)
