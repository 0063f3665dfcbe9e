"""Strange archives, byte by byte: what test_strange.py unpacks by two programs.

Used by test_strange.py. Each kind is a function that fills an Archive; its decorator says what must come of it.
Never uses a library that writes tars, which would not write these.
"""

import base64
import os
import pathlib
import struct
import subprocess
import tempfile

BLOCK = 512
USTAR, GNU, V7 = b"ustar\x0000", b"ustar  \0", b"\0" * 8
KINDS = {}  # name -> (function, how GNU tar is called beside the usual, what refuses it or None)


def kind(refused=None, gnu=()):
    def keep(function):
        KINDS[function.__name__.replace("_", "-")] = (function, gnu, refused)
        return function
    return keep


def octal(value, width):
    """As GNU tar writes what has no room in octal."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return (value & (1 << 8 * width) - 1 | 1 << 8 * width - 1).to_bytes(width, "big")


def padded(data):
    return data + b"\0" * (-len(data) % BLOCK)


class Archive:
    def __init__(self):
        self.bytes = b""
        self.ends = True

    def header(self, name, type=b"0", mode=0o644, uid=0, gid=0, size=0, mtime=1600000000, link=b"", magic=USTAR, major=0, minor=0,
               prefix=b"", signed=False):
        head = (name[:100].ljust(100, b"\0") + octal(mode, 8) + octal(uid, 8) + octal(gid, 8) + octal(size, 12) + octal(mtime, 12)
                + b" " * 8 + type + link[:100].ljust(100, b"\0") + magic + b"\0" * 64 + octal(major, 8) + octal(minor, 8)
                + prefix).ljust(BLOCK, b"\0")
        checksum = sum(byte - 256 if signed and byte > 127 else byte for byte in head)
        self.bytes += head[:148] + b"%06o\0 " % checksum + head[156:]

    def add(self, name, data=b"", pax=None, size=None, **fields):
        """An entry as pax(1) writes it; long names go into an extended header."""
        records = dict(pax or {})
        if len(name) > 100:
            records.setdefault(b"path", name)
        if len(fields.get("link", b"")) > 100:
            records.setdefault(b"linkpath", fields["link"])
        if records:
            self.pax(records)
        self.header(name, size=len(data) if size is None else size, **fields)
        self.bytes += padded(data)

    def folder(self, name, **fields):
        self.add(name, **{"type": b"5", "mode": 0o755, **fields})

    @staticmethod
    def records(records):
        out = b""
        for key, value in records.items() if isinstance(records, dict) else records:
            length = len(key) + len(value) + 3
            while length != len(str(length)) + len(key) + len(value) + 3:
                length = len(str(length)) + len(key) + len(value) + 3
            out += b"%d %s=%s\n" % (length, key, value)
        return out

    def pax(self, records, type=b"x"):
        data = self.records(records)
        self.header(b"./PaxHeaders/x", type=type, size=len(data))
        self.bytes += padded(data)

    def long(self, name, type=b"L"):
        self.header(b"././@LongLink", type=type, size=len(name) + 1, magic=GNU)
        self.bytes += padded(name + b"\0")

    def gnu(self, make, *arguments):
        """What GNU tar makes of the files that @make puts into a folder."""
        with tempfile.TemporaryDirectory(prefix="banger-strange.", dir="/var/tmp") as folder:
            make(pathlib.Path(folder))
            self.bytes = subprocess.check_output(["tar", *arguments, "--numeric-owner", "-c", "-C", folder, "."])
            self.ends = False

    def finish(self):
        return self.bytes + (b"\0" * 1024 if self.ends else b"")


def capability(bits, rootid=None):
    revision = 3 if rootid is not None else 2
    return struct.pack("<5I", revision << 24 | 1, bits, 0, 0, 0) + (struct.pack("<I", rootid) if rootid is not None else b"")


# Names

@kind()
def v7(a):
    a.folder(b"old/", magic=V7, type=b"\0")
    a.add(b"old/file", b"data", magic=V7, type=b"\0")
    a.add(b"old/link", type=b"1", link=b"old/file", magic=V7)


@kind()
def ustar_prefix(a):
    a.add(b"file", b"x", prefix=b"/".join([b"p" * 30] * 5))
    a.folder(b"folder/", prefix=b"a/b")


@kind()
def gnu_long_names(a):
    a.long(b"d/" * 300 + b"f" * 200)
    a.add(b"cut", b"far", magic=GNU)
    a.long(b"t" * 1000, type=b"K")
    a.long(b"s" * 150)
    a.header(b"cut", type=b"2", mode=0o777, link=b"cut", magic=GNU)


@kind()
def pax_long_names(a):
    a.add(b"n" * 255, b"x")
    a.add(b"/".join([b"e" * 200] * 15), b"deep")
    a.add(b"link", type=b"2", mode=0o777, link=b"l" * 3000)


@kind()
def names_of_any_bytes(a):
    for name in (b"new\nline", b"tab\t", b"\xff\xfe", "ä€😀".encode(), b"\x01\x7f", b"back\\slash", b" ", b"-rf", b"a;b", b"*"):
        a.add(name, name)
    a.add(b"replaced", b"x", pax={b"path": b"\xc3\x28 is no UTF-8"})


@kind()
def names_written_otherwise(a):
    a.folder(b"./")
    a.add(b"./dot", b"1")
    a.add(b"two//slashes", b"2")
    a.add(b"./inner/./dot", b"3")
    a.add(b"/absolute", b"4")
    a.folder(b"folder")
    a.add(b"file-that-is-a-folder/", type=b"0")


@kind()
def implied_folders(a):
    a.add(b"one/two/three", b"x")
    a.folder(b"one/two", mode=0o700, uid=7)


# Links

@kind()
def pax_linkpath_beside_an_empty_one(a):
    target = "ä/ö".encode()
    a.folder("ä".encode())
    a.add("ä/ö".encode(), b"there")
    a.add(b"symbolic", type=b"2", mode=0o777, pax={b"linkpath": target})
    a.add(b"hard", type=b"1", pax={b"linkpath": target})


@kind()
def link_targets_of_every_length(a):
    for length in (1, 58, 59, 60, 61, 100, 101, 255, 1023, 1024, 4094, 4095):
        a.add(b"link-%d" % length, type=b"2", mode=0o777, link=b"t" * length)


@kind()
def symbolic_links_with_modes(a):
    for mode in (0, 0o644, 0o755, 0o4777, 0o777):
        a.add(b"link-%o" % mode, type=b"2", mode=mode, link=b"nowhere", uid=5, gid=6)


@kind()
def hard_links(a):
    a.add(b"file", b"data", uid=3, mode=0o640)
    for i in range(1000):
        a.add(b"link-%d" % i, type=b"1", link=b"file")
    a.add(b"dev", type=b"3", major=1, minor=3)
    a.add(b"dev2", type=b"1", link=b"./dev")
    a.add(b"sym", type=b"2", mode=0o777, link=b"file")
    a.add(b"sym2", type=b"1", link=b"sym")
    a.add(b"fifo", type=b"6")
    a.add(b"fifo2", type=b"1", link=b"fifo")


@kind()
def hard_link_with_a_size_and_no_data(a):
    a.add(b"file", b"four")
    a.header(b"link", type=b"1", link=b"file", size=4, magic=GNU)
    a.add(b"after", b"after")


@kind()
def hard_link_over_others(a):
    a.add(b"a", b"a")
    a.add(b"b", b"b")
    a.add(b"b", type=b"1", link=b"a")
    a.add(b"c", type=b"2", mode=0o777, link=b"a")
    a.add(b"c", type=b"1", link=b"a")


# Times and numbers

@kind()
def times(a):
    for i, mtime in enumerate((b"0", b"1.5", b"1.000000001", b"1.9999999999", b"-1", b"-1.5", b"-0.25", b"-0.0000000001", b"2147483647.5",
                               b"2147483648", b"-2147483648", b"4294967296.75", b"8589934592", b"15032385534.999999999")):
        a.add(b"time-%d" % i, pax={b"mtime": mtime})
    a.folder(b"folder", pax={b"mtime": b"-7.75"})
    a.add(b"link", type=b"2", mode=0o777, link=b"x", pax={b"mtime": b"-3.5"})


@kind()
def times_in_headers(a):
    for mtime in (0, 1, 8 ** 11 - 1, 8 ** 11, -1, -100000):
        a.add(b"time%d" % mtime, mtime=mtime, magic=GNU)


@kind()
def owners(a):
    for owner in (0, 1, 65535, 65536, 2097151, 2097152, 2147483648, 4294967294):
        a.add(b"gnu-%d" % owner, uid=owner, gid=owner, magic=GNU)
        a.add(b"pax-%d" % owner, pax={b"uid": b"%d" % owner, b"gid": b"%d" % owner})


@kind()
def modes(a):
    for mode in (0, 0o1, 0o777, 0o1777, 0o2755, 0o4755, 0o7777, 0o100644):
        a.add(b"file-%o" % mode, b"x", mode=mode, uid=1, gid=1)
        a.folder(b"folder-%o" % mode, mode=mode, gid=4)


@kind()
def checksum_of_signed_bytes(a):
    a.add("ä".encode() * 20, b"x", signed=True)


@kind()
def number_fields_with_blanks(a):
    before = len(a.bytes)
    a.header(b"blanks", uid=5, size=3)
    head = a.bytes[before:]
    head = head[:100] + b"   644 \0" + b"    10 \0" + b"     0 \0" + b"          3 " + b"13726510140 " + b" " * 8 + head[156:]
    a.bytes = a.bytes[:before] + head[:148] + b"%6o\0 " % sum(head) + head[156:] + padded(b"abc")


# Global headers

@kind()
def pax_global(a):
    a.pax({b"mtime": b"1234567890.5", b"uid": b"77", b"comment": b"of git"}, type=b"g")
    a.add(b"inherits", b"x", uid=1)
    a.add(b"own", b"x", pax={b"uid": b"88"})
    a.pax({b"uid": b"99", b"mtime": b"1234567890.5"}, type=b"g")  # GNU tar forgets the first one then, POSIX does not
    a.add(b"later", b"x")
    a.folder(b"folder")


@kind()
def pax_global_of_posix(a):
    """What a second global header does not mention stays, and what it mentions without a value is taken back."""
    a.pax({b"SCHILY.xattr.user.g": b"1", b"uid": b"5", b"gid": b"6"}, type=b"g")
    a.pax({b"gid": b""}, type=b"g")
    a.add(b"file", uid=9, gid=9)
    EXPECTED["pax-global-of-posix"] = {b"file": {"attributes": {"user.g": b"1"}, "owner": (5, 9)}}


@kind()
def pax_headers_that_repeat(a):
    a.pax({b"uid": b"1", b"comment": b"lost"})
    a.pax({b"gid": b"2"})
    a.header(b"file", uid=9)


# What a file is made of

@kind()
def sizes(a):
    for size in (0, 1, 511, 512, 513, 4095, 4096, 4097, 65536, (1 << 20) - 1, 1 << 20, (5 << 20) + 3):
        a.add(b"size-%d" % size, (bytes(range(251)) * (size // 251 + 1))[:size])


@kind()
def size_in_pax_alone(a):
    a.add(b"file", b"seven b", size=0, pax={b"size": b"7"})
    a.add(b"after", b"x")


@kind()
def zeros_that_are_data(a):
    a.add(b"zeros", b"\0" * 100000)


def sparse_files(folder):
    for name, size, parts in (("start", 1 << 20, [(0, 5000)]), ("end", 1 << 20, [((1 << 20) - 10, 10)]), ("hole", 1 << 20, []),
                              ("huge", 8 << 30, [(5 << 30, 4096)]), ("odd", 70001, [(4097, 3), (60000, 10001)]),
                              ("many", 400 * 8192, [(i * 8192, 4096) for i in range(400)])):
        with open(folder / name, "wb") as file:
            file.truncate(size)
            for offset, length in parts:
                os.pwrite(file.fileno(), b"d" * length, offset)
        os.utime(folder / name, ns=(10 ** 18, 10 ** 18 + 7))


@kind()
def sparse_gnu(a):
    a.gnu(sparse_files, "--format=gnu", "--sparse")


@kind()
def sparse_pax_0_0(a):
    a.gnu(sparse_files, "--format=posix", "--sparse", "--sparse-version=0.0")


@kind()
def sparse_pax_0_1(a):
    a.gnu(sparse_files, "--format=posix", "--sparse", "--sparse-version=0.1")


@kind()
def sparse_pax_1_0(a):
    a.gnu(sparse_files, "--format=posix", "--sparse", "--sparse-version=1.0")


def backed_up(folder):
    (folder / "d" / "empty").mkdir(parents=True)
    for name in "a", "b":
        (folder / "d" / name).write_text(name)
    for name in "d/a", "d/b", "d/empty", "d":
        os.utime(folder / name, ns=(10 ** 18, 10 ** 18))


@kind()
def incremental_gnu(a):
    """Folders are of type D and carry the names in them."""
    a.gnu(backed_up, "--format=gnu", "--incremental")


@kind()
def incremental_pax(a):
    a.gnu(backed_up, "--format=posix", "--incremental")


@kind(refused=r"map of holes")
def sparse_map_beyond_the_file(a):
    a.pax([(b"GNU.sparse.size", b"50"), (b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.offset", b"0"), (b"GNU.sparse.numbytes", b"100")])
    a.header(b"f", size=100)
    a.bytes += padded(b"x" * 100)


@kind()
def types_of_nobody(a):
    a.add(b"contiguous", b"x", type=b"7")
    a.add(b"unknown", b"y", type=b"Z")
    a.header(b"label", type=b"V", magic=GNU)
    a.add(b"after", b"z")


@kind()
def sizes_where_there_is_no_data(a):
    a.add(b"folder", type=b"5", mode=0o755, size=0)
    a.header(b"link", type=b"2", mode=0o777, link=b"x", size=0)
    a.header(b"fifo", type=b"6", size=0)
    a.add(b"after", b"after")


@kind()
def devices(a):
    for i, (major, minor) in enumerate(((1, 3), (255, 255), (256, 0), (259, 70000), (4095, 1048575), (0, 0), (8, 256))):
        a.add(b"char-%d" % i, type=b"3", major=major, minor=minor)
        a.add(b"block-%d" % i, type=b"4", major=major, minor=minor, mode=0o660, gid=6)
    a.add(b"fifo", type=b"6", mode=0o600)


@kind()
def large_folder(a):
    for i in range(5000):
        a.add(b"folder/" + b"%05d-" % i + b"n" * 80)


@kind()
def nothing(a):
    pass


# Entries that come twice

@kind()
def replaced(a):
    a.add(b"file", b"old" * 5000, uid=1)
    a.add(b"file", b"new")
    a.add(b"to-link", b"x")
    a.add(b"to-link", type=b"2", mode=0o777, link=b"file")
    a.add(b"from-link", type=b"2", mode=0o777, link=b"file")
    a.add(b"from-link", b"own")
    a.folder(b"empty")
    a.add(b"empty", b"was a folder")
    a.add(b"was-file", b"x")
    a.folder(b"was-file", uid=5)
    a.add(b"fifo", type=b"6")
    a.add(b"fifo", type=b"3", major=1, minor=5)


@kind()
def folder_again(a):
    """Attributes are those of the later entry; GNU tar would add them to those of the first."""
    a.folder(b"d", mode=0o700)
    a.add(b"d/inside", b"x")
    a.folder(b"d", mode=0o751, uid=4, pax={b"SCHILY.xattr.user.a": b"1"})


@kind(refused=r"d: replaces a directory that is not empty")
def file_over_a_full_folder(a):
    """GNU tar refuses it, too, and goes on."""
    a.add(b"d/x", b"x")
    a.add(b"d", b"y")


# Extended attributes

@kind()
def attributes(a):
    a.add(b"file", b"x", pax={b"SCHILY.xattr.user.small": b"v", b"SCHILY.xattr.user.empty": b"", b"SCHILY.xattr.user.bytes": bytes(range(256)),
                              b"SCHILY.xattr.user.large": b"l" * 2000, b"SCHILY.xattr.trusted.t": b"t"})
    a.folder(b"folder", pax={b"SCHILY.xattr.user.on": b"folder"})
    a.add(b"link", type=b"2", mode=0o777, link=b"x", pax={b"SCHILY.xattr.trusted.on": b"link"})
    a.add(b"name", pax={b"SCHILY.xattr.user." + b"n" * 250: b"v"})
    a.add(b"ten", pax={b"SCHILY.xattr.user.%d" % i: b"%d" % i * 30 for i in range(10)})
    a.add(b"hundred", pax={b"SCHILY.xattr.user.%d" % i: b"" for i in range(100)})


@kind()
def capabilities(a):
    a.add(b"v2", b"x", mode=0o755, pax={b"SCHILY.xattr.security.capability": capability(1 << 13)})
    a.add(b"v3", b"x", mode=0o755, uid=5, pax={b"SCHILY.xattr.security.capability": capability(1 << 10, 1000)})


@kind()
def attributes_of_other_systems(a):
    """GNU tar warns that the kernel refuses them."""
    a.add(b"mac", b"x", pax={b"SCHILY.xattr.com.apple.FinderInfo": b"f" * 200, b"SCHILY.xattr.user.kept": b"k"})
    a.add(b"link", type=b"2", mode=0o777, link=b"x", pax={b"SCHILY.xattr.user.on-a-link": b"v"})
    a.add(b"none", pax={b"SCHILY.xattr.plain": b"v", b"SCHILY.xattr.system.nfs4_acl": b"n"})


@kind()
def attributes_by_libarchive(a):
    value = base64.b64encode(bytes(range(100))).rstrip(b"=")
    a.pax({b"LIBARCHIVE.xattr.user.with%20blank": value})
    a.header(b"ours-alone")
    EXPECTED["attributes-by-libarchive"] = {b"ours-alone": {"attributes": {"user.with blank": bytes(range(100))}}}


@kind(refused=r"^f: its extended attribute 'user\.n+' has a name of more than 255 bytes")
def attribute_with_a_long_name(a):
    a.add(b"f", pax={b"SCHILY.xattr.user." + b"n" * 251: b"v"})


@kind(refused=r"^f: its extended attribute 'user\.' has no name")
def attribute_without_a_name(a):
    a.add(b"f", pax={b"SCHILY.xattr.user.": b"v"})


@kind(refused=r"^f: its extended attribute 'user\.x' does not fit")
def attribute_of_4050_bytes(a):
    a.add(b"f", pax={b"SCHILY.xattr.user.x": b"v" * 4050})


@kind(refused=r"^d/f: its extended attribute 'user\.\d+' does not fit")
def attributes_that_do_not_fit_together(a):
    a.add(b"d/f", pax={b"SCHILY.xattr.user.%d" % i: b"v" * 50 for i in range(100)})


@kind(refused=r"^d/f: cannot write extended attributes")
def attributes_that_just_do_not_fit(a):
    """One that fills the block, and one too large for what is left of the inode."""
    a.add(b"d/f", pax={b"SCHILY.xattr.user.big": b"v" * 3960, b"SCHILY.xattr.user.small": b"v" * 80, b"SCHILY.xattr.user.s": b"v" * 8})


# Access lists

@kind()
def access_lists(a):
    text = b"user::rwx,user:daemon:r-x,user:4:rw-,group::r--,group:adm:r-x,mask::rwx,other::---"
    a.add(b"file", b"x", mode=0o770, pax={b"SCHILY.acl.access": text})
    a.folder(b"folder", pax={b"SCHILY.acl.access": text, b"SCHILY.acl.default": b"user::rwx,group::r-x,group:adm:r-x,mask::r-x,other::r-x"})
    a.add(b"mode-alone", mode=0o777, pax={b"SCHILY.acl.access": b"user::rw-,group::r--,other::---"})
    a.add(b"setuid", mode=0o4777, pax={b"SCHILY.acl.access": b"user::rwx,user:1:r--,group::r-x,mask::r-x,other::r-x"})
    a.folder(b"etc")
    a.add(b"etc/passwd", b"root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\n")
    a.add(b"etc/group", b"root:x:0:\nadm:x:4:somebody\n")


@kind()
def access_lists_on_what_cannot_have_them(a):
    a.add(b"link", type=b"2", mode=0o777, link=b"x", pax={b"SCHILY.acl.access": b"user::rwx,user:1:r--,group::r-x,mask::r-x,other::r-x"})
    a.add(b"fifo", type=b"6", pax={b"SCHILY.acl.access": b"user::rwx,user:1:r--,group::r-x,mask::r-x,other::r-x"})


@kind()
def access_lists_of_the_archives_own_people(a):
    """GNU tar asks this machine, which does not know them."""
    a.folder(b"var", pax={b"SCHILY.acl.access": b"user::rwx\nuser:stranger:r-x\ngroup::r-x\ngroup:strangers:rwx\nmask::rwx\nother::r-x",
                          b"SCHILY.acl.default": b"user::rwx,user:stranger:r-x,group::r-x,mask::rwx,other::r-x"})
    a.add(b"etc/group", b"daemon:x:1:\nstrangers:x:70001:\n")
    a.add(b"etc/passwd", b"root:x:0:0::/root:/bin/sh\nstranger:x:70000:70001::/:/bin/sh")
    nobody = 0xffffffff
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in (
        (1, 7, nobody), (2, 5, 70000), (4, 5, nobody), (8, 7, 70001), (16, 7, nobody), (32, 5, nobody)))
    default = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in (
        (1, 7, nobody), (2, 5, 70000), (4, 5, nobody), (16, 7, nobody), (32, 5, nobody)))
    EXPECTED["access-lists-of-the-archives-own-people"] = {
        b"var": {"mode": "0o40775", "attributes": {"system.posix_acl_access": access, "system.posix_acl_default": default}}}


@kind(refused=r"^f: its access list \(ACL\) has 'nobody-knows'")
def access_list_of_nobody(a):
    a.add(b"f", pax={b"SCHILY.acl.access": b"user::rwx,user:nobody-knows:r-x,group::r-x,mask::r-x,other::r-x"})


@kind(refused=r"^f: its access list \(ACL\) is none: user::rwx,user:1:r-x")
def access_list_without_a_mask(a):
    a.add(b"f", pax={b"SCHILY.acl.access": b"user::rwx,user:1:r-x,group::r-x,other::r-x"})


@kind(refused=r"^f: its access list \(ACL\) is none")
def access_list_of_bad_bytes(a):
    a.add(b"f", pax={b"SCHILY.xattr.system.posix_acl_access": b"\x02\0\0\0bad"})


# What has no place

@kind(refused=r"^lost\+found: must be a directory")
def lost_and_found_as_a_file(a):
    """Said at once, not at the end: what follows is no tar at all."""
    a.add(b"lost+found", b"x")
    a.bytes += b"no header" * 100


@kind()
def lost_and_found_with_content(a):
    a.folder(b"lost+found", mode=0o700)
    a.add(b"lost+found/#12", b"found")


@kind(refused=r"'\.\.' in a path")
def upwards(a):
    """GNU tar leaves such a member out."""
    a.add(b"a/../../b", b"x")


@kind(refused=r"lies below what is no directory")
def through_a_link(a):
    """GNU tar writes through the link, once it has made it."""
    a.add(b"out", type=b"2", mode=0o777, link=b"/tmp")
    a.add(b"out/file", b"x")


@kind(refused=r"extended header")
def extended_header_that_is_none(a):
    a.header(b"x", type=b"x", size=20)
    a.bytes += padded(b"999 path=x\n")
    a.header(b"file")


@kind(refused=r"extended header")
def attributes_without_end(a):
    """Each was compared with all before it."""
    a.add(b"f", b"x", pax={b"SCHILY.xattr.user.%d" % n: b"" for n in range(1025)})


@kind(refused=r"extended header of more than 1 MiB")
def extended_header_without_end(a):
    a.header(b"x", type=b"x", size=1 << 33, magic=GNU)


@kind(refused=r"file: it ends early")
def cut_in_data(a):
    a.header(b"file", size=100000)
    a.bytes += b"x" * 5000
    a.ends = False


@kind(refused=r"without the mark of its end")
def cut_between_entries(a):
    a.add(b"file", b"x")
    a.ends = False


@kind(refused=r"a header is damaged")
def damaged_header(a):
    a.add(b"one", b"x")
    before = len(a.bytes)
    a.add(b"two", b"y")
    a.bytes = a.bytes[:before] + b"T" + a.bytes[before + 1:]


@kind(refused=r"no header at its start")
def no_tar(a):
    a.bytes = os.urandom(4096)


# Filled by kinds that GNU tar does not unpack as they are meant: kind -> path -> what is to be seen of it instead.
EXPECTED = {}
