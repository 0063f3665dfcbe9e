#!/usr/bin/python3
"""bangerd on a private session bus, with VMs and a host that are made up (fake-vm.c, fake-host.c).

Run by meson test; as root the daemon runs as nobody, else as the caller.
Never needs a helper, a network or a VMM.
"""

import concurrent.futures
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

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(SOURCE / "tests" / "bus"))

import harness  # noqa: E402
from gi.repository import Gio, GLib  # noqa: E402

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


def until(what, condition, seconds=10):
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

    def wait(self, member, path=None, seconds=10):
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
        self.state = self.base / "state" / str(OWNER.pw_uid)
        self.state.mkdir(parents=True, mode=0o700)
        if ROOT:
            os.chown(self.state, OWNER.pw_uid, OWNER.pw_gid)
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

    def spawn(self, as_owner=True, **environ):
        """bangerd with stderr in a file of its own: (process, path of the log)."""
        self.logs += 1
        log = self.base / f"log-{self.logs}"
        who = {"user": OWNER.pw_uid, "group": OWNER.pw_gid, "extra_groups": []} if ROOT and as_owner else {}
        env = {"PATH": os.environ["PATH"], "DBUS_SESSION_BUS_ADDRESS": self.address, "BANGER_LOG_LEVEL": "debug",
               "BANGER_CONFIG": str(self.base / "install.toml"), **environ}
        with open(log, "w", encoding="utf-8") as f:
            return subprocess.Popen([self.program], env=env, stderr=f, cwd="/", **who), log

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
        return self.process.wait(20)

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


class Contract(BusTest):
    def test_introspection_is_the_contract(self):
        self.prepare()
        job = self.create(wait=True)
        objects = self.daemon.managed()
        paths = {"Manager": PATH, "Job": job}
        for path, interfaces in objects.items():
            for kind in ("VM", "Image", "Kernel"):
                if f"org.banger.{kind}" in interfaces:
                    paths[kind] = path
        self.assertEqual(len(paths), 5)
        for kind, path in paths.items():
            with self.subTest(kind):
                live = self.call("Introspect", path=path, interface=harness.INTROSPECTABLE)[0]
                wanted = (SOURCE / "introspection" / f"org.banger.{kind}.xml").read_text(encoding="utf-8")
                self.assertEqual(harness.shape(live), harness.shape(wanted))

    def test_every_verb_exists_twice(self):
        rows = []
        for kind in ("Manager", "VM", "Image", "Kernel"):
            xml = (SOURCE / "introspection" / f"org.banger.{kind}.xml").read_text(encoding="utf-8")
            rows += [(kind, row[2]) for row in harness.shape(xml) if row[1] == "method"]
        manager = {name for kind, name in rows if kind == "Manager"}
        for kind, verb in rows:
            if kind != "Manager" and (kind, verb) != ("VM", "OpenConsole"):
                self.assertIn(verb if verb == "ImportWorkspace" else verb + kind, manager)

    def test_documented_options_are_the_options(self):
        text = (SOURCE / "docs" / "dbus.md").read_text(encoding="utf-8")
        table = re.findall(r"^\| (?:`(\w+)`)? *\| (?:`(\w+)\.(\w+)`)? *\| (.+) \|$", text, re.M)
        documented = {}
        for verb, kind, member, options in table:
            keys = sorted(re.findall(r"`([\w-]+)` \w+", options))
            documented |= {("Manager", verb): keys} if verb else {}
            documented |= {(kind, member): keys} if member else {}
        self.prepare()
        job = self.create(wait=True)
        paths = {kind: self.call(f"Get{kind}", "(s)", (name,))[0]
                 for kind, name in (("VM", "web"), ("Image", "default"), ("Kernel", "default"))}
        paths |= {"Manager": PATH, "Job": job}
        bad = harness.options(no_such_option=1)
        live = {}
        for kind, path in paths.items():
            xml = (SOURCE / "introspection" / f"org.banger.{kind}.xml").read_text(encoding="utf-8")
            for row in harness.shape(xml):
                types = [t for _, t, direction in row[5] if direction == "in"]
                if row[1] != "method" or types[-1:] != ["a{sv}"]:
                    continue
                name = "default" if "Image" in row[2] or "Kernel" in row[2] else "web"
                message = self.refused(STANDARD + "InvalidArgs", row[2], f"({''.join(types)})",
                                       (name, "/x")[:len(types) - 1] + (bad,), path=path, interface=row[0])
                known = message.split("known: ")[1].split(" (")[0]
                live[kind, row[2]] = sorted(set(known.split(", ")) - {"none"})
        self.assertEqual(live, documented)

    def test_properties_of_the_manager(self):
        rows = self.call("GetAll", "(s)", (MANAGER,), interface="org.freedesktop.DBus.Properties")[0]
        self.assertEqual(sorted(rows), ["Features", "HelperAvailable", "Version"])
        self.assertFalse(rows["HelperAvailable"])

    def test_log_control(self):
        control = {"path": "/org/freedesktop/LogControl1", "interface": "org.freedesktop.DBus.Properties"}
        interface = "org.freedesktop.LogControl1"
        self.assertEqual(self.call("Get", "(ss)", (interface, "LogLevel"), **control)[0], "debug")
        self.call("Set", "(ssv)", (interface, "LogLevel", GLib.Variant("s", "info")), **control)
        self.assertEqual(self.call("Get", "(ss)", (interface, "LogLevel"), **control)[0], "info")
        self.refused(STANDARD + "UnknownProperty", "Get", "(ss)", (interface, "Nope"), **control)
        for property, value, error in (("LogLevel", GLib.Variant("s", "loud"), "InvalidArgs"),
                                       ("LogLevel", GLib.Variant("u", 7), "InvalidArgs"),
                                       ("LogTarget", GLib.Variant("s", "kmsg"), "PropertyReadOnly"),
                                       ("SyslogIdentifier", GLib.Variant("s", "x"), "PropertyReadOnly")):
            self.refused(STANDARD + error, "Set", "(ssv)", (interface, property, value), **control)
        self.assertEqual(self.call("Get", "(ss)", (interface, "LogLevel"), **control)[0], "info")


