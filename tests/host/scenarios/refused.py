"""What cannot be is refused before anything is made: no record, no folder, no lease."""

BAD = [
    ["vm", "create", "Not_A_Label"], ["vm", "create", "-x"], ["vm", "create", "a" * 64], ["vm", "create", ""],
    ["vm", "create", "x", "--image", "no-such-image"], ["vm", "create", "x", "--kernel", "no-such-kernel"],
    ["vm", "create", "x", "--memory", "4X"], ["vm", "create", "x", "--memory", "1"], ["vm", "create", "x", "--disk-size", "-1"],
    ["vm", "create", "x", "--vcpu", "0"], ["vm", "create", "x", "--vcpu", "many"], ["vm", "create", "x", "--vcpu", "100000"],
    ["vm", "run", "--rm", "/nonexistent", "--", "true"], ["vm", "run", "--rm", "/etc", "--", "true"],
    ["image", "import", "bad", "/etc/passwd"], ["image", "import", "bad", "/nonexistent"], ["image", "import", "Bad!", "/etc/passwd"],
    ["kernel", "import", "bad", "/etc/passwd"], ["kernel", "import", "bad", "/nonexistent"], ["vm", "start", "nobody"],
    ["vm", "delete", "nobody"], ["image", "delete", "nobody"], ["kernel", "delete", "nobody"],
]


def run(host):
    before = host.sh("find /var/lib/banger /run/banger | sort").stdout
    for argv in BAD:
        done = host.banger(*argv, check=False, timeout=60)
        assert done.returncode != 0 and done.stderr.strip() and not done.stdout, (argv, done)
    assert host.sh("find /var/lib/banger /run/banger | sort").stdout == before
