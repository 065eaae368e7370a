"""The calibration of a camera: from the YAML file of ROS's camera calibration to CameraInfo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import yaml
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from pose_node.errors import SourceError

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Calibration:
    """Intrinsics of a camera, named as in sensor_msgs/CameraInfo; matrices row by row, in pixels.

    Attributes:
        width, height: image size that the calibration is for.
        distortion_model: for example "plumb_bob"; "" if not calibrated.
        d: distortion coefficients, as many as the model has.
        k: camera matrix of the raw image, 9 numbers; all 0 means not calibrated.
        r: rectification, 9 numbers.
        p: projection matrix of the rectified image, 12 numbers.
    """

    width: int
    height: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]

    @classmethod
    def unknown(cls, width: int, height: int) -> Calibration:
        """What CameraInfo says of a camera that is not calibrated: K all 0."""
        return cls(width, height, "", (), (0.0,) * 9, _IDENTITY, (0.0,) * 12)

    def resized(self, width: int, height: int) -> Calibration:
        """The calibration of the same images, resized.

        Scales about the corner of the image, so that principal points, which CameraInfo counts
        from the centre of the first pixel, keep their place in the scene.
        """
        x, y = width / self.width, height / self.height
        row_x, row_y = (x, 0.0, 0.5 * (x - 1)), (0.0, y, 0.5 * (y - 1))

        def scale(matrix: tuple[float, ...], columns: int) -> tuple[float, ...]:
            rows = [matrix[start : start + columns] for start in range(0, 3 * columns, columns)]
            scaled = [
                sum(factor * rows[index][column] for index, factor in enumerate(row))
                for row in (row_x, row_y)
                for column in range(columns)
            ]
            return (*scaled, *rows[2])

        return replace(self, width=width, height=height, k=scale(self.k, 3), p=scale(self.p, 4))

    def for_image(
        self, size: tuple[int, int], source_size: tuple[int, int]
    ) -> tuple[Calibration, str | None]:
        """The calibration to publish with an image.

        Args:
            size: width and height of the image as published.
            source_size: its width and height before it was resized.

        Returns:
            This calibration, scaled if the image was resized from the calibrated size; or
            `unknown` and a warning if it is for images of another size.
        """
        if size == (self.width, self.height):
            return self, None
        if source_size == (self.width, self.height):
            return self.resized(*size), None
        return Calibration.unknown(*size), (
            f"the calibration is for images of {self.width}x{self.height}, but this one has "
            f"{size[0]}x{size[1]}: publishing it as not calibrated"
        )


def read_calibration(path: Path) -> Calibration:
    """Read the YAML file that ROS's camera calibration writes.

    Raises:
        SourceError: the file is missing or is no such calibration.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SourceError(f"calibration {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"calibration {path} is no mapping, expected image_width and so on")
    size = [content.get(f"image_{side}") for side in ("width", "height")]
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise SourceError(
            f"calibration {path}: image_width and image_height must be positive, got {size}"
        )
    k = _matrix(path, content, "camera_matrix", 9)
    projection = (*k[0:3], 0.0, *k[3:6], 0.0, *k[6:9], 0.0)
    return Calibration(
        width=int(size[0] or 0),
        height=int(size[1] or 0),
        distortion_model=str(content.get("distortion_model", "plumb_bob")),
        d=_matrix(path, content, "distortion_coefficients", None, default=(0.0,) * 5),
        k=k,
        r=_matrix(path, content, "rectification_matrix", 9, default=_IDENTITY),
        p=_matrix(path, content, "projection_matrix", 12, default=projection),
    )


def to_camera_info(calibration: Calibration, header: Header) -> CameraInfo:
    """The CameraInfo that goes with an image: same header, same size."""
    return CameraInfo(
        header=header,
        width=calibration.width,
        height=calibration.height,
        distortion_model=calibration.distortion_model,
        d=list(calibration.d),
        k=list(calibration.k),
        r=list(calibration.r),
        p=list(calibration.p),
    )


def _matrix(
    path: Path,
    content: dict[str, Any],
    name: str,
    count: int | None,
    default: tuple[float, ...] | None = None,
) -> tuple[float, ...]:
    """The numbers of `name`; `default` where there is no such entry."""
    if default is not None and name not in content:
        return default
    entry = content.get(name)
    numbers = entry.get("data") if isinstance(entry, dict) else entry
    if (
        not isinstance(numbers, list)
        or not all(isinstance(number, (int, float)) and isfinite(number) for number in numbers)
        or (count is not None and len(numbers) != count)
    ):
        wanted = "a list of" if count is None else str(count)
        raise SourceError(
            f"calibration {path}: {name} must have data with {wanted} finite numbers, "
            f"got {str(numbers)[:100]}"
        )
    return tuple(float(number) for number in numbers)
