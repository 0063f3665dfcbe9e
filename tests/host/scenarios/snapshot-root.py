"""The root disk is a snapshot: the guest writes everywhere, the image stays as it was; what is full, busy or damaged is told."""

import json

LONG = True
THERE = ("web",)
CALL = "busctl call --json=short --timeout=200 org.banger.Privileged /org/banger/Privileged org.banger.Privileged "
ID = "feedfeedfeed"
# Of the allocated parts only: hashing the holes of a sparse file takes minutes under emulation. With Python's own hash: it
# goes by words, and nobody here looks for one that collides.
DIGEST = """PYTHONHASHSEED=1 python3 - <<'END'
import glob, os
for path in sorted(glob.glob("/var/lib/banger/*/images/*/rootfs.ext4")):
    digest, end, at = 0, os.path.getsize(path), 0
    with open(path, "rb") as f:
        while at < end:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            hole = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            f.seek(at)
            digest = hash((digest, at, hole))
            while at < hole:
                piece = f.read(min(1 << 20, hole - at))
                digest = hash((digest, piece))
                at += len(piece)
    print(path, digest)
END"""


# In the guest. Its root disk, programs and libraries with it, is overwritten below it, so this stays in memory, and what it does
# is seen from the host: an sshd that had yet to read one of its own pages would end, and what is said through it with it.
SCRIBBLE = r"""cat >/run/scribble <<'END'
use Fcntl;
syscall(151, 3) == 0 or die "mlockall: $!";
sysopen(my $disk, "/dev/vda", O_WRONLY | O_SYNC) or die "vda: $!";
my $zeros = "\0" x (1 << 20);
open(my $random, "<", "/dev/urandom") or die "urandom: $!";
sysread($random, my $noise, 1 << 20) == 1 << 20 or die "urandom: $!";
for (1 .. 16) { syswrite($disk, $zeros) == 1 << 20 or die "zeros: $!" }
for my $at (64 .. 1500) {
    sysseek($disk, $at << 20, 0);
    defined(syswrite($disk, $noise)) or die "refused: $!";
    select(undef, undef, undef, 0.2);
}
END
dd if=/dev/urandom of=/junk bs=1M count=16 2>/dev/null; sync; rm -rf /junk /usr/share/doc /usr/share/locale; sync
systemd-run -q perl /run/scribble"""


def helper(host, call, check=True):
    return host.sh(CALL + call, user="dev", check=check)


def run(host):
    before = host.sh(DIGEST, timeout=300).stdout
    with host.vm("web"):
        vm = host.show("web")
        assert f"fc-rootfs-{vm['id']}" in host.sh("dmsetup ls").stdout
        host.put(SCRIBBLE, "/home/dev/scribble")
        host.sh("banger vm exec web -- sh -s </home/dev/scribble; rm /home/dev/scribble", user="dev", timeout=200)
        status = f"dmsetup status fc-rootfs-{vm['id']}"
        host.wait(f"{status} | awk '{{ split($4, sectors, \"/\"); exit !(sectors[1] > 64 * 2048) }}'", 300)
        assert "Invalid" not in host.sh(status).stdout, "the snapshot overflowed"
        full(host, status)
        refused = helper(host, f"CheckSnapshot sa{{sv}} {vm['id']} 0", check=False)
        assert refused.returncode != 0 and "run" in refused.stderr, refused
        kept_node(host, vm)
    small(host)
    assert "fc-rootfs-" not in host.sh("dmsetup ls").stdout
    assert host.sh(DIGEST, timeout=300).stdout == before


def full(host, status):
    """The disk below the snapshot is full: the guest gets errors, the host goes on."""
    host.sh("free=$(df --output=avail -B1M /var/lib/banger | tail -1); fallocate -l $((free - 2))M /var/lib/filler; "
            "dd if=/dev/zero of=/var/lib/filler2 bs=64K 2>/dev/null; true", timeout=120)
    try:
        host.wait(f"{status} | grep -q Invalid", 120)  # what the guest writes is refused from here on
        helper(host, "ListLeases a{sv} 0")
        assert host.show("web")["state"] == "running"
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
    """A VMM's node that is kept beyond the snapshot's end leads to no device that somebody else makes then. The owner's own
    programs do not get at it: the VMM's group is not theirs. So root keeps it here, for a VMM that was taken over."""
    removed = helper(host, f"RemoveSnapshot sa{{sv}} {vm['id']} 0", check=False)
    assert removed.returncode != 0 and "stop it first" in removed.stderr, removed
    host.put(KEEP % vm["pid"], "/home/dev/keep.py")
    denied = host.sh("python3 /home/dev/keep.py </dev/null", user="dev", check=False)
    assert "PermissionError" in denied.stderr, denied
    with host.background("cd /home/dev; rm -f go; mkfifo go; exec python3 keep.py <>go >said 2>&1"):
        host.wait("grep -q '^node' /home/dev/said", 30)
        minor = int(host.sh("cat /home/dev/said").stdout.split()[1])
        host.banger("vm", "kill", "web")
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
        made = helper(host, f"CreateSnapshot ssta{{sv}} {ID} {image} 16777216 1 new b true").stdout
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
        kept(host, image)
    finally:
        for end in ("ReleaseVm", "DeleteDisk"):
            helper(host, f"{end} sa{{sv}} {ID} 0", check=False)
        host.sh(f"rm -rf {home}")


