"""Holds what placement promises against a real GPU: about two minutes, the table last, then a JSON line.

    python -m benchmarks.placement [--folder /tmp/toolgen_8b]

While a random-weights checkpoint of ToolGen-Llama-3-8B's shape is written (16 GiB on disk) it
1. compares every form of CUDA_VISIBLE_DEVICES with the CUDA runtime's own count,
2. looks whether reading GPUs leaves a CUDA context behind,
3. generates with layers on the GPU and on the CPU, and compares the tokens with one device's,
and then it runs the doctor
4. on the demo and on that checkpoint,
5. on that checkpoint while another process holds 60 GiB (40 GiB of a card of 80).

Exit code 0 when every row of the table is ok, 1 otherwise, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, PreTrainedModel

from benchmarks.random_weights import save_random_weights
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.factory import make_engine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.multi_gpu.gpu_config import GpuConfig
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
from evaluation.toolbench.inference.multi_gpu.loading import load_model, load_replica
from evaluation.toolbench.inference.multi_gpu.number_formats import NumberFormats
from evaluation.toolbench.inference.multi_gpu.planning import plan_run
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.multi_gpu.tables import align
from evaluation.toolbench.inference.multi_gpu.units import GIB, gib

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.03  # of the predicted weights
TIME_LIMIT_S = 150  # of one run of the doctor, and of writing the checkpoint
_SMALL_KV_BYTES = GIB // 4


@dataclass(frozen=True)
class Row:
    """Holds one promise: what was measured, what it should be."""

    promise: str
    measured: str
    expected: str
    is_ok: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/toolgen_8b"), help="where the checkpoints are made")
    folder: Path = parser.parse_args().folder
    found = inspect_gpus()
    if not found.visible or not torch.cuda.is_available():
        print("needs 1 GPU, found 0", file=sys.stderr)
        return 2
    card = found.visible[0]
    start = time.perf_counter()
    writing = start_python("benchmarks.random_weights", "8b", str(folder / "8b"))
    offloading = start_python("benchmarks.placement", "offloading", str(folder / "small"))
    rows = [*visible_devices_rows(card.uuid), context_row(), finished_row(offloading)]
    say("CUDA_VISIBLE_DEVICES, contexts, offloaded layers", start)
    rows += doctor_rows("demo")
    say("demo", start)
    if writing.wait(TIME_LIMIT_S) != 0:
        rows.append(Row("8B checkpoint", f"exit code {writing.returncode}", "written", False))
    say("checkpoint written", start)
    model = ("--model_path", str(folder / "8b"))
    rows += doctor_rows("8B shape", *model)
    say("8B shape", start)
    held_bytes = (60 if card.total_bytes > 100 * GIB else 40) * GIB
    with holding(held_bytes) as pid:
        rows += doctor_rows(f"8B beside {gib(held_bytes)}", *model, holder=pid, held_bytes=held_bytes)
    say("8B beside another process", start)
    machine = f"{date.today()}, {card.name}, driver {found.driver_version}, torch {torch.__version__}"
    table = [[row.promise, row.measured, row.expected, "ok" if row.is_ok else "FAIL"] for row in rows]
    print("", machine, *align(["promise", "measured", "expected", ""], table), sep="\n")
    seconds = round(time.perf_counter() - start)
    print(json.dumps({"machine": machine, "seconds": seconds, "rows": [asdict(row) for row in rows]}))
    return int(not all(row.is_ok for row in rows))


def say(done: str, start: float) -> None:
    print(f"[{time.perf_counter() - start:.0f} s] {done}", file=sys.stderr, flush=True)


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **changes}


def start_python(module: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)


def finished_row(process: subprocess.Popen[str]) -> Row:
    """Return the row that `process` prints as JSON."""
    try:
        printed = process.communicate(timeout=TIME_LIMIT_S)[0]
        return Row(**json.loads(printed.splitlines()[-1]))
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        process.kill()
        return Row("offloaded layers", f"no result: {type(error).__name__}", "a row", False)


def visible_devices_rows(uuid: str) -> list[Row]:
    """Return our reading of CUDA_VISIBLE_DEVICES against cudaGetDeviceCount, each in a process of its own."""
    forms = [None, "0", "", "-1", "0,-1", "7", "0,7", "0,0", " 0", "0x", uuid, uuid[:12], f"{uuid},{uuid}", "GPU-none"]
    code = """
