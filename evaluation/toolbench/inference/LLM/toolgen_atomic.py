"""Runs ToolGen with one vocabulary token per tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evaluation.toolbench.inference.toolgen.agent import ToolGenAgent
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from evaluation.toolbench.inference.toolgen.agent_parts import MoreOptions, load_agent_parts

if TYPE_CHECKING:
    from typing import Unpack  # of Python 3.11


class ToolGenAtomic(ToolGenAgent):
    """Runs a checkpoint whose vocabulary has `virtual_tokens.txt`'s tokens. The interface is `ToolGenAgent`'s."""

    indented_prompt = False

    def __init__(
        self,
        model_name_or_path: str,
        template: str = AgentOptions.template,
        device: str = "cuda",
        cpu_offloading: bool = False,
        max_sequence_length: int = AgentOptions.max_sequence_length,
        num_gpus: int = 1,
        max_gpu_memory: str | Mapping[int, str] | None = None,
        **more: Unpack[MoreOptions],
    ) -> None:
        """Load tokenizer and model. Where the model goes: see `load_model`; for `more`, see `MoreOptions` and
        `AgentOptions`.

        ConfigError, DataError or PlacementError say in one line what cannot be used.
        """
        parts = load_agent_parts(
            model_name_or_path,
            indented_prompt=self.indented_prompt,
            template=template,
            indexing="Atomic",
            max_sequence_length=max_sequence_length,
            device=device,
            cpu_offloading=cpu_offloading,
            num_gpus=num_gpus,
            max_gpu_memory=max_gpu_memory,
            **more,
        )
        super().__init__(*parts, model_name=model_name_or_path)

    @property
    def allowed_action_ids(self) -> list[int]:
        """Return the ids of the tokens that a call can follow, Finish's included."""
        catalog = self.language.catalog
        return [self.language.actions.ids_of(action)[0] for action in catalog.documented_actions()]
