"""Kill, restart and stop of the units, of systemd --user, under load: a running VM never notices; a killed VMM does not stay."""

LONG = True
THERE = ("web",)
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
# What systemd does to the services; their ends by themselves are in tests/e2e (test_crash) and tests/fault (test_storms).
DISTURBANCES = [
    "systemctl kill -s KILL bangerd-root; systemctl --user -M dev@ kill -s KILL bangerd",  # started again by their units
    "banger system restart",
    "systemctl stop bangerd-root",  # by an admin: the next call starts it again
    "kill -KILL $(systemctl show -P MainPID user@$(id -u dev)); sleep 1; systemctl restart user@$(id -u dev)",
]


def run(host):
    with host.vm("web"):
        boot_id, pid = host.guest("web", BOOT_ID), host.show("web")["pid"]
        # Load: a client that lists, makes and deletes all the time, whatever it is answered.
        with host.background("while :; do banger vm list; banger vm create load; banger vm delete load; sleep 2; done >/dev/null 2>&1", user="dev"):
            for script in DISTURBANCES:
                host.sh(script)
                host.as_owner("for i in $(seq 100); do [ -S $XDG_RUNTIME_DIR/bus ] && break; sleep 0.2; done")
                shown = host.show("web")
                assert (shown["state"], shown["pid"]) == ("running", pid), (script, shown)
                assert host.guest("web", BOOT_ID) == boot_id, script
        host.banger("vm", "delete", "load", check=False)
        assert host.names() == ["web"], host.names()
        host.sh(f"kill -KILL {pid}")
        host.wait("test \"$(banger vm show web --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[\"state\"])')\" = stopped",
                  20, user="dev")
        assert host.show("web")["state_reason"], "no reason is given"
        held = [line for line in host.inventory() if line.startswith(("dm ", "process ", "unit ", "run /run/banger/leases/", "link tap"))]
        assert held == [], held
        host.banger("vm", "start", "web")
        assert host.guest("web", BOOT_ID) != boot_id
