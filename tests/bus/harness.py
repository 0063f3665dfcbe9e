"""A private stack for tests: own buses, polkitd, helper, manager, owner, foreign user, bridge and directories.

Used by every test in tests/bus and tests/e2e, and by scripts/check for the comparison of the host.
Never touches the host's own buses, polkit files or an installed banger.
"""

import atexit
import collections
import contextlib
import fcntl
import ipaddress
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(SOURCE / "scripts"), str(HERE)]

import box  # noqa: E402
import caller  # noqa: E402
import devstack  # noqa: E402
from gi.repository import GLib  # noqa: E402

BUILD = os.environ.get("BANGER_BUILD")  # the meson build directory under test
SHARED_HOST = "BANGER_TEST_SHARED_HOST" in os.environ  # others are at work here: compare only what is ours
KEEP = "BANGER_TEST_KEEP" in os.environ  # leave logs and directories of the last stack
HELPER = ("org.banger.Privileged", "/org/banger/Privileged", "org.banger.Privileged")
MANAGER = ("org.banger.Manager", "/org/banger/Manager", "org.banger.Manager")
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
BAD_LOG = re.compile(r"(ERROR|WARNING): \w+Sanitizer|: runtime error: |CRITICAL \*\*|^\*\* ERROR", re.M)
ALLOW = """polkit.addRule(function (action, subject) {{
  if (action.id.indexOf("org.banger.privileged.") == 0 && subject.user == "{user}")
    return polkit.Result.YES;
}});
"""


NO_TEMPLATES = '[templates]\nwarm = "off"\n'  # no VM that a test did not ask for, at a time that it does not know


class CallError(Exception):
    """A D-Bus error reply: .name, .message."""

    def __init__(self, name, message):
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class Result(tuple):
    """Unpacked values of a reply; .fds counts the descriptors that came with it."""

    fds = 0


def systemd_folder():
    """Where a stand-in for systemd is mounted; gone at the end where it was not there."""
    if not os.path.isdir("/run/systemd"):
        os.mkdir("/run/systemd")
        atexit.register(os.rmdir, "/run/systemd")


CALLERS = collections.defaultdict(list)  # uid -> processes of that user's that wait for a call to make: one takes long to start


def start_caller(user):
    return subprocess.Popen(["/usr/bin/python3", "-c", (HERE / "caller.py").read_text(encoding="utf-8")], text=True, cwd="/",
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=user.pw_uid, group=user.pw_gid, extra_groups=[],
                            env={"PATH": devstack.SAFE_PATH})


def end_callers(children):
    while children:
        with children.pop() as child:
            child.kill()


def ask_caller(user, request):
    """caller.call() as @user, in a process that nobody else uses meanwhile."""
    idle, child = CALLERS[user.pw_uid], None
    with contextlib.suppress(IndexError):
        while child is None or child.poll() is not None:  # a test may have ended it
            child = idle.pop()
    if child is None or child.poll() is not None:
        child = start_caller(user)
    timer = threading.Timer(request["timeout"] + 30, child.kill)
    timer.start()
    try:
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
    finally:
        timer.cancel()
    if not line:
        end_callers([child])
        raise CallError("local.caller", "it ended, or had no answer in time")
    idle.append(child)
    return json.loads(line)


def value(variant):
    """Its Python value; of many bytes bytes, as each number in a list takes its time."""
    many = variant.get_type_string() == "ay" and variant.n_children() > 4096
    return variant.get_data_as_bytes().get_data() if many else variant.unpack()


def file_bytes(data):
    """The GLib.Variant of them, without one for each."""
    return GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(data), True)


def call(address, target, method, signature="()", args=(), user=None, timeout=300, interactive=False):
    """One D-Bus call; Result, or CallError raised.
    @target: (bus name, path, interface); @args: Python values, GLib.Variant inside a{sv}, or a GLib.Variant of all;
    @user: pwd entry, None root."""
    body = args if isinstance(args, GLib.Variant) else GLib.Variant(signature, tuple(args))
    request = {"address": address, "target": list(target), "method": method, "signature": signature,
               "body": caller.packed(body), "timeout": timeout,
               "interactive": interactive}
    if user is None:
        answer = caller.call(request)
    else:
        answer = ask_caller(user, request)
    if "error" in answer:
        raise CallError(answer["error"], answer["message"])
    reply = caller.unpacked(answer["type"], answer["data"])
    result = Result(value(reply.get_child_value(i)) for i in range(reply.n_children()))
    result.fds = answer["fds"]
    return result


