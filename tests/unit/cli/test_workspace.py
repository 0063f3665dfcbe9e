#!/usr/bin/python3
"""A guest's changes on their way out: banger against a mock manager, whose guest is a folder of this machine.

Run by meson with the path of workspace-tool, which sends the tree as bangerd does. Never touches another repository."""
import base64
import fcntl
import json
import os
import pathlib
import pty
import shlex
import stat
import subprocess
import sys
import unittest
import zlib

sys.dont_write_bytecode = True
TOOL = os.path.abspath(sys.argv.pop(1))
from case import BANGER, Case  # noqa: E402

AWKWARD = [b"new\nline", b"tab\there", b"\xff\xfe bytes", b'quo"te', b"back\\slash", b"esc\x1b[31m", b" lead", "ümlaut".encode(), b"-dash"]


class Work(Case):
    def setUp(self):
        super().setUp()
        self.env.update({f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
                         for what, value in (("NAME", "t"), ("EMAIL", "t@example.org"))}, GIT_CONFIG_NOSYSTEM="1")
        self.host = self.state / "host" / "it's a repo"
        self.guest = self.state / "guest" / "it's a repo"
        self.guest.parent.mkdir()
        self.sh("""mkdir -p "$1"; cd "$1"; git init -qb main; printf '*.o\\n' > .gitignore; mkdir sub
            for f in kept staged unstaged both gone moved mode sub/deep; do seq 40 | sed "s|^|$f |" > $f; done
            head -c 9000 /dev/urandom > blob; ln -s kept link; git add -A; git commit -qm first
            echo host >> staged; git add staged; echo host >> unstaged; echo new > untracked; echo no > x.o""", self.host)
        (self.state / "agent").write_text(str(self.guest))

    def sh(self, script, *words, status=0, cwd=None):
        done = subprocess.run(["bash", "-ec", script, "sh", *words], env=self.env, cwd=cwd or "/", stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=60)
        self.assertEqual(done.returncode, status, (script, done.stdout, done.stderr))
        return done.stdout

    def send(self, status=0, **wish):
        """As the manager does it, with the guest's shell here."""
        shell = f"eval \"$(printf %s \"$0\" | sed 's|cd /root|cd {self.guest.parent}|g')\""
        done = subprocess.run([TOOL, "send", self.host, shell, "0"], env={**self.env, **wish}, check=False, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, status, done)
        self.notes = done.stderr.decode()
        if status != 0:
            return done.stderr.decode()
        if "web" not in self.vms():
            self.run_banger("vm", "run", "-q", "--detach", "--name", "web", str(self.host))
        return ""

    def work(self):
        """In the guest: everything that can become of a file."""
        self.sh("""echo guest >> staged; git add staged; echo guest >> unstaged; rm gone; git mv moved sub/went; chmod +x mode
            echo guest >> untracked; head -c 9000 /dev/urandom > blob; echo commit > committed; git add committed
            git commit -qm 'of the guest' committed; ln -sf sub link; echo x > y.o; mkdir -p new/er; echo f > new/er/file""", cwd=self.guest)
        for name in AWKWARD:
            with open(os.fsencode(self.guest) + b"/" + name, "wb") as file:
                file.write(name)

    def content(self, top):
        found = {}
        for folder, folders, files in os.walk(os.fsencode(top)):
            if b".git" in folders:
                folders.remove(b".git")
            for name in files + [f for f in folders if os.path.islink(os.path.join(folder, f))]:
                path = os.path.join(folder, name)
                if not name.endswith(b".o"):
                    found[os.path.relpath(path, os.fsencode(top))] = (
                        os.readlink(path) if os.path.islink(path) else
                        (os.stat(path).st_mode & 0o111, pathlib.Path(os.fsdecode(path)).read_bytes()))
        return found


