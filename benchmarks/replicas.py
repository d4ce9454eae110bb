"""Compares two replicas on two CPU cores with one, with APIs that answer after 200 ms: minutes, JSON last.

    python -m benchmarks.replicas [--num_queries 300] [--num_thread 8] [--latency_s 0.2]

Both runs are the whole command line over the bundled demo, pinned to two cores; the one replica may use both, the
two have one each. Queries a minute are taken while every replica is at work, without loading. What is expected:
the API waits of a replica's conversations overlap, so the cores are what two replicas share out, and twice the
throughput is the most there can be. `cpu_s` shows what the runs themselves cost, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.demo_run import measured_run, slow_api, write_queries

_NUM_CORES = 2


def main() -> int:
    options = _parser().parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < _NUM_CORES:
        print(f"needs {_NUM_CORES} cores, found {len(cores)}", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, cores[:_NUM_CORES])  # inherited by everything that is started here
    with tempfile.TemporaryDirectory() as name, slow_api(Path(name), latency_s=options.latency_s) as url:
        folder = Path(name)
        write_queries(folder / "queries.json", options.num_queries)
        runs = {count: measure(folder, url, count, options) for count in (1, 2)}
    same = runs[1].pop("answers") == runs[2].pop("answers")
    ratio = runs[2]["queries_per_minute"] / runs[1]["queries_per_minute"]
    for count, run in runs.items():
        print(
            f"{count} replica{'s' * (count > 1)}: {run['queries_per_minute']:.0f} queries/min, {run['cpu_s']:.0f} s CPU"
        )
    print(f"ratio {ratio:.2f}; answers {'byte-identical' if same else 'DIFFER'}")
    record: dict[str, Any] = {"benchmark": "replicas", **vars(options), "runs": runs, "ratio": round(ratio, 3)}
    print(json.dumps({**record, "same_answers": same}))
    return 0 if same else 1


def measure(folder: Path, url: str, num_replicas: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run once with this many replicas."""
    output = folder / f"answers-{num_replicas}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = measured_run(folder / "queries.json", output, url, num_replicas=num_replicas, num_thread=options.num_thread)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "queries_per_minute": round(run.queries_per_minute, 1),
        "num_counted": run.num_counted,
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "answers": run.answers,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--num_queries", type=int, default=300, help="of the demo, again and again (default: %(default)s)"
    )
    parser.add_argument(
        "--num_thread", type=int, default=8, help="conversations in each replica (default: %(default)s)"
    )
    parser.add_argument("--latency_s", type=float, default=0.2, help="seconds of every API call (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
