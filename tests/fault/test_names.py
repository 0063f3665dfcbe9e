"""Names of running VMs: real packets to bangerd's port, and the way that the host's resolver is sent there.

Run by meson test as root. VMs are those of parts.py: no guest is booted. systemd-resolved is played by
tests/bus/fake_resolved.py.
Never asserts a time: what is waited for has a bound far above what it may take.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import resource
import signal
import socket
import struct
import subprocess

from parts import HERE, FaultTest, devstack, main

RESOLVE1 = "org.freedesktop.resolve1"
POLICY = f"""<busconfig>
  <policy user="root"><allow own="{RESOLVE1}"/></policy>
  <policy context="default"><allow send_destination="{RESOLVE1}"/></policy>
</busconfig>
"""
SECONDS = 60
A, PTR, AAAA = 1, 12, 28
NXDOMAIN, REFUSED, FORMERR = 3, 5, 1


def question(name, kind=A, edns=b""):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    return struct.pack(">HHHHHH", random.randrange(1 << 16), 0x0100, 1, 0, 0, bool(edns)) + labels + b"\0" + struct.pack(">HH", kind, 1) + edns


def answer(packet, asked):
    """(rcode, data of the answers), of a reply to that question: RFC 1035, 4.1."""
    number, flags, questions, answers, _, _ = struct.unpack(">HHHHHH", packet[:12])
    assert number == struct.unpack(">H", asked[:2])[0] and flags & 0x8000 and not flags & 0x0200, packet
    at, found = 12, []
    if questions:
        at = packet.index(b"\0", 12) + 5
        assert packet[12:at] == asked[12:at], packet
    for _ in range(answers):
        assert packet[at] & 0xc0 == 0xc0, packet
        kind, _, ttl, length = struct.unpack(">HHIH", packet[at + 2:at + 12])
        assert ttl <= 1 and kind in (A, PTR), packet
        found.append(packet[at + 12:at + 12 + length])
        at += 12 + length
    return flags & 15, found


class Names(FaultTest):
    patience = 1

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        policy = cls.stack.base / "resolve1.conf"
        policy.write_text(POLICY, encoding="utf-8")
        policy.chmod(0o644)
        cls.stack.extra_policies = [str(policy)]
        cls.control = cls.stack.base / "resolved"
        cls.control.mkdir()
        for name in reversed(devstack.ORDER):
            cls.stack.stop(name)
        for name in devstack.ORDER:
            getattr(cls.stack, "start_" + name.replace("-", "_"))()
        cls.port = cls.stack.dns_port
        cls.bridge = cls.stack.install["bridge"]

    def tearDown(self):
        super().tearDown()
        self.stack.settings(f"[network]\ndns-port = {self.port}\n")
        self.client.call("ReloadConfig", "(a{sv})", ({},))

    # systemd-resolved

    def resolved(self):
        """It comes to the bus, and knows nothing."""
        (self.control / "behave").write_text("{}", encoding="utf-8")
        (self.control / "asked").write_text("", encoding="utf-8")
        self.stack._start("resolved", ["/usr/bin/python3", str(HERE.parent / "bus/fake_resolved.py"), str(self.control)],
                          self.stack.root_environment())
        self.addCleanup(self.stack.stop, "resolved")
        self.stack._wait_for_name(RESOLVE1, "resolved", self.stack.system_address)

    def asked(self):
        return [json.loads(line) for line in (self.control / "asked").read_text(encoding="utf-8").splitlines()]

    def routed(self, port=None):
        index = int(pathlib.Path(f"/sys/class/net/{self.bridge}/ifindex").read_text())
        wanted = [["SetLinkDNSEx", index, [[2, [127, 0, 0, 1], port or self.port, ""]]],
                  ["SetLinkDomains", index, [["vm", True]]], ["SetLinkDefaultRoute", index, False]]
        devstack.wait_for("names to be routed", SECONDS, lambda: self.asked()[-3:] == wanted)

    def left(self):
        """How often the helper took the routing back for who had it made and was gone."""
        return pathlib.Path(self.stack.log_path("helper")).read_text(encoding="utf-8").count("had names of VMs routed has left")

    def reverted(self):
        devstack.wait_for("the routing to go", SECONDS, lambda: self.asked() and self.asked()[-1][0] == "RevertLink")

    # bangerd

    def udp(self, packet, port=None):
        """What gets lost in a crowd is asked again, as everybody does."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(1)
            s.connect(("127.0.0.1", port or self.port))
            for _ in range(SECONDS):
                s.send(packet)
                with contextlib.suppress(TimeoutError):
                    return answer(s.recv(65535), packet)
        raise AssertionError("no answer")

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), SECONDS)
        self.addCleanup(s.close)
        return s

    @staticmethod
    def talk(s, packet):
        """One question on a connection."""
        s.sendall(struct.pack(">H", len(packet)) + packet)
        with s.makefile("rb") as f:
            return answer(f.read(struct.unpack(">H", f.read(2))[0]), packet)

    def ask(self, name, kind=A, **more):
        """The same over both."""
        packet = question(name, kind, **more)
        over_udp, over_tcp = self.udp(packet), self.talk(self.connect(), packet)
        self.assertEqual(over_udp, over_tcp)
        return over_udp

    def run_vm(self, name):
        self.do("CreateVM", name, memory_mib=128, start=True)
        return socket.inet_aton(self.vm(name)["Address"])

    def row(self):
        rows = self.client.call("Diagnose", "(a{sv})", ({},))[0]
        return next(row[1:] for row in rows if row[0] == "names")

    # Tests

    def test_only_what_runs_has_a_name(self):
        self.assertEqual(self.ask("web.vm"), (NXDOMAIN, []))
        self.do("CreateVM", "web", memory_mib=128)
        self.assertEqual(self.ask("web.vm"), (NXDOMAIN, []))
        self.do("StartVM", "web")
        address = socket.inet_aton(self.vm("web")["Address"])
        reverse = ".".join(reversed(self.vm("web")["Address"].split("."))) + ".in-addr.arpa"
        other = self.run_vm("db")
        self.assertEqual(self.ask("web.vm"), (0, [address]))
        self.assertEqual(self.ask("DB.vm", edns=b"\0\0\x29\x10\0\0\0\0\0\0\0"), (0, [other]))
        self.assertEqual(self.ask("web.vm", AAAA), (0, []))
        self.assertEqual(self.ask(reverse, PTR), (0, [b"\3web\2vm\0"]))
        self.assertEqual(self.ask("example.org"), (REFUSED, []))
        self.stack.kill("manager")
        self.stack.start_manager()
        self.assertEqual(self.ask("web.vm"), (0, [address]), "bangerd started anew and does not name what runs")
        self.do("StopVM", "web", timeout_us=1000000)
        self.assertEqual(self.ask("web.vm"), (NXDOMAIN, []))
        self.assertEqual(self.ask(reverse, PTR), (NXDOMAIN, []))
        os.kill(self.vm("db")["Pid"], signal.SIGKILL)
        packet = question("db.vm", A)
        devstack.wait_for("the name to go with its VM", SECONDS, lambda: self.udp(packet) == (NXDOMAIN, []))
        self.assertEqual(self.ask("db.vm"), (NXDOMAIN, []))

    def ssh(self, name):
        """What the user's own ssh makes of that name; real ssh_config(5)."""
        file = pathlib.Path(self.stack.owner.pw_dir) / ".config/banger/ssh/config"
        done = subprocess.run(["/usr/bin/ssh", "-G", "-F", file, name], capture_output=True, text=True, check=False)
        return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)

    def test_ssh_is_told(self):
        """Each VM by its name, with the address and the key that it has now, whether it runs or not."""
        for turn in range(2):
            self.do("CreateVM", "web", memory_mib=128)
            self.do("CreateVM", "db", memory_mib=128)
            for name in ("web", "db"):
                vm = self.vm(name)
                devstack.wait_for("ssh to know it", SECONDS, lambda: self.ssh(f"{name}.vm").get("hostkeyalias") == vm["HostKeyAlias"])
                config = self.ssh(f"{name}.vm")
                self.assertEqual((config["hostname"], config["user"], config["stricthostkeychecking"], config["identitiesonly"]),
                                 (vm["Address"], "root", "true", "yes"))
                self.assertEqual((config["identityfile"], config["userknownhostsfile"]), (vm["IdentityFile"], vm["KnownHostsFile"]))
                self.assertNotIn("hostkeyalias", self.ssh(name))
            if turn == 0:
                self.stack.kill("manager")
                self.stack.start_manager()
                self.do("DeleteVM", "web")
                devstack.wait_for("ssh to forget it", SECONDS, lambda: "hostkeyalias" not in self.ssh("web.vm"))
                self.assertEqual(self.ssh("db.vm")["hostname"], self.vm("db")["Address"])
                self.do("DeleteVM", "db")

    def test_the_resolver_is_told(self):
        """From the first VM that runs to the last; again by each that starts anew; not for a bangerd that is gone."""
        self.resolved()
        self.run_vm("web")
        self.routed()
        before = len(self.asked())
        self.run_vm("db")
        self.do("StopVM", "web", timeout_us=1000000)
        self.assertEqual(len(self.asked()), before, "one VM more or less is nothing to the resolver")
        self.stack.stop("resolved")
        self.resolved()
        self.routed()
        (self.control / "asked").write_text("", encoding="utf-8")
        self.stack.kill("helper")
        self.stack.start_helper()
        self.routed()
        self.assertRegex(self.row()[1], rf"1 below vm, on 127.0.0.1:{self.port}")
        (self.control / "asked").write_text("", encoding="utf-8")
        left = self.left()
        self.stack.stop("manager")
        self.assertEqual(([call[0] for call in self.asked()], self.left()), (["RevertLink"], left), "an orderly end waits for that")
        self.stack.start_manager()
        self.routed()
        (self.control / "asked").write_text("", encoding="utf-8")
        self.stack.kill("manager")
        self.reverted()
        self.assertEqual(self.left(), left + 1)
        self.stack.start_manager()
        self.routed()
        self.do("StopVM", "db", timeout_us=1000000)
        self.reverted()

    def test_the_resolver_comes_late(self):
        """Neither it nor a refusal of its keeps a VM from starting."""
        self.run_vm("web")
        self.assertEqual(self.row()[0], "warning")
        self.resolved()
        self.routed()
        (self.control / "behave").write_text(json.dumps({"SetLinkDomains": "busy"}), encoding="utf-8")
        self.stack.settings(f"[network]\ndns-port = {self.port + 1}\n")
        self.client.call("ReloadConfig", "(a{sv})", ({},))
        devstack.wait_for("the doctor to say it", SECONDS, lambda: "exempt it there" in self.row()[1])
        (self.control / "behave").write_text("{}", encoding="utf-8")
        self.routed(self.port + 1)
        self.assertEqual(self.udp(question("web.vm"), self.port + 1)[0], 0)

    def test_the_port_is_taken(self):
        """The daemon runs all the same, the doctor says who has it, and names are there as soon as it is free."""
        self.stack.stop("manager")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", self.port))
            self.stack.start_manager()
            self.run_vm("web")
            status, seen, fix = self.row()
            self.assertEqual(status, "warning")
            self.assertRegex(seen, rf"port {self.port} of 127.0.0.1 \(UDP\).*; it has .*of user root$")
            self.assertIn("dns-port", fix)
        devstack.wait_for("the port to be served", SECONDS, lambda: self.row()[1].startswith("1 below vm"))
        self.assertEqual(self.ask("web.vm")[0], 0)
        self.stack.settings("[network]\ndns-port = 53\n")  # which it has no right to
        told = self.client.call("ReloadConfig", "(a{sv})", ({},))
        self.assertRegex(str(told), r"network.dns-port: no names of VMs: cannot listen on port 53 of 127.0.0.1 \(UDP\): Permission denied")
        self.assertIn("a port that bangerd may have, from 1024 on", self.row()[2])
        self.stack.settings("[network]\ndns-port = 0\n")
        self.client.call("ReloadConfig", "(a{sv})", ({},))
        self.assertIn("dns-port is 0", self.row()[1])
        with self.assertRaises(ConnectionRefusedError):
            self.udp(question("web.vm"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.stack.pid('manager')}/fd"))

    def test_a_crowd(self):
        """A thousand connections, halves of questions, packets of every size: others are served, and nothing is kept."""
        address = self.run_vm("web")
        before = self.descriptors()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        crowd = []
        for i in range(1000):
            s = socket.create_connection(("127.0.0.1", self.port), SECONDS)
            crowd.append(s)
            s.setblocking(False)
            half = (b"\xff\xff" + b"x" * 2000, b"\0", struct.pack(">H", 500) + question("web.vm"), b"")[i % 4]
            try:
                s.send(half)
            except OSError:  # it was let go already
                pass
            if i % 100 == 0:
                self.assertEqual(self.ask("web.vm"), (0, [address]))
        self.assertLessEqual(self.descriptors(), before + 40)
        self.client.call("GetVM", "(s)", ("web",))
        for s in crowd:
            s.close()
        devstack.wait_for("their descriptors to go", SECONDS, lambda: self.descriptors() <= before)

    def test_a_connection_with_many_questions(self):
        address = self.run_vm("web")
        s = self.connect()
        for _ in range(200):
            self.assertEqual(self.talk(s, question("web.vm")), (0, [address]))
        packets = [question("web.vm") for _ in range(20)]
        s.sendall(b"".join(struct.pack(">H", len(p)) + p for p in packets))
        with s.makefile("rb") as f:
            for packet in packets:
                self.assertEqual(answer(f.read(struct.unpack(">H", f.read(2))[0]), packet), (0, [address]))
        sockets = subprocess.run(["ss", "-Htmn", f"sport = :{self.port}"], check=True, capture_output=True, text=True).stdout
        room = [int(n) for n in re.findall(r"skmem:\(.*?,tb(\d+)", sockets)]
        self.assertTrue(room and max(room) <= 16384, sockets)
        greedy = self.connect()  # asks, and reads nothing
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        many = (struct.pack(">H", len(packets[0])) + packets[0]) * 1000
        with self.assertRaises((ConnectionResetError, BrokenPipeError)):
            for _ in range(1000):
                greedy.sendall(many)
        self.assertEqual(self.ask("web.vm"), (0, [address]))

    def test_packets_of_every_kind(self):
        """Loops of pointers, lies about lengths, 65,507 bytes, and noise: at most an error of twelve bytes, and no end."""
        address = self.run_vm("web")
        good, noise = question("web.vm"), random.Random(42)
        bad = [b"", good[:11], good[:2] + b"\x81" + good[3:], struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
               struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0e\xc0\x0c\0\1\0\1", good[:4] + b"\xff\xff" * 4 + good[12:],
               good + bytes(65507 - len(good)), good[:12] + b"\x3f" * 1200, bytes(65507)]
        bad += [noise.randbytes(noise.randrange(1400)) for _ in range(500)]
        bad += [good[:at] + bytes([noise.randrange(256)]) + good[at + 1:] for at in range(2, len(good)) for _ in range(8)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("127.0.0.1", self.port))
            s.setblocking(False)
            for packet in bad:
                s.send(packet)
                try:
                    while True:
                        reply = s.recv(65535)
                        self.assertLessEqual(len(reply), 512)
                        self.assertTrue(len(reply) == 12 or reply[3] & 15 in (0, NXDOMAIN, REFUSED), reply)
                except BlockingIOError:
                    pass
        self.assertEqual(self.ask("web.vm"), (0, [address]))

    def reaches(self):
        """The filter's pairs of addresses and its open ports, in both of its twins alike."""
        found = []
        for twin in ("", ".held"):
            listed = [subprocess.run(["nft", "-j", "list", "set", "inet", f"banger{self.bridge[len('br-fc'):]}{twin}", name],
                                     capture_output=True, text=True).stdout for name in ("links", "hosts")]
            elements = [e["concat"] for text in listed if text for each in json.loads(text)["nftables"] for e in each.get("set", {}).get("elem", [])]
            found.append({(e[1], e[2]) if len(e) == 3 else (e[1], e[3]) for e in elements})
        self.assertEqual(*found)
        return found[0]

    def knows(self, name):
        """Whom its guest was told of last, without itself."""
        told = re.findall(r"^names \S+ (\S+)$", pathlib.Path(self.vm(name)["ConsoleLog"]).read_text(encoding="utf-8"), re.M)
        return set(told[-1].split(",")) - {f"{self.vm(name)['Address']}={name}"} if told else None

    def know(self, **wanted):
        for name, names in wanted.items():
            devstack.wait_for(f"{name} to know {names}", SECONDS, lambda: self.knows(name) == names)

    def test_links(self):
        """One way, whichever starts first, for as long as both are there, under whatever names, whoever is started anew.
        Guests know by name whom they may reach, and nobody else."""
        host = self.stack.install["address"].split("/")[0] + "=host"
        db, address = self.run_vm("db"), {}
        self.do("CreateVM", "web", memory_mib=128, link=["db"], allow_host=["8000"], start=True)
        web, db = (self.vm(name)["Address"] for name in ("web", "db"))
        self.assertEqual((self.vm("web")["Links"], self.vm("db")["Links"]), ([self.vm("db")["Id"]], []))
        both = {(web, db), (web, 8000)}
        self.assertEqual(self.reaches(), both)
        self.know(web={host, f"{db}=db"}, db=set())
        self.do("SetVM", "db", name="base")
        self.know(web={host, f"{db}=base"}, base=set())
        self.do("StopVM", "base")
        self.assertEqual(self.reaches(), {(web, 8000)})
        self.know(web={host})
        self.do("StartVM", "base")
        self.assertEqual(self.reaches(), both)
        self.know(web={host, f"{db}=base"}, base=set())
        os.kill(self.vm("base")["Pid"], signal.SIGKILL)
        self.know(web={host})
        self.do("StartVM", "base")
        self.do("RestartVM", "web")
        self.assertEqual(self.reaches(), both)
        for name in ("manager", "helper"):
            with self.subTest(name):
                self.stack.kill(name)
                getattr(self.stack, "start_" + name)()
                devstack.wait_for("the VMs", SECONDS, lambda: self.vm("web") and self.reaches() == both)
                self.know(web={host, f"{db}=base"})
        self.do("SetVM", "base", link=["web"])
        self.assertEqual(self.reaches(), both | {(db, web)})
        self.know(web={host, f"{db}=base"}, base={f"{web}=web"})
        self.do("SetVM", "web", unlink=["base"], deny_host=["8000"], allow_host=["1", "65535"])
        self.assertEqual(self.reaches(), {(db, web), (web, 1), (web, 65535)})
        self.assertEqual((self.vm("web")["Links"], self.vm("web")["HostPorts"]), ([], ["1", "65535"]))
        self.know(web={host}, base={f"{web}=web"})
        self.do("DeleteVM", "web", force=True)
        self.know(base=set())
        self.assertEqual((self.reaches(), self.vm("base")["Links"]), (set(), []))
        self.settled()

    def test_a_guest_that_takes_no_names(self):
        """It reaches whom it may, is told of, and told again; nobody else waits. A VM called host is none in a guest that
        has a host."""
        self.run_vm("db")
        self.do("CreateVM", "host", memory_mib=128, start=True)
        self.do("CreateVM", "web", memory_mib=128, start=True)
        web, db, other = (self.vm(name)["Address"] for name in ("web", "db", "host"))
        self.know(web=set(), host=set())
        for how in ("fail", "silent"):
            with self.subTest(how):
                self.stack.faults(f"{self.vm('web')['Id']} agent.names {how}")
                self.do("SetVM", "web", link=["db", "host"])
                self.assertEqual((self.reaches(), self.knows("web")), ({(web, db), (web, other)}, set()))
                self.stack.faults()
                self.know(web={f"{db}=db", f"{other}=host"})
                self.do("SetVM", "web", unlink=["db", "host"])
                self.know(web=set())
        self.do("SetVM", "web", link=["db", "host"], allow_host=["80"])
        self.know(web={f"{db}=db", self.stack.install["address"].split("/")[0] + "=host"}, host=set())
        self.do("SetVM", "host", allow_host=["80"])
        devstack.wait_for("host to be the host", SECONDS, lambda: self.knows("host") == {self.stack.install["address"].split("/")[0] + "=host"})
        self.settled()

    def test_links_that_are_refused(self):
        """Nothing is changed then."""
        self.do("CreateVM", "web", memory_mib=128, start=True)
        many = [str(port) for port in range(1, 18)]
        rows = [({"link": ["web"]}, "itself"), ({"link": ["nobody"]}, "no VM is called"), ({"unlink": ["web"]}, "itself"),
                ({"allow_host": ["0"]}, "no port"), ({"allow_host": ["65536"]}, "no port"), ({"allow_host": ["x\x1b[31m"]}, "no port"),
                ({"deny_host": ["80"]}, "not open"), ({"allow_host": many}, "16")]
        for options, text in rows:
            with self.subTest(options):
                said = self.client.verb("SetVM", "web", **options).result(SECONDS)
                self.assertIn(text, said)
                self.assertTrue(said.isprintable())
        self.stack.faults(f"{self.vm('web')['Id']} polkit.SetReach no")
        self.assertIn("NotAuthorized", self.client.verb("SetVM", "web", allow_host=["80"]).result(SECONDS))
        self.stack.faults()
        self.assertEqual((self.vm("web")["HostPorts"], self.reaches()), ([], set()))
        self.do("SetVM", "web", allow_host=many[:16])
        self.assertEqual(len(self.reaches()), 16)
        self.settled()

    def test_nobody_else_is_served(self):
        """Not by another address of this host, and the port is nobody else's to share."""
        address = self.run_vm("web")
        own = self.stack.install["address"].split("/")[0]
        for place in (own, "127.0.0.2"):
            with self.subTest(place), self.assertRaises(OSError), socket.create_connection((place, self.port), 5):
                pass
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                with socket.socket(socket.AF_INET, kind) as thief, self.assertRaises(OSError):
                    thief.setsockopt(socket.SOL_SOCKET, option, 1)
                    thief.bind(("127.0.0.1", self.port))
                    if kind == socket.SOCK_STREAM:
                        thief.listen()
        self.assertEqual(self.ask("web.vm"), (0, [address]))


if __name__ == "__main__":
    main()
