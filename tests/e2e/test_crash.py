"""Crashes: of either daemon while a VM runs, of the VMM, and of the manager at every stage of a start.

Run by meson test as root; the stages need -Dfault-hooks=true.
Never ends a process that is not this stack's.
"""

import contextlib
import ctypes
import io
import json
import os
import pathlib
import re
import signal
import socket
import tarfile
import tempfile
import time

from guest import BOOT_SECONDS, GuestTest, kill_now, log_stages, main
import devstack


CACHESTAT = 451  # of <asm/unistd.h>; Linux 6.5
BLOCK = 4096


def in_memory_alone(disk, at):
    """Whether the block of @disk there is yet to be written to the host's disk: with the power the host would lose it."""
    answer = (ctypes.c_uint64 * 5)()
    if ctypes.CDLL(None, use_errno=True).syscall(CACHESTAT, disk, (ctypes.c_uint64 * 2)(at, BLOCK), answer, 0) != 0:
        raise OSError(ctypes.get_errno(), "cachestat")
    _, dirty, writeback, _, _ = answer
    return dirty + writeback > 0


def blocks_of(disk, mark):
    """Where blocks of @disk begin with @mark."""
    found, at = [], 0
    with contextlib.suppress(OSError):  # ENXIO: no data behind it
        while True:
            at = os.lseek(disk, at, os.SEEK_DATA)
            end = os.lseek(disk, at, os.SEEK_HOLE)
            for place in range(at, end, 1 << 20):
                data = os.pread(disk, min(1 << 20, end - place), place)
                found += [place + i for i in range(0, len(data), BLOCK) if data.startswith(mark, i)]
            at = end
    return found


class Daemons(GuestTest):
    def test_kill_each_and_both(self):
        """The VM stays up, is found again, can be reached, stopped and deleted; so is a port of the host that leads into it."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.banger("vm", "run", "--name", "steady", "--publish", f"{port}:22", "--detach")

        def banner(port):
            """What is said there; None if nobody listens."""
            with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=60) as s:
                return s.recv(7)

        self.assertEqual(banner(port), b"SSH-2.0")
        self.assertIn(f"port {port} of 127.0.0.1 is in use", self.banger("vm", "run", "--publish", f"{port}:22", status=75).stderr)
        for number in ("0", "80"):
            self.banger("vm", "forward", "steady", f"{number}:22", status=2)
        self.assertEqual(json.loads(self.banger("vm", "forward", "steady", "--json").stdout), [{"address": "127.0.0.1", "port": port, "guest_port": 22}])
        boot = self.guest("steady", "cat", "/proc/sys/kernel/random/boot_id")
        pid = self.vm("steady")["Pid"]
        start = devstack.process_start(pid)
        for victims in (["manager"], ["helper"], ["helper", "manager"], ["manager", "helper"]):
            with self.subTest(victims):
                for name in victims:
                    self.assertTrue(self.stack.kill(name))
                self.assertEqual(devstack.process_start(pid), start)
                self.stack.up()
                vm = self.wait_state("steady", "running", 60)
                self.assertEqual(vm["Pid"], pid)
                self.assertEqual(self.guest("steady", "cat", "/proc/sys/kernel/random/boot_id"), boot)
                devstack.wait_for("the port", 60, lambda: banner(port) == b"SSH-2.0")
        self.banger("vm", "forward", "steady", "--remove", f"{port}:22")
        self.assertIsNone(banner(port))
        self.assertEqual(self.banger("vm", "forward", "steady").stdout, "")
        self.banger("vm", "forward", "steady", f"{port}:22")
        self.assertEqual(banner(port), b"SSH-2.0")
        self.banger("vm", "stop", "steady")
        self.assertIsNone(banner(port))
        self.assert_nothing_held()
        self.banger("vm", "delete", "steady")
        self.assertIsNone(self.vm("steady"))

    def test_vmm_killed(self):
        """Stopped with a reason, at once, everything released; what the guest fsynced is there."""
        self.banger("vm", "run", "--name", "short", "--detach")
        with self.subTest("the host's disk"):
            self.on_the_disk("short", {"rootfs.ext4": "/var/new", "work.ext4": "/root/new"})
        self.guest("short", "sh", "-c", "for at in /root /var; do echo precious >$at/kept && sync $at/kept; done")
        pid = self.vm("short")["Pid"]
        since = time.monotonic()
        kill_now(pid)
        vm = self.wait_state("short", "stopped", 60)  # a second where nothing else is at work
        print(f"# stopped after {time.monotonic() - since:.2f} s: {vm['StateReason']}")
        self.assertTrue(vm["StateReason"])
        self.assertEqual(vm["Pid"], 0)
        self._wait_nothing_held()
        self.banger("vm", "start", "short")
        self.assertEqual(self.guest("short", "cat", "/root/kept", "/var/kept"), "precious\nprecious\n")
        # Its lease is lost: nobody can name the VMM any more, but it ends, and nothing is left.
        lease, = pathlib.Path(self.stack.install["runtime"], "leases").glob("*.json")
        lease.write_text("{", encoding="utf-8")
        pid = self.vm("short")["Pid"]
        self.banger("vm", "kill", "short")
        self.assertIsNone(devstack.process_start(pid))
        self.assertEqual(self.vm("short")["State"], "stopped")
        self._wait_nothing_held()

    def on_the_disk(self, name, places):
        """What a guest fsyncs has its place on the host's disk when the guest has been told so, whatever else is on its way."""
        folder = self.stack.state / str(self.stack.owner.pw_uid) / "vms" / self.vm(name)["Id"]
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(os.urandom(BLOCK))
            probe.flush()
            try:
                self.assertTrue(in_memory_alone(probe.fileno(), 0))
            except OSError as error:
                self.skipTest(f"this kernel does not tell what it has yet to write: {error}")
        for file, place in places.items():
            with self.subTest(file):
                mark = os.urandom(16).hex()
                self.banger("vm", "exec", name, "--", "sh", "-c", f"cat >{place} && sync {place}", input=mark.ljust(BLOCK) * 256)
                disk = os.open(folder / file, os.O_RDONLY)
                try:
                    blocks = blocks_of(disk, mark.encode())
                    waiting = [block for block in blocks if in_memory_alone(disk, block)]
                finally:
                    os.close(disk)
                self.assertEqual(len(blocks), 256)
                self.assertLess(len(waiting), 64)  # what is beside them, in the same folio, may be written again at any time

    def test_vmm_killed_while_both_are_away(self):
        """A VMM that dies while nobody looks is found dead."""
        self.banger("vm", "run", "--name", "unseen", "--detach")
        pid = self.vm("unseen")["Pid"]
        self.stack.kill("manager")
        self.stack.kill("helper")
        kill_now(pid)
        self.stack.up()
        self.assertTrue(self.wait_state("unseen", "stopped", 60)["StateReason"])
        self._wait_nothing_held()

    def _wait_nothing_held(self):
        end = time.monotonic() + 60
        while any(self.held().values()) and time.monotonic() < end:
            time.sleep(0.1)
        self.assert_nothing_held()


