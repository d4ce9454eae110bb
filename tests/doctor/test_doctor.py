"""The doctor: a line a check, what to try on failure, and exit codes that scripts can use."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from evaluation.toolbench.inference.doctor import command, machine_checks, peer_copies
from evaluation.toolbench.inference.doctor import machine as machine_module
from evaluation.toolbench.inference.doctor.command import main, verdict
from evaluation.toolbench.inference.doctor.machine import Machine, Options
from evaluation.toolbench.inference.doctor.machine_checks import (
    check_cards,
    check_gpus,
    check_main_memory,
    check_versions,
    check_visible_devices,
)
from evaluation.toolbench.inference.doctor.memory_check import fill
from evaluation.toolbench.inference.doctor.model_checks import check_layout, compare_tokens, judge_device_map
from evaluation.toolbench.inference.doctor.peer_copies import copy_and_verify, copy_pairs, judge
from evaluation.toolbench.inference.engine.paged.engine import PagedEngine
from evaluation.toolbench.inference.errors import DataError, PlacementError
from evaluation.toolbench.inference.finding import Finding
from evaluation.toolbench.inference.multi_gpu.gpu_config import GpuConfig
from evaluation.toolbench.inference.multi_gpu.gpus import Inspection, inspect_gpus
from evaluation.toolbench.inference.multi_gpu.nvml import Gpu
from evaluation.toolbench.inference.multi_gpu.units import GIB
from tests.helpers.checkpoint import save_tiny_llama
from tests.helpers.engine import tiny_llama
from tests.helpers.fake_nvml import BrokenNvml, FakeGpu, FakeNvml

ROOT = Path(__file__).resolve().parents[2]
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def save_checkpoint(folder: Path, highest_id: int = 96) -> str:
    """A tiny Llama of 97 rows, with a tokenizer that knows two tool tokens."""
    save_tiny_llama(folder)
    vocabulary = {"<<Finish>>": 0, "word": 1, "<<Weather&&today>>": highest_id}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="word"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return str(folder)


def machine_with(*gpus: FakeGpu, environ=None, options: Options | None = None) -> Machine:
    machine = Machine(options or Options())
    machine.__dict__["found"] = inspect_gpus(FakeNvml(*gpus), environ or {})
    return machine


@pytest.fixture
def torch_sees(monkeypatch):
    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


# ---- real machines


def test_a_driver_that_does_not_work_fails_in_nvmls_words():
    machine = Machine(Options())
    machine.__dict__["found"] = inspect_gpus(BrokenNvml("Driver/library version mismatch"), {})
    [finding] = check_versions(machine)
    assert finding.status == "fail"
    assert finding.measured.startswith("Driver/library version mismatch; ")
    assert "restart the machine" in finding.advice


def test_cards_say_what_they_compute_in(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90"])
    [old_and_new] = check_cards(machine_with(FakeGpu("GPU-0", capability=(7, 5)), FakeGpu("GPU-1", capability=(9, 0))))
    assert old_and_new.status == "ok"
    assert "7.5" in old_and_new.measured
    assert "dtype auto is float16" in old_and_new.measured
    [too_old] = check_cards(machine_with(FakeGpu("GPU-0", capability=(6, 1))))
    assert (too_old.status, "compute capability 6.1" in too_old.advice) == ("fail", True)


def test_a_compute_mode_that_keeps_us_off_fails(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    [open_to_one] = check_cards(machine_with(FakeGpu("GPU-0", compute_mode=3)))
    assert (open_to_one.status, "cuda:0 is exclusive" in open_to_one.measured) == ("ok", True)
    [closed] = check_cards(machine_with(FakeGpu("GPU-0", compute_mode=2)))
    assert (closed.status, "PROHIBITED" in closed.advice) == ("fail", True)


def test_a_containers_limit_on_main_memory_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_checks, "memory_limit", lambda: 16 * GIB)
    monkeypatch.setattr(machine_checks, "available_bytes", lambda: 12 * GIB)
    [finding] = check_main_memory(Machine(Options()))
    assert finding.measured == "12.0 GiB can be used, of the 16.0 GiB that this container or job may use"
    monkeypatch.setattr(machine_checks, "available_bytes", lambda: 1000)
    machine = Machine(Options(model_path=save_checkpoint(tmp_path)))
    machine.__dict__["found"] = inspect_gpus(FakeNvml(), {})
    [finding] = check_main_memory(machine)
    assert (finding.status, "do not fit" in finding.advice) == ("fail", True)


# ---- the command


@without_gpu
def test_without_a_gpu_the_cpu_checks_run_and_the_others_say_why_not(tmp_path, capsys):
    assert main(["--model_path", save_checkpoint(tmp_path)]) == 0

    printed = capsys.readouterr().out
    assert "peer copies          skip (needs 2 GPUs, found 0)" in printed
    assert "longest conversation skip (needs 1 GPU, found 0)" in printed
    assert "in 0." in printed
    assert "    model.layers.0-1: cpu\n" in printed
    assert "generation           ok    64 tokens at " in printed
    assert "tool tokens          ok    2 tool tokens, highest id 96, embedding of 97 rows" in printed


@without_gpu
def test_json_has_the_same_facts(tmp_path, capsys):
    assert main(["--json", "--model_path", save_checkpoint(tmp_path)]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == 0
    facts = {check["check"]: check["facts"] for check in report["checks"]}
    assert facts["tool tokens"] == {"tool_tokens": 2, "highest_id": 96, "embedding_rows": 97}
    assert facts["generation"]["tokens_per_s"] > 0
    assert facts["versions"]["torch"] == torch.__version__


@without_gpu
def test_a_tool_token_beyond_the_embedding_fails_the_check(tmp_path, capsys):
    assert main(["--model_path", save_checkpoint(tmp_path, highest_id=97)]) == 1

    printed = capsys.readouterr().out
    assert "tool tokens          FAIL  2 tool tokens, highest id 97, embedding of 97 rows" in printed
    assert "try   load the tokenizer that was saved beside this checkpoint" in printed


@without_gpu
def test_a_model_that_cannot_be_loaded_fails_one_check_and_is_tried_once(tmp_path, capsys, monkeypatch):
    attempts = []

    def fails(*_, **__):
        attempts.append(1)
        raise DataError("the weights are of another model")

    monkeypatch.setattr(machine_module, "load_model", fails)

    assert main(["--model_path", save_checkpoint(tmp_path)]) == 1

    printed = capsys.readouterr().out
    assert "loading              FAIL  the weights are of another model" in printed
    assert "generation           skip (" in printed
    assert len(attempts) == 1


def test_a_checkpoint_that_cannot_be_read_is_one_line_and_code_2(tmp_path, capsys):
    assert main(["--model_path", str(tmp_path)]) == 2
    assert "no config.json in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max_gpu_memory", "lots"], "'lots' is not an amount of memory"),
        (["--dtype", "int3"], "dtype='int3' is not one of"),
        (["--num_gpus", "64"], "num_gpus=64, but CUDA sees"),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_code_2_with_and_without_a_gpu(flags, words, capsys):
    assert main(flags) == 2
    assert words in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def test_an_amount_that_a_card_does_not_have_is_refused_before_any_check(torch_sees):
    torch_sees(1)
    machine = machine_with(FakeGpu("GPU-a"), options=Options(gpus=GpuConfig(max_gpu_memory="48GiB")))
    with pytest.raises(PlacementError, match=r"which has 24\.0 GiB"):
        machine.check_options()


@pytest.mark.parametrize("flags", [["--num_gpus", "x"], ["--num_replicas", "0"], ["--num_replicas", "some"]])
def test_flags_that_cannot_be_read_are_one_line(flags, capsys):
    with pytest.raises(SystemExit) as caught:
        main(flags)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_check_that_breaks_is_a_finding_and_the_others_run(capsys, monkeypatch):
    def breaks(machine):
        raise RuntimeError("CUDA error: something\nlong")

    checks = {"breaks": breaks, "works": lambda machine: [Finding("works", "ok", "fine")]}
    monkeypatch.setattr(command, "CHECKS", checks)

    assert main([]) == 1

    printed = capsys.readouterr().out
    assert "breaks               FAIL  RuntimeError: CUDA error: something\n" in printed
    assert "works                ok    fine" in printed


def test_nothing_happens_at_import():
    code = "import test_multi_gpu, sys; assert 'torch' not in sys.modules and 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_under_pytest_every_check_is_a_test():
    arguments = ["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "test_multi_gpu.py"]
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert collected == [f"test_multi_gpu.py::test_this_machine[{check}]" for check in command.CHECKS]


# ---- the checks


def test_the_table_names_every_gpu_and_its_holders(torch_sees):
    torch_sees(1)
    holders = [(4121, "/usr/bin/python3 train.py", 20 * GIB)]
    machine = machine_with(
        FakeGpu("GPU-aaaa", used=20 * GIB, holders=holders), FakeGpu("GPU-bbbb"), environ={"CUDA_VISIBLE_DEVICES": "1"}
    )

    [finding] = check_gpus(machine)

    assert finding.measured == "1 visible of 2"
    assert "hidden  0" in finding.details[1]
    assert "4.0 GiB of 24.0 GiB" in finding.details[1]
    assert finding.details[1].endswith("20.0 GiB by pid 4121, python3")
    assert finding.details[2].startswith("cuda:0  1     NVIDIA GeForce RTX 4090")
    json.dumps(finding.as_json(), default=str)


@pytest.mark.parametrize(
    ("text", "seen", "status", "words"),
    [
        (None, 2, "ok", "is not set (FASTEST_FIRST): cuda:0 is the driver's GPU 0, cuda:1 is the driver's GPU 1"),
        ("1,0", 2, "ok", "cuda:0 is the driver's GPU 1"),
        ("", 0, "ok", "no GPU is visible"),
        ("0,7", 1, "fail", "CUDA stops at '7', which is not an index below 2"),
        ("0,0", 0, "fail", "names a GPU for the second time"),
        ("0,1", 1, "fail", "CUDA_VISIBLE_DEVICES=0,1"),
    ],
)
def test_what_visible_devices_means_here(torch_sees, text, seen, status, words):
    torch_sees(seen)
    environ = {} if text is None else {"CUDA_VISIBLE_DEVICES": text}
    [finding] = check_visible_devices(machine_with(FakeGpu("GPU-a"), FakeGpu("GPU-b"), environ=environ))

    assert finding.status == status
    assert words in finding.measured
    assert bool(finding.advice) == (status == "fail")


def test_without_nvml_a_gpu_has_its_name(torch_sees):
    torch_sees(1)
    machine = Machine(Options())
    card = Gpu("GPU-a", "Some Card", 8 * GIB, 8 * GIB, cuda_index=0)
    machine.__dict__["found"] = Inspection((card,), (card,))
    assert "cuda:0 is Some Card" in check_visible_devices(machine)[0].measured
    assert check_gpus(machine)[0].details[1].startswith("cuda:0  -     Some Card")


def test_a_driver_that_torch_cannot_use_fails_with_what_to_do(torch_sees):
    torch_sees(0)
    [finding] = check_versions(machine_with(FakeGpu("GPU-a")))
    assert finding.status == "fail"
    assert "driver 560.35.03 (CUDA 12.6)" in finding.measured
    assert "update the driver" in finding.advice


def test_the_layout_of_this_machine_or_why_there_is_none(torch_sees):
    torch_sees(2)
    [fits] = check_layout(machine_with(FakeGpu("GPU-a"), FakeGpu("GPU-b")))
    assert fits.measured == "1 replica of ToolGen-Llama-3-8B"
    assert fits.facts["replicas"][0]["lm_head"] == 1

    [misfit] = check_layout(machine_with(FakeGpu("GPU-a", total=8 * GIB), FakeGpu("GPU-b", total=8 * GIB)))
    assert misfit.status == "fail"
    assert "GiB are missing" in misfit.measured


def test_a_gpu_that_holds_nothing_fails_the_check():
    device_map = {"embed": 1, "layers.0": 1, "layers.1": 2, "head": 2}
    assert judge_device_map("device map", device_map, (1, 2)).status == "ok"
    finding = judge_device_map("device map", device_map, (0, 1, 2))
    assert finding.status == "fail"
    assert finding.measured.endswith("GPU 0 holds nothing")


def test_the_longest_conversation_runs_beside_the_others():
    with contextlib.closing(PagedEngine(tiny_llama(), num_pages=40, page_size=16)) as engine:
        fill(engine, conversations=5, length=128)
        counts = engine.counts()
    assert counts.prefill_tokens == 120 + 4 * 16
    assert counts.drawn_tokens == 8 + 4 * 64


@pytest.mark.parametrize(("seed", "status"), [(0, "ok"), (1, "fail")])
def test_tokens_are_those_of_one_device_by_either_engine(seed, status):
    finding = compare_tokens("same tokens", tiny_llama(), tiny_llama(seed), [0, 1], prompts=2)
    assert finding.status == status
    assert (finding.facts["equal"] == {"generate": 128, "paged": 128}) == (status == "ok")


# ---- copies between GPUs


def test_a_copy_is_verified_on_both_sides():
    facts = copy_and_verify("cpu", "cpu", 4096)
    assert facts["num_bytes"] == facts["right_at_target"] == facts["right_at_source"] == 4096
    assert facts["bytes_per_s"] > 0


FACTS = {"num_bytes": 1024, "right_at_target": 1024, "right_at_source": 1024, "bytes_per_s": 25e9, "peer_access": True}


@pytest.mark.parametrize(
    ("outcome", "link", "status", "measured"),
    [
        (FACTS, "NVLink", "ok", "25.0 GB/s, peer access (NVLink), all bytes right"),
        (FACTS | {"peer_access": False}, None, "ok", "25.0 GB/s, through the host, all bytes right"),
        (
            FACTS | {"right_at_target": 0},
            "host bridge",
            "fail",
            "1,024 of 1,024 bytes arrive wrong, although CUDA reports peer access (host bridge)",
        ),
        (
            FACTS | {"right_at_source": 1000},
            None,
            "fail",
            "24 of 1,024 bytes arrive wrong, although CUDA reports peer access",
        ),
        ("ended with code 1: CUDA error", None, "fail", "ended with code 1: CUDA error"),
    ],
)
def test_a_copy_is_judged(outcome, link, status, measured):
    finding = judge((0, 1), outcome, 2, link)
    assert (finding.check, finding.status, finding.measured) == ("copy 0 -> 1", status, measured)
    assert ("--num_replicas 2" in finding.advice) == (status == "fail")


def test_copies_go_on_after_one_that_ends_the_process_and_one_that_hangs(monkeypatch):
    monkeypatch.setattr(peer_copies, "TIME_LIMIT_S", 3.0)
    code = """
