"""Decides which server serves what. Pure: no clock, no network; not for several threads."""

from __future__ import annotations

from dataclasses import dataclass, field

# After this many failures of any kind without a success between them, a server counts as down.
_FAILURES_TO_DOWN = 3
# A server that went down this often by what it did to generations, without a success between, is not asked again:
# its handshake proves nothing any more.
_FALLS_TO_OUT = 5


@dataclass
class Member:
    """Holds the state of the server with this number. A server is down until its handshake has succeeded."""

    number: int
    is_up: bool = False
    reason: str = "not asked yet"  # why it is down
    num_running: int = 0
    failures_in_a_row: int = 0
    falls: int = 0  # times it went down by answers to generations, since the last success
    conversations: set[str] = field(default_factory=set)

    @property
    def is_out(self) -> bool:
        """Return whether it is down for good."""
        return not self.is_up and self.falls >= _FALLS_TO_OUT

    @property
    def load(self) -> int:
        """Return its load. A conversation counts between its requests too: its next one comes here."""
        return len(self.conversations) + self.num_running


class Pool:
    """Keeps a conversation with the server that has read it while that is up; new ones go to the least loaded."""

    def __init__(self, num_servers: int) -> None:
        self.members = [Member(number) for number in range(num_servers)]
        self._home_of: dict[str, Member] = {}

    @property
    def is_any_up(self) -> bool:
        return any(member.is_up for member in self.members)

    @property
    def are_all_out(self) -> bool:
        return all(member.is_out for member in self.members)

    def choose(self, conversation_id: str | None) -> Member | None:
        """Return the server for the next request of this conversation; None when all are down."""
        home = self._home_of.get(conversation_id) if conversation_id is not None else None
        if home is not None and home.is_up:
            return home
        up = [member for member in self.members if member.is_up]
        if not up:
            return None
        chosen = min(up, key=lambda member: (member.load, member.number))
        if conversation_id is not None:
            self.end_conversation(conversation_id)
            self._home_of[conversation_id] = chosen
            chosen.conversations.add(conversation_id)
        return chosen

    def end_conversation(self, conversation_id: str) -> None:
        home = self._home_of.pop(conversation_id, None)
        if home is not None:
            home.conversations.discard(conversation_id)

    def succeeded(self, member: Member) -> None:
        member.failures_in_a_row = 0
        member.falls = 0

    def failed(self, member: Member, reason: str, *, at_once: bool, is_reached: bool = True) -> bool:
        """Count a failure; True if the server goes down by it: `at_once`, or because it was one too many.

        `is_reached` says that the server answered, or lost the connection in between: only then is it a fall.
        """
        member.failures_in_a_row += 1
        if not member.is_up or not (at_once or member.failures_in_a_row >= _FAILURES_TO_DOWN):
            return False
        member.is_up = False
        member.falls += is_reached
        member.reason = reason
        return True

    def came_up(self, member: Member) -> None:
        member.is_up = True
        member.failures_in_a_row = 0
