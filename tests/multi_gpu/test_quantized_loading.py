"""Checkpoints loaded in 8 bits: what is quantised, what never lies in memory, and what is refused."""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evaluation.toolbench.demo import MODEL_DIR
from evaluation.toolbench.inference.engine.quantized_linear import QuantizedLinear
from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.multi_gpu import quantized_loading
from evaluation.toolbench.inference.multi_gpu.checkpoint import read_checkpoint
from evaluation.toolbench.inference.multi_gpu.footprint import footprint_of_checkpoint
from evaluation.toolbench.inference.multi_gpu.loading import load_model, load_with
from evaluation.toolbench.inference.multi_gpu.number_formats import EIGHT_BIT
from evaluation.toolbench.inference.multi_gpu.quantized_loading import quantize
from tests.helpers.checkpoint import save_tiny_llama
from tests.helpers.pipeline import ROOT, environment

FORMATS = pytest.mark.parametrize("weights", EIGHT_BIT)


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


class LiveBytes(TorchDispatchMode):
    """Notes the most bytes that tensors made by operations have taken at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if type(tensor) is torch.Tensor and tensor.device.type != "meta":
                storage = tensor.untyped_storage()
                self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(num_bytes for _, num_bytes in self._live.values()))
        return result


@FORMATS
def test_decoder_layers_are_quantised_and_nothing_else_and_take_what_was_planned(weights):
    plain, model = load_model(str(MODEL_DIR), device="cpu"), load_model(str(MODEL_DIR), device="cpu", weights=weights)
    kinds = {name: type(module) for name, module in model.named_modules()}
    for name, module in plain.named_modules():
        in_layer = type(module) is nn.Linear and ".layers." in name
        assert kinds[name] is (QuantizedLinear if in_layer else type(module))
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"):
        assert torch.equal(model.get_parameter(name), plain.get_parameter(name))
    planned = footprint_of_checkpoint(str(MODEL_DIR), torch.float32, weights=weights).weight_bytes
    assert planned == sum(tensor.nbytes for tensor in tensors(model).values())
    assert getattr(model.config, "quantization_config", None) is None


@FORMATS
def test_quantising_in_memory_gives_what_quantising_while_loading_gives(weights):
    loaded = load_model(str(MODEL_DIR), device="cpu", weights=weights, dtype="bfloat16")
    model = load_model(str(MODEL_DIR), device="cpu", dtype="bfloat16")
    quantize(model, weights, footprint_of_checkpoint(str(MODEL_DIR), weights=weights))
    others = tensors(model)
    for name, tensor in tensors(loaded).items():
        assert tensor.dtype == others[name].dtype
        assert torch.equal(tensor.float(), others[name].float())


def test_the_model_is_never_in_memory_in_16_bits(tmp_path, monkeypatch):
    """Stored in float32 and loaded in bfloat16, every weight passes an operation and is seen."""
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # as it is in any case while weights are quantised
    size = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 12}
    folder = str(save_tiny_llama(tmp_path, **size))

    def peak(weights: str) -> int:
        with LiveBytes() as live:
            load_model(folder, device="cpu", dtype="bfloat16", weights=weights)
        return live.peak

    in_16_bits = footprint_of_checkpoint(folder).weight_bytes
    largest = 128 * 512 * 4  # a weight in float32, of which quantising holds several for a moment
    assert peak("auto") >= in_16_bits
    for weights in EIGHT_BIT:
        planned = footprint_of_checkpoint(folder, weights=weights).weight_bytes
        assert peak(weights) < planned + 8 * largest < in_16_bits + 4 * largest


@FORMATS
def test_nothing_but_its_layer_holds_a_quantised_weight(weights):
    """Weights on a GPU are moved after loading: where they were has to be free at once, without the collector."""
    gc.collect()
    gc.disable()
    try:
        model = load_model(str(MODEL_DIR), device="cpu", weights=weights)
        held = [module.weight for module in model.modules() if isinstance(module, QuantizedLinear)]
        storages = [StorageWeakRef(weight.untyped_storage()) for weight in held]
        for weight in held:
            weight.data = weight.new_empty(0)
        assert held
        assert all(storage.expired() for storage in storages)
    finally:
        gc.enable()


@FORMATS
def test_a_model_in_several_places_is_quantised_in_each(tmp_path, weights):
    folder = str(save_tiny_llama(tmp_path))
    names = ["model.embed_tokens", "model.rotary_emb", "model.layers.0", "model.layers.1", "model.norm", "lm_head"]
    whole = load_with(folder, {"device_map": {"": "cpu"}}, dtype=torch.float32, weights=weights)
    spread = load_with(
        folder, {"device_map": dict.fromkeys(names, torch.device("cpu"))}, dtype=torch.float32, weights=weights
    )
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(whole(ids).logits, spread(ids).logits)


def test_layers_on_the_cpu_beside_gpus_are_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="--weights int8 with --cpu_offloading: layers on the CPU are not quantised"):
        load_model(str(save_tiny_llama(tmp_path)), device="cpu", cpu_offloading=True, weights="int8")


def test_a_missing_or_old_torchao_is_named_with_the_line_that_installs_it(tmp_path):
    """A package of an early version goes before the installed one."""
    (tmp_path / "torchao").mkdir()
    (tmp_path / "torchao/__init__.py").write_text('__version__ = "0.1.0"\n')
    (tmp_path / "torchao-0.1.0.dist-info").mkdir()
    (tmp_path / "torchao-0.1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torchao\nVersion: 0.1.0\n")
    program = (
        "from evaluation.toolbench.inference.multi_gpu.loading import load_model\n"
        "from evaluation.toolbench.inference.errors import ConfigError\n"
        "try:\n"
        f"    load_model({str(MODEL_DIR)!r}, device='cpu', weights='int8')\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(None, PYTHONPATH=f"{tmp_path}:{ROOT}"),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.stdout == '--weights int8 needs a package: pip install "torchao>=0.18,<0.19"\n', run.stderr


def test_weights_that_are_packed_are_the_same_and_of_their_module():
    model = load_model(str(MODEL_DIR), device="cpu", weights="int8")
    linears = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    before = [linear.weight.clone() for linear in linears]
    quantized_loading._pack(linears)
    for linear, weight in zip(linears, before, strict=True):
        assert isinstance(linear.weight, nn.Parameter)
        assert torch.equal(linear.weight, weight)


def test_a_compressed_checkpoint_is_planned_as_it_is_stored_or_refused_with_the_package_that_it_needs(tmp_path):
    folder = save_tiny_llama(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "compressed-tensors", "format": "float-quantized"}
    (folder / "config.json").write_text(json.dumps(config))
    stored = sum(tensor.num_bytes for tensor in read_checkpoint(folder).tensors.values())
    assert footprint_of_checkpoint(str(folder)).weight_bytes == pytest.approx(stored, rel=0.01)
    with pytest.raises(ConfigError, match=r"quantised already \(compressed-tensors\): leave --weights out"):
        load_model(str(folder), device="cpu", weights="int8")
    if importlib.util.find_spec("compressed_tensors") is None:
        with pytest.raises(DataError, match="pip install compressed-tensors") as caught:
            load_model(str(folder), device="cpu")
        assert "\n" not in str(caught.value)
