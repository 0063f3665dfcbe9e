"""Asks bangerd for GetManagedObjects every 100 ms, and the bus for its id: how long the worst of each took, and for how long
of that bangerd's main loop worked, with whatever: on a machine that does other things that alone tells of bangerd.

Started by parts.py with the address of a session bus and bangerd's pid; ends with standard input, prints one line of JSON.
Never asserts a time: who reads the line compares them.
"""

import json
import select
import sys
import time

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

PAUSE = 0.1
OBJECTS = ("org.banger.Manager", "/org/banger/Manager", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
FLOOR = ("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId")


def worked(pid):
    """Milliseconds of the processor that the main thread of a process has had; none once it has ended."""
    try:
        with open(f"/proc/{pid}/task/{pid}/schedstat", encoding="ascii") as stat:
            return int(stat.read().split()[0]) / 1e6
    except OSError:
        return 0


def timed(bus, call):
    """Milliseconds that @call took, and whether it was answered."""
    since = time.monotonic()
    try:
        bus.call_sync(*call, None, None, 0, 60000, None)
        good = True
    except GLib.Error:
        good = False
    return (time.monotonic() - since) * 1000, good


def main():
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    bus = Gio.DBusConnection.new_for_address_sync(sys.argv[1], flags, None, None)
    bus.set_exit_on_close(False)
    answers, floors, works, lost = [], [], [], 0
    while not select.select([sys.stdin], [], [], PAUSE)[0] and not bus.is_closed():
        before = worked(sys.argv[2])
        took, good = timed(bus, OBJECTS)
        works.append(worked(sys.argv[2]) - before)
        floors.append(timed(bus, FLOOR)[0])
        answers.append(took)
        lost += not good
    print(json.dumps({"answers": len(answers), "worst": max(answers, default=0), "work": max(works, default=0), "floor": max(floors, default=0),
                      "lost": lost, "slow": sum(a > 100 for a in answers), "slow floors": sum(f > 100 for f in floors)}))


main()
