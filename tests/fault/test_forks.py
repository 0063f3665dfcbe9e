"""Copies of a VM that runs, among parts that fail: all of them run or none is left, and the VM goes on.

Run by meson test as root. The guest is a stand-in: what is copied of it is its number of boots and the name of the last.
"""

import json
import os

from parts import DURABLE, JOB, CallError, FaultTest, harness, main, options


class Forks(FaultTest):
    """Made, refused, broken off."""

    limits = ("guest-seconds = 10", "vms = 6")

    @property
    def top(self):
        """The owner's folder."""
        return self.stack.state / str(self.stack.owner.pw_uid)

    def started(self, name="web"):
        """A VM that runs."""
        self.make([name])
        self.do("StartVM", name)
        return self.vm(name)

    def record(self, name):
        """What the disk says of a VM."""
        return json.loads((self.top / "vms" / self.vm(name)["Id"] / "record.json").read_text())

    def answer(self, pattern, method, *args, **more):
        """What @method says, which fails."""
        self.assertRegex(self.client.verb(method, *args, **more).result(), pattern)

    def warnings(self, *args, **more):
        """Of a fork that works."""
        path = self.client.call("ForkVM", "(ssa{sv})", (*args, options(**more)))[0]
        seen = []
        self.wait(lambda: not seen.append(self.client.objects()[path][JOB]) and seen[-1]["State"] != "running")
        self.assertEqual((seen[-1]["State"], seen[-1]["Kind"]), ("done", "fork-vm"), seen[-1])
        return seen[-1]["Warnings"]

    def is_as_before(self, vm, *names):
        """Its guest runs on, and beside it there are those VMs alone."""
        self.wait(lambda: not self.vm(vm["Name"]) or self.vm(vm["Name"])["State"] in ("running", "paused", "stopped"))
        self.settled()
        now = self.vm(vm["Name"])
        self.assertEqual((now["State"], now["Pid"], now["BootId"], sorted(self.client.vms())),
                         ("running", vm["Pid"], vm["BootId"], sorted((vm["Name"], *names))))

    def test_of_one_that_runs(self):
        """It runs on; its copies are VMs of their own, as they say and as their disks and records are."""
        web = self.started()
        self.make(["db"])
        self.do("SetVM", "web", link=["db"])
        self.assertEqual(self.warnings("web", "one"), [])
        self.do("ForkVM", "web", "many", count=2)
        copies = {name: self.vm(name) for name in ("one", "many-1", "many-2")}
        self.is_as_before(web, "db", *copies)
        for key in ("Id", "Address", "MacAddress", "BootId", "Pid", "HostKeyAlias"):
            self.assertEqual(len({vm[key] for vm in (web, *copies.values())}), 4, key)
        inodes = {(self.top / "vms" / vm["Id"] / "rootfs.ext4").stat().st_ino for vm in (web, *copies.values())}
        keys = {(self.top / "vms" / vm["Id"] / "ssh_host_ed25519_key").read_bytes() for vm in (web, *copies.values())}
        self.assertEqual((len(inodes), len(keys)), (4, 4))
        for name, vm in copies.items():
            self.assertFalse(vm["BootId"].startswith("boot-"))  # that is another machine's
            self.assertEqual((vm["State"], vm["Links"], vm["Forwards"], self.record(name).get("forked", "")),
                             ("running", [self.vm("db")["Id"]], [], ""))
            self.assertEqual(self.invariants.counter(vm["Id"], DURABLE), 1)
        self.do("RestartVM", "one")
        self.assertEqual(self.vm("one")["BootId"], f"boot-2-{self.vm('one')['Id']}")
        self.again()
        self.do("DeleteVM", "many-1", force=True)
        self.assertEqual(self.warnings("many-2", "again"), [])
        self.do("DeleteVM", "web", force=True)
        self.settled()
        self.assertEqual(sorted((vm["Name"], vm["State"]) for vm in self.client.vms().values()),
                         [("again", "running"), ("db", "stopped"), ("many-2", "running"), ("one", "running")])

    def test_of_one_that_is_paused(self):
        """It stays so; its copies run. What leads to it from this host is said not to lead to them."""
        web = self.started()
        port = 34000 + os.getpid() % 1000
        self.client.call("AddForward", "(sa{sv})", (f"{port}:80", {}), "org.banger.VM", f"/org/banger/Manager/vm/{web['Id']}")
        self.do("PauseVM", "web")
        (warned,) = self.warnings("web", "one")
        self.assertIn(f"leads to no copy: 127.0.0.1:{port}:80", warned)
        self.assertEqual((self.vm("web")["State"], self.vm("one")["State"], self.vm("one")["Forwards"]), ("paused", "running", []))
        self.again()
        self.settled()
        self.assertEqual(self.vm("web")["State"], "paused")
        self.do("ResumeVM", "web")
        self.is_as_before(web, "one")

    def test_refused(self):
        """Before anything is made, and with the reason."""
        self.make(["web"])
        self.answer("nothing of it runs", "ForkVM", "web", "one")
        self.do("StartVM", "web")
        web = self.vm("web")
        self.make(["m-2"])
        for pattern, name, more in (("exist|is called", "web", {}), ("exist|is called", "m", {"count": 2}), ("name", "A", {}), ("name", "", {}),
                                    ("name", "../x", {}), ("name", "x" * 62, {"count": 2}), ("0 copies", "n", {"count": 0}),
                                    ("33 copies", "n", {"count": 33}), ("limit is 6", "n", {"count": 5})):
            with self.subTest(name=name, **more):
                self.answer(pattern, "ForkVM", "web", name, **more)
                self.is_as_before(web, "m-2")
        for bad in ({"count": "2"}, {"counts": harness.GLib.Variant("u", 2)}):
            with self.assertRaisesRegex(CallError, "count"):
                self.client.call("ForkVM", "(ssa{sv})", ("web", "n", options(**bad)))
        self.do("SuspendVM", "web")
        self.answer("suspended", "ForkVM", "web", "one")
        self.do("CreateVM", "brief", memory_mib=128, ephemeral=True, start=True)
        self.answer("is deleted when it ends", "ForkVM", "brief", "one")
        self.do("DeleteVM", "brief", force=True)
        self.settled()

    def test_killed_at_each_stage(self):
        """No copy that is half of one: those that run stay; the VM goes on."""
        for stage in ("fork-folder", "fork-create", "fork-save", "snapshot-save", "snapshot-go-on", "snapshot-running", "snapshot-keep",
                      "fork-start", "template", "template-fill", "launch", "configure", "identity", "running"):
            with self.subTest(stage):
                web = self.started()
                self.again(BANGER_FAULT=stage)
                self.assertNotEqual(self.client.verb("ForkVM", "web", "one", count=2).result(), "")
                self.wait(lambda: not self.stack.pid("manager"))
                self.again()
                self.wait(lambda: all(vm["State"] == "running" for vm in self.client.vms().values()))
                self.is_as_before(web, *(sorted(set(self.client.vms()) - {"web"}) if stage in ("running", "fork-start") else ()))
                self.assertEqual({self.record(name).get("forked", "") for name in self.client.vms()}, {""})
                self.assertEqual(len(self.client.vms()) == 3, stage == "fork-start" or len(self.client.vms()) == 3 and stage == "running")
                self.empty()

    def test_what_fails_is_taken_back(self):
        """No copy, whichever of them fails, and a VM that runs on unless its VMM has ended."""
        web = self.started()
        for fault in ("* save fail", "* load fail", "* load die", "* identity fail", "* identity die", "bangerd io.create full templates/",
                      "bangerd io.rename fail vms/", "* ssh-keygen fail", "* polkit.LaunchVmm no", "* polkit.PrepareVm fail"):
            with self.subTest(fault):
                self.stack.faults(fault)
                self.assertNotEqual(self.client.verb("ForkVM", "web", "one", count=2).result(), "")
                self.is_as_before(web)
        self.stack.faults("* save slow:1000")
        call = self.client.verb("ForkVM", "web", "one", count=3)
        self.wait(lambda: self.vm("web")["State"] == "paused")
        self.stack.faults(f"{self.vm('one-2')['Id']} identity fail")
        self.assertRegex(call.result(), "one-2: ")
        self.is_as_before(web)
        self.stack.faults("* save die")
        self.assertNotEqual(self.client.verb("ForkVM", "web", "one").result(), "")
        self.settled()
        self.assertEqual([(vm["Name"], vm["State"]) for vm in self.client.vms().values()], [("web", "stopped")])

    def test_broken_off(self):
        """By whoever: the job, the VM or a copy that goes. Until they run copies are nobody's to start."""
        web = self.started()
        for fault in ("* save slow:1500", "* identity silent"):
            with self.subTest(fault):
                self.stack.faults(fault)
                path = self.client.call("ForkVM", "(ssa{sv})", ("web", "one", options(count=harness.GLib.Variant("u", 2))))[0]
                self.wait(lambda: self.vm("web")["State"] == "paused" if "save" in fault else (self.vm("one-2") or {}).get("State") == "starting")
                if "save" in fault:
                    self.answer("is being made as a copy", "StartVM", "one-1")
                    self.answer("is being forked|is paused", "ForkVM", "web", "two")
                self.client.call("Cancel", "(a{sv})", ({},), JOB, path)
                self.wait(lambda: self.client.objects()[path][JOB]["State"] == "cancelled")
                self.is_as_before(web)
        for verb in ("DeleteVM", "KillVM"):
            with self.subTest(verb):
                self.stack.faults("* save slow:1500" if verb == "DeleteVM" else "* identity slow:1500")
                call = self.client.verb("ForkVM", "web", "one", count=2)
                self.wait(lambda: self.vm("web")["State"] == "paused" if verb == "DeleteVM" else (self.vm("one-2") or {}).get("State") == "starting")
                self.do(verb, "one-2", **({"force": True} if verb == "DeleteVM" else {}))
                self.assertNotEqual(call.result(), "")
                self.is_as_before(web)
        for how in (lambda path: path.symlink_to("/etc/passwd"), lambda path: os.link(path.with_suffix(".away"), path), lambda path: path.write_bytes(b"9 boot-9")):
            self.stack.faults("* polkit.LaunchVmm slow:1500")
            call = self.client.verb("ForkVM", "web", "one")
            self.wait(lambda: (self.vm("one") or {}).get("State") == "starting")
            for path in self.top.glob("templates/*/memory"):
                path.rename(path.with_suffix(".away"))
                how(path)
            self.assertNotEqual(call.result(), "")
            self.is_as_before(web)
        self.stack.faults("* save slow:1500")
        call = self.client.verb("ForkVM", "web", "one")
        self.wait(lambda: self.vm("web")["State"] == "paused")
        self.do("DeleteVM", "web", force=True)
        self.assertNotEqual(call.result(), "")
        self.settled()
        self.assertEqual(self.client.vms(), {})


if __name__ == "__main__":
    main()
