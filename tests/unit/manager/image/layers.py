"""Images of layers, byte by byte: what test_layers.py unpacks by two programs.

Used by test_layers.py and tests/bus. Each kind is a function that returns its layers, from the lowest up.
"""

import gzip
import hashlib
import json
import pathlib
import subprocess

import strange

KINDS = {}  # name -> function
MANIFEST, CONFIG = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"
INDEX, LAYER = "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.layer.v1.tar"
PLAIN, GZIP, ZSTD, MEMBERS = "plain", "gzip", "zstd", "members"
SETTINGS = {"Env": ["PATH=/usr/bin:/bin", "A=b c"], "WorkingDir": "/srv", "User": "1000:1000", "Entrypoint": ["/entry", "--x"],
            "Cmd": ["serve", ""], "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Labels": {"b": "2", "a": "1=1"}}


def kind(function):
    KINDS[function.__name__.replace("_", "-")] = function
    return function


def layer(*steps):
    """Each step is called with a strange.Archive."""
    archive = strange.Archive()
    for step in steps:
        step(archive)
    return archive.finish()


def folder(name, **fields):
    return lambda a: a.folder(name, **fields)


def file(name, data=b"", **fields):
    return lambda a: a.add(name, data, **fields)


def link(name, target, **fields):
    return lambda a: a.add(name, type=b"2", mode=0o777, link=target, **fields)


def hard(name, target):
    return lambda a: a.add(name, type=b"1", link=target)


def gone(name, inside=False):
    """A whiteout; of all that is in the folder @name."""
    head, _, tail = name.rpartition(b"/")
    return file(name + b"/.wh..wh..opq" if inside else (head + b"/" if head else b"") + b".wh." + tail)


BASE = (folder(b"./"), folder(b"sbin/"), file(b"sbin/init", b"#!", mode=0o755), folder(b"etc/"), file(b"etc/one", b"1"), file(b"etc/two", b"2"),
        folder(b"usr/"), folder(b"usr/lib/"), file(b"usr/lib/a.so", b"a"), folder(b"root/", mode=0o700), file(b"root/.profile", b"p"),
        folder(b"root/d/"), file(b"root/d/x", b"x"))
base = layer(*BASE)


@kind
def one_layer():
    return [base]


@kind
def files_over_files():
    return [base, layer(folder(b"etc/", mode=0o750, mtime=1500000000), file(b"etc/one", b"other", mode=0o600, uid=7), file(b"etc/three", b"3"))]


@kind
def whiteouts():
    return [base, layer(folder(b"etc/"), gone(b"etc/one"), gone(b"usr")), layer(folder(b"etc/"), file(b"etc/one", b"back"))]


@kind
def whiteouts_of_nothing():
    return [base, layer(gone(b"nothing"), gone(b"no/such/folder"), folder(b"etc/"), gone(b"etc/none"), gone(b"etc/none"))]


@kind
def whiteout_and_the_name_again():
    return [base, layer(folder(b"etc/"), gone(b"etc/one"), file(b"etc/one", b"new"), gone(b"usr"), folder(b"usr/"), file(b"usr/b", b"b"))]


@kind
def opaque_folder():
    return [base, layer(folder(b"etc/", mode=0o711), gone(b"etc", True), file(b"etc/three", b"3"), folder(b"usr/"), folder(b"usr/lib/"),
                        gone(b"usr/lib", True))]


@kind
def opaque_behind_its_own():
    return [base, layer(folder(b"etc/"), file(b"etc/three", b"3"), folder(b"etc/d/"), file(b"etc/d/e", b"e"), gone(b"etc", True), file(b"etc/four", b"4"))]


@kind
def opaque_in_two_layers():
    return [base, layer(folder(b"etc/"), gone(b"etc", True), file(b"etc/a", b"a")), layer(folder(b"etc/"), gone(b"etc", True), file(b"etc/b", b"b"))]


@kind
def hard_links_across_layers():
    return [base, layer(folder(b"etc/"), hard(b"etc/linked", b"usr/lib/a.so"), hard(b"again", b"etc/linked")), layer(hard(b"third", b"again"))]


