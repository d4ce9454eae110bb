"""Measures what a query of the retrieval evaluation costs the host, part by part. Needs no GPU.

    python -m benchmarks.retrieval_host                        # five beams, and five and ten beside each other
    python -m benchmarks.retrieval_host --codes 3              # tools of three tokens each: beams branch twice more

The engine, the searches and the messages are those of a replica; a step's graph computes nothing, its logits are
random numbers made once, and the vocabulary is small, so that what is left is the host's own work. All of it runs
in one process, where threads take turns: milliseconds are those of the processor, and add up. `parent` is the part
of the process that hands queries out, which in a real run is another one.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from benchmarks.ceilings import describe_machine
from benchmarks.host_step import PretendRecorder, thin_model
from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.kv_cache import PAGE_SIZE
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec
from evaluation.toolbench.inference.replicas.messages import Done, Ended, Failed, RunItem, Stop
from evaluation.toolbench.inference.replicas.replica import ParentLine, Replica, Work, serve
from evaluation.toolbench.retrieval.beam_search import SearchRules
from evaluation.toolbench.retrieval.capacity import GPU_OPTIONS
from evaluation.toolbench.retrieval.job import WIDER, WIDTH
from evaluation.toolbench.retrieval.search import Found, PromptSearch, SearchThread

_VOCAB_SIZE, _NUM_TOOLS, _LAYERS = 1024, 500, 32
_END = _VOCAB_SIZE - _NUM_TOOLS - 1
# Where the time goes: the engine's thread, then the searches. A part that runs within another counts for itself alone.
PARTS = (
    "messages",
    "plan",
    "prepare",
    "copy_pages",
    "forward",
    "draw",
    "note_launch",
    "hand_out",
    "ask",
    "score",
    "advance",
)
_OF_LOOP = {
    "_take_messages": "messages",
    "_launch_next": "plan",
    "_launch": "note_launch",
    "_finish_step": "hand_out",
}
_OF_RUNNER = {"_prepare": "prepare", "_forward": "forward", "_draw": "draw"}
T = TypeVar("T")


class PartTimes:
    """Adds up seconds of the processor by part, for each thread apart from the others."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = threading.local()

    def timed(self, part: str, work: Callable[..., T]) -> Callable[..., T]:
        def wrapper(*args: Any, **options: Any) -> T:
            outer: float = getattr(self._inside, "within", 0.0)  # seconds of parts within the one around this
            self._inside.within = 0.0
            began = time.thread_time()
            try:
                return work(*args, **options)
            finally:
                took = time.thread_time() - began
                self.seconds[part] += took - self._inside.within
                self._inside.within = outer + took

        return wrapper


