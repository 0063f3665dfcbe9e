#!/usr/bin/python3
"""Runs scenarios in the test host: builds it, installs banger there as a user would, runs each file of scenarios/.

Called by scripts/test-host run and by scripts/check; prints TAP.
Never leaves a QEMU, an ssh or a folder behind, however it ends.

A scenario is a file scenarios/NAME.py with a docstring (one line: what is shown) and `def run(host)`; see HACKING.md.
"""

import argparse
import concurrent.futures
import contextlib
import fcntl
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


# What an installation could leave on the host. Left out: what systemd, udev and logins write by themselves.
LISTING = r"""
find /boot /etc /home /lib /opt /run /srv /usr /var -xdev \( -path /run/user -o -path '/run/systemd/*' -o -path '/run/udev/*' \
  -o -path /var/lib/systemd/timers -o -path /var/lib/private -o -path '/var/log/journal/*' -o -path /var/log/dpkg.log -o -path '/var/tmp/systemd-private-*' \) -prune -o -print | sort
ip -o link | awk '{print "link", $2}'; nft list tables; dmsetup ls; losetup -l -n -O NAME,BACK-FILE; cat /proc/sys/net/ipv4/ip_forward
systemctl list-unit-files --no-legend --no-pager | awk '{print "unit", $1, $2}' | grep -v '\.scope'
systemctl list-units --plain --no-legend 'banger*' | awk '{print $1}'; pgrep -a 'qemu|bangerd|banger-vmm'
loginctl list-users --no-legend | awk '$2 != "root" {print "user", $2}'; ls /var/lib/systemd/linger; getent passwd; getent group
"""
NEVER = "/root/never-installed"  # the listing of the host before anything of banger's was on it
PRODUCT_BUILD = CACHE / "product-build"
PRODUCT = "/root/product"  # what `meson install` put there, children before their folder
WORK = "banger-host-run-"  # what the names of runs' folders in /var/tmp begin with
MAX_JOBS = 4
SMALL = ("--vcpu", "1", "--memory", "256M")
# What a host is saved with for scenarios whose subject is no VM's start: a boot takes half a minute here. They name those that
# they want in THERE.
VMS = {"web": (), "closed": ("--no-nat",)}


class BangerHost(TestHost):
    """A test host on which banger is installed for OWNER."""

    there = frozenset()  # names of VMs that it was saved with

    def as_owner(self, script, user=OWNER, **options):
        return self.sh(f"export XDG_RUNTIME_DIR=/run/user/$(id -u); {script}", user=user, **options)

    def banger(self, *args, user=OWNER, check=True, timeout=300, stdin=None):
        return self.as_owner("exec banger " + shlex.join(args), user=user, check=check, timeout=timeout, stdin=stdin)

    def guest(self, name, script, check=True, timeout=120):
        """What a shell script prints in a running VM."""
        return self.banger("vm", "exec", name, "--", "sh", "-c", script, check=check, timeout=timeout).stdout

    @contextlib.contextmanager
    def vm(self, name, *options):
        """A running VM, deleted afterwards: one that the host was saved with, or a new one. One small CPU: that is what nested
        guests are quickest with here."""
        if name not in self.there:
            self.banger("vm", "run", "--name", name, *SMALL, "--detach", *options, timeout=900)
        self.there -= {name}
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

    def listing(self):
        return self.sh(LISTING, check=False, timeout=120).stdout.splitlines()

    def remove_product(self):
        """Takes away what `meson install` put there, as `ninja uninstall` would."""
        self.sh(f"while read -r path; do rm -d \"$path\"; done < {PRODUCT}; systemctl daemon-reload")
        self.disconnect()

    def compare_never(self):
        """Fails unless the host is as one on which banger never was."""
        self.disconnect()  # logins keep a user's manager for a while
        self.wait(f"! loginctl list-users --no-legend | grep -qw {OWNER}", 60)
        never, now = set(self.sh(f"cat {NEVER}").stdout.splitlines()), set(self.listing())
        keys = f"/home/{OWNER}/.config"  # the owner's own: root touches no home
        left, gone = sorted(now - never), sorted(never - now)
        left = [line for line in left if line != keys and not line.startswith(f"{keys}/banger")]
        assert not left and not gone, (left, gone)

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


