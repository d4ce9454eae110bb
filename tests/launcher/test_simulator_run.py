"""A simulator through the main script: the demo with a response cache that lacks half of its APIs."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import psutil
import pytest

from evaluation.toolbench.demo import DATA_DIR
from evaluation.toolbench.inference.run_report.report import report_data
from evaluation.toolbench.launcher.run import main
from tests.helpers.fake_generation_server import running
from tests.helpers.fake_simulator import FakeSimulator
from tests.helpers.script import run_script_here, start_script

KEY = "secret-of-the-simulator"
QUERIES = ("--limit", "8")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The demo's cache without every second file."""
    cache = shutil.copytree(DATA_DIR / "tool_response_cache", tmp_path / "cache")
    for path in sorted(cache.rglob("*.json"))[::2]:
        path.unlink()
    return cache


def settings(cache: Path, output: str, url: str, **more: str) -> dict[str, str]:
    told = {"OUTPUT_DIR": str(cache.parent / output), "API_CACHE_DIR": str(cache), "CUDA_VISIBLE_DEVICES": ""}
    return {**told, "SIMULATOR_URL": url, "SIMULATOR_API_KEY": KEY, **more}


def answers(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*_CoT@1.json")}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_is_simulated_where_nothing_is_recorded_and_again_without_asking(cache: Path, tmp_path: Path) -> None:
    recorded = {path: path.read_bytes() for path in cache.rglob("*.json")}
    kept = tmp_path / "kept"
    with running(FakeSimulator(api_key=KEY)) as fake:
        script = start_script(settings(cache, "one", fake.url, SIMULATED_DIR=str(kept)), *QUERIES, cwd=tmp_path)
        seen = set()
        while script.poll() is None:
            try:
                run = psutil.Process(script.pid)
                seen |= {" ".join(each.cmdline()) for each in (run, *run.children(recursive=True))}
                time.sleep(0.2)
            except psutil.NoSuchProcess:
                continue
        assert script.returncode == 0, script.communicate()
        num_asked = len(fake.requests)
        assert num_asked > 0
        record = json.loads((tmp_path / "one/demo_queries/run.json").read_text())
        api = record["api"]
        assert api["hits"] + api["simulated"] + api["not_recorded"] > 0
        assert api["simulated"] >= num_asked, "equal calls of several queries are asked once"
        assert record["settings"]["simulator"].startswith("fake-mirror (prompt ")
        assert "answered by the simulator" in report_data(tmp_path / "one/demo_queries")["summary"]["simulated"]
        assert "answered by the simulator" in " ".join(script.stdout.read().split())

        fake.replies = lambda _: '{"error": "", "response": "another mood"}'
        again = run_script_here(settings(cache, "two", fake.url, SIMULATED_DIR=str(kept)), *QUERIES)
        assert again.returncode == 0, again.stderr
        assert len(fake.requests) == num_asked
        assert answers(tmp_path / "two") == answers(tmp_path / "one")

        other = {**settings(cache, "one", fake.url), "SIMULATOR_URL": "", "SIMULATED_DIR": str(kept)}
        mixed = run_script_here(other, "--limit", "9")
        assert mixed.returncode == 2
        assert "simulator: fake-mirror" in mixed.stderr

    assert any(" api " in line for line in seen)  # the server's command line was looked at
    assert not [line for line in seen if KEY in line]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert {path: path.read_bytes() for path in cache.rglob("*.json")} == recorded

    dry = run_script_here(settings(cache, "three", "http://127.0.0.1:9/v1"), "--dry_run")
    assert dry.returncode == 1
    [line] = [line for line in dry.stdout.splitlines() if line.startswith("API replies")]
    assert "FAIL  the simulator at http://127.0.0.1:9/v1 cannot be reached: connection refused" in line
    refused = run_script_here(settings(cache, "three", "http://127.0.0.1:9/v1"), *QUERIES)
    assert refused.returncode == 2
    assert (
        refused.stderr.strip().splitlines()[-1].startswith("the simulator at http://127.0.0.1:9/v1 cannot be reached")
    )
    assert not answers(tmp_path / "three")


def test_a_simulator_and_a_server_of_ones_own_are_not_both_for_a_run(monkeypatch, capsys) -> None:
    monkeypatch.setenv("SIMULATOR_URL", "http://localhost:8000/v1")
    monkeypatch.setenv("SERVICE_URL", "http://localhost:8080/virtual")
    assert main(["--limit", "1"]) == 2
    assert "SERVICE_URL names another: unset one of them" in capsys.readouterr().err.splitlines()[-1]
