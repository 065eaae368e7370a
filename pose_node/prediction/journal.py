"""What a run has found so far, so that nothing of it is computed again.

Every frame's people are written as the engine gives them, bit for bit, before anything else is
done with them, and with everything of the frame but its pixels. Entries are found by the key of
their frame, in whatever order they were written: a run that is resumed has the results of one that
was never interrupted, a cluster may answer in any order, and of a camera, which cannot be read
again, the journal is what is left.
"""

from __future__ import annotations

import base64
import binascii
import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pose_node.errors import OutputError
from pose_node.poses import Poses
from pose_node.prediction.frames import DESCRIBED, AnsweredFrame, Failure, Kind, RecordedFrame
from pose_node.source_names import shown_name

_VERSION = 3
_IN_WORDS = {"lowest_score": "lowest score (of --score-threshold and --track)"}

Stream = tuple[str, str]
"""Source and topic."""


class Journal:
    """The people found in each frame. To be used by one thread at a time.

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
        self._known: dict[Stream, tuple[np.ndarray, np.ndarray]] = {}  # indices, places
        self._live: set[str] = set()
        self._broken_off: dict[str, str] = {}
        try:
            self._old_size = self._read_old() if resume and path.exists() else 0
            self._file = path.open("r+b" if self._old_size else "wb")
            self._file.truncate(self._old_size)
            self._end = self._file.seek(self._old_size)
            if not self._end:
                self._append(self._header)
            self._reader = path.open("rb")
        except OSError as error:
            raise self._failed(error) from error

    def known(self) -> dict[Stream, np.ndarray]:
        """The indices of the frames that the run before found: (N,) int64, ascending."""
        return {stream: indices for stream, (indices, _) in self._known.items()}

    def recall(self, frame: RecordedFrame) -> Poses | None:
        """What the run before found in a frame; None if it did not."""
        place = self.place_of(frame.key)
        return None if place is None else self.read(place).poses

    def place_of(self, key: tuple[str, str, int]) -> int | None:
        """Where the run before wrote a frame down; None if it did not."""
        if key[:2] not in self._known:
            return None
        indices, places = self._known[key[:2]]
        at = position(indices, key[2])
        return None if at is None else int(places[at])

    def was_live(self, source: str) -> bool:
        """Whether the run before saw frames of a source live, which cannot be read again."""
        return source in self._live

    def why_broken_off(self, source: str) -> str | None:
        """Why a live source broke off in the run before; None if it did not."""
        return self._broken_off.get(source)

    def add(self, frame: RecordedFrame, poses: Poses, *, live: bool = False) -> None:
        """Write down what was found in a frame that the run before did not know."""
        self.add_packed(frame.describe(), pack(poses), live=live)

    def add_end(self, source: str, reason: str) -> None:
        """Write down why a live source broke off: nothing else will tell of it."""
        try:
            self._append({"source": source, "broken_off": reason})
        except OSError as error:
            raise self._failed(error) from error

    def add_packed(
        self, description: Mapping[str, Any], people: bytes, *, live: bool = False
    ) -> int:
        """Write down what was found in a frame.

        Args:
            description: of the frame, by `RecordedFrame.describe`.
            people: those that `pack` packed.
            live: whether it cannot be read again.

        Returns:
            Its place, for `read`.
        """
        place = self._end
        try:
            entry = {name: description[name] for name in DESCRIBED}
            entry |= {"live": True} if live else {}
            self._append({**entry, "people": base64.b64encode(people).decode()})
        except OSError as error:
            raise self._failed(error) from error
        return place

    def read(self, place: int) -> AnsweredFrame:
        """The frame, and what was found in it, at a place."""
        try:
            self._reader.seek(place)
            entry = json.loads(self._reader.readline())
        except OSError as error:
            raise OutputError(f"cannot read {self.path}: {error.strerror or error}") from error
        poses = unpack(base64.b64decode(entry["people"]), self._num_keypoints)
        return AnsweredFrame.described(entry, poses, recalled=place < self._old_size)

    def close(self, *, keep: bool) -> None:
        """Close the file; delete it unless it is kept for a run to come."""
        try:
            self._reader.close()
            self._file.close()
            if not keep:
                self.path.unlink()
        except OSError as error:
            raise self._failed(error) from error

    def _append(self, entry: dict[str, Any]) -> None:
        self._end += self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()  # a killed process loses nothing

    def _read_old(self) -> int:
        """Learn what is known; the bytes of the complete lines. A run that was killed tears one."""
        size = 0
        found: dict[Stream, tuple[array[int], array[int]]] = {}  # 16 bytes for each frame
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                entry = _parse(line)
                if entry is None:
                    break
                if number == 0:
                    self._check_header(entry)
                elif "broken_off" in entry:
                    self._broken_off[entry["source"]] = entry["broken_off"]
                else:
                    *stream, index = entry["key"]
                    indices, places = found.setdefault(tuple(stream), (array("q"), array("q")))
                    indices.append(index)
                    places.append(size)
                    if entry.get("live"):
                        self._live.add(entry["source"])
                size += len(line)
        self._known = {stream: _sorted(*values) for stream, values in found.items()}
        return size

    def _check_header(self, header: Mapping[str, Any]) -> None:
        if header == self._header:
            return
        others = difference(header.get("settings", {}), self._header["settings"])
        why = f"with other settings or sources ({others})" if others else "by another version"
        raise OutputError(
            f"cannot resume {self.path.parent}: it was made {why}; --force starts anew"
        )

    def _failed(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self.path}: {error.strerror or error}")


class RecalledRecording:
    """What the run before found in a live source, which cannot be read again.

    Args:
        name: the source.
        journal: what is known of it.
    """

    kind: Kind = "video"  # it waits to be read
    fps = None

    def __init__(self, name: str, journal: Journal) -> None:
        self.name = name
        self._journal = journal
        self._stream = (shown_name(name), "")
        self._indices = journal.known().get(self._stream, np.empty(0, np.int64))
        self.frame_count = len(self._indices)

    def __iter__(self) -> Iterator[AnsweredFrame | Failure]:
        """The frames, in order, and why it broke off, if it did."""
        for index in self._indices.tolist():
            place = self._journal.place_of((*self._stream, index))
            assert place is not None, "it is known"
            yield self._journal.read(place)
        source, _ = self._stream
        reason = self._journal.why_broken_off(source)
        if reason is not None:
            yield Failure(source, reason)

    def close(self) -> None:
        """Nothing is open here."""


def position(indices: np.ndarray, index: int) -> int | None:
    """Where a value is among ascending ones; None if it is not there."""
    at = int(np.searchsorted(indices, index))
    return at if at < len(indices) and int(indices[at]) == index else None


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


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which settings are others than before, in words; "" if none is."""
    names = [name for name in now if now[name] != before.get(name)]
    return ", ".join(
        f"{_IN_WORDS.get(n, n)}: {before.get(n)!r:.60}, now {now[n]!r:.60}" for n in names
    )


def _parse(line: bytes) -> dict[str, Any] | None:
    """A line that is complete; None for the torn end of a file."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
        if "broken_off" in entry:
            return entry if {type(v) for v in entry.values()} == {str} else None
        if "journal" not in entry:
            base64.b64decode(entry["people"], validate=True)
            entry["key"] = (entry["source"], entry["topic"], int(entry["index"]))
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
    return entry if isinstance(entry, dict) else None


def _sorted(indices: array[int], places: array[int]) -> tuple[np.ndarray, np.ndarray]:
    """The same pairs, by index."""
    order = np.argsort(indices, kind="stable")
    return np.array(indices, np.int64)[order], np.array(places, np.int64)[order]
