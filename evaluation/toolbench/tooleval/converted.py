"""Reads converted answers, and says of each who decides about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.finish import ABSENT, FINISH_NAME, GIVE_UP, parse_finish
from evaluation.toolbench.tooleval.inputs import read_entries

# What decides about an answer: the judge, or a rule that needs none.
State = Literal["judged", "no_finish", "empty", "gave_up"]


@dataclass(frozen=True)
class ConvertedAnswer:
    """Holds one entry of a converted file. `answer` has `method, total_steps, final_answer, answer_details`."""

    query_id: str
    query: str
    available_tools: Any
    answer: Mapping[str, Any]

    @property
    def final_answer(self) -> str:
        """Return the raw arguments of Finish, "" without a call of it."""
        return str(self.answer["final_answer"])

    @property
    def total_steps(self) -> int:
        return int(self.answer["total_steps"])

    @cached_property
    def sha256(self) -> str:
        """Return the digest of all that a judge can be shown of it."""
        return hashlib.sha256(json.dumps([self.query, self.answer]).encode()).hexdigest()

    @cached_property
    def calls(self) -> list[Mapping[str, Any]]:
        """Return the messages of the tool nodes: `name`, `arguments`, `response`."""
        return [node["message"] for node in _nodes(self.answer["answer_details"]) if node["role"] == "tool"]

    @property
    def answer_steps(self) -> str:
        """Return the calls as ToolEval writes them: one line each, counted from 1."""
        return "\n".join(f"Step {number}: {call}" for number, call in enumerate(self.calls, start=1))

    @property
    def final_step(self) -> str:
        return f"Final step: {self.calls[-1] if self.calls else ''}"

    @property
    def tool_names(self) -> list[str]:
        tools = self.available_tools
        entries = list(tools.values()) if isinstance(tools, Mapping) else list(tools or ())
        return [str(tool.get("function", tool)["name"]) for tool in entries]

    @property
    def state(self) -> State:
        """Return who decides. An answer is read as Finish's arguments: one that only mentions giving up is judged."""
        if not self.calls or self.calls[-1]["name"] != FINISH_NAME:
            return "no_finish"
        finish = parse_finish(self.final_answer or str(self.calls[-1]["arguments"]))
        if finish.return_type == GIVE_UP:
            return "gave_up"
        has_no_text = finish.final_answer is ABSENT and finish.return_type is not ABSENT
        if has_no_text or finish.final_answer is None or not str(finish.final_answer).strip():
            return "empty"
        return "judged" if self.final_answer.strip() else "empty"

    def for_comparison(self, max_answer_length: int) -> ConvertedAnswer:
        """Return the answer without its method and with its final answer cut, as judges of preference see it."""
        details = {key: value for key, value in self.answer.items() if key != "method"}
        details["final_answer"] = self.final_answer[:max_answer_length]
        return replace(self, answer=details)


def read_converted(path: Path) -> dict[str, ConvertedAnswer]:
    """Return the answers of a converted file by query id. DataError for a file that is something else."""
    answers = {}
    for query_id, entry in read_entries(path, "converted answers").items():
        try:
            answer = ConvertedAnswer(
                query_id, str(entry["query"]), entry.get("available_tools") or [], dict(entry["answer"])
            )
            answer.final_answer, answer.total_steps, answer.tool_names, answer.state, answer.answer_steps  # noqa: B018
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(
                f"{path}: the entry {query_id} is not a converted answer ({type(error).__name__}: {error}); "
                "convert_to_answer_format writes such files",
                query_id=query_id,
            ) from error
        answers[query_id] = answer
    return answers


def _nodes(nodes: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all nodes below, parents first. Chains are long and narrow, so no recursion."""
    pending = list(reversed(nodes))
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(node["next"]))
