"""Device-mapper and loops: a device of a stranger's is left alone, the owner gets no more than the quotas, a silent udev leaves nothing."""

import json

CALL = "busctl call org.banger.Privileged /org/banger/Privileged org.banger.Privileged "
IDS = ["aaaaaaa10000", "aaaaaaa20000"]


def helper(host, call, check=True):
    return host.sh(CALL + call, user="dev", check=check)


def loops(host):
    return host.sh("losetup -l -n -O BACK-FILE | sort").stdout


def run(host):
    image = json.loads(host.banger("image", "list", "--json").stdout)[0]["id"]
    homes = " ".join(f"/var/lib/banger/$(id -u dev)/vms/{vm}" for vm in IDS)
    make = f"install -d -m 700 -o dev -g dev {homes}"
    create = "CreateSnapshot ssta{{sv}} {} " + image + " 16777216 1 new b true"
    try:
        host.sh(make)
        foreign(host, create.format(IDS[0]))
        host.sh(make)  # a starting manager takes folders without a record away
        lost_lease(host, create.format(IDS[0]))
        silent_udev(host, create.format(IDS[0]))
        copies(host, image, create.format(IDS[0]))
        quotas(host, [create.format(vm) for vm in IDS])
    finally:
        for vm in IDS:
            for end in ("ReleaseVm", "DeleteDisk"):
                helper(host, f"{end} sa{{sv}} {vm} 0", check=False)
        host.sh(f"rm -rf {homes}")


def copies(host, image, create):
    """A disk is copied while its snapshot is mapped, with what was just written to it; and a VM starts with the copy."""
    device, other = (f"/dev/mapper/fc-rootfs-{vm}" for vm in IDS)
    again = create.replace(IDS[0], IDS[1]).replace("new b true", f"from s {IDS[0]}")
    helper(host, create)
    word = "exec 3>{0}; printf {1} >&3; exec 3>&-"  # no fsync: it is in the host's cache of the device
    host.sh(word.format(device, "first"))
    helper(host, again)
    host.sh(word.format(device, "later"))
    assert host.sh(f"head -c 5 {other}").stdout == "first"
    assert "suspended" not in host.sh("dmsetup info").stdout.lower()
    refused = helper(host, again, check=False)
    assert refused.returncode != 0 and "already" in refused.stderr, refused
    host.sh(f"dmsetup suspend fc-rootfs-{IDS[0]}; systemctl restart bangerd-root")  # as a helper that was killed leaves it
    helper(host, "ListLeases a{sv} 0")
    assert "suspended" not in host.sh("dmsetup info").stdout.lower()
    for vm in IDS:
        for end in ("ReleaseVm", "DeleteDisk"):
            helper(host, f"{end} sa{{sv}} {vm} 0")


def foreign(host, create):
    """Devices that no lease names: one with the name that banger would give, one with any."""
    before = loops(host)
    for name in (f"fc-rootfs-{IDS[0]}", "vg0-root"):
        host.sh(f"dmsetup create {name} --table '0 8 zero'")
    try:
        refused = helper(host, create, check=False)
        assert refused.returncode != 0 and "no lease" in refused.stderr, refused
        for call in ("RemoveSnapshot", "CheckSnapshot"):
            assert helper(host, f"{call} sa{{sv}} {IDS[0]} 0", check=False).returncode != 0, call
        for hostile in ("vg0-root", "../vg0-root", "fc-rootfs-" + IDS[0]):
            assert helper(host, f"RemoveSnapshot sa{{sv}} {hostile} 0", check=False).returncode != 0, hostile
        helper(host, f"ReleaseVm sa{{sv}} {IDS[0]} 0")
        helper(host, "ReapVms asa{sv} 0 0")
        host.sh("systemctl restart bangerd-root; systemctl --user -M dev@ restart bangerd")
        assert "bangerd" not in helper(host, "ListLeases a{sv} 0").stderr
        left = host.sh("dmsetup ls").stdout
        assert f"fc-rootfs-{IDS[0]}" in left and "vg0-root" in left, left
        assert loops(host) == before
    finally:
        host.sh(f"dmsetup remove fc-rootfs-{IDS[0]}; dmsetup remove vg0-root")


def lost_lease(host, create):
    """What the device has of banger's is unmapped, what the VM wrote stays; a stranger's device of that name stays."""
    before, vm = loops(host), IDS[0]
    lease, device = f"/run/banger/leases/{vm}.json", f"fc-rootfs-{vm}"
    helper(host, create)
    assert device in host.sh("dmsetup ls").stdout
    host.sh(f"truncate -s 20 {lease}")
    helper(host, f"ReleaseVm sa{{sv}} {vm} 0")
    assert device not in host.sh("dmsetup ls").stdout
    assert loops(host) == before
    host.sh(f"test ! -e {lease} && test -f /var/lib/banger/cow/$(id -u dev)/{vm}")
    host.sh(f"dmsetup create {device} --table '0 8 zero'; : > {lease}; chmod 600 {lease}")
    helper(host, f"ReleaseVm sa{{sv}} {vm} 0")
    assert device in host.sh("dmsetup ls").stdout
    host.sh(f"dmsetup remove {device} && test ! -e {lease}")


def silent_udev(host, create):
    """It does not answer in time: no semaphore waits for it for ever."""
    semaphores = "ipcs -s | grep 0x0d4d; true"
    udev = "kill -s {} $(systemctl show -P MainPID systemd-udevd)"
    assert host.sh(semaphores).stdout == ""
    # Once it was seen that udev goes by banger's rule, nothing waits for it.
    helper(host, create)
    helper(host, f"RemoveSnapshot sa{{sv}} {IDS[0]} 0")
    host.sh(udev.format("STOP"))
    try:
        helper(host, create)
        assert host.sh(semaphores).stdout == ""
        assert IDS[0] in host.sh("ls /dev/mapper").stdout
        helper(host, f"RemoveSnapshot sa{{sv}} {IDS[0]} 0")
        assert host.sh(semaphores).stdout == ""
    finally:
        host.sh(udev.format("CONT"))
        helper(host, f"ReleaseVm sa{{sv}} {IDS[0]} 0", check=False)


def quotas(host, create):
    """Two loops are one snapshot."""
    host.sh("cp -p /etc/banger/install.toml /run/install.kept; sed -i 's/^.limits.$/&\\nloops = 2/' /etc/banger/install.toml; systemctl restart bangerd-root")
    try:
        before = loops(host)
        helper(host, create[0])
        held = loops(host)
        assert len(held.splitlines()) == len(before.splitlines()) + 2, held
        refused = helper(host, create[1], check=False)
        assert refused.returncode != 0 and "limits.loops" in refused.stderr, refused
        assert loops(host) == held and IDS[1] not in host.sh("dmsetup ls; ls /run/banger/leases").stdout
        helper(host, f"ReleaseVm sa{{sv}} {IDS[0]} 0")
        helper(host, create[1])
        helper(host, f"ReleaseVm sa{{sv}} {IDS[1]} 0")
        assert loops(host) == before
    finally:
        host.sh("mv /run/install.kept /etc/banger/install.toml; systemctl restart bangerd-root")
