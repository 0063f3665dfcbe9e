"""The test host: a Debian VM with systemd, device-mapper and nested KVM, in which the installed product is judged.

Used by scripts/test-host and by tests/host/run.py.
Never leaves a process, and never writes outside its cache and its run folder.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
CACHE = pathlib.Path(os.environ.get("BANGER_TEST_CACHE", "/var/cache/banger-test"))
OWNER = "dev"
SUITE = "bookworm"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
# What a host of banger has installed anyway; banger's own run-time needs come from scripts/dependencies.
BASE_PACKAGES = [
    KERNEL_PACKAGE, "systemd-sysv", "systemd-resolved", "udev", "dbus", "dbus-user-session", "polkitd", "libpam-systemd",
    "openssh-server", "iproute2", "nftables", "dmsetup", "e2fsprogs", "sudo", "procps", "kmod", "ca-certificates", "zstd",
    "python3-minimal",
    # Their rules for udev look into every disk, and act on what is there.
    "lvm2", "mdadm", "btrfs-progs",
    "firewalld", "ufw",
]
# There, and started by the scenario that is about them alone.
DISABLED = ["firewalld", "ufw"]
# Slow under emulation and of no use here.
MASKED = [
    "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
    "dpkg-db-backup.timer", "systemd-pstore.service", "getty@tty1.service", "getty-static.service",
    "lvm2-monitor.service", "lvm2-lvmpolld.socket", "dm-event.socket", "mdmonitor-oneshot.timer", "mdcheck_start.timer",
    "mdcheck_continue.timer", "systemd-timesyncd.service", "systemd-networkd-wait-online.service", "man-db.timer", "logrotate.timer",
]
# Under emulation each change between guests costs as much as thousands of instructions: long turns, and what wakes up
# gets its turn at once all the same. Five guests start in two thirds of the time.
SCHEDULER = "cd /sys/kernel/debug/sched && echo 400000000 > latency_ns && echo 100000000 > min_granularity_ns"
QEMU_MEMORY_MIB = 6144
# With two, the host's kernel panicked or froze now and then while nested guests ran: QEMU's emulation of SVM is not safe on
# several processors. Use the others with JOBS.
QEMU_CPUS = int(os.environ.get("BANGER_TEST_CPUS", "1"))


class HostError(Exception):
    """Something about the test host itself, not about banger."""


def run(*argv, **options):
    return subprocess.run([str(a) for a in argv], check=True, **options)


# Images: made once for each content of their inputs

def packages():
    own = subprocess.run([REPO / "scripts/dependencies", "run", "libraries"], check=True, capture_output=True, text=True).stdout
    return sorted(set(BASE_PACKAGES) | set(own.split()))


def customise_script():
    """Run by mmdebstrap with the new root as its argument."""
    return f"""#!/bin/sh
set -eu
root=$1
echo banger-host > "$root/etc/hostname"
printf '127.0.0.1 localhost banger-host\\n' > "$root/etc/hosts"
printf '/dev/vda / ext4 rw,noatime 0 1\\n/dev/vdb /media/guest ext4 ro,nofail,x-systemd.device-timeout=5 0 0\\n' > "$root/etc/fstab"
mkdir -p "$root/etc/systemd/network" "$root/root/.ssh" "$root/media/guest"
printf '[Match]\\nName=en*\\n[Network]\\nDHCP=yes\\n' > "$root/etc/systemd/network/10-wired.network"
printf 'MaxSessions 200\\nMaxStartups 100\\nUseDNS no\\n' > "$root/etc/ssh/sshd_config.d/test.conf"
chroot "$root" systemctl enable systemd-networkd ssh >/dev/null 2>&1
chroot "$root" systemctl mask {' '.join(MASKED)} >/dev/null 2>&1
chroot "$root" systemctl disable {' '.join(DISABLED)} >/dev/null 2>&1
install -d -m 700 "$root/etc/skel/.config" "$root/etc/skel/.config/banger"
printf '[templates]\\nwarm = "off"\\n' > "$root/etc/skel/.config/banger/config.toml"  # no VM that a scenario did not ask for
for user in {OWNER} other; do
  chroot "$root" useradd --create-home --shell /bin/bash $user
  chroot "$root" install -d -m 700 -o $user -g $user /home/$user/.ssh
