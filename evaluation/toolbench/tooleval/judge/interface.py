"""Defines what is asked of a judge, what comes back, and what a judge can do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from evaluation.toolbench.tooleval.converted import ConvertedAnswer


@dataclass(frozen=True, slots=True)
class Question:
    """Asks for one check of one answer (or, to choose between several, of all in the order in which they are shown).

    `answer` names the model whose answer it is where a query has several.
    """

    query_id: str
    repeat: int
    check: str
    subjects: tuple[ConvertedAnswer, ...]
    answer: str = ""
    with_reason: bool = True

    @property
    def key(self) -> tuple[str, int, str, str]:
        """Return what the question is about, without the texts."""
        return (self.query_id, self.repeat, self.check, self.answer)

    @property
    def answer_sha256(self) -> str:
        """Return the digest of the answers: a query that is run again has another one."""
        return hashlib.sha256("".join(each.sha256 for each in self.subjects).encode()).hexdigest()

    def seed(self, attempt: int) -> int:
        """Return the seed of a request, the same whatever else is asked: 31 bits, which every server takes.

        >>> Question("5001", 0, "check_answer_status", ()).seed(0)
        1356227722
        """
        text = "\0".join((self.query_id, str(self.repeat), self.check, self.answer, str(attempt)))
        return (
            int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big") >> 1
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """Holds what a judge said. `verdict` is None where none of the allowed words can be read from it."""

    verdict: str | None
    reason: str = ""
    prompt_sha256: str = ""
    model: str = ""
    served_model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Judge(Protocol):
    """Judges answers. `status_checks` are asked in turn: the next one where the one before says Unsure.

    `select_check` chooses the better of two answers (verdicts "0" and "1"); None for a judge that cannot.
    """

    status_checks: tuple[str, ...]
    select_check: str | None
    default_repeats: int
    max_attempts: int
    warn: Callable[[str], None]

    def is_decided_by_rule(self, answer: ConvertedAnswer) -> bool:
        """Return whether an answer is Unsolved without asking."""
        ...

    def prompt_sha256(self, check: str) -> str:
        """Return the digest of the check's prompt, before texts are inserted."""
        ...

    async def open(self) -> None:
        """Return once the judge has been seen to be there. JudgeError within seconds if it is not."""
        ...

    async def ask(self, question: Question, attempt: int) -> Reply:
        """Return the reply to one request. Failure (of `http_client.server_replies`) where there is none."""
        ...

    async def close(self) -> None: ...

    def describe(self) -> dict[str, Any]:
        """Return the judge as results record it; without any key."""
        ...
