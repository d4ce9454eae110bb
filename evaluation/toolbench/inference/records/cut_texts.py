"""Says when a model does not end what it writes: a fine-tune that never learnt the end of a turn."""

from __future__ import annotations

_FEWEST = 30  # texts, below which a share says little
_MOST = 0.5  # of them that may run to the longest length


def warning_of(num_texts: int, num_cut: int) -> str | None:
    """Return one line with the share where most texts were cut at the longest length; else None.

    Texts are thoughts, free actions and inputs; a constrained action ends by itself and does not count.
    """
    if num_texts < _FEWEST or num_cut <= _MOST * num_texts:
        return None
    return (
        f"{num_cut / num_texts:.0%} of the model's texts ({num_cut:,} of {num_texts:,}) did not end by themselves but "
        "at the longest length (--max_new_tokens): the model does not say its end token. Is --template the one that "
        "it was trained with?"
    )
