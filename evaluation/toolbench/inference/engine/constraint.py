"""Says which tokens a generation may produce, as data that can live on a device.

`TokenSet` allows the same ids at every position: an action of one tool token is a TokenSet and
`max_new_tokens=1`. `TokenTrie` holds whole token sequences: actions of several tokens. Both are
immutable and made once for a catalog, so an engine may cache what it derives from them per device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from evaluation.toolbench.inference.errors import EngineError


class TokenSet:
    """Holds a set of token ids, not empty unless it only serves as stop ids.

    >>> TokenSet([7, 3, 7]).ids.tolist()
    [3, 7]
    """

    def __init__(self, ids: Iterable[int]) -> None:
        self.ids = torch.tensor(sorted(set(ids)), dtype=torch.int64)  # (n,), ascending, CPU
        if len(self.ids) and int(self.ids[0]) < 0:
            raise EngineError(f"token ids are 0 or above, not {int(self.ids[0])}")
        self._members = frozenset(self.ids.tolist())
        self._masks: dict[tuple[int, torch.device], torch.Tensor] = {}
        self._copies: dict[torch.device, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, token_id: object) -> bool:
        return token_id in self._members

    def largest(self) -> int:
        """Return the largest id; -1 in an empty set."""
        return int(self.ids[-1]) if len(self.ids) else -1

    def ids_on(self, device: torch.device) -> torch.Tensor:
        """Return `ids` on `device`, copied once."""
        if device not in self._copies:
            self._copies[device] = self.ids.to(device)
        return self._copies[device]

    def mask(self, vocab_size: int, device: torch.device) -> torch.Tensor:
        """Return (vocab_size,) bool on `device`, True for the ids of the set; made once per device."""
        key = (vocab_size, torch.device(device))
        if key not in self._masks:
            mask = torch.zeros(vocab_size, dtype=torch.bool)
            mask[self.ids] = True
            self._masks[key] = mask.to(device)
        return self._masks[key]


class TokenTrie:
    """Holds token sequences as a trie in arrays (compressed sparse rows; node 0 is the root).

    Generation walks from the root. Where a sequence is complete and no longer one continues it, the
    generation ends there, without an end token being decoded. Where a longer one continues it, the
    end token is allowed beside the children and ends the generation.

    Arrays: `child_start` (nodes + 1,), `child_token` and `child_node` (edges,), sorted by token within
    a node; `is_end` (nodes,) bool. int64 on the CPU.
    """

    ROOT = 0

    def __init__(self, sequences: Iterable[Sequence[int]], end_id: int) -> None:
        children: list[dict[int, int]] = [{}]
        ends: set[int] = set()
        longest = 0
        for sequence in sequences:
            if not sequence:
                raise EngineError("an action of no tokens cannot be held by a trie")
            node = self.ROOT
            for token in sequence:
                if token not in children[node]:
                    children[node][int(token)] = len(children)
                    children.append({})
                node = children[node][int(token)]
            ends.add(node)
            longest = max(longest, len(sequence))
        if not ends:
            raise EngineError("empty allowed set: a constraint without any action allows nothing")
        edges = [sorted(node.items()) for node in children]
        lowest = min([end_id, *(node[0][0] for node in edges if node)])
        if lowest < 0:
            raise EngineError(f"token id {lowest} in a constraint: ids begin at 0")
        self.end_id = end_id
        self.max_depth = longest
        self.child_start = torch.tensor([0] + [len(e) for e in edges]).cumsum(0)
        self.child_token = torch.tensor([token for e in edges for token, _ in e], dtype=torch.int64)
        self.child_node = torch.tensor([child for e in edges for _, child in e], dtype=torch.int64)
        self.is_end = torch.zeros(len(children), dtype=torch.bool)
        self.is_end[sorted(ends)] = True
        self._children = children
        self._ends = frozenset(ends)
        self._largest = max(int(self.child_token.max()), end_id)
        self.num_nodes = len(children)

    def step(self, node: int, token_id: int) -> int:
        """Return the node below `node` for `token_id`; KeyError where the trie has no such child."""
        return self._children[node][token_id]

    def allowed(self, node: int) -> list[int]:
        """Return the ids that may follow at `node`, ascending; none at a leaf, where the generation has ended."""
        ids = list(self._children[node])
        if ids and self.ends_at(node):
            ids.append(self.end_id)
        return sorted(ids)

    def ends_at(self, node: int) -> bool:
        """Return whether a sequence is complete here, though a longer one may continue it."""
        return node in self._ends

    def is_leaf(self, node: int) -> bool:
        return not self._children[node]

    def largest(self) -> int:
        """Return the largest token id, the end token included."""
        return self._largest


Constraint = TokenSet | TokenTrie
