"""The Debian package: built from the checkout, read by lintian, installed, upgraded, removed and purged in a scratch root.

Run by meson test; the scratch root (this machine below a throwaway overlay) needs root and overlayfs.
Never writes into the checkout, and never installs anything on this machine.
"""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "bus"))

from harness import main  # noqa: E402

FILES = """
lib/systemd/system/banger.slice
lib/systemd/system/bangerd-root.service
lib/udev/rules.d/05-banger.rules
usr/bin/banger
usr/lib/systemd/catalog/banger.catalog
usr/lib/systemd/user/bangerd.service
usr/libexec/banger/banger-guest
usr/libexec/banger/banger-intake
usr/libexec/banger/banger-jailer
usr/libexec/banger/banger-disk
usr/libexec/banger/banger-vmm-qemu
usr/libexec/banger/bangerd
usr/sbin/bangerd-root
usr/share/banger/50-banger.rules.in
usr/share/banger/catalogs/images.json
usr/share/banger/catalogs/kernels.json
usr/share/bash-completion/completions/banger
usr/share/dbus-1/services/org.banger.Manager.service
usr/share/dbus-1/system-services/org.banger.Privileged.service
usr/share/dbus-1/system.d/org.banger.Privileged.conf
usr/share/doc/banger/README.Debian
usr/share/doc/banger/README.md
usr/share/doc/banger/architecture.md
usr/share/doc/banger/changelog.gz
usr/share/doc/banger/copyright
usr/share/doc/banger/dbus.md
usr/share/doc/banger/guest.md
usr/share/doc/banger/images.md
usr/share/doc/banger/privileges.md
usr/share/fish/vendor_completions.d/banger.fish
usr/share/lintian/overrides/banger
usr/share/locale/de/LC_MESSAGES/banger.mo
usr/share/man/man1/banger-image.1.gz
usr/share/man/man1/banger-kernel.1.gz
usr/share/man/man1/banger-system.1.gz
usr/share/man/man1/banger-vm.1.gz
usr/share/man/man1/banger.1.gz
usr/share/man/man8/bangerd-root.8.gz
usr/share/polkit-1/actions/org.banger.privileged.policy
usr/share/zsh/site-functions/_banger
""".split()
DEB = "banger_0.1.0~test1_amd64.deb"
MAY_GROW = re.compile(r"usr/share/(doc/banger/[a-z-]+\.md|locale/.*/banger\.mo|man/.*\.gz)")
# Of scripts/dependencies: what every Debian has, and what only scripts/dev-stack and scripts/quickstart call.
ESSENTIAL = {"build": {"gcc", "libc6-dev", "git"},
             "run": {"dbus-daemon", "python3", "passwd", "mount", "util-linux"}}
# What dpkg itself and the triggers of other packages write, and what this test made.
BOOKKEEPING = re.compile(r"/(var/lib/dpkg|var/cache/man|var/log|recorder|run/systemd/system|var/lib/systemd/(linger|catalog))/|/etc/firewalld/((zones|policies)/)?$")
# Run with a mount namespace of its own: SCRATCH-FOLDER PACKAGE UPGRADE. Prints what was called in each step.
LIFE = r"""
set -eu
scratch=$1
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root" || exit 77
root=$scratch/root
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
rm -rf "$root/etc/banger" "$root/var/lib/banger" "$root/var/cache/banger" "$root/run/banger"
mkdir -p "$root/recorder" "$root/run/systemd/system"
for tool in systemctl deb-systemd-invoke loginctl ufw banger; do
    printf '#!/bin/sh\necho %s "$@" >>/recorder/log\n' "$tool" >"$root/recorder/$tool"
done
chmod 755 "$root/recorder"/*
cp "$2" "$root/recorder/1.deb"
cp "$3" "$root/recorder/2.deb"
step() {
    name=$1
    shift
    : >"$root/recorder/log"
    env -i PATH=/recorder:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
        chroot "$root" "$@" >&2 || exit 1
    sed "s/^/$name: /" "$root/recorder/log"
}
there() { for path; do [ ! -e "$root$path" ] || echo "there: $path"; done; }
step install dpkg --install /recorder/1.deb
if [ -e "$root/usr/share/locale/de/LC_MESSAGES/banger.mo" ]; then
    env -i LC_ALL=C.UTF-8 LANGUAGE=de PATH=/usr/sbin:/usr/bin chroot "$root" /usr/bin/banger --help | sed -n 's/^Aufruf:/speaks: German/p'
else
    echo 'speaks: nothing'
fi
step setup sh -euc '
    mkdir -p /etc/banger /var/lib/banger/7/vms/x /var/cache/banger /run/banger/leases /var/lib/systemd/linger
    printf "[owner]\nuser = \"nobody\"\nuid = 7\n" >/etc/banger/install.toml
    touch /etc/banger/linger /etc/polkit-1/rules.d/50-banger.rules
    printf "firewalld br-fc\nufw br-fc\nufw -x\n" >/etc/banger/firewall
    mkdir -p /etc/firewalld/zones /etc/firewalld/policies
    touch /etc/firewalld/zones/banger.xml /etc/firewalld/policies/banger-out.xml
    /usr/bin/systemctl --root=/ --quiet enable bangerd-root.service'
there /etc/systemd/system/multi-user.target.wants/bangerd-root.service
step upgrade dpkg --install /recorder/2.deb
step remove dpkg --remove banger
there /usr/bin/banger /etc/banger/install.toml /var/lib/banger/7/vms/x /etc/polkit-1/rules.d/50-banger.rules
step again dpkg --install /recorder/2.deb
echo 'exit 1' >>"$root/recorder/banger"
step purge dpkg --purge banger
cd "$scratch/upper"
find . -mindepth 1 ! -type d ! -type c -printf 'left: /%P\n'
find . -type d -printf '%P\n' | while read -r folder; do [ -e "/$folder" ] || echo "left: /$folder/"; done
"""


