"""With NAT a guest reaches a server outside, without it does not; guests do not reach each other; the rules go with the VMs."""

ALONE = True
SERVER = """ip netns add outside; ip link add up0 type veth peer name out0; ip link set out0 netns outside
ip addr add 198.51.100.1/24 dev up0; ip link set up0 up
ip -n outside addr add 198.51.100.2/24 dev out0; ip -n outside link set out0 up; ip -n outside link set lo up
mkdir -p /run/outside; echo hello-outside > /run/outside/file
systemd-run -q --unit=outside -p NetworkNamespacePath=/run/netns/outside python3 -m http.server -d /run/outside 80"""
# A guest has no HTTP client: bash does.
FETCH = "timeout {1} bash -c 'exec 3<>/dev/tcp/{0}/80; printf \"GET /file HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3' 2>&1"


def run(host):
    host.sh(SERVER)
    host.wait("ip netns exec outside bash -c '</dev/tcp/127.0.0.1/80' 2>/dev/null", 20)
    try:
        with host.vm("inside"), host.vm("closed", "--no-nat"):
            assert "hello-outside" in host.guest("inside", FETCH.format("198.51.100.2", 20), check=False)
            assert "hello-outside" not in host.guest("closed", FETCH.format("198.51.100.2", 3), check=False)
            other = host.show("closed")["address"]
            ping = host.guest("inside", f"ping -c 1 -W 3 {other} >/dev/null 2>&1; timeout 3 bash -c '</dev/tcp/{other}/22' 2>/dev/null; echo $?", check=False)
            assert ping.strip() not in ("", "0"), "a guest reaches another one"
            # From outside, nobody gets in.
            inside = host.show("inside")["address"]
            host.sh("ip -n outside route add default via 198.51.100.1")
            knock = host.sh(f"ip netns exec outside timeout 3 bash -c '</dev/tcp/{inside}/22'", check=False)
            assert knock.returncode != 0, "a guest is reached from outside"
            # The same guest as another address: dropped.
            forged = host.guest("inside", "ip addr add 10.213.0.99/24 dev eth0; ip route replace 198.51.100.0/24 via 10.213.0.1 src 10.213.0.99; "
                                + FETCH.format("198.51.100.2", 3), check=False)
            assert "hello-outside" not in forged, forged
        assert "banger" not in host.sh("nft list tables").stdout, "the table is left"
    finally:
        host.sh("systemctl stop outside; ip netns del outside; umount /run/netns; ip link del up0; rm -rf /run/outside", check=False)
