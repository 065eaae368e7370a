"""Frames from a video file, a webcam, a stream, an image, a folder or a pattern of images.

Used wherever frames come from outside ROS. OpenCV reads the videos; no ROS is needed here.
"""

from __future__ import annotations

import glob
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import cv2
import numpy as np

from pose_node.captures import if_known, is_cut_off, is_upside_down, open_video, open_webcam
from pose_node.errors import ImageError, SourceError
from pose_node.imaging import decode_file
from pose_node.source_names import shown_name

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Files that are read as images, and taken from a folder; lower case. A GIF is a video."""

OnWarning = Callable[[str], None]

Choice = Callable[[int, float], "bool | None"]
"""Of a frame's index and its seconds since the start (live, since the first frame): is it wanted?
None: nor is any after it."""


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a source.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        index: 0, 1, 2 ..., counted on when the source starts again; frames that were not chosen
            count too.
        timestamp_s: seconds since the start of the video; it starts again with the video. Of a
            webcam or stream: what the driver says. Of images: always 0.
        name: the file of an image, the source itself otherwise.
        source_size: width and height before resizing.
    """

    image: np.ndarray
    index: int
    timestamp_s: float
    name: str
    source_size: tuple[int, int]


@dataclass(frozen=True)
class _Settings:
    loop: bool
    size: tuple[int, int] | None
    on_warning: OnWarning
    choose: Choice | None = None


