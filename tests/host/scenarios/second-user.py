"""A second user of the machine gets nothing from the helper, nor from the owner's daemon."""

NEEDS = []


def run(host):
    for call in ("ListLeases a{sv} 0", "EnsureBridge ssa{sv} br-fc 10.213.0.1/24 0", "ReleaseVm sa{sv} 0123456789ab 0"):
        done = host.sh(f"busctl call --system org.banger.Privileged /org/banger/Privileged org.banger.Privileged {call}",
                       user="other", check=False)
        assert done.returncode != 0, f"{call} was allowed: {done.stdout}"
        assert "op-" in done.stderr or "Access denied" in done.stderr, done.stderr
