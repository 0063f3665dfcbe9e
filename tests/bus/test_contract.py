#!/usr/bin/python3
"""The manager's contract: its interfaces, errors, jobs and paths of any bytes.

Run by meson test: alone.py.
"""

import os
import pathlib
import re
import tempfile
import unittest

import harness
from gi.repository import Gio, GLib
from harness import SOURCE
from alone import ROOT, OWNER, FOREIGN, NAME, PATH, MANAGER, OP_ID, ERROR, STANDARD, until, Ear, BusTest


class Contract(BusTest):
    def test_introspection_is_the_contract(self):
        self.prepare()
        job = self.create(wait=True)
        objects = self.daemon.managed()
        paths = {"Manager": PATH, "Job": job}
        for path, interfaces in objects.items():
            for kind in ("VM", "Image", "Kernel"):
                if f"org.banger.{kind}" in interfaces:
                    paths[kind] = path
        self.assertEqual(len(paths), 5)
        for kind, path in paths.items():
            with self.subTest(kind):
                live = self.call("Introspect", path=path, interface=harness.INTROSPECTABLE)[0]
                wanted = (SOURCE / "introspection" / f"org.banger.{kind}.xml").read_text(encoding="utf-8")
                self.assertEqual(harness.shape(live), harness.shape(wanted))

    def test_documented_options_are_the_options(self):
        text = (SOURCE / "docs" / "dbus.md").read_text(encoding="utf-8")
        table = re.findall(r"^\| (?:`(\w+)`)? *\| (?:`(\w+)\.(\w+)`)? *\| (.+) \|$", text, re.M)
        documented = {}
        for verb, kind, member, options in table:
            keys = sorted(re.findall(r"`([\w-]+)` \w+", options))
            documented |= {("Manager", verb): keys} if verb else {}
            documented |= {(kind, member): keys} if member else {}
        self.prepare()
        job = self.create(wait=True)
        paths = {kind: self.call(f"Get{kind}", "(s)", (name,))[0]
                 for kind, name in (("VM", "web"), ("Image", "default"), ("Kernel", "default"))}
        paths |= {"Manager": PATH, "Job": job}
        bad = harness.options(no_such_option=1)
        live = {}
        for kind, path in paths.items():
            xml = (SOURCE / "introspection" / f"org.banger.{kind}.xml").read_text(encoding="utf-8")
            for row in harness.shape(xml):
                types = [t for _, t, direction in row[5] if direction == "in"]
                if row[1] != "method" or types[-1:] != ["a{sv}"]:
                    continue
                name = "default" if "Image" in row[2] or "Kernel" in row[2] else "web"
                strings = iter((name, "/x"))
                given = tuple(["true"] if t == "as" else next(strings) for t in types[:-1])
                message = self.refused(STANDARD + "InvalidArgs", row[2], f"({''.join(types)})", given + (bad,), path=path,
                                       interface=row[0])
                known = message.split("known: ")[1].split(" (")[0]
                live[kind, row[2]] = sorted(set(known.split(", ")) - {"none"})
        for verb in ("Restore", "Delete"):  # by the same functions; there is no snapshot here
            live["Snapshot", verb] = live["Manager", verb + "Snapshot"]
        self.assertEqual(live, documented)

    def test_properties_of_the_manager(self):
        rows = self.call("GetAll", "(s)", (MANAGER,), interface="org.freedesktop.DBus.Properties")[0]
        self.assertEqual(sorted(rows), ["Config", "Features", "HelperAvailable", "Version"])
        self.assertTrue(rows["HelperAvailable"])

    def test_log_control(self):
        control = {"path": "/org/freedesktop/LogControl1", "interface": "org.freedesktop.DBus.Properties"}
        interface = "org.freedesktop.LogControl1"
        self.assertEqual(self.call("Get", "(ss)", (interface, "LogLevel"), **control)[0], "debug")
        self.call("Set", "(ssv)", (interface, "LogLevel", GLib.Variant("s", "info")), **control)
        self.assertEqual(self.call("Get", "(ss)", (interface, "LogLevel"), **control)[0], "info")
        self.refused(STANDARD + "UnknownProperty", "Get", "(ss)", (interface, "Nope"), **control)
        for property, value, error in (("LogLevel", GLib.Variant("s", "loud"), "InvalidArgs"),
                                       ("LogLevel", GLib.Variant("u", 7), "InvalidArgs"),
                                       ("LogTarget", GLib.Variant("s", "kmsg"), "PropertyReadOnly"),
                                       ("SyslogIdentifier", GLib.Variant("s", "x"), "PropertyReadOnly")):
            self.refused(STANDARD + error, "Set", "(ssv)", (interface, property, value), **control)
        self.assertEqual(self.call("Get", "(ss)", (interface, "LogLevel"), **control)[0], "info")


