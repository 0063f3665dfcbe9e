/* POSIX access control lists, acl(5): from the text in a tar to the value of system.posix_acl_*, xattr(7).
 * Used by ext4-tar.c.
 * Never asks this machine who somebody is: names are those of the archive's own passwd(5) and group(5). */
#pragma once

#include <glib.h>

typedef struct BangerAcl BangerAcl;

/**
 * banger_acl_parse:
 * @text: "user::rwx,user:daemon:r-x,group::r-x,mask::r-x,other::---"; also with a number as a fourth field or a line
 * each, and "default:" before each entry.
 * Returns: (transfer full): %NULL if it is no list that Linux would take.
 */
BangerAcl *banger_acl_parse (const char *text);
/** banger_acl_from_value: the same of the attribute's value. */
BangerAcl *banger_acl_from_value (const guint8 *bytes, gsize length);

BangerAcl *banger_acl_ref (BangerAcl *acl);
void banger_acl_free (BangerAcl *acl);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerAcl, banger_acl_free)

/** banger_acl_mode: Returns: the nine bits that stat(2) shows of a file with this access list. */
guint32 banger_acl_mode (const BangerAcl *acl);

/** banger_acl_is_mode: whether it says no more than these nine bits: Linux stores no such access list. */
gboolean banger_acl_is_mode (const BangerAcl *acl);

/** banger_acl_has_names: whether there is somebody without a number. */
gboolean banger_acl_has_names (const BangerAcl *acl);

/**
 * banger_acl_resolve:
 * @passwd, @group: files as passwd(5) and group(5) say, of @length bytes.
 * Returns: %NULL, or the name that is in neither; valid as long as @acl.
 */
const char *banger_acl_resolve (BangerAcl *acl, const GByteArray *passwd, const GByteArray *group);

/** banger_acl_value: Returns: (transfer full): the value of the attribute. */
GByteArray *banger_acl_value (const BangerAcl *acl);
