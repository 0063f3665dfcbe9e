"""The root helper on its bus: whom it serves, what each gate refuses, and a VMM's life through it.

Run by meson test as root; no guest is booted: the VMM waits at its socket.
Never uses a name that is not this stack's: bridge, VM ids and folders are its own.
"""

import contextlib
import errno
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

DENIED = ("org.freedesktop.DBus.Error.AccessDenied", "org.banger.Error.NotAuthorized",
          "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired")
INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"
INVALID_NETWORK = "org.banger.Error.InvalidNetwork"
INVALID_ID = "org.banger.Error.InvalidId"
UNSAFE = "org.banger.Error.UnsafeFile"
WRONG_STATE = "org.banger.Error.WrongState"
OP = r"\(op-[0-9a-f]{6,32}\)$"


def methods_of_helper():
    """(method, signature, sample arguments) of each method in the contract."""
    samples = {"s": "default", "a{sv}": {}, "t": 0, "o": "/", "as": [], "aq": [], "a(suay)": []}
    root = ElementTree.parse(SOURCE / "introspection" / "org.banger.Privileged.xml").getroot()
    for method in root.iter("method"):
        kinds = [a.get("type") for a in method.iter("arg") if a.get("direction") == "in"]
        yield method.get("name"), f"({''.join(kinds)})", [samples[k] for k in kinds]


