"""Each part of a VM's life slow, silent, failing or full, at every step of every verb: nothing lost, stuck or untrue.

Run by meson test as root. A *cell* is a verb and one or two faults; a VM has its own faults, so that many are under way
at once.
Never asserts a time: a verb that never ends is found by a bound that is far above what any may take.
"""

import concurrent.futures
import contextlib
import os
import random
import signal
import socket
import time
import unittest

from parts import (DURABLE, JOB, ORDERLY, SYSTEMD_POLICY, VERB_SECONDS, CallError, Client, FaultTest, Watch, devstack, harness,
                   main_beside, options)

GUEST_SAYS = ("slow:300", "silent", "fail", "die")
POLKIT_SAYS = ("slow:300", "silent", "no", "fail")
PROGRAM_SAYS = ("slow:500", "silent", "fail")
DISK_SAYS = ("slow:100", "full", "fail")
CHANGES = ("create", "write", "fsync", "rename", "unlink")
PAIRS = 40
TURN_MS, ANSWER_MS = 100, 250  # of the processor: one turn of bangerd's main loop, and all until an answer has gone
SANITIZERS = 3  # times that is what these may take
PATIENCE = 300  # seconds: of a silent part, where a stronger verb is to end the wait for it


def rows(steps, says, who="{id}"):
    """A fault for each of @steps and what it @says."""
    return [f"{who} {step} {how}" for step in steps for how in says]


def disk(program, ops, part):
    """Faults of the disk of @program, of paths with @part."""
    return [f"{program} io.{op} {how} {part}" for op in ops for how in DISK_SAYS]


def polkit(*verbs):
    """Of the helper's verbs."""
    return rows(("polkit." + verb for verb in verbs), POLKIT_SAYS)


# What can strike while a verb is under way
GUEST_UP = rows(("socket", "api", "boot", "agent", "agent.hello", "ready"), GUEST_SAYS)
ASKED_AGAIN = rows(("socket", "agent", "agent.hello", "ready"), ("fail",))
GUEST_DOWN = rows(("agent.shutdown", "agent.poweroff", "flush", "exit"), GUEST_SAYS)
RECORDS = disk("bangerd", CHANGES, "vms/{id}/")
LEASES = disk("bangerd-root", CHANGES, "leases/{id}")
START = (GUEST_UP + polkit("ReleaseVm", "PrepareVm", "DeleteDisk", "LaunchVmm")
         + rows(("ssh-keygen",), PROGRAM_SAYS) + RECORDS + LEASES + disk("bangerd", ("create", "unlink"), "run/{uid}/{id}")
         + disk("bangerd-root", ("create", "unlink"), "jail/firecracker/{id}"))
KILL = polkit("KillVmm", "ReleaseVm") + RECORDS + LEASES + disk("bangerd", ("unlink",), "run/{uid}/{id}")
STOP = GUEST_DOWN + polkit("SyncDisk") + rows(("ssh",), PROGRAM_SAYS)
# What a verb has in common with another one is tried by turns: of five, that is each of the answers, which are three or four.
GO_ON = (rows(("socket", "load", "pause", "agent.hello"), GUEST_SAYS) + polkit("ReleaseVm", "PrepareVm", "LaunchVmm") + RECORDS
         + disk("bangerd", ("create", "unlink"), "vms/{id}/suspend"))
VERBS = {
    # verb: (must it run before, options, faults)
    "StartVM": (False, {}, START),
    "StopVM": (True, {"timeout_us": 2000000}, STOP + KILL[::5]),
    "KillVM": (True, {}, KILL),
    "RestartVM": (True, {"timeout_us": 2000000}, (START + STOP + KILL)[::7]),
    "PauseVM": (True, {}, rows(("pause",), GUEST_SAYS) + RECORDS[::3]),
    "SuspendVM": (True, {}, rows(("pause", "save"), GUEST_SAYS) + polkit("ReleaseVm") + RECORDS),
    "GoOn": (True, {}, GO_ON),
    "DeleteVM": (True, {"force": True}, polkit("DeleteDisk") + KILL[1::5]),
    "ImportWorkspace": (True, {}, rows(("exec", "command"), GUEST_SAYS)),
}


