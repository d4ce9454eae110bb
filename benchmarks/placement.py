"""What placement promises, held against a real GPU: a few minutes, tables last.

    PYTHONPATH=. python benchmarks/placement.py [--folder /tmp/toolgen_8b]

Makes a random-weights checkpoint of ToolGen-Llama-3-8B's shape (16 GiB on disk) and then
1. compares every form of CUDA_VISIBLE_DEVICES with the CUDA runtime's own count,
2. looks whether reading GPUs leaves a CUDA context behind,
3. runs the doctor on the demo and on that checkpoint,
4. runs it again while another process holds 60 GiB,
5. generates with layers on the GPU and on the CPU, and compares the tokens with one device's.

Exit code 0 when every row of the table is ok, 1 otherwise, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.generate import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.multi_gpu.footprint import toolgen_8b_config
from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus
from evaluation.toolbench.inference.multi_gpu.loading import load_model, load_replica
from evaluation.toolbench.inference.multi_gpu.planning import plan_run
from evaluation.toolbench.inference.multi_gpu.replica import Workload
from evaluation.toolbench.inference.multi_gpu.tables import align
from evaluation.toolbench.inference.multi_gpu.units import GIB, gib

ROOT = Path(__file__).resolve().parents[1]
HELD_BYTES = 60 * GIB
TOLERANCE = 0.03  # of the predicted weights


@dataclass(frozen=True)
class Row:
    """One promise: what was measured, what it should be."""

    promise: str
    measured: str
    expected: str
    is_ok: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/toolgen_8b"), help="where the checkpoints are made")
    folder = parser.parse_args().folder
    found = inspect_gpus()
    if not torch.cuda.is_available() or not found.visible:
        print("needs 1 GPU, found 0", file=sys.stderr)
        return 2
    rows = [*visible_devices_rows(found.visible[0].uuid), context_row()]
    start = time.perf_counter()
    save_random_model(toolgen_8b_config(), folder / "8b", torch.bfloat16)
    print(f"checkpoint made in {time.perf_counter() - start:.0f} s", flush=True)
    rows += doctor_rows("demo")
    rows += doctor_rows("8B shape", "--model_path", str(folder / "8b"))
    with holding(HELD_BYTES) as pid:
        rows += doctor_rows("8B beside 60 GiB", "--model_path", str(folder / "8b"), holder=pid)
    rows.append(offloading_row(folder / "small"))
    table = [[row.promise, row.measured, row.expected, "ok" if row.is_ok else "FAIL"] for row in rows]
    card = f"{found.visible[0].name}, driver {found.driver_version}, torch {torch.__version__}"
    print("", card, *align(["promise", "measured", "expected", ""], table), sep="\n")
    return int(not all(row.is_ok for row in rows))


def visible_devices_rows(uuid: str) -> list[Row]:
    """Our reading of CUDA_VISIBLE_DEVICES against cudaGetDeviceCount, each in a process of its own."""
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
        environ = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
        environ |= {"PYTHONPATH": str(ROOT)} | ({} if form is None else {"CUDA_VISIBLE_DEVICES": form})
        processes.append(subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True))
    rows = []
    for form, process in zip(forms, processes, strict=True):
        ours, cuda = (process.communicate()[0].split() or ["?", "none"])[:2]
        said = "not set" if form is None else repr(form)
        rows.append(Row(f"CUDA_VISIBLE_DEVICES {said}", f"{ours} visible", f"{cuda} visible", ours == cuda))
    return rows


def context_row() -> Row:
    """This process has read the GPUs by now: the driver must not list it as one that uses them."""
    code = (
        "import os, pynvml; from evaluation.toolbench.inference.multi_gpu.gpus import inspect_gpus;"
        "import torch; inspect_gpus(); pynvml.nvmlInit(); gpu = pynvml.nvmlDeviceGetHandleByIndex(0);"
        "used = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)};"
        "print(torch.cuda.is_initialized(), os.getpid() in used)"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    expected = "False False"
    measured = done.stdout.strip() or done.stderr.strip().splitlines()[-1]
    return Row("CUDA initialised, context after reading", measured, expected, measured == expected)


def doctor_rows(name: str, *arguments: str, holder: int | None = None) -> list[Row]:
    """Runs the doctor; its failures, and the numbers that the plan promised."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "test_multi_gpu.py"), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode == 2 or not done.stdout:
        return [Row(f"{name}: doctor", (done.stderr.strip().splitlines() or ["no output"])[-1], "exit code 0", False)]
    checks: list[dict[str, Any]] = json.loads(done.stdout)["checks"]
    for check in checks:
        print(f"{name}: {check['check']:<20} {check['status']:<4} {check['measured']}", flush=True)
    rows = [
        Row(f"{name}: doctor", f"exit code {done.returncode} in {seconds:.0f} s", "exit code 0", not done.returncode)
    ]
    facts = {check["check"]: check["facts"] for check in checks}
    if arguments:
        for gpu, predicted in facts["loading"]["predicted_bytes"].items():
            taken = facts["loading"]["taken_bytes"][gpu]
            is_ok = abs(taken - predicted) <= TOLERANCE * predicted
            rows.append(Row(f"{name}: weights on cuda:{gpu}", gib(taken), f"{gib(predicted)} within 3%", is_ok))
        for gpu, budget in facts["longest conversation"]["budget_bytes"].items():
            peak = facts["longest conversation"]["peak_bytes"][gpu]
            rows.append(Row(f"{name}: longest conversation", gib(peak), f"at most {gib(budget)}", peak <= budget))
    if holder:
        gpu = facts["GPUs"]["gpus"][0]
        free = gpu["free_bytes"]
        rows.append(Row(f"{name}: free", gib(free), "60 GiB less", free <= gpu["total_bytes"] - HELD_BYTES))
        rows.append(
            Row(
                f"{name}: holder",
                gpu["held_by"],
                f"pid {holder} (in a container perhaps another)",
                "pid" in gpu["held_by"],
            )
        )
    return rows


