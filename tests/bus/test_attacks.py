"""Attacks on the root helper over its bus: hostile values, forged leases, files that are not what they seem.

Run by meson test as root; no guest is booted.
"""

import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import time

import harness
import devstack
from gi.repository import Gio, GLib
from harness import HELPER, CallError, main
from attacks import DENIED, WRONG_STATE, AttackTest, Client, contract
from test_privileged import INVALID_ARGS, OP, UNSAFE, valid_calls

# Each is refused wherever a string is expected, with one of these errors.
REFUSALS = {INVALID_ARGS, "org.banger.Error.InvalidId", "org.banger.Error.InvalidNetwork",
            "org.banger.Error.InvalidSignal", "org.banger.Error.InvalidSize", "org.banger.Error.InvalidPath"}
HOSTILE = [
    "", " ", ".", "..", "/", "../../etc/passwd", "/etc/shadow", "0123456/", "a" * 7, "a" * 33, "A" * 8, "a" * 100000,
    "%s%s%n", "%08x%n%n%n%n", "\n", "deadbeef\n", "\x1b[31mred", "\x7f\x01", "\u202eabcdef", "\u00e9" * 100,
    "a" * 79 + "\u00e9", "$(id)", "`id`", "; rm -rf /", "\"}; flush ruleset; #", "eth0", "lo", "docker0", "br-fc/../x",
    "br-fc ", "br-fc:1", "br-fc-\u00e9", "tap-fc-00000000", "fc-rootfs-../x", "/dev/mapper/other", "/dev/sda1",
    "/dev/loop", "/dev/loop1p1", "/dev/mem", "/proc/1/mem", "STOP", "CONT", "9", "SIGSIGTERM", "RTMIN+1", "0", "-1",
    "127.0.0.1/8", "8.8.8.8/24", "0.0.0.0/0", "10.0.0.1/7", "10.0.0.1/33", "10.0.0.1/ 8", "10.0.0.1", "::1/64",
    "snapshot\0file"[:8] + "s",
]


