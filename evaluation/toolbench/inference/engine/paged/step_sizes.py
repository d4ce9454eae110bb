"""Lists the sizes that steps are padded to: those that a GPU is fast at and has CUDA graphs for. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

# Rows of a decode step, in steps small enough that padding costs little.
DECODE_ROWS = (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)
# Beside prompt tokens a few rows more make no difference, and every pair of sizes is a graph.
MIXED_DECODE_ROWS = (0, 8, 16, 32, 48, 64, 96, 128, 192, 256)
# Tokens of a step that reads prompts, decode rows included. A GPU's tiles make many numbers in between no faster, and
# some slower: an 8B model's matrices take an H100 8.5 ms for 384 rows, 14.1 for 448 and 10.6 for 512.
MIXED_TOKENS = (16, 32, 64, 128, 192, 256, 320, 384, 512, 640, 768, 896, 1024, 1152, 1280, 1536, 1792, 2048)


def decode_rows(count: int) -> int | None:
    """Return the rows of a step that only decodes, for `count` sequences; None for more than any graph holds."""
    return _round_up(count, DECODE_ROWS)


def mixed_decode_rows(count: int) -> int | None:
    """Return the rows for `count` sequences that decode in a step that also reads prompts."""
    return _round_up(count, MIXED_DECODE_ROWS)


def most_rows(count: int) -> int:
    """Return to how many rows `count` sequences or fewer are padded at most, with or without prompts beside them."""
    return max(count, decode_rows(count) or 0, mixed_decode_rows(count) or 0)


def mixed_tokens(count: int) -> int | None:
    """Return the tokens of a step that reads prompts, for `count` of them, rows that decode included."""
    return _round_up(count, MIXED_TOKENS)


def up_to(largest: int, sizes: Sequence[int]) -> Sequence[int]:
    """Return the sizes that values up to `largest` are rounded up to."""
    return sizes[: bisect_left(sizes, largest) + 1]


def _round_up(value: int, sizes: Sequence[int]) -> int | None:
    index = bisect_left(sizes, value)
    return sizes[index] if index < len(sizes) else None
