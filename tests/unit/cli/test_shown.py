#!/usr/bin/python3
"""What banger shows, completes and makes of any bytes, against a mock manager: case.py.

Run by meson with BANGER, XML_DIR. Never touches the session bus of whoever runs it."""
import ctypes
import json
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import tempfile
import tty
import unittest

sys.dont_write_bytecode = True
from case import BANGER, Case  # noqa: E402


class Bytes(Case):
    """Names and paths that are not UTF-8, and what is above a link."""

    def raw(self, *words, status=0):
        done = subprocess.run([BANGER.encode(), *(w if isinstance(w, bytes) else w.encode() for w in words)], env=self.env,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False, cwd=self.dir.name)
        self.assertEqual(done.returncode, status, done)
        return done.stderr

    def test_names_are_refused_before_anything_is_made(self):
        bad = b"caf\xe9"
        for words in (["vm", "start", bad], ["vm", "create", bad], ["vm", "create", "web", "--image", bad],
                      ["vm", "create", "web", b"--kernel=" + bad], ["vm", "run", "--rm", "--image", bad, "--", "true"],
                      ["vm", "run", "--name", bad], ["vm", "exec", bad, "--", "true"], ["vm", "logs", bad], ["vm", "show", bad],
                      ["vm", "delete", "web", bad], ["image", "show", b"\xff\xfe"], ["image", "build", "i", "--suite", bad],
                      ["image", "build", "i", "--package", "ok", "--package", bad], ["image", "build", "i", "--mirror", bad],
                      ["image", "import", bad, "/dev/null"], ["kernel", "delete", b"\xed\xa0\x80"],
                      ["kernel", "import", bad], ["vm", "stop", b"\xc0\x80"], ["vm", "kill", b"a\xf4\x90\x80\x80"],
                      ["vm", "cp", bad + b":x", "."], ["vm", "cp", ".", bad + b":"]):
            with self.subTest(words=words):
                err = self.raw(*words, status=2)
                self.assertRegex(err, rb"^banger: .*\\x[89a-f][0-9a-f].*\n")
        self.assertEqual(self.calls(), [])

    def test_paths_arrive_as_they_are(self):
        for name in (b"caf\xe9", b"\xff\xfe", b"a\xcc\xff b"):
            path = os.path.join(self.dir.name.encode(), name)
            with open(path, "wb") as file:
                file.write(b"x")
            os.mkdir(path + b".d")
            self.raw("image", "import", "i", name)
            self.assertEqual(self.calls("ImportImage")[-1]["arguments"], ["i", "", {"path-bytes": list(path)}])
            self.raw("image", "import", "i", path)
            self.raw("kernel", "import", "k", b"./" + name, "--modules", path + b".d")
            self.assertEqual(self.calls("ImportKernel")[-1]["arguments"],
                             ["k", "", {"source-bytes": list(os.path.dirname(path) + b"/./" + name),
                                        "modules": list(path + b".d")}])
            subprocess.run([b"git", b"init", b"-q", path + b".r"], check=True)
            self.raw("vm", "run", "--rm", path + b".r", "--", "true")
            self.assertEqual(self.calls("ImportWorkspace")[-1]["arguments"][1:], ["", {"path-bytes": list(path + b".r")}])
        self.assertEqual(self.vms(), {})

    def test_setup_is_read_once(self):
        """What is checked is what the manager gets: the file may go or change in between."""
        libc, script = ctypes.CDLL(None, use_errno=True), self.state / "setup.sh"
        script.write_text("true\n", encoding="utf-8")
        for words in (["vm", "create", "one"], ["vm", "run", "--name", "two", "--detach"]):
            opened = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            libc.inotify_add_watch(opened, bytes(script), 0x20)  # IN_OPEN
            self.run_banger(*words, "--setup", str(script))
            self.assertEqual(self.calls("CreateVM")[-1]["arguments"][1]["setup"], "true\n")
            self.assertEqual(len(os.read(opened, 4096)), 16)  # one event, which has no name
            os.close(opened)
        for bad, said in ((self.state / "none", "cannot read"), (self.dir.name, "is not a script"), ("", "empty FILE")):
            for words in (["vm", "create", "three"], ["vm", "run"], ["vm", "run", "--dry-run", self.dir.name]):
                self.assertIn(said, self.run_banger(*words, "--setup", str(bad), status=2)[1])

    def test_warm(self):
        """The sizes arrive; the template is shown, and in JSON with what it takes."""
        self.run_banger("image", "warm", "default", "--vcpu", "4", "--memory", "2G")
        self.assertEqual(self.calls("WarmImage")[-1]["arguments"], ["default", {"vcpu": 4, "memory-mib": 2048}])
        self.assertIn("4 vCPU, memory 2 GiB, disk 8 GiB: takes 140 MiB", self.run_banger("image", "show", "default")[0])
        shown = json.loads(self.run_banger("image", "show", "--json", "default")[0])["templates"]
        self.assertEqual([(t["vcpus"], t["memory_mib"], t["size_bytes"], t["used_at"]) for t in shown],
                         [(4, 2048, 140 << 20, "2023-11-14T22:14:20Z")])
        self.assertIn("whole number of MiB", self.run_banger("image", "warm", "default", "--memory", "200000001", status=2)[1])
        self.run_banger("image", "warm", "none", status=66)

    def test_pull_and_its_cache(self):
        """Without a name the reference gives one; the manager gets one word for all registries."""
        for reference, name in (("debian:bookworm", "debian-bookworm"), ("docker://ghcr.io/a/Box_1:latest", "box-1"), ("localhost:5000/x@sha256:00", "x"),
                                ("host/" + "n" * 70, "n" * 63)):
            self.run_banger("image", "pull", reference)
            called, source, options = self.calls("ImportImage")[-1]["arguments"]
            self.assertEqual((called, source), (name, reference if reference.startswith("docker:") else "catalog:" + reference))
        self.run_banger("image", "pull", "debian", "mine", "--size", "1G")
        self.assertEqual(self.calls("ImportImage")[-1]["arguments"][0], "mine")
        self.assertIn("image name", self.run_banger("image", "pull", "host/___", status=2)[1])
        self.assertEqual(self.run_banger("image", "cache", "prune", "--dry-run")[0], "3 MiB in 2 blobs would be removed\n")
        self.assertEqual(self.run_banger("image", "cache", "prune")[0], "3 MiB in 2 blobs are removed\n")
        self.assertEqual(self.run_banger("image", "verify", "default")[1], "default is as it was made\n")
        self.assertEqual([call["arguments"][0]["dry-run"] for call in self.calls("PruneImageCache")], [True, False])
        self.assertIn("'prune'", self.run_banger("image", "cache", "purge", status=2)[1])

    def test_available(self):
        """What catalogs have, as a table and as JSON; one that cannot be read is told on stderr, plainly."""
        out, err = self.run_banger("image", "list", "--available")[:2]
        self.assertEqual(out.splitlines()[0].split(), ["NAME", "KIND", "SIZE", "HERE", "CATALOG", "SUMMARY"])
        self.assertEqual([line.split() for line in out.splitlines()[1:]],
                         [["trixie", "mmdebstrap", "-", "default", "installed", "Debian", "13"], ["box", "registry", "30", "MiB", "-", "unsigned", "?[2J"]])
        self.assertEqual(err, "warning: cat: not signed \\x1b\n")
        rows = json.loads(self.run_banger("image", "list", "--available", "--json")[0])
        self.assertEqual([(row["name"], row["size_bytes"], row["here"], row["trust"]) for row in rows],
                         [("trixie", None, "default", "installed"), ("box", 30 << 20, None, "unsigned")])
        self.assertEqual(json.loads(self.run_banger("kernel", "list", "--available", "--json")[0])[0]["source"], "apt:linux-image-cloud-amd64")
        self.run_banger("kernel", "pull", "cloud", "-q")
        self.run_banger("kernel", "pull", "cloud", "mine", "-q")
        self.assertEqual([call["arguments"] for call in self.calls("ImportKernel")],
                         [["cloud", "catalog:cloud", {}], ["mine", "catalog:cloud", {}]])
        self.run_banger("kernel", "pull", "a/b", status=2)

    def test_nothing_is_folded(self):
        """`link/../file` is beside what the link points to."""
        (self.state / "far" / "deep").mkdir(parents=True)
        (self.state / "link").symlink_to("far/deep")
        (self.state / "far" / "file").write_text("right")
        (self.state / "file").write_text("wrong")
        for typed, wanted in (("link/../file", f"{self.dir.name}/link/../file"), ("./file", f"{self.dir.name}/./file"),
                              (f"{self.dir.name}//link/../file", f"{self.dir.name}//link/../file")):
            self.raw("image", "import", "i", typed)
            self.raw("kernel", "import", "k", typed, "--modules", "link/..")
            self.assertEqual(self.calls("ImportImage")[-1]["arguments"], ["i", wanted, {}])
            self.assertEqual(self.calls("ImportKernel")[-1]["arguments"],
                             ["k", wanted, {"modules": f"{self.dir.name}/link/.."}])

    def test_empty_is_not_here(self):
        """`banger vm run "$unset"` is no way to say the working directory, and nothing of / is taken for one that is gone."""
        for words in (["vm", "run", "--rm", "", "--", "true"], ["image", "import", "i", ""], ["kernel", "import", "k", ""]):
            self.assertIn(b"'': No such file or directory", self.raw(*words, status=2))
        for words in (["vm", "run", "--rm", "etc", "--", "true"], ["image", "import", "i", "etc/passwd"],
                      ["kernel", "import", "k", "etc/passwd"]):
            done = subprocess.run(["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh", BANGER, *words],
                                  env=self.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
                                  cwd=self.dir.name)
            self.assertEqual(done.returncode, 2, done)
        for method in "ImportImage", "ImportKernel", "CheckWorkspace":
            self.assertEqual(self.calls(method), [])
        self.assertEqual(self.vms(), {})


