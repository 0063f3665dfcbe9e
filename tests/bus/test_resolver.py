"""The helper's power over the resolver, and what it refuses.

Run by meson test as root; no guest is booted. systemd-resolved is played by fake_resolved.py; where it is installed, the
real one is asked, too.
"""

import json
import os
import pathlib
import pwd
import socket
import subprocess
import threading
import unittest

import harness
import devstack
from gi.repository import GLib
from harness import SOURCE, CallError, main, shape
from attacks import Client
from test_privileged import INVALID_NETWORK, OP, HelperTest

DENIED = "org.freedesktop.DBus.Error.AccessDenied"
NOT_SUPPORTED = "org.freedesktop.DBus.Error.NotSupported"
FAILED = "org.banger.Error.Failed"
WRONG_STATE = "org.banger.Error.WrongState"
RESOLVE1 = "org.freedesktop.resolve1"
RESOLVED = "/lib/systemd/systemd-resolved"
POLICY = """<busconfig>
  <policy user="{user}"><allow own="org.freedesktop.resolve1"/></policy>
  <policy context="default"><allow send_destination="org.freedesktop.resolve1"/></policy>
</busconfig>
"""
REAL = "127.0.0.1:20690"  # a bangerd of this machine may have 42069


class ResolverTest(HelperTest):
    """A system bus on which org.freedesktop.resolve1 may be owned by @owner."""

    user = "root"
    owner = "root"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        policy = cls.stack.base / "resolve1.conf"
        policy.write_text(POLICY.format(user=cls.owner), encoding="utf-8")
        policy.chmod(0o644)
        cls.stack.extra_policies = [str(policy)]
        for name in ("helper", "polkit"):
            cls.stack.stop(name)
        cls.stack.restart("system-bus")
        cls.stack.start_polkit()
        cls.stack.start_helper()

    def setUp(self):
        super().setUp()
        self.client = Client(self.stack.system_address)  # who leaves the bus has nothing routed any more
        self.addCleanup(self.client.close)
        host, port = REAL.split(":")
        self.listen(host, int(port))

    def listen(self, host, port, uid=None):
        """A socket that is the owner's, or @uid's, until the test ends; bound with root's rights."""
        os.seteuid(self.stack.owner.pw_uid if uid is None else uid)
        try:
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            os.seteuid(0)
        self.addCleanup(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        return listener

    def ifindex(self):
        return int(pathlib.Path(f"/sys/class/net/{self.bridge}/ifindex").read_text())

    def ensure(self):
        """The bridge that a VM leaves behind."""
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        return self.ifindex()

    def sync(self, resolver=REAL):
        self.client.call("SyncResolver", GLib.Variant("(ssa{sv})", (self.bridge, resolver, {})))

    def clear(self):
        self.call("ClearResolver", "(sa{sv})", self.bridge)


class Resolver(ResolverTest):
    def setUp(self):
        super().setUp()
        self.control = self.stack.base / "resolved"
        self.control.mkdir(exist_ok=True)
        self.behave()
        self.stack._start("resolved", ["/usr/bin/python3", str(SOURCE / "tests/bus/fake_resolved.py"),
                                       str(self.control)], self.stack.root_environment())
        self.addCleanup(self.stack.stop, "resolved")
        self.stack._wait_for_name(RESOLVE1, "resolved", self.stack.system_address)

    def behave(self, **how):
        (self.control / "behave").write_text(json.dumps(how), encoding="utf-8")
        (self.control / "asked").write_text("", encoding="utf-8")

    def asked(self):
        return [json.loads(line) for line in (self.control / "asked").read_text(encoding="utf-8").splitlines()]

    def test_sync_and_clear(self):
        index = self.ensure()
        self.sync()
        self.assertEqual(self.asked(), [["SetLinkDNSEx", index, [[2, [127, 0, 0, 1], 20690, ""]]],
                                        ["SetLinkDomains", index, [["vm", True]]],
                                        ["SetLinkDefaultRoute", index, False]])
        self.behave()
        own = self.address.split("/")[0]
        self.listen(own, 53)
        self.sync(own)
        self.assertEqual(self.asked()[0], ["SetLinkDNSEx", index, [[2, [int(n) for n in own.split(".")], 53, ""]]])
        self.behave()
        self.clear()
        self.assertEqual(self.asked(), [["RevertLink", index]])

    def test_the_routing_goes_with_who_asked_for_it(self):
        """The address is anyone's as soon as the daemon is gone."""
        index = self.ensure()
        self.sync()
        self.behave()
        self.client.close()
        devstack.wait_for("the routing to go", 60, self.asked)
        self.assertEqual(self.asked(), [["RevertLink", index]])
        self.client = Client(self.stack.system_address)
        self.addCleanup(self.client.close)
        self.sync()
        self.behave()
        self.stack.restart("helper")  # it knows nobody any more
        devstack.wait_for("the routing to go", 60, lambda: ["RevertLink", index] in self.asked())
        self.sync()
        self.clear()
        self.behave()
        self.client.close()
        self.call("ListLeases", "(a{sv})")
        self.assertEqual(self.asked(), [])  # it was cleared before

    def test_listeners_that_are_refused(self):
        """Nobody's, a stranger's, and one whom a stranger's listens beside."""
        self.ensure()
        self.refused(WRONG_STATE, self.sync, "127.0.0.1:42070")
        self.listen("127.0.0.1", 42071, self.stack.foreign.pw_uid)
        self.refused(DENIED, self.sync, "127.0.0.1:42071")
        self.listen("0.0.0.0", 42072, self.stack.foreign.pw_uid)
        self.refused(DENIED, self.sync, "127.0.0.1:42072")
        mine = self.listen("127.0.0.1", 42073)
        self.listen("127.0.0.2", 42073, self.stack.foreign.pw_uid)
        self.sync("127.0.0.1:42073")
        self.listen("127.0.0.1", 42073, self.stack.foreign.pw_uid)
        self.refused(DENIED, self.sync, "127.0.0.1:42073")
        mine.close()
        self.behave()

    def test_servers_that_are_refused(self):
        self.ensure()
        net = self.address.split("/")[0].rsplit(".", 1)[0]
        for server in ("8.8.8.8:53", net + ".77:53", "10.255.255.1:53", "127.0.0.53:53", "127.0.0.1:0", "127.0.0.1:65536",
                       "localhost:53", "", "127.0.0.1:53\n", "%s%n"):
            with self.subTest(server):
                seen = self.refused(INVALID_NETWORK, self.sync, server)
                self.assertRegex(seen.message, OP)
        self.assertEqual(self.asked(), [])

    def test_links_that_are_refused(self):
        for name in ("lo", "eth0", "docker0", "br-fcx", "", "1"):
            with self.subTest(name):
                for method, signature, args in (("SyncResolver", "(ssa{sv})", (name, REAL)),
                                                ("ClearResolver", "(sa{sv})", (name,))):
                    self.refused(INVALID_NETWORK, self.call, method, signature, *args)
        self.refused(WRONG_STATE, self.sync)  # no such bridge
        self.clear()  # nothing to clear
        subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
        try:
            self.refused("org.banger.Error.InUse", self.sync)
            self.refused("org.banger.Error.InUse", self.clear)
        finally:
            subprocess.run(["ip", "link", "del", self.bridge], check=True)
        self.assertEqual(self.asked(), [])

    def test_half_done_is_undone(self):
        index = self.ensure()
        self.behave(SetLinkDefaultRoute="refuse")
        seen = self.refused(FAILED, self.sync)
        self.assertIn("no\\x0a\\x1b[2J%s%n", seen.message)
        self.assertLess(len(seen.message), 500)
        self.assertEqual(self.asked()[-1], ["RevertLink", index])
        self.behave(SetLinkDNSEx="busy")
        self.refused("org.banger.Error.InUse", self.sync)
        self.assertEqual(len(self.asked()), 1)  # nothing was set, nothing is reverted
        self.behave(RevertLink="refuse")
        self.refused(FAILED, self.clear)

    def test_a_silent_resolved_holds_nobody(self):
        index = self.ensure()
        self.behave(SetLinkDomains="silent")
        seen = []
        thread = threading.Thread(target=lambda: seen.append(self.refused("org.banger.Error.Timeout", self.sync)))
        thread.start()
        try:
            self.assertEqual(self.leases(), {})  # others are served meanwhile
        finally:
            thread.join()
        self.assertEqual(len(seen), 1)
        self.assertEqual(self.asked()[-1], ["RevertLink", index])

    def test_not_running(self):
        self.ensure()
        self.stack.stop("resolved")
        for function in (self.sync, self.clear):
            seen = self.refused(NOT_SUPPORTED, function)
            self.assertRegex(seen.message, OP)


class RealResolver(ResolverTest):
    owner = "systemd-resolve"

    @classmethod
    def setUpClass(cls):
        program = os.environ.get("BANGER_TEST_RESOLVED", RESOLVED)
        if not os.path.exists(program):
            raise unittest.SkipTest("systemd-resolved is not installed")
        try:
            pwd.getpwnam(cls.owner)
        except KeyError as error:
            raise unittest.SkipTest("there is no user systemd-resolve") from error
        super().setUpClass()
        config = cls.stack.base / "resolved.conf"
        config.write_text("[Resolve]\nDNSStubListener=no\nLLMNR=no\nMulticastDNS=no\nFallbackDNS=\n", encoding="utf-8")
        script = ('mkdir -p /run/systemd && mount -t tmpfs none /run/systemd && mount -t tmpfs none /etc/systemd && '
                  'cp "$1" /etc/systemd/resolved.conf && exec "$2"')
        cls.stack._start("resolved", ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh",
                                      str(config), program], cls.stack.root_environment())
        cls.addClassCleanup(cls.stack.stop, "resolved")
        cls.stack._wait_for_name(RESOLVE1, "resolved", cls.stack.system_address)

    def link(self, index):
        """Properties of the link's object."""
        target = (RESOLVE1, "/org/freedesktop/resolve1", f"{RESOLVE1}.Manager")
        path = harness.call(self.stack.system_address, target, "GetLink", "(i)", (index,))[0]
        return harness.call(self.stack.system_address, (RESOLVE1, path, "org.freedesktop.DBus.Properties"), "GetAll",
                            "(s)", (f"{RESOLVE1}.Link",))[0]

    def test_contract(self):
        """What the fake promises is what the real one introspects."""
        live = shape(self.stack.introspect(self.stack.system_address, RESOLVE1, "/org/freedesktop/resolve1", "root"),
                     RESOLVE1)
        promised = shape((SOURCE / "tests/bus/resolve1.xml").read_text(encoding="utf-8"), RESOLVE1)
        self.assertEqual(len(promised), 4)
        strip = [(*row[:6], ()) for row in live]  # annotations say who may call, not how
        for row in promised:
            self.assertIn(row, strip)

    def test_sync_and_clear(self):
        index = self.ensure()
        self.sync()
        link = self.link(index)
        self.assertEqual(link["DNSEx"], [(2, [127, 0, 0, 1], 20690, "")])
        self.assertEqual(link["Domains"], [("vm", True)])
        self.assertFalse(link["DefaultRoute"])
        self.clear()
        link = self.link(index)
        self.assertEqual((link["DNSEx"], link["Domains"]), ([], []))
        self.sync()
        self.call("RemoveBridge", "(sa{sv})", self.bridge)
        devstack.wait_for("resolved to forget the bridge", 60, lambda: self.forgotten(index))

    def forgotten(self, index):
        try:
            self.link(index)
        except CallError as error:
            return "NoSuchLink" in error.name or "Unknown" in error.name
        return False


if __name__ == "__main__":
    main()
