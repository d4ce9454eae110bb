"""Holds one conversation of an agent: its messages and logs, and the way from a prompt to the model's words."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel
from typing_extensions import Self

from evaluation.toolbench.inference.engine.request import Engine, Sampling
from evaluation.toolbench.inference.toolgen.action_tokens import AllowedActions
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from evaluation.toolbench.inference.toolgen.chat_format import Conversation
from evaluation.toolbench.inference.toolgen.generation import Generated, Phase, TextGenerator, draw_seed
from evaluation.toolbench.inference.toolgen.language import ToolLanguage

Message = dict[str, Any]

_conversation_numbers = itertools.count()
_COLORS = {"system": 31, "user": 32, "assistant": 34, "function": 35, "tool": 35}  # ANSI foregrounds


@dataclass
class Progress:
    """Says how far one conversation has come."""

    query_id: str
    conversation_id: str  # the engine's; of no meaning to the outcome
    step: int = 0  # calls of `parse`
    attempt: int = 0  # at the current step
    num_tokens: int = 0  # generated in the current step


class AgentSession:
    """Holds what every agent has, whatever its protocol: a model behind an engine, a language, one conversation.

    `conversation_history` and `logs` are this conversation's; everything else is shared with the siblings
    from `for_query`, which may be used from a thread each. The model is reached through the engine alone;
    `model` is there to be looked at (`model.hf_device_map`) and None where it runs elsewhere.
    """

    indented_prompt = True  # the variant of the checkout's system prompt
    chatio = None  # ToolGen's agents have a console here, which nothing reads from or writes to
    conversation_history: list[Message]
    time: float  # when the last step began, in seconds since the epoch

    def __init__(
        self,
        language: ToolLanguage,
        model: PreTrainedModel | None,
        engine: Engine,
        sampling: Sampling | None = None,
        *,
        model_name: str = "",
    ) -> None:
        language.actions.check_rows(engine.vocab_size)
        options = language.options
        self.language = language
        self.model = model
        self.engine = engine
        self.sampling = sampling or Sampling()  # of every generation, but for its temperature and seed
        self.model_name = model_name
        self.template = options.template
        self.indexing = language.catalog.indexing
        self.max_sequence_length = options.max_sequence_length
        self.tokenizer = language.tokenizer
        self.tool_documentation = language.catalog.documentation
        self.token_to_toolbench_name = language.catalog.token_to_toolbench_name
        self.toolbench_name_to_token = language.catalog.toolbench_name_to_token
        self.use_gpu = model is not None and model.device.type == "cuda"
        self._generator = TextGenerator(
            engine,
            language.encoder,
            language.actions.end,
            max_length=options.max_sequence_length,
            max_new_tokens=options.max_new_tokens,
        )
        if options.restrict_actions == "all":
            _ = language.all_actions  # made now rather than in the first step of the first query
        self._begin("")

    @classmethod
    def around(
        cls,
        model: PreTrainedModel | None,
        tokenizer: Any,
        engine: Engine,
        options: AgentOptions | None = None,
        *,
        model_name: str = "",
    ) -> Self:
        """Make an agent over what is loaded already."""
        language = ToolLanguage(tokenizer, options or AgentOptions(), indented_prompt=cls.indented_prompt)
        agent = cls.__new__(cls)
        AgentSession.__init__(agent, language, model, engine, model_name=model_name)
        return agent

    def for_query(self, query_id: str) -> Self:
        """Return a sibling that shares model, engine and catalog and owns one conversation's state.

        What it draws depends on `query_id` and the seed, not on the siblings beside it.
        """
        sibling = copy.copy(self)
        sibling._begin(query_id)
        return sibling

    def finish_query(self) -> None:
        """Give back what the engine keeps for this conversation. The agent stays usable."""
        self.engine.end_conversation(self._progress.conversation_id)

    def initialize(self) -> None:
        """Forget the query before; the pipeline calls this at the start of each."""
        self._progress.step = 0
        self.retrieved_actions: list[str] | None = None
        self.relevant_actions_documentations: list[dict[str, Any]] | None = None
        self.logs: dict[str, Any] = {"retry_times": {"actions": 0, "give_up": 0, "sorry": 0}, "actions": {}}

    def change_messages(self, messages: list[Message]) -> None:
        """Go on from these messages; the list itself is kept, not a copy."""
        self.conversation_history = messages

    def add_message(self, message: Message) -> None:
        self.conversation_history.append(message)

    def display_conversation(self, detailed: bool = False) -> None:
        """Print the messages in one colour per role; with `detailed` the calls and arguments too."""
        for message in self.conversation_history:
            text = f"{message['role']}: {message.get('content')}"
            if detailed and message.get("tool_calls"):
                text += f" -> {message['tool_calls']}"
            print(f"\033[{_COLORS.get(message['role'], 39)}m{text}\033[0m")

    def generate(
        self,
        text: str,
        do_sample: bool,
        temperature: float = 0.6,
        restrict_actions: bool = False,
        allowed_action_ids: Sequence[int] | Sequence[Sequence[int]] | None = None,
    ) -> dict[str, Any]:
        """Return what follows any text: `generated_text`, and `output_ids` (n,) int64 on the CPU, without an end token.

        With `restrict_actions` it is one action: one of `allowed_action_ids` (see `get_token_ids_by_actions`),
        by default any documented one.
        """
        allowed = None
        if restrict_actions and allowed_action_ids is not None:
            allowed = self.language.actions.constraint_of_ids(allowed_action_ids)
        elif restrict_actions:
            allowed = self.language.all_actions
        sampling = self._sampling(temperature if do_sample else 0.0, "reply")
        generated = self._generator.generate(self.language.encoder.encode_text(text), sampling, allowed=allowed)
        return {"output_ids": torch.tensor(generated.ids, dtype=torch.int64), "generated_text": generated.text}

    def get_token_ids_by_actions(self, tools: Iterable[str]) -> list[int] | list[list[int]]:
        """Return the ids of these names' actions and of Finish: one each with Atomic indexing, else a list each."""
        ids = [list(self.language.actions.ids_of(action)) for action in self.language.actions_of(tools)]
        return [token_id for (token_id,) in ids] if self.indexing == "Atomic" else ids

    @property
    def relevant_actions(self) -> list[int] | list[list[int]]:
        """Return the ids of the actions that the last step was given, made when asked for: there may be thousands."""
        return self.get_token_ids_by_actions(self._step_tools)

    def _begin(self, query_id: str) -> None:
        """Put a conversation's state to its start."""
        self._step_tools: Sequence[str] = ()
        self._progress = Progress(query_id, conversation_id=f"{query_id}#{next(_conversation_numbers)}")
        self.conversation_history = []
        self.initialize()

    def _begin_step(self, tools: Sequence[str]) -> None:
        self.time = time.time()
        self._step_tools = tools
        self._progress.step += 1
        self._progress.attempt = 0
        self._progress.num_tokens = 0

    def _complete(
        self,
        conv: Conversation,
        phase: Phase,
        temperature: float,
        *,
        prefix: str = "",
        allowed: AllowedActions | None = None,
    ) -> Generated:
        """Return what the assistant says next, after `prefix`. `conv` is left as it is."""
        prompt = conv.copy()
        prompt.append_message(conv.format.assistant, None)
        pieces = prompt.pieces()
        pieces[-1] += prefix
        generated = self._generator.generate(
            self.language.encoder.encode(pieces),
            self._sampling(temperature, phase),
            stops=self.language.actions.stops if phase == "acting" else None,
            allowed=allowed,
            conversation_id=self._progress.conversation_id,
        )
        self._progress.num_tokens += generated.num_tokens
        return generated

    def _sampling(self, temperature: float, phase: Phase) -> Sampling:
        progress = self._progress
        seed = draw_seed(self.language.options.seed, progress.query_id, progress.step, phase, progress.attempt)
        return replace(self.sampling, temperature=temperature, seed=seed)
