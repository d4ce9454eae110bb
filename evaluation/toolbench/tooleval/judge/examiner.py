"""Asks a judge until there is a verdict, keeps every reply in the log, and asks nothing that the log answers."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.inference.errors import JudgeError
from evaluation.toolbench.inference.records.statuses import SCORES, UNSOLVED, UNSURE
from evaluation.toolbench.tooleval.converted import ConvertedAnswer
from evaluation.toolbench.tooleval.judge.interface import Judge, Question, Reply
from evaluation.toolbench.tooleval.verdict_log import EARLIER, VerdictLog

_LONGEST_QUOTE = 160  # characters of a reply in a message
_MOST_WARNINGS = 5  # about single queries; results name all of them


@dataclass
class Examiner:
    """Asks any number of questions at once. `undecided` has why there is no verdict, by query and repeat."""

    judge: Judge
    log: VerdictLog
    undecided: dict[tuple[str, int], str] = field(default_factory=dict)
    _has_told_of_others: bool = False

    async def status(
        self, answer: ConvertedAnswer, repeat: int, *, model: str = "", with_reason: bool = True
    ) -> str | None:
        """Return Solved, Unsure or Unsolved, asked for only where no rule decides; None for an answer left undecided.

        JudgeError and OutputError when there is no point in asking on.
        """
        if self.judge.is_decided_by_rule(answer):
            return UNSOLVED
        verdict = self.log.verdict((answer.query_id, repeat, EARLIER, model))
        if verdict in SCORES:
            return verdict
        for check in self.judge.status_checks:
            verdict = await self.verdict(
                Question(answer.query_id, repeat, check, (answer,), answer=model, with_reason=with_reason)
            )
            if verdict != UNSURE:
                break
        return verdict

    async def verdict(self, question: Question) -> str | None:
        """Return the judge's word, from the log if it is there; None if no reply has one of the allowed words."""
        digest = question.answer_sha256
        verdict = self.log.verdict(question.key, digest)
        if verdict is not None:
            return verdict
        if self.log.is_of_another_answer(question.key, digest) and not self._has_told_of_others:
            self._has_told_of_others = True
            self.judge.warn(
                f"{self.log.path.name} has verdicts of answers that have changed since: they are asked anew"
            )
        # A start that was cut short is gone on with; a question that stayed undecided gets a new set of seeds.
        first = self.log.num_replies(question.key, digest)
        last = first - first % self.judge.max_attempts + self.judge.max_attempts
        for attempt in range(first, last):
            try:
                reply = await self.judge.ask(question, attempt)
            except Failure as failure:
                self._leave_undecided(question, f"the judge {failure.words}")
                return None
            self._check_same_model(reply)
            self.log.append(question, question.seed(attempt), reply)
            if reply.verdict is not None:
                return reply.verdict
        said = textwrap.shorten(reply.reason, _LONGEST_QUOTE, placeholder="...")
        self._leave_undecided(
            question, f"the judge said none of the allowed words in {self.judge.max_attempts} replies, last {said!r}"
        )
        return None

    def _check_same_model(self, reply: Reply) -> None:
        if reply.served_model and self.log.served_model and reply.served_model != self.log.served_model:
            raise JudgeError(
                f"the judge answers as {reply.served_model} now, and gave the verdicts in {self.log.path.name} as "
                f"{self.log.served_model}: bring that model back, or pass --overwrite to ask anew"
            )

    def _leave_undecided(self, question: Question, why: str) -> None:
        self.undecided[question.query_id, question.repeat] = why
        if len(self.undecided) <= _MOST_WARNINGS:
            self.judge.warn(f"query {question.query_id}, repeat {question.repeat} stays undecided: {why}")
