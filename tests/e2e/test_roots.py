#!/usr/bin/python3
"""Images that nobody made for a virtual machine: each boots, is ready, has its network and ends in order.

Run by meson test as root. All guests are small and start at once.
Never needs anything of a mirror: the roots are made here, of busybox and one static program.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import unittest

from guest import BOOT_SECONDS, GuestTest, harness, main

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "unit/manager/image"))
import layers  # noqa: E402

BUSYBOX = "/bin/busybox"
STATIC = harness.find_one(os.environ["BANGER_BUILD"], "root-init")
WRITER = harness.find_one(os.environ["BANGER_BUILD"], "ext4-from-tar")
# Prints what it finds; then the init that called it goes on.
RCS = """#!/bin/sh
exec >/dev/console 2>&1
echo "FACT pid=$(cat /proc/1/comm)"
mount -a; echo "FACT mount-a=$?"
echo "FACT tmp=$(stat -c %a /tmp) root=$(stat -c %a /root)"
echo "FACT resolv=$(grep -c nameserver /etc/resolv.conf)"
echo "FACT name=$(hostname)"
echo new >/etc/new; echo "FACT etc=$(cat /etc/new)"
ping -c 1 -W 30 GATEWAY >/dev/null; echo "FACT ping=$?"
echo "FACT end=1"
"""
FSTAB = "LABEL=cloudimg-rootfs / ext4 defaults 0 1\n/dev/sdz1 /data ext4 defaults 0 2\nUUID=0-0 none swap sw 0 0\n"


@unittest.skipUnless(os.path.exists(BUSYBOX), "needs busybox-static")
class Roots(GuestTest):
    def tar(self, name, fill):
        root = self.stack.base / name
        root.mkdir()
        fill(root)
        path = self.stack.base / f"{name}.tar"
        subprocess.run(["tar", "--numeric-owner", "--owner=0", "--group=0", "-cf", path, "-C", root, "."], check=True)
        path.chmod(0o644)
        return path

    def fill_busybox(self, root, merged):
        """Like Alpine's: busybox is the init and everything else. Resolver's link leads nowhere, root may not log in."""
        for folder in ("usr/bin", "usr/sbin", "etc/init.d", "proc"):
            (root / folder).mkdir(parents=True)
        for name in ("bin", "sbin"):
            (root / name).symlink_to(f"usr/{name}") if merged else (root / name).mkdir()
        shutil.copy2(BUSYBOX, root / "bin/busybox")
        for applet in ("sh", "mount", "cat", "stat", "grep", "hostname", "ping", "ls", "echo", "tar", "find"):
            (root / "bin" / applet).symlink_to("busybox")
        (root / "sbin/init").symlink_to("/bin/busybox")
        (root / "etc/resolv.conf").symlink_to("../run/nowhere/resolv.conf")
        (root / "etc/fstab").write_text(FSTAB)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/sbin/nologin\n")
        (root / "etc/init.d/rcS").write_text(RCS.replace("GATEWAY", self.network() + "1"))
        (root / "etc/init.d/rcS").chmod(0o755)

    def fill_static(self, root):
        shutil.copy2(STATIC, root / "stay")

    def immutable_etc(self, tar):
        """An ext4 file of it whose /etc takes no change."""
        path = tar.with_suffix(".ext4")
        with open(tar, "rb") as file:
            subprocess.run([WRITER, path, "64M"], stdin=file, stdout=subprocess.DEVNULL, check=True)
        subprocess.run(["debugfs", "-w", "-R", "set_inode_field /etc flags 0x80010", path], check=True, capture_output=True)
        path.chmod(0o644)
        return path

    def facts(self, name):
        end = time.monotonic() + BOOT_SECONDS
        while "FACT end=1" not in (console := self.banger("vm", "logs", name).stdout):
            self.assertLess(time.monotonic(), end, console + self.explain())
            time.sleep(0.3)
        return dict(re.findall(r"\bFACT ([\w-]+)=([^\r\n]*)", console)), console

    def test_all_boot(self):
        static = self.tar("static", self.fill_static)
        split = self.tar("split", lambda root: self.fill_busybox(root, False))
        merged = self.immutable_etc(self.tar("merged", lambda root: self.fill_busybox(root, True)))
        for name, path, words in (("static", static, "no init program inside"), ("split", split, "no ssh server inside"),
                                  ("merged", merged, "no ssh server inside")):
            self.assertIn(words, self.banger("image", "import", name, str(path)).stderr)
        guests = {"bare": ("static", None), "prog": ("static", "/stay"), "busy": ("split", None), "fixed": ("merged", None),
                  "debian": ("default", "/run/banger/guest")}
        for name, (image, init) in guests.items():
            self.banger("vm", "create", name, "--image", image, "--memory", "256M", *(["--init", init] if init else []))
        for name in guests:
            self.stack.manager("StartVM", "(sa{sv})", (name, {}))
        for name, (_, init) in guests.items():
            vm = self.wait_state(name, "running", BOOT_SECONDS)
            self.assertEqual((vm["SshServer"], vm["Init"]), ("missing", init or ""))
        self._busybox()
        self._workspace()
        self._static()
        self._own_init()
        self._refusals()
        for name in guests:
            self.banger("vm", "stop", name)
            self.assertEqual(self.vm(name)["StateReason"], "")
        disk = self.stack.state / str(self.stack.owner.pw_uid) / "vms" / self.vm("debian")["Id"] / "work.ext4"
        self.assertEqual(subprocess.run(["debugfs", "-R", "cat /ended", disk], capture_output=True, check=True).stdout, b"by TERM\n")
        # In order, each by its own init or by the agent: no way but the first was tried.
        log = pathlib.Path(self.stack.log_path("manager")).read_text(encoding="utf-8", errors="replace")
        self.assertNotIn("no end in time", log)
        self.assertEqual(log.count("the guest's agent ended") + log.count("powering off the guest"), 0)

    def _busybox(self):
        for name in ("busy", "fixed"):
            facts, console = self.facts(name)
            self.assertEqual((facts["pid"], facts["name"]), ("init", name))
            self.assertEqual((facts["mount-a"], facts["ping"], facts["tmp"]), ("0", "0", "1777 root=700"))
            self.assertEqual((facts["etc"], facts["resolv"] != "0"), ("new", True))
            self.assertIn("for this start they are optional: LABEL=cloudimg-rootfs (/), /dev/sdz1 (/data)", console)
            self.assertEqual("/etc cannot be written: a copy in memory lies over it" in console, name == "fixed")

    def fill_application(self, root):
        self.fill_busybox(root, True)
        (root / "bin/id").symlink_to("busybox")
        (root / "srv/app").mkdir(parents=True)
        with open(root / "etc/passwd", "a", encoding="utf-8") as file:
            file.write("ann:x:1000:1000::/srv:/bin/sh\n")

    def test_what_an_image_says(self):
        """Of layers, with an entry point: it is what is run, as the user and where the image says."""
        says = {"Env": ["A=of the image", "no pair"], "WorkingDir": "/srv/app", "User": "ann",
                "Entrypoint": ["/bin/sh", "-c", 'echo "$A,$B,$(pwd),$(id -u),$0"; exit 4'], "Cmd": ["it's the command"]}
        layout = self.stack.base / "layout"
        layers.write(layers.Image([self.tar("application", self.fill_application).read_bytes()], settings=says).files(), layout)
        for path in (layout, *layout.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self.banger("image", "import", "application", str(layout))
        out = self.banger("vm", "run", "-q", "--image", "application", "--memory", "256M", "--name", "app", "--env", "B=given", status=4).stdout
        self.assertEqual(out, "of the image,given,/srv/app,1000,it's the command\n")
        script = ("sh", "-c", "echo $A,$(pwd),$(id -u)")
        self.assertEqual(self.guest("app", *script), "of the image,/srv/app,1000\n")
        out = self.banger("vm", "exec", "app", "--cwd", "/", "--user", "root", "--env", "A=given", "--", *script).stdout
        self.assertEqual(out, "given,/,0\n")
        self.assertEqual(self.capture("app", *script), ",/root,0\n")
        self.assertIn("ann:x:1000", self.banger("vm", "cp", "app:/etc/passwd", "-").stdout)
        self._committed()

    def _committed(self):
        """What was done to a machine is in the image of it, which needs neither it nor its own image; its name and keys are not."""
        self.assertIn("running: stop it first", self.banger("image", "commit", "app", "again", status=None).stderr)
        script = "echo kept >/root/file; echo own >/etc/own; cat /etc/hostname; ls /etc/ssh; sync"
        self.assertIn("app\nssh_host_ed25519_key", self.banger("vm", "exec", "app", "--user", "root", "--", "sh", "-c", script).stdout)
        self.banger("vm", "stop", "app")
        self.banger("image", "commit", "app", "again")
        self.banger("vm", "delete", "app")
        self.banger("image", "delete", "application")
        image, = (each["org.banger.Image"]["Id"] for each in self.objects().values() if each.get("org.banger.Image", {}).get("Name") == "again")
        made = self.stack.state / str(self.stack.owner.pw_uid) / "images" / image / "rootfs.ext4"
        listed = subprocess.run(["debugfs", "-f", "-", made], input=b"ls -p /etc\nls -p /etc/ssh\n", capture_output=True, check=True).stdout
        self.assertNotRegex(listed, b"hostname|ssh_host")
        script = "cat /root/file /etc/own /etc/hostname; echo $A"
        out = self.banger("vm", "run", "-q", "--rm", "--image", "again", "--memory", "256M", "--name", "other", "--user", "root", "--", "sh", "-c", script).stdout
        self.assertEqual(out, "kept\nown\nother\nof the image\n")

    def _workspace(self):
        """A repository gets into a guest without an ssh server: many files, whose list is longer than what anybody reads at once."""
        repo = pathlib.Path(self.stack.owner.pw_dir) / "tree"
        script = """git init -q -b main "$1"; cd "$1"; for i in $(seq 3000); do echo $i >file-of-a-long-name-$i; done
            git add -A; git -c user.name=t -c user.email=t@example.org commit -qm first"""
        subprocess.run(["sh", "-ec", script, "sh", str(repo)], check=True, env=self.stack.owner_environment(), cwd="/", **self.stack.as_owner())
        script = "pwd; cat file-of-a-long-name-2718; cat .git/HEAD; ls | busybox wc -l"
        done = self.banger("vm", "run", "--rm", "--image", "split", "--memory", "256M", str(repo), "--", "sh", "-c", script)
        self.assertEqual(done.stdout.split("\n"), ["/root/tree", "2718", "ref: refs/heads/main", "3000", ""])

    def _static(self):
        facts, console = self.facts("prog")
        self.assertEqual((facts["pid"], facts["hostname"], facts["tmp"]), ("1", "prog", "41777"))
        self.assertNotIn("cannot", console)

    def capture(self, name, *words):
        """What a command in a guest without an ssh server writes, through the agent."""
        out, err, status = self.stack.manager("CaptureVM", "(sasa{sv})", (name, list(words), {}), timeout=600)
        self.assertEqual(status, 0, (out, err))
        return bytes(out).decode()

    def _own_init(self):
        """Orphans do not stay as zombies; what runs is told to end, and has the time for it (looked at after the stop)."""
        script = "setsid sh -c 'sleep 0.3 & exit' ; sleep 1; ps -eo ppid,stat,comm"
        processes = self.capture("debian", "sh", "-c", script)
        self.assertRegex(processes, r"(?m)^ +0 \S+ +guest$")
        self.assertNotRegex(processes, r"(?m)^ +\d+ Z")
        self.capture("debian", "sh", "-c", "setsid sh -c 'trap \"echo by TERM >/root/ended; exit\" TERM; while :; do sleep 0.1; done' "
                                           ">/dev/null 2>&1 </dev/null &")

    def _refusals(self):
        """Said in words, at once."""
        self.assertIn("busy had no ssh server when it started", self.banger("vm", "ssh", "busy", status=None).stderr)
        self.banger("vm", "create", "wrong", "--image", "static", "--memory", "256M", "--init", "/nothing")
        failed = self.banger("vm", "start", "wrong", status=None)
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn("the init /nothing that is asked for cannot be run", failed.stderr)


if __name__ == "__main__":
    main()