def options(**values):
    """An a{sv} for call(): underscores become dashes, Python values the usual types."""
    kinds = {bool: "b", int: "t", str: "s", float: "d", list: "as"}
    return {k.replace("_", "-"): v if isinstance(v, GLib.Variant) else GLib.Variant(kinds[type(v)], v)
            for k, v in values.items()}


# Introspection


def shape(xml, prefix="org.banger."):
    """What an introspection text promises: sorted, without comments, only interfaces that start with @prefix."""
    rows = []
    for interface in ElementTree.fromstring(xml).iter("interface"):
        if not interface.get("name").startswith(prefix):
            continue
        for member in interface:
            if member.tag == "annotation":
                continue
            args = tuple((a.get("name"), a.get("type"), a.get("direction", "out" if member.tag == "signal" else "in"))
                         for a in member.findall("arg"))
            notes = tuple(sorted((a.get("name"), a.get("value")) for a in member.findall("annotation")))
            rows.append((interface.get("name"), member.tag, member.get("name"), member.get("type"),
                         member.get("access"), args, notes))
    return sorted(rows, key=str)


# What the host has


def read_text(path):
    """A small file's text without the white space around it; "" if it cannot be read."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def has_device_mapper():
    """Whether the kernel has it, loaded or to be loaded: a node may be left of one that is gone."""
    try:
        os.close(os.open("/dev/mapper/control", os.O_RDWR))
    except OSError:
        return False
    return True


def _processes():
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        command = read_text(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
        if re.search(r"\bbanger|qemu-system|polkitd|dbus-daemon|mmdebstrap|firecracker|jailer", command.split(" ")[0]):
            found.add(f"{pid} {command}")
    return found


def _mounts():
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return {line.split()[4] + " " + line.split(" - ", 1)[1].strip() for line in f}


def _nft_tables():
    if not shutil.which("nft"):
        raise unittest.SkipTest("nft is not installed")
    result = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines())


def _cgroups():
    root = devstack.cgroup2_root()
    return {path for path, _, _ in os.walk(root)} if root else set()


def snapshot_host():
    """Everything that a VM or a service can leave behind: kind -> set of names."""
    net = "/sys/class/net"
    return {
        "taps": {n for n in os.listdir(net) if os.path.exists(f"{net}/{n}/tun_flags")},
        "bridges": {n for n in os.listdir(net) if os.path.exists(f"{net}/{n}/bridge")},
        "loops": {n for n in os.listdir("/sys/block") if os.path.exists(file := f"/sys/block/{n}/loop/backing_file")
                  and box.ours(read_text(file))},
        "dm": {read_text(f"/sys/block/{n}/dm/name") for n in os.listdir("/sys/block") if n.startswith("dm-")},
        "mounts": _mounts(),
        "nft tables": _nft_tables(),
        "cgroups": _cgroups(),
        "processes": _processes(),
        "run": set(os.listdir("/run")),
    }


def difference(before, after, only=None):
    """Lines that say what appeared and what went; @only: a regular expression for a machine shared with others."""
    lines = []
    for kind, old in before.items():
        lines += [f"left behind: {kind}: {name}" for name in sorted(after[kind] - old)]
        lines += [f"gone: {kind}: {name}" for name in sorted(old - after[kind])]
    return [line for line in lines if not only or re.search(only, line)]


# Users


def make_user(name, home):
    """An ordinary user without a password; pwd entry."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name)
    subprocess.run(["useradd", "--system", "--user-group", "--shell", "/bin/sh", "--create-home", "--skel",
                    "/nonexistent", "--home-dir", home, name], check=True, capture_output=True)
    return pwd.getpwnam(name)


