"""Runs a file's unittest cases and prints TAP, and starts banger-vmm-qemu for them.

Used by the tests in this folder.
Never leaves a process of its own behind.
"""

import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ARGS = []  # of the test file, without its name


class Result(unittest.TestResult):
    """One TAP line per test; details as comments before it."""

    def __init__(self):
        super().__init__()
        self.count = 0
        self.bad_subtests = False

    def line(self, status, test, rest=""):
        self.count += 1
        print(f"{status} {self.count} - {test.id().removeprefix('__main__.')}{rest}", flush=True)

    def comment(self, err, test):
        for text in self._exc_info_to_string(err, test).splitlines():
            print(f"# {text}", flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.bad_subtests = False

    def stopTest(self, test):
        super().stopTest(test)
        if self.bad_subtests:
            self.line("not ok", test)

    def addSuccess(self, test):
        self.line("ok", test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.bad_subtests = True
            print(f"# {subtest}", flush=True)
            self.comment(err, test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.comment(err, test)
        self.line("not ok", test)

    addError = addFailure

    def addSkip(self, test, reason):
        self.line("ok", test, f" # SKIP {reason}")


def main():
    """Entry point of a test file."""
    print("TAP version 13", flush=True)
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    result = Result()
    suite.run(result)
    print(f"1..{result.count}", flush=True)
    sys.exit(0 if result.wasSuccessful() else 1)


def arguments(count):
    """The first @count arguments of the test file."""
    ARGS[:] = sys.argv[1:]
    if len(ARGS) < count:
        sys.exit(f"{sys.argv[0]}: {count} arguments are wanted")
    return ARGS[:count]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


class Vmm:
    """A running banger-vmm-qemu with its folder."""

    def __init__(self, binary, *extra, qemu=HERE / "stub_qemu.py", api=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="banger-vmm-"))
        self.api = str(self.folder / "api.sock")
        self.vsock = str(self.folder / "vsock.sock")
        self.log = open(self.folder / "console.log", "w+b")
        argv = [binary, "--id", "vm-1", *map(str, extra)]
        argv += ["--qemu", str(qemu)] if qemu and not binary.endswith("/firecracker") else []
        argv += ["--api-sock", self.api] if api else []
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        if api:
            self.await_(lambda: os.path.exists(self.api) or self.process.poll() is not None, "the API socket")

    def await_(self, condition, what, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"no {what} within {seconds} s; console:\n{self.console()}")
            time.sleep(0.01)

    def console(self):
        return (self.folder / "console.log").read_text(errors="replace")

    def ask(self, method, path, body=None, raw=None):
        """Returns: status, text, headers."""
        if self.process.poll() is not None:
            raise AssertionError(f"the VMM ended with {self.process.returncode}; console:\n{self.console()}")
        connection = UnixConnection(self.api)
        data = raw if raw is not None else None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"} if data is not None else {})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text, response.headers

    def call(self, *args, **options):
        """Returns: status, decoded body or None, headers."""
        status, text, headers = self.ask(*args, **options)
        return status, json.loads(text) if text else None, headers

    def ok(self, method, path, body=None):
        status, reply, _ = self.call(method, path, body)
        assert status in (200, 204), (method, path, body, status, reply)
        return reply

    def file(self, name, data=b""):
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def kernel(self, **behaviour):
        """A file that tells the stub what to do."""
        return self.file("kernel", json.dumps(behaviour).encode())

    def stub(self):
        """What the stub wrote down: argv, pid."""
        return json.loads((self.folder / "kernel.seen").read_text())

    def wait(self, seconds=60):
        return self.process.wait(timeout=seconds)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class VmmCase(unittest.TestCase):
    """A test with VMMs that are closed at its end."""

    binary = None

    def vmm(self, *extra, **options):
        vmm = Vmm(self.binary, *extra, **options)
        self.addCleanup(vmm.close)
        return vmm

    def fault(self, answer, text=""):
        status, reply, headers = answer
        self.assertEqual(status, 400, reply)
        self.assertEqual(list(reply), ["fault_message"])
        self.assertEqual(headers["Content-Type"], "application/json")
        self.assertIn(text, reply["fault_message"])