def missing_tools():
    return [tool for tool in ("dpkg-buildpackage", "dh", "lintian", "git", "meson") if not shutil.which(tool)]


def run(*argv, **options):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=540,
                          stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        raise AssertionError(f"{argv}: exit status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def checkout_status():
    return run("git", "-c", f"safe.directory={SOURCE}", "-C", SOURCE, "status", "--porcelain", "--ignored")


def relations(field):
    """Names of packages in a field of debian/control."""
    return {re.split(r"[ (|]", item.strip())[0] for item in field.split(",") if item.strip()}


def control():
    """Fields of packaging/debian/control, both paragraphs in one."""
    text = (SOURCE / "packaging/debian/control").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Z][A-Za-z-]*):((?:.*\n)(?:[ \t].*\n)*)", text, re.M))


class Dependencies(unittest.TestCase):
    """One list of packages: debian/control says the same as scripts/dependencies."""

    def listed(self, group):
        return set(run(SOURCE / "scripts/dependencies", group).split()) - ESSENTIAL[group]

    def test_build(self):
        self.assertEqual(relations(control()["Build-Depends"]) - {"debhelper-compat"}, self.listed("build"))

    def test_run(self):
        fields = control()
        ours = {name for name in relations(fields["Depends"]) | relations(fields["Recommends"]) if "$" not in name}
        self.assertEqual(ours, self.listed("run"))


@functools.cache
def build():
    """Builds once: the folder, the package, and whether the checkout stayed as it was."""
    missing = missing_tools()
    if missing:
        raise unittest.SkipTest(f"{', '.join(missing)} missing: scripts/dependencies install build package")
    work = pathlib.Path(tempfile.mkdtemp(prefix="banger-package-", dir="/var/tmp"))
    unittest.addModuleCleanup(shutil.rmtree, work, ignore_errors=True)
    before = checkout_status()
    without = {"DEB_BUILD_OPTIONS": "noautodbgsym", "DEB_CFLAGS_APPEND": "-g0"}  # symbols go into a package of their own
    run(SOURCE / "packaging/build-deb", "--version", "0.1.0~test1", work, env=os.environ | without)
    if "BANGER_TEST_PACKAGE" in os.environ:  # scripts/check has the scenario of that name install the same
        shutil.copy(work / DEB, os.environ["BANGER_TEST_PACKAGE"])
    return work, work / DEB, before == checkout_status()


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        work, cls.deb, cls.clean = build()
        cls.tree = work / "tree"
        run("dpkg-deb", "--raw-extract", cls.deb, cls.tree)

    def test_checkout_is_as_before(self):
        self.assertTrue(self.clean)

    def test_files(self):
        found = {str(p.relative_to(self.tree)) for p in self.tree.rglob("*") if not p.is_dir()}
        found = {name for name in found if not name.startswith("DEBIAN/")}
        self.assertEqual(set(FILES) - found, set())
        self.assertEqual({name for name in found - set(FILES) if not MAY_GROW.match(name)}, set())

    def test_modes_and_owners(self):
        for line in run("dpkg-deb", "--contents", self.deb).splitlines():
            mode, owner, _size, _date, _time, name = line.split(maxsplit=5)
            wanted = "drwxr-xr-x" if name.endswith("/") else "-rwxr-xr-x" if re.search(r"/s?bin/|/libexec/", name) else "-rw-r--r--"
            self.assertEqual((mode, owner), (wanted, "root/root"), name)

    def test_services_start_what_is_there(self):
        for name in FILES:
            if not name.endswith(".service"):
                continue
            for program in re.findall(r"^Exec(?:Start)?=(\S+)", (self.tree / name).read_text(encoding="utf-8"), re.M):
                self.assertTrue(program == "/bin/false" or os.access(self.tree / program[1:], os.X_OK), f"{name}: {program}")

    def test_documentation_of_units_is_there(self):
        unit = (self.tree / "lib/systemd/system/bangerd-root.service").read_text(encoding="utf-8")
        page = re.search(r"^Documentation=.*\bfile:/(\S+)$", unit, re.M)[1]
        self.assertTrue((self.tree / page).is_file(), page)

    def test_lintian(self):
        argv = ["lintian", "--fail-on", "error,warning", "--tag-display-limit", "0", "--allow-root", str(self.deb)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)


