"""Many queries at once: each fails alone, and the run stops between steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

from evaluation.toolbench.inference.Algorithms.events import StopRequested
from evaluation.toolbench.inference.errors import ApiError, OutputError

Task = TypeVar("Task")

# What one query meets every other one will meet too.
_ENDS_THE_RUN = (OutputError, ApiError)


def run_queries(
    tasks: Sequence[Task], run_one: Callable[[int, Task], None], *, num_threads: int, stop: threading.Event
) -> Iterator[tuple[Task, Exception | None]]:
    """Call `run_one(position, task)` for all tasks, begun in order; each task as it ends, with its error if it failed.

    Once `stop` is set no task is begun, and those that end in StopRequested are not reported. An error that
    every query would meet (OutputError, ApiError) sets `stop`, waits for the running tasks, and is raised.
    """

    def run(position: int, task: Task) -> None:
        if stop.is_set():
            raise StopRequested
        try:
            run_one(position, task)
        except _ENDS_THE_RUN:
            stop.set()
            raise

    with ThreadPoolExecutor(num_threads, thread_name_prefix="query") as pool:
        futures: dict[Future[None], Task] = {
            pool.submit(run, position, task): task for position, task in enumerate(tasks)
        }
        try:
            for future in as_completed(futures):
                try:
                    future.result()
                except StopRequested:
                    continue
                except _ENDS_THE_RUN:
                    raise
                except Exception as error:  # this query's own; the others go on
                    yield futures[future], error
                else:
                    yield futures[future], None
        finally:
            if not all(future.done() for future in futures):
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
