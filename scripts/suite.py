"""Builds and runs all tests, counts each, and says in one line how it went.

Used by scripts/check, as root, with all packages installed.
Never counts a test that did not run as passed.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(SOURCE / "scripts"), str(SOURCE / "tests" / "bus")]

import devstack  # noqa: E402
import harness  # noqa: E402

CACHE = pathlib.Path("/var/cache/banger/build")
LOG = CACHE / "check.log"
PACKAGE = CACHE / "package"  # where tests/package leaves what the scenario of that name installs
MINUTES = 85  # for all of it
HOST_MINUTES = 40  # for the scenarios in the test host, if so many are left
TEST_MINUTES = 50  # for the tests of a build
AT_ONCE = os.cpu_count() + 1  # test programs of a build: they wait about as much as they work
BEHIND = ["nice", "-n", "10"]  # what is made for later, while tests wait or sleep
PREPARE_MINUTES = 20  # for what is left of its preparation when the tests are through
BUILD = ["-Dwerror=true", "-Dfault-hooks=true", "-Dc_args=-g1"]  # lines are enough for a stack, and a fifth less to compile
BUILDS = {
    # name: (meson options, suites or all)
    "check": (BUILD, []),
    # -O1: what -O2 makes of code with checks in it takes half as long again to compile, and runs no sooner
    "sanitize": ([*BUILD, "-Doptimization=1", "-Db_sanitize=address,undefined", "-Db_lundef=false"],
                 ["unit", "bus"]),
}
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}
TAP_LINE = re.compile(r"^(ok|not ok)\b\s*\d*\s*-?\s*(.*?)(?:\s+#\s*(SKIP|TODO)\b\s*(.*))?$", re.I)
HOST_TOOK = re.compile(r"^# \[[\d:]+\] ([^\n]+): (\d+) s(?: \(.*\))?$", re.M)  # as tests/host/run.py reports a scenario
SLOWEST = 20
RUNNING = set()  # what run() has started


class Tally:
    """What passed, failed and was skipped."""

    def __init__(self):
        self.passed = []
        self.failed = []  # (name, text)
        self.skipped = []  # (name, reason)
        self.stages = []  # (name, seconds, of them the processor's)
        self.took = []  # (name, seconds) of what is run one by one: test programs, scenarios

    @contextlib.contextmanager
    def stage(self, name):
        """What a part of the whole takes."""
        began, used = time.monotonic(), processor()
        try:
            yield
        finally:
            self.stages.append((name, time.monotonic() - began, processor() - used))

    def step(self, name, ok, text=""):
        """One thing that is not a meson test."""
        say(f"{'ok' if ok else 'FAILED'}: {name}")
        if ok:
            self.passed.append(name)
        else:
            self.failed.append((name, text))

    def add_tap(self, name, text):
        """Counts the lines of a TAP text. Returns how many it had, and how many failures."""
        count = failures = 0
        comments = []
        for line in text.splitlines():
            match = TAP_LINE.match(line)
            if not match:
                comments.append(line)
                continue
            count += 1
            topic = f"{name}: {match[2]}"
            if match[1].lower() == "not ok":
                failures += 1
                self.failed.append((topic, "\n".join(comments[-400:])))
            elif (match[3] or "").upper() == "SKIP":
                self.skipped.append((topic, match[4] or "no reason given"))
            else:
                self.passed.append(topic)
            comments = []
        return count, failures

    def add_meson(self, build, row):
        """One line of meson's testlog.json. Returns how many failures it has."""
        name = f"{build}/{row['name'].split(' / ')[-1]}"
        output = row.get("stdout", "")
        errors = row.get("stderr", "")
        self.took.append((name, row.get("duration") or 0.0))
        bad = row["result"] in ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS")
        count, failures = self.add_tap(name, output)
        if bad and not failures:
            failures = 1
            self.failed.append((name, f"{row['result']} (exit status {row['returncode']})\n{output[-3000:]}\n{errors[-6000:]}"))
        elif not count:
            if row["result"] == "SKIP":
                self.skipped.append((name, (output + errors).strip().splitlines()[-1:] or "no reason given"))
            elif not bad:
                self.passed.append(name)
        return failures


