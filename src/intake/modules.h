/* Which modules a guest needs to start, and in which order.
 * Never trusts modules.dep: a package has none, and the modules tell themselves what they need. */
#pragma once

#include <glib.h>

#define BANGER_MODULE_MAX (32u << 20)

typedef struct BangerModuleIndex BangerModuleIndex;

BangerModuleIndex *banger_module_index_new (void);
void banger_module_index_free (BangerModuleIndex *index);
/** banger_module_index_has: whether the module is in the index, or built in as modules.builtin says. */
gboolean banger_module_index_has (BangerModuleIndex *index, const char *name);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerModuleIndex, banger_module_index_free)

/** banger_module_is_path: whether @path ends as a module does: .ko, .ko.xz, .ko.zst, .ko.gz. */
gboolean banger_module_is_path (const char *path);

/** banger_module_index_add: reads what the module @data (compressed as @path says) needs. */
gboolean banger_module_index_add (BangerModuleIndex *index, const char *path, GBytes *data, GError **error);

/** banger_module_index_add_builtin: @text is modules.builtin (kbuild): lines of paths. */
void banger_module_index_add_builtin (BangerModuleIndex *index, const char *text, gsize length);

/**
 * banger_module_index_resolve:
 * Chooses the modules for the table of needed drivers, dependencies first.
 * @version: modules of another kernel version are refused; %NULL: not checked.
 */
gboolean banger_module_index_resolve (BangerModuleIndex *index, const char *version, GError **error);

guint banger_module_index_n_chosen (BangerModuleIndex *index);
/** banger_module_index_file_name: Returns: (transfer none): "virtio_blk.ko" if the module at @path was chosen, else
 * %NULL. */
const char *banger_module_index_file_name (BangerModuleIndex *index, const char *path);
/** banger_module_index_chosen_name: Returns: (transfer none): the file name of the @i-th module to load. */
const char *banger_module_index_chosen_name (BangerModuleIndex *index, guint i);
/** banger_module_index_order: Returns: (transfer full): the text of /modules/order, see common/guest-protocol.h. */
char *banger_module_index_order (BangerModuleIndex *index);
