#!/usr/bin/python3
"""banger system, as root, on a copy of this host: overlays over /etc, /run, /var/lib and /var/cache in a mount namespace.

Run by meson with BANGER, RULES, DATADIR. Whatever a command changes is in the overlays' upper folders, which is what the
tests look at. systemd is hidden: its part is tested in the test host.
Never writes to the host itself.
"""
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile
import unittest

BANGER = os.environ["BANGER"]
RULES = pathlib.Path(os.environ["RULES"])
DATADIR = pathlib.Path(os.environ["DATADIR"])
PLACES = ("/etc", "/run", "/var/lib", "/var/cache", "/srv")
METADATA = "/etc/banger/install.toml"
POLKIT_RULE = "/etc/polkit-1/rules.d/50-banger.rules"
UID, OTHER = 54321, 54322
USERS = f"""bo:x:{UID}:{UID}::/home/bo:/bin/sh
other:x:{OTHER}:{OTHER}::/home/other:/bin/sh
toor:x:0:0::/root:/bin/sh
wheel:x:54323:0::/home/wheel:/bin/sh
daemonic:x:777:777::/var/lib/daemonic:/usr/sbin/nologin
homeless:x:54324:54324:::/bin/sh
o'"\\hara:x:54325:54325::/home/o:/bin/sh
"""
SETUP = """set -e
base=$1
shift
for place in "$@"; do
  mkdir -p "$base/up$place" "$base/work$place"
done
# banger's own are not there: marked as gone, not removed file by file while others write into them
for path in /etc/banger /run/banger /var/lib/banger /var/cache/banger; do
  [ ! -e "$path" ] || mknod -m 0 "$base/up$path" c 0 0
done
for place in "$@"; do
  upper=$base/up$place
  mount -t overlay overlay -o "lowerdir=$place,upperdir=$upper,workdir=$base/work$place" "$place"
done
[ ! -d /run/systemd ] || mount -t tmpfs none /run/systemd
mount -t tmpfs none "$(dirname "$DATADIR")"
mkdir "$DATADIR"
cp "$RULES" "$DATADIR"
rm -f /etc/polkit-1/rules.d/50-banger.rules
mkdir -p /etc/polkit-1/rules.d
cat "$base/users" >>/etc/passwd
touch "$base/ready"
exec sleep 600
"""


def overlays_work():
    """Whether this kernel lets root lay one directory over another."""
    with tempfile.TemporaryDirectory(prefix="banger-overlay-") as base:
        for name in ("up", "work"):
            os.mkdir(f"{base}/{name}")
        options = f"lowerdir=/etc,upperdir={base}/up,workdir={base}/work"
        return subprocess.run(["unshare", "-m", "mount", "-t", "overlay", "overlay", "-o", options, "/etc"],
                              capture_output=True, check=False).returncode == 0


@unittest.skipUnless(os.geteuid() == 0, "needs root: mount namespaces")
class Host(unittest.TestCase):
    """The copy; self.path() leads into it from outside."""

    @classmethod
    def setUpClass(cls):
        if not overlays_work():
            raise unittest.SkipTest("needs overlayfs on a temporary folder")

    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="banger-system-"))
        self.addCleanup(shutil.rmtree, self.base)
        self.base.chmod(0o755)
        (self.base / "users").write_text(USERS)
        shutil.copy2(BANGER, self.base / "banger")  # the build directory may be below one of PLACES
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DATADIR": str(DATADIR), "RULES": str(RULES)}
        self.holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", SETUP, "setup",
                                        str(self.base), *PLACES], env=env, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end)
        while not (self.base / "ready").exists():
            if self.holder.poll() is not None:
                self.fail(self.holder.stderr.read())
        self.clean = self.changes()

    def end(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stderr.close()

    def path(self, path):
        return pathlib.Path(f"/proc/{self.holder.pid}/root{path}")

    def changes(self):
        """Path -> type, mode, owner, content of everything that differs from the host."""
        found = {}
        top = self.base / "up"
        for folder, names, files in os.walk(top):
            for name in names + files:
                path = pathlib.Path(folder, name)
                st = path.lstat()
                content = path.read_bytes() if stat.S_ISREG(st.st_mode) else b""
                found[str(path.relative_to(top))] = (st.st_mode, st.st_uid, st.st_gid, content)
        return found

    def run_in(self, *argv, uid=0, **env):
        argv = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--setuid", str(uid), "--setgid", str(uid), *argv]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
               "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent", **env}
        return subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False,
                              stdin=subprocess.DEVNULL)

    def system(self, *words, status=0, says="", **kwargs):
        """banger system @words; its exit status and something of what it prints."""
        done = self.run_in(str(self.base / "banger"), "system", *words, **kwargs)
        self.assertEqual(done.returncode, status, done)
        self.assertIn(says, done.stdout + done.stderr)
        return done

    def install(self, *words, user="bo", **kwargs):
        return self.system("install", "--owner", user, *words, **kwargs)

    def rights(self, path):
        st = self.path(path).lstat()
        return stat.filemode(st.st_mode), st.st_uid, st.st_gid


