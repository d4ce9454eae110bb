"""Holds the server's settings in one place: the command line takes its defaults from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.toolbench.inference.errors import ConfigError

# Settings that the environment may have, in upper case.
_TEXTS = ("simulator_url", "simulator_model")
_PATHS = ("simulator_prompts", "simulated_dir")

LISTENING = "Virtual API at "  # begins the line on stderr that tells our URL, with a comma after it


@dataclass(frozen=True)
class ServerConfig:
    cache_dir: Path = Path("tool_response_cache")
    host: str = "127.0.0.1"  # this machine only: the server has no authentication
    port: int = 8080  # 0: any free one
    # On, because it can only turn a miss into an answer for arguments that mean the same: StableToolBench's
    # own server would ask the real API or a simulator there, and get an answer too.
    fuzzy: bool = True
    forward_url: str | None = None  # another virtual API server, or the real one, that is asked on a miss
    forward_timeout_s: float = 60.0
    simulator_url: str | None = None  # a chat model's server, that is asked on a miss
    simulator_model: str | None = None  # None: the only one that is served
    simulator_seed: int = 42  # of StableToolBench's server
    simulator_timeout_s: float = 100.0  # less than the 120 s that our client gives a call
    simulator_prompts: Path | None = None
    simulator_key: str = field(default="", repr=False)
    simulated_dir: Path | None = None  # None: beside the cache
    tools_dir: Path | None = None  # what the simulator is told of an API
    max_body_bytes: int = 2**20
    cache_memory_mib: int = 256
    ready_file: Path | None = None
    log_file: Path | None = None
    exit_with_parent: int | None = None  # a process id

    @classmethod
    def of(cls, flags: Mapping[str, Any], environment: Mapping[str, str]) -> ServerConfig:
        """Take the flags; what they do not tell of a simulator, and its key, are the environment's."""
        told = {name: environment[name.upper()] for name in (*_TEXTS, *_PATHS) if environment.get(name.upper())}
        given = {name: value for name, value in flags.items() if value is not None}
        given = {name: Path(value) if name in _PATHS else value for name, value in {**told, **given}.items()}
        return cls(**given, simulator_key=environment.get("SIMULATOR_API_KEY", "").strip())

    @property
    def simulated_replies(self) -> Path:
        """Return the folder of what the simulator said."""
        cache = self.cache_dir.resolve()
        return self.simulated_dir or cache.with_name(f"{cache.name}_simulated")

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port must be 0 (any free one) to 65535, not {self.port}")
        if not self.forward_timeout_s > 0:
            raise ConfigError(f"--forward_timeout_s must be above 0, not {self.forward_timeout_s}")
        if self.max_body_bytes < 1:
            raise ConfigError(f"--max_body_bytes must be at least 1, not {self.max_body_bytes}")
        if self.cache_memory_mib < 0:
            raise ConfigError(f"--cache_memory_mib must be 0 or above, not {self.cache_memory_mib}")
        if self.exit_with_parent is not None and self.exit_with_parent < 1:
            raise ConfigError(f"--exit_with_parent must be a process id, not {self.exit_with_parent}")
        self._check_simulator()

    def _check_simulator(self) -> None:
        if not self.simulator_url:
            if self.simulator_model:
                raise ConfigError(
                    f"the simulator {self.simulator_model} is nowhere: name its server with --simulator_url or "
                    "SIMULATOR_URL, such as http://localhost:8000/v1"
                )
            return
        if self.forward_url:
            raise ConfigError("--forward_url and --simulator_url both say what is asked on a miss: pass one of them")
        if self.tools_dir is None or not self.tools_dir.is_dir():
            found = "" if self.tools_dir is None else f" ({self.tools_dir} is not a folder)"
            raise ConfigError(
                f"a simulator needs the APIs' documentation{found}: pass --tools_dir with <category>/<tool>.json, "
                "such as data/toolenv/tools"
            )
        if not 0 <= self.simulator_seed < 2**31:
            raise ConfigError(f"--simulator_seed must be 0 to {2**31 - 1}, not {self.simulator_seed}")
        if not self.simulator_timeout_s > 0:
            raise ConfigError(f"--simulator_timeout_s must be above 0, not {self.simulator_timeout_s}")
        if self.simulated_replies.resolve().is_relative_to(self.cache_dir.resolve()):
            raise ConfigError(
                f"--simulated_dir {self.simulated_replies} lies in the recorded cache {self.cache_dir}, which is not "
                "to be mixed with what a model said: pass another folder"
            )