@kind
def one_of_two_links_replaced():
    pair = layer(*BASE, file(b"perl", b"x" * 9000), hard(b"perl5", b"perl"), file(b"gzip", b"g"), hard(b"gunzip", b"gzip"))
    return [pair, layer(file(b"perl", b"new"), gone(b"gzip"))]


@kind
def file_to_folder_and_back():
    return [base, layer(folder(b"etc/"), folder(b"etc/one/"), file(b"etc/one/in", b"in")), layer(folder(b"etc/"), file(b"etc/one", b"file again")),
            layer(folder(b"etc/"), folder(b"etc/one/", mode=0o700))]


@kind
def folder_to_file_and_link():
    return [base, layer(file(b"etc", b"file")), layer(link(b"usr", b"/sbin"), link(b"etc", b"usr"))]


@kind
def link_to_folder():
    return [layer(*BASE, link(b"lib", b"usr/lib"), link(b"lib64", b"/usr/lib")), layer(gone(b"lib"), folder(b"lib/"), file(b"lib/own", b"own"))]


@kind
def through_a_link_below():
    return [layer(*BASE, link(b"lib", b"usr/lib"), link(b"abs", b"/lib")), layer(file(b"lib/b.so", b"b"), file(b"abs/c.so", b"c"), gone(b"lib/a.so"))]


@kind
def attributes():
    cap = {b"SCHILY.xattr.security.capability": strange.capability(1 << 10)}
    user = {b"SCHILY.xattr.user.a": b"1", b"SCHILY.xattr.user.b": b"\0binary"}
    return [layer(*BASE, file(b"ping", b"p", pax=cap, mode=0o755), file(b"tagged", b"t", pax=user), folder(b"tagged-folder/", pax=user)),
            layer(file(b"ping", b"without", mode=0o755), file(b"tagged", b"t", pax={b"SCHILY.xattr.user.c": b"3"}))]


@kind
def long_and_odd_names():
    return [layer(*BASE, file(b"n" * 250, b"n"), file("ä/ö".encode(), b"o"), file(b"line\nfeed", b"l"), folder(b"d" * 120 + b"/")),
            layer(gone(b"n" * 250), file("ä/ü".encode(), b"u"), file(b"d" * 120 + b"/" + b"f" * 120, b"f"))]


@kind
def names_like_whiteouts():
    return [base, layer(file(b".whatever", b"w"), file(b"wh.x", b"x"), folder(b"etc/"), file(b"etc/.w", b"w"), file(b"etc/a.wh.b", b"b"))]


@kind
def sparse_files():
    runs = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": b"sparse", b"GNU.sparse.realsize": b"1048576"}
    data = strange.padded(b"2\n0\n4096\n524288\n4096\n") + b"a" * 4096 + b"b" * 4096
    return [base, layer(file(b"GNUSparseFile.0/sparse", data, pax=runs)), layer(file(b"etc/one", b"1"))]


@kind
def owners_modes_and_times():
    return [base, layer(folder(b"./", mode=0o755, mtime=1400000000), folder(b"usr/", mode=0o1777, uid=3, gid=4, mtime=1), file(b"suid", b"s", mode=0o4755, uid=5),
                        file(b"old", b"o", pax={b"mtime": b"-1.5"}), file(b"late", b"l", pax={b"mtime": b"4294967296.25"}), link(b"l", b"x", uid=9))]


@kind
def devices():
    nodes = (lambda a: a.add(b"null", type=b"3", major=1, minor=3), lambda a: a.add(b"disk", type=b"4", major=8, minor=1),
             lambda a: a.add(b"fifo", type=b"6"))
    return [layer(*BASE, *nodes), layer(gone(b"disk"), file(b"null", b"a file"), lambda a: a.add(b"etc/one", type=b"3", major=1, minor=5))]


@kind
def roots_own():
    return [base, layer(folder(b"root/", mode=0o700), gone(b"root/.profile"), folder(b"root/d/"), gone(b"root/d", True), file(b"root/d/y", b"y")),
            layer(folder(b"root/"), hard(b"root/z", b"root/d/y"))]


@kind
def root_emptied():
    return [base, layer(folder(b"root/", mode=0o755), gone(b"root", True))]


@kind
def empty_layers():
    return [base, layer(), layer(folder(b"etc/"), gone(b"etc/one")), layer()]


