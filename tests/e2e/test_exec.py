"""What a command in a real guest may count on: its bytes, words, terminal and end; and what many of them leave: nothing.

Run by meson test as root. One guest for all of it.
Never talks to anything but this stack's guests.
"""

import concurrent.futures
import fcntl
import hashlib
import os
import pty
import resource
import signal
import struct
import subprocess
import termios
import threading
import time

from guest import CallError, GuestTest, kill_now, main
from commands import Commands, Programs, status

MIB = 1 << 20
MANY = 300
FLAT_KIB = 4096  # that a program may take more of memory; what goes through it is 16 times as much


class Exec(GuestTest):
    def test_commands(self):
        self.banger("vm", "run", "--name", "host", "--detach")
        self.commands = Commands(self.stack, "host")
        self.addCleanup(self.commands.close)
        self.programs = Programs(self.commands, self.vm("host")["Pid"])
        for check in (self._surroundings, self._bytes, self._input, self._at_once, self._children, self._capture, self._signals, self._words,
                      self._words_too_long, self._terminal, self._many):
            with self.subTest(check.__name__):
                begun = time.monotonic()
                check()
                print(f"# {check.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
        self._guest_ends()

    def start(self, *words, **kwargs):
        kwargs = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | kwargs
        return subprocess.Popen([self.stack.program("banger"), "vm", "exec", "host", *words], env=self.stack.owner_environment(), cwd="/",
                                **self.stack.as_owner(), **kwargs)

    def session(self, *words):
        """A command under way: it has printed "up"."""
        run = self.start("--", *words, stderr=subprocess.PIPE, text=True)
        self.assertEqual(run.stdout.readline(), "up\n")
        return run

    def ends(self, run, number, text=""):
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, number, err)
        self.assertIn(text, err)

    def _surroundings(self):
        self.assertEqual(self.guest("host", "cat", "/proc/self/cgroup").strip(), "0::/init.scope")  # the agent is no session of sshd
        self.assertEqual(self.banger("vm", "exec", "host", "--cwd", ".ssh", "--", "pwd").stdout, "/root/.ssh\n")
        out = self.banger("vm", "exec", "host", "--user", "nobody", "--cwd", "/usr", "--env", "A=b c", "--", "sh", "-c", 'id -un; pwd; echo "$A"').stdout
        self.assertEqual(out, "nobody\n/usr\nb c\n")
        self.guest("host", "sh", "-c", "echo 'OF_FILE=\"a b\"' >> /etc/environment; echo LANG=de_DE.UTF-8 > /etc/default/locale")
        self.assertEqual(self.guest("host", "sh", "-c", 'echo "$OF_FILE $LANG"'), "a b de_DE.UTF-8\n")

    def _bytes(self):
        """Any, both ways and on both outputs."""
        data = os.urandom(MIB) * 16
        done = self.start("--", "tee", "/dev/stderr", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for got in done.communicate(data, timeout=240):
            self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(data).digest())
        self.assertEqual(done.returncode, 0)

    def _input(self):
        """64 MiB that no program between keeps; then none at all."""
        digest, block = hashlib.sha256(), os.urandom(MIB)
        run = self.start("--", "sha256sum", stdin=subprocess.PIPE)
        self.programs.forget_most()
        before = self.programs.most()
        for _ in range(64):
            run.stdin.write(block)
            digest.update(block)
        run.stdin.flush()
        after = self.programs.most() | {"banger": status(run.pid, "VmHWM")}
        out, _ = run.communicate(timeout=240)
        self.assertEqual((out.split()[0].decode(), run.returncode), (digest.hexdigest(), 0))
        for name, kib in after.items():
            self.assertLess(kib, before.get(name, 12288) + FLAT_KIB, name)
        closed = ["sh", "-c", 'exec "$0" vm exec host -- sh -c "cat; echo end" <&-', self.stack.program("banger")]
        done = subprocess.run(closed, env=self.stack.owner_environment(), cwd="/", capture_output=True, text=True, timeout=60, check=False,
                              **self.stack.as_owner())
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "end\n", ""))

    def _at_once(self):
        """Ten, of which nobody reads one and another reads nothing: the others are not held up."""
        stuck = self.start("--", "yes")
        deaf = self.start("--", "sh", "-c", "exec sleep 1000", stdin=subprocess.PIPE)
        feeder = threading.Thread(target=self._feed, args=(deaf.stdin,))
        feeder.start()
        runs = [self.start("--", "sh", "-c", f"cat; head -c 300000 /dev/zero; exit {number}", stdin=subprocess.PIPE) for number in range(8)]
        for number, run in enumerate(runs):
            self.assertEqual((len(run.communicate(b"x" * 100000, timeout=600)[0]), run.returncode), (400000, number))
        for run in (stuck, deaf):
            self.assertIsNone(run.poll())
            run.kill()
        stuck.communicate()
        feeder.join()
        deaf.stdout.close()
        deaf.wait()

    @staticmethod
    def _feed(pipe):
        try:
            while True:
                pipe.write(bytes(65536))
        except BrokenPipeError:
            pass
        try:
            pipe.close()
        except BrokenPipeError:
            pass

    def _children(self):
        """What is left running keeps nobody waiting, and goes on."""
        begun = time.monotonic()
        self.assertEqual(self.guest("host", "sh", "-c", "setsid sleep 4710 & echo left"), "left\n")
        self.assertLess(time.monotonic() - begun, 600)
        self.guest("host", "pkill", "-f", "sleep 4710")

    def _capture(self):
        for words, number in ((["sh", "-c", "echo o; echo e >&2; exit 3"], 3), (["sh", "-c", "echo o; echo e >&2; kill $$"], 143)):
            self.assertEqual(self.commands.capture(*words), (b"o\n", b"e\n", number))

    def _signals(self):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup had it ignored for us, and for all that we start
        script = "sleep 4711 & setsid sleep 4712 & echo up; sleep 4713"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            run = self.session("sh", "-c", script)
            run.send_signal(number)
            self.ends(run, -9 if number == signal.SIGKILL else 128 + number)
            end = time.monotonic() + 60
            while self.guest("host", "sh", "-c", "pgrep -f 'sleep 471[123]' | grep -v $$ || true").strip():
                self.assertLess(time.monotonic(), end, number)

    def _words(self):
        resource.setrlimit(resource.RLIMIT_STACK, (64 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
        words = ["x" * 131071] * 16
        out = self.guest("host", "sh", "-c", "echo $#; printf %s \"$@\" | wc -c", "sh", *words)
        self.assertEqual(out.split(), ["16", str(16 * 131071)])
        out = self.guest("host", "printf", "%s", "\xe4'$ " * 20000)
        self.assertEqual(out, "\xe4'$ " * 20000)

    def _words_too_long(self):
        """It is said which, or that there are too many: by the guest, or before it is asked."""
        _, err, end = self.commands.capture("true", "x" * 131072)
        self.assertEqual((end, err), (126, b"banger-guest: argument 1 ('xxxxxxxxxxxxxxxxxxxx...') has 131072 bytes, at most 131071 can be given\n"))
        _, err, end = self.commands.capture("true", *["x" * 131071] * 50)
        self.assertEqual(end, 126)
        self.assertRegex(err, rb"^banger-guest: 6553605 bytes of arguments and \d+ of environment are more than the kernel takes\n$")
        with self.assertRaisesRegex(CallError, r"the command has \d+ bytes of arguments, at most 8388608 can be sent"):
            self.commands.capture("true", *["x" * 131071] * 65)

    def _terminal(self):
        """The guest's has the host's size, and gets it again when it changes."""
        script = 'stty size; echo $TERM; while [ "$(stty size)" = "31 97" ]; do sleep 0.05; done; stty size; read x; echo "got $x"; exit 3'
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
        run = subprocess.Popen(["setsid", "--ctty", self.stack.program("banger"), "vm", "exec", "host", "--", "sh", "-c", script], cwd="/",
                               env=self.stack.owner_environment(), stdin=theirs, stdout=theirs, stderr=theirs, **self.stack.as_owner())
        os.close(theirs)
        self.assertEqual([self._line(ours), self._line(ours)], ["31 97", "xterm-256color"])
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.assertEqual(self._line(ours), "40 120")
        os.write(ours, b"a word\r")
        self.assertEqual([self._line(ours), self._line(ours), run.wait(60)], ["a word", "got a word", 3])

    @staticmethod
    def _line(terminal):
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(terminal, 1)
        return text.decode().strip()

    def _many(self):
        """Short ones in a row, and four at once: nothing has grown, neither memory nor descriptors."""
        for _ in range(50):
            self.commands.capture("true")
        before = self.programs.sizes()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for answer in pool.map(lambda _: self.commands.capture("true"), range(MANY)):
                self.assertEqual(answer, (b"", b"", 0))
        end = time.monotonic() + 60
        while max(fds for _, fds in self.programs.growth(before).values()) > 0:
            self.assertLess(time.monotonic(), end, self.programs.growth(before))
        growth = self.programs.growth(before)
        for name, (kib, _) in growth.items():
            self.assertLess(kib or 0, 512, (name, growth))

    def _guest_ends(self):
        """In the middle of a command, of a stream and of a call: each is told what happened."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            captured = pool.submit(self.commands.capture, "sh", "-c", "echo up; exec sleep 1000")
            runs = [self.session("sh", "-c", "echo up; exec sleep 1000"), self.session("sh", "-c", "echo up; exec cat /dev/zero")]
            flooded = threading.Thread(target=lambda: [None for _ in iter(lambda: runs[1].stdout.buffer.read(MIB), b"")])
            flooded.start()
            kill_now(self.vm("host")["Pid"])
            flooded.join()
            for run in runs:
                self.ends(run, 70, "host has ended: the VMM")
            with self.assertRaisesRegex(CallError, "the connection to the guest was lost"):
                captured.result(60)
        self.assert_nothing_held()


if __name__ == "__main__":
    main()
