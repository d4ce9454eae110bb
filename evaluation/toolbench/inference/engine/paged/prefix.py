"""Remembers what earlier prompts left in the pages, and how much of a new prompt it saves.

A conversation that waits for its next request keeps its pages: the next prompt reuses them token by
token. Across conversations, and across the branches of a search tree, full pages are found by their
content, which is how the system prompt that all share is stored once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluation.toolbench.inference.engine.paged.pages import PagePool


@dataclass(slots=True)
class Prefix:
    """Stands for tokens whose keys and values are in `pages`, in order.

    The last page may be filled in part, and there may be empty pages behind it. The first `num_named`
    pages have been offered to other prompts.
    """

    pages: list[int] = field(default_factory=list)
    num_tokens: int = 0
    num_named: int = 0


@dataclass(slots=True)
class _Idle:
    token_ids: list[int]
    prefix: Prefix
    since: int  # steps that had been launched by then


class PrefixStore:
    """Keeps the pages of idle conversations, the least recently used first."""

    def __init__(self, pool: PagePool) -> None:
        self._pool = pool
        self._idle: OrderedDict[str, _Idle] = OrderedDict()

    def __len__(self) -> int:
        return len(self._idle)

    def holds(self, conversation_id: str | None) -> bool:
        """Return whether the conversation is idle and has its pages."""
        return conversation_id in self._idle

    def match(self, conversation_id: str | None, prompt_ids: Sequence[int], names: Sequence[bytes]) -> Prefix:
        """Return the longest stored beginning of `prompt_ids`, at least one token short of it. Nothing is held yet.

        `names` are those of the prompt's full pages. The conversation's own pages past the common
        beginning are given back: its history has changed.
        """
        usable = len(prompt_ids) - 1
        shared = self._find_pages(names[: usable // self._pool.page_size])
        idle = self._idle.get(conversation_id) if conversation_id is not None else None
        if idle is None:
            return shared
        self._truncate(idle, common_length(idle.token_ids, prompt_ids, usable))
        return idle.prefix if idle.prefix.num_tokens >= shared.num_tokens else shared

    def num_pages_to_take(self, prefix: Prefix, num_tokens: int, *, is_branch: bool = False) -> int:
        """Return how many free pages `claim(prefix)` and room for `num_tokens` in all would use up."""
        revived = sum(self._pool.is_free(page) for page in prefix.pages)
        missing = self._pool.pages_for(num_tokens) - len(prefix.pages)
        return revived + missing + self._needs_copy(prefix, is_branch)

    def claim(
        self, conversation_id: str | None, prefix: Prefix, *, is_branch: bool = False
    ) -> tuple[Prefix, tuple[int, int] | None]:
        """Return `prefix`, as `match` gave it, with its pages held for a running sequence that may write behind it.

        The second value is a copy (from page, to page) to make first: a partly used page that others
        hold too is copied before it is written. The caller holds its source as well, and gives that back
        when the copy has been made. The conversation is no longer idle, unless the sequence is one of several
        branches of it.
        """
        claimed = Prefix(list(prefix.pages), prefix.num_tokens, prefix.num_tokens // self._pool.page_size)
        for page in claimed.pages:
            self._pool.share(page)
        if conversation_id is not None and not is_branch:
            self.end(conversation_id)
        if not self._is_partial(claimed):
            return claimed, None
        last = claimed.pages[-1]
        if not self._pool.is_shared(last):
            self._pool.forget(last)
            return claimed, None
        [own] = self._pool.take(1)
        claimed.pages[-1] = own
        return claimed, (last, own)

    def publish(self, prefix: Prefix, names: Sequence[bytes]) -> None:
        """Offer the full pages of `prefix` to other prompts; `names` are those of the pages known so far."""
        num_full = min(prefix.num_tokens // self._pool.page_size, len(names))
        for index in range(prefix.num_named, num_full):
            self._pool.name(prefix.pages[index], names[index])
        prefix.num_named = max(prefix.num_named, num_full)

    def keep(self, conversation_id: str, token_ids: list[int], prefix: Prefix, *, now: int = 0) -> None:
        """Take over the pages of a sequence that has finished; `token_ids` are those that `prefix` holds.

        `now` counts steps: it says how long the conversation has been idle.
        """
        self.end(conversation_id)
        idle = _Idle(token_ids, prefix, now)
        self._truncate(idle, len(token_ids))
        self._idle[conversation_id] = idle

    def end(self, conversation_id: str) -> None:
        """Give the conversation's pages back."""
        idle = self._idle.pop(conversation_id, None)
        if idle is not None:
            self._pool.give_back(idle.prefix.pages)

    def evict_one(self, spare: str | None, *, wanted: Sequence[str] = (), before: int | None = None) -> bool:
        """Give back the pages of a conversation that is idle, `spare` excepted; False when there is none.

        The one that has been idle longest comes first. Those `wanted` again, in that order, come after the others,
        and the one wanted last before those wanted sooner. With `before`, only those that are not wanted and have been
        idle since an earlier step.
        """
        soon = set(wanted)
        victims = [
            name for name, idle in self._idle.items() if name not in soon and (before is None or idle.since < before)
        ]
        victims += reversed(wanted) if before is None else []
        for conversation_id in victims:
            if conversation_id != spare and conversation_id in self._idle:
                self.end(conversation_id)
                return True
        return False

    def _find_pages(self, names: Sequence[bytes]) -> Prefix:
        pages: list[int] = []
        for name in names:
            page = self._pool.find(name)
            if page is None:
                break
            pages.append(page)
        return Prefix(pages, len(pages) * self._pool.page_size, len(pages))

    def _truncate(self, idle: _Idle, num_tokens: int) -> None:
        prefix = idle.prefix
        kept = self._pool.pages_for(num_tokens)
        self._pool.give_back(prefix.pages[kept:])
        del prefix.pages[kept:], idle.token_ids[num_tokens:]
        prefix.num_tokens = num_tokens
        prefix.num_named = min(prefix.num_named, num_tokens // self._pool.page_size)

    def _is_partial(self, prefix: Prefix) -> bool:
        return prefix.num_tokens % self._pool.page_size > 0

    def _needs_copy(self, prefix: Prefix, is_branch: bool) -> bool:
        """Return whether its last page is copied: only a conversation has a partial one, and holds it once itself."""
        return self._is_partial(prefix) and (is_branch or self._pool.is_shared(prefix.pages[-1]))


def common_length(first: Sequence[int], second: Sequence[int], limit: int) -> int:
    """Return tokens that both begin with, at most `limit`. Slices are compared in C, halving where they differ."""
    low, high = 0, min(len(first), len(second), limit)
    if first[:high] == second[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low
