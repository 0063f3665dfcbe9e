"""The test host: a Debian VM with systemd, device-mapper and nested KVM, in which the installed product is judged.

Used by scripts/test-host and by the scenarios in tests/host/scenarios.
Never leaves a process, and never writes outside its cache and its run folder.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
CACHE = pathlib.Path(os.environ.get("BANGER_TEST_CACHE", "/var/cache/banger-test"))
OWNER = "dev"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
# What a host of banger has installed anyway; banger's own run-time needs come from scripts/dependencies.
BASE_PACKAGES = [
    KERNEL_PACKAGE, "systemd-sysv", "systemd-resolved", "udev", "dbus", "dbus-user-session", "polkitd", "libpam-systemd",
    "openssh-server", "iproute2", "nftables", "dmsetup", "e2fsprogs", "sudo", "procps", "kmod", "ca-certificates", "zstd",
]
# Slow under emulation and of no use here.
MASKED = [
    "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
    "dpkg-db-backup.timer", "systemd-pstore.service", "getty@tty1.service", "getty-static.service",
    "systemd-timesyncd.service", "systemd-networkd-wait-online.service", "man-db.timer", "logrotate.timer",
]


class HostError(Exception):
    """Something about the test host itself, not about banger."""


def run(*argv, **options):
    return subprocess.run([str(a) for a in argv], check=True, **options)


def packages():
    own = subprocess.run([REPO / "scripts/dependencies", "run"], check=True, capture_output=True, text=True).stdout
    return sorted(set(BASE_PACKAGES) | set(own.split()))


def customise_script():
    """Run by mmdebstrap with the new root as its argument."""
    return f"""#!/bin/sh
