"""The doctor's command line: `python test_multi_gpu.py`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence

from evaluation.toolbench.inference.command_line import OneLineParser, called_as
from evaluation.toolbench.inference.doctor.finding import Finding, exit_code
from evaluation.toolbench.inference.doctor.machine import Machine, Options
from evaluation.toolbench.inference.doctor.machine_checks import (
    check_gpus,
    check_versions,
    check_visible_devices,
)
from evaluation.toolbench.inference.doctor.model_checks import (
    check_device_map,
    check_generation,
    check_layout,
    check_loading,
    check_longest_conversation,
    check_same_tokens,
    check_tool_ids,
)
from evaluation.toolbench.inference.doctor.peer_copies import check_peer_copies
from evaluation.toolbench.inference.errors import ToolGenError
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO, GpuConfig
from evaluation.toolbench.inference.multi_gpu.placement import Placement
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.multi_gpu.simulated import simulated_gpus
from evaluation.toolbench.inference.multi_gpu.tables import WIDTH, device_map_lines, layout_table

CHECKS: dict[str, Callable[[Machine], list[Finding]]] = {
    "versions": check_versions,
    "gpus": check_gpus,
    "visible_devices": check_visible_devices,
    "peer_copies": check_peer_copies,
    "layout": check_layout,
    "loading": check_loading,
    "device_map": check_device_map,
    "generation": check_generation,
    "same_tokens": check_same_tokens,
    "tool_tokens": check_tool_ids,
    "longest_conversation": check_longest_conversation,
}


_EXAMPLES = """
toolgen doctor                                       # every check, a line for each
toolgen doctor --model_path /models/ToolGen-Llama-3-8B
toolgen doctor --simulate 3x24GiB                    # the plan for GPUs that are not here
toolgen doctor --json > doctor.json                  # the same facts for an issue report
"""
_READER_GONE = 141  # as a shell reports a program that wrote to a closed pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the checks, or plans for simulated GPUs. 0: all good; 1: a check failed; 2: could not start."""
    options, simulate, as_json = _parse(arguments)
    try:
        code = _run(options, simulate, as_json)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    return code


def _run(options: Options, simulate: str | None, as_json: bool) -> int:
    try:
        if simulate is not None:
            print("\n".join(_simulation(Machine(options), simulate, as_json)))
            return 0
        machine = Machine(options)
        machine.check_options()
        if options.model_path:
            _ = machine.footprint  # a checkpoint that cannot be read is no matter of this machine
        findings = []
        for finding in examine(machine):
            findings.append(finding)
            if not as_json:
                print("\n".join(finding.lines()), flush=True)
    except ToolGenError as error:
        if os.environ.get("TOOLGEN_TRACEBACK"):
            raise
        print(error, file=sys.stderr)
        return error.exit_code
    if as_json:
        report = {"exit_code": exit_code(findings), "checks": [finding.as_json() for finding in findings]}
        print(json.dumps(report, indent=2, default=str))
    return exit_code(findings)


def examine(machine: Machine) -> Iterator[Finding]:
    """Every check's findings, in order, as they come."""
    for name, check in CHECKS.items():
        yield from run_check(name, check, machine)


def run_check(name: str, check: Callable[[Machine], list[Finding]], machine: Machine) -> list[Finding]:
    """A check that breaks is a finding too: the others still run."""
    try:
        return check(machine)
    except Exception as error:
        if os.environ.get("TOOLGEN_TRACEBACK"):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        advice = "TOOLGEN_TRACEBACK=1 shows where this comes from"
        return [Finding(name.replace("_", " "), "fail", f"{type(error).__name__}: {first}", advice)]


def _simulation(machine: Machine, text: str, as_json: bool) -> list[str]:
    layout = machine.plan(machine.footprint, simulated_gpus(text))
    if as_json:
        return [json.dumps(_layout_facts(text, layout), indent=2)]
    lines = [*textwrap.wrap(layout.reasons, WIDTH), "", *layout_table(layout)]
    for number, replica in enumerate(layout.replicas):
        lines += ["", f"replica {number}:", *(f"  {line}" for line in device_map_lines(replica.device_map))]
    return lines


def _layout_facts(text: str, layout: Placement) -> dict[str, object]:
    replicas = [
        {
            "device_map": replica.device_map,
            "conversations": replica.conversations,
            "kv_tokens": replica.kv_tokens,
            "used_bytes": {shard.index: replica.used_bytes(shard) for shard in replica.shards},
            "budget_bytes": {shard.index: shard.budget.num_bytes for shard in replica.shards},
        }
        for replica in layout.replicas
    ]
    return {
        "simulated": text,
        "model": layout.footprint.model,
        "weight_bytes": layout.footprint.weight_bytes,
        "replicas": replicas,
        "unused": [budget.index for budget in layout.skipped],
        "tokens_per_s": layout.tokens_per_s,
        "queries_per_min": layout.queries_per_min,
        "reasons": layout.reasons,
    }


def make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        examples=_EXAMPLES,
        prog=called_as("test_multi_gpu.py"),
        description="Checks whether this machine's GPUs work for ToolGen, and what to do where they do not.",
        epilog="Exit code 0: all good; 1: a check failed; 2: could not start.",
    )
    parser.add_argument(
        "--model_path", help="checkpoint to plan for and to load (default: plan for ToolGen-Llama-3-8B, load the demo)"
    )
    parser.add_argument(
        "--simulate",
        metavar="GPUS",
        help="plan for GPUs that are not here, by card or by memory: 3xRTX4090, 8xA100-40GB, 2x24GiB,1x80GiB",
    )
    parser.add_argument("--num_gpus", type=_positive, help="use at most this many GPUs (default: all visible)")
    parser.add_argument("--num_replicas", type=_auto_or_positive, default=AUTO, help="auto or a number (default: auto)")
    parser.add_argument("--max_gpu_memory", help='"20GiB", "80%%", "20GiB,10GiB" (default: 85%% of what is free)')
    parser.add_argument(
        "--num_thread",
        type=_auto_or_positive,
        default=AUTO,
        help="conversations at once in each replica, as in a run: auto or a number (default: auto)",
    )
    parser.add_argument(
        "--max_sequence_length",
        "--max_tokens",
        type=_positive,
        default=Workload.max_tokens,
        help="tokens of the longest conversation (default: %(default)s)",
    )
    parser.add_argument("--num_queries", type=_positive, default=Workload.queries, help="in all (default: %(default)s)")
    parser.add_argument("--dtype", default=Options.dtype, help="auto, bfloat16, float16, float32")
    parser.add_argument("--cpu_offloading", action="store_true", help="let layers that do not fit lie on the CPU")
    parser.add_argument("--json", action="store_true", help="print the same facts as JSON")
    return parser


def _parse(arguments: Sequence[str] | None) -> tuple[Options, str | None, bool]:
    parsed = make_parser().parse_args(arguments)
    options = Options(
        parsed.model_path,
        GpuConfig(
            num_gpus=parsed.num_gpus,
            num_replicas=parsed.num_replicas,
            max_gpu_memory=parsed.max_gpu_memory or None,
            cpu_offloading=parsed.cpu_offloading,
        ),
        Workload(
            conversations=Workload.conversations if parsed.num_thread == AUTO else parsed.num_thread,
            max_tokens=parsed.max_sequence_length,
            queries=parsed.num_queries,
        ),
        parsed.dtype,
    )
    return options, parsed.simulate, parsed.json


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _auto_or_positive(text: str) -> str | int:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a whole number of 1 or more")
    return text if text == "auto" else _positive(text)
