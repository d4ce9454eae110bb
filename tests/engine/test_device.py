"""What an environment takes from a model over several GPUs is said once, in one line."""

from __future__ import annotations

import pytest
import torch

from evaluation.toolbench.inference.engine import QUEUES, QUEUES_VARIABLE
from evaluation.toolbench.inference.engine.device import warn_of_few_queues

ONE, TWO = {torch.device("cuda:0")}, {torch.device("cuda:0"), torch.device("cuda:1")}


@pytest.mark.parametrize(
    ("devices", "value", "is_said"),
    [(TWO, "1", True), (TWO, "8", True), (TWO, str(QUEUES), False), (TWO, "many", False), (ONE, "1", False)],
)
def test_too_few_hardware_queues_are_said_with_the_remedy(monkeypatch, caplog, devices, value, is_said):
    monkeypatch.setenv(QUEUES_VARIABLE, value)
    warn_of_few_queues(devices)
    assert [f"{QUEUES_VARIABLE}={value} is set" in line and "unset" in line for line in caplog.messages] == [
        True
    ] * is_said


def test_nobody_is_warned_of_what_is_set_where_nothing_was(monkeypatch, caplog):
    monkeypatch.setenv(QUEUES_VARIABLE, str(QUEUES))
    warn_of_few_queues(TWO)
    monkeypatch.delenv(QUEUES_VARIABLE)
    warn_of_few_queues(TWO)
    assert not caplog.messages
