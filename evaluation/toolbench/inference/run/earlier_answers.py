"""What the answers that lie in a folder were made with: those of two experiments are not to be mixed unawares."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.answers import AnswerFolder
from evaluation.toolbench.inference.records.run_record import RunRecord, read_run_record

logger = logging.getLogger(__name__)

_SHOWN_IDS = 5
_CHECKPOINT, _PLACE = "checkpoint", "model_path"


@dataclass(frozen=True)
class EarlierAnswers:
    """How what made the answers that stay in a folder differs from this run's settings, as "<name>: <old> -> <new>"."""

    differences: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()  # differences among those answers themselves, which were allowed


def earlier_answers(
    answers: AnswerFolder, settings: Mapping[str, Any], *, replaced: Collection[str] = ()
) -> EarlierAnswers:
    """Compare `settings` with those of the answers in the folder, without the ones to the queries `replaced`.

    A folder that does not tell, of an earlier version or of ToolGen's own package, has no known differences.
    """
    record = _record_in(answers)
    method = _method_of(record) or answers.method
    kept = AnswerFolder(answers.folder, method).query_ids()
    if method == answers.method:
        kept -= set(replaced)
    if not kept:
        return EarlierAnswers()
    if record is None or not record.settings:
        logger.warning(
            "%s has %d answers without a record of their settings, as earlier versions left them: this run goes on "
            "beside them",
            answers.folder,
            len(kept),
        )
        return EarlierAnswers()
    return EarlierAnswers(tuple(differences(record.settings, settings)), tuple(record.mixed_settings))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return "<name>: <old> -> <new>" for what both tell and tell differently; None tells nothing.

    A checkpoint that is the same may lie in another place.

    >>> before = {"seed": 1, "model_path": "a", "checkpoint": "1f"}
    >>> differences(before, {"seed": 2, "model_path": "b", "checkpoint": "1f"})
    ['seed: 1 -> 2']
    """
    told = [name for name in new if old.get(name) is not None and new[name] is not None]
    knows_checkpoint = _CHECKPOINT in told
    return [
        f"{name}: {_words(name, old)} -> {_words(name, new)}"
        for name in told
        if old[name] != new[name] and not (name == _PLACE and knows_checkpoint)
    ]


def in_words(query_ids: Sequence[str]) -> list[str]:
    """Say that these queries were answered with another text than they have now; nothing for none."""
    if not query_ids:
        return []
    shown = sorted(query_ids, key=lambda query_id: (len(query_id), query_id))[:_SHOWN_IDS]
    more = f" and {len(query_ids) - _SHOWN_IDS} more" if len(query_ids) > _SHOWN_IDS else ""
    return [f"texts of the queries {', '.join(shown)}{more}"]


def _record_in(answers: AnswerFolder) -> RunRecord | None:
    try:
        return read_run_record(answers.folder)
    except DataError as error:
        logger.warning("%s", error)
        return None


def _method_of(record: RunRecord | None) -> str | None:
    told = {**record.configuration, **record.settings}.get("method") if record else None
    return told if isinstance(told, str) else None


def _words(name: str, settings: Mapping[str, Any]) -> str:
    return f"{settings.get(_PLACE)} ({settings[name]})" if name == _CHECKPOINT else str(settings[name])
