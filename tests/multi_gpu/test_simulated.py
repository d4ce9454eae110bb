"""Layouts for GPUs that are not here: the plan as anybody can see it on a laptop."""

import json
import re
from types import SimpleNamespace

import pytest

from evaluation.toolbench.inference.doctor.command import main
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.simulated import simulated_gpus
from evaluation.toolbench.inference.multi_gpu.units import GIB


def test_gpus_are_written_as_counts_and_sizes():
    gpus = simulated_gpus("2x24GiB, 1×80GiB,16GB")
    assert [gpu.total_bytes for gpu in gpus] == [24 * GIB, 24 * GIB, 80 * GIB, 16 * 10**9]
    assert [gpu.cuda_index for gpu in gpus] == [0, 1, 2, 3]
    assert gpus[0].free_bytes == gpus[0].total_bytes


def test_gpus_are_written_by_the_names_of_their_cards_too():
    gpus = simulated_gpus("3xRTX4090, 2 x A100-40GB,h100")
    assert [gpu.name for gpu in gpus] == ["RTX4090"] * 3 + ["A100-40GB"] * 2 + ["H100"]
    assert (gpus[0].compute_capability, gpus[0].bandwidth) == ((8, 9), 1.008e12)
    assert gpus[0].total_bytes == 24_564 * 2**20


def test_a_card_that_is_not_known_is_answered_with_those_that_are():
    with pytest.raises(ConfigError, match=r"'RTX9999' is neither .* nor one of the cards T4, .*H200"):
        simulated_gpus("2xRTX9999")


def test_a_plan_says_how_long_the_queries_take(capsys):
    assert main(["--simulate", "2xT4", "--num_queries", "1000"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"predicted [\d,]+ tokens/s or [\d,]+ queries/min, which is \d+ minutes for 1,000 queries", printed
    )
    assert "cards like" not in printed  # the table has a T4's speed


def test_conversations_are_counted_for_each_replica_as_in_a_run(capsys):
    for flags, at_once in ([], 3 * 128), (["--num_thread", "16"], 3 * 16), (["--num_thread", "auto"], 3 * 128):
        assert main(["--simulate", "3xH100", "--json", "--num_replicas", "3", *flags]) == 0
        replicas = json.loads(capsys.readouterr().out)["replicas"]
        assert sum(replica["conversations"] for replica in replicas) == at_once


def test_the_longest_conversation_has_two_names(capsys):
    assert main(["--simulate", "1xT4,1xT4", "--json", "--max_tokens", "4096"]) == 0
    old = json.loads(capsys.readouterr().out)
    assert main(["--simulate", "1xT4,1xT4", "--json", "--max_sequence_length", "4096"]) == 0
    assert json.loads(capsys.readouterr().out) == old


@pytest.mark.parametrize("text", ["", "3x", "x24GiB", "0x24GiB", "3x24", "3 cards", "99x24GiB", "20x1GiB,20x1GiB"])
def test_what_is_no_list_of_gpus_is_refused(text):
    with pytest.raises(ConfigError):
        simulated_gpus(text)


def test_three_24_gb_cards_print_a_complete_map(capsys):
    assert main(["--simulate", "3x24GiB"]) == 0

    printed = capsys.readouterr().out
    placed = re.findall(r"^  (\S+): cuda:(\d)$", printed, re.MULTILINE)
    assert placed[0] == ("model.embed_tokens", "0")
    assert placed[-1] == ("lm_head", "2")
    layers = [name for name, _ in placed if "layers" in name]
    assert layers == ["model.layers.0-10", "model.layers.11-21", "model.layers.22-31"]
    assert [place for _, place in placed] == sorted(place for _, place in placed)
    assert "one replica over GPUs 0-2" in " ".join(printed.split())
    assert "3 replicas of one GPU each: 51 at once" in " ".join(printed.split())
    assert max(map(len, printed.splitlines())) <= 120
    sums = re.findall(r"^0 +cuda:\d .* (\d+\.\d) GiB +\S+ \w+ +20.4 GiB of 24.0 GiB free$", printed, re.MULTILINE)
    assert len(sums) == 3
    assert all(float(each) <= 20.4 for each in sums)


def test_too_small_cards_are_refused_with_the_numbers(capsys):
    assert main(["--simulate", "2x8GiB"]) == 2

    printed = capsys.readouterr()
    assert printed.out == ""
    assert "weights 15.7 GiB" in printed.err
    assert "GPU 1 (simulated 8.0 GiB) offers 6.8 GiB" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("gpus", "replicas"), [("3x80GiB", 3), ("8x24GiB", 4), ("2x24GiB,1x80GiB", 2), ("1x24GiB", 1), ("4x12GiB", 1)]
)
def test_the_number_of_replicas(gpus, replicas, capsys):
    assert main(["--simulate", gpus, "--json"]) == 0

    layout = json.loads(capsys.readouterr().out)
    assert len(layout["replicas"]) == replicas
    for replica in layout["replicas"]:
        assert len(replica["device_map"]) == 36
        assert all(used <= replica["budget_bytes"][gpu] for gpu, used in replica["used_bytes"].items())


def test_flags_steer_the_plan(capsys, monkeypatch):
    assert main(["--simulate", "3x80GiB", "--num_replicas", "1", "--max_gpu_memory", "10GiB", "--json"]) == 0
    [replica] = json.loads(capsys.readouterr().out)["replicas"]
    assert replica["budget_bytes"] == {"0": 10 * GIB, "1": 10 * GIB, "2": 10 * GIB}

    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=64 * GIB))
    assert main(["--simulate", "2x8GiB", "--cpu_offloading", "--json"]) == 0
    [replica] = json.loads(capsys.readouterr().out)["replicas"]
    assert replica["device_map"]["lm_head"] == "cpu"
