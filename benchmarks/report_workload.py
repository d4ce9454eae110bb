"""Makes a folder of answers as a real run leaves it, for the report's benchmark, with made-up conversations.

The queries, their tools and the shape of every API's response are StableToolBench's; the words in them are
drawn at random, so that nothing compresses better than it would in earnest. Searches, answer files and event
logs are the package's own; only the model, the APIs and the clock are made up.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import EngineError
from evaluation.toolbench.inference.records.failures import FailureLog
from evaluation.toolbench.inference.records.json_lines import JsonLines
from evaluation.toolbench.inference.records.run_record import (
    GpuRecord,
    ReplicaRecord,
    RunRecord,
    write_run_record,
)
from tests.helpers.run_report import GIVE_UP, Move, SimulatedLog, finish, replica_log, run_query

OBSERVATION_LENGTH = 1024  # characters, the pipeline's default
NUM_REPLICAS = 4
CONVERSATIONS = 16  # of each replica at once
_GPU_BYTES = 80 * 2**30
_FAILING, _GIVING_UP = 0.02, 0.1  # of all queries
_BAD_CALLS = 0.15
_ERRORS = [
    ("API not working error...", 6),
    ("Too many requests error...", 9),
    ("Message error...", 11),
    ("request invalid, data error. status_code=500", 12),
    ("Timeout error...", 5),
]


@dataclass(frozen=True)
class RealQuery:
    query_id: str
    text: str
    apis: Sequence[Mapping[str, Any]]
    test_set: str


def real_queries(folder: Path, number: int) -> list[RealQuery]:
    """Return `number` queries of `folder`/solvable_queries; beyond those there are, queries with others' tools."""
    records = [
        (record, path.stem)
        for path in sorted((folder / "solvable_queries" / "test_instruction").glob("*.json"))
        for record in json.loads(path.read_text(encoding="utf-8"))
    ]
    queries = {
        str(each["query_id"]): RealQuery(str(each["query_id"]), each["query"], each["api_list"], test_set)
        for each, test_set in records
    }
    rng = random.Random(0)
    known = list(queries.values())
    while len(queries) < number:
        like = rng.choice(known)
        query = RealQuery(str(200_000 + len(queries)), like.text, rng.choice(known).apis, like.test_set)
        queries[query.query_id] = query
    return list(queries.values())[:number]


def make_folder(folder: Path, queries: Sequence[RealQuery], *, method: str, variant: int = 0) -> None:
    """Write answers, events, failures and run.json of a run over `queries`, each the same in every call.

    Runs of different variants begin a query alike and go different ways after some steps.
    """
    words = sorted({word for query in queries for word in query.text.split()})
    failures = FailureLog(folder, method)
    for replica in range(NUM_REPLICAS):
        gpu = f"GPU-{replica:08x}-1d2c-4e5f-8a9b-0c1d2e3f4a5b"
        clocks = [SimulatedLog.time + 40 + 0.3 * slot for slot in range(CONVERSATIONS)]
        with replica_log(folder, replica, gpus=[gpu], num_conversations=CONVERSATIONS) as log:
            for query in queries[replica::NUM_REPLICAS]:
                slot = min(range(CONVERSATIONS), key=clocks.__getitem__)
                log.time = clocks[slot]
                _run(folder, log, query, words, method, failures, variant)
                clocks[slot] = log.time + 0.01
            log.time = max(clocks)
            _sample_memory(log, gpu, log.time)
    write_run_record(folder, _record(method))


def _run(
    folder: Path, log: SimulatedLog, query: RealQuery, words: list[str], method: str, failures: FailureLog, variant: int
) -> None:
    rng = random.Random(query.query_id)
    fails = rng.random() < _FAILING
    moves = _conversation(rng, query, words, rng.choice((1, 1, 2, 3)) if method.startswith("DFS") else 1, variant)
    try:
        run_query(
            folder, log, query.query_id, _until_it_fails(moves) if fails else moves, query=query.text, method=method
        )
    except EngineError as error:
        failures.record(query.query_id, error)


def _until_it_fails(moves: Iterator[Move]) -> Iterator[Move]:
    yield from islice(moves, 2)
    raise EngineError("the prompt has 8,301 tokens, and this engine takes at most 8,192: shorten it")


def _conversation(rng: random.Random, query: RealQuery, words: list[str], tries: int, variant: int) -> Iterator[Move]:
    same_steps = random.Random(f"{variant} {query.query_id}").randrange(6) if variant else None
    for attempt in range(tries):
        for step in range(rng.choice((1, 2, 3, 3, 4, 4, 4, 5, 5, 5))):
            if step == same_steps:
                rng.seed(f"{variant} {query.query_id}")
            yield _move(rng, rng.choice(query.apis), words)
        if attempt + 1 < tries or rng.random() < _GIVING_UP:
            yield finish(GIVE_UP, thought=_prose(rng, words, 30))
    answer = {"return_type": "give_answer", "final_answer": _prose(rng, words, rng.randint(40, 160))}
    while True:
        yield finish(json.dumps(answer), thought=_prose(rng, words, 45))


