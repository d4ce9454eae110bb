"""The command as a whole: upstream's files to the byte, and what upstream lacks."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluation.retrieval.eval_toolgen import main
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.errors import EngineError
from evaluation.toolbench.retrieval.beam_search import SearchRules
from evaluation.toolbench.retrieval.model import search_rules
from evaluation.toolbench.retrieval.options import BOTH, parse_options
from tests.helpers.pipeline import ROOT
from tests.helpers.retriever import EXAMPLE, example_world, save_tiny_retriever

EXPECTED = EXAMPLE / "expected"
CORRECTED = json.loads((EXPECTED / "corrected.json").read_text())
SCORES = json.loads((EXPECTED / "scores.json").read_text())
LIMITED = ("--indexing", "Semantic", "--limit_to_stage_space", "True")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_retriever(tmp_path_factory.mktemp("model") / "tiny-retriever")


@pytest.fixture
def world(tmp_path, model, monkeypatch):
    """The example's data and model below the working directory, as upstream expects them."""
    example_world(tmp_path)
    (tmp_path / "model").symlink_to(model.parent)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*flags, result_path="out/", **given):
    """The exit code, with the example's flags where others are not given."""
    defaults = {
        "model_name_or_path": "model/tiny-retriever",
        "indexing": "Atomic",
        "stage": "G1",
        "split": "instruction",
        "template": "llama-3",
        "dtype": "float32",
    }
    values = {**defaults, "result_path": result_path, **given}
    return main([*(f"--{name}={value}" for name, value in values.items()), *flags])


def files_of(folder):
    """The files that are the same every time: those of a run's own say when it was."""
    own = (".run.json", ".report.html")
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(own)}


@pytest.mark.parametrize("engine", ["paged", "generate"])
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("all_tiny-retriever_Atomic", ("--constrain", "False")),
        ("all_tiny-retriever_constrained_Atomic", ("--constrain", "1")),
        ("stage_tiny-retriever_constrained_Semantic", ("--constrain", "True", *LIMITED)),
    ],
)
def test_the_examples_results_are_upstreams_to_the_byte(world, capsys, name, flags, engine):
    prefix, _, _ = name.partition("_")
    assert evaluate(*flags, "--engine", engine, result_path=f"out/{prefix}_") == 0
    result = f"{name}_G1_instruction.json"
    assert (world / "out" / result).read_bytes() == (EXPECTED / result).read_bytes()

    printed = capsys.readouterr().out.split("\n\n")[0].splitlines()
    upstream = (EXPECTED / f"{name}_G1_instruction.stdout").read_text().splitlines()
    assert set(printed) == set(upstream)
    assert printed[-3:] == upstream[-3:]

    limited = "_stage_space" if "stage_" in name else ""
    stem = f"out/{name}_G1_instruction{limited}_llama-3"
    metrics = json.loads((world / f"{stem}.metrics.json").read_text())
    assert metrics["upstream"] == CORRECTED[result]["upstream"]
    for number, value in CORRECTED[result]["corrected"].items():
        assert metrics["corrected"][number]["mean"] == pytest.approx(value, abs=1e-6)
    for count in ("queries", "queries without label"):
        assert metrics["counts"][count] == CORRECTED[result][count]
    assert metrics["counts"]["predictions that are repeated"] == CORRECTED[result]["repeated predictions"]
    off_space = CORRECTED[result]["predictions that are no candidate"]
    assert metrics["counts"]["predictions that are not candidates"] == off_space

    lines = [json.loads(line) for line in (world / f"{stem}.queries.jsonl").read_text().splitlines()[1:]]
    scores = [[each["score"] for each in line["predictions"]] for line in lines]
    assert scores == [pytest.approx(beams, abs=2e-5) for beams in SCORES[result]["scores"]]


