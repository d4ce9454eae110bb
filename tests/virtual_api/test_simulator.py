"""The simulator behind the response cache: asked last and once, kept apart, replayed, and never a fake good reply."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.chat_client.replies import Said
from evaluation.toolbench.chat_client.settings import ChatSettings, Server, base_url
from evaluation.toolbench.http_client.retry import RetryPolicy
from evaluation.toolbench.inference.errors import ApiError, ConfigError
from evaluation.toolbench.virtual_api.__main__ import main
from evaluation.toolbench.virtual_api.app import VirtualApi, make_app
from evaluation.toolbench.virtual_api.cache import ResponseCache
from evaluation.toolbench.virtual_api.client import ApiClient
from evaluation.toolbench.virtual_api.simulator.requests import canonical_arguments, chat_request, request_digest
from evaluation.toolbench.virtual_api.simulator.said_replies import read_answer
from evaluation.toolbench.virtual_api.simulator.simulator import Simulator
from evaluation.toolbench.virtual_api.simulator.system_prompt import (
    OWN_PROMPT,
    PUBLISHED,
    SystemPrompt,
    load_system_prompt,
)
from evaluation.toolbench.virtual_api.simulator.tool_documents import ToolDocuments
from tests.helpers.fake_generation_server import HTML, error_answer, json_answer, running
from tests.helpers.fake_simulator import FakeSimulator
from tests.helpers.pipeline import wait_for
from tests.virtual_api.test_virtual_api import server_process

KEY = "very-secret-key"
RECORDED = {"error": "", "response": "recorded"}
NOT_RECORDED = {"error": "No response is recorded for this request.", "response": ""}
CALL = {
    "category": "Weather",
    "tool_name": "sky_watch",
    "api_name": "daily_forecast",
    "tool_input": '{"days": 2, "city": "Oslo"}',
    "strip": "truncate",
    "toolbench_key": "",
}
CALL_OF_CLIENT = {key: value for key, value in CALL.items() if key != "toolbench_key"}
CALL_OF_CLIENT = {key: value for key, value in CALL.items() if key != "toolbench_key"}
PARAMETER = {"name": "city", "type": "STRING", "description": "City name", "default": ""}
TOOL = {
    "tool_name": "Sky Watch",
    "tool_description": "Weather for any place.",
    "api_list": [
        {
            "name": "Daily Forecast",
            "description": "Forecast.",
            "required_parameters": [PARAMETER],
            "optional_parameters": [],
        }
    ],
}
OSLO = {"error": "", "response": {"made_up_for": "{'city': 'Oslo', 'days': 2}"}}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A recorded cache with one reply, and a folder of tools, in one that is for replies too."""
    cache, tools = tmp_path / "cache/Weather/sky_watch_for_Weather", tmp_path / "tools/Weather"
    cache.mkdir(parents=True)
    tools.mkdir(parents=True)
    (cache / "daily_forecast.json").write_text(json.dumps({"{'city': 'Rome', 'days': 1}": RECORDED}))
    (tools / "sky_watch.json").write_text(json.dumps(TOOL))
    return tmp_path


@pytest.fixture
def fake() -> Iterator[FakeSimulator]:
    with running(FakeSimulator()) as fake:
        yield fake


Serve = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture
def serve(folders: Path) -> Serve:
    """A server in this process, whose simulator has little patience."""

    def serve(fake: FakeSimulator, seed: int = 42, prompt: str = OWN_PROMPT, **changes: Any) -> TestClient:
        settings = ChatSettings(
            (Server(base_url(fake.url, "SIMULATOR_URL"), changes.pop("key", ""), "SIMULATOR_API_KEY"),),
            **{"timeout_s": 60.0, "patience_s": 0.05, "retry": RetryPolicy(failures=1, first_wait_s=0.01), **changes},
        )
        replies = ResponseCache(folders / "cache_simulated", fuzzy=False)
        documents = ToolDocuments(folders / "tools")
        simulator = Simulator(settings, documents, replies, SystemPrompt(prompt, is_own=True), seed)
        return TestClient(
            make_app(VirtualApi(ResponseCache(folders / "cache"), None, simulator), max_body_bytes=10_000)
        )

    return serve


