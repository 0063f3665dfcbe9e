"""The disk under VMs stands still, is slow, or fails in the middle of their verbs: each ends, and all agrees when it is back."""

import contextlib
import re
import shlex
import time

import wire

LONG = True
STATE = "/var/lib/banger"
STOP = "systemctl --user -M dev@ stop bangerd; systemctl stop bangerd-root"
START = "systemctl start bangerd-root; systemctl --user -M dev@ start bangerd"
# Its state goes on a disk that can be made to fail.
MAKE = f"""set -e
truncate -s 6G /var/tmp/disk; loop=$(losetup -f --show /var/tmp/disk)
echo "0 $(blockdev --getsz $loop) linear $loop 0" >/run/fine
echo "0 $(blockdev --getsz $loop) delay $loop 0 100" >/run/slow
echo "0 $(blockdev --getsz $loop) error" >/run/broken
modprobe dm_delay; dmsetup create faulty /run/fine
mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1,nodiscard /dev/mapper/faulty
mkdir /run/new; mount /dev/mapper/faulty /run/new
cp -a --sparse=always {STATE}/. /run/new/; sync -f /run/new
mount --bind /run/new {STATE}; umount /run/new; rmdir /run/new"""  # what was copied stays in memory
END = f"umount {STATE}; dmsetup remove faulty; losetup -d $(losetup -n -O NAME -j /var/tmp/disk); rm -f /var/tmp/disk /run/fine /run/slow /run/broken"
# Of each answer how many milliseconds it took, as long as the file is there; what took longer than half a minute was none.
ASK = """
import time
open("/home/dev/ask", "w").close()
with open("/home/dev/answers", "w", buffering=1) as answers:
    while os.path.exists("/home/dev/ask"):
        since = time.monotonic()
        try:
            ask(*CALLS["objects"], timeout=30)
            print(round((time.monotonic() - since) * 1000), file=answers)
        except OSError:
            print("none", file=answers)
        time.sleep(0.5)
"""
# Each number is on the disk before it is said. One program: a guest that starts three for each number is slower, and knows no more.
COUNT = r"""use IO::Handle; $| = 1;
my ($n, $new, $folder);
my $i = open($n, "<", "/root/n") ? <$n> + 0 : 0;
sub synced { syscall(74, fileno($_[0])) == 0 or die "fsync: $!" }
while (1) {
    $i++;
    open($new, ">", "/root/new") && print($new "$i\n") && $new->flush or die "new: $!";
    synced($new);
    close($new) && rename("/root/new", "/root/n") && open($folder, "<", "/root") or die "n: $!";
    synced($folder);
    print "$i\n";
    select(undef, undef, undef, 0.2);
}"""
VERB_SECONDS = 150  # more than any may take: a verb ends


def run(host):
    host.sh(f"{STOP}; {MAKE}", timeout=300)
    try:
        host.sh(START)
        with answering(host):
            breaks(host)
        mounted_again(host)
        with answering(host):
            goes(host)
    finally:
        device(host, "fine")
        host.sh(f"{STOP}; {END}; {START}", timeout=120)


def breaks(host):
    """It is slow while a guest writes, and then it fails: nothing is said to be done that could not be."""
    for name in ("web", "api"):
        host.banger("vm", "create", name, "--vcpu", "1", "--memory", "256M")
    start(host)
    with counting(host) as last:
        last(1)
        device(host, "slow")
        last(last() + 2)
        device(host, "broken")
        time.sleep(1)
        host.put(str(last()), "/run/said")
        with verb(host, "vm", "kill", "web"):
            pass
        with verb(host, "vm", "start", "web", fails=True), verb(host, "vm", "delete", "api", fails=True):
            pass


def mounted_again(host):
    """After a disk failed for good, and is back: what holds it has ended by itself, and its file system is whole."""
    host.wait("! dmsetup ls | grep -q fc-rootfs", 60)
    host.sh(f"sync -f {STATE}", check=False)  # what is in memory alone is lost
    host.sh(STOP, timeout=120)
    device(host, "fine")
    host.sh(f"umount {STATE}; mount /dev/mapper/faulty {STATE} && umount {STATE} && e2fsck -fn /dev/mapper/faulty && mount /dev/mapper/faulty {STATE}", timeout=300)
    host.sh(START)
    for name in ("web", "api"):
        agree(host, name, "stopped")


