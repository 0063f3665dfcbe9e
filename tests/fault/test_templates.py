"""Templates among parts that fail: made whole or not at all, whatever ends when; removed with what they were made from.

Run by meson test as root. The guest is a stand-in: what is saved of it is its number of boots.
"""

import json
import os
import time

from parts import IMAGE_ID, JOB, FaultTest, harness, main_beside, options

STAGES = ("create", "start", "settle", "save", "keep", "record", "delete")


class TemplateTest(FaultTest):
    """What is made by `image warm`."""

    @property
    def folder(self):
        """Of all templates."""
        return self.stack.state / str(self.stack.owner.pw_uid) / "templates"

    def empty(self):
        super().empty()
        for path in self.folder.glob("*/record.json"):
            path.unlink()
        self.again()

    def templates(self, image=IMAGE_ID):
        """Ids, as the image shows them."""
        for path, interfaces in self.client.objects().items():
            if path.endswith("/image/" + image):
                return [row[0] for row in interfaces["org.banger.Image"]["Templates"]]
        return []

    def kept(self):
        """Ids of those with a record, on the disk."""
        return sorted(path.parent.name for path in self.folder.glob("*/record.json"))

    def warm(self, **more):
        """The answer of WarmImage, "" if it worked."""
        return self.client.verb("WarmImage", "default", memory_mib=more.pop("memory_mib", 128), **more).result()

    def jobs(self):
        """Paths of those that make a template now."""
        return [path for path, o in self.client.objects().items()
                if o.get("org.banger.Job", {}).get("Kind") == "warm-image" and o["org.banger.Job"]["State"] == "running"]

    @staticmethod
    def _names(folder):
        return sorted(path.name for path in folder.iterdir())

    def start(self, name, memory_mib=128):
        """Properties of a new VM that runs; whether its guest was restored; what its job warned of."""
        seen = []
        path = self.client.call("CreateVM", "(sa{sv})", (name, options(memory_mib=memory_mib, start=True)))[0]
        self.wait(lambda: not seen.append(self.client.objects()[path][JOB]) and seen[-1]["State"] != "running")
        self.assertEqual(seen[-1]["State"], "done", seen[-1])
        vm = self.vm(name)
        return vm, not vm["BootId"].startswith("boot-"), seen[-1]["Warnings"]

    def configure(self, line, warm='warm = "off"'):
        """The table of templates in the owner's config.toml."""
        self.stack.settings(f"[network]\ndns-port = {self.stack.dns_port}\n[templates]\n{line}\n{warm}\n")
        self.assertEqual(self.client.call("ReloadConfig", "(a{sv})", ({},)), ([],))


