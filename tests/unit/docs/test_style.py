#!/usr/bin/python3
"""What docs/style.md says and a program can see: sizes, and words that are not written.

Run by meson test with SOURCE in the environment.
"""
import ast
import os
import pathlib
import re
import unittest

SOURCE = pathlib.Path(os.environ["SOURCE"])
FILE_LINES, FUNCTION_LINES = 800, 60
DEFINITION = re.compile(r"^(\w+) \(((?:[^(){};]|\([^()]*\))*)\)\n\{", re.M)
FUNCTION = re.compile(r"\(\*\w+\) \([^()]*\)")  # a parameter that is one, with its own
TAKES = re.compile(r"\b\w*(?:Callback|Func|Handler|Notify|Done|Ended|Look|Progress|Stage|Write|_fn|_f) \w+|\(\*\w+\)")
STRING = re.compile(r'"(?:\\.|[^"\\])*"')


def files(*folders, ends):
    for folder in folders:
        yield from (path for path in sorted((SOURCE / folder).rglob("*")) if path.suffix in ends)


def short(path):
    return str(path.relative_to(SOURCE))


def functions_of_c(path):
    """(name, lines) of each function: its braces stand alone on their lines, as clang-format puts them."""
    begin, name, previous = 0, "", ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line == "{":
            begin, name = number, previous
        elif line == "}" and begin:
            yield name, number - begin + 1
            begin = 0
        previous = line


def functions_of_python(path):
    for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield each.name, each.end_lineno - each.lineno + 1


def in_order(path, included):
    """The lines of `included` ("<x.h>", '"room/x.h"') as docs/style.md puts them, "" between groups."""
    here = path.relative_to(SOURCE / "src").with_suffix(".h")
    own = [each for each in included if each == f'"{here}"']
    if not own and included[0].startswith(f'"{here.parent}/'):
        own = included[:1]  # where several files share a header, or a room its private one
    own = own if path.suffix == ".c" else []
    rest = sorted(each for each in included if each not in own)
    groups = [own, [each for each in rest if each[0] == "<"], [each for each in rest if each[0] == '"']]
    return "\n\n".join("\n".join(group) for group in groups if group).split("\n")


class Style(unittest.TestCase):
    def test_files_are_short(self):
        long = [short(path) for path in files("src", "tests", ends={".c", ".h", ".py"})
                if len(path.read_text(encoding="utf-8").splitlines()) > FILE_LINES]
        self.assertEqual(long, [])

    def test_functions_are_short(self):
        long = []
        for path in files("src", "tests", ends={".c", ".h", ".py"}):
            functions = functions_of_python(path) if path.suffix == ".py" else functions_of_c(path)
            long += [f"{short(path)}: {name}: {lines}" for name, lines in functions if lines > FUNCTION_LINES]
        self.assertEqual(long, [])

    def test_dialect(self):
        """No goto; a pointer in a condition stands alone."""
        bad = []
        for path in files("src", ends={".c", ".h"}):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                code = STRING.sub('""', line)
                if re.search(r"\bgoto\b", code) or re.match(r"\s*(\} else )?(if|while) \((?!.* = ).*[!=]= NULL", code):
                    bad.append(f"{short(path)}:{number}: {line.strip()}")
        self.assertEqual(bad, [])

    def test_ends(self):
        """What takes an error or less for the end is called in two files, which do not."""
        calls = re.compile(r"\b(readdir|g_dir_\w+|opendir|fdopendir|pread|pwrite|sendfile) \(")
        bad = [f"{short(path)}: {call}" for path in files("src", ends={".c", ".h"})
               if path.name not in ("bytes.h", "folder.h")
               for call in calls.findall(STRING.sub('""', path.read_text(encoding="utf-8")))]
        self.assertEqual(bad, [])

    def test_what_callbacks_get(self):
        """`user_data` in the function that takes a callback with it, `data` in the one that gets it."""
        bad = []
        for path in files("src", ends={".c"}):
            for name, parameters in DEFINITION.findall(path.read_text(encoding="utf-8")):
                takes = TAKES.search(parameters)
                handed = set(re.findall(r"\b(?:gpointer |void \*)((?:user_)?data)\b", FUNCTION.sub("", parameters)))
                if handed and ("user_data" in handed) != bool(takes):
                    bad.append(f"{short(path)}: {name}: {' and '.join(sorted(handed))}")
        self.assertEqual(bad, [])

    def test_includes(self):
        """A file's own header first, then the system's, then ours; each group sorted, an empty line between them."""
        bad = []
        for path in files("src", ends={".c", ".h"}):
            lines = [re.sub(r'^#include (["<][^">]+[">]).*', r"\1", line)
                     for line in path.read_text(encoding="utf-8").splitlines()]
            at = [number for number, line in enumerate(lines) if line[:1] in set('"<')]
            found = lines[at[0]:at[-1] + 1] if at else []
            wanted = in_order(path, [lines[number] for number in at]) if at else []
            bad += [f"{short(path)}: {found} where {wanted} belongs"] if found != wanted else []
        self.assertEqual(bad, [])

    def test_scenarios(self):
        """What run.py takes for one: a line that says what is shown, and `run (host)`."""
        bad = []
        for path in files("tests/host/scenarios", ends={".py"}):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            takes = [[each.arg for each in node.args.args] for node in tree.body
                     if isinstance(node, ast.FunctionDef) and node.name == "run"]
            bad += [short(path)] if not (ast.get_docstring(tree) or "").strip() or takes != [["host"]] else []
        self.assertEqual(bad, [])

    def test_banners(self):
        """A file begins with what it is for, in so many words as a reader needs."""
        bad = [short(path) for path in files("src", ends={".c", ".h"})
               if not re.match(r"/\* \S", path.read_text(encoding="utf-8"))]
        self.assertEqual(bad, [])


if __name__ == "__main__":
    unittest.main()
