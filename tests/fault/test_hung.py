"""Whoever kills, deletes or ends bangerd does not wait for a disk that does not answer, whatever waits for it.

Run by meson test as root. Each bound is far above what it may take; what is found out is that there is an end.
"""

import os
import pathlib
import re
import signal
import time

from parts import JOB, VM, FaultTest, GLib, harness, main_beside

SECONDS = 120


class HungTest(FaultTest):
    """A disk that does not answer."""

    patience = 1

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stack.make_sources()

    def of_kind(self, interface):
        """Properties of all objects that have @interface, by name or kind."""
        found = [o[interface] | {"path": path} for path, o in self.client.objects().items() if interface in o]
        return {p.get("Name") or p["Kind"]: p for p in found}

    def wait_for(self, what, ready):
        """What @ready returns, once that is something."""
        end = time.monotonic() + SECONDS
        while not (value := ready()):
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.05)
        return value

    def under_way(self, stage):
        """The path of the job that is in @stage; none if there is none."""
        return [path for path, o in self.client.objects().items()
                if JOB in o and (o[JOB]["State"], o[JOB]["Stage"]) == ("running", stage)]

    def ended(self, path):
        """That job, once it has ended."""
        job = self.client.objects()[path][JOB]
        return job if job["State"] != "running" else None