class FrameSource:
    """Frames, one after the other; made by `open_source`. Iterate once, and close.

    Attributes:
        name: the source as it was given.
        kind: "video" (a file, here or on a web server), "live" (a webcam or stream, whose frames
            come in their own time) or "images".
        fps: frames per second that the source claims; None if it does not say, and for images.
        frame_count: frames in one pass as far as the source knows; None for live sources.
    """

    def __init__(
        self,
        name: str,
        kind: Literal["video", "live", "images"],
        settings: _Settings,
        *,
        capture: cv2.VideoCapture | None = None,
        paths: tuple[Path, ...] = (),
    ) -> None:
        self.name = name
        self.kind = kind
        self._settings = settings
        self._capture = capture
        self._paths = paths
        self.fps = None if capture is None else if_known(capture.get(cv2.CAP_PROP_FPS), 1000)
        count = None if capture is None else if_known(capture.get(cv2.CAP_PROP_FRAME_COUNT), 1e9)
        self.frame_count: int | None = len(paths) if kind == "images" else int(count or 0) or None

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file or device back. Not while another thread iterates."""
        if self._capture is not None:
            self._capture.release()

    def __iter__(self) -> Iterator[SourceFrame]:
        """The frames, of one pass or, with `loop`, of endless ones.

        Raises:
            SourceError: a whole pass gave no frame, an only image cannot be read, or a live source
                stopped.
        """
        index = 0
        while True:
            first = index
            for image, timestamp_s, name in self._one_pass():
                if image is None:
                    index += 1
                    continue
                source_size = (image.shape[1], image.shape[0])
                yield SourceFrame(
                    _resize(image, self._settings.size), index, timestamp_s, name, source_size
                )
                index += 1
            if self.kind == "live":  # all that was wanted came
                return
            if index == first:
                raise SourceError(f"{self.name}: none of its frames can be decoded")
            if not self._settings.loop:
                return

    def _one_pass(self) -> Iterator[tuple[np.ndarray | None, float, str]]:
        """Image (None if it was not chosen), time and name of each frame."""
        return self._images() if self._capture is None else self._video(self._capture)

    def _images(self) -> Iterator[tuple[np.ndarray, float, str]]:
        for path in self._paths:
            try:
                image = decode_file(path.read_bytes())
            except (ImageError, OSError) as error:
                if len(self._paths) == 1:
                    raise SourceError(f"image {path} cannot be read: {error}") from error
                self._warn(f"skipped {path}: {error}")
            else:
                yield image, 0.0, str(path)

    def _video(self, capture: cv2.VideoCapture) -> Iterator[tuple[np.ndarray | None, float, str]]:
        if not capture.isOpened():  # A pass before this one came to its end.
            capture = self._capture = open_video(self.name, "file")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # some versions have it off by default
        turned = is_upside_down(capture)
        choose = self._settings.choose or (lambda frame, since_start_s: True)
        frame, timestamp_s, start_s, decoded = 0, -math.inf, 0.0, True
        while capture.grab():
            timestamp_s = self._timestamp(capture, frame, timestamp_s)
            if frame == 0 and self.kind == "live":
                start_s = timestamp_s  # of a clock that runs since the machine was started, perhaps
            chosen = choose(frame, timestamp_s - start_s)
            if chosen is None:
                return
            if not chosen:  # converting it to BGR would be half the work
                yield None, timestamp_s, self.name
            else:
                decoded, image = capture.retrieve()
                if not decoded:
                    break
                # Some codecs give grey frames; whoever asks for frames gets BGR.
                colour = image if image.ndim == 3 else np.dstack([image] * 3)
                upright = cv2.rotate(colour, cv2.ROTATE_180) if turned else colour
                yield upright, timestamp_s, self.name
            frame += 1
        self._check_end(capture, frame, decoded=decoded)

    def _check_end(self, capture: cv2.VideoCapture, frames: int, *, decoded: bool) -> None:
        """Say so if a source ended before its time, `decoded` without fault as far as it came."""
        if self.kind == "live":
            raise SourceError(f"{self.name} stopped delivering after {frames} frames")
        # Opening anew is exact; seeking to the first frame is not, for some codecs.
        capture.release()
        count = self.frame_count or 0  # often an estimate, from duration and rate
        if not decoded or frames < 0.9 * count or (frames < count and is_cut_off(Path(self.name))):
            of_all = f" of {count}" if count else ""
            self._warn(f"{self.name} ended after {frames}{of_all} frames, it may be damaged")

    def _warn(self, text: str) -> None:
        self._settings.on_warning(shown_name(text))

    def _timestamp(self, capture: cv2.VideoCapture, frame: int, previous_s: float) -> float:
        """The time of the frame that was grabbed last, seconds."""
        found = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if math.isfinite(found) and (found > 0 or (found == 0 and frame == 0)):
            return found
        # OpenCV 4.6 says 0 for the last frames, which the decoder held back to put them in order.
        return previous_s + 1 / (self.fps or 30) if frame else 0.0


def open_source(
    text: str,
    *,
    loop: bool = False,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    on_warning: OnWarning | None = None,
    choose: Choice | None = None,
) -> FrameSource:
    """Open a source of frames.

    Args:
        text: a video or image file, a folder of images, a pattern such as ``"night/*.jpg"``, a
            webcam as a number or ``/dev/video0``, or a stream address such as ``rtsp://...``.
        loop: start again at the end (files only).
        size: width and height to give every frame, also if it changes its shape. A webcam is asked
            to deliver this size first.
        fps: frames per second to ask a webcam for.
        on_warning: is told, in a sentence, of images that are skipped and videos that end early;
            by default a Python warning.
        choose: says which frames of a video or live source are wanted; by default all. The others
            are passed over cheaply.

    Raises:
        SourceError: it does not exist, is empty or cannot be opened.
    """
    settings = _Settings(loop, size, on_warning or _warn, choose)
    if text.isdecimal() or text.startswith("/dev/video"):
        return FrameSource(text, "live", settings, capture=open_webcam(text, size, fps))
    if "://" in text:
        capture = open_video(text, "stream")
        # What knows its length is a file on a server: it waits to be read, and has an end.
        stored = if_known(capture.get(cv2.CAP_PROP_FRAME_COUNT), 1e9) is not None
        return FrameSource(text, "video" if stored else "live", settings, capture=capture)
    if Path(text).is_file() and not _is_image(Path(text)):
        return FrameSource(text, "video", settings, capture=open_video(text, "file"))
    return FrameSource(text, "images", settings, paths=find_images(text))


def find_images(text: str) -> tuple[Path, ...]:
    """The images that an image file, a folder or a pattern stands for, sorted by name.

    Raises:
        SourceError: there are none.
    """
    path = Path(text)
    if path.is_dir():
        try:
            paths = sorted(file for file in path.iterdir() if _is_image(file))
        except OSError as error:
            raise SourceError(f"folder {text} cannot be read: {error.strerror}") from error
        return _some(paths, f"folder {text}")
    if _is_image(path):
        return (path,)
    if glob.has_magic(text):
        found = sorted(Path(name) for name in glob.glob(text, recursive=True))
        return _some([file for file in found if _is_image(file)], f"pattern {text}")
    raise SourceError(
        f"{text} does not exist, expected a video, an image, a folder or pattern of images, "
        "a webcam number or a stream address"
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _some(paths: list[Path], where: str) -> tuple[Path, ...]:
    if not paths:
        raise SourceError(f"{where} holds no images, expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return tuple(paths)


def _resize(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    if size is None or (image.shape[1], image.shape[0]) == size:
        return image
    # Averaging avoids moiré where the image shrinks.
    shrinks = size[0] < image.shape[1] and size[1] < image.shape[0]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
