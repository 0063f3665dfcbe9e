"""A registry of the host's own on loopback, with a certificate and a password, and roads to it that fail.

Used by test_pull.py. Debian's docker-registry answers; what a registry says once in a year says a stand-in in front of it.
"""

import contextlib
import crypt
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
import http.server

NAME, PASSWORD = "anna", "a b:c"


def missing():
    return next((name for name in ("docker-registry", "skopeo", "openssl") if not shutil.which(name)), None)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Registry:
    def __init__(self, folder):
        self.folder, self.port = pathlib.Path(folder), free_port()
        self.home = self.folder / "home"
        self.key, self.cert = self.folder / "key.pem", self.folder / "cert.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                        "subjectAltName=IP:127.0.0.1", "-keyout", self.key, "-out", self.cert], check=True, capture_output=True)
        salt = crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << 4)
        (self.folder / "htpasswd").write_text(f"{NAME}:{crypt.crypt(PASSWORD, salt)}\n", encoding="utf-8")
        (self.folder / "config.yml").write_text(f"""
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {self.folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: '127.0.0.1:{self.port}', secret: s, tls: {{certificate: {self.cert}, key: {self.key}}}}}
auth: {{htpasswd: {{realm: r, path: {self.folder}/htpasswd}}}}
""", encoding="utf-8")
        self.trust(self.port)
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", self.folder / "config.yml"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.wait()
        self.login(self.port)

    def wait(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self):
        self.process.kill()
        self.process.wait()

    def trust(self, port):
        where = self.home / f".config/containers/certs.d/127.0.0.1:{port}"
        where.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.cert, where / "ca.crt")

    def env(self, auth="auth.json", home=None, **more):
        return {**os.environ, **more, "HOME": str(home or self.home), "REGISTRY_AUTH_FILE": str(self.folder / auth), "XDG_RUNTIME_DIR": str(self.folder)}

    def login(self, port):
        subprocess.run(["skopeo", "login", "-u", NAME, "-p", PASSWORD, f"127.0.0.1:{port}"], check=True, capture_output=True, env=self.env())

    def push(self, layout, name, *options):
        subprocess.run(["skopeo", "copy", "--quiet", *options, f"oci:{layout}", f"docker://127.0.0.1:{self.port}/{name}"], check=True,
                       capture_output=True, env=self.env())

    def blob(self, digest):
        hexes = digest.split(":")[1]
        return self.folder / f"data/docker/registry/v2/blobs/sha256/{hexes[:2]}/{hexes}/data"


class Stand(http.server.BaseHTTPRequestHandler):
    """The first part of a name says what is answered."""

    def do_GET(self):
        if self.path.startswith("/v2/loop/"):
            self.send_response(307)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status = {"busy": 429, "forbidden": 403, "broken": 500}.get(self.path.split("/")[2], 200)
        if self.path == "/v2/":
            status = 200
        body = b'{"errors": [{"code": "%s", "message": "of the stand-in"}]}' % {429: b"TOOMANYREQUESTS", 403: b"DENIED"}.get(status, b"UNKNOWN")
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass


def stand_in(registry):
    """Returns: the server; its port is trusted."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stand)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(registry.cert, registry.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    registry.trust(server.server_port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Relay:
    """Passes bytes on to the registry, and after @limit of its answers' it cuts. @rate: so many a second."""

    def __init__(self, registry, limit, rate=None):
        self.limit, self.rate, self.to = limit, rate, registry.port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock, self.ends = threading.Lock(), []
        registry.trust(self.port)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, server = self.listener.accept()[0], socket.create_connection(("127.0.0.1", self.to))
                self.ends += [client, server]
                threading.Thread(target=self.copy, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self.copy, args=(server, client, True), daemon=True).start()

    def spend(self, count):
        with self.lock:
            self.limit -= count
            return self.limit >= 0

    def copy(self, source, target, counted):
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                if counted and not self.spend(len(data)):
                    break
                if counted and self.rate:
                    time.sleep(len(data) / self.rate)
                target.sendall(data)
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        for end in (self.listener, *self.ends):
            end.close()
