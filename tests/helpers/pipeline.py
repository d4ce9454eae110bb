"""A world in which the pipeline can run: tools, queries, a tiny checkpoint, an API server of its own process."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from unidecode import unidecode

from evaluation.toolbench.inference.qa_pipeline_multithread import main
from evaluation.toolbench.names import standardize
from tests.helpers.toolgen import TOKEN_LINES, TOOLS, save_tiny_checkpoint, write_data_folder

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "evaluation/toolbench/inference/qa_pipeline_multithread.py"

RUN_FILE = re.compile(r"run(-\d+of\d+)?\.json|report\.html|events-(\d+of\d+-)?\d+\.jsonl|\.run(-\d+of\d+)?\.lock")
TOKENS = [unidecode(line) for line in TOKEN_LINES]
CITIES = ("Paris", "Oslo", "Rome in the rain", "a village near Lima", "Kyiv", "Bonn", "Cairo tonight", "Quito", "Bern")


class World:
    """Folders and flags of a run; everything lies below `root`."""

    def __init__(self, root: Path) -> None:
        self.data = write_data_folder(root / "data")
        for tool in TOOLS:
            folder = self.data / "toolenv" / "tools" / tool["category_name"]
            folder.mkdir(exist_ok=True)
            (folder / f"{standardize(tool['tool_name'])}.json").write_text(json.dumps(tool), encoding="utf-8")
        self.model = root / "model"
        self.queries = self.write_queries(root / "queries.json", [query(i) for i in range(len(CITIES))])
        self.method = "CoT@1"

    @staticmethod
    def write_queries(path: Path, queries: Any) -> Path:
        path.write_text(json.dumps(queries), encoding="utf-8")
        return path

    def make_checkpoint(self) -> None:
        save_tiny_checkpoint(self.model, TOKENS)

    def flags(self, output: Path, **changes: Any) -> list[str]:
        """A command line; `None` leaves a flag out, `True` makes it one without a value."""
        flags: dict[str, Any] = {
            "backbone_model": "toolgen_atomic",
            "model_path": self.model,
            "template": "llama-3",
            "indexing": "Atomic",
            "data_dir": self.data,
            "input_query_file": self.queries,
            "output_answer_file": output,
            "function_provider": "all",
            "restrict_actions": "all",
            "single_chain_max_step": 6,
            "max_new_tokens": 12,
            "dtype": "float32",
            **changes,
        }
        given = [(f"--{name}", value) for name, value in flags.items() if value is not None]
        return [text for name, value in given for text in ([name] if value is True else [name, str(value)])]

    def answer_names(self, output: Path) -> set[str]:
        """All files but those that every run leaves beside its answers."""
        return {path.name for path in output.iterdir() if not RUN_FILE.fullmatch(path.name)}

    @property
    def all_answers(self) -> set[str]:
        return {f"{i}_{self.method}.json" for i in range(len(CITIES))}


def query(i: int, **changes: Any) -> dict[str, Any]:
    api = {"category_name": "Weather", "tool_name": "Sky Watch", "api_name": "Daily Forecast"}
    return {"query_id": i, "query": f"Will it be sunny in {CITIES[i]}?", "api_list": [api], **changes}


def environment(service_url: str | None, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "SERVICE_URL"}
    url = {"SERVICE_URL": service_url} if service_url else {}
    return {**kept, **url, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **more}


def start_pipeline(flags: list[str], service_url: str | None, **options: Any) -> subprocess.Popen[str]:
    """The command line as a process of its own, started from a folder that is not the repository."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *flags],
        env=environment(service_url),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=options.pop("cwd", "/"),
        **options,
    )


def run_pipeline(flags: list[str], service_url: str | None, **options: Any) -> subprocess.CompletedProcess[str]:
    """The same, waited for."""
    process = start_pipeline(flags, service_url, **options)
    stdout, stderr = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def run_here(flags: list[str], service_url: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has torch already: seconds less. Its warnings go to pytest's log."""
    return called(main, flags, {"SERVICE_URL": service_url})


def called(
    program: Callable[[Any], int], arguments: Sequence[str], settings: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """What a program's `main` does with `arguments`, and these variables beside the environment's."""
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()) as stdout,
        redirect_stderr(io.StringIO()) as stderr,
    ):
        for name, value in settings.items():
            patch.setenv(name, value)
        exit_code = program(arguments)
    return subprocess.CompletedProcess(arguments, exit_code, stdout.getvalue(), stderr.getvalue())


def record_nothing(cache: Path) -> None:
    """Make a response cache that has the APIs of this world's queries, and no reply of them."""
    path = cache / "Weather/sky_watch_for_Weather/daily_forecast.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")


@contextmanager
def api_server(folder: Path, *more: str) -> Iterator[str]:
    """A virtual API server without recorded answers for the APIs that it knows, as a process; its URL."""
    record_nothing(folder / "cache")
    with serving(folder / "cache", folder / "url", *more) as url:
        yield url


@contextmanager
def serving(cache: Path, ready: Path, *more: str) -> Iterator[str]:
    """A virtual API server of the replies in `cache`, as a process that writes its URL to `ready`; the URL."""
    command = [sys.executable, "-m", "evaluation.toolbench.virtual_api", "--cache_dir", str(cache), "--port", "0"]
    server = subprocess.Popen(
        [*command, *more, "--ready_file", str(ready), "--exit_with_parent", str(os.getpid())],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(ready.exists)
        yield ready.read_text()
    finally:
        server.terminate()
        server.wait(60)


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but those that every run leaves beside its answers."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not RUN_FILE.fullmatch(path.name)}


def wait_for(condition: Any, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
