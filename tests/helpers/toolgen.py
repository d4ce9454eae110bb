"""Tiny but real tokenizers, checkpoints and data folders, and an engine that says what it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from unidecode import unidecode

from evaluation.toolbench.inference.engine.request import GenerationRequest, GenerationResult
from evaluation.toolbench.inference.LLM.toolgen import ToolGen
from evaluation.toolbench.inference.LLM.toolgen_atomic import ToolGenAtomic
from evaluation.toolbench.inference.toolgen.agent import ToolGenAgent
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions

# How both families cut text into words before BPE: contractions, words with one sign before them, up to
# three digits, signs, line breaks, blanks.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_MARKERS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
QWEN_MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CORPUS = (
    "You answer a request with the help of tools, one step at a time. system user assistant",
    "Generate the action. Please generate the action. Please give the input. Here is the documentation: ",
    "{'name': 'city', 'type': 'STRING', 'description': 'City name', 'default': 'Paris'} required optional",
    "{\"error\": \"\", \"response\": \"{'city': 'Paris', 'sky': 'sunny'}\"}\nBegin!\n0 1 2 3 4 5 6 7 8 9",
)

SKY_WATCH = "<<Sky Watch&&Daily Forecast>>"
TOOLS = [
    {
        "category_name": "Weather",
        "tool_name": "Sky Watch",
        "tool_description": "Weather",
        "api_list": [
            {
                "name": "Daily Forecast",
                "description": "Daily Forecast for one city.",
                "required_parameters": [
                    {"name": "city", "type": "STRING", "description": "City name", "default": "Paris"}
                ],
                "optional_parameters": [
                    {"name": "days", "type": "NUMBER", "description": "How many days", "default": 3},
                    {"name": "Is Metric?", "type": "BOOLEAN", "description": "Units", "default": ""},
                ],
            },
            {"name": "Air Quality", "description": " ", "required_parameters": [], "optional_parameters": []},
        ],
    },
    {
        "category_name": "Food",
        "tool_name": "Café Finder",
        "tool_description": "Coffee",
        "api_list": [{"name": "Find Café", "description": None, "required_parameters": [], "optional_parameters": []}],
    },
]
TOKEN_LINES = ["<<Finish>>", SKY_WATCH, "<<Sky Watch&&Air Quality>>", "<<Café Finder&&Find Café>>"]
TOOL_TOKENS = tuple(unidecode(line) for line in TOKEN_LINES)
INDEXES = {
    "Semantic": ["sky watch daily", "sky watch", "find cafe"],  # the second is a prefix of the first
    "Numeric": ["0 0 0 0 0", "0 0 0 0 1", "0 0 0 0 2"],
    "Hierarchical": ["0 1", "0 1 2", "3"],
}
NAMES = ["daily_forecast_for_sky_watch", "air_quality_for_sky_watch", "find_caf_for_caf_finder"]


def build_tiny_tokenizer(tool_tokens: Sequence[str] = (), style: str = "llama-3") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 400 entries, the chat markers of `style` ("llama-3" or "qwen"), the tool tokens.

    As in the real families: Llama-3 puts a BOS in front of every text, Qwen normalises to NFC and has none.
    """
    markers = LLAMA_MARKERS if style == "llama-3" else QWEN_MARKERS
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    if style != "llama-3":
        tokenizer.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([AddedToken(marker, special=True, normalized=False) for marker in markers])
    if style == "llama-3":
        bos = markers[0]
        tokenizer.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]),
            ]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=markers[0] if style == "llama-3" else None,
        eos_token=LLAMA_MARKERS[1] if style == "llama-3" else QWEN_MARKERS[0],
    )
    fast.add_tokens(list(tool_tokens), special_tokens=False)
    return fast


