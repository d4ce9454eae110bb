"""What a replica's process is told at its start."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from evaluation.toolbench.inference.records.queries import Task
from evaluation.toolbench.inference.replicas.layout import ReplicaSpec


@dataclass(frozen=True)
class Setup:
    """Plain values alone; the tasks are without their backbone, which every replica loads itself."""

    spec: ReplicaSpec
    args: Any  # the parsed command line
    tasks: list[Task]
    run_id: str
    process_id: int = 0
    add_retrieval: bool = False
    log_level: int = logging.WARNING