def processor():
    """Seconds of it that children took that have ended, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def say(text):
    """Progress, for people and in the log."""
    print(f"check [{time.strftime('%H:%M:%S')}]: {text}", flush=True)
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"=== {text}\n")


def run(argv, seconds, env=None, stdout=None):
    """Exit status of a command whose output goes to the log; it is ended with its children after @seconds, or with us."""
    with LOG.open("ab") as log:
        log.write(f"$ {' '.join(map(str, argv))}\n".encode())
        log.flush()
        child = subprocess.Popen(argv, cwd=SOURCE, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                                 env=os.environ | (env or {}), start_new_session=True)
        RUNNING.add(child)
        try:
            return child.wait(timeout=max(1, min(seconds, DEADLINE - time.monotonic())))
        except subprocess.TimeoutExpired:
            log.write(b"=== ended: it took too long\n")
            return 124
        finally:
            end(child)
            RUNNING.discard(child)


def end(child):
    """Ends @child's process group, if it still runs."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def log_tail(lines=40, log=LOG):
    """The end of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def check_format(tally):
    """clang-format over all C; shellcheck is not asked for."""
    files = [str(p) for folder in ("src", "tests") for p in sorted((SOURCE / folder).rglob("*.[ch]"))]
    status = run(["clang-format", "--dry-run", "-Werror", *files], 120)
    tally.step("C sources are formatted (clang-format)", status == 0, log_tail())


def build(name, options, tally):
    """Configures and builds; True if tests can run."""
    directory = CACHE / name
    marker = CACHE / f"{name}.source"
    if not marker.exists() or marker.read_text(encoding="utf-8") != str(SOURCE):
        shutil.rmtree(directory, ignore_errors=True)
    marker.write_text(str(SOURCE), encoding="utf-8")
    setup = ["meson", "setup", "--prefix=/usr/local", *options, str(directory), str(SOURCE)]
    if (directory / "build.ninja").exists():
        setup.insert(2, "--reconfigure")
    log = CACHE / f"{name}.log"
    with log.open("wb") as out:
        ok = run(setup, 300, stdout=out) == 0 and run([*BEHIND, "ninja", "-C", str(directory)], 1500, stdout=out) == 0
    tally.step(f"{name}: builds without a warning", ok, log_tail(log=log))
    return ok


def test(name, suites, tally):
    """meson test, counted test by test."""
    began = time.monotonic()
    directory, stage = CACHE / name, CACHE / f"{name}-stage"
    results = directory / "meson-logs" / "testlog.json"
    results.unlink(missing_ok=True)
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    env = {"BANGER_TEST_STAGE": str(stage), "BANGER_TEST_PACKAGE": str(PACKAGE)} | (SANITIZER_ENV if name == "sanitize" else {})
    argv = ["meson", "test", "-C", str(directory), "--no-rebuild", "--print-errorlogs", "--num-processes", str(AT_ONCE),
            "--timeout-multiplier", "6" if name == "sanitize" else "4"]
    for suite in suites:
        argv += ["--suite", suite]
    status = run(argv, TEST_MINUTES * 60, env)
    rows = []
    if results.exists():
        rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines() if line.strip()]
    failures = sum(tally.add_meson(name, row) for row in rows)
    if status != 0 and not failures:
        tally.failed.append((f"{name}: meson test", f"exit status {status}\n{log_tail()}"))
    if not rows:
        tally.failed.append((f"{name}: no test ran", log_tail()))
    say(f"{name}: {len(rows)} test programs ran in {time.monotonic() - began:.0f} s, {failures} failures")


def check_builds(tally):
    """Each build is made and tested beside the tests of the one before: those leave half of a processor idle."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        try:
            tests = []
            for name, (options, suites) in BUILDS.items():
                say(f"{name}: building")
                began = time.monotonic()
                built = build(name, options, tally)
                say(f"{name}: built in {time.monotonic() - began:.0f} s")
                if built:
                    tests.append(pool.submit(test, name, suites, tally))
            for each in tests:
                each.result()
        finally:
            for child in list(RUNNING):  # of threads that would go on
                end(child)


