#!/usr/bin/python3
"""The disks of a VM as an image: what stays behind, what device-mapper's snapshot wrote over an image, and disks that lie.

Usage: test_commit.py IMAGE-MAKE BANGER-GUEST. Needs mke2fs and debugfs.
"""

import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True

CHUNK = 4096
PER_AREA = CHUNK // 16
BEGIN, END = "# banger: begin (these lines are replaced at every start)", "# banger: end"

# Path in the guest: what it has when the VM ends, and what the image has of it (None: nothing).
OWN = {
    "etc/hostname": ("web\n", None),
    "etc/machine-id": ("0123456789abcdef0123456789abcdef\n", ""),
    "etc/hosts": ("127.0.0.1\tlocalhost\n127.0.1.1\tweb # banger\n10.0.0.1 mine\n", "127.0.0.1\tlocalhost\n10.0.0.1 mine\n"),
    "etc/passwd": ("root:x:0:0::/root:/bin/sh\nbanger-exec:*:0:0:commands of banger:/root:/run/banger/shell\n", "root:x:0:0::/root:/bin/sh\n"),
    "etc/resolv.conf": ("# Written by banger at every start of this VM.\nnameserver 10.1.1.1\n", ""),
    "etc/ssh/ssh_host_ed25519_key": ("secret", None),
    "etc/ssh/ssh_host_rsa_key.pub": ("public", None),
    "etc/ssh/sshd_config": ("Port 22\n", "Port 22\n"),
    "var/lib/dbus/machine-id": ("x", None),
    "var/lib/systemd/random-seed": ("seed", None),
    "var/lib/dhcp/dhclient.eth0.leases": ("lease", None),
    "home/anna/.bash_history": ("secret", None),
    "home/anna/.profile": ("x", "x"),
    "var/log/journal/0123456789abcdef0123456789abcdef/system.journal": ("journal", None),
    "var/log/wtmp": ("logins\0" * 999, ""),
    "var/log/dpkg.log": ("kept", "kept"),
    "sbin/init": ("#!", "#!"),
    "srv/x": ("kept" * 5000, "kept" * 5000),
}
WORK = {
    ".ssh/authorized_keys": (f"ssh-ed25519 MINE\n{BEGIN}\nssh-ed25519 OWNERS\n{END}\nssh-rsa LAST", "ssh-ed25519 MINE\nssh-rsa LAST"),
    "notes": ("work", "work"),
    ".python_history": ("secret", None),
    "sub/.bash_history": ("x", "x"),
    ".config/token": ("copied", None),
    ".config/own": ("own", "own"),
}


def disk(path, content, size="64M"):
    with tempfile.TemporaryDirectory(dir=path.parent) as tree:
        for name, text in content.items():
            where = pathlib.Path(tree) / name
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text(text, encoding="ascii")
        os.chmod(tree, 0o755)
        (pathlib.Path(tree) / "sbin/init").chmod(0o755) if "sbin/init" in content else None
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", tree, path, size], check=True, capture_output=True)
    return path


def debugfs(path, *requests, write=False):
    return subprocess.run(["debugfs", *(["-w"] if write else []), "-f", "-", path], input="\n".join(requests) + "\n", capture_output=True, text=True,
                          check=True).stdout


