"""Nothing of the host looks into the disks of VMs: not for /dev/disk, systemd, LVM, md, btrfs or swap, whatever owner and guest write there."""

import contextlib

CALL = "busctl call org.banger.Privileged /org/banger/Privileged org.banger.Privileged "
CREATE = "CreateSnapshot ssta{{sv}} {vm} {vm} 16777216 1 new b true"
HOME = "/var/lib/banger/$(id -u dev)"
ABSENT, LABEL, SWAP = "5ca1ab1e-0000-4000-8000-000000000001", "absent", "5ca1ab1e-0000-4000-8000-000000000002"
# What an owner could write into an image, made by the tools themselves. Each is looked at by somebody: see `bait`.
MAKE = f"""set -e
cd /root/bait
truncate -s 16M root fstab swap; truncate -s 64M pv md; truncate -s 128M btrfs1 btrfs2
mkfs.ext4 -q -U "$(findmnt -no UUID /)" root
mkfs.ext4 -q -U {ABSENT} -L {LABEL} fstab
mkswap -q -U {SWAP} swap
mkfs.btrfs -q -f btrfs1 btrfs2
loop=$(losetup -f --show pv)
vgcreate -qq trap "$loop"; lvcreate -qq -an -l 1 -n snapped trap; udevadm settle; vgchange -qq -an trap; losetup -d "$loop"
loop=$(losetup -f --show md)
mdadm -q --create /dev/md/trap --run --force --level=1 --raid-devices=1 "$loop"; udevadm settle; mdadm -q --stop /dev/md/trap
losetup -d "$loop"
udevadm settle; rm -f /run/lvm/*s_online/*
"""
BAITS = ["root", "fstab", "swap", "pv", "md", "btrfs1", "btrfs2"]
# All that the host makes of disks by itself. The lines of loops and of device-mapper are left out where they only say
# that there is one.
STATE = r"""udevadm settle
find /dev/disk /dev/mapper /dev/md /dev/trap -type l -printf 'link %p %l\n' 2>/dev/null | grep -v '/fc-rootfs-\|/by-diskseq/'
lsblk -rno FSTYPE,LABEL,UUID,PTTYPE,PARTUUID,MOUNTPOINTS | grep '[^ ]' | sort -u | sed 's/^/lsblk /'
lsblk -rno NAME,TYPE | grep -v ' disk$\| loop$' | grep -v '^fc-rootfs-' | sed 's/^/device /'
systemctl list-units --plain --no-legend --type=device,swap,mount | awk '{print "unit", $1, $3}'
sed 's/^/swaps /' /proc/swaps
grep '^md' /proc/mdstat | sed 's/^/mdstat /'
find /run/lvm/pvs_online /run/lvm/vgs_online -type f 2>/dev/null | sed 's/^/lvm /'
dmsetup ls | grep -v '^fc-rootfs-\|^No devices' | sed 's/^/dm /'
grep -l '^E:ID_BTRFS\|^E:ID_FS\|^E:ID_PART_TABLE' /run/udev/data/b* | sed 's/^/udev /'
"""
TRIGGER = "udevadm trigger --subsystem-match=block --action=change; udevadm trigger --subsystem-match=block --action=add;"


def helper(host, call, check=True):
    return host.sh(CALL + call, user="dev", check=check)


def vm_of(name):
    return f"ba1700{BAITS.index(name):02d}0000"


def state(host):
    return host.sh(STATE).stdout.splitlines()


def differs(host, before):
    now = state(host)
    return sorted(set(now) ^ set(before))


def run(host):
    host.sh("mkdir /root/bait; " + MAKE, timeout=600)
    with fstab(host):
        host.sh(TRIGGER)
        before = state(host)
        control(host, before)
        images(host, before)
        guest(host, before)
        refused(host)
        assert not differs(host, before), differs(host, before)
    host.sh("rm -rf /root/bait")


@contextlib.contextmanager
def fstab(host):
    """The host waits for disks that are not there."""
    lines = (f"UUID={ABSENT} /media/uuid ext4 noauto,nofail,x-systemd.automount,x-systemd.device-timeout=3 0 0\n"
             f"LABEL={LABEL} /media/label ext4 noauto,nofail,x-systemd.automount,x-systemd.device-timeout=3 0 0\n"
             f"UUID={SWAP} none swap noauto,nofail,x-systemd.device-timeout=3 0 0\n")
    host.sh("cp -p /etc/fstab /run/fstab.kept; mkdir /media/uuid /media/label")
    host.sh("cat >> /etc/fstab; systemctl daemon-reload; systemctl start media-uuid.automount media-label.automount", stdin=lines)
    try:
        yield
    finally:
        host.sh("systemctl stop media-uuid.automount media-label.automount; mv /run/fstab.kept /etc/fstab; "
                "systemctl daemon-reload; systemctl reset-failed; rmdir /media/uuid /media/label")


