"""Makes the training set: rendered samples as batches of arrays, made by worker processes while the GPU trains.

A chunk depends on the seed and its number alone, so the batches are the same for any number of workers.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from evaluation.toolbench.demo.conversations import Renderer, Row
from evaluation.toolbench.demo.samples import training_sample
from evaluation.toolbench.inference.toolgen.catalog import ToolCatalog, load_catalog
from evaluation.toolbench.inference.toolgen.prompts import LAYOUTS, PromptTexts

_CHUNK_BATCHES = 16  # batches that are sorted by length together
_WIDTH_STEP = 64  # of batches: GPU libraries choose their kernels anew for every shape, so there are few shapes
_TRAINED_SHARE = 0.5  # of the rows
_WHOLE_SHARE = 0.5  # of the rows of a layout that words a step in progress differently: they end with the last step


@dataclass(frozen=True)
class Batch:
    """Holds rows padded on the right; both arrays are (rows, longest row or a little more)."""

    ids: npt.NDArray[np.int16]
    written: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Corpus:
    """Says where a worker finds its tokenizer and catalog, and how much it makes."""

    data_dir: Path
    tokenizer_dir: Path
    seed: int
    batch_size: int

    def batches(self, num_batches: int, num_workers: int) -> Generator[Batch, None, None]:
        """Return the first `num_batches` batches, made by `num_workers` processes."""
        context = multiprocessing.get_context("spawn")
        numbers = iter(range(-(-num_batches // _CHUNK_BATCHES)))
        with context.Pool(num_workers, initializer=_start_worker, initargs=(self,)) as pool:
            ahead = deque(pool.apply_async(_make_chunk, (number,)) for number in islice(numbers, 2 * num_workers))
            left = num_batches
            while ahead:
                chunk = ahead.popleft().get()
                # One more only now: workers that run far ahead fill the memory and keep the trainer's process busy.
                ahead.extend(pool.apply_async(_make_chunk, (number,)) for number in islice(numbers, 1))
                yield from chunk[:left]
                left -= len(chunk[:left])

    def chunk(self, renderer: Renderer, number: int) -> list[Batch]:
        """Return the batches with the numbers from `number * 16` on."""
        rng = Random(f"{self.seed} chunk {number}")
        size = self.batch_size
        rows = [sample_row(renderer, rng) for _ in range(_CHUNK_BATCHES * size)]
        rows.sort(key=lambda row: len(row.ids))
        batches = [pad_rows(rows[start : start + size]) for start in range(0, len(rows), size)]
        rng.shuffle(batches)
        return batches


def demo_catalog(data_dir: Path) -> ToolCatalog:
    """Return the demo's catalog with the package's own text for Finish."""
    return load_catalog(data_dir, "Atomic", PromptTexts().finish_description)


def sample_row(renderer: Renderer, rng: Random) -> Row:
    """Return a fresh sample in one of the layouts, up to its end; of the upstream layout often up to an earlier
    step.
    """
    sample = training_sample(rng)
    layout = LAYOUTS["trained" if rng.random() < _TRAINED_SHARE else "upstream"]
    step = len(sample.turns) - 1
    if layout.name == "upstream" and rng.random() >= _WHOLE_SHARE:
        step = rng.randrange(len(sample.turns))
    return renderer.row(sample, layout, step)


_corpus: Corpus
_renderer: Renderer


def _start_worker(corpus: Corpus) -> None:
    from transformers import AutoTokenizer

    global _corpus, _renderer
    _corpus = corpus
    _renderer = Renderer.of(demo_catalog(corpus.data_dir), AutoTokenizer.from_pretrained(corpus.tokenizer_dir))


def _make_chunk(number: int) -> list[Batch]:
    return _corpus.chunk(_renderer, number)


def pad_rows(rows: list[Row]) -> Batch:
    """Pad rows on the right. Any id will do: no token sees what comes after it, and nothing is to be written there."""
    longest = max(len(row.ids) for row in rows)
    shape = (len(rows), -(-longest // _WIDTH_STEP) * _WIDTH_STEP)
    batch = Batch(np.zeros(shape, np.int16), np.zeros(shape, np.bool_))
    for index, row in enumerate(rows):
        batch.ids[index, : len(row.ids)] = row.ids
        batch.written[index, : len(row.ids)] = row.written
    return batch
