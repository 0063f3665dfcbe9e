"""Stop and start keep the disks, restart boots anew, snapshots bring back what was, kill cuts the power; what a stopped VM held is released."""

import json
import shlex

LONG = True
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"

# Ends a process as soon as the helper copies a disk.
ENDER = """import os, signal, sys, time
folder, pid, until = sys.argv[1], int(sys.argv[2]), time.monotonic() + 120
open("/run/ender", "w").write("looks")
while not any(name.endswith(".part") for name in os.listdir(folder)) and time.monotonic() < until:
    time.sleep(0.001)
if time.monotonic() < until:
    os.kill(pid, signal.SIGKILL)
    open("/run/ender", "w").write("ended")
"""
# Compares files that are nearly all holes: where either has data.
SAME = """import os, sys
files = [os.open(name, os.O_RDONLY) for name in sys.argv[1:]]
assert len({os.fstat(fd).st_size for fd in files}) == 1, "sizes"
for fd in files:
    end = 0
    while end < os.fstat(fd).st_size:
        try:
            at = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(fd, at, os.SEEK_HOLE)
        while at < end:
            one, other = (os.pread(each, min(end - at, 1 << 20), at) for each in files)
            assert one == other, at
            at += len(one)
"""
SERVICES = {"bangerd-root": "systemctl show -P MainPID bangerd-root", "bangerd": "systemctl --user -M dev@ show -P MainPID bangerd"}
GOES_ON = "c=$(cat /run/count); while [ $(cat /run/count) -le $c ]; do sleep 0.1; done"
DISKS = "ls /var/lib/banger/cow/$(id -u dev); dmsetup info -c --noheadings -o name,suspended | grep ^fc-; losetup -ln -O BACK-FILE | grep -c cow"


def committed(host):
    """What it wrote over its image is in the one that is made of it; its name is not."""
    host.banger("image", "commit", "life", "copy", timeout=300)
    image = json.loads(host.banger("image", "show", "--json", "copy").stdout)["id"]
    path = f"/var/lib/banger/$(id -u dev)/images/{image}"
    for file, name, text in (("rootfs", "/etc/own", "own\n"), ("rootfs", "/root/file", "kept\n"), ("seed", "/file", "kept\n"), ("rootfs", "/etc/hostname", ""),
                             ("rootfs", "/etc/machine-id", "")):
        assert host.sh(f"debugfs -R 'cat {name}' {path}/{file}.ext4 2>/dev/null").stdout == text, name
    assert "clean" in host.sh(f"e2fsck -fn {path}/rootfs.ext4 && echo clean", timeout=200).stdout
    host.banger("image", "delete", "copy")


def ended(host, service, *command):
    """The command, while which a service is killed at the moment when the helper copies. It may have come too late for it."""
    host.put(ENDER, "/run/ender.py")
    pid = host.sh(SERVICES[service]).stdout.strip()
    with host.background(f"exec python3 /run/ender.py /var/lib/banger/cow/$(id -u dev) {pid}"):
        host.wait("test -e /run/ender", 30)
        host.banger("vm", "snapshot", *command, check=False)
        host.wait("grep -q ended /run/ender", 30)
    host.wait(f"pid=$({SERVICES[service]}); test $pid -gt 0 -a $pid != {pid}", 60)
    host.wait("banger vm list >/dev/null", 60, user="dev")
    host.sh("rm -f /run/ender /run/ender.py")


def snapshots(host):
    return [s["name"] for s in json.loads(host.banger("vm", "snapshot", "list", "life", "--json").stdout)]


def brought_back(host):
    """A VM with a root disk of the helper's as it was in a snapshot. One that fails for the helper's end leaves the guest as it is."""
    before = host.sh(DISKS).stdout
    boot_id = host.guest("life", "dd if=/dev/zero of=/opt/large bs=1M count=16 2>/dev/null; sync;"
                                 "systemd-run -q sh -c 'i=0; while :; do i=$((i+1)); echo $i >/run/c; mv /run/c /run/count; sleep 0.1; done';"
                                 "while ! test -e /run/count; do sleep 0.1; done; " + BOOT_ID)
    ended(host, "bangerd-root", "create", "life", "then")
    host.guest("life", GOES_ON)
    if "then" not in snapshots(host):
        host.wait(f"test \"$({DISKS})\" = {shlex.quote(before.strip())}", 60)
        host.banger("vm", "snapshot", "create", "life", "then")
    assert host.guest("life", BOOT_ID) == boot_id
    host.guest("life", "echo new >/etc/new; echo changed >/etc/own; echo changed >/root/file; echo in memory >/run/after; sync")
    host.banger("vm", "snapshot", "restore", "life", "then", "--force", "--start")
    assert host.guest("life", "cat /etc/own /root/file; ls /etc/new /run/after 2>/dev/null", check=False) == "own\nkept\n"
    assert host.guest("life", f"{GOES_ON}; echo more >/etc/more; sync; " + BOOT_ID) == boot_id
    assert len(host.sh(DISKS).stdout.splitlines()) == len(before.splitlines()) + 1, host.sh(DISKS).stdout


