"""The manager's main loop waits for no disk: what its main thread asks of files is written down, through a whole life.

Run by meson test as root.
"""

import os
import re
import shutil
import time

from parts import VERB_SECONDS, FaultTest, Watch, harness, main

FSYNC_MS = 500
CROWD = 80
ANSWER_MS = 250 * (3 if harness.sanitized() else 1)
QUIET = "BANGER_TEST_QUIET" in os.environ  # nothing else runs here: what an answer takes is bangerd's


class MainLoop(FaultTest):
    maxDiff = None
    limits = ("guest-seconds = 120", "taps = 128", "vms = 128")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stack.make_sources()

    def asked(self, since):
        """What the main thread asked of files since the diary had that many bytes, but for what waits for no disk: folders
        of its state are opened, run folders are made and removed in memory, the log is polled before it is written to."""
        may = re.compile(rf"look {self.stack.state}/\d+/vms/[^/]+$|(create|unlink|stat) {self.stack.install['runtime']}/|"
                         rf"write {self.stack.logs}/|(read|open) /(proc|dev)/|turn ")
        with self.stack.diary.open(encoding="utf-8") as diary:
            diary.seek(since)
            lines = [line.rstrip("\n").split(" ", 1) for line in diary]
        return sorted({asked for pid, asked in lines if int(pid) == self.stack.pid("manager") and not may.match(asked)})

    def wait_for(self, condition):
        end = time.monotonic() + VERB_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def assets(self):
        """An image that is made and deleted, and a kernel that is none."""
        path = str(self.stack.tar)
        self.do("ImportImage", "small", path, size_bytes=32 << 20)
        self.do("DeleteImage", "small")
        self.assertIn("InvalidKernel", self.client.verb("ImportKernel", "none", path).result(VERB_SECONDS))
        self.assertIn("default", self.client.verb("DeleteImage", "default").result(VERB_SECONDS))

    def test_main_thread_asks_nothing_of_a_disk(self):
        self.client.vms()
        since = self.stack.diary.stat().st_size
        self.do("CreateVM", "one")
        for verb in ("StartVM", "RestartVM", "StopVM", "StartVM"):
            self.do(verb, "one")
        self.do("ImportWorkspace", "one", str(self.stack.tree))
        self.do("KillVM", "one")
        self.stack.faults("* boot fail")
        self.assertIn("refused", self.client.verb("StartVM", "one").result(VERB_SECONDS))
        self.stack.faults()
        self.do("CreateVM", "once", ephemeral=True, start=True)
        self.assets()
        self.do("StopVM", "once")
        self.wait_for(lambda: not self.vm("once"))
        self.do("DeleteVM", "one")
        self.client.call("Diagnose", "(a{sv})", ({},))
        self.assertEqual(self.asked(since), [])
        with self.stack.diary.open(encoding="utf-8") as diary:  # that it is written at all
            self.assertTrue(re.search(rf"^{self.stack.pid('manager')} write ", diary.read(), re.M))

    def test_what_a_killed_one_left(self):
        """One that runs, one that was starting, the lease of one that is no more, and the rest of an image: but for its
        folders nothing is waited for."""
        state = self.stack.state / str(self.stack.owner.pw_uid)
        rest = state / "images" / "0123456789ab"
        for name in ("runs", "gone"):
            self.do("CreateVM", name, start=True)
        gone = self.vm("gone")["Id"]
        self.do("CreateVM", "starts")
        self.stack.faults("* ready silent")
        start = self.client.verb("StartVM", "starts")
        self.wait_for(lambda: self.vm("starts")["State"] == "starting")
        self.stack.kill("manager")
        start.result(VERB_SECONDS)
        self.stack.faults()
        shutil.rmtree(state / "vms" / gone)
        rest.mkdir()
        os.chown(rest, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
        since = self.stack.diary.stat().st_size
        self.stack.up()
        self.settled()
        self.assertEqual((self.vm("runs")["State"], self.vm("starts")["State"]), ("running", "stopped"))
        self.assertEqual([line for line in self.asked(since) if gone in line], [])
        asked = [line for line in self.asked(since) if not line.startswith(("read", "look", "stat"))]
        self.assertEqual(asked, sorted(f"create {state}/{kind}" for kind in ("vms", "images", "kernels", "templates", "snapshots")))

    def test_answers_beside_many(self):
        """All of them start, stop and go at once, and whoever asks for all objects has them before long."""
        names = [f"c{i}" for i in range(CROWD)]
        watch = Watch(self.stack)
        try:
            self.make(names)
            for verb in ("StartVM", "SuspendVM", "StartVM", "StopVM", "DeleteVM"):
                self.good(self.all_do(verb, names))
        finally:
            seen = watch.end()
        print(f"# {seen}", flush=True)
        self.assertEqual(seen["lost"], 0)
        self.assertLess(seen["worst" if QUIET else "work"], ANSWER_MS)

    def test_slow_disk_slows_nobody_else(self):
        """Neither records, nor keys, nor disks: answers take less than one fsync."""
        self.stack.faults(f"bangerd io.fsync slow:{FSYNC_MS} /")
        watch = Watch(self.stack)
        try:
            self.do("CreateVM", "slow")
            for verb in ("StartVM", "StopVM", "DeleteVM"):
                self.do(verb, "slow")
        finally:
            seen = watch.end()
        print(f"# {seen}", flush=True)
        self.assertEqual(seen["lost"], 0)
        self.assertLess(seen["worst"], max(FSYNC_MS, 2 * seen["floor"]))


if __name__ == "__main__":
    main()
