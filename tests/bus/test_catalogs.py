#!/usr/bin/python3
"""Catalogs by the bus: what there is, what a name becomes, and what is refused.

Run by meson test: alone.py.
"""

import contextlib
import hashlib
import http.server
import json
import os
import threading

import harness
from alone import ERROR, OWNER, ROOT, BusTest

KEY = "RWQVk6x38yb7eNYW6k9tAlJ621jadWK4p81iZWyGtzaHBRHlSrIc1slh"
MINE = {"banger-catalog": 1, "images": [{"name": "bookworm", "source": "debian:sid", "summary": "mine", "size": 5},
                                        {"name": "box", "source": "docker://example.org/box:1"}],
        "kernels": [{"name": "k", "source": "apt:linux-image-amd64"}]}


@contextlib.contextmanager
def served(body):
    """Gives: the address, and what was asked for so far."""
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/team.json", asked
        finally:
            server.shutdown()
            thread.join()


class Catalogs(BusTest):
    def settings(self, text, catalog=None):
        folder = self.daemon.base / "settings" / "banger"
        folder.mkdir(exist_ok=True)
        (folder / "config.toml").write_text("[network]\ndns-port = 0\n" + text, encoding="utf-8")
        (self.daemon.base / "mine.json").write_text(json.dumps(MINE if catalog is None else catalog), encoding="utf-8")
        if ROOT:
            os.chown(folder, OWNER.pw_uid, OWNER.pw_gid)
        return self.call("ReloadConfig", "(a{sv})", ({},))[0]

    def listed(self, kind="Images"):
        entries, problems = self.call(f"ListAvailable{kind}", "(a{sv})", ({},))
        return {row[0]: row[1:] for row in entries}, problems

    def source(self, kind, name):
        return next(v[f"org.banger.{kind}"]["Source"] for v in self.daemon.managed().values()
                    if v.get(f"org.banger.{kind}", {}).get("Name") == name)

    def test_those_that_come_with_banger(self):
        images, problems = self.listed()
        self.assertEqual(problems, [])
        self.assertEqual(images["trixie"][1], "debian:trixie")
        self.assertEqual(images["alpine"][:2], ("registry", "docker://docker.io/library/alpine:latest"))
        self.assertEqual({row[5] for row in images.values()}, {"installed"})
        self.assertEqual({row[6] for row in images.values()}, {""})
        self.call("ImportImage", "(ssa{sv})", ("own", "catalog:trixie", harness.options(wait=True)))
        self.call("ImportKernel", "(ssa{sv})", ("cloud", "catalog:cloud", harness.options(wait=True)))
        self.assertEqual((self.source("Image", "own"), self.source("Kernel", "cloud")), ("debian:trixie", "apt:linux-image-cloud-amd64"))
        self.assertEqual((self.listed()[0]["trixie"][6], self.listed("Kernels")[0]["cloud"][6]), ("own", "cloud"))
        message = self.refused(ERROR + "NoSuchKernel", "ImportKernel", "(ssa{sv})", ("k", "catalog:none", {}))
        self.assertIn("none", message)
        self.assertEqual(self.daemon.names("Kernel"), ["cloud"])

    def test_ones_own_stand_before_and_say_that_they_are_unsigned(self):
        self.assertEqual(self.settings(f'[[catalog]]\nfile = "{self.daemon.base}/mine.json"\n'), [])
        images = self.listed()[0]
        self.assertEqual(images["bookworm"], ("mmdebstrap", "debian:sid", "mine", 5, f"{self.daemon.base}/mine.json", "unsigned", ""))
        self.assertEqual(images["trixie"][5], "installed")
        ear = self.ear()
        job = self.call("ImportImage", "(ssa{sv})", ("b", "catalog:bookworm", {}))[0]
        self.assertEqual(ear.wait("JobRemoved", job)[2][1], "done")
        self.assertIn("unsigned catalog", self.daemon.job(job)["Warnings"][0])
        self.assertEqual(self.source("Image", "b"), "debian:sid")

    def test_one_that_cannot_be_used_is_not_passed_over(self):
        bad = {"banger-catalog": 2}
        for settings, catalog, what in ((f'key = "{KEY}"', MINE, "mine.json.minisig"), ('sha256 = "' + "0" * 64 + '"', MINE, "its digest is"),
                                        ("", bad, "version"), ('key = "x"', MINE, "public key")):
            with self.subTest(what):
                self.settings(f'[[catalog]]\nfile = "{self.daemon.base}/mine.json"\n{settings}\n', catalog)
                images, problems = self.listed()
                self.assertIn("trixie", images)
                self.assertNotIn("box", images)
                self.assertEqual(len(problems), 1)
                self.assertIn(what, problems[0])
                message = self.refused(ERROR + "InvalidCatalog", "ImportImage", "(ssa{sv})", ("i", "catalog:trixie", {}))
                self.assertIn(what, message)
                self.assertEqual(self.daemon.names("Image"), [])
        # What no catalog can be called is a registry's whatever they say; a name of a registry asks none.
        for text in ("debian:trixie", "ghcr.io/a/b"):
            try:
                self.call("ImportImage", "(ssa{sv})", ("r-" + str(len(text)), "catalog:" + text, harness.options(wait=True)))
            except harness.CallError as error:  # no skopeo
                self.assertNotIn("InvalidCatalog", error.name)

    def test_one_that_is_not_what_its_digest_says_is_remembered_until_that_is_mended(self):
        body = json.dumps(MINE).encode()
        self.daemon.stop()
        self.daemon.start(GSETTINGS_BACKEND="memory")  # where the proxies are set, without a home folder
        right, wrong = hashlib.sha256(body).hexdigest(), "0" * 64
        with served(body) as (url, asked):
            self.settings(f'[[catalog]]\nurl = "{url}"\nsha256 = "{wrong}"\n')
            for _ in range(3):
                self.assertIn("its digest is", self.listed()[1][0])
            self.assertEqual(asked, ["/team.json"])
            self.refused(ERROR + "InvalidCatalog", "ImportImage", "(ssa{sv})", ("i", "catalog:box", {}))  # asks once more
            self.assertEqual(len(asked), 2)
            self.settings(f'[[catalog]]\nurl = "{url}"\nsha256 = "{right}"\n')
            images, problems = self.listed()
            self.assertEqual((problems, images["box"][5]), ([], "digest"))
            self.listed()
            self.assertEqual(len(asked), 3)


if __name__ == "__main__":
    harness.main()
