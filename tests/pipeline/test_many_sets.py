"""Many sets in one run: the model is loaded once, and every folder gets what a run over its set alone leaves there."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from evaluation.toolbench.inference.Downstream_tasks import one_query, query_replica, rapidapi_multithread
from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig, SearchConfig, ToolConfig
from evaluation.toolbench.inference.Downstream_tasks.options import parse_options
from evaluation.toolbench.inference.Downstream_tasks.query_sets import SETS, set_places
from evaluation.toolbench.inference.errors import ConfigError, DataError, OutputError
from evaluation.toolbench.inference.records.event_history import read_history
from evaluation.toolbench.inference.records.lock import LOCK_FILE, RunLock
from evaluation.toolbench.inference.records.run_record import read_run_record
from evaluation.toolbench.inference.run_report.set_figures import set_figures
from tests.helpers.environment import FakeApi, FewSteps
from tests.helpers.pipeline import World, contents, query

METHODS = ["CoT@1", "CoT@2"]


class AskedAtOnce(FewSteps):
    """Waits until `together` conversations are under way, so that sets and methods that share an id meet."""

    def __init__(self, together: int) -> None:
        super().__init__()
        self.barrier = threading.Barrier(together, timeout=60)

    def for_query(self, query_id: str) -> FewSteps:
        self.barrier.wait()
        return FewSteps()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.first = world.write_queries(tmp_path / "first.json", [query(i) for i in range(4)])
    world.second = world.write_queries(tmp_path / "second.json", [query(i) for i in range(2, 5)])  # two ids again
    return world


@pytest.fixture
def run(world, monkeypatch, tmp_path):
    """Run the queries of `files` with a scripted model: the run's summary. `run.loads` counts its models."""
    for module in (rapidapi_multithread, one_query, query_replica):
        monkeypatch.setattr(module, "api_caller", lambda tools: FakeApi())
    loads = []

    def run_files(files, output=None, model=None, methods=METHODS, **changes):
        monkeypatch.setattr(query_replica, "make_backbone", lambda *_, **__: loads.append(1) or model or FewSteps())
        flags = world.flags(output or tmp_path / "out", model_path=world.data, num_thread=16, **changes)
        flags += ["--input_query_file", *map(str, files), "--method", *methods]
        return rapidapi_multithread.pipeline_runner(parse_options(flags), check_first=True).run()

    run_files.loads = loads
    return run_files


