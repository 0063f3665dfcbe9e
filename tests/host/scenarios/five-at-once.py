"""Five VMs start at once, each is itself, each is reached by its own address; all are deleted at once."""

LONG = True
NAMES = [f"five{i}" for i in range(5)]


def together(host, line):
    script = "export XDG_RUNTIME_DIR=/run/user/$(id -u); " + "".join(f"{line.format(name)} & p{i}=$!; " for i, name in enumerate(NAMES))
    script += "".join(f"wait $p{i} || exit 1; " for i in range(len(NAMES)))
    return host.sh(script, user="dev", timeout=900).stdout


def run(host):
    try:
        together(host, "banger vm run --quiet --name {0} --vcpu 1 --memory 256M --disk-size 512M --detach")
        shown = [host.show(name) for name in NAMES]
        assert {vm["state"] for vm in shown} == {"running"}, shown
        assert len({vm["address"] for vm in shown}) == 5, shown
        assert sorted(together(host, "banger vm exec {0} -- hostname").split()) == NAMES
        scopes = host.sh("systemctl list-units --plain --no-legend 'banger-vm-*.scope'").stdout
        assert all(f"banger-vm-{vm['id']}.scope" in scopes for vm in shown), scopes
        for vm in shown:
            limits(host, vm)
    finally:
        together(host, "banger vm delete --quiet --force {0}")


def limits(host, vm):
    """The VMM and all that it started are in a scope of their own, with the limits of docs/privileges.md."""
    scope = f"banger-vm-{vm['id']}.scope"
    text = host.sh(f"systemctl show -p Slice -p MemoryMax -p TasksMax -p CPUWeight -p KillMode -p ControlGroup {scope}").stdout
    shown = dict(line.split("=", 1) for line in text.splitlines())
    programs = host.sh(f"cat /proc/{vm['pid']}/cgroup; cd /sys/fs/cgroup/{shown['ControlGroup']}; cat memory.max pids.max cpu.weight; "
                       "for pid in $(cat cgroup.procs); do readlink -q /proc/$pid/exe >/dev/null || continue; stat -c %U /proc/$pid; cat /proc/$pid/comm; done").stdout.split()
    beside = 1536 if any(name.startswith("qemu") for name in programs) else 256
    expected = {"Slice": "banger.slice", "MemoryMax": str((256 + beside) << 20), "TasksMax": "256", "CPUWeight": "100",
                "KillMode": "control-group", "ControlGroup": f"/banger.slice/{scope}"}
    assert shown == expected, shown
    assert programs[:4] == [f"0::/banger.slice/{scope}", expected["MemoryMax"], "256", "100"], programs
    assert set(programs[4::2]) == {"dev"}, programs  # of the kernel's threads in it, none has a program
