"""The root helper on its bus: whom it serves, what each gate refuses, and a VMM's life through it.

Run by meson test as root; no guest is booted: the VMM waits at its socket.
Never uses a name that is not this stack's: bridge, VM ids and folders are its own.
"""

import contextlib
import ipaddress
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree

import harness
import devstack
from harness import HELPER, SOURCE, CallError, StackTest, difference, main, options, snapshot_host
from test_manager import methods

DENIED = ("org.freedesktop.DBus.Error.AccessDenied", "org.banger.Error.NotAuthorized",
          "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired")
INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"
INVALID_NETWORK = "org.banger.Error.InvalidNetwork"
INVALID_ID = "org.banger.Error.InvalidId"
UNSAFE = "org.banger.Error.UnsafeFile"
OP = r"\(op-[0-9a-f]{6,32}\)$"


def methods_of_helper():
    for _, name, signature, arguments in methods("org.banger.Privileged.xml"):
        yield name, signature, arguments


def valid_calls(test):
    """Every method with arguments that its gates let through."""
    fit = {"vm": test.vm, "bridge": test.bridge, "address": test.address, "guest_address": test.guest,
           "image": test.vm, "kernel": test.vm, "cow_bytes": 1 << 30, "root": "file", "signal": "TERM",
           "resolver": "127.0.0.1:42069", "disk": "work", "path": "/etc/hostname", "files": [("/x", 0o644, b"x")],
           "socket": "api", "keep": [], "options": {}}
    tree = ElementTree.parse(SOURCE / "introspection" / "org.banger.Privileged.xml").getroot()
    for method in tree.iter("method"):
        args = [a for a in method.iter("arg") if a.get("direction") == "in"]
        yield (method.get("name"), "(" + "".join(a.get("type") for a in args) + ")",
               [fit[a.get("name")] for a in args])


def set_log_level(test, user):
    """LogControl1 of the helper, which is root's to change."""
    target = (HELPER[0], "/org/freedesktop/LogControl1", "org.freedesktop.DBus.Properties")
    harness.call(test.stack.system_address, target, "Set", "(ssv)",
                 ("org.freedesktop.LogControl1", "LogLevel", options(level="debug")["level"]),
                 user=test.stack.foreign if user == "foreign" else None)


