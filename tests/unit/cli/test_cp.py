#!/usr/bin/python3
"""Files on their way into a guest and out of it: banger against a mock manager, whose guest is a folder of this machine and the
real agent, or a program that sends whatever it likes.

Never writes outside of its own folder: that nothing does is what is shown."""
import os
import pathlib
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
import unittest

sys.dont_write_bytecode = True
from case import BANGER, Case  # noqa: E402

AGENT = os.environ["BANGER_GUEST"]
AWKWARD = [b"new\nline", b"tab\there", b"\xff\xfe bytes", b'quo"te', b"back\\slash", b"esc\x1b[31m", b" lead", "ümlaut".encode(), b"-dash",
           b"co:lon", b"n" * 255]
LONG = b"/".join([b"d" * 200] * 4)
SPARSE_BYTES = 1 << 30


def entry(name, content=b"x", kind=tarfile.REGTYPE, link="", mode=0o644, size=None):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, link, mode, 1000000000
    info.size = (len(content) if kind == tarfile.REGTYPE else 0) if size is None else size
    data = content if kind == tarfile.REGTYPE else b""
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


END = bytes(1024)
FOLDER = entry("it", kind=tarfile.DIRTYPE, mode=0o755)


class Copies(Case):
    def setUp(self):
        super().setUp()
        self.env["BANGER_INTAKE"] = os.environ["BANGER_INTAKE"]
        self.guest, self.host = self.state / "of guest", self.state / "of host"
        self.guest.mkdir()
        self.host.mkdir()
        (self.state / "agent").touch()
        (self.state / "guest").symlink_to(AGENT)
        self.run_banger("vm", "create", "web", "--start", "-q")

    def cp(self, *words, **more):
        return self.run_banger("vm", "cp", *map(str, words), **more)

    def in_guest(self, path=""):
        return f"web:{self.guest / path}"

    @staticmethod
    def tree(top):
        """Everything that is kept of everything there is."""
        found, names = {}, {}
        for folder, folders, files in os.walk(os.fsencode(top)):
            for name in [b".", *files, *[f for f in folders if os.path.islink(os.path.join(folder, f))]]:
                path = os.path.join(folder, name)
                st = os.lstat(path)
                relative = os.path.relpath(path, os.fsencode(top))
                content = os.readlink(path) if stat.S_ISLNK(st.st_mode) else b""
                if stat.S_ISREG(st.st_mode):
                    same = names.setdefault(st.st_ino, []) if st.st_nlink > 1 else []
                    same.append(relative)
                    with open(path, "rb") as file:
                        content = file.read(1 << 16), st.st_size, same
                found[relative] = stat.filemode(st.st_mode), st.st_mtime_ns, content
        for value in names.values():
            value.sort()
        return found

    def make(self, top):
        top.mkdir()
        (top / "empty").mkdir()
        for mode in (0o755, 0o600, 0o444, 0o000):
            (top / f"mode {mode:o}").write_text(f"{mode:o}")
            (top / f"mode {mode:o}").chmod(mode)
        (top / "nothing").touch()
        (top / "link").symlink_to("../of nobody")
        (top / "long link").symlink_to("l/" * 900)
        os.link(top / "mode 755", top / "empty" / "hard")
        with open(top / "holes", "wb") as file:
            for at in (1 << 20, 1 << 29):
                file.seek(at)
                file.write(b"data")
            file.truncate(SPARSE_BYTES)
        (top / "all hole").touch()
        os.truncate(top / "all hole", 1 << 20)
        for name in AWKWARD:
            with open(os.path.join(os.fsencode(top), name), "wb") as file:
                file.write(name * 1000)
        os.makedirs(os.path.join(os.fsencode(top), LONG))
        os.chmod(top / "empty", 0o550)
        for folder, folders, files in os.walk(top, topdown=False):
            for number, name in enumerate([".", *files]):
                os.utime(os.path.join(folder, name), ns=(0, 1234567890_123456789 - number * 10**17), follow_symlinks=False)
        os.utime(top / "nothing", ns=(0, -1500000000))
        os.utime(top / "link", ns=(0, -500000000), follow_symlinks=False)