class Late(HungTest):
    """What goes after its time was over, by itself."""

    def test_creation_that_failed_goes_later(self):
        """Its folder cannot be removed in time, and then not at all: that is tried again."""
        self.stack.faults("* ssh-keygen silent")
        creation = self.client.verb("CreateVM", "web", memory_mib=128)
        self.wait_for("its keys", lambda: any(job["Stage"] == "making keys" for job in self.of_kind(JOB).values()))
        self.stack.faults("* ssh-keygen fail", "bangerd io.unlink silent record.json")
        self.assertIn("ssh-keygen", creation.result(SECONDS))
        self.assertIsNone(self.vm("web"))
        self.stack.faults("bangerd io.unlink fail record.json")
        time.sleep(0.3)
        self.settled()

    def test_no_time_left_for_a_folder(self):
        """The helper takes all the time of a deletion, ssh-keygen that of a creation, and known_hosts hangs: the folders go
        by themselves, and so is said."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        vm = self.vm("web")["Id"]
        self.stack.faults(f"{vm} polkit.KillVmm slow:9500", f"{vm} polkit.ReleaseVm slow:19000", "bangerd io.* silent known_hosts", "* ssh-keygen silent")
        calls = [self.client.verb("DeleteVM", "web", force=True), self.client.verb("CreateVM", "api", memory_mib=128)]
        time.sleep(31)
        self.stack.faults("bangerd io.* silent known_hosts", "* ssh-keygen fail")
        answers = [call.result(SECONDS) for call in calls]
        if answers[0]:
            self.assertIn("bangerd tries again by itself: its files are still being removed", answers[0])
        self.assertIn("ssh-keygen", answers[1])
        self.settled()
        self.assertEqual(self.client.vms(), {})


class Hung(HungTest):
    """From where the record itself is made to where it goes."""

    def test_creation_is_deleted(self):
        """Its first record hangs; what the disk takes of it later goes."""
        self.stack.faults("bangerd io.create silent vms/")
        creation = self.client.verb("CreateVM", "web", memory_mib=128)
        self.wait_for("the VM", lambda: self.vm("web"))
        self.assertEqual(self.client.verb("DeleteVM", "web", force=True).result(SECONDS), "")
        self.assertIn("it is not made yet", creation.result(SECONDS))
        self.assertIsNone(self.vm("web"))
        self.settled()

    def test_deletion_without_known_hosts(self):
        """Where that file is may hang: nothing of the VM is there."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        self.stack.faults("bangerd io.* silent known_hosts")
        self.assertEqual(self.client.verb("DeleteVM", "web", force=True).result(SECONDS), "")
        self.assertIsNone(self.vm("web"))
        self.settled()

    def test_line_of_a_vm_that_is_gone(self):
        """bangerd is killed while known_hosts hangs: what the next one writes there leaves it out."""
        known = pathlib.Path(self.stack.owner.pw_dir) / ".config/banger/ssh/known_hosts"
        self.do("CreateVM", "web", memory_mib=128, start=True)
        web = self.vm("web")["Id"]
        self.stack.faults("bangerd io.* silent known_hosts")
        self.do("DeleteVM", "web", force=True)
        self.stack.kill("manager")
        self.stack.faults()
        self.stack.all_up()
        self.assertIn(web, known.read_text(encoding="utf-8"))
        self.do("CreateVM", "api", memory_mib=128, start=True)
        text = known.read_text(encoding="utf-8")
        self.assertIn(self.vm("api")["Id"], text)
        self.assertNotIn(web, text)
        self.settled()

    def test_deletion_beside_a_helper_that_hangs(self):
        """It is said that it goes by itself, and it does."""
        self.do("CreateVM", "web", memory_mib=128, ephemeral=True, start=True)
        os.kill(self.stack.pid("helper"), signal.SIGSTOP)
        answer = self.client.verb("DeleteVM", "web", force=True).result(SECONDS)
        self.assertIn("bangerd tries again by itself: ReleaseVm: the root helper has not answered for ", answer)
        self.assertEqual(self.vm("web")["State"], "deleting")
        os.kill(self.stack.pid("helper"), signal.SIGCONT)
        self.settled()
        self.assertEqual(self.client.vms(), {})

    def test_image_half_deleted_is_none(self):
        """Its record has gone, and a file of it cannot go yet: no VM is made of it, and the file goes later."""
        self.do("ImportImage", "small", str(self.stack.tar), size_bytes=32 << 20)
        image = self.of_kind("org.banger.Image")["small"]["Id"]
        self.stack.faults(f"bangerd io.unlink fail {image}/rootfs")
        self.assertIn("cannot remove", self.client.verb("DeleteImage", "small").result(SECONDS))
        self.assertNotIn("small", self.of_kind("org.banger.Image"))
        self.assertIn("NoSuchImage", self.client.verb("CreateVM", "web", memory_mib=128, image="small").result(SECONDS))
        self.settled()

    def test_kill_of_what_is_found_again(self):
        """A start that the last bangerd did not finish is being undone, and a file of it cannot go."""
        for name, verb, more in (("web", "KillVM", {}), ("api", "DeleteVM", {"force": True})):
            self.do("CreateVM", name, memory_mib=128)
            vm = self.vm(name)["Id"]
            self.stack.faults(f"{vm} socket silent")
            self.client.verb("StartVM", name)
            self.wait_for("its VMM", lambda: self.invariants.vmms().get(vm))
            self.stack.kill("manager")
            self.stack.faults(f"bangerd io.unlink silent {vm}/rootfs")
            self.stack.all_up()
            answer = self.client.verb(verb, name, **more)
            self.wait_for("the end of its VMM", lambda: not self.invariants.vmms().get(vm))
            if verb == "KillVM":
                self.assertEqual(answer.result(SECONDS), "")
                self.assertEqual(self.vm(name)["State"], "stopped")
            else:
                self.assertIn("the disk does not answer", answer.result(SECONDS))
            self.settled()

    def test_port_is_shown_once_its_call_is_answered(self):
        """Its record is on the disk then; one that hangs keeps nobody, who is told so."""
        self.do("CreateVM", "web", memory_mib=128)
        full = "127.0.0.1:34567:22"
        for how in ("slow:500", "silent"):
            with self.subTest(how):
                self.stack.faults(f"bangerd io.fsync {how} {self.vm('web')['Id']}/.record")
                if how == "silent":
                    with self.assertRaisesRegex(harness.CallError, "Timeout.*it is so, but the disk has not taken the record yet"):
                        self.client.call("AddForwardVM", "(ssa{sv})", ("web", full, {}))
                    self.settled()
                else:
                    self.assertEqual(self.client.call("AddForwardVM", "(ssa{sv})", ("web", "34567:22", {})), (full,))
                    self.assertEqual(self.vm("web")["Forwards"], [full])
                self.wait_for("its record", lambda full=full: self.vm("web")["Forwards"] == [full])
                self.client.call("RemoveForwardVM", "(ssa{sv})", ("web", full, {}))
                self.assertEqual(self.vm("web")["Forwards"], [])

    def asked_until_it_ends(self):
        """bangerd is told to end, and asked for something all the while. What each call got."""
        calls = []
        os.kill(self.stack.pid("manager"), signal.SIGTERM)
        while self.stack.pid("manager"):
            calls.append(self.client.verb("DeleteVM", "nobody"))
            time.sleep(0.1)
        return [call.result(SECONDS) for call in calls]

    def test_bangerd_ends(self):
        """It does not wait for its last records for ever, nor keep its name while it does not answer; and whoever has
        called it until then is answered."""
        self.do("CreateVM", "web", memory_mib=128)
        self.do("CreateVM", "api", memory_mib=128, start=True)
        self.stack.faults("bangerd io.fsync silent vms/", "* exec silent")
        calls = [self.client.verb("StartVM", "web"), self.client.capture("api")]
        self.wait_for("the job", lambda: any(job["State"] == "running" for job in self.of_kind(JOB).values()))
        meanwhile = self.asked_until_it_ends()
        for call in calls:
            self.assertIn("bangerd ends before that is done", call.result(SECONDS))
        self.assertEqual([text for text in meanwhile if "NoReply" in text], [])
        self.assertTrue(any("about to end" in text for text in meanwhile), meanwhile)
        self.stack.faults()
        self.stack.all_up()
        self.wait_for("the VM", lambda: (self.of_kind(VM).get("web") or {}).get("State") == "stopped")
        self.settled()


