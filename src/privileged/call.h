/* One call of a method, from the message to the reply, and the table row that governs it.
 * Never outlives its reply. */
#pragma once

#include <systemd/sd-bus.h>

#include "common/bus-source.h"
#include "common/options.h"
#include "privileged/engine.h"
#include "privileged/root.h"

typedef struct BangerCall BangerCall;
typedef struct BangerCalls BangerCalls;
typedef struct BangerMethod BangerMethod;
typedef struct BangerDispatch BangerDispatch;
typedef struct BangerQuestion BangerQuestion;

/* What an argument is; its name on the bus, its type and its gate follow (args.c). */
typedef enum {
  BANGER_ARG_NONE,
  BANGER_ARG_VM,
  BANGER_ARG_IMAGE,
  BANGER_ARG_KERNEL,
  BANGER_ARG_BRIDGE,
  BANGER_ARG_ADDRESS,       /* CIDR of a bridge */
  BANGER_ARG_GUEST_ADDRESS, /* IPv4 */
  BANGER_ARG_COW_BYTES,
  BANGER_ARG_ROOT_DISK, /* "snapshot" or "file" */
  BANGER_ARG_SIGNAL,
  BANGER_ARG_RESOLVER, /* IPv4, or IPv4:port */
  BANGER_ARG_DISK,     /* "snapshot", "rootfs" or "work" */
  BANGER_ARG_PATH,     /* inside a disk */
  BANGER_ARG_FILES,    /* for a disk */
  BANGER_ARG_SOCKET,   /* "api" or "vsock" */
  BANGER_ARG_KEEP,     /* VM ids */
  BANGER_ARG_COPY,     /* of a VM, a template or a snapshot: gets a disk */
  BANGER_ARG_LINKS,    /* VM ids */
  BANGER_ARG_PORTS,    /* of the host */
  BANGER_N_ARGS,
} BangerArg;

typedef enum {
  BANGER_RESULT_NONE,
  BANGER_RESULT_TAP,    /* s */
  BANGER_RESULT_DEVICE, /* s */
  BANGER_RESULT_PIDFD,  /* uh */
  BANGER_RESULT_STATUS, /* a{sv} */
  BANGER_RESULT_LEASES, /* a(ssu) */
  BANGER_RESULT_CHECK,  /* s */
  BANGER_RESULT_DATA,   /* ay */
  BANGER_RESULT_VMS,    /* as */
  BANGER_RESULT_ENGINE, /* sss */
  BANGER_RESULT_PLACE,  /* ss */
  BANGER_RESULT_DISK,   /* h */
  BANGER_N_RESULTS,
} BangerResult;

/* Runs in a worker thread; two handlers with the same key (VM id, or bridge) never run at once. */
typedef gboolean (*BangerHandler) (BangerCall *call, GError **error);
/* Runs in the main loop between two handlers; ends with banger_call_resume(). */
typedef void (*BangerInterlude) (BangerCall *call);

/* polkit's answer; @error %NULL means yes. Called once, unless the call is dropped. */
typedef void (*BangerAuthorityAnswer) (BangerCall *call, const GError *error);

#define BANGER_MAX_ARGS 4

struct BangerMethod {
  const char *name;
  const char *action; /* polkit */
  const char *also;   /* polkit, asked at the same time; NULL: the one is all */
  BangerResult result;
  BangerArg args[BANGER_MAX_ARGS];
  const BangerOption *options; /* NULL: the op id alone */
  BangerHandler handler;
  BangerInterlude interlude; /* nullable */
  BangerHandler finish;      /* after the interlude */
  gboolean grants;           /* hands out a resource: audited */
  gboolean routine;          /* changes nothing: logged at debug */
};

struct BangerCall {
  BangerDispatch *daemon;
  const BangerRoot *root;
  const BangerMethod *method; /* NULL: only to be refused */
  char *op_id;
  uid_t caller; /* (uid_t) -1 until the bus vouched for it */
  uid_t owner;  /* whose VMs: the one owner, also when root calls */
  gint64 started;

  /* Arguments, by kind; NULL or 0 if the method has none such. Owned by the call. */
  const char *strings[BANGER_N_ARGS];
  guint64 cow_bytes;
  gboolean replace; /* option of CopyDisk: the disk that is there stays until the copy is whole */
  gboolean fresh;   /* option of CreateSnapshot and PrepareVm: the VM never ran */
  char *from;       /* likewise: whose disk it starts with, or NULL */
  gboolean nat;     /* option of PrepareVm */
  char *image;      /* option of PrepareVm, a checked id; NULL: it gets no root disk */
  int signal;
  guint32 memory_mib; /* option of LaunchVmm; 0: not given */
  char *template_id;  /* likewise: whose guest is loaded, or NULL */
  gboolean mapped;    /* likewise: the guest's memory is the file that it is saved to */
  GPtrArray *files;   /* of BangerDiskFile, borrowed from the message */
  GPtrArray *keep;    /* of char *, borrowed from the message; also those of SetReach */
  GArray *ports;      /* of guint16 */

