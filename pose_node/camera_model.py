"""The geometry of a camera: from pixels to rays and back, with every lens model of CameraInfo.

Pixels are counted as everywhere here, from the corner of the first one. CameraInfo and OpenCV count
from its centre: half a pixel is added to the principal point when a model is made.

The lens models are those of OpenCV: Brown (1966) with a rational radial term and a thin prism, and
Kannala and Brandt (2006) for fisheyes. Their inverse is found by Newton's method, which converges
where the fixed-point iteration of `cv2.undistortPoints` stops short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pose_node.errors import CalibrationError

PLUMB_BOB, RATIONAL, EQUIDISTANT = "plumb_bob", "rational_polynomial", "equidistant"
"""Names of lens models, as in sensor_msgs/distortion_models.hpp."""

_PINHOLE = ("", "none", "pinhole")
# One vector for both: k1 k2 p1 p2 k3, then k4 k5 k6, then s1 s2 s3 s4, then the tilt of the sensor.
_POLYNOMIAL = (PLUMB_BOB, RATIONAL)
_POLYNOMIAL_LENGTHS = (4, 5, 8, 12, 14)
_FISHEYE = (EQUIDISTANT, "fisheye", "kannala_brandt4")

_STEPS = 12  # of Newton's method; three or four are enough inside an image
_CONVERGED = 1e-9  # on the plane at distance 1: a millionth of a pixel
_TOLERANCE = 1e-5  # a hundredth of a pixel: farther off, there is no such ray


@dataclass(frozen=True)
class CameraModel:
    """A calibrated camera, as its images come: region of interest and binning are worked in.

    Attributes:
        width, height: pixels of the image.
        focal: focal lengths in x and y, pixels.
        centre: principal point, pixels from the corner of the first pixel.
        lens: `PLUMB_BOB`, `RATIONAL`, `EQUIDISTANT`, or "" without distortion.
        coefficients: of the lens: 12 (k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4), for `EQUIDISTANT`
            4 (k1 k2 k3 k4), none without distortion.
    """

    width: int
    height: int
    focal: tuple[float, float]
    centre: tuple[float, float]
    lens: str = ""
    coefficients: tuple[float, ...] = ()

    @classmethod
    def from_calibration(
        cls,
        *,
        width: int,
        height: int,
        k: Sequence[float],
        d: Sequence[float] = (),
        distortion_model: str = "",
        binning: tuple[int, int] = (0, 0),
        roi: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> CameraModel:
        """Make it from the values of a sensor_msgs/CameraInfo.

        Args:
            width, height: the calibrated resolution, before region of interest and binning.
            k: camera matrix, 9 numbers row by row, principal point from the centre of a pixel.
            d: distortion coefficients; any number of zeros means none.
            distortion_model: their meaning.
            binning: pixels of the sensor that became one, in x and y; 0 means 1.
            roi: x, y, width and height of the part of the sensor, unbinned; no size means all.

        Raises:
            CalibrationError: the camera is not calibrated, or the values make no sense.
        """
        if width < 1 or height < 1:
            raise CalibrationError(f"the calibration is for images of {width}x{height} pixels")
        focal, centre = _read_matrix(k)
        lens, coefficients = _read_lens(distortion_model, d)
        x, y, roi_width, roi_height = roi
        # The whole image is often written as a region of interest without a size.
        seen = (roi_width or width, roi_height or height)
        if min(x, y) < 0 or x + seen[0] > width or y + seen[1] > height:
            raise CalibrationError(
                f"the region of interest {seen[0]}x{seen[1]} at ({x}, {y}) lies outside the "
                f"calibrated {width}x{height} pixels; let the camera driver correct its CameraInfo"
            )
        bins = (binning[0] or 1, binning[1] or 1)
        if bins[0] < 0 or bins[1] < 0 or bins[0] > seen[0] or bins[1] > seen[1]:
            raise CalibrationError(f"binning of {bins} for an image of {seen} pixels")
        return cls(
            width=seen[0] // bins[0],
            height=seen[1] // bins[1],
            focal=(focal[0] / bins[0], focal[1] / bins[1]),
            centre=((centre[0] - x) / bins[0], (centre[1] - y) / bins[1]),
            lens=lens,
            coefficients=coefficients,
        )

    def for_image(self, width: int, height: int) -> CameraModel:
        """The model of the same images, resized.

        Raises:
            CalibrationError: such an image has another aspect ratio, so it is not the same one.
        """
        if (width, height) == (self.width, self.height):
            return self
        if not same_aspect((width, height), (self.width, self.height)):
            raise CalibrationError(
                f"the calibration is for images of {self.width}x{self.height} pixels, but the "
                f"image has {width}x{height}, another aspect ratio: use the camera_info of this "
                "image"
            )
        x, y = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            focal=(self.focal[0] * x, self.focal[1] * y),
            centre=(self.centre[0] * x, self.centre[1] * y),
        )

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Where the rays of pixels meet the plane at distance 1.

        Args:
            pixels: (..., 2) x and y, sub-pixel, may lie outside the image.

        Returns:
            (..., 2) float64, x and y at z = 1 in the optical frame (x right, y down); NaN where the
            lens model has no such ray, as far outside the image.
        """
        points = (np.asarray(pixels, np.float64) - self.centre) / self.focal
        if not self.lens:
            return points
        if self.lens == EQUIDISTANT:
            return _undistort_fisheye(points, self.coefficients)
        return _undistort_polynomial(points, self.coefficients)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Where points in space appear.

        Args:
            points: (..., 3) x, y, z in the optical frame.

        Returns:
            (..., 2) float64, pixels; NaN for points that are not in front of the camera.
        """
        array = np.asarray(points, np.float64)
        z = np.where(array[..., 2] > 0, array[..., 2], np.nan)
        plane = array[..., :2] / z[..., np.newaxis]
        if self.lens == EQUIDISTANT:
            plane = _distort_fisheye(plane, self.coefficients)
        elif self.lens:
            plane = _distort_polynomial(plane, self.coefficients)
        return plane * self.focal + self.centre


def same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether one width and height is the other, scaled and rounded to whole pixels."""
    return abs(first[0] * second[1] - second[0] * first[1]) < max(first[1], second[1])


