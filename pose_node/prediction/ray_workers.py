"""What runs on the machines of a Ray cluster: reading recordings, and finding people.

Ray calls these with rows and tables; nothing here imports Ray. Rows of a source are numbered, so
that whoever puts them together again knows what is missing and what came twice.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pose_node.errors import ImageError, SourceError
from pose_node.poses import Poses
from pose_node.prediction.frames import Failure, Selection
from pose_node.prediction.journal import Stream, pack, position
from pose_node.prediction.recordings import open_recording


@dataclass(frozen=True)
class ReadingPlan:
    """What readers need to know.

    Attributes:
        folder: the working folder, from which relative names of sources count.
        selection: the wanted frames.
        topics: of bags.
        known: by source and topic, the indices of the frames whose people are known, ascending;
            such frames are read, but their pixels stay where they are.
    """

    folder: str
    selection: Selection
    topics: tuple[str, ...] = ()
    known: Mapping[Stream, np.ndarray] = field(default_factory=dict)


def read_source(plan: ReadingPlan, source: Any) -> Iterator[Any]:
    """Read one source.

    Args:
        plan: what to read of it.
        source: a `pyarrow.Table` of one row: ``number`` of the source and its ``name``, as the
            bytes of the file system.

    Yields:
        Tables of one row: ``item``, a JSON object, and ``image``, the pixels of a frame, empty for
        all other items. Items have the ``number`` of the source, their ``place`` from 0, and a
        ``kind``: ``begin`` or ``unreadable`` first, then ``frame`` and ``failure``, ``broken`` or
        ``end`` last.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # damage is reported by us
    if Path(plan.folder).is_dir():
        os.chdir(plan.folder)
    (row,) = source.to_pylist()
    for place, (item, image) in enumerate(_items(plan, os.fsdecode(row["name"]))):
        yield _row({**item, "number": row["number"], "place": place}, image)


def _row(item: dict[str, Any], image: np.ndarray | bytes) -> Any:
    """A table of one row; a frame's pixels are not copied."""
    import pyarrow

    pixels = pyarrow.py_buffer(image)
    limits = pyarrow.py_buffer(np.array([0, pixels.size], np.int32))
    column = pyarrow.Array.from_buffers(pyarrow.binary(), 1, [None, limits, pixels])
    return pyarrow.table({"item": pyarrow.array([json.dumps(item)]), "image": column})


def _items(plan: ReadingPlan, name: str) -> Iterator[tuple[dict[str, Any], np.ndarray | bytes]]:
    try:
        recording = open_recording(name, plan.selection, topics=plan.topics)
    except SourceError as error:
        yield {"kind": "unreadable", "reason": str(error)}, b""
        return
    try:
        begin = {"recording": recording.kind, "fps": recording.fps}
        yield {"kind": "begin", **begin, "frame_count": recording.frame_count}, b""
        for item in recording:
            if isinstance(item, Failure):
                yield {"kind": "failure", **vars(item)}, b""
                continue
            indices = plan.known.get((item.source, item.topic))
            known = indices is not None and position(indices, item.index) is not None
            pixels = b"" if known else np.ascontiguousarray(item.image)
            yield {"kind": "frame", "known": known, **item.describe()}, pixels
    except SourceError as error:
        yield {"kind": "broken", "reason": str(error)}, b""
    else:
        yield {"kind": "end"}, b""
    finally:
        recording.close()


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is made of, wherever it runs.

    Attributes:
        model: name of the model's file.
        arguments: of `PoseEngine.load`.
        threads: on a CPU.
    """

    model: str
    arguments: Mapping[str, Any]
    threads: int


class EngineWorker:
    """One engine in a process of its own.

    Args:
        settings: of the engine.
        content: the bytes of the model's file.
    """

    def __init__(self, settings: EngineSettings, content: bytes) -> None:
        from pose_node.process_settings import available_processors, tune_process

        tune_process()  # before torch is imported
        from pose_node import PoseEngine

        with tempfile.TemporaryDirectory(prefix="pose_node_") as folder:
            path = Path(folder) / settings.model
            path.write_bytes(content)
            threads = min(settings.threads, available_processors())
            self._engine = PoseEngine.load(path, **{**settings.arguments, "threads": threads})

    def __call__(self, table: Any) -> Any:
        """Find the people in a few frames.

        Args:
            table: a `pyarrow.Table` of rows as `read_source` yields them.

        Returns:
            A table with the same items and, for ``image``, the ``people``, packed. A frame that the
            engine refuses has become a failure.
        """
        import pyarrow

        items = [json.loads(text) for text in table.column("item").to_pylist()]
        images = [value.as_buffer() for value in table.column("image")]
        wanted = [
            number
            for number, item in enumerate(items)
            if item["kind"] == "frame" and not item["known"]
        ]
        frames = [_image(items[number], images[number]) for number in wanted]
        orders = [items[number]["channel_order"] for number in wanted]
        answers = find_people(self._engine, frames, orders)
        people = [b""] * len(items)
        for number, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, bytes):
                people[number] = answer
            else:
                items[number] |= {"kind": "failure", "reason": answer}
        texts = [json.dumps(item) for item in items]
        return pyarrow.table(
            {
                "item": pyarrow.array(texts, pyarrow.string()),
                "people": pyarrow.array(people, pyarrow.binary()),
            }
        )


def find_people(
    engine: Callable[..., list[Poses]], images: Sequence[np.ndarray], orders: Sequence[Any]
) -> list[bytes | str]:
    """The people of each image, packed, or why the engine refuses it.

    What fails together, for want of memory perhaps, is tried again one by one.

    Raises:
        RuntimeError: an image fails alone, too, and not because of what it is.
    """
    if not images:
        return []
    try:
        return [pack(poses) for poses in engine(list(images), channel_order=list(orders))]
    except ImageError as error:
        if len(images) == 1:
            return [str(error)]
    except RuntimeError:
        if len(images) == 1:
            return [pack(poses) for poses in engine(list(images), channel_order=list(orders))]
    return [
        answer
        for image, order in zip(images, orders, strict=True)
        for answer in find_people(engine, [image], [order])
    ]


def _image(item: dict[str, Any], content: Any) -> np.ndarray:
    """The pixels of a frame, not copied."""
    width, height = item["size"]
    return np.frombuffer(content, np.uint8).reshape(height, width, 3)
