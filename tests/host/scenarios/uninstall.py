"""system status, restart, uninstall with VMs running, install again; uninstall --purge leaves the host as before the installation; a hung daemon of the owner's is no veto."""

import re

GONE = LONG = True
THERE = ("web",)
# Things that are not banger's, with names that look a little like it.
FOREIGN = """ip link add br-foreign type bridge; ip link add br-fc-else type bridge; nft add table inet foreign
dmsetup create foreign-rootfs --table '0 8 zero'; truncate -s 1M /var/lib/foreign.img; losetup -f /var/lib/foreign.img"""
FOREIGN_LEFT = "ip -o link show br-foreign && ip -o link show br-fc-else && nft list table inet foreign && dmsetup info foreign-rootfs && losetup -j /var/lib/foreign.img | grep -q loop"
FOREIGN_AWAY = """ip link del br-foreign; ip link del br-fc-else; nft delete table inet foreign; dmsetup remove foreign-rootfs
losetup -d $(losetup -j /var/lib/foreign.img -n -O NAME); rm /var/lib/foreign.img"""


def run(host):
    status = host.sh("banger system status").stdout
    assert "dev" in status and "active" in status and "answers" in status, status
    host.sh("banger system restart")
    again = host.sh("banger system install --owner dev").stdout
    assert "dev" in again and host.show("web")["state"] == "running", again
    for bad in ("nobody-such", "root", "daemon", "other"):
        done = host.sh(f"banger system install --owner {bad}", check=False)
        assert done.returncode != 0 and done.stderr.strip(), bad
    done = host.banger("system", "uninstall", check=False)
    assert done.returncode != 0 and "root" in done.stderr, done
    host.sh("banger system uninstall", timeout=120)
    assert host.sh("ls /var/lib/banger/*/images").stdout.strip(), "images are gone without --purge"
    assert host.sh("pgrep -f banger-vmm", check=False).stdout == "", "a VMM is left"
    host.sh("banger system install --owner dev", timeout=120)
    host.banger("vm", "start", "web")
    assert host.guest("web", "hostname").strip() == "web"
    hung_manager(host)
    host.sh("banger system install --owner dev", timeout=120)
    host.banger("vm", "list")
    host.sh(FOREIGN)
    host.sh("banger system uninstall --purge", timeout=120)
    host.sh(FOREIGN_LEFT)
    host.sh(FOREIGN_AWAY)
    host.remove_product()
    host.compare_never()


def hung_manager(host):
    """The owner's daemon says nothing any more: its word is waited for a moment, and uninstall goes on without it."""
    host.sh("systemctl --user -M dev@ kill --kill-whom=main --signal=STOP bangerd")
    host.wait("grep -q '^State:.T' /proc/$(systemctl --user -M dev@ show -P MainPID bangerd)/status", 60)  # the signal is sent, not yet obeyed
    said = host.sh("time -p banger system uninstall --purge", timeout=400)
    took = float(re.search(r"^real ([0-9.]+)", said.stderr, re.M)[1])
    print(f"# uninstall: {took:.0f} s beside a daemon that stands still", flush=True)
    assert took < 80, "a daemon that stands still holds uninstall up"  # a guest would have 90 s to end
    assert "ended by force" in said.stderr, said
    assert host.sh("pgrep -f 'banger-vmm|bangerd'", check=False).stdout == "", "a VMM or a daemon is left"
    assert host.sh("ls -d /var/lib/banger /etc/banger", check=False).stdout == "", "state is left"
