#!/usr/bin/python3
"""Runs scenarios in the test host: builds it, installs banger there as a user would, runs each file of scenarios/.

Called by scripts/test-host run and by scripts/check; prints TAP.
Never leaves a QEMU, an ssh or a folder behind, however it ends.

A scenario is a file scenarios/NAME.py with a docstring (one line: what is shown) and `def run(host)`; see HACKING.md.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import testhost  # noqa: E402
from testhost import CACHE, HostError, OWNER, REPO, TestHost  # noqa: E402

SCENARIOS = pathlib.Path(__file__).resolve().parent / "scenarios"
# What a VM could leave behind, one line each. The bridge stays until `system uninstall`.
INVENTORY = r"""
ip -o link | awk '$2 != "br-fc:" {print "link", $2}' | sed 's/@.*//'
ip -o -4 addr | awk '$2 != "br-fc" {print "address", $2, $4}'
nft list tables | sed 's/^/nft /'
dmsetup ls 2>/dev/null | grep -v 'No devices' | sed 's/^/dm /'
losetup -l -n -O NAME,BACK-FILE | sed 's/^/loop /'
findmnt -rno TARGET | grep -v '/run/user' | sed 's/^/mount /'
find /sys/fs/cgroup -type d -path '*banger-vm-*' | sed 's/^/cgroup /'
systemctl list-units --all --plain --no-legend 'banger-vm-*' | sed 's/^/unit /'
pgrep -a 'qemu|banger-vmm|firecracker|jailer' | sed 's/^[0-9]*/process/'
cat /proc/sys/net/ipv4/ip_forward | sed 's/^/forward /'
find /run/banger -mindepth 1 | sed 's/^/run /'
find /var/lib/banger -mindepth 1 -maxdepth 3 | sed 's/^/state /'
find /var/lib/banger/jail | sed 's/^/state /'
ipcs -s | awk '$1 ~ /^0x0d4d/ {print "semaphore", $1}'
"""


class BangerHost(TestHost):
    """A test host on which banger is installed for OWNER."""

    def as_owner(self, script, user=OWNER, **options):
        return self.sh(f"export XDG_RUNTIME_DIR=/run/user/$(id -u); {script}", user=user, **options)

    def banger(self, *args, user=OWNER, check=True, timeout=300, stdin=None):
        return self.as_owner("exec banger " + shlex.join(args), user=user, check=check, timeout=timeout, stdin=stdin)

    def guest(self, name, script, check=True, timeout=120):
        """What a shell script prints in a running VM."""
        return self.banger("vm", "exec", name, "--", "sh", "-c", script, check=check, timeout=timeout).stdout

    @contextlib.contextmanager
    def vm(self, name, *options):
        """A running VM, deleted afterwards. One small CPU: that is what nested guests are quickest with here."""
        self.banger("vm", "run", "--name", name, "--vcpu", "1", "--memory", "256M", "--detach", *options)
        try:
            yield name
        finally:
            self.banger("vm", "delete", "--force", name, check=False)

    def show(self, name):
        return json.loads(self.banger("vm", "show", name, "--json").stdout)

    def names(self):
        return sorted(vm["name"] for vm in json.loads(self.banger("vm", "list", "--json").stdout))

    def inventory(self):
        return sorted(line for line in self.sh(INVENTORY, check=False).stdout.splitlines() if line)

    def compare(self, before):
        """Fails if there is more or less than before; a moment is given to what ends by itself."""
        deadline = time.monotonic() + 10
        while (after := self.inventory()) != before:
            if time.monotonic() > deadline:
                raise HostError(f"left behind: {sorted(set(after) - set(before))}, gone: {sorted(set(before) - set(after))}")
            time.sleep(0.5)

    def collect(self, folder, died=False):
        """Journal and console, for the report."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if not died:
            for name, script in (("journal", "journalctl --no-pager -o short-monotonic -n 4000"),
                                 ("guests", "tail -n 60 /var/lib/banger/*/vms/*/console.log")):
                with contextlib.suppress(HostError, subprocess.TimeoutExpired):
                    (folder / f"{name}.txt").write_text(self.sh(script, timeout=120, check=False).stdout)
        shutil.copy(self.console, folder / "console.log")