def post(client: TestClient, tool_input: str = CALL["tool_input"], **changes: str) -> tuple[Any, str]:
    reply = client.post("/virtual", json={**CALL, "tool_input": tool_input, **changes})
    return reply.json(), reply.headers.get("x-cache", "")


def stored(folders: Path) -> dict[str, Any]:
    """The simulated replies of the one API that has any."""
    [path] = (folders / "cache_simulated").rglob("*.json")
    assert path.relative_to(folders / "cache_simulated") == Path("Weather/sky_watch_for_Weather/daily_forecast.json")
    return json.loads(path.read_text())


def test_recorded_replies_come_first_and_nothing_is_asked_or_written_for_them(serve: Serve, fake, folders) -> None:
    with serve(fake) as client:
        assert post(client, '{"city": "Rome", "days": 1}') == (RECORDED, "HIT")
        fuzzy = client.post("/virtual", json={**CALL, "tool_input": '{"days": "1", "city": "Rome"}'})
    assert (fuzzy.json(), fuzzy.headers["x-cache-match"]) == (RECORDED, "fuzzy")
    assert fake.requests == []
    assert not (folders / "cache_simulated").exists()


def test_the_request_has_the_form_that_mirrorapi_knows(serve: Serve, fake) -> None:
    with serve(fake) as client:
        assert post(client) == (OSLO, "SIMULATED")
    [request] = fake.requests
    document = {
        "api_name": "Daily Forecast",
        "api_description": "Forecast.",
        "required_parameters": [PARAMETER],
        "optional_parameters": [],
        "tool_description": "Weather for any place.",
        "tool_name": "sky_watch",
        "tool_category": "Weather",
    }
    user = f"API doc:\n{document}\n\nRequest:\n{{'city': 'Oslo', 'days': 2}}"
    assert request["messages"] == [{"role": "system", "content": OWN_PROMPT}, {"role": "user", "content": user}]
    assert (request["temperature"], request["seed"], request["max_tokens"]) == (0, 42, 2048)


def test_mirrorapi_cache_gets_standardized_names_of_apis(serve: Serve) -> None:
    with running(FakeSimulator(model="stabletoolbench/MirrorAPI-Cache")) as fake, serve(fake) as client:
        post(client)
        assert "{'api_name': 'daily_forecast', " in fake.requests[0]["messages"][1]["content"]


def test_a_reply_is_kept_apart_with_its_origin_and_replayed_without_asking(serve: Serve, fake, folders) -> None:
    before = {path: path.read_bytes() for path in (folders / "cache").rglob("*") if path.is_file()}
    with serve(fake) as client:
        assert post(client) == (OSLO, "SIMULATED")
        assert post(client, '{"city": "Oslo", "days": 2}') == (OSLO, "SIMULATED"), "the order of keys says nothing"
    fake.replies = lambda _: '{"error": "", "response": "another mood"}'
    with serve(fake) as client:
        assert post(client) == (OSLO, "SIMULATED")
    [request] = fake.requests
    [record] = stored(folders).values()
    assert record == {
        "category": "Weather",
        "tool": "sky_watch_for_Weather",
        "api": "daily_forecast",
        "arguments": {"city": "Oslo", "days": 2},
        "model": "fake-mirror",
        "served_model": "fake-mirror",
        "prompt_sha256": hashlib.sha256(json.dumps(request["messages"]).encode()).hexdigest(),
        "system_prompt_sha256": hashlib.sha256(OWN_PROMPT.encode()).hexdigest(),
        "seed": 42,
        "temperature": 0.0,
        "max_tokens": 2048,
        "tokens": {"prompt": 100, "completion": 10},
        "answer": OSLO,
    }
    assert {path: path.read_bytes() for path in (folders / "cache").rglob("*") if path.is_file()} == before


def test_another_model_prompt_seed_or_documentation_has_replies_of_its_own(serve: Serve, fake, folders) -> None:
    with serve(fake) as client:
        post(client)
    with running(FakeSimulator(model="other")) as other, serve(other) as client:
        post(client)
        assert len(other.requests) == 1
    for changes in ({"seed": 7}, {"prompt": "Be brief."}):
        with serve(fake, **changes) as client:
            post(client)
    (folders / "tools/Weather/sky_watch.json").write_text(json.dumps({**TOOL, "tool_description": "Rain only."}))
    with serve(fake) as client:
        post(client)
        assert len(fake.requests) == 4
        assert post(client) == (OSLO, "SIMULATED")
    assert len(fake.requests) == 4
    assert len(stored(folders)) == 5


