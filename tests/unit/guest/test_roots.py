#!/usr/bin/python3
"""Root file systems in which much is missing, or is not as usual: banger-guest makes a machine of each all the same.

Usage: test_roots.py WRITER GUEST INIT. Needs QEMU and an imported kernel; skips with the name of what is missing.
The image's init is a static program that says what it finds; that is all a kernel with banger-guest needs.
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import bare_guest  # noqa: E402

BOOT_SECONDS = 200
CONFIG = b"hostname=small\nroot=/dev/vda\ndns=192.0.2.53\n"
LOGIN = "banger-exec:*:0:0:commands of banger:/root:/run/banger/shell|"


@unittest.skipIf(bare_guest.missing(), f"missing: {bare_guest.missing()}")
class Roots(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="banger-roots.", dir="/var/tmp")
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.root = self.folder / "root"
        (self.root / "sbin").mkdir(parents=True)
        (self.root / "sbin/init").write_bytes(pathlib.Path(INIT).read_bytes())
        (self.root / "sbin/init").chmod(0o755)

    def boot(self):
        disk = self.folder / "disk"
        with subprocess.Popen(["tar", "--numeric-owner", "--owner=0", "--group=0", "-c", "-C", self.root, "."], stdout=subprocess.PIPE) as tar:
            subprocess.run([WRITER, disk, "16M"], stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)
        console = bare_guest.boot(self.folder, {"init": pathlib.Path(GUEST).read_bytes(), "banger/config": CONFIG,
                                                "banger/authorized_keys": b"ssh-ed25519 AAAA test\n"}, [("root", disk)], BOOT_SECONDS)
        self.assertIn("FACT end=1", console)
        return bare_guest.facts(console), console

    def test_one_static_program_and_nothing_else(self):
        facts, console = self.boot()
        self.assertEqual((facts["pid"], facts["hostname"]), ("1", "small"))
        self.assertEqual(facts["passwd"], "root:*:0:0:root:/root:/bin/sh|" + LOGIN)
        self.assertIn("nameserver 192.0.2.53", facts["resolv"])
        self.assertIn("ssh-ed25519 AAAA test", facts["keys"])
        self.assertEqual((facts["tmp"], facts["root"]), ("41777", "40700"))
        self.assertNotIn("cannot", console)

    def test_links_that_lead_nowhere_and_disks_that_are_gone(self):
        (self.root / "etc").mkdir()
        (self.root / "etc/passwd").write_text("root:x:0:0:root:/root:/usr/sbin/nologin\n")
        (self.root / "etc/resolv.conf").symlink_to("/nowhere/resolv.conf")
        (self.root / "etc/fstab").write_text("LABEL=gone / ext4 defaults 0 1\n/dev/vdz /data ext4 defaults 0 2\n")
        (self.root / "tmp").symlink_to("var/tmp")
        (self.root / "etc").chmod(0o555)
        facts, _ = self.boot()
        self.assertEqual(facts["passwd"], "root:x:0:0:root:/root:/usr/sbin/nologin|" + LOGIN)
        self.assertIn("nameserver 192.0.2.53", facts["resolv"])
        self.assertEqual((facts["resolv-mode"], facts["tmp"]), ("100644", "120777"))


if __name__ == "__main__":
    WRITER, GUEST, INIT = (sys.argv.pop(1) for _ in range(3))
    unittest.main(verbosity=2)
