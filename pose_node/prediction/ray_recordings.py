"""Recordings that are read, and whose people are found, by a Ray cluster.

To a run they look like any other recording, only that their frames are answered already. Ray
delivers in any order, and what was lost with a worker a second time; here every frame comes exactly
once and in order, or the run fails.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from pose_node.errors import ClusterError, SourceError
from pose_node.prediction.frames import AnsweredFrame, Failure, Kind, RecordedFrame
from pose_node.prediction.journal import unpack
from pose_node.prediction.quiet import quiet_stderr
from pose_node.prediction.ray_cluster import Cluster, connect, find_resources, start_work
from pose_node.prediction.ray_workers import EngineSettings, ReadingPlan

_PATIENCE = 20.0  # seconds until a thread gets its rows


class RayRecordings:
    """Opens the sources of a run, one after the other, as a cluster reads them.

    Args:
        cluster: where.
        sources: names of the sources, in the order in which they will be opened.
        plan: what to read.
        engine: what to find people with; device "auto" takes GPUs where the cluster has any.
        model: content of the model's file; the cluster's machines need not have it.
        num_keypoints: K.
        batch_size: images at once; None for 8 on a GPU, else 1.

    Raises:
        ClusterError: Ray is not installed, or the cluster cannot be used.
        DeviceError: the cluster has no GPU.
    """

    def __init__(
        self,
        cluster: Cluster,
        sources: Sequence[str],
        plan: ReadingPlan,
        engine: EngineSettings,
        model: bytes,
        *,
        num_keypoints: int,
        batch_size: int | None = None,
    ) -> None:
        self._num_keypoints = num_keypoints
        self._opened = 0
        self._closed = False
        ray = connect(cluster)
        try:
            workers, gpus = find_resources(ray, cluster, str(engine.arguments["device"]))
            arguments = {**engine.arguments, "device": "cuda:0" if gpus else "cpu"}
            self.description = f"Ray, {workers} workers on {'GPUs' if gpus else 'CPUs'}"
            rows = start_work(
                [
                    {"number": number, "name": os.fsencode(name)}
                    for number, name in enumerate(sources)
                ],
                plan,
                (EngineSettings(engine.model, arguments, engine.threads), model),
                workers=workers,
                gpus=gpus,
                cpus=cluster.cpus_per_worker,
                batch_size=batch_size or (8 if gpus else 1),
            )
        except BaseException:
            ray.shutdown()
            raise
        self._rows = rows
        self._taking = threading.Lock()
        self._ordered = OrderedItems(self._take)

    def __enter__(self) -> RayRecordings:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, name: str) -> RayRecording:
        """The next source.

        Raises:
            SourceError: it cannot be read.
            ClusterError: the cluster failed.
        """
        items = self._ordered.source(self._opened)
        self._opened += 1
        first, _ = next(items)
        if first["kind"] == "unreadable":
            raise SourceError(first["reason"])
        return RayRecording(name, first, items, self._num_keypoints)

    def close(self) -> None:
        """End the work and leave the cluster; a new one on this machine ends."""
        import ray

        self._closed = True
        with quiet_stderr():  # Ray complains of the tasks that are given up
            # A thread that is waiting for rows must not be there when Ray goes.
            if self._taking.acquire(timeout=_PATIENCE):
                self._rows.close()
                self._taking.release()
            ray.shutdown()

    def _take(self) -> dict[str, Any] | None:
        """The next row of the cluster, in any order; None after the last one."""
        from ray.exceptions import RayError

        with self._taking:
            if self._closed:
                return None
            try:
                return next(self._rows, None)
            except (RayError, RuntimeError, OSError) as error:
                reason = str(error).strip().splitlines() or [type(error).__name__]
                raise ClusterError(
                    f"the Ray cluster failed: {reason[-1]:.300}; what was done is kept, --resume "
                    "goes on"
                ) from error


class RayRecording:
    """One source; iterate once."""

    def __init__(
        self,
        name: str,
        begin: dict[str, Any],
        items: Iterator[tuple[dict[str, Any], bytes]],
        num_keypoints: int,
    ) -> None:
        self.name = name
        self.kind: Kind = begin["recording"]
        self.fps: float | None = begin["fps"]
        self.frame_count: int | None = begin["frame_count"]
        self._items = items
        self._num_keypoints = num_keypoints

    def __iter__(self) -> Iterator[RecordedFrame | Failure]:
        """The frames with their people, and what could not be read.

        Raises:
            SourceError: the source broke off.
            ClusterError: the cluster failed.
        """
        for item, people in self._items:
            if item["kind"] == "failure":
                yield Failure(item["source"], item["reason"], item["topic"], item["index"])
            elif item["kind"] == "frame":
                yield self._frame(item, people)
            elif item["kind"] == "broken":
                raise SourceError(item["reason"])

    def close(self) -> None:
        """Nothing is open here."""

    def _frame(self, item: dict[str, Any], people: bytes) -> AnsweredFrame:
        width, height = item["size"]
        return AnsweredFrame(
            source=item["source"],
            topic=item["topic"],
            index=item["index"],
            stamp_ns=item["stamp_ns"],
            image=np.broadcast_to(np.uint8(0), (height, width, 3)),  # one byte of memory
            channel_order=item["channel_order"],
            frame_id=item["frame_id"],
            logged_ns=item["logged_ns"],
            poses=None if item["known"] else unpack(people, self._num_keypoints),
        )


class OrderedItems:
    """Puts rows that come in any order, some of them twice, into the order in which they were read.

    Args:
        take: gives the next row, with ``item`` and ``people`` as `EngineWorker` makes them; None
            after the last one.
    """

    def __init__(self, take: Callable[[], dict[str, Any] | None]) -> None:
        self._take = take
        self._waiting: dict[tuple[int, int], tuple[dict[str, Any], bytes]] = {}
        self._next = (0, 0)  # number of the source, and place in it

    def source(self, number: int) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The items of a source and what was found; sources are asked for in order.

        Raises:
            ClusterError: an item did not come.
        """
        place = 0
        while True:
            self._next = (number, place)
            while self._next not in self._waiting:
                row = self._take()
                if row is None:
                    raise ClusterError(
                        f"the Ray cluster ended without item {place} of source {number}; "
                        "what was done is kept, --resume goes on"
                    )
                item = json.loads(row["item"])
                key = (item["number"], item["place"])
                if key >= self._next:  # else it came before, from a worker that died since
                    self._waiting[key] = (item, row["people"])
            item, people = self._waiting.pop(self._next)
            yield item, people
            if item["kind"] in ("unreadable", "broken", "end"):
                return
            place += 1
