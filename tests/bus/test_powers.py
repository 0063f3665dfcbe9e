"""The helper's powers over disks, sockets, chroots and leases, and what each refuses.

Run by meson test as root; no guest is booted.
Never uses a name that is not this stack's: bridge, VM ids and folders are its own.
"""

import contextlib
import fcntl
import ipaddress
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import threading
import time

import harness
import devstack
from gi.repository import Gio, GLib
from harness import CallError, main
from attacks import Client
from test_privileged import INVALID_ARGS, INVALID_ID, OP, UNSAFE, HelperTest, VmmTest

DENIED = "org.freedesktop.DBus.Error.AccessDenied"
LIMITS = "org.freedesktop.DBus.Error.LimitsExceeded"
FAILED = "org.banger.Error.Failed"
WRONG_STATE = "org.banger.Error.WrongState"
INVALID_PATH = "org.banger.Error.InvalidPath"
NO_LEASE = "org.banger.Error.NoSuchLease"


class Disks(HelperTest):
    user = "root"

    def setUp(self):
        super().setUp()
        tree = self.stack.base / "tree"
        (tree / "etc").mkdir(parents=True, exist_ok=True)
        (tree / "etc/hostname").write_text("web\n", encoding="utf-8")
        with contextlib.suppress(FileExistsError):
            (tree / "etc/shadow").symlink_to("/etc/shadow")
            (tree / "up").symlink_to("../../../../../../..")
        image = self.stack.base / "image.ext4"
        image.unlink(missing_ok=True)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(image), "8m"], check=True,
                       stdout=subprocess.DEVNULL)
        self.bytes = image.read_bytes()
        self.work = self.owner_file(f"vms/{self.vm}/work.ext4", self.bytes)

    def read(self, path, disk="work", vm=None):
        return bytes(self.call("ReadFile", "(sssa{sv})", vm or self.vm, disk, path)[0])

    def write(self, *files, disk="work", vm=None):
        rows = [GLib.Variant.new_tuple(GLib.Variant("s", path), GLib.Variant("u", mode), harness.file_bytes(data)) for path, mode, data in files]
        args = (GLib.Variant("s", vm or self.vm), GLib.Variant("s", disk), GLib.Variant.new_array(GLib.VariantType("(suay)"), rows), GLib.Variant("a{sv}", {}))
        self.stack.helper("WriteFiles", "(ssa(suay)a{sv})", GLib.Variant.new_tuple(*args), user=self.user)

    def test_read_and_write(self):
        self.assertEqual(self.read("/etc/hostname"), b"web\n")
        self.write(("/etc/hostname", 0o644, b"other\n"), ("/etc/new", 0o600, bytes(range(256)) * 4096))
        self.assertEqual(self.read("/etc/hostname"), b"other\n")
        self.assertEqual(self.read("/etc/new"), bytes(range(256)) * 4096)
        checked = subprocess.run(["e2fsck", "-fn", str(self.work)], capture_output=True, text=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout)
        self.owner_file(f"images/{self.vm}/rootfs.ext4", self.bytes)
        self.assertEqual(bytes(self.call("ReadImageFile", "(ssa{sv})", self.vm, "/etc/hostname")[0]), b"web\n")

    def test_links_lead_nowhere(self):
        for path in ("/etc/shadow", "/up/etc/shadow", "/up"):
            with self.subTest(path):
                self.refused(UNSAFE, self.read, path)
                self.refused(UNSAFE, self.write, (path, 0o644, b"x"))
        self.assertEqual(self.work.read_bytes(), self.bytes)

    def test_paths(self):
        for path in ("", "/", "etc/hostname", "/etc/../etc/hostname", "/../etc/shadow", "/etc//hostname", "/etc/",
                     "/./etc/hostname", "/a\nb", "/" + "x" * 256, "/x" * 512):
            with self.subTest(path[:20]):
                self.refused(INVALID_PATH, self.read, path)
                self.refused(INVALID_PATH, self.write, (path, 0o644, b"x"))
        self.refused(INVALID_PATH, self.read, "/etc/nothing")
        self.refused(INVALID_PATH, self.write, ("/nowhere/file", 0o644, b"x"))
        self.assertEqual(self.work.read_bytes(), self.bytes)

    def test_crowd_of_readers(self):
        """Each holds some descriptors: the helper takes as many as it may have, whatever the soft limit."""
        self.owner_file(f"images/{self.vm}/rootfs.ext4", self.bytes)
        self.stack.restart("helper", wrapper=("sh", "-c", 'ulimit -Sn 64; exec "$@"', "few"))
        self.addCleanup(self.stack.restart, "helper")
        client = Client(self.stack.system_address)
        self.addCleanup(client.close)
        for _ in range(30):
            client.send("ReadImageFile", GLib.Variant("(ssa{sv})", (self.vm, "/etc/hostname", {})))
        helper = pathlib.Path("/proc", str(self.stack.pid("helper")), "task")
        stopped, since = set(), time.monotonic()
        while time.monotonic() < since + (2 if stopped else 60):
            GLib.MainContext.default().iteration(False)
            for pid in " ".join(map(harness.read_text, helper.glob("*/children"))).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGSTOP)
                    stopped.add(int(pid))
        self.assertTrue(stopped)
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        client.wait()
        self.assertEqual(client.answers, [True] * 30)

    def test_bounds(self):
        self.refused(INVALID_ARGS, self.write)
        self.refused(INVALID_ARGS, self.write, *[(f"/f{i}", 0o644, b"") for i in range(65)])
        self.refused(INVALID_ARGS, self.write, ("/f", 0o10644, b""))
        self.refused(INVALID_PATH, self.write, ("/f", 0o644, b"a"), ("/f", 0o644, b"b"))
        self.refused("org.banger.Error.InvalidSize", self.write, ("/f", 0o644, bytes(4 << 20)), ("/g", 0o644, b"x"))
        self.assertEqual(self.work.read_bytes(), self.bytes)
        self.refused("org.banger.Error.NoSpace", self.write, *[(f"/f{i}", 0o644, bytes(1 << 20)) for i in range(4)],
                     vm=self.small())

    def small(self):
        """A VM whose work disk has no room."""
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(self.stack.base / "small"), "2m"], check=True,
                       stdout=subprocess.DEVNULL)
        self.owner_file(f"vms/{self.other}/work.ext4", (self.stack.base / "small").read_bytes())
        return self.other

    def test_disks_that_are_refused(self):
        for disk in ("", "image", "../work", "/dev/sda", "cow", "work.ext4", "file"):
            with self.subTest(disk):
                self.refused(INVALID_ARGS, self.read, "/etc/hostname", disk=disk)
        self.refused(INVALID_ID, self.read, "/etc/hostname", vm="../../x")
        self.refused(NO_LEASE, self.read, "/etc/hostname", disk="snapshot")
        self.refused(NO_LEASE, self.call, "CheckSnapshot", "(sa{sv})", self.vm)
        self.refused("org.banger.Error.NoSuchVM", self.read, "/etc/hostname", disk="rootfs")
        self.refused("org.banger.Error.NoSuchImage", self.call, "ReadImageFile", "(ssa{sv})", self.vm, "/etc/hostname")
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        self.refused(WRONG_STATE, self.read, "/etc/hostname", disk="snapshot")
        self.refused(WRONG_STATE, self.call, "CheckSnapshot", "(sa{sv})", self.vm)

    def test_files_that_are_no_disks(self):
        secret = self.stack.base / "secret"
        secret.write_bytes(self.bytes)
        os.chown(secret, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
        cases = {"link": lambda: self.work.symlink_to(secret), "hard link": lambda: os.link(secret, self.work),
                 "fifo": lambda: os.mkfifo(self.work), "folder": self.work.mkdir,
                 "device": lambda: os.mknod(self.work, 0o60666, os.makedev(7, 0)),
                 "root's": lambda: self.work.write_bytes(self.bytes)}
        for what, make in cases.items():
            with self.subTest(what):
                self.work.rmdir() if self.work.is_dir() and not self.work.is_symlink() else self.work.unlink()
                make()
                self.refused(UNSAFE, self.read, "/etc/hostname")
                self.refused(UNSAFE, self.write, ("/etc/hostname", 0o644, b"x"))
        self.assertEqual(secret.read_bytes(), self.bytes)
        secret.unlink()

    def test_what_is_no_file_system(self):
        """Garbage is an answer, not a crash, and stays as it is."""
        for content in (b"", b"x" * 100, bytes(1 << 20), b"\xff" * (1 << 20), self.bytes[:1 << 20],
                        self.bytes[:1024] + os.urandom(4096) + self.bytes[5120:]):
            self.work.write_bytes(content)
            self.refused(("org.banger.Error.InvalidImage", WRONG_STATE, FAILED), self.read, "/etc/hostname")
            self.refused(("org.banger.Error.InvalidImage", WRONG_STATE, FAILED), self.write, ("/x", 0o644, b"x"))
            self.assertEqual(self.work.read_bytes(), content)
        self.assertEqual(self.leases(), {})

    def test_another_owners_vm(self):
        path = pathlib.Path(self.stack.install["runtime"]) / "leases" / f"{self.vm}.json"
        path.write_text(json.dumps({"version": 1, "uid": self.stack.foreign.pw_uid, "jail": 0, "pid": 0, "start": 0}))
        try:
            self.refused(DENIED, self.read, "/etc/hostname")
            self.refused(DENIED, self.write, ("/etc/hostname", 0o644, b"x"))
            self.refused(DENIED, self.call, "CheckSnapshot", "(sa{sv})", self.vm)
            self.refused(DENIED, self.call, "GrantSocket", "(ssa{sv})", self.vm, "api")
            self.refused(DENIED, self.call, "RemoveChroot", "(sa{sv})", self.vm)
            self.assertEqual(self.call("ReapVms", "(asa{sv})", [])[0], [])
        finally:
            path.unlink()

    def test_worker_that_is_not_roots(self):
        """The program is gated at every use."""
        program = pathlib.Path(self.stack.program("banger-disk"))
        mode = stat.S_IMODE(program.stat().st_mode)
        program.chmod(0o775)
        try:
            self.refused(UNSAFE, self.read, "/etc/hostname")
        finally:
            program.chmod(mode)
        self.assertEqual(self.read("/etc/hostname"), b"web\n")


    def test_snapshot(self):
        if not harness.has_device_mapper():
            self.skipTest("this kernel has no device-mapper")
        image = self.owner_file(f"images/{self.vm}/rootfs.ext4", self.bytes)
        self.call("CreateSnapshot", "(ssta{sv})", self.vm, self.vm, 16 << 20, new=True)
        self.assertEqual(self.call("CheckSnapshot", "(sa{sv})", self.vm)[0], "clean")
        self.write(("/etc/hostname", 0o644, b"other\n"), ("/etc/new", 0o600, b"x" * 100000), disk="snapshot")
        self.assertEqual(self.read("/etc/hostname", disk="snapshot"), b"other\n")
        self.assertEqual(self.call("CheckSnapshot", "(sa{sv})", self.vm)[0], "clean")
        self.assertEqual(image.read_bytes(), self.bytes)
        node = f"/dev/mapper/fc-rootfs-{self.vm}"
        with open(node, "r+b", buffering=0) as disk:
            disk.seek(4096 + 12)  # the first group's count of free blocks
            disk.write(b"\xff")
        self.assertEqual(self.call("CheckSnapshot", "(sa{sv})", self.vm)[0], "repaired")
        holder = os.open(node, os.O_RDONLY | os.O_EXCL)  # as a mount holds it
        try:
            self.refused("org.banger.Error.InUse", self.read, "/etc/hostname", disk="snapshot")
        finally:
            os.close(holder)
        self.call("RemoveSnapshot", "(sa{sv})", self.vm)

    def test_disk(self):
        """What a VM wrote is a file of root's, which its owner has deleted but never sees."""
        uid = self.stack.owner.pw_uid
        folder = self.stack.state / "cow" / str(uid)
        disk = folder / self.vm
        for path in (folder.parent, folder):
            self.assertEqual((path.stat().st_uid, path.stat().st_mode & 0o7777), (0, 0o700), path)
        missing = self.refused("org.banger.Error.StateCorrupt", self.call, "SyncDisk", "(sa{sv})", self.vm)
        self.assertIn(str(disk), missing.message)
        disk.write_bytes(b"SnAp")
        disk.chmod(0o600)
        self.call("SyncDisk", "(sa{sv})", self.vm)
        os.chown(disk, uid, uid)
        self.refused(UNSAFE, self.call, "SyncDisk", "(sa{sv})", self.vm)
        os.chown(disk, 0, 0)
        for hostile in ("../" + self.vm, self.vm + "/", ".", "..", ""):
            for method in ("SyncDisk", "DeleteDisk"):
                self.refused(INVALID_ID, self.call, method, "(sa{sv})", hostile)
        lease = pathlib.Path(self.stack.install["runtime"]) / "leases" / f"{self.vm}.json"
        held = {"version": 1, "uid": uid, "dm": f"fc-rootfs-{self.vm}", "image": self.vm, "jail": 0, "pid": 0, "start": 0}
        for text, error in ((json.dumps(held), WRONG_STATE), ("{", "org.banger.Error.StateCorrupt"),
                            (json.dumps({**held, "uid": uid + 1}), DENIED)):
            lease.write_text(text, encoding="utf-8")
            lease.chmod(0o600)
            self.refused(error, self.call, "DeleteDisk", "(sa{sv})", self.vm)
            if error != WRONG_STATE:
                self.refused(error, self.call, "SyncDisk", "(sa{sv})", self.vm)
            self.refused(error, self.call, "OpenDisk", "(sa{sv})", self.vm)
            self.refused(error, self.call, "CheckSuspend", "(sa{sv})", self.vm)  # nothing of it runs
        lease.unlink()
        self.refused(NO_LEASE, self.call, "CheckSuspend", "(sa{sv})", self.vm)
        self.assertTrue(disk.exists())
        self.reads(disk)
        self.copies(disk)
        self.call("DeleteDisk", "(sa{sv})", self.vm)
        self.assertFalse(disk.exists())
        self.call("DeleteDisk", "(sa{sv})", self.vm)


    def reads(self, disk):
        """Its owner gets a descriptor by which it can be read, and by which nobody can write."""
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        connection = Gio.DBusConnection.new_for_address_sync(self.stack.system_address, flags, None, None)
        connection.set_exit_on_close(False)
        self.addCleanup(connection.close_sync, None)
        _, fds = connection.call_with_unix_fd_list_sync(*harness.HELPER, "OpenDisk", GLib.Variant("(sa{sv})", (self.vm, {})), None,
                                                        Gio.DBusCallFlags.NONE, 300000, None, None)
        fd, = fds.steal_fds()
        try:
            self.assertEqual(os.pread(fd, 10, 0), b"SnAp")
            self.assertEqual(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE, os.O_RDONLY)
            again = f"import os\nfor flags in (os.O_RDONLY, os.O_RDWR):\n try: os.open('/proc/self/fd/{fd}', flags)\n except PermissionError: print('no')"
            said = subprocess.run(["/usr/bin/python3", "-c", again], pass_fds=[fd], capture_output=True, text=True, check=True, **self.stack.as_owner())
            self.assertEqual(said.stdout, "no\nno\n")
        finally:
            os.close(fd)
        self.refused("org.banger.Error.StateCorrupt", self.call, "OpenDisk", "(sa{sv})", "deadbeef")

    def copies(self, disk):
        """A disk is copied to what its owner has a folder of, and the helper nothing."""
        other = "c0ffee00"
        copy, lease = disk.with_name(other), pathlib.Path(self.stack.install["runtime"]) / "leases" / f"{other}.json"

        def refused(error, source=self.vm, target=other):
            self.refused(error, self.call, "CopyDisk", "(ssa{sv})", source, target)
            self.assertFalse(copy.exists())

        refused("org.banger.Error.NoSuchVM")
        for hostile in ("../" + other, other + "/", ".", "", self.vm + ".part"):
            refused(INVALID_ID, target=hostile)
            refused(INVALID_ID, source=hostile)
        self.owner_file(f"vms/{other}/record.json")
        refused("org.banger.Error.StateCorrupt", source="deadbeef")
        lease.write_text("{", encoding="utf-8")
        refused("org.banger.Error.InUse")
        lease.unlink()
        own = lease.with_name(f"{self.vm}.json")
        own.write_text(json.dumps({"version": 1, "uid": self.stack.owner.pw_uid + 1, "jail": 0, "pid": 0, "start": 0}), encoding="utf-8")
        own.chmod(0o600)
        refused(DENIED)
        own.unlink()
        refused(INVALID_ARGS, target=self.vm)
        self.call("CopyDisk", "(ssa{sv})", self.vm, other)
        self.assertEqual(copy.read_bytes(), b"SnAp")
        self.assertEqual((copy.stat().st_uid, copy.stat().st_mode & 0o7777), (0, 0o600))
        self.refused("org.banger.Error.InUse", self.call, "CopyDisk", "(ssa{sv})", self.vm, other)
        disk.write_bytes(b"SnAp2")
        for text in ("{", json.dumps({"version": 1, "uid": self.stack.owner.pw_uid, "dm": f"fc-rootfs-{other}", "image": other, "jail": 0, "pid": 0, "start": 0})):
            lease.write_text(text, encoding="utf-8")  # it may be mapped
            lease.chmod(0o600)
            self.refused("org.banger.Error.InUse", self.call, "CopyDisk", "(ssa{sv})", self.vm, other, replace=True)
        lease.unlink()
        self.assertEqual(copy.read_bytes(), b"SnAp")
        self.call("CopyDisk", "(ssa{sv})", self.vm, other, replace=True)
        self.assertEqual(copy.read_bytes(), b"SnAp2")
        for options in ({"from": self.vm, "new": True}, {"from": "c0ffee01"}, {"from": "../" + other}):
            vm = "c0ffee01"
            error = INVALID_ID if "/" in options["from"] else "org.freedesktop.DBus.Error.InvalidArgs"
            self.refused(error, self.call, "CreateSnapshot", "(ssta{sv})", vm, vm, 16 << 20, **options)
        self.call("DeleteDisk", "(sa{sv})", other)
        self.assertFalse(copy.exists())


class Running(VmmTest):
    """What needs a VMM: sockets, the chroot, reaping, the orphan rule."""

    user = "root"

    def sockets(self):
        return pathlib.Path(self.stack.install["runtime"]) / str(self.stack.owner.pw_uid) / self.vm

    def grant(self, which="api"):
        self.call("GrantSocket", "(ssa{sv})", self.vm, which)

    def test_socket(self):
        self.launch()
        api = self.sockets() / "api.sock"
        os.chown(api, 0, 0)
        api.chmod(0o666)
        self.grant()
        seen = api.stat()
        owner = self.stack.owner
        self.assertEqual((seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)), (owner.pw_uid, owner.pw_gid, 0o600))
        self.refused(WRONG_STATE, self.grant, "vsock")  # the VM was not configured: it has none
        for name in ("", "api.sock", "../api.sock", "/run/x", "x" * 108):
            self.refused(INVALID_ARGS, self.grant, name)
        self.call("KillVmm", "(sa{sv})", self.vm)
        self.wait_ended()
        self.refused(WRONG_STATE, self.grant)

    def test_socket_of_somebody_else(self):
        """The owner puts things of others under the name; none changes hands."""
        self.launch()
        run, owner = self.sockets(), self.stack.owner
        api = run / "api.sock"
        api.unlink()
        target = self.stack.base / "roots.sock"
        with socket.socket(socket.AF_UNIX) as roots, socket.socket(socket.AF_UNIX) as mine:
            roots.bind(str(target))
            roots.listen(1)
            target.chmod(0o600)
            inside = run / "x"
            mine.bind(str(inside))
            mine.listen(1)
            cases = {
                "link": lambda: api.symlink_to(target),
                "file": api.touch,
                "folder": api.mkdir,
                "fifo": lambda: os.mkfifo(api),
                "hard link": lambda: os.link(inside, api),
                "root's, moved": lambda: os.rename(inside, api),
            }
            for what, make in cases.items():
                with self.subTest(what):
                    make()
                    before = os.lstat(api)
                    self.refused(UNSAFE, self.grant)
                    after = os.lstat(api)
                    self.assertEqual((before.st_uid, before.st_mode), (after.st_uid, after.st_mode))
                    api.rmdir() if what == "folder" else api.unlink()
            self.assertEqual(target.stat().st_uid, 0)
        for path in (inside, target):
            path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as foreign:
            foreign.bind(str(api))
            os.chown(api, self.stack.foreign.pw_uid, -1)
            self.refused(UNSAFE, self.grant)
        os.rename(run, run.with_name("moved"))
        run.symlink_to(run.with_name("moved"))
        self.refused(UNSAFE, self.grant)
        run.unlink()
        os.rename(run.with_name("moved"), run)
        self.assertEqual(owner.pw_uid, run.stat().st_uid)

    def test_running_vm_is_left_alone(self):
        pid = self.launch()
        for method, signature, args in (("RemoveChroot", "(sa{sv})", (self.vm,)),
                                        ("CheckSnapshot", "(sa{sv})", (self.vm,)),
                                        ("RemoveSnapshot", "(sa{sv})", (self.vm,)),
                                        ("ReadFile", "(sssa{sv})", (self.vm, "work", "/x")),
                                        ("WriteFiles", "(ssa(suay)a{sv})", (self.vm, "rootfs", [("/x", 0, b"")]))):
            with self.subTest(method):
                self.refused(WRONG_STATE, self.call, method, signature, *args)
        self.assertEqual(self.call("ReapVms", "(asa{sv})", [])[0], [])
        self.assertEqual(self.leases()[self.vm], ("tap,jail,cgroup", pid))

    def test_chroot(self):
        self.launch()
        self.call("KillVmm", "(sa{sv})", self.vm)
        self.wait_ended()
        folder = self.stack.state / "jail/firecracker" / self.vm
        self.assertTrue(folder.is_dir())
        outside = self.stack.base / "outside"
        outside.mkdir()
        (outside / "kept").touch()
        (folder / "link").symlink_to(outside)
        self.call("RemoveChroot", "(sa{sv})", self.vm)
        self.call("RemoveChroot", "(sa{sv})", self.vm)
        self.assertFalse(folder.exists())
        self.assertTrue((outside / "kept").exists())
        self.assertEqual(self.leases()[self.vm][0], "tap,cgroup")
        folder.symlink_to(outside)
        self.refused(UNSAFE, self.call, "RemoveChroot", "(sa{sv})", self.vm)
        self.assertTrue((outside / "kept").exists())
        folder.unlink()
        (outside / "kept").unlink()
        outside.rmdir()
        self.refused(NO_LEASE, self.call, "RemoveChroot", "(sa{sv})", self.other)

    def test_reap(self):
        self.launch()
        self.call("CreateTap", "(ssssa{sv})", self.other, self.bridge, self.address, self.guest_of(self.other))
        third = f"{self.stack.number:06x}dd"
        self.call("CreateTap", "(ssssa{sv})", third, self.bridge, self.address, self.guest_of(third))
        files = self.owner_file(f"vms/{self.other}/work.ext4")
        self.assertEqual(self.call("ReapVms", "(asa{sv})", [third, "ffffffff"])[0], [self.other])
        self.assertEqual(set(self.leases()), {self.vm, third})
        self.assertFalse(os.path.exists(f"/sys/class/net/tap-fc-{self.other}"))
        self.assertTrue(files.exists())
        self.assertTrue(os.path.exists(f"/sys/class/net/{self.bridge}"))
        self.call("KillVmm", "(sa{sv})", self.vm)
        self.wait_ended()
        self.assertEqual(sorted(self.call("ReapVms", "(asa{sv})", [])[0]), sorted([self.vm, third]))
        self.assertEqual(self.leases(), {})
        for keep in (["../x"], [""], ["A" * 8]):
            self.refused(INVALID_ID, self.call, "ReapVms", "(asa{sv})", keep)
        self.refused(INVALID_ARGS, self.call, "ReapVms", "(asa{sv})", ["aaaaaaaa"] * 257)

    def test_reap_races_with_a_launch(self):
        """Whichever comes first: the VM runs with all that it has, or nothing of it is left."""
        kernel, _ = self.machine()
        for _ in range(5):
            self.machine()
            self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
            threads = [threading.Thread(target=self.call, args=("ReapVms", "(asa{sv})", [])) for _ in range(3)]
            for thread in threads:
                thread.start()
            pid = None
            try:
                pid = self.call("LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")[0]
            except CallError as error:  # reaped, with the folder of sockets
                self.assertEqual(error.name, "org.banger.Error.NoSuchVM")
            for thread in threads:
                thread.join()
            if pid is None:
                self.assertEqual(self.leases(), {})
                continue
            held, now = self.leases()[self.vm]
            self.assertEqual(now, pid)
            self.assertIn("jail,cgroup", held)
            self.assertIsNotNone(devstack.process_start(pid))
            self.call("ReleaseVm", "(sa{sv})", self.vm)

    def move_out(self, pid):
        """Somebody with the right to puts the VMM into another cgroup."""
        folder = pathlib.Path(self.stack.cgroup()) / "elsewhere"
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.procs").write_text(str(pid))

    def test_orphan_is_found_again(self):
        pid = self.launch()
        self.move_out(pid)
        self.assertEqual(self.call("OpenVmm", "(sa{sv})", self.vm)[0], pid)
        self.stack.kill("helper")
        self.stack.start_helper()
        self.assertTrue(self.call("GetVmm", "(sa{sv})", self.vm)[0]["running"])
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertIsNone(devstack.process_start(pid))
        self.assertEqual(self.leases(), {})

    def test_what_only_looks_like_an_orphan(self):
        """A lease of the VM names each of these by pid and start; none may be signalled."""
        self.launch()
        self.stack.kill("helper")
        path = pathlib.Path(self.stack.install["runtime"]) / "leases" / f"{self.vm}.json"
        lease = json.loads(path.read_text())
        sock = str(self.sockets() / "api.sock")
        owner, foreign = self.stack.owner.pw_uid, self.stack.foreign.pw_uid
        rows = [
            (foreign, ["--api-sock", sock]),
            (0, ["--api-sock", sock]),
            (owner, ["--api-sock", "/tmp" + sock]),
            (owner, ["--api-sock", sock + "/../x"]),
            (owner, ["--api-sock", "/run/api.sock"]),
            (owner, ["--id", self.other, "--api-sock", "/run/api.sock"]),
            (owner, [f"firecracker --api-sock {sock}"]),
            (owner, ["--", "--api-sock", sock]),
        ]
        real = (lease["pid"], lease["start"])
        for uid, words in rows:
            with self.subTest(f"{uid} {words}"):
                victim = subprocess.Popen(["/bin/sh", "-c", "read x; exit", *words], stdin=subprocess.PIPE, user=uid,
                                          cwd="/")
                try:
                    lease["pid"], lease["start"] = victim.pid, devstack.process_start(victim.pid)
                    path.write_text(json.dumps(lease))
                    self.stack.start_helper()
                    self.refused((WRONG_STATE, DENIED), self.call, "KillVmm", "(sa{sv})", self.vm)
                    self.stack.kill("helper")
                    self.assertIsNone(victim.poll())
                finally:
                    victim.communicate()
        lease["pid"], lease["start"] = real
        path.write_text(json.dumps(lease))
        self.stack.start_helper()
        self.call("ReleaseVm", "(sa{sv})", self.vm)