def outcomes(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {row.method: (row.queries, row.answered, row.failed) for row in set_figures(folder)}


def test_sets_and_methods_run_side_by_side_and_leave_what_each_leaves_alone(world, run, tmp_path):
    summary = run([world.first, world.second], model=AskedAtOnce(14))
    assert (summary.num_queries, summary.now.answered, summary.exit_code) == (14, 14, 0)
    assert len(run.loads) == 1
    for name, path in (("first", world.first), ("second", world.second)):
        alone = {}
        for method in METHODS:
            run([path], tmp_path / name / method, methods=[method])
            alone |= contents(tmp_path / name / method)
        assert contents(tmp_path / "out" / name) == alone


def test_every_folder_has_the_record_of_its_part_and_the_one_above_that_of_all(world, run, tmp_path):
    run([world.first, world.second], model=AskedAtOnce(14))
    above = read_run_record(tmp_path / "out")
    records = {name: read_run_record(tmp_path / "out" / name) for name in ("first", "second")}
    assert {name: (each.counts.queries, each.counts.answered) for name, each in records.items()} == {
        "first": (8, 8),
        "second": (6, 6),
    }
    assert (above.counts.queries, above.counts.answered, above.status) == (14, 14, "finished")
    assert above.rates.queries_per_min
    assert above.api.calls == sum(each.api.calls for each in records.values()) == 14
    assert {each.run_id for each in records.values()} == {above.run_id}
    for name, each in records.items():
        assert each.configuration["input_query_file"] == str(tmp_path / f"{name}.json")
        assert each.configuration["output_answer_file"] == str(tmp_path / "out" / name)
        assert each.configuration["method"] == METHODS
    assert outcomes(tmp_path / "out/second") == dict.fromkeys(METHODS, (3, 3, 0))
    page = (tmp_path / "out/report.html").read_text()
    assert '<a href="first/report.html">first</a>' in page
    assert (tmp_path / "out/first/report.html").is_file()


def test_events_of_one_query_by_two_methods_at_once_are_told_apart(world, run, tmp_path):
    run([world.first], model=AskedAtOnce(8))
    attempts = read_history(tmp_path / "out").attempts()
    assert set(attempts) == {(str(number), method) for number in range(4) for method in METHODS}
    for [attempt] in attempts.values():
        assert (len(attempt.generations), len(attempt.calls), attempt.outcome) == (2, 2, "answered")


def test_a_run_goes_on_where_sets_lack_answers_and_touches_no_other_folder(world, run, tmp_path):
    run([world.first, world.second])
    before = contents(tmp_path / "out/first"), read_run_record(tmp_path / "out/first")
    (tmp_path / "out/second/3_CoT@2.json").unlink()
    summary = run([world.first, world.second])
    assert (summary.earlier.total, summary.now.answered) == (13, 1)
    assert (contents(tmp_path / "out/first"), read_run_record(tmp_path / "out/first")) == before
    assert read_run_record(tmp_path / "out/second").counts.done_before == 5
    assert read_run_record(tmp_path / "out").counts.answered == 1
    num_loads = len(run.loads)
    assert run([world.first, world.second]).earlier.total == 14
    assert len(run.loads) == num_loads


def test_what_fails_is_kept_in_its_own_folder(world, run, tmp_path):
    summary = run([world.first, world.second], model=FewSteps(failing="Lima"), methods=["CoT@1"])  # number 3, in both
    assert (summary.now.answered, summary.now.failed, summary.exit_code) == (5, 2, 1)
    for name, queries in (("first", 4), ("second", 3)):
        [failure] = json.loads((tmp_path / "out" / name / "failures.json").read_text())
        assert (failure["id"], failure["method"]) == ("3", "CoT@1")
        assert outcomes(tmp_path / "out" / name) == {"CoT@1": (queries, queries - 1, 1)}
    assert [each.query_id for each in read_run_record(tmp_path / "out").failures] == ["first/3", "second/3"]


def test_a_folder_in_use_keeps_the_whole_run_away_and_no_folder_stays_taken(world, run, tmp_path):
    (tmp_path / "out/second").mkdir(parents=True)
    with RunLock(tmp_path / "out/second"), pytest.raises(OutputError, match="out/second is in use by another run"):
        run([world.first, world.second])
    assert not (tmp_path / "out/first" / LOCK_FILE).exists()
    assert not run.loads
    assert run([world.first, world.second]).exit_code == 0


def test_overwrite_takes_the_answers_of_all_sets_that_are_named(world, run, tmp_path):
    run([world.first, world.second], methods=METHODS[:1])
    (tmp_path / "out/first/0_DFS_w2.json").write_text("{}")
    summary = run([world.first, world.second], methods=METHODS[:1], overwrite=True)
    assert (summary.earlier.total, summary.now.answered) == (0, 7)
    assert (tmp_path / "out/first/0_DFS_w2.json").exists()


def test_a_method_may_join_or_leave_the_others_and_none_comes_in_unawares(world, run, tmp_path):
    assert run([world.first], methods=["CoT@1"]).num_queries == 4
    assert run([world.first], methods=METHODS).earlier.total == 4
    (tmp_path / "out/3_CoT@2.json").unlink()
    assert run([world.first], methods=["CoT@2"]).earlier.total == 3
    with pytest.raises(ConfigError, match=r"method: CoT@2 -> CoT@3"):
        run([world.first], methods=["CoT@3"])


def test_settings_that_differ_in_one_folder_keep_the_whole_run_away(world, run, tmp_path):
    run([world.first], tmp_path / "out/first", seed=7)
    with pytest.raises(ConfigError, match=r"answers in \S+/out/first were made with other settings \(seed: 7 -> 42\)"):
        run([world.second, world.first])
    assert run([world.second, world.first], seed=7).earlier.total == 8
    assert read_run_record(tmp_path / "out/second").settings["seed"] == 7


def test_ids_and_limits_hold_for_every_file(world, run, tmp_path):
    assert run([world.first, world.second], methods=["CoT@1"], limit=2).num_queries == 4
    summary = run([world.first, world.second], tmp_path / "other", methods=["CoT@1"], query_ids="0,3")
    assert [each.num_queries for each in summary.sets] == [2, 1]
    with pytest.raises(DataError, match="no query has the id 9; there are 5 queries"):
        run([world.first, world.second], query_ids="0,9")


def test_one_file_is_answered_in_the_folder_itself_and_several_in_folders_of_it():
    config = RunConfig(input_query_file="a/G1.json", output_answer_file="out")
    [only] = set_places(config)
    assert (only.name, only.answer_folder, only.method) == ("G1", "out", "CoT@1")
    config = RunConfig(
        input_query_file=("a/G1.json", "a/G2.json"),
        output_answer_file="out",
        search=SearchConfig(method=tuple(METHODS)),
    )
    assert [(place.name, place.answer_folder) for place in set_places(config)] == [
        ("G1 CoT@1", "out/G1"),
        ("G1 CoT@2", "out/G1"),
        ("G2 CoT@1", "out/G2"),
        ("G2 CoT@2", "out/G2"),
    ]


def test_all_is_the_six_sets_of_the_data_folder():
    places = set_places(RunConfig(input_query_file="all", output_answer_file="out", tools=ToolConfig(data_dir="data")))
    assert [place.name for place in places] == list(SETS)
    assert places[1].query_file == "data/solvable_queries/test_instruction/G1_tool.json"
    assert places[1].answer_folder == "out/G1_tool"


def test_files_of_one_name_are_refused(world, tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(ConfigError, match="several files are called first"):
        set_places(RunConfig(input_query_file=("first.json", "sub/first.json")))
