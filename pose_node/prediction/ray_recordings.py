"""Recordings that are read, and whose people are found, by a Ray cluster.

To a run they look like any other recording, only that their frames are answered already. Ray
delivers in any order, and what was lost with a worker a second time; here every frame comes exactly
once and in order, or the run fails.
"""

from __future__ import annotations

import json
import os
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from pose_node.errors import ClusterError, SourceError
from pose_node.prediction.frames import AnsweredFrame, Failure, Kind, RecordedFrame
from pose_node.prediction.journal import Journal
from pose_node.prediction.quiet import quiet_stderr
from pose_node.prediction.ray_cluster import Cluster, connect, find_resources, start_work
from pose_node.prediction.ray_workers import EngineSettings, ReadingPlan

_PATIENCE = 20.0  # seconds until a thread gets its rows
_LAST = ("unreadable", "broken", "end")  # kinds of items

Item = AnsweredFrame | dict[str, Any]
"""A frame with its people, or anything else that `read_source` yields."""


class RayRecordings:
    """Opens the sources of a run, one after the other, as a cluster reads them.

    It is ready when an engine is, as without a cluster: engines that cannot start are told at once.

    Args:
        cluster: where.
        sources: names of the sources, in the order in which they will be opened.
        plan: what to read.
        engine: what to find people with; device "auto" takes GPUs where the cluster has any.
        model: content of the model's file; the cluster's machines need not have it.
        journal: holds what is known, `plan.known`, and gets what is found as soon as it comes.
        batch_size: images at once; None for 8 on a GPU, else 1.

    Raises:
        ClusterError: Ray is not installed, or the cluster or its engines cannot be used.
        DeviceError: the cluster has no GPU.
    """

    def __init__(
        self,
        cluster: Cluster,
        sources: Sequence[str],
        plan: ReadingPlan,
        engine: EngineSettings,
        model: bytes,
        journal: Journal,
        *,
        batch_size: int | None = None,
    ) -> None:
        self._opened = 0
        self._closed = False
        self._first: dict[str, Any] | None = None  # which says that an engine stands
        ray = connect(cluster)
        try:
            workers, gpus = find_resources(ray, cluster, str(engine.arguments["device"]))
            arguments = {**engine.arguments, "device": "cuda:0" if gpus else "cpu"}
            self.description = f"Ray, {workers} workers on {'GPUs' if gpus else 'CPUs'}"
            self._rows = start_work(
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
            self._first = _next_row(self._rows, "no engine of it has started")
        except BaseException:
            with quiet_stderr():
                ray.shutdown()
            raise
        self._taking = threading.Lock()
        self._ordered = OrderedItems(self._take, journal)

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
        items = self._one_by_one(self._ordered.source(self._opened))
        self._opened += 1
        first = next(items)
        assert not isinstance(first, AnsweredFrame), "readers begin with something else"
        if first["kind"] == "unreadable":
            raise SourceError(first["reason"])
        return RayRecording(name, first, items)

    def close(self) -> None:
        """End the work and leave the cluster; a new one on this machine ends."""
        import ray

        self._closed = True
        with quiet_stderr():  # Ray complains of the tasks that are given up
            # A thread that is waiting for rows must not be there when Ray and the journal go.
            if self._taking.acquire(timeout=_PATIENCE):
                self._rows.close()
                self._taking.release()
            ray.shutdown()

    def _one_by_one(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items, none of which is on its way while this is closed."""
        while True:
            with self._taking:
                item = None if self._closed else next(items, None)
            if item is None:
                return
            yield item

    def _take(self) -> dict[str, Any] | None:
        """The next row of the cluster, in any order; None after the last one."""
        if self._closed:
            return None
        row, self._first = self._first, None
        if row is None:
            row = _next_row(self._rows, "what was done is kept, --resume goes on")
        return None if self._closed else row  # nobody waits for it any more


def _next_row(rows: Iterator[dict[str, Any]], consequence: str) -> dict[str, Any] | None:
    """The next row, None after the last one; `consequence` ends the error if the cluster fails."""
    from ray.exceptions import RayError

    try:
        return next(rows, None)
    except (RayError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ClusterError(f"the Ray cluster failed: {reason[-1]:.300}; {consequence}") from error


class RayRecording:
    """One source; iterate once."""

    def __init__(self, name: str, begin: dict[str, Any], items: Iterator[Item]) -> None:
        self.name = name
        self.kind: Kind = begin["recording"]
        self.fps: float | None = begin["fps"]
        self.frame_count: int | None = begin["frame_count"]
        self._items = items

    def __iter__(self) -> Iterator[RecordedFrame | Failure]:
        """The frames with their people, and what could not be read.

        Raises:
            SourceError: the source broke off.
            ClusterError: the cluster failed.
        """
        for item in self._items:
            if isinstance(item, AnsweredFrame):
                yield item
            elif item["kind"] == "failure":
                yield Failure(item["source"], item["reason"], item["topic"], item["index"])
            elif item["kind"] == "broken":
                raise SourceError(item["reason"])

    def close(self) -> None:
        """Nothing is open here."""


class OrderedItems:
    """Puts rows that come in any order, some of them twice, into the order in which they were read.

    People go to the journal at once: those that wait for their turn cost 8 bytes a frame here, and
    a run that resumes this one knows them.

    Args:
        take: gives the next row, with ``item`` and ``people`` as `EngineWorker` makes them; None
            after the last one.
        journal: where people are kept.
    """

    def __init__(self, take: Callable[[], dict[str, Any] | None], journal: Journal) -> None:
        self._take = take
        self._journal = journal
        self._next = (0, 0)  # number of the source, and place in it
        # By source, where in the journal the frame at each place is; -1 for none that came.
        self._frames: dict[int, array[int]] = {}
        self._others: dict[tuple[int, int], dict[str, Any]] = {}

    def source(self, number: int) -> Iterator[Item]:
        """The items of a source and what was found; sources are asked for in order.

        Raises:
            ClusterError: an item did not come.
            OutputError: the journal cannot be written.
        """
        place = 0
        while True:
            self._next = (number, place)
            while (item := self._waiting(number, place)) is None:
                row = self._take()
                if row is None:
                    raise ClusterError(
                        f"the Ray cluster ended without item {place} of source {number}; "
                        "what was done is kept, --resume goes on"
                    )
                self._keep(json.loads(row["item"]), row["people"])
            yield item
            if not isinstance(item, AnsweredFrame) and item["kind"] in _LAST:
                self._frames.pop(number, None)
                return
            place += 1

    def _waiting(self, number: int, place: int) -> Item | None:
        frames = self._frames.get(number, ())
        if place < len(frames) and frames[place] >= 0:
            return self._journal.read(frames[place])
        return self._others.pop((number, place), None)

    def _keep(self, item: dict[str, Any], people: bytes) -> None:
        number, place = item["number"], item["place"]
        if (number, place) < self._next:  # it came before, from a worker that died since
            return
        if item["kind"] != "frame":
            self._others[number, place] = item
            return
        frames = self._frames.setdefault(number, array("q"))
        frames.extend([-1] * (place + 1 - len(frames)))
        if frames[place] < 0:
            frames[place] = self._place(item, people)

    def _place(self, item: dict[str, Any], people: bytes) -> int:
        """Where in the journal a frame is."""
        if not item["known"]:
            return self._journal.add_packed(item, people)
        place = self._journal.place_of((item["source"], item["topic"], item["index"]))
        assert place is not None, "readers know what the journal knows"
        return place