class Quotas(HelperTest):
    user = "root"

    def with_limits(self, text):
        """The helper again, with @text as its limits."""
        config = self.stack.base / "limits.toml"
        config.write_text(pathlib.Path(self.stack.config).read_text(encoding="utf-8") + f"[limits]\n{text}\n",
                          encoding="utf-8")
        config.chmod(0o644)
        self.stack.restart("helper", config=str(config))

    def tearDown(self):
        self.stack.restart("helper")

    def test_taps(self):
        self.with_limits("taps = 1")
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)  # it has one already
        seen = self.refused(LIMITS, self.call, "CreateTap", "(ssssa{sv})", self.other, self.bridge, self.address, self.guest_of(self.other))
        self.assertIn("limits.taps", seen.message)
        self.assertEqual(set(self.leases()), {self.vm})
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.call("CreateTap", "(ssssa{sv})", self.other, self.bridge, self.address, self.guest_of(self.other))

    def test_bridges(self):
        """A name more is a bridge more; that the owner's other bridge went makes room."""
        ours = sum(p.read_text() == "banger\n" for p in pathlib.Path("/sys/class/net").glob("*/ifalias"))
        self.with_limits(f"bridges = {ours + 1}")
        net = ipaddress.ip_interface(self.address)
        halves = [(f"{half[1]}/{half.prefixlen}", str(half[2])) for half in net.network.subnets()]
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, *halves[0])
        self.addCleanup(self.call, "RemoveBridge", "(sa{sv})", self.bridge)
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        seen = self.refused(LIMITS, self.call, "CreateTap", "(ssssa{sv})", self.vm, self.bridge + "x", *halves[1])
        self.assertIn("limits.bridges", seen.message)
        self.assertFalse(os.path.exists(f"/sys/class/net/{self.bridge}x"))
        self.assertEqual(self.leases(), {})

    def test_vms(self):
        self.with_limits("vms = 1")
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        seen = self.refused(LIMITS, self.call, "CreateTap", "(ssssa{sv})", self.other, self.bridge, self.address, self.guest_of(self.other))
        self.assertIn("limits.vms", seen.message)
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.call("CreateTap", "(ssssa{sv})", self.other, self.bridge, self.address, self.guest_of(self.other))

    def test_copies(self):
        """Of copies that are asked for at once not one more is made than fits."""
        mib, count = 32, 4
        cow = self.stack.state / "cow" / str(self.stack.owner.pw_uid)
        pairs = [(f"c0ffee1{i}", f"c0ffee2{i}") for i in range(count)]
        for source, target in pairs:
            (cow / source).write_bytes(os.urandom(mib << 20))
            (cow / source).chmod(0o600)
            for each in (source, target):
                self.owner_file(f"vms/{each}/record.json")
                self.addCleanup((cow / each).unlink, missing_ok=True)
        self.with_limits(f"disk-mib = {(count + 2) * mib - 1}")
        client = Client(self.stack.system_address)
        self.addCleanup(client.close)
        for pair in pairs:
            client.send("CopyDisk", GLib.Variant("(ssa{sv})", (*pair, {})))
        client.wait()
        self.assertEqual(client.answers.count(True), 1, client.answers)
        self.assertEqual({answer.name for answer in client.answers if answer is not True}, {LIMITS})
        self.assertEqual(sum((cow / target).exists() for _, target in pairs), 1)

    def test_copies_to_one(self):
        """Of copies to one id that are asked for at once one is made, and whole; who deletes, reads and writes it meanwhile finds that or nothing."""
        cow = self.stack.state / "cow" / str(self.stack.owner.pw_uid)
        sources, target = [f"c0ffee1{i}" for i in range(4)], "c0ffee20"
        for each in (*sources, target):
            self.owner_file(f"snapshots/{each}/record.json")
            self.addCleanup((cow / each).unlink, missing_ok=True)
        for source in sources:
            (cow / source).write_bytes(source.encode() * (1 << 20))
            (cow / source).chmod(0o600)
        client = Client(self.stack.system_address)
        self.addCleanup(client.close)
        for source in sources:
            client.send("CopyDisk", GLib.Variant("(ssa{sv})", (source, target, {})))
        client.wait()
        self.assertEqual(client.answers.count(True), 1, client.answers)
        self.assertEqual({answer.name for answer in client.answers if answer is not True}, {"org.banger.Error.InUse"})
        self.assertIn((cow / target).read_bytes(), [source.encode() * (1 << 20) for source in sources])
        for source in sources:
            client.send("CopyDisk", GLib.Variant("(ssa{sv})", (source, target, {"replace": GLib.Variant("b", True)})))
            for method in ("OpenDisk", "SyncDisk", "DeleteDisk"):
                client.send(method, GLib.Variant("(sa{sv})", (target, {})))
        client.wait()
        self.assertEqual(list(cow.glob("*.part")), [])
        if (cow / target).exists():
            self.assertIn((cow / target).read_bytes(), [source.encode() * (1 << 20) for source in sources])
        self.call("DeleteDisk", "(sa{sv})", target)
        self.assertEqual(sorted(p.name for p in cow.glob("c0ffee*")), sources)

    def test_loops(self):
        """One loop is not enough for a snapshot, which has two."""
        if not harness.has_device_mapper():
            self.skipTest("this kernel has no device-mapper")
        self.with_limits("loops = 1")
        self.owner_file(f"images/{self.vm}/rootfs.ext4", b"\0" * 4096)
        self.owner_file(f"vms/{self.vm}/record.json")
        seen = self.refused(LIMITS, self.call, "CreateSnapshot", "(ssta{sv})", self.vm, self.vm, 16 << 20, new=True)
        self.assertIn("limits.loops", seen.message)
        self.assertEqual(self.leases(), {})


