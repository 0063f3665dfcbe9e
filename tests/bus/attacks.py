"""What the attacks on the root helper have in common: one connection of root's, and that nothing changed.

Never touches a process, link, mount or file that this stack did not make: what is attacked is its own.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ElementTree

import harness
import devstack
from gi.repository import Gio, GLib
from harness import HELPER, SOURCE, CallError
from test_privileged import OP, HelperTest

DENIED = "org.freedesktop.DBus.Error.AccessDenied"
NOT_AUTHORIZED = "org.banger.Error.NotAuthorized"
WRONG_STATE = "org.banger.Error.WrongState"


def contract():
    """(name, [argument names], [argument types]) of each method."""
    tree = ElementTree.parse(SOURCE / "introspection" / "org.banger.Privileged.xml").getroot()
    for method in tree.iter("method"):
        args = [a for a in method.iter("arg") if a.get("direction") == "in"]
        yield method.get("name"), [a.get("name") for a in args], [a.get("type") for a in args]


class Client:
    """One connection of root's, for calls in a row and for many at once."""

    def __init__(self, address):
        self.connection = Gio.DBusConnection.new_for_address_sync(
            address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
            | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
        self.connection.set_exit_on_close(False)
        self.waiting = 0
        self.answers = []  # True or a CallError, as they come

    @staticmethod
    def error(error):
        name = Gio.DBusError.get_remote_error(error)
        return CallError(name or f"local.{error.domain}", error.message.removeprefix(f"GDBus.Error:{name}: "))

    def call(self, method, body, interface=HELPER[2], path=HELPER[1], flags=Gio.DBusCallFlags.NONE):
        """The unpacked reply; CallError raised."""
        try:
            return self.connection.call_sync(HELPER[0], path, interface, method, body, None,
                                             Gio.DBusCallFlags.NO_AUTO_START | flags, 300000, None).unpack()
        except GLib.Error as error:
            raise self.error(error) from None

    def send(self, method, body):
        """The answer comes into self.answers while wait() runs."""
        def done(connection, result):
            self.waiting -= 1
            try:
                connection.call_finish(result)
                self.answers.append(True)
            except GLib.Error as error:
                self.answers.append(self.error(error))
        self.waiting += 1
        self.connection.call(HELPER[0], *HELPER[1:], method, body, None, Gio.DBusCallFlags.NO_AUTO_START, 300000, None,
                             done)

    def wait(self, until=0, seconds=300):
        """Runs the main loop until at most @until calls wait."""
        end = time.monotonic() + seconds
        while self.waiting > until:
            if not GLib.MainContext.default().iteration(False):
                time.sleep(0.005)
            if time.monotonic() > end:
                raise AssertionError(f"{self.waiting} calls have no answer after {seconds} s")

    def close(self):
        if not self.connection.is_closed():
            self.connection.close_sync(None)


class AttackTest(HelperTest):
    user = "root"  # the first two checks let root through like the owner; its calls need no child

    def setUp(self):
        super().setUp()
        self.client = Client(self.stack.system_address)
        self.addCleanup(self.client.close)
        self.runtime = pathlib.Path(self.stack.install["runtime"])

    def give_back(self):
        super().give_back()
        for folder in (self.runtime / str(self.stack.owner.pw_uid)).iterdir():
            shutil.rmtree(folder)

    def world(self):
        """What a call could change: leases, files, links, rules, cgroups, mounts of this stack."""
        def tree(top):
            found = {}
            for folder, folders, files in os.walk(top):
                for name in folders + files:
                    path = os.path.join(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        st = os.lstat(path)
                        found[path] = (st.st_mode, st.st_uid, st.st_nlink, st.st_size, st.st_ino)
            return found
        prefix = f"tap-fc-{self.stack.number:06x}"
        mine = re.compile(rf"{prefix}|{re.escape(self.guest)}\b")
        rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        return {
            "leases": {p.name: p.read_bytes() for p in (self.runtime / "leases").iterdir()},
            "state": tree(self.stack.state), "runtime": tree(self.runtime),
            "links": sorted(n for n in os.listdir("/sys/class/net") if n == self.bridge or n.startswith(prefix)),
            "rules": [line.strip() for line in rules.splitlines() if mine.search(line)],
            "cgroups": sorted(path for path, _, _ in os.walk(self.stack.cgroup())),
            "mounts": [line.split()[4] for line in harness.read_text("/proc/self/mountinfo").splitlines()
                       if f"banger-test-{self.stack.number}" in line],
        }

    @contextlib.contextmanager
    def unchanged(self):
        before = self.world()
        yield
        self.assertEqual(self.world(), before)

    def check_refusal(self, error, names):
        """Typed, short, printable, with the op id."""
        self.assertIn(error.name, names, error.message[:300])
        self.assertRegex(error.message, OP)
        self.assertLess(len(error.message), 600)
        self.assertTrue(error.message.isprintable(), ascii(error.message[:300]))

    def lease_path(self, vm=None):
        return self.runtime / "leases" / f"{vm or self.vm}.json"

    def forge(self, vm=None, uid=None, **fields):
        """A lease as only root could write it; the helper must not believe it all the same."""
        lease = {"version": 1, "uid": self.stack.owner.pw_uid if uid is None else uid, "jail": 0, "pid": 0, "start": 0}
        path = self.lease_path(vm)
        path.write_text(json.dumps(lease | {k.replace("_", "-"): v for k, v in fields.items()}))
        self.addCleanup(path.unlink, missing_ok=True)
        return path

    def child(self, file, user, **kwargs):
        """A program of this folder as another user, who cannot read the checkout."""
        return subprocess.Popen(["/usr/bin/python3", "-c", (harness.HERE / file).read_text(encoding="utf-8")],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=user.pw_uid,
                                group=user.pw_gid, extra_groups=[], cwd="/", env={"PATH": devstack.SAFE_PATH}, **kwargs)
