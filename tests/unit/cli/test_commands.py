#!/usr/bin/python3
"""banger against a mock manager that serves introspection/*.xml, on a private bus, with a fake ssh.

Run by meson with BANGER, XML_DIR. Never touches the session bus of whoever runs it."""
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).parent
BANGER = os.environ["BANGER"]
XML_DIR = os.environ["XML_DIR"]


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="banger-cli-")
        self.addCleanup(self.dir.cleanup)
        self.state = pathlib.Path(self.dir.name)
        bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--print-address=1",
                                f"--address=unix:path={self.dir.name}/bus"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(self.end, bus)
        tools = self.state / "bin"
        tools.mkdir()
        (tools / "ssh").symlink_to(HERE / "fake_ssh.py")
        self.env = {"PATH": f"{tools}:/usr/bin:/bin", "DBUS_SESSION_BUS_ADDRESS": bus.stdout.readline().strip(),
                    "LC_ALL": "C.UTF-8", "FAKE_SSH_LOG": str(self.state / "ssh"), "HOME": self.dir.name,
                    "FAKE_GUEST": str(HERE / "fake_guest.py"), "TERM": "xterm", "TZ": "UTC",
                    "BANGER_CONFIG": str(self.state / "install.toml")}
        self.env.update({k: v for k, v in os.environ.items() if k in ("ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS")})
        self.mock = None
        self.start_mock()

    def start_mock(self):
        self.mock = subprocess.Popen([sys.executable, HERE / "mock_manager.py", XML_DIR, self.dir.name], env=self.env,
                                     stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end, self.mock)
        self.assertEqual(self.mock.stdout.readline().strip(), "ready")

    @staticmethod
    def end(process):
        process.kill()
        process.wait()
        process.stdout.close()

    def run_banger(self, *words, status=0, stdin=b"", **env):
        done = subprocess.run([BANGER, *words], env={**self.env, **env}, input=stdin, capture_output=True, timeout=30,
                              check=False)
        self.assertEqual(done.returncode, status, done)
        return done.stdout.decode(), done.stderr.decode()

    def calls(self, *methods):
        lines = (self.state / "calls").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [row for row in rows if row["method"] in methods or not methods]

    def vms(self):
        return {vm["name"]: vm for vm in json.loads(self.run_banger("vm", "list", "--json")[0])}

    def ssh_argv(self):
        return [json.loads(line) for line in (self.state / "ssh").read_text().splitlines()]

    def repo(self, name="My Repo"):
        path = self.state / name
        subprocess.run(["git", "init", "-q", path], check=True)
        return path


class Lifecycle(Case):
    def test_all_verbs(self):
        out, err = self.run_banger("vm", "create", "web", "--memory", "2G", "--vcpu=4", "--disk-size", "1.5G", "--no-nat",
                                   "--image", "default")
        self.assertEqual(out, "")
        self.assertRegex(err, r"^web: copying root disk  ?50%\nweb is created \(\d\.\d s\)\n$")
        self.assertEqual(self.calls("CreateVM")[0]["arguments"],
                         ["web", {"memory-mib": 2048, "vcpu": 4, "disk-bytes": 1610612736, "nat": False,
                                  "image": "default"}])
        self.run_banger("vm", "start", "web")
        self.assertEqual(self.vms()["web"]["state"], "running")
        out, err = self.run_banger("vm", "start", "web", status=75)
        self.assertEqual(err, "banger: cannot start web: web is running (op-00000003)\n")
        self.run_banger("vm", "restart", "web")
        out, err = self.run_banger("vm", "delete", "web", status=75)
        self.assertIn("stop it first", err)
        self.run_banger("vm", "stop", "web", "-q")
        self.run_banger("vm", "start", "web")
        self.run_banger("vm", "kill", "web")
        self.run_banger("vm", "delete", "web")
        self.assertEqual(self.vms(), {})

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
        self.assertEqual(self.calls() if (self.state / "calls").exists() else [], [])


