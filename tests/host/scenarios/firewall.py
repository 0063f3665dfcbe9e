"""What the host's firewalls do (flush ruleset, nftables.service, firewalld, ufw, Docker's rules) lets no forged frame pass and leaves guests their network and links."""

import json

LONG = True
THERE = ("web", "closed")
SERVER = """ip netns add outside; ip link add up0 type veth peer name out0; ip link set out0 netns outside
ip addr add 198.51.100.1/24 dev up0; ip link set up0 up
ip -n outside addr add 198.51.100.2/24 dev out0; ip -n outside link set out0 up; ip -n outside link set lo up
for i in 2 3; do ip neigh replace 198.51.100.$i lladdr $(ip netns exec outside cat /sys/class/net/out0/address) dev up0; done
mkdir -p /run/outside; echo hello-outside > /run/outside/file
systemd-run -q --unit=outside -p NetworkNamespacePath=/run/netns/outside python3 -m http.server -d /run/outside 80"""
AWAY = """systemctl stop outside firewalld; ! grep -q ENABLED=yes /etc/ufw/ufw.conf || ufw --force disable; ip netns del outside; umount /run/netns; ip link del up0
rm -rf /run/outside /run/listen.py /run/heard; nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward"""
FETCH = "timeout {0} bash -c 'exec 3<>/dev/tcp/198.51.100.2/80; printf \"GET /file HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3' 2>&1"
# Guests say words all the time, each of them a conversation of its own: outside, at the host, and one also as another. They
# start no program for it: five words a second take less of an emulated host than a `sleep` did.
SAY = """setsid bash -c 'exec 9<> <(:); while :; do echo {0} > /dev/udp/198.51.100.2/9; echo knock > /dev/udp/10.213.0.1/9
{1} read -t 0.2 -u 9; done' > /dev/null 2>&1 < /dev/null &"""
FORGE = "ip addr add 10.213.0.99/32 dev eth0; ip route add 198.51.100.3 via 10.213.0.1 src 10.213.0.99; "
# What passed the filter is on the bridge, what the host takes in its socket, what leaves it on up0: when, where, from
# whom, which word.
LISTEN = """
import select, socket, time
links = {}
for name in ("br-fc", "up0"):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind((name, 0))
    links[s] = name
service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
service.bind(("0.0.0.0", 9))
with open("/run/heard", "w", buffering=1) as heard:
    while True:
        for s in select.select([service, *links], [], [])[0]:
            data, address = s.recvfrom(2048)
            if s is service:
                print(time.time(), "host", address[0], data.decode().strip(), file=heard)
            elif data[12:14] == b"\\x08\\0" and data[23] == 17 and data[36:38] == b"\\0\\x09":
                print(time.time(), links[s], socket.inet_ntoa(data[26:30]), data[42:60].split()[0].decode(), file=heard)
"""
# What is done while guests talk, and whether it takes banger's plain tables away.
CHANGES = [
    ("nft flush ruleset", True),
    ("pid=$(systemctl show -P MainPID bangerd-root); kill -STOP $pid; nft flush ruleset; sleep 2; kill -CONT $pid", True),
    ("systemctl start nftables", True),
    ("systemctl reload nftables", True),
    ("systemctl restart nftables", True),
    ("systemctl stop nftables", True),
]
# These take none, and are told of guests: how one begins that was not, what it was told in a file, and what is done when it was.
# firewalld's unit counts as started when it has its name on the bus, before its rules are there; firewall-cmd waits less long
# for a reload than an emulated host needs.
FIREWALLD = "--timeout=300 call org.fedoraproject.FirewallD1 /org/fedoraproject/FirewallD1"
FIREWALLS = [
    ("firewalld", "rm /etc/firewalld/*/banger*.xml; systemctl start firewalld; "
     f"until busctl {FIREWALLD} org.freedesktop.DBus.Properties Get ss org.fedoraproject.FirewallD1 state | grep -q RUNNING; do sleep 0.5; done",
     "cat /etc/firewalld/zones/banger.xml /etc/firewalld/policies/banger-out.xml",
     (f"busctl -q {FIREWALLD} org.fedoraproject.FirewallD1 reload", "systemctl stop firewalld")),
    ("ufw", "ufw --force enable", "true", ("ufw reload", "ufw disable")),
]
# One of them: the held tables are there, the plain ones again within 5 s, and a guest is heard outside if it may be. Prints
# when it was done, when the guest was heard, and how many audit records came.
CHANGE = """
audits() {{ journalctl -u bangerd-root -o cat MESSAGE_ID=7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d04 | grep -c 'put back'; }}
there() {{ for t in netdev bridge arp inet; do nft list table $t $1 >/dev/null 2>&1 || return 1; done; }}
heard() {{ awk -v at=$at '$1 > at && $2 == "up0" {{print $1; exit}}' /run/heard; }}
before=$(audits)
{command} >/dev/null || exit 1
at=$(date +%s.%N)
there banger.held || exit 2
for i in $(seq 50); do there banger && break; sleep 0.1; done; there banger || exit 3
for i in $(seq {heard}); do said=$(heard); [ -n "$said" ] && break; sleep 0.5; done
for i in $(seq 20); do new=$(($(audits) - before)); [ $new -ge {audits} ] && break; sleep 0.5; done
echo $at ${{said:-$at}} $new"""


