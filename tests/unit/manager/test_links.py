#!/usr/bin/python3
"""bangerd parses nothing of strangers: what could is not even linked into it. Run by meson test with bangerd and banger-intake."""
import subprocess
import sys


def imported(program):
    """Names that a program takes from libraries."""
    text = subprocess.run(["readelf", "--wide", "--dyn-syms", program], check=True, capture_output=True, text=True).stdout
    return {line.split()[7].split("@")[0] for line in text.splitlines() if " UND " in line and len(line.split()) > 7}


def parsers(names):
    """Readers of archives and of file systems."""
    return sorted(name for name in names if name.startswith(("archive_read", "ext2fs_", "lzma_", "ZSTD_", "inflate")))


manager, intake = (parsers(imported(program)) for program in sys.argv[1:3])
print("1..2")
print("not ok" if manager else "ok", "1 - bangerd:", *manager)
print("ok" if "archive_read_new" in intake and "ext2fs_open2" in intake else "not ok", "2 - banger-intake")
sys.exit(bool(manager) or not intake)