class Crowd(GuestTest):
    """A helper that lets few calls wait, and many VMs at once that it gets to see: each of them fails."""

    VMS = 12
    limits = ("pending = 3",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("manager", "helper"):
            cls.stack.stop(name)
        config = pathlib.Path(cls.stack.config)
        text = config.read_text(encoding="utf-8")
        text = re.sub(r'^vmm = .*', f'vmm = "{cls.stack.prefix}/libexec/banger/banger-guest"', text, flags=re.M)
        config.write_text(text, encoding="utf-8")
        cls.stack.up()

    def test_many_starts_fail_at_once(self):
        """For their VMM's sake and no other, and all that they held is given back."""
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as out:
            for folder in ("etc", "sbin", "usr", "usr/sbin"):
                info = tarfile.TarInfo(folder)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                out.addfile(info)
            for program in ("sbin/init", "usr/sbin/sshd"):
                info = tarfile.TarInfo(program)
                info.size, info.mode = 4, 0o755
                out.addfile(info, io.BytesIO(b"none"))
        path = pathlib.Path(self.stack.owner.pw_dir) / "small.tar"
        path.write_bytes(tar.getvalue())
        path.chmod(0o644)
        self.banger("image", "import", "small", str(path))
        names = [f"crowd-{i}" for i in range(self.VMS)]
        for name in names:
            self.banger("vm", "create", "--image", "small", name)
        starts = [self.stack.start_banger("vm", "start", name) for name in names]
        for name, start in zip(names, starts):
            _, err = start.communicate(timeout=BOOT_SECONDS)
            self.assertEqual(start.returncode, 70, err)
            self.assertIn("the VMM ended", err)
            self.assertEqual(self.vm(name)["State"], "stopped")
        self.assert_nothing_held()


class Silence(GuestTest):
    """A disk and a helper that do not answer: whoever ends a VM does not wait for them."""

    def setUp(self):
        super().setUp()
        self.stages = pathlib.Path(self.stack.owner.pw_dir) / "hang"
        self.stack.stop("manager")
        self.stack.start_manager({"BANGER_FAULT_HANG": str(self.stages)})

    def _hang(self, *stages):
        fresh = self.stages.with_suffix(".new")
        fresh.write_text("\n".join(stages), encoding="utf-8")
        fresh.chmod(0o644)
        fresh.rename(self.stages)

    def _within(self, seconds, *args):
        since = time.monotonic()
        done = self.stack.banger(*args, timeout=seconds + 30)
        took = time.monotonic() - since
        print(f"# {' '.join(args)}: {took:.1f} s, {done.returncode}")
        self.assertLess(took, seconds)
        return done

    def _wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)

    def _vms(self):
        return self._entries(self.stack.state / str(self.stack.owner.pw_uid) / "vms")

    def test_disk_hangs(self):
        self._hang("make-initrd", "copy-disk")
        self.banger("vm", "create", "stuck")
        start = self.stack.start_banger("vm", "start", "stuck")
        self._wait(lambda: "hanging at stage make-initrd" in pathlib.Path(self.stack.log_path("manager")).read_text("utf-8"))
        if start.poll() is not None:
            self.skipTest("this build has no fault hooks (-Dfault-hooks=true)")
        self.assertEqual(self._within(5, "vm", "kill", "stuck").returncode, 0)
        self.assertNotEqual(start.wait(timeout=60), 0)
        self.assertEqual(self.vm("stuck")["State"], "stopped")
        self.assert_nothing_held()
        start = self.stack.start_banger("vm", "start", "stuck")
        time.sleep(1)
        self.assertIsNone(start.poll())  # it waits for what the first one began
        self.assertEqual(self._within(5, "vm", "delete", "--force", "stuck").returncode, 0)
        self.assertNotEqual(start.wait(timeout=60), 0)
        self.assertEqual(self._vms(), [])
        self._hang()
        time.sleep(1)
        self.assertEqual(self._vms(), [])
        self.assert_nothing_held()

    def test_helper_hangs(self):
        self.banger("vm", "create", "stuck")
        helper = self.stack.pid("helper")
        os.kill(helper, signal.SIGSTOP)
        try:
            start = self.stack.start_banger("vm", "start", "stuck")
            self._wait(lambda: self.vm("stuck")["State"] == "starting")
            self.assertEqual(self._within(10, "vm", "create", "other").returncode, 0)
            self.assertEqual(self._within(5, "vm", "delete", "other").returncode, 0)
            self._within(35, "vm", "kill", "stuck")
            self.assertNotEqual(start.wait(timeout=60), 0)
            self._within(35, "vm", "delete", "--force", "stuck")
        finally:
            os.kill(helper, signal.SIGCONT)
        if self.vm("stuck"):  # which may be going right now
            self.banger("vm", "delete", "--force", "stuck", status=None)
        self._wait(lambda: not any(self.held().values()))
        self.assertEqual(self._vms(), [])


