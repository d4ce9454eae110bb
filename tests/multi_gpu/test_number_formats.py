"""Weights in 8 bits, as planned: what they take, what they buy, and where they are refused."""

import pytest
import torch

from evaluation.toolbench.demo import MODEL_DIR
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.cards import card_named
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_config, toolgen_8b_config
from evaluation.toolbench.inference.multi_gpu.number_formats import EIGHT_BIT, NumberFormats
from evaluation.toolbench.inference.multi_gpu.planning import footprint_on, plan_for
from evaluation.toolbench.inference.multi_gpu.simulated import simulated_gpus
from evaluation.toolbench.inference.multi_gpu.throughput import StageCosts, product_costs
from evaluation.toolbench.inference.multi_gpu.units import GIB
from tests.helpers.placement import TOOLGEN_8B


@pytest.mark.parametrize("weights", EIGHT_BIT)
def test_layers_take_half_and_everything_else_what_it_took(weights):
    quantized = footprint_of_config(toolgen_8b_config(), weights=weights)
    for before, after in zip(TOOLGEN_8B.blocks, quantized.blocks, strict=True):
        if before.is_layer:
            assert after.weight_bytes == pytest.approx(before.weight_bytes / 2, rel=0.002)
        else:
            assert after == before
    assert quantized.weight_bytes / GIB == pytest.approx(9.2, abs=0.1)
    assert quantized.kv_bytes_per_token == TOOLGEN_8B.kv_bytes_per_token


def test_three_cards_of_24_gib_become_three_replicas_in_fp8():
    gpus = simulated_gpus("3x24GiB")
    plans = {
        weights: plan_for(footprint_of_config(toolgen_8b_config(), weights=weights), gpus)
        for weights in ("auto", "fp8")
    }
    assert [replica.gpus for replica in plans["auto"].replicas] == [(0, 1, 2)]
    assert [replica.gpus for replica in plans["fp8"].replicas] == [(0,), (1,), (2,)]
    assert plans["fp8"].tokens_per_s > plans["auto"].tokens_per_s
    assert {replica.weights for replica in plans["fp8"].replicas} == {"fp8"}
    assert "weights in fp8" in plans["fp8"].reasons


def test_float8_is_predicted_as_fast_as_its_products_were_measured():
    """32 layers on an H200, milliseconds by rows: products of float8 with scaled activations, against bfloat16."""
    layers = TOOLGEN_8B.blocks[1:33]
    card = card_named("H200")

    def milliseconds(weights: str, rows: int) -> float:
        products = product_costs(weights, 2)
        num_bytes = sum(block.weight_bytes for block in layers) * products.item_bytes // 2
        stage = StageCosts(card.bandwidth, card.flops, num_bytes, 0, 0, 32, products)
        return 1e3 * stage.seconds(rows, 0, 0)

    assert milliseconds("fp8", 16) == pytest.approx(2.67 + 0.96, rel=0.15)  # 0.96: what layers take beside products
    assert milliseconds("auto", 512) / milliseconds("fp8", 512) == pytest.approx(9.61 / 5.34, rel=0.2)
    assert milliseconds("int8", 16) < milliseconds("auto", 16)  # half the bytes
    assert milliseconds("int8", 512) > milliseconds("auto", 512)  # and more instructions


def test_unpacked_weights_are_part_of_the_working_memory():
    plain, int8, fp8 = (
        plan_for(footprint_of_config(toolgen_8b_config(), weights=weights), simulated_gpus("1xH100"))
        .replicas[0]
        .shards[0]
        .working_bytes
        for weights in ("auto", "int8", "fp8")
    )
    assert plain == fp8 == int8 - 4 * 14_336 * 4096 * 2


@pytest.mark.parametrize(
    ("card", "formats", "said"),
    [
        ("RTX3090", NumberFormats(weights="fp8"), r"RTX3090 \(compute capability 8.6\) has no float8.*--weights int8"),
        ("1xH100,1xA100", NumberFormats(weights="fp8"), "A100.*has no float8.*--weights int8"),
        ("H100", NumberFormats("float16", "fp8"), "--dtype float16: products of float8 come out in bfloat16"),
    ],
)
def test_cards_and_dtypes_without_float8_are_refused_in_one_line(card, formats, said):
    with pytest.raises(ConfigError, match=said) as caught:
        footprint_on(simulated_gpus(card), None, formats)
    assert "\n" not in str(caught.value)


def test_float8_is_for_cards_that_have_it_and_int8_for_all():
    for card in ("RTX4090", "L4", "H100"):
        assert footprint_on(simulated_gpus(card), None, NumberFormats(weights="fp8")).weights == "fp8"
    assert footprint_on(simulated_gpus("T4"), None, NumberFormats(weights="int8")).formats == "float16, weights in int8"
    assert footprint_on(None, str(MODEL_DIR), NumberFormats(weights="fp8")).formats == "float32, weights in fp8"


def test_a_model_that_cannot_be_quantised_is_refused_in_one_line():
    from transformers import GPT2Config, LlamaConfig

    odd = LlamaConfig(
        hidden_size=64, intermediate_size=100, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2
    )
    with pytest.raises(ConfigError, match=r"multiples of 16.*gate_proj of toy has 64 x 100: use --weights int8"):
        footprint_of_config(odd, torch.float32, name="toy", weights="fp8")
    assert footprint_of_config(odd, torch.float32, name="toy", weights="int8").weights == "int8"
    conv = GPT2Config(n_embd=64, n_layer=1, n_head=4, vocab_size=100)
    with pytest.raises(ConfigError, match=r"only 0 of the .* weights in the layers of toy are in linear layers"):
        footprint_of_config(conv, torch.float32, name="toy", weights="int8")
    packed = toolgen_8b_config()
    packed.quantization_config = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    with pytest.raises(ConfigError, match=r"quantised already \(fp8\): leave --weights out"):
        footprint_of_config(packed, weights="int8")


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="weights='int4' is not one of auto, int8, fp8"):
        NumberFormats(weights="int4")


def test_keys_and_values_in_8_bits_make_room_for_nearly_twice_the_tokens():
    gpus = simulated_gpus("1xA100-40GB")
    plain, float8 = (footprint_on(gpus, None, NumberFormats(kv_cache=kv_cache)) for kv_cache in ("auto", "fp8"))
    assert plain.kv_bytes_per_token == 32 * 2 * 8 * 128 * 2
    assert float8.kv_bytes_per_token == 32 * 2 * 8 * (128 + 4)  # a byte a number, and a float32 scale
    assert float8.weight_bytes == plain.weight_bytes
    before, after = (plan_for(footprint, gpus) for footprint in (plain, float8))
    assert after.replicas[0].kv_tokens > 1.9 * before.replicas[0].kv_tokens
    assert after.tokens_per_s > before.tokens_per_s
    assert after.replicas[0].kv_cache == "fp8"
    assert "(bfloat16, KV cache in fp8)" in after.reasons


def test_a_kv_cache_in_8_bits_is_for_every_card_and_the_cpu():
    for gpus in (simulated_gpus("T4"), simulated_gpus("3xRTX3090"), None):
        assert footprint_on(gpus, str(MODEL_DIR), NumberFormats(kv_cache="fp8")).kv_cache == "fp8"
    with pytest.raises(ConfigError, match="kv_cache='fp4' is not one of auto, fp8"):
        NumberFormats(kv_cache="fp4")
