import copy
import json
import pickle

import pytest

from evaluation.toolbench.names import (
    ActionName,
    change_name,
    get_toolbench_name,
    standardize,
    standardize_category,
)


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("QueryKeywords", "querykeywords"),
        ("Driver's  License", "driver_s_license"),
        ("__Get / all__", "get_all"),
        ("7 Leagues", "get_7_leagues"),
        ("A^B", "a^b"),
        ("天气 Now", "天气_now"),
        ("Café", "caf"),
        ("///", ""),
    ],
)
def test_standardize(name, standard):
    assert standardize(name) == standard


@pytest.mark.parametrize("word", ["from", "class", "return", "false", "true", "id", "and"])
def test_words_that_python_reserves_are_changed(word):
    assert change_name(word) == f"is_{word}"
    assert change_name(word + "s") == word + "s"


def test_a_name_is_the_last_64_characters():
    name = get_toolbench_name("B" * 40, "A" * 40)
    assert name == "a" * 19 + "_for_" + "b" * 40
    assert len(name) == 64


def test_categories_become_folder_names():
    assert (
        standardize_category("Artificial Intelligence/Machine Learning") == "Artificial_Intelligence_Machine_Learning"
    )
    assert standardize_category("News, Media") == "News_Media"


def test_an_action_name_is_its_text_to_everything_but_the_catalog():
    name = ActionName.of("Café Finder", "Find Café")
    assert name == "find_caf_for_caf_finder"
    assert {name: 1}["find_caf_for_caf_finder"] == 1
    assert json.dumps({"name": name}) == '{"name": "find_caf_for_caf_finder"}'


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda name: pickle.loads(pickle.dumps(name))])
def test_an_action_name_remembers_its_api_when_copied(twin):
    name = twin(ActionName.of("Café Finder", "Find Café"))
    assert (name, name.tool_name, name.api_name) == ("find_caf_for_caf_finder", "Café Finder", "Find Café")
