"""A client of the system bus that sends calls without waiting for answers, as whoever runs this.

Used by test_attacks.py as the text of a child with another uid. Reads its orders from standard input as JSON.
Never ends by itself: its standard input is closed when it shall stop.
"""

import array
import json
import os
import select
import socket
import sys

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402


def connect(path):
    """A socket on the bus at @path, past the greeting."""
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
    for wanted, answer in ((b"OK", b"NEGOTIATE_UNIX_FD\r\n"), (b"AGREE", b"BEGIN\r\n")):
        if not s.recv(200).startswith(wanted):
            raise SystemExit("the bus refuses the connection")
        s.sendall(answer)
    s.sendall(message(("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"), "Hello", "()", "()"))
    s.recv(4096)
    return s


def message(target, method, signature, body, reply=True, fds=0):
    """The bytes of a method call."""
    m = Gio.DBusMessage.new_method_call(*target, method)
    m.set_serial(7)
    if not reply:
        m.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED | Gio.DBusMessageFlags.NO_AUTO_START)
    if signature != "()":
        m.set_body(GLib.Variant.parse(GLib.VariantType(signature), body, None, None))
    if fds:
        m.set_unix_fd_list(Gio.UnixFDList.new_from_array([os.dup(0) for _ in range(fds)]))
    return m.to_blob(Gio.DBusCapabilityFlags.UNIX_FD_PASSING)


def send(s, blob, fds):
    """All of @blob, with @fds descriptors at its first byte. False if the bus has hung up."""
    try:
        if fds:
            rights = array.array("i", [0] * fds)
            n = s.sendmsg([blob], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            blob = blob[n:]
        s.sendall(blob)
    except OSError:
        return False
    return True


def answer(order):
    """Replies that nobody asked for, as if polkit said yes."""
    s = connect(order["path"])
    for serial in range(1, order["serials"]):
        m = Gio.DBusMessage()
        m.set_message_type(Gio.DBusMessageType.METHOD_RETURN)
        m.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
        m.set_serial(serial)
        m.set_reply_serial(serial)
        m.set_destination(order["answer"])
        m.set_body(GLib.Variant("((bba{ss}))", ((True, False, {}),)))
        if not send(s, m.to_blob(Gio.DBusCapabilityFlags.NONE), 0):
            raise SystemExit("the bus hung up")


def main():
    order = json.loads(sys.stdin.readline())
    if "answer" in order:
        answer(order)
        return
    blob = message(order["target"], order["method"], order["signature"], order["body"], False, order["fds"])
    if not order["fds"]:
        blob *= 200
    sockets = [connect(order["path"]) for _ in range(order["connections"])]
    print("ready", flush=True)
    sent = 0
    while sent == 0 or (sent < order.get("most", sys.maxsize) and not select.select([0], [], [], 0)[0]):
        for i, s in enumerate(sockets):
            if send(s, blob, order["fds"]):
                sent += 1 if order["fds"] else 200
            else:
                s.close()
                sockets[i] = connect(order["path"])
    sys.stdin.read()
    print(sent, flush=True)


main()
