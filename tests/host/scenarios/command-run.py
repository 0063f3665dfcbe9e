"""A command runs in a VM of its own: output apart, arguments as given, exit status passed on, nothing left."""


def run(host):
    done = host.banger("vm", "run", "--rm", "--", "sh", "-c", "echo out-$1; echo err >&2; exit 7", "sh", "a b\n'c", check=False)
    assert done.returncode == 7, done
    assert done.stdout == "out-a b\n'c\n", done.stdout
    assert "err" in done.stderr.splitlines(), done.stderr
    assert host.banger("vm", "list", "--json").stdout.strip() in ("[]", "[ ]"), "a VM is left"
