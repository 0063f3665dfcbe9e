#!/usr/bin/python3
"""Strange archives, unpacked by the ext4 writer and by GNU tar: the same files come of them, seen by the kernel.

Usage: test_strange.py WRITER. Needs root, GNU tar and loop devices; skips with the name of what is missing.
"""

import hashlib
import os
import pathlib
import re
import stat
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import strange  # noqa: E402

IMPLIED_TIME = 1700000000 * 10 ** 9  # of WRITER's folders that the archive does not mention
GNU_TAR = ["tar", "--numeric-owner", "--same-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*", "--acls"]


def missing():
    if os.geteuid() != 0:
        return "root"
    if not os.path.exists("/dev/loop-control"):
        return "loop devices"
    return None if "GNU tar" in subprocess.check_output(["tar", "--version"], text=True) else "GNU tar"


def data_ranges(path, size):
    """Where there is data and not a hole."""
    fd, ranges, at = os.open(path, os.O_RDONLY), [], 0
    try:
        while at < size:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
            ranges.append((start, at))
    except OSError:
        pass  # no data behind @at
    finally:
        os.close(fd)
    return ranges


def content(path, st):
    if stat.S_ISLNK(st.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(st.st_mode):
        return st.st_rdev
    digest, ranges = hashlib.sha256(), data_ranges(path, st.st_size)
    with open(path, "rb") as file:
        for start, end in ranges:
            file.seek(start)
            while start < end:
                start += len(part := file.read(min(end - start, 1 << 20)))
                digest.update(part)
    return st.st_size, ranges, digest.hexdigest()


def attributes(path):
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}


def look(root, began):
    """path -> all that the kernel says of it."""
    found, links = {}, {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for path in [folder, *(os.path.join(folder, name) for name in files + folders)]:
            st = os.lstat(path)
            name = os.path.relpath(path, os.fsencode(root))
            implied = stat.S_ISDIR(st.st_mode) and (st.st_mtime_ns >= began or st.st_mtime_ns == IMPLIED_TIME)
            found[name] = {"mode": oct(st.st_mode), "owner": (st.st_uid, st.st_gid), "links": st.st_nlink,
                           "time": "implied" if implied else st.st_mtime_ns, "content": content(path, st), "attributes": attributes(path)}
            links.setdefault(st.st_ino, []).append(name)
    for names in links.values():
        for name in names:
            found[name]["same"] = sorted(names)[:5]
    return found


@unittest.skipIf(missing(), f"missing: {missing()}")
class Strange(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="banger-strange.", dir="/var/tmp")
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.tar, self.ext4, self.mount, self.unpacked = (self.folder / name for name in ("tar", "ext4", "mount", "unpacked"))
        self.mount.mkdir()
        self.unpacked.mkdir()

    def write(self):
        with open(self.tar, "rb") as tar:
            return subprocess.run([WRITER, self.ext4], stdin=tar, capture_output=True, text=True, errors="replace", check=False)

    def ours(self, began):
        checked = subprocess.run(["e2fsck", "-fn", self.ext4], capture_output=True, text=True, errors="replace", check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout)
        subprocess.run(["mount", "-o", "loop,ro", self.ext4, self.mount], check=True)
        try:
            return look(self.mount, began)
        finally:
            subprocess.run(["umount", self.mount], check=True)

    def gnu(self, began, arguments):
        subprocess.run([*GNU_TAR, *arguments, "-xf", self.tar, "-C", self.unpacked], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return look(self.unpacked, began)

    def compare(self, name, archive, arguments):
        began = time.time_ns()
        # What the writer gives a root that no entry speaks of.
        os.chmod(self.unpacked, 0o755)
        os.utime(self.unpacked, ns=(IMPLIED_TIME, IMPLIED_TIME))
        ours, theirs = self.ours(began), self.gnu(began, arguments)
        if b"lost+found" not in archive:
            ours.pop(b"lost+found")
            ours[b"."]["links"] -= 1
        for path, expected in strange.EXPECTED.get(name, {}).items():
            theirs[path].update(expected)
        self.assertEqual(sorted(ours), sorted(theirs))
        for path, seen in theirs.items():
            self.assertEqual((path, ours[path]), (path, seen))


def case(name, function, arguments, refused):
    def test(self):
        made = strange.Archive()
        function(made)
        archive = made.finish()
        self.tar.write_bytes(archive)
        written = self.write()
        if refused is None:
            self.assertEqual(written.returncode, 0, written.stderr)
            self.compare(name, archive, arguments)
        else:
            self.assertEqual(written.returncode, 1, written)
            self.assertRegex(re.sub(r"^not a good tar archive: ", "", written.stderr), refused)
    return test


for each, (maker, with_arguments, refusal) in strange.KINDS.items():
    setattr(Strange, "test_" + each.replace("-", "_"), case(each, maker, with_arguments, refusal))

if __name__ == "__main__":
    WRITER = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
