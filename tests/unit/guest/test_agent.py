#!/usr/bin/python3
"""The built agent on this host, in namespaces of its own, with a unix socket in place of vsock.

Usage: test_agent.py BANGER_GUEST. Needs root. The agent may neither set this host's clock nor restart it: those two
capabilities are taken from it. Never asks it for a shutdown or a power-off."""

import contextlib
import ctypes
import hashlib
import itertools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "engine"))
import tap  # noqa: E402

INSIDE = "BANGER_AGENT_INSIDE"
PR_CAPBSET_DROP = 24
CAP_SYS_BOOT, CAP_SYS_TIME = 22, 25

if os.geteuid() != 0:
    print("1..0 # SKIP needs root")
    sys.exit(0)
if INSIDE not in os.environ:
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
                          "--propagation", "private", sys.executable, *sys.argv])

GUEST, = tap.arguments(1)
LIBC = ctypes.CDLL(None, use_errno=True)


def setUpModule():
    subprocess.run(["mount", "-t", "tmpfs", "run", "/run"], check=True)
    os.mkdir("/run/banger")
    for device in ("/dev/kmsg", "/dev/console"):
        if os.path.exists(device):
            subprocess.run(["mount", "--bind", "/dev/null", device], check=True)


def drop_capabilities():
    for capability in (CAP_SYS_BOOT, CAP_SYS_TIME):
        if LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")

    def ask(self, line):
        self.socket.sendall(line.encode() + b"\n")
        return self.lines.readline().decode().rstrip("\n")

    def close(self):
        self.lines.close()
        self.socket.close()


