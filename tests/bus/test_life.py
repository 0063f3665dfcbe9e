#!/usr/bin/python3
"""bangerd's life: VMs that go with their client, restarts, ends and what it refuses to start with.

Run by meson test: alone.py.
"""

import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

import harness
from gi.repository import Gio, GLib
from alone import ROOT, OWNER, NAME, PATH, MANAGER, ERROR, STANDARD, until, BusTest


class Followed(BusTest):
    """VMs that go with their client."""

    def client(self):
        """A connection that can leave the bus, and what it makes."""
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        connection = Gio.DBusConnection.new_for_address_sync(self.daemon.address, flags, None, None)
        connection.set_exit_on_close(False)
        return connection

    def make(self, connection, name, **options):
        options = {"ephemeral": True, "follow": True} | options
        connection.call_sync(NAME, PATH, MANAGER, "CreateVM", GLib.Variant("(sa{sv})", (name, harness.options(**options))),
                             None, Gio.DBusCallFlags.NONE, 10000, None)

    def state(self, name):
        return {v["org.banger.VM"]["Name"]: v["org.banger.VM"]["State"] for v in self.daemon.managed().values()
                if "org.banger.VM" in v}.get(name)

    def test_client_leaves(self):
        """Running, under way, stopped; whoever does not want it, and whoever stays, keeps his."""
        self.prepare()
        gone, stays = self.client(), self.client()
        self.make(gone, "running", start=True, wait=True)
        self.make(gone, "stopped", wait=True)
        self.make(gone, "plain", follow=False, wait=True)
        self.make(stays, "kept", start=True, wait=True)
        with self.daemon.helper("hangs LaunchVmm"):
            self.make(gone, "slow", start=True)
            until("starting", lambda: self.state("slow") == "starting")
            gone.close_sync(None)
            until("all three to be gone", lambda: self.daemon.names("VM") == ["kept", "plain"])
        self.assertEqual(self.state("kept"), "running")
        stays.close_sync(None)
        until("the last one to be gone", lambda: self.daemon.names("VM") == ["plain"])

    def test_client_is_gone_before_it_is_watched(self):
        self.prepare()
        for i in range(20):
            client = self.client()
            body = GLib.Variant("(sa{sv})", (f"vm-{i}", harness.options(ephemeral=True, follow=True, start=True)))
            client.call(NAME, PATH, MANAGER, "CreateVM", body, None, Gio.DBusCallFlags.NONE, 10000, None, None)
            client.flush_sync(None)
            client.close_sync(None)
        until("none", lambda: self.daemon.names("VM") == [])

    def test_others_say_that_it_has_left(self):
        self.prepare()
        owner, liar = self.client(), self.client()
        self.addCleanup(owner.close_sync, None)
        self.make(owner, "web", start=True, wait=True)
        pid = self.daemon.process.pid
        for name in liar.call_sync("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ListNames", None, None, 0, 9000,
                                   None).unpack()[0]:
            if name[0] == ":":
                liar.emit_signal(name, "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged",
                                 GLib.Variant("(sss)", (owner.get_unique_name(), owner.get_unique_name(), "")))
        liar.flush_sync(None)
        time.sleep(0.3)
        self.assertEqual((self.state("web"), self.daemon.process.pid), ("running", pid))
        liar.close_sync(None)

    def test_deletion_that_does_not_go_through(self):
        """Of a client's VM and of any other: it is tried again, also after the caller was told so."""
        self.prepare()
        client = self.client()
        self.make(client, "followed", start=True, wait=True)
        self.create("plain", start=True, wait=True)
        with self.daemon.helper("fail ReleaseVm"):
            client.close_sync(None)
            text = self.refused(ERROR + "Failed", "DeleteVM", "(sa{sv})", ("plain", harness.options(force=True, wait=True)))
            self.assertIn("ReleaseVm fails", text)
            self.assertEqual(self.daemon.names("VM"), ["followed", "plain"])
        until("both to be gone", lambda: self.daemon.names("VM") == [], 15)

    def test_needs_ephemeral(self):
        self.prepare()
        text = self.refused(STANDARD + "InvalidArgs", "CreateVM", "(sa{sv})", ("web", harness.options(follow=True)))
        self.assertIn("ephemeral", text)
        self.assertEqual(self.daemon.names("VM"), [])


