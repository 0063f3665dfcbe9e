"""Random verbs of several clients with random faults in between, again and again, and what must hold after each round.

Started by scripts/soak and by meson test, as root. The same seed is the same sequence; a round that fails is tried again
with ever fewer operations, and the shortest that still fails is printed as a line to paste.
Never goes on from what an earlier round left: each begins with no VM.
"""

import argparse
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time

import parts
from parts import SETTLE_SECONDS, VERB_SECONDS, CallError, devstack, harness

NAMES = "abcde"
PROCESSES = ("helper", "manager", "session-bus", "system-bus", "polkit")
CLIENTS = 4
GUEST_STEPS = ("socket", "api", "boot", "agent", "agent.hello", "agent.shutdown", "agent.poweroff", "ready", "flush", "exit",
               "agent.names", "agent.stats", "pause", "save", "load", "exec", "command")
POLKIT_STEPS = tuple("polkit." + verb for verb in (
    "*", "ReleaseVm", "PrepareVm", "DeleteDisk", "LaunchVmm", "KillVmm", "OpenVmm", "ListLeases", "GetVmm", "SetReach"))
DISK = ("create", "write", "fsync", "rename", "unlink")
PLACES = {"bangerd": ("vms/", "images/", "run/", "known_hosts", "/"), "bangerd-root": ("leases/", "jail/", "/")}
SHRINK_TRIES = 60


# Operations: a word and what it is about, as text


def a_fault(dice):
    """A line of the list, as parts.py says them."""
    kind = dice.choice(("guest", "polkit", "program", "disk", "disk"))
    if kind == "guest":
        return f"* {dice.choice(GUEST_STEPS)} {dice.choice(('slow:200', 'silent', 'fail', 'die'))}"
    if kind == "polkit":
        return f"* {dice.choice(POLKIT_STEPS)} {dice.choice(('slow:200', 'silent', 'no', 'fail'))}"
    if kind == "program":
        return f"* {dice.choice(('ssh', 'ssh-keygen'))} {dice.choice(('slow:500', 'silent', 'fail'))}"
    program = dice.choice(tuple(PLACES))
    return f"{program} io.{dice.choice(DISK)} {dice.choice(('slow:50', 'full', 'fail'))} {dice.choice(PLACES[program])}"


MAKERS = (
    # how often, what
    (18, lambda dice: f"create {dice.choice(NAMES)}"),
    (5, lambda dice: f"run {dice.choice(NAMES)}"),  # ephemeral, started at once
    (26, lambda dice: f"start {dice.choice(NAMES)}"),
    (10, lambda dice: f"stop {dice.choice(NAMES)}"),
    (8, lambda dice: f"kill {dice.choice(NAMES)}"),
    (6, lambda dice: f"restart {dice.choice(NAMES)}"),
    (7, lambda dice: f"delete {dice.choice(NAMES)}"),
    (4, lambda dice: f"import {dice.choice(NAMES)}"),
    (2, lambda dice: "image"),
    (2, lambda dice: "no-image"),
    (2, lambda dice: "cancel"),
    (5, lambda dice: f"pause {dice.choice(NAMES)}"),
    (5, lambda dice: f"resume {dice.choice(NAMES)}"),
    (9, lambda dice: f"suspend {dice.choice(NAMES)}"),
    (8, lambda dice: f"exec {dice.choice(NAMES)}"),
    (5, lambda dice: f"link {dice.choice(NAMES)} {dice.choice(NAMES)}"),
    (3, lambda dice: f"unlink {dice.choice(NAMES)} {dice.choice(NAMES)}"),
    (2, lambda dice: f"port {dice.choice(NAMES)} {dice.choice(('allow-host', 'deny-host'))} {dice.choice((80, 8000))}"),
    (3, lambda dice: f"rename {dice.choice(NAMES)} {dice.choice(NAMES)}"),
    (3, lambda dice: f"look {dice.choice(NAMES)}"),
    (10, lambda dice: f"wait {dice.choice((5, 20, 100, 400))}"),
    (8, lambda dice: f"fault {a_fault(dice)}"),
    (5, lambda dice: "well"),
    (3, lambda dice: f"vmm {dice.choice(NAMES)}"),
    (3, lambda dice: f"end {dice.choice(PROCESSES)} {dice.choice(('KILL', 'TERM'))}"),
    (3, lambda dice: f"freeze {dice.choice(('helper', 'polkit', 'manager'))}"),
)


def plan(seed, count):
    """@count operations, always the same of one seed."""
    dice = random.Random(seed)
    weights = [weight for weight, _ in MAKERS]
    return [dice.choices(MAKERS, weights)[0][1](dice) for _ in range(count)]


