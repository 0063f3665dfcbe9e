"""The manager on its bus: whom it serves, what it refuses, how it says so.

Run by meson test as root; no guest is booted.
"""

import io
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import unittest

from gi.repository import Gio, GLib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit/manager/image"))
import layers  # noqa: E402
import registry  # noqa: E402
from harness import HELPER, MANAGER, StackTest, main, options

INVALID = "org.freedesktop.DBus.Error.InvalidArgs"


class Manager(StackTest):
    with_manager = True

    def test_owner_and_root_are_served(self):
        for user in ("owner", "root"):
            with self.subTest(user):
                rows = {row[0]: row[1:] for row in self.stack.manager("Diagnose", user=user)[0]}
                name, problem, kvm = self.stack.helper("GetEngine", "(a{sv})", ({},))
                self.assertTrue(name, problem)
                self.assertTrue(rows["engine"][1].startswith(name), rows["engine"])
                self.assertEqual(rows["kvm"][:2], ("warning", kvm) if kvm else ("ok", "usable"))

    def test_errors_carry_the_operation(self):
        """Typed errors that name the value and end in the op id, also for what fails early."""
        cases = [
            ("org.banger.Error.NoSuchVM", "StartVM", "(sa{sv})", ("nobody", {}), "nobody"),
            ("org.banger.Error.NoSuchImage", "DeleteImage", "(sa{sv})", ("nothing", {}), "nothing"),
            ("org.banger.Error.NoSuchKernel", "DeleteKernel", "(sa{sv})", ("nothing", {}), "nothing"),
            ("org.banger.Error.InvalidName", "CreateVM", "(sa{sv})", ("Not_A_Label", {}), "Not_A_Label"),
            (INVALID, "CreateVM", "(sa{sv})", ("good", options(colour="red")), "colour"),
            (INVALID, "CreateVM", "(sa{sv})", ("good", options(vcpus="many")), "vcpus"),
            (INVALID, "CreateVM", "(s)", ("good",), ""),
            ("org.freedesktop.DBus.Error.UnknownMethod", "Reboot", "(s)", ("good",), ""),
        ]
        for error, method, signature, arguments, word in cases:
            with self.subTest(f"{method} {arguments}"):
                seen = self.refused(error, self.stack.manager, method, signature, arguments)
                self.assertIn(word, seen.message)
                self.assertRegex(seen.message, r"\(op-[0-9a-f]+\)$")

    def test_early_errors_carry_the_operation_once(self):
        seen = self.refused("org.banger.Error.NoSuchVM", self.stack.manager, "StopVM", "(sa{sv})", ("nobody", {}))
        self.assertEqual(len(re.findall(r"\(op-", seen.message)), 1, seen.message)

    def test_import_goes_through_the_program_without_rights(self):
        """The installed banger-intake, started by a manager that is not root: an image, its warnings, a refusal."""
        tar = self.stack.base / "rootfs.tar"
        with tarfile.open(tar, "w") as archive:
            init = tarfile.TarInfo("sbin/init")
            init.mode, init.size = 0o755, 4
            archive.addfile(init, io.BytesIO(b"init"))
        tar.chmod(0o644)
        job = self.stack.manager("ImportImage", "(ssa{sv})", ("small", str(tar), options(wait=True)))[0]
        warnings = self.stack.manager("Get", "(ss)", ("org.banger.Job", "Warnings"), path=job,
                                      interface="org.freedesktop.DBus.Properties")[0]
        self.assertEqual(len(warnings), 1, warnings)
        self.assertIn("no ssh server inside", warnings[0])
        out = self.stack.banger("image", "show", "small").stdout
        self.assertRegex(out, "(?m)^ssh server: +missing$")
        self.stack.restart("manager")  # it is in the record
        self.assertEqual(self.stack.banger("image", "show", "small").stdout, out)
        self.stack.manager("DeleteImage", "(sa{sv})", ("small", {}))
        tar.write_bytes(tar.read_bytes()[:512])
        self.refused("org.banger.Error.InvalidImage", self.stack.manager, "ImportImage", "(ssa{sv})",
                     ("cut", str(tar), options(wait=True)))
        self.refused("org.banger.Error.NoSuchImage", self.stack.manager, "DeleteImage", "(sa{sv})", ("cut", {}))

    def test_layers_and_what_they_say_of_themselves(self):
        """The folder is opened by the manager, file by file, for a program that cannot; settings are properties and in the record."""
        image = layers.Image(layers.KINDS["whiteouts"](), settings=layers.SETTINGS)
        where = self.stack.base / "layout"
        layers.write(image.files(), where)
        for path in (where, *where.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        out = self.stack.banger("image", "import", "layered", f"oci:{where}:latest")
        self.assertEqual(out.returncode, 0, out.stderr)
        path = self.stack.manager("GetImage", "(s)", ("layered",))[0]
        for turn in ("made", "read again"):
            with self.subTest(turn):
                seen = self.stack.manager("GetAll", "(s)", ("org.banger.Image",), path=path, interface="org.freedesktop.DBus.Properties")[0]
                self.assertEqual({key: seen[key] for key in ("Env", "WorkingDir", "User", "Entrypoint", "Cmd")},
                                 {key: layers.SETTINGS[key] for key in ("Env", "WorkingDir", "User", "Entrypoint", "Cmd")})
                self.assertEqual((seen["ExposedPorts"], seen["Labels"]), (["53/udp", "80/tcp"], ["a=1=1", "b=2"]))
                self.assertEqual((seen["Digest"], seen["Source"]), (image.descriptor()["digest"], f"oci:{where}:latest"))
            self.stack.restart("manager")
        shown = self.stack.banger("image", "show", "layered").stdout
        self.assertRegex(shown, r"(?m)^Environment: +PATH=/usr/bin:/bin 'A=b c'$")
        self.assertRegex(shown, r"(?m)^Command: +serve ''$")
        self.assertEqual(json.loads(self.stack.banger("image", "show", "layered", "--json").stdout)["cmd"], ["serve", ""])
        self.assertEqual(self.stack.banger("image", "verify", "layered").stderr, "layered is as it was made\n")
        home = pathlib.Path(self.stack.owner.pw_dir)
        for form in ("tar", "ext4", "oci"):
            done = self.stack.banger("image", "export", "layered", "--format", form, "-o", str(home / form))
            self.assertEqual((done.returncode, done.stderr.splitlines()[-1]), (0, f"layered is written to {home / form}"))
            done = self.stack.banger("image", "import", "again", str(home / form), timeout=600)
            self.assertEqual(done.returncode, 0, done.stderr)
            again = self.stack.manager("GetAll", "(s)", ("org.banger.Image",), path=self.stack.manager("GetImage", "(s)", ("again",))[0],
                                       interface="org.freedesktop.DBus.Properties")[0]
            for key in layers.SETTINGS:
                self.assertEqual(again[key], seen[key] if form == "oci" else type(again[key])())
            self.assertEqual(self.stack.banger("image", "tag", "again", "stable").returncode, 0)
            self.assertEqual(self.stack.banger("image", "delete", "stable", "again").returncode, 0)
        with tarfile.open(home / "tar") as archive:
            self.assertIn("root/.profile", archive.getnames())
        if shutil.which("skopeo"):
            subprocess.run(["skopeo", "copy", "--quiet", "--insecure-policy", f"oci-archive:{home}/oci:layered", f"oci:{home}/copied:x"], check=True)
        files = self.stack.state / str(self.stack.owner.pw_uid) / "images" / path.split("/")[-1]
        for at in (0, 5 << 20, 200 << 20):  # of the super block's room, and of a hole; twice is as before
            for status in (70, 0):
                with open(files / "rootfs.ext4", "r+b") as file:
                    file.seek(at)
                    byte = file.read(1)[0]
                    file.seek(at)
                    file.write(bytes([byte ^ 1]))
                seen = self.stack.banger("image", "verify", "layered")
                self.assertEqual(seen.returncode, status, (at, seen.stderr))
                self.assertEqual("rootfs.ext4 is not what it was when the image was made" in seen.stderr, status == 70)
        self.stack.manager("DeleteImage", "(sa{sv})", ("layered", {}))
        for source, error in ((f"oci:{where}:none", "InvalidImage"), ("oci:layout", "InvalidPath"), (f"oci:{where}/blobs", "InvalidPath"),
                              (str(where / "none"), "InvalidPath")):
            self.refused("org.banger.Error." + error, self.stack.manager, "ImportImage", "(ssa{sv})", ("bad", source, options(wait=True)))

    @unittest.skipUnless(shutil.which("skopeo"), "missing: skopeo")
    def test_pull_ends_when_it_is_cancelled_and_its_cache_is_pruned(self):
        """The registry takes the call and never answers."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            job = self.stack.manager("ImportImage", "(ssa{sv})", ("pulled", f"docker://127.0.0.1:{port}/box:1", options()))[0]
            silent.settimeout(60)
            called = silent.accept()[0]
            seen = self.refused("org.banger.Error.InUse", self.stack.manager, "PruneImageCache", "(a{sv})", ({},))
            self.assertIn("is being pulled", seen.message)
            self.stack.manager("Cancel", "(a{sv})", ({},), path=job, interface="org.banger.Job")
            called.settimeout(60)
            while called.recv(4096):  # until whoever called is gone
                pass
            called.close()
        state = self.stack.state / str(self.stack.owner.pw_uid)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (any((state / "images").iterdir()) or os.listdir(state / "blobs") != ["sha256"]):
            time.sleep(0.05)
        self.assertEqual((list((state / "images").iterdir()), os.listdir(state / "blobs")), ([], ["sha256"]))
        self.refused("org.banger.Error.NoSuchImage", self.stack.manager, "GetImage", "(s)", ("pulled",))
        (state / "blobs/sha256" / ("0" * 64)).write_bytes(b"x" * 4096)
        (state / "blobs/pull-left").mkdir()
        self.assertEqual(self.stack.banger("image", "cache", "prune", "--dry-run").stdout, "4 KiB in 1 blobs would be removed\n")
        self.assertEqual(self.stack.banger("image", "cache", "prune").stdout, "4 KiB in 1 blobs are removed\n")
        self.assertEqual((os.listdir(state / "blobs"), os.listdir(state / "blobs/sha256")), (["sha256"], []))
        self.assertEqual(self.stack.manager("PruneImageCache", "(a{sv})", ({},)), (0, 0))
        for reference in ("docker://-x", "docker:x", "docker://a b", "containers-storage:-x"):
            self.refused(INVALID, self.stack.manager, "ImportImage", "(ssa{sv})", ("x", reference, {}))

    @unittest.skipIf(registry.missing(), f"missing: {registry.missing()}")
    def test_one_pull_for_two_from_a_registry(self):
        """Debian's, on loopback: what two want comes once, whoever leaves, and under another name is not fetched again."""
        folder = self.stack.base / "registry"
        folder.mkdir()
        server = registry.Registry(folder)
        self.addCleanup(server.stop)
        layers.write(layers.Image([layers.base, layers.layer(layers.file(b"big", os.urandom(2 << 20)))]).files(), folder / "layout")
        server.push(f"{folder}/layout:latest", "box:1")
        relay = registry.Relay(server, 1 << 30, 1 << 20)
        self.addCleanup(relay.close)
        server.login(relay.port)
        owners = pathlib.Path(self.stack.owner.pw_dir) / ".config/containers"
        shutil.copytree(server.home / ".config/containers", owners)
        shutil.copy(folder / "auth.json", owners / "auth.json")
        subprocess.run(["chown", "-R", f"{self.stack.owner.pw_uid}:{self.stack.owner.pw_gid}", owners.parent], check=True)

        def pull(name, **more):
            return self.stack.manager("ImportImage", "(ssa{sv})", (name, f"docker://127.0.0.1:{relay.port}/box:1", options(**more)), timeout=600)[0]
        first, second = pull("pulled"), pull("pulled")
        self.stack.manager("Cancel", "(a{sv})", ({},), path=first, interface="org.banger.Job")
        pull("another", wait=True)
        self.assertLess((1 << 30) - relay.limit, 3 << 20, "it came twice")
        state = self.stack.manager("Get", "(ss)", ("org.banger.Job", "State"), path=second, interface="org.freedesktop.DBus.Properties")[0]
        end = time.monotonic() + 60
        while state == "running" and time.monotonic() < end:
            time.sleep(0.1)
            state = self.stack.manager("Get", "(ss)", ("org.banger.Job", "State"), path=second, interface="org.freedesktop.DBus.Properties")[0]
        self.assertEqual(state, "done")
        for name in ("pulled", "another"):
            self.assertEqual(self.stack.banger("image", "delete", name).returncode, 0)
        self.assertEqual(self.stack.banger("image", "cache", "prune").returncode, 0)

    def test_export_to_a_full_disk_and_a_client_that_leaves(self):
        """Neither leaves a file."""
        root = self.stack.base / "exported"
        (root / "sbin").mkdir(parents=True)
        (root / "sbin/init").write_bytes(b"#!")
        (root / "large").write_bytes(os.urandom(4 << 20))
        subprocess.run(["tar", "-cf", self.stack.base / "exported.tar", "-C", root, "."], check=True)
        (self.stack.base / "exported.tar").chmod(0o644)
        self.assertEqual(self.stack.banger("image", "import", "exported", str(self.stack.base / "exported.tar")).returncode, 0)
        self.addCleanup(self.stack.banger, "image", "delete", "exported")
        small = self.stack.base / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=2m,mode=700,uid={self.stack.owner.pw_uid}", "none", small], check=True)
        self.addCleanup(subprocess.run, ["umount", small], check=True)
        for form in ("tar", "ext4", "oci"):
            done = self.stack.banger("image", "export", "exported", "--format", form, "-o", str(small / "out"))
            self.assertEqual((form, done.returncode), (form, 74), done)
            self.assertRegex(done.stderr, "[Nn]o space|are free for it")
            self.assertEqual(os.listdir(small), [])
        target = pathlib.Path(self.stack.owner.pw_dir) / "exports"
        target.mkdir()
        os.chown(target, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
        for signal_ in (signal.SIGINT, signal.SIGTERM):
            child = self.stack.start_banger("image", "export", "exported", "-o", str(target / "out"))
            time.sleep(0.05)
            child.send_signal(signal_)
            child.communicate(timeout=60)
            if os.listdir(target):  # it was done when the signal came
                self.assertEqual(os.listdir(target), ["out"])
                with tarfile.open(target / "out") as archive:
                    self.assertEqual(sum(member.size for member in archive if member.name.endswith("large")), 4 << 20)
                (target / "out").unlink()

    def test_image_of_an_unreadable_vm_stays(self):
        """It may run: what its record still says it is made from is not deleted, nor is anything if it says nothing."""
        tar = self.stack.base / "guard.tar"
        with tarfile.open(tar, "w") as archive:
            init = tarfile.TarInfo("sbin/init")
            init.mode, init.size = 0o755, 4
            archive.addfile(init, io.BytesIO(b"init"))
        tar.chmod(0o644)
        for name in ("guarded", "free"):
            self.stack.manager("ImportImage", "(ssa{sv})", (name, str(tar), options(wait=True)))
        path = self.stack.manager("GetImage", "(s)", ("guarded",))[0]
        for told in (True, False):
            with self.subTest(told=told):
                self.stack.stop("manager")
                self.write_record("aaaaaaaaaaa2", "was")
                record = self.stack.state / str(self.stack.owner.pw_uid) / "vms/aaaaaaaaaaa2/record.json"
                text = record.read_text(encoding="utf-8").replace("0123456789ab", path.split("/")[-1])
                record.write_text(text.replace('"vcpus": 1', '"vcpus": "one"') if told else "{", encoding="utf-8")
                self.stack.start_manager()
                vms = json.loads(self.stack.banger("vm", "list", "--json").stdout)
                self.assertEqual([vm["state"] for vm in vms], ["unreadable"])
                seen = self.refused("org.banger.Error.InUse", self.stack.manager, "DeleteImage", "(sa{sv})",
                                    ("guarded", {}))
                self.assertIn(vms[0]["name"], seen.message)
                if told:
                    self.stack.manager("DeleteImage", "(sa{sv})", ("free", {}))
                    self.stack.manager("ImportImage", "(ssa{sv})", ("free", str(tar), options(wait=True)))
                else:
                    self.refused("org.banger.Error.InUse", self.stack.manager, "DeleteImage", "(sa{sv})", ("free", {}))
                self.stack.manager("DeleteVM", "(sa{sv})", (vms[0]["name"], options(wait=True)))
        for name in ("guarded", "free"):
            self.stack.manager("DeleteImage", "(sa{sv})", (name, {}))

    def available(self):
        return self.stack.manager("Get", "(ss)", (MANAGER[2], "HelperAvailable"),
                                  interface="org.freedesktop.DBus.Properties")[0]

    def test_others_say_that_the_helper_is_gone(self):
        """Whoever on the system bus says so to the manager: the bus alone is believed."""
        bus = Gio.DBusConnection.new_for_address_sync(
            self.stack.system_address,
            Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)

        def ask(method, *args):
            body = GLib.Variant("(s)", args) if args else None
            return bus.call_sync("org.freedesktop.DBus", "/", "org.freedesktop.DBus", method, body, None, 0, 10000,
                                 None).unpack()[0]
        pid = self.stack.pid("manager")
        managers = [name for name in ask("ListNames") if name[0] == ":" and ask("GetConnectionUnixProcessID", name) == pid]
        self.assertEqual(len(managers), 1)
        for owner in ("", ":1.7"):
            bus.emit_signal(managers[0], "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged",
                            GLib.Variant("(sss)", (HELPER[0], ":1.7", owner)))
            bus.flush_sync(None)
            time.sleep(0.2)
            self.assertTrue(self.available())
        bus.close_sync(None)

    def test_helper_comes_and_goes(self):
        """HelperAvailable follows the helper; the manager stays."""
        available = self.available

        def becomes(value):
            end = time.monotonic() + 60
            while available() != value:
                self.assertLess(time.monotonic(), end, f"HelperAvailable did not become {value}")
                time.sleep(0.1)
        becomes(True)
        manager = self.stack.pid("manager")
        self.stack.kill("helper")
        becomes(False)
        self.stack.start_helper()
        becomes(True)
        self.assertEqual(self.stack.pid("manager"), manager)

    def write_record(self, vm_id, name):
        """A VM that ran when the host went down."""
        folder = self.stack.state / str(self.stack.owner.pw_uid) / "vms" / vm_id
        folder.mkdir(mode=0o700)
        record = {"version": 1, "kind": "vm", "name": name, "state": "running", "reason": "", "image": "default",
                  "image-id": "0123456789ab", "kernel": "default", "kernel-id": "0123456789ab", "vcpus": 1, "memory-mib": 256,
                  "disk-bytes": 1 << 30, "nat": True, "ephemeral": False, "address": "10.214.0.2", "mac": "06:00:00:00:00:01",
                  "created-at": 1, "started-at": 2, "pid": 4711, "boot-id": "x"}
        (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
        (folder / "record.json").chmod(0o600)
        for path in (folder, folder / "record.json"):
            os.chown(path, self.stack.owner.pw_uid, self.stack.owner.pw_gid)

    def vm(self, name):
        for interfaces in self.stack.manager("GetManagedObjects", "()", (),
                                             interface="org.freedesktop.DBus.ObjectManager")[0].values():
            vm = interfaces.get("org.banger.VM")
            if vm and vm["Name"] == name:
                return vm
        return None

    def test_true_from_the_first_answer(self):
        """After a reboot of the host: with a helper that answers, one that is away, and one that says nothing."""
        self.stack.stop("manager")
        self.write_record("aaaaaaaaaaa1", "was")
        self.stack.start_manager()
        vm = self.vm("was")
        self.assertEqual((vm["State"], vm["StateReason"]), ("stopped", "it ended while bangerd was away"))
        self.stack.manager("DeleteVM", "(sa{sv})", ("was", options(wait=True)))

        for silent in (False, True):
            with self.subTest(silent=silent):
                self.stack.stop("manager")
                self.write_record("aaaaaaaaaaa1", "was")
                if silent:
                    os.kill(self.stack.pid("helper"), signal.SIGSTOP)
                else:
                    self.stack.kill("helper")
                self.stack.start_manager()
                vm = self.vm("was")
                self.assertEqual(vm["State"], "unknown")
                self.assertIn("has not said yet", vm["StateReason"])
                listed = self.stack.banger("vm", "list")
                self.assertRegex(listed.stdout, r"(?m)^was +unknown ")
                told = self.stack.banger("vm", "exec", "was", "--", "true")
                self.assertEqual(told.returncode, 75, told)
                self.assertIn("not known yet", told.stderr)
                if silent:
                    os.kill(self.stack.pid("helper"), signal.SIGCONT)
                else:
                    self.stack.start_helper()
                end = time.monotonic() + 60
                while self.vm("was")["State"] == "unknown":
                    self.assertLess(time.monotonic(), end)
                    time.sleep(0.1)
                self.assertEqual(self.vm("was")["State"], "stopped")
                self.stack.manager("DeleteVM", "(sa{sv})", ("was", options(wait=True)))

    def test_command_line_without_manager(self):
        """It says why there is none, and waits for none that would refuse to run."""
        broken = self.stack.base / "broken.toml"
        broken.write_text(pathlib.Path(self.stack.config).read_text(encoding="utf-8") + "\nsurprise = 1\n", encoding="utf-8")
        broken.chmod(0o644)
        self.stack.stop("manager")
        try:
            for config, words in ((self.stack.config, r"^banger: the manager \(bangerd\) does not run"),
                                  (broken, r"^banger: banger is not set up: .*broken.toml, line \d+: '.*surprise' is not a known setting"),
                                  ("/nonexistent.toml", "^banger: banger is not set up: .*nonexistent.toml")):
                with self.subTest(str(config)):
                    done = self.stack.banger("vm", "list", env={"BANGER_CONFIG": str(config)})
                    self.assertEqual(done.returncode, 1, done)
                    self.assertRegex(done.stderr, words)
        finally:
            self.stack.start_manager()

    def test_manager_is_not_root(self):
        with open(f"/proc/{self.stack.pid('manager')}/status", encoding="ascii", errors="replace") as f:
            status = dict(line.split(":\t", 1) for line in f if ":\t" in line)
        self.assertEqual(status["Uid"].split(), [str(self.stack.owner.pw_uid)] * 4)
        self.assertEqual(int(status["CapEff"], 16), 0)


if __name__ == "__main__":
    main()