METHODS = {"GoOn": "StartVM"}  # of a VM that is suspended


def answer(cell):
    """The verb, and what the part does then."""
    return cell[0], cell[1][0].split()[2].split(":")[0]


def harmless(verb, fault):
    """Whether the verb must work all the same: a part is slow; or a disk is full, and a VM is deleted for that."""
    return " slow:" in fault or (verb == "DeleteVM" and "unlink" not in fault and " io." in fault)


def patient(cell):
    """Whether a bound of ours ends it: a part is silent, or says no to what it is asked again until then."""
    return any(line.endswith(" silent") or line in ASKED_AGAIN for line in cell[1])


def every_cell():
    """Verb and faults: each alone, and a sample of pairs. Under sanitizers a quarter of each kind: of what is answered to a
    verb."""
    dice = random.Random(12)
    cells = [(verb, [line]) for verb, (_, _, faults) in VERBS.items() for line in faults]
    pairs = [(verb, dice.sample(VERBS[verb][2], 2)) for verb in dice.choices(list(VERBS), k=PAIRS)]
    if not harness.sanitized():
        return cells + pairs
    alike = [[cell for cell in cells if answer(cell) == one] for one in sorted({answer(cell) for cell in cells})]
    return [cell for those in alike for cell in those[::4]] + pairs[::4]


class Cells(FaultTest):
    """Batches of VMs, each with its verb and its faults."""

    AT_ONCE = 80
    limits = ("guest-seconds = 10", "taps = 128", "vms = 128")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stack.make_sources()

    def begin(self, verbs):
        """Name -> call; @verbs: name -> (verb, options)."""
        return {name: self.client.verb(METHODS.get(verb, verb), name, *((str(self.stack.tree),) if verb == "ImportWorkspace" else ()), **more)
                for name, (verb, more) in verbs.items()}

    def ready(self, cells):
        """A VM for each cell, as its verb wants it. Name -> the boot of those that are suspended."""
        self.make(cells)
        self.good(self.all_do("StartVM", [name for name, (verb, _) in cells.items() if VERBS[verb][0]]))
        vms = self.client.vms()
        boots = {name: vms[name]["BootId"] for name, (verb, _) in cells.items() if verb == "GoOn"}
        self.good(self.all_do("SuspendVM", boots))
        return boots

    def went_on(self, boots, cells):
        """What was to go on has, or still can; or it went on and ended."""
        vms = self.client.vms()
        for name, boot in boots.items():
            vm, ended = vms[name], any(" pause " in line or " agent" in line for line in cells[name][1])
            if vm["State"] != "stopped" or not ended:
                self.assertEqual((vm["State"], vm["BootId"] or boot),
                                 ("running" if vm["State"] == "running" else "suspended", boot), (cells[name], vm["StateReason"]))
        suspended = [name for name in boots if vms[name]["State"] == "suspended"]
        self.good(self.all_do("StartVM", suspended), cells)
        vms = self.client.vms()
        self.assertEqual({name: vms[name]["BootId"] for name in suspended}, {name: boots[name] for name in suspended})

    def batch(self, cells):
        """@cells: (verb, faults), each for a VM of its own."""
        cells = {f"c{i}": cell for i, cell in enumerate(cells)}
        boots = self.ready(cells)
        ids = self.ids(cells)
        self.stack.faults(*(line.format(id=ids[name], uid=self.stack.owner.pw_uid)
                            for name, (_, faults) in cells.items() for line in faults))
        answers = self.wait_all(self.begin({name: (verb, VERBS[verb][1]) for name, (verb, _) in cells.items()}))
        self.good({name: answers[name] for name, (verb, faults) in cells.items() if all(harmless(verb, f) for f in faults)},
                  cells)
        self.settled()
        self.went_on(boots, cells)
        self.usable(ids, cells)
        return sum(1 for text in answers.values() if text)

    def usable(self, ids, cells):
        """What is still there can be started, stopped in order, and deleted."""
        vms = self.client.vms()
        there = [name for name in ids if name in vms]
        self.good(self.all_do("StartVM", [name for name in there if vms[name]["State"] in ("stopped", "suspended")]), cells)
        self.good(self.all_do("StopVM", there), cells)
        for name in there:
            self.assertEqual(self.invariants.counter(ids[name], ORDERLY), self.invariants.counter(ids[name], DURABLE),
                             f"{cells[name]}: not stopped in order")
        self.good(self.all_do("DeleteVM", there), cells)
        self.settled()

    def batches(self, cells):
        """As many at once as the bounds allow."""
        since, failed = time.monotonic(), 0
        for first in range(0, len(cells), self.AT_ONCE):
            with self.subTest(first=first):
                try:
                    failed += self.batch(cells[first:first + self.AT_ONCE])
                finally:
                    self.empty()
        print(f"# {len(cells)} cells in {time.monotonic() - since:.0f} s; {failed} verbs failed", flush=True)
        return failed