class Fixture(unittest.TestCase):
    prepare = staticmethod(drop_capabilities)

    def setUp(self):
        self.path = f"/run/agent-{id(self)}"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(128)
        self.process = subprocess.Popen([GUEST, "agent", str(self.listener.fileno()), "other", "boot-1"],
                                        pass_fds=[self.listener.fileno()], preexec_fn=self.prepare)
        self.listener.close()
        self.addCleanup(self.end)

    def agents(self):
        """Process ids of the agent, its parent first."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                    state, parent = file.read().rsplit(")", 1)[1].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words[1:2] == [b"agent"] and b"boot-1" in words and state != "Z":
                found.append((int(pid), int(parent)))
        pids = [pid for pid, _ in found]
        return sorted(pids, key=lambda pid: dict(found)[pid] in pids)

    def two(self, other_than=None):
        """Both processes; they may be about to be started."""
        end = time.monotonic() + 60
        while len(self.agents()) != 2 or self.agents() == other_than:
            self.assertLess(time.monotonic(), end, self.agents())
            time.sleep(0.02)
        return self.agents()

    def end(self):
        while self.agents():
            for pid in self.agents():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def hello(self):
        client = Client(self.path)
        self.addCleanup(client.close)
        first = client.ask("hello h1")
        if first == "ready boot-1":  # before it is asked for; docs/guest.md: dropped, as it comes again after the answer
            first = client.lines.readline().decode()
        self.assertRegex(first, "^h1 ok banger-guest ")
        return client


class Agent(Fixture):
    def test_host_leaves_before_the_answer(self):
        """Neither a closed connection nor a hang-up ends it."""
        self.hello()
        before = self.two()
        for number in range(20):
            client = Client(self.path)
            client.socket.sendall(f"sync s{number}\n".encode() + b"ping p\n" * 50)
            client.close()
            os.kill(before[1], signal.SIGHUP)
        self.assertEqual(self.hello().ask("ping p"), "p ok")
        self.assertEqual(self.two(), before)

    def test_started_again(self):
        """Whichever of the two is killed, and both in turn: the host is served on."""
        for victim in (1, 1, 0, 1, 0, 0):
            self.hello()
            before = self.two()
            os.kill(before[victim], signal.SIGKILL)
            self.served_again()
            self.two(other_than=before)

    def served_again(self):
        """A connection that the one that is about to go has taken is lost: as the host does, try again."""
        end = time.monotonic() + 60
        while True:
            client = Client(self.path)
            try:
                if client.ask("sync s") == "s ok":
                    return
            except OSError:
                pass
            finally:
                client.close()
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def test_clock(self):
        client = self.hello()
        token, word, usec = client.ask("clock c1").split()
        self.assertEqual((token, word), ("c1", "ok"))
        self.assertLess(abs(time.time() - int(usec) / 1e6), 60)
        for bad in ("x", "-", "1x", "0x10", "1" * 19, "1" * 40, "999999999999999999"):
            self.assertRegex(client.ask(f"clock c2 {bad}"), "^c2 error")
        # of a whole microsecond, which this one has no right to
        self.assertRegex(client.ask("clock c3 1"), "^c3 error")


    def test_names(self):
        """In /etc/hosts, each time as told last; what is not ours stays, and nothing else is written there."""
        hosts = "127.0.0.1\tlocalhost\n10.0.0.9 mine # of banger's\n127.0.1.1\tweb # banger\n"
        subprocess.run(["mount", "-t", "tmpfs", "etc", "/etc"], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", "/etc"], check=True)
        read, write = pathlib.Path("/etc/hosts").read_text, pathlib.Path("/etc/hosts").write_text
        write(hosts)
        client = self.hello()
        most = ",".join(f"255.255.255.{100 + i}={i:02}{'x' * 61}" for i in range(34))
        rows = [("10.213.0.5=db,10.213.0.1=host", "10.213.0.5\tdb.vm # banger\n10.213.0.1\thost.vm # banger\n"),
                (most, most.replace(",", ".vm # banger\n").replace("=", "\t") + ".vm # banger\n"), ("-", "")]
        for number, (names, lines) in enumerate(rows):
            self.assertEqual(client.ask(f"names n{number} {names}"), f"n{number} ok")
            self.assertEqual(read(), hosts + lines)
        for bad in ("", "db", "10.213.0.5=", "=db", "10.213.0.5=d.b", "10.213.0.5=db 1.2.3.4=x", "10.213.0.5=db\tlocalhost",
                    "10.213.0.5=db\r", most + ",1.2.3.4=x", "x" * 3000, "--", "-,-"):
            self.assertRegex(client.ask(f"names bad {bad}"), "^bad error names are")
        self.assertEqual((read(), os.listdir("/etc")), (hosts, ["hosts"]))
        os.remove("/etc/hosts")
        os.mkdir("/etc/hosts")
        self.assertRegex(client.ask("names n 10.213.0.5=db"), "^n error /etc/hosts cannot be written")
        os.rmdir("/etc/hosts")
        self.assertEqual(client.ask("names n 10.213.0.5=db"), "n ok")
        self.assertRegex(read(), "^127.0.0.1\tlocalhost\n.*\n10.213.0.5\tdb.vm # banger\n$")


class Command:
    """One that the agent runs, as the manager has it run."""

    numbers = itertools.count()

    def __init__(self, path, *arguments, streams=("stdin", "stdout", "stderr"), request=None, **options):
        token = f"x{next(self.numbers)}"
        self.streams = {}
        for name in streams:
            self.streams[name] = self.connect(path)
            self.streams[name].sendall(f"stream {token} {name}\n".encode())
            self.expect(self.line(self.streams[name]), f"{token} ok")
        words = [f"arg={word}" for word in arguments] + [f"env={word}" for word in options.pop("env", ())]
        words += [f"{key}={value}" for key, value in options.items()]
        request = b"".join(os.fsencode(word) + b"\0" for word in words) if request is None else request
        self.control = self.connect(path)
        self.control.sendall(f"exec {token} {len(request)}\n".encode() + request)
        self.answer = self.line(self.control).removeprefix(f"{token} ")

    @staticmethod
    def connect(path):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(path)
        return connection

    @staticmethod
    def expect(seen, wanted):
        assert seen == wanted, (seen, wanted)

    @staticmethod
    def line(connection):
        text = b""
        while not text.endswith(b"\n"):
            byte = connection.recv(1)
            if not byte:
                break
            text += byte
        return text.decode().rstrip("\n")

    def read(self, name, count=None):
        """All of it, or as much as @count."""
        data = bytearray()
        while count is None or len(data) < count:
            piece = self.streams[name].recv(65536 if count is None else count - len(data))
            if not piece:
                break
            data += piece
        return bytes(data)

    def ended(self):
        """What it wrote, and how it ended."""
        return self.read("stdout"), self.read("stderr") if "stderr" in self.streams else b"", self.line(self.control)

    def close(self):
        for connection in (self.control, *self.streams.values()):
            connection.close()


class Sessions(Fixture):
    def run_(self, *arguments, **options):
        command = Command(self.path, *arguments, **options)
        self.addCleanup(command.close)
        return command

    def until(self, condition, what):
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.02)

    def test_hello_tells(self):
        client = Client(self.path)
        self.addCleanup(client.close)
        self.assertIn("exec", client.ask("hello h").split()[4:])

    def test_streams_and_status(self):
        command = self.run_("sh", "-c", "cat; echo err >&2; echo up > /dev/stderr; exit 7")
        self.assertEqual(command.answer, "ok")
        command.streams["stdin"].sendall(b"\0in\xff")
        command.streams["stdin"].close()
        self.assertEqual(command.ended(), (b"\0in\xff", b"err\nup\n", "exit 7"))

    def test_without_streams(self):
        command = self.run_("sh", "-c", "cat; echo out", streams=["stdout"])
        self.assertEqual(command.ended(), (b"out\n", b"", "exit 0"))

    def test_binary(self):
        """Both ways at once, more than anything between holds."""
        data = os.urandom(1 << 20) * 32
        command = self.run_("cat")
        feeder = threading.Thread(target=lambda: (command.streams["stdin"].sendall(data),
                                                  command.streams["stdin"].shutdown(socket.SHUT_WR)))
        feeder.start()
        self.assertEqual(hashlib.sha256(command.read("stdout")).digest(), hashlib.sha256(data).digest())
        feeder.join()
        self.assertEqual(command.line(command.control), "exit 0")

    def test_surroundings(self):
        text = 'pwd; id -u; id -g; id -G; echo "$HOME $USER $A"; ulimit -n; cat /proc/self/oom_score_adj; ls /proc/self/fd; umask'
        command = self.run_("sh", "-c", text, cwd="/usr", env=["A=b c", "A=d"])
        self.assertEqual(command.ended()[0].decode().split("\n"),
                         ["/usr", "0", "0", "0", "/root root d", "1024", "0", "0", "1", "2", "3", "0022", ""])
        command = self.run_("sh", "-c", 'id -u; id -g; pwd; echo "$USER"; cat /etc/shadow', user="daemon:1234", cwd="/")
        out, err, end = command.ended()
        self.assertEqual((out, end), (b"1\n1234\n/\ndaemon\n", "exit 1"))
        self.assertIn(b"denied", err)
        for cwd, seen in ((".", "/usr/sbin"), ("../share", "/usr/share")):  # from the user's home
            self.assertEqual(self.run_("pwd", user="daemon", cwd=cwd).ended()[0].decode(), seen + "\n")
        command = self.run_("id", user="4321")
        self.assertRegex(command.ended()[0], b"^uid=4321 gid=4321 groups=4321")

    @contextlib.contextmanager
    def file(self, path, text):
        """A file of the guest's, in this namespace; made where there is none, and then it stays empty."""
        if there := not os.path.exists(path):
            open(path, "w").close()
        with open(f"/run/{id(text)}", "w", encoding="utf-8") as file:
            file.write(text)
        subprocess.run(["mount", "--bind", file.name, path], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", path], check=True)
            if there:
                os.unlink(path)

    def test_environment_of_a_login(self):
        """What the guest's files say, the user's own above that, the request's above all; read for each command."""
        words = ["sh", "-c", 'echo "$PATH|$LANG|$LC_TIME|$OF_FILE|$HOME|$A"']
        standard = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        with self.file("/etc/environment", ""), self.file("/etc/default/locale", ""):
            self.assertEqual(self.run_(*words).ended()[0].decode(), f"{standard}||||/root|\n")
        with self.file("/etc/environment", 'PATH="/usr/bin:/bin"\nLANG=C\nexport OF_FILE=x # y\nHOME=/nowhere\nA=file\nnothing\n'), \
                self.file("/etc/default/locale", "LANG='de_DE.UTF-8'\nLC_TIME=C.UTF-8\n"):
            self.assertEqual(self.run_(*words, env=["A=asked"]).ended()[0].decode(), "/usr/bin:/bin|de_DE.UTF-8|C.UTF-8|x|/root|asked\n")

    def test_words_that_are_too_long(self):
        """It is said which; one byte less is taken."""
        for words, options, text in ((["true", "a", "x" * 131072], {}, b"argument 2 ('xxxxxxxxxxxxxxxxxxxx...') has 131072 bytes, at most 131071"),
                                     (["true"], {"env": ["A=b", "LONG=" + "x" * 131072]}, b"('LONG=xxxxxxxxxxxxxxx...') has 131077 bytes"),
                                     (["true"] + ["x" * 131071] * 60, {}, b"7864325 bytes of arguments and ")):
            with self.subTest(text=text):
                command = self.run_(*words, **options)
                self.assertEqual(command.answer, "ok")
                out, err, end = command.ended()
                self.assertEqual((out, end), (b"", "exit 126"))
                self.assertIn(text, err)
        self.assertEqual(self.run_("true", "x" * 131071, env=["A=" + "x" * 131069]).ended(), (b"", b"", "exit 0"))

    def test_what_cannot_be_run(self):
        for arguments, options, status, text in ((["no-such-program"], {}, 127, b"no-such-program"), (["/etc"], {}, 126, b"/etc"),
                                                 (["true"], {"cwd": "/nowhere"}, 125, b"/nowhere"),
                                                 (["true"], {"user": "nobody-such"}, 125, b"nobody-such")):
            with self.subTest(text=text):
                out, err, end = self.run_(*arguments, **options).ended()
                self.assertEqual((out, end), (b"", f"exit {status}"))
                self.assertIn(text, err)

    def test_requests_that_are_none(self):
        for request in (b"arg=true", b"arg=\0", b"cwd=/\0", b"arg\0", b"other=1\0arg=true\0", b"arg=a\0env=novalue\0", b"arg=a\0env==x\0",
                        b"arg=a\0terminal=1\0", b"arg=a\0terminal=70000x1\0", b"arg=a\0user=\0", b"\0"):
            with self.subTest(request=request):
                self.assertRegex(self.run_(request=request).answer, "^error ")
        for length in ("0", "-1", "x", "99999999", ""):
            client = Client(self.path)
            self.assertRegex(client.ask(f"exec t {length}"), "^t error ")
            client.close()
        client = Client(self.path)
        self.assertRegex(client.ask("stream t stdlog"), "^t error ")
        client.socket.sendall(b"stream t stdin\nmore")
        self.assertEqual(client.lines.read(), b"t ok\n")
        client.close()
        self.assertEqual(self.run_("true").ended()[2], "exit 0")

    def test_long_arguments(self):
        words = [f"{number:07}" for number in range(20000)] + ["x" * 131071]
        command = self.run_("sh", "-c", 'echo "$# ${#20001}"', "sh", *words)
        self.assertEqual(command.ended(), (b"20001 131071\n", b"", "exit 0"))

    def test_signals(self):
        command = self.run_("sh", "-c", "trap 'echo int; exit 3' INT; sleep 1000 & echo $!; wait; wait")
        child = int(command.read("stdout", 1) + self.rest_of_line(command))
        command.control.sendall(b"signal 99\nsignal x\nsomething\n" + b"x" * 500 + b"\nsignal 2\n")
        self.assertEqual(command.ended(), (b"int\n", b"", "exit 3"))
        os.kill(child, 0)  # background jobs of a shell ignore SIGINT, as ever
        command = self.run_("sh", "-c", "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait")
        children = [int(self.rest_of_line(command)) for _ in range(2)]
        command.control.sendall(b"signal 15\n")
        self.assertEqual(command.line(command.control), "killed 15")
        os.kill(child, signal.SIGKILL)
        self.gone(*children)

    def rest_of_line(self, command):
        text = b""
        while not text.endswith(b"\n"):
            text += command.read("stdout", 1)
        return text

    def gone(self, *pids):
        def is_gone(pid):
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                    return file.read().rsplit(")", 1)[1].split()[0] == "Z"
            except (FileNotFoundError, ProcessLookupError):
                return True
        self.until(lambda: all(map(is_gone, pids)), f"{pids} are still there")

    def test_host_leaves(self):
        """The command and its children end, those too that do not want to hear of it."""
        command = self.run_("sh", "-c", "trap '' TERM HUP; sleep 1000 & echo $!; echo $$; wait; sleep 1000")
        pids = [int(self.rest_of_line(command)) for _ in range(2)]
        command.control.close()
        self.gone(*pids)
        command = self.run_("sh", "-c", "(trap '' HUP; setsid sleep 1000) & echo $!; wait", streams=("stdin", "stdout"), terminal="1x1")
        pid = int(self.rest_of_line(command))
        command.close()
        self.gone(pid)

    def test_nobody_reads_it_any_more(self):
        command = self.run_("yes")
        command.read("stdout", 10)
        command.streams["stdout"].close()
        self.assertEqual(command.line(command.control), f"killed {int(signal.SIGPIPE)}")

    def test_it_reads_no_more(self):
        command = self.run_("head", "-c", "5")
        with self.assertRaises(OSError):
            while True:
                command.streams["stdin"].sendall(b"x" * 65536)
        self.assertEqual(command.ended(), (b"xxxxx", b"", "exit 0"))

    def test_children_are_left(self):
        """A service that it has started keeps nobody waiting, and what was written before the end is there."""
        command = self.run_("sh", "-c", "(sleep 1000; echo late) & echo $!; head -c 100000 /dev/zero; exit 4")
        pid = int(self.rest_of_line(command))
        out, _, end = command.ended()
        self.assertEqual((len(out), end), (100000, "exit 4"))
        os.kill(pid, 0)
        os.kill(pid, signal.SIGKILL)

    def test_terminal(self):
        command = self.run_("sh", "-c", "test -t 0 && test -t 2 && stty size; echo $TERM; tty; read x; stty size; echo $x >&2; cat",
                            streams=("stdin", "stdout"), terminal="30x100")
        lines = [self.rest_of_line(command).strip() for _ in range(3)]
        self.assertEqual(lines[:2], [b"30 100", b"xterm-256color"])
        self.assertRegex(lines[2], b"^/dev/pts/")
        command.control.sendall(b"resize 50x132\n")
        time.sleep(0.2)
        command.streams["stdin"].sendall(b"typed\n")
        self.assertEqual([self.rest_of_line(command).strip() for _ in range(3)], [b"typed", b"50 132", b"typed"])
        command.streams["stdin"].shutdown(socket.SHUT_WR)
        self.assertEqual(command.ended(), (b"", b"", "exit 0"))
        command = self.run_("sleep", "1000", streams=("stdin", "stdout"), terminal="0x0")
        command.streams["stdin"].sendall(b"\x03")
        self.assertEqual(command.line(command.control), "killed 2")

    def test_ten_at_once(self):
        stuck = self.run_("yes")
        others = [self.run_("sh", "-c", f"head -c 1000000 /dev/zero; cat; exit {number}") for number in range(9)]
        for number, command in enumerate(others):
            command.streams["stdin"].sendall(b"end")
            command.streams["stdin"].close()
            out, _, end = command.ended()
            self.assertEqual((len(out), out[-3:], end), (1000003, b"end", f"exit {number}"))
        stuck.close()

    def test_too_many(self):
        commands = [self.run_("cat", streams=["stdin"]) for _ in range(65)]
        self.assertEqual([command.answer for command in commands[:64]], ["ok"] * 64)
        self.assertRegex(commands[64].answer, "^error too many")
        for command in commands:
            command.close()
        self.until(lambda: self.run_("true").answer == "ok", "room for a command")

    def test_forgotten_streams_make_room(self):
        for number in range(200):
            stream = Command.connect(self.path)
            self.addCleanup(stream.close)
            stream.sendall(f"stream f{number} stdin\n".encode())
            self.assertEqual(Command.line(stream), f"f{number} ok")
        self.assertEqual(self.hello().ask("ping p"), "p ok")

    def test_no_growth(self):
        def size():
            pid = self.two()[1]
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]), len(os.listdir(f"/proc/{pid}/fd"))
        for _ in range(20):
            self.run_("true").ended()
        before = size()
        for number in range(300):
            command = Command(self.path, "true")
            self.assertEqual(command.ended(), (b"", b"", "exit 0"), number)
            command.close()
        self.until(lambda: size()[1] <= before[1], "descriptors")
        self.assertLessEqual(size()[0], before[0] + 16)


