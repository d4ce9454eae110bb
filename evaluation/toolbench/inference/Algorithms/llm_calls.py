"""Asks a language model object, whichever of ToolBench's it is.

All have `change_messages(messages)` and `parse(...) -> (message, error code, tokens)`. They differ in
what they call the functions (`tools` or `functions`), in whether they are told of a new query
(`initialize()`), and in which functions they want to see.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol, runtime_checkable

from evaluation.toolbench.inference.Tree.base_env import FunctionJson, base_env
from evaluation.toolbench.inference.Tree.Tree import Message

Reply = tuple[Message, int, int]  # the assistant's message, error code (0: none), tokens used


class LanguageModel(Protocol):
    """Says what a search needs of a model."""

    def change_messages(self, messages: list[Message]) -> None: ...

    def parse(self, *args: Any, **kwargs: Any) -> Reply: ...


@runtime_checkable
class KnowsItsTools(Protocol):
    """Describes a model with its own documentation of all tools, such as the ToolGen agents.

    It is told the query's own functions only, which matter when its actions are restricted to them.
    """

    tool_documentation: Any


def begin_query(llm: LanguageModel) -> None:
    """Tell a model that keeps a conversation's state that a new one begins."""
    initialize = getattr(llm, "initialize", None)
    if initialize is not None:
        initialize()


def functions_for(llm: LanguageModel, env: base_env) -> dict[str, FunctionJson]:
    """Return the functions that this model is shown: all that may be called, or the query's own."""
    return env.truth_functions if isinstance(llm, KnowsItsTools) else env.functions


def ask_step(llm: LanguageModel, messages: list[Message], functions: dict[str, FunctionJson], process_id: int) -> Reply:
    """Return the model's next step after `messages`."""
    llm.change_messages(messages)
    return _checked(llm, llm.parse(**{_functions_keyword(llm): functions}, process_id=process_id))


def ask_text(llm: LanguageModel, messages: list[Message], functions: dict[str, FunctionJson], process_id: int) -> Reply:
    """Return the model's plain answer to `messages`: it is told not to call a function."""
    llm.change_messages(messages)
    arguments: dict[str, Any] = {_functions_keyword(llm, "functions"): functions}
    if _accepts(llm, "function_call"):
        arguments["function_call"] = "none"
    return _checked(llm, llm.parse(**arguments, process_id=process_id))


def calls_of(message: Message) -> list[tuple[Any, dict[str, str]]]:
    """Return (id or None, {"name", "arguments"}) of each call in a message: the objects themselves, to be changed
    there.

    Older models say `function_call`, newer ones `tool_calls`.
    """
    if message.get("tool_calls"):
        return [(call.get("id"), call["function"]) for call in message["tool_calls"]]
    return [(None, message["function_call"])] if message.get("function_call") else []


def _checked(llm: LanguageModel, reply: Reply) -> Reply:
    if reply[0].get("role") != "assistant":
        raise ValueError(f"{type(llm).__name__}.parse gave a message of role {reply[0].get('role')!r}, not assistant")
    return reply


def _functions_keyword(llm: LanguageModel, preferred: str = "tools") -> str:
    """Return `tools` or `functions`, whichever `parse` takes; `preferred` where it takes both."""
    other = "functions" if preferred == "tools" else "tools"
    return preferred if _names(llm, preferred) or not _names(llm, other) else other


def _names(llm: LanguageModel, keyword: str) -> bool:
    return keyword in inspect.signature(llm.parse).parameters


def _accepts(llm: LanguageModel, keyword: str) -> bool:
    parameters = inspect.signature(llm.parse).parameters.values()
    return _names(llm, keyword) or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