def _move(rng: random.Random, api: Mapping[str, Any], words: list[str]) -> Move:
    parameters = [*api.get("required_parameters", ()), *api.get("optional_parameters", ())]
    arguments = {each["name"]: each.get("default") or rng.choice(words) for each in parameters[:4]}
    error, code = rng.choice(_ERRORS) if rng.random() < _BAD_CALLS else ("", 0)
    response = "" if error else json.dumps(_response(rng, api.get("template_response", "str"), words))
    observation = json.dumps({"error": error, "response": response})
    if len(observation) > OBSERVATION_LENGTH:
        observation = observation[:OBSERVATION_LENGTH] + "..."
    return Move(
        thought=_prose(rng, words, 45),
        action=f"{api['api_name']}_for_{api['tool_name']}".lower().replace(" ", "_")[-64:],
        arguments=json.dumps(arguments),
        observation=observation,
        code=code,
        generation_s=rng.uniform(0.8, 2.5),
        call_s=rng.lognormvariate(-0.7, 0.8),
        tokens=rng.randint(70, 140),
    )


def _response(rng: random.Random, template: Any, words: list[str]) -> Any:
    """Return a response of the template's shape: {"name": "str", "n": "int"}, lists with one item as a template."""
    if isinstance(template, dict):
        return {key: _response(rng, value, words) for key, value in template.items() if key != "_list_length"}
    if isinstance(template, list):
        return [_response(rng, item, words) for item in template for _ in range(3)]
    if "int" in str(template) or "float" in str(template):
        return round(rng.uniform(0, 1e5), 2)
    return _prose(rng, words, rng.randint(1, 12))


def _prose(rng: random.Random, words: list[str], length: int) -> str:
    return " ".join(rng.choices(words, k=length))


def make_verdicts(folder: Path, stem: str, queries: Sequence[RealQuery], *, repeats: int, variant: int = 0) -> None:
    """Write what a judge with reasons would have left of a scoring: `<stem>_verdicts.jsonl` and `<stem>.json`."""
    words = sorted({word for query in queries for word in query.text.split()})
    log = JsonLines(folder / f"{stem}_verdicts.jsonl")
    statuses: dict[str, dict[str, Any]] = {}
    for query in queries:
        rng = random.Random(f"{variant} {query.query_id}")
        likely = rng.random()
        said = {repeat: "Solved" if rng.random() < likely else "Unsolved" for repeat in range(repeats)}
        for repeat, verdict in said.items():
            log.append(
                {
                    "query_id": query.query_id,
                    "repeat": repeat,
                    "check": "check_answer_status",
                    "verdict": verdict,
                    "reason": _prose(rng, words, 30),
                    "prompt_sha256": "f9fc6101cdda",
                    "model": "judge-70b",
                    "seed": repeat,
                }
            )
        statuses[query.query_id] = {"is_solved": {str(repeat): f"AnswerStatus.{each}" for repeat, each in said.items()}}
    log.close()
    (folder / f"{stem}.json").write_text(json.dumps(statuses), encoding="utf-8")


def _sample_memory(log: SimulatedLog, gpu: str, end: float) -> None:
    rng = random.Random(gpu)
    start, t = SimulatedLog.time, SimulatedLog.time
    while t < end:
        loaded = min(1.0, (t - start) / 40)
        used = int((16.2 * loaded + (44 + rng.uniform(-2, 2)) * (loaded == 1)) * 2**30)
        log.write("memory", t, gpu=gpu, used=used, total=_GPU_BYTES)
        t += 5


def _record(method: str) -> RunRecord:
    gpus = [f"GPU-{replica:08x}-1d2c-4e5f-8a9b-0c1d2e3f4a5b" for replica in range(NUM_REPLICAS)]
    return RunRecord(
        "run-1",
        "finished",
        SimulatedLog.time,
        SimulatedLog.time + 600,
        configuration={"model_path": "ToolGen-Llama-3-8B", "method": method, "num_thread": CONVERSATIONS},
        versions={"python": "3.12.3", "torch": "2.11.0", "transformers": "5.17.0"},
        gpus=[GpuRecord(uuid, "NVIDIA H100 80GB HBM3", _GPU_BYTES, index) for index, uuid in enumerate(gpus)],
        layout=[ReplicaRecord(index, [uuid], CONVERSATIONS) for index, uuid in enumerate(gpus)],
        layout_reason="the model fits on one GPU (15.7 of 68.0 GiB): 4 replicas",
        seeds={"seed": 42},
        timings_s={"load": 40.0, "run": 560.0},
    )