def product(work):
    """What `meson install` makes, below a folder. The build is the one that scripts/check names, or this clone's own:
    quickstart's may be another clone's."""
    build, tree = pathlib.Path(os.environ.get("BANGER_TEST_PRODUCT", PRODUCT_BUILD)), work / "tree"
    source = build / "banger-source"
    if build == PRODUCT_BUILD and (not source.exists() or source.read_text(encoding="utf-8") != str(REPO)):
        shutil.rmtree(build, ignore_errors=True)
        testhost.run("meson", "setup", build, REPO, "--prefix=/usr/local", "-Dtests=false", stdout=subprocess.DEVNULL)
        source.write_text(str(REPO), encoding="utf-8")
    testhost.run("meson", "install", "-C", build, "--quiet", env={**os.environ, "DESTDIR": str(tree)},
                 stdout=subprocess.DEVNULL, timeout=1200)
    return tree


def tree_digest(tree):
    digest = hashlib.sha256()
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(tree)} {path.stat().st_mode} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Lost(str):
    """Why a scenario says nothing about banger: it is neither passed nor failed."""


DIED = "the test host itself died under emulation"
# Guests of an emulated host, some of them at once: slower than any that people wait for.
INSTALL_TOML = "\n[limits]\nguest-seconds = 900\n"
FIRECRACKER = "/usr/local/libexec/firecracker"
FIRECRACKER_TOML = f"""
[engine]
use = "firecracker"

[engine.firecracker]
vmm = "{FIRECRACKER}/firecracker"
jailer = "{FIRECRACKER}/jailer"
"""


