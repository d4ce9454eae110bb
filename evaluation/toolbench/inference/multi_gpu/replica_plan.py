"""Describes a planned copy of a model: what lies on which GPU, what fits beside it, how fast it will be.

Pure values. `fitting` makes them; nothing here knows how many replicas there are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from evaluation.toolbench.inference.engine import MAX_RUNNING
from evaluation.toolbench.inference.multi_gpu.cards import Card, card_named, typical_card
from evaluation.toolbench.inference.multi_gpu.expectation import Expectation
from evaluation.toolbench.inference.multi_gpu.footprint import Block
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO, LONGEST_CONVERSATION
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.throughput import ProductCosts, StageCosts, tokens_per_s

_BUSY_SHARE = 0.5  # of a GPU's memory in others' hands
_HOST_BANDWIDTH = 2.0e10  # bytes per second from main memory to a GPU: what PCIe 4.0 x16 gives in practice


@dataclass(frozen=True)
class GpuBudget:
    """Names a GPU and how many of its bytes this run may use."""

    gpu: Gpu
    num_bytes: int
    share: int = 1  # replicas that use this GPU at the same time

    @property
    def index(self) -> int:
        """Return the CUDA index."""
        assert self.gpu.cuda_index is not None  # only visible GPUs are budgeted
        return self.gpu.cuda_index

    @property
    def is_busy(self) -> bool:
        """Return whether others hold so much of it that it is better left alone, or its compute mode keeps us off."""
        return self.gpu.is_closed or self.gpu.used_bytes > self.gpu.total_bytes * _BUSY_SHARE

    @cached_property
    def card(self) -> Card:
        """Return the card of this name, or of this size."""
        return card_named(self.gpu.name) or typical_card(self.gpu.total_bytes)

    @property
    def is_guessed(self) -> bool:
        """Return whether the card's speeds are those of another card of its size."""
        return card_named(self.gpu.name) is None

    @property
    def bandwidth(self) -> float:
        """Return the bytes per second of this replica's part of the GPU: the driver's word, else the datasheet's."""
        return (self.gpu.bandwidth or self.card.bandwidth) / self.share

    @property
    def flops(self) -> float:
        return self.card.flops / self.share


@dataclass(frozen=True)
class Workload:
    """Describes the conversations that memory and time are planned for, or the sequences of other work."""

    conversations: int = MAX_RUNNING  # at once in each replica, at most: what --num_thread says
    max_tokens: int = LONGEST_CONVERSATION  # of the longest conversation, prompt included
    queries: int = 765  # in all; there are no more conversations than that
    expected: Expectation = field(default_factory=Expectation)
    step_tokens: int | None = None  # where prompts fill each step to that size
    are_conversations: bool = True

    @property
    def noun(self) -> str:
        return "conversation" if self.are_conversations else "sequence"

    @property
    def mean_tokens(self) -> int:
        """Return how many tokens a running conversation is expected to hold."""
        return self.expected.mean_of(self.max_tokens)

    @property
    def num_in_all(self) -> int:
        """Return how many conversations there are: one for each query. Of sequences a query has many."""
        return self.queries if self.are_conversations else sys.maxsize

    def offered(self, num_replicas: int) -> float:
        """Return how many conversations each of `num_replicas` may have at once."""
        return min(self.conversations, self.num_in_all / num_replicas)

    def at_once(self, replicas: Iterable[PlannedReplica]) -> int:
        """Return how many conversations are expected to run at once over `replicas`; never more than there are."""
        return min(sum(replica.conversations for replica in replicas), self.num_in_all)


@dataclass(frozen=True)
class Shard:
    """Describes a run of consecutive blocks on one GPU."""

    budget: GpuBudget
    blocks: tuple[Block, ...]
    working_bytes: int  # activations and workspaces, and the logits where the head is

    @property
    def index(self) -> int:
        return self.budget.index

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(module for block in self.blocks for module in block.modules)

    @property
    def num_layers(self) -> int:
        return sum(block.is_layer for block in self.blocks)

    @property
    def weight_bytes(self) -> int:
        return sum(block.weight_bytes for block in self.blocks)

    @property
    def kv_bytes_per_token(self) -> int:
        return sum(block.kv_bytes_per_token for block in self.blocks)

    def used_bytes(self, kv_tokens: int) -> int:
        """Return all that the plan puts on this GPU when the KV cache holds `kv_tokens` tokens, in bytes."""
        return self.weight_bytes + self.working_bytes + self.kv_bytes_per_token * kv_tokens


