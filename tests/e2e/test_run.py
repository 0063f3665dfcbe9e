"""The main job, with a real guest: a command, its exit status and streams, a repository, both services on the way.

Run by meson test as root.
Never talks to anything but this stack's guests.
"""

import json
import os
import pathlib
import signal
import subprocess
import time

from guest import BOOT_SECONDS, GuestTest, VM_INTERFACE, main, options


class Work(GuestTest):
    """Commands and files in guests that one template restored."""

    warm = True

    def setUp(self):
        self.before = self.restored()

    def tearDown(self):
        super().tearDown()
        self.assertGreater(self.restored(), self.before)

    def restored(self):
        """How often a guest was."""
        return pathlib.Path(self.stack.log_path("manager")).read_text(encoding="utf-8").count('"restoring"')

    def test_command(self):
        """Exit status, streams apart, arguments one by one, nothing left."""
        script = "echo out; echo err >&2; for a in \"$@\"; do printf '<%s>' \"$a\"; done; echo; id -u; exit 7"
        words = ["two words", "it's \"quoted\"", "new\nline", "", "$HOME;*", "-x"]
        result = self.banger("vm", "run", "--rm", "--name", "one", "--", "sh", "-c", script, "sh", *words, status=7)
        self.assertEqual(result.stdout, "out\n" + "".join(f"<{w}>" for w in words) + "\n0\n")
        self.assertIn("err\n", result.stderr)
        self.assertNotIn("out\n", result.stderr)
        self.assertIsNone(self.vm("one"))
        self.assert_nothing_held()

    def test_input(self):
        """Standard input reaches the command."""
        result = self.banger("vm", "run", "--rm", "--", "wc", "-c", input="12345\n" * 1000)
        self.assertEqual(result.stdout.strip(), "6000")

    def test_repository(self):
        """Tracked files and untracked ones that are not ignored; the command runs there."""
        repo = self._repository()
        script = "pwd; cat tracked; cat 'un tracked'; test ! -e ignored.o; cat sub/dir/deep; git status --porcelain; readlink link"
        result = self.banger("vm", "run", "--rm", str(repo), "--", "sh", "-ec", script)
        self.assertEqual(result.stdout.splitlines(), [
            "/root/a repo", "changed", "new", "deep", " M tracked", "?? \"un tracked\"", "tracked"])

    def test_changes_come_out(self):
        """What was sent and what became of it: a patch that makes the host's changed tree the guest's, after a restart of bangerd, too."""
        repo = self._repository("an own repo")
        dry = self.banger("vm", "run", str(repo), "--dry-run")
        self.assertEqual(sorted(dry.stdout.splitlines()), [".gitignore", "link", "sub/dir/deep", "tracked", "un tracked"])
        self.assertIn(" would go to /root/an own repo\n", dry.stderr)
        self.assertIn("1 file goes along that git does not track", dry.stderr)
        self.assertNotIn("un tracked", self.banger("vm", "run", str(repo), "--dry-run", "--tracked-only").stdout)
        self.assertIn("there is no commit 'nowhere'", self.banger("vm", "run", str(repo), "--branch", "x", "--from", "nowhere", status=None).stderr)
        self.banger("vm", "run", "--detach", "--name", "out", str(repo))
        vm = self.vm("out")
        self.assertEqual((vm["Workspace"], vm["WorkspaceFolder"]), (str(repo), "/root/an own repo"))
        self.stack.stop("manager")
        self.stack.start_manager()
        self.assertEqual(self.banger("vm", "workspace", "diff", "out").stdout, "")
        self.assertEqual(self.guest("out", "pwd"), "/root/an own repo\n")
        self.guest("out", "sh", "-ec", "echo guest >> tracked; echo made > made; rm sub/dir/deep; git add made")
        status = json.loads(self.banger("vm", "workspace", "status", "out", "--json").stdout)
        self.assertEqual(sorted((each["change"], each["path"]) for each in status["guest"]["changes"]), [("A", "made"), ("D", "sub/dir/deep"), ("M", "tracked")])
        self.assertEqual(status["host"]["changes"], [])
        patch = self.banger("vm", "workspace", "export", "out").stdout
        subprocess.run(["git", "-C", str(repo), "apply", "--check"], input=patch, text=True, check=True, env=self.stack.owner_environment(),
                       **self.stack.as_owner())
        self.assertIn("3 files changed", self.banger("vm", "workspace", "export", "out", "--apply").stderr)
        self.assertEqual([(repo / name).read_text() for name in ("tracked", "made")], ["changed\nguest\n", "made\n"])
        self.assertFalse((repo / "sub/dir/deep").exists())
        self.guest("out", "sh", "-ec", "cd '/root/an own repo'; echo more >> made; echo then > then")
        self.banger("vm", "workspace", "export", "out", "--apply", "--3way")
        self.assertEqual([(repo / name).read_text() for name in ("tracked", "made", "then")], ["changed\nguest\n", "made\nmore\n", "then\n"])
        self.banger("vm", "workspace", "prepare", "out", "--branch", "try")
        self.assertEqual(self.guest("out", "git", "rev-parse", "--abbrev-ref", "HEAD"), "try\n")
        self.assertEqual(self.banger("vm", "workspace", "diff", "out").stdout, "")
        self.guest("out", "sh", "-ec", "echo commit >> made; git add made; git -c user.name=g -c user.email=g@example.org commit -qm 'of the guest' made")
        self.assertIn("Subject: [PATCH] of the guest", self.banger("vm", "workspace", "export", "out", "--commits").stdout)
        subprocess.run(["git", "-C", str(repo), "commit", "-q", "--allow-empty", "-m", "more"], check=True,
                       env=self.stack.owner_environment() | {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
                       **self.stack.as_owner())
        self.assertIn("HEAD has moved in ", self.banger("vm", "exec", "out", "--", "true").stderr)
        synced = self.banger("vm", "exec", "out", "--sync", "--", "git", "log", "-1", "--format=%s")
        self.assertEqual((synced.stdout, "HEAD has moved" in synced.stderr), ("more\n", False))
        self.banger("vm", "delete", "--force", "out")

    def test_files_in_and_out(self):
        """Into a guest and out again all is as it was: modes, times, links, holes, names; without a tar there."""
        top = pathlib.Path(self.stack.owner.pw_dir) / "to copy"
        script = """set -e; umask 022
            mkdir -p "$1/sub"; cd "$1"; echo text > 'a b'; chmod 640 'a b'; ln 'a b' sub/hard; ln -s ../nowhere sub/link; truncate -s 64M holes
            echo data | dd of=holes bs=1M seek=40 conv=notrunc status=none; head -c 4000000 /dev/urandom > large; printf x > "$(printf 'new\\nline')"
            touch -d '2001-02-03 04:05:06.789' 'a b' sub; touch -hd 1969-12-31 sub/link; chmod 500 sub"""
        look = ["find", ".", "-mindepth", "1", "-printf", "%P %M %T@ %n %s %l\\0"]
        owner = {"env": self.stack.owner_environment(), **self.stack.as_owner()}
        subprocess.run(["sh", "-c", script, "sh", str(top)], check=True, cwd="/", **owner)
        self.banger("vm", "run", "--detach", "--name", "files")
        self.guest("files", "sh", "-c", "mv /usr/bin/tar /usr/bin/tar.away; mkdir /srv/in")
        self.assertEqual(self.banger("vm", "cp", str(top), "files:/srv/in").stderr, "")
        before = subprocess.run(look, cwd=top, check=True, capture_output=True, text=True, **owner).stdout
        there = self.guest("files", "sh", "-c", 'cd "/srv/in/to copy"; exec "$@"', "sh", *look)
        self.assertEqual(sorted(there.split("\0")), sorted(before.split("\0")))
        self.guest("files", "sh", "-ec", "cd '/srv/in/to copy'; echo guest > made; test $(stat -c %b holes) -lt 1000; mknod null c 1 3")
        back = top.with_name("back")
        self.assertEqual(self.banger("vm", "cp", "files:/srv/in/to copy", str(back)).stderr, "devices, sockets and pipes that were passed over: 1\n")
        self.assertEqual((back / "made").read_text(), "guest\n")
        (back / "made").unlink()
        after = subprocess.run(look, cwd=back, check=True, capture_output=True, text=True, **owner).stdout
        self.assertEqual(sorted(after.split("\0")), sorted(before.split("\0")))
        self.assertEqual((back / "large").read_bytes(), (top / "large").read_bytes())
        said = self.banger("vm", "cp", "files:/srv/none", str(back), status=None)
        self.assertIn("'/srv/none': No such file or directory", said.stderr)
        self.assertNotEqual(said.returncode, 0)
        self.banger("vm", "delete", "--force", "files")

    def _repository(self, name="a repo"):
        repo = pathlib.Path(self.stack.owner.pw_dir) / name
        script = """set -e
            git init -q -b main "$1"; cd "$1"
            echo first > tracked; echo '*.o' > .gitignore; mkdir -p sub/dir; echo deep > sub/dir/deep; ln -s tracked link
            git add -A; git -c user.name=t -c user.email=t@example.org commit -qm first
            echo changed > tracked; echo new > 'un tracked'; echo no > ignored.o"""
        subprocess.run(["sh", "-c", script, "sh", str(repo)], check=True, env=self.stack.owner_environment(), cwd="/",
                       **self.stack.as_owner())
        return repo


class Run(GuestTest):
    """What ends or refuses a run."""

    def test_interrupted(self):
        """Whoever ends `vm run --rm` in the middle finds nothing left as soon as it has ended."""
        cases = [(signal.SIGINT, "starting", ["true"]), (signal.SIGTERM, "running", ["sleep", "1000"])]
        for number, state, command in cases:
            with self.subTest(number.name):
                run = self.stack.start_banger("vm", "run", "--rm", "--name", "cut", "--", *command)
                self.wait_state("cut", state, BOOT_SECONDS)
                if state == "running":
                    time.sleep(3)  # ssh is on its way to the command, or there
                run.send_signal(number)
                _, err = run.communicate(timeout=60)
                self.assertEqual(run.returncode, 128 + number, err)
                self.assertIsNone(self.vm("cut"))
                self.assert_nothing_held()

    def test_manager_asked_to_end_in_the_middle_of_a_start(self):
        """It takes back what it has begun; who waited hears of it."""
        run = self.stack.start_banger("vm", "run", "--rm", "--name", "cut", "--", "true")
        self.wait_state("cut", "starting", 60)
        end = time.monotonic() + 60
        while not self.held()["VMMs"]:
            self.assertLess(time.monotonic(), end, "no VMM was launched")
            time.sleep(0.05)
        self.assertTrue(self.stack.kill("manager", signal.SIGTERM))
        self.assert_nothing_held()
        _, err = run.communicate(timeout=60)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("cancelled", err)
        self.stack.start_manager()
        self.assertIsNone(self.vm("cut"))

    def test_refused_before_anything_is_made(self):
        """A bad name, image, size or path; a verb on what is not there."""
        run = [["--name", "Not_A_Label"], ["--name", "-x"], ["--name", "a" * 64], ["--image", "no-such-image"],
               ["--memory", "4X"], ["--memory", "1"], ["--disk-size", "-1"], ["--vcpu", "0"], ["--vcpu", "many"],
               ["--vcpu", "100000"], ["/nonexistent"], ["/etc"]]
        bad = [["vm", "run", "--rm", *arguments, "--", "true"] for arguments in run] + [
            ["vm", "create", ""], ["vm", "create", "x", "--kernel", "no-such-kernel"], ["vm", "start", "nobody"],
            ["image", "import", "bad", "/etc/passwd"], ["image", "import", "bad", "/nonexistent"],
            ["image", "import", "Bad!", "/etc/passwd"], ["kernel", "import", "bad", "/etc/passwd"],
            ["kernel", "import", "bad", "/nonexistent"],
            ["vm", "delete", "nobody"], ["image", "delete", "nobody"], ["kernel", "delete", "nobody"]]
        before = self.objects()
        folders = sorted(self.stack.state.rglob("*"))
        for arguments in bad:
            with self.subTest(arguments):
                result = self.banger(*arguments, status=None, timeout=60)
                self.assertNotEqual(result.returncode, 0)
                self.assertTrue(result.stderr.strip())
                self.assertEqual(result.stdout, "")
        self.assertEqual({path for path in self.objects() if "/job/" not in path}, {path for path in before if "/job/" not in path})
        self.assertEqual(sorted(self.stack.state.rglob("*")), folders)
        self.assert_nothing_held()


class Life(GuestTest):
    def test_life_over_the_bus(self):
        """CreateVM, StartVM, StopVM, DeleteVM; jail, uid, capabilities; work disk over a restart."""
        self.stack.manager("CreateVM", "(sa{sv})", ("life", options(wait=True, vcpu=2)), timeout=600)
        self.assertEqual(self.vm("life")["State"], "stopped")
        self.stack.manager("StartVM", "(sa{sv})", ("life", options(wait=True)), timeout=BOOT_SECONDS)
        vm = self.vm("life")
        self.assertEqual(vm["State"], "running")
        self.assertTrue(vm["Address"].startswith(self.network()), vm["Address"])
        self._check_jail(vm)
        masked = "cd /run/systemd/system-generators; for link in *; do echo $(readlink $link) $link; done"
        idle = [f"/dev/null systemd-{name}-generator" for name in (
            "bless-boot", "cryptsetup", "debug", "gpt-auto", "hibernate-resume", "integritysetup", "rc-local", "run",
            "system-update", "veritysetup")]
        self.assertEqual(self.guest("life", "sh", "-c", masked).splitlines(), idle)
        self.guest("life", "sh", "-c", "echo kept > /root/file; echo root > /etc/own; echo '#!/bin/sh' > /etc/rc.local; "
                   "chmod +x /etc/rc.local; yes '0.0.0.0 advertising' | head -n 300000 >> /etc/hosts; sync")
        first = self.guest("life", "cat", "/proc/sys/kernel/random/boot_id").strip()
        self.banger("vm", "restart", "life")
        self.assertEqual(self.guest("life", "cat", "/root/file", "/etc/own"), "kept\nroot\n")
        # Longer than banger reads: nothing of it is lost.
        self.assertEqual(self.guest("life", "grep", "-c", "advertising", "/etc/hosts"), "300000\n")
        idle.remove("/dev/null systemd-rc-local-generator")
        self.assertEqual(self.guest("life", "sh", "-c", masked).splitlines(), idle)
        self.guest("life", "test", "-e", "/run/systemd/generator/multi-user.target.wants/rc-local.service")
        self.assertNotEqual(self.guest("life", "cat", "/proc/sys/kernel/random/boot_id").strip(), first)
        self.assertEqual(self.guest("life", "findmnt", "-no", "SOURCE", "/root").strip(), "/dev/vdb")
        self._check_pause()
        self.stack.manager("StopVM", "(sa{sv})", ("life", options(wait=True)), timeout=90)
        self.assertEqual(self.vm("life")["State"], "stopped")
        self.assert_nothing_held()
        self.stack.manager("DeleteVM", "(sa{sv})", ("life", options(wait=True)), timeout=60)
        self.assertIsNone(self.vm("life"))
        self.assertEqual(self._entries(self.stack.state / str(self.stack.owner.pw_uid) / "vms"), [])

    def _check_pause(self):
        """A guest that stands still does nothing, is found so by the next bangerd, and has the right time afterwards."""
        def uptime():
            return float(self.guest("life", "cat", "/proc/uptime").split()[0])

        since, up = time.monotonic(), uptime()
        self.banger("vm", "pause", "life")
        self.assertEqual(self.vm("life")["State"], "paused")
        self.assertIn("banger vm resume life", self.banger("vm", "exec", "life", "--", "true", status=None).stderr)
        self.stack.restart("manager")
        self.wait_state("life", "paused", 60)
        time.sleep(4)
        self.banger("vm", "resume", "life")
        self.assertLess(uptime() - up, time.monotonic() - since - 4, "it did not stand still")
        self._check_clock("life")
        self._check_suspension()
        self.banger("vm", "pause", "life")  # and is stopped in order below

    def _check_suspension(self):
        """To the disk and back: the same guest, its files, its time; and nothing is held meanwhile. A damaged one is not lost."""
        boot = self.guest("life", "cat", "/proc/sys/kernel/random/boot_id")
        self.guest("life", "sh", "-c", "echo before > /root/before; echo kept > /tmp/kept; sleep 3600 > /dev/null 2>&1 &"
                   " echo $! > /tmp/pid")
        folder = self.stack.state / str(self.stack.owner.pw_uid) / "vms" / self.vm("life")["Id"]
        saved = [folder / "suspended.state", folder / "suspended.memory"]
        times = []
        for _ in range(2):
            began = time.monotonic()
            self.banger("vm", "suspend", "life")
            times.append(f"suspended in {time.monotonic() - began:.2f} s")
            self.assertEqual(self.vm("life")["State"], "suspended")
            self.assert_nothing_held()
            owner = self.stack.owner.pw_uid
            self.assertEqual([(path.stat().st_uid, path.stat().st_mode & 0o777) for path in saved], [(owner, 0o600)] * 2)
            times.append(f"{saved[1].stat().st_size >> 20} MiB")
            self.stack.restart("helper")
            self.stack.restart("manager")
            self.wait_state("life", "suspended", 60)
            memory = saved[1].stat().st_size
            with open(saved[1], "r+b") as file:
                file.seek(memory // 2)
                byte = file.read(1)
                for what in (bytes([byte[0] ^ 1]), byte):
                    file.seek(memory // 2)
                    file.write(what)
                    file.flush()
                    if what != byte:
                        refused = self.banger("vm", "start", "life", status=None)
                        self.assertIn("damaged", refused.stderr)
                        self.assertIn("--discard", refused.stderr)
            began = time.monotonic()
            self.banger("vm", "start", "life")
            times.append(f"there again in {time.monotonic() - began:.2f} s")
            self.assertEqual(self.vm("life")["State"], "running")
            self.assertEqual(self.guest("life", "cat", "/proc/sys/kernel/random/boot_id", "/tmp/kept", "/root/before"),
                             boot + "kept\nbefore\n")
            self.guest("life", "sh", "-c", "kill -0 $(cat /tmp/pid)")
            self._check_clock("life")
            self.assertFalse(any(path.exists() for path in saved))
        print("# " + ", ".join(times), flush=True)

    def _check_clock(self, name):
        """Set to the host's, soon."""
        end = time.monotonic() + 60
        while True:
            before = time.time()
            told = float(self.guest(name, "date", "+%s.%N"))
            if before - 0.5 <= told <= time.time() + 0.5:
                return
            self.assertLess(time.monotonic(), end, f"the guest says {told}, it is {time.time()}")

    def _check_jail(self, vm):
        """The VMM: owner's uid, a group of its own, no capabilities, no new privileges, its own root, the cgroup of its lease."""
        pid = vm["Pid"]
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text(
            encoding="utf-8").splitlines() if ":\t" in line)
        owner = self.stack.owner
        self.assertEqual(status["Uid"].split(), [str(owner.pw_uid)] * 4)
        group, *others = {int(gid) for gid in status["Gid"].split()}
        self.assertEqual((others, status["Groups"].split()), ([], []))
        self.assertGreater(group, 1 << 30, "a group that nobody else is in")
        for field in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(int(status[field], 16), 0, field)
        self.assertEqual(status["NoNewPrivs"], "1")
        root, host = os.stat(f"/proc/{pid}/root"), os.stat("/")
        self.assertNotEqual((root.st_dev, root.st_ino), (host.st_dev, host.st_ino))
        self.assertFalse(os.path.exists(f"/proc/{pid}/root/etc/shadow"))
        cgroup = [line for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
                  if line.startswith("0::")]
        self.assertIn(vm["Id"], cgroup[0])
        self.assertIn(self.stack.name, cgroup[0])
        roots = self._root_processes_in(self.stack.cgroup())
        self.assertEqual(roots, [self.stack.pid("helper")], "only the helper runs as root")

    @staticmethod
    def _root_processes_in(cgroup):
        pids = [int(pid) for path, _, _ in os.walk(cgroup)
                for pid in pathlib.Path(f"{path}/cgroup.procs").read_text(encoding="ascii").split()]
        return [pid for pid in pids if os.stat(f"/proc/{pid}").st_uid == 0]

    def test_logs_and_lists(self):
        """The console log, ps and show tell of a running VM; the owner's own ssh knows it, too."""
        self.banger("vm", "run", "--name", "seen", "--detach")
        self.assertIn("seen", self.banger("ps").stdout)
        self.assertIn("running", self.banger("vm", "show", "seen").stdout)
        self.assertTrue(self.banger("vm", "logs", "seen").stdout.strip())
        self.banger("ssh-config", "--install", "-q")
        done = subprocess.run(["ssh", "seen.vm", "id -un; cat /proc/sys/kernel/hostname"], env=self.stack.owner_environment(), cwd="/",
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False, **self.stack.as_owner())
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "root\nseen\n", ""))
        again = self.banger("vm", "create", "seen", status=None)
        self.assertNotEqual(again.returncode, 0)
        self.assertIn("seen", again.stderr)
        self.guest("seen", "/usr/sbin/sshd", "-o", "ListenAddress=127.0.0.1", "-p", "8123")  # is there when this has ended
        ports = {row["port"]: row for row in json.loads(self.banger("vm", "ports", "seen", "--json").stdout)}
        self.assertEqual((ports[22]["process"], ports[22]["host"], ports[22]["protocol"]), ("sshd", "seen.vm:22", "tcp"))
        self.assertEqual((ports[8123]["process"], ports[8123]["address"], ports[8123]["host"]), ("sshd", "127.0.0.1", None))
        stats, = json.loads(self.banger("vm", "stats", "seen", "--json").stdout)
        self.assertTrue(0 < stats["guest_available_bytes"] < stats["guest_total_bytes"] <= self.vm("seen")["MemoryMiB"] << 20, stats)
        self.assertTrue(stats["guest_load"] >= 0 and stats["cpu_percent"] >= 0 and stats["cpu_us"] > 0 and stats["uptime_us"] > 0 and stats["work_bytes"] > 0, stats)
        said = self.banger("vm", "kill", "--signal", "WINCH", "seen", status=None)
        self.assertIn("signal 'WINCH' is not allowed: use TERM, KILL", said.stderr)
        self.assertEqual(self.vm("seen")["State"], "running")
        self.banger("vm", "kill", "--signal", "term", "seen")
        self.wait_state("seen", "stopped", 60)
        self.assert_nothing_held()

    def test_changed(self):
        """Another name at once, as ssh knows it; other sizes from the next start on, with what is in /root."""
        self.banger("vm", "run", "--name", "old", "--detach", "--memory", "512M")
        self.guest("old", "sh", "-c", "echo kept > /root/file; sync")
        said = self.banger("vm", "set", "old", "--name", "new")
        self.assertIn("old is called new now", said.stderr)
        self.assertIn("until it is booted again", said.stderr)
        self.assertIsNone(self.vm("old"))
        self.assertIn("is running: its memory", self.banger("vm", "set", "new", "--memory", "768M", status=None).stderr)
        self.banger("ssh-config", "--install", "-q")
        done = subprocess.run(["ssh", "new.vm", "cat /root/file"], env=self.stack.owner_environment(), cwd="/", stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, check=False, **self.stack.as_owner())
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "kept\n", ""))
        self.banger("vm", "stop", "new")
        self.banger("vm", "set", "new", "--memory", "768M", "--vcpu", "1", "--disk-size", "10G", "--no-nat")
        self.assertIn("only grows", self.banger("vm", "set", "new", "--disk-size", "9G", status=None).stderr)
        self.banger("vm", "start", "new")
        seen = self.guest("new", "sh", "-c", "nproc; hostname; cat /root/file; df -BG --output=size /root | tail -1; grep MemTotal /proc/meminfo")
        cpus, name, kept, size, memory = seen.splitlines()
        self.assertEqual((cpus, name, kept), ("1", "new", "kept"))
        self.assertIn(size.strip(), ("9G", "10G"))
        self.assertGreater(int(memory.split()[1]), 600 << 10)
        self.banger("vm", "kill", "new")
        self.assert_nothing_held()
        self.assertIn("no terminal to ask at", self.banger("vm", "prune", status=None).stderr)
        self.assertIsNotNone(self.vm("new"))
        self.banger("vm", "prune", "--force")
        self.assertIsNone(self.vm("new"))


if __name__ == "__main__":
    main()
