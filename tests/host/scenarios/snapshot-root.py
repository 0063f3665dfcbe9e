"""The root disk is a device-mapper snapshot: the guest writes, the image stays as it was, the device goes with the VM."""


def run(host):
    digest = "sha256sum /var/lib/banger/*/images/*/rootfs.ext4"
    before = host.sh(digest, timeout=600).stdout
    host.banger("vm", "run", "--name", "scribble", "--detach")
    assert "fc-rootfs-" in host.sh("dmsetup ls").stdout
    host.banger("vm", "ssh", "scribble", "--", "sh", "-c", "dd if=/dev/urandom of=/var/junk bs=1M count=64 && sync")
    host.banger("vm", "delete", "--force", "scribble")
    assert "fc-rootfs-" not in host.sh("dmsetup ls").stdout
    assert host.sh(digest, timeout=600).stdout == before
