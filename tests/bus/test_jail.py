"""A jailed VMM, looked at from outside: rights, mounts, nodes, descriptors, limits, cgroup; with and without systemd.

Run by meson test as root; no guest is booted: the VMM waits at its socket. systemd's manager is played by
fake_systemd.py, which puts processes into real cgroups.
Never uses a name that is not this stack's: bridge, VM ids and folders are its own.
"""

import contextlib
import errno
import fcntl
import glob
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
import unittest

from gi.repository import Gio, GLib

import harness
import devstack
import test_privileged
from harness import SOURCE, main

MIB = 1 << 20
OVERHEAD_MIB = 1024 + 512  # of the QEMU pair, as in docs/privileges.md
LIBRARIES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/alternatives")
NODES = {"dev/null": (1, 3), "dev/kvm": (10, 232), "dev/urandom": (1, 9)}


def mountinfo(pid):
    """Mount point -> options, optional fields, type, of the namespace of @pid; proc(5)."""
    rows = {}
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
        for line in f:
            left, right = line.rstrip("\n").split(" - ", 1)
            words = left.split()
            rows[words[4]] = (set(words[5].split(",")), words[6:], right.split()[0])
    return rows


def limits(pid):
    """Name -> soft and hard limit, of proc(5)'s limits."""
    with open(f"/proc/{pid}/limits", encoding="ascii") as f:
        rows = [re.split(r"  +", line.strip()) for line in list(f)[1:]]
    return {row[0]: tuple(row[1:3]) for row in rows}


def descriptors(pid):
    """Number -> what it is."""
    folder = f"/proc/{pid}/fd"
    found = {}
    for number in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found[int(number)] = os.readlink(f"{folder}/{number}")
    return found


class Helper(test_privileged.HelperTest):
    """The process that everything else is born from."""

    def test_capabilities_are_those_of_the_unit(self):
        numbers = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7, "NET_ADMIN": 12,
                   "NET_RAW": 13, "SYS_CHROOT": 18, "SYS_ADMIN": 21, "MKNOD": 27}
        unit = (SOURCE / "systemd/bangerd-root.service.in").read_text(encoding="utf-8")
        names = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.M).group(1).split()
        mask = sum(1 << numbers[name.removeprefix("CAP_")] for name in names)
        self.assertEqual(len(names), 11)
        status = test_privileged.status_of(self.stack.pid("helper"))
        for name, wanted in (("CapBnd", mask), ("CapPrm", mask), ("CapEff", mask), ("CapInh", 0), ("CapAmb", 0)):
            self.assertEqual(int(status[name], 16), wanted, name)


