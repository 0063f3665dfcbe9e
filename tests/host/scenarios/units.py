"""systemd and polkit on the host agree with docs/privileges.md: verified units, their exposure, capabilities, actions, files."""

import re

MAX_EXPOSURE = 5.0


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
    actions = host.sh("pkaction --verbose", timeout=60).stdout
    ours = re.findall(r"^(org\.banger\.\S+?):.*?implicit any:\s+(\w+).*?implicit inactive:\s+(\w+).*?implicit active:\s+(\w+)", actions, re.S | re.M)
    assert {row[0] for row in ours} == set(re.findall(r"`(org\.banger\.privileged\.[a-z]+)`", page)), ours
    assert all(row[1:] == ("no", "no", "auth_admin_keep") for row in ours), ours
    assert re.search(r"^\s+Linger=yes|yes", host.sh("loginctl show-user dev -P Linger").stdout)
    modes = host.sh("stat -c '%n %U %a' /etc/banger/install.toml /etc/polkit-1/rules.d/50-banger.rules /run/banger/leases /var/lib/banger/jail "
                    "/var/lib/banger/$(id -u dev)").stdout.splitlines()
    assert [line.split()[1:] for line in modes] == [["root", "644"], ["root", "644"], ["root", "700"], ["root", "711"], ["dev", "700"]], modes
