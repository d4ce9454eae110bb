"""The command line with several replicas, each a process with a tiny model: faults from outside, and resuming."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from evaluation.toolbench.inference.records.event_history import read_history
from tests.helpers.pipeline import (
    CITIES,
    ROOT,
    World,
    api_server,
    contents,
    query,
    record_nothing,
    run_here,
    run_pipeline,
    start_pipeline,
    wait_for,
)

pytestmark = pytest.mark.slow

NUM_QUERIES = 40


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    world.make_checkpoint()
    queries = [{**query(i % len(CITIES)), "query_id": i, "query": f"Query {i}: sunny?"} for i in range(NUM_QUERIES)]
    world.queries = world.write_queries(world.data / "many.json", queries)
    return world


@pytest.fixture(scope="module")
def service_url(tmp_path_factory):
    with api_server(tmp_path_factory.mktemp("api")) as url:
        yield url


@pytest.fixture(scope="module")
def undisturbed(world, service_url, tmp_path_factory):
    """The answers of one thread in one process."""
    output = tmp_path_factory.mktemp("undisturbed") / "answers"
    run = run_here(world.flags(output, num_thread=1), service_url)
    assert run.returncode == 0, run.stderr
    answers = contents(output)
    assert len(answers) == NUM_QUERIES
    return answers


def answers_in(output):
    return list(output.glob("*_CoT@1.json"))


def family(run):
    """The run's processes, itself first."""
    return [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_two_replicas_give_the_answers_of_one_and_the_run_is_on_record(world, service_url, undisturbed, tmp_path):
    output = tmp_path / "answers"
    run = run_pipeline(world.flags(output, num_replicas=2, num_thread=6), service_url)
    assert run.returncode == 0, run.stderr
    assert contents(output) == undisturbed
    assert "\x1b" not in run.stderr
    assert "2 replicas share the CPU" in run.stderr.splitlines()[0]  # before anything loads

    record = json.loads((output / "run.json").read_text())
    assert record["status"] == "finished"
    conversations = [replica["num_conversations"] for replica in record["layout"]]
    assert len(conversations) == 2
    assert {6} <= set(conversations) <= {1, 6}  # 1 of a replica that was still loading when all was answered
    assert sum(record["counts"][kind] for kind in ("answered", "gave_up", "no_answer")) == NUM_QUERIES
    assert record["timings_s"]["load"] > 0
    assert record["rates"]["queries_per_min"] == pytest.approx(60 * NUM_QUERIES / record["timings_s"]["run"], rel=0.02)
    assert record["tokens"]["generated"] > 0
    assert record["api"]["calls"] > 0
    sessions = read_history(output).sessions
    assert {session.replica for session in sessions} <= {0, 1}
    assert all(session.has_ended for session in sessions if session.attempts)
    assert sum(len(session.attempts) for session in sessions) == NUM_QUERIES
    assert (output / "report.html").stat().st_size > 10_000
    assert not (output / ".run.lock").exists()


def test_locked_stopped_and_killed_a_run_goes_on_to_the_same_answers(world, service_url, undisturbed, tmp_path):
    output = tmp_path / "answers"
    flags = world.flags(output, num_replicas=2)

    stopped = start_pipeline(flags, service_url)
    wait_for(lambda: answers_in(output))
    processes = family(stopped)
    assert len(processes) == 3
    for process in processes:
        process.suspend()  # so that it does not end meanwhile
    locked_out = run_here(world.flags(output), service_url)
    for process in processes:
        process.resume()
    stopped.send_signal(signal.SIGTERM)
    _, stderr = stopped.communicate(timeout=300)
    assert stopped.returncode == 128 + signal.SIGTERM, stderr
    assert all(map(is_gone, processes))
    assert locked_out.returncode == 2
    assert len(locked_out.stderr.splitlines()) == 1
    assert f"{output} is in use by another run (process {stopped.pid} on " in locked_out.stderr

    killed = start_pipeline(flags, service_url)
    num_answers = len(answers_in(output))
    wait_for(lambda: len(answers_in(output)) > num_answers)
    processes = family(killed)
    killed.kill()
    killed.communicate()
    wait_for(lambda: all(map(is_gone, processes)), seconds=10)
    record = json.loads((output / "run.json").read_text())
    assert record["status"] == "running"
    assert (record["counts"]["queries"], record["counts"]["done_before"]) == (NUM_QUERIES, num_answers)

    assert contents(output).items() < undisturbed.items()  # some are left to do, and every file is whole

    resumed = run_here(world.flags(output, num_thread=16), service_url)
    assert resumed.returncode == 0, resumed.stderr
    assert contents(output) == undisturbed
    assert {path.name for path in output.iterdir() if path.name.startswith(".")} == set()


def test_an_api_server_that_dies_and_comes_back_costs_no_query(world, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    record_nothing(cache := tmp_path / "cache")

    def serve():
        ready = tmp_path / "url"
        command = ["-m", "evaluation.toolbench.virtual_api", "--cache_dir", str(cache), "--port", str(port)]
        server = subprocess.Popen(
            [sys.executable, *command, "--ready_file", str(ready), "--exit_with_parent", str(os.getpid())],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        wait_for(ready.exists)
        ready.unlink()
        return server

    server, output = serve(), tmp_path / "answers"

    def die_and_come_back():
        wait_for(lambda: answers_in(output))
        server.kill()
        server.wait()
        time.sleep(1)
        return serve()

    with ThreadPoolExecutor(1) as pool:
        back = pool.submit(die_and_come_back)
        run = run_here(world.flags(output, num_thread=4), f"http://127.0.0.1:{port}/virtual")
    back.result().kill()
    back.result().wait()
    assert run.returncode == 0, run.stderr
    assert len(answers_in(output)) == NUM_QUERIES


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_becomes_read_only_ends_the_run_in_one_line(world, service_url, undisturbed, tmp_path):
    output = tmp_path / "answers"
    run = start_pipeline(world.flags(output), service_url)
    wait_for(lambda: answers_in(output))
    output.chmod(0o555)
    try:
        _, stderr = run.communicate(timeout=300)
    finally:
        output.chmod(0o755)
    assert run.returncode == 2
    assert f"cannot write {output}" in stderr.splitlines()[-1]
    assert run_here(world.flags(output), service_url).returncode == 0
    assert contents(output) == undisturbed
