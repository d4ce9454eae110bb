"""Puts many questions to a judge, says now and then how far it is, and ends well whatever stops it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from evaluation.toolbench.inference.command_line import say
from evaluation.toolbench.inference.errors import JudgeError
from evaluation.toolbench.tooleval.command import StoppedEarly
from evaluation.toolbench.tooleval.in_flight import for_each
from evaluation.toolbench.tooleval.judge.examiner import Examiner

_HEARTBEAT_S = 30.0

T = TypeVar("T")


@dataclass(frozen=True)
class Asking:
    """Says how questions are asked: how many at once, until when."""

    num_at_once: int
    stop: threading.Event

    async def for_each(
        self, items: Iterable[T], do: Callable[[T], Awaitable[None]], *, total: int, name: str, examiner: Examiner
    ) -> None:
        """Call `do` for every item.

        StoppedEarly where the user or the judge ends it, JudgeError before there is any verdict, OutputError.
        """
        num_done = 0

        async def do_and_count(item: T) -> None:
            nonlocal num_done
            await do(item)
            num_done += 1

        async def tell() -> None:
            while True:
                await asyncio.sleep(_HEARTBEAT_S)
                say(f"{name}: {num_done} of {total} verdicts")

        heartbeat = asyncio.create_task(tell())
        try:
            await for_each(items, do_and_count, num_at_once=min(self.num_at_once, max(total, 1)), stop=self.stop)
        except JudgeError as error:
            if not examiner.log.num_verdicts:
                raise  # it never began
            raise StoppedEarly(str(error), examiner.log.num_verdicts) from error
        finally:
            heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await heartbeat
        if self.stop.is_set() and num_done < total:
            raise StoppedEarly("Stopped", examiner.log.num_verdicts)
