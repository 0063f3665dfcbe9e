"""Live introspection of both services against introspection/*.xml.

Run by meson test as root.
Never accepts an interface, a member or an argument that the contract does not name.
"""

import unittest

from harness import HELPER, MANAGER, SOURCE, StackTest, main, shape


class Introspection(StackTest):
    with_manager = True

    def compare(self, file, live):
        """@live equals the file, row by row."""
        self.maxDiff = None
        promised = shape((SOURCE / "introspection" / file).read_text(encoding="utf-8"))
        self.assertTrue(promised)
        self.assertEqual(shape(live), promised)

    def test_helper(self):
        self.compare("org.banger.Privileged.xml",
                     self.stack.introspect(self.stack.system_address, HELPER[0], HELPER[1]))

    def test_manager(self):
        self.compare("org.banger.Manager.xml",
                     self.stack.introspect(self.stack.session_address, MANAGER[0], MANAGER[1]))

    def test_standard_interfaces(self):
        """ObjectManager and LogControl1 are there."""
        live = self.stack.introspect(self.stack.session_address, MANAGER[0], MANAGER[1])
        self.assertIn("org.freedesktop.DBus.ObjectManager", live)
        for address, name in ((self.stack.session_address, MANAGER[0]), (self.stack.system_address, HELPER[0])):
            with self.subTest(name):
                log = self.stack.introspect(address, name, "/org/freedesktop/LogControl1")
                self.assertIn("org.freedesktop.LogControl1", log)


if __name__ == "__main__":
    main()
