"""With NAT a guest reaches a server outside, without it does not, nor as another; guests do not reach each other; the rules go with the VMs."""

import base64

LONG = True
THERE = ("web", "closed")
SERVER = """ip netns add outside; ip link add up0 type veth peer name out0; ip link set out0 netns outside
ip addr add 198.51.100.1/24 dev up0; ip link set up0 up
ip -n outside addr add 198.51.100.2/24 dev out0; ip -n outside link set out0 up; ip -n outside link set lo up
mkdir -p /run/outside; echo hello-outside > /run/outside/file
systemd-run -q --unit=outside -p NetworkNamespacePath=/run/netns/outside python3 -m http.server -d /run/outside 80"""
# A guest has no HTTP client: bash does.
FETCH = "timeout {1} bash -c 'exec 3<>/dev/tcp/{0}/80; printf \"GET /file HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3' 2>&1"

# A word that needs no answer, and what a listener outside hears: an answer would go to whom the word seems to be from.
SAY = "bash -c 'for i in 1 2 3; do echo {0} > /dev/udp/198.51.100.2/9; sleep 0.3; done'"
HEAR = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 9))
with open("/run/heard", "w", buffering=1) as heard:
    while True:
        print(s.recv(4096).decode(errors="replace").strip(), file=heard)
"""


def run(host):
    host.sh(SERVER)
    host.put(HEAR, "/run/hear.py")
    host.wait("ip netns exec outside bash -c '</dev/tcp/127.0.0.1/80' 2>/dev/null", 20)
    try:
        with host.vm("web"), host.vm("closed"), host.background("exec ip netns exec outside python3 /run/hear.py"):
            host.wait("test -e /run/heard", 20)
            assert "hello-outside" in host.guest("web", FETCH.format("198.51.100.2", 20), check=False)
            assert "hello-outside" not in host.guest("closed", FETCH.format("198.51.100.2", 3), check=False)
            other = host.show("closed")["address"]
            knock = host.guest("web", f"timeout 3 bash -c '</dev/tcp/{other}/22' 2>/dev/null; echo $?", check=False)
            assert knock.strip() not in ("", "0"), "a guest reaches another one"
            inside = host.show("web")["address"]
            linked(host, other, inside)
            # From outside, nobody gets in.
            host.sh("ip -n outside route add default via 198.51.100.1")
            knock = host.sh(f"ip netns exec outside timeout 3 bash -c '</dev/tcp/{inside}/22'", check=False)
            assert knock.returncode != 0, "a guest is reached from outside"
            # The same guest as another address: dropped.
            forged = host.guest("web", "ip addr add 10.213.0.99/24 dev eth0; ip route replace 198.51.100.0/24 via 10.213.0.1 src 10.213.0.99; "
                                + FETCH.format("198.51.100.2", 3), check=False)
            assert "hello-outside" not in forged, forged
            host.guest("closed", SAY.format("closed"), check=False)
            isolated(host, "web", "closed")
            isolated(host, "closed", "web")
            assert "hello-outside" in host.guest("web", FETCH.format("198.51.100.2", 20)), "the guest cannot be itself again"
            # The one that may speak comes last: what was said before it would have been heard.
            host.guest("web", SAY.format("web"))
            host.wait("grep -qx web /run/heard", 20)
            heard = set(host.sh("cat /run/heard").stdout.split())
            assert heard == {"web"}, heard
        assert "banger" not in host.sh("nft list tables").stdout, "the table is left"
    finally:
        host.sh("systemctl stop outside; ip netns del outside; umount /run/netns; ip link del up0; rm -rf /run/outside /run/hear.py /run/heard", check=False)


def linked(host, closed, inside):
    """Below the unit's own bounds, too: one way, until it is taken back."""
    knock = "timeout 5 bash -c '</dev/tcp/{0}/22' 2>/dev/null; echo $?"
    host.banger("vm", "set", "closed", "--link", "web", "--allow-host", "22")
    assert host.guest("closed", knock.format(inside), check=False).strip() == "0", "a guest does not reach the one that it is linked to"
    assert host.guest("closed", knock.format("10.213.0.1"), check=False).strip() == "0", "a guest does not reach the port of the host"
    assert host.guest("web", knock.format(closed), check=False).strip() != "0", "a link leads back"
    assert host.guest("web", knock.format("10.213.0.1"), check=False).strip() != "0", "another guest's port of the host is open to all"
    host.banger("vm", "set", "closed", "--unlink", "web", "--deny-host", "22")
    assert host.guest("closed", knock.format(inside), check=False).strip() != "0", "a link is not taken back"


# Sources of the frames on a link.
LISTEN = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("%s", 0))
with open("/run/seen", "w", buffering=1) as seen:
    while True:
        print(s.recv(4096)[6:12].hex(), file=seen)
"""


def isolated(host, attacker, victim):
    """Not past the bridge either: by the other's hardware address, nor as the other."""
    vm = host.show(victim)
    address, mac = vm["address"], vm["mac_address"]
    reached = f"timeout 3 bash -c '</dev/tcp/{address}/22' 2>/dev/null"
    host.sh(reached)  # the host itself does, so there is something to reach
    host.put(LISTEN % f"tap-fc-{vm['id'][:8]}", "/run/listen.py")
    own = host.show(attacker)["mac_address"].replace(":", "").lower()
    with host.background("exec python3 /run/listen.py"):
        host.wait("test -e /run/seen", 20)
        tried = host.guest(attacker, f"ip neigh replace {address} lladdr {mac} dev eth0 nud permanent; for i in 1 2 3; do ({reached} && echo in) & done; wait; echo done", check=False)
        assert tried == "done\n", tried
        host.sh(reached + "; sleep 1")
    seen = set(host.sh("cat /run/seen; rm /run/seen /run/listen.py").stdout.split())
    assert seen and own not in seen, (own, seen)
    # As the other: nothing leaves the host, nothing comes back to the forger, and the other is reached as before. The
    # host's answer to who has the gateway's address goes to the other, so the forger knows it already. What runs in the
    # guest takes its own connection away, so it is left alone until it has put its address back.
    me = host.show(attacker)
    gateway = host.sh("cat /sys/class/net/br-fc/address").stdout.strip()
    script = FORGE.format(mac=mac, address=address, own_mac=me["mac_address"], own=me["address"],
                          gateway=gateway, say=SAY.format(f"{attacker}-as-{victim}"), fetch=FETCH.format("198.51.100.2", 5))
    host.guest(attacker, f"echo {base64.b64encode(script.encode()).decode()} | base64 -d > /root/forge; "
               "setsid sh /root/forge > /root/forged 2>&1 < /dev/null &")
    for _ in range(5):
        host.sh(reached + "; sleep 1")
    host.wait(f"timeout 30 banger vm exec {attacker} -- grep -q restored /root/forged 2>/dev/null", 60, user="dev")
    forged = host.guest(attacker, "cat /root/forged")
    assert "as-other" in forged and "hello-outside" not in forged, forged
    assert host.guest(victim, "hostname").strip() == victim


FORGE = """be() {{ ip link set eth0 down; ip link set eth0 address $1; ip addr flush dev eth0; ip addr add $2/24 dev eth0
ip link set eth0 up; ip route replace default via 10.213.0.1; }}
sleep 1; be {mac} {address} && ip neigh replace 10.213.0.1 lladdr {gateway} dev eth0 nud permanent && echo as-other
{say}; {fetch}; sleep 3; be {own_mac} {own} && echo restored
"""