@kind
def many_layers():
    return [base, *(layer(file(b"count", b"%d" % i), file(b"f%d" % i, b"x"), gone(b"f%d" % (i - 2))) for i in range(125))]


@kind
def the_same_layer_twice():
    change = layer(folder(b"etc/"), gone(b"etc/one"), file(b"etc/two", b"changed"))
    return [base, change, layer(folder(b"etc/"), file(b"etc/one", b"between")), change]


@kind
def folders_of_folders_gone():
    deep = b"a/" * 60
    parents = [folder(deep[:2 * i]) for i in range(1, 61)]
    return [layer(*BASE, *parents, file(deep + b"f", b"f")), layer(gone(b"a/" * 29 + b"a")), layer(gone(b"a")), layer(folder(b"a/"))]


@kind
def link_changed():
    return [layer(*BASE, link(b"l", b"one")), layer(link(b"l", b"two" * 40)), layer(link(b"l", b"three"))]


@kind
def large_files_replaced():
    return [layer(*BASE, file(b"big", b"1" * 300000), file(b"second", b"2" * 200000)), layer(file(b"big", b"3" * 100001), gone(b"second")),
            layer(file(b"third", b"4" * 250000))]


@kind
def content_below_what_is_gone():
    return [base, layer(gone(b"usr"), file(b"usr/lib/new.so", b"n"))]


@kind
def gone_behind_its_own_content():
    return [base, layer(folder(b"usr/"), folder(b"usr/lib/"), file(b"usr/lib/new.so", b"n"), gone(b"usr/lib/a.so"))]


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def packed(data, how):
    if how == PLAIN:
        return data
    if how == ZSTD:
        return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout
    if how == MEMBERS:
        return gzip.compress(data[:700], mtime=0) + gzip.compress(data[700:], mtime=0)
    return gzip.compress(data, mtime=0)


class Image:
    """Blobs of one image."""

    def __init__(self, layers, how=GZIP, settings=None, architecture="amd64"):
        suffix = {PLAIN: "", ZSTD: "+zstd"}.get(how, "+gzip")
        self.layers, self.blobs = [packed(data, how) for data in layers], {}
        self.diff_ids = [digest_of(data) for data in layers]
        self.config = {"architecture": architecture, "os": "linux", "config": settings or {}, "rootfs": {"type": "layers", "diff_ids": self.diff_ids}}
        self.manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self.put(json.dumps(self.config).encode(), CONFIG),
                         "layers": [self.put(data, LAYER + suffix) for data in self.layers]}

    def put(self, data, media_type):
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def descriptor(self, **more):
        return {**self.put(json.dumps(self.manifest).encode(), MANIFEST), **more}

    def files(self, *descriptors):
        """name -> bytes of an OCI image layout."""
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(descriptors) or
                 [self.descriptor(annotations={"org.opencontainers.image.ref.name": "latest"})]}
        return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode(),
                **{"blobs/sha256/" + digest.split(":")[1]: data for digest, data in self.blobs.items()}}


def write(files, where):
    for name, data in files.items():
        path = pathlib.Path(where) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def archived(files):
    """A tar of them, in the order in which they are given."""
    archive = strange.Archive()
    for name, data in files.items():
        archive.add(name.encode(), data)
    return archive.finish()


def saved(image, tags=("box:latest",)):
    """As docker save before version 25: each layer in a folder of its own, one of them a link to another's."""
    config = json.dumps(image.config).encode()
    archive, names = strange.Archive(), []
    for i, data in enumerate(image.layers):
        identity = hashlib.sha256(b"%d" % i).hexdigest()
        archive.folder(f"{identity}/".encode())
        archive.add(f"{identity}/VERSION".encode(), b"1.0")
        names.append(f"{identity}/layer.tar")
        if data in image.layers[:i]:
            archive.add(names[-1].encode(), type=b"2", mode=0o777, link=b"../" + names[image.layers.index(data)].encode())
        else:
            archive.add(names[-1].encode(), data)
    archive.add((digest_of(config).split(":")[1] + ".json").encode(), config)
    archive.add(b"manifest.json", json.dumps([{"Config": digest_of(config).split(":")[1] + ".json", "RepoTags": list(tags), "Layers": names}]).encode())
    return archive.finish()
