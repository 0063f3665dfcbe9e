"""D-Bus calls as whoever runs this, each by a connection of its own.

Used by harness.py: as a module, and as the text of a child with another uid that cannot read the checkout.
Never starts a service: NO_AUTO_START.
"""

import base64
import json
import sys
import traceback

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

# gi makes what it has when it is first asked for; threads that do so at once may find half of it.
CONNECT, REMOTE_ERROR = Gio.DBusConnection.new_for_address_sync, Gio.DBusError.get_remote_error


def packed(variant):
    """A GVariant's bytes as text: as words they take seconds."""
    return base64.b64encode(variant.get_data_as_bytes().get_data() or b"").decode()


def unpacked(signature, text):
    return GLib.Variant.new_from_bytes(GLib.VariantType(signature), GLib.Bytes.new(base64.b64decode(text)), False)


def call(request):
    """@request: address, target (name, path, interface), method, signature and body as packed() has it, timeout in s,
    interactive. Returns {type, data, fds} or {error, message}."""
    connection = CONNECT(
        request["address"],
        Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
    connection.set_exit_on_close(False)
    flags = Gio.DBusCallFlags.NO_AUTO_START
    if request["interactive"]:
        flags |= Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION
    body = unpacked(request["signature"], request["body"])
    try:
        reply, fds = connection.call_with_unix_fd_list_sync(
            *request["target"], request["method"], body, None, flags, int(request["timeout"] * 1000), None, None)
        return {"type": reply.get_type_string(), "data": packed(reply), "fds": fds.get_length() if fds else 0}
    except GLib.Error as error:
        name = REMOTE_ERROR(error)
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
