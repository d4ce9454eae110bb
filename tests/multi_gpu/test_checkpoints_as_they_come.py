"""Folders as they come out of training and downloads: what transformers loads rightly is loaded and planned from the
same files, the rest is named in one line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evaluation.toolbench.demo import MODEL_DIR
from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_checkpoint
from evaluation.toolbench.inference.multi_gpu.loading import load_model
from evaluation.toolbench.inference.multi_gpu.model_files import find_model
from evaluation.toolbench.inference.toolgen.agent_parts import load_tokenizer

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7541248\n"


class Folder:
    """A copy of the demo's model that can be damaged."""

    def __init__(self, path):
        self.path = path
        shutil.copytree(MODEL_DIR, path)
        self.weights = load_file(path / "model.safetensors")

    def __str__(self):
        return str(self.path)

    def save(self, weights=None, name="model.safetensors"):
        kept = {key: tensor.contiguous() for key, tensor in (weights or self.weights).items()}
        save_file(kept, self.path / name, metadata={"format": "pt"})

    def edit(self, **changes):
        file = self.path / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    def remove(self, *names):
        for name in names:
            (self.path / name).unlink()

    def bytes_of(self, names, dtype=torch.bfloat16):
        return sum(self.weights[name].numel() * dtype.itemsize for name in names)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "model")


def weights_of(path):
    return {name: tensor.clone() for name, tensor in load_model(str(path), device="cpu").named_parameters()}


def plan_and_load(path):
    footprint_of_checkpoint(str(path))
    load_model(str(path), device="cpu")


def refusal(path):
    with pytest.raises((DataError, ConfigError)) as error:
        plan_and_load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_head_that_the_config_ties_and_the_file_holds_apart_is_its_own(folder):
    folder.weights[HEAD] = folder.weights[EMBEDDING] + 1
    folder.save()
    model = load_model(str(folder), device="cpu", dtype="bfloat16")
    assert torch.equal(model.lm_head.weight, folder.weights[HEAD])
    assert torch.equal(model.model.embed_tokens.weight, folder.weights[EMBEDDING])
    planned = footprint_of_checkpoint(str(folder))
    assert planned.weight_bytes >= folder.bytes_of(folder.weights)
    assert planned.blocks[-1].modules == ("lm_head",)


def test_a_head_that_differs_in_a_few_rows_is_its_own(folder):
    head = folder.weights[EMBEDDING].clone()
    head[-5:] += 1  # tool tokens
    folder.weights[HEAD] = head
    folder.save()
    assert torch.equal(load_model(str(folder), device="cpu", dtype="bfloat16").lm_head.weight, head)


def test_a_head_that_is_stored_twice_and_the_same_is_tied(folder):
    before = footprint_of_checkpoint(str(folder)).weight_bytes
    folder.weights[HEAD] = folder.weights[EMBEDDING].clone()
    folder.save()
    model = load_model(str(folder), device="cpu")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert footprint_of_checkpoint(str(folder)).weight_bytes == before