def load(name):
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), SCENARIOS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names():
    return sorted(p.stem for p in SCENARIOS.glob("*.py"))


def product(work, build):
    """What `meson install` makes, below a folder."""
    tree = work / "tree"
    argv = ["meson", "install", "-C", build, "--quiet"]
    if build == CACHE / "product-build":
        source = build / "banger-source"
        if not source.exists() or source.read_text(encoding="utf-8") != str(REPO):
            shutil.rmtree(build, ignore_errors=True)
            testhost.run("meson", "setup", build, REPO, "--prefix=/usr/local", "-Dtests=false", stdout=subprocess.DEVNULL)
            source.write_text(str(REPO), encoding="utf-8")
    else:
        argv.append("--no-rebuild")
    testhost.run(*argv, env={**os.environ, "DESTDIR": str(tree)}, stdout=subprocess.DEVNULL, timeout=1200)
    return tree


def tree_digest(tree):
    digest = hashlib.sha256()
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(tree)} {path.stat().st_mode} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Panic(str):
    """Why a scenario failed, if it was the test host that failed."""


class Runner:
    def __init__(self, logs, jobs):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix=f"banger-host-{os.getpid()}-", dir="/var/tmp"))
        self.logs, self.jobs, self.hosts, self.prepared = logs, jobs, [], None
        self.print_lock, self.number, self.stopping = threading.Lock(), 0, False
        self.boot_lock, self.shared, self.dead, self.boots = threading.Lock(), None, False, 0

    def say(self, text):
        with self.print_lock:
            print(f"# [{time.strftime('%H:%M:%S')}] {text}", flush=True)

    def host(self, name, disk=None):
        host = BangerHost(self.host_folder, self.work / name, disk=disk or (self.prepared / "disk.qcow2", "qcow2"),
                          guest=self.guest)
        self.hosts.append(host)
        return host

    def boot(self, name, disk=None):
        host = self.host(name, disk)
        started = time.monotonic()
        host.boot()
        self.say(f"{name}: the host is up after {time.monotonic() - started:.0f} s")
        return host

    def install(self, tree):
        """Copies the product in and does what README says; then the kernel and the image come in as files."""
        host = self.boot("install", disk=(self.host_folder / "root.ext4", "raw"))
        try:
            host.put_tree(tree)
            host.sh(f"banger system install --owner {OWNER}", timeout=180)
            for what, name in (("kernel", "kernel.deb"), ("image", "image.tar")):
                started = time.monotonic()
                host.banger(what, "import", "default", f"/media/guest/{name}", timeout=600)
                self.say(f"{what} import took {time.monotonic() - started:.0f} s in the host")
        except Exception:
            host.collect(self.logs / "install")
            raise
        host.power_off()
        return host.overlay

    def prepare(self, build):
        """The disk on which every host of this run is based."""
        self.host_folder = testhost.build(self.say)
        guest_folder = testhost.build_guest(self.say)
        self.guest = guest_folder / "guest.ext4"
        tree = product(self.work, build)

        def make(folder):
            os.replace(self.install(tree), folder / "disk.qcow2")

        name = testhost.digest(tree_digest(tree), self.host_folder.name, guest_folder.name, 1)
        self.prepared = testhost.cached(f"prepared-{name}", make, self.say)
        shutil.rmtree(tree)

    def one(self, name, shared):
        """None, or why it failed. @shared: whether it runs on the shared host."""
        host = None
        if self.stopping:
            return "the run was ended"
        try:
            scenario = load(name)
            host = self.shared_host() if shared else self.boot(name)
            before = host.inventory()
            scenario.run(host)
            if shared and self.jobs == 1:
                host.compare(before)
            return None
        except Exception:
            why = traceback.format_exc()
            if not host or not host.process:
                return why
            died = host.died()
            self.dead = self.dead or (died and shared)
            host.collect(self.logs / name, died)
            return Panic(why) if died else why
        finally:
            if host and not shared:
                host.power_cut()
                shutil.rmtree(host.run, ignore_errors=True)

    def shared_host(self):
        """Booted by the first that needs it, and anew when its kernel died."""
        with self.boot_lock:
            if not self.shared or self.dead:
                if self.shared:
                    self.shared.power_cut()
                self.dead = False
                self.boots += 1
                self.shared = self.boot(f"shared{self.boots}")
            return self.shared

    def report(self, name, started, why):
        """One line of TAP, and before it why it failed."""
        with self.print_lock:
            self.number += 1
            for line in (why or "").splitlines()[-40:]:
                print(f"#   {line[:2000]}")
            if why:
                print(f"#   journal and consoles, if the host came up: {self.logs}")
            lost = isinstance(why, Panic)  # says nothing about banger: neither passed nor failed
            print(f"{'not ok' if why and not lost else 'ok'} {self.number} - {name}"
                  + (" # SKIP the test host itself died under emulation, three times" if lost else ""))
            print(f"# [{time.strftime('%H:%M:%S')}] {name}: {time.monotonic() - started:.0f} s", flush=True)
        return bool(why) and not isinstance(why, Panic)

    def timed(self, name, shared=False):
        started = time.monotonic()
        why = self.one(name, shared)
        for _ in range(2):
            if isinstance(why, Panic):
                self.say(f"{name}: the test host itself died under emulation; once more on a new one")
                shutil.rmtree(self.work / name, ignore_errors=True)
                why = self.one(name, shared)
        return self.report(name, started, why)

    def run_shared(self, wanted):
        """Scenarios on one host: those that may be side by side first, then each that needs it for itself."""
        if not wanted:
            return 0
        alone = [name for name in wanted if self.jobs == 1 or getattr(load(name), "ALONE", False)]
        together = [name for name in wanted if name not in alone]
        failed = 0
        if together:
            host = self.shared_host()
            before, started = host.inventory(), time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
                failed += sum(pool.map(lambda name: self.timed(name, True), together))
            why = None
            try:
                host.compare(before)
            except HostError as error:
                why = str(error)
            failed += self.report("nothing is left by the scenarios that ran side by side", started, why)
        failed += sum([self.timed(name, True) for name in alone])
        if self.shared:
            self.shared.power_cut()
        return failed

    def run(self, wanted, build):
        started = time.monotonic()
        try:
            self.prepare(build)
        except Exception:
            return self.report("installation in the test host", started, traceback.format_exc())
        failed = self.report("installation in the test host", started, None)
        fresh = [name for name in wanted if getattr(load(name), "FRESH", False)]
        failed += self.run_shared([name for name in wanted if name not in fresh])
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            failed += sum(pool.map(self.timed, fresh))
        print(f"1..{self.number}", flush=True)
        return failed

    def on_sigterm(self, *_):
        """Ends the QEMUs first: whoever waits for one then fails at once."""
        self.stopping = True
        self.close()
        sys.exit(143)

    def close(self):
        for host in self.hosts:
            with contextlib.suppress(Exception):
                host.power_cut()
        shutil.rmtree(self.work, ignore_errors=True)