def test_equal_calls_at_once_are_asked_once(serve: Serve, fake) -> None:
    fake.delay_s = 0.3
    with serve(fake) as client, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: post(client), range(8)))
    assert replies == [(OSLO, "SIMULATED")] * 8
    assert len(fake.requests) == 1


def no_reply_is(text: str) -> Callable[[FakeSimulator], None]:
    def say(fake: FakeSimulator) -> None:
        fake.replies = lambda _: text

    return say


def always(answer: Any) -> Callable[[FakeSimulator], None]:
    return lambda fake: fake.upcoming.extend([answer] * 50)


def be_slow(fake: FakeSimulator) -> None:
    fake.delay_s = 3


def be_cut(fake: FakeSimulator) -> None:
    fake.finish_reason = "length"


def be_dead(fake: FakeSimulator) -> None:
    fake.dies_after = 0


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (no_reply_is("The weather is fine."), "no whole reply"),
        (no_reply_is('{"weather": "fine"}'), "no whole reply"),
        (no_reply_is('{"error": "", "response": ""}'), "no whole reply"),
        (no_reply_is('{"error": "", "response": "fi'), "no whole reply"),
        (no_reply_is(""), "no whole reply"),
        (be_cut, "no whole reply in the form that was asked for, cut at 2048 tokens"),
        (always(error_answer(429, "Slow down")), "status 429: Slow down"),
        (always(error_answer(500, "Out of luck")), "status 500: Out of luck"),
        (always(error_answer(400, "Too long")), "status 400: Too long"),
        (always(error_answer(401, "Who is there?")), "set SIMULATOR_API_KEY"),
        (always(HTML), "not a JSON object"),
        (always(json_answer({"choices": []})), "not a chat completion"),
        (be_slow, "within 0.5 s"),
        (be_dead, "lost the connection"),
    ],
)
def test_a_simulator_without_a_whole_reply_leaves_a_miss_and_one_warning(
    serve: Serve, fake, folders, caplog, fault, why
) -> None:
    with serve(fake, timeout_s=0.5 if fault is be_slow else 60.0, model="fake-mirror") as client:
        fault(fake)
        assert post(client) == (NOT_RECORDED, "MISS")
        assert client.get("/health").json()["misses"] == 1
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert why in warnings[0]
    assert "sky_watch_for_Weather/daily_forecast" in warnings[0]
    assert not (folders / "cache_simulated").exists()


def test_an_outage_is_waited_for_once_and_over_with_the_next_reply(serve: Serve, fake) -> None:
    with serve(fake, patience_s=60.0) as client:
        fake.upcoming.extend([error_answer(503, "Loading")] * 3)
        assert post(client) == (OSLO, "SIMULATED")


@pytest.mark.parametrize(
    "changes",
    [{"tool_name": "unknown"}, {"api_name": "unknown"}, {"category": ".."}, {"tool_input": "[1]"}, {"tool_input": "7"}],
)
def test_what_is_not_documented_or_no_object_is_a_miss_and_never_asked(serve: Serve, fake, changes) -> None:
    with serve(fake) as client:
        assert post(client, **changes) == (NOT_RECORDED, "MISS")
    assert fake.requests == []


