"""Holds what was promised against real cards, as parts of `multi_gpu`: doctor, order of devices, demo."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from benchmarks.gpu_use import watching
from benchmarks.host_use import following
from benchmarks.multi_gpu_bench import Bench, Row, environment_of
from benchmarks.multi_gpu_worker import ALLOCATED_BYTES
from benchmarks.processes import ROOT, Deadline, PartError, end, printed_by, run_json, start
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
from evaluation.toolbench.inference.multi_gpu.units import GIB, gib

SCRIPT = ROOT / "scripts/inference/inference_toolgen_pipeline_virtual.sh"
DEMO = ROOT / "evaluation/toolbench/demo"
DEMO_QUERIES = DEMO / "assets/solvable_queries/test_instruction/demo_queries.json"
_CPU_QUERIES = 3  # of the demo's, with --cpu
_MANY_QUERIES = 765  # of ToolBench's six test sets together
_WIDTH = 72  # of a doctor's line in the table; the whole line is printed before it
_CONTEXT_BYTES = GIB // 2  # more than a card without a process of ours gains, less than any allocation here


def doctor_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    """Run all checks with the demo, while a checkpoint is written; then with that one, as shards of one replica."""
    writing = None
    checkpoint = bench.folder / "8b"
    if bench.has_checkpoint:
        writing = start("-m", "benchmarks.random_weights", "8b", str(checkpoint), environment=environment_of(bench))
    try:
        yield from doctor_rows("demo", bench, deadline)
        if writing is None:
            return
        writing.wait(deadline.require())
        if writing.returncode:
            raise PartError(f"writing the checkpoint ended with code {writing.returncode}")
        yield from doctor_rows("8B", bench, deadline, "--model_path", str(checkpoint), "--num_replicas", "1")
    except subprocess.TimeoutExpired as error:
        raise PartError("the checkpoint was not written in time") from error
    finally:
        if writing is not None:
            end(writing)


def doctor_rows(name: str, bench: Bench, deadline: Deadline, *arguments: str) -> Iterator[Row]:
    report = run_json(
        ["test_multi_gpu.py", "--json", *arguments], environment_of(bench), deadline, codes=(0, 1), whole_output=True
    )
    for check in report["checks"]:
        for line in (check["measured"], check["advice"] and f"try {check['advice']}", *check["details"]):
            if line:
                print(f"    {name}: {check['check']}: {line}", flush=True)
        measured = f"{check['status']}, {check['measured']}"
        yield Row(f"{name}: {check['check']}", measured[:_WIDTH], is_ok=check["status"] != "fail")


def cards_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    uuids = [gpu.uuid for gpu in inspect_gpus(environ={}).visible]  # as CUDA numbers them when nothing is hidden
    for form, expected in forms_of(uuids if bench.gpus else []).items():
        answer = run_json(
            ["-m", "benchmarks.multi_gpu_worker", "cards"], environment_of(bench, CUDA_VISIBLE_DEVICES=form), deadline
        )
        yield judge_cards(form, expected, answer)


def forms_of(uuids: Sequence[str]) -> dict[str, list[str]]:
    """Return CUDA_VISIBLE_DEVICES to try -> the cards that it means, of those that the driver lists in CUDA's order."""
    if not uuids:
        return {"": []}
    backwards = list(reversed(uuids))
    if len(uuids) == 1:
        return {"0": backwards, uuids[0]: backwards}
    return {"1": [uuids[1]], "1,0": [uuids[1], uuids[0]], ",".join(backwards): backwards}


def judge_cards(form: str, expected: Sequence[str], answer: Mapping[str, Any]) -> Row:
    """Check that cuda:i is the i-th card expected, which alone gained what was put there; the map begins on cuda:0 and
    goes up.
    """
    gained = answer.get("gained_bytes", {})
    said = ", ".join(f"{uuid[:8]} +{gib(gained[uuid])}" for uuid in expected if uuid in gained)
    wrong = []
    if list(answer["order"]) != list(expected) or answer["torch_sees"] != len(expected):
        wrong.append(f"{len(answer['order'])} visible, torch sees {answer['torch_sees']}")
    for position, uuid in enumerate(expected):
        allocated = (position + 1) * ALLOCATED_BYTES  # beside it a context and a small model
        if not allocated <= gained.get(uuid, 0) < allocated + ALLOCATED_BYTES:
            wrong.append(f"{uuid[:8]} should have gained {gib(allocated)}")
    wrong += [
        f"{uuid[:8]} is hidden and in use" for uuid in gained.keys() - set(expected) if gained[uuid] > _CONTEXT_BYTES
    ]
    places = [int(place) for place in answer.get("device_map", {}).values()]
    if expected and (places != sorted(places) or set(places) != set(range(len(expected)))):
        wrong.append(f"the map has the order {places}")
    shown = form if len(form) < 20 else f"{form[:8]}... ({form.count(',') + 1} UUIDs)"
    return Row(f"CUDA_VISIBLE_DEVICES={shown}", "; ".join(wrong) or said or "no GPU", "the cards named", not wrong)


