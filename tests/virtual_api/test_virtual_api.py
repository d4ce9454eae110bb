"""The virtual API server: the contract's answers over HTTP, and the server as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient

from evaluation.toolbench.virtual_api.app import VirtualApi, make_app
from evaluation.toolbench.virtual_api.cache import ResponseCache
from evaluation.toolbench.virtual_api.client import ApiClient
from evaluation.toolbench.virtual_api.forwarder import Forwarder

ROOT = Path(__file__).parents[2]
REQUEST = {
    "category": "Data",
    "tool_name": "keyword_analysis",
    "api_name": "querykeywords",
    "tool_input": '{\n  "q": "birthday party ideas"\n}',
    "strip": "truncate",
    "toolbench_key": "secret-key",
}
ANSWER = {"error": "", "response": "<b><i>party</i></b>,<b><i>ideas</i></b>,<i>birthday</i>"}
PARSE_ERROR = {"error": "Tool input parse error...\n", "response": ""}
SIX_FIELDS = list(REQUEST)


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """The contract's example of a real exchange."""
    folder = tmp_path / "cache" / "Data" / "keyword_analysis_for_Data"
    folder.mkdir(parents=True)
    (folder / "querykeywords.json").write_text(json.dumps({"{'q': 'birthday party ideas'}": ANSWER}))
    return tmp_path / "cache"


@pytest.fixture
def client(cache_dir: Path) -> Iterator[TestClient]:
    with TestClient(make_app(VirtualApi(ResponseCache(cache_dir)), max_body_bytes=10_000)) as client:
        yield client