def status_of(pid):
    """Fields of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


class HelperTest(StackTest):
    """A helper with a bridge of its own; every test gives back what it took."""

    user = "owner"

    def setUp(self):
        # Ids differ between stacks: tap names are the host's.
        self.vm = f"{self.stack.number:06x}aa"
        self.other = f"{self.stack.number:06x}bb"
        self.bridge = self.stack.install["bridge"]
        self.address = self.stack.install["address"]
        self.guest = self.address.split("/")[0].rsplit(".", 1)[0] + ".9"
        self.addCleanup(self.give_back)

    def give_back(self):
        with contextlib.suppress(CallError, devstack.StackError):
            for vm in (self.vm, self.other):
                self.call("ReleaseVm", "(sa{sv})", vm)
            self.call("RemoveBridge", "(sa{sv})", self.bridge)
        owner = self.stack.state / str(self.stack.owner.pw_uid)
        for kind in ("vms", "images", "kernels"):
            for folder in (owner / kind).iterdir():
                folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)

    def call(self, method, signature, *args, user=None, **opts):
        return self.stack.helper(method, signature, (*args, options(**opts)), user=user or self.user)

    def owner_file(self, path, text=b"x"):
        """A file of the owner's below its state."""
        target = self.stack.state / str(self.stack.owner.pw_uid) / path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(text)
        for each in (target, target.parent):
            os.chown(each, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
        return target

    def machine(self):
        """The files of a VM that can be launched."""
        kernel = self.vm + "cc"
        self.owner_file(f"kernels/{kernel}/vmlinux")
        for name in ("initrd", "rootfs.ext4", "work.ext4", "console.log"):
            self.owner_file(f"vms/{self.vm}/{name}")
        run = pathlib.Path(self.stack.install["runtime"]) / str(self.stack.owner.pw_uid) / self.vm
        run.mkdir(mode=0o700, exist_ok=True)
        os.chown(run, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
        return kernel, run

    def leases(self):
        return {vm: (held, pid) for vm, held, pid in self.call("ListLeases", "(a{sv})")[0]}


class Callers(HelperTest):
    def every_method(self):
        rows = list(methods_of_helper())
        self.assertGreater(len(rows), 12)
        return rows

    def test_foreign_user_is_refused_everything(self):
        before = snapshot_host()
        for name, signature, arguments in self.every_method():
            with self.subTest(name):
                seen = self.refused("org.freedesktop.DBus.Error.AccessDenied", self.stack.helper, name, signature,
                                    arguments, user="foreign")
                self.assertRegex(seen.message, OP)
        ours = rf"(banger-test-|br-fc-t){self.stack.number}(?!\d)|tap-fc-{self.vm}"
        self.assertEqual(difference(before, snapshot_host(), ours), [])

    def test_owner_without_the_rule_is_refused_everything(self):
        self.stack.set_rule(False)
        self.stack.restart("polkit")
        try:
            for name, signature, arguments in valid_calls(self):
                with self.subTest(name):
                    seen = self.refused(DENIED, self.stack.helper, name, signature, arguments)
                    self.assertRegex(seen.message, OP)
        finally:
            self.stack.set_rule(True)
            self.stack.restart("polkit")
        self.call("ListLeases", "(a{sv})")

    def test_no_polkit_refuses_everything(self):
        self.stack.stop("polkit")
        try:
            for user in ("owner", "root"):
                for name, signature, arguments in valid_calls(self):
                    with self.subTest(f"{name} {user}"):
                        seen = self.refused(DENIED, self.stack.helper, name, signature, arguments, user=user)
                        self.assertRegex(seen.message, OP)
        finally:
            self.stack.start_polkit()

    def test_foreign_user_cannot_change_the_log_level(self):
        with self.assertRaises(CallError):
            set_log_level(self, "foreign")
        set_log_level(self, "root")



class Gates(HelperTest):
    user = "root"  # whom the first two checks let through like the owner, and whose calls need no child

    def test_early_errors_carry_the_operation(self):
        cases = [
            ("org.freedesktop.DBus.Error.UnknownMethod", "RunThis", "(s)", ("id",)),
            (INVALID_ARGS, "DeleteTap", "(s)", (self.vm,)),
            (INVALID_ARGS, "DeleteTap", "(sa{sv})", (self.vm, options(colour="red"))),
            (INVALID_ARGS, "DeleteTap", "(sa{sv})", (self.vm, options(op_id=7))),
        ]
        for name, method, signature, arguments in cases:
            with self.subTest(f"{method} {signature} {arguments}"):
                seen = self.refused(name, self.stack.helper, method, signature, arguments)
                self.assertRegex(seen.message, OP)

    def test_operation_id_is_adopted(self):
        seen = self.refused("org.banger.Error.NoSuchLease", self.call, "DeleteTap", "(sa{sv})", self.vm,
                            op_id="op-00c0ffee")
        self.assertTrue(seen.message.endswith("(op-00c0ffee)"), seen.message)
        seen = self.refused("org.banger.Error.NoSuchLease", self.call, "DeleteTap", "(sa{sv})", self.vm,
                            op_id="op-NOT HEX")
        self.assertRegex(seen.message, OP)
        self.assertNotIn("NOT HEX", seen.message)

    def test_bridges(self):
        long = "br-fc-0123456789"
        self.assertEqual(len(long), 16)
        for name in ("eth0", "lo", "docker0", "br-fcx", "br-fc-", long, "br-fc-a b", "br-fc-a/b", "br-fc-a:b", "",
                     "../br-fc", "br-fc-%s", "br-fc-\n"):
            with self.subTest(name):
                self.refused(INVALID_NETWORK, self.call, "EnsureBridge", "(ssa{sv})", name, self.address)
                self.refused(INVALID_NETWORK, self.call, "RemoveBridge", "(sa{sv})", name)
                self.refused(INVALID_NETWORK, self.call, "CreateTap", "(sssa{sv})", self.vm, name, self.address)

    def test_addresses(self):
        for address in ("10.214.9.1/7", "10.214.9.1/33", "10.214.9.1/24x", "10.214.9.1", "10.214.9.1/", "10.214.9/24",
                        "10.214.9.1/024", "010.214.9.1/24", "fd00::1/64", "8.8.8.8/24", "10.214.9.0/24",
                        "10.214.9.255/24", "127.0.0.1/24", " 10.214.9.1/24", ""):
            with self.subTest(address):
                self.refused(INVALID_NETWORK, self.call, "EnsureBridge", "(ssa{sv})", self.bridge, address)
                self.refused(INVALID_NETWORK, self.call, "CreateTap", "(sssa{sv})", self.vm, self.bridge, address)
        self.assertFalse(os.path.exists(f"/sys/class/net/{self.bridge}"))

    def test_address_of_another_link(self):
        name = f"bt{self.stack.number}"
        subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
        try:
            subprocess.run(["ip", "addr", "add", self.address, "dev", name], check=True)
            self.refused(INVALID_NETWORK, self.call, "EnsureBridge", "(ssa{sv})", self.bridge, self.address)
        finally:
            subprocess.run(["ip", "link", "del", name], check=True)

    def test_foreign_bridge_is_left_alone(self):
        subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
        try:
            for method, signature, args in (("EnsureBridge", "(ssa{sv})", (self.bridge, self.address)),
                                            ("RemoveBridge", "(sa{sv})", (self.bridge,)),
                                            ("CreateTap", "(sssa{sv})", (self.vm, self.bridge, self.address))):
                self.refused("org.banger.Error.InUse", self.call, method, signature, *args)
            self.assertTrue(os.path.exists(f"/sys/class/net/{self.bridge}"))
            self.assertEqual(self.leases(), {})
        finally:
            subprocess.run(["ip", "link", "del", self.bridge], check=True)

    def test_foreign_tap_is_left_alone(self):
        tap = "tap-fc-" + self.vm
        subprocess.run(["ip", "tuntap", "add", tap, "mode", "tap"], check=True)
        try:
            self.refused("org.banger.Error.InUse", self.call, "CreateTap", "(sssa{sv})", self.vm, self.bridge,
                         self.address)
            self.call("ReleaseVm", "(sa{sv})", self.vm)
            self.assertTrue(os.path.exists(f"/sys/class/net/{tap}"))
        finally:
            subprocess.run(["ip", "link", "del", tap], check=True)

    def test_ids(self):
        for vm in ("", "abc", "../../etc", "g" * 8, "A" * 8, "0" * 33, "0" * 7, "0000000%", "00000000/", "0000 0000",
                   "00000000\n", "-0000000"):
            with self.subTest(vm):
                for method in ("DeleteTap", "RemoveNat", "RemoveSnapshot", "OpenVmm", "GetVmm", "KillVmm", "ReleaseVm"):
                    self.refused(INVALID_ID, self.call, method, "(sa{sv})", vm)
                self.refused(INVALID_ID, self.call, "LaunchVmm", "(sssa{sv})", self.vm, vm, "file")
                self.refused(INVALID_ID, self.call, "CreateSnapshot", "(ssta{sv})", self.vm, vm, 1 << 30)

    def test_signals(self):
        for name in ("STOP", "CONT", "9", "RTMIN+1", "SIGSIGTERM", "", "SIG", "TERM ", "19"):
            with self.subTest(name):
                self.refused("org.banger.Error.InvalidSignal", self.call, "SignalVmm", "(ssa{sv})", self.vm, name)

    def test_files(self):
        """What an id names must be a regular file of the owner's with one link."""
        kernel, _ = self.machine()
        path = self.stack.state / str(self.stack.owner.pw_uid) / "kernels" / kernel / "vmlinux"
        outside = self.stack.state / "outside"
        outside.write_bytes(b"root's")
        os.chown(outside, self.stack.owner.pw_uid, self.stack.owner.pw_gid)

        def foreign():
            path.write_bytes(b"x")
            os.chown(path, self.stack.foreign.pw_uid, self.stack.foreign.pw_gid)

        def huge():
            path.touch()
            os.truncate(path, 1 << 40)
            os.chown(path, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
        cases = {
            "link": lambda: path.symlink_to(outside), "hard link": lambda: os.link(outside, path),
            "device": lambda: os.mknod(path, 0o20666, os.makedev(1, 3)), "fifo": lambda: os.mkfifo(path),
            "folder": path.mkdir, "foreign": foreign, "huge": huge,
            "socket": lambda: os.mknod(path, 0o140600),
        }
        for what, make in cases.items():
            with self.subTest(what):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
                make()
                self.refused(UNSAFE, self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
        folder = path.parent
        shutil.rmtree(folder)
        folder.symlink_to(self.stack.state)
        self.refused(UNSAFE, self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
        (self.stack.state / "vmlinux").symlink_to(outside)
        self.refused(UNSAFE, self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
        (self.stack.state / "vmlinux").unlink()
        folder.unlink()
        self.refused("org.banger.Error.NoSuchKernel", self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
        outside.unlink()

    def test_guest_addresses(self):
        self.call("CreateTap", "(sssa{sv})", self.vm, self.bridge, self.address)
        net = self.address.split("/")[0].rsplit(".", 1)[0]
        for address in (self.address.split("/")[0], net + ".0", net + ".255", "8.8.8.8", "10.1.1.1", "nothing", ""):
            with self.subTest(address):
                self.refused(INVALID_NETWORK, self.call, "EnsureNat", "(ssa{sv})", self.vm, address)
        self.refused("org.banger.Error.NoSuchLease", self.call, "EnsureNat", "(ssa{sv})", self.other, self.guest)


class Network(HelperTest):
    def nft(self):
        return "".join(subprocess.run(["nft", "list", "table", family, "banger"], capture_output=True, text=True,
                                      check=False).stdout for family in ("netdev", "inet"))

    def ingress(self):
        """The rules for what comes out of the tap, without the line that names it; None if there are none."""
        found = re.search(rf"chain guest_{self.vm} {{\n(.*?)\n\s*}}", self.nft(), re.S)
        if not found:
            return None
        hook, *rules = [line.strip() for line in found[1].splitlines()]
        self.assertRegex(hook, rf'hook ingress device "tap-fc-{self.vm}" .*policy drop;')
        return rules

    def test_tap_and_bridge(self):
        for _ in range(2):  # twice: idempotent
            self.assertEqual(self.call("CreateTap", "(sssa{sv})", self.vm, self.bridge, self.address)[0],
                             "tap-fc-" + self.vm)
        net = pathlib.Path("/sys/class/net") / f"tap-fc-{self.vm}"
        self.assertEqual((net / "owner").read_text().strip(), str(self.stack.owner.pw_uid))
        self.assertEqual((net / "master").resolve().name, self.bridge)
        self.assertEqual((net / "brport/isolated").read_text().strip(), "1")
        self.assertEqual((net / "brport/learning").read_text().strip(), "0")
        self.assertEqual(self.leases(), {self.vm: ("tap", 0)})
        self.refused("org.banger.Error.InUse", self.call, "RemoveBridge", "(sa{sv})", self.bridge)
        self.refused("org.banger.Error.InUse", self.call, "CreateTap", "(sssa{sv})", self.vm + "00", self.bridge,
                     self.address)
        self.call("DeleteTap", "(sa{sv})", self.vm)
        self.assertFalse(net.exists())
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.call("RemoveBridge", "(sa{sv})", self.bridge)
        self.assertFalse(os.path.exists(f"/sys/class/net/{self.bridge}"))

    def test_nat(self):
        self.call("CreateTap", "(sssa{sv})", self.vm, self.bridge, self.address)
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        self.assertIn(f"ip saddr {self.guest} oifname !=", self.nft())
        self.assertIn(f'device "tap-fc-{self.vm}"', self.nft())
        self.call("CreateTap", "(sssa{sv})", self.other, self.bridge, self.address)
        self.refused("org.banger.Error.InUse", self.call, "EnsureNat", "(ssa{sv})", self.other, self.guest)
        self.call("RemoveNat", "(sa{sv})", self.vm)
        self.assertNotIn(self.guest, self.nft())

    def test_no_tap_without_a_filter(self):
        """Before NAT and after it only the host is reached; the last tap takes the tables with it."""
        before = snapshot_host()["nft tables"]
        host = self.address.split("/")[0]
        closed = ["meta protocol arp accept",
                  f"ip saddr {ipaddress.ip_interface(self.address).network} ip daddr {host} accept"]
        for end in ("DeleteTap", "ReleaseVm"):
            with self.subTest(end):
                for _ in range(2):
                    self.call("CreateTap", "(sssa{sv})", self.vm, self.bridge, self.address)
                    self.assertEqual(self.ingress(), closed)
                self.assertRegex(self.nft(), rf'iifname "?{self.bridge}"? drop')
                self.assertNotIn("masquerade", self.nft())
                self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
                self.assertEqual(self.ingress(), ["meta protocol arp accept", f"ip saddr {self.guest} accept"])
                self.call("CreateTap", "(sssa{sv})", self.vm, self.bridge, self.address)
                self.assertEqual(self.ingress(), ["meta protocol arp accept", f"ip saddr {self.guest} accept"])
                self.call("RemoveNat", "(sa{sv})", self.vm)
                self.assertEqual(self.ingress(), closed)
                self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
                self.call(end, "(sa{sv})", self.vm)
                self.assertIsNone(self.ingress())
                self.assertLessEqual(snapshot_host()["nft tables"], before)

    def test_restart_between(self):
        """The helper dies with everything made; the next one gives it back."""
        self.call("CreateTap", "(sssa{sv})", self.vm, self.bridge, self.address)
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        rules = self.ingress()
        self.stack.kill("helper")
        for family in ("netdev", "inet"):
            subprocess.run(["nft", "delete", "table", family, "banger"], check=True)
        self.stack.start_helper()
        self.assertEqual(self.leases(), {self.vm: ("tap,nat", 0)})
        self.assertEqual(self.ingress(), rules)
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertEqual(self.leases(), {})
        self.assertNotIn(self.guest, self.nft())
        self.assertFalse(os.path.exists(f"/sys/class/net/tap-fc-{self.vm}"))


class VmmTest(HelperTest):
    """With a VMM that waits at its socket."""

    def launch(self, **opts):
        kernel, run = self.machine()
        self.call("CreateTap", "(sssa{sv})", self.vm, self.bridge, self.address)
        result = self.call("LaunchVmm", "(sssa{sv})", self.vm, kernel, "file", **opts)
        self.assertEqual(result.fds, 1)
        end = time.monotonic() + 20
        while not (run / "api.sock").exists():
            self.assertLess(time.monotonic(), end, self.console())
            time.sleep(0.02)
        return result[0]

    def console(self):
        owner = self.stack.state / str(self.stack.owner.pw_uid)
        return (owner / "vms" / self.vm / "console.log").read_text(errors="replace") + self.stack.log_tail("helper")

    def status(self, pid):
        return status_of(pid)

    def cgroup(self, pid):
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as f:
            return next(line[3:].strip() for line in f if line.startswith("0::"))

    def wait_ended(self):
        end = time.monotonic() + 10
        while True:
            state = self.call("GetVmm", "(sa{sv})", self.vm)[0]
            if not state["running"]:
                return state
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)


class Vmm(VmmTest):
    def test_life(self):
        mounts = pathlib.Path("/proc/self/mountinfo").read_text()
        pid = self.launch()
        status = self.status(pid)
        self.assertEqual(status["Uid"].split(), [str(self.stack.owner.pw_uid)] * 4)
        self.assertEqual(status["Gid"].split(), [str(self.stack.owner.pw_gid)] * 4)
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertTrue(self.cgroup(pid).endswith(f"/banger-vm-{self.vm}"), self.cgroup(pid))
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/self/ns/mnt"))
        self.assertEqual(os.readlink(f"/proc/{pid}/ns/pid"), os.readlink("/proc/self/ns/pid"))
        inside = os.listdir(f"/proc/{pid}/root")
        self.assertIn("vmlinux", inside)
        self.assertNotIn("home", inside)
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
            rows = {line.split()[4]: line.split()[5].split(",") for line in f}
        for place in ("/vmlinux", "/initrd", "/usr"):
            self.assertIn("ro", rows[place], place)
        for place in ("/vmlinux", "/initrd", "/rootfs", "/work", "/run"):
            self.assertTrue({"nosuid", "nodev", "noexec"} <= set(rows[place]), place)
        self.assertEqual(pathlib.Path("/proc/self/mountinfo").read_text(), mounts)
        self.assertEqual(self.leases()[self.vm], ("tap,jail,cgroup", pid))
        self.assertEqual(self.call("OpenVmm", "(sa{sv})", self.vm)[0], pid)
        kernel = self.vm + "cc"
        self.refused("org.banger.Error.WrongState", self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
        self.refused("org.banger.Error.WrongState", self.call, "DeleteTap", "(sa{sv})", self.vm)
        self.call("SignalVmm", "(ssa{sv})", self.vm, "sigterm")
        self.wait_ended()
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertEqual(self.leases(), {})
        self.assertFalse((self.stack.state / "jail/firecracker" / self.vm).exists())

    def test_api_answers(self):
        self.launch()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{self.stack.install['runtime']}/{self.stack.owner.pw_uid}/{self.vm}/api.sock")
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            s.settimeout(10)
            self.assertIn(b"200", s.recv(4096).split(b"\r\n")[0])

    def test_kill_has_happened_when_it_answers(self):
        pid = self.launch()
        cpu = min(os.sched_getaffinity(0))
        busy = subprocess.Popen(["sh", "-c", "while :; do :; done"], preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
        self.addCleanup(busy.wait)
        self.addCleanup(busy.kill)
        os.sched_setscheduler(busy.pid, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setaffinity(pid, {cpu})  # a slow death: it needs a processor that it gets 5 % of, sched(7)
        self.call("KillVmm", "(sa{sv})", self.vm)
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        self.call("DeleteTap", "(sa{sv})", self.vm)
        self.assertEqual(self.leases()[self.vm], ("jail,cgroup", 0))
        self.refused("org.banger.Error.WrongState", self.call, "KillVmm", "(sa{sv})", self.vm)

    def test_an_end_tells_the_signal(self):
        pid = self.launch()
        os.kill(pid, signal.SIGKILL)
        devstack.wait_for("the zombie to go unasked", 10, lambda: not os.path.exists(f"/proc/{pid}"))
        state = self.wait_ended()
        self.assertEqual(state.get("exit-signal"), signal.SIGKILL)

    def test_restart_finds_it_again(self):
        pid = self.launch()
        self.stack.kill("helper")
        self.stack.start_helper()
        self.assertEqual(self.call("OpenVmm", "(sa{sv})", self.vm)[0], pid)
        self.assertTrue(self.call("GetVmm", "(sa{sv})", self.vm)[0]["running"])
        self.call("KillVmm", "(sa{sv})", self.vm)
        self.wait_ended()
        self.refused("org.banger.Error.WrongState", self.call, "OpenVmm", "(sa{sv})", self.vm)
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertEqual(self.leases(), {})

    def test_release_ends_it(self):
        pid = self.launch()
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        self.assertEqual(self.leases(), {})

    def test_forged_lease_hits_nobody(self):
        """A lease that names another process: neither signalled nor released into."""
        self.launch()
        self.stack.kill("helper")
        victim = subprocess.Popen(["sleep", "60"], user=self.stack.owner.pw_uid)
        try:
            path = pathlib.Path(self.stack.install["runtime"]) / "leases" / f"{self.vm}.json"
            lease = json.loads(path.read_text())
            real = lease["pid"]
            lease["pid"] = victim.pid
            lease["start"] = devstack.process_start(victim.pid)
            path.write_text(json.dumps(lease))
            self.stack.start_helper()
            self.refused("org.banger.Error.WrongState", self.call, "KillVmm", "(sa{sv})", self.vm)
            self.call("ReleaseVm", "(sa{sv})", self.vm)  # the cgroup names the real one
            self.assertIsNone(victim.poll())
            self.assertFalse(os.path.exists(f"/proc/{real}") and devstack.process_start(real))
        finally:
            victim.kill()
            victim.wait()

    def test_lease_in_a_foreign_cgroup_is_refused(self):
        path = pathlib.Path(self.stack.install["runtime"]) / "leases" / f"{self.vm}.json"
        path.write_text(json.dumps({"version": 1, "uid": self.stack.owner.pw_uid, "cgroup": "/system.slice/x.service",
                                    "jail": 0, "pid": 0, "start": 0}))
        self.refused("org.banger.Error.StateCorrupt", self.call, "ReleaseVm", "(sa{sv})", self.vm)
        path.write_text(json.dumps({"version": 1, "uid": self.stack.foreign.pw_uid, "jail": 0, "pid": 0, "start": 0}))
        for method in ("ReleaseVm", "GetVmm", "KillVmm"):
            self.refused("org.freedesktop.DBus.Error.AccessDenied", self.call, method, "(sa{sv})", self.vm)
        self.assertEqual(self.leases(), {})
        path.unlink()

    def test_two_launches_race(self):
        kernel, _ = self.machine()
        results = []

        def go():
            try:
                results.append(self.call("LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")[0])
            except CallError as error:
                results.append(error.name)
        threads = [threading.Thread(target=go) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(isinstance(r, int) for r in results), 1, results)
        self.assertEqual(results.count("org.banger.Error.WrongState"), 3, results)

    def test_failed_launch_leaves_nothing(self):
        kernel, run = self.machine()
        run.rmdir()
        self.refused("org.banger.Error.NoSuchVM", self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
        self.assertEqual(self.leases(), {})
        self.assertFalse((self.stack.state / "jail/firecracker" / self.vm).exists())


class Limits(HelperTest):
    def test_snapshot_or_not_supported(self):
        """Typed, and nothing is left, where the kernel has no device-mapper."""
        self.owner_file(f"images/{self.vm}/rootfs.ext4", b"\0" * 4096)
        self.owner_file(f"vms/{self.vm}/record.json")
        if os.path.exists("/dev/mapper/control"):
            device = self.call("CreateSnapshot", "(ssta{sv})", self.vm, self.vm, 16 << 20)[0]
            self.assertEqual(device, f"/dev/mapper/fc-rootfs-{self.vm}")
            self.call("RemoveSnapshot", "(sa{sv})", self.vm)
        else:
            self.refused("org.freedesktop.DBus.Error.NotSupported", self.call, "CreateSnapshot", "(ssta{sv})", self.vm,
                         self.vm, 16 << 20)
            self.assertEqual(self.leases(), {})

    def test_flood_of_a_foreign_user(self):
        """The owner is still served while a foreign uid calls as fast as it can."""
        stop = threading.Event()

        def flood():
            while not stop.is_set():
                with contextlib.suppress(CallError):
                    self.call("ListLeases", "(a{sv})", user="foreign")
        threads = [threading.Thread(target=flood) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                self.call("ListLeases", "(a{sv})")
        finally:
            stop.set()
            for thread in threads:
                thread.join()


if __name__ == "__main__":
    main()
