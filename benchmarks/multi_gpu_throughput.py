"""Measures throughput, as parts of `multi_gpu`: replicas beside each other, and one replica over several GPUs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence

from benchmarks.gpu_use import watching
from benchmarks.host_use import following
from benchmarks.multi_gpu_bench import Bench, Load, Row, ask, budget_of, environment_of, serving, warm_up
from benchmarks.processes import Deadline, PartError, Worker, printed_by, run_json, start
from evaluation.toolbench.inference.multi_gpu.units import GIB

_TARGETS = {
    "2 replicas": 1.9,
    "4 replicas": 3.8,
    "8 replicas": 7.6,
    "over 2 GPUs at 64": 1.6,
}  # times one GPU's throughput
_SHARED_LOAD = Load(32, 64)  # of each of two replicas on one GPU: half a card has no room for the pages of more


def replicas_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    """Start as many processes as the largest number of replicas; fewer of them work when fewer are measured."""
    counts = [count for count in (1, 2, 4, 8) if count <= max(2, len(bench.gpus))]
    sharers = counts[-1] if len(bench.gpus) == 1 else 1
    heavy = _SHARED_LOAD if sharers > 1 else bench.heavy
    light = [] if sharers > 1 else [bench.light]
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(serving(bench, [number % len(bench.gpus)] if bench.gpus else [], number, sharers))
            for number in range(counts[-1])
        ]
        seconds = []
        for number, worker in enumerate(workers):
            ready = worker.answer(deadline)
            seconds.append(ready["seconds"])
            yield Row(f"replica {number} ready", f"{ready['seconds']} s, {ready['kv_tokens']:,} tokens of KV cache")
        yield Row(f"start of {len(workers)} replicas at once", f"{max(seconds)} s until the last is ready")
        warm_up(workers, heavy, deadline)
        for load in light:
            warm_up(workers[:1], load, deadline)
        yield from one_gpu_rows(bench, workers[0], [*light, heavy], deadline)
        for count in counts[1:]:
            pids = [worker.pid for worker in workers[:count]]
            with watching([gpu.uuid for gpu in bench.gpus[:count]]) as use, following(pids) as host:
                results = ask(workers[:count], heavy, deadline)
            rate = sum(result["queries_per_min"] for result in results)
            times = rate / bench.one_gpu[heavy.in_flight]
            target = None if sharers > 1 or not bench.gpus else _TARGETS[f"{count} replicas"]
            what = f"{count} replicas{' on one GPU' if sharers > 1 else ''}, {heavy.in_flight} conversations each"
            yield throughput_row(what, rate, times, target, use.busy_gpus)
            yield Row(f"{count} replicas, host", f"{host.cores:.1f} cores busy")
            if sharers > 1:
                yield share_row(budget_of(bench.gpus, sharers), [result["peak_bytes"] for result in results])


def share_row(budget_bytes: int, peaks: Sequence[int]) -> Row:
    """Tell whether replicas that share a GPU have each stayed within what it was given."""
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


def shards_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    yield from token_rows(bench, deadline)
    counts = [count for count in (2, 4, 8) if count <= len(bench.gpus)]
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
        with serving(bench, chosen, 0, most=bench.crowd.in_flight) as worker:
            ready = worker.answer(deadline)
            places = ", ".join(f"{number} on {place}" for place, number in ready["modules"].items())
            over = f"over {count} GPUs" if bench.gpus else "on the CPU"
            yield Row(f"{over}: modules", f"{places}; {ready['kv_tokens']:,} tokens of KV cache")
            for load in (bench.heavy, bench.crowd, bench.light):
                warm_up([worker], load, deadline)
                with watching([bench.gpus[index].uuid for index in chosen]) as use:
                    [result] = ask([worker], load, deadline)
                rate = result["queries_per_min"]
                what = f"{over} at {load.in_flight}"
                target = _TARGETS.get(what)
                one = bench.one_gpu.get(load.in_flight, bench.one_gpu[bench.heavy.in_flight])
                yield throughput_row(what, rate, rate / one, target, use.busy_gpus)


def halves_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    """Run two replicas, each over half of the GPUs."""
    half = min(len(bench.gpus), 8) // 2
    if half < 2:
        yield Row("two replicas over several GPUs each", f"skip (needs 4 GPUs, found {len(bench.gpus)})")
        return
    with contextlib.ExitStack() as stack:
        places = [list(range(half)), list(range(half, 2 * half))]
        workers = [stack.enter_context(serving(bench, gpus, number)) for number, gpus in enumerate(places)]
        for worker in workers:
            worker.answer(deadline)
        warm_up(workers, bench.heavy, deadline)
        with watching([gpu.uuid for gpu in bench.gpus[: 2 * half]]) as use:
            results = ask(workers, bench.heavy, deadline)
        rate = sum(result["queries_per_min"] for result in results)
        what = f"2 replicas over {half} GPUs each, {bench.heavy.in_flight} conversations each"
        one = bench.one_gpu.get(bench.heavy.in_flight)
        times = f"{rate / one:.2f} times one GPU, " if one else ""
        yield Row(what, f"{rate:.1f} queries/min, {times}{use.busy_gpus} GPUs busy at the same time")


def retrieval_part(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    """Run the search of the retrieval evaluation on one replica and on one for each GPU."""
    counts = [count for count in (1, 2, 4, 8) if count <= max(1, len(bench.gpus))]
    counts = sorted({counts[0], counts[-1]})
    flags = ["--anchor_queries", "0", "--widths", "5", "--replicas", ",".join(map(str, counts))]
    flags += ["--shape", bench.shape] if bench.gpus else ["--tiny", "--num_queries", "20"]
    process = start("-m", "benchmarks.retrieval", *flags, environment=environment_of(bench))
    printed = printed_by(process, deadline)
    if printed is None:
        raise PartError("the search was not done in time")
    if process.returncode:
        raise PartError(f"benchmarks.retrieval ended with code {process.returncode}")
    one = None
    for found in (json.loads(line) for line in printed.splitlines() if line.startswith("{")):
        rate, count = found["queries_per_s"], found["replicas"]
        one = one or rate
        target = 0.95 * count if count > 1 else None
        measured = f"{rate:.1f} queries/s, {found['share_of_limit']:.0%} of the limit, {rate / one:.2f} times one"
        is_ok = target is None or rate / one >= target
        what = f"retrieval, {count} replica{'s' * (count > 1)}"
        yield Row(what, measured, f"at least {target:.1f} times" if target else "", is_ok)


def token_rows(bench: Bench, deadline: Deadline) -> Iterator[Row]:
    answer = run_json(["-m", "benchmarks.multi_gpu_worker", "tokens"], environment_of(bench), deadline)
    total, devices = answer.pop("tokens"), " ".join(answer.pop("devices"))
    for name, equal in answer.items():
        yield Row(f"float32 tokens, {name}", f"{equal} of {total} equal ({devices})", "all", equal == total)
