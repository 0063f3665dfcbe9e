"""An authority that answers wrongly or not at all.

Used by test_attacks.py as the text of a child with polkit's uid. Each line of standard input is the way to answer from
then on, and printed as "mode WAY" once it is; "ready" is printed once the name is held, and each question as JSON.
Never says yes in time: "late" does when the question was withdrawn, "twice" after a no.
"""

import functools
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
held = []  # questions that are answered when they are withdrawn


def reply(invocation, value, error=False):
    """@value: a GVariant of any type, or the message of an error."""
    question = invocation.get_message()
    message = (Gio.DBusMessage.new_method_error_literal(question, "org.freedesktop.PolicyKit1.Error.Failed", value)
               if error else Gio.DBusMessage.new_method_reply(question))
    if not error:
        message.set_body(value)
    invocation.get_connection().send_message(message, Gio.DBusSendMessageFlags.NONE)


def result(yes, challenge=False, details=None):
    return GLib.Variant("((bba{ss}))", ((yes, challenge, details or {}),))


ANSWERS = {
    "deny": lambda: result(False),
    "challenge": lambda: result(False, True),
    "garbage": lambda: GLib.Variant("(s)", ("yes",)),
    "empty": lambda: GLib.Variant("()", ()),
    "naked": lambda: GLib.Variant("(bb)", (True, True)),
    "numbers": lambda: GLib.Variant("((uua{ss}))", ((1, 1, {}),)),
    "many-details": lambda: result(False, False, {f"polkit.{i}": "x" for i in range(100000)}),
    "huge-detail": lambda: result(True, False, {"polkit.retains_authorization_after_challenge": "x" * (31 << 20)}),
    "huge-garbage": lambda: GLib.Variant("(s)", ("x" * (31 << 20),)),
}
ERRORS = {"error": "no\n%s%n", "huge-error": "\x1b" * (31 << 20)}


@functools.cache
def made(way):
    """A hundred thousand words take their time."""
    return ANSWERS[way]()


def on_call(_connection, _sender, _path, _interface, method, parameters, invocation):
    if method == "CancelCheckAuthorization":
        while held:
            reply(held.pop(), result(True))
        print("cancelled", flush=True)
        invocation.return_value(None)
        return
    (kind, subject), action, details, flags, _ = parameters.unpack()
    asked = {"kind": kind, "subject": subject, "action": action, "details": details, "flags": flags}
    print(json.dumps(asked), flush=True)
    if mode in ANSWERS:
        reply(invocation, made(mode))
    elif mode in ERRORS:
        reply(invocation, ERRORS[mode], error=True)
    elif mode == "twice":
        reply(invocation, result(False))
        reply(invocation, result(True))
    elif mode == "late":
        held.append(invocation)
    elif mode == "die":
        os._exit(0)


def read_modes():
    global mode
    for line in sys.stdin:
        mode = line.strip()
        sys.stdout.write(f"mode {mode}\n")
        sys.stdout.flush()
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
