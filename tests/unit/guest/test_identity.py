#!/usr/bin/python3
"""The agent has its machine become another one, in namespaces of its own, see test_agent.py.

Usage: test_identity.py BANGER_GUEST. Needs root. Never sets this host's clock: the calls that do so only seem to."""

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(__file__))
import test_agent  # noqa: E402

BOOT_ID = "/proc/sys/kernel/random/boot_id"
NEW_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
CONFIG = ("hostname={name}\naddress=10.9.0.{number}/24\ngateway=10.9.0.1\ndns=192.0.2.{number}\n"
          "mac=06:00:00:00:00:{number:02x}\nroot=/dev/vda\nmachine-id={number:032x}\n")
SSHD = r"""
import os, signal, socket, sys, time
program = sys.argv
key = open("/etc/ssh/ssh_host_ed25519_key").read()
signal.signal(signal.SIGHUP, lambda *_: os.execv("/run/sshd", ["/run/sshd", "-c", os.environ["SSHD"]]))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
if os.path.exists("/run/slow"):
    time.sleep(1)
server = socket.create_server(("", 22))
while True:
    client, _ = server.accept()
    client.sendall(f"{os.getpid()} {key}".encode())
    client.close()
"""
SECCOMP_ALLOW, SECCOMP_SEEM = 0x7fff0000, 0x00050000
SETS_TIME = {"x86_64": (159, 164, 227, 305), "aarch64": (112, 170, 171, 266)}[os.uname().machine]