import sys, time
for pair in sys.argv[1:]:
    if pair == "cuda:0,cuda:2":
        raise SystemExit("CUDA error")
    if pair == "cuda:1,cuda:0":
        time.sleep(60)
    print('{"pair": "%s"}' % pair, flush=True)
"""
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2)]
    assert copy_pairs(pairs, [sys.executable, "-c", code]) == {
        (0, 1): {"pair": "cuda:0,cuda:1"},
        (0, 2): "ended with code 1: CUDA error",
        (1, 0): "no answer within 3 s",
        (1, 2): {"pair": "cuda:1,cuda:2"},
    }


def test_the_process_that_copies_answers_for_every_pair():
    command = [sys.executable, "-m", peer_copies.__name__, "cpu,cpu", "cpu,cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["right_at_target"] for answer in answers] == [64 * 2**20] * 2


def test_the_last_line_is_a_verdict_and_says_what_was_not_looked_at():
    fine, broken, skipped = Finding("a", "ok", ""), Finding("b", "fail", ""), Finding("c", "skip", "")
    assert verdict([fine], num_gpus=2) == "All well: 2 GPUs can be used."
    assert verdict([fine, broken, skipped], 1) == "Not well: b. The lines above say what to try. 1 check was skipped."
    assert verdict([fine, skipped, skipped], 0).startswith("No GPU that torch can use: runs go to the processor")


def test_json_is_json_where_nothing_fits_too(capsys):
    assert main(["--simulate", "1x8GiB", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == 2
    assert "does not fit" in report["error"]


def test_replicas_on_one_card_each_need_no_map_and_the_reasons_come_last(capsys):
    assert main(["--simulate", "8x80GiB"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 28
    assert any("queries/min" in line for line in lines[-8:])


def test_what_8_bits_buy_stands_beside_what_there_is(capsys):
    assert main(["--simulate", "3xRTX4090", "--weights", "fp8"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[3:12] == "--weights"]
    rows = {line[3:].partition("  ")[0]: line for line in lines}
    assert [flags for flags, row in rows.items() if row.startswith("->")] == ["--weights fp8"]
    assert len(rows) == 6
    assert "15.7 GiB" in rows["--weights auto"]
    assert "9.2 GiB" in rows["--weights fp8"]
    assert "over 1+1+1 GPUs" in rows["--weights fp8"]
    assert main(["--simulate", "2xRTX3090", "--json"]) == 0
    found = {(row["weights"], row["kv_cache"]): row for row in json.loads(capsys.readouterr().out)["formats"]}
    auto, int8 = found["auto", "auto"], found["int8", "auto"]
    assert int8["weight_bytes"] < 0.6 * auto["weight_bytes"]
    assert (auto["replicas"], int8["replicas"]) == ([[0, 1]], [[0], [1]])
    assert found["auto", "fp8"]["kv_tokens"] > 1.9 * auto["kv_tokens"]
    assert "has no float8" in found["fp8", "auto"]["why_not"]


def test_a_model_that_fits_in_8_bits_alone_is_told_so(capsys):
    assert main(["--simulate", "1x16GiB"]) == 2
    assert "weights in 8 bits (--weights fp8)" in capsys.readouterr().err
    assert main(["--simulate", "1x16GiB", "--weights", "fp8"]) == 0


def test_ctrl_c_is_no_traceback():
    code = """
import runpy, signal, sys
from evaluation.toolbench.inference.doctor import command
command.main = lambda: signal.raise_signal(signal.SIGINT)
runpy.run_path("test_multi_gpu.py", run_name="__main__")
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")
