"""What of a git repository goes into a guest, held against git itself, and what never does.

Run by meson test with the path of workspace-tool.
Never touches a repository but those it makes in a temporary folder.
"""

import io
import os
import pathlib
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import unittest

TOOL = os.path.abspath(sys.argv.pop(1))
SECRET = "xyzzy-private"


class Case(unittest.TestCase):
    def setUp(self):
        self.top = pathlib.Path(os.path.realpath(tempfile.mkdtemp(prefix="workspace-")))
        self.home = self.top / "home"
        self.home.mkdir()
        os.chmod(self.top, 0o755)
        self.addCleanup(subprocess.run, ["rm", "-rf", self.top])
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C",
                    "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_COMMITTER_NAME": "t",
                    "GIT_COMMITTER_EMAIL": "t@example.org"}
        (self.home / ".gitconfig").write_text("[init]\n\tdefaultBranch = main\n[protocol \"file\"]\n\tallow = always\n"
                                              "[safe]\n\tdirectory = /none\n")
        for key in "LSAN_OPTIONS", "ASAN_OPTIONS", "UBSAN_OPTIONS":
            if key in os.environ:
                self.env[key] = os.environ[key]

    def sh(self, script, cwd=None, status=0, env=None):
        done = subprocess.run(["bash", "-ec", script], cwd=cwd or self.top, env=env or self.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=600)
        self.assertEqual(done.returncode, status, (script, done.stdout, done.stderr))
        return done.stdout.decode("utf-8", "surrogateescape")

    def repo(self, name="repo", options="", content="echo one > a; mkdir sub; echo two > sub/b"):
        self.sh(f"git init -q {options} {shlex.quote(name)}; cd {shlex.quote(name)}; {content}; git add -A; git commit -qm first")
        return self.top / name

    def tool(self, *words, prefix=(), timeout=60, env=None):
        return subprocess.run([*prefix, TOOL, *map(os.fsencode, words)], env=env or self.env, cwd="/",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                              timeout=timeout)

    def tar(self, path, prefix=(), status=0, timeout=60):
        """The archive as bytes, and what was said."""
        ours, theirs = socket.socketpair()
        with ours, subprocess.Popen([*prefix, TOOL, "tar", os.fsencode(path)], env=self.env, cwd="/", stdout=theirs,
                                    stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
            theirs.close()
            ours.settimeout(timeout)
            data = b"".join(iter(lambda: ours.recv(1 << 20), b""))
            said = child.stderr.read().decode()
            self.assertEqual(child.wait(timeout), status, said)
        return data, said

    def unpack(self, path, **kwargs):
        """The guest's copy of @path, and what was said."""
        data, said = self.tar(path, **kwargs)
        out = self.top / "out"
        subprocess.run(["rm", "-rf", out], check=True)
        out.mkdir()
        subprocess.run(["tar", "-x", "--no-same-owner", "--warning=no-unknown-keyword", "-C", out], input=data, check=True)
        folder = [line for line in said.splitlines() if line.startswith("folder: ")][0][len("folder: /root/"):]
        return out / folder.split("/")[0], said

    def names(self, data):
        """Paths of files and links below the top, without the repository itself, as bytes."""
        found = set()
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
            for entry in archive:
                name = os.fsencode(entry.name).split(b"/", 1)[1] if "/" in entry.name else b""
                if not entry.isdir() and name and not (b"/" + name).startswith(b"/.git/"):
                    found.add(name)
        return found

    def listed(self, repo):
        """What git lists and is there."""
        done = subprocess.run(["git", "-C", repo, "ls-files", "-coz", "--exclude-standard"], env=self.env, check=True,
                              stdout=subprocess.PIPE)
        names = set(done.stdout.split(b"\0")) - {b""}
        return {n for n in names if os.path.lexists(os.path.join(os.fsencode(repo), n))}

    def same_here_and_there(self, repo, copy, fsck=True):
        ask = "git status --porcelain; git log --format='%H %s' --all --; git branch --show-current; git diff HEAD --stat 2>/dev/null || true"
        plain = {**self.env, "HOME": str(self.top / "out")}  # the guest has its own configuration
        self.assertEqual(self.sh(ask, cwd=copy, env=plain), self.sh(ask, cwd=repo))
        if fsck:
            self.sh("git fsck --strict 2>&1", cwd=copy, env=plain)


class Lists(Case):
    """What `git ls-files -co --exclude-standard` lists arrives."""

    def check(self, repo, *expected):
        data, said = self.tar(repo)
        self.assertEqual(self.names(data), self.listed(repo), said)
        for name in expected:
            self.assertIn(name, self.names(data))

    def test_smallest(self):
        cases = {
            "all-folders": ("mkdir d; echo x > d/x; echo '*/' > .gitignore; echo t > t", b".gitignore"),
            "again": ("mkdir -p src/lib lib; echo 'lib/' > .gitignore; echo '!lib/' > src/.gitignore; echo b > src/lib/b;"
                      "echo no > lib/c", b"src/lib/b"),
            "classes": ("mkdir -p tools/bin Bin bin; printf '[Bb]in/\\n!/tools/bin/\\n' > .gitignore; echo r > tools/bin/run;"
                        "echo no > Bin/x", b"tools/bin/run"),
            "link": ("echo node_modules/ > .gitignore; mkdir real; ln -s real node_modules; echo r > real/r", b"node_modules"),
            "stale": ("mkdir st; echo 'gitdir: /nowhere' > st/.git; echo x > st/x", b"st/x"),
            "empty": ("mkdir -p em/.git; echo x > em/x", b"em/x"),
            "garbage": ("mkdir -p ga/.git; echo junk > ga/.git/HEAD; echo x > ga/x", b"ga/x"),
            "words": ("mkdir wo; echo junk > wo/.git; echo x > wo/x", b"wo/x"),
            "bytes": ("printf x > $'n\\xff\\xfe'; printf x > $'new\\nline'; mkdir $'d\\xe4'; printf y > $'d\\xe4/\\t'",
                      b"d\xe4/\t"),
            "long": ("p=$(printf 'a%.0s' $(seq 200)); mkdir -p $p/$p; echo x > $p/$p/$p", b"a" * 200 + b"/" + b"a" * 200 + b"/" + b"a" * 200),
            "index-only": ("echo f > f; echo f > .gitignore; git add -f f; git commit -qm f", b"f"),
            "exclude": ("echo hidden > .git/info/exclude; touch hidden seen; mkdir -p ~/.config/git; echo '*.mine' > "
                        "~/.config/git/ignore; touch a.mine", b"seen"),
            "dash": ("touch -- -rf --help; mkdir -- -d; touch -- -d/x", b"-d/x"),
            "unmerged": ("git checkout -qb o; echo o > a; git commit -qam o; git checkout -q main; echo m > a; git commit -qam m;"
                         "git merge -q o > /dev/null || true", b"a"),
            "intent": ("echo n > n; git add -N n", b"n"),
            "case": ("git config core.ignorecase true; echo FOO > .gitignore; touch foo bar", b"bar"),
        }
        for name, (script, expected) in cases.items():
            with self.subTest(name):
                repo = self.repo(name)
                self.sh(script, cwd=repo)
                self.check(repo, expected)

    def test_generated_ignore_files(self):
        """200 sets of ignore files over one tree."""
        rng = random.Random(20260101)
        repo = self.repo()
        stems = [b"a", b"b", b"lib", b"Lib", b"bin", b"x.o", b"x.c", b"f oo", b"f ", b"#h", b"!n", b"\xff\xe4", b"[z]", b"t\\", b".d"]
        folders = [b"", b"lib/", b"lib/a/", b"src/", b"src/lib/", b"src/lib/bin/", b"bin/lib/", b"\xfe/", b".d/"]
        for folder in folders:
            os.makedirs(os.fsencode(repo) + b"/" + folder, exist_ok=True)
            for stem in stems:
                path = os.fsencode(repo) + b"/" + folder + stem
                if not os.path.isdir(path) and not any(f.startswith(folder + stem + b"/") for f in folders):
                    pathlib.Path(os.fsdecode(path)).write_bytes(b"x")
        self.sh("git add src/x.c lib/x.o; git commit -qm x; ln -s lib linked; ln -s nowhere src/dangling", cwd=repo)
        parts = [b"a", b"b", b"lib", b"[Ll]ib", b"bin", b"*", b"**", b"*.o", b"x.?", b"f\\ oo", b"f ", b"f\\ ", b"\\#h", b"#h", b"\\!n",
                 b"\xff*", b"[!a]*", b"\\[z\\]", b"t\\\\", b".*", b"src", b"?", b"[a-z]", b"linked", b"\xfe", b"[[:alpha:]]", b"[a", b""]

        def pattern():
            text = b"/".join(rng.choice(parts) for _ in range(rng.choice([1, 1, 1, 2, 2, 3])))
            return (rng.choice([b"", b"", b"!"]) + rng.choice([b"", b"", b"/", b"**/"]) + text
                    + rng.choice([b"", b"", b"/", b"/**", b"/*", b" ", b"\t", b"\r"]))

        places = [".gitignore", "src/.gitignore", "src/lib/.gitignore", "lib/.gitignore", ".git/info/exclude"]
        sizes = set()
        for number in range(200):
            for place in places:
                path = repo / place
                path.unlink(missing_ok=True)
                if place == ".gitignore" or rng.random() < 0.5:
                    path.write_bytes(b"\n".join(pattern() for _ in range(rng.randint(1, 6))) + rng.choice([b"", b"\n"]))
            with self.subTest(number, root=(repo / ".gitignore").read_bytes()):
                self.check(repo)
                sizes.add(len(self.listed(repo)))
        self.assertGreater(len(sizes), 30)  # they did differ


class Shapes(Case):
    """Repositories of all kinds: the files, and history that works or a line that says why not."""

    def good(self, repo, fsck=True, note=None):
        copy, said = self.unpack(repo)
        if note is None:
            self.assertNotIn("note: ", re.sub("note: .* along that git does not track\n", "", said))
        else:
            self.assertIn(note, said)
        self.same_here_and_there(repo, copy, fsck)
        return copy, said

    def left(self, repo, *words):
        """The files alone, and why."""
        copy, said = self.unpack(repo)
        self.assertFalse(os.path.lexists(copy / ".git"))
        for word in ("history", *words):
            self.assertIn(word, said)
        self.assertTrue((copy / "a").is_file())
        return said

    def test_formats(self):
        cases = {
            "plain": ("", "true"),
            "packed": ("", "git tag v1; git gc -q; git pack-refs --all"),
            "split": ("", "git update-index --split-index; echo n > n; git add n"),
            "v4": ("", "git update-index --index-version 4"),
            "sha256": ("--object-format=sha256", "echo x > x"),
            "worktree-config": ("", "git config extensions.worktreeConfig true; git config --worktree core.filemode false; chmod 755 a"),
            "unborn": ("", "git checkout -q --orphan none; git rm -rq --cached ."),
            "detached": ("", "git commit -q --allow-empty -m two; git checkout -q HEAD~1"),
            "bytes": ("", "git branch $'b\\xe4'; git checkout -q $'b\\xe4'"),
            "autocrlf": ("", "git config core.autocrlf true; printf 'x\\r\\n' > c; git add c 2>/dev/null; git commit -qm c"),
            "eol": ("", "printf '*.txt text eol=crlf\\n' > .gitattributes; printf 'x\\r\\n' > c.txt; git add -A; git commit -qm c"),
            "modes": ("", "git config core.filemode false; chmod 755 a; chmod 600 sub/b"),
            "links": ("", "git config core.symlinks false; ln -s a l; git add l; rm l; printf a > l; git commit -qm l"),
            "attributes": ("", "echo '*.t text' > .git/info/attributes; printf 'x\\r\\n' > q.t"),
            "untracked-cache": ("", "git update-index --untracked-cache; git status >/dev/null; touch new"),
            "fsmonitor-bits": ("", "git config core.fsmonitor true; echo m >> a"),
            "assume": ("", "git update-index --assume-unchanged a; echo m >> a"),
            "skip": ("", "git update-index --skip-worktree a; echo m >> a"),
            "replaced": ("", "git commit -q --allow-empty -m two; git replace HEAD HEAD~1"),
            "grafted-tag": ("", "git tag -a -m annotated v1"),
            "merging": ("", "git checkout -qb o; echo o > a; git commit -qam o; git checkout -q main; echo m > a; git commit -qam m;"
                            "git merge -q o >/dev/null || true"),
            "stash": ("", "echo s > a; git stash -q; git stash list >/dev/null"),
            "head-link": ("", "ln -sf refs/heads/main .git/HEAD"),
            "commit-graph": ("", "git commit-graph write; git multi-pack-index write || true"),
            "odd-config": ("", "printf '[core]\\n\\tbare\\n\\tbare = false\\n[alias]\\n\\tx = \"!a\\\\nb\"\\n' >> .git/config"),
        }
        for name, (options, script) in cases.items():
            with self.subTest(name):
                repo = self.repo(f"it's {name}", options)
                self.sh(script, cwd=repo)
                self.good(repo)

    def test_sparse(self):
        self.repo("source", content="for d in one two three; do mkdir $d; echo $d > $d/f; echo '*.o' > $d/.gitignore; done; echo r > r")
        self.sh("git config uploadpack.allowFilter true; git config uploadpack.allowAnySHA1InWant true", cwd=self.top / "source")
        for name, script, note in [
                ("cone", "git clone -q source cone; cd cone; git sparse-checkout set --cone one", None),
                ("index", "git clone -q source index; cd index; git sparse-checkout set --cone --sparse-index one", None),
                ("patterns", "git clone -q source patterns; cd patterns; git sparse-checkout set --no-cone '/one/'", None),
                ("blobless", f"git clone -q --filter=blob:none --sparse file://{self.top}/source blobless; cd blobless;"
                             "git sparse-checkout set one", "partial clone"),
                ("left-over", "git clone -q source left-over; cd left-over; git sparse-checkout set --cone one; mkdir two;"
                              "touch two/x.o two/y", None)]:
            with self.subTest(name):
                self.sh(script)
                copy, _ = self.good(self.top / name, fsck=note is None, note=note)
                self.assertEqual((copy / "one/f").read_text(), "one\n")
                self.assertFalse((copy / "three").exists())
                self.assertEqual(self.names(self.tar(self.top / name)[0]), self.listed(self.top / name))

    def test_partial(self):
        """What is there works, without a network; the address it came from goes along only if a guest can reach it."""
        source = self.repo("source")
        self.sh("echo two > a; git commit -qam second; git config uploadpack.allowFilter true", cwd=source)
        self.sh(f"git clone -q --filter=blob:none file://{source} part")
        copy, said = self.good(self.top / "part", fsck=True, note="partial clone")
        self.assertIn("fetch --refetch", said)
        self.assertNotIn(str(source), (copy / ".git/config").read_text())
        self.sh("git config remote.origin.url https://user:geheim@example.org/x.git", cwd=self.top / "part")
        config = (self.unpack(self.top / "part")[0] / ".git/config").read_text()
        self.assertIn("https://example.org/x.git", config)
        self.assertNotIn("geheim", config)
        self.sh(f"git clone -q --depth 1 file://{source} shallow")
        self.good(self.top / "shallow")

    def test_worktree(self):
        repo = self.repo()
        self.sh("git commit -q --allow-empty -m two; git worktree add -q ../linked -b side", cwd=repo)
        self.good(self.top / "linked")
        self.sh("git bisect start -q HEAD HEAD~1 2>/dev/null || true; git config extensions.worktreeConfig true;"
                "git config --worktree core.sparseCheckout false", cwd=self.top / "linked")
        self.good(self.top / "linked")
        self.sh("mv linked moved")  # git asks for `git worktree repair`; the place named back is not this one
        self.left(self.top / "moved", "does not name this work tree")

    def test_submodule(self):
        self.repo("lib", content="echo l > lib.c; echo '*.tmp' > .gitignore")
        repo = self.repo()
        self.sh("git submodule -q add ../lib mod; git commit -qm mod; touch mod/x.tmp; echo u > mod/u", cwd=repo)
        copy, _ = self.good(repo)
        self.assertEqual(sorted(os.listdir(copy / "mod")), [".git", ".gitignore", "lib.c", "u"])
        self.same_here_and_there(repo / "mod", copy / "mod")
        copy, _ = self.good(repo / "mod")
        self.assertEqual(copy.name, "mod")
        self.sh("git submodule -q deinit -f mod", cwd=repo)
        copy, _ = self.good(repo)
        self.assertEqual(os.listdir(copy / "mod"), [])
        self.sh("git submodule absorbgitdirs", cwd=repo)

    def test_nested(self):
        repo = self.repo()
        self.sh("mkdir in; cd in; git init -q; echo i > i; touch x.o; git add i; git commit -qm i; mkdir deep; cd deep; git init -q;"
                "echo d > d", cwd=repo)
        copy, _ = self.good(repo)
        self.assertEqual((copy / "in/deep/d").read_text(), "d\n")
        self.same_here_and_there(repo / "in", copy / "in")
        self.sh("printf '[core\\n' > in/.git/config", cwd=repo)
        copy, said = self.unpack(repo)
        self.assertIn("note: the repository 'in' stays behind: git cannot use", said)
        self.assertTrue((copy / "a").exists())

    def test_elsewhere(self):
        """A git folder in another place must name the tree; the message names the command that makes it so."""
        self.sh("git init -q --separate-git-dir=gd apart; cd apart; echo a > a; git add a; git commit -qm a")
        said = self.left(self.top / "apart", "does not name this work tree")
        self.sh(said.split("if it is its own: ")[1].splitlines()[0])
        self.good(self.top / "apart")

    def test_shared(self):
        self.repo("lender")
        self.sh("git clone -q --shared lender borrower; git clone -q --reference lender --dissociate lender own")
        self.good(self.top / "own")
        said = self.left(self.top / "borrower", "alternates")
        self.sh(said.split("to make it whole: ")[1].splitlines()[0])
        self.good(self.top / "borrower")
        self.sh("printf '\\n# nothing\\n' > borrower/.git/objects/info/alternates")
        self.good(self.top / "borrower")

    def test_lfs(self):
        """Contents on disk, a pointer in git: no change there, without git-lfs."""
        clean = self.top / "clean"
        clean.write_text("#!/bin/sh\nprintf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%s\\nsize 6\\n' "
                         "$(sha256sum | cut -c1-64)\n")
        clean.chmod(0o755)
        repo = self.repo(content=f"echo '*.bin filter=lfs -text' > .gitattributes; git config filter.lfs.clean {clean};"
                         "echo large > x.bin; echo a > a")
        self.assertIn("oid sha256:", self.sh("git cat-file -p :x.bin", cwd=repo))
        self.assertEqual(self.sh("git status --porcelain", cwd=repo), "")
        copy, _ = self.good(repo)
        # A pointer whose contents were never fetched stays one.
        self.sh("git cat-file -p :x.bin > y; test $(git hash-object --path=x.bin y) = $(git rev-parse :x.bin); rm y", cwd=copy)
        self.sh("echo other > x.bin", cwd=copy)
        self.assertEqual(self.sh("git status --porcelain", cwd=copy), " M x.bin\n")

    def test_settings_of_the_owner(self):
        """What his own files say of line endings holds there, too; what only a repository names as his does not go."""
        for name, script in [("named", "printf '*.w text eol=crlf\\n' > ~/attrs; git config --global core.attributesFile '~/attrs'"),
                             ("usual", "git config --global --unset core.attributesFile; mkdir -p ~/.config/git;"
                                       "mv ~/attrs ~/.config/git/attributes"),
                             ("autocrlf", "rm ~/.config/git/attributes; git config --global core.autocrlf true")]:
            with self.subTest(name):
                self.sh(script)
                repo = self.repo(name, content="printf 'a\\r\\n' > f.w; git add f.w; git commit -qm f; touch f.w; echo a > a")
                self.good(repo)
        self.sh(f"echo {SECRET} > secret; git -C {repo} config core.attributesFile {self.top}/secret")
        self.assertNotIn(SECRET.encode(), self.tar(repo)[0])

    def test_below(self):
        repo = self.repo()
        (repo / "empty/deep").mkdir(parents=True)
        copy, said = self.unpack(repo / "empty/deep")
        self.assertIn("folder: /root/repo/empty/deep\n", said)
        self.assertTrue((copy / "empty/deep").is_dir())
        os.symlink(repo / "sub", self.top / "way")
        self.assertIn("folder: /root/repo/sub\n", self.tar(self.top / "way")[1])

    def test_names(self):
        for name, there in [(".ssh", "ssh"), ("..x", "x"), ("a b", "a b"), ("-x", "-x"), ("...", "workspace")]:
            with self.subTest(name):
                self.sh(f"git init -q './{name}'")
                os.chmod(self.top / name, 0o777)
                self.assertIn(f"folder: /root/{there}\n", self.tar(self.top / name)[1])

    def test_branch_called_tmp(self):
        repo = self.repo()
        self.sh("git checkout -q -b tmp_fix; git tag tmp_tag; echo 2 > a; git commit -qam second; touch .git/objects/tmp_obj_x", cwd=repo)
        copy, _ = self.unpack(repo)
        self.assertEqual(self.sh("git log --format=%s; git for-each-ref --format='%(refname)'", cwd=copy).split(),
                         ["second", "first", "refs/heads/main", "refs/heads/tmp_fix", "refs/tags/tmp_tag"])
        self.assertFalse((copy / ".git/objects/tmp_obj_x").exists())

    def test_refused(self):
        self.sh("mkdir none; git init -q --bare bare.git; git init -q broken; printf '[core\\n' > broken/.git/config;"
                "git init -q future; git config -f future/.git/config core.repositoryformatversion 99; touch file")
        for path, words in [("none", "not in a git work tree: name one, or run `git init` there"), ("bare.git", "without a work tree: clone it, and name the clone"),
                            ("broken", "bad config line 1"), ("future", "99"), ("file", "not a folder"), ("gone", "No such file"),
                            ("future/.git", "")]:
            with self.subTest(path):
                data, said = self.tar(self.top / path, status=1)
                self.assertEqual(data, b"")
                self.assertIn("error: org.banger.Error.InvalidPath: ", said)
                self.assertIn(words, said)

    def test_other_owner(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to give a repository away")
        repo = self.repo()
        self.sh("chown -R 65534:65534 repo")
        _, said = self.tar(repo, status=1)
        self.assertIn(f"git config --global --add safe.directory {repo}", said)
        self.sh(f"git config --global --add safe.directory {repo}")
        self.unpack(repo)

    def as_other(self):
        if os.geteuid() != 0:
            return ()
        self.sh(f"chown -R 65534:65534 {self.top}")
        return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

    def test_unreadable_folder(self):
        repo = self.repo()
        self.sh("mkdir data sub/data; touch data/x sub/data/y there; chmod 000 data sub/data", cwd=repo)
        data, said = self.tar(repo, prefix=self.as_other())
        self.assertIn(b"there", self.names(data))
        for folder in "data/", "sub/data/":
            self.assertIn(f"note: git in '{repo}': could not open directory '{folder}': Permission denied\n", said)
        self.sh("chmod 755 data sub/data", cwd=repo)

    def test_unreadable_repository(self):
        repo = self.repo()
        prefix = self.as_other()
        for path, word in [(".git/objects/*/*", "'objects/"), (".git/objects/pack", "'objects/pack' of the repository"),
                           (".git/refs/heads/main", "'refs/heads/main' of the repository"), (".git/index", "index")]:
            with self.subTest(path):
                self.sh(f"chmod 000 {path}", cwd=repo)
                data, said = self.tar(repo, prefix=prefix, status=1)
                self.sh(f"chmod 755 {path}", cwd=repo)
                self.assertEqual(data, b"")
                self.assertIn("error: org.banger.Error.InvalidPath: ", said)
                self.assertIn(word, said)
                self.assertIn("ermission denied", said)

    def test_unreadable(self):
        repo = self.repo()
        self.sh("mkdir data; echo s > data/secret; git add -A; git commit -qm s; chmod 000 data/secret", cwd=repo)
        prefix = self.as_other()
        data, said = self.tar(repo, prefix=prefix, status=1)
        self.assertEqual((data, said), (b"", "error: org.banger.Error.InvalidPath: cannot read 'data/secret': Permission denied\n"))

    def test_holes(self):
        """Sparse files stay sparse, wherever the holes are, and their bytes are the same."""
        repo = self.repo()
        self.sh("truncate -s 60M hole; printf middle | dd of=middle bs=1 seek=20000000 status=none; truncate -s 50M middle;"
                "(head -c 100000 /dev/urandom; ) > begin; truncate -s 30M begin; cp begin $'\\xff\\xe4'; truncate -s 40M $'\\xff\\xe4'; dd if=/dev/urandom of=end bs=1M seek=30 count=1 status=none;"
                "head -c 300000 /dev/zero > zeros", cwd=repo)
        data, _ = self.tar(repo)
        self.assertLess(len(data), 4 << 20)
        copy, _ = self.unpack(repo)
        self.sh("for f in hole middle begin end zeros $'\\xff\\xe4'; do cmp \"$f\" \"../../repo/$f\"; done", cwd=copy)
        self.assertLess(os.stat(copy / "hole").st_blocks * 512, 1 << 20)
        self.assertLess(os.stat(copy / "end").st_blocks * 512, 2 << 20)

    def send(self, repo, out, milliseconds=0, timeout=60):
        shell = f"eval \"$(printf %s \"$0\" | sed 's|cd /root|cd {out}|g')\""
        return self.tool("send", str(repo), shell, str(milliseconds), timeout=timeout)

    def test_second_import(self):
        """Over changed types, and over what stood there."""
        out = self.top / "guest"
        out.mkdir()
        repo = self.repo("it's a repo", content="mkdir -p d/x l2f; echo 1 > d/x/f; ln -s d l; ln -s d up; echo f > f; echo a > a; echo q > l2f/q")
        self.assertEqual(self.send(repo, out).returncode, 0)
        self.sh("git branch guests; git commit -q --allow-empty -m guest; mkdir build; echo o > build/o", cwd=out / "it's a repo")
        self.sh("rm -r d l f up l2f a; echo n > d; mkdir l; echo m > l/m; mkdir f; echo g > f/g; ln -s . up; ln -s z l2f; git add -A;"
                "git commit -qm new", cwd=repo)
        done = self.send(repo, out)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual((out / "it's a repo/d").read_text(), "n\n")
        self.assertEqual(os.readlink(out / "it's a repo/up"), ".")
        self.assertEqual(os.readlink(out / "it's a repo/l2f"), "z")
        self.assertEqual((out / "it's a repo/l/m").read_text(), "m\n")
        self.assertFalse(os.path.islink(out / "it's a repo/l"))
        self.assertFalse((out / "it's a repo/a").exists())
        self.assertEqual((out / "it's a repo/build/o").read_text(), "o\n")
        self.assertEqual(self.sh("git status --porcelain", cwd=out / "it's a repo"), "?? build/\n")
        self.assertEqual(self.sh("git log --format=%s; git branch --format='%(refname)'", cwd=out / "it's a repo"), "new\nfirst\nrefs/heads/main\n")

    def test_longest_name(self):
        out = self.top / "guest"
        out.mkdir()
        repo = self.repo("n" * 255)
        for expected in "one", "two":
            self.sh(f"echo {expected} > a", cwd=repo)
            done = self.send(repo, out)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertEqual((out / repo.name / "a").read_text(), expected + "\n")

    def test_packed_meanwhile(self):
        """git packs objects and refs while they are sent: nothing is missing."""
        repo = self.repo()
        self.sh("for i in $(seq 30); do echo $i > a; git commit -qam $i; git branch b$i; done; head -c 3000000 /dev/urandom > big;"
                "git add big; git commit -qm big", cwd=repo)
        ours, theirs = socket.socketpair()
        with ours, subprocess.Popen([TOOL, "tar", repo], env=self.env, cwd="/", stdout=theirs, stdin=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE) as child:
            theirs.close()
            data = ours.recv(1 << 20)  # it listed everything by now, and waits in the big file
            self.sh("git pack-refs --all; git repack -qad; git prune-packed", cwd=repo)
            data += b"".join(iter(lambda: ours.recv(1 << 20), b""))
            self.assertEqual(child.wait(60), 0, child.stderr.read())
        out = self.top / "out"
        out.mkdir()
        subprocess.run(["tar", "-x", "--no-same-owner", "-C", out], input=data, check=True)
        self.same_here_and_there(repo, out / "repo")

    def test_full_disk(self):
        repo = self.repo()
        done = self.tool("send", str(repo), "cat > /dev/null; echo 'tar: x: Cannot write: No space left on device' >&2; exit 2", "0")
        self.assertIn(b"org.banger.Error.NoSpace", done.stderr)
        self.assertIn(b"--disk-size", done.stderr)


class Cage(Case):
    """No program but git runs, nothing is written and nobody is spoken to, whatever a configuration names."""

    def setUp(self):
        super().setUp()
        self.ran = self.top / "ran"
        self.evil = self.top / "evil"
        self.evil.write_text(f"#!/bin/sh\necho \"$0 $*\" >> {self.ran}\n")
        self.evil.chmod(0o755)
        self.bin = self.top / "bin"
        self.bin.mkdir()
        for name in "git-evil", "git-remote-evil", "ssh", "less", "sh", "git-remote-https", "gpg", "git-lfs":
            shutil.copy(self.evil, self.bin / name)

    def state(self, folder):
        return self.sh(f"cd '{folder}'; find . -printf '%p %T@ %C@ %s\\n' | LC_ALL=C sort | grep -v '^./out'")

    def planted(self):
        """A repository with a program wherever git's configuration can name one."""
        repo = self.repo()
        evil = self.evil
        keys = ["core.fsmonitor", "core.pager", "core.editor", "core.askPass", "core.sshCommand", "core.gitProxy",
                "core.alternateRefsCommand", "core.untrackedCache", "credential.helper", "credential.https://x.helper", "diff.external",
                "diff.e.textconv", "diff.e.command", "filter.e.clean", "filter.e.smudge", "filter.e.process", "gpg.program",
                "gpg.ssh.program", "gpg.x509.program", "gpg.ssh.defaultKeyCommand", "interactive.diffFilter", "merge.e.driver",
                "mergetool.e.cmd", "difftool.e.cmd", "pager.ls-files", "pager.rev-parse", "pager.config", "remote.origin.uploadpack",
                "remote.origin.receivepack", "remote.origin.vcs", "sequence.editor", "trailer.e.command", "trailer.e.cmd",
                "uploadpack.packObjectsHook", "web.browser", "browser.e.cmd", "man.e.cmd", "tar.e.command", "sendemail.smtpserver",
                "imap.tunnel", "guitool.e.cmd", "instaweb.httpd", "ssh.variant", "fsmonitor.socketDir", "help.browser", "rerere.x"]
        lines = [f'git config --file "$1" {key} {evil}' for key in keys]
        lines += [f"git config --file \"$1\" alias.{name} '!{evil}'" for name in ("ls-files", "rev-parse", "config", "x")]
        lines += [f"git config --file \"$1\" remote.origin.url 'ext::{evil}'", "git config --file \"$1\" remote.origin.promisor true",
                  "git config --file \"$1\" protocol.ext.allow always", f"git config --file \"$1\" core.hooksPath {self.top}/hooks",
                  f"git config --file \"$1\" submodule.mod.update '!{evil}'", "git config --file \"$1\" filter.e.required true",
                  "git config --file \"$1\" log.showSignature true", "git config --file \"$1\" help.autocorrect immediate"]
        lines += [f'git config --file "$1" trace2.{kind}Target {self.top}/traced' for kind in ("normal", "event", "perf")]
        hooks = self.top / "hooks"
        hooks.mkdir()
        for name in self.sh("git help -a >/dev/null; printf 'post-index-change pre-commit reference-transaction fsmonitor-watchman "
                            "post-checkout pre-auto-gc'").split():
            for place in (hooks, repo / ".git/hooks"):
                place.mkdir(exist_ok=True)
                shutil.copy(evil, place / name)
        script = "\n".join(lines)
        self.sh(f"set -- .git/config\n{script}\nset -- ../included\n{script}\ngit config include.path ../../included\n"
                f"git config includeIf.gitdir:/.path ../../included\nset -- ~/.gitconfig\n{script}", cwd=repo)
        self.sh("echo '* filter=e diff=e merge=e' | tee .gitattributes .git/info/attributes > ~/.gitattributes; echo oNe > a;"
                "touch new; echo '[lfs] x = y' > .lfsconfig", cwd=repo)
        return repo

    def test_everything_planted(self):
        repo = self.planted()
        subprocess.run(["git", "status"], cwd=repo, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        self.assertTrue(self.ran.exists(), "the control: git itself runs what is named")
        self.assertTrue((self.top / "traced").exists())
        self.ran.unlink()
        (self.top / "traced").unlink()
        before = self.state(self.top)
        self.env["PATH"] = f"{self.bin}:{self.env['PATH']}"
        for key in "GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_PAGER", "GIT_EDITOR", "GIT_ASKPASS", "GIT_PROXY_COMMAND", "LD_PRELOAD":
            self.env[key] = str(self.evil)
        self.env.update(GIT_TRACE=str(self.top / "traced"), GIT_TRACE2_EVENT=str(self.top / "traced"), GIT_EXEC_PATH=str(self.bin),
                        GIT_DIR="/nonexistent", GIT_INDEX_FILE="/nonexistent")
        data, said = self.tar(repo)
        self.assertIn(b"new", self.names(data), said)
        self.assertEqual(self.state(self.top), before)
        self.assertFalse(self.ran.exists(), self.ran.exists() and self.ran.read_text())

    def test_cage_alone(self):
        """The same commands of git outside of the cage and in it."""
        evil, bare = self.evil, ["-c", "protocol.ext.allow=always"]
        source = self.repo("source")
        self.sh(f"echo two > a; git commit -qam second; git config uploadpack.allowFilter true; git init -q {self.top}/empty", cwd=source)
        missing = "1" * 40
        cases = {
            "fsmonitor": ["-c", f"core.fsmonitor={evil}", "status"],
            "clean": ["-c", f"filter.e.clean={evil}", "hash-object", "a"],
            "process": ["-c", f"filter.e.process={evil}", "hash-object", "a"],
            "smudge": ["-c", f"filter.e.smudge={evil}", "cat-file", "--filters", ":a"],
            "textconv": ["-c", f"diff.e.textconv={evil}", "cat-file", "--textconv", ":a"],
            "external": ["-c", f"diff.external={evil}", "diff"],
            "diff-command": ["-c", f"diff.e.command={evil}", "diff"],
            "alias": ["-c", f"alias.x=!{evil}", "x"],
            "dashed": ["evil"],
            "editor": ["-c", f"core.editor={evil}", "commit", "--allow-empty"],
            "ssh": ["-c", f"core.sshCommand={evil}", "ls-remote", "ssh://x/y"],
            "proxy": ["-c", f"core.gitProxy={evil}", "ls-remote", "git://x.example/y"],
            "ext": [*bare, "ls-remote", f"ext::{evil}"],
            "helper": ["ls-remote", "evil::x"],
            "upload-pack": ["ls-remote", f"--upload-pack={evil}", str(source)],
            "gpg": ["-c", f"gpg.program={evil}", "commit", "-S", "--allow-empty", "-m", "x"],
            "hook": ["-c", f"core.hooksPath={self.top}/hooks", "commit", "--allow-empty", "-m", "x"],
            "trailer": ["-c", f"trailer.x.command={evil}", "interpret-trailers", "--trailer", "x=1", "a"],
            "archive": ["-c", f"tar.x.command={evil}", "archive", "--format=x", "HEAD"],
            "lazy-fetch": [*bare, "-c", "remote.o.promisor=true", "-c", f"remote.o.url=ext::{evil}", "cat-file", "-p", missing],
            "merge-driver": ["-c", f"merge.e.driver={evil} %A", "merge", "side", "-m", "x"],
            "bisect-run": ["difftool", "-y", "-x", str(evil)],
        }
        (self.top / "hooks").mkdir()
        shutil.copy(evil, self.top / "hooks/pre-commit")
        environment = {**self.env, "PATH": f"{self.bin}:{self.env['PATH']}"}
        (self.bin / "sh").unlink()
        for name, words in cases.items():
            with self.subTest(name):
                repo = self.repo(f"c-{name}", content="echo one > a; echo '* filter=e diff=e merge=e' > .gitattributes")
                self.sh("git checkout -qb side; echo s > a; git commit -qam s; git checkout -q main; echo m > a; git commit -qam m; echo oNe > a"
                        if name != "merge-driver" else
                        "git checkout -qb side; echo s > a; git commit -qam s; git checkout -q main; echo m > a; git commit -qam m", cwd=repo)
                self.sh(f"rm -rf caged; cp -a '{repo}' caged")
                subprocess.run(["git", *words], cwd=repo, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, check=False, timeout=60)
                self.assertTrue(self.ran.exists(), "the control")
                self.ran.unlink()
                before = self.state(self.top / "caged")
                done = self.tool("git", self.top / "caged", *words, env=environment)
                self.assertFalse(self.ran.exists(), (done, self.ran.exists() and self.ran.read_text()))
                self.assertEqual(self.state(self.top / "caged"), before)

    def test_writes_nothing(self):
        repo = self.repo()
        before = self.state(self.top)
        for words in [["config", "a.b", "c"], ["config", "--global", "a.b", "c"], ["update-ref", "refs/heads/y", "HEAD"],
                      ["init", str(self.top / "new")], ["hash-object", "-w", "a"], ["gc"], ["add", "-A"], ["checkout", "-b", "z"],
                      ["clean", "-fdx"], ["rm", "-r", "."], ["update-index", "--refresh", "--force-write-index"], ["stash"],
                      ["pack-refs", "--all"], ["diff", f"--output={self.top}/written"], ["archive", "-o", str(self.top / "x"), "HEAD"]]:
            with self.subTest(words):
                done = self.tool("git", repo, *words)
                self.assertEqual(self.state(self.top), before, done)

    def test_taken_over(self):
        """Another program in git's place, below its filter: it neither opens a file to write nor gets one mapped so, and where it
        may write in one folder nothing beside that is written, cut off, moved or given another name."""
        shutil.copy(os.environ["BANGER_GIT_PROBE"], self.bin / "git")
        (self.top / "victim").write_text("the owner's own")
        for words, may in (("git", self.repo(), "x"), {"read", "null"}), (("git-within", self.repo("f"), "within"), {"enter", "own", "own-again", "read"}):
            done = self.tool(*words, self.top / "victim", env={**self.env, "PATH": f"{self.bin}:{self.env['PATH']}"})
            self.assertEqual((self.top / "victim").read_text(), "the owner's own", done)
            self.assertEqual({line.split("=")[0] for line in done.stdout.decode().splitlines() if line.endswith("=0")}, may, done)

    def test_speaks_to_nobody(self):
        repo = self.repo()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.2)
            url = f"git://127.0.0.1:{server.getsockname()[1]}/x"
            with subprocess.Popen(["git", "ls-remote", url], cwd=repo, env=self.env, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as control:
                server.accept()[0].close()
                control.wait(60)
            self.assertEqual(self.tool("git", repo, "ls-remote", url).returncode, 1)
            with self.assertRaises(TimeoutError):
                server.accept()

    def test_answers_are_bounded(self):
        repo = self.repo(content="head -c 3000000 /dev/zero > a")
        done = self.tool("git", repo, "cat-file", "-p", ":a")
        self.assertIn(b"LimitsExceeded", done.stderr)


class Tricks(Case):
    """Another repository is never read, whatever this one says is its own; nothing waits for a pipe."""

    def setUp(self):
        super().setUp()
        self.private = self.repo("private", content=f"echo {SECRET} > {SECRET}; echo a > a")
        self.sh(f"git branch {SECRET}; git tag {SECRET}-tag; git worktree add -q ../private-tree -b {SECRET}-tree; git config "
                f"remote.origin.url https://x:{SECRET}@example.org; git config user.signingkey {SECRET}; git repack -qad; echo 0 > loose;"
                "git add loose; git commit -qm loose; git update-index --split-index", cwd=self.private)
        self.head = self.sh("git rev-parse HEAD", cwd=self.private).strip()
        objects = self.sh("git rev-list --all --objects | cut -c1-40", cwd=self.private).split()
        self.objects = set(objects)
        self.packs = [p.name for p in (self.private / ".git/objects/pack").iterdir()]

    def check(self, path):
        data, said = self.tar(path)
        self.assertNotIn(SECRET.encode(), data)
        self.assertNotIn(self.head.encode(), data)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|", errors="surrogateescape") as archive:
            for entry in archive:
                if entry.isfile():
                    self.assertNotIn("".join(entry.name.split("/")[-2:]), self.objects)
                    self.assertNotIn(entry.name.split("/")[-1], self.packs)
        return said

    def test_ways_to_another_repository(self):
        p = f"{self.private}/.git"
        here = "git init -q .; echo mine > mine; git add mine; git commit -qm mine"
        loose = f"{self.head[:2]}/{self.head[2:]}"
        cases = {
            "git-file": f"echo 'gitdir: {p}' > .git",
            "git-link": f"ln -s {p} .git",
            "git-file-link": f"echo 'gitdir: {p}' > ../gf; ln -s ../gf .git",
            "work-tree-of-it": f"echo 'gitdir: {p}/worktrees/private-tree' > .git",
            "commondir": f"{here}; echo {p} > .git/commondir",
            "commondir-relative": f"{here}; echo ../../private/.git > .git/commondir",
            "own-git-folder-with-commondir": f"{here}; mv .git ../gd; echo {p} > ../gd/commondir; echo 'gitdir: ../gd' > .git;"
                                             "echo $PWD/.git > ../gd/gitdir",
            "own-worktrees-folder": f"{here}; mkdir -p ../x/worktrees; mv .git ../x/worktrees/w; echo {p} > ../x/worktrees/w/commondir;"
                                    "echo 'gitdir: ../x/worktrees/w' > .git; echo $PWD/.git > ../x/worktrees/w/gitdir",
            "alternates": f"{here}; echo {p}/objects > .git/objects/info/alternates; echo {self.head} > .git/refs/heads/main",
            "alternates-relative": f"{here}; echo ../../../private/.git/objects > .git/objects/info/alternates;"
                                   f"echo {self.head} > .git/refs/heads/main",
            "alternates-quoted": f"{here}; echo '\"{p}/objects\"' > .git/objects/info/alternates;"
                                 f"echo {self.head} > .git/refs/heads/main",
            "alternates-link": f"{here}; echo {p}/objects > ../alt; ln -s ../../../../alt .git/objects/info/alternates;"
                               f"echo {self.head} > .git/refs/heads/main",
            "objects": f"{here}; rm -r .git/objects; ln -s {p}/objects .git/objects; echo {self.head} > .git/refs/heads/main",
            "pack-folder": f"{here}; rm -r .git/objects/pack; ln -s {p}/objects/pack .git/objects/pack",
            "packs": f"{here}; ln -s {p}/objects/pack/* .git/objects/pack/",
            "object": f"{here}; mkdir -p .git/objects/{loose[:2]}; ln -s {p}/objects/{loose} .git/objects/{loose}",
            "object-folder": f"{here}; ln -s {p}/objects/{loose[:2]} .git/objects/{loose[:2]}",
            "refs": f"{here}; rm -r .git/refs; ln -s {p}/refs .git/refs",
            "ref": f"{here}; ln -s {p}/refs/heads/main .git/refs/heads/other",
            "packed-refs": f"{here}; git -C {self.private} pack-refs --all; ln -s {p}/packed-refs .git/packed-refs",
            "head": f"{here}; rm .git/HEAD; ln -s {p}/HEAD .git/HEAD",
            "index": f"{here}; rm .git/index; ln -s {p}/index .git/index",
            "shared-index": f"{here}; ln -s {p}/sharedindex.* .git/",
            "info": f"{here}; rm -rf .git/info; mkdir ../secret; echo {SECRET} > ../secret/exclude; ln -s ../../secret .git/info",
            "shallow": f"{here}; echo {self.head} > ../s; ln -s ../../s .git/shallow",
            "orig-head": f"{here}; echo {SECRET} > ../s; ln -s ../../s .git/ORIG_HEAD",
            "merge-msg": f"{here}; echo {SECRET} > ../s; ln -s ../../s .git/MERGE_MSG",
            "include": f"{here}; git config include.path {p}/config",
            "include-link": f"{here}; rm .git/config; ln -s {p}/config .git/config",
            "attributes": f"{here}; git config core.attributesFile {self.private}/{SECRET}; git config core.excludesFile {self.private}/{SECRET}",
            "nested": f"{here}; mkdir in; echo i > in/i; echo 'gitdir: {p}' > in/.git",
            "nested-link": f"{here}; mkdir in; echo i > in/i; ln -s {p} in/.git",
            "nested-commondir": f"{here}; mkdir in; cd in; {here}; echo {p} > .git/commondir",
            "gitlink": f"{here}; git update-index --add --cacheinfo 160000,{'1' * 40},in; mkdir in; echo 'gitdir: {p}' > in/.git",
            "gitlink-through-link": f"{here}; git update-index --add --cacheinfo 160000,{'1' * 40},in; ln -s ../private in",
            "tracked-through-link": f"{here}; mkdir d; echo x > d/{SECRET[:3]}; echo x > d/a; git add d; git commit -qm d; rm -r d;"
                                    "ln -s ../private d",
        }
        for name, script in cases.items():
            with self.subTest(name):
                trap = self.top / "traps" / name
                trap.mkdir(parents=True)
                self.sh(f"rm -rf gd gf x alt secret s; cd {trap}; ln -sfn {self.private} ../private; {script}")
                said = self.check(trap) if name not in ("include-link", "head", "index", "shared-index") else self.may_refuse(trap)
                self.sh("rm -rf traps gd gf x alt secret s")

    def may_refuse(self, trap):
        ours = subprocess.run([TOOL, "tar", trap], env=self.env, cwd="/", stdin=subprocess.DEVNULL, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        if ours.returncode == 0 or b"cannot send" in ours.stderr:
            return self.check(trap)
        self.assertNotIn(SECRET.encode(), ours.stdout + ours.stderr)
        return ours.stderr.decode()

    def test_work_tree_elsewhere(self):
        """core.worktree names the private tree, or a folder above that holds it."""
        for name, where in [("absolute", str(self.private)), ("relative", "../../private"), ("above", "../.."), ("root", "/")]:
            with self.subTest(name):
                self.sh(f"git init -q {name}; echo x > {name}/x")
                self.sh(f"git -C {name} config core.worktree {where}")
                data, said = self.tar(self.top / name, status=1)
                self.assertEqual(data, b"")
                self.assertIn("InvalidPath", said)
        self.sh(f"git config -f w core.worktree {self.private}; git init -q include; git -C include config include.path ../../w")
        self.check(self.top / "include")
        self.sh(f"mkdir gate; echo 'gitdir: {self.private}/.git' > gate/.git; git config -f w core.worktree {self.top}/gate;"
                f"git -C {self.private} config include.path {self.top}/w")
        self.assertIn("does not name this work tree", self.check(self.top / "gate"))
        self.sh("mkdir -p repo; git init -q repo; git init -q repo/inner; git -C repo/inner config core.worktree ../..;"
                f"echo {SECRET} > repo/{SECRET}")
        data, said = self.tar(self.top / "repo/inner", status=1)
        self.assertEqual(data, b"")

    def test_pipes(self):
        """Nothing waits for a pipe; the cancellation ends it at once where git does."""
        for name in [".git/config", ".git/index", ".git/HEAD", ".git/packed-refs", ".git/info/exclude", ".git/shallow", ".git/commondir",
                     ".git/refs/heads/main", ".gitignore", ".gitattributes", "sub/.gitignore", "a", ".git/objects/info/alternates",
                     ".git/ORIG_HEAD", "new"]:
            with self.subTest(name):
                repo = self.repo()
                self.sh(f"rm -f {name}; mkfifo {name}", cwd=repo)
                done = self.tool("send", repo, "cat > /dev/null", "1500", timeout=60)
                if name in (".git/config", ".git/index", ".git/HEAD", ".git/commondir"):
                    self.assertIn(f"'{repo}/{name}' is not a file", done.stderr.decode())
                if name in ("a", "new"):  # left out, as git does
                    self.assertEqual(done.returncode, 0, done.stderr)
                self.sh("rm -rf repo")

    def test_cancelled_while_git_waits(self):
        """git hangs on a pipe: cancelled, everything ends at once, git too."""
        repo = self.repo()
        self.sh("rm -f .git/info/exclude; mkfifo pipe; git config include.path ../pipe", cwd=repo)
        done = self.tool("send", repo, "cat > /dev/null", "300", timeout=60)
        self.assertIn(b"Cancelled", done.stderr)
        self.assertEqual(subprocess.run(["pgrep", "-f", str(repo)], check=False).returncode, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
