"""Describes the steps that the attention benchmark times: what they ask of a layer, what that must cost. Pure."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace

from evaluation.toolbench.inference.engine.kernels.float8 import vector_bytes

_ELEMENT_SIZE = 2  # bfloat16


@dataclass(frozen=True)
class Shape:
    """Describes the attention of a model."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_layers: int


SHAPES = {"8b": Shape(32, 8, 128, 32), "qwen3b": Shape(16, 2, 128, 36)}


@dataclass(frozen=True)
class Work:
    """Says what one step asks of a layer: contexts with their new tokens, how many are new, and what all share."""

    name: str
    contexts: tuple[int, ...]
    new_tokens: tuple[int, ...]
    shared_prefix: int = 0  # tokens at the start whose pages are the same for all, a multiple of the page size

    @property
    def is_decode(self) -> bool:
        return max(self.new_tokens) == 1

    @property
    def is_fresh(self) -> bool:
        """Return whether nothing was cached before."""
        return self.contexts == self.new_tokens

    def num_bytes(self, shape: Shape, *, is_float8: bool = False) -> int:
        """Return the bytes that a layer must move: keys and values (with scales) once a row, queries, outputs."""
        vectors = 2 * sum(self.contexts) * shape.num_kv_heads
        kv = vectors * (vector_bytes(shape.head_dim) if is_float8 else shape.head_dim * _ELEMENT_SIZE)
        return kv + 2 * sum(self.new_tokens) * shape.num_heads * shape.head_dim * _ELEMENT_SIZE

    def flop(self, shape: Shape) -> int:
        """Count two products for every query and each token that it sees."""
        seen = sum(
            n * (context - n) + n * (n + 1) // 2 for context, n in zip(self.contexts, self.new_tokens, strict=True)
        )
        return 4 * seen * shape.num_heads * shape.head_dim


def works() -> list[Work]:
    """Return the steps of agent conversations (see `agent_workload`), from one to 128 of them."""
    decodes = [Work(f"decode {rows} x 1800", (1800,) * rows, (1,) * rows) for rows in (1, 4, 16, 64, 128)]
    mixed = tuple(random.Random(0).randint(600, 3300) for _ in range(64))
    shared = replace(decodes[3], name="decode 64 x 1800, 448 shared", shared_prefix=448)
    decodes += [Work("decode 64 x 600..3300", mixed, (1,) * 64), shared, Work("decode 1 x 32000", (32000,), (1,))]
    return [
        *decodes,
        Work("prefill 4 x 2048, fresh", (2048,) * 4, (2048,) * 4),
        Work("prefill 16 x 550, fresh", (550,) * 16, (550,) * 16),
        Work("prefill 8 x 256 of 1800", (1800,) * 8, (256,) * 8),
        Work("prefill 1 x 8 of 1800", (1800,), (8,)),
        Work("56 decodes + 8 x 200 of 1800", (1800,) * 64, (1,) * 56 + (200,) * 8),
        Work("63 decodes + 1 x 8 of 1800", (1800,) * 64, (1,) * 63 + (8,)),
    ]


def page_tables(work: Work, page_size: int) -> tuple[list[list[int]], int]:
    """Return shuffled pages of each row, the shared ones first, and how many pages there are in all."""
    num_shared = work.shared_prefix // page_size
    own = [-(-context // page_size) - num_shared for context in work.contexts]
    pages = list(range(num_shared + sum(own)))
    random.Random(0).shuffle(pages)
    shared, rest = pages[:num_shared], iter(pages[num_shared:])
    return [shared + list(itertools.islice(rest, count)) for count in own], len(pages)
