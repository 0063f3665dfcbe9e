/* What the steps of a start share.
 * Never included but by those that are its steps. */
#pragma once

#include "manager/core/steps.h"
#include "manager/vm/private.h"

enum { VM_LEFT_ROOT_DISK = 1, VM_LEFT_WORK_DISK = 2, VM_LEFT_INITRD = 4 };

/* What the steps share. */
typedef struct {
  VmOp *op;
  BangerVm *vm;
  BangerVmSource image, kernel;
  gboolean first;            /* the VM never ran: its disks are made now */
  gboolean restore;          /* it was suspended, and is to go on */
  BangerVmTemplate template; /* it is restored from; without id: it is booted */
  char *tap;
  char *root;       /* "snapshot" or "file"; NULL until the helper has said which */
  gboolean placed;  /* the helper was asked for a place */
  gboolean cleared; /* and what it had left from before was released */
  BangerStepsRun *run;
  guint32 left; /* whose worker was left alone: it takes back what it made */
  gboolean launched;
  gboolean gave_up; /* a template was there, and was of no use */
  char *forked;     /* what its record said of that until it ran */
  GTask *recording; /* of the step "running" */
} VmStart;

/* template.c */
void vm_template_find (VmStart *start);
gboolean vm_template_skip (gpointer data);
/** vm_template_identity_run: of a guest that is ready: it is its VM then, and nobody's copy. vm_identity_finish(). */
void vm_template_identity_run (gpointer data, GCancellable *, GAsyncReadyCallback, gpointer user_data);
void vm_template_check_run (gpointer data, GCancellable *, GAsyncReadyCallback, gpointer user_data);
/** vm_template_is_own: it is the copy of a VM: it is restored, or goes. */
gboolean vm_template_is_own (const VmStart *start);
/** vm_template_give_up: whether what failed with @error, and is undone, is to be begun anew without it. */
gboolean vm_template_give_up (VmStart *start, const GError *error);
void vm_template_used (VmStart *start);

/* disks.c: what a start makes in the VM's folder. @data: a VmStart. */
void vm_start_root_disk_run (gpointer data, GCancellable *, GAsyncReadyCallback, gpointer user_data);
void vm_start_root_disk_undo (gpointer data, GCancellable *, GAsyncReadyCallback, gpointer user_data);
void vm_start_template_disk_run (gpointer data, GCancellable *, GAsyncReadyCallback, gpointer user_data);
void vm_start_template_fill_run (gpointer data, GCancellable *, GAsyncReadyCallback, gpointer user_data);
gboolean vm_start_template_disk_take (gpointer data, GAsyncResult *result, GError **error);
gboolean vm_start_template_disk_skip (gpointer data);
void vm_start_work_disk_run (gpointer data, GCancellable *, GAsyncReadyCallback, gpointer user_data);
gboolean vm_start_work_disk_take (gpointer data, GAsyncResult *result, GError **error);
void vm_start_work_disk_undo (gpointer data, GCancellable *, GAsyncReadyCallback, gpointer user_data);
gboolean vm_start_work_disk_skip (gpointer data);
void vm_start_initrd_run (gpointer data, GCancellable *, GAsyncReadyCallback, gpointer user_data);
gboolean vm_start_initrd_take (gpointer data, GAsyncResult *result, GError **error);
void vm_start_initrd_undo (gpointer data, GCancellable *, GAsyncReadyCallback, gpointer user_data);
