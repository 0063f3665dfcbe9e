#!/usr/bin/python3
"""Man pages: they format without a warning, and name what the code has.

Usage: test_man_pages.py BANGERD BANGERD-ROOT PAGE... with SOURCE in the environment.
Never asks an installed page.
"""
import os
import pathlib
import re
import subprocess
import sys
import unittest
import xml.etree.ElementTree as ElementTree

SOURCE = pathlib.Path(os.environ["SOURCE"])
DAEMONS = {"bangerd": sys.argv[1], "bangerd-root": sys.argv[2]}
PAGES = sys.argv[3:]


def read(name):
    return (SOURCE / name).read_text(encoding="utf-8")


def section(page, title):
    """Text of a section as it is written, with the escaped hyphens resolved."""
    path = next(p for p in PAGES if os.path.basename(p) == page)
    text = pathlib.Path(path).read_text(encoding="utf-8").replace("\\-", "-")
    return re.search(rf"^\.SH {title}\n(.*?)(?=^\.SH |\Z)", text, re.M | re.S).group(1)


def items(page, title):
    """First words of the bold lines: what the section lists."""
    return re.findall(r"^\.B (\S+)", section(page, title), re.M)


class Pages(unittest.TestCase):
    def test_they_format_without_warnings(self):
        self.assertGreater(len(PAGES), 6)
        env = dict(os.environ, LC_ALL="C.UTF-8", MANROFFSEQ="", MANWIDTH="80")
        for page in PAGES:
            with self.subTest(page):
                done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", page], env=env, text=True,
                                      stdin=subprocess.DEVNULL, capture_output=True, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn(os.path.basename(page).split(".")[0].upper(), done.stdout)

    def test_options_are_those_of_the_programs(self):
        for name, program in DAEMONS.items():
            with self.subTest(name):
                text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
                self.assertEqual(set(items(name + ".8", "OPTIONS")), set(re.findall(r"^ +(?:-\w, )?(--\w+)", text, re.M)))

    def test_variables_are_those_of_the_code(self):
        names = dict(re.findall(r'#define (BANGER_ENV_\w+) "(\w+)"', read("src/common/names.h")))
        for name, folder in (("bangerd", "manager"), ("bangerd-root", "privileged")):
            used = set()
            for file in (SOURCE / "src" / folder).rglob("*.c"):
                used |= set(re.findall(r"BANGER_ENV_\w+", file.read_text(encoding="utf-8")))
            used.add("BANGER_ENV_LOG_LEVEL")  # common/log.c, in both
            if folder == "manager":
                used.add("BANGER_ENV_CONFIG")  # common/install.c; the helper never asks it
            with self.subTest(name):
                self.assertEqual(set(items(name + ".8", "ENVIRONMENT")) & set(names.values()), {names[u] for u in used})

    def test_methods_are_those_of_the_contract(self):
        tree = ElementTree.fromstring(read("introspection/org.banger.Privileged.xml"))
        self.assertEqual(items("bangerd-root.8", "METHODS"), [m.get("name") for m in tree.iter("method")])

    def test_keys_are_those_of_the_reader(self):
        keys = re.search(r"known_keys\[\] = \{(.*?)NULL", read("src/common/install.c"), re.S).group(1)
        self.assertEqual(set(items("bangerd-root.8", "CONFIGURATION")), set(re.findall(r'"([^"]+)"', keys)))

    def test_settings_are_those_of_the_reader(self):
        keys = re.findall(r'\{ "(\w+)", "([\w-]+)", BANGER_CONFIG', read("src/common/config.c"))
        self.assertGreater(len(keys), 4)
        lists = re.findall(r'^static const char \*const (\w+)_keys\[\] = \{ (.*?), NULL \};', read("src/common/config-lists.c"), re.M)
        self.assertTrue(lists)
        keys += [(name + "[]", key) for name, each in lists for key in re.findall(r'"([\w-]+)"', each)]
        self.assertEqual(sorted(items("banger-config.5", "KEYS")), sorted(".".join(key) for key in keys))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