def run(host):
    host.sh(SERVER)
    host.put(LISTEN, "/run/listen.py")
    host.wait("ip netns exec outside bash -c '</dev/tcp/127.0.0.1/80' 2>/dev/null", 20)
    # firewalld's usual zone lets pass what the host forwards, unless its admin says otherwise.
    host.sh("sed /forward/d /usr/lib/firewalld/zones/public.xml > /etc/firewalld/zones/public.xml; ufw allow ssh", timeout=300)
    try:
        with host.vm("web"), host.vm("closed"), host.background("exec python3 /run/listen.py"):
            host.wait("test -e /run/heard", 20)
            inside, closed = (host.show(name)["address"] for name in ("web", "closed"))
            host.banger("vm", "set", "web", "--link", "closed")
            assert linked(host, 30) and not linked(host, 4, "closed", "web"), "a link leads one way"
            host.guest("web", FORGE + SAY.format("web", "echo forged > /dev/udp/198.51.100.3/9;"))
            host.guest("closed", SAY.format("closed", ""))
            host.wait("grep -q 'up0 .* web' /run/heard && grep -q 'br-fc .* closed' /run/heard", 60)
            usual = pace(host)
            gaps = {command: change(host, command, takes) for command, takes in CHANGES}
            for firewall in FIREWALLS:
                gaps |= told(host, *firewall)
            beside_docker(host)
            print(f"# firewall: heard every {usual:.2f} s at most, and after a change within {max(gaps.values()):.2f} s", flush=True)
            heard = {tuple(line.split()[1:]) for line in host.sh("cat /run/heard").stdout.splitlines()}
            allowed = {("br-fc", inside, "web"), ("br-fc", inside, "knock"), ("br-fc", closed, "closed"), ("br-fc", closed, "knock"),
                       ("up0", "198.51.100.1", "web")}
            assert heard == allowed, heard ^ allowed
            assert max(gaps.values()) < max(5, 5 * usual), (usual, gaps)  # an emulated host takes its time
            unfiltered(host)
        assert "banger" not in host.sh("nft list tables").stdout, "tables are left"
    finally:
        host.sh(AWAY, check=False, timeout=600)


def pace(host):
    """How long nothing is heard of a guest on this host while nobody changes anything: emulation takes its time."""
    host.sh("sleep 5")
    times = [float(t) for t in host.sh("awk '$2 == \"up0\" {print $1}' /run/heard").stdout.split()]
    return max(b - a for a, b in zip(times, times[1:]))


def change(host, command, takes_tables, heard=True):
    """Returns after how long a guest is heard."""
    script = CHANGE.format(command=command, audits=int(takes_tables), heard=120 if heard else 0)
    done = host.sh(script, check=False, timeout=600)
    assert done.returncode == 0 and len(done.stdout.split()) == 3, (command, done)
    at, again, audits = done.stdout.split()
    assert (int(audits) > 0) == takes_tables, (command, audits)
    assert not heard or again != at, (command, "no guest is heard")
    return float(again) - float(at)


def linked(host, seconds, name="web", other="closed"):
    """Whether a guest reaches another's ssh server, by its name where it knows that."""
    address = host.show(other)["address"]
    return "yes" in host.guest(name, f"timeout {seconds} bash -c 'exec 3<>/dev/tcp/{address}/22; read -r -n 3 said <&3; [ $said = SSH ] && echo yes' 2>&1 || true")


def beside_docker(host):
    """Docker has what the host forwards dropped unless its own chain says otherwise, links included; so says docs/names.md what to write there."""
    host.sh("iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER; iptables -P FORWARD DROP")
    assert not linked(host, 4), "such rules have no say here"
    host.sh("iptables -I DOCKER-USER -i br-fc -j ACCEPT; iptables -I DOCKER-USER -o br-fc -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    assert linked(host, 30) and not linked(host, 4, "closed", "web")
    assert "hello-outside" in host.guest("web", FETCH.format(30), check=False)
    host.sh("iptables -P FORWARD ACCEPT; iptables -F; iptables -X DOCKER-USER")


def doctor(host):
    return {row["check"]: row for row in json.loads(host.banger("doctor", "--json", check=False).stdout)}["firewall"]


def told(host, name, begin, files, changes):
    """It lets guests out because `banger system install` told it; without that doctor says what to run. Then it is changed;
    returns after how long a guest is heard each time."""
    assert doctor(host)["status"] == "ok", doctor(host)
    before = host.sh(f"{files}; rm -f /etc/banger/firewall").stdout  # what the installation told it that did not run
    change(host, begin, False, heard=False)
    assert "hello-outside" not in host.guest("web", FETCH.format(4), check=False) and not linked(host, 4), f"{name} has no say here"
    row = doctor(host)
    assert row["status"] == "warning" and name in row["seen"], row
    host.sh(row["remedy"].removeprefix("sudo "), timeout=600)
    assert "hello-outside" in host.guest("web", FETCH.format(30), check=False) and linked(host, 30), name
    row = doctor(host)
    assert row["status"] == "ok" and name in row["seen"], row
    assert host.sh(files).stdout == before
    return {command: change(host, command, False) for command in changes}


def unfiltered(host):
    """That the test would have seen it: without the helper nothing holds a table. It comes back, and the filter with it."""
    host.sh("systemctl stop bangerd-root; nft flush ruleset")
    host.wait("grep -q 'br-fc .* forged' /run/heard && grep -q 'host .* knock' /run/heard", 60)
    host.sh("systemctl start bangerd-root; sleep 1")
    last = "grep -E 'forged|host' /run/heard | tail -n 1"
    before = host.sh(last).stdout
    assert host.sh(f"sleep 3; {last}").stdout == before, "forged frames pass with the helper back"