class Availability(BusTest):
    def test_told_when_it_changes(self):
        """A helper that ends and comes back may have been available all along: looked at, and not announced."""
        self.daemon.stop()
        ear = self.ear()
        self.daemon.start(FAKE_HELPER="110100")
        until("six words", lambda: sum("the root helper is" in r["MESSAGE"] for r in self.daemon.records()) == 6)
        self.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager")
        told = []

        def last():
            while ear.context.iteration(False):
                pass
            told[:] = [row[2][1]["HelperAvailable"] for row in ear.heard
                       if row[0] == "PropertiesChanged" and "HelperAvailable" in row[2][1]]
            return len(told) >= 4

        until("four words", last)
        self.assertEqual(told, [True, False, True, False])


class Life(BusTest):
    def test_restart_keeps_what_is_ready(self):
        self.prepare()
        before = {k: v for k, v in self.daemon.managed().items() if "/job/" not in k}
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.daemon.restart(number)
            self.assertEqual(self.daemon.managed(), before)
        self.call("DeleteImage", "(sa{sv})", ("default", {}))
        self.daemon.restart()
        self.assertEqual(self.daemon.names("Image"), [])
        self.assertEqual(self.daemon.names("Kernel"), ["default"])

    def test_half_made_ones_go(self):
        self.call("BuildImage", "(sa{sv})", ("i", harness.options(suite="slow")))
        self.call("ImportKernel", "(ssa{sv})", ("k", "apt:slow", {}))
        kinds = [self.daemon.state / kind for kind in ("images", "kernels")]
        until("files", lambda: all(list(kind.glob("*/*")) for kind in kinds))
        (kinds[0] / "0123456789ab").mkdir()
        if ROOT:
            os.chown(kinds[0] / "0123456789ab", OWNER.pw_uid, OWNER.pw_gid)
        self.daemon.restart(signal.SIGKILL)
        self.assertEqual(self.daemon.managed(), {})
        for kind in kinds:
            until(f"{kind} to be empty", lambda kind=kind: not list(kind.iterdir()))

    def test_a_crash_at_each_stage_leaves_nothing_half_made(self):
        verbs = {"image": ("BuildImage", "(sa{sv})", ("i", {})), "kernel": ("ImportKernel", "(ssa{sv})", ("k", "", {}))}
        self.daemon.stop()
        for kind, verb in verbs.items():
            for stage in ("recorded", "made"):
                self.daemon.start(BANGER_FAULT=f"{kind}-{stage}")
                with contextlib.suppress(harness.CallError):
                    self.call(*verb)
                try:
                    self.assertEqual(self.daemon.process.wait(60), -signal.SIGKILL)
                except subprocess.TimeoutExpired:
                    self.skipTest("built without -Dfault-hooks=true")
                until("the name to go", lambda: not self.daemon.has_name())
                left = self.daemon.state / f"{kind}s"
                self.assertEqual(len(list(left.iterdir())), 1, "the hook fired too early or too late")
                self.daemon.start()
                self.assertEqual(self.daemon.managed(), {})
                until(f"{left} to be empty", lambda left=left: not list(left.iterdir()))
                self.daemon.stop()

    def test_a_crash_in_a_commit(self):
        """Ended at each stage it leaves the VM as it was, and a whole image or none."""
        self.prepare()
        for vm in ("slow", "quick"):
            self.create(vm, wait=True)
            for verb in ("StartVM", "StopVM"):
                self.call(verb, "(sa{sv})", (vm, harness.options(wait=True)))
        images = self.daemon.state / "images"
        for stage, vm, kept in (("", "slow", 0), ("image-recorded", "quick", 0), ("image-made", "quick", 0), ("image-kept", "quick", 1)):
            self.daemon.stop()
            until("the name to go", lambda: not self.daemon.has_name())
            self.daemon.start(BANGER_FAULT=stage)
            with contextlib.suppress(harness.CallError):
                self.call("CommitImage", "(ssa{sv})", ("copy", vm, harness.options(wait=vm == "quick")))
                if vm == "quick":
                    self.skipTest("built without -Dfault-hooks=true")
            if vm == "slow":
                until("files", lambda: len(list(images.glob("*/rootfs.ext4"))) == 2)
                self.daemon.process.kill()
            self.assertEqual(self.daemon.process.wait(60), -signal.SIGKILL)
            until("the name to go", lambda: not self.daemon.has_name())
            self.assertEqual(len(list(images.iterdir())), 2, stage)
            self.daemon.start()
            self.assertEqual(self.daemon.names("Image"), ["copy", "default"][1 - kept:])
            until("the rest to go", lambda kept=kept: len(list(images.iterdir())) == 1 + kept)
            self.assertEqual([v["org.banger.VM"]["State"] for v in self.daemon.managed().values() if "org.banger.VM" in v], ["stopped"] * 2)

    def test_cancel_does_not_wait_for_a_disk(self):
        """What hangs is left alone: its name is free, and what it made goes when it ends."""
        hang = self.daemon.state / "hang"
        hang.write_text("make-asset", encoding="utf-8")
        hang.chmod(0o644)
        self.daemon.stop()
        self.daemon.start(BANGER_FAULT_HANG=str(hang))
        ear = self.ear()
        job = self.call("BuildImage", "(sa{sv})", ("i", {}))[0]
        images = self.daemon.state / "images"
        until("files", lambda: list(images.glob("*/rootfs.ext4")))
        time.sleep(0.3)
        if self.daemon.job(job)["State"] != "running":
            self.skipTest("built without -Dfault-hooks=true")
        self.call("Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
        self.assertEqual(ear.wait("JobRemoved", job)[2][1:3], ("cancelled", ERROR + "Cancelled"))
        self.assertEqual(self.daemon.names("Image"), [])
        self.assertEqual(len(list(images.iterdir())), 1)
        hang.unlink()
        until("the rest to go", lambda: not list(images.iterdir()))
        self.call("BuildImage", "(sa{sv})", ("i", harness.options(wait=True)))

    def test_terminate_takes_builds_along(self):
        self.call("BuildImage", "(sa{sv})", ("i", harness.options(suite="slow")))
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(list((self.daemon.state / "images").iterdir()), [])

    def test_terminate_undoes_what_is_under_way(self):
        """A start that is asked for with wait=true hears of its cancellation; the daemon ends only then."""
        self.prepare()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with (self.subTest(number.name), concurrent.futures.ThreadPoolExecutor(1) as pool,
                  self.daemon.helper("hangs LaunchVmm")):
                name = "vm-" + number.name.lower()
                asked = pool.submit(self.refused, ERROR + "Cancelled", "CreateVM", "(sa{sv})",
                                    (name, harness.options(start=True, wait=True)))
                until("starting", lambda: "starting" in str(self.daemon.managed()))
                self.assertEqual(self.daemon.stop(number), 0)
                asked.result(10)
                self.daemon.start()

    def test_unreadable_record_is_set_aside(self):
        self.prepare()
        record = next((self.daemon.state / "images").glob("*/record.json"))
        self.daemon.stop()
        text = record.read_text(encoding="utf-8")
        record.write_text(text[:-5], encoding="utf-8")
        self.daemon.start()
        self.assertEqual(self.daemon.names("Image"), [])
        aside = self.daemon.state / "images" / (record.parent.name + ".unreadable")
        self.assertTrue((aside / "rootfs.ext4").exists())
        self.assertTrue(any(str(aside) in r["MESSAGE"] for r in self.daemon.records()))
        rows = {row[0]: row for row in self.call("Diagnose", "(a{sv})", ({},))[0]}
        self.assertEqual(rows["records"][1], "warning")
        self.assertIn(str(aside), rows["records"][2])

    def test_diagnose(self):
        self.daemon.stop()
        self.daemon.start(FAKE_HELPER="0")
        rows = {row[0]: row for row in self.call("Diagnose", "(a{sv})", ({},))[0]}
        self.assertEqual(sorted(rows), ["bridge-address", "config", "device-mapper", "disk-space", "engine", "firewall", "helper",
                                        "image-and-kernel", "image-build", "kvm", "names", "polkit", "records", "ssh", "tun",
                                        "udev"])
        for name, status, seen, fix in rows.values():
            self.assertIn(status, ("ok", "warning", "error"), name)
            self.assertTrue(seen, name)
            self.assertEqual(bool(fix), status != "ok", name)
        self.assertEqual(rows["helper"][1], "error")
        self.assertEqual(rows["image-and-kernel"][1], "warning")
        job = self.call("BuildImage", "(sa{sv})", ("default", harness.options(suite="slow")))[0]
        self.call("ImportKernel", "(ssa{sv})", ("default", "", harness.options(wait=True)))
        rows = {row[0]: row for row in self.call("Diagnose", "(a{sv})", ({},))[0]}
        self.assertEqual(rows["image-and-kernel"][1], "warning", "an image that is being built is none yet")
        ear = self.ear()
        self.call("Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
        ear.wait("JobRemoved", job)
        self.call("BuildImage", "(sa{sv})", ("default", harness.options(wait=True)))
        rows = {row[0]: row for row in self.call("Diagnose", "(a{sv})", ({},))[0]}
        self.assertEqual(rows["image-and-kernel"][1], "ok")

    def test_settings_of_the_owner(self):
        """Read at the start and when told to; what is wrong is named with its line, and ends nothing."""
        self.prepare()
        folder = self.daemon.base / "settings" / "banger"
        folder.mkdir(exist_ok=True)
        file = folder / "config.toml"

        def settings():
            return {row[0]: row[1:] for row in self.call("Get", "(ss)", (MANAGER, "Config"), interface=STANDARD[:-6] + "Properties")[0]}

        def reload(text):
            file.write_text(text, encoding="utf-8")
            said = self.call("ReloadConfig", "(a{sv})", ({},))[0]
            return [text for text in said if not text.startswith("network.dns-port")]  # another bangerd of this machine may have it

        def nat_of(name, **given):
            self.call("CreateVM", "(sa{sv})", (name, harness.options(wait=True, **given)))
            vms = [value["org.banger.VM"] for value in self.daemon.managed().values() if "org.banger.VM" in value]
            return next(vm["Nat"] for vm in vms if vm["Name"] == name)

        self.assertEqual(settings()["vm_defaults.nat"], ("true", "default"))
        ear = self.ear()
        self.assertEqual(reload("[vm_defaults]\nnat = false\n"), [])
        self.assertEqual(dict(ear.wait("PropertiesChanged", PATH)[2][1])["Config"][-1], ("vm_defaults.nat", "false", "line 2"))
        self.assertFalse(nat_of("a"))
        self.assertTrue(nat_of("b", nat=True))
        problems = reload("[vm_defaults]\nnat = true\nvcpu = \"many\"\nshoe = 1\n")
        self.assertEqual(problems, [f"{file}, line 3: vm_defaults.vcpu must be a number",
                                    f"{file}, line 4: 'vm_defaults.shoe' is not a known setting"])
        self.assertEqual((settings()["vm_defaults.nat"], settings()["vm_defaults.vcpu"]), (("true", "line 2"), ("2", "default")))
        self.assertEqual({row[0]: row[1:] for row in self.call("Diagnose", "(a{sv})", ({},))[0]}["config"][:2], ("warning", problems[0]))
        problems = reload("[vm_defaults]\nnat = false\nvcpu\n")
        self.assertEqual(problems, [f"{file}, line 3: a '=' is missing after the name"])
        self.assertEqual(settings()["vm_defaults.nat"], ("true", "line 2"), "what was read before holds on")
        self.daemon.stop()
        self.daemon.start()
        self.assertEqual(settings()["vm_defaults.nat"], ("true", "default"), "it starts beside a file that is none")
        self.assertTrue(any(problems[0] in record["MESSAGE"] for record in self.daemon.records()))

    def test_diagnose_engine_is_the_helpers_word(self):
        """Which engine runs, why not the other, and whether guests are emulated: nobody guesses what the helper decides."""
        rows = {row[0]: row[1:] for row in self.call("Diagnose", "(a{sv})", ({},))[0]}
        for name in ("engine", "kvm"):
            self.assertEqual(rows[name][:2], ("warning", "cannot be asked: nobody there"))
        for told, status, seen, fix, kvm in (("firecracker||", "ok", "^firecracker$", "", "ok"),
                                             ("qemu|Firecracker's programs are not fit: /x|no /dev/kvm", "warning",
                                              "^qemu, as Firecracker's programs are not fit: /x$", "[engine.firecracker]", "warning"),
                                             ("|engine 'qemu' has no programs|", "error", "^no engine for use = .*: engine 'qemu' has no", "install", "ok")):
            with self.subTest(told):
                self.daemon.stop()
                self.daemon.start(FAKE_ENGINE=told)
                rows = {row[0]: row[1:] for row in self.call("Diagnose", "(a{sv})", ({},))[0]}
                if told.startswith("qemu") and not shutil.which("qemu-system-x86_64"):
                    status, seen, fix = "error", "qemu-system-x86_64 not found", "install"
                self.assertEqual(rows["engine"][0], status)
                self.assertRegex(rows["engine"][1], seen)
                self.assertIn(fix, rows["engine"][2])
                self.assertEqual(rows["kvm"][0], kvm)

    def test_bus_gone(self):
        self.daemon.bus.terminate()
        self.daemon.bus.wait()
        self.assertEqual(self.daemon.process.wait(60), 1, "the unit has Restart=on-failure")

    def test_no_descriptors_left(self):
        """It takes what it may have; without one more to be had each call ends with a word, and none with the daemon."""
        pid = self.daemon.process.pid
        few = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd")) + 2
        program = self.daemon.program
        wrapper = pathlib.Path(self.daemon.base) / "few"
        wrapper.write_text(f"#!/bin/sh\nulimit -Sn {few - 1}\nulimit -Hn {few}\nexec {program}\n", encoding="utf-8")
        wrapper.chmod(0o755)
        self.daemon.stop()
        self.daemon.program = wrapper
        self.addCleanup(setattr, self.daemon, "program", program)
        self.daemon.start()
        with open(f"/proc/{self.daemon.process.pid}/limits", encoding="ascii") as f:
            self.assertRegex(f.read(), rf"Max open files +{few} +{few} ")
        for _ in range(10):
            for call in (("BuildImage", "(sa{sv})", ("more", harness.options(wait=True))),
                         ("ImportKernel", "(ssa{sv})", ("k", "", harness.options(wait=True))),
                         ("DeleteImage", "(sa{sv})", ("more", {}))):
                with contextlib.suppress(harness.CallError):
                    self.call(*call)
        self.assertIsNone(self.daemon.process.poll())

    def test_reader_of_the_log_is_gone(self):
        self.daemon.stop()
        end, start = os.pipe()
        with open(start, "wb", buffering=0) as pipe:
            self.daemon.process, _ = self.daemon.spawn(stderr=pipe)
        until("bangerd's name", self.daemon.has_name)
        os.close(end)
        self.refused(ERROR + "NoSuchVM", "GetVM", "(s)", ("nobody",))
        self.assertEqual(self.daemon.stop(), 0)

    def test_closed_streams(self):
        """No socket of the daemon's is its stderr."""
        self.daemon.stop()
        self.daemon.process, _ = self.daemon.spawn(closed=True)
        until("bangerd's name", self.daemon.has_name)
        fds = [os.readlink(f"/proc/{self.daemon.process.pid}/fd/{fd}") for fd in range(3)]
        self.assertEqual(fds, ["/dev/null"] * 3)

    def fails(self, words, status=1, **kwargs):
        process, log = self.daemon.spawn(**kwargs)
        with contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            self.assertEqual(process.wait(60), status)
        self.assertIn(words, log.read_text(encoding="utf-8"))

    def test_second_daemon_gives_way(self):
        """On the same bus and on another one: what the first is making is not half-made to the second."""
        self.call("BuildImage", "(sa{sv})", ("i", harness.options(suite="slow")))
        rootfs = until("its file", lambda: list((self.daemon.state / "images").glob("*/rootfs.ext4")))[0]
        self.fails("another bangerd works on")
        other = subprocess.Popen(["dbus-daemon", "--nofork", "--print-address",
                                  f"--config-file={self.daemon.other_bus()}"],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with other:
            address = other.stdout.readline().decode().strip()
            self.fails("another bangerd works on", DBUS_SESSION_BUS_ADDRESS=address)
            other.terminate()
        self.assertTrue(rootfs.exists())
        self.assertEqual(self.daemon.names("Image"), ["i"])

    def test_name_that_another_program_has(self):
        self.daemon.stop()
        self.ear().connection.call_sync("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName",
                                        GLib.Variant("(su)", (NAME, 0)), None, Gio.DBusCallFlags.NONE, -1, None)
        self.fails("another bangerd has it")

    def test_refuses_to_start(self):
        self.daemon.stop()
        if ROOT:
            self.fails("never runs as root", os.EX_NOPERM, as_owner=False)
        config = self.daemon.base / "install.toml"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace(f"uid = {OWNER.pw_uid}", "uid = 4242"), encoding="utf-8")
        self.fails("as the owner", os.EX_NOPERM)
        config.write_text(text, encoding="utf-8")
        self.daemon.state.chmod(0o750)
        self.fails("mode 0700")
        self.daemon.state.chmod(0o700)
        self.fails("cannot reach the session bus", DBUS_SESSION_BUS_ADDRESS="unix:path=/nonexistent/bus")
        self.fails("nonexistent.toml", os.EX_CONFIG, BANGER_CONFIG="/nonexistent.toml")
        config.write_text(text + "\nsurprise = 1\n", encoding="utf-8")
        self.fails("surprise", os.EX_CONFIG)


if __name__ == "__main__":
    harness.main()
