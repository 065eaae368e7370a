"""Annotated images and videos."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pose_node.drawing import draw_poses
from pose_node.errors import OutputError
from pose_node.output_files import write_whole
from pose_node.poses import Poses, Skeleton
from pose_node.prediction.frames import RecordedFrame, Recording
from pose_node.prediction.names import FreeNames, plain_name
from pose_node.prediction.quiet import quiet_stderr
from pose_node.source_names import shown_name

CODECS = {"vp8": (".webm", "VP80"), "vp9": (".webm", "VP90"), "h264": (".mp4", "avc1")}
"""Suffix and OpenCV's name of the codecs that play in a browser. Every OpenCV wheel writes VP8 and
VP9; H.264 needs an OpenCV with an encoder of the system, as Ubuntu's."""

DEFAULT_FPS = 10.0
"""Of videos made from sources that do not say how fast they are."""

RATES = (1.0, 120.0)
"""Frames per second of videos whose source says no more than when each frame was taken."""

_FRAMES_OF_RATE = 5  # that tell how fast a source is, and wait until it is known

LONGEST_GAP = 10.0
"""Seconds that a still image fills a gap between frames; longer gaps are shortened."""

_JPEG_SUFFIXES = {".jpg", ".jpeg"}
_OTHER_SUFFIXES = {".png", ".webp", ".bmp", ".tif", ".tiff"}


