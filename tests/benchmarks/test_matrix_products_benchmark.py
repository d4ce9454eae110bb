"""The benchmark of matrix products runs from end to end without a GPU when asked to, and says so otherwise."""

import json

import pytest
import torch

from benchmarks import few_rows, int8_rows, matrix_products
from evaluation.toolbench.inference.engine.products.tiles import TILES, ManyRowsTile, Tile


def test_every_number_of_rows_is_timed_both_ways(monkeypatch, capsys):
    monkeypatch.setattr(matrix_products, "ROWS", (2, 3))
    monkeypatch.setattr(matrix_products, "HEAD_ROWS", (1,))
    assert matrix_products.main(["--tiny"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {name: list(times) for name, times in facts.items()} == {
        "separate_ms": ["2", "3"],
        "joined_ms": ["2", "3"],
        "head_whole_ms": ["1"],
        "head_pieces_ms": ["1"],
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert matrix_products.main([]) == 2
    assert capsys.readouterr().err == "needs 1 GPU, found 0: give --tiny to try the command\n"


def test_the_table_of_a_sweep_has_the_tile_that_is_fastest_over_all_products_of_its_size():
    one, other = Tile(8, 16, 64, 4, 4), Tile(8, 32, 64, 4, 4)
    us = {
        "qkv": {None: 16.0, one: 13.0, other: 11.0},
        "o": {None: 11.0, one: 9.0, other: 12.0},
        "down": {None: 30.0, one: 27.0, other: 27.5},
        "gate_up": {None: 54.0, one: 55.0},
    }
    found = [few_rows.Times(held, name, rows, us[name]) for held, rows in TILES for name in us]
    lines = few_rows.table(found).splitlines()
    assert lines[0] == '    ("16 bits", 1): (Tile(8, 16, 64, 4, 4), None),'
    assert eval(f"{{{''.join(lines)}}}") == dict.fromkeys(TILES, (one, None))


def test_the_table_of_many_rows_has_the_fastest_of_the_tiles_that_fit_all_products():
    few, one, other = Tile(32, 32, 64, 4, 4), ManyRowsTile(64, 64, 128, 4, 3), ManyRowsTile(128, 128, 64, 4, 4)
    us = {
        "qkv": {few: 1.0, one: 13.0, other: 11.0},
        "o": {few: 1.0, one: 9.0, other: 12.0},
        "down": {few: 1.0, one: 27.0, other: 27.5},
        "gate_up": {other: 54.0},
    }
    found = [
        int8_rows.Times(name, rows, bfloat16=1.0, unpacked=1.0, chosen=1.0, us=us[name])
        for rows in (32, 128)
        for name in us
    ]
    assert eval(f"{{{int8_rows.table(found)}}}") == {32: (one, other), 128: (one, other)}
