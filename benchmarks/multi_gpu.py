"""Measures several real GPUs in one run: `bash benchmarks/multi_gpu.sh`.

    doctor     test_multi_gpu.py on all GPUs with the 8B model's shape: planned, and a checkpoint of it loaded as shards
    replicas   1, 2 (4, 8) replicas with a GPU each, at the same time: the agent workload's throughput, the time until
               all are ready, and the host's cores
    shards     one replica over 2 (4, 8) GPUs against one GPU, with 64, 256 and 16 conversations, and how many GPUs are
               busy at the same time; before that, the tokens of a small float32 model
    halves     two replicas, each over half of four or eight GPUs
    retrieval  the retrieval evaluation's search on one replica and on one for each GPU
    cards      CUDA_VISIBLE_DEVICES as "1", "1,0" and UUIDs: which cards NVML sees in use, and the map
    demo       the bundled demo through the main script, with one replica and with auto (two on a single GPU)
    queries    765 queries through the main script with a replica on each GPU: queries a minute, what the parent takes

Each part has a time limit of its own and ends alone when it fails. Weights are random and made on the GPUs. With one
GPU two replicas share it. Tables, and a JSON line after each part; the last line has all rows. Exit code 0 when
every row is ok, 1 otherwise, 2 for a machine or flags that it cannot run with.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

from benchmarks.ceilings import describe_machine
from benchmarks.multi_gpu_bench import Bench, Load, Row
from benchmarks.multi_gpu_checks import cards_part, demo_part, doctor_part, queries_part
from benchmarks.multi_gpu_throughput import halves_part, replicas_part, retrieval_part, shards_part
from benchmarks.processes import Deadline, PartError
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
from evaluation.toolbench.inference.multi_gpu.tables import align

TOTAL_LIMIT_S = 540
LIMITS_S = {
    "doctor": 150,
    "replicas": 170,
    "shards": 240,
    "halves": 100,
    "retrieval": 120,
    "cards": 60,
    "demo": 120,
    "queries": 120,
}
PARTS: dict[str, Callable[[Bench, Deadline], Iterator[Row]]] = {
    "doctor": doctor_part,
    "replicas": replicas_part,
    "shards": shards_part,
    "halves": halves_part,
    "retrieval": retrieval_part,
    "cards": cards_part,
    "demo": demo_part,
    "queries": queries_part,
}


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
        crowd=Load(3, 3) if args.cpu else Load(256, 384),
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
    """Run one part as far as it comes; its rows are printed as a table and as JSON; what ended it is a row too."""
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
