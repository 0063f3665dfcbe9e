"""The power goes while VMs are created, started, and images and kernels are built and imported: each is whole or not there, and works then."""

import contextlib
import time

LONG = True
# mmdebstrap would need a mirror: what it writes comes from a file here, and slowly.
STAND_IN = """#!/bin/sh
echo 'I: creating tarball' >&2
mkdir -p "$TMPDIR/root/half"
head -c 30000000 /media/guest/image.tar
[ -e /run/whole ] || sleep 60
tail -c +30000001 /media/guest/image.tar
"""
BOOT = "banger vm run --rm --name boot --vcpu 1 --memory 256M -- true >/dev/null 2>&1 & "
WORK = f"""(for i in $(seq 1000); do banger vm create cut$i; banger vm delete cut$i; banger vm create keep$i; done) >/dev/null 2>&1 &
(for i in $(seq 100); do banger image import again$i /media/guest/image.tar; banger image delete again$i; done) >/dev/null 2>&1 &
{BOOT} wait"""
IMPORTS = f"""banger image build built >/dev/null 2>&1 &
banger image import brought /media/guest/image.tar >/dev/null 2>&1 &
banger kernel import brought /media/guest/kernel.deb >/dev/null 2>&1 &
{BOOT} wait"""
STATE = "find /var/lib/banger -mindepth 2 -maxdepth 4 | sort; find /var/tmp -mindepth 1 | grep -v systemd-private; true"
UNDER_WAY = ("[ $(ls -d /var/lib/banger/*/images/*/ | wc -l) = 3 ] && [ $(ls -d /var/lib/banger/*/kernels/*/ | wc -l) = 2 ] && "
             "ls -d /var/tmp/banger-image-*/root/half >/dev/null 2>&1")
LISTS = "banger image list --json; banger kernel list --json"
RECORDS = "python3 -c 'import json,glob; [json.load(open(f)) for f in glob.glob(\"/var/lib/banger/*/*/*/record.json\")]'"


def run(host):
    host.put(STAND_IN, "/usr/local/bin/mmdebstrap")
    host.sh("chmod 755 /usr/local/bin/mmdebstrap")
    lists, state = host.as_owner(LISTS).stdout, host.sh(STATE).stdout
    for seconds in (4, 9):
        with cut(host, WORK):
            time.sleep(seconds)
        shown = whole(host)
        if shown:
            host.banger("vm", "delete", "--force", *shown)
    with cut(host, IMPORTS):
        host.wait(UNDER_WAY, 90)
        host.sh("sleep 2; sync; sleep 1")  # what is half-made is on the disk, too
        assert host.sh(STATE).stdout != state
    assert whole(host) == []
    assert host.as_owner(LISTS).stdout == lists
    host.wait(f"[ \"$({STATE})\" = '{state.strip()}' ]", 60)
    works(host)
    assert host.as_owner(LISTS).stdout == lists


@contextlib.contextmanager
def cut(host, work):
    """The power goes at the end of what is done beside @work of the owner's."""
    host.as_owner("banger vm list")
    with host.background(work, user="dev"):
        yield
        host.power_cut()
    host.boot(keep_overlay=True)


def whole(host):
    """All that must hold after a cut; the names of VMs that are there."""
    host.sh(RECORDS)
    # What was to go with its command is taken away first.
    host.wait("! banger vm list --json | grep -q '\"boot\"'", 60, user="dev")
    shown = host.names()
    assert all(host.show(name)["state"] == "stopped" for name in shown), shown
    for kind in ("image", "kernel"):
        assert "default" in host.banger(kind, "list").stdout
    images = host.banger("image", "list").stdout
    # What was half-made is removed by workers, which nobody waits for.
    host.wait(f"[ $(ls -d /var/lib/banger/*/images/*/ | wc -l) = {len(images.splitlines()) - 1} ]", 60)
    host.wait(f"[ $(ls -d /var/lib/banger/*/vms/*/ 2>/dev/null | wc -l) = {len(shown)} ]", 60)
    for path in host.sh("ls /var/lib/banger/*/images/*/*.ext4").stdout.split():
        host.sh(f"e2fsck -fn {path} >/dev/null", timeout=120)
    assert "not be read" not in host.banger("doctor", check=False).stdout
    return shown


def works(host):
    """What was cut off: each of them goes through now, and a VM runs with the result."""
    host.sh("touch /run/whole")
    host.banger("image", "build", "built", timeout=400)
    host.banger("image", "import", "brought", "/media/guest/image.tar", timeout=400)
    host.banger("kernel", "import", "brought", "/media/guest/kernel.deb", timeout=400)
    done = host.banger("vm", "run", "--rm", "--name", "fine", "--vcpu", "1", "--image", "built", "--kernel", "brought", "--", "echo", "fine")
    assert done.stdout == "fine\n", done
    host.banger("image", "delete", "built")
    host.banger("image", "delete", "brought")
    host.banger("kernel", "delete", "brought")