class Jail(test_privileged.VmmTest):
    user = "root"

    def test_rights(self):
        status = self.status(self.launch())
        self.assertEqual(status["Uid"].split(), [str(self.stack.owner.pw_uid)] * 4)
        self.assertEqual(status["Gid"].split(), [str(self.gid())] * 4)
        self.assertEqual(status.get("Groups", "").split(), [])
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"], "1")

    def test_not_traced_by_the_owner(self):
        """ptrace(2) wants the uid and the group: so nobody of the owner's reads its memory or takes its descriptors."""
        pid, owner = self.launch(), self.stack.owner

        def seize(gid):
            script = ("import ctypes\n"
                      "libc = ctypes.CDLL(None, use_errno=True)\n"
                      f"print(0 if libc.ptrace(0x4206, {pid}, None, None) == 0 else ctypes.get_errno())")
            return int(subprocess.run(["/usr/bin/python3", "-c", script], user=owner.pw_uid, group=gid, extra_groups=[],
                                      check=True, capture_output=True, text=True).stdout)
        self.assertEqual(seize(owner.pw_gid), errno.EPERM)
        self.assertEqual(seize(self.gid() + 1), errno.EPERM)
        self.assertEqual(seize(self.gid()), 0)

    def test_nothing_of_the_helper_is_inherited(self):
        """Not even what the helper's own parent left open."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        self.stack.stop("helper")
        self.stack.start_helper(pass_fds=(read, write), env={"SECRET": "1"})
        self.addCleanup(self.stack.restart, "helper")
        pid, helper = self.launch(), self.stack.pid("helper")
        held = descriptors(pid)
        pipe = os.readlink(f"/proc/self/fd/{read}")
        self.assertIn(pipe, descriptors(helper).values())
        self.assertNotIn(pipe, held.values())
        console = str(self.stack.state / str(self.stack.owner.pw_uid) / "vms" / self.vm / "console.log")
        self.assertEqual([held[0], held[1], held[2]], ["/dev/null", console, console])
        for number in set(held) - {0, 1, 2}:
            self.assertRegex(held[number], r"^(anon_inode:|socket:|pipe:|/dev/|/run/)", number)
        shared = {v for v in held.values() if v.startswith(("socket:", "pipe:"))} & set(descriptors(helper).values())
        self.assertEqual(shared, set())
        self.assertEqual(pathlib.Path(f"/proc/{pid}/environ").read_bytes(), b"")

    def test_mounts(self):
        self.stack.stop("helper")  # where mounts spread, as on hosts with systemd
        self.stack.start_helper(wrapper=("unshare", "--mount", "--propagation", "shared"))
        self.addCleanup(self.stack.restart, "helper")
        helper = self.stack.pid("helper")
        before = pathlib.Path(f"/proc/{helper}/mountinfo").read_text()
        self.assertIn(" shared:", before)
        for name in ("suspending.state", "suspending.memory", "suspended.state", "suspended.memory"):
            self.owner_file(f"vms/{self.vm}/{name}")
        pid = self.launch()
        rows = mountinfo(pid)
        self.assertEqual(pathlib.Path(f"/proc/{helper}/mountinfo").read_text(), before, "a mount is seen outside")
        saves = {"/suspend.state", "/suspend.memory"}
        writable = {"/", "/rootfs", "/work", "/run"} | saves
        data = {"/rootfs", "/work", "/run", "/vmlinux", "/initrd", "/resume.state", "/resume.memory"} | saves
        for point, (flags, propagation, _) in rows.items():
            with self.subTest(point):
                library = any(point == name or point.startswith(name + "/") for name in LIBRARIES)
                self.assertTrue(library or point in writable | data, "nobody asked for this mount")
                self.assertEqual(propagation, [], "mounts spread to or from elsewhere")
                self.assertIn("nosuid", flags)
                self.assertIn("rw" if point in writable else "ro", flags)
                if point != "/":
                    self.assertIn("nodev", flags)
                if point in data:
                    self.assertIn("noexec", flags)
        self.assertTrue(data <= set(rows))
        self.assertEqual(rows["/"][2], "tmpfs")

    def test_template(self):
        """A VM from a template reads that one's guest, cannot write it, and has its own memory as it is told."""
        for name in ("suspending.state", "suspending.memory", "suspended.state", "suspended.memory"):
            self.owner_file(f"vms/{self.vm}/{name}", b"own")
        for name in ("state", "memory"):
            self.owner_file(f"templates/7e391a7e/{name}", b"of the template")
        pid = self.launch(template="7e391a7e", mapped=True)
        rows, root = mountinfo(pid), pathlib.Path(f"/proc/{pid}/root")
        for name in ("state", "memory"):
            self.assertEqual((root / f"resume.{name}").read_bytes(), b"of the template")
            self.assertIn("ro", rows[f"/resume.{name}"][0])
            self.assertEqual((root / f"suspend.{name}").read_bytes(), b"own")
        self.assertIn(b"--memory-file=/suspend.memory", pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))

    def test_no_mount_outlives_the_vmm(self):
        pid = self.launch()
        namespace = os.readlink(f"/proc/{pid}/ns/mnt")
        self.assertNotEqual(namespace, os.readlink("/proc/self/ns/mnt"))
        self.call("KillVmm", "(sa{sv})", self.vm)
        self.wait_ended()
        users = []
        for process in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{process}/ns/mnt") == namespace:
                    users.append(process)
        self.assertEqual(users, [])
        self.assertEqual(os.listdir(self.stack.state / "jail/firecracker" / self.vm), [])

    def test_nodes_and_modes(self):
        """Only the devices that a VMM needs, and nothing that others could write."""
        root = f"/proc/{self.launch()}/root"
        device, found = os.stat(root).st_dev, {}
        for folder, names, files in os.walk(root):
            names[:] = [n for n in names if os.lstat(f"{folder}/{n}").st_dev == device]
            for name in names + files:
                path = f"{folder}/{name}"
                st = os.lstat(path)
                if not stat.S_ISLNK(st.st_mode) and st.st_dev == device:
                    self.assertEqual(st.st_mode & 0o022, 0, path)
                if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                    found[os.path.relpath(path, root)] = st
        self.assertTrue({"dev/null"} <= set(found) <= set(NODES), set(found))
        for name, st in found.items():
            self.assertEqual((st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)), (self.stack.owner.pw_uid, self.gid(), 0o600), name)
            self.assertEqual((os.major(st.st_rdev), os.minor(st.st_rdev)), NODES[name])
        self.assertEqual(stat.S_IMODE(os.stat(root).st_mode), 0o700)

    def test_resource_limits(self):
        rootfs = self.stack.state / str(self.stack.owner.pw_uid) / "vms" / self.vm / "rootfs.ext4"
        pid = self.launch()
        seen = limits(pid)
        self.assertEqual(seen["Max core file size"], ("0", "0"))
        self.assertEqual(seen["Max open files"], ("2048", "2048"))
        self.assertEqual(seen["Max file size"], (str(1024 * MIB),) * 2)
        self.assertTrue(int(self.status(pid)["SigIgn"], 16) & 1 << 24, "a full console would end the VMM (SIGXFSZ)")
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        memory = self.owner_file(f"vms/{self.vm}/suspending.memory")
        pages = 2048 * MIB // 64 * 65 + 64 * MIB  # and what QEMU says of each
        self.assertEqual(limits(self.launch(memory_mib=2048))["Max file size"], (str(pages),) * 2)
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        memory.unlink()
        real = self.owner_file

        def large(path, text=b"x"):
            target = real(path, text)
            if target == rootfs:
                os.truncate(target, 3 << 30)
            return target
        self.owner_file = large
        self.assertEqual(limits(self.launch())["Max file size"], (str(3 << 30),) * 2)

    def test_cgroup_limits_or_the_log_says_none(self):
        cgroup = devstack.cgroup2_root() + self.cgroup(self.launch(memory_mib=300))
        wanted = {"memory": ("memory.max", (300 + OVERHEAD_MIB) * MIB), "pids": ("pids.max", 256),
                  "cpu": ("cpu.weight", 100)}
        log = pathlib.Path(self.stack.log_path("helper")).read_text(encoding="utf-8")
        said = re.search(r"VMs have no limits of ([a-z, ]+):", log)
        missing = said.group(1).split(", ") if said else []
        for controller, (name, value) in wanted.items():
            if controller in missing:
                self.assertFalse(os.path.exists(f"{cgroup}/{name}"), name)
            else:
                self.assertEqual(harness.read_text(f"{cgroup}/{name}"), str(value), name)

    def test_memory_option(self):
        kernel = self.vm + "dd"
        cases = [(16, "org.banger.Error.NoSuchKernel"), (1 << 20, "org.banger.Error.NoSuchKernel"),
                 (15, "org.banger.Error.InvalidSize"), ((1 << 20) + 1, "org.freedesktop.DBus.Error.LimitsExceeded"),
                 (1 << 40, "org.freedesktop.DBus.Error.InvalidArgs"), ("512", "org.freedesktop.DBus.Error.InvalidArgs")]
        self.machine()
        for value, error in cases:
            with self.subTest(value):
                self.refused(error, self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file", memory_mib=value)
        self.refused("org.freedesktop.DBus.Error.InvalidArgs", self.call, "RemoveNat", "(sa{sv})", self.vm, memory_mib=512)
        self.assertEqual(self.leases(), {})


class Filter(test_privileged.VmmTest):
    """The helper, the jailer, the VMM and QEMU below the filters of the unit."""

    user = "root"

    @classmethod
    def setUpClass(cls):
        if not importlib.util.find_spec("seccomp") or not shutil.which("systemd-analyze"):
            raise unittest.SkipTest("needs python3-seccomp and systemd-analyze")
        super().setUpClass()
        cls.stack.stop("helper")
        cls.stack.start_helper(wrapper=("/usr/bin/python3", str(SOURCE / "tests/bus/unit_filter.py"),
                                        str(SOURCE / "systemd/bangerd-root.service.in")))

    def request(self, method, path, body):
        data = json.dumps(body).encode()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{self.stack.install['runtime']}/{self.stack.owner.pw_uid}/{self.vm}/api.sock")
            s.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                      f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
            s.settimeout(60)
            answer = s.makefile("rb").read()
        self.assertIn(b" 204 ", answer.split(b"\r\n")[0], answer)

    def test_network_and_release(self):
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        pid = self.launch()
        self.assertEqual(self.status(pid)["Seccomp"], "2")
        self.call("SignalVmm", "(ssa{sv})", self.vm, "TERM")
        self.wait_ended()
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.call("RemoveBridge", "(sa{sv})", self.bridge)
        self.assertEqual(self.leases(), {})

    def test_tools_that_look_into_disks(self):
        image = self.stack.base / "image.ext4"
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(image), "8m"], check=True, stdout=subprocess.DEVNULL)
        self.owner_file(f"vms/{self.vm}/work.ext4", image.read_bytes())
        self.call("WriteFiles", "(ssa(suay)a{sv})", self.vm, "work", [("/file", 0o600, b"text")])
        self.assertEqual(bytes(self.call("ReadFile", "(sssa{sv})", self.vm, "work", "/file")[0]), b"text")

    def test_qemu_runs_a_kernel(self):
        kernels = sorted(glob.glob("/var/lib/banger/*/kernels/*/vmlinux"))
        if not kernels:
            self.skipTest("needs an imported kernel (scripts/quickstart --prepare)")
        real = self.owner_file
        self.owner_file = lambda path, text=b"x": real(
            path, pathlib.Path(kernels[0]).read_bytes() if path.endswith("vmlinux") else text)
        pid = self.launch(memory_mib=128)
        self.request("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
        self.request("PUT", "/boot-source", {"kernel_image_path": "/vmlinux", "boot_args": "console=ttyS0 panic=-1"})
        self.request("PUT", "/drives/rootfs", {"drive_id": "rootfs", "is_root_device": True, "is_read_only": False,
                                               "path_on_host": "/rootfs"})
        self.request("PUT", "/network-interfaces/eth0", {"iface_id": "eth0", "host_dev_name": f"tap-fc-{self.vm[:8]}",
                                                         "guest_mac": "06:ba:0e:10:00:01"})
        self.request("PUT", "/vsock", {"guest_cid": 3, "uds_path": "/run/vsock.sock"})
        self.request("PUT", "/actions", {"action_type": "InstanceStart"})
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.assertEqual(len(children), 1)
        self.assertEqual(self.status(children[0])["Seccomp_filters"], "3", "QEMU did not install its own filter")
        end = time.monotonic() + 60
        while "Linux version" not in self.console():
            self.assertLess(time.monotonic(), end, self.console())
            time.sleep(0.05)


class EngineTest(test_privileged.VmmTest):
    """Programs of the test's in the place of an engine's."""

    user = "root"

    def pair(self, vmm, jailer, engine="firecracker", **kwargs):
        """A helper whose @engine consists of these programs."""
        text = pathlib.Path(self.stack.config).read_text(encoding="utf-8").replace('use = "qemu"', f'use = "{engine}"')
        text = re.sub(rf"\[engine\.{engine}\]\n([a-z-]+ = .*\n)*", "", text)
        config = self.stack.base / "engine.toml"
        config.write_text(f'{text}[engine.{engine}]\nvmm = "{vmm}"\njailer = "{jailer}"\n', encoding="utf-8")
        config.chmod(0o644)
        self.stack.restart("helper", config=str(config), **kwargs)
        self.addCleanup(self.stack.restart, "helper")

    def probe(self, program="tests/unit/engine/jail-probe"):
        """A static program that prints what it sees."""
        path = self.stack.base / "probe"
        shutil.copy(f"{harness.BUILD}/{program}", path)
        path.chmod(0o755)
        return path

    def facts(self):
        kernel, _ = self.machine()
        self.owner_file(f"vms/{self.vm}/console.log", b"")
        self.call("LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
        state = self.wait_ended()
        self.assertEqual(state.get("exit-code"), 0, self.console())
        console = self.stack.state / str(self.stack.owner.pw_uid) / "vms" / self.vm / "console.log"
        return dict(line.split("=", 1) for line in console.read_text().splitlines() if "=" in line)

class Engines(EngineTest):
    """The pair is configured as Firecracker's: what its jailer is told, and what a static VMM finds."""

    def test_command_line_of_the_jailer(self):
        """Only options that Firecracker's jailer documents, in a form that it takes; and no descriptor but three."""
        pipe = os.pipe()
        for fd in pipe:
            self.addCleanup(os.close, fd)
        self.pair(self.probe(), self.probe(), pass_fds=pipe)
        facts = self.facts()
        argv = [facts[f"argv{i}"] for i in range(sum(1 for key in facts if key.startswith("argv")))]
        base = f"{self.stack.state}/jail"
        self.assertEqual(argv, ["jailer", "--id", self.vm, "--exec-file", f"{base}/firecracker/{self.vm}/firecracker",
                                "--uid", str(self.stack.owner.pw_uid), "--gid", str(self.gid()),
                                "--chroot-base-dir", base, "--resource-limit", "no-file=2048", "--resource-limit",
                                f"fsize={1024 * MIB}", "--", "--api-sock", "/run/api.sock"])
        self.assertEqual(facts["nnp"], "1", "Firecracker's jailer does not forbid new privileges itself")
        self.assertEqual(facts["fds"].split(), ["0", "1", "2"])
        self.assertEqual(facts["env"], "2", "PATH and LANG, nothing of the helper's")
        bound = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV
        self.assertEqual(int(facts["exec-flags"]) & bound, bound, "the VMM's program")
        self.assertEqual(facts["sid"], facts["pid"])

    def test_static_vmm_gets_no_libraries(self):
        self.pair(self.probe(), self.stack.program("banger-jailer"))
        facts = self.facts()
        self.assertEqual(set(facts["ls /"].split()), {"dev", "etc", "run", "vmlinux", "initrd", "rootfs", "work",
                                                      "firecracker", "firecracker.pid"})
        self.assertEqual((facts["caps"], facts["escape"], facts["env"]), ("0 0 0 0 0 0", "0", "0"))
        self.assertEqual(facts["argv0"], "/firecracker")


    def test_automatic_choice_says_what_is_not_fit(self):
        """Firecracker's programs are there, and others than root could change one: QEMU runs, and the log says why."""
        probe = self.probe()
        probe.chmod(0o775)
        text = pathlib.Path(self.stack.config).read_text(encoding="utf-8").replace('use = "qemu"', 'use = "auto"')
        config = self.stack.base / "engine.toml"
        config.write_text(f'{text}[engine.firecracker]\nvmm = "{probe}"\njailer = "{probe}"\n', encoding="utf-8")
        config.chmod(0o644)
        self.stack.restart("helper", config=str(config))
        self.addCleanup(self.stack.restart, "helper")
        self.launch()
        log = pathlib.Path(self.stack.log_path("helper")).read_text(encoding="utf-8")
        self.assertIn("engine 'auto' takes QEMU, as Firecracker's programs are not fit: program '", log)
        self.assertIn("group or others can write it", log)


class Cage(EngineTest):
    """A VMM that was taken over tries what it may not. Each attempt works for an ordinary process of the owner's."""

    def attempts(self, engine):
        """What the probe says; a process of the owner's is there to be hurt, and an abstract socket to be called."""
        victim = subprocess.Popen(["sleep", "60"], user=self.stack.owner.pw_uid, group=self.gid(), extra_groups=[])
        self.addCleanup(victim.wait)
        self.addCleanup(victim.kill)
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind("\0banger-cage-probe")
        listener.listen()
        _, run = self.machine()
        (run / "victim").write_text(str(victim.pid))
        os.chown(run / "victim", self.stack.owner.pw_uid, -1)
        self.pair(self.probe("tests/unit/privileged/cage-probe"), self.stack.program("banger-jailer"), engine)
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        facts = {name: int(value) for name, value in self.facts().items()}
        self.assertIsNone(victim.poll())
        self.assertEqual([facts.pop(name) for name in ("uid", "gid", "pid")], [self.stack.owner.pw_uid, self.gid(), 1])
        return facts

    def check(self, engine):
        facts = self.attempts(engine)
        wanted = {name: errno.EPERM for name in facts}
        wanted |= dict.fromkeys(("io_uring_setup", "clone3", "newer", "openat2"), errno.ENOSYS)
        wanted |= {name: errno.ESRCH for name in facts if name == "kill-all" or name.endswith("-victim")}
        wanted |= {"attach-victim": errno.EPERM, "socket-unix": 0, "kill-self": 0}
        wanted |= {name: errno.ENOENT for name in facts if name.startswith("open ")} | dict.fromkeys(("fork", "execve", "execveat"), errno.ENOENT)
        wanted |= {"tap-again": errno.EEXIST} if "tap-again" in facts else {}
        wanted["make"] = 0  # on its tmpfs of 64 MiB
        wanted |= dict.fromkeys(("chown-console", "chmod", "open-kernel"), 0)
        self.assertEqual({name: errno.errorcode.get(value, value) for name, value in facts.items()},
                         {name: errno.errorcode.get(value, value) for name, value in wanted.items()})
        self.assertGreater(len(facts), 50)
        return facts

    def test_firecracker(self):
        self.assertNotIn("tap-mac", self.check("firecracker"))

    def test_qemu_pair(self):
        """It has its tap as a descriptor."""
        self.assertIn("tap-mac", self.check("qemu"))

    def test_a_tap_that_is_gone_or_taken(self):
        """Nothing is made in its place."""
        kernel, _ = self.machine()
        name = f"tap-fc-{self.vm}"
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        with open("/dev/net/tun", "r+b", buffering=0) as tun:
            fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22x", name.encode(), 0x5002))
            self.refused("org.banger.Error.InUse", self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
        subprocess.run(["ip", "link", "del", name], check=True)
        self.refused("org.banger.Error.WrongState", self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
        self.assertNotIn(name, [link for _, link in socket.if_nameindex()])

    def test_signals_without_a_handler(self):
        """The kernel would drop them, as the VMM is the first process of its namespace."""
        for name in ("QUIT", "USR1", "TERM"):
            with self.subTest(name):
                self.launch()
                self.call("SignalVmm", "(ssa{sv})", self.vm, name)
                ended = self.wait_ended()
                self.assertEqual(ended.get("exit-signal"), None if name == "TERM" else signal.SIGKILL)
                if "ASAN_OPTIONS" not in os.environ:  # whose search for leaks ends it otherwise
                    self.assertEqual(ended.get("exit-code"), 143 if name == "TERM" else None)
                self.call("ReleaseVm", "(sa{sv})", self.vm)


class Scope(test_privileged.VmmTest):
    """systemd's manager on the bus: what it is asked for, and what is left when it fails."""

    user = "root"

    @classmethod
    def setUpClass(cls):
        policy = pathlib.Path("/usr/share/dbus-1/system.d/org.freedesktop.systemd1.conf")
        if not devstack.cgroup2_root():
            raise unittest.SkipTest("no cgroup2 hierarchy is mounted")
        if os.path.exists("/run/systemd/system") or not policy.exists():
            raise unittest.SkipTest("needs a host where systemd is installed and does not run")
        harness.systemd_folder()
        super().setUpClass()
        cls.stack.extra_policies = [str(policy)]
        for name in ("helper", "polkit"):
            cls.stack.stop(name)
        cls.stack.restart("system-bus")
        cls.stack.start_polkit()
        cls.control = cls.stack.base / "systemd"
        cls.control.mkdir()
        cls.slice = pathlib.Path(devstack.cgroup2_root()) / "banger.slice"
        cls.stack._start("systemd", ["/usr/bin/python3", str(SOURCE / "tests/bus/fake_systemd.py"), str(cls.control),
                                     devstack.cgroup2_root()], cls.stack.root_environment())
        cls.addClassCleanup(cls.end_systemd)
        cls.stack._wait_for_name("org.freedesktop.systemd1", "systemd", cls.stack.system_address)
        script = 'mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec "$@"'
        cls.stack.start_helper(wrapper=("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"))

    @classmethod
    def end_systemd(cls):
        cls.stack.stop("systemd")
        with contextlib.suppress(OSError):
            cls.slice.rmdir()

    def setUp(self):
        super().setUp()
        self.behave("ok")
        (self.control / "asked").unlink(missing_ok=True)
        self.folder = self.slice / f"banger-vm-{self.vm}.scope"

    def behave(self, how):
        (self.control / "behave").write_text(how)

    def asked(self):
        return [json.loads(line) for line in (self.control / "asked").read_text().splitlines()]

    def nothing_left(self):
        self.assertEqual(self.leases(), {})
        self.assertFalse((self.stack.state / "jail/firecracker" / self.vm).exists())
        self.assertFalse(self.folder.exists())

    def fails(self, how, error, words):
        """A launch for which systemd behaves @how: refused, nothing left, and the VMM never ran."""
        kernel, run = self.machine()
        self.behave(how)
        seen = self.refused(error, self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
        self.assertIn(words, seen.message)
        self.assertLess(len(seen.message), 500)
        self.assertTrue(seen.message.isprintable(), seen.message)
        self.nothing_left()
        run.rmdir()  # empty: the VMM made no socket
        console = self.stack.state / str(self.stack.owner.pw_uid) / "vms" / self.vm / "console.log"
        self.assertEqual(console.read_text(), "x")
        return self.asked()[-1]["pid"]

    def test_scope_of_a_vmm(self):
        pid = self.launch(memory_mib=300)
        asked = self.asked()
        self.assertEqual(len(asked), 1)
        self.assertEqual(asked[0]["exe"], "bangerd-root", "the VMM ran before it was in its scope")
        self.assertEqual((asked[0]["unit"], asked[0]["mode"], asked[0]["pid"]), (self.folder.name, "fail", pid))
        self.assertEqual(asked[0]["properties"], {
            "Description": f"banger microVM, {self.folder.name}", "Slice": "banger.slice", "PIDs": [pid],
            "KillMode": "control-group", "CollectMode": "inactive-or-failed", "TimeoutStopUSec": 5000000,
            "MemoryMax": (300 + OVERHEAD_MIB) * MIB, "TasksMax": 256, "CPUWeight": 100,
            "IPAddressDeny": [[2, [0] * 4, 0], [10, [0] * 16, 0]]})
        self.assertEqual(self.cgroup(pid), f"/banger.slice/{self.folder.name}")
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.nothing_left()

    def test_a_launch_that_waits_holds_nothing_of_others(self):
        """While it waits for its scope: its own jail's files and its two pipes, no copy of what the helper has open."""
        self.behave("exists")  # several questions, of which the last one comes long after the fork
        self.launch()
        held = {number: what for number, what in self.asked()[-1]["fds"].items() if int(number) > 2}
        helper = {what for number, what in descriptors(self.stack.pid("helper")).items() if number > 2}
        self.assertEqual(sum(what.startswith("pipe:") for what in held.values()), 2, held)
        self.assertEqual([what for what in held.values() if what.startswith(("socket:", "anon_inode:"))], [])
        self.assertEqual(set(held.values()) & helper, set())

    def test_refused(self):
        pid = self.fails("refuse", "org.banger.Error.EngineFailed", "systemd refuses")
        self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_job_that_fails(self):
        pid = self.fails("fail", "org.banger.Error.EngineFailed", "could not start")
        self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_answers_without_measure(self):
        """A megabyte of anything in systemd's words: the caller has some of it, made harmless; wrong types are no job."""
        for how, words in (("shout", "systemd refuses"), ("howl", "could not start"), ("mumble", "cannot be read")):
            with self.subTest(how):
                pid = self.fails(how, "org.banger.Error.EngineFailed", words)
                self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_others_are_served_while_a_launch_is_undone(self):
        """Its cgroup does not go: the helper waits for it two seconds, and not in its main loop."""
        kernel, _ = self.machine()
        self.behave("stuck")
        ended = []

        def launch():
            self.refused("org.banger.Error.EngineFailed", self.call, "LaunchVmm", "(sssa{sv})", self.vm, kernel, "file")
            ended.append(time.monotonic())

        thread = threading.Thread(target=launch)
        thread.start()
        try:
            devstack.wait_for("the cgroup", 60, (self.folder / "stuck").exists)
            time.sleep(0.3)  # what follows is in the helper's hands
            harness.call(self.stack.system_address, (*harness.HELPER[:2], "org.freedesktop.DBus.Peer"), "Ping")
            served = time.monotonic()
            thread.join()
        finally:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / "stuck").rmdir()
        self.assertEqual(len(ended), 1)
        self.assertGreater(ended[0] - served, 0.5)
        self.assertEqual(list(self.leases()), [self.vm], "the cgroup is forgotten")
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.nothing_left()

    def test_done_without_being_done(self):
        """systemd says done, and the process is somewhere else: the VMM is not let go."""
        self.fails("lie", "org.freedesktop.DBus.Error.AccessDenied", "not the VMM")

    def test_silence(self):
        """Bounded; and the process number stays in use, since systemd may still take it up."""
        pid = self.fails("silent", "org.banger.Error.Timeout", "did not start")
        self.assertEqual(harness.read_text(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[0], "Z")

    def test_earlier_scope_that_stays(self):
        """Bounded; systemd has refused the process, so its number is free again."""
        for how, questions in (("stays", range(1, 2)), ("drags", range(10, 30))):
            with self.subTest(how):
                (self.control / "asked").unlink(missing_ok=True)
                pid = self.fails(how, "org.banger.Error.InUse", "of an earlier VMM")
                self.assertIn(len(self.asked()), questions)
                self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_signals_of_others(self):
        """Whoever says on the bus that units and jobs are gone: systemd alone is believed."""
        bus = Gio.DBusConnection.new_for_address_sync(
            self.stack.system_address,
            Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)

        def forge():
            devstack.wait_for("the question", 60, (self.control / "asked").exists)
            for target in ("org.banger.Privileged", None):
                for name, body in (("UnitRemoved", ("(so)", (self.folder.name, "/x"))),
                                   ("JobRemoved", ("(uoss)", (7, "/org/freedesktop/systemd1/job/7", self.folder.name, "failed")))):
                    bus.emit_signal(target, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", name,
                                    GLib.Variant(*body))
            bus.flush_sync(None)

        thread = threading.Thread(target=forge)
        thread.start()
        self.fails("stays", "org.banger.Error.InUse", "of an earlier VMM")
        thread.join()
        bus.close_sync(None)
        self.assertEqual(len(self.asked()), 1)

    def test_earlier_scope_is_waited_for(self):
        self.behave("exists")
        (self.control / "stopped").unlink(missing_ok=True)
        self.launch()
        self.assertEqual([a["behave"] for a in self.asked()], ["exists", "exists", "ok"])
        self.assertEqual((self.control / "stopped").read_text().split(), [self.folder.name])

    def test_end_of_another_job_is_not_ours(self):
        self.behave("stale")
        pid = self.launch()
        self.assertEqual(self.cgroup(pid), f"/banger.slice/{self.folder.name}")

    def test_restart_finds_it_again(self):
        pid = self.launch()
        self.stack.kill("helper")
        script = 'mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec "$@"'
        self.stack.start_helper(wrapper=("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"))
        self.assertEqual(self.call("OpenVmm", "(sa{sv})", self.vm)[0], pid)
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.nothing_left()
        self.assertIsNone(devstack.process_start(pid))


if __name__ == "__main__":
    main()
