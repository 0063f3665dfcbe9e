"""A hundred VMs are created and deleted: no file, lease, descriptor or memory more than before."""

CYCLES = """set -e
for i in $(seq {0}); do
  busctl --user call org.banger.Manager /org/banger/Manager org.banger.Manager CreateVM 'sa{{sv}}' cycle 2 wait b true disk-bytes t 134217728 >/dev/null
  busctl --user call org.banger.Manager /org/banger/Manager org.banger.Manager DeleteVM 'sa{{sv}}' cycle 1 wait b true >/dev/null
done"""
SIZES = """for pid in $(systemctl show -P MainPID bangerd-root) $(systemctl --user -M dev@ show -P MainPID bangerd); do
ls /proc/$pid/fd | wc -l; sed -n 's/^VmRSS:\\s*\\([0-9]*\\).*/\\1/p' /proc/$pid/status; done"""


def run(host):
    host.as_owner(CYCLES.format(20), timeout=300)  # caches are warm
    files, before = host.sh("find /var/lib/banger /run/banger | sort").stdout, [int(n) for n in host.sh(SIZES).stdout.split()]
    host.as_owner(CYCLES.format(100), timeout=600)
    after = [int(n) for n in host.sh(SIZES).stdout.split()]
    assert host.sh("find /var/lib/banger /run/banger | sort").stdout == files
    assert after[0] <= before[0] and after[2] <= before[2], f"descriptors: {before} -> {after}"
    assert after[1] <= before[1] + 2048 and after[3] <= before[3] + 4096, f"memory (KiB): {before} -> {after}"
