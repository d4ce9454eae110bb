"""Runs the bundled demo as the benchmarks of whole runs need it: many queries, a slow API, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.records.event_history import Attempt, read_history

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "evaluation/toolbench/demo"
PIPELINE = ROOT / "evaluation/toolbench/inference/qa_pipeline_multithread.py"
METHOD = "CoT@1"
_START_S = 60.0


def write_queries(path: Path, num_queries: int) -> None:
    """Write the demo's queries, over and over, each with an id of its own."""
    demo = json.loads((DEMO / "assets/solvable_queries/test_instruction/demo_queries.json").read_text())
    path.write_text(json.dumps([{**demo[i % len(demo)], "query_id": i} for i in range(num_queries)]))


@contextmanager
def slow_api(folder: Path, *, latency_s: float, failure_rate: float = 0.0) -> Iterator[str]:
    """Yield the URL of the demo's API server, which answers after `latency_s`."""
    ready = folder / "api_url"
    ready.unlink(missing_ok=True)
    flags = ["--ready_file", str(ready), "--latency_s", str(latency_s), "--failure_rate", str(failure_rate)]
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.slow_api", *flags], cwd=ROOT)
    try:
        deadline = time.monotonic() + _START_S
        while not (ready.exists() and ready.read_text()):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the API server did not start (exit code {server.poll()})")
            time.sleep(0.05)
        yield ready.read_text()
    finally:
        server.terminate()
        server.wait()


def start_pipeline(
    queries: Path, output: Path, service_url: str, environment: Mapping[str, str], **flags: Any
) -> subprocess.Popen[str]:
    """Return the command line over the demo's model and tools."""
    settings = {
        "backbone_model": "toolgen_atomic",
        "model_path": DEMO / "model",
        "template": "llama-3",
        "data_dir": DEMO / "assets",
        "input_query_file": queries,
        "output_answer_file": output,
        "function_provider": "all",
        "method": METHOD,
        # The demo's answers are short: a query that rambles would be the whole run's tail.
        "max_new_tokens": 96,
        "single_chain_max_step": 12,
        **flags,
    }
    command = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, str(PIPELINE), *command],
        env={**os.environ, "SERVICE_URL": service_url, **environment},
        text=True,
        stdout=subprocess.DEVNULL,
    )


@dataclass(frozen=True)
class MeasuredRun:
    """Holds what came of a whole run on the CPU."""

    queries_per_minute: float
    num_counted: int  # queries that the rate is taken from
    answers: dict[str, bytes]  # by file name


def measured_run(queries: Path, output: Path, service_url: str, **flags: Any) -> MeasuredRun:
    """Runs the command line on the CPU in float32 to its end. RuntimeError when it fails."""
    run = start_pipeline(queries, output, service_url, {"CUDA_VISIBLE_DEVICES": ""}, dtype="float32", **flags)
    if run.wait() != 0:
        raise RuntimeError(f"the run with {flags} ended with exit code {run.returncode}")
    answers = {path.name: path.read_bytes() for path in output.glob(f"*_{METHOD}.json")}
    return MeasuredRun(*queries_per_minute(output), answers)


def queries_per_minute(output: Path) -> tuple[float, int]:
    """Return (rate, queries it is taken from) while every replica of the run in `output` was at work.

    From when the last of them began its first query to when the first of them ended its last one.
    """
    sessions = [session for session in read_history(output).sessions if session.attempts]
    begin = max(min(attempt.start for attempt in session.attempts) for session in sessions)
    end = min(max(_end(attempt) for attempt in session.attempts) for session in sessions)
    ended = [attempt for session in sessions for attempt in session.attempts if begin < _end(attempt) <= end]
    return (60 * len(ended) / (end - begin) if end > begin else 0.0), len(ended)


def answers_per_query(output: Path) -> dict[str, int]:
    """Return how many tries at each query came to an answer file, by the event logs."""
    counts: dict[str, int] = {}
    for (query_id, _), attempts in read_history(output).attempts().items():
        counts[query_id] = sum(attempt.outcome in ("answered", "gave_up", "no_answer") for attempt in attempts)
    return counts


def _end(attempt: Attempt) -> float:
    return attempt.last_sign_of_life()