def test_both_ways_are_one_run_and_one_table(world, capsys):
    assert evaluate("--constrain", "both") == 0
    printed = capsys.readouterr().out
    assert "G1 instruction constrained" in printed
    assert "G1 instruction unconstrained" in printed
    for way in ("", "constrained_"):
        name = f"tiny-retriever_{way}Atomic_G1_instruction.json"
        assert (world / "out" / name).read_bytes() == (EXPECTED / f"all_{name}").read_bytes()
    record = json.loads((world / "out/tiny-retriever_Atomic.run.json").read_text())
    assert (record["status"], record["counts"]["answered"]) == ("finished", 8)
    assert [each["constrained"] for each in record["sets"]] == [True, False]


def test_a_limit_without_the_constraint_changes_the_numbers_and_not_the_search(world):
    """A tool outside the stage's corpus, predicted first for one query, then takes no rank in ToolGen's NDCG."""
    assert evaluate(constrain="False", limit_to_stage_space="True") == 0
    name = "tiny-retriever_Atomic_G1_instruction.json"
    found, unlimited = (json.loads(path.read_text()) for path in (world / "out" / name, EXPECTED / f"all_{name}"))
    assert found["logs"] == unlimited["logs"]
    other = (1 + 1 / 2) / (1 + 1 / math.log2(3))  # the other query with hits, at ranks 1 and 3 as before
    assert found["ndcg"] == pytest.approx({"ndcg@1": 2 / 4, "ndcg@3": (1 + other) / 4, "ndcg@5": (1 + other) / 4})


def test_the_prefix_is_a_text_and_a_checkpoints_tokenizer_may_be_in_the_folder_above(world, model):
    above = world / "run"
    (above / "checkpoint-500").mkdir(parents=True)
    for path in model.iterdir():
        folder = above if path.name.startswith("tokenizer") else above / "checkpoint-500"
        (folder / path.name).symlink_to(path)
    assert evaluate(model_name_or_path="run/checkpoint-500/", constrain="True", result_path="deep/er/out") == 0
    result = json.loads((world / "deep/er/outcheckpoint-500_constrained_Atomic_G1_instruction.json").read_text())
    assert result["model"] == "run/checkpoint-500/"
    assert result["ndcg"] == CORRECTED["all_tiny-retriever_constrained_Atomic_G1_instruction.json"]["upstream"]


def test_a_bad_query_is_named_and_scores_0(world, caplog):
    path = world / "data/retrieval/G1/test_G1_instruction.query.txt"
    path.write_text(path.read_text() + "99\t\n")
    assert evaluate(constrain="True") == 0
    assert "1 query cannot be searched for and score 0: 99 (the query is empty)" in caplog.text
    result = json.loads((world / "out/tiny-retriever_constrained_Atomic_G1_instruction.json").read_text())
    assert len(result["logs"]) == 15
    assert result["logs"][4]["pred"] == [""] * 100
    assert result["ndcg"]["ndcg@5"] == pytest.approx(0.5030554010667732 * 4 / 5)


def test_fewer_tools_than_beams_are_all_that_is_named(world):
    for name in ("Tool2AtomicId.json", "Tool2SemanticId.json"):
        path = world / "data/toolenv" / name
        index = json.loads(path.read_text())
        path.write_text(json.dumps(dict(list(index.items())[:1])))
    assert evaluate(constrain="True") == 0
    result = json.loads((world / "out/tiny-retriever_constrained_Atomic_G1_instruction.json").read_text())
    assert result["logs"][0]["pred"] == ["<<Sky Watch&&Daily Forecast>>", *[""] * 99]


def test_a_query_that_fails_scores_0_and_is_tried_again_by_the_next_run(world, monkeypatch, caplog):
    score_all, calls = PagedEngine.score_all, []

    def sometimes(self, requests):
        calls.extend(requests)
        if len(calls) == 1:
            raise EngineError("no luck")
        return score_all(self, requests)

    monkeypatch.setattr(PagedEngine, "score_all", sometimes)
    assert evaluate(constrain="True") == 1
    assert "query 12 failed: EngineError: no luck" in caplog.text
    metrics = world / "out/tiny-retriever_constrained_Atomic_G1_instruction_llama-3.metrics.json"
    assert json.loads(metrics.read_text())["failed"] == ["12"]
    num_calls = len(calls)
    assert evaluate(constrain="True") == 0
    assert len(calls) - num_calls == 7  # the prompt, and a branch for each of six tools
    name = "tiny-retriever_constrained_Atomic_G1_instruction.json"
    assert (world / "out" / name).read_bytes() == (EXPECTED / f"all_{name}").read_bytes()


