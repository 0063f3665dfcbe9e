"""A hundred VMs are created and deleted, and what the helper makes for a start made and released: no file, lease, descriptor or memory more than before."""

import json

from gi.repository import GLib

import wire

LONG = True
BATCH, BATCHES = 20, 6
LEAK = 16  # KiB with every batch: 1 for each call of the helper, a little less for each VM of the manager
ID = "aaaaaaaa0000"
# A VM that never ran needs nothing of the helper, so now and then it is asked for what a start takes. Each call is a client's
# of its own, as a program is.
CYCLES = f"""
for i in range({BATCH}):
    for name in ("create", "delete") + (("tap", "nat", "snapshot", "release", "disk") if i % 5 == 0 else ()):
        ask(*CALLS[name])
"""
# glibc's heap by the page, and one for all threads: what a process has is what it uses, mallopt(3).
EXACT = """for unit in system/bangerd-root user/bangerd; do mkdir -p /run/systemd/$unit.service.d
  printf '[Service]\\nEnvironment=MALLOC_ARENA_MAX=1 MALLOC_TOP_PAD_=0 MALLOC_TRIM_THRESHOLD_=0\\n' > /run/systemd/$unit.service.d/heap.conf; done
for manager in '' '--user -M dev@'; do systemctl $manager daemon-reload; done
systemctl restart bangerd-root; systemctl --user -M dev@ restart bangerd"""
# Descriptors and memory (KiB) of the helper and of the manager.
SIZES = """for pid in $(systemctl show -P MainPID bangerd-root) $(systemctl --user -M dev@ show -P MainPID bangerd); do
tr '\\0' '\\n' < /proc/$pid/environ | grep -qx MALLOC_ARENA_MAX=1 || exit
ls /proc/$pid/fd | wc -l; sed -n 's/^VmRSS:\\s*\\([0-9]*\\).*/\\1/p' /proc/$pid/status; done"""


def calls(image):
    one = wire.variant
    wait = {"wait": GLib.Variant("b", True)}
    return {
        "create": ("user", wire.MANAGER, "CreateVM", one("(sa{sv})", "cycle", wait | {"disk-bytes": GLib.Variant("t", 128 << 20)})),
        "delete": ("user", wire.MANAGER, "DeleteVM", one("(sa{sv})", "cycle", wait)),
        "tap": ("system", wire.HELPER, "CreateTap", one("(ssssa{sv})", ID, "br-fc", "10.213.0.1/24", "10.213.0.77", {})),
        "nat": ("system", wire.HELPER, "EnsureNat", one("(ssa{sv})", ID, "10.213.0.77", {})),
        "snapshot": ("system", wire.HELPER, "CreateSnapshot", one("(ssta{sv})", ID, image, 16 << 20, {"new": GLib.Variant("b", True)})),
        "release": ("system", wire.HELPER, "ReleaseVm", one("(sa{sv})", ID, {})),
        "disk": ("system", wire.HELPER, "DeleteDisk", one("(sa{sv})", ID, {})),
    }


def run(host):
    image = json.loads(host.banger("image", "list", "--json").stdout)[0]["id"]
    home, sizes, files = f"/var/lib/banger/$(id -u dev)/vms/{ID}", [], []
    host.sh(EXACT)
    host.sh(f"install -d -m 700 -o dev -g dev {home}")
    try:
        for batch in range(BATCHES):  # the first warms the caches
            host.as_owner("exec python3 -", timeout=300, stdin=wire.program(calls(image), CYCLES))
            sizes.append([int(n) for n in host.sh(SIZES).stdout.split()])
            if batch in (0, BATCHES - 1):
                files.append(host.inventory() + host.sh("find /var/lib/banger /run/banger | sort").stdout.splitlines())
    finally:
        host.sh(f"rm -rf {home}")
    assert files[0] == files[-1], set(files[0]) ^ set(files[-1])
    first, last = sizes[0], sizes[-1]
    assert last[0] <= first[0] and last[2] <= first[2], f"descriptors: {sizes}"
    # A leak grows with every batch; a thread's stack, or room for more callers to remember, comes once.
    for memory in (1, 3):
        growth = [after[memory] - before[memory] for before, after in zip(sizes[2:], sizes[3:])]
        assert min(growth) < LEAK, f"memory: {sizes}"
