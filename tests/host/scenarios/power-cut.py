"""The power goes while VMs are created, started, and an image is imported: records and images are whole or not there, all is clean."""

import time

LONG = True
WORK = """(for i in $(seq 1000); do banger vm create cut$i; banger vm delete cut$i; banger vm create keep$i; done) >/dev/null 2>&1 &
(for i in $(seq 100); do banger image import again$i /media/guest/image.tar; banger image delete again$i; done) >/dev/null 2>&1 &
banger vm run --rm --name boot -- true >/dev/null 2>&1 & wait"""
RECORDS = "python3 -c 'import json,glob; [json.load(open(f)) for f in glob.glob(\"/var/lib/banger/*/*/*/record.json\")]'"


def run(host):
    for seconds in (4, 9, 15):
        host.as_owner("banger vm list")
        with host.background(WORK, user="dev"):
            time.sleep(seconds)
            host.power_cut()
        host.boot(keep_overlay=True)
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
        if shown:
            host.banger("vm", "delete", "--force", *shown)
    assert host.banger("vm", "run", "--rm", "--name", "fine", "--vcpu", "1", "--", "echo", "fine").stdout == "fine\n"
