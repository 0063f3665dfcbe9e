"""scripts/dev-stack itself: up, up again, a lost process, restart, down; and pids that are not its own.

Run by meson test as root.
Never uses the installed programs: the stack under test is the fixture's.
"""

import contextlib
import json
import os
import pty
import shlex
import signal
import subprocess
import time

from harness import SOURCE, StackTest, devstack, main


class DevStack(StackTest):
    with_manager = True

    def argv(self, *words):
        stack = self.stack
        return [str(SOURCE / "scripts" / "dev-stack"), "--root", stack.directory, "--config", stack.config, "--prefix",
                stack.prefix, "--polkit", stack.polkit_dir, *words]

    def script(self, *words, status=0):
        """scripts/dev-stack on the fixture's stack."""
        result = subprocess.run(self.argv(*words), capture_output=True, text=True, check=False, cwd="/", timeout=600)
        self.assertEqual(result.returncode, status, result.stderr)
        return result

    def test_up_again_starts_nothing(self):
        before = self.stack.running()
        self.assertTrue(all(before.values()))
        self.assertEqual(self.script("up").stderr, "")
        self.assertEqual(self.stack.running(), before)

    def test_up_replaces_what_is_lost(self):
        before = self.stack.running()
        self.stack.kill("helper")
        self.script("status", status=1)
        self.assertEqual(self.script("up").stderr, "dev-stack: started helper\n")
        after = self.stack.running()
        self.assertEqual({k: v for k, v in after.items() if k != "helper"},
                         {k: v for k, v in before.items() if k != "helper"})
        self.script("status")

    def test_covered_cgroup2(self):
        """A hierarchy that another mount covers is not taken for there."""
        elsewhere = self.stack.base / "cgroup2"
        elsewhere.mkdir()
        self.addCleanup(elsewhere.rmdir)
        find = f"/usr/bin/python3 -B -c 'import sys; sys.path.insert(0, \"{SOURCE}/scripts\"); import devstack; print(devstack.cgroup2_root())'"
        script = f'{find} && mount -t tmpfs none "$1" && {find} && mount -t cgroup2 none "$2" && {find} && mount -t cgroup2 none "$1" && {find}'
        place = devstack.cgroup2_root()
        result = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", place, str(elsewhere)],
                                capture_output=True, text=True, check=True)
        self.assertEqual(result.stdout.split(), [place, "None", str(elsewhere), min(place, str(elsewhere), key=len)])

    def test_restart(self):
        before = self.stack.running()
        self.script("restart")
        after = self.stack.running()
        changed = sorted(name for name in after if after[name] != before[name])
        self.assertEqual(changed, ["helper", "manager"])

    def test_run_is_the_owner(self):
        result = self.script("run", "sh", "-c", "id -u; id -g; echo $HOME; pwd; exit 3", status=3)
        owner = self.stack.owner
        self.assertEqual(result.stdout.splitlines(), [str(owner.pw_uid), str(owner.pw_gid), owner.pw_dir, "/"])
        result = self.script("run", "--", "grep", "-E", "^(NoNewPrivs|CapEff):", "/proc/self/status")
        self.assertIn("CapEff:\t0000000000000000", result.stdout)

    def test_run_passes_bytes_and_status(self):
        data = bytes(range(256)) * 300
        argv = self.argv("run", "sh", "-c", "cat; exit 9")
        done = subprocess.run(argv, input=data, capture_output=True, check=False, cwd="/", timeout=60)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (9, data, b""))
        self.script("run", "sh", "-c", "kill -TERM $$", status=128 + signal.SIGTERM)
        self.assertIn("no-such-program", self.script("run", "no-such-program", status=127).stderr)
        with subprocess.Popen(self.argv("run", "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"),
                              stdout=subprocess.PIPE, text=True, cwd="/") as running:
            self.assertEqual(running.stdout.readline(), "ready\n")
            running.terminate()
            self.assertEqual(running.wait(60), 5)

    def at_a_terminal(self, script, answer):
        """What is seen at a terminal of root's, in which a shell runs @script; @answer is typed when it says "type now"."""
        pid, master = pty.fork()
        if pid == 0:
            os.chdir("/")
            os.execv("/bin/sh", ["sh", "-c", script])
        seen = b""
        with contextlib.suppress(OSError):
            while data := os.read(master, 4096):
                if b"type now" in data and b"type now" not in seen:
                    os.write(master, answer)
                seen += data
        os.close(master)
        os.waitpid(pid, 0)
        return seen.decode()

    def test_nothing_is_typed_at_roots_terminal(self):
        """What runs as the owner pushes a command into each terminal that it can reach, while it runs and afterwards."""
        attack = ("import fcntl, os, termios\n"
                  "for fd in (0, 1, 2, os.open('/dev/tty', os.O_RDWR)):\n"
                  " for c in b'evil\\n':\n"
                  "  try: fcntl.ioctl(fd, termios.TIOCSTI, bytes([c]))\n"
                  "  except OSError: pass\n"
                  "print('tried at', os.ttyname(1))\n")
        run = shlex.join(self.argv("run", "/usr/bin/python3", "-c", attack))
        seen = self.at_a_terminal(f"tty; {run}; echo status $?; echo type now; read line; echo got:$line", b"mine\n")
        lines = seen.splitlines()
        self.assertIn("status 0", lines)
        self.assertIn("got:mine", lines)
        self.assertNotIn("got:evil", seen)
        self.assertNotIn(f"tried at {lines[0]}", lines)
        # Where only one of them is a terminal as well, in either direction.
        seen = self.at_a_terminal(f"true | {run}; {run} | cat; echo type now; read line; echo got:$line", b"mine\n")
        self.assertIn("got:mine", seen.splitlines())

    def test_run_at_a_terminal(self):
        """It is one: it has its size, what is typed arrives, and an interrupt is the command's."""
        script = "stty size; test -t 0 && test -t 1 && echo is one; trap 'echo interrupted; exit 4' INT; echo type now; read l; echo no"
        run = shlex.join(self.argv("run", "sh", "-c", script))
        seen = self.at_a_terminal(f"stty rows 33 cols 77; {run}; echo status $?; stty -a", b"\x03").splitlines()
        for line in ("33 77", "is one", "^Cinterrupted", "status 4"):
            self.assertIn(line, seen)
        self.assertTrue([line for line in seen if " icanon" in line])  # root's is as it was

    def test_folders_that_change_places(self):
        """The owner puts a link to a folder of root's where one of the owner's was, at any moment."""
        stack, uid = self.stack, self.stack.owner.pw_uid
        roots = stack.base / "roots"
        roots.mkdir(mode=0o751)
        own = stack.state / str(uid)
        swap = ("import os\nos.symlink(ROOTS, 'link')\nwhile True:\n"
                " try: os.rename('vms', 'aside'); os.rename('link', 'vms'); os.rename('vms', 'link'); os.rename('aside', 'vms')\n"
                " except OSError:\n"  # root has made it in between
                "  os.path.islink('vms') or os.rmdir('vms'); os.path.exists('aside') and os.rename('aside', 'vms')\n")
        child = subprocess.Popen(["/usr/bin/python3", "-c", f"ROOTS = {str(roots)!r}\n{swap}"], cwd=own, user=uid,
                                 group=stack.owner.pw_gid, extra_groups=[])
        refused = 0
        try:
            for _ in range(3000):
                try:
                    stack.prepare()
                except (devstack.StackError, OSError):
                    refused += 1
            self.assertIsNone(child.poll())
        finally:
            child.kill()
            child.wait()
            (own / "link").unlink(missing_ok=True)
            if (own / "vms").is_symlink():
                (own / "vms").unlink()
            if (own / "aside").exists():
                (own / "aside").rename(own / "vms")
        self.assertGreater(refused, 0)
        st = roots.stat()
        self.assertEqual((st.st_uid, st.st_mode & 0o7777), (0, 0o751))
        roots.rmdir()
        stack.prepare()

    def test_foreign_pids_are_left_alone(self):
        """A recorded pid with another start time is another process."""
        other = subprocess.Popen(["sleep", "60"])
        try:
            self._pretend(other.pid, devstack.process_start(other.pid) + 1)
            self.assertIsNone(self.stack.pid("stranger"))
            self.stack.stop("stranger")
            time.sleep(0.1)
            self.assertIsNone(other.poll())
            self._pretend(other.pid, devstack.process_start(other.pid))
            self.assertEqual(self.stack.pid("stranger"), other.pid)
        finally:
            other.kill()
            other.wait()
            os.unlink(f"{self.stack.directory}/stranger.pid")

    def _pretend(self, pid, start):
        with open(f"{self.stack.directory}/stranger.pid", "w", encoding="ascii") as f:
            json.dump({"pid": pid, "start": start}, f)


if __name__ == "__main__":
    main()