class Connections(Fixture):
    """To ports of this machine: the loopback of the namespace, and one more address in it."""

    @classmethod
    def setUpClass(cls):
        subprocess.run("ip link set lo up; ip addr add 10.9.8.7/32 dev lo", shell=True, check=True)

    def setUp(self):
        super().setUp()
        self.hello()
        self.serving = self.two()[1]

    def server(self, address="127.0.0.1", family=socket.AF_INET):
        listener = socket.socket(family)
        self.addCleanup(listener.close)
        listener.bind((address, 0))
        listener.listen(128)
        listener.settimeout(60)
        return listener

    def connect(self, port, token="c1"):
        stream = Command.connect(self.path)
        self.addCleanup(stream.close)
        stream.sendall(f"connect {token} {port}\n".encode())
        return stream, Command.line(stream)

    def pair(self, listener):
        """Both ends of a connection."""
        stream, said = self.connect(listener.getsockname()[1])
        self.assertEqual(said, "c1 ok")
        there = listener.accept()[0]
        self.addCleanup(there.close)
        there.settimeout(60)
        return stream, there

    def children(self):
        with open(f"/proc/{self.serving}/task/{self.serving}/children", encoding="ascii") as file:
            return file.read().split()

    def until_none(self):
        end = time.monotonic() + 60
        while self.children():
            self.assertLess(time.monotonic(), end, self.children())
            time.sleep(0.02)

    def test_wherever_it_listens(self):
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "10.9.8.7"), (socket.AF_INET, "0.0.0.0")):
            with self.subTest(address):
                stream, there = self.pair(self.server(address, family))
                there.sendall(b"hello\n")  # before the client has said a word, as ssh does
                self.assertEqual(stream.recv(100), b"hello\n")
                stream.close()
                self.assertEqual(there.recv(1), b"")
        self.until_none()

    def test_binary_both_ways_and_half_closed(self):
        stream, there = self.pair(self.server())
        data = os.urandom(1 << 20) * 16
        echo = threading.Thread(target=lambda: [there.sendall(b) for b in iter(lambda: there.recv(65536), b"")] and there.shutdown(socket.SHUT_WR))
        feeder = threading.Thread(target=lambda: (stream.sendall(data), stream.shutdown(socket.SHUT_WR)))
        echo.start(), feeder.start()
        back = b"".join(iter(lambda: stream.recv(65536), b""))
        echo.join(), feeder.join()
        self.assertEqual(hashlib.sha256(back).digest(), hashlib.sha256(data).digest())
        self.until_none()

    def test_refused(self):
        port = self.server().getsockname()[1] + 1
        self.assertRegex(self.connect(port)[1], f"^c1 error nobody answers on port {port}: Connection refused$")
        for word in ("0", "65536", "-1", "x", "80x", "", " 80", "99999999999999999999"):
            with self.subTest(word):
                self.assertEqual(self.connect(word)[1], "c1 error a port is 1 to 65535")
        early = Command.connect(self.path)
        self.addCleanup(early.close)
        early.sendall(b"connect c1 80\nGET /")
        self.assertEqual(Command.line(early), "c1 error the host speaks too early")
        self.until_none()

    def test_either_end_goes(self):
        """Whoever is left is told, and nothing of it is left here."""
        stream, there = self.pair(self.server())
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        there.close()
        self.assertEqual(stream.recv(1), b"")
        self.until_none()
        stream, there = self.pair(self.server())
        stream.close()  # the server has nothing to say and does not close
        self.until_none()

    def test_nobody_reads(self):
        """Held back, and not held: the sender waits, and the process takes no time."""
        stream, there = self.pair(self.server())
        there.setblocking(False)
        sent, last = 0, time.monotonic()
        while time.monotonic() - last < 1:
            try:
                sent += there.send(bytes(65536))
                last = time.monotonic()
            except BlockingIOError:
                time.sleep(0.02)
        self.assertLess(sent, 32 << 20)
        child, = self.children()
        with open(f"/proc/{child}/status", encoding="ascii") as file:
            self.assertLess(int(file.read().split("VmRSS:")[1].split()[0]), 2048)

        def ticks():
            with open(f"/proc/{child}/stat", encoding="ascii") as file:
                return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))
        before = ticks()
        time.sleep(1)
        self.assertLess(ticks() - before, 20)
        self.assertEqual(self.hello().ask("ping p"), "p ok")

    def test_as_many_as_there_may_be(self):
        listener = self.server()
        pairs = [self.pair(listener) for _ in range(64)]
        self.assertEqual(self.connect(listener.getsockname()[1])[1], "c1 error too many connections are open at once")
        self.assertEqual(self.hello().ask("ping p"), "p ok")
        self.assertEqual(Command(self.path, "true").ended(), (b"", b"", "exit 0"))
        for stream, _ in pairs:
            stream.close()
        self.until_none()
        self.pair(listener)


if __name__ == "__main__":
    tap.main()
