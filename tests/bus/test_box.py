"""What a box keeps apart, and that nothing of it stays when it is ended (box.py).

Run by meson test as root.
"""

import multiprocessing
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import unittest

import harness
from harness import box, devstack

HERE = pathlib.Path(__file__).resolve().parent
BODY = f"""import os, subprocess, sys, time
sys.path.insert(0, {str(HERE)!r})
import harness
harness.box.enter()
"""


@unittest.skipIf(os.getuid() != 0, "needs root: namespaces are made")
class Box(unittest.TestCase):
    """Programs of one line each, in boxes beside the one that asks."""

    def setUp(self):
        self.place = str(1000 + os.getpid() % 9000)  # nobody's
        self.root = pathlib.Path(devstack.cgroup2_root() or self.skipTest("no cgroup2 hierarchy is mounted"))

    @staticmethod
    def start(text):
        return subprocess.Popen([sys.executable, "-c", BODY + text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def said(self, text):
        with self.start(text) as child:
            return child.communicate(timeout=60)[0].splitlines(), child.returncode

    def test_apart(self):
        """Links, folders of /run, cgroups and processes of the one are not seen by the other; each has a number of its own."""
        seen = ("print(harness.box.number(), *(kind for kind, names in harness.snapshot_host().items() if 'left' in str(names)),"
                " flush=True)")
        with self.start("""
cgroup = harness.devstack.cgroup2_root() + "/banger-test-left"
for argv in (["ip", "link", "add", "brleft", "type", "bridge"], ["mkdir", "/run/left", cgroup], ["mount", "-t", "tmpfs", "left", "/mnt"]):
    subprocess.run(argv, check=True)
subprocess.Popen(["bash", "-c", "exec -a banger-left sleep 600"])
time.sleep(0.2)
""" + seen + "; sys.stdin.read()") as one:
            number, *left = one.stdout.readline().split()
            self.assertEqual(left, ["bridges", "mounts", "cgroups", "processes", "run"])
            other, status = self.said(seen)
            self.assertEqual((len(other[0].split()), status), (1, 0))
            self.assertNotEqual(other[0], number)
            self.assertIsNone(one.poll())

    def test_many_at_once(self):
        """Each has a place of its own, and keeps what it made there, used or not."""
        context = multiprocessing.get_context("fork")
        together, results = context.Barrier(8), context.Queue()

        def one():
            for turn in range(20):
                together.wait(timeout=60)
                with box.place(self.root) as i:
                    made = self.root / f"banger-test-box-{i}" / "unused"
                    made.mkdir()
                    together.wait(timeout=60)
                    results.put((turn, i, made.is_dir()))  # what another put before may come after it
                    together.wait(timeout=60)

        children = [context.Process(target=one) for _ in range(8)]
        for child in children:
            child.start()
        seen = [results.get(timeout=60) for _ in range(20 * len(children))]
        for child in children:
            child.join(timeout=60)
        self.assertEqual([child.exitcode for child in children], [0] * 8)
        self.assertEqual(len({(turn, i) for turn, i, _ in seen}), 20 * len(children), seen)
        self.assertEqual([row for row in seen if not row[2]], [])

    def test_tidy(self):
        """What a program left that was killed goes; what one is in stays."""
        left = self.root / "banger-test-box-88" / "banger-test-8800012"
        left.mkdir(parents=True)
        with box.place(self.root) as i:
            box.tidy(self.root)
            self.assertFalse(left.parent.exists())
            self.assertTrue((self.root / f"banger-test-box-{i}").is_dir())

    def test_status(self):
        """It ends as its program does."""
        self.assertEqual(self.said("sys.exit(7)")[1], 7)
        self.assertEqual(self.said("os.kill(os.getpid(), 9)")[1], 128 + signal.SIGKILL)

    def test_killed(self):
        """All in it end with whoever made it, whatever they are doing."""
        with self.start("""
subprocess.Popen(["setsid", "bash", "-c", "trap '' TERM HUP; exec -a banger-deaf sleep 600"])
print("there", flush=True)
time.sleep(600)
""") as child:
            child.stdout.readline()
            child.kill()
            self.assertEqual(child.stdout.read(), "")  # each of them had it, and has ended

    def test_left_by_a_killed_one(self):
        """Folders and users with the numbers of a place go before a program begins there; those of other places stay."""
        mine, other = (pathlib.Path(f"/var/lib/banger-test-{number}") for number in (f"{self.place}99999", f"{self.place}999999"))
        for base in (mine, other):
            base.mkdir()
            self.addCleanup(shutil.rmtree, base, ignore_errors=True)
        user = "bt" + mine.name.removeprefix("banger-test-")
        self.addCleanup(harness.remove_user, user)
        harness.make_user(user, str(mine / "home"))
        box.sweep(self.place)
        self.assertEqual([path.exists() for path in (mine, other)], [False, True])
        self.assertRaises(KeyError, pwd.getpwnam, user)

    def test_loops(self):
        """Loop devices are the machine's: only those of a box's own stacks count."""
        number = f"{self.place}00042"
        os.environ[box.PLACE] = self.place
        self.addCleanup(os.environ.pop, box.PLACE)
        self.assertTrue(box.ours(f"/var/lib/banger-test-{number}/state/1/vms/x/rootfs.ext4"))
        for other in (f"1{number}", number + "0", "042", "0"):
            self.assertFalse(box.ours(f"/var/lib/banger-test-{other}/state/1/vms/x/rootfs.ext4"), other)


if __name__ == "__main__":
    harness.main(boxed=False)  # a box in a box would have the numbers of one beside it
