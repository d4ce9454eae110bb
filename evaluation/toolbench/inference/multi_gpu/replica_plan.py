"""One copy of a model over one or more GPUs: which blocks go where, and how many conversations fit beside them.

Pure: sizes and budgets in, a `PlannedReplica` out. Nothing here knows how many replicas there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from evaluation.toolbench.inference.multi_gpu.footprint import Block, Footprint
from evaluation.toolbench.inference.multi_gpu.gpu_config import LONGEST_CONVERSATION
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.splits import fastest_in_order, fill_in_order, has_room
from evaluation.toolbench.inference.multi_gpu.units import MIB

_BUSY_SHARE = 0.5  # of a GPU's memory in others' hands
_LOGITS_COPIES = 3  # float32 logits, their masked copy, and the probabilities or the sort of the sampler
_RUNTIME_BYTES = 512 * MIB  # on every GPU: cuBLAS workspaces, CUDA graphs, what the allocator cannot reuse
_ASSUMED_BANDWIDTH = 1.0e12  # bytes per second where NVML tells nothing: an RTX 4090's
_LAYER_OVERHEAD_S = 0.1e-3  # of a layer of a step, beside reading memory (CUDA graph, compiled, measured on an H100)
_HOST_BANDWIDTH = 2.0e10  # bytes per second from main memory to a GPU: what PCIe 4.0 x16 gives in practice
_HOP_S = 0.1e-3  # handing a step's hidden states to the next GPU
_UNEVENNESS = 0.05  # of a step, for each further GPU: batches are not equally long, so GPUs wait for one another


@dataclass(frozen=True)
class GpuBudget:
    """A GPU and how many of its bytes this run may use."""

    gpu: Gpu
    budget_bytes: int
    share: int = 1  # replicas that use this GPU at the same time

    @property
    def index(self) -> int:
        """CUDA index."""
        assert self.gpu.cuda_index is not None  # only visible GPUs are budgeted
        return self.gpu.cuda_index

    @property
    def is_busy(self) -> bool:
        """Whether others hold so much of it that it is better left alone."""
        return self.gpu.used_bytes > self.gpu.total_bytes * _BUSY_SHARE

    @property
    def bandwidth(self) -> float:
        return (self.gpu.bandwidth or _ASSUMED_BANDWIDTH) / self.share


@dataclass(frozen=True)
class Workload:
    """What memory is kept for beside the weights."""

    conversations: int = 64  # wanted at once, over all replicas
    max_tokens: int = LONGEST_CONVERSATION
    prefill_tokens: int = 2048  # that one step reads at most


@dataclass(frozen=True)
class Shard:
    """A run of consecutive blocks on one GPU."""

    target: GpuBudget
    blocks: tuple[Block, ...]
    working_bytes: int  # activations and workspaces, and the logits where the head is

    @property
    def index(self) -> int:
        return self.target.index

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(module for block in self.blocks for module in block.modules)

    @property
    def num_layers(self) -> int:
        return sum(block.kv_bytes_per_token > 0 for block in self.blocks)

    @property
    def weight_bytes(self) -> int:
        return sum(block.weight_bytes for block in self.blocks)

    @property
    def kv_bytes_per_token(self) -> int:
        return sum(block.kv_bytes_per_token for block in self.blocks)

    def used_bytes(self, kv_tokens: int) -> int:
        """All that the plan puts on this GPU when the KV cache holds `kv_tokens` tokens."""
        return self.weight_bytes + self.working_bytes + self.kv_bytes_per_token * kv_tokens


@dataclass(frozen=True)
class PlannedReplica:
    """A whole model: its shards in the order in which a token passes them, and the room that is left."""

    shards: tuple[Shard, ...]
    conversations: int  # of the longest kind that run at once
    kv_tokens: int  # that the KV cache holds, over all conversations
    max_tokens: int
    offloaded: tuple[Block, ...] = ()  # on the CPU; their KV cache lies on the first GPU

    @property
    def gpus(self) -> tuple[int, ...]:
        return tuple(shard.index for shard in self.shards)

    @cached_property
    def device_map(self) -> dict[str, int | str]:
        """Module -> CUDA index, or "cpu"; in the model's order."""
        on_gpus: dict[str, int | str] = {name: shard.index for shard in self.shards for name in shard.modules}
        return on_gpus | {name: "cpu" for block in self.offloaded for name in block.modules}

    @property
    def visible_devices(self) -> str:
        """CUDA_VISIBLE_DEVICES for a process that sees this replica's GPUs and no other."""
        return ",".join(shard.target.gpu.uuid for shard in self.shards)

    @property
    def max_kv_bytes(self) -> int:
        """What the KV cache takes of the GPU on which it takes most: the engine's limit for every device."""
        here = [shard.kv_bytes_per_token for shard in self.shards]
        here[0] += sum(block.kv_bytes_per_token for block in self.offloaded)
        return max(here) * self.kv_tokens

    def used_bytes(self, shard: Shard) -> int:
        return shard.used_bytes(self.kv_tokens) + (self._offload_bytes if shard is self.shards[0] else 0)

    @property
    def _offload_bytes(self) -> int:
        """What offloaded blocks need on the first GPU: their KV cache, and the largest while it is in use."""
        kv_bytes = sum(block.kv_bytes_per_token for block in self.offloaded) * self.kv_tokens
        return kv_bytes + max((block.weight_bytes for block in self.offloaded), default=0)

    def tokens_per_s(self, conversations: float) -> float:
        """Predicted decoding rate when `conversations` are offered, of half the longest length on average.

        They are dealt to up to as many batches as there are GPUs, which are in flight together: every batch
        passes all GPUs in turn, and the slowest GPU sets the pace. A sketch, good enough to rank layouts.
        """
        running = min(conversations, self.conversations)
        most_batches = max(1, min(len(self.shards), int(running)))
        return max(self._rate(running, batches) for batches in range(1, most_batches + 1))

    def _rate(self, running: float, batches: int) -> float:
        """Tokens per second with `running` conversations in `batches` equal batches."""
        seconds = [self._batch_seconds(position, running / batches) for position in range(len(self.shards))]
        waiting = _UNEVENNESS * (len(self.shards) - 1) * (batches > 1)
        cycle = max(sum(seconds), batches * max(seconds)) * (1 + waiting)  # in which every conversation gets a token
        return running / cycle if cycle else 0.0

    def _batch_seconds(self, position: int, rows: float) -> float:
        """What one batch takes on the GPU at `position`; offloaded blocks are computed on the first."""
        shard = self.shards[position]
        seconds = sum(block_seconds(block, shard.target, rows * self.max_tokens / 2) for block in shard.blocks)
        if position:
            return seconds + _HOP_S
        return seconds + sum(block.weight_bytes for block in self.offloaded) / _HOST_BANDWIDTH


