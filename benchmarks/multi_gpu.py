"""Several real GPUs in one run: `bash benchmarks/multi_gpu.sh`.

    doctor     test_multi_gpu.py on all GPUs with the 8B model's shape: planned, and a checkpoint of it loaded as shards
    replicas   1, 2 (and 4) replicas with a GPU each, at the same time: the agent workload's throughput
    shards     one replica over 2 (and 4) GPUs against one GPU, and how many GPUs are busy at the same time; before
               that, the tokens of a small float32 model
    cards      CUDA_VISIBLE_DEVICES as "1", "1,0" and UUIDs: which cards NVML sees in use, and the map
    demo       the bundled demo through the main script, with one replica and with auto (two on a single GPU)

Each part has a time limit of its own and ends alone when it fails. Weights are random and made on the GPUs. With one
GPU two replicas share it. Tables, and a JSON line after each part; the last line has all rows. Exit code 0 when
every row is ok, 1 otherwise, 2 for a machine or flags that it cannot run with.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TextIO

import torch

from benchmarks.ceilings import describe_machine
from benchmarks.gpu_use import watching
from benchmarks.multi_gpu_worker import ALLOCATED_BYTES
from benchmarks.processes import ROOT, Deadline, PartError, Worker, end, run_json, start
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.tables import align
from evaluation.toolbench.inference.multi_gpu.units import GIB, gib

SCRIPT = ROOT / "scripts/inference/inference_toolgen_pipeline_virtual.sh"
DEMO = ROOT / "evaluation/toolbench/demo"
DEMO_QUERIES = DEMO / "data/solvable_queries/test_instruction/demo_queries.json"
_CPU_QUERIES = 3  # of the demo's, with --cpu
TOTAL_LIMIT_S = 470
LIMITS_S = {"doctor": 150, "replicas": 170, "shards": 200, "cards": 60, "demo": 120}
_WIDTH = 72  # of a doctor's line in the table; the whole line is printed before it
_BUDGET_SHARE = 0.85  # of a GPU's free memory
_CONTEXT_BYTES = GIB // 2  # more than a card without a process of ours gains, less than any allocation here
_TARGETS = {"2 replicas": 1.9, "4 replicas": 3.7, "over 2 GPUs at 64": 1.6}  # times one GPU's throughput


@dataclass(frozen=True)
class Row:
    """A measurement, and what it should be where there is a target."""

    what: str
    measured: str
    target: str = ""
    is_ok: bool = True


@dataclass(frozen=True)
class Load:
    """`in_flight` conversations at once, `queries` in all; both for each replica."""

    in_flight: int
    queries: int


_SHARED_LOAD = Load(32, 64)  # of each of two replicas on one GPU: half a card has no room for the pages of more


@dataclass
class Bench:
    """What the parts share."""

    gpus: Sequence[Gpu]  # visible ones; none: the CPU
    folder: Path
    shape: str
    light: Load
    heavy: Load
    has_checkpoint: bool
    one_gpu: dict[int, float] = field(default_factory=dict)  # conversations in flight -> queries a minute


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    gpus = () if args.cpu else inspect_gpus().visible
    if not args.cpu and not torch.cuda.is_available():
        print("needs 1 GPU, found 0: give --cpu to try the command with a tiny model", file=sys.stderr)
        return 2
    whole_run = Deadline(TOTAL_LIMIT_S)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="multi_gpu_"))
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        gpus,
        folder,
        shape="tiny" if args.cpu else "8b",
        light=Load(1, 1) if args.cpu else Load(16, 48),
        heavy=Load(2, 2) if args.cpu else Load(64, 128),
        has_checkpoint=not (args.cpu or args.no_checkpoint),
    )
    cards = f"{len(gpus)} x {gpus[0].name}" if gpus else "CPU"
    versions = describe_machine(torch.device("cpu")).removeprefix("CPU, ")
    machine = f"{date.today()}, {cards}, driver {inspect_gpus().driver_version}, {versions}"
    print(machine, flush=True)
    rows: list[Row] = []
    try:
        for name in args.parts:
            rows += run_part(name, PARTS[name], bench, whole_run)
    finally:
        if args.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    seconds = round(TOTAL_LIMIT_S - whole_run.left)
    print_table("all", rows)
    print(json.dumps({"machine": machine, "seconds": seconds, "rows": [asdict(row) for row in rows]}))
    return int(not all(row.is_ok for row in rows))


def run_part(
    name: str, part: Callable[[Bench, Deadline], Iterator[Row]], bench: Bench, whole_run: Deadline
) -> list[Row]:
    """The part's rows as far as it came, printed as a table and as JSON; what ended it is a row too."""
    began = time.monotonic()
    deadline = Deadline(min(LIMITS_S[name], whole_run.left))
    rows: list[Row] = []
    try:
        deadline.require()
        for row in part(bench, deadline):
            rows.append(row)
            print(f"[{name}, {time.monotonic() - began:.0f} s] {row.what}: {row.measured}", file=sys.stderr, flush=True)
    except Exception as error:  # the other parts still run
        first = (str(error).strip().splitlines() or [""])[0]
        said = first if isinstance(error, PartError) else f"{type(error).__name__}: {first}"
        rows.append(Row(f"{name} ended early", said, "", False))
    print_table(f"{name} ({time.monotonic() - began:.0f} s)", rows)
    facts = {"part": name, "seconds": round(time.monotonic() - began, 1), "rows": [asdict(row) for row in rows]}
    print(json.dumps(facts), flush=True)
    return rows


