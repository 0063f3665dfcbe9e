"""banger against a mock manager that serves introspection/*.xml, on a private bus, with a fake ssh."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent
BANGER = os.environ["BANGER"]
XML_DIR = os.environ["XML_DIR"]
BROKEN = 70  # as mock_manager.py has it

# Who runs the tests may have them ignored (nohup, a shell's &), and what ignores them passes that on.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="banger-cli-")
        self.addCleanup(self.dir.cleanup)
        self.state = pathlib.Path(self.dir.name)
        bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--print-address=1",
                                f"--address=unix:path={self.dir.name}/bus"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(self.end, bus)
        tools = self.state / "bin"
        tools.mkdir()
        (tools / "ssh").symlink_to(HERE / "fake_ssh.py")
        self.env = {"PATH": f"{tools}:/usr/bin:/bin", "DBUS_SESSION_BUS_ADDRESS": bus.stdout.readline().strip(),
                    "LC_ALL": "C.UTF-8", "FAKE_SSH_LOG": str(self.state / "ssh"), "HOME": self.dir.name,
                    "FAKE_GUEST": str(HERE / "fake_guest.py"), "TERM": "xterm", "TZ": "UTC",
                    "BANGER_CONFIG": str(self.state / "install.toml")}
        self.env.update({k: v for k, v in os.environ.items() if k in ("ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS")})
        self.mock = None
        self.start_mock()

    def start_mock(self):
        self.mock = subprocess.Popen([sys.executable, HERE / "mock_manager.py", XML_DIR, self.dir.name], env=self.env,
                                     stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end_mock, self.mock)
        self.assertEqual(self.mock.stdout.readline().strip(), "ready")

    def end_mock(self, mock):
        status = mock.poll()
        self.end(mock)
        self.assertNotEqual(status, BROKEN, "the mock failed: what it says of that is above")

    @staticmethod
    def end(process):
        process.kill()
        process.wait()
        process.stdout.close()

    def run_banger(self, *words, status=0, stdin=b"", **env):
        done = subprocess.run([BANGER, *words], env={**self.env, **env}, input=stdin, capture_output=True, timeout=60,
                              check=False)
        if status is not None:
            self.assertEqual(done.returncode, status, done)
        return done.stdout.decode(), done.stderr.decode()

    def calls(self, *methods):
        lines = (self.state / "calls").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [row for row in rows if row["method"] in methods or not methods]

    def vms(self):
        return {vm["name"]: vm for vm in json.loads(self.run_banger("vm", "list", "--json")[0])}

    def ssh_argv(self):
        return [json.loads(line) for line in (self.state / "ssh").read_text().splitlines()]

    def repo(self, name="My Repo"):
        path = self.state / name
        subprocess.run(["git", "init", "-q", path], check=True)
        return path
