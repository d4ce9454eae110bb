"""Finds the judge's prompts in the user's checkout, or stands in with our own wording.

ToolEval's prompts are blocks of `evaluators/<name>/template.txt`; they belong to ToolBench, StableToolBench and
ToolGen, and not to this package. A folder that the user names by `--evaluator` is taken as it is; else a block
is recognised by its SHA-256 wherever a checkout has it. StableToolBench's FAC prompt is a constant of a Python
file there, recognised the same way. No file is executed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.toolbench.checkout import find_texts
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.tooleval.judge.checks import CHECK_ANSWER, PARSE_ANSWER, SELECT_BETTER

DEFAULT_EVALUATOR = "tooleval_gpt-3.5-turbo_default"
FAC_CHECK = "fac"

# Of the published prompts: the text between <description> and </description>, its line breaks included.
PUBLISHED = {
    CHECK_ANSWER: "f9fc6101cddac3a95ca0f1bd60c67d5dbea34e33d5d2cd3eb1d69fa6bc92d2d8",
    PARSE_ANSWER: "4355f0f09f797d5578b2273e2b5b0c04116ccb162b24734184d20e6966b765eb",
    SELECT_BETTER: "2287346a3831f3751a77dc6b927dc72ebe3d6ba2ece04633abcb6e72a40498ce",
    FAC_CHECK: "974e0df4d55babd3a59c5c80575f3e37ca88f9e3afd7a92c72dde7c12e02fc92",
}

_EVALUATOR_FOLDERS = ("evaluation/toolbench/tooleval/evaluators", "toolbench/tooleval/evaluators", "evaluators", "")
_BLOCK = re.compile(r"<function>\s*<name>(.*?)</name>\s*<description>(.*?)</description>", re.DOTALL)


@dataclass(frozen=True)
class JudgePrompts:
    """Holds texts with slots such as `{query}` by check. `own` names those that are this package's wording.

    `descriptions` are of functions and arguments, by name; `model` is the evaluator's, if it names one.
    """

    texts: Mapping[str, str]
    own: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # of the user's evaluator, and not the published ones
    descriptions: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None

    def sha256(self, check: str) -> str:
        return text_sha256(self.texts[check])

    def digests(self) -> dict[str, str]:
        """Return check -> SHA-256 of its prompt, for results."""
        return {check: self.sha256(check) for check in self.texts}

    @property
    def note(self) -> str:
        """Return one line for people where prompts are not the published ones, else ""."""
        if self.own:
            return (
                f"the judge's prompts for {', '.join(self.own)} are our own wording: no ToolBench checkout was found "
                "that has them (--judge_prompts names one), so scores are not comparable with published ones"
            )
        if self.changed:
            return f"the evaluator's prompts for {', '.join(self.changed)} differ from the published ones"
        return ""


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def load_tooleval_prompts(evaluator: str, checkouts: Sequence[Path]) -> JudgePrompts:
    """Return the prompts of that evaluator. ConfigError for one other than the default that no checkout has."""
    wanted = (CHECK_ANSWER, PARSE_ANSWER, SELECT_BETTER)
    folder = next((each for each in _evaluators(checkouts) if each.name == evaluator), None)
    if folder is None and evaluator != DEFAULT_EVALUATOR:
        known = sorted({each.name for each in _evaluators(checkouts)} | {DEFAULT_EVALUATOR, "fac", "demo"})
        raise ConfigError(f"unknown --evaluator {evaluator!r}: use {', '.join(known)}")
    found = _blocks(folder) if folder else {}
    for each in _evaluators(checkouts):
        for name, text in _blocks(each).items():
            if text_sha256(text) == PUBLISHED.get(name):
                found.setdefault(name, text)
    config = _config(folder) if folder else {}
    return JudgePrompts(
        texts={name: found.get(name, OWN_PROMPTS[name]) for name in wanted},
        own=tuple(name for name in wanted if name not in found),
        changed=tuple(name for name in wanted if name in found and text_sha256(found[name]) != PUBLISHED[name]),
        descriptions=_descriptions(config),
        model=str(config["model"]) if config.get("model") else None,
    )


def load_fac_prompt(checkouts: Sequence[Path]) -> JudgePrompts:
    """Return the prompt of StableToolBench's FAC evaluator."""
    digest = PUBLISHED[FAC_CHECK][:16]
    for checkout in checkouts:
        text = find_texts(checkout, {digest}).get(digest)
        if text is not None and text_sha256(text) == PUBLISHED[FAC_CHECK]:
            return JudgePrompts({FAC_CHECK: text})
    return JudgePrompts({FAC_CHECK: OWN_PROMPTS[FAC_CHECK]}, own=(FAC_CHECK,))


