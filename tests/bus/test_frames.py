"""What a VMM writes into its tap, and sets on it: large frames that the kernel cuts, fragments, frames that are not plain IP.

Run by meson test as root. Two taps that the helper made; the test is the VMM of one of them, without the filter of system
calls that a VMM has.
Never uses a name that is not this stack's.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import select
import socket
import struct
import subprocess
import time

import test_privileged
from harness import main

TUNSETIFF = 0x400454ca
TAP_FLAGS = 0x5002  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
IP, ARP, VLAN, SERVICE_VLAN, OLD_QINQ, IPV6, PPPOE = 0x0800, 0x0806, 0x8100, 0x88a8, 0x9100, 0x86dd, 0x8864
PLAIN = struct.pack("=BBHHHH", 0, 0, 0, 0, 0, 0)
NEEDS_CSUM, TCPV4, UDP, TCPV6, UDP_L4, ECN = 1, 1, 3, 4, 5, 0x80  # linux/virtio_net.h
PORT = 2000
LARGE = 9000


def mac(vm):
    return b"\x06" + hashlib.sha256(vm.encode()).digest()[:5]


def vnet(kind, size=1000, start=34, offset=16, flags=NEEDS_CSUM, header=54):
    return struct.pack("=BBHHHH", flags, kind, header, size, start, offset)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ipv4(source, target, protocol, payload, ident=0, fragment=0, version=4):
    def header(check):
        return struct.pack("!BBHHHBBH4s4s", version << 4 | 5, 0, 20 + len(payload), ident, fragment, 64, protocol, check,
                           socket.inet_aton(source), socket.inet_aton(target))
    return header(checksum(header(0))) + payload


def tcp(payload):
    return struct.pack("!HHIIBBHHH", 4000, PORT, 1, 0, 5 << 4, 0x10, 1000, 0, 0) + payload


def udp(payload):
    return struct.pack("!HHHH", 4000, PORT, 8 + len(payload), 0) + payload


def echo(payload):
    head = struct.pack("!BBHHH", 8, 0, 0, 77, 1)
    return head[:2] + struct.pack("!H", checksum(head + payload)) + head[4:] + payload


def large(kind, size):
    """What the virtio header calls it, the protocol, and where its checksum belongs."""
    return {TCPV4: (socket.IPPROTO_TCP, tcp, vnet(kind, size)), TCPV6: (socket.IPPROTO_TCP, tcp, vnet(kind, size)),
            TCPV4 | ECN: (socket.IPPROTO_TCP, tcp, vnet(kind, size)),
            UDP: (socket.IPPROTO_UDP, udp, vnet(kind, size, offset=6, header=42)),
            UDP_L4: (socket.IPPROTO_UDP, udp, vnet(kind, size, offset=6, header=42))}[kind]


class Frames(test_privileged.HelperTest):
    def setUp(self):
        super().setUp()
        for vm in (self.vm, self.other):
            self.call("CreateTap", "(ssssa{sv})", vm, self.bridge, self.address, self.guest_of(vm))
        self.call("EnsureNat", "(ssa{sv})", self.vm, self.guest)
        self.gateway, self.victim = self.address.split("/")[0], self.guest_of(self.other)
        self.taps = [f"tap-fc-{vm}" for vm in (self.vm, self.other)]
        with open(f"/sys/class/net/{self.bridge}/address", encoding="ascii") as f:
            self.bridge_mac = bytes.fromhex(f.read().strip().replace(":", ""))
        self.fd = self.open_tap(0)
        self.open_tap(1)  # with nobody there it has no carrier
        self.links = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.host = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.host.bind(("0.0.0.0", PORT))
        for each in (self.links, self.host):
            self.addCleanup(each.close)
            each.setblocking(False)
        self.passes()  # a bridge takes a moment until it forwards for a port

    def open_tap(self, which):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(lambda: os.close(fd))
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", self.taps[which].encode(), TAP_FLAGS))
        return fd

    def frame(self, packet, kind=IP, source=None, target=None, before=b""):
        return (target or self.bridge_mac) + (source or mac(self.vm)) + before + struct.pack("!H", kind) + packet

    def write(self, frame, header=PLAIN):
        """What the kernel refuses to take goes nowhere."""
        with contextlib.suppress(OSError):
            os.write(self.fd, header + frame)

    def reached(self, mark, seconds=0.1):
        """Where @mark is seen, other than on its way into the own tap: links, and a socket of the host's."""
        found, end = set(), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for ready in select.select([self.links, self.host], [], [], left)[0]:
                with contextlib.suppress(BlockingIOError):
                    data, address = ready.recvfrom(1 << 17)
                    if mark in data and not (ready is self.links and address[0] == self.taps[0] and address[2] != 4):
                        found.add(address[0] if ready is self.links else "host")
        return found

    def passes(self, header=PLAIN, packet=None):
        """An honest frame is heard by the bridge."""
        mark = os.urandom(16)
        for _ in range(30):
            self.write(self.frame(packet(mark) if packet else ipv4(self.guest, self.gateway, socket.IPPROTO_UDP, udp(mark))), header)
            if self.bridge in self.reached(mark):
                return
        self.fail("not even an honest frame passes")

    def forged(self):
        """Name -> a frame of @packet(source, target) that is not the guest's to send."""
        other, made_up = mac(self.other), b"\x06\0\0\0\0\x09"
        tag = struct.pack("!HH", VLAN, 0)
        return {
            "another's address": lambda ip: self.frame(ip(self.victim, self.gateway)),
            "nobody's address": lambda ip: self.frame(ip("203.0.113.9", self.gateway)),
            "another's MAC": lambda ip: self.frame(ip(self.guest, self.gateway), source=other),
            "nobody's MAC": lambda ip: self.frame(ip(self.guest, self.gateway), source=made_up),
            "all of another's": lambda ip: self.frame(ip(self.victim, "198.51.100.2"), source=other),
            "to another": lambda ip: self.frame(ip(self.guest, self.victim), target=other),
            "to another's address, by the host": lambda ip: self.frame(ip(self.guest, self.victim)),
            "to all": lambda ip: self.frame(ip(self.guest, self.victim), target=b"\xff" * 6),
            "reserved multicast": lambda ip: self.frame(ip(self.guest, self.gateway), target=b"\x01\x80\xc2\0\0\x0e"),
            "a tag": lambda ip: self.frame(ip(self.guest, self.gateway), before=tag),
            "another's in two tags": lambda ip: self.frame(ip(self.victim, self.gateway), source=other, before=tag * 2),
            "called IPv6": lambda ip: self.frame(ip(self.guest, self.gateway), kind=IPV6),
            "802.3": lambda ip: self.frame(b"\xff\xff\x03" + ip(self.guest, self.gateway), kind=200),
        }

    def nothing_of(self, packet, header):
        """Of no forged frame is anything heard; where it is for another guest the honest one's bridge may see it."""
        for name, build in self.forged().items():
            mark = os.urandom(16)
            frame = build(lambda source, target, mark=mark: packet(source, target, mark))
            with self.subTest(name=name, header=header.hex()):
                self.write(frame, header)
                seen = self.reached(mark, 0.04)
                self.assertEqual(seen - ({self.bridge} if name == "to another's address, by the host" else set()), set())

    def test_large_frames(self):
        """Cut into pieces only behind the filter, which sees the one header that all pieces will have."""
        heard = set()
        for kind in (TCPV4, TCPV4 | ECN, TCPV6, UDP, UDP_L4):
            for size in (1, 1000, LARGE - 100):
                protocol, layer, header = large(kind, size)

                def packet(source, target, mark, protocol=protocol, layer=layer):
                    return ipv4(source, target, protocol, layer(mark * (LARGE // 16)))
                mark = os.urandom(16)
                self.write(self.frame(packet(self.guest, self.gateway, mark)), header)
                heard |= {kind} if self.bridge in self.reached(mark) else set()
                self.nothing_of(packet, header)
        self.assertIn(TCPV4, heard)  # the kernel takes them, so there was something to drop

    def test_what_the_header_says_about_the_checksum(self):
        """Where the kernel is to put it: it must not change what the filter has seen."""
        def packet(source, target, mark):
            return ipv4(source, target, socket.IPPROTO_UDP, udp(mark * 4))
        for start, offset in ((0, 6), (14, 12), (14, 16), (14, 2), (34, 6), (34, 2), (12, 0), (98, 0), (97, 1), (0xffff, 0)):
            self.nothing_of(packet, vnet(0, 0, start, offset))

    def test_fragments(self):
        """Each piece is looked at, also those in which nothing but the address tells whose it is."""
        def pieces(first, second, protocol, whole, ident):
            return (self.frame(ipv4(first, self.gateway, protocol, whole[:64], ident, 0x2000)),
                    self.frame(ipv4(second, self.gateway, protocol, whole[64:], ident, 64 // 8)))

        def answered(first, second, ident):
            """Whether the host answers an echo in two pieces; the second one carries the mark."""
            mark = os.urandom(16)
            for piece in pieces(first, second, socket.IPPROTO_ICMP, echo(bytes(56) + mark), ident):
                self.write(piece)
            return self.reached(mark)
        both = answered(self.guest, self.guest, 1)
        self.assertIn(self.taps[0], both, "the host does not put pieces together")
        for n, (first, second) in enumerate(((self.guest, self.victim), (self.guest, "203.0.113.9"), (self.victim, self.victim),
                                             (self.victim, self.guest)), 2):
            with self.subTest(first=first, second=second):
                seen = answered(first, second, n)
                self.assertEqual(seen - ({self.bridge} if second == self.guest else set()), set())
        # A service of the host's is not reached by what names no port either.
        mark = os.urandom(16)
        for piece in pieces(self.guest, self.guest, socket.IPPROTO_UDP, udp(bytes(56) + mark), 9):
            self.write(piece)
        self.assertLessEqual(self.reached(mark), {self.bridge})

    def test_frames_that_are_not_plain_ip(self):
        def packet(source, target, mark):
            return ipv4(source, target, socket.IPPROTO_UDP, udp(mark))
        mark = os.urandom(16)
        own = packet(self.guest, self.gateway, mark)
        six = ipv4(self.guest, self.gateway, socket.IPPROTO_UDP, udp(mark), version=6)
        tags = [struct.pack("!HH", kind, ident) for kind in (VLAN, SERVICE_VLAN, OLD_QINQ) for ident in (0, 1, 0xfff)]
        frames = {
            "LLC and SNAP": self.frame(b"\xaa\xaa\x03\0\0\0\x08\0" + own, kind=8 + len(own)),
            "LLC": self.frame(b"\x06\x06\x03" + own, kind=3 + len(own)),
            "raw 802.3": self.frame(b"\xff\xff" + own, kind=2 + len(own)),
            "a length of 0": self.frame(own, kind=0),
            "PPPoE": self.frame(b"\x11\0\0\x01" + struct.pack("!H", 2 + len(own)) + b"\0\x21" + own, kind=PPPOE),
            "called ARP": self.frame(own, kind=ARP),
            **{f"tags {first.hex()} {second.hex()}": self.frame(own, before=first + second) for first in tags for second in [b"", *tags]},
        }
        for name, frame in frames.items():
            with self.subTest(name):
                self.write(frame)
                self.assertEqual(self.reached(mark, 0.03), set())
        for name, frame in (("IPv6 by its first digit", self.frame(six)), ("cut", self.frame(own)[:33])):
            with self.subTest(name):
                self.write(frame)
                self.assertLessEqual(self.reached(mark, 0.03), {self.bridge})
        self.passes()

    # (name, request, argument): all that linux/if_tun.h lets whoever holds the descriptor set
    SETTINGS = (
        ("TUNSETOFFLOAD", 0x400454d0, 0), ("TUNSETOFFLOAD", 0x400454d0, 0x1f), ("TUNSETVNETHDRSZ", 0x400454d8, struct.pack("i", 12)),
        ("TUNSETVNETHDRSZ", 0x400454d8, struct.pack("i", 65000)), ("TUNSETSNDBUF", 0x400454d4, struct.pack("i", 1)),
        ("TUNSETVNETBE", 0x400454de, struct.pack("i", 1)), ("TUNSETVNETLE", 0x400454dc, struct.pack("i", 1)),
        ("TUNSETTXFILTER", 0x400454d1, struct.pack("HH", 0, 0)), ("TUNSETNOCSUM", 0x400454c8, 1), ("TUNSETDEBUG", 0x400454c9, 1),
        ("TUNSETCARRIER", 0x400454e2, struct.pack("i", 0)), ("TUNSETCARRIER", 0x400454e2, struct.pack("i", 1)),
        ("TUNSETQUEUE", 0x400454d9, struct.pack("16sH22x", b"", 0x400)), ("TUNSETLINK", 0x400454cd, 772),
        ("TUNSETIFINDEX", 0x400454da, struct.pack("i", 77)), ("TUNSETOWNER", 0x400454cc, 0), ("TUNSETGROUP", 0x400454ce, 0),
    )

    def others(self):
        """What must not change: everything but the attacker's own tap."""
        links = json.loads(subprocess.run(["ip", "-d", "-j", "link"], check=True, capture_output=True, text=True).stdout)
        own = [link for link in links if link["ifname"] in (self.taps[1], self.bridge)]
        rules = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
        rules = re.sub(r"set connections \{.*?\n\t\}", "", rules, flags=re.S)  # what guests do
        return re.sub(r'"\w+_timer": [\d.]+', "", json.dumps(own)), rules

    def hears(self, which):
        """What the host says to that guest arrives at its tap, and at no other."""
        mark = os.urandom(16)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(mark, (self.guest_of((self.vm, self.other)[which]), 9))
        return self.reached(mark) & set(self.taps)

    def test_what_a_vmm_sets_on_its_tap(self):
        """Nothing of it is anybody else's, or outlives the tap."""
        def new():
            seen = json.loads(subprocess.run(["ip", "-d", "-j", "link", "show", self.taps[0]], check=True, capture_output=True, text=True).stdout)[0]
            asked = [fcntl.ioctl(self.fd, request, bytes(4)) for request in (0x800454d7, 0x800454d3)]  # TUNGETVNETHDRSZ, TUNGETSNDBUF
            return {name: seen.get(name) for name in ("link_type", "master", "group", "mtu", "flags")}, seen["linkinfo"]["info_data"], asked
        fresh = new()
        before, done = self.others(), []
        for name, request, value in self.SETTINGS:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.fd, request, value)
                done.append(name)
            with self.subTest(name):
                self.assertEqual(self.others(), before)
                self.assertEqual(self.hears(1), {self.taps[1]})
                mark = os.urandom(16)
                size, = struct.unpack("i", fcntl.ioctl(self.fd, 0x800454d7, bytes(4)))
                for source in (mac(self.vm), mac(self.other)):
                    self.write(self.frame(ipv4(self.victim, self.gateway, socket.IPPROTO_UDP, udp(mark)), source=source), bytes(size))
                self.assertEqual(self.reached(mark, 0.05), set())
        self.assertIn("TUNSETOFFLOAD", done)
        self.assertIn("TUNSETVNETHDRSZ", done)
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        with self.assertRaises(OSError):
            os.write(self.fd, PLAIN + self.frame(ipv4(self.guest, self.gateway, socket.IPPROTO_UDP, udp(b"late"))))
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        self.fd = self.open_tap(0)
        self.passes()
        self.assertEqual(new(), fresh)


class Reach(test_privileged.HelperTest):
    def test_reach(self):
        """Ids and ports, within bounds, of VMs that are there; in the lease first, and gone with either VM."""
        def reach(links, ports, vm=self.vm):
            return self.call("SetReach", "(sasaqa{sv})", vm, links, ports)

        def said(table):
            return subprocess.run(["nft", "list", "set", "inet", table, "links"], capture_output=True, text=True).stdout
        self.refused("org.banger.Error.NoSuchLease", reach, [], [])
        self.call("CreateTap", "(ssssa{sv})", self.vm, self.bridge, self.address, self.guest)
        self.refused("org.banger.Error.NoSuchLease", reach, [self.other], [])
        self.call("CreateTap", "(ssssa{sv})", self.other, self.bridge, self.address, self.guest_of(self.other))
        rows = [(["x"], [], "InvalidId"), ([self.vm], [], "InvalidArgs"), ([], [0], "InvalidArgs"), ([], list(range(1, 18)), "InvalidArgs"),
                ([self.other] * 33, [], "InvalidArgs"), ([f"{self.stack.number:06x}ee"], [], "NoSuchLease")]
        for links, ports, error in rows:
            domain = "org.freedesktop.DBus.Error" if error == "InvalidArgs" else "org.banger.Error"
            with self.subTest(links=links, ports=ports):
                self.refused(f"{domain}.{error}", reach, links, ports)
        reach([self.other] * 32, [*range(1, 16), 65535])
        with open(pathlib.Path(self.stack.install["runtime"]) / "leases" / f"{self.vm}.json", encoding="utf-8") as f:
            lease = json.load(f)
        self.assertEqual((lease["links"], lease["ports"].split(",")[-1]), (self.other, "65535"))
        tables = {f"banger{self.bridge[len('br-fc'):]}{twin}" for twin in ("", ".held")}
        for table in tables:
            self.assertIn(f'"{self.bridge}" . {self.guest} . {self.guest_of(self.other)}', said(table))
        self.stack.restart("helper")
        for table in tables:
            self.assertIn(self.guest_of(self.other), said(table))
        self.call("ReleaseVm", "(sa{sv})", self.other)
        for table in tables:
            self.assertNotIn("elements", said(table))
        reach([], [])
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertEqual(subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout.count("br-fc"), 0)


if __name__ == "__main__":
    main()