class Kept(Copies):
    def test_there_and_back(self):
        self.make(self.host / "top")
        before = self.tree(self.host / "top")
        self.assertEqual(self.cp(self.host / "top", self.in_guest()), ("", ""))
        self.assertEqual(self.tree(self.guest / "top"), before)
        self.assertEqual(self.cp(self.in_guest("top"), self.host / "back"), ("", ""))
        self.assertEqual(self.tree(self.host / "back"), before)
        for top in (self.guest / "top", self.host / "back"):
            self.assertLess((top / "holes").stat().st_blocks * 512, 1 << 20)

    def test_named(self):
        """Names of any bytes on the command line, of either side."""
        for name in map(os.fsdecode, AWKWARD):
            with self.subTest(name=name):
                (self.host / name).write_text("x")
                self.assertEqual(self.cp(self.host / name, self.in_guest()), ("", ""))
                self.assertEqual(self.cp(self.in_guest(name), self.host / "back"), ("", ""))
                self.assertEqual((self.host / "back").read_text(), "x")

    def test_whose(self):
        """What changes who a program runs as is gone, and that is said; times and content of one file."""
        (self.host / "sh").write_text("x")
        (self.host / "sh").chmod(0o6755)
        os.utime(self.host / "sh", ns=(0, 10**18 + 1))
        for words in ((self.host / "sh", self.in_guest("sh")), (self.in_guest("sh2"), self.host / "sh2")):
            if words[1] == self.host / "sh2":
                (self.guest / "sh2").write_text("x")
                (self.guest / "sh2").chmod(0o4711)
            _, err = self.cp(*words)
            self.assertIn("files that lost a set-user-id or set-group-id bit: 1", err)
        self.assertEqual(stat.S_IMODE((self.guest / "sh").stat().st_mode), 0o755)
        self.assertEqual((self.guest / "sh").stat().st_mtime_ns, 10**18 + 1)
        self.assertEqual(stat.S_IMODE((self.host / "sh2").stat().st_mode), 0o711)

    def kinds(self, top):
        """What every form of a tar can hold."""
        return {name: kept[0] for name, kept in self.tree(top).items() if len(name) < 90 and name not in (b"holes", b"long link")}

    def test_streams(self):
        """A tar either way, as tar(1) reads and writes it."""
        self.make(self.guest / "top")
        made = subprocess.run([BANGER, "vm", "cp", self.in_guest("top"), "-"], env=self.env, capture_output=True, check=True).stdout
        out = self.state / "out"
        out.mkdir()
        subprocess.run(["tar", "-xpC", out], input=made, check=True)
        self.assertEqual(self.tree(out / "top"), self.tree(self.guest / "top"))
        early = subprocess.run(f"'{BANGER}' vm cp '{self.in_guest('top')}' - | head -c 100", shell=True, env=self.env, capture_output=True, check=True)
        self.assertEqual((len(early.stdout), early.stderr), (100, b"banger: nobody takes what web sends any more\n"))
        for form in ("pax", "gnu", "ustar"):
            (self.guest / form).mkdir()
            packed = subprocess.run(["tar", "-c", f"--format={form}", "--mtime=@1000000000", *(["--sparse"] if form == "pax" else ["--exclude=holes"]), "top"],
                                    cwd=out, capture_output=True, check=False).stdout
            self.cp("-", self.in_guest(form), stdin=packed)
            self.assertEqual(self.kinds(self.guest / form / "top"), self.kinds(out / "top"), form)
        _, err = self.cp("-", self.in_guest("pax"), stdin=b"\x1f\x8b" + bytes(600), status=None)
        self.assertIn("is to be decompressed first", err)
        _, err = self.cp("-", self.in_guest("not there"), stdin=made, status=None)
        self.assertIn("not there': No such file", err)


