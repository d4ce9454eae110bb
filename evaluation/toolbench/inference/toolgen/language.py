"""Holds everything an agent knows without its model: how to write prompts, and what can be called."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation.toolbench.checkout import repository_root
from evaluation.toolbench.inference.errors import DataError
from evaluation.toolbench.inference.toolgen.action_tokens import ActionTokens, AllowedActions
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions, Restriction
from evaluation.toolbench.inference.toolgen.catalog import FINISH_NAME, load_catalog
from evaluation.toolbench.inference.toolgen.chat_format import PromptEncoder
from evaluation.toolbench.inference.toolgen.prompts import load_prompt_texts, prompt_layout
from evaluation.toolbench.inference.toolgen.template_format import format_for


class ToolLanguage:
    """Holds one tokenizer, one catalog and one set of texts; shared by all conversations and not changed.

    The tokenizer's `eos_token` is set to the template's end of turn, which ends what the model says.
    `indented_prompt` chooses the variant of the checkout's system prompt (see `load_prompt_texts`), `root`
    the checkout. ConfigError or DataError for options, data or a tokenizer that cannot be used.
    """

    def __init__(
        self, tokenizer: Any, options: AgentOptions, *, indented_prompt: bool, root: Path | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.options = options
        self.form = format_for(options.template, tokenizer)
        self.layout = prompt_layout(options.prompt_layout)
        self.texts = load_prompt_texts(
            indented=indented_prompt, root=root or repository_root(), system_prompt_file=options.system_prompt_file
        )
        self.catalog = load_catalog(
            options.data_dir, options.indexing, self.texts.finish_description, options.indexing_file
        )
        self.encoder = PromptEncoder(tokenizer, self.form)
        self.actions = ActionTokens(self.catalog, self.encoder, self.form)
        tokenizer.eos_token = self.form.end_token

    def actions_of(self, names: Iterable[str]) -> list[str]:
        """Return the actions that these ToolBench names stand for, and Finish last; names not known are left out."""
        actions = [action for name in names if name != FINISH_NAME for action in self.catalog.actions_of(name)]
        return [*dict.fromkeys(actions), self.catalog.finish]

    @cached_property
    def all_actions(self) -> AllowedActions:
        """Return every action that a call can follow: tens of thousands, so it is put together once."""
        return self.actions.allowed(self.catalog.documented_actions())

    def allowed(self, restriction: Restriction, names: Iterable[str]) -> AllowedActions | None:
        """Return what an action may be; `names` are the query's own tools, for "truth". None: anything.

        DataError when "truth" would leave nothing but Finish.
        """
        if restriction == "off":
            return None
        if restriction == "all":
            return self.all_actions
        names = list(names)
        actions = [action for action in self.actions_of(names) if action in self.catalog.documentation]
        if actions == [self.catalog.finish]:
            raise DataError(
                f"actions are restricted to the query's own tools, but none of its {len(names)} is in the catalog of "
                f"{len(self.catalog.actions)} actions{f' (the first is {names[0]})' if names else ''}: "
                "use restrict_actions=all, or the data folder that has them"
            )
        return self.actions.allowed(actions)
