"""Plans keep their promises, for any GPUs, budgets and sizes; and the known examples come out as they should."""

import re
from dataclasses import replace
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.toolbench.inference.errors import ConfigError, PlacementError
from evaluation.toolbench.inference.multi_gpu.fitting import fit_replica
from evaluation.toolbench.inference.multi_gpu.footprint import Block, Footprint
from evaluation.toolbench.inference.multi_gpu.placement import Placement, budgets_of, plan_placement
from evaluation.toolbench.inference.multi_gpu.replica_plan import GpuBudget, Workload
from evaluation.toolbench.inference.multi_gpu.units import GIB, MIB
from tests.helpers.placement import TOOLGEN_8B, budget, footprint, gpu

WORKING = 512 * MIB  # what a plan keeps on every GPU for workspaces
SHORT = Workload(conversations=4, max_tokens=10)
few_examples = settings(max_examples=60)  # a misfit tries remedies, which takes a while


def plan_8b(*total_gib: float, **options) -> Placement:
    return plan_placement(TOOLGEN_8B, budgets_of([gpu(i, size) for i, size in enumerate(total_gib)]), **options)


# ---- any GPUs, any model


@st.composite
def models(draw) -> Footprint:
    """Blocks from nothing to 2 GiB: an embedding (perhaps with the tied head), layers, perhaps a head."""
    size = st.integers(0, 2 * GIB)
    tied = draw(st.booleans())
    blocks = [Block(("embed", "head") if tied else ("embed",), draw(size), makes_logits=tied)]
    for index in range(draw(st.integers(1, 12))):
        blocks.append(Block((f"layers.{index}",), draw(size), draw(st.integers(1, 64 * MIB))))
    if not tied:
        blocks.append(Block(("head",), draw(size), makes_logits=True))
    return Footprint("any", "bfloat16", tuple(blocks), draw(st.integers(1, 10**6)), draw(st.integers(0, 10**4)), 4096)


@st.composite
def machines(draw) -> list[GpuBudget]:
    """One to five GPUs whose CUDA indices may have gaps."""
    indices = sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=5)))
    return [budget(index, draw(st.integers(0, 20 * GIB))) for index in indices]


workloads = st.builds(Workload, st.integers(1, 40), st.integers(1, 200), st.integers(1, 200))


def layout_or_none(*arguments, **options) -> Placement | None:
    try:
        return plan_placement(*arguments, **options)
    except PlacementError:
        return None


@few_examples
@given(models(), machines(), workloads, st.sampled_from([None, 1, 2, 3]))
def test_every_plan_keeps_its_promises(model, targets, workload, num_replicas):
    layout = layout_or_none(model, targets, workload, num_replicas=num_replicas)
    if layout is None:
        return
    budgets = {target.index: target.num_bytes for target in targets}
    used = dict.fromkeys(budgets, 0)
    for replica in layout.replicas:
        placed = list(chain.from_iterable(shard.blocks for shard in replica.shards))
        assert placed == list(model.blocks)  # every block once, in order, whole: so tied weights are together
        assert list(replica.gpus) == sorted(set(replica.gpus))
        assert set(replica.device_map.values()) == set(replica.gpus)  # and nothing on the CPU
        assert replica.kv_tokens >= max(workload.max_tokens, replica.conversations * workload.mean_tokens)
        assert 1 <= replica.conversations <= replica.max_running <= workload.conversations
        for shard in replica.shards:
            used[shard.index] += replica.used_bytes(shard)
    assert all(used[index] <= budgets[index] for index in budgets)
    if num_replicas:
        assert len(layout.replicas) == num_replicas
    assert 1 <= layout.conversations <= workload.queries


@few_examples
@given(models(), machines(), workloads, st.lists(st.integers(0, 5 * GIB), min_size=5, max_size=5))
def test_more_memory_never_turns_a_fit_into_a_misfit(model, targets, workload, extra):
    if layout_or_none(model, targets, workload) is None:
        return
    larger = [budget(target.index, target.num_bytes + more) for target, more in zip(targets, extra, strict=False)]
    assert layout_or_none(model, larger, workload)


@few_examples
@given(models(), machines(), workloads)
def test_another_gpu_never_turns_a_fit_into_a_misfit(model, targets, workload):
    if layout_or_none(model, targets, workload):
        assert layout_or_none(model, [*targets, budget(10, 3 * GIB)], workload)