def only_seem_to_set_the_time():
    """A filter of seccomp(2): those calls return 0 and do nothing."""
    count = len(SETS_TIME)
    rows = [(0x20, 0, 0, 0)] + [(0x15, count - i, 0, number) for i, number in enumerate(SETS_TIME)]
    rows += [(0x06, 0, 0, SECCOMP_ALLOW), (0x06, 0, 0, SECCOMP_SEEM)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(code)))
    if test_agent.LIBC.prctl(22, 2, program, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    test_agent.LIBC.prctl(test_agent.PR_CAPBSET_DROP, test_agent.CAP_SYS_BOOT, 0, 0, 0)


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def setUpModule():
    test_agent.setUpModule()
    for folder in ("/etc", "/root", "/var/lib"):
        subprocess.run(["mount", "-t", "tmpfs", "other", folder], check=True)
    subprocess.run(["mount", "-t", "sysfs", "ours", "/sys"], check=True)  # of this network
    ip("link", "set", "lo", "up")
    ip("netns", "add", "far")
    ip("-n", "far", "link", "set", "lo", "up")


def parts(**changes):
    """Those of VM 2; @changes: by name, None: without."""
    number = changes.pop("number", 2)
    found = {"time": str(time.time_ns() // 1000).encode(), "entropy": os.urandom(64), "boot_id": NEW_ID.encode(),
             "config": CONFIG.format(name=f"vm-{number}", number=number).encode(), "authorized_keys": b"ssh-ed25519 AAAA new\n",
             "ssh_host_ed25519_key": b"new key\n", "ssh_host_ed25519_key.pub": b"new public key\n", "of-a-later-banger": b"\0\n"}
    found.update(changes)
    return {name: data for name, data in found.items() if data is not None}


def body(found):
    return b"".join(f"{name} {len(data)}\n".encode() + data for name, data in found.items())


class Identity(test_agent.Fixture):
    prepare = staticmethod(only_seem_to_set_the_time)

    def setUp(self):
        """VM 5, with a neighbour, name, keys and leases."""
        super().setUp()
        ip("link", "add", "eth0", "address", "06:00:00:00:00:05", "type", "veth", "peer", "name", "far0", "netns", "far")
        self.addCleanup(ip, "link", "del", "eth0")
        ip("-n", "far", "address", "add", "10.9.0.1/24", "dev", "far0")
        ip("-n", "far", "link", "set", "far0", "up")
        for address in ("10.9.0.5/24", "10.9.0.77/24", "fd00::5/64"):
            ip("address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        ip("link", "set", "eth0", "up")
        ip("route", "add", "192.0.2.0/24", "via", "10.9.0.9")
        ip("neigh", "add", "10.9.0.9", "lladdr", "06:00:00:00:00:09", "dev", "eth0")
        subprocess.run(["find", "/etc", "/root", "/var/lib", "-mindepth", "1", "-delete"], check=True)
        for folder in ("/etc/ssh", "/var/lib/dbus", "/var/lib/dhcp", "/var/lib/systemd"):
            os.makedirs(folder)
        for path in ("/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key",
                     "/var/lib/dhcp/dhclient.eth0.leases", "/var/lib/systemd/random-seed", "/var/lib/systemd/kept"):
            with open(path, "w", encoding="ascii") as file:
                file.write("old\n")
        socket.sethostname("vm-5")
        self.addCleanup(self.uncover)

    @staticmethod
    def uncover():
        with contextlib.suppress(subprocess.CalledProcessError):
            while True:
                subprocess.run(["umount", BOOT_ID], check=True, capture_output=True)

    def ask(self, data, length=None):
        client = test_agent.Client(self.path)
        self.addCleanup(client.close)
        client.socket.sendall(f"identity i1 {len(data) if length is None else length}\n".encode() + data)
        return client.lines.readline().decode().rstrip("\n")

    def connection(self):
        """To the neighbour, from the old address."""
        script = "import socket, sys; s = socket.create_server(('10.9.0.1', 7)); print('up', flush=True); c = s.accept()[0]; print(c.recv(9) or 'closed')"
        server = subprocess.Popen(["ip", "netns", "exec", "far", sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.assertEqual(server.stdout.readline(), "up\n")
        client = socket.create_connection(("10.9.0.1", 7), source_address=("10.9.0.5", 0), timeout=60)
        self.addCleanup(client.close)
        return client, server

    def sshd(self):
        """Says its process id and its host key to whoever connects."""
        if not os.path.exists("/run/sshd"):
            os.symlink(sys.executable, "/run/sshd")
        server = subprocess.Popen(["/run/sshd", "-c", SSHD], env={**os.environ, "SSHD": SSHD})
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                self.assertEqual(self.greeting(), f"{server.pid} old\n")
                return server
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    @staticmethod
    def greeting():
        with socket.create_connection(("127.0.0.1", 22), timeout=60) as client, client.makefile() as lines:
            return lines.read()

    def test_becomes_another(self):
        server = self.sshd()
        agent = self.hello()
        self.assertRegex(agent.lines.readline(), b"^ready ")
        client, far = self.connection()
        before = read(BOOT_ID)
        self.assertRegex(self.ask(body(parts())), f"^i1 ok {NEW_ID} [0-9]+$")
        self.check_network(client, far)
        self.assertEqual(agent.lines.readline(), b"ready boot-1\n")
        self.assertEqual(self.greeting(), f"{server.pid} new key\n")
        self.assertEqual((socket.gethostname(), read("/etc/hostname")), ("vm-2", "vm-2\n"))
        self.assertIn("127.0.1.1\tvm-2 # banger", read("/etc/hosts"))
        self.assertIn("nameserver 192.0.2.2\n", read("/etc/resolv.conf"))
        self.assertEqual([read(path) for path in ("/etc/machine-id", "/var/lib/dbus/machine-id")], [f"{2:032x}\n"] * 2)
        self.assertEqual(read(BOOT_ID), NEW_ID + "\n")
        self.assertIn("ssh-ed25519 AAAA new", read("/root/.ssh/authorized_keys"))
        self.assertEqual(sorted(os.listdir("/etc/ssh")), ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"])
        self.assertEqual(os.listdir("/var/lib/dhcp") + os.listdir("/var/lib/systemd"), ["kept"])
        self.assertIn("MACAddress=06:00:00:00:00:02", read("/run/systemd/network/05-banger.network"))
        # A copy of the copy: nothing is heaped up, and without the file the kernel's own shows again.
        other = NEW_ID.replace("0", "1")
        self.assertRegex(self.ask(body(parts(number=3, boot_id=other.encode()))), f"^i1 ok {other} ")
        self.assertEqual((read(BOOT_ID), socket.gethostname()), (other + "\n", "vm-3"))
        subprocess.run(["umount", BOOT_ID], check=True)
        self.assertEqual(read(BOOT_ID), before)

    def check_network(self, client, far):
        self.assertIn("06:00:00:00:00:02", ip("link", "show", "eth0"))
        shown = ip("-o", "address", "show", "dev", "eth0")
        self.assertIn("inet 10.9.0.2/24", shown)
        for old in ("10.9.0.5", "10.9.0.77", "fd00::5"):
            self.assertNotIn(old, shown)
        self.assertEqual([line.split()[:3] for line in ip("route", "show").splitlines()],
                         [["default", "via", "10.9.0.1"], ["10.9.0.0/24", "dev", "eth0"]])
        self.assertNotIn("10.9.0.9", ip("neigh", "show"))
        # The connection is dead, and whoever has the old address keeps theirs.
        client.settimeout(1)
        with self.assertRaises(OSError):
            for _ in range(3):
                client.sendall(b"old")
                client.recv(1)
        self.assertIsNone(far.poll())
        with socket.create_connection(("10.9.0.1", 7), timeout=1) as fresh:
            self.assertEqual(fresh.getsockname()[0], "10.9.0.2")

    def test_answers_before_its_ssh_server_does(self):
        """Until that listens nobody does, with the old key least of all, and the agent is not ready."""
        server = self.sshd()
        with open("/run/slow", "w", encoding="ascii"):
            self.addCleanup(os.unlink, "/run/slow")
        self.assertRegex(self.ask(body(parts())), f"^i1 ok {NEW_ID} ")
        with self.assertRaises((ConnectionRefusedError, ConnectionResetError)):  # the latter as the old one's socket goes
            self.greeting()
        agent = self.hello()
        agent.socket.sendall(b"ping p\n")
        self.assertEqual({agent.lines.readline() for _ in range(2)}, {b"p ok\n", b"ready boot-1\n"})
        self.assertEqual(self.greeting(), f"{server.pid} new key\n")

    def test_stays_who_it_is(self):
        before = read(BOOT_ID), ip("address", "show", "dev", "eth0"), read("/etc/machine-id")
        client, _ = self.connection()
        only = {name: data for name, data in parts().items() if name in ("time", "entropy")}
        self.assertRegex(self.ask(body(only)), f"^i1 ok {before[0].strip()} [0-9]+$")
        self.assertEqual((read(BOOT_ID), ip("address", "show", "dev", "eth0"), read("/etc/machine-id")), before)
        self.assertEqual(socket.gethostname(), "vm-5")
        client.sendall(b"on")

    def test_a_row_that_fails_is_named(self):
        os.makedirs("/etc/machine-id.banger-new/x")
        self.assertRegex(self.ask(body(parts())), "^i1 error machine id: ")
        self.assertIn("10.9.0.5", ip("address", "show", "dev", "eth0"))
        os.removedirs("/etc/machine-id.banger-new/x")
        ip("link", "set", "eth0", "name", "eth1")
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "more")
        self.addCleanup(ip, "link", "set", "eth1", "name", "eth0")
        self.addCleanup(ip, "link", "del", "eth0")
        self.assertRegex(self.ask(body(parts())), "^i1 error network files: No such device")

    def test_what_is_not_a_request(self):
        whole = body(parts())
        cases = [b"x", b"time 16\n", b"\0" * 100, b"time 99999999\n", whole + b"time 1\n1", whole[:-1], b" 1\nx", b"time \n",
                 *[body(parts(**{name: None})) for name in parts() if name != "of-a-later-banger"],
                 *[body(parts(**{name: data})) for name, data in (
                     ("time", b"-1"), ("time", b""), ("time", b"1\0"), ("time", b"9" * 19), ("entropy", b"x" * 31), ("entropy", b"x" * 513),
                     ("boot_id", NEW_ID.upper().encode()), ("boot_id", b"\0" * 36), ("authorized_keys", b"a\0b"),
                     ("config", CONFIG.format(name="../x", number=2).encode()), ("config", b"hostname=a\nroot=/dev/vda\n"))]]
        for case in cases:
            self.assertRegex(self.ask(case), "^i1 error request: ", case)
        for length in (0, -1, (256 << 10) + 1, "x", ""):
            self.assertRegex(self.ask(b"", length), "^i1 error the request has no length")
        self.assertEqual(socket.gethostname(), "vm-5")
        self.assertEqual(self.hello().ask("ping p"), "p ok")


class Clock(test_agent.Fixture):
    def test_that_cannot_be_set(self):
        data = body(parts(time=b"1"))
        client = test_agent.Client(self.path)
        self.addCleanup(client.close)
        client.socket.sendall(f"identity i1 {len(data)}\n".encode() + data)
        self.assertRegex(client.lines.readline(), b"^i1 error clock: ")
        client = test_agent.Client(self.path)
        self.addCleanup(client.close)
        self.assertIn("identity", client.ask("hello h").split())


if __name__ == "__main__":
    test_agent.tap.main()
