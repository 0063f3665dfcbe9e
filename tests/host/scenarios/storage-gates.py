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
    create = "CreateSnapshot ssta{{sv}} {} " + image + " 16777216 0"
    try:
        host.sh(make)
        foreign(host, create.format(IDS[0]))
        host.sh(make)  # a starting manager takes folders without a record away
        silent_udev(host, create.format(IDS[0]))
        quotas(host, [create.format(vm) for vm in IDS])
    finally:
        for vm in IDS:
            helper(host, f"ReleaseVm sa{{sv}} {vm} 0", check=False)
        host.sh(f"rm -rf {homes}")


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


def silent_udev(host, create):
    """It does not answer in time: no semaphore waits for it for ever."""
    semaphores = "ipcs -s | grep 0x0d4d; true"
    udev = "kill -s {} $(systemctl show -P MainPID systemd-udevd)"
    assert host.sh(semaphores).stdout == ""
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