class Install(Host):
    def test_what_it_makes(self):
        self.install(says="installed for bo")
        self.assertEqual(self.rights("/etc/banger"), ("drwxr-xr-x", 0, 0))
        self.assertEqual(self.rights(METADATA), ("-rw-r--r--", 0, 0))
        self.assertEqual(self.rights(POLKIT_RULE), ("-rw-r--r--", 0, 0))
        self.assertEqual(self.rights("/var/lib/banger"), ("drwxr-xr-x", 0, 0))
        for room in ("", "/vms", "/images", "/kernels"):
            self.assertEqual(self.rights(f"/var/lib/banger/{UID}{room}"), ("drwx------", UID, UID), room)
        text = self.path(METADATA).read_text()
        for line in ('user = "bo"', f"uid = {UID}", f"gid = {UID}", 'home = "/home/bo"'):
            self.assertIn(f"\n{line}\n", text)
        self.assertRegex(text, r'\nversion = "\d+\.\d+\.\d+"\n')
        self.assertIn('subject.user === "bo"', self.path(POLKIT_RULE).read_text())
        self.assertEqual([p.name for p in self.path("/etc/banger").iterdir()], ["install.toml"], "a temporary is left")

    def test_twice_changes_nothing(self):
        self.install()
        first = self.changes()
        self.install()
        self.assertEqual(self.changes(), first)

    def test_second_time_mends_and_keeps_the_admins_changes(self):
        self.install()
        text = self.path(METADATA).read_text() + '[paths]\nstate = "/srv/vms"\n[limits]\nvms = 3\n'
        self.path(METADATA).write_text(text)
        self.path(POLKIT_RULE).unlink()
        self.install()
        self.assertEqual(self.path(METADATA).read_text(), text)
        self.assertTrue(self.path(POLKIT_RULE).exists())
        self.assertEqual(self.rights(f"/srv/vms/{UID}/vms"), ("drwx------", UID, UID))

    def test_refused_owners_change_nothing(self):
        for user, words in (("nosuchuser", "no user 'nosuchuser'"), ("root", "rights of root"), ("toor", "rights of root"),
                            ("wheel", "rights of root"), ("daemonic", "--system-account"), ("homeless", "no home"),
                            ("nobody", "nobody in particular"), ("", "empty USER")):
            with self.subTest(user):
                self.install(user=user, status=2, says=words)
                if user in ("root", "toor", "wheel", "nobody"):
                    self.install("--system-account", user=user, status=2, says=words)
        self.system("install", status=2, says="--owner USER is needed")
        self.assertEqual(self.changes(), self.clean)

    def test_system_account_that_was_made_for_it(self):
        self.install("--system-account", user="daemonic")
        self.assertIn("uid = 777", self.path(METADATA).read_text())

    def test_name_with_quotes_stays_a_name(self):
        name = "o'\"\\hara"
        self.install(user=name)
        self.assertIn(f"subject.user === {json.dumps(name)}", self.path(POLKIT_RULE).read_text())
        self.install(user=name)  # it can be read again

    def test_second_owner_is_refused(self):
        self.install()
        before = self.changes()
        self.install(user="other", status=75, says="installed for 'bo'; first run: banger system uninstall")
        self.assertEqual(self.changes(), before)

    def test_needs_root(self):
        for words in (("install", "--owner", "bo"), ("restart",), ("uninstall",), ("uninstall", "--purge")):
            self.system(*words, uid=UID, status=77, says="needs root")
        self.assertEqual(self.changes(), self.clean)

    def test_without_polkit_nothing_is_begun(self):
        shutil.rmtree(self.path("/etc/polkit-1/rules.d"))
        before = self.changes()
        self.install(status=1, says="install polkit")
        self.assertEqual(self.changes(), before)

    def test_metadata_of_someone_else_is_not_believed(self):
        self.install()
        os.chown(self.path(METADATA), UID, UID)
        for words in (("install", "--owner", "bo"), ("uninstall",)):
            self.assertIn("only root can write", self.system(*words, status=77).stderr)

    def test_link_in_the_owners_folder(self):
        self.install()
        room = self.path(f"/var/lib/banger/{UID}/vms")
        room.rmdir()
        room.symlink_to("/srv")
        self.install(status=1, says="cannot prepare the folder 'vms'")
        self.assertEqual(self.rights("/srv")[1], 0)
        self.system("uninstall", "--purge")
        self.assertTrue(self.path("/srv").is_dir())