class Round:
    """Operations done on a stack with nothing in it."""

    def __init__(self, stack, clients):
        self.stack = stack
        self.clients = clients
        self.client = clients[0]
        self.invariants = parts.Invariants(stack, self.client)
        self.calls = []  # (operation, future)
        self.faults = []
        self.turn = 0

    def verb(self, text, method, *args, **more):
        client = self.clients[self.turn % len(self.clients)]
        self.turn += 1
        self.calls.append((text, client.verb(method, *args, **more)))

    def do(self, text):
        """One operation; verbs go on in the background."""
        word, *rest = text.split(" ", 1)
        rest = rest[0] if rest else ""
        verbs = {
            "create": ("CreateVM", {"memory_mib": 128}), "start": ("StartVM", {}), "kill": ("KillVM", {}),
            "stop": ("StopVM", {"timeout_us": 1000000}), "restart": ("RestartVM", {"timeout_us": 1000000}),
            "run": ("CreateVM", {"memory_mib": 128, "start": True, "ephemeral": True}), "delete": ("DeleteVM", {"force": True}),
            "pause": ("PauseVM", {}), "resume": ("ResumeVM", {}), "suspend": ("SuspendVM", {})}
        if word in verbs:
            method, more = verbs[word]
            self.verb(text, method, rest, **more)
        else:
            getattr(self, "do_" + word.replace("-", "_"))(text, *([rest] if word == "fault" else rest.split()))

    def do_exec(self, text, name):
        self.turn += 1
        self.calls.append((text, self.clients[self.turn % len(self.clients)].capture(name)))

    def do_link(self, text, name, other):
        self.verb(text, "SetVM", name, link=[other])

    def do_unlink(self, text, name, other):
        self.verb(text, "SetVM", name, unlink=[other])

    def do_port(self, text, name, how, port):
        self.verb(text, "SetVM", name, **{how: [port]})

    def do_rename(self, text, name, new):
        self.verb(text, "SetVM", name, name=new)

    def do_look(self, text, name):
        """What is only asked for: who listens in the guest, and what all use."""
        self.verb(text, "ListPortsVM", name, wait=None)
        self.verb(text, "ListStats", wait=None)

    def do_import(self, text, name):
        self.verb(text, "ImportWorkspace", name, str(self.stack.tree))

    def do_image(self, text):
        self.verb(text, "ImportImage", "other", str(self.stack.tar), size_bytes=32 << 20)

    def do_no_image(self, text):
        self.verb(text, "DeleteImage", "other")

    def do_cancel(self, _text):
        with contextlib.suppress(CallError):
            for path, interfaces in self.client.objects(5).items():
                if interfaces.get(parts.JOB, {}).get("Cancelable"):
                    self.client.call("Cancel", "(a{sv})", ({},), parts.JOB, path, 5)
                    return

    def do_wait(self, _text, milliseconds):
        time.sleep(int(milliseconds) / 1000)

    def do_fault(self, _text, line):
        self.faults.append(line)
        self.stack.faults(*self.faults)

    def do_well(self, _text):
        self.faults = []
        self.stack.faults()

    def do_vmm(self, _text, name):
        with contextlib.suppress(CallError, ProcessLookupError):
            vm = self.client.vms().get(name) if self.stack.pid("manager") else None
            if vm and vm["Pid"]:
                devstack.os.kill(vm["Pid"], signal.SIGKILL)

    def do_end(self, _text, process, number):
        self.thaw()
        with contextlib.suppress(devstack.StackError):
            self.stack.kill(process, getattr(signal, "SIG" + number), 12)
        self.stack.stop(process)
        try:
            self.stack.up()
        except devstack.StackError:  # who starts on a disk that fails ends, and is started again later
            self.do_well("")
            self.stack.up()

    def do_freeze(self, _text, process):
        if self.stack.pid(process):
            devstack.os.kill(self.stack.pid(process), signal.SIGSTOP)
        time.sleep(0.2)
        self.thaw()

    def thaw(self):
        for process in PROCESSES:
            if self.stack.pid(process):
                devstack.os.kill(self.stack.pid(process), signal.SIGCONT)

    def ended(self):
        """Verbs that have not ended though all parts are well."""
        end = time.monotonic() + VERB_SECONDS
        late = [text for text, call in self.calls if not self._ends(call, end)]
        return [f"has not ended: {text}" for text in late]

    @staticmethod
    def _ends(call, end):
        try:
            call.result(max(0, end - time.monotonic()))
        except TimeoutError:
            return False
        return True

    def usable(self):
        """Each VM that is left can be started, stopped in order, and deleted."""
        wrong = []
        for verb, states in (("ResumeVM", ("paused",)), ("StartVM", ("stopped", "suspended")), ("CaptureVM", None),
                             ("StopVM", None), ("DeleteVM", None)):
            names = [n for n, vm in self.client.vms().items() if states is None or vm["State"] in states]
            calls = [(n, self.client.capture(n) if verb == "CaptureVM" else self.client.verb(verb, n)) for n in names]
            wrong += [f"{verb} {name}: {text}" for name, call in calls for text in (call.result(VERB_SECONDS),)
                      if text and "NoSuchVM" not in text]
        return wrong + self.invariants.settle()

    def run(self, operations):
        """What was wrong afterwards, as sentences."""
        for text in operations:
            self.do(text)
        self.do_well("")
        self.thaw()
        self.stack.up()
        wrong = self.ended() or self.invariants.settle() or self.usable()
        for name in self.client.vms():
            self.client.verb("DeleteVM", name, force=True).result(VERB_SECONDS)
        with contextlib.suppress(CallError):
            self.client.call("DeleteImage", "(sa{sv})", ("other", {}))
        return wrong