class Errors(BusTest):
    def test_what_sd_bus_would_refuse_by_itself(self):
        properties = {"interface": "org.freedesktop.DBus.Properties"}
        self.refused(STANDARD + "UnknownMethod", "Nope")
        self.refused(STANDARD + "UnknownMethod", "Nope", interface="org.freedesktop.DBus.Peer")
        self.refused(STANDARD + "UnknownInterface", "Ping", interface="org.example.Nope")
        self.refused(STANDARD + "UnknownInterface", "Start", interface="org.banger.VM")
        self.refused(STANDARD + "UnknownObject", "Start", "(a{sv})", ({},), path=PATH + "/vm/0123456789ab",
                     interface="org.banger.VM")
        self.refused(STANDARD + "UnknownObject", "Ping", path="/nope", interface="org.freedesktop.DBus.Peer")
        self.refused(STANDARD + "UnknownObject", "Introspect", path=PATH + "/job/0", interface=harness.INTROSPECTABLE)
        self.refused(STANDARD + "InvalidArgs", "StopVM", "(s)", ("web",))
        self.refused(STANDARD + "InvalidArgs", "Get", "(s)", (MANAGER,), **properties)
        self.refused(STANDARD + "UnknownProperty", "Get", "(ss)", (MANAGER, "Nope"), **properties)
        self.refused(STANDARD + "UnknownInterface", "Get", "(ss)", ("org.banger.VM", "Id"), **properties)
        self.refused(STANDARD + "UnknownInterface", "GetAll", "(s)", ("org.banger.Job",), **properties)
        self.refused(STANDARD + "PropertyReadOnly", "Set", "(ssv)", (MANAGER, "Version", GLib.Variant("s", "9")),
                     **properties)
        self.refused(STANDARD + "UnknownInterface", "GetManagedObjects", path=PATH + "/vm",
                     interface="org.freedesktop.DBus.ObjectManager")

    def test_options(self):
        message = self.refused(STANDARD + "InvalidArgs", "CreateVM", "(sa{sv})", ("web", harness.options(vcpus=2)))
        self.assertIn("'vcpus'", message)
        self.assertIn("memory-mib", message)
        for key, value in (("vcpu", "2"), ("nat", 1), ("image", True), ("vcpu", -1), ("vcpu", 1 << 32)):
            variant = GLib.Variant("x", value) if isinstance(value, int) and not isinstance(value, bool) else value
            with self.subTest(key=key, value=value):
                message = self.refused(STANDARD + "InvalidArgs", "CreateVM", "(sa{sv})",
                                       ("web", harness.options(**{key: variant})))
                self.assertIn(f"'{key}'", message)
        self.refused(STANDARD + "InvalidArgs", "Diagnose", "(a{sv})", (harness.options(wait=True),))
        self.assertEqual(self.daemon.managed(), {})

    def test_names_and_values(self):
        missing = {"StartVM": "NoSuchVM", "StopVM": "NoSuchVM", "KillVM": "NoSuchVM", "RestartVM": "NoSuchVM",
                   "DeleteVM": "NoSuchVM", "DeleteImage": "NoSuchImage", "DeleteKernel": "NoSuchKernel"}
        for method, error in missing.items():
            self.assertIn("nope", self.refused(ERROR + error, method, "(sa{sv})", ("nope", {})))
        for method, error in {"GetVM": "NoSuchVM", "GetImage": "NoSuchImage", "GetKernel": "NoSuchKernel"}.items():
            self.refused(ERROR + error, method, "(s)", ("nope",))
        self.refused(ERROR + "NoSuchImage", "CreateVM", "(sa{sv})", ("web", {}))
        for name in ("", "-a", "a-", "A", "a b", "a/b", "x" * 64):
            self.refused(ERROR + "InvalidName", "BuildImage", "(sa{sv})", (name, {}))
            self.refused(ERROR + "InvalidName", "ImportKernel", "(ssa{sv})", (name, "", {}))
        self.refused(ERROR + "InvalidPath", "ImportImage", "(ssa{sv})", ("i", "rootfs.tar", {}))
        self.refused(ERROR + "InvalidPath", "ImportImage", "(ssa{sv})", ("i", "", {}))
        self.refused(ERROR + "InvalidPath", "ImportKernel", "(ssa{sv})", ("k", "vmlinux", {}))
        self.refused(ERROR + "InvalidPath", "ImportKernel", "(ssa{sv})", ("k", "/vmlinux", harness.options(modules="m")))
        self.assertEqual(self.daemon.managed(), {})
        self.prepare()
        self.create(wait=True)
        self.refused(ERROR + "VMExists", "CreateVM", "(sa{sv})", ("web", {}))
        self.refused(ERROR + "ImageExists", "BuildImage", "(sa{sv})", ("default", {}))
        self.refused(ERROR + "KernelExists", "ImportKernel", "(ssa{sv})", ("default", "", {}))
        self.refused(ERROR + "WrongState", "StopVM", "(sa{sv})", ("web", {}))
        self.assertIn("web", self.refused(ERROR + "InUse", "DeleteImage", "(sa{sv})", ("default", {})))
        self.assertIn("web", self.refused(ERROR + "InUse", "DeleteKernel", "(sa{sv})", ("default", {})))

    @unittest.skipUnless(ROOT, "needs root to be somebody else")
    def test_foreign_uid_is_refused_everywhere(self):
        self.prepare()
        job = self.create(wait=True)
        vm = self.call("GetVM", "(s)", ("web",))[0]
        values = {"s": "web", "a{sv}": {}}
        for kind, path in {"Manager": PATH, "VM": vm, "Job": job}.items():
            xml = (SOURCE / "introspection" / f"org.banger.{kind}.xml").read_text(encoding="utf-8")
            for row in harness.shape(xml):
                if row[1] != "method":
                    continue
                types = [t for _, t, direction in row[5] if direction == "in"]
                self.refused(STANDARD + "AccessDenied", row[2], f"({''.join(types)})",
                             tuple(values[t] for t in types), path=path, interface=row[0], user=FOREIGN)
        for interface, method in ((harness.INTROSPECTABLE, "Introspect"), ("org.freedesktop.DBus.Peer", "Ping"),
                                  ("org.freedesktop.DBus.ObjectManager", "GetManagedObjects")):
            self.refused(STANDARD + "AccessDenied", method, interface=interface, user=FOREIGN)
        self.assertEqual(self.daemon.names("VM"), ["web"])
        self.call("GetVM", "(s)", ("web",), user=OWNER)

    def test_one_record_per_call_with_its_op_id(self):
        message = self.refused(ERROR + "NoSuchVM", "StartVM", "(sa{sv})", ("nope", {}))
        op_id = OP_ID.search(message).group().strip(" ()")
        rows = [r for r in self.daemon.records() if r.get("BANGER_OP_ID") == op_id]
        self.assertEqual(len(rows), 1)
        self.assertEqual(rows[0]["BANGER_METHOD"], "StartVM")
        self.assertEqual(rows[0]["BANGER_ERROR"], ERROR + "NoSuchVM")
        self.assertIn("BANGER_DURATION_USEC", rows[0])