class Named(Copies):
    ROWS = (  # what there is (a slash: a folder), SRC, DST, what there is then with the content of SRC, or what is said
        ("d/", "file", "d", "d/file"),
        ("d/", "file", "d/", "d/file"),
        ("d/", "file", "d/new", "d/new"),
        ("d/ d/file", "file", "d", "d/file"),
        ("other", "file", "other", "other"),
        ("d/", "file", "d/new/", "it is to be a folder and is none"),
        ("", "file", "no/new", "no': No such file or directory"),
        ("f", "file", "f/new", "f': Not a directory"),
        ("d/", "tree", "d", "d/tree/in"),
        ("d/", "tree/", "d/", "d/tree/in"),
        ("d/", "tree", "d/new", "d/new/in"),
        ("d/", "tree", "d/new/", "d/new/in"),
        ("d/ d/tree/ d/tree/own", "tree", "d", "d/tree/in d/tree/own"),
        ("d/", "tree/.", "d", "d/in"),
        ("d/", "tree/.", "d/new", "d/new/in"),
        ("", "tree", "no/new", "no': No such file or directory"),
        ("f", "tree", "f", "something is there that is no folder"),
        ("d/ d/file/", "file", "d", "a folder is there"),
        ("d/", "missing", "d", "missing': No such file or directory"),
    )

    def test_rows(self):
        for number, (there, source, target, then) in enumerate(self.ROWS):
            for out in (False, True):
                with self.subTest(source=source, target=target, out=out):
                    self.row(self.state / f"{number}-{out}", there, source, target, then, out)

    def row(self, top, there, source, target, then, out):
        (top / "from/tree").mkdir(parents=True)
        (top / "to").mkdir()
        for name in ("file", "tree/in"):
            (top / "from" / name).write_text("of SRC")
        for name in there.split():
            path = top / "to" / name
            path.mkdir() if name.endswith("/") else path.write_text("own")
        words = [f"{top}/from/{source}", f"{top}/to/{target}"]
        words[0 if out else 1] = "web:" + words[0 if out else 1]
        fails = ":" in then or " is " in then
        _, err = self.cp(*words, status=None if fails else 0)
        if fails:
            self.assertIn(then, err)
            self.assertEqual({p.read_text() for p in (top / "to").rglob("*") if p.is_file()} - {"own"}, set())
        else:
            self.assertEqual(err, "")
            self.assertEqual(sorted(str(p.relative_to(top / "to")) for p in (top / "to").rglob("*")
                                    if p.is_file()), sorted(then.split()))
            self.assertEqual((top / "to" / then.split()[0]).read_text(), "of SRC")

    def test_words(self):
        for words, said in ((("a", "b"), "neither 'a' nor 'b' is in a VM"), (("web:a", "web:b"), "copy to the host first"),
                            (("./web:a", "b"), "is in a VM"), (("nobody:a", "b"), "nobody")):
            self.assertIn(said, self.cp(*words, status=None)[1])
        self.run_banger("vm", "create", "db", "-q")
        self.assertIn("db is stopped", self.cp("db:/a", "b", status=None)[1])

    def test_unreadable(self):
        """What cannot be read is said, all else arrives, and the status says so, too."""
        (self.host / "top").mkdir()
        for name in ("a", "b\x1b[2J"):
            (self.host / "top" / name).write_text("x")
        fake = self.state / "lost.so"
        source = ('#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <errno.h>\n#include <string.h>\n'
                  'int openat(int d,const char*n,int f,int m){if(n[0]==\'b\'){errno=EACCES;return -1;}'
                  'return ((int(*)(int,const char*,int,int))dlsym(RTLD_NEXT,"openat"))(d,n,f,m);}\n'
                  'int openat64(int d,const char*n,int f,int m){return openat(d,n,f,m);}\n')
        subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-o", fake, "-"], input=source.encode(), check=True)
        _, err = self.cp(self.host / "top", self.in_guest(), status=None, LD_PRELOAD=str(fake), ASAN_OPTIONS="verify_asan_link_order=0")
        self.assertIn(f"cannot read '{self.host}/top/b\\x1b[2J': Permission denied", err)
        self.assertIn("not all of it could be read", err)
        self.assertTrue((self.guest / "top/a").exists())
        _, err = self.cp(f"{self.host}/top/.", self.in_guest("top"), status=None, LD_PRELOAD=str(fake), ASAN_OPTIONS="verify_asan_link_order=0")
        self.assertIn(f"cannot read '{self.host}/top/b\\x1b[2J': Permission denied", err)

    def test_unreadable_there(self):
        """A guest's file is named as it was asked for."""
        for path, shown in (("/proc/self/.", "/proc/self'"), ("/proc/self/attr", "/proc/self/attr'"), ("/dev/fd/.", "/dev/fd'")):
            _, err = self.cp("web:" + path, self.host / "y", status=None)
            self.assertIn(f"cannot read '{shown}", err)

    def test_unwritable(self):
        """What cannot be written is passed over: all else arrives, the first few are named, and all are counted."""
        (self.guest / "top/sub").mkdir(parents=True)
        for name in ("a", "sub/f", "z", *(f"d{number}" for number in range(12))):
            (self.guest / "top" / name).write_text("new")
        (self.host / "top").mkdir()
        (self.host / "top/sub").write_text("mine")
        for number in range(12):
            (self.host / f"top/d{number}").mkdir()
        _, err = self.cp(self.in_guest("top"), self.host, status=1)
        self.assertIn("not all of it could be written: 14 files or folders are missing", err)
        self.assertEqual(err.count("cannot write"), 10)
        self.assertIn(f"cannot write '{self.host}/top/d", err)
        self.assertEqual([(self.host / "top" / name).read_text() for name in ("a", "z", "sub")], ["new", "new", "mine"])

    def test_made_up(self):
        """What has no size is not taken for empty."""
        for path in ("/proc/version", "/sys/kernel/notes", "/proc"):
            for words, status in (((path, self.in_guest("x")), 1), ((self.in_guest(path), self.host), 70)):
                self.assertIn("the kernel makes it up", self.cp(*words, status=status)[1])
        self.assertEqual([*self.host.iterdir(), *self.guest.iterdir()], [])

    def test_older_guest(self):
        (self.state / "guest").unlink()
        (self.state / "guest").write_text("#!/bin/sh\necho 'usage: guest exec' >&2; exit 125\n")
        (self.state / "guest").chmod(0o755)
        self.assertIn("is of an older banger", self.cp(self.in_guest("x"), self.host, status=None)[1])


