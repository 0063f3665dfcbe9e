#!/usr/bin/python3
"""A real guest under real QEMU, started by banger-jailer with everything a jail has and no more.

Usage: test_boot.py VMM JAILER INIT. Needs root, QEMU, and an imported kernel (folder with vmlinux and the initrd of its
modules): $BANGER_TEST_KERNEL, else any that is below /var/lib/banger. Skips with the name of what is missing.
"""

import glob
import hashlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import unittest

import tap

VMM, JAILER, INIT = tap.arguments(3)
UID = GID = 40123
QEMU = "/usr/bin/qemu-system-x86_64"
TAP = "tap-fc-boottest"
MAC = "06:ba:0e:10:00:01"
BOOT_SECONDS = 120

STAGE = r"""
set -e
mount --make-rprivate /
root=$1/jail/firecracker/$4/root
mkdir -p "$root/usr" "$root/run" "$root/dev"
mount --bind /usr "$root/usr"
mount -o remount,bind,ro "$root/usr"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
mount --bind "$1/run" "$root/run"
for name in vmlinux initrd rootfs work; do
  : > "$root/$name"
  mount --bind "$1/$name" "$root/$name"
done
mknod -m 666 "$root/dev/null" c 1 3
mkdir "$root/dev/net"
mknod -m 666 "$root/dev/net/tun" c 10 200
ip tuntap add dev "$2" mode tap user "$3"
ip link set "$2" up
shift 4
exec "$@"
"""


def find_kernel():
    folders = [os.environ["BANGER_TEST_KERNEL"]] if "BANGER_TEST_KERNEL" in os.environ else \
        sorted(glob.glob("/var/lib/banger/*/kernels/*/"))
    for folder in map(pathlib.Path, folders):
        if (folder / "vmlinux").is_file() and (folder / "initrd").is_file():
            return folder
    return None


def missing():
    if os.geteuid() != 0:
        return "root"
    for path in (QEMU, "/dev/net/tun"):
        if not os.path.exists(path):
            return path
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "ip and unshare"
    return None if find_kernel() else "an imported kernel (scripts/quickstart --prepare, or BANGER_TEST_KERNEL)"


