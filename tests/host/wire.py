"""Calls of a bus in the test host without a program for each: busctl's start costs a second under emulation.

Used by scenarios. Never interprets an answer: that it is one, and no error, is all that is told.
"""

import base64
import json

from gi.repository import Gio, GLib

BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
MANAGER = ("org.banger.Manager", "/org/banger/Manager", "org.banger.Manager")
OBJECTS = (*MANAGER[:2], "org.freedesktop.DBus.ObjectManager")
HELPER = ("org.banger.Privileged", "/org/banger/Privileged", "org.banger.Privileged")

# For python3 in the host: ask (BUS, CALL) says Hello on a connection of its own, sends a call and returns when it is
# answered. Only answers are of the types 2 (return) and 3 (error), and the first is Hello's.
CLIENT = r'''
import base64, os, socket, struct

PATHS = {"system": "/run/dbus/system_bus_socket", "user": f"/run/user/{os.getuid()}/bus"}

def take(s, count):
    data = b""
    while len(data) < count:
        piece = s.recv(count - len(data))
        if not piece:
            raise OSError("the bus hung up")
        data += piece
    return data

def answer(s):
    while True:
        head = take(s, 16)
        body, serial, fields = struct.unpack("<III", head[4:16])
        rest = take(s, (fields + 7) // 8 * 8 + body)
        if head[1] == 3:
            raise OSError(rest.decode(errors="replace"))
        if head[1] == 2:
            return

def ask(bus, call, timeout=200):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(timeout)
        s.connect(PATHS[bus])
        s.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        line = b""
        while not line.endswith(b"\r\n"):
            line += take(s, 1)
        if not line.startswith(b"OK"):
            raise OSError(line)
        s.sendall(b"BEGIN\r\n" + base64.b64decode(HELLO))
        answer(s)
        s.sendall(base64.b64decode(call))
        answer(s)

'''


def message(serial, target, method, body=None):
    """As it goes over the wire."""
    call = Gio.DBusMessage.new_method_call(*target, method)
    call.set_serial(serial)
    if body:
        call.set_body(body)
    return call.to_blob(Gio.DBusCapabilityFlags.NONE)


def program(calls, script):
    """For python3 in the host: @script has ask(), and @calls {name: (bus, target, method, body)} as CALLS[name], its words."""
    words = {name: (bus, base64.b64encode(message(2, target, method, body)).decode()) for name, (bus, target, method, body) in calls.items()}
    hello = base64.b64encode(message(1, BUS, "Hello")).decode()
    return f"{CLIENT}HELLO = {hello!r}\nCALLS = {json.dumps(words)}\n{script}"


def variant(kind, *values):
    return GLib.Variant(kind, tuple(values))
