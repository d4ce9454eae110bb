"""run.json: everything comes back, nothing secret goes in, and it is never half there."""

import json
import os

import pytest

from evaluation.toolbench.inference.errors import DataError, OutputError
from evaluation.toolbench.inference.records.run_record import (
    ApiStatistics,
    Counts,
    FailureRecord,
    GpuRecord,
    ReplicaRecord,
    RunRecord,
    Tokens,
    read_run_record,
    write_run_record,
)

RECORD = RunRecord(
    run_id="run-1",
    status="finished",
    started=1_700_000_000.0,
    ended=1_700_000_100.0,
    configuration={"model_path": "m", "num_thread": 16, "max_new_tokens": 512, "use_rapidapi_key": True},
    versions={"torch": "2.11.0"},
    gpus=[GpuRecord("GPU-a", "H100", 80, 0), GpuRecord("GPU-b", "H100", 80)],
    layout=[ReplicaRecord(0, ["GPU-a"], 16, {"lm_head": 0})],
    layout_reason="fits on one GPU",
    seeds={"python": 42},
    timings_s={"load": 20.5},
    counts=Counts(queries=3, answered=2, failed=1),
    tokens=Tokens(1000, 100),
    api=ApiStatistics(calls=4, errors=1, by_code={"0": 3, "5": 1}),
    failures=[FailureRecord("9", "EngineError", "too long")],
)


def test_a_record_comes_back_as_it_was(tmp_path):
    write_run_record(tmp_path, RECORD)
    assert read_run_record(tmp_path) == RECORD


def test_a_folder_without_a_record_has_none(tmp_path):
    assert read_run_record(tmp_path) is None


@pytest.mark.parametrize(
    "name", ["openai_key", "toolbench_key", "rapidapi_key", "OPENAI_KEY", "api_keys", "hf_token", "password"]
)
def test_secrets_are_hidden_wherever_they_are_quoted(tmp_path, name):
    record = RunRecord(
        "run-1",
        "failed",
        0.0,
        configuration={name: "sk-12345", "service_url": "http://user:pw@host/virtual", "nested": {name: "sk-999"}},
        failures=[FailureRecord("1", "ApiError", "401 for key sk-12345")],
    )
    text = write_run_record(tmp_path, record).read_text()
    assert not any(secret in text for secret in ("sk-12345", "sk-999", "user:pw"))
    assert "401 for key (hidden)" in text
    assert "http://(hidden)@host/virtual" in text


def test_what_only_sounds_like_a_secret_is_kept(tmp_path):
    write_run_record(tmp_path, RECORD)
    kept = read_run_record(tmp_path)
    assert kept.configuration == RECORD.configuration
    empty = RunRecord("run-1", "finished", 0.0, configuration={"openai_key": ""})
    assert empty.to_json()["configuration"] == {"openai_key": ""}


def test_keys_of_a_later_version_are_left_out(tmp_path):
    record = RECORD.to_json() | {"mood": "good"}
    record["counts"]["skipped"] = 1
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert read_run_record(tmp_path) == RECORD


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "{}"),
        *(
            json.dumps({"run_id": "r", "status": "s", "started": 0, **wrong})
            for wrong in (
                *({"gpus": 3}, {"gpus": {}}, {"configuration": "x"}, {"settings": [1]}, {"counts": {"queries": {}}}),
                *({"started": None}, {"status": 1}, {"rates": {"tokens_per_s": "fast"}}, {"timings_s": None}),
            )
        ),
    ],
)
def test_a_record_that_is_none_is_a_data_error(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(DataError, match=r"cannot read the run's record .*run\.json.*move it away"):
        read_run_record(tmp_path)


def test_the_old_record_stays_when_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    write_run_record(tmp_path, RECORD)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        write_run_record(tmp_path, RunRecord("run-2", "running", 0.0))
    assert read_run_record(tmp_path) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