class Uninstall(Host):
    def test_leaves_nothing(self):
        self.install()
        for path in ("/run/banger/leases", f"/run/banger/{UID}/aabbccdd", "/var/lib/banger/jail/firecracker"):
            self.path(path).mkdir(parents=True)
        self.path(f"/var/lib/banger/{UID}/vms/x").write_text("disk")
        self.path("/run/banger/forwarding.json").write_text("{}")
        self.system("uninstall", "--purge", says="are gone")
        self.assertEqual(self.changes(), self.clean)
        self.system("uninstall", "--purge", says="not installed")

    def test_every_documented_place_is_given_back(self):
        text = (RULES.parent.parent / "docs/privileges.md").read_text(encoding="utf-8")
        table = text.split("\n## What is written where\n")[1].split("\n## ")[0]
        places = [place for row in re.findall(r"^\| (`/.*?) \|", table, re.M) for place in re.findall(r"`([^`]+)`", row)]
        self.assertGreater(len(places), 7)
        for folder in ("zones", "policies"):  # firewalld's own, where it is installed
            self.path(f"/etc/firewalld/{folder}").mkdir(parents=True)
        self.clean = self.changes()
        self.install()
        for place in places:
            path = self.path(place.replace("<uid>", str(UID)).replace("<vm>", "aabbccdd").rstrip("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            if place.endswith("/"):
                path.mkdir(exist_ok=True)
            elif not path.exists():
                path.write_text("x")
        self.system("uninstall", "--purge")
        self.assertEqual(self.changes(), self.clean)

    def test_keeps_what_is_the_owners(self):
        self.install()
        disk = f"/var/lib/banger/{UID}/vms/disk"
        self.path(disk).write_text("x")
        self.system("uninstall", says="--purge removes them")
        self.assertEqual(self.path(disk).read_text(), "x")
        for gone in (METADATA, "/etc/banger", POLKIT_RULE, "/run/banger"):
            self.assertFalse(self.path(gone).exists(), gone)
        self.install()
        self.assertEqual(self.path(disk).read_text(), "x")

    def test_folders_that_the_admin_named_keep_their_files(self):
        """No directory that a person named is removed with what it holds."""
        self.install()
        with self.path(METADATA).open("a") as f:
            f.write('[paths]\nstate = "/srv/vms"\nruntime = "/srv/run"\ncache = "/srv/cache"\n')
        self.install()
        mine = ["/srv/vms/mine", "/srv/run/mine", "/srv/cache/mine/deep", "/etc/banger/mine"]
        for path in mine:
            self.path(path).parent.mkdir(parents=True, exist_ok=True)
            self.path(path).write_text("x")
        done = self.system("uninstall", "--purge")
        for path in mine:
            self.assertEqual(self.path(path).read_text(), "x")
            self.assertIn(f"'{re.match('(/srv/[a-z]+|/etc/banger)', path).group(1)}' is left", done.stderr)
        self.assertFalse(self.path(f"/srv/vms/{UID}").exists())
        self.assertFalse(self.path(METADATA).exists())

    def test_a_folder_that_is_a_disk_of_its_own(self):
        """What banger put there goes; the mount point is the admin's, and no failure."""
        self.install()
        self.run_in("mount", "-t", "tmpfs", "none", "/var/lib/banger")
        self.install()
        done = self.system("uninstall", "--purge", says="are gone")
        self.assertIn("'/var/lib/banger' is left, something is mounted there", done.stderr)
        self.assertEqual(list(self.path("/var/lib/banger").iterdir()), [])
        self.assertFalse(self.path(METADATA).exists())

    def test_vms_that_cannot_be_ended_keep_everything(self):
        self.install()
        self.path("/run/banger/leases").mkdir(parents=True)
        self.path("/run/banger/leases/aabbccdd.json").write_text("{}")
        before = self.changes()
        done = self.system("uninstall", "--purge", status=75, says="1 VM still holds parts of this host (aabbccdd); ")
        self.assertIn("scripts/dev-stack down" if not os.path.isdir("/run/systemd/system") else "start bangerd-root.service", done.stderr)
        self.assertEqual(self.changes(), before)
        self.path("/run/banger/leases/00112233.json").write_text("{}")
        self.system("uninstall", status=75, says="2 VMs still hold parts of this host (")

    def test_can_be_run_again_after_a_failure(self):
        """A mount in the way: the metadata stays, so that the next run knows what is left."""
        self.install()
        self.run_in("mount", "-t", "tmpfs", "none", f"/var/lib/banger/{UID}/vms")
        self.system("uninstall", "--purge", status=77, says="something is mounted")
        self.assertTrue(self.path(METADATA).exists())
        self.run_in("umount", f"/var/lib/banger/{UID}/vms")
        self.system("uninstall", "--purge")
        self.assertEqual(self.changes(), self.clean)


class Status(Host):
    def test_not_installed(self):
        self.system("status", status=1, says="banger system install --owner USER")
        self.system("uninstall", says="not installed")

    def test_no_bus(self):
        self.install()
        self.assertIn("system bus", self.system("status", status=1).stderr)
        self.assertIn("systemd does not run", self.system("restart", status=69).stderr)


if __name__ == "__main__":
    unittest.main()
