"""Judges answers to the bundled demo's queries, for which it is known what is right. Asks no server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.toolbench.demo import DATA_DIR
from evaluation.toolbench.demo.score import final_answer_of, judge, load_expected
from evaluation.toolbench.http_client.server_replies import Failure
from evaluation.toolbench.inference.records.finish import FINISH_NAME
from evaluation.toolbench.inference.records.statuses import SOLVED, UNSOLVED
from evaluation.toolbench.tooleval.converted import ConvertedAnswer
from evaluation.toolbench.tooleval.judge.interface import Question, Reply
from evaluation.toolbench.tooleval.judge.prompts import text_sha256

DEMO_CHECK = "demo"
_MODEL = "demo checker"


class DemoJudge:
    """Calls an answer solved that has the right calls, the right arguments and the right facts at its end."""

    status_checks: tuple[str, ...] = (DEMO_CHECK,)
    select_check: str | None = None
    default_repeats = 1
    max_attempts = 1

    def __init__(self, warn: Callable[[str], None], data_dir: Path = DATA_DIR) -> None:
        """Read the demo's folder. DataError if it is not the demo's."""
        self.warn = warn
        self._expected = load_expected(data_dir)

    def is_decided_by_rule(self, answer: ConvertedAnswer) -> bool:
        return answer.state != "judged"

    def prompt_sha256(self, check: str) -> str:
        return text_sha256(check)

    async def open(self) -> None:
        pass

    async def ask(self, question: Question, attempt: int) -> Reply:
        if question.query_id not in self._expected:
            raise Failure("refused", f"knows no query {question.query_id}: it judges the bundled demo alone")
        [answer] = question.subjects
        calls = [(str(call["name"]), str(call["arguments"])) for call in answer.calls if call["name"] != FINISH_NAME]
        expected = self._expected[question.query_id]
        verdict = judge(question.query_id, expected, calls, final_answer_of(answer.final_answer))
        return Reply(
            SOLVED if verdict.solved else UNSOLVED,
            verdict.problem,
            prompt_sha256=self.prompt_sha256(DEMO_CHECK),
            model=_MODEL,
        )

    async def close(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {
            "model": _MODEL,
            "served_model": None,
            "url": None,
            "temperature": None,
            "max_tokens": None,
            "prompts": {DEMO_CHECK: self.prompt_sha256(DEMO_CHECK)},
            "own_prompts": [],
            "constraint": None,
        }
