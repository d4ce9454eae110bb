"""Renders conversations as token ids, with the parts that the model writes marked.

Everything goes through the code that renders prompts for inference, so a prompt that the model is trained
on is the prompt that it will be given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from evaluation.toolbench.demo.samples import Sample, Turn
from evaluation.toolbench.inference.toolgen.catalog import ToolCatalog
from evaluation.toolbench.inference.toolgen.chat_format import Conversation, PromptEncoder, chat_format
from evaluation.toolbench.inference.toolgen.prompts import PromptStyle, PromptTexts
from evaluation.toolbench.inference.toolgen.turns import conversation_of, documentation_text, history_turns

TEMPLATE = "llama-3"


class Row(NamedTuple):
    """Holds a training sequence; `written[i]` says whether the model writes `ids[i]`."""

    ids: list[int]
    written: list[bool]


@dataclass(frozen=True)
class Renderer:
    """Renders the conversations of one catalog for one tokenizer."""

    catalog: ToolCatalog
    encoder: PromptEncoder
    texts: PromptTexts

    @classmethod
    def of(cls, catalog: ToolCatalog, tokenizer: Any) -> Renderer:
        """Make one with the package's own system prompt, whatever checkout this tree may lie in."""
        return cls(catalog, PromptEncoder(tokenizer, chat_format(TEMPLATE)), PromptTexts())

    def history(self, question: str, turns: Sequence[Turn], layout: PromptStyle) -> Conversation:
        """Return the conversation before a step."""
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": ""},  # stands for the system prompt
            {"role": "user", "content": f"\n{question}\nBegin!\n"},
        ]
        for turn in turns:
            function = {"name": self.catalog.name_of(turn.action), "arguments": turn.arguments}
            call = {"id": None, "type": "function", "function": function}
            messages.append({"role": "assistant", "content": turn.thought, "tool_calls": [call]})
            messages.append({"role": "tool", "content": turn.observation})
        system_prompt = self.texts.system_prompt(self.catalog.finish)
        rendered = history_turns(messages, self.catalog, layout, system_prompt=system_prompt)
        return conversation_of(rendered, chat_format(TEMPLATE))

    def ask_for_action(self, conversation: Conversation, layout: PromptStyle, *, in_progress: bool = True) -> None:
        hint = layout.hint if in_progress else layout.history_hint
        conversation.append_message(conversation.format.user, hint)

    def show_documentation(
        self, conversation: Conversation, action: str, layout: PromptStyle, *, in_progress: bool = True
    ) -> None:
        role = getattr(conversation.format, layout.documentation_role if in_progress else "user")
        conversation.append_message(role, documentation_text(action, self.catalog))

    def prompt(self, conversation: Conversation) -> list[int]:
        """Return ids of the conversation with a turn opened for the model to write."""
        asked = conversation.copy()
        asked.append_message(conversation.format.assistant, None)
        return self.encoder.encode(asked.pieces())

    def row(self, sample: Sample, layout: PromptStyle, step: int) -> Row:
        """Return the step with index `step` after its history, with everything in it for the model to write.

        That the history is shown in other words than the step in progress does not make what was written in it
        less worth learning.
        """
        conversation = self.history(sample.question, (), layout)
        spans: list[tuple[int, int]] = []
        for index, turn in enumerate(sample.turns[: step + 1]):
            in_progress = index == step
            spans.append(self._write(conversation, turn.thought))
            self.ask_for_action(conversation, layout, in_progress=in_progress)
            spans.append(self._write(conversation, turn.action))
            self.show_documentation(conversation, turn.action, layout, in_progress=in_progress)
            spans.append(self._write(conversation, turn.arguments))
            if turn.observation is not None:
                conversation.append_message(conversation.format.user, turn.observation)
        ids = self.encoder.encode(conversation.pieces())[: spans[-1][1]]
        written = [False] * len(ids)
        for start, stop in spans:
            written[start:stop] = [True] * (stop - start)
        return Row(ids, written)

    def _write(self, conversation: Conversation, text: str) -> tuple[int, int]:
        """Append what the model writes; where its ids are, the end marker among them."""
        start = len(self.prompt(conversation))
        conversation.append_message(conversation.format.assistant, text)
        return start, len(self.encoder.encode(conversation.pieces()))
