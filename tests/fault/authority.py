"""polkit's part that does what the list of faults says of a verb: yes, no, late, never, an error.

Started by parts.py with polkit's name on a test's own bus; FILE is the list, see parts.py.
Never says yes to anyone but root and the owner.
"""

import os
import sys

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME = "org.freedesktop.PolicyKit1"
XML = """<node><interface name="org.freedesktop.PolicyKit1.Authority">
  <method name="CheckAuthorization"><arg type="(sa{sv})" direction="in"/><arg type="s" direction="in"/>
    <arg type="a{ss}" direction="in"/><arg type="u" direction="in"/><arg type="s" direction="in"/>
    <arg type="(bba{ss})" direction="out"/></method>
  <method name="CancelCheckAuthorization"><arg type="s" direction="in"/></method>
</interface></node>"""
LOOK_MSEC = 20


def how_of(path, vm, verb):
    """The last fitting line; one of this VM goes before one of all."""
    found = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            words = line.split()
            if len(words) >= 3 and words[0] in (vm, "*") and words[1] in ("polkit." + verb, "polkit.*"):
                found[words[0]] = words[2]
    return found.get(vm, found.get("*", "ok"))


class Authority:
    def __init__(self, address, path, owner):
        self.path = path
        self.allowed = {0, owner}
        self.bus = Gio.DBusConnection.new_for_address_sync(
            address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION,
            None, None)
        self.bus.register_object("/org/freedesktop/PolicyKit1/Authority",
                                 Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0], self.on_call, None, None)
        Gio.bus_own_name_on_connection(self.bus, NAME, Gio.BusNameOwnerFlags.NONE, None, lambda *_: os._exit(1))

    def on_call(self, _bus, _sender, _path, _interface, method, parameters, invocation):
        if method == "CancelCheckAuthorization":
            invocation.return_value(None)
            return
        (_, subject), _, details, _, _ = parameters.unpack()
        how = how_of(self.path, details.get("vm", "-"), details["verb"])
        if how.startswith("slow:"):
            GLib.timeout_add(int(how[5:]), self.answer, subject["name"], "ok", invocation)
        elif how == "silent":
            GLib.timeout_add(LOOK_MSEC, self.look, subject["name"], details, invocation)
        else:
            self.answer(subject["name"], how, invocation)

    def look(self, name, details, invocation):
        how = how_of(self.path, details.get("vm", "-"), details["verb"])
        if how == "silent":
            return True
        return self.answer(name, how, invocation)

    def answer(self, name, how, invocation):
        """@how: ok, no, fail."""
        if how == "fail":
            invocation.return_dbus_error("org.freedesktop.PolicyKit1.Error.Failed", "as it was told")
            return False
        try:
            uid = self.bus.call_sync("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetConnectionUnixUser",
                                     GLib.Variant("(s)", (name,)), None, 0, 5000, None).unpack()[0]
        except GLib.Error:
            uid = None  # it has left
        yes = how != "no" and uid in self.allowed
        invocation.return_value(GLib.Variant("((bba{ss}))", ((yes, False, {}),)))
        return False


if __name__ == "__main__":
    Authority(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    GLib.MainLoop().run()