@dataclass(frozen=True)
class PlannedReplica:
    """Describes a whole model: its shards in the order in which a token passes them, and the room that is left."""

    shards: tuple[Shard, ...]
    conversations: int  # that run at once, by what they are expected to use
    max_running: int  # sequences in the engine's steps, for whose logits there is memory: short ones may be more
    kv_tokens: int  # that the KV cache holds, over all conversations
    workload: Workload
    offloaded: tuple[Block, ...] = ()  # on the CPU; their KV cache lies on the first GPU
    dtype: str = "bfloat16"  # that the plan counts with
    weights: str = AUTO  # likewise, of the decoder's linear layers
    kv_cache: str = AUTO  # and of keys and values
    products: ProductCosts = field(default_factory=ProductCosts)

    @property
    def gpus(self) -> tuple[int, ...]:
        return tuple(shard.index for shard in self.shards)

    @property
    def max_tokens(self) -> int:
        return self.workload.max_tokens

    @cached_property
    def device_map(self) -> dict[str, int | str]:
        """Return module -> CUDA index, or "cpu"; in the model's order."""
        on_gpus: dict[str, int | str] = {name: shard.index for shard in self.shards for name in shard.modules}
        return on_gpus | {name: "cpu" for block in self.offloaded for name in block.modules}

    @property
    def visible_devices(self) -> str:
        """Return CUDA_VISIBLE_DEVICES for a process that sees this replica's GPUs and no other."""
        return ",".join(shard.budget.gpu.uuid for shard in self.shards)

    @property
    def max_kv_bytes(self) -> int:
        """Return what the KV cache takes of the GPU on which it takes most: the engine's limit for every device."""
        here = [shard.kv_bytes_per_token for shard in self.shards]
        here[0] += sum(block.kv_bytes_per_token for block in self.offloaded)
        return max(here) * self.kv_tokens

    def used_bytes(self, shard: Shard) -> int:
        return shard.used_bytes(self.kv_tokens) + (self._offload_bytes if shard is self.shards[0] else 0)

    def tokens_per_s(self, conversations: float) -> float:
        """Return the predicted rate at which tokens are drawn when `conversations` are offered; see `throughput`."""
        return tokens_per_s(
            self._stages,
            min(conversations, self.conversations),
            read_per_drawn=self.workload.expected.read_per_drawn,
            mean_tokens=self.workload.mean_tokens,
        )

    @property
    def _offload_bytes(self) -> int:
        """Return the bytes of offloaded blocks on the first GPU: their KV cache, and the largest while it is in use."""
        kv_bytes = sum(block.kv_bytes_per_token for block in self.offloaded) * self.kv_tokens
        return kv_bytes + max((block.weight_bytes for block in self.offloaded), default=0)

    @cached_property
    def _stages(self) -> list[StageCosts]:
        stages = [stage_costs(shard.budget, shard.blocks, self.products) for shard in self.shards]
        if self.offloaded:  # they are computed where the model begins, and come over the bus for every step
            first = stage_costs(self.shards[0].budget, (*self.shards[0].blocks, *self.offloaded), self.products)
            moved_s = sum(block.weight_bytes for block in self.offloaded) / _HOST_BANDWIDTH
            stages[0] = StageCosts(**{**vars(first), "streamed_s": moved_s})
        return stages


def stage_costs(budget: GpuBudget, blocks: tuple[Block, ...], products: ProductCosts) -> StageCosts:
    """Return what `blocks` cost in a step on this GPU. The input embedding is a look-up, and costs nothing."""
    return StageCosts(
        bandwidth=budget.bandwidth,
        flops=budget.flops,
        layer_bytes=sum(block.weight_bytes for block in blocks if block.is_layer),
        head_bytes=sum(block.weight_bytes for block in blocks if block.makes_logits),
        kv_bytes_per_token=sum(block.kv_bytes_per_token for block in blocks),
        num_layers=sum(block.is_layer for block in blocks),
        products=products,
    )
