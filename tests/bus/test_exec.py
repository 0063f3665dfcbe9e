#!/usr/bin/python3
"""Commands in guests over D-Bus: a bangerd whose guests are made up, and their agent in this process, which may lie.

Usage: test_exec.py BANGERD. Run by meson test.
Never runs a command: the agent does what the first word of it says.
"""

import contextlib
import errno
import json
import os
import socket
import threading
import time

import alone
from alone import ERROR, FOREIGN, MANAGER, NAME, PATH, ROOT, until
import harness
from gi.repository import Gio, GLib

PROCESS = "org.banger.Process"
LIMITS = alone.STANDARD + "LimitsExceeded"
MIB = 1 << 20


def options(**values):
    return harness.options(**{key: GLib.Variant("as", value) if isinstance(value, list) else value for key, value in values.items()})


class Agent:
    """What is behind the VMMs' sockets, which come by @path: a thread for each connection."""

    def __init__(self, path):
        self.streams, self.requests, self.orders, self.connects, self.lock = {}, [], [], [], threading.Condition()
        self.open = self.sent = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(4)
        os.chmod(path, 0o666)
        self.each(self.listener, self.guest)

    @staticmethod
    def each(listener, serve):
        """For each connection @serve, in a thread."""
        def accept():
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def guest(self, connection):
        with connection:
            listener = socket.socket(fileno=socket.recv_fds(connection, 1, 1)[1][0])
        listener.setblocking(True)
        self.each(listener, self.serve)

    @staticmethod
    def line(connection):
        text = b""
        while not text.endswith(b"\n"):
            byte = connection.recv(1)
            if not byte:
                return None
            text += byte
        return text.decode().rstrip("\n")

    def serve(self, connection):
        if self.line(connection) != "CONNECT 1024":
            return connection.close()
        connection.sendall(b"OK 1024\n")
        words = (self.line(connection) or self.line(connection) or "gone").split(" ")  # before hello comes an empty line
        while words[0] in ("hello", "clock"):
            more = " banger-guest 9 no-sshd exec\nready boot-1" if words[0] == "hello" else ""
            connection.sendall(f"{words[1]} ok{more}\n".encode())
            words = (self.line(connection) or "gone").split(" ")
        if words[0] == "stream":
            with self.lock:
                self.streams[words[1], words[2]] = connection
            connection.sendall(f"{words[1]} ok\n".encode())
        elif words[0] == "connect":
            self.connects.append(words[2])
            getattr(self, "port_" + words[2], self.port_any)(connection, words[1])
        elif words[0] == "exec":
            data = b""
            while len(data) < int(words[2]):
                data += connection.recv(int(words[2]) - len(data))
            entries = [entry.split(b"=", 1) for entry in data.split(b"\0")[:-1]]
            with self.lock:
                self.requests.append(entries)
                mine = [self.streams.pop((words[1], name), None) for name in ("stdin", "stdout", "stderr")]
                self.open += 1
            argument = [value for key, value in entries if key == b"arg"]
            try:
                getattr(self, "do_" + argument[0].decode())(words[1], connection, mine, argument[1:])
            except (BrokenPipeError, ConnectionResetError):
                pass
            for stream in mine:
                if stream:
                    stream.close()
            connection.close()
            with self.lock:
                self.open -= 1

    def port_any(self, connection, token):
        """Says a word and what it is told."""
        with self.lock:
            self.open += 1
        connection.sendall(f"{token} ok\nhello ".encode())
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        connection.close()
        with self.lock:
            self.open -= 1

    def port_81(self, connection, token):
        connection.sendall(f"{token} error nobody \x1b[2J there\n".encode())

    def port_82(self, connection, token):
        """Floods, and reads nothing."""
        connection.sendall(f"{token} ok\n".encode())
        try:
            while True:
                self.sent += connection.send(bytes(1 << 20))
        except (BrokenPipeError, ConnectionResetError):
            self.orders.append("gone")

    def port_83(self, connection, token):
        """Never answers; tells when the host has left."""
        connection.recv(1)
        self.orders.append("left")

    def port_84(self, connection, token):
        connection.sendall(b"y" * 100000)

    def port_85(self, connection, token):
        connection.sendall(b"other ok\n")

    def do_echo(self, token, control, streams, words):
        """Says its words, then what it is told on stdin."""
        control.sendall(f"{token} ok\n".encode())
        streams[1].sendall(b" ".join(words) + b"\n")
        while streams[0] and (data := streams[0].recv(65536)):
            streams[1].sendall(data)
        if streams[2]:
            streams[2].sendall(b"done\n")
        control.sendall(b"exit 7\n")

    def do_wait(self, token, control, streams, words):
        """Until the host leaves or sends a signal."""
        control.sendall(f"{token} ok\n".encode())
        while order := self.line(control):
            self.orders.append(order)
            if order.startswith("signal"):
                control.sendall(b"killed %d\n" % int(order.split()[1]))
                return
        self.orders.append("gone")

    def do_write(self, token, control, streams, words):
        control.sendall(f"{token} ok\n".encode())
        streams[1].sendall(b"o" * int(words[0]))
        streams[2].sendall(b"e" * int(words[1]))
        control.sendall(b"exit 0\n")

    def do_lie(self, token, control, streams, words):
        """What a hostile guest answers with, in place of everything."""
        control.sendall(words[0])
        if len(words) > 1:
            time.sleep(float(words[1]))

    def do_hold(self, token, control, streams, words):
        """Tells the end of the command, and never that of its output."""
        control.sendall(f"{token} ok\nexit 0\n".encode())
        streams[1].recv(1)
        self.orders.append("let go")

    def do_end(self, token, control, streams, words):
        """Likewise, in place of the command's end."""
        control.sendall(f"{token} ok\n".encode() + words[0])


    def tell_ports(self, token, control, streams, words):
        """What self.ports says, and how that ends: None: it does not."""
        text, status = self.ports
        control.sendall(f"{token} ok\n".encode())
        streams[1].sendall(text)
        if status is None:
            streams[1].recv(1)
            self.orders.append("let go")
        else:
            control.sendall(b"exit %d\n" % status)


