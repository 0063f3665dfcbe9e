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
    again = rows(host, 0)
    assert {row["status"] for row in again.values()} == {"ok"}, again