class Bench:
    """Holds a replica with a pretended device, and a parent that hands it queries as fast as it takes them."""

    def __init__(self, widths: Sequence[int], args: argparse.Namespace) -> None:
        self._widths = tuple(widths)
        self._args = args
        self.times = PartTimes()
        self._trie = _tools(args.codes)
        self._rules = SearchRules(_END)
        self._num_steps: Callable[[], int] = int

    def run(self) -> dict[str, float]:
        """Return milliseconds a query by part, the total, and the steps that a query takes."""
        ours, theirs = Pipe()
        server = threading.Thread(target=serve, args=(ParentLine(theirs), Replica(ReplicaSpec(0)), self._load))
        server.start()
        args = self._args
        items = map(str, itertools.count())
        while not hasattr(_expect(ours), "num_conversations"):
            pass  # beats of the time before
        for _ in range(args.at_once):
            ours.send(RunItem(next(items)))
        self._serve(ours, items, args.num_queries // 4)  # warm
        self.times.seconds.clear()
        steps, process, parent = self._num_steps(), time.process_time(), time.thread_time()
        self._serve(ours, items, args.num_queries)
        process, parent = time.process_time() - process, time.thread_time() - parent
        steps = self._num_steps() - steps
        seconds = dict(self.times.seconds)
        ours.send(Stop())
        while not isinstance(_expect(ours), Ended):
            pass  # what was on its way
        server.join()
        found = {part: seconds.get(part, 0.0) for part in PARTS}
        found |= {"other": process - parent - sum(found.values()), "replica": process - parent, "parent": parent}
        per_query = {name: round(1e3 * value / args.num_queries, 4) for name, value in found.items()}
        return {**per_query, "queries_a_step": round(args.num_queries / steps, 2)}

    def _serve(self, connection: Connection, items: Iterator[str], num_queries: int) -> None:
        while num_queries:
            message = _expect(connection)
            if isinstance(message, Done):
                num_queries -= 1
                connection.send(RunItem(next(items)))

    @contextmanager
    def _load(self) -> Iterator[Work]:
        model = thin_model(torch.device("cpu"), [0], self._args.layers, vocab_size=_VOCAB_SIZE)
        options = {**GPU_OPTIONS, "page_size": self._args.page_size}
        own = PagedEngine(model, num_pages=2**18 // self._args.page_size, overlap=True, **options)
        runner = own._runner
        assert runner is not None
        [stage] = runner.stages
        stage.recorder = PretendRecorder(int(model.config.hidden_size))  # type: ignore[assignment]
        runner._drawer.head._room.normal_()
        self._num_steps = own.num_steps
        replica = Replica(ReplicaSpec(0))
        engine = replica.watch.wrap(own)
        timed = self.times.timed
        of_others = ((runner._cache, {"copy_pages": "copy_pages"}), (engine, {"score_all": "score"}))
        for owner, names in ((own._loop, _OF_LOOP), (runner, _OF_RUNNER), *of_others):
            for name, part in names.items():
                setattr(owner, name, timed(part, getattr(owner, name)))

        searches = SearchThread(engine, replica.stop.is_set)

        def start_item(item_id: str) -> Future[Found]:
            prompt = _prompt(item_id, self._args.prompt_tokens)
            search = PromptSearch(item_id, prompt, self._rules, self._widths, self._trie)
            search.requests = timed("ask", search.requests)  # type: ignore[method-assign]
            search.take = timed("advance", search.take)  # type: ignore[method-assign]
            return searches.start(search)

        gc.collect()
        gc.freeze()  # as a replica's process does
        try:
            yield Work(start_item, self._args.at_once)
        finally:
            searches.close()
            engine.close()
            gc.unfreeze()


def _expect(connection: Connection) -> Any:
    message = connection.recv()
    if isinstance(message, Failed):
        raise SystemExit(f"query {message.item_id} failed: {message.problem.message}\n{message.problem.traceback}")
    return message


def _tools(num_tokens: int) -> TokenTrie:
    """Make tools of `num_tokens` each: one of its own where that is one, else codes of 24 values in each place."""
    first = _VOCAB_SIZE - _NUM_TOOLS
    if num_tokens == 1:
        return TokenTrie([(token,) for token in range(first, _VOCAB_SIZE)], _END)
    rng = random.Random(0)
    return TokenTrie([[first + rng.randrange(24) for _ in range(num_tokens)] for _ in range(_NUM_TOOLS)], _END)


def _prompt(item_id: str, num_tokens: int) -> list[int]:
    rng = random.Random(item_id)
    return rng.choices(range(1, _END), k=num_tokens)


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    torch.set_num_threads(1)
    print(f"{describe_machine(torch.device('cpu'))}; milliseconds of the host for a query, {args.at_once} at once")
    columns = (*PARTS, "other", "replica", "parent", "queries_a_step")
    print(f"{'beams':<10}" + "".join(f"{name:>12}" for name in columns))
    for widths in ((WIDTH,), (WIDTH, WIDER)):
        found = min((Bench(widths, args).run() for _ in range(args.repeats)), key=lambda found: found["replica"])
        beams = " and ".join(map(str, widths))
        print(f"{beams:<10}" + "".join(f"{found[name]:>12.3f}" for name in columns), flush=True)
        print(json.dumps({"widths": widths, "codes": args.codes, **found}), file=sys.stderr)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--num_queries", type=int, default=500, help="that are timed (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of which the best one counts (default: %(default)s)")
    parser.add_argument("--prompt_tokens", type=int, default=100, help="of a query (default: %(default)s)")
    parser.add_argument("--at_once", type=int, default=96, help="queries in the replica (default: %(default)s)")
    parser.add_argument("--codes", type=int, default=1, help="tokens of a tool (default: %(default)s)")
    parser.add_argument("--page_size", type=int, default=PAGE_SIZE, help="tokens of a page (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=_LAYERS, help="of the model (default: %(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
