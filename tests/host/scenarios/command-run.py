"""A command runs in a VM of its own: output apart, arguments as given, exit status passed on, nothing left."""


def run(host):
    words = ["sh", "-c", 'printf "%s|" "$@"; echo err >&2; exit 7', "sh", "a b\n'c", "", "$HOME;*"]
    done = host.banger("vm", "run", "--rm", "--vcpu", "1", "--", *words, check=False)
    assert done.returncode == 7, done
    assert done.stdout == "a b\n'c||$HOME;*|", done.stdout
    assert "err" in done.stderr.splitlines(), done.stderr
    assert host.names() == [], "a VM is left"
