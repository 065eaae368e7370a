"""Rays and pixels against OpenCV's own projection, with every lens model."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from pose_node.camera_model import EQUIDISTANT, CameraModel, same_aspect
from pose_node.errors import CalibrationError

WIDTH, HEIGHT = 640, 480
K = (525.0, 0.0, 319.5, 0.0, 520.0, 239.5, 0.0, 0.0, 1.0)
WIDE = (310.0, 0.0, 322.1, 0.0, 312.0, 236.4, 0.0, 0.0, 1.0)

# Real ones: a webcam, a wide barrel, an Azure Kinect, the same with a thin prism, a fisheye.
LENSES: dict[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "none": ("", (), K),
    "none with zeros": ("plumb_bob", (0.0,) * 5, K),
    "plumb_bob": ("plumb_bob", (0.12, -0.27, 0.0013, -0.0021, 0.11), K),
    "plumb_bob of 4": ("plumb_bob", (-0.28, 0.07, 0.0002, 0.00002), WIDE),
    "rational": (
        "rational_polynomial",
        (0.46, -2.6, 0.0007, -0.0003, 1.5, 0.34, -2.4, 1.43),
        K,
    ),
    "prism": (
        "rational_polynomial",
        (0.1, 0.2, 0.001, 0.0002, 0.01, 0.3, 0.1, 0.02, 0.002, -0.001, 0.003, 0.0005, 0, 0),
        K,
    ),
    "equidistant": ("equidistant", (-0.013, 0.021, -0.019, 0.004), WIDE),
    "fisheye without coefficients": ("equidistant", (0.0,) * 4, WIDE),
}


def model(name: str = "none", **changes: Any) -> CameraModel:
    lens, d, k = LENSES[name]
    values: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "k": k, "d": d}
    return CameraModel.from_calibration(**{**values, "distortion_model": lens, **changes})


def grid(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Pixels all over the image, its corners included."""
    axes = np.meshgrid(np.linspace(0, width, 17), np.linspace(0, height, 13))
    return np.stack(axes, axis=-1)


def project_by_opencv(points: np.ndarray, name: str) -> np.ndarray:
    """Pixels from the corner, as ours."""
    lens, d, k = LENSES[name]
    matrix, flat = np.array(k).reshape(3, 3), points.reshape(-1, 1, 3)
    if lens == EQUIDISTANT:
        found, _ = cv2.fisheye.projectPoints(flat, np.zeros(3), np.zeros(3), matrix, np.array(d))
    else:
        found, _ = cv2.projectPoints(flat, np.zeros(3), np.zeros(3), matrix, np.array(d))
    return np.asarray(found).reshape(*points.shape[:-1], 2) + 0.5


@pytest.mark.parametrize("name", LENSES)
def test_there_and_back(name: str) -> None:
    camera, pixels = model(name), grid()
    rays = camera.rays(pixels)
    assert np.isfinite(rays).all()
    points = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], axis=-1) * 2.5
    np.testing.assert_allclose(camera.project(points), pixels, atol=1e-3)
    np.testing.assert_allclose(project_by_opencv(points, name), pixels, atol=1e-3)


def test_pixels_count_from_the_corner() -> None:
    # K says that the axis goes through the centre of pixel 319.5, counted from pixel centres.
    np.testing.assert_allclose(model().rays(np.array([320.0, 240.0])), [0, 0], atol=1e-12)
    np.testing.assert_allclose(model().rays(np.array([845.0, 240.0])), [1, 0], atol=1e-12)
    np.testing.assert_allclose(model().project(np.array([0.0, 1.0, 2.0])), [320, 500])


def test_no_ray_beyond_the_fold_of_a_lens() -> None:
    # r (1 - 0.28 r^2 + ...) has a largest value: nothing is ever seen beyond it.
    far = np.array([[3000.0, 240.0], [322.6, 236.9]])
    rays = model("plumb_bob of 4", d=(-0.28, 0.0, 0.0, 0.0)).rays(far)
    assert np.isnan(rays[0]).all()
    np.testing.assert_allclose(rays[1], 0, atol=1e-9)