@few_examples
@given(models(), machines(), workloads, st.sampled_from([None, 2]), st.integers(1, 199))
def test_a_shorter_conversation_never_turns_a_fit_into_a_misfit(model, targets, workload, num_replicas, fewer):
    """The longest one that fits is looked for by halving."""
    if layout_or_none(model, targets, workload, num_replicas=num_replicas):
        shorter = replace(workload, max_tokens=max(1, workload.max_tokens - fewer))
        assert layout_or_none(model, targets, shorter, num_replicas=num_replicas)


@few_examples
@given(models(), machines(), workloads)
def test_the_engine_that_keeps_to_its_limit_takes_no_more_than_planned(model, targets, workload):
    layout = layout_or_none(model, targets, workload)
    for replica in layout.replicas if layout else ():
        per_token = max(shard.kv_bytes_per_token for shard in replica.shards)
        assert replica.max_kv_bytes // per_token == replica.kv_tokens


@few_examples
@given(models(), machines(), workloads)
def test_gaps_between_the_ids_make_no_difference(model, targets, workload):
    with_gaps = layout_or_none(model, targets, workload)
    without = layout_or_none(model, [budget(i, target.num_bytes) for i, target in enumerate(targets)], workload)
    assert (with_gaps is None) == (without is None)
    if with_gaps and without:
        renumbered = {target.index: position for position, target in enumerate(targets)}
        assert [{name: renumbered[place] for name, place in r.device_map.items()} for r in with_gaps.replicas] == [
            r.device_map for r in without.replicas
        ]


# ---- known examples


def test_three_24_gb_cards_share_the_8b_model():
    layout = plan_8b(24, 24, 24)

    [replica] = layout.replicas
    assert replica.gpus == (0, 1, 2)
    assert replica.conversations == 128
    assert 300_000 < replica.kv_tokens < 340_000
    assert sum(r.conversations for r in plan_8b(24, 24, 24, num_replicas=3).replicas) == 3 * 17
    assert (replica.device_map["model.embed_tokens"], replica.device_map["lm_head"]) == (0, 2)
    assert [shard.num_layers for shard in replica.shards] == [11, 11, 10]


def test_where_memory_is_ample_the_gpu_with_the_head_has_fewer_layers():
    [replica] = plan_8b(140, 140, num_replicas=1, workload=Workload(conversations=64)).replicas
    assert [shard.num_layers for shard in replica.shards] == [17, 15]
    assert replica.conversations == 64


def test_memory_for_the_cache_is_traded_for_an_even_pace():
    """On four cards the head's GPU has the fewest layers although each has room for as many as the others."""
    cards = budgets_of([gpu(index, 140) for index in range(4)], "20GiB")
    replica = fit_replica(TOOLGEN_8B, cards, Workload(conversations=64), conversations=64)
    layers = [shard.num_layers for shard in replica.shards]
    assert layers[3] == min(layers) < max(layers)
    assert replica.conversations == 64


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([80, 80, 80], [(0,), (1,), (2,)]),
        ([24] * 8, [(0, 1), (2, 3), (4, 5), (6, 7)]),
        ([24, 24, 80], [(0, 1), (2,)]),
        ([80, 24, 24, 24, 24], [(0,), (1, 2), (3, 4)]),
        ([4, 80, 80], [(1,), (2,)]),
        ([24], [(0,)]),
        ([12, 12], [(0, 1)]),
        ([16] * 4, [(0, 1, 2, 3)]),
    ],
)
def test_gpus_are_grouped_for_throughput(sizes, groups):
    assert [replica.gpus for replica in plan_8b(*sizes).replicas] == groups


def test_the_gpus_of_a_replica_work_at_the_same_time():
    [alone] = plan_8b(80, num_gpus=1).replicas
    [shared] = plan_8b(80, 80, num_replicas=1).replicas

    assert shared.tokens_per_s(1) < alone.tokens_per_s(1)  # one batch passes the GPUs in turn
    assert shared.tokens_per_s(64) > 1.2 * alone.tokens_per_s(64)  # two are in flight together
    assert shared.tokens_per_s(64) < sum(r.tokens_per_s(32) for r in plan_8b(80, 80).replicas)


def test_as_many_gpus_as_help_and_the_first_of_equals():
    [replica] = plan_8b(80, 80, 80, workload=Workload(queries=1)).replicas
    assert replica.gpus == (0,)
    assert [r.gpus for r in plan_8b(80, 80, 80, workload=Workload(queries=2)).replicas] == [(0,), (1,)]


