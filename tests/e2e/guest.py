"""A stack with a kernel and a golden image, for tests that boot real guests.

Used by the tests in this folder.
Never builds an image: it copies the one that scripts/quickstart made for this machine's owner.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bus"))

import harness  # noqa: E402
import devstack  # noqa: E402
from harness import CallError, main, options  # noqa: E402, F401

SEED_CONFIG = os.environ.get("BANGER_TEST_SEED", "/etc/banger/install.toml")
VM_INTERFACE = "org.banger.VM"
BOOT_SECONDS = 600  # a guest under emulation, on a machine that does other things too: no more than a bound


def seed_directory():
    """Where the installed banger keeps its owner's kernels and images; None if it has none."""
    if not os.path.exists(SEED_CONFIG):
        return None
    install = devstack.read_install(SEED_CONFIG)
    folder = pathlib.Path(install["state"]) / str(install["uid"])
    return folder if all(any((folder / kind).glob("*/record.json")) for kind in ("images", "kernels")) else None


class GuestTest(harness.StackTest):
    """All processes of the stack, with the installed kernels and images."""

    with_manager = True
    limits = ()  # lines of install.toml's [limits]
    warm = False  # whether its VMs are restored from a template: where their boot is not the subject

    @classmethod
    def setUpClass(cls):
        seed = seed_directory()
        if not seed:
            raise unittest.SkipTest(f"no kernel and golden image by {SEED_CONFIG}: run scripts/quickstart --prepare")
        super().setUpClass()
        cls.stack.stop("manager")
        patience = () if "guest-seconds" in str(cls.limits) else (f"guest-seconds = {BOOT_SECONDS}",)
        with open(cls.stack.config, "a", encoding="utf-8") as file:
            file.write("\n".join(["[limits]", *patience, *cls.limits, ""]))
        if cls.limits:  # what is bangerd's alone is read when it starts, below
            cls.stack.restart("helper")
        target = cls.stack.state / str(cls.stack.owner.pw_uid)
        for kind in ("images", "kernels"):
            subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", "-T", str(seed / kind),
                            str(target / kind)], check=True)
            subprocess.run(["chown", "-R", f"{cls.stack.owner.pw_uid}:{cls.stack.owner.pw_gid}", str(target / kind)],
                           check=True)
        cls.stack.start_manager()
        if cls.warm:
            warmed = cls.stack.banger("image", "warm", "default", timeout=2 * BOOT_SECONDS)
            if warmed.returncode:
                raise AssertionError(warmed.stderr)

    # What clients see

    def objects(self):
        """GetManagedObjects: path -> interface -> properties."""
        return self.stack.manager("GetManagedObjects", "()", (), interface="org.freedesktop.DBus.ObjectManager")[0]

    def vm(self, name):
        """Properties of the VM with that name; None if there is none."""
        for interfaces in self.objects().values():
            properties = interfaces.get(VM_INTERFACE)
            if properties and properties["Name"] == name:
                return properties
        return None

    def wait_state(self, name, state, seconds):
        """The VM's properties as soon as it is in @state (None: gone)."""
        end = time.monotonic() + seconds
        while True:
            vm = self.vm(name)
            if (vm["State"] if vm else None) == state:
                return vm
            if time.monotonic() > end:
                self.fail(f"{name} is {vm and (vm['State'], vm['StateReason'])} after {seconds} s, not {state}")
            time.sleep(0.05)

    def banger(self, *args, timeout=BOOT_SECONDS, status=0, **kwargs):
        """The command line; @status: what it must exit with, None any."""
        result = self.stack.banger(*args, timeout=timeout, **kwargs)
        if status is not None:
            self.assertEqual(result.returncode, status,
                             f"banger {' '.join(args)}\nstdout: {result.stdout}\nstderr: {result.stderr}\n"
                             f"{self.explain()}")
        return result

    def explain(self):
        """Ends of the logs and of the consoles, for messages."""
        parts = [f"--- {name} ---\n{self.stack.log_tail(name, 15)}" for name in ("manager", "helper")]
        for console in sorted((self.stack.state / str(self.stack.owner.pw_uid) / "vms").glob("*/console.log")):
            lines = console.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
            parts.append(f"--- {console} ---\n" + "\n".join(lines))
        return "\n".join(parts)

    def guest(self, name, *command, status=0, timeout=BOOT_SECONDS):
        """Standard output of a command in a running VM."""
        return self.banger("vm", "exec", name, "--", *command, status=status, timeout=timeout).stdout

    # What the host sees

    def held(self):
        """Everything that VMs of this stack hold on the host now."""
        bridge = self.stack.install["bridge"]
        ports = f"/sys/class/net/{bridge}/brif"
        cgroup = self.stack.cgroup()
        return {
            "leases": self.stack.leases(),
            "taps": sorted(os.listdir(ports)) if os.path.isdir(ports) else [],
            "VMMs": sorted(pid for path, _, _ in os.walk(cgroup) if path != cgroup
                           for pid in harness.read_text(f"{path}/cgroup.procs").split()) if cgroup else [],
            "cgroups": sorted(d.name for d in os.scandir(cgroup) if d.is_dir()) if cgroup else [],
            "run": self._entries(pathlib.Path(self.stack.install["runtime"]) / str(self.stack.owner.pw_uid)),
            "jails": self._entries(self.stack.state / "jail" / "firecracker"),
            "loops": sorted(name for name in os.listdir("/sys/block")
                            if str(self.stack.base) in harness.read_text(f"/sys/block/{name}/loop/backing_file")),
        }

    @staticmethod
    def _entries(path):
        return sorted(os.listdir(path)) if path.is_dir() else []

    def assert_nothing_held(self):
        """No VM holds anything."""
        self.assertEqual({k: v for k, v in self.held().items() if v}, {}, self.explain())
        nft = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        mine = [line for line in nft.splitlines() if self.network() in line]
        self.assertEqual(mine, [])

    def network(self):
        """The first three numbers of this stack's guest addresses, with the dot behind."""
        return self.stack.install["address"].rsplit(".", 1)[0] + "."

    def tearDown(self):
        for interfaces in self.objects().values() if self.stack.pid("manager") else ():
            vm = interfaces.get(VM_INTERFACE)
            if vm:
                self.stack.banger("vm", "delete", "--force", vm["Name"], timeout=60)
                end = time.monotonic() + 60
                while self.vm(vm["Name"]) and time.monotonic() < end:  # `vm run --rm` ends before its VM has gone
                    time.sleep(0.05)


def kill_now(pid):
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)


def log_stages(stack):
    """Steps of a start that the manager's log names as done, in order of their first appearance."""
    stages = []
    with open(stack.log_path("manager"), encoding="utf-8", errors="replace") as f:
        for line in f:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            stage = record.get("BANGER_STAGE")
            if stage and "BANGER_DURATION_USEC" in record and stage not in stages:
                stages.append(stage)
    return stages