class Runner:
    def __init__(self, logs, jobs=1):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix=WORK, dir="/var/tmp"))
        self.in_use = os.open(self.work, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self.in_use, fcntl.LOCK_EX)
        self.logs, self.jobs, self.engine, self.number = logs, jobs, "qemu", 0
        self.hosts, self.booted, self.prepared, self.guest, self.host_folder = [], None, None, None, None
        self.made, self.makers = {}, concurrent.futures.ThreadPoolExecutor(1)  # of the product, and of scenarios' outside()
        self.lock, self.print_lock = threading.Lock(), threading.Lock()
        self.used = {}  # name of a scenario: seconds of the processors that its hosts took
        self.over = None  # why nothing is begun any more

    def say(self, text):
        with self.print_lock:
            print(f"# [{time.strftime('%H:%M:%S')}] {text}", flush=True)

    def host(self, name, machine, there=()):
        """One that goes on from a saved @machine, @there: names of VMs that run in it; None: one to be booted."""
        if self.over:
            raise HostError(self.over)
        disk = (machine / "disk.qcow2", "qcow2") if machine else None
        host = BangerHost(self.host_folder, self.work / name, disk=disk, guest=self.guest, machine=machine)
        host.there = frozenset(there)
        self.hosts.append(host)
        return host

    def boot(self, host, **options):
        started = time.monotonic()
        host.boot(**options)
        self.say(f"{host.run.name}: the host is up after {time.monotonic() - started:.0f} s")
        return host

    def drop(self, host):
        host.power_cut()
        shutil.rmtree(host.run, ignore_errors=True)

    # What every host of this run starts from

    def boot_bare(self, folder):
        host = self.boot(self.host("bare", None), keep_memory=True)
        self.save(host, folder)

    @staticmethod
    def save(host, folder, go_on=False):
        host.sh("loginctl terminate-user root", check=False)  # no session goes on in the copies
        host.save(folder, go_on)

    def install(self, tree, folder):
        """Copies the product in and does what README says; then the kernel and the image come in as files. Every scenario
        goes on from there."""
        host = self.boot(self.host("install", self.booted), keep_memory=True)
        try:
            if self.engine == "firecracker":
                host.put_tree(self.firecracker())  # no part of banger's installation
            never = host.listing()
            host.put("\n".join(never), NEVER)
            host.put("".join(f"{path}\n" for path in self.paths(tree) if path not in never), PRODUCT)
            host.put_tree(tree)
            host.sh(f"banger system install --owner {OWNER}", timeout=180)
            host.put(INSTALL_TOML + (FIRECRACKER_TOML if self.engine == "firecracker" else ""), "/run/more.toml")
            host.sh("cat /run/more.toml >> /etc/banger/install.toml; rm /run/more.toml; banger system restart")
            for what, name in (("kernel", "kernel.deb"), ("image", "image.tar")):
                started = time.monotonic()
                host.banger(what, "import", "default", f"/media/guest/{name}", timeout=600)
                self.say(f"{what} import took {time.monotonic() - started:.0f} s in the host")
            self.save_with_vms(host, folder / "vms")
            (folder / "inventory").write_text("\n".join(host.inventory()))
            self.save(host, folder)
        except Exception:
            host.collect(self.logs / "install")
            raise

    def save_with_vms(self, host, folder):
        """A second start, for scenarios that want VMs. What they read is in memory afterwards, and modules of the host's
        kernel are loaded: nothing is as slow again."""
        folder.mkdir()
        for name, options in VMS.items():
            started = time.monotonic()
            first = ("vm", "run", "--name", name, *SMALL, "--detach", *options)
            if host.banger(*first, check=False, timeout=900).returncode != 0:
                self.say(f"{name} failed; again")
                host.banger("vm", "delete", "--force", name, check=False)
                host.banger(*first, timeout=900)
            self.say(f"{name} took {time.monotonic() - started:.0f} s")
        self.save(host, folder, go_on=True)
        host.banger("vm", "delete", "--force", *VMS)
        host.wait("! dmsetup ls | grep -q fc- && ! ls -d /sys/fs/cgroup/banger.slice/banger-vm-* >/dev/null 2>&1 && [ -z \"$(ls /run/banger/leases)\" ]", 60)

    @staticmethod
    def paths(tree):
        return sorted(("/" + str(path.relative_to(tree)) for path in tree.rglob("*")), reverse=True)

    def firecracker(self):
        """This machine's programs, at the place that the metadata of the test host's installation names."""
        tree = self.work / "firecracker"
        (tree / FIRECRACKER[1:]).mkdir(parents=True, exist_ok=True)
        for name in ("firecracker", "jailer"):
            shutil.copy(shutil.which(name), tree / FIRECRACKER[1:] / name)
            (tree / FIRECRACKER[1:] / name).chmod(0o755)
        return tree

    def prepare(self, wanted=()):
        """The hosts' common start; what scenarios @wanted take from outside is made meanwhile, after the product."""
        building = self.makers.submit(product, self.work)
        for name in wanted:
            if hasattr(load(name), "outside") and name not in self.made:
                (self.work / f"{name}.outside").mkdir()
                self.made[name] = self.makers.submit(load(name).outside, self.work / f"{name}.outside")
        self.host_folder = testhost.build(self.say)
        guest_folder = testhost.build_guest(self.say)
        self.guest = guest_folder / "guest.ext4"
        qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
        bare = testhost.digest(qemu, testhost.SCHEDULER, testhost.QEMU_CPUS, testhost.identity(self.host_folder),
                               testhost.identity(guest_folder), 1)
        self.booted = testhost.cached(f"booted-{bare}", self.boot_bare, self.say)
        tree = building.result()

        def make(folder):
            self.install(tree, folder)

        engine = tree_digest(self.firecracker()) if self.engine == "firecracker" else ""
        name = testhost.digest(tree_digest(tree), engine, LISTING, INSTALL_TOML, testhost.identity(self.booted), list(VMS.items()), 6)
        self.prepared = testhost.cached(f"prepared-{self.engine}-{name}", make, self.say)
        shutil.rmtree(tree)

    # Scenarios

    def attempt(self, name):
        """None, or why it failed."""
        module, host, why = load(name), None, None
        try:
            there = getattr(module, "THERE", ())
            host = self.host(name, self.prepared / "vms" if there else self.prepared, there)
            self.boot(host)
            if name in self.made:
                host.outside = self.made[name].result()
            if there and set(there) != set(VMS):
                host.banger("vm", "delete", "--force", *(set(VMS) - set(there)))
            host.clean = (self.prepared / "inventory").read_text().splitlines()
            module.run(host)
            if not getattr(module, "GONE", False):
                host.compare(host.clean)
        except Exception:
            why = Lost(self.over) if self.over else traceback.format_exc()
            if host and host.process and not self.over:
                why = Lost(DIED) if host.died() else why
                host.collect(self.logs / name, isinstance(why, Lost))
        if host:
            self.drop(host)
            self.used[name] = self.used.get(name, 0) + host.used
        return why

    def scenario(self, name):
        """Runs one and reports it. Returns whether it failed."""
        started = time.monotonic()
        for _ in range(3):
            why = Lost(self.over) if self.over else self.attempt(name)
            if why != DIED:
                break
            self.say(f"{name}: {DIED}; once more on a new one")
        return self.report(name, started, why)

    def report(self, name, started, why):
        """One line of TAP, and before it why it failed. Returns whether it did."""
        lost, used = isinstance(why, Lost), self.used.pop(name, None)
        name = name if self.engine == "qemu" else f"{self.engine}: {name}"
        with self.print_lock:
            self.number += 1
            if why and not lost:
                for line in why.splitlines()[-40:]:
                    print(f"#   {line[:2000]}")
                print(f"#   journal and consoles, if the host came up: {self.logs}")
            print(f"{'not ok' if why and not lost else 'ok'} {self.number} - {name}" + (f" # SKIP {why}" if lost else ""))
            print(f"# [{time.strftime('%H:%M:%S')}] {name}: {time.monotonic() - started:.0f} s"
                  + (f" (of a processor's {used:.0f})" if used is not None else ""), flush=True)
        return bool(why) and not lost

    def run(self, wanted, engine="qemu"):
        """How many failed with that engine."""
        started, why, self.engine = time.monotonic(), None, engine
        try:
            self.prepare(wanted)
        except Exception:
            why = Lost(self.over) if self.over else traceback.format_exc()
        failed = self.report("installation in the test host", started, why)
        if failed:
            return failed
        order = sorted(wanted, key=lambda name: not getattr(load(name), "LONG", False))
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            return failed + sum(pool.map(self.scenario, order))

    def end(self, why):
        """Nothing is begun any more, and what runs fails at once: its host is gone."""
        self.over = why
        for host in self.hosts:
            with contextlib.suppress(Exception):
                host.power_cut()

    def on_sigterm(self, *_):
        self.end("the run was ended")
        sys.exit(143)

    def close(self):
        self.end("the run is over")
        self.makers.shutdown(cancel_futures=True)
        shutil.rmtree(self.work, ignore_errors=True)


