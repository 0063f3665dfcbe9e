"""An authority that answers wrongly or not at all.

Used by test_attacks.py as the text of a child with polkit's uid. Each line of standard input is the way to answer from
then on; "ready" is printed once the name is held, and each question as JSON.
Never says yes.
"""

import json
import os
import sys
import threading

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

mode = "hang"


def on_call(_connection, _sender, _path, _interface, method, parameters, invocation):
    if method == "CancelCheckAuthorization":
        print("cancelled", flush=True)
        invocation.return_value(None)
        return
    (kind, subject), action, details, flags, _ = parameters.unpack()
    asked = {"kind": kind, "subject": subject, "action": action, "details": details, "flags": flags}
    print(json.dumps(asked), flush=True)
    if mode == "deny":
        invocation.return_value(GLib.Variant("((bba{ss}))", ((False, False, {}),)))
    elif mode == "challenge":
        invocation.return_value(GLib.Variant("((bba{ss}))", ((False, True, {}),)))
    elif mode == "error":
        invocation.return_dbus_error("org.freedesktop.PolicyKit1.Error.Failed", "no\n%s%n")
    elif mode in ("garbage", "empty", "naked"):
        value = {"garbage": GLib.Variant("(s)", ("yes",)), "empty": GLib.Variant("()", ()),
                 "naked": GLib.Variant("(bb)", (True, True))}[mode]
        reply = Gio.DBusMessage.new_method_reply(invocation.get_message())
        reply.set_body(value)
        invocation.get_connection().send_message(reply, Gio.DBusSendMessageFlags.NONE)
    elif mode == "die":
        os._exit(0)


def read_modes():
    global mode
    for line in sys.stdin:
        mode = line.strip()
    os._exit(0)


def main():
    connection = Gio.DBusConnection.new_for_address_sync(
        sys.stdin.readline().strip(),
        Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
    connection.register_object("/org/freedesktop/PolicyKit1/Authority",
                               Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0], on_call, None, None)
    Gio.bus_own_name_on_connection(connection, NAME, Gio.BusNameOwnerFlags.NONE,
                                   lambda *_: print("ready", flush=True), lambda *_: os._exit(1))
    threading.Thread(target=read_modes, daemon=True).start()
    GLib.MainLoop().run()


main()