class Soak:
    """A stack, and rounds on it; a new stack after one that failed."""

    def __init__(self, preload):
        self.preload = preload
        self.stack = None
        self.clients = []

    def up(self):
        self.stack = parts.FaultStack(preload=self.preload)
        self.stack.prepare()
        self.stack.start_sshd()
        for name in devstack.ORDER:
            getattr(self.stack, "start_" + name.replace("-", "_"))()
        self.stack.make_sources()
        self.clients = [parts.Client(self.stack) for _ in range(CLIENTS)]

    def down(self, keep=False):
        """What was wrong: rests, reports of sanitizers. @keep: the logs, where it says."""
        if self.stack is None:
            return []
        for client in self.clients:
            client.close()
        logs = f"/tmp/soak-{self.stack.number}-log"
        if keep:
            shutil.copytree(self.stack.logs, logs, dirs_exist_ok=True)
            print(f"# the services' logs: {logs}", flush=True)
        wrong = self.stack.close()
        self.stack = None
        return wrong

    def round(self, operations):
        """What is wrong after them."""
        if self.stack is None:
            self.up()
        wrong = Round(self.stack, self.clients).run(operations)
        return wrong

    def try_again(self, operations):
        """The same on a new stack."""
        self.down()
        wrong = self.round(operations)
        return wrong + self.down(keep=bool(wrong))

    def shrink(self, operations, tries=SHRINK_TRIES):
        """The shortest part that still fails: ever smaller pieces are left out."""
        size = max(1, len(operations) // 2)
        while size >= 1 and tries > 0:
            start, shorter = 0, False
            while start < len(operations) and tries > 0:
                less = operations[:start] + operations[start + size:]
                tries -= 1
                if less and self.try_again(less):
                    operations, shorter = less, True
                else:
                    start += size
            size = size if shorter and size > 1 else size // 2
        return operations


def report(name, operations, wrong):
    print(f"# {name} failed:", *wrong[:20], sep="\n#   ", flush=True)
    print(f"# scripts/soak --replay '{'; '.join(operations)}'", flush=True)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Random verbs and faults against the real services.")
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument("--seed", type=int, default=None, help="the same number is the same sequence (by chance)")
    parser.add_argument("--ops", type=int, default=40, help="operations of a round (40)")
    parser.add_argument("--rounds", type=int, default=None, help="end after so many")
    parser.add_argument("--replay", help="this sequence, as printed by a failure")
    parser.add_argument("--no-disk", action="store_true", help="without faults of the disk: needed with a thread sanitizer")
    parser.add_argument("--no-shrink", action="store_true", help="do not look for a shorter sequence that fails")
    return parser.parse_args()


def rounds(args, seed):
    """(name, operations) of each."""
    if args.replay:
        yield "replay", [text for text in args.replay.split("; ") if text]
        return
    end, number = time.monotonic() + args.minutes * 60, 0
    while time.monotonic() < end and number != args.rounds:
        yield f"round {number} of seed {seed}", plan(f"{seed}.{number}", args.ops)
        number += 1


def main():
    args = arguments()
    harness.box.enter()
    seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    print(f"# seed {seed}", flush=True)
    soak, failed, done = Soak(not args.no_disk), 0, 0
    before = harness.snapshot_host()
    try:
        for name, operations in rounds(args, seed):
            wrong = soak.round(operations)
            done += len(operations)
            print(f"{'not ok' if wrong else 'ok'} - {name}", flush=True)
            if wrong:
                failed += 1
                report(name, operations, wrong + soak.down(keep=True))
                if not args.no_shrink:
                    report("the shortest", soak.shrink(operations), ["as above"])
                break
    finally:
        wrong = soak.down()
    wrong += harness.difference(before, harness.snapshot_host(), r"banger-test-|br-fc-t")
    print(f"# {done} operations, {failed} rounds failed", *wrong, sep="\n# ", flush=True)
    sys.exit(1 if failed or wrong else 0)


if __name__ == "__main__":
    main()
