"""Turns flags into searches: sets, prompts and tool spaces as token ids, all checked before weights are loaded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.engine.remote.handshake import Needs
from evaluation.toolbench.inference.multi_gpu.checkpoint import read_config
from evaluation.toolbench.inference.toolgen.agent_parts import load_tokenizer
from evaluation.toolbench.inference.toolgen.chat_format import chat_format
from evaluation.toolbench.retrieval.beam_search import Hypothesis, SearchRules
from evaluation.toolbench.retrieval.evaluation_sets import EvaluationSet, load_sets
from evaluation.toolbench.retrieval.job import WIDER, WIDTH, Item
from evaluation.toolbench.retrieval.model import search_rules
from evaluation.toolbench.retrieval.options import EvaluationConfig
from evaluation.toolbench.retrieval.prompts import RetrievalPrompts
from evaluation.toolbench.retrieval.queries import Query
from evaluation.toolbench.retrieval.query_log import Outcome, Prediction
from evaluation.toolbench.retrieval.search_space import search_space, spellings

logger = logging.getLogger(__name__)

_CACHED_TEXTS = 100_000
_SPELT_TEXTS = 500  # compared with a server's


@dataclass(frozen=True)
class Preparation:
    """Holds the sets, where queries with too long a prompt are marked as a problem, and how to search for the others.

    `prompts` are ids by the query's text; `tries` are the tool spaces by the name of their stage.
    """

    sets: Sequence[EvaluationSet]
    rules: SearchRules
    prompts: dict[str, tuple[int, ...]]
    tries: dict[str, TokenTrie]
    needs: Needs
    encoder: RetrievalPrompts

    def item(self, each: EvaluationSet, query: Query) -> Item:
        """Return the search for one query of a set."""
        return Item(self.prompts[query.text], each.stage if each.is_constrained else None)

    def outcome(self, found: dict[int, list[Hypothesis]]) -> Outcome:
        """Read what a search has found as texts."""
        read = _reader(self.encoder)
        narrow, wide = (
            tuple(Prediction(read(each.token_ids), each.score, each.sum) for each in found[width])
            for width in (WIDTH, WIDER)
        )
        return Outcome(narrow, wide)


def prepare(config: EvaluationConfig) -> Preparation:
    """Read and check what `config` names. ConfigError or DataError for what cannot be evaluated."""
    sets = load_sets(config.choice)
    model_path = config.model_path
    tokenizer = load_tokenizer(model_path)
    encoder = RetrievalPrompts(tokenizer, config.template)
    shape = read_config(model_path).get_text_config()
    vocab_size, context = int(shape.vocab_size), int(shape.max_position_embeddings)
    rules = search_rules(model_path, encoder.end_id)
    tries: dict[str, TokenTrie] = {}
    for each in sets:
        if each.is_constrained and each.stage not in tries:
            tries[each.stage] = search_space(tokenizer, config.indexing, each.candidates, encoder.end_id, vocab_size)
    prompts: dict[str, tuple[int, ...]] = {}
    for query in (query for each in sets for query in each.queries if not query.problem):
        if query.text not in prompts:
            prompts[query.text] = tuple(encoder.ids(query.text))
    longest = max(map(len, prompts.values()), default=1)
    some = sets[0].candidates[:: max(1, len(sets[0].candidates) // _SPELT_TEXTS)]
    return Preparation(
        sets=[_with_room(each, prompts, tries, rules, context) for each in sets],
        rules=rules,
        prompts=prompts,
        tries=tries,
        needs=Needs(
            model=model_path,
            vocab_size=vocab_size,
            max_length=min(context, longest + rules.max_new_tokens),
            spellings=spellings(tokenizer, some),
            separator=(chat_format(config.template).end_token, encoder.end_id),
        ),
        encoder=encoder,
    )


def _with_room(
    each: EvaluationSet,
    prompts: dict[str, tuple[int, ...]],
    tries: dict[str, TokenTrie],
    rules: SearchRules,
    context: int,
) -> EvaluationSet:
    """Return the set, with those queries marked that leave no room for an answer."""
    longest = rules.max_new_tokens
    if each.is_constrained:
        longest = min(longest, tries[each.stage].max_depth + 1)
    queries = []
    for query in each.queries:
        if not query.problem and len(prompts[query.text]) + longest > context:
            length = len(prompts[query.text])
            problem = f"its prompt of {length} tokens leaves no room for {longest} more in a context of {context}"
            logger.warning("%s: query %s scores 0: %s", each.name, query.query_id, problem)
            query = replace(query, problem=problem)
        queries.append(query)
    return replace(each, queries=queries)


@lru_cache(maxsize=1)
def _reader(encoder: RetrievalPrompts) -> Any:
    """Return `encoder.answer` that remembers: with atomic indexing the same few thousand answers come again and
    again.
    """
    return lru_cache(maxsize=_CACHED_TEXTS)(encoder.answer)