class Shown(Case):
    def test_end_of_a_stage_without_progress(self):
        self.run_banger("vm", "create", "--start", "web", "-q")
        self.assertNotIn("100%", self.run_banger("vm", "stop", "web")[1])

    def test_what_cannot_be_written_is_a_failure(self):
        for words in (["vm", "list"], ["vm", "list", "--json"], ["version"]):
            with open("/dev/full", "w", encoding="ascii") as full:
                done = subprocess.run([BANGER, *words], env=self.env, stdout=full, stderr=subprocess.PIPE, check=False,
                                      timeout=60)
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
        for name, line in (("a", "printf abc | $banger /dev/stdin"), ("b", "$banger <(printf abc)"),
                           ("c", "printf abc >file; $banger /dev/fd/7 7<file")):
            (self.state / "imported").unlink()
            subprocess.run(["bash", "-c", f'banger="$0 image import -q {name}"; {line}', BANGER], env=self.env,
                           cwd=self.dir.name, check=True, timeout=60)
            self.assertEqual((self.state / "imported").read_bytes(), b"abc", line)
        _, err = self.run_banger("image", "import", "odd", "-", "-q", stdin=b"tar")
        self.assertEqual(err, "warning: no ssh server inside\nwarning: its / has mode 0700\n")
        self.assertRegex(self.run_banger("image", "show", "odd")[0], "(?m)^ssh server: +missing$")
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

    def test_image_build_from_a_file(self):
        """Both paths arrive in full; what is of Debian does not go with it."""
        self.run_banger("image", "build", "box", "/srv/x/../y", "--file", "/srv/Containerfile", "-q")
        given = self.calls("BuildImage")[-1]["arguments"]
        self.assertEqual((given[0], {key: bytes(value).rstrip(b"\0") for key, value in given[1].items()}),
                         ("box", {"containerfile": b"/srv/Containerfile", "context": b"/srv/x/../y"}))
        self.assertIn("--file", self.run_banger("image", "build", "box", "context", status=2)[1])
        self.assertIn("are of Debian", self.run_banger("image", "build", "box", "-f", "x", "--package", "git", status=2)[1])

    def test_image_commit(self):
        self.run_banger("vm", "create", "web", "-q")
        self.assertIn("ready is ready", self.run_banger("image", "commit", "web", "ready")[1])
        self.assertEqual(self.calls("CommitImage")[0]["arguments"], ["ready", "web", {}])
        self.run_banger("image", "commit", "none", "other", status=66)
        self.run_banger("image", "commit", "web", status=2)
        self.run_banger("image", "commit", "web", "No name", status=2)

    def test_image_export(self):
        """Nothing half-made, and what was there stays until there is something better."""
        self.run_banger("image", "build", "-q")
        target = self.state / "out/image"
        target.parent.mkdir()
        target.write_text("before")
        (self.state / "sick").touch()
        self.assertIn("no room", self.run_banger("image", "export", "default", "-o", str(target), status=74)[1])
        self.assertEqual((target.read_text(), os.listdir(target.parent)), ("before", ["image"]))
        (self.state / "sick").unlink()
        self.assertIn(f"default is written to {target}", self.run_banger("image", "export", "default", "--format", "ext4", "-o", str(target))[1])
        self.assertEqual((target.read_text(), os.listdir(target.parent)), ("ext4", ["image"]))
        self.run_banger("image", "export", "default", status=2)
        self.run_banger("image", "export", "default", "-o", "/nowhere/image", status=None)
        self.run_banger("image", "export", "none", "-o", str(target), status=66)
        self.assertEqual(os.listdir(target.parent), ["image"])

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

    def test_settings(self):
        self.assertEqual(self.run_banger("config", "show")[0], "vm_defaults.vcpu  4     line 3\nvm_defaults.nat   true  default\n")
        self.assertEqual(json.loads(self.run_banger("config", "show", "--json")[0])[1],
                         {"key": "vm_defaults.nat", "value": "true", "from": "default"})
        self.assertEqual(self.run_banger("config", "reload"), ("config.toml is read again\n", ""))
        self.assertEqual(self.run_banger("config", "reload", "-q"), ("", ""))
        (self.state / "sick").touch()
        self.assertEqual(self.run_banger("config", "reload", status=1), ("", "banger: c, line 2: no\n"))

    def test_settings_are_checked_without_the_manager(self):
        nobody = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
        own = self.state / ".config" / "banger" / "config.toml"
        self.assertEqual(self.run_banger("config", "check", **nobody)[0], f"{own} is as it should be\n")
        own.parent.mkdir(parents=True)
        own.write_text("[vm_defaults]\nvcpu = 99\nmemry = 1\n", encoding="utf-8")
        _, err = self.run_banger("config", "check", status=1, **nobody)
        self.assertEqual(err, f"banger: {own}, line 2: vm_defaults.vcpu must be from 1 to 32\n"
                              f"banger: {own}, line 3: 'vm_defaults.memry' is not a known setting\n")
        self.assertEqual(len(json.loads(self.run_banger("config", "check", "--json", status=1, **nobody)[0])), 2)
        self.assertIn("cannot read 'none.toml'", self.run_banger("config", "check", "none.toml", status=2, **nobody)[1])
        own.write_text('[[setup]]\nrun = "true"\n[[setup]]\nscript = "~/none.sh"\n', encoding="utf-8")
        self.assertEqual(self.run_banger("config", "check", status=1, **nobody)[1], f"banger: {own}: setup[2].script '~/none.sh': it is not there\n")

    def test_ssh_config(self):
        """Two lines at the top of ~/.ssh/config, once; taken away, every byte is as before. Nothing else there is touched."""
        nobody = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
        lines = self.run_banger("ssh-config", **nobody)[0].encode()
        self.assertEqual(lines.splitlines()[1].decode(), f'Include "{self.state}/.config/banger/ssh/config"')
        folder, file = self.state / ".ssh", self.state / ".ssh" / "config"
        self.run_banger("ssh-config", "--uninstall", **nobody)
        self.assertFalse(folder.exists())
        self.run_banger("ssh-config", "--install", **nobody)
        self.assertEqual((file.read_bytes(), file.stat().st_mode & 0o7777, folder.stat().st_mode & 0o7777), (lines, 0o600, 0o700))
        self.run_banger("ssh-config", "--uninstall", **nobody)
        self.assertEqual(file.read_bytes(), b"")
        (folder / "known_hosts").write_bytes(b"mine")
        for mine in (b"Host *\n  User me\n", b"Host a\xff\0b", b"\n\n# banger\nInclude x\n"):
            with self.subTest(mine):
                file.write_bytes(mine)
                file.chmod(0o644)
                for _ in range(2):
                    self.run_banger("ssh-config", "--install", **nobody)
                    self.assertEqual(file.read_bytes(), lines + mine)
                self.assertEqual(file.stat().st_mode & 0o7777, 0o644)
                self.run_banger("ssh-config", "--uninstall", **nobody)
                self.assertEqual(file.read_bytes(), mine)
        file.write_bytes(b"Host x\n" + lines + b"Host y")
        self.run_banger("ssh-config", "--install", **nobody)
        self.assertEqual(file.read_bytes(), b"Host x\n" + lines + b"Host y", "they are there, where somebody put them")
        self.run_banger("ssh-config", "--uninstall", **nobody)
        self.assertEqual(file.read_bytes(), b"Host x\nHost y")
        self.assertEqual((sorted(os.listdir(folder)), (folder / "known_hosts").read_bytes()), (["config", "known_hosts"], b"mine"))

    def test_ssh_config_elsewhere(self):
        """A link of ~/.ssh/config's stays one; what is no file of the user's own is left alone."""
        nobody = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
        lines = self.run_banger("ssh-config", **nobody)[0].encode()
        folder, dots = self.state / ".ssh", self.state / "dotfiles"
        folder.mkdir(0o700)
        dots.mkdir()
        (dots / "ssh").write_bytes(b"Host *\n")
        (folder / "config").symlink_to("../dotfiles/ssh")
        self.run_banger("ssh-config", "--install", **nobody)
        self.assertTrue((folder / "config").is_symlink())
        self.assertEqual((dots / "ssh").read_bytes(), lines + b"Host *\n")
        self.run_banger("ssh-config", "--uninstall", **nobody)
        self.assertEqual((dots / "ssh").read_bytes(), b"Host *\n")
        os.link(dots / "ssh", dots / "twice")
        self.assertIn("not yours alone", self.run_banger("ssh-config", "--install", status=None, **nobody)[1])
        (dots / "ssh").unlink()
        self.assertIn("cannot read", self.run_banger("ssh-config", "--install", status=None, **nobody)[1])
        (folder / "config").unlink()
        os.mkfifo(folder / "config")
        self.assertIn("not a regular file", self.run_banger("ssh-config", "--install", status=None, **nobody)[1])
        self.assertEqual((dots / "twice").read_bytes(), b"Host *\n")
        if os.getuid() == 0:  # with the HOME of another user, whose link says where root would write
            (folder / "config").unlink()
            (dots / "twice").rename(dots / "ssh")
            (folder / "config").symlink_to(dots / "ssh")
            for path in (folder / "config", folder):
                os.chown(path, 65534, -1, follow_symlinks=False)
                self.assertIn("not yours alone", self.run_banger("ssh-config", "--install", status=None, **nobody)[1])
                os.chown(path, 0, -1, follow_symlinks=False)
            self.assertEqual((dots / "ssh").read_bytes(), b"Host *\n")
        self.assertIn("exclude", self.run_banger("ssh-config", "--install", "--uninstall", status=2, **nobody)[1])

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
        self.assertEqual(follow.wait(timeout=60), 0)


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
        self.assertEqual(self.candidates("vm", "cp", ""), ["db:", ":files"])
        self.assertEqual(self.candidates("vm", "cp", "file", "d"), ["db:", ":files"])
        self.assertEqual(self.candidates("vm", "stop", "db", ""), ["db"])
        self.assertEqual(self.candidates("vm", "resume", ""), [])
        self.run_banger("vm", "pause", "db", "-q")
        self.assertEqual(self.candidates("vm", "resume", ""), ["db"])
        self.assertEqual(self.candidates("vm", "stop", ""), ["db"])
        self.assertEqual(self.candidates("vm", "run", "--image", ""), ["default"])
        self.assertEqual(self.candidates("vm", "run", "--kernel=d"), ["--kernel=default"])
        self.assertEqual(self.candidates("image", "show", ""), ["default"])
        self.assertEqual(self.candidates("image", "pull", ""), ["trixie", "box"])
        self.assertEqual(self.candidates("image", "pull", "trixie", ""), [])
        self.assertEqual(self.candidates("kernel", "pull", "c"), ["cloud"])
        self.assertEqual(self.run_banger("image", "tag", "default", "stable")[1], "default is also called stable\n")
        self.assertEqual(self.candidates("image", "tag", "s"), ["stable"])
        self.assertEqual(json.loads(self.run_banger("image", "show", "default", "--json")[0])["tags"], ["stable"])
        self.run_banger("image", "tag", "default", "No", status=2)
        self.assertEqual(self.run_banger("image", "promote", "default")[1], "new VMs are made from default\n")
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "rootfs.ext4")
            self.assertIn("is no file", self.run_banger("image", "register", "own", file, status=2)[1])
            pathlib.Path(file).touch()
            self.assertIn("open for writing", self.run_banger("image", "register", "held", file, status=75)[1])
            self.assertTrue(os.path.exists(file))
            self.run_banger("image", "register", "own", file)
            self.assertFalse(os.path.exists(file))
        self.assertEqual(self.run_banger("image", "promote", "own")[1],
                         "new VMs are made from own\nthe image that was called default is called default-old now\n")
        self.assertEqual(self.run_banger("image", "promote", "own", "--quiet")[1], "")

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
        self.assertEqual(self.bash("banger vm cp web : /x /us"), ["/usr"])
        self.assertEqual(self.bash("banger vm cp /us"), ["/usr"])
        self.assertEqual(self.bash("banger vm cp web : /us"), [])


