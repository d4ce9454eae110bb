import pytest

from tests.helpers.fake_generation_server import running
from tests.helpers.fake_judge import FakeJudge
from tests.helpers.scoring import JUDGE_VARIABLES, ScoringWorld


@pytest.fixture(autouse=True)
def no_judge_in_the_environment(monkeypatch):
    for name in JUDGE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def world(tmp_path):
    return ScoringWorld(tmp_path)


@pytest.fixture
def judge():
    with running(FakeJudge()) as judge:
        yield judge
