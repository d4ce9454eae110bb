"""A checkpoint's generation_config.json holds as it does in transformers' own `generate`, or not at all."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from transformers import LlamaForCausalLM

from evaluation.toolbench.inference.engine.request import Sampling
from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from evaluation.toolbench.inference.toolgen.checkpoint_sampling import checkpoint_sampling
from tests.helpers.toolgen import TOOL_TOKENS, save_tiny_checkpoint, write_data_folder

TEXT = "You answer a request with the help of tools, one step at a time. " * 3


@pytest.fixture
def data_dir(tmp_path):
    return write_data_folder(tmp_path / "data")


@pytest.fixture
def checkpoint_with(tmp_path):
    """A tiny checkpoint with these generation settings; None: without the file."""

    def make(settings):
        folder = save_tiny_checkpoint(tmp_path / "model", TOOL_TOKENS)
        path = folder / "generation_config.json"
        path.unlink() if settings is None else path.write_text(json.dumps(settings), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def agent_of(data_dir):
    """An agent over a checkpoint, whose engine is closed in the end."""
    agents = []

    def make(folder, **options):
        agents.append(ToolGenAtomic(str(folder), device="cpu", data_dir=data_dir, dtype="float32", **options))
        return agents[-1]

    yield make
    for agent in agents:
        agent.engine.close()


def generate_as_toolgen_does(agent, folder, **how):
    """What `model.generate` makes of the text, with ToolGen's arguments and all else left to transformers."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = torch.tensor([agent.language.encoder.encode_text(TEXT)])
    return model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=12,
        eos_token_id=agent.language.actions.end_id,
        pad_token_id=agent.language.actions.end_id,
        return_dict_in_generate=True,
        output_scores=True,
        **how,
    )


@pytest.mark.parametrize(
    ("settings", "sampling"),
    [
        (None, Sampling(top_k=50)),
        ({}, Sampling(top_k=50)),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9}, Sampling(top_k=50, top_p=0.9)),
        ({"repetition_penalty": 1.05, "top_k": 20, "top_p": 0.8}, Sampling(0.0, 0.8, 20, 0, 1.05)),
        ({"top_k": 0, "repetition_penalty": 1}, Sampling()),
    ],
)
def test_the_files_settings_hold_and_those_of_transformers_where_it_is_silent(checkpoint_with, settings, sampling):
    folder = str(checkpoint_with(settings))
    assert checkpoint_sampling(folder, "checkpoint") == sampling
    assert checkpoint_sampling(folder, "ignore") == Sampling()


def test_settings_of_an_old_checkpoint_are_in_its_config(checkpoint_with):
    folder = checkpoint_with(None)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "repetition_penalty": 1.2}), encoding="utf-8")
    assert checkpoint_sampling(str(folder), "checkpoint").repetition_penalty == 1.2


@pytest.mark.parametrize(
    "content", ["{", '{"top_p": 1.5}', '{"repetition_penalty": -1.0}', '{"repetition_penalty": "x"}']
)
def test_settings_that_cannot_be_used_name_the_file_and_the_way_out(checkpoint_with, content):
    folder = checkpoint_with({})
    (folder / "generation_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"generation_config\.json.*--generation_config ignore"):
        checkpoint_sampling(str(folder), "checkpoint")
    with pytest.raises(ConfigError, match="generation_config"):
        AgentOptions(generation_config="some")


def test_settings_that_no_engine_has_are_said(checkpoint_with, caplog):
    folder = str(checkpoint_with({"no_repeat_ngram_size": 3, "typical_p": 1.0, "min_p": 0.05}))
    with caplog.at_level(logging.WARNING):
        checkpoint_sampling(folder, "checkpoint")
    [record] = [record for record in caplog.records if "generation_config.json" in record.message]
    assert "sets min_p, no_repeat_ngram_size, which no engine here applies" in record.message


@pytest.mark.parametrize("engine", ["generate", "paged"])
def test_an_agent_says_what_transformers_says_of_the_checkpoint(checkpoint_with, agent_of, engine):
    folder = checkpoint_with({"repetition_penalty": 1.3, "top_k": 3})
    agent = agent_of(folder, engine=engine, max_new_tokens=12)
    expected = generate_as_toolgen_does(agent, folder, do_sample=False).sequences[0, -12:]
    assert agent.generate(TEXT, do_sample=False)["output_ids"].tolist() == expected.tolist()
    plain = agent_of(folder, engine=engine, max_new_tokens=12, generation_config="ignore")
    assert plain.generate(TEXT, do_sample=False)["output_ids"].tolist() != expected.tolist()


@pytest.mark.parametrize(("settings", "num_kept"), [({}, 50), ({"top_k": 3, "repetition_penalty": 1.3}, 3)])
def test_an_agent_draws_from_what_transformers_draws_from(checkpoint_with, agent_of, settings, num_kept):
    folder = checkpoint_with(settings)
    agent = agent_of(folder, engine="generate", max_new_tokens=1)
    scores = generate_as_toolgen_does(agent, folder, do_sample=True, temperature=0.6).scores[0][0]
    kept = set(scores.isfinite().nonzero().flatten().tolist())
    siblings = [agent.for_query(str(number)) for number in range(40)]
    drawn = {sibling.generate(TEXT, do_sample=True)["output_ids"].item() for sibling in siblings}
    assert len(kept) == num_kept
    assert drawn <= kept
    assert len(drawn) > 2
