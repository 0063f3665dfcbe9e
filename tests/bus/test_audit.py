"""What the helper writes down: one record for each call, audit records, operation ids, the log's controls.

Run by meson test as root; no guest is booted.
Never reads another log than this stack's.
"""

import functools
import json
import os
import re
import unittest

import harness
import devstack
from gi.repository import GLib
from harness import HELPER, MANAGER, SOURCE, CallError, StackTest, main, options
from attacks import DENIED, NOT_AUTHORIZED, AttackTest, contract
from test_privileged import INVALID_ARGS, valid_calls

CONTROL = ("/org/freedesktop/LogControl1", "org.freedesktop.LogControl1")
PROPERTIES = "org.freedesktop.DBus.Properties"
ID = r"op-[0-9a-f]{6,32}"


@functools.cache
def message_ids():
    """name -> MESSAGE_ID of the code."""
    found = {}
    for path in (SOURCE / "src").rglob("*.[ch]"):
        found |= dict(re.findall(r'#define BANGER_MESSAGE_(\w+) "([0-9a-f]+)"', path.read_text(encoding="utf-8")))
    return found


class Catalog(unittest.TestCase):
    """systemd/banger.catalog explains what the code writes, and nothing else."""

    text = (SOURCE / "systemd" / "banger.catalog").read_text(encoding="utf-8")

    def test_entries(self):
        ids = message_ids()
        self.assertGreater(len(ids), 2)
        self.assertEqual(len(set(ids.values())), len(ids))
        for value in ids.values():
            self.assertRegex(value, "^[0-9a-f]{32}$")
        entries = re.findall(r"^-- (\S+)$", self.text, re.M)
        self.assertEqual(sorted(entries), sorted(ids.values()))
        for entry in self.text.split("\n-- ")[1:]:
            self.assertRegex(entry, r"\nSubject: \S.*\nDefined-By: banger\n\n\S")

    def test_fields(self):
        known = re.findall(r'"(BANGER_\w+)"', (SOURCE / "src/common/names.h").read_text(encoding="utf-8"))
        used = set(re.findall(r"@(\w+)@", self.text))
        self.assertTrue(used)
        self.assertLessEqual(used, set(known))

    def test_used(self):
        """Each id is written somewhere, not only defined."""
        code = "".join(p.read_text(encoding="utf-8") for p in (SOURCE / "src").rglob("*.c"))
        for name in message_ids():
            self.assertIn("BANGER_MESSAGE_" + name, code)


class AuditTest(AttackTest):
    def setUp(self):
        super().setUp()
        self.log = self.stack.log_path("helper")
        self.start = os.path.getsize(self.log)

    def records(self):
        """The helper's records since the test began; each line is one."""
        with open(self.log, encoding="utf-8") as f:
            f.seek(self.start)
            return [json.loads(line) for line in f if line.endswith("\n")]  # the last may be on its way

    def of(self, op):
        """The one record of an operation."""
        found = [r for r in self.records() if r.get("BANGER_OP_ID") == op]
        self.assertEqual(len(found), 1, found)
        return found[0]

    def try_call(self, method, signature, args, user=None):
        """The error, or None."""
        try:
            self.stack.helper(method, signature, args, user=user or self.user)
        except CallError as error:
            return error
        return None


