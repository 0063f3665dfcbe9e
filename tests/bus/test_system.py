"""banger system beside a real helper: what status says, and that uninstall ends VMs before it takes anything away.

Run by meson test as root. /etc/banger is an overlay in a mount namespace of the command; buses, folders, bridge and VMM
are this stack's. systemd is hidden from the command: its part is tested in the test host.
Never reads or writes the host's own installation.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import harness  # makes devstack importable
import devstack
import test_privileged
from harness import SOURCE, main

DATA = re.search(r'BANGER_DATADIR "(.*)"', (pathlib.Path(harness.BUILD) / "config.h").read_text(encoding="utf-8"))[1]
RUN = """set -e
base=$1
shift
mkdir -p "$base/etc/banger" "$base/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$base/etc,workdir=$base/work" /etc
[ ! -d /run/systemd ] || mount -t tmpfs none /run/systemd
[ ! -e /usr/sbin/ufw ] || mount --bind "$(command -v true)" /usr/sbin/ufw
mount -t tmpfs none "${data%/*}" && mkdir "$data" && cp "$rules" "$data"
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
                              env=self.stack.root_environment() | {"LC_ALL": "C.UTF-8", "data": DATA, "rules": f"{SOURCE}/polkit/50-banger.rules.in"},
                              cwd="/", capture_output=True,
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
        facts = json.loads(self.system("status", "--json"))
        self.assertEqual((facts["installed"], facts["owner"], facts["helper"], facts["vms_held"]),
                         (True, self.stack.owner.pw_name, "answers", 1))
        self.stack.stop("helper")
        self.addCleanup(self.stack.start_helper)
        self.assertRegex(self.system("status", status=1), r"(?m)^helper +.*org\.banger\.Privileged")
        facts = json.loads(self.system("status", "--json", status=1))
        self.assertIsNone(facts["vms_held"])
        self.assertIn("org.banger.Privileged", facts["helper"])

    def test_uninstall_without_the_helper_keeps_everything(self):
        pid = self.launch()
        self.stack.stop("helper")
        before = sorted(os.listdir(self.stack.install["runtime"]))
        self.assertIn("1 VM still holds", self.system("uninstall", "--purge", status=1))
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

    def test_firewalld_is_told(self):
        """A zone and a policy in its folder, once; not where its admin gave the bridge a zone. They go with banger."""
        zones, policies = (self.etc / "etc/firewalld" / name for name in ("zones", "policies"))
        for folder in (zones, policies):
            folder.mkdir(parents=True)
        install = ("install", "--system-account", "--owner", self.stack.owner.pw_name)
        note, bridge = self.etc / "etc/banger/firewall", self.bridge
        self.system(*install)
        zone = zones / "banger.xml"
        written = zone.stat().st_mtime_ns
        self.assertEqual([each.get("name") for each in ElementTree.parse(zone).getroot().iter("interface")], [bridge])
        self.assertEqual({each.tag: each.get("name") for each in ElementTree.parse(policies / "banger-out.xml").getroot()
                          if each.get("name")}, {"ingress-zone": "banger", "egress-zone": "ANY"})
        self.assertIn(f"firewalld {bridge}", note.read_text().splitlines())
        self.system(*install)
        self.assertEqual(zone.stat().st_mtime_ns, written)
        # The note is of another bridge: what was told of that is taken back first.
        note.write_text("firewalld br-fc-earlier\nfirewalld ../../x\n")
        self.system(*install)
        self.assertGreater(zone.stat().st_mtime_ns, written)
        zone.unlink()
        (zones / "mine.xml").write_text(f'<zone><interface name="{bridge}"/></zone>')
        self.system(*install)
        self.assertFalse(zone.is_file())
        self.assertIn(f"firewalld {bridge}", note.read_text().splitlines())
        self.addCleanup(self.make_folders)
        self.system("uninstall", "--purge")
        self.assertFalse((policies / "banger-out.xml").is_file() or note.is_file())
        self.assertTrue((zones / "mine.xml").is_file())

    def as_owner(self, argv, **kwargs):
        owner = self.stack.owner
        child = subprocess.Popen(argv, user=owner.pw_uid, group=owner.pw_gid, extra_groups=[], **kwargs)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def test_uninstall_while_the_owner_fills(self):
        """Folders without end, and files that are there again at once are no veto."""
        self.addCleanup(self.make_folders)
        self.launch()
        owner = str(self.stack.owner.pw_uid)
        run = pathlib.Path(self.stack.install["runtime"]) / owner / self.vm
        nest = "i=0; while [ $i -lt 200 ]; do mkdir x && cd x || exit 1; i=$((i+1)); done; echo deep; "
        fill = "while :; do true >made-$i; mkdir -p a/b; i=$((i+1)); done 2>/dev/null"
        fillers = [self.as_owner(["sh", "-c", nest + fill], cwd=place, stdout=subprocess.PIPE, text=True)
                   for place in (run, self.stack.state / owner / "vms")]
        for filler in fillers:
            self.assertEqual(filler.stdout.readline(), "deep\n")
            self.addCleanup(filler.stdout.close)
        self.stack.set_rule(False)  # what uninstall does to the host's, which this polkitd does not see
        self.system("uninstall", "--purge")
        self.assertEqual([child.poll() for child in fillers], [None, None])
        for child in fillers:
            child.kill()
            child.wait()
        self.stack.set_rule(True)
        self.stack.restart("polkit")
        for gone in (self.stack.install["runtime"], self.stack.state):
            self.assertFalse(os.path.exists(gone), gone)


if __name__ == "__main__":
    main()
