"""Takes the agent step of ToolGen: a thought, then an action, then its arguments, each asked of the model in turn."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.toolbench.inference.toolgen.agent_options import Restriction
from evaluation.toolbench.inference.toolgen.attempts import AttemptPolicy
from evaluation.toolbench.inference.toolgen.chat_format import Conversation
from evaluation.toolbench.inference.toolgen.generation import ContextFull
from evaluation.toolbench.inference.toolgen.prompts import PLANNING_PREFIX
from evaluation.toolbench.inference.toolgen.session import AgentSession, Message
from evaluation.toolbench.inference.toolgen.turns import (
    Turn,
    conversation_of,
    documentation_text,
    history_turns,
    plain_turns,
)

logger = logging.getLogger(__name__)

Roles = dict[str, str]  # "user" and "assistant" as the template spells them


@dataclass
class _Step:
    """Holds what an attempt at a step has come to. `action` and `arguments` are None where the context was full."""

    thought: str | None = None
    action: str | None = None
    arguments: str | None = None


class ToolGenAgent(AgentSession):
    """Calls tools by generating them, through ToolBench's language model interface.

    Prompts, literals and results are those of ToolGen's own agents, but for what is broken there.
    """

    def parse(
        self,
        process_id: int,
        tools: Iterable[str] | None = None,
        planning: bool = True,
        temperature: float = 0.0,
        add_retrieval: bool = False,
        restrict_actions: bool = False,
        restrict_to_ground_truth_tools: bool = False,
        add_planning_prefix: bool = False,
        add_relevant_tokens: bool = False,
        do_retry: bool = False,
        retry_action: bool = False,
        retry_give_up: bool = True,
        retry_sorry: bool = True,
        print_prompt: bool = False,
        *,
        functions: Iterable[str] | None = None,
        function_call: str | None = None,
    ) -> tuple[Message, int, int]:
        """Return the model's next message, an error code, and how many tokens were generated for it.

        `tools` (or `functions`) are the names of the query's own tools; the model knows all others too.
        `function_call="none"` asks for a plain reply without thought or call. Code 1 says that the
        conversation no longer fits the context: the message then calls nothing and the path should end.
        `restrict_actions` and `restrict_to_ground_truth_tools` ask for "all" and "truth" in this step,
        whatever the agent's own setting. Temperature 0 is greedy; `do_retry` makes up to 5 attempts.
        """
        names = list(tools if tools is not None else functions or ())
        self._begin_step(names)
        if function_call == "none":
            return self._reply(temperature)
        turns = self.convert_conversation_history_to_gpt_format(names, add_retrieval)
        conversation, roles = self.convert_to_fastchat_format(names, turns, add_relevant_tokens)
        policy = AttemptPolicy(do_retry, retry_action, retry_give_up, retry_sorry)
        temperatures = policy.temperatures(temperature)
        step = _Step()
        for attempt, warmth in enumerate(temperatures):
            self._progress.attempt = attempt
            step = _Step()
            try:
                step.thought, conv = self.planning(
                    names, conversation.copy(), roles, planning, add_planning_prefix, warmth
                )
                step.action, conv = self.acting(
                    names, conv, roles, restrict_to_ground_truth_tools, restrict_actions, warmth
                )
                step.arguments, _ = self.calling(step.action, roles, conv, process_id, print_prompt, warmth)
            except ContextFull as error:
                self._log_overflow(error)
                break
            if not self._wants_another(step, policy, is_last=attempt == len(temperatures) - 1):
                break
        return (*self._message_of(step), self._progress.num_tokens)

    def convert_conversation_history_to_gpt_format(
        self, tools: Iterable[str], add_retrieval: bool = False
    ) -> list[Turn]:
        """Return the conversation so far as turns of system, user and assistant."""
        language = self.language
        return history_turns(
            self.conversation_history,
            language.catalog,
            language.layout,
            system_prompt=language.texts.system_prompt(language.catalog.finish),
            relevant_actions=language.actions_of(tools) if add_retrieval else None,
        )

    def convert_to_fastchat_format(
        self, tools: Iterable[str], conversation_gpt: Sequence[Turn], add_relevant_tokens: bool
    ) -> tuple[Conversation, Roles]:
        """Return the turns in the template's layout; `add_relevant_tokens` lists the actions in the system prompt."""
        language = self.language
        conversation = conversation_of(conversation_gpt, language.form)
        if add_relevant_tokens:
            prompt = language.texts.system_prompt(language.catalog.finish, language.actions_of(tools))
            conversation.set_system_message(prompt)
        return conversation, {"user": language.form.user, "assistant": language.form.assistant}

    def planning(
        self,
        tools: Iterable[str],
        conv: Conversation,
        roles: Roles,
        planning: bool,
        add_planning_prefix: bool = False,
        temperature: float = 0.1,
    ) -> tuple[str | None, Conversation]:
        """Return the thought, and the conversation with it. Without `planning` there is neither thought nor turn."""
        if not planning:
            if add_planning_prefix:
                raise ValueError("add_planning_prefix needs planning=True: there is no thought to begin with it")
            return None, conv
        prefix = PLANNING_PREFIX.format(actions=self.language.actions_of(tools)) if add_planning_prefix else ""
        thought = self._complete(conv, "planning", temperature, prefix=prefix).text
        if prefix:
            thought = f"{prefix} {thought}"
        # An empty turn would read like one that the model is still to fill in.
        if thought.strip():
            conv.append_message(roles["assistant"], thought)
        return thought, conv

    def acting(
        self,
        tools: Iterable[str],
        conv: Conversation,
        roles: Roles,
        restrict_to_ground_truth_tools: bool,
        restrict_actions: bool,
        temperature: float = 0.1,
    ) -> tuple[str, Conversation]:
        """Return the action, without blanks around it that are not its own, and the conversation with it.

        A text that is not an action even so stays as the model wrote it.
        """
        restriction = self._restriction(restrict_actions, restrict_to_ground_truth_tools)
        allowed = self.language.allowed(restriction, tools)
        conv.append_message(roles["user"], self.language.layout.hint)
        text = self._complete(conv, "acting", temperature, allowed=allowed).text
        action = text if self._is_action(text) or not self._is_action(text.strip()) else text.strip()
        conv.append_message(roles["assistant"], action)
        return action, conv

    def calling(
        self,
        action: str,
        roles: Roles,
        conv: Conversation,
        process_id: int,
        print_prompt: bool = False,
        temperature: float = 0.1,
    ) -> tuple[str, int]:
        """Return the arguments as generated and the number of tokens; `{}` and 0 for an action without
        documentation.
        """
        if action not in self.tool_documentation:
            return "{}", 0
        role = roles[self.language.layout.documentation_role]
        conv.append_message(role, documentation_text(action, self.language.catalog))
        generated = self._complete(conv, "calling", temperature)
        if print_prompt and process_id == 0:
            print(conv.get_prompt())
        return generated.text, generated.num_tokens

    def get_relevant_actions(self, conversation_gpt: Sequence[Turn]) -> list[str]:
        """Return the action that the model finds most relevant to the first question, also kept as `retrieved_actions`.

        `conversation_gpt` has been made with `add_retrieval`: its first three turns end with that question.
        """
        conversation, _ = self.convert_to_fastchat_format((), conversation_gpt[:3], False)
        generated = self._complete(conversation, "retrieval", 0.0, allowed=self.language.all_actions)
        self.retrieved_actions = [generated.text]
        return self.retrieved_actions

    def _reply(self, temperature: float) -> tuple[Message, int, int]:
        """Return a plain answer to the messages as they are, their system message included."""
        conversation = conversation_of(plain_turns(self.conversation_history), self.language.form)
        try:
            content = self._complete(conversation, "reply", temperature).text
        except ContextFull as error:
            self._log_overflow(error)
            return _message(None), 1, self._progress.num_tokens
        return _message(content), 0, self._progress.num_tokens

    def _is_action(self, text: str) -> bool:
        return text in self.token_to_toolbench_name or text in self.tool_documentation

    def _log_overflow(self, error: ContextFull) -> None:
        logger.warning(f"query {self._progress.query_id!r}, step {self._progress.step} ends its path: {error}")

    def _restriction(self, restrict_actions: bool, restrict_to_ground_truth_tools: bool) -> Restriction:
        if restrict_to_ground_truth_tools:
            return "truth"
        return "all" if restrict_actions else self.language.options.restrict_actions

    def _wants_another(self, step: _Step, policy: AttemptPolicy, *, is_last: bool) -> bool:
        """Enter a known action into the logs; return whether to try the step again."""
        if step.action not in self.tool_documentation:
            return False
        assert step.arguments is not None  # every action has them unless the context was full
        arguments = step.arguments.strip()
        is_finish = step.action == self.language.catalog.finish
        is_repeated = False
        if not is_finish:
            made = self.logs["actions"].setdefault(str(self.language.catalog.name_of(step.action)), [])
            is_repeated = arguments in made
            if not is_repeated:
                made.append(arguments)
        reason = policy.reason(arguments, is_finish=is_finish, is_repeated=is_repeated)
        if reason is None or is_last:
            return False
        self.logs["retry_times"][reason] += 1
        return True

    def _message_of(self, step: _Step) -> tuple[Message, int]:
        """Return the message, and its error code: 1 where the context was full."""
        if step.action is None or step.arguments is None:
            return _message(step.thought), 1
        function = {"name": self.language.catalog.name_of(step.action), "arguments": step.arguments}
        return _message(step.thought, [{"id": None, "type": "function", "function": function}]), 0


def _message(content: str | None, tool_calls: list[dict[str, Any]] | None = None) -> Message:
    return {"role": "assistant", "content": content, "function_call": None, "tool_calls": tool_calls}
