"""The main job, with a real guest: a command, its exit status and streams, a repository, both services on the way.

Run by meson test as root.
Never talks to anything but this stack's guests.
"""

import os
import pathlib
import signal
import subprocess
import time

from guest import GuestTest, VM_INTERFACE, main, options
from harness import SOURCE, shape


class Run(GuestTest):
    def test_command(self):
        """Exit status, streams apart, arguments one by one, nothing left."""
        script = "echo out; echo err >&2; for a in \"$@\"; do printf '<%s>' \"$a\"; done; echo; id -u; exit 7"
        words = ["two words", "it's \"quoted\"", "new\nline", "", "$HOME;*", "-x"]
        result = self.banger("vm", "run", "--rm", "--name", "one", "--", "sh", "-c", script, "sh", *words, status=7)
        self.assertEqual(result.stdout, "out\n" + "".join(f"<{w}>" for w in words) + "\n0\n")
        self.assertIn("err\n", result.stderr)
        self.assertNotIn("out\n", result.stderr)
        self.assertIsNone(self.vm("one"))
        self.assert_nothing_held()

    def test_input(self):
        """Standard input reaches the command."""
        result = self.banger("vm", "run", "--rm", "--", "wc", "-c", input="12345\n" * 1000)
        self.assertEqual(result.stdout.strip(), "6000")

    def test_repository(self):
        """Tracked files and untracked ones that are not ignored; the command runs there."""
        repo = self._repository()
        script = "pwd; cat tracked; cat 'un tracked'; test ! -e ignored.o; cat sub/dir/deep; git status --porcelain; readlink link"
        result = self.banger("vm", "run", "--rm", str(repo), "--", "sh", "-ec", script)
        self.assertEqual(result.stdout.splitlines(), [
            "/root/a repo", "changed", "new", "deep", " M tracked", "?? \"un tracked\"", "tracked"])

    def _repository(self):
        repo = pathlib.Path(self.stack.owner.pw_dir) / "a repo"
        script = """set -e
            git init -q -b main "$1"; cd "$1"
            echo first > tracked; echo '*.o' > .gitignore; mkdir -p sub/dir; echo deep > sub/dir/deep; ln -s tracked link
            git add -A; git -c user.name=t -c user.email=t@example.org commit -qm first
            echo changed > tracked; echo new > 'un tracked'; echo no > ignored.o"""
        subprocess.run(["sh", "-c", script, "sh", str(repo)], check=True, env=self.stack.owner_environment(), cwd="/",
                       **self.stack.as_owner())
        return repo

    def test_interrupted(self):
        """Whoever ends `vm run --rm` in the middle finds nothing left as soon as it has ended."""
        cases = [(signal.SIGINT, "starting", ["true"]), (signal.SIGTERM, "running", ["sleep", "1000"])]
        for number, state, command in cases:
            with self.subTest(number.name):
                run = self.stack.start_banger("vm", "run", "--rm", "--name", "cut", "--", *command)
                self.wait_state("cut", state, 240)
                if state == "running":
                    time.sleep(3)  # ssh is on its way to the command, or there
                run.send_signal(number)
                _, err = run.communicate(timeout=60)
                self.assertEqual(run.returncode, 128 + number, err)
                self.assertIsNone(self.vm("cut"))
                self.assert_nothing_held()

    def test_manager_asked_to_end_in_the_middle_of_a_start(self):
        """It takes back what it has begun; who waited hears of it."""
        run = self.stack.start_banger("vm", "run", "--rm", "--name", "cut", "--", "true")
        self.wait_state("cut", "starting", 60)
        end = time.monotonic() + 60
        while not self.held()["VMMs"]:
            self.assertLess(time.monotonic(), end, "no VMM was launched")
            time.sleep(0.05)
        self.assertTrue(self.stack.kill("manager", signal.SIGTERM, seconds=15))
        self.assert_nothing_held()
        _, err = run.communicate(timeout=60)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("cancelled", err)
        self.stack.start_manager()
        self.assertIsNone(self.vm("cut"))

    def test_refused_before_anything_is_made(self):
        """A bad name, image, size or path."""
        bad = [["--name", "Not_A_Label"], ["--name", "-x"], ["--name", "a" * 64], ["--image", "no-such-image"],
               ["--memory", "4X"], ["--memory", "1"], ["--disk-size", "-1"], ["--vcpu", "0"], ["--vcpu", "many"],
               ["/nonexistent"], ["/etc"]]
        for arguments in bad:
            with self.subTest(arguments):
                result = self.banger("vm", "run", "--rm", *arguments, "--", "true", status=None, timeout=60)
                self.assertNotEqual(result.returncode, 0)
                self.assertTrue(result.stderr.strip())
                self.assertEqual(result.stdout, "")
        self.assertEqual([i for i in self.objects().values() if VM_INTERFACE in i], [])
        self.assert_nothing_held()


