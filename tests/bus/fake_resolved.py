"""Plays systemd-resolved on the system bus, with the methods of resolve1.xml, whose types Gio checks.

Usage: fake_resolved.py FOLDER. FOLDER/behave says how, as JSON: method -> "busy", "refuse" or "silent"; each call is a
line of FOLDER/asked.
Never touches the host's resolver.
"""

import json
import pathlib
import sys

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME = "org.freedesktop.resolve1"
PATH = "/org/freedesktop/resolve1"
XML = (pathlib.Path(__file__).parent / "resolve1.xml").read_text(encoding="utf-8")
FOLDER = pathlib.Path(sys.argv[1])


def on_call(bus, sender, path, interface, method, arguments, invocation):
    how = json.loads((FOLDER / "behave").read_text(encoding="utf-8")).get(method)
    with open(FOLDER / "asked", "a", encoding="utf-8") as f:
        f.write(json.dumps([method, *arguments.unpack()]) + "\n")
    if how == "silent":
        return
    if how == "busy":
        invocation.return_dbus_error(f"{NAME}.LinkBusy", "the link is managed")
    elif how == "refuse":
        invocation.return_dbus_error("org.freedesktop.DBus.Error.AccessDenied", "no\n\x1b[2J%s%n" + "x" * (1 << 20))
    else:
        invocation.return_value(None)


def main():
    bus = Gio.bus_get_sync(Gio.BusType.SYSTEM, None)
    bus.register_object(PATH, Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0], on_call, None, None)
    Gio.bus_own_name_on_connection(bus, NAME, Gio.BusNameOwnerFlags.NONE, None, None)
    GLib.MainLoop().run()


main()
