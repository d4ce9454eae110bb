"""transformers' beam search with a masking processor, and a model whose numbers are exact, to compare with."""

import torch
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers.configuration_utils import PretrainedConfig
from transformers.modeling_outputs import CausalLMOutput

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.retrieval.search import SearchThread

MASK = -1e10
_LONGEST = 32  # prompt and path
_FILLER = -1e5  # below it are, whatever they were divided by, transformers' fillers


class TableConfig(PretrainedConfig):
    model_type = "table"

    def __init__(self, vocab_size=16, **kwargs):
        self.vocab_size = vocab_size
        self.num_hidden_layers = 0
        super().__init__(**kwargs)


class TableModel(PreTrainedModel, GenerationMixin):
    """Logits looked up by position and last token: the same bits in every batch, so that no rounding decides an order.

    By position too: where the same steps in another order lead to the same place, sums are equal but for rounding.
    """

    config_class = TableConfig

    def __init__(self, config, seed=0, spread=3.0):
        super().__init__(config)
        size = config.vocab_size
        rows = torch.randn(_LONGEST * size, size, generator=torch.Generator().manual_seed(seed)) * spread
        self.table = torch.nn.Parameter(rows, requires_grad=False)

    def forward(self, input_ids, attention_mask=None, **_):
        positions = torch.arange(input_ids.shape[1])
        return CausalLMOutput(logits=self.table[positions * self.config.vocab_size + input_ids])


class MaskOutsideTrie(LogitsProcessor):
    """Leaves the children of the place in the trie; the end token alone at a leaf and outside of the trie."""

    def __init__(self, sequences, end_id, prompt_length):
        self.paths = {(): set()}
        for sequence in sequences:
            path = [*sequence, end_id]
            for length, token in enumerate(path):
                self.paths.setdefault(tuple(path[:length]), set()).add(token)
        self.end_id = end_id
        self.prompt_length = prompt_length

    def __call__(self, input_ids, scores):
        masked = torch.full_like(scores, MASK)
        for row, ids in enumerate(input_ids.tolist()):
            allowed = sorted(self.paths.get(tuple(ids[self.prompt_length :]), {self.end_id}))
            masked[row, allowed] = scores[row, allowed]
        return masked


def transformers_search(model, prompt, rules, width, sequences=None, processor=None):
    """[(ids up to the end token, score)] of `generate`, best first, without its fillers.

    It is held to the trie of `sequences`, or by a `processor` of another kind.
    """
    prompt_ids = torch.tensor([prompt])
    processors = [] if processor is None else [processor]
    if sequences is not None:
        processors = [MaskOutsideTrie(sequences, rules.end_id, len(prompt))]
    model.generation_config = GenerationConfig()
    output = model.generate(
        prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=rules.max_new_tokens,
            num_beams=width,
            num_return_sequences=width,
            eos_token_id=rules.end_id,
            pad_token_id=rules.end_id,
            length_penalty=rules.length_penalty,
            early_stopping=rules.early_stopping,
            repetition_penalty=rules.repetition_penalty,
            return_dict_in_generate=True,
            output_scores=True,
            use_cache=not isinstance(model, TableModel),
        ),
        logits_processor=LogitsProcessorList(processors),
    )
    found = []
    for ids, score in zip(output.sequences[:, len(prompt) :].tolist(), output.sequences_scores.tolist(), strict=True):
        if score > _FILLER:
            cut = ids.index(rules.end_id) + 1 if rules.end_id in ids else len(ids)
            found.append((tuple(ids[:cut]), score))
    return found


def allowed_ids(trie, path, end_id):
    """The ids that may follow `path`; None: all."""
    if trie is None:
        return None
    node = TokenTrie.ROOT
    for token in path:
        node = trie.step(node, token)
    return trie.allowed(node) or [end_id]


def run_search(engine, search, is_stopped=lambda: False):
    """The results of one search by width."""
    searches = SearchThread(engine, is_stopped)
    try:
        return searches.start(search).result()
    finally:
        searches.close()
