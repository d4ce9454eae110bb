"""A checkpoint that cannot be loaded is refused from its headers, in one clear line."""

import json

import pytest

from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.multi_gpu.checkpoint import read_checkpoint, read_config
from evaluation.toolbench.inference.multi_gpu.model_files import local_folder
from tests.helpers.checkpoint import save_tiny_llama


def test_every_tensor_is_read_from_the_headers(tmp_path):
    one = read_checkpoint(save_tiny_llama(tmp_path / "one"))
    several = read_checkpoint(save_tiny_llama(tmp_path / "several", max_shard_size="20KB"))

    assert len(several.files) > 1
    assert one.tensors == several.tensors
    assert one.tensors["model.embed_tokens.weight"].shape == (97, 32)
    assert one.tensors["model.embed_tokens.weight"].num_bytes == 97 * 32 * 4


def break_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_off(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def cut_off_header(folder):
    (folder / "model.safetensors").write_bytes(b"\x10\x00")


def break_header(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:8] + b"x" + file.read_bytes()[9:])


def change_architecture(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "brain"}))


def write_nonsense(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 0}))


def empty_index(folder):
    break_weights(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')


def lose_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_weights, "no weights in "),
        (cut_off, "is cut off: 88,916 of its 89,016 bytes are there; download it again"),
        (cut_off_header, r"is not a complete safetensors file \(2 bytes\)"),
        (break_header, "has an unreadable header"),
        (change_architecture, "cannot read the config of .*brain"),
        (write_nonsense, "cannot read the config of .*modulo by zero"),
        (empty_index, "index.json names no weight files"),
        (lose_config, "no config.json in .*is this the folder of a checkpoint"),
    ],
)
def test_damage_is_one_clear_line(tmp_path, damage, words):
    folder = save_tiny_llama(tmp_path)
    damage(folder)

    with pytest.raises(DataError, match=words) as caught:
        read_all(folder)
    assert "\n" not in str(caught.value)


def read_all(folder):
    return read_config(str(folder)), read_checkpoint(folder)


def test_missing_shards_are_named(tmp_path):
    folder = save_tiny_llama(tmp_path, max_shard_size="20KB")
    (lost := sorted(folder.glob("model-0000*"))[1]).unlink()

    with pytest.raises(DataError, match=f"1 of the .* weight files .* are missing: {lost.name}"):
        read_checkpoint(folder)


def test_a_path_that_is_no_folder_is_not_taken_for_a_name(tmp_path):
    with pytest.raises(DataError, match="no model folder at"):
        local_folder(str(tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file; give the folder"):
        local_folder(str(tmp_path / "file"))
    assert local_folder("someone/some-model") is None
