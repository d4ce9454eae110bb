"""What was broken in ToolGen's run over a query file stays mended. D<n>: the number of the defect."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest
import torch

from evaluation.toolbench.inference.Downstream_tasks import (
    backbones,
    rapidapi_multithread,
)
from evaluation.toolbench.inference.Downstream_tasks.api_caller import service_url
from evaluation.toolbench.inference.Downstream_tasks.options import parse_options
from evaluation.toolbench.inference.Downstream_tasks.seeding import seed_everything
from evaluation.toolbench.inference.errors import ConfigError, EngineStoppedError, OutputError
from evaluation.toolbench.inference.records.answers import AnswerFolder
from evaluation.toolbench.inference.records.lock import RunLock
from evaluation.toolbench.inference.records.run_record import Counts, read_run_record
from evaluation.toolbench.inference.run import over_replicas
from tests.helpers.environment import ANSWER, FORECAST, FewSteps, ScriptedModel, calls
from tests.helpers.pipeline import CITIES, ROOT, SCRIPT, query, wait_for


class ForQuery(FewSteps):
    """Gives every query a sibling, as the ToolGen agents do."""

    siblings: list

    def for_query(self, query_id: str):
        sibling = FewSteps(self.failing)
        sibling.finish_query = lambda: self.siblings.append(query_id)
        return sibling


def final_answers(world, output):
    return {
        i: json.loads((output / f"{i}_CoT@1.json").read_text())["answer_generation"]["final_answer"]
        for i in range(len(CITIES))
    }


def test_d2_one_failing_query_does_not_end_the_run_and_is_tried_again(world, runner_of, tmp_path):
    summary = runner_of(FewSteps(failing="Oslo"), num_thread=4).run()
    assert (summary.now.answered, summary.now.failed, summary.exit_code) == (len(CITIES) - 1, 1, 1)
    [failure] = json.loads((tmp_path / "answers" / "failures.json").read_text())
    assert (failure["id"], failure["error"]) == ("1", "KeyError")
    assert "in parse" in failure["traceback"]
    again = runner_of(FewSteps()).run()
    assert (again.earlier.answered, again.now.answered, again.exit_code) == (len(CITIES) - 1, 1, 0)
    assert world.answer_names(tmp_path / "answers") == world.all_answers


def test_d2_what_every_query_would_meet_ends_the_run(runner_of, monkeypatch):
    begun = []

    def full(self, query_id, record):
        begun.append(query_id)
        raise OutputError("the disk is full")

    runner = runner_of(FewSteps(), num_thread=2)
    monkeypatch.setattr(AnswerFolder, "write", full)
    with pytest.raises(OutputError, match="the disk is full"):
        runner.run()
    assert 0 < len(begun) < len(CITIES)


def test_d5_a_partial_answer_is_done_again(runner_of, tmp_path):
    runner_of(FewSteps()).run()
    answer = tmp_path / "answers" / "3_CoT@1.json"
    whole = answer.read_bytes()
    answer.write_bytes(whole[: len(whole) // 2])
    assert runner_of(FewSteps()).run().now.answered == 1
    assert answer.read_bytes() == whole


@pytest.mark.parametrize("provider", ["truth", "all"])
def test_d6_toolgen_runs_with_the_querys_own_functions(runner_of, provider):
    summary = runner_of(FewSteps(), function_provider=provider).run()
    assert summary.now.answered == len(CITIES)


def test_d6_a_retriever_that_is_not_named_is_a_clear_error(world, tmp_path):
    with pytest.raises(ConfigError, match="--retrieval_model_path"):
        parse_options(world.flags(tmp_path / "answers", function_provider="retriever"))


@pytest.mark.parametrize("name", ["a b", "*", "x; touch pwned; #", "$(touch pwned)", "-rf"])
def test_d7_overwrite_takes_this_runs_answers_and_nothing_else(world, runner_of, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / name
    runner_of(FewSteps(failing="Oslo"), output).run()
    others = ["999_CoT@1.json", "1_DFS_w2.json", "notes.txt"]
    for other in others:
        (output / other).write_text("{}")
    before = sorted(tmp_path.iterdir())
    summary = runner_of(FewSteps(), output, overwrite=True).run()
    assert (summary.earlier.total, summary.now.answered) == (0, len(CITIES))
    assert world.answer_names(output) == world.all_answers | set(others)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", [FewSteps, ForQuery])
def test_d13_conversations_do_not_mix(world, runner_of, tmp_path, kind):
    model = kind()
    model.siblings = []
    runner_of(model, num_thread=8).run()
    for i, answer in final_answers(world, tmp_path / "answers").items():
        assert CITIES[i] in answer
    if kind is ForQuery:
        assert sorted(model.siblings) == sorted(str(i) for i in range(len(CITIES)))


def test_d16_a_query_with_an_unknown_tool_is_a_failure_and_not_dropped(world, runner_of, tmp_path):
    unknown = [{"category_name": "Weather", "tool_name": "Tea Leaves", "api_name": "Read"}]
    queries = [query(0, api_list=unknown), *(query(number) for number in range(1, 6))]
    runner = runner_of(FewSteps(), input_query_file=world.write_queries(tmp_path / "six.json", queries))
    assert "".join(task[2] for task in runner.task_list) == "42351" + "0"  # as if the first one were not there
    summary = runner.run()
    assert (summary.num_queries, summary.now.answered, summary.now.failed) == (6, 5, 1)


@pytest.mark.parametrize("output", ["out", "new/folders/out"])
def test_d17_any_relative_folder_is_made(world, runner_of, tmp_path, monkeypatch, output):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    runner_of(FewSteps(), output).run()
    assert world.answer_names(tmp_path / "here" / output) == world.all_answers


def test_d20_queries_without_a_list_of_apis_run_with_all(world, runner_of, tmp_path):
    queries = world.write_queries(tmp_path / "bare.json", [{"query": "Sunny in Oslo?"}, {"query": "And in Bonn?"}])
    assert runner_of(FewSteps(), input_query_file=queries).run().now.answered == 2


def test_d22_it_starts_as_a_script_from_anywhere_and_as_a_module(tmp_path):
    (tmp_path / "utils.py").write_text("raise ImportError('the wrong utils')")
    (tmp_path / "errors.py").write_text("raise ImportError('the wrong errors')")
    module = "evaluation.toolbench.inference.qa_pipeline_multithread"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command, cwd, path in (
        ([str(SCRIPT)], tmp_path, None),
        ([str(SCRIPT)], ROOT, "./"),
        (["-m", module], ROOT, None),
        (["-m", module], tmp_path, str(ROOT)),
    ):
        run = subprocess.run(
            [sys.executable, *command, "--help"],
            env={**clean, **({"PYTHONPATH": path} if path else {})},
            cwd=cwd,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr


def test_d23_what_is_not_needed_need_not_be_given(world, tmp_path):
    options = parse_options(
        world.flags(tmp_path, model_path=world.data, template=None, indexing=None, max_gpu_memory="")
    )
    assert options.template == "llama-3"
    assert options.max_gpu_memory is None
    assert options.chatgpt_model is None
    assert options.tool_root_dir == str(world.data / "toolenv" / "tools")


def test_d23_toolgen_is_told_every_setting(world, tmp_path, monkeypatch):
    told = {}
    monkeypatch.setattr(
        backbones, "_toolgen_class", lambda module, name: lambda path, **settings: told.update(settings)
    )

    def load(**changes):
        options = parse_options(world.flags(tmp_path, model_path=world.data, **changes))
        rapidapi_multithread.pipeline_runner(options, server=True).get_backbone_model()

    load(max_sequence_length=2048, num_gpus=3, max_gpu_memory="20GiB", generation_config="ignore")
    assert (told["max_sequence_length"], told["num_gpus"], told["max_gpu_memory"]) == (2048, 3, "20GiB")
    assert told["generation_config"] == "ignore"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    load()
    assert told["num_gpus"] == 5
    assert told["max_gpu_memory"] is None


def test_d27_a_callback_written_for_toolbench_can_read_what_it_gets(runner_of, tmp_path):
    class Display:
        """Reads as ToolBench's ServerEventCallback does."""

        def on_tool_retrieval_end(self, tools):
            self.descriptions = {tool["name"]: tool for tool in tools}

        def on_request_end(self, chain, outputs):
            self.chain, self.outputs = json.loads(json.dumps(chain)), outputs
            raise IndexError("no terminal node")

    runner, display = runner_of(FewSteps(), function_provider="truth"), Display()
    task = runner.task_list[0]
    assert runner.run_single_task(*task, None, callbacks=[display]) == 1
    assert list(display.descriptions) == [FORECAST]
    assert set(display.descriptions[FORECAST]) == {"name", "description", "parameters"}
    record = json.loads(
        (tmp_path / "answers" / f"{task.query_id}_CoT@1.json").read_text()
    )  # their mistakes cost no answer
    assert record["answer_generation"]["final_answer"] == display.outputs
    assert display.chain[:-1] == record["answer_generation"]["train_messages"][-1]
    assert (display.chain[-1]["role"], display.chain[-1]["name"]) == ("tool", "Finish")


