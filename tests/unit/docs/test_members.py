#!/usr/bin/python3
"""A verb, and a property, stands in the same rows everywhere: the manager's tables, the bus by name and by object, the
command line, and docs/dbus.md.

Run by meson test with SOURCE in the environment. That the live interfaces are those of introspection/, and the options
those of docs/dbus.md, is tests/bus/test_contract.py; that completion and help offer what is in the command table,
cli-complete and cli-text.
"""
import os
import pathlib
import re
import unittest
from xml.etree import ElementTree

SOURCE = pathlib.Path(os.environ["SOURCE"])
KINDS = ("Manager", "VM", "Image", "Kernel", "Snapshot", "Job")  # those of Process are told of in words
# What the command line says in words of another verb, or of none.
COMMANDS = {"ImportWorkspace": "vm run", "Snapshot": "vm snapshot create"}
# What it has no use for: it takes descriptors, names objects itself, and asks of many at once.
NOT_CALLED = {"CaptureVM", "GetSnapshot", "GetStatsVM"}
INSIDE = {"HOLD", "RESTORE"}  # verbs of which nobody sees a job, parts of what others are asked for; or of a snapshot
OWN = {"Create", "ImportWorkspace", "Snapshot", "Fork"}  # they take more than options


def read(path):
    return (SOURCE / path).read_text(encoding="utf-8")


def methods(kind):
    """{name: ([types of what goes in], [names of what comes out])} of org.banger.@kind."""
    return {method.get("name"): ([arg.get("type") for arg in method if arg.get("direction") == "in"],
                                 [arg.get("name") for arg in method if arg.get("direction") == "out"])
            for method in ElementTree.fromstring(read(f"introspection/org.banger.{kind}.xml")).iter("method")}


def properties(kind):
    root = ElementTree.fromstring(read(f"introspection/org.banger.{kind}.xml"))
    return [each.get("name") for each in root.iter("property")]


def verbs():
    """The rows of verbs.c as members: ["Create", "Start", ... "ImportWorkspace"]."""
    table = read("src/manager/vm/verbs.c").split("verb_rows[] = {")[1].split("\n};")[0]
    return ["".join(word.capitalize() for word in row.split("_"))
            for row in re.findall(r"^  \{ BANGER_VM_VERB_(\w+),", table, re.M) if row not in INSIDE]


def by_name(verb, kind="VM"):
    """The manager's member for it: what names its object already does not name it twice."""
    return verb if verb == "ImportWorkspace" else verb + kind


def commands():
    rows = read("src/cli/command-table.c").split("BangerCommand commands[]")[1] + read("src/cli/snapshot-rows.h")
    return re.findall(r'^  \{ "([a-z -]+)", N_ \(', rows, re.M)


def called():
    """Every string of the command line that a member could be called by."""
    return set(re.findall(r'"([A-Z]\w+)"', "".join(read(f"src/cli/{path.name}")
                                                   for path in (SOURCE / "src/cli").glob("*.c"))))


def documented():
    """Pairs of docs/dbus.md's table of verbs: the manager's member, (kind, member) of the object; None: there is none."""
    rows = re.findall(r"^\| (?:`(\w+)`)? *\| (?:`(\w+)\.(\w+)`)? *\| .+ \|$", read("docs/dbus.md"), re.M)
    return {(manager or None, (kind, member) if kind else None) for manager, kind, member in rows
            if manager or kind}


class Verbs(unittest.TestCase):
    def test_every_row_is_on_the_bus_and_every_job_of_a_vm_is_a_row(self):
        self.assertGreater(len(verbs()), 8)
        begins_job = {name for name, (_, out) in methods("VM").items() if out == ["job"]}
        self.assertEqual(begins_job, set(verbs()) - {"Create"})
        self.assertLessEqual({by_name(verb) for verb in verbs()}, set(methods("Manager")))

    def test_every_row_has_its_members_in_the_tables(self):
        plain = dict(re.findall(r'MEMBER \("(\w+)", (\w+)\)', read("src/manager/bus/vm-dbus.h")))
        self.assertEqual({verb for verb, row in plain.items() if verb.upper() == row},
                         set(verbs()) - OWN)
        rows = re.findall(r"^  \[BANGER_VM_VERB_(\w+)\] = \{", read("src/manager/bus/vm-dbus.c"), re.M)
        self.assertEqual({"".join(word.capitalize() for word in row.split("_")) for row in rows},
                         set(verbs()) - OWN | {"ImportWorkspace"})

    def test_every_verb_exists_twice(self):
        for kind in ("VM", "Image", "Kernel", "Snapshot"):
            for verb in methods(kind):
                if (kind, verb) != ("VM", "OpenConsole"):
                    self.assertIn(by_name(verb, kind), methods("Manager"))

    def test_every_row_is_a_command_that_calls_it(self):
        self.assertGreater(len(commands()), 30)
        for verb in verbs():
            self.assertIn(COMMANDS.get(verb, f"vm {verb.lower()}"), commands())
            self.assertIn(by_name(verb), called())

    def test_the_command_line_can_do_what_the_bus_can(self):
        """Everything the manager can do with a name is called by it, there or on the object."""
        on_objects = {by_name(verb, kind) for kind in ("VM", "Image", "Kernel", "Snapshot") for verb in methods(kind)
                      if verb in called()}
        self.assertEqual(set(methods("Manager")) - called() - on_objects, NOT_CALLED)

    def test_every_member_is_a_line_of_the_documentation(self):
        lines = documented()
        takes_options = {(kind, name) for kind in KINDS for name, (types, _) in methods(kind).items()
                         if types[-1:] == ["a{sv}"]}
        self.assertEqual({("Manager", name) for name, _ in lines if name} | {member for _, member in lines if member},
                         takes_options)
        twins = {(by_name(verb, kind), (kind, verb)) for kind in ("VM", "Image", "Kernel", "Snapshot") for verb in methods(kind)
                 if by_name(verb, kind) in methods("Manager")}
        self.assertLessEqual(twins, lines)

    def test_every_source_that_has_a_name_is_told_of(self):
        """Who writes WORD:NAME finds the word in docs/dbus.md and in the command line."""
        for kind in ("image", "kernel"):
            header, rows = read(f"src/manager/{kind}/sources.h"), read(f"src/manager/{kind}/sources.c")
            words = dict(re.findall(r'^#define (\w+) "([\w-]+)"', header, re.M))
            named = [words.get(row, row.strip('"')) for row in re.findall(r'^  \{ ("?\w+"?), TRUE,', rows, re.M)]
            self.assertTrue(named)
            for word in named:
                self.assertIn(f"`{word}:", read("docs/dbus.md"))
                self.assertIn(f"{word}:", read("src/cli/command-table.c") + read("src/cli/image.c"))

    def test_the_command_line_shows_every_property(self):
        text = read("src/cli/objects.c")
        for kind in ("VM", "Image", "Kernel", "Snapshot"):
            table = text.split(f"BangerField {kind.lower()}_fields[] = {{")[1].split("\n};")[0]
            shown = re.findall(r'^  \{ "(\w+)", "(\w+)",', table, re.M)
            self.assertEqual({name for name, _ in shown}, set(properties(kind)))
            self.assertEqual(len({key for _, key in shown}), len(shown))


if __name__ == "__main__":
    unittest.main()
