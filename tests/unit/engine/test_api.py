#!/usr/bin/python3
"""banger-vmm-qemu against Firecracker's API 1.16: paths, bodies, status codes, states, times.

Usage: test_api.py VMM. The definitions below are those of firecracker.yaml for the subset that is served.
Where firecracker is on PATH, what the contract says is asked of it, too: no guest is started.
"""

import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import termios
import unittest

import tap

(VMM,) = tap.arguments(1)
FIRECRACKER = shutil.which("firecracker")

STRING, INTEGER, BOOLEAN = "string", "integer", "boolean"
# definition: (required, {property: type or list of choices})
DEFINITIONS = {
    "BootSource": (["kernel_image_path"], {"boot_args": STRING, "initrd_path": STRING, "kernel_image_path": STRING}),
    "MachineConfiguration": (["mem_size_mib", "vcpu_count"], {
        "cpu_template": ["C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None"], "smt": BOOLEAN, "mem_size_mib": INTEGER,
        "track_dirty_pages": BOOLEAN, "vcpu_count": INTEGER, "huge_pages": ["None", "2M"]}),
    "Drive": (["drive_id", "is_root_device"], {
        "drive_id": STRING, "partuuid": STRING, "is_root_device": BOOLEAN, "cache_type": ["Unsafe", "Writeback"],
        "is_read_only": BOOLEAN, "path_on_host": STRING, "io_engine": ["Sync", "Async"]}),
    "NetworkInterface": (["host_dev_name", "iface_id"], {
        "guest_mac": STRING, "host_dev_name": STRING, "iface_id": STRING, "mtu": INTEGER}),
    "Vsock": (["guest_cid", "uds_path"], {"guest_cid": INTEGER, "uds_path": STRING, "vsock_id": STRING}),
    "Logger": ([], {"level": ["Error", "Warning", "Info", "Debug", "Trace", "Off"], "log_path": STRING,
                    "show_level": BOOLEAN, "show_log_origin": BOOLEAN, "module": STRING}),
    "Metrics": (["metrics_path"], {"metrics_path": STRING}),
    "SerialDevice": ([], {"serial_out_path": STRING}),
    "EntropyDevice": ([], {}),
    "InstanceActionInfo": (["action_type"], {"action_type": ["FlushMetrics", "InstanceStart", "SendCtrlAltDel"]}),
    "Vm": (["state"], {"state": ["Paused", "Resumed"]}),
    "InstanceInfo": (["app_name", "id", "state", "vmm_version"], {
        "app_name": STRING, "id": STRING, "state": ["Not started", "Running", "Paused"], "vmm_version": STRING}),
    "FirecrackerVersion": (["firecracker_version"], {"firecracker_version": STRING}),
}
PYTHON_TYPES = {STRING: str, INTEGER: int, BOOLEAN: bool}


def bodies(vmm):
    """A good body per configuration request: (method, path, definition, body)."""
    disk, kernel = vmm.file("disk", b"x" * 512), vmm.kernel()
    return [
        ("PUT", "/boot-source", "BootSource", {"kernel_image_path": kernel, "initrd_path": disk, "boot_args": "a b"}),
        ("PUT", "/machine-config", "MachineConfiguration", {
            "vcpu_count": 2, "mem_size_mib": 256, "smt": True, "track_dirty_pages": False, "huge_pages": "None"}),
        ("PUT", "/drives/root_1", "Drive", {"drive_id": "root_1", "is_root_device": True, "is_read_only": False,
                                            "path_on_host": disk, "cache_type": "Writeback", "io_engine": "Async"}),
        ("PUT", "/vsock", "Vsock", {"guest_cid": 3, "uds_path": vmm.vsock}),
        ("PUT", "/logger", "Logger", {"log_path": str(vmm.folder / "log"), "level": "info", "show_level": True}),
        ("PUT", "/metrics", "Metrics", {"metrics_path": str(vmm.folder / "metrics")}),
        ("PUT", "/serial", "SerialDevice", {"serial_out_path": str(vmm.folder / "serial")}),
        ("PUT", "/entropy", "EntropyDevice", {}),
    ]


def unread(client):
    """Bytes that the other end has not taken yet."""
    return struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0]


