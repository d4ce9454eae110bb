"""Keys stay in the environment: no command line of a run has one, for every user of the machine could read it."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
from evaluation.toolbench.inference.Downstream_tasks.options import make_parser
from evaluation.toolbench.launcher.run_settings import pipeline_flags, settings_of
from tests.helpers.script import SHORT_RUN, ScriptWorld, start_script

KEYS = {"TOOLBENCH_KEY": "secret-of-toolbench", "OPENAI_KEY": "secret-of-openai", "RAPIDAPI_KEY": "secret-of-rapid"}


def test_keys_are_the_environments_and_flags_win(tmp_path, monkeypatch):
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    settings = settings_of(KEYS, tmp_path)
    flags = pipeline_flags(settings, KEYS, settings.query_sets)
    assert "secret" not in str(flags)
    config = RunConfig.of(make_parser().parse_args(flags))
    assert (config.tools.toolbench_key, config.tools.rapidapi_key, config.checkout.openai_key) == (
        KEYS["TOOLBENCH_KEY"],
        KEYS["RAPIDAPI_KEY"],
        KEYS["OPENAI_KEY"],
    )
    given = RunConfig.of(make_parser().parse_args([*flags, "--toolbench_key", "given"]))
    assert given.tools.toolbench_key == "given"


@pytest.mark.slow
def test_no_command_line_of_a_run_has_a_key_and_the_server_gets_its_own(tmp_path):
    keys_sent = set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(405)
            self.end_headers()

        def do_POST(self):
            keys_sent.add(json.loads(self.rfile.read(int(self.headers["content-length"])))["toolbench_key"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"error": "", "response": "fine"}')

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/virtual"
        settings = ScriptWorld(tmp_path).settings(tmp_path / "answers", SERVICE_URL=url, NUM_REPLICAS="2", **KEYS)
        script = start_script(settings, *SHORT_RUN, cwd=tmp_path)
        seen = set()
        while script.poll() is None:
            try:
                run = psutil.Process(script.pid)
                seen |= {" ".join(each.cmdline()) for each in (run, *run.children(recursive=True))}
                time.sleep(0.2)
            except psutil.NoSuchProcess:
                continue
        assert script.returncode == 0, script.communicate()
        server.shutdown()
    assert any("replica 1" in line for line in seen)  # the processes were looked at
    assert not [line for line in seen if "secret" in line]
    assert keys_sent == {KEYS["TOOLBENCH_KEY"]}
    assert not [path for path in (tmp_path / "answers").rglob("*.*") if b"secret-of" in path.read_bytes()]
