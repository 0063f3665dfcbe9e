"""A second user of the machine gets nothing: not from the helper, not from the owner's daemon, files, sockets or VMs."""

THERE = ("web",)
HELPER = "org.banger.Privileged /org/banger/Privileged"


def run(host):
    # All methods, and that no argument matters: tests/bus (test_privileged). Here the installed bus policy is in between.
    done = host.sh(f"busctl call {HELPER} org.banger.Privileged ListLeases 'a{{sv}}' 0", user="other", check=False)
    assert done.returncode != 0 and "ccess denied" in done.stderr, done
    with host.vm("web"):
        vm = host.show("web")
        uid = host.sh("id -u dev").stdout.strip()
        for script in (f"ls /var/lib/banger/{uid}", f"ls /run/banger/{uid}", f"cat /var/lib/banger/{uid}/vms/{vm['id']}/record.json",
                       f"cat {vm['identity_file']}", f"kill -0 {vm['pid']}", f"dd if=/dev/mapper/fc-rootfs-{vm['id']} count=1",
                       f"ls /proc/{vm['pid']}/root", "ls /run/banger/leases",
                       f"busctl --address=unix:path=/run/user/{uid}/bus call org.banger.Manager /org/banger/Manager org.freedesktop.DBus.Peer Ping"):
            done = host.sh(script, user="other", check=False)
            assert done.returncode != 0, (script, done.stdout)
        for verb in ("vm list", "vm delete --force web", "vm run --rm -- true"):
            done = host.banger(*verb.split(), user="other", check=False)
            assert done.returncode != 0 and "dev" in done.stderr and not done.stdout, (verb, done)
        host.sh("timeout 10 /usr/local/libexec/banger/bangerd; test $? = 77", user="other")
        assert host.show("web")["state"] == "running"
        forge_a_lease(host, vm)
    host.sh("loginctl terminate-user other", check=False)


def forge_a_lease(host, vm):
    """Even a lease that names a stranger's process, in a unit of the right name, gets nothing signalled."""
    host.disconnect()
    setup = """export XDG_RUNTIME_DIR=/run/user/$(id -u)
systemd-run --user -q --unit=bangerd-root.service sleep 1000
systemd-run --user -q --slice=banger.slice --unit=banger-vm-%s.service sleep 1000
systemctl --user show -P MainPID bangerd-root.service banger-vm-%s.service""" % (vm["id"], vm["id"])
    pids = host.sh(setup, user="other").stdout.split() + own_units(host, vm)
    assert len(pids) == 2 + len(OWN), pids
    lease = f"/run/banger/leases/{vm['id']}.json"
    host.sh(f"cp {lease} /run/lease.kept")
    for pid in pids:
        start = host.sh(f"cut -d' ' -f22 /proc/{pid}/stat").stdout.strip()
        host.sh(f"systemctl stop bangerd-root; sed -E 's/\"pid\"( *: *)[0-9]+/\"pid\"\\1{pid}/; s/\"start\"( *: *)[0-9]+/\"start\"\\1{start}/' /run/lease.kept > {lease}; systemctl reset-failed bangerd-root; systemctl start bangerd-root")
        for call in (f"KillVmm sa{{sv}} {vm['id']} 0", f"SignalVmm ssa{{sv}} {vm['id']} TERM 0"):
            done = host.sh(f"busctl call {HELPER} org.banger.Privileged {call}", user="dev", check=False)
            assert done.returncode != 0, (call, done)
        host.sh(f"kill -0 {pid}")
    host.sh(f"systemctl stop bangerd-root; cp /run/lease.kept {lease}; rm /run/lease.kept; systemctl reset-failed bangerd-root; systemctl start bangerd-root")
    host.sh("systemctl --user -M other@ stop bangerd-root.service; systemctl --user -M dev@ stop 'bangerd-root.service' 'own-*.service'", check=False)


# Command lines of processes that look like a VMM to who looks badly. The first is in a unit with the helper's name.
OWN = ["--api-sock /run/banger/{uid}/ffffffffffff/api.sock", "--api-sock /tmp/api.sock", "--api-sock=/run/banger/{uid}/{id}/../{id}/api.sock",
       "--api-sock /run/banger/{uid}/{id}/api.sock -a /run/banger/{uid}/{id}/api.sock", "--api-socket /run/banger/{uid}/{id}/api.sock"]


def own_units(host, vm):
    """Processes of the owner's own, in units of the owner's own; their ids."""
    uid, pids = host.sh("id -u dev").stdout.strip(), []
    for index, words in enumerate(OWN):
        unit = f"own-{index}.service" if index else "bangerd-root.service"
        host.as_owner(f"systemd-run --user -q --collect --unit={unit} bash -c 'sleep 1000; :' firecracker {words.format(uid=uid, id=vm['id'])}")
        pids.append(host.as_owner(f"systemctl --user show -P MainPID {unit}").stdout.strip())
    return pids