class Errors(BusTest):
    def test_what_sd_bus_would_refuse_by_itself(self):
        properties = {"interface": "org.freedesktop.DBus.Properties"}
        self.refused(STANDARD + "UnknownMethod", "Nope")
        self.refused(STANDARD + "UnknownMethod", "Nope", interface="org.freedesktop.DBus.Peer")
        self.refused(STANDARD + "UnknownInterface", "Ping", interface="org.example.Nope")
        self.refused(STANDARD + "UnknownInterface", "Start", interface="org.banger.VM")
        self.refused(STANDARD + "UnknownObject", "Start", "(a{sv})", ({},), path=PATH + "/vm/0123456789ab",
                     interface="org.banger.VM")
        self.refused(STANDARD + "UnknownObject", "Ping", path="/nope", interface="org.freedesktop.DBus.Peer")
        self.refused(STANDARD + "UnknownObject", "Introspect", path=PATH + "/job/0", interface=harness.INTROSPECTABLE)
        self.refused(STANDARD + "InvalidArgs", "StopVM", "(s)", ("web",))
        self.refused(STANDARD + "InvalidArgs", "Get", "(s)", (MANAGER,), **properties)
        self.refused(STANDARD + "UnknownProperty", "Get", "(ss)", (MANAGER, "Nope"), **properties)
        self.refused(STANDARD + "UnknownInterface", "Get", "(ss)", ("org.banger.VM", "Id"), **properties)
        self.refused(STANDARD + "UnknownInterface", "GetAll", "(s)", ("org.banger.Job",), **properties)
        self.refused(STANDARD + "PropertyReadOnly", "Set", "(ssv)", (MANAGER, "Version", GLib.Variant("s", "9")),
                     **properties)
        self.refused(STANDARD + "UnknownInterface", "GetManagedObjects", path=PATH + "/vm",
                     interface="org.freedesktop.DBus.ObjectManager")

    def test_options(self):
        message = self.refused(STANDARD + "InvalidArgs", "CreateVM", "(sa{sv})", ("web", harness.options(vcpus=2)))
        self.assertIn("'vcpus'", message)
        self.assertIn("memory-mib", message)
        for key, value in (("vcpu", "2"), ("nat", 1), ("image", True), ("vcpu", -1), ("vcpu", 1 << 32)):
            variant = GLib.Variant("x", value) if isinstance(value, int) and not isinstance(value, bool) else value
            with self.subTest(key=key, value=value):
                message = self.refused(STANDARD + "InvalidArgs", "CreateVM", "(sa{sv})",
                                       ("web", harness.options(**{key: variant})))
                self.assertIn(f"'{key}'", message)
        self.refused(STANDARD + "InvalidArgs", "Diagnose", "(a{sv})", (harness.options(wait=True),))
        self.assertEqual(self.daemon.managed(), {})

    def test_names_and_values(self):
        missing = {"PauseVM": "NoSuchVM", "ResumeVM": "NoSuchVM", "StartVM": "NoSuchVM", "StopVM": "NoSuchVM", "KillVM": "NoSuchVM", "SetVM": "NoSuchVM", "ListPortsVM": "NoSuchVM", "GetStatsVM": "NoSuchVM", "RestartVM": "NoSuchVM",
                   "DeleteVM": "NoSuchVM", "DeleteImage": "NoSuchImage", "DeleteKernel": "NoSuchKernel"}
        for method, error in missing.items():
            self.assertIn("nope", self.refused(ERROR + error, method, "(sa{sv})", ("nope", {})))
        for method, error in {"GetVM": "NoSuchVM", "GetImage": "NoSuchImage", "GetKernel": "NoSuchKernel"}.items():
            self.refused(ERROR + error, method, "(s)", ("nope",))
        for method, types, more in (("SnapshotVM", "(ssa{sv})", ({},)), ("ForkVM", "(ssa{sv})", ({},)), ("RestoreSnapshot", "(ssa{sv})", ({},)), ("DeleteSnapshot", "(ssa{sv})", ({},)),
                                    ("GetSnapshot", "(ss)", ())):
            self.refused(ERROR + "NoSuchVM", method, types, ("nope", "one", *more))
        self.refused(ERROR + "NoSuchImage", "CreateVM", "(sa{sv})", ("web", {}))
        for name in ("", "-a", "a-", "A", "a b", "a/b", "x" * 64):
            self.refused(ERROR + "InvalidName", "BuildImage", "(sa{sv})", (name, {}))
            self.refused(ERROR + "InvalidName", "ImportKernel", "(ssa{sv})", (name, "", {}))
        self.refused(ERROR + "InvalidPath", "ImportImage", "(ssa{sv})", ("i", "rootfs.tar", {}))
        self.refused(ERROR + "InvalidPath", "ImportImage", "(ssa{sv})", ("i", "", {}))
        self.refused(ERROR + "InvalidPath", "ImportKernel", "(ssa{sv})", ("k", "vmlinux", {}))
        self.refused(ERROR + "InvalidPath", "ImportKernel", "(ssa{sv})", ("k", "/vmlinux", harness.options(modules="m")))
        self.assertEqual(self.daemon.managed(), {})
        self.prepare()
        self.create(wait=True)
        self.refused(ERROR + "VMExists", "CreateVM", "(sa{sv})", ("web", {}))
        self.refused(ERROR + "ImageExists", "BuildImage", "(sa{sv})", ("default", {}))
        self.refused(ERROR + "KernelExists", "ImportKernel", "(ssa{sv})", ("default", "", {}))
        self.refused(ERROR + "WrongState", "StopVM", "(sa{sv})", ("web", {}))
        self.assertIn("web", self.refused(ERROR + "InUse", "DeleteImage", "(sa{sv})", ("default", {})))
        self.assertIn("web", self.refused(ERROR + "InUse", "DeleteKernel", "(sa{sv})", ("default", {})))

    def export(self, fd, **given):
        """ExportImage with a descriptor, waited for."""
        fds = Gio.UnixFDList.new()
        fds.append(fd)
        connection = Gio.DBusConnection.new_for_address_sync(
            self.daemon.address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
        connection.set_exit_on_close(False)
        try:
            connection.call_with_unix_fd_list_sync(
                NAME, PATH, MANAGER, "ExportImage",
                GLib.Variant("(sa{sv})", (given.pop("name", "default"), harness.options(fd=GLib.Variant("h", 0), wait=True, **given))), None,
                Gio.DBusCallFlags.NONE, 300000, fds, None)
            return None
        except GLib.Error as error:
            return Gio.DBusError.get_remote_error(error)
        finally:
            connection.close_sync(None)

    def test_export(self):
        self.prepare()
        file, = self.daemon.state.glob("images/*/rootfs.ext4")
        file.write_bytes(b"image")
        bad = STANDARD + "InvalidArgs"
        with tempfile.TemporaryFile() as target:
            self.assertEqual(self.export(target.fileno(), format="ext4"), None)
            target.seek(0)
            self.assertEqual(target.read(), file.read_bytes())
            self.assertEqual(self.export(target.fileno()), bad)
        with tempfile.TemporaryFile() as target, open("/dev/null", "wb") as null, open("/dev/zero", "rb") as zero:
            for fd, given, error in ((target, {"format": "zip"}, bad), (null, {}, bad), (zero, {}, bad), (target, {"name": "none"}, ERROR + "NoSuchImage"),
                                     (target, {"format": "tar"}, ERROR + "Failed"), (target, {"format": "oci"}, ERROR + "Failed")):  # there is no program to read it here
                with self.subTest(given=given, error=error):
                    self.assertEqual(self.export(fd.fileno(), **given), error)
        self.refused(bad, "ExportImage", "(sa{sv})", ("default", {}))
        target = tempfile.TemporaryFile()
        file.unlink()
        self.assertEqual(self.export(target.fileno(), format="ext4"), ERROR + "StateCorrupt")
        target.close()

    def test_another_name_of_an_image(self):
        self.prepare()
        path = self.call("GetImage", "(s)", ("default",))[0]
        self.call("TagImage", "(ssa{sv})", ("default", "stable", {}))
        self.call("Tag", "(sa{sv})", ("other", {}), path=path, interface="org.banger.Image")
        self.daemon.restart()
        self.assertEqual(self.daemon.managed()[path]["org.banger.Image"]["Tags"], ["stable", "other"])
        self.assertEqual(self.call("GetImage", "(s)", ("other",))[0], path)
        self.create("web", image="stable", wait=True)
        self.call("DeleteVM", "(sa{sv})", ("web", harness.options(wait=True)))
        self.refused(ERROR + "ImageExists", "BuildImage", "(sa{sv})", ("stable", {}))
        self.refused(ERROR + "ImageExists", "TagImage", "(ssa{sv})", ("default", "stable", {}))
        self.refused(ERROR + "NoSuchImage", "TagImage", "(ssa{sv})", ("none", "x", {}))
        self.refused(STANDARD + "InvalidArgs", "TagImage", "(ssa{sv})", ("default", "x", harness.options(move=True)))
        self.assertIn("stable, other", self.refused(ERROR + "InUse", "Delete", "(a{sv})", ({},), path=path, interface="org.banger.Image"))
        for name in ("stable", "other", "default"):
            self.call("DeleteImage", "(sa{sv})", (name, {}))
            self.assertEqual(path in self.daemon.managed(), name != "default")

    def test_the_image_that_vms_are_made_from(self):
        def names():
            return {v["org.banger.Image"]["Name"]: v["org.banger.Image"]["Tags"] for v in self.daemon.managed().values() if "org.banger.Image" in v}

        def promote(name):
            return self.call("PromoteImage", "(sa{sv})", (name, {}))[0]
        self.prepare()
        self.create("web", wait=True)
        for name in ("one", "two", "three"):
            self.call("BuildImage", "(sa{sv})", (name, harness.options(wait=True)))
        self.assertEqual((promote("default"), names()["default"]), ("", []))
        self.assertEqual(promote("one"), "default-old")
        self.assertEqual(names(), {"default-old": [], "one": ["default"], "two": [], "three": []})
        self.assertEqual((promote("two"), promote("two")), ("", ""))
        self.daemon.restart()
        self.assertEqual(names(), {"default-old": [], "one": [], "two": ["default"], "three": []})
        self.assertIn("web", self.refused(ERROR + "InUse", "DeleteImage", "(sa{sv})", ("default-old", {})))
        self.call("DeleteImage", "(sa{sv})", ("default", {}))
        self.call("BuildImage", "(sa{sv})", ("default", harness.options(wait=True)))
        self.assertEqual(promote("three"), "default-old-2")
        self.refused(ERROR + "NoSuchImage", "PromoteImage", "(sa{sv})", ("none", {}))
        self.refused(STANDARD + "InvalidArgs", "PromoteImage", "(sa{sv})", ("one", harness.options(x=True)))
        for given in ({"size-bytes": GLib.Variant("t", 1 << 30)}, {}):
            self.refused(STANDARD + "InvalidArgs", "ImportImage", "(ssa{sv})",
                         ("own", "/tmp/x" if given else "catalog:x", {"link": GLib.Variant("b", True), **given}))

    @unittest.skipUnless(ROOT, "needs root to be somebody else")
    def test_foreign_uid_is_refused_everywhere(self):
        self.prepare()
        job = self.create(wait=True)
        vm = self.call("GetVM", "(s)", ("web",))[0]
        values = {"s": "web", "as": ["true"], "a{sv}": {}}
        for kind, path in {"Manager": PATH, "VM": vm, "Job": job}.items():
            xml = (SOURCE / "introspection" / f"org.banger.{kind}.xml").read_text(encoding="utf-8")
            for row in harness.shape(xml):
                if row[1] != "method":
                    continue
                types = [t for _, t, direction in row[5] if direction == "in"]
                self.refused(STANDARD + "AccessDenied", row[2], f"({''.join(types)})",
                             tuple(values[t] for t in types), path=path, interface=row[0], user=FOREIGN)
        for interface, method in ((harness.INTROSPECTABLE, "Introspect"), ("org.freedesktop.DBus.Peer", "Ping"),
                                  ("org.freedesktop.DBus.ObjectManager", "GetManagedObjects")):
            self.refused(STANDARD + "AccessDenied", method, interface=interface, user=FOREIGN)
        self.refused(STANDARD + "AccessDenied", "GetAll", "(s)", (MANAGER,), user=FOREIGN,
                     interface="org.freedesktop.DBus.Properties")
        self.assertEqual(self.daemon.names("VM"), ["web"])
        self.call("GetVM", "(s)", ("web",), user=OWNER)

    def test_one_record_per_call_with_its_op_id(self):
        message = self.refused(ERROR + "NoSuchVM", "StartVM", "(sa{sv})", ("nope", {}))
        op_id = OP_ID.search(message).group().strip(" ()")
        rows = [r for r in self.daemon.records() if r.get("BANGER_OP_ID") == op_id]
        self.assertEqual(len(rows), 1)
        self.assertEqual(rows[0]["BANGER_METHOD"], "StartVM")
        self.assertEqual(rows[0]["BANGER_ERROR"], ERROR + "NoSuchVM")
        self.assertIn("BANGER_DURATION_USEC", rows[0])


class Jobs(BusTest):
    def test_the_story_of_a_start(self):
        self.prepare()
        ear = self.ear()
        job = self.create(start=True)
        vm = self.call("GetVM", "(s)", ("web",))[0]
        removed = ear.wait("JobRemoved", job)
        self.assertEqual(removed[2], (job, "done", "", ""))
        members = [row[0] for row in ear.heard]
        added = [row[2][0] for row in ear.heard if row[0] == "InterfacesAdded"]
        self.assertEqual(added, [vm, job])
        self.assertLess(members.index("JobNew"), members.index("JobRemoved"))
        states = [row[2][1]["State"] for row in ear.heard
                  if row[0] == "PropertiesChanged" and row[1] == vm and "State" in row[2][1]]
        self.assertEqual(states, ["stopped", "starting", "running"])
        row = self.daemon.job(job)
        self.assertEqual((row["Kind"], row["State"], row["Object"], row["Progress"], row["Cancelable"]),
                         ("create-vm", "done", vm, 1.0, False))
        self.assertEqual(row["OpId"], "op-" + row["Id"])
        self.assertTrue(job.endswith("/job/" + row["Id"]))

    def test_verbs_by_name_and_by_object(self):
        self.prepare()
        self.create(wait=True, vcpu=GLib.Variant("y", 3))
        vm = self.call("GetVM", "(s)", ("web",))[0]
        wait = harness.options(wait=True)
        state = lambda: self.daemon.managed()[vm]["org.banger.VM"]["State"]  # noqa: E731
        self.assertEqual(self.daemon.managed()[vm]["org.banger.VM"]["VCPUs"], 3)
        self.call("Start", "(a{sv})", (wait,), path=vm, interface="org.banger.VM")
        self.assertEqual(state(), "running")
        self.refused(ERROR + "WrongState", "StartVM", "(sa{sv})", ("web", {}))
        self.refused(ERROR + "WrongState", "Start", "(a{sv})", ({},), path=vm, interface="org.banger.VM")
        self.call("StopVM", "(sa{sv})", (vm.rsplit("/", 1)[1], harness.options(wait=True, timeout_us=5)))
        self.assertEqual(state(), "stopped")
        console = self.call("OpenConsole", "(a{sv})", ({},), path=vm, interface="org.banger.VM")
        self.assertEqual(console.fds, 1)
        ear = self.ear()
        self.call("DeleteVM", "(sa{sv})", ("web", harness.options(force=True, wait=True)))
        self.assertIn("org.banger.VM", ear.wait("InterfacesRemoved", vm)[2][1])
        self.assertEqual(self.daemon.names("VM"), [])
        self.refused(STANDARD + "UnknownObject", "Start", "(a{sv})", ({},), path=vm, interface="org.banger.VM")

    def test_failed_job_tells_the_same_everywhere(self):
        ear = self.ear()
        message = self.refused(ERROR + "InvalidImage", "BuildImage", "(sa{sv})",
                               ("i", harness.options(suite="broken", wait=True)))
        job = f"{PATH}/job/{OP_ID.search(message).group().strip(' ()')[3:]}"
        self.assertEqual(ear.wait("JobRemoved", job)[2], (job, "failed", ERROR + "InvalidImage", message))
        row = self.daemon.job(job)
        self.assertEqual((row["State"], row["Error"], row["ErrorMessage"]), ("failed", ERROR + "InvalidImage", message))
        self.assertEqual(list((self.daemon.state / "images").iterdir()), [])
        self.assertEqual(self.daemon.names("Image"), [])

    def test_cancel(self):
        ear = self.ear()
        job = self.call("BuildImage", "(sa{sv})", ("i", harness.options(suite="slow")))[0]
        row = self.daemon.job(job)
        self.assertEqual((row["State"], row["Cancelable"]), ("running", True))
        image = row["Object"]
        self.assertEqual(self.daemon.managed()[image]["org.banger.Image"]["State"], "building")
        self.refused(ERROR + "WrongState", "DeleteImage", "(sa{sv})", ("i", {}))
        until("progress", lambda: self.daemon.job(job)["Progress"] == 0.5)
        self.assertEqual(self.daemon.job(job)["Stage"], "pretending to build")
        self.call("Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
        self.assertEqual(ear.wait("JobRemoved", job)[2][1:3], ("cancelled", ERROR + "Cancelled"))
        self.refused(ERROR + "WrongState", "Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
        self.assertEqual(list((self.daemon.state / "images").iterdir()), [])
        self.assertIn("org.banger.Image", ear.wait("InterfacesRemoved", image)[2][1])
        self.prepare()
        with self.daemon.helper("hangs LaunchVmm"):
            start = self.create(start=True)
            until("its launch", lambda: self.daemon.job(start)["Stage"] == "launching the VMM")
            self.call("Cancel", "(a{sv})", ({},), path=start, interface="org.banger.Job")
            self.assertEqual(ear.wait("JobRemoved", start)[2][1], "cancelled")

    def test_one_pull_for_two(self):
        """Each has a job, and can leave; the last one ends it. Another reference, or size, is another image."""
        def pull(reference="//slow/box:1", name="box", **more):
            return self.call("ImportImage", "(ssa{sv})", (name, "docker:" + reference, harness.options(**more)))[0]

        def cancel(job):
            self.call("Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
        ear = self.ear()
        jobs = [pull(), pull(), pull()]
        until("progress", lambda: {self.daemon.job(job)["Progress"] for job in jobs} == {0.5})
        rows = [self.daemon.job(job) for job in (*jobs, pull())]
        self.assertEqual(len({row["OpId"] for row in rows}), 4)
        self.assertEqual(len({(row["Object"], row["Stage"], row["Progress"]) for row in rows}), 1, rows)
        self.assertEqual(self.daemon.names("Image"), ["box"])
        for refused in ({"reference": "//slow/box:2"}, {"size_bytes": 1 << 30}):
            with self.assertRaisesRegex(harness.CallError, "already"):
                pull(**refused)
        cancel(jobs[0])
        self.assertEqual(ear.wait("JobRemoved", jobs[0])[2][1], "cancelled")
        cancel(jobs[2])
        cancel(f"{PATH}/job/{rows[3]['Id']}")
        self.assertEqual((self.daemon.job(jobs[1])["State"], self.daemon.names("Image")), ("running", ["box"]))
        cancel(jobs[1])
        self.assertEqual(ear.wait("JobRemoved", jobs[1])[2][1], "cancelled")
        self.assertEqual(self.daemon.names("Image"), [])
        pull("//box:1", wait=True)
        with self.assertRaisesRegex(harness.CallError, "already"):
            pull("//box:1")

    def test_an_image_of_a_containerfile(self):
        def build(**more):
            return self.call("BuildImage", "(sa{sv})", ("box", harness.options(wait=True, **more)))
        with self.assertRaisesRegex(harness.CallError, "need each other"):
            build(containerfile="/srv/Containerfile")
        with self.assertRaisesRegex(harness.CallError, "are of Debian"):
            build(containerfile="/srv/Containerfile", context="/srv", suite="bookworm")
        build(containerfile="/srv/Containerfile", context=GLib.Variant("ay", b"/srv/\xff"))
        self.assertEqual(self.daemon.managed()[self.call("GetImage", "(s)", ("box",))[0]]["org.banger.Image"]["Source"], "containerfile:/srv/Containerfile")

    def test_an_image_of_a_vm(self):
        """It stays stopped as long as its disks are read, or goes; whoever cannot have one is told."""
        self.prepare()

        def commit(vm, name="copy", **more):
            return self.call("CommitImage", "(ssa{sv})", (name, vm, harness.options(**more)))[0]

        def refused(error, vm="slow", name="copy"):
            return self.refused(error, "CommitImage", "(ssa{sv})", (name, vm, {}))
        self.create("slow", wait=True)
        self.assertIn("never started", refused(ERROR + "WrongState"))
        self.call("StartVM", "(sa{sv})", ("slow", harness.options(wait=True)))
        self.assertIn("running: stop it first", refused(ERROR + "WrongState"))
        self.call("StopVM", "(sa{sv})", ("slow", harness.options(wait=True)))
        refused(ERROR + "NoSuchVM", vm="none")
        refused(ERROR + "ImageExists", name="default")
        refused(ERROR + "InvalidName", name="Not a name")
        ear = self.ear()
        job = commit("slow")
        for verb in ("StartVM", "DeleteVM", "SetVM", "CommitImage"):
            arguments = ("(ssa{sv})", ("other", "slow", {})) if verb == "CommitImage" else ("(sa{sv})", ("slow", {}))
            self.assertIn("being made an image of: wait", self.refused(ERROR + "WrongState", verb, *arguments))
        self.call("Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
        self.assertEqual(ear.wait("JobRemoved", job)[2][1], "cancelled")
        self.assertEqual(self.daemon.names("Image"), ["default"])
        self.call("SetVM", "(sa{sv})", ("slow", harness.options(name="quick", wait=True)))
        commit("quick", wait=True)
        row = self.daemon.managed()[self.call("GetImage", "(s)", ("copy",))[0]]["org.banger.Image"]
        self.assertEqual((row["State"], row["Source"]), ("ready", "vm:quick"))
        self.call("SetVM", "(sa{sv})", ("quick", harness.options(name="slow", wait=True)))
        job = commit("slow", "late")
        self.call("DeleteVM", "(sa{sv})", ("slow", harness.options(force=True, wait=True)))
        self.assertEqual(self.daemon.job(job)["State"], "running")
        self.call("Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
        self.assertEqual(ear.wait("JobRemoved", job)[2][1], "cancelled")

    def test_limit(self):
        jobs = [self.call("BuildImage", "(sa{sv})", (f"i{i}", harness.options(suite="slow")))[0] for i in range(256)]
        message = self.refused(STANDARD + "LimitsExceeded", "BuildImage", "(sa{sv})", ("one-more", {}))
        self.assertIn("256", message)
        self.assertEqual(len(self.daemon.names("Image")), 256)
        until("their folders", lambda: len(list((self.daemon.state / "images").iterdir())) == 256)
        ear = self.ear()
        self.call("Cancel", "(a{sv})", ({},), path=jobs[0], interface="org.banger.Job")
        ear.wait("JobRemoved", jobs[0])
        self.call("BuildImage", "(sa{sv})", ("fits-again", harness.options(suite="slow")))

    def test_import_from_a_descriptor(self):
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        connection = Gio.DBusConnection.new_for_address_sync(self.daemon.address, flags, None, None)
        connection.set_exit_on_close(False)
        self.addCleanup(connection.close_sync, None)
        with open("/dev/null", "rb") as f:
            fds = Gio.UnixFDList.new_from_array([os.dup(f.fileno())])
            options = {"fd": GLib.Variant("h", 0), "wait": GLib.Variant("b", True)}
            connection.call_with_unix_fd_list_sync(NAME, PATH, MANAGER, "ImportImage",
                                                   GLib.Variant("(ssa{sv})", ("i", "", options)), None,
                                                   Gio.DBusCallFlags.NONE, -1, fds, None)
        image = self.call("GetImage", "(s)", ("i",))[0]
        self.assertEqual(self.daemon.managed()[image]["org.banger.Image"]["State"], "ready")


    def test_what_cannot_be_opened_leaves_no_trace(self):
        ear = Ear(self.daemon.address)
        self.addCleanup(ear.close)
        for path in ("/nowhere/root.tar", str(self.daemon.base), "/dev/null"):
            for method, name in (("ImportImage", "i"), ("ImportKernel", "k")) if not os.path.isdir(path) else (("ImportKernel", "k"),):
                text = self.refused(ERROR + "InvalidPath", method, "(ssa{sv})", (name, path, {}))
                self.assertIn(path, text)
        self.call("ImportImage", "(ssa{sv})", ("i", str(pathlib.Path(__file__).resolve()), {}))
        ear.wait("JobRemoved")
        for source, modules, error in (("apt:a b", None, STANDARD + "InvalidArgs"), ("apt:linux", "/", STANDARD + "InvalidArgs"),
                                       (__file__, "/nowhere", ERROR + "InvalidPath"), (__file__, "lib", ERROR + "InvalidPath")):
            values = harness.options(modules=modules) if modules else {}
            self.refused(error, "ImportKernel", "(ssa{sv})", ("k", source, values))
        for size in (1, 1 << 60):
            for method, words in (("ImportImage", ("i2", __file__)), ("BuildImage", ("i2",))):
                text = self.refused(ERROR + "InvalidSize", method, "(" + "s" * len(words) + "a{sv})", (*words, harness.options(size_bytes=size)))
                self.assertIn("an image has 8 MiB to 1 TiB", text)
        self.assertEqual([row[0] for row in ear.heard].count("JobNew"), 1)
        self.assertEqual(len(list((self.daemon.state / "images").iterdir())), 1)
        self.assertEqual(list((self.daemon.state / "kernels").iterdir()), [])

    def test_what_is_odd_is_said(self):
        odd, plain = (str(self.daemon.base / name) for name in ("odd", "plain"))
        for path in (odd, plain):
            pathlib.Path(path).touch()
        job = self.call("ImportImage", "(ssa{sv})", ("i", odd, harness.options(wait=True)))[0]
        self.assertEqual(self.daemon.job(job)["Warnings"], ["first", "second \ufffd"])
        job = self.call("ImportImage", "(ssa{sv})", ("j", plain, harness.options(wait=True)))[0]
        self.assertEqual(self.daemon.job(job)["Warnings"], [])


class Bytes(BusTest):
    def test_paths_of_any_bytes(self):
        """They are taken as they are and shown as text; a bus throws out who sends anything else."""
        raw = bytes(self.daemon.base) + b"/caf\xe9\xff"
        ay = GLib.Variant("ay", raw)
        pid = self.daemon.process.pid
        for method in ("ImportImage", "ImportKernel"):
            key = "path-bytes" if method == "ImportImage" else "source-bytes"
            self.assertIn("caf\\xe9\\xff: No such file", self.refused(ERROR + "InvalidPath", method, "(ssa{sv})", ("i", "", {key: ay})))
        with open(raw, "wb"):
            pass
        self.call("ImportImage", "(ssa{sv})", ("i", "", {"path-bytes": ay}))
        os.mkdir(raw + b".d")
        self.call("ImportKernel", "(ssa{sv})", ("k", "", {"source-bytes": ay, "modules": GLib.Variant("ay", raw + b".d")}))
        shown = {v[kind]["Source"] for v in self.daemon.managed().values() for kind in v if kind in (
            "org.banger.Image", "org.banger.Kernel")}
        self.assertEqual(shown, {f"{self.daemon.base}/caf\\xe9\\xff"})
        self.prepare()
        self.create("web", start=True, wait=True)
        text = self.refused(ERROR + "InvalidPath", "ImportWorkspace", "(ssa{sv})", ("web", "", {
            "path-bytes": ay, "wait": GLib.Variant("b", True)}))
        self.assertIn("caf\\xe9\\xff", text)
        for method, key in (("ImportImage", "path-bytes"), ("ImportKernel", "source-bytes"), ("ImportWorkspace", "path-bytes")):
            for path, value in (("/a", ay), ("", GLib.Variant("ay", b"/a\0b")), ("", GLib.Variant("au", [1])),
                                ("", GLib.Variant("t", 1))):
                self.refused(STANDARD + "InvalidArgs", method, "(ssa{sv})", ("web", path, {key: value}))
        self.refused(ERROR + "InvalidPath", "ImportImage", "(ssa{sv})", ("x", "", {"path-bytes": GLib.Variant("ay", b"")}))
        self.assertEqual(self.daemon.process.pid, pid)
        self.assertIsNone(self.daemon.process.poll())


if __name__ == "__main__":
    harness.main()
