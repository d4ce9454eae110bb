"""The server engine and a judge over real vLLM servers on this machine's processor."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from benchmarks.random_checkpoint import save_random_checkpoint
from evaluation.retrieval.eval_toolgen import main as evaluate_retrieval
from evaluation.toolbench.demo import DATA_DIR, MODEL_DIR
from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.remote.engine import ServerEngine
from evaluation.toolbench.inference.engine.remote.settings import ServerSettings
from evaluation.toolbench.inference.engine.request import GenerationRequest, Sampling
from evaluation.toolbench.inference.errors import ServerError
from evaluation.toolbench.inference.multi_gpu.loading import load_model
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from evaluation.toolbench.inference.toolgen.agent_parts import load_tokenizer, read_config
from evaluation.toolbench.inference.toolgen.language import ToolLanguage
from evaluation.toolbench.inference.toolgen.server_needs import needs_of
from tests.helpers.engine import assert_allowed
from tests.helpers.pipeline import ROOT, run_here, serving, start_pipeline, wait_for
from tests.helpers.scoring import JUDGE_VARIABLES, ScoringWorld
from tests.helpers.vllm import ScriptedServer, VllmServer, require_vllm, running

REAL_DATA = ROOT.parent / "shared" / "real_data"
NUM_QUERIES = 5
KEY = "a-key-of-this-test"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
needs_demo = pytest.mark.skipif(not (MODEL_DIR / "model.safetensors").is_file(), reason=f"no model in {MODEL_DIR}")


@pytest.fixture(scope="module")
def service_url(tmp_path_factory):
    """The virtual API server with the demo's recorded replies."""
    with serving(DATA_DIR / "tool_response_cache", tmp_path_factory.mktemp("api") / "url") as url:
        yield url


@pytest.fixture(scope="module")
def demo_flags(tmp_path_factory):
    """The command line of the demo over some of its queries, for answers in a folder."""
    queries = json.loads((DATA_DIR / "solvable_queries/test_instruction/demo_queries.json").read_text("utf-8"))
    query_file = tmp_path_factory.mktemp("queries") / "queries.json"
    query_file.write_text(json.dumps(queries[:NUM_QUERIES]))

    def flags(answers, **more):
        given = {
            "backbone_model": "toolgen_atomic",
            "model_path": MODEL_DIR,
            "data_dir": DATA_DIR,
            "input_query_file": query_file,
            "output_answer_file": answers,
            "function_provider": "all",
            "restrict_actions": "all",
            "single_chain_max_step": 9,
            "max_new_tokens": 100,
            "num_thread": NUM_QUERIES,
            **more,
        }
        return [text for name, value in given.items() for text in (f"--{name}", str(value))]

    return flags


@pytest.fixture(scope="module")
def reference(demo_flags, service_url, tmp_path_factory):
    """The demo's answers by `generate`."""
    answers = tmp_path_factory.mktemp("reference")
    run = run_here(demo_flags(answers, engine="generate", dtype="float32"), service_url)
    assert run.returncode == 0, run.stderr
    return answers_in(answers)


