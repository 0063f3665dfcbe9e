#!/usr/bin/python3
"""A command as another user, out of reach of the terminal that root sits at.

Used by scripts/dev-stack and by scripts/quickstart: terminal.py COMMAND...; the exit status is the command's.
Never hands a descriptor of a terminal on: whoever has one can type into it (TIOCSTI), read from it later, and write to it.
"""

import contextlib
import fcntl
import os
import pty
import selectors
import signal
import sys
import termios
import tty

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


def copy_size(source, target):
    with contextlib.suppress(OSError):
        fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8))


def child(argv, env, become, terminals, slave):
    """In the new process: a session of its own, with @slave as its terminal where root's was. Does not return."""
    try:
        os.setsid()
        if slave is not None:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in terminals:
                os.dup2(slave, fd)
            if slave > 2:
                os.close(slave)
        become()
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(2, f"cannot run {argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def open_pair(terminals):
    """A pseudo-terminal with the size and the manners of root's; (None, None) without one of root's."""
    if not terminals:
        return None, None
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(terminals[0])
    if 0 not in terminals:
        attributes[1] &= ~termios.OPOST  # root's does it, as it is not made raw
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    copy_size(terminals[0], master)
    return master, slave


def read(fd):
    """b"" at the end, also where nobody has the other side of a pseudo-terminal open any more."""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""


class Relay:
    def __init__(self, pid, terminals, master, wakeup):
        self.pid, self.terminals, self.master, self.wakeup = pid, terminals, master, wakeup
        self.output = next((fd for fd in terminals if fd), 0)
        self.selector = selectors.DefaultSelector()
        self.pidfd = os.pidfd_open(pid)
        for fd, take in ((self.pidfd, self.ended), (wakeup, self.take_signals), (master, self.take_output),
                         (0 if 0 in terminals else None, self.take_input)):
            if fd is not None:
                self.selector.register(fd, selectors.EVENT_READ, take)

    def ended(self):
        return True

    def take_signals(self):
        for number in os.read(self.wakeup, 256):
            if number == signal.SIGWINCH and self.master is not None:
                copy_size(self.terminals[0], self.master)
            elif number in FORWARDED:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def take_output(self):
        data = read(self.master)
        if data:
            write_all(self.output, data)
        else:
            self.selector.unregister(self.master)

    def take_input(self):
        data = read(0)
        if data:
            write_all(self.master, data)
        else:  # root's terminal is gone
            self.selector.unregister(0)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGHUP)

    def run(self):
        while not any([key.data() for key, _ in self.selector.select()]):
            pass
        if self.master is not None:  # what the command wrote last
            os.set_blocking(self.master, False)
            while data := read(self.master):
                write_all(self.output, data)
        os.close(self.pidfd)


@contextlib.contextmanager
def raw(terminals):
    if 0 not in terminals:
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def run(argv, env=None, become=lambda: None):
    """@argv with @become called in the new process. Returns: its exit status, 128 and the number of a signal."""
    terminals = [fd for fd in range(3) if os.isatty(fd)]
    master, slave = open_pair(terminals)
    wakeup, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    before = {number: signal.signal(number, lambda *_: None) for number in (*FORWARDED, signal.SIGWINCH)}
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        child(argv, os.environ if env is None else env, become, terminals, slave)
    if slave is not None:
        os.close(slave)
    with raw(terminals):
        Relay(pid, terminals, master, wakeup).run()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.set_wakeup_fd(-1)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