class Run(Case):
    AWKWARD = ["", " ", "a b", "'", '"', "\\", "$HOME", "`id`", "new\nline", "*", "~", "--cwd", "-x", "ä€", "a;b", "%00", "#"]

    def test_arguments_and_status(self):
        script = "import os, sys\nfor a in sys.argv[1:]: print(ascii(a))\nprint('err', file=sys.stderr)\nsys.exit(7)"
        out, err = self.run_banger("vm", "run", "--rm", "-q", "--", "/usr/bin/python3", "-c", script, *self.AWKWARD, status=7)
        self.assertEqual(out.splitlines(), [ascii(a) for a in self.AWKWARD])
        self.assertEqual(err, "err\n")
        self.assertEqual(self.vms(), {})
        create, delete = self.calls("CreateVM", "DeleteVM")
        self.assertEqual(create["arguments"][1], {"start": True, "ephemeral": True})
        self.assertEqual(delete["arguments"][1], {"force": True})

    def test_strict_ssh(self):
        self.run_banger("vm", "run", "--name", "web", "--", "true")
        argv = self.ssh_argv()[0]
        vm = self.vms()["web"]
        self.assertEqual(argv[:2], ["-F", "none"])
        options = {argv[i + 1].split("=")[0]: argv[i + 1].split("=", 1)[1] for i, w in enumerate(argv) if w == "-o"}
        self.assertEqual(options["UserKnownHostsFile"], f'"{self.dir.name}/known hosts"')
        self.assertEqual(options["IdentityFile"], f'"{self.dir.name}/key"')
        self.assertEqual(options["HostKeyAlias"], vm["host_key_alias"])
        for key, value in {"StrictHostKeyChecking": "yes", "BatchMode": "yes", "IdentitiesOnly": "yes",
                           "GlobalKnownHostsFile": "none"}.items():
            self.assertEqual(options[key], value)
        self.assertEqual(argv[-4:], ["root@10.213.0.5", "/run/banger/guest", "exec", "true"])
        self.assertIn("-T", argv)

    def test_stdin_passes(self):
        out, _ = self.run_banger("vm", "run", "--rm", "--", "tr", "a-z", "A-Z", stdin=b"abc\0def")
        self.assertEqual(out, "ABC\0DEF")

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
        for path in (repo, repo / "sub"):
            out, err = self.run_banger("vm", "run", "--rm", "-q", str(path), "--", "echo", "hi")
            self.assertEqual((out, err), ("hi\n", "cwd /root/My Repo\n"))
        first = self.calls("ImportWorkspace")[0]["arguments"]
        self.assertEqual(first[1:], [str(repo), {}])
        self.assertRegex(first[0], "^my-repo-[0-9a-f]{6}$")
        subprocess.run([BANGER, "vm", "run", "--rm", "-q", "."], env=self.env, cwd=repo, check=True, stdin=subprocess.DEVNULL)
        self.assertEqual(self.calls("ImportWorkspace")[2]["arguments"][1], str(repo))

    def test_detach(self):
        out, err = self.run_banger("vm", "run", "--detach", "-q")
        self.assertEqual(list(self.vms()), [out.strip()])
        self.assertFalse((self.state / "ssh").exists())

    def test_start_fails(self):
        out, err = self.run_banger("vm", "run", "--rm", "--name", "fail-a", "--", "true", status=70)
        self.assertTrue(err.endswith("banger: cannot start fail-a: no CPU left (op-0badcafe)\n"), err)
        out, err = self.run_banger("vm", "run", "--rm", "--name", "broken-a", "--", "true", status=70)
        self.assertEqual(self.vms(), {})
        out, err = self.run_banger("vm", "run", "--name", "broken-b", "--", "true", status=70)
        self.assertIn("broken-b is kept: ", err)
        self.assertEqual(list(self.vms()), ["broken-b"])
        out, err = self.run_banger("vm", "run", "--name", "fail-b", "--", "true", status=70)
        self.assertNotIn("is kept", err)

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
        # also where the whole suite runs below nohup: what is ignored there would be ignored here
        process = subprocess.Popen([BANGER, *words], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, text=True,
                                   preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
        deadline = time.monotonic() + 10
        while not when():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.2)  # two that are pending at a time are one
        out, err = process.communicate(timeout=20)
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


