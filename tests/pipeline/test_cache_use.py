"""What the response cache had for the calls is counted from the server's own header, and told everywhere."""

from __future__ import annotations

import json

import pytest

from evaluation.toolbench.inference.Downstream_tasks import query_replica, rapidapi_multithread
from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.run_record import read_run_record
from evaluation.toolbench.inference.run_report.report import report_data
from evaluation.toolbench.virtual_api.client import ApiClient
from tests.helpers.environment import ANSWER, FORECAST, ScriptedToolGen, calls
from tests.helpers.pipeline import CITIES, api_server

SKY_WATCH = "Weather/sky_watch_for_Weather/daily_forecast.json"
SUNNY = {"error": "", "response": "sunny"}


class Forecaster(ScriptedToolGen):
    """Asks for the forecast of the city in its query, then for arguments that are no JSON, and answers."""

    def parse(self, process_id, tools=None, **_):
        text = self.messages[1]["content"]
        [city] = [city for city in CITIES if city in text]
        asked = sum(message["role"] == "tool" for message in self.messages)
        arguments = [json.dumps({"city": city, "days": 1}), "{"]
        if asked == len(arguments):
            return calls("Finish", ANSWER, "Done."), 0, 5
        return calls(FORECAST, arguments[asked], "Look."), 0, 5


@pytest.fixture
def run(runner_of, tmp_path, monkeypatch):
    """A run with a real server, whose cache has some of the cities."""

    def run(records, **changes):
        (tmp_path / "api").mkdir()
        with api_server(tmp_path / "api") as url, ApiClient(url) as client:
            path = tmp_path / "api/cache" / SKY_WATCH
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(records))
            runner = runner_of(Forecaster(), single_chain_max_step=16, **changes)
            for module in (rapidapi_multithread, query_replica):
                monkeypatch.setattr(module, "api_caller", lambda tools: client)
            return runner.run()

    return run


def test_hits_fuzzy_hits_and_misses_are_in_the_table_run_json_and_the_report(run, tmp_path, capsys):
    exact = {str({"city": city, "days": 1}): SUNNY for city in CITIES[:4]}
    fuzzy = {str({"days": 1, "city": city}): SUNNY for city in CITIES[4:6]}
    summary = run({**exact, **fuzzy}, num_thread=4)
    assert (summary.api_calls, summary.cache) == (18, CacheUse(hits=6, fuzzy_hits=2, misses=3))
    api = read_run_record(tmp_path / "answers").api
    assert (api.calls, api.hits, api.fuzzy_hits, api.not_recorded) == (18, 6, 2, 3)
    warning = "WARNING: 3 of 18 API calls (17%) had no reply in the response cache and were answered with an error"
    told = capsys.readouterr()
    assert warning in " ".join(told.out.split())
    assert "18 API calls · 6 hits (2 fuzzy) · 3 not recorded (16.7%)" in told.err
    assert report_data(tmp_path / "answers")["summary"]["misses"].startswith(warning)


def test_a_miss_is_counted_also_where_the_model_sees_little_of_its_text(run):
    assert run({}, max_observation_length=5).cache == CacheUse(misses=9)


def test_a_complete_cache_is_no_news(run, tmp_path, capsys):
    summary = run({str({"city": city, "days": 1}): SUNNY for city in CITIES})
    assert summary.cache == CacheUse(hits=9)
    assert "response cache" not in capsys.readouterr().out
    assert report_data(tmp_path / "answers")["summary"]["misses"] is None