class Life(unittest.TestCase):
    """Install, upgrade, remove and purge by dpkg, with the tools that talk to systemd replaced by ones that only record."""

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("needs root: a scratch root is made with mount and chroot")
        work, deb, _clean = build()
        newer = cls.newer(work, deb)
        scratch = work / "scratch"
        scratch.mkdir()
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", LIFE, "sh", scratch, deb, newer],
                              capture_output=True, text=True, check=False, timeout=300, stdin=subprocess.DEVNULL)
        if done.returncode == 77:
            raise unittest.SkipTest("overlayfs over / cannot be mounted here")
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)
        cls.lines = done.stdout.splitlines()

    @staticmethod
    def newer(work, deb):
        """The same package with a higher version."""
        tree = work / "newer"
        run("dpkg-deb", "--raw-extract", deb, tree)
        control_file = tree / "DEBIAN/control"
        control_file.write_text(control_file.read_text(encoding="utf-8").replace("~test1", "~test2"), encoding="utf-8")
        run("dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, work / "newer.deb")
        return work / "newer.deb"

    def called(self, step):
        return [line.removeprefix(f"{step}: ") for line in self.lines if line.startswith(f"{step}: ")]

    def test_install_starts_nothing(self):
        self.assertEqual(self.called("install"), ["systemctl --system daemon-reload"])

    def test_translations_are_found(self):
        said = self.called("speaks")
        if said == ["nothing"]:
            self.skipTest("dpkg leaves translations out on this machine (path-exclude)")
        self.assertEqual(len(said), 1)
        self.assertTrue(said[0].startswith("German banger"), said)

    def test_upgrade_restarts_services_and_no_vm(self):
        self.assertEqual(self.called("upgrade"), [
            "systemctl --system daemon-reload",
            "deb-systemd-invoke try-restart bangerd-root.service",
            "systemctl --user --machine=nobody@ daemon-reload",
            "systemctl --user --machine=nobody@ try-restart bangerd.service",
        ])

    def test_remove_stops_vms_in_order_and_keeps_data(self):
        self.assertEqual(self.called("remove")[0], "banger system stop")
        self.assertNotIn("banger.slice", " ".join(self.called("remove")))
        self.assertEqual(self.called("there"), [
            "/etc/systemd/system/multi-user.target.wants/bangerd-root.service",
            "/etc/banger/install.toml", "/var/lib/banger/7/vms/x", "/etc/polkit-1/rules.d/50-banger.rules",
        ])

    def test_what_does_not_stop_is_ended(self):
        self.assertEqual(self.called("purge")[:2],
                         ["banger system stop", "deb-systemd-invoke stop banger.slice bangerd-root.service"])
        self.assertIn("loginctl disable-linger nobody", self.called("purge"))
        self.assertEqual([call for call in self.called("purge") if call.startswith("ufw")],
                         ["ufw --force route delete allow in on br-fc"])

    def test_purge_leaves_nothing(self):
        self.assertEqual([line for line in self.called("left") if not BOOKKEEPING.match(line)], [])


if __name__ == "__main__":
    main(boxed=False)