class Records(AuditTest):
    def test_one_record_for_each_call(self):
        """Completed or failed: method, operation, caller, object, duration."""
        for i, ((name, signature, args), (_, arguments, _)) in enumerate(zip(valid_calls(self), contract())):
            op = f"op-{i:08x}"
            error = self.try_call(name, signature, [*args[:-1], options(op_id=op)])
            with self.subTest(name):
                record = self.of(op)
                self.assertEqual((record["BANGER_METHOD"], record["BANGER_CALLER_UID"]), (name, "0"))
                self.assertGreaterEqual(int(record["BANGER_DURATION_USEC"]), 0)
                self.assertRegex(record["BANGER_ACTION"], r"^(org\.banger\.privileged\.\w+ ?\b)+$")
                if isinstance(args[0], str):
                    self.assertEqual(record["BANGER_OBJECT"], args[0])
                self.assertEqual(record.get("BANGER_VM"), self.vm if arguments[0] == "vm" else None)
                self.assertEqual("BANGER_ERROR" in record, error is not None)
                word = record["MESSAGE"].split()[0]
                self.assertIn(word, ("failed", "refused") if error else ("completed", "granted"))

    def test_kinds(self):
        """Routine at debug, changes at info, grants and refusals as audit records, failures as warnings."""
        ids = message_ids()
        tap = ("CreateTap", "(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest))
        rows = [
            (tap, "5", ids["GRANTED"]), (("EnsureNat", "(ssa{sv})", (self.vm, self.guest)), "5", ids["GRANTED"]),
            (("ListLeases", "(a{sv})", ()), "7", None), (("GetVmm", "(sa{sv})", (self.vm,)), "7", None),
            (("RemoveNat", "(sa{sv})", (self.vm,)), "6", None),
            (("ReleaseVm", "(sa{sv})", (self.vm,)), "6", None), (("RemoveNat", "(sa{sv})", (self.vm,)), "4", None),
            (("RemoveBridge", "(sa{sv})", (self.bridge,)), "6", None),
            (("RemoveNat", "(sa{sv})", ("../x",)), "5", ids["REFUSED"]),
            (("SignalVmm", "(ssa{sv})", (self.vm, "STOP")), "5", ids["REFUSED"]),
            (("NoSuchMethod", "(sa{sv})", (self.vm,)), "5", ids["REFUSED"]),
            (("CreateTap", "(ssssa{sv})", (self.vm, "eth0", self.address, self.guest)), "5", ids["REFUSED"]),
        ]
        for i, ((method, signature, args), priority, message) in enumerate(rows):
            op = f"op-aa{i:06x}"
            error = self.try_call(method, signature, (*args, options(op_id=op)))
            with self.subTest(f"{method} {args}"):
                record = self.of(op)
                self.assertEqual((record["PRIORITY"], record.get("MESSAGE_ID")), (priority, message))
                if error:
                    self.assertTrue(error.message.startswith(record["BANGER_ERROR"]), (error.message, record))

    def test_level_hides_no_audit(self):
        self.set_level("err")
        try:
            self.assertIsNone(self.try_call("ListLeases", "(a{sv})", (options(op_id="op-bb000001"),)))
            self.assertIsNone(self.try_call("CreateTap", "(ssssa{sv})", (self.vm, self.bridge, self.address, self.guest,
                                                                        options(op_id="op-bb000002"))))
            self.assertIsNotNone(self.try_call("RemoveNat", "(sa{sv})", ("x", options(op_id="op-bb000003"))))
        finally:
            self.set_level("debug")
        self.assertEqual([r["BANGER_OP_ID"] for r in self.records() if "BANGER_OP_ID" in r],
                         ["op-bb000002", "op-bb000003"])

    def set_level(self, level):
        self.client.call("Set", GLib.Variant("(ssv)", (CONTROL[1], "LogLevel", GLib.Variant("s", level))), PROPERTIES,
                         CONTROL[0])

    def test_callers_strings_are_escaped(self):
        """One line for each record whatever a caller writes, and nothing that a terminal would obey."""
        words = ["a\nMESSAGE=forged", "\x1b[2J\x07", "\u202egnirts", "\u2028line", "\"}{\"", "%s%n%x", "\\x41", "\x9b1m"]
        for i, word in enumerate(words):
            for method, signature, args in (("RemoveNat", "(sa{sv})", (word,)),
                                            ("CreateTap", "(ssssa{sv})", (word, word, word, word)),
                                            ("SignalVmm", "(ssa{sv})", (self.vm, word))):
                error = self.try_call(method, signature, (*args, options(op_id=f"op-cc{i:06x}")))
                self.assertTrue(error.message.isprintable(), ascii(error.message))
        with open(self.log, encoding="utf-8") as f:
            f.seek(self.start)
            text = f.read()
        self.assertTrue(text.replace("\n", "").isprintable())
        records = self.records()
        self.assertEqual(len(records), 3 * len(words))
        self.assertNotIn("forged", {key for r in records for key in r})
        self.assertIn("a\\x0aMESSAGE=forged", records[0]["MESSAGE"])

    def test_flood_is_counted(self):
        """Of a stranger's refusals the first of each while are recorded, the rest is a number; the owner's all are."""
        uid = str(self.stack.foreign.pw_uid)

        def rest(who):
            """What each while left out."""
            return [int(re.search(r"refused (\d+) more", r["MESSAGE"])[1]) for r in self.records()
                    if r.get("MESSAGE_ID") == message_ids()["FLOOD"] and r["BANGER_CALLER_UID"] == who]

        def recorded(who):
            return sum(r.get("BANGER_CALLER_UID") == who and "BANGER_OP_ID" in r for r in self.records())
        child = self.child("flood.py", self.stack.foreign)
        child.stdin.write(json.dumps({"path": self.stack.socket("system-bus"), "target": HELPER, "connections": 1,
                                      "method": "ListLeases", "signature": "(a{sv})", "body": "({},)", "fds": 0, "most": 400}) + "\n")
        child.stdin.flush()
        self.assertEqual(child.stdout.readline(), "ready\n")
        owners = [f"op-dd{i:06x}" for i in range(60)]
        for op in owners:
            self.try_call("RemoveNat", "(sa{sv})", ("x", options(op_id=op)))
        devstack.wait_for("the record of the flood", 120, lambda: rest(uid) or rest("unknown"))
        self.assertEqual(int(child.communicate()[0]), 400)
        for who in (uid, "unknown"):  # of the first the bus has not told yet whose they are
            self.assertLessEqual(recorded(who), 50 * (len(rest(who)) + 1))
        records = self.records()
        # The helper's own ids for the stranger's calls may begin the same way.
        self.assertEqual([r["BANGER_OP_ID"] for r in records if r.get("BANGER_OP_ID") in owners], owners)


class Operations(AuditTest):
    """The operation id is taken over, or made where there is none, and is in every error."""

    def test_adopted(self):
        for op in ("op-abcdef", "op-" + "0" * 32, "op-1a2b3c4d"):
            error = self.try_call("RemoveNat", "(sa{sv})", (self.vm, options(op_id=op)))
            self.assertTrue(error.message.endswith(f"({op})"), error.message)
            self.of(op)

    def test_minted(self):
        """Missing or malformed: a new one each time, never the caller's text."""
        seen = set()
        for op in (None, "", "op-", "op-abcde", "op-" + "0" * 33, "op-ABCDEF", "op-abcdeg", "xop-abcdef", "op-abcdef ",
                   "op-abcdef\n", "op-%s%s%s", "abcdef", "op-abc def", "../op-abcdef"):
            given = {} if op is None else options(op_id=op)
            error = self.try_call("RemoveNat", "(sa{sv})", (self.vm, given))
            minted = re.search(rf"\(({ID})\)$", error.message).group(1)
            self.assertNotEqual(minted, op)
            self.of(minted)
            seen.add(minted)
        self.assertEqual(len(seen), 14)

    def early(self):
        """(what, error name, method, signature, arguments, user): each way of being refused before a handler runs."""
        op = options(op_id="op-12345678")
        yield "unknown method", "org.freedesktop.DBus.Error.UnknownMethod", "RunThis", "(sa{sv})", ("id", op), "root"
        yield "arguments", INVALID_ARGS, "RemoveNat", "(ssa{sv})", ("a", "b", op), "root"
        yield "gate", "org.banger.Error.InvalidId", "RemoveNat", "(sa{sv})", ("a", op), "root"
        yield "option", INVALID_ARGS, "RemoveNat", "(sa{sv})", (self.vm, op | options(x=1)), "root"
        yield "stranger", DENIED, "RemoveNat", "(sa{sv})", (self.vm, op), "foreign"
        yield "stranger, unknown method", DENIED, "RunThis", "(sa{sv})", ("id", op), "foreign"
        yield "stranger, arguments", DENIED, "RemoveNat", "(ua{sv})", (7, op), "foreign"
        yield "handler", "org.banger.Error.NoSuchLease", "RemoveNat", "(sa{sv})", (self.vm, op), "owner"

    def test_early_errors_adopt_it(self):
        for what, name, method, signature, args, user in self.early():
            with self.subTest(what):
                self.start = os.path.getsize(self.log)
                error = self.try_call(method, signature, args, user)
                self.assertEqual(error.name, name)
                self.assertTrue(error.message.endswith("(op-12345678)"), error.message)
                record = self.of("op-12345678")
                self.assertEqual(record["BANGER_METHOD"], method)
                uid = {"root": 0, "owner": self.stack.owner.pw_uid, "foreign": self.stack.foreign.pw_uid}[user]
                self.assertEqual(record["BANGER_CALLER_UID"], str(uid))

    def test_denied_by_polkit(self):
        self.stack.stop("polkit")
        try:
            error = self.try_call("RemoveNat", "(sa{sv})", (self.vm, options(op_id="op-12345678")))
        finally:
            self.stack.start_polkit()
        self.assertEqual(error.name, NOT_AUTHORIZED)
        self.assertTrue(error.message.endswith("(op-12345678)"), error.message)
        self.assertEqual(self.of("op-12345678")["MESSAGE_ID"], message_ids()["REFUSED"])

    def test_no_options_at_all(self):
        for signature, args in (("()", ()), ("(s)", ("x",)), ("(a{ss})", ({"op-id": "op-12345678"},)),
                                ("(a{sv}s)", (options(op_id="op-12345678"), "x"))):
            error = self.try_call("RemoveNat", signature, args)
            self.assertRegex(error.message, rf"\({ID}\)$")
            self.assertNotIn("op-12345678", error.message)


class Controls(StackTest):
    """org.freedesktop.LogControl1 of both services."""

    with_manager = True

    def get(self, service, name, user="owner"):
        address = self.stack.session_address if service == MANAGER else self.stack.system_address
        return harness.call(address, (service[0], CONTROL[0], PROPERTIES), "Get", "(ss)", (CONTROL[1], name),
                            user=self.stack._who(user))[0]

    def set(self, service, name, value, user):
        address = self.stack.session_address if service == MANAGER else self.stack.system_address
        harness.call(address, (service[0], CONTROL[0], PROPERTIES), "Set", "(ssv)", (CONTROL[1], name, value),
                     user=self.stack._who(user))

    def test_level(self):
        for service, user in ((HELPER, "root"), (MANAGER, "owner"), (MANAGER, "root")):
            for level in ("err", "info", "debug"):
                with self.subTest(f"{service[0]} {user} {level}"):
                    self.set(service, "LogLevel", GLib.Variant("s", level), user)
                    self.assertEqual(self.get(service, "LogLevel"), level)
            for value in (GLib.Variant("s", "loud"), GLib.Variant("s", ""), GLib.Variant("u", 7)):
                with self.subTest(value.print_(True)):
                    self.refused(INVALID_ARGS, self.set, service, "LogLevel", value, user)
            self.assertEqual(self.get(service, "LogLevel"), "debug")

    def test_target(self):
        """Where standard error goes; that cannot be changed, not even to where the log would be lost."""
        for service, user in ((HELPER, "root"), (MANAGER, "owner")):
            self.assertEqual(self.get(service, "LogTarget"), "console")
            for target in ("null", "kmsg", "journal"):
                with self.subTest(f"{service[0]} {target}"):
                    self.refused(("org.freedesktop.DBus.Error.NotSupported",
                                  "org.freedesktop.DBus.Error.PropertyReadOnly"), self.set, service, "LogTarget",
                                 GLib.Variant("s", target), user)
            self.assertEqual(self.get(service, "LogTarget"), "console")
        self.assertEqual(self.get(HELPER, "SyslogIdentifier"), "bangerd-root")
        self.assertEqual(self.get(MANAGER, "SyslogIdentifier"), "bangerd")

    def test_strangers(self):
        """The helper's is root's alone to set; the manager's is the owner's and root's."""
        for service, user in ((HELPER, "foreign"), (HELPER, "owner"), (MANAGER, "foreign")):
            for name, value in (("LogLevel", "emerg"), ("LogTarget", "null")):
                with self.subTest(f"{service[0]} {user} {name}"):
                    self.refused((DENIED, NOT_AUTHORIZED), self.set, service, name, GLib.Variant("s", value), user)
        self.refused((DENIED, NOT_AUTHORIZED), self.get, MANAGER, "LogLevel", "foreign")
        for service in (HELPER, MANAGER):
            self.assertEqual(self.get(service, "LogLevel"), "debug")


if __name__ == "__main__":
    main()
