"""Tells how far answers in other number formats are from those in the checkpoint's own.

    python -m benchmarks.fidelity --demo                     # the demo's trained model, on the CPU: its score as well
    python -m benchmarks.fidelity --shape 8b                 # the 8B shape on a GPU, with structured random weights
    python -m benchmarks.fidelity --formats int8,fp8,fp8+fp8 # weights, or weights+KV cache; auto+fp8: the cache alone

Each format is held against the plain model: equal tokens of greedy generations (each token until the two texts part,
and of all tokens at the same places), the first token among the tool tokens after many prompts, and the divergence
of the next token's distribution in nats, KL(plain || format), at every token of the plain model's generations. The
formats of the KV cache have no such distribution here: an engine tells tokens only. JSON comes last.

Random weights are made as trained ones are, not white: rows and columns of log-normal sizes, some columns ten times as
large (outlier features), a part of low rank, and an output embedding with which the likeliest of the tokens stands out.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
import torch._dynamo as dynamo
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel

from benchmarks.random_model import SHAPES, TOOL_TOKENS, make_model
from evaluation.toolbench.demo import DATA_DIR, MODEL_DIR
from evaluation.toolbench.demo.conversations import Renderer
from evaluation.toolbench.demo.corpus import demo_catalog
from evaluation.toolbench.demo.rollout import roll_out
from evaluation.toolbench.demo.samples import as_sample, demo_queries
from evaluation.toolbench.demo.score import load_expected
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO
from evaluation.toolbench.inference.multi_gpu.loading import load_model
from evaluation.toolbench.inference.multi_gpu.quantized_loading import quantize
from evaluation.toolbench.inference.multi_gpu.tables import align
from evaluation.toolbench.inference.multi_gpu.units import GIB
from evaluation.toolbench.inference.toolgen.prompts import LAYOUTS

_NEW_TOKENS = 64
_KV_BYTES = 8 * GIB  # for the engines, beside two models on one card
_OUTLIERS = 0.002  # of the columns
_OUTLIER_SIZE = 10.0


@dataclass(frozen=True)
class Prompts:
    """Holds prompts for texts and for actions, with the token ids that an action may have."""

    texts: Sequence[Sequence[int]]
    actions: Sequence[Sequence[int]]
    tool_ids: Sequence[int]


@dataclass(frozen=True)
class Outcome:
    """Holds what a model in one format says to the prompts."""

    texts: list[tuple[int, ...]]
    actions: list[int]


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    plain = load_model(str(MODEL_DIR), device=args.device) if args.demo else _structured_model(args)
    prompts = _demo_prompts(args) if args.demo else _random_prompts(args, plain.config)
    expected = _outcome(plain, prompts, AUTO)
    results = {"auto": _demo_score(plain) if args.demo else {}}
    for name in args.formats:
        print(f"{name} ...", file=sys.stderr, flush=True)
        weights, _, kv_cache = name.partition("+")
        model = plain if weights == AUTO else _quantized(plain, weights)
        results[name] = _compared(expected, _outcome(model, prompts, kv_cache or AUTO))
        if not kv_cache:
            results[name] |= _divergence(plain, model, prompts.texts, expected.texts)
            results[name] |= _demo_score(model) if args.demo else {}
        del model
    print("\n".join(_table(results)))
    facts = {"benchmark": "fidelity", "model": "demo" if args.demo else args.shape, "device": args.device}
    sizes = {"texts": len(prompts.texts), "new_tokens": _NEW_TOKENS, "actions": len(prompts.actions)}
    print(json.dumps({**facts, **sizes, "formats": results}))
    return 0


def _quantized(plain: PreTrainedModel, weights: str) -> PreTrainedModel:
    dtype = plain.dtype
    return quantize(copy.deepcopy(plain), weights, footprint_of_config(plain.config, dtype, weights=weights))


def _outcome(model: PreTrainedModel, prompts: Prompts, kv_cache: str) -> Outcome:
    allowed = TokenSet(prompts.tool_ids)
    dynamo.reset()  # each model is compiled anew: their layers are the same code, which is compiled a few times only
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.closing(PagedEngine(model, kv_cache=kv_cache, max_kv_bytes=_KV_BYTES)) as engine:
        texts = [engine.submit(GenerationRequest(ids, _NEW_TOKENS, TokenSet([]))) for ids in prompts.texts]
        actions = [engine.submit(GenerationRequest(ids, 1, allowed)) for ids in prompts.actions]
        return Outcome(
            [future.result().token_ids for future in texts], [future.result().token_ids[0] for future in actions]
        )


def _compared(expected: Outcome, found: Outcome) -> dict[str, float]:
    pairs = [list(zip(one, other, strict=False)) for one, other in zip(expected.texts, found.texts, strict=True)]
    total = sum(map(len, expected.texts))
    equal = sum(a == b for pair in pairs for a, b in pair)
    until_parted = sum(len(list(takewhile(lambda both: both[0] == both[1], pair))) for pair in pairs)
    same_actions = sum(a == b for a, b in zip(expected.actions, found.actions, strict=True))
    return {
        "equal_tokens": equal / total,
        "until_parted": until_parted / total,
        "same_texts": sum(one == other for one, other in zip(expected.texts, found.texts, strict=True)) / len(pairs),
        "same_actions": same_actions / len(expected.actions),
    }


@torch.inference_mode()
def _divergence(
    plain: PreTrainedModel,
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
) -> dict[str, float]:
    """Compare the distributions of the next token at every place of the plain model's texts."""
    kls, agreeing = [], []
    for prompt, text in zip(prompts, texts, strict=True):
        ids = torch.tensor([[*prompt, *text]], device=plain.device)
        kept = len(text) + 1
        first, second = (
            each(ids, logits_to_keep=kept).logits[0, :-1].float().log_softmax(dim=-1) for each in (plain, model)
        )
        kls.append((first.exp() * (first - second)).sum(dim=-1).cpu())
        agreeing.append((first.argmax(dim=-1) == second.argmax(dim=-1)).cpu())
    kl = torch.cat(kls)
    return {
        "kl_mean": float(kl.mean()),
        "kl_99_percent": float(kl.quantile(0.99)),
        "same_next_token": float(torch.cat(agreeing).float().mean()),
    }


