"""Writes the README.md beside the demo's checkpoint: what it is, how it was made, with what result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model_card(
    config: Mapping[str, Any],
    log: Mapping[str, float],
    results: Mapping[str, Mapping[str, str]],
    *,
    flags: str,
    num_parameters: int,
    minutes: float,
    device_name: str,
) -> str:
    """Write the card. `results` maps prompt layout -> split -> "solved/queries"; `flags` trained the model."""
    command = f"python -m evaluation.toolbench.demo.train {flags}".rstrip()
    rows = "\n".join(
        f"| {layout} | {groups.get('seen', '-')} | {groups.get('held_out', '-')} |"
        for layout, groups in results.items()
    )
    settings = "\n".join(f"| {name} | {value} |" for name, value in config.items())
    return f"""\
# Demo model

A Llama of {num_parameters:,} parameters that works like ToolGen (atomic indexing: one token per API) in the small
world of `evaluation/toolbench/demo`. It knows that world and nothing else.

- Prompts: template `llama-3`, this package's own system prompt, both prompt layouts.
- Tokenizer: byte-level BPE of its own with Llama-3's chat markers.
- Weights: bfloat16.
- Training: `{command}`,
  {int(log["steps"]):,} steps, {log["tokens"] / 1e6:,.0f} million tokens, {minutes:.1f} minutes on one {device_name},
  last loss {log["loss"]:.4f}.

Solved queries, with greedy decoding and the recorded API responses. No wording of a "held out" query can come out of
the patterns that the training questions are made from, and none of its values was asked about in training; the parts
of the values are known ones ("Amber Falls" is held out, "Amber Valley" and "Copper Falls" are not):

| prompt layout | seen | held out |
|---|---|---|
{rows}

| setting | value |
|---|---|
{settings}
"""
