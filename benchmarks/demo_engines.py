"""Runs the demo through `paged` and `generate`, with 1 conversation at a time and with 8: two minutes, JSON last.

    python -m benchmarks.demo_engines [--num_queries 75]

Whole runs of the command line on the CPU, with APIs that answer at once. Queries a minute are taken between a run's
first query and its last, without loading.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import product
from pathlib import Path

from benchmarks.demo_run import measured_run, slow_api, write_queries

_ENGINES, _CONVERSATIONS = ("generate", "paged"), (1, 8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_queries", type=int, default=75, help="of the demo (default: %(default)s)")
    num_queries = parser.parse_args().num_queries
    rates: dict[str, float] = {}
    answers = []
    with tempfile.TemporaryDirectory() as name, slow_api(Path(name), latency_s=0) as url:
        folder = Path(name)
        write_queries(folder / "queries.json", num_queries)
        for count, engine in product(_CONVERSATIONS, _ENGINES):
            output = folder / f"{engine}-{count}"
            run = measured_run(folder / "queries.json", output, url, engine=engine, num_thread=count)
            rates[f"{engine}, {count} at a time"] = round(run.queries_per_minute, 1)
            answers.append(run.answers)
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} queries/min")
    times = {n: round(rates[f"paged, {n} at a time"] / rates[f"generate, {n} at a time"], 2) for n in _CONVERSATIONS}
    same = all(each == answers[0] for each in answers)
    print(f"paged against generate: {times}; answers {'byte-identical' if same else 'DIFFER'}")
    print(json.dumps({"benchmark": "demo_engines", "queries_per_minute": rates, "times": times, "same_answers": same}))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