def control(host, before):
    """As disks of anybody else's the host does look into them: else what follows would show nothing."""
    attached = host.sh(f"for name in {' '.join(BAITS)}; do losetup -f --show /root/bait/$name; done").stdout.split()
    try:
        seen = differs(host, before)
        for name, loop in zip(BAITS, attached):
            device = "/run/udev/data/b7:" + loop.removeprefix("/dev/loop")
            assert f"udev {device}" in seen, f"the host makes nothing of {name}: {seen}"
        acted = "\n".join(seen)  # LVM, md, and systemd of what fstab waits for
        assert all(word in acted for word in ("lvm /run/lvm/pvs_online", "mdstat md", f"by-uuid/{ABSENT}", f"by-uuid/{SWAP}")), seen
    finally:
        host.sh(f"udevadm settle; vgchange -qq -an trap; mdadm -q --stop --scan; losetup -d {' '.join(attached)}; udevadm settle; "
                "rm -f /run/lvm/*s_online/*", check=False)
    left = differs(host, before)
    assert not left, left


def images(host, before):
    """An owner's own images, snapshots of them made without a VM."""
    for name in BAITS:
        host.sh(f"install -d -m 700 -o dev -g dev {HOME}/vms/{vm_of(name)} {HOME}/images/{vm_of(name)}; "
                f"install -m 600 -o dev -g dev /root/bait/{name} {HOME}/images/{vm_of(name)}/rootfs.ext4")
    try:
        for name in BAITS:
            helper(host, CREATE.format(vm=vm_of(name)))
        held = host.sh("losetup -nO NAME; dmsetup ls").stdout
        assert held.count("/dev/loop60") == 2 * len(BAITS) and held.count("fc-rootfs-ba17") == len(BAITS), held
        assert not differs(host, before), differs(host, before)
        # A package that is installed triggers all devices; a writer that closes one is what udev would watch for.
        host.sh("for d in /dev/mapper/fc-rootfs-ba17*; do : >> $d; done; " + TRIGGER)
        assert not differs(host, before), differs(host, before)
        for place in ("uuid", "label"):
            assert host.sh(f"ls /media/{place}", check=False).returncode != 0, place
        swap = f'systemctl start "$(systemd-escape -p --suffix=swap /dev/disk/by-uuid/{SWAP})"'
        assert host.sh(swap, check=False).returncode != 0
        host.sh("systemctl reset-failed; systemctl restart media-uuid.automount media-label.automount")
        assert not differs(host, before), differs(host, before)
    finally:
        for name in BAITS:
            for end in ("ReleaseVm", "DeleteDisk"):
                helper(host, f"{end} sa{{sv}} {vm_of(name)} 0", check=False)
            host.sh(f"rm -rf {HOME}/vms/{vm_of(name)} {HOME}/images/{vm_of(name)}")
    assert "loop60" not in host.sh("ls /sys/block").stdout
    assert not differs(host, before), differs(host, before)


def guest(host, before):
    """A guest writes over its own running disk."""
    with host.vm("liar"):
        during = state(host)  # its tap and its scope are units, too
        for name in ("swap", "pv"):
            head = host.sh(f"head -c 8192 /root/bait/{name} | base64 -w0").stdout
            host.guest("liar", f"echo {head} | base64 -d > /run/head; cp /bin/dd /run/dd; "
                               "/run/dd if=/run/head of=/dev/vda bs=8192 count=1 oflag=direct conv=fsync 2>&1")
            device = host.sh("ls /dev/mapper/fc-rootfs-*").stdout.strip()
            assert host.sh(f"cmp -n 8192 /root/bait/{name} {device}", check=False).returncode == 0, name
            host.sh(TRIGGER)
            assert not differs(host, during), (name, differs(host, during))
    assert not differs(host, before), differs(host, before)


def refused(host):
    """Where udev does not go by the rule there is no disk, and doctor says why; mended it goes on by itself."""
    name = "fstab"
    create = CREATE.format(vm=vm_of(name))
    host.sh(f"install -d -m 700 -o dev -g dev {HOME}/vms/{vm_of(name)} {HOME}/images/{vm_of(name)}; "
            f"install -m 600 -o dev -g dev /root/bait/{name} {HOME}/images/{vm_of(name)}/rootfs.ext4")
    rule = "/etc/udev/rules.d/05-banger.rules"
    try:
        host.sh(f"ln -s /dev/null {rule}; udevadm control --reload")
        seen = helper(host, create, check=False)
        assert seen.returncode != 0 and "05-banger.rules" in seen.stderr and "udevadm control" in seen.stderr, seen
        assert "loop60" not in host.sh("ls /sys/block").stdout
        assert vm_of(name) not in host.sh("ls /run/banger/leases; dmsetup ls").stdout
        doctor = host.banger("doctor", check=False)
        assert doctor.returncode != 0 and rule in doctor.stdout, doctor
        host.sh(f"rm {rule}; udevadm control --reload")
        helper(host, create)
    finally:
        host.sh(f"rm -f {rule}; udevadm control --reload")
        for end in ("ReleaseVm", "DeleteDisk"):
            helper(host, f"{end} sa{{sv}} {vm_of(name)} 0", check=False)
        host.sh(f"rm -rf {HOME}/vms/{vm_of(name)} {HOME}/images/{vm_of(name)}")
