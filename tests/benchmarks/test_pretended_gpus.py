"""The engine over pretended GPUs: real conversations, in the time that the GPUs are said to take."""

from __future__ import annotations

import json

from benchmarks import pretended_gpus
from evaluation.toolbench.inference.engine.paged import engine
from evaluation.toolbench.inference.engine.paged.execution.runner import ModelRunner
from evaluation.toolbench.inference.engine.paged.execution.staging import Staging


def test_conversations_end_no_earlier_than_the_gpus_allow_and_all_is_as_before(capsys):
    wait = Staging.wait
    assert pretended_gpus.main(["--stages", "2", "--conversations", "6", "--rounds", "0.5"]) == 0
    [found] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found["queries_per_min"] > 0
    assert len(found["busy"]) == 2
    assert all(0 < share <= 1 for share in found["busy"])
    assert found["late_ms"] >= 0
    assert engine.ModelRunner is ModelRunner
    assert Staging.wait is wait