class Jobs(BusTest):
    def test_the_story_of_a_start(self):
        self.prepare()
        ear = self.ear()
        job = self.create(start=True)
        vm = self.call("GetVM", "(s)", ("web",))[0]
        removed = ear.wait("JobRemoved", job)
        self.assertEqual(removed[2], (job, "done", "", ""))
        members = [row[0] for row in ear.heard]
        added = [row[2][0] for row in ear.heard if row[0] == "InterfacesAdded"]
        self.assertEqual(added, [vm, job])
        self.assertLess(members.index("JobNew"), members.index("JobRemoved"))
        states = [row[2][1]["State"] for row in ear.heard
                  if row[0] == "PropertiesChanged" and row[1] == vm and "State" in row[2][1]]
        self.assertEqual(states, ["stopped", "starting", "running"])
        row = self.daemon.job(job)
        self.assertEqual((row["Kind"], row["State"], row["Object"], row["Progress"], row["Cancelable"]),
                         ("create-vm", "done", vm, 1.0, False))
        self.assertEqual(row["OpId"], "op-" + row["Id"])
        self.assertTrue(job.endswith("/job/" + row["Id"]))

    def test_verbs_by_name_and_by_object(self):
        self.prepare()
        self.create(wait=True, vcpu=GLib.Variant("y", 3))
        vm = self.call("GetVM", "(s)", ("web",))[0]
        wait = harness.options(wait=True)
        state = lambda: self.daemon.managed()[vm]["org.banger.VM"]["State"]  # noqa: E731
        self.assertEqual(self.daemon.managed()[vm]["org.banger.VM"]["VCPUs"], 3)
        self.call("Start", "(a{sv})", (wait,), path=vm, interface="org.banger.VM")
        self.assertEqual(state(), "running")
        self.refused(ERROR + "WrongState", "StartVM", "(sa{sv})", ("web", {}))
        self.refused(ERROR + "WrongState", "Start", "(a{sv})", ({},), path=vm, interface="org.banger.VM")
        self.call("StopVM", "(sa{sv})", (vm.rsplit("/", 1)[1], harness.options(wait=True, timeout_us=5)))
        self.assertEqual(state(), "stopped")
        console = self.call("OpenConsole", "(a{sv})", ({},), path=vm, interface="org.banger.VM")
        self.assertEqual(console.fds, 1)
        ear = self.ear()
        self.call("DeleteVM", "(sa{sv})", ("web", harness.options(force=True, wait=True)))
        self.assertIn("org.banger.VM", ear.wait("InterfacesRemoved", vm)[2][1])
        self.assertEqual(self.daemon.names("VM"), [])
        self.refused(STANDARD + "UnknownObject", "Start", "(a{sv})", ({},), path=vm, interface="org.banger.VM")

    def test_failed_job_tells_the_same_everywhere(self):
        ear = self.ear()
        message = self.refused(ERROR + "InvalidImage", "BuildImage", "(sa{sv})",
                               ("i", harness.options(suite="broken", wait=True)))
        job = f"{PATH}/job/{OP_ID.search(message).group().strip(' ()')[3:]}"
        self.assertEqual(ear.wait("JobRemoved", job)[2], (job, "failed", ERROR + "InvalidImage", message))
        row = self.daemon.job(job)
        self.assertEqual((row["State"], row["Error"], row["ErrorMessage"]), ("failed", ERROR + "InvalidImage", message))
        self.assertEqual(list((self.daemon.state / "images").iterdir()), [])
        self.assertEqual(self.daemon.names("Image"), [])

    def test_cancel(self):
        ear = self.ear()
        job = self.call("BuildImage", "(sa{sv})", ("i", harness.options(suite="slow")))[0]
        row = self.daemon.job(job)
        self.assertEqual((row["State"], row["Cancelable"]), ("running", True))
        image = row["Object"]
        self.assertEqual(self.daemon.managed()[image]["org.banger.Image"]["State"], "building")
        self.refused(ERROR + "WrongState", "DeleteImage", "(sa{sv})", ("i", {}))
        until("progress", lambda: self.daemon.job(job)["Progress"] == 0.5)
        self.assertEqual(self.daemon.job(job)["Stage"], "pretending to build")
        self.call("Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
        self.assertEqual(ear.wait("JobRemoved", job)[2][1:3], ("cancelled", ERROR + "Cancelled"))
        self.refused(ERROR + "WrongState", "Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
        self.assertEqual(list((self.daemon.state / "images").iterdir()), [])
        self.assertIn("org.banger.Image", ear.wait("InterfacesRemoved", image)[2][1])
        self.prepare()
        start = self.create("slowly", start=True)
        until("starting", lambda: "starting" in str(self.daemon.managed()))
        self.call("Cancel", "(a{sv})", ({},), path=start, interface="org.banger.Job")
        self.assertEqual(ear.wait("JobRemoved", start)[2][1], "cancelled")

    def test_limit(self):
        jobs = [self.call("BuildImage", "(sa{sv})", (f"i{i}", harness.options(suite="slow")))[0] for i in range(64)]
        message = self.refused(STANDARD + "LimitsExceeded", "BuildImage", "(sa{sv})", ("one-more", {}))
        self.assertIn("64", message)
        self.assertEqual(len(self.daemon.names("Image")), 64)
        self.assertEqual(len(list((self.daemon.state / "images").iterdir())), 64)
        ear = self.ear()
        self.call("Cancel", "(a{sv})", ({},), path=jobs[0], interface="org.banger.Job")
        ear.wait("JobRemoved", jobs[0])
        self.call("BuildImage", "(sa{sv})", ("fits-again", harness.options(suite="slow")))

    def test_import_from_a_descriptor(self):
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        connection = Gio.DBusConnection.new_for_address_sync(self.daemon.address, flags, None, None)
        connection.set_exit_on_close(False)
        self.addCleanup(connection.close_sync, None)
        with open("/dev/null", "rb") as f:
            fds = Gio.UnixFDList.new_from_array([os.dup(f.fileno())])
            options = {"fd": GLib.Variant("h", 0), "wait": GLib.Variant("b", True)}
            connection.call_with_unix_fd_list_sync(NAME, PATH, MANAGER, "ImportImage",
                                                   GLib.Variant("(ssa{sv})", ("i", "", options)), None,
                                                   Gio.DBusCallFlags.NONE, -1, fds, None)
        image = self.call("GetImage", "(s)", ("i",))[0]
        self.assertEqual(self.daemon.managed()[image]["org.banger.Image"]["State"], "ready")


class Life(BusTest):
    def test_restart_keeps_what_is_ready(self):
        self.prepare()
        before = {k: v for k, v in self.daemon.managed().items() if "/job/" not in k}
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.daemon.restart(number)
            self.assertEqual(self.daemon.managed(), before)
        self.call("DeleteImage", "(sa{sv})", ("default", {}))
        self.daemon.restart()
        self.assertEqual(self.daemon.names("Image"), [])
        self.assertEqual(self.daemon.names("Kernel"), ["default"])

    def test_half_made_ones_go(self):
        self.call("BuildImage", "(sa{sv})", ("i", harness.options(suite="slow")))
        self.call("ImportKernel", "(ssa{sv})", ("k", "apt:slow", {}))
        kinds = [self.daemon.state / kind for kind in ("images", "kernels")]
        until("files", lambda: all(list(kind.glob("*/*")) for kind in kinds))
        (kinds[0] / "0123456789ab").mkdir()
        if ROOT:
            os.chown(kinds[0] / "0123456789ab", OWNER.pw_uid, OWNER.pw_gid)
        self.daemon.restart(signal.SIGKILL)
        self.assertEqual(self.daemon.managed(), {})
        for kind in kinds:
            self.assertEqual(list(kind.iterdir()), [])

    def test_a_crash_at_each_stage_leaves_nothing_half_made(self):
        verbs = {"image": ("BuildImage", "(sa{sv})", ("i", {})), "kernel": ("ImportKernel", "(ssa{sv})", ("k", "", {}))}
        self.daemon.stop()
        for kind, verb in verbs.items():
            for stage in ("recorded", "made"):
                self.daemon.start(BANGER_FAULT=f"{kind}-{stage}")
                with contextlib.suppress(harness.CallError):
                    self.call(*verb)
                try:
                    self.assertEqual(self.daemon.process.wait(1), -signal.SIGKILL)
                except subprocess.TimeoutExpired:
                    self.skipTest("built without -Dfault-hooks=true")
                until("the name to go", lambda: not self.daemon.has_name())
                left = self.daemon.state / f"{kind}s"
                self.assertEqual(len(list(left.iterdir())), 1, "the hook fired too early or too late")
                self.daemon.start()
                self.assertEqual(self.daemon.managed(), {})
                self.assertEqual(list(left.iterdir()), [])
                self.daemon.stop()

    def test_terminate_takes_builds_along(self):
        self.call("BuildImage", "(sa{sv})", ("i", harness.options(suite="slow")))
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(list((self.daemon.state / "images").iterdir()), [])

    def test_terminate_undoes_what_is_under_way(self):
        """A start that is asked for with wait=true hears of its cancellation; the daemon ends only then."""
        self.prepare()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(number.name), concurrent.futures.ThreadPoolExecutor(1) as pool:
                name = "slow-" + number.name.lower()
                asked = pool.submit(self.refused, ERROR + "Cancelled", "CreateVM", "(sa{sv})",
                                    (name, harness.options(start=True, wait=True)))
                until("starting", lambda: "starting" in str(self.daemon.managed()))
                self.assertEqual(self.daemon.stop(number), 0)
                self.assertIn(name, asked.result(10))
                self.daemon.start()

    def test_unreadable_record_is_set_aside(self):
        self.prepare()
        record = next((self.daemon.state / "images").glob("*/record.json"))
        self.daemon.stop()
        text = record.read_text(encoding="utf-8")
        record.write_text(text[:-5], encoding="utf-8")
        self.daemon.start()
        self.assertEqual(self.daemon.names("Image"), [])
        aside = self.daemon.state / "images" / (record.parent.name + ".unreadable")
        self.assertTrue((aside / "rootfs.ext4").exists())
        self.assertTrue(any(str(aside) in r["MESSAGE"] for r in self.daemon.records()))
        rows = {row[0]: row for row in self.call("Diagnose", "(a{sv})", ({},))[0]}
        self.assertEqual(rows["records"][1], "warning")
        self.assertIn(str(aside), rows["records"][2])

    def test_diagnose(self):
        rows = {row[0]: row for row in self.call("Diagnose", "(a{sv})", ({},))[0]}
        self.assertEqual(sorted(rows), ["bridge-address", "device-mapper", "disk-space", "engine", "helper",
                                        "image-and-kernel", "image-build", "kvm", "polkit", "records", "ssh", "tun"])
        for name, status, seen, fix in rows.values():
            self.assertIn(status, ("ok", "warning", "error"), name)
            self.assertTrue(seen, name)
            self.assertEqual(bool(fix), status != "ok", name)
        self.assertEqual(rows["helper"][1], "error")
        self.assertEqual(rows["image-and-kernel"][1], "warning")
        job = self.call("BuildImage", "(sa{sv})", ("default", harness.options(suite="slow")))[0]
        self.call("ImportKernel", "(ssa{sv})", ("default", "", harness.options(wait=True)))
        rows = {row[0]: row for row in self.call("Diagnose", "(a{sv})", ({},))[0]}
        self.assertEqual(rows["image-and-kernel"][1], "warning", "an image that is being built is none yet")
        ear = self.ear()
        self.call("Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
        ear.wait("JobRemoved", job)
        self.call("BuildImage", "(sa{sv})", ("default", harness.options(wait=True)))
        rows = {row[0]: row for row in self.call("Diagnose", "(a{sv})", ({},))[0]}
        self.assertEqual(rows["image-and-kernel"][1], "ok")

    def test_bus_gone(self):
        self.daemon.bus.terminate()
        self.daemon.bus.wait()
        self.assertEqual(self.daemon.process.wait(10), 0)

    def fails(self, words, status=1, **kwargs):
        process, log = self.daemon.spawn(**kwargs)
        with contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            self.assertEqual(process.wait(60), status)
        self.assertIn(words, log.read_text(encoding="utf-8"))

    def test_second_daemon_gives_way(self):
        """On the same bus and on another one: what the first is making is not half-made to the second."""
        self.call("BuildImage", "(sa{sv})", ("i", harness.options(suite="slow")))
        rootfs = until("its file", lambda: list((self.daemon.state / "images").glob("*/rootfs.ext4")))[0]
        self.fails("another bangerd works on")
        other = subprocess.Popen(["dbus-daemon", "--nofork", "--print-address",
                                  f"--config-file={self.daemon.other_bus()}"],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with other:
            address = other.stdout.readline().decode().strip()
            self.fails("another bangerd works on", DBUS_SESSION_BUS_ADDRESS=address)
            other.terminate()
        self.assertTrue(rootfs.exists())
        self.assertEqual(self.daemon.names("Image"), ["i"])

    def test_name_that_another_program_has(self):
        self.daemon.stop()
        self.ear().connection.call_sync("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName",
                                        GLib.Variant("(su)", (NAME, 0)), None, Gio.DBusCallFlags.NONE, -1, None)
        self.fails("another bangerd has it")

    def test_refuses_to_start(self):
        self.daemon.stop()
        if ROOT:
            self.fails("never runs as root", os.EX_NOPERM, as_owner=False)
        config = self.daemon.base / "install.toml"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace(f"uid = {OWNER.pw_uid}", "uid = 4242"), encoding="utf-8")
        self.fails("as the owner", os.EX_NOPERM)
        config.write_text(text, encoding="utf-8")
        self.daemon.state.chmod(0o750)
        self.fails("mode 0700")
        self.daemon.state.chmod(0o700)
        self.fails("cannot reach the session bus", DBUS_SESSION_BUS_ADDRESS="unix:path=/nonexistent/bus")
        self.fails("nonexistent.toml", os.EX_CONFIG, BANGER_CONFIG="/nonexistent.toml")
        config.write_text(text + "\nsurprise = 1\n", encoding="utf-8")
        self.fails("surprise", os.EX_CONFIG)


if __name__ == "__main__":
    harness.main()
