"""Stop and start keep the disks, restart boots anew, kill cuts the power; what a stopped VM held is released."""

import json

LONG = True
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


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
        committed(host)
        host.banger("vm", "start", "life")
        assert host.guest("life", "cat /root/file /etc/own") == "kept\nown\n"
        second = host.guest("life", BOOT_ID)
        host.banger("vm", "restart", "life")
        third = host.guest("life", BOOT_ID)
        assert len({first, second, third}) == 3, (first, second, third)
        host.banger("vm", "kill", "life")
        assert host.show("life")["state"] == "stopped"
        refused = host.banger("image", "commit", "life", "killed", check=False)
        assert refused.returncode != 0 and "start it and stop it" in refused.stderr, refused
        refused = host.banger("vm", "exec", "life", "--", "true", check=False)
        assert refused.returncode != 0 and "life" in refused.stderr, refused