class Suspended(HungTest):
    """What is saved of a VM."""

    def saved(self, vm):
        """Bytes of each file of a suspension."""
        folder = self.invariants.owner / "vms" / vm
        return {path.name: path.stat().st_size for path in folder.glob("suspend*") if path.stat().st_size}

    def goes_on(self, name, boot):
        """It is suspended, and a start takes it up where it was."""
        self.assertEqual(self.vm(name)["State"], "suspended", self.vm(name)["StateReason"])
        self.do("StartVM", name)
        self.assertEqual(self.vm(name)["BootId"], boot)
        self.settled()

    def test_suspended_again_while_the_last_is_forgotten(self):
        """What was saved before goes late: not what is saved now."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        vm, boot = self.vm("web")["Id"], self.vm("web")["BootId"]
        self.do("SuspendVM", "web")
        self.stack.faults(f"bangerd io.unlink silent {vm}/suspended.")
        self.do("StartVM", "web")
        suspension = self.client.verb("SuspendVM", "web")
        self.wait_for("its wait", lambda: suspension.done() or self.under_way("waiting for the disk"))
        self.stack.faults()
        self.assertEqual(suspension.result(SECONDS), "")
        time.sleep(0.3)
        self.goes_on("web", boot)

    def test_suspended_again_while_a_cancelled_one_hangs(self):
        """What it takes back when the disk answers is its own."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        vm, boot = self.vm("web")["Id"], self.vm("web")["BootId"]
        self.stack.faults(f"bangerd io.fsync silent {vm}/suspending.")
        first = self.client.verb("SuspendVM", "web")
        self.wait_for("what it saves", lambda: len(self.saved(vm)) == 2)
        time.sleep(0.3)
        self.client.call("Cancel", "(a{sv})", ({},), interface=JOB, path=self.under_way("saving memory")[0])
        self.assertIn("Cancelled", first.result(SECONDS))
        second = self.client.verb("SuspendVM", "web")
        time.sleep(0.5)
        self.stack.faults(f"bangerd io.fsync slow:300 {vm}/suspending.")  # as of a larger memory
        self.assertEqual(second.result(SECONDS), "")
        time.sleep(0.3)
        self.goes_on("web", boot)

    def test_stop_and_kill_of_what_is_just_suspended(self):
        """Nothing of it is to run, and soon nothing does: what is saved of it stays."""
        for verb, kind in (("StopVM", "stop-vm"), ("KillVM", "kill-vm")):
            self.do("CreateVM", kind, memory_mib=128, start=True)
            vm, boot = self.vm(kind)["Id"], self.vm(kind)["BootId"]
            self.stack.faults(f"{vm} polkit.ReleaseVm silent")
            suspension = self.client.verb("SuspendVM", kind)
            self.wait_for("its record", lambda: self.vm(kind)["State"] == "suspended")
            call = self.client.verb(verb, kind)
            self.wait_for("its turn", lambda: call.done() or self.of_kind(JOB).get(kind))
            self.stack.faults()
            self.assertEqual((call.result(SECONDS), suspension.result(SECONDS)), ("", ""))
            self.goes_on(kind, boot)

    def test_no_room_to_record_that_it_is_suspended(self):
        """It runs on, is known to, and can be suspended later."""
        for how in ("full", "fail"):
            self.do("CreateVM", how, memory_mib=128, start=True)
            before = self.vm(how)
            self.stack.faults(f"bangerd io.fsync silent {before['Id']}/suspending.")
            suspension = self.client.verb("SuspendVM", how)
            self.wait_for("what it saves", lambda: len(self.saved(before["Id"])) == 2)
            time.sleep(0.3)
            self.stack.faults(f"bangerd io.write {how} {before['Id']}/.record")
            self.assertNotIn("stays paused", suspension.result(SECONDS))
            self.settled()
            now = self.vm(how)
            self.assertEqual([now[key] for key in ("State", "Pid", "BootId", "StartedAt")],
                             ["running"] + [before[key] for key in ("Pid", "BootId", "StartedAt")])
            self.do("SuspendVM", how)
            self.goes_on(how, before["BootId"])

    def test_no_room_to_record_that_it_goes_on(self):
        """It has not gone on: what was saved of it is kept."""
        for how in ("full", "fail"):
            self.do("CreateVM", how, memory_mib=128, start=True)
            vm, boot = self.vm(how)["Id"], self.vm(how)["BootId"]
            self.do("SuspendVM", how)
            self.stack.faults(f"{vm} load silent")
            start = self.client.verb("StartVM", how)
            self.wait_for("its VMM", lambda: self.under_way("configuring the VMM"))
            self.stack.faults(f"bangerd io.write {how} {vm}/.record")
            self.assertIn("it stays suspended", start.result(SECONDS))
            self.stack.faults()
            self.goes_on(how, boot)

    def test_vmm_dies_before_it_goes_on(self):
        """While that it goes on is recorded: what was saved fits as before, whatever the record said meanwhile."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        vm, boot = self.vm("web")["Id"], self.vm("web")["BootId"]
        self.do("SuspendVM", "web")
        self.stack.faults(f"{vm} load silent")
        start = self.client.verb("StartVM", "web")
        self.wait_for("its VMM", lambda: self.under_way("configuring the VMM"))
        self.stack.faults(f"bangerd io.fsync silent {vm}/.record")
        self.wait_for("its load", lambda: self.under_way("booting the guest"))
        time.sleep(0.2)
        for pid in self.invariants.vmms()[vm]:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        self.stack.faults()
        self.assertIn("EngineFailed", start.result(SECONDS))
        self.goes_on("web", boot)

    def test_nothing_to_go_on_from(self):
        """A file of its memory has gone: it stays suspended, and boots without what was in its memory if that is asked for."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        vm, boot = self.vm("web")["Id"], self.vm("web")["BootId"]
        self.do("SuspendVM", "web")
        for name in ("suspended.memory", "suspended.state"):
            path = self.invariants.owner / "vms" / vm / name
            kept = path.rename(path.with_name("kept"))
            self.assertIn("--discard", self.client.verb("StartVM", "web").result(SECONDS))
            self.settled()
            self.assertEqual(self.vm("web")["State"], "suspended")
            kept.rename(path)
        path.unlink()
        self.do("StartVM", "web", discard=True)
        self.assertNotEqual(self.vm("web")["BootId"], boot)
        self.settled()

    def test_nothing_saved_is_left_of_one_that_went_on_and_ended(self):
        """What it was to go on from fits no more."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        vm = self.vm("web")["Id"]
        self.do("SuspendVM", "web")
        self.stack.faults(f"{vm} agent die")
        self.assertIn("EngineFailed", self.client.verb("StartVM", "web").result(SECONDS))
        self.assertIn("its memory is lost", self.vm("web")["StateReason"])
        self.wait_for("the end of it", lambda: not self.saved(vm))
        self.settled()

    def test_nothing_saved_is_left_beside_one_that_runs(self):
        """bangerd ended before it was forgotten."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        vm = self.vm("web")["Id"]
        self.do("SuspendVM", "web")
        self.stack.faults(f"bangerd io.unlink silent {vm}/suspended.")
        self.do("StartVM", "web")
        self.assertNotEqual(self.saved(vm), {})
        self.stack.kill("manager")
        self.stack.faults()
        self.stack.all_up()
        self.wait_for("the end of it", lambda: not self.saved(vm))
        self.assertEqual(self.vm("web")["State"], "running")
        self.settled()


