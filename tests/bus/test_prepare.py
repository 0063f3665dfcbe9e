"""PrepareVm: a VM's network and root disk in one call. Every field of it hostile, each part failing, the helper dying within.

Run by meson test as root; no guest is booted. test_attacks.py has the words that every method gets, this has what is its own.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import time

import harness
from gi.repository import GLib
from harness import CallError, main
import attacks
import test_crowds
import test_privileged
from test_privileged import INVALID_ARGS, INVALID_ID, INVALID_NETWORK, WRONG_STATE

IN_USE, LIMITS = "org.banger.Error.InUse", "org.freedesktop.DBus.Error.LimitsExceeded"
NOT_AUTHORIZED, UNSAFE = "org.banger.Error.NotAuthorized", "org.banger.Error.UnsafeFile"
NOT_SUPPORTED, NO_SUCH_IMAGE = "org.freedesktop.DBus.Error.NotSupported", "org.banger.Error.NoSuchImage"
FAILED, INVALID_SIZE = "org.banger.Error.Failed", "org.banger.Error.InvalidSize"
COW = GLib.Variant("t", 16 << 20)


class Prepare(attacks.AttackTest):
    mock = test_crowds.Crowds.mock
    nft, table = test_privileged.Network.nft, test_privileged.Network.table
    elements, expected = test_privileged.Network.elements, test_privileged.Network.expected

    def body(self, vm=None, **fields):
        """A good call for @vm, but for @fields; those with a capital are options, a list of pairs for a key twice."""
        args = {"vm": vm or self.vm, "bridge": self.bridge, "address": self.address, "guest": self.guest_of(vm or self.vm)}
        builder = GLib.VariantBuilder(GLib.VariantType("a{sv}"))
        for key, value in fields.pop("options", {}).items():
            builder.add_value(GLib.Variant("{sv}", (key, value)))
        args |= fields
        return GLib.Variant.new_tuple(*(GLib.Variant("s", args[k]) for k in ("vm", "bridge", "address", "guest")), builder.end())

    def prepare(self, **fields):
        return self.client.call("PrepareVm", self.body(**fields))

    def expect(self, names, **fields):
        with self.assertRaises(CallError, msg=fields) as caught:
            self.prepare(**fields)
        self.check_refusal(caught.exception, {names} if isinstance(names, str) else set(names))
        return caught.exception

    def image(self):
        self.owner_file(f"images/{self.vm}/rootfs.ext4", b"\0" * 4096)
        self.owner_file(f"vms/{self.vm}/record.json")
        return {"image": GLib.Variant("s", self.vm), "cow-bytes": COW, "new": GLib.Variant("b", True)}

    def tap(self, vm=None):
        return os.path.exists(f"/sys/class/net/tap-fc-{vm or self.vm}")

    def test_all_in_one(self):
        """The same as the single methods make; once, and only for a VM that holds nothing."""
        device = f"/dev/mapper/fc-rootfs-{self.vm}" if harness.has_device_mapper() else ""
        held = "tap,nat,snapshot" if device else "tap,nat"
        disk = self.image()
        self.assertEqual(self.prepare(options=disk | {"nat": GLib.Variant("b", True)}), (f"tap-fc-{self.vm}", device))
        self.assertEqual(self.leases(), {self.vm: (held, 0)})
        self.assertEqual(self.elements(), self.expected(True))
        self.assertEqual(pathlib.Path(f"/proc/sys/net/ipv4/conf/{self.bridge}/forwarding").read_text(encoding="ascii"), "1\n")
        with self.unchanged():
            seen = self.expect(WRONG_STATE, options=disk)
            self.assertIn(f"holds {held} already", seen.message)
            self.expect(WRONG_STATE)
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.assertEqual((self.leases(), self.elements(), self.tap()), ({}, set(), False))
        self.assertEqual(self.prepare(), (f"tap-fc-{self.vm}", ""))
        self.assertEqual(self.elements(), self.expected(False))
        self.assertEqual(self.leases(), {self.vm: ("tap", 0)})

    def test_disk_of_another(self):
        """It begins as a copy, or, without device-mapper, as whatever the manager makes of it: as a new one does."""
        options = {k: v for k, v in self.image().items() if k != "new"} | {"from": GLib.Variant("s", self.other)}
        folder = self.stack.state / "cow" / str(self.stack.owner.pw_uid)
        if not harness.has_device_mapper():
            self.assertEqual(self.prepare(options=options), (f"tap-fc-{self.vm}", ""))
            self.assertEqual(self.leases(), {self.vm: ("tap", 0)})
            return
        with self.unchanged():
            self.expect("org.banger.Error.StateCorrupt", options=options)  # there is none
        with open(folder / self.other, "wb") as disk:
            disk.truncate(16 << 20)
        (folder / self.other).chmod(0o600)
        self.assertEqual(self.prepare(options=options)[1], f"/dev/mapper/fc-rootfs-{self.vm}")
        self.assertTrue((folder / self.vm).exists())

    def test_a_vm_that_holds_anything(self):
        """By what a lease says, whatever it is: a new disk would otherwise be one that another start wrote to."""
        disk = self.image()
        for each in ({"dm": f"fc-rootfs-{self.vm}", "image": self.vm}, {"jail": True}, {"cgroup": f"/x/banger-vm-{self.vm}"},
                     {"tap": f"tap-fc-{self.vm}", "bridge": self.bridge, "bridge_address": self.address, "guest_address": self.guest}):
            self.forge(**each)
            with self.subTest(each), self.unchanged():
                self.expect((WRONG_STATE, "org.banger.Error.StateCorrupt"), options=disk)
        self.forge()  # a helper that died right after it was written
        self.prepare()
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.forge(self.other, jail="yes")
        self.expect("org.banger.Error.StateCorrupt", vm=self.other)
        self.forge(self.other, uid=self.stack.foreign.pw_uid)
        self.expect("org.freedesktop.DBus.Error.AccessDenied", vm=self.other)
        self.lease_path(self.other).unlink()

    def test_hostile_options(self):
        """Of the disk all or nothing, an id and a size within bounds; of the types that they are."""
        string, number, yes = (lambda v: GLib.Variant("s", v)), (lambda v: GLib.Variant("t", v)), GLib.Variant("b", True)
        self.image()
        good = {"image": string(self.vm), "cow-bytes": COW, "new": yes}
        with self.unchanged():
            for word in ("", ".", "..", "../../etc", "/etc/passwd", "0123456", "a" * 33, "A" * 8, "a" * 100000, "%s%s%n", "deadbeef\n",
                         "\x1b[31m", "\u202eabcdef12", self.vm + "/", self.vm + "/../" + self.vm):
                self.expect(INVALID_ID, options=good | {"image": string(word)})
            for value in (0, 1, 511, (16 << 20) - 1, (16 << 20) + 1, (4 << 40) + 512, 2**63, 2**64 - 1, 2**64 - 512):
                self.expect(INVALID_SIZE, options=good | {"cow-bytes": number(value)})
            self.expect(INVALID_ARGS, options=good | {"cow-bytes": GLib.Variant("x", -512)})
            self.expect(INVALID_SIZE, options={"image": string(self.vm)})
            self.expect(INVALID_SIZE, options={"image": string(self.vm), "new": yes})
            self.expect(INVALID_ARGS, options={"cow-bytes": COW})
            self.expect(INVALID_ARGS, options={"new": yes})
            self.expect(INVALID_ARGS, options={"new": yes, "nat": yes})
            self.expect(INVALID_ARGS, options={"from": string(self.other)})
            self.expect(INVALID_ARGS, options=good | {"from": string(self.other)})
            old = {k: v for k, v in good.items() if k != "new"}
            self.expect(INVALID_ARGS, options=old | {"from": string(self.vm)})
            self.expect(INVALID_ID, options=old | {"from": string("../" + self.other)})
            for key, kinds in (("nat", "s u t as"), ("new", "s u t as"), ("image", "b t ay o g"), ("cow-bytes", "s b d")):
                for kind in kinds.split():
                    value = {"s": "1", "as": ["1"], "b": True, "ay": b"deadbeef", "o": "/deadbeef", "g": "s", "d": 1.0}.get(kind, 1)
                    self.expect(INVALID_ARGS, options=good | {key: GLib.Variant(kind, value)})
            for key in ("copy", "memory-mib", "kernel", "tap", "NAT", "nat\n"):
                self.expect(INVALID_ARGS, options=good | {key: yes})

    def test_hostile_places(self):
        """Nets that root did not choose, addresses that are no guest's, and links that are not banger's."""
        net, own = self.address.split("/")[0].rsplit(".", 1)[0], self.address.split("/")[0]
        self.prepare(vm=self.other)
        with self.unchanged():
            for guest in (own, f"{net}.0", f"{net}.255", "10.99.99.9", "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1"):
                self.expect(INVALID_NETWORK, guest=guest)
            for address in ("127.0.0.1/8", "8.8.8.8/24", "0.0.0.0/0", "10.0.0.0/8", f"{net}.0/24", f"{own}/33"):
                self.expect(INVALID_NETWORK, address=address)
            self.expect(IN_USE, guest=self.guest_of(self.other))
            self.expect(IN_USE, vm=self.other + "00", guest=f"{net}.250")  # the same tap's name
        for add in (["link", "add", self.bridge + "y", "type", "bridge"], ["tuntap", "add", f"tap-fc-{self.vm}", "mode", "tap"]):
            subprocess.run(["ip", *add], check=True)
            self.addCleanup(subprocess.run, ["ip", "link", "del", add[2]], check=True)
        with self.unchanged():
            self.expect(IN_USE, bridge=self.bridge + "y")
            self.expect(IN_USE)
            self.expect(IN_USE, options={"nat": GLib.Variant("b", True)})

    def test_a_part_that_fails(self):
        """What the others made is given back, and the lease: by the disk, by NAT, by the bridge."""
        disk, nat = self.image(), {"nat": GLib.Variant("b", True)}
        image = pathlib.Path(self.stack.state, str(self.stack.owner.pw_uid), "images", self.vm, "rootfs.ext4")
        old = {k: v for k, v in disk.items() if k != "new"}
        self.prepare(vm=self.other)  # the tables stay: that nothing is left in them can be seen
        missing = ("org.banger.Error.StateCorrupt",) if harness.has_device_mapper() else (NOT_SUPPORTED,)
        with self.unchanged():
            self.expect(missing, options=old | nat)
            self.assertFalse(self.tap())
        if harness.has_device_mapper():
            image.unlink()
            image.symlink_to("/etc/passwd")
            with self.unchanged():
                self.expect((UNSAFE, NO_SUCH_IMAGE), options=disk | nat)
        note = pathlib.Path(self.stack.install["runtime"], "forwarding.json")
        note.mkdir()  # what is lent can neither be noted down nor taken back: that is what its lease goes on saying
        try:
            self.expect(FAILED, options=nat)
            self.assertEqual((self.elements(), self.tap()), (set(), False))
            self.assertEqual(self.leases()[self.vm], ("tap,nat", 0))
            self.expect(WRONG_STATE, options=nat)
        finally:
            note.rmdir()
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.prepare(options=nat)

    def test_quotas(self):
        """Those of the single methods, named."""
        config = self.stack.base / "limits.toml"
        text = pathlib.Path(self.stack.config).read_text(encoding="utf-8")
        self.addCleanup(self.stack.restart, "helper")
        for limit in ("taps", "vms"):
            config.write_text(f"{text}[limits]\n{limit} = 1\n", encoding="utf-8")
            self.stack.restart("helper", config=str(config))
            self.prepare()
            with self.unchanged():
                self.assertIn(f"limits.{limit}", self.expect(LIMITS, vm=self.other).message)
            self.call("ReleaseVm", "(sa{sv})", self.vm)

    def test_both_actions(self):
        """One no is a no, whichever it is; and both are asked about before either is answered."""
        rule = self.stack.base / "polkit" / "rules.d" / "50-banger.rules"
        for denied in ("network", "storage"):
            rule.write_text('polkit.addRule(function (action, subject) { return action.id === "org.banger.privileged.%s" ? '
                            "polkit.Result.NO : polkit.Result.YES; });" % denied, encoding="utf-8")
            self.stack.restart("polkit")
            try:
                with self.subTest(denied), self.unchanged():
                    for more in ({}, {"nat": True}, {"image": self.vm, "new": True, "cow_bytes": 16 << 20}):
                        seen = self.refused(NOT_AUTHORIZED, self.call, "PrepareVm", "(ssssa{sv})", self.vm, self.bridge,
                                            self.address, self.guest, user="owner", **more)
                        self.check_refusal(seen, {NOT_AUTHORIZED})
            finally:
                self.stack.set_rule(True)
                self.stack.restart("polkit")
        with self.mock() as (answer, child), self.unchanged():
            answer("hang")
            self.client.send("PrepareVm", self.body())
            self.client.wait(until=1)
            asked = [json.loads(child.stdout.readline()) for _ in range(2)]
            self.assertEqual({each["action"] for each in asked}, {"org.banger.privileged.network", "org.banger.privileged.storage"})
            self.assertEqual([each["details"]["vm"] for each in asked], [self.vm] * 2)
            self.client.close()  # nobody waits for it any more: both are withdrawn
            self.assertEqual([child.stdout.readline() for _ in range(2)], ["cancelled\n"] * 2)

    def test_at_the_same_time(self):
        """Two for one VM, and two VMs with one address: one of them gets it."""
        self.client.send("PrepareVm", self.body())
        self.client.send("PrepareVm", self.body())
        self.client.wait()
        self.assertEqual([getattr(a, "name", a) for a in self.client.answers], [True, WRONG_STATE])
        self.call("ReleaseVm", "(sa{sv})", self.vm)
        self.client.answers.clear()
        for vm in (self.vm, self.other):
            self.client.send("PrepareVm", self.body(vm=vm, guest=self.guest))
        self.client.wait()
        self.assertEqual(sorted(getattr(a, "name", "yes") for a in self.client.answers), sorted([IN_USE, "yes"]))
        self.assertEqual(len(self.leases()), 1)

    def test_death_within(self):
        """The helper is killed at moments all over the call: what there is is in the lease, and ReapVms gives it back."""
        begun = 0
        with self.unchanged():
            self.prepare()
            before = time.monotonic()
            self.call("ReleaseVm", "(sa{sv})", self.vm)
            took = max(0.01, time.monotonic() - before)
            self.call("RemoveBridge", "(sa{sv})", self.bridge)
            for i in range(12):
                self.client.send("PrepareVm", self.body(options={"nat": GLib.Variant("b", True)}))
                self.client.wait(until=1)
                self.client.connection.flush_sync(None)
                time.sleep(took * 2 * i / 12)
                self.stack.kill("helper")
                self.client.wait()
                begun += self.lease_path().exists()
                self.assertTrue(self.lease_path().exists() or not self.tap())
                self.stack.start_helper()
                self.client.call("ReapVms", GLib.Variant("(asa{sv})", ([], {})))
                self.assertEqual((self.leases(), self.elements(), self.tap()), ({}, set(), False))
                if os.path.exists(f"/sys/class/net/{self.bridge}"):
                    self.call("RemoveBridge", "(sa{sv})", self.bridge)
        self.assertGreater(begun, 2)

    def test_death_within_a_bridge(self):
        """What there is between its birth and its name goes when the helper starts, or another one is made; no other link does."""
        def add(name, mac, kind="bridge"):
            subprocess.run(["ip", "tuntap", "add", "dev", name, "mode", kind] if kind == "tap" else ["ip", "link", "add", name, "type", kind], check=True)
            subprocess.run(["ip", "link", "set", name, "address", mac], check=True)
            self.addCleanup(subprocess.run, ["ip", "link", "delete", name], check=False, stderr=subprocess.DEVNULL)

        def half_made(bridge):
            """Name and MAC of what is to become that bridge (bridge.c)."""
            digest = hashlib.sha256(bridge.encode()).hexdigest()
            return "brfc-" + digest[4:12], ":".join(["0a", *(digest[2 * i:2 * i + 2] for i in range(1, 6))])

        name, mac = half_made(self.bridge)
        another = half_made("br-fc-other")  # a helper of another bus is making it
        others = [another, ("brfc-11223344", mac), ("brfc-21223344", "02:99:21:22:33:44")]
        for other in others:
            add(*other)
        for alias in (None, "banger"):
            for again in (lambda: self.stack.restart("helper"), self.prepare):
                add(name, mac)
                if alias:
                    subprocess.run(["ip", "link", "set", name, "alias", alias], check=True)
                again()
                self.assertFalse(os.path.exists("/sys/class/net/" + name))
                self.call("ReleaseVm", "(sa{sv})", self.vm)
                self.call("RemoveBridge", "(sa{sv})", self.bridge)
        for foreign in ((name, mac, "tap"), (name, "02:99:31:22:33:44")):
            add(*foreign)
            self.stack.restart("helper")
            self.assertTrue(os.path.exists("/sys/class/net/" + name))
            subprocess.run(["ip", "link", "delete", name], check=True)
        add(name, mac)
        subprocess.run(["ip", "link", "set", name, "alias", "somebody's"], check=True)
        self.stack.restart("helper")
        others.append((name, mac))
        self.assertEqual([other[0] for other in others if not os.path.exists("/sys/class/net/" + other[0])], [])


if __name__ == "__main__":
    main()
