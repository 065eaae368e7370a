"""Calibration files to CameraInfo, also for resized images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 missing: rclpy cannot be imported")

from std_msgs.msg import Header

from pose_node.errors import SourceError
from pose_node.ros.camera_info import Calibration, read_calibration, to_camera_info

pytestmark = pytest.mark.ros

MINIMAL = """
image_width: 640
image_height: 480
camera_matrix: {rows: 3, cols: 3, data: [500, 0, 320, 0, 510, 240, 0, 0, 1]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "calibration.yaml"
    path.write_text(text)
    return path


def test_real_file(shared: Path) -> None:
    calibration = read_calibration(shared / "data/rgbd/camera_info.yaml")
    header = Header(frame_id="optical")
    message = to_camera_info(calibration, header)
    assert message.header == header
    assert (message.width, message.height) == (640, 480)
    assert list(message.k) == [525, 0, 319.5, 0, 525, 239.5, 0, 0, 1]
    assert list(message.p) == [525, 0, 319.5, 0, 0, 525, 239.5, 0, 0, 0, 1, 0]
    assert list(message.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert (message.distortion_model, list(message.d)) == ("plumb_bob", [0] * 5)


def test_what_may_be_left_out(tmp_path: Path) -> None:
    calibration = read_calibration(write(tmp_path, MINIMAL))
    assert calibration.p == (500, 0, 320, 0, 0, 510, 240, 0, 0, 0, 1, 0)
    assert calibration.r == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert calibration.d == (0,) * 5


def test_unknown_has_no_focal_length() -> None:
    message = to_camera_info(Calibration.unknown(64, 48), Header())
    assert (message.width, message.height) == (64, 48)
    assert not message.k.any()
    assert not message.p.any()


def test_resized_keeps_the_place_of_a_point(tmp_path: Path) -> None:
    full = read_calibration(write(tmp_path, MINIMAL))
    half = full.resized(320, 120)
    # The centre of a pixel is at a whole number here, so its left edge is half a pixel less.
    for column, scale, focal, centre in ((0, 0.5, 0, 2), (1, 0.25, 4, 5)):
        for ratio in (-0.3, 0.0, 0.2):
            before = full.k[focal] * ratio + full.k[centre] + 0.5
            after = half.k[focal] * ratio + half.k[centre] + 0.5
            assert after == pytest.approx(before * scale), column
    assert (half.width, half.height) == (320, 120)
    assert half.p == pytest.approx((*half.k[:3], 0, *half.k[3:6], 0, 0, 0, 1, 0))


def test_resized_scales_the_baseline_of_a_stereo_camera(tmp_path: Path) -> None:
    full = read_calibration(write(tmp_path, MINIMAL))
    stereo = replace(full, p=(500.0, 0, 320, -60, 0, 510, 240, 0, 0, 0, 1, 0))
    assert stereo.resized(320, 240).p[3] == pytest.approx(-30)


def test_the_calibration_that_fits_the_image(tmp_path: Path) -> None:
    calibration = read_calibration(write(tmp_path, MINIMAL))
    assert calibration.for_image((640, 480), (1920, 1080)) == (calibration, None)
    assert calibration.for_image((320, 240), (640, 480)) == (calibration.resized(320, 240), None)
    other, warning = calibration.for_image((1280, 720), (1280, 720))
    assert other == Calibration.unknown(1280, 720)
    assert warning is not None
    assert "640x480" in warning
    assert "1280x720" in warning


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read"),
        ("- 1", "no mapping"),
        (MINIMAL.replace("640", "0"), "must be positive"),
        (MINIMAL.replace("image_height", "height"), "must be positive"),
        (MINIMAL.replace("camera_matrix", "matrix"), "camera_matrix must have data with 9"),
        (MINIMAL.replace("500", ".nan"), "9 finite numbers"),
        (MINIMAL.replace("500,", ""), "9 finite numbers"),
        (MINIMAL + "distortion_coefficients: {data: [a]}", "a list of finite numbers"),
        (MINIMAL + "projection_matrix: {data: [1]}", "12 finite numbers"),
    ],
)
def test_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SourceError, match=reason) as caught:
        read_calibration(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read_calibration(tmp_path / "missing.yaml")