def test_gpus_that_num_gpus_leaves_out_are_said_to_be_so():
    assert "GPUs 1, 2 stay unused: num_gpus is 1." in plan_8b(80, 80, 80, num_gpus=1).reasons
    unused = plan_8b(80, 80, 80, workload=Workload(queries=2)).reasons
    assert "GPU 2 stays unused: more would not raise the predicted throughput." in unused


def test_many_gpus_are_planned_for_in_seconds():
    layout = plan_8b(*[24] * 16)
    assert len(layout.replicas) == 8
    assert {index for replica in layout.replicas for index in replica.gpus} == set(range(16))


def test_one_conversation_needs_one_replica():
    assert len(plan_8b(80, 80, 80, workload=Workload(queries=1)).replicas) == 1


def test_different_cards_carry_what_each_has_room_for():
    [replica] = plan_8b(24, 12, 12).replicas
    first, second, third = [shard.num_layers for shard in replica.shards]
    assert first > second >= third > 0


def test_faster_memory_is_preferred():
    slow, fast = gpu(0, 40, bandwidth=0.5e12), gpu(1, 40, bandwidth=3e12)
    [replica] = plan_placement(TOOLGEN_8B, budgets_of([slow, fast]), Workload(queries=1)).replicas
    assert replica.gpus == (1,)


def test_a_busy_gpu_is_skipped_and_named():
    layout = plan_placement(TOOLGEN_8B, budgets_of([gpu(0, 80), gpu(1, 80, held_gib=60), gpu(2, 80)]))

    assert [replica.gpus for replica in layout.replicas] == [(0,), (2,)]
    assert "GPU 1 stays unused: busy, 60.0 GiB of its 80.0 GiB are held by pid 977, python." in layout.reasons


def test_num_gpus_counts_idle_gpus_first():
    cards = budgets_of([gpu(0, 80, held_gib=60), gpu(1, 80), gpu(2, 80)])
    layout = plan_placement(TOOLGEN_8B, cards, num_gpus=1)
    assert [replica.gpus for replica in layout.replicas] == [(1,)]


def test_num_gpus_is_an_upper_bound_so_all_visible_ones_may_be_asked_for():
    cards = budgets_of([gpu(0, 80), gpu(1, 80, held_gib=60), gpu(2, 80)])
    assert [replica.gpus for replica in plan_placement(TOOLGEN_8B, cards, num_gpus=3).replicas] == [(0,), (2,)]


def test_a_busy_gpu_is_used_when_the_rest_does_not_suffice():
    layout = plan_placement(TOOLGEN_8B, budgets_of([gpu(0, 80, held_gib=60), gpu(1, 12)]))
    assert [replica.gpus for replica in layout.replicas] == [(0, 1)]


def test_what_another_process_holds_is_planned_around():
    [replica] = plan_placement(TOOLGEN_8B, budgets_of([gpu(0, 140, held_gib=60)])).replicas
    assert replica.used_bytes(replica.shards[0]) <= 68 * GIB


def test_more_replicas_than_gpus_share_them():
    layout = plan_8b(140, num_replicas=2)

    assert [replica.gpus for replica in layout.replicas] == [(0,), (0,)]
    assert sum(replica.used_bytes(replica.shards[0]) for replica in layout.replicas) <= 119 * GIB
    assert "Chosen: 2 replicas that share GPU 0" in layout.reasons


def test_the_largest_gpu_is_shared_by_most():
    layout = plan_8b(24, 80, num_replicas=3)
    assert sorted(replica.gpus for replica in layout.replicas) == [(0,), (1,), (1,)]


def test_replicas_that_only_fit_on_unequal_cards_together_are_found():
    layout = plan_8b(18, 8, 16, 10, num_replicas=2)
    assert {replica.gpus for replica in layout.replicas} == {(0, 1), (2, 3)}


def test_weights_on_the_cpu_cost_time_so_gpus_are_used_first():
    layout = plan_8b(8, 8, cpu_bytes=64 * GIB)
    assert layout.replicas[0].gpus == (0, 1)
    assert layout.tokens_per_s < 20


def test_max_gpu_memory_steers_the_plan():
    cards = [gpu(i, 80) for i in range(3)]
    [replica] = plan_placement(TOOLGEN_8B, budgets_of(cards, "8GiB")).replicas
    assert replica.gpus == (0, 1, 2)

    two = plan_placement(TOOLGEN_8B, budgets_of(cards, "20GiB,8GiB", num_gpus=2), num_replicas=1)
    assert two.replicas[0].gpus == (0, 1)
    with pytest.raises(ConfigError, match="2 amounts"):
        budgets_of(cards, "20GiB,8GiB")


