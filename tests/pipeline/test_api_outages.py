"""An API server that goes away in the middle of a run: what was not answered is no answer, and is run anew."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from evaluation.toolbench.demo import DATA_DIR, MODEL_DIR
from evaluation.toolbench.inference.Downstream_tasks import query_replica, rapidapi_multithread
from evaluation.toolbench.inference.Downstream_tasks.options import parse_options
from evaluation.toolbench.virtual_api.client import ApiClient
from evaluation.toolbench.virtual_api.retry_policy import CallRetryPolicy
from tests.helpers.environment import FORECAST, ScriptedToolGen, calls
from tests.helpers.pipeline import CITIES, ROOT, World, contents, record_nothing, wait_for
from tests.helpers.script import answers, run_script_here, start_script

QUICK = CallRetryPolicy(failures=1, unreachable_s=0.2, first_wait_s=0.01)


class Forecaster(ScriptedToolGen):
    """Asks for the forecast twice, then answers with what it was told."""

    def parse(self, process_id, tools=None, *, functions=None, function_call=None):
        told = [message["content"] for message in self.messages if message["role"] == "tool"]
        if len(told) == 2:
            final = json.dumps({"return_type": "give_answer", "final_answer": " ".join(told)})
            return calls("Finish", final, "Done."), 0, 5
        return calls(FORECAST, json.dumps({"city": self.messages[1]["content"]}), "Look."), 0, 5


class Killing(Forecaster):
    """Ends the server before the run's step of that number, of which each query has three."""

    def __init__(self, server, number, *, before_step):
        super().__init__()
        self._server, self._number, self._steps_left = server, number, itertools.count(before_step, -1)

    def parse(self, process_id, tools=None, **more):
        if next(self._steps_left) == 1:
            self._server.kill(self._number)
        return super().parse(process_id, tools, **more)


class Server:
    """A virtual API server as a process on one port, which can be killed and started again."""

    def __init__(self, folder):
        self.cache = folder / "cache"
        record_nothing(self.cache)
        self.ready = folder / "url"
        self.start(0)
        self.url = self.ready.read_text()

    def start(self, port=None):
        port = self.url.rpartition(":")[2].removesuffix("/virtual") if port is None else port
        command = [sys.executable, "-m", "evaluation.toolbench.virtual_api", "--cache_dir", str(self.cache)]
        self.process = subprocess.Popen(
            [*command, "--port", str(port), "--ready_file", str(self.ready), "--exit_with_parent", str(os.getpid())],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self.ready.exists)

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait()
        self.ready.unlink(missing_ok=True)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def run(tmp_path, server, monkeypatch):
    """Runs all queries with a scripted model into the folder named; its summary."""
    world = World(tmp_path)

    def run(output, model=None, **changes):
        with ApiClient(server.url, retry=QUICK) as client:
            for module in (rapidapi_multithread, query_replica):
                monkeypatch.setattr(module, "api_caller", lambda tools: client)
            monkeypatch.setattr(query_replica, "make_backbone", lambda *_, **__: model or Forecaster())
            changes = {"model_path": world.data, "num_thread": 4, "single_chain_max_step": 16, **changes}
            options = parse_options(world.flags(tmp_path / output, **changes))
            return rapidapi_multithread.pipeline_runner(options).run()

    return run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_query_that_met_no_api_is_a_failure_and_the_next_run_gives_the_undisturbed_answers(
    run, server, tmp_path, number
):
    assert run("undisturbed").now.answered == len(CITIES)

    disturbed = run("disturbed", Killing(server, number, before_step=8), num_thread=1)
    assert (disturbed.exit_code, disturbed.now.answered, disturbed.now.failed) == (1, 2, len(CITIES) - 2)
    failures = json.loads((tmp_path / "disturbed/failures.json").read_text())
    assert {failure["error"] for failure in failures} == {"ApiError"}
    assert all(failure["message"].endswith("; 3 tries of 3") for failure in failures)
    expected = contents(tmp_path / "undisturbed")
    assert {
        name: text for name, text in contents(tmp_path / "disturbed").items() if name != "failures.json"
    }.items() < (expected.items())
    server.start()
    again = run("disturbed")
    assert (again.exit_code, again.now.failed) == (0, 0)
    assert contents(tmp_path / "disturbed") == expected


def test_the_time_of_a_query_is_kept_while_the_server_is_away(run, server, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "QUICK", CallRetryPolicy(unreachable_s=3600))
    started = time.monotonic()
    assert run("answers", Killing(server, signal.SIGKILL, before_step=1), query_timeout=0.5).now.failed == len(CITIES)
    assert time.monotonic() - started < 60
    failures = json.loads((tmp_path / "answers/failures.json").read_text())
    assert {failure["error"] for failure in failures} == {"TimeLimitError"}


@pytest.mark.slow
@pytest.mark.skipif(not (MODEL_DIR / "model.safetensors").is_file(), reason=f"no trained checkpoint in {MODEL_DIR}")
@pytest.mark.timeout(900)
def test_the_demo_gives_its_answers_although_its_api_server_is_killed_again_and_again(tmp_path):
    queries = json.loads((DATA_DIR / "solvable_queries/test_instruction/demo_queries.json").read_text())[:12]
    path = World.write_queries(tmp_path / "some.json", queries)
    flags = ("--input_query_file", str(path))
    undisturbed = run_script_here({"OUTPUT_DIR": str(tmp_path / "a")}, *flags)
    assert undisturbed.returncode == 0, undisturbed.stderr

    script = start_script({"OUTPUT_DIR": str(tmp_path / "b"), "NUM_THREAD": "2"}, *flags, cwd=tmp_path)
    output, killed = tmp_path / "b/demo_queries", set()
    for number_of_answers, number in enumerate([signal.SIGKILL, signal.SIGTERM, signal.SIGKILL], 1):
        wait_for(lambda: len(answers(output)) >= number_of_answers or script.poll() is not None)  # noqa: B023
        wait_for(lambda: _server_of(script, killed) or script.poll() is not None)
        server = _server_of(script, killed)
        if server is not None:
            killed.add(server.pid)
            server.send_signal(number)
    _, stderr = script.communicate(timeout=300)
    assert script.returncode == 0, stderr
    assert stderr.count("The API server is gone: it ") == len(killed) == 3
    assert answers(output) == answers(tmp_path / "a/demo_queries")


def _server_of(script: subprocess.Popen[str], killed: set[int]) -> psutil.Process | None:
    """The API server of a run that has not been killed yet."""
    try:
        children = psutil.Process(script.pid).children()
        return next((each for each in children if each.pid not in killed and "api" in each.cmdline()), None)
    except psutil.NoSuchProcess:
        return None
