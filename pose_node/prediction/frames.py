"""What a recording gives, frame after frame, and which of its frames are wanted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from pose_node.poses import ChannelOrder, Poses

Kind = Literal["images", "video", "live", "bag"]

DESCRIBED = (
    *("source", "topic", "index", "stamp_ns", "size", "channel_order", "frame_id", "logged_ns"),
)
"""What `RecordedFrame.describe` tells of a frame."""


@dataclass(frozen=True)
class RecordedFrame:
    """One image of a recording.

    Attributes:
        source: the file, folder or address that it comes from, as results name it.
        topic: of a bag, the topic of the image; "" elsewhere.
        index: 0, 1, 2 ... in its source and topic; frames that were not wanted count too.
        stamp_ns: nanoseconds: of a bag, the image's own stamp; of a video, since its start; of a
            live source, since 1970 on arrival. None for images.
        image: (H, W, 3) uint8.
        channel_order: "bgr" or "rgb".
        frame_id: of a bag, the coordinate frame of the image.
        logged_ns: of a bag, when the image was recorded.
    """

    source: str
    topic: str
    index: int
    stamp_ns: int | None
    image: np.ndarray
    channel_order: ChannelOrder = "bgr"
    frame_id: str = ""
    logged_ns: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from every other frame of a run."""
        return self.source, self.topic, self.index

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.shape[1], self.image.shape[0]

    def describe(self) -> dict[str, Any]:
        """Everything but its pixels, as JSON can hold it; see `AnsweredFrame.described`."""
        return {name: getattr(self, name) for name in DESCRIBED}


@dataclass(frozen=True)
class AnsweredFrame(RecordedFrame):
    """A frame whose people were found elsewhere, or before.

    Attributes:
        image: stands for one of the same size; its pixels are not here.
        poses: the people.
        recalled: whether the run before found them.
    """

    poses: Poses = field(kw_only=True)
    recalled: bool = False

    @classmethod
    def described(
        cls, description: Mapping[str, Any], poses: Poses, *, recalled: bool
    ) -> AnsweredFrame:
        """The frame that `describe` described; other entries of the description are left alone."""
        width, height = description["size"]
        image = np.broadcast_to(np.uint8(0), (height, width, 3))  # one byte of memory
        values = {name: description[name] for name in DESCRIBED if name != "size"}
        return cls(**values, image=image, poses=poses, recalled=recalled)


@dataclass(frozen=True)
class Failure:
    """Something that could not be read.

    Attributes:
        source: the file, folder or address.
        reason: why, in a sentence.
        topic: of a bag.
        index: of a single frame; None where the source itself cannot be read.
    """

    source: str
    reason: str
    topic: str = ""
    index: int | None = None

    def __str__(self) -> str:
        place = self.source + (f" {self.topic}" if self.topic else "")
        return f"{place}{'' if self.index is None else f' frame {self.index}'}: {self.reason}"


class Recording(Protocol):
    """A source that is open; iterate once, and close."""

    @property
    def name(self) -> str:
        """The source as it was given."""

    @property
    def kind(self) -> Kind:
        """What it is."""

    @property
    def fps(self) -> float | None:
        """Frames per second, as far as it says."""

    @property
    def frame_count(self) -> int | None:
        """How many frames will come, as far as it is known."""

    def __iter__(self) -> Iterator[RecordedFrame | Failure]:
        """The wanted frames, and what could not be read."""

    def close(self) -> None:
        """Give it back."""


@dataclass(frozen=True)
class Selection:
    """Which frames of each source are wanted.

    Attributes:
        every: each so-many-th, counted from the first of the range; from the start of the source
            where the range is one of times.
        first: index of the first frame.
        last: index before which to stop; None for no end.
        start_ns: nanoseconds since the start of the source.
        end_ns: nanoseconds since the start of the source, not included; None for no end.
    """

    every: int = 1
    first: int = 0
    last: int | None = None
    start_ns: int = 0
    end_ns: int | None = None

    @property
    def by_time(self) -> bool:
        """Whether it needs times, which images do not have."""
        return self.start_ns > 0 or self.end_ns is not None

    @classmethod
    def parse(cls, text: str, *, every: int = 1) -> Selection:
        """Read a range: ``100:200`` are frames, ``5s:7.5s`` seconds; either side may be left out.

        Raises:
            ValueError: it is no range.
        """
        number = r"\d+(?:\.\d+)?"
        if match := re.fullmatch(r"(\d*):(\d*)", text):
            first, last = match.groups()
            found = cls(every, int(first or 0), int(last) if last else None)
            empty = found.last is not None and found.last <= found.first
        elif match := re.fullmatch(rf"(?:({number})s)?:(?:({number})s)?", text):
            start, end = (
                None if part is None else round(1e9 * float(part)) for part in match.groups()
            )
            found = cls(every, start_ns=start or 0, end_ns=end)
            empty = found.end_ns is not None and found.end_ns <= found.start_ns
        else:
            raise ValueError(
                f"expected a range of frames (100:200) or seconds (5s:7.5s), got {text!r}"
            )
        if empty:
            raise ValueError(f"expected a range that ends after it starts, got {text!r}")
        return found

    def choose(self, index: int, since_start_ns: int) -> bool | None:
        """Whether a frame is wanted; None if neither it nor any after it is."""
        if self.last is not None and index >= self.last:
            return None
        if self.end_ns is not None and since_start_ns >= self.end_ns:
            return None
        if index < self.first or since_start_ns < self.start_ns:
            return False
        return (index - self.first) % self.every == 0

    def count(self, frames: int | None, rate: float | None = None) -> int | None:
        """How many of so many frames are wanted; None where only their times would tell.

        Args:
            frames: of the source; None if it does not say.
            rate: frames a second, if they are the same all the time.
        """
        if frames is None or (self.by_time and rate is None):
            return None
        first, last = self.first, self.last
        if self.by_time and rate is not None:
            first = -(-_first_at(self.start_ns, rate) // self.every) * self.every
            last = None if self.end_ns is None else _first_at(self.end_ns, rate)
        return len(range(frames)[first : last : self.every])


def _first_at(since_start_ns: int, rate: float) -> int:
    """Index of the first frame that is not before a time."""
    return math.ceil(round(since_start_ns / 1e9 * rate, 6))
