"""A stack whose parts can each be slow, silent, failing or full; and what must hold whatever they were.

Used by test_faults.py, test_storms.py and soak.py. manager, helper, buses, jails, taps, leases and records are the real
ones; VMM with its guest's agent, polkit, ssh and ssh-keygen are stand-ins that do what the list of faults says.
Never boots a guest: what a guest keeps is a number that the VMM counts up in the root disk and fsyncs.

A line of the list: WHO WHAT HOW. WHO is a VM's id, a program or `*`. WHAT and HOW:
  socket api boot pause save load                      the VMM: slow:MS silent fail die
  agent agent.VERB ready identity exec command flush exit   its guest: likewise; a command that fails says nothing, and ends with 1
  polkit.VERB polkit.*                                 polkit, of a verb of the helper's: slow:MS silent no fail
  ssh ssh-keygen                                       that program: slow:MS silent fail
  git.WORD                                             git with that argument: silent exit:N killed garbage
  sshd                                                 who listens in the guest: silent fail
  io.OP io.* PART                                      the disk of bangerd or bangerd-root (fault-io.c), of paths that
                                                       contain PART (a fourth word): slow:MS silent full fail
"""

import concurrent.futures
import contextlib
import itertools
import json
import os
import pathlib
import pwd
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent / "bus"), str(HERE)]

import harness  # noqa: E402
import devstack  # noqa: E402
from gi.repository import Gio, GLib  # noqa: E402
from harness import CallError, main, options  # noqa: E402, F401

LIST_BYTES = 16384  # as in fake-vmm.c and fault-io.c
SYSTEMD_POLICY = "/usr/share/dbus-1/system.d/org.freedesktop.systemd1.conf"
ROOTFS_BYTES = 1 << 20
STATE_BYTES = 512 << 20
DURABLE, ORDERLY = 512, 520  # as in fake-vmm.c
VM = "org.banger.VM"
JOB = "org.banger.Job"
UP = ("running", "paused")  # states in which there is a VMM
VERB_SECONDS = 400  # more than any verb may take
SETTLE_SECONDS = 150
IMAGE_ID, KERNEL_ID = "00000000000a", "00000000000b"
# gi makes what it has when it is first asked for; threads that do so at once may find half of it.
REMOTE_ERROR, CONNECT, CALL = Gio.DBusError.get_remote_error, Gio.DBusConnection.new_for_address_sync, Gio.DBusConnection.call_sync
BOOT_ID = re.compile(r"boot-(\d+)-")

# What an import looks for in a kernel without a configuration: src/intake/kernel-features.c.
KERNEL_WORDS = (b"retain_initrd", b"devtmpfs", b"virtio-mmio", b"virtio_blk", b"virtio_net", b"ext4", b"virtio_console", b"vmw_vsock_virtio_transport")


