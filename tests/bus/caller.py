"""D-Bus calls as whoever runs this, each by a connection of its own.

Used by harness.py: as a module, and as the text of a child with another uid that cannot read the checkout.
Never starts a service: NO_AUTO_START.
"""

import json
import sys
import traceback

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402


def call(request):
    """@request: address, target (name, path, interface), method, signature and body as GVariant text, timeout in s,
    interactive. Returns {type, text, fds} or {error, message}."""
    connection = Gio.DBusConnection.new_for_address_sync(
        request["address"],
        Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
    connection.set_exit_on_close(False)
    flags = Gio.DBusCallFlags.NO_AUTO_START
    if request["interactive"]:
        flags |= Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION
    body = GLib.Variant.parse(GLib.VariantType(request["signature"]), request["body"], None, None)
    try:
        reply, fds = connection.call_with_unix_fd_list_sync(
            *request["target"], request["method"], body, None, flags, int(request["timeout"] * 1000), None, None)
        return {"type": reply.get_type_string(), "text": reply.print_(True), "fds": fds.get_length() if fds else 0}
    except GLib.Error as error:
        name = Gio.DBusError.get_remote_error(error)
        message = error.message.removeprefix(f"GDBus.Error:{name}: ")
        return {"error": name or f"local.{error.domain}", "message": message}
    finally:
        if not connection.is_closed():
            connection.close_sync(None)


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            said = call(json.loads(line))
        except Exception:  # the bus may refuse the connection itself
            said = {"error": "local.caller", "message": traceback.format_exc()}
        print(json.dumps(said), flush=True)
