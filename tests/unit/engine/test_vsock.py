#!/usr/bin/python3
"""The vsock socket over the serial port: CONNECT, OK only when the guest has accepted, a stream for each client.

Usage: test_vsock.py VMM
"""

import os
import socket
import time

import tap

(VMM,) = tap.arguments(1)


class Client:
    """One connection to the vsock socket."""

    def __init__(self, vmm, text=b"CONNECT 1024\n"):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(vmm.vsock)
        self.socket.sendall(text)

    def line(self):
        data = b""
        while not data.endswith(b"\n"):
            piece = self.socket.recv(1)
            if not piece:
                return data
            data += piece
        return data

    def silent(self, seconds=0.4):
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(100)
        except TimeoutError:
            return None
        finally:
            self.socket.settimeout(60)

    def ask(self, text):
        self.socket.sendall(text)
        return self.line()


class Serial(tap.VmmCase):
    binary = VMM

    def started(self, **behaviour):
        vmm = self.vmm()
        vmm.ok("PUT", "/boot-source", {"kernel_image_path": vmm.kernel(**behaviour)})
        vmm.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": vmm.vsock})
        self.early = Client(vmm)
        vmm.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        return vmm

    def client(self, *args):
        client = Client(*args)
        self.addCleanup(client.socket.close)
        return client

    def test_stream(self):
        vmm = self.started(agent="echo")
        self.assertEqual(self.early.line(), b"OK 1024\n")
        self.assertEqual(self.early.ask(b"hello\n"), b"hello\n")
        vmm.close()
        self.assertEqual(self.early.socket.recv(10), b"")

    def test_bytes_behind_the_command_belong_to_the_stream(self):
        vmm = self.started(agent="echo")
        self.early.socket.close()
        client = self.client(vmm, b"CONNECT 1024\nfirst\n")
        self.assertEqual((client.line(), client.line()), (b"OK 1024\n", b"first\n"))

    def test_ok_waits_for_the_guest(self):
        begun = time.monotonic()
        self.started(agent="echo", open_after=1)
        self.assertIsNone(self.early.silent())
        self.assertEqual(self.early.line(), b"OK 1024\n")
        self.assertGreater(time.monotonic() - begun, 0.9)

    def test_no_ok_without_a_guest(self):
        self.started()
        self.assertIsNone(self.early.silent())

    def test_many_at_once(self):
        vmm = self.started(agent="echo")
        self.assertEqual(self.early.line(), b"OK 1024\n")
        clients = [self.client(vmm) for _ in range(20)]
        for number, client in enumerate(clients):
            self.assertEqual(client.line(), b"OK 1024\n")
            client.socket.sendall(b"%d\n" % number)
        for number, client in enumerate(clients):
            self.assertEqual(client.line(), b"%d\n" % number)
        for client in clients[::2]:
            client.socket.close()
        self.assertEqual(clients[1].ask(b"still\n"), b"still\n")
        self.assertEqual(self.early.ask(b"mine\n"), b"mine\n")

    def test_one_that_does_not_read(self):
        """What the guest says to it is held up to a bound, and nobody else waits."""
        vmm = self.started(agent="echo")
        stuck = self.client(vmm)
        self.assertEqual(stuck.line(), b"OK 1024\n")
        stuck.socket.setblocking(False)
        sent, idle = 0, 0
        while idle < 20:
            try:
                sent, idle = sent + stuck.socket.send(b"x" * 65536), 0
            except BlockingIOError:
                idle += 1
                time.sleep(0.01)
        self.assertLess(sent, 2 << 20)
        other = self.client(vmm)
        self.assertEqual((other.line(), other.ask(b"hello\n")), (b"OK 1024\n", b"hello\n"))

    def test_more_than_there_are_streams(self):
        vmm = self.started(agent="echo")
        self.assertEqual(self.early.line(), b"OK 1024\n")
        clients = []
        for _ in range(255):
            clients.append(self.client(vmm))
            self.assertEqual(clients[-1].line(), b"OK 1024\n")
        self.assertEqual(self.client(vmm).line(), b"")
        clients.pop().socket.close()
        vmm.await_(lambda: self.client(vmm).line() == b"OK 1024\n", "free stream")

    def test_a_guest_that_lies(self):
        """All streams end, and there are new ones."""
        vmm = self.started(agent="echo")
        other = self.client(vmm)
        self.assertEqual((self.early.line(), other.line()), (b"OK 1024\n", b"OK 1024\n"))
        self.early.socket.sendall(b"lie\n")
        self.assertEqual((self.early.socket.recv(10), other.socket.recv(10)), (b"", b""))
        client = self.client(vmm)
        self.assertEqual((client.line(), client.ask(b"again\n")), (b"OK 1024\n", b"again\n"))

    def test_the_guest_closes(self):
        vmm = self.started(agent="echo")
        self.assertEqual(self.early.line(), b"OK 1024\n")
        self.early.socket.sendall(b"close-port\n")
        self.assertEqual(self.early.socket.recv(10), b"")
        self.assertIsNone(self.client(vmm).silent())

    def test_refused(self):
        vmm = self.started(agent="echo")
        for text in (b"CONNECT 22\n", b"CONNECT 0\n", b"CONNECT -1\n", b"CONNECT 4294967296\n", b"CONNECT\n", b"GET /\n",
                     b"CONNECT 1024 x\n", b"x" * 100, b"\n"):
            with self.subTest(text=text):
                client = self.client(vmm, text)
                try:
                    self.assertEqual(client.socket.recv(10), b"")
                except ConnectionResetError:
                    pass

    def test_much_data(self):
        vmm = self.started(agent="echo")
        self.assertEqual(self.early.line(), b"OK 1024\n")
        sent = bytes(range(1, 256)) * 40000
        got = bytearray()
        self.early.socket.setblocking(False)
        view, end = memoryview(sent), time.monotonic() + 60
        while len(got) < len(sent) and time.monotonic() < end:
            try:
                view = view[self.early.socket.send(view[:65536]):] if view else view
            except BlockingIOError:
                pass
            try:
                got += self.early.socket.recv(1 << 20)
            except BlockingIOError:
                time.sleep(0.001)
        self.assertEqual(bytes(got), sent)

    def test_guest_end_while_connected(self):
        vmm = self.started(agent="echo")
        self.assertEqual(self.early.line(), b"OK 1024\n")
        self.early.socket.sendall(b"end-guest\n")
        self.assertEqual(vmm.wait(), 0)
        self.assertEqual(self.early.socket.recv(10), b"")
        self.assertFalse(os.path.exists(vmm.vsock))

    def test_qemu_crash_while_connected(self):
        vmm = self.started(agent="echo")
        self.assertEqual(self.early.line(), b"OK 1024\n")
        self.early.socket.sendall(b"crash\n")
        self.assertEqual(vmm.wait(), 1)


if __name__ == "__main__":
    tap.main()
