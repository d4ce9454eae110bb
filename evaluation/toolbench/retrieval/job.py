"""Describes what an evaluation asks of its replicas: searches, each by the id of its query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.toolbench.inference.Downstream_tasks.config import RunConfig
from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.remote.handshake import Needs
from evaluation.toolbench.retrieval.beam_search import SearchRules

WIDTH, WIDER = 5, 10  # of the beam searches for each query: ToolGen's, and the one for recall@10


@dataclass(frozen=True)
class Item:
    """Asks for one search: the prompt's ids, and which of the job's tries limits it (None: nothing does)."""

    prompt_ids: tuple[int, ...]
    trie: str | None


@dataclass(frozen=True)
class RetrievalJob:
    """Holds what every replica of an evaluation is told. Plain values: they cross process borders."""

    config: RunConfig
    rules: SearchRules
    items: Mapping[str, Item]
    tries: Mapping[str, TokenTrie]
    needs: Needs  # of a generation server; the longest sequence is what any engine is told

    @property
    def mean_prompt(self) -> int:
        """Return how many tokens a prompt has on average."""
        return sum(len(item.prompt_ids) for item in self.items.values()) // max(1, len(self.items)) or 1

    @property
    def keeps_branches(self) -> bool:
        """Return whether some search reads on behind the first token that it chooses."""
        return any(item.trie is None or self.tries[item.trie].max_depth > 1 for item in self.items.values())
