"""Extends the vocabulary of a base model by tool tokens, so that it is ready to be trained.

A new token's row is the mean of the rows of the tokens that spell its name, in the embedding and in the head: close
to what it means, and of the size that the model is used to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evaluation.toolbench.inference.errors import DataError, PlacementError
from evaluation.toolbench.inference.host_memory import available_bytes
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_checkpoint
from evaluation.toolbench.inference.multi_gpu.loading import load_with
from evaluation.toolbench.inference.multi_gpu.units import gib
from evaluation.toolbench.inference.records.answers import output_errors
from evaluation.toolbench.inference.toolgen.agent_parts import load_tokenizer
from evaluation.toolbench.toolset.tools import ToolToken

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def extended_checkpoint(base_model: str, tokens: Sequence[ToolToken], out: Path) -> int:
    """Write the base model with the tokens, and its tokenizer, to `out`; return how many of them are new to it.

    It is loaded in main memory, in the dtype that it is stored in. PlacementError where that has no room for it,
    DataError for a base model that cannot be used, OutputError.
    """
    footprint = footprint_of_checkpoint(base_model, dtype=None)
    if footprint.weight_bytes > available_bytes():
        raise PlacementError(
            f"{base_model} has {gib(footprint.weight_bytes)} of weights, and {gib(available_bytes())} of main memory "
            "are free: the checkpoint is made there, so take a machine with more"
        )
    tokenizer = load_tokenizer(base_model)
    dtype = getattr(torch, footprint.dtype)
    model = load_with(base_model, {"device_map": {"": "cpu"}}, dtype=dtype)
    del model.hf_device_map  # saving takes a model with one for a model that is partly elsewhere
    num_new = add_tokens(model, tokenizer, tokens)
    with output_errors(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    return num_new


@torch.no_grad()
def add_tokens(model: PreTrainedModel, tokenizer: Any, tokens: Sequence[ToolToken]) -> int:
    """Add those of the tokens that the tokenizer does not have, with rows made of their names; return how many.

    DataError where a name is spelt with no token at all.
    """
    known = tokenizer.get_vocab()
    new = [token for token in tokens if token.text not in known]
    spellings = [tokenizer(token.name, add_special_tokens=False)["input_ids"] for token in new]
    for token, spelling in zip(new, spellings, strict=True):
        if not spelling:
            raise DataError(f"the tokenizer has no token for the name {token.name!r}")
    tokenizer.add_tokens([token.text for token in new], special_tokens=False)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:  # some models have rows to spare
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids([token.text for token in new])
    for end in (model.get_input_embeddings(), model.get_output_embeddings()):
        if end is None:
            continue
        weight = end.weight
        means = [weight[spelling].float().mean(0).to(weight.dtype) for spelling in spellings]
        for token_id, mean in zip(ids, means, strict=True):
            weight[token_id] = mean
    return len(new)
