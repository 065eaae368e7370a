"""The command line of the camera process."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pose_node.imaging import DEFAULT_MAX_PIXELS

DEFAULT_RATE = 30.0
"""Frames per second of sources that do not say."""


@dataclass(frozen=True)
class CameraOptions:
    """What the command line says; see `parse_options` for the meaning."""

    source: str
    rate: float | None = None
    size: tuple[int, int] | None = None
    transport: str = "raw"
    loop: bool = True
    frame_id: str = "camera_optical_frame"
    camera_info: Path | None = None
    jpeg_quality: int = 90
    reliability: str = "reliable"
    wait_for: tuple[str, ...] = ()
    count: int | None = None


def parse_options(arguments: Sequence[str]) -> CameraOptions:
    """Parse the command line, without its ROS part. Exits as argparse does."""
    parser = argparse.ArgumentParser(
        prog="pose-node camera",
        description="Publish a video, a webcam, an image or a folder as a ROS camera on image_raw, "
        "image_raw/compressed and camera_info. Remap and name it with --ros-args. "
        "--log-level debug, info, warn or error: what is logged.",
    )
    defaults = CameraOptions(source="")
    parser.add_argument(
        "source",
        help="a video or image file, a folder or 'pattern*.jpg' of images, a webcam number, "
        "or a stream address",
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        metavar="HZ",
        help=f"frames per second (default: those of the video, {DEFAULT_RATE:g} for images, "
        "as they come for a webcam, which is only asked for a rate)",
    )
    parser.add_argument("--size", type=_size, metavar="WxH", help="resize every frame")
    parser.add_argument(
        "--transport", choices=("raw", "compressed", "both"), default=defaults.transport
    )
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument(
        "--loop",
        action="store_true",
        default=defaults.loop,
        help="start again at the end (default)",
    )
    ending.add_argument("--once", dest="loop", action="store_false", help="end with the source")
    parser.add_argument("--count", type=_count, metavar="N", help="end after so many frames")
    parser.add_argument("--frame-id", default=defaults.frame_id, help="default: %(default)s")
    parser.add_argument(
        "--camera-info", type=Path, metavar="YAML", help="calibration file (default: uncalibrated)"
    )
    parser.add_argument(
        "--jpeg-quality", type=_quality, default=defaults.jpeg_quality, help="1 to 100"
    )
    parser.add_argument(
        "--reliability",
        choices=("reliable", "best_effort"),
        default=defaults.reliability,
        help="what the topics offer; reliable (default) matches subscribers of both kinds",
    )
    parser.add_argument(
        "--wait-for",
        action="append",
        choices=("image", "camera_info"),
        default=[],
        help="publish the first frame only when someone listens to the images, in any form, or to "
        "camera_info; twice for both",
    )
    options = vars(parser.parse_args(arguments))
    return CameraOptions(**{**options, "wait_for": tuple(options["wait_for"])})


def _rate(text: str) -> float:
    rate = float(text)
    if not (math.isfinite(rate) and 0 < rate <= 1000):
        raise argparse.ArgumentTypeError(f"expected more than 0 and at most 1000, got {text}")
    return rate


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return count


def _quality(text: str) -> int:
    quality = int(text)
    if not 1 <= quality <= 100:
        raise argparse.ArgumentTypeError(f"expected 1 to 100, got {text}")
    return quality


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    size = (int(match[1]), int(match[2])) if match is not None else (0, 0)
    if not 0 < size[0] * size[1] <= DEFAULT_MAX_PIXELS:
        raise argparse.ArgumentTypeError(f"expected a size such as 1280x720, got {text}")
    return size