import torch
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
print(len(inspect_gpus().visible))
try:
    print(torch._C._cuda_getDeviceCount())
except RuntimeError:
    print(0)
"""
    processes = []
    for form in forms:
        environ = environment()
        environ.pop("CUDA_VISIBLE_DEVICES", None)
        environ |= {} if form is None else {"CUDA_VISIBLE_DEVICES": form}
        processes.append(subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True))
    rows = []
    for form, process in zip(forms, processes, strict=True):
        ours, cuda = [*process.communicate()[0].split(), "?", "none"][:2]
        said = "not set" if form is None else repr(form)
        rows.append(Row(f"CUDA_VISIBLE_DEVICES {said}", f"{ours} visible", f"{cuda} visible", ours == cuda))
    return rows


def context_row() -> Row:
    """Read the GPUs in a process: the driver must not list it as one that uses them."""
    code = (
        "import os, pynvml; from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus;"
        "import torch; inspect_gpus(); pynvml.nvmlInit(); gpu = pynvml.nvmlDeviceGetHandleByIndex(0);"
        "used = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)};"
        "print(torch.cuda.is_initialized(), os.getpid() in used)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    expected = "False False"
    measured = done.stdout.strip() or (done.stderr.strip().splitlines() or ["no output"])[-1]
    return Row("CUDA initialised, context after reading", measured, expected, measured == expected)


def doctor_rows(name: str, *arguments: str, holder: int | None = None, held_bytes: int = 0) -> list[Row]:
    """Runs the doctor; its failures, and the numbers that the plan promised."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "test_multi_gpu.py"), "--json", *arguments]
    try:
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return [Row(f"{name}: doctor", f"no end within {TIME_LIMIT_S} s", "exit code 0", False)]
    seconds = time.perf_counter() - start
    if done.returncode == 2 or not done.stdout:
        return [Row(f"{name}: doctor", (done.stderr.strip().splitlines() or ["no output"])[-1], "exit code 0", False)]
    checks: list[dict[str, Any]] = json.loads(done.stdout)["checks"]
    for check in checks:
        print(f"{name}: {check['check']:<20} {check['status']:<4} {check['measured']}", flush=True)
        if check["advice"]:
            print(f"{name}: {'':<20} try  {check['advice']}", flush=True)
    measured = f"exit code {done.returncode} in {seconds:.0f} s"
    return [
        Row(f"{name}: doctor", measured, "exit code 0", done.returncode == 0),
        *memory_rows(name, checks),
        *([] if holder is None else holder_rows(name, checks, holder, held_bytes)),
    ]


