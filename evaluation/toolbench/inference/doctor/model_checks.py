"""Checks the layout, a model that is loaded by it, and what the model generates."""

from __future__ import annotations

import contextlib
import re
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from evaluation.toolbench.inference.doctor.machine import LoadedModel, Machine
from evaluation.toolbench.inference.doctor.memory_check import longest_conversation
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.factory import make_engine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.errors import ToolGenError
from evaluation.toolbench.inference.finding import Finding, needs
from evaluation.toolbench.inference.multi_gpu.device_maps import place_of
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config
from evaluation.toolbench.inference.multi_gpu.format_table import format_facts, format_table
from evaluation.toolbench.inference.multi_gpu.loading import load_with
from evaluation.toolbench.inference.multi_gpu.tables import WIDTH, device_map_lines, layout_table
from evaluation.toolbench.inference.multi_gpu.units import GIB, MIB, gib

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NEW_TOKENS = 64
_SMALL_KV_BYTES = GIB // 2  # more than enough for a short generation
_PREDICTION_SLACK = 0.03  # of the weights
_ALLOCATOR_SLACK_BYTES = 64 * MIB  # the caching allocator takes memory in blocks; this matters for tiny models only
_TOOL_TOKEN = re.compile(r"<<.+>>")


def check_layout(machine: Machine) -> list[Finding]:
    """Return the planned layout, with its reasons."""
    name = "layout"
    if not machine.gpus:
        return [needs(name, 1, 0)]
    try:
        layout = machine.layout
    except ToolGenError as error:
        return [Finding(name, "fail", str(error), "what the line above proposes; --simulate 3x24GiB tries other GPUs")]
    measured = f"{len(layout.replicas)} replica{'s' * (len(layout.replicas) > 1)} of {layout.footprint.model}"
    plans = machine.plans_by_formats(machine.gpus)
    facts = {
        "replicas": [replica.device_map for replica in layout.replicas],
        "tokens_per_s": layout.tokens_per_s,
        "formats": format_facts(plans),
    }
    compared = format_table(plans, machine.options.formats)
    details = (*textwrap.wrap(layout.reasons, WIDTH), "", *layout_table(layout), "", *compared)
    return [Finding(name, "ok", measured, details=details, facts=facts)]


def check_loading(machine: Machine) -> list[Finding]:
    """Load the model for real; on GPUs the weights have to take what was predicted, within 3%."""
    name = "loading"
    if machine.path_to_load is None:
        return [_no_model(name)]
    try:
        loaded = machine.loaded
    except ToolGenError as error:
        return [Finding(name, "fail", str(error), "another --model_path, or more memory; see the layout above")]
    weight_bytes = sum(tensor.nbytes for tensor in loaded.model.parameters())
    measured = f"{loaded.path}: {gib(weight_bytes)} in {loaded.seconds:.1f} s"
    if loaded.layout is None:
        return [Finding(name, "ok", f"{measured}, on the CPU")]
    shards = {shard.index: shard for shard in loaded.layout.replicas[0].shards}
    taken = loaded.taken_bytes
    said = [f"cuda:{i}: {gib(taken[i])} taken, {gib(shards[i].weight_bytes)} predicted" for i in shards]
    off = [
        index
        for index, shard in shards.items()
        if abs(taken[index] - shard.weight_bytes) > _PREDICTION_SLACK * shard.weight_bytes + _ALLOCATOR_SLACK_BYTES
    ]
    facts = {"taken_bytes": taken, "predicted_bytes": {index: shard.weight_bytes for index, shard in shards.items()}}
    if off:
        advice = "end other programs on these GPUs and look again; if it stays, please report it with --json"
        return [Finding(name, "fail", measured, advice, tuple(said), facts)]
    return [Finding(name, "ok", measured, "", (*said, *layout_table(loaded.layout)), facts)]


def check_device_map(machine: Machine) -> list[Finding]:
    """Tell which modules lie where, a line for each run of them; fails for a GPU that holds nothing."""
    name = "device map"
    loaded = _loaded(machine)
    if loaded is None:
        return [_no_model(name)]
    footprint = footprint_of_config(loaded.model.config, loaded.model.dtype)
    device_map = {
        module: place_of(module, loaded.model.hf_device_map) for block in footprint.blocks for module in block.modules
    }
    return [judge_device_map(name, device_map, loaded.layout.replicas[0].gpus if loaded.layout else ())]


def judge_device_map(name: str, device_map: Mapping[str, int | str | None], gpus: Sequence[int]) -> Finding:
    """Return the finding on where a model lies that was to go over `gpus`."""
    lines = device_map_lines(device_map)
    places = ", ".join(dict.fromkeys(line.rpartition(": ")[2] for line in lines))
    facts = {"device_map": dict(device_map)}
    measured = f"model.hf_device_map: {places}"
    empty = sorted(set(gpus) - set(device_map.values()))
    if empty:
        measured += f"; GPU {', '.join(map(str, empty))} holds nothing"
        advice = "please report it with --json; fewer GPUs (--num_gpus) until then"
        return Finding(name, "fail", measured, advice, tuple(lines), facts)
    return Finding(name, "ok", measured, details=tuple(lines), facts=facts)