  /* Results, filled by the handler. */
  char *text, *device;
  guint32 pid;
  int pidfd; /* -1 */
  int disk;  /* a descriptor, -1 */
  gboolean running;
  int exit_code;   /* -1 unknown */
  int exit_signal; /* 0 unknown */
  GPtrArray *leases;
  GBytes *data;
  GPtrArray *vms; /* of char * */
  BangerEngineReport engine;
  gpointer stage; /* what the handler leaves for the interlude and finish */
  GDestroyNotify stage_free;

  /* dispatch.c's own: */
  GError *early;            /* what was wrong before the caller was known */
  BangerQuestion *question; /* polkit is being asked */
  void (*withdraw) (BangerQuestion *question);
  sd_bus_slot *watch; /* the caller's leaving */
  gboolean counted;   /* among its uid's calls of this second */

  /* call.c's own: */
  BangerCalls *calls;
  sd_bus_message *message;
  char *sender;
  char *key;
  GPtrArray *claims;  /* further keys, or NULL */
  BangerHandler next; /* what the worker runs */
  gboolean active;    /* its handler has begun */
};

static inline const char *
banger_call_vm (const BangerCall *call)
{
  return call->strings[BANGER_ARG_VM];
}

/** banger_calls_new: the calls of one daemon that have no reply yet. */
BangerCalls *banger_calls_new (sd_bus *bus);
void banger_calls_free (BangerCalls *calls);
/** banger_calls_of: how many of them are @uid's. */
guint banger_calls_of (BangerCalls *calls, uid_t uid);
/** banger_calls_drain: begins no handler any more and runs the main loop until none runs. */
void banger_calls_drain (BangerCalls *calls);

/** banger_call_new: one more, of nobody yet; @method: (nullable). Returns: (transfer none). */
BangerCall *banger_call_new (BangerCalls *calls, sd_bus_message *message, const BangerMethod *method);
/** banger_call_queue: runs the method of @call as soon as no other call for its VM or bridge runs, and ends it. */
void banger_call_queue (BangerCall *call);
/** banger_call_end: audits, replies (@error: (nullable)) and frees. */
void banger_call_end (BangerCall *call, const GError *error);
/** banger_call_drop: frees a call that has not been queued, without a word: nobody waits for it. */
void banger_call_drop (BangerCall *call);
/** banger_call_reply_error: to a message that may have no call. Negative errno on failure. */
int banger_call_reply_error (sd_bus_message *message, const GError *error, const char *op_id);

/** banger_call_resume: the interlude is over; @error (transfer full, nullable) ends the call. */
void banger_call_resume (BangerCall *call, GError *error);
/**
 * banger_call_claim:
 * For interludes: takes the key @vm as well until the end of @call, so that no other call for that VM runs meanwhile.
 * Returns: %FALSE if one runs or waits already.
 */
gboolean banger_call_claim (BangerCall *call, const char *vm);
/** banger_call_bus: for interludes only: worker threads never touch the bus. */
sd_bus *banger_call_bus (BangerCall *call);

/* args.c */
extern const BangerOption banger_options_launch[];
extern const BangerOption banger_options_copy[];
extern const BangerOption banger_options_prepare[];
extern const BangerOption banger_options_snapshot[];
const char *banger_arg_name (BangerArg arg);
const char *banger_arg_type (BangerArg arg);
const char *banger_result_type (BangerResult result);
/** banger_result_names: the names of the results, each ended by NUL, together ended by an empty one. */
const char *banger_result_names (BangerResult result);
/** banger_call_read_args: reads and gates the arguments and the options of @call->message from its start. */
gboolean banger_call_read_args (BangerCall *call, GError **error);
/** banger_call_read_op_id: Returns: (transfer full): the op id in the options of @message, or a new one. */
char *banger_call_read_op_id (sd_bus_message *message);
/** banger_call_reply: the method return with the results of @call. Negative errno on failure. */
int banger_call_reply (BangerCall *call);

/* methods.c: the table, ended by a row without a name. */
extern const BangerMethod banger_methods[];
/** banger_method_find: %NULL if there is none. */
const BangerMethod *banger_method_find (const char *name);
/** banger_method_signature: Returns: (transfer full): of the arguments. */
char *banger_method_signature (const BangerMethod *method);