def test_a_folder_that_takes_no_reply_costs_the_memory_of_it_and_not_the_reply(serve: Serve, fake, folders) -> None:
    (folders / "cache_simulated").write_text("in the way")
    with serve(fake) as client:
        assert post(client) == (OSLO, "SIMULATED")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--simulator_model", "m"], "the simulator m is nowhere: name its server with --simulator_url"),
        (["--simulator_url", "http://a"], "pass --tools_dir"),
        (["--simulator_url", "http://a", "--tools_dir", "{tmp}", "--forward_url", "http://b"], "pass one of them"),
        (
            ["--simulator_url", "http://a", "--tools_dir", "{tmp}", "--simulated_dir", "{tmp}/cache/x"],
            "not to be mixed",
        ),
        (["--simulator_url", "a", "--tools_dir", "{tmp}"], "SIMULATOR_URL must start with http"),
        (["--simulator_url", "http://a", "--tools_dir", "{tmp}", "--simulated_dir", "{tmp}/file/x"], "Cannot write"),
    ],
)
def test_settings_that_cannot_be_meant_are_one_line(folders: Path, capsys, more: list[str], told: str) -> None:
    (folders / "file").touch()
    filled = [argument.replace("{tmp}", str(folders)) for argument in more]
    assert main(["--cache_dir", str(folders / "cache"), *filled]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('<think>{"error": "x"}</think>{"error": "", "response": 1}', {"error": "", "response": 1}),
        ('```json\n{"error": null, "response": []}\n```', {"error": "", "response": []}),
        ('Sure: {"error": "no city", "response": ""}', {"error": "no city", "response": ""}),
        (
            '{\n    "error": "",\n    "response": "{"status":0,"names":["en"]}"\n}',
            {"error": "", "response": '{"status":0,"names":["en"]}'},
        ),
        ('{"error": "", "response": "{"a": "b"},"c', None),
        ('{"error": {"code": 1}, "response": "x"}', None),
        ("[1]", None),
    ],
)
def test_replies_are_read_from_json_and_from_mirrorapis_almost_json(text: str, answer: Any) -> None:
    assert read_answer(Said(text, None, "", 0, 0)) == answer


LEAVES = st.none() | st.booleans() | st.integers() | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), VALUES), st.randoms(use_true_random=False))
def test_arguments_make_one_request_in_whatever_order_their_keys_are(arguments: Any, rng: random.Random) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())
            rng.shuffle(items)
            return {key: shuffled(item) for key, item in items}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    def digest(given: Any) -> str:
        canonical = canonical_arguments(given)
        assert canonical is not None
        return request_digest(chat_request("system", {}, "api", canonical, model="m", seed=1))

    assert digest(shuffled(arguments)) == digest(arguments)


@given(st.text(alphabet='{}[]":, \\\nerosponab', max_size=80), VALUES)
def test_whatever_is_said_is_a_whole_reply_or_none(text: str, response: Any) -> None:
    answer = read_answer(Said(text, None, "", 0, 0))
    assert answer is None or answer.keys() == {"error", "response"}
    said = json.dumps({"error": "", "response": response})
    whole = None if response in ("", None) else {"error": "", "response": response}
    assert read_answer(Said(said, None, "", 0, 0)) == whole
    assert read_answer(Said(said[:-1], None, "", 0, 0)) is None


def flags(folders: Path, url: str, *more: str) -> list[str]:
    return ["--simulator_url", url, "--tools_dir", str(folders / "tools"), *more]


def call_of(city: str) -> dict[str, str]:
    return {**CALL, "tool_input": json.dumps({"city": city})}


