"""What the response cache had for the calls is counted from the server's own header, and told everywhere."""

from __future__ import annotations

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from evaluation.toolbench.inference.Downstream_tasks import query_replica, rapidapi_multithread
from evaluation.toolbench.inference.Downstream_tasks.options import parse_options
from evaluation.toolbench.inference.Downstream_tasks.recorded_apis import check_replies, recorded_apis
from evaluation.toolbench.inference.errors import ApiError, DataError
from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.queries import read_queries
from evaluation.toolbench.inference.records.run_record import read_run_record
from evaluation.toolbench.inference.run_report.overview import overview_page
from evaluation.toolbench.inference.run_report.report import report_data
from evaluation.toolbench.inference.run_report.set_figures import set_figures
from evaluation.toolbench.virtual_api.client import ApiClient
from tests.helpers.environment import ANSWER, FORECAST, ScriptedToolGen, calls
from tests.helpers.fake_generation_server import running
from tests.helpers.fake_simulator import FakeSimulator, echo
from tests.helpers.pipeline import CITIES, api_server, record_nothing

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

    def run(records, *server_flags, **changes):
        (tmp_path / "api").mkdir()
        with api_server(tmp_path / "api", *server_flags) as url, ApiClient(url) as client:
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


def test_simulated_replies_are_counted_beside_hits_and_misses(run, world, tmp_path, capsys):
    exact = {str({"city": city, "days": 1}): SUNNY for city in CITIES[:4]}
    with running(FakeSimulator()) as fake:
        fake.replies = lambda prompt: "nonsense" if CITIES[4] in prompt else echo(prompt)
        simulator = ("--simulator_url", fake.url, "--tools_dir", str(world.data / "toolenv/tools"))
        summary = run(exact, *simulator, num_thread=4)
    assert (summary.api_calls, summary.cache) == (18, CacheUse(hits=4, misses=1, simulated=4))
    record = read_run_record(tmp_path / "answers")
    assert (record.api.hits, record.api.simulated, record.api.not_recorded) == (4, 4, 1)
    told = capsys.readouterr()
    warning = "4 of 18 API calls (22.2%) were answered by the simulator"
    assert warning in " ".join(told.out.split())
    assert "18 API calls · 4 hits · 4 simulated (22.2%) · 1 not recorded (5.6%)" in told.err
    assert report_data(tmp_path / "answers")["summary"]["simulated"].startswith(warning)
    [figures] = set_figures(tmp_path / "answers")
    assert figures.cache == summary.cache
    page = overview_page(tmp_path, [figures], record, {})
    assert '<td class="number" data-name="simulated">4</td>' in page
    assert "22% of API calls simulated" in page


def test_a_miss_is_counted_also_where_the_model_sees_little_of_its_text(run):
    assert run({}, max_observation_length=5).cache == CacheUse(misses=9)


def test_a_complete_cache_is_no_news(run, tmp_path, capsys):
    summary = run({str({"city": city, "days": 1}): SUNNY for city in CITIES})
    assert summary.cache == CacheUse(hits=9)
    assert "response cache" not in capsys.readouterr().out
    assert report_data(tmp_path / "answers")["summary"]["misses"] is None


@pytest.fixture
def cache(tmp_path):
    """A server's cache folder, and a run of all queries against it with a scripted model."""
    with api_server(tmp_path) as url, ApiClient(url) as client:
        shutil.rmtree(tmp_path / "cache/Weather")
        yield tmp_path / "cache", client


def refusal(cache, world) -> str:
    found = recorded_apis(cache[1], read_queries(world.queries, {}))
    assert found is not None
    with pytest.raises(DataError) as raised:
        found.refuse_none()
    return str(raised.value)


def test_a_cache_without_a_single_api_of_the_queries_is_refused_before_the_model_loads(
    cache, world, runner_of, tmp_path, monkeypatch
):
    runner_of(Forecaster())
    monkeypatch.setattr(rapidapi_multithread, "api_caller", lambda tools: cache[1])
    monkeypatch.setattr(query_replica, "make_backbone", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(DataError, match=r"has no Weather/sky_watch_for_Weather/daily_forecast.json, for one"):
        rapidapi_multithread.pipeline_runner(
            parse_options(world.flags(tmp_path / "answers", model_path=world.data)), check_first=True
        )


@pytest.mark.parametrize("inner", ["tool_response_cache", "unpacked/tool_response_cache", ".."])
def test_a_cache_that_was_unpacked_a_level_off_is_found(cache, world, inner):
    record_nothing((cache[0] / inner).resolve())
    assert f"{(cache[0] / inner).resolve()} has 1 of them: set API_CACHE_DIR to it" in refusal(cache, world)


def test_an_empty_cache_says_what_belongs_there(cache, world):
    assert refusal(cache, world).endswith(
        "Set API_CACHE_DIR to the folder that holds <category>/<tool>_for_<category>/<api>.json"
    )


def test_a_simulator_answers_for_an_empty_cache_and_one_that_cannot_be_asked_is_refused(world, tmp_path):
    queries = read_queries(world.queries, {})
    with running(FakeSimulator()) as fake:
        simulator = ("--simulator_url", fake.url, "--tools_dir", str(world.data / "toolenv/tools"))
        with api_server(tmp_path, *simulator) as url, ApiClient(url) as client:
            shutil.rmtree(tmp_path / "cache/Weather")
            found, state = check_replies(client, queries)
            assert (found.recorded, state.model) == (0, "fake-mirror")
            fake.api_key = "another"
            with pytest.raises(ApiError, match="refuses the key"):
                check_replies(client, queries)


def test_queries_that_name_no_apis_are_not_judged(cache, world, tmp_path):
    bare = world.write_queries(tmp_path / "bare.json", [{"query": "Sunny in Oslo?"}])
    found = recorded_apis(cache[1], read_queries(bare, {}))
    assert found is not None
    found.refuse_none()


@pytest.mark.parametrize(
    "health", ["of another kind", {"cache_dir": "/elsewhere"}, {"cache_dir": "/", "forwards": True}]
)
def test_servers_that_do_not_tell_or_ask_others_or_are_elsewhere_are_not_judged(world, health):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"files": 0, **health} if isinstance(health, dict) else health).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with ApiClient(f"http://127.0.0.1:{server.server_port}/virtual") as client:
            assert recorded_apis(client, read_queries(world.queries, {})) is None
        server.shutdown()