class Stages(GuestTest):
    def test_manager_killed_at_each_stage(self):
        """After a restart nothing is left of the half-made VM, and the VM can be started."""
        self.banger("vm", "create", "probe")
        self.banger("vm", "start", "probe")
        self.banger("vm", "delete", "--force", "probe")
        stages = log_stages(self.stack)
        self.assertGreater(len(stages), 3, f"too few stages in the manager's log: {stages}")
        hit = []
        for stage in stages:
            with self.subTest(stage=stage):
                if self._one_stage(stage):
                    hit.append(stage)
        print(f"# died at {len(hit)} of {len(stages)} stages: {' '.join(hit)}")
        if not hit:
            self.skipTest("this build has no fault hooks (-Dfault-hooks=true)")
        self.assertGreater(len(hit), 3)

    def _one_stage(self, stage):
        self.stack.stop("manager")
        self.stack.start_manager({"BANGER_FAULT": stage})
        self.stack.banger("vm", "run", "--name", "half", "--detach", timeout=BOOT_SECONDS)
        died = self.stack.pid("manager") is None
        self.stack.stop("manager")
        self.stack.start_manager()
        vm = self._settled("half")
        if died:
            if stage == "running":  # it is, and the record says so
                self.assertEqual("running", vm and vm["State"])
            else:
                self.assertTrue(vm is None or vm["State"] == "stopped", f"{stage}: {vm}")
                self.assert_nothing_held()
        if vm:
            self.banger("vm", "delete", "--force", "half")
        self.assertEqual(self._entries(self.stack.state / str(self.stack.owner.pw_uid) / "vms"), [], stage)
        self.assert_nothing_held()
        return died

    def _settled(self, name):
        """The VM once reconciliation is done: gone, stopped or running; the verbs wait for it."""
        end = time.monotonic() + 60
        while True:
            vm = self.vm(name)
            if vm is None or vm["State"] in ("stopped", "running"):
                return vm
            self.assertLess(time.monotonic(), end, f"{name} is still {vm['State']}")
            time.sleep(0.1)


if __name__ == "__main__":
    main()
