#!/usr/bin/python3
"""Containerfiles, built by buildah as somebody who has no rights: what comes of them, what is said, and what a cancelled one leaves.

Usage: test_containerfile.py IMAGE-MAKE. Needs root to be somebody with subordinate ids, buildah, busybox and user namespaces; skips with the
name of what is missing.
"""

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True

BUSYBOX = "/bin/busybox"
GOOD = """FROM scratch
COPY busybox /bin/sh
COPY etc/ /etc/
ENV A=b
RUN ["/bin/sh", "-c", "echo $A >/made"]
WORKDIR /srv
ENTRYPOINT ["/bin/sh"]
"""


def somebody():
    """A user whose subordinate ids are enough; None: there is none."""
    names = [line.split(":")[0] for line in pathlib.Path("/etc/subuid").read_text(encoding="ascii").splitlines() if int(line.split(":")[2]) >= 65536]
    for entry in pwd.getpwall():
        if entry.pw_name in names and entry.pw_uid != 0:
            return entry
    return None


def missing():
    if os.geteuid() != 0:
        return "root"
    for name in ("buildah", "newuidmap", "debugfs"):
        if not shutil.which(name):
            return name
    if not os.path.exists(BUSYBOX):
        return "busybox-static"
    user = somebody()
    if not user:
        return "a user with 65536 subordinate ids"
    can = subprocess.run(["unshare", "--user", "true"], user=user.pw_uid, group=user.pw_gid, extra_groups=[], capture_output=True, check=False)
    return None if can.returncode == 0 else "user namespaces"


@unittest.skipIf(missing(), f"missing: {missing()}")
class Containerfile(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="banger-containerfile.", dir="/var/tmp")
        self.addCleanup(temporary.cleanup)
        self.user, self.folder = somebody(), pathlib.Path(temporary.name)
        for name in ("home", "run", "context/etc", "state/images/one"):
            (self.folder / name).mkdir(parents=True)
        self.image, self.context = self.folder / "state/images/one", self.folder / "context"
        shutil.copy(BUSYBOX, self.context / "busybox")
        (self.context / "etc/own").write_text("own\n", encoding="ascii")
        (self.folder / "run").chmod(0o700)
        config = self.folder / "home/.config/containers"
        config.mkdir(parents=True)
        (config / "storage.conf").write_text('[storage]\ndriver = "vfs"\n', encoding="ascii")
        subprocess.run(["chown", "-R", f"{self.user.pw_uid}:{self.user.pw_gid}", self.folder], check=True)
        self.addCleanup(subprocess.run, ["buildah", "unshare", "rm", "-rf", self.folder / "home"], **self.somebody(), check=False, capture_output=True)

    def somebody(self):
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder / "home"), "XDG_RUNTIME_DIR": str(self.folder / "run"),
                       "BANGER_INTAKE": os.environ["BANGER_INTAKE"]}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": [], "cwd": "/", "env": environment}

    def start(self, text):
        path = self.folder / "Containerfile"
        path.write_text(text, encoding="ascii")
        return subprocess.Popen([MAKER, self.image, "containerfile", path, self.context], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **self.somebody())

    def build(self, text):
        with self.start(text) as child:
            out, err = child.communicate(timeout=600)
        return child.returncode, out, err

    def containers(self):
        return subprocess.run(["buildah", "containers", "-q"], capture_output=True, text=True, check=True, **self.somebody()).stdout

    def nothing_is_left(self):
        self.assertEqual(self.containers(), "")
        self.assertEqual(os.listdir(self.folder / "state/blobs"), ["sha256"])
        self.assertEqual(os.listdir(self.folder / "state/blobs/sha256"), [])

    def test_built(self):
        status, out, err = self.build(GOOD)
        self.assertEqual(status, 0, err)
        said = subprocess.run(["debugfs", "-R", "cat /made", self.image / "rootfs.ext4"], capture_output=True, text=True, check=True).stdout
        self.assertEqual(said, "b\n")
        self.assertIn("setting 0 A=b\n", out)
        self.assertIn("setting 1 /srv\n", out)
        self.nothing_is_left()

    def test_refused(self):
        for text, words in (("FROM scratch\nNOTHING x\n", "[Uu]nknown instruction"), (GOOD.replace("echo", "exit 3;"), "buildah: .*exit status 3"),
                            ("FROM scratch\nCOPY ../../etc/shadow /x\n", "no such file|not found")):
            status, _, err = self.build(text)
            self.assertEqual(status, 1)
            self.assertRegex(err.splitlines()[-1], "org.banger.Error.Failed: .*" + words)
            self.assertEqual(os.listdir(self.image), [])
            self.nothing_is_left()

    def test_who_has_no_ids(self):
        """buildah's own words do not say what is missing."""
        self.folder.chmod(0o755)
        (self.folder / "Containerfile").write_text(GOOD, encoding="ascii")
        done = subprocess.run([MAKER, self.folder, "containerfile", self.folder / "Containerfile", self.context], capture_output=True, text=True, check=False,
                              **{**self.somebody(), "user": 65534, "group": 65534})
        self.assertRegex(done.stderr, r"NotSupported: /etc/subuid gives the user \S+ no range of 65536 ids; as root: usermod")

    def test_ended(self):
        """What it started ends with it, also in a session of its own, and its container goes."""
        slow = GOOD.replace("COPY etc/", "COPY busybox /bin/setsid\nCOPY etc/").replace('"echo $A >/made"', '"(cd /; exec setsid sh -c \'while :; do :; done\') & while :; do :; done"')
        with self.start(slow) as child:
            def running(begin=""):
                found = subprocess.run(["pgrep", "-u", str(self.user.pw_uid), "-f", begin + "while :; do :; done"], capture_output=True, text=True, check=False)
                return found.stdout.split()
            end = time.monotonic() + 100
            while not running("^sh -c "):
                self.assertIsNone(child.poll())
                self.assertLess(time.monotonic(), end)
                time.sleep(0.1)
            child.send_signal(signal.SIGKILL)
        while running() or self.containers():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)


if __name__ == "__main__":
    MAKER = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
