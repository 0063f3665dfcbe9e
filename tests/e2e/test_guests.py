#!/usr/bin/python3
"""Guests that are not as one made for banger would be: their clock, what they mount, what their shell reads, what ends."""

import os
import socket
import time

from guest import GuestTest, main

FSTAB = """# of a cloud image
LABEL=cloudimg-rootfs	/	 ext4	discard,errors=remount-ro	0 1
LABEL=UEFI	/boot/efi	vfat	umask=0077	0 1
/dev/disk/cloud/azure_resource-part1 /mnt auto defaults,x-systemd.requires=cloud-init.service 0 2
UUID=8d2c9ac1-9d2c-4a4e-8f0c-1f2f3f4f5f6f none swap sw 0 0
share /srv/share virtiofs defaults 0 0
/dev/vdb /mnt/work ext4 defaults 0 0
"""
HOSTILE = "echo printed; echo printed >&2; cd /tmp; exit 3\n"


class Guests(GuestTest):
    def write(self, path, text):
        self.banger("vm", "exec", "odd", "--", "sh", "-c", 'cat > "$1"', "sh", path, input=text)

    def off(self):
        """By how many seconds the guest's clock is off for sure; 0.0 if the way there leaves it open."""
        before = time.time()
        guest = float(self.guest("odd", "date", "+%s.%N"))
        after = time.time()
        return before - guest if guest < before else guest - after if guest > after else 0.0

    def test_odd_guest(self):
        self.banger("vm", "create", "odd", "--start")
        self._idle()
        self._clock()
        self._agent()
        for name in (".bashrc", ".bash_profile", ".profile", ".zshenv"):
            self.write("/root/" + name, HOSTILE)
        self.assertEqual(self.guest("odd", "sh", "-c", "pwd; id -un; echo $USER $SHELL"), "/root\nroot\nroot /bin/bash\n")
        failed = self.guest("odd", "systemctl", "list-units", "--failed", "--no-legend", "--plain")
        self.write("/etc/fstab", FSTAB)
        self.guest("odd", "sh", "-c", "rm -rf /etc/resolv.conf; mkdir -p /etc/resolv.conf/x /mnt/work")
        self.banger("vm", "restart", "odd")
        self._fstab(failed)
        self._identity()
        self.banger("vm", "delete", "odd", "--force")

    def _idle(self):
        """A processor with nothing to do has no tick, of which there are 250 in a second: bench/idle has the figures."""
        script = "cat /proc/interrupts; sleep 5; cat /proc/interrupts"
        ticks = [sum(int(w) for w in line.split() if w.isdigit()) for line in self.guest("odd", "sh", "-c", script).splitlines()
                 if line.split()[0] == "LOC:"]
        self.assertLess(ticks[1] - ticks[0], 5 * 150)

    def _clock(self):
        """A clock that is put back is right again once it is asked for; its source is not one that loses ticks."""
        self.assertLess(self.off(), 1)
        source = self.guest("odd", "cat", "/sys/devices/system/clocksource/clocksource0/current_clocksource").strip()
        self.assertIn(source, ("tsc", "kvm-clock"))
        self.assertNotIn("unstable", self.guest("odd", "dmesg"))
        for jump in ("-1 hour", "+2 days"):
            self.guest("odd", "date", "-s", jump)
            self.stack.restart("manager")
            self.wait_state("odd", "running", 60)
            end = time.monotonic() + 60
            while self.off() > 1:
                self.assertLess(time.monotonic(), end, self.explain())
                time.sleep(0.2)

    def seen(self, script):
        """Words of its output, as far as it came: a command of an agent that is killed ends with it."""
        return self.banger("vm", "exec", "odd", "--", "sh", "-c", script, status=None).stdout.split()

    def _agent(self):
        """Killed, it is there again, whichever of its two processes; a stop is orderly, which the restart shows below."""
        # a session's process has the agent's arguments and another name
        agents = "for p in $(pgrep -f ^@banger-guest); do grep -q banger-session /proc/$p/comm || echo $p; done"
        self.guest("odd", "sh", "-c", "echo kept > /etc/kept")
        for victim in (1, 0):
            before = self.guest("odd", "sh", "-c", agents).split()
            self.assertEqual(len(before), 2)
            self.guest("odd", "sh", "-c", f"(sleep 1; kill -9 {before[victim]}) >/dev/null 2>&1 &")
            end = time.monotonic() + 60
            while len(after := self.seen(agents)) != 2 or after == before:
                self.assertLess(time.monotonic(), end, after)

    def _fstab(self, failed):
        show = self.guest("odd", "sh", "-c", "cat /etc/fstab; ! mountpoint -q /etc/fstab")
        self.assertEqual(show, FSTAB)
        self.assertEqual(self.guest("odd", "cat", "/etc/kept"), "kept\n")
        # Root as the file says; what is not there is neither waited for nor failed.
        options = self.guest("odd", "findmnt", "-no", "OPTIONS", "/").strip().split(",")
        self.assertIn("rw", options)
        self.assertEqual(self.guest("odd", "systemctl", "list-units", "--failed", "--no-legend", "--plain"), failed)
        console = self.banger("vm", "logs", "odd").stdout
        self.assertIn("for this start they are optional: LABEL=cloudimg-rootfs (/), LABEL=UEFI (/boot/efi), ", console)
        self.assertIn("cannot write /etc/resolv.conf", console)

    SHOW = {"boot id": "cat /proc/sys/kernel/random/boot_id", "machine id": "cat /etc/machine-id", "host name": "uname -n; cat /etc/hostname; grep banger /etc/hosts",
            "address": "ip -4 -o address show scope global", "mac": "ip -o link show | grep -v LOOPBACK",
            "host key": "for i in $(seq 600); do ssh-keyscan -t ed25519 127.0.0.1 2>/dev/null | grep ssh && break; sleep 0.1; done", "keys": "cat /root/.ssh/authorized_keys",
            "name server": "cat /etc/resolv.conf"}

    def show(self):
        script = "".join(f"echo ==; {{ {commands}; }} 2>&1;" for commands in self.SHOW.values())
        return dict(zip(self.SHOW, self.guest("odd", "sh", "-c", script + "true").split("==\n")[1:], strict=True))

    def _identity(self):
        """Asked as the manager asks a copy, it is another machine in every row; what runs in it goes on."""
        self.guest("odd", "sh", "-c", "rm -rf /etc/resolv.conf; ssh-keygen -q -t ed25519 -N '' -f /tmp/key; sleep 3600 >/dev/null 2>&1 & echo $! >/tmp/pid")
        pid = self.guest("odd", "pgrep", "-o", "-x", "sshd")
        before = self.show()
        parts = {"time": "", "entropy": os.urandom(64), "boot_id": "0f8fad5b-d9cb-469f-a165-70867728950e",
                 "config": f"hostname=other\naddress={self.network()}77/24\ngateway={self.network()}1\ndns=192.0.2.7\nmac=06:00:00:00:00:77\n"
                           f"root=/dev/vda\nmachine-id={7:032x}\n",
                 "authorized_keys": "ssh-ed25519 AAAA other\n", "ssh_host_ed25519_key": self.guest("odd", "cat", "/tmp/key"),
                 "ssh_host_ed25519_key.pub": self.guest("odd", "cat", "/tmp/key.pub")}
        parts["time"] = str(time.time_ns() // 1000)
        began = time.time()
        answer = self._ask(parts)
        print(f"# another machine in {time.time() - began:.3f} s", flush=True)
        self.assertEqual(answer[:3], ["i1", "ok", parts["boot_id"]], self.explain())
        self.assertTrue(began - 0.05 <= int(answer[3]) / 1e6 <= time.time() + 0.05, (began, answer, time.time()))
        after = self.show()
        for row, text in before.items():
            self.assertNotEqual(text, after[row], row)
        wanted = {"boot id": parts["boot_id"], "machine id": f"{7:032x}", "host name": "other\nother\n127.0.1.1\tother # banger", "address": f" {self.network()}77/24 ",
                  "mac": "06:00:00:00:00:77", "host key": parts["ssh_host_ed25519_key.pub"].split()[1], "keys": "AAAA other", "name server": "192.0.2.7"}
        for row, text in wanted.items():
            self.assertIn(text, after[row], row)
        self.assertIn(f"default via {self.network()}1 ", self.guest("odd", "ip", "route", "show", "default"))
        self.assertEqual(self.guest("odd", "pgrep", "-o", "-x", "sshd"), pid)
        self.guest("odd", "sh", "-c", "kill -0 $(cat /tmp/pid); ! systemctl --failed --no-legend --plain | grep -e journal -e ssh")

    def _ask(self, parts):
        body = b"".join(f"{name} {len(data)}\n".encode() + (data if isinstance(data, bytes) else data.encode()) for name, data in parts.items())
        vm = self.vm("odd")
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as lines:
            client.settimeout(60)
            client.connect(f"{self.stack.install['runtime']}/{self.stack.owner.pw_uid}/{vm['Id']}/vsock.sock")
            client.sendall(b"CONNECT 1024\n")
            self.assertRegex(lines.readline(), b"^OK ")
            client.sendall(f"identity i1 {len(body)}\n".encode() + body)
            return lines.readline().decode().split()


if __name__ == "__main__":
    main()