class Used(TemplateTest):
    """VMs that are started from one."""

    def test_started_from_it(self):
        """What fits is restored, what does not is booted; each has a disk of its own, and starts anew as any VM does."""
        self.assertEqual(self.warm(), "")
        (web, restored, warned), (db, restored_too, _) = self.start("web"), self.start("db")
        self.assertEqual((restored, restored_too, warned), (True, True, []))
        self.assertFalse(self.start("large", 256)[1])
        self.assertNotEqual(web["BootId"], db["BootId"])
        vms = self.folder.parent / "vms"
        inodes = {(vms / vm["Id"] / "rootfs.ext4").stat().st_ino for vm in (web, db)}
        self.assertEqual(len(inodes | {(self.folder / self.templates()[0] / "rootfs.ext4").stat().st_ino}), 3)
        self.settled()
        self.good(self.all_do("RestartVM", ["web", "db"]))
        for vm in (self.vm("web"), self.vm("db")):
            self.assertEqual(vm["BootId"], f"boot-2-{vm['Id']}")
        self.good(self.all_do("SuspendVM", ["web"]) | self.all_do("StartVM", []))
        self.do("StartVM", "web")
        self.settled()

    def test_half_a_disk_is_none(self):
        """One that was not filled when bangerd was killed goes, also where nothing can be released then."""
        self.assertEqual(self.warm(), "")
        self.again(BANGER_FAULT="template-disk")
        self.assertNotEqual(self.client.verb("CreateVM", "web", memory_mib=128, start=True).result(), "")
        self.wait(lambda: not self.stack.pid("manager"))
        (disk,) = (self.folder.parent / "vms").glob("*/rootfs.ext4")
        self.stack.faults("* polkit.ReleaseVm no")
        self.again()
        self.wait(lambda: self.vm("web")["State"] == "stopped")
        self.assertFalse(disk.exists())
        self.settled()
        self.do("StartVM", "web")
        self.settled()

    def test_ssh_server_comes_later(self):
        """It is not waited for: commands run before it listens, and who is told when it does may be another bangerd."""
        self.assertEqual(self.warm(), "")
        for again in (False, True):
            with self.subTest(again=again):
                self.stack.faults("* ssh silent")
                vm, restored, warned = self.start("web")
                self.assertEqual((vm["State"], vm["SshServer"], restored, warned), ("running", "starting", True, []))
                if again:
                    self.again()
                else:
                    self.stack.faults()
                self.wait(lambda: self.vm("web")["SshServer"] == "found")
                self.assertEqual(self.vm("web")["BootId"], vm["BootId"])
                self.stack.faults()
                self.settled()
                self.do("DeleteVM", "web", force=True)

    def test_used_last(self):
        """It is recorded when one was used."""
        self.assertEqual(self.warm(), "")
        record = self.folder / self.templates()[0] / "record.json"
        before = json.loads(record.read_text())
        self.assertEqual(before["used-at"], before["created-at"])
        self.start("web")
        self.wait(lambda: json.loads(record.read_text())["used-at"] > before["used-at"])

    def damage(self, name):
        """Ways in which files of a template may be others."""
        def change(path):
            mode = path.stat().st_mode
            path.chmod(0o600)
            if name == "truncated":
                os.truncate(path, path.stat().st_size // 2)
            elif name == "written":
                data = path.read_bytes()
                path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
            elif name == "gone":
                path.unlink()
                return
            elif name == "swapped":
                path.rename(path.with_suffix(".old"))
                path.symlink_to(path.with_suffix(".old"))
                return
            path.chmod(mode)
        return change

    def test_what_is_damaged_is_not_used(self):
        """The VM is booted, its owner is told, and the template goes."""
        for how in ("truncated", "written", "gone", "swapped"):
            for name in ("state", "memory", "rootfs.ext4"):
                with self.subTest(f"{name} {how}"):
                    self.assertEqual(self.warm(), "")
                    self.damage(how)(self.folder / self.templates()[0] / name)
                    _, restored, warned = self.start("web")
                    self.assertFalse(restored)
                    self.assertIn("which is removed, and is booted", "".join(warned))
                    self.assertEqual(self.templates(), [])
                    self.settled()
                    self.do("DeleteVM", "web", force=True)

    def test_what_cannot_be_restored_is_booted(self):
        """Whatever fails on the way; a template that an engine does not take goes, others stay."""
        for fault, stays in (("* load fail", False), ("* load die", False), ("* identity fail", False), ("* identity die", False),
                             ("* identity slow:500", True)):
            with self.subTest(fault):
                self.assertEqual(self.warm(), "")
                self.stack.faults(fault)
                _, restored, warned = self.start("web")
                self.assertEqual((restored, len(self.templates())), (stays, stays))
                self.assertEqual("which is removed, and is booted" in "".join(warned), not stays)
                self.settled()
                self.do("DeleteVM", "web", force=True)

    def test_stays_where_the_host_refuses(self):
        """It is not what failed: polkit, the helper or a full disk is."""
        self.assertEqual(self.warm(), "")
        made = self.templates()
        for fault in ("* polkit.LaunchVmm no", "* polkit.LaunchVmm fail", "bangerd io.rename full record"):
            with self.subTest(fault):
                self.do("CreateVM", "web", memory_mib=128)
                self.stack.faults("* identity slow:1000" if "record" in fault else fault)
                call = self.client.verb("StartVM", "web")
                if "record" in fault:
                    self.wait(lambda: self.vm("web")["State"] == "starting")
                    self.stack.faults("* identity slow:1000", fault)
                self.assertNotEqual(call.result(), "")
                self.settled()
                self.assertEqual((self.templates(), self.kept()), (made, made))
                self.do("DeleteVM", "web", force=True)

    def test_killed_while_one_is_restored(self):
        """The manager, at each stage: no VM is half of a template, and the template is as it was."""
        self.assertEqual(self.warm(), "")
        files = {path.name: path.read_bytes() for path in (self.folder / self.templates()[0]).iterdir() if path.suffix != ".json"}
        for stage in ("template", "template-disk", "template-fill", "place", "initrd", "launch", "configure", "boot", "agent", "identity", "running"):
            with self.subTest(stage):
                self.again(BANGER_FAULT=stage)
                self.client.verb("CreateVM", "web", memory_mib=128, start=True).result()
                self.wait(lambda: not self.stack.pid("manager"))
                self.again()
                self.wait(lambda: not self.vm("web") or self.vm("web")["State"] in ("stopped", "running"))
                self.settled()
                self.assertEqual({path.name: path.read_bytes() for path in (self.folder / self.templates()[0]).iterdir()
                                  if path.suffix != ".json"}, files)
                if self.vm("web"):
                    self.do("DeleteVM", "web", force=True)


class Made(TemplateTest):
    """From its first stage to its end."""

    def test_made_once_and_shown(self):
        """Its VM is gone, its files are there and nobody's to write; a second time nothing is made."""
        self.assertEqual(self.warm(), "")
        made = self.templates()
        self.assertEqual(len(made), 1)
        self.settled()
        self.assertEqual(self.client.vms(), {})
        folder = self.folder / made[0]
        self.assertEqual(sorted(path.name for path in folder.iterdir()), ["memory", "record.json", "rootfs.ext4", "state"])
        self.assertEqual({path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.suffix != ".json"},
                         {"memory": 0o400, "rootfs.ext4": 0o400, "state": 0o400})
        record = json.loads((folder / "record.json").read_text())
        self.assertEqual((record["image-id"], record["memory-mib"], record["engine"]), (IMAGE_ID, 128, "qemu emulated"))
        self.assertEqual(self.warm(), "")
        self.assertEqual(self.templates(), made)
        self.assertEqual(self.warm(memory_mib=256), "")
        self.assertEqual(len(self.templates()), 2)
        self.again()
        self.assertEqual(len(self.templates()), 2)
        self.settled()

    def test_killed_at_each_stage(self):
        """What was not recorded is none, and goes; what was is whole. No VM of it stays."""
        for stage in STAGES:
            with self.subTest(stage):
                self.again(BANGER_FAULT="template-" + stage)
                self.assertNotEqual(self.warm(), "")
                self.wait(lambda: not self.stack.pid("manager"))
                whole = stage in ("record", "delete")
                self.assertEqual(len(self.kept()), whole)
                self.again()
                self.wait(lambda: not self.client.vms())
                self.settled()
                self.assertEqual(self.templates(), self.kept())
                self.assertEqual(len(self.kept()), whole)
                self.empty()

    def test_what_fails_is_taken_back(self):
        """At each step, and when the job is cancelled: no template, no VM."""
        for fault in ("* boot fail", "* save fail", "* save die", "bangerd io.rename fail templates/", "bangerd io.create full templates/",
                      "bangerd io.write fail templates/", "* agent.hello die"):
            with self.subTest(fault):
                self.stack.faults(fault)
                self.assertNotEqual(self.warm(), "")
                self.settled()
                self.assertEqual((self.client.vms(), self.templates(), self.kept()), ({}, [], []))
        self.stack.faults("* ready silent")
        call = self.client.verb("WarmImage", "default", memory_mib=128)
        self.wait(self.jobs)
        self.wait(lambda: any(vm["State"] == "starting" for vm in self.client.vms().values()))
        self.client.call("Cancel", "(a{sv})", ({},), "org.banger.Job", self.jobs()[0])
        self.assertIn("ancelled", call.result())
        self.settled()
        self.assertEqual((self.client.vms(), self.templates(), self.kept()), ({}, [], []))

    def test_one_is_made_at_a_time(self):
        """The same one; another one beside it is made."""
        self.stack.faults("* ready slow:500")
        calls = [self.client.verb("WarmImage", "default", memory_mib=mib) for mib in (128, 128, 256)]
        answers = sorted(call.result() for call in calls)
        self.assertEqual(answers[:2], ["", ""])
        self.assertIn("is being made", answers[2])
        self.settled()
        self.assertEqual(len(self.templates()), 2)

    def test_half_made_and_foreign(self):
        """At the start of the daemon: folders without a record, of another banger, of an image that is gone."""
        self.assertEqual(self.warm(), "")
        one = self.folder / self.kept()[0]
        record = json.loads((one / "record.json").read_text())
        for change in ({"banger-version": "0.0.1"}, {"processor": "i386"}, {"image-digest": "sha256:11"}, {"kernel-id": "00000000000c"},
                       {"id": "0" * 12}, {"size-bytes": "many"}, {"root": None}):
            with self.subTest(change):
                (one / "record.json").write_text(json.dumps(record | change))
                self.again()
                self.assertEqual(self.templates(), [])
                self.wait(lambda: not one.exists())
                self.assertEqual(self.warm(), "")
                one = self.folder / self.kept()[0]
                record = json.loads((one / "record.json").read_text())
        for inside in ("", "record.json", "record.json/more"):
            path = self.folder / "0123456789ab" / inside
            path.mkdir(parents=True)
            for each in (path, *path.parents):
                if self.folder in each.parents:
                    os.chown(each, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
            self.again()
            self.wait(lambda: not (self.folder / "0123456789ab").exists())
        self.assertEqual(self.templates(), [one.name])
        self.settled()

    def test_gone_with_its_image(self):
        """And only its own."""
        self.stack.make_sources()
        self.do("ImportImage", "small", str(self.stack.tar))
        self.assertEqual(self.warm(), "")
        self.do("WarmImage", "small", memory_mib=128)
        self.assertEqual(len(self.kept()), 2)
        mine = self.templates()
        self.do("DeleteImage", "small")
        self.settled()
        self.assertEqual([path.name for path in self.folder.iterdir()], mine)

    def test_budget(self):
        """Who was not used for longest goes first; at a reload of the configuration, too."""
        made = []
        for mib in (128, 256, 512):
            self.assertEqual(self.warm(memory_mib=mib), "")
            made.append((set(self.templates()) - set(made)).pop())
        for name in made:  # a stand-in's guest takes a few KiB
            path = self.folder / name / "record.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"size-bytes": 40 << 20}))
        self.again()
        self.configure('budget = "80M"')
        self.assertEqual(self.templates(), made[1:])
        self.configure('budget = "64M"')
        self.assertEqual(self.templates(), made[2:])
        self.assertEqual(self.warm(), "")
        self.assertEqual(len(self.templates()), 2)
        self.configure("")
        self.settled()


class Meanwhile(TemplateTest):
    """What happens to one while it is made."""

    def making(self, *faults):
        """A call of WarmImage that stands where @faults have it stand: it, and the name of its VM, which is saved."""
        self.stack.faults(*faults)
        call = self.client.verb("WarmImage", "default", memory_mib=128)
        self.wait(lambda: any(vm["State"] == "paused" for vm in self.client.vms().values()))
        (name,) = (vm["Name"] for vm in self.client.vms().values())
        return call, name

    def test_its_vm_is_nobody_elses(self):
        """Between save and deletion its guest stands still: whoever had it go on would write to what is saved."""
        for fault in ("* save silent", "bangerd io.rename silent templates/", "bangerd io.write silent templates/"):
            with self.subTest(fault):
                call, name = self.making(fault)
                for verb in ("ResumeVM", "StartVM", "StopVM", "RestartVM", "SuspendVM", "PauseVM"):
                    self.assertRegex(self.client.verb(verb, name).result(), "becomes a template", verb)
                self.stack.faults()
                self.assertEqual(call.result(), "")
                self.settled()
                self.assertEqual((self.client.vms(), len(self.templates())), ({}, 1))
                self.empty()

    def settling(self):
        """A call of WarmImage whose guest is said to be starting services still: it, and the name of its VM."""
        self.stack.faults("* command silent")
        call = self.client.verb("WarmImage", "default", memory_mib=128)
        self.wait(lambda: any(self.client.objects()[path][JOB]["Stage"] == "waiting until the guest is idle" for path in self.jobs()))
        (name,) = (vm["Name"] for vm in self.client.vms().values())
        return call, name

    def test_its_guest_is_nobody_elses(self):
        """What somebody ran in it would run on in each copy, with all that it was told."""
        call, name = self.settling()
        for method, signature, words in (("ExecVM", "(sasa{sv})", (["true"], {})), ("CaptureVM", "(sasa{sv})", (["true"], {})),
                                         ("ListPortsVM", "(sa{sv})", ({},)), ("AddForwardVM", "(ssa{sv})", ("34567:22", {}))):
            with self.subTest(method), self.assertRaisesRegex(harness.CallError, "becomes a template"):
                self.client.call(method, signature, (name, *words))
        self.stack.faults()
        self.assertEqual(call.result(), "")
        self.settled()

    def test_cancelled_while_its_guest_settles(self):
        """And while a disk hangs that is to keep it."""
        for hangs in (False, True):
            with self.subTest(hangs=hangs):
                call, _ = self.settling()
                if hangs:
                    self.stack.faults("bangerd io.fsync silent templates/")
                    self.wait(lambda: self.client.objects()[self.jobs()[0]][JOB]["Stage"].startswith("keeping") and list(self.folder.glob("*/memory")))
                self.client.call("Cancel", "(a{sv})", ({},), "org.banger.Job", self.jobs()[0])
                self.assertIn("ancelled", call.result())
                self.settled()
                self.assertEqual((self.client.vms(), self.templates(), self.kept()), ({}, [], []))

    def test_helper_killed_meanwhile(self):
        """No VM of a template's stays."""
        for fault in ("* ready silent", "* save silent", "bangerd io.rename silent templates/", "bangerd io.write silent templates/"):
            with self.subTest(fault):
                self.stack.faults(fault)
                call = self.client.verb("WarmImage", "default", memory_mib=128)
                state = "starting" if "ready" in fault else "paused"
                self.wait(lambda: any(vm["State"] == state for vm in self.client.vms().values()))
                self.stack.kill("helper")
                self.stack.faults()
                call.result()
                self.stack.start_helper()
                self.wait(lambda: not self.client.vms())
                self.settled()
                self.assertEqual(self.templates(), self.kept())
                self.empty()

    def test_image_gone_meanwhile(self):
        """Its VM was taken away by force, and then the image: no folder of it stays."""
        self.stack.make_sources()
        self.do("ImportImage", "small", str(self.stack.tar))
        self.stack.faults("bangerd io.write slow:2000 templates/")
        call = self.client.verb("WarmImage", "small", memory_mib=128)
        self.wait(lambda: self.folder.exists() and any(path.stat().st_size for path in self.folder.glob("*/memory")))
        (name,) = (vm["Name"] for vm in self.client.vms().values())
        self.do("DeleteVM", name, force=True)
        self.do("DeleteImage", "small")
        call.result()
        self.settled()
        self.assertEqual(self._names(self.folder), [])


class Unasked(TemplateTest):
    """One that nobody asked for."""

    def look_at_priority(self):
        """Of the VMM of the one VM that is a template's: the least there is, and so whatever it starts."""
        (vm,) = (vm for vm in self.client.vms().values() if vm["Name"].startswith("template-"))
        self.assertEqual((os.sched_getscheduler(vm["Pid"]), os.getpriority(os.PRIO_PROCESS, vm["Pid"])), (os.SCHED_IDLE, 19))
        self.assertNotEqual(os.sched_getscheduler(self.vm("web")["Pid"]), os.SCHED_IDLE)

    def test_made_by_itself(self):
        """After the first start that was cold, in a job of its own; the next one is restored."""
        self.configure("", warm="")  # as it is if nobody says anything
        self.assertFalse(self.start("web")[1])
        self.stack.faults("* save slow:1000")
        self.wait(lambda: any(vm["State"] == "paused" for vm in self.client.vms().values()))
        self.look_at_priority()
        self.wait(self.templates)
        self.settled()
        self.assertEqual(set(vm["Name"] for vm in self.client.vms().values()), {"web"})
        self.assertTrue(self.start("db")[1])
        self.configure("")
        self.assertFalse(self.start("large", 256)[1])
        time.sleep(7)
        self.assertEqual((self.jobs(), len(self.templates())), ([], 1))

    def test_starts_go_before(self):
        """One that nobody asked for is cancelled for a start, and made later."""
        self.configure("", warm='warm = "auto"')
        self.start("web")
        self.wait(self.jobs)
        path = self.jobs()[0]
        self.wait(lambda: any(vm["State"] == "starting" for vm in self.client.vms().values()))
        self.assertFalse(self.start("db")[1])
        self.wait(lambda: self.client.objects()[path][JOB]["State"] != "running")
        self.assertEqual((self.client.objects()[path][JOB]["State"], self.templates()), ("cancelled", []))
        self.wait(self.templates)
        self.settled()
        self.assertTrue(self.start("third")[1])

    def unasked(self):
        """What the log says of those that were not made."""
        return [line for line in self.stack.log_tail("manager", 100000).splitlines() if "is made by itself" in line]

    def test_none_by_itself_without_room(self):
        """In templates.budget; nor one that failed before, or that its owner cancelled."""
        for line, fault, why in (('budget = "64M"', (), "has no room"), ("", ("* save fail",), "made by itself")):
            with self.subTest(why):
                self.configure(line, warm="")
                before = self.unasked()
                self.stack.faults(*fault)
                for name in ("web", "db"):
                    self.assertFalse(self.start(name)[1])
                    self.wait(lambda why=why, before=before: why in "".join(self.unasked()[len(before):]))
                    self.settled()
                    self.assertEqual((self.templates(), self.kept()), ([], []))
                time.sleep(7)
                self.assertEqual((len(self.unasked()), self.jobs()), (len(before) + (2 if line else 1), []))
                self.good(self.all_do("DeleteVM", ["web", "db"], force=True))


main_beside()
