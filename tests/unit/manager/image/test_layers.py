#!/usr/bin/python3
"""Images of layers, unpacked by banger-intake and by umoci: the same files come of them, seen by the kernel.

Usage: test_layers.py IMAGE-MAKE. Needs root, umoci and loop devices; skips with the name of what is missing.
"""

import fcntl
import gzip
import json
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import layers  # noqa: E402
from test_strange import look, missing  # noqa: E402

SIZE = "64M"


def lacking():
    return missing() or next((name for name in ("umoci", "zstd") if not shutil.which(name)), None)


def trim(found):
    """lost+found is the file system's own, and a folder that no layer speaks of has whatever time and mode its maker gave it."""
    if found.pop(b"lost+found", None):
        found[b"."]["links"] -= 1
    return found


@unittest.skipIf(lacking(), f"missing: {lacking()}")
class Layers(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="banger-layers.", dir="/var/tmp")
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.image, self.mount = self.folder / "image", self.folder / "mount"
        self.mount.mkdir()

    def make(self, source, *arguments, stdin=subprocess.DEVNULL):
        shutil.rmtree(self.image, ignore_errors=True)
        self.image.mkdir()
        return subprocess.run([MAKER, self.image, "import", source, SIZE, *arguments], stdin=stdin, capture_output=True, text=True,
                              errors="replace", check=False, timeout=600)

    def made(self, *arguments, **more):
        done = self.make(*arguments, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refused(self, pattern, *arguments, **more):
        done = self.make(*arguments, **more)
        self.assertEqual(done.returncode, 1, done)
        self.assertRegex(done.stderr.splitlines()[-1], pattern)
        self.assertEqual(os.listdir(self.image), [])

    def seen(self, name, began):
        checked = subprocess.run(["e2fsck", "-fn", self.image / name], capture_output=True, text=True, errors="replace", check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout)
        subprocess.run(["mount", "-o", "loop,ro", self.image / name, self.mount], check=True)
        try:
            return trim(look(self.mount, began))
        finally:
            subprocess.run(["umount", self.mount], check=True)

    def layout(self, image, *descriptors):
        where = self.folder / "layout"
        shutil.rmtree(where, ignore_errors=True)
        layers.write(image.files(*descriptors), where)
        return where

    def umoci(self, image):
        where, bundle = self.folder / "umoci", self.folder / "bundle"
        layers.write(image.files(), where)
        subprocess.run(["umoci", "unpack", "--image", f"{where}:latest", bundle], check=True, capture_output=True)
        return bundle / "rootfs"

    def compare(self, name, made, how):
        began = time.time_ns()
        self.made(self.layout(layers.Image(made, how)))
        ours, seed = self.seen("rootfs.ext4", began), self.seen("seed.ext4", began)
        unpacked = self.umoci(layers.Image(made))
        for path in unpacked.glob("sparse*"):  # umoci writes the holes, too
            times = path.stat()
            subprocess.run(["fallocate", "--dig-holes", path], check=True)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        theirs = look(unpacked, began)
        self.assertEqual(sorted(ours), sorted(theirs))
        for path in theirs:
            implied = "implied" in (ours[path]["time"], theirs[path]["time"])
            for what in ("mode", "time", "content") if implied else ():
                ours[path].pop(what), theirs[path].pop(what)
            self.assertEqual((path, ours[path]), (path, theirs[path]))
        root = look(unpacked / "root", began)
        self.assertEqual(sorted(seed), sorted(root))
        for path, what in root.items():
            self.assertEqual(seed[path]["content"], what["content"]) if stat.S_ISREG(int(what["mode"], 8)) else None


    # A root file system that is no image of layers

    def root_folder(self):
        root = self.folder / "root"
        for name in ("sbin", "etc", "root/d", "srv"):
            (root / name).mkdir(parents=True)
        (root / "sbin/init").write_bytes(b"#!")
        (root / "sbin/init").chmod(0o4755)
        os.link(root / "sbin/init", root / "etc/again")
        os.symlink("../nowhere", root / "etc/link")
        os.mkfifo(root / "srv/pipe")
        os.mknod(root / "srv/null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        (root / "root/d/x").write_bytes(b"x" * 70000)
        (pathlib.Path(os.fsdecode(os.fsencode(root) + b"/srv/\xff"))).write_bytes(b"name")
        with open(root / "sparse", "wb") as file:
            file.truncate(1 << 20)
            file.seek(300000)
            file.write(b"data")
        os.setxattr(root / "srv", "user.of-a-folder", b"\0\xff\n")
        os.setxattr(root / "sparse", "user.b", b"b" * 1000)
        os.setxattr(root / "sparse", "user.a", b"")
        os.setxattr(root / "sbin/init", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
        os.setxattr(root / "root/d/x", "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in (
            (1, 6, 0xffffffff), (2, 5, 1234), (4, 4, 0xffffffff), (16, 5, 0xffffffff), (32, 4, 0xffffffff))))
        os.chown(root / "etc", 7, 8)
        os.chown(root / "sparse", 3000000, 4000000)
        return root

    def test_folder(self):
        """As it is; a file of whoever imports it is root's, which the caller is here."""
        root, began = self.root_folder(), time.time_ns()
        for path in (root, *root.rglob("*")):
            os.utime(path, ns=(1600000000123456789, 1600000000123456789), follow_symlinks=False)
        digest = self.made(root).split("sha256:")[1][:64]
        ours, theirs = self.seen("rootfs.ext4", began), look(root, began)
        self.assertEqual(sorted(ours), sorted(theirs))
        for path in theirs:
            self.assertEqual((path, ours[path]), (path, theirs[path]))
        self.assertEqual(sorted(self.seen("seed.ext4", began)), [b".", b"d", b"d/x"])
        again = self.folder / "again"
        subprocess.run(["cp", "-a", root, again], check=True)
        for path in sorted(again.rglob("*"), reverse=True):  # the same in another order
            os.rename(path, str(path) + ".x")
            os.rename(str(path) + ".x", path)
        for path in (again, *again.rglob("*")):
            os.utime(path, ns=(1600000000123456789, 1600000000123456789), follow_symlinks=False)
        self.assertIn(digest, self.made(again))

    def test_folder_of_somebody(self):
        """What cannot be read ends it, with its name."""
        root = self.root_folder()
        os.chown(root, 65534, 65534)
        (root / "etc/secret").touch(0o600)
        self.folder.chmod(0o755)
        self.image.mkdir()
        os.chown(self.image, 65534, 65534)
        for secret, wanted in ((True, 1), (False, 0)):
            if not secret:
                (root / "etc/secret").unlink()
            done = subprocess.run([MAKER, self.image, "import", root, SIZE], user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, wanted, done.stderr)
            self.assertEqual("cannot read ./etc/secret: Permission denied" in done.stderr, secret, done.stderr)
            self.assertEqual(sorted(os.listdir(self.image)), [] if secret else ["rootfs.ext4", "seed.ext4"])
        self.assertEqual(self.seen("rootfs.ext4", 0)[b"."]["owner"], (0, 0))

    def exported(self, source, target):
        """Has the program without rights write a tar of the file system in the file @source. Returns: how it ended."""
        with open(source, "rb") as image, open(target, "wb") as tar:
            fds = os.dup(image.fileno()), os.dup(tar.fileno())
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
            done = subprocess.run([os.environ["BANGER_INTAKE"], "export", "0"], stdin=subprocess.DEVNULL, capture_output=True, check=False, pass_fds=(3, 4),
                                  preexec_fn=lambda: (os.dup2(high[0], 3), os.dup2(high[1], 4)), timeout=600)
            for fd in (*fds, *high):
                os.close(fd)
        return done

    def export(self, source):
        target = self.folder / "exported.tar"
        done = self.exported(source, target)
        self.assertEqual(done.returncode, 0, done)
        return target

    def test_out_again(self):
        """A file system as a tar: what GNU tar and we ourselves make of it is what was in it."""
        root = self.root_folder()
        (root / "etc/tagged").write_bytes(b"t")
        os.setxattr(root / "etc/tagged", "user.a", b"\0binary\n")
        os.setxattr(root / "etc/tagged", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
        (root / ("n" * 200)).mkdir()
        (root / ("n" * 200) / ("m" * 200)).write_bytes(b"deep")
        os.symlink("t" * 300, root / "srv/long")
        (root / "old").touch()
        os.utime(root / "old", ns=(-1500000000, -1500000000))
        os.chown(root / "old", 5, 6)
        tar = self.folder / "given.tar"
        subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "--format=pax", "--sparse", "-cf", tar, "-C", root, "."], check=True)
        began = time.time_ns()
        self.made(tar)
        wanted = self.seen("rootfs.ext4", began)
        exported = self.export(self.image / "rootfs.ext4")
        self.assertLess(exported.stat().st_size, 400000)
        unpacked = self.folder / "unpacked"
        unpacked.mkdir()
        subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "--same-owner", "-xpf", exported, "-C", unpacked], check=True)
        theirs = look(unpacked, began)
        self.assertEqual(sorted(theirs), sorted(wanted))
        for path in wanted:
            self.assertEqual((path, theirs[path]), (path, wanted[path]))
        self.made(exported)
        self.assertEqual(self.seen("rootfs.ext4", began), wanted)
        self.assertEqual(exported.read_bytes(), self.export(self.image / "rootfs.ext4").read_bytes())
        full = self.folder / "full"
        full.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", full], check=True)
        try:
            done = self.exported(self.image / "rootfs.ext4", full / "tar")
        finally:
            subprocess.run(["umount", full], check=True)
        self.assertTrue(done.stdout.endswith(b"cannot write the archive: No space left on device"), done)

    def test_archives_one_behind_the_other(self):
        first, second = layers.layer(*layers.BASE), layers.layer(layers.file(b"etc/one", b"later"), layers.file(b"new", b"n"))
        several = "several archives, one behind the other"
        for data, wanted in ((first + second, True), (first + bytes(1 << 20) + second + bytes(3), True), (gzip.compress(first) + gzip.compress(second), True),
                             (first + b"\1" * 512, False), (first + bytes(10240), False), (first, False)):
            (self.folder / "tar").write_bytes(data)
            self.assertEqual(several in self.made(self.folder / "tar"), wanted)
            found = self.seen("rootfs.ext4", 0)
            self.assertEqual((b"new" in found, b"usr/lib/a.so" in found), (wanted, True))
        (self.folder / "tar").write_bytes(first + second[:600])
        self.refused("it ends early|mark of its end", self.folder / "tar")

    # Forms in which an image comes

    def forms(self):
        image = layers.Image(layers.KINDS["whiteouts"](), layers.GZIP, layers.SETTINGS)
        files = image.files()
        config, crane = json.dumps(image.config).encode(), {}
        crane[layers.digest_of(config)] = config
        crane.update((f"{layers.digest_of(data)[7:]}.tar.gz", data) for data in image.layers)
        crane["manifest.json"] = json.dumps([{"Config": layers.digest_of(config), "RepoTags": ["box:1"],
                                              "Layers": [name for name in crane if name.endswith(".tar.gz")]}]).encode()
        both = {**files, "manifest.json": b"[]"}
        plain = layers.Image(layers.KINDS["whiteouts"](), layers.PLAIN, layers.SETTINGS)
        yield "layout first", layers.archived(files)
        yield "layout last", layers.archived(dict(reversed(both.items())))
        yield "crane", layers.archived(crane)
        yield "docker save", layers.saved(plain)
        yield "docker save | gzip", gzip.compress(layers.saved(plain))
        if shutil.which("skopeo"):
            where = self.layout(image)
            for transport in ("docker-archive", "oci-archive"):
                target = self.folder / transport
                subprocess.run(["skopeo", "copy", "--insecure-policy", f"oci:{where}:latest", f"{transport}:{target}:box:latest"], check=True,
                               capture_output=True)
                yield transport, target.read_bytes()

    def test_forms(self):
        began = time.time_ns()
        said = self.made(self.layout(layers.Image(layers.KINDS["whiteouts"](), layers.GZIP, layers.SETTINGS))).splitlines()[1:]
        tree = self.seen("rootfs.ext4", began)
        self.assertEqual([line.split(" ", 2)[1:] for line in said if line.startswith("setting")], [
            ["0", "PATH=/usr/bin:/bin"], ["0", "A=b c"], ["1", "/srv"], ["2", "1000:1000"], ["3", "/entry"], ["3", "--x"], ["4", "serve"], ["4", ""],
            ["5", "53/udp"], ["5", "80/tcp"], ["6", "a=1=1"], ["6", "b=2"]])
        for name, archive in self.forms():
            with self.subTest(name):
                (self.folder / "archive").write_bytes(archive)
                self.assertEqual(self.made(self.folder / "archive").splitlines()[1:], said)
                self.assertEqual(self.seen("rootfs.ext4", began), tree)
                with subprocess.Popen(["cat", self.folder / "archive"], stdout=subprocess.PIPE) as pipe:
                    self.made("-", stdin=pipe.stdout)
                self.assertEqual(self.seen("rootfs.ext4", began), tree)

    def test_tars_that_look_like_it(self):
        """A root file system may hold such names, if it does not begin with them."""
        (self.folder / "tar").write_bytes(layers.layer(*layers.BASE, layers.file(b"manifest.json", b"[]"), layers.file(b"index.json", b"{}"),
                                                      layers.file(b"etc/.wh.one", b"w")))
        self.made(self.folder / "tar")
        self.assertIn(b"etc/.wh.one", self.seen("rootfs.ext4", time.time_ns()))
        self.refused("no archive of images, so none is called box", self.folder / "tar", "box")

    # Which one

    def test_platforms(self):
        host, other = layers.Image([layers.base]), layers.Image([layers.base], architecture="s390x")
        rows = [other.descriptor(platform={"os": "linux", "architecture": "s390x"}),
                host.descriptor(platform={"os": "linux", "architecture": "amd64"}),
                host.descriptor(platform={"os": "unknown", "architecture": "unknown"})]
        host.blobs.update(other.blobs)
        self.made(self.layout(host, *rows))
        nested = host.put(json.dumps({"schemaVersion": 2, "mediaType": layers.INDEX, "manifests": rows}).encode(), layers.INDEX)
        self.made(self.layout(host, nested))
        self.refused("no image for linux/amd64 in it; it has linux/s390x$", self.layout(host, rows[0]))
        self.refused("the image is for linux/s390x, and this host is linux/amd64", self.layout(host, other.descriptor()))

    def test_references(self):
        first, second = layers.Image([layers.base]), layers.Image([layers.base, layers.layer(layers.file(b"second", b"2"))])
        second.blobs.update(first.blobs)
        refs = [image.descriptor(annotations={"org.opencontainers.image.ref.name": name}) for image, name in ((first, "one"), (second, "two"))]
        where = self.layout(second, *refs)
        self.refused(r"there are 2 images in it: say which one \(one, two\)", where)
        self.refused("there is no image three for linux/amd64 in it; it has one, two", where, "three")
        self.made(where, "two")
        self.assertIn(b"second", self.seen("rootfs.ext4", time.time_ns()))
        (self.folder / "saved").write_bytes(layers.saved(layers.Image([layers.base], layers.PLAIN), ["box:1", "box:2"]))
        self.made(self.folder / "saved", "box:2")
        self.refused("there are 0 images called box:3", self.folder / "saved", "box:3")

    # What is refused leaves nothing

    def damaged(self, change):
        image = layers.Image(layers.KINDS["whiteouts"]())
        files = image.files()
        change(image, files)
        where = self.folder / "layout"
        shutil.rmtree(where, ignore_errors=True)
        layers.write(files, where)
        return where

    def blob(self, digest):
        return "blobs/sha256/" + digest.split(":")[1]

    def remade(self, change):
        """A layout whose manifest was changed and whose digests are right again."""
        image = layers.Image(layers.KINDS["whiteouts"]())
        change(image.manifest)
        return self.layout(image)

    def test_wrong_digests_and_sizes(self):
        def other_layer(image, files):
            files[self.blob(layers.digest_of(image.layers[1]))] = layers.packed(layers.layer(layers.file(b"x", b"x")), layers.GZIP)

        def same_length(image, files):
            data = bytearray(image.layers[0])
            data[4] ^= 1  # gzip's time: what it unpacks to is the same
            files[self.blob(layers.digest_of(image.layers[0]))] = bytes(data)

        def padding(image, files):
            files[self.blob(layers.digest_of(image.layers[0]))] += b"x"

        self.refused("has .* bytes and should have", self.damaged(other_layer))
        self.refused("a layer is damaged: its digest is sha256:.* and should be sha256:", self.damaged(same_length))
        self.refused("has .* bytes and should have", self.damaged(padding))
        for part in ("config", "manifest"):
            def other_json(image, files, part=part):
                digest = image.manifest["config"]["digest"] if part == "config" else image.descriptor()["digest"]
                files[self.blob(digest)] = files[self.blob(digest)].replace(b"linux", b"lunix").replace(b"Version", b"version")
            self.refused("it is damaged: its digest is another one", self.damaged(other_json))
        archive = layers.saved(layers.Image(layers.KINDS["whiteouts"](), layers.PLAIN)).replace(b"#!", b"#?")
        (self.folder / "saved").write_bytes(archive)
        self.refused("a layer is damaged: its digest", self.folder / "saved")

    def test_what_is_missing(self):
        def no_layer(image, files):
            del files[self.blob(layers.digest_of(image.layers[1]))]

        def no_index(image, files):
            del files["index.json"]
        self.refused("there is no blobs/sha256/.* in it", self.damaged(no_layer))
        self.refused("has neither index.json and oci-layout nor", self.damaged(no_index))
        (self.folder / "cut").write_bytes(layers.saved(layers.Image([layers.base], layers.PLAIN))[:6000])
        self.refused("cut", self.folder / "cut")
        (self.folder / "half").write_bytes(layers.archived({"oci-layout": b"{}", "other": b"x"}))
        self.refused("has neither index.json and oci-layout nor manifest.json", self.folder / "half")

    def test_links_in_a_layout_are_not_followed(self):
        image = layers.Image([layers.base])
        blob = self.layout(image) / self.blob(layers.digest_of(image.layers[0]))
        blob.rename(self.folder / "elsewhere")
        blob.symlink_to(self.folder / "elsewhere")
        self.refused("there is no blobs/sha256/.* in it", self.folder / "layout")

    def test_manifests_that_are_none(self):
        changes = {"'application/vnd.cncf.helm.*no image that a machine could start": lambda m: m["config"].update(mediaType="application/vnd.cncf.helm"),
                   "a layer has the media type 'text/plain'": lambda m: m["layers"][0].update(mediaType="text/plain"),
                   "a layer's digest is no sha256": lambda m: m["layers"][0].update(digest="sha256:../../../../etc/passwd"),
                   "a layer's digest is no sha256$": lambda m: m["layers"][1].update(digest=7),
                   "a layer's size is not possible": lambda m: m["layers"][0].update(size=-1),
                   "a layer's size is not possible$": lambda m: m["layers"][0].update(size=1 << 50),
                   "it names no layers": lambda m: m.update(layers={}),
                   "more than 512 layers": lambda m: m.update(layers=[m["layers"][0]] * 513)}
        for pattern, change in changes.items():
            with self.subTest(pattern):
                self.refused(pattern, self.remade(change))
        for text in (b"", b"{", b"[" * 100000, b"[]", b'{"manifests": [1, {"digest": []}]}', b'{"manifests": []}', b'\0{}', b'{"a": "\xff"}'):
            with self.subTest(text[:20]):
                self.refused(r"not a good image|has none|has \?/\?", self.damaged(lambda image, files, text=text: files.update({"index.json": text})))

    def test_hostile_layers(self):
        def bomb(a):
            a.add(b"bomb", b"", size=1 << 40)
            a.bytes += b"\0" * (1 << 20)
        cases = {"'\\.\\.' in a path": [layers.file(b"../outside", b"x")],
                 "'\\.\\.' in a path$": [layers.gone(b"../../etc")],
                 "takes away what has no name": [layers.file(b"etc/.wh.", b"")],
                 "takes away what has no name$": [layers.file(b"etc/.wh...", b"")],
                 "lies below what is no directory": [layers.link(b"l", b"/etc"), layers.file(b"l/passwd", b"x")],
                 "lies below what is no directory$": [layers.file(b"etc/one/x", b"x")],
                 "hard link to what is not in the archive": [layers.hard(b"etc/h", b"etc/none")],
                 "hard link to what it replaces": [layers.hard(b"etc", b"etc/one")],
                 "a name is longer than 255 bytes": [layers.file(b"n" * 256, b"")],
                 "does not fit|it ends early": [bomb]}
        for pattern, steps in cases.items():
            with self.subTest(pattern):
                self.refused(pattern, self.layout(layers.Image([layers.base, layers.layer(*steps)])))
        for how, command in ((layers.GZIP, ["gzip", "-9"]), (layers.ZSTD, ["zstd", "-19"])):
            with self.subTest(how):
                image = layers.Image([layers.base])
                zeros = subprocess.run(["sh", "-c", f"head -c 200M /dev/zero | {' '.join(command)}"], check=True, capture_output=True).stdout
                head = strange_header(200 << 20)
                data = subprocess.run(command, input=head, check=True, capture_output=True).stdout + zeros
                image.manifest["layers"].append(image.put(data, layers.LAYER + "+" + how))
                self.refused("does not fit into 67108864 bytes", self.layout(image))

    def test_many_whiteouts_take_no_time(self):
        """Each of them once walked through all that the layer itself had added."""
        def entries(step, count):
            return b"".join(layers.layer(step(i))[:-1024] for i in range(count))
        own, marks = entries(lambda i: layers.file(b"d/%d" % i), 20000), entries(lambda i: layers.gone(b"d", True), 1) * 20000
        image = layers.Image([layers.base, own + marks + bytes(1024)])
        before = os.times()
        self.made(self.layout(image))
        after = os.times()
        self.assertLess(after.children_user - before.children_user, 20)


def strange_header(size):
    archive = layers.strange.Archive()
    archive.header(b"bomb", size=size)
    return archive.bytes


def case(name, function):
    def test(self):
        hows = (layers.GZIP, layers.ZSTD, layers.PLAIN, layers.MEMBERS)
        self.compare(name, function(), hows[sorted(layers.KINDS).index(name) % len(hows)])
    return test


for each, maker in layers.KINDS.items():
    setattr(Layers, "test_" + each.replace("-", "_"), case(each, maker))

if __name__ == "__main__":
    MAKER = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
