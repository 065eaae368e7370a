"""Reads the results of ``pose-node predict``, and finds the images that they belong to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from pose_node.errors import ImageError, SourceError
from pose_node.imaging import decode_file
from pose_node.poses import ChannelOrder, Poses, Skeleton
from pose_node.prediction.frames import RecordedFrame, Recording, Selection
from pose_node.prediction.names import FreeNames
from pose_node.prediction.recordings import is_live, open_recording
from pose_node.source_names import file_name
from pose_node.sources import IMAGE_SUFFIXES

_LINES, _PARQUET, _SUMMARY = "poses.jsonl", "poses.parquet", "run.json"
_END: Any = object()


@dataclass(frozen=True)
class ResultFrame:
    """One line of results.

    Attributes:
        source, topic, index, stamp_ns: as in `RecordedFrame`.
        size: width and height of the image, pixels.
        poses: the people.
    """

    source: str
    topic: str
    index: int
    stamp_ns: int | None
    size: tuple[int, int]
    poses: Poses


class Results:
    """The results of a run.

    Args:
        path: the folder of a run, or its JSON Lines or Parquet file.
        skeleton: of the people; by default what the run says, or else what their number of
            keypoints says.

    Raises:
        SourceError: there are no results.
    """

    def __init__(self, path: Path, skeleton: Skeleton | None = None) -> None:
        names = (_LINES, _PARQUET) if path.is_dir() else ("",)
        found = [path / name for name in names if (path / name).is_file()]
        if not found:
            raise SourceError(
                f"{path / names[0]} does not exist, expected the folder of a `pose-node predict` "
                "run, or its JSON Lines or Parquet file"
            )
        self.path = found[0]
        summary = _read_summary(self.path.with_name(_SUMMARY))
        self.topics: tuple[str, ...] = tuple(summary.get("settings", {}).get("topics", ()))
        self._skeleton = skeleton or _skeleton_of(summary)

    def __iter__(self) -> Iterator[tuple[ResultFrame, Skeleton]]:
        """The frames, each with its skeleton.

        Raises:
            SourceError: a line is not as it should be.
        """
        rows = _parquet_rows(self.path) if self.path.suffix == ".parquet" else _json_rows(self.path)
        for number in count(1):
            try:
                row = next(rows, _END)
                if row is _END:
                    return
                found = self._frame(row)
            except (ValueError, TypeError, KeyError) as error:
                raise SourceError(
                    f"{self.path}, line {number} is no result of `pose-node predict`: "
                    f"{type(error).__name__}: {error}"
                ) from error
            yield found

    def _frame(self, line: dict[str, Any]) -> tuple[ResultFrame, Skeleton]:
        people = line["people"]
        if self._skeleton is None and people:
            self._skeleton = Skeleton.for_keypoints(len(people[0]["keypoints"]))
        skeleton = self._skeleton or Skeleton.for_keypoints(17)
        poses = Poses.from_arrays(
            _numbers([person["box"] for person in people]).reshape(-1, 4),
            _numbers([person["score"] for person in people]),
            _numbers([person["keypoints"] for person in people]).reshape(
                len(people), skeleton.num_keypoints, 3
            ),
            np.array([person["id"] for person in people], np.int64),
        )
        size = (int(line["width"]), int(line["height"]))
        frame = ResultFrame(
            line["source"], line["topic"], int(line["frame"]), line["stamp_ns"], size, poses
        )
        return frame, skeleton


class FrameImages:
    """The images of results, read once and in order, as the results are.

    Args:
        folders: where sources are looked for, besides where their names say.
        topics: of bags, the topics that were read.

    Attributes:
        missing: why sources have no images, by their names.
    """

    def __init__(self, folders: Sequence[Path], *, topics: Sequence[str] = ()) -> None:
        self.missing: dict[str, str] = {}
        self._folders = tuple(folders)
        self._topics = tuple(topics)
        self._open: tuple[str, Recording, Iterator[RecordedFrame]] | None = None
        self._ahead: RecordedFrame | None = None

    def image(self, frame: ResultFrame) -> tuple[np.ndarray, ChannelOrder] | None:
        """The image of a frame and its channel order; None if it cannot be found."""
        if frame.source in self.missing:
            return None
        try:
            if Path(frame.source).suffix.lower() in IMAGE_SUFFIXES:
                return decode_file(self._find(frame.source).read_bytes()), "bgr"
            found = self._advance(frame)
        except (SourceError, ImageError, OSError) as error:
            self.missing[frame.source] = str(error)
            return None
        return None if found is None else (found.image, found.channel_order)

    def close(self) -> None:
        """Close what is open."""
        if self._open is not None:
            self._open[1].close()
        self._open = self._ahead = None

    def _advance(self, frame: ResultFrame) -> RecordedFrame | None:
        """Read on to a frame of a recording; None if it does not come."""
        if self._open is None or self._open[0] != frame.source:
            self.close()
            path = frame.source if is_live(frame.source) else str(self._find(frame.source))
            if is_live(path):
                raise SourceError(f"{path} is live, its images are gone")
            recording = open_recording(path, Selection(), topics=self._topics)
            frames = (item for item in recording if isinstance(item, RecordedFrame))
            self._open = (frame.source, recording, frames)
        while True:
            found = self._ahead or next(self._open[2], None)
            self._ahead = None
            if found is None:
                return None
            if found.topic == frame.topic and found.index >= frame.index:
                if found.index == frame.index:
                    return found
                self._ahead = found  # of a later line
                return None

    def _find(self, source: str) -> Path:
        candidates = []
        for path in dict.fromkeys([Path(source), Path(file_name(source))]):
            candidates.append(path)
            for folder in self._folders:
                candidates += [folder / path, folder / path.name]
        for candidate in candidates:
            if candidate.exists():
                return candidate
        raise SourceError(f"{source} is not there; --images DIR says where it is")


class CameraNames:
    """Short names for sources, no two alike; images of one folder go together."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._free = FreeNames()

    def name(self, frame: ResultFrame | RecordedFrame) -> str:
        """The name of the camera that a frame is shown as."""
        path = Path(frame.source)
        is_image = frame.stamp_ns is None
        key = (str(path.parent), "images") if is_image else (frame.source, frame.topic)
        if key not in self._names:
            own = (path.parent.name or "images") if is_image else path.stem
            name = own + frame.topic.replace("/", "_")
            self._names[key] = self._free.take(name)
        return self._names[key]


def _json_rows(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def _parquet_rows(path: Path) -> Iterator[Any]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise SourceError(f"{path} needs pyarrow: `pip install pyarrow`") from error
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            yield from batch.to_pylist()


def _numbers(values: Any) -> np.ndarray:
    """An array; None, which stands for what is not finite, becomes NaN."""
    return np.array(values, np.float64).astype(np.float32)


def _read_summary(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):  # results alone suffice
        return {}
    return found if isinstance(found, dict) else {}


def _skeleton_of(summary: dict[str, Any]) -> Skeleton | None:
    """The skeleton that a run says it used."""
    found = summary.get("skeleton")
    if not isinstance(found, dict):
        return None
    try:
        names = tuple(map(str, found["keypoint_names"]))
        standard = Skeleton.for_keypoints(len(names))
        if standard.keypoint_names == names:
            return standard
        return Skeleton(
            name=str(found["name"]),
            keypoint_names=names,
            edges=tuple((int(a), int(b)) for a, b in found["edges"]),
            flip=tuple(range(len(names))),
            sigmas=(1 / max(len(names), 1),) * len(names),
        )
    except (KeyError, TypeError, ValueError):
        return None
