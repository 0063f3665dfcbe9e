#!/usr/bin/python3
"""banger through a real ssh, a real sshd and the built banger-guest, in network, mount and process namespaces of its own.

Run by meson as root; skipped elsewhere or without sshd. Where openssh-server is not installed (its package would start a
service of the host's), its sshd is unpacked here. The manager is the mock, whose VM has the address that the sshd listens
on. Never opens a port outside its namespace."""
import os
import pathlib
import pty
import re
import select
import shutil
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


def use_package(folder):
    """sshd wants a user of its own: only this namespace sees it. The whole of /etc, as a file that others replace by renaming
    loses what is mounted on it."""
    shutil.copytree("/etc", folder / "host-etc", symlinks=True)
    users = folder / "host-etc/passwd"
    if "\nsshd:" not in users.read_text(encoding="utf-8"):
        with users.open("a", encoding="utf-8") as file:
            file.write("sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
    subprocess.run(["mount", "--bind", folder / "host-etc", "/etc"], check=True)
    return folder / "usr/sbin/sshd", {"LD_LIBRARY_PATH": str(next(folder.glob("usr/lib/*-linux-gnu")))}


def setUpModule():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", ADDRESS + "/32", "dev", "lo"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "run", "/run"], check=True)
    for folder in ("/run/sshd", "/run/banger"):
        os.mkdir(folder, 0o755)
    shutil.copy2(os.environ["BANGER_GUEST"], "/run/banger/guest")
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
        deadline = time.monotonic() + 10
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

    def test_connection_is_cut(self):
        # the sshd of this connection is the parent of the guest's exec, which is that of the shell
        cut = "kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $PPID)) $(ps -o ppid= -p $PPID); sleep 5"
        out, err = self.run_banger("vm", "exec", "web", "--", "sh", "-c", cut, status=70)
        self.assertTrue(err.endswith("banger: the connection to web was lost\n"), err)

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
        return seen, process.wait(timeout=10)

    def test_terminal(self):
        seen, status = self.on_terminal("vm", "exec", "web", "--", "sh", "-c", "test -t 0 && echo up; sleep 20", answer=b"\x03",
                                        when=b"up")
        self.assertEqual(status, 130, seen)
        repo = self.repo("r")
        seen, status = self.on_terminal("vm", "run", "--rm", "-q", str(repo), "--", "tty", answer=b"", when=b"never")
        self.assertIn(b"/root/r", seen)  # this host has no such folder: the guest says which one it wanted
        self.assertEqual(status, 125)
        seen, status = self.on_terminal("vm", "ssh", "web", answer=b"tty; exit 9\r", when=b"# ")
        self.assertTrue(re.search(rb"/dev/pts/\d", seen), seen)
        self.assertEqual(status, 9)


if __name__ == "__main__":
    unittest.main(verbosity=2)