def test_two_servers_share_a_folder_and_lose_nothing(folders: Path, fake) -> None:
    cities = [f"City {number}" for number in range(30)]
    cache = folders / "cache"
    with (
        server_process(cache, *flags(folders, fake.url)) as (_, one),
        server_process(cache, *flags(folders, fake.url)) as (_, two),
        httpx.Client(timeout=60) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        urls = [one, two] * len(cities)
        calls = [call_of(city) for city in cities for _ in range(2)]
        replies = list(pool.map(lambda url, call: client.post(url, json=call).json(), urls, calls))
    assert replies[::2] == replies[1::2]
    assert len(stored(folders)) == len(cities)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_kill_9_while_replies_are_stored_loses_none_that_was_given_and_leaves_nothing_half(
    folders: Path, fake, seed
) -> None:
    given: dict[str, Any] = {}
    is_over = threading.Event()

    def ask(start: int) -> None:
        for number in range(start, 10_000, 4):
            try:
                reply = client.post(url, json=call_of(f"City {number}"))
            except httpx.HTTPError:
                return
            assert reply.headers["x-cache"] == "SIMULATED"
            given[f"City {number}"] = reply.json()
            if is_over.is_set():
                return

    with (
        server_process(folders / "cache", *flags(folders, fake.url)) as (process, url),
        httpx.Client(timeout=60) as client,
    ):
        threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        goal = random.Random(seed).randint(5, 60)
        wait_for(lambda: len(given) >= goal)
        process.send_signal(signal.SIGKILL)
        is_over.set()
        for thread in threads:
            thread.join()
    kept = {record["arguments"]["city"]: record["answer"] for record in stored(folders).values()}
    assert given.items() <= kept.items()
    num_asked = len(fake.requests)
    with server_process(folders / "cache", *flags(folders, fake.url)) as (_, url), httpx.Client(timeout=60) as client:
        for city, answer in given.items():
            assert client.post(url, json=call_of(city)).json() == answer
    assert len(fake.requests) == num_asked, "what was given is replayed"


def test_a_server_tells_of_its_simulator_and_of_one_that_cannot_be_asked(serve: Serve, fake) -> None:
    with serve(fake) as client:
        state = client.get("/simulator").json()
        assert (state["model"], state["seed"], state["is_own_prompt"], state["problem"]) == (
            "fake-mirror",
            42,
            True,
            "",
        )
    with serve(fake, model="other") as client:
        assert "has fake-mirror and not other: name one" in client.get("/simulator").json()["problem"]
    fake.api_key = "needed"
    with serve(fake, key="wrong") as client:
        assert "refuses the key (status 401): set SIMULATOR_API_KEY" in client.get("/simulator").json()["problem"]


def test_the_client_says_once_why_calls_are_not_simulated(folders: Path, fake, caplog) -> None:
    fake.replies = lambda _: f"nonsense {'!' * len(fake.requests)}"
    with server_process(folders / "cache", *flags(folders, fake.url)) as (_, url), ApiClient(url) as client:
        for _ in range(2):
            reply = client.ask(**CALL_OF_CLIENT)
            assert (json.loads(reply.observation), reply.cache) == (NOT_RECORDED, "miss")
        state = client.simulator()
        assert state is not None
        state.refuse_problem()
    assert len([text for text in caplog.messages if "Calls are not simulated: it said no whole reply" in text]) == 1


def test_a_server_without_a_simulator_says_so_and_one_of_another_kind_says_nothing(folders: Path, fake) -> None:
    with server_process(folders / "cache") as (_, url), ApiClient(url) as client:
        state = client.simulator()
        assert state is not None
        assert state.setting == "none"
    with ApiClient(fake.url + "/virtual") as client:
        assert client.simulator() is None


def test_a_dead_simulator_is_refused_in_one_line(folders: Path) -> None:
    more = flags(folders, "http://127.0.0.1:9", "--simulator_model", "m")
    with server_process(folders / "cache", *more) as (_, url), ApiClient(url) as client:
        state = client.simulator()
        assert state is not None
        with pytest.raises(ApiError, match=r"simulator at http://127\.0\.0\.1:9/v1 cannot be reached: connection"):
            state.refuse_problem()
        recorded = client.ask(**{**CALL_OF_CLIENT, "tool_input": '{"city": "Rome", "days": 1}'})
        assert json.loads(recorded.observation) == RECORDED, "what is recorded is served all the same"


def test_the_key_comes_from_the_environment_and_is_written_nowhere(folders: Path, fake, monkeypatch) -> None:
    fake.api_key = KEY
    monkeypatch.setenv("SIMULATOR_API_KEY", KEY)
    monkeypatch.setenv("SIMULATOR_URL", fake.url)
    log = folders / "log"
    with server_process(folders / "cache", "--tools_dir", str(folders / "tools"), "--log_file", str(log)) as (
        process,
        url,
    ):
        assert httpx.post(url, json=CALL, timeout=60).json() == OSLO
        assert KEY not in httpx.get(url.replace("/virtual", "/simulator")).text
        assert KEY not in str(process.args)
    assert not [path for path in folders.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_the_published_prompt_is_recognised_by_its_digest_and_a_wrong_checkout_refused(tmp_path: Path) -> None:
    assert len(PUBLISHED) == 64
    (tmp_path / "server").mkdir()
    (tmp_path / "server/system_prompts.py").write_text('SFT_SYSTEM = "changed"\n')
    assert load_system_prompt(None, [tmp_path]).is_own
    with pytest.raises(ConfigError, match=r"has no server/system_prompts\.py with MirrorAPI's"):
        load_system_prompt(tmp_path, [])
