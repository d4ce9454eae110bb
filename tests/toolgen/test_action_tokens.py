import pytest

from evaluation.toolbench.inference.engine.constraint import TokenSet, TokenTrie
from evaluation.toolbench.inference.toolgen.action_tokens import ActionTokens
from evaluation.toolbench.inference.toolgen.catalog import load_catalog
from evaluation.toolbench.inference.toolgen.chat_format import PromptEncoder, chat_format
from tests.helpers.toolgen import INDEXES, SKY_WATCH, shared_tokenizer, write_data_folder

TEMPLATES = {"llama-3": "llama-3", "qwen-7b-chat": "qwen"}


@pytest.fixture(params=TEMPLATES)
def make(request, tmp_path):
    """Builds the action tokens of an indexing."""
    form, tokenizer = chat_format(request.param), shared_tokenizer(TEMPLATES[request.param])
    data_dir = write_data_folder(tmp_path / "data")

    def build(indexing):
        return ActionTokens(load_catalog(data_dir, indexing, "Ends."), PromptEncoder(tokenizer, form), form)

    return build


def test_an_atomic_action_is_one_id(make):
    actions = make("Atomic")
    allowed = actions.allowed([SKY_WATCH, "<<Finish>>"])
    assert isinstance(allowed.constraint, TokenSet)
    assert allowed.max_new_tokens == 1
    assert {allowed.action_of_ids[token_id,] for token_id in allowed.constraint.ids.tolist()} == {
        SKY_WATCH,
        "<<Finish>>",
    }


def test_a_tool_token_stops_an_atomic_action_and_nothing_else_does_but_the_end(make):
    actions = make("Atomic")
    assert len(actions.stops) == 5
    assert actions.end_id in actions.stops
    assert make("Numeric").stops.ids.tolist() == [actions.end_id]


@pytest.mark.parametrize("indexing", INDEXES)
def test_every_path_through_the_trie_reads_as_one_of_its_actions(make, indexing):
    actions = make(indexing)
    allowed = actions.allowed(INDEXES[indexing])
    assert isinstance(allowed.constraint, TokenTrie)
    paths = set(walks(allowed.constraint))
    assert {allowed.action_of_ids[path] for path in paths} == set(INDEXES[indexing])
    assert max(map(len, paths)) + 1 == allowed.max_new_tokens


def walks(trie, node=TokenTrie.ROOT, path=()):
    """Token sequences, without end tokens, at which a generation under `trie` can end."""
    if trie.is_end[node]:
        yield path
    for token_id in trie.allowed(node):
        if token_id != trie.end_id:
            yield from walks(trie, trie.step(node, token_id), (*path, token_id))


def test_the_same_actions_have_the_same_constraint(make):
    actions = make("Semantic")
    assert actions.allowed(["find cafe"]) is actions.allowed(["find cafe"])
    assert actions.allowed(["find cafe"]) is not actions.allowed(["sky watch"])


def test_ids_given_by_a_caller_make_the_same_constraint(make):
    actions = make("Numeric")
    texts = INDEXES["Numeric"]
    by_ids = actions.constraint_of_ids([list(actions.ids_of(text)) for text in texts])
    assert by_ids.action_of_ids == actions.allowed(texts).action_of_ids
