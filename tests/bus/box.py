"""A test program in namespaces of its own, so that several run at once, each sees what it left behind and nothing of the others,
and nothing of it goes on when it is ended.

Used by harness.main().
Its own: processes, network, mounts, /run, cgroups, and a number that names its users and folders. The machine's: files, users,
loop devices.
"""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import devstack

PLACE = "BANGER_TEST_BOX"  # in the environment of what is in one: its number
PLACES = 90
PIDS = 100000
PR_SET_PDEATHSIG = 1
SET_UP = """set -e
mount -t tmpfs -o mode=755 none /run
mkdir /run/lock /run/outer
mount --rbind /sys/fs/cgroup /run/outer
mount -t sysfs none /sys
mount --rbind /run/outer /sys/fs/cgroup
umount -R -l /run/outer
rmdir /run/outer
umount -l "$1"
mount -t cgroup2 none "$1"
ip link set lo up
shift
"$@"
"""  # the shell stays: who is PID 1 has no default signals, and is to reap


def number():
    """Of the calling process, and of no other one in any box: below ten million."""
    return int(os.environ.get(PLACE, "0")) * PIDS + os.getpid() % PIDS


def ours(path):
    """Whether a test's file at @path can be of this box."""
    return PLACE not in os.environ or re.search(rf"/banger-test-{os.environ[PLACE]}\d{{5}}(?!\d)", path) is not None


def inode(folder):
    """Of a cgroup, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        return folder.stat().st_ino
    return None


def populated(folder):
    """Whether a process is in a cgroup, or below it."""
    with contextlib.suppress(FileNotFoundError):
        return "populated 1" in (folder / "cgroup.events").read_text(encoding="ascii")
    return False


def gone(folder):
    """Removes a cgroup with what is below, unless a process is in it: what is empty there may be about to be used."""
    if not populated(folder):
        for path, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
    return inode(folder) is None


def sweep(i):
    """Users and folders of a program that was killed in that place: what begins there now has the same numbers."""
    for base in pathlib.Path("/var/lib").glob(f"banger-test-{i}" + "[0-9]" * 5):
        for kind in ("bt", "bx"):
            for program in ("userdel", "groupdel"):
                subprocess.run([program, kind + base.name.removeprefix("banger-test-")], check=False, capture_output=True)
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def alone(folder):
    """While nobody else chooses a place."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def take(root):
    """Puts this process into a cgroup below @root that nobody else is in: its folder's number."""
    with alone(root):
        for i in range(1, PLACES + 1):
            folder = root / f"banger-test-box-{i}"
            if gone(folder):  # or there was none
                folder.mkdir()
                (folder / "cgroup.procs").write_text("0", encoding="ascii")
                return i
    raise SystemExit(f"all {PLACES} boxes are in use")


def tidy(root):
    """Takes away what is left below @root of programs that were killed: later ones would, and who compares before and after see it go."""
    with alone(root):
        for i in range(1, PLACES + 1):
            folder = root / f"banger-test-box-{i}"
            if folder.is_dir() and gone(folder):
                sweep(i)


@contextlib.contextmanager
def place(root):
    """The number of a cgroup below @root that is ours alone; this process is in it meanwhile."""
    own = next(line.removeprefix("0::/") for line in pathlib.Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
               if line.startswith("0::/"))
    i = take(root)
    folder = root / f"banger-test-box-{i}"
    mine = inode(folder)

    def left():
        with alone(root):
            return inode(folder) != mine or gone(folder)

    try:
        yield i
    finally:
        (root / own / "cgroup.procs").write_text("0", encoding="ascii")
        devstack.wait_for(f"an empty {folder}", 60, left)


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def enter():
    """Runs this program again in a box, and ends as it does; nothing where it is in one, may not make one, or has no cgroup2."""
    root = devstack.cgroup2_root()
    if PLACE in os.environ or os.getuid() != 0 or not root:
        return
    with place(pathlib.Path(root)) as i:
        sweep(i)
        child = subprocess.Popen(["unshare", "--mount", "--pid", "--net", "--cgroup", "--fork", "--kill-child", "--mount-proc",
                                  "sh", "-c", SET_UP, "sh", root, sys.executable, *sys.orig_argv[1:]],
                                 env=os.environ | {PLACE: str(i)}, preexec_fn=die_with_parent)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        status = child.wait()
    sys.exit(status if status >= 0 else 128 - status)
