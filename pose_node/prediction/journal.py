"""What an interrupted run had found, so that the next one need not compute it again.

Every frame's people are written as the engine gives them, bit for bit, before anything else is
done with them. A run that is resumed reads them back in the same order, so its results are those of
a run that was never interrupted.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from pose_node.errors import OutputError
from pose_node.poses import Poses
from pose_node.prediction.frames import RecordedFrame

_VERSION = 1


class Journal:
    """The people found in each frame, in the order of the frames.

    Args:
        path: the file.
        settings: what the results depend on; resuming under others is refused.
        num_keypoints: K.
        resume: go on with the file that is there; otherwise start a new one.

    Raises:
        OutputError: the file cannot be written, or belongs to other settings.
    """

    def __init__(
        self, path: Path, settings: dict[str, Any], *, num_keypoints: int, resume: bool
    ) -> None:
        self.path = path
        self._num_keypoints = num_keypoints
        self._header = {"journal": _VERSION, "settings": json.loads(json.dumps(settings))}
        try:
            size = self._valid_size() if resume and path.exists() else 0
            self._old_size = size
            self._old = self._entries(size)
            self._next = next(self._old, None)
            self._file = path.open("r+b" if size else "wb")
            self._file.seek(size)
            self._file.truncate()
            if not size:
                self._append(self._header)
        except OSError as error:
            raise self._failed(error) from error

    def recall(self, frame: RecordedFrame) -> Poses | None:
        """What was found in a frame by the run before; None if it did not come so far."""
        if self._next is None or self._next[0] != frame.key:
            return None
        _, poses = self._next
        self._next = next(self._old, None)
        return poses

    def last_known(self) -> dict[tuple[str, str], int]:
        """How far the run before came: by source and topic, the index of the last frame."""
        return {
            (source, topic): index for (source, topic, index), _ in self._entries(self._old_size)
        }

    def add(self, frame: RecordedFrame, poses: Poses) -> None:
        """Write down what was found in a frame. A frame that was recalled is there already."""
        content = base64.b64encode(pack(poses)).decode()
        try:
            self._append({"key": frame.key, "rows": content})
        except OSError as error:
            raise self._failed(error) from error

    def close(self, *, keep: bool) -> None:
        """Close the file; delete it unless it is kept for a run to come."""
        self._old.close()
        try:
            self._file.close()
            if not keep:
                self.path.unlink()
        except OSError as error:
            raise self._failed(error) from error

    def _append(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()  # a killed process loses nothing

    def _valid_size(self) -> int:
        """The bytes of the complete lines; what follows is the end of a run that was killed."""
        with self.path.open("rb") as file:
            size = 0
            for number, line in enumerate(file):
                entry = _parse(line)
                if number == 0 and entry is not None and entry != self._header:
                    raise OutputError(
                        f"cannot resume {self.path.parent}: it was made with other settings or "
                        f"sources{_difference(entry, self._header)}; --force starts anew"
                    )
                if entry is None:
                    break
                size += len(line)
        return size

    def _entries(self, size: int) -> Generator[tuple[tuple[str, str, int], Poses], None, None]:
        if not size:
            return
        with self.path.open("rb") as file:
            position = len(file.readline())
            while position < size:
                line = file.readline()
                position += len(line)
                entry = _parse(line)
                if entry is None:
                    return
                source, topic, index = entry["key"]
                content = base64.b64decode(entry["rows"])
                yield (source, topic, index), unpack(content, self._num_keypoints)

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.path}: {error.strerror or error}")


def pack(poses: Poses) -> bytes:
    """The people of a frame, without ids, bit for bit."""
    keypoints = poses.keypoints.reshape(len(poses), 3 * poses.num_keypoints)
    rows = np.concatenate([poses.boxes_xyxy, poses.scores[:, None], keypoints], 1)
    return rows.astype("<f4").tobytes()


def unpack(content: bytes, num_keypoints: int) -> Poses:
    """The people that `pack` packed."""
    rows = np.frombuffer(content, "<f4").reshape(-1, 5 + 3 * num_keypoints)
    keypoints = rows[:, 5:].reshape(-1, num_keypoints, 3)
    return Poses.from_arrays(rows[:, :4], rows[:, 4], keypoints)


def _parse(line: bytes) -> dict[str, Any] | None:
    """A line that is complete; None for the torn end of a file."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
        if "key" in entry:
            base64.b64decode(entry["rows"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
    return entry if isinstance(entry, dict) else None


def _difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Which settings differ, in words."""
    ours, theirs = expected["settings"], found.get("settings", {})
    names = [name for name in ours if ours[name] != theirs.get(name)]
    return f" ({', '.join(f'{n}: {theirs.get(n)!r:.60}, now {ours[n]!r:.60}' for n in names)})"