def test_no_ray_behind_a_fisheye() -> None:
    camera = model("fisheye without coefficients")
    just_before_90 = camera.centre[0] + camera.focal[0] * np.array([1.5, 1.58])
    rays = camera.rays(np.stack([just_before_90, np.full(2, camera.centre[1])], axis=-1))
    np.testing.assert_allclose(rays[0], [np.tan(1.5), 0], rtol=1e-6, atol=1e-9)
    assert np.isnan(rays[1]).all()


@pytest.mark.parametrize("name", LENSES)
def test_nothing_is_seen_behind_the_camera_and_nan_stays_nan(name: str) -> None:
    camera = model(name)
    points = np.array([[0.1, 0.1, -1.0], [0.1, 0.1, 0.0], [np.nan, 0.0, 1.0], [0.1, 0.1, 1.0]])
    assert np.isfinite(camera.project(points)).all(axis=1).tolist() == [False] * 3 + [True]
    assert np.isnan(camera.rays(np.array([np.nan, 20.0]))[0])


def test_region_of_interest_and_binning_see_the_same_scene() -> None:
    whole = model("plumb_bob")
    part = model("plumb_bob", roi=(100, 60, 400, 300), binning=(2, 3))
    assert (part.width, part.height) == (200, 100)
    pixels = grid(200, 100)
    np.testing.assert_allclose(
        part.rays(pixels), whole.rays(pixels * (2, 3) + (100, 60)), atol=1e-9
    )


def test_no_region_and_no_binning_mean_all() -> None:
    assert model(roi=(0, 0, 0, 0), binning=(0, 0)) == model(roi=(0, 0, 640, 480), binning=(1, 1))


def test_resized_images_see_the_same_scene() -> None:
    small = model("rational").for_image(320, 240)
    np.testing.assert_allclose(
        small.rays(grid(320, 240)), model("rational").rays(grid()), atol=1e-9
    )
    assert model().for_image(WIDTH, HEIGHT) == model()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((640, 480), (640, 480), True),
        ((1280, 960), (640, 480), True),
        ((1280, 720), (213, 120), True),  # 213.33
        ((1366, 768), (683, 384), True),
        ((848, 480), (1280, 720), False),
        ((640, 480), (640, 360), False),
        ((480, 640), (640, 480), False),
    ],
)
def test_same_aspect(first: tuple[int, int], second: tuple[int, int], same: bool) -> None:
    assert same_aspect(first, second) is same
    assert same_aspect(second, first) is same


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"k": (0.0,) * 9}, "not calibrated"),
        ({"k": K[:8]}, "9 finite numbers"),
        ({"k": (np.nan, *K[1:])}, "9 finite numbers"),
        ({"k": (-525.0, *K[1:])}, "must be positive"),
        ({"width": 0}, "images of 0x480"),
        ({"d": (np.inf,) * 5, "distortion_model": "plumb_bob"}, "must be finite"),
        ({"d": (0.1,) * 6, "distortion_model": "plumb_bob"}, "needs 4, 5, 8 or 12"),
        ({"d": (0.1,) * 14, "distortion_model": "rational_polynomial"}, "tilt"),
        ({"d": (0.1,) * 5, "distortion_model": "equidistant"}, "needs 4 coefficients"),
        ({"d": (0.1,) * 5, "distortion_model": ""}, "needs no coefficients"),
        ({"d": (0.1,) * 5, "distortion_model": "omni"}, "'omni' is not known"),
        ({"roi": (600, 0, 100, 100)}, "lies outside"),
        ({"roi": (10, 0, 0, 0)}, "lies outside"),
        ({"binning": (700, 1)}, "binning"),
        ({"binning": (-1, 1)}, "binning"),
    ],
)
def test_refused_calibrations(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CalibrationError, match=reason):
        model(**changes)


def test_refuses_an_image_of_another_aspect_ratio() -> None:
    with pytest.raises(CalibrationError, match="640x480 pixels, but the image has 640x360"):
        model().for_image(640, 360)


def test_an_unknown_model_of_zeros_is_none() -> None:
    assert model(d=(0.0,) * 5, distortion_model="omni").lens == ""
