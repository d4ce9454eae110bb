"""Runs for long while things go wrong: 4 replicas, failing APIs, a replica killed every 30 s. JSON last.

    python -m benchmarks.soak [--num_queries 2000] [--num_replicas 4] [--num_thread 8] [--kill_every_s 30]

The whole command line over the bundled demo on the CPU, with an API server of which 1% of the requests fail. At the
end every query must have an answer, and none may have been answered twice (event logs against answer files); the
memory of the parent and of the largest replica is sampled all along and reported for each tenth of the run. Queries
that lost their replica three times do not count as lost if the same command, started once more, answers them. Exit
code 0 when nothing was lost or answered twice and no process is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.demo_run import METHOD, answers_per_query, slow_api, start_pipeline, write_queries

MIB = 2**20
_SAMPLE_EVERY_S = 1.0
_PERIODS = 10  # of the run, for the memory over time


@dataclass
class Watched:
    """Holds what was seen of a run from outside. Samples are (seconds, parent's bytes, largest replica's bytes)."""

    exit_code: int
    seconds: float
    num_kills: int
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)


def main() -> int:
    options = _parser().parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        slow_api(Path(name), latency_s=options.latency_s, failure_rate=options.failure_rate) as url,
    ):
        folder, output = Path(name), Path(name) / "answers"
        write_queries(folder / "queries.json", options.num_queries)

        def start() -> subprocess.Popen[str]:
            flags = {"num_replicas": options.num_replicas, "num_thread": options.num_thread}
            environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
            return start_pipeline(folder / "queries.json", output, url, environment, **flags)

        first = watch(start(), options.kill_every_s, random.Random(0))
        num_failed = options.num_queries - len(list(output.glob(f"*_{METHOD}.json")))
        again = watch(start(), 0, random.Random(0)) if num_failed else None
        answers = {path.name.removesuffix(f"_{METHOD}.json") for path in output.glob(f"*_{METHOD}.json")}
        counts = answers_per_query(output)
    runs = [run for run in (first, again) if run]
    record = {
        "benchmark": "soak",
        **vars(options),
        "seconds": round(first.seconds),
        "exit_codes": [run.exit_code for run in runs],
        "kills": first.num_kills,
        "left_to_a_second_run": num_failed,
        "lost": options.num_queries - len(answers),
        # A replica that is killed between an answer and its log line leaves one answer more than are logged.
        "answered_twice": sum(count > 1 for count in counts.values()),
        "processes_left": sum(map(psutil.pid_exists, set().union(*(run.pids for run in runs)))),
        **memory(first.samples),
    }
    for key, value in record.items():
        print(f"{key}: {value}")
    print(json.dumps(record))
    return int(bool(record["lost"] or record["answered_twice"] or record["processes_left"]))


def watch(run: subprocess.Popen[str], kill_every_s: float, rng: random.Random) -> Watched:
    """Follow a run to its end, killing one of its replicas now and then (`kill_every_s` 0: never)."""
    started = time.monotonic()
    parent, seen, next_kill = psutil.Process(run.pid), Watched(0, 0.0, 0, pids={run.pid}), kill_every_s
    while run.poll() is None:
        elapsed = time.monotonic() - started
        try:
            replicas = parent.children()
            seen.samples.append((elapsed, _resident(parent), max(map(_resident, replicas), default=0)))
        except psutil.NoSuchProcess:
            continue
        seen.pids |= {replica.pid for replica in replicas}
        if kill_every_s and elapsed >= next_kill and replicas:
            os.kill(rng.choice(replicas).pid, signal.SIGKILL)
            seen.num_kills += 1
            next_kill += kill_every_s
        time.sleep(_SAMPLE_EVERY_S)
    seen.exit_code, seen.seconds = run.wait(), time.monotonic() - started
    return seen


def memory(samples: Sequence[tuple[float, int, int]]) -> dict[str, Any]:
    """Return the median MiB of the parent, and of the largest replica, in each tenth of the run."""
    size = max(1, len(samples) // _PERIODS)
    periods = [samples[start : start + size] for start in range(0, len(samples), size)][:_PERIODS]
    return {
        "parent_mib": [round(statistics.median(sample[1] for sample in period) / MIB) for period in periods],
        "replica_mib": [round(statistics.median(sample[2] for sample in period) / MIB) for period in periods],
    }


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--num_queries", type=int, default=2000, help="of the demo, again and again (default: %(default)s)"
    )
    parser.add_argument("--num_replicas", type=int, default=4, help="on the CPU (default: %(default)s)")
    parser.add_argument(
        "--num_thread", type=int, default=8, help="conversations in each replica (default: %(default)s)"
    )
    parser.add_argument(
        "--kill_every_s", type=float, default=30.0, help="seconds between kills of a replica (default: %(default)s)"
    )
    parser.add_argument(
        "--failure_rate", type=float, default=0.01, help="share of API calls that fail (default: %(default)s)"
    )
    parser.add_argument(
        "--latency_s", type=float, default=0.05, help="seconds of every API call (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
