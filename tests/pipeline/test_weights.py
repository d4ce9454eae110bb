"""`--weights` of a run: it answers, its record names the format, and what cannot work is refused at once."""

from __future__ import annotations

import pytest

from evaluation.toolbench.demo import DATA_DIR, MODEL_DIR
from evaluation.toolbench.inference.Downstream_tasks.options import parse_options
from evaluation.toolbench.inference.engine.quantized_linear import QuantizedLinear
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.inference.records.run_record import read_run_record
from tests.helpers.pipeline import api_server, run_here, run_pipeline


def test_a_run_in_8_bits_answers_and_its_folder_keeps_to_the_format(world, tmp_path):
    world.make_checkpoint()
    output = tmp_path / "answers"
    with api_server(tmp_path) as url:
        run = run_pipeline(world.flags(output, weights="int8", limit=2), url)
        assert run.returncode == 0, run.stderr
        assert "torchao" not in run.stderr  # which tells of kernels that nobody asked for
        record = read_run_record(output)
        assert (record.configuration["weights"], record.settings["weights"]) == ("int8", "int8")
        assert len(world.answer_names(output)) == 2
        other = run_here(world.flags(output, weights="fp8", limit=2), url)
    assert other.returncode == 2
    assert "weights: int8 -> fp8" in other.stderr


REFUSED = {
    "the server has the weights": (
        {"engine": "server", "engine_url": "http://localhost:1/v1"},
        "--weights int8 with --engine server: the server holds the weights",
    ),
    "layers on the CPU": ({"cpu_offloading": True}, "--weights int8 with --cpu_offloading: layers on the CPU are not"),
    "a checkout's own model": ({"backbone_model": "toolllama"}, "only toolgen_atomic and toolgen are loaded by"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_weights_of_ours_is_refused_before_anything_loads(world, tmp_path, case):
    changes, message = REFUSED[case]
    flags = world.flags(tmp_path / "answers", model_path=world.data, weights="int8", **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        parse_options(flags)
    assert "\n" not in str(caught.value)


def test_an_agent_takes_the_format_as_a_keyword():
    agent = ToolGenAtomic(str(MODEL_DIR), device="cpu", data_dir=DATA_DIR, weights="int8")
    agent.engine.close()
    assert type(agent.model.model.layers[0].self_attn.q_proj) is QuantizedLinear
    with pytest.raises(ConfigError, match="weights='int4' is not one of auto, int8, fp8"):
        ToolGenAtomic(str(MODEL_DIR), device="cpu", data_dir=DATA_DIR, weights="int4")