def goes(host):
    """What the guest said was on the disk is there. A start, a stop, kills and deletions end though the disk stands still."""
    start(host)
    there, said = host.guest("web", "cat /root/n"), host.sh("cat /run/said; rm /run/said").stdout
    assert int(there) >= int(said), (there, said)
    print(f"# {said} was said, {there.strip()} is there")
    with counting(host) as last, verb(host, "vm", "start", "api"):
        last(int(there) + 1)
        host.wait("[ $(dmsetup ls | grep -c fc-rootfs) = 2 ]", 90)
        device(host, "suspended")
        with verb(host, "vm", "stop", "web"), verb(host, "vm", "kill", "api"):
            time.sleep(2)
            with verb(host, "vm", "kill", "web"):
                pass
        device(host, "fine")
    for name in ("web", "api"):
        agree(host, name, "stopped")
    device(host, "suspended")
    with verb(host, "vm", "delete", "web"), verb(host, "vm", "delete", "api"):
        time.sleep(3)
        device(host, "fine")
    host.wait("[ \"$(banger vm list --json | tr -d ' \\n')\" = '[]' ]", 90, user="dev")
    host.wait(f"[ -z \"$(ls -d {STATE}/*/vms/* {STATE}/cow/*/* {STATE}/jail/*/* /run/banger/leases/* 2>/dev/null)\" ]", 90)


def device(host, how):
    """suspended, or as a table says. What is on its way then is lost in a broken one."""
    if how == "suspended":
        host.sh("dmsetup suspend --nolockfs --noflush faulty")
    else:
        host.sh(f"dmsetup suspend --nolockfs --noflush faulty; dmsetup load faulty /run/{how}; dmsetup resume faulty")
    print(f"# [{time.strftime('%H:%M:%S')}] the disk is {how}", flush=True)


@contextlib.contextmanager
def answering(host):
    """The manager answers all the while."""
    host.put(wire.program({"objects": ("user", wire.OBJECTS, "GetManagedObjects", None)}, ASK), "/home/dev/ask.py")
    with host.background("exec python3 /home/dev/ask.py", user="dev") as unit:
        host.wait("[ -e /home/dev/ask ]", 60)
        yield
        host.sh("rm /home/dev/ask")
        host.wait(f"! systemctl -q is-active {unit}", 60)
    answers = host.sh("cat /home/dev/answers; rm /home/dev/answers /home/dev/ask.py").stdout.split()
    assert answers and "none" not in answers, answers
    print(f"# {len(answers)} answers, the slowest after {max(map(int, answers))} ms")


@contextlib.contextmanager
def verb(host, *words, fails=False):
    """A verb of the owner's beside what follows; it has ended then."""
    said, since = f"/home/dev/said-{words[1]}-{words[-1]}", time.monotonic()
    with host.background(f"banger {' '.join(words)} </dev/null >{said} 2>&1; echo exit $? >>{said}", user="dev"):
        yield
        host.wait(f"grep -qs '^exit' {said}", VERB_SECONDS)
    text = " ".join(host.sh(f"cat {said}; rm {said}").stdout.split())
    print(f"# {' '.join(words)}: after {time.monotonic() - since:.0f} s: {text}", flush=True)
    assert not fails or "exit 0" not in text, (words, text)


def agree(host, name, state):
    """Record, lease, disk and processes of a VM say the same, soon."""
    vm, no = host.show(name)["id"], "" if state == "running" else "! "
    record, shown = (f"grep -q '\"{state}\"' {STATE}/*/vms/{vm}/record.json", f"banger vm show {name} --json | grep -q '\"{state}\"'")
    made = (f"test -e /run/banger/leases/{vm}.json", f"systemctl -q is-active banger-vm-{vm}.scope", f"dmsetup info fc-rootfs-{vm}",
            f"pgrep -f [-]-id.{vm}")  # not the shell that asks
    host.wait(" && ".join([record] + [f"{no}{thing} >/dev/null 2>&1" for thing in made]), 90)
    host.wait(shown, 90, user="dev")


@contextlib.contextmanager
def counting(host):
    """The guest counts up what it fsyncs. What is yielded waits for a number, and tells the last that was said."""
    said = "/home/dev/counted"

    def last(at_least=0):
        host.wait(f'[ "$(tail -n 1 {said})" -ge {at_least} ] 2>/dev/null', 120)
        return int(re.findall(r"^(\d+)$", host.sh(f"cat {said}").stdout, re.M)[-1])

    with host.background(f"exec banger vm exec web -- perl -e {shlex.quote(COUNT)} </dev/null >{said} 2>/dev/null", user="dev"):
        yield last
    host.sh(f"rm {said}")


def start(host):
    host.banger("vm", "start", "web", timeout=600)
    print(f"# [{time.strftime('%H:%M:%S')}] web runs", flush=True)
