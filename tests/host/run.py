#!/usr/bin/python3
"""Runs scenarios in the test host: builds it, installs banger there as a user would, runs each file of scenarios/.

Called by scripts/test-host run and by scripts/check; prints TAP.
Never shares a test host between two runs.

A scenario is a file scenarios/NAME.py with a docstring (one line: what is shown) and `def run(host)`. `host` is a
BangerHost: sh(), banger(), inventory(). FRESH = True asks for a host of its own, NEEDS = ["vm"] for kernel and image.
"""

import argparse
import importlib.util
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import testhost  # noqa: E402
from testhost import HostError, OWNER, REPO, TestHost  # noqa: E402

SCENARIOS = pathlib.Path(__file__).resolve().parent / "scenarios"
INVENTORY = r"""
ip -o link | awk '{print "link", $2}' | sed 's/@.*//'
nft list tables | sed 's/^/nft /'
dmsetup ls 2>/dev/null | grep -v 'No devices' | sed 's/^/dm /'
losetup -l -n -O NAME,BACK-FILE | sed 's/^/loop /'
findmnt -rno TARGET | grep -v '/run/user' | sed 's/^/mount /'
find /sys/fs/cgroup -type d -path '*banger-vm-*' | sed 's/^/cgroup /'
pgrep -a 'qemu|banger-vmm|firecracker|jailer' | sed 's/^[0-9]*/process/'
cat /proc/sys/net/ipv4/ip_forward | sed 's/^/forward /'
"""


class BangerHost(TestHost):
    """A test host on which banger is installed for OWNER."""

    def as_owner(self, script, user=OWNER, **options):
        return self.sh(f"export XDG_RUNTIME_DIR=/run/user/$(id -u); {script}", user=user, **options)

    def banger(self, *args, user=OWNER, check=True, timeout=300, stdin=None):
        return self.as_owner("exec banger " + shlex.join(args), user=user, check=check, timeout=timeout, stdin=stdin)

    def inventory(self):
        """What a VM could leave behind, one line each."""
        return sorted(line for line in self.sh(INVENTORY, check=False).stdout.splitlines() if line)

    def install(self, tree):
        self.put_tree(tree)
        self.sh(f"systemctl daemon-reload && systemctl reload dbus && loginctl enable-linger {OWNER}"
                f" && /usr/local/bin/banger system install --owner {OWNER}", timeout=180)

    def bring_guest(self, guest):
        """Kernel and image that were made on another machine come in as files."""
        for name in ("vmlinux-package.deb", "image.tar.zst"):
            self.put_file(guest / name, f"/home/{OWNER}/{name}", user=OWNER)
        self.banger("kernel", "import", "default", f"/home/{OWNER}/vmlinux-package.deb", timeout=300)
        self.banger("image", "import", "default", f"/home/{OWNER}/image.tar.zst", timeout=600)

    def collect(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            (folder / "journal.txt").write_text(self.sh("journalctl -b --no-pager -o short-monotonic", timeout=120).stdout)
        except Exception as why:  # the host may be gone: say so, keep the console
            (folder / "journal.txt").write_text(f"not to be had: {why}\n")
        shutil.copy(self.console, folder / "console.log")


def load(name):
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), SCENARIOS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names():
    return sorted(p.stem for p in SCENARIOS.glob("*.py"))


def product(work):
    """What `meson install` makes, below a folder."""
    tree, build = work / "tree", testhost.CACHE / "product-build"
    if not (build / "build.ninja").exists():
        testhost.run("meson", "setup", build, REPO, "--prefix=/usr/local", "-Dtests=false", stdout=subprocess.DEVNULL)
    testhost.run("meson", "install", "-C", build, "--quiet", env={**os.environ, "DESTDIR": str(tree)}, stdout=subprocess.DEVNULL)
    return tree


def guest_files(say):
    """A kernel package and a golden image as files, made here once."""
    folder = testhost.CACHE / "guest"
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    say("fetching the guest's kernel package and making its image")
    testhost.run(REPO / "tests/host/make-guest", folder, stdout=subprocess.DEVNULL)
    (folder / "done").touch()
    return folder


class Runner:
    def __init__(self, keep_logs):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="banger-host-", dir="/var/tmp"))
        self.logs, self.shared = keep_logs, None
        self.say = lambda text: print(f"# {text}", flush=True)

    def boot(self, name, needs):
        host = BangerHost(testhost.build(self.say), self.work / name)
        started = time.monotonic()
        host.boot()
        self.say(f"{name}: host up after {time.monotonic() - started:.0f} s")
        host.install(self.tree)
        if "vm" in needs:
            host.bring_guest(guest_files(self.say))
        return host

    def one(self, name):
        scenario = load(name)
        fresh, needs = getattr(scenario, "FRESH", False), getattr(scenario, "NEEDS", ["vm"])
        host = None
        try:
            if fresh:
                host = self.boot(name, needs)
            else:
                self.shared = self.shared or self.boot("shared", ["vm"])
                host = self.shared
            before = host.inventory()
            scenario.run(host)
            if not fresh:
                after = host.inventory()
                if before != after:
                    raise HostError(f"left behind: {sorted(set(after) - set(before))}, gone: {sorted(set(before) - set(after))}")
            return None
        except Exception:
            if host and host.process:
                host.collect(self.logs / name)
            return traceback.format_exc()
        finally:
            if fresh and host and host.process:
                host.power_off()

    def run(self, wanted):
        self.tree = product(self.work)
        print(f"1..{len(wanted)}", flush=True)
        failed = 0
        try:
            for number, name in enumerate(wanted, 1):
                started = time.monotonic()
                why = self.one(name)
                failed += why is not None
                print(f"{'not ok' if why else 'ok'} {number} - host/{name} # {time.monotonic() - started:.0f} s", flush=True)
                for line in (why or "").splitlines():
                    print(f"#   {line}", flush=True)
        finally:
            if self.shared and self.shared.process:
                self.shared.power_off()
            shutil.rmtree(self.work, ignore_errors=True)
        return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--logs", type=pathlib.Path, default=pathlib.Path("/var/tmp/banger-host-logs"))
    parser.add_argument("scenario", nargs="*")
    args = parser.parse_args()
    if args.list:
        for name in names():
            print(f"{name}: {load(name).__doc__.strip().splitlines()[0]}")
        return 0
    for tool in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs", "ssh"):
        if not shutil.which(tool):
            print(f"1..0 # SKIP {tool} is missing")
            return 0
    unknown = set(args.scenario) - set(names())
    if unknown:
        print(f"no such scenario: {', '.join(sorted(unknown))}; known: {', '.join(names())}", file=sys.stderr)
        return 2
    return 1 if Runner(args.logs).run(args.scenario or names()) else 0


if __name__ == "__main__":
    sys.exit(main())
