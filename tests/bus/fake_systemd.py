"""Plays systemd's manager for scopes: org.freedesktop.systemd1(5), StartTransientUnit with real cgroups.

Usage: fake_systemd.py FOLDER CGROUP2. FOLDER/behave says how: ok, slow, refuse, fail, stuck, lie, silent, exists, stays,
drags, stale, shout, howl, mumble; each request is a line of FOLDER/asked, each unit that is to be stopped one of FOLDER/stopped. Empty scopes
go by themselves.
Never touches a cgroup outside CGROUP2/banger.slice.
"""

import contextlib
import json
import os
import pathlib
import sys
import time

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
XML = """<node><interface name="org.freedesktop.systemd1.Manager">
<method name="Subscribe"/>
<method name="StartTransientUnit"><arg type="s" direction="in"/><arg type="s" direction="in"/>
<arg type="a(sv)" direction="in"/><arg type="a(sa(sv))" direction="in"/><arg type="o" direction="out"/></method>
<method name="StopUnit"><arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="o" direction="out"/></method>
<signal name="JobRemoved"><arg type="u"/><arg type="o"/><arg type="s"/><arg type="s"/></signal>
<signal name="UnitRemoved"><arg type="s"/><arg type="o"/></signal>
</interface></node>"""
FOLDER, CGROUP = map(pathlib.Path, sys.argv[1:])
LOUD = "\x1b[2J%s%n\n" * 100000
jobs = 0
exists = 0
going = False  # an earlier unit will end, and has not yet


def unit_removed(bus, unit):
    bus.emit_signal(None, PATH, NAME + ".Manager", "UnitRemoved", GLib.Variant("(so)", (unit, f"{PATH}/unit/x")))


def end_earlier(bus, unit):
    global going
    going = False
    unit_removed(bus, unit)
    return False


def job_removed(bus, number, unit, result):
    bus.emit_signal(None, PATH, NAME + ".Manager", "JobRemoved",
                    GLib.Variant("(uoss)", (number, f"{PATH}/job/{number}", unit, result)))
    return False


def descriptors(pid):
    """Number -> what it is; the process may still be closing some."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[number] = os.readlink(f"/proc/{pid}/fd/{number}")
    return found


def start(bus, invocation, unit, mode, properties):
    """StartTransientUnit as FOLDER/behave says."""
    global jobs, exists, going
    how = (FOLDER / "behave").read_text()
    if how == "exists":
        exists += 1
        if going:
            how = "hasty"
        elif exists > 2:
            exists, how = 0, "ok"
    pid = properties["PIDs"][0]
    with open(FOLDER / "asked", "a", encoding="utf-8") as f:
        f.write(json.dumps({"unit": unit, "mode": mode, "pid": pid, "properties": properties, "behave": how,
                            "exe": os.path.basename(os.readlink(f"/proc/{pid}/exe")),
                            "fds": descriptors(pid)}) + "\n")
    if how == "silent":
        return
    if how == "shout":
        invocation.return_dbus_error(f"{NAME}.LimitsExceeded", LOUD)
        return
    if how == "mumble":
        reply = Gio.DBusMessage.new_method_reply(invocation.get_message())
        reply.set_body(GLib.Variant("(s)", (LOUD,)))
        bus.send_message(reply, Gio.DBusSendMessageFlags.NONE)
        return
    if how == "slow":
        time.sleep(0.5)
        how = "ok"
    if how == "drags":  # there is always a question on its way
        time.sleep(0.5)
    if how in ("refuse", "exists", "hasty", "stays", "drags"):
        name = "LimitsExceeded" if how == "refuse" else "UnitExists"
        invocation.return_dbus_error(f"{NAME}.{name}", f"{unit} is not to be")
        if how == "exists":
            going = True
            unit_removed(bus, "banger-vm-other.scope")
            GLib.timeout_add(100, end_earlier, bus, unit)
        elif how == "drags":
            unit_removed(bus, unit)
        return
    jobs += 1
    number = jobs * 10
    invocation.return_value(GLib.Variant("(o)", (f"{PATH}/job/{number}",)))
    if how == "stale":  # the end of a job of the scope's predecessor
        job_removed(bus, number + 1, unit, "canceled")
    if how in ("ok", "exists", "stale"):
        folder = CGROUP / properties["Slice"] / unit
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text(str(pid))
    if how == "stuck":  # it failed, and its cgroup does not go
        (CGROUP / properties["Slice"] / unit / "stuck").mkdir(parents=True)
    job_removed(bus, number, unit, {"fail": "failed", "stuck": "failed", "howl": LOUD}.get(how, "done"))


def on_call(bus, sender, path, interface, method, arguments, invocation):
    if method == "Subscribe":
        invocation.return_value(None)
        return
    if method == "StopUnit":
        with open(FOLDER / "stopped", "a", encoding="utf-8") as f:
            f.write(arguments.unpack()[0] + "\n")
        invocation.return_value(GLib.Variant("(o)", (f"{PATH}/job/1",)))
        return
    unit, mode, properties, _ = arguments.unpack()
    start(bus, invocation, unit, mode, dict(properties))


def remove_empty():
    for events in (CGROUP / "banger.slice").glob("*.scope/cgroup.events"):
        if "populated 0" in events.read_text():
            with contextlib.suppress(OSError):
                events.parent.rmdir()
    return True


def main():
    bus = Gio.bus_get_sync(Gio.BusType.SYSTEM, None)
    bus.register_object(PATH, Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0], on_call, None, None)
    Gio.bus_own_name_on_connection(bus, NAME, Gio.BusNameOwnerFlags.NONE, None, None)
    GLib.timeout_add(20, remove_empty)
    GLib.MainLoop().run()


main()
