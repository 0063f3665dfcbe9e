"""systemd-resolved sends names below vm to the owner's server and nothing else; its own upstream stays, and all goes with the bridge."""

import json

BRIDGE, ADDRESS, SERVER = "br-fc-names", "10.214.7.1/24", "127.0.0.1:42069"
CALL = "busctl call org.banger.Privileged /org/banger/Privileged org.banger.Privileged "
# Writes down what it is asked, and answers every question with one address.
SERVE = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 42069))
while True:
    q, peer = s.recvfrom(4096)
    end = q.index(0, 12) + 5
    with open("/run/asked", "ab") as log:
        log.write(q[13:13 + q[12]] + b"\\n")
    a = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\1\\0\\4\\x0a\\xd6\\7\\x4d" if q[end - 3] == 1 else b""
    s.sendto(q[:2] + b"\\x85\\x80\\0\\1\\0" + bytes([bool(a)]) + bytes(4) + q[12:end] + a, peer)
"""


def upstream(host):
    """Servers that belong to no link, those of the machine's own link, and what programs read."""
    servers = json.loads(host.sh("busctl --json=short get-property org.freedesktop.resolve1 /org/freedesktop/resolve1 "
                                 "org.freedesktop.resolve1.Manager DNSEx").stdout)["data"]
    return [row for row in servers if row[0] == 0], host.sh("for l in $(ls /sys/class/net | grep ^en); do resolvectl dns $l; resolvectl domain $l; resolvectl default-route $l; done; "
                   "readlink /etc/resolv.conf; cat /etc/resolv.conf").stdout


def sync(host, server=SERVER, user="dev", check=True):
    return host.sh(CALL + f"SyncResolver ssa{{sv}} {BRIDGE} {server} 0", user=user, check=check)


def link(host):
    """Servers, domains and default route of the bridge."""
    said = host.sh(f"for what in dns domain default-route; do resolvectl $what {BRIDGE}; done").stdout.splitlines()
    return [line.split(":", 1)[1].strip() for line in said]


def run(host):
    before = upstream(host)
    host.put(SERVE, "/run/serve.py")
    host.sh(CALL + f"EnsureBridge ssa{{sv}} {BRIDGE} {ADDRESS} 0", user="dev")
    try:
        assert sync(host, user="other", check=False).returncode != 0, "a stranger set a resolver"
        for server in ("8.8.8.8", "127.0.0.53", "10.214.7.2:53", "127.0.0.1:0"):
            assert sync(host, server, check=False).returncode != 0, server
        assert link(host) == ["", "", "no"] or link(host) == ["", "", "yes"], link(host)
        for user in ("dev", "root"):
            sync(host, user=user)
            assert link(host) == [SERVER, "~vm", "no"], link(host)
            assert upstream(host) == before, (upstream(host), before)
            host.sh(CALL + f"ClearResolver sa{{sv}} {BRIDGE} 0", user=user)
            assert link(host)[:2] == ["", ""], link(host)
        sync(host)
        # A port that is up, as a running VM's tap is: resolved asks servers only of links with a carrier.
        host.sh(f"ip link add port0 type veth peer name port1; ip link set port0 master {BRIDGE}; ip link set port0 up; ip link set port1 up")
        with host.background("exec python3 /run/serve.py"):
            host.wait("resolvectl query --cache=no --legend=no web.vm 2>/dev/null | grep -q 10.214.7.77", 20)
            host.sh("timeout 20 resolvectl query web.example.org", check=False)
            asked = set(host.sh("cat /run/asked").stdout.split())
            assert asked == {"web"} and upstream(host) == before, asked
            assert "example" not in host.sh("cat /run/asked").stdout
        host.sh(f"ip link del port0; {CALL} RemoveBridge sa{{sv}} {BRIDGE} 0")
        assert host.sh(f"resolvectl dns {BRIDGE}", check=False).returncode != 0, "the link's servers outlive the bridge"
        assert upstream(host) == before
    finally:
        host.sh(f"ip link del port0; ip link del {BRIDGE}; rm -f /run/serve.py /run/asked", check=False)
