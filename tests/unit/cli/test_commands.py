#!/usr/bin/python3
"""What banger's commands do, against a mock manager: case.py.

Run by meson with BANGER, XML_DIR. Never touches the session bus of whoever runs it."""
import contextlib
import json
import os
import pathlib
import pty
import resource
import signal
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
from case import BANGER, Case  # noqa: E402


class Lifecycle(Case):
    def test_all_verbs(self):
        out, err = self.run_banger("vm", "create", "web", "--memory", "2G", "--vcpu=4", "--disk-size", "1.5G", "--no-nat",
                                   "--image", "default")
        self.assertEqual(out, "")
        self.assertRegex(err, r"^web: copying root disk  ?50%\nweb is created \(\d\.\d s\)\n$")
        self.assertEqual(self.calls("CreateVM")[0]["arguments"],
                         ["web", {"memory-mib": 2048, "vcpu": 4, "disk-bytes": 1610612736, "nat": False,
                                  "image": "default"}])
        self.run_banger("vm", "create", "out", "--nat")
        self.assertEqual(self.calls("CreateVM")[1]["arguments"], ["out", {"nat": True}])
        self.assertIn("exclude each other", self.run_banger("vm", "create", "x", "--nat", "--no-nat", status=2)[1])
        self.run_banger("vm", "delete", "out")
        self.run_banger("vm", "start", "web")
        self.assertEqual(self.vms()["web"]["state"], "running")
        out, err = self.run_banger("vm", "start", "web", status=75)
        self.assertEqual(err, "banger: cannot start web: web is running (op-00000003)\n")
        self.run_banger("vm", "restart", "web")
        self.assertRegex(self.run_banger("vm", "pause", "web")[1], r"web is paused \(\d\.\d s\)")
        self.assertIn("banger vm resume web", self.run_banger("vm", "exec", "web", "--", "true", status=75)[1])
        self.assertRegex(self.run_banger("vm", "resume", "web")[1], r"web goes on \(\d\.\d s\)")
        self.assertIn("cannot resume web: web is running", self.run_banger("vm", "resume", "web", status=75)[1])
        out, err = self.run_banger("vm", "delete", "web", status=75)
        self.assertIn("stop it first", err)
        self.run_banger("vm", "stop", "web", "-q")
        self.run_banger("vm", "start", "web")
        self.run_banger("vm", "kill", "web")
        self.run_banger("vm", "delete", "web")
        self.assertEqual(self.vms(), {})

    def test_kill(self):
        self.run_banger("vm", "create", "web", "--start")
        self.assertRegex(self.run_banger("vm", "kill", "--signal", "TERM", "web")[1], r"web was sent the signal \(\d\.\d s\)")
        self.assertEqual(self.vms()["web"]["state"], "running")
        self.assertIn("cannot signal web: signal 'WINCH' is not allowed", self.run_banger("vm", "kill", "-s", "WINCH", "web", status=2)[1])
        self.assertRegex(self.run_banger("vm", "kill", "--signal=KILL", "web")[1], r"web is killed")
        self.assertEqual([call["arguments"] for call in self.calls("KillVM")],
                         [["web", {"signal": word}] for word in ("TERM", "WINCH", "KILL")])
        self.assertEqual(self.vms()["web"]["state"], "stopped")

    def test_prune(self):
        self.assertEqual(self.run_banger("vm", "prune", "--json"), ("[]\n", ""))
        self.assertIn("no VM is stopped", self.run_banger("vm", "prune")[1])
        for name in ("a", "b", "runs", "sleeps"):
            self.run_banger("vm", "create", name, *(["--start"] if len(name) > 1 else []))
        self.run_banger("vm", "suspend", "sleeps")
        out, err = self.run_banger("vm", "prune", status=2)
        self.assertEqual([line.split()[0] for line in out.splitlines()[1:]], ["a", "b"])
        self.assertIn("no terminal to ask at", err)
        self.assertIn("--json asks nobody", self.run_banger("vm", "prune", "--json", status=2)[1])
        self.assertEqual([vm["name"] for vm in json.loads(self.run_banger("vm", "prune", "--json", "--dry-run")[0])], ["a", "b"])
        self.assertEqual(self.run_banger("vm", "prune", "--dry-run", "-f")[0], out)
        self.assertEqual(self.calls("DeleteVM"), [])
        for answer, status, left in (("n", 1, 4), ("", 1, 4), ("y", 0, 2)):
            self.assertIn("Delete 2 VMs with their disks and snapshots? [y/N]", self.at_terminal(answer, status, "vm", "prune"))
            self.assertEqual(len(self.vms()), left)
        self.assertEqual(set(self.vms()), {"runs", "sleeps"})
        self.run_banger("vm", "create", "c")
        out, err = self.run_banger("vm", "prune", "--force", "--json", "-q")
        self.assertEqual(([vm["name"] for vm in json.loads(out)], err), (["c"], ""))
        self.assertEqual(set(self.vms()), {"runs", "sleeps"})

    def test_prune_keeps_what_was_started_meanwhile(self):
        for name in ("a", "b"):
            self.run_banger("vm", "create", name)

        def meanwhile():
            self.run_banger("vm", "start", "a")
            self.run_banger("vm", "stop", "a")

        self.assertIn("was started since", self.at_terminal("y", 75, "vm", "prune", meanwhile=meanwhile))
        self.assertEqual(self.vms()["a"]["starts"], 1)
        self.assertEqual(set(self.vms()), {"a"})

    def at_terminal(self, answer, status, *words, meanwhile=None):
        """What banger shows there when that line is typed."""
        master, slave = pty.openpty()
        process = subprocess.Popen([BANGER, *words], env=self.env, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(master, 4096)
        if meanwhile:
            meanwhile()
        os.write(master, answer.encode() + b"\n")
        try:
            while chunk := os.read(master, 4096):
                seen += chunk
        except OSError:  # its last process has ended
            pass
        os.close(master)
        self.assertEqual(process.wait(60), status, seen)
        return seen.decode()

    def test_ports(self):
        self.run_banger("vm", "create", "web", "--start")
        self.run_banger("vm", "create", "off")
        out, err = self.run_banger("vm", "ports")
        self.assertEqual(([line.split() for line in out.splitlines()], err), ([
            ["VM", "PROTOCOL", "ADDRESS", "PORT", "PROCESS", "HOST", "URL"],
            ["web", "tcp", "0.0.0.0", "22", "sshd", "web.vm:22", "-"],
            ["web", "tcp", "::", "8080", "\\x1b[2Jnode", "web.vm:8080", "http://web.vm:8080/"],
            ["web", "tcp", "127.0.0.1", "80", "nginx", "-", "-"],
            ["web", "udp", "0.0.0.0", "68", "-", "web.vm:68", "-"]], ""))
        rows = json.loads(self.run_banger("vm", "ports", "web", "--json")[0])
        self.assertEqual(rows[1], {"vm": "web", "protocol": "tcp", "address": "::", "port": 8080, "pid": 2, "process": "\\x1b[2Jnode",
                                   "host": "web.vm:8080", "url": "http://web.vm:8080/"})
        self.assertEqual((rows[2]["host"], rows[2]["url"]), (None, None))
        out, err = self.run_banger("vm", "ports", "off", "web", status=75)
        self.assertIn("cannot list the ports of off: off is stopped", err)
        self.assertIn("web.vm:22", out)
        self.run_banger("vm", "ports", "nope", status=66)

    def test_stats(self):
        for name in ("silent", "web", "still"):
            self.run_banger("vm", "create", name, "--start")
        self.run_banger("vm", "create", "off")
        self.run_banger("vm", "pause", "still")
        out, err = self.run_banger("vm", "stats")
        rows = [line.split("  ") for line in out.splitlines()]
        rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
        self.assertEqual((rows[0], err), (["VM", "STATE", "CPU", "VMM MEMORY", "GUEST MEMORY", "LOAD", "ROOT", "WORK", "RECEIVED", "SENT", "UPTIME"], ""))
        self.assertEqual([row[0] for row in rows[1:]], ["silent", "still", "web"])
        self.assertEqual(rows[3][3:], ["300 MiB", "512 MiB / 1 GiB", "0.50", "-", "5 MiB", "2 KiB", "0 B", "1:02:05"])
        self.assertEqual(rows[1][4:6], ["-", "-"])
        self.assertLess(abs(float(rows[3][2].rstrip("%")) - 50), 1)
        self.assertEqual([call["arguments"][0] for call in self.calls("ListStats")],
                         [{"guest": guest, "vms": ["silent", "still", "web"]} for guest in (False, True)])
        web, off = json.loads(self.run_banger("vm", "stats", "web", "off", "--json")[0])
        self.assertEqual((web["guest_load"], web["guest_available_bytes"], web["root_bytes"], web["vmm_memory_bytes"]), (0.5, 1 << 29, None, 300 << 20))
        self.assertEqual((off["state"], off["cpu_percent"], off["uptime_us"], off["work_bytes"]), ("stopped", None, None, 5 << 20))
        twice = json.loads(self.run_banger("vm", "stats", "web", "web", "--json")[0])
        self.assertEqual([(row["vm"], row["state"]) for row in twice], [("web", web["state"])])
        self.run_banger("vm", "stats", "nope", status=66)
        with subprocess.Popen([BANGER, "vm", "stats", "web", "--watch", "--json"], env=self.env, stdout=subprocess.PIPE) as process:
            lines = [json.loads(process.stdout.readline()) for _ in range(2)]
            process.terminate()
        self.assertEqual([line[0]["vm"] for line in lines], ["web", "web"])
        self.assertLess(abs(lines[1][0]["cpu_percent"] - 50), 1)

    def test_set(self):
        self.run_banger("vm", "create", "web")
        self.assertEqual(self.run_banger("vm", "set", "web", "--memory", "2G", "--vcpu", "4", "--disk-size", "20G", "--no-nat", "-q"), ("", ""))
        self.assertRegex(self.run_banger("vm", "set", "web", "--name", "shop")[1], r"web is called shop now \(\d\.\d s\)")
        self.assertRegex(self.run_banger("vm", "set", "shop", "--nat")[1], r"shop is changed")
        script = self.state / "mended.sh"
        script.write_text("true\n")
        self.run_banger("vm", "set", "shop", "--setup", str(script), "-q")
        self.run_banger("vm", "set", "shop", "--setup", "/dev/null", status=2)
        self.assertEqual([call["arguments"] for call in self.calls("SetVM")],
                         [["web", {"vcpu": 4, "memory-mib": 2048, "disk-bytes": 20 << 30, "nat": False}], ["web", {"name": "shop"}],
                          ["shop", {"nat": True}], ["shop", {"setup": "true\n"}]])
        self.run_banger("vm", "create", "bare", "--no-publish", "--publish", "8080:80")
        self.assertEqual(self.calls("CreateVM")[-1]["arguments"], ["bare", {"no-publish": True, "publish": ["8080:80"]}])
        self.assertEqual(self.vms()["shop"]["memory_mib"], 2048)
        self.run_banger("vm", "set", "shop", "--link", "a", "--link", "b", "--unlink", "c", "--allow-host", "80", "--deny-host", "443", "-q")
        self.assertEqual(self.calls("SetVM")[-1]["arguments"],
                         ["shop", {"link": ["a", "b"], "unlink": ["c"], "allow-host": ["80"], "deny-host": ["443"]}])
        self.run_banger("vm", "create", "app", "--link", "shop", "--allow-host", "8000")
        self.assertEqual((self.vms()["app"]["links"], self.vms()["app"]["host_ports"]), (["shop"], ["8000"]))
        self.assertIn("nothing is to change", self.run_banger("vm", "set", "shop", status=2)[1])
        self.assertIn("exclude each other", self.run_banger("vm", "set", "shop", "--nat", "--no-nat", status=2)[1])
        self.assertIn("VM name", self.run_banger("vm", "set", "shop", "--name", "a b", status=2)[1])
        self.assertIn("whole number of MiB", self.run_banger("vm", "set", "shop", "--memory", "999999999", status=2)[1])
        self.assertIn("cannot change nope", self.run_banger("vm", "set", "nope", "--nat", status=66)[1])
        self.assertEqual(len(self.calls("SetVM")), 6)

    def test_several_names_and_one_failure(self):
        self.run_banger("vm", "create", "a")
        self.run_banger("vm", "create", "b")
        out, err = self.run_banger("vm", "start", "a", "nope", "b", status=66)
        self.assertIn('cannot start nope: there is no VM "nope" (op-00000001)', err)
        self.assertEqual({n: v["state"] for n, v in self.vms().items()}, {"a": "running", "b": "running"})
        self.run_banger("vm", "delete", "-f", "a", "b")
        self.assertEqual(self.vms(), {})

    def test_quiet(self):
        self.assertEqual(self.run_banger("vm", "create", "web", "--start", "--quiet"), ("", ""))

    def test_usage(self):
        for words, named in [(["vm", "create"], "NAME is missing"), (["vm", "create", "Web"], "Web"),
                             (["vm", "create", "web", "--memory", "12Q"], "12Q"),
                             (["vm", "create", "web", "--memory", "1000000"], "1000000"),
                             (["vm", "create", "web", "--vcpu", "0"], "0"), (["vm", "start", "a", "--fast"], "--fast"),
                             (["vm", "exec", "web"], "behind --"), (["image", "import", "x", "/nope"], "/nope"),
                             (["kernel", "import", "x", "linux"], "apt:linux"), (["completion", "tcsh"], "tcsh"),
                             (["vm", "strat"], "vm start"), (["imgae", "list"], "image"), (["help", "vm", "rnu"], "vm run"),
                             (["vm", "run", "ls"], "banger vm run -- ls"), (["vm", "run", "/dev/null"], "/dev/null"),
                             (["vm", "run", "--rm", self.dir.name], "git init"), (["vm", "run", "ls", "-la"], "behind --"),
                             (["vm", "run", "--name", "a.b"], "a.b"), (["vm", "run", "--rm", "--detach"], "--detach")]:
            with self.subTest(words=words):
                out, err = self.run_banger(*words, status=2)
                self.assertEqual(out, "")
                self.assertTrue(err.startswith("banger: "), err)
                self.assertIn(named, err)
        made = [c["method"] for c in self.calls()] if (self.state / "calls").exists() else []
        self.assertEqual(set(made) - {"CheckWorkspace"}, set())


class Run(Case):
    AWKWARD = ["", " ", "a b", "'", '"', "\\", "$HOME", "`id`", "new\nline", "*", "~", "--cwd", "-x", "ä€", "a;b", "%00", "#"]

    def test_arguments_and_status(self):
        script = "import os, sys\nfor a in sys.argv[1:]: print(ascii(a))\nprint('err', file=sys.stderr)\nsys.exit(7)"
        out, err = self.run_banger("vm", "run", "--rm", "-q", "--", "/usr/bin/python3", "-c", script, *self.AWKWARD, status=7)
        self.assertEqual(out.splitlines(), [ascii(a) for a in self.AWKWARD])
        self.assertEqual(err, "err\n")
        self.assertEqual(self.vms(), {})
        create, delete = self.calls("CreateVM", "DeleteVM")
        self.assertEqual(create["arguments"][1], {"start": True, "ephemeral": True, "follow": True})
        self.assertEqual(delete["arguments"][1], {"force": True})

    def test_strict_ssh(self):
        self.run_banger("vm", "run", "--name", "web", "--", "true")
        argv = self.ssh_argv()[0]
        vm = self.vms()["web"]
        self.assertEqual([argv[i + 1] for i, word in enumerate(argv) if word == "-F"], ["none"])
        options = {argv[i + 1].split("=")[0]: argv[i + 1].split("=", 1)[1] for i, w in enumerate(argv) if w == "-o"}
        self.assertEqual(options["UserKnownHostsFile"], f'"{self.dir.name}/known hosts"')
        self.assertEqual(options["IdentityFile"], f'"{self.dir.name}/key"')
        self.assertEqual(options["HostKeyAlias"], vm["host_key_alias"])
        for key, value in {"StrictHostKeyChecking": "yes", "BatchMode": "yes", "IdentitiesOnly": "yes",
                           "GlobalKnownHostsFile": "none"}.items():
            self.assertEqual(options[key], value)
        self.assertEqual(argv[-4:], ["banger-exec@10.213.0.5", "/run/banger/guest", "exec", "true"])
        self.assertIn("-T", argv)

    def test_stdin_passes(self):
        out, _ = self.run_banger("vm", "run", "--rm", "--", "tr", "a-z", "A-Z", stdin=b"abc\0def")
        self.assertEqual(out, "ABC\0DEF")

    def test_without_an_ssh_server(self):
        """What gets in is named, and what does not says why."""
        self.run_banger("vm", "create", "bare", "--image", "bare", "--start")
        _, err = self.run_banger("vm", "ssh", "bare", status=None)
        self.assertIn("bare had no ssh server when it started: `banger vm exec bare -- COMMAND` works without one", err)
        _, err = self.run_banger("vm", "run", "--name", "bare2", "--image", "bare", "--", "true", status=None)
        self.assertIn("bare2 goes on running: `banger vm exec bare2 -- COMMAND`", err)
        self.assertNotIn("vm ssh", err)

    def test_kept_without_rm(self):
        out, err = self.run_banger("vm", "run", "--name", "web", "--", "true")
        self.assertEqual(out, "")
        self.assertIn("web goes on running: ", err)
        self.assertEqual(self.vms()["web"]["state"], "running")
        self.assertEqual(self.run_banger("vm", "exec", "web", "--", "echo", "a  b")[0], "a  b\n")
        self.assertEqual(self.run_banger("vm", "ssh", "web", "--", "sh", "-c", "exit 255", status=255), ("", ""))
        self.run_banger("vm", "stop", "web")
        self.assertIn("banger vm start web", self.run_banger("vm", "exec", "web", "--", "true", status=75)[1])

    def test_workspace(self):
        repo = self.repo()
        (repo / "sub").mkdir()
        for path, folder in (repo, "My Repo"), (repo / "sub", "My Repo/sub"):
            out, err = self.run_banger("vm", "run", "--rm", "-q", str(path), "--", "echo", "hi")
            self.assertEqual((out, err), ("hi\n", f"cwd /root/{folder}\n"))
        first = self.calls("ImportWorkspace")[0]["arguments"]
        self.assertEqual(first[1:], [str(repo), {}])
        self.assertRegex(first[0], "^my-repo-[0-9a-f]{6}$")
        subprocess.run([BANGER, "vm", "run", "--rm", "-q", "."], env=self.env, cwd=repo, check=True, stdin=subprocess.DEVNULL)
        self.assertEqual(self.calls("ImportWorkspace")[2]["arguments"][1], f"{repo}/.")

    def test_help_of_three_words(self):
        """Of the words that begin several commands: those, and no others."""
        for line in (["vm", "workspace", "--help"], ["help", "vm", "workspace"]):
            out, _ = self.run_banger(*line)
            self.assertIn("  vm workspace export\n", out)
            self.assertNotIn("vm run", out)

    def test_what_of_a_workspace(self):
        """Options of a tree, for a new VM and for one that runs; what would go is only shown."""
        repo = self.repo()
        (repo / "a\nb").touch()
        (repo / "file").touch()
        words = ["--branch", "try", "--from", "v1", "--tracked-only", "--depth", "3"]
        options = {"branch": "try", "from": "v1", "tracked-only": True, "depth": 3}
        self.run_banger("vm", "run", "-q", "--name", "web", "--detach", str(repo), *words)
        self.run_banger("vm", "workspace", "prepare", "web", str(repo / "."), *words)
        for call in self.calls("ImportWorkspace") + self.calls("CheckWorkspace"):
            self.assertEqual(call["arguments"][-1], options)
        self.assertEqual(len(self.calls("ImportWorkspace")), 2)
        for first in (["vm", "run"], ["vm", "workspace", "prepare", "web"]):
            out, err = self.run_banger(*first, str(repo), "--dry-run", "--tracked-only")
            self.assertEqual(out, "a\\x0ab\nfile\n")
            self.assertIn("2 files would go to /root/My Repo\n", err)
        self.assertEqual((len(self.calls("ImportWorkspace")), len(self.calls("CreateVM"))), (2, 1))
        self.assertIn("no work tree was sent into web", self.run_banger("vm", "workspace", "prepare", "web", status=None)[1])
        for line in (["--branch", "try"], ["--dry-run"], ["--tracked-only"], [str(repo), "--from", "v1"], ["--depth", "1"], ["--no-git"],
                     *([str(repo), "--no-git", *more] for more in (["--branch", "x"], ["--depth", "0"], ["--tracked-only"])),
                     *([str(repo), "--depth", depth] for depth in ("", "-1", "1.5", "2147483648", "some"))):
            self.run_banger("vm", "run", *line, status=2)
        for words, options in ((["--depth", "0"], {"depth": 0}), (["--depth", "all"], {"depth": 0}), ([], {}), (["--depth", "2147483647"], {"depth": 2147483647}), (["--no-git"], {"no-git": True})):
            self.run_banger("vm", "workspace", "prepare", "web", str(repo), *words)
            self.assertEqual(self.calls("ImportWorkspace")[-1]["arguments"][-1], options)

    def test_dry_run_says_no_to_the_same(self):
        repo = str(self.repo())
        for words, said in ((["--name", "A B"], "VM name 'A B' is not allowed"), (["--detach", "--rm"], "--detach leaves the VM"), (["--nat", "--no-nat"], "exclude each other"),
                            (["--no-stdin"], "--no-stdin is for a command")):
            self.assertIn(said, self.run_banger("vm", "run", "--dry-run", *words, repo, status=2)[1])

    def test_from_a_directory_that_is_gone(self):
        """What is named from there on names nothing; the rest works."""
        for words in ("vm run .", "vm run --dry-run sub", "vm workspace prepare web .", "image import x .", "image import x oci:layout", "kernel import x ./vmlinux"):
            done = subprocess.run(["sh", "-c", f'mkdir gone; cd gone; rmdir ../gone; exec "$0" {words}', BANGER], env=self.env, cwd=self.state, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, check=False, timeout=60)
            if "web" in words:
                self.assertEqual(done.returncode, 66, done)
                continue
            self.assertEqual(done.returncode, 2, done)
            self.assertIn("the directory that you are in: No such file or directory", done.stderr)
        self.assertEqual(self.calls("CreateVM", "ImportImage", "ImportKernel"), [])

    def test_on_its_way(self):
        """Who is to wait is not told to start it."""
        self.run_banger("vm", "create", "going-web", "--start", "-q", status=None)
        for words in (["ssh", "going-web"], ["exec", "going-web", "--", "true"], ["cp", "going-web:/x", "."], ["workspace", "diff", "going-web"]):
            self.assertIn("going-web is deleting: wait for it", self.run_banger("vm", *words, status=75)[1])

    def test_workspace_is_checked_first(self):
        unusable = self.repo().rename(self.repo().parent / "unusable")
        out, err = self.run_banger("vm", "run", "--rm", str(unusable), "--", "true", status=2)
        self.assertIn("git cannot use", err)
        self.assertEqual(self.calls("CreateVM"), [])
        borrower = unusable.rename(unusable.parent / "borrower")
        out, err = self.run_banger("vm", "run", "--rm", "-q", str(borrower), "--", "echo", "hi")
        self.assertEqual((out, err), ("hi\n", "warning: the history of it stays behind: a reason\ncwd /root/borrower\n"))

    def test_detach(self):
        out, err = self.run_banger("vm", "run", "--detach", "-q")
        self.assertEqual(list(self.vms()), [out.strip()])
        self.assertFalse((self.state / "ssh").exists())

    def test_start_fails(self):
        out, err = self.run_banger("vm", "run", "--rm", "--name", "fail-a", "--", "true", status=70)
        self.assertTrue(err.endswith("banger: cannot run fail-a: cannot find a CPU (op-0badcafe)\n"), err)
        out, err = self.run_banger("vm", "run", "--rm", "--name", "broken-a", "--", "true", status=70)
        self.assertEqual(self.vms(), {})
        out, err = self.run_banger("vm", "run", "--name", "broken-b", "--", "true", status=70)
        self.assertIn("broken-b is kept: ", err)
        self.assertEqual(list(self.vms()), ["broken-b"])
        out, err = self.run_banger("vm", "run", "--name", "fail-b", "--", "true", status=70)
        self.assertNotIn("is kept", err)

    def test_start_fails_and_it_is_being_deleted(self):
        """The manager rids itself of it: that needs no word."""
        out, err = self.run_banger("vm", "run", "--rm", "--name", "going-a", "--", "true", status=70)
        self.assertTrue(err.endswith("banger: cannot run going-a: cannot find a CPU (op-0badcafe)\n"), err)
        self.assertNotIn("delete", err)

    def test_name_taken_is_not_deleted(self):
        self.run_banger("vm", "create", "web")
        out, err = self.run_banger("vm", "run", "--rm", "--name", "web", "--", "true", status=73)
        self.assertIn("(op-00000002)", err)
        self.assertEqual(list(self.vms()), ["web"])

    def test_job_faster_than_its_answer(self):
        self.run_banger("vm", "run", "--rm", "--name", "hasty-a", "--", "true")
        self.assertEqual(self.vms(), {})

    def test_stage_faster_than_the_answer(self):
        self.run_banger("vm", "run", "--rm", "--name", "eager-a", "--", "true")
        self.assertEqual(self.vms(), {})
        self.run_banger("vm", "run", "--rm", "--name", "eagerfail-a", "--", "true", status=70)
        self.assertEqual(self.vms(), {})

    def test_the_rest_of_a_deletion_is_not_waited_for(self):
        """Once it is recorded: it is the manager's alone."""
        (self.state / "lingering").touch()
        self.run_banger("vm", "run", "--rm", "--", "true")
        self.assertEqual((len(self.calls("DeleteVM")), len(self.vms())), (1, 1))

    def test_manager_lost(self):
        out, err = self.run_banger("vm", "run", "--name", "lost-a", "--", "true", status=1)
        self.assertIn("bangerd", err)

    def test_lost_connection(self):
        out, err = self.run_banger("vm", "run", "--rm", "--", "true", status=70, FAKE_SSH_LOSE="1")
        self.assertRegex(err, "the connection to .* was lost: .*Broken pipe")
        out, err = self.run_banger("vm", "run", "--rm", "--", "true", status=70, FAKE_SSH_REFUSE="1")
        self.assertRegex(err, "cannot connect to .*: .*Connection refused")
        self.assertEqual(self.vms(), {})


class RealGuest(Case):
    """The same with banger-guest itself behind the fake ssh."""

    def setUp(self):
        super().setUp()
        self.env["FAKE_GUEST"] = os.environ["BANGER_GUEST"]
        self.run_banger("vm", "create", "web", "--start", "-q")

    def test_exec(self):
        script = "import sys\nfor a in sys.argv[1:]: print(ascii(a))"
        out, err = self.run_banger("vm", "exec", "web", "--", "/usr/bin/python3", "-c", script, *Run.AWKWARD)
        self.assertEqual((out.splitlines(), err), ([ascii(a) for a in Run.AWKWARD], ""))
        self.assertEqual(self.run_banger("vm", "exec", "web", "--cwd", self.dir.name, "--", "pwd")[0], self.dir.name + "\n")
        for command, status in [("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -INT $$", 130)]:
            self.assertEqual(self.run_banger("vm", "exec", "web", "--", "sh", "-c", command, status=status), ("", ""))
        self.assertIn("nonesuch", self.run_banger("vm", "exec", "web", "--", "nonesuch", status=127)[1])
        self.assertIn("/etc", self.run_banger("vm", "exec", "web", "--", "/etc", status=126)[1])
        self.assertIn("/nope", self.run_banger("vm", "exec", "web", "--cwd", "/nope", "--", "true", status=125)[1])
        self.assertEqual(self.run_banger("vm", "exec", "web", "--", "head", "-c2", stdin=b"abcd" * 100000)[0], "ab")


class Interrupted(Case):
    def interrupt(self, words, number, when, expected, times=1):
        process = subprocess.Popen([BANGER, *words], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, text=True)
        deadline = time.monotonic() + 60
        while not when():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.2)  # two that are pending at a time are one
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, expected, err)
        return out, err

    def created(self):
        return (self.state / "calls").exists() and self.calls("CreateVM")

    def test_while_booting(self):
        out, err = self.interrupt(["vm", "run", "--rm", "--name", "slow-a", "--", "true"], signal.SIGINT, self.created, 130)
        self.assertIn("cancelled", err)
        self.assertEqual(self.vms(), {})
        self.assertEqual(len(self.calls("Cancel")), 1)

    def test_impatience_leaves_nothing_behind(self):
        """Two signals before the manager has answered: it is still cancelled, and what it made thrown away."""
        words = ["vm", "run", "--rm", "--name", "late-a", "--", "true"]
        self.interrupt(words, signal.SIGINT, self.created, 130, times=2)
        self.assertEqual(self.vms(), {})
        self.assertEqual(len(self.calls("Cancel")), 1)

    def test_while_the_command_runs(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            (self.state / "started").unlink(missing_ok=True)
            words = ["vm", "run", "--rm", "-q", "--", "sh", "-c", f"touch '{self.dir.name}/started'; exec sleep 20"]
            self.interrupt(words, number, (self.state / "started").exists, 128 + number)
            self.assertEqual(self.vms(), {})

    def test_start_is_cancelled(self):
        out, err = self.interrupt(["vm", "create", "--start", "slow-a"], signal.SIGTERM, self.created, 143)
        self.assertIn("cannot create slow-a: cancelled (op-", err)


    def test_between_ready_and_the_session(self):
        """The one Ctrl-C that comes while the VM is looked at, before there is an ssh."""
        slow = self.state / "hold-GetVM"
        slow.touch()
        words = ["vm", "run", "--rm", "-q", "--name", "a", "--", "sh", "-c", f"touch '{self.dir.name}/ran'"]
        self.interrupt(words, signal.SIGINT, lambda: self.created() and self.calls("GetVM"), 130)
        self.assertFalse((self.state / "ran").exists())
        self.assertEqual(self.vms(), {})

    def test_stopped_and_interrupted(self):
        """Ctrl-Z, then Ctrl-C: ssh ends by the signal before banger has read its own."""
        for _ in range(5):
            (self.state / "started").unlink(missing_ok=True)
            process = subprocess.Popen([BANGER, "vm", "run", "--rm", "-q", "--", "sh", "-c",
                                        f"touch '{self.dir.name}/started'; exec sleep 20"], env=self.env,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                                       start_new_session=True)
            deadline = time.monotonic() + 60
            while not (self.state / "started").exists():
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)
            child = int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
            os.kill(process.pid, signal.SIGSTOP)
            os.killpg(process.pid, signal.SIGINT)
            while pathlib.Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGCONT)
            _, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130, err)


