"""systemd-resolved sends names below vm to the owner's server and nothing else, beside a VPN with a domain of its own and rules such
as Docker's and firewalld's; its own upstream stays, and all goes with the bridge."""

import base64
import contextlib
import json

import wire

THERE = ("web",)
POOL = '\\n[network]\\npool = "10.214.0.0/16"\\n'
BRIDGE, ADDRESS, SERVER = "br-fc-names", "10.214.7.1/24", "127.0.0.1:42070"  # bangerd has 42069
VM, GUEST = "0000000000aa", "10.214.7.7"  # whose start made the bridge
CALL = "busctl call org.banger.Privileged /org/banger/Privileged org.banger.Privileged "
# ADDRESS PORT LOG: writes down what it is asked, and answers every question with one address.
SERVE = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
while True:
    q, peer = s.recvfrom(4096)
    end = q.index(0, 12) + 5
    with open(sys.argv[3], "ab") as log:
        log.write(q[13:13 + q[12]] + b"\\n")
    a = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\1\\0\\4\\x0a\\xd6\\7\\x4d" if q[end - 3] == 1 else b""
    s.sendto(q[:2] + b"\\x85\\x80\\0\\1\\0" + bytes([bool(a)]) + bytes(4) + q[12:end] + a, peer)
"""

# Asks, and stays on the bus: the routing goes with who asked for it. Calls are handed over as they go over the wire.
STAY = """
import base64, os, socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect("/run/dbus/system_bus_socket")
s.sendall(b"\\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\\r\\n")
assert s.recv(200).startswith(b"OK")
s.sendall(b"BEGIN\\r\\n" + base64.b64decode(sys.argv[1]))
time.sleep(600)
"""

# A link as a VPN makes it, with a server behind it that knows its own domain; then it wants all names.
VPN, VPN_SERVER = "vpn0", "198.51.100.53"
VPN_UP = f"""ip link add {VPN} type dummy; ip addr add {VPN_SERVER}/24 dev {VPN}; ip link set {VPN} up
resolvectl dns {VPN} {VPN_SERVER}; resolvectl domain {VPN} '~corp.example'; resolvectl default-route {VPN} no"""
# What Docker and firewalld leave in the kernel: forwarding refused, ports of the host turned away, all input judged.
RULES = """table ip docker-like {
  chain DOCKER { tcp dport 8080 dnat to 172.17.0.2:80; }
  chain OUTPUT { type nat hook output priority -100; ip daddr != 127.0.0.0/8 fib daddr type local jump DOCKER; }
  chain PREROUTING { type nat hook prerouting priority -100; fib daddr type local jump DOCKER; }
  chain FORWARD { type filter hook forward priority 0; policy drop; iifname "docker0" accept; }
}
table inet firewalld-like {
  chain filter_INPUT { type filter hook input priority 10; ct state established,related accept; iifname "lo" accept
    ct state invalid drop; meta l4proto { icmp, icmpv6 } accept; tcp dport 22 accept; reject with icmpx admin-prohibited; }
  chain filter_FORWARD { type filter hook forward priority 10; ct state established,related accept
    reject with icmpx admin-prohibited; }
  chain filter_OUTPUT { type filter hook output priority 10; ct state established,related accept; oifname "lo" accept; }
}
"""


@contextlib.contextmanager
def routed(host, user="dev"):
    """Names are routed as long as this lasts."""
    calls = wire.message(1, wire.BUS, "Hello") + wire.message(2, wire.HELPER, "SyncResolver", wire.variant("(ssa{sv})", BRIDGE, SERVER, {}))
    with host.background(f"exec python3 /run/stay.py {base64.b64encode(calls).decode()}", user):
        host.wait(f"resolvectl default-route {BRIDGE} | grep -q 'no$' && resolvectl domain {BRIDGE} | grep -q '~vm'", 20)
        assert link(host) == [SERVER, "~vm", "no"], link(host)
        yield
    host.wait(f"! resolvectl domain {BRIDGE} | grep -q '~vm'", 20)


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


def answered(host, name, address):
    host.wait(f"resolvectl query --cache=no --legend=no {name} 2>/dev/null | grep -qw {address}", 30)


def beside_others(host):
    """A real VM and its owner's bangerd: its name is known whatever else uses the resolver and the kernel's filter."""
    before = upstream(host)
    with host.vm("web"):
        address = json.loads(host.sh("banger vm show web --json", user="dev").stdout)["address"]
        answered(host, "web.vm", address)
        host.put(RULES, "/run/rules.nft")
        with host.background(f"exec python3 /run/serve.py {VPN_SERVER} 53 /run/vpn"):
            host.sh(VPN_UP)
            host.wait(f"ss -lun | grep -q {VPN_SERVER}:53", 20)
            vpn = host.sh(f"resolvectl dns {VPN}; resolvectl domain {VPN}; resolvectl default-route {VPN}").stdout
            for change in ("true", "nft -f /run/rules.nft", "systemctl restart systemd-resolved; " + VPN_UP.splitlines()[1],
                           "systemctl restart bangerd-root", f"resolvectl domain {VPN} '~.'; resolvectl default-route {VPN} yes"):
                host.sh(change)
                answered(host, "web.vm", address)
                answered(host, "db.corp.example", "10.214.7.77")  # what SERVE answers everything with
                host.wait("getent ahostsv4 web.vm | grep -qw " + address, 20)
            host.sh(f"resolvectl domain {VPN} '~corp.example'; resolvectl default-route {VPN} no")
            asked = set(host.sh("cat /run/vpn").stdout.split())
            assert "db" in asked and "web" not in asked, asked
            assert host.sh(f"resolvectl dns {VPN}; resolvectl domain {VPN}; resolvectl default-route {VPN}").stdout == vpn
    host.wait("! resolvectl query --cache=no web.vm", 20)
    answered_by_vpn = host.sh(f"resolvectl domain {VPN}").stdout
    assert "corp.example" in answered_by_vpn, answered_by_vpn
    host.sh(f"nft delete table ip docker-like; nft delete table inet firewalld-like; ip link del {VPN}")
    assert upstream(host) == before, (upstream(host), before)


def run(host):
    before = upstream(host)
    host.put(SERVE, "/run/serve.py")
    host.put(STAY, "/run/stay.py")
    host.sh("install -o dev /dev/null /run/asked")
    try:
        beside_others(host)
    finally:
        host.sh(f"nft delete table ip docker-like; nft delete table inet firewalld-like; ip link del {VPN}; "
                "rm -f /run/rules.nft /run/vpn", check=False)
    host.sh(f"cp -a /etc/banger/install.toml /run/install.toml; printf '{POOL}' >> /etc/banger/install.toml; systemctl restart bangerd-root")
    host.sh(CALL + f"CreateTap ssssa{{sv}} {VM} {BRIDGE} {ADDRESS} {GUEST} 0 && " + CALL + f"ReleaseVm sa{{sv}} {VM} 0", user="dev")
    try:
        assert sync(host, user="other", check=False).returncode != 0, "a stranger set a resolver"
        for server in ("8.8.8.8", "127.0.0.53", "10.214.7.2:53", "127.0.0.1:0"):
            assert sync(host, server, check=False).returncode != 0, server
        assert link(host) == ["", "", "no"] or link(host) == ["", "", "yes"], link(host)
        assert sync(host, check=False).returncode != 0, "nobody listens there"
        with host.background("exec python3 /run/serve.py 127.0.0.1 42070 /run/asked", "other"):
            host.wait("ss -lun | grep -q 127.0.0.1:42070", 20)
            assert sync(host, check=False).returncode != 0, "a stranger listens there"
        # A port that is up, as a running VM's tap is: resolved asks servers only of links with a carrier.
        host.sh(f"ip link add port0 type veth peer name port1; ip link set port0 master {BRIDGE}; ip link set port0 up; ip link set port1 up")
        with host.background("exec python3 /run/serve.py 127.0.0.1 42070 /run/asked", "dev"):
            host.wait("ss -lun | grep -q 127.0.0.1:42070", 20)
            for user in ("dev", "root"):
                with routed(host, user):
                    assert upstream(host) == before, (upstream(host), before)
                    host.sh(CALL + f"ClearResolver sa{{sv}} {BRIDGE} 0", user=user)
                    assert link(host)[:2] == ["", ""], link(host)
            with routed(host):
                host.wait("resolvectl query --cache=no --legend=no web.vm 2>/dev/null | grep -q 10.214.7.77", 20)
                host.sh("timeout 20 resolvectl query web.example.org", check=False)
                asked = set(host.sh("cat /run/asked").stdout.split())
                assert asked == {"web"} and upstream(host) == before, asked
                assert "example" not in host.sh("cat /run/asked").stdout
        host.sh(f"ip link del port0; {CALL} RemoveBridge sa{{sv}} {BRIDGE} 0")
        assert host.sh(f"resolvectl dns {BRIDGE}", check=False).returncode != 0, "the link's servers outlive the bridge"
        assert upstream(host) == before
    finally:
        host.sh(f"ip link del port0; ip link del {BRIDGE}; rm -f /run/serve.py /run/stay.py /run/asked; "
                "mv /run/install.toml /etc/banger/; systemctl restart bangerd-root", check=False)