def answers_in(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*_CoT@1.json")}


@pytest.fixture(scope="module")
def demo_server(tmp_path_factory):
    """A server of the demo's checkpoint, started as users start it; a judge needs a template."""
    folder = tmp_path_factory.mktemp("vllm")
    template = folder / "chat.jinja"
    template.write_text("{% for message in messages %}{{ message['content'] }}\n{% endfor %}")
    with running([ScriptedServer(MODEL_DIR, folder, "--chat-template", str(template))]) as [server]:
        yield server


@pytest.fixture(scope="module")
def second_server(tmp_path_factory):
    with running([VllmServer(MODEL_DIR, tmp_path_factory.mktemp("vllm"))]) as [server]:
        yield server


@needs_demo
def test_the_script_says_how_to_run_the_pipeline(demo_server):
    line = f"ENGINE=server ENGINE_URL={demo_server.url} MODEL_PATH={MODEL_DIR} bash scripts/inference/inference_toolgen"
    wait_for(lambda: line in demo_server.log())  # it looks once a second whether the server is ready


@needs_demo
def test_the_demo_gives_the_answers_of_generate(demo_server, demo_flags, reference, service_url, tmp_path):
    run = run_here(demo_flags(tmp_path, engine="server", engine_url=demo_server.url), service_url)
    assert run.returncode == 0, run.stderr
    assert answers_in(tmp_path) == reference
    assert len(reference) == NUM_QUERIES


@needs_demo
@pytest.mark.long
def test_two_servers_give_the_answers_of_generate_and_one_that_is_killed_costs_none(
    demo_server, second_server, demo_flags, reference, service_url, tmp_path
):
    urls = f"{demo_server.url},{second_server.url}"
    run = run_here(demo_flags(tmp_path / "both", engine="server", engine_url=urls), service_url)
    assert run.returncode == 0, run.stderr
    assert answers_in(tmp_path / "both") == reference

    output = tmp_path / "killed"
    flags = demo_flags(output, engine="server", engine_url=urls, num_thread=2)  # some are left then
    run = start_pipeline(flags, service_url)
    wait_for(lambda: answers_in(output) or run.poll() is not None, 120)
    second_server.kill()
    _, stderr = run.communicate(timeout=240)
    assert run.returncode == 0, stderr
    assert answers_in(output) == reference


@needs_demo
@pytest.mark.long
def test_the_only_server_is_told_to_end_and_started_again_and_the_run_completes(
    demo_server, demo_flags, reference, service_url, tmp_path
):
    """SIGTERM ends generations in the middle, under status 200: nothing of them may become an action."""
    server = demo_server
    run = start_pipeline(demo_flags(tmp_path, engine="server", engine_url=server.url, num_thread=1), service_url)
    wait_for(lambda: answers_in(tmp_path) or run.poll() is not None, 120)
    server.end()
    server.start()
    server.wait()
    _, stderr = run.communicate(timeout=240)
    assert run.returncode == 0, stderr
    assert f"the generation server at {server.url} is back" in stderr
    assert answers_in(tmp_path) == reference


@pytest.fixture(scope="module")
def real_tools(tmp_path_factory):
    """A checkpoint with the published tool tokens and random weights, and a language over its tokenizer."""
    if not (REAL_DATA / "virtual_tokens.txt").is_file():
        pytest.skip(f"no real data at {REAL_DATA}")
    require_vllm()
    checkpoint = tmp_path_factory.mktemp("random") / "random"
    save_random_checkpoint(REAL_DATA, checkpoint)
    options = AgentOptions(data_dir=REAL_DATA, restrict_actions="all")
    return checkpoint, ToolLanguage(load_tokenizer(str(checkpoint)), options, indented_prompt=False)


@pytest.fixture(scope="module")
def random_server(real_tools, tmp_path_factory):
    with running([VllmServer(real_tools[0], tmp_path_factory.mktemp("vllm"), "--api-key", KEY)]) as [server]:
        yield server


@pytest.fixture
def needs(real_tools):
    checkpoint, language = real_tools
    return needs_of(str(checkpoint), read_config(str(checkpoint)), language)


@pytest.fixture
def settings(random_server, monkeypatch):
    monkeypatch.setenv("ENGINE_API_KEY", KEY)
    return ServerSettings.of(random_server.url)


@pytest.mark.long
def test_constraints_hold_over_200_conversations_with_the_published_tool_tokens(real_tools, settings, needs):
    checkpoint, language = real_tools
    stop = language.actions.end
    every_tool = TokenSet(ids[0] for ids in needs.spellings.values())
    assert len(every_tool) == 46_985
    model = load_model(str(checkpoint), num_gpus=1, device="cpu", dtype="float32")
    with contextlib.closing(ServerEngine(settings, needs)) as engine, ThreadPoolExecutor(16) as pool:

        def converse(number):
            """A thought, an action by each way of constraining it, arguments; all that was asked and answered."""
            rng = random.Random(number)
            some_tools = TokenSet(rng.sample(every_tool.ids.tolist(), 5))
            actions = [[rng.randrange(200) for _ in range(rng.randint(1, 4))] for _ in range(300)]
            sampling = Sampling(temperature=1.0 if number % 2 else 0.0, top_p=0.9, seed=number)
            prompt = [rng.randrange(2000) for _ in range(rng.randint(5, 60))]
            exchanges = []
            for constraint, count in (
                (None, 8),
                (every_tool, 1),
                (some_tools, 3),
                (TokenTrie(actions, stop.largest()), 5),
                (None, 8),
            ):
                request = GenerationRequest(
                    prompt, count, stop, sampling, constraint=constraint, conversation_id=str(number)
                )
                result = engine.generate(request)
                exchanges.append((request, result))
                prompt = [*prompt, *result.token_ids, *(rng.randrange(2000) for _ in range(5))]
            engine.end_conversation(str(number))
            return exchanges

        conversations = list(pool.map(converse, range(200)))
        unrestricted = GenerationRequest([5, 6, 7], 40, language.actions.stops)
        after_a_tool_token = engine.generate(unrestricted)
    for exchanges in conversations:
        for request, result in exchanges:
            assert_allowed(request, result)
    drawn = {result.token_ids for exchanges in conversations for _, result in exchanges[1:2]}
    assert len(drawn) > 100
    with contextlib.closing(GenerateEngine(model)) as plain:
        assert plain.generate(unrestricted) == after_a_tool_token
        for exchanges in conversations[:10:2]:  # the greedy ones
            assert [result for _, result in exchanges] == [plain.generate(request) for request, _ in exchanges]


@pytest.mark.long
def test_a_server_that_does_not_fit_is_refused_in_one_line(settings, needs, monkeypatch):
    last = list(needs.spellings)[-1]
    unfit = {
        "not /elsewhere/another-model: start it with that model": replace(needs, model="/elsewhere/another-model"),
        "takes conversations of 8192 tokens, and this run needs 9000": replace(needs, max_length=9000),
        "the local tokenizer as [7": replace(needs, spellings={**needs.spellings, last: (7,)}),
    }
    for message, other_needs in unfit.items():
        with pytest.raises(ServerError) as caught:
            ServerEngine(settings, other_needs)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("ENGINE_API_KEY", "another key")
    with pytest.raises(ServerError, match=r"refuses the key \(status 401\): set ENGINE_API_KEY") as caught:
        ServerEngine(ServerSettings.of(str(settings.urls[0])), needs)
    assert "another key" not in str(caught.value)


PARALLEL = ("tensor", "pipeline", "data")


@needs_demo
@pytest.mark.long
@pytest.mark.parametrize("kind", PARALLEL)
def test_the_demo_gives_the_answers_of_generate_on_a_server_in_parts(
    demo_flags, reference, service_url, tmp_path, tmp_path_factory, kind
):
    """Two processes. vLLM's pipeline on the processor needs the warm-up that eager servers leave out."""
    options = (f"--{kind}-parallel-size", "2")
    server = VllmServer(MODEL_DIR, tmp_path_factory.mktemp("vllm"), *options, cores="0|1", is_eager=kind != "pipeline")
    with running([server]):
        run = run_here(demo_flags(tmp_path, engine="server", engine_url=server.url), service_url)
    assert run.returncode == 0, run.stderr
    assert answers_in(tmp_path) == reference


@needs_demo
def test_a_retrieval_evaluation_gives_the_results_of_our_own_engine(demo_server, tmp_path):
    """Some tools are among a server's likeliest tokens, and the others are asked for one by one."""
    data = tmp_path / "data"
    shutil.copytree(DATA_DIR / "toolenv", data / "toolenv")
    shutil.copytree(DATA_DIR / "retrieval", data / "retrieval")
    queries = data / "retrieval/demo/test_demo_seen.query.txt"
    queries.write_text("".join(queries.read_text("utf-8").splitlines(keepends=True)[:NUM_QUERIES]), "utf-8")
    flags = [f"--model_name_or_path={MODEL_DIR}", f"--data_dir={data}", "--stage=demo", "--split=seen"]
    results = []
    for engine in (["--engine=server", f"--engine_url={demo_server.url}"], ["--engine=paged"]):
        prefix = tmp_path / engine[0].partition("=")[2]
        assert evaluate_retrieval([*flags, *engine, "--dtype=float32", f"--result_path={prefix}/"]) == 0
        results.append((prefix / "model_constrained_Atomic_demo_seen.json").read_bytes())
    assert results[0] == results[1]


@pytest.fixture
def scoring(tmp_path, monkeypatch):
    for name in JUDGE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return ScoringWorld(tmp_path)


@needs_demo
@pytest.mark.parametrize(("constraint", "used"), [("auto", None), ("schema", "schema"), ("choice", "choice")])
def test_every_verdict_of_a_judge_is_an_allowed_word(scoring, demo_server, constraint, used):
    """The demo's model is no judge: only the constraint holds it to the words."""
    assert scoring.pass_rate(demo_server, "--judge_constraint", constraint) == 0
    verdicts = scoring.verdicts()
    assert {(each["query_id"], each["repeat"]) for each in verdicts} >= {
        (query_id, repeat) for query_id in ("5001", "5003") for repeat in range(3)
    }
    assert {each["verdict"] for each in verdicts} <= {"Solved", "Unsure", "Unsolved"}
    assert all(each["tokens"]["prompt"] > 100 for each in verdicts)
    judge = scoring.results()["judge"]
    assert (judge["model"], judge["served_model"]) == (MODEL_DIR.name, MODEL_DIR.name), "the only model that is served"
    assert judge["constraint"] in ({used} if used else {"tool", "schema"})


@needs_demo
def test_a_judge_compares_two_answers(scoring, demo_server):
    assert scoring.preference(demo_server) == 0
    results = json.loads(scoring.preference_file("_results.json").read_text())
    assert results["win_rate"] + results["lose_rate"] + results["tie_rate"] == pytest.approx(1)
    assert results["undecided"] == []
