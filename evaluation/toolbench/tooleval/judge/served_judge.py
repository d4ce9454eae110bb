"""Holds what judges behind a server share: their model, their prompts, and how results describe them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evaluation.toolbench.chat_client.client import ChatClient, Part
from evaluation.toolbench.chat_client.replies import Said
from evaluation.toolbench.chat_client.settings import choose_model
from evaluation.toolbench.inference.errors import JudgeError
from evaluation.toolbench.tooleval.judge.interface import Reply
from evaluation.toolbench.tooleval.judge.prompts import JudgePrompts
from evaluation.toolbench.tooleval.judge.settings import JudgeSettings

_JUDGE = Part(
    "the judge",
    "Start one there (scripts/serve_vllm.sh serves a model), or name another with --judge_url or JUDGE_URL",
    JudgeError,
)


class ServedJudge:
    """Asks a model that OpenAI-compatible servers serve."""

    default_model: str
    temperature: float
    max_tokens: int

    def __init__(self, settings: JudgeSettings, prompts: JudgePrompts, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self.prompts = prompts
        self.client = ChatClient(settings, _JUDGE, warn)
        self.model = settings.model or prompts.model or self.default_model
        self._is_named = settings.model is not None
        self._served_model = ""

    @property
    def constraint(self) -> str:
        """Say how the judge is kept to the allowed words."""
        return "text"

    def prompt_sha256(self, check: str) -> str:
        return self.prompts.sha256(check)

    async def open(self) -> None:
        models = await self.client.open()
        if not self._is_named:
            self.model = choose_model(
                self.model, models, whose="the judge's", remedy="name one with --judge_model or JUDGE_MODEL"
            )

    async def close(self) -> None:
        await self.client.close()

    def reply(self, check: str, said: Said, verdict: str | None, reason: str) -> Reply:
        """Return what was said, as it is kept."""
        self._served_model = said.served_model or self._served_model
        return Reply(
            verdict,
            reason,
            prompt_sha256=self.prompt_sha256(check),
            model=self.model,
            served_model=said.served_model,
            prompt_tokens=said.prompt_tokens,
            completion_tokens=said.completion_tokens,
        )

    def describe(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "served_model": self._served_model or None,
            "url": self.client.shown_urls,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "prompts": self.prompts.digests(),
            "own_prompts": list(self.prompts.own),
            "constraint": self.constraint,
        }