class Export(Work):
    def test_patch(self):
        """Applied to the host's files, which are changed too, it makes them the guest's; the guest's index is as it was."""
        self.send()
        self.assertEqual(self.run_banger("vm", "workspace", "export", "web")[0], "")
        self.work()
        before = (self.guest / ".git/index").read_bytes()
        patch = self.state / "web.patch"
        _, err = self.run_banger("vm", "workspace", "export", "web", "-o", str(patch))
        self.assertEqual(err, "")
        self.assertEqual((self.guest / ".git/index").read_bytes(), before)
        self.assertEqual([p.name for p in (self.guest / ".git/banger").iterdir() if p.name.startswith("index")], [])
        self.assertIn(b"rename from moved", patch.read_bytes())
        self.sh('git apply "$1"', patch, cwd=self.host)
        self.assertEqual(self.content(self.host), self.content(self.guest))
        self.assertIn(b"bytes", b"".join(self.content(self.host)))

    def test_commits(self):
        self.send()
        self.work()
        self.sh("git commit -qam second", cwd=self.guest)
        mailbox = self.state / "mailbox"
        self.run_banger("vm", "workspace", "export", "web", "--commits", "-o", str(mailbox))
        self.sh('git stash -qu; git am -q "$1"', mailbox, cwd=self.host)
        log = "git log --format='%s %an' && git show HEAD~1:committed"
        self.assertEqual(self.sh(log, cwd=self.host), b"second t\nof the guest t\nfirst t\ncommit\n")

    def test_first_commit(self):
        """A repository without one, and a tree of which nothing is committed."""
        self.sh("rm -rf .git; git init -qb main; git add kept", cwd=self.host)
        self.send()
        self.sh("echo guest >> kept; git add -A; git commit -qm one", cwd=self.guest)
        out, _ = self.run_banger("vm", "workspace", "export", "web")
        self.assertIn("+guest", out)
        self.assertEqual(out.count("diff --git"), 1, out)
        self.assertIn("Subject: [PATCH] one", self.run_banger("vm", "workspace", "export", "web", "--commits")[0])

    def test_settings_of_the_guest(self):
        """They change no patch into something else."""
        self.send()
        self.sh("""echo guest >> kept; git config diff.noprefix true; git config color.ui always; git config diff.external /bin/false
            git config diff.x.textconv 'sed s/guest/WRONG/'; echo 'kept diff=x' > .gitattributes; git config core.pager false""", cwd=self.guest)
        out, _ = self.run_banger("vm", "workspace", "export", "web")
        self.assertIn("--- a/kept\n+++ b/kept\n", out)
        self.assertIn("\n+guest\n", out)

    def test_bounded(self):
        """A guest that sends without end; what was there is left."""
        self.send()
        git = self.state / "bin" / "git"
        git.write_text("#!/bin/sh\ncase $* in *diff-index*) exec yes;; esac\n")
        git.chmod(0o755)
        (self.state / "kept.patch").write_text("kept")
        _, err = self.run_banger("vm", "workspace", "export", "web", "-o", str(self.state / "kept.patch"), "--max-size", "10M", status=None)
        self.assertIn("says more than 10485760 bytes", err)
        self.assertEqual((self.state / "kept.patch").read_text(), "kept")
        self.assertEqual(list(self.state.glob("kept.patch.*")), [])

    def test_words_of_the_guest(self):
        self.send()
        (self.guest / ".git/banger/base").unlink()
        _, err = self.run_banger("vm", "workspace", "export", "web", status=None)
        self.assertIn("it is not known what was sent", err)
        git = self.state / "bin" / "git"
        git.write_text("#!/bin/sh\nprintf 'evil \\033[2J\\n' >&2; exit 1\n")
        git.chmod(0o755)
        (self.guest / ".git/banger/base").write_text("x")
        _, err = self.run_banger("vm", "workspace", "export", "web", status=None)
        self.assertIn("web says: evil \\x1b[2J", err)
        self.assertNotIn("\x1b", err)

    def test_repositories_in_it(self):
        """What changed there is in no patch: that is said, as long as nobody asks for silence."""
        self.sh("git init -q ../lib; echo lib > ../lib/f; git -C ../lib add f; git -C ../lib commit -qm lib; git -c protocol.file.allow=always submodule --quiet add \"$PWD/../lib\" sub/lib; "
                "git commit -qam lib", cwd=self.host)
        self.send()
        self.assertEqual(self.run_banger("vm", "workspace", "export", "web"), ("", ""))
        self.sh("echo guest >> sub/lib/f; git init -q nested; echo x > nested/x; git -C nested add x; git -C nested commit -qm x", cwd=self.guest)
        for words in (["export", "web"], ["export", "web", "--apply"], ["diff", "web"]):
            out, err = self.run_banger("vm", "workspace", *words)
            self.assertEqual(out, "")
            for path in ("sub/lib", "nested"):
                self.assertIn(f"{path}, a repository in it, has changes that stay behind", err)
        self.assertNotIn("stay behind", self.run_banger("vm", "workspace", "export", "web", "-q")[1])

    def test_without_a_workspace(self):
        self.run_banger("vm", "create", "web", "--start", "-q")
        _, err = self.run_banger("vm", "workspace", "export", "web", status=None)
        self.assertIn("no work tree was sent into web", err)

    def test_shown(self):
        """Coloured by us, and nothing else that a terminal obeys."""
        self.send()
        (self.guest / "kept").write_text("\x1b]0;evil\x07\x1b[31m\n")
        self.assertIn("\x1b]0;evil", self.run_banger("vm", "workspace", "diff", "web")[0])
        ours, theirs = pty.openpty()
        with subprocess.Popen([BANGER, "vm", "workspace", "diff", "web"], env=self.env, stdin=subprocess.DEVNULL, stdout=theirs) as child:
            os.close(theirs)
            shown = b""
            try:
                while data := os.read(ours, 65536):
                    shown += data
            except OSError:
                pass
            self.assertEqual(child.wait(60), 0)
        os.close(ours)
        self.assertIn(b"\x1b[32m+\\x1b]0;evil\\x07\\x1b[31m\x1b[m", shown)
        self.assertIn(b"\x1b[31m-kept 1\x1b[m", shown)
        for code in (b"\x1b]", b"\x07"):
            self.assertNotIn(code, shown)