class Shown(Case):
    def test_end_of_a_stage_without_progress(self):
        self.run_banger("vm", "create", "--start", "web", "-q")
        self.assertNotIn("100%", self.run_banger("vm", "stop", "web")[1])

    def test_what_cannot_be_written_is_a_failure(self):
        for words in (["vm", "list"], ["vm", "list", "--json"], ["version"]):
            with open("/dev/full", "w", encoding="ascii") as full:
                done = subprocess.run([BANGER, *words], env=self.env, stdout=full, stderr=subprocess.PIPE, check=False,
                                      timeout=30)
            self.assertEqual(done.returncode, 1, words)
            self.assertIn(b"No space left", done.stderr)

    def test_json_is_utf8_in_every_locale(self):
        self.run_banger("kernel", "import", "other", "apt:bärenkern")
        text = self.run_banger("kernel", "show", "other", "--json", LC_ALL="C")[0]
        self.assertEqual(json.loads(text)["source"], "apt:bärenkern")

    def test_lists(self):
        self.assertEqual(self.run_banger("vm", "list")[0], "NAME  STATE  IMAGE  VCPUS  MEMORY  DISK  ADDRESS  STARTED\n")
        self.run_banger("vm", "create", "web", "-q")
        lines = self.run_banger("vm", "list")[0].splitlines()
        self.assertEqual(lines[1].split(), ["web", "stopped", "default", "2", "1", "GiB", "8", "GiB", "10.213.0.5", "-"])
        self.assertEqual(lines[0].index("STATE"), lines[1].index("stopped"))
        self.assertEqual(len(self.run_banger("ps")[0].splitlines()), 1)
        self.assertEqual(len(self.run_banger("ps", "-a")[0].splitlines()), 2)
        self.assertIn("1.2 GiB", self.run_banger("image", "list")[0])
        self.assertIn("6.1.0-1-cloud-amd64", self.run_banger("kernel", "list")[0])

    def test_show(self):
        self.run_banger("vm", "create", "web", "-q")
        self.assertRegex(self.run_banger("vm", "show", "web")[0], r"(?m)^Started: +-$")
        vm = json.loads(self.run_banger("vm", "show", "web", "--json")[0])
        self.assertEqual((vm["memory_mib"], vm["created_at"], vm["started_at"], vm["boot_id"], vm["nat"]),
                         (1024, "2023-11-14T22:13:20Z", None, None, True))
        self.assertEqual(json.loads(self.run_banger("image", "show", "default", "--json")[0])["used_bytes"], 1288490189)
        self.assertEqual(json.loads(self.run_banger("kernel", "show", "default", "--json")[0])["digest"], None)
        self.assertIn('"nope"', self.run_banger("image", "show", "nope", status=66)[1])

    def test_images_and_kernels(self):
        out, err = self.run_banger("image", "build", "rust", "--package", "gcc", "--package=cargo", "--size", "6G", "--suite",
                                   "trixie")
        self.assertEqual(self.calls("BuildImage")[0]["arguments"],
                         ["rust", {"packages": ["gcc", "cargo"], "size-bytes": 6 << 30, "suite": "trixie"}])
        self.assertLess(len(err.splitlines()), 8, err)
        self.run_banger("image", "import", "mine", "-", stdin=b"tar" * 1000)
        self.assertEqual((self.state / "imported").read_bytes(), b"tar" * 1000)
        (self.state / "vmlinux").write_text("ELF")
        subprocess.run([BANGER, "kernel", "import", "own", "vmlinux", "--modules", "bin", "-q"], env=self.env,
                       cwd=self.dir.name, check=True)
        self.assertEqual(self.calls("ImportKernel")[0]["arguments"],
                         ["own", f"{self.dir.name}/vmlinux", {"modules": f"{self.dir.name}/bin"}])
        self.run_banger("kernel", "import", "deb", "-q")
        self.run_banger("kernel", "import", "-q")
        self.assertEqual([c["arguments"] for c in self.calls("ImportKernel")[1:]],
                         [[name, "apt:linux-image-cloud-amd64", {}] for name in ("deb", "default")])
        self.run_banger("image", "build", "-q")
        self.assertEqual(self.calls("BuildImage")[1]["arguments"], ["default", {}])
        self.assertEqual(self.run_banger("image", "delete", "rust", "mine")[1], "rust is deleted\nmine is deleted\n")
        self.run_banger("kernel", "delete", "own", "-q")

    def test_doctor(self):
        out, _ = self.run_banger("doctor")
        self.assertRegex(out, r"(?m)^disk +warning +2 GiB free\n    -> make room$")
        (self.state / "sick").touch()
        rows = json.loads(self.run_banger("doctor", "--json", status=1)[0])
        self.assertEqual([r["status"] for r in rows], ["ok", "warning", "error"])

    def test_doctor_without_manager(self):
        """It tells an installation that is not there from one whose metadata is broken."""
        nobody = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
        out, _ = self.run_banger("doctor", status=1, BANGER_CONFIG="/nonexistent.toml", **nobody)
        self.assertRegex(out, r"install +error +.*nonexistent.toml.*\n    -> install banger")
        broken = self.state / "broken.toml"
        broken.write_text("[owner]\nsurprise = 1\n", encoding="utf-8")
        out, _ = self.run_banger("doctor", status=1, BANGER_CONFIG=str(broken), **nobody)
        self.assertRegex(out, r"install +error +.*'owner.surprise' is not a known setting\n    -> mend that file")

    def test_version(self):
        self.assertEqual(json.loads(self.run_banger("version", "--json")[0])["bangerd"], "0.1.0-mock")
        self.assertRegex(self.run_banger("--version")[0], r"^banger \d")

    def test_without_manager(self):
        self.mock.kill()
        self.mock.wait()
        self.assertRegex(self.run_banger("vm", "list", status=1)[1], "^banger: banger is not set up")
        self.assertIn("manager", self.run_banger("doctor", status=1)[0])
        self.assertEqual(json.loads(self.run_banger("version", "--json")[0])["bangerd"], None)
        out, err = self.run_banger("vm", "list", status=1, DBUS_SESSION_BUS_ADDRESS="unix:path=/nonexistent")
        self.assertRegex(err, "cannot reach the session bus .*enable-linger")
        self.assertIn("session bus", self.run_banger("doctor", status=1, DBUS_SESSION_BUS_ADDRESS="unix:path=/no")[0])

    def test_logs(self):
        self.run_banger("vm", "create", "web", "--start", "-q")
        self.assertEqual(self.run_banger("vm", "logs", "web")[0], "first line\n")
        follow = subprocess.Popen([BANGER, "vm", "logs", "-f", "web"], env=self.env, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end, follow)
        self.assertEqual(follow.stdout.readline(), "first line\n")
        console = self.state / "console-web"
        with console.open("a") as file:
            file.write("second line\n")
        self.assertEqual(follow.stdout.readline(), "second line\n")
        console.write_text("anew\n")
        self.assertEqual(follow.stdout.readline(), "anew\n")
        self.run_banger("vm", "stop", "web", "-q")
        self.assertEqual(follow.wait(timeout=10), 0)