def demo_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    requirements = [sys.executable, str(ROOT / "scripts/lib/check_requirements.py"), str(ROOT / "requirements.txt")]
    check = subprocess.run(requirements, capture_output=True, text=True, check=False)
    if check.returncode:  # the script would install what is missing
        raise PartError(f"this Python lacks what the main script needs: {(check.stdout + check.stderr).strip()}")
    queries = json.loads(DEMO_QUERIES.read_text(encoding="utf-8"))[: None if bench.gpus else _CPU_QUERIES]
    query_file = bench.folder / "queries.json"
    query_file.write_text(json.dumps(queries), encoding="utf-8")
    for replicas in ("1", "2" if len(bench.gpus) == 1 else "auto"):
        began = time.monotonic()
        output = bench.folder / f"demo_{replicas}"
        printed = run_demo(bench, deadline, query_file, output, replicas)
        answers = sum(1 for _ in output.rglob("*_CoT@1.json"))
        banner = next((line for line in printed.splitlines() if line.startswith("GPU count:")), "no banner")
        seconds = time.monotonic() - began
        measured = f"{answers} answers, {seconds:.0f} s, {banner}, {layout_of(output / 'demo_queries')}"
        is_ok = answers == len(queries) and banner == f"GPU count: {min(2, len(bench.gpus))}"
        yield Row(f"demo, NUM_REPLICAS={replicas}", measured, f"{len(queries)} answers", is_ok)


def queries_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    """Answer as many queries as the published sets have, through the main script with a replica on each GPU.

    They are the demo's, again and again, and its model: what the script, the parent and the API server take shows.
    """
    demo = json.loads(DEMO_QUERIES.read_text(encoding="utf-8"))
    number = _MANY_QUERIES if bench.gpus else _CPU_QUERIES
    queries = [
        {**query, "query_id": position} for position, query in zip(range(number), itertools.cycle(demo), strict=False)
    ]
    query_file = bench.folder / "many_queries.json"
    query_file.write_text(json.dumps(queries), encoding="utf-8")
    output = bench.folder / "many"
    replicas = str(max(1, len(bench.gpus)))
    with watching([gpu.uuid for gpu in bench.gpus]) as use, following([os.getpid()]) as host:
        printed = run_demo(bench, deadline, query_file, output, replicas, num_gpus=len(bench.gpus))
    record = json.loads((output / "demo_queries" / "run.json").read_text(encoding="utf-8"))
    answers = sum(1 for _ in output.rglob("*_CoT@1.json"))
    seconds = record["timings_s"]
    rate = 60 * answers / max(seconds["run"], 1e-9)
    banner = next((line for line in printed.splitlines() if line.startswith("GPU count:")), "no banner")
    measured = f"{answers} answers, {rate:.0f} queries/min, loading {seconds['load']:.0f} s, {banner}"
    yield Row(f"{number} queries, {replicas} replicas", measured, f"{number} answers", answers == number)
    busy = "" if use.busy_gpus is None else f", {use.busy_gpus} GPUs busy"
    yield Row("and of the host", f"{host.cores:.1f} cores busy, the parent {host.parent_cores:.2f} of one{busy}")


def layout_of(answers: Path) -> str:
    """Return which replica lay on which GPUs, as the run has recorded it."""
    layout = json.loads((answers / "run.json").read_text(encoding="utf-8"))["layout"]
    return "; ".join(f"replica {each['replica']} on {' '.join(each['gpus']) or 'the CPU'}" for each in layout)


def run_demo(
    bench: Bench, deadline: Deadline, query_file: Path, output: Path, replicas: str, *, num_gpus: int = 2
) -> str:
    """Return what the main script prints.

    When it fails or is late, what it said goes to stderr, where the reason stands, and its last line to a PartError.
    """
    environment = environment_of(
        bench,
        PYTHON=sys.executable,
        MODEL_PATH=str(DEMO / "model"),
        DATA_DIR=str(DEMO / "assets"),
        STAGE="demo",
        GROUP="queries",
        OUTPUT_DIR=str(output),
        NUM_REPLICAS=replicas,
    )
    environment.pop("SERVICE_URL", None)
    if len(bench.gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(min(num_gpus, len(bench.gpus)))))
    command = ["bash", str(SCRIPT), "--input_query_file", str(query_file)]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as messages:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            start_new_session=True,
        )
        printed = printed_by(process, deadline)
        if printed is None:
            raise PartError(f"NUM_REPLICAS={replicas} was not done in time: {_told(messages)}")
        if process.returncode:
            raise PartError(f"NUM_REPLICAS={replicas}: exit code {process.returncode}: {_told(messages)}")
    return printed


def _told(messages: TextIO) -> str:
    """Show on stderr what lies in the file `messages`; returns its last line."""
    messages.seek(0)
    said = messages.read()
    print(said, file=sys.stderr, flush=True)
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "nothing was said")
