"""Keeps where each item is: waiting, with a replica, or over. Pure: the supervisor tells it what happened."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Keeps every item in exactly one place. An item is tried at most `max_tries` times; a replica that is lost with
    it, or gives it back, for whatever reason, costs one."""

    max_tries: int = 3
    waiting: deque[str] = field(default_factory=deque)
    _held: dict[int, dict[str, None]] = field(default_factory=dict)  # replica -> its items, the longest held first
    _tries: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, item_ids: Iterable[str], max_tries: int = 3) -> Ledger:
        """Let all of them wait, in the order in which they are to be begun."""
        return cls(max_tries, deque(item_ids))

    @property
    def num_left(self) -> int:
        """Return how many items are not over."""
        return len(self.waiting) + sum(map(len, self._held.values()))

    def held_by(self, replica: int) -> list[str]:
        """Return what this replica has in flight, the longest first."""
        return list(self._held.get(replica, ()))

    def num_tries(self, item_id: str) -> int:
        return self._tries.get(item_id, 0)

    def take(self, replica: int) -> str | None:
        """Return the next item, which `replica` now holds; None when none waits."""
        if not self.waiting:
            return None
        item_id = self.waiting.popleft()
        self._held.setdefault(replica, {})[item_id] = None
        self._tries[item_id] = self.num_tries(item_id) + 1
        return item_id

    def end(self, replica: int, item_id: str) -> bool:
        """Note that the item is over. False, and nothing changes, if that replica does not hold it (any more)."""
        held = self._held.get(replica, {})
        if item_id not in held:
            return False
        del held[item_id]
        return True

    def give_back(self, replica: int, item_id: str) -> bool:
        """Let an item that `replica` held and lost wait again behind the others; False when it has no try left.

        Behind them, so that one that takes its replica down meets other company the next time.
        """
        assert self.end(replica, item_id), f"replica {replica} does not hold {item_id}"
        if self.num_tries(item_id) >= self.max_tries:
            return False
        self.waiting.append(item_id)
        return True


def share_of(num_left: int, num_replicas: int, num_conversations: int) -> int:
    """Return how many items a replica should hold now: what it can, but near the end not what others would be idle for.

    >>> share_of(100, 4, 16), share_of(10, 4, 16), share_of(1, 4, 16)
    (16, 3, 1)
    """
    return min(num_conversations, -(-num_left // max(num_replicas, 1)))
