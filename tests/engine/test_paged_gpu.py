"""The paged engine on a GPU: kernels, CUDA graphs and overlapped steps change no token in float32."""

from __future__ import annotations

import contextlib
import random

import pytest
import torch
from accelerate import dispatch_model
from accelerate.hooks import AlignDevicesHook, add_hook_to_module

from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.engine.paged import model_setup
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.engine.paged.execution.stages import split
from evaluation.toolbench.inference.engine.paged.execution.step_buffers import StepShape
from evaluation.toolbench.inference.engine.reference import GenerateEngine
from evaluation.toolbench.inference.engine.request import GenerationRequest, Sampling, ScoringRequest
from tests.helpers.engine import VOCAB_SIZE, attending_in_float8, tiny_llama, tiny_qwen3

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=f"needs 1 GPU, found {torch.cuda.device_count()}"),
]
END = 5
CONSTRAINTS = [None, TokenSet(range(30, VOCAB_SIZE)), TokenTrie([[10, 11], [10, 11, 12], [16]], END)]


def requests(count: int, seed: int = 0) -> list[GenerationRequest]:
    rng = random.Random(seed)
    return [
        GenerationRequest(
            [rng.randrange(VOCAB_SIZE) for _ in range(rng.randint(1, 80))],
            rng.randint(1, 30),
            TokenSet([END]),
            rng.choice(
                [Sampling(), Sampling(0.8, seed=n), Sampling(1.5, 0.9, 30, n), Sampling(repetition_penalty=1.2)]
            ),
            rng.choice(CONSTRAINTS),
            rng.choice([None, f"c{n % 5}"]),
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_graphs": False},
        {"overlap": False},
        {"num_pages": 9, "page_size": 16, "max_prefill_tokens": 32},
        {"compile_layers": True, "join_linears": True, "thin_last_layer": True},
    ],
    ids=["graphs", "eager", "in-turn", "tiny-pool", "compiled"],
)
def test_tokens_on_a_gpu_are_those_of_the_reference(make, options):
    asked = requests(40)
    with contextlib.closing(GenerateEngine(make().cuda())) as reference:
        expected = [reference.generate(request) for request in asked]
    with contextlib.closing(PagedEngine(make().cuda(), **{"num_pages": 64, "page_size": 64} | options)) as engine:
        futures = [engine.submit(request) for request in asked]
        assert [future.result(120) for future in futures] == expected
        graphs = engine._runner.stages[0].graphs
        assert bool(graphs) == options.get("use_graphs", True)
        assert all(isinstance(shape, StepShape) for shape in graphs)


def test_as_many_conversations_as_a_step_holds_get_the_tokens_of_the_reference():
    asked = requests(300, seed=1)
    with contextlib.closing(GenerateEngine(tiny_llama().cuda())) as reference:
        expected = [reference.generate(request) for request in asked]
    with contextlib.closing(
        PagedEngine(tiny_llama().cuda(), num_pages=700, max_running=256, capture_at_start=True)
    ) as engine:
        futures = [engine.submit(request) for request in asked]
        assert [future.result(120) for future in futures] == expected
        captured = set(engine._runner.stages[0].graphs)
        assert engine.counts().drawn_tokens > 0
        assert max(shape.decode_rows for shape in captured) == 256


@pytest.mark.parametrize("starts", [[0, 1], [0, 2, 3]], ids=["two", "three"])
@pytest.mark.parametrize("is_tied", [False, True], ids=["own-head", "tied"])
def test_stages_on_the_gpus_that_there_are_give_the_tokens_of_the_reference(monkeypatch, starts, is_tied):
    """On one GPU the stages share it; on several the hidden states and tokens cross from one to the next."""
    asked = requests(60, seed=2)
    options = {"num_hidden_layers": 4, "tie_word_embeddings": is_tied}
    with contextlib.closing(GenerateEngine(tiny_llama(**options).cuda())) as reference:
        expected = [reference.generate(request) for request in asked]
        scoring = ScoringRequest([3, 4, 5], 7, TokenSet(range(20, 60)))
        best = reference.score(scoring).result()
    places = [min(sum(start <= layer for start in starts), torch.cuda.device_count()) - 1 for layer in range(4)]
    device_map = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.norm": places[-1]}
    device_map |= {f"model.layers.{layer}": place for layer, place in enumerate(places)}
    model = tiny_llama(**options).cuda()
    if len(set(places)) > 1:
        model = dispatch_model(model, {**device_map, "lm_head": 0 if is_tied else places[-1]})
    monkeypatch.setattr(model_setup, "stages_of", lambda model: split(model, starts))
    with contextlib.closing(PagedEngine(model, num_pages=80, page_size=16)) as engine:
        futures = [engine.submit(request) for request in asked]
        assert [future.result(120) for future in futures] == expected
        assert engine.score(scoring).result(120).token_ids == best.token_ids
        assert all(stage.graphs for stage in engine._runner.stages)


def test_layers_on_two_devices_give_the_tokens_of_one():
    asked = requests(16)
    with contextlib.closing(GenerateEngine(tiny_llama())) as reference:
        expected = [reference.generate(request) for request in asked]
    model = tiny_llama()
    for module, device in [
        (model.model.embed_tokens, "cuda:0"),
        (model.model.rotary_emb, "cuda:0"),
        (model.model.layers[0], "cuda:0"),
        (model.model.layers[1], "cpu"),
        (model.model.norm, "cpu"),
        (model.lm_head, "cuda:0"),
    ]:
        module.to(device)
        add_hook_to_module(module, AlignDevicesHook(execution_device=torch.device(device)))
    with contextlib.closing(PagedEngine(model, num_pages=64, page_size=16)) as engine:
        futures = [engine.submit(request) for request in asked]
        assert [future.result(120) for future in futures] == expected


@pytest.mark.parametrize("use_graphs", [True, False], ids=["graphs", "eager"])
def test_8_bit_pages_mostly_agree_with_attention_spelled_out_over_8_bits(use_graphs):
    """Not always: a number between two codes may be rounded to either."""
    asked = [request for request in requests(60, seed=4) if not request.sampling.temperature]
    with contextlib.closing(GenerateEngine(attending_in_float8(tiny_llama().cuda()))) as reference:
        expected = [reference.generate(request).token_ids for request in asked]
    options = {"num_pages": 64, "page_size": 64, "kv_cache": "fp8", "use_graphs": use_graphs}
    with contextlib.closing(PagedEngine(tiny_llama().cuda(), **options)) as engine:
        results = [future.result(120).token_ids for future in [engine.submit(request) for request in asked]]
    agreeing = sum(found == wanted for found, wanted in zip(results, expected, strict=True))
    print(f"8-bit pages: {agreeing} of {len(asked)} generations agree")
    assert agreeing > 0.8 * len(asked)


def test_bfloat16_mostly_agrees_with_the_reference():
    asked = [GenerationRequest([n, 3 * n % 90, 7], 20, TokenSet([])) for n in range(30)]
    with contextlib.closing(GenerateEngine(tiny_llama().cuda().bfloat16())) as reference:
        expected = [reference.generate(request).token_ids for request in asked]
    with contextlib.closing(PagedEngine(tiny_llama().cuda().bfloat16(), num_pages=64)) as engine:
        results = [future.result(120).token_ids for future in [engine.submit(request) for request in asked]]
    agreeing = sum(a == b for x, y in zip(results, expected, strict=True) for a, b in zip(x, y, strict=True))
    print(f"bfloat16: {agreeing} of {30 * 20} tokens agree")
    assert agreeing > 30 * 20 // 2
