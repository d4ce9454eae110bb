"""Holds the server's settings in one place: the command line takes its defaults from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.toolbench.inference.errors import ConfigError


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
    max_body_bytes: int = 2**20
    cache_memory_mib: int = 256
    ready_file: Path | None = None
    log_file: Path | None = None
    exit_with_parent: int | None = None  # a process id

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