def remove_user(name):
    """Takes the user away; its files go with the stack's directory."""
    with contextlib.suppress(KeyError):
        end_callers(CALLERS[pwd.getpwnam(name).pw_uid])
    subprocess.run(["userdel", name], check=False, capture_output=True)
    subprocess.run(["groupdel", name], check=False, capture_output=True)


# The stack


def sanitized():
    """Whether the helper under test was built with AddressSanitizer."""
    return b"__asan_init" in (pathlib.Path(BUILD) / "src/privileged/bangerd-root").read_bytes()


def find_one(root, name):
    """The file called @name below @root."""
    found = sorted(pathlib.Path(root).rglob(name))
    if not found:
        raise devstack.StackError(f"the build installs no {name}")
    return found[0]


def staged():
    """Root-owned copies of the programs, as an installation would have them, readable by owners: their folder, and the prefix
    in it. Made once for a process and its children, or for all that scripts/check runs; nothing is written there later."""
    if not BUILD:
        raise devstack.StackError("BANGER_BUILD does not name a build directory: run this through meson test")
    if "BANGER_TEST_STAGE" not in os.environ:
        os.environ["BANGER_TEST_STAGE"] = tempfile.mkdtemp(prefix="banger-test-stage-", dir="/var/lib")
        atexit.register(shutil.rmtree, os.environ["BANGER_TEST_STAGE"], ignore_errors=True)
    folder = pathlib.Path(os.environ["BANGER_TEST_STAGE"])
    folder.chmod(0o755)
    whole = folder / "prefix"
    with (folder / "lock").open("w") as lock:  # programs that run at once share it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", str(folder)], check=True,
                           capture_output=True, text=True, umask=0o022)
            text = subprocess.run(["meson", "introspect", "--buildoptions", BUILD], check=True, capture_output=True, text=True).stdout
            whole.write_text(str(folder) + next(o["value"] for o in json.loads(text) if o["name"] == "prefix"), encoding="utf-8")
    return folder, read_text(whole)


