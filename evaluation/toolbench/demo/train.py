"""Trains a model for the demo from nothing, and says how many of the demo's queries it solves.

    python -m evaluation.toolbench.demo.train [--out FOLDER] [--device cuda] [--steps N] [--minutes M] [--seed S]

The bundled model took 6.4 minutes of an H100; its folder is written only when it is named and `--overwrite` is given.

Reads the demo's data folder and its world, writes a checkpoint that transformers loads. The loss counts only
what a ToolGen model writes: thoughts, tool tokens, arguments. Both prompt layouts are trained.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from evaluation.toolbench.demo import DATA_DIR
from evaluation.toolbench.demo.conversations import Renderer
from evaluation.toolbench.demo.corpus import Batch, Corpus, demo_catalog
from evaluation.toolbench.demo.model_card import model_card
from evaluation.toolbench.demo.rollout import roll_out
from evaluation.toolbench.demo.samples import demo_queries, training_sample
from evaluation.toolbench.demo.score import Verdict, load_expected, report
from evaluation.toolbench.demo.tokenizer import train_tokenizer
from evaluation.toolbench.demo.world.values import lexicon
from evaluation.toolbench.inference.command_line import OneLineParser, called_as
from evaluation.toolbench.inference.toolgen.catalog import ToolCatalog
from evaluation.toolbench.inference.toolgen.prompts import DOCUMENTATION_HINT, LAYOUTS, OWN_SYSTEM_PROMPT

_EXAMPLES = """
toolgen python -m evaluation.toolbench.demo.train --steps 20000 --minutes 6.3 --compile   # the bundled one, on an H100
DATA_DIR=evaluation/toolbench/demo/assets STAGE=demo GROUP=queries MODEL_PATH=outputs/demo_model toolgen run
"""
_VOCAB_SIZE = 2400  # the tool tokens come on top
_TOKENIZER_SAMPLES = 6000
_CHAT_WORDS = ("system", "user", "assistant", "Begin!")
_LOG_EVERY = 100  # steps; as often the speed is measured that --minutes is held with


@dataclass(frozen=True)
class TrainingConfig:
    """Holds everything the result depends on, beside the code and the data."""

    steps: int = 12000
    batch_size: int = 64  # rows of 290 to 790 tokens
    learning_rate: float = 2e-3
    warmup_steps: int = 300
    final_share: float = 0.02  # of the learning rate, at the end of the cosine
    weight_decay: float = 0.05
    max_gradient: float = 1.0
    seed: int = 1
    hidden_size: int = 256
    intermediate_size: int = 704
    num_layers: int = 4
    num_heads: int = 4


def main() -> None:
    parser = _parser()
    options = parser.parse_args()
    if (options.out / "model.safetensors").exists() and not options.overwrite:
        parser.error(f"{options.out} has a model already: name another --out, or add --overwrite to replace it")
    config = TrainingConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=min(TrainingConfig.warmup_steps, options.steps // 10),
        seed=options.seed,
        num_layers=options.num_layers,
    )
    device = torch.device(options.device)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the workers are processes already
    _be_deterministic(config.seed)
    started = time.monotonic()

    catalog = demo_catalog(options.data_dir)
    tokenizer = build_tokenizer(catalog, config.seed)
    tokenizer.save_pretrained(options.out)
    model = build_model(tokenizer, config).to(device)
    if options.compile:
        for layer in model.model.layers:
            layer.compile(dynamic=True)  # its many small operations are most of what such a small model costs
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens, {config}", flush=True)

    corpus = Corpus(options.data_dir, options.out, config.seed, config.batch_size)
    with contextlib.closing(corpus.batches(config.steps, options.workers)) as batches:
        log = train(model, batches, config, deadline=started + 60 * options.minutes)

    model.to(torch.bfloat16).save_pretrained(options.out)
    # What is scored is what was saved, not what was in memory.
    model = AutoModelForCausalLM.from_pretrained(options.out, dtype=torch.bfloat16).to(device)
    verdicts = evaluate(model, Renderer.of(catalog, tokenizer), options.data_dir)
    minutes = (time.monotonic() - started) / 60
    results = {name: _solved(group) for name, group in verdicts.items()}
    card = model_card(
        asdict(config),
        log,
        results,
        flags=_flags(options),
        num_parameters=model.num_parameters(),
        minutes=minutes,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
    )
    (options.out / "README.md").write_text(card, encoding="utf-8")
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(json.dumps({"results": results, **log, "minutes": round(minutes, 1), "megabytes": round(size / 1e6, 2)}))


def _be_deterministic(seed: int) -> None:
    """Make the same seed give the same weights, on the same kind of machine."""
    set_seed(seed)
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(True, warn_only=True)
    # cuDNN's attention is not deterministic, and is set up anew for every shape of a batch.
    torch.backends.cuda.enable_cudnn_sdp(False)
    # Nothing here reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog=called_as("python -m evaluation.toolbench.demo.train"),
        description="Train a model for the demo from nothing, as the bundled one was: in 6.4 minutes on an H100. A "
        "processor manages few steps in that time, and the model then solves nothing.",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/demo_model"), help="where the checkpoint goes (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that has a model already")
    parser.add_argument("--data_dir", type=Path, default=DATA_DIR, help="the demo's data (default: the bundled ones)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--steps", type=int, default=TrainingConfig.steps, help="optimizer steps at most")
    parser.add_argument("--minutes", type=float, default=7.0, help="lower the number of steps to what fits in here")
    parser.add_argument("--batch_size", type=int, default=TrainingConfig.batch_size, help="conversations a step")
    parser.add_argument("--learning_rate", type=float, default=TrainingConfig.learning_rate, help="at its highest")
    parser.add_argument("--num_layers", type=int, default=TrainingConfig.num_layers, help="of the decoder")
    parser.add_argument("--seed", type=int, default=TrainingConfig.seed, help="of weights and samples")
    parser.add_argument("--compile", action="store_true", help="torch.compile the layers: faster after half a minute")
    workers = min(4, max(1, (os.cpu_count() or 2) - 2))  # one makes more than 1000 rows a second
    parser.add_argument("--workers", type=int, default=workers, help="processes for the data")
    return parser


def _flags(options: argparse.Namespace) -> str:
    """Return the flags that differ from the defaults, as they were given; not where files lie or on what machine."""
    flags = []
    for name, default in vars(_parser().parse_args([])).items():
        value = getattr(options, name)
        if value != default and name not in ("out", "overwrite", "data_dir", "device", "workers"):
            flags.append(f"--{name}" if value is True else f"--{name} {value}")
    return " ".join(flags)


def build_tokenizer(catalog: ToolCatalog, seed: int) -> PreTrainedTokenizerFast:
    """Train it on the fixed texts of every prompt, on every part of a value, and on what conversations look like."""
    rng = Random(f"{seed} tokenizer")
    samples = [training_sample(rng) for _ in range(_TOKENIZER_SAMPLES)]
    fixed = [
        OWN_SYSTEM_PROMPT,
        DOCUMENTATION_HINT,
        *(hint for layout in LAYOUTS.values() for hint in (layout.hint, layout.history_hint)),
        *_CHAT_WORDS,
        *map(str, catalog.documentation.values()),
        *lexicon(),
    ]
    turns = [turn for sample in samples for turn in sample.turns]
    varied = [
        *(sample.question for sample in samples),
        *(f"{turn.thought}\n{turn.arguments}\n{turn.observation or ''}" for turn in turns),
    ]
    return train_tokenizer(fixed, varied, catalog.actions, _VOCAB_SIZE)


def build_model(tokenizer: PreTrainedTokenizerFast, config: TrainingConfig) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train(
    model: LlamaForCausalLM, batches: Iterable[Batch], config: TrainingConfig, *, deadline: float
) -> dict[str, float]:
    """Train in place; return steps, tokens and the last loss.

    `deadline` is a time of `time.monotonic`. Where the speed of the last steps shows that it would be missed,
    the number of steps, and with it the learning rate's cosine, is made as long as the time that is left.
    """
    device = model.device
    decayed = [weight for weight in model.parameters() if weight.dim() >= 2]
    others = [weight for weight in model.parameters() if weight.dim() < 2]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=device.type == "cuda")
    steps, num_tokens, log_tokens, waited = config.steps, 0, 0, 0.0
    losses = torch.zeros(_LOG_EVERY, device=device)
    started = log_started = time.monotonic()
    model.train()
    batches = iter(batches)
    step = 0
    while step < steps:
        asked = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - asked
        rate = learning_rate(config, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = batch_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient)
        optimizer.step()
        optimizer.zero_grad()
        losses[step % _LOG_EVERY] = loss.detach()
        log_tokens += batch.ids.size
        step += 1
        if step % _LOG_EVERY == 0:
            mean_loss = losses.mean().item()  # waits for the device
            now = time.monotonic()
            seconds = now - log_started
            steps = min(config.steps, step + max(0, int((deadline - now) / seconds * _LOG_EVERY)))
            print(
                f"step {step}/{steps}  loss {mean_loss:.4f}  lr {rate:.2e}  "
                f"{log_tokens / seconds / 1e6:.2f} M tokens/s  "
                f"{_LOG_EVERY / seconds:.1f} steps/s  {waited / seconds:.0%} waiting for data  {now - started:.0f} s",
                flush=True,
            )
            num_tokens, log_tokens, waited, log_started = num_tokens + log_tokens, 0, 0.0, now
    model.eval()
    return {
        "steps": step,
        "tokens": num_tokens + log_tokens,
        "loss": round(losses[: min(step, _LOG_EVERY)].mean().item(), 5),
    }


def batch_loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Return the mean cross entropy of the tokens that the model is to write."""
    device = model.device
    ids = torch.from_numpy(batch.ids).to(device, torch.long, non_blocking=True)
    written = torch.from_numpy(batch.written)[:, 1:].flatten().nonzero()[:, 0].to(device, non_blocking=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        # No mask: padding stands on the right, where nothing looks at it.
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1].flatten(0, 1)[written])
    return cross_entropy(logits.float(), ids[:, 1:].flatten()[written])


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """Return a linear warm-up, then a cosine that ends at `final_share` after `steps`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * (config.final_share + (1 - config.final_share) * cosine)


def evaluate(model: Any, renderer: Renderer, data_dir: Path) -> dict[str, list[Verdict]]:
    """Judge the demo's queries in each prompt layout, and print the verdicts as they come."""
    queries, expected = demo_queries(), load_expected(data_dir)
    verdicts = {}
    for name, layout in LAYOUTS.items():
        verdicts[name] = roll_out(model, renderer, queries, expected, layout)
        print(f"\nprompt layout {name}\n{report(verdicts[name])}", flush=True)
    return verdicts


def _solved(verdicts: list[Verdict]) -> dict[str, str]:
    """Return split -> "solved/queries"."""
    groups: dict[str, list[bool]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.split, []).append(verdict.solved)
    return {split: f"{sum(solved)}/{len(solved)}" for split, solved in groups.items()}


if __name__ == "__main__":
    main()
