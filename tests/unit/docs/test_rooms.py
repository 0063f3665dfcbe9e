#!/usr/bin/python3
"""The house is as docs/architecture.md draws it: the table of rooms there is read, and held against includes and linker symbols.

Usage: test_rooms.py BUILD with SOURCE in the environment.
"""
import collections
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(os.environ["SOURCE"]) / "src"
BUILD = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".")
MAP = SOURCE.parent / "docs/architecture.md"
HOUSE = "manager"
# Everybody's: C and GLib.
FREE = {"libc", "libm", "libgcc_s", "libglib-2.0", "libgobject-2.0", "libgio-2.0", "libasan", "libubsan", "ld-linux-x86-64"}


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@functools.cache
def rooms():
    """The table: room -> what it may use and the libraries that it has to itself, from bottom to top."""
    text = MAP.read_text(encoding="utf-8").split("<!-- rooms")[1].split("<!-- end of rooms -->")[0]
    Room = collections.namedtuple("Room", "uses libraries")
    table = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`"):
            table[cells[0].strip("`")] = Room(*(re.findall(r"`([^`]+)`", cell) for cell in cells[1:3]))
    return table


def room_of(path):
    return str(pathlib.PurePath(path).parent)


@functools.cache
def sources():
    return sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.[ch]"))


def includes():
    for path in sources():
        for name in re.findall(r'^\s*#\s*include\s*"([^"]+)"', (SOURCE / path).read_text(encoding="utf-8"), re.M):
            yield path, name


@functools.cache
def objects():
    """program -> source -> (symbols that it defines, symbols that it wants). A program is what is linked of one folder."""
    programs = collections.defaultdict(dict)
    for each in json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8")):
        source = pathlib.Path(each["directory"], each["file"]).resolve()
        program, slash, _ = each["output"].partition(".p/")
        if slash and source.is_relative_to(SOURCE.resolve()) and program.startswith("src/"):
            programs[program][str(source.relative_to(SOURCE.resolve()))] = BUILD / each["output"]
    listing = run("nm", "--print-file-name", *{str(path) for members in programs.values() for path in members.values()})
    defined, wanted = collections.defaultdict(set), collections.defaultdict(set)
    for path, kind, name in re.findall(r"^(\S+):[0-9a-f ]* ([A-Za-z]) (\S+)$", listing, re.M):
        if kind == "U":
            wanted[path].add(name)
        elif kind.isupper():
            defined[path].add(name)
    return {program: {source: (defined[str(path)], wanted[str(path)]) for source, path in members.items()}
            for program, members in programs.items()}


@functools.cache
def calls():
    """(source, source) -> names that the first wants of the second, in the same program."""
    found = collections.defaultdict(set)
    for members in objects().values():
        home = {name: source for source, (defined, _) in members.items() for name in defined}
        for source, (_, wanted) in members.items():
            for name in wanted & home.keys():
                found[source, home[name]].add(name)
    return found


def circle(arrows):
    """The sources of one circle, in its order; empty: there is none."""
    after, seen, way = collections.defaultdict(list), set(), []
    for a, b in arrows:
        after[a].append(b)

    def walk(node):
        if node in way:
            return way[way.index(node):] + [node]
        if node not in seen:
            seen.add(node)
            way.append(node)
            for each in sorted(after[node]):
                if found := walk(each):
                    return found
            way.pop()
        return []

    return next(filter(None, map(walk, sorted(after))), [])


@functools.cache
def libraries():
    """symbol -> library, of those that the programs are linked with and that are not everybody's."""
    found = {}
    for target in json.loads(run("meson", "introspect", "--targets", str(BUILD))):
        for program in target["filename"]:
            if target["type"] != "executable" or "/src/" not in program:
                continue
            needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "-d", program)))
            for name, path in re.findall(r"(\S+) => (/\S+)", run("ldd", program)) if needed else ():
                short = name.split(".so")[0]
                if name in needed and short not in FREE and short not in found.values():
                    names = re.findall(r"^\S+ [TWDBRVi] ([^@\s]+)", run("nm", "-D", "--defined-only", path), re.M)
                    found.update(dict.fromkeys(names, short))
    return found


@functools.cache
def called():
    """Every string of the manager that could be a method of the root helper, but for its client's own table."""
    text = "".join((SOURCE / path).read_text(encoding="utf-8") for path in sources()
                   if path.startswith("manager/") and not path.startswith("manager/peer/helper."))
    return set(re.findall(r'"([A-Z]\w+)"', re.sub(r"/\*.*?\*/", "", text, flags=re.S)))


def may_use(room, name):
    """Whether the table lets @room take the header @name: its own, one of a room in its row, or one that is named there."""
    return room_of(name) in (room, *rooms()[room].uses) or name in rooms()[room].uses


class Rooms(unittest.TestCase):
    maxDiff = None

    def test_the_table_lists_the_folders_from_bottom_to_top(self):
        self.assertEqual(sorted(rooms()), sorted({room_of(path) for path in sources()}))
        order = list(rooms())
        for room, row in rooms().items():
            for use in row.uses:
                with self.subTest(f"{room} uses {use}"):
                    self.assertIn(room_of(use) if use.endswith(".h") else use, order[:order.index(room)])

    def test_includes_go_along_the_arrows(self):
        used, wrong = collections.defaultdict(set), {}
        for path, name in includes():
            self.assertTrue((SOURCE / name).exists(), f'{path} includes "{name}": say it from src/')
            if path == f"{HOUSE}/main.c":
                continue
            room = room_of(path)
            if may_use(room, name):
                used[room].add(name)
            else:
                wrong[path] = name
        self.assertEqual({}, wrong)
        for room, row in rooms().items():
            for use in row.uses:
                self.assertTrue({use, use + "/"} & (used[room] | {room_of(name) + "/" for name in used[room]}),
                                f"{room} does not use {use}: take the arrow out")

    def test_every_file_is_built(self):
        """What no meson.build names is nowhere, and nobody would miss it."""
        built = {source for members in objects().values() for source in members}
        self.assertEqual(built, {path for path in sources() if path.endswith(".c")})

    def test_private_headers_stay_at_home(self):
        private = [(path, name) for path, name in includes() if name.endswith("private.h")]
        self.assertTrue(private)
        self.assertEqual([], [each for each in private if room_of(each[0]) != room_of(each[1])])

    def test_no_circle_of_object_files(self):
        self.assertGreater(len(calls()), 300)
        found = circle(calls())
        self.assertEqual({}, {f"{a} -> {b}": sorted(calls()[a, b]) for a, b in zip(found, found[1:])})

    def test_a_library_stays_with_its_rooms(self):
        used = collections.defaultdict(set)
        for members in objects().values():
            for source, (_, wanted) in members.items():
                if source != f"{HOUSE}/main.c":
                    used[room_of(source)].update(libraries()[name] for name in wanted & libraries().keys())
        for room, row in rooms().items():
            with self.subTest(room):
                self.assertEqual(set(row.libraries), used[room])

    def test_every_power_has_a_caller_or_says_for_what_it_waits(self):
        """The root helper offers nothing that only its tests reach, without a word on why."""
        contract = (SOURCE.parent / "introspection/org.banger.Privileged.xml").read_text(encoding="utf-8")
        offered = set(re.findall(r'<method name="(\w+)"', contract))
        text = (SOURCE.parent / "docs/privileges.md").read_text(encoding="utf-8")
        waiting = set(re.findall(r"^\| `(\w+)` \|", text.split("<!-- waiting")[1].split("<!-- end of waiting -->")[0], re.M))
        self.assertGreater(len(called() & offered), 10)
        self.assertEqual(waiting, offered - called())

    def test_the_client_asks_as_the_contract_says(self):
        client = (SOURCE / "manager/peer/helper.c").read_text(encoding="utf-8")
        contract = (SOURCE.parent / "introspection/org.banger.Privileged.xml").read_text(encoding="utf-8")
        offered = {}
        for name, body in re.findall(r'<method name="(\w+)">(.*?)</method>', contract):
            args = re.findall(r'type="([^"]+)" direction="(\w+)"', body)
            offered[name] = tuple("".join(kind for kind, way in args if way == each) for each in ("in", "out"))
        rows = {name: (args + "a{sv}", reply) for name, args, reply in re.findall(r'^  \{ "(\w+)", "(.*?)", "(.*?)",', client, re.M)}
        self.assertGreater(len(rows), 10)
        self.assertEqual({name: offered[name] for name in called() & offered.keys()}, rows)

    def test_a_name_means_one_thing_in_all_programs(self):
        homes = collections.defaultdict(set)
        for members in objects().values():
            for source, (defined, _) in members.items():
                for name in defined - {"main"}:
                    if name.startswith(("banger_", "Banger")):
                        homes[name].add(source)
        kind = re.compile(r"^\}\s*(Banger\w+);|^typedef (?:struct|enum|union) \w+ (Banger\w+);"
                          r"|^struct (Banger\w+) \{|^typedef .*\(\*(Banger\w+)\)", re.M)
        for path in sources():
            for names in kind.findall((SOURCE / path).read_text(encoding="utf-8")):
                homes[next(filter(None, names))].add(path.split("/")[0])
        self.assertEqual(set(), {name for name, where in homes.items() if len(where) > 1})


if __name__ == "__main__":
    unittest.main()
