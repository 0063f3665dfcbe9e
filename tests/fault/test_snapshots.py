"""Snapshots among parts that fail: whole or none, whatever ends when; a VM is never half of one and half of what it was.

Run by meson test as root. The guest is a stand-in: what is saved of it is its number of boots.
"""

import json
import os
import subprocess

from parts import DURABLE, JOB, CallError, FaultTest, harness, main, options

SNAPSHOT = "org.banger.Snapshot"
SUSPENDED = ["suspended.memory", "suspended.state"]
DAMAGED = ("org.banger.Error.StateCorrupt", "org.banger.Error.UnsafeFile")


class Snapshots(FaultTest):
    """Made, restored, deleted."""

    @property
    def top(self):
        """The owner's folder."""
        return self.stack.state / str(self.stack.owner.pw_uid)

    def snapshots(self):
        """Name -> properties, of all VMs."""
        return {o[SNAPSHOT]["Name"]: o[SNAPSHOT] for o in self.client.objects().values() if SNAPSHOT in o}

    def started(self, name="web"):
        """A VM that runs."""
        self.make([name])
        self.do("StartVM", name)
        return self.vm(name)

    def answer(self, pattern, method, *args, **more):
        """What @method says, which fails."""
        self.assertRegex(self.client.verb(method, *args, **more).result(), pattern)

    def boots(self, name="web"):
        """How often the guest on the disk was booted."""
        return self.invariants.counter(self.vm(name)["Id"], DURABLE)

    def in_folder(self, name="web"):
        """Names of files in a VM's folder that are there for a while alone."""
        folder = self.top / "vms" / self.vm(name)["Id"]
        return sorted(path.name for path in folder.iterdir()
                      if path.name.startswith("restoring") or (path.name.startswith("suspend") and path.stat().st_size))

    def well(self, name="web"):
        """Everything agrees; what a restore took from the disk is no loss."""
        self.invariants.booted.pop(self.vm(name)["Id"], None)
        self.settled()

    def test_of_one_that_runs(self):
        """It runs on; later it is as it was, with its memory."""
        first = self.started()
        self.do("SnapshotVM", "web", "one")
        vm, one = self.vm("web"), self.snapshots()["one"]
        self.assertEqual((vm["State"], vm["Pid"], vm["BootId"]), ("running", first["Pid"], first["BootId"]))
        self.assertEqual((one["Memory"], one["MemoryMiB"], one["VM"].rsplit("/", 1)[1]), (True, 128, vm["Id"]))
        folder = self.top / "snapshots" / one["Id"]
        self.assertEqual({path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()},
                         {"memory": 0o400, "record.json": 0o600, "rootfs.ext4": 0o400, "state": 0o400})
        self.assertEqual(self.in_folder(), [])
        live = self.client.call("Introspect", interface=harness.INTROSPECTABLE, path="/org/banger/Manager/snapshot/" + one["Id"])[0]
        wanted = (harness.SOURCE / "introspection" / "org.banger.Snapshot.xml").read_text(encoding="utf-8")
        self.assertEqual(harness.shape(live), harness.shape(wanted))
        self.assertTrue(self.client.call("GetSnapshot", "(ss)", ("web", "one"))[0].endswith(one["Id"]))
        self.do("SnapshotVM", "web", "two")
        self.answer("already", "SnapshotVM", "web", "two")
        self.do("RestartVM", "web")
        self.assertNotEqual(self.vm("web")["BootId"], first["BootId"])
        self.answer("stop it first, or restore with force", "RestoreSnapshot", "web", "one")
        self.do("RestoreSnapshot", "web", "one", force=True)
        self.assertEqual(self.vm("web")["State"], "suspended")
        self.well()
        self.answer("would be lost", "RestoreSnapshot", "web", "two")
        self.do("StartVM", "web")
        self.assertEqual(self.vm("web")["BootId"], first["BootId"])
        self.do("RestoreSnapshot", "web", "two", force=True, start=True)
        self.assertEqual((self.vm("web")["State"], self.vm("web")["BootId"]), ("running", first["BootId"]))
        self.client.call("DeleteSnapshot", "(ssa{sv})", ("web", "one", {}))
        self.assertFalse(folder.exists())
        self.assertEqual(list(self.snapshots()), ["two"])
        self.wait(lambda: not self.in_folder())
        self.again()
        self.assertEqual(list(self.snapshots()), ["two"])
        self.well()
        self.do("DeleteVM", "web", force=True)
        self.assertEqual(self.snapshots(), {})
        self.settled()

    def test_of_one_that_does_not_run(self):
        """Stopped: its disks alone, and nothing is lost as long as it is not started. Paused and suspended: as it is."""
        self.make(["web"])
        self.answer("never started", "SnapshotVM", "web", "none")
        self.do("StartVM", "web")
        self.do("PauseVM", "web")
        self.do("SnapshotVM", "web", "paused")
        self.assertEqual((self.vm("web")["State"], self.snapshots()["paused"]["Memory"]), ("paused", True))
        self.do("ResumeVM", "web")
        boot = self.vm("web")["BootId"]
        self.do("SuspendVM", "web")
        self.do("SnapshotVM", "web", "suspended")
        self.do("StartVM", "web")
        self.assertEqual(self.vm("web")["BootId"], boot)
        self.do("StopVM", "web")
        self.do("SnapshotVM", "web", "disk")
        self.stack.kill("manager")
        self.stack.all_up()
        self.assertEqual(sorted(self.snapshots()), ["disk", "paused", "suspended"])  # as the next bangerd reads them
        self.assertFalse(self.snapshots()["disk"]["Memory"])
        self.do("RestoreSnapshot", "web", "disk")
        self.assertEqual((self.vm("web")["State"], self.boots()), ("stopped", 1))
        self.do("StartVM", "web")
        self.do("StopVM", "web")
        self.assertEqual(self.boots(), 2)
        self.answer("would be lost", "RestoreSnapshot", "web", "disk")
        self.do("SetVM", "web", memory_mib=256)
        self.do("RestoreSnapshot", "web", "disk", force=True)
        self.assertEqual((self.vm("web")["State"], self.vm("web")["MemoryMiB"], self.boots()), ("stopped", 128, 1))
        for name in ("suspended", "paused"):
            self.do("RestoreSnapshot", "web", name, force=True, start=True)
            self.assertEqual(self.vm("web")["BootId"], boot)
        self.well()

    def test_what_is_said_of_what_is_in_it(self):
        """What was sent into it, and whether it is set up: as it was, too, or its setup would never run there."""
        self.stack.make_sources()
        self.do("CreateVM", "web", memory_mib=128, setup="true")
        self.stack.faults("* command fail")
        self.assertIn("it goes on running", self.client.verb("StartVM", "web").result())
        self.stack.faults()
        self.do("SnapshotVM", "web", "before")

        def said():
            vm = self.vm("web")
            return vm["Setup"], vm["Workspace"], vm["WorkspaceFolder"]
        self.do("RestartVM", "web")
        self.do("ImportWorkspace", "web", str(self.stack.tree))
        after = ("done", str(self.stack.tree), "/root/tree")
        self.assertEqual(said(), after)
        self.do("SnapshotVM", "web", "after")
        self.do("RestoreSnapshot", "web", "before", force=True, start=True)
        self.assertEqual(said(), ("failed", "", ""))
        self.again()
        self.assertEqual(said(), ("failed", "", ""))
        self.do("RestartVM", "web")
        self.assertEqual(said(), ("done", "", ""))
        self.do("RestoreSnapshot", "web", "after", force=True)
        self.assertEqual(said(), after)
        record = self.top / "snapshots" / self.snapshots()["before"]["Id"] / "record.json"
        older = {key: value for key, value in json.loads(record.read_text()).items()
                 if not key.startswith(("ssh-", "login-", "setup", "workspace", "providing"))}
        record.write_text(json.dumps(older))
        self.again()
        self.do("RestoreSnapshot", "web", "before", force=True)
        self.assertEqual(said(), after)
        self.well()

    def test_of_one_that_is_not_whole(self):
        """What is damaged or gone is not made whole by a snapshot: there is none."""
        self.started()
        folder = self.top / "vms" / self.vm("web")["Id"]
        self.do("SuspendVM", "web")
        memory = folder / "suspended.memory"
        memory.write_bytes(b"9" + memory.read_bytes()[1:])
        self.answer("damaged", "SnapshotVM", "web", "one")
        self.do("StartVM", "web", discard=True)
        self.do("StopVM", "web")
        (folder / "rootfs.ext4").rename(folder / "away")
        self.answer("is gone", "SnapshotVM", "web", "one")
        (folder / "away").rename(folder / "rootfs.ext4")
        self.assertEqual(self.snapshots(), {})
        self.do("SnapshotVM", "web", "one")
        self.well()

    def test_deleted_while_it_is_waited_for(self):
        """What a VM is being restored from stays, whatever its record is at; of what is being deleted nothing is restored."""
        self.started()
        for name in ("one", "two"):
            self.do("SnapshotVM", "web", name)
        two = self.snapshots()["two"]["Id"]
        self.again(BANGER_FAULT="restore-place")
        self.assertNotEqual(self.client.verb("RestoreSnapshot", "web", "one", force=True).result(), "")
        self.wait(lambda: not self.stack.pid("manager"))
        self.again()
        self.well()
        self.stack.faults("bangerd io.fsync silent restoring")
        call = self.client.verb("RestoreSnapshot", "web", "two")
        self.wait(lambda: any(o[JOB]["Stage"] == "copying the snapshot" for o in self.client.objects().values() if JOB in o))
        with self.assertRaisesRegex(CallError, "is being restored"):
            self.client.call("DeleteSnapshot", "(ssa{sv})", ("web", "two", {}))
        self.stack.faults()
        self.assertEqual((call.result(), self.vm("web")["State"], sorted(self.snapshots())), ("", "suspended", ["one", "two"]))
        self.stack.faults(f"bangerd io.unlink silent snapshots/{two}/memory")
        deletion = self.client.verb("DeleteSnapshot", "web", "two", wait=None)
        self.wait(lambda: not (self.top / "snapshots" / two / "record.json").exists())
        self.answer("being deleted", "RestoreSnapshot", "web", "two", force=True)
        self.stack.faults()
        self.assertEqual((deletion.result(), list(self.snapshots()), self.vm("web")["State"]), ("", ["one"], "suspended"))
        self.do("StartVM", "web")
        self.well()

    def test_killed_at_each_stage_of_making(self):
        """It is a snapshot if it is recorded, and nothing else; its VM goes on."""
        for stage in ("folder", "save", "go-on", "running", "keep", "fill", "record"):
            with self.subTest(stage):
                boot = self.started()["BootId"]
                self.again(BANGER_FAULT="snapshot-" + stage)
                self.assertNotEqual(self.client.verb("SnapshotVM", "web", "one").result(), "")
                self.wait(lambda: not self.stack.pid("manager"))
                self.again()
                self.wait(lambda: self.vm("web")["State"] == "running")
                self.settled()
                self.assertEqual((list(self.snapshots()), self.vm("web")["BootId"]), (["one"] if stage == "record" else [], boot))
                self.do("SnapshotVM", "web", "other")
                self.empty()
                self.settled()

    def test_killed_at_each_stage_of_restoring(self):
        """As it was, or as it is to be, or neither, and then it says so, does not start, and is restored by another try."""
        for stage in ("copy", "changing", "place", "restored"):
            with self.subTest(stage):
                boot = self.started()["BootId"]
                self.do("SnapshotVM", "web", "one")
                self.do("RestartVM", "web")
                self.again(BANGER_FAULT="restore-" + stage)
                self.assertNotEqual(self.client.verb("RestoreSnapshot", "web", "one", force=True).result(), "")
                self.wait(lambda: not self.stack.pid("manager"))
                self.again()
                self.well()
                self.assertEqual(self.vm("web")["State"], "running" if stage == "copy" else "stopped")
                if stage in ("place", "restored"):
                    for method in ("StartVM", "SetVM"):
                        self.answer("restore it again", method, "web")
                    self.answer("restore it again", "SnapshotVM", "web", "two")
                    with self.assertRaisesRegex(CallError, "is being restored"):
                        self.client.call("DeleteSnapshot", "(ssa{sv})", ("web", "one", {}))
                else:
                    self.assertEqual(self.in_folder(), [])
                self.do("RestoreSnapshot", "web", "one", force=stage == "changing" or stage == "copy", start=True)
                self.assertEqual(self.vm("web")["BootId"], boot)
                self.wait(lambda: not self.in_folder())  # nobody waits for what was saved to go
                self.well()
                self.empty()

    def test_what_fails_is_taken_back(self):
        """No snapshot, and a VM that runs on unless its VMM has ended."""
        self.started()
        for fault in ("* save fail", "bangerd io.create full snapshots/", "bangerd io.write fail snapshots/",
                      "bangerd io.fsync fail snapshots/", "bangerd io.rename fail snapshots/"):
            with self.subTest(fault):
                self.stack.faults(fault)
                self.assertNotEqual(self.client.verb("SnapshotVM", "web", "one").result(), "")
                self.settled()
                self.assertEqual((self.vm("web")["State"], self.snapshots(), self.in_folder()), ("running", {}, []))
        self.stack.faults("* save die")
        self.assertNotEqual(self.client.verb("SnapshotVM", "web", "one").result(), "")
        self.settled()
        self.assertEqual((self.vm("web")["State"], self.snapshots()), ("stopped", {}))

    def test_what_fails_before_anything_is_lost(self):
        """A restore that cannot copy leaves the VM as it was."""
        self.started()
        self.do("SnapshotVM", "web", "one")
        for fault in ("bangerd io.create full restoring", "bangerd io.fsync fail restoring"):
            with self.subTest(fault):
                self.stack.faults(fault)
                self.assertNotEqual(self.client.verb("RestoreSnapshot", "web", "one", force=True).result(), "")
                self.settled()
                self.assertEqual((self.vm("web")["State"], self.in_folder()), ("running", []))

    def test_ended_meanwhile(self):
        """By a kill, a stop, a deletion: no snapshot."""
        self.started()
        for verb, state in (("KillVM", "stopped"), ("StopVM", "stopped"), ("DeleteVM", None)):
            with self.subTest(verb):
                if self.vm("web")["State"] == "stopped":
                    self.do("StartVM", "web")
                self.stack.faults("* save slow:1500")
                call = self.client.verb("SnapshotVM", "web", "one")
                self.wait(lambda: self.vm("web")["State"] == "paused")
                self.do(verb, "web", **({"force": True} if verb == "DeleteVM" else {}))
                self.assertNotEqual(call.result(), "")
                self.settled()
                self.assertEqual((self.snapshots(), (self.vm("web") or {}).get("State")), ({}, state))

    def test_deleted_meanwhile(self):
        """What goes is not restored, and what is being restored does not go, also where another restore ended in the middle."""
        self.started()
        for name in ("one", "two", "three"):
            self.do("SnapshotVM", "web", name)
        record = self.top / "snapshots" / self.snapshots()["three"]["Id"] / "record.json"
        self.stack.faults("bangerd io.fsync silent snapshots/")
        deletion = self.client.pool.submit(self.client.call, "DeleteSnapshot", "(ssa{sv})", ("web", "three", {}))
        self.wait(lambda: not record.exists())
        self.answer("is being deleted", "RestoreSnapshot", "web", "three", force=True)
        self.stack.faults()
        deletion.result()
        self.again(BANGER_FAULT="restore-place")
        self.assertNotEqual(self.client.verb("RestoreSnapshot", "web", "one", force=True).result(), "")
        self.wait(lambda: not self.stack.pid("manager"))
        self.again()
        self.well()
        self.stack.faults("bangerd io.fsync silent restoring")
        call = self.client.verb("RestoreSnapshot", "web", "two")
        self.wait(lambda: any(o.get(JOB, {}).get("Stage") == "copying the snapshot" for o in self.client.objects().values()))
        with self.assertRaisesRegex(CallError, "is being restored"):
            self.client.call("DeleteSnapshot", "(ssa{sv})", ("web", "two", {}))
        self.stack.faults()
        self.assertEqual((call.result(), self.vm("web")["State"], sorted(self.snapshots())), ("", "suspended", ["one", "two"]))
        self.client.call("DeleteSnapshot", "(ssa{sv})", ("web", "two", {}))
        self.well()

    def damages(self, folder):
        """(what, how to do it) to files of a snapshot, as its owner could."""
        memory, root, state = folder / "memory", folder / "rootfs.ext4", folder / "state"

        def instead(path, make):
            path.rename(path.with_suffix(".away"))
            make()
        yield "a byte", lambda: memory.write_bytes(b"9" + memory.read_bytes()[1:])
        yield "cut off", lambda: os.truncate(memory, 1)
        yield "empty", lambda: os.truncate(state, 0)
        yield "a disk that was written to", lambda: root.write_bytes(b"\7" + root.read_bytes()[1:])
        yield "gone", memory.unlink
        yield "a link", lambda: instead(memory, lambda: memory.symlink_to("/etc/passwd"))
        yield "another name", lambda: os.link(memory, folder.parent / "other-name")
        yield "a device", lambda: instead(memory, lambda: os.mknod(memory, 0o020666, os.makedev(1, 5)))
        yield "a pipe", lambda: instead(memory, lambda: os.mkfifo(memory))
        yield "a folder", lambda: instead(root, root.mkdir)
        yield "another's", lambda: os.chown(memory, 0, 0)

    def test_damaged(self):
        """Noticed before the VM is touched, whatever was done to it."""
        boot = self.started()["BootId"]
        n = len(list(self.damages(self.top)))
        for i in range(n):
            name = f"n{i}"
            self.do("SnapshotVM", "web", name)
            folder = self.top / "snapshots" / self.snapshots()[name]["Id"]
            what, how = list(self.damages(folder))[i]
            with self.subTest(what):
                how()
                with self.assertRaises(CallError) as caught:
                    self.client.call("RestoreSnapshot", "(ssa{sv})", ("web", name, options(force=True, wait=True)))
                self.assertIn(caught.exception.name, DAMAGED, caught.exception)
                self.assertEqual((self.vm("web")["State"], self.vm("web")["BootId"], self.in_folder()), ("running", boot, []))
                self.client.call("DeleteSnapshot", "(ssa{sv})", ("web", name, {}))
                (folder.parent / "other-name").unlink(missing_ok=True)
        self.settled()

    def test_half_made_and_foreign(self):
        """At the start of the daemon: without a record, of a VM that is gone; what cannot be read stays and is none."""
        self.started()
        self.started("other")
        self.do("SnapshotVM", "web", "one")
        with self.assertRaisesRegex(CallError, "no snapshot called"):
            self.client.call("RestoreSnapshot", "(ssa{sv})", ("other", "one", {}))
        with self.assertRaisesRegex(CallError, "no snapshot called"):
            self.client.call("DeleteSnapshot", "(ssa{sv})", ("other", self.snapshots()["one"]["Id"], {}))
        folder = self.top / "snapshots"
        one = folder / self.snapshots()["one"]["Id"]
        record = json.loads((one / "record.json").read_text())
        for change in ({"id": "0" * 12}, {"name": "Not A Name"}, {"size-bytes": "many"}, {"vm": None}):
            with self.subTest(change):
                (one / "record.json").write_text(json.dumps(record | change))
                self.again()
                self.assertEqual(self.snapshots(), {})
                self.assertTrue(one.exists())
        for inside, change in (("record.json", {"vm": "0" * 12}), ("", {})):
            path = folder / "0123456789ab"
            path.mkdir()
            if inside:
                (path / inside).write_text(json.dumps(record | {"id": path.name} | change))
            for each in (path, *path.iterdir()):
                os.chown(each, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
            self.again()
            self.wait(lambda: not (folder / "0123456789ab").exists())
        (one / "record.json").write_text(json.dumps(record))
        self.again()
        self.assertEqual(list(self.snapshots()), ["one"])
        self.settled()

    def disk(self, vm, content=None):
        """What the helper has as the disk of an id: as where there is device-mapper, for which a file stands in."""
        path = self.stack.state / "cow" / str(self.stack.owner.pw_uid) / vm
        if content:
            path.write_bytes(content)
            path.chmod(0o600)
        return path

    def of_roots(self, *folders):
        """Their root disks are the helper's."""
        self.stack.stop("manager")
        for folder in folders:
            record = json.loads((folder / "record.json").read_text())
            (folder / "record.json").write_text(json.dumps(record | {"root": "snapshot"}))
        self.again()

    def test_with_a_disk_of_the_helpers(self):
        """Where it has no room for the copy nothing was lost; where it failed, or ended, the VM says so, and another try is enough."""
        self.started()
        self.do("SuspendVM", "web")
        self.do("SnapshotVM", "web", "one")
        vm, one = self.vm("web")["Id"], self.snapshots()["one"]["Id"]
        disk, kept = self.disk(vm, b"now"), self.disk(one, b"then")
        self.of_roots(self.top / "vms" / vm, self.top / "snapshots" / one)
        self.stack.faults("bangerd-root io.create full .part")
        self.answer("space|room", "RestoreSnapshot", "web", "one", force=True)
        self.again()
        self.assertEqual((self.vm("web")["State"], disk.read_bytes(), self.in_folder()), ("suspended", b"now", SUSPENDED))
        self.stack.faults("bangerd-root io.fsync fail .part")
        self.answer("cannot write", "RestoreSnapshot", "web", "one", force=True)
        self.assertEqual((self.vm("web")["State"], disk.read_bytes()), ("stopped", b"now"))
        self.answer("restore it again", "StartVM", "web")
        self.stack.faults("bangerd-root io.fsync silent .part")
        call = self.client.verb("RestoreSnapshot", "web", "one")
        self.wait(disk.with_name(vm + ".part").exists)
        self.stack.kill("helper")
        self.stack.kill("helper")
        self.assertNotEqual(call.result(), "")
        self.stack.faults()
        self.stack.start_helper()
        self.wait(lambda: not disk.with_name(vm + ".part").exists())
        self.assertEqual(disk.read_bytes(), b"now")
        self.do("RestoreSnapshot", "web", "one")
        self.assertEqual((self.vm("web")["State"], disk.read_bytes(), self.in_folder()), ("suspended", b"then", SUSPENDED))
        self.client.call("DeleteSnapshot", "(ssa{sv})", ("web", "one", {}))
        self.do("DeleteVM", "web", force=True)
        self.assertFalse(disk.exists() or kept.exists())
        self.settled()

    def test_copies_beside_each_other(self):
        """One that takes long holds up nobody but who wants its disks; what it makes goes when it is not wanted any more."""
        ids = [f"c0ffee00000{i}" for i in range(4)]
        for each in ids:
            folder = self.top / "vms" / each
            folder.mkdir(parents=True)
            os.chown(folder, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
        disks = [self.disk(each, each.encode() if each in (ids[0], ids[2]) else None) for each in ids]

        def call(method, *vms):
            line = ["busctl", f"--address={self.stack.system_address}", "--timeout=300", "call", *harness.HELPER, method, "s" * len(vms) + "a{sv}", *vms, "0"]
            return subprocess.run(line, capture_output=True, text=True, check=False)
        part = disks[1].with_name(ids[1] + ".part")
        self.stack.faults(f"bangerd-root io.fsync silent {part.name}")
        long = self.client.pool.submit(call, "CopyDisk", ids[0], ids[1])
        self.wait(part.exists)
        self.assertEqual((call("CopyDisk", ids[2], ids[3]).stderr, disks[3].read_bytes()), ("", disks[2].read_bytes()))
        self.assertEqual((call("DeleteDisk", ids[3]).stderr, disks[3].exists()), ("", False))
        self.assertFalse(long.done())
        self.assertIn("copy of itself", call("CopyDisk", ids[2], ids[2]).stderr)
        deletion = self.client.pool.submit(call, "DeleteDisk", ids[1])
        self.stack.faults()
        self.assertEqual((deletion.result().stderr, disks[1].exists() or part.exists()), ("", False) if long.result() else None)
        for vm, disk in zip(ids, disks):
            self.assertEqual((call("DeleteDisk", vm).stderr, disk.exists()), ("", False))
            (self.top / "vms" / vm).rmdir()
        self.settled()

    def test_refused(self):
        """Names that are none, more than are allowed, and a VM that is not restored anyway."""
        self.started()
        for name in ("", "A", "-a", "a/b", "../x", "x" * 64, "0123456789ab"):
            self.assertNotEqual(self.client.verb("SnapshotVM", "web", name).result(), "", name)
        self.do("StopVM", "web")
        answers = [self.client.verb("SnapshotVM", "web", "same") for _ in range(4)]
        self.assertEqual(sorted(bool(call.result()) for call in answers), [False, True, True, True])
        self.assertEqual(list(self.snapshots()), ["same"])
        self.do("CreateVM", "brief", memory_mib=128, ephemeral=True, start=True)
        self.answer("is deleted when it ends", "SnapshotVM", "brief", "one")
        self.do("DeleteVM", "brief", force=True)
        self.settled()


if __name__ == "__main__":
    main()
