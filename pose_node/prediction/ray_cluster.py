"""A Ray cluster: connecting to it, what there is of it, and the work that is given to it."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pose_node.errors import ClusterError, DeviceError
from pose_node.prediction.quiet import quiet_stderr
from pose_node.prediction.ray_workers import EngineSettings, EngineWorker, ReadingPlan, read_source

_LOCAL_MEMORY = 1 << 30  # bytes for frames between reading and inference, on one machine
_BLOCK = 16 << 20  # bytes that travel at once


@dataclass(frozen=True)
class Cluster:
    """How much of which cluster to use.

    Attributes:
        address: of a cluster; None for that of the environment (RAY_ADDRESS), or else a new one on
            this machine.
        workers: engines; None for one for each GPU, or as many as there are cores for.
        cpus_per_worker: cores of each engine on a CPU.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_worker: int = 2


def connect(cluster: Cluster) -> Any:
    """Ray, connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its log is full of errors that are none, and whoever uses it too late would start a new one.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ClusterError(
            f"Ray cannot be imported ({error}): `pip install 'pose-node[ray]'`"
        ) from error
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    where: dict[str, Any] = {"address": address}
    if address is None:
        wanted = (cluster.workers or 1) * cluster.cpus_per_worker
        where = {
            "address": "local",
            "num_cpus": max(os.cpu_count() or 1, wanted),
            "include_dashboard": False,
            "object_store_memory": _LOCAL_MEMORY,
        }
    try:
        with quiet_stderr():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ClusterError(f"Ray cannot start or be reached: {reason[0]:.300}") from error
    return ray


def find_resources(ray: Any, cluster: Cluster, device: str) -> tuple[int, bool]:
    """How many workers, and whether they have GPUs."""
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"expected device auto, cpu or cuda with Ray, got {device!r}")
    found = ray.cluster_resources()
    num_gpus, num_cpus = int(found.get("GPU", 0)), int(found.get("CPU", 0))
    if device == "cuda" and num_gpus == 0:
        raise DeviceError("the Ray cluster has no GPU; --device cpu uses its cores")
    if device != "cpu" and num_gpus:
        return min(cluster.workers or num_gpus, num_gpus), True
    fitting = num_cpus // cluster.cpus_per_worker
    if fitting == 0:
        raise ClusterError(
            f"the Ray cluster has {num_cpus} cores, fewer than the {cluster.cpus_per_worker} of "
            "one worker; give --ray-cpus a smaller number"
        )
    return min(cluster.workers or fitting, fitting), False


def start_work(
    sources: Sequence[dict[str, Any]],
    plan: ReadingPlan,
    engine: tuple[EngineSettings, bytes],
    *,
    workers: int,
    gpus: bool,
    cpus: int,
    batch_size: int,
) -> Generator[dict[str, Any], None, None]:
    """Start reading and inference; the rows as they come."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK
    found: Any = ray.data.from_items(list(sources), override_num_blocks=len(sources))
    found = found.map_batches(
        partial(read_source, plan),
        batch_size=1,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(size=min(len(sources), workers)),
        # Engines on CPUs own the cores; beside GPUs there are cores for reading.
        num_cpus=1 if gpus else 0,
    )
    found = found.map_batches(
        EngineWorker,
        fn_constructor_args=engine,
        batch_size=batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ActorPoolStrategy(size=workers),
        num_gpus=1 if gpus else 0,
        num_cpus=1 if gpus else cpus,
    )
    batches = found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    return (row for batch in batches for row in batch.to_pylist())