class TestStack(devstack.Stack):
    """A stack with an owner, a foreign user and directories of its own, from the programs of a build directory."""

    def __init__(self):
        self.number = box.number()
        self.base = pathlib.Path(f"/var/lib/banger-test-{self.number}")
        self.base.mkdir(mode=0o755)
        try:
            self._make()
        except BaseException:
            self._forget()
            raise

    def _make(self):
        self.owner = make_user(f"bt{self.number}", str(self.base / "home"))
        self.foreign = make_user(f"bx{self.number}", str(self.base / "home-foreign"))
        self.stage, prefix = staged()
        self.state = self.base / "state"
        config = self._write_config(prefix)
        super().__init__(f"/run/banger-test-{self.number}", str(config), prefix,
                         polkit_dir=str(self.base / "polkit"), open_session=True, log_level="debug")
        self.bus_policies = [str(find_one(self.stage, "org.banger.Privileged.conf").parent)]
        self._write_polkit()

    def _subnet(self):
        """An address that no interface of this host has."""
        text = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True).stdout
        used = [ipaddress.ip_interface(m).network for m in re.findall(r"inet (\S+)", text)]
        for i in range(250):
            mine = ipaddress.ip_network(f"10.214.{(self.number + i) % 250}.0/24")
            if not any(mine.overlaps(net) for net in used):
                return str(mine[1]) + "/24"
        raise devstack.StackError("no free 10.214.x.0/24 network")

    def _write_config(self, prefix):
        """install.toml of this stack."""
        engine = prefix + "/libexec/banger"
        path = self.base / "install.toml"
        path.write_text(f"""version = "0.1.0"
[owner]
user = "{self.owner.pw_name}"
uid = {self.owner.pw_uid}
gid = {self.owner.pw_gid}
home = "{self.owner.pw_dir}"
[paths]
state = "{self.state}"
runtime = "/run/banger-test-{self.number}/run"
cache = "{self.base}/cache"
[network]
bridge = "br-fc-t{self.number}"
address = "{self._subnet()}"
[engine]
use = "qemu"
[engine.qemu]
vmm = "{engine}/banger-vmm-qemu"
jailer = "{engine}/banger-jailer"
[tools]
disk = "{engine}/banger-disk"
""", encoding="utf-8")
        path.chmod(0o644)
        return path

    def _write_polkit(self):
        """polkitd's view: its own action, ours, and one rule for the owner."""
        polkit = self.base / "polkit"
        for folder in ("actions", "rules.d", "empty"):
            (polkit / folder).mkdir(parents=True)
        shutil.copy(find_one(self.stage, "org.banger.privileged.policy"), polkit / "actions")
        self.set_rule(True)

    def set_rule(self, allowed):
        """With or without the rule that grants the owner the helper's powers. Restart polkit afterwards."""
        rule = self.base / "polkit" / "rules.d" / "50-banger.rules"
        if allowed:
            rule.write_text(ALLOW.format(user=self.owner.pw_name), encoding="utf-8")
        else:
            rule.unlink(missing_ok=True)

    def restart(self, name, **kwargs):
        """Ends a process of the stack and starts it again."""
        self.stop(name)
        getattr(self, "start_" + name.replace("-", "_"))(**kwargs)

    def prepare(self):
        super().prepare()
        os.chown(self.owner.pw_dir, self.owner.pw_uid, self.owner.pw_gid)
        self.settings(f"[network]\ndns-port = {self.dns_port}\n")

    @property
    def dns_port(self):
        """Another one for each stack, and none that the kernel gives away by itself."""
        return 20000 + self.number % 10000

    def settings(self, text):
        """The owner's config.toml; without templates that nobody asked for, unless it has a table of them."""
        folder = pathlib.Path(self.owner.pw_dir)
        for name in (".config", "banger"):
            folder /= name
            folder.mkdir(mode=0o700, exist_ok=True)
            os.chown(folder, self.owner.pw_uid, self.owner.pw_gid)
        (folder / "config.toml").write_text(text + (NO_TEMPLATES if "[templates]" not in text else ""), encoding="utf-8")
        (folder / "config.toml").chmod(0o644)

    def owner_environment(self):
        env = super().owner_environment()
        env["BANGER_GUEST"] = self.prefix + "/libexec/banger/banger-guest"
        env["BANGER_INTAKE"] = self.prefix + "/libexec/banger/banger-intake"
        return env

    # Calls

    def helper(self, method, signature="(a{sv})", args=({},), user="owner", **kwargs):
        """A call of the helper; @user: "owner", "foreign", "root" or a pwd entry."""
        return call(self.system_address, HELPER, method, signature, args, user=self._who(user), **kwargs)

    def manager(self, method, signature="(a{sv})", args=({},), user="owner", path=None, interface=None, **kwargs):
        """A call of the manager, or of one of its objects by @path and @interface."""
        target = (MANAGER[0], path or MANAGER[1], interface or MANAGER[2])
        return call(self.session_address, target, method, signature, args, user=self._who(user), **kwargs)

    def introspect(self, address, name, path, user="owner"):
        """Introspection XML."""
        return call(address, (name, path, INTROSPECTABLE), "Introspect", user=self._who(user))[0]

    def _who(self, user):
        return {"owner": self.owner, "foreign": self.foreign, "root": None}[user] if isinstance(user, str) else user

    def banger(self, *args, timeout=600, **kwargs):
        """The command line as the owner: CompletedProcess with text of stdout and stderr."""
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        if "input" in kwargs:
            del kwargs["stdin"]
        kwargs.setdefault("cwd", "/")
        env = self.owner_environment() | kwargs.pop("env", {})
        return subprocess.run([self.program("banger"), *args], env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, check=False,
                              **self.as_owner(), **kwargs)

    def start_banger(self, *args):
        """The command line as the owner, under way: Popen with text of stdout and stderr."""
        return subprocess.Popen([self.program("banger"), *args], env=self.owner_environment(), text=True, cwd="/",
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                **self.as_owner())

    # The end

    def bad_logs(self):
        """Reports of sanitizers and GLib criticals in any log of this stack."""
        found = []
        for path in sorted(pathlib.Path(self.logs).glob("*.log")):
            text = path.read_text(encoding="utf-8", errors="replace")
            match = BAD_LOG.search(text)
            if match:
                found.append(f"{path.name}:\n{text[max(0, match.start() - 200):match.start() + 4000]}")
        return found

    def close(self):
        """Stops all, removes all. Returns what was wrong: things left behind, bad logs."""
        wrong = []
        if os.path.isdir(self.directory):
            for name in ("manager", "helper"):
                if self.pid(name) is None and os.path.exists(self._record_path(name)):
                    with contextlib.suppress(devstack.StackError):
                        getattr(self, "start_" + name)()
            with contextlib.suppress(devstack.StackError, subprocess.TimeoutExpired):
                self._stop_vms()
            for name in reversed(devstack.ORDER):
                self.stop(name)
            wrong = self.bad_logs()
            if KEEP:
                shutil.copytree(self.logs, f"/tmp/banger-test-{self.number}-log", dirs_exist_ok=True)
            wrong += [f"left behind: {thing}" for thing in self.down()]
        self._forget()
        if self.base.exists():
            wrong.append(f"left behind: {self.base}")
        return wrong

    def _forget(self):
        for name in (f"bt{self.number}", f"bx{self.number}"):
            remove_user(name)
        shutil.rmtree(self.base, ignore_errors=True)