setattr(Agent, "do_/run/banger/guest", Agent.tell_ports)  # by which the agent calls itself


class Daemon(alone.Daemon):
    def spawn(self, *args, **environ):
        self.agent_path = str(self.base / "vsock")
        if not hasattr(self, "agent"):
            self.agent = Agent(self.agent_path)
        return super().spawn(*args, **{"FAKE_AGENT": self.agent_path} | environ)


class Client:
    """A connection to the bus that can take descriptors, and leave."""

    def __init__(self, address):
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        self.connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
        self.connection.set_exit_on_close(False)

    def exec(self, *words, path=None, **given):
        """Streams (sockets) and the path of the process."""
        name = () if path else ("web",)
        reply, fds = self.connection.call_with_unix_fd_list_sync(
            NAME, path or PATH, "org.banger.VM" if path else MANAGER, "Exec" if path else "ExecVM",
            GLib.Variant("(asa{sv})" if path else "(sasa{sv})", (*name, words, options(**given))), GLib.VariantType("(hhho)"),
            Gio.DBusCallFlags.NONE, 300000, None, None)
        handles = reply.unpack()
        return [os.fdopen(fds.get(handle), "r+b", 0) for handle in handles[:3]], handles[3]

    def close(self):
        self.connection.close_sync(None)