def test_d28_nothing_is_sent_to_a_foreign_server_unasked(monkeypatch):
    monkeypatch.delenv("SERVICE_URL", raising=False)
    assert service_url() == "http://localhost:8080/virtual"


def test_d30_a_seed_gives_the_same_numbers_again():
    drawn = []
    for _ in range(2):
        seed_everything(7)
        drawn.append((random.random(), torch.rand(2).tolist()))
    assert drawn[0] == drawn[1]
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


def test_making_a_runner_takes_no_folder_and_a_command_takes_it_before_its_model_loads(world, runner_of, tmp_path):
    first, second = runner_of(FewSteps()), runner_of(FewSteps())
    with RunLock(tmp_path / "answers"):
        with pytest.raises(OutputError, match="in use by another run"):
            first.run()
        with pytest.raises(OutputError, match="in use by another run"):
            rapidapi_multithread.pipeline_runner(first.get_args(), check_first=True)
    assert first.run().now.answered == len(CITIES)
    assert second.run().exit_code == 0


def test_options_of_toolgen_alone_are_enough_for_a_runner(world, runner_of, tmp_path):
    """Programs that make a pipeline_runner themselves know nothing of our new flags."""
    options = parse_options(world.flags(tmp_path / "answers", model_path=world.data))
    for name in ("engine", "seed", "num_gpus", "restrict_actions", "dtype", "exit_with_parent", "step_timeout"):
        delattr(options, name)
    runner = runner_of(FewSteps(), args=options)
    assert runner.get_args() is options
    assert not hasattr(options, "engine")
    assert runner.run().now.answered == len(CITIES)


