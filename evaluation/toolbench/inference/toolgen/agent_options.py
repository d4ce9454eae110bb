"""Holds what a ToolGen agent can be told about prompts, actions and lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.gpu_config import LONGEST_CONVERSATION
from evaluation.toolbench.inference.toolgen.catalog import FINISH_ACTIONS
from evaluation.toolbench.inference.toolgen.chat_format import check_template
from evaluation.toolbench.inference.toolgen.prompts import prompt_layout

Restriction = Literal["off", "all", "truth"]
GenerationSettings = Literal["checkpoint", "ignore"]


@dataclass(frozen=True, kw_only=True)
class AgentOptions:
    """Checks itself when made: an unknown name is a ConfigError that lists the known ones."""

    # Or "qwen-7b-chat", or "auto", the tokenizer's own: the conversation layout the checkpoint was trained with.
    template: str = "llama-3"
    indexing: str = "Atomic"  # or "Semantic", "Numeric", "Hierarchical": what the model generates for a tool
    # JSON of ToolBench name -> text to generate, "Finish" among them: any other indexing.
    indexing_file: str | Path | None = None
    max_sequence_length: int = LONGEST_CONVERSATION  # tokens; the model's own context if that is shorter
    data_dir: str | Path | None = None  # laid out like ToolGen's `data`; None: the checkout's, else the demo's
    system_prompt_file: str | Path | None = None  # goes before the checkout's and our own system prompt
    prompt_layout: str = "upstream"  # or "trained": see `prompts.PromptStyle`
    # Actions that can be generated: any text ("off"), documented tools ("all"), the query's own ("truth").
    restrict_actions: Restriction = "off"
    max_new_tokens: int = 512  # of a thought, an action that is not restricted, or arguments
    seed: int = 42  # of what is drawn at temperatures above 0
    # Whether the repetition penalty, top_k and top_p of the checkpoint's generation_config.json hold, or "ignore".
    generation_config: GenerationSettings = "checkpoint"

    def __post_init__(self) -> None:
        check_template(self.template)
        prompt_layout(self.prompt_layout)
        if self.indexing_file is None and self.indexing not in FINISH_ACTIONS:
            raise ConfigError(f"unknown indexing {self.indexing!r}: use {', '.join(FINISH_ACTIONS)}")
        for name, choices in (("restrict_actions", Restriction), ("generation_config", GenerationSettings)):
            value, known = getattr(self, name), get_args(choices)
            if value not in known:
                raise ConfigError(f"unknown {name} {value!r}: use one of {', '.join(known)}")
        for name in ("max_sequence_length", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
