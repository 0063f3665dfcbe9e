"""The two services and the buses they need, on a machine without systemd.

Used by scripts/dev-stack and by the tests (tests/bus/harness.py), with the standard library alone.
Never signals a process that it did not start itself: pid and start time are recorded.
"""

import contextlib
import errno
import fcntl
import json
import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import time
import tomllib

import terminal

SYSTEM_BUS_CONF = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  {user}
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
    <deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"
          send_member="UpdateActivationEnvironment"/>
  </policy>
  <policy user="root">
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
{includes}
</busconfig>
"""

SESSION_BUS_CONF = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    {users}
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""

BUS_POLICIES = ["/usr/share/dbus-1/system.d", "/usr/local/share/dbus-1/system.d", "/etc/dbus-1/system.d"]
POLKITD = ["/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd"]
SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ORDER = ["system-bus", "polkit", "helper", "session-bus", "manager"]


class StackError(Exception):
    """What went wrong and what to do, for a person."""


def process_start(pid):
    """Start time of @pid in clock ticks since boot; None if there is no such process, or only its corpse."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            fields = f.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def wait_for(what, seconds, check, pause=0.05):
    """The first true value of check(); StackError naming @what after @seconds."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise StackError(f"waited {seconds:g} s for {what}")
        time.sleep(pause)


def is_visible(path, mount_id):
    """Whether @path leads to that mount, and not to one that covers it."""
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as f:
            return f"mnt_id:\t{mount_id}\n" in f
    finally:
        os.close(fd)


def cgroup2_root():
    """Where cgroup2 is mounted, plain or beside version 1, and not covered; None if nowhere."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        lines = [line.split() for line in f if line.split(" - ", 1)[1].startswith("cgroup2 ")]
    return min((words[4] for words in lines if is_visible(words[4], words[0])), key=len, default=None)


def read_install(path):
    """The install metadata with banger's own defaults."""
    with open(path, "rb") as f:
        data = tomllib.load(f)
    paths = data.get("paths", {})
    network = data.get("network", {})
    return {
        "user": data["owner"]["user"],
        "uid": data["owner"]["uid"],
        "gid": data["owner"]["gid"],
        "home": data["owner"]["home"],
        "state": paths.get("state", "/var/lib/banger"),
        "runtime": paths.get("runtime", "/run/banger"),
        "bridge": network.get("bridge", "br-fc"),
        "address": network.get("address", "10.213.0.1/24"),
    }


@contextlib.contextmanager
def make_dir(path, mode, uid=0, gid=0, below=None):
    """A directory with this mode and owner; an existing one is corrected. A descriptor of it: what is in the owner's folders is
    made @below one, since names there are the owner's to change at any moment."""
    old = os.umask(0o777 & ~mode)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode, dir_fd=below)
    finally:
        os.umask(old)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=below)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
            raise StackError(f"{path} is not a directory: move it away") from error
        raise
    try:
        st = os.fstat(fd)
        if (st.st_uid, st.st_gid) != (uid, gid):
            os.fchown(fd, uid, gid)
        if stat.S_IMODE(st.st_mode) != mode:
            os.fchmod(fd, mode)
        yield fd
    finally:
        os.close(fd)