def kept(host, image):
    """What was written is root's, and stays until it is deleted; one that is gone is no empty one. The kernel's memory for
    a snapshot is bounded, whatever the owner has in files of his own."""
    again, anew = (f"CreateSnapshot ssta{{sv}} {ID} {image} 67108864 " + option for option in ("0", "1 new b true"))
    disk, device = f"/var/lib/banger/cow/$(id -u dev)/{ID}", f"/dev/mapper/fc-rootfs-{ID}"
    used = "sync; echo 2 >/proc/sys/vm/drop_caches; awk '/^(Slab|VmallocUsed)/ {n += $2} END {print n}' /proc/meminfo"
    before = int(host.sh(used).stdout)
    helper(host, anew)
    assert host.sh(f"stat -c '%u %a %s' {disk}").stdout == "0 600 67108864\n"
    assert host.sh(f"cat {disk}", user="dev", check=False).returncode != 0
    # The owner's idea of a chunk: a file where it was, with 512 MiB in its head.
    host.sh(f"python3 -c 'import struct; open(\"/var/lib/banger/'$(id -u dev)'/vms/{ID}/cow\", \"wb\").write(struct.pack(\"<4sIII\", b\"SnAp\", 1, 1, 1 << 20).ljust(1 << 24, bytes(1)))'", user="dev")
    host.sh(f"echo kept | dd of={device} bs=512 count=1 seek=8 conv=sync oflag=direct 2>/dev/null")
    refused = helper(host, f"DeleteDisk sa{{sv}} {ID} 0", check=False)
    assert refused.returncode != 0 and "release it" in refused.stderr, refused
    helper(host, f"RemoveSnapshot sa{{sv}} {ID} 0")
    helper(host, f"SyncDisk sa{{sv}} {ID} 0")
    helper(host, again)
    assert host.sh(f"dd if={device} bs=512 count=1 skip=8 2>/dev/null | head -c 5").stdout == "kept\n"
    assert int(host.sh(used).stdout) - before < 64 << 10, "the kernel took more than a snapshot may"
    helper(host, f"ReleaseVm sa{{sv}} {ID} 0")
    helper(host, f"DeleteDisk sa{{sv}} {ID} 0")
    assert host.sh(f"ls {disk}", check=False).returncode != 0
    refused = helper(host, again, check=False)
    assert refused.returncode != 0 and "is gone" in refused.stderr, refused
    assert host.sh(f"ls {disk}", check=False).returncode != 0 and ID not in host.sh("dmsetup ls").stdout
    quotas(host, image, device, again, anew)


def quotas(host, image, device, again, anew):
    """What is held and what is taken is bounded by install.toml, and the answer names the key."""
    helper(host, anew)
    host.sh(f"dd if=/dev/urandom of={device} bs=1M count=20 oflag=direct 2>/dev/null")
    helper(host, f"RemoveSnapshot sa{{sv}} {ID} 0")
    large = f"CreateSnapshot ssta{{sv}} {ID} {image} 4398046511104 1 new b true"
    host.sh("cp -p /etc/banger/install.toml /run/install.kept")
    try:
        for key, call in (("snapshot-memory-mib", large), ("disk-mib", again)):
            host.sh(f"sed -i 's/^.limits.$/&\\n{key} = 16/' /etc/banger/install.toml; systemctl restart bangerd-root")
            refused = helper(host, call, check=False)
            assert refused.returncode != 0 and f"limits.{key}" in refused.stderr, refused
            assert ID not in host.sh("dmsetup ls").stdout
            host.sh("cp -p /run/install.kept /etc/banger/install.toml")
    finally:
        host.sh("mv /run/install.kept /etc/banger/install.toml; systemctl restart bangerd-root")
    helper(host, again)
    helper(host, f"ReleaseVm sa{{sv}} {ID} 0")
