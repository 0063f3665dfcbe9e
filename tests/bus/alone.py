"""bangerd alone on a session bus of its own: its VMs are real ones above a helper and guests that are made up, its images and
kernels a few bytes (tests/unit/manager: fake-helper.c, fake-host.c).

As root the daemon runs as nobody, else as the caller.
Never needs a helper, a network or a VMM.
"""

import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import harness
from gi.repository import Gio, GLib

BANGERD = sys.argv.pop(1)
ROOT = os.getuid() == 0
OWNER = pwd.getpwnam("nobody") if ROOT else pwd.getpwuid(os.getuid())
FOREIGN = pwd.getpwnam("games")
NAME, PATH, MANAGER = harness.MANAGER
OP_ID = re.compile(r" \(op-[0-9a-f]{8}\)$")
ERROR = "org.banger.Error."
STANDARD = "org.freedesktop.DBus.Error."
BUS_CONF = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>
"""
CONFIG = """version = "0.1.0"
[owner]
user = "{user}"
uid = {uid}
gid = {gid}
home = "{base}/home"
[paths]
state = "{base}/state"
runtime = "{base}/run"
cache = "{base}/cache"
"""


def until(what, condition, seconds=60):
    """Waits for an end that has no event of its own."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


class Ear:
    """Signals of the manager, in the order of their arrival, on a connection of its own."""

    def __init__(self, address):
        self.heard = []
        self.context = GLib.MainContext.new()
        self.context.push_thread_default()
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        self.connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
        self.connection.set_exit_on_close(False)
        self.connection.signal_subscribe(NAME, None, None, None, None, Gio.DBusSignalFlags.NONE, self._hear)
        self.connection.call_sync("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId", None, None,
                                  Gio.DBusCallFlags.NONE, -1, None)

    def _hear(self, _connection, _sender, path, _interface, member, parameters):
        self.heard.append((member, path, parameters.unpack()))

    def wait(self, member, path=None, seconds=60):
        """The arguments of the first signal @member (of the object @path in its arguments)."""

        def found():
            while self.context.iteration(False):
                pass
            return next((row for row in self.heard if row[0] == member and path in (None, row[1], row[2][0])), None)

        return until(f"{member} {path}", found, seconds)

    def close(self):
        self.connection.close_sync(None)
        self.context.pop_thread_default()