def memory_rows(name: str, checks: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return weights and peak of every GPU of the model; a row that fails where a check brought no numbers."""
    facts = {check["check"]: check["facts"] for check in checks}
    loading, longest = facts.get("loading", {}), facts.get("longest conversation", {})
    rows = []
    for gpu, predicted in loading.get("predicted_bytes", {}).items():
        taken = loading["taken_bytes"][gpu]
        small = predicted < GIB  # there the allocator's blocks are more than the weights
        is_ok = small or abs(taken - predicted) <= TOLERANCE * predicted
        expected = f"{gib(predicted)}" + ("" if small else " within 3%")
        rows.append(Row(f"{name}: weights on cuda:{gpu}", gib(taken), expected, is_ok))
    for gpu, budget in longest.get("budget_bytes", {}).items():
        peak = longest["peak_bytes"][gpu]
        rows.append(Row(f"{name}: peak on cuda:{gpu}", gib(peak), f"at most {gib(budget)}", peak <= budget))
    if "kv_tokens" in longest:
        made, planned = longest["kv_tokens"], longest["planned_kv_tokens"]
        beside = f"{longest['conversations']} conversations"
        rows.append(Row(f"{name}: KV room, {beside}", f"{made:,} tokens", f"{planned:,} planned", made > 0))
    if not rows:
        rows.append(Row(f"{name}: memory", "not measured", "weights and peak", False))
    return rows


def holder_rows(name: str, checks: Sequence[Mapping[str, Any]], holder: int, held_bytes: int) -> list[Row]:
    """Check that the other process is seen, named and planned around."""
    facts = {check["check"]: check["facts"] for check in checks}
    gpu = next(gpu for gpu in facts["GPUs"]["gpus"] if gpu["uuid"] == facts["GPUs"]["visible"][0])
    free, held_by = gpu["free_bytes"], gpu["held_by"]
    named = str(holder) in re.findall(r"pid (\d+)", held_by)
    # In a container the driver may know it by another number, but tells how much it holds.
    named = named or any(float(size) * GIB >= held_bytes for size in re.findall(r"([\d.]+) GiB by pid", held_by))
    budget = facts.get("longest conversation", {}).get("budget_bytes", {}).get("0", 0)
    return [
        Row(f"{name}: free", gib(free), f"{gib(held_bytes)} less", free <= gpu["total_bytes"] - held_bytes),
        Row(f"{name}: holder", held_by, f"pid {holder}", named),
        Row(f"{name}: budget", gib(budget), f"at most 85% of {gib(free)}", 0 < budget <= 0.85 * free),
    ]


@contextmanager
def holding(num_bytes: int) -> Iterator[int]:
    """Yield the pid of another process that holds GPU memory."""
    code = (
        f"import torch; x = torch.empty({num_bytes}, dtype=torch.uint8, device='cuda'); print(1, flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.communicate("\n")


def offloading_row(folder: Path) -> Row:
    """Compare a float32 model with some layers on the CPU by plan, with the same model on the GPU."""
    config = LlamaConfig(
        vocab_size=20_000, hidden_size=1024, intermediate_size=4096, num_hidden_layers=12, num_attention_heads=16,
        num_key_value_heads=4, max_position_embeddings=2048, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    save_random_weights(config, folder, torch.float32)
    expected = generate(load_model(str(folder), dtype="float32"), "generate")
    workload = Workload(conversations=2, max_tokens=512)
    config = GpuConfig(num_gpus=1, num_replicas=1, max_gpu_memory="800MiB", cpu_offloading=True)
    layout = plan_run(str(folder), config, workload, NumberFormats("float32"))
    assert layout is not None
    [replica] = layout.replicas
    model = load_replica(str(folder), replica, dtype="float32")
    on_cpu = sum(place == "cpu" for place in replica.device_map.values())
    equal = {}
    for engine in ("generate", "paged"):
        tokens = generate(model, engine)
        equal[engine] = sum(ours == theirs for ours, theirs in zip(tokens, expected, strict=True))
    said = ", ".join(f"{engine} {number}" for engine, number in equal.items())
    measured = f"of {len(expected)} tokens {said}; {on_cpu} of {len(replica.device_map)} modules on the CPU"
    is_ok = set(equal.values()) == {len(expected)} and on_cpu > 0
    return Row("offloaded layers: equal tokens", measured, "all equal, some on the CPU", is_ok)


def generate(model: PreTrainedModel, engine: str) -> tuple[int, ...]:
    options = {"max_kv_bytes": _SMALL_KV_BYTES} if engine == "paged" else {}
    with closing(make_engine(engine, model, **options)) as made:
        return made.generate(GenerationRequest(list(range(20, 40)), 32, TokenSet([]))).token_ids


if __name__ == "__main__":
    if sys.argv[1:2] == ["offloading"]:
        print(json.dumps(asdict(offloading_row(Path(sys.argv[2])))))
        sys.exit(0)
    sys.exit(main())
