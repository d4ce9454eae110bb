"""The benchmark of retrieval's host work runs anywhere and leaves no part of it out."""

from __future__ import annotations

import json

import pytest

from benchmarks import retrieval_host


@pytest.mark.parametrize("codes", ["1", "3"])
def test_the_parts_of_a_query_add_up_to_what_the_replica_takes(capsys, codes):
    flags = ["--layers", "2", "--num_queries", "20", "--at_once", "8", "--repeats", "1", "--codes", codes]
    assert retrieval_host.main(flags) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [line["widths"] for line in lines] == [[5], [5, 10]]
    for line in lines:
        assert all(line[part] > 0 for part in retrieval_host.PARTS)
        parts = sum(line[part] for part in retrieval_host.PARTS) + line["other"]
        assert parts == pytest.approx(line["replica"], abs=0.01)