class Values(AttackTest):
    """Whatever a caller writes into the arguments."""

    @staticmethod
    def fits(argument, word):
        """Whether it is a good value of this argument: paths in a guest's disk, addresses."""
        if argument == "path":
            return word.startswith("/") and word.isprintable() and len(word) < 1000 and "/.." not in word
        return argument in ("guest_address", "resolver") and word == "10.0.0.1"

    def test_hostile_strings(self):
        """Every hostile word in every string argument: refused by its gate, and nothing is changed."""
        valid = {name: args for name, _, args in valid_calls(self)}
        count = 0
        with self.unchanged():
            for name, arguments, types in contract():
                for i, kind in enumerate(types):
                    for word in HOSTILE if kind == "s" else ():
                        if self.fits(arguments[i], word):
                            continue  # that nothing is held for it is another refusal
                        args = list(valid[name])
                        args[i] = word
                        with self.assertRaises(CallError, msg=f"{name} {arguments[i]} {word[:40]!a}") as caught:
                            self.client.call(name, GLib.Variant(f"({''.join(types)})", args))
                        self.check_refusal(caught.exception, REFUSALS)
                        count += 1
        self.assertGreater(count, 1000)

    def test_numbers(self):
        for value in (0, 1, 511, (16 << 20) - 1, (16 << 20) + 1, (4 << 40) + 512, 2**63, 2**64 - 1, 2**64 - 512):
            with self.subTest(value), self.unchanged(), self.assertRaises(CallError) as caught:
                self.client.call("CreateSnapshot", GLib.Variant("(ssta{sv})", (self.vm, self.vm, value, {})))
            self.check_refusal(caught.exception, {"org.banger.Error.InvalidSize"})

    def test_every_option(self):
        """Unknown keys, wrong types, a key twice: on every method."""
        def raw(*pairs):
            builder = GLib.VariantBuilder(GLib.VariantType("a{sv}"))
            for key, value in pairs:
                builder.add_value(GLib.Variant("{sv}", (key, value)))
            return builder.end()
        text = GLib.Variant("s", "op-0123456789")
        bad = [raw(("colour", text)), raw(("", text)), raw(("%s%n", text)), raw(("OP-ID", text)), raw(("op_id", text)),
               raw(("op-id\n", text)), raw(("\u202e", text)), raw(("a" * 5000, text)), raw(("op-id", text), ("x", text)),
               raw(("op-id", text), ("op-id", text)), raw(*[(f"k{i}", text) for i in range(70)])]
        for kind, value in (("u", 1), ("b", True), ("as", ["op-012345"]), ("d", 1.0), ("o", "/"), ("g", "s"),
                            ("a{sv}", {}), ("v", text), ("(s)", ("op-012345",)), ("ay", b"op-012345"), ("t", 1)):
            bad.append(raw(("op-id", GLib.Variant(kind, value))))
        with self.unchanged():
            for (name, _, args), (_, _, types) in zip(valid_calls(self), contract()):
                for each in bad:
                    body = GLib.Variant.new_tuple(*[GLib.Variant(t, a) for t, a in zip(types[:-1], args)], each)
                    with self.assertRaises(CallError, msg=f"{name} {each.print_(True)[:60]}") as caught:
                        self.client.call(name, body)
                    self.check_refusal(caught.exception, {INVALID_ARGS})

    def test_every_signature(self):
        """An argument too few, too many, of another type, wrapped: on every method."""
        samples = {"s": "0123456789", "u": 7, "t": 7, "i": -7, "b": True, "d": 0.5, "o": "/", "as": ["x"], "aq": [7], "a{sv}": {},
                   "v": GLib.Variant("s", "x"), "h": 0, "ay": b"x", "(s)": ("x",), "a(suay)": [("/x", 0o644, b"x")]}
        with self.unchanged():
            for name, _, types in contract():
                wrong = [types[:-1], types + ["s"], ["s"] + types, [f"({''.join(types)})"]]
                for i, kind in enumerate(types):
                    wrong += [types[:i] + [other] + types[i + 1:] for other in samples if other != kind]
                for each in wrong:
                    args = [samples.get(t, tuple(samples[x] for x in types)) for t in each]
                    with self.assertRaises(CallError, msg=f"{name} {each}") as caught:
                        self.client.call(name, GLib.Variant(f"({''.join(each)})", args))
                    self.check_refusal(caught.exception, {INVALID_ARGS})

    def test_unknown_members(self):
        """Other methods, interfaces and paths: typed, with the op id; also for strangers."""
        for interface, path, method in ((HELPER[2], HELPER[1], "RunThis"), (HELPER[2], "/", "ListLeases"),
                                        ("org.banger.Manager", HELPER[1], "ListLeases"),
                                        (HELPER[2], HELPER[1] + "/x", "ListLeases"),
                                        ("org.freedesktop.DBus.Debug", HELPER[1], "x")):
            with self.subTest(f"{interface} {path} {method}"), self.assertRaises(CallError) as caught:
                self.client.call(method, GLib.Variant("(a{sv})", ({},)), interface, path)
            self.check_refusal(caught.exception, {"org.freedesktop.DBus.Error.UnknownMethod"})
        with self.assertRaises(CallError) as caught:
            self.stack.helper("RunThis", "(sa{sv})", ("id", {}), user="foreign")
        self.check_refusal(caught.exception, {DENIED})

    def test_bytes_that_are_no_text(self):
        """The bus hangs up on who sends them; the helper does not see them."""
        pid = self.stack.pid("helper")
        connection = Client(self.stack.system_address)
        message = Gio.DBusMessage.new_method_call(*HELPER, "RemoveNat")
        message.set_serial(9)
        message.set_body(GLib.Variant("(sa{sv})", ("QQQQQQQQ", {})))
        blob = message.to_blob(Gio.DBusCapabilityFlags.NONE).replace(b"QQQQQQQQ", b"QQ\xff\xfeQQQQ")
        stream = connection.connection.get_stream().get_output_stream()
        stream.write_all(blob, None)
        end = time.monotonic() + 60
        while not connection.connection.is_closed() and time.monotonic() < end:
            GLib.MainContext.default().iteration(False)
            time.sleep(0.01)
        self.assertTrue(connection.connection.is_closed())
        self.call("ListLeases", "(a{sv})")
        self.assertEqual(self.stack.pid("helper"), pid)

    def test_name_is_roots(self):
        """Nobody else can answer in the helper's name."""
        for user in (self.stack.owner, self.stack.foreign):
            with self.assertRaises(CallError) as caught:
                harness.call(self.stack.system_address, ("org.freedesktop.DBus", "/org/freedesktop/DBus",
                             "org.freedesktop.DBus"), "RequestName", "(su)", (HELPER[0], 4), user=user)
            self.assertEqual(caught.exception.name, DENIED)


