"""Stop and start keep the disks, restart boots anew, kill cuts the power; what a stopped VM held is released."""

LONG = True
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def run(host):
    nothing = host.inventory()
    with host.vm("life"):
        assert host.guest("life", "findmnt -no FSTYPE /root").strip() == "ext4"
        host.guest("life", "echo kept > /root/file; echo own > /etc/own")
        first = host.guest("life", BOOT_ID)
        host.banger("vm", "stop", "life")
        assert host.show("life")["state"] == "stopped"
        left = [line for line in host.inventory() if line not in nothing]
        assert all(line.startswith("state ") for line in left), left
        host.banger("vm", "start", "life")
        assert host.guest("life", "cat /root/file /etc/own") == "kept\nown\n"
        second = host.guest("life", BOOT_ID)
        host.banger("vm", "restart", "life")
        third = host.guest("life", BOOT_ID)
        assert len({first, second, third}) == 3, (first, second, third)
        host.banger("vm", "kill", "life")
        assert host.show("life")["state"] == "stopped"
        refused = host.banger("vm", "exec", "life", "--", "true", check=False)
        assert refused.returncode != 0 and "life" in refused.stderr, refused
