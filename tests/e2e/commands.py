"""Commands in a guest over one connection to the bus, and what the programs between take meanwhile.

Used by test_exec.py, bench/instant and bench/commands.
Never starts a process on the host: what it measures is not its own.
"""

import os
import re

import harness
from gi.repository import Gio, GLib

KIB = 1 << 10
REMOTE_ERROR = Gio.DBusError.get_remote_error  # gi makes what it has when it is first asked for: not by several threads at once


class Commands:
    """@stack: one with a manager. @name: a VM that runs."""

    def __init__(self, stack, name):
        self.stack, self.name = stack, name
        self.bus = Gio.DBusConnection.new_for_address_sync(
            stack.session_address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
        self.bus.set_exit_on_close(False)

    def close(self):
        self.bus.close_sync(None)

    def capture(self, *words, seconds=120):
        """Its stdout, stderr and exit status, or CallError."""
        try:
            reply = self.bus.call_sync(*harness.MANAGER, "CaptureVM", GLib.Variant("(sasa{sv})", (self.name, words, {})),
                                       GLib.VariantType("(ayayi)"), Gio.DBusCallFlags.NONE, seconds * 1000, None)
        except GLib.Error as error:
            name = REMOTE_ERROR(error)
            raise harness.CallError(name or f"local.{error.domain}", error.message.removeprefix(f"GDBus.Error:{name}: ")) from None
        out, err = (reply.get_child_value(i).get_data_as_bytes().get_data() or b"" for i in range(2))
        return out, err, reply.get_child_value(2).get_int32()

    def exec(self, *words, **options):
        """Its streams, as files."""
        reply, fds = self.bus.call_with_unix_fd_list_sync(
            *harness.MANAGER, "ExecVM", GLib.Variant("(sasa{sv})", (self.name, words, harness.options(**options))),
            GLib.VariantType("(hhho)"), Gio.DBusCallFlags.NONE, 120000, None, None)
        return [os.fdopen(fds.get(handle), "r+b", 0) for handle in reply.unpack()[:3]]


def status(pid, field):
    """KiB of a process's memory: VmRSS, or VmHWM, its most since forget_most()."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(rf"^{field}:\s+(\d+)", file.read(), re.M)[1])


def forget_most(pid):
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


class Programs:
    """Those that a command's bytes go through: the manager, the VMM, the guest's agent. QEMU's memory is its guest's."""

    AGENT = """for p in $(pgrep -f ^@banger-guest); do grep -q banger-session /proc/$p/comm && continue
        echo $p $(sed -n 's/^VmRSS:[^0-9]*//p' /proc/$p/status) $(ls /proc/$p/fd | wc -l); done"""

    def __init__(self, commands, vmm):
        self.commands = commands
        self.host = {"bangerd": commands.stack.pid("manager"), "banger-vmm-qemu": vmm}
        with open(f"/proc/{vmm}/task/{vmm}/children", encoding="ascii") as file:
            self.qemu = [int(pid) for pid in file.read().split()]

    def sizes(self):
        """(name, KiB or None, descriptors) of each; the agent's as it says, itself looking."""
        rows = [(name, status(pid, "VmRSS"), len(os.listdir(f"/proc/{pid}/fd"))) for name, pid in self.host.items()]
        rows += [(f"QEMU {i}", None, len(os.listdir(f"/proc/{pid}/fd"))) for i, pid in enumerate(self.qemu)]
        out, err, end = self.commands.capture("sh", "-c", self.AGENT)
        lines = [line.split() for line in out.decode().splitlines()]
        if end != 0 or len(lines) != 2:
            raise RuntimeError(f"the agent is not two processes: {out} {err}")
        return rows + [(f"agent {i}", int(kib), int(fds)) for i, (_, kib, _, fds) in enumerate(lines)]

    def growth(self, before):
        """{name: (KiB or None, descriptors)} more than in @before, an answer of sizes()."""
        return {name: (None if kib is None else kib - old, fds - old_fds)
                for (name, kib, fds), (_, old, old_fds) in zip(self.sizes(), before)}

    def forget_most(self):
        for pid in self.host.values():
            forget_most(pid)

    def most(self):
        return {name: status(pid, "VmHWM") for name, pid in self.host.items()}