class Single(Cells):
    """One fault at a time, or two; none of them takes as long as a bound of ours."""

    limits = ("guest-seconds = 120", "taps = 128", "vms = 128")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.watch = Watch(cls.stack)

    def test_all_verbs_without_faults(self):
        """The parts as such."""
        self.do("CreateVM", "one")
        for verb, boots in (("StartVM", 1), ("RestartVM", 2), ("StopVM", 0), ("StartVM", 3), ("PauseVM", 3), ("ResumeVM", 3),
                            ("PauseVM", 3), ("SuspendVM", 0), ("StartVM", 3), ("SuspendVM", 0), ("StartVM", 3),
                            ("PauseVM", 3), ("StopVM", 0), ("StartVM", 4), ("PauseVM", 4), ("KillVM", 0), ("DeleteVM", 0)):
            self.do(verb, "one")
            self.settled()
            if boots:
                self.assertRegex(self.vm("one")["BootId"], f"boot-{boots}-")
        self.assertIsNone(self.vm("one"))

    def test_each_step_of_each_verb(self):
        """With what does not wait."""
        cells = [cell for cell in every_cell() if not patient(cell)]
        self.assertGreater(self.batches(cells), len(cells) / 4)  # the faults are there

    def test_zz_answered_all_the_while(self):
        seen = self.watch.end()
        turns = [0, *self.stack.turns()]
        print(f"# {seen}; the longest turn of its main loop took {max(turns)} ms of the processor", flush=True)
        self.assertEqual(seen["lost"], 0)
        times = SANITIZERS if harness.sanitized() else 1
        self.assertLess(max(turns), TURN_MS * times)
        self.assertLess(seen["work"], ANSWER_MS * times)


class Patient(Cells):
    """Each verb beside a part that is silent, or two of them: whoever calls it waits for the end of our patience, which is short."""

    patience = 1

    def test_each_silent_step_of_each_verb(self):
        cells = [cell for cell in every_cell() if patient(cell)]
        self.assertGreater(self.batches(cells), len(cells) / 4)


class Behind(FaultTest):
    """What goes on after whoever asked for it was told that it is as good as done."""

    def test_deletion_that_is_recorded(self):
        """bangerd is killed with the VM's network, disks and folder still there: the next one removes them."""
        for _ in range(3):
            self.make(["stays"])
            self.do("CreateVM", "gone", memory_mib=128, start=True, ephemeral=True)
            self.stack.faults("* polkit.ReleaseVm slow:3000")
            job = self.client.call("DeleteVM", "(sa{sv})", ("gone", options(force=True)))[0]
            end = time.monotonic() + 2.5
            while self.client.objects()[job][JOB]["Stage"] != "cleaning up":
                self.assertLess(time.monotonic(), end, "it waits for the release")
                time.sleep(0.02)
            self.assertEqual(self.vm("gone")["State"], "deleting")
            self.assertEqual(len(self.invariants.leases()), 1)
            self.stack.kill("manager")
            self.stack.faults()
            self.stack.up()
            self.settled()
            self.assertEqual(sorted(self.client.vms()), ["stays"])
            self.do("DeleteVM", "stays")


