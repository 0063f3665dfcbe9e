"""The root disk is a snapshot: the guest writes everywhere, the image stays as it was; what is full, busy or damaged is told."""

import json


CALL = "busctl call --json=short --timeout=200 org.banger.Privileged /org/banger/Privileged org.banger.Privileged "
ID = "feedfeedfeed"
# Of the allocated parts only: hashing the holes of a sparse file takes minutes under emulation.
DIGEST = """python3 - <<'END'
import glob, hashlib, os
for path in sorted(glob.glob("/var/lib/banger/*/images/*/rootfs.ext4")):
    digest, end, at = hashlib.sha256(), os.path.getsize(path), 0
    with open(path, "rb") as f:
        while at < end:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            hole = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            f.seek(at)
            digest.update(f"{at} {hole} ".encode())
            while at < hole:
                piece = f.read(min(1 << 20, hole - at))
                digest.update(piece)
                at += len(piece)
    print(path, digest.hexdigest())
END"""


# In the guest, in one go: once its disk is overwritten, only what is in memory can be run.
SCRIBBLE = """cp /bin/dd /run/dd
dd if=/dev/urandom of=/junk bs=1M count=32 2>/dev/null; sync; rm -rf /junk /usr/share; sync
/run/dd if=/dev/zero of=/dev/vda bs=1M count=32 oflag=direct 2>/dev/null
echo written everywhere; read -r line
/run/dd if=/dev/urandom of=/dev/vda bs=1M seek=64 count=48 oflag=direct conv=fsync 2>&1; echo status $?"""


def helper(host, call, check=True):
    return host.sh(CALL + call, user="dev", check=check)


def run(host):
    before = host.sh(DIGEST, timeout=300).stdout
    with host.vm("scribble"):
        vm = host.show("scribble")
        assert f"fc-rootfs-{vm['id']}" in host.sh("dmsetup ls").stdout
        with host.background(f"cd; rm -f go; mkfifo go; exec banger vm exec scribble -- sh -c '{SCRIBBLE}' <>go >said 2>&1", user="dev"):
            host.wait("grep -q '^written everywhere' /home/dev/said", 300)
            assert "Invalid" not in host.sh(f"dmsetup status fc-rootfs-{vm['id']}").stdout, "the snapshot overflowed"
            full(host)
        host.sh("rm /home/dev/go /home/dev/said")
        refused = helper(host, f"CheckSnapshot sa{{sv}} {vm['id']} 0", check=False)
        assert refused.returncode != 0 and "run" in refused.stderr, refused
        kept_node(host, vm)
    small(host)
    assert "fc-rootfs-" not in host.sh("dmsetup ls").stdout
    assert host.sh(DIGEST, timeout=300).stdout == before


def full(host):
    """The disk below the snapshot is full: the guest gets errors, the host goes on."""
    host.sh("free=$(df --output=avail -B1M /var/lib/banger | tail -1); fallocate -l $((free - 2))M /var/lib/filler; "
            "dd if=/dev/zero of=/var/lib/filler2 bs=64K 2>/dev/null; true", timeout=120)
    try:
        host.sh("echo >/home/dev/go")
        host.wait("grep -q '^status' /home/dev/said", 120)
        wrote = host.sh("cat /home/dev/said").stdout
        assert "status 1\n" in wrote and "error" in wrote, wrote
        helper(host, "ListLeases a{sv} 0")
        assert host.show("scribble")["state"] == "running"
    finally:
        host.sh("rm -f /var/lib/filler /var/lib/filler2")


# A node in the VMM's own root, held without opening the device; opened when somebody else's has been made.
KEEP = """import os, sys
fd = os.open("/proc/%d/root/rootfs", os.O_PATH)
print("node", os.minor(os.fstat(fd).st_rdev), flush=True)
input()
try:
    os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    print("opened", flush=True)
except OSError as e:
    print("errno", e.errno, flush=True)
"""


