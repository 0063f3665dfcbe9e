"""Executes a command under a unit file's seccomp options, as systemd.exec(5) has them, where systemd does not run.

Usage: unit_filter.py UNIT COMMAND... Knows SystemCallFilter, RestrictAddressFamilies and RestrictNamespaces; the groups
come from systemd-analyze.
Never lets more through than the unit: a word that it does not know ends it.
"""

import errno
import os
import re
import socket
import subprocess
import sys

import seccomp

NAMESPACES = {"cgroup": 0x02000000, "ipc": 0x08000000, "net": 0x40000000, "mnt": 0x00020000, "pid": 0x20000000,
              "user": 0x10000000, "uts": 0x04000000}


def lines(unit, key):
    """Values of a setting, in order."""
    return re.findall(rf"^{key}=(.*)$", unit, re.M)


def group(name):
    """System calls of a group, groups in it included."""
    text = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    found = set()
    for word in re.findall(r"^ +(@?[\w-]+)$", text, re.M):
        found |= group(word) if word.startswith("@") else {word}
    if not found:
        raise SystemExit(f"systemd-analyze knows no group {name}")
    return found


def allowed_calls(unit):
    """The first line makes it an allow list; later ones add to it or take away."""
    allowed = group("@default") | {"execve"}
    for line in lines(unit, "SystemCallFilter"):
        take = line.startswith("~")
        for word in line.removeprefix("~").split():
            calls = group(word) if word.startswith("@") else {word}
            allowed = allowed - calls if take else allowed | calls
    return allowed


def load(unit):
    """From here on, for this process and all that come from it."""
    filters = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    forbidden = sum(NAMESPACES.values())
    for line in lines(unit, "RestrictNamespaces"):
        forbidden -= sum(NAMESPACES[word] for word in line.split())
    families = [getattr(socket, word)
                for line in lines(unit, "RestrictAddressFamilies") for word in line.split()]
    for name in sorted(allowed_calls(unit)):
        try:
            if name in ("unshare", "clone"):
                filters.add_rule(seccomp.ALLOW, name, seccomp.Arg(0, seccomp.MASKED_EQ, forbidden, 0))
            elif name == "clone3":  # its flags are in memory: glibc falls back to clone
                filters.add_rule(seccomp.ERRNO(errno.ENOSYS), name)
            elif name == "socket" and families:
                for family in families:
                    filters.add_rule(seccomp.ALLOW, name, seccomp.Arg(0, seccomp.EQ, int(family)))
            else:
                filters.add_rule(seccomp.ALLOW, name)
        except (RuntimeError, OSError):
            if seccomp.resolve_syscall(seccomp.Arch(), name) >= 0:
                raise
    filters.load()


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        load(f.read())
    os.execvp(sys.argv[2], sys.argv[2:])


main()
