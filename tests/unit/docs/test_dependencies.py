#!/usr/bin/python3
"""What meson asks for, what the programs link, and what the lists of packages and docs/architecture.md say are the same.

Usage: test_dependencies.py BUILD with SOURCE in the environment.
Never asks a mirror: the packages are those that this machine has the files from.
"""
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(os.environ["SOURCE"])
BUILD = sys.argv.pop(1) if len(sys.argv) > 1 else "."
# How docs/architecture.md calls what others know by the package's name.
WORDS = {"libglib2.0": "GLib", "libsystemd": "sd-bus", "libpolkit-gobject-1": "polkit-gobject", "libjson-glib": "json-glib",
         "libsoup-3.0": "libsoup 3", "comerr": "libcom_err", "libssl": "libcrypto"}


def output(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def packages_of(paths):
    """Path -> the Debian package that it is from, without its architecture. A merged /usr has two names for some."""
    names = {path: (path, os.path.realpath(path), os.path.realpath(path).removeprefix("/usr")) for path in paths}
    found = subprocess.run(["dpkg-query", "-S", *{name for those in names.values() for name in those}],  # at once: it reads all lists
                           capture_output=True, text=True, check=False).stdout
    owners = {path: re.split("[:,]", owner)[0] for owner, path in re.findall(r"^(?!diversion )(.+): (/.*)$", found, re.M)}
    none = [path for path, those in names.items() if not owners.keys() & set(those)]
    if none:
        raise AssertionError(f"{none} are of no Debian package")
    return {path: next(owners[name] for name in those if name in owners) for path, those in names.items()}


@functools.cache
def asked_for():
    """name of a meson dependency -> the package with its pkg-config file."""
    names = {each["name"] for each in json.loads(output("meson", "introspect", "--dependencies", BUILD))}
    # A build folder also remembers what was asked for before.
    wanted = "".join(path.read_text(encoding="utf-8") for path in SOURCE.glob("**/meson.build"))
    names = {name for name in names if f"'{name}'" in wanted}
    pc = {name: output("pkg-config", "--variable=pcfiledir", name).strip() for name in names if name != "threads"}
    found = packages_of([f"{folder}/{name}.pc" for name, folder in pc.items()])
    return {name: found[f"{folder}/{name}.pc"] for name, folder in pc.items()}


@functools.cache
def linked():
    """Of all programs that were built: the libraries' names as the linker wrote them."""
    targets = json.loads(output("meson", "introspect", "--targets", BUILD))
    programs = [path for target in targets for path in target["filename"] if target["type"] == "executable"]
    found = set(re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "-d", *filter(os.path.exists, programs))))
    return {name for name in found if not re.match(r"(libc|ld-linux|libm|libasan|libubsan|libgcc_s|libstdc)\b", name)}


def listed(group):
    return set(output(str(SOURCE / "scripts/dependencies"), group).split())


def build_depends():
    text = (SOURCE / "packaging/debian/control").read_text(encoding="utf-8")
    return set(re.findall(r"^ ([a-z0-9.+-]+)", text.split("Build-Depends:")[1].split("Standards-Version")[0], re.M))


def development(packages):
    """Of libraries, which are the ones that have to be linked."""
    return {name for name in packages if name.endswith("-dev") and name != "libc6-dev"}


class Dependencies(unittest.TestCase):
    def test_what_is_asked_for_is_linked(self):
        for name in asked_for():
            with self.subTest(name):
                libraries = re.findall(r"-l(\S+)", output("pkg-config", "--libs-only-l", name))
                self.assertTrue([so for so in linked() for library in libraries[:1] if so.startswith(f"lib{library}.so")])

    def test_lists_of_packages_have_what_is_asked_for_and_no_more(self):
        self.assertEqual(development(listed("build")), set(asked_for().values()))
        self.assertEqual(development(build_depends()), set(asked_for().values()))

    def test_list_of_libraries_has_what_is_linked_and_no_more(self):
        cache = re.findall(r"^\t(\S+) .*=> (\S+)$", output("/sbin/ldconfig", "-p"), re.M)
        found = packages_of([path for name, path in dict(reversed(cache)).items() if name in linked()])
        self.assertEqual(listed("libraries"), set(found.values()))

    def test_architecture_names_each_library(self):
        text = (SOURCE / "docs/architecture.md").read_text(encoding="utf-8").split("## Libraries\n")[1]
        table = " ".join(re.findall(r"^\|.*\|(.*)\|$", text.split("\n## ")[0], re.M))
        words = {WORDS.get(name, name) for name in (each.removesuffix("-dev") for each in asked_for().values())}
        self.assertEqual({word for word in words if not re.search(rf"(?<!\S){re.escape(word)}(?![\w-])", table)}, set())
        self.assertEqual(set(re.findall(r"\blib(?!rar)[\w-]+(?: \d)?", table)) - words, set())


class Missing(unittest.TestCase):
    def test_nothing(self):
        self.skipTest("needs dpkg-query, readelf and pkg-config: the lists are of Debian packages")


def load_tests(loader, _tests, _pattern):
    tools = all(shutil.which(tool) for tool in ("dpkg-query", "readelf", "pkg-config"))
    return loader.loadTestsFromTestCase(Dependencies if tools else Missing)


if __name__ == "__main__":
    unittest.main(verbosity=2)
