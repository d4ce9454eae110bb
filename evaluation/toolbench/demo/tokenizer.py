"""The demo model's tokenizer: byte-level BPE with Llama-3's chat markers and one token per API.

Words, capitals and pairs of digits are split from everything around them, so a value has the same tokens
in a question, in JSON and in an answer. A model this small learns to copy tokens, not to respell them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BEGIN, END, PAD = "<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"
_MARKERS = [BEGIN, "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", END, PAD]
_PIECES = Regex(r"\p{Lu}|(?:(?!\p{Lu})\p{L})+|\p{N}{1,2}|\n+|[^\p{L}\p{N}\n]+")


def train_tokenizer(texts: Iterable[str], tool_tokens: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `vocab_size` entries, markers and bytes included, and after them one per tool token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=_MARKERS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # As Llama-3's does: the chat format writes the marker once more, so a model sees two.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD)
    fast.add_tokens(list(tool_tokens), special_tokens=False)
    return fast