def print_table(title: str, rows: Sequence[Row]) -> None:
    cells = [[row.what, row.measured, row.target, "ok" if row.is_ok else "FAIL"] for row in rows]
    print("", *align([title, "measured", "target", ""], cells), sep="\n", flush=True)


# ---- doctor


def doctor_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    """All checks with the demo loaded, while a checkpoint is written; then that checkpoint as shards of one replica."""
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


# ---- replicas


def replicas_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    """As many processes as the largest number of replicas; fewer of them work when fewer are measured."""
    counts = [count for count in (1, 2, 4) if count <= max(2, len(bench.gpus))]
    sharers = counts[-1] if len(bench.gpus) == 1 else 1
    heavy = _SHARED_LOAD if sharers > 1 else bench.heavy
    light = [] if sharers > 1 else [bench.light]
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(serving(bench, [number % len(bench.gpus)] if bench.gpus else [], number, sharers))
            for number in range(counts[-1])
        ]
        for number, worker in enumerate(workers):
            ready = worker.answer(deadline)
            yield Row(f"replica {number} ready", f"{ready['seconds']} s, {ready['kv_tokens']:,} tokens of KV cache")
        warm_up(workers, heavy, deadline)
        for load in light:
            warm_up(workers[:1], load, deadline)
        yield from one_gpu_rows(bench, workers[0], [*light, heavy], deadline)
        for count in counts[1:]:
            with watching([gpu.uuid for gpu in bench.gpus[:count]]) as use:
                results = ask(workers[:count], heavy, deadline)
            rate = sum(result["queries_per_min"] for result in results)
            times = rate / bench.one_gpu[heavy.in_flight]
            target = None if sharers > 1 or not bench.gpus else _TARGETS[f"{count} replicas"]
            what = f"{count} replicas{' on one GPU' if sharers > 1 else ''}, {heavy.in_flight} conversations each"
            yield throughput_row(what, rate, times, target, use.busy_gpus)
            if sharers > 1:
                yield share_row(budget_of(bench.gpus, sharers), [result["peak_bytes"] for result in results])


def share_row(budget_bytes: int, peaks: Sequence[int]) -> Row:
    """Whether replicas that share a GPU have each stayed within what it was given."""
    measured = " and ".join(f"{peak / GIB:.1f}" for peak in peaks)
    return Row(
        "GPU memory of each", f"{measured} GiB", f"at most {budget_bytes / GIB:.1f} GiB", max(peaks) <= budget_bytes
    )


