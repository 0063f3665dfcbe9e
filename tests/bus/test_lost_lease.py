"""A VM whose lease cannot be read any more: what is released, whose it must be, and what is left alone.

Run by meson test as root; no guest is booted.
Never uses a name that is not this stack's.
"""

import json
import os
import pathlib
import shutil
import subprocess

from harness import main
import devstack
import test_privileged
from test_privileged import VmmTest

DENIED = "org.freedesktop.DBus.Error.AccessDenied"
CORRUPT = "org.banger.Error.StateCorrupt"


class Lost(VmmTest):
    nft, table = test_privileged.Network.nft, test_privileged.Network.table
    elements, expected = test_privileged.Network.elements, test_privileged.Network.expected

    def setUp(self):
        super().setUp()
        self.lease = pathlib.Path(self.stack.install["runtime"], "leases", f"{self.vm}.json")
        self.foreign = self.stack.state / str(self.stack.foreign.pw_uid)
        self.addCleanup(shutil.rmtree, self.foreign, ignore_errors=True)

    def begin(self):
        """A VM that holds all that can be had without device-mapper; its cow file."""
        self.pid = self.launch()
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        self.assertEqual(self.elements(), self.expected(True))
        self.folder = pathlib.Path(self.stack.cgroup(), f"banger-vm-{self.vm}")
        self.assertTrue(self.folder.is_dir())
        cow = self.stack.state / "cow" / str(self.stack.owner.pw_uid) / self.vm
        cow.write_bytes(b"kept")
        self.addCleanup(cow.unlink, missing_ok=True)
        return cow

    def release(self):
        self.call("ReleaseVm", "(sa{sv})", self.vm)

    def neighbours(self):
        return subprocess.run(["ip", "neigh", "show", "nud", "permanent"], capture_output=True, text=True, check=True).stdout

    def assert_nothing_left(self):
        self.assertIsNone(devstack.process_start(self.pid))
        left = [path for path in (self.lease, self.folder, self.stack.state / "jail/firecracker" / self.vm,
                                  pathlib.Path("/sys/class/net", f"tap-fc-{self.vm}"),
                                  pathlib.Path(self.stack.install["runtime"], str(self.stack.owner.pw_uid), self.vm),
                                  pathlib.Path(self.stack.install["runtime"], "forwarding.json")) if path.exists()]
        self.assertEqual(left, [])
        self.assertEqual(self.elements(), set())
        self.assertNotIn(self.guest + " ", self.neighbours())
        with open(f"/proc/sys/net/ipv4/conf/{self.bridge}/forwarding", encoding="ascii") as f:
            self.assertEqual(f.read(), "0\n")

    def test_released(self):
        """Cut anywhere, with the helper that made it all and with one that starts on it."""
        for restart in (False, True):
            for cut in (lambda text: "", lambda text: text[:1], lambda text: text[:len(text) // 2],
                        lambda text: text.replace(f"tap-fc-{self.vm}", "eth0")):
                with self.subTest(f"{restart} {cut('x')!r}"):
                    cow = self.begin()
                    text = self.lease.read_text(encoding="utf-8")
                    self.lease.write_text(cut(text), encoding="utf-8")
                    if restart:
                        self.stack.kill("helper")
                        self.stack.start_helper()
                        self.assertEqual(self.elements(), {e for e in self.expected(False) if e[2] == "taps"})  # dropped
                    self.refused(CORRUPT, self.call, "GetVmm", "(sa{sv})", self.vm)
                    self.assertEqual(self.call("ReapVms", "(asa{sv})", [])[0], [])
                    self.assertIsNotNone(devstack.process_start(self.pid))
                    self.release()
                    self.assert_nothing_left()
                    self.assertEqual(cow.read_bytes(), b"kept")
                    self.release()  # none is success
        self.assertIn("is lost", self.stack.log_tail("helper", 400))

    def test_moved_to_another_cgroup(self):
        self.begin()
        elsewhere = pathlib.Path(self.stack.cgroup(), "elsewhere")
        elsewhere.mkdir(exist_ok=True)
        (elsewhere / "cgroup.procs").write_text(str(self.pid), encoding="ascii")
        self.lease.write_text("", encoding="utf-8")
        self.release()
        self.assert_nothing_left()
        devstack.wait_for("the cgroup to be empty", 60, lambda: not (elsewhere / "cgroup.procs").read_text())
        elsewhere.rmdir()

    def test_half_made(self):
        """A tap that is no port yet; none at all."""
        name = f"tap-fc-{self.vm}"
        self.owner_file(f"vms/{self.vm}/record.json")
        for make in (True, False):
            if make:
                subprocess.run(["ip", "tuntap", "add", name, "mode", "tap", "group", str(self.gid())], check=True)
            self.lease.write_text("{", encoding="utf-8")
            self.release()
            self.assertFalse(os.path.exists(f"/sys/class/net/{name}"))
            self.assertFalse(self.lease.exists())

    def test_whose_it_is(self):
        """Nobody's, or another's as well: all stays as it is."""
        uid, name = self.stack.foreign.pw_uid, self.vm
        self.begin()
        owner = self.stack.state / str(self.stack.owner.pw_uid) / "vms" / name
        aside = owner.with_name("aside")

        def folder(path):
            path.mkdir(parents=True)
            return lambda: shutil.rmtree(path)

        def instead(make):
            def do():
                owner.rename(aside)
                make()
                return back
            return do

        def back():
            if owner.is_symlink() or owner.is_file():
                owner.unlink()
            elif owner.exists():
                owner.rmdir()
            aside.rename(owner)
        rows = [
            ("", instead(lambda: None), CORRUPT),
            ("", instead(lambda: owner.symlink_to(aside)), CORRUPT),
            ("", instead(lambda: owner.write_bytes(b"")), CORRUPT),
            ("", instead(owner.mkdir), CORRUPT),  # root's
            ("", lambda: folder(self.foreign / "vms" / name), DENIED),
            ("", lambda: folder(self.foreign / "vms" / (name + ".unreadable")), DENIED),
            ("", lambda: folder(self.stack.state / "cow" / str(uid) / name), DENIED),
            (json.dumps({"version": 1, "uid": uid, "pid": "x"}), lambda: lambda: None, DENIED),
            (json.dumps({"version": 9, "uid": uid}), lambda: lambda: None, DENIED),
        ]
        good = self.lease.read_text(encoding="utf-8")
        for text, prepare, error in rows:
            with self.subTest(f"{text} {error}"):
                self.lease.write_text(text, encoding="utf-8")
                undo = prepare()
                for user in ("owner", "root"):
                    self.refused(error, self.call, "ReleaseVm", "(sa{sv})", name, user=user)
                undo()
                shutil.rmtree(self.foreign, ignore_errors=True)
                shutil.rmtree(self.stack.state / "cow" / str(uid), ignore_errors=True)
                self.assertEqual(self.lease.read_text(encoding="utf-8"), text)
                self.assertIsNotNone(devstack.process_start(self.pid))
                self.assertEqual(self.elements(), self.expected(True))
        self.lease.write_text(good, encoding="utf-8")
        self.release()
        self.assert_nothing_left()

    def test_who_is_not_ended(self):
        """Another user's process in that group refuses it; one of the owner's outside of the group is no VMM."""
        self.owner_file(f"vms/{self.vm}/record.json")
        owner, foreign = self.stack.owner.pw_uid, self.stack.foreign.pw_uid
        beside = subprocess.Popen(["sleep", "60"], user=owner, group=self.stack.owner.pw_gid, extra_groups=[])
        half = subprocess.Popen(["sleep", "60"], user=owner, group=self.stack.owner.pw_gid, extra_groups=[self.gid()])
        for uid in (foreign, 0):
            inside = subprocess.Popen(["sleep", "60"], user=uid, group=self.gid(), extra_groups=[])
            self.lease.write_text("", encoding="utf-8")
            self.refused(DENIED, self.call, "ReleaseVm", "(sa{sv})", self.vm)
            self.assertIsNone(inside.poll())
            self.assertTrue(self.lease.exists())
            inside.kill()
            inside.wait()
        mine = subprocess.Popen(["sleep", "60"], user=owner, group=self.gid(), extra_groups=[])
        self.release()
        self.assertEqual(mine.wait(60), -9)
        for process in (beside, half):
            self.assertIsNone(process.poll())
            process.kill()
            process.wait()

    def test_foreign_tap(self):
        """A link of that name that is not of the VM's group is somebody's: it stays, and the lease goes."""
        name = f"tap-fc-{self.vm}"
        self.owner_file(f"vms/{self.vm}/record.json")
        subprocess.run(["ip", "tuntap", "add", name, "mode", "tap", "group", str(self.stack.owner.pw_gid)], check=True)
        self.lease.write_text("", encoding="utf-8")
        self.release()
        self.assertTrue(os.path.exists(f"/sys/class/net/{name}"))
        self.assertFalse(self.lease.exists())
        subprocess.run(["ip", "link", "del", name], check=True)


if __name__ == "__main__":
    main()