class ImageSettings(alone.BusTest):
    """An image that says how its commands start."""

    SAYS = {"env": ["A=1", "B=2", "no pair", "=x"], "working-dir": "/srv", "user": "7:8", "entrypoint": ["echo", "in"], "cmd": ["it's"]}

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.call, self.agent = self.daemon.call, self.daemon.agent
        self.prepare()
        self.daemon.stop()
        record, = self.daemon.state.glob("images/*/record.json")
        record.write_text(json.dumps(json.loads(record.read_text(encoding="utf-8")) | self.SAYS), encoding="utf-8")
        self.daemon.start()
        self.create(wait=True, start=True)

    def run_(self, *words, **given):
        """What the guest was asked for."""
        self.call("CaptureVM", "(sasa{sv})", ("web", words, options(**given)))
        request = self.agent.requests.pop()
        return {key: [value.decode() for name, value in request if name == key.encode()] for key in ("arg", "env", "cwd", "user")}

    def test_defaults(self):
        vm = self.daemon.managed()[self.call("GetVM", "(s)", ("web",))[0]]["org.banger.VM"]
        self.assertEqual(vm["ImageCommand"], ["echo", "in", "it's"])
        of_image = {"env": ["A=1", "B=2"], "cwd": ["/srv"], "user": ["7:8"]}
        nothing = {"env": [], "cwd": [], "user": []}
        for words, given, wanted in (
                (["echo", "x"], {}, {"arg": ["echo", "x"]} | nothing),
                (["echo", "x"], {"image-settings": False}, {"arg": ["echo", "x"]} | nothing),
                (["echo", "x"], {"image-settings": True}, {"arg": ["echo", "x"]} | of_image),
                ([], {"image-settings": True}, {"arg": ["echo", "in", "it's"]} | of_image),
                (["echo"], {"image-settings": True, "environment": ["B=3"], "cwd": "/", "user": "root"},
                 {"arg": ["echo"], "env": ["A=1", "B=2", "B=3"], "cwd": ["/"], "user": ["root"]}),
                (["echo", "%20"], {"image-settings": True, "coded": True}, {"arg": ["echo", " "]} | of_image)):
            with self.subTest(words=words, given=given):
                self.assertEqual(self.run_(*words, **given), wanted)
        self.refused(alone.STANDARD + "InvalidArgs", "CaptureVM", "(sasa{sv})", ("web", [], {}))