done
printf 'MODULES=list\\nCOMPRESS=zstd\\nCOMPRESSLEVEL=1\\n' > "$root/etc/initramfs-tools/conf.d/banger"
printf 'virtio_pci\\nvirtio_blk\\next4\\n' >> "$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u >/dev/null 2>&1
printf 'kvm_amd\\nvhost_vsock\\ndm_snapshot\\nloop\\ntun\\n' > "$root/etc/modules-load.d/banger.conf"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\\nStorage=persistent\\nSyncIntervalSec=5s\\n' > "$root/etc/systemd/journald.conf.d/banger.conf"
: > "$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -f "$root/etc/ssh/ssh_host_ed25519_key"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
"""


def apt_sources():
    """Debian's sources among this machine's, as lines of sources.list(5); empty: mmdebstrap's own default."""
    text = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)",
                           "Created-By: Packages"], capture_output=True, text=True, check=False).stdout
    rows = [row.split("|") for row in text.splitlines()]
    lines = [f"deb {uri} {release} {component}" for uri, release, component, origin in rows
             if origin == "Debian" and release.startswith(SUITE) and uri.startswith("http")]
    return sorted(set(lines)) if any(f" {SUITE} main" in line for line in lines) else []


def apt_proxies():
    text = subprocess.run(["apt-config", "dump", "--format", "%f %v%n", "Acquire"], capture_output=True, text=True,
                          check=False).stdout
    pairs = [line.split(" ", 1) for line in text.splitlines() if "::Proxy" in line]
    return [f'--aptopt={name} "{value}"' for name, value in pairs if value]


# Packages' scripts run as root: polkitd's stops each polkitd that it sees. They see nothing of this machine's processes and
# mounts; when this process ends, so does everything there.
ALONE = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--mount", "--ipc", "--fork", "--kill-child", "--mount-proc", "--"]


def mmdebstrap(target, include, hook, *options):
    run(*ALONE, "mmdebstrap", "--quiet", "--mode=root", f"--include={','.join(include)}", f"--customize-hook={hook}",
        '--aptopt=Apt::Install-Recommends "false"', "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*", *apt_proxies(), *options,
        SUITE, target, *apt_sources(), stdin=subprocess.DEVNULL, timeout=1200)


def product_image_recipe():
    """Packages and script of `banger image build`: the guest is the one that users have."""
    room = REPO / "src/manager/image"
    return (room / "golden-packages").read_text().split(), (room / "golden.sh").read_text()


def digest(*parts):
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


IN_USE = []  # open files: each holds a lock on a folder of the cache until this process ends


def hold(folder):
    IN_USE.append(open(folder / "done", encoding="ascii"))
    fcntl.flock(IN_USE[-1], fcntl.LOCK_SH)
    return folder


def identity(folder):
    """Of what was made: the same inputs made again are other blocks, and nothing saved on the first rests on the second."""
    return f"{folder.name} {(folder / 'done').stat().st_mtime_ns}"


def forget_old(kind):
    """Removes what was made from other inputs, unless somebody's hosts rest on it."""
    for old in CACHE.glob(f"{kind}-*"):
        with contextlib.suppress(OSError), open(old / "done", encoding="ascii") as done:
            fcntl.flock(done, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)


def cached(name, make, say):
    """The folder CACHE/@name, filled by @make(folder) if it is not there whole; two callers make it once."""
    folder = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "done").exists():
            return hold(folder)
        started = time.monotonic()
        forget_old(name.rsplit("-", 1)[0])
        for old in list(CACHE.glob("building-*")) + [folder]:
            shutil.rmtree(old, ignore_errors=True)
        work = pathlib.Path(tempfile.mkdtemp(prefix="building-", dir=CACHE))
        try:
            make(work)
            (work / "done").touch()
            work.chmod(0o755)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        say(f"made {folder} in {time.monotonic() - started:.0f} s")
        return hold(folder)


def make_host(work):
    hook, root, key = work / "customise", work / "root", work / "key"
    hook.write_text(customise_script())
    hook.chmod(0o755)
    mmdebstrap(root, packages(), hook, "--variant=apt")
    for name, pattern in (("vmlinuz", "boot/vmlinuz-*"), ("initrd", "boot/initrd.img-*")):
        shutil.copy(next(root.glob(pattern)), work / name)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    for home in ("root", f"home/{OWNER}", "home/other"):
        path = root / home / ".ssh/authorized_keys"
        path.write_text((work / "key.pub").read_text())
        owner = (root / home).stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o600)
    (work / "host_key.pub").write_text((root / "etc/ssh/ssh_host_ed25519_key.pub").read_text())
    run("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", root, work / "root.ext4", "12G")
    shutil.rmtree(root)


def build(say=print):
    """The image of the test host itself. Needs the network only if it is not in the cache."""
    return cached(f"host-{digest(packages(), customise_script(), 4)}", make_host, say)


