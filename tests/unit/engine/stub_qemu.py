#!/usr/bin/python3
"""Stands in for QEMU: its monitor, its exit, one agent's serial port; no guest.

Started by banger-vmm-qemu in tests. The -kernel file is JSON that says how to behave:
fail (text: exit with 1 before the monitor), exit (status after "cont"...), agent ("echo", "closed"), lines (so many
on the console, numbered, 100 bytes each), slow (the command that takes a second), unsaved (its state is not written:
why). A state is the word "stub" and as many bytes as the guest has MiB.
"""

import json
import os
import pathlib
import re
import socket
import struct
import sys
import threading
import time


def option(name, pattern=None):
    for i, word in enumerate(sys.argv):
        if word == name and (pattern is None or re.search(pattern, sys.argv[i + 1])):
            return sys.argv[i + 1]
    return None


def inherited(pattern):
    text = option("-chardev", pattern)
    return socket.socket(fileno=int(re.search(r"fd=(\d+)", text)[1])) if text else None


def beside_the_disk():
    """Where a test keeps what it is to do, for one that is loaded: it is given no kernel."""
    return str(pathlib.Path(json.loads(option("-blockdev", '"filename"'))["filename"]).parent / "kernel")


KERNEL = option("-kernel") or beside_the_disk()
BEHAVIOUR = json.loads(pathlib.Path(KERNEL).read_text())
QMP = inherited(r"id=qmp")
AGENT = inherited(r"id=agentdev")


def say(**message):
    QMP.sendall(json.dumps(message).encode() + b"\r\n")


def set_port(opened):
    say(event="VSERPORT_CHANGE", timestamp={}, data={"id": "agent", "open": opened})


OPEN, DATA, CREDIT, END, CLOSE = range(1, 6)
MAGIC = b"\xb5mux\x01\r\n\xb5"


def exactly(count):
    data = b""
    while len(data) < count:
        piece = AGENT.recv(count - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data


def frame(kind, stream, length=0, payload=b""):
    AGENT.sendall(struct.pack("<BBHI", kind, 0, stream, length) + payload)


def echo():
    """The guest's end of common/mux.h: says back what it hears, of each stream as much as it may."""
    credit, held = {}, {}

    def answer(stream):
        data = held[stream][:min(credit[stream], 32768)]
        if data:
            held[stream] = held[stream][len(data):]
            credit[stream] -= len(data)
            frame(DATA, stream, len(data), data)
            frame(CREDIT, stream, len(data))
            answer(stream)

    while True:
        head = exactly(8)
        if head == MAGIC:
            AGENT.sendall(MAGIC + exactly(8))
            continue
        kind, _, stream, length = struct.unpack("<BBHI", head)
        if kind == OPEN:
            credit[stream], held[stream] = 65536, b""
            frame(CREDIT, stream, 65536)
        elif kind in (END, CLOSE):
            frame(kind, stream)
        elif kind == CREDIT:
            credit[stream] += length
            answer(stream)
        elif kind == DATA:
            data = exactly(length)
            if b"close-port" in data:
                set_port(False)
            elif b"lie" in data:
                frame(9, 9)
            elif b"end-guest" in data:
                say(event="SHUTDOWN", timestamp={}, data={"guest": True, "reason": "guest-reset"})
                os._exit(0)
            elif b"crash" in data:
                os.abort()
            held[stream] += data
            answer(stream)


def memory():
    return int(re.match(r"(\d+)M", option("-m"))[1])


def migrate(command, fd):
    """What a state is to this QEMU. Says so by events, and ends when it cannot read one."""
    if command == "migrate-incoming":
        data = b""
        while chunk := os.read(fd, 65536):
            data += chunk
        if data != b"stub" + b"m" * memory():
            sys.stderr.write("load of migration failed: Invalid argument\n")
            sys.exit(1)
    elif "unsaved" in BEHAVIOUR:
        say(event="MIGRATION", timestamp={}, data={"status": "failed"})
        return
    else:
        os.write(fd, b"stub" + b"m" * memory())
    for status in ("active", "completed"):
        say(event="MIGRATION", timestamp={}, data={"status": status})


def commands():
    """Each command, and the descriptor that came with it or an earlier one."""
    data, held = b"", None
    while True:
        chunk, fds, _, _ = socket.recv_fds(QMP, 65536, 4)
        held = fds[0] if fds else held
        if not chunk:
            return
        data += chunk
        *lines, data = data.split(b"\n")
        for line in lines:
            yield line.decode(), held


def main():
    seen = {"argv": sys.argv, "pid": os.getpid(), "env": dict(os.environ)}
    scratch = pathlib.Path(KERNEL + ".tmp")
    scratch.write_text(json.dumps(seen))
    scratch.rename(KERNEL + ".seen")
    if "fail" in BEHAVIOUR:
        sys.stderr.write(BEHAVIOUR["fail"])
        sys.exit(1)
    for i in range(BEHAVIOUR.get("lines", 0)):
        os.write(1, f"{i:099}\n".encode())
    say(QMP={"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []})
    log = open(KERNEL + ".qmp", "w", encoding="utf-8")
    for line, fd in commands():
        command = json.loads(line)
        print(line.strip(), file=log, flush=True)
        if command["execute"] == BEHAVIOUR.get("slow"):
            time.sleep(1)
        if command["execute"] in BEHAVIOUR.get("refuse", []):
            say(error={"class": "GenericError", "desc": "refused by the stub"})
            continue
        why = {"error-desc": BEHAVIOUR["unsaved"]} if "unsaved" in BEHAVIOUR else {}
        say(**{"return": why if command["execute"] == "query-migrate" else {}})
        if command["execute"] in ("migrate", "migrate-incoming"):
            migrate(command["execute"], fd)
        if command["execute"] == "qmp_capabilities" and AGENT is not None and BEHAVIOUR.get("agent") == "echo":
            threading.Thread(target=echo, daemon=True).start()
            threading.Timer(BEHAVIOUR.get("open_after", 0), set_port, [True]).start()
        if command["execute"] == "send-key" and "exit" in BEHAVIOUR:
            os._exit(BEHAVIOUR["exit"])


if __name__ == "__main__":
    main()