class Apply(Work):
    def apply(self, *words, status=0, **env):
        return self.run_banger("vm", "workspace", "export", "web", "--apply", *words, status=status, PATH="/usr/bin:/bin", **env)

    def everything(self):
        """All that a failure may not touch: files with their modes, links, folders, and git's own."""
        return self.sh("find . -printf '%y %m %p %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum", cwd=self.host)

    def hostile(self, patch):
        """The guest's git says @patch, whatever it is asked."""
        (self.state / "evil").write_bytes(patch if isinstance(patch, bytes) else patch.encode())
        git = self.state / "bin" / "git"
        git.write_text(f"#!/bin/sh\ncase $* in *diff-index*) exec cat {self.state}/evil;; esac\nexec /usr/bin/git \"$@\"\n")
        git.chmod(0o755)

    def refuse(self, patch, words, *options):
        before = self.everything()
        self.hostile(patch)
        _, err = self.apply(*options, status=None)
        self.assertRegex(err, words)
        self.assertEqual(self.everything(), before)
        self.assertNotRegex(err, "[\x00-\x09\x0b-\x1f\x7f]")
        (self.state / "bin" / "git").unlink()
        return err

    def test_applied(self):
        """The host's files, which were changed too, become the guest's; neither index is touched, nothing is left over."""
        self.send()
        self.assertIn("nothing has changed in web that is not here", self.apply()[1])
        self.work()
        for name in ("gone", "kept"):
            os.chmod(self.host / name, 0o640)
        index = (self.host / ".git/index").read_bytes()
        _, err = self.apply()
        self.assertRegex(err, "files changed in .*it's a repo")
        self.assertEqual(self.content(self.host), self.content(self.guest))
        self.assertEqual((self.host / ".git/index").read_bytes(), index)
        self.assertEqual([p.name for p in self.host.iterdir() if p.name.startswith(".banger")], [])
        self.assertEqual(list(pathlib.Path("/tmp").glob("banger-apply-*")), [])
        self.assertEqual((self.host / "kept").stat().st_mode & 0o777, 0o640)

    def test_again(self):
        """The second begins where the first ended; one that failed is none; a tree that is sent anew begins at the beginning."""
        self.send()
        self.sh("echo one >> kept; echo new > fresh; rm gone; git mv moved went", cwd=self.guest)
        (self.host / "fresh").mkdir()
        (self.host / "fresh/x").touch()
        self.apply(status=None)
        self.sh("rm -r fresh", cwd=self.host)
        self.apply()
        self.sh("echo two >> kept; echo two >> fresh", cwd=self.guest)
        self.assertIn("+one\n+two", self.run_banger("vm", "workspace", "export", "web")[0])
        self.apply()
        self.assertEqual(self.content(self.host), self.content(self.guest))
        for words in ((), ("--3way",)):
            self.assertIn("nothing has changed in web that is not here", self.apply(*words)[1])
        self.sh("git stash -q", cwd=self.host)
        self.send()
        self.sh("echo three >> kept", cwd=self.guest)
        self.apply()
        self.assertEqual(self.content(self.host), self.content(self.guest))

    def kill_at(self, n):
        done = subprocess.run([BANGER, "vm", "workspace", "export", "web", "--apply"], env={**self.env, "PATH": "/usr/bin:/bin", "BANGER_FAULT": f"apply-{n}", "TMPDIR": str(self.state)}, check=False, capture_output=True, timeout=60)
        return done.returncode == -9

    def restore(self, copy):
        self.sh('rm -r "$1"; cp -a "$2" "$1"', self.host, copy)

    def test_killed(self):
        """Wherever that is, the next one finds all or nothing; so does one that follows a second kill, while the first is undone."""
        self.sh("mkdir -p old/er; echo 1 > old/er/x; git add -A; git commit -qm more", cwd=self.host)
        self.send()
        self.sh("echo guest >> kept; rm -r old gone; mkdir -p new/er; echo x > new/er/1; echo x > new/2; ln -sf sub link; rm mode; mkdir mode; echo x > mode/x", cwd=self.guest)
        copy, before, ends, n = self.state / "copy", self.everything(), [], 0
        self.sh('cp -a "$1" "$2"', self.host, copy)
        while self.kill_at(n):
            self.kill_at(n % 5)
            self.hostile("no patch\n")
            self.apply(status=None)
            (self.state / "bin" / "git").unlink()
            ends.append(self.everything())
            self.restore(copy)
            n += 1
        if n == 0:
            self.skipTest("built without -Dfault-hooks=true")
        after = self.everything()
        self.assertEqual(self.content(self.host), self.content(self.guest))
        left = list(self.state.glob("banger-apply-*"))
        self.assertGreaterEqual(len(left), n)
        for folder in left[1:]:
            os.utime(folder, (0, 0))
        foreign = self.state / "banger-apply-file"
        foreign.touch()
        os.utime(foreign, (0, 0))
        self.sh("echo more >> kept", cwd=self.guest)
        self.apply(TMPDIR=str(self.state))
        self.assertEqual(set(self.state.glob("banger-apply-*")), {left[0], foreign})
        self.assertGreater(n, 12)
        self.assertEqual([end for end in ends if end not in (before, after)], [])
        self.assertEqual({ends[0], ends[-1]}, {before, after})

    def test_killed_and_changed_since(self):
        """What was written into the tree in between is not lost, nor is what was there before."""
        self.send()
        self.sh("echo guest >> kept; echo guest >> both", cwd=self.guest)
        if not self.kill_at(4):
            self.skipTest("built without -Dfault-hooks=true")
        stage = next(self.host.glob(".banger-apply-*"))
        self.assertEqual([(self.host / name).exists() for name in ("both", "kept")], [True, False])
        (self.host / "both").write_text("mine\n")
        self.assertRegex(self.apply(status=None)[1], f"'both' could not be put back, it is '.*/{stage.name}/old-0'")
        self.assertEqual((self.host / "both").read_text(), "mine\n")
        self.assertEqual((self.host / "kept").read_text().splitlines()[-1], "kept 40")
        (stage / "old-0").rename(self.host / "both")
        self.assertIn("2 files changed", self.apply()[1])

    def test_journal(self):
        """One at a time; and what is no journal of ours moves nothing."""
        self.send()
        self.sh("echo guest >> kept", cwd=self.guest)
        journal, stage = self.host / ".git/banger-apply", self.host / ".banger-apply-0123456789ab"
        with open(journal, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assertIn("is at work in", self.apply(status=None)[1])
        journal.unlink()
        stage.mkdir()
        (stage / "old-0").write_text("evil")
        before = self.everything()
        name = os.fsencode(stage.name)
        for text in (b"sub\0.\0", name + b"\0g- 0 0 0\0.git/hooks/x\0.\0", name + b"\0g- 0 0 0\0../x\0.\0", name + b"\0+\0../x\0.\0", name + b"\0garbage\0x\0.\0"):
            journal.write_bytes(text)
            self.assertIn("is not banger's", self.apply(status=None)[1])
            self.assertEqual(journal.read_bytes(), text)
            journal.unlink()
            self.assertEqual(self.everything(), before)
        os.link(self.host / "kept", journal)
        self.assertIn("'banger-apply' in the git folder", self.apply(status=None)[1])
        journal.unlink()
        self.assertEqual(self.everything(), before)
        for text in (b"\0\0\0\0", b"../x\0", name[:9]):
            journal.write_bytes(text)
            self.hostile("no patch\n")
            self.assertIn("does not fit", self.apply(status=None)[1])
            self.assertFalse(journal.exists())
        (self.state / "bin" / "git").unlink()
        journal.write_bytes(name + b"\0g- 0 0 0\0cut")
        self.apply()
        self.assertFalse(journal.exists() or stage.exists() or (self.host / "cut").exists())
        self.assertEqual((self.host / "kept").read_text().splitlines()[-1], "guest")

    def test_kinds_exchanged(self):
        """A file becomes a folder, a folder a file, a link a folder; folders that are empty then go."""
        self.sh("ln -s sub way; mkdir -p a/b c; echo 1 > a/b/f; echo 2 > c/f; echo 3 > top; git add -A; git commit -qm more", cwd=self.host)
        self.send()
        self.sh("""rm way top; mkdir way top; echo new > way/f; echo new > top/f; rm -r a; echo file > a; rm -r c; chmod +x kept""", cwd=self.guest)
        self.apply()
        self.assertEqual(self.content(self.host), self.content(self.guest))
        self.assertFalse((self.host / "c").exists())
        self.assertTrue(os.access(self.host / "kept", os.X_OK))

    def test_all_or_nothing(self):
        """One file of many does not fit any more, or cannot be written."""
        self.send()
        self.work()
        self.sh("sed -i '5s/.*/of the host/' unstaged; sed -i 5s/.*/x/ kept", cwd=self.host)
        self.sh("sed -i 5s/.*/y/ kept", cwd=self.guest)
        before = self.everything()
        _, err = self.apply(status=None)
        self.assertIn("kept: patch does not apply", err)
        self.assertIn("with --3way what both sides changed is merged", err)
        _, err = self.apply("--3way", status=None)
        self.assertRegex(err, "git says: U kept")
        self.assertEqual(self.everything(), before)

    def test_not_written(self):
        """What fails when some of the files are in place already is undone."""
        self.send()
        self.sh("echo x >> both; mkdir new; echo f > new/f; echo x >> sub/deep; rm mode; echo last > zz", cwd=self.guest)
        (self.host / "zz").mkdir()
        before = self.everything()
        _, err = self.apply(status=None)
        self.assertIn("nothing was changed", err)
        self.assertEqual(self.everything(), before)
        (self.host / "zz").rmdir()
        self.apply()
        self.assertEqual(self.content(self.host), self.content(self.guest))

    def test_merged(self):
        """Both sides changed a file that was committed; the patch fits in with it."""
        self.send()
        self.sh("sed -i 1s/.*/guest/ kept", cwd=self.guest)
        self.sh("sed -i 3s/.*/host/ kept; git commit -qam host", cwd=self.host)
        self.assertIn("patch does not apply", self.apply(status=None)[1])
        self.apply("--3way")
        self.assertEqual((self.host / "kept").read_text().splitlines()[:3], ["guest", "kept 2", "host"])

    def test_merged_uncommitted(self):
        """So are files that were in no commit when they were sent, the new ones of both sides among them."""
        self.sh("seq 20 > fresh; seq 20 > staged2; git add staged2; sed -i 9s/.*/early/ kept", cwd=self.host)
        self.send()
        self.sh("for f in fresh staged2 kept; do sed -i 1s/.*/guest/ $f; done; seq 5 > mine; git mv moved went; rm gone", cwd=self.guest)
        self.sh("for f in fresh staged2 kept; do sed -i 3s/.*/host/ $f; done; seq 5 > mine; sed -i 3s/.*/host/ moved; rm gone", cwd=self.host)
        self.apply("--3way")
        for name in ("fresh", "staged2", "kept"):
            lines = (self.host / name).read_text().splitlines()
            self.assertEqual((lines[0], lines[2]), ("guest", "host"), name)
        self.assertEqual((self.host / "went").read_text().splitlines()[2], "host")
        self.assertEqual([(self.host / name).exists() for name in ("moved", "gone")], [False, False])

    def test_nothing_runs(self):
        """Hooks, filters, fsmonitor and attributes' programs of the host's repository, while a patch is applied."""
        self.sh("""for hook in post-index-change post-checkout applypatch-msg pre-auto-gc; do printf '#!/bin/sh\\ntouch ran-'$hook'\\n' > .git/hooks/$hook; chmod +x .git/hooks/$hook; done
            git config core.fsmonitor "touch $PWD/ran-fsmonitor"; git config filter.x.clean 'touch ran-clean; cat'; git config filter.x.smudge 'touch ran-smudge; cat'
            git config filter.x.required true; git config merge.x.driver 'touch ran-merge'; git config diff.x.textconv 'touch ran-textconv'
            git config core.editor 'touch ran-editor'""", cwd=self.host)
        self.send()
        self.sh("echo '* filter=x merge=x diff=x' > .git/info/attributes; echo '* filter=x merge=x diff=x' > .gitattributes", cwd=self.host)
        for words in (["plain"], ["merged", "--3way"]):
            self.sh("echo $1 >> kept; echo new > $1", words[0], cwd=self.guest)
            self.apply(*words[1:])
            self.assertEqual((self.host / "kept").read_text().splitlines()[-1], words[0])
            self.assertEqual(list(self.host.glob("ran-*")), [])

    def test_ends_of_lines(self):
        """Files whose lines end otherwise on the disk than for git."""
        self.sh("printf 'dos text eol=crlf\\n' > .gitattributes; printf '1\\r\\n2\\r\\n' > dos; git add -A; git commit -qm dos", cwd=self.host)
        self.send()
        self.sh("printf '3\\r\\n' >> dos", cwd=self.guest)
        self.apply()
        self.assertEqual((self.host / "dos").read_bytes(), b"1\r\n2\r\n3\r\n")

    def test_options(self):
        for words in (["--3way"], ["--apply", "-o", "x"], ["--apply", "--commits"]):
            self.run_banger("vm", "workspace", "export", "web", *words, status=2)

    NEW = "diff --git a/{0} b/{0}\nnew file mode {1}\n--- /dev/null\n+++ b/{0}\n@@ -0,0 +1 @@\n+evil\n"

    @staticmethod
    def bomb():
        """A file of 3 GiB, git's format of which says so beforehand."""
        packed = zlib.compress(bytes(20))
        line = chr(ord("A") + len(packed) - 1) + base64.b85encode(packed, pad=True).decode()
        return f"diff --git a/x b/x\nnew file mode 100644\nindex {'0' * 40}..{'1' * 40}\nGIT binary patch\nliteral {3 << 30}\n{line}\n\nliteral 0\nHcmV?d00001\n\n"

    def test_hostile_names(self):
        self.send()
        outside = self.state / "outside"
        outside.mkdir()
        (outside / "f").write_text("mine")
        (self.host / "out").symlink_to(outside)
        self.sh("git init -q --bare store; mkdir bound", cwd=self.host)
        for name, words in (("/etc/banger-evil", "no name below|git says"), (f"{self.state}/another VM's/x", "no name below|git says"), ("../x", "no name below"), ("a/../../x", "no name below"), ("./x", "no name below"), ("a//b", "no name below|git says"),
                            (".git/config", "git's own"), (".git/hooks/pre-commit", "git's own"), ("sub/.GIT/x", "git's own"), (".Git/x", "git's own"),
                            ("store/config", "git's own"), ("store/hooks/post-update", "git's own"), ("git~1/x", "git says"), (".g\u200cit/x", "git says"),
                            ("out/x", "beyond a symbolic link"), ("out/f", "beyond a symbolic link|already exists"), ("kept", "already exists"), ("kept/x", "git says|cannot write")):
            with self.subTest(name=name):
                patch = self.NEW.format(name, "100644")
                self.refuse(patch, words)
                if "git says" in words or "symbolic" in words:
                    self.refuse(patch, words, "--3way")
        self.assertEqual([p.name for p in outside.iterdir()], ["f"])
        self.assertEqual((outside / "f").read_text(), "mine")

    def test_top_is_git_folder(self):
        """A work tree whose own folder is the repository's: hooks lie beside its files."""
        self.sh("mv .git/* .; rmdir .git; echo 'gitdir: .' > .git; git config -f config core.worktree .", cwd=self.host)
        self.send()
        self.refuse(self.NEW.format("hooks/pre-commit", "100755"), "git's own")

    def test_hostile_contents(self):
        """Good files first, then one that is not to be: none of them is written."""
        self.send()
        good = self.NEW.format("good", "100644")
        link = "diff --git a/link2 b/link2\nnew file mode 120000\n--- /dev/null\n+++ b/link2\n@@ -0,0 +1 @@\n+/etc\n\\ No newline at end of file\n"
        for patch, words in (
                (good + link + self.NEW.format("link2/passwd", "100644"), "beyond a symbolic link"),
                (good + "diff --git a/kept b/kept\n--- a/kept\n+++ b/kept\n@@ -1 +1 @@\n-not there\n+x\n", "does not apply"),
                (good + "diff --git a/kept b/kept\nrename from kept\nrename to ../kept\nsimilarity index 100%\n", "no name below|does not fit"),
                (good + f"diff --git a/kept b/kept\nsimilarity index 100%\nrename from kept\nrename to {self.state}/x\n", "no name below|does not fit"),
                (good + "diff --git a/gone b/.git/x\nsimilarity index 100%\ncopy from gone\ncopy to .git/x\n", "git's own"),
                (good + "".join(self.NEW.format(f"x/{name}", "100644") for name in ("HEAD", "config", "objects/a", "refs/a")), "a repository of its own"),
                (good + self.bomb(), "git says: fatal: Out of memory"),
                (b"\x1b]0;evil\x07 no patch at all\n" * 9, "does not fit"),
                (good + "diff --git a/\x1b[31mred b/\x1b[31mred\n--- a/\x1b[31mred\n+++ b/\x1b[31mred\n@@ -1 +1 @@\n-1\n+2\n", r"\[31mred: No such file")):
            with self.subTest(patch=patch[-120:]):
                self.refuse(patch, words)
        self.assertFalse((self.host / "good").exists())

    def test_hostile_modes(self):
        """No bit but the one for execution arrives; a submodule's place is not made; a pipe in the way is no file."""
        self.send()
        self.hostile(self.NEW.format("setuid", "104755") + self.NEW.format("open", "100666"))
        self.apply(status=None)
        for name in ("setuid", "open"):
            if (self.host / name).exists():
                self.assertEqual((self.host / name).stat().st_mode & 0o7022, 0)
        for kind in ("020666", "060660", "010644", "140755", "040755"):  # a device, another, a pipe, a socket, a folder
            self.hostile(self.NEW.format(f"node{kind}", kind) + self.NEW.format("after", "100644"))
            self.apply(status=None)
            found = [stat.S_IFMT(path.lstat().st_mode) for path in self.host.glob("node*")]
            self.assertLessEqual(set(found), {stat.S_IFREG})
        (self.state / "bin" / "git").unlink()
        os.mkfifo(self.host / "pipe")
        self.refuse(self.NEW.format("pipe", "100644"), "neither a file nor a link")

    def test_case_twins(self):
        """Two names that differ by case are two files, and neither is git's own folder."""
        self.send()
        self.hostile(self.NEW.format("Kept", "100644") + self.NEW.format("twin", "100644") + self.NEW.format("TWIN", "100644"))
        kept = (self.host / "kept").read_bytes()
        self.apply()
        self.assertEqual(len({(self.host / name).stat().st_ino for name in ("Kept", "kept", "twin", "TWIN")}), 4)
        self.assertEqual((self.host / "kept").read_bytes(), kept)

    def test_too_much(self):
        """A patch of more than is taken: 10 GiB of it, said by a guest that does not end."""
        self.send()
        before = self.everything()
        git = self.state / "bin" / "git"
        git.write_text("#!/bin/sh\ncase $* in *diff-index*) exec head -c 10G /dev/zero;; esac\n")
        git.chmod(0o755)
        _, err = self.apply("--max-size", "20M", status=None)
        self.assertIn("says more than 20971520 bytes", err)
        self.assertEqual(self.everything(), before)


class Prepared(Work):
    def test_branch(self):
        """What is not committed goes along to it; what the guest changes then is what comes back."""
        self.sh("git tag v1; git stash -q; echo second > second; git add second; git commit -qm second; git stash pop -q", cwd=self.host)
        for wish, head in (({"BRANCH": "try/it"}, b"second"), ({"BRANCH": "old", "FROM": "v1"}, b"first")):
            with self.subTest(wish=wish):
                self.send(**wish)
                self.assertEqual(self.sh("git log -1 --format=%s; git rev-parse --abbrev-ref HEAD", cwd=self.guest), head + b"\n" + wish["BRANCH"].encode() + b"\n")
                self.assertEqual(self.run_banger("vm", "workspace", "diff", "web")[0], "")
                self.assertEqual(self.sh("git diff HEAD --name-only; git ls-files -o --exclude-standard", cwd=self.guest), b"staged\nunstaged\nuntracked\n")

    def test_no_branch(self):
        """Said before anything is sent, but for what only the guest knows."""
        self.sh("git tag v1; git branch there; git commit -qam second; echo more >> unstaged", cwd=self.host)
        for wish, words in (({"BRANCH": "there"}, "there is a branch 'there' already"), ({"BRANCH": "a..b"}, "'a..b' is no name for a branch"), ({"BRANCH": "--force"}, "no name for a branch"),
                            ({"BRANCH": "x", "FROM": "nowhere"}, "there is no commit 'nowhere'"), ({"BRANCH": "x", "FROM": "--all"}, "there is no commit '--all'"),
                            ({"FROM": "v1"}, "but no branch"), ({"BRANCH": "x", "FROM": "v1"}, "'unstaged' is not committed, and is another file there"), ({"BRANCH": ""}, "no name")):
            with self.subTest(wish=wish):
                self.assertIn(words, self.send(status=1, **wish))
        self.assertFalse(self.guest.exists())
        git = self.state / "bin" / "git"
        git.write_text("#!/bin/sh\necho no branches today >&2; exit 1\n")
        git.chmod(0o755)
        self.env["PATH"] = "/usr/bin:/bin"
        shell = f"PATH={self.state}/bin:$PATH; eval \"$(printf %s \"$0\" | sed 's|cd /root|cd {self.guest.parent}|g')\""
        done = subprocess.run([TOOL, "send", self.host, shell, "0"], env={**self.env, "BRANCH": "x"}, check=False, capture_output=True, timeout=60)
        self.assertIn(b"git in the guest failed: no branches today", done.stderr)

    def test_tracked_only(self):
        self.send(TRACKED_ONLY="1")
        self.assertFalse((self.guest / "untracked").exists())
        self.assertTrue((self.guest / "unstaged").exists())
        self.assertEqual(self.run_banger("vm", "workspace", "diff", "web")[0], "")

    def test_depth(self):
        """A part of the history is as git itself would have cut it, with what is staged and a merge under way; a later whole one heals it."""
        self.sh("""git stash -q; git tag first; git checkout -qb side; for i in 1 2 3; do echo $i > side; git add side; git commit -qm side$i; done
            git checkout -q main; for i in 1 2 3; do echo $i > main; git add main; git commit -qm main$i; done; git merge -qm merged side; git tag -am v v1 main^; git tag light side^; git stash pop -q; git add staged""", cwd=self.host)
        shown = "git log --format=%s | sort; git fsck --no-dangling; git for-each-ref --format='%(refname)'; git diff --cached --name-only; git rev-parse --is-shallow-repository"
        for depth, commits, tags in (("1", ["merged"], []), ("2", ["main3", "merged", "side3"], ["v1"]), ("3", ["main2", "main3", "merged", "side2", "side3"], ["light", "v1"])):
            with self.subTest(depth=depth):
                self.send(DEPTH=depth)
                self.assertEqual(self.sh(shown, cwd=self.guest).decode().split(), [*commits, "refs/heads/main", *(f"refs/tags/{tag}" for tag in tags), "staged", "true"])
                self.assertIn("1 tag stays behind" if depth == "3" else "tags stay behind", self.notes)
                self.assertEqual(self.sh("git clone -q --depth $1 \"file://$PWD\" ../there; git -C ../there log --format=%s | sort; rm -rf ../there", depth, cwd=self.host).decode().split(), commits)
        self.sh("echo guest >> kept; git commit -qm guest kept", cwd=self.guest)
        self.assertIn("+guest", self.run_banger("vm", "workspace", "diff", "web")[0])
        self.assertIn("Subject: [PATCH] guest", self.run_banger("vm", "workspace", "export", "web", "--commits")[0])
        self.send(DEPTH="2", BRANCH="old", FROM="side~1")
        self.assertEqual(self.sh("git log --format=%s; git fsck --no-dangling; git tag", cwd=self.guest), b"side2\nside1\nlight\nv1\n")
        self.send(DEPTH="9")
        self.assertEqual(self.sh("git rev-parse --is-shallow-repository; git rev-list --count HEAD; git tag; git describe", cwd=self.guest).decode().split()[:-1],
                         ["false", "8", "first", "light", "v1"])
        self.assertNotIn("stay", self.notes)
        self.send()
        self.assertEqual(self.sh("git fsck --no-dangling; git tag", cwd=self.guest), b"first\nlight\nv1\n")
        self.assertEqual([name for name in os.listdir(self.env.get("TMPDIR", "/tmp")) if name.startswith("banger-history")], [])

    def test_depth_that_nobody_said(self):
        """Fifty generations of a long history, all of a shorter one with its tags; never a refusal; base and export are there."""
        self.sh("git tag first; for i in $(seq 49); do git commit -q --allow-empty -m c$i; done", cwd=self.host)
        shown = "git rev-list --count HEAD; git rev-parse --is-shallow-repository; git tag; git fsck --no-dangling"
        self.send(DEPTH="unsaid")
        whole = self.sh("git rev-list --count HEAD", cwd=self.host).decode().strip()
        self.assertEqual(self.sh(shown, cwd=self.guest).decode().split(), [whole, "false", "first"])
        self.sh("for i in $(seq 50 55); do git commit -q --allow-empty -m c$i; done", cwd=self.host)
        self.send(DEPTH="unsaid")
        self.assertEqual(self.sh(shown, cwd=self.guest).decode().split(), ["50", "true"])
        self.sh("echo guest >> kept; git commit -qm guest kept; echo more >> kept", cwd=self.guest)
        self.assertIn("+guest", self.run_banger("vm", "workspace", "diff", "web")[0])
        self.assertIn("Subject: [PATCH] guest", self.run_banger("vm", "workspace", "export", "web", "--commits")[0])
        self.run_banger("vm", "workspace", "export", "web", "--apply")
        self.assertEqual((self.host / "kept").read_text(), (self.guest / "kept").read_text())
        self.sh("git checkout -q kept; git config extensions.partialClone origin", cwd=self.host)
        self.send(DEPTH="unsaid")
        self.assertEqual(self.sh("git rev-parse --is-shallow-repository", cwd=self.guest), b"false\n")

    def test_depth_of_odd_ones(self):
        """A clone that is shallow itself, one without a commit, a detached HEAD, a merge under way, a partial clone."""
        self.sh("for i in 1 2 3; do git commit -q --allow-empty -m c$i; done; git clone -q --depth 2 \"file://$PWD\" ../cut; rm -rf .git; mv ../cut/.git .", cwd=self.host)
        self.send(DEPTH="5")
        self.assertEqual(self.sh("git log --format=%s; git fsck --no-dangling; git rev-parse --is-shallow-repository", cwd=self.guest), b"c3\nc2\ntrue\n")
        self.sh("git checkout -qf -b a; echo a > kept; git commit -qam a; git checkout -qb b HEAD~; echo b > kept; git commit -qam b; git checkout -q --detach; git merge a || true", cwd=self.host)
        self.send(DEPTH="1")
        self.assertEqual(self.sh("git ls-files -u | wc -l; git rev-parse --abbrev-ref HEAD; echo c > kept; git commit -qam both; git log --format=%s -1 HEAD^2; git fsck --no-dangling", cwd=self.guest), b"3\nHEAD\na\n")
        self.sh("git config extensions.partialClone origin", cwd=self.host)
        self.assertIn("is a partial clone: its history goes as it is", self.send(status=1, DEPTH="1"))
        self.sh("rm -rf .git; git init -qb main; git add kept", cwd=self.host)
        self.send(DEPTH="1")
        self.assertEqual(self.sh("git status --porcelain kept", cwd=self.guest), b"A  kept\n")

    def test_hostile_depth(self):
        """Nothing that the repository names is run, and what it says of others' objects is not followed."""
        self.sh("""git commit -qm more --allow-empty; for key in core.fsmonitor core.pager core.sshCommand uploadpack.packObjectsHook core.alternateRefsCommand; do git config $key "touch '$1/ran'"; done
            printf '#!/bin/sh\ntouch "%s/ran"\n' "$1" > .git/hooks/post-index-change; chmod +x .git/hooks/*""", self.state, cwd=self.host)
        self.send(DEPTH="1")
        self.assertFalse((self.state / "ran").exists())
        self.sh("git init -q ../private; cd ../private; echo secret > s; git add s; git commit -qm secret", cwd=self.host)
        secret = self.sh("git rev-parse HEAD", cwd=self.host.parent / "private").decode()
        (self.host / ".git/objects/info/alternates").write_text(f"{self.host.parent}/private/.git/objects\n")
        (self.host / ".git/MERGE_HEAD").write_text(secret)
        self.send(DEPTH="1")
        self.assertFalse((self.guest / ".git/HEAD").exists())

    def test_plain(self):
        """What git says of a folder counts for nothing, and the guest's own repository in it stays."""
        self.sh("mkdir -p empty nested; git init -q nested; echo n > nested/n; mkfifo pipe; chmod 600 kept", cwd=self.host)
        self.send(NO_GIT="1")
        names = self.sh("find . -mindepth 1 | LC_ALL=C sort", cwd=self.guest).decode().split("\n")
        self.assertEqual(names, self.sh("find . -mindepth 1 -name .git -prune -o -type p -o -mindepth 1 -print | LC_ALL=C sort", cwd=self.host).decode().split("\n"))
        self.assertIn("./x.o", names)
        self.assertEqual((self.guest / "kept").stat().st_mode & 0o777, 0o600)
        self.sh("git init -q; git add kept; git commit -qm guest", cwd=self.guest)
        self.sh("rm x.o; echo again > kept", cwd=self.host)
        self.send(NO_GIT="1")
        self.assertEqual(self.sh("git log --format=%s; cat kept; ls x.o || true", cwd=self.guest), b"guest\nagain\n")
        self.assertIn("it is not known what was sent", self.run_banger("vm", "workspace", "diff", "web", status=None)[1])
        for wish in ({"BRANCH": "x"}, {"DEPTH": "1"}, {"TRACKED_ONLY": "1"}):
            self.assertIn("goes with neither", self.send(status=1, NO_GIT="1", **wish))

    def test_who_commits(self):
        """The user's name and address are those of the guest's copy."""
        self.sh("git config --global user.name 'A \"B\" C'; git config user.email a@example.org", cwd=self.host)
        self.send()
        for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
            del self.env[name]
        self.env["HOME"] = "/nonexistent"
        self.sh("git commit -qam mine", cwd=self.guest)
        self.assertEqual(self.sh("git log -1 --format='%an <%ae>'", cwd=self.guest), b'A "B" C <a@example.org>\n')


class Command(Work):
    """What a work tree means for a command."""

    def setUp(self):
        super().setUp()
        self.guest.mkdir()
        self.run_banger("vm", "run", "-q", "--detach", "--name", "web")

    def head(self, commit=None):
        (self.state / "head").write_text(commit or self.sh("git rev-parse HEAD", cwd=self.host).decode().strip())

    def exec(self, *words, command=("pwd",), **kwargs):
        return self.run_banger("vm", "exec", "web", *words, "--", *command, **kwargs)

    def test_starts_in_it(self):
        """The copy is where it starts, as root; whoever says where or who has that."""
        self.assertNotEqual(self.exec()[0], str(self.guest) + "\n")
        self.assertIn("no work tree was sent", self.exec("--sync", status=None)[1])
        self.head()
        self.run_banger("vm", "workspace", "prepare", "web", str(self.host))
        self.assertEqual(self.exec(), (str(self.guest) + "\n", ""))
        self.assertEqual(self.exec("--cwd", str(self.state)), (str(self.state) + "\n", ""))
        self.assertNotIn("cwd", self.calls("Exec")[0]["arguments"][-1])
        self.exec("--user", "ann")
        self.assertNotIn("cwd", self.calls("Exec")[-1]["arguments"][-1])

    def test_moved(self):
        """A commit on the host is told of, on stderr, until the tree is sent again; a tree that is gone is none of a command's."""
        self.head()
        self.run_banger("vm", "workspace", "prepare", "web", str(self.host))
        self.sh("git commit -qm more --allow-empty", cwd=self.host)
        out, err = self.exec()
        self.assertEqual(out, str(self.guest) + "\n")
        self.assertRegex(err, r"^HEAD has moved in .*it's a repo since it was sent to web: `banger vm exec --sync` sends it again\n$")
        self.assertEqual(self.exec("-q")[1], "")
        self.head()
        self.assertEqual(self.exec("--sync", "-q"), (str(self.guest) + "\n", ""))
        self.assertEqual(self.exec()[1], "")
        self.sh("git config core.fsmonitor 'touch ran'; git config alias.rev-parse '!touch ran'; git commit -qm yet --allow-empty; rm -f ran", cwd=self.host)
        self.assertIn("HEAD has moved", self.exec()[1])
        self.assertFalse((self.host / "ran").exists())
        self.sh('rm -rf "$1"', self.host)
        self.assertEqual(self.exec(), (str(self.guest) + "\n", ""))

    def test_as_before(self):
        """How a tree was sent holds until something else is said; with a PATH nothing does."""
        def sent(*words):
            self.run_banger("vm", "workspace", "prepare", "web", *words)
            return {key: value for key, value in self.calls("ImportWorkspace")[-1]["arguments"][-1].items() if key != "path-bytes"}

        top = str(self.host)
        self.assertEqual(sent(top, "--no-git"), {"no-git": True})
        self.assertEqual(sent(), {"no-git": True})
        self.exec("--sync")
        self.assertEqual(self.calls("ImportWorkspace")[-1]["arguments"][-1]["no-git"], True)
        self.assertEqual(sent("--depth", "3"), {"depth": 3})
        self.assertEqual(sent("--tracked-only"), {"depth": 3, "tracked-only": True})
        self.assertEqual(sent("--branch", "try"), {"depth": 3, "tracked-only": True, "branch": "try"})
        self.assertEqual(sent("--depth", "all"), {"depth": 0, "tracked-only": True})
        self.assertEqual(sent(), {"depth": 0, "tracked-only": True})
        self.assertEqual(sent("--no-git"), {"no-git": True})
        self.assertEqual(sent(top), {})
        self.assertEqual(sent(), {})


class Status(Work):
    def status(self):
        return json.loads(self.run_banger("vm", "workspace", "status", "web", "--json", PATH="/usr/bin:/bin")[0])

    @staticmethod
    def changes(side):
        return {(each["change"], each["path"], each["both"]) for each in side["changes"]}

    def test_nothing(self):
        self.send()
        found = self.status()
        self.assertEqual([(self.changes(found[side]), found[side]["commits"]) for side in ("guest", "host")], [(set(), 0)] * 2)
        self.assertEqual({found["sent"], found["guest"]["head"], found["host"]["head"]}, {found["sent"]})
        out = self.run_banger("vm", "workspace", "status", "web")[0]
        self.assertIn("nothing has changed in web", out)
        self.assertIn("nothing has changed here", out)

    def test_both_sides(self):
        """Files that were sent changed or untracked are none; nor is what git ignores."""
        self.send()
        self.sh("echo x >> kept; echo x >> both; rm gone; git mv moved went; echo x > fresh; chmod +x mode; echo x > y.o; git commit -qam one", cwd=self.guest)
        self.sh("echo y >> both; echo y > here; rm sub/deep; touch untracked kept; echo y > z.o; git commit -qam two; git commit -q --allow-empty -m three", cwd=self.host)
        found = self.status()
        self.assertEqual(self.changes(found["guest"]), {("M", "kept", False), ("M", "both", True), ("D", "gone", False), ("R", "went", False),
                                                        ("A", "fresh", False), ("M", "mode", False)})
        self.assertEqual(self.changes(found["host"]), {("M", "both", True), ("A", "here", False), ("D", "sub/deep", False)})
        self.assertEqual((found["guest"]["commits"], found["host"]["commits"]), (1, 2))
        out = self.run_banger("vm", "workspace", "status", "web")[0]
        self.assertIn("  R  moved -> went\n", out)
        self.assertIn("  M  both  (on both sides)\n", out)
        self.assertRegex(out, "HEAD has moved here since [0-9a-f]{40} was sent: 2 commits")
        self.sh("git checkout -q both; git reset -q --hard HEAD~2; git stash -qu", cwd=self.host)

    def test_after_it_was_applied(self):
        self.send()
        self.sh("echo x >> kept; echo new > fresh", cwd=self.guest)
        self.run_banger("vm", "workspace", "export", "web", "--apply")
        found = self.status()
        self.assertEqual([self.changes(found[side]) for side in ("guest", "host")], [set()] * 2)

    def test_links(self):
        """One that is in no commit, and one that the guest made, are as they were until they lead elsewhere."""
        self.sh("ln -s both fresh", cwd=self.host)
        self.send()
        self.assertEqual(self.changes(self.status()["host"]), set())
        self.sh("ln -sf gone link; ln -s kept made", cwd=self.guest)
        self.run_banger("vm", "workspace", "export", "web", "--apply", PATH="/usr/bin:/bin")
        self.assertEqual([self.changes(self.status()[side]) for side in ("guest", "host")], [set()] * 2)
        self.sh("ln -sf kept fresh; rm link; echo file > link", cwd=self.host)
        self.assertEqual(self.changes(self.status()["host"]), {("M", "fresh", False), ("T", "link", False)})

    def test_names(self):
        """Any bytes; none of them reaches a terminal as it is."""
        self.send()
        for name in AWKWARD:
            with open(os.fsencode(self.guest) + b"/" + name, "wb") as file:
                file.write(name)
        self.assertEqual(len(self.status()["guest"]["changes"]), len(AWKWARD))
        out = self.run_banger("vm", "workspace", "status", "web")[0]
        self.assertIn("  A  new\\x0aline\n", out)
        self.assertNotRegex(out, "[\x00-\x09\x0b-\x1f\x7f]")

    def test_hostile(self):
        """Lies of any shape: an error or a list, nothing else."""
        self.send()
        before = self.sh("find . -type f -print0 | sort -z | xargs -0 sha256sum", cwd=self.host)
        blob = "100644 blob " + "1" * 40 + "\t"
        for head, changed, tree, status in (
                ("--help", "", "", 70), ("zz", "", "", 70), ("a" * 9999, "", "", 70), ("", "M\0", "", 70), ("", "R100\0a\0", "", 70), ("", "Q\0\x1b[2J\0", "", 70),
                ("", "M\0a\x1b[2J\0", "", 0), ("", "", "garbage\0", 70), ("", "", blob + "../../x\0", None), ("", "", blob + ".git/config\0", None), ("", "", blob + "/etc/passwd\0", None),
                ("", "", "999999 blob x\ty\0", None), ("", "", "100644 --help " + "1" * 40 + "\tx\0", None), ("1" * 40, "", blob + "kept\0", 0), ("", "", blob + "cut", 0)):
            with self.subTest(head=head[:9], changed=changed, tree=tree):
                (self.guest / ".git/banger/head").write_text(head)
                (self.state / "changed").write_text(changed)
                (self.state / "tree").write_text(tree)
                git = self.state / "bin" / "git"
                git.write_text(f"#!/bin/sh\ncase $* in *diff-index*) exec cat {self.state}/changed;; *ls-tree*) exec cat {self.state}/tree;; esac\nexec /usr/bin/git \"$@\"\n")
                git.chmod(0o755)
                out, err = self.run_banger("vm", "workspace", "status", "web", status=status, PATH="/usr/bin:/bin")
                self.assertNotRegex(out + err, "[\x00-\x09\x0b-\x1f\x7f]")
        self.assertEqual(self.sh("find . -type f -print0 | sort -z | xargs -0 sha256sum", cwd=self.host), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