set -eu
root=$1
echo banger-host > "$root/etc/hostname"
printf '127.0.0.1 localhost banger-host\\n' > "$root/etc/hosts"
printf '/dev/vda / ext4 rw,noatime 0 1\\n' > "$root/etc/fstab"
mkdir -p "$root/etc/systemd/network" "$root/root/.ssh"
printf '[Match]\\nName=en*\\n[Network]\\nDHCP=yes\\n' > "$root/etc/systemd/network/10-wired.network"
chroot "$root" systemctl enable systemd-networkd ssh >/dev/null 2>&1
chroot "$root" systemctl mask {' '.join(MASKED)} >/dev/null 2>&1
chroot "$root" useradd --create-home --shell /bin/bash {OWNER}
chroot "$root" useradd --create-home --shell /bin/bash other
for user in {OWNER} other; do install -d -m 700 -o "$(chroot "$root" id -u $user)" -g "$(chroot "$root" id -g $user)" "$root/home/$user/.ssh"; done
printf 'MODULES=list\\nCOMPRESS=zstd\\nCOMPRESSLEVEL=1\\n' > "$root/etc/initramfs-tools/conf.d/banger"
printf 'virtio_pci\\nvirtio_blk\\next4\\n' >> "$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u >/dev/null 2>&1
printf 'kvm_amd\\nvhost_vsock\\ndm_snapshot\\nloop\\ntun\\n' > "$root/etc/modules-load.d/banger.conf"
mkdir -p "$root/etc/systemd/journald.conf.d"; printf '[Journal]\\nStorage=persistent\\n' > "$root/etc/systemd/journald.conf.d/banger.conf"
: > "$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -f "$root/etc/ssh/ssh_host_ed25519_key"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
"""


def digest():
    text = json.dumps([packages(), customise_script(), 2])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def image_folder():
    return CACHE / f"host-{digest()}"


def build(say=print):
    """Makes the image once per content of its inputs. Returns its folder."""
    folder = image_folder()
    if (folder / "done").exists():
        return folder
    say(f"building the test host image ({len(packages())} packages)")
    CACHE.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="building-", dir=CACHE))
    try:
        hook = work / "customise"
        hook.write_text(customise_script())
        hook.chmod(0o755)
        root = work / "root"
        run("mmdebstrap", "--quiet", "--variant=apt", "--mode=root", f"--include={','.join(packages())}",
            '--aptopt=Apt::Install-Recommends "false"', '--dpkgopt=path-exclude=/usr/share/doc/*',
            '--dpkgopt=path-exclude=/usr/share/man/*', '--dpkgopt=path-exclude=/usr/share/locale/*',
            f"--customize-hook={hook}", "bookworm", root, stdin=subprocess.DEVNULL)
        for name, pattern in (("vmlinuz", "boot/vmlinuz-*"), ("initrd", "boot/initrd.img-*")):
            shutil.copy(next(root.glob(pattern)), work / name)
        key = work / "key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        public = (work / "key.pub").read_text()
        for home in ("root", f"home/{OWNER}", "home/other"):
            path = root / home / ".ssh/authorized_keys"
            path.write_text(public)
            owner = (root / home).stat()
            os.chown(path, owner.st_uid, owner.st_gid)
            path.chmod(0o600)
        (work / "host_key.pub").write_text((root / "etc/ssh/ssh_host_ed25519_key.pub").read_text())
        run("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", root, work / "root.ext4", "12G")
        shutil.rmtree(root)
        (work / "done").touch()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class TestHost:
    """One running test host with a throwaway overlay."""

    def __init__(self, folder, run_folder, memory_mib=4096, cpus=2):
        self.folder, self.run = pathlib.Path(folder), pathlib.Path(run_folder)
        self.memory_mib, self.cpus = memory_mib, cpus
        self.port, self.process = None, None

    # state on disk, so that `scripts/test-host ssh` finds a host that another call started
    def save(self):
        (self.run / "state.json").write_text(json.dumps({"port": self.port, "pid": self.process.pid}))

    @property
    def console(self):
        return self.run / "console.log"

    def boot(self, keep_overlay=False):
        self.run.mkdir(parents=True, exist_ok=True)
        overlay = self.run / "overlay.qcow2"
        if not keep_overlay or not overlay.exists():
            run("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.folder / "root.ext4", "-F", "raw", overlay)
        self.port = free_port()
        argv = [
            "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(self.cpus),
            "-m", str(self.memory_mib), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", self.folder / "vmlinuz", "-initrd", self.folder / "initrd",
            "-append", "root=/dev/vda rw console=ttyS0 quiet nopti mitigations=off panic=-1 systemd.show_status=0",
            "-drive", f"file={overlay},if=virtio,format=qcow2,cache=unsafe",
            "-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=n0",
            "-serial", f"file:{self.console}", "-device", "virtio-rng-pci",
            "-qmp", f"unix:{self.run}/qmp.sock,server=on,wait=off",
        ]
        with open(self.run / "qemu.log", "ab") as log:
            self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        self.save()
        self.wait_for_ssh(180)

    def ssh_argv(self, user="root", tty=False):
        known = self.run / "known_hosts"
        known.write_text("banger-host " + (self.folder / "host_key.pub").read_text())
        return ["ssh", "-F", "none", "-i", str(self.folder / "key"), "-p", str(self.port), "-o", "HostKeyAlias=banger-host",
                "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes",
                "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15",
                "-t" if tty else "-T", f"{user}@127.0.0.1"]

    def sh(self, script, user="root", timeout=300, check=True, stdin=None):
        """Runs a shell script in the host. Returns CompletedProcess with text output."""
        done = subprocess.run(self.ssh_argv(user) + [script], input=stdin, capture_output=True, text=stdin is None or isinstance(stdin, str),
                              timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise HostError(f"{user}$ {script}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def wait_for_ssh(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process and self.process.poll() is not None:
                raise HostError(f"QEMU ended with {self.process.returncode}: {(self.run / 'qemu.log').read_text()[-2000:]}")
            try:
                if self.sh("true", timeout=30, check=False).returncode == 0:
                    return
            except subprocess.TimeoutExpired:
                pass
            time.sleep(0.5)
        raise HostError(f"no ssh answer for {seconds} s; console ends with:\n{self.console.read_text(errors='replace')[-3000:]}")

    def put_tree(self, source, target="/"):
        """Copies the content of the folder @source below @target, owned by root."""
        tar = subprocess.Popen(["tar", "-C", str(source), "--owner=0", "--group=0", "-cf", "-", "."], stdout=subprocess.PIPE)
        done = subprocess.run(self.ssh_argv() + [f"mkdir -p {target} && tar -C {target} -xf - --no-overwrite-dir"], stdin=tar.stdout, check=False)
        tar.stdout.close()
        if tar.wait() != 0 or done.returncode != 0:
            raise HostError(f"cannot copy {source} to the test host's {target}")

    def put_file(self, source, target, user="root"):
        with open(source, "rb") as data:
            done = subprocess.run(self.ssh_argv(user) + [f"cat > {target}"], stdin=data, check=False)
        if done.returncode != 0:
            raise HostError(f"cannot copy {source} to the test host's {target}")

    def power_cut(self):
        self.process.kill()
        self.process.wait()

    def power_off(self, seconds=60):
        if self.process is None or self.process.poll() is not None:
            return
        with contextlib.suppress(Exception):
            self.sh("systemctl poweroff", timeout=20, check=False)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.power_cut()


def main(argv):
    """up, ssh, down: for people; scenarios are run by run.py."""
    run_folder = pathlib.Path("/run/banger-test-host")
    state = run_folder / "state.json"
    verb = argv[0] if argv else "help"
    if verb == "build":
        print(build())
    elif verb == "up":
        host = TestHost(build(), run_folder)
        started = time.monotonic()
        host.boot()
        print(f"test host is up after {time.monotonic() - started:.1f} s; scripts/test-host ssh")
    elif verb == "ssh":
        host = TestHost(build(), run_folder)
        host.port = json.loads(state.read_text())["port"]
        os.execvp("ssh", host.ssh_argv(tty=len(argv) == 1) + argv[1:])
    elif verb == "down":
        pid = json.loads(state.read_text())["pid"]
        with contextlib.suppress(ProcessLookupError):
            if b"qemu-system" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
        shutil.rmtree(run_folder)
    elif verb == "clean":
        shutil.rmtree(CACHE, ignore_errors=True)
    else:
        print("usage: test-host build | up | ssh [COMMAND...] | down | clean", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
