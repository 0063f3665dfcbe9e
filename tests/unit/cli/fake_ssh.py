#!/usr/bin/python3
"""What ssh and sshd do to a command line, without a network: joins the words, hands them to `sh -c`.

Found as `ssh` on PATH by the Python tests. FAKE_SSH_LOG takes its argv; the guest's binary is FAKE_GUEST. Never
does more than the log lines that banger reads."""
import json
import os
import signal
import subprocess
import sys

GUEST = "/run/banger/guest"
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def main():
    argv = sys.argv[1:]
    with open(os.environ["FAKE_SSH_LOG"], "a", encoding="utf-8") as file:
        print(json.dumps(argv), file=file)
    log = open(argv[argv.index("-E") + 1], "a", encoding="utf-8")
    target = next(i for i, word in enumerate(argv) if "@10." in word)
    line = " ".join(argv[target + 1:]).replace(GUEST, os.environ.get("FAKE_GUEST", GUEST), 1)
    if os.environ.get("FAKE_SSH_REFUSE"):
        print("ssh: connect to host 10.213.0.5 port 22: Connection refused", file=log)
        return 255
    print("debug1: clientloop.c:client_loop():1290 (pid=1): Entering interactive session.", file=log, flush=True)
    # held back until there is a child to end: a signal in between would leave it running
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    child = subprocess.Popen(["sh", "-c", line or "true"], start_new_session=True,
                             preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING))
    for number in ENDING:
        signal.signal(number, lambda *a: (os.killpg(child.pid, signal.SIGKILL), os._exit(255)))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    status = child.wait()
    if os.environ.get("FAKE_SSH_LOSE"):
        print("client_loop: send disconnect: Broken pipe", file=log)
        return 255
    if status < 0:
        print("debug1: clientloop.c:client_input_channel_req():1821 (pid=1): channel 0 rtype exit-signal reply 0", file=log)
        return 255
    print(f"debug1: clientloop.c:client_loop():1531 (pid=1): Exit status {status}", file=log, flush=True)
    return status


sys.exit(main())