class Life(GuestTest):
    def test_life_over_the_bus(self):
        """CreateVM, StartVM, StopVM, DeleteVM; jail, uid, capabilities; work disk over a restart."""
        self.stack.manager("CreateVM", "(sa{sv})", ("life", options(wait=True, vcpu=2)), timeout=120)
        self.assertEqual(self.vm("life")["State"], "stopped")
        self.stack.manager("StartVM", "(sa{sv})", ("life", options(wait=True)), timeout=240)
        vm = self.vm("life")
        self.assertEqual(vm["State"], "running")
        self.assertTrue(vm["Address"].startswith(self.network()), vm["Address"])
        self._check_jail(vm)
        masked = "cd /run/systemd/system-generators; for link in *; do echo $(readlink $link) $link; done"
        idle = [f"/dev/null systemd-{name}-generator" for name in (
            "bless-boot", "cryptsetup", "debug", "gpt-auto", "hibernate-resume", "integritysetup", "rc-local", "run",
            "system-update", "veritysetup")]
        self.assertEqual(self.guest("life", "sh", "-c", masked).splitlines(), idle)
        self.guest("life", "sh", "-c", "echo kept > /root/file; echo root > /etc/own; echo '#!/bin/sh' > /etc/rc.local; "
                   "chmod +x /etc/rc.local; yes '0.0.0.0 advertising' | head -n 300000 >> /etc/hosts; sync")
        first = self.guest("life", "cat", "/proc/sys/kernel/random/boot_id").strip()
        self.banger("vm", "restart", "life")
        self.assertEqual(self.guest("life", "cat", "/root/file", "/etc/own"), "kept\nroot\n")
        # Longer than banger reads: nothing of it is lost.
        self.assertEqual(self.guest("life", "grep", "-c", "advertising", "/etc/hosts"), "300000\n")
        idle.remove("/dev/null systemd-rc-local-generator")
        self.assertEqual(self.guest("life", "sh", "-c", masked).splitlines(), idle)
        self.guest("life", "test", "-e", "/run/systemd/generator/multi-user.target.wants/rc-local.service")
        self.assertNotEqual(self.guest("life", "cat", "/proc/sys/kernel/random/boot_id").strip(), first)
        self.assertEqual(self.guest("life", "findmnt", "-no", "SOURCE", "/root").strip(), "/dev/vdb")
        self.stack.manager("StopVM", "(sa{sv})", ("life", options(wait=True)), timeout=90)
        self.assertEqual(self.vm("life")["State"], "stopped")
        self.assert_nothing_held()
        self.stack.manager("DeleteVM", "(sa{sv})", ("life", options(wait=True)), timeout=60)
        self.assertIsNone(self.vm("life"))
        self.assertEqual(self._entries(self.stack.state / str(self.stack.owner.pw_uid) / "vms"), [])

    def _check_jail(self, vm):
        """The VMM: owner's uid, no capabilities, no new privileges, its own root, the cgroup of its lease."""
        pid = vm["Pid"]
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text(
            encoding="utf-8").splitlines() if ":\t" in line)
        owner = self.stack.owner
        self.assertEqual(status["Uid"].split(), [str(owner.pw_uid)] * 4)
        self.assertEqual(status["Gid"].split(), [str(owner.pw_gid)] * 4)
        for field in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(int(status[field], 16), 0, field)
        self.assertEqual(status["NoNewPrivs"], "1")
        root, host = os.stat(f"/proc/{pid}/root"), os.stat("/")
        self.assertNotEqual((root.st_dev, root.st_ino), (host.st_dev, host.st_ino))
        self.assertFalse(os.path.exists(f"/proc/{pid}/root/etc/shadow"))
        cgroup = [line for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
                  if line.startswith("0::")]
        self.assertIn(vm["Id"], cgroup[0])
        self.assertIn(self.stack.name, cgroup[0])
        roots = self._root_processes_in(self.stack.cgroup())
        self.assertEqual(roots, [self.stack.pid("helper")], "only the helper runs as root")

    @staticmethod
    def _root_processes_in(cgroup):
        pids = [int(pid) for path, _, _ in os.walk(cgroup)
                for pid in pathlib.Path(f"{path}/cgroup.procs").read_text(encoding="ascii").split()]
        return [pid for pid in pids if os.stat(f"/proc/{pid}").st_uid == 0]

    def test_objects_keep_the_contract(self):
        """Live introspection of a VM, an image, a kernel and a job equals the files."""
        self.maxDiff = None
        job = self.stack.manager("CreateVM", "(sa{sv})", ("shape", options(wait=True)), timeout=120)[0]
        paths = {"Job": job}
        for path, interfaces in self.objects().items():
            paths |= {name: path for name in ("VM", "Image", "Kernel") if f"org.banger.{name}" in interfaces}
        self.assertEqual(sorted(paths), ["Image", "Job", "Kernel", "VM"])
        for name, path in paths.items():
            with self.subTest(name):
                promised = (SOURCE / "introspection" / f"org.banger.{name}.xml").read_text(encoding="utf-8")
                live = self.stack.introspect(self.stack.session_address, "org.banger.Manager", path)
                self.assertEqual(shape(live), shape(promised))

    def test_logs_and_lists(self):
        """The console log, ps and show tell of a running VM."""
        self.banger("vm", "run", "--name", "seen", "--detach")
        self.assertIn("seen", self.banger("ps").stdout)
        self.assertIn("running", self.banger("vm", "show", "seen").stdout)
        self.assertTrue(self.banger("vm", "logs", "seen").stdout.strip())
        again = self.banger("vm", "create", "seen", status=None)
        self.assertNotEqual(again.returncode, 0)
        self.assertIn("seen", again.stderr)
        self.banger("vm", "kill", "seen")
        self.assertEqual(self.vm("seen")["State"], "stopped")
        self.assert_nothing_held()


if __name__ == "__main__":
    main()
