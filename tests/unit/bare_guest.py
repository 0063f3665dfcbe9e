"""A guest of nothing but an imported kernel, a program as /init and disks: under QEMU, without banger's services.

Used by tests/unit/manager/image/test_grow.py and tests/unit/guest/test_roots.py.
Never waits without an end. Emulated also where there is KVM: what is looked at is the same, and nested KVM is not everywhere whole.
"""

import glob
import os
import pathlib
import re
import subprocess

QEMU = "/usr/bin/qemu-system-x86_64"


def find_kernel():
    """A folder with vmlinux and the initrd of its modules: $BANGER_TEST_KERNEL, else any that is below /var/lib/banger."""
    folders = [os.environ["BANGER_TEST_KERNEL"]] if "BANGER_TEST_KERNEL" in os.environ else \
        sorted(glob.glob("/var/lib/banger/*/kernels/*/"))
    for folder in map(pathlib.Path, folders):
        if os.access(folder / "vmlinux", os.R_OK) and os.access(folder / "initrd", os.R_OK):
            return folder
    return None


def missing():
    if not os.path.exists(QEMU):
        return QEMU
    return None if find_kernel() else "an imported kernel (scripts/quickstart --prepare, or BANGER_TEST_KERNEL)"


def cpio(files):
    """A newc archive: path -> bytes, executable; folders that it names are made."""
    def entry(path, content, mode):
        fields = (1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path.encode() + b"\0"
        head += b"\0" * (-len(head) % 4)
        return head + content + b"\0" * (-len(content) % 4)

    folders = sorted({os.path.dirname(path) for path in files} - {""})
    return (b"".join(entry(path, b"", 0o40755) for path in folders) + b"".join(entry(path, data, 0o100755) for path, data in files.items())
            + entry("TRAILER!!!", b"", 0))


def clock():
    """As banger-vmm-qemu does: without, the guest counts ticks that a busy host loses, and may wait for ever for them."""
    mhz = re.search(r"^cpu MHz\s*: ([\d.]+)$", pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii"), re.M)
    return f"tsc_early_khz={round(float(mhz[1]) * 1000)} tsc=reliable" if mhz else ""


def boot(folder, files, disks, seconds):
    """Runs to the guest's own end. @disks: (serial, path). Returns what it printed, and how QEMU ended."""
    kernel = find_kernel()
    modules = (kernel / "initrd").read_bytes()
    (folder / "initrd").write_bytes(modules + b"\0" * (-len(modules) % 512) + cpio(files))
    console = folder / "console"
    console.unlink(missing_ok=True)
    command = [QEMU, "-machine", "microvm,rtc=on,accel=tcg", "-cpu", "max,-erms,-fsrm", "-m", "256M", "-nodefaults",
               "-no-user-config", "-no-reboot", "-display", "none", "-serial", f"file:{console}", "-global", "virtio-mmio.force-legacy=false",
               "-kernel", kernel / "vmlinux", "-initrd", folder / "initrd", "-append",
               f"console=ttyS0 panic=-1 reboot=t nopti mitigations=off random.trust_cpu=on nowatchdog {clock()}"]
    # From .7 down: guests hang on the interrupt of .0.
    for bus, (serial, path) in zip(range(7, 0, -1), disks):
        command += ["-drive", f"if=none,format=raw,cache=unsafe,id=d{serial},file={path}",
                    "-device", f"virtio-blk-device,drive=d{serial},serial={serial},bus=virtio-mmio-bus.{bus}"]
    try:
        ended = f"QEMU's status {subprocess.run(command, stdin=subprocess.DEVNULL, timeout=seconds, check=False).returncode}"
    except subprocess.TimeoutExpired:
        ended = f"not at its end after {seconds} s"
    return (console.read_text(errors="replace") if console.exists() else "").replace("\r", "") + ended


def facts(console):
    return dict(re.findall(r"^FACT ([\w-]+)=(.*)$", console, re.M))
