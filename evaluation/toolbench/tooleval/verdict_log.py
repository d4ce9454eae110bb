"""Keeps `<stem>_verdicts.jsonl`: every reply of a judge, as it comes. What is in it is not asked again.

Keys of a line: `query_id`, `repeat`, `check`, `verdict` (null: none of the allowed words), `reason`,
`prompt_sha256`, `model`, `seed`, `tokens` (`prompt`, `completion`), `served_model`, `answer_sha256` (of what was
judged: an answer that has changed since is judged anew), and `answer`, the model whose answer it is about, where a
query has several. Verdicts taken from files of an earlier scoring by ToolEval have the check "earlier" and neither
model nor seed.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from evaluation.toolbench.file_lock import lock
from evaluation.toolbench.inference.errors import ConfigError, OutputError
from evaluation.toolbench.inference.records.answers import output_errors
from evaluation.toolbench.inference.records.json_lines import JsonLines, read_json_lines
from evaluation.toolbench.inference.records.statuses import SCORES
from evaluation.toolbench.tooleval.judge.checks import CHECKS
from evaluation.toolbench.tooleval.judge.interface import Judge, Question, Reply

EARLIER = "earlier"
_FLAG = "--save_path"  # names the place

Key = tuple[str, int, str, str]  # query id, repeat, check, answer


@dataclass
class Tokens:
    """Counts what requests cost."""

    requests: int = 0
    prompt: int = 0
    completion: int = 0

    def add(self, prompt: int, completion: int) -> None:
        self.requests += 1
        self.prompt += prompt
        self.completion += completion


@dataclass
class _Said:
    """Holds what was said to a question. `answer_sha256` is of what was judged, "" where the log does not say."""

    answer_sha256: str
    verdict: str | None = None
    num_replies: int = 0


class VerdictLog:
    """Keeps the log of one scoring, locked while it is open. It remembers verdicts and counts, not the reasons."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Open the log. OutputError if that fails or another scoring has it. `overwrite` puts an old one aside."""
        self.path = path
        self.served_model = ""
        self.tokens: defaultdict[str, Tokens] = defaultdict(Tokens)  # by query
        self._said: dict[Key, _Said] = {}
        self._judges: set[tuple[str, str, str]] = set()  # check, model, digest of the prompt
        with output_errors(path, _FLAG):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lines = JsonLines(path)
            self._lock()
            if overwrite and path.stat().st_size:
                path.rename(_free_name(path))
                self._lines.close()
                self._lines = JsonLines(path)
                self._lock()
            for record in read_json_lines(path):
                with contextlib.suppress(
                    KeyError, TypeError, ValueError, AttributeError, OverflowError
                ):  # something else
                    self._take(record)

    def verdict(self, key: Key, answer_sha256: str = "") -> str | None:
        """Return what was said of this answer; of whichever there was where log or caller does not say."""
        said = self._of(key, answer_sha256)
        return said.verdict if said else None

    def num_replies(self, key: Key, answer_sha256: str) -> int:
        """Count how many times this was asked of this answer and answered, by whatever."""
        said = self._of(key, answer_sha256)
        return said.num_replies if said else 0

    def is_of_another_answer(self, key: Key, answer_sha256: str) -> bool:
        """Say whether what was said last to this question is of an answer that the query had before."""
        return key in self._said and self._of(key, answer_sha256) is None

    def append(self, question: Question, seed: int, reply: Reply) -> None:
        """Keep a reply. OutputError if the disk does not take it."""
        self._write(
            {
                "query_id": question.query_id,
                "repeat": question.repeat,
                "check": question.check,
                "verdict": reply.verdict,
                "reason": reply.reason,
                "prompt_sha256": reply.prompt_sha256,
                "model": reply.model,
                "seed": seed,
                "tokens": {"prompt": reply.prompt_tokens, "completion": reply.completion_tokens},
                "served_model": reply.served_model,
                "answer_sha256": question.answer_sha256,
                **({"answer": question.answer} if question.answer else {}),
            }
        )

    def append_earlier(self, query_id: str, repeat: int, verdict: str) -> None:
        """Keep a verdict of an earlier scoring, of which nothing else is known."""
        if self.verdict((query_id, repeat, EARLIER, "")) is None:
            self._write({"query_id": query_id, "repeat": repeat, "check": EARLIER, "verdict": verdict})

    @property
    def has_judge(self) -> bool:
        """Return whether any reply is in it, and not only earlier verdicts."""
        return bool(self._judges)

    @property
    def num_verdicts(self) -> int:
        return sum(each.verdict is not None for each in self._said.values())

    @property
    def num_earlier(self) -> int:
        return sum(check == EARLIER for _, _, check, _ in self._said)

    def check_judge(self, judge: Judge) -> None:
        """Return if this judge may go on where the log ends. ConfigError if the log is another's."""
        model = judge.describe()["model"]
        for check in filter(None, (*judge.status_checks, judge.select_check)):
            for logged_check, logged_model, digest in sorted(self._judges):
                self._compare(check, model, judge.prompt_sha256(check), logged_check, logged_model, digest, judge)

    def account(self, judge: Judge) -> dict[str, Any]:
        """Return `judge` and `tokens` as results have them."""
        described = judge.describe()
        tokens = self.tokens.values()
        return {
            "judge": {
                **described,
                "served_model": described["served_model"] or self.served_model or None,
                "earlier_verdicts": self.num_earlier,
            },
            "tokens": {
                "requests": sum(each.requests for each in tokens),
                "prompt": sum(each.prompt for each in tokens),
                "completion": sum(each.completion for each in tokens),
            },
        }

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> VerdictLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _compare(
        self, check: str, model: str, prompt: str, logged_check: str, logged_model: str, digest: str, judge: Judge
    ) -> None:
        known = (*judge.status_checks, judge.select_check)
        if logged_model != model or logged_check not in known:
            other, this = f"the judge {logged_model} ({logged_check})", f"{model} ({check})"
        elif logged_check == check and digest != prompt:
            other, this = f"another prompt of {check} ({digest[:12]})", prompt[:12]
        else:
            return
        raise ConfigError(
            f"{self.path} has verdicts of {other}, not of {this}: two judges in one file have no meaning. Pass "
            "--overwrite to ask anew (the old file is kept beside it), or another --save_path"
        )

    def _write(self, record: Mapping[str, Any]) -> None:
        with output_errors(self.path, _FLAG):
            self._lines.append(record)
        self._take(record)

    def _take(self, record: Mapping[str, Any]) -> None:
        key: Key = (str(record["query_id"]), int(record["repeat"]), str(record["check"]), str(record.get("answer", "")))
        verdict = record["verdict"]
        if record["check"] == EARLIER:
            if verdict is not None:
                self._said.setdefault(key, _Said("", str(verdict)))
            return
        if verdict is not None and verdict not in (CHECKS[key[2]].words if key[2] in CHECKS else SCORES):
            return
        digest = str(record.get("answer_sha256") or "")
        said = self._said[key] = self._of(key, digest) or _Said(digest)
        said.answer_sha256 = said.answer_sha256 or digest
        said.num_replies += 1
        said.verdict = verdict if said.verdict is None else said.verdict
        self._judges.add((key[2], str(record["model"]), str(record["prompt_sha256"])))
        self.served_model = record.get("served_model") or self.served_model
        tokens = record.get("tokens") or {}
        self.tokens[key[0]].add(int(tokens.get("prompt", 0)), int(tokens.get("completion", 0)))

    def _of(self, key: Key, answer_sha256: str) -> _Said | None:
        said = self._said.get(key)
        return (
            said
            if said and (said.answer_sha256 == answer_sha256 or "" in (said.answer_sha256, answer_sha256))
            else None
        )

    def _lock(self) -> None:
        if lock(self._lines.fileno(), self.path, wait=False) == "busy":
            self._lines.close()
            raise OutputError(
                f"{self.path} is in use by another scoring: wait for it, stop it, or pass another {_FLAG}"
            )


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in count(1))
    return next(name for name in names if not name.exists())
