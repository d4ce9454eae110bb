"""ToolGen with one vocabulary token per tool."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evaluation.toolbench.inference.toolgen.agent import ToolGenAgent
from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions, Restriction
from evaluation.toolbench.inference.toolgen.agent_parts import Serving, load_agent_parts


class ToolGenAtomic(ToolGenAgent):
    """A checkpoint whose vocabulary has the tokens of `virtual_tokens.txt`. The interface is `ToolGenAgent`'s."""

    indented_prompt = False

    def __init__(
        self,
        model_name_or_path: str,
        template: str = "llama-3",
        device: str = "cuda",
        cpu_offloading: bool = False,
        max_sequence_length: int = 8192,
        num_gpus: int = 1,
        max_gpu_memory: str | Mapping[int, str] | None = None,
        *,
        data_dir: str | Path | None = None,
        engine: str = "auto",
        dtype: str = "auto",
        system_prompt_file: str | Path | None = None,
        prompt_layout: str = "upstream",
        restrict_actions: Restriction = "off",
        max_new_tokens: int = 512,
        seed: int = 42,
        serving: Serving | None = None,
    ) -> None:
        """Load tokenizer and model. Where the model goes: see `load_model`; the other arguments: `AgentOptions`.

        ConfigError, DataError or PlacementError say in one line what cannot be used.
        """
        options = AgentOptions(
            template=template,
            indexing="Atomic",
            max_sequence_length=max_sequence_length,
            data_dir=data_dir,
            system_prompt_file=system_prompt_file,
            prompt_layout=prompt_layout,
            restrict_actions=restrict_actions,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        parts = load_agent_parts(
            model_name_or_path,
            options,
            indented_prompt=self.indented_prompt,
            engine=engine,
            dtype=dtype,
            device=device,
            cpu_offloading=cpu_offloading,
            num_gpus=num_gpus,
            max_gpu_memory=max_gpu_memory,
            serving=serving,
        )
        super().__init__(*parts, model_name=model_name_or_path)

    @property
    def allowed_action_ids(self) -> list[int]:
        """Ids of the tokens that a call can follow, Finish's included."""
        catalog = self.language.catalog
        return [self.language.actions.ids_of(action)[0] for action in catalog.documented_actions()]