class Others(Cells):
    """What is no VM's own, and what is read for one."""

    def test_of_all(self):
        """Faults of what has no VM, or none yet. Silence ends after the verb was asked for."""
        every = (rows(("ssh-keygen",), PROGRAM_SAYS, "*") + disk("bangerd", CHANGES, "vms/")
                 + disk("bangerd", CHANGES, "known_hosts")
                 + rows(("sshd",), ("silent", "fail"), "*") + rows(("polkit.PrepareVm",), POLKIT_SAYS, "*"))
        for faults in every[::5] if harness.sanitized() else every:
            with self.subTest(faults):
                self.stack.faults(faults)
                calls = [self.client.verb("CreateVM", "run", start=True, memory_mib=128), self.client.verb("CreateVM", "idle")]
                if "silent" in faults:
                    time.sleep(0.3)
                    self.stack.faults()
                answers = [call.result(VERB_SECONDS) for call in calls]
                if "slow" in faults or "silent" in faults:
                    self.assertEqual([text for text in answers if text], [])
                self.settled()
                self.empty()
        self.settled()

    def test_repository_without_end(self):
        """What git or the import would read never comes: a stronger verb ends it at once, and nothing else waits."""
        self.do("CreateVM", "one", start=True, memory_mib=128)
        for name in ("a", ".git/index", ".git/config"):
            with self.subTest(name):
                path = self.stack.tree / name
                kept = path.with_name("kept")
                path.rename(kept)
                os.mkfifo(path)
                os.chown(path, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
                call = self.client.verb("ImportWorkspace", "one", str(self.stack.tree))
                self.do("KillVM", "one")
                self.assertNotEqual(call.result(VERB_SECONDS), "")
                path.unlink()
                kept.rename(path)
                self.settled()
                self.do("StartVM", "one")
                self.do("ImportWorkspace", "one", str(self.stack.tree))

    def held_git(self, word):
        """The stand-in that was called with @word and is silent: its pid, and its state as proc_pid_stat(5) has it."""
        end = time.monotonic() + VERB_SECONDS
        while time.monotonic() < end:
            for entry in os.scandir("/proc"):
                with contextlib.suppress(OSError, IndexError):
                    if (entry.name.isdigit() and os.readlink(f"{entry.path}/exe") == str(self.stack.tools / "git")
                            and word in harness.read_text(f"{entry.path}/cmdline").split("\0")):
                        return int(entry.name), harness.read_text(f"{entry.path}/stat").rsplit(") ", 1)[1][0]
            time.sleep(0.02)
        return self.fail(f"git {word} does not run")

    def test_git_that_stands_still(self):
        """A stronger verb ends it, too."""
        self.do("CreateVM", "one", start=True, memory_mib=128)
        self.stack.faults("* git.-s silent")
        call = self.client.verb("ImportWorkspace", "one", str(self.stack.tree))
        git, _ = self.held_git("-s")
        os.kill(git, signal.SIGSTOP)
        while self.held_git("-s") != (git, "T"):
            time.sleep(0.02)
        self.assertFalse(call.done())
        self.do("KillVM", "one")
        self.assertNotEqual(call.result(VERB_SECONDS), "")
        self.assertFalse(os.path.exists(f"/proc/{git}"))
        self.settled()

    def test_git_fails(self):
        """Each of its answers: none, a wrong one, an early end. What depends on it is not said to be there."""
        self.do("CreateVM", "one", start=True, memory_mib=128)
        for word in ("--show-toplevel", "--absolute-git-dir", "--git-common-dir", "--list", "-s", "-o"):
            for how in ("exit:1", "exit:128", "killed", "garbage"):
                with self.subTest(word=word, how=how):
                    self.stack.faults(f"* git.{word} {how}")
                    said = self.client.verb("ImportWorkspace", "one", str(self.stack.tree)).result(VERB_SECONDS)
                    if how != "garbage" or word in ("--show-toplevel", "--absolute-git-dir", "-s"):
                        self.assertIn("InvalidPath", said)
                    self.assertEqual(self.vm("one")["State"], "running")
        self.settled()
        self.do("ImportWorkspace", "one", str(self.stack.tree))


class Waits(Cells):
    """A part never answers, and nothing of ours gives up by itself: who does not want to wait is not kept waiting."""

    limits = (f"guest-seconds = {PATIENCE}", "taps = 128", "vms = 128")
    patience = 1

    def ended(self, calls, since, cells=None):
        """Their answers, while all is still silent."""
        concurrent.futures.wait(calls.values(), since + PATIENCE / 2 - time.monotonic())
        self.assertEqual([name for name, call in calls.items() if not call.done()], [], cells or calls)
        print(f"# {len(calls)} ended after {time.monotonic() - since:.1f} s at most", flush=True)
        return self.wait_all(calls)


class Silent(Waits):
    """A part of a VM."""

    STRONGER = {"KillVM": ("DeleteVM", {"force": True})}  # of the others: a kill; there is none of a deletion

    @unittest.skipIf(harness.sanitized(), "what is waited for here takes the same minute in each build")
    def test_stronger_verb_ends_each_silent_step(self):
        """Also of a disk, which may never come back, and of what the stronger verb itself needs."""
        silence = {verb: [line for line in faults if line.endswith(" silent")] for verb, (_, _, faults) in VERBS.items()}
        hung = [f"bangerd io.{op} silent vms/{{id}}/" for op in CHANGES]  # run folders are in memory
        cells = [(verb, [line]) for verb, lines in silence.items()
                 for line in lines + (hung if verb != "ImportWorkspace" else [])]
        cells = {f"c{i}": cell for i, cell in enumerate(cells)}
        self.ready(cells)
        ids = self.ids(cells)
        self.stack.faults(*(lines[0].format(id=ids[name], uid=self.stack.owner.pw_uid) for name, (_, lines) in cells.items()))
        patient = {"timeout_us": PATIENCE * 1000000}
        calls = self.begin({name: (verb, VERBS[verb][1] | (patient if "timeout_us" in VERBS[verb][1] else {}))
                            for name, (verb, _) in cells.items()})
        time.sleep(2)
        waiting = {name for name, call in calls.items() if not call.done()}
        self.assertGreater(len(waiting), len(cells) / 2)
        since, others = time.monotonic(), Client(self.stack)  # the bus lets a connection wait for so many answers only
        self.addCleanup(others.close)
        stronger = {}
        for name in waiting:
            if cells[name][0] != "DeleteVM":
                method, more = self.STRONGER.get(cells[name][0], ("KillVM", {}))
                stronger[name] = others.verb(method, name, **more)
        self.ended(calls, since, cells)
        self.ended(stronger, since, cells)
        self.settled()


class Assets(Waits):
    """A disk, of what has no VM."""

    def test_assets(self):
        """Images and kernels are imported to, and deleted from, a disk that is slow, full, failing or silent; who takes back
        an import need not wait for it."""
        kinds = {"Image": (self.stack.tar, {"size_bytes": 32 << 20}), "Kernel": (self.stack.vmlinux, {})}

        def verbs(verb, kinds):
            return {kind: self.client.verb(verb + kind, "other", *((str(kinds[kind][0]),) if verb == "Import" else ()),
                                           **(kinds[kind][1] if verb == "Import" else {})) for kind in kinds}
        for op in CHANGES[::2] if harness.sanitized() else CHANGES:
            for how in (*DISK_SAYS, "silent"):
                with self.subTest(op=op, how=how):
                    faults = [f"bangerd io.{op} {how} {kind}" for kind in ("images/", "kernels/")]
                    self.stack.faults(*faults)
                    since, calls = time.monotonic(), verbs("Import", kinds)
                    if how == "silent":
                        time.sleep(0.5)
                        self.cancel_all()
                    answers = self.ended(calls, since)
                    if how.startswith("slow"):
                        self.good(answers)
                    self.settled()
                    self.good(self.wait_all(verbs("Import", {k: v for k, v in kinds.items() if answers[k]})))
                    self.stack.faults(*faults)
                    calls = verbs("Delete", kinds)
                    if how == "silent":
                        time.sleep(0.3)
                        self.stack.faults()
                    answers = self.ended(calls, since)
                    self.settled()
                    self.good(self.wait_all(verbs("Delete", {k: v for k, v in kinds.items() if answers[k]})))
                    self.settled()

    def cancel_all(self):
        """Each job that is under way and lets itself be taken back."""
        for path, interfaces in self.client.objects().items():
            if JOB in interfaces and interfaces[JOB]["State"] == "running" and interfaces[JOB]["Cancelable"]:
                self.client.call("Cancel", "(a{sv})", ({},), interface=JOB, path=path)


class Paused(FaultTest):
    """A guest that stands still, and is to end while nobody can end it."""

    def test_killed_without_helper(self):
        """It stands still as before, is told so, and goes on when it is resumed."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        for method, more in (("KillVM", {}), ("DeleteVM", {"force": True})):
            with self.subTest(method):
                self.do("PauseVM", "web")
                self.stack.kill("helper")
                self.assertIn("HelperUnavailable", self.client.verb(method, "web", **more).result(VERB_SECONDS))
                self.settled()
                self.assertEqual(self.vm("web")["State"], "paused")
                self.do("ResumeVM", "web")
                self.assertEqual(self.client.capture("web").result(VERB_SECONDS), "")
                self.settled()

    def test_stats(self):
        """What a guest does not say is missing, soon, and the rest is there; one that stands still is not asked."""
        def stats(**more):
            return self.client.call("GetStatsVM", "(sa{sv})", ("web", options(**more)))[0]

        def many(**more):
            return self.client.call("ListStats", "(a{sv})", (options(**more),))[0]

        self.do("CreateVM", "web", memory_mib=128)
        self.assertEqual((stats()["state"], "cpu-us" in stats(), "uptime-us" in stats()), ("stopped", False, False))
        self.do("StartVM", "web")
        vm_id, told = self.vm("web")["Id"], stats()
        self.assertEqual([told[key] for key in ("guest-total-bytes", "guest-available-bytes", "guest-load", "guest-load-5", "guest-load-15")],
                         [102400000, 51200000, 0.12, 0.05, 1.0])
        self.assertLess(told["uptime-us"], VERB_SECONDS * 1000000)
        self.assertIn("root-bytes", told)
        self.assertNotIn("guest-load", stats(guest=False))
        for how in ("silent", "fail", "die"):
            self.stack.faults(f"{vm_id} agent.stats {how}")
            self.assertEqual([key for key in stats() if key.startswith("guest-")], [])
            self.stack.faults()
        devstack.wait_for("web to have ended with its VMM", VERB_SECONDS, lambda: self.vm("web")["State"] == "stopped")
        self.do("StartVM", "web")
        self.do("CreateVM", "db", memory_mib=128, start=True)
        self.do("CreateVM", "off", memory_mib=128)
        self.assertEqual(sorted(many()), ["db", "web"])
        self.assertEqual(sorted(many(vms=["off", vm_id, "nobody", "web", "\x1b[2J", ""])), sorted(["off", vm_id]))
        self.assertEqual(many(vms=[]), {})
        self.stack.faults(f"{vm_id} agent.stats silent")  # takes no other's time, and its own numbers alone
        told = many()
        self.assertEqual({name: "guest-load" in told[name] for name in told}, {"web": False, "db": True})
        self.stack.faults()
        self.do("PauseVM", "web")
        told = stats()
        self.assertEqual((told["state"], "guest-load" in told, "root-bytes" in told), ("paused", False, True))

    @staticmethod
    def listens(port):
        """Somebody does at a port of this host."""
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), VERB_SECONDS):
            return True
        return False

    @staticmethod
    def until(what):
        """Until @what() is true, or long enough for what follows to say what is not."""
        end = time.monotonic() + VERB_SECONDS
        while not what() and time.monotonic() < end:
            time.sleep(0.05)

    def test_forward_that_is_not_recorded(self):
        """It is refused, and as it was: nobody listens, or who listened does; what the disk takes later is what is so."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        vm_id, free = self.vm("web")["Id"], socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        text = f"127.0.0.1:{port}:80"

        def change(method):
            return self.client.call(method, "(ssa{sv})", ("web", text, {}))

        for method, there in (("AddForwardVM", False), ("RemoveForwardVM", True)):
            for how in ("full", "fail"):
                with self.subTest(method=method, how=how):
                    self.stack.faults(f"bangerd io.create {how} vms/{vm_id}/")
                    with self.assertRaises(CallError) as refused:
                        change(method)
                    self.assertIn("record", str(refused.exception))
                    self.assertEqual((self.vm("web")["Forwards"], self.listens(port)), ([text] if there else [], there))
                    self.stack.faults()
                    self.settled()
            change(method)
            self.assertEqual((self.vm("web")["Forwards"], self.listens(port)), ([] if there else [text], not there))

    def test_forward_behind_which_another_comes(self):
        """That the record with it was not written is told also if there is a newer one by then."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        vm_id, held = self.vm("web")["Id"], [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        ports = [each.getsockname()[1] for each in held]
        for each in held:
            each.close()
        folder = self.stack.state / str(self.stack.owner.pw_uid) / "vms" / vm_id
        before = {path.name for path in folder.iterdir()}
        self.stack.faults(f"bangerd io.write silent vms/{vm_id}/")
        calls = []
        for port in ports:
            calls.append(self.client.pool.submit(self.client.call, "AddForwardVM", "(ssa{sv})", ("web", f"127.0.0.1:{port}:80", {})))
            self.until(lambda: {path.name for path in folder.iterdir()} - before)
            self.until(lambda port=port: self.listens(port))
        self.client.objects()
        self.stack.faults(f"bangerd io.fsync fail vms/{vm_id}/")
        said = [str(call.exception()) for call in calls]
        self.stack.faults()
        self.settled()
        late = [f"127.0.0.1:{port}:80" for port, text in zip(ports, said) if "it is so" in text]
        self.assertTrue(all("record" in text for text in said), said)
        self.assertEqual(self.vm("web")["Forwards"], late)


class Quota(FaultTest):
    """As much as all disks together may come to, with the memory of those that are suspended."""

    limits = ("guest-seconds = 120", "disk-mib = 300")

    def test_suspension(self):
        """It is refused by the quota's name, and the guest runs on; one that there is room for is not."""
        boots = {}
        for name, memory_mib in (("small", 128), ("large", 400)):
            self.do("CreateVM", name, memory_mib=memory_mib, start=True)
            boots[name] = self.vm(name)["BootId"]
        self.assertIn("limits.disk-mib", self.client.verb("SuspendVM", "large").result(VERB_SECONDS))
        self.settled()
        self.assertEqual((self.vm("large")["State"], self.vm("large")["BootId"]), ("running", boots["large"]))
        self.do("SuspendVM", "small")
        self.settled()
        self.assertEqual(self.vm("small")["State"], "suspended")
        self.do("StartVM", "small")
        self.assertEqual(self.vm("small")["BootId"], boots["small"])
        self.settled()


@unittest.skipIf(os.path.exists("/run/systemd/system") or not os.path.exists(SYSTEMD_POLICY) or not devstack.cgroup2_root(),
                 "needs a host where systemd is installed and does not run")
class Systemd(Cells):
    """VMMs live in scopes that systemd is asked for."""

    limits = ("guest-seconds = 60",)
    patience = 1
    systemd = True

    def test_each_answer(self):
        for how in ("ok", "slow", "refuse", "fail", "stale", "drags", "silent"):
            with self.subTest(how):
                names = [f"{verb}{how}" for verb in ("start", "restart", "killed")]
                self.make(names)
                self.good(self.all_do("StartVM", names[1:2]))
                self.stack.systemd_does(how)
                calls = {name: self.client.verb("RestartVM" if "restart" in name else "StartVM", name) for name in names}
                time.sleep(1)
                killed = self.client.verb("KillVM", names[2])
                answers = self.wait_all(calls)
                killed.result(VERB_SECONDS)
                if how in ("ok", "slow", "stale"):
                    self.good({name: answers[name] for name in names[:2]})
                elif how != "drags":
                    self.assertTrue(all(answers.values()), answers)
                self.stack.systemd_does("ok")
                self.settled()
                there = [name for name, vm in self.client.vms().items() if vm["State"] == "stopped"]
                self.good(self.all_do("StartVM", there))
                self.empty()
                self.settled()


if __name__ == "__main__":
    main_beside()
