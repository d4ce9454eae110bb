"""Tells what a folder's answers were made with: those of two experiments are not to be mixed unawares."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.records.answers import AnswerFolder
from evaluation.toolbench.inference.records.run_record import RunRecord, read_run_record

logger = logging.getLogger(__name__)

_SHOWN_IDS = 5
_CHECKPOINT, _PLACE, _METHOD = "checkpoint", "model_path", "method"


@dataclass(frozen=True)
class EarlierAnswers:
    """Says how the settings behind a folder's answers differ from this run's, as "<name>: <old> -> <new>"."""

    differences: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()  # differences among those answers themselves, which were allowed


def earlier_answers(folder: Path, settings: Mapping[str, Any], *, replaced: Collection[str] = ()) -> EarlierAnswers:
    """Compare `settings` with those of the answers in the folder, without the ones to the queries `replaced`.

    A folder that does not tell, of an earlier version or of ToolGen's own package, has no known differences.
    """
    record, now = _record_in(folder), _methods(settings)
    kept = {
        (query_id, method)
        for method in _methods({**record.configuration, **record.settings} if record else {}) or now
        for query_id in AnswerFolder(folder, method).query_ids() - (set(replaced) if method in now else set())
    }
    if not kept:
        return EarlierAnswers()
    if record is None or not record.settings:
        logger.warning(
            "%s has %d answers without a record of their settings, as earlier versions left them: this run goes on "
            "beside them",
            folder,
            len(kept),
        )
        return EarlierAnswers()
    return EarlierAnswers(tuple(differences(record.settings, settings)), tuple(record.mixed_settings))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return "<name>: <old> -> <new>" for what both tell and tell differently; None tells nothing.

    A checkpoint that is the same may lie in another place, and one of several methods may go on by itself.

    >>> before = {"seed": 1, "model_path": "a", "checkpoint": "1f"}
    >>> differences(before, {"seed": 2, "model_path": "b", "checkpoint": "1f"})
    ['seed: 1 -> 2']
    >>> differences({"method": ["CoT@1", "CoT@3"]}, {"method": "CoT@3"}), differences({"method": "a"}, {"method": "b"})
    ([], ['method: a -> b'])
    """
    told = [name for name in new if old.get(name) is not None and new[name] is not None]
    knows_checkpoint = _CHECKPOINT in told
    return [
        f"{name}: {_words(name, old)} -> {_words(name, new)}"
        for name in told
        if not _agree(name, old, new) and not (name == _PLACE and knows_checkpoint)
    ]


def in_words(query_ids: Sequence[str]) -> list[str]:
    """Say that these queries were answered with another text than they have now; nothing without any."""
    if not query_ids:
        return []
    shown = sorted(query_ids, key=lambda query_id: (len(query_id), query_id))[:_SHOWN_IDS]
    more = f" and {len(query_ids) - _SHOWN_IDS} more" if len(query_ids) > _SHOWN_IDS else ""
    return [f"texts of the queries {', '.join(shown)}{more}"]


def _agree(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if name != _METHOD:
        return bool(old[name] == new[name])
    before, now = _methods(old), _methods(new)
    return before <= now or now <= before


def _record_in(folder: Path) -> RunRecord | None:
    try:
        return read_run_record(folder)
    except DataError as error:
        logger.warning("%s", error)
        return None


def _methods(settings: Mapping[str, Any]) -> set[str]:
    """Return the methods of a folder's answers, which are told apart by their files' names."""
    told = settings.get(_METHOD)
    return {told} if isinstance(told, str) else set(map(str, told or ()))


def _words(name: str, settings: Mapping[str, Any]) -> str:
    return f"{settings.get(_PLACE)} ({settings[name]})" if name == _CHECKPOINT else str(settings[name])