def copied(host):
    """A copy of a VM that runs, with a root disk of the helper's: it has what was written, and its own from then on."""
    before = host.sh(DISKS).stdout
    host.guest("life", "echo both >/etc/both; sync")
    host.banger("vm", "fork", "life", "copy")
    assert host.guest("copy", "echo changed >/etc/own; cat /etc/both; hostname; " + GOES_ON) == "both\ncopy\n"
    assert host.guest("life", "cat /etc/own; " + GOES_ON) == "own\n"
    host.banger("vm", "delete", "--force", "copy")
    assert host.sh(DISKS).stdout == before, host.sh(DISKS).stdout


def brought_back_stopped(host):
    """Of one that is stopped the disk alone; whichever service ends in the middle, another try is enough, and nothing is left."""
    disks = "/var/lib/banger/cow/$(id -u dev)/"
    host.banger("vm", "snapshot", "delete", "life", "then")
    ended(host, "bangerd", "create", "life", "off")
    if "off" not in snapshots(host):
        host.wait(f"test $(ls {disks} | wc -l) = 1", 60)
        host.banger("vm", "snapshot", "create", "life", "off")
    life, (off,) = host.show("life")["id"], json.loads(host.banger("vm", "snapshot", "list", "life", "--json").stdout)
    host.put(SAME, "/run/same.py")
    same = f"python3 /run/same.py {disks}{life} {disks}{off['id']}"
    assert host.sh(same).returncode == 0
    for service in (*SERVICES, None):
        host.sh(f"printf changed | dd of={disks}{life} bs=1 seek=1M conv=notrunc 2>/dev/null")
        assert host.sh(same, check=False).returncode == 1
        if service:
            ended(host, service, "restore", "life", "off")
        host.banger("vm", "snapshot", "restore", "life", "off", "--force")
        host.sh(same)
        assert host.sh(f"ls {disks}").stdout.split() == sorted([life, off["id"]])
    host.banger("vm", "snapshot", "delete", "life", "off")
    assert host.sh(DISKS, check=False).stdout.split() == [life, "0"], host.sh(DISKS, check=False).stdout


def run(host):
    nothing = host.inventory()
    with host.vm("life"):
        assert host.guest("life", "findmnt -no FSTYPE /root").strip() == "ext4"
        host.guest("life", "echo kept > /root/file; echo own > /etc/own")
        used = json.loads(host.banger("vm", "stats", "life", "--json").stdout)[0]
        assert used["vmm_memory_bytes"] > 64 << 20 and used["guest_total_bytes"] and used["cpu_us"] and used["received_bytes"], used
        first = host.guest("life", BOOT_ID)
        host.banger("vm", "stop", "life")
        assert host.show("life")["state"] == "stopped"
        left = [line for line in host.inventory() if line not in nothing]
        assert all(line.startswith("state ") for line in left), left
        committed(host)
        host.banger("vm", "start", "life")
        assert host.guest("life", "cat /root/file /etc/own") == "kept\nown\n"
        second = host.guest("life", BOOT_ID)
        host.banger("vm", "restart", "life")
        third = host.guest("life", BOOT_ID)
        assert len({first, second, third}) == 3, (first, second, third)
        brought_back(host)
        copied(host)
        host.banger("vm", "kill", "life")
        assert host.show("life")["state"] == "stopped"
        refused = host.banger("image", "commit", "life", "killed", check=False)
        assert refused.returncode != 0 and "start it and stop it" in refused.stderr, refused
        refused = host.banger("vm", "exec", "life", "--", "true", check=False)
        assert refused.returncode != 0 and "life" in refused.stderr, refused
        brought_back_stopped(host)
