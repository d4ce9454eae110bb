"""Asks a chat model ToolEval's questions, constrained to the words that may answer them."""

from __future__ import annotations

from collections.abc import Callable

from evaluation.toolbench.chat_client.replies import Said
from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.tooleval.converted import ConvertedAnswer
from evaluation.toolbench.tooleval.judge.checks import CHECK_ANSWER, CHECKS, PARSE_ANSWER, SELECT_BETTER, Check
from evaluation.toolbench.tooleval.judge.interface import Question, Reply
from evaluation.toolbench.tooleval.judge.prompts import JudgePrompts
from evaluation.toolbench.tooleval.judge.replies import read_verdict
from evaluation.toolbench.tooleval.judge.requests import CONSTRAINTS, Constraint, chat_request
from evaluation.toolbench.tooleval.judge.served_judge import ServedJudge
from evaluation.toolbench.tooleval.judge.settings import JudgeSettings


class ChatJudge(ServedJudge):
    """Asks as ToolEval does, constrained in the first way of `CONSTRAINTS` that the server does not refuse."""

    status_checks: tuple[str, ...] = (CHECK_ANSWER, PARSE_ANSWER)
    select_check: str | None = SELECT_BETTER
    default_repeats = 4
    max_attempts = 3
    default_model = "gpt-3.5-turbo-16k"
    temperature = 0.2
    max_tokens = 1000

    def __init__(self, settings: JudgeSettings, prompts: JudgePrompts, warn: Callable[[str], None]) -> None:
        super().__init__(settings, prompts, warn)
        self._ways = CONSTRAINTS if settings.constraint is None else (settings.constraint,)
        self._way_works = False  # the first of `_ways` has been answered
        self._has_warned = False

    @property
    def constraint(self) -> str:
        return self._ways[0]

    def is_decided_by_rule(self, answer: ConvertedAnswer) -> bool:
        return answer.state != "judged"

    async def ask(self, question: Question, attempt: int) -> Reply:
        check = CHECKS[question.check]
        said, way = await self._ask_in_some_way(question, check, attempt)
        if way == "tool" and said.called is None and not self._has_warned:
            self._has_warned = True
            self.warn(f"the judge {self.model} calls no function although it is told to: its text is read instead")
        return self.reply(check.name, said, *read_verdict(said, check))

    async def _ask_in_some_way(self, question: Question, check: Check, attempt: int) -> tuple[Said, Constraint]:
        """Return what the judge says and how it was constrained.

        Failure where every way is refused: the last one, which is of a question without any constraint.
        """
        prompt = self.prompts.texts[check.name].format(**check.values(question.subjects))
        refusals: list[Failure] = []
        for way in self._ways:
            request = chat_request(
                prompt,
                check,
                way,
                model=self.model,
                seed=question.seed(attempt),
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                descriptions=self.prompts.descriptions,
                with_reason=question.with_reason,
            )
            try:
                said = await self.client.ask(request)
            except Failure as failure:
                if self._way_works and way == self._ways[0]:
                    raise  # the request's own fault
                refusals.append(failure)
                continue
            self._settle(way, refusals[0] if refusals else None)
            return said, way
        raise refusals[-1]

    def _settle(self, way: Constraint, refusal: Failure | None) -> None:
        """Keep to a way that was answered, for all later questions."""
        if self._way_works:
            return
        self._way_works = True
        if refusal is not None:
            self.warn(f"the judge takes no questions by {self._ways[0]} ({refusal.words}): it is asked by {way}")
            self._ways = self._ways[self._ways.index(way) :]
