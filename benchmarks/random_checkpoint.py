"""Make a checkpoint that has ToolGen's vocabulary and no training, to run the pipeline on real data without a GPU.

    python benchmarks/random_checkpoint.py --data_dir data --output_dir outputs/random_llama

`real_queries.py` makes one and runs the main command with it. The model is a Llama of two small layers. Its
tokenizer has a byte-level BPE vocabulary learnt from the documentation of the data folder's tools, the markers of
Llama-3's chat layout, and one token for every line of `virtual_tokens.txt`, in its order, as the published
checkpoints have. Equal arguments give equal files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from unidecode import unidecode

_MARKERS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_TEXT_VOCABULARY = 2048  # entries, of which 256 are the bytes
_CORPUS_CHARACTERS = 2_000_000  # enough for that vocabulary, and trained in a second


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="folder laid out like ToolGen's data/")
    parser.add_argument("--output_dir", type=Path, required=True, help="gets the checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: %(default)s)")
    options = parser.parse_args(argv)
    save_random_checkpoint(options.data_dir, options.output_dir, seed=options.seed)
    print(f"Random checkpoint with the tool tokens of {options.data_dir}: {options.output_dir}")
    return 0


def save_random_checkpoint(data_dir: Path, output_dir: Path, *, seed: int = 0) -> None:
    """Write tokenizer and float32 weights for the tools of `data_dir`."""
    tokenizer = build_tokenizer(_documentation(data_dir), tool_tokens(data_dir))
    tokenizer.save_pretrained(output_dir)
    random_llama(len(tokenizer), seed=seed).save_pretrained(output_dir)


def tool_tokens(data_dir: Path) -> list[str]:
    """Return the tokens of `virtual_tokens.txt` as vocabularies spell them: in ASCII."""
    text = (data_dir / "virtual_tokens.txt").read_text(encoding="utf-8")
    return [unidecode(line.strip()) for line in text.split("\n") if line.strip()]


def build_tokenizer(corpus: Iterator[str], tokens: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer learnt from `corpus`, with the chat markers and `tokens` added, in this
    order.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_TEXT_VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens([AddedToken(marker, special=True, normalized=False) for marker in _MARKERS])
    begin = _MARKERS[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=begin, eos_token=_MARKERS[1])
    fast.add_tokens(list(tokens), special_tokens=False)
    return fast


def random_llama(vocab_size: int, *, seed: int) -> LlamaForCausalLM:
    """Return two layers, 64 wide, with room for the conversations of real queries."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # of 32 each: vLLM's attention on the CPU knows no smaller ones
        num_key_value_heads=1,
        max_position_embeddings=8192,  # as Llama-3-8B
        # Wide enough that different prompts lead to different texts: at the usual 0.02 all end in the same one.
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def _documentation(data_dir: Path) -> Iterator[str]:
    """Yield the beginning of tools.json as it is: prompts quote it."""
    text = (data_dir / "toolenv" / "tools" / "tools.json").read_text(encoding="utf-8")[:_CORPUS_CHARACTERS]
    yield text


if __name__ == "__main__":
    sys.exit(main())
