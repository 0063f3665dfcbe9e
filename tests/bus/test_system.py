"""banger system beside a real helper: what status says, and that uninstall ends VMs before it takes anything away.

Run by meson test as root. /etc/banger is an overlay in a mount namespace of the command; buses, folders, bridge and VMM
are this stack's. systemd is hidden from the command: its part is tested in the test host.
Never reads or writes the host's own installation.
"""

import os
import shutil
import subprocess

import harness  # noqa: F401  (makes devstack importable)
import devstack
import test_privileged
from harness import main

RUN = """set -e
base=$1
shift
mkdir -p "$base/etc/banger" "$base/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$base/etc,workdir=$base/work" /etc
[ ! -d /run/systemd ] || mount -t tmpfs none /run/systemd
exec "$@"
"""


class System(test_privileged.VmmTest):
    user = "root"

    def setUp(self):
        super().setUp()
        self.etc = self.stack.base / "overlay"
        self.addCleanup(shutil.rmtree, self.etc, ignore_errors=True)
        (self.etc / "etc/banger").mkdir(parents=True)
        shutil.copy(self.stack.config, self.etc / "etc/banger/install.toml")
        (self.etc / "etc/polkit-1/rules.d").mkdir(parents=True)
        (self.etc / "etc/polkit-1/rules.d/50-banger.rules").write_text("// banger's\n")

    def system(self, *words, status=0):
        done = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", RUN, "sh", str(self.etc),
                               self.stack.program("banger"), "system", *words],
                              env=self.stack.root_environment() | {"LC_ALL": "C.UTF-8"}, cwd="/", capture_output=True,
                              text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        if "wrong fs type" in done.stderr:
            self.skipTest("needs overlayfs")
        self.assertEqual(done.returncode, status, done)
        return done.stdout + done.stderr

    def test_status(self):
        self.assertRegex(self.system("status"), r"(?m)^helper +answers$[^$]*^VMs held +0$")
        self.launch()
        text = self.system("status")
        self.assertRegex(text, r"(?m)^VMs held +1$")
        self.assertRegex(text, rf"(?m)^owner +{self.stack.owner.pw_name}$")
        self.stack.stop("helper")
        self.addCleanup(self.stack.start_helper)
        self.assertRegex(self.system("status", status=1), r"(?m)^helper +.*org\.banger\.Privileged")

    def test_uninstall_without_the_helper_keeps_everything(self):
        pid = self.launch()
        self.stack.stop("helper")
        before = sorted(os.listdir(self.stack.install["runtime"]))
        self.assertIn("1 VMs still hold", self.system("uninstall", "--purge", status=1))
        self.stack.start_helper()
        self.assertEqual(sorted(os.listdir(self.stack.install["runtime"])), before)
        self.assertEqual(self.call("OpenVmm", "(sa{sv})", self.vm)[0], pid)
        self.assertTrue((self.etc / "etc/banger/install.toml").exists())

    def make_folders(self):
        """Those of the running helper are gone."""
        self.stack.stop("helper")
        self.stack.prepare()
        self.stack.start_helper()

    def test_uninstall_ends_vms_first_and_leaves_nothing(self):
        self.addCleanup(self.make_folders)
        pid = self.launch()
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        self.system("uninstall", "--purge")
        self.assertIsNone(devstack.process_start(pid))
        self.assertFalse(os.path.exists(f"/sys/class/net/tap-fc-{self.vm[:8]}"))
        for gone in (self.stack.install["runtime"], self.stack.state):
            self.assertFalse(os.path.exists(gone), gone)
        for name in ("banger/install.toml", "polkit-1/rules.d/50-banger.rules"):
            self.assertFalse((self.etc / "etc" / name).is_file(), name)  # overlayfs may mark it as gone


if __name__ == "__main__":
    main()