class Leases(AttackTest):
    """What a lease says is not believed."""

    def vm_calls(self):
        for (name, signature, args), (_, arguments, _) in zip(valid_calls(self), contract()):
            if arguments[0] == "vm":
                yield name, signature, args

    def test_another_owners_vm(self):
        """A VM of somebody else, for every method that takes one: not even root's call touches it."""
        self.machine()
        self.owner_file(f"images/{self.vm}/rootfs.ext4", b"\0" * 4096)
        self.forge(uid=self.stack.foreign.pw_uid)
        count = 0
        for name, signature, args in self.vm_calls():
            if name.endswith("Snapshot") and not harness.has_device_mapper():
                names = (DENIED, "org.freedesktop.DBus.Error.NotSupported")
            else:
                names = (DENIED,)
            with self.subTest(name), self.unchanged():
                seen = self.refused(names, self.stack.helper, name, signature, args, user=self.user)
                self.check_refusal(seen, names)
                count += 1
        self.assertGreater(count, 10)
        self.assertEqual(self.leases(), {})

    def test_one_foreign_field(self):
        """Each field of a lease with another's name in it: nothing is released, signalled or removed."""
        self.call("CreateTap", "(ssssa{sv})", self.other, self.bridge, self.address, self.guest_of(self.other))
        tap = {"tap": "tap-fc-" + self.vm, "bridge": self.bridge, "bridge_address": self.address}
        fields = [
            tap | {"tap": "lo"}, tap | {"tap": "eth0"}, tap | {"tap": "tap-fc-" + self.other}, tap | {"tap": ""},
            tap | {"bridge": "lo"}, tap | {"bridge": "docker0"}, tap | {"bridge_address": "8.8.8.8/24"},
            tap | {"guest_address": "8.8.8.8"}, tap | {"guest_address": self.address.split("/")[0]},
            {"dm": "fc-rootfs-../x", "image": self.vm}, {"dm": "/dev/mapper/other", "image": self.vm},
            {"dm": "/dev/sda1", "image": self.vm}, {"dm": "/dev/loop", "image": self.vm},
            {"dm": "/dev/loop1p1", "image": self.vm}, {"dm": "fc-rootfs-" + self.other, "image": self.vm},
            {"dm": "fc-rootfs-" + self.vm, "image": "../x"}, {"dm": ""},
            {"cgroup": "/"}, {"cgroup": "/user.slice/user-1000.slice/bangerd-root.service"},
            {"cgroup": f"/x/../banger-vm-{self.vm}"}, {"cgroup": f"/banger-vm-{self.other}"},
            {"cgroup": f"/banger-vm-{self.vm}/x"}, {"cgroup": ""}, {"pid": 1}, {"pid": -1}, {"pid": "1"},
            {"pid": 1, "start": 1}, {"jail": "yes"}, {"jail": 7}, {"uid": -1}, {"uid": "0"}, {"version": 99},
            {"tap": None}, {"tap": ["lo"]}, {"cgroup": {"a": 1}},
        ]
        for each in fields:
            self.forge(**{"uid": None} | each if "uid" not in each else each)
            if "uid" in each:
                self.lease_path().write_text(json.dumps({"version": 1, "uid": each["uid"]}))
            with self.subTest(each), self.unchanged():
                for method in ("ReleaseVm", "KillVmm", "RemoveSnapshot", "RemoveNat", "OpenVmm", "GetVmm"):
                    with self.assertRaises(CallError, msg=method) as caught:
                        self.call(method, "(sa{sv})", self.vm)
                    self.assertRegex(caught.exception.message, OP)
        self.lease_path().unlink()
        self.assertEqual(self.leases(), {self.other: ("tap", 0)})

    def test_processes(self):
        """A lease that names a process which is no VMM: it is neither signalled nor handed out."""
        own = self.stack.cgroup().removeprefix(devstack.cgroup2_root())
        cgroup = f"{own}/banger-vm-{self.vm}"
        # an orphan of this VM's would be the owner's and name this VM's socket: one is another VM's, one a stranger's
        sockets = f"{self.runtime}/{self.stack.owner.pw_uid}"
        victims = [subprocess.Popen(["sh", "-c", "kill -STOP $$; :", "firecracker", "--api-sock", f"{sockets}/{vm}/api.sock"],
                                    user=user.pw_uid, stdin=subprocess.DEVNULL)
                   for user, vm in ((self.stack.owner, self.other), (self.stack.foreign, self.vm))]
        borrowed = pathlib.Path(f"{devstack.cgroup2_root()}/{self.stack.name}-user/bangerd-root.service")
        borrowed.mkdir(parents=True)
        victims.append(subprocess.Popen(["sleep", "60"], user=self.stack.owner.pw_uid))
        (borrowed / "cgroup.procs").write_text(str(victims[-1].pid))
        try:
            for pid in [1, os.getpid(), self.stack.pid("helper"), *(v.pid for v in victims)]:
                self.forge(pid=pid, start=devstack.process_start(pid), cgroup=cgroup)
                with self.subTest(harness.read_text(f"/proc/{pid}/cmdline")), self.unchanged():
                    for method, signature, args in (("KillVmm", "(sa{sv})", ()), ("SignalVmm", "(ssa{sv})", ("TERM",)),
                                                    ("OpenVmm", "(sa{sv})", ())):
                        self.refused((DENIED, WRONG_STATE), self.call, method, signature, self.vm, *args)
                    self.assertIsNotNone(devstack.process_start(pid))
            for victim in victims:  # the end of the VM is not theirs either
                self.forge(pid=victim.pid, start=devstack.process_start(victim.pid), cgroup=cgroup)
                self.call("ReleaseVm", "(sa{sv})", self.vm)
                self.assertIsNone(victim.poll())
            for number in (0, 2**31 - 1):
                self.forge(pid=number, start=1, cgroup=cgroup)
                self.refused((DENIED, WRONG_STATE), self.call, "KillVmm", "(sa{sv})", self.vm)
        finally:
            for victim in victims:
                victim.kill()
                victim.wait()
            devstack.wait_for("the cgroup to be empty", 60, lambda: self.stack._rmdir(borrowed))
            borrowed.parent.rmdir()

    def test_recycled_pid(self):
        """The VMM's number goes to another process: same cgroup, same owner, another start."""
        own = self.stack.cgroup()
        folder = pathlib.Path(f"{own}/banger-vm-{self.vm}")
        folder.mkdir()
        victim = subprocess.Popen(["sleep", "60"], user=self.stack.owner.pw_uid)
        try:
            (folder / "cgroup.procs").write_text(str(victim.pid))
            start = devstack.process_start(victim.pid)
            cgroup = str(folder).removeprefix(devstack.cgroup2_root())
            self.forge(pid=victim.pid, start=start - 1, cgroup=cgroup)
            self.refused(DENIED, self.call, "KillVmm", "(sa{sv})", self.vm)
            self.assertIsNone(victim.poll())
            self.forge(pid=victim.pid, start=start, cgroup=cgroup)  # so the start alone made the difference
            self.call("KillVmm", "(sa{sv})", self.vm)
            self.assertEqual(victim.wait(timeout=60), -signal.SIGKILL)
        finally:
            victim.kill()
            victim.wait()
            devstack.wait_for("the cgroup to be empty", 60, lambda: self.stack._rmdir(folder))


