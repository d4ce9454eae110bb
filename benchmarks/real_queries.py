"""Run the main command on real queries, real tools and the published tool tokens, without a trained model or a GPU.

    python -m benchmarks.real_queries --data_dir data
    python -m benchmarks.real_queries --data_dir data --method DFS_woFilter_w2 --num_queries 20 --steps 3

The model is the random one of `random_checkpoint.py`, made once. Actions are restricted to the catalog, so every
action must be a real tool: this is checked in all answer files, as is that every query has one. A random model
seldom ends a turn, so nearly every thought and every input is as long as it may be, which makes this the longest
work that these queries can be: 2 x 512 tokens a call of the model, of which a chain of 4 steps makes 4 and a full tree
of width 2 makes 14 with 3 steps and 30 with 4. Further flags go to the pipeline. The last line is JSON; the exit code
is 0 when everything holds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.random_checkpoint import save_random_checkpoint
from evaluation.toolbench.inference.toolgen.catalog import load_catalog
from evaluation.toolbench.virtual_api.cache_names import RecordName

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts/inference/inference_toolgen_pipeline_virtual.sh"
QUERY_FOLDER = Path("solvable_queries/test_instruction")
_NODES_OF_A_STEP = 3  # thought, action, input


def main(argv: Sequence[str] | None = None) -> int:
    options, pipeline_flags = _parser().parse_known_args(argv)
    output = options.output_dir.resolve()
    checkpoint = output / "checkpoint"
    if not (checkpoint / "model.safetensors").is_file():
        save_random_checkpoint(options.data_dir, checkpoint)
    data_dir, query_ids = _data_of(options, output / "data")
    cache_dir = data_dir / "tool_response_cache"
    if not cache_dir.is_dir():  # then every call is answered with an error, which a random model takes as well
        cache_dir = _cache_without_replies(
            output / "empty_cache", data_dir / QUERY_FOLDER / f"{options.stage}_{options.group}.json"
        )

    started = time.monotonic()
    settings = {
        "PYTHON": sys.executable,
        "DATA_DIR": str(data_dir),
        "API_CACHE_DIR": str(cache_dir),
        "MODEL_PATH": str(checkpoint),
        "OUTPUT_DIR": str(output / "answers"),
        "STAGE": options.stage,
        "GROUP": options.group,
        "METHOD": options.method,
        "RESTRICT_ACTIONS": "all",
    }
    flags = ["--single_chain_max_step", str(_NODES_OF_A_STEP * options.steps), "--overwrite", *pipeline_flags]
    run = subprocess.run(["bash", str(SCRIPT), *flags], env={**os.environ, **settings}, check=False)
    minutes = (time.monotonic() - started) / 60
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # what a loaded machine does not change
    cpu_minutes = (used.ru_utime + used.ru_stime) / 60

    names = {str(name) for name in load_catalog(data_dir, "Atomic", "").token_to_toolbench_name.values()}
    folder = output / "answers" / f"{options.stage}_{options.group}"
    report = report_on(folder, options.method, query_ids, names)
    times = {"minutes": round(minutes, 2), "cpu_minutes": round(cpu_minutes, 2)}
    print(json.dumps({**times, "exit_code": run.returncode, **report}))
    return int(run.returncode != 0 or report["missing"] > 0 or report["invented_actions"] > 0)


def report_on(folder: Path, method: str, query_ids: Sequence[str], names: set[str]) -> dict[str, int]:
    """Return what the answer files of these queries hold: numbers of files, calls of the model, tokens and actions."""
    report = dict.fromkeys(("queries", "missing", "model_calls", "tokens", "actions", "invented_actions"), 0)
    report["queries"] = len(query_ids)
    for query_id in query_ids:
        path = folder / f"{query_id}_{method}.json"
        if not path.is_file():
            report["missing"] += 1
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        actions = list(actions_of(record))
        report["model_calls"] += record["answer_generation"]["query_count"]
        report["tokens"] += record["answer_generation"]["total_tokens"]
        report["actions"] += len(actions)
        report["invented_actions"] += sum(action not in names for action in actions)
    return report


def actions_of(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all calls in an answer file, those of abandoned branches and tries included."""
    chains = [[record["tree"]["tree"]]] if "tree" in record else [tried["chain"] for tried in record["trys"]]
    nodes = [node for chain in chains for node in chain]
    while nodes:
        node = nodes.pop()
        nodes += node.get("children", ())
        if node["node_type"] == "Action":
            yield node["description"]


def _data_of(options: argparse.Namespace, view: Path) -> tuple[Path, list[str]]:
    """Return the run's data folder and the ids of its queries: a view with fewer where not all are wanted."""
    query_file = QUERY_FOLDER / f"{options.stage}_{options.group}.json"
    queries = json.loads((options.data_dir / query_file).read_text(encoding="utf-8"))
    wanted = queries[: options.num_queries]
    ids = [str(query.get("query_id", position)) for position, query in enumerate(wanted)]
    if len(wanted) == len(queries):
        return options.data_dir.resolve(), ids
    (view / QUERY_FOLDER).mkdir(parents=True, exist_ok=True)
    (view / query_file).write_text(json.dumps(wanted), encoding="utf-8")
    for name in ("virtual_tokens.txt", "toolenv"):
        link = view / name
        link.unlink(missing_ok=True)
        link.symlink_to((options.data_dir / name).resolve())
    return view, ids


def _cache_without_replies(folder: Path, queries: Path) -> Path:
    """Make a cache that knows an API of the queries and none of its replies: one without any would be refused."""
    names = (
        RecordName.of_request(api["category_name"], api["tool_name"], api["api_name"])
        for query in json.loads(queries.read_text(encoding="utf-8"))
        for api in query["api_list"]
    )
    path = folder / next(path for name in names if (path := name.relative_path()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}", encoding="utf-8")
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    # fmt: off
    add("--data_dir", type=Path, required=True, help="folder laid out like ToolGen's data/")
    add("--output_dir", type=Path, default=ROOT / "outputs" / "real_queries",
        help="gets the checkpoint and the answers (default: %(default)s)")
    add("--stage", default="G3", help="(default: %(default)s)")
    add("--group", default="instruction", help="(default: %(default)s)")
    add("--method", default="CoT@1", help="(default: %(default)s)")
    add("--num_queries", type=int, metavar="N", help="the first N of the file (default: all)")
    add("--steps", type=int, default=4, metavar="N", help="longest chain (default: %(default)s)")
    # fmt: on
    return parser


if __name__ == "__main__":
    sys.exit(main())