class Hostile(Copies):
    """The guest sends what it likes. @it is what was asked for."""

    def setUp(self):
        super().setUp()
        self.outside = self.state / "outside"
        self.outside.mkdir()
        (self.outside / "mine").write_text("mine")
        self.target = self.host / "target"
        self.target.mkdir()

    def guest_sends(self, data, behind="exit 0"):
        (self.state / "tar").write_bytes(data)
        (self.state / "guest").unlink()
        (self.state / "guest").write_text(f"#!/bin/sh\ncat '{self.state}/tar'; {behind}\n")
        (self.state / "guest").chmod(0o755)

    def take(self, data, status=None, behind="exit 0"):
        before = self.tree(self.outside)
        around = sorted(p.name for p in self.host.iterdir())
        self.guest_sends(data, behind)
        out, err = self.cp("web:/it", self.target, status=status)
        self.assertEqual(self.tree(self.outside), before)
        self.assertEqual(sorted(p.name for p in self.host.iterdir()), around)
        self.assertLessEqual({p.name for p in self.target.iterdir()}, {"it"})
        self.assertEqual(out, "")
        self.assertFalse([c for c in err if c != "\n" and not c.isprintable()], err)
        return err

    def test_names_that_lead_out(self):
        lead = str(self.outside / "new")
        for name, said in ((lead, "leads out"), ("../new", "leads out"), ("it/../../new", "leads out"), ("it/x/../../../new", "leads out"),
                           ("..", "leads out"), ("new", "not what was asked for"), ("itx", "not what was asked for"),
                           (".bashrc", "not what was asked for"), ("it\x1b[2J\n", "not what was asked for")):
            with self.subTest(name=name):
                err = self.take(FOLDER + entry(name) + END)
                self.assertIn(said, err)

    def test_links(self):
        """Through none of them, however it came to be there."""
        out = str(self.outside)
        link = lambda name, to: entry(name, kind=tarfile.SYMTYPE, link=to)  # noqa: E731
        hard = lambda name, to: entry(name, kind=tarfile.LNKTYPE, link=to)  # noqa: E731
        for sent, said in ((link("it/l", out) + entry("it/l/mine"), "no folder"), (link("it/l", "../../../outside") + entry("it/l/mine"), "no folder"),
                           (link("it/l", out + "/mine") + entry("it/l"), ""), (hard("it/h", out + "/mine"), "not in the folder"),
                           (hard("it/h", "../../outside/mine"), "not in the folder"), (hard("it/h", "it/h"), "not in the folder"),
                           (link("it/l", out) + hard("it/h", "it/l/mine") + entry("it/h"), "Not a directory"),
                           (link("it/l", out + "/mine") + hard("it/h", "it/l") + entry("it/h"), ""),
                           (link("it/l", out) + entry("it/l", kind=tarfile.DIRTYPE) + entry("it/l/mine"), "no folder")):
            with self.subTest(sent=said):
                subprocess.run(["rm", "-rf", self.target / "it"], check=True)
                err = self.take(FOLDER + sent + END, status=None if said else 0)
                self.assertIn(said, err)
        subprocess.run(["rm", "-rf", self.target / "it"], check=True)
        self.assertIn("no folder", self.take(link("it", out) + entry("it/mine") + END))

    def test_link_of_the_host(self):
        """One of the user's own below the destination is not followed either: a guest does not choose what is behind it."""
        (self.target / "it").mkdir()
        (self.target / "it/l").symlink_to(self.outside)
        (self.target / "it/f").symlink_to(self.outside / "mine")
        self.assertIn("no folder", self.take(FOLDER + entry("it/l/mine") + END))
        self.take(FOLDER + entry("it/f", b"new") + END, status=0)
        self.assertEqual((self.target / "it/f").read_bytes(), b"new")

    def test_link_to_nothing(self):
        """What has the link's name stays as it is."""
        (self.target / "it/folder").mkdir(parents=True)
        (self.target / "it/secret").write_text("mine")
        for to, said in (("it/none", "No such file"), ("it/folder", "a folder is there")):
            self.assertIn(said, self.take(FOLDER + entry("it/secret", kind=tarfile.LNKTYPE, link=to) + END))
            self.assertEqual((self.target / "it/secret").read_text(), "mine")

    def test_devices_and_bits(self):
        err = self.take(FOLDER + entry("it/null", kind=tarfile.CHRTYPE) + entry("it/disk", kind=tarfile.BLKTYPE) + entry("it/p", kind=tarfile.FIFOTYPE)
                        + entry("it/su", mode=0o6777) + END, status=0)
        self.assertIn("passed over: 3", err)
        self.assertIn("bit: 1", err)
        self.assertEqual([p.name for p in (self.target / "it").iterdir()], ["su"])
        self.assertEqual(stat.S_IMODE((self.target / "it/su").stat().st_mode), 0o777)

    def test_plain_names(self):
        """Of git's and of terminals', and two that differ by case: files like others."""
        names = [".git/config", ".git/hooks/post-checkout", "a\nb", "\x1b]0;evil\x07", "File", "file", "-rf", "C:\\x", "%s%n"]
        self.take(FOLDER + b"".join(entry("it/" + name, name.encode()) for name in names) + END, status=0)
        for name in names:
            self.assertEqual((self.target / "it" / name).read_text(), name)
        err = self.take(entry("it", kind=tarfile.DIRTYPE) + entry("it/\x1b[2J\n\u202e", kind=tarfile.DIRTYPE) + entry("it/\x1b[2J\n\u202e") + END)
        self.assertIn("\\x1b[2J\\x0a\\xe2\\x80\\xae': a folder is there", err)

    def test_not_what_is_there(self):
        """Only a file or a link gives way: no device of the host is replaced."""
        os.mkfifo(self.target / "it")
        self.assertIn("that is no file", self.take(entry("it") + END))
        self.assertTrue(stat.S_ISFIFO((self.target / "it").lstat().st_mode))

    def test_cut(self):
        """An end that comes early is an error, and the file is named that is not whole."""
        whole = FOLDER + entry("it/first", b"1") + entry("it/b\x1big", bytes(100000)) + END
        for length, said in ((len(whole) - 1024 - 50000, "it/b\\x1big' is not whole"), (len(whole) - 1024, "may have been cut"), (700, "cut"),
                             (0, "it is empty")):
            with self.subTest(length=length):
                err = self.take(whole[:length])
                self.assertIn(said, err)
                self.assertIn("what web sends cannot be read", err)
        self.assertIn("killed by me", self.take(whole[:3000], behind="echo killed by me >&2; exit 9"))

    def test_nonsense(self):
        for data in (b"no tar\n" * 5000, END, FOLDER + b"\xff" * 5000, entry("it", size=1 << 62), FOLDER + entry("it/" + "x/" * 450 + "y") + END,
                     FOLDER + entry("it/" + "y" * 300) + END, FOLDER + END + b"more" * 1000000):
            self.assertIn("banger: ", self.take(data))

    def test_reader_taken_over(self):
        """What banger-intake says is believed no more than the guest."""
        frame = lambda kind, payload: struct.pack("=II", kind, len(payload)) + payload  # noqa: E731
        data = lambda at, payload: frame(2, struct.pack("=Q", at) + payload)  # noqa: E731
        end = frame(4, b"")

        def made(kind, path, size=0, link=b""):
            return frame(1, struct.pack("=qQIIII", 0, size, 0, 0o644, ord(kind), len(path) + 1) + path + b"\0" + link + b"\0")

        program = self.state / "intake"
        program.write_text(f"#!/bin/sh\ncat '{self.state}/frames'; cat > /dev/null\n")
        program.chmod(0o755)
        self.env["BANGER_INTAKE"] = str(program)
        for frames, said in ((made("5", b"it") + made("0", b"it/../../outside/mine") + end, "leads out"), (made("0", b"it", 1) + data(0, b"xx"), "longer than it said"),
                             (made("0", b"it", 1) + data(1 << 62, b"x"), "longer than it said"), (made("0", b"it", 1 << 63), "not possible"),
                             (made("5", b"it") + made("0", b"other") + end, "not what was asked for"), (frame(3, b"evil\x1b[2J"), "evil\\x1b[2J"), (frame(9, b""), "ended the program"),
                             (struct.pack("=II", 2, 1 << 31) + bytes(1 << 20), "ended the program"), (made("0", b"it" * 3000), "ended the program"),
                             (end, "sent nothing")):
            with self.subTest(said=said):
                subprocess.run(["rm", "-rf", self.target / "it"], check=True)
                (self.state / "frames").write_bytes(frames)
                self.assertIn(said, self.take(FOLDER + END))

    def test_reader_has_no_terminal(self):
        """Whoever took banger-intake over neither writes to the user's terminal nor reads what is typed there."""
        program = self.state / "intake"
        program.write_text("#!/bin/sh\nexec 1>&- 3>&2\nprintf 'evil \\033[2J' >&3\nread -r line <&3 && printf 'heard %s' \"$line\" >&3\nexit 1\n")
        program.chmod(0o755)
        self.guest_sends(FOLDER + END)
        pid, terminal = os.forkpty()
        if pid == 0:
            os.execve(BANGER, [BANGER, "vm", "cp", "-q", "web:/it", str(self.target)], {**self.env, "BANGER_INTAKE": str(program)})
        os.write(terminal, b"typed\n")
        shown = b""
        try:
            while data := os.read(terminal, 4096):
                shown += data
        except OSError:  # EIO: the last one closed it
            pass
        os.close(terminal)
        os.waitpid(pid, 0)
        self.assertIn(b"cannot be read", shown)
        self.assertNotIn(b"evil", shown)
        self.assertNotIn(b"heard", shown)

    def test_names_too_long(self):
        """Two names that differ behind the end of what a frame holds are not one name, and a link is whole or not there."""
        deep = "it" + ("/" + "d" * 200) * 19 + "/"
        deep += "n" * (4095 - len(deep))
        for sent in (entry(deep + "A") + entry(deep + "B"), entry("it/l", kind=tarfile.SYMTYPE, link="t/" * 2048)):
            self.assertIn("banger: ", self.take(FOLDER + sent + END))
            self.assertEqual([files for _, _, files in os.walk(self.target / "it") if files], [])
            self.assertFalse((self.target / "it/l").is_symlink())
            subprocess.run(["rm", "-rf", self.target / "it"], check=True)

    def test_talks_on(self):
        """It goes on when nothing is taken any more: it is not waited for."""
        err = self.take(FOLDER + entry("../x"), behind="trap '' PIPE; while :; do echo; sleep 0.01; done 2>/dev/null; sleep 1000")
        self.assertIn("leads out", err)
        self.assertIn("\\x07", self.take(FOLDER + END, behind="printf 'evil \\007\\n' >&2; exit 3"))

    def measured(self, *words, stop=None):
        """Returns: status, what was said, and how much memory it and its children took at most, in KiB."""
        process = subprocess.Popen([BANGER, "vm", "cp", *map(str, words)], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE)
        peak = 0
        def look():
            nonlocal peak
            for pid in (process.pid, *children(process.pid)):
                try:
                    text = pathlib.Path(f"/proc/{pid}/status").read_text()
                    peak = max(peak, *[int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:")] or [0])
                except OSError:
                    pass
        while process.poll() is None:
            look()
            if stop and stop():
                process.send_signal(signal.SIGINT)
                stop = None
            time.sleep(0.02)
        err = process.stderr.read().decode()
        process.stderr.close()
        return process.returncode, err, peak

    def endless(self, head, body):
        self.guest_sends(b"")
        (self.state / "guest").write_text(f"#!{sys.executable}\nimport sys\nout = sys.stdout.buffer\nout.write({head!r})\n{body}\n")

    MOST = 100 << 10 if "ASAN_OPTIONS" not in os.environ else 1 << 30  # KiB

    def test_large(self):
        """1 GiB in, and memory is what it is for a file of nothing."""
        self.endless(FOLDER + entry("it/big", b"", size=1 << 30), "for _ in range(1 << 10): out.write(b'x' * (1 << 20))\nout.write(bytes(1024))")
        status, err, peak = self.measured("web:/it", self.target)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual((self.target / "it/big").stat().st_size, 1 << 30)
        self.assertLess(peak, self.MOST)

    def test_endless(self):
        """Ctrl-C ends it; nothing grows but the file, or the number of folders, until then."""
        forever = entry("it/f", b"", size=1 << 40)
        rows = ((FOLDER + forever, "while True: out.write(b'x' * 65536)", "it/f' is not whole"),
                (FOLDER, f"import tarfile\nfor n in range(1 << 40):\n  out.write({entry('it/N', kind=tarfile.DIRTYPE)!r}) if n else 0", ""))
        for head, body, said in rows:
            self.endless(head, body)
            begun = time.monotonic()
            status, err, peak = self.measured("web:/it", self.target, stop=lambda: time.monotonic() - begun > 2)
            self.assertNotEqual(status, 0)
            self.assertIn("interrupted", err)
            self.assertIn(said, err)
            self.assertLess(peak, self.MOST)
            subprocess.run(["rm", "-rf", self.target / "it"], check=True)

    def test_full_disk(self):
        """The file that does not fit is named."""
        self.guest_sends(FOLDER + entry("it/b\x1big", bytes(3 << 20)) + END)
        script = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
        done = subprocess.run(["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script, self.target, BANGER, "vm", "cp", "web:/it", self.target],
                              env=self.env, capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"cannot write '{self.target}/it/b\\x1big': No space left on device", done.stderr)
        self.assertIn("is not whole", done.stderr)


def children(pid):
    try:
        return [int(n) for n in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


if __name__ == "__main__":
    unittest.main(verbosity=2)