def valid_calls(test):
    """Every method with arguments that its gates let through."""
    fit = {"vm": test.vm, "bridge": test.bridge, "address": test.address, "guest_address": test.guest,
           "image": test.vm, "kernel": test.vm, "cow_bytes": 1 << 30, "root": "file", "signal": "TERM",
           "resolver": "127.0.0.1:42069", "disk": "work", "path": "/etc/hostname", "files": [("/x", 0o644, b"x")],
           "socket": "api", "keep": [], "copy": test.other, "links": [test.other], "ports": [80], "options": {}}
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
        self.guest = self.guest_of(self.vm)
        self.addCleanup(self.give_back)

    def guest_of(self, vm):
        """An address of the bridge's net for each id of a test."""
        return self.address.split("/")[0].rsplit(".", 1)[0] + f".{20 + int(vm[6:8], 16) % 200}"

    def give_back(self):
        with contextlib.suppress(CallError, devstack.StackError):
            for vm in (self.vm, self.other):
                self.call("ReleaseVm", "(sa{sv})", vm)
            self.call("RemoveBridge", "(sa{sv})", self.bridge)
        owner = self.stack.state / str(self.stack.owner.pw_uid)
        for kind in ("vms", "images", "kernels"):
            for folder in (owner / kind).iterdir():
                folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)

    def gid(self):
        """The VM's own group."""
        return 0x70000000 + int(self.vm[:8], 16) % 0x0ffdffff

    def call(self, method, signature, *args, user=None, **opts):
        return self.stack.helper(method, signature, (*args, options(**opts)), user=user or self.user)

    def owner_file(self, path, text=b"x"):
        """A file of the owner's below its state."""
        target = self.stack.state / str(self.stack.owner.pw_uid) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text)
        for each in (target, target.parent, target.parent.parent):
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

    def test_introspection_is_the_contract(self):
        self.maxDiff = None
        live = self.stack.introspect(self.stack.system_address, HELPER[0], HELPER[1])
        wanted = (SOURCE / "introspection" / "org.banger.Privileged.xml").read_text(encoding="utf-8")
        self.assertTrue(harness.shape(wanted))
        self.assertEqual(harness.shape(live), harness.shape(wanted))

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
            (INVALID_ARGS, "RemoveNat", "(s)", (self.vm,)),
            (INVALID_ARGS, "RemoveNat", "(sa{sv})", (self.vm, options(colour="red"))),
            (INVALID_ARGS, "RemoveNat", "(sa{sv})", (self.vm, options(op_id=7))),
        ]
        for name, method, signature, arguments in cases:
            with self.subTest(f"{method} {signature} {arguments}"):
                seen = self.refused(name, self.stack.helper, method, signature, arguments)
                self.assertRegex(seen.message, OP)

    def test_operation_id_is_adopted(self):
        seen = self.refused("org.banger.Error.NoSuchLease", self.call, "RemoveNat", "(sa{sv})", self.vm,
                            op_id="op-00c0ffee")
        self.assertTrue(seen.message.endswith("(op-00c0ffee)"), seen.message)
        seen = self.refused("org.banger.Error.NoSuchLease", self.call, "RemoveNat", "(sa{sv})", self.vm,
                            op_id="op-NOT HEX")
        self.assertRegex(seen.message, OP)
        self.assertNotIn("NOT HEX", seen.message)

    def test_bridges(self):
        long = "br-fc-0123456789"
        self.assertEqual(len(long), 16)
        for name in ("eth0", "lo", "docker0", "br-fcx", "br-fc-", long, "br-fc-a b", "br-fc-a/b", "br-fc-a:b", "",
                     "../br-fc", "br-fc-%s", "br-fc-\n"):
            with self.subTest(name):
                self.refused(INVALID_NETWORK, self.call, "RemoveBridge", "(sa{sv})", name)
                self.refused(INVALID_NETWORK, self.call, "CreateTap", "(ssssa{sv})", self.vm, name, self.address, self.guest)

    def test_addresses(self):
        for address in ("10.214.9.1/7", "10.214.9.1/33", "10.214.9.1/24x", "10.214.9.1", "10.214.9.1/", "10.214.9/24",
                        "10.214.9.1/024", "010.214.9.1/24", "fd00::1/64", "8.8.8.8/24", "10.214.9.0/24",
                        "10.214.9.255/24", "127.0.0.1/24", " 10.214.9.1/24", ""):
            with self.subTest(address):
                self.refused(INVALID_NETWORK, self.call, "CreateTap", "(ssssa{sv})", self.vm, self.bridge, address, self.guest)
        self.assertFalse(os.path.exists(f"/sys/class/net/{self.bridge}"))

    def test_nets_that_root_did_not_choose(self):
        """Private, free and without a route, and still not the owner's to draw to guests."""
        wide = str(ipaddress.ip_interface(self.address).network.supernet()[1]) + "/23"
        for address in ("10.0.0.1/8", "172.16.0.1/12", "192.168.0.1/16", "192.168.77.1/24", "10.215.0.1/24", wide):
            with self.subTest(address):
                seen = self.refused(INVALID_NETWORK, self.call, "CreateTap", "(ssssa{sv})", self.vm, self.bridge, address, self.guest)
                self.assertIn("network.pool", seen.message)
        self.assertFalse(os.path.exists(f"/sys/class/net/{self.bridge}"))
        self.assertEqual(self.leases(), {})

    def test_address_of_another_link(self):
        name = f"bt{self.stack.number}"
        subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
        try:
            subprocess.run(["ip", "addr", "add", self.address, "dev", name], check=True)
            self.refused(INVALID_NETWORK, self.call, "CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        finally:
            subprocess.run(["ip", "link", "del", name], check=True)

    def test_foreign_bridge_is_left_alone(self):
        subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
        try:
            for method, signature, args in (("RemoveBridge", "(sa{sv})", (self.bridge,)),
                                            ("CreateTap", "(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest))):
                self.refused("org.banger.Error.InUse", self.call, method, signature, *args)
            self.assertTrue(os.path.exists(f"/sys/class/net/{self.bridge}"))
            self.assertEqual(self.leases(), {})
        finally:
            subprocess.run(["ip", "link", "del", self.bridge], check=True)

    def test_foreign_tap_is_left_alone(self):
        tap = "tap-fc-" + self.vm
        subprocess.run(["ip", "tuntap", "add", tap, "mode", "tap"], check=True)
        try:
            self.refused("org.banger.Error.InUse", self.call, "CreateTap", "(ssssa{sv})", self.vm, self.bridge,
                         self.address, self.guest)
            self.call("ReleaseVm", "(sa{sv})", self.vm)
            self.assertTrue(os.path.exists(f"/sys/class/net/{tap}"))
        finally:
            subprocess.run(["ip", "link", "del", tap], check=True)

    def test_ids(self):
        for vm in ("", "abc", "../../etc", "g" * 8, "A" * 8, "0" * 33, "0" * 7, "0000000%", "00000000/", "0000 0000",
                   "00000000\n", "-0000000"):
            with self.subTest(vm):
                for method in ("RemoveNat", "RemoveSnapshot", "OpenVmm", "GetVmm", "KillVmm", "ReleaseVm"):
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
        net = self.address.split("/")[0].rsplit(".", 1)[0]
        bad = (self.address.split("/")[0], net + ".0", net + ".255", "8.8.8.8", "10.1.1.1", "nothing", "")
        for address in bad:
            with self.subTest(address):
                self.refused(INVALID_NETWORK, self.call, "CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, address)
        self.assertEqual(self.leases(), {})
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        for address in bad:
            with self.subTest(address):
                self.refused(INVALID_NETWORK, self.call, "EnsureNat", "(ssa{sv})", self.vm, address)
        self.refused("org.banger.Error.NoSuchLease", self.call, "EnsureNat", "(ssa{sv})", self.other, self.guest)


class Network(HelperTest):
    def nft(self, *words):
        return subprocess.run(["nft", *words], capture_output=True, text=True, check=False).stdout

    def table(self):
        """What banger's tables of this stack are called."""
        return "banger" + self.bridge.removeprefix("br-fc")

    def elements(self, vm=None):
        """What the sets say of a VM: (family, table, set, element)."""
        tap, guest = "tap-fc-" + (vm or self.vm), self.guest_of(vm or self.vm)
        found = set()
        for each in json.loads(self.nft("-j", "list", "ruleset") or "{}").get("nftables", []):
            kind = each.get("set") or each.get("map")
            for element in (kind or {}).get("elem", []) if kind and kind["table"].startswith(self.table()) else []:
                text = json.dumps(element)
                if tap in text or re.search(rf"\b{re.escape(guest)}\b", text):
                    found.add((kind["family"], kind["table"], kind["name"]))
        return found

    def expected(self, nat):
        sets = [("bridge", "taps"), ("arp", "taps"), ("inet", "taps"), ("bridge", "guests"), ("bridge", "gateways"),
                ("netdev", "ports"), ("netdev", "addresses"), ("inet", "own")] + ([("inet", "nat")] if nat else [])
        return {(family, table, name) for family, name in sets for table in (self.table(), self.table() + ".held")}

    def test_tap_and_bridge(self):
        for _ in range(2):  # twice: idempotent
            self.assertEqual(self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)[0],
                             "tap-fc-" + self.vm)
        net = pathlib.Path("/sys/class/net") / f"tap-fc-{self.vm}"
        self.assertEqual((net / "owner").read_text().strip(), "-1")
        self.assertEqual((net / "group").read_text().strip(), str(self.gid()))
        self.assertEqual((net / "master").resolve().name, self.bridge)
        self.assertEqual((net / "brport/isolated").read_text().strip(), "1")
        for flag in ("learning", "unicast_flood", "multicast_flood", "broadcast_flood"):
            self.assertEqual((net / "brport" / flag).read_text().strip(), "0", flag)
        self.assertEqual(self.leases(), {self.vm: ("tap", 0)})
        self.refused("org.banger.Error.InUse", self.call, "RemoveBridge", "(sa{sv})", self.bridge)
        self.refused("org.banger.Error.InUse", self.call, "CreateTap", "(ssssa{sv})", self.vm + "00", self.bridge,
                     self.address, self.guest_of(self.vm + "00"))
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertFalse(net.exists())
        self.call("RemoveBridge", "(sa{sv})", self.bridge)
        self.assertFalse(os.path.exists(f"/sys/class/net/{self.bridge}"))

    def test_a_tap_is_taken_by_its_own_vmm_alone(self):
        """From birth, attached or not: neither the owner's processes nor the VMM of another VM get it."""
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        owner = self.stack.owner

        def take(gid):
            """TUNSETIFF with IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, as the owner in group @gid."""
            script = ("import fcntl, os, struct, sys\n"
                      "fd = os.open('/dev/net/tun', os.O_RDWR)\n"
                      f"os.setgroups([]); os.setresgid(*[{gid}] * 3); os.setresuid(*[{owner.pw_uid}] * 3)\n"
                      "try:\n"
                      "    fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', sys.argv[1].encode(), 0x5002))\n"
                      "except OSError as e:\n"
                      "    print(e.errno)\n"
                      "else:\n"
                      "    print(0)\n")
            return int(subprocess.run(["/usr/bin/python3", "-c", script, f"tap-fc-{self.vm}"], check=True,
                                      capture_output=True, text=True).stdout)
        self.assertEqual(take(owner.pw_gid), errno.EPERM)
        self.assertEqual(take(self.gid() + 0x11), errno.EPERM)
        self.assertEqual(take(self.gid()), 0)

    def test_nat(self):
        for vm in (self.vm, self.other):
            self.call("CreateTap", "(ssssa{sv})", vm, self.bridge, self.address, self.guest_of(vm))
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        self.refused(WRONG_STATE, self.call, "EnsureNat", "(ssa{sv})", self.other, self.guest)
        self.refused("org.banger.Error.InUse", self.call, "CreateTap", "(ssssa{sv})", f"{self.stack.number:06x}ee", self.bridge,
                     self.address, self.guest)
        self.refused(WRONG_STATE, self.call, "CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address,
                     self.guest_of(self.other))
        self.assertEqual((self.elements(), self.elements(self.other)), (self.expected(True), self.expected(False)))
        self.call("RemoveNat", "(sa{sv})", self.vm)
        self.assertEqual(self.elements(), self.expected(False))

    def test_no_tap_without_a_filter(self):
        """As old as the tap, and with NAT one element more; the last tap takes the tables with it."""
        before = snapshot_host()["nft tables"]
        for life in ("first", "second"):
            with self.subTest(life):
                for _ in range(2):
                    self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
                    self.assertEqual(self.elements(), self.expected(False))
                for _ in range(2):
                    self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
                    self.assertEqual(self.elements(), self.expected(True))
                    self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
                    self.assertEqual(self.elements(), self.expected(True))
                    self.call("RemoveNat", "(sa{sv})", self.vm)
                    self.assertEqual(self.elements(), self.expected(False))
                self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
                self.call("ReleaseVm", "(sa{sv})", self.vm)
                self.assertEqual(self.elements(), set())
                self.assertLessEqual(snapshot_host()["nft tables"], before)

    def records_since_now(self, last):
        """A function: the messages with that MESSAGE_ID that the helper has written since."""
        logged = os.path.getsize(self.stack.log_path("helper"))

        def records():
            with open(self.stack.log_path("helper"), encoding="utf-8") as f:
                f.seek(logged)
                return [r["MESSAGE"] for r in map(json.loads, f) if r.get("MESSAGE_ID") == "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d" + last]
        return records

    def test_what_was_lent_is_forgotten(self):
        """One record, and a note that can be read again."""
        records = self.records_since_now("05")
        note = pathlib.Path(self.stack.install["runtime"], "forwarding.json")
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        spoilt = note.with_suffix(".spoilt")
        spoilt.write_text("{", encoding="utf-8")
        spoilt.replace(note)  # at once: the helper that runs may read it, too
        self.stack.restart("helper")
        self.assertEqual(len(records()), 1)
        self.assertIn("is not JSON", records()[0])
        self.assertNotEqual(note.read_text(encoding="utf-8") if note.exists() else "", "{")
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertFalse(note.exists())
        self.assertEqual(len(records()), 1)

    def test_tables_that_somebody_takes_away(self):
        """They are back, with a record of who it was; the helper's own changes are none."""
        records = self.records_since_now("04")
        for vm in (self.vm, self.other):
            self.call("CreateTap", "(ssssa{sv})", vm, self.bridge, self.address, self.guest_of(vm))
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        self.call("ReleaseVm", "(sa{sv})", self.other)
        self.assertEqual(records(), [])
        for n, words in enumerate((["delete", "table", "bridge", self.table()], ["delete", "table", "inet", self.table()],
                                   ["flush", "set", "bridge", self.table(), "guests"])):
            self.assertEqual(self.elements(), self.expected(True))
            subprocess.run(["nft", *words], check=True)
            self.assertEqual({e for e in self.elements() if e[1].endswith(".held")},
                             {e for e in self.expected(True) if e[1].endswith(".held")})
            devstack.wait_for("the record", 60, lambda n=n: len(records()) > n)
        self.assertEqual(self.elements(), self.expected(True))
        self.assertEqual(len(records()), 3)
        self.assertIn("by 'nft' (process ", records()[0])
        self.assertNotEqual(subprocess.run(["nft", "delete", "table", "inet", self.table() + ".held"], check=False,
                                           stderr=subprocess.DEVNULL).returncode, 0)

    def test_tap_of_an_older_version(self):
        """Its lease knows no guest: nothing passes, and it can be told one as a new tap is, through the same gates."""
        for vm in (self.vm, self.other):
            self.call("CreateTap", "(ssssa{sv})", vm, self.bridge, self.address, self.guest_of(vm))
        self.stack.stop("helper")
        lease = pathlib.Path(self.stack.install["runtime"]) / "leases" / f"{self.vm}.json"
        content = json.loads(lease.read_text())
        self.assertEqual(content.pop("guest-address"), self.guest)
        lease.write_text(json.dumps(content))
        self.stack.start_helper()
        taps = {each for each in self.expected(False) if each[2] == "taps"}
        self.assertEqual(self.elements(), taps)
        self.assertEqual(self.leases()[self.vm], ("tap-without-address", 0))
        ask = ("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address)
        self.refused("org.banger.Error.InUse", self.call, *ask, self.guest_of(self.other))
        self.refused(INVALID_NETWORK, self.call, *ask, self.address.split("/")[0])
        self.refused(INVALID_NETWORK, self.call, *ask, "198.51.100.7")
        self.assertEqual(self.elements(), taps)
        self.assertEqual(self.call(*ask, self.guest)[0], "tap-fc-" + self.vm)
        self.assertEqual(self.elements(), self.expected(False))
        self.assertEqual(self.leases()[self.vm], ("tap", 0))
        self.refused(WRONG_STATE, self.call, *ask, self.guest_of(self.vm[:6] + "ff"))
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        self.assertEqual(self.elements(), self.expected(True))

    def test_restart_between(self):
        """The helper dies with everything made; the next one gives it back."""
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        self.stack.kill("helper")
        self.assertEqual({table for _, table, _ in self.elements()}, {self.table()})  # the other one was the helper's
        for family in ("netdev", "bridge", "arp", "inet"):
            subprocess.run(["nft", "delete", "table", family, self.table()], check=True)
        self.stack.start_helper()
        self.assertEqual(self.leases(), {self.vm: ("tap,nat", 0)})
        self.assertEqual(self.elements(), self.expected(True))
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertEqual(self.leases(), {})
        self.assertEqual(self.elements(), set())
        self.assertFalse(os.path.exists(f"/sys/class/net/tap-fc-{self.vm}"))

    def test_death_between_a_tap_and_its_elements(self):
        """What the tables say of a tap that is gone goes with its lease."""
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        self.stack.kill("helper")
        self.assertIn(f" {self.table()}\n", self.nft("list", "tables"))
        subprocess.run(["ip", "link", "del", f"tap-fc-{self.vm}"], check=True)
        self.stack.start_helper()
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertEqual(self.leases(), {})
        self.assertNotIn(f" {self.table()}\n", self.nft("list", "tables"))

    def test_release_on_a_full_disk(self):
        """That is when it must go: nothing has to be written for it, not even that NAT is over."""
        runtime = self.stack.install["runtime"]
        self.stack.stop("helper")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=128k", "tmpfs", runtime], check=True)
        try:
            self.stack.start_helper()
            for vm in (self.vm, self.other):
                self.call("CreateTap", "(ssssa{sv})", vm, self.bridge, self.address, self.guest_of(vm))
                self.call("EnsureNat", "(ssa{sv})", vm, self.guest_of(vm))
            self.refused("org.banger.Error.NoSpace", self._fill_and_call, runtime, "RemoveNat")
            forwarding = pathlib.Path(f"/proc/sys/net/ipv4/conf/{self.bridge}/forwarding")
            for vm, left in ((self.vm, "1"), (self.other, "0")):
                self.call("ReleaseVm", "(sa{sv})", vm)
                self.assertEqual(self.elements(vm), set())
                self.assertFalse(os.path.exists(f"/sys/class/net/tap-fc-{vm}"))
                if pathlib.Path("/proc/sys/net/ipv4/conf/all/forwarding").read_text() == "0\n":
                    self.assertEqual(forwarding.read_text().strip(), left)
            self.assertEqual(self.leases(), {})
        finally:
            pathlib.Path(runtime, "ballast").unlink(missing_ok=True)
            self.give_back()
            self.stack.stop("helper")
            subprocess.run(["umount", runtime], check=True)
            self.stack.start_helper()

    def _fill_and_call(self, folder, method):
        with contextlib.suppress(OSError), open(f"{folder}/ballast", "wb", buffering=0) as f:
            while True:
                f.write(bytes(4096))
        self.call(method, "(sa{sv})", self.vm)


class VmmTest(HelperTest):
    """With a VMM that waits at its socket."""

    def launch(self, **opts):
        kernel, run = self.machine()
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest_of(self.vm))
        result = self.call("LaunchVmm", "(sssa{sv})", self.vm, kernel, "file", **opts)
        self.assertEqual(result.fds, 1)
        end = time.monotonic() + 60
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
        end = time.monotonic() + 60
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
        self.assertEqual(status["Gid"].split(), [str(self.gid())] * 4)
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertTrue(self.cgroup(pid).endswith(f"/banger-vm-{self.vm}"), self.cgroup(pid))
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/self/ns/mnt"))
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/pid"), os.readlink("/proc/self/ns/pid"))
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/ipc"), os.readlink("/proc/self/ns/ipc"))
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
        self.refused("org.banger.Error.WrongState", self.call, "RemoveChroot", "(sa{sv})", self.vm)
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
            s.settimeout(60)
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
        self.assertEqual(self.leases()[self.vm], ("tap,jail,cgroup", 0))
        self.refused("org.banger.Error.WrongState", self.call, "KillVmm", "(sa{sv})", self.vm)

    def test_an_end_tells_the_signal(self):
        pid = self.launch()
        os.kill(pid, signal.SIGKILL)
        devstack.wait_for("the zombie to go unasked", 60, lambda: not os.path.exists(f"/proc/{pid}"))
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

    def test_covered_cgroup2(self):
        """Another file system over the hierarchy: it is found where it is seen, and VMs start and go."""
        elsewhere = self.stack.base / "cgroup2"
        elsewhere.mkdir()
        script = 'mount -t tmpfs none "$1" && mount -t cgroup2 none "$2" && shift 2 && exec "$@"'
        self.stack.restart("helper", wrapper=("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh",
                                              devstack.cgroup2_root(), str(elsewhere)))
        try:
            pid = self.launch()
            self.assertTrue(self.cgroup(pid).endswith("/banger-vm-" + self.vm), self.cgroup(pid))
            self.call("ReleaseVm", "(sa{sv})", self.vm)
            self.assertEqual(self.leases(), {})
        finally:
            self.stack.restart("helper")
            elsewhere.rmdir()

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
        if harness.has_device_mapper():
            device = self.call("CreateSnapshot", "(ssta{sv})", self.vm, self.vm, 16 << 20, new=True)[0]
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
