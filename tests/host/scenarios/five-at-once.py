"""Five VMs start at once, each is itself, each is reached by its own address; all are deleted at once."""

NAMES = [f"five{i}" for i in range(5)]


def together(host, line):
    script = "export XDG_RUNTIME_DIR=/run/user/$(id -u); " + "".join(f"{line.format(name)} & p{i}=$!; " for i, name in enumerate(NAMES))
    script += "".join(f"wait $p{i} || exit 1; " for i in range(len(NAMES)))
    return host.sh(script, user="dev", timeout=420).stdout


def run(host):
    try:
        together(host, "banger vm run --quiet --name {0} --vcpu 1 --memory 256M --disk-size 512M --detach")
        shown = [host.show(name) for name in NAMES]
        assert {vm["state"] for vm in shown} == {"running"}, shown
        assert len({vm["address"] for vm in shown}) == 5, shown
        assert sorted(together(host, "banger vm exec {0} -- hostname").split()) == NAMES
        scopes = host.sh("systemctl list-units --plain --no-legend 'banger-vm-*.scope'").stdout
        assert all(f"banger-vm-{vm['id']}.scope" in scopes for vm in shown), scopes
    finally:
        together(host, "banger vm delete --quiet --force {0}")
