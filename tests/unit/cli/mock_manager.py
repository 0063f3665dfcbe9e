#!/usr/bin/python3
"""A stand-in for bangerd that serves introspection/*.xml as they are.

Run by case.py on a private bus. GDBus holds every call and every answer against the XML: a call with a
wrong signature never gets here. Never says more than the contract allows. Usage: mock_manager.py XML_DIR STATE_DIR

What happens is chosen by the VM's name: fail-*: its start fails and it is gone; broken-*: its start fails and it is
kept; going-*: and it is being deleted; nasty-*: a guest has written the texts of its jobs; slow-*: the job runs until it is cancelled; late-*: so does it, and the answer takes its time; lost-*: the manager
ends in the middle. Every call of the manager is a
line of JSON in STATE_DIR/calls. Where STATE_DIR/agent is, Exec runs the command here; else its guests are too old for it. STATE_DIR/guest is what
runs as their /run/banger/guest.
"""
import fcntl
import json
import os
import pathlib
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import traceback
import urllib.parse

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME = "org.banger.Manager"
ROOT = "/org/banger/Manager"
OBJECT_MANAGER = """<node><interface name="org.freedesktop.DBus.ObjectManager">
<method name="GetManagedObjects"><arg type="a{oa{sa{sv}}}" direction="out"/></method>
<signal name="InterfacesRemoved"><arg type="o"/><arg type="as"/></signal></interface></node>"""
OPTIONS = {
    "WarmImage": {"kernel": "s", "vcpu": "u", "memory-mib": "u", "disk-bytes": "t", "wait": "b"},
    "CreateVM": {"image": "s", "kernel": "s", "init": "s", "publish": "as", "no-publish": "b", "setup": "s", "link": "as", "allow-host": "as", "vcpu": "u", "memory-mib": "u", "disk-bytes": "t", "nat": "b",
                 "start": "b", "ephemeral": "b", "follow": "b"},
    "SetVM": {"name": "s", "vcpu": "u", "memory-mib": "u", "disk-bytes": "t", "nat": "b", "link": "as", "unlink": "as", "allow-host": "as",
              "deny-host": "as", "setup": "s"},
    "KillVM": {"signal": "s"},
    "DeleteVM": {"force": "b", "starts": "t"},
    "ListStats": {"guest": "b", "vms": "as"},
    "PruneImageCache": {"dry-run": "b"},
    "BuildImage": {"containerfile": "ay", "context": "ay", "suite": "s", "mirror": "s", "packages": "as", "size-bytes": "t"},
    "ImportImage": {"size-bytes": "t", "fd": "h", "path-bytes": "ay", "link": "b"},
    "ImportKernel": {"modules": ("s", "ay"), "source-bytes": "ay"},
    "ExportImage": {"fd": "h", "format": "s"},
    "CommitImage": {},
    "ImportWorkspace": {"path-bytes": "ay", "tracked-only": "b", "branch": "s", "from": "s", "depth": "u", "no-git": "b"},
    "CheckWorkspace": {"path-bytes": "ay", "tracked-only": "b", "branch": "s", "from": "s", "depth": "u", "no-git": "b", "list": "h"},
    "Exec": {"coded": "b", "environment": "as", "cwd": ("s", "ay"), "user": "s", "image-settings": "b", "terminal": "b", "rows": "u", "columns": "u", "stdin": "b"},
}
BROKEN = 70  # our exit status where it is we who are wrong
NASTY = "evil \x1b[2J\x9b31m\u202e \U000e0001end"  # words of a guest


class Refusal(Exception):
    def __init__(self, name, message):
        super().__init__(message)
        self.name = name


def interface(xml_dir, name):
    with open(os.path.join(xml_dir, name + ".xml"), encoding="utf-8") as file:
        return Gio.DBusNodeInfo.new_for_xml(file.read()).lookup_interface(name)


