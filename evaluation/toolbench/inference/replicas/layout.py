"""Decides which replica gets which GPUs, how much of their memory, and how many load at once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.toolbench.inference.engine import MAX_RUNNING
from evaluation.toolbench.inference.errors import PlacementError
from evaluation.toolbench.inference.memory_shares import CPU_KV_SHARE, HOST_SHARE, LOADING_SHARE
from evaluation.toolbench.inference.multi_gpu.units import GIB, gib

if TYPE_CHECKING:  # they import torch, which a replica without a placed model does without
    from evaluation.toolbench.inference.multi_gpu.placement import Placement
    from evaluation.toolbench.inference.multi_gpu.replica_plan import PlannedReplica

CPU_CONVERSATIONS = 32  # of one replica on the CPU unasked, where more at once take memory and gain nothing
_PROCESS_BYTES = GIB // 2  # of a replica's process beside its model: Python, torch, transformers


@dataclass(frozen=True)
class ReplicaSpec:
    """Describes a replica to be: its own process sees `visible_devices` only; without them it is in the parent."""

    number: int
    gpus: tuple[str, ...] = ()  # "cuda:0" as the parent counts; () on the CPU
    uuids: tuple[str, ...] = ()
    visible_devices: str | None = None  # for CUDA_VISIBLE_DEVICES
    placement: PlannedReplica | None = None  # as planned; None: where `load_model` puts it
    max_kv_bytes: int | None = None  # on each of its devices
    num_cpu_threads: int | None = None  # of torch; None: as many as torch takes

    @property
    def name(self) -> str:
        return f"replica {self.number}"

    @property
    def most_conversations(self) -> int:
        """Return how many conversations it takes at once for --num_thread auto."""
        return MAX_RUNNING if self.gpus else CPU_CONVERSATIONS

    def most_running(self, conversations: int | None) -> int:
        """Return how many sequences its engine's steps may have: as many as run at once and as there is memory for."""
        wanted = self.most_conversations if conversations is None else conversations
        return wanted if self.placement is None else min(wanted, self.placement.max_running)


@dataclass(frozen=True)
class RunLayout:
    """Lists the replicas of a run, and says why. One alone lives in the parent process."""

    replicas: tuple[ReplicaSpec, ...]
    reasons: str = ""  # for a reader; empty where nothing had to be decided
    num_loading: int = 1  # replicas that may load at the same time

    @property
    def is_in_parent(self) -> bool:
        return len(self.replicas) == 1


def one_replica(gpus: tuple[str, ...] = (), uuids: tuple[str, ...] = ()) -> RunLayout:
    """Return the layout of one replica in the parent, where `load_model` puts it."""
    return RunLayout((ReplicaSpec(0, gpus, uuids),))


def planned_layout(layout: Placement, host_bytes: int) -> RunLayout:
    """Turn the planner's replicas into specs, each with its GPUs and its share of their memory."""
    replicas = tuple(_planned_spec(number, replica) for number, replica in enumerate(layout.replicas))
    return RunLayout(replicas, layout.reasons, num_loading(layout.footprint.weight_bytes, len(replicas), host_bytes))


def cpu_layout(num_replicas: int, weight_bytes: int, host_bytes: int, num_cores: int) -> RunLayout:
    """Divide the CPU and `host_bytes` of free main memory among the replicas. PlacementError for too many."""
    room = int(host_bytes * HOST_SHARE)
    most = room // (weight_bytes + _PROCESS_BYTES)
    if num_replicas > max(most, 1):
        raise PlacementError(
            f"--num_replicas {num_replicas}: {gib(room)} of main memory may be used and a replica has "
            f"{gib(weight_bytes)} of weights and needs {gib(_PROCESS_BYTES)} beside them, so {most} fit: lower "
            "--num_replicas or free memory",
            num_replicas=num_replicas,
            fitting=most,
        )
    if num_replicas == 1:
        return one_replica()
    kv_bytes = int(host_bytes * CPU_KV_SHARE) // num_replicas
    threads = max(1, num_cores // num_replicas)
    return RunLayout(
        tuple(
            ReplicaSpec(number, visible_devices="", max_kv_bytes=kv_bytes, num_cpu_threads=threads)
            for number in range(num_replicas)
        ),
        f"No GPU: {num_replicas} replicas share the CPU, {threads} of its {num_cores} cores each, with "
        f"{gib(kv_bytes)} of KV cache each.",
        num_loading(weight_bytes + _PROCESS_BYTES, num_replicas, host_bytes),
    )


def num_loading(weight_bytes: int, num_replicas: int, host_bytes: int) -> int:
    """Return how many replicas may load at once, so that their weights do not exhaust the main memory; at least one.

    >>> num_loading(16, 8, 100), num_loading(16, 2, 1000), num_loading(16, 8, 10)
    (3, 2, 1)
    """
    return max(1, min(num_replicas, int(host_bytes * LOADING_SHARE) // max(weight_bytes, 1)))


def _planned_spec(number: int, replica: PlannedReplica) -> ReplicaSpec:
    return ReplicaSpec(
        number,
        gpus=tuple(f"cuda:{index}" for index in replica.gpus),
        uuids=tuple(shard.budget.gpu.uuid for shard in replica.shards),
        visible_devices=replica.visible_devices,
        placement=replica,
        max_kv_bytes=replica.max_kv_bytes,
    )
