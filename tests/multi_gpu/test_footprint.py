"""What a model needs is known from its config and its headers, before anything is loaded."""

import pytest
import torch

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_checkpoint, footprint_of_config
from evaluation.toolbench.inference.multi_gpu.units import GIB, MIB
from tests.helpers.checkpoint import save_tiny_llama
from tests.helpers.engine import tiny_llama
from tests.helpers.placement import TOOLGEN_8B


def test_toolgen_8b():
    assert TOOLGEN_8B.weight_bytes / GIB == pytest.approx(15.7, abs=0.05)
    assert TOOLGEN_8B.kv_bytes_per_token == 131_072
    assert TOOLGEN_8B.vocab_size * 4 / MIB == pytest.approx(0.67, abs=0.005)  # float32 logits of a row
    assert TOOLGEN_8B.num_layers == 32
    assert [block.modules[0] for block in TOOLGEN_8B.blocks[:2]] == ["model.embed_tokens", "model.layers.0"]
    assert TOOLGEN_8B.blocks[-1].modules == ("lm_head",)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_those_of_the_real_model(tied, dtype):
    model = tiny_llama(tie_word_embeddings=tied).to(dtype)
    footprint = footprint_of_config(model.config, dtype)

    parameters = sum(tensor.nbytes for tensor in model.parameters())  # tied ones once
    buffers = footprint.weight_bytes - parameters
    assert 0 <= buffers < 1024  # rotary tables
    assert sum(block.makes_logits for block in footprint.blocks) == 1
    assert footprint.kv_bytes_per_token == 2 * 2 * 2 * 8 * dtype.itemsize  # K and V, layers, heads, width


def test_every_module_with_weights_belongs_to_one_block():
    for tied in (True, False):
        model = tiny_llama(tie_word_embeddings=tied)
        modules = [name for block in footprint_of_config(model.config).blocks for name in block.modules]

        assert len(modules) == len(set(modules))
        for name, _ in model.named_parameters():
            assert sum(name.startswith(f"{module}.") for module in modules) == 1
    assert {"model.embed_tokens", "model.norm"} <= set(modules)


def test_the_checkpoint_says_what_it_holds(tmp_path):
    one = footprint_of_checkpoint(str(save_tiny_llama(tmp_path / "one")), torch.bfloat16)
    several = footprint_of_checkpoint(str(save_tiny_llama(tmp_path / "several", max_shard_size="20KB")), torch.bfloat16)
    stored = footprint_of_checkpoint(str(tmp_path / "one"), dtype=None)

    assert one.blocks == several.blocks
    assert stored.dtype == "float32"
    assert stored.weight_bytes > 1.9 * one.weight_bytes
    assert one.model == "one"


def test_weights_of_other_shapes_than_the_config_says_are_refused(tmp_path):
    folder = save_tiny_llama(tmp_path)
    tiny_llama(vocab_size=120).config.save_pretrained(folder)
    words = r"embed_tokens\.weight is \[97, 32\] in the file and \[120, 32\] by config\.json, and 1 more differ"
    with pytest.raises(DataError, match=words):
        footprint_of_checkpoint(str(folder))


def test_a_config_that_no_model_can_be_built_from_is_one_line():
    config = tiny_llama().config
    config.hidden_act = "magic"
    with pytest.raises(DataError, match=r"from the config of toy: KeyError: .*magic"):
        footprint_of_config(config, name="toy")


def test_another_architecture():
    from transformers import GPT2Config, Qwen2Config

    for config in (
        Qwen2Config(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
                    num_key_value_heads=1, tie_word_embeddings=True),
        GPT2Config(vocab_size=50, n_embd=16, n_layer=3, n_head=2),
    ):  # fmt: skip
        footprint = footprint_of_config(config)
        assert footprint.num_layers == 3
        assert sum(block.makes_logits for block in footprint.blocks) == 1
