"""Finds the best next tokens of each row of logits, the same in every engine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from evaluation.toolbench.inference.engine.request import ScoringResult
from evaluation.toolbench.inference.engine.sampling import penalize


def best_tokens(
    logits: torch.Tensor,
    allowed: torch.Tensor | None,
    num_best: int,
    seen: torch.Tensor | None = None,
    penalty: torch.Tensor | None = None,
) -> torch.Tensor:
    """Find the `num_best` best allowed tokens: (num_rows, 2, k) int64, their ids and their log-probabilities' bits.

    `logits` (num_rows, vocab_size) is read in float32 and normalised over the whole vocabulary; `allowed` is bool of
    the same shape (None: all). `seen` and `penalty` are those of `penalize`, which here comes after the normalisation,
    as in transformers' beam search. k is `num_best` or the vocabulary. Bits, so that both reach the host in one copy.
    """
    values = logits.float().log_softmax(dim=-1)
    if seen is not None and penalty is not None:
        values = penalize(values, seen, penalty)
    if allowed is not None:
        values = values.masked_fill(~allowed, -torch.inf)
    best = values.topk(min(num_best, values.shape[-1]))
    return torch.stack([best.indices, best.values.view(torch.int32).long()], dim=1)


def scoring_result(row: npt.NDArray[np.int64], num_best: int) -> ScoringResult:
    """Read the result of one row (2, k) of `best_tokens` on the host, without what was not allowed."""
    token_ids, bits = row[:, :num_best]
    values = bits.astype(np.int32).view(np.float32)
    count = int(np.isfinite(values).sum())
    return ScoringResult(tuple(token_ids[:count].tolist()), tuple(values[:count].tolist()))