def sweep():
    """Folders of runs that were killed; their QEMUs ended with them."""
    for folder in pathlib.Path("/var/tmp").glob("banger-host-*-*"):
        match = re.match(r"banger-host-(\d+)-", folder.name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--logs", type=pathlib.Path, default=pathlib.Path("/var/tmp/banger-test-host-logs"),
                        help="where journals and consoles of failed scenarios go")
    parser.add_argument("--build", type=pathlib.Path, default=CACHE / "product-build",
                        help="a finished build to install (prefix /usr/local); without it one is made")
    parser.add_argument("scenario", nargs="*")
    args = parser.parse_args()
    if args.list:
        for name in names():
            print(f"{name}: {load(name).__doc__.strip().splitlines()[0]}")
        return 0
    for tool in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs", "ssh", "setpriv"):
        if not shutil.which(tool):
            print(f"1..0 # SKIP {tool} is missing")
            return 0
    unknown = set(args.scenario) - set(names())
    if unknown:
        print(f"no such scenario: {', '.join(sorted(unknown))}; known: {', '.join(names())}", file=sys.stderr)
        return 2
    sweep()
    runner = Runner(args.logs, max(1, int(os.environ.get("JOBS", "1"))))
    signal.signal(signal.SIGTERM, runner.on_sigterm)
    try:
        return 1 if runner.run(args.scenario or names(), args.build) else 0
    finally:
        runner.close()


if __name__ == "__main__":
    sys.exit(main())
