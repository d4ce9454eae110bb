"""Tries and sets on the device agree with the walk in plain Python."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.device_constraint import (
    DeviceTrie,
    allowed_tokens,
    device_trie,
    step_nodes,
)
from evaluation.toolbench.inference.errors import EngineError

VOCAB_SIZE = 23
END = 0
CPU = torch.device("cpu")
tries = st.lists(st.lists(st.integers(1, VOCAB_SIZE - 1), min_size=1, max_size=4), min_size=1, max_size=15).map(
    lambda sequences: TokenTrie(sequences, END)
)


@given(tries)
def test_every_node_allows_and_leads_to_what_the_trie_says(trie):
    device = DeviceTrie(trie, VOCAB_SIZE, CPU)
    nodes = torch.arange(len(trie.is_end))
    allowed = device.allowed(nodes)
    for node in nodes.tolist():
        expected = [END] if trie.is_leaf(node) else trie.allowed(node)
        assert allowed[node].nonzero().flatten().tolist() == expected
        assert bool(device.is_leaf(nodes[node])) == trie.is_leaf(node)
        for token in range(1, VOCAB_SIZE):
            child = trie.step(node, token) if token in trie.allowed(node) else node
            assert device.step(nodes[node : node + 1], torch.tensor([token])).tolist() == [child]


@given(tries, tries, st.lists(st.sampled_from(["free", "set", "first", "second"]), min_size=1, max_size=6), st.data())
def test_rows_of_a_batch_keep_to_their_own_constraint(first, second, kinds, data):
    token_set = TokenSet([3, 4, 22])
    by_kind = {"free": None, "set": token_set, "first": first, "second": second}
    groups = [(by_kind[kind], data.draw(st.integers(1, 3))) for kind in kinds]
    constraints = [constraint for constraint, count in groups for _ in range(count)]
    nodes = torch.zeros(len(constraints), dtype=torch.int64)
    allowed = allowed_tokens(groups, nodes, VOCAB_SIZE)
    if set(kinds) == {"free"}:
        assert allowed is None
        return
    tokens = []
    for row, constraint in enumerate(constraints):
        ids = allowed[row].nonzero().flatten().tolist()
        if constraint is None:
            assert ids == list(range(VOCAB_SIZE))
        elif constraint is token_set:
            assert ids == token_set.ids.tolist()
        else:
            assert ids == constraint.allowed(TokenTrie.ROOT)
        tokens.append(ids[-1])
    stepped = step_nodes(groups, nodes, torch.tensor(tokens), VOCAB_SIZE)
    for row, constraint in enumerate(constraints):
        is_trie = isinstance(constraint, TokenTrie)
        assert int(stepped[row]) == (constraint.step(TokenTrie.ROOT, tokens[row]) if is_trie else 0)


def test_a_trie_is_copied_to_a_device_once():
    trie = TokenTrie([[1, 2]], END)
    assert device_trie(trie, VOCAB_SIZE, CPU) is device_trie(trie, VOCAB_SIZE, CPU)


@pytest.mark.parametrize(("sequences", "end_id"), [([[4], [4, 6]], -1), ([[-1, 4]], 5)])
def test_a_trie_refuses_ids_below_0(sequences, end_id):
    with pytest.raises(EngineError, match="token id -1 in a constraint"):
        TokenTrie(sequences, end_id)
