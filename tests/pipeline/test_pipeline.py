"""The command line as a person uses it: real processes, a tiny model with random weights, a real API server."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from evaluation.toolbench.inference.run.interruption import STOPPING
from tests.helpers.pipeline import (
    ROOT,
    SCRIPT,
    TOKENS,
    World,
    api_server,
    contents,
    query,
    run_here,
    run_pipeline,
    start_pipeline,
    wait_for,
)
from tests.helpers.toolgen import save_tiny_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    world.make_checkpoint()
    return world


@pytest.fixture(scope="module")
def service_url(tmp_path_factory):
    with api_server(tmp_path_factory.mktemp("api")) as url:
        yield url


@pytest.fixture(scope="module")
def undisturbed(world, service_url, tmp_path_factory):
    """A folder of answers that one thread wrote, and what the run printed."""
    output = tmp_path_factory.mktemp("undisturbed") / "answers"
    return output, run_pipeline(world.flags(output, num_thread=1), service_url)


def test_every_query_becomes_an_answer_file_and_a_table_says_so(world, undisturbed):
    output, run = undisturbed
    assert run.returncode == 0, run.stderr
    assert world.answer_names(output) == world.all_answers
    for name in world.all_answers:
        record = json.loads((output / name).read_text())
        assert list(record) == ["win", "try_count", "trys", "compare_candidates", "forward_args", "answer_generation"]
        assert "function" not in record["answer_generation"]
    assert "queries" in run.stdout
    assert "tokens/s" in run.stdout
    assert f"Answers: {output}" in run.stdout
    assert "9 queries to run" in run.stderr  # no bar where there is no terminal


def test_eight_threads_give_the_answers_of_one(world, service_url, undisturbed, tmp_path):
    run = run_here(world.flags(tmp_path / "answers", num_thread=8), service_url)
    assert run.returncode == 0, run.stderr
    expected = contents(undisturbed[0])
    assert contents(tmp_path / "answers") == expected
    assert len(set(expected.values())) == len(expected)  # no two conversations look alike


def test_a_second_run_does_nothing_and_says_so_without_a_model_or_a_server(world, undisturbed, tmp_path):
    output = shutil.copytree(undisturbed[0], tmp_path / "answers")
    run = run_pipeline(world.flags(output), "http://127.0.0.1:9/virtual")
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == f"Nothing to do: all 9 queries are answered in {output}"
    assert contents(output) == contents(undisturbed[0])


@pytest.mark.long  # tests/scripts/test_main_script.py has the same of the main command
def test_a_run_that_is_stopped_and_killed_goes_on_to_the_same_answers(world, service_url, undisturbed, tmp_path):
    output = tmp_path / "answers"
    flags = world.flags(output, num_thread=2)
    stopped = start_pipeline(flags, service_url)
    wait_for(lambda: list(output.glob("*_CoT@1.json")))
    stopped.send_signal(signal.SIGINT)
    stdout, stderr = stopped.communicate(timeout=300)
    assert stopped.returncode == 130, stderr
    assert STOPPING in stderr
    assert "queries are left" in stdout
    num_answers = len(world.answer_names(output))

    killed = start_pipeline(flags, service_url)
    wait_for(lambda: len(list(output.glob("*_CoT@1.json"))) > num_answers)
    killed.kill()
    killed.communicate()
    assert world.answer_names(output) & world.all_answers < world.all_answers

    assert run_here(flags, service_url).returncode == 0
    assert contents(output) == contents(undisturbed[0])


def test_a_run_ends_with_the_process_that_wanted_it(world, service_url, tmp_path):
    parent = subprocess.Popen(["sleep", "60"])
    flags = world.flags(tmp_path / "answers", exit_with_parent=parent.pid)
    run = start_pipeline(flags, service_url)
    time.sleep(0.2)
    parent.kill()
    parent.wait()
    run.communicate(timeout=300)
    assert run.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_dfs_writes_its_tree(world, service_url, tmp_path):
    queries = world.write_queries(tmp_path / "queries.json", [query(0), query(1)])
    flags = world.flags(tmp_path / "answers", method="DFS_woFilter_w2", input_query_file=queries)
    run = run_here(flags, service_url)
    assert run.returncode == 0, run.stderr
    record = json.loads((tmp_path / "answers" / "1_DFS_woFilter_w2.json").read_text())
    assert list(record) == ["win", "tree", "forward_args", "compare_candidates", "answer_generation"]
    assert record["tree"]["size"] > 6


def test_a_full_disk_ends_the_run_in_one_line_and_keeps_what_was_written(world, service_url, undisturbed, tmp_path):
    """The limit on the size of files stands in for the disk: the same system call fails."""
    output = tmp_path / "answers"
    output.mkdir()
    kept = shutil.copy(undisturbed[0] / "3_CoT@1.json", output)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        run = run_here(world.flags(output, num_thread=2), service_url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run.returncode == 2
    assert f"cannot write {output}" in run.stderr.splitlines()[-1]
    assert world.answer_names(output) == {os.path.basename(kept)}


def test_a_tool_that_is_not_known_fails_its_query_and_no_other(world, service_url, caplog, tmp_path):
    unknown = [{"category_name": "Weather", "tool_name": "Tea Leaves", "api_name": "Read"}]
    queries = world.write_queries(tmp_path / "queries.json", [query(0), query(1, api_list=unknown)])
    output = tmp_path / "answers"
    assert run_here(world.flags(output, input_query_file=queries), service_url).returncode == 1
    assert world.answer_names(output) == {"0_CoT@1.json", "failures.json"}
    [failure] = json.loads((output / "failures.json").read_text())
    assert (failure["id"], failure["error"]) == ("1", "DataError")
    assert "Tea Leaves" in failure["message"]
    assert "query 1 failed" in caplog.text


def test_an_entry_that_is_no_query_fails_and_no_other(world, service_url, tmp_path):
    halved = query(0, query="Is it sunny in Paris \ud83d?")  # an emoji cut in two, as scraped texts have them
    queries = world.write_queries(tmp_path / "queries.json", [halved, 5, {"query_id": 7}, query(0)])
    output = tmp_path / "answers"
    for _ in range(2):  # and again on the next run
        assert run_here(world.flags(output, input_query_file=queries), service_url).returncode == 1
        assert world.answer_names(output) == {"0_CoT@1.json", "failures.json"}
        failures = {failure["id"]: failure for failure in json.loads((output / "failures.json").read_text())}
        assert set(failures) == {"entry-1", "7", "entry-3"}
        assert "entry 1 is a int" in failures["entry-1"]["message"]
    [answer] = [json.loads(path.read_text()) for path in output.glob("*_CoT@1.json")]
    assert answer["answer_generation"]["query"] == halved["query"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["0_CoT@1.json", "failures.json", "events-0.jsonl", ".run.lock"])
def test_a_pipe_where_a_record_belongs_ends_the_run_in_one_line(world, service_url, tmp_path, name):
    output = tmp_path / "answers"
    output.mkdir()
    os.mkfifo(output / name)
    run = run_here(world.flags(output), service_url)
    assert run.returncode == 2, run.stderr
    assert f"{output / name}: it is a pipe or a device, not a file" in run.stderr.splitlines()[-1]


def test_a_pipe_in_place_of_the_runs_record_is_replaced(world, service_url, tmp_path):
    output = tmp_path / "answers"
    output.mkdir()
    os.mkfifo(output / "run.json")
    assert run_here(world.flags(output), service_url).returncode == 0
    assert json.loads((output / "run.json").read_text())["status"] == "finished"


def test_a_model_that_never_ends_its_texts_is_told_of_once(undisturbed):
    """The tiny model draws at random among its tokens, and hardly ever its end token."""
    output, run = undisturbed
    [line] = [line for line in run.stderr.splitlines() if "of the model's texts" in line]
    tokens = json.loads((output / "run.json").read_text())["tokens"]
    assert tokens["cut"] > tokens["texts"] / 2
    assert "did not end by themselves" in line
    assert "did not end by themselves" in (output / "report.html").read_text()


@pytest.mark.slow
def test_shards_of_a_job_array_share_a_folder_and_are_one_run_together(world, service_url, undisturbed, tmp_path):
    output = tmp_path / "answers"
    first = start_pipeline(world.flags(output, shard="1/2"), service_url)
    wait_for(lambda: (output / "events-1of2-0.jsonl").exists() or first.poll() is not None)
    second = run_here(world.flags(output, shard="2/2"), service_url)
    assert second.returncode == 0, second.stderr
    stderr = first.communicate(timeout=300)[1]
    assert first.returncode == 0, stderr
    assert world.all_answers <= world.answer_names(output)
    assert contents(output) == contents(undisturbed[0])
    records = [json.loads((output / f"run-{number}of2.json").read_text()) for number in (1, 2)]
    assert [record["counts"]["queries"] for record in records] == [5, 4]
    assert {path.name for path in output.glob("events-*")} == {"events-1of2-0.jsonl", "events-2of2-0.jsonl"}
    assert run_here(world.flags(output), service_url).returncode == 0  # the whole run has nothing left to do
    assert not (output / "run.json").exists()


NO_SERVER = {"engine": "server", "engine_url": "http://127.0.0.1:1/v1"}  # nothing listens on that port
BAD_INPUT = {
    "no such model folder": ({"model_path": "/no/such/model"}, "no model folder at /no/such/model"),
    "unknown template": ({"template": "vicuna"}, "unknown template 'vicuna'"),
    "unknown indexing": ({"indexing": "Alphabetic", "backbone_model": "toolgen"}, "unknown --indexing 'Alphabetic'"),
    "unknown method": ({"method": "Reflexion@2"}, "unknown --method 'Reflexion@2'"),
    "method without a number": ({"method": "CoT"}, "unknown --method 'CoT'"),
    "no query file": ({"input_query_file": "/no/queries.json"}, "cannot read the queries file /no/queries.json"),
    "queries not named": ({"input_query_file": None}, "pass --input_query_file"),
    "answers not named": ({"output_answer_file": None}, "pass --output_answer_file"),
    "no tools": ({"data_dir": "/no/data"}, "no tool folder /no/data/toolenv/tools"),
    "no retriever": ({"function_provider": "retriever"}, "needs --retrieval_model_path"),
    "a folder that cannot be made": ({"output_answer_file": "/proc/answers"}, "cannot write /proc/answers"),
    "no replica": ({"num_replicas": 0}, "'0' is not auto or a number of at least 1"),
    "fewer than no replicas": ({"num_replicas": -2}, "'-2' is not auto or a number of at least 1"),
    "replicas of a server": ({**NO_SERVER, "num_replicas": 2}, "--num_replicas 2: the server has the model"),
    "no time": ({"replica_timeout": 0}, "'0' is not a number of seconds above 0"),
    "no number of threads": ({"num_thread": "many"}, "'many' is not auto or a number of at least 1"),
    "a server without its URL": ({"engine": "server"}, "no generation server: pass --engine_url http://HOST:8000/v1"),
    "a URL without its engine": ({"engine_url": "http://localhost:1/v1"}, "--engine_url is for --engine server"),
    "a server's URL that is none": ({"engine": "server", "engine_url": "localhost:1"}, "like http://localhost:8000/v1"),
    "a wait that is cut short": ({**NO_SERVER, "engine_wait": 600}, "--engine_wait 600 is part of --generation"),
    "a backbone of the checkout": ({"backbone_model": "toolllama"}, "is part of a ToolGen checkout"),
}


NEED_TORCH = ("replicas of a server", "a backbone of the checkout")  # to be found out: not in a process of their own


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(world, service_url, tmp_path, case):
    changes, message = BAD_INPUT[case]
    start = run_here if case in NEED_TORCH else run_pipeline
    run = start(world.flags(tmp_path / "answers", **changes), service_url)
    assert run.returncode == 2, run.stderr
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert run.stdout == ""


BAD_QUERIES = {
    "not JSON": ("[{", "is not JSON"),
    "not a list": ('{"queries": []}', "holds a dict, not a list"),
    "no text": ('[{"query_id": 5}]', "query 5 (entry 0) has no text under the key 'query'"),
    "an API without a tool": (
        '[{"query_id": 6, "query": "?", "api_list": [{"category_name": "Food", "api_name": "x"}]}]',
        "query 6 (entry 0): api_list entry 0 has no 'tool_name'",
    ),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
def test_a_query_file_that_is_wrong_is_named_with_the_query_and_the_key(world, tmp_path, case):
    text, message = BAD_QUERIES[case]
    queries = tmp_path / "queries.json"
    queries.write_text(text)
    run = run_pipeline(world.flags(tmp_path / "answers", input_query_file=queries), None)
    assert run.returncode == 2
    assert message in run.stderr
    assert str(queries) in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_no_server_is_one_line_before_anything_is_loaded_or_overwritten(world, undisturbed, tmp_path):
    output = shutil.copytree(undisturbed[0], tmp_path / "answers")
    run = run_pipeline(world.flags(output, overwrite=True), "http://127.0.0.1:9/virtual")
    assert run.returncode == 2
    assert "No virtual API server at http://127.0.0.1:9/virtual" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert contents(output) == contents(undisturbed[0])


@pytest.mark.parametrize(
    ("tokens", "vocab_size", "message"),
    [((), None, "the tokenizer lacks 4 of the 4 tool tokens"), (TOKENS, 300, "the model's embedding has 300 rows")],
    ids=["a tokenizer without the tool tokens", "a tool token beyond the embedding"],
)
def test_a_checkpoint_that_does_not_know_the_tools_is_refused(
    world, service_url, tmp_path, tokens, vocab_size, message
):
    model = save_tiny_checkpoint(tmp_path / "model", tokens, vocab_size=vocab_size)
    run = run_here(world.flags(tmp_path / "answers", model_path=model), service_url)
    assert run.returncode == 2
    assert message in run.stderr.splitlines()[-1]
    assert world.answer_names(tmp_path / "answers") == set()


def test_help_explains_every_flag_and_needs_no_torch():
    code = (
        "import sys, runpy; sys.argv = ['qa', '--help']\n"
        "try: runpy.run_path(sys.path.pop(), run_name='__main__')\n"
        "except SystemExit: print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    code = f"import sys; sys.path.append({str(SCRIPT)!r})\n{code}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.splitlines()[-1] == "False False"
    for flag in ("--num_gpus", "--max_gpu_memory", "--num_replicas", "--engine", "--seed", "--chatgpt_model"):
        assert flag in run.stdout


def test_a_run_in_which_everything_fails_ends_after_a_while_and_says_why(world, service_url, caplog, tmp_path):
    flags = world.flags(tmp_path / "answers", num_thread=1, generation_timeout=0.001, fail_after=3)
    run = run_here(flags, service_url)
    assert run.returncode == 1
    assert "3 queries in a row have failed, so the run ends here (--fail_after 3; 0 goes on" in run.stderr
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([line for line in warnings if line.startswith("query ")]) == 1
    assert " x TimeLimitError: " in run.stdout
    assert "queries are left" in run.stdout
