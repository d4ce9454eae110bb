"""A dry run finds everything that is wrong at once, and a run takes the queries that are asked for."""

from __future__ import annotations

import shutil

import pytest

from evaluation.toolbench.inference.Downstream_tasks.answer_settings import answer_settings
from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
from evaluation.toolbench.inference.Downstream_tasks.options import make_parser
from evaluation.toolbench.inference.Downstream_tasks.preflight import Preflight, print_preflight
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.queries import Query, chosen_queries, wanted_ids
from tests.helpers.fake_generation_server import FakeServer, knobs_for, running
from tests.helpers.fake_simulator import FakeSimulator
from tests.helpers.pipeline import TOKENS, World, api_server

QUERIES = [Query(str(number), "", {}) for number in (30, 10, 20)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("world"))
    made.make_checkpoint()
    return made


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A server that replays nothing, where a run looks for it."""
    with api_server(tmp_path) as url:
        monkeypatch.setenv("SERVICE_URL", url)
        yield tmp_path / "cache"


def config_of(flags: list[str]) -> RunConfig:
    return RunConfig.of(make_parser().parse_args(flags))


def findings(flags: list[str]) -> dict[str, tuple[str, str]]:
    return {finding.check: (finding.status, finding.measured) for finding in Preflight(config_of(flags)).findings()}


def test_a_run_that_can_start_is_ready_and_leaves_nothing_behind(world, service, tmp_path, capsys):
    assert print_preflight(config_of(world.flags(tmp_path / "answers"))) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "Ready: the same command without --dry_run starts the run."
    assert "queries              ok" in said
    assert not (tmp_path / "answers").exists()


def test_everything_that_is_wrong_is_told_at_once(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SERVICE_URL", "http://127.0.0.1:9/virtual")
    model = shutil.copytree(world.model, tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"half")
    (tmp_path / "file").touch()
    flags = [*world.flags(tmp_path / "file" / "answers"), "--model_path", str(model)]
    assert print_preflight(config_of(flags)) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("Not ready: ")
    assert {"checkpoint", "API replies", "output folder"} <= set(last[len("Not ready: ") : -1].split(", "))


def test_a_cache_without_the_queries_apis_is_no_cache_for_them(world, service, tmp_path):
    assert findings(world.flags(tmp_path / "answers"))["API replies"] == (
        "ok",
        f"{service}: 1 of the 1 APIs that the queries name are recorded",
    )
    shutil.rmtree(service / "Weather")
    status, said = findings(world.flags(tmp_path / "answers"))["API replies"]
    assert status == "fail"
    assert said.startswith("no reply is recorded for any of the 1 APIs that the queries name")


def test_every_generation_server_has_a_line_and_has_generated(world, service, tmp_path):
    with running(FakeServer(**knobs_for(world.model, TOKENS))) as good:
        urls = f"{good.url},http://127.0.0.1:9/v1"
        flags = world.flags(tmp_path / "answers", engine="server", engine_url=urls, dtype=None)
        [found] = [each for each in Preflight(config_of(flags)).findings() if each.check == "servers"]
        assert (found.status, found.measured) == ("ok", "1 of 2 would serve this run")
        assert found.details[0].startswith(f"{good.url} serves model, up to 4,096 tokens (version 0.32.0)")
        assert found.details[1].startswith("http://127.0.0.1:9/v1 cannot be reached")
        assert "ENGINE_URL" in found.advice
        assert good.requests


@pytest.mark.parametrize("knobs", [{"name": "another", "root": "/models/another"}, {"token_shift": 1}])
def test_a_generation_server_of_another_model_keeps_a_run_from_starting(world, service, tmp_path, knobs, capsys):
    with running(FakeServer(**{**knobs_for(world.model, TOKENS), **knobs})) as server:
        flags = world.flags(tmp_path / "answers", engine="server", engine_url=server.url, dtype=None)
        assert print_preflight(config_of(flags)) == 1
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "Not ready: servers."
    assert f"    {server.url} " in said


def test_a_simulator_is_named_and_makes_an_empty_cache_enough(world, tmp_path, monkeypatch):
    simulator = ("--tools_dir", str(world.data / "toolenv/tools"), "--simulator_url")
    with running(FakeSimulator()) as fake, api_server(tmp_path, *simulator, fake.url) as url:
        monkeypatch.setenv("SERVICE_URL", url)
        shutil.rmtree(tmp_path / "cache/Weather")
        config = RunConfig.of(make_parser().parse_args(world.flags(tmp_path / "answers")))
        [found] = [finding for finding in Preflight(config).findings() if finding.check == "API replies"]
        assert (found.status, found.measured[-40:]) == (
            "ok",
            "0 of the 1 APIs that the queries name are recorded"[-40:],
        )
        assert f"the rest is simulated by fake-mirror at {fake.url} (our own prompt" in found.details[0]
        assert answer_settings(config)["simulator"].startswith("fake-mirror (prompt ")
    assert not (tmp_path / "cache_simulated").exists(), "a dry run writes nothing"


def test_the_first_queries_of_the_file_or_named_ones_are_chosen():
    assert chosen_queries(QUERIES) == QUERIES
    assert chosen_queries(QUERIES, limit=2) == QUERIES[:2]
    assert chosen_queries(QUERIES, ids=wanted_ids("20, 30", QUERIES)) == [QUERIES[0], QUERIES[2]]
    assert chosen_queries(QUERIES, ids=wanted_ids("20,30", QUERIES), limit=1) == [QUERIES[0]]
    with pytest.raises(DataError, match=r"no query has the id 7, 9; there are 3 queries"):
        wanted_ids("9,20,7", QUERIES)