def test_what_is_done_is_not_done_again_unless_something_has_changed(world, monkeypatch, caplog):
    assert evaluate(constrain="True") == 0
    before = files_of(world / "out")
    log = world / "out/tiny-retriever_constrained_Atomic_G1_instruction_llama-3.queries.jsonl"

    def never(*_):
        raise AssertionError("the engine was asked")

    with monkeypatch.context() as patch:
        patch.setattr(PagedEngine, "__init__", never)
        assert evaluate(constrain="True") == 0
    assert "nothing left to search for" in caplog.text
    assert files_of(world / "out") == before
    log.write_bytes(log.read_bytes()[:-40])  # torn in its last line
    assert evaluate(constrain="True") == 0
    assert files_of(world / "out") == before
    queries = world / "data/retrieval/G1/test_G1_instruction.query.txt"
    queries.write_text(queries.read_text().replace("coffee", "tea"))
    assert evaluate(constrain="True") == 0
    assert "begins anew" in caplog.text
    assert files_of(world / "out") != before


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        '{"query_id": 11}',
        '{"query_id": 11, "predictions": 5, "wider": []}',
        '{"query_id": 11, "predictions": [5], "wider": []}',
        '{"query_id": 11, "predictions": [{"text": 5, "score": 0, "log_probability": 0}], "wider": []}',
        '{"query_id": 11, "predictions": [{"text": "a", "score": "b", "log_probability": 0}], "wider": []}',
    ],
)
def test_a_line_of_the_log_that_is_no_outcome_is_passed_over(world, line):
    assert evaluate(constrain="True") == 0
    before = files_of(world / "out")
    log = world / "out/tiny-retriever_constrained_Atomic_G1_instruction_llama-3.queries.jsonl"
    header, *outcomes = log.read_text().splitlines(keepends=True)
    log.write_text("".join([header, line + "\n", *outcomes[1:]]))
    assert evaluate(constrain="True") == 0
    assert files_of(world / "out") == before