class Terminal(Case):
    NASTY = b"caf\xc3\xa9\tx\r\n\x1b]0;owned\x07\x1b[2J\rback\x08\x00\x7f\xff \xc2\x9b31m \xe2\x80\xae\n"
    TAME = (b"caf\xc3\xa9\tx\r\n" rb"\x1b]0;owned\x07\x1b[2J\x0dback\x08\x00\x7f\xff \xc2\x9b31m \xe2\x80\xae" b"\n")

    def on_terminal(self, *words, status=0, stream="stderr"):
        """What a terminal is sent."""
        leader, follower = pty.openpty()
        tty.setraw(follower)
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: follower}
        process = subprocess.Popen([BANGER, *words], env=self.env, stdin=subprocess.DEVNULL, **streams)
        os.close(follower)
        seen = b""
        while select.select([leader], [], [], 10)[0]:
            try:
                seen += os.read(leader, 4096)
            except OSError:
                break
        os.close(leader)
        self.assertEqual(process.wait(timeout=60), status)
        return seen

    def test_live_line(self):
        text = self.on_terminal("vm", "create", "web", "--start").decode()
        self.assertRegex(text, r"\r\x1b\[Kweb: copying root disk  50% \d\.\d s\r")
        self.assertTrue(re.search(r"\r\x1b\[Kweb is ready \(\d\.\d s\)\n$", text), repr(text))

    def test_console_has_no_power(self):
        """A guest's console: a terminal is shown its control characters, a pipe has each byte."""
        self.run_banger("vm", "create", "web", "--start", "-q")
        long = b"x" * 65535 + b"\xc3\xa9\n"  # a character in two reads
        (self.state / "console-web").write_bytes(self.NASTY + long + b"\xc3")
        self.assertEqual(self.on_terminal("vm", "logs", "web", stream="stdout"), self.TAME + long + rb"\xc3")
        piped = subprocess.run([BANGER, "vm", "logs", "web"], env=self.env, capture_output=True, check=True)
        self.assertEqual(piped.stdout, self.NASTY + long + b"\xc3")

    def test_console_goes_on_behind_a_nul(self):
        """Who follows sees what comes behind a NUL at once, alone or in the middle of a character."""
        self.run_banger("vm", "create", "web", "--start", "-q")
        (self.state / "console-web").write_bytes(b"one\0two\xe2\0three\n")
        leader, follower = pty.openpty()
        self.addCleanup(os.close, leader)
        tty.setraw(follower)
        follow = subprocess.Popen([BANGER, "vm", "logs", "-f", "web"], env=self.env, stdout=follower)
        self.addCleanup(follow.wait)
        self.addCleanup(follow.kill)
        os.close(follower)
        seen = b""
        while b"\n" not in seen and select.select([leader], [], [], 5)[0]:
            seen += os.read(leader, 4096)
        self.assertEqual(seen, rb"one\x00two\xe2\x00three" + b"\n")

    def test_errors_stages_and_reasons_have_none(self):
        """Words of a guest in a job's end, its stage, its warnings and a VM's properties, plain and as JSON."""
        for words, status in ((("vm", "create", "nasty-1", "--start"), 70), (("vm", "show", "nasty-1"), 0),
                              (("vm", "show", "nasty-1", "--json"), 0), (("vm", "stop", "nasty-1"), 0)):
            with self.subTest(words):
                seen = self.on_terminal(*words, status=status, stream="stdout" if "show" in words else "stderr")
                self.assertIn(b"evil ", seen)
                rest = seen.replace(b"\r\x1b[K", b"")
                self.assertNotIn(b"\x1b", rest)
                self.assertNotIn(b"\xc2\x9b", rest)
                self.assertNotIn("\u202e".encode(), rest)
                if "--json" in words:
                    self.assertEqual(json.loads(seen)["state_reason"], "evil \x1b[2J\x9b31m\u202e \U000e0001end")


if __name__ == "__main__":
    unittest.main(verbosity=2)
