#!/usr/bin/python3
"""banger through a real ssh, a real sshd and the built banger-guest, in network, mount and process namespaces of its own.

Run by meson as root; skipped elsewhere or without sshd. Where openssh-server is not installed (its package would start a
service of the host's), its sshd is unpacked here. The manager is the mock, whose VM has the address that the sshd listens
on. Never opens a port outside its namespace."""
import os
import pathlib
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PACKAGE = os.environ.get("BANGER_SSHD_PACKAGE")  # a folder with openssh-server unpacked; unset in the outer process


def outside():
    """The whole test again in namespaces of its own. Returns its exit status."""
    with tempfile.TemporaryDirectory(prefix="banger-sshd-") as folder:
        if not os.path.exists("/usr/sbin/sshd"):
            try:
                subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "openssh-server", "libwrap0"],
                               cwd=folder, check=True, timeout=120)
                for package in pathlib.Path(folder).glob("*.deb"):
                    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as why:
                print("openssh-server is not installed and cannot be fetched:", why)
                return 77
        # what a cut connection leaves running in the guest ends with the test, not seconds later in the middle of another
        return subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                               "--propagation", "private", sys.executable, *sys.argv],
                              env=os.environ | {"BANGER_SSHD_PACKAGE": folder}, check=False).returncode


if os.geteuid() != 0:
    print("needs root")
    sys.exit(77)
if PACKAGE is None:
    sys.exit(outside())

sys.dont_write_bytecode = True
import test_commands  # noqa: E402

ADDRESS = "10.213.0.5"
SSHD = [(pathlib.Path(path), {}) for path in ["/usr/sbin/sshd"] if os.path.exists(path)]  # the program and its environment


def own_accounts(folder):
    """Accounts that only this namespace sees: the guest's, and root with bash. The whole of /etc, as a file that others replace
    by renaming loses what is mounted on it."""
    shutil.copytree("/etc", folder / "host-etc", symlinks=True)
    subprocess.run(["mount", "--bind", folder / "host-etc", "/etc"], check=True)
    (folder / "root").mkdir()
    subprocess.run(["mount", "--bind", folder / "root", "/root"], check=True)
    users = pathlib.Path("/etc/passwd")
    lines = [line for line in users.read_text(encoding="utf-8").splitlines() if not line.startswith(("root:", "banger-exec:"))]
    users.write_text("\n".join(["root:*:0:0:root:/root:/bin/bash", *lines,
                                "banger-exec:*:0:0:commands of banger:/root:/run/banger/shell", ""]), encoding="utf-8")


