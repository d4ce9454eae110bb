"""Finds the best next tokens of each row of logits, the same in every engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad

from evaluation.toolbench.inference.engine.request import ScoringResult
from evaluation.toolbench.inference.engine.sampling import penalize


def best_tokens(
    logits: torch.Tensor,
    ids: torch.Tensor | None,
    num_best: int,
    seen: torch.Tensor | None = None,
    penalty: torch.Tensor | None = None,
) -> torch.Tensor:
    """Find the `num_best` best allowed tokens: (num_rows, 2, num_best) int64, ids and bits of their log-probabilities.

    `logits` (num_rows, vocab_size) is read in float32 and normalised over the whole vocabulary. `ids` are those
    allowed, see `device_constraint.allowed_ids`: no others are looked at. `seen` and `penalty` are those of `penalize`,
    which here comes after the normalisation, as in transformers' beam search. Where fewer are allowed, the rest is
    -inf. Bits, so that both reach the host in one copy.
    """
    values = logits.float().log_softmax(dim=-1)
    if ids is not None:
        values = _columns(values, ids, -torch.inf)
        seen = None if seen is None else _columns(seen, ids, False)
    if seen is not None and penalty is not None:
        values = penalize(values, seen, penalty)
    count = min(num_best, values.shape[-1])
    best = values.topk(count)
    tokens = best.indices
    if ids is not None:
        tokens = ids[tokens] if ids.dim() == 1 else ids.gather(1, tokens)
    missing = (0, num_best - count)
    bits = pad(best.values, missing, value=-torch.inf).view(torch.int32).long()
    return torch.stack([pad(tokens, missing), bits], dim=1)


def scoring_results(scores: npt.NDArray[np.int64], wanted: Sequence[int]) -> list[ScoringResult]:
    """Read the results of `best_tokens` (num_rows, 2, n) on the host: `wanted` of each row, or what was allowed."""
    values = scores[:, 1].astype(np.int32).view(np.float32)
    counts = np.minimum(np.isfinite(values).sum(axis=1), wanted).tolist()
    rows = zip(scores[:, 0].tolist(), values.tolist(), counts, strict=True)
    return [ScoringResult(tuple(ids[:count]), tuple(found[:count])) for ids, found, count in rows]


def _columns(values: torch.Tensor, ids: torch.Tensor, filling: float) -> torch.Tensor:
    """Return (num_rows, n) of `values` (num_rows, vocab_size): those of `ids`, `filling` for those beyond it."""
    if ids.dim() == 1:
        return values.index_select(1, ids)
    vocab_size = values.shape[-1]
    return values.gather(1, ids.clamp(max=vocab_size - 1)).masked_fill_(ids >= vocab_size, filling)
