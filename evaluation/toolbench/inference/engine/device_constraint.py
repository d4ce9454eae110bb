"""Applies constraints on the device: masks of a batch's rows, and tries stepped by tensor operations.

A row's place in its trie is an int64 on the device (its node). Nodes and tokens never visit the host
to build a mask: `allowed` and `step` are gathers and searches over the trie's arrays.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence

import torch

from evaluation.toolbench.inference.engine.constraint import Constraint, TokenSet, TokenTrie


class DeviceTrie:
    """Keeps a `TokenTrie`'s arrays on one device. Get it with `device_trie`, which copies them once."""

    def __init__(self, trie: TokenTrie, vocab_size: int, device: torch.device) -> None:
        self.end_id = trie.end_id
        self.vocab_size = vocab_size
        self.child_start = trie.child_start.to(device)  # (nodes + 1,)
        self.child_token = trie.child_token.to(device)  # (edges,)
        self.child_node = trie.child_node.to(device)  # (edges,)
        counts = trie.child_start.diff()
        parent = torch.repeat_interleave(torch.arange(len(counts)), counts)
        # (edges,) ascending, because edges are sorted by node and, within a node, by token.
        self.edge_key = (parent * vocab_size + trie.child_token).to(device)
        self.may_end = (trie.is_end & (counts > 0)).to(device)  # (nodes,): the end token is allowed here
        # The root has far more children than any other node, and rows that begin are common: its mask is kept.
        self.root_ids = self.child_token[: int(counts[TokenTrie.ROOT])]
        self.root_mask = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        self.root_mask[self.root_ids] = True
        self.most_children = int(counts[TokenTrie.ROOT + 1 :].max())

    def allowed(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return (num_rows, vocab_size) bool for `nodes` (num_rows,) int64.

        At a leaf, where a generation has already ended, the end token: a batch that notices an end one
        step late still has something to draw from.
        """
        # One column more than the vocabulary takes the writes of the padding.
        mask = torch.zeros(len(nodes), self.vocab_size + 1, dtype=torch.bool, device=nodes.device)
        mask = mask.scatter_(1, self.ids_below(nodes), True)[:, : self.vocab_size]
        return torch.where((nodes == TokenTrie.ROOT)[:, None], self.root_mask, mask)

    def ids_below(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return the ids allowed at `nodes` (num_rows,) int64, none of which is the root: (num_rows, n) int64.

        Rows with fewer are filled up with `vocab_size`.
        """
        start, stop = self.child_start[nodes, None], self.child_start[nodes + 1, None]
        edges = start + torch.arange(self.most_children, device=nodes.device)
        ids = self.child_token[edges.clamp(max=len(self.child_token) - 1)].masked_fill_(edges >= stop, self.vocab_size)
        is_end = (self.may_end[nodes, None] | (start == stop)) & ~(ids == self.end_id).any(dim=1, keepdim=True)
        return torch.cat([ids, torch.where(is_end, self.end_id, self.vocab_size)], dim=1)

    def step(self, nodes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return (num_rows,) int64: the children that `tokens` lead to; unchanged nodes where there is no such
        child.
        """
        key = nodes * self.vocab_size + tokens
        edges = torch.searchsorted(self.edge_key, key).clamp(max=len(self.edge_key) - 1)
        return torch.where(self.edge_key[edges] == key, self.child_node[edges], nodes)

    def is_leaf(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return (num_rows,) bool: the path is complete and no longer one continues it."""
        return self.child_start[nodes] == self.child_start[nodes + 1]


_tries: weakref.WeakKeyDictionary[TokenTrie, dict[tuple[int, torch.device], DeviceTrie]] = weakref.WeakKeyDictionary()


def device_trie(trie: TokenTrie, vocab_size: int, device: torch.device) -> DeviceTrie:
    """Return the arrays of `trie` on `device`, copied at the first call and kept as long as the trie lives."""
    copies = _tries.setdefault(trie, {})
    key = (vocab_size, device)
    if key not in copies:
        copies[key] = DeviceTrie(trie, vocab_size, device)
    return copies[key]


Group = tuple[Constraint | None, int]  # what holds for this many rows, one after another


def allowed_tokens(groups: Sequence[Group], nodes: torch.Tensor, vocab_size: int) -> torch.Tensor | None:
    """Return (num_rows, vocab_size) bool on the device of `nodes` (num_rows,) int64; None without any constraint.

    The rows of the first group come first, and so on; together they are all rows. Not to be written to: a set that
    holds for all rows gives one row of memory that is seen as many.
    """
    if all(constraint is None for constraint, _ in groups):
        return None
    device = nodes.device
    if len(groups) == 1 and isinstance(groups[0][0], TokenSet):
        return groups[0][0].mask(vocab_size, device).expand(len(nodes), vocab_size)
    allowed = torch.empty(len(nodes), vocab_size, dtype=torch.bool, device=device)
    for constraint, rows in _rows_of(groups):
        if constraint is None:
            allowed[rows] = True
        elif isinstance(constraint, TokenSet):
            allowed[rows] = constraint.mask(vocab_size, device)
        else:
            allowed[rows] = device_trie(constraint, vocab_size, device).allowed(nodes[rows])
    return allowed


def allowed_ids(
    constraint: Constraint | None, nodes: torch.Tensor, vocab_size: int, *, at_root: bool
) -> torch.Tensor | None:
    """Return the ids that rows at `nodes` (num_rows,) int64 may have: (n,) int64, the same for all, or (num_rows, n).

    None: all. In a trie either all rows are `at_root` or none is; rows with fewer ids than others are filled up with
    `vocab_size`.
    """
    if constraint is None:
        return None
    if isinstance(constraint, TokenSet):
        return constraint.ids_on(nodes.device)
    trie = device_trie(constraint, vocab_size, nodes.device)
    return trie.root_ids if at_root else trie.ids_below(nodes)


def step_nodes(groups: Sequence[Group], nodes: torch.Tensor, tokens: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Return (num_rows,) int64: `nodes` after `tokens`; rows without a trie keep theirs."""
    parts = []
    for constraint, rows in _rows_of(groups):
        if isinstance(constraint, TokenTrie):
            trie = device_trie(constraint, vocab_size, nodes.device)
            parts.append(trie.step(nodes[rows], tokens[rows]))
        else:
            parts.append(nodes[rows])
    return torch.cat(parts)


def _rows_of(groups: Sequence[Group]) -> Iterator[tuple[Constraint | None, slice]]:
    start = 0
    for constraint, count in groups:
        yield constraint, slice(start, start + count)
        start += count