class Memory(VmmTest):
    """What the VMs that run have together."""

    user = "root"
    with_limits, tearDown = Quotas.with_limits, Quotas.tearDown

    def test_of_all_together(self):
        first, second = self.vm, self.other
        self.with_limits("total-memory-mib = 500")
        self.launch(memory_mib=300)
        self.vm = second
        seen = self.refused(LIMITS, self.launch, memory_mib=201)
        self.assertIn("limits.total-memory-mib", seen.message)
        self.assertEqual(self.leases()[second][0], "tap")
        self.launch(memory_mib=200)
        self.stack.restart("helper", config=str(self.stack.base / "limits.toml"))
        self.call("KillVmm", "(sa{sv})", second)
        self.refused(LIMITS, self.launch, memory_mib=201)  # a helper that starts again knows as well
        self.vm = first
        self.call("KillVmm", "(sa{sv})", first)  # what has ended holds none
        self.vm = second
        self.call("ReleaseVm", "(sa{sv})", second)
        self.launch(memory_mib=500)
        self.vm = first
        self.refused(LIMITS, self.launch)  # without the option: all that there may be
        for vm in (first, second):
            self.call("ReleaseVm", "(sa{sv})", vm)
        self.launch()
        self.call("ReleaseVm", "(sa{sv})", first)
        self.assertEqual(self.leases(), {})