def test_two_evaluations_of_one_model_do_not_write_to_the_same_files(world, capsys):
    folder = world / "out"
    folder.mkdir()
    program = (
        "import sys, time; from pathlib import Path\n"
        "from evaluation.toolbench.inference.records.lock import RunLock\n"
        f"with RunLock(Path({str(folder)!r}), '.tiny-retriever_Atomic.lock'):\n"
        "    print('held', flush=True)\n    time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert evaluate(constrain="True") == 2
        assert "in use by another run" in capsys.readouterr().err
        assert evaluate(*LIMITED, constrain="True") == 0
    finally:
        holder.kill()
        holder.wait()


def test_a_killed_evaluation_goes_on_and_comes_to_the_same_files(world):
    """With the reference engine, whose numbers do not depend on what is scored beside a query.

    Killed between two lines, and in the middle of the last one.
    """
    stage = world / "data/retrieval/G1"
    (stage / "test_G1_instruction.query.txt").write_text("".join(f"{i}\tWill it rain {i}?\n" for i in range(40)))
    (stage / "qrels.test_G1_instruction.tsv").write_text("".join(f"{i}\t0\t{i % 5 + 1}\t1\n" for i in range(40)))
    flags = ("--engine=generate", "--num_thread=1")
    assert evaluate(*flags, constrain="True", result_path="whole/") == 0
    log = world / "killed/tiny-retriever_constrained_Atomic_G1_instruction_llama-3.queries.jsonl"
    given = {"model_name_or_path": "model/tiny-retriever", "dtype": "float32", "result_path": "killed/"}
    command = [sys.executable, "-m", "evaluation.retrieval.eval_toolgen", *flags]
    process = subprocess.Popen(
        [*command, *(f"--{name}={value}" for name, value in given.items())],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=world,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        while not log.exists() or log.read_bytes().count(b"\n") < 3:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    num_lines = log.read_bytes().count(b"\n")
    assert num_lines < 41
    torn = Path(shutil.copytree(world / "killed", world / "torn")) / log.name
    torn.write_bytes(torn.read_bytes()[:-25])
    for folder, num_done in (("killed", num_lines - 1), ("torn", num_lines - 2)):
        assert evaluate(*flags, constrain="True", result_path=f"{folder}/") == 0
        assert files_of(world / folder) == files_of(world / "whole")
        record = json.loads((world / folder / "tiny-retriever_Atomic.run.json").read_text())
        assert record["counts"]["done_before"] == num_done


@pytest.mark.slow
def test_two_replicas_come_to_the_same_results(world):
    assert evaluate("--num_replicas", "2", constrain="both") == 0
    for way in ("", "constrained_"):
        name = f"tiny-retriever_{way}Atomic_G1_instruction.json"
        assert (world / "out" / name).read_bytes() == (EXPECTED / f"all_{name}").read_bytes()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model_name_or_path=nowhere/at/all"), "no model folder"),
        (("--template=vicuna"), "unknown template"),
        (("--indexing=Alphabetic"), "unknown --indexing"),
        (("--indexing=Numeric"), "Tool2NumericId.json does not exist"),
        (("--split=category"), "no queries for stage G1, split category"),
        (("--stage=G7"), "no queries for stage G7"),
        (("--result_path="), "--result_path is empty"),
        (("--engine=server"), "--engine_url"),
        (("--split= "), "at least one name"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(world, capsys, flags, words):
    assert evaluate(*([flags] if isinstance(flags, str) else flags)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1]
    assert not (world / "out").exists()


def test_a_model_without_the_tool_tokens_is_one_line(world, tmp_path_factory, capsys):
    bare = save_tiny_retriever(tmp_path_factory.mktemp("bare") / "bare", with_tools=False)
    assert evaluate(model_name_or_path=str(bare), constrain="True") == 2
    assert "the tokenizer lacks 6 of the 6 tool tokens, the first is <<Sky Watch" in capsys.readouterr().err


def test_the_checkpoints_own_settings_of_a_beam_search_hold(tmp_path, model):
    for path in model.iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert search_rules(str(tmp_path), 7) == SearchRules(7, 64)
    settings = {"length_penalty": 0.5, "early_stopping": True, "repetition_penalty": 1.05, "temperature": 0.6}
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    assert search_rules(str(tmp_path), 7) == SearchRules(7, 64, 0.5, True, 1.05)


@pytest.mark.parametrize(
    ("text", "value"),
    [("True", True), ("1", True), ("yes", True), ("ON", True), ("False", False), ("n", False), ("off", False)],
)
def test_flags_are_read_as_upstream_reads_them(text, value):
    config = parse_options(["--constrain", text])
    assert config.choice.constrained == (value,)


def test_both_is_neither_true_nor_false_for_the_limit(capsys):
    assert parse_options(["--constrain", BOTH, "--limit_to_stage_space", "y"]).choice.constrained == (True, False)
    with pytest.raises(SystemExit) as end:
        parse_options(["--limit_to_stage_space", BOTH])
    assert end.value.code == 2
    assert "neither true" in capsys.readouterr().err


def test_what_is_left_out_is_as_in_upstreams_script_and_said():
    config = parse_options([])
    assert config.model_path == "reasonwang/ToolGen-Llama-3-8B-Tool-Retriever"
    assert (config.choice.stages, config.choice.splits, config.choice.constrained) == (["G1"], ["instruction"], (True,))
    assert "--template llama-3" in config.left_out
    assert not parse_options([f"--{name.split()[0][2:]}={name.split()[1]}" for name in config.left_out]).left_out
