#!/usr/bin/python3
"""banger vm exec and vm run through the agent: the manager is the mock, which runs the command in the guest's place.

Run by meson. What the same commands do through ssh is in test_commands.py, whose mock has no agent.
"""
import contextlib
import fcntl
import hashlib
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unittest

sys.dont_write_bytecode = True
import test_commands  # noqa: E402
from test_commands import BANGER  # noqa: E402


class Exec(test_commands.Case):
    def setUp(self):
        super().setUp()
        (self.state / "agent").touch()
        self.run_banger("vm", "create", "web", "--start", "-q")

    def session(self, *words, **kwargs):
        process = subprocess.Popen([BANGER, "vm", "exec", "web", "--", *words], env=self.env, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **kwargs)
        self.assertEqual(process.stdout.readline(), "up\n")
        return process

    def ends(self, process, status, text=None):
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (status, ""), err)
        if text is not None:
            self.assertEqual(err, text)

    def test_streams_words_and_status(self):
        script = "import os, sys\nfor a in sys.argv[1:]: print(ascii(a))\nprint('err', file=sys.stderr)\nsys.exit(7)"
        out, err = self.run_banger("vm", "exec", "web", "--", "/usr/bin/python3", "-c", script, *test_commands.Run.AWKWARD, status=7)
        self.assertEqual((out.splitlines(), err), ([ascii(a) for a in test_commands.Run.AWKWARD], "err\n"))
        for command, status in [("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -INT $$", 130)]:
            self.assertEqual(self.run_banger("vm", "exec", "web", "--", "sh", "-c", command, status=status), ("", ""))
        self.assertEqual(self.run_banger("vm", "exec", "web", "--", "head", "-c2", stdin=b"abcd" * 100000)[0], "ab")
        self.assertEqual(self.run_banger("vm", "exec", "web", "-n", "--", "cat", stdin=b"not read")[0], "")
        self.assertFalse((self.state / "ssh").exists())

    def test_run(self):
        out, err = self.run_banger("vm", "run", "--rm", "-q", "--env", "A=1", "--", "sh", "-c", "echo $A; exit 4", status=4)
        self.assertEqual((out, err), ("1\n", ""))
        self.assertEqual(sorted(self.vms()), ["web"])

    def test_options(self):
        out, _ = self.run_banger("vm", "exec", "web", "--cwd", self.dir.name, "--env", "A=b c", "--env", "EMPTY=", "--env", "OWN", "--user", "ann:staff",
                                 "-i", "--", "sh", "-c", 'pwd; echo "$A,${EMPTY-unset},$OWN"', OWN="mine")
        self.assertEqual(out, self.dir.name + "\nb c,,mine\n")
        options = self.calls("Exec")[0]["arguments"][-1]
        self.assertEqual((options["user"], options["environment"]), ("ann:staff", ["A%3Db%20c", "EMPTY%3D", "OWN%3Dmine"]))
        for words, text in ((["--env", "=x"], "no name"), (["--env", "NONE_SUCH"], "no such variable"), (["--env", ""], "--env"),
                            (["--user", ""], "--user"), (["-i", "-n"], "--no-stdin")):
            self.assertIn(text, self.run_banger("vm", "exec", "web", *words, "--", "true", status=2)[1])
            self.assertIn(text, self.run_banger("vm", "run", "--rm", *words, "--", "true", status=2)[1])
        self.assertEqual(len(self.calls("CreateVM")), 1)

    def test_what_the_image_says(self):
        """Of each command but a shell, and of a command where none is given."""
        out, _ = self.run_banger("vm", "run", "--rm", "-q", "--image", "odd", "--env", "A=1")
        self.assertEqual(out, "of the image: it's 1\n")
        self.run_banger("vm", "run", "--rm", "-q", "--image", "odd", "--", "true")
        self.run_banger("vm", "run", "--rm", "-q", "--env", "SHELL=/bin/sh", stdin=b"exit 3\n", status=3)
        self.run_banger("vm", "exec", "web", "--", "true")
        seen = [call["arguments"][-2:] for call in self.calls("Exec")]
        self.assertEqual([(words, "image-settings" in options, options.get("user")) for words, options in seen],
                         [([], True, None), (["true"], True, None), (["/bin/sh", "%2Dc", "exec%20%22%24SHELL%22%20-l"], False, None), (["true"], True, None)])

    def test_older_guest(self):
        """By ssh; what ssh cannot do is refused."""
        (self.state / "agent").unlink()
        self.assertEqual(self.run_banger("vm", "exec", "web", "--", "echo", "hi")[0], "hi\n")
        self.assertEqual(len(self.ssh_argv()), 1)
        self.assertIn("older banger", self.run_banger("vm", "exec", "web", "--user", "ann", "--", "true", status=None)[1])
        self.assertEqual(len(self.ssh_argv()), 1)

    def test_binary_both_ways(self):
        data = os.urandom(1 << 20) * 24
        done = subprocess.run([BANGER, "vm", "exec", "web", "--", "cat"], input=data, env=self.env, capture_output=True, timeout=60, check=True)
        self.assertEqual(hashlib.sha256(done.stdout).digest(), hashlib.sha256(data).digest())
        with open(self.state / "file", "wb+") as file:
            subprocess.run([BANGER, "vm", "exec", "web", "--", "cat"], input=data, stdout=file, env=self.env, timeout=60, check=True)
            file.seek(0)
            self.assertEqual(hashlib.sha256(file.read()).digest(), hashlib.sha256(data).digest())

    def test_nobody_reads(self):
        """Neither our stdout nor the command's stdin: the rest goes on."""
        done = subprocess.run(["sh", "-c", '"$0" vm exec web -- yes | head -c 100000 | wc -c', BANGER], env=self.env, capture_output=True,
                              timeout=60, check=True)
        self.assertEqual(done.stdout.split(), [b"100000"])
        stuck = subprocess.Popen([BANGER, "vm", "exec", "web", "--", "yes"], env=self.env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        time.sleep(0.5)
        stuck.send_signal(signal.SIGTERM)
        self.assertEqual(stuck.wait(60), 143)
        stuck.stdout.close()

    def test_loss_on_our_side(self):
        """A full disk, a stdin that cannot be read: no success, whatever the command made of what it got."""
        full = "stdout: No space left on device"
        for script, streams, status, text in (("echo hi", "</dev/null >/dev/full", 1, full),
                                              ("echo hi; exit 7", "</dev/null >/dev/full", 7, full),
                                              ("cat", "</", 1, "stdin: Is a directory"),
                                              ("cat", "<&-", 0, ""), ("true", ">&-", 0, "")):
            done = subprocess.run(["sh", "-c", f'exec "$0" vm exec web -- sh -c "$1" {streams}', BANGER, script],
                                  env=self.env, capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stdout), (status, ""), done)
            self.assertTrue(text in done.stderr if text else done.stderr == "", done)

    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            process = self.session("sh", "-c", "echo up; exec sleep 1000")
            process.send_signal(number)
            self.ends(process, 128 + number, "")
        process = self.session("sh", "-c", "trap 'exit 9' INT; echo up; sleep 1000 & wait")
        process.send_signal(signal.SIGINT)
        self.ends(process, 9, "")

    def test_command_that_does_not_want_to_end(self):
        for times in (1, 2):
            process = self.session("sh", "-c", "trap '' INT TERM HUP; echo up; sleep 1000")
            begun = time.monotonic()
            for _ in range(times):
                process.send_signal(signal.SIGINT)
                time.sleep(0.3)
            self.ends(process, 130, "")
            self.assertGreater(time.monotonic() - begun, 2.5 if times == 1 else 0)

    def test_client_is_killed(self):
        process = self.session("sh", "-c", f"echo $$ > '{self.state}/pid'; echo up; exec sleep 1000")
        process.kill()
        process.communicate()
        pid = int((self.state / "pid").read_text())
        end = time.monotonic() + 60
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                self.assertLess(time.monotonic(), end)
                time.sleep(0.02)

    def test_vm_ends(self):
        for verb, text in ((["kill"], "web was stopped meanwhile"), (["delete", "-f"], "web was deleted meanwhile")):
            process = self.session("sh", "-c", "echo up; exec sleep 1000")
            self.run_banger("vm", *verb, "web", "-q")
            self.ends(process, 70, f"banger: {text}\n")
            self.run_banger("vm", "start" if verb == ["kill"] else "list", *(["web", "-q"] if verb == ["kill"] else []))

    def test_manager_ends(self):
        process = self.session("sh", "-c", "echo up; exec sleep 20")
        self.mock.kill()
        self.mock.wait()
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 70)

    def test_terminal(self):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(BANGER, [BANGER, "vm", "exec", "web", "--", "sh", "-c", "stty size; read x; stty size; echo got:$x; read y"], self.env)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
        seen = b""

        def until(text):
            nonlocal seen
            end = time.monotonic() + 60
            while text not in seen:
                self.assertLess(time.monotonic(), end, seen)
                if select.select([terminal], [], [], 0.1)[0]:
                    seen += os.read(terminal, 4096)

        until(b"\n")
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        end = time.monotonic() + 60
        while not self.calls("Resize"):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)
        os.write(terminal, b"word\r")
        until(b"40 120")
        until(b"got:word")
        os.write(terminal, b"\x03")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 130)
        self.assertTrue(termios.tcgetattr(terminal)[3] & termios.ICANON)
        os.close(terminal)

    def test_ended_on_a_terminal(self):
        """Whichever signal ends us leaves the terminal as it was."""
        for number in (signal.SIGTERM, signal.SIGQUIT):
            pid, terminal = pty.fork()
            if pid == 0:
                os.execve(BANGER, [BANGER, "vm", "exec", "web", "--", "sleep", "1000"], self.env)
            end = time.monotonic() + 60
            while termios.tcgetattr(terminal)[3] & termios.ICANON:
                self.assertLess(time.monotonic(), end)
                time.sleep(0.02)
            os.kill(pid, number)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 128 + number)
            self.assertTrue(termios.tcgetattr(terminal)[3] & termios.ICANON)
            os.close(terminal)


if __name__ == "__main__":
    unittest.main()