class Texts(HelperTest):
    user = "root"

    def test_hostile_texts_reach_no_log(self):
        """Control characters, formats and terminal sequences come out escaped, in the answer and in every record."""
        hostile = "x\n{\"MESSAGE\":\"forged\"}\r\x1b[31m%s%n%1000000d\x7f"
        before = len(pathlib.Path(self.stack.log_path("helper")).read_bytes())
        cases = [("RemoveNat", "(sa{sv})", (hostile,)), ("RemoveBridge", "(sa{sv})", (hostile,)),
                 ("SignalVmm", "(ssa{sv})", (self.vm, hostile)), ("GrantSocket", "(ssa{sv})", (self.vm, hostile)),
                 ("SyncResolver", "(ssa{sv})", (self.bridge, hostile)),
                 ("ReadFile", "(sssa{sv})", (self.vm, hostile, "/x")),
                 ("ReadFile", "(sssa{sv})", (self.vm, "work", "/" + hostile)),
                 ("WriteFiles", "(ssa(suay)a{sv})", (self.vm, "work", [("/" + hostile, 0, b"")])),
                 ("ReapVms", "(asa{sv})", ([hostile],)), ("SetReach", "(sasaqa{sv})", (self.vm, [hostile], [])), ("LaunchVmm", "(sssa{sv})", (self.vm, self.vm, hostile)),
                 ("EnsureNat", "(ssa{sv})", (self.vm, hostile)),
                 ("RemoveNat", "(sa{sv})", (self.vm,), {hostile: harness.GLib.Variant("s", "x")}),
                 ("RemoveNat", "(sa{sv})", (self.vm,), {"op-id": harness.GLib.Variant("s", hostile)})]
        for method, signature, args, *more in cases:
            with self.subTest(f"{method} {signature}"):
                with self.assertRaises(CallError) as caught:
                    self.stack.helper(method, signature, (*args, more[0] if more else {}), user="root")
                self.assertRegex(caught.exception.message, OP)
                self.assertTrue(caught.exception.message.isprintable(), caught.exception.message)
        with open(self.stack.log_path("helper"), "rb") as log:
            log.seek(before)
            lines = log.read().decode("utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        refused = [r for r in records if r.get("MESSAGE", "").startswith(("refused", "failed"))]
        self.assertEqual(len(refused), len(cases))  # one record each
        for record in records:
            for value in record.values():
                self.assertTrue(value.isprintable(), value)
            self.assertNotEqual(record.get("MESSAGE"), "forged")


if __name__ == "__main__":
    main()