class AnnotatedPictures:
    """Draws the people: an image for each image, a video for each video, webcam or topic.

    Args:
        folder: where they go; an image keeps its name, in a folder named as its source.
        skeleton: the model's.
        codec: one of `CODECS`, for videos.
        keypoint_threshold: keypoints with a lower score are not drawn.

    Raises:
        OutputError: the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        skeleton: Skeleton,
        *,
        codec: str = "vp8",
        keypoint_threshold: float = 0.5,
    ) -> None:
        self._folder = folder
        self._skeleton = skeleton
        self._codec = codec
        self._keypoint_threshold = keypoint_threshold
        self._names = FreeNames()
        self._videos: dict[str, VideoFile] = {}
        self._recording: Recording | None = None
        self._place = folder
        self._written: list[Path] = []
        if shown_name(str(folder)) != str(folder):
            raise OutputError(
                f"cannot write {folder}: OpenCV writes videos only where all names of folders are "
                "UTF-8; choose another folder"
            )
        _make_folder(folder)

    def begin(self, recording: Recording) -> None:
        """Choose names that no recording before had."""
        self._recording = recording
        self._place = self._free(self._folder / plain_name(recording.name), "")

    def write(self, frame: RecordedFrame, poses: Poses) -> None:
        """Draw one frame."""
        image = frame.image if frame.channel_order == "bgr" else frame.image[:, :, ::-1]
        picture = draw_poses(
            image, poses, self._skeleton, keypoint_threshold=self._keypoint_threshold
        )
        assert self._recording is not None, "begin() comes first"
        if self._recording.kind == "images":
            self._write_image(Path(frame.source), picture)
            return
        video = self._videos.get(frame.topic)
        if video is None:
            video = self._videos[frame.topic] = self._open_video(frame.topic, self._recording.fps)
        video.write(picture, frame.stamp_ns or 0)

    def end(self, *, complete: bool) -> None:
        """Finish the videos of this recording."""
        for video in self._videos.values():
            self._written.append(video.finish())
        self._videos = {}

    def close(self) -> list[Path]:
        """What was written: videos, and the folder."""
        return [*self._written, self._folder]

    def abort(self) -> None:
        """Delete unfinished videos; images are whole, each for itself."""
        for video in self._videos.values():
            video.abort()

    def _open_video(self, topic: str, fps: float | None) -> VideoFile:
        suffix, fourcc = CODECS[self._codec]
        name = self._place.name + topic.replace("/", "_")
        path = self._free(self._folder / name, suffix)
        return VideoFile(path, fps, fourcc)

    def _write_image(self, source: Path, picture: np.ndarray) -> None:
        assert self._recording is not None, "begin() comes first"
        # A single image is no folder of images.
        alone = str(source) == shown_name(str(Path(self._recording.name)))
        folder = self._folder if alone else self._place
        suffix = source.suffix.lower()
        if suffix not in _JPEG_SUFFIXES | _OTHER_SUFFIXES:
            suffix = ".png"
        path = self._free(folder / source.stem, suffix)
        _make_folder(folder)
        try:
            done, content = cv2.imencode(suffix, picture)
        except cv2.error as error:
            raise OutputError(f"cannot write {path}: {error.err}") from error
        if not done:
            raise OutputError(f"cannot write {path}: OpenCV cannot encode it")
        write_whole(path, content.tobytes())

    def _free(self, stem: Path, suffix: str) -> Path:
        """A path that nothing of this run has."""
        return Path(self._names.take(str(stem), suffix))


class VideoFile:
    """A video of constant rate, from frames that come at their own times.

    A frame is repeated until the next one is due, and left out where one is due before it is shown,
    so that the video runs as fast as its source, whatever frames were chosen.

    Args:
        path: it gets this name when it is complete.
        fps: frames per second; None for the rate of the first frames, by their times.
        fourcc: OpenCV's name of the codec.
    """

    def __init__(self, path: Path, fps: float | None, fourcc: str) -> None:
        self.path = path
        self._fps = fps or DEFAULT_FPS
        self._first: list[tuple[np.ndarray, int]] | None = [] if fps is None else None
        self._fourcc = fourcc
        # OpenCV tells the container from the suffix.
        self._temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._previous: np.ndarray | None = None
        self._previous_ns = 0
        self._due = 0.0  # seconds of video before the previous frame is shown
        self._frames = 0

    def write(self, picture: np.ndarray, stamp_ns: int) -> None:
        """Add a BGR frame with its time in nanoseconds, from any start."""
        if self._first is None:
            self._add(picture, stamp_ns)
            return
        self._first.append((picture, stamp_ns))
        if len(self._first) == _FRAMES_OF_RATE:
            self._begin()

    def _begin(self) -> None:
        """Write the first frames, with the rate that they have."""
        if self._first is not None:
            self._fps = rate_of([stamp_ns for _, stamp_ns in self._first])
            for picture, stamp_ns in self._first:
                self._add(picture, stamp_ns)
            self._first = None

    def _add(self, picture: np.ndarray, stamp_ns: int) -> None:
        if self._previous is not None:
            gap = (stamp_ns - self._previous_ns) / 1e9
            self._due += min(max(gap, 0.0), LONGEST_GAP)
            self._repeat(round(self._due * self._fps))
        self._previous, self._previous_ns = picture, stamp_ns

    def finish(self) -> Path:
        """Write what is left and give the file its name."""
        self._begin()
        self._repeat(self._frames + 1)
        if self._writer is not None:
            self._writer.release()
        self._check()
        try:
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        return self.path

    def abort(self) -> None:
        """Delete it."""
        if self._writer is not None:
            self._writer.release()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _check(self) -> None:
        """See that the file holds what was written: OpenCV does not say when a disk is full."""
        if not self._temporary.exists():  # renaming it says why
            return
        capture = cv2.VideoCapture(str(self._temporary))
        found = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0.0
        capture.release()
        if not abs(found - self._frames) <= 1 + 0.01 * self._frames:
            self.abort()
            raise OutputError(
                f"cannot write {self.path}: of {self._frames} frames {max(0, found):.0f} can be "
                "read back; is the disk full?"
            )

    def _repeat(self, until: int) -> None:
        """Show the previous frame up to the frame number `until`."""
        if self._previous is None or self._frames >= until:
            return
        if self._writer is None:
            self._writer = self._open(self._previous)
        picture = self._previous
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        while self._frames < until:
            self._writer.write(picture)
            self._frames += 1

    def _open(self, picture: np.ndarray) -> cv2.VideoWriter:
        self._size = (picture.shape[1], picture.shape[0])
        with quiet_stderr():
            writer = cv2.VideoWriter(
                str(self._temporary),
                cv2.CAP_FFMPEG,
                cv2.VideoWriter.fourcc(*self._fourcc),
                self._fps,
                self._size,
            )
        if not writer.isOpened():
            raise OutputError(
                f"cannot write {self.path}: this OpenCV has no encoder for {self._fourcc} of "
                f"{self._size[0]} x {self._size[1]} pixels; choose another codec: "
                f"{', '.join(CODECS)}"
            )
        return writer


def rate_of(stamps_ns: Sequence[int]) -> float:
    """Frames per second of frames with these times, within `RATES`; `DEFAULT_FPS` if none tells."""
    gaps = np.diff(np.array(stamps_ns, np.int64))
    gaps = gaps[gaps > 0]
    if len(gaps) == 0:
        return DEFAULT_FPS
    return float(np.clip(1e9 / float(np.median(gaps)), *RATES))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
