"""The Debian package: install chooses nobody, an upgrade leaves a running VM alone, removal shuts it down in order and keeps it, purge leaves nothing."""

import os
import pathlib
import subprocess

import testhost

GONE = LONG = True
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
DEB = "banger_0.1.0~test1_amd64.deb"


def outside(work):
    """The package, and the same with a higher version, as files of this machine's. Not compressed: to unpack what is takes
    longer under emulation than all else that dpkg does, and tests/package installs it as it was built."""
    deb, older, newer, tree = pathlib.Path(os.environ.get("BANGER_TEST_PACKAGE", work)) / DEB, work / "older.deb", work / "newer.deb", work / "tree"
    pack = ("dpkg-deb", "-Znone", "--root-owner-group", "--build", tree)
    if not deb.exists():  # else tests/package has built it
        argv = [testhost.REPO / "packaging/build-deb", "--version", "0.1.0~test1", deb.parent]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]} (tools: scripts/dependencies install package)"
    testhost.run("dpkg-deb", "--raw-extract", deb, tree)
    testhost.run(*pack, older, stdout=subprocess.DEVNULL)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("~test1", "~test2"))
    testhost.run(*pack, newer, stdout=subprocess.DEVNULL)
    return older, newer


def main_pids(host):
    """Of the helper and of the owner's manager."""
    return host.sh("systemctl show -P MainPID bangerd-root; systemctl --user -M dev@ show -P MainPID bangerd").stdout.split()


def run(host):
    for source, target in zip(host.outside, ("/root/1.deb", "/root/2.deb")):
        host.put(source.read_bytes(), target)
    # In place of what `meson install` put there; the kernel and the image stay.
    host.sh("banger system uninstall; systemctl stop user@$(id -u dev)", timeout=120)
    host.remove_product()

    host.sh("dpkg --install /root/1.deb", timeout=120)
    state = host.sh("systemctl is-enabled bangerd-root; systemctl is-active bangerd-root bangerd; ls /etc/banger", check=False).stdout
    assert state.split() == ["disabled", "inactive", "inactive"], state
    host.sh("/usr/bin/banger system install --owner dev", timeout=120)
    host.banger("vm", "run", "--name", "web", "--vcpu", "1", "--memory", "256M", "--detach")
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
    host.compare_never()
