"""Templates with a real guest: one boots and is saved, others are restored from it.

Run by meson test as root.
Never talks to anything but this stack's guests.
"""

import json
import os
import pathlib
import re
import socket
import time

from guest import BOOT_SECONDS, GuestTest, devstack, main, options


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

    SHAPE = ("--memory", "256M", "--vcpu", "1", "--disk-size", "1G")

    def write(self, name, text, mode=0o644):
        """A file of the owner's home."""
        path = pathlib.Path(self.stack.owner.pw_dir) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        for each in (path, path.parent):
            os.chown(each, self.stack.owner.pw_uid, self.stack.owner.pw_gid)
        return path

    def settings(self, *lines):
        """The owner's config.toml, read again."""
        self.stack.settings("\n".join((f"[network]\ndns-port = {self.stack.dns_port}", *lines, "")))
        self.banger("config", "reload", "-q")

    def look_at_what_is_given(self):
        """Files of the home folder are in the guest before the first command, and again after a restart."""
        self.write("conf/one", "1\n", 0o640)
        self.write("name\nof \u00e4 file", "odd\n", 0o600)
        (pathlib.Path(self.stack.owner.pw_dir) / "conf" / "out").symlink_to("/etc/passwd")
        (pathlib.Path(self.stack.owner.pw_dir) / "conf" / "in").symlink_to("one")
        self.settings('[[file_sync]]\nsource = "~/conf"', '[[file_sync]]\nsource = "conf/one"\ntarget = "/etc/new/folder/two"\nmode = "0604"',
                      '[[file_sync]]\nsource = "none"')
        look = "cd; cat conf/one /etc/new/folder/two; stat -c '%a %u %n' conf/one /etc/new/folder /etc/new/folder/two; readlink conf/in; ls conf"
        run = self.banger("vm", "run", "--name", "given", *self.SHAPE, "--", "sh", "-c", look)
        self.assertEqual(run.stdout.split("\n"), ["1", "1", "640 0 conf/one", "700 0 /etc/new/folder", "604 0 /etc/new/folder/two", "one", "in", "one", ""])
        self.assertIn("file_sync[1], '~/conf/out': it is a link that leads out of the home folder", run.stderr)
        self.assertIn("file_sync[3], '~/none': it is not there", run.stderr)
        self.write("conf/one", "2\n")
        self.guest("given", "sh", "-c", "rm /root/conf/one; mkdir /root/conf/own")
        self.banger("vm", "restart", "given", "-q")
        self.assertEqual(self.guest("given", "sh", "-c", "cat /root/conf/one; ls /root/conf").split(), ["2", "in", "one", "own"])
        self.banger("vm", "delete", "--force", "given")

    def reaches(self, name, address, port):
        """Whether a connection of the guest's comes about."""
        return self.guest(name, "sh", "-c", f"timeout 5 bash -c ': </dev/tcp/{address}/{port}' && echo yes || true") == "yes\n"

    def look_at_links(self):
        """One reaches two, and not the other way round; and one port of the host."""
        one, two = (self.vm(name)["Address"] for name in ("one", "two"))
        gateway = self.stack.install["address"].split("/")[0]
        with socket.create_server((gateway, 0)) as server:
            port = server.getsockname()[1]
            self.assertFalse(self.reaches("one", two, 22) or self.reaches("one", gateway, port))
            self.banger("vm", "set", "one", "--link", "two", "--allow-host", str(port))
            self.assertTrue(self.reaches("one", two, 22) and self.reaches("one", gateway, port), self.explain())
            self.assertTrue(self.reaches("one", "two.vm", 22) and self.reaches("one", "host.vm", port), self.explain())
            self.assertEqual(self.guest("one", "sh", "-c", "getent hosts two.vm host.vm one.vm").split()[::2], [two, gateway, one])
            self.assertEqual(self.guest("two", "sh", "-c", "getent hosts one.vm host.vm; getent hosts two.vm").split(), [two, "two.vm"])
            self.assertFalse(self.reaches("two", one, 22) or self.reaches("two", gateway, port))
            shown = json.loads(self.banger("vm", "show", "one", "--json").stdout)
            self.assertEqual((shown["links"], shown["host_ports"]), (["two"], [str(port)]))
            self.banger("vm", "restart", "two")
            self.assertTrue(self.reaches("one", two, 22))
            devstack.wait_for("two has its name again", 60, lambda: self.guest("one", "sh", "-c", "getent hosts two.vm || true").split() == [two, "two.vm"])
            self.banger("vm", "restart", "one")  # whom it knows stands in its configuration
            self.assertEqual(self.guest("one", "sh", "-c", "getent hosts two.vm host.vm; grep -c banger /etc/hosts").split()[::2], [two, gateway, "4"])
            self.banger("vm", "set", "one", "--unlink", "two", "--deny-host", str(port))
            self.assertFalse(self.reaches("one", two, 22) or self.reaches("one", gateway, port))
            devstack.wait_for("nobody is known", 60, lambda: self.guest("one", "sh", "-c", "getent hosts two.vm host.vm || true") == "")

    def follow_setup(self, name, line):
        """`vm logs -f --setup` of a VM whose setup runs, when it has shown @line."""
        end = time.monotonic() + BOOT_SECONDS
        while line not in self.banger("vm", "logs", "--setup", name, status=None).stdout:
            self.assertLess(time.monotonic(), end, self.explain())
            time.sleep(0.1)
        follow = self.stack.start_banger("vm", "logs", "-f", "--setup", name)
        while follow.stdout.readline() not in (line, ""):
            pass
        return follow

    def look_at_what_is_set_up(self):
        """Scripts run once, after the files are there and before the command; one that fails is told of, and tried again."""
        tool = self.write("conf/tool", "#!/bin/cat\n")
        self.settings('[[file_sync]]\nsource = "conf/one"\ntarget = "/root/one"', '[[setup]]\nrun = "cat /root/one; echo config >>/root/order"',
                      '[[setup]]\nrun = "exit 9"\nimages = ["other-*"]', f'[[setup]]\nscript = "{tool}"',
                      f'[[publish]]\nport = {32000 + self.stack.number % 1000}\nguest_port = 22')
        script = self.write("setup.sh", "pwd; id -u; echo mine >>/root/order; exec 2>&1; until test -e /root/go; do sleep 0.1; done; "
                            "echo 'odd \u001b[31m' >&2; test -e /root/fixed || exit 3\n", 0o600)
        run = self.stack.start_banger("vm", "run", "--name", "given", "--setup", str(script), *self.SHAPE, "--", "true")
        follow = self.follow_setup("given", "0\n")
        self.guest("given", "touch", "/root/go")
        _, said = run.communicate(timeout=BOOT_SECONDS)
        self.assertEqual(run.returncode, 70, said)
        self.assertIn("the setup of this VM: it ended with status 3, its last lines:\n  /root\n  0\n  odd \\x1b[31m\n", said)
        self.assertIn("given goes on running", said)
        self.assertEqual(follow.stdout.readline(), "odd \x1b[31m\n")
        log = self.banger("vm", "logs", "--setup", "given").stdout
        self.assertEqual(log, "[banger: setup[1]]\n2\n[banger: setup[3], '~/conf/tool']\n#!/bin/cat\n[banger: the setup of this VM]\n/root\n0\nodd \x1b[31m\n")
        self.guest("given", "touch", "/root/fixed")
        self.banger("vm", "restart", "given", "-q")
        self.assertEqual(self.guest("given", "cat", "/root/order").split(), ["config", "mine", "mine"])
        self.assertEqual(self.vm("given")["Setup"], "done")
        with socket.create_connection(("127.0.0.1", 32000 + self.stack.number % 1000), 60) as connection:
            self.assertEqual(connection.recv(4), b"SSH-")
        self.banger("vm", "restart", "given", "-q")
        self.assertEqual(self.guest("given", "cat", "/root/order").split(), ["config", "mine", "mine"])
        self.banger("vm", "delete", "--force", "given")
        follow.communicate(timeout=60)
        self.assertEqual(follow.returncode, 0)
        script.write_text("exit 3\n", encoding="utf-8")
        gone = self.banger("vm", "run", "--rm", "--name", "gone", "--setup", str(script), *self.SHAPE, "--", "true", status=None)
        self.assertEqual((gone.returncode, "ended with status 3" in gone.stderr), (70, True), gone.stderr)
        self.assertIsNone(self.vm("gone"))
        self.assertIn("is not a script", self.banger("vm", "run", "--setup", "/dev/null", status=None).stderr)

    def look_at_a_snapshot(self):
        """It goes back to where it was: disks, memory and what runs in it, but the time. It stood still for that, and no longer."""
        count = "i=0; while :; do i=$((i+1)); echo $i >/run/count.new; mv /run/count.new /run/count; sleep 0.1; done"
        self.guest("one", "sh", "-c", "echo before >/root/kept; echo before >/etc/kept")
        self.guest("one", "systemd-run", "-q", "sh", "-c", count)
        self.guest("one", "sh", "-c", "while ! test -e /run/count; do sleep 0.1; done")
        before = self.vm("one")
        self.banger("vm", "snapshot", "create", "one", "then")
        self.assertEqual((self.vm("one")["Pid"], self.vm("one")["BootId"]), (before["Pid"], before["BootId"]))
        at_least = int(self.guest("one", "cat", "/run/count"))
        self.guest("one", "sh", "-c", "echo after >/root/kept; echo after >/etc/kept; touch /root/new; sync; echo 1000000 >/run/other")
        (shown,) = json.loads(self.banger("vm", "snapshot", "list", "one", "--json").stdout)
        self.assertEqual((shown["name"], shown["vm"], shown["memory"], shown["memory_mib"]), ("then", "one", True, 256))
        print(f"# snapshot: {shown['size_bytes'] >> 20} MiB, the guest stood still for {shown['paused_us'] / 1e6:.2f} s")
        self.assertIn("restore with force", self.banger("vm", "snapshot", "restore", "one", "then", status=75).stderr)
        self.guest("one", "sh", "-c", "while [ $(cat /run/count) -le %d ]; do sleep 0.1; done" % (at_least + 20))
        self.banger("vm", "snapshot", "restore", "--force", "--start", "one", "then")
        look = self.guest("one", "sh", "-c", "cat /root/kept /etc/kept; ls /root/new /run/other 2>/dev/null; cat /run/count; date +%s").split()
        self.assertEqual(look[:2], ["before", "before"])
        self.assertEqual(len(look), 4, look)
        self.assertLess(int(look[2]), at_least + 20)
        self.assertLess(abs(int(look[3]) - time.time()), 10)
        self.assertEqual(self.vm("one")["BootId"], before["BootId"])
        self.guest("one", "sh", "-c", "echo more >/root/more; sync; c=$(cat /run/count); sleep 1; test $(cat /run/count) -gt $c")
        self.banger("vm", "snapshot", "delete", "one", "then")

    IDENTITY = ("hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id /sys/class/net/eth0/address; hostname -I; "
                "cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub; head -c 16 /dev/urandom | od -An -tx1; cat /run/random; date +%s.%N")

    def look_at_copies(self):
        """What runs in it goes on in each, with what it had; none is another or what it is a copy of, whose guest does not notice."""
        self.guest("one", "systemd-run", "-q", "sh", "-c", "until test -e /run/go; do sleep 0.1; done; head -c 16 /dev/urandom | od -An -tx1 >/run/r; mv /run/r /run/random")
        self.guest("one", "systemd-run", "-q", "bash", "-c", "exec 3<>/dev/tcp/%s/22; touch /run/connected; sleep 1000" % self.vm("one")["Address"])
        self.guest("one", "sh", "-c", "echo shared >/root/shared; until test -e /run/connected; do sleep 0.1; done")
        before, at_least = self.vm("one"), int(self.guest("one", "cat", "/run/count"))
        began = time.monotonic()
        made = json.loads(self.banger("vm", "fork", "--count", "2", "--json", "one", "copy").stdout)
        took = time.monotonic() - began
        self.assertEqual([(vm["name"], vm["state"]) for vm in made], [("copy-1", "running"), ("copy-2", "running")])
        self.assertEqual((self.vm("one")["Pid"], self.vm("one")["BootId"]), (before["Pid"], before["BootId"]))
        seen = {}
        for name in ("one", "copy-1", "copy-2"):
            self.guest(name, "sh", "-c", "touch /run/go; until test -e /run/random; do sleep 0.1; done; c=$(cat /run/count); until test $(cat /run/count) -gt $c; do sleep 0.1; done")
            self.assertGreaterEqual(int(self.guest(name, "cat", "/run/count")), at_least)
            *seen[name], now = self.guest(name, "sh", "-c", self.IDENTITY).split("\n")[:-1]
            self.assertLess(abs(float(now) - time.time()), 30)
            vm = self.vm(name)
            self.assertEqual(([seen[name][0], *seen[name][2:4], seen[name][4].strip()], self.guest(name, "cat", "/root/shared")),
                             ([name, vm["BootId"], vm["MacAddress"], vm["Address"]], "shared\n"))
        for row in zip(*seen.values()):
            self.assertEqual(len(set(row)), 3, seen)
        self.assertEqual(self.banger("vm", "ssh", "copy-1", "--", "hostname").stdout, "copy-1\n")  # its key is known beforehand
        if self.guest("one", "sh", "-c", "grep -c ^tcp_diag /proc/modules || true").strip() == "1":
            self.assertNotIn("left to time out", self.guest("copy-2", "dmesg"))
        (still,) = re.findall(r"2 copies of it run; its guest stood still for (\d+) ms", self.stack.log_tail("manager", 1000))
        print(f"# two copies run after {took:.2f} s, the guest stood still for {int(still) / 1000:.2f} s")
        self.guest("copy-1", "sh", "-c", "echo own >/root/shared; sync")
        self.assertEqual(self.guest("copy-2", "cat", "/root/shared"), "shared\n")
        self.assertIn("exists", self.banger("vm", "fork", "one", "copy-1", status=None).stderr)
        self.banger("vm", "delete", "--force", "copy-1", "copy-2")
        self.assertEqual(self.guest("one", "cat", "/root/shared"), "shared\n")

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
        self.look_at_links()
        self.look_at_a_snapshot()
        self.look_at_copies()
        began = time.monotonic()
        self.banger("vm", "run", "--rm", "--memory", "256M", "--vcpu", "1", "--disk-size", "1G", "--", "true")
        print(f"# vm run --rm -- true: {time.monotonic() - began:.2f} s")
        self.look_at_what_is_given()
        self.look_at_what_is_set_up()


main()
