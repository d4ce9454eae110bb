"""ToolGen's NDCG as it is, and the numbers with the right ideal ranking."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toolbench.retrieval.metrics import Mean, corrected_scores, upstream_ndcg

SPACE = list("ABCDEFGH")
texts = st.sampled_from([*SPACE, "?", "!"])


@pytest.mark.parametrize(
    ("labels", "predictions", "upstream", "right"),
    [
        ("A", "ABCDE", (1, 1, 1), (1, 1, 1)),
        ("ABC", "ADEFG", (1, 1, 1), (1, 0.4693, 0.4693)),
        ("ABC", "DAEFG", (0, 0.6309, 0.6309), (0, 0.2961, 0.2961)),
        ("AB", "CDEAB", (0, 0, 0.5013), (0, 0, 0.5013)),
        ("ABCDE", "FGHAB", (0, 0, 0.5013), (0, 0, 0.2773)),
        ("A", "?ABCD", (1, 1, 1), (0, 0.6309, 0.6309)),
        ("A", "ABCAB", (0, 0.6309, 0.6309), (1, 1, 1)),
        ("", "ABCDE", (0, 0, 0), (0, 0, 0)),
        ("A", "", (0, 0, 0), (0, 0, 0)),
    ],
)
def test_both_ndcgs_of_known_rankings(labels, predictions, upstream, right):
    found = tuple(upstream_ndcg(list(labels), list(predictions), SPACE, k) for k in (1, 3, 5))
    assert found == pytest.approx(upstream, abs=5e-5)
    scores = corrected_scores(list(labels), list(predictions), list(predictions)).values
    assert tuple(scores[f"ndcg@{k}"] for k in (1, 3, 5)) == pytest.approx(right, abs=5e-5)


def test_recall_and_reciprocal_rank_are_of_the_search_for_ten_beyond_five():
    scores = corrected_scores(["A", "B", "B"], list("CDEFG"), list("CDEFGHAB"))
    assert [scores.values[f"recall@{k}"] for k in (1, 3, 5, 10)] == [0, 0, 0, 1]
    assert scores.values["mrr"] == pytest.approx(1 / 7)
    assert scores.label_ranks == {"A": 7, "B": 8}


@given(labels=st.lists(texts, max_size=4), predictions=st.lists(texts, max_size=10))
def test_the_corrected_numbers_are_shares_and_grow_with_better_rankings(labels, predictions):
    scores = corrected_scores(labels, predictions[:5], predictions).values
    assert all(0 <= value <= 1 for value in scores.values())
    assert scores["recall@1"] <= scores["recall@3"] <= scores["recall@5"] <= scores["recall@10"]
    first = [*dict.fromkeys(labels), *predictions]
    better = corrected_scores(labels, first[:5], first[:10]).values
    assert all(better[name] >= value - 1e-12 for name, value in scores.items())
    assert better["ndcg@1"] == (1.0 if labels else 0.0)


@given(labels=st.lists(texts, max_size=4), predictions=st.lists(texts, max_size=6), k=st.sampled_from([1, 3, 5]))
def test_upstreams_number_is_never_below_the_right_one_without_repeats(labels, predictions, k):
    predictions = list(dict.fromkeys(predictions))
    labels = [label for label in labels if label in SPACE]
    assert (
        upstream_ndcg(labels, predictions, SPACE, k)
        >= corrected_scores(labels, predictions, []).values[f"ndcg@{k}"] - 1e-12
    )


def test_standard_errors_are_of_the_mean_over_queries():
    assert Mean.of([0, 1, 1, 0]) == Mean(0.5, pytest.approx(math.sqrt(1 / 3) / 2))
    assert math.isnan(Mean.of([1]).standard_error)
    assert math.isnan(Mean.of([]).mean)
