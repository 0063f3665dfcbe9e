#!/usr/bin/python3
"""`banger-guest receive`: a work tree, again and again, and what is in its way."""

import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import unittest

sys.dont_write_bytecode = True
GUEST = os.environ["BANGER_GUEST"]


def tar_of(entries):
    """@entries: name -> text, None: a folder, ("link", target), or (mode, text)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, what in entries.items():
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = 1000000000, 0o755 if what is None else 0o644
            data = b""
            if what is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(what, tuple) and what[0] == "link":
                info.type, info.linkname = tarfile.SYMTYPE, what[1]
            else:
                if isinstance(what, tuple):
                    info.mode, what = what
                data = what.encode()
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Receive(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="banger-receive-")
        self.addCleanup(folder.cleanup)
        self.home = pathlib.Path(folder.name) / "home"
        self.home.mkdir()
        self.outside = pathlib.Path(folder.name) / "outside"
        self.outside.mkdir()
        (self.outside / "f").write_text("mine")
        self.tree = self.home / "t"

    def receive(self, files, more=None, *, status=0, how="git", script="", name="t", cut=None):
        """@files: of the list and the tree; @more: of the tar alone."""
        entries = {"t": None, **{f"t/{path}": what for path, what in {**files, **(more or {})}.items()}}
        names = b"".join(path.encode() + b"\0" for path, what in sorted(files.items()) if what is not None)
        sent = names + tar_of(entries)
        done = subprocess.run([GUEST, "receive", self.home, name, str(len(names)), how, script], input=sent[:cut], capture_output=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def found(self):
        return sorted(str(path.relative_to(self.tree)) for path in self.tree.rglob("*"))

    def test_first(self):
        done = self.receive({"a": (0o755, "#!"), "d": None, "d/b": (0o666, "text"), "e": "", "l": ("link", "a")},
                            script="pwd; umask; cat t/d/b; exit 7", status=7)
        self.assertEqual(done.stdout, f"{self.home}\n0022\ntext".encode())
        self.assertEqual(self.found(), ["a", "d", "d/b", "e", "l"])
        modes = {name: (self.tree / name).stat().st_mode & 0o7777 for name in ("a", "d", "d/b", "e")}
        self.assertEqual(modes, {"a": 0o755, "d": 0o755, "d/b": 0o666, "e": 0o644})
        self.assertEqual({(self.tree / name).stat().st_mtime for name in ("a", "d", "d/b", "e")}, {1000000000})
        self.assertEqual(os.readlink(self.tree / "l"), "a")

    def test_again(self):
        self.receive({"a": "1", "d": None, "d/b": "1", "gone": "1", "d/gone": "1"},
                     {".git": None, ".git/HEAD": "1", ".git/hidden": "1", ".git/objects": None, ".git/objects/o": "1", ".git/logs": "1"})
        (self.tree / "own").write_text("the guest's")
        self.receive({"a": "2", "d": None, "d/b": "2", "new": "2"}, {".git": None, ".git/HEAD": "2", ".git/objects": None})
        self.assertEqual(self.found(), [".git", ".git/HEAD", ".git/logs", ".git/objects", ".git/objects/o", "a", "d", "d/b", "new", "own"])
        self.assertEqual((self.tree / "d/b").read_text(), "2")

    def test_plain(self):
        self.receive({"a": "1"}, {".git": None, ".git/HEAD": "1", ".git/banger": None, ".git/banger/base": "1"})
        self.receive({"a": "1"}, how="plain")
        self.assertEqual(self.found(), [".git", ".git/HEAD", "a"])

    def test_in_the_way(self):
        """A folder where a file comes, a file or a link where a folder comes; no link is followed to anything."""
        self.receive({"a": "1", "d": None, "d/f": "1", "e": None, "e/f": "1"})
        (self.tree / "a").unlink()
        (self.tree / "a/below/deep").mkdir(parents=True)
        os.symlink(self.outside, self.tree / "a/below/link")
        for name in ("d", "e"):
            (self.tree / name / "f").unlink()
            (self.tree / name).rmdir()
            os.symlink(self.outside, self.tree / name)
        os.symlink(self.outside, self.tree / ".git")
        self.receive({"a": "2", "d": None, "d/f": "2", "x": None, "x/y": "2"}, {".git": None, ".git/HEAD": "2"})
        self.assertEqual(self.found(), [".git", ".git/HEAD", "a", "d", "d/f", "e", "x", "x/y"])
        self.assertEqual({path.name: path.read_text() for path in self.outside.iterdir()}, {"f": "mine"})

    def test_top_is_a_link(self):
        os.symlink(self.outside, self.tree)
        self.receive({"f": "2"})
        self.assertFalse(self.tree.is_symlink())
        self.assertEqual((self.outside / "f").read_text(), "mine")

    def test_list_that_lies(self):
        """Of an earlier copy, as a guest may have written it."""
        self.receive({"a": "1"})
        for text in (b"../../outside/f\0/f\0", b"./../../outside/f\0", b"no end", b"\0\0", b"a\0" * 70000):
            (self.home / ".cache/banger/t").write_bytes(text)
            self.receive({"b": "1"})
            self.assertEqual((self.outside / "f").read_text(), "mine")
            self.assertEqual((self.tree / "b").read_text(), "1")

    def test_not_whole(self):
        self.receive({"a": "1"})
        self.receive({"a": "2", "b": "2"}, status=1, cut=3)
        self.assertEqual({path.name: path.read_bytes() for path in (self.home / ".cache/banger").iterdir()}, {"t": b"a\0"})
        self.assertEqual((self.tree / "a").read_text(), "1")
        self.receive({"a": "2", "b": "2"}, status=1, cut=4 + 512 * 3)
        self.receive({"a": "2", "b": "2"})
        self.assertEqual(self.found(), ["a", "b"])

    def test_words(self):
        for name in ("", ".", "..", "a/b"):
            self.receive({}, name=name, status=125)
        for bytes_ in ("", "x", "-1", "1x"):
            done = subprocess.run([GUEST, "receive", self.home, "t", bytes_, "git"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(subprocess.run([GUEST, "receive"], capture_output=True, check=False).returncode, 125)


if __name__ == "__main__":
    unittest.main()
