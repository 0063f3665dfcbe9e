#!/usr/bin/python3
"""The vsock socket over the serial port: CONNECT, OK only when the guest listens, one client at a time.

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
        self.socket.settimeout(20)
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
            self.socket.settimeout(20)

    def ask(self, text):
        self.socket.sendall(text)
        return self.line()


class Serial(tap.VmmCase):
    binary = VMM

    def started(self, **behaviour):
        if os.path.exists("/dev/vhost-vsock"):
            self.skipTest("this host has vhost-vsock, the serial port is not used")
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
        self.assertEqual(self.early.ask(b"hello\n"), b"echo:hello\n")
        vmm.close()
        self.assertEqual(self.early.socket.recv(10), b"")

    def test_bytes_behind_the_command_belong_to_the_stream(self):
        vmm = self.started(agent="echo")
        self.early.socket.close()
        client = self.client(vmm, b"CONNECT 1024\nfirst\n")
        self.assertEqual((client.line(), client.line()), (b"OK 1024\n", b"echo:first\n"))

    def test_ok_waits_for_the_guest(self):
        begun = time.monotonic()
        self.started(agent="echo", open_after=1)
        self.assertIsNone(self.early.silent())
        self.assertEqual(self.early.line(), b"OK 1024\n")
        self.assertGreater(time.monotonic() - begun, 0.9)

    def test_no_ok_without_a_guest(self):
        self.started()
        self.assertIsNone(self.early.silent())

    def test_one_at_a_time(self):
        vmm = self.started(agent="echo")
        self.assertEqual(self.early.line(), b"OK 1024\n")
        second, third = self.client(vmm), self.client(vmm)
        self.assertIsNone(second.silent())
        self.assertEqual(self.early.ask(b"still\n"), b"echo:still\n")
        self.early.socket.close()
        self.assertEqual(second.line(), b"OK 1024\n")
        self.assertEqual(second.ask(b"mine\n"), b"echo:mine\n")
        self.assertIsNone(third.silent())
        second.socket.close()
        self.assertEqual(third.line(), b"OK 1024\n")

    def test_a_dead_one_does_not_keep_its_place(self):
        vmm = self.started(agent="echo")
        self.assertEqual(self.early.line(), b"OK 1024\n")
        gone, next_ = self.client(vmm), self.client(vmm)
        gone.socket.close()
        self.early.socket.close()
        self.assertEqual(next_.line(), b"OK 1024\n")

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
        view, end = memoryview(sent), time.monotonic() + 30
        while len(got.replace(b"echo:", b"")) < len(sent) and time.monotonic() < end:
            try:
                view = view[self.early.socket.send(view[:65536]):] if view else view
            except BlockingIOError:
                pass
            try:
                got += self.early.socket.recv(1 << 20)
            except BlockingIOError:
                time.sleep(0.001)
        self.assertEqual(bytes(got.replace(b"echo:", b"")), sent)

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
