#!/usr/bin/python3
"""banger-jailer: what its command line refuses, and what a VMM finds in the jail.

Usage: test_jailer.py JAILER PROBE. The jail tests need root; without it they are skipped.
"""
import os
import shutil
import subprocess
import tempfile
import time
import unittest

import tap

JAILER, PROBE = tap.arguments(2)
UID, GID = 40123, 40124


def run(*args, **kwargs):
    return subprocess.run([JAILER, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, **kwargs)


class Base(unittest.TestCase):
    def setUp(self):
        self.base = tempfile.TemporaryDirectory(prefix="banger-jailer-")
        self.addCleanup(self.base.cleanup)
        self.good = {"--id": "vm-1", "--exec-file": PROBE, "--uid": str(UID), "--gid": str(GID),
                     "--chroot-base-dir": self.base.name}

    def args(self, **changes):
        merged = dict(self.good, **{"--" + k.replace("_", "-"): v for k, v in changes.items()})
        return [word for key, value in merged.items() if value is not None for word in (key, value)]


class CommandLine(Base):
    def refused(self, args, text):
        result = run(*args)
        self.assertEqual(result.returncode, 1, result)
        self.assertIn(text, result.stderr)
        self.assertEqual(os.listdir(self.base.name), [], "a refused command line made something")

    def test_required(self):
        for name in ("id", "exec_file", "uid", "gid"):
            self.refused(self.args(**{name: None}), "required, but not found")

    def test_id(self):
        for bad in ("", "a_b", "a/b", "..", "a" * 65, "a b", "a.b"):
            self.refused(self.args(id=bad), "Invalid instance ID")

    def test_numbers(self):
        for bad in ("0", "", "-1", "+5", " 5", "5 ", "0x10", "4294967295", "4294967296", "05", "me"):
            self.refused(self.args(uid=bad), "Invalid uid")
            self.refused(self.args(gid=bad), "Invalid gid")

    def test_unknown_and_doubled(self):
        self.refused(self.args() + ["--frob"], "wasn't expected")
        self.refused(self.args() + ["stray"], "wasn't expected")
        self.refused(self.args() + ["--daemonize=yes"], "wasn't expected")
        self.refused(self.args() + ["--id", "other"], "more than once")
        self.refused(self.args() + ["--netns"], "requires a value")

    def test_cgroup(self):
        for bad, text in (("memory.max", "Invalid format"), ("memory.max=", "Invalid format"),
                          ("a=b=c", "Invalid format"), ("../x.y=1", "Cgroup invalid file"),
                          ("memory=1", "Cgroup invalid file"), (".max=1", "Cgroup invalid file")):
            self.refused(self.args() + ["--cgroup", bad], text)
        for bad in ("/abs", "a/../b", "./a", "a//b", ""):
            self.refused(self.args(parent_cgroup=bad), "Parent cgroup path is invalid")
        for bad in ("0", "3", "two"):
            self.refused(self.args(cgroup_version=bad), "invalid cgroup version")
        self.refused(self.args() + ["--cgroup", "memory.max=1"], "Only cgroup version 2")

    def test_limits(self):
        for bad in ("no-file", "no-file=x", "no-file=-1", "cpu=1", "no-files=3"):
            self.refused(self.args() + ["--resource-limit", bad], "nvalid")

    def test_paths(self):
        self.refused(self.args(exec_file="/nonexistent/vmm"), "canonicalize")
        self.refused(self.args(exec_file="/usr"), "is not a file")
        self.refused(self.args(chroot_base_dir="/nonexistent/jails"), "canonicalize")
        self.refused(self.args(chroot_base_dir=PROBE), "not a directory")

    def test_version_and_help(self):
        self.assertRegex(run("--version").stdout, r"^banger-jailer v\d")
        self.assertIn("--chroot-base-dir", run("--help").stdout)


@unittest.skipUnless(os.geteuid() == 0, "needs root: mount namespaces, mknod, other uids")
class Jail(Base):
    def jail(self, *extra, args=None, **kwargs):
        result = run(*(args or self.args()), *extra, **kwargs)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.facts = dict(line.split("=", 1) for line in result.stdout.splitlines())
        return self.facts

    def root(self):
        return os.path.join(self.base.name, os.path.basename(PROBE), "vm-1", "root")

    def test_nothing_is_left_of_root(self):
        facts = self.jail(extra_groups=[4, 27], env=dict(os.environ, SECRET="1"))
        self.assertEqual(facts["uid"], f"{UID} {UID} {UID}")
        self.assertEqual(facts["gid"], f"{GID} {GID} {GID}")
        self.assertEqual(facts["groups"], "0")
        self.assertEqual(facts["caps"], "0 0 0 0 0 0")
        self.assertEqual(facts["bounding"], "0")
        self.assertEqual(facts["nnp"], "1")
        self.assertEqual(facts["env"], "0")

    def test_descriptors_are_closed(self):
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        facts = self.jail(pass_fds=[read, write])
        self.assertEqual(facts["fds"].split(), ["0", "1", "2"])

    def test_root_directory(self):
        name = os.path.basename(PROBE)
        facts = self.jail()
        self.assertEqual(set(facts["ls /"].split()), {"dev", "run", name, name + ".pid"})
        self.assertEqual(facts["escape"], "0")
        for path in ("/", "/dev", "/run"):
            self.assertEqual(facts["stat " + path].split()[:2], ["40700", f"{UID}:{GID}"], path)
        self.assertEqual(facts["stat /" + name].split()[0], "100555")
        with open(os.path.join(self.root(), name + ".pid")) as pid:
            self.assertEqual(pid.read(), facts["pid"])

    def test_devices(self):
        facts = self.jail()
        self.assertNotIn("stat /dev/net/tun", facts)
        for path, device in (("/dev/kvm", "10:232"), ("/dev/urandom", "1:9")):
            if os.path.exists(path):
                self.assertEqual(facts["stat " + path], f"20600 {UID}:{GID} dev {device}")
            else:
                self.assertNotIn("stat " + path, facts)

    def test_staged_device_is_kept(self):
        os.makedirs(self.root() + "/dev")
        os.mknod(self.root() + "/dev/urandom", 0o20644, os.makedev(1, 9))
        self.assertEqual(self.jail()["stat /dev/urandom"], "20644 0:0 dev 1:9")

    def test_wrong_device_is_refused(self):
        os.makedirs(self.root() + "/dev")
        os.mknod(self.root() + "/dev/urandom", 0o20644, os.makedev(1, 8))
        result = run(*self.args())
        self.assertEqual(result.returncode, 1)
        self.assertIn("is not the device 1:9", result.stderr)

    def test_links_are_refused(self):
        for path in ("", "/vm-1", "/vm-1/root", "/vm-1/root/dev", "/vm-1/root/run"):
            with self.subTest(path=path), tempfile.TemporaryDirectory() as base, tempfile.TemporaryDirectory() as other:
                link = os.path.join(base, os.path.basename(PROBE)) + path
                os.makedirs(os.path.dirname(link), exist_ok=True)
                os.symlink(other, link)
                result = run(*self.args(chroot_base_dir=base))
                self.assertEqual(result.returncode, 1, path)
                self.assertIn("a link is refused", result.stderr)
                self.assertEqual(os.listdir(other), [])

    def test_arguments_of_the_vmm(self):
        facts = self.jail("--", "--api-sock", "/run/api.sock", "--", "a b", "")
        argv = [facts[f"argv{i}"] for i in range(14)]
        self.assertEqual(argv[0], "/" + os.path.basename(PROBE))
        self.assertEqual(argv[1:3], ["--id", "vm-1"])
        self.assertEqual(argv[3::2][:3], ["--start-time-us", "--start-time-cpu-us", "--parent-cpu-time-us"])
        for value in argv[4:9:2]:
            self.assertRegex(value, r"^\d+$")
        self.assertEqual(argv[9:], ["--api-sock", "/run/api.sock", "--", "a b", ""])

    def test_same_pid(self):
        child = subprocess.Popen([JAILER, *self.args()], stdout=subprocess.PIPE, text=True)
        out = child.communicate(timeout=60)[0]
        self.assertIn(f"\npid={child.pid}\n", out)

    def test_limits_hold(self):
        facts = self.jail("--resource-limit", "no-file=123", "--resource-limit", "fsize=4096")
        self.assertEqual((facts["nofile"], facts["fsize"]), ("123 123", "4096"))
        self.assertEqual(self.jail()["nofile"].split()[0], "2048")

    def test_second_run_in_the_same_jail(self):
        self.jail()
        self.jail()

    def test_new_pid_namespace(self):
        name = os.path.basename(PROBE)
        facts = self.jail("--new-pid-ns")
        self.assertEqual(facts["pid"], "1")
        with open(os.path.join(self.root(), name + ".pid")) as pid:
            self.assertGreater(int(pid.read()), 1)

    def test_daemonize(self):
        child = subprocess.Popen([JAILER, *self.args(), "--daemonize"], stdout=subprocess.PIPE, text=True)
        self.assertEqual(child.communicate(timeout=60)[0], "", "its output goes to /dev/null")
        self.assertEqual(child.returncode, 0)
        path = os.path.join(self.root(), os.path.basename(PROBE) + ".pid")
        end = time.monotonic() + 60
        while not os.path.exists(path) or not os.path.getsize(path):
            self.assertLess(time.monotonic(), end, "no pid file")
            time.sleep(0.01)
        with open(path) as pid:
            self.assertNotEqual(int(pid.read()), child.pid)

    def test_staged_mounts_come_along(self):
        run_dir = tempfile.TemporaryDirectory(prefix="banger-run-")
        self.addCleanup(run_dir.cleanup)
        os.makedirs(self.root() + "/run")
        open(run_dir.name + "/seen", "w").close()
        script = 'mount --make-rprivate / && mount --bind "$1" "$2" && shift 2 && exec "$@"'
        result = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", run_dir.name, self.root() + "/run", JAILER,
                                 *self.args()], capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("ls /run=seen ", result.stdout)
        self.assertEqual(os.listdir(self.root() + "/run"), [], "the mount left its namespace")
        with open("/proc/self/mounts") as mounts:
            self.assertNotIn(self.base.name, mounts.read())

    def test_cgroup(self):
        with open("/proc/mounts") as mounts:
            mount = next((line.split()[1] for line in mounts if line.split()[2] == "cgroup2"), None)
        if mount is None or not os.access(mount, os.W_OK):
            self.skipTest("no writable cgroup2 mount")
        parent = f"banger-jailer-test-{os.getpid()}"
        path = os.path.join(mount, parent)
        self.addCleanup(lambda: [os.rmdir(p) for p in (path + "/vm-1", path) if os.path.isdir(p)])
        self.jail("--cgroup-version", "2", "--parent-cgroup", parent, "--cgroup", "cgroup.max.depth=7")
        with open(path + "/vm-1/cgroup.max.depth") as depth:
            self.assertEqual(depth.read().strip(), "7")
        result = run(*self.args(), "--cgroup-version", "2", "--parent-cgroup", parent, "--cgroup", "nonesuch.max=1")
        self.assertEqual(result.returncode, 1)
        self.assertIn("nonesuch", result.stderr)
        self.several_mounts(mount, parent)

    def several_mounts(self, mount, parent):
        """The first line of /proc/mounts shows a part of the hierarchy, or is covered by now: the parent is in the second."""
        part, whole = (tempfile.mkdtemp(dir=self.base.name) for _ in range(2))
        other = os.path.join(mount, parent + "-other")
        os.mkdir(other)
        self.addCleanup(os.rmdir, other)
        script = ('mount --make-rprivate / && mount --bind "$1" "$2" && mount --rbind "$3" "$4" && umount -l "$3" && '
                  'if [ "$5" = covered ]; then mount -t tmpfs none "$2"; fi && shift 5 && exec "$@"')
        for how, depth in (("part", "5"), ("covered", "6")):
            shutil.rmtree(os.path.dirname(self.root()))
            result = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", other, part, mount, whole, how, JAILER, *self.args(),
                                     "--cgroup-version", "2", "--parent-cgroup", parent, "--cgroup", "cgroup.max.depth=" + depth],
                                    capture_output=True, text=True, timeout=60)
            self.assertEqual(result.returncode, 0, result.stderr)
            with open(f"{mount}/{parent}/vm-1/cgroup.max.depth") as file:
                self.assertEqual(file.read().strip(), depth)
            self.assertFalse(os.path.exists(f"{other}/{parent}"))


if __name__ == "__main__":
    tap.main()