def _evaluators(checkouts: Sequence[Path]) -> Iterator[Path]:
    """Yield folders with a template, in the checkouts or (where a user names that very folder) above one."""
    for checkout in checkouts:
        for place in _EVALUATOR_FOLDERS:
            yield from (path.parent for path in sorted((checkout / place).glob("*/template.txt")))
        if (checkout / "template.txt").is_file():
            yield checkout


def _blocks(folder: Path) -> dict[str, str]:
    """Return name -> text of the template's blocks; those whose slots are not the known ones are left out."""
    try:
        template = (folder / "template.txt").read_text(encoding="utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the evaluator's prompts in {folder / 'template.txt'}: {error}") from error
    blocks = {name.strip(): text for name, text in _BLOCK.findall(template)}
    return {name: text for name, text in blocks.items() if name in OWN_PROMPTS and _takes_values(name, text)}


def _takes_values(name: str, text: str) -> bool:
    values = dict.fromkeys(re.findall(r"{(\w+)}", OWN_PROMPTS[name]), "")
    try:
        text.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError):
        return False
    return True


def _config(folder: Path) -> dict[str, Any]:
    """Return `completions_kwargs` of the evaluator's config.yaml; empty for a file that is absent or something else."""
    import yaml

    try:
        record = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        return dict(record["completions_kwargs"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return {}


def _descriptions(config: Mapping[str, Any]) -> dict[str, str]:
    descriptions: dict[str, str] = {}
    for function in config.get("functions") or ():
        try:
            properties = function["parameters"]["properties"]
            descriptions[function["name"]] = str(function["description"])
            descriptions |= {key: str(each["description"]) for key, each in properties.items() if "description" in each}
        except (KeyError, TypeError, AttributeError):
            continue
    return descriptions


OWN_PROMPTS = {
    CHECK_ANSWER: """
You decide whether an answer solves a user's request. Judge by the answer alone.
- Unsolved: it apologises, evades, or leaves out what was asked for.
- Solved: it gives everything that was asked for, directly.
- Unsure: it is a direct reply, and only the steps behind it could show whether it is true or complete.

Request:
{query}

Answer:
{answer}

Give `answer_status`, and why.
""",
    PARSE_ANSWER: """
You decide whether an answer solves a user's request, with all the tool calls that led to it in view (JSON; `tool` \
nodes have the calls and what they returned).
- Unsolved: every call failed, or the final answer says something that the calls' results contradict.
- Solved: calls that succeeded returned what was asked for, and the final answer passes it on.
- Unsure: the results neither confirm nor contradict the final answer.

Request:
{query}

Answer and steps:
{answer}

Give `answer_status`, and why.
""",
    SELECT_BETTER: """
Two answers to the same request follow, each with its tool calls (JSON). Choose the better one.
Look at the final answers first: which is more complete, more faithful to what the calls returned and, where \
something could not be done, clearer about why? Only if they are equal in that, look at the calls: fewer failed and \
repeated ones, fewer steps, more of the request's parts done. The order in which the answers are shown means nothing.

Request:
{query}

Answer 0:
{answer_0}

Answer 1:
{answer_1}

Give `index`, 0 or 1, and why.
""",
    FAC_CHECK: """
You decide whether an answer solves a user's request. The answer is given as the arguments of the call that ended \
the work.
It is Solved if it deals with every part of the request and gives what was asked for; small gaps do not matter. It \
is Unsolved if it gives nothing usable, gives up, or leaves out a part of the request.

Request:
{query}

Answer:
{answer}

Reply in this form and no other:
Answer Status
Solved or Unsolved
Reason
why
""",
}
