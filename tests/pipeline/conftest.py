from __future__ import annotations

import pytest

from evaluation.toolbench.inference.Downstream_tasks import one_query, query_replica, rapidapi_multithread
from evaluation.toolbench.inference.Downstream_tasks.options import parse_options
from tests.helpers.environment import FakeApi
from tests.helpers.pipeline import World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def runner_of(world, monkeypatch, tmp_path):
    """A runner whose model and API are scripted."""
    for module in (rapidapi_multithread, one_query, query_replica):
        monkeypatch.setattr(module, "api_caller", lambda tools: FakeApi())

    def make(model, output=None, args=None, **changes):
        monkeypatch.setattr(query_replica, "make_backbone", lambda *_, **__: model)
        changes = {"model_path": world.data, **changes}
        options = args or parse_options(world.flags(output or tmp_path / "answers", **changes))
        return rapidapi_multithread.pipeline_runner(options)

    return make