@pytest.mark.parametrize("named", ["model-00001-of-00004.safetensors", "model.safetensors"])
def test_a_whole_file_wins_over_the_index_of_an_earlier_save(folder, named):
    before = footprint_of_checkpoint(str(folder)).blocks
    index = {"metadata": {"total_size": 1}, "weight_map": {"model.norm.weight": named}}
    (folder.path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert footprint_of_checkpoint(str(folder)).blocks == before
    assert weights_of(folder).keys() == weights_of(MODEL_DIR).keys()


def test_safetensors_win_over_pickles(folder):
    (folder.path / "pytorch_model.bin").write_bytes(b"of another save")
    assert weights_of(folder).keys() == weights_of(MODEL_DIR).keys()


def test_pickles_of_several_files_are_those_of_their_index(folder):
    names = sorted(folder.weights)
    parts = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
    for file, own in parts.items():
        torch.save({name: folder.weights[name] for name in own}, folder.path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, own in parts.items() for name in own}}
    (folder.path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    folder.remove("model.safetensors")
    assert torch.equal(weights_of(folder)[EMBEDDING].bfloat16(), folder.weights[EMBEDDING])
    folder.remove("pytorch_model-2.bin")
    assert "pytorch_model-2.bin" in refusal(folder)


def test_the_tokenizer_of_a_runs_checkpoint_lies_in_the_folder_above(tmp_path):
    folder = Folder(tmp_path / "run" / "checkpoint-1000")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(folder.path / file, folder.path.parent / file)
    assert load_tokenizer(str(folder)).get_vocab() == load_tokenizer(str(MODEL_DIR)).get_vocab()
    assert find_model(str(folder)).tokenizer_folder == folder.path.parent
    (folder.path.parent / "tokenizer.json").unlink()
    (folder.path.parent / "tokenizer_config.json").unlink()
    with pytest.raises(DataError, match=r"no tokenizer in .*checkpoint-1000, nor in the folder above"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"])
def test_a_pointer_of_git_lfs_is_named_whatever_file_it_stands_for(folder, file):
    (folder.path / file).write_text(POINTER)
    message = refusal(folder)
    assert f"{folder.path / file} is a git-lfs pointer" in message
    assert "git lfs pull" in message


def test_weights_that_zero_3_did_not_gather_are_named(folder):
    folder.weights[EMBEDDING] = torch.zeros(0, dtype=torch.bfloat16)
    folder.save()
    assert "ZeRO-3" in refusal(folder)


@pytest.mark.parametrize("name", ["num_hidden_layers", "max_position_embeddings"])
@pytest.mark.parametrize("number", [0, -1])
def test_a_number_that_no_model_can_run_with_is_named(folder, name, number):
    folder.edit(**{name: number})
    assert f"{name} {number}" in refusal(folder)


def test_code_that_a_checkpoint_brings_is_refused_without_a_question(folder, capsys):
    folder.edit(model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    assert "custom code" in refusal(folder)
    assert "[y/N]" not in capsys.readouterr().out


def test_a_vocabulary_emptied_by_a_resize_is_named(folder):
    folder.edit(vocab_size=0)
    assert "vocab_size 0" in refusal(folder)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("zero_to_fp32.py", "python zero_to_fp32.py"),
        ("pytorch_model_fsdp.bin.metadata", "FSDP"),
        ("toolgen-q4.gguf", "llama.cpp"),
        ("model-00001-of-00004.safetensors", r"neither model.safetensors nor model.safetensors.index.json"),
        ("optimizer.pt", "neither model.safetensors nor its index"),
    ],
)
def test_a_save_in_another_form_is_said_to_be_one(folder, file, words):
    folder.remove("model.safetensors")
    (folder.path / file).write_text("")
    assert words in refusal(folder)


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def test_fp8_weights_are_planned_as_they_are_stored_where_the_card_keeps_them(folder):
    linear = [name for name in folder.weights if name.endswith("_proj.weight")]
    for name in linear:
        rows, columns = folder.weights[name].shape
        folder.weights[name] = folder.weights[name].to(torch.float8_e4m3fn)
        folder.weights[f"{name}_scale_inv"] = torch.ones(-(-rows // 128), -(-columns // 128))
    folder.save()
    folder.edit(quantization_config=FP8)
    plain = footprint_of_checkpoint(str(MODEL_DIR)).weight_bytes
    halved = footprint_of_checkpoint(str(MODEL_DIR)).weight_bytes - folder.bytes_of(linear) // 2
    assert footprint_of_checkpoint(str(folder), fp8=True).weight_bytes == pytest.approx(halved, rel=0.01)
    assert footprint_of_checkpoint(str(folder), fp8=False).weight_bytes == plain  # unpacked to bfloat16


# ---- LoRA adapters


def write_adapter(path, base, rows=None):
    """An adapter for one projection, and with `rows` an embedding with new tokens."""
    path.mkdir()
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(base),
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens"] if rows else None,
        "task_type": "CAUSAL_LM",
    }
    (path / "adapter_config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    query = AutoModelForCausalLM.from_pretrained(MODEL_DIR).model.layers[0].self_attn.q_proj.weight
    weights = {
        f"{prefix}.lora_A.weight": torch.randn(8, query.shape[1], generator=generator),
        f"{prefix}.lora_B.weight": torch.randn(query.shape[0], 8, generator=generator),
    }
    if rows:
        weights["base_model.model.model.embed_tokens.weight"] = torch.ones(rows, query.shape[1])
    save_file(weights, path / "adapter_model.safetensors", metadata={"format": "pt"})
    return weights, prefix


def test_an_adapter_is_planned_as_its_model_and_says_what_it_needs(tmp_path, monkeypatch):
    write_adapter(tmp_path / "adapter", MODEL_DIR)
    plain = footprint_of_checkpoint(str(MODEL_DIR))
    planned = footprint_of_checkpoint(str(tmp_path / "adapter"))
    assert (planned.weight_bytes, planned.model) == (plain.weight_bytes, "adapter")
    assert load_tokenizer(str(tmp_path / "adapter")).get_vocab() == load_tokenizer(str(MODEL_DIR)).get_vocab()
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    assert "pip install peft" in refusal(tmp_path / "adapter")


def test_an_adapter_whose_model_is_not_there_names_it(tmp_path):
    write_adapter(tmp_path / "adapter", "/models/base")
    message = refusal(tmp_path / "adapter")
    assert "is a LoRA adapter for the model '/models/base'" in message
    assert "base_model_name_or_path" in message


def test_an_adapter_is_merged_where_peft_is_installed(tmp_path):
    pytest.importorskip("peft")
    added, prefix = write_adapter(tmp_path / "adapter", MODEL_DIR)
    merged, plain = weights_of(tmp_path / "adapter"), weights_of(MODEL_DIR)
    name = "model.layers.0.self_attn.q_proj.weight"
    change = added[f"{prefix}.lora_B.weight"] @ added[f"{prefix}.lora_A.weight"] * 16 / 8
    torch.testing.assert_close(merged[name], plain[name] + change)
    assert all(torch.equal(merged[other], plain[other]) for other in plain if other != name)


def test_an_adapter_may_bring_an_embedding_with_new_tokens(tmp_path):
    pytest.importorskip("peft")
    rows = 2168 + 64
    write_adapter(tmp_path / "adapter", MODEL_DIR, rows=rows)
    assert footprint_of_checkpoint(str(tmp_path / "adapter")).vocab_size == rows
    assert load_model(str(tmp_path / "adapter"), device="cpu").get_input_embeddings().weight.shape[0] == rows