def use_package(folder):
    """sshd wants a user of its own: only this namespace sees it."""
    users = pathlib.Path("/etc/passwd")
    if "\nsshd:" not in users.read_text(encoding="utf-8"):
        with users.open("a", encoding="utf-8") as file:
            file.write("sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
    return folder / "usr/sbin/sshd", {"LD_LIBRARY_PATH": str(next(folder.glob("usr/lib/*-linux-gnu")))}


def setUpModule():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", ADDRESS + "/32", "dev", "lo"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "run", "/run"], check=True)
    for folder in ("/run/sshd", "/run/banger"):
        os.mkdir(folder, 0o755)
    shutil.copy2(os.environ["BANGER_GUEST"], "/run/banger/guest")
    os.symlink("guest", "/run/banger/shell")
    own_accounts(pathlib.Path(PACKAGE))
    if not SSHD:
        SSHD.append(use_package(pathlib.Path(PACKAGE)))


class Session(test_commands.Case):
    def setUp(self):
        super().setUp()
        (self.state / "bin" / "ssh").unlink()
        for key in ("key", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.state / key], check=True)
        config = self.state / "sshd_config"
        config.write_text(f"ListenAddress {ADDRESS}\nHostKey {self.state}/host\nAuthorizedKeysFile {self.state}/key.pub\n"
                          f"PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nPidFile none\n")
        sshd, environment = SSHD[0]
        self.sshd = subprocess.Popen([sshd, "-D", "-f", config], env=os.environ | environment, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(self.end, self.sshd)
        self.run_banger("vm", "create", "web", "--start", "-q")
        self.know("host")
        self.wait_for_sshd()

    def wait_for_sshd(self):
        deadline = time.monotonic() + 60
        while f"{ADDRESS}:22" not in subprocess.run(["ss", "-ltn"], capture_output=True, text=True, check=True).stdout:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def know(self, key):
        (self.state / "known hosts").write_text(f"banger-* {(self.state / (key + '.pub')).read_text()}")

    def test_arguments_and_streams(self):
        script = "import sys\nfor a in sys.argv[1:]: print(ascii(a))\nprint('err', file=sys.stderr)\nsys.exit(7)"
        awkward = test_commands.Run.AWKWARD
        out, err = self.run_banger("vm", "exec", "web", "--", "/usr/bin/python3", "-c", script, *awkward, status=7)
        self.assertEqual((out.splitlines(), err), ([ascii(a) for a in awkward], "err\n"))
        data = bytes(range(256)) * 4096
        out = subprocess.run([test_commands.BANGER, "vm", "exec", "web", "--", "cat"], env=self.env, input=data, check=True,
                             capture_output=True)
        self.assertEqual((out.stdout, out.stderr), (data, b""))
        self.assertEqual(self.run_banger("vm", "ssh", "web", stdin=b"echo hi\nexit 3\n", status=3)[0], "hi\n")
        self.assertEqual(self.run_banger("vm", "exec", "web", "--cwd", "/usr", "--", "pwd")[0], "/usr\n")

    def test_statuses(self):
        for command, status in [("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -INT $$", 130)]:
            self.assertEqual(self.run_banger("vm", "exec", "web", "--", "sh", "-c", command, status=status), ("", ""))
        self.run_banger("vm", "exec", "web", "--", "nonesuch", status=127)

    def test_startup_files(self):
        """What root's shell reads at its start neither prints into a command's output nor ends it; a session has it."""
        hostile = "echo printed; echo printed >&2; read line; cd /; export HOSTILE=1; exit 3\n"
        for name in (".bashrc", ".zshenv", ".cshrc", ".profile", ".bash_profile"):
            pathlib.Path("/root", name).write_text(hostile, encoding="utf-8")
        self.addCleanup(lambda: [path.unlink() for path in pathlib.Path("/root").iterdir() if path.is_file()])
        show = "cat; pwd; echo $USER $LOGNAME $HOME $SHELL $(id -un) ${HOSTILE-none}"
        out, err = self.run_banger("vm", "exec", "web", "--", "sh", "-c", show, stdin=b"in\n")
        self.assertEqual((out, err), ("in\n/root\nroot root /root /bin/bash root none\n", ""))
        pathlib.Path("/root/.bash_profile").write_text("echo session $SHELL; exit 4\n", encoding="utf-8")
        self.assertEqual(self.run_banger("vm", "ssh", "web", stdin=b"", status=4)[0], "session /bin/bash\n")

    def login(self, *words, stdin=b"", status=0):
        """An ssh command as a helper of banger's would give it. Returns: its output."""
        argv = ["ssh", "-F", "none", "-i", self.state / "key", "-o", f"UserKnownHostsFile={self.state}/hosts",
                "-o", "HostKeyAlias=banger-x", "-o", "BatchMode=yes", f"banger-exec@{ADDRESS}", *words]
        (self.state / "hosts").write_text(f"banger-x {(self.state / 'host.pub').read_text()}")
        result = subprocess.run(argv, input=stdin, capture_output=True, check=False)
        self.assertEqual(result.returncode, status, result.stderr)
        return result.stdout

    def test_long_words(self):
        """Argument lists that no ssh command can hold are kept first and run then, once."""
        script = b"import sys; print([len(a) for a in sys.argv[1:]])"
        words = [b"/usr/bin/python3", b"-c", script, b"x" * 131071] + [b"y" * 1000] * 1900
        coded = b"\n".join(b"".join(b"%%%02X" % c for c in word) for word in words)
        self.login("/run/banger/guest", "keep", "a1", stdin=coded)
        self.assertEqual(self.login("/run/banger/guest", "exec", "--words", "a1"), b"%a\n" % ([131071] + [1000] * 1900))
        self.login("/run/banger/guest", "exec", "--words", "a1", status=125)
        for bad in ("../a", "", "a" * 65):
            self.login("/run/banger/guest", "keep", bad, stdin=b"x", status=125)
        self.assertEqual(self.login("echo a b; (exit 5)", status=5), b"a b\n")

    def test_connection_is_cut(self):
        # the sshd of this connection is the parent of the guest's exec, which is that of the shell
        cut = "kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $PPID)) $(ps -o ppid= -p $PPID); sleep 5"
        out, err = self.run_banger("vm", "exec", "web", "--", "sh", "-c", cut, status=70)
        self.assertTrue(err.endswith("banger: the connection to web was lost\n"), err)

    def processes(self, mark):
        return [p for p in os.listdir("/proc") if p.isdigit() and mark.encode() in self.command(p)]

    @staticmethod
    def command(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""

    def test_the_command_ends_with_the_client(self):
        """By whatever ends banger, with children, one of which left the group, one of which heeds nothing; not by its own end."""
        plain = "trap '' INT; sleep 4711 & setsid sleep 4712 & sleep 4713 & echo up; sleep 4714"
        deaf = f"(trap '' TERM HUP; while :; do sleep 4715; done) & {plain}"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            with self.subTest(number.name):
                process = subprocess.Popen([test_commands.BANGER, "vm", "exec", "web", "--", "sh", "-c",
                                            deaf if number == signal.SIGTERM else plain], env=self.env,
                                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                self.assertEqual(process.stdout.readline(), b"up\n")
                self.assertGreater(len(self.processes("471")), 3)
                process.send_signal(number)
                process.communicate(timeout=60)
                self.assertEqual(process.returncode, -9 if number == signal.SIGKILL else 128 + number)
                deadline = time.monotonic() + 60
                while self.processes("471"):
                    self.assertLess(time.monotonic(), deadline, [self.command(p) for p in self.processes("471")])
                    time.sleep(0.05)
        out, _ = self.run_banger("vm", "exec", "web", "--", "sh", "-c", "setsid sleep 4711 > /dev/null 2>&1 & echo on")
        self.assertEqual((out, len(self.processes("4711"))), ("on\n", 1))
        os.kill(int(self.processes("4711")[0]), signal.SIGKILL)

    def test_long_arguments(self):
        """One of 128 KiB, 2 MiB together, with a terminal too; beyond that it is said which is too long."""
        count = "import sys; print([len(a) for a in sys.argv[1:]], sys.stdin.read(2))"
        program = ["/usr/bin/python3", "-c", count]
        resource.setrlimit(resource.RLIMIT_STACK, (64 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
        longest = "\xe4" * 65535 + "%"
        for words in ([longest], ["x" * 131071] * 16, ["y" * 1023] * 2048, ["z" * 100] * 300):
            out, err = self.run_banger("vm", "exec", "web", "--", *program, *words, stdin=b"in")
            self.assertEqual((out, err), (f"{[len(w) for w in words]} in\n", ""))
        out, err = self.run_banger("vm", "exec", "web", "--", "printf", "%s", longest)
        self.assertEqual(out, longest)
        seen, status = self.on_terminal("vm", "exec", "web", "--", *program[:2], "import sys; print(len(sys.argv[1]), "
                                        "sys.stdin.isatty())", "x" * 131071, answer=b"", when=b"never")
        self.assertEqual((seen.strip(), status), (b"131071 True", 0))
        self.assertEqual(list(pathlib.Path("/run/banger").glob("words/*")), [])
        _, err = self.run_banger("vm", "exec", "web", "--", *program, *["x" * 131071] * 20, status=2)
        self.assertIn("2621", err)
        self.assertIn("stdin or in a file", err)

    def test_no_stdin(self):
        for option in ("-n", "--no-stdin"):
            script = f"while read x; do '{test_commands.BANGER}' vm exec web {option} -- cat; echo $x; done"
            done = subprocess.run(["sh", "-c", script], env=self.env, input=b"a\nb\n", capture_output=True, check=True)
            self.assertEqual((done.stdout, done.stderr), (b"a\nb\n", b""))
        done = subprocess.run(["sh", "-c", f"while read x; do '{test_commands.BANGER}' vm exec web -- cat; done"], env=self.env,
                              input=b"a\nb\n", capture_output=True, check=True)
        self.assertEqual(done.stdout, b"b\n")

    def test_no_connection(self):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.state / "other"], check=True)
        self.know("other")
        out, err = self.run_banger("vm", "exec", "web", "--", "true", status=70)
        self.assertRegex(err, "^banger: cannot connect to web: .*Host key verification failed")
        (self.state / "known hosts").write_text("")
        self.assertIn("Host key", self.run_banger("vm", "exec", "web", "--", "true", status=70)[1])
        self.sshd.kill()
        self.sshd.wait()
        self.assertIn("Connection refused", self.run_banger("vm", "exec", "web", "--", "true", status=70)[1])

    def on_terminal(self, *words, answer, when):
        leader, follower = pty.openpty()
        process = subprocess.Popen([test_commands.BANGER, *words], env=self.env, stdin=follower, stdout=follower,
                                   stderr=follower, start_new_session=True)
        os.close(follower)
        seen = b""
        while select.select([leader], [], [], 15)[0]:
            try:
                seen += os.read(leader, 4096)
            except OSError:
                break
            if when in seen and answer:
                os.write(leader, answer)
                answer = b""
        os.close(leader)
        return seen, process.wait(timeout=60)

    def test_terminal(self):
        seen, status = self.on_terminal("vm", "exec", "web", "--", "sh", "-c", "test -t 0 && echo up; sleep 20", answer=b"\x03",
                                        when=b"up")
        self.assertEqual(status, 130, seen)
        for term, shown in [("xterm-ghostty", b"xterm-256color"), ("vt100", b"vt100"), ("../x", b"xterm-256color")]:
            self.env["TERM"] = term
            for words in (["vm", "exec", "web", "--", "sh", "-c", "echo =$TERM="], ["vm", "ssh", "web"]):
                seen, _ = self.on_terminal(*words, answer=b"echo =$TERM=; exit\r", when=b"# ")
                self.assertIn(b"=" + shown + b"=", seen)
        repo = self.repo("r")
        seen, status = self.on_terminal("vm", "run", "--rm", "-q", str(repo), "--", "tty", answer=b"", when=b"never")
        self.assertIn(b"/root/r", seen)  # this host has no such folder: the guest says which one it wanted
        self.assertEqual(status, 125)
        seen, status = self.on_terminal("vm", "ssh", "web", answer=b"tty; exit 9\r", when=b"# ")
        self.assertTrue(re.search(rb"/dev/pts/\d", seen), seen)
        self.assertEqual(status, 9)


if __name__ == "__main__":
    unittest.main(verbosity=2)
