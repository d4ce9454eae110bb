"""Checks of the layout, of a model that is loaded by it, and of what the model generates."""

from __future__ import annotations

import re
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.generate import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.errors import ToolGenError
from evaluation.toolbench.inference.multi_gpu.doctor.finding import Finding, needs
from evaluation.toolbench.inference.multi_gpu.doctor.machine import LoadedModel, Machine
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config
from evaluation.toolbench.inference.multi_gpu.loading import embedding_device, load_with
from evaluation.toolbench.inference.multi_gpu.tables import device_map_lines, layout_table
from evaluation.toolbench.inference.multi_gpu.units import MIB, gib

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NEW_TOKENS = 64
_PREDICTION_SLACK = 0.03  # of the weights
_ALLOCATOR_SLACK_BYTES = 64 * MIB  # the caching allocator takes memory in blocks; this matters for tiny models only
_TOOL_TOKEN = re.compile(r"<<.+>>")


def check_layout(machine: Machine) -> list[Finding]:
    """The planned layout, with its reasons."""
    name = "layout"
    if not machine.gpus:
        return [needs(name, 1, 0)]
    try:
        layout = machine.layout
    except ToolGenError as error:
        return [Finding(name, "fail", str(error), "what the line above proposes; --simulate 3x24GiB tries other GPUs")]
    measured = f"{len(layout.replicas)} replica{'s' * (len(layout.replicas) > 1)} of {layout.footprint.model}"
    facts = {"replicas": [replica.device_map for replica in layout.replicas], "tokens_per_s": layout.tokens_per_s}
    return [Finding(name, "ok", measured, details=(layout.reasons, *layout_table(layout)), facts=facts)]


def check_loading(machine: Machine) -> list[Finding]:
    """A real load; on GPUs the weights take what was predicted, within 3%."""
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
    """Which module lies where, a line for each."""
    name = "device map"
    loaded = _loaded(machine)
    if loaded is None:
        return [_no_model(name)]
    device_map = _module_map(loaded.model)
    places = ", ".join(dict.fromkeys(line.rpartition(": ")[2] for line in device_map_lines(device_map)))
    lines = tuple(device_map_lines(device_map))
    return [
        Finding(name, "ok", f"model.hf_device_map: {places}", details=lines, facts={"device_map": dict(device_map)})
    ]