class Stack:
    """One private pair of buses with polkit, the helper and the manager on them."""

    def __init__(self, directory="/run/banger-stack", config="/etc/banger/install.toml", prefix="/usr/local",
                 polkit_dir=None, open_session=False, log_level=None):
        """@polkit_dir: holds actions/ and rules.d/ that polkitd sees instead of the host's.
        @open_session: lets every uid onto the session bus, so that the manager's own gate can be tested."""
        self.directory = directory
        self.config = config
        self.prefix = prefix
        self.polkit_dir = polkit_dir
        self.open_session = open_session
        self.log_level = log_level
        self.install = read_install(config)
        self.name = os.path.basename(directory)
        self.logs = f"{directory}/log"
        self.user_dir = f"{directory}/user"
        self.system_address = f"unix:path={directory}/system_bus_socket"
        self.session_address = f"unix:path={self.user_dir}/bus"
        self.bus_policies = None  # directories; None: where the host has them
        self.extra_policies = []  # files, for services that a test adds to the system bus
        self.children = {}  # name -> Popen of this process, to be reaped

    # What a program needs to meet the services

    def program(self, name):
        """Path of an installed program."""
        for folder in ("bin", "sbin", "libexec/banger", "libexec"):
            path = f"{self.prefix}/{folder}/{name}"
            if os.path.exists(path):
                return path
        raise StackError(f"{name} is not installed below {self.prefix}: run meson install first")

    def owner_environment(self):
        """The whole environment of the owner's programs."""
        env = {
            "HOME": self.install["home"],
            "USER": self.install["user"],
            "LOGNAME": self.install["user"],
            "SHELL": "/bin/sh",
            "PATH": f"{self.prefix}/bin:{SAFE_PATH}",
            "XDG_RUNTIME_DIR": self.user_dir,
            "DBUS_SYSTEM_BUS_ADDRESS": self.system_address,
            "DBUS_SESSION_BUS_ADDRESS": self.session_address,
            "BANGER_CONFIG": self.config,
        }
        for name in ("LANG", "TERM", "BANGER_GUEST", "BANGER_INTAKE", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                env[name] = os.environ[name]
        if self.log_level:
            env["BANGER_LOG_LEVEL"] = self.log_level
        return env

    def root_environment(self):
        """The whole environment of the helper and of polkitd."""
        env = {"PATH": SAFE_PATH, "DBUS_SYSTEM_BUS_ADDRESS": self.system_address}
        for name in ("LANG", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                env[name] = os.environ[name]
        if self.log_level:
            env["BANGER_LOG_LEVEL"] = self.log_level
        return env

    def as_owner(self):
        """Arguments of subprocess calls that turn the child into the owner."""
        install = self.install
        return {"user": install["uid"], "group": install["gid"],
                "extra_groups": os.getgrouplist(install["user"], install["gid"])}

    # Processes on record

    def _record_path(self, name):
        return f"{self.directory}/{name}.pid"

    def pid(self, name):
        """The live process recorded as @name; None if it is gone."""
        try:
            with open(self._record_path(name), encoding="ascii") as f:
                record = json.load(f)
        except (FileNotFoundError, ValueError):
            return None
        return record["pid"] if process_start(record["pid"]) == record["start"] else None

    def _record(self, name, pid):
        start = process_start(pid)
        if start is None:
            raise StackError(f"{name} ended at once:\n{self.log_tail(name)}")
        path = self._record_path(name)
        with open(path + ".new", "w", encoding="ascii") as f:
            json.dump({"pid": pid, "start": start}, f)
        os.rename(path + ".new", path)

    def log_path(self, name):
        """Where @name's standard output and error go."""
        return f"{self.logs}/{name}.log"

    def log_tail(self, name, lines=20):
        """The end of @name's log, for messages."""
        try:
            with open(self.log_path(name), encoding="utf-8", errors="replace") as f:
                return "".join(f.readlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _start(self, name, argv, env, **kwargs):
        with open(self.log_path(name), "ab") as log:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd="/",
                                     start_new_session=True, **kwargs)
        self.children[name] = child
        self._record(name, child.pid)
        return child.pid

    def kill(self, name, number=signal.SIGKILL, seconds=60):
        """Signals @name's process and waits for its end. True if it had been alive."""
        pid = self.pid(name)
        if pid is None:
            self._reap(name)
            return False
        fd = os.pidfd_open(pid)
        try:
            if self.pid(name) != pid:
                return False
            signal.pidfd_send_signal(fd, number)
            # All its threads: what they share, the name on the bus too, goes with the last, after the first is a zombie.
            wait_for(f"{name} (pid {pid}) to end", seconds, lambda: select.select([fd], [], [], 0)[0] and self._gone(name))
        finally:
            os.close(fd)
        return True

    def _gone(self, name):
        self._reap(name)
        return self.pid(name) is None

    def _reap(self, name):
        child = self.children.get(name)
        if child and child.poll() is not None:
            del self.children[name]

    def stop(self, name, seconds=30):
        """SIGTERM, then SIGKILL."""
        try:
            self.kill(name, signal.SIGTERM, seconds)
        except StackError:
            self.kill(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._record_path(name))

    # Buses

    def name_owner(self, address, name):
        """The unique name that holds @name; None if none does."""
        result = subprocess.run(
            ["busctl", f"--address={address}", "call", "--timeout=5", "org.freedesktop.DBus", "/org/freedesktop/DBus",
             "org.freedesktop.DBus", "GetNameOwner", "s", name],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False, **self._bus_identity(address))
        return result.stdout.split('"')[1] if result.returncode == 0 else None

    def _bus_identity(self, address):
        return self.as_owner() if address == self.session_address and os.getuid() == 0 else {}

    def _wait_for_name(self, name, process, address, seconds=60):
        def check():
            if self._gone(process):
                raise StackError(f"{process} ended before it held {name}:\n{self.log_tail(process)}")
            return self.name_owner(address, name)
        wait_for(f"{name} on the bus (log: {self.log_path(process)})", seconds, check)

    def _start_bus(self, name, conf_text, **kwargs):
        conf = f"{self.directory}/{name}.conf"
        with open(conf, "w", encoding="utf-8") as f:
            f.write(conf_text)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket(name))
        read_fd, write_fd = os.pipe()
        try:
            self._start(name, ["dbus-daemon", f"--config-file={conf}", "--nofork", "--nopidfile", "--nosyslog",
                               f"--print-address={write_fd}"], {"PATH": SAFE_PATH}, pass_fds=(write_fd,), **kwargs)
            os.close(write_fd)
            write_fd = -1
            if not os.read(read_fd, 1):
                raise StackError(f"{name} did not come up:\n{self.log_tail(name)}")
        finally:
            os.close(read_fd)
            if write_fd >= 0:
                os.close(write_fd)

    def socket(self, bus):
        """Path of a bus's socket."""
        return self.system_address[10:] if bus == "system-bus" else self.session_address[10:]

    def start_system_bus(self):
        """dbus-daemon with polkit's and the helper's policy and nothing else."""
        folders = self.bus_policies or BUS_POLICIES
        wanted = [("org.freedesktop.PolicyKit1.conf", BUS_POLICIES), ("org.banger.Privileged.conf", folders)]
        includes = []
        for file, places in wanted:
            found = [f"{d}/{file}" for d in places if os.path.exists(f"{d}/{file}")]
            if not found:
                raise StackError(f"no {file} in {' '.join(places)}: install it first")
            includes.append(f"  <include>{found[0]}</include>")
        includes += [f"  <include>{path}</include>" for path in self.extra_policies]
        user = ""
        with contextlib.suppress(KeyError):
            user = f"<user>{pwd.getpwnam('messagebus').pw_name}</user>"
        self._start_bus("system-bus", SYSTEM_BUS_CONF.format(
            user=user, socket=self.socket("system-bus"), includes="\n".join(includes)))

    def start_session_bus(self):
        """dbus-daemon as the owner."""
        self._start_bus("session-bus", SESSION_BUS_CONF.format(
            socket=self.socket("session-bus"), users='<allow user="*"/>' if self.open_session else ""),
            **self.as_owner())

    # polkit

    def start_polkit(self):
        """The real polkitd; with @polkit_dir in a mount namespace where it sees only those actions and rules."""
        daemon = next((p for p in POLKITD if os.path.exists(p)), None)
        if not daemon:
            raise StackError("polkitd is not installed: apt-get install polkitd")
        argv = [daemon, "--no-debug"]
        if self.polkit_dir:
            script = ("set -e; mount --bind \"$1/actions\" /usr/share/polkit-1/actions;"
                      "mount --bind \"$1/rules.d\" /etc/polkit-1/rules.d;"
                      "mount --bind \"$1/empty\" /usr/share/polkit-1/rules.d; shift; exec \"$@\"")
            argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "polkit", self.polkit_dir,
                    *argv]
        self._start("polkit", argv, self.root_environment())
        self._wait_for_name("org.freedesktop.PolicyKit1", "polkit", self.system_address)

    # The services

    def cgroup(self):
        """The helper's own cgroup; None where there is no cgroup2."""
        root = cgroup2_root()
        return f"{root}/{self.name}" if root else None

    def start_helper(self, env=None, wrapper=(), config=None, **kwargs):
        """bangerd-root as root, in its own cgroup. @wrapper: a command that executes it."""
        argv = [*wrapper, self.program("bangerd-root"), "--config", config or self.config]
        cgroup = self.cgroup()
        if cgroup:
            os.makedirs(cgroup, exist_ok=True)
            argv = ["sh", "-c", 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"', "helper", cgroup, *argv]
        self._start("helper", argv, self.root_environment() | (env or {}), **kwargs)
        self._wait_for_name("org.banger.Privileged", "helper", self.system_address)

    def start_manager(self, env=None, wait=True):
        """bangerd as the owner, outside the helper's cgroup."""
        self._start("manager", [self.program("bangerd")], self.owner_environment() | (env or {}), **self.as_owner())
        if wait:
            self._wait_for_name("org.banger.Manager", "manager", self.session_address)

    def prepare(self):
        """Directories with their owners and modes."""
        install = self.install
        uid, gid = install["uid"], install["gid"]
        with make_dir(self.directory, 0o755), make_dir(self.logs, 0o755):
            pass
        with make_dir(self.user_dir, 0o755 if self.open_session else 0o700, uid, gid):
            pass
        with make_dir(install["state"], 0o755) as state, make_dir(str(uid), 0o700, uid, gid, below=state) as own:
            for folder in ("vms", "images", "kernels"):
                with make_dir(folder, 0o700, uid, gid, below=own):
                    pass

    def up(self):
        """Starts what is not running. Returns the names of what it started."""
        if os.getuid() != 0:
            raise StackError("needs root: the helper and the system bus run as root (the manager as "
                             f"{self.install['user']})")
        self.prepare()
        started = []
        with self.locked():
            if self.pid("system-bus") is None:  # whatever was connected to the old one is deaf
                for name in ("manager", "helper", "polkit"):
                    self.stop(name)
            elif self.pid("session-bus") is None:
                self.stop("manager")
            for name in ORDER:
                if self.pid(name) is None:
                    getattr(self, "start_" + name.replace("-", "_"))()
                    started.append(name)
        return started

    def restart(self):
        """Starts what does not run and starts both services anew, as after an installation; VMs go on."""
        started = self.up()
        with self.locked():
            for name in ("helper", "manager"):
                if name not in started:
                    self.stop(name)
                    getattr(self, "start_" + name)()
                    started.append(name)
        return started

    @contextlib.contextmanager
    def locked(self):
        """One up or down at a time."""
        with open(f"{self.directory}/lock", "w", encoding="ascii") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    def running(self):
        """name -> pid of each process, None for those that do not run."""
        return {name: self.pid(name) for name in ORDER}

    def call_helper(self, method, *args):
        """One call to the helper with the owner's rights. False if it failed; the helper's log says why."""
        return subprocess.run(
            ["busctl", f"--address={self.system_address}", "--timeout=30", "call", "org.banger.Privileged",
             "/org/banger/Privileged", "org.banger.Privileged", method, *args],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, **self.as_owner()).returncode == 0

    def leases(self):
        """VM ids that the helper holds something for."""
        try:
            names = os.listdir(f"{self.install['runtime']}/leases")
        except FileNotFoundError:
            return []
        return [n.removesuffix(".json") for n in names if n.endswith(".json")]

    def _stop_vms(self):
        """Guests are asked to end first; what is left is taken away by the helper."""
        if self.pid("manager"):
            listed = subprocess.run([self.program("banger"), "ps", "--json"], env=self.owner_environment(), cwd="/",
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, timeout=30,
                                    **self.as_owner())
            with contextlib.suppress(ValueError):
                for vm in json.loads(listed.stdout or b"[]"):
                    subprocess.run([self.program("banger"), "vm", "stop", vm["name"]], env=self.owner_environment(),
                                   cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, check=False, timeout=60, **self.as_owner())
        self.stop("manager")
        if self.pid("helper"):
            for vm in self.leases():
                self.call_helper("ReleaseVm", "sa{sv}", vm, "0")
            if os.path.exists(f"/sys/class/net/{self.install['bridge']}"):
                self.call_helper("RemoveBridge", "sa{sv}", self.install["bridge"], "0")

    def down(self):
        """Stops everything and leaves nothing but the state directory. Returns what could not be removed."""
        if not os.path.isdir(self.directory):
            return []
        with self.locked():
            with contextlib.suppress(StackError, subprocess.TimeoutExpired):
                self._stop_vms()
            for name in reversed(ORDER):
                self.stop(name)
            left = self._empty_cgroup()
            runtime = self.install["runtime"]
            for path in (f"{runtime}/leases", f"{runtime}/{self.install['uid']}", runtime):
                try:
                    os.rmdir(path)
                except FileNotFoundError:
                    pass
                except OSError:
                    left.append(path)
            if os.path.exists(f"/sys/class/net/{self.install['bridge']}"):
                left.append(f"bridge {self.install['bridge']}")
            shutil.rmtree(self.directory)
        return left

    def _empty_cgroup(self):
        cgroup = self.cgroup()
        if not cgroup or not os.path.isdir(cgroup):
            return []
        with contextlib.suppress(OSError), open(f"{cgroup}/cgroup.kill", "w", encoding="ascii") as f:
            f.write("1")
        left = []
        for path, _, _ in os.walk(cgroup, topdown=False):
            try:
                wait_for(f"{path} to be empty", 60, lambda path=path: self._rmdir(path))
            except StackError:
                left.append(path)
        return left

    @staticmethod
    def _rmdir(path):
        try:
            os.rmdir(path)
        except OSError:
            return False
        return True

    def _become_owner(self):
        if os.getuid() == 0:
            os.setgroups(os.getgrouplist(self.install["user"], self.install["gid"]))
            os.setgid(self.install["gid"])
            os.setuid(self.install["uid"])
        try:
            os.listdir(".")
        except OSError:
            os.chdir(self.install["home"] if os.path.isdir(self.install["home"]) else "/")

    def run_as_owner(self, argv):
        """Runs @argv with the owner's rights and environment, and a terminal of its own where root has one. Its exit status."""
        if os.getuid() not in (0, self.install["uid"]):
            raise StackError(f"only root and {self.install['user']} can run commands in this stack")
        env = self.owner_environment()
        os.environ["PATH"] = env["PATH"]
        return terminal.run(argv, env, self._become_owner)