def test_what_others_hold_cannot_be_planned_with_whatever_max_gpu_memory_says():
    assert [target.num_bytes for target in budgets_of([gpu(0, 80, held_gib=70), gpu(1, 80)], "40GiB")] == [
        10 * GIB,
        40 * GIB,
    ]


def test_tied_weights_lie_together():
    targets = [budget(0, WORKING + 400), budget(1, WORKING + 400)]
    [replica] = plan_placement(footprint(tied=True), targets, SHORT).replicas

    assert replica.device_map["embed"] == replica.device_map["head"] == 0
    assert replica.device_map["layers.3"] == 1


# ---- what does not fit


def test_a_misfit_says_what_is_needed_what_each_gpu_offers_and_what_would_help():
    with pytest.raises(PlacementError) as caught:
        plan_placement(TOOLGEN_8B, budgets_of([gpu(0, 8), gpu(1, 24, held_gib=18)]))

    message = str(caught.value)
    assert message.startswith(
        "ToolGen-Llama-3-8B (bfloat16) does not fit: weights 15.7 GiB, KV cache 1.0 GiB "
        "(one conversation of 8,192 tokens) and working room 1.1 GiB make 17.7 GiB; "
        "GPU 0 (Card) offers 6.8 GiB of its 8.0 GiB (8.0 GiB free); "
        "GPU 1 (Card) offers 5.1 GiB of its 24.0 GiB (6.0 GiB free, 18.0 GiB by pid 977, python); 5.8 GiB are missing."
    )
    assert (
        "What would help: ending what holds GPU 1, or weights in 8 bits (--weights fp8), or one more GPU like GPU 0, "
        "or layers on the CPU"
    ) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"total": 20}, "conversations of at most"),
        ({"total": 40, "limit": "10GiB"}, "a larger --max_gpu_memory"),
        ({"total": 30, "num_replicas": 2}, "fewer replicas: 1 fits (--num_replicas 1 or auto)"),
        ({"total": 60, "num_replicas": 5}, "fewer replicas: 2 fit (--num_replicas 2 or auto)"),
    ],
)
def test_remedies_are_those_that_work(options, remedy):
    targets = budgets_of([gpu(0, options["total"])], options.get("limit"))
    with pytest.raises(PlacementError, match=re.escape(remedy)):
        plan_placement(TOOLGEN_8B, targets, num_replicas=options.get("num_replicas"))


def test_remedies_that_do_not_work_are_not_named():
    with pytest.raises(PlacementError) as caught:
        plan_8b(24, 24, 24, num_replicas=7)
    assert "max_gpu_memory" not in str(caught.value)
    assert "conversations of at most" not in str(caught.value)
    assert "fewer replicas: 3 fit" in str(caught.value)
    assert len(plan_8b(*[24] * 7, num_replicas=7).replicas) == 7  # as many more as it says
    assert "or 4 more GPUs like GPU 0" in str(caught.value)


def test_a_shorter_conversation_that_is_suggested_fits():
    targets = budgets_of([gpu(0, 20)])
    with pytest.raises(PlacementError) as caught:
        plan_placement(TOOLGEN_8B, targets)
    length = int(re.search(r"at most ([\d,]+) tokens", str(caught.value))[1].replace(",", ""))
    assert plan_placement(TOOLGEN_8B, targets, Workload(max_tokens=length))


def test_a_float32_model_that_would_fit_in_half_precision_says_so():
    with pytest.raises(PlacementError, match="--dtype bfloat16"):
        plan_placement(replace(footprint(weight=GIB), dtype="float32"), [budget(0, 3 * GIB)], SHORT)


def test_nothing_goes_to_the_cpu_unless_asked():
    model = footprint(weight=GIB)
    targets = [budget(0, 7 * GIB // 2 + WORKING // 2)]
    with pytest.raises(PlacementError):
        plan_placement(model, targets, SHORT)

    layout = plan_placement(model, targets, SHORT, cpu_bytes=4 * GIB)

    [replica] = layout.replicas
    on_cpu = [name for name, place in replica.device_map.items() if place == "cpu"]
    assert on_cpu == ["layers.2", "layers.3", "norm", "head"]  # one layer's room is kept for those in use
    # With the KV cache of the offloaded layers.
    assert replica.used_bytes(replica.shards[0]) <= 7 * GIB // 2 + WORKING // 2
    assert "2.0 GiB of weights lie on the CPU" in layout.reasons


def test_more_gpus_than_there_are_names_both():
    with pytest.raises(PlacementError, match="num_gpus=4, but there are 2"):
        plan_8b(24, 24, num_gpus=4)
