"""What results are written to: the common form, and the formats that are text."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TextIO

from pose_node.errors import OutputError
from pose_node.evaluation.statistics import coco_results
from pose_node.output_files import unfinished, write_whole
from pose_node.poses import Poses, Skeleton
from pose_node.prediction.frames import RecordedFrame, Recording


class Output(Protocol):
    """Takes the results of a run; whatever it cannot write is an `OutputError`."""

    def begin(self, recording: Recording) -> None:
        """The frames of a recording follow."""

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        """The people of one frame, after those of the frames before it."""

    def end(self, *, complete: bool) -> None:
        """Finish what belongs to this recording alone; `complete`: it came to its end."""

    def close(self) -> list[Path]:
        """Finish everything, and give it its name; what was written."""

    def abort(self) -> None:
        """Leave nothing unfinished behind."""


class _TextFile:
    """A text file that gets its name when it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = unfinished(path)
        try:
            self._file: TextIO = self._temporary.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise self._failed(error) from error

    def write(self, text: str) -> int:
        """Add text."""
        try:
            return self._file.write(text)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> Path:
        """Close it and give it its name."""
        try:
            self._file.close()
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise self._failed(error) from error
        return self.path

    def abort(self) -> None:
        """Close and delete it."""
        with contextlib.suppress(OSError):  # closing writes what is left, to a full disk perhaps
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.path}: {error.strerror or error}")


class JsonLines:
    """A JSON object for each frame, a line each; docs/predict.md has the schema."""

    def __init__(self, path: Path) -> None:
        self._file = _TextFile(path)

    def begin(self, recording: Recording) -> None:
        """Nothing to do."""

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        """Add a line."""
        self._file.write(json.dumps(frame_as_json(frame, poses), allow_nan=False) + "\n")

    def end(self, *, complete: bool) -> None:
        """Nothing to do."""

    def close(self) -> list[Path]:
        """Finish the file."""
        return [self._file.finish()]

    def abort(self) -> None:
        """Delete it."""
        self._file.abort()


class Csv:
    """A row for each person; frames without people have none."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        self._file = _TextFile(path)
        self._writer = csv.writer(self._file)
        columns = ["source", "topic", "frame", "stamp_ns", "id", "score"]
        columns += ["x_min", "y_min", "x_max", "y_max"]
        for name in skeleton.keypoint_names:
            columns += [f"{name}_x", f"{name}_y", f"{name}_score"]
        self._writer.writerow(columns)

    def begin(self, recording: Recording) -> None:
        """Nothing to do."""

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        """Add a row for each person."""
        for person in people_as_json(poses):
            self._writer.writerow(
                [
                    *(frame.source, frame.topic, frame.index, frame.stamp_ns),
                    *(person["id"], person["score"], *person["box"]),
                    *(value for keypoint in person["keypoints"] for value in keypoint),
                ]
            )

    def end(self, *, complete: bool) -> None:
        """Nothing to do."""

    def close(self) -> list[Path]:
        """Finish the file."""
        return [self._file.finish()]

    def abort(self) -> None:
        """Delete it."""
        self._file.abort()


class CocoResults:
    """A COCO results file and, beside it, the entries of the images that its ids stand for.

    The id of an image is the number in its name, if all names of a run are numbers (as those of
    COCO are); otherwise frames are counted from 1.

    Args:
        path: the results file; the entries are written to ``NAME_images.json``.
        numbered: whether all images have numbers as names.
    """

    def __init__(self, path: Path, *, numbered: bool) -> None:
        self._results = _TextFile(path)
        try:
            self._images = _TextFile(path.with_name(f"{path.stem}_images{path.suffix}"))
        except OutputError:
            self._results.abort()
            raise
        self._numbered = numbered
        self._rows = 0
        self._frames = 0

    def begin(self, recording: Recording) -> None:
        """Nothing to do."""

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        """Add the rows of a frame."""
        image_id = int(Path(frame.source).stem) if self._numbered else self._frames + 1
        width, height = frame.size
        name = Path(frame.source).name if self._numbered else frame.source
        entry = {"id": image_id, "file_name": name, "width": width, "height": height}
        if not self._numbered:
            entry |= {"topic": frame.topic, "frame": frame.index, "stamp_ns": frame.stamp_ns}
        self._images.write(("[\n" if self._frames == 0 else ",\n") + json.dumps(entry))
        self._frames += 1
        for row in coco_results(poses, image_id):
            row["keypoints"] = rounded(row["keypoints"], 3)
            self._results.write(("[\n" if self._rows == 0 else ",\n") + json.dumps(row))
            self._rows += 1

    def end(self, *, complete: bool) -> None:
        """Nothing to do."""

    def close(self) -> list[Path]:
        """Finish both files."""
        self._images.write("\n]\n" if self._frames else "[]\n")
        self._results.write("\n]\n" if self._rows else "[]\n")
        return [self._results.finish(), self._images.finish()]

    def abort(self) -> None:
        """Delete them."""
        self._results.abort()
        self._images.abort()


def frame_as_json(frame: RecordedFrame, poses: Poses) -> dict[str, Any]:
    """A frame and its people as what ``json.dumps`` takes."""
    width, height = frame.size
    return {
        "source": frame.source,
        "topic": frame.topic,
        "frame": frame.index,
        "stamp_ns": frame.stamp_ns,
        "width": width,
        "height": height,
        "people": people_as_json(poses),
    }


def people_as_json(poses: Poses) -> list[dict[str, Any]]:
    """The people of a frame; pixels to 0.001, scores to 0.00001, None for what is not finite."""
    return [
        {
            "id": track_id,
            "score": rounded([score], 5)[0],
            "box": rounded(box, 3),
            "keypoints": [
                [*rounded(keypoint[:2], 3), *rounded(keypoint[2:], 5)] for keypoint in keypoints
            ],
        }
        for track_id, score, box, keypoints in zip(
            poses.ids.tolist(),
            poses.scores.tolist(),
            poses.boxes_xyxy.tolist(),
            poses.keypoints.tolist(),
            strict=True,
        )
    ]


def rounded(values: Iterable[float], digits: int) -> list[float | None]:
    """Numbers as JSON can hold them."""
    return [round(value, digits) if math.isfinite(value) else None for value in values]


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write the JSON file that says what a run was and what became of it."""
    write_whole(path, (json.dumps(summary, indent=2) + "\n").encode())
