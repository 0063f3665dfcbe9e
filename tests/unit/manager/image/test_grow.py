#!/usr/bin/python3
"""File systems of the writer grow while a real guest's kernel has them mounted, as root and work disks do.

Usage: test_grow.py WRITER INIT. Needs QEMU and an imported kernel; skips with the name of what is missing.
One guest has all disks: the slow part is its boot.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
import bare_guest  # noqa: E402

BOOT_SECONDS = 300
MIB, GIB, TIB = 1, 1 << 10, 1 << 20
# What the writer makes, and the size of the disk that it lies on, in MiB: across the steps in which the journal, the
# groups and the blocks of descriptors grow, and as far as docs/images.md promises.
DISKS = ((8, 200 * MIB), (16, 3 * GIB), (64, 20 * GIB), (127, 600 * GIB), (128, 100 * GIB), (129, 10 * GIB), (1024, 2 * TIB))


@unittest.skipIf(bare_guest.missing(), f"missing: {bare_guest.missing()}")
class Grow(unittest.TestCase):
    def setUp(self):
        # Below /var/tmp: not in memory, and files of 2 TiB with holes are possible.
        temporary = tempfile.TemporaryDirectory(prefix="banger-grow.", dir="/var/tmp")
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        (self.folder / "content").mkdir()
        (self.folder / "content" / "stays").write_text("there\n")
        subprocess.run(["tar", "-cf", self.folder / "tar", "-C", self.folder / "content", "."], check=True)
        for size, disk in DISKS:
            path = self.disk(size)
            with open(self.folder / "tar", "rb") as tar:
                subprocess.run([WRITER, path, f"{size}M"], stdin=tar, stdout=subprocess.DEVNULL, check=True)
            os.truncate(path, disk << 20)

    def disk(self, size):
        return self.folder / f"disk-{size}"

    def test_each_grows_to_its_disk(self):
        console = bare_guest.boot(self.folder, {"init": pathlib.Path(INIT).read_bytes()},
                                  [(str(size), self.disk(size)) for size, _ in DISKS], BOOT_SECONDS)
        self.assertIn("FACT end=1", console)
        facts = bare_guest.facts(console)
        for size, disk in DISKS:
            with self.subTest(size=size, disk=disk):
                self.assertIn(str(size), facts, console)
                room, filled, unmounted = map(int, facts[str(size)].split())
                # Without journal and tables, of which the last group may be too small to be worth any.
                self.assertGreater(room, disk * 0.95 - 128, console)
                self.assertEqual((filled, unmounted), (0, 0), console)
                checked = subprocess.run(["e2fsck", "-fn", self.disk(size)], capture_output=True, text=True, check=False)
                self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
                content = subprocess.check_output(["debugfs", "-R", "cat /stays", self.disk(size)], stderr=subprocess.DEVNULL)
                self.assertEqual(content, b"there\n")
        # The kernel has nothing to say but that it mounts and grows.
        said = re.findall(r"^LOG .*(?:EXT4-fs|JBD2|journal|resize).*$", console, re.M | re.I)
        usual = re.compile(r"mounted filesystem|unmounting|resiz(ing|ed) (filesystem|to)|banger-guest: grew|Converting file system to meta_bg")
        self.assertEqual([line for line in said if not usual.search(line)], [])


if __name__ == "__main__":
    WRITER, INIT = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main(verbosity=2)
