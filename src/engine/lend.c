/* A file that QEMU is to map privately: the answers to what it opens.
 * Never lends more than what may be read. */
#include "engine/lend.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "engine/engine-log.h"

struct BangerLend {
  int listener, file_fd;
  guint source;
};

typedef union {
  struct cmsghdr header;
  char room[CMSG_SPACE (sizeof (int))];
} Control;

#define LOAD(member) BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, member))
#define IF_NOT(value, skipped) BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, value, 0, skipped)
#define RETURN(what) BPF_STMT (BPF_RET | BPF_K, what)

static int
send_fd (int socket, int fd)
{
  Control control = { .header = { CMSG_LEN (sizeof fd), SOL_SOCKET, SCM_RIGHTS } };
  char byte = 0;
  struct iovec bytes = { &byte, 1 };
  struct msghdr message = {
    .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
  };
  memcpy (CMSG_DATA (&control.header), &fd, sizeof fd);
  return sendmsg (socket, &message, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

int
banger_lend_child (int socket)
{
  struct sock_filter rows[] = {
    LOAD (arch),
    IF_NOT (AUDIT_ARCH_X86_64, 5),
    LOAD (nr),
    IF_NOT (SYS_openat, 3),
    LOAD (args[2]),
    IF_NOT (O_RDWR, 1),
    RETURN (SECCOMP_RET_USER_NOTIF),
    RETURN (SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { G_N_ELEMENTS (rows), rows };
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    return -1;
  int listener = (int)syscall (SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
  return listener < 0 ? -1 : send_fd (socket, listener); /* close-on-exec */
}

static int
receive_fd (int socket)
{
  Control control = { 0 };
  char byte;
  int fd = -1;
  struct iovec bytes = { &byte, 1 };
  struct msghdr message = {
    .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
  };
  if (recvmsg (socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR (&message)
      && control.header.cmsg_type == SCM_RIGHTS)
    memcpy (&fd, CMSG_DATA (&control.header), sizeof fd);
  return fd;
}

/* There is one other that QEMU opens so, /dev/null, at which it looks what locks there are: a file does as well. */
static void
answer (BangerLend *lend, guint64 id)
{
  struct seccomp_notif_resp go_on = { .id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
  struct seccomp_notif_addfd add = { .id = id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (__u32)lend->file_fd };
  if (ioctl (lend->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) >= 0)
    return;
  vmm_warning ("QEMU opens the guest's memory itself: %s", g_strerror (errno));
  (void)ioctl (lend->listener, SECCOMP_IOCTL_NOTIF_SEND, &go_on);
}

static gboolean
handle_question (int fd, GIOCondition condition, gpointer data)
{
  BangerLend *lend = data;
  struct seccomp_notif question = { 0 };
  if (condition & G_IO_IN && ioctl (fd, SECCOMP_IOCTL_NOTIF_RECV, &question) == 0)
    answer (lend, question.id);
  else if (condition & (G_IO_HUP | G_IO_ERR)) {
    lend->source = 0;
    return G_SOURCE_REMOVE;
  }
  return G_SOURCE_CONTINUE;
}

BangerLend *
banger_lend_new (int socket, int file_fd)
{
  int listener = receive_fd (socket);
  if (listener < 0) {
    vmm_warning ("QEMU opens the guest's memory itself: no seccomp listener");
    return NULL;
  }
  BangerLend *lend = g_new0 (BangerLend, 1);
  lend->listener = listener;
  lend->file_fd = fcntl (file_fd, F_DUPFD_CLOEXEC, 3);
  lend->source = g_unix_fd_add (listener, G_IO_IN | G_IO_HUP | G_IO_ERR, handle_question, lend);
  return lend;
}

void
banger_lend_free (BangerLend *lend)
{
  if (!lend)
    return;
  if (lend->source != 0)
    g_source_remove (lend->source);
  banger_clear_fd (&lend->file_fd);
  banger_clear_fd (&lend->listener);
  g_free (lend);
}
