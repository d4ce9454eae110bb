"""Gives the checks what they look at: each thing is read, planned or loaded when a check first asks for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from evaluation.toolbench.demo import MODEL_DIR
from evaluation.toolbench.inference.errors import ToolGenError
from evaluation.toolbench.inference.multi_gpu.dtypes import resolve_dtype
from evaluation.toolbench.inference.multi_gpu.footprint import Footprint
from evaluation.toolbench.inference.multi_gpu.format_table import plans_by_formats
from evaluation.toolbench.inference.multi_gpu.gpu_config import GpuConfig
from evaluation.toolbench.inference.multi_gpu.gpus import Inspection, inspect_gpus, torch_cuda_uuids
from evaluation.toolbench.inference.multi_gpu.loading import load_model, load_replica
from evaluation.toolbench.inference.multi_gpu.memory_map import check_amounts
from evaluation.toolbench.inference.multi_gpu.number_formats import NumberFormats
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.placement import Placement, budgets_of
from evaluation.toolbench.inference.multi_gpu.planning import AS_STORED, PLANNED, footprint_on, plan_for
from evaluation.toolbench.inference.multi_gpu.replica_plan import Workload

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Options:
    """Holds what the user asked of the doctor; the defaults are those of the command line."""

    model_path: str | None = None
    gpus: GpuConfig = PLANNED
    workload: Workload = field(default_factory=Workload)
    formats: NumberFormats = AS_STORED


@dataclass(frozen=True)
class LoadedModel:
    """Holds a loaded model, with what loading it took."""

    model: PreTrainedModel
    path: str
    layout: Placement | None  # None on the CPU; its first replica is what was loaded
    seconds: float
    taken_bytes: dict[int, int]  # CUDA index -> bytes that the card has less of than before


class Machine:
    """Reads this machine, as the options want it used."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @cached_property
    def found(self) -> Inspection:
        """Return GPUs in CUDA's own order, asked of torch where the driver's list leaves it open."""
        first = inspect_gpus()
        return inspect_gpus(cuda_uuids=torch_cuda_uuids) if first.order_is_a_guess else first

    @property
    def gpus(self) -> Sequence[Gpu]:
        """Return the GPUs that torch can use, as they were before the doctor touched them."""
        return self.found.visible if torch.cuda.is_available() else ()

    def check_options(self) -> None:
        """Raise ConfigError or PlacementError for options that are wrong, or ask for more than this machine has."""
        resolve_dtype(self.options.formats.dtype, ())
        if isinstance(self.options.gpus.max_gpu_memory, str):
            check_amounts(self.options.gpus.max_gpu_memory)
        is_usable = bool(self.gpus) or not self.found.visible  # otherwise a check tells what to do about the driver
        if is_usable and (self.gpus or self.options.gpus.num_gpus):
            budgets_of(self.gpus, self.options.gpus.max_gpu_memory, self.options.gpus.num_gpus)

    @cached_property
    def footprint(self) -> Footprint:
        """Return what the model to plan for needs: the user's, or the shape of ToolGen-Llama-3-8B."""
        return footprint_on(self.gpus, self.options.model_path, self.options.formats)

    @cached_property
    def layout(self) -> Placement:
        """Return the plan for `footprint` over `gpus`. PlacementError when it does not fit."""
        return self.plan(self.footprint, self.gpus)

    def plan(self, footprint: Footprint, gpus: Sequence[Gpu]) -> Placement:
        """Return the plan for a model over these GPUs. PlacementError when it does not fit."""
        return plan_for(footprint, gpus, self.options.gpus, self.options.workload)

    def plans_by_formats(self, gpus: Sequence[Gpu]) -> dict[NumberFormats, Placement | str]:
        """Return what other number formats would give on these GPUs, or why they do not."""
        options = self.options
        return plans_by_formats(gpus, options.model_path, options.gpus, options.workload, options.formats)

    @property
    def path_to_load(self) -> str | None:
        """Return the user's model, else the demo's; None when its checkpoint is not in this tree."""
        if self.options.model_path:
            return self.options.model_path
        return str(MODEL_DIR) if Path(MODEL_DIR, "config.json").is_file() else None

    @property
    def loaded(self) -> LoadedModel:
        """Return the first replica of the model's layout, or the model on the CPU. Only where there is a
        `path_to_load`.
        """
        if isinstance(self._loading, ToolGenError):
            raise self._loading
        return self._loading

    @cached_property
    def _loading(self) -> LoadedModel | ToolGenError:
        """Return the outcome of the one attempt to load: what failed once is not tried again for every check."""
        assert self.path_to_load is not None
        try:
            return self._load(self.path_to_load)
        except ToolGenError as error:
            return error

    def _load(self, path: str) -> LoadedModel:
        formats = self.options.formats
        start = time.perf_counter()
        if not self.gpus:
            model = load_model(path, device="cpu", dtype=formats.dtype, weights=formats.weights)
            return LoadedModel(model, path, None, time.perf_counter() - start, {})
        is_planned = path == self.options.model_path
        layout = self.layout if is_planned else self.plan(footprint_on(self.gpus, path, formats), self.gpus)
        replica = layout.replicas[0]
        before = {index: _free_bytes(index) for index in replica.gpus}
        start = time.perf_counter()
        model = load_replica(path, replica, dtype=formats.dtype)
        for index in replica.gpus:
            torch.cuda.synchronize(index)
        seconds = time.perf_counter() - start
        torch.cuda.empty_cache()  # what loading needed for a moment
        taken = {index: before[index] - _free_bytes(index) for index in before}
        return LoadedModel(model, path, layout, seconds, taken)


def _free_bytes(index: int) -> int:
    """Read the free memory with a context on the card already, so that the context does not count as use."""
    torch.zeros(1, device=f"cuda:{index}")
    return torch.cuda.mem_get_info(index)[0]
