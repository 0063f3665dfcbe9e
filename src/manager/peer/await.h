/* Waiting for things outside of this process: a socket file, an ssh server.
 * Never polls where the kernel tells; never waits without the caller's bound (its cancellable). */
#pragma once

#include <gio/gio.h>

/** banger_await_file_async: until @name exists in the directory @dir (inotify(7)). */
void banger_await_file_async (const char *dir, const char *name, GCancellable *cancellable,
                              GAsyncReadyCallback callback, gpointer user_data);
/** banger_await_ssh_async: until @address:@port accepts and greets with "SSH-" (requirement H9). */
void banger_await_ssh_async (const char *address, guint16 port, GCancellable *cancellable, GAsyncReadyCallback callback,
                             gpointer user_data);
gboolean banger_await_finish (GAsyncResult *result, GError **error);