@contextmanager
def holding(num_bytes: int) -> Iterator[int]:
    """Another process that holds GPU memory; its pid."""
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
    """A float32 model of which the plan leaves some layers on the CPU, against the same model on the GPU."""
    config = LlamaConfig(
        vocab_size=20_000, hidden_size=1024, intermediate_size=4096, num_hidden_layers=12, num_attention_heads=16,
        num_key_value_heads=4, max_position_embeddings=2048, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    save_random_model(config, folder, torch.float32)
    expected = generate(load_model(str(folder), dtype="float32"))
    workload = Workload(conversations=2, max_tokens=512)
    layout = plan_run(
        str(folder), workload=workload, max_gpu_memory="800MiB", num_gpus=1, dtype="float32", cpu_offloading=True
    )
    assert layout is not None
    [replica] = layout.replicas
    tokens = generate(load_replica(str(folder), replica, dtype="float32"))
    on_cpu = sum(place == "cpu" for place in replica.device_map.values())
    equal = sum(ours == theirs for ours, theirs in zip(tokens, expected, strict=True))
    measured = f"{equal} of {len(expected)} tokens equal, {on_cpu} of {len(replica.device_map)} modules on the CPU"
    return Row("offloaded layers", measured, "all equal, some on the CPU", equal == len(expected) and on_cpu > 0)


def generate(model: PreTrainedModel) -> tuple[int, ...]:
    engine = GenerateEngine(model)
    try:
        return engine.generate(GenerationRequest(list(range(20, 40)), 32, TokenSet([]))).token_ids
    finally:
        engine.close()


def save_random_model(config: LlamaConfig, folder: Path, dtype: torch.dtype) -> None:
    """Saves a random-weights model, made on the GPU because a CPU takes minutes for it."""
    if (folder / "config.json").is_file():
        return
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder, max_shard_size="5GB")
    del model
    torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
