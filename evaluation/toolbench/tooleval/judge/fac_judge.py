"""Asks StableToolBench's FAC evaluator: a model that was trained to say Solved or Unsolved."""

from __future__ import annotations

from evaluation.toolbench.inference.records.statuses import SOLVED, UNSOLVED
from evaluation.toolbench.tooleval.converted import ConvertedAnswer
from evaluation.toolbench.tooleval.judge.interface import Question, Reply
from evaluation.toolbench.tooleval.judge.prompts import FAC_CHECK
from evaluation.toolbench.tooleval.judge.replies import read_words
from evaluation.toolbench.tooleval.judge.served_judge import ServedJudge

_RETRY_TEMPERATURE = 0.2  # at 0 another seed would get the same reply


class FacJudge(ServedJudge):
    """Gives the evaluator its own prompt and, as in its training, no constraint."""

    status_checks: tuple[str, ...] = (FAC_CHECK,)
    select_check: str | None = None
    default_repeats = 1
    max_attempts = 3
    default_model = "fac"
    temperature = 0.0
    max_tokens = 512

    def is_decided_by_rule(self, answer: ConvertedAnswer) -> bool:
        return not answer.final_answer.strip()

    async def ask(self, question: Question, attempt: int) -> Reply:
        [answer] = question.subjects
        prompt = self.prompts.texts[FAC_CHECK].format(query=answer.query, answer=answer.final_answer)
        said = await self.client.ask(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": self.max_tokens,
                "temperature": _RETRY_TEMPERATURE if attempt else self.temperature,
                "seed": question.seed(attempt),
            }
        )
        verdict = read_words(said.text, (UNSOLVED, SOLVED), label="answer_status")
        return self.reply(FAC_CHECK, said, verdict, said.text.strip())
