"""A Hugging Face Hub on this machine: one model, and knobs for how it answers; and a cache as its client writes it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.helpers.pipeline import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill_cache(home: Path, name: str, source: Path, without: tuple[str, ...] = ()) -> Path:
    """The snapshot of `name` below the HF_HOME `home`, with the files of `source`."""
    model = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    for file in source.iterdir():
        if file.name not in without:
            (snapshot / file.name).symlink_to(file)
    return snapshot


@contextlib.contextmanager
def hub_without_answers() -> Iterator[str]:
    """A server that takes connections and says nothing, as behind a firewall; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class Hub:
    """Serves the files of `source` as the model `name`. `status` answers everything else; `asked` are the paths."""

    def __init__(self, name: str, source: Path) -> None:
        self.name = name
        self.files = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
        self.status = 200
        self.asked: list[str] = []
        self.url = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        if self.status != 200:
            return self.status, {}, b"{}"
        if path.startswith(f"/api/models/{self.name}/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in self.files.items()
            ]
            return 200, {"content-type": "application/json"}, json.dumps(tree).encode()
        if path.startswith(f"/api/models/{self.name}"):
            info = {"id": self.name, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
            return 200, {"content-type": "application/json"}, json.dumps(info).encode()
        name = path.rpartition("/")[2]
        if "/resolve/" in path and name in self.files:
            content = self.files[name]
            etag = hashlib.sha1(content).hexdigest()
            return 200, {"etag": f'"{etag}"', "x-repo-commit": COMMIT}, content
        return 404, {"x-error-code": "EntryNotFound"}, b""


@contextlib.contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = hub.answer(self.path.partition("?")[0])
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def in_another_process(code: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The Hub's client reads its settings when it is imported, so `code` runs in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TOOLGEN_"))}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    environment = {**kept, "HF_HOME": str(home), "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, text=True, capture_output=True, timeout=200
    )