def tiny_llama(vocab_size: int, seed: int = 0, max_position_embeddings: int = 4096) -> LlamaForCausalLM:
    """A random float32 Llama of 2 layers, 64 wide."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_position_embeddings,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def save_tiny_checkpoint(
    folder: Path,
    tool_tokens: Sequence[str] = (),
    style: str = "llama-3",
    *,
    seed: int = 0,
    vocab_size: int | None = None,
    max_position_embeddings: int = 4096,
) -> Path:
    """A checkpoint folder with random weights and its tokenizer; `vocab_size` other than the tokenizer's on request."""
    tokenizer = build_tiny_tokenizer(tool_tokens, style)
    tokenizer.save_pretrained(folder)
    tiny_llama(vocab_size or len(tokenizer), seed, max_position_embeddings).save_pretrained(folder)
    return folder


def write_data_folder(
    folder: Path, *, tools: list | None = None, token_lines: Sequence[str] = TOKEN_LINES, names: Sequence[str] = NAMES
) -> Path:
    """A `data` folder with the tools above, or others, under all four indexings."""
    toolenv = folder / "toolenv"
    (toolenv / "tools").mkdir(parents=True)
    (toolenv / "tools" / "tools.json").write_text(json.dumps(TOOLS if tools is None else tools), encoding="utf-8")
    (folder / "virtual_tokens.txt").write_text("".join(f"{line}\n" for line in token_lines), encoding="utf-8")
    for indexing, actions in INDEXES.items():
        index = dict(zip(names, actions, strict=False))
        (toolenv / f"Tool2{indexing}Id.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


class ScriptedEngine:
    """Answers requests in turn with the given texts, each followed by the end token, and keeps the requests.

    An answer may also be a function of the request, to token ids.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        answers: Sequence[str | Callable[[GenerationRequest], Sequence[int]]],
        *,
        end_token: str = "<|eot_id|>",
        max_length: int = 100_000,
    ) -> None:
        self.vocab_size = len(tokenizer)
        self.max_length = max_length
        self.requests: list[GenerationRequest] = []
        self.ended: list[str] = []
        self.closed = False
        self._tokenizer = tokenizer
        self.answers = list(answers)
        self._end_id = tokenizer.convert_tokens_to_ids(end_token)

    def prompts(self) -> list[str]:
        return [self._tokenizer.decode(list(request.prompt_ids)) for request in self.requests]

    def generate(self, request: GenerationRequest) -> GenerationResult:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if callable(answer):
            return GenerationResult(tuple(answer(request)), "length")
        ids = self._tokenizer(answer, add_special_tokens=False)["input_ids"]
        return GenerationResult((*ids, self._end_id), "stop")

    def submit(self, request: GenerationRequest) -> Future[GenerationResult]:
        future: Future[GenerationResult] = Future()
        future.set_result(self.generate(request))
        return future

    def end_conversation(self, conversation_id: str) -> None:
        self.ended.append(conversation_id)

    def close(self) -> None:
        self.closed = True


@lru_cache
def shared_tokenizer(style: str = "llama-3") -> PreTrainedTokenizerFast:
    """The tiny tokenizer with the tokens of the tools above; not to be changed."""
    return build_tiny_tokenizer(TOOL_TOKENS, style)


def scripted_agent(
    data_dir: Path,
    answers: Sequence[str | Callable[[GenerationRequest], Sequence[int]]],
    *,
    max_length: int = 100_000,
    **options: Any,
) -> tuple[ToolGenAgent, ScriptedEngine]:
    """An agent whose model says `answers` in turn, and the engine that keeps what it was asked.

    `ToolGenAtomic`, or `ToolGen` where an indexing is given.
    """
    agent_class = ToolGen if "indexing" in options else ToolGenAtomic
    is_qwen = options.get("template") == "qwen-7b-chat"
    tokenizer = shared_tokenizer("qwen" if is_qwen else "llama-3")
    end_token = "<|im_end|>" if is_qwen else "<|eot_id|>"
    engine = ScriptedEngine(tokenizer, answers, end_token=end_token, max_length=max_length)
    options = {"data_dir": data_dir, "max_sequence_length": 100_000, **options}
    return agent_class.around(None, tokenizer, engine, AgentOptions(**options)), engine


def first_messages(query: str = "Will it be sunny in Paris tomorrow?") -> list[dict[str, Any]]:
    """A conversation as the pipeline begins it."""
    return [{"role": "system", "content": "replaced"}, {"role": "user", "content": f"\n{query}\nBegin!\n"}]