def one_gpu_rows(bench: Bench, worker: Worker, loads: Sequence[Load], deadline: Deadline) -> Iterator[Row]:
    for load in loads:
        if load.in_flight not in bench.one_gpu:
            [result] = ask([worker], load, deadline)
            bench.one_gpu[load.in_flight] = result["queries_per_min"]
            yield throughput_row(f"1 replica, {load.in_flight} conversations", result["queries_per_min"], 1.0, None)


def throughput_row(what: str, rate: float, times: float, target: float | None, busy_gpus: float | None = None) -> Row:
    busy = "" if busy_gpus is None else f", {busy_gpus} GPUs busy at the same time"
    measured = f"{rate:.1f} queries/min, {times:.2f} times one GPU{busy}"
    return Row(what, measured, f"at least {target} times" if target else "", target is None or times >= target)


# ---- shards


def shards_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    yield from token_rows(bench, deadline)
    counts = [count for count in (2, 4) if count <= len(bench.gpus)]
    if not counts and bench.gpus:
        yield Row("shards of the 8B shape", "skip (needs 2 GPUs, found 1)")
        return
    if not bench.one_gpu or bench.heavy.in_flight not in bench.one_gpu:  # the part `replicas` has not run
        with serving(bench, [0] if bench.gpus else [], 0) as worker:
            worker.answer(deadline)
            warm_up([worker], bench.heavy, deadline)
            yield from one_gpu_rows(bench, worker, (bench.light, bench.heavy), deadline)
    for count in counts or [1]:
        chosen = list(range(count)) if bench.gpus else []
        with serving(bench, chosen, 0) as worker:
            ready = worker.answer(deadline)
            places = ", ".join(f"{number} on {place}" for place, number in ready["modules"].items())
            over = f"over {count} GPUs" if bench.gpus else "on the CPU"
            yield Row(f"{over}: modules", f"{places}; {ready['kv_tokens']:,} tokens of KV cache")
            for load in (bench.heavy, bench.light):
                warm_up([worker], load, deadline)
                with watching([bench.gpus[index].uuid for index in chosen]) as use:
                    [result] = ask([worker], load, deadline)
                rate = result["queries_per_min"]
                what = f"{over} at {load.in_flight}"
                target = _TARGETS.get(what)
                yield throughput_row(what, rate, rate / bench.one_gpu[load.in_flight], target, use.busy_gpus)


