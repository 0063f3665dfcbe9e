#!/usr/bin/python3
"""Images from a registry of Debian's on loopback, with TLS and a password: what comes, what is said when it does not.

Usage: test_pull.py IMAGE-MAKE. Needs root, docker-registry and skopeo; skips with the name of what is missing.
"""

import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import layers  # noqa: E402
import registry  # noqa: E402

BIG = random.Random(1).randbytes(3 << 20)


@unittest.skipIf(registry.missing() or os.geteuid() != 0, f"missing: {registry.missing() or 'root'}")
class Pull(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="banger-pull.", dir="/var/tmp")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.registry = registry.Registry(cls.folder)
        cls.addClassCleanup(cls.registry.stop)
        cls.box = layers.Image([layers.base, layers.layer(layers.file(b"big", BIG))], settings=layers.SETTINGS)
        cls.push(cls.box, "box:1")

    @classmethod
    def push(cls, image, name, *options, descriptors=()):
        layout = cls.folder / "layout"
        shutil.rmtree(layout, ignore_errors=True)
        layers.write(image.files(*descriptors), layout)
        cls.registry.push(layout, name, *options)

    def setUp(self):
        self.state = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        self.store = self.state / "blobs"
        self.image = self.state / "images/one"

    def pull(self, name, port=None, **env):
        shutil.rmtree(self.image, ignore_errors=True)
        self.image.mkdir(parents=True)
        return subprocess.run([MAKER, self.image, "pull", f"//127.0.0.1:{port or self.registry.port}/{name}"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False, timeout=240, env=self.registry.env(**env))

    def pulled(self, *arguments, **env):
        done = self.pull(*arguments, **env)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(os.listdir(self.image)), ["rootfs.ext4", "seed.ext4"])
        self.nothing_is_left()
        return done

    def refused(self, error, pattern, *arguments, **env):
        done = self.pull(*arguments, **env)
        self.assertEqual(done.returncode, 1, done)
        last = done.stderr.splitlines()[-1]
        self.assertTrue(last.startswith(f"org.banger.Error.{error}: "), last)
        self.assertRegex(last, pattern)
        self.assertEqual(os.listdir(self.image), [])
        self.nothing_is_left()

    def nothing_is_left(self):
        self.assertEqual([name for name in os.listdir(self.store) if name != "sha256"], [])

    def blobs(self):
        return {"sha256:" + name for name in os.listdir(self.store / "sha256")}

    def test_an_image_comes_with_what_it_says_of_itself(self):
        done = self.pulled("box:1")
        digest = re.search("sha256:[0-9a-f]{64}", done.stdout).group()
        self.assertIn("setting 4 serve\n", done.stdout)
        self.assertLessEqual({*map(layers.digest_of, self.box.layers), digest}, self.blobs())
        again = self.pulled(f"box@{digest}")
        self.assertIn(digest, again.stdout)
        progress = [int(word) for word in re.findall(r"pulled (\d+)", done.stderr)]
        self.assertEqual(progress, sorted(progress))

    def test_skopeo_is_killed(self):
        """For want of memory, as it happens: it says nothing itself."""
        (self.state / "skopeo").write_text("#!/bin/sh\nkill -9 $$\n", encoding="utf-8")
        (self.state / "skopeo").chmod(0o755)
        with unittest.mock.patch.dict(os.environ, PATH=f"{self.state}:{os.environ['PATH']}"):
            self.refused("Failed", "killed by signal 9", "box:1")

    def stand_in(self, asked, copies):
        """A skopeo whose download goes on only when the files of the image are begun: @asked are lines of shell for its answer about the layers."""
        real = shutil.which("skopeo")
        waits = f'n=0; until [ -e {self.image}/rootfs.ext4 ] || [ $n = 600 ]; do sleep 0.1; n=$((n + 1)); done; [ $n != 600 ] || exit 9'
        (self.state / "skopeo").write_text(f'#!/bin/sh\nreal={real}\ncase $1 in\ninspect) {asked} ;;\ncopy) {waits}\n{copies} ;;\nesac\n', encoding="utf-8")
        (self.state / "skopeo").chmod(0o755)
        return unittest.mock.patch.dict(os.environ, PATH=f"{self.state}:{os.environ['PATH']}")

    def is_the_box(self):
        rootfs = self.image / "rootfs.ext4"
        subprocess.run(["e2fsck", "-fn", rootfs], check=True, capture_output=True)
        self.assertEqual(subprocess.run(["debugfs", "-R", "cat /big", rootfs], check=True, capture_output=True).stdout, BIG)

    def test_it_is_written_while_it_comes(self):
        """What the registry says of the layers is a guess: if another image came, that is what is made."""
        for asked in ('exec $real "$@"', '$real "$@" | tac', '$real "$@" | head -1', "echo sha256:" + "0" * 64, "echo ../../etc/passwd"):
            with self.subTest(asked), self.stand_in(asked, 'exec $real "$@"'):
                done = self.pulled("box:1")
                self.assertIn("setting 4 serve\n", done.stdout)
                self.is_the_box()

    def test_the_download_fails_while_it_is_written(self):
        with self.stand_in('exec $real "$@"', 'echo \'level=fatal msg="read: connection reset"\' >&2; exit 1'):
            self.refused("RegistryUnreachable", "connection reset", "box:1")

    def test_a_layer_that_is_here_does_not_come_again(self):
        self.pulled("box:1")
        other = layers.Image([*layers.KINDS["one-layer"](), layers.layer(layers.file(b"other", b"o"))])
        self.push(other, "other:1")
        gone = self.registry.blob(layers.digest_of(self.box.layers[0]))
        gone.rename(gone.with_name("hidden"))
        try:
            self.pulled("other:1")
            shutil.rmtree(self.store)
            self.assertEqual(self.pull("other:1").returncode, 1)
        finally:
            gone.with_name("hidden").rename(gone)

    def test_of_several_platforms_the_hosts(self):
        host, other = layers.Image([layers.base]), layers.Image([layers.base], architecture="s390x")
        rows = [other.descriptor(platform={"os": "linux", "architecture": "s390x"}), host.descriptor(platform={"os": "linux", "architecture": "amd64"})]
        host.blobs.update(other.blobs)
        nested = host.put(json.dumps({"schemaVersion": 2, "mediaType": layers.INDEX, "manifests": rows}).encode(), layers.INDEX)
        self.push(host, "many:1", "--all", descriptors=[nested])
        self.pulled("many:1")
        self.push(other, "theirs:1")
        self.refused("InvalidImage", "is for linux/s390x", "theirs:1")

    def test_what_the_registry_has_not(self):
        self.refused("NoSuchImage", "manifest unknown.*nothing of that name", "box:none")
        self.refused("NoSuchImage", "unknown.*nothing of that name", "nobody/nothing:1")

    def test_without_a_password(self):
        self.refused("RegistryDenied", "(unauthorized|authentication required).*sign in", "box:1", auth="none.json")

    def test_what_it_says_once_in_a_year(self):
        server = registry.stand_in(self.registry)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.refused("RegistryDenied", "whoever is signed in", "forbidden/box:1", server.server_port)
        self.refused("RegistryBusy", "wait as long as it says", "busy/box:1", server.server_port)
        self.refused("Failed", "500", "broken/box:1", server.server_port)
        self.refused("RegistryUnreachable", "stopped after 10 redirects.*round in a circle", "loop/box:1", server.server_port)

    def test_a_road_that_is_cut(self):
        """What came whole is kept."""
        relay = registry.Relay(self.registry, 1 << 20)
        self.addCleanup(relay.close)
        self.registry.login(relay.port)
        self.refused("RegistryUnreachable", "goes on from there", "box:1", relay.port)
        self.assertNotIn(layers.digest_of(self.box.layers[1]), self.blobs())
        self.pulled("box:1")
        self.refused("RegistryUnreachable", "connection refused", "box:1", registry.free_port())

    def test_how_fast_it_comes(self):
        relay = registry.Relay(self.registry, 1 << 30, 1 << 20)
        self.addCleanup(relay.close)
        self.registry.login(relay.port)
        done = self.pulled("box:1", relay.port)
        rates = [int(word) for word in re.findall(r"rate (\d+)", done.stderr)]
        self.assertTrue(100 << 10 < max(rates) < 3 << 20, rates)
        self.assertEqual(rates[0], 0)

    def test_a_certificate_that_is_not_trusted(self):
        self.refused("RegistryUnreachable", "certificate is not trusted", "box:1", home=self.state)

    def test_a_full_disk(self):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", self.state], check=True)
        try:
            self.refused("NoSpace", "less than 256 MiB are free.*cache prune", "box:1")
        finally:
            subprocess.run(["umount", self.state], check=True)

    def test_a_disk_without_inodes(self):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g,nr_inodes=12", "none", self.state], check=True)
        try:
            self.refused("NoSpace", "no space left on device", "box:1")
        finally:
            subprocess.run(["umount", self.state], check=True)

    def test_a_layer_whose_compression_ends_early(self):
        """Its digest is right."""
        for how in (layers.GZIP, layers.ZSTD):
            image = layers.Image([layers.base])
            whole = layers.packed(layers.layer(layers.file(b"big", BIG)), how)
            image.manifest["layers"].append(image.put(whole[:len(whole) // 2], layers.LAYER + "+" + how))
            self.push(image, f"cut-{how}:1")
            self.refused("InvalidImage", "not a good tar archive|ends early", f"cut-{how}:1")

    def test_a_damaged_blob_goes(self):
        self.pulled("box:1")
        blob = self.store / "sha256" / layers.digest_of(self.box.layers[0])[7:]
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
        self.refused("InvalidImage", "damaged|decompressed|not a good tar", "box:1")
        self.assertFalse(blob.exists())
        self.pulled("box:1")

    def test_what_an_interrupted_pull_left_is_swept(self):
        (self.store / "pull-old/deep").mkdir(parents=True)
        (self.store / "pull-old/oci-put-blob1").write_bytes(b"half")
        self.pulled("box:1")

    def test_of_a_storage(self):
        """What podman and buildah have; its layers are not kept a second time."""
        settings = self.state / "storage.conf"
        settings.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{self.state}/graph"\nrunroot = "{self.state}/run"\n', encoding="utf-8")
        layout = self.state / "layout"
        layers.write(self.box.files(), layout)
        env = self.registry.env(CONTAINERS_STORAGE_CONF=str(settings))
        subprocess.run(["skopeo", "copy", "--quiet", f"oci:{layout}:latest", "containers-storage:localhost/box:1"], check=True, capture_output=True, env=env)
        for name, error, words in (("localhost/box:1", None, "setting 4 serve\n"), ("box:2", "NoSuchImage", "podman images"), ("--all", "InvalidArgs", "names no image"),
                                   ("[vfs]box", "InvalidArgs", "names no image")):
            shutil.rmtree(self.image, ignore_errors=True)
            self.image.mkdir(parents=True)
            done = subprocess.run([MAKER, self.image, "pull", name, "containers-storage"], capture_output=True, text=True, check=False, timeout=240, env=env)
            self.assertIn(words, done.stderr if error else done.stdout, done)
            self.assertEqual(f".{error}: containers-storage:{name}" in done.stderr, bool(error), done.stderr)
            self.assertEqual(sorted(os.listdir(self.image)), [] if error else ["rootfs.ext4", "seed.ext4"])
            self.nothing_is_left()
        self.assertEqual(self.blobs(), set())

    def test_no_reference(self):
        for reference in ("//-x", "//", "//a b", "//a\nb", "//ä", "--all", "//" + "a" * 600):
            done = subprocess.run([MAKER, self.folder, "pull", reference], capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn("InvalidArgs: docker:", done.stderr)


if __name__ == "__main__":
    MAKER = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