class Contract(tap.VmmCase):
    binary = VMM
    own = True  # what only banger-vmm-qemu promises is asserted, too

    def conforms(self, definition, value):
        required, properties = DEFINITIONS[definition]
        for key in required:
            self.assertIn(key, value, definition)
        for key, item in value.items():
            kind = properties[key]
            if isinstance(kind, list):
                self.assertIn(item, kind)
            else:
                self.assertIs(type(item), PYTHON_TYPES[kind], key)

    def test_get(self):
        vmm = self.vmm()
        for path, definition in (("/", "InstanceInfo"), ("/version", "FirecrackerVersion"),
                                 ("/machine-config", "MachineConfiguration")):
            status, reply, headers = vmm.call("GET", path)
            self.assertEqual(status, 200)
            self.assertEqual(headers["Content-Type"], "application/json")
            self.conforms(definition, reply)
        info = vmm.ok("GET", "/")
        self.assertEqual((info["id"], info["state"]), ("vm-1", "Not started"))
        self.assertEqual(vmm.ok("GET", "/version")["firecracker_version"], "1.16.1")
        self.assertEqual(vmm.ok("GET", "/machine-config")["vcpu_count"], 1)
        self.assertEqual(vmm.ok("GET", "/machine-config")["mem_size_mib"], 128)

    def test_good_bodies(self):
        vmm = self.vmm()
        for method, path, definition, body in bodies(vmm):
            with self.subTest(path=path):
                self.conforms(definition, body) if definition != "Logger" else None
                status, reply, _ = vmm.call(method, path, body)
                self.assertEqual((status, reply), (204, None))

    def test_full_configuration(self):
        vmm = self.vmm()
        for method, path, _, body in bodies(vmm):
            vmm.ok(method, path, body)
        config = vmm.ok("GET", "/vm/config")
        for section, definition in (("boot-source", "BootSource"), ("machine-config", "MachineConfiguration"),
                                    ("vsock", "Vsock"), ("metrics", "Metrics"), ("entropy", "EntropyDevice")):
            if self.own or section != "metrics":  # Firecracker shows what it started with
                self.conforms(definition, {k: v for k, v in config[section].items() if v is not None})
        self.assertEqual(config["drives"][0]["drive_id"], "root_1")
        self.conforms("Drive", {k: v for k, v in config["drives"][0].items() if v is not None})
        self.assertEqual(config["network-interfaces"], [])
        self.assertEqual(config["vsock"], {"guest_cid": 3, "uds_path": vmm.vsock})

    def test_fields(self):
        """Each required field missing, each field of a wrong type, each choice out of the list, an unknown field."""
        vmm = self.vmm()
        for method, path, definition, good in bodies(vmm):
            required, properties = DEFINITIONS[definition]
            for key in required:
                with self.subTest(path=path, missing=key):
                    self.fault(vmm.call(method, path, {k: v for k, v in good.items() if k != key}), f"missing field `{key}`")
            for key, kind in properties.items():
                wrong = {"a": 1} if kind != INTEGER else "1"
                with self.subTest(path=path, wrong=key):
                    self.fault(vmm.call(method, path, dict(good, **{key: wrong})))
                if isinstance(kind, list):
                    with self.subTest(path=path, choice=key):
                        self.fault(vmm.call(method, path, dict(good, **{key: "Sideways"})), "Sideways" if self.own else "")
            with self.subTest(path=path, unknown=True):
                if self.own or definition != "Metrics":
                    self.fault(vmm.call(method, path, dict(good, sideways=1)), "unknown field `sideways`")
        config = vmm.ok("GET", "/vm/config")
        self.assertEqual((config["drives"], config.get("vsock")), ([], None))
        if self.own:
            self.assertFalse({"vsock", "boot-source"} & set(config))

    def test_bodies_that_are_no_objects(self):
        vmm = self.vmm()
        for method, path, _, _ in bodies(vmm):
            for raw in ("[]", "1", '"x"', "{", "nonsense", "\xff"):
                with self.subTest(path=path, raw=raw):
                    self.fault(vmm.call(method, path, raw=raw.encode("latin-1")), "deserializing the json body")
            self.fault(vmm.call(method, path), "Empty PUT request.")

    def test_unknown_paths(self):
        vmm = self.vmm()
        for method, path, body, text in (
                ("PUT", "/foo", {}, "Invalid request method and/or path: PUT foo."),
                ("GET", "/foo", None, "Invalid request method and/or path: GET foo."),
                ("PATCH", "/boot-source", {}, "Invalid request method and/or path: PATCH boot-source."),
                ("GET", "/vm", None, "Invalid request method and/or path: GET vm."),
                ("DELETE", "/vsock", None, "Invalid request method and/or path: DELETE vsock."),
                ("GET", "/machine-config", {}, "GET request cannot have a body."),
                ("PATCH", "/machine-config", {}, "Empty PATCH request."),
                ("PUT", "/drives", {}, "The ID cannot be empty."),
                ("PUT", "/drives/a-b", {}, "API Resource IDs can only contain alphanumeric characters and underscores."),
                ("PUT", "/snapshot/frob", {}, "Invalid request method and/or path: PUT"),
                ("PUT", "/balloon", {}, "not supported" if self.own else "")):
            with self.subTest(path=path):
                self.fault(vmm.call(method, path, body), text)

    def test_too_large(self):
        vmm = self.vmm("--http-api-max-payload-size", "100")
        status, text, _ = vmm.ask("PUT", "/entropy", {"x": "y" * 200})
        self.assertEqual(status, 400)
        self.assertIn("larger than the limit", json.loads(text)["fault_message"] if self.own else text)  # Firecracker's is no JSON: it has a line break in a string

    def test_machine_values(self):
        vmm = self.vmm()
        for count, memory, smt, good in ((1, 1, False, True), (32, 128, False, True), (0, 128, False, False),
                                         (33, 128, False, False), (256, 128, False, False), (-1, 128, False, False),
                                         (3, 128, True, False), (3, 128, False, True), (1, 0, False, False),
                                         (4, 128, True, True), (1.5, 128, False, False)):
            with self.subTest(count=count, memory=memory, smt=smt):
                before = vmm.ok("GET", "/machine-config")
                answer = vmm.call("PUT", "/machine-config", {"vcpu_count": count, "mem_size_mib": memory, "smt": smt})
                if good:
                    self.assertEqual(answer[0], 204)
                else:
                    self.fault(answer)
                    self.assertEqual(vmm.ok("GET", "/machine-config"), before)
        vmm.ok("PATCH", "/machine-config", {"mem_size_mib": 640})
        after = vmm.ok("GET", "/machine-config")
        self.assertEqual((after["vcpu_count"], after["mem_size_mib"], after["smt"]), (4, 640, True))
        self.fault(vmm.call("PATCH", "/machine-config", {"vcpu_count": 5}), "number of vCPUs")
        if self.own:
            self.fault(vmm.call("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 2, "huge_pages": "2M"}), "not supported")

    def test_files_that_do_not_open(self):
        vmm = self.vmm()
        disk = vmm.file("disk")
        self.fault(vmm.call("PUT", "/boot-source", {"kernel_image_path": "/nonexistent"}), "kernel file cannot be opened")
        self.fault(vmm.call("PUT", "/boot-source", {"kernel_image_path": disk, "initrd_path": "/nonexistent"}), "initrd")
        drive = {"drive_id": "d", "is_root_device": False, "is_read_only": False, "path_on_host": "/nonexistent"}
        self.fault(vmm.call("PUT", "/drives/d", drive), "/nonexistent")
        self.fault(vmm.call("PUT", "/drives/d", dict(drive, path_on_host="/tmp")))
        if self.own:
            self.fault(vmm.call("PUT", "/drives/d", dict(drive, path_on_host="/dev/null")), "neither a file nor a block device")
        self.fault(vmm.call("PUT", "/drives/e", dict(drive, path_on_host=disk)), "does not match the id from the body")
        self.fault(vmm.call("PUT", "/vsock", {"guest_cid": 3, "uds_path": "/nonexistent/v.sock"}), "/nonexistent" if self.own else "No such file")
        if self.own:
            self.fault(vmm.call("PUT", "/vsock", {"guest_cid": 2, "uds_path": vmm.vsock}), "guest_cid")
        self.fault(vmm.call("PUT", "/logger", {"log_path": "/nonexistent/log"}), "/nonexistent/log" if self.own else "No such file")
        self.fault(vmm.call("PUT", "/metrics", {"metrics_path": "/nonexistent/m"}), "/nonexistent/m" if self.own else "No such file")
        interface = {"iface_id": "eth0", "host_dev_name": "no-such-tap-name-here"}
        self.fault(vmm.call("PUT", "/network-interfaces/eth0", interface), "Invalid interface name")
        self.fault(vmm.call("PUT", "/network-interfaces/eth0", dict(interface, host_dev_name="t", guest_mac="x")), "MAC")
        self.fault(vmm.call("PUT", "/network-interfaces/eth0", dict(interface, host_dev_name="lo")), "lo")

    def test_drive_order(self):
        vmm = self.vmm()
        disk = vmm.file("disk")

        def put(name, root):
            return vmm.call("PUT", f"/drives/{name}", {"drive_id": name, "is_root_device": root, "is_read_only": False,
                                                       "path_on_host": disk})

        for name, root in (("b", False), ("a", False), ("root", True), ("c", False)):
            self.assertEqual(put(name, root)[0], 204)
        self.fault(put("other", True), "A root block device already exists!")
        self.assertEqual(put("a", False)[0], 204)
        self.assertEqual([d["drive_id"] for d in vmm.ok("GET", "/vm/config")["drives"]], ["root", "b", "a", "c"])

    def test_snapshot_bodies(self):
        vmm = self.vmm()
        create = {"snapshot_path": "/nonexistent/s", "mem_file_path": "/nonexistent/m"}
        self.fault(vmm.call("PUT", "/snapshot/create", create), "not supported before starting the microVM")
        backend = {"backend_type": "File", "backend_path": "/nonexistent/m"}
        load = {"snapshot_path": "/nonexistent/s", "mem_backend": backend}
        for path, body, text in (
                ("create", {"mem_file_path": "m"}, "missing field `snapshot_path`"),
                ("create", {"snapshot_path": "s"}, "missing field `mem_file_path`"),
                ("create", dict(create, snapshot_type="Half"), "unknown variant `Half`"),
                ("create", dict(create, sideways=1), "unknown field `sideways`"),
                ("load", {"mem_backend": backend}, "missing field `snapshot_path`"),
                ("load", {"snapshot_path": "s"}, "missing field: either `mem_backend` or `mem_file_path` is required"),
                ("load", dict(load, mem_file_path="m"), "too many fields: either `mem_backend` or `mem_file_path`"),
                ("load", dict(load, mem_backend={"backend_path": "m"}), "missing field `backend_type`"),
                ("load", dict(load, mem_backend={"backend_type": "File"}), "missing field `backend_path`"),
                ("load", dict(load, mem_backend=dict(backend, backend_type="Tape")), "unknown variant `Tape`"),
                ("load", dict(load, mem_backend="m"), "invalid type"),
                ("load", dict(load, resume_vm=1), "invalid type"),
                ("load", dict(load, clock_realtime="yes"), "invalid type"),
                ("load", dict(load, network_overrides={"iface_id": "eth0"}), "invalid type"),
                ("load", dict(load, network_overrides=[{"iface_id": "eth0"}]), "missing field `host_dev_name`"),
                ("load", dict(load, vsock_override={}), "missing field `uds_path`"),
                ("load", dict(load, vsock_override={"uds_path": 1}), "invalid type"),
                ("load", dict(load, sideways=1), "unknown field `sideways`")):
            with self.subTest(path=path, body=body):
                self.fault(vmm.call("PUT", f"/snapshot/{path}", body), text)
        if self.own:
            for what in ({"clock_realtime": True}, {"track_dirty_pages": True}, {"enable_diff_snapshots": True},
                         {"mem_backend": dict(backend, backend_type="Uffd")}):
                self.fault(vmm.call("PUT", "/snapshot/load", dict(load, **what)), "not supported")
        vmm.ok("PUT", "/logger", {"log_path": str(vmm.folder / "log")})
        vmm.ok("PUT", "/metrics", {"metrics_path": str(vmm.folder / "metrics")})
        self.fault(vmm.call("PUT", "/snapshot/load", load), "Load snapshot error: ")
        self.assertNotEqual(vmm.wait(), 0)  # what failed to load a state is of no more use

    def test_snapshot_into_what_is_configured(self):
        vmm = self.vmm()
        vmm.ok("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
        self.fault(vmm.call("PUT", "/snapshot/load", {"snapshot_path": "s", "mem_file_path": "m"}),
                   "not allowed after configuring boot-specific resources")
        vmm.ok("GET", "/")

    def test_metrics_twice(self):
        vmm = self.vmm()
        body = {"metrics_path": str(vmm.folder / "metrics")}
        vmm.ok("PUT", "/metrics", body)
        self.fault(vmm.call("PUT", "/metrics", body), "Reinitialization")

    def test_sockets_are_tight(self):
        if not self.own:
            self.skipTest("Firecracker leaves the mode to the umask, and its old socket stays")
        vmm = self.vmm()
        vmm.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": vmm.vsock})
        for path in (vmm.api, vmm.vsock):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        vmm.ok("PUT", "/vsock", {"guest_cid": 4, "uds_path": vmm.vsock + "2"})
        self.assertFalse(os.path.exists(vmm.vsock))


if FIRECRACKER:
    class Firecracker(Contract):
        """The same of Firecracker itself, so that the pair is no dialect of its own."""

        binary, own = FIRECRACKER, False
else:
    class Firecracker(unittest.TestCase):
        @unittest.skip("firecracker is missing")
        def test_contract(self):
            pass


class States(tap.VmmCase):
    binary = VMM

    def started(self, **behaviour):
        vmm = self.vmm()
        vmm.ok("PUT", "/boot-source", {"kernel_image_path": vmm.kernel(**behaviour), "boot_args": "reboot=k console=x"})
        vmm.ok("PUT", "/metrics", {"metrics_path": str(vmm.folder / "metrics")})
        vmm.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        return vmm

    def state(self, vmm):
        return vmm.ok("GET", "/")["state"]

    def test_before_the_start(self):
        vmm = self.vmm()
        text = "not supported before starting the microVM"
        self.fault(vmm.call("PATCH", "/vm", {"state": "Paused"}), text)
        self.fault(vmm.call("PUT", "/actions", {"action_type": "SendCtrlAltDel"}), text)
        self.fault(vmm.call("PUT", "/actions", {"action_type": "FlushMetrics"}), text)
        self.fault(vmm.call("PATCH", "/vm", {"state": "Resting"}), "unknown variant")
        self.fault(vmm.call("PUT", "/actions", {"action_type": "Explode"}), "unknown variant")
        self.fault(vmm.call("PUT", "/actions", {"action_type": "InstanceStart"}), "without kernel configuration")
        self.assertEqual(self.state(vmm), "Not started")

    def test_after_the_start(self):
        vmm = self.started()
        for method, path, _, body in bodies(vmm):
            with self.subTest(path=path):
                self.fault(vmm.call(method, path, body), "not supported after starting the microVM")
        self.fault(vmm.call("PATCH", "/machine-config", {"vcpu_count": 1}), "after starting")
        self.fault(vmm.call("PUT", "/actions", {"action_type": "InstanceStart"}), "after starting")

    def test_pause_and_resume(self):
        vmm = self.started()
        states = [self.state(vmm)]
        for word in ("Paused", "Paused", "Resumed", "Resumed"):
            vmm.ok("PATCH", "/vm", {"state": word})
            states.append(self.state(vmm))
        self.assertEqual(states, ["Running", "Paused", "Paused", "Running", "Running"])
        commands = [json.loads(line)["execute"] for line in open(vmm.folder / "kernel.qmp", encoding="utf-8")]
        self.assertEqual(commands, ["qmp_capabilities", "stop", "cont"])

    def test_refused_pause(self):
        vmm = self.started(refuse=["stop"])
        self.fault(vmm.call("PATCH", "/vm", {"state": "Paused"}), "refused by the stub")
        self.assertEqual(self.state(vmm), "Running")

    def test_client_that_does_not_wait(self):
        """It asks for what takes time and is gone before the answer: the VMM stays, and serves the next in turn."""
        vmm = self.started(slow="stop")
        body = json.dumps({"state": "Paused"})
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as gone:
                gone.connect(vmm.api)
                gone.sendall(f"PATCH /vm HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        self.assertEqual(self.state(vmm), "Paused")
        vmm.ok("PATCH", "/vm", {"state": "Resumed"})
        self.assertEqual(self.state(vmm), "Running")

    def test_flush_metrics(self):
        vmm = self.started()
        vmm.ok("PUT", "/actions", {"action_type": "FlushMetrics"})
        line = json.loads((vmm.folder / "metrics").read_text())
        self.assertEqual(line["put_api_requests"]["boot_source_count"], 1)

    def test_end_of_the_guest(self):
        for status, wanted in ((0, 0), (3, 1)):
            with self.subTest(status=status):
                vmm = self.started(exit=status)
                vmm.call("PUT", "/actions", {"action_type": "SendCtrlAltDel"})
                self.assertEqual(vmm.wait(), wanted)
                self.assertFalse(os.path.exists(vmm.api))

    def test_failed_start_can_be_repeated(self):
        vmm = self.vmm()
        vmm.ok("PUT", "/boot-source", {"kernel_image_path": vmm.kernel(fail="no such disk\n")})
        self.fault(vmm.call("PUT", "/actions", {"action_type": "InstanceStart"}), "no such disk")
        self.assertEqual(self.state(vmm), "Not started")
        vmm.kernel()
        vmm.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        self.assertEqual(self.state(vmm), "Running")

    def test_missing_qemu(self):
        vmm = self.vmm(qemu="/nonexistent/qemu")
        vmm.ok("PUT", "/boot-source", {"kernel_image_path": vmm.kernel()})
        self.fault(vmm.call("PUT", "/actions", {"action_type": "InstanceStart"}), "/nonexistent/qemu")

    def alive(self, pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as line:
                return line.read().rsplit(")", 1)[1].split()[0] != "Z"
        except FileNotFoundError:
            return False

    def test_qemu_dies_with_the_vmm(self):
        for number in (signal.SIGKILL, signal.SIGTERM):
            with self.subTest(signal=number):
                vmm = self.started()
                pid = vmm.stub()["pid"]
                self.assertTrue(self.alive(pid))
                vmm.process.send_signal(number)
                self.assertEqual(vmm.wait(), -number)
                vmm.await_(lambda: not self.alive(pid), "end of QEMU")

    def test_qemu_killed(self):
        vmm = self.started()
        os.kill(vmm.stub()["pid"], signal.SIGKILL)
        self.assertEqual(vmm.wait(), 1)
        self.assertIn("signal 9", vmm.console())

    def test_qemu_ends_while_actions_wait(self):
        """One is under way and others wait for their turn: each is refused, and the VMM ends as it would have."""
        vmm = self.started()
        stub, clients = vmm.stub()["pid"], []
        os.kill(stub, signal.SIGSTOP)  # it answers nothing more
        for line, body in (("PATCH /vm", {"state": "Paused"}), ("PUT /actions", {"action_type": "SendCtrlAltDel"}),
                           ("PATCH /vm", {"state": "Paused"})):
            client, body = socket.socket(socket.AF_UNIX), json.dumps(body)
            self.addCleanup(client.close)
            client.settimeout(60)
            client.connect(vmm.api)
            client.sendall(f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                           f"Connection: close\r\n\r\n{body}".encode())
            vmm.await_(lambda client=client: unread(client) == 0, "reader")
            clients.append(client)
        vmm.process.send_signal(signal.SIGSTOP)  # so that it sees all of QEMU's end at once
        os.kill(stub, signal.SIGKILL)
        vmm.await_(lambda: not self.alive(stub), "end of QEMU")
        vmm.process.send_signal(signal.SIGCONT)
        for client in clients:
            answer = client.makefile("rb").read().decode()
            self.assertTrue(answer.startswith("HTTP/1.1 400 "), answer)
            self.assertIn("QEMU is gone", answer)
        self.assertEqual(vmm.wait(), 1)

    def test_qemu_gets_no_environment(self):
        self.assertEqual(set(self.started().stub()["env"]) - {"LC_CTYPE"}, set())


class Snapshots(tap.VmmCase):
    binary = VMM

    def setUp(self):
        self.keep = self.vmm(api=False, qemu=None)  # a folder that outlives the others
        self.state, self.memory = str(self.keep.folder / "state"), str(self.keep.folder / "memory")

    def started(self, *extra, **behaviour):
        vmm = self.vmm(*extra)
        vmm.kernel_at = self.keep.kernel(**behaviour)
        vmm.ok("PUT", "/machine-config", {"vcpu_count": 2, "mem_size_mib": 64})
        vmm.ok("PUT", "/boot-source", {"kernel_image_path": vmm.kernel_at, "boot_args": "quiet"})
        vmm.ok("PUT", "/drives/root", {"drive_id": "root", "is_root_device": True, "is_read_only": False,
                                       "path_on_host": self.keep.file("disk", b"x" * 512), "cache_type": "Writeback"})
        vmm.ok("PUT", "/vsock", {"guest_cid": 3, "uds_path": vmm.vsock})
        vmm.ok("PUT", "/entropy", {})
        vmm.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        return vmm

    def save(self, vmm):
        vmm.ok("PATCH", "/vm", {"state": "Paused"})
        vmm.ok("PUT", "/snapshot/create", {"snapshot_path": self.state, "mem_file_path": self.memory, "snapshot_type": "Full"})

    def body(self, **more):
        return dict({"snapshot_path": self.state, "mem_backend": {"backend_type": "File", "backend_path": self.memory}}, **more)

    def argv(self):
        return self.keep.stub()["argv"]

    def option(self, name):
        argv = self.argv()
        return [argv[i + 1] for i, word in enumerate(argv) if word == name]

    def test_round_trip(self):
        vmm = self.started(agent="echo")
        before, config = self.argv(), vmm.ok("GET", "/vm/config")
        self.fault(vmm.call("PUT", "/snapshot/create", {"snapshot_path": self.state, "mem_file_path": self.memory}),
                   "unavailable while running")
        self.save(vmm)
        self.assertEqual(vmm.ok("GET", "/")["state"], "Paused")
        self.fault(vmm.call("PUT", "/snapshot/load", self.body()), "after starting")
        self.fault(vmm.call("PUT", "/snapshot/create", {"snapshot_path": self.state, "mem_file_path": self.memory,
                                                        "snapshot_type": "Diff"}), "not supported")
        vmm.ok("PATCH", "/vm", {"state": "Resumed"})  # the one that was saved may go on
        vmm.close()
        for resume in (False, True):
            with self.subTest(resume=resume):
                other = self.vmm()
                other.ok("PUT", "/snapshot/load", self.body(resume_vm=resume, vsock_override={"uds_path": other.vsock}))
                self.assertEqual(other.ok("GET", "/")["state"], "Running" if resume else "Paused")
                if not resume:
                    other.ok("PATCH", "/vm", {"state": "Resumed"})
                restored = other.ok("GET", "/vm/config")
                self.assertEqual(restored.pop("vsock"), {"guest_cid": 3, "uds_path": other.vsock})
                self.assertEqual(restored, {k: v for k, v in config.items() if k != "vsock"})
                # the same machine, but that it waits for its state, in which its kernel is
                numbers = lambda argv: [re.sub(r"fd=\d+|tsc_early_khz=\d+", "", word) for word in argv]
                self.assertEqual(numbers(self.argv()), numbers(before[:before.index("-kernel")])
                                 + ["-incoming", "defer", "-S"] + numbers(before[before.index("-blockdev"):]))
                with socket.socket(socket.AF_UNIX) as agent:
                    agent.settimeout(60)
                    agent.connect(other.vsock)
                    agent.sendall(b"CONNECT 1024\n")
                    agent.makefile("rb", 0).readline()
                    agent.sendall(b"hi")
                    self.assertEqual(agent.recv(100), b"hi")
                other.close()

    def test_memory_in_a_file(self):
        """Who starts with it there keeps it there; who is restored from it has it for himself."""
        vmm = self.started("--memory-file", self.memory)
        self.assertEqual(json.loads(self.option("-object")[0]), {
            "qom-type": "memory-backend-file", "id": "ram", "size": 64 << 20, "mem-path": self.memory, "share": True})
        with open(self.memory, "wb") as memory:
            memory.write(b"guest's")
            memory.truncate(64 << 20)
        self.save(vmm)
        vmm.close()
        with open(self.memory, "rb") as memory:
            self.assertEqual(memory.read(7), b"guest's")
        log = [json.loads(line) for line in open(self.keep.folder / "kernel.qmp", encoding="utf-8")]
        self.assertIn({"capability": "x-ignore-shared", "state": True},
                      next(c for c in log if c["execute"] == "migrate-set-capabilities")["arguments"]["capabilities"])
        other = self.vmm()
        other.ok("PUT", "/snapshot/load", self.body(vsock_override={"uds_path": other.vsock}))
        self.assertFalse(json.loads(self.option("-object")[0])["share"])
        # what it writes is in no file: saved again, it all goes into the new one
        self.memory += "2"
        self.save(other)
        self.assertEqual(os.stat(self.memory).st_size, 4 + 64)
        other.close()
        self.memory = self.memory[:-1]
        vmm = self.started()
        self.save(vmm)
        vmm.close()
        with open(self.state, "r+b") as state:  # a mapped one, that is too short
            state.seek(0)
            text = state.read().replace(b'"mapped":false', b'"mapped":true ')
            state.seek(0)
            state.write(text)
        self.refused(self.body(), "state file has")

    def refused(self, body, text):
        vmm = self.vmm()
        self.fault(vmm.call("PUT", "/snapshot/load", dict(body, vsock_override={"uds_path": vmm.vsock})), text)
        self.assertEqual(vmm.wait(), 1)
        self.assertFalse(os.path.exists(vmm.api))

    def test_files_that_are_none(self):
        """Cut, garbled, of something else: told, and that VMM ends."""
        vmm = self.started()
        self.save(vmm)
        vmm.close()
        good_state, good_memory = open(self.state, "rb").read(), open(self.memory, "rb").read()
        head, _, rest = good_state.partition(b"\0")

        def edit(key, value):
            magic, _, text = head.partition(b"\n")
            whole = json.loads(text)
            target = whole if key in whole else whole["config"]
            target[key] = value
            return (magic + b"\n" + json.dumps(whole).encode()).ljust(len(good_state), b"\0")

        for name, state, memory, text in (
                ("empty", b"", good_memory, "cut off"),
                ("cut", good_state[:5000], good_memory, "cut off"),
                ("never finished", bytes(len(good_state)), good_memory, "not a state file"),
                ("other", b"MZ" + good_state[2:], good_memory, "not a state file"),
                ("no JSON", head.replace(b"{", b"[").ljust(len(good_state), b"\0"), good_memory, ""),
                ("no configuration", edit("config", []), good_memory, "no configuration"),
                ("other version", edit("vmm", "banger-vmm-qemu 0.0.1"), good_memory, "0.0.1"),
                ("longer", good_state + b"x", good_memory, "bytes"),
                ("memory cut", good_state, good_memory[:-1], "Failed to load guest memory"),
                ("memory empty", good_state, b"", "Failed to load guest memory"),
                ("memory garbled", good_state, bytes(len(good_memory)), "load of migration failed"),
                ("negative", edit("stream_bytes", -1), good_memory, "stream_bytes"),
                ("no memory", edit("machine-config", {"vcpu_count": 1, "mem_size_mib": 0}), good_memory, "memory size"),
                ("others' disk", edit("drives", [{"drive_id": "d", "is_root_device": False, "is_read_only": False,
                                                  "path_on_host": "/dev/zero"}]), good_memory, "neither a file"),
                ("others' tap", edit("network-interfaces", [{"iface_id": "e", "host_dev_name": "lo"}]), good_memory, "lo")):
            with self.subTest(name=name):
                pathlib.Path(self.state).write_bytes(state)
                pathlib.Path(self.memory).write_bytes(memory)
                self.refused(self.body(), text)
        pathlib.Path(self.state).write_bytes(edit("logger", {"log_path": str(self.keep.folder / "planted")}))
        pathlib.Path(self.memory).write_bytes(good_memory)
        self.refused(self.body(network_overrides=[{"iface_id": "eth9", "host_dev_name": "t"}]), "Unknown Network Device")
        vmm = self.vmm()
        vmm.ok("PUT", "/snapshot/load", self.body(vsock_override={"uds_path": vmm.vsock}))
        self.assertFalse((self.keep.folder / "planted").exists())

    def test_files_that_cannot_be_written(self):
        vmm = self.started(unsaved="no room on the tape")
        vmm.ok("PATCH", "/vm", {"state": "Paused"})
        bad = str(self.keep.folder / "none" / "x")
        for state, memory, text in ((bad, self.memory, bad), (self.state, bad, bad),
                                    (self.state, self.memory, "no room on the tape")):
            with self.subTest(state=state, memory=memory):
                self.fault(vmm.call("PUT", "/snapshot/create", {"snapshot_path": state, "mem_file_path": memory}), text)
                self.assertEqual(vmm.ok("GET", "/")["state"], "Paused")
        vmm.ok("PATCH", "/vm", {"state": "Resumed"})
        self.refused(self.body(), "cut off")

    def test_qemu_ends_while_it_saves(self):
        vmm = self.started(slow="migrate")
        vmm.ok("PATCH", "/vm", {"state": "Paused"})
        stub = self.keep.stub()["pid"]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(vmm.api)
            body = json.dumps({"snapshot_path": self.state, "mem_file_path": self.memory})
            client.sendall(f"PUT /snapshot/create HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                           f"Connection: close\r\n\r\n{body}".encode())
            vmm.await_(lambda: "migrate\"" in (self.keep.folder / "kernel.qmp").read_text(), "migration")
            os.kill(stub, signal.SIGKILL)
            self.assertIn("QEMU", client.makefile("rb").read().decode())
        self.assertEqual(vmm.wait(), 1)
        self.refused(self.body(), "cut off")


class Console(tap.VmmCase):
    """The stub numbers its lines, 100 bytes each."""

    binary = VMM

    def started(self, lines):
        vmm = self.vmm()
        vmm.ok("PUT", "/boot-source", {"kernel_image_path": vmm.kernel(lines=lines)})
        vmm.ok("PUT", "/actions", {"action_type": "InstanceStart"})
        return vmm

    @staticmethod
    def numbers(text):
        return [int(line) for line in text.splitlines() if len(line) == 99 and line.isdigit()]

    def test_all_of_it(self):
        vmm = self.started(1000)
        vmm.await_(lambda: len(self.numbers(vmm.console())) == 1000, "the last line")
        self.assertEqual(self.numbers(vmm.console()), list(range(1000)))

    def test_what_a_guest_writes_without_end_is_cut(self):
        count = 120000  # 12 MB
        vmm = self.started(count)
        vmm.await_(lambda: count - 1 in self.numbers(vmm.console()), "the last line", 60)
        self.assertLess(os.stat(vmm.folder / "console.log").st_size, 5 << 20)
        self.assertIn("[banger: ", vmm.console())
        numbers = self.numbers(vmm.console())
        self.assertEqual(numbers, list(range(numbers[0], count)))
        self.assertGreater(len(numbers), 2000)

    def test_last_words(self):
        """What is in the pipe when QEMU ends arrives too."""
        vmm = self.started(2000)
        os.kill(vmm.stub()["pid"], signal.SIGKILL)
        vmm.wait()
        self.assertEqual(self.numbers(vmm.console()), list(range(2000)))

    def test_a_pipe_is_left_alone(self):
        vmm = self.vmm()
        config = vmm.file("config.json", json.dumps({"boot-source": {"kernel_image_path": vmm.kernel(lines=3)}}).encode())
        with subprocess.Popen([VMM, "--no-api", "--config-file", config, "--qemu", str(tap.HERE / "stub_qemu.py")],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            lines = [next(line for line in process.stdout if len(self.numbers(line)) == 1) for _ in range(3)]
            process.terminate()
        self.assertEqual(self.numbers("".join(lines)), [0, 1, 2])


class CommandLine(tap.VmmCase):
    binary = VMM

    def run_vmm(self, *args):
        return subprocess.run([VMM, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def test_version(self):
        self.assertRegex(self.run_vmm("--version").stdout, r"^banger-vmm-qemu v\d.*Firecracker API v1\.16")

    def test_refused(self):
        for args in (["--frob"], ["stray"], ["--id", "a_b"], ["--id", ""], ["--id", "a" * 65], ["--no-api"]):
            with self.subTest(args=args):
                self.assertEqual(self.run_vmm(*args).returncode, 153)

    def test_from_the_jailer(self):
        vmm = self.vmm("--start-time-us", "12", "--start-time-cpu-us", "3", "--parent-cpu-time-us", "4", "--boot-timer",
                       "--level", "Debug", "--show-level")
        self.assertEqual(vmm.ok("GET", "/")["state"], "Not started")

    def test_socket_in_use(self):
        vmm = self.vmm()
        result = self.run_vmm("--api-sock", vmm.api)
        self.assertEqual(result.returncode, 1)
        self.assertIn("already used", result.stderr)
        self.assertEqual(vmm.ok("GET", "/")["id"], "vm-1")

    def test_config_file(self):
        helper = self.vmm()
        config = {"boot-source": {"kernel_image_path": helper.kernel()}, "machine-config": {"vcpu_count": 2, "mem_size_mib": 99},
                  "drives": [{"drive_id": "r", "is_root_device": True, "is_read_only": True,
                              "path_on_host": helper.file("disk")}], "balloon": None}
        path = helper.file("config.json", json.dumps(config).encode())
        vmm = self.vmm("--config-file", path)
        vmm.await_(lambda: vmm.ok("GET", "/")["state"] == "Running", "running state")
        self.assertEqual(vmm.ok("GET", "/machine-config")["mem_size_mib"], 99)
        vmm.close()
        bad = helper.file("bad.json", json.dumps(dict(config, sideways={})).encode())
        result = self.run_vmm("--config-file", bad, "--no-api")
        self.assertEqual(result.returncode, 152)
        self.assertIn("sideways", result.stderr)

    def test_logger(self):
        vmm = self.vmm()
        log = vmm.folder / "engine.log"
        vmm.ok("PUT", "/logger", {"log_path": str(log), "level": "Debug", "show_level": True})
        vmm.call("PUT", "/evil%0Aline", {})
        text = log.read_text()
        self.assertIn("[vm-1:main:ERROR]", text)
        self.assertTrue(all("[vm-1:main:" in line for line in text.splitlines()))


if __name__ == "__main__":
    tap.main()