class Files(AttackTest):
    """What the owner puts where the helper looks."""

    def expect_refused(self, what, kernel, names=(UNSAFE,), **options):
        with self.subTest(what), self.unchanged():
            seen = self.refused(names, self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file", **options)
            self.check_refusal(seen, names)

    def test_every_file_of_a_vm(self):
        kernel, _ = self.machine()
        owner = self.stack.owner
        outside = self.stack.base / "outside"
        outside.write_bytes(b"x")
        os.chown(outside, owner.pw_uid, owner.pw_gid)
        vm = self.stack.state / str(owner.pw_uid) / "vms" / self.vm

        def made(make, chown=True):
            def inner(path):
                make(path)
                if chown:
                    os.lchown(path, owner.pw_uid, owner.pw_gid)
            return inner

        def foreign(path):
            path.write_bytes(b"x")
            os.chown(path, self.stack.foreign.pw_uid, self.stack.foreign.pw_gid)
        kinds = {
            "link": lambda p: p.symlink_to(outside), "dangling link": lambda p: p.symlink_to("nothing"),
            "hard link": lambda p: os.link(outside, p), "FIFO": made(os.mkfifo), "folder": made(os.mkdir),
            "socket": made(lambda p: os.mknod(p, 0o140600)), "foreign file": foreign,
            "block device": made(lambda p: os.mknod(p, 0o60600, os.makedev(7, 0))),
            "character device": made(lambda p: os.mknod(p, 0o20666, os.makedev(1, 5))),
        }
        suspension = [f"{when}.{what}" for when in ("suspending", "suspended") for what in ("state", "memory")]
        for name in suspension:
            self.owner_file(f"vms/{self.vm}/{name}")
        for name in ("initrd", "rootfs.ext4", "work.ext4", "console.log", *suspension):
            path = vm / name
            for what, make in kinds.items():
                path.unlink()
                make(path)
                self.expect_refused(f"{what} as {name}", kernel)
                path.rmdir() if what == "folder" else path.unlink()
                self.owner_file(f"vms/{self.vm}/{name}")
        for name, size in (("initrd", (2 << 30) + 1), ("rootfs.ext4", (4 << 40) + 1), ("work.ext4", (4 << 40) + 1),
                           ("suspended.state", (256 << 20) + 1), ("suspending.memory", (2 << 40) + 1)):
            os.truncate(vm / name, size)
            self.expect_refused(f"huge {name}", kernel)
            os.truncate(vm / name, 1)
        self.templates(kernel, kinds)
        vm.rename(vm.with_name("aside"))
        vm.symlink_to("aside")
        self.expect_refused("link as the VM's folder", kernel)

    def templates(self, kernel, kinds):
        """A guest is loaded from the owner's own template, of which every file is what it should be, or not at all."""
        template = "7e391a7e"
        for hostile in ("", "../" + template, "..", "7e391a7e/", self.vm + "\n"):
            self.refused("org.banger.Error.InvalidId", self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file",
                         template=hostile)
        self.expect_refused("no template", kernel, ("org.banger.Error.StateCorrupt",), template=template)
        state, memory = (self.owner_file(f"templates/{template}/{name}") for name in ("state", "memory"))
        for path, size in ((state, (256 << 20) + 1), (memory, (2 << 40) + 1)):
            os.truncate(path, size)
            self.expect_refused(f"huge {path.name}", kernel, template=template)
            os.truncate(path, 1)
            path.unlink()
            for what, make in kinds.items():
                make(path)
                self.expect_refused(f"{what} as a template's {path.name}", kernel, template=template)
                path.rmdir() if what == "folder" else path.unlink()
            self.expect_refused(f"no {path.name}", kernel, ("org.banger.Error.StateCorrupt",), template=template)
            self.owner_file(f"templates/{template}/{path.name}")
        state.parent.rename(state.parent.with_name("aside"))
        state.parent.symlink_to("aside")
        self.expect_refused("link as the template's folder", kernel, template=template)
        state.parent.unlink()

    def test_mounts(self):
        """A mount point under an id: a bound file, a bound folder."""
        kernel, _ = self.machine()
        owner = self.stack.state / str(self.stack.owner.pw_uid)
        other = self.owner_file(f"kernels/{self.other}/vmlinux")
        for source, target in ((other, owner / "kernels" / kernel / "vmlinux"),
                               (other.parent, owner / "kernels" / kernel)):
            subprocess.run(["mount", "--bind", source, target], check=True)
            try:
                self.expect_refused(f"mount over {target}", kernel)
            finally:
                subprocess.run(["umount", target], check=True)

    def test_folder_of_sockets(self):
        kernel, run = self.machine()
        outside = self.stack.base / "outside-run"
        outside.mkdir(mode=0o700)
        os.chown(outside, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
        run.chmod(0o711)
        self.expect_refused("open to others", kernel)
        run.chmod(0o700)
        os.chown(run, self.stack.foreign.pw_uid, 0)
        self.expect_refused("another's", kernel)
        os.chown(run, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
        subprocess.run(["mount", "--bind", outside, run], check=True)
        try:
            self.expect_refused("mount", kernel, (UNSAFE, "org.banger.Error.NoSuchVM"))
        finally:
            subprocess.run(["umount", run], check=True)
        run.rmdir()
        run.symlink_to(outside)
        self.expect_refused("link", kernel, (UNSAFE, "org.banger.Error.NoSuchVM"))
        run.unlink()
        run.write_bytes(b"")
        self.expect_refused("file", kernel, (UNSAFE, "org.banger.Error.NoSuchVM"))
        run.unlink()

    def test_cleanup_of_a_chroot(self):
        """Links in it are not followed, mounts in it go, what they lead to stays."""
        outside = self.stack.base / "precious"
        (outside / "folder").mkdir(parents=True)
        for path in (outside / "kept", outside / "folder/kept"):
            path.write_bytes(b"x")
        jail = self.stack.state / "jail/firecracker"
        chroot = jail / self.vm
        (chroot / "root/run").mkdir(parents=True)
        neighbour = jail / (self.vm + "00")
        neighbour.mkdir()
        (chroot / "root/link").symlink_to(outside)
        (chroot / "root/up").symlink_to("../../../..")
        for source, target in ((outside, chroot / "root/run"), (outside / "folder", chroot / "root/run/folder"),
                               (outside, neighbour)):
            subprocess.run(["mount", "--bind", source, target], check=True)
        try:
            self.forge(jail=1)
            self.call("ReleaseVm", "(sa{sv})", self.vm)
            self.assertFalse(chroot.exists())
            self.assertTrue((outside / "kept").exists() and (outside / "folder/kept").exists())
            self.assertTrue((neighbour / "kept").exists())
            self.forge(jail=1)
            chroot.symlink_to(outside)
            seen = self.refused("org.banger.Error.Failed", self.call, "ReleaseVm", "(sa{sv})", self.vm)
            self.assertIn("left alone", seen.message)
            self.assertTrue((outside / "kept").exists() and chroot.is_symlink() and self.lease_path().exists())
            chroot.unlink()
        finally:
            subprocess.run(["umount", neighbour], check=True)
            neighbour.rmdir()

    def test_chroots_without_a_lease(self):
        """A host that went down leaves them: a starting helper removes those, and nothing else beside them."""
        jail, kept = self.stack.state / "jail/firecracker", self.stack.base / "kept"
        orphan, mounted, leased, broken, link = (jail / (f"{n}0" * 6) for n in "abcde")
        stranger = jail / "notes"
        for folder in (orphan, mounted, leased, broken, stranger, kept):
            folder.mkdir()
            (folder / "file").write_text("x")
        link.symlink_to(kept)
        (mounted / "run").mkdir()
        subprocess.run(["mount", "--bind", kept, mounted / "run"], check=True)
        self.forge(leased.name, jail=1)
        self.forge(broken.name).write_text("{")
        try:
            self.stack.restart("helper")
            self.assertEqual([path.name for path in (orphan, mounted, leased, broken, stranger, link) if os.path.lexists(path)],
                             [path.name for path in (leased, broken, stranger, link)])
            self.assertIn("not a folder", self.stack.log_tail("helper", 20))
            self.assertEqual((kept / "file").read_text(), "x")
            self.assertTrue((leased / "file").exists() and (broken / "file").exists())
        finally:
            subprocess.run(["umount", mounted / "run"], check=False, stderr=subprocess.DEVNULL)
            link.unlink(missing_ok=True)
            for folder in (orphan, mounted, leased, broken, stranger, kept):
                shutil.rmtree(folder, ignore_errors=True)

    def test_release_goes_on(self):
        """A step that fails stops no other; each failure is named, and the lease stays until all is gone."""
        _, run = self.machine()
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        self.lease_path().write_text(json.dumps(json.loads(self.lease_path().read_text()) | {"jail": 1}))
        chroot, inside = self.stack.state / "jail/firecracker" / self.vm, run / "inside"
        chroot.symlink_to(self.stack.base)
        inside.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", inside], check=True)
        try:
            seen = self.refused("org.banger.Error.Failed", self.call, "ReleaseVm", "(sa{sv})", self.vm)
        finally:
            subprocess.run(["umount", inside], check=True)
        self.assertIn("chroot: ", seen.message)
        self.assertIn("sockets: ", seen.message)
        self.assertFalse(os.path.exists(f"/sys/class/net/tap-fc-{self.vm}"))
        self.assertTrue(self.lease_path().exists())
        seen = self.refused("org.banger.Error.Failed", self.call, "ReleaseVm", "(sa{sv})", self.vm)
        self.assertNotIn("sockets: ", seen.message)
        self.assertFalse(run.exists())
        self.assertTrue(self.lease_path().exists())
        chroot.unlink()
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertFalse(self.lease_path().exists())

    def test_own_folders(self):
        """The helper does not start where a folder of its own is another's, open to others, or a link."""
        owner, foreign = self.stack.owner.pw_uid, self.stack.foreign.pw_uid
        jail = self.stack.state / "jail"
        folders = {self.runtime: owner, self.runtime / "leases": owner, self.runtime / str(owner): foreign, jail: owner,
                   jail / "firecracker": owner, self.stack.state: owner, self.stack.state / str(owner): foreign}
        self.stack.stop("helper")

        def refused(what, words):
            with self.subTest(f"{folder} {what}"), self.assertRaises(devstack.StackError) as caught:
                self.stack.start_helper()
            self.stack.stop("helper")
            self.assertRegex(str(caught.exception) + self.stack.log_tail("helper", 5), words)
        try:
            for folder, stranger in folders.items():
                st, aside = folder.stat(), folder.with_name("aside")
                os.chown(folder, stranger, -1)
                refused("of somebody else", "belongs to uid")
                os.chown(folder, st.st_uid, -1)
                folder.chmod(0o777)
                refused("open to others", "must not be writable")
                folder.chmod(stat.S_IMODE(st.st_mode))
                folder.rename(aside)
                folder.symlink_to(aside)
                refused("as a link", "link")
                folder.unlink()
                aside.rename(folder)
        finally:
            self.stack.start_helper()

    def test_configuration(self):
        """What others could have written decides nothing, and systemd is told that no second try mends it."""
        place, text = self.stack.base / "configurations", pathlib.Path(self.stack.config).read_text()
        place.mkdir(mode=0o755)

        def put(name, content=text, mode=0o644, uid=0):
            path = place / name
            path.write_text(content)
            os.chown(path, uid, uid)
            path.chmod(mode)
            return path
        (place / "link").symlink_to(self.stack.config)
        cases = {
            put("group", mode=0o664): "only root can write", put("others", mode=0o646): "only root can write",
            put("user", uid=self.stack.owner.pw_uid): "only root can write", place / "link": "link", place / "nothing": "No such file",
            put("unknown-key", text + "\n[surprise]\nkey = 1\n"): "surprise", put("empty", ""): "owner",
            put("no-toml", "owner is me"): "line 1",
        }
        for path, word in cases.items():
            with self.subTest(path.name):
                done = subprocess.run([self.stack.program("bangerd-root"), "--config", path], capture_output=True, text=True,
                                      check=False, timeout=60)
                self.assertEqual(done.returncode, os.EX_CONFIG, done.stderr)
                self.assertIn(word, done.stderr)

    def test_programs(self):
        """What root would execute: a link, group-writable, a user's, in a folder that others can write."""
        for key, program in (("jailer", "banger-jailer"), ("vmm", "banger-vmm-qemu")):
            self.try_programs(key, pathlib.Path(self.stack.program(program)))

    def try_programs(self, key, real):
        kernel, _ = self.machine()
        place = self.stack.base / f"engine-{key}"
        place.mkdir(mode=0o755)

        def put(name, mode=0o755, uid=0, folder_mode=0o755):
            target = place / name / key
            target.parent.mkdir()
            shutil.copy(real, target)
            os.chown(target, uid, uid)
            target.chmod(mode)
            target.parent.chmod(folder_mode)
            return target
        (place / "link").symlink_to(real)
        (place / "folder").symlink_to(real.parent)
        text = pathlib.Path(self.stack.config).read_text()
        cases = {
            "link": place / "link", "link on the way": place / "folder" / real.name, "group": put("group", 0o775),
            "others": put("others", 0o757), "user": put("user", uid=self.stack.owner.pw_uid),
            "not executable": put("plain", 0o644), "open folder": put("open", folder_mode=0o777),
            "sticky folder": put("sticky", folder_mode=0o1777), "missing": place / "nothing", "folder": place,
            "..": f"{place}/x/..", "device": "/dev/null",
        }
        try:
            for what, path in cases.items():
                pathlib.Path(self.stack.config).write_text(text.replace(f'{key} = "{real}"', f'{key} = "{path}"'))
                self.stack.stop("helper")
                if what == "..":  # refused with the configuration
                    with self.assertRaises(devstack.StackError):
                        self.stack.start_helper()
                    continue
                self.stack.start_helper()
                self.expect_refused(f"{what} as {key}", kernel)
        finally:
            pathlib.Path(self.stack.config).write_text(text)
            self.stack.restart("helper")


if __name__ == "__main__":
    main()