def _demo_score(model: PreTrainedModel) -> dict[str, float]:
    renderer = _renderer()
    queries = [query for query in demo_queries() if query.split == "held_out"]
    verdicts = roll_out(model, renderer, queries, load_expected(DATA_DIR), LAYOUTS["upstream"])
    return {"held_out_solved": sum(verdict.solved for verdict in verdicts), "held_out": len(verdicts)}


def _renderer() -> Renderer:
    return Renderer.of(demo_catalog(DATA_DIR), AutoTokenizer.from_pretrained(MODEL_DIR))


def _demo_prompts(args: argparse.Namespace) -> Prompts:
    """Take prompts from right trajectories: before each thought a text's, before each action an action's."""
    renderer = _renderer()
    texts, actions = [], []
    for query in demo_queries():
        sample = as_sample(query.trajectory)
        for layout in LAYOUTS.values():
            for step, turn in enumerate(sample.turns):
                conversation = renderer.history(sample.question, sample.turns[:step], layout)
                texts.append(renderer.prompt(conversation))
                conversation.append_message(conversation.format.assistant, turn.thought)
                renderer.ask_for_action(conversation, layout)
                actions.append(renderer.prompt(conversation))
    rng = random.Random(args.seed)
    vocabulary = renderer.encoder.vocabulary()
    tool_ids = sorted(vocabulary[token] for token in vocabulary if token.startswith("<<") and token.endswith(">>"))
    rng.shuffle(texts)
    rng.shuffle(actions)
    return Prompts(texts[: args.texts], actions[: args.actions], tool_ids)


def _random_prompts(args: argparse.Namespace, config: Any) -> Prompts:
    rng = random.Random(args.seed)

    def draw(count: int, length: int) -> list[list[int]]:
        return [[rng.randrange(config.vocab_size - TOOL_TOKENS) for _ in range(length)] for _ in range(count)]

    tools = range(config.vocab_size - TOOL_TOKENS, config.vocab_size)
    return Prompts(draw(args.texts, 128), draw(args.actions, 96), tools)


@torch.no_grad()
def _structured_model(args: argparse.Namespace) -> PreTrainedModel:
    device = torch.device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = make_model(SHAPES[args.shape](), device, dtype, seed=args.seed)
    for name, layer in model.named_modules():
        if type(layer) is nn.Linear and ".layers." in f".{name}":
            _structure(layer.weight)
    # Final hidden states have a size of one: logits then have one of four, and the likeliest token stands out.
    model.get_output_embeddings().weight.normal_(std=4 / model.config.hidden_size**0.5)
    model.get_input_embeddings().weight.normal_(std=1.0)
    return model


def _structure(weight: torch.Tensor) -> None:
    """Give (N, K) rows and columns of unequal sizes, outlier columns and a part of low rank, at a size of 1/sqrt(K)."""
    rows, columns = weight.shape
    made = {"device": weight.device, "dtype": torch.float32}
    rank = max(1, min(rows, columns) // 64)
    values = torch.randn(rows, columns, **made)
    values += torch.randn(rows, rank, **made) @ torch.randn(rank, columns, **made) / rank**0.5
    values *= torch.randn(rows, 1, **made).mul_(0.5).exp_() * torch.randn(1, columns, **made).mul_(0.5).exp_()
    values[:, torch.rand(columns, device=weight.device) < _OUTLIERS] *= _OUTLIER_SIZE
    weight.copy_(values / (values.square().mean().sqrt() * columns**0.5))


def _table(results: dict[str, dict[str, float]]) -> list[str]:
    names = list(dict.fromkeys(name for result in results.values() for name in result))
    rows = [
        [label, *(f"{result[name]:.4g}" if name in result else "-" for name in names)]
        for label, result in results.items()
    ]
    return align(["format", *names], rows)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--demo", action="store_true", help="the demo's trained model, on the CPU")
    parser.add_argument(
        "--shape",
        choices=sorted(SHAPES),
        default="8b" if torch.cuda.is_available() else "tiny",
        help="of the model (default: %(default)s)",
    )
    parser.add_argument("--formats", default="int8,fp8", help="weights, or weights+KV cache (default: %(default)s)")
    parser.add_argument("--texts", type=int, default=64, help="greedy generations (default: %(default)s)")
    parser.add_argument("--actions", type=int, default=1000, help="restricted first tokens (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and tokens (default: %(default)s)")
    args = parser.parse_args(argv)
    args.formats = args.formats.split(",")
    args.device = "cpu" if args.demo or not torch.cuda.is_available() else "cuda"
    return args


if __name__ == "__main__":
    sys.exit(main())