class Daemon:
    """A bus, directories and bangerd."""

    def __init__(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="banger-manager-"))
        self.base.chmod(0o755)
        self.state, self.run = (self.base / kind / str(OWNER.pw_uid) for kind in ("state", "run"))
        for folder in (self.state, self.run, self.base / "settings"):
            folder.mkdir(parents=True, mode=0o700)
            if ROOT:
                os.chown(folder, OWNER.pw_uid, OWNER.pw_gid)
        settings = self.base / "settings" / "banger"
        settings.mkdir()
        (settings / "config.toml").write_text(harness.NO_TEMPLATES, encoding="utf-8")
        if ROOT:
            os.chown(settings, OWNER.pw_uid, OWNER.pw_gid)
        self.orders = self.base / "orders"
        (self.base / "guest").touch()
        shutil.copytree(harness.SOURCE / "catalog", self.base / "catalogs")
        self.program = str(shutil.copy(BANGERD, self.base / "bangerd"))
        self.address = f"unix:path={self.base}/bus"
        (self.base / "install.toml").write_text(CONFIG.format(base=self.base, user=OWNER.pw_name, uid=OWNER.pw_uid,
                                                              gid=OWNER.pw_gid), encoding="utf-8")
        (self.base / "bus.conf").write_text(BUS_CONF.format(socket=f"{self.base}/bus"), encoding="utf-8")
        self.process = None
        self.logs = 0
        self.bus = subprocess.Popen(["dbus-daemon", "--nofork", "--print-address", f"--config-file={self.base}/bus.conf"],
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.bus.stdout.readline()  # printed once it listens; the socket is there earlier
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def spawn(self, as_owner=True, stderr=None, closed=False, **environ):
        """bangerd with stderr in a file of its own: (process, path of the log)."""
        self.logs += 1
        log = self.base / f"log-{self.logs}"
        who = {"user": OWNER.pw_uid, "group": OWNER.pw_gid, "extra_groups": []} if ROOT and as_owner else {}
        env = {"PATH": os.environ["PATH"], "DBUS_SESSION_BUS_ADDRESS": self.address, "BANGER_LOG_LEVEL": "debug",
               "BANGER_CONFIG": str(self.base / "install.toml"), "XDG_CONFIG_HOME": str(self.base / "settings"),
               "BANGER_GUEST": str(self.base / "guest"), "BANGER_INTAKE": str(self.base / "none"), "BANGER_CATALOGS": str(self.base / "catalogs"),
               "FAKE_RUN": str(self.run), "FAKE_ORDERS": str(self.orders), **environ}
        with open(log, "w", encoding="utf-8") as f:
            return subprocess.Popen([self.program], env=env, stderr=stderr or f, cwd="/", **who,
                                    preexec_fn=(lambda: os.closerange(0, 3)) if closed else None), log

    @contextlib.contextmanager
    def helper(self, order):
        """A method of the helper "fail"s or "hangs" meanwhile."""
        new = self.base / "orders.new"
        new.write_text(order, encoding="utf-8")
        new.rename(self.orders)
        yield
        self.orders.unlink()

    def start(self, **environ):
        self.process, self.log = self.spawn(**environ)
        until("bangerd's name", self.has_name)

    def other_bus(self):
        """Configuration of a second session bus."""
        path = self.base / "other.conf"
        path.write_text(BUS_CONF.format(socket=f"{self.base}/other"), encoding="utf-8")
        return path

    def has_name(self):
        return harness.call(self.address, ("org.freedesktop.DBus", "/", "org.freedesktop.DBus"), "NameHasOwner",
                            "(s)", (NAME,))[0]

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(60)

    def restart(self, number=signal.SIGTERM):
        self.stop(number)
        until("the name to go", lambda: not self.has_name())
        self.start()

    def call(self, method, signature="()", args=(), path=PATH, interface=MANAGER, **kwargs):
        return harness.call(self.address, (NAME, path, interface), method, signature, args, **kwargs)

    def managed(self):
        """Objects: path -> interface -> property -> value."""
        return self.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager")[0]

    def job(self, path):
        return self.managed()[path]["org.banger.Job"]

    def names(self, kind):
        return sorted(v[f"org.banger.{kind}"]["Name"] for v in self.managed().values() if f"org.banger.{kind}" in v)

    def records(self):
        """All log records of this daemon."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def close(self):
        if self.process and self.process.poll() is None:
            self.stop()
        self.bus.terminate()
        self.bus.wait()
        self.bus.stdout.close()
        bad = [p for p in self.base.glob("log-*") if harness.BAD_LOG.search(p.read_text(encoding="utf-8"))]
        text = "".join(p.read_text(encoding="utf-8") for p in bad)
        shutil.rmtree(self.base)
        if text:
            raise AssertionError(text)


class BusTest(unittest.TestCase):
    """One bus and daemon per test."""

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.call = self.daemon.call

    def refused(self, name, method, signature="()", args=(), **kwargs):
        """The message of the error @name that the call ends with; it ends in an op id."""
        with self.assertRaises(harness.CallError) as caught:
            self.call(method, signature, args, **kwargs)
        self.assertEqual(caught.exception.name, name, caught.exception.message)
        self.assertRegex(caught.exception.message, OP_ID)
        return caught.exception.message.removeprefix(f"GDBus.Error:{name}: ")  # GLib's own addition

    def prepare(self):
        """A kernel and an image, both named default."""
        self.call("ImportKernel", "(ssa{sv})", ("default", "", harness.options(wait=True)))
        self.call("BuildImage", "(sa{sv})", ("default", harness.options(wait=True)))

    def create(self, name="web", **options):
        return self.call("CreateVM", "(sa{sv})", (name, harness.options(**options)))[0]

    def ear(self):
        ear = Ear(self.daemon.address)
        self.addCleanup(ear.close)
        return ear