def make_guest(work):
    """A kernel package and a root file system, as another machine would have made them, on a disk of their own."""
    files = work / "files"
    files.mkdir()
    include, script = product_image_recipe()
    hook = work / "customise"
    hook.write_text(f"#!/bin/sh\n{script}")
    hook.chmod(0o755)
    mmdebstrap(files / "image.tar", include, hook, "--variant=essential")
    depends = subprocess.run(["apt-cache", "depends", KERNEL_PACKAGE], capture_output=True, text=True, check=True).stdout
    package = re.search(r"Depends: (linux-image-[0-9]\S*)", depends)[1]
    run("apt-get", "-q", "download", package, cwd=files, stdout=subprocess.DEVNULL, timeout=600)
    next(files.glob("*.deb")).rename(files / "kernel.deb")
    for path in files.iterdir():
        path.chmod(0o644)
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", files, work / "guest.ext4", "1G")
    shutil.rmtree(files)


def build_guest(say=print):
    return cached(f"guest-{digest(*product_image_recipe(), KERNEL_PACKAGE, 3)}", make_guest, say)


# One running host

class Monitor:
    """QEMU's machine protocol (QMP) with one host."""

    def __init__(self, host):
        self.host = host

    def __enter__(self):
        deadline = time.monotonic() + 60
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(str(self.host.run / "qmp"))
                break
            except OSError:
                self.socket.close()
                if self.host.process.poll() is not None or time.monotonic() > deadline:
                    raise HostError(f"QEMU does not answer: {(self.host.run / 'qemu.log').read_text()[-2000:]}") from None
                time.sleep(0.02)
        self.socket.settimeout(120)
        self.lines, self.events = self.socket.makefile("r", encoding="utf-8"), []
        self.read()
        self.do("qmp_capabilities")
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()

    def read(self):
        line = self.lines.readline()
        if not line:
            raise HostError(f"QEMU ended: {(self.host.run / 'qemu.log').read_text()[-2000:]}")
        return json.loads(line)

    def do(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            said = self.read()
            if "error" in said:
                raise HostError(f"{command}: {said['error']}")
            if "return" in said:
                return said["return"]
            self.events.append(said)

    def wait(self, event, status):
        """Until an event of that name and status."""
        while True:
            said = self.events.pop(0) if self.events else self.read()
            if said.get("event") == event:
                if said["data"]["status"] == "failed":
                    raise HostError(f"{event}: {said}; {(self.host.run / 'qemu.log').read_text()[-2000:]}")
                if said["data"]["status"] == status:
                    return

    def share_memory(self):
        """What is migrated is without the memory: that is a file. Its progress is told by events."""
        self.do("migrate-set-capabilities", capabilities=[{"capability": name, "state": True} for name in ("events", "x-ignore-shared")])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class TestHost:
    """One running test host with a throwaway overlay on @disk."""

    def __init__(self, folder, run_folder, disk=None, guest=None, machine=None):
        self.folder, self.run = pathlib.Path(folder), pathlib.Path(run_folder)
        self.disk, self.guest_disk, self.machine = disk or (self.folder / "root.ext4", "raw"), guest, machine
        self.port, self.process, self.masters, self.lock, self.units = None, None, {}, threading.Lock(), 0
        self.used = 0.0  # seconds of this machine's processors that its QEMUs took which have ended

    @property
    def console(self):
        return self.run / "console.log"

    @property
    def overlay(self):
        return self.run / "overlay.qcow2"

    @property
    def memory(self):
        return self.run / "memory"

    def argv(self):
        return [
            "qemu-system-x86_64", "-M", "q35,memory-backend=memory", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", QEMU_CPUS,
            "-m", QEMU_MEMORY_MIB, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", self.folder / "vmlinuz", "-initrd", self.folder / "initrd",
            "-append", "root=/dev/vda rw console=ttyS0 quiet nopti mitigations=off no_timer_check panic=-1 systemd.show_status=0",
            "-drive", f"file={self.overlay},if=virtio,format=qcow2,cache=unsafe",
            "-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=n0",
            "-serial", f"file:{self.console}", "-device", "virtio-rng-pci", "-qmp", f"unix:{self.run}/qmp,server=on,wait=off",
            *(["-drive", f"file={self.guest_disk},if=virtio,format=raw,readonly=on"] if self.guest_disk else []),
        ]

    def start(self, memory, *more, detach=False):
        """Runs QEMU; @memory: properties of the object that is the host's memory."""
        self.port = free_port()
        argv = [] if detach else ["setpriv", "--pdeathsig", "KILL", "--"]
        argv += self.argv() + ["-object", f"{memory},id=memory,size={QEMU_MEMORY_MIB}M", *more]
        with open(self.run / "qemu.log", "ab") as log:
            self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)

    def boot(self, keep_overlay=False, detach=False, keep_memory=False):
        """Starts QEMU and waits until root can log in. A second boot with @keep_overlay is the same machine. With
        @keep_memory it can be saved. A host with a saved @machine goes on from there instead."""
        self.run.mkdir(parents=True, exist_ok=True)
        if not keep_overlay:
            run("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.disk[0], "-F", self.disk[1], self.overlay)
        if self.machine and not keep_overlay:
            return self.resume(keep_memory)
        self.start(f"memory-backend-file,share=on,mem-path={self.memory}" if keep_memory else "memory-backend-ram", detach=detach)
        self.wait_for_ssh(600)  # one that others start from is made beside builds, which go before
        self.sh(SCHEDULER)
        if self.guest_disk:  # systemd waits five seconds for it, which is too short on a machine that does other things
            self.sh("mountpoint -q /media/guest || mount /media/guest")

    def save(self, target, go_on=False):
        """The running host, booted with @keep_memory, becomes files in a folder: a host's @machine. QEMU ends, or goes on
        with what it has."""
        self.disconnect()
        with Monitor(self) as monitor:
            monitor.share_memory()
            monitor.do("stop")
            monitor.do("migrate", uri=f"exec:cat > {shlex.quote(str(target / 'devices'))}")
            monitor.wait("MIGRATION", "completed")
            if go_on:
                run("cp", "--sparse=always", self.memory, target / "memory")
                run("cp", "--sparse=always", self.overlay, target / "disk.qcow2")
                monitor.do("cont")
                return
            monitor.do("quit")
        self.process.wait(60)
        os.replace(self.memory, target / "memory")
        os.replace(self.overlay, target / "disk.qcow2")

    def resume(self, keep_memory):
        """Memory and disk are a copy of what was saved as soon as they are written to, so this takes no time; memory that
        is to be saved again is copied at once."""
        if keep_memory:
            run("cp", "--sparse=always", self.machine / "memory", self.memory)
            self.start(f"memory-backend-file,share=on,mem-path={self.memory}", "-incoming", "defer")
        else:
            self.start(f"memory-backend-file,share=off,mem-path={self.machine / 'memory'}", "-incoming", "defer")
        with Monitor(self) as monitor:
            monitor.share_memory()
            monitor.do("migrate-incoming", uri=f"exec:cat {shlex.quote(str(self.machine / 'devices'))}")
            monitor.wait("MIGRATION", "completed")
            monitor.do("cont")
        self.wait_for_ssh(600)  # seconds where the machine does nothing else
        self.sh(f"date -s @{time.time():.3f}")  # its clock stood still meanwhile

    def ssh_argv(self, user="root"):
        known = self.run / "known_hosts"
        if not known.exists():
            known.write_text("banger-host " + (self.folder / "host_key.pub").read_text())
        return ["ssh", "-F", "none", "-i", str(self.folder / "key"), "-p", str(self.port), "-o", "HostKeyAlias=banger-host",
                "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes",
                "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=20",
                "-o", f"ControlPath={self.run}/{user}.ssh", f"{user}@127.0.0.1"]

    def connect(self, user):
        """One connection per user carries all commands: a handshake takes a second under emulation."""
        with self.lock:
            master = self.masters.get(user)
            if master and master.poll() is None:
                return
            (self.run / f"{user}.ssh").unlink(missing_ok=True)
            argv = self.ssh_argv(user)
            master = subprocess.Popen(argv[:-1] + ["-M", "-N", "-T", argv[-1]], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            self.masters[user] = master
            deadline = time.monotonic() + 60
            while not (self.run / f"{user}.ssh").exists():
                if master.poll() is not None or time.monotonic() > deadline:
                    master.kill()
                    master.wait()
                    raise HostError(f"{user} cannot log in to the test host")
                time.sleep(0.02)

    def disconnect(self):
        masters, self.masters = self.masters, {}  # a run that ends does this beside a scenario
        for user, master in list(masters.items()):
            master.kill()
            master.wait()
            (self.run / f"{user}.ssh").unlink(missing_ok=True)

    def sh(self, script, user="root", timeout=300, check=True, stdin=None):
        """Runs a shell script in the host. Returns CompletedProcess with text output."""
        self.connect(user)
        text = not isinstance(stdin, bytes)
        source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        done = subprocess.run(self.ssh_argv(user) + ["--", script], capture_output=True, text=text, timeout=timeout,
                              check=False, **source)
        done.args = f"{user}$ {script}"  # what a failed assertion shows
        if check and done.returncode != 0:
            raise HostError(f"{done.args}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    @contextlib.contextmanager
    def background(self, script, user="root"):
        """The same beside what follows: a unit of the test host's, which is stopped afterwards."""
        with self.lock:
            self.units += 1
            unit = f"background{self.units}.service"
        environment = "export XDG_RUNTIME_DIR=/run/user/$(id -u); "
        self.sh(f"systemd-run -q --collect -p User={user} -p WorkingDirectory=/ --unit={unit} bash -c {shlex.quote(environment + script)}")
        try:
            yield unit
        finally:
            if self.process.poll() is None:
                self.sh(f"systemctl stop {unit}", check=False)

    def wait_for_ssh(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process and self.process.poll() is not None:
                raise HostError(f"QEMU ended with {self.process.returncode}: {(self.run / 'qemu.log').read_text()[-2000:]}")
            with contextlib.suppress(HostError, subprocess.TimeoutExpired):
                if self.sh("true", timeout=30, check=False).returncode == 0:
                    return
            time.sleep(0.5)
        raise HostError(f"no ssh answer for {seconds} s; console ends with:\n{self.console.read_text(errors='replace')[-3000:]}")

    def wait(self, script, seconds, user="root"):
        """Until a shell script in the host exits 0; asked inside the host, so that no connection is made for each try, and not
        often: what is asked starts programs, and slows down what is waited for."""
        loop = f"export XDG_RUNTIME_DIR=/run/user/$(id -u); for i in $(seq {seconds * 4}); do if {script}; then exit 0; fi; sleep 0.5; done; exit 1"
        if self.sh(loop, user=user, timeout=seconds * 3 + 60, check=False).returncode != 0:
            raise HostError(f"not within {seconds} s: {script}")

    def put_tree(self, source, target="/"):
        """Copies the content of the folder @source below @target, owned by root."""
        tar = subprocess.run(["tar", "-C", str(source), "--owner=0", "--group=0", "-cf", "-", "."], check=True,
                             capture_output=True).stdout
        self.sh(f"mkdir -p {target} && tar -C {target} -xf - --no-overwrite-dir", stdin=tar)

    def put(self, content, target, user="root"):
        self.sh(f"cat > {shlex.quote(target)}", stdin=content, user=user)

    def died(self):
        """Whether the host itself is gone: emulated nested KVM sometimes panics or freezes its kernel; banger cannot."""
        if self.process.poll() is not None or "Kernel panic" in self.console.read_text(errors="replace"):
            return True
        self.disconnect()
        with contextlib.suppress(HostError, subprocess.TimeoutExpired):
            return self.sh("true", timeout=60, check=False).returncode != 0
        return True

    def count(self):
        """Adds up what QEMU takes, before it has been waited for."""
        with contextlib.suppress(OSError):
            stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
            self.used += (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def ended(self):
        """Whether it has, if nobody has waited for it yet."""
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        return True

    def power_cut(self):
        self.disconnect()
        if self.process and self.process.poll() is None:
            self.count()
            self.process.kill()
            self.process.wait()

    def power_off(self, seconds=60):
        """Orderly, so that the overlay can be booted again; cut if it does not end in time."""
        if self.process is None or self.process.poll() is not None:
            return self.disconnect()
        with contextlib.suppress(Exception):
            self.sh("systemctl poweroff --no-block", timeout=20, check=False)
        deadline = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.1)
        if self.ended():
            self.count()
            self.process.wait()
        return self.power_cut()


def main(argv):
    """build, up, ssh, down: for people; scenarios are run by run.py."""
    run_folder = pathlib.Path("/run/banger-test-host")
    state = run_folder / "state.json"
    verb = argv[0] if argv else "help"
    if verb == "build":
        print(build(), build_guest())
    elif verb == "up":
        host = TestHost(build(), run_folder, guest=build_guest() / "guest.ext4")
        started = time.monotonic()
        host.boot(detach=True)
        host.disconnect()
        state.write_text(json.dumps({"port": host.port, "pid": host.process.pid}))
        print(f"test host is up after {time.monotonic() - started:.1f} s; scripts/test-host ssh")
    elif verb == "ssh":
        host = TestHost(build(), run_folder)
        host.port = json.loads(state.read_text())["port"]
        os.execvp("ssh", host.ssh_argv() + argv[1:])
    elif verb == "down":
        pid = json.loads(state.read_text())["pid"]
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if b"qemu-system" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
        shutil.rmtree(run_folder)
    elif verb == "clean":
        shutil.rmtree(CACHE, ignore_errors=True)
    else:
        print("usage: scripts/test-host build | up | ssh [COMMAND...] | run [SCENARIO...] | down | clean", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
