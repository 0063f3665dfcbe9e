"""doctor finds nothing wrong on a host that is well, says what is missing and how to mend it on one that is not."""

import json


def rows(host, status):
    done = host.banger("doctor", "--json", check=False)
    assert done.returncode == status, done
    return {row["check"]: row for row in json.loads(done.stdout)}


def run(host):
    well = rows(host, 0)
    assert {row["status"] for row in well.values()} == {"ok"}, well
    host.sh("mv /etc/polkit-1/rules.d/50-banger.rules /run/rules.away; systemctl restart polkit")
    try:
        ill = rows(host, 1)
        assert ill["polkit"]["status"] == "error", ill["polkit"]
        refused = host.banger("vm", "run", "--name", "refused", "--detach", check=False)
        assert refused.returncode != 0 and "polkit" in refused.stderr, refused
    finally:
        host.sh("mv /run/rules.away /etc/polkit-1/rules.d/50-banger.rules; systemctl restart polkit")
        host.banger("vm", "delete", "--force", "refused", check=False)
    broken(host)
    again = rows(host, 0)
    assert {row["status"] for row in again.values()} == {"ok"}, again


def broken(host):
    """An install.toml with a mistake: systemd does not try it over and over, doctor names it, and mended it serves again."""
    both = "systemctl restart bangerd-root; systemctl --user -M dev@ restart bangerd; true"
    host.sh("cp -p /etc/banger/install.toml /run/install.kept; echo 'surprise = 1' >>/etc/banger/install.toml;" + both)
    try:
        for scope in ("", "--user -M dev@ "):
            unit = "bangerd" if scope else "bangerd-root"
            host.wait(f"systemctl {scope}is-failed -q {unit}", 20)
            shown = host.sh(f"systemctl {scope}show -p NRestarts -p ExecMainStatus {unit}").stdout.split()
            assert set(shown) == {"NRestarts=0", "ExecMainStatus=78"}, shown
        # The bus would wait two minutes for a manager that ends at once.
        refused = host.banger("vm", "list", check=False, timeout=30)
        assert refused.returncode == 1 and "surprise" in refused.stderr, refused
        ill = rows(host, 1)
        assert "surprise" in ill["install"]["seen"] and "mend that file" in ill["install"]["remedy"], ill
    finally:
        host.sh("mv /run/install.kept /etc/banger/install.toml")
