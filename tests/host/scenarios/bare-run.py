"""Without a command a shell in the guest is opened: what comes in on stdin runs there, its exit status is banger's."""


def run(host):
    done = host.banger("vm", "run", "--rm", "--name", "bare", check=False, stdin="hostname; id -un; exit 3\n")
    assert done.returncode == 3, done
    assert done.stdout.splitlines()[-2:] == ["bare", "root"], done  # a greeting may come first
    assert host.names() == [], "a VM is left"