class Given(HungTest):
    """What the owner names, and a home folder."""

    def hangs(self, call):
        """It is waited for, while all else goes on: who asks is answered, and a VM starts and is killed."""
        time.sleep(0.3)
        self.do("StartVM", "beside")
        self.do("KillVM", "beside")
        self.assertFalse(call.done(), call.done() and call.result())

    def test_paths_that_the_owner_names(self):
        """An image, a kernel, a work tree and the settings, on a file system whose server is gone."""
        self.do("CreateVM", "beside", memory_mib=128)
        self.do("CreateVM", "web", memory_mib=128, start=True)
        rows = (("ImportImage", ("small", str(self.stack.tar)), "small.tar"),
                ("ImportKernel", ("own", str(self.stack.vmlinux)), "/vmlinux"),
                ("ImportWorkspace", ("web", str(self.stack.tree)), "/tree"),
                ("ReloadConfig", (), "config.toml"))
        for method, words, part in rows:
            with self.subTest(method):
                more = {"wait": False} if method == "ReloadConfig" else {}
                self.stack.faults(f"bangerd io.read silent {part}", f"bangerd io.look silent {part}")
                call = self.client.verb(method, *words, **more) if words else self.client.pool.submit(
                    self.client.call, "ReloadConfig", "(a{sv})", ({},))
                self.hangs(call)
                self.stack.faults()
                self.assertIn(call.result(SECONDS), ("", ([],)))
        self.do("DeleteVM", "web", force=True)
        self.settled()

    def dns_port(self):
        """What holds of the one setting that each stack has in its file."""
        config = self.client.call("Get", "(ss)", ("org.banger.Manager", "Config"), interface="org.freedesktop.DBus.Properties")[0]
        return next((value, origin) for key, value, origin in config if key == "network.dns-port")

    def test_start_beside_a_home_and_a_name_service_that_hang(self):
        """VMs are known, started and killed all the same; what holds is told, and read when it is asked for."""
        self.do("CreateVM", "beside", memory_mib=128)
        self.stack.kill("manager")
        self.stack.faults("bangerd io.read silent config.toml", "bangerd io.names silent /etc/passwd")
        self.stack.all_up()
        self.hangs(self.client.verb("BuildImage", "own"))
        log = pathlib.Path(self.stack.log_path("manager")).read_text(encoding="utf-8")
        self.assertIn("config.toml does not answer", log)
        diary = self.stack.diary.read_text(encoding="utf-8")
        self.assertIsNone(re.search(rf"^{self.stack.pid('manager')} names ", diary, re.M))
        self.stack.faults()
        self.assertEqual(self.dns_port()[1], "default")
        self.client.call("ReloadConfig", "(a{sv})", ({},))
        self.assertEqual(self.dns_port(), (str(self.stack.dns_port), "line 2"))
        self.settled()

    def start_with(self, files, *faults):
        """Of a VM that has file_sync[1..] of @files: what the start warned of."""
        text = f"[network]\ndns-port = {self.stack.dns_port}\n"
        self.stack.settings(text + "".join(f'[[file_sync]]\nsource = "~/{name}"\n' for name in files))
        self.client.call("ReloadConfig", "(a{sv})", ({},))
        self.stack.faults(*faults)
        begun = time.monotonic()
        path = self.client.call("StartVM", "(sa{sv})", ("web", {}))[0]
        job = self.wait_for("its end", lambda: self.ended(path))
        took = time.monotonic() - begun
        self.stack.faults()
        self.assertEqual(self.vm("web")["State"], "running")
        self.stack.settings(text)
        self.client.call("ReloadConfig", "(a{sv})", ({},))
        self.do("StopVM", "web")
        return job["Warnings"], took

    def test_files_of_a_home_that_hangs(self):
        """Each of them is a warning; a home that hangs is one after three seconds, or when it stops to answer. The VM runs."""
        home = pathlib.Path(self.stack.owner.pw_dir)
        for name, text in (("given", "1"), ("other", "2")):
            (home / name).write_text(text, encoding="utf-8")
        (home / "out").symlink_to("/etc/passwd")
        self.do("CreateVM", "web", memory_mib=128)
        rows = ((("given", "other"), (), []),
                (("given", "none", "out"), (),
                 ["file_sync[2], '~/none': it is not there",
                  "file_sync[3], '~/out': it is a link, or below one, that leads out of the home folder"]),
                (("given", "other"), ("bangerd io.read silent /given",),
                 ["file_sync: the home folder does not answer: nothing of it was copied"]),
                (("given", "other"), ("* command fail",),
                 ["file_sync[1], '~/given': the guest could not take it: it says no more",
                  "file_sync[2], '~/other': the guest could not take it: it says no more"]))
        for files, faults, warnings in rows:
            with self.subTest(files=files, faults=faults):
                told, took = self.start_with(files, *faults)
                self.assertEqual(told, warnings)
                self.assertLess(took, SECONDS)
        (home / "out").unlink()
        self.do("DeleteVM", "web")
        self.settled()

    def test_workers_of_a_home_that_hangs(self):
        """They are the same that all else waits for: no more than a few are left there, and copies are made again once it answers."""
        names = [f"vm{i}" for i in range(4)]
        (pathlib.Path(self.stack.owner.pw_dir) / "given").write_text("1", encoding="utf-8")
        self.stack.settings(f'[network]\ndns-port = {self.stack.dns_port}\n[[file_sync]]\nsource = "~/given"\n')
        self.client.call("ReloadConfig", "(a{sv})", ({},))
        self.make(names)
        self.do("CreateVM", "web", memory_mib=128)
        self.stack.faults("bangerd io.read silent /given")
        self.good(self.all_do("StartVM", names))
        log = pathlib.Path(self.stack.log_path("manager"))
        begun = log.read_text(encoding="utf-8").count("copying files of the home folder")
        self.assertGreater(begun, 0)
        self.assertEqual(self.start_with(["given"], "bangerd io.read silent /given")[0],
                         ["file_sync: the home folder does not answer: nothing of it was copied"])
        self.assertEqual(log.read_text(encoding="utf-8").count("copying files of the home folder"), begun)
        time.sleep(0.3)
        self.assertEqual(self.start_with(["given"])[0], [])
        self.settled()