class Exec(alone.BusTest):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.call, self.agent = self.daemon.call, self.daemon.agent
        self.prepare()
        self.create(wait=True, start=True)
        self.client = Client(self.daemon.address)

    def process(self, path):
        return self.call("GetAll", "(s)", (PROCESS,), path=path, interface="org.freedesktop.DBus.Properties")[0]

    def until_state(self, path, state):
        return until(f"{state} of {path}", lambda: self.process(path)["State"] == state and self.process(path))

    def capture(self, *words, **given):
        reply = self.client.connection.call_sync(NAME, PATH, MANAGER, "CaptureVM", GLib.Variant("(sasa{sv})", ("web", words, options(**given))),
                                                 GLib.VariantType("(ayayi)"), Gio.DBusCallFlags.NONE, 300000, None)
        out, err = (reply.get_child_value(i).get_data_as_bytes().get_data() for i in range(2))
        return out or b"", err or b"", reply.get_child_value(2).get_int32()

    def test_introspection_is_the_contract(self):
        _, path = self.client.exec("wait")
        live = self.call("Introspect", path=path, interface=harness.INTROSPECTABLE)[0]
        wanted = (harness.SOURCE / "introspection" / "org.banger.Process.xml").read_text(encoding="utf-8")
        self.assertEqual(harness.shape(live), harness.shape(wanted))

    def test_exec(self):
        ear = self.ear()
        for vm in (None, self.call("GetVM", "(s)", ("web",))[0]):
            streams, path = self.client.exec("echo", "a b", "\xe4", path=vm, environment=["A=1", "B=="], cwd="/root", user="ann")
            streams[0].write(b"\0\xffmore")
            streams[0].close()
            self.assertEqual(streams[1].read(), "a b \xe4\n".encode() + b"\0\xffmore")
            self.assertEqual(streams[2].read(), b"done\n")
            self.assertEqual(ear.wait("Exited", path)[2], (7, 0, ""))
            self.assertEqual(self.process(path) | {"Client": ""},
                             {"Id": path.split("/")[-1], "VM": self.call("GetVM", "(s)", ("web",))[0], "Client": "", "State": "exited",
                              "ExitStatus": 7, "ExitSignal": 0, "Error": ""})
            self.assertEqual(self.agent.requests.pop(), [[b"arg", b"echo"], [b"arg", b"a b"], [b"arg", "\xe4".encode()], [b"env", b"A=1"],
                                                         [b"env", b"B=="], [b"cwd", b"/root"], [b"user", b"ann"]])

    def test_streams_that_there_are_not(self):
        streams, path = self.client.exec("echo", stdin=False)
        self.assertEqual((streams[0].read(), streams[1].read()), (b"", b"\n"))
        streams, path = self.client.exec("echo", terminal=True, rows=24, columns=80)
        self.assertEqual(streams[2].read(), b"")
        self.assertIn([b"terminal", b"24x80"], self.agent.requests[-1])
        self.call("Resize", "(uua{sv})", (50, 132, {}), path=path, interface=PROCESS)
        streams[0].close()

    def test_orders(self):
        ear = self.ear()
        _, path = self.client.exec("wait")
        self.call("Resize", "(uua{sv})", (50, 132, {}), path=path, interface=PROCESS)
        for number in (0, 65, 1 << 31):
            self.refused(ERROR + "InvalidSignal", "Signal", "(ua{sv})", (number, {}), path=path, interface=PROCESS)
        for rows, columns in ((65536, 1), (1, 65536)):
            self.refused(alone.STANDARD + "InvalidArgs", "Resize", "(uua{sv})", (rows, columns, {}), path=path, interface=PROCESS)
        self.call("Signal", "(ua{sv})", (15, {}), path=path, interface=PROCESS)
        self.assertEqual(ear.wait("Exited", path)[2], (-1, 15, ""))
        self.assertEqual(self.agent.orders, ["resize 50x132", "signal 15"])
        self.assertEqual(self.process(path)["State"], "killed")
        for member, signature, arguments in (("Signal", "(ua{sv})", (9, {})), ("Resize", "(uua{sv})", (1, 1, {}))):
            self.refused(ERROR + "WrongState", member, signature, arguments, path=path, interface=PROCESS)

    def test_client_leaves(self):
        other = Client(self.daemon.address)
        _, mine = self.client.exec("wait")
        _, path = other.exec("wait")
        other.close()
        until("the end of the command", lambda: self.agent.orders == ["gone"])
        self.assertNotIn(path, self.daemon.managed())
        self.assertEqual(self.process(mine)["State"], "running")
        self.client.close()
        until("the end of the other", lambda: self.agent.orders == ["gone"] * 2)

    def test_client_leaves_while_it_starts(self):
        other = Client(self.daemon.address)
        self.client.exec("wait")
        other.connection.call(NAME, PATH, MANAGER, "ExecVM", GLib.Variant("(sasa{sv})", ("web", ["lie", "", "3"], {})), None,
                              Gio.DBusCallFlags.NONE, -1, None, None)
        other.connection.flush_sync(None)
        until("the request", lambda: len(self.agent.requests) == 2)
        other.close()
        until("its end", lambda: len([v for v in self.daemon.managed().values() if PROCESS in v]) == 1 and self.agent.open <= 2)

    def test_manager_ends(self):
        self.client.exec("wait")
        self.daemon.stop()
        until("the end of the command", lambda: self.agent.orders == ["gone"])

    def test_refused(self):
        bad = alone.STANDARD + "InvalidArgs"
        for words, given, error in ((["true"], {"no-such": 1}, bad), ([], {}, bad), ([""], {}, bad), (["x"], {"environment": ["A"]}, bad),
                                      (["x"], {"environment": ["=A"]}, bad), (["x"], {"cwd": ""}, bad), (["x"], {"user": ""}, bad),
                                      (["%zz"], {"coded": True}, bad), (["x"], {"rows": 65536}, bad), (["x"], {"terminal": 1}, bad),
                                      (["x" * MIB] * 9, {}, LIMITS)):
            with self.subTest(words=words[0][:5] if words else None, given=given):
                self.refused(error, "ExecVM", "(sasa{sv})", ("web", words, options(**given)))
        self.refused(bad, "CaptureVM", "(sasa{sv})", ("web", ["x"], options(terminal=True)))
        self.refused(ERROR + "NoSuchVM", "ExecVM", "(sasa{sv})", ("nobody", ["x"], {}))
        self.create("idle", wait=True)
        self.refused(ERROR + "WrongState", "ExecVM", "(sasa{sv})", ("idle", ["x"], {}))
        self.assertEqual(self.agent.requests, [])

    def test_foreign_user(self):
        if not ROOT:
            self.skipTest("needs root")
        _, path = self.client.exec("wait")
        vm = self.call("GetVM", "(s)", ("web",))[0]
        for member, signature, arguments, where, interface in (
                ("ExecVM", "(sasa{sv})", ("web", ["x"], {}), PATH, MANAGER), ("CaptureVM", "(sasa{sv})", ("web", ["x"], {}), PATH, MANAGER),
                ("Exec", "(asa{sv})", (["x"], {}), vm, "org.banger.VM"), ("Capture", "(asa{sv})", (["x"], {}), vm, "org.banger.VM"),
                ("Signal", "(ua{sv})", (9, {}), path, PROCESS), ("Resize", "(uua{sv})", (1, 1, {}), path, PROCESS)):
            self.refused(alone.STANDARD + "AccessDenied", member, signature, arguments, path=where, interface=interface, user=FOREIGN)
        self.assertEqual((len(self.agent.requests), self.agent.orders), (1, []))

    def test_words_that_are_not_utf8(self):
        self.client.exec("echo", "%FF%20", "%00", coded=True, environment=["A%3D%FE"], stdin=False)
        self.assertEqual(self.agent.requests[-1], [[b"arg", b"echo"], [b"arg", b"\xff "], [b"arg", b""], [b"env", b"A=\xfe"]])

    def test_capture(self):
        self.assertEqual(self.capture("echo", "hi"), (b"hi\n", b"done\n", 7))
        self.assertEqual(self.capture("write", str(MIB), str(MIB)), (b"o" * MIB, b"e" * MIB, 0))
        for sizes in ((MIB + 1, 0), (0, MIB + 1), (9 * MIB, 0)):
            self.refused(LIMITS, "CaptureVM", "(sasa{sv})", ("web", ["write", *map(str, sizes)], {}))
        self.assertEqual([v for v in self.daemon.managed().values() if PROCESS in v], [])

    def test_ports(self):
        """What a guest says of its listeners is held to what it may say, and to a time."""
        def ports(text, status=0, name="web"):
            self.agent.ports = text, status
            return self.call("ListPortsVM", "(sa{sv})", (name, {}))[0]

        self.assertEqual(ports(b"udp :: 68 0 %00\ntcp 0.0.0.0 22 417 a%0A%1B%5B2J\n"),
                         [("tcp", "0.0.0.0", 22, 417, "a\\x0a\\x1b[2J"), ("udp", "::", 68, 0, "")])
        self.assertEqual(self.agent.requests[-1][:2], [[b"arg", b"/run/banger/guest"], [b"arg", b"ports"]])
        failed = "org.banger.Error.GuestFailed"
        cases = ((b"tcp 0.0.0.0 22 1 a\x1b[2J\n", 0, failed), (b"x" * 100000, 0, failed), (b"tcp 0.0.0.0 22 1 a", 0, failed), (b"", 1, failed),
                 (b"tcp 0.0.0.0 22 1 a\n" * 1025, 0, LIMITS), (b"a" * (MIB + 1), 0, LIMITS), (b"", 125, alone.STANDARD + "NotSupported"),
                 (b"tcp 0.0.0.0 22 1 a\n", None, "org.banger.Error.GuestTimeout"))
        for text, status, error in cases:
            with self.subTest(error=error, text=text[:20]):
                self.agent.ports = text, status
                said = self.refused(error, "ListPortsVM", "(sa{sv})", ("web", {}))
                self.assertNotIn("\x1b", said)
        until("the end of the command", lambda: self.agent.orders[-1:] == ["let go"])
        self.assertEqual([v for v in self.daemon.managed().values() if PROCESS in v], [])

    def test_capture_whose_client_leaves(self):
        other = Client(self.daemon.address)
        other.connection.call(NAME, PATH, MANAGER, "CaptureVM", GLib.Variant("(sasa{sv})", ("web", ["wait"], {})), None,
                              Gio.DBusCallFlags.NONE, -1, None, None)
        other.connection.flush_sync(None)
        until("the request", lambda: self.agent.requests)
        other.close()
        until("the end of the command", lambda: self.agent.orders == ["gone"])

    def test_capture_whose_output_does_not_end(self):
        """What the guest keeps open goes with the client."""
        fds = f"/proc/{self.daemon.process.pid}/fd"
        self.capture("echo")
        before = len(os.listdir(fds)) if ROOT else 0
        other = Client(self.daemon.address)
        for _ in range(8):
            other.connection.call(NAME, PATH, MANAGER, "CaptureVM", GLib.Variant("(sasa{sv})", ("web", ["hold"], {})), None,
                                  Gio.DBusCallFlags.NONE, -1, None, None)
        other.connection.flush_sync(None)
        until("the ends that are told", lambda: [v[PROCESS]["State"] for v in self.daemon.managed().values() if PROCESS in v] == ["exited"] * 8)
        other.close()
        until("the ends of the output", lambda: self.agent.orders == ["let go"] * 8)
        self.assertEqual([v for v in self.daemon.managed().values() if PROCESS in v], [])
        if ROOT:
            until("their descriptors", lambda: len(os.listdir(fds)) <= before)

    def test_guest_lies(self):
        """In its answer to the request, and about the end: an error in either case, nothing else."""
        for answer in ("", "nonsense\n", "x ok\n", "\0\n", "y" * 300, "error \x1b[2J\n"):
            with self.subTest(answer=answer):
                message = self.refused(ERROR + "GuestFailed", "ExecVM", "(sasa{sv})", ("web", ["lie", answer], {}))
                self.assertNotIn("\x1b", message)
        for end in ("", "exit\n", "exit 256\n", "exit -1\n", "exit 1 \n", "killed 0\n", "killed 65\n", "exit 0x1\n", "z" * 300, "exit 1"):
            with self.subTest(end=end):
                _, path = self.client.exec("end", end)
                self.assertEqual(self.until_state(path, "lost")["ExitStatus"], -1)
                self.refused(ERROR + "GuestFailed", "CaptureVM", "(sasa{sv})", ("web", ["end", end], {}))

    def test_somebody_else_listens(self):
        path = next(self.daemon.run.glob("*/vsock.sock"))
        path.unlink()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(4)
            path.chmod(0o666)
            self.refused(ERROR + "UnsafeFile", "ExecVM", "(sasa{sv})", ("web", ["x"], {}))
        self.assertEqual(self.agent.requests, [])

    def test_as_many_as_may_run(self):
        for _ in range(256):
            self.client.exec("wait", stdin=False)
        self.refused(LIMITS, "ExecVM", "(sasa{sv})", ("web", ["wait"], {}))
        self.client.close()
        until("their end", lambda: len(self.agent.orders) == 256)
        self.client = Client(self.daemon.address)
        self.assertEqual(self.capture("echo")[2], 7)

    def test_many_that_have_ended(self):
        """As many are shown as were said; no descriptor is left."""
        fds = f"/proc/{self.daemon.process.pid}/fd"
        self.capture("echo")
        before = len(os.listdir(fds)) if ROOT else 0
        for _ in range(300):
            for stream in self.client.exec("echo", stdin=False)[0]:
                stream.read()
                stream.close()
        until("all that ended", lambda: len([v for v in self.daemon.managed().values() if PROCESS in v]) == 256)
        if ROOT:
            until("their descriptors", lambda: len(os.listdir(fds)) <= before)


