"""What makes the test host's image runs packages' scripts as root: nothing of this machine may be in their reach.

Run by meson test, as root. Never makes an image: the scripts' own commands are run where mmdebstrap would be.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "tests" / "bus"), str(SOURCE / "tests" / "host")]

from harness import main  # noqa: E402
from testhost import ALONE  # noqa: E402


class HostImage(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="banger-host-image-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def test_a_package_that_stops_its_daemon_stops_none_of_this_machine(self):
        """The line of polkitd's postinst: on a machine without systemd it ended the polkitd of whoever ran tests."""
        daemon = self.folder / "polkitd"
        shutil.copy("/bin/sleep", daemon)
        with subprocess.Popen([daemon, "60"]) as running:
            self.addCleanup(running.kill)
            subprocess.run([*ALONE, "start-stop-daemon", "--stop", "--oknodo", "--quiet", "--exec", daemon], check=True)
            self.assertIsNone(running.poll())
            # and so where it can be seen
            subprocess.run(["start-stop-daemon", "--stop", "--oknodo", "--quiet", "--exec", daemon], check=True)
            self.assertIsNotNone(running.wait(60))

    def test_mounts_and_left_processes_stay_there(self):
        subprocess.run([*ALONE, "sh", "-c", f"mount -t tmpfs none {self.folder} && touch {self.folder}/inside && "
                        f"setsid sh -c 'exec sleep 617.25' & sleep 0.2; test -e {self.folder}/inside"], check=True)
        self.assertEqual(list(self.folder.iterdir()), [])
        commands = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        self.assertFalse([command for command in commands if b"617.25" in command])


if __name__ == "__main__":
    main(boxed=False)