class Start(HungTest):
    """What comes with a start."""

    def test_setup_until_it_has_run(self):
        """A script that fails leaves a VM that runs, and is tried again; one without end goes with a kill; once is enough."""
        self.do("CreateVM", "web", memory_mib=128, setup="true")
        self.assertEqual(self.vm("web")["Setup"], "pending")
        self.stack.faults("* command fail")
        said = self.client.verb("StartVM", "web").result(SECONDS)
        self.assertIn("the setup of this VM: it ended with status 1 and has said nothing\nit goes on running", said)
        self.assertEqual((self.vm("web")["State"], self.vm("web")["Setup"]), ("running", "failed"))
        for text in ("", "x" * 65537):
            self.assertIn("InvalidArgs", self.client.verb("SetVM", "web", setup=text).result(SECONDS))
        self.do("SetVM", "web", setup="false")
        self.do("StopVM", "web")
        self.do("SetVM", "web", setup="true")
        record = (self.invariants.owner / "vms" / self.vm("web")["Id"] / "record.json").read_text(encoding="utf-8")
        self.assertIn('"true"', record)
        self.assertNotIn('"false"', record)
        self.stack.faults("* command silent")
        start = self.client.verb("StartVM", "web")
        self.wait_for("the setup", lambda: self.vm("web")["State"] == "running")
        self.do("KillVM", "web")
        self.assertIn("Cancelled", start.result(SECONDS))
        self.assertEqual(self.vm("web")["Setup"], "failed")
        self.stack.faults("bangerd io.write full setup.log")
        said = "not all that the setup wrote is in its log: No space left on device"
        path = self.client.call("StartVM", "(sa{sv})", ("web", {}))[0]
        self.assertEqual(self.wait_for("its end", lambda: self.ended(path))["Warnings"], [said])
        self.assertEqual(self.vm("web")["Setup"], "done")
        self.assertIn("WrongState", self.client.verb("SetVM", "web", setup="true").result(SECONDS))
        self.do("StopVM", "web")
        self.stack.faults("* command fail")
        self.do("StartVM", "web")
        self.stack.faults()
        self.do("DeleteVM", "web", force=True)
        self.assertIn("InvalidArgs", self.client.verb("CreateVM", "web", memory_mib=128, setup="").result(SECONDS))
        self.assertIn("InvalidArgs", self.client.verb("CreateVM", "web", memory_mib=128, setup="x" * 65537).result(SECONDS))
        self.do("CreateVM", "web", memory_mib=128, setup="x" * 65536)
        self.do("DeleteVM", "web")
        self.settled()

    def test_setup_that_nobody_goes_on_with(self):
        """bangerd is killed while files are copied or a script runs, or the start is cancelled: the VM says so until a restart."""
        (pathlib.Path(self.stack.owner.pw_dir) / "given").write_text("1", encoding="utf-8")
        text = f"[network]\ndns-port = {self.stack.dns_port}\n"
        for files, setup, kill in ((True, False, True), (False, True, True), (False, True, False)):
            with self.subTest(files=files, setup=setup, kill=kill):
                self.stack.settings(text + ('[[file_sync]]\nsource = "~/given"\n' if files else ""))
                self.client.call("ReloadConfig", "(a{sv})", ({},))
                self.do("CreateVM", "web", memory_mib=128, **({"setup": "true"} if setup else {}))
                self.stack.faults("* command silent")
                path = self.client.call("StartVM", "(sa{sv})", ("web", {}))[0]
                self.wait_for("its start", lambda: self.under_way("running the setup of this VM" if setup else "copying files of the home folder"))
                self.assertIn("still on their way", self.vm("web")["StateReason"])
                if kill:
                    self.stack.kill("manager")
                    self.stack.all_up()
                else:
                    self.client.call("Cancel", "(a{sv})", ({},), interface=JOB, path=path)
                self.wait_for("what is said", lambda: "its start was broken off" in self.vm("web")["StateReason"])
                self.stack.faults()
                self.settled()
                self.do("RestartVM", "web")
                self.assertEqual((self.vm("web")["StateReason"], self.vm("web")["Setup"]), ("", "done" if setup else ""))
                self.do("DeleteVM", "web", force=True)
        self.stack.settings(text)
        self.client.call("ReloadConfig", "(a{sv})", ({},))
        self.settled()

    def test_published_by_config(self):
        """A port of config.toml is each new VM's; who comes second starts without it, and is told. One that was asked for is not left out."""
        text, port = f"[network]\ndns-port = {self.stack.dns_port}\n", 31000 + self.stack.number % 1000
        self.stack.settings(text + f'[[publish]]\nport = {port}\nguest_port = 80\n[[publish]]\nport = {port + 1}\nnames = ["x*"]\n')
        self.client.call("ReloadConfig", "(a{sv})", ({},))
        own, other = f"127.0.0.1:{port}:80", f"127.0.0.1:{port + 1}:{port + 1}"
        self.do("CreateVM", "bare", memory_mib=128, no_publish=True)
        self.assertEqual(self.vm("bare")["Forwards"], [])
        for name, forwards, warnings in (("one", [own], 0), ("two", [own], 1), ("x3", [own, other], 1)):
            self.do("CreateVM", name, memory_mib=128)
            self.assertEqual(self.vm(name)["Forwards"], forwards)
            path = self.client.call("StartVM", "(sa{sv})", (name, {}))[0]
            job = self.wait_for("its end", lambda path=path: self.ended(path))
            self.assertEqual((job["State"], len(job["Warnings"])), ("done", warnings), job)
            for said in job["Warnings"]:
                self.assertIn(f"{own} is not published: port {port} of 127.0.0.1 is in use", said)
        self.do("StopVM", "one")
        self.do("StopVM", "two")
        self.do("StartVM", "two")  # has it now
        self.do("StartVM", "one")  # and this one not
        self.assertIn("InUse", self.client.verb("CreateVM", "four", memory_mib=128, publish=GLib.Variant("as", [f"{port}:81"])).result(SECONDS))
        self.do("CreateVM", "x5", memory_mib=128, publish=GLib.Variant("as", [f"{port + 2}:{port + 1}"]))
        self.assertEqual(self.vm("x5")["Forwards"], [f"127.0.0.1:{port + 2}:{port + 1}", own, other])
        self.stack.settings(text)
        self.client.call("ReloadConfig", "(a{sv})", ({},))
        for name in ("one", "two", "x3", "x5"):
            self.do("DeleteVM", name, force=True)
        self.settled()


if __name__ == "__main__":
    main_beside()