@contextmanager
def server_process(
    cache_dir: Path, *more: str, soft_limit_of_files: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A real server on a free port: the process, and the URL it says."""
    ready = cache_dir.parent / f"ready-{time.monotonic_ns()}"
    limited = ["bash", "-c", f'ulimit -Sn {soft_limit_of_files}; exec "$@"', "bash"] if soft_limit_of_files else []
    command = [*limited, sys.executable, "-m", "evaluation.toolbench.virtual_api", "--cache_dir", str(cache_dir)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--ready_file", str(ready), *more], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 300
        while not ready.exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline, "the server did not start within 300 s"
            time.sleep(0.02)
        yield process, ready.read_text()
    finally:
        process.kill()
        process.wait()


def test_the_contracts_real_exchange(client: TestClient) -> None:
    response = client.post("/virtual", json=REQUEST, headers={"toolbench_key": "secret-key"})
    assert response.status_code == 200
    assert response.json() == ANSWER


def test_arguments_may_be_an_object(client: TestClient) -> None:
    assert client.post("/virtual", json={**REQUEST, "tool_input": {"q": "birthday party ideas"}}).json() == ANSWER


@pytest.mark.parametrize("tool_input", ["{", "Paris", "[" * 5000])
def test_arguments_that_are_no_json(client: TestClient, tool_input: str) -> None:
    response = client.post("/virtual", json={**REQUEST, "tool_input": tool_input})
    assert (response.status_code, response.json()) == (200, PARSE_ERROR)


def test_chat_with_user_comes_first(client: TestClient) -> None:
    request = {**REQUEST, "api_name": "chat_with_user", "tool_input": "{"}
    assert client.post("/virtual", json=request).json() == {"error": "", "response": "Chat with user."}


def test_a_miss_is_an_api_error_without_special_meaning(client: TestClient) -> None:
    response = client.post("/virtual", json={**REQUEST, "tool_input": ""})
    assert response.status_code == 200
    assert response.json() == {"error": "No response is recorded for this request.", "response": ""}


@pytest.mark.parametrize("field", SIX_FIELDS)
def test_all_six_fields_are_required_and_the_key_is_not_quoted_back(client: TestClient, field: str) -> None:
    response = client.post("/virtual", json={name: value for name, value in REQUEST.items() if name != field})
    assert response.status_code == 422
    assert response.json()["detail"]
    assert "secret-key" not in response.text


def test_further_fields_are_ignored(client: TestClient) -> None:
    assert client.post("/virtual", json={**REQUEST, "extra": 1}).json() == ANSWER


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/virtual", 405), ("POST", "/", 404), ("GET", "/docs", 404), ("POST", "/virtual/", 404)],
)
def test_nothing_else_is_served(client: TestClient, method: str, path: str, status: int) -> None:
    assert client.request(method, path, follow_redirects=False).status_code == status


def test_large_bodies_are_refused(client: TestClient) -> None:
    response = client.post("/virtual", json={**REQUEST, "tool_input": "x" * 20_000})
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({}, {"x-cache": "HIT"}),
        ({"tool_input": '{"q": "none"}'}, {"x-cache": "MISS"}),
        ({"tool_input": '{"n": 1, "m": 2}'}, {"x-cache": "HIT", "x-cache-match": "fuzzy"}),
        ({"tool_input": "{"}, {}),
        ({"api_name": "chat_with_user"}, {}),
    ],
)
def test_a_header_says_what_the_cache_had(client: TestClient, cache_dir: Path, changes, headers) -> None:
    path = cache_dir / "Data/keyword_analysis_for_Data/querykeywords.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "{'m': 2, 'n': 1}": ANSWER}))
    told = client.post("/virtual", json={**REQUEST, **changes}).headers
    assert {name: told[name] for name in ("x-cache", "x-cache-match") if name in told} == headers


def test_health_counts(client: TestClient) -> None:
    client.post("/virtual", json=REQUEST)
    client.post("/virtual", json={**REQUEST, "tool_input": ""})
    health = client.get("/health").json()
    assert (health["status"], health["requests"], health["hits"], health["misses"]) == ("ok", 2, 1, 1)
    assert health["forwards"] is False


def test_a_path_from_outside_stays_outside(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"{}": {"error": "", "response": "secret"}}')
    for tool in ("../..", "x_for_..", "../secret"):
        response = client.post(
            "/virtual", json={**REQUEST, "category": "..", "tool_name": tool, "api_name": "secret", "tool_input": ""}
        )
        assert "secret" not in response.text


def test_a_miss_is_forwarded_once_and_then_recorded(cache_dir: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with server_process(cache_dir) as (_, url):
        api = VirtualApi(ResponseCache(empty), Forwarder(url, timeout_s=10))
        with TestClient(make_app(api, max_body_bytes=10_000)) as client:
            assert client.post("/virtual", json=REQUEST).json() == ANSWER
            health = client.get("/health").json()
            assert (health["stored"], health["forwards"]) == (1, True)
    with TestClient(make_app(VirtualApi(ResponseCache(empty)), max_body_bytes=10_000)) as client:
        assert client.post("/virtual", json=REQUEST).json() == ANSWER


def test_a_forward_server_that_is_down_is_an_api_error(tmp_path: Path) -> None:
    api = VirtualApi(ResponseCache(tmp_path), Forwarder("http://127.0.0.1:9/virtual", timeout_s=2))
    with TestClient(make_app(api, max_body_bytes=10_000)) as client:
        response = client.post("/virtual", json=REQUEST)
    assert response.status_code == 200
    assert response.json()["error"] == "The API server cannot be reached."
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_listens_on_loopback_and_stops_cleanly(cache_dir: Path, number: signal.Signals) -> None:
    with server_process(cache_dir) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert httpx.post(url, json=REQUEST).json() == ANSWER
        ApiClient(url).check()
        process.send_signal(number)
        assert process.wait(60) == 0
    assert not list(cache_dir.parent.glob("ready-*"))


def test_more_conversations_than_a_process_may_usually_have_files_are_all_answered(cache_dir: Path) -> None:
    """Each keeps its connection. Eight replicas of 128 are as many as the usual limit."""
    with server_process(cache_dir, soft_limit_of_files=50) as (_, url), ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(closing(HTTPConnection(urlsplit(url).netloc, timeout=60)))
            connection.request("GET", "/health")
            assert connection.getresponse().read()


def test_the_process_ends_with_the_one_it_serves(cache_dir: Path) -> None:
    parent = subprocess.Popen(["sleep", "600"])
    with server_process(cache_dir, "--exit_with_parent", str(parent.pid)) as (process, _):
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--cache_dir", "no/such/folder"], "No response cache at no/such/folder"),
        (["--port", "70000"], "--port must be 0"),
        (["--forward_url", "ftp://x", "--cache_dir", "{tmp}"], "--forward_url must start with http"),
        (["--cache_dir", "{tmp}", "--host", "203.0.113.7"], "Cannot listen on 203.0.113.7"),
    ],
)
def test_bad_settings_are_one_clear_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    result = subprocess.run(
        [sys.executable, "-m", "evaluation.toolbench.virtual_api", *filled],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TOOLGEN_TRACEBACK": ""},
    )
    assert result.returncode == 2
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
