/* What the manager and the guest agent agree on. See docs/guest.md.
 * Never changed in place: a new word is added, an old one keeps its meaning; no GLib, as the agent has none. */
#pragma once

#define BANGER_GUEST_PORT 1024                        /* vsock port on which the agent listens */
#define BANGER_GUEST_SERIAL_PORT "org.banger.agent.0" /* virtio-serial port where there is no vsock */
#define BANGER_GUEST_MAX_LINE 4096
#define BANGER_GUEST_CAN_EXEC                                                                                          \
  "exec" /* a word behind the version in the answer to hello: it knows `stream` and `exec` */
#define BANGER_GUEST_CAN_IDENTITY "identity" /* likewise: it knows `identity` */
#define BANGER_GUEST_CAN_NAMES "names"       /* likewise: `names` */
#define BANGER_GUEST_CAN_RECEIVE "receive"   /* likewise: it can run itself as `guest receive` */

/* Lines, each ended by '\n':
 *   host   "<verb> <token>[ args]"
 *   guest  "<token> ok[ text]" or "<token> error <text>"; unasked: "ready <boot-id>"
 * A host that connects first sends "\nhello <token>\n" and drops everything up to the answer with that token. What each
 * verb does is in docs/guest.md; a guest of an older banger answers a newer verb with an error. */

/* Files of the per-VM archive below this folder of the initramfs. */
#define BANGER_GUEST_CONFIG_DIR "/banger"
/* key=value lines: hostname address gateway dns mac root work mtu machine-id boot-token init names */
#define BANGER_GUEST_CONFIG_FILE "/banger/config"
#define BANGER_GUEST_AUTHORIZED_KEYS "/banger/authorized_keys"
#define BANGER_GUEST_HOST_KEY "/banger/ssh_host_ed25519_key" /* and .pub */
#define BANGER_GUEST_MODULES_DIR "/modules"                  /* *.ko, and `order` */
/* A line of `order`: a file name, then optionally " virtio:<n>[,<n>...]": wanted only where a virtio device of such a
 * type (virtio 1.2, section 5) is present. */

/* What `identity` has behind its line: parts, each "NAME LENGTH\n" and so many bytes. Those of a machine of its own have
 * the names of the files above; without them only these two are renewed: */
#define BANGER_GUEST_PART(path) ((path) + sizeof BANGER_GUEST_CONFIG_DIR)
#define BANGER_GUEST_PART_TIME "time"       /* CLOCK_REALTIME in microseconds, decimal */
#define BANGER_GUEST_PART_ENTROPY "entropy" /* bytes for the kernel's random pool */
#define BANGER_GUEST_PART_BOOT_ID "boot_id" /* as of /proc/sys/kernel/random/boot_id; with the files */
#define BANGER_GUEST_MAX_IDENTITY (256 << 10)
#define BANGER_GUEST_MIN_ENTROPY 32
#define BANGER_GUEST_MAX_ENTROPY 512

#define BANGER_GUEST_MAX_INIT 255 /* bytes of `init` */

/* Who this guest knows by a name below "vm": "ADDRESS=NAME,ADDRESS=NAME", each name without the domain; "-" is nobody. */
#define BANGER_GUEST_NOBODY "-"
#define BANGER_GUEST_MAX_NAMES 34
#define BANGER_GUEST_MAX_NAMES_BYTES (BANGER_GUEST_MAX_NAMES * (15 + 1 + 63 + 1))
#define BANGER_GUEST_HOST_NAME "host" /* the one of this machine */

/* In an image, the first that can be run: its init, and a server that lets people in. */
#define BANGER_GUEST_INITS                                                                                             \
  "/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/etc/init", "/bin/init", "/init"
#define BANGER_GUEST_SSH_SERVERS                                                                                       \
  "/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd", "/usr/local/sbin/sshd", "/usr/sbin/dropbear", "/usr/bin/dropbear",  \
      "/run/current-system/sw/bin/sshd"
/* A word behind the version in the answer to hello: nobody will listen for ssh, and ready does not mean that. */
#define BANGER_GUEST_NO_SSHD "no-sshd"

/* What banger-guest writes into files of the image between lines of somebody else's: by these it finds its own again. */
#define BANGER_GUEST_KEYS_BEGIN "# banger: begin (these lines are replaced at every start)"
#define BANGER_GUEST_KEYS_END "# banger: end"
#define BANGER_GUEST_HOSTS_MARK "# banger"
#define BANGER_GUEST_NAMES_MARK ".vm " BANGER_GUEST_HOSTS_MARK /* of those that follow the links */
#define BANGER_GUEST_RESOLV_MARK "# Written by banger at every start of this VM."

/* An extended attribute of what came from the owner's home folder ([[file_sync]]): an image of the VM has none of it. */
#define BANGER_GUEST_COPIED_XATTR "trusted.banger.copied"
#define BANGER_GUEST_UNPACK_COPIED "copied" /* the third word of `guest unpack` */

/* In the running guest. */
#define BANGER_GUEST_RUN_DIR "/run/banger"
#define BANGER_GUEST_BINARY "/run/banger/guest" /* `guest exec ARG...` runs argv given as percent-encoded words */
/* Whoever logs in by this name is root, with the program as login shell: no start-up file of root's own is read. */
#define BANGER_GUEST_LOGIN "banger-exec"
#define BANGER_GUEST_SHELL "/run/banger/shell"
#define BANGER_GUEST_WORDS_DIR "/run/banger/words" /* word lists of `guest keep`, for `guest exec --words` */
