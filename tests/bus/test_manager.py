"""The manager on its bus: whom it serves, what it refuses, how it says so.

Run by meson test as root; no guest is booted.
Never calls a method of which the contract does not know: the list comes from introspection/*.xml.
"""

import pathlib
import re
import time
import xml.etree.ElementTree as ElementTree

from gi.repository import Gio, GLib

from harness import HELPER, MANAGER, SOURCE, StackTest, main, options

DENIED = ("org.freedesktop.DBus.Error.AccessDenied", "org.banger.Error.NotAuthorized")
INVALID = "org.freedesktop.DBus.Error.InvalidArgs"
SAMPLES = {"s": "default", "a{sv}": {}, "t": 0, "o": "/", "as": [], "a(suay)": []}


def methods(file):
    """(interface, method, signature, sample arguments) of each method in the contract."""
    root = ElementTree.parse(SOURCE / "introspection" / file).getroot()
    for interface in root.iter("interface"):
        for method in interface.iter("method"):
            kinds = [a.get("type") for a in method.iter("arg") if a.get("direction") == "in"]
            yield interface.get("name"), method.get("name"), f"({''.join(kinds)})", [SAMPLES[k] for k in kinds]


class Manager(StackTest):
    with_manager = True

    def test_foreign_user_is_refused_everything(self):
        count = 0
        for _, method, signature, arguments in methods("org.banger.Manager.xml"):
            with self.subTest(method):
                self.refused(DENIED, self.stack.manager, method, signature, arguments, user="foreign")
                count += 1
        self.assertGreater(count, 10)
        self.refused(DENIED, self.stack.manager, "GetAll", "(s)", (MANAGER[2],), user="foreign",
                     interface="org.freedesktop.DBus.Properties")

    def test_owner_and_root_are_served(self):
        for user in ("owner", "root"):
            with self.subTest(user):
                self.assertTrue(self.stack.manager("Diagnose", user=user)[0])

    def test_errors_carry_the_operation(self):
        """Typed errors that name the value and end in the op id, also for what fails early."""
        cases = [
            ("org.banger.Error.NoSuchVM", "StartVM", "(sa{sv})", ("nobody", {}), "nobody"),
            ("org.banger.Error.NoSuchImage", "DeleteImage", "(sa{sv})", ("nothing", {}), "nothing"),
            ("org.banger.Error.NoSuchKernel", "DeleteKernel", "(sa{sv})", ("nothing", {}), "nothing"),
            ("org.banger.Error.InvalidName", "CreateVM", "(sa{sv})", ("Not_A_Label", {}), "Not_A_Label"),
            (INVALID, "CreateVM", "(sa{sv})", ("good", options(colour="red")), "colour"),
            (INVALID, "CreateVM", "(sa{sv})", ("good", options(vcpus="many")), "vcpus"),
            (INVALID, "CreateVM", "(s)", ("good",), ""),
            ("org.freedesktop.DBus.Error.UnknownMethod", "Reboot", "(s)", ("good",), ""),
        ]
        for error, method, signature, arguments, word in cases:
            with self.subTest(f"{method} {arguments}"):
                seen = self.refused(error, self.stack.manager, method, signature, arguments)
                self.assertIn(word, seen.message)
                self.assertRegex(seen.message, r"\(op-[0-9a-f]+\)$")

    def test_early_errors_carry_the_operation_once(self):
        seen = self.refused("org.banger.Error.NoSuchVM", self.stack.manager, "StopVM", "(sa{sv})", ("nobody", {}))
        self.assertEqual(len(re.findall(r"\(op-", seen.message)), 1, seen.message)

    def available(self):
        return self.stack.manager("Get", "(ss)", (MANAGER[2], "HelperAvailable"),
                                  interface="org.freedesktop.DBus.Properties")[0]

    def test_others_say_that_the_helper_is_gone(self):
        """Whoever on the system bus says so to the manager: the bus alone is believed."""
        bus = Gio.DBusConnection.new_for_address_sync(
            self.stack.system_address,
            Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)

        def ask(method, *args):
            body = GLib.Variant("(s)", args) if args else None
            return bus.call_sync("org.freedesktop.DBus", "/", "org.freedesktop.DBus", method, body, None, 0, 10000,
                                 None).unpack()[0]
        pid = self.stack.pid("manager")
        managers = [name for name in ask("ListNames") if name[0] == ":" and ask("GetConnectionUnixProcessID", name) == pid]
        self.assertEqual(len(managers), 1)
        for owner in ("", ":1.7"):
            bus.emit_signal(managers[0], "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged",
                            GLib.Variant("(sss)", (HELPER[0], ":1.7", owner)))
            bus.flush_sync(None)
            time.sleep(0.2)
            self.assertTrue(self.available())
        bus.close_sync(None)

    def test_helper_comes_and_goes(self):
        """HelperAvailable follows the helper; the manager stays."""
        available = self.available

        def becomes(value):
            end = time.monotonic() + 15
            while available() != value:
                self.assertLess(time.monotonic(), end, f"HelperAvailable did not become {value}")
                time.sleep(0.1)
        becomes(True)
        manager = self.stack.pid("manager")
        self.stack.kill("helper")
        becomes(False)
        self.stack.start_helper()
        becomes(True)
        self.assertEqual(self.stack.pid("manager"), manager)

    def test_command_line_without_manager(self):
        """It says why there is none, and waits for none that would refuse to run."""
        broken = self.stack.base / "broken.toml"
        broken.write_text(pathlib.Path(self.stack.config).read_text(encoding="utf-8") + "\nsurprise = 1\n", encoding="utf-8")
        broken.chmod(0o644)
        self.stack.stop("manager")
        try:
            for config, words in ((self.stack.config, r"^banger: the manager \(bangerd\) does not run"),
                                  (broken, r"^banger: banger is not set up: .*broken.toml: '.*surprise' is not a known setting"),
                                  ("/nonexistent.toml", "^banger: banger is not set up: .*nonexistent.toml")):
                with self.subTest(str(config)):
                    done = self.stack.banger("vm", "list", env={"BANGER_CONFIG": str(config)})
                    self.assertEqual(done.returncode, 1, done)
                    self.assertRegex(done.stderr, words)
        finally:
            self.stack.start_manager()

    def test_manager_is_not_root(self):
        with open(f"/proc/{self.stack.pid('manager')}/status", encoding="ascii", errors="replace") as f:
            status = dict(line.split(":\t", 1) for line in f if ":\t" in line)
        self.assertEqual(status["Uid"].split(), [str(self.stack.owner.pw_uid)] * 4)
        self.assertEqual(int(status["CapEff"], 16), 0)


if __name__ == "__main__":
    main()
