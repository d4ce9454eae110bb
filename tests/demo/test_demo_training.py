"""What the demo's model is trained on is what the agent will ask it, and training lowers the loss."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from random import Random

import pytest
import torch
from transformers import AutoTokenizer

from evaluation.toolbench.demo import DATA_DIR
from evaluation.toolbench.demo.conversations import Renderer
from evaluation.toolbench.demo.corpus import Batch, Corpus, demo_catalog, pad_rows, sample_row
from evaluation.toolbench.demo.samples import as_sample, demo_queries, training_sample
from evaluation.toolbench.demo.train import TrainingConfig, build_model, build_tokenizer, learning_rate, main, train
from evaluation.toolbench.demo.world.values import HELD_OUT, lexicon
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from evaluation.toolbench.inference.toolgen.prompts import LAYOUTS
from tests.helpers.toolgen import ScriptedEngine

CATALOG = demo_catalog(DATA_DIR)
TWO_CALLS = next(query for query in demo_queries() if len(query.trajectory.steps) == 2)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(CATALOG, seed=1)


@pytest.fixture(scope="module")
def renderer(tokenizer):
    return Renderer.of(CATALOG, tokenizer)


def agent_prompts(tokenizer, layout: str) -> list[list[tuple[int, ...]]]:
    """Per step, the ids that the agent gives the engine when the model answers as it should."""
    sample = as_sample(TWO_CALLS.trajectory)
    engine = ScriptedEngine(
        tokenizer, [text for turn in sample.turns for text in (turn.thought, turn.action, turn.arguments)]
    )
    options = AgentOptions(data_dir=DATA_DIR, prompt_layout=layout)
    agent = ToolGenAtomic.around(None, tokenizer, engine, options)
    messages = [{"role": "system", "content": "any"}, {"role": "user", "content": f"\n{sample.question}\nBegin!\n"}]
    for turn in sample.turns:
        agent.change_messages(messages)
        message, code, _ = agent.parse(process_id=0, tools=[])
        assert code == 0
        messages = [*messages, message, {"role": "tool", "content": turn.observation}]
    prompts = [tuple(request.prompt_ids) for request in engine.requests]
    return [prompts[start : start + 3] for start in range(0, len(prompts), 3)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_agent_asks_for_exactly_what_was_trained(tokenizer, renderer, layout):
    sample = as_sample(TWO_CALLS.trajectory)
    for step, prompts in enumerate(agent_prompts(tokenizer, layout)):
        row = renderer.row(sample, LAYOUTS[layout], step)
        turn = sample.turns[step]
        for prompt, text in zip(prompts, (turn.thought, turn.action, turn.arguments), strict=True):
            answer = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            end = len(prompt) + len(answer)
            assert row.ids[:end] == [*prompt, *answer]
            assert row.written[len(prompt) - 1 : end] == [False, *[True] * len(answer)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_steps_are_learnt_from_the_last_ones_row(renderer, layout):
    sample = as_sample(TWO_CALLS.trajectory)
    rows = [renderer.row(sample, LAYOUTS[layout], step) for step in range(3)]
    written = [sum(row.written) for row in rows]
    assert written[0] < written[1] < written[2]
    alone = [len(renderer.encoder.encode_bare(f"{t.thought}{t.action}{t.arguments}")) + 3 for t in sample.turns]
    assert written[2] >= sum(alone)


def test_value_has_the_same_tokens_wherever_it_stands(tokenizer):
    for kind, values in HELD_OUT.items():
        for value in values:
            ids = tokenizer(str(value), add_special_tokens=False)["input_ids"]
            question = f"What about '{value}'?" if kind == "word" else f"What about {value}?"
            for text in (question, f'{{"a": "{value}", "b": 3}}', f"('{value}').", f"\n{value}\nBegin!"):
                around = tokenizer(text, add_special_tokens=False)["input_ids"]
                assert any(around[start : start + len(ids)] == ids for start in range(len(around))), (kind, text)


def test_values_are_a_few_tokens(tokenizer):
    """Two words, three pairs: every part of the lexicon is one token."""
    values = [str(value) for values in HELD_OUT.values() for value in values]
    for text in (*lexicon(), *values):
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= 3, text


def test_tokenizer_is_the_same_when_it_is_loaded(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for query in demo_queries():
        text = f"{query.trajectory.question} {query.trajectory.answer} unheard-of Ünicode"
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.decode(loaded(text, add_special_tokens=False)["input_ids"]) == text


def test_every_action_is_one_token(tokenizer):
    assert all(len(tokenizer(action, add_special_tokens=False)["input_ids"]) == 1 for action in CATALOG.actions)


def test_batches_are_as_many_as_asked_for_and_come_in_order(tokenizer, renderer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    corpus = Corpus(DATA_DIR, tmp_path, seed=1, batch_size=2)
    batches = list(corpus.batches(num_batches=100, num_workers=1))
    expected = [batch for number in range(7) for batch in corpus.chunk(renderer, number)][:100]
    assert [batch.ids.tolist() for batch in batches] == [batch.ids.tolist() for batch in expected]


def test_padding_is_never_written(renderer):
    rng = Random(2)
    rows = [sample_row(renderer, rng) for _ in range(8)]
    batch = pad_rows(rows)
    assert batch.written.sum() == sum(sum(row.written) for row in rows)
    assert all(list(ids[: len(row.ids)]) == row.ids for ids, row in zip(batch.ids, rows, strict=True))


def test_learning_rate_warms_up_and_ends_small():
    config = TrainingConfig(warmup_steps=10, learning_rate=1.0, final_share=0.1)
    rates = [learning_rate(config, step, 100) for step in range(101)]
    assert rates[0] == 0.1
    assert rates.index(max(rates)) in (9, 10)
    assert rates[100] == pytest.approx(0.1)


def test_training_lowers_the_loss(tokenizer, renderer, capsys):
    """One small batch again and again: what is learned is beside the point, that gradients arrive is not."""
    config = TrainingConfig(steps=100, warmup_steps=5, hidden_size=32, intermediate_size=32, num_layers=1, num_heads=2)
    rng = Random(1)
    rows = [renderer.row(training_sample(rng), LAYOUTS["upstream"], 0) for _ in range(2)]
    batch = pad_rows([row._replace(ids=row.ids[-200:], written=row.written[-200:]) for row in rows])
    torch.manual_seed(0)

    def final_loss(batches: list[Batch]) -> float:
        settings = replace(config, steps=len(batches))
        return train(build_model(tokenizer, settings), batches, settings, deadline=time.monotonic() + 60)["loss"]

    assert final_loss([batch] * 100) < 0.9 * final_loss([batch])


def test_training_ends_before_its_deadline(tokenizer, renderer):
    config = TrainingConfig(
        steps=10_000, warmup_steps=5, hidden_size=32, intermediate_size=32, num_layers=1, num_heads=2
    )
    batch = pad_rows([renderer.row(training_sample(Random(1)), LAYOUTS["upstream"], 0)._replace()])
    batch = Batch(batch.ids[:, -64:], batch.written[:, -64:])
    log = train(build_model(tokenizer, config), [batch] * 10_000, config, deadline=time.monotonic())
    assert log["steps"] < 200


def test_a_model_that_is_there_is_not_replaced_unasked(tmp_path, monkeypatch, capsys):
    (tmp_path / "model.safetensors").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["train", "--steps", "1", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "has a model already: name another --out, or add --overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