def cpio(name, data):
    """A newc archive with one executable file."""
    def entry(path, content, mode):
        fields = (1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path.encode() + b"\0"
        head += b"\0" * (-len(head) % 4)
        return head + content + b"\0" * (-len(content) % 4)

    return entry(name, data, 0o100755) + entry("TRAILER!!!", b"", 0)


@unittest.skipIf(missing(), f"missing: {missing()}")
class Boot(unittest.TestCase):
    def setUp(self):
        # Below /var/tmp: device nodes do not work on a nodev /tmp or /run.
        self.folder = pathlib.Path(subprocess.check_output(["mktemp", "-d", "/var/tmp/banger-boot.XXXXXX"], text=True).strip())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.chmod(self.folder, 0o711)
        kernel = find_kernel()
        (self.folder / "run").mkdir(mode=0o700)
        os.chown(self.folder / "run", UID, GID)
        (self.folder / "jail").mkdir()
        (self.folder / "bin").mkdir()
        shutil.copy(VMM, self.folder / "bin" / "firecracker")
        shutil.copy(kernel / "vmlinux", self.folder / "vmlinux")
        modules = (kernel / "initrd").read_bytes()
        (self.folder / "initrd").write_bytes(modules + b"\0" * (-len(modules) % 512) + cpio("init", pathlib.Path(INIT).read_bytes()))
        for name, size in (("rootfs", 10), ("work", 20)):
            with open(self.folder / name, "wb") as disk:
                disk.truncate(size << 20)
            os.chown(self.folder / name, UID, GID)
        for name in ("vmlinux", "initrd"):
            os.chmod(self.folder / name, 0o644)

        self.console_file = open(self.folder / "console.log", "ab")
        self.addCleanup(self.console_file.close)
        self.addCleanup(self.end)
        self.launch("boot-1", "--memory-file", "/run/a.memory")

    def launch(self, name, *extra):
        # The tap lives and dies in a network namespace of its own.
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", STAGE, "sh", self.folder, TAP, str(UID), name, JAILER, "--id", name,
             "--exec-file", self.folder / "bin" / "firecracker", "--uid", str(UID), "--gid", str(GID),
             "--chroot-base-dir", self.folder / "jail", "--", "--api-sock", "/run/api.sock", *extra],
            stdin=subprocess.DEVNULL, stdout=self.console_file, stderr=self.console_file)
        self.until(lambda: (self.folder / "run" / "api.sock").exists(), "API socket")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def console(self):
        return (self.folder / "console.log").read_text(errors="replace")

    def facts(self):
        return dict(re.findall(r"FACT ([a-z-]+)=([^\r\n]*)\r?\n", self.console()))

    def until(self, condition, what, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                self.fail(f"no {what} (exit status {self.process.returncode}); console:\n{self.console()}")
            time.sleep(0.01)

    def ok(self, method, path, body):
        # The short path: sun_path has 108 bytes.
        connection = tap.UnixConnection(str(self.folder / "run" / "api.sock"))
        connection.request(method, path, tap.json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        self.assertEqual((response.status, response.read()), (204, b""), (path, self.console()))
        connection.close()

    def status_of(self, pid):
        with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
            return dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)

    def qemu(self):
        for folder in glob.glob("/proc/[0-9]*"):
            try:
                status = self.status_of(os.path.basename(folder))
            except (FileNotFoundError, ProcessLookupError):
                continue
            if status["PPid"] == str(self.process.pid):
                return status
        return self.fail("no QEMU below the VMM")

    def say(self, text):
        agent = socket.socket(socket.AF_UNIX)
        self.addCleanup(agent.close)
        agent.settimeout(BOOT_SECONDS)
        agent.connect(str(self.folder / "run" / "vsock.sock"))
        agent.sendall(b"CONNECT 1024\n")
        try:
            self.assertRegex(agent.makefile("rb", 0).readline(), rb"^OK 1024\n$")
        except TimeoutError:
            self.fail(f"no OK from the agent's port; console:\n{self.console()}")
        agent.sendall(text)
        answer = agent.recv(100)
        agent.close()
        return answer

    def save(self, name):
        """Saves the guest and ends its VMM."""
        self.ok("PATCH", "/vm", {"state": "Paused"})
        self.ok("PUT", "/snapshot/create", {"snapshot_path": f"/run/{name}.state", "mem_file_path": f"/run/{name}.memory"})
        self.process.kill()
        self.process.wait()
        self.clean_sockets()

    def clean_sockets(self):
        for name in ("api.sock", "vsock.sock"):
            (self.folder / "run" / name).unlink()

    def restore(self, name, jail, resume):
        self.launch(jail)
        self.ok("PUT", "/snapshot/load", {
            "snapshot_path": f"/run/{name}.state", "mem_backend": {"backend_type": "File", "backend_path": f"/run/{name}.memory"},
            "resume_vm": resume, "network_overrides": [{"iface_id": "eth0", "host_dev_name": TAP}]})
        if not resume:
            self.ok("PATCH", "/vm", {"state": "Resumed"})

    def _saved_and_restored(self):
        # Once with its memory in a file, that the other only reads; and once all in a stream.
        self.save("a")
        self.assertEqual((self.folder / "run" / "a.memory").stat().st_size, 256 << 20)
        for kind in ("state", "memory"):  # as a template, which no VMM may write to
            os.chown(self.folder / "run" / f"a.{kind}", 0, 0)
            os.chmod(self.folder / "run" / f"a.{kind}", 0o444)
        memory = hashlib.sha256((self.folder / "run" / "a.memory").read_bytes()).digest()
        self.restore("a", "boot-2", False)
        self.assertEqual(self.say(b"again\n"), b"guest:again\n")
        self.save("b")
        self.assertEqual(hashlib.sha256((self.folder / "run" / "a.memory").read_bytes()).digest(), memory)
        self.restore("b", "boot-3", True)
        self.assertEqual(self.say(b"still\n"), b"guest:still\n")

        self.process.kill()
        self.process.wait()
        self.clean_sockets()
        self.restore("a", "boot-4", True)
        self.assertEqual(self.say(b"once more\n"), b"guest:once more\n")
        os.truncate(self.folder / "run" / "a.memory", 1 << 20)  # under its feet: it ends, and nothing else
        self.assertEqual(self.process.wait(timeout=60), 1, self.console())
        self.assertIn("signal 7", self.console())
        self.assertEqual(sorted(os.listdir(self.folder / "run")), ["a.memory", "a.state", "b.memory", "b.state"])
        self.restore("b", "boot-5", True)
        self.assertEqual(self.say(b"well\n"), b"guest:well\n")
        for name in ("a", "b"):
            (self.folder / "run" / f"{name}.state").unlink()
            (self.folder / "run" / f"{name}.memory").unlink()

    def test_guest(self):
        self.ok("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 256})
        self.ok("PUT", "/boot-source", {
            "kernel_image_path": "/vmlinux", "initrd_path": "/initrd",
            "boot_args": "console=ttyS0 quiet panic=-1 reboot=k nopti mitigations=off random.trust_cpu=on "
                         "i8042.noaux i8042.nomux i8042.dumbkbd nowatchdog rcupdate.rcu_cpu_stall_suppress=1"})
        self.ok("PUT", "/drives/work", {"drive_id": "work", "is_root_device": False, "is_read_only": True, "path_on_host": "/work"})
        self.ok("PUT", "/drives/rootfs", {"drive_id": "rootfs", "is_root_device": True, "is_read_only": False,
                                          "path_on_host": "/rootfs"})
        self.ok("PUT", "/network-interfaces/eth0", {"iface_id": "eth0", "host_dev_name": TAP, "guest_mac": MAC, "mtu": 1400})
        self.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": "/run/vsock.sock"})
        self.ok("PUT", "/entropy", {})
        self.ok("PUT", "/actions", {"action_type": "InstanceStart"})

        for status in (self.status_of(self.process.pid), self.qemu()):
            self.assertEqual(status["Uid"].split(), [str(UID)] * 4)
            self.assertEqual(status["Gid"].split(), [str(GID)] * 4)
            self.assertEqual(status["Groups"].strip(), "")
            for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                self.assertEqual(int(status[caps], 16), 0, caps)
            self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(self.qemu()["Seccomp"], "2")

        self.assertEqual(self.say(b"hello\n"), b"guest:hello\n")
        self.until(lambda: "ready" in self.facts(), "ready guest", BOOT_SECONDS)

        facts = self.facts()
        self.assertEqual((facts["vda"], facts["vdb"], facts["vdb-ro"]), ("20480", "40960", "1"))
        self.assertEqual((facts["mac"], facts["mtu"], facts["cpus"]), (MAC, "1400", "2"))
        self.assertLess(abs(int(facts["epoch"]) - time.time()), 120)
        self.assertIn("reboot=t", facts["cmdline"].split())
        self.assertIn("root=/dev/vda rw", facts["cmdline"])

        self._saved_and_restored()
        self.ok("PUT", "/actions", {"action_type": "SendCtrlAltDel"})
        self.assertEqual(self.process.wait(timeout=60), 0, self.console())
        self.assertEqual(self.facts().get("ctrl-alt-del"), "1")
        self.assertEqual(os.listdir(self.folder / "run"), [])


if __name__ == "__main__":
    tap.main()
