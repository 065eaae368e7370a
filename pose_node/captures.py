"""Videos, webcams and streams as OpenCV opens them, and what it does not say of them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import cv2

from pose_node.errors import SourceError

_DEVICES = Path("/dev")


def open_webcam(text: str, size: tuple[int, int] | None, fps: float | None) -> cv2.VideoCapture:
    """Open a webcam.

    Args:
        text: its number, or ``/dev/video0``.
        size: width and height to ask for.
        fps: frames per second to ask for.

    Raises:
        SourceError: it is not there, or cannot be opened.
    """
    number = text.removeprefix("/dev/video")
    device = _DEVICES / f"video{number}"
    if not number.isdecimal() or (_DEVICES.is_dir() and not device.exists()):
        found = ", ".join(sorted(map(str, _DEVICES.glob("video*")))) or "none"
        raise SourceError(f"there is no webcam {device}; found: {found}")
    capture = cv2.VideoCapture(int(number))
    if not capture.isOpened():
        raise SourceError(
            f"webcam {device} cannot be opened; another program may be using it, or you may not "
            "be in the group video"
        )
    if size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if fps is not None:
        capture.set(cv2.CAP_PROP_FPS, fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # The newest frame, not a queue of old ones.
    return capture


def open_video(text: str, what: str) -> cv2.VideoCapture:
    """Open a file or an address, called `what` in the error.

    Raises:
        SourceError: OpenCV cannot open it.
    """
    with _opencv_name(text) as name:
        capture = cv2.VideoCapture(name)
    if not capture.isOpened():
        raise SourceError(f"{what} {text} cannot be opened as a video by OpenCV")
    return capture


@contextlib.contextmanager
def _opencv_name(text: str) -> Iterator[str]:
    """A name by which OpenCV can open a file: one that is no UTF-8 would end the process."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            descriptor = os.open(text, os.O_RDONLY)
        except OSError as error:
            raise SourceError(f"{text} cannot be opened: {error.strerror}") from error
        try:
            yield f"/dev/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        yield text


def is_upside_down(capture: cv2.VideoCapture) -> bool:
    """Whether this OpenCV takes a quarter turn to the left for one to the right.

    Only 4.6 does (https://github.com/opencv/opencv/issues/22088), which is that of Ubuntu 24.04.
    """
    turned = capture.get(cv2.CAP_PROP_ORIENTATION_META) in (90, 270)
    return turned and cv2.__version__.startswith("4.6.")


def is_cut_off(path: Path) -> bool:
    """Whether an MP4, MOV or AVI file is shorter than it says; False for all other files.

    Their numbers of frames are exact, but frames may be missing on purpose, as in a clip that was
    trimmed: only the size tells.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            position = 0
            while position < size:
                file.seek(position)
                length = _chunk_length(file.read(16), first=position == 0)
                if length is None:
                    return False
                position += length
    except OSError:  # an address
        return False
    return position > size


def _chunk_length(head: bytes, *, first: bool) -> int | None:
    """The bytes of a chunk that begins so; None if it does not say, or in a file of other kinds."""
    if len(head) < 8:
        return 8
    if head[:4] == b"RIFF":
        length = int.from_bytes(head[4:8], "little")
        return None if length in (0, 0xFFFFFFFF) else 8 + length
    if first and head[4:8] not in (b"ftyp", b"wide", b"moov", b"mdat", b"free", b"skip"):
        return None
    length = int.from_bytes(head[:4], "big")
    if length == 1:  # 64 bits follow
        length = int.from_bytes(head[8:16], "big")
    return length if length >= 8 else None


def if_known(value: float, limit: float) -> float | None:
    """What OpenCV says of a video, or None for its ways of saying that it does not know."""
    return value if math.isfinite(value) and 0 < value < limit else None