class Mock:
    def __init__(self, connection, xml_dir, state_dir):
        self.connection = connection
        self.state_dir = state_dir
        self.calls = open(os.path.join(state_dir, "calls"), "a", encoding="utf-8")
        self.serial = 0
        self.processes = {}
        self.objects = {}  # path -> [interface, properties, registration, what a cancelled job undoes]
        self.interfaces = {n: interface(xml_dir, "org.banger." + n) for n in ("Manager", "VM", "Image", "Kernel", "Job", "Process")}
        self.manager = {"Version": GLib.Variant("s", "0.1.0-mock"), "Features": GLib.Variant("as", []),
                        "HelperAvailable": GLib.Variant("b", True),
                        "Config": GLib.Variant("a(sss)", [("vm_defaults.vcpu", "4", "line 3"), ("vm_defaults.nat", "true", "default")])}
        connection.register_object(ROOT, self.interfaces["Manager"], self.on_call,
                                   lambda *a: self.manager[a[4]], None)
        node = Gio.DBusNodeInfo.new_for_xml(OBJECT_MANAGER)
        connection.register_object(ROOT, node.interfaces[0], self.on_objects, None, None)
        self.add_image("default")
        self.add_kernel("default")

    # objects

    def new_id(self):
        self.serial += 1
        return f"{self.serial:012x}"

    def add(self, kind, path, properties, cancel=None):
        registration = self.connection.register_object(
            path, self.interfaces[kind], self.on_call, lambda *a: self.objects[path][1][a[4]], None)
        self.objects[path] = [kind, properties, registration, cancel]

    def remove(self, path):
        kind, _, registration, _ = self.objects.pop(path)
        self.connection.unregister_object(registration)
        self.connection.emit_signal(None, ROOT, "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved",
                                    GLib.Variant("(oas)", (path, ["org.banger." + kind])))

    def change(self, path, **values):
        kind, properties = self.objects[path][:2]
        changed = {}
        for key, value in values.items():
            signature = self.interfaces[kind].lookup_property(key).signature
            changed[key] = properties[key] = GLib.Variant(signature, value)
        self.connection.emit_signal(None, path, "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                    GLib.Variant("(sa{sv}as)", ("org.banger." + kind, changed, [])))

    def typed(self, kind, values):
        names = {p.name: p.signature for p in self.interfaces[kind].properties}
        assert set(names) == set(values), set(names) ^ set(values)
        return {name: GLib.Variant(names[name], value) for name, value in values.items()}

    def add_image(self, name):
        path = f"{ROOT}/image/{self.new_id()}"
        self.add("Image", path, self.typed("Image", {
            "Id": path.split("/")[-1], "Name": name, "State": "ready", "SizeBytes": 4 << 30, "UsedBytes": 1288490189,
            "SshServer": "missing" if name == "odd" else "found", "Source": "debian:bookworm", "Digest": "sha256:00", "CreatedAt": 1700000000000000,
            "Env": ["PATH=/bin", "A=b c"] if name == "odd" else [], "WorkingDir": "/srv" if name == "odd" else "", "User": "",
            "Entrypoint": [], "Cmd": ["sh", "-c", "it's", ""] if name == "odd" else [], "ExposedPorts": [], "Labels": [], "Tags": [],
            "Templates": [("0123456789ab", 2, 1024, 8 << 30, 140 << 20, 1700000000000000, 1700000060000000)] if name == "odd" else []}))
        return path

    def add_kernel(self, name, source="apt:linux-image-cloud-amd64"):
        path = f"{ROOT}/kernel/{self.new_id()}"
        self.add("Kernel", path, self.typed("Kernel", {
            "Id": path.split("/")[-1], "Name": name, "State": "ready", "Version": "6.1.0-1-cloud-amd64",
            "Source": source, "Digest": "", "CreatedAt": 1700000000000000}))
        return path

    def add_vm(self, name, options):
        vm_id = self.new_id()
        path = f"{ROOT}/vm/{vm_id}"
        console = os.path.join(self.state_dir, f"console-{name}")
        with open(console, "w", encoding="utf-8") as file:
            file.write("first line\n")
        self.add("VM", path, self.typed("VM", {
            "Id": vm_id, "Name": name, "State": "stopped", "StateReason": "", "Image": options.get("image", "default"),
            "ImageId": "", "Kernel": "default", "KernelId": "", "VCPUs": options.get("vcpu", 2),
            "MemoryMiB": options.get("memory-mib", 1024), "DiskBytes": options.get("disk-bytes", 8 << 30),
            "Nat": options.get("nat", True), "Address": "10.213.0.5", "MacAddress": "06:00:00:00:00:01",
            "CreatedAt": 1700000000000000, "StartedAt": 0, "Starts": 0, "Pid": 0, "BootId": "", "Init": options.get("init", ""), "SshServer": "missing" if options.get("image") == "bare" else "", "LoginUser": "banger-exec", "Forwards": options.get("publish", []), "Links": options.get("link", []), "HostPorts": options.get("allow-host", []), "Workspace": options.get("workspace", ""), "WorkspaceFolder": options.get("workspace-folder", ""), "WorkspaceHead": "", "WorkspaceOptions": [], "Setup": "done" if options.get("setup") else "",
            "ImageCommand": ["sh", "-c", "echo of the image: $0 $A", "it's"] if options.get("image") == "odd" else [],
            "IdentityFile": self.state_dir + "/key", "KnownHostsFile": self.state_dir + "/known hosts",
            "HostKeyAlias": "banger-" + vm_id, "ConsoleLog": console}))
        return path

    def find(self, kind, name):
        for path, (own, properties, _, _) in self.objects.items():
            if own == kind and name in (properties["Name"].unpack(), properties["Id"].unpack()):
                return path
        raise Refusal(f"org.banger.Error.NoSuch{kind}", f"there is no {kind} \"{name}\" (op-00000001)")

    # jobs

    def new_job(self, kind, target, stages, end, cancel=None):
        """Goes through @stages, one each 30 ms, then calls @end, which returns ("done"|..., error, message)."""
        job_id = f"{self.new_id()}"[-8:]
        path = f"{ROOT}/job/{job_id}"
        self.add("Job", path, self.typed("Job", {
            "Id": job_id, "Kind": kind, "State": "running", "Stage": "", "Progress": -1.0, "StartedAt": 1700000000000000,
            "OpId": "op-" + job_id, "Object": target, "Error": "", "ErrorMessage": "", "Cancelable": True, "Warnings": []}), cancel)
        self.signal("JobNew", "(o)", (path,))
        steps = list(stages)

        def step():
            if path not in self.objects or self.objects[path][1]["State"].unpack() != "running":
                return False
            if steps:
                stage, progress = steps.pop(0)
                self.change(path, Stage=stage, Progress=progress)
                return True
            if end is None:
                return False
            self.finish(path, *end())
            return False

        GLib.timeout_add(30, step)
        return path

    def finish(self, path, result, error="", message=""):
        progress = {"Progress": 1.0} if result == "done" else {}
        self.change(path, State=result, Error=error, ErrorMessage=message, **progress)
        self.signal("JobRemoved", "(osss)", (path, result, error, message))

    def signal(self, name, signature, values):
        info = self.interfaces["Manager"].lookup_signal(name)
        assert "(" + "".join(a.signature for a in info.args) + ")" == signature
        self.connection.emit_signal(None, ROOT, NAME, name, GLib.Variant(signature, values))

    # calls

    def on_objects(self, connection, sender, path, interface_name, method, parameters, invocation):
        tree = {p: {"org.banger." + row[0]: row[1]} for p, row in self.objects.items()}
        invocation.return_value(GLib.Variant("(a{oa{sa{sv}}})", (tree,)))

    def on_call(self, connection, sender, path, interface_name, method, parameters, invocation):
        arguments = parameters.unpack()
        print(json.dumps({"method": method, "path": path, "arguments": arguments}), file=self.calls, flush=True)
        try:
            options = arguments[-1] if arguments and isinstance(arguments[-1], dict) else {}
            self.check_options(method, parameters)
            if os.path.exists(os.path.join(self.state_dir, "hold-" + method)):
                time.sleep(1)
            handler = getattr(self, "do_" + method)
            invocation_data = (path, invocation)
            reply = handler(invocation_data, options, *[a for a in arguments if not isinstance(a, dict)])
            if reply is not None:
                out = invocation.get_method_info().out_args
                invocation.return_value(GLib.Variant("(" + "".join(a.signature for a in out) + ")", reply))
        except Refusal as refusal:
            invocation.return_dbus_error(refusal.name, str(refusal))

    @staticmethod
    def check_options(method, parameters):
        if parameters.n_children() == 0 or parameters.get_type_string()[-6:-1] != "a{sv}":
            return
        options = parameters.get_child_value(parameters.n_children() - 1)
        for i in range(options.n_children()):
            key = options.get_child_value(i).get_child_value(0).get_string()
            signature = options.get_child_value(i).get_child_value(1).get_variant().get_type_string()
            wanted = OPTIONS.get(method, {}).get(key, ())
            if signature not in ((wanted,) if isinstance(wanted, str) else wanted):
                raise Refusal("org.freedesktop.DBus.Error.InvalidArgs", f"option {key} of type {signature} of {method}")

    def running(self, path, value):
        for process in list(self.processes) if not value else ():
            self.kill_process(process)
        if path in self.objects:
            reason = os.path.join(self.state_dir, "reason-" + self.objects[path][1]["Name"].unpack())
            text = "" if value or not os.path.exists(reason) else open(reason, encoding="utf-8").read()
            self.change(path, State="running" if value else "stopped", StateReason=text, Pid=4711 if value else 0)
        return ("done",)

    def failing_start(self, path, name):
        if name.startswith("fail-"):
            self.remove(path)
        if name.startswith("going-"):
            self.change(path, State="deleting")
        return ("failed", "org.banger.Error.EngineFailed", "cannot find a CPU (op-0badcafe)")

    def nasty_start(self, path):
        self.change(path, State="stopped", StateReason=NASTY)
        return ("failed", "org.banger.Error.EngineFailed", f"console: {NASTY}")

    def do_CreateVM(self, where, options, name):
        for path, row in self.objects.items():
            if row[0] == "VM" and row[1]["Name"].unpack() == name:
                raise Refusal("org.banger.Error.VMExists", f"there is a VM \"{name}\" already (op-00000002)")
        path = self.add_vm(name, options)
        stages = [("copying root disk", 0.5), ("booting", -1.0)]
        if not options.get("start"):
            return (self.new_job("create-vm", path, stages[:1], lambda: ("done",)),)
        if name.startswith(("fail-", "broken-", "going-")):
            return (self.new_job("create-vm", path, stages, lambda: self.failing_start(path, name)),)
        if name.startswith("nasty-"):
            return (self.new_job("create-vm", path, [(NASTY, -1.0)], lambda: self.nasty_start(path)),)
        if name.startswith("lost-"):
            return (self.new_job("create-vm", path, stages, lambda: os._exit(1)),)
        if name.startswith("late-"):
            job = self.new_job("create-vm", path, stages, None, lambda: self.remove(path))
            GLib.timeout_add(1000, lambda: where[1].return_value(GLib.Variant("(o)", (job,))))
            return None
        if name.startswith("slow-"):
            return (self.new_job("create-vm", path, stages, None, lambda: self.remove(path)),)
        if name.startswith("eager-"):  # its first stage is announced before the answer to the call is sent
            job = self.new_job("create-vm", path, stages, lambda: self.running(path, True))
            self.change(job, Stage="making keys")
            return (job,)
        if name.startswith("eagerfail-"):
            job = self.new_job("create-vm", path, stages, lambda: self.failing_start(path, name))
            self.change(job, Stage="making keys")
            return (job,)
        if name.startswith("hasty-"):  # its job ends before the answer to the call is sent
            job = self.new_job("create-vm", path, [], lambda: ("done",))
            self.running(path, True)
            self.finish(job, "done")
            return (job,)
        return (self.new_job("create-vm", path, stages, lambda: self.running(path, True)),)

    def do_StartVM(self, where, options, name):
        path = self.find("VM", name)
        if self.objects[path][1]["State"].unpack() == "running":
            raise Refusal("org.banger.Error.WrongState", f"{name} is running (op-00000003)")
        self.change(path, Starts=self.objects[path][1]["Starts"].unpack() + 1)
        return (self.new_job("start-vm", path, [("booting", -1.0)], lambda: self.running(path, True)),)

    def do_StopVM(self, where, options, name):
        path = self.find("VM", name)
        job = self.new_job("stop-vm", path, [("stopping", -1.0)], lambda: self.running(path, False))
        if name.startswith("nasty-"):
            GLib.timeout_add(20, lambda: self.change(job, Warnings=[NASTY]))
        return (job,)

    def do_KillVM(self, where, options, name):
        if options.get("signal", "KILL") == "KILL":
            return self.do_StopVM(where, options, name)
        if options["signal"] != "TERM":
            raise Refusal("org.banger.Error.InvalidSignal", f"signal '{options['signal']}' is not allowed (op-00000008)")
        return (self.new_job("kill-vm", self.find("VM", name), [], lambda: ("done",)),)

    def do_RestartVM(self, where, options, name):
        path = self.find("VM", name)
        return (self.new_job("restart-vm", path, [("booting", -1.0)], lambda: self.running(path, True)),)

    def do_PauseVM(self, where, options, name):
        path = self.find("VM", name)

        def end():
            self.change(path, State="paused")
            return ("done",)

        return (self.new_job("pause-vm", path, [("pausing", -1.0)], end),)

    def do_SuspendVM(self, where, options, name):
        path = self.find("VM", name)

        def end():
            self.change(path, State="suspended")
            return ("done",)

        return (self.new_job("suspend-vm", path, [("saving memory", -1.0)], end),)

    def do_ResumeVM(self, where, options, name):
        path = self.find("VM", name)
        if self.objects[path][1]["State"].unpack() != "paused":
            raise Refusal("org.banger.Error.WrongState", f"{name} is running (op-00000007)")
        return (self.new_job("resume-vm", path, [("resuming", -1.0)], lambda: self.running(path, True)),)

    def do_SetVM(self, where, options, name):
        path = self.find("VM", name)
        words = {"name": "Name", "vcpu": "VCPUs", "memory-mib": "MemoryMiB", "disk-bytes": "DiskBytes", "nat": "Nat"}

        def end():
            self.change(path, **{words[key]: value for key, value in options.items() if key in words})
            return ("done",)

        return (self.new_job("set-vm", path, [], end),)

    def do_DeleteVM(self, where, options, name):
        path = self.find("VM", name)
        if self.objects[path][1]["State"].unpack() == "running" and not options.get("force"):
            raise Refusal("org.banger.Error.WrongState", f"{name} is running; stop it first (op-00000004)")
        if self.objects[path][1]["State"].unpack() == "deleting":
            raise Refusal("org.banger.Error.WrongState", f"{name} is being deleted: wait for it (op-00000008)")
        if options.get("starts", 0) != self.objects[path][1]["Starts"].unpack() and "starts" in options:
            raise Refusal("org.banger.Error.WrongState", f"{name} was started since (op-00000008)")

        def end():
            for process in list(self.processes):
                self.kill_process(process)
            self.remove(path)
            return ("done",)

        if pathlib.Path(self.state_dir, "lingering").exists():  # recorded, and not gone
            return (self.new_job("delete-vm", path, [("deleting", -1.0), ("cleaning up", -1.0)], None),)
        return (self.new_job("delete-vm", path, [("deleting", -1.0)], end),)

    def do_ImportWorkspace(self, where, options, name, source):
        path = self.find("VM", name)
        agent = pathlib.Path(self.state_dir, "agent")
        if agent.exists() and agent.read_text():  # where the guest's copy is on this machine
            self.change(path, Workspace=source or os.fsdecode(bytes(options["path-bytes"])), WorkspaceFolder=agent.read_text(),
                        WorkspaceHead=pathlib.Path(self.state_dir, "head").read_text() if pathlib.Path(self.state_dir, "head").exists() else "",
                        WorkspaceOptions=[key if value is True else f"{key}={value}" for key, value in options.items() if key in ("no-git", "tracked-only", "depth")])
        job = self.new_job("import-workspace", path, [("copying files", 0.3)], lambda: ("done",))
        if "borrower" in source:
            GLib.timeout_add(20, lambda: self.change(job, Warnings=["the history of it stays behind: a reason"]))
        return (job,)

    def do_CheckWorkspace(self, where, options, path):
        path = os.fsdecode(bytes(options["path-bytes"])) if not path else path
        if "unusable" in path:
            raise Refusal("org.banger.Error.InvalidPath", f"git cannot use '{path}': bad config (op-00000005)")
        top = os.path.realpath(path)
        while not os.path.exists(top + "/.git"):
            if top == "/":
                raise Refusal("org.banger.Error.InvalidPath", f"path '{path}' is not in a git work tree: name one, or run `git init` there (op-00000006)")
            top = os.path.dirname(top)
        below = os.path.relpath(os.path.realpath(path), top)
        folder = os.path.normpath(f"/root/{os.path.basename(top)}/{below}")
        notes = ["the history of it stays behind: a reason"] if "borrower" in path else []
        if "list" in options:
            fd = where[1].get_message().get_unix_fd_list().get(options["list"])
            os.write(fd, subprocess.run(["git", "-C", top, "ls-files", "-z", "-co"], check=True, capture_output=True).stdout)
            os.close(fd)
        return (os.fsencode(folder), notes)

    def do_ListPortsVM(self, where, options, name):
        state = self.objects[self.find("VM", name)][1]["State"].unpack()
        if state != "running":
            raise Refusal("org.banger.Error.WrongState", f"{name} is {state}: commands need one that runs (op-00000009)")
        return ([("tcp", "0.0.0.0", 22, 1, "sshd"), ("tcp", "::", 8080, 2, "\\x1b[2Jnode"), ("tcp", "127.0.0.1", 80, 3, "nginx"),
                 ("udp", "0.0.0.0", 68, 0, "")],)

    def do_ListStats(self, where, options):
        return ({name: self.stats(name, options.get("guest", True)) for name in options["vms"]},)

    def stats(self, name, guest):
        """Half a processor, and what a guest says: nothing if it is called so."""
        state = self.objects[self.find("VM", name)][1]["State"].unpack()
        at = time.monotonic_ns() // 1000
        stats = {"state": ("s", state), "work-bytes": ("t", 5 << 20)}
        if state in ("running", "paused"):
            stats.update({"uptime-us": ("t", 3725 * 10 ** 6), "cpu-us": ("t", at // 2), "cpu-at-us": ("t", at), "memory-bytes": ("t", 300 << 20),
                          "received-bytes": ("t", 2048), "sent-bytes": ("t", 0)})
        if guest and state == "running" and name != "silent":
            stats.update({"guest-total-bytes": ("t", 1 << 30), "guest-available-bytes": ("t", 1 << 29), "guest-load": ("d", 0.5), "guest-load-5": ("d", 0.25), "guest-load-15": ("d", 0.0)})
        return {key: GLib.Variant(*value) for key, value in stats.items()}

    def do_GetVM(self, where, options, name):
        return (self.find("VM", name),)

    def do_GetImage(self, where, options, name):
        return (self.find("Image", name),)

    def do_GetKernel(self, where, options, name):
        return (self.find("Kernel", name),)

    def do_BuildImage(self, where, options, name):
        stages = [("fetching packages", i / 10) for i in range(11)]
        return (self.new_job("build-image", self.add_image(name), stages, lambda: ("done",)),)

    def do_ImportImage(self, where, options, name, source):
        if "fd" in options:
            descriptors = where[1].get_message().get_unix_fd_list()
            with os.fdopen(descriptors.get(options["fd"]), "rb") as file:
                with open(os.path.join(self.state_dir, "imported"), "wb") as copy:
                    copy.write(file.read())
        job = self.new_job("import-image", self.add_image(name), [("writing", 1.0)],
                           lambda: ("failed", "org.banger.Error.InUse", "open for writing") if name == "held" else ("done",))
        if name == "odd":
            GLib.timeout_add(20, lambda: self.change(job, Warnings=["no ssh server inside", "its / has mode 0700"]))
        return (job,)

    def do_ListAvailableImages(self, where, options):
        return ([("trixie", "mmdebstrap", "debian:trixie", "Debian 13", 0, "/c", "installed", "default"),
                 ("box", "registry", "docker://box", "\x1b[2J", 30 << 20, "cat", "unsigned", "")], ["cat: not signed \x1b"])

    def do_ListAvailableKernels(self, where, options):
        return ([("cloud", "apt", "apt:linux-image-cloud-amd64", "", 0, "/c", "installed", "")], [])

    def do_CommitImage(self, where, options, name, vm):
        self.find("VM", vm)
        return (self.new_job("commit-image", self.add_image(name), [("reading the disks", 1.0)], lambda: ("done",)),)

    def do_VerifyImage(self, where, options, name):
        self.find("Image", name)
        return ()

    def do_WarmImage(self, where, options, name):
        path = self.find("Image", name)

        def end():
            shape = ("0123456789ab", options.get("vcpu", 2), options.get("memory-mib", 1024), options.get("disk-bytes", 8 << 30))
            self.change(path, Templates=[(*shape, 140 << 20, 1700000000000000, 1700000060000000)])
            return ("done",)
        return (self.new_job("warm-image", path, [("booting the guest", -1.0), ("saving memory", -1.0)], end),)

    def do_PruneImageCache(self, where, options):
        return (3 << 20, 2)

    def do_ExportImage(self, where, options, name):
        path = self.find("Image", name)
        fd = where[1].get_message().get_unix_fd_list().get(options["fd"])
        with os.fdopen(fd, "wb") as file:
            file.write(options.get("format", "tar").encode())
        bad = os.path.exists(os.path.join(self.state_dir, "sick"))
        return (self.new_job("export-image", path, [("writing", 1.0)], lambda: ("failed", "org.banger.Error.NoSpace", "no room") if bad else ("done",)),)

    def do_TagImage(self, where, options, name, tag):
        path = self.find("Image", name)
        self.change(path, Tags=[*self.objects[path][1]["Tags"].unpack(), tag])
        return ()

    def do_PromoteImage(self, where, options, name):
        self.find("Image", name)
        return ("default-old" if name != "default" else "",)

    def do_DeleteImage(self, where, options, name):
        self.remove(self.find("Image", name))
        return ()

    def do_ImportKernel(self, where, options, name, source):
        return (self.new_job("import-kernel", self.add_kernel(name, source), [("unpacking", -1.0)], lambda: ("done",)),)

    def do_DeleteKernel(self, where, options, name):
        self.remove(self.find("Kernel", name))
        return ()

    def do_Diagnose(self, where, options):
        rows = [("kvm", "ok", "/dev/kvm opens", ""), ("disk", "warning", "2 GiB free", "make room")]
        if os.path.exists(os.path.join(self.state_dir, "sick")):
            rows.append(("helper", "error", "not reachable", "systemctl start bangerd-root"))
        return (rows,)

    def do_ReloadConfig(self, where, options):
        return (["c, line 2: no"] if os.path.exists(os.path.join(self.state_dir, "sick")) else [],)

    def do_OpenConsole(self, where, options):
        log = self.objects[where[0]][1]["ConsoleLog"].unpack()
        descriptors = Gio.UnixFDList.new()
        fd = os.open(log, os.O_RDONLY)
        index = descriptors.append(fd)
        os.close(fd)
        where[1].return_value_with_unix_fd_list(GLib.Variant("(hs)", (index, log)), descriptors)

    def do_Exec(self, where, options, arguments):
        if not os.path.exists(os.path.join(self.state_dir, "agent")):
            raise Refusal("org.freedesktop.DBus.Error.NotSupported", "the agent is of an older banger (op-00000008)")
        words = [urllib.parse.unquote_to_bytes("" if word == "%00" else word) for word in arguments]
        pairs = [urllib.parse.unquote_to_bytes(word).split(b"=", 1) for word in options.get("environment", ())]
        if not words and options.get("image-settings"):
            words = [os.fsencode(word) for word in self.objects[where[0]][1]["ImageCommand"].unpack()]
        if words[0] == b"/run/banger/guest":
            words[0] = os.path.join(self.state_dir, "guest")
        streams = [socket.socketpair() for _ in range(3)]
        theirs = [pair[0].fileno() for pair in streams]
        if options.get("terminal"):
            theirs = self.terminal(streams, options)
        if not options.get("stdin", True):
            theirs[0] = subprocess.DEVNULL
        process = subprocess.Popen(words, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], start_new_session=True,
                                   cwd=options.get("cwd"), env=os.environb | dict(pairs),
                                   preexec_fn=lambda: options.get("terminal") and fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        path = f"{ROOT}/process/{self.new_id()}"
        self.add("Process", path, self.typed("Process", {"Id": path.split("/")[-1], "VM": where[0], "Client": "", "State": "running",
                                                         "ExitStatus": -1, "ExitSignal": 0, "Error": ""}))
        self.processes[path] = process.pid, streams
        GLib.child_watch_add(GLib.PRIORITY_DEFAULT, process.pid, lambda _, status: self.exited(path, process, status))
        Gio.bus_watch_name_on_connection(self.connection, where[1].get_sender(), Gio.BusNameWatcherFlags.NONE, None,
                                         lambda *a: self.kill_process(path))
        descriptors = Gio.UnixFDList.new()
        handles = [descriptors.append(pair[1].fileno()) for pair in streams]
        where[1].return_value_with_unix_fd_list(GLib.Variant("(hhho)", (*handles, path)), descriptors)
        for _, given in streams:
            given.close()

    def terminal(self, streams, options):
        """A pty, and a process that carries its bytes."""
        master, slave = pty.openpty()
        self.master = master
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", options["rows"], options["columns"], 0, 0))
        if os.fork() == 0:
            os.close(slave)
            while True:
                readable = select.select([master, streams[0][0]], [], [])[0]
                try:
                    if master in readable:
                        streams[1][0].sendall(os.read(master, 4096))
                    if streams[0][0] in readable and (data := streams[0][0].recv(4096)):
                        os.write(master, data)
                except OSError:
                    os._exit(0)
        return [slave] * 3

    def exited(self, path, process, status):
        if path not in self.processes:
            return
        _, streams = self.processes.pop(path)
        self.end_streams(streams)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        self.connection.emit_signal(None, path, "org.banger.Process", "Exited",
                                    GLib.Variant("(ius)", (-1 if number else os.WEXITSTATUS(status), number, "")))

    @staticmethod
    def end_streams(streams):
        """As the agent does, whoever has them still."""
        for mine, _ in streams:
            mine.shutdown(socket.SHUT_RDWR)
            mine.close()

    def kill_process(self, path):
        if path in self.processes:
            pid, streams = self.processes.pop(path)
            os.killpg(pid, signal.SIGKILL)
            self.end_streams(streams)

    def do_Signal(self, where, options, number):
        if where[0] in self.processes:
            os.killpg(self.processes[where[0]][0], number)
        return ()

    def do_Resize(self, where, options, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        return ()

    def do_Cancel(self, where, options):
        path = where[0]
        if self.objects[path][3] is not None:
            self.objects[path][3]()
        self.finish(path, "cancelled", "org.banger.Error.Cancelled", "cancelled (op-" + path.split("/")[-1] + ")")
        return ()


def broken(*error):
    """A call that is never answered would be waited for: whoever calls is told at once that nobody is here."""
    traceback.print_exception(*error)
    os._exit(BROKEN)


def main():
    sys.excepthook = broken  # also of what GLib calls
    loop = GLib.MainLoop()
    connection = Gio.bus_get_sync(Gio.BusType.SESSION, None)
    mock = Mock(connection, sys.argv[1], sys.argv[2])
    Gio.bus_own_name_on_connection(connection, NAME, Gio.BusNameOwnerFlags.NONE,
                                   lambda *a: print("ready", flush=True), lambda *a: loop.quit())
    loop.run()
    del mock


if __name__ == "__main__":
    main()