def token_rows(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    answer = run_json(["-m", "benchmarks.multi_gpu_worker", "tokens"], environment_of(bench), deadline)
    total, devices = answer.pop("tokens"), " ".join(answer.pop("devices"))
    for name, equal in answer.items():
        yield Row(f"float32 tokens, {name}", f"{equal} of {total} equal ({devices})", "all", equal == total)


# ---- cards


def cards_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    uuids = [gpu.uuid for gpu in inspect_gpus(environ={}).visible]  # as CUDA numbers them when nothing is hidden
    for form, expected in forms_of(uuids if bench.gpus else []).items():
        answer = run_json(
            ["-m", "benchmarks.multi_gpu_worker", "cards"], environment_of(bench, CUDA_VISIBLE_DEVICES=form), deadline
        )
        yield judge_cards(form, expected, answer)


def forms_of(uuids: Sequence[str]) -> dict[str, list[str]]:
    """CUDA_VISIBLE_DEVICES to try -> the cards that it means, of those that the driver lists in CUDA's order."""
    if not uuids:
        return {"": []}
    backwards = list(reversed(uuids))
    if len(uuids) == 1:
        return {"0": backwards, uuids[0]: backwards}
    return {"1": [uuids[1]], "1,0": [uuids[1], uuids[0]], ",".join(backwards): backwards}


def judge_cards(form: str, expected: Sequence[str], answer: Mapping[str, Any]) -> Row:
    """cuda:i is the i-th card expected, which alone gained what was put there; the map begins on cuda:0 and goes up."""
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


# ---- demo


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


def layout_of(answers: Path) -> str:
    """Which replica lay on which GPUs, as the run has recorded it."""
    layout = json.loads((answers / "run.json").read_text(encoding="utf-8"))["layout"]
    return "; ".join(f"replica {each['replica']} on {' '.join(each['gpus']) or 'the CPU'}" for each in layout)


def run_demo(bench: Bench, deadline: Deadline, query_file: Path, output: Path, replicas: str) -> str:
    """What the main script prints. PartError, with the last thing it said, when it fails or is late."""
    environment = environment_of(
        bench,
        PYTHON=sys.executable,
        MODEL_PATH=str(DEMO / "model"),
        DATA_DIR=str(DEMO / "data"),
        STAGE="demo",
        GROUP="queries",
        OUTPUT_DIR=str(output),
        NUM_REPLICAS=replicas,
    )
    environment.pop("SERVICE_URL", None)
    if len(bench.gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = "0,1"
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
        try:
            printed = process.communicate(timeout=deadline.require())[0]
        except subprocess.TimeoutExpired as error:
            raise PartError(f"NUM_REPLICAS={replicas} was not done in time: {_last_line(messages)}") from error
        finally:
            end(process)
        if process.returncode:
            raise PartError(f"NUM_REPLICAS={replicas}: exit code {process.returncode}: {_last_line(messages)}")
    return printed


def _last_line(stream: TextIO) -> str:
    stream.seek(0)
    return next((line.strip() for line in reversed(stream.read().splitlines()) if line.strip()), "nothing was said")


PARTS: dict[str, Callable[[Bench, Deadline], Iterator[Row]]] = {
    "doctor": doctor_part,
    "replicas": replicas_part,
    "shards": shards_part,
    "cards": cards_part,
    "demo": demo_part,
}


# ---- replicas as processes


def environment_of(bench: Bench, **changes: str) -> dict[str, str]:
    hidden = {} if bench.gpus else {"CUDA_VISIBLE_DEVICES": ""}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **hidden, **changes}


@contextlib.contextmanager
def serving(bench: Bench, gpus: Sequence[int], seed: int, sharers: int = 1) -> Iterator[Worker]:
    """A replica over the GPUs with these CUDA indices, or on the CPU; `sharers` of them have each GPU."""
    arguments = ["-m", "benchmarks.multi_gpu_worker", "serve", "--shape", bench.shape, "--seed", str(seed)]
    environment = environment_of(bench)
    if gpus:
        chosen = [bench.gpus[index] for index in gpus]
        arguments += ["--budget_bytes", str(budget_of(chosen, sharers))]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in chosen)
    process = start(*arguments, environment=environment)
    try:
        yield Worker(process, f"replica {seed}")
    finally:
        end(process)


def budget_of(gpus: Sequence[Gpu], sharers: int) -> int:
    """Bytes of each of `gpus` for each of the replicas that share them."""
    return int(min(gpu.free_bytes for gpu in gpus) * _BUDGET_SHARE) // sharers


def ask(workers: Sequence[Worker], load: Load, deadline: Deadline) -> list[dict[str, Any]]:
    """All of `workers` under `load` at the same time."""
    for worker in workers:
        worker.tell({"conversations": load.in_flight, "queries": load.queries})
    return [worker.answer(deadline) for worker in workers]


def warm_up(workers: Sequence[Worker], load: Load, deadline: Deadline) -> None:
    """One unmeasured round: kernels are compiled, caches filled."""
    ask(workers, Load(load.in_flight, load.in_flight), deadline)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/multi_gpu.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu", action="store_true", help="a tiny model on the CPU, whatever GPUs there are")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, in order (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="for the checkpoint and answers, kept (default: one that is not)")
    parser.add_argument(
        "--no_checkpoint", action="store_true", help="no 16 GiB on disk: the doctor loads the demo only"
    )
    args = parser.parse_args(argv)
    args.parts = args.parts.split(",")
    unknown = [name for name in args.parts if name not in PARTS]
    if unknown:
        parser.error(f"unknown parts {', '.join(unknown)}: choose of {', '.join(PARTS)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
