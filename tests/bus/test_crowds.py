"""Attacks on the root helper by number: races, callers who leave, an authority that fails, floods.

Run by meson test as root; no guest is booted.
"""

import contextlib
import json
import os
import pathlib
import pwd
import re
import signal
import threading
import time

import harness
import devstack
from gi.repository import Gio, GLib
from harness import HELPER, SOURCE, CallError, main
from attacks import DENIED, NOT_AUTHORIZED, WRONG_STATE, Client, AttackTest, contract
from test_privileged import valid_calls

LIMITS = "org.freedesktop.DBus.Error.LimitsExceeded"
INTERACTIVE = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
PENDING = 64  # limits.pending, by default


class Crowds(AttackTest):
    """Many at once, and an authority that fails."""

    def listing(self):
        return GLib.Variant("(a{sv})", ({},))

    @contextlib.contextmanager
    def stopped(self, name):
        pid = self.stack.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            if self.stack.pid(name) == pid:
                os.kill(pid, signal.SIGCONT)

    def stopped_polkit(self):
        return self.stopped("polkit")

    def ask_bus(self, client, method, *args):
        """What @client sent before is with the bus once this returns."""
        reply = client.connection.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                            method, GLib.Variant("(s)", args), None, Gio.DBusCallFlags.NONE, 300000, None)
        return reply.unpack()[0]

    @contextlib.contextmanager
    def mock(self):
        """The mock in polkit's place; a function that sets its way."""
        self.stack.stop("polkit")
        child = self.child("mock_polkit.py", pwd.getpwnam("polkitd"))
        guard = threading.Timer(600, child.kill)  # nobody waits for ever for what it does not say
        guard.start()
        try:
            child.stdin.write(self.stack.system_address + "\n")
            child.stdin.flush()
            self.assertEqual(child.stdout.readline(), "ready\n")

            def answer(mode):
                child.stdin.write(mode + "\n")
                child.stdin.flush()
                self.assertIn(f"mode {mode}\n", iter(child.stdout.readline, ""))  # what was said of earlier questions goes
            yield answer, child
        finally:
            guard.cancel()
            child.kill()
            child.wait()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            child.stdout.close()
            self.stack.start_polkit()

    def test_broken_authority(self):
        """Whatever comes instead of a yes is a no."""
        tap = GLib.Variant("(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest_of(self.vm), {}))
        with self.mock() as (answer, child), self.unchanged():
            for mode, name in (("deny", NOT_AUTHORIZED), ("challenge", INTERACTIVE), ("error", NOT_AUTHORIZED),
                               ("garbage", NOT_AUTHORIZED), ("empty", NOT_AUTHORIZED), ("naked", NOT_AUTHORIZED),
                               ("numbers", NOT_AUTHORIZED), ("twice", NOT_AUTHORIZED), ("die", NOT_AUTHORIZED)):
                answer(mode)
                with self.subTest(mode), self.assertRaises(CallError) as caught:
                    self.client.call("CreateTap", tap)
                self.check_refusal(caught.exception, {name})
                asked = child.stdout.readline()
                asked = json.loads(child.stdout.readline() if asked == "cancelled\n" else asked)
                self.assertEqual(asked["details"]["verb"], "CreateTap")
        self.client.call("ListLeases", self.listing())

    def test_authority_that_talks_too_much(self):
        """What comes instead of an answer's few bytes is a no, and is forgotten; others are served after it as before."""
        pid = self.stack.pid("helper")
        memory = []
        with self.mock() as (answer, child), self.unchanged():
            for _ in range(3):
                for mode in ("many-details", "huge-detail", "huge-garbage", "huge-error"):
                    answer(mode)
                    with self.subTest(mode), self.assertRaises(CallError) as caught:
                        self.client.call("ListLeases", self.listing())
                    self.check_refusal(caught.exception, {NOT_AUTHORIZED})
                    self.assertLess(len(caught.exception.message), 500)
                    child.stdout.readline()
                status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
                memory.append({k: int(re.search(rf"^{k}:\s+(\d+)", status, re.M)[1]) // 1024 for k in ("VmRSS", "VmHWM")})
        print(f"# MiB after each round: {memory}")
        if not harness.sanitized():  # malloc keeps the room of the largest; three of 31 MiB are in it at a time
            self.assertLess(memory[-1]["VmRSS"], memory[1]["VmRSS"] + 8)
            self.assertLess(memory[-1]["VmHWM"], 200)
        self.client.call("ListLeases", self.listing())

    def test_yes_after_the_time(self):
        """polkit says yes to a question that was withdrawn: nothing is done, and the next question has its own answer."""
        self.stack.stop("helper")
        self.stack.start_helper(env={"SYSTEMD_BUS_TIMEOUT": "1"})
        self.addCleanup(self.stack.restart, "helper")
        tap = GLib.Variant("(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest_of(self.vm), {}))
        with self.mock() as (answer, child), self.unchanged():
            for mode in ("late", "deny"):
                answer(mode)
                with self.assertRaises(CallError) as caught:
                    self.client.call("CreateTap", tap)
                self.check_refusal(caught.exception, {NOT_AUTHORIZED})
                self.assertEqual(json.loads(child.stdout.readline())["details"]["verb"], "CreateTap")
                if mode == "late":
                    self.assertEqual(child.stdout.readline(), "cancelled\n")
        self.client.call("ListLeases", self.listing())

    def test_what_the_authority_is_asked(self):
        """Each method under the action of its row, about who calls, with what it is about; a prompt only if allowed."""
        rows = dict(re.findall(r"^\| `(\w+)` \| `(org\.banger\.privileged\.\w+)`",
                               (SOURCE / "docs/privileges.md").read_text(encoding="utf-8"), re.M))
        with self.mock() as (answer, child), self.unchanged():
            answer("deny")
            for (name, signature, args), (_, arguments, _) in zip(valid_calls(self), contract()):
                given = dict(zip(arguments, args))
                for flags in (Gio.DBusCallFlags.NONE, Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION):
                    if name == "PrepareVm" and not flags:
                        continue  # about two actions at the same time: test_prepare.py
                    with self.subTest(f"{name} {int(flags)}"):
                        with self.assertRaises(CallError):
                            self.client.call(name, GLib.Variant(signature, args), flags=flags)
                        asked = json.loads(child.stdout.readline())
                        self.assertEqual((asked["kind"], asked["subject"]),
                                         ("system-bus-name", {"name": self.client.connection.get_unique_name()}))
                        self.assertEqual(asked["action"], rows[name])
                        self.assertEqual(asked["flags"], 1 if flags else 0)
                        self.assertEqual(asked["details"], {
                            "verb": name, "vm": given.get("vm", "-"), "bridge": given.get("bridge", "-"),
                            "owner": str(self.stack.owner.pw_uid)})

    def test_silent_authority(self):
        """polkit takes the question and never answers: refused in the end, and others are served meanwhile."""
        self.stack.stop("helper")
        self.stack.start_helper(env={"SYSTEMD_BUS_TIMEOUT": "10"})  # sd-bus's own limit, sooner
        self.addCleanup(self.stack.restart, "helper")
        with self.mock() as (answer, child), self.unchanged():
            answer("hang")
            self.client.send("CreateTap", GLib.Variant("(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest_of(self.vm), {})))
            self.assertEqual(json.loads(child.stdout.readline())["details"]["verb"], "CreateTap")
            version = self.client.call("Get", GLib.Variant("(ss)", (HELPER[2], "Version")),
                                       "org.freedesktop.DBus.Properties")
            self.assertTrue(version[0])
            self.refused(DENIED, self.stack.helper, "ListLeases", user="foreign")
            with self.assertRaises(AssertionError):
                self.client.wait(seconds=0.1)
            self.client.wait(seconds=60)
            self.check_refusal(self.client.answers[0], {NOT_AUTHORIZED})
            self.assertEqual(child.stdout.readline(), "cancelled\n")
        self.client.call("ListLeases", self.listing())

    def test_hanging_authority(self):
        """A thousand calls while polkit hangs: so many wait, the rest is refused at once, others are still answered."""
        pid = self.stack.pid("helper")
        with self.stopped_polkit():
            for _ in range(1000):
                self.client.send("ListLeases", self.listing())
            self.client.wait(PENDING)
            self.assertEqual({e.name for e in self.client.answers}, {LIMITS})
            self.assertEqual(len(self.client.answers), 1000 - PENDING)
            self.refused(DENIED, self.stack.helper, "ListLeases", user="foreign")
            self.assertEqual(self.client.call("Ping", None, "org.freedesktop.DBus.Peer"), ())
            self.client.answers.clear()
        self.client.wait()
        self.assertEqual(self.client.answers, [True] * PENDING)
        self.assertEqual(self.stack.pid("helper"), pid)

    def test_crowd_of_a_stranger_to_the_bus(self):
        """Calls whose uid the bus has not told yet wait, too, and only so many."""
        client = Client(self.stack.system_address)
        self.addCleanup(client.close)
        with self.stopped("helper"):
            for _ in range(PENDING + 30):
                client.send("ListLeases", self.listing())
            self.ask_bus(client, "NameHasOwner", HELPER[0])
        client.wait()
        refused = [answer for answer in client.answers if answer is not True]
        self.assertEqual(len(refused), 30)
        for each in refused:
            self.check_refusal(each, {LIMITS})
            self.assertIn("of this connection", each.message)

    def test_caller_whom_the_bus_forgot(self):
        """Who left before the bus could tell the uid is nobody: polkit is not even asked."""
        with self.mock() as (answer, child), self.unchanged():
            answer("deny")
            client = Client(self.stack.system_address)
            name = client.connection.get_unique_name()
            with self.stopped("helper"):
                client.send("ListLeases", self.listing())
                self.ask_bus(client, "NameHasOwner", HELPER[0])
                client.close()
                devstack.wait_for("the bus to forget it", 60,
                                  lambda: not self.ask_bus(self.client, "NameHasOwner", name))
            with self.assertRaises(CallError):
                self.client.call("ListLeases", self.listing())
            asked = json.loads(child.stdout.readline())
            self.assertEqual(asked["subject"], {"name": self.client.connection.get_unique_name()})

    def test_a_thousand_at_once(self):
        for _ in range(1000):
            self.client.send("ListLeases", self.listing())
        self.client.wait()
        names = {answer if answer is True else answer.name for answer in self.client.answers}
        self.assertIn(True, names)
        self.assertLessEqual(names, {True, LIMITS})
        self.assertEqual(len(self.client.answers), 1000)
        self.client.call("ListLeases", self.listing())

    def test_authority_dies(self):
        """polkit ends while it is asked: refused at once, not after the time for an answer."""
        with self.unchanged():
            with self.stopped_polkit():
                self.client.send("CreateTap", GLib.Variant("(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest_of(self.vm), {})))
                with self.assertRaises(AssertionError):
                    self.client.wait(seconds=0.3)
                self.stack.kill("polkit")
            self.client.wait(seconds=20)
            self.assertEqual([e.name for e in self.client.answers], [NOT_AUTHORIZED])
            self.stack.start_polkit()

    def test_caller_vanishes(self):
        """Who leaves before polkit answers has asked for nothing, and makes room for others."""
        with self.unchanged():
            with self.stopped_polkit():
                for _ in range(PENDING):
                    self.client.send("CreateTap", GLib.Variant("(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest_of(self.vm), {})))
                other = Client(self.stack.system_address)
                with self.assertRaises(CallError) as caught:
                    other.call("ListLeases", self.listing())
                self.assertEqual(caught.exception.name, LIMITS)
                self.client.connection.flush_sync(None)
                self.client.close()
                self.client.wait()
                devstack.wait_for("the helper to forget who left", 60, lambda: self.gone() >= PENDING)
                other.send("ListLeases", self.listing())
            other.wait()
            self.assertEqual(other.answers, [True])
            other.close()

    def test_question_is_withdrawn(self):
        """Nobody is left to type a password for a caller who has left."""
        with self.mock() as (answer, child), self.unchanged():
            answer("hang")
            self.client.send("CreateTap", GLib.Variant("(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest_of(self.vm), {})))
            self.client.connection.flush_sync(None)
            self.assertEqual(json.loads(child.stdout.readline())["details"]["verb"], "CreateTap")
            self.client.close()
            self.assertEqual(child.stdout.readline(), "cancelled\n")

    def test_forged_farewell(self):
        """A stranger who says, in the bus's place, that the caller has left."""
        name = self.client.connection.get_unique_name()
        stranger = Client(self.stack.system_address)
        before = self.gone()
        with self.stopped_polkit():
            self.client.send("ListLeases", self.listing())
            with self.assertRaises(AssertionError):
                self.client.wait(seconds=0.3)
            stranger.connection.emit_signal(HELPER[0], "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                            "NameOwnerChanged", GLib.Variant("(sss)", (name, name, "")))
            stranger.connection.flush_sync(None)
            with self.assertRaises(AssertionError):
                self.client.wait(seconds=0.3)
        self.client.wait()
        self.assertEqual(self.client.answers, [True])
        self.assertEqual(self.gone(), before)
        stranger.close()

    def gone(self):
        return self.stack.log_tail("helper", 10000).count("the caller left before polkit answered\"")

    def test_forged_answer(self):
        """A stranger who answers in polkit's place: the bus lets through only what was asked for."""
        self.addCleanup(self.stack.restart, "helper")
        self.stack.restart("helper", env={"SYSTEMD_BUS_TIMEOUT": "600"})  # a fresh one has counted few questions yet
        names = self.connections_of_the_helper()
        self.assertEqual(len(names), 2)  # its own, and that of polkit's library
        with self.unchanged(), self.stopped_polkit():
            self.client.send("CreateTap", GLib.Variant("(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest_of(self.vm), {})))
            with self.assertRaises(AssertionError):
                self.client.wait(seconds=0.2)
            for name in names:
                order = {"path": self.stack.socket("system-bus"), "answer": name, "serials": 5000}
                child = self.child("flood.py", self.stack.foreign)
                child.communicate(json.dumps(order) + "\n", timeout=60)
            with self.assertRaises(AssertionError):
                self.client.wait(seconds=0.2)
            self.stack.kill("polkit")
            self.client.wait()
            self.assertEqual([e.name for e in self.client.answers], [NOT_AUTHORIZED])
            self.stack.start_polkit()

    def connections_of_the_helper(self):
        def ask(method, signature="()", *args):
            return harness.call(self.stack.system_address, ("org.freedesktop.DBus", "/org/freedesktop/DBus",
                                                            "org.freedesktop.DBus"), method, signature, args)
        pid = self.stack.pid("helper")
        found = []
        for name in ask("ListNames")[0]:
            with contextlib.suppress(CallError):
                if name.startswith(":") and ask("GetConnectionUnixProcessID", "(s)", name)[0] == pid:
                    found.append(name)
        return found

    def test_authority_hangs_while_the_helper_starts(self):
        """What polkit's library asks first takes its time elsewhere: the helper serves, and asks when it can."""
        self.stack.stop("helper")
        with self.stopped_polkit():
            self.stack.start_helper()
            self.client.send("ListLeases", self.listing())
            self.assertEqual(self.client.call("Ping", None, "org.freedesktop.DBus.Peer"), ())
            self.refused(DENIED, self.stack.helper, "ListLeases", user="foreign")
            with self.assertRaises(AssertionError):
                self.client.wait(seconds=0.1)
        self.client.wait()
        self.assertEqual(self.client.answers, [True])

    def test_no_time_is_given_to_an_authority_that_hangs_from_the_start(self):
        self.stack.stop("helper")
        self.addCleanup(self.stack.restart, "helper")
        with self.stopped_polkit(), self.unchanged():
            self.stack.start_helper(env={"SYSTEMD_BUS_TIMEOUT": "1"})
            self.client.send("CreateTap", GLib.Variant("(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest, {})))
            self.client.wait(seconds=60)
            self.check_refusal(self.client.answers[0], {NOT_AUTHORIZED})

    def test_authority_starts_anew(self):
        """Each question goes to the polkit that is there."""
        for _ in range(3):
            self.stack.restart("polkit")
            self.client.call("ListLeases", self.listing())

    def test_two_clients_race(self):
        """Two that make and release the same VM: every answer is typed, and in the end nothing is held."""
        other = Client(self.stack.system_address)
        tap = GLib.Variant("(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest_of(self.vm), {}))
        nat = GLib.Variant("(ssa{sv})", (self.vm, self.guest, {}))
        vm = GLib.Variant("(sa{sv})", (self.vm, {}))
        rounds = [("CreateTap", tap), ("EnsureNat", nat), ("ReleaseVm", vm), ("CreateTap", tap), ("ReleaseVm", vm),
                  ("RemoveNat", vm)]
        for i in range(8):
            for method, body in rounds:
                self.client.send(method, body)
            for method, body in rounds[i % 6:] + rounds[:i % 6]:
                other.send(method, body)
            self.client.wait()
            other.wait()
        for answer in self.client.answers + other.answers:
            if answer is not True:
                self.assertIn(answer.name, ("org.banger.Error.NoSuchLease", WRONG_STATE), answer.message)
        self.client.call("ReleaseVm", vm)
        other.close()
        world = self.world()
        self.assertEqual((world["leases"], world["rules"]), ({}, []))
        self.assertLessEqual(world["links"], [self.bridge])

    def test_end_in_the_middle(self):
        """The helper is asked to end while handlers run: it ends well, and its successor can give all back."""
        vms = [f"{self.stack.number:06x}{i:02x}" for i in range(16)]
        for vm in vms:
            self.client.send("CreateTap", GLib.Variant("(ssssa{sv})", (vm, self.bridge, self.address, self.guest_of(vm), {})))
        devstack.wait_for("the first tap", 60, lambda: self.lease_path(vms[0]).exists(), pause=0.002)
        child = self.stack.children["helper"]
        try:
            self.stack.stop("helper")
            self.assertEqual(child.wait(timeout=60), 0, self.stack.log_tail("helper"))
            self.client.wait()
        finally:
            self.stack.start_helper()
        for vm in self.leases():
            self.call("ReleaseVm", "(sa{sv})", vm)
        self.assertEqual([n for n in self.world()["links"] if n != self.bridge], [])


class Flood(AttackTest):
    """A stranger who sends as fast as the bus takes it."""

    def setUp(self):
        if harness.sanitized():  # the bus holds more than such a helper works off in minutes
            self.skipTest("a flood is for the build without sanitizers")
        super().setUp()

    def flood(self, method="ListLeases", fds=0, signature="(a{sv})", body="({},)"):
        """The owner and root are served meanwhile, by the same helper."""
        pid = self.stack.pid("helper")
        child = self.child("flood.py", self.stack.foreign)
        order = {"path": self.stack.socket("system-bus"), "target": HELPER, "method": method, "signature": signature,
                 "body": body, "fds": fds, "connections": 4}
        try:
            child.stdin.write(json.dumps(order) + "\n")
            child.stdin.flush()
            self.assertEqual(child.stdout.readline(), "ready\n")
            for _ in range(3):
                self.call("ListLeases", "(a{sv})", user="owner")
                self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
                self.call("ReleaseVm", "(sa{sv})", self.vm)
            self.assertEqual(self.stack.pid("helper"), pid, self.stack.log_tail("helper"))
        finally:
            sent = int(child.communicate()[0])
        self.assertGreater(sent, 1000)

    def test_of_calls(self):
        before = os.path.getsize(self.stack.log_path("helper"))
        self.flood()
        with open(self.stack.log_path("helper"), encoding="utf-8") as f:
            f.seek(before)
            records = [json.loads(line) for line in f]
        uid = str(self.stack.foreign.pw_uid)
        self.assertLess(sum(r.get("BANGER_CALLER_UID") == uid for r in records), 500)
        grants = [r for r in records if r["MESSAGE"].startswith("granted CreateTap")]
        self.assertEqual(len(grants), 3)  # none of the others' records is lost

    def test_of_the_owners_calls(self):
        """So many are served, the rest costs an answer; others are served beside it, and the records are bounded."""
        config = self.stack.base / "calls.toml"
        config.write_text(pathlib.Path(self.stack.config).read_text(encoding="utf-8") + "[limits]\ncalls = 10\n", encoding="utf-8")
        config.chmod(0o644)
        self.stack.restart("helper", config=str(config))
        self.addCleanup(self.stack.restart, "helper")
        child = self.child("flood.py", self.stack.owner)
        order = {"path": self.stack.socket("system-bus"), "target": HELPER, "method": "ListLeases", "signature": "(a{sv})",
                 "body": "({},)", "fds": 0, "connections": 2}
        begun = time.monotonic()
        before = os.path.getsize(self.stack.log_path("helper"))
        try:
            child.stdin.write(json.dumps(order) + "\n")
            child.stdin.flush()
            self.assertEqual(child.stdout.readline(), "ready\n")
            for _ in range(3):
                self.client.call("ListLeases", GLib.Variant("(a{sv})", ({},)))
                self.refused(DENIED, self.stack.helper, "ListLeases", user="foreign")
            seen = self.refused(LIMITS, self.stack.helper, "ListLeases")
            self.check_refusal(seen, {LIMITS})
            self.assertIn("limits.calls", seen.message)
        finally:
            sent = int(child.communicate()[0])
        self.client.call("ListLeases", GLib.Variant("(a{sv})", ({},)))
        passed = time.monotonic() - begun
        self.assertGreater(sent, 1000)
        with open(self.stack.log_path("helper"), encoding="utf-8") as f:
            f.seek(before)
            uid = str(self.stack.owner.pw_uid)
            records = [r["MESSAGE"] for r in map(json.loads, f) if r.get("BANGER_CALLER_UID") == uid]
        served = sum(message.startswith("completed") for message in records)
        self.assertGreaterEqual(served, 40)
        self.assertLessEqual(served, 40 + 10 * (passed + 1))
        self.assertLess(len(records), 400 + 20 * passed)

    def test_of_unknown_methods(self):
        self.flood("NoSuchMethod")

    def test_of_wrong_arguments(self):
        self.flood("CreateTap", 0, "(s)", "('x',)")

    def test_of_descriptors(self):
        """The bus does not let them through."""
        self.flood(fds=15)
        with self.assertRaises(CallError) as caught:
            self.stack.helper("GetVmm", "(sh)", (self.vm, 0), user="foreign")
        self.assertEqual(caught.exception.name, DENIED)


class FloodPastTheBus(Flood):
    """The same with a bus policy that lets descriptors through: the helper holds by itself.

    The bus then refuses everybody's messages to the helper while 64 descriptors wait in the helper's queue there, and
    drops its own answers: max_fds=0 of the shipped policy is against that. So whoever is refused so asks again."""

    test_of_calls = test_of_the_owners_calls = test_of_unknown_methods = test_of_wrong_arguments = None

    @classmethod
    def setUpClass(cls):
        strip = harness.TestStack._write_polkit

        def write(stack):
            strip(stack)
            policy = pathlib.Path(stack.bus_policies[0]) / "org.banger.Privileged.conf"
            policy.write_text(policy.read_text(encoding="utf-8").replace(' max_fds="0"', ""), encoding="utf-8")
        harness.TestStack._write_polkit = write
        try:
            super().setUpClass()
        finally:
            harness.TestStack._write_polkit = strip

    def call(self, *args, **kwargs):
        for _ in range(50):
            try:
                return super().call(*args, **kwargs)
            except CallError as error:
                if error.name != LIMITS or "full message queue" not in error.message:
                    raise
        raise AssertionError("the bus let none of 50 calls through")

    def test_of_descriptors(self):
        self.flood(fds=15)


if __name__ == "__main__":
    main()