def check_generation(machine: Machine) -> list[Finding]:
    """Generate greedily by the engine that a run uses, and tell how fast it is."""
    name = "generation"
    loaded = _loaded(machine)
    if loaded is None:
        return [_no_model(name)]
    count = min(_NEW_TOKENS, loaded.model.config.get_text_config().max_position_embeddings // 2)
    options = {"max_kv_bytes": _SMALL_KV_BYTES, "kv_cache": machine.options.formats.kv_cache}
    with contextlib.closing(make_engine("auto", loaded.model, **options)) as engine:
        request = GenerationRequest([token % engine.vocab_size for token in range(7, 23)], count, TokenSet([]))
        engine.generate(request)  # what the first generation compiles and captures is not its speed
        start = time.perf_counter()
        tokens = engine.generate(request).token_ids
        seconds = time.perf_counter() - start
    rate = len(tokens) / seconds
    facts = {"tokens": len(tokens), "tokens_per_s": rate}
    return [Finding(name, "ok", f"{len(tokens)} tokens at {rate:.1f} tokens/s (one conversation)", facts=facts)]


def check_same_tokens(machine: Machine) -> list[Finding]:
    """Check that a small float32 model over all GPUs (or GPU and CPU) generates the same tokens as on one device."""
    name = "same tokens"
    count = len(machine.gpus)
    if not count:
        return [needs(name, 1, 0)]
    places: list[int | str] = list(range(count)) if count > 1 else [0, "cpu"]
    with tempfile.TemporaryDirectory() as folder:
        modules = _save_small_model(folder, num_layers=max(6, count))
        spread = {module: places[i * len(places) // len(modules)] for i, module in enumerate(modules)}
        whole = load_with(folder, {"device_map": {"": 0}}, dtype=torch.float32)
        model = load_with(folder, {"device_map": spread}, dtype=torch.float32, cpu_offloading=count == 1)
    return [compare_tokens(name, whole, model, places)]


def compare_tokens(
    name: str, whole: PreTrainedModel, spread: PreTrainedModel, places: Sequence[int | str], prompts: int = 4
) -> Finding:
    """Check that `spread`, which lies over `places`, generates as `whole` does, by either engine."""
    expected = list(chain.from_iterable(_generate(whole, _NEW_TOKENS, prompts=prompts)))
    equal = {}
    for engine, options in (("generate", {}), ("paged", {"max_kv_bytes": _SMALL_KV_BYTES})):
        tokens = chain.from_iterable(_generate(spread, _NEW_TOKENS, engine=engine, prompts=prompts, **options))
        equal[engine] = sum(a == b for a, b in zip(tokens, expected, strict=True))
    over = ", ".join(f"cuda:{place}" if isinstance(place, int) else place for place in places)
    said = ", ".join(f"{engine} {number}/{len(expected)}" for engine, number in equal.items())
    measured = f"over {over}: tokens that match one device: {said}"
    facts = {"tokens": len(expected), "equal": equal}
    if set(equal.values()) == {len(expected)}:
        return Finding(name, "ok", measured, facts=facts)
    advice = "see the copies between GPUs above; one replica per GPU is not affected"
    return Finding(name, "fail", measured, advice, facts=facts)


def check_tool_ids(machine: Machine) -> list[Finding]:
    """Check that every tool token of the tokenizer has a row in the embedding."""
    from transformers import AutoTokenizer

    name = "tool tokens"
    loaded = _loaded(machine)
    if loaded is None:
        return [_no_model(name)]
    try:
        vocabulary = AutoTokenizer.from_pretrained(loaded.path, local_files_only=True).get_vocab()
    except (OSError, ValueError, KeyError, TypeError):
        return [Finding(name, "skip", f"{loaded.path} has no tokenizer")]
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    tool_ids = [token_id for token, token_id in vocabulary.items() if _TOOL_TOKEN.fullmatch(token)]
    measured = f"{len(tool_ids):,} tool tokens, highest id {max(vocabulary.values()):,}, embedding of {rows:,} rows"
    facts = {"tool_tokens": len(tool_ids), "highest_id": max(vocabulary.values()), "embedding_rows": rows}
    if max(vocabulary.values()) >= rows:
        advice = "load the tokenizer that was saved beside this checkpoint"
        return [Finding(name, "fail", measured, advice, facts=facts)]
    if not tool_ids:
        return [Finding(name, "fail", measured, "this tokenizer knows no tool; use a ToolGen checkpoint", facts=facts)]
    return [Finding(name, "ok", measured, facts=facts)]


def check_longest_conversation(machine: Machine) -> list[Finding]:
    """Check that with the planned KV room taken, the longest conversation runs among the others inside the budget."""
    name = "longest conversation"
    if not machine.gpus:
        return [needs(name, 1, 0)]
    loaded = _loaded(machine)
    if loaded is None or loaded.layout is None:
        return [_no_model(name)]
    return [longest_conversation(name, loaded.model, loaded.layout.replicas[0])]


def _loaded(machine: Machine) -> LoadedModel | None:
    """Return the model, or None when there is none or it cannot be loaded, which `check_loading` has said."""
    try:
        return machine.loaded if machine.path_to_load else None
    except ToolGenError:
        return None


def _no_model(name: str) -> Finding:
    return Finding(name, "skip", "no model is loaded: give --model_path")


def _generate(
    model: PreTrainedModel, count: int, *, engine: str = "generate", prompts: int = 1, **options: Any
) -> list[tuple[int, ...]]:
    """Return `count` greedy tokens after each of some fixed prompts, ignoring end tokens."""
    with contextlib.closing(make_engine(engine, model, **options)) as made:
        futures = [
            made.submit(
                GenerationRequest([token % made.vocab_size for token in range(7 + n, 23 + n)], count, TokenSet([]))
            )
            for n in range(prompts)
        ]
        return [future.result().token_ids for future in futures]


def _save_small_model(folder: str, num_layers: int) -> list[str]:
    """Saves a random-weights Llama into `folder`; its modules in order."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=num_layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    layers = [f"model.layers.{index}" for index in range(num_layers)]
    return ["model.embed_tokens", "model.rotary_emb", *layers, "model.norm", "lm_head"]
