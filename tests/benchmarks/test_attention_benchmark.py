"""What the attention benchmark counts and lays out, on the CPU: a wrong count there would flatter a kernel."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.attention_kernels import Layers
from benchmarks.attention_steps import Shape, Work, page_tables, works
from evaluation.toolbench.inference.engine.attention import paged_attention

SHAPE = Shape(num_heads=4, num_kv_heads=2, head_dim=8, num_layers=1)


def test_bytes_are_those_of_keys_values_queries_and_outputs_once():
    work = Work("", (10, 3), (1, 3))
    assert work.num_bytes(SHAPE) == 2 * (2 * 13 * 2 * 8 + 2 * 4 * 4 * 8)
    assert work.num_bytes(SHAPE, is_float8=True) == 2 * 13 * 2 * (8 + 4) + 2 * (2 * 4 * 4 * 8)


@pytest.mark.parametrize(("context", "new"), [(5, 1), (5, 5), (7, 3)])
def test_operations_are_those_of_the_tokens_that_are_seen(context, new):
    seen = sum(1 for query, token in itertools.product(range(context - new, context), range(context)) if token <= query)
    assert Work("", (context,), (new,)).flop(SHAPE) == seen * 4 * SHAPE.num_heads * SHAPE.head_dim


def test_rows_have_pages_of_their_own_except_the_shared_ones():
    tables, num_pages = page_tables(Work("", (40, 33, 48), (1, 1, 1), shared_prefix=32), page_size=16)
    shared, own = tables[0][:2], [page for table in tables for page in table[2:]]
    assert all(table[:2] == shared for table in tables)
    assert [len(table) for table in tables] == [3, 3, 3]
    assert sorted(shared + own) == list(range(num_pages))


def test_gathered_keys_and_values_are_those_of_the_pages():
    layers = Layers(Work("", (40, 20), (1, 1), shared_prefix=16), SHAPE, 16, torch.device("cpu"))
    paged = paged_attention(*layers.arguments(0))
    for row, (k, v) in enumerate(zip(*(kv.split([40, 20]) for kv in layers.gathered(0)), strict=True)):
        q = layers.q[0, row].unflatten(0, (2, 2))  # (Hkv, group, D)
        alone = scaled_dot_product_attention(q, k.transpose(0, 1), v.transpose(0, 1)).flatten(0, 1)
        torch.testing.assert_close(paged[row], alone, rtol=0.03, atol=0.01)  # bfloat16


def test_shared_prefixes_are_whole_pages_of_every_usual_size():
    assert all(work.shared_prefix % 64 == 0 for work in works())


def test_8_bit_pages_hold_the_same_contexts():
    layers = Layers(Work("", (40, 20), (1, 1), shared_prefix=16), SHAPE, 16, torch.device("cpu"))
    in_float8 = layers.in_float8()
    found = paged_attention(*in_float8.arguments(0), kv_scales=in_float8.kv_scales[0])
    torch.testing.assert_close(found, paged_attention(*layers.arguments(0)), rtol=0.2, atol=0.1)
    assert not torch.equal(in_float8.k[0].float(), layers.k[0].float())
