"""The power goes in the middle of an image build, an image import and a kernel import: none of the three is shown or left, and each works afterwards."""

LONG = True
# mmdebstrap would need a mirror: what it writes comes from a file here, and slowly.
STAND_IN = """#!/bin/sh
echo 'I: creating tarball' >&2
mkdir -p "$TMPDIR/root/half"
head -c 30000000 /media/guest/image.tar
[ -e /run/whole ] || sleep 60
tail -c +30000001 /media/guest/image.tar
"""
WORK = """banger image build built >/dev/null 2>&1 &
banger image import brought /media/guest/image.tar >/dev/null 2>&1 &
banger kernel import brought /media/guest/kernel.deb >/dev/null 2>&1 & wait"""
STATE = "find /var/lib/banger -mindepth 2 -maxdepth 4 | sort; find /var/tmp -mindepth 1 | grep -v systemd-private; true"
UNDER_WAY = "[ $(ls -d /var/lib/banger/*/images/*/ | wc -l) = 3 ] && [ $(ls -d /var/lib/banger/*/kernels/*/ | wc -l) = 2 ] && ls -d /var/tmp/banger-image-*/root/half >/dev/null 2>&1"
LISTS = "banger image list --json; banger kernel list --json"


def run(host):
    host.put(STAND_IN, "/usr/local/bin/mmdebstrap")
    host.sh("chmod 755 /usr/local/bin/mmdebstrap")
    lists, state = host.as_owner(LISTS).stdout, host.sh(STATE).stdout
    with host.background(WORK, user="dev"):
        host.wait(UNDER_WAY, 90)
        host.sh("sleep 2; sync; sleep 1")  # what is half-made is on the disk, too
        assert host.sh(STATE).stdout != state
        host.power_cut()
    host.boot(keep_overlay=True)
    assert host.as_owner(LISTS).stdout == lists
    host.wait(f"[ \"$({STATE})\" = '{state.strip()}' ]", 30)
    for path in host.sh("ls /var/lib/banger/*/images/*/*.ext4").stdout.split():
        host.sh(f"e2fsck -fn {path} >/dev/null", timeout=120)
    host.sh("touch /run/whole")
    host.banger("image", "build", "built", timeout=400)
    host.banger("image", "import", "brought", "/media/guest/image.tar", timeout=400)
    host.banger("kernel", "import", "brought", "/media/guest/kernel.deb", timeout=400)
    done = host.banger("vm", "run", "--rm", "--name", "fine", "--vcpu", "1", "--image", "built", "--kernel", "brought", "--", "echo", "fine")
    assert done.stdout == "fine\n", done
    host.banger("image", "delete", "built")
    host.banger("image", "delete", "brought")
    host.banger("kernel", "delete", "brought")
    assert host.as_owner(LISTS).stdout == lists
