"""The Triton kernels' cases. Run as a script, with TRITON_INTERPRET=1 on a machine without a GPU, it checks
that Triton works and that keys and values are stored, and prints {case name and way: relative error} of attention as
JSON, for the ways of `INTERPRETED`; with the argument "split", it checks prompts whose contexts are cut into parts.
Triton decides when it is imported whether to interpret, so the test process itself cannot. The repository's root must
be on PYTHONPATH.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.attention import paged_attention
from evaluation.toolbench.inference.engine.kernels.availability import triton_works
from tests.helpers.attention import (
    check_float8_write,
    check_write,
    exact_attention,
    in_float8,
    paged_batch,
    relative_error,
)

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@dataclass(frozen=True)
class Case:
    """One batch: `contexts` with the new tokens, and how many tokens of each are new."""

    contexts: tuple[int, ...]
    new_tokens: tuple[int, ...] = ()  # () is decode, one a row
    padding: int = 0  # tokens past those of all rows
    page_size: int = 16
    num_heads: int = 8
    num_kv_heads: int = 2
    head_dim: int = 32

    @property
    def name(self) -> str:
        new = f"{self.new_tokens or 'decode'}" + (f" and {self.padding} of padding" if self.padding else "")
        heads = f"{self.num_heads}/{self.num_kv_heads}x{self.head_dim}"
        return f"{self.contexts} new {new}, pages of {self.page_size}, heads {heads}"


GROUPS = ((4, 4), (8, 2), (14, 2), (8, 1))  # query and KV heads: groups of 1, 4, 7 and 8
CASES = [
    *(Case((1, 15, 16, 17, 100), num_heads=q, num_kv_heads=kv) for q, kv in GROUPS),
    *(Case((130, 1, 64), page_size=size) for size in (16, 32, 64, 128, 256)),
    Case((0, 40, 0, 0)),  # padding rows, as a captured graph has them
    Case((0, 0)),
    Case((700, 3), num_heads=4, num_kv_heads=1),  # several parts of the context, in one row only
    Case((700,), page_size=256),
    Case((33, 20), head_dim=24),  # not a power of two
    Case((50, 9), head_dim=64, num_heads=14),
    *(Case((40, 16, 30), (40, 7, 1), num_heads=q, num_kv_heads=kv) for q, kv in GROUPS),
    *(Case((70, 20), (70, 20), page_size=size) for size in (16, 32, 64, 128, 256)),  # no cached prefix
    *(Case((90, 200), (20, 33), page_size=size) for size in (16, 128)),  # a cached prefix
    Case((9, 33, 1, 80, 17), (1, 1, 1, 60, 1)),  # a mixed step
    *(Case((40, 9, 0, 0), (20, 9, 0, 0), padding=n) for n in (3, 35)),  # fewer rows and tokens than a graph holds
    Case((7, 0, 9), (3, 2, 1)),  # a padding row that has tokens
    Case((7, 0, 9), (3, 0, 1)),  # and one that has none
    Case((300,), (2,)),
    Case((33, 20), (5, 20), head_dim=24),
]
FLOAT8_CASES = [*CASES[::2], Case((33, 20), head_dim=24), Case((90, 200), (20, 33), page_size=128)]
# By the ways in which the interpreter goes over them: it is slow, so that each case is seen in float32 and one of the
# other ways of 16 bits. It keeps bfloat16 as integers and cannot multiply them: that type is for the GPU.
INTERPRETED = {
    "float32": CASES,
    "float16": CASES[::2],
    "float16, old card": CASES[1::2],
    "float16, 8-bit pages": FLOAT8_CASES,
}


def error_of(case: Case, dtype: torch.dtype, device: str, *, is_float8: bool = False) -> float:
    """Relative error of the Triton kernels on `case`; NaN where part of the output was not written.

    With `is_float8` keys and values are 8-bit, and the error is that against what they stand for.
    """
    batch = paged_batch(
        list(case.contexts),
        list(case.new_tokens or [1] * len(case.contexts)),
        page_size=case.page_size,
        num_heads=case.num_heads,
        num_kv_heads=case.num_kv_heads,
        head_dim=case.head_dim,
        dtype=dtype,
        device=device,
    )
    if is_float8:
        batch = in_float8(batch)
    q, *rest = batch.arguments()
    padded_q = torch.cat([q, q.new_zeros(case.padding, *q.shape[1:])])
    unwritten = torch.full_like(padded_q, float("nan"))
    out = paged_attention(padded_q, *rest, unwritten, kv_scales=batch.kv_scales, implementation="triton")[: len(q)]
    expected = exact_attention(batch)
    return relative_error(out, expected) if expected.any() else float(out.abs().sum())


def errors_of(*ways: str) -> dict[str, float]:
    """The errors of all cases of these ways of `INTERPRETED`."""
    errors = {}
    for way in ways:
        dtype, is_float8 = torch.float32 if way == "float32" else torch.float16, way.endswith("8-bit pages")
        for case in INTERPRETED[way]:
            errors[f"{case.name}, {way}"] = error_of(case, dtype, "cpu", is_float8=is_float8)
    return errors


@st.composite
def prompt_batches(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Contexts and how many of their tokens are new, none at all included; some around the ends of parts."""
    context = st.integers(0, 12) | st.sampled_from([15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 129, 300])
    contexts = draw(st.lists(context, min_size=1, max_size=5))
    return contexts, [draw(st.integers(0, min(context, 20))) for context in contexts]


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(prompt_batches(), st.integers(1, 24), st.integers(2, 8), st.sampled_from([(4, 1), (6, 2)]), st.booleans())
@example(([700, 5, 6, 7, 16], [3, 5, 6, 7, 1]), 24, 8, (4, 1), False)  # one long context beside short ones
@example(([700, 5, 6, 7, 16], [3, 5, 6, 7, 1]), 4, 8, (4, 1), False)  # and no program to spare
@example(([300] + [0] * 69 + [40], [4] + [1] * 70), 90, 4, (4, 1), False)  # more sequences than are sorted
def check_split(rows: tuple[list[int], list[int]], programs: int, parts: int, heads: tuple[int, int], is_float8: bool):
    """Assert that contexts cut into parts give what attention spelled out gives, and that no part is read unwritten."""
    from evaluation.toolbench.inference.engine.attention import triton_parts, triton_prefill, triton_split

    def unwritten_parts(q: torch.Tensor, num_parts: int) -> tuple[torch.Tensor, ...]:
        return tuple(tensor.fill_(float("nan")) for tensor in triton_parts.empty_parts(q, num_parts))

    if not sum(rows[1]):
        return
    triton_prefill.empty_parts = unwritten_parts
    triton_prefill.SMALLEST_PART = 16
    batch = paged_batch(*rows, num_heads=heads[0], num_kv_heads=heads[1])
    if is_float8:
        batch = in_float8(batch)
    *inputs, _, scale = batch.arguments()
    out = torch.full_like(batch.q, float("nan"))
    split, tile = triton_split.Split(programs, parts), triton_prefill.Tile(16, 16, 4, 1)
    triton_prefill.paged_prefill(*inputs, scale, out, batch.kv_scales, tile=tile, split=split)
    expected = exact_attention(batch)
    error = relative_error(out, expected) if expected.any() else float(out.abs().sum())
    assert error < TOLERANCE[torch.float32], error


if __name__ == "__main__":
    if sys.argv[1:] == ["split"]:
        check_split()
        sys.exit()
    from evaluation.toolbench.inference.engine.attention import triton_decode, triton_prefill

    assert triton_works(torch.device("cpu"))
    check_write("cpu", "triton")
    for dtype in (torch.float32, torch.float16):
        check_float8_write("cpu", "triton", dtype)
    errors = errors_of("float32", "float16", "float16, 8-bit pages")
    triton_decode.is_old = triton_prefill.is_old = lambda _: True
    json.dump(errors | errors_of("float16, old card"), sys.stdout)
