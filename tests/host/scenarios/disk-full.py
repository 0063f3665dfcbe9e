"""The disk is full while a VM is created or an image imported: told so, nothing half-made is left, and it works again afterwards."""

import re


def run(host):
    before = host.sh("find /var/lib/banger | sort").stdout
    host.sh("free=$(df --output=avail -B1M /var/lib/banger | tail -1); fallocate -l $((free - 20))M /var/lib/filler", timeout=120)
    try:
        done = host.banger("image", "import", "more", "/media/guest/image.tar", check=False, timeout=300)
        assert done.returncode != 0 and re.search(r"unpacks to more than the \d+ MiB that are free|No space", done.stderr), done
        host.sh("dd if=/dev/zero of=/var/lib/filler2 bs=64K 2>/dev/null; true", timeout=120)
        done = host.banger("vm", "run", "--name", "full", "--detach", check=False)
        assert done.returncode != 0 and "space" in done.stderr.lower(), done
        host.banger("vm", "delete", "--force", "full", check=False)
    finally:
        host.sh("rm -f /var/lib/filler /var/lib/filler2")
    assert host.sh("find /var/lib/banger | sort").stdout == before
    host.banger("vm", "create", "fits")
    host.banger("vm", "delete", "fits")
