"""Crashes: of either daemon while a VM runs, of the VMM, and of the manager at every stage of a start.

Run by meson test as root; the stages need -Dfault-hooks=true.
Never ends a process that is not this stack's.
"""

import time

from guest import GuestTest, kill_now, log_stages, main
import devstack


class Daemons(GuestTest):
    def test_kill_each_and_both(self):
        """The VM stays up, is found again, can be reached, stopped and deleted."""
        self.banger("vm", "run", "--name", "steady", "--detach")
        boot = self.guest("steady", "cat", "/proc/sys/kernel/random/boot_id")
        pid = self.vm("steady")["Pid"]
        start = devstack.process_start(pid)
        for victims in (["manager"], ["helper"], ["helper", "manager"], ["manager", "helper"]):
            with self.subTest(victims):
                for name in victims:
                    self.assertTrue(self.stack.kill(name))
                self.assertEqual(devstack.process_start(pid), start)
                self.stack.up()
                vm = self.wait_state("steady", "running", 20)
                self.assertEqual(vm["Pid"], pid)
                self.assertEqual(self.guest("steady", "cat", "/proc/sys/kernel/random/boot_id"), boot)
        self.banger("vm", "stop", "steady")
        self.assert_nothing_held()
        self.banger("vm", "delete", "steady")
        self.assertIsNone(self.vm("steady"))

    def test_vmm_killed(self):
        """Stopped with a reason within a second, everything released."""
        self.banger("vm", "run", "--name", "short", "--detach")
        pid = self.vm("short")["Pid"]
        since = time.monotonic()
        kill_now(pid)
        vm = self.wait_state("short", "stopped", 1)
        print(f"# stopped after {time.monotonic() - since:.2f} s: {vm['StateReason']}")
        self.assertTrue(vm["StateReason"])
        self.assertEqual(vm["Pid"], 0)
        self._wait_nothing_held()
        self.banger("vm", "start", "short")
        self.assertEqual(self.guest("short", "echo", "back"), "back\n")

    def test_vmm_killed_while_both_are_away(self):
        """A VMM that dies while nobody looks is found dead."""
        self.banger("vm", "run", "--name", "unseen", "--detach")
        pid = self.vm("unseen")["Pid"]
        self.stack.kill("manager")
        self.stack.kill("helper")
        kill_now(pid)
        self.stack.up()
        self.assertTrue(self.wait_state("unseen", "stopped", 20)["StateReason"])
        self._wait_nothing_held()

    def _wait_nothing_held(self):
        end = time.monotonic() + 5
        while any(self.held().values()) and time.monotonic() < end:
            time.sleep(0.1)
        self.assert_nothing_held()


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
        self.stack.banger("vm", "run", "--name", "half", "--detach", timeout=240)
        died = self.stack.pid("manager") is None
        self.stack.stop("manager")
        self.stack.start_manager()
        vm = self._settled("half")
        if died:
            self.assertTrue(vm is None or vm["State"] == "stopped", f"{stage}: {vm}")
            self.assert_nothing_held()
        if vm:
            self.banger("vm", "delete", "--force", "half")
        self.assertEqual(self._entries(self.stack.state / str(self.stack.owner.pw_uid) / "vms"), [], stage)
        self.assert_nothing_held()
        return died

    def _settled(self, name):
        """The VM once reconciliation is done: gone, stopped or running; the verbs wait for it."""
        end = time.monotonic() + 20
        while True:
            vm = self.vm(name)
            if vm is None or vm["State"] in ("stopped", "running"):
                return vm
            self.assertLess(time.monotonic(), end, f"{name} is still {vm['State']}")
            time.sleep(0.1)


if __name__ == "__main__":
    main()
