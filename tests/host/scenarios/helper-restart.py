"""Restarting or killing either service never touches a running VM; it is found again and can be deleted."""


def run(host):
    host.banger("vm", "run", "--name", "web", "--detach")
    boot_id = host.banger("vm", "ssh", "web", "--", "cat", "/proc/sys/kernel/random/boot_id").stdout
    for script in ("systemctl restart bangerd-root", "systemctl kill -s KILL bangerd-root",
                   "systemctl --user -M dev@ kill -s KILL bangerd"):
        host.sh(script)
        again = host.banger("vm", "ssh", "web", "--", "cat", "/proc/sys/kernel/random/boot_id").stdout
        assert again == boot_id, script
    host.banger("vm", "stop", "web")
    host.banger("vm", "delete", "web")
