"""system status, restart, uninstall with VMs running, install again; uninstall --purge leaves the host as before the installation."""

FRESH = True
LISTING = r"""
find /etc /var/lib /var/cache /run /usr/lib/systemd /var/spool -xdev \( -path /run/user -o -path '/run/systemd/*' -o -path /var/lib/systemd/timers -o -path '/run/udev/*' -o -path /var/lib/private \) -prune -o -print | sort
ip -o link | awk '{print "link", $2}'; nft list tables; dmsetup ls; losetup -l -n -O NAME,BACK-FILE; cat /proc/sys/net/ipv4/ip_forward
systemctl list-unit-files --no-legend | awk '{print $1, $2}' | grep -v '\.scope'; systemctl list-units --plain --no-legend 'banger*' | awk '{print $1}'
loginctl list-users --no-legend | awk '$2 != "root" {print "user", $2, $3}'; getent passwd; getent group
"""


def run(host):
    host.banger("vm", "run", "--name", "web", "--vcpu", "1", "--memory", "256M", "--detach")
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
    host.sh("banger system uninstall --purge", timeout=120)
    clean = host.sh(LISTING, timeout=120).stdout.splitlines()
    host.disconnect()
    host.sh("banger system install --owner dev", timeout=120)
    host.banger("vm", "list")
    host.sh("banger system uninstall --purge", timeout=120)
    host.disconnect()
    twice = host.sh(LISTING, timeout=120).stdout.splitlines()
    assert clean == twice, (sorted(set(clean) - set(twice)), sorted(set(twice) - set(clean)))
    ours = [line for line in clean if "banger" in line and not line.startswith(KEPT)]
    assert ours == [], ours


# What `meson install` put there, and the test host's own.
KEPT = ("/etc/dbus-1/system.d/org.banger", "/usr/lib/systemd/catalog/banger", "/usr/lib/systemd", "banger.slice static", "bangerd-root.service disabled",
        "/etc/initramfs-tools/conf.d/banger", "/etc/modules-load.d/banger.conf", "/etc/systemd/journald.conf.d/banger.conf")