def test_a_model_of_another_kind_sees_the_functions_and_answers(runner_of):
    """Not ToolGen: no `initialize`, no `for_query`, tools by keyword."""

    class Answers(ScriptedModel):
        def parse(self, tools, process_id):
            assert "Finish" in tools
            return calls("Finish", ANSWER), 0, 5

    assert runner_of(Answers(), function_provider="truth").run().now.answered == len(CITIES)


def test_replacement_texts_are_the_ones_that_are_asked_and_kept(world, runner_of, tmp_path):
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps([{"id": "0", "query": "Sunny on the moon?"}]))
    runner_of(FewSteps(), replace_file=texts).run()
    record = json.loads((tmp_path / "answers" / "0_CoT@1.json").read_text())
    assert record["answer_generation"]["query"] == "Sunny on the moon?"
    assert "moon" in record["answer_generation"]["final_answer"]


def test_an_engine_that_stops_ends_the_run_and_leaves_its_queries(runner_of, tmp_path, caplog):
    """There is no second process to go on in; what was answered stays, and nothing is called a failed query."""

    class Breaks(FewSteps):
        def parse(self, process_id, tools=None, *, functions=None, function_call=None):
            if "Oslo" in self.messages[1]["content"]:
                raise EngineStoppedError("the paged engine has stopped: CUDA error")
            return super().parse(process_id, tools)

    summary = runner_of(Breaks()).run()
    assert (summary.exit_code, summary.now.failed) == (1, 0)
    assert summary.num_left >= 1
    assert not (tmp_path / "answers" / "failures.json").exists()
    assert "EngineStoppedError: the paged engine has stopped: CUDA error; it is not started again" in caplog.text
    assert runner_of(FewSteps()).run().exit_code == 0


def test_run_json_is_true_while_the_run_goes_on(runner_of, tmp_path, monkeypatch):
    """It is what a killed run leaves."""
    monkeypatch.setattr(over_replicas, "_NOTE_EVERY_S", 0.0)
    seen = []

    class Watched(FewSteps):
        def parse(self, process_id, tools=None, *, functions=None, function_call=None):
            if "Oslo" in self.messages[1]["content"] and not seen:
                wait_for(lambda: read_run_record(tmp_path / "answers").counts.answered == len(CITIES) - 1)
                seen.append(read_run_record(tmp_path / "answers"))
            return super().parse(process_id, tools)

    runner_of(Watched(), num_thread=2).run()
    [record] = seen
    assert record.status == "running"
    assert record.counts == Counts(queries=len(CITIES), answered=len(CITIES) - 1, left=1)
    assert record.api.calls > 0
    assert record.layout[0].num_conversations == 2
    ended = read_run_record(tmp_path / "answers")
    assert (ended.status, ended.counts) == ("finished", Counts(queries=len(CITIES), answered=len(CITIES)))


def test_run_json_says_how_the_model_was_drawn_from(world, runner_of, tmp_path):
    settings = {"repetition_penalty": 1.05, "top_k": 20}
    (world.data / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    for flag, sampling in (("checkpoint", {**settings, "top_p": 1.0}), ("ignore", {"top_k": 0, "top_p": 1.0})):
        runner_of(FewSteps(), generation_config=flag, overwrite=True).run()
        configuration = read_run_record(tmp_path / "answers").configuration
        assert configuration["generation_config"] == flag
        assert configuration["sampling"] == {"repetition_penalty": 1.0, **sampling}


def test_a_generation_that_never_ends_does_not_hold_up_a_ctrl_c(world, runner_of, tmp_path):
    """It is dropped a few seconds after the signal, and its query is left."""
    never = threading.Event()

    class Stuck(FewSteps):
        def parse(self, process_id, tools=None, *, functions=None, function_call=None):
            if "Oslo" in self.messages[1]["content"]:
                never.wait()
            return super().parse(process_id, tools)

    def interrupt():
        wait_for(lambda: len(world.answer_names(tmp_path / "answers")) == len(CITIES) - 1)
        signal.raise_signal(signal.SIGINT)

    runner = runner_of(Stuck(), num_thread=2)
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        summary = runner.run()
    finally:
        interrupting.join()
        never.set()
    assert (summary.exit_code, summary.num_left, summary.now.failed) == (130, 1, 0)