def snapshot(base, changed, chunk=CHUNK, **header):
    """What the kernel would have written of it: dm-snap-persistent.c."""
    per_area = chunk // 16
    old, new = base.read_bytes(), changed.read_bytes()
    differ = [i for i in range(len(new) // chunk) if old[i * chunk:(i + 1) * chunk] != new[i * chunk:(i + 1) * chunk]]
    values = {"magic": 0x70416e53, "valid": 1, "version": 1, "sectors": chunk // 512, **header}
    out = [struct.pack("<IIII", *values.values()).ljust(chunk, b"\0")]
    for area in range(len(differ) // per_area + 1):
        part = differ[area * per_area:(area + 1) * per_area]
        at = 1 + area * (per_area + 1)
        out.append(b"".join(struct.pack("<QQ", number, at + 1 + i) for i, number in enumerate(part)).ljust(chunk, b"\0"))
        out += [new[number * chunk:(number + 1) * chunk] for number in part]
    return b"".join(out), len(differ)


class Commit(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="banger-commit.", dir="/var/tmp")
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.image = self.folder / "image"

    def commit(self, root, over=None, work=None):
        shutil.rmtree(self.image, ignore_errors=True)
        self.image.mkdir()
        return subprocess.run([MAKER, self.image, "commit", root, over or "-", work or "-"], capture_output=True, text=True, check=False, timeout=60)

    def committed(self, *disks, **more):
        done = self.commit(*disks, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("rootfs.ext4", "seed.ext4"):
            checked = subprocess.run(["e2fsck", "-fn", self.image / name], capture_output=True, text=True, check=False)
            self.assertEqual(checked.returncode, 0, checked.stdout)
        return done.stdout

    def refused(self, pattern, *disks, **more):
        done = self.commit(*disks, **more)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stderr.splitlines()[-1], pattern)
        self.assertEqual(os.listdir(self.image), [])

    def read(self, name, path):
        """None: it is not there."""
        target = self.folder / "read"
        target.unlink(missing_ok=True)
        debugfs(self.image / name, f"dump /{path} {target}")
        return target.read_text(encoding="ascii") if target.exists() else None

    def test_what_is_the_machines_own_stays_behind(self):
        root = disk(self.folder / "root", {**{name: text for name, (text, _) in OWN.items()}, "root/below": "of the image"})
        work = disk(self.folder / "work", {name: text for name, (text, _) in WORK.items()})
        mark = self.folder / "mark"
        mark.write_text("1", encoding="ascii")
        debugfs(work, "symlink /linked /etc/own", "ln /.config/token /again", "sif /.config/token links_count 2",
                *(f"ea_set -f {mark} {path} trusted.banger.copied" for path in ("/.config", "/.config/token", "/linked")), write=True)
        before = root.read_bytes(), work.read_bytes()
        self.committed(root, work=work)
        for name in ("linked", "again"):
            self.assertNotIn("Inode:", debugfs(self.image / "seed.ext4", f"stat /{name}"))
        for name, (_, kept) in OWN.items():
            self.assertEqual((name, self.read("rootfs.ext4", name)), (name, kept))
        for name, (_, kept) in WORK.items():
            self.assertEqual((name, self.read("rootfs.ext4", "root/" + name)), (name, kept))
            self.assertEqual((name, self.read("seed.ext4", name)), (name, kept))
        self.assertIsNone(self.read("rootfs.ext4", "root/below"))
        self.assertEqual((root.read_bytes(), work.read_bytes()), before)

    def test_without_a_work_disk(self):
        root = disk(self.folder / "root", {"sbin/init": "#!", "root/x": "x", "rooted": "y"})
        debugfs(root, "ln /root/x /root/again", "ln /root/x /srv", "sif /root/x links_count 3", write=True)
        self.committed(root)
        self.assertEqual([self.read("seed.ext4", name) for name in ("x", "again", "rooted", "ted")], ["x", "x", None, None])

    def test_over_an_image(self):
        """What the guest wrote counts, in as many areas as it takes; nothing was written; chunks of another size."""
        base = disk(self.folder / "base", {"sbin/init": "#!", "etc/old": "old", "etc/gone": "gone"})
        changed = shutil.copy(base, self.folder / "changed")
        (self.folder / "big").write_bytes(os.urandom(3 << 20))
        (self.folder / "new").write_text("new", encoding="ascii")
        debugfs(changed, "rm /etc/gone", "rm /etc/old", f"write {self.folder}/new /etc/old", f"write {self.folder}/big /big", write=True)
        over = self.folder / "over"
        for chunk in (CHUNK, 16384):
            data, count = snapshot(base, pathlib.Path(changed), chunk)
            self.assertTrue(chunk != CHUNK or count > 2 * PER_AREA)
            over.write_bytes(data)
            self.committed(base, over)
            self.assertEqual([self.read("rootfs.ext4", name) for name in ("etc/old", "etc/gone", "sbin/init")], ["new", None, "#!"])
            debugfs(self.image / "rootfs.ext4", f"dump /big {self.folder}/found")
            self.assertEqual((self.folder / "found").read_bytes(), (self.folder / "big").read_bytes())
        over.write_bytes(bytes(1 << 20))
        self.committed(base, over)
        self.assertEqual(self.read("rootfs.ext4", "etc/old"), "old")

    def test_what_lies(self):
        base = disk(self.folder / "base", {"sbin/init": "#!"})
        changed = pathlib.Path(shutil.copy(base, self.folder / "changed"))
        debugfs(changed, "mkdir /x", write=True)
        over = self.folder / "over"
        good, _ = snapshot(base, changed)

        def lie(pattern, data):
            over.write_bytes(data)
            self.refused("InvalidImage: .*" + pattern, base, over)
        lie("too short", b"")
        lie("too short", good[:100])
        for header, pattern in (({"magic": 5}, "no snapshot"), ({"version": 2}, "no snapshot"), ({"valid": 0}, "gave it up"), ({"sectors": 0}, "no size"),
                                ({"sectors": 12}, "no size"), ({"sectors": 1 << 31}, "no size"), ({"sectors": 1}, "no size")):
            lie(pattern, snapshot(base, changed, **header)[0])
        for row in ((0, 1 << 40), (1 << 60, 3), ((1 << 64) - 1, 3)):
            lie("leads out", good[:CHUNK] + struct.pack("<QQ", *row) + good[CHUNK + 16:])
        lie("two versions", good[:CHUNK] + struct.pack("<QQQQ", 9, 2, 9, 3) + good[CHUNK + 32:])
        full = b"".join(struct.pack("<QQ", i, 1) for i in range(PER_AREA))
        lie("two versions", good[:CHUNK] + (full + bytes(PER_AREA * CHUNK)) * 2)

    def test_did_not_end_in_order(self):
        """Its root disk, and its work disk."""
        good, bad = disk(self.folder / "good", {"sbin/init": "#!"}), disk(self.folder / "bad", {"sbin/init": "#!"})
        debugfs(bad, "ssv state 0", write=True)
        self.refused("WrongState: .*start it and stop it", bad)
        self.refused("WrongState: .*start it and stop it", good, work=bad)
        debugfs(bad, "ssv state 1", "feature needs_recovery", write=True)
        self.refused("WrongState: .*start it and stop it", bad)
        bad.write_bytes(bytes(1 << 20))
        self.refused("InvalidImage", good, work=bad)

    @unittest.skipIf(os.geteuid() != 0, "needs root, as the agent is")
    def test_the_agent_marks_what_is_copied(self):
        (self.folder / "from").mkdir()
        (self.folder / "from/file").write_text("x", encoding="ascii")
        (self.folder / "from/link").symlink_to("file")
        packed = subprocess.run([GUEST, "pack", self.folder / "from", "it"], capture_output=True, check=True).stdout
        for more, marks in ((["copied"], ["trusted.banger.copied"]), ([], [])):
            shutil.rmtree(self.folder / "it", ignore_errors=True)
            subprocess.run([GUEST, "unpack", self.folder, "it", *more], input=packed, check=True)
            self.assertEqual([os.listxattr(self.folder / "it" / name, follow_symlinks=False) for name in (".", "file", "link")], [[], marks, marks])


if __name__ == "__main__":
    MAKER, GUEST = (os.path.abspath(sys.argv.pop(1)) for _ in range(2))
    unittest.main(verbosity=2)