class Completed(Case):
    def candidates(self, *words):
        return [line.split("\t")[0] for line in self.run_banger("__complete", *words)[0].splitlines()]

    def test_names(self):
        self.run_banger("vm", "create", "web", "-q")
        self.run_banger("vm", "create", "db", "--start", "-q")
        self.assertEqual(self.candidates("vm", "delete", ""), ["db", "web"])
        self.assertEqual(self.candidates("vm", "delete", "w"), ["web"])
        self.assertEqual(self.candidates("vm", "start", ""), ["web"])
        self.assertEqual(self.candidates("vm", "ssh", ""), ["db"])
        self.assertEqual(self.candidates("vm", "ssh", "db", ""), [])
        self.assertEqual(self.candidates("vm", "stop", "db", ""), ["db"])
        self.assertEqual(self.candidates("vm", "run", "--image", ""), ["default"])
        self.assertEqual(self.candidates("vm", "run", "--kernel=d"), ["--kernel=default"])
        self.assertEqual(self.candidates("image", "show", ""), ["default"])

    def bash(self, line):
        script = (f'source <("$0" completion bash); COMP_WORDBREAKS=$\' \\t\\n"\\\'><=;|&(:\'; COMP_WORDS=({line}); '
                  'COMP_CWORD=$((${#COMP_WORDS[@]}-1)); compopt() { :; }; COMP_WORDS[0]=$0; _banger; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        out = subprocess.run(["bash", "-c", script, BANGER], env=self.env, capture_output=True, text=True, check=True)
        self.assertEqual(out.stderr, "")
        return out.stdout.split()

    def test_bash(self):
        self.assertEqual(self.bash("banger vm sh"), ["show"])
        self.assertEqual(self.bash("banger vm run --image = de"), ["default"])
        self.assertEqual(self.bash("banger vm run --image ''"), ["default"])
        self.assertIn("--memory", self.bash("banger vm run --m"))
        self.assertEqual(self.bash("banger vm run /us"), ["/usr"])


class Terminal(Case):
    def test_live_line(self):
        leader, follower = pty.openpty()
        process = subprocess.Popen([BANGER, "vm", "create", "web", "--start"], env=self.env, stderr=follower,
                                   stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        os.close(follower)
        seen = b""
        while select.select([leader], [], [], 10)[0]:
            try:
                seen += os.read(leader, 4096)
            except OSError:
                break
        os.close(leader)
        self.assertEqual(process.wait(timeout=10), 0)
        text = seen.decode()
        self.assertRegex(text, r"\r\x1b\[Kweb: copying root disk  50% \d\.\d s\r")
        self.assertTrue(re.search(r"\r\x1b\[Kweb is ready \(\d\.\d s\)\r\n$", text), repr(text))


if __name__ == "__main__":
    unittest.main(verbosity=2)