def kept_node(host, vm):
    """The owner keeps the VMM's node beyond the snapshot's end: it leads to no device that somebody else makes then."""
    removed = helper(host, f"RemoveSnapshot sa{{sv}} {vm['id']} 0", check=False)
    assert removed.returncode != 0 and "stop it first" in removed.stderr, removed
    host.put(KEEP % vm["pid"], "/home/dev/keep.py")
    with host.background("cd; rm -f go; mkfifo go; exec python3 keep.py <>go >said 2>&1", user="dev"):
        host.wait("grep -q '^node' /home/dev/said", 30)
        minor = int(host.sh("cat /home/dev/said").stdout.split()[1])
        host.banger("vm", "kill", "scribble")
        assert "fc-rootfs-" not in host.sh("dmsetup ls").stdout
        # The kernel's own choice, and enough of them to fill what was freed.
        names = [f"stranger{i}" for i in range(4)]
        host.sh("; ".join(f"dmsetup create {name} --table '0 8 zero'" for name in names))
        try:
            theirs = {int(m) for m in host.sh("dmsetup info -c --noheadings -o minor " + " ".join(names)).stdout.split()}
            host.sh("echo >/home/dev/go")
            host.wait("grep -Eq 'opened|errno' /home/dev/said", 30)
            said = host.sh("cat /home/dev/said").stdout
            assert minor not in theirs and minor >= 1 << 19 and "opened" not in said, (minor, theirs, said)
        finally:
            host.sh("; ".join(f"dmsetup remove {name}" for name in names))
    host.sh("rm -f /home/dev/go /home/dev/said /home/dev/keep.py")


def files(host, device):
    """Read, write and repair below the snapshot; a holder keeps it busy."""
    write = f"WriteFiles 'ssa(suay)a{{sv}}' {ID} snapshot 1 /etc/from-outside 420 3 111 107 10 0"
    read = f"ReadFile sssa{{sv}} {ID} snapshot /etc/from-outside 0"
    helper(host, write)
    assert json.loads(helper(host, read).stdout)["data"] == [[111, 107, 10]]
    held = """python3 -c 'import os, time; os.open("%s", os.O_RDONLY | os.O_EXCL); time.sleep(1000)'""" % device
    with host.background("exec " + held):
        host.wait(f"dmsetup info -c --noheadings -o open fc-rootfs-{ID} | grep -q 1", 10)
        for call in (read, write):
            refused = helper(host, call, check=False)
            assert refused.returncode != 0 and "busy" in refused.stderr, refused
    # The superblock's count of free blocks: the first check mends it, the second has nothing to do.
    host.sh(f"printf '\\377' | dd of={device} bs=1 seek=$((1024 + 12)) conv=notrunc 2>/dev/null; sync")
    for expected in ("repaired", "clean"):
        assert expected in helper(host, f"CheckSnapshot sa{{sv}} {ID} 0").stdout, expected
    assert json.loads(helper(host, read).stdout)["data"] == [[111, 107, 10]]


def small(host):
    """A snapshot without a VM, with little room."""
    image = json.loads(host.banger("image", "list", "--json").stdout)[0]["id"]
    home, device = f"/var/lib/banger/$(id -u dev)/vms/{ID}", f"/dev/mapper/fc-rootfs-{ID}"
    host.sh(f"install -d -m 700 -o dev -g dev {home}")
    try:
        made = helper(host, f"CreateSnapshot ssta{{sv}} {ID} {image} 16777216 0").stdout
        assert device in made, made
        assert "clean" in helper(host, f"CheckSnapshot sa{{sv}} {ID} 0").stdout
        files(host, device)
        with host.background(f"exec sleep 1000 < {device}"):
            host.wait(f"dmsetup info -c --noheadings -o open fc-rootfs-{ID} | grep -q 1", 10)
            busy = helper(host, f"RemoveSnapshot sa{{sv}} {ID} 0", check=False)
            assert busy.returncode != 0 and "busy" in busy.stderr, busy
        filled = host.sh(f"dd if=/dev/zero of={device} bs=1M count=64 oflag=direct", check=False)
        assert filled.returncode != 0, filled
        assert "Invalid" in host.sh(f"dmsetup status fc-rootfs-{ID}").stdout
        damaged = helper(host, f"CheckSnapshot sa{{sv}} {ID} 0", check=False)
        assert damaged.returncode != 0, damaged
        helper(host, f"RemoveSnapshot sa{{sv}} {ID} 0")
    finally:
        helper(host, f"ReleaseVm sa{{sv}} {ID} 0", check=False)
        host.sh(f"rm -rf {home}")
