"""A model that does not say its end token is told of once, with the share."""

import pytest

from evaluation.toolbench.inference.records.cut_texts import warning_of


@pytest.mark.parametrize(
    ("num_texts", "num_cut", "share"),
    [(1500, 1203, "80% of the model's texts (1,203 of 1,500)"), (30, 16, "53%"), (30, 30, "100%")],
)
def test_most_texts_cut_at_the_longest_length_are_a_warning_with_the_share(num_texts, num_cut, share):
    warning = warning_of(num_texts, num_cut)
    assert share in warning
    assert "--template" in warning
    assert "\n" not in warning


@pytest.mark.parametrize(("num_texts", "num_cut"), [(0, 0), (29, 29), (30, 15), (1500, 30)])
def test_few_texts_or_few_cuts_are_none(num_texts, num_cut):
    assert warning_of(num_texts, num_cut) is None