def check_quickstart(tally):
    """The README's promise, word for word; the second run takes only the VM's time."""
    script = str(SOURCE / "scripts" / "quickstart")
    output = CACHE / "quickstart.out"
    times = []
    for attempt in ("first", "second"):
        start = time.monotonic()
        with output.open("wb") as out:
            status = run([script, "--", "sh", "-c", "echo hello-$(id -u); exit 7"], 900, stdout=out)
        times.append(time.monotonic() - start)
        text = output.read_text(encoding="utf-8", errors="replace")
        tally.step(f"quickstart runs a command in a VM ({attempt} run, {times[-1]:.0f} s)",
                   (status, text) == (7, "hello-0\n"), f"exit status {status}, output {text!r}\n{log_tail()}")


def host_run(*words):
    """Command line of what runs the scenarios, and what it finds in its environment."""
    build = CACHE / "quickstart"
    marker = CACHE / "quickstart.source"
    ours = build.is_dir() and marker.exists() and marker.read_text(encoding="utf-8").strip() == str(SOURCE)
    return (["/usr/bin/python3", str(SOURCE / "tests" / "host" / "run.py"), "--logs", str(CACHE / "host-logs"), *words],
            {"BANGER_TEST_PACKAGE": str(PACKAGE)} | ({"BANGER_TEST_PRODUCT": str(build)} if ours else {}))


@contextlib.contextmanager
def host_preparation():
    """Makes what the scenarios' hosts start from, on processors that builds and tests leave idle. What fails is tried again,
    and told, where it is wanted."""
    if "--no-host" in sys.argv[1:]:
        yield None
        return
    argv, env = host_run("--prepare")
    with (CACHE / "host-prepare.out").open("wb") as out:
        child = subprocess.Popen([*BEHIND, *argv], cwd=SOURCE, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 start_new_session=True, env=os.environ | env)
    try:
        yield child
    finally:
        end(child)


def say_host(what, text):
    """What the runner of scenarios says of its progress."""
    for line in text.splitlines():
        if line.startswith("# ["):
            say(f"{what}: {line[2:]}")


def check_host(tally, preparation):
    """The installed product on a host with systemd, polkit and device-mapper: a VM of its own."""
    output, logs = CACHE / "host.out", CACHE / "host-logs"
    with contextlib.suppress(subprocess.TimeoutExpired):
        preparation.wait(timeout=PREPARE_MINUTES * 60)
    end(preparation)
    say_host("beforehand", (CACHE / "host-prepare.out").read_text(encoding="utf-8", errors="replace"))
    minutes = int(min(HOST_MINUTES, (DEADLINE - time.monotonic()) / 60 - 5))
    if minutes < 5:
        tally.skipped.append(("host: all scenarios in the test host", "no time was left"))
        return
    argv, env = host_run("--minutes", str(minutes))
    shutil.rmtree(logs, ignore_errors=True)
    with output.open("wb") as out:
        status = run(argv, (minutes + 4) * 60, env, stdout=out)
    text = output.read_text(encoding="utf-8", errors="replace")
    say_host("host", text)
    skip = re.search(r"^1\.\.0 # SKIP (.*)", text, re.M)
    if skip:
        tally.skipped.append(("host", skip[1]))
        return
    tally.took += [(f"host: {name}", float(seconds)) for name, seconds in HOST_TOOK.findall(text)]
    count, failures = tally.add_tap("host", text)
    if not count or (status != 0 and not failures):
        tally.failed.append(("host: scenarios in the test host", f"exit status {status}\n{text[-6000:]}\n{log_tail()}"))