def jobs():
    """How many hosts run at once: one for each processor, as far as the memory goes."""
    if "JOBS" in os.environ:
        return max(1, int(os.environ["JOBS"]))
    available = int(re.search(r"MemAvailable:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text(encoding="ascii"))[1])
    return max(1, min(len(os.sched_getaffinity(0)), available // 1024 // testhost.QEMU_MEMORY_MIB, MAX_JOBS))


def sweep():
    """Folders of runs that were killed, whose locks and QEMUs ended with them: a process's number says nothing of one that is
    in another namespace."""
    for folder in pathlib.Path("/var/tmp").glob(f"{WORK}*"):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--logs", type=pathlib.Path, default=pathlib.Path("/var/tmp/banger-test-host-logs"),
                        help="where journals and consoles of failed scenarios go")
    parser.add_argument("--minutes", type=int, default=120, help="what is not done by then is skipped, and said to be")
    parser.add_argument("--prepare", action="store_true", help="only make what each scenario's host starts from, and keep it")
    parser.add_argument("--engine", choices=("qemu", "firecracker"), help="only with this one; else with both, if there are both")
    parser.add_argument("scenario", nargs="*")
    args = parser.parse_args()
    firecracker = bool(shutil.which("firecracker") and shutil.which("jailer"))
    if args.engine == "firecracker" and not firecracker:
        parser.error("firecracker and jailer are not both on PATH")
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
    runner = Runner(args.logs, jobs())
    signal.signal(signal.SIGTERM, runner.on_sigterm)
    watch = threading.Timer(args.minutes * 60, runner.end, [f"not done within {args.minutes} minutes"])
    watch.daemon = True
    watch.start()
    wanted = [] if args.prepare else args.scenario or names()
    try:
        failed = 0
        for engine in [args.engine] if args.engine else ("qemu", "firecracker"):
            if engine == "qemu" or firecracker:
                failed += runner.run(wanted, engine)
            else:
                runner.say("firecracker and jailer are not both on PATH: scenarios ran with QEMU on nested KVM only")
        print(f"1..{runner.number}", flush=True)
        return 1 if failed else 0
    finally:
        watch.cancel()
        runner.close()


if __name__ == "__main__":
    sys.exit(main())
