"""The host is rebooted with VMs running: they are shown stopped with a reason, hold nothing, and start again with their data."""

LONG = True
THERE = ("web", "closed")


def run(host):
    host.guest("web", "echo kept > /root/file; sync")
    before_names = host.names()
    host.power_off()
    host.boot(keep_overlay=True)
    assert host.names() == before_names
    for name in before_names:
        vm = host.show(name)
        assert vm["state"] == "stopped" and vm["state_reason"], vm
    held = [line for line in host.inventory() if line.startswith(("dm ", "loop ", "process ", "unit ", "run /run/banger/leases/", "link tap"))]
    assert held == [], held
    host.banger("vm", "start", "web")
    assert host.guest("web", "cat /root/file").strip() == "kept"
    host.banger("vm", "delete", "--force", "web", "closed")
    assert "forward 0" in host.inventory()
