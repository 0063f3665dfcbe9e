"""The Debian package: install chooses nobody, an upgrade leaves a running VM alone, removal shuts it down in order and keeps it, purge leaves nothing."""

import pathlib
import shutil
import subprocess
import tempfile

import testhost

FRESH = True
# In place of what `meson install` put there; the kernel and the image stay.
AWAY = """banger system uninstall
systemctl stop user@$(id -u dev)
rm -rf /usr/local/bin/* /usr/local/sbin/* /usr/local/libexec/* /usr/local/share/* /usr/local/lib/systemd
rm -f /etc/dbus-1/system.d/org.banger.* /usr/lib/systemd/catalog/banger.catalog /usr/share/polkit-1/actions/org.banger.*
systemctl daemon-reload; hash -r"""
LISTING = r"""
find /etc /lib /usr /var /run -xdev \( -path /var/lib/dpkg/info -o -path /run/user \) -prune -o -print | grep -i banger | sort
ls /var/lib/systemd/linger; nft list tables; ip -o link | awk '{print $2}'; dmsetup ls; losetup -l -n; cat /proc/sys/net/ipv4/ip_forward
systemctl list-units --plain --no-legend 'banger*'; pgrep -a 'qemu|bangerd|banger-vmm'
"""
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def build(work):
    """The package, and the same with a higher version."""
    argv = [testhost.REPO / "packaging/build-deb", "--version", "0.1.0~test1", work]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]} (tools: scripts/dependencies install package)"
    deb, tree = work / "banger_0.1.0~test1_amd64.deb", work / "tree"
    testhost.run("dpkg-deb", "--raw-extract", deb, tree)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("~test1", "~test2"))
    testhost.run("dpkg-deb", "--root-owner-group", "--build", tree, work / "newer.deb", stdout=subprocess.DEVNULL)
    return deb, work / "newer.deb"


def main_pids(host):
    """Of the helper and of the owner's manager."""
    return host.sh("systemctl show -P MainPID bangerd-root; systemctl --user -M dev@ show -P MainPID bangerd").stdout.split()


def run(host):
    work = pathlib.Path(tempfile.mkdtemp(prefix="banger-package-", dir="/var/tmp"))
    try:
        for source, target in zip(build(work), ("/root/1.deb", "/root/2.deb")):
            host.put(source.read_bytes(), target)
    finally:
        shutil.rmtree(work)
    host.sh(AWAY, timeout=120)
    before = host.sh(LISTING, check=False).stdout.splitlines()

    host.sh("dpkg --install /root/1.deb", timeout=120)
    state = host.sh("systemctl is-enabled bangerd-root; systemctl is-active bangerd-root bangerd; ls /etc/banger", check=False).stdout
    assert state.split() == ["disabled", "inactive", "inactive"], state
    host.sh("/usr/bin/banger system install --owner dev", timeout=120)
    host.banger("vm", "run", "--name", "web", "--memory", "256M", "--detach")
    boot_id, pid, services = host.guest("web", BOOT_ID), host.show("web")["pid"], main_pids(host)

    host.sh("dpkg --install /root/2.deb", timeout=120)
    assert "~test2" in host.sh("dpkg-query -W banger").stdout
    assert (host.show("web")["pid"], host.guest("web", BOOT_ID)) == (pid, boot_id)
    after = main_pids(host)
    assert "0" not in services + after and not set(services) & set(after), (services, after)

    host.guest("web", "echo kept > /root/file")
    host.sh("dpkg --remove banger", timeout=180)
    ended = host.sh(f"pgrep -a 'qemu|bangerd|banger-vmm'; ls -d /proc/{pid}; ip -o link | grep -E 'br-fc|tap-fc'; nft list tables", check=False)
    assert ended.stdout == "", ended
    assert host.sh("ls /etc/banger/install.toml /var/lib/banger/*/vms/*/record.json").stdout.count("\n") == 2

    host.sh("dpkg --install /root/2.deb", timeout=120)
    host.banger("vm", "start", "web")
    assert host.guest("web", "cat /root/file") == "kept\n", "removal pulled the plug"

    host.sh("dpkg --purge banger", timeout=180)
    after = host.sh(LISTING, check=False).stdout.splitlines()
    before = [line for line in before if not line.startswith(("/var/lib/banger", "/var/cache/banger"))]
    assert after == before, (sorted(set(after) - set(before)), sorted(set(before) - set(after)))
