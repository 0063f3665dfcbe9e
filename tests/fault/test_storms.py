"""A service ends in the middle of many starts: all that was begun is finished or undone, and nothing is left.

Run by meson test as root.
Never ends a process that is not this stack's.
"""

import itertools
import signal
import time

from parts import VERB_SECONDS, Client, FaultTest, harness, main


class Storms(FaultTest):
    def setUp(self):
        self.names = []

    def begin(self, count):
        """Starts under way."""
        self.names = [f"s{i}" for i in range(count)]
        self.make(self.names)
        return [self.client.verb("StartVM", name) for name in self.names]

    def middle(self, starts):
        """As soon as the first of them is done."""
        end = time.monotonic() + VERB_SECONDS
        while not any(start.done() for start in starts) and time.monotonic() < end:
            time.sleep(0.005)

    def over(self, starts):
        """Each start has ended, and each VM can be started and stopped after all."""
        answers = [start.result(VERB_SECONDS) for start in starts]
        print(f"# {sum(1 for text in answers if text)} of {len(answers)} starts failed", flush=True)
        self.settled()
        vms = self.client.vms()
        self.assertEqual(sorted(vms), sorted(self.names))
        self.good(self.all_do("StartVM", [name for name in vms if vms[name]["State"] != "running"]))
        self.good(self.all_do("StopVM", vms))
        self.settled()
        return answers

    def strike(self, count, process, number, times=1):
        starts = self.begin(count)
        self.middle(starts)
        for _ in range(times):
            self.stack.kill(process, number, 20)
            self.stack.up()
        return self.over(starts)

    def test_helper_killed_during_30_starts(self):
        self.strike(30, "helper", signal.SIGKILL)

    def test_helper_killed_again_and_again(self):
        self.strike(30, "helper", signal.SIGKILL, times=4)

    def test_manager_asked_to_end_during_30_starts(self):
        answers = self.strike(30, "manager", signal.SIGTERM)
        self.assertEqual([text for text in answers if "NoReply" in text], [])

    def test_manager_killed_during_30_starts(self):
        self.strike(30, "manager", signal.SIGKILL)

    def test_session_bus_killed_during_20_starts(self):
        self.strike(20, "session-bus", signal.SIGKILL)

    def test_system_bus_killed_during_20_starts(self):
        self.strike(20, "system-bus", signal.SIGKILL)


class Crowd(FaultTest):
    """As many VMs as there may be, and what the helper lets wait is left as it is by default. With sanitizers more than can be
    under way at once, which is what they are asked about."""

    limits = ("guest-seconds = 120", "vms = 240", "taps = 240", "snapshots = 240", "loops = 480", "total-memory-mib = 65536")
    state_bytes = 2 << 30

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.clients = [cls.client, Client(cls.stack)]
        cls.addClassCleanup(cls.clients[1].close)

    def all_do(self, method, names, **more):
        """From two clients: the bus lets each wait for 128 answers."""
        turns = itertools.cycle(self.clients)
        return self.wait_all({name: next(turns).verb(method, name, **more) for name in names})

    def test_all_start_at_once(self):
        """Each of them ends well, in whatever time it takes; and so do as many stops and deletions."""
        names = [f"n{i}" for i in range(80 if harness.sanitized() else 240)]
        self.make(names)
        for verb in ("StartVM", "StopVM", "DeleteVM"):
            self.good(self.all_do(verb, names))
            self.settled()


if __name__ == "__main__":
    main()
