"""Makes the demo model's tokenizer: byte-level BPE with Llama-3's chat markers and one token per API.

A value is cut into the same few tokens in a question, in JSON and in an answer: a model this small learns to copy
tokens, not to respell them. What stands between two parts of a value goes with the first one ("Amber " and "Falls",
"2026-", "03-" and "14"), so that each part tells the next. Other words take the space before them along.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BEGIN, END, PAD = "<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"
_MARKERS = [BEGIN, "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", END, PAD]
_SPELLING_TOKENS = 600  # markers, bytes and merges
_KEY = r"[\"']\p{L}+(?:_\p{L}+)*[\"']: [\"']?"  # of an argument, of a field of the documentation
_PIECES = Regex(
    "|".join(
        (
            _KEY,
            r"\p{Lu}\p{Ll}+ (?=\p{Lu}\p{Ll})",  # the first word of a name
            r"\p{Lu}\p{Ll}+",
            r"\p{Lu}{4,}",
            r"\p{Lu}{2}(?:-(?=\p{N}))?",  # the letters of a code, the country of a currency
            r"\p{Lu}",
            r" \p{Ll}+(?![\p{L}\p{N}@\-]|\.\p{L})",  # an everyday word, which no value has
            r" I(?![\p{L}\p{N}])",
            r"\p{L}+(?:_\p{L}+)*@?",  # also the user of an address
            r"\.\p{Ll}+",
            r"20\p{N}{2}-(?=\p{N})",  # the year of a date
            r"\p{N}{2}[-:](?=\p{N})",  # its month; an hour
            r"\p{N}{1,2}",
            r"\n+",
            rf"[^\p{{L}}\p{{N}}\n]+?(?= \p{{Ll}}|{_KEY})",  # leaves to what follows what belongs to it
            r"[^\p{L}\p{N}\n]+",
        )
    )
)


def train_tokenizer(
    fixed: Iterable[str], varied: Iterable[str], tool_tokens: Sequence[str], vocab_size: int
) -> PreTrainedTokenizerFast:
    """Return a tokenizer of at most `vocab_size` entries, markers and bytes included, and after them one per tool
    token.

    Every piece of the `fixed` texts is one token, and so are the most frequent ones of the `varied` texts. The few
    merges are for what is in neither.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SPELLING_TOKENS,
        special_tokens=_MARKERS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    varied = list(varied)
    tokenizer.train_from_iterator(varied, trainer)
    spelling = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = dict(spelling["vocab"])
    for piece in (*_pieces(tokenizer, fixed), *_pieces(tokenizer, varied)):
        if len(vocabulary) < vocab_size:
            vocabulary.setdefault(piece, len(vocabulary))
    merges = [tuple(merge) for merge in spelling["merges"]]
    tokenizer.model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True)
    tokenizer.add_special_tokens(_MARKERS)
    # As Llama-3's does: the chat format writes the marker once more, so a model sees two.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD)
    fast.add_tokens(list(tool_tokens), special_tokens=False)
    return fast


def _pieces(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """Return distinct pieces of the texts, the most frequent one first."""
    counts = Counter(piece for text in texts for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    return sorted(counts, key=lambda piece: (-counts[piece], piece))