class Ended(Case):
    """What becomes of a session whose VM ends."""

    def session(self, *words, start=None):
        self.run_banger("vm", "create", "web", "--start", "-q")
        process = subprocess.Popen([BANGER, *(words or ("vm", "exec", "web", "--", "sh", "-c",
                                                        f"touch '{self.dir.name}/started'; exec sleep 1000"))],
                                   env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                   text=True)
        deadline = time.monotonic() + 60
        while not (self.state / "started").exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        (self.state / "started").unlink()
        return process

    def ends(self, process, text):
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out, err), (70, "", f"banger: {text}\n"))
        self.run_banger("vm", "delete", "-f", "web", "-q", status=None)

    def test_vm_ends(self):
        for verb, text in ((["kill"], "web was stopped meanwhile"), (["stop"], "web was stopped meanwhile"),
                           (["delete", "-f"], "web was deleted meanwhile")):
            process = self.session()
            self.run_banger("vm", *verb, "web", "-q")
            self.ends(process, text)

    def test_ssh_that_misses_a_signal(self):
        script = f"trap '' INT TERM HUP; touch '{self.dir.name}/started'; exec sleep 1000"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.session("vm", "exec", "web", "--", "sh", "-c", script)
            process.send_signal(number)
            process.communicate(timeout=60)
            self.assertEqual(process.returncode, 128 + number)
            self.run_banger("vm", "delete", "-f", "web", "-q")

    def test_manager_says_why(self):
        process = self.session()
        (self.state / "reason-web").write_text("the VMM was ended by signal 9")
        self.run_banger("vm", "kill", "web", "-q")
        self.ends(process, "web has ended: the VMM was ended by signal 9")

    def test_manager_is_away_meanwhile(self):
        process = self.session()
        self.mock.kill()
        self.mock.wait()
        time.sleep(0.3)
        self.assertIsNone(process.poll())
        self.start_mock()  # it knows of no VM
        self.ends(process, "web was deleted meanwhile")

    def test_killed_client_takes_ssh_along(self):
        process = self.session()
        child = int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        deadline = time.monotonic() + 60
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has gone
            while " Z " not in pathlib.Path(f"/proc/{child}/stat").read_text():
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)

    def test_too_long_is_refused_before_anything_is_made(self):
        words = ["x" * 100000] * 30
        done = subprocess.run(["sh", "-c", 'ulimit -s unlimited; exec "$@"', "sh", BANGER, "vm", "run", "--rm", "--", "true",
                               *words], env=self.env, capture_output=True, check=False, timeout=60,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (64 << 20,) * 2))
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(b"3000004 bytes", done.stderr)
        self.assertEqual(self.calls(), [])


