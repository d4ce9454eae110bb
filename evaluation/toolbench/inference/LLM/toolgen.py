"""Runs ToolGen with any of its indexings: tools are texts of several tokens, or one token each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evaluation.toolbench.inference.engine.constraint import TokenTrie
from evaluation.toolbench.inference.toolgen.agent import ToolGenAgent
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
from evaluation.toolbench.inference.toolgen.agent_parts import MoreOptions, load_agent_parts

if TYPE_CHECKING:
    from typing import Unpack  # of Python 3.11


class ToolGen(ToolGenAgent):
    """Runs a checkpoint that was trained with `Tool2<indexing>Id.json`. The interface is `ToolGenAgent`'s."""

    def __init__(
        self,
        model_name_or_path: str,
        template: str = AgentOptions.template,
        indexing: str = "Semantic",
        device: str = "cuda",
        cpu_offloading: bool = False,
        max_sequence_length: int = AgentOptions.max_sequence_length,
        num_gpus: int = 1,
        max_gpu_memory: str | Mapping[int, str] | None = None,
        **more: Unpack[MoreOptions],
    ) -> None:
        """Load tokenizer and model. Where the model goes: see `load_model`; for `more`, see `MoreOptions` and
        `AgentOptions`.

        `indexing` is Semantic, Numeric, Hierarchical or Atomic; `indexing_file` stands for any other. ConfigError,
        DataError or PlacementError say in one line what cannot be used.
        """
        parts = load_agent_parts(
            model_name_or_path,
            indented_prompt=self.indented_prompt,
            template=template,
            indexing=indexing,
            max_sequence_length=max_sequence_length,
            device=device,
            cpu_offloading=cpu_offloading,
            num_gpus=num_gpus,
            max_gpu_memory=max_gpu_memory,
            **more,
        )
        super().__init__(*parts, model_name=model_name_or_path)

    @property
    def trie(self) -> TokenTrie:
        """Return the token sequences of all actions that a call can follow, Finish included."""
        actions = self.language.actions
        return TokenTrie(map(actions.ids_of, self.language.catalog.documented_actions()), actions.end_id)