def main():
    CACHE.mkdir(parents=True, exist_ok=True)
    LOG.write_text("", encoding="utf-8")
    shutil.rmtree(PACKAGE, ignore_errors=True)
    PACKAGE.mkdir()
    tally = Tally()
    if root := devstack.cgroup2_root():
        harness.box.tidy(pathlib.Path(root))
    before = harness.snapshot_host()
    had_stack = os.path.isdir("/run/banger-stack")
    say("setting banger up: build, install, services, kernel, golden image")
    with tally.stage("quickstart"):
        ready = run([str(SOURCE / "scripts" / "quickstart"), "--prepare"], 1500) == 0
        tally.step("quickstart sets banger up", ready, log_tail())
        if ready:
            check_quickstart(tally)
    check_format(tally)
    with host_preparation() as preparation:
        with tally.stage("builds and tests"):
            check_builds(tally)
        if preparation:
            say("host: installing and trying it in a VM with systemd")
            with tally.stage("host: scenarios"):
                check_host(tally, preparation)
        else:
            tally.skipped.append(("host: all scenarios in the test host", "not wanted (--no-host)"))
    if not had_stack and not os.path.isdir("/run/systemd/system"):
        left = run([str(SOURCE / "scripts" / "dev-stack"), "down"], 120)
        tally.step("the development stack goes down and leaves nothing", left == 0, log_tail())
        lines = harness.difference(before, harness.snapshot_host())
        tally.step("taps, bridges, loops, dm devices, mounts, nft tables, cgroups, processes are as before", not lines,
                   "\n".join(lines))
    return report(tally)


PLACE = re.compile(r'File ".*/tests/(?:.*/)?([^/]+\.py)", line (\d+),')


def clipped(text):
    """A text that others are to be seen beside: all of it, or its beginning and its end; the log has all."""
    lines = text.splitlines()
    return text if len(lines) <= 40 else "\n".join(lines[:15] + [f"[{len(lines) - 35} lines]"] + lines[-20:])


def shortly(text):
    """The line of a failure's text that says most of it, and where in the tests it was."""
    lines = [line.lstrip("# ").strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"([\w.]*(Error|Exception|Expired|Interrupt)\b|\*\*|exit status|[A-Z]+ \(exit)", line)]
    places = [f"{match[1]}:{match[2]}: " for match in map(PLACE.match, lines) if match]
    return "".join(places[-3:]) + (named or lines or [""])[-1][:300]


def report(tally):
    """Failures with their text, skips with their reasons, and the line that counts."""
    for name, text in tally.failed:
        print(f"\nFAILED: {name}\n{clipped(text)}")
        with LOG.open("a", encoding="utf-8") as log:
            log.write(f"=== FAILED: {name}\n{text}\n")
    if tally.skipped:
        print("\nskipped:")
        for name, reason in tally.skipped:
            print(f"  {name}: {reason}")
    print("\nwhat took the time, in seconds (and of the processors'):")
    for name, seconds, used in tally.stages:
        print(f"  {seconds:6.0f} ({used:5.0f})  {name}")
    print(f"\nthe slowest {SLOWEST} of {len(tally.took)} programs and scenarios:")
    for name, seconds in sorted(tally.took, key=lambda row: -row[1])[:SLOWEST]:
        print(f"  {seconds:6.0f}  {name}")
    if tally.failed:
        print("\nfailed:")
        for name, text in tally.failed:
            print(f"  {name}: {shortly(text)}")
    print(f"\nlog: {LOG}")
    print(f"{len(tally.passed)} passed, {len(tally.failed)} failed, {len(tally.skipped)} skipped", flush=True)
    return 1 if tally.failed or not tally.passed else 0


DEADLINE = time.monotonic() + MINUTES * 60

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except devstack.StackError as error:
        print(f"check: {error}", file=sys.stderr)
        print("0 passed, 1 failed, 0 skipped")
        sys.exit(1)