class StackTest(unittest.TestCase):
    """One stack per class: system bus, polkit, helper; with_manager adds session bus and manager.
    The host is compared before and after."""

    with_manager = False
    stack: TestStack

    @classmethod
    def setUpClass(cls):
        if os.getuid() != 0:
            raise unittest.SkipTest("needs root: a helper, buses and users of its own are made")
        cls._before = snapshot_host()
        cls.stack = TestStack()
        cls.addClassCleanup(cls._close)
        cls.stack.prepare()
        for name in devstack.ORDER[:None if cls.with_manager else 3]:
            getattr(cls.stack, "start_" + name.replace("-", "_"))()

    @classmethod
    def _close(cls):
        ours = rf"(banger-test-|br-fc-t){cls.stack.number}(?!\d)"
        wrong = cls.stack.close()
        wrong += difference(cls._before, snapshot_host(), ours if SHARED_HOST else None)
        if wrong:
            raise AssertionError("\n".join(wrong))

    def refused(self, names, function, *args, **kwargs):
        """@function must raise CallError with one of the error @names; returns it."""
        with self.assertRaises(CallError) as caught:
            function(*args, **kwargs)
        names = (names,) if isinstance(names, str) else names
        self.assertIn(caught.exception.name, names, caught.exception.message)
        return caught.exception


# TAP: one line per test, so that meson and scripts/check count each


SLOW = 2  # seconds: what takes as long says so


class TapResult(unittest.TestResult):
    """Prints a line as soon as a test has ended; problems as comments on standard error."""

    def __init__(self):
        super().__init__()
        self.count = 0
        self.began = time.monotonic()

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def _line(self, ok, name, note=""):
        self.count += 1
        if (took := time.monotonic() - self.began) >= SLOW:
            print(f"# {name}: {took:.1f} s", flush=True)
        print(f"{'ok' if ok else 'not ok'} {self.count} - {name}{note}", flush=True)

    @staticmethod
    def _name(test):
        return test.id().removeprefix("__main__.")

    def addSuccess(self, test):
        self._line(True, self._name(test))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line(True, self._name(test), f" # SKIP {reason}")

    def _problem(self, test, err):
        text = "".join(traceback.format_exception(*err))
        for line in text.splitlines():
            print(f"# {line}", flush=True)
        self._line(False, self._name(test))

    def addError(self, test, err):
        super().addError(test, err)
        self._problem(test, err)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._problem(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self._problem(subtest, err)


def main(boxed=True):
    """Runs the tests of the calling file (or those named on its command line) and prints TAP. @boxed: see box.py; what needs the
    machine's network is not."""
    if boxed:
        box.enter()
    loader = unittest.TestLoader()
    module = sys.modules["__main__"]
    names = sys.argv[1:]
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    result = TapResult()
    print("TAP version 13", flush=True)
    suite.run(result)
    print(f"1..{result.count}", flush=True)
    sys.exit(0 if result.wasSuccessful() else 1)