def fit_replica(
    footprint: Footprint,
    targets: Sequence[GpuBudget],
    workload: Workload,
    *,
    conversations: int,
    cpu_bytes: int = 0,
) -> PlannedReplica | None:
    """A split over `targets` (in their order); None when one conversation is too much.

    As many of `conversations` as fit run at once. Where they all do, it is the split whose slowest GPU takes
    least for a step, elsewhere the one with the most KV room. With `cpu_bytes`, as few trailing blocks as possible
    go to the CPU when the GPUs alone do not suffice.
    """
    for kept in range(len(footprint.blocks), 0, -1):
        offloaded = footprint.blocks[kept:]
        if sum(block.weight_bytes for block in offloaded) > cpu_bytes:
            return None
        replica = _fit_blocks(footprint, footprint.blocks[:kept], offloaded, targets, workload, conversations)
        if replica:
            return replica
    return None


def _fit_blocks(
    footprint: Footprint,
    blocks: Sequence[Block],
    offloaded: Sequence[Block],
    targets: Sequence[GpuBudget],
    workload: Workload,
    conversations: int,
) -> PlannedReplica | None:
    offloaded_kv = sum(block.kv_bytes_per_token for block in offloaded)
    streamed = max((block.weight_bytes for block in offloaded), default=0)
    working = working_bytes(footprint, workload)

    def needs(rows: int, kv_tokens: int) -> tuple[list[int], list[int]]:
        """Bytes of each block, and room on each GPU, when so many rows are drawn and tokens kept."""
        costs = [
            block.weight_bytes
            + block.kv_bytes_per_token * kv_tokens
            + logits_bytes(footprint, rows) * block.makes_logits
            for block in blocks
        ]
        room = [target.budget_bytes - working for target in targets]
        room[0] -= streamed + offloaded_kv * kv_tokens
        room[0] -= logits_bytes(footprint, rows) * any(block.makes_logits for block in offloaded)
        return costs, room

    def fits(rows: int, kv_tokens: int) -> bool:
        return fill_in_order(*needs(rows, kv_tokens)) is not None

    if not targets or not fits(1, workload.max_tokens):
        return None
    rows = _largest(1, conversations, lambda count: fits(count, count * workload.max_tokens))
    most = sum(target.budget_bytes for target in targets) // max(footprint.kv_bytes_per_token, 1)
    least = rows * workload.max_tokens
    ends: list[int] | None
    if rows == conversations and not offloaded:  # memory is ample: let no GPU wait for another
        stored = rows / len(targets) * workload.max_tokens / 2
        seconds = [[block_seconds(block, target, stored) for block in blocks] for target in targets]
        even = ends = fastest_in_order(*needs(rows, least), seconds)
        kv_tokens = _largest(least, most, lambda tokens: has_room(even, *needs(rows, tokens)))
    else:
        kv_tokens = _largest(least, most, lambda tokens: fits(rows, tokens))
        ends = fill_in_order(*needs(rows, kv_tokens))
    assert ends is not None
    if offloaded and not ends[0]:
        return None  # what lies on the CPU is computed where the model begins, and that has to be the first GPU
    shards = []
    for target, (start, end) in zip(targets, pairwise([0, *ends]), strict=True):
        own = tuple(blocks[start:end])
        head_bytes = logits_bytes(footprint, rows) * any(block.makes_logits for block in own)
        if target is targets[0]:
            head_bytes += logits_bytes(footprint, rows) * any(block.makes_logits for block in offloaded)
        if own:
            shards.append(Shard(target, own, working + head_bytes))
    return PlannedReplica(tuple(shards), rows, kv_tokens, workload.max_tokens, tuple(offloaded))


def working_bytes(footprint: Footprint, workload: Workload) -> int:
    """What computing needs on each GPU beside weights and KV cache: a prefill step's activations, workspaces."""
    return min(workload.prefill_tokens, workload.max_tokens) * footprint.activation_bytes_per_token + _RUNTIME_BYTES


def logits_bytes(footprint: Footprint, rows: int) -> int:
    """What choosing `rows` next tokens needs where the head is."""
    return rows * footprint.logits_bytes_per_row * _LOGITS_COPIES


def block_seconds(block: Block, target: GpuBudget, stored_tokens: float) -> float:
    """What a step takes for `block`, whose weights and `stored_tokens` of KV cache are read once.

    The embedding is a look-up and is not read.
    """
    is_look_up = not block.kv_bytes_per_token and not block.makes_logits
    read_bytes = block.weight_bytes * (not is_look_up) + block.kv_bytes_per_token * stored_tokens
    return read_bytes / target.bandwidth + _LAYER_OVERHEAD_S * (block.kv_bytes_per_token > 0)


def _largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest number from `low`, which fits, to `high` that fits; fitting is monotonic."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