class Inherited(Case):
    """What whoever starts banger has left open, closed, blocked and ignored."""

    def launch(self, words, before, **kwargs):
        return subprocess.run([BANGER, *words], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                              check=False, preexec_fn=before, **kwargs)

    def test_closed_streams(self):
        """Their numbers are given to nobody else: not to a socket, not to the signalfd."""
        done = self.launch(["image", "import", "x", "-"], lambda: os.close(0))
        self.assertEqual((done.returncode, done.stdout), (2, b""), done)
        self.assertIn(b"stdin is closed", done.stderr)
        self.assertEqual(self.calls() if (self.state / "calls").exists() else [], [])
        self.run_banger("vm", "create", "web", "--start", "-q")
        self.assertEqual(self.launch(["vm", "exec", "web", "--", "cat"], lambda: os.close(0)).returncode, 0)
        done = self.launch(["vm", "list"], lambda: os.close(1))
        self.assertEqual(done.returncode, 1, done)
        self.assertIn(b"cannot write to stdout: Bad file descriptor", done.stderr)
        self.assertEqual(self.launch(["vm", "list"], lambda: os.close(2)).returncode, 0)
        self.assertEqual(self.launch(["vm", "stop", "web"], lambda: os.closerange(0, 3)).returncode, 0)

    def test_closed_streams_are_devnull(self):
        process = subprocess.Popen([BANGER, "vm", "create", "--start", "slow-a"], env=self.env,
                                   preexec_fn=lambda: os.closerange(0, 3))
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 60
        while not (self.state / "calls").exists() or not self.calls("CreateVM"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.assertEqual([os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)], ["/dev/null"] * 3)

    def test_ignored_children(self):
        self.run_banger("vm", "create", "web", "--start", "-q")
        done = self.launch(["vm", "exec", "web", "--", "sh", "-c", "exit 3"],
                           lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        self.assertEqual(done.returncode, 3, done)


if __name__ == "__main__":
    unittest.main(verbosity=2)
