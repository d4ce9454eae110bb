"""The benchmark of several GPUs: a failing part fails alone, what the cards show is judged, and --cpu is a real run."""

import json
import os
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks import multi_gpu_worker
from benchmarks.gpu_use import watching
from benchmarks.host_use import following
from benchmarks.multi_gpu import main, run_part
from benchmarks.multi_gpu_bench import Bench, Load, Row
from benchmarks.multi_gpu_checks import demo_part, forms_of, judge_cards, run_demo
from benchmarks.multi_gpu_throughput import throughput_row
from benchmarks.processes import Deadline, PartError, Worker, end, start
from evaluation.toolbench.inference.multi_gpu.units import GIB

A, B = "GPU-aaaaaaaa", "GPU-bbbbbbbb"


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench((), tmp_path, "tiny", Load(1, 1), Load(2, 2), Load(3, 3), has_checkpoint=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.long
def test_replicas_on_the_cpu_from_end_to_end(capfd):
    assert main(["--cpu", "--parts", "replicas"]) == 0

    printed = capfd.readouterr().out.splitlines()
    rows = json.loads(printed[-1])["rows"]
    assert [row["what"] for row in rows] == [
        "replica 0 ready",
        "replica 1 ready",
        "start of 2 replicas at once",
        "1 replica, 1 conversations",
        "1 replica, 2 conversations",
        "2 replicas, 2 conversations each",
        "2 replicas, host",
    ]
    assert all("queries/min" in row["measured"] for row in rows[3:-1])
    assert json.loads(next(line for line in printed if line.startswith('{"part"')))["part"] == "replicas"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_many_queries_go_through_the_main_script_and_halves_say_what_they_need(capfd):
    assert main(["--cpu", "--parts", "halves,queries"]) == 0
    halves, queries, host = json.loads(capfd.readouterr().out.splitlines()[-1])["rows"]
    assert halves["measured"] == "skip (needs 4 GPUs, found 0)"
    assert queries["measured"].startswith("3 answers, ")
    assert "the parent " in host["measured"]


def test_what_a_process_and_its_children_take_of_the_host_is_counted():
    process = start("-c", "while True: pass", environment=dict(os.environ))
    try:
        with following([process.pid]) as use:
            time.sleep(1.2)
    finally:
        end(process)
    assert 0 < use.cores < 1.5
    assert use.parent_cores == 0  # none of them is a replica


def test_tokens_are_compared_over_all_devices(monkeypatch):
    monkeypatch.setattr(multi_gpu_worker, "_NUM_PROMPTS", 3)
    monkeypatch.setattr(multi_gpu_worker, "_NEW_TOKENS", 6)
    monkeypatch.setattr(multi_gpu_worker, "_SMALL_KV_BYTES", 64 * 2**20)
    answer = multi_gpu_worker.compare_tokens()
    del answer["devices"]
    assert set(answer.values()) == {18}
    assert len(answer) == 4


def test_a_part_that_fails_keeps_its_rows_and_ends_alone(bench, capsys):
    def part(bench, deadline):
        yield Row("first", "fine")
        raise RuntimeError("CUDA error: something\nlong")

    rows = run_part("cards", part, bench, Deadline(10))

    assert [(row.what, row.measured, row.is_ok) for row in rows] == [
        ("first", "fine", True),
        ("cards ended early", "RuntimeError: CUDA error: something", False),
    ]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["part"] == "cards"


def test_a_part_does_not_begin_when_the_run_is_out_of_time(bench):
    [row] = run_part("demo", demo_part, bench, Deadline(0))
    assert (row.measured, row.is_ok) == ("out of time", False)


def test_a_main_script_that_fails_is_shown_whole(bench, tmp_path, capfd):
    query_file = tmp_path / "queries.json"
    query_file.write_text("{}", encoding="utf-8")
    with pytest.raises(PartError) as caught:
        run_demo(bench, Deadline(60), query_file, tmp_path / "answers", "1")
    said = capfd.readouterr().err.strip().splitlines()
    assert str(query_file) in "".join(said)
    assert str(caught.value) == f"NUM_REPLICAS=1: exit code 2: {said[-1].strip()}"


@pytest.mark.parametrize(
    ("code", "limit_s", "words"),
    [("raise SystemExit(3)", 30, "ended with code 3"), ("import time; time.sleep(60)", 0.5, "did not answer in time")],
)
def test_a_worker_that_dies_or_hangs_is_an_error_in_time(code, limit_s, words):
    process = start("-c", code, environment=dict(os.environ))
    try:
        with pytest.raises(PartError, match=words):
            Worker(process, "replica 0").answer(Deadline(limit_s))
    finally:
        end(process)
    assert process.poll() is not None


def test_targets_are_judged():
    assert throughput_row("2 replicas", 200, 1.95, 1.9).is_ok
    missed = throughput_row("2 replicas", 180, 1.85, 1.9, busy_gpus=1.7)
    assert (missed.measured, missed.target, missed.is_ok) == (
        "180.0 queries/min, 1.85 times one GPU, 1.7 GPUs busy at the same time",
        "at least 1.9 times",
        False,
    )


def test_forms_of_cuda_visible_devices():
    assert forms_of([A, B]) == {"1": [B], "1,0": [B, A], f"{B},{A}": [B, A]}
    assert forms_of([A]) == {"0": [A], A: [A]}
    assert forms_of([]) == {"": []}


def cards(order, gained_gib, places):
    return {
        "order": order,
        "torch_sees": len(order),
        "gained_bytes": {uuid: int(size * GIB) for uuid, size in gained_gib.items()},
        "device_map": {f"layers.{i}": str(place) for i, place in enumerate(places)},
    }


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (cards([B, A], {A: 4.7, B: 2.6}, [0, 0, 1]), None),
        (cards([A, B], {A: 4.7, B: 2.6}, [0, 1]), "2 visible"),
        (cards([B, A], {A: 2.6, B: 4.7}, [0, 1]), "GPU-bbbb should have gained 2.0 GiB"),
        (cards([B, A], {A: 4.7, B: 2.6}, [1, 0]), "the map has the order"),
        (cards([B, A], {A: 4.7, B: 2.6}, [0, 0]), "the map has the order"),
        (cards([B, A], {A: 4.7, B: 2.6, "GPU-cccccccc": 1}, [0, 1]), "GPU-cccc is hidden and in use"),
    ],
)
def test_the_cards_that_were_named_are_those_in_use(answer, wrong):
    row = judge_cards("1,0", [B, A], answer)
    assert row.is_ok == (wrong is None)
    assert (wrong or "GPU-bbbb +2.6 GiB, GPU-aaaa +4.7 GiB") in row.measured


def test_gpus_that_take_turns_count_as_one():
    readings = {A: 40, B: 60}
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetUtilizationRates=lambda uuid: SimpleNamespace(gpu=readings[uuid]),
    )
    with watching([A, B], nvml) as use:
        time.sleep(0.35)
    assert (use.busy_gpus, use.shares) == (1.0, [0.4, 0.6])
    with watching([]) as nothing:
        pass
    assert nothing.busy_gpus is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err == "needs 1 GPU, found 0: give --cpu to try the command with a tiny model\n"


def test_unknown_parts_are_named(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--parts", "doctor,magic"])
    assert caught.value.code == 2
    assert (
        "unknown parts magic: choose of doctor, replicas, shards, halves, retrieval, cards, demo, queries"
        in capsys.readouterr().err
    )
