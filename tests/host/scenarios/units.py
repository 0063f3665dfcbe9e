"""systemd and polkit on the host agree with docs/privileges.md: verified units, their exposure, capabilities, actions, files."""

import re

MAX_EXPOSURE = 3.9  # as systemd/meson.build holds the file to


def run(host):
    said = host.sh("systemd-analyze verify --man=no bangerd-root.service banger.slice", check=False)
    assert said.returncode == 0 and not said.stderr.strip(), said
    said = host.as_owner("systemd-analyze --user verify --man=no bangerd.service", check=False)
    assert said.returncode == 0 and not said.stderr.strip(), said
    table = host.sh("systemd-analyze security --no-pager bangerd-root.service").stdout
    exposure = float(re.search(r"Overall exposure level for bangerd-root.service: ([0-9.]+)", table)[1])
    assert exposure <= MAX_EXPOSURE, table
    page = host.sh("cat /usr/local/share/doc/banger/privileges.md").stdout
    bound = set(host.sh("systemctl show -P CapabilityBoundingSet bangerd-root").stdout.upper().split())
    stated = page[page.index("The helper keeps"):]
    assert bound == set(re.findall(r"CAP_[A-Z_]+", stated[:stated.index(".")])), bound
    pid = host.sh("systemctl show -P MainPID bangerd-root").stdout.strip()
    status = host.sh(f"cat /proc/{pid}/status").stdout
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status, status
    decoded = {name.upper() for name in bound}
    effective = int(re.search(r"CapEff:\t(\w+)", status)[1], 16)
    assert bin(effective).count("1") == len(decoded), status
    memory(host)
    actions = host.sh("pkaction --verbose", timeout=60).stdout
    ours = re.findall(r"^(org\.banger\.\S+?):.*?implicit any:\s+(\w+).*?implicit inactive:\s+(\w+).*?implicit active:\s+(\w+)", actions, re.S | re.M)
    assert {row[0] for row in ours} == set(re.findall(r"`(org\.banger\.privileged\.[a-z]+)`", page)), ours
    assert all(row[1:] == ("no", "no", "auth_admin_keep") for row in ours), ours
    asked(host, sorted(row[0] for row in ours))
    bus(host, page)
    earlier_scope(host)
    assert host.sh("loginctl show-user dev -P Linger").stdout == "yes\n"
    modes = host.sh("stat -c '%n %U %a' /etc/banger/install.toml /etc/polkit-1/rules.d/50-banger.rules /run/banger/leases /var/lib/banger/jail "
                    "/var/lib/banger/$(id -u dev)").stdout.splitlines()
    assert [line.split()[1:] for line in modes] == [["root", "644"], ["root", "644"], ["root", "700"], ["root", "711"], ["dev", "700"]], modes


def memory(host):
    """The helper's bound is far from what it needs, with the starts of VMs behind it that its host was saved with, and ended nothing."""
    bound = int(host.sh("systemctl show -P MemoryMax bangerd-root").stdout)
    group = host.sh("systemctl show -P ControlGroup bangerd-root").stdout.strip()
    peak = int(host.sh(f"cat /sys/fs/cgroup{group}/memory.peak").stdout)  # with what it read and wrote
    killed = int(re.search(r"^oom_kill (\d+)$", host.sh(f"cat /sys/fs/cgroup{group}/memory.events").stdout, re.M)[1])
    anonymous = int(re.search(r"^anon (\d+)$", host.sh(f"cat /sys/fs/cgroup{group}/memory.stat").stdout, re.M)[1])
    print(f"bangerd-root: {peak >> 10} KiB at most, {anonymous >> 10} KiB of its own now, bound {bound >> 20} MiB")
    whole = 1024 * int(host.sh("awk '/^MemTotal/ { print $2 }' /proc/meminfo").stdout)
    assert whole * 0.39 < bound < whole * 0.41 and anonymous < bound / 8 and killed == 0, (whole, bound, peak, anonymous, killed)
    assert host.sh("systemctl show -P OOMPolicy bangerd-root").stdout == "continue\n"


def earlier_scope(host):
    """A scope with the name of a VM's that is there before its start: what is in it ends, and the VM gets its own."""
    host.banger("vm", "create", "web", "--vcpu", "1", "--memory", "256M")
    try:
        scope = f"banger-vm-{host.show('web')['id']}.scope"
        host.sh(f"systemd-run --scope --unit {scope} sleep 3600 >/dev/null 2>&1 </dev/null &")
        host.wait(f"systemctl is-active -q {scope}", 20)
        old = host.sh(f"systemctl show -P InvocationID {scope}").stdout
        host.banger("vm", "start", "web")
        denied = host.sh(f"systemctl show -P IPAddressDeny {scope}").stdout.split()
        assert sorted(denied) == ["0.0.0.0/0", "::/0"], denied
        assert host.sh(f"systemctl show -P InvocationID {scope}").stdout != old
        assert host.sh("pgrep -f 'sleep 3600'", check=False).stdout == "", "what was in the earlier scope still runs"
    finally:
        host.banger("vm", "delete", "--force", "web", check=False)


def asked(host, actions):
    """Who may what, without a prompt: the owner all, nobody else anything."""
    for user, expected in (("dev", 0), ("other", 1)):
        for action in actions:
            done = host.sh(f"pkcheck --action-id {action} --process $$", user=user, check=False)
            assert (done.returncode == 0) == (expected == 0), (user, done)


def bus(host, page):
    """The policy of the system bus: who may own the name, and what is let through to the helper."""
    call = "busctl call org.banger.Privileged /org/banger/Privileged "
    log = "get-property org.banger.Privileged /org/freedesktop/LogControl1 org.freedesktop.LogControl1 LogLevel"
    for user in ("dev", "other"):
        owned = host.sh("busctl call org.freedesktop.DBus / org.freedesktop.DBus RequestName su org.banger.Privileged 4", user=user, check=False)
        assert owned.returncode != 0 and "denied" in owned.stderr, owned
        sets = host.sh(call.replace("call", "set-property", 1).replace("/org/banger/Privileged", "/org/freedesktop/LogControl1")
                       + "org.freedesktop.LogControl1 LogLevel s debug", user=user, check=False)
        assert sets.returncode != 0, sets
        host.sh(call + "org.freedesktop.DBus.Peer Ping", user=user)
    assert host.sh(f"busctl {log}").stdout.startswith('s "'), "root cannot ask for the log level"
    live = set(re.findall(r'<method name="(\w+)">', host.sh("busctl introspect --xml-interface org.banger.Privileged /org/banger/Privileged").stdout
                          .split('<interface name="org.banger.Privileged">')[1].split("</interface>")[0]))
    table = re.findall(r"^\| `(\w+)` \| `(org\.banger\.privileged\.\w+)`(?:, `org\.banger\.privileged\.\w+`)? \|", page, re.M)
    assert live == {name for name, _ in table} and len(table) == len(live), live