class FaultStack(harness.TestStack):
    """A stack with stand-ins. @limits: lines of install.toml's [limits]; @preload: whether the disk can have faults."""

    def __init__(self, limits=("guest-seconds = 10",), preload=True, systemd=False, state_bytes=STATE_BYTES, patience=1):
        self.limits = limits
        self.patience = patience  # times: how long bangerd waits for the helper
        self.preload = preload
        self.systemd = systemd  # a stand-in for it puts VMMs into scopes
        self.state_bytes = state_bytes
        super().__init__()

    def _make(self):
        super()._make()
        self.list = self.base / "faults"
        self.diary = self.base / "diary"
        self.kernel_list = self.state / str(self.owner.pw_uid) / "kernels" / KERNEL_ID / "vmlinux"
        self.tools = self.base / "tools"
        self.tools.mkdir()
        self.list.write_bytes(b"\n" * LIST_BYTES)
        self.diary.touch()
        self.diary.chmod(0o666)
        text = (HERE / "stand-in.sh").read_text(encoding="utf-8").replace("LIST", str(self.list))
        for name in ("ssh", "ssh-keygen"):
            (self.tools / name).write_text(text, encoding="utf-8")
            (self.tools / name).chmod(0o755)
        for name in ("fake-vmm", "fault-io.so") + (("tsan-glib.so",) if "TSAN_OPTIONS" in os.environ else ()):
            shutil.copy(pathlib.Path(harness.BUILD) / "tests/fault" / name, self.base / name)
        shutil.copy(pathlib.Path(harness.BUILD) / "tests/fault/fake-git", self.tools / "git")
        shutil.copy(HERE / "authority.py", self.base)
        self.sshd = None

    def _write_config(self, prefix):
        path = super()._write_config(prefix)
        text = re.sub(r"^vmm = .*", f'vmm = "{self.base}/fake-vmm"', path.read_text(encoding="utf-8"), flags=re.M)
        path.write_text(text + "[limits]\ncalls = 10000\n" + "\n".join(self.limits) + "\n", encoding="utf-8")
        return path

    # What bangerd finds: an image and a kernel that were imported once

    def prepare(self):
        """The state is on a file system of its own, which can be filled, and which has no disk to wait for; without @state_bytes
        it is where all others are."""
        self.state.mkdir(mode=0o755, exist_ok=True)
        if self.state_bytes and not os.path.ismount(self.state):
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.state_bytes},mode=755", "none", str(self.state)], check=True)
        super().prepare()
        top = self.state / str(self.owner.pw_uid)
        self._asset(top / "images" / IMAGE_ID, {"kind": "image", "size-bytes": ROOTFS_BYTES, "used-bytes": ROOTFS_BYTES,
                                                "seed-bytes": 0, "source": "debian:none"},
                    {"rootfs.ext4": b"\0" * ROOTFS_BYTES})
        self._asset(top / "kernels" / KERNEL_ID, {"kind": "kernel", "source": "apt:none", "kernel-version": "6.1.0"},
                    {"vmlinux": b"\n" * LIST_BYTES, "initrd": b""})
        owner = f"{self.owner.pw_uid}:{self.owner.pw_gid}"
        subprocess.run(["chown", owner, str(top / "images"), str(top / "kernels")], check=True)
        # These only: beside them a running bangerd may be removing others.
        subprocess.run(["chown", "-R", owner, str(top / "images" / IMAGE_ID), str(top / "kernels" / KERNEL_ID)], check=True)

    def _asset(self, folder, record, files):
        if folder.exists():
            return
        folder.mkdir(mode=0o700)
        record |= {"version": 1, "id": folder.name, "name": "default", "state": "ready", "created-at": 1,
                   "digest": "sha256:" + "0" * 64}
        for name, data in (files | {"record.json": json.dumps(record).encode()}).items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o600)

    def make_sources(self):
        """A work tree, a root file system and a kernel of the owner's, to be imported."""
        self.tree = pathlib.Path(self.owner.pw_dir) / "tree"
        self.tar = pathlib.Path(self.owner.pw_dir) / "small.tar"
        script = ("rm -rf tree root && mkdir -p tree root/sbin root/etc && cd tree && git init -q . && echo one >a && git add a &&"
                  " git -c user.name=t -c user.email=t@example.org commit -qm one && cd .. &&"
                  " echo init >root/sbin/init && chmod 755 root/sbin/init && tar -cf small.tar -C root .")
        subprocess.run(["sh", "-ec", script], cwd=self.owner.pw_dir, env=self.owner_environment(), check=True, **self.as_owner())

        self.vmlinux = pathlib.Path(self.owner.pw_dir) / "vmlinux"
        head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 1 << 20, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        self.vmlinux.write_bytes(head + struct.pack("<IIQQQQQQ", 1, 5, 0, 1 << 20, 1 << 20, 64, 64, 4096)
                                 + b"Linux version 6.1.0 (none)\0" + b"".join(word + b"\0" for word in KERNEL_WORDS) + b"\0" * 4096)
        self.vmlinux.chmod(0o644)

    # Faults

    def faults(self, *lines):
        """The whole list from now on. In place, and of one size: it is mapped, and bound into jails."""
        data = "".join(line + "\n" for line in lines).encode().ljust(LIST_BYTES, b"\n")
        assert len(data) == LIST_BYTES, "too many faults"
        for path in (self.list, self.kernel_list):
            if path.exists():
                fd = os.open(path, os.O_WRONLY)
                try:
                    os.pwrite(fd, data, 0)
                finally:
                    os.close(fd)

    def _preloaded(self, env):
        env = dict(env or {})
        if "TSAN_OPTIONS" in os.environ:
            env |= {"LD_PRELOAD": f"{self.base}/tsan-glib.so", "TSAN_OPTIONS": os.environ["TSAN_OPTIONS"]}
        elif self.preload:
            env |= {"LD_PRELOAD": f"{self.base}/fault-io.so", "BANGER_FAULT_LIST": str(self.list)}
            if harness.sanitized():
                env["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        return env

    def start_manager(self, env=None, wait=True):
        more = {"PATH": f"{self.tools}:{self.owner_environment()['PATH']}", "BANGER_FAULT_DIARY": str(self.diary),
                "BANGER_FAULT_PATIENCE": str(self.patience)}
        super().start_manager(more | self._preloaded(env), wait)

    def start_helper(self, env=None, **kwargs):
        if self.systemd:
            kwargs["wrapper"] = ("unshare", "--mount", "--propagation", "private", "sh", "-c",
                                 'mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec "$@"', "sh")
        super().start_helper(env=self._preloaded(env), **kwargs)

    def start_system_bus(self):
        """systemd's stand-in is there before the helper asks for it."""
        if self.systemd:
            self.extra_policies = [SYSTEMD_POLICY]
        super().start_system_bus()
        if self.systemd:
            harness.systemd_folder()
            self.control = self.base / "systemd"
            self.control.mkdir(exist_ok=True)
            self.systemd_does("ok")
            self._start("systemd", ["/usr/bin/python3", str(HERE.parent / "bus" / "fake_systemd.py"), str(self.control),
                                    devstack.cgroup2_root()], self.root_environment())
            self._wait_for_name("org.freedesktop.systemd1", "systemd", self.system_address)

    def systemd_does(self, how):
        """From now on: see tests/bus/fake_systemd.py."""
        (self.control / "behave").write_text(how, encoding="utf-8")

    def start_polkit(self):
        polkitd = pwd.getpwnam("polkitd")
        self._start("polkit", ["/usr/bin/python3", str(self.base / "authority.py"), self.system_address, str(self.list),
                               str(self.owner.pw_uid)], {"PATH": devstack.SAFE_PATH}, user=polkitd.pw_uid,
                    group=polkitd.pw_gid, extra_groups=[])
        self._wait_for_name("org.freedesktop.PolicyKit1", "polkit", self.system_address)

    # The ssh servers of all guests: their addresses are this host's for as long as the stack is up

    def start_sshd(self):
        """Answers on port 22 of every address that a VM can get."""
        net = self.install["address"].rsplit(".", 1)[0]
        self.route = ["ip", "route", "add", "local", f"{net}.0/24", "dev", "lo"]
        subprocess.run(self.route, check=True)
        self.sshd = threading.Thread(target=self._serve_ssh, args=(net,), daemon=True)
        self.sshd_ends, self.sshd_end = os.pipe()
        self.sshd.start()

    def _serve_ssh(self, net):
        doors, waiting = [], []
        for i in range(2, 255):
            door = socket.socket()
            door.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind((f"{net}.{i}", 22))
            door.listen(64)
            doors.append(door)
        poll = select.poll()
        for number in (self.sshd_ends, *(door.fileno() for door in doors)):
            poll.register(number, select.POLLIN)
        by_number = {door.fileno(): door for door in doors}
        while True:
            ready = [number for number, _ in poll.poll(100)]
            if self.sshd_ends in ready:
                break
            waiting += [by_number[number].accept()[0] for number in ready]
            how = self.how("sshd")
            if how != "silent":
                for connection in waiting:
                    with contextlib.suppress(OSError):
                        if how == "ok":
                            connection.sendall(b"SSH-2.0-none\r\n")
                    connection.close()
                waiting = []
        for door in doors + waiting:
            door.close()

    def turns(self):
        """Milliseconds of the processor that turns of bangerd's main loop took, but for the shortest."""
        return [int(usec) / 1000 for usec in re.findall(r"^\d+ turn (\d+)$", self.diary.read_text(encoding="utf-8"), re.M)]

    def how(self, what):
        """What the list says of @what now, of all."""
        found = re.findall(rf"^\* {re.escape(what)} (\S+)", self.list.read_text(encoding="utf-8"), re.M)
        return found[-1] if found else "ok"

    def end_sshd(self):
        """Gives the addresses back."""
        if self.sshd:
            os.close(self.sshd_end)
            self.sshd.join()
            os.close(self.sshd_ends)
            subprocess.run(["ip", "route", "del", *self.route[3:]], check=False)
            self.sshd = None

    def all_up(self):
        """Every process of the stack runs, and runs on."""
        for name in devstack.ORDER:
            if self.pid(name):
                os.kill(self.pid(name), signal.SIGCONT)
        self.up()

    def close(self):
        self.faults()
        self.end_sshd()
        return super().close()

    def _forget(self):
        if self.systemd:
            self.stop("systemd")
            with contextlib.suppress(OSError):
                (pathlib.Path(devstack.cgroup2_root()) / "banger.slice").rmdir()
        subprocess.run(["umount", "-q", "--lazy", str(self.base / "state")], check=False)
        super()._forget()


class Client:
    """Calls of the manager, many at once; each is waited for to its end."""

    def __init__(self, stack):
        self.stack = stack
        self.pool = concurrent.futures.ThreadPoolExecutor(max_workers=256)
        self.lock = threading.Lock()
        self.bus = None

    def connection(self):
        """To the session bus; a new one if that was ended."""
        with self.lock:
            if self.bus is None or self.bus.is_closed():
                self.bus = CONNECT(
                    self.stack.session_address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
                    | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
                self.bus.set_exit_on_close(False)
            return self.bus

    def call(self, method, signature="()", args=(), interface=harness.MANAGER[2], path=harness.MANAGER[1],
             seconds=VERB_SECONDS):
        """The unpacked answer, or CallError."""
        try:
            return CALL(self.connection(), harness.MANAGER[0], path, interface, method, GLib.Variant(signature, args) if args else None,
                        None, 0, seconds * 1000, None).unpack()
        except GLib.Error as error:
            name = REMOTE_ERROR(error) or f"local.{error.domain}.{error.code}"
            raise CallError(name, error.message) from None

    def verb(self, method, *args, **more):
        """A verb that waits for its end: Future of "" or the error's text. @args: names and paths; @more: options."""
        signature = "(" + "s" * len(args) + "a{sv})"
        if method not in ("DeleteImage", "DeleteKernel"):
            more.setdefault("wait", True)
        more = {key: value for key, value in more.items() if value is not None}

        def run():
            try:
                self.call(method, signature, (*args, options(**more)))
                return ""
            except CallError as error:
                return str(error)
        return self.pool.submit(run)

    def capture(self, name):
        """A command in a guest: Future of "" or what was wrong with it, its words too."""
        def run():
            try:
                out, _, status = self.call("CaptureVM", "(sasa{sv})", (name, ["true"], {}))
                return "" if bytes(out).startswith(b"boot-") and status == 0 else f"it said {bytes(out)}, {status}"
            except CallError as error:
                return str(error)
        return self.pool.submit(run)

    def objects(self, seconds=60):
        """GetManagedObjects: path -> interface -> properties."""
        return self.call("GetManagedObjects", interface="org.freedesktop.DBus.ObjectManager", seconds=seconds)[0]

    def vms(self):
        """Name -> properties."""
        return {o[VM]["Name"]: o[VM] for o in self.objects().values() if VM in o}

    def close(self):
        self.pool.shutdown(wait=False, cancel_futures=True)


class Watch:
    """Asks for GetManagedObjects every 100 ms, in a process of its own, and something of the bus itself for comparison."""

    def __init__(self, stack):
        self.child = subprocess.Popen(["/usr/bin/python3", str(HERE / "probe.py"), stack.session_address, str(stack.pid("manager"))],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end(self):
        """Milliseconds: {"answers", "worst", "work", "floor", "slow", "slow floors", "lost"}."""
        out, _ = self.child.communicate("", timeout=60)
        return json.loads(out)


class Invariants:
    """What must hold once all parts are well again and every verb has ended."""

    def __init__(self, stack, client):
        self.stack = stack
        self.client = client
        self.booted = {}  # VM id -> boots that a guest fsynced and the manager saw
        self.owner = stack.state / str(stack.owner.pw_uid)

    # What there is

    def leases(self):
        """VM id -> lease."""
        found = {}
        for name in self.stack.leases():
            with contextlib.suppress(FileNotFoundError):
                found[name] = json.loads((pathlib.Path(self.stack.install["runtime"]) / "leases" / f"{name}.json").read_text())
        return found

    def taps(self):
        """Those of the bridge."""
        ports = f"/sys/class/net/{self.stack.install['bridge']}/brif"
        return sorted(os.listdir(ports)) if os.path.isdir(ports) else []

    def vmms(self):
        """VM id -> pids of its cgroup."""
        cgroup = f"{devstack.cgroup2_root()}/banger.slice" if self.stack.systemd else self.stack.cgroup()
        found = {}
        for folder in os.scandir(cgroup) if cgroup and os.path.isdir(cgroup) else ():
            if folder.is_dir() and "vm-" in folder.name:
                found[re.sub(r".*vm-", "", folder.name).removesuffix(".scope")] = sorted(
                    map(int, harness.read_text(f"{folder.path}/cgroup.procs").split()))
        return found

    @staticmethod
    def entries(path):
        """Names in a folder, which may not be there."""
        return sorted(os.listdir(path)) if path.is_dir() else []

    def counter(self, vm, offset):
        """A number that the guest of @vm wrote; None where its root disk is not a file of the owner's."""
        path = self.owner / "vms" / vm / "rootfs.ext4"
        try:
            with open(path, "rb") as f:
                return struct.unpack("<Q", os.pread(f.fileno(), 8, offset))[0]
        except FileNotFoundError:
            return None

    # What is wrong with it

    def of_vm(self, vm, leases):
        """Whether the record, the lease, the process and the disk of a VM agree."""
        vm_id, state = vm["Id"], vm["State"]
        name = f"{vm['Name']} ({vm_id}, {state}: {vm['StateReason']})"
        try:
            record = json.loads((self.owner / "vms" / vm_id / "record.json").read_text())
        except (OSError, ValueError) as error:
            return [f"{name}: its record cannot be read: {error}"]
        wrong = []
        if state not in (*UP, "stopped", "suspended"):
            wrong.append(f"{name}: not a state to stay in")
        if record["state"] != state:
            wrong.append(f"{name}: its record says {record['state']}")
        if state in UP:
            lease = leases.get(vm_id)
            if not lease:
                wrong.append(f"{name}: it has no lease")
            elif not vm["Pid"] or lease["pid"] != vm["Pid"] or devstack.process_start(vm["Pid"]) != lease["start"]:
                wrong.append(f"{name}: pid {vm['Pid']}, its lease: {lease}")
        durable = self.counter(vm_id, DURABLE)
        boots = BOOT_ID.match(vm["BootId"])
        if boots:
            self.booted[vm_id] = max(self.booted.get(vm_id, 0), int(boots[1]))
        if record.get("root") == "file" and self.booted.get(vm_id, 0) > (durable or 0):
            wrong.append(f"{name}: its guest fsynced {self.booted[vm_id]}, its disk has {durable}")
        return wrong

    def disagreements(self):
        """All that is wrong now, as sentences; nothing if all parts agree."""
        objects = self.client.objects()
        vms = [o[VM] for o in objects.values() if VM in o]
        leases = self.leases()
        wrong = [f"job {path}: {o[JOB]['Kind']} {o[JOB]['State']}, {o[JOB]['Stage']}" for path, o in objects.items()
                 if JOB in o and o[JOB]["State"] not in ("done", "failed", "cancelled")]
        for vm in vms:
            wrong += self.of_vm(vm, leases)
        ids = sorted(vm["Id"] for vm in vms)
        running = sorted(vm["Id"] for vm in vms if vm["State"] in UP)
        runtime = pathlib.Path(self.stack.install["runtime"])
        for what, seen, wanted in (
                ("leases", sorted(leases), running),
                ("taps", self.taps(), sorted(f"tap-fc-{vm[:8]}" for vm in running)),
                ("cgroups", sorted(self.vmms()), running),
                ("run folders", self.entries(runtime / str(self.stack.owner.pw_uid)), running),
                ("jails", self.entries(self.stack.state / "jail" / "firecracker"), running),
                ("folders of VMs", self.entries(self.owner / "vms"), ids),
                ("folders of images", self.entries(self.owner / "images"), self.ids(objects, "Image")),
                ("folders of templates", self.entries(self.owner / "templates"), self.templates(objects)),
                ("folders of snapshots", self.entries(self.owner / "snapshots"), self.ids(objects, "Snapshot")),
                ("folders of kernels", self.entries(self.owner / "kernels"), self.ids(objects, "Kernel")),
                ("names", sorted({vm["Name"] for vm in vms}), sorted(vm["Name"] for vm in vms)),
                ("addresses", sorted({vm["Address"] for vm in vms}), sorted(vm["Address"] for vm in vms))):
            if seen != wanted:
                wrong.append(f"{what}: {seen}, should be {wanted}")
        return wrong

    @staticmethod
    def templates(objects):
        """Ids of those of all images."""
        return sorted(row[0] for o in objects.values() for row in o.get("org.banger.Image", {}).get("Templates", ()))

    @staticmethod
    def ids(objects, kind):
        """Ids of all images or kernels."""
        return sorted(o["org.banger." + kind]["Id"] for o in objects.values() if "org.banger." + kind in o)

    def settle(self, seconds=SETTLE_SECONDS):
        """Waits until all parts agree. What is wrong at the end."""
        end = time.monotonic() + seconds
        while True:
            try:
                wrong = self.disagreements()
            except CallError as error:
                wrong = [f"the manager does not answer: {error}"]
            if not wrong or time.monotonic() > end:
                return wrong + self.stack.bad_logs()
            time.sleep(0.1)


class FaultTest(harness.StackTest):
    """A stack with stand-ins for each class, all of it well and empty between tests."""

    limits = ("guest-seconds = 10",)
    systemd = False
    state_bytes = STATE_BYTES
    patience = 5  # 1: where it is to run out

    @classmethod
    def setUpClass(cls):
        if os.getuid() != 0:
            raise unittest.SkipTest("needs root: a helper, buses and users of its own are made")
        cls._before = harness.snapshot_host()
        cls.stack = FaultStack(cls.limits, systemd=cls.systemd, state_bytes=cls.state_bytes, patience=cls.patience)
        cls.addClassCleanup(cls._close)
        cls.stack.prepare()
        cls.stack.start_sshd()
        for name in devstack.ORDER:
            getattr(cls.stack, "start_" + name.replace("-", "_"))()
        cls.client = Client(cls.stack)
        cls.addClassCleanup(cls.client.close)
        cls.invariants = Invariants(cls.stack, cls.client)

    def tearDown(self):
        self.empty()

    def empty(self):
        """All parts well, and no VM left of whatever went wrong."""
        self.stack.faults()
        self.stack.all_up()
        self.all_do("DeleteVM", self.client.vms(), force=True)

    def settled(self):
        """All faults taken back: everything agrees, soon."""
        self.stack.faults()
        self.stack.all_up()
        wrong = self.invariants.settle()
        if wrong:
            self.fail("\n".join(wrong + [self.stack.log_tail(name, 20) for name in ("manager", "helper")]))

    def vm(self, name):
        """Properties of a VM; None if there is none."""
        return self.client.vms().get(name)

    def do(self, method, *args, **more):
        """A verb that must work."""
        self.assertEqual(self.client.verb(method, *args, **more).result(VERB_SECONDS), "")

    def again(self, **env):
        """Another bangerd."""
        self.stack.stop("manager")
        self.stack.start_manager(env)

    def wait(self, what, seconds=60):
        """Until @what() is true."""
        end = time.monotonic() + seconds
        while not what():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

    # Many VMs at once

    def all_do(self, method, names, **more):
        """Name -> "" or what was wrong, of all at once."""
        return self.wait_all({name: self.client.verb(method, name, **more) for name in names})

    @staticmethod
    def wait_all(calls):
        """Name -> "" or what was wrong."""
        return {name: call.result(VERB_SECONDS) for name, call in calls.items()}

    def good(self, answers, cells=None):
        """All of them worked."""
        wrong = [f"{name} {cells[name] if cells else ''}: {text}" for name, text in answers.items() if text]
        if wrong:
            self.fail("\n".join(wrong))

    def make(self, names):
        """VMs of these names."""
        self.good(self.all_do("CreateVM", names, memory_mib=128))

    def ids(self, names):
        """Name -> id, of those that are there."""
        vms = self.client.vms()
        return {name: vms[name]["Id"] for name in names if name in vms}


SIDES = 6  # at once


class Side:
    """A class of the calling file in a process and with a stack of its own."""

    def __init__(self, name):
        self.name, self.since = name, time.monotonic()
        self.child = subprocess.Popen([sys.executable, sys.argv[0], name], stdout=subprocess.PIPE, text=True,
                                      env=os.environ | {"BANGER_TEST_SHARED_HOST": "1"})

    def tell(self, say):
        """Its lines, until it ends, and a test more if it did not end well by itself."""
        failed = False
        for line in self.child.stdout:
            failed = failed or line.startswith("not ok")
            if not re.match(r"TAP version|1\.\.\d+$", line):
                say(line.rstrip("\n"))
        if self.child.wait() and not failed:
            say(f"not ok 0 - {self.name}: exit {self.child.returncode}")
        say(f"# {self.name}: {time.monotonic() - self.since:.0f} s")
        return self.child.returncode == 0


def main_beside():
    """As main(), but several classes at once: they wait more than they work."""
    if sys.argv[1:]:
        main()
    harness.box.enter()
    harness.staged()  # for all of them
    before, count, lock = harness.snapshot_host(), itertools.count(1), threading.Lock()

    def say(line):
        with lock:
            print(re.sub(r"^((?:not )?ok) \d+", lambda found: f"{found[1]} {next(count)}", line), flush=True)
    tests = (value for value in vars(sys.modules["__main__"]).values() if isinstance(value, type))
    names = [test.__name__ for test in tests if any(name.startswith("test_") for name in vars(test))]
    print("TAP version 13", flush=True)
    with concurrent.futures.ThreadPoolExecutor(SIDES) as pool:
        good = all([*pool.map(lambda name: Side(name).tell(say), names)])
    left = [] if harness.SHARED_HOST else harness.difference(before, harness.snapshot_host())
    say("\n".join(f"# {line}" for line in left) if left else "# nothing is left behind")
    say(f"{'not ' if left else ''}ok 0 - the host is as it was")
    print(f"1..{next(count) - 1}", flush=True)
    sys.exit(0 if good and not left else 1)
