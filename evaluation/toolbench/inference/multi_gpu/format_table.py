"""Shows what each number format of a model would give on the same GPUs, beside each other."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evaluation.toolbench.inference.engine import KV_CACHES
from evaluation.toolbench.inference.errors import ConfigError, PlacementError
from evaluation.toolbench.inference.multi_gpu.gpu_config import GpuConfig
from evaluation.toolbench.inference.multi_gpu.number_formats import WEIGHTS, NumberFormats
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.placement import Placement
from evaluation.toolbench.inference.multi_gpu.planning import footprint_on, plan_for
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload
from evaluation.toolbench.inference.multi_gpu.tables import WIDTH, align
from evaluation.toolbench.inference.multi_gpu.units import gib

_HEADER = ("flags", "weights", "replicas", "KV room", "conversations", "predicted")


def plans_by_formats(
    gpus: Sequence[Gpu], model_path: str | None, config: GpuConfig, workload: Workload, asked: NumberFormats
) -> dict[NumberFormats, Placement | str]:
    """Plan for every format that could be asked for in place of `asked`; why not, where one does not work or fit.

    Raises as `footprint_of_checkpoint` for a checkpoint that cannot be used.
    """
    plans: dict[NumberFormats, Placement | str] = {}
    for weights, kv_cache in itertools.product(WEIGHTS, KV_CACHES):
        formats = replace(asked, weights=weights, kv_cache=kv_cache)
        try:
            plans[formats] = plan_for(footprint_on(gpus, model_path, formats), gpus, config, workload)
        except (ConfigError, PlacementError) as error:
            plans[formats] = str(error)
    return plans


def format_table(plans: Mapping[NumberFormats, Placement | str], asked: NumberFormats) -> list[str]:
    """Return a row for each plan, an arrow at what was asked for, and below it why others have none."""
    rows, missing = [], []
    for formats, plan in plans.items():
        mark = "->" if formats == asked else "  "
        if isinstance(plan, str):
            missing.append(plan if plan.startswith("--") else f"{formats.flags}: {plan}")
            continue
        rooms = sum(replica.kv_tokens for replica in plan.replicas)
        sizes = [len(replica.gpus) for replica in plan.replicas]
        rows.append(
            [
                f"{mark} {formats.flags}",
                gib(plan.footprint.weight_bytes),
                f"{len(sizes)}, over {'+'.join(map(str, sizes))} GPU{'s' * (sum(sizes) > 1)}",
                f"{rooms:,} tokens",
                str(plan.conversations),
                f"{plan.queries_per_min:,.0f} queries/min",
            ]
        )
    reasons = [textwrap.wrap(reason, WIDTH) for reason in dict.fromkeys(missing)]
    return [*align(_HEADER, rows), *itertools.chain.from_iterable(reasons)]


def format_facts(plans: Mapping[NumberFormats, Placement | str]) -> list[dict[str, Any]]:
    """Return the same for programs."""
    return [
        {**vars(formats), "why_not": plan}
        if isinstance(plan, str)
        else {
            **vars(formats),
            "weight_bytes": plan.footprint.weight_bytes,
            "replicas": [list(replica.gpus) for replica in plan.replicas],
            "kv_tokens": sum(replica.kv_tokens for replica in plan.replicas),
            "conversations": plan.conversations,
            "queries_per_min": plan.queries_per_min,
        }
        for formats, plan in plans.items()
    ]