def _read_matrix(k: Sequence[float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Focal lengths, and principal point from the corner of the first pixel."""
    if len(k) != 9 or not np.isfinite(k).all():
        raise CalibrationError(f"camera matrix K must have 9 finite numbers, got {list(k)}")
    if not any(k):
        raise CalibrationError(
            "the camera is not calibrated (K is all 0 in its CameraInfo): calibrate it, or tell "
            "its driver where the calibration file is"
        )
    if k[0] <= 0 or k[4] <= 0:
        raise CalibrationError(f"focal lengths in K must be positive, got {k[0]:g} and {k[4]:g}")
    return (float(k[0]), float(k[4])), (float(k[2]) + 0.5, float(k[5]) + 0.5)


def _read_lens(name: str, d: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """The lens model and all its coefficients."""
    if not np.isfinite(d).all():
        raise CalibrationError(f"distortion coefficients D must be finite, got {list(d)}")
    if name in _FISHEYE and len(d) == 4:
        # With zeros this is still no pinhole: its angles are proportional to the pixels.
        return EQUIDISTANT, tuple(map(float, d))
    if not any(d) and (name not in _FISHEYE or not len(d)):
        return "", ()
    if name in _POLYNOMIAL and len(d) in _POLYNOMIAL_LENGTHS and not any(d[12:]):
        return name, (*map(float, d[:12]), *(0.0,) * (12 - len(d[:12])))
    if name in _POLYNOMIAL:
        expected = "4, 5, 8 or 12 coefficients (14 if the sensor's tilt, the last two, is 0)"
    elif name in _FISHEYE:
        expected = "4 coefficients"
    elif name in _PINHOLE:
        expected = "no coefficients but 0"
    else:
        known = ", ".join((PLUMB_BOB, RATIONAL, EQUIDISTANT))
        raise CalibrationError(
            f"distortion model {name[:40]!r} is not known, expected one of {known}"
        )
    raise CalibrationError(f"distortion model {name!r} needs {expected}, got D = {list(d)}")


def _distort_fisheye(plane: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    radius = np.hypot(plane[..., 0], plane[..., 1])
    distorted = _fisheye_radius(np.arctan(radius), coefficients)
    scale = np.divide(distorted, radius, out=np.ones_like(radius), where=radius > 0)
    return np.asarray(plane * scale[..., np.newaxis], np.float64)


def _fisheye_radius(angle: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    k1, k2, k3, k4 = coefficients
    square = angle * angle
    return np.asarray(
        angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4)))), np.float64
    )


def _undistort_fisheye(points: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    k1, k2, k3, k4 = coefficients
    radius = np.hypot(points[..., 0], points[..., 1])
    angle = np.minimum(radius, np.pi / 2)
    with np.errstate(all="ignore"):  # what does not converge is sorted out below
        for _ in range(_STEPS):
            error = _fisheye_radius(angle, coefficients) - radius
            square = angle * angle
            slope = 1 + square * (3 * k1 + square * (5 * k2 + square * (7 * k3 + square * 9 * k4)))
            angle = angle - error / slope
            if not np.any(np.abs(error) > _CONVERGED):
                break
        error = np.abs(_fisheye_radius(angle, coefficients) - radius)
        # Beyond 90 degrees the ray never meets a plane before the camera.
        good = (error < _TOLERANCE) & (slope > 0) & (angle >= 0) & (angle < np.pi / 2)
        scale = np.where(radius > 0, np.tan(angle) / np.where(radius > 0, radius, 1), 1)
    return np.asarray(points * np.where(good, scale, np.nan)[..., np.newaxis], np.float64)


def _distort_polynomial(plane: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    _, _, p1, p2, *_, s1, s2, s3, s4 = coefficients
    x, y = plane[..., 0], plane[..., 1]
    square = x * x + y * y
    radial, _ = _radial(square, coefficients)
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x) + square * (s1 + s2 * square),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y + square * (s3 + s4 * square),
        ],
        axis=-1,
    )


def _radial(square: np.ndarray, coefficients: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The radial factor and its derivative by the square of the radius."""
    k1, k2, _, _, k3, k4, k5, k6, *_ = coefficients
    upper = 1 + square * (k1 + square * (k2 + square * k3))
    lower = 1 + square * (k4 + square * (k5 + square * k6))
    upper_slope = k1 + square * (2 * k2 + square * 3 * k3)
    lower_slope = k4 + square * (2 * k5 + square * 3 * k6)
    return upper / lower, (upper_slope * lower - upper * lower_slope) / (lower * lower)


def _undistort_polynomial(points: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    plane = points.copy()
    with np.errstate(all="ignore"):  # what does not converge is sorted out below
        for _ in range(_STEPS):
            error = _distort_polynomial(plane, coefficients) - points
            xx, xy, yx, yy = _slopes(plane, coefficients)
            # The image folds back where this is not positive: no camera sees beyond.
            determinant = xx * yy - xy * yx
            dx, dy = error[..., 0], error[..., 1]
            step = np.stack([yy * dx - xy * dy, xx * dy - yx * dx], axis=-1)
            plane = plane - step / determinant[..., np.newaxis]
            if not np.any(np.abs(error) > _CONVERGED):
                break
        error = np.abs(_distort_polynomial(plane, coefficients) - points).max(axis=-1)
        good = (error < _TOLERANCE) & (determinant > 0) & (xx > 0)
    return np.where(good[..., np.newaxis], plane, np.nan)


def _slopes(
    plane: np.ndarray, coefficients: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Derivatives of the distorted x by x and y, and of the distorted y by x and y."""
    _, _, p1, p2, *_, s1, s2, s3, s4 = coefficients
    x, y = plane[..., 0], plane[..., 1]
    square = x * x + y * y
    radial, slope = _radial(square, coefficients)
    prism_x, prism_y = 2 * (s1 + 2 * s2 * square), 2 * (s3 + 2 * s4 * square)
    return (
        radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x + prism_x * x,
        2 * x * y * slope + 2 * p1 * x + 2 * p2 * y + prism_x * y,
        2 * x * y * slope + 2 * p1 * x + 2 * p2 * y + prism_y * x,
        radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x + prism_y * y,
    )
