"""Runs the doctor's command line: `python test_multi_gpu.py`."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence

from evaluation.toolbench.inference.command_line import say, show
from evaluation.toolbench.inference.doctor.machine import Machine, Options
from evaluation.toolbench.inference.doctor.machine_checks import (
    check_cards,
    check_gpus,
    check_main_memory,
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
from evaluation.toolbench.inference.doctor.options import make_parser
from evaluation.toolbench.inference.doctor.peer_copies import check_peer_copies
from evaluation.toolbench.inference.errors import ToolGenError
from evaluation.toolbench.inference.finding import Finding, exit_code
from evaluation.toolbench.inference.multi_gpu.format_table import format_facts, format_table
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO, GpuConfig
from evaluation.toolbench.inference.multi_gpu.number_formats import NumberFormats
from evaluation.toolbench.inference.multi_gpu.placement import Placement
from evaluation.toolbench.inference.multi_gpu.planning import footprint_on
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.multi_gpu.simulated import simulated_gpus
from evaluation.toolbench.inference.multi_gpu.tables import WIDTH, device_map_lines, layout_table

CHECKS: dict[str, Callable[[Machine], list[Finding]]] = {
    "versions": check_versions,
    "gpus": check_gpus,
    "cards": check_cards,
    "main_memory": check_main_memory,
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the checks, or plans for simulated GPUs. Returns 0: all good; 1: a check failed; 2: could not start."""
    options, simulate, as_json = _parse(arguments)
    return show(lambda: _run(options, simulate, as_json))


def _run(options: Options, simulate: str | None, as_json: bool) -> int:
    if as_json or not sys.stderr.isatty():
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # of loading: it moves the cursor
    try:
        if simulate is not None:
            print("\n".join(_simulation(Machine(options), simulate, as_json)))
            return 0
        machine = Machine(options)
        machine.check_options()
        if options.model_path:
            _ = machine.footprint  # a checkpoint that cannot be read is not this machine's fault
        findings = []
        for finding in examine(machine):
            findings.append(finding)
            if not as_json:
                print("\n".join(finding.lines()), flush=True)
    except ToolGenError as error:
        if os.environ.get("TOOLGEN_TRACEBACK"):
            raise
        if as_json:
            print(json.dumps({"exit_code": error.exit_code, "error": str(error)}, indent=2))
        else:
            say(error)
        return error.exit_code
    if as_json:
        report = {"exit_code": exit_code(findings), "checks": [finding.as_json() for finding in findings]}
        print(json.dumps({**report, "verdict": verdict(findings, len(machine.gpus))}, indent=2, default=str))
    else:
        print(f"\n{textwrap.fill(verdict(findings, len(machine.gpus)), WIDTH)}")
    return exit_code(findings)


def verdict(findings: Sequence[Finding], num_gpus: int) -> str:
    """Return the last line: whether all is well, and how much could not be looked at."""
    failed = [finding for finding in findings if finding.status == "fail"]
    skipped = sum(finding.status == "skip" for finding in findings)
    left_out = f" {skipped} check{'s were' if skipped > 1 else ' was'} skipped." if skipped else ""
    if failed:
        names = ", ".join(dict.fromkeys(finding.check for finding in failed))
        return f"Not well: {names}. The lines above say what to try.{left_out}"
    if not num_gpus:
        return f"No GPU that torch can use: runs go to the processor, which is fast enough for the demo only.{left_out}"
    return f"All well: {num_gpus} GPU{'s' * (num_gpus > 1)} can be used.{left_out}"


def examine(machine: Machine) -> Iterator[Finding]:
    """Yield every check's findings, in order, as they come."""
    for name, check in CHECKS.items():
        yield from run_check(name, check, machine)


def run_check(name: str, check: Callable[[Machine], list[Finding]], machine: Machine) -> list[Finding]:
    """Run one check. One that breaks is a finding too: the others still run."""
    try:
        return check(machine)
    except Exception as error:
        if os.environ.get("TOOLGEN_TRACEBACK"):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        advice = "TOOLGEN_TRACEBACK=1 shows where this comes from"
        return [Finding(name.replace("_", " "), "fail", f"{type(error).__name__}: {first}", advice)]


def _simulation(machine: Machine, text: str, as_json: bool) -> list[str]:
    gpus, options = simulated_gpus(text), machine.options
    layout = machine.plan(footprint_on(gpus, options.model_path, options.formats), gpus)
    plans = machine.plans_by_formats(gpus)
    if as_json:
        return [json.dumps({**_layout_facts(text, layout), "formats": format_facts(plans)}, indent=2)]
    lines = layout_table(layout)
    for number, replica in enumerate(layout.replicas):
        if len(replica.shards) > 1 or replica.offloaded:  # otherwise the table has said it
            lines += ["", f"replica {number}:", *(f"  {line}" for line in device_map_lines(replica.device_map))]
    lines += ["", *format_table(plans, options.formats)]
    return [*lines, "", *textwrap.wrap(layout.reasons, WIDTH)]  # the verdict comes last, where it is seen


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


def _parse(arguments: Sequence[str] | None) -> tuple[Options, str | None, bool]:
    parsed = make_parser().parse_args(arguments)
    options = Options(
        parsed.model_path,
        GpuConfig(
            num_gpus=parsed.num_gpus,
            num_replicas=parsed.num_replicas,
            max_gpu_memory=parsed.max_gpu_memory,
            cpu_offloading=parsed.cpu_offloading,
        ),
        Workload(
            conversations=Workload.conversations if parsed.num_thread == AUTO else parsed.num_thread,
            max_tokens=parsed.max_sequence_length,
            queries=parsed.num_queries or Workload.queries,
        ),
        NumberFormats(parsed.dtype, parsed.weights, parsed.kv_cache),
    )
    return options, parsed.simulate, parsed.json