class Forward(alone.BusTest):
    """Ports of this host that lead into a guest."""

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.call, self.agent = self.daemon.call, self.daemon.agent
        self.prepare()
        self.vm = self.make()

    def make(self, name="web", **given):
        self.call("CreateVM", "(sa{sv})", (name, options(**{"start": True, "wait": True} | given)))
        return self.call("GetVM", "(s)", (name,))[0]

    @staticmethod
    def free():
        """A port that nobody has."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]

    def add(self, forward, vm=None):
        return self.call("AddForward", "(sa{sv})", (forward, {}), path=vm or self.vm, interface="org.banger.VM")[0]

    def remove(self, forward, vm=None):
        self.call("RemoveForward", "(sa{sv})", (forward, {}), path=vm or self.vm, interface="org.banger.VM")

    def refuse(self, error, forward, member="AddForward", vm=None, **given):
        return self.refused(error, member, "(sa{sv})", (forward, {}), path=vm or self.vm, interface="org.banger.VM", **given)

    def forwards(self, vm=None):
        return self.call("Get", "(ss)", ("org.banger.VM", "Forwards"), path=vm or self.vm, interface="org.freedesktop.DBus.Properties")[0]

    def until_recorded(self, forwards, vm=None):
        until(f"{forwards} in the record", lambda: self.forwards(vm) == forwards)

    def reach(self, port, address="127.0.0.1"):
        s = socket.create_connection((address, port), timeout=60)
        self.addCleanup(s.close)
        return s

    def hears(self, port, **where):
        """Whether it leads to the guest's server."""
        try:
            s = self.reach(port, **where)
            s.sendall(b"you")
            s.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: s.recv(4096), b"")) == b"hello you"
        except OSError as error:  # how it ends depends on when: refused, reset, or "not connected" for what comes after the reset
            if isinstance(error, ConnectionError) or error.errno == errno.ENOTCONN:
                return False
            raise

    def test_there_and_gone(self):
        ear, port, other = self.ear(), self.free(), self.free()
        self.assertEqual(self.add(f"{port}:80"), f"127.0.0.1:{port}:80")
        self.assertTrue(self.hears(port))
        self.assertEqual(self.agent.connects, ["80"])
        self.add(f"[::1]:{other}:8080")
        self.assertTrue(self.hears(other, address="::1"))
        self.assertFalse(self.hears(other))
        self.until_recorded([f"127.0.0.1:{port}:80", f"[::1]:{other}:8080"])
        self.assertIn("Forwards", ear.wait("PropertiesChanged", self.vm)[2][1])
        s = self.reach(port)
        self.assertEqual(s.recv(6), b"hello ")
        self.remove(f"127.0.0.1:{port}:80")
        s.sendall(b"still")
        self.assertEqual(s.recv(6), b"still")
        self.assertFalse(self.hears(port))
        self.until_recorded([f"[::1]:{other}:8080"])
        self.call("DeleteVM", "(sa{sv})", ("web", options(force=True, wait=True)))
        self.assertEqual(s.recv(6), b"")
        self.assertFalse(self.hears(other, address="::1"))
        until("the ends in the guest", lambda: self.agent.open == 0)

    def test_life(self):
        """As long as the VM runs. (tests/e2e/test_crash.py: and bangerd starts anew; here the VM ends with it.)"""
        port = self.free()
        self.add(f"{port}:80")
        self.until_recorded([f"127.0.0.1:{port}:80"])
        before = self.reach(port)
        self.assertEqual(before.recv(6), b"hello ")
        self.daemon.stop()
        self.assertFalse(self.hears(port))
        self.assertEqual(before.recv(6), b"")
        self.daemon.start()
        self.assertEqual(self.forwards(), [f"127.0.0.1:{port}:80"])
        self.call("StartVM", "(sa{sv})", ("web", options(wait=True)))
        self.assertTrue(self.hears(port))
        self.call("StopVM", "(sa{sv})", ("web", options(wait=True)))
        self.assertFalse(self.hears(port))
        self.add(f"{self.free()}:80")
        self.call("StartVM", "(sa{sv})", ("web", options(wait=True)))
        self.assertTrue(self.hears(port))
        self.call("PauseVM", "(sa{sv})", ("web", options(wait=True)))
        self.assertFalse(self.hears(port))
        self.call("ResumeVM", "(sa{sv})", ("web", options(wait=True)))
        until("the port after a pause", lambda: self.hears(port))
        self.call("KillVM", "(sa{sv})", ("web", options(wait=True)))
        self.assertFalse(self.hears(port))

    def test_publish(self):
        port = self.free()
        db = self.make("db", publish=[f"{port}:5432"])
        self.assertEqual(self.forwards(db), [f"127.0.0.1:{port}:5432"])
        self.assertTrue(self.hears(port))
        for publish, error in (([f"{port}:1"], ERROR + "InUse"), (["x"], alone.STANDARD + "InvalidArgs"),
                               ([f"{port + 1}:1"] * 2, ERROR + "InUse"), ([f"{20000 + i}:1" for i in range(33)], LIMITS)):
            self.refused(error, "CreateVM", "(sa{sv})", ("third", options(publish=publish)))
        self.refused(ERROR + "NoSuchVM", "GetVM", "(s)", ("third",))
        self.call("StopVM", "(sa{sv})", ("db", options(wait=True)))
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port))
            taken.listen()
            self.assertRegex(self.refused(ERROR + "InUse", "StartVM", "(sa{sv})", ("db", options(wait=True))), f"port {port} of 127.0.0.1 is in use")
        self.call("StartVM", "(sa{sv})", ("db", options(wait=True)))
        self.assertTrue(self.hears(port))

    def test_refused(self):
        port = self.free()
        bad = alone.STANDARD + "InvalidArgs"
        for text in ("", "80", ":", "::", "80:", ":80", "0:80", "80:0", "65536:80", "8080:65536", "-1:80", "8080:80:", "x:8080:80", "::1:8080:80",
                     "[::1:8080:80", "[127.0.0.1]:8080:80", "localhost:8080:80", "127.1:8080:80", ":8080:80", "8080:80\n", "8080: 80", "1e3:80",
                     "192.0.2.1:8080:80", "\x1b[2J:1:1", "9" * 100000 + ":80"):
            with self.subTest(text[:20]):
                self.assertNotIn("\x1b", self.refuse(bad, text))
        self.add(f"{port}:80")
        self.refuse(ERROR + "InUse", f"{port}:80")
        self.refuse(ERROR + "InUse", f"127.0.0.1:{port}:81")
        self.refuse(bad, f"{port}:81", "RemoveForward")
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as start:
            if int(start.read()) > 80:
                self.assertRegex(self.refuse(bad, "80:80"), "choose one from 1024 on, as 8080")
        if ROOT:
            self.refuse(alone.STANDARD + "AccessDenied", f"{self.free()}:80", user=FOREIGN)
            self.refuse(alone.STANDARD + "AccessDenied", f"{port}:80", "RemoveForward", user=FOREIGN)
        self.until_recorded([f"127.0.0.1:{port}:80"])
        self.assertTrue(self.hears(port))

    def test_hostile_guest(self):
        """It lies, floods, or says nothing: a connection that ends, and a manager that answers meanwhile."""
        ports = {}
        for guest in (80, 81, 82, 83, 84, 85):
            ports[guest] = self.free()
            self.add(f"{ports[guest]}:{guest}")
        for guest in (81, 84, 85):
            s = self.reach(ports[guest])
            self.assertIn(s.recv(10) if guest != 84 else b"", (b"",))
        floods = [self.reach(ports[82]) for _ in range(8)]
        silent = [self.reach(ports[83]) for _ in range(8)]
        until("that it is held back", lambda: self.agent.sent > 8 << 16 and (before := self.agent.sent) and (time.sleep(0.5) or self.agent.sent == before))
        self.assertLess(self.agent.sent, 8 * (16 << 20))
        rss = int(open(f"/proc/{self.daemon.process.pid}/status", encoding="ascii").read().split("VmRSS:")[1].split()[0])
        self.assertLess(rss, 200 << 10)
        begun = time.monotonic()
        for _ in range(20):
            self.call("GetVM", "(s)", ("web",))
        self.assertLess(time.monotonic() - begun, 20)
        self.assertTrue(self.hears(ports[80]))
        self.call("KillVM", "(sa{sv})", ("web", options(wait=True)))
        until("their ends", lambda: sorted(self.agent.orders) == ["gone"] * 8 + ["left"] * 8)
        for s in floods + silent:
            with contextlib.suppress(ConnectionResetError):
                while s.recv(1 << 20):
                    pass
        self.assertNotIn("\x1b", self.daemon.log.read_text(encoding="utf-8"))

    def test_hostile_client(self):
        """More connections than there may be wait; all that go leave nothing."""
        fds = f"/proc/{self.daemon.process.pid}/fd"
        port = self.free()
        self.add(f"{port}:80")
        self.assertTrue(self.hears(port))
        until("an end", lambda: self.agent.open == 0)
        before = len(os.listdir(fds)) if ROOT else 0
        many = [self.reach(port) for _ in range(60)]
        until("as many as there may be", lambda: self.agent.open == 48)
        time.sleep(0.5)
        self.assertEqual(self.agent.open, 48)
        for s in many[:24]:
            s.close()
        until("those that waited", lambda: len(self.agent.connects) == 61)
        for s in many:
            s.close()
        until("the end of all", lambda: self.agent.open == 0)
        for _ in range(200):
            s = self.reach(port)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()
        self.assertTrue(self.hears(port))
        if ROOT:
            until("their descriptors", lambda: len(os.listdir(fds)) <= before)


if __name__ == "__main__":
    harness.main()
