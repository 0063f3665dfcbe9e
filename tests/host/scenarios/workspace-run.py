"""A repository is copied in, as it is on the owner's disk, and the command runs there."""

REPOSITORY = """set -e
rm -rf hello; git init -q -b main hello; cd hello
printf 'check:\\n\\tcat tracked new && exit 5\\n' > Makefile; echo first > tracked; echo '*.o' > .gitignore
git add -A; git -c user.name=t -c user.email=t@example.org commit -qm first
echo changed > tracked; echo new > new; echo no > ignored.o"""


def run(host):
    host.as_owner(REPOSITORY)
    done = host.banger("vm", "run", "--rm", "hello", "--", "sh", "-c", "pwd; ls; make -s check", check=False)
    assert done.returncode == 2, done  # make's own
    assert done.stdout.split() == ["/root/hello", "Makefile", "new", "tracked", "changed", "new"], done
