"""Templates with a real guest: one boots and is saved, others are restored from it.

Run by meson test as root.
Never talks to anything but this stack's guests.
"""

import time

from guest import GuestTest, main, options


class Templates(GuestTest):
    def templates(self):
        """Rows of the image's property."""
        return [row for interfaces in self.objects().values() for row in interfaces.get("org.banger.Image", {}).get("Templates", ())]

    def look_at_the_template(self):
        """Its VM is gone, and it is whole: memory of which only a part takes room."""
        (template,) = self.templates()
        self.assertEqual(template[1:3], (1, 256))
        self.assert_nothing_held()
        folder = self.stack.state / str(self.stack.owner.pw_uid) / "templates" / template[0]
        memory = (folder / "memory").stat()
        self.assertEqual(memory.st_size, 256 << 20)
        self.assertLess(memory.st_blocks * 512, memory.st_size)
        self.assertEqual(self._entries(folder.parent), [template[0]])
        self.assertEqual(self._entries(folder.parent.parent / "vms"), [])

    def job_stages(self, name, **more):
        """A new VM that runs: its properties, its job's, the stages that were seen."""
        path = self.stack.manager("CreateVM", "(sa{sv})", (name, options(start=True, **more)))[0]
        stages = []
        while True:
            job = self.objects()[path]["org.banger.Job"]
            stages += [job["Stage"]] if job["Stage"] not in stages else []
            if job["State"] != "running":
                self.assertEqual(job["State"], "done", (job, self.explain()))
                return self.vm(name), job, stages
            time.sleep(0.02)

    def test_restored(self):
        """Two of one template: neither is the other or the template, both work, and go on as any VM does."""
        shape = {"memory_mib": 256, "vcpu": 1, "disk_bytes": 1 << 30}
        self.banger("image", "warm", "default", "--memory", "256M", "--vcpu", "1", "--disk-size", "1G")
        self.look_at_the_template()
        seen = {}
        for name in ("one", "two"):
            vm, job, stages = self.job_stages(name, **shape)
            self.assertEqual((job["Warnings"], "restoring" in stages, "booting the guest" in stages), ([], True, False), self.explain())
            if name == "two":  # ssh is what waits for its server, and knows the key beforehand
                self.assertEqual(self.banger("vm", "ssh", name, "--", "hostname").stdout, "two\n")
                self.assertEqual(self.vm(name)["SshServer"], "found")
            self.assertEqual(self.guest(name, "sh", "-c", "hostname; cat /root/x 2>/dev/null; echo mine >/root/x; id -u").split(), [name, "0"])
            seen[name] = (vm["BootId"], *self.guest(name, "sh", "-c", "cat /etc/machine-id; cat /sys/class/net/eth0/address; head -c 16 /dev/urandom | od -An -tx1").split("\n"))
            self.assertIn(vm["MacAddress"], seen[name])
            self.assertEqual(self.guest(name, "cat", "/proc/sys/kernel/random/boot_id").strip(), vm["BootId"])
        self.assertEqual(len(set(seen["one"][:4]) | set(seen["two"][:4])), 8, seen)
        self.assertEqual(self.banger("vm", "ssh", "one", "--", "cat", "/root/x").stdout, "mine\n")
        self.banger("vm", "restart", "two")
        self.assertEqual(self.guest("two", "sh", "-c", "cat /root/x; hostname").split(), ["mine", "two"])
        self.banger("vm", "suspend", "one")
        self.banger("vm", "start", "one")
        self.assertEqual(self.guest("one", "cat", "/root/x"), "mine\n")
        if self.guest("two", "sh", "-c", "grep -c ^tcp_diag /proc/modules || true").strip() == "1":  # of a kernel of this banger's
            self.assertNotIn("left to time out", self.guest("one", "dmesg"))
        began = time.monotonic()
        self.banger("vm", "run", "--rm", "--memory", "256M", "--vcpu", "1", "--disk-size", "1G", "--", "true")
        print(f"# vm run --rm -- true: {time.monotonic() - began:.2f} s")


main()
