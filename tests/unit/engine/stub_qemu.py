#!/usr/bin/python3
"""Stands in for QEMU: its monitor, its exit, one agent's serial port; no guest.

Started by banger-vmm-qemu in tests. The -kernel file is JSON that says how to behave:
fail (text: exit with 1 before the monitor), exit (status after "cont"...), agent ("echo", "closed"), lines (so many
on the console, numbered, 100 bytes each), slow (the command that takes a second).
"""

import json
import os
import pathlib
import re
import socket
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


KERNEL = option("-kernel")
BEHAVIOUR = json.loads(pathlib.Path(KERNEL).read_text())
QMP = inherited(r"id=qmp")
AGENT = inherited(r"id=agentdev")


def say(**message):
    QMP.sendall(json.dumps(message).encode() + b"\r\n")


def set_port(opened):
    say(event="VSERPORT_CHANGE", timestamp={}, data={"id": "agent", "open": opened})


def echo():
    while data := AGENT.recv(4096):
        if b"close-port" in data:
            set_port(False)
            continue
        if b"end-guest" in data:
            say(event="SHUTDOWN", timestamp={}, data={"guest": True, "reason": "guest-reset"})
            os._exit(0)
        if b"crash" in data:
            os.abort()
        AGENT.sendall(b"echo:" + data)


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
    for line in QMP.makefile("r"):
        command = json.loads(line)
        print(line.strip(), file=log, flush=True)
        if command["execute"] == BEHAVIOUR.get("slow"):
            time.sleep(1)
        if command["execute"] in BEHAVIOUR.get("refuse", []):
            say(error={"class": "GenericError", "desc": "refused by the stub"})
            continue
        say(**{"return": {}})
        if command["execute"] == "qmp_capabilities" and AGENT is not None and BEHAVIOUR.get("agent") == "echo":
            threading.Thread(target=echo, daemon=True).start()
            threading.Timer(BEHAVIOUR.get("open_after", 0), set_port, [True]).start()
        if command["execute"] == "send-key" and "exit" in BEHAVIOUR:
            os._exit(BEHAVIOUR["exit"])


if __name__ == "__main__":
    main()