def check_generation(machine: Machine) -> list[Finding]:
    """A greedy generation, and how fast it is."""
    name = "generation"
    loaded = _loaded(machine)
    if loaded is None:
        return [_no_model(name)]
    count = min(_NEW_TOKENS, loaded.model.config.get_text_config().max_position_embeddings // 2)
    _generate(loaded.model, 2)  # what the first generation compiles and allocates is not its speed
    start = time.perf_counter()
    tokens = _generate(loaded.model, count)
    seconds = time.perf_counter() - start
    rate = len(tokens) / seconds
    facts = {"tokens": len(tokens), "tokens_per_s": rate}
    return [Finding(name, "ok", f"{len(tokens)} tokens at {rate:.1f} tokens/s (one conversation)", facts=facts)]


def check_same_tokens(machine: Machine) -> list[Finding]:
    """A small float32 model over all GPUs (over GPU and CPU where there is one) speaks as on one device."""
    name = "same tokens"
    count = len(machine.gpus)
    if not count:
        return [needs(name, 1, 0)]
    places: list[int | str] = list(range(count)) if count > 1 else [0, "cpu"]
    with tempfile.TemporaryDirectory() as folder:
        modules = _save_small_model(folder)
        spread = {module: places[i * len(places) // len(modules)] for i, module in enumerate(modules)}
        whole = load_with(folder, {"device_map": {"": 0}}, dtype="float32")
        expected = _generate(whole, _NEW_TOKENS)
        model = load_with(folder, {"device_map": spread}, dtype="float32", cpu_offloading=count == 1)
        tokens = _generate(model, _NEW_TOKENS)
    over = ", ".join(f"cuda:{place}" if isinstance(place, int) else place for place in places)
    equal = sum(a == b for a, b in zip(tokens, expected, strict=True))
    measured = f"{equal} of {len(expected)} tokens over {over} are those of one device"
    if equal == len(expected):
        return [Finding(name, "ok", measured)]
    return [Finding(name, "fail", measured, "see the copies between GPUs above; one replica per GPU is not affected")]


def check_tool_ids(machine: Machine) -> list[Finding]:
    """Every tool token of the tokenizer has a row in the embedding."""
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
    """With the planned KV room taken, one conversation of the longest kind runs inside the budget."""
    name = "longest conversation"
    if not machine.gpus:
        return [needs(name, 1, 0)]
    loaded = _loaded(machine)
    if loaded is None or loaded.layout is None:
        return [_no_model(name)]
    replica = loaded.layout.replicas[0]
    length, chunk = replica.max_tokens, loaded.layout.workload.prefill_tokens
    others = replica.kv_tokens - length
    torch.cuda.empty_cache()  # what earlier checks used and freed is no part of this one
    try:
        # What the other conversations' KV cache will hold; the first GPU also has that of offloaded layers.
        ballast = [
            torch.empty(shard.kv_bytes_per_token * others, dtype=torch.uint8, device=f"cuda:{shard.index}")
            for shard in replica.shards
        ]
        for index in replica.gpus:
            torch.cuda.reset_peak_memory_stats(index)
        vocab_size = loaded.model.config.get_text_config().vocab_size
        read_and_step(loaded.model, [token % vocab_size for token in range(length)], chunk)
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        return [
            Finding(name, "fail", first, "a smaller --max_gpu_memory, such as 75%, and please report it with --json")
        ]
    peak = {index: torch.cuda.max_memory_reserved(index) for index in replica.gpus}
    del ballast
    budgets = {shard.index: shard.target.budget_bytes for shard in replica.shards}
    said = ", ".join(f"cuda:{index}: {gib(peak[index])} of a budget of {gib(budgets[index])}" for index in peak)
    measured = f"{length:,} tokens beside {others:,} reserved: {said}"
    facts = {"peak_bytes": peak, "budget_bytes": budgets}
    if any(peak[index] > budgets[index] for index in peak):
        return [Finding(name, "fail", measured, "a smaller --max_gpu_memory, such as 75%", facts=facts)]
    return [Finding(name, "ok", measured, facts=facts)]


def _loaded(machine: Machine) -> LoadedModel | None:
    """The model, or None when there is none or it cannot be loaded, which `check_loading` has said."""
    try:
        return machine.loaded if machine.path_to_load else None
    except ToolGenError:
        return None


def _module_map(model: PreTrainedModel) -> dict[str, int | str]:
    """`hf_device_map` module by module, also where it holds a single entry for the whole model."""
    device_map: Mapping[str, int | str] = model.hf_device_map
    blocks = footprint_of_config(model.config, model.dtype).blocks

    def place(module: str) -> int | str:
        parents = [name for name in device_map if f"{module}.".startswith(f"{name}.") or not name]
        return device_map[max(parents, key=len)]

    return {module: place(module) for block in blocks for module in block.modules}


def _no_model(name: str) -> Finding:
    return Finding(name, "skip", "no model is loaded: give --model_path")


def _generate(model: PreTrainedModel, count: int) -> tuple[int, ...]:
    """`count` greedy tokens after a fixed prompt, end tokens not heeded."""
    engine = GenerateEngine(model)
    try:
        prompt = [token % engine.vocab_size for token in range(7, 23)]
        return engine.generate(GenerationRequest(prompt, count, TokenSet([]))).token_ids
    finally:
        engine.close()


@torch.inference_mode()
def read_and_step(model: PreTrainedModel, ids: Sequence[int], chunk: int) -> int:
    """Reads `ids` in pieces of `chunk`, the last one as a decode step; the token that comes next.

    The KV cache is allocated once, as the engine's is: what a growing one would waste is not in the plan.
    """
    from transformers import StaticCache

    cache = StaticCache(config=model.config, max_cache_len=len(ids))
    tokens = torch.tensor([list(ids)], device=embedding_device(model))
    next_token = -1
    for piece in [*tokens[:, :-1].split(chunk, dim=1), tokens[:, -1:]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the argument gets another name, which older versions lack
            output = model(input_ids=piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
        next_token = int(output.logits[0, -1].float().argmax())
    return next_token


def _save_small_model(folder: str) -> list[str]:
    """Saves a random-weights Llama of 6 layers into `folder`; its modules in order."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=6,
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
    layers = [f"model.layers.{index}" for index in range(config.num_hidden_layers)]
    return ["model.embed_tokens", "model.rotary_emb", *layers, "model.norm", "lm_head"]
